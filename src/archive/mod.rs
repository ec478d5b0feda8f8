//! A tree of files as one stream and back: POSIX PAX tar, which stock `tar` reads and writes.
//!
//! Synchronous, and without an engine: this is what lifeboat does with a volume's files when it runs beside them.
//!
//! | file | what it does |
//! | --- | --- |
//! | `entry` | what one thing in a tree is |
//! | `ustar`, `pax`, `acl` | how that stands in an archive: header blocks, extended records, access control lists |
//! | `writer`, `reader` | archives, entry by entry |
//! | `tree` | reads a tree from a disk, in order |
//! | `chosen` | which names of a tree are read, where not all are |
//! | `attributes` | extended attributes on a disk |
//! | `extract` | writes one, and never outside of its folder |
//! | `archiver` | the two together: a tree on a disk into an archive |
//! | `digest` | counts a tree and gives it one digest |
//! | `listing` | the tree's lines, for comparisons |
//!
//! Two libraries were tried first and do less than a volume needs: astral-tokio-tar writes no PAX records, sparse
//! files or extended attributes; tar 0.4 writes sparse files the old GNU way.

mod acl;
mod archiver;
mod attributes;
mod chosen;
mod digest;
mod entry;
mod extract;
mod listing;
mod pax;
mod reader;
mod tree;
mod ustar;
mod writer;

#[cfg(test)]
mod tests;

pub use archiver::Archiver;
pub use chosen::Chosen;
pub use digest::{TreeDigest, TreeFacts, examine};
pub use entry::{Entry, Kind, Segment, Time, order, shown};
pub use extract::{Owners, clear, extract, extract_as, names, remove, settle, strip};
pub use listing::{Line, Lister};
pub use reader::Reader;
pub use tree::{Content, Irregular, Piece, Scan, Visitor, open_root, own_entry, scan, scan_chosen};
pub use writer::Writer;

/// The media type of an archive.
pub const MEDIA_TYPE: &str = "application/x-tar";

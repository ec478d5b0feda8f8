//! Where backups live, and the format that they are kept in (docs/format.md).
//!
//! | file | what it holds |
//! | --- | --- |
//! | `location`, `access` | the address that a person writes, and how to get there |
//! | `layout`, `sums`, `check` | keys, `SHA256SUMS`, and what must hold between them: pure |
//! | `folder`, `bucket` | the bytes on a disk and in a bucket |
//! | `store` | either of them |
//! | `lease` | who uses the repository right now |
//! | `open` | opening and making a repository |
//! | `upload`, `writer` | writing a backup: artifacts, then its description, then the commit |
//! | `catalog`, `cache`, `pin` | which backups there are, and what is written beside them |
//! | `backup`, `reader` | reading one, every byte checked |
//! | `keys`, `signature` | who may read, and who wrote |
//! | `copy` | bringing one from another repository |
//! | `delete` | removing backups, and what dead writers have left |
//!
//! It knows names, sizes and digests, never what the bytes mean, and it is the only module that
//! names `object_store`.

mod access;
mod backup;
mod bucket;
mod cache;
mod catalog;
mod check;
mod copy;
mod delete;
mod folder;
mod keys;
mod layout;
mod lease;
mod location;
mod open;
mod pin;
mod reader;
mod signature;
mod store;
mod sums;
mod upload;
mod writer;

#[cfg(test)]
mod tests;

pub use access::Access;
pub use backup::{Backup, Damage, Report};
pub use catalog::Entry;
pub use copy::Copied;
pub use delete::{Deletion, Maintenance};
pub use keys::{Keys, Protection};
pub use layout::{MARKER, object_key};
pub use location::{BucketAddress, Location, Scheme};
pub use open::{InitOutcome, Marker, Probed, StoreTraits};
pub use pin::Pin;
pub use reader::ArtifactStream;
pub use signature::{Signer, VerifyingKey, generate_signing_key};
pub use upload::Upload;
pub use writer::BackupWriter;

/// An open repository. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    location: Location,
    marker: Marker,
    store: store::Store,
    keys: Keys,
    protection: Protection,
}

impl Repository {
    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The same repository for whoever has these keys.
    #[must_use]
    pub fn with_keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// The same repository, whose new backups are encrypted and signed so.
    #[must_use]
    pub fn with_protection(mut self, protection: Protection) -> Self {
        self.protection = protection;
        self
    }

    /// How new backups are encrypted and signed.
    pub fn protection(&self) -> &Protection {
        &self.protection
    }

    /// What it says about itself.
    pub fn marker(&self) -> &Marker {
        &self.marker
    }
}

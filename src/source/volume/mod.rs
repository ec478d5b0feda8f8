//! Named volumes, and folders that are mounted into containers: trees of files, read and written by lifeboat's own
//! program next to them.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`session`] | a conversation with a helper, and the proof of its end |
//! | [`capture`] | a tree out of a volume, as a compressed archive |
//! | [`inspector`] | reads an archive again, and says what it holds |

pub mod capture;
pub mod inspector;
pub mod session;

pub(super) use capture::note;
pub use capture::{Capture, VolumeFacts, volume_facts};
pub use inspector::TarInspector;
pub use session::{HelperImage, Session};

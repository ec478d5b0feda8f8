//! Redis and Valkey: a snapshot in the RDB format, put back where the server will read it.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `recognise` | telling such a server by what it is |
//! | `login` | where its password and its address stand |
//! | `server` | asking it, with the container's own client |
//! | `survey` | what it says of itself |
//! | `save` | a snapshot that it writes itself |
//! | `capture` | a snapshot out of it: by replication, or by BGSAVE |
//! | [`rdb`] | the walk through a snapshot that says whether it is whole, and what is in it |
//! | `version` | which servers read which snapshots |
//! | `layout` | the files that a server reads at its start |
//! | `folder` | those files on their volume: staged, swapped, kept |

mod capture;
mod folder;
mod layout;
mod login;
pub mod rdb;
mod recognise;
mod save;
mod server;
mod survey;
mod version;

pub use capture::{Capture, RDB_MEDIA_TYPE, SnapshotFacts, snapshot_facts};
pub use folder::{BEFORE, DataFolder, RESTORING, UNDONE, Workplace};
pub use layout::Layout;
pub use rdb::RdbFacts;
pub use recognise::{data_folders, is_redis, might_be_redis};
pub use server::Server;
pub use survey::Survey;
pub use version::preflight;

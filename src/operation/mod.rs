//! What a person asks for: one file an operation, and the only place where sources and repositories meet.
//!
//! Each is `async fn x(&Context, XRequest, &dyn Observer) -> Result<XReport>`. What changes something first
//! builds a [`plan::Plan`], which `--dry-run` prints and one executor runs and journals.

pub mod aftermath;
pub mod backup;
mod bases;
mod capture;
pub mod catalog;
pub mod context;
pub mod copy;
mod dependencies;
pub mod doctor;
pub mod drill;
mod exchange;
pub mod export;
mod fan_out;
pub mod files;
mod first_backup;
pub mod guard;
pub mod helpers;
mod homes;
pub mod hooks;
mod inventory;
pub mod journal;
mod load;
mod lock;
mod new_cluster;
pub mod partial;
pub mod pick;
mod plain;
pub mod plan;
pub mod prune;
mod quiesce;
mod recipe;
pub mod recover;
pub mod restore;
mod restore_plan;
mod restore_steps;
mod restore_trees;
pub mod rollback;
mod rollback_plan;
pub mod runs;
pub mod scheduled;
pub mod shown;
mod snapshots;
pub mod sources;
mod standing;
pub mod status;
pub mod step;
mod step_words;
mod throwaway;
mod tree_steps;
mod trees;
pub mod verify;
pub mod volume;
mod volume_source;
pub mod volumes;

pub use context::Context;

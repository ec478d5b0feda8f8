//! The record of scheduled runs on this machine: how the last one of each schedule ended.

use crate::error::{OrFail, Result};
use crate::event::RunSummary;
use crate::stack::encode;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Keeps how a run ended, in the place of the one before it. A run of no schedule is not kept.
///
/// # Errors
/// What the disk said.
pub fn record(state: &Path, summary: &RunSummary) -> Result<()> {
    let Some(schedule) = &summary.schedule else {
        return Ok(());
    };
    let path = path(state, schedule);
    let failed = || format!("cannot write {}", path.display());
    let folder = state.join("schedules");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .or_fail(failed)?;
    let text = serde_json::to_string(summary).or_fail(failed)?;
    let partial = folder.join(format!("{}.partial", std::process::id()));
    std::fs::write(&partial, text + "\n").or_fail(failed)?;
    std::fs::rename(&partial, &path).or_fail(failed)
}

/// How a schedule's last run ended; `None` where nobody knows.
pub fn last(state: &Path, schedule: &str) -> Option<RunSummary> {
    let text = std::fs::read_to_string(path(state, schedule)).ok()?;
    serde_json::from_str(&text).ok()
}

fn path(state: &Path, schedule: &str) -> PathBuf {
    state
        .join("schedules")
        .join(format!("{}.json", encode(schedule)))
}

//! How the last run of each schedule ended: one small file each in the state folder, for `status`, notifications and
//! metrics. Never the only copy of anything, and never in the way: a file that cannot be read is none.

use crate::error::{OrFail, Result};
use crate::event::RunSummary;
use crate::stack::encode;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The operation whose record is asked for most.
const BACKUP: &str = "backup";

/// Keeps a scheduled run's summary below `state`, in the place of the one before it; a run of no schedule leaves
/// nothing. Backups are in `schedules/NAME.json`, other operations in `schedules/OPERATION/NAME.json`.
///
/// # Errors
/// Failed where the folder or the file cannot be written. Readers see the old summary or the new one, never half of one.
pub fn record(state: &Path, run: &RunSummary) -> Result<()> {
    let Some(schedule) = &run.schedule else {
        return Ok(());
    };
    let path = file(state, schedule, &run.operation);
    let failed = || format!("cannot write {}", path.display());
    let text = serde_json::to_vec_pretty(run).or_fail(failed)?;
    let folder = path.parent().unwrap_or(state);
    make_folder(folder)?;
    // Two processes may end runs of one schedule at once: each has a file of its own until the name is taken.
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&new, &path));
    if written.is_err() {
        // What is left of it is of no use to anybody.
        let _ = std::fs::remove_file(&new);
    }
    written.or_fail(failed)
}

/// The right to run an `operation` of `schedule` from below `state`, for as long as the file is open; `None` where
/// another process has it.
///
/// # Errors
/// Failed where the folder or the file cannot be written.
pub fn turn(state: &Path, schedule: &str, operation: &str) -> Result<Option<File>> {
    let path = file(state, schedule, operation).with_extension("lock");
    let failed = || format!("cannot lock {}", path.display());
    make_folder(path.parent().unwrap_or(state))?;
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .or_fail(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).or_fail(failed),
    }
}

/// How the last backup that `schedule` started ended; `None` where none is known.
pub fn last(state: &Path, schedule: &str) -> Option<RunSummary> {
    last_of(state, schedule, BACKUP)
}

/// How the last run of another `operation` (`drill`, `prune`) of `schedule` ended; `None` where none is known.
pub fn last_of(state: &Path, schedule: &str, operation: &str) -> Option<RunSummary> {
    let text = std::fs::read(file(state, schedule, operation)).ok()?;
    let run: RunSummary = serde_json::from_slice(&text).ok()?;
    (run.schedule.as_deref() == Some(schedule) && run.operation == operation).then_some(run)
}

fn make_folder(folder: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .or_fail(|| format!("cannot make the folder {}", folder.display()))
        .map_err(|error| error.hint("LIFEBOAT_STATE_DIR names another place"))
}

/// Where a summary is. Names are encoded, since one may hold what no file's name may.
fn file(state: &Path, schedule: &str, operation: &str) -> PathBuf {
    let mut folder = state.join("schedules");
    if operation != BACKUP {
        folder.push(encode(operation));
    }
    folder.join(format!("{}.json", encode(schedule)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Outcome;
    use chrono::DateTime;

    #[test]
    fn one_process_has_the_turn() {
        let state = tempfile::tempdir().unwrap();
        let turn = |operation| turn(state.path(), "a/b", operation).unwrap();
        let held = turn("backup");
        assert!(held.is_some());
        assert!(turn("backup").is_none());
        assert!(turn("drill").is_some(), "of its own");
        drop(held);
        assert!(turn("backup").is_some());
    }

    fn run(schedule: Option<&str>, operation: &str, outcome: Outcome) -> RunSummary {
        RunSummary {
            operation: operation.to_owned(),
            stack: "shop".to_owned(),
            schedule: schedule.map(str::to_owned),
            backup: None,
            outcome,
            previous: None,
            started: DateTime::UNIX_EPOCH,
            seconds: 1.5,
            raw_size: 0,
            stored_size: 0,
            repositories: Vec::new(),
            warnings: Vec::new(),
            error: Some("the disk is full".to_owned()),
            hint: None,
            code: 1,
        }
    }

    #[test]
    fn the_last_run_of_each_schedule_and_operation_is_kept() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path();
        assert_eq!(last(state, "nightly"), None, "nothing has run yet");
        let names = ["nightly", "../../etc/passwd", "drill", "a b/é"];
        for name in names {
            record(state, &run(Some(name), "backup", Outcome::Succeeded)).unwrap();
            let failed = run(Some(name), "backup", Outcome::Failed);
            record(state, &failed).unwrap();
            record(state, &run(Some(name), "drill", Outcome::Succeeded)).unwrap();
            assert_eq!(last(state, name), Some(failed), "{name}");
            let drill = last_of(state, name, "drill").unwrap();
            assert_eq!(drill.outcome, Outcome::Succeeded, "{name}");
        }
        record(state, &run(None, "backup", Outcome::Failed)).unwrap();
        let folder = std::fs::read_dir(state.join("schedules")).unwrap();
        // One file a schedule, and the folder of the drills; nothing half written is left.
        assert_eq!(folder.count(), names.len() + 1);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_none() {
        let state = tempfile::tempdir().unwrap();
        record(
            state.path(),
            &run(Some("nightly"), "backup", Outcome::Failed),
        )
        .unwrap();
        let path = state.path().join("schedules/nightly.json");
        let text = std::fs::read_to_string(&path).unwrap();
        for wrong in [
            "",
            "{}",
            "not JSON",
            &text[..text.len() / 2],
            &text.replace("nightly", "other"),
        ] {
            std::fs::write(&path, wrong).unwrap();
            assert_eq!(last(state.path(), "nightly"), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_state_folder_that_cannot_be_written_is_an_error_that_names_it() {
        let state = tempfile::tempdir().unwrap();
        let in_the_way = state.path().join("schedules");
        std::fs::write(&in_the_way, "a file").unwrap();
        let error = record(
            state.path(),
            &run(Some("nightly"), "backup", Outcome::Failed),
        )
        .unwrap_err();
        assert!(error.chain().contains("schedules"), "{}", error.chain());
    }
}

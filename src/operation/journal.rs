//! The record of a run on this machine: its plan, and how far it came. One JSON Lines file a run.
//!
//! It is for people and for saying what a dead run was doing. What has to be put right after one is
//! learned from the engine and the servers themselves, since the next run may come from another machine.

use super::plan::Plan;
use super::step::Step;
use crate::error::{OrFail, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How many journals are kept.
const KEPT: usize = 200;

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
enum Line {
    /// The plan, first.
    Plan { plan: Plan },
    /// A step was begun.
    Started { index: usize },
    /// A step was done.
    Done { index: usize },
    /// The run ended; with the reason where it failed.
    Ended { error: Option<String> },
}

/// A run whose journal has no end: it was killed, or it is at work now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// What it was going to do.
    pub plan: Plan,
    /// The step that it was at.
    pub at: Option<usize>,
    /// Whether the journal was written by this very user: only then is it to be obeyed.
    pub is_ours: bool,
}

impl Journal {
    /// Starts the journal of `plan` below `state`.
    pub fn begin(state: &Path, plan: &Plan) -> Result<Self> {
        let folder = state.join("journals");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .or_fail(|| format!("cannot make the folder {}", folder.display()))
            .map_err(|error| error.hint("LIFEBOAT_STATE_DIR names another place"))?;
        forget_old(&folder);
        let path = folder.join(format!("{}.jsonl", plan.run));
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .or_fail(|| format!("cannot write {}", path.display()))?;
        let mut journal = Self { file, path };
        journal.write(&Line::Plan { plan: plan.clone() })?;
        Ok(journal)
    }

    pub(super) fn started(&mut self, index: usize) -> Result<()> {
        self.write(&Line::Started { index })
    }

    pub(super) fn done(&mut self, index: usize) -> Result<()> {
        self.write(&Line::Done { index })
    }

    pub(super) fn ended(mut self, error: Option<&str>) -> Result<()> {
        self.write(&Line::Ended {
            error: error.map(str::to_owned),
        })
    }

    fn write(&mut self, line: &Line) -> Result<()> {
        let failed = || format!("cannot write {}", self.path.display());
        let mut text = serde_json::to_vec(line).or_fail(failed)?;
        text.push(b'\n');
        // One write a line, so that a line is there or not; on the disk before the step begins.
        self.file.write_all(&text).or_fail(failed)?;
        self.file.sync_data().or_fail(failed)
    }
}

/// The runs on `stack` that have no end in their journals, oldest first.
pub fn unfinished(state: &Path, stack: &str) -> Vec<Unfinished> {
    let mut found: Vec<Unfinished> = files(&state.join("journals"))
        .iter()
        .filter_map(|path| read(path))
        .filter(|run| run.plan.stack == stack)
        .collect();
    found.sort_by(|a, b| a.plan.run.cmp(&b.plan.run));
    found
}

/// A run that this machine remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Past {
    /// What it was going to do.
    pub plan: Plan,
    /// The steps that were begun.
    pub begun: BTreeSet<usize>,
    /// The steps that were done.
    pub done: BTreeSet<usize>,
}

impl Past {
    /// Whether a step that `is_it` was done.
    pub(super) fn has_done(&self, is_it: impl Fn(&Step) -> bool) -> bool {
        let mut steps = self.plan.steps.iter().enumerate();
        steps.any(|(index, step)| self.done.contains(&index) && is_it(step))
    }

    /// Whether a step that `is_it` was begun.
    pub(super) fn has_begun(&self, is_it: impl Fn(&Step) -> bool) -> bool {
        let mut steps = self.plan.steps.iter().enumerate();
        steps.any(|(index, step)| self.begun.contains(&index) && is_it(step))
    }

    /// Whether all of it was done.
    pub(super) fn is_whole(&self) -> bool {
        self.done.len() == self.plan.steps.len()
    }
}

/// The runs on `stack` that this machine remembers, oldest first.
pub(super) fn past(state: &Path, stack: &str) -> Vec<Past> {
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).ok()?;
        let mut lines = lines_of(&text);
        let Some(Line::Plan { plan }) = lines.next() else {
            return None;
        };
        let mut past = Past {
            plan,
            begun: BTreeSet::new(),
            done: BTreeSet::new(),
        };
        for line in lines {
            match line {
                Line::Started { index } => past.begun.insert(index),
                Line::Done { index } => past.done.insert(index),
                Line::Plan { .. } | Line::Ended { .. } => false,
            };
        }
        Some(past)
    };
    let mut found: Vec<Past> = files(&state.join("journals"))
        .iter()
        .filter_map(read)
        .filter(|past| past.plan.stack == stack)
        .collect();
    found.sort_by(|a, b| a.plan.run.cmp(&b.plan.run));
    found
}

/// The lines of a journal; its last one may be cut short.
fn lines_of(text: &str) -> impl Iterator<Item = Line> {
    text.lines()
        .map_while(|line| serde_json::from_str::<Line>(line).ok())
}

/// Where the journal of a run is.
pub(super) fn path(state: &Path, run: &str) -> PathBuf {
    state.join("journals").join(format!("{run}.jsonl"))
}

/// Writes an end into the journal of a run that is known to be dead.
pub fn close(state: &Path, run: &str) -> Result<()> {
    let path = path(state, run);
    let file = OpenOptions::new()
        .append(true)
        .open(&path)
        .or_fail(|| format!("cannot write {}", path.display()))?;
    Journal { file, path }.ended(Some("the run died; a later one cleaned up"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
}

/// The run of a journal without an end.
fn read(path: &Path) -> Option<Unfinished> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut lines = lines_of(&text);
    let Some(Line::Plan { plan }) = lines.next() else {
        return None;
    };
    let mut at = None;
    for line in lines {
        match line {
            Line::Started { index } => at = Some(index),
            Line::Ended { .. } => return None,
            // All was done: only the end itself could not be written any more.
            Line::Done { index } if index + 1 == plan.steps.len() => return None,
            Line::Done { .. } | Line::Plan { .. } => {}
        }
    }
    let is_ours = std::fs::metadata(path).is_ok_and(|file| {
        file.uid() == rustix::process::geteuid().as_raw() && file.mode() & 0o022 == 0
    });
    Some(Unfinished { plan, at, is_ours })
}

/// Keeps the folder small: names sort by time.
fn forget_old(folder: &Path) {
    let paths = files(folder);
    for path in &paths[..paths.len().saturating_sub(KEPT)] {
        // A journal that stays is no harm.
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(run: &str) -> Plan {
        Plan {
            operation: "restore".into(),
            run: run.into(),
            stack: "shop".into(),
            steps: vec![Step::DropDatabase {
                service: "db".into(),
                name: "x".into(),
            }],
        }
    }

    #[test]
    fn a_journal_without_an_end_is_unfinished() {
        let state = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(state.path(), &plan("1")).unwrap();
        journal.started(0).unwrap();
        drop(journal);
        Journal::begin(state.path(), &plan("2"))
            .unwrap()
            .ended(None)
            .unwrap();
        let found = unfinished(state.path(), "shop");
        assert_eq!(
            found,
            [Unfinished {
                plan: plan("1"),
                at: Some(0),
                is_ours: true
            }]
        );
        assert!(unfinished(state.path(), "other").is_empty());
        close(state.path(), "1").unwrap();
        assert!(unfinished(state.path(), "shop").is_empty());
    }

    #[test]
    fn a_plan_that_makes_volumes_is_remembered() {
        let state = tempfile::tempdir().unwrap();
        let volume = crate::stack::Volume {
            labels: [("keep".to_owned(), "this".to_owned())].into(),
            ..crate::stack::Volume::plain("data")
        };
        let plan = Plan {
            steps: vec![Step::CreateVolume { volume }],
            ..plan("1")
        };
        let mut journal = Journal::begin(state.path(), &plan).unwrap();
        journal.started(0).unwrap();
        let found = past(state.path(), "shop");
        assert_eq!(found[0].plan, plan);
        assert!(found[0].has_begun(|_| true) && !found[0].has_done(|_| true));
    }

    #[test]
    fn a_line_that_was_cut_short_is_passed_over() {
        let state = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(state.path(), &plan("1")).unwrap();
        journal.file.write_all(b"{\"entry\":\"sta").unwrap();
        assert_eq!(unfinished(state.path(), "shop")[0].at, None);
    }
}

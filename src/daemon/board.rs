//! What the daemon knows, for whoever asks over HTTP.

use crate::event::{Event, Outcome, RunSummary};
use crate::schedule::{Schedule, Work};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was found in one repository of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryState {
    /// Its address.
    pub repository: String,
    /// When the newest complete backup of the stack started.
    pub newest: Option<DateTime<Utc>>,
    /// When a drill last proved that one restores.
    pub proven: Option<DateTime<Utc>>,
    /// How many backups of the stack there are.
    pub backups: u64,
    /// Stored bytes of all of them.
    pub stored_size: u64,
    /// Why it could not be looked at; the rest is then of the last time.
    pub unreachable: Option<String>,
}

/// One schedule, as far as the daemon knows.
#[derive(Debug, Clone)]
pub struct ScheduleState {
    /// The schedule.
    pub schedule: Arc<Schedule>,
    /// When its next backup begins.
    pub next: Option<DateTime<Utc>>,
    /// When the backup that is being made began.
    pub running: Option<DateTime<Utc>>,
    /// How its last backup ended.
    pub last: Option<RunSummary>,
    /// How its last drill ended.
    pub last_drill: Option<RunSummary>,
    /// When its last backup that succeeded began.
    pub last_success: Option<DateTime<Utc>>,
    /// What its repositories hold.
    pub repositories: Vec<RepositoryState>,
    /// Since when there should be a newer complete backup.
    pub overdue_since: Option<DateTime<Utc>>,
}

impl ScheduleState {
    fn new(schedule: &Arc<Schedule>, last: Option<RunSummary>) -> Self {
        let succeeded = last
            .as_ref()
            .filter(|last| last.outcome == Outcome::Succeeded);
        Self {
            schedule: Arc::clone(schedule),
            next: None,
            running: None,
            last_success: succeeded.map(|last| last.started),
            last,
            last_drill: None,
            repositories: Vec::new(),
            overdue_since: None,
        }
    }

    /// When the newest complete backup started, wherever it is.
    pub fn newest(&self) -> Option<DateTime<Utc>> {
        self.repositories.iter().filter_map(|one| one.newest).max()
    }
}

/// The size of an artifact of the last backup and how long it took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArtifactState {
    /// Uncompressed bytes.
    pub raw_size: u64,
    /// Bytes as stored.
    pub stored_size: u64,
    /// Seconds it took.
    pub seconds: f64,
}

/// Everything that the daemon knows.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// By schedule.
    pub schedules: BTreeMap<String, ScheduleState>,
    /// By stack and artifact.
    pub artifacts: BTreeMap<(String, String), ArtifactState>,
    /// How many runs ended how, by schedule, operation and outcome.
    pub runs: BTreeMap<(String, String, &'static str), u64>,
    /// Why the files could not be read; what was read before is in force.
    pub configuration_error: Option<String>,
    /// When the daemon last looked at its agenda.
    pub beat: DateTime<Utc>,
}

/// [`State`], shared.
#[derive(Debug, Default)]
pub struct Board {
    state: Mutex<State>,
}

impl Board {
    /// A copy of what is known now.
    pub fn read(&self) -> State {
        self.lock().clone()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the schedules as they are now; what was known of those that stay is kept.
    pub(super) fn load(
        &self,
        schedules: &[Arc<Schedule>],
        last: impl Fn(&Schedule, Work) -> Option<RunSummary>,
    ) {
        let mut state = self.lock();
        let mut known = std::mem::take(&mut state.schedules);
        for schedule in schedules {
            let mut entry = match known.remove(&schedule.name) {
                Some(entry) => entry,
                None => ScheduleState {
                    last_drill: last(schedule, Work::Drill),
                    ..ScheduleState::new(schedule, last(schedule, Work::Backup))
                },
            };
            entry.schedule = Arc::clone(schedule);
            state.schedules.insert(schedule.name.clone(), entry);
        }
        state.configuration_error = None;
    }

    /// Takes note of what a run of `stack` says.
    pub fn observe(&self, stack: &str, event: &Event) {
        if let Event::ArtifactFinished {
            artifact,
            raw_size,
            stored_size,
            seconds,
        } = event
        {
            let artifact_state = ArtifactState {
                raw_size: *raw_size,
                stored_size: *stored_size,
                seconds: *seconds,
            };
            let key = (stack.to_owned(), artifact.clone());
            self.lock().artifacts.insert(key, artifact_state);
        }
    }

    /// Takes note of how a run ended.
    pub(super) fn ended(&self, summary: RunSummary) {
        let mut state = self.lock();
        let Some(name) = summary.schedule.clone() else {
            return;
        };
        let outcome = match summary.outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Partial => "partial",
            Outcome::Failed => "failed",
        };
        let key = (name.clone(), summary.operation.clone(), outcome);
        *state.runs.entry(key).or_default() += 1;
        let Some(entry) = state.schedules.get_mut(&name) else {
            return;
        };
        if summary.operation == "drill" {
            entry.last_drill = Some(summary);
            return;
        }
        entry.running = None;
        if summary.outcome == Outcome::Succeeded {
            entry.last_success = Some(summary.started);
        }
        entry.last = Some(summary);
    }
}

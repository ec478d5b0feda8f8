//! What `status` says: values that serialise as they are.

use crate::error::{Error, Kind};
use crate::event::RunSummary;
use crate::stack::SourceKind;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// Everything that is known about who is safe.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// When it was looked.
    pub at: DateTime<Utc>,
    /// The worst first, each with what to do.
    pub problems: Vec<Problem>,
    /// The stacks that hold something, by name.
    pub stacks: Vec<StackStatus>,
    /// Volumes that belong to no stack and that nobody has mounted.
    pub loose: Vec<SourceStatus>,
    /// Stacks that have backups and are neither on the engine nor in a schedule.
    pub elsewhere: Vec<String>,
    /// Where it was looked for backups.
    pub repositories: Vec<RepositoryStatus>,
}

impl Status {
    /// What a check makes of it: `Overdue` where something is unprotected or late, `Failed` where that could not be
    /// told, `None` where all is well.
    pub fn kind(&self) -> Option<Kind> {
        let has = |severity| {
            let mut problems = self.problems.iter();
            problems.any(|problem| problem.severity == severity)
        };
        if has(Severity::Unprotected) || has(Severity::Overdue) {
            Some(Kind::Overdue)
        } else {
            has(Severity::Unknown).then_some(Kind::Failed)
        }
    }
}

/// Something that a person should do something about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The stack, where it is about one.
    pub stack: Option<String>,
    /// What is the matter.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// How bad a problem is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is in no backup that counts.
    Unprotected,
    /// There should be a newer backup.
    Overdue,
    /// Whether all is well could not be told.
    Unknown,
    /// Something to know.
    Warning,
}

impl Problem {
    /// A problem of a stack.
    pub(super) fn of(severity: Severity, stack: &str, message: impl Into<String>) -> Self {
        Self {
            stack: Some(stack.to_owned()),
            ..Self::new(severity, message)
        }
    }

    /// A problem of no stack.
    pub(super) fn new(severity: Severity, message: impl Into<String>) -> Self {
        Self {
            severity,
            stack: None,
            message: message.into(),
            hint: None,
        }
    }

    /// An error, as what could not be told.
    pub fn unknown(what: &str, error: &Error) -> Self {
        Self {
            hint: error.hint_text().map(str::to_owned),
            ..Self::new(
                Severity::Unknown,
                match what.is_empty() {
                    true => error.chain(),
                    false => format!("{what}: {}", error.chain()),
                },
            )
        }
    }

    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A stack.
#[derive(Debug, Clone, Serialize)]
pub struct StackStatus {
    /// Its name.
    pub stack: String,
    /// Whether it is on the engine; `None` where the engine could not be asked.
    pub present: Option<bool>,
    /// The newest complete backup of all of it; of a part, where there is none of all.
    pub newest: Option<BackupSeen>,
    /// The last time that a drill proved a backup of it.
    pub proof: Option<ProofSeen>,
    /// The next run of any of its schedules.
    pub next: Option<NextRun>,
    /// Its schedules, by name.
    pub schedules: Vec<ScheduleStatus>,
    /// What it holds.
    pub sources: Vec<SourceStatus>,
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupSeen {
    /// `STACK/ID`.
    pub backup: String,
    /// When it started.
    pub started: DateTime<Utc>,
    /// The repositories that have it, or one as new.
    pub repositories: Vec<String>,
}

/// A drill that passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProofSeen {
    /// The backup that was restored for proof: `STACK/ID`.
    pub backup: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// A run that is to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NextRun {
    /// The schedule.
    pub schedule: String,
    /// When it begins, its jitter counted.
    pub at: DateTime<Utc>,
}

/// A schedule of a stack.
#[derive(Debug, Clone, Serialize)]
pub struct ScheduleStatus {
    /// Its name.
    pub schedule: String,
    /// When it runs, as its file says.
    pub cron: String,
    /// The zone of that.
    pub timezone: String,
    /// How old the newest backup may be, in seconds, where its file says.
    pub rpo: Option<u64>,
    /// When its next run begins.
    pub next: Option<DateTime<Utc>>,
    /// The repositories whose newest backup is too old.
    pub late: Vec<Late>,
    /// How its last run ended, where this machine knows.
    pub last_run: Option<RunSummary>,
}

/// A repository that a schedule should have filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Late {
    /// The repository.
    pub repository: String,
    /// When there should have been a newer backup.
    pub since: DateTime<Utc>,
    /// When the newest one that counts started.
    pub newest: Option<DateTime<Utc>>,
}

/// Something that holds data.
#[derive(Debug, Clone, Serialize)]
pub struct SourceStatus {
    /// What it is called: `postgres/SERVICE`, `redis/SERVICE`, `volume/NAME`, `bind:/PATH`; the service's own name
    /// where a label leaves it out.
    pub name: String,
    /// What it is; `None` for a service that a label leaves out.
    pub kind: Option<SourceKind>,
    /// How it stands.
    pub state: State,
    /// The backup that has all of it; where it has several parts, the oldest of their newest ones.
    pub backup: Option<BackupSeen>,
    /// Artifacts of it that are in no backup that counts.
    pub missing: Vec<String>,
    /// What else is to be known, for people.
    pub notes: Vec<String>,
}

/// How something that holds data stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A complete backup has all of it.
    Protected,
    /// As before, and there should be a newer one.
    Overdue,
    /// No backup that counts has all of it.
    Unprotected,
    /// Whether one has it could not be told.
    Unknown,
    /// The dump of the database whose files it holds is its backup.
    Covered,
    /// The configuration or a label says that it needs none.
    LeftOut,
    /// Nobody asked for a backup of it.
    Optional,
}

/// A place where backups are.
#[derive(Debug, Clone, Serialize)]
pub struct RepositoryStatus {
    /// Its name in the configuration, or its address.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Why it could not be read.
    pub error: Option<String>,
    /// How many backups it holds, of all stacks.
    pub backups: usize,
    /// Stored bytes of all of them, as far as their commits can be read.
    pub stored_size: u64,
    /// The stacks that have backups in it.
    pub stacks: Vec<Growth>,
}

/// How a stack's backups grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Growth {
    /// The stack.
    pub stack: String,
    /// How many backups.
    pub backups: usize,
    /// Stored bytes of all of them.
    pub stored_size: u64,
    /// Stored bytes of each of the last complete backups of the whole stack, oldest first.
    pub recent: Vec<u64>,
}

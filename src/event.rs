//! The one stream of events that progress bars, JSON lines and logs all observe.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Something that happened in a run. Serialised with `message_type`, one JSON object a line.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub enum Event {
    /// A run began.
    RunStarted {
        /// The operation, as its command is called: `backup`, `restore`.
        operation: &'static str,
        /// The run's id; for a backup, the backup's id.
        run: String,
        /// The stack.
        stack: String,
    },
    /// A step of a plan begins.
    StepStarted {
        /// What is about to be done, as `--dry-run` prints it.
        step: String,
    },
    /// Work on one artifact began.
    ArtifactStarted {
        /// The artifact.
        artifact: String,
        /// Bytes to expect, where known (the stored size on restore, the last raw size on backup).
        expected: Option<u64>,
    },
    /// Bytes of an artifact have passed.
    Progress {
        /// The artifact.
        artifact: String,
        /// Bytes so far, in the unit of `expected`.
        bytes: u64,
    },
    /// Work on one artifact ended well.
    ArtifactFinished {
        /// The artifact.
        artifact: String,
        /// Uncompressed bytes.
        raw_size: u64,
        /// Bytes as stored.
        stored_size: u64,
        /// Seconds it took.
        seconds: f64,
    },
    /// A backup's stored bytes have been read again, whatever was found.
    VerifyFinished {
        /// The backup, as it was called when it started.
        artifact: String,
        /// Stored bytes that were read.
        bytes: u64,
        /// How many of its objects are not what was written.
        damaged: usize,
        /// Seconds it took.
        seconds: f64,
    },
    /// A scheduled run has ended, however.
    RunFinished(Box<RunSummary>),
    /// A stack has had no complete backup for too long.
    BackupOverdue {
        /// The stack.
        stack: String,
        /// The schedule that should have made one.
        schedule: Option<String>,
        /// When the newest complete one started, where there is one.
        newest: Option<DateTime<Utc>>,
        /// Since when there should be a newer one.
        since: DateTime<Utc>,
    },
    /// Something the person should know that did not stop the run.
    Warning {
        /// The text, a lowercase fragment.
        message: String,
    },
    /// A detail for `-v`.
    Detail {
        /// The text.
        message: String,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All that was asked for is there.
    Succeeded,
    /// A part of it is, which was allowed.
    Partial,
    /// Nothing that counts is.
    Failed,
}

/// What became of a scheduled run: what notifications, metrics and `status` tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The operation, as its command is called: `backup`, `drill`, `prune`.
    pub operation: String,
    /// The stack.
    pub stack: String,
    /// The schedule; `None` for a run that a person started.
    pub schedule: Option<String>,
    /// The backup that it made or was about, where it came so far.
    pub backup: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// How the run before it ended, where that is known: a success after a failure is a recovery.
    pub previous: Option<Outcome>,
    /// When it began.
    pub started: DateTime<Utc>,
    /// Seconds it took.
    pub seconds: f64,
    /// Uncompressed bytes; 0 where there is no backup.
    pub raw_size: u64,
    /// Stored bytes; 0 where there is no backup.
    pub stored_size: u64,
    /// Each repository that was to get it, and why it did not.
    pub repositories: Vec<RepositoryOutcome>,
    /// What it warned of.
    pub warnings: Vec<String>,
    /// What failed.
    pub error: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The exit code of a command that ends so.
    pub code: u8,
}

/// One repository of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryOutcome {
    /// Its address.
    pub repository: String,
    /// Why it does not have the backup; `None` where it does.
    pub failed: Option<String>,
}

/// Sees every event of a run, in order. Must not block for long.
pub trait Observer: Send + Sync {
    /// Called for each event.
    fn observe(&self, event: &Event);
}

/// Both see every event, the first one first: what is printed and who is notified.
#[derive(Clone, Copy)]
pub struct Both<'a>(
    /// Sees each event first.
    pub &'a dyn Observer,
    /// Sees it next.
    pub &'a dyn Observer,
);

impl Observer for Both<'_> {
    fn observe(&self, event: &Event) {
        self.0.observe(event);
        self.1.observe(event);
    }
}

/// Looks away. For operations whose steps nobody follows.
#[derive(Debug, Clone, Copy)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn observe(&self, _: &Event) {}
}

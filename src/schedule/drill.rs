//! Drills: which backup is restored for proof, and what must hold of it then.

use super::Calendar;
use serde::{Deserialize, Serialize};
use std::fmt;

/// `[drill]`: when backups are restored for proof, and which.
#[derive(Debug, Clone)]
pub struct Drill {
    /// When.
    pub calendar: Calendar,
    /// Which of the schedule's backups.
    pub backup: DrillChoice,
    /// What must hold of what was restored, besides the backup's own facts.
    pub checks: Vec<DrillCheck>,
}

/// Which backup a drill takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrillChoice {
    /// The newest complete one.
    #[default]
    Newest,
    /// The oldest complete one.
    Oldest,
    /// Any complete one.
    Random,
}

/// `[[drill.check]]`: a question of the person's own to what was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrillCheck {
    /// A query whose first value must be true, or a number other than zero.
    Sql {
        /// The query.
        query: String,
        /// The Compose service; the only PostgreSQL service where it is left out.
        service: Option<String>,
        /// The database; the only one of the service where it is left out, `postgres` not counted.
        database: Option<String>,
    },
    /// A command whose answer must be neither empty, nor zero, nor an error.
    Redis {
        /// The command, as `redis-cli` takes it.
        command: String,
        /// The Compose service; the only Redis service where it is left out.
        service: Option<String>,
        /// The database's number.
        database: u32,
    },
    /// A file or folder that must be there.
    File {
        /// The volume's name, with or without the Compose project's before it; or a folder's absolute path.
        volume: String,
        /// The path in it.
        path: String,
    },
}

/// As it stands in plans and reports.
impl fmt::Display for DrillCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql { query, .. } => write!(f, "sql {query}"),
            Self::Redis { command, .. } => write!(f, "redis {command}"),
            Self::File { volume, path } => write!(f, "file {volume}:{path}"),
        }
    }
}

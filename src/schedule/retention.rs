//! Which backups are kept, and why.

use std::time::Duration;

/// `[keep]`: how many of each. A backup is kept where any of them keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The newest.
    pub last: Option<u32>,
    /// One an hour, for so many hours that have one.
    pub hourly: Option<u32>,
    /// One a day.
    pub daily: Option<u32>,
    /// One a week, from Monday.
    pub weekly: Option<u32>,
    /// One a month.
    pub monthly: Option<u32>,
    /// One a year.
    pub yearly: Option<u32>,
    /// All that are no older.
    pub within: Option<Duration>,
    /// All with one of these tags, `KEY` or `KEY=VALUE`.
    pub tags: Vec<String>,
    /// Never fewer complete ones than that, whatever the rest says.
    pub min: Option<u32>,
}

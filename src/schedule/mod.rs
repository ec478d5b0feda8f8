//! Schedules: which stack is backed up when, where to, what is kept. Values and pure functions: the time is an
//! argument, nothing here waits, reads or writes.
//!
//! | file | what it answers |
//! | --- | --- |
//! | `calendar`, `due` | when is the next run, which one is due, which ones were missed |
//! | `drill` | which backup is restored for proof, and what must hold then |
//! | `retention` | which backups are kept, and why |
//! | `timer` | how systemd and cron are told |

mod calendar;
mod drill;
mod due;
mod retention;
mod timer;

pub use calendar::Calendar;
pub use drill::{Drill, DrillCheck, DrillChoice};
pub use due::DueRun;
pub use retention::{CLOCKS_APART, Candidate, Decision, Policies, Policy, Rules, decide, unite};
pub use timer::{Invocation, Units, crontab, systemd};

use crate::stack::Quiesce;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;
use std::time::Duration;

/// How late a run may be before it is called overdue: it takes its time, and begins after its jitter.
const GRACE: TimeDelta = TimeDelta::hours(2);

/// A schedule, checked.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// What it is called: its file's name without the ending.
    pub name: String,
    /// The stack that is backed up.
    pub stack: String,
    /// When.
    pub calendar: Calendar,
    /// Where to: names of the configuration, or addresses; empty for the repository that there is.
    pub repositories: Vec<String>,
    /// Only these artifacts, by name or folder; empty for all.
    pub only: Vec<String>,
    /// Folders that are captured like volumes, besides the configuration's: `bind:/path`.
    pub include: Vec<String>,
    /// What is done to containers that write to volumes, where their own labels do not say.
    pub quiesce: Option<Quiesce>,
    /// Marks for its backups.
    pub tags: BTreeMap<String, String>,
    /// Whether its backups are pinned.
    pub pin: bool,
    /// Whether what could be captured is kept where something could not.
    pub allow_partial: bool,
    /// How old the newest complete backup may be, where that is not told by the calendar.
    pub rpo: Option<Duration>,
    /// What is kept; without it, everything.
    pub keep: Option<Rules>,
    /// What runs before and after.
    pub hooks: Hooks,
    /// When it is proven that its backups restore.
    pub drill: Option<Drill>,
}

/// What a schedule does at its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// It backs its stack up.
    Backup,
    /// It proves that a backup restores.
    Drill,
}

impl Work {
    /// The command that does the same.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Drill => "drill",
        }
    }
}

/// Commands around a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Run in order before anything is captured; the first that fails stops the backup.
    pub before: Vec<Hook>,
    /// Run in order after it, however it ended.
    pub after: Vec<Hook>,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The Compose service in whose container it runs; on lifeboat's own machine without.
    pub service: Option<String>,
    /// How long it may take.
    pub time_limit: Duration,
}

impl Schedule {
    /// When it does so; `None` where it never does.
    pub fn calendar_of(&self, work: Work) -> Option<&Calendar> {
        match work {
            Work::Backup => Some(&self.calendar),
            Work::Drill => self.drill.as_ref().map(|drill| &drill.calendar),
        }
    }

    /// Since when there should be a newer complete backup than one that started at `newest`; `None` while it is in
    /// time. With `rpo` by age alone; else a run that was due over two hours ago must have made one.
    pub fn overdue_since(
        &self,
        newest: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        if let Some(rpo) = self.rpo {
            let Some(newest) = newest else {
                return Some(now);
            };
            let limit = newest + TimeDelta::from_std(rpo).unwrap_or(TimeDelta::MAX / 2);
            return (now > limit).then_some(limit);
        }
        let due = self.calendar.last_before(now - GRACE)?;
        match newest {
            // The clocks of this machine and of whoever wrote the id may differ a little.
            Some(newest) if newest >= due - TimeDelta::minutes(1) => None,
            _ => Some(due + GRACE),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    pub(crate) fn nightly() -> Schedule {
        Schedule {
            name: "nightly".to_owned(),
            stack: "shop".to_owned(),
            calendar: Calendar::parse("0 2 * * *", chrono_tz::Tz::UTC).unwrap(),
            repositories: Vec::new(),
            only: Vec::new(),
            include: Vec::new(),
            quiesce: None,
            tags: BTreeMap::new(),
            pin: false,
            allow_partial: false,
            rpo: None,
            keep: None,
            hooks: Hooks::default(),
            drill: None,
        }
    }

    #[test]
    fn a_run_that_made_no_backup_is_overdue_two_hours_later() {
        let schedule = nightly();
        let last_night = Some(at("2026-11-21T02:00:10Z"));
        for (now, expected) in [
            ("2026-11-22T01:59:00Z", None),
            ("2026-11-22T03:59:00Z", None),
            ("2026-11-22T04:00:01Z", Some("2026-11-22T04:00:00Z")),
        ] {
            let overdue = schedule.overdue_since(last_night, at(now));
            assert_eq!(overdue, expected.map(at), "{now}");
        }
        let tonight = Some(at("2026-11-22T02:00:10Z"));
        assert_eq!(
            schedule.overdue_since(tonight, at("2026-11-22T12:00:00Z")),
            None
        );
        assert!(
            schedule
                .overdue_since(None, at("2026-11-22T12:00:00Z"))
                .is_some()
        );
    }

    #[test]
    fn an_rpo_is_an_age() {
        let mut schedule = nightly();
        schedule.rpo = Some(Duration::from_hours(26));
        let newest = Some(at("2026-11-21T02:00:00Z"));
        assert_eq!(
            schedule.overdue_since(newest, at("2026-11-22T04:00:00Z")),
            None
        );
        assert_eq!(
            schedule.overdue_since(newest, at("2026-11-22T05:00:00Z")),
            Some(at("2026-11-22T04:00:00Z"))
        );
    }
}

//! Whether a run is due now, and which ones were missed.

use super::Calendar;
use chrono::{DateTime, TimeDelta, Utc};

/// How long ago a run may have been due where nobody knows of any: whoever starts at half past two still makes the
/// backup of two o'clock, and whoever starts at noon does not.
const FIRST: TimeDelta = TimeDelta::hours(1);
/// By how much a clock may be set back without anybody taking note: what ran does not run again.
const SET_BACK: TimeDelta = TimeDelta::hours(1);
/// How late a run begins before that is worth a word.
const LATE: TimeDelta = TimeDelta::minutes(15);
/// Missed runs are counted up to here.
const COUNTED: u32 = 1000;

/// A run that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRun {
    /// The time that it is the run of.
    pub at: DateTime<Utc>,
    /// How many runs before it never began.
    pub missed: u32,
    /// Whether it begins late, because nobody was there when it was due.
    pub late: bool,
}

impl Calendar {
    /// The run that is due at `now`, where everything up to `settled` has had its run; `None` where none is. Of
    /// several that were missed it is the last one: a missed run is caught up once.
    ///
    /// A clock that was set back by more than an hour makes what is settled lie in the future: then only what comes
    /// next runs.
    pub fn due(
        &self,
        name: &str,
        settled: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Option<DueRun> {
        if settled.is_some_and(|settled| settled > now + SET_BACK) {
            return None;
        }
        let after = settled.unwrap_or(now - FIRST);
        let mut at = self.last_before(now)?;
        if self.begins(name, at) > now {
            at = self.last_before(at - TimeDelta::seconds(1))?;
        }
        if at <= after {
            return None;
        }
        let Some(settled) = settled else {
            // Nobody has missed what was never set up.
            return Some(DueRun {
                at,
                missed: 0,
                late: false,
            });
        };
        let mut missed = 0;
        let mut before = self.next_after(settled);
        while let Some(run) = before.filter(|run| *run < at && missed < COUNTED) {
            missed += 1;
            before = self.next_after(run);
        }
        Some(DueRun {
            late: now - self.begins(name, at) > LATE,
            at,
            missed,
        })
    }

    /// What counts as settled where the run that began at `began` was broken off: everything before the time that it
    /// was the run of.
    pub fn before_run(&self, began: DateTime<Utc>) -> DateTime<Utc> {
        let at = self.last_before(began).unwrap_or(began);
        at - TimeDelta::seconds(1)
    }

    /// What counts as settled at `now` where somebody's record says `settled`: nothing where that lies in the future,
    /// since a clock was wrong when it was written.
    pub fn believed(settled: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        (settled <= now + SET_BACK).then_some(settled)
    }

    /// When the next run begins, jitter included; `None` where there is none.
    pub fn next_begin(&self, name: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let last = self.last_before(now).map(|at| self.begins(name, at));
        last.filter(|begins| *begins > now)
            .or_else(|| self.next_after(now).map(|at| self.begins(name, at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Tz;
    use std::time::Duration;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn due(settled: Option<&str>, now: &str) -> Option<(DateTime<Utc>, u32, bool)> {
        let calendar = Calendar::parse("0 2 * * *", Tz::UTC).unwrap();
        let run = calendar.due("nightly", settled.map(at), at(now))?;
        Some((run.at, run.missed, run.late))
    }

    #[test]
    fn a_run_is_due_once() {
        let before = Some("2026-11-21T02:00:03Z");
        assert_eq!(due(before, "2026-11-22T01:59:59Z"), None);
        let tonight = at("2026-11-22T02:00:00Z");
        assert_eq!(
            due(before, "2026-11-22T02:00:00Z"),
            Some((tonight, 0, false))
        );
        assert_eq!(
            due(Some("2026-11-22T02:00:00Z"), "2026-11-22T02:00:01Z"),
            None
        );
    }

    #[test]
    fn missed_runs_are_caught_up_once() {
        assert_eq!(
            due(Some("2026-11-18T02:00:00Z"), "2026-11-22T09:00:00Z"),
            Some((at("2026-11-22T02:00:00Z"), 3, true))
        );
    }

    #[test]
    fn the_first_run_is_the_one_of_this_hour() {
        let two = at("2026-11-22T02:00:00Z");
        assert_eq!(due(None, "2026-11-22T02:30:00Z"), Some((two, 0, false)));
        assert_eq!(due(None, "2026-11-22T12:00:00Z"), None);
    }

    #[test]
    fn a_clock_that_was_set_back_repeats_nothing_and_skips_nothing() {
        // By seconds, right after the run.
        assert_eq!(
            due(Some("2026-11-22T02:00:01Z"), "2026-11-22T01:59:58Z"),
            None
        );
        assert_eq!(
            due(Some("2026-11-22T02:00:01Z"), "2026-11-22T02:00:00Z"),
            None
        );
        // By two days: not now; whoever keeps the time does not believe it.
        let (then, now) = (at("2026-11-24T02:00:01Z"), at("2026-11-22T09:00:00Z"));
        assert_eq!(Calendar::believed(then, now), None);
        assert_eq!(Calendar::believed(now, then), Some(now));
        assert_eq!(
            due(Some("2026-11-24T02:00:01Z"), "2026-11-22T09:00:00Z"),
            None
        );
    }

    #[test]
    fn a_run_that_was_broken_off_is_due_again() {
        let calendar = Calendar::parse("0 2 * * *", Tz::UTC).unwrap();
        let settled = calendar.before_run(at("2026-11-22T02:00:05Z"));
        let run = calendar.due("nightly", Some(settled), at("2026-11-22T02:01:00Z"));
        assert_eq!(run.unwrap().at, at("2026-11-22T02:00:00Z"));
    }

    #[test]
    fn a_run_that_is_put_off_is_not_due_before() {
        let calendar = Calendar::parse("0 2 * * *", Tz::UTC)
            .unwrap()
            .with_jitter(Duration::from_hours(1));
        let (settled, two) = (at("2026-11-21T03:00:00Z"), at("2026-11-22T02:00:00Z"));
        let begins = calendar.begins("nightly", two);
        assert!(begins > two, "this name is put off");
        let just_before = begins - TimeDelta::seconds(1);
        assert_eq!(calendar.due("nightly", Some(settled), just_before), None);
        assert_eq!(calendar.next_begin("nightly", just_before), Some(begins));
        let run = calendar.due("nightly", Some(settled), begins).unwrap();
        assert_eq!((run.at, run.late), (two, false));
    }
}

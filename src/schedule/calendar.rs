//! When a schedule runs: a cron expression in a time zone, each time once.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, Direction};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::time::Duration;

/// A cron expression, the zone that it is meant in, and how far its runs are spread.
///
/// Daylight saving: an expression without `*`, `/` or ranges in minute and hour names times of the day. Where such a
/// time is skipped it runs at the end of the gap, where it comes twice it runs at the first. Other expressions follow
/// the clock that goes on: nothing in a gap, both hours of a repeat.
#[derive(Debug, Clone)]
pub struct Calendar {
    cron: Cron,
    /// The expression as it was written.
    text: String,
    zone: Tz,
    jitter: Duration,
}

impl Calendar {
    /// Reads `minute hour day month weekday`, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    ///
    /// # Errors
    /// What is wrong with it, in croner's words.
    pub fn parse(text: &str, zone: Tz) -> Result<Self, String> {
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(text).map_err(|error| error.to_string())?;
        Ok(Self {
            cron,
            text: text.to_owned(),
            zone,
            jitter: Duration::ZERO,
        })
    }

    /// The same with each run put off by up to `jitter`, the same for everybody who asks.
    #[must_use]
    pub fn with_jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its five fields, also where it was written as a nickname.
    pub(super) fn fields(&self) -> String {
        let text = self.cron.as_str().trim();
        let nicknames = [
            ("@yearly", "0 0 1 1 *"),
            ("@annually", "0 0 1 1 *"),
            ("@monthly", "0 0 1 * *"),
            ("@weekly", "0 0 * * 0"),
            ("@daily", "0 0 * * *"),
            ("@hourly", "0 * * * *"),
        ];
        let known = nicknames
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text));
        known.map_or(text, |(_, fields)| fields).to_owned()
    }

    /// The numbers that the times of an expression have in one part, such as `%M`; none where it is not one.
    pub(super) fn matching(text: &str, part: &str) -> BTreeSet<u32> {
        let Ok(calendar) = Self::parse(text, Tz::UTC) else {
            return BTreeSet::new();
        };
        let mut found = BTreeSet::new();
        let mut at = DateTime::UNIX_EPOCH - TimeDelta::seconds(1);
        // The hour, the day or the year that shows them all.
        let end = DateTime::UNIX_EPOCH
            + match part {
                "%M" => TimeDelta::hours(1),
                "%H" => TimeDelta::days(1),
                _ => TimeDelta::days(365),
            };
        while let Some(next) = calendar.next_after(at).filter(|next| *next < end) {
            found.extend(next.format(part).to_string().parse::<u32>().ok());
            at = next;
        }
        found
    }

    /// The zone that it is meant in.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// How far runs are spread.
    pub fn jitter(&self) -> Duration {
        self.jitter
    }

    /// The shortest time between two of its next runs, as far as the first hundred of 2026 show.
    pub fn shortest_gap(&self) -> Option<Duration> {
        let mut at = DateTime::from_timestamp(1_767_225_600, 0)?;
        let mut gaps = Vec::new();
        let mut last = None;
        for _ in 0..100 {
            let Some(next) = self.next_after(at) else {
                break;
            };
            gaps.extend(last.and_then(|last: DateTime<Utc>| (next - last).to_std().ok()));
            (at, last) = (next, Some(next));
        }
        gaps.into_iter().min()
    }

    /// The first time after `now`, without jitter; `None` where there is none.
    pub fn next_after(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.find(now, Direction::Forward)
    }

    /// The last time that is not after `now`, without jitter; `None` where there is none.
    pub fn last_before(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // The search looks at whole seconds before the one it is given.
        self.find(now + TimeDelta::seconds(1), Direction::Backward)
            .filter(|found| *found <= now)
    }

    fn find(&self, from: DateTime<Utc>, direction: Direction) -> Option<DateTime<Utc>> {
        let mut from = from.with_timezone(&self.zone);
        loop {
            let found = match direction {
                Direction::Forward => self.cron.find_next_occurrence(&from, false).ok()?,
                Direction::Backward => self.cron.find_previous_occurrence(&from, false).ok()?,
            };
            if !self.is_repeat(&found) {
                return Some(found.with_timezone(&Utc));
            }
            from = found;
        }
    }

    /// Whether a time of the day comes for the second time on a day whose clock is set back.
    ///
    /// croner 4.0 takes lists such as `0 2,3 * * *` for intervals and runs them twice (measured).
    fn is_repeat(&self, found: &DateTime<Tz>) -> bool {
        let mut fields = self.text.split_whitespace();
        let names_times = fields
            .next()
            .zip(fields.next())
            .is_some_and(|(minute, hour)| {
                !format!("{minute}{hour}").contains(['*', '/', '-', '@', '?'])
            });
        if !names_times {
            return false;
        }
        let local = found.naive_local().and_local_timezone(self.zone);
        local.earliest().is_some_and(|first| first < *found)
    }

    /// When the run that is due at `due` begins: up to the jitter later, by a digest of `name` and the time, so that
    /// whoever restarts in between comes to the same.
    pub fn begins(&self, name: &str, due: DateTime<Utc>) -> DateTime<Utc> {
        let spread = self.jitter.as_secs();
        if spread == 0 {
            return due;
        }
        let digest = Sha256::digest(format!("{name} {}", due.timestamp()));
        let number = digest
            .iter()
            .take(8)
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        due + TimeDelta::seconds(i64::try_from(number % spread).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The runs of an expression between two times, as RFC 3339.
    fn runs(text: &str, zone: Tz, from: &str, to: &str) -> Vec<String> {
        let calendar = Calendar::parse(text, zone).unwrap();
        let to: DateTime<Utc> = to.parse().unwrap();
        let mut at: DateTime<Utc> = from.parse().unwrap();
        let mut found = Vec::new();
        while let Some(next) = calendar.next_after(at).filter(|next| *next <= to) {
            assert_eq!(calendar.last_before(next), Some(next), "there and back");
            found.push(next.format("%dT%H:%M").to_string());
            at = next;
        }
        found
    }

    #[test]
    fn a_time_of_the_day_that_comes_twice_runs_once() {
        // Berlin sets its clock back from 03:00 to 02:00 on 25 October 2026 at 01:00 UTC.
        let berlin = Tz::Europe__Berlin;
        let (from, to) = ("2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
        assert_eq!(
            runs("0 2 * * *", berlin, from, to),
            ["25T00:00", "26T01:00"]
        );
        assert_eq!(
            runs("0 2,3 * * *", berlin, from, to),
            ["25T00:00", "25T02:00", "26T01:00", "26T02:00"]
        );
        assert_eq!(
            runs("15,45 2 * * *", berlin, from, to),
            ["25T00:15", "25T00:45", "26T01:15", "26T01:45"]
        );
        // New York from 02:00 to 01:00 on 1 November at 06:00 UTC.
        let (from, to) = ("2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z");
        assert_eq!(
            runs("30 1 * * *", Tz::America__New_York, from, to),
            ["01T05:30", "02T06:30"]
        );
    }

    #[test]
    fn a_time_of_the_day_that_is_skipped_runs_after_the_gap() {
        // Berlin goes from 02:00 to 03:00 on 29 March 2026 at 01:00 UTC.
        let (from, to) = ("2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(
            runs("30 2 * * *", Tz::Europe__Berlin, from, to),
            ["29T01:00", "30T00:30"]
        );
        // New York on 8 March at 07:00 UTC.
        let (from, to) = ("2026-03-07T12:00:00Z", "2026-03-09T12:00:00Z");
        assert_eq!(
            runs("30 2 * * *", Tz::America__New_York, from, to),
            ["08T07:00", "09T06:30"]
        );
    }

    #[test]
    fn intervals_follow_the_clock_that_goes_on() {
        let (from, to) = ("2026-10-24T23:59:00Z", "2026-10-25T03:00:00Z");
        assert_eq!(
            runs("0 * * * *", Tz::Europe__Berlin, from, to),
            ["25T00:00", "25T01:00", "25T02:00", "25T03:00"]
        );
    }

    #[test]
    fn leap_days_and_nicknames() {
        let (from, to) = ("2026-01-01T00:00:00Z", "2029-01-01T00:00:00Z");
        assert_eq!(runs("0 2 29 2 *", Tz::UTC, from, to), ["29T02:00"]);
        let (from, to) = ("2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z");
        assert_eq!(runs("@daily", Tz::UTC, from, to), ["02T00:00", "03T00:00"]);
        for wrong in [
            "",
            "0 2 * *",
            "0 0 2 * * *",
            "61 2 * * *",
            "@reboot",
            "@never",
        ] {
            assert!(Calendar::parse(wrong, Tz::UTC).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn jitter_is_bounded_and_the_same_for_everybody() {
        let calendar = Calendar::parse("0 2 * * *", Tz::UTC)
            .unwrap()
            .with_jitter(Duration::from_mins(10));
        let due: DateTime<Utc> = "2026-11-22T02:00:00Z".parse().unwrap();
        let begins: Vec<_> = (0..50)
            .map(|day| {
                calendar.begins("nightly", due + TimeDelta::days(day)) - TimeDelta::days(day)
            })
            .collect();
        assert!(
            begins
                .iter()
                .all(|at| *at >= due && *at < due + TimeDelta::minutes(10))
        );
        assert!(begins.iter().any(|at| *at != begins[0]), "runs are spread");
        assert_eq!(
            calendar.begins("nightly", due),
            calendar.begins("nightly", due)
        );
    }
}

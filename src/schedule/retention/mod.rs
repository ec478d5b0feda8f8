//! Which backups are kept, and why.
//!
//! | file | what it answers |
//! | --- | --- |
//! | `mod` | what one set of rules says of each backup |
//! | `policy` | what several schedules of one stack say together |

mod policy;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

pub use policy::{Policies, Policy, unite};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// How far two clocks may be apart: a backup that is newer than this machine's time by more, or a store whose clock
/// differs by more, says that one of the clocks is wrong.
pub const CLOCKS_APART: TimeDelta = TimeDelta::minutes(10);

/// `[keep]`: how many of each. A backup is kept where any of them keeps it. Zero is no rule.
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

/// What is known of a backup before it is decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: String,
    /// When it started.
    pub started: DateTime<Utc>,
    /// Whether all that was asked for is in it.
    pub complete: bool,
    /// Whether it is exempt.
    pub pinned: bool,
    /// Whether it is known to be damaged.
    pub damaged: bool,
    /// The person's marks; may be left out where no rule asks for them.
    pub tags: BTreeMap<String, String>,
    /// What was asked for, where that is not the whole stack.
    pub only: Vec<String>,
}

/// What becomes of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The backup's id.
    pub id: String,
    /// Whether it stays.
    pub keep: bool,
    /// Why: of one that stays everything that keeps it.
    pub reasons: Vec<String>,
}

/// A rule of one backup a period: what it is called, how many periods, and how a period is told from another.
type Period = (&'static str, u32, &'static str);

impl Rules {
    /// Whether nothing says what may go: then everything is kept. A least number alone is no rule.
    pub fn is_empty(&self) -> bool {
        self.last() == 0
            && self.within().is_none()
            && self.tags.is_empty()
            && self.periods().iter().all(|(_, count, _)| *count == 0)
    }

    fn last(&self) -> usize {
        self.last.map_or(0, |count| count as usize)
    }

    fn within(&self) -> Option<Duration> {
        self.within.filter(|span| !span.is_zero())
    }

    /// Hours carry their distance from UTC: where a clock is set back, one hour of the day comes twice.
    fn periods(&self) -> [Period; 5] {
        let count = |count: Option<u32>| count.unwrap_or(0);
        [
            ("hourly", count(self.hourly), "%Y-%m-%d %H:00%:z"),
            ("daily", count(self.daily), "%Y-%m-%d"),
            ("weekly", count(self.weekly), "%G-W%V"),
            ("monthly", count(self.monthly), "%Y-%m"),
            ("yearly", count(self.yearly), "%Y"),
        ]
    }

    /// The tags of the rules that a backup has.
    fn matching<'a>(&'a self, tags: &'a BTreeMap<String, String>) -> impl Iterator<Item = &'a str> {
        let has = |wanted: &&String| match wanted.split_once('=') {
            Some((key, value)) => tags.get(key).is_some_and(|has| has == value),
            None => tags.contains_key(wanted.as_str()),
        };
        self.tags.iter().filter(has).map(String::as_str)
    }
}

/// `last 3, daily 7`, as a table's heading has it.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let counts = self.periods().map(|(name, count, _)| (name, count));
        let last = ("last", self.last.unwrap_or(0));
        for (name, count) in [last].into_iter().chain(counts) {
            if count > 0 {
                parts.push(format!("{name} {count}"));
            }
        }
        if let Some(within) = self.within() {
            parts.push(format!("within {}", humantime::format_duration(within)));
        }
        parts.extend(self.tags.iter().map(|tag| format!("tag {tag}")));
        if let Some(min) = self.min.filter(|min| *min > 0) {
            parts.push(format!("at least {min}"));
        }
        f.write_str(&parts.join(", "))
    }
}

impl Candidate {
    /// Whether it is newer than a clock that is right would let it be.
    pub fn is_in_future(&self, now: DateTime<Utc>) -> bool {
        self.started > now + CLOCKS_APART
    }

    /// What keeps it whatever the rules say.
    fn aside(&self, now: DateTime<Utc>) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.pinned {
            reasons.push("pinned".to_owned());
        }
        if self.damaged {
            reasons.push("damaged: a person decides".to_owned());
        }
        if self.is_in_future(now) {
            reasons.push("newer than this machine's clock".to_owned());
        }
        reasons
    }
}

/// Decides on each backup, newest first. `now` is the time and `zone` the one whose hours, days, weeks, months and
/// years count.
///
/// Pinned and damaged ones stay and count for nothing. Of the others, those of the whole stack make one group, and those
/// of each choice of artifacts one of their own; the rules hold in each, and the newest complete one of each stays
/// whatever they say. Partial ones count for no rule, and stay until there is a newer complete one that stays.
pub fn decide(backups: &[Candidate], rules: &Rules, zone: Tz, now: DateTime<Utc>) -> Vec<Decision> {
    let mut sorted: Vec<&Candidate> = backups.iter().collect();
    sorted.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
    let mut reasons: Vec<Vec<String>> = sorted.iter().map(|one| one.aside(now)).collect();
    let mut removed_for: BTreeMap<usize, String> = BTreeMap::new();
    for group in groups(&sorted) {
        if rules.is_empty() {
            for at in group {
                reasons[at].push("there is no rule".to_owned());
            }
            continue;
        }
        // What the rules work on: complete, and nothing sets it aside.
        let counted: Vec<usize> = group
            .iter()
            .copied()
            .filter(|&at| sorted[at].complete && reasons[at].is_empty())
            .collect();
        keep_by_rules(&counted, &sorted, rules, zone, now, &mut reasons);
        keep_the_newest(&group, &counted, &sorted, &mut reasons);
        keep_enough(&counted, rules, &mut reasons);
        for &at in &group {
            if sorted[at].complete || !reasons[at].is_empty() {
                continue;
            }
            let newer = group.iter().copied().find(|&other| {
                other < at
                    && sorted[other].complete
                    && !sorted[other].damaged
                    && !reasons[other].is_empty()
            });
            match newer {
                Some(newer) => {
                    let reason = format!("partial, and {} is newer and complete", sorted[newer].id);
                    removed_for.insert(at, reason);
                }
                None => reasons[at].push("partial, and no newer one is complete".to_owned()),
            }
        }
    }
    let decided = sorted.iter().zip(reasons).enumerate();
    decided
        .map(|(at, (candidate, reasons))| Decision {
            id: candidate.id.clone(),
            keep: !reasons.is_empty(),
            reasons: match reasons.is_empty() {
                false => reasons,
                true => vec![
                    removed_for
                        .remove(&at)
                        .unwrap_or_else(|| "no rule keeps it".to_owned()),
                ],
            },
        })
        .collect()
}

/// The positions of the backups that were asked for the same, newest first in each.
fn groups(sorted: &[&Candidate]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<BTreeSet<&str>, Vec<usize>> = BTreeMap::new();
    for (at, candidate) in sorted.iter().enumerate() {
        let only = candidate.only.iter().map(String::as_str).collect();
        groups.entry(only).or_default().push(at);
    }
    groups.into_values().collect()
}

/// Every rule but the least number.
fn keep_by_rules(
    counted: &[usize],
    sorted: &[&Candidate],
    rules: &Rules,
    zone: Tz,
    now: DateTime<Utc>,
    reasons: &mut [Vec<String>],
) {
    for (number, &at) in counted.iter().take(rules.last()).enumerate() {
        reasons[at].push(format!("last {} of {}", number + 1, rules.last()));
    }
    for (name, count, format) in rules.periods() {
        let mut seen = BTreeSet::new();
        for &at in counted {
            if seen.len() >= count as usize {
                break;
            }
            let local = sorted[at].started.with_timezone(&zone);
            let period = local.format(format).to_string();
            if seen.insert(period.clone()) {
                reasons[at].push(format!("{name} {period}"));
            }
        }
    }
    if let Some(within) = rules.within() {
        // A span beyond all times reaches every backup.
        let oldest = TimeDelta::from_std(within)
            .ok()
            .and_then(|span| now.checked_sub_signed(span))
            .unwrap_or(DateTime::<Utc>::MIN_UTC);
        let young = |at: &&usize| sorted[**at].started >= oldest;
        for &at in counted.iter().filter(young) {
            let span = humantime::format_duration(within);
            reasons[at].push(format!("within {span}"));
        }
    }
    for &at in counted {
        for tag in rules.matching(&sorted[at].tags) {
            reasons[at].push(format!("tag {tag}"));
        }
    }
}

/// The newest complete one stays whatever the rules say.
fn keep_the_newest(
    group: &[usize],
    counted: &[usize],
    sorted: &[&Candidate],
    reasons: &mut [Vec<String>],
) {
    let Some(&newest) = counted.first() else {
        return;
    };
    let pinned_is_newer = group
        .iter()
        .any(|&at| at < newest && sorted[at].complete && sorted[at].pinned);
    let mut reason = "the newest complete one".to_owned();
    if !sorted[newest].only.is_empty() {
        reason.push_str(" of its artifacts");
    }
    if pinned_is_newer {
        reason.push_str(" that is not pinned");
    }
    reasons[newest].push(reason);
}

/// Where fewer stay than the least number, the newest of the others stay, too.
fn keep_enough(counted: &[usize], rules: &Rules, reasons: &mut [Vec<String>]) {
    let min = rules.min.map_or(0, |min| min as usize);
    let (kept, others): (Vec<usize>, Vec<usize>) =
        counted.iter().partition(|&&at| !reasons[at].is_empty());
    for at in others.into_iter().take(min.saturating_sub(kept.len())) {
        reasons[at].push(format!("at least {min}"));
    }
}

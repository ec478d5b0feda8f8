//! What several schedules of one stack say together.

use super::{Candidate, Decision, Rules, decide};
use crate::schedule::Schedule;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use std::collections::BTreeMap;

/// Rules, whose they are, and the zone whose days they count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The schedule that they are from; `None` where a person gave them.
    pub schedule: Option<String>,
    /// The rules.
    pub rules: Rules,
    /// The zone whose hours, days, weeks, months and years count.
    pub zone: Tz,
}

/// The policies of every stack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policies {
    /// Those of stacks that have some of their own.
    pub by_stack: BTreeMap<String, Vec<Policy>>,
    /// Those of every other stack; where there are none, everything of it is kept.
    pub default: Vec<Policy>,
}

impl Policies {
    /// Those of the schedules that say what to keep, by their stacks.
    ///
    /// All schedules that fill a repository have to be given: the rules of an hourly one alone would remove what a
    /// nightly one of the same stack wants kept for months.
    pub fn of_schedules<'a>(schedules: impl IntoIterator<Item = &'a Schedule>) -> Self {
        let mut by_stack: BTreeMap<String, Vec<Policy>> = BTreeMap::new();
        for schedule in schedules {
            let Some(rules) = schedule.keep.as_ref().filter(|rules| !rules.is_empty()) else {
                continue;
            };
            let policies = by_stack.entry(schedule.stack.clone()).or_default();
            policies.push(Policy {
                schedule: Some(schedule.name.clone()),
                rules: rules.clone(),
                zone: schedule.calendar.zone(),
            });
        }
        Self {
            by_stack,
            default: Vec::new(),
        }
    }

    /// Those of one stack; none where everything of it is kept.
    pub fn of(&self, stack: &str) -> &[Policy] {
        self.by_stack.get(stack).unwrap_or(&self.default)
    }
}

/// Decides on each backup, newest first: it is kept where any of the policies keeps it, and where there is none.
pub fn unite(backups: &[Candidate], policies: &[Policy], now: DateTime<Utc>) -> Vec<Decision> {
    if policies.is_empty() {
        return decide(backups, &Rules::default(), Tz::UTC, now);
    }
    let decided: Vec<Vec<Decision>> = policies
        .iter()
        .map(|policy| decide(backups, &policy.rules, policy.zone, now))
        .collect();
    let count = decided.first().map_or(0, Vec::len);
    (0..count)
        .filter_map(|at| {
            let of_each = policies
                .iter()
                .zip(decided.iter().filter_map(|all| all.get(at)));
            one(&of_each.collect::<Vec<_>>())
        })
        .collect()
}

/// One backup's decision, of what each policy decided.
fn one(of_each: &[(&Policy, &Decision)]) -> Option<Decision> {
    let (_, first) = of_each.first()?;
    let keep = of_each.iter().any(|(_, decision)| decision.keep);
    let mut reasons: Vec<String> = Vec::new();
    let mut common: Vec<String> = Vec::new();
    let deciding = of_each.iter().filter(|(_, decision)| decision.keep == keep);
    for (policy, decision) in deciding {
        for reason in &decision.reasons {
            // What all of them say needs no name.
            let by_all = of_each.iter().all(|(_, all)| all.reasons.contains(reason));
            match &policy.schedule {
                Some(schedule) if !by_all => reasons.push(format!("{schedule}: {reason}")),
                _ if !common.contains(reason) => common.push(reason.clone()),
                _ => {}
            }
        }
    }
    reasons.append(&mut common);
    Some(Decision {
        id: first.id.clone(),
        keep,
        reasons,
    })
}

//! What holds for all backups and all rules.

use super::{Candidate, Decision, Policy, Rules, decide, unite};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn now() -> DateTime<Utc> {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// One in a thickening past: several an hour lately, few a year long ago.
fn candidate() -> impl Strategy<Value = Candidate> {
    let ago = prop_oneof![0_i64..4_000, 0_i64..80_000, 0_i64..3_000_000];
    let flag = |share| prop::bool::weighted(share);
    let only = prop_oneof![4 => Just(""), 1 => Just("redis"), 1 => Just("volume/a")];
    let tag = prop_oneof![4 => Just(""), 1 => Just("release"), 1 => Just("job")];
    (ago, flag(0.8), flag(0.1), flag(0.05), only, tag).prop_map(
        |(minutes, complete, pinned, damaged, only, tag)| Candidate {
            id: format!("{minutes}"),
            started: now() - TimeDelta::minutes(minutes),
            complete,
            pinned,
            damaged,
            tags: [tag]
                .iter()
                .filter(|tag| !tag.is_empty())
                .map(|tag| ((*tag).to_owned(), "1".to_owned()))
                .collect(),
            only: [only]
                .iter()
                .filter(|only| !only.is_empty())
                .map(|only| (*only).to_owned())
                .collect(),
        },
    )
}

/// Each with an id of its own.
fn backups() -> impl Strategy<Value = Vec<Candidate>> {
    vec(candidate(), 0..60).prop_map(|mut all| {
        for (number, one) in all.iter_mut().enumerate() {
            one.id = format!("{}-{number}", one.id);
        }
        all
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let count = || prop::option::weighted(0.4, 0_u32..6);
    let within = prop::option::weighted(
        0.2,
        (0_u64..900).prop_map(|days| Duration::from_secs(days * 86_400)),
    );
    let tags = vec(
        prop_oneof![Just("release".to_owned()), Just("job=1".to_owned())],
        0..2,
    );
    (
        count(),
        count(),
        count(),
        count(),
        count(),
        count(),
        within,
        tags,
        count(),
    )
        .prop_map(
            |(last, hourly, daily, weekly, monthly, yearly, within, tags, min)| Rules {
                last,
                hourly,
                daily,
                weekly,
                monthly,
                yearly,
                within,
                tags,
                min,
            },
        )
}

fn zone() -> impl Strategy<Value = Tz> {
    prop_oneof![
        Just(Tz::UTC),
        Just(Tz::Europe__Berlin),
        Just(Tz::America__New_York),
        Just(Tz::Australia__Lord_Howe),
        Just(Tz::Pacific__Apia),
    ]
}

/// The rules with one of them added or raised.
fn raised(rules: &Rules, which: u8, by: u32) -> Rules {
    let mut more = rules.clone();
    let up = |count: &mut Option<u32>| *count = Some(count.unwrap_or(0) + by);
    match which {
        0 => up(&mut more.last),
        1 => up(&mut more.hourly),
        2 => up(&mut more.daily),
        3 => up(&mut more.weekly),
        4 => up(&mut more.monthly),
        5 => up(&mut more.yearly),
        6 => more.tags.push("job".to_owned()),
        7 => {
            let days = Duration::from_secs(u64::from(by) * 86_400 * 30);
            more.within = Some(more.within.unwrap_or_default() + days);
        }
        _ => up(&mut more.min),
    }
    more
}

fn kept(decisions: &[Decision]) -> BTreeSet<&str> {
    let kept = decisions.iter().filter(|decision| decision.keep);
    kept.map(|decision| decision.id.as_str()).collect()
}

/// What each backup of a group may be compared with.
fn group(candidate: &Candidate) -> BTreeSet<&String> {
    candidate.only.iter().collect()
}

proptest! {
    #[test]
    fn every_backup_gets_one_decision_with_a_reason_newest_first(
        backups in backups(), rules in rules(), zone in zone()
    ) {
        let decisions = decide(&backups, &rules, zone, now());
        prop_assert_eq!(decisions.len(), backups.len());
        prop_assert!(decisions.iter().all(|decision| !decision.reasons.is_empty()));
        let started: BTreeMap<&str, _> =
            backups.iter().map(|one| (one.id.as_str(), one.started)).collect();
        let times: Vec<_> = decisions.iter().map(|decision| started[decision.id.as_str()]).collect();
        prop_assert!(times.is_sorted_by(|newer, older| newer >= older));
    }

    #[test]
    fn adding_or_raising_a_rule_never_removes_more(
        backups in backups(), rules in rules(), zone in zone(), which in 0_u8..9, by in 1_u32..5
    ) {
        // From no rule at all, which keeps everything, the first one does remove.
        prop_assume!(!rules.is_empty());
        let more = raised(&rules, which, by);
        let before = decide(&backups, &rules, zone, now());
        let after = decide(&backups, &more, zone, now());
        prop_assert!(kept(&after).len() >= kept(&before).len());
        // A least number fills up with what the other rules do not keep: with it the number holds, without it each.
        if rules.min.unwrap_or(0) == 0 || which == 8 {
            prop_assert!(kept(&after).is_superset(&kept(&before)));
        }
    }

    #[test]
    fn a_second_prune_removes_nothing(backups in backups(), rules in rules(), zone in zone()) {
        let first = decide(&backups, &rules, zone, now());
        let kept = kept(&first);
        let survivors: Vec<Candidate> =
            backups.iter().filter(|one| kept.contains(one.id.as_str())).cloned().collect();
        let second = decide(&survivors, &rules, zone, now());
        prop_assert!(second.iter().all(|decision| decision.keep), "{:?}", second);
    }

    #[test]
    fn the_newest_complete_one_the_pinned_and_the_damaged_stay(
        backups in backups(), rules in rules(), zone in zone()
    ) {
        let decisions = decide(&backups, &rules, zone, now());
        let kept = kept(&decisions);
        for one in &backups {
            let newest = one.complete && !one.damaged && !backups.iter().any(|other| {
                group(other) == group(one)
                    && other.complete
                    && !other.damaged
                    && (other.started, &other.id) > (one.started, &one.id)
            });
            if newest || one.pinned || one.damaged {
                prop_assert!(kept.contains(one.id.as_str()), "{:?}", one);
            }
        }
    }

    #[test]
    fn the_order_of_what_is_listed_does_not_matter(
        (backups, shuffled) in backups().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        rules in rules(),
        zone in zone(),
    ) {
        prop_assert_eq!(
            decide(&backups, &rules, zone, now()),
            decide(&shuffled, &rules, zone, now())
        );
    }

    #[test]
    fn a_partial_one_is_kept_for_want_of_a_newer_complete_one_and_displaces_nothing(
        backups in backups(), rules in rules(), zone in zone()
    ) {
        prop_assume!(!rules.is_empty());
        let decisions = decide(&backups, &rules, zone, now());
        let all_kept = kept(&decisions);
        for one in backups.iter().filter(|one| !one.complete && !one.pinned && !one.damaged) {
            let replaced = backups.iter().any(|other| {
                group(other) == group(one)
                    && other.complete
                    && !other.damaged
                    && all_kept.contains(other.id.as_str())
                    && (other.started, &other.id) > (one.started, &one.id)
            });
            prop_assert_eq!(all_kept.contains(one.id.as_str()), !replaced, "{:?}", one);
        }
        // Without them, and without those that are set aside, the rest is decided alike.
        let counted: Vec<Candidate> = backups
            .iter()
            .filter(|one| one.complete && !one.pinned && !one.damaged)
            .cloned()
            .collect();
        let without = decide(&counted, &rules, zone, now());
        let ids: BTreeSet<&str> = counted.iter().map(|one| one.id.as_str()).collect();
        let rest: BTreeSet<&str> = all_kept.intersection(&ids).copied().collect();
        prop_assert_eq!(rest, kept(&without));
    }

    #[test]
    fn what_any_schedule_keeps_is_kept(
        backups in backups(), one in rules(), other in rules(), zone in zone()
    ) {
        let policies = [(Some("one"), &one, zone), (Some("other"), &other, Tz::UTC)].map(
            |(name, rules, zone)| Policy {
                schedule: name.map(str::to_owned),
                rules: rules.clone(),
                zone,
            },
        );
        let united = unite(&backups, &policies, now());
        let of_one = decide(&backups, &one, zone, now());
        let of_other = decide(&backups, &other, Tz::UTC, now());
        let either: BTreeSet<&str> = kept(&of_one).union(&kept(&of_other)).copied().collect();
        prop_assert_eq!(kept(&united), either);
    }
}

//! What is judged, with the clock as an argument.

use super::judge::{Judge, Planned, PlannedSchedule, judge, next_run};
use super::kept::Kept;
use super::present::{Present, Role, Source};
use super::report::{Problem, Severity, StackStatus, State, Status};
use crate::error::{Error, Kind};
use crate::event::{Outcome, RunSummary};
use crate::manifest::{BackupId, Commit};
use crate::repository::Entry;
use crate::schedule::{Calendar, Hooks, Schedule};
use crate::stack::SourceKind;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;
use std::time::Duration;

fn at(text: &str) -> DateTime<Utc> {
    format!("2026-11-{text}:00Z").parse().unwrap()
}

const GLOBALS: &str = "postgres/db/globals";
const APP: &str = "postgres/db/db/app";
const REDIS: &str = "redis/cache";
const FILES: &str = "volume/files";

/// A complete backup of the whole stack.
fn backup(started: &str, artifacts: &[&str]) -> Entry {
    let started = at(started);
    let id = BackupId::new(started, [1, 2, 3, 4]);
    Entry {
        stack: "shop".to_owned(),
        commit: Some(Commit {
            format: 1,
            backup: id.clone(),
            stack: "shop".to_owned(),
            sha256sums: String::new(),
            started,
            finished: started,
            trigger: "manual".to_owned(),
            complete: true,
            only: Vec::new(),
            artifacts: artifacts.iter().map(|name| name.parse().unwrap()).collect(),
            raw_size: 100,
            stored_size: 10,
        }),
        id,
        pinned: None,
        proofs: Vec::new(),
        damaged: None,
    }
}

fn with(mut entry: Entry, change: impl FnOnce(&mut Commit)) -> Entry {
    change(entry.commit.as_mut().unwrap());
    entry
}

fn repository(name: &str, mut entries: Vec<Entry>) -> Kept {
    entries.sort_by(|a, b| b.id.cmp(&a.id));
    Kept {
        name: name.to_owned(),
        address: format!("/{name}"),
        needed: true,
        error: None,
        stacks: BTreeMap::from([("shop".to_owned(), entries)]),
    }
}

fn source(name: &str, kind: SourceKind, artifacts: &[&str]) -> Source {
    Source {
        name: name.to_owned(),
        kind: Some(kind),
        role: Role::Kept,
        artifacts: artifacts.iter().map(|name| name.parse().unwrap()).collect(),
        notes: Vec::new(),
    }
}

fn shop() -> Present {
    Present {
        sources: vec![
            source("postgres/db", SourceKind::Postgres, &[GLOBALS, APP]),
            source(REDIS, SourceKind::Redis, &[REDIS]),
            source(FILES, SourceKind::Volume, &[FILES]),
        ],
        problems: Vec::new(),
    }
}

fn nightly(repositories: &[&str]) -> PlannedSchedule {
    PlannedSchedule {
        schedule: Schedule {
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
        },
        repositories: repositories.iter().map(|name| format!("/{name}")).collect(),
    }
}

/// What is asked.
struct Case {
    present: Option<Present>,
    kept: Vec<Kept>,
    schedules: Vec<PlannedSchedule>,
    last_run: Option<RunSummary>,
    max_age: Option<Duration>,
}

impl Case {
    fn new(kept: Vec<Kept>) -> Self {
        Self {
            present: Some(shop()),
            kept,
            schedules: Vec::new(),
            last_run: None,
            max_age: None,
        }
    }

    fn scheduled(mut self, schedule: PlannedSchedule) -> Self {
        self.schedules.push(schedule);
        self
    }

    fn judged(&self, now: &str) -> (StackStatus, Vec<Problem>) {
        judge(&Judge {
            stack: "shop",
            present: self.present.as_ref(),
            engine_known: true,
            schedules: self
                .schedules
                .iter()
                .map(|planned| Planned {
                    planned,
                    last_run: self.last_run.clone(),
                })
                .collect(),
            kept: &self.kept,
            max_age: self.max_age,
            now: at(now),
        })
    }

    /// The states of its sources, and its problems as they are told.
    fn told(&self, now: &str) -> (Vec<State>, Vec<String>) {
        let (judged, problems) = self.judged(now);
        let states = judged.sources.iter().map(|source| source.state).collect();
        let told = problems
            .iter()
            .map(|problem| format!("{:?}: {}", problem.severity, problem.message));
        (states, told.collect())
    }
}

const ALL: [&str; 4] = [GLOBALS, APP, REDIS, FILES];
use State::{Overdue, Protected, Unknown, Unprotected};

#[test]
fn a_complete_backup_of_everything_protects_everything() {
    let case = Case::new(vec![repository("local", vec![backup("22T02:00", &ALL)])])
        .scheduled(nightly(&["local"]));
    let (states, told) = case.told("22T12:00");
    assert_eq!(states, [Protected; 3]);
    assert!(told.is_empty(), "{told:?}");
    let (judged, _) = case.judged("22T12:00");
    assert_eq!(judged.next.unwrap().at, at("23T02:00"));
    assert_eq!(judged.newest.unwrap().repositories, ["local"]);
}

#[test]
fn what_no_backup_has_is_unprotected_one_by_one() {
    let mut case = Case::new(vec![repository(
        "local",
        vec![backup("22T02:00", &[GLOBALS, APP, FILES])],
    )]);
    let sources = &mut case.present.as_mut().unwrap().sources;
    let fresh = "postgres/db/db/fresh".parse().unwrap();
    sources[0].artifacts.push(fresh);
    let (states, told) = case.told("22T12:00");
    assert_eq!(states, [Unprotected, Unprotected, Protected]);
    assert_eq!(
        told,
        [
            "Unprotected: database fresh of postgres/db: not in any complete backup yet",
            "Unprotected: redis/cache: not in any complete backup yet",
        ]
    );
    let (_, problems) = case.judged("22T12:00");
    let hint = problems[0].hint.as_deref().unwrap();
    assert!(
        hint.starts_with("lifeboat backup shop --only postgres/db/db/fresh;"),
        "{hint}"
    );
}

#[test]
fn a_stack_without_any_backup_is_one_problem() {
    let case = Case::new(vec![repository("local", Vec::new())]).scheduled(nightly(&["local"]));
    let (states, told) = case.told("22T12:00");
    assert_eq!(states, [Unprotected; 3]);
    assert_eq!(
        told,
        ["Unprotected: nothing of shop is in any complete backup"]
    );
}

#[test]
fn partial_damaged_and_future_backups_do_not_count_and_are_named() {
    let partial = with(backup("22T03:00", &ALL), |commit| commit.complete = false);
    let mut damaged = backup("22T04:00", &ALL);
    damaged.commit = None;
    damaged.damaged = Some("cut short".to_owned());
    let future = backup("29T02:00", &ALL);
    for (odd, word) in [
        (partial, "partial"),
        (damaged, "damaged"),
        (future, "from the future"),
    ] {
        let entries = vec![backup("22T02:00", &ALL), odd];
        let case = Case::new(vec![repository("local", entries)]).scheduled(nightly(&["local"]));
        let (states, told) = case.told("22T12:00");
        assert_eq!(states, [Protected; 3], "the one before it counts");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("Warning") && told[0].contains(word),
            "{told:?}"
        );
        let (judged, _) = case.judged("22T12:00");
        assert_eq!(judged.newest.unwrap().started, at("22T02:00"), "{word}");
        // The run of the next night is missing for all that.
        let (states, _) = case.told("23T04:01");
        assert_eq!(states, [Overdue; 3], "{word}");
    }
}

#[test]
fn each_repository_of_a_schedule_has_to_have_a_new_one() {
    let local = repository("local", vec![backup("24T02:00", &ALL)]);
    let offsite = repository("offsite", vec![backup("22T02:00", &ALL)]);
    let case = Case::new(vec![local, offsite]).scheduled(nightly(&["local", "offsite"]));
    let (states, told) = case.told("24T12:00");
    assert_eq!(states, [Overdue; 3]);
    assert_eq!(
        told,
        [
            "Overdue: nightly is late: the newest complete backup in offsite is from 2026-11-22 02:00 UTC"
        ]
    );
    let (judged, _) = case.judged("24T12:00");
    assert_eq!(
        judged.sources[0].backup.as_ref().unwrap().repositories,
        ["local"]
    );
    // A repository that the schedule does not fill is no promise of its.
    let case = Case {
        schedules: vec![nightly(&["local"])],
        ..case
    };
    assert_eq!(case.told("24T12:00").0, [Protected; 3]);
}

#[test]
fn a_backup_of_a_part_counts_for_that_part() {
    let part = with(backup("22T12:00", &[REDIS]), |commit| {
        commit.only = vec!["redis".to_owned()];
    });
    let entries = vec![backup("22T02:00", &[GLOBALS, APP, FILES]), part];
    let case = Case::new(vec![repository("local", entries)]);
    let (states, told) = case.told("22T13:00");
    assert_eq!((states, told), (vec![Protected; 3], Vec::new()));
    let (judged, _) = case.judged("22T13:00");
    assert_eq!(
        judged.newest.unwrap().started,
        at("22T02:00"),
        "of the whole stack"
    );
    // A part that is new does not make the rest new.
    let case = case.scheduled(nightly(&["local"]));
    let (states, _) = case.told("23T04:01");
    assert_eq!(states, [Overdue; 3]);
    let part = with(backup("23T02:30", &[REDIS]), |commit| {
        commit.only = Vec::new();
    });
    let entries = vec![backup("22T02:00", &ALL), part];
    let case = Case::new(vec![repository("local", entries)]).scheduled(nightly(&["local"]));
    let (states, _) = case.told("23T04:01");
    assert_eq!(
        states,
        [Overdue, Protected, Overdue],
        "nor does one whose encryption hides that it is a part"
    );
}

#[test]
fn without_a_schedule_the_newest_backup_has_to_have_everything() {
    let entries = vec![
        backup("21T02:00", &ALL),
        backup("22T02:00", &[GLOBALS, APP, FILES]),
    ];
    let case = Case::new(vec![repository("local", entries)]);
    let (states, told) = case.told("22T12:00");
    assert_eq!(states, [Protected, Unprotected, Protected]);
    assert!(
        told[0].contains("was last in shop/20261121T020000Z"),
        "{told:?}"
    );
    let (_, told) = case.told("23T04:01");
    assert!(
        told.iter()
            .any(|told| told.starts_with("Warning: no schedule")),
        "{told:?}"
    );
}

#[test]
fn an_age_can_be_asked_for_without_a_schedule() {
    let mut case = Case::new(vec![repository("local", vec![backup("22T02:00", &ALL)])]);
    case.max_age = Some(Duration::from_hours(26));
    assert_eq!(case.told("23T03:59"), (vec![Protected; 3], Vec::new()));
    let (states, told) = case.told("23T04:01");
    assert_eq!(states, [Overdue; 3]);
    assert_eq!(
        told[0],
        "Overdue: the newest backup of postgres/db, redis/cache, volume/files is over 1day 2h old"
    );
}

#[test]
fn hidden_names_are_told_by_their_number() {
    let hidden = [
        GLOBALS,
        "postgres/db/db/hidden-0123456789abcdef",
        REDIS,
        "volume/hidden-0123456789abcdef",
    ];
    let mut case = Case::new(vec![repository("local", vec![backup("22T02:00", &hidden)])]);
    let (judged, problems) = case.judged("22T12:00");
    assert!(problems.is_empty(), "{problems:?}");
    assert!(
        judged
            .sources
            .iter()
            .all(|source| source.state == Protected)
    );
    assert!(judged.sources[2].notes[0].contains("hidden"));
    assert!(
        judged.sources[1].notes.is_empty(),
        "Redis has no name to hide"
    );
    let more = source("volume/more", SourceKind::Volume, &["volume/more"]);
    case.present.as_mut().unwrap().sources.push(more);
    let (states, _) = case.told("22T12:00");
    assert_eq!(states, [Protected, Protected, Unprotected, Unprotected]);
}

#[test]
fn what_cannot_be_asked_is_not_known() {
    let mut offsite = repository("offsite", Vec::new());
    offsite.error = Some(Error::failed("no route to host"));
    let local = repository("local", vec![backup("22T02:00", &[GLOBALS, APP, FILES])]);
    let mut case = Case::new(vec![local, offsite]);
    let (states, told) = case.told("22T12:00");
    assert_eq!(states, [Protected, Unknown, Protected]);
    assert!(
        told[0].starts_with("Unknown: whether redis/cache"),
        "{told:?}"
    );
    // One that is not there is known to hold nothing.
    case.kept[1].error = Some(Error::not_found("no repository"));
    assert_eq!(case.told("22T12:00").0, [Protected, Unprotected, Protected]);
}

#[test]
fn a_failed_run_is_told_until_a_backup_comes_after_it() {
    let mut case = Case::new(vec![repository("local", vec![backup("22T02:00", &ALL)])])
        .scheduled(nightly(&["local"]));
    case.last_run = Some(RunSummary {
        operation: "backup".to_owned(),
        stack: "shop".to_owned(),
        schedule: Some("nightly".to_owned()),
        backup: None,
        outcome: Outcome::Failed,
        previous: None,
        started: at("23T02:00"),
        seconds: 3.0,
        raw_size: 0,
        stored_size: 0,
        repositories: Vec::new(),
        warnings: Vec::new(),
        error: Some("the disk is full".to_owned()),
        hint: Some("make room".to_owned()),
        code: 1,
    });
    let (states, told) = case.told("23T03:00");
    assert_eq!(states, [Protected; 3]);
    assert_eq!(
        told,
        ["Warning: the last run of nightly failed at 2026-11-23 02:00 UTC: the disk is full"]
    );
    let (_, problems) = case.judged("23T05:00");
    assert_eq!(problems[0].severity, Severity::Overdue);
    let hint = problems[0].hint.as_deref().unwrap();
    assert_eq!(hint, "its last run failed: the disk is full");
    case.kept[0] = repository("local", vec![backup("23T04:00", &ALL)]);
    assert_eq!(case.told("23T05:00"), (vec![Protected; 3], Vec::new()));
}

#[test]
fn a_stack_that_is_gone_has_its_backups_judged() {
    let mut case = Case::new(vec![repository("local", vec![backup("22T02:00", &ALL)])])
        .scheduled(nightly(&["local"]));
    case.present = None;
    let (judged, problems) = case.judged("22T12:00");
    assert_eq!(judged.present, Some(false));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].message.contains("not on this engine"));
    let (_, told) = case.told("23T04:01");
    assert!(told[0].starts_with("Overdue"), "{told:?}");
}

#[test]
fn a_run_that_waits_for_its_jitter_is_the_next_one() {
    let calendar = Calendar::parse("0 2 * * *", chrono_tz::Tz::UTC)
        .unwrap()
        .with_jitter(Duration::from_hours(2));
    let begins = calendar.begins("nightly", at("22T02:00"));
    assert!(begins > at("22T02:01"), "{begins}");
    let before = begins - TimeDelta::seconds(1);
    assert_eq!(next_run(&calendar, "nightly", before), Some(begins));
    let tomorrow = calendar.begins("nightly", at("23T02:00"));
    assert_eq!(next_run(&calendar, "nightly", begins), Some(tomorrow));
}

#[test]
fn what_is_known_to_be_wrong_counts_more_than_what_is_not_known() {
    let kind = |severities: &[Severity]| {
        let problems = severities.iter();
        Status {
            at: at("22T12:00"),
            problems: problems
                .map(|severity| Problem::new(*severity, ""))
                .collect(),
            stacks: Vec::new(),
            loose: Vec::new(),
            elsewhere: Vec::new(),
            repositories: Vec::new(),
        }
        .kind()
    };
    assert_eq!(kind(&[]), None);
    assert_eq!(kind(&[Severity::Warning]), None);
    assert_eq!(
        kind(&[Severity::Unknown, Severity::Warning]),
        Some(Kind::Failed)
    );
    for bad in [Severity::Unprotected, Severity::Overdue] {
        assert_eq!(kind(&[Severity::Unknown, bad]), Some(Kind::Overdue));
    }
}

#[test]
fn growth_is_of_complete_backups_of_the_whole_stack() {
    let sized = |entry: Entry, bytes| with(entry, |commit| commit.stored_size = bytes);
    let part = with(sized(backup("23T02:00", &[REDIS]), 1), |commit| {
        commit.only = vec![REDIS.to_owned()];
    });
    let partial = with(sized(backup("24T02:00", &ALL), 2), |commit| {
        commit.complete = false;
    });
    let kept = repository(
        "local",
        vec![
            sized(backup("22T02:00", &ALL), 10),
            part,
            partial,
            sized(backup("25T02:00", &ALL), 12),
        ],
    );
    let status = kept.status(|_| true, at("26T02:00"));
    assert_eq!((status.backups, status.stored_size), (4, 25));
    assert_eq!(status.stacks[0].recent, [10, 12]);
}

//! Golden files: backups and rules in, the whole table with every reason out.
//!
//! `UPDATE_GOLDEN=1 cargo test golden` writes the tables anew; read the difference before you keep it.

use super::{Candidate, Decision, Policy, Rules, unite};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/retention");
/// What stands between rules, backups and table.
const BAR: &str = "---\n";

/// One file without its table.
struct Case {
    now: DateTime<Utc>,
    policies: Vec<Policy>,
    backups: Vec<Candidate>,
}

impl Case {
    fn parse(settings: &str, backups: &str) -> Self {
        let mut case = Self {
            now: "2026-11-22T12:00:00Z".parse().unwrap(),
            policies: Vec::new(),
            backups: Vec::new(),
        };
        for line in settings.lines().filter(|line| !line.starts_with('#')) {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            if key == "now" {
                case.now = value.parse().unwrap();
            } else if key == "schedule" {
                case.policies.push(policy(Some(value)));
            } else {
                if case.policies.is_empty() {
                    case.policies.push(policy(None));
                }
                set(case.policies.last_mut().unwrap(), key, value);
            }
        }
        case.backups = backups.lines().flat_map(candidates).collect();
        case
    }

    fn table(&self) -> String {
        let decisions = unite(&self.backups, &self.policies, self.now);
        assert_eq!(decisions.len(), self.backups.len());
        decisions.iter().map(line).collect()
    }
}

fn policy(schedule: Option<&str>) -> Policy {
    Policy {
        schedule: schedule.map(str::to_owned),
        rules: Rules::default(),
        zone: Tz::UTC,
    }
}

fn set(policy: &mut Policy, key: &str, value: &str) {
    let rules = &mut policy.rules;
    let number = || Some(value.parse().unwrap());
    match key {
        "zone" => policy.zone = value.parse().unwrap(),
        "last" => rules.last = number(),
        "hourly" => rules.hourly = number(),
        "daily" => rules.daily = number(),
        "weekly" => rules.weekly = number(),
        "monthly" => rules.monthly = number(),
        "yearly" => rules.yearly = number(),
        "min" => rules.min = number(),
        "within" => rules.within = Some(humantime::parse_duration(value).unwrap()),
        "tag" => rules.tags.push(value.to_owned()),
        _ => panic!("{key}?"),
    }
}

/// `TIME [partial] [pinned] [damaged] [only=A] [tag=K=V] [xN/SPAN]`: N of them, each SPAN before the last.
fn candidates(line: &str) -> Vec<Candidate> {
    let mut words = line.split(' ');
    let started: DateTime<Utc> = words.next().unwrap().parse().unwrap();
    let mut candidate = Candidate {
        id: String::new(),
        started,
        complete: true,
        pinned: false,
        damaged: false,
        tags: BTreeMap::new(),
        only: Vec::new(),
    };
    let (mut count, mut span) = (1, std::time::Duration::ZERO);
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("partial", _) => candidate.complete = false,
            ("pinned", _) => candidate.pinned = true,
            ("damaged", _) => candidate.damaged = true,
            ("only", what) => candidate.only.push(what.to_owned()),
            ("tag", tag) => {
                let (key, value) = tag.split_once('=').unwrap_or((tag, ""));
                candidate.tags.insert(key.to_owned(), value.to_owned());
            }
            _ => {
                let (times, every) = word.strip_prefix('x').unwrap().split_once('/').unwrap();
                count = times.parse().unwrap();
                span = humantime::parse_duration(every).unwrap();
            }
        }
    }
    let at = |number: i32| {
        let started = started - chrono::TimeDelta::from_std(span).unwrap() * number;
        Candidate {
            id: started.format("%Y%m%dT%H%M%SZ").to_string(),
            started,
            ..candidate.clone()
        }
    };
    (0..count).map(at).collect()
}

fn line(decision: &Decision) -> String {
    let what = match decision.keep {
        true => "keep  ",
        false => "remove",
    };
    format!("{} {what} {}\n", decision.id, decision.reasons.join(", "))
}

fn golden_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "golden"))
        .collect();
    files.sort();
    files
}

#[expect(
    clippy::disallowed_methods,
    reason = "a person says in the environment that tables are to be written anew"
)]
fn is_update() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

fn check(path: &Path) -> Result<(), String> {
    let text = fs::read_to_string(path).unwrap();
    let mut parts = text.splitn(3, BAR);
    let (settings, backups) = (parts.next().unwrap(), parts.next().unwrap());
    let table = Case::parse(settings, backups).table();
    if is_update() {
        fs::write(path, [settings, backups, &table].join(BAR)).unwrap();
        return Ok(());
    }
    match parts.next().unwrap_or_default() == table {
        true => Ok(()),
        false => Err(format!(
            "{} wants another table than\n{table}",
            path.display()
        )),
    }
}

#[test]
fn golden_files_hold() {
    let files = golden_files();
    assert!(files.len() >= 12, "{files:?}");
    let wrong: Vec<String> = files.iter().filter_map(|path| check(path).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rules_are_said_in_words() {
    let mut policy = policy(None);
    for (key, value) in [
        ("last", "3"),
        ("daily", "7"),
        ("within", "14d"),
        ("tag", "release"),
        ("min", "5"),
    ] {
        set(&mut policy, key, value);
    }
    let text = "last 3, daily 7, within 14days, tag release, at least 5";
    assert_eq!(policy.rules.to_string(), text);
    assert!(!policy.rules.is_empty());
    let only_min = Rules {
        min: Some(5),
        last: Some(0),
        ..Rules::default()
    };
    assert!(only_min.is_empty(), "a least number alone says nothing");
}

//! `/health`: in the shape that the stack's own API answers with.

use crate::daemon::{ScheduleState, State};
use crate::event::Outcome;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How long the daemon may not have looked at its agenda before it is taken for stuck.
const STUCK: TimeDelta = TimeDelta::minutes(5);

/// `status` is `ok` or `error`; `info` has what is up, `error` what is down, `details` both.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    status: &'static str,
    info: BTreeMap<String, Value>,
    error: BTreeMap<String, Value>,
    details: BTreeMap<String, Value>,
}

impl Report {
    fn of(details: BTreeMap<String, Value>) -> Self {
        let (info, error): (BTreeMap<_, _>, BTreeMap<_, _>) = details
            .clone()
            .into_iter()
            .partition(|(_, detail)| detail["status"] == "up");
        Self {
            status: if error.is_empty() { "ok" } else { "error" },
            info,
            error,
            details,
        }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.error.is_empty()
    }
}

/// Whether the daemon is at work.
pub(super) fn alive(state: &State, now: DateTime<Utc>) -> Report {
    Report::of(BTreeMap::from([(
        "scheduler".to_owned(),
        scheduler(state, now),
    )]))
}

/// Whether the daemon is at work, its files are right, and every schedule's stack has the backups that it should.
pub(super) fn report(state: &State, now: DateTime<Utc>) -> Report {
    let mut details = BTreeMap::from([
        ("scheduler".to_owned(), scheduler(state, now)),
        ("configuration".to_owned(), configuration(state)),
    ]);
    for (name, entry) in &state.schedules {
        details.insert(format!("schedule {name}"), schedule(entry));
    }
    Report::of(details)
}

fn scheduler(state: &State, now: DateTime<Utc>) -> Value {
    let idle = (now - state.beat).abs();
    json!({
        "status": if idle < STUCK { "up" } else { "down" },
        "last_turn": state.beat,
    })
}

fn configuration(state: &State) -> Value {
    match &state.configuration_error {
        None => json!({ "status": "up", "schedules": state.schedules.len() }),
        Some(error) => json!({ "status": "down", "message": error }),
    }
}

fn schedule(entry: &ScheduleState) -> Value {
    let last = entry.last.as_ref();
    let failed = last.is_some_and(|last| last.outcome != Outcome::Succeeded);
    let drill_failed = entry
        .last_drill
        .as_ref()
        .is_some_and(|last| last.outcome != Outcome::Succeeded);
    let is_up = !failed && !drill_failed && entry.overdue_since.is_none();
    json!({
        "status": if is_up { "up" } else { "down" },
        "stack": entry.schedule.stack,
        "newest_backup": entry.newest(),
        "last_proof": entry.repositories.iter().filter_map(|one| one.proven).max(),
        "last_run": last.map(|last| json!({
            "started": last.started,
            "outcome": last.outcome,
            "error": last.error,
        })),
        "next_run": entry.next,
        "running_since": entry.running,
        "overdue_since": entry.overdue_since,
    })
}

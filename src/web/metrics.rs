//! `/metrics`: what the board says, in Prometheus's text form.

use crate::daemon::State;
use crate::event::Outcome;
use chrono::{DateTime, Utc};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

/// A metric's labels: names and values.
type Labels = Vec<(&'static str, String)>;
/// A gauge of seconds or bytes.
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;

/// A registry that is filled for one answer: the board is the only thing that remembers.
struct Page(Registry);

impl Page {
    fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>) -> Gauges {
        let family = Gauges::default();
        match unit {
            Some(unit) => self.0.register_with_unit(name, help, unit, family.clone()),
            None => self.0.register(name, help, family.clone()),
        }
        family
    }
}

/// All metrics.
pub(super) fn text(state: &State, now: DateTime<Utc>) -> String {
    let mut page = Page(Registry::with_prefix("lifeboat"));
    build(&mut page);
    runs(&mut page, state);
    schedules(&mut page, state);
    repositories(&mut page, state, now);
    artifacts(&mut page, state);
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = encode(&mut text, &page.0);
    text
}

fn build(page: &mut Page) {
    let info = page.gauge("build", "The version that runs; always 1", None);
    let labels = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    info.get_or_create(&labels).set(1.0);
}

fn runs(page: &mut Page, state: &State) {
    let family = Family::<Labels, Counter>::default();
    page.0.register(
        "runs",
        "Runs since the daemon started, by how they ended",
        family.clone(),
    );
    for ((schedule, operation, outcome), count) in &state.runs {
        let labels = vec![
            ("schedule", schedule.clone()),
            ("operation", operation.clone()),
            ("outcome", (*outcome).to_owned()),
        ];
        family.get_or_create(&labels).inc_by(*count);
    }
}

fn schedules(page: &mut Page, state: &State) {
    let seconds = || Some(Unit::Seconds);
    let next = page.gauge(
        "next_run_timestamp",
        "When the next backup begins",
        seconds(),
    );
    let success = page.gauge(
        "last_success_timestamp",
        "When the last backup that succeeded began",
        seconds(),
    );
    let last = page.gauge(
        "last_run_timestamp",
        "When the last backup began",
        seconds(),
    );
    let result = page.gauge(
        "last_run_success",
        "1 where the last backup succeeded, 0 where it failed or is partial",
        None,
    );
    let duration = page.gauge(
        "last_run_duration",
        "How long the last backup took",
        seconds(),
    );
    let bytes = page.gauge(
        "last_run_size",
        "Bytes of the last backup, raw and stored",
        Some(Unit::Bytes),
    );
    let overdue = page.gauge(
        "overdue",
        "1 where there should be a newer complete backup",
        None,
    );
    let drill = page.gauge(
        "last_drill_success",
        "1 where the last drill passed, 0 where it failed",
        None,
    );
    let running = page.gauge("running", "1 while a backup is being made", None);
    for (name, entry) in &state.schedules {
        let labels = vec![
            ("stack", entry.schedule.stack.clone()),
            ("schedule", name.clone()),
        ];
        let set = |gauges: &Gauges, value: f64| {
            gauges.get_or_create(&labels).set(value);
        };
        if let Some(at) = entry.next {
            set(&next, timestamp(at));
        }
        if let Some(at) = entry.last_success {
            set(&success, timestamp(at));
        }
        set(&overdue, flag(entry.overdue_since.is_some()));
        set(&running, flag(entry.running.is_some()));
        if let Some(run) = &entry.last_drill {
            set(&drill, flag(run.outcome == Outcome::Succeeded));
        }
        let Some(run) = &entry.last else { continue };
        set(&last, timestamp(run.started));
        set(&result, flag(run.outcome == Outcome::Succeeded));
        set(&duration, run.seconds);
        for (kind, size) in [("raw", run.raw_size), ("stored", run.stored_size)] {
            let mut labels = labels.clone();
            labels.push(("kind", kind.to_owned()));
            bytes.get_or_create(&labels).set(number(size));
        }
    }
}

fn repositories(page: &mut Page, state: &State, now: DateTime<Utc>) {
    let age = page.gauge(
        "backup_age",
        "Age of the newest complete backup",
        Some(Unit::Seconds),
    );
    let proof = page.gauge(
        "proof_age",
        "How long ago a drill proved that a backup restores",
        Some(Unit::Seconds),
    );
    let count = page.gauge("backups", "How many backups there are", None);
    let bytes = page.gauge(
        "repository_size",
        "Stored bytes of all backups of the stack",
        Some(Unit::Bytes),
    );
    let up = page.gauge(
        "repository_up",
        "1 where the repository could be looked at",
        None,
    );
    for (name, entry) in &state.schedules {
        for repository in &entry.repositories {
            let labels = vec![
                ("stack", entry.schedule.stack.clone()),
                ("schedule", name.clone()),
                ("repository", repository.repository.clone()),
            ];
            let set = |gauges: &Gauges, value: f64| {
                gauges.get_or_create(&labels).set(value);
            };
            set(&up, flag(repository.unreachable.is_none()));
            set(&count, number(repository.backups));
            set(&bytes, number(repository.stored_size));
            if let Some(newest) = repository.newest {
                set(&age, timestamp(now) - timestamp(newest));
            }
            if let Some(proven) = repository.proven {
                set(&proof, timestamp(now) - timestamp(proven));
            }
        }
    }
}

fn artifacts(page: &mut Page, state: &State) {
    let bytes = page.gauge(
        "artifact_size",
        "Bytes of an artifact of the last backup, raw and stored",
        Some(Unit::Bytes),
    );
    let duration = page.gauge(
        "artifact_duration",
        "How long an artifact took in the last backup",
        Some(Unit::Seconds),
    );
    for ((stack, artifact), found) in &state.artifacts {
        let labels = vec![("stack", stack.clone()), ("artifact", artifact.clone())];
        duration.get_or_create(&labels).set(found.seconds);
        for (kind, size) in [("raw", found.raw_size), ("stored", found.stored_size)] {
            let mut labels = labels.clone();
            labels.push(("kind", kind.to_owned()));
            bytes.get_or_create(&labels).set(number(size));
        }
    }
}

/// Seconds since 1970.
#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds stay exact for 285,000 years"
)]
fn timestamp(at: DateTime<Utc>) -> f64 {
    at.timestamp_millis() as f64 / 1000.0
}

fn flag(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "metrics are floating-point numbers"
)]
fn number(count: u64) -> f64 {
    count as f64
}

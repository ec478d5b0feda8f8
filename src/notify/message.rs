//! What is told: a title, facts, the tail of the log. How each receiver wants it is [`super::payload`]'s.

use super::channel::Occasion;
use super::notifier::Surroundings;
use crate::event::{Outcome, RunSummary};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use std::fmt::Write as _;

/// How many warnings are told one by one.
const WARNINGS: usize = 5;
/// The most bytes of one fact: an error may quote a whole statement.
const LONGEST_FACT: usize = 2000;

/// That a stack has no complete backup that is new enough.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Overdue {
    pub(super) stack: String,
    pub(super) schedule: Option<String>,
    pub(super) newest: Option<DateTime<Utc>>,
    pub(super) since: DateTime<Utc>,
}

/// One message.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// `None` is a test.
    pub(super) occasion: Option<Occasion>,
    /// One line without control characters.
    pub(super) title: String,
    /// Labels, and values without control characters.
    pub(super) facts: Vec<(&'static str, String)>,
    /// The last lines of the run's log.
    pub(super) log: Vec<String>,
    pub(super) summary: Option<RunSummary>,
    pub(super) overdue: Option<Overdue>,
    pub(super) host: String,
    pub(super) version: String,
    pub(super) time: DateTime<Utc>,
}

impl Message {
    /// How a run ended.
    pub(super) fn of_run(summary: &RunSummary, log: Vec<String>, at: &Surroundings) -> Self {
        let (operation, stack) = (&summary.operation, &summary.stack);
        let (occasion, what) = match (summary.outcome, summary.previous) {
            (Outcome::Failed, _) => (Occasion::Failure, "FAILED"),
            (Outcome::Partial, _) => (Occasion::Failure, "is PARTIAL"),
            (Outcome::Succeeded, Some(Outcome::Failed | Outcome::Partial)) => {
                (Occasion::Recovery, "works again")
            }
            (Outcome::Succeeded, _) => (Occasion::Success, "succeeded"),
        };
        let title = format!("{operation} of {stack} {what} on {}", at.host);
        let mut message = Self::new(Some(occasion), &title, at);
        message.fact("Error", summary.error.as_deref());
        message.fact("Hint", summary.hint.as_deref());
        message.fact("Stack", Some(stack));
        message.fact("Schedule", summary.schedule.as_deref());
        message.fact("Backup", summary.backup.as_deref());
        for repository in &summary.repositories {
            let state = repository.failed.as_deref().unwrap_or("has it");
            let text = format!("{}: {state}", repository.repository);
            message.fact("Repository", Some(&text));
        }
        message.fact("Started", Some(&minute(summary.started)));
        message.fact("Took", Some(&format!("{:.1} s", summary.seconds)));
        if summary.raw_size > 0 {
            let sizes = format!(
                "{} bytes, stored as {}",
                summary.raw_size, summary.stored_size
            );
            message.fact("Size", Some(&sizes));
        }
        for warning in summary.warnings.iter().take(WARNINGS) {
            message.fact("Warning", Some(warning));
        }
        if let Some(more) = summary.warnings.len().checked_sub(WARNINGS + 1) {
            message.fact("Warning", Some(&format!("and {} more", more + 1)));
        }
        if summary.code != 0 {
            message.fact("Exit code", Some(&summary.code.to_string()));
        }
        message.summary = Some(summary.clone());
        message.log = log;
        message
    }

    /// That a run began; only pings say that.
    pub(super) fn of_start(operation: &str, stack: &str, at: &Surroundings) -> Self {
        let title = format!("{operation} of {stack} started on {}", at.host);
        Self::new(None, &title, at)
    }

    /// That there is no backup.
    pub(super) fn of_absence(overdue: Overdue, at: &Surroundings) -> Self {
        let (stack, now) = (&overdue.stack, (at.clock)());
        let title = match overdue.newest {
            Some(newest) => format!(
                "{stack} has no complete backup for {} on {}",
                span(newest, now),
                at.host
            ),
            None => format!("{stack} has no complete backup at all on {}", at.host),
        };
        let mut message = Self::new(Some(Occasion::Absence), &title, at);
        message.fact("Stack", Some(stack));
        message.fact("Schedule", overdue.schedule.as_deref());
        let newest = overdue.newest.map_or("none".to_owned(), minute);
        message.fact("Newest complete backup", Some(&newest));
        message.fact("Overdue since", Some(&minute(overdue.since)));
        message.overdue = Some(overdue);
        message
    }

    /// That somebody wants to know whether this arrives.
    pub(super) fn of_test(at: &Surroundings) -> Self {
        let title = format!("test of lifeboat's notifications on {}", at.host);
        let mut message = Self::new(None, &title, at);
        let text = "if you can read this, failures will reach you here";
        message.fact("Note", Some(text));
        message
    }

    fn new(occasion: Option<Occasion>, title: &str, at: &Surroundings) -> Self {
        Self {
            occasion,
            title: one_line(title),
            facts: Vec::new(),
            log: Vec::new(),
            summary: None,
            overdue: None,
            host: one_line(&at.host),
            version: at.version.clone(),
            time: (at.clock)(),
        }
    }

    fn fact(&mut self, label: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            let mut value = one_line(value);
            super::log::truncate(&mut value, LONGEST_FACT);
            self.facts.push((label, value));
        }
    }

    /// The occasion's name; `test` for a test.
    pub(super) fn occasion_name(&self) -> &'static str {
        self.occasion.map_or("test", Occasion::name)
    }

    /// The facts, one a line.
    pub(super) fn facts_text(&self) -> String {
        let mut text = String::new();
        for (label, value) in &self.facts {
            let _ = writeln!(text, "{label}: {value}");
        }
        text
    }

    /// All of it as text, the tail of the log last.
    pub(super) fn text_with_log(&self) -> String {
        let mut text = format!("{}\n\n{}", self.title, self.facts_text());
        if !self.log.is_empty() {
            text.push_str("\nThe end of the log:\n");
            text.push_str(&self.log.join("\n"));
            text.push('\n');
        }
        let _ = write!(text, "\nlifeboat {} on {}\n", self.version, self.host);
        text
    }
}

/// A text as one line: whatever would end a line, move a cursor or turn the direction of reading is a space.
pub(super) fn one_line(text: &str) -> String {
    let harmless = |c: char| match c {
        '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => ' ',
        c if c.is_control() => ' ',
        c => c,
    };
    text.chars().map(harmless).collect()
}

fn minute(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// `26 hours`, `3 days`: whole ones.
fn span(from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    let minutes = (to - from).num_minutes().max(0);
    match minutes {
        0..120 => format!("{minutes} minutes"),
        120..4320 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    }
}

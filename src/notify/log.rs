//! The tail of a run's log, for those who are told that it failed.

use super::message::one_line;
use crate::event::Event;
use chrono::{DateTime, SecondsFormat, Utc};
use std::collections::VecDeque;

/// The last lines of a run, up to so many bytes.
#[derive(Debug)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
    limit: usize,
}

impl Tail {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            limit,
        }
    }

    /// Adds what an event says, if it says anything.
    pub(super) fn add(&mut self, event: &Event, now: DateTime<Utc>) {
        let Some(text) = line(event) else { return };
        let time = now.to_rfc3339_opts(SecondsFormat::Secs, true);
        let mut line = one_line(&format!("{time} {text}"));
        truncate(&mut line, self.limit.saturating_sub(1));
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.bytes > self.limit
            && let Some(first) = self.lines.pop_front()
        {
            self.bytes -= first.len() + 1;
        }
    }

    /// The lines; the next run begins anew.
    pub(super) fn take(&mut self) -> Vec<String> {
        self.bytes = 0;
        std::mem::take(&mut self.lines).into()
    }
}

/// Cuts a text at `limit` bytes or before, between characters.
pub(super) fn truncate(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
    }
}

fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::RunStarted {
            operation,
            run,
            stack,
        } => format!("{operation} of {stack} started: {run}"),
        Event::StepStarted { step } => step.clone(),
        Event::ArtifactFinished {
            artifact,
            raw_size,
            stored_size,
            seconds,
        } => format!("{artifact}: {raw_size} bytes, stored as {stored_size}, in {seconds:.1} s"),
        Event::VerifyFinished {
            artifact, damaged, ..
        } => format!("{artifact} has been read again: {damaged} damaged objects"),
        Event::Warning { message } => format!("warning: {message}"),
        Event::Detail { message } => message.clone(),
        Event::ArtifactStarted { .. }
        | Event::Progress { .. }
        | Event::RunFinished(_)
        | Event::BackupOverdue { .. } => return None,
    })
}

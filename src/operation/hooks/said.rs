//! What a hook prints: each line into the log, and the last ones for the message where it fails.

use crate::event::{Event, Observer};
use std::collections::VecDeque;

/// How many of the last lines a message holds.
const KEPT: usize = 5;
/// How long a line may be, in bytes; what is longer is cut.
const LONGEST: usize = 1000;

/// The output of a hook, as it comes.
pub(super) struct Said<'a> {
    observer: &'a dyn Observer,
    /// What the hook is called in the log.
    program: String,
    last: VecDeque<String>,
    /// A line that has no end yet.
    line: Vec<u8>,
}

impl<'a> Said<'a> {
    pub(super) fn new(observer: &'a dyn Observer, command: &[String]) -> Self {
        let path = command.first().map_or("", String::as_str);
        Self {
            observer,
            program: path.rsplit('/').next().unwrap_or(path).to_owned(),
            last: VecDeque::new(),
            line: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                self.end();
            } else if self.line.len() < LONGEST {
                self.line.push(byte);
            }
        }
    }

    /// Ends the line that is being written, where there is one.
    pub(super) fn end(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if line.is_empty() {
            return;
        }
        self.observer.observe(&Event::Detail {
            message: format!("{}: {line}", self.program),
        });
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// The last few lines, on one.
    pub(super) fn tail(&self) -> String {
        let lines: Vec<&str> = self.last.iter().map(String::as_str).collect();
        lines.join("; ")
    }
}

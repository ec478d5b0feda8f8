//! Everything that is printed goes through here: results on standard output, the rest on standard error.

use super::args::Global;
use super::progress::Bars;
use crate::error::{Error, Kind};
use crate::event::{Event, Observer, Outcome, RunSummary};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// How to print.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub(super) struct Output {
    json: bool,
    /// Standard output is a command's: lifeboat's own results go to standard error, too.
    aside: bool,
    quiet: bool,
    verbose: bool,
    /// Standard error is a terminal: text and bars for people; else JSON log lines.
    terminal: bool,
    bars: Option<Bars>,
    clock: fn() -> DateTime<Utc>,
}

impl Output {
    pub(super) fn new(global: &Global) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bars = terminal && !global.no_progress && !global.quiet && !global.json;
        Self {
            json: global.json,
            aside: false,
            quiet: global.quiet,
            verbose: global.verbose,
            terminal,
            bars: bars.then(Bars::new),
            clock: super::environment::now,
        }
    }

    /// The same, with nothing on standard output, which is a command's.
    pub(super) fn aside(self) -> Self {
        Self {
            aside: true,
            ..self
        }
    }

    /// Whether results are wanted as JSON.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// A result: JSON with `message_type` where that is wanted, else the text.
    pub(super) fn result(&self, message_type: &str, value: &impl Serialize, text: &str) {
        if self.json {
            let mut object = serde_json::json!({ "message_type": message_type });
            if let (Some(object), Ok(serde_json::Value::Object(fields))) =
                (object.as_object_mut(), serde_json::to_value(value))
            {
                object.extend(fields);
            }
            self.print(&object.to_string());
        } else if !text.is_empty() {
            self.print(&harmless_lines(text.trim_end_matches('\n')));
        }
    }

    /// A result for people that is painted: control characters from outside are out of it already.
    pub(super) fn screen(&self, text: &str) {
        if !self.json {
            Self::to_stdout(text);
        }
    }

    /// As [`screen`](Self::screen), drawn over what is there: no line is ended.
    pub(super) fn frame(&self, text: &str) {
        if !self.json {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes());
            let _ = out.flush();
        }
    }

    /// A remark for people, in the flow of a command.
    pub(super) fn remark(&self, text: &str) {
        if !self.quiet && !self.json {
            self.to_stderr(text);
        }
    }

    /// An error, with its hint.
    pub(super) fn error(&self, error: &Error) {
        self.error_with_code(error, error.kind().exit_code());
    }

    /// An error, of a process that ends with another exit code than the error's own.
    pub(super) fn error_with_code(&self, error: &Error, code: u8) {
        if self.json {
            let (kind, message) = (error.kind().name(), error.chain());
            self.print(&error_line(kind, code, &message, error.hint_text()));
            return;
        }
        self.to_stderr(&format!("error: {}", error.chain()));
        if let Some(hint) = error.hint_text() {
            self.to_stderr(&format!("hint: {hint}"));
        }
    }

    /// A result, to where results go.
    fn print(&self, text: &str) {
        match self.aside {
            true => self.to_stderr(text),
            false => Self::to_stdout(text),
        }
    }

    fn to_stdout(text: &str) {
        let mut out = std::io::stdout().lock();
        // A reader that has gone away (head) is no failure of ours.
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }

    fn to_stderr(&self, text: &str) {
        let text = &harmless_lines(text);
        match &self.bars {
            Some(bars) => bars.println(text),
            None => {
                let _ = writeln!(std::io::stderr().lock(), "{text}");
            }
        }
    }

    /// How a scheduled run ended.
    fn log_end(&self, summary: &RunSummary) {
        let RunSummary {
            operation, stack, ..
        } = summary;
        match (summary.outcome, &summary.error) {
            (Outcome::Succeeded, _) if self.quiet => {}
            (Outcome::Succeeded, _) => self.log(
                "info",
                &format!(
                    "{operation} of {stack} succeeded in {:.1} s",
                    summary.seconds
                ),
            ),
            (_, error) => {
                let reason = error.as_deref().unwrap_or("no reason is known");
                let hint = summary.hint.as_ref().map(|hint| format!("; hint: {hint}"));
                let hint = hint.unwrap_or_default();
                self.log(
                    "error",
                    &format!("{operation} of {stack} failed: {reason}{hint}"),
                );
            }
        }
    }

    /// A line of log from a command that goes on for long, unless it is to be quiet.
    pub(super) fn log_line(&self, level: &str, message: &str) {
        if !self.quiet && !self.json {
            self.log(level, message);
        }
    }

    /// One line of log: text on a terminal, JSON like the stack's own elsewhere.
    fn log(&self, level: &str, message: &str) {
        if self.terminal {
            match level {
                "warn" => self.to_stderr(&format!("warning: {message}")),
                _ => self.to_stderr(message),
            }
        } else {
            let line = serde_json::json!({
                "level": level,
                "timestamp": (self.clock)().to_rfc3339_opts(SecondsFormat::Millis, true),
                "context": "lifeboat",
                "message": message,
            });
            self.to_stderr(&line.to_string());
        }
    }
}

impl Observer for Output {
    fn observe(&self, event: &Event) {
        if self.json {
            // Progress would be thousands of lines; the ends of artifacts say enough.
            let wanted = match event {
                Event::Progress { .. } => false,
                Event::Detail { .. } => self.verbose,
                _ => true,
            };
            if wanted && let Ok(line) = serde_json::to_string(event) {
                self.print(&line);
            }
            return;
        }
        if let Some(bars) = &self.bars {
            bars.observe(event);
        }
        match event {
            Event::Warning { message } => self.log("warn", message),
            Event::BackupOverdue { stack, since, .. } => self.log(
                "error",
                &format!("{stack} has had no complete backup since one was due: {since}"),
            ),
            Event::RunFinished(summary) if !self.terminal => self.log_end(summary),
            Event::Detail { message } if self.verbose => self.log("debug", message),
            Event::StepStarted { step } if self.verbose => self.log("debug", step),
            Event::RunStarted {
                operation,
                run,
                stack,
            } if !self.quiet && !self.terminal => {
                self.log("info", &format!("{operation} of {stack} started: {run}"));
            }
            Event::ArtifactFinished {
                artifact,
                raw_size,
                stored_size,
                seconds,
            } if !self.quiet => self.log(
                "info",
                &format!(
                    "{artifact}  {} → {} in {seconds:.1} s",
                    size(*raw_size),
                    size(*stored_size)
                ),
            ),
            _ => {}
        }
    }
}

/// What is wrong with the arguments, where `--json` is among them.
pub(super) fn usage_as_json(message: &str, code: u8, aside: bool) {
    let message = message.trim_start_matches("error: ").trim_end();
    let (message, hint) = message.split_once("\n\n").unwrap_or((message, ""));
    let line = error_line(Kind::Usage.name(), code, message, Some(hint));
    match aside {
        true => {
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
        false => Output::to_stdout(&line),
    }
}

fn error_line(kind: &str, code: u8, message: &str, hint: Option<&str>) -> String {
    serde_json::json!({
        "message_type": "error",
        "kind": kind,
        "code": code,
        "message": message,
        "hint": hint,
    })
    .to_string()
}

/// Bytes for people: `1.4 GB`, powers of ten.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 9.95 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// How long ago: `3 minutes ago`.
pub(super) fn age(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (now - then).num_seconds();
    let (count, unit) = match seconds {
        ..0 => return "in the future".to_owned(),
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// Text from outside on a terminal: control characters would move the cursor or worse.
pub(super) fn harmless(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped: Box<dyn Iterator<Item = char>> = match c.is_control() {
                true => Box::new(c.escape_default()),
                false => Box::new(std::iter::once(c)),
            };
            escaped
        })
        .collect()
}

/// As [`harmless`], for text of several lines.
fn harmless_lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(harmless).collect();
    lines.join("\n")
}

/// A table without frames, as `docker` prints them.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| harmless(cell)).collect::<Vec<_>>());
    }
    let lines = table.to_string();
    lines
        .lines()
        .map(|line| line.trim().to_owned() + "\n")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_two_or_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (15_360, "15 kB"),
            (999_600, "1.0 MB"),
            (1_500_000_000, "1.5 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(harmless("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }
}

//! The screen: problems first, then each stack, then the repositories. Pure: readable without colour, made for 100
//! columns.

use crate::cli::output::{age, harmless, size};
use crate::event::Outcome;
use crate::operation::status::{
    Growth, Problem, ScheduleStatus, Severity, SourceStatus, StackStatus, State, Status,
};
use chrono::{DateTime, Utc};
use std::fmt::Write as _;

/// How wide text is at the most: longer lines are hard to read.
const WIDEST: usize = 100;

/// How to draw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    /// Whether colours are shown.
    pub colour: bool,
    /// Columns.
    pub width: usize,
}

/// How something is painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ink {
    Plain,
    Strong,
    Faint,
    Good,
    Bad,
    Odd,
}

impl Screen {
    /// The lines of the screen.
    pub(super) fn draw(&self, found: &Status) -> Vec<String> {
        let mut lines = vec![self.verdict(found)];
        if !found.problems.is_empty() {
            lines.push(String::new());
        }
        for problem in &found.problems {
            self.problem(problem, &mut lines);
        }
        for stack in &found.stacks {
            lines.push(String::new());
            self.stack(stack, found.at, &mut lines);
        }
        if !found.loose.is_empty() {
            lines.push(String::new());
            lines.push(self.paint(Ink::Strong, "volumes of no stack"));
            self.sources(&found.loose, found.at, &mut lines);
        }
        lines.push(String::new());
        self.repositories(found, &mut lines);
        if !found.elsewhere.is_empty() {
            lines.push(String::new());
            let text = format!(
                "backups of stacks that are not here: {}",
                found.elsewhere.join(", ")
            );
            lines.extend(self.wrapped(&text, 0, 2));
        }
        lines
    }

    fn paint(&self, ink: Ink, text: &str) -> String {
        let text = harmless(text);
        let code = match ink {
            Ink::Plain => return text,
            Ink::Strong => "1",
            Ink::Faint => "2",
            Ink::Good => "32",
            Ink::Bad => "1;31",
            Ink::Odd => "33",
        };
        match self.colour && !text.is_empty() {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text,
        }
    }

    /// The first line: all that somebody in a hurry reads.
    fn verdict(&self, found: &Status) -> String {
        let count = |severity, what: &str| {
            let problems = found.problems.iter();
            match problems
                .filter(|problem| problem.severity == severity)
                .count()
            {
                0 => None,
                1 => Some(format!("1 {what}")),
                count if severity == Severity::Warning => Some(format!("{count} {what}s")),
                count => Some(format!("{count} {what}")),
            }
        };
        let counts: Vec<String> = [
            count(Severity::Unprotected, "unprotected"),
            count(Severity::Overdue, "overdue"),
            count(Severity::Unknown, "unknown"),
            count(Severity::Warning, "warning"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let sources = found.stacks.iter().flat_map(|stack| &stack.sources);
        let (mut good, mut needed) = (0, 0);
        for source in sources {
            good += usize::from(source.state == State::Protected);
            needed += usize::from(!matches!(
                source.state,
                State::Covered | State::LeftOut | State::Optional
            ));
        }
        let worst = found.problems.first().map(|problem| problem.severity);
        let (ink, word) = match worst {
            Some(Severity::Unprotected | Severity::Overdue) => (Ink::Bad, "NOT SAFE"),
            Some(Severity::Unknown) => (Ink::Bad, "NOT KNOWN"),
            _ if needed == 0 && found.stacks.is_empty() => (Ink::Plain, "NOTHING HERE"),
            _ => (Ink::Good, "SAFE"),
        };
        let mut rest = vec![format!("{good} of {needed} sources protected")];
        rest.extend(counts);
        let left = columns(word) + 2 + columns(&rest.join(", "));
        let width = self.width.min(WIDEST);
        // As much of the time as there is room for.
        let formats = ["%Y-%m-%d %H:%M:%S UTC", "%H:%M:%S UTC", ""];
        let times = formats.map(|format| found.at.format(format).to_string());
        let mut fitting = times.iter().filter(|at| left + 2 + columns(at) <= width);
        let at = fitting.next().map_or("", String::as_str);
        let gap = width.saturating_sub(left + columns(at));
        format!(
            "{}  {}{}{}",
            self.paint(ink, word),
            rest.join(", "),
            " ".repeat(gap),
            self.paint(Ink::Faint, at)
        )
        .trim_end()
        .to_owned()
    }

    fn problem(&self, problem: &Problem, lines: &mut Vec<String>) {
        let (ink, word) = match problem.severity {
            Severity::Unprotected => (Ink::Bad, "✗ unprotected"),
            Severity::Overdue => (Ink::Bad, "✗ overdue"),
            Severity::Unknown => (Ink::Bad, "? unknown"),
            Severity::Warning => (Ink::Odd, "! warning"),
        };
        let stack = problem.stack.as_ref().map(|stack| format!("{stack}: "));
        let message = format!("{}{}", stack.unwrap_or_default(), problem.message);
        let start = 15;
        let mut wrapped = self.wrapped(&message, start, start);
        if let Some(first) = wrapped.first_mut() {
            let text = first.trim_start().to_owned();
            *first = format!("{}{text}", self.paint(ink, &pad(word, start)));
        }
        lines.extend(wrapped);
        if let Some(hint) = &problem.hint {
            let hint = self.wrapped(&format!("hint: {hint}"), start, start + 6);
            lines.extend(hint.iter().map(|line| self.paint(Ink::Faint, line)));
        }
    }

    fn stack(&self, stack: &StackStatus, now: DateTime<Utc>, lines: &mut Vec<String>) {
        let name = self.paint(Ink::Strong, &stack.stack);
        lines.push(match stack.present {
            Some(true) => name,
            Some(false) => format!("{name}  {}", self.paint(Ink::Odd, "not on this engine")),
            None => format!(
                "{name}  {}",
                self.paint(Ink::Odd, "the engine cannot be asked")
            ),
        });
        let mut fact = |what: &str, text: String| {
            let start = 15;
            let mut wrapped = self.wrapped(&text, start, start);
            if let Some(first) = wrapped.first_mut() {
                let label = self.paint(Ink::Faint, &pad(what, start - 2));
                *first = format!("  {label}{}", first.trim_start());
            }
            lines.extend(wrapped);
        };
        fact(
            "last backup",
            stack.newest.as_ref().map_or("never".to_owned(), |newest| {
                let id = newest.backup.rsplit('/').next().unwrap_or_default();
                format!(
                    "{}, {id} in {}",
                    age(newest.started, now),
                    newest.repositories.join(", ")
                )
            }),
        );
        fact(
            "last proof",
            stack.proof.as_ref().map_or("never".to_owned(), |proof| {
                let id = proof.backup.rsplit('/').next().unwrap_or_default();
                format!("{}, of {id}", age(proof.at, now))
            }),
        );
        if stack.schedules.is_empty() {
            fact("next run", "none: no schedule".to_owned());
        }
        for schedule in &stack.schedules {
            fact("next run", schedule_line(schedule, now));
        }
        if !stack.sources.is_empty() {
            lines.push(String::new());
            self.sources(&stack.sources, now, lines);
        }
    }

    fn sources(&self, sources: &[SourceStatus], now: DateTime<Utc>, lines: &mut Vec<String>) {
        let rows: Vec<[String; 4]> = sources
            .iter()
            .map(|source| {
                [
                    short(&source.name),
                    word(source.state).to_owned(),
                    source
                        .backup
                        .as_ref()
                        .map_or("-".to_owned(), |backup| age(backup.started, now)),
                    source
                        .backup
                        .as_ref()
                        .map_or("-".to_owned(), |backup| backup.repositories.join(", ")),
                ]
            })
            .collect();
        let widths: [usize; 4] = std::array::from_fn(|column| {
            let cells = rows.iter().map(|row| columns(&row[column]));
            cells.max().unwrap_or(0)
        });
        for (source, row) in sources.iter().zip(&rows) {
            let ink = match source.state {
                State::Protected => Ink::Good,
                State::Overdue | State::Unprotected => Ink::Bad,
                State::Unknown => Ink::Odd,
                State::Covered | State::LeftOut | State::Optional => Ink::Faint,
            };
            let state = format!("{} {}", mark(source.state), pad(&row[1], widths[1]));
            let line = format!(
                "  {}  {}  {}  {}  {}",
                pad(&row[0], widths[0]),
                self.paint(ink, &state),
                pad(&row[2], widths[2]),
                pad(&row[3], widths[3]),
                self.paint(Ink::Faint, &source.notes.join(", ")),
            );
            lines.push(line.trim_end().to_owned());
        }
    }

    fn repositories(&self, found: &Status, lines: &mut Vec<String>) {
        let mut rows: Vec<[String; 5]> = Vec::new();
        for repository in &found.repositories {
            if let Some(error) = &repository.error {
                rows.push([
                    repository.name.clone(),
                    error.clone(),
                    String::new(),
                    String::new(),
                    String::new(),
                ]);
                continue;
            }
            let mut name = repository.name.as_str();
            for growth in &repository.stacks {
                rows.push([
                    std::mem::take(&mut name).to_owned(),
                    growth.stack.clone(),
                    growth.backups.to_string(),
                    size(growth.stored_size),
                    picture(growth),
                ]);
            }
            let shown: usize = repository.stacks.iter().map(|growth| growth.backups).sum();
            if shown != repository.backups || repository.stacks.len() != 1 {
                let all = [
                    std::mem::take(&mut name).to_owned(),
                    "all stacks".to_owned(),
                    repository.backups.to_string(),
                    size(repository.stored_size),
                    String::new(),
                ];
                rows.push(all);
            }
        }
        let header = ["REPOSITORY", "STACK", "BACKUPS", "STORED", "LAST BACKUPS"];
        let widths: [usize; 4] = std::array::from_fn(|column| {
            // What is wrong with a repository goes over all columns.
            let cells = rows.iter().filter(|row| column == 0 || !row[2].is_empty());
            let cells = cells.map(|row| columns(&harmless(&row[column])));
            cells.max().unwrap_or(0).max(header[column].len())
        });
        let line = |row: &[String; 5]| {
            let cells = row.iter().enumerate().map(|(column, cell)| {
                let cell = harmless(cell);
                widths
                    .get(column)
                    .map_or(cell.clone(), |width| pad(&cell, *width))
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        lines.push(self.paint(Ink::Faint, &line(&header.map(str::to_owned))));
        lines.extend(rows.iter().map(line));
    }

    /// Text in lines that fit, the first `first` columns in and the others `rest`.
    fn wrapped(&self, text: &str, first: usize, rest: usize) -> Vec<String> {
        let width = self.width.min(WIDEST);
        let mut lines: Vec<String> = Vec::new();
        let mut line = " ".repeat(first);
        let mut empty = true;
        for word in harmless(text).split(' ') {
            if !empty && columns(&line) + 1 + columns(word) > width {
                lines.push(std::mem::replace(&mut line, " ".repeat(rest)));
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        lines.push(line);
        lines
    }
}

/// What a schedule does next, and whether it kept its word.
fn schedule_line(schedule: &ScheduleStatus, now: DateTime<Utc>) -> String {
    let next = schedule
        .next
        .map_or("never".to_owned(), |next| ahead(next, now));
    let mut text = format!(
        "{next}, {}: {} {}",
        schedule.schedule, schedule.cron, schedule.timezone
    );
    if let Some(rpo) = schedule.rpo {
        let rpo = humantime::format_duration(std::time::Duration::from_secs(rpo));
        // Writing to a string cannot fail.
        let _ = write!(text, ", backups no older than {rpo}");
    }
    match &schedule.late[..] {
        [] => text.push_str(", in time"),
        late => {
            let names: Vec<&str> = late.iter().map(|late| late.repository.as_str()).collect();
            let _ = write!(text, ", LATE in {}", names.join(", "));
        }
    }
    if let Some(run) = &schedule.last_run {
        let how = match run.outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Partial => "was partial",
            Outcome::Failed => "FAILED",
        };
        let _ = write!(text, "; last run {how} {}", age(run.started, now));
    }
    text
}

fn word(state: State) -> &'static str {
    match state {
        State::Protected => "protected",
        State::Overdue => "OVERDUE",
        State::Unprotected => "UNPROTECTED",
        State::Unknown => "NOT KNOWN",
        State::Covered => "covered",
        State::LeftOut => "left out",
        State::Optional => "not included",
    }
}

fn mark(state: State) -> char {
    match state {
        State::Protected => '✓',
        State::Overdue | State::Unprotected => '✗',
        State::Unknown => '?',
        State::Covered => '↑',
        State::LeftOut | State::Optional => '-',
    }
}

/// A time to come: `in 3 hours`.
fn ahead(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    match age(now, then.max(now)).strip_suffix(" ago") {
        Some(span) => format!("in {span}"),
        None => "now".to_owned(),
    }
}

/// Sizes as blocks, from nothing to the largest, and the first and the last in words.
fn picture(growth: &Growth) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let sizes = &growth.recent;
    let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else {
        return "none complete".to_owned();
    };
    let largest = sizes.iter().copied().max().unwrap_or(0).max(1);
    let block = |bytes: &u64| {
        let place = u128::from(*bytes) * 8 / (u128::from(largest) + 1);
        usize::try_from(place)
            .ok()
            .and_then(|place| BLOCKS.get(place))
            .copied()
            .unwrap_or('█')
    };
    let blocks: String = sizes.iter().map(block).collect();
    match sizes.len() {
        1 => format!("{blocks}  {}", size(*last)),
        _ => format!("{blocks}  {} → {}", size(*first), size(*last)),
    }
}

/// A source's name; of an anonymous volume's 64 digits as many as `docker ps` shows of a container's.
fn short(name: &str) -> String {
    match name.split_once("volume/") {
        Some(("", digits))
            if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            format!("volume/{}…", &digits[..12])
        }
        _ => harmless(name),
    }
}

/// How many columns plain text takes. Wide characters are counted as one: names hardly have them.
fn columns(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

/// A painted line without what would not fit.
pub(super) fn cut(line: &str, width: usize) -> String {
    let mut shown = String::new();
    let (mut column, mut escape) = (0, false);
    for c in line.chars() {
        match (c, escape) {
            ('\u{1b}', _) => escape = true,
            ('m', true) => {
                escape = false;
                shown.push(c);
                continue;
            }
            (_, false) => column += 1,
            _ => {}
        }
        // What ends a colour is kept wherever it stands.
        if escape || column <= width {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn sizes_are_drawn_from_nothing_to_the_largest() {
        let growth = |recent: &[u64]| Growth {
            stack: "shop".to_owned(),
            backups: recent.len(),
            stored_size: recent.iter().sum(),
            recent: recent.to_vec(),
        };
        assert_eq!(picture(&growth(&[0, 500, 1000])), "▁▄█  0 B → 1.0 kB");
        assert_eq!(picture(&growth(&[u64::MAX])), "█  18447 PB");
        assert_eq!(picture(&growth(&[])), "none complete");
        assert_eq!(picture(&growth(&[0])), "▁  0 B");
    }

    #[test]
    fn a_time_to_come_is_told_as_one() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(ahead(now + TimeDelta::hours(9), now), "in 9 hours");
        assert_eq!(ahead(now - TimeDelta::hours(9), now), "in 0 seconds");
    }

    #[test]
    fn a_line_is_cut_by_what_is_seen_of_it() {
        assert_eq!(cut("plain", 3), "pla");
        assert_eq!(
            cut("\u{1b}[1mbold\u{1b}[0m end", 4),
            "\u{1b}[1mbold\u{1b}[0m"
        );
        assert_eq!(cut("✓ ok", 20), "✓ ok");
    }

    fn found() -> Status {
        Status {
            at: DateTime::UNIX_EPOCH,
            problems: vec![Problem {
                severity: Severity::Unprotected,
                stack: Some("shop".to_owned()),
                message: format!("postgres/db: {}", "not in any backup ".repeat(9)),
                hint: Some("make \u{1b}[2J one".to_owned()),
            }],
            stacks: Vec::new(),
            loose: Vec::new(),
            elsewhere: vec!["other".to_owned()],
            repositories: Vec::new(),
        }
    }

    #[test]
    fn lines_fit_and_nothing_from_outside_moves_the_cursor() {
        for width in [80, 100, 200] {
            let lines = Screen {
                colour: false,
                width,
            }
            .draw(&found());
            for line in &lines {
                assert!(columns(line) <= width.min(WIDEST), "{width}: {line}");
                assert!(!line.contains('\u{1b}'), "{line:?}");
            }
            assert!(lines[0].starts_with("NOT SAFE"), "{}", lines[0]);
            assert!(lines.len() > 6, "long lines are wrapped: {lines:#?}");
        }
        let painted = Screen {
            colour: true,
            width: 100,
        }
        .draw(&found());
        assert!(painted[0].contains("\u{1b}[1;31m"), "{}", painted[0]);
        assert!(!painted.join("").contains("\u{1b}[2J"));
    }

    #[test]
    fn anonymous_volumes_are_cut_as_docker_does() {
        let digits = "65e779a944ce99983f5342af8141afd702ec7c2c9298dfbcbba4741a26008fbb";
        assert_eq!(short(&format!("volume/{digits}")), "volume/65e779a944ce…");
        assert_eq!(short("volume/files"), "volume/files");
    }
}

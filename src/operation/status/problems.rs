//! What is wrong with a stack, in words: pure, the time is an argument.

use super::coverage::{counts, is_from_the_future};
use super::judge::{Found, Judge};
use super::report::{
    BackupSeen, Problem, ProofSeen, ScheduleStatus, Severity, SourceStatus, State,
};
use crate::event::Outcome;
use crate::stack::decode;
use chrono::{DateTime, TimeDelta, Utc};

/// How old a backup of a stack without a schedule may be before a word is said: a day, and time for a run.
const UNSCHEDULED: TimeDelta = TimeDelta::hours(26);

/// How late a drill may be: it takes its time.
const GRACE: TimeDelta = TimeDelta::hours(2);

impl Judge<'_> {
    fn problem(&self, severity: Severity, message: impl Into<String>) -> Problem {
        Problem::of(severity, self.stack, message)
    }

    /// What no backup has.
    pub(super) fn gaps(&self, sources: &[SourceStatus]) -> Vec<Problem> {
        let of_state = |state| sources.iter().filter(move |source| source.state == state);
        let mut problems = Vec::new();
        let needed = sources.iter().filter(|source| {
            !matches!(
                source.state,
                State::Covered | State::LeftOut | State::Optional
            )
        });
        let nothing =
            needed.clone().count() > 1 && needed.clone().all(|source| source.backup.is_none());
        if nothing && of_state(State::Unprotected).next().is_some() {
            let message = format!("nothing of {} is in any complete backup", self.stack);
            problems.push(
                self.problem(Severity::Unprotected, message)
                    .hint(format!("lifeboat backup {}", self.stack)),
            );
            return problems;
        }
        for source in of_state(State::Unprotected) {
            problems.push(self.gap(source));
        }
        let unknown: Vec<&str> = of_state(State::Unknown)
            .map(|source| source.name.as_str())
            .collect();
        if !unknown.is_empty() {
            let message = format!(
                "whether {} is protected is not known: not every repository could be read",
                unknown.join(", ")
            );
            problems.push(self.problem(Severity::Unknown, message));
        }
        problems
    }

    fn gap(&self, source: &SourceStatus) -> Problem {
        // Encoded names hold no slash, and a service may be called db.
        let databases: Vec<String> = source
            .missing
            .iter()
            .filter_map(|name| decode(name.rsplit_once("/db/")?.1))
            .collect();
        let is_new = source.backup.is_some() && !databases.is_empty();
        let what = match (is_new, &databases[..]) {
            (true, [one]) => format!("database {one} of {}", source.name),
            (true, several) => format!("databases {} of {}", several.join(", "), source.name),
            (false, _) => source.name.clone(),
        };
        let stale = source.backup.as_ref().filter(|_| databases.is_empty());
        let message = match stale {
            Some(backup) => format!(
                "{what} was last in {}, and not in the newest backup of the stack",
                backup.backup
            ),
            None => format!("{what}: not in any complete backup yet"),
        };
        let only: String = match (self.newest().is_some(), &source.missing[..]) {
            // Whoever has no backup yet wants one of everything.
            (false, _) => String::new(),
            (true, missing) if is_new || missing.len() == 1 => {
                format!(" --only {}", missing.join(" --only "))
            }
            (true, _) => format!(" --only {}", source.name),
        };
        let hint = format!(
            "lifeboat backup {}{only}; or leave it out with exclude in lifeboat.toml",
            self.stack
        );
        self.problem(Severity::Unprotected, message).hint(hint)
    }

    /// What schedules should have made.
    pub(super) fn late(&self, schedules: &[ScheduleStatus], found: &[Found<'_>]) -> Vec<Problem> {
        // Where there is no backup at all that is said already.
        let nothing = !found.is_empty() && found.iter().all(|found| found.oldest().is_none());
        let mut problems = Vec::new();
        for schedule in schedules.iter().filter(|_| !nothing) {
            let failure = schedule
                .last_run
                .as_ref()
                .filter(|run| run.outcome == Outcome::Failed);
            let failure = failure.and_then(|run| run.error.as_deref());
            for late in &schedule.late {
                let message = match late.newest {
                    None => format!(
                        "{} should have made a backup in {}, which has none",
                        schedule.schedule, late.repository
                    ),
                    Some(newest) => format!(
                        "{} is late: the newest complete backup in {} is from {}",
                        schedule.schedule,
                        late.repository,
                        minute(newest)
                    ),
                };
                let hint = match failure {
                    Some(error) => format!("its last run failed: {error}"),
                    None => format!(
                        "a newer one was wanted by {}; does anything run the schedule? lifeboat backup {} makes one now",
                        minute(late.since),
                        self.stack
                    ),
                };
                problems.push(self.problem(Severity::Overdue, message).hint(hint));
            }
        }
        problems
    }

    /// What is older than the caller allows.
    pub(super) fn too_old(
        &self,
        sources: &[SourceStatus],
        newest: Option<&BackupSeen>,
    ) -> Option<Problem> {
        let max = humantime::format_duration(self.max_age?).to_string();
        let old: Vec<&SourceStatus> = sources
            .iter()
            .filter(|source| matches!(source.state, State::Overdue))
            .filter(|source| {
                source
                    .backup
                    .as_ref()
                    .is_some_and(|backup| self.is_too_old(backup.started))
            })
            .collect();
        let message = match (&old[..], newest) {
            ([], Some(newest)) if sources.is_empty() && self.is_too_old(newest.started) => {
                format!(
                    "the newest complete backup is from {}, over {max} ago",
                    minute(newest.started)
                )
            }
            ([], _) => return None,
            (old, _) => {
                let names: Vec<&str> = old.iter().map(|source| source.name.as_str()).collect();
                format!(
                    "the newest backup of {} is over {max} old",
                    names.join(", ")
                )
            }
        };
        Some(
            self.problem(Severity::Overdue, message)
                .hint(format!("lifeboat backup {}", self.stack)),
        )
    }

    /// Backups that look new and do not count.
    pub(super) fn odd_backups(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for kept in self.kept {
            let entries = kept.entries(self.stack);
            let newer = entries.iter().take_while(|entry| !counts(entry, self.now));
            for entry in newer {
                let reference = entry.reference();
                let place = &kept.name;
                let (message, hint) = if let Some(reason) = &entry.damaged {
                    (
                        format!("{reference} in {place} is damaged and does not count: {reason}"),
                        format!("lifeboat verify {reference} says more; make a new backup"),
                    )
                } else if is_from_the_future(entry, self.now) {
                    (
                        format!("{reference} in {place} is from the future and does not count"),
                        "compare the clocks of the machines that write backups with this one's"
                            .to_owned(),
                    )
                } else {
                    (
                        format!("{reference} in {place} is partial and does not count"),
                        format!("lifeboat show {reference} says what is missing"),
                    )
                };
                problems.push(self.problem(Severity::Warning, message).hint(hint));
            }
        }
        // Many of one kind say no more than a few.
        problems.truncate(3);
        problems
    }

    /// Last runs that failed, unless a complete backup came after them.
    pub(super) fn failed_runs(
        &self,
        schedules: &[ScheduleStatus],
        newest: Option<&BackupSeen>,
    ) -> Vec<Problem> {
        let runs = schedules
            .iter()
            .filter_map(|schedule| Some((schedule, schedule.last_run.as_ref()?)));
        runs.filter(|(_, run)| run.outcome != Outcome::Succeeded)
            .filter(|(_, run)| newest.is_none_or(|newest| newest.started <= run.started))
            .map(|(schedule, run)| {
                let how = match run.outcome {
                    Outcome::Partial => "was partial",
                    _ => "failed",
                };
                let why = run.error.as_ref().map(|error| format!(": {error}"));
                let message = format!(
                    "the last run of {} {how} at {}{}",
                    schedule.schedule,
                    minute(run.started),
                    why.unwrap_or_default()
                );
                let problem = self.problem(Severity::Warning, message);
                match &run.hint {
                    Some(hint) => problem.hint(hint.clone()),
                    None => problem,
                }
            })
            .collect()
    }

    /// A stack that nothing will back up again, and a schedule whose stack is not there.
    pub(super) fn unscheduled(
        &self,
        sources: &[SourceStatus],
        newest: Option<&BackupSeen>,
    ) -> Option<Problem> {
        if self.engine_known && self.present.is_none() && !self.schedules.is_empty() {
            let names: Vec<&str> = self
                .schedules
                .iter()
                .map(|one| one.planned.schedule.name.as_str())
                .collect();
            let message = format!(
                "{} is not on this engine, and {} is to back it up",
                self.stack,
                names.join(", ")
            );
            return Some(
                self.problem(Severity::Warning, message)
                    .hint("start the stack, or remove the schedule's file"),
            );
        }
        let old = newest.is_some_and(|newest| self.now - newest.started > UNSCHEDULED);
        let holds_something = sources
            .iter()
            .any(|source| source.state == State::Protected);
        (self.schedules.is_empty() && old && holds_something).then(|| {
            self.problem(
                Severity::Warning,
                "no schedule: nothing will make a newer backup",
            )
            .hint("lifeboat init writes one; --max-age SPAN makes an old backup an error")
        })
    }

    /// Drills that should have passed.
    pub(super) fn late_drills(&self, proof: Option<&ProofSeen>) -> Vec<Problem> {
        let drills = self.schedules.iter().filter_map(|planned| {
            let schedule = &planned.planned.schedule;
            Some((schedule, schedule.drill.as_ref()?))
        });
        drills
            .filter_map(|(schedule, drill)| {
                let due = drill.calendar.last_before(self.now - GRACE)?;
                if proof.is_some_and(|proof| proof.at >= due) {
                    return None;
                }
                let message = format!(
                    "no drill of {} has passed since {}",
                    schedule.name,
                    minute(due)
                );
                Some(self.problem(Severity::Warning, message))
            })
            .collect()
    }
}

/// A time for people, to the minute.
fn minute(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M UTC").to_string()
}

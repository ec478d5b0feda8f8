//! What becomes of what there is and what is kept: who is protected, and what is wrong. Pure: the time is an argument.

use super::coverage::{Census, counts, is_whole, newest};
use super::kept::Kept;
use super::present::{Present, Role, Source};
use super::report::{
    BackupSeen, Late, NextRun, Problem, ProofSeen, ScheduleStatus, SourceStatus, StackStatus, State,
};
use crate::event::RunSummary;
use crate::repository::Entry;
use crate::schedule::{Calendar, Schedule};
use crate::stack::ArtifactName;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// A schedule, and where its backups go.
#[derive(Debug, Clone)]
pub struct PlannedSchedule {
    /// It.
    pub schedule: Schedule,
    /// The addresses of its repositories that are looked at.
    pub repositories: Vec<String>,
}

/// A schedule with what is known of its last run.
pub(super) struct Planned<'a> {
    pub planned: &'a PlannedSchedule,
    pub last_run: Option<RunSummary>,
}

/// What a stack is judged by.
pub(super) struct Judge<'a> {
    pub stack: &'a str,
    /// `None` where it is not on the engine, or the engine could not be asked.
    pub present: Option<&'a Present>,
    pub engine_known: bool,
    pub schedules: Vec<Planned<'a>>,
    pub kept: &'a [Kept],
    pub max_age: Option<Duration>,
    pub now: DateTime<Utc>,
}

/// The newest backup of something in one repository.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    reference: String,
    pub started: DateTime<Utc>,
    hidden: bool,
}

/// A source, and the newest backup of each of its artifacts in each repository.
pub(super) struct Found<'a> {
    source: &'a Source,
    artifacts: Vec<(&'a ArtifactName, Vec<Option<Seen>>)>,
}

impl Found<'_> {
    /// The artifacts that no repository has.
    fn missing(&self) -> Vec<String> {
        let lacking = self
            .artifacts
            .iter()
            .filter(|(_, seen)| best(seen).is_none());
        lacking.map(|(name, _)| name.to_string()).collect()
    }

    /// The oldest of the artifacts' newest backups: all of the source is at least as new.
    pub(super) fn oldest(&self) -> Option<&Seen> {
        let newest = self.artifacts.iter().filter_map(|(_, seen)| best(seen));
        newest.min_by_key(|seen| seen.started)
    }
}

fn best(seen: &[Option<Seen>]) -> Option<&Seen> {
    seen.iter().flatten().max_by_key(|seen| seen.started)
}

/// Judges a stack.
pub(super) fn judge(judge: &Judge<'_>) -> (StackStatus, Vec<Problem>) {
    let sources = judge.present.map_or(&[][..], |present| &present.sources);
    let found: Vec<Found<'_>> = judge.find(sources);
    let mut problems: Vec<Problem> = judge
        .present
        .map(|present| present.problems.clone())
        .unwrap_or_default();
    let newest = judge.newest();
    let schedules: Vec<ScheduleStatus> = judge
        .schedules
        .iter()
        .map(|planned| judge.schedule(planned, &found))
        .collect();
    let sources: Vec<SourceStatus> = judge.sources(sources, &found, &schedules);
    problems.extend(judge.gaps(&sources));
    problems.extend(judge.late(&schedules, &found));
    problems.extend(judge.too_old(&sources, newest.as_ref()));
    problems.extend(judge.odd_backups());
    problems.extend(judge.failed_runs(&schedules, newest.as_ref()));
    problems.extend(judge.unscheduled(&sources, newest.as_ref()));
    let proof = judge.proof();
    problems.extend(judge.late_drills(proof.as_ref()));
    let next = schedules
        .iter()
        .filter_map(|one| {
            Some(NextRun {
                schedule: one.schedule.clone(),
                at: one.next?,
            })
        })
        .min_by_key(|next| next.at);
    let status = StackStatus {
        stack: judge.stack.to_owned(),
        present: judge.engine_known.then_some(judge.present.is_some()),
        newest,
        proof,
        next,
        schedules,
        sources,
    };
    (status, problems)
}

/// When the next run begins: one that was due may still wait for its jitter to pass.
pub(super) fn next_run(
    calendar: &Calendar,
    name: &str,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let waiting = calendar
        .last_before(now)
        .map(|due| calendar.begins(name, due))
        .filter(|begins| *begins > now);
    waiting.or_else(|| {
        calendar
            .next_after(now)
            .map(|due| calendar.begins(name, due))
    })
}

impl Judge<'_> {
    fn entries(&self) -> impl Iterator<Item = (&Kept, &Entry)> {
        let of_stack = |kept| {
            Kept::entries(kept, self.stack)
                .iter()
                .map(move |entry| (kept, entry))
        };
        self.kept.iter().flat_map(of_stack)
    }

    /// Looks for every artifact in every repository.
    fn find<'s>(&self, sources: &'s [Source]) -> Vec<Found<'s>> {
        let kept = || sources.iter().filter(|source| source.role == Role::Kept);
        let census = Census::of(kept().flat_map(|source| &source.artifacts));
        kept()
            .map(|source| Found {
                source,
                artifacts: source
                    .artifacts
                    .iter()
                    .map(|name| {
                        let seen = self.kept.iter().map(|kept| self.seen(kept, name, &census));
                        (name, seen.collect())
                    })
                    .collect(),
            })
            .collect()
    }

    fn seen(&self, kept: &Kept, artifact: &ArtifactName, census: &Census) -> Option<Seen> {
        // A volume that several stacks have mounted is in the backups of each, under its own name.
        let is_of_stack = artifact.service().is_some();
        let none = Census::default();
        kept.stacks
            .iter()
            .filter(|(stack, _)| *stack == self.stack || !is_of_stack)
            .filter_map(|(stack, entries)| {
                let own = stack == self.stack;
                let (entry, hidden) = newest(
                    entries,
                    artifact,
                    if own { census } else { &none },
                    self.now,
                )?;
                (own || !hidden).then(|| Seen {
                    reference: entry.reference(),
                    started: entry.id.started(),
                    hidden,
                })
            })
            .max_by_key(|seen| seen.started)
    }

    /// The newest complete backup of the whole stack; of a part of it where there is none.
    pub(super) fn newest(&self) -> Option<BackupSeen> {
        let counting = || self.entries().filter(|(_, entry)| counts(entry, self.now));
        let by_time = |(_, entry): &(&Kept, &Entry)| entry.id.clone();
        let (_, entry) = counting()
            .filter(|(_, entry)| is_whole(entry))
            .max_by_key(by_time)
            .or_else(|| counting().max_by_key(by_time))?;
        let same = counting().filter(|(_, other)| other.id == entry.id);
        Some(BackupSeen {
            backup: entry.reference(),
            started: entry.id.started(),
            repositories: same.map(|(kept, _)| kept.name.clone()).collect(),
        })
    }

    fn proof(&self) -> Option<ProofSeen> {
        let proofs = self.entries().flat_map(|(_, entry)| {
            let proofs = entry.proofs.iter();
            proofs.map(|at| ProofSeen {
                backup: entry.reference(),
                at: *at,
            })
        });
        proofs
            .filter(|proof| proof.at <= self.now)
            .max_by_key(|proof| proof.at)
    }

    fn schedule(&self, planned: &Planned<'_>, found: &[Found<'_>]) -> ScheduleStatus {
        let PlannedSchedule {
            schedule,
            repositories,
        } = planned.planned;
        let places = self.kept.iter().enumerate();
        let late = places
            .filter(|(_, kept)| kept.is_known() && repositories.contains(&kept.address))
            .filter_map(|(place, kept)| {
                let newest = self.newest_of(schedule, place, found);
                Some(Late {
                    repository: kept.name.clone(),
                    since: schedule.overdue_since(newest, self.now)?,
                    newest,
                })
            })
            .collect();
        ScheduleStatus {
            schedule: schedule.name.clone(),
            cron: schedule.calendar.text().to_owned(),
            timezone: schedule.calendar.zone().to_string(),
            rpo: schedule.rpo.map(|rpo| rpo.as_secs()),
            next: next_run(&schedule.calendar, &schedule.name, self.now),
            late,
            last_run: planned.last_run.clone(),
        }
    }

    /// How new everything is that a schedule is for, in one repository: the oldest of the newest backups of what some
    /// repository has (what none has is told by itself). Where nothing of it is known, the newest complete backup.
    fn newest_of(
        &self,
        schedule: &Schedule,
        place: usize,
        found: &[Found<'_>],
    ) -> Option<DateTime<Utc>> {
        let artifacts = found.iter().flat_map(|found| &found.artifacts);
        let times: Vec<Option<DateTime<Utc>>> = artifacts
            .filter(|(name, seen)| is_for(schedule, name) && best(seen).is_some())
            .map(|(_, seen)| seen[place].as_ref().map(|seen| seen.started))
            .collect();
        if !times.is_empty() {
            return times.into_iter().min().flatten();
        }
        self.kept[place]
            .entries(self.stack)
            .iter()
            .filter(|entry| counts(entry, self.now))
            .find(|entry| is_whole(entry) || !schedule.only.is_empty())
            .map(|entry| entry.id.started())
    }

    fn sources(
        &self,
        sources: &[Source],
        found: &[Found<'_>],
        schedules: &[ScheduleStatus],
    ) -> Vec<SourceStatus> {
        let found_of = |source: &Source| {
            found
                .iter()
                .find(|found| std::ptr::eq(found.source, source))
        };
        sources
            .iter()
            .map(|source| match found_of(source) {
                Some(found) => self.kept_source(found, schedules),
                None => self.other_source(source),
            })
            .collect()
    }

    /// Something that `lifeboat backup` takes.
    fn kept_source(&self, found: &Found<'_>, schedules: &[ScheduleStatus]) -> SourceStatus {
        let source = found.source;
        let mut missing = found.missing();
        let oldest = found.oldest();
        let mut notes = source.notes.clone();
        let is_scheduled = self.schedules.iter().any(|planned| {
            let mut artifacts = source.artifacts.iter();
            artifacts.any(|name| is_for(&planned.planned.schedule, name))
        });
        if missing.is_empty() && !is_scheduled {
            missing = self.left_behind(found);
        }
        let hidden = found.artifacts.iter().filter_map(|(_, seen)| best(seen));
        if hidden.into_iter().any(|seen| seen.hidden) {
            notes.push("names hidden, told by their number".to_owned());
        }
        if !missing.is_empty() && source.artifacts.len() > missing.len() {
            notes.push(format!("{} in no backup", missing.len()));
        }
        let state = if !missing.is_empty() {
            match self.kept.iter().all(Kept::is_known) {
                true => State::Unprotected,
                false => State::Unknown,
            }
        } else if self.is_late(found, schedules) {
            State::Overdue
        } else {
            State::Protected
        };
        SourceStatus {
            name: source.name.clone(),
            kind: source.kind,
            state,
            backup: oldest.map(|seen| BackupSeen {
                backup: seen.reference.clone(),
                started: seen.started,
                repositories: self.repositories_of(found, seen),
            }),
            missing,
            notes,
        }
    }

    /// The repositories that have a source as new.
    fn repositories_of(&self, found: &Found<'_>, oldest: &Seen) -> Vec<String> {
        let places = self.kept.iter().enumerate();
        places
            .filter(|(place, _)| {
                let mut artifacts = found.artifacts.iter();
                artifacts.all(|(_, seen)| {
                    best(seen).is_none()
                        || seen[*place]
                            .as_ref()
                            .is_some_and(|seen| seen.started >= oldest.started)
                })
            })
            .map(|(_, kept)| kept.name.clone())
            .collect()
    }

    /// Artifacts that the newest backup of the whole stack does not have, though an older one does: without a schedule
    /// nothing says when that is too long ago.
    fn left_behind(&self, found: &Found<'_>) -> Vec<String> {
        let whole = self
            .entries()
            .filter(|(_, entry)| counts(entry, self.now) && is_whole(entry))
            .map(|(_, entry)| entry.id.started())
            .max();
        let artifacts = found.artifacts.iter();
        artifacts
            .filter(|(_, seen)| {
                best(seen)
                    .zip(whole)
                    .is_some_and(|(seen, whole)| seen.started < whole)
            })
            .map(|(name, _)| name.to_string())
            .collect()
    }

    fn is_late(&self, found: &Found<'_>, schedules: &[ScheduleStatus]) -> bool {
        let by_schedule = self
            .schedules
            .iter()
            .zip(schedules)
            .any(|(planned, status)| {
                let schedule = &planned.planned.schedule;
                let late = |place: usize| {
                    found.artifacts.iter().any(|(name, seen)| {
                        let newest = seen[place].as_ref().map(|seen| seen.started);
                        is_for(schedule, name) && schedule.overdue_since(newest, self.now).is_some()
                    })
                };
                let mut places = self.kept.iter().enumerate();
                places.any(|(place, kept)| {
                    status.late.iter().any(|one| one.repository == kept.name) && late(place)
                })
            });
        by_schedule
            || found
                .oldest()
                .is_some_and(|seen| self.is_too_old(seen.started))
    }

    pub(super) fn is_too_old(&self, started: DateTime<Utc>) -> bool {
        let age = (self.now - started).to_std().unwrap_or_default();
        self.max_age.is_some_and(|max| age > max)
    }

    /// Something that needs no backup of its own.
    fn other_source(&self, source: &Source) -> SourceStatus {
        let (state, why) = match &source.role {
            Role::Covered(by) => (State::Covered, Some(format!("by {by}"))),
            Role::LeftOut(why) => (State::LeftOut, Some((*why).to_owned())),
            Role::Kept | Role::Optional => (State::Optional, None),
        };
        let none = Census::default();
        let seen = source.artifacts.iter().flat_map(|artifact| {
            let places = self.kept.iter();
            places.filter_map(|kept| Some((kept, self.seen(kept, artifact, &none)?)))
        });
        let backup = seen
            .max_by_key(|(_, seen)| seen.started)
            .map(|(kept, seen)| BackupSeen {
                backup: seen.reference,
                started: seen.started,
                repositories: vec![kept.name.clone()],
            });
        SourceStatus {
            name: source.name.clone(),
            kind: source.kind,
            state,
            backup,
            missing: Vec::new(),
            notes: why
                .into_iter()
                .chain(source.notes.iter().cloned())
                .collect(),
        }
    }
}

/// Whether a schedule is for an artifact.
fn is_for(schedule: &Schedule, artifact: &ArtifactName) -> bool {
    schedule.only.is_empty()
        || schedule
            .only
            .iter()
            .any(|pattern| artifact.matches(pattern))
}

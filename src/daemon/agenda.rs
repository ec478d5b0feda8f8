//! What is due, of several schedules, and when to look again. Pure: the time is an argument.

use crate::schedule::{Calendar, Schedule, Work};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A run whose time has come.
#[derive(Debug, Clone)]
pub struct Due {
    /// Its schedule.
    pub schedule: Arc<Schedule>,
    /// What to do.
    pub work: Work,
    /// The time that it is the run of.
    pub at: DateTime<Utc>,
    /// How many runs before it never began.
    pub missed: u32,
    /// Whether it begins late, because nobody was there when it was due.
    pub late: bool,
}

/// The jobs of all schedules.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    jobs: BTreeMap<(String, Work), Job>,
    /// When it was last looked at.
    seen: Option<DateTime<Utc>>,
}

/// One schedule's backups, or its drills.
#[derive(Debug)]
struct Job {
    schedule: Arc<Schedule>,
    work: Work,
    /// Every run that was due up to here has had its chance; `None` where nobody knows.
    settled: Option<DateTime<Utc>>,
    /// Before this time there is nothing to do.
    wakes: Option<DateTime<Utc>>,
}

/// A clock that goes back by more than that was set.
const SET_BACK: TimeDelta = TimeDelta::hours(1);

impl Agenda {
    /// Takes the schedules as they are now. `settled` knows up to when a job's runs have had their chance; what this
    /// agenda knows itself counts more.
    pub(super) fn load(
        &mut self,
        schedules: &[Arc<Schedule>],
        settled: impl Fn(&Schedule, Work) -> Option<DateTime<Utc>>,
    ) {
        let mut known = std::mem::take(&mut self.jobs);
        for schedule in schedules {
            for work in [Work::Backup, Work::Drill] {
                if schedule.calendar_of(work).is_none() {
                    continue;
                }
                let key = (schedule.name.clone(), work);
                let settled = match known.remove(&key) {
                    Some(job) => job.settled,
                    None => settled(schedule, work),
                };
                let job = Job {
                    schedule: Arc::clone(schedule),
                    work,
                    settled,
                    wakes: None,
                };
                self.jobs.insert(key, job);
            }
        }
    }

    /// Whether it has this job already.
    pub(super) fn knows(&self, schedule: &str, work: Work) -> bool {
        self.jobs.contains_key(&(schedule.to_owned(), work))
    }

    /// The runs whose time has come; each is told once.
    pub(super) fn due(&mut self, now: DateTime<Utc>) -> Vec<Due> {
        let was_set_back = self.seen.is_some_and(|seen| now < seen - SET_BACK);
        self.seen = Some(now);
        let mut found = Vec::new();
        for job in self.jobs.values_mut() {
            if was_set_back || job.settled.is_some_and(|settled| settled > now + SET_BACK) {
                // What is settled lies in a future that comes again: only what is due from here on runs.
                job.settled = Some(now);
                job.wakes = None;
            }
            if job.wakes.is_some_and(|wakes| now < wakes) {
                continue;
            }
            let name = job.name();
            if let Some(run) = job.calendar().due(&name, job.settled, now) {
                job.settled = Some(now);
                found.push(Due {
                    schedule: Arc::clone(&job.schedule),
                    work: job.work,
                    at: run.at,
                    missed: run.missed,
                    late: run.late,
                });
            }
            job.wakes = job.calendar().next_begin(&name, now);
        }
        found.sort_by_key(|due| due.at);
        found
    }

    /// When the next run begins, of all of them; `None` where there is none.
    pub(super) fn next(&self) -> Option<DateTime<Utc>> {
        self.jobs.values().filter_map(|job| job.wakes).min()
    }

    /// When a schedule's next backup begins.
    pub(super) fn next_of(&self, schedule: &str) -> Option<DateTime<Utc>> {
        self.jobs
            .get(&(schedule.to_owned(), Work::Backup))
            .and_then(|job| job.wakes)
    }
}

impl Job {
    fn calendar(&self) -> &Calendar {
        let calendar = self.schedule.calendar_of(self.work);
        calendar.unwrap_or(&self.schedule.calendar)
    }

    /// The name by which its runs are spread.
    fn name(&self) -> String {
        self.schedule.name.clone()
    }
}

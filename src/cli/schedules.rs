//! Schedules at the edge: their files, and what a run needs of configuration and environment.

use super::environment;
use super::notify::notifier;
use super::output::Output;
use super::session::Session;
use crate::config::{read_schedule, schedule_files};
use crate::error::{Error, Kind, Result, nearest};
use crate::event::{Both, Event, Observer, Outcome, RunSummary};
use crate::notify::{Notifier, NotifyFailure};
use crate::operation::prune::PruneRequest;
use crate::operation::runs;
use crate::operation::scheduled::{self, Ready, Retention, ScheduledDrill, ScheduledRequest};
use crate::repository::Location;
use crate::schedule::{Calendar, Policies, Schedule, Work};
use chrono::{DateTime, Utc};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// A schedule file: its name and what it says.
pub(super) type Read = (String, Result<Schedule>);

impl Session {
    /// Where schedule files are: beside the configuration, else here.
    pub(super) fn schedules_folder(&self) -> PathBuf {
        let beside = self.loaded.path.as_deref().and_then(Path::parent);
        beside.unwrap_or(Path::new(".")).join("schedules")
    }

    /// Every schedule file, those that are wrong among them.
    pub(super) fn schedules(&self) -> Result<Vec<Read>> {
        let paths = schedule_files(&self.schedules_folder())?;
        let read = paths.into_iter().map(|path| {
            let name = path.file_stem().unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            (name, read_schedule(&path))
        });
        Ok(read.collect())
    }

    /// Every schedule, or the named one.
    ///
    /// # Errors
    /// Usage where one of those files is wrong, or there is none.
    pub(super) fn right_schedules(&self, only: Option<&str>) -> Result<Vec<Schedule>> {
        let folder = self.schedules_folder();
        let mut read = self.schedules()?;
        let Some(wanted) = only else {
            if read.is_empty() {
                return Err(
                    Error::usage(format!("there is no schedule in {}", folder.display()))
                        .hint("lifeboat init writes schedules/nightly.toml"),
                );
            }
            return read.into_iter().map(|(_, schedule)| schedule).collect();
        };
        if let Some(at) = read.iter().position(|(name, _)| name == wanted) {
            return Ok(vec![read.swap_remove(at).1?]);
        }
        let names: Vec<&str> = read.iter().map(|(name, _)| name.as_str()).collect();
        let close = nearest(wanted, names.iter().copied()).join(" or ");
        let error = Error::usage(format!(
            "there is no schedule {wanted:?} in {}",
            folder.display()
        ));
        Err(if !close.is_empty() {
            error.hint(format!("did you mean {close}?"))
        } else if names.is_empty() {
            error.hint("lifeboat init writes schedules/nightly.toml")
        } else {
            error.hint(format!("there are {}", names.join(", ")))
        })
    }

    /// Up to when a schedule's runs have had their chance, as far as anybody knows: by the record of this machine,
    /// else by what is in its repositories. A run that was broken off had none.
    pub(super) async fn settled(
        &self,
        schedule: &Schedule,
        work: Work,
    ) -> Result<Option<DateTime<Utc>>> {
        let Some(calendar) = schedule.calendar_of(work) else {
            return Ok(None);
        };
        let state = environment::state_folder()?;
        if let Some(last) = runs::last_of(&state, &schedule.name, work.name()) {
            let was_broken_off = last.code == Kind::Interrupted.exit_code();
            let settled = match was_broken_off {
                true => calendar.before_run(last.started),
                false => last.started,
            };
            return Ok(Calendar::believed(settled, environment::now()));
        }
        let Ok((repositories, _)) = self.repositories_of(&schedule.repositories).await else {
            return Ok(None);
        };
        let mut newest = None;
        for repository in repositories {
            let Ok(entries) = repository.list(&schedule.stack).await else {
                continue;
            };
            let of_this = match work {
                Work::Drill => entries.iter().flat_map(|one| &one.proofs).max().copied(),
                Work::Backup => entries
                    .iter()
                    .find(|entry| {
                        let commit = entry.commit.as_ref();
                        commit.is_some_and(|commit| commit.trigger == schedule.name)
                    })
                    .map(|entry| entry.id.started()),
            };
            let of_this = of_this.and_then(|at| Calendar::believed(at, environment::now()));
            newest = newest.max(of_this);
        }
        Ok(newest)
    }

    /// What is kept in the repository at `location`, by the schedules that fill it: what one of them keeps, another one
    /// must not remove.
    pub(super) fn policies_of(
        &self,
        schedules: &[Schedule],
        location: &Location,
    ) -> Result<Policies> {
        let mut filling = Vec::new();
        for schedule in schedules {
            let mut fills = schedule.repositories.is_empty();
            for named in &schedule.repositories {
                fills |= self.find(named)?.is_same_place(location);
            }
            if fills {
                filling.push(schedule);
            }
        }
        Ok(Policies::of_schedules(filling))
    }

    /// Runs a schedule once: its backup, then what its rules no longer keep. Records and tells how both ended. Never
    /// fails: what went wrong with the backup is in the summary.
    pub(super) async fn run_schedule(
        &self,
        schedule: &Schedule,
        wait: Option<Duration>,
        observer: &dyn Observer,
    ) -> RunSummary {
        let ready = self.ready(schedule, observer).await;
        let retention = match &ready {
            Ok(ready) if schedule.keep.is_some() => Some(self.retention(schedule, ready)),
            _ => None,
        };
        let request = ScheduledRequest {
            schedule,
            ready,
            wait,
            previous: previous(schedule, "backup"),
        };
        let backup = async |observer: &dyn Observer| {
            let summary = scheduled::run(request, environment::now, observer).await;
            record(&summary, observer);
            summary
        };
        let summary = self.notifying(schedule, observer, backup).await;
        // Nobody prunes what somebody may still be writing to.
        self.access.close().await;
        if let Some(retention) = retention
            && summary.outcome != Outcome::Failed
        {
            let prune = async |observer: &dyn Observer| {
                let pruned = scheduled::prune(retention, environment::now, observer).await;
                if let Some(summary) = pruned {
                    record(&summary, observer);
                }
            };
            self.notifying(schedule, observer, prune).await;
            self.access.close().await;
        }
        summary
    }

    /// Proves one of a schedule's backups. Records and tells how that ended, and never fails, as `run_schedule`.
    pub(super) async fn drill_schedule(
        &self,
        schedule: &Schedule,
        observer: &dyn Observer,
    ) -> RunSummary {
        let request = ScheduledDrill {
            schedule,
            ready: self.ready(schedule, observer).await,
            previous: previous(schedule, "drill"),
        };
        let drill = async |observer: &dyn Observer| {
            let summary = scheduled::drill(request, environment::now, observer).await;
            record(&summary, observer);
            summary
        };
        let summary = self.notifying(schedule, observer, drill).await;
        self.access.close().await;
        summary
    }

    /// Does `work` while whom the configuration names is told of it, and says whom that could not be told.
    async fn notifying<T>(
        &self,
        schedule: &Schedule,
        observer: &dyn Observer,
        work: impl AsyncFnOnce(&dyn Observer) -> T,
    ) -> T {
        let (notifier, unusable) = notifier(&self.loaded.config.notify, Some(&schedule.name));
        let done = work(&Both(observer, &notifier)).await;
        say_untold(&notifier, unusable, observer).await;
        done
    }

    /// Tells whom the configuration names of something that is no run.
    pub(super) async fn tell(&self, event: &Event, observer: &dyn Observer) {
        let (notifier, unusable) = notifier(&self.loaded.config.notify, None);
        Both(observer, &notifier).observe(event);
        say_untold(&notifier, unusable, observer).await;
    }

    /// What is to be pruned after a schedule's run: in each of its repositories, by all schedules that fill it.
    fn retention<'a>(&self, schedule: &'a Schedule, ready: &Ready) -> Retention<'a> {
        let requests = self.right_schedules(None).and_then(|schedules| {
            let repositories = ready.repositories.iter();
            let requests = repositories.map(|repository| {
                Ok(PruneRequest {
                    repository: repository.clone(),
                    stack: Some(schedule.stack.clone()),
                    policies: self.policies_of(&schedules, repository.location())?,
                    dry_run: false,
                })
            });
            requests.collect()
        });
        Retention {
            schedule,
            context: ready.context.clone(),
            requests,
            previous: previous(schedule, "prune"),
        }
    }

    async fn ready(&self, schedule: &Schedule, observer: &dyn Observer) -> Result<Ready> {
        let sources = self.sources()?;
        let (repositories, unreachable) = self.repositories_of(&schedule.repositories).await?;
        for (address, error) in &unreachable {
            observer.observe(&Event::Warning {
                message: format!("{address} is left out: {}", error.chain()),
            });
        }
        Ok(Ready {
            context: self.context_with_engine(observer).await?,
            repositories,
            unreachable,
            sources,
        })
    }

    /// Prints what a schedule's run would do.
    pub(super) async fn plan_schedule(
        &self,
        schedule: &Schedule,
        output: &Output,
    ) -> Result<ExitCode> {
        let request = ScheduledRequest {
            schedule,
            ready: self.ready(schedule, output).await,
            wait: None,
            previous: None,
        };
        let plan = scheduled::plan(request, output).await?;
        output.result("plan", &plan, &plan.to_string());
        Ok(ExitCode::SUCCESS)
    }
}

/// How a schedule's last backup from this machine ended.
pub(super) fn last_run(schedule: &Schedule) -> Result<Option<RunSummary>> {
    Ok(runs::last(&environment::state_folder()?, &schedule.name))
}

/// How a schedule's last run of an operation ended.
fn previous(schedule: &Schedule, operation: &str) -> Option<Outcome> {
    let state = environment::state_folder().ok()?;
    runs::last_of(&state, &schedule.name, operation).map(|last| last.outcome)
}

/// Keeps how a run ended. That it cannot be kept is no reason to fail.
fn record(summary: &RunSummary, observer: &dyn Observer) {
    let recorded = environment::state_folder().and_then(|state| runs::record(&state, summary));
    if let Err(error) = recorded {
        observer.observe(&Event::Warning {
            message: format!("the run is not recorded: {}", error.chain()),
        });
    }
}

/// Waits until everybody is told, and says who could not be.
async fn say_untold(notifier: &Notifier, unusable: Vec<NotifyFailure>, observer: &dyn Observer) {
    let untold = notifier.settle(notifier.patience()).await;
    for NotifyFailure { channel, reason } in unusable.into_iter().chain(untold) {
        observer.observe(&Event::Warning {
            message: format!("{channel} could not be notified: {reason}"),
        });
    }
}

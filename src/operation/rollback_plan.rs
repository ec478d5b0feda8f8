//! What a rollback undoes: the last restore in place, as far as this machine and the backup that it made first tell.

use super::Context;
use super::first_backup::BEFORE;
use super::journal::{self, Past};
use super::restore::{RestoreRequest, Target};
use super::restore_trees::TreePlanner;
use super::rollback::RollbackRequest;
use super::sources::{SourceService, SourcesByStack};
use super::standing::Standing;
use super::step::Step;
use crate::docker::quiesce::Standstill;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer};
use crate::manifest::{Artifact, BackupId};
use crate::repository::{Backup, Entry, Repository};
use crate::stack::Stack;
use std::time::Duration;

/// The restore that is undone.
pub(super) struct LastRestore<'a> {
    stack: &'a Stack,
    /// Its run; `None` where there was none.
    run: Option<String>,
    /// What this machine remembers of it.
    past: Option<Past>,
    /// Whether servers keep something of it.
    is_kept: bool,
}

/// What volumes and folders held before a restore, and where from.
pub(super) struct Archives {
    pub request: RestoreRequest,
    pub backup: Backup,
}

impl<'a> LastRestore<'a> {
    /// `of_servers` is the last restore that servers keep something of. A later one may have replaced volumes alone,
    /// which this machine remembers where it has made it, and has not undone it; it counts for `with_trees` alone.
    pub(super) fn of(
        context: &Context,
        stack: &'a Stack,
        of_servers: Option<&str>,
        with_trees: bool,
    ) -> Self {
        let past = journal::past(&context.state, &stack.name);
        let last_back = past
            .iter()
            .filter(|one| one.plan.operation == "rollback" && one.is_whole())
            .map(|one| one.plan.run.clone())
            .max();
        let of_trees = past
            .iter()
            .filter(|one| with_trees && has_replaced_trees(one) && stands(one))
            .map(|one| one.plan.run.as_str())
            .filter(|run| last_back.as_deref().is_none_or(|back| *run > back))
            .max();
        let run = of_servers.max(of_trees).map(str::to_owned);
        let past = past
            .iter()
            .find(|one| Some(&one.plan.run) == run.as_ref())
            .cloned();
        Self {
            stack,
            is_kept: run.is_some() && run.as_deref() == of_servers,
            run,
            past,
        }
    }

    /// Whether servers keep something of it.
    pub(super) fn is_of_servers(&self) -> bool {
        self.is_kept
    }

    /// Whether it has replaced volumes or folders, which hold what it has put there.
    fn is_of_trees(&self, past: &Past) -> bool {
        // All of it was taken back or none, where servers and volumes stood still together.
        has_replaced_trees(past) && (stands(past) || (self.is_kept && had_stopped_all(past)))
    }

    /// Whether it had stopped the rest of the stack. Where nobody remembers, a restore that replaced volumes counts as
    /// one of the whole stack.
    fn stopped_all(&self, has_trees: bool) -> bool {
        match &self.past {
            None => has_trees,
            Some(past) => had_stopped_all(past),
        }
    }

    /// What volumes and folders held before it; `None` where it replaced none.
    ///
    /// # Errors
    /// Where it is known that some were replaced and what they held cannot be read.
    pub(super) async fn archives(
        &self,
        open: &impl AsyncFn(Option<&str>) -> Result<Repository>,
        observer: &dyn Observer,
    ) -> Result<Option<Archives>> {
        let Some(run) = &self.run else {
            return Ok(None);
        };
        let Some(past) = &self.past else {
            return self.archives_of_stranger(run, open, observer).await;
        };
        if !self.is_of_trees(past) {
            return Ok(None);
        }
        let repository = past.plan.steps.iter().find_map(|step| match step {
            Step::BackUpFirst { repository, .. } => Some(repository.as_str()),
            _ => None,
        });
        let name = repository.unwrap_or("its repository");
        let found = async {
            let opened = open(repository).await?;
            let entry = self.find(run, &opened).await?.ok_or_else(|| {
                Error::not_found(format!("{} has no backup of it", opened.location()))
            })?;
            self.open(opened, entry).await
        };
        found.await.map(Some).map_err(|error| {
            let hint = error.hint_text().map_or_else(String::new, |hint| format!("{hint}; "));
            error
                .while_doing(format!(
                    "the restore {run} has replaced volumes or folders, and what they held is in {name}, which cannot be \
                     read, so nothing was changed"
                ))
                .hint(format!(
                    "{hint}--repository R says where it is now; --without-volumes brings back databases and Redis alone"
                ))
        })
    }

    /// Of a restore that was made elsewhere: whether it has replaced volumes, only the repository tells.
    async fn archives_of_stranger(
        &self,
        run: &str,
        open: &impl AsyncFn(Option<&str>) -> Result<Repository>,
        observer: &dyn Observer,
    ) -> Result<Option<Archives>> {
        let opened = match open(None).await {
            Ok(opened) => opened,
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => {
                observer.observe(&Event::Warning {
                    message: format!(
                        "whether the restore {run}, made on another machine, has replaced volumes, too, is not known \
                         without its repository ({}): volumes stay as they are",
                        error.chain()
                    ),
                });
                return Ok(None);
            }
        };
        match self.find(run, &opened).await? {
            Some(entry) => self.open(opened, entry).await.map(Some),
            None => Ok(None),
        }
    }

    /// The backup that the restore made first: it names it, and is younger.
    async fn find(&self, run: &str, repository: &Repository) -> Result<Option<Entry>> {
        let mut entries = repository.list(&self.stack.name).await?;
        entries.retain(|entry| entry.id.as_str() > run && entry.commit.is_some());
        // Right after it began: the oldest of them.
        for entry in entries.into_iter().rev() {
            let tags = repository.tags(&entry).await?.unwrap_or_default();
            if tags.get(BEFORE).map(String::as_str) == Some(run) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    async fn open(&self, repository: Repository, entry: Entry) -> Result<Archives> {
        let backup = repository.open_backup(&entry).await?;
        backup.check_keys(&backup.manifest().artifacts).await?;
        let request = RestoreRequest {
            repository,
            entry,
            only: Vec::new(),
            target: Target::InPlace,
            into: Some(self.stack.name.clone()),
            sources: SourcesByStack::new(),
            keep_running: true,
            health: Duration::ZERO,
            wait: None,
            dry_run: false,
        };
        Ok(Archives { request, backup })
    }
}

/// Whether volumes or folders were replaced by a run.
fn has_replaced_trees(past: &Past) -> bool {
    past.plan.operation == "restore" && past.has_done(|step| matches!(step, Step::SwapTree { .. }))
}

fn had_stopped_all(past: &Past) -> bool {
    past.plan.steps.iter().any(
        |step| matches!(step, Step::Quiesce { standstill } if !standstill.exchanges.is_empty()),
    )
}

/// Whether what a run has replaced was left in place: it has started everything again.
fn stands(past: &Past) -> bool {
    past.has_done(|step| matches!(step, Step::StartAgain { .. } | Step::Resume { .. }))
}

/// The steps of a rollback.
pub(super) struct BringingBack<'a> {
    pub context: &'a Context,
    pub request: &'a RollbackRequest,
    pub stack: &'a Stack,
    pub services: &'a [SourceService],
    pub observer: &'a dyn Observer,
    pub run: &'a BackupId,
}

impl BringingBack<'_> {
    /// `exchange` is what happens on servers.
    pub(super) async fn steps(
        &self,
        restore: &LastRestore<'_>,
        archives: Option<&Archives>,
        exchange: Vec<Step>,
    ) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let (mut swaps, mut after) = (Vec::new(), Vec::new());
        let mut standstill = Standstill::default();
        let selected: &[Artifact] =
            archives.map_or(&[], |archives| &archives.backup.manifest().artifacts);
        if let Some(archives) = archives {
            steps.extend(selected.iter().map(|artifact| Step::Verify {
                artifact: artifact.name.clone(),
            }));
            let planner = TreePlanner {
                context: self.context,
                request: &archives.request,
                backup: &archives.backup,
                selected,
                run: self.run,
                observer: self.observer,
            };
            let trees = planner.make().await?;
            steps.extend(trees.beside);
            (swaps, after, standstill) = (trees.swaps, trees.after, trees.standstill);
        }
        let servers: Vec<&str> = exchange.iter().filter_map(Step::service).collect();
        let standing = Standing {
            context: self.context,
            stack: self.stack,
            services: self.services,
            concerned: &servers,
            all: restore.stopped_all(archives.is_some()) && !self.request.keep_running,
            health: self.request.health,
        };
        swaps.extend(exchange.iter().cloned());
        steps.extend(standing.around(standstill, swaps).await?);
        steps.extend(after);
        Ok(steps)
    }
}

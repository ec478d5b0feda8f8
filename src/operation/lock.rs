//! The lock that one run holds on a stack, from its first change to its last.

use super::Context;
use super::aftermath::Aftermath;
use super::hooks::Surroundings;
use super::journal::{self, Unfinished};
use super::snapshots::Snapshots;
use super::sources::{SourceOptions, SourceService, some_image};
use super::step::Step;
use crate::docker::lock::StackLock;
use crate::error::Result;
use crate::event::{Event, Observer};
use crate::manifest::BackupId;
use crate::stack::Stack;
use std::time::Duration;

/// Who wants a stack, and what for.
pub(super) struct Claim<'a> {
    pub stack: &'a Stack,
    /// What of it can be captured.
    pub services: &'a [SourceService],
    pub options: &'a SourceOptions,
    pub observer: &'a dyn Observer,
    pub run: &'a BackupId,
    pub operation: &'static str,
    /// How long to wait for another run; none to fail at once.
    pub wait: Option<Duration>,
    /// Whoever changes nothing needs no lock.
    pub dry_run: bool,
}

impl Claim<'_> {
    /// Takes the lock and puts right what a dead run left behind; `None` for a dry run.
    ///
    /// # Errors
    /// Busy where another run holds it.
    pub(super) async fn take(&self, context: &Context) -> Result<Option<StackLock>> {
        if self.dry_run {
            return Ok(None);
        }
        context.unless_cancelled(self.lock(context)).await.map(Some)
    }

    async fn lock(&self, context: &Context) -> Result<StackLock> {
        let engine = context.engine()?;
        let owner = context.owner(self.run)?;
        let stack = self.stack.name.as_str();
        // An image that is on the engine for sure: the lock is a container, never started.
        let image = &some_image(context, self.stack).await?;
        let lock = match self.wait {
            None => engine.lock(stack, &owner, image, self.operation).await?,
            Some(wait) => {
                engine
                    .lock_waiting(stack, &owner, image, self.operation, wait)
                    .await?
            }
        };
        // What stays is swept by the next run.
        let _ = engine.sweep().await;
        let put_right = async {
            let aftermath = Aftermath {
                context,
                services: self.services,
                options: self.options,
                observer: self.observer,
            };
            aftermath.of_stack(stack).await?;
            self.put_all_right(context).await
        };
        match put_right.await {
            Ok(()) => Ok(lock),
            Err(error) => {
                release(Some(lock), self.observer).await;
                Err(error)
            }
        }
    }

    /// Puts right what dead runs from this machine left: whoever wrote their journals no longer holds the lock.
    async fn put_all_right(&self, context: &Context) -> Result<()> {
        for dead in journal::unfinished(&context.state, &self.stack.name) {
            // A drill holds no lock: it may be at work just now. What a dead one has left is swept.
            if dead.plan.operation == "drill" {
                continue;
            }
            self.put_right(context, &dead).await?;
            journal::close(&context.state, &dead.plan.run)?;
        }
        Ok(())
    }

    /// Starts what a dead run had stopped, on the files that it had found, and removes what it had begun to write.
    /// Databases need nothing of the kind:
    /// their swap is one transaction, and what was loaded beside is found by its mark.
    async fn put_right(&self, context: &Context, dead: &Unfinished) -> Result<()> {
        let run: BackupId = dead.plan.run.parse()?;
        let snapshots = Snapshots {
            context,
            services: self.services,
            options: self.options,
            run: &run,
            observer: self.observer,
        };
        let begun = dead.at.map_or(0, |at| at + 1);
        let is_there = |name: &String| self.services.iter().any(|one| one.service.name == *name);
        // What is written down on the engine, too, was put right from there, or stands.
        let is_recorded = dead.plan.steps.iter().any(
            |step| matches!(step, Step::Quiesce { standstill } if !standstill.exchanges.is_empty()),
        );
        for step in dead.plan.steps.iter().take(begun).rev() {
            let done = match step {
                // Whoever took the service out of the stack took its files along.
                Step::ReplaceFiles { service, .. } | Step::StageSnapshot { service, .. }
                    if !is_there(service) =>
                {
                    Ok(())
                }
                Step::ReplaceFiles { .. } if is_recorded => Ok(()),
                Step::ReplaceFiles {
                    service,
                    layout,
                    incoming,
                    aside,
                } => {
                    self.observer.observe(&Event::Warning {
                        message: format!(
                            "the {} {run} died at work on service {service}: putting its files back",
                            dead.plan.operation
                        ),
                    });
                    snapshots.put_back(service, layout, incoming, aside).await
                }
                Step::StageSnapshot {
                    service,
                    layout,
                    folder,
                    ..
                } => snapshots.unstage(service, layout, folder).await,
                Step::FillVolume { volume, .. } => snapshots.remove_volume(volume).await,
                _ => Ok(()),
            };
            done.map_err(|error| {
                error
                    .while_doing(format!(
                        "cannot put right what the {} {run} left: {step}",
                        dead.plan.operation
                    ))
                    .hint(format!(
                        "to give it up, remove {}",
                        journal::path(&context.state, run.as_str()).display()
                    ))
            })?;
        }
        if let Some(at) = dead.at {
            let surroundings = Surroundings {
                context,
                stack: self.stack,
                run: run.as_str(),
                outcome: Some("unknown"),
                observer: self.observer,
            };
            surroundings
                .after_death(&dead.plan.steps, at, dead.is_ours)
                .await;
        }
        Ok(())
    }
}

/// Gives the stack's lock back. What the run has done stands, whatever becomes of the lock.
pub(super) async fn release(lock: Option<StackLock>, observer: &dyn Observer) {
    let Some(lock) = lock else { return };
    if let Err(error) = lock.release().await {
        observer.observe(&Event::Warning {
            message: format!(
                "the lock could not be given back, it lapses within five minutes: {}",
                error.chain()
            ),
        });
    }
}

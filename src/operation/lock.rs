//! The lock that one run holds on a stack, from its first change to its last.

use super::{Context, journal};
use crate::docker::lock::StackLock;
use crate::error::Result;
use crate::event::{Event, Observer};
use crate::manifest::BackupId;
use std::time::Duration;

/// Who wants a stack, and what for.
pub(super) struct Claim<'a> {
    pub stack: &'a str,
    pub run: &'a BackupId,
    /// An image that is on the engine: the lock is a container, never started.
    pub image: &'a str,
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
        let lock = match self.wait {
            None => {
                engine
                    .lock(self.stack, &owner, self.image, self.operation)
                    .await?
            }
            Some(wait) => {
                engine
                    .lock_waiting(self.stack, &owner, self.image, self.operation, wait)
                    .await?
            }
        };
        // What stays is swept by the next run.
        let _ = engine.sweep().await;
        // Whoever wrote these no longer holds the lock: they are dead.
        for dead in journal::unfinished(&context.state, self.stack) {
            journal::close(&context.state, &dead.plan.run)?;
        }
        Ok(lock)
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

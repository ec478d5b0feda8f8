//! What every operation is given: the clock, random bytes, the engine, and the word to stop.

use super::helpers::HelperProgram;
use crate::docker::Engine;
use crate::docker::owner::Owner;
use crate::error::{Error, OrFail, Result};
use crate::manifest::BackupId;
use chrono::{DateTime, Utc};
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// The surroundings of an operation. Made at the edge; tests make their own.
#[derive(Debug, Clone)]
pub struct Context {
    /// What time it is.
    pub clock: fn() -> DateTime<Utc>,
    /// Cancelled by the first SIGINT or SIGTERM.
    pub cancel: CancellationToken,
    /// The engine, for operations that need one.
    pub engine: Option<Engine>,
    /// Where journals are kept. Never the only copy of anything.
    pub state: PathBuf,
    /// This machine's name, for manifests.
    pub host: String,
    /// What is run next to volumes.
    pub helper: HelperProgram,
}

impl Context {
    /// The time.
    pub fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// The engine.
    ///
    /// # Errors
    /// Where the caller brought none: an operation that needs one was asked for without.
    pub fn engine(&self) -> Result<&Engine> {
        self.engine
            .as_ref()
            .ok_or_else(|| Error::failed("this needs a Docker engine, and none is connected"))
    }

    /// An id for a run that starts now.
    pub fn new_id(&self) -> Result<BackupId> {
        let mut entropy = [0_u8; 4];
        getrandom::fill(&mut entropy).or_fail(|| "the system gives no random numbers")?;
        Ok(BackupId::new(self.now(), entropy))
    }

    /// This process, as the owner of what the run makes on the engine.
    pub fn owner(&self, run: &BackupId) -> Result<Owner> {
        Owner::current(run.as_str())
    }

    /// Runs `work` until it ends or the person stops it. Cleaning up is the caller's, afterwards: nothing
    /// that matters relies on dropping a future.
    pub async fn unless_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::interrupted()),
            result = work => result,
        }
    }
}

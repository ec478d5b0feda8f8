//! Who uses a repository in a bucket right now: the lease of the disk, without a kernel that ends it.
//!
//! Each holder writes an object of its own, with its kind in the key, and writes it again every half minute. Whoever
//! wants to remove backups writes first and looks second, and so does everyone else: of two, one at least sees the
//! other. A holder that has not written for five minutes, by the store's own clock, is dead, and is taken over. No key
//! is shared, so nothing rests on a store's refusing to create what exists. Backups are written once: that a lease
//! fails costs a run, never a backup.

use super::Bucket;
use crate::error::{Error, OrFail, Result};
use crate::repository::layout::HOLDS;
use crate::repository::open::random_hex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How holders keep their holds alive.
#[derive(Debug, Clone, Copy)]
pub(in crate::repository) struct Pace {
    /// How long a holder counts as alive after it last wrote, by the store's clock.
    pub life: Duration,
    /// How often a holder writes.
    pub beat: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            life: Duration::from_mins(5),
            beat: Duration::from_secs(30),
        }
    }
}

/// How long a writer or reader waits for a prune to end, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// What a hold keeps away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::repository) enum HoldKind {
    /// Writers and readers: keeps pruning away.
    Shared,
    /// Pruning: keeps everyone away.
    Exclusive,
}

impl HoldKind {
    fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Exclusive => "exclusive",
        }
    }
}

/// Who holds, for the message of whoever has to wait.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Owner {
    host: String,
    process: u32,
    /// Set where the holder has let go and may not remove.
    #[serde(default)]
    released: bool,
}

/// A hold on a repository in a bucket; it is kept alive until it is released.
#[derive(Debug)]
pub(in crate::repository) struct Hold {
    bucket: Bucket,
    key: String,
    kind: HoldKind,
    pace: Pace,
    /// `None` where nothing can be written, where nobody prunes with these credentials either.
    beat: Option<JoinHandle<()>>,
    alive: Arc<AtomicBool>,
}

/// What this process holds. One shared hold serves all that it does in one repository.
#[derive(Debug, Default)]
pub(in crate::repository) struct Holds {
    pace: Pace,
    shared: tokio::sync::Mutex<HashMap<String, Weak<Hold>>>,
    all: Mutex<Vec<Arc<Hold>>>,
}

impl Holds {
    /// None yet, kept alive at another pace.
    #[cfg(test)]
    pub(in crate::repository) fn at(pace: Pace) -> Self {
        Self {
            pace,
            ..Self::default()
        }
    }

    /// A hold that keeps pruning away.
    ///
    /// # Errors
    /// Busy where a prune goes on for half a minute.
    pub(in crate::repository) async fn shared(&self, bucket: &Bucket) -> Result<Arc<Hold>> {
        let mut shared = self.shared.lock().await;
        let address = bucket.shown("");
        // One that was released, or that others take for dead, keeps nobody away.
        let known = shared.get(&address).and_then(Weak::upgrade);
        if let Some(hold) = known.filter(|hold| hold.is_alive())
            && !self.prunes(&address)
        {
            return Ok(hold);
        }
        let hold = Arc::new(self.take_shared(bucket).await?);
        shared.insert(address, Arc::downgrade(&hold));
        self.keep(&hold);
        Ok(hold)
    }

    /// A hold that keeps everyone else away.
    ///
    /// # Errors
    /// Busy where a backup is being written or read, or another prune is at work.
    pub(in crate::repository) async fn exclusive(&self, bucket: &Bucket) -> Result<Arc<Hold>> {
        // Nobody in this process takes the shared hold again before this one is known.
        let _shared = self.shared.lock().await;
        self.let_go().await;
        let hold = Hold::take(bucket, HoldKind::Exclusive, self.pace)
            .await?
            .ok_or_else(|| {
                Error::failed(format!("{} cannot be written", bucket.shown("")))
                    .hint("removing backups takes credentials that may write")
            })?;
        match hold.others(None, &self.unused()).await {
            Ok(None) => {
                let hold = Arc::new(hold);
                self.keep(&hold);
                Ok(hold)
            }
            Ok(Some(owner)) => {
                hold.release().await;
                Err(Error::busy(format!(
                    "a backup in {} is being written, read or removed by process {} on {}",
                    bucket.shown(""),
                    owner.process,
                    owner.host
                ))
                .hint("try again when that run has ended; what a dead run holds ends after five minutes"))
            }
            Err(error) => {
                hold.release().await;
                Err(error)
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Hold>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, hold: &Arc<Hold>) {
        self.all().push(Arc::clone(hold));
    }

    /// Whether this process itself prunes there right now.
    fn prunes(&self, address: &str) -> bool {
        self.all().iter().any(|hold| {
            hold.kind == HoldKind::Exclusive && hold.is_used() && hold.bucket.shown("") == address
        })
    }

    /// The keys of the holds that are kept for whatever this process does next, and that nothing uses now.
    fn unused(&self) -> Vec<String> {
        let all = self.all();
        let unused = all.iter().filter(|hold| !hold.is_used());
        unused.map(|hold| hold.key.clone()).collect()
    }

    /// Releases what kept everyone away and is over: nobody has to wait until this process ends.
    pub(in crate::repository) async fn let_go(&self) {
        let over: Vec<Arc<Hold>> = self
            .all()
            .extract_if(.., |hold| {
                hold.kind == HoldKind::Exclusive && !hold.is_used()
            })
            .collect();
        for hold in over {
            hold.release().await;
        }
    }

    /// Releases everything, however many still use it: the process is about to end.
    pub(in crate::repository) async fn release_all(&self) {
        let all = std::mem::take(&mut *self.all());
        for hold in all {
            hold.release().await;
        }
    }

    async fn take_shared(&self, bucket: &Bucket) -> Result<Hold> {
        let until = Instant::now() + PATIENCE;
        loop {
            self.let_go().await;
            let Some(hold) = Hold::take(bucket, HoldKind::Shared, self.pace).await? else {
                return Ok(Hold::none(bucket));
            };
            match hold.others(Some(HoldKind::Exclusive), &[]).await {
                Ok(None) => return Ok(hold),
                Ok(Some(_)) if Instant::now() < until => hold.release().await,
                Ok(Some(owner)) => {
                    hold.release().await;
                    return Err(Error::busy(format!(
                        "{} is being pruned by process {} on {}",
                        bucket.shown(""),
                        owner.process,
                        owner.host
                    ))
                    .hint("try again when the prune has ended"));
                }
                Err(error) => {
                    hold.release().await;
                    return Err(error);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Hold {
    fn none(bucket: &Bucket) -> Self {
        Self {
            bucket: bucket.clone(),
            key: String::new(),
            kind: HoldKind::Shared,
            pace: Pace::default(),
            beat: None,
            alive: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Writes the hold's object; `None` where the credentials may not write.
    async fn take(bucket: &Bucket, kind: HoldKind, pace: Pace) -> Result<Option<Self>> {
        let key = format!("{HOLDS}/{}-{}.json", kind.name(), random_hex()?);
        let text = owner_text(false)?;
        if !bucket.write_own(&key, &text).await? {
            return Ok(None);
        }
        let alive = Arc::new(AtomicBool::new(true));
        let again = beat(bucket.clone(), key.clone(), text, pace, Arc::clone(&alive));
        let beat = tokio::spawn(again);
        Ok(Some(Self {
            bucket: bucket.clone(),
            key,
            kind,
            pace,
            beat: Some(beat),
            alive,
        }))
    }

    /// Whether anything but [`Holds`] itself has it.
    fn is_used(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    /// Whether others still see it.
    pub(in crate::repository) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Somebody else who holds the repository, besides the keys in `own`. Clears away what the dead have left.
    async fn others(&self, kind: Option<HoldKind>, own: &[String]) -> Result<Option<Owner>> {
        let found = self.bucket.list(HOLDS).await?;
        let key_of = |name: &str| format!("{HOLDS}/{name}");
        // My own object was written this moment: its time is the store's now.
        let now = found
            .iter()
            .find(|found| key_of(&found.key) == self.key)
            .map(|found| found.modified)
            .ok_or_else(|| {
                Error::failed(format!(
                    "{} does not list what was just written",
                    self.bucket.shown("")
                ))
                .hint("this store cannot hold a repository")
            })?;
        for other in found {
            let key = key_of(&other.key);
            let wanted = kind.is_none_or(|kind| other.key.starts_with(kind.name()));
            if key == self.key || own.contains(&key) || !wanted {
                continue;
            }
            let age = now.duration_since(other.modified);
            if age.is_ok_and(|age| age > self.pace.life) {
                // Taken over. That it cannot be removed changes nothing: it is dead for everybody.
                let _ = self.bucket.remove(&key).await;
                continue;
            }
            let Some(bytes) = self.bucket.get(&key).await? else {
                continue;
            };
            let owner: Owner = serde_json::from_slice(&bytes).unwrap_or_default();
            if !owner.released {
                return Ok(Some(owner));
            }
        }
        Ok(None)
    }

    /// Ends the hold for everybody to see.
    async fn release(&self) {
        if let Some(beat) = &self.beat {
            beat.abort();
            self.alive.store(false, Ordering::Relaxed);
            let removed = self.bucket.remove(&self.key).await;
            if !matches!(removed, Ok(super::Removal::Gone))
                && let Ok(text) = owner_text(true)
            {
                // Credentials that may not remove may still write.
                let _ = self.bucket.put_over(&self.key, &text).await;
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(beat) = &self.beat {
            beat.abort();
        }
    }
}

impl Bucket {
    /// Writes a key of this process's own; `false` where the credentials may not write.
    async fn write_own(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        match self.put_over_raw(key, bytes).await? {
            Ok(()) => Ok(true),
            Err(error) if super::error::is_refusal(&error) => Ok(false),
            Err(error) => Err(super::error::explain("write", &self.shown(key), &error)),
        }
    }
}

/// Writes the hold's object again and again. Where that has failed for too long, others take it for dead.
async fn beat(bucket: Bucket, key: String, text: Vec<u8>, pace: Pace, alive: Arc<AtomicBool>) {
    let mut written = Instant::now();
    loop {
        tokio::time::sleep(pace.beat).await;
        match tokio::time::timeout(pace.beat, bucket.put_over(&key, &text)).await {
            Ok(Ok(())) => written = Instant::now(),
            // The next try may take two beats: by then it would be too late to say so.
            _ if written.elapsed() + 2 * pace.beat >= pace.life => {
                alive.store(false, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

fn owner_text(released: bool) -> Result<Vec<u8>> {
    let owner = Owner {
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        process: std::process::id(),
        released,
    };
    serde_json::to_vec(&owner).or_fail(|| "cannot write the hold")
}

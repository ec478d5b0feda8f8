//! One operation per stack, whoever shares the engine.
//!
//! The lock lives on the engine, because a daemon in a container and a command on the host share
//! an engine and not a disk. It is a container that was created and never started:
//!
//! * Its unique name, `lifeboat-lock-<stack>`, decides who has it: the engine lets one `create` of
//!   a name succeed.
//! * Its labels say who holds it and until when, by the engine's clock. Labels cannot change, so a
//!   renewal is another container, `lifeboat-lock-<stack>-<run>-<n>`, with a later deadline; the
//!   first one stays, for its name.
//! * A lock is live while any of its run's containers is: its deadline has not passed and its
//!   process is not known to be gone. A dead one is taken over.
//!
//! Two rules keep two runs from both believing that they hold it, in any order of events:
//!
//! 1. Whoever takes over removes the dead containers by id (so never somebody's new one), creates
//!    the name, and *then* looks again: if another run is live after all, it gives the lock up.
//! 2. Whoever renews creates the renewal, and *then* looks whether the name is still its own: if
//!    not, its lock is lost.
//!
//! A holder that was frozen past its deadline (a laptop that slept) either makes its renewal before
//! the other looks again, and the other gives up; or after, and then the name is the other's.

use super::owner::Owner;
use super::{Engine, Labelled, PLAIN_REQUEST, ROLE_LABEL, RUN_LABEL};
use crate::error::{Error, Result};
use bollard::models::ContainerCreateBody;
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The role label's value of a lock's containers.
pub(super) const LOCK_ROLE: &str = "lock";
/// The label with the stack that a lock or a record is about.
pub(super) const STACK_LABEL: &str = "dev.lifeboat.stack";
const OPERATION_LABEL: &str = "dev.lifeboat.operation";
const SINCE_LABEL: &str = "dev.lifeboat.since";

/// The operation that starts what dead runs have stopped, before whatever command was given.
pub const PUTTING_RIGHT: &str = "start what was stopped";
/// How long a run waits for that, also where it waits for nothing else.
const PUTTING_RIGHT_TAKES: Duration = Duration::from_mins(1);

/// How often a waiting run looks again.
const POLL: Duration = Duration::from_secs(1);

/// How long a lock lives, and how it is kept alive.
#[derive(Debug, Clone, Copy)]
pub struct LockTimes {
    /// How long it lives without being renewed.
    pub lease: Duration,
    /// How often it is renewed.
    pub renewal: Duration,
    /// How soon after a renewal that failed.
    pub retry: Duration,
}

impl Default for LockTimes {
    /// Five minutes, every minute, after ten seconds.
    fn default() -> Self {
        Self {
            lease: Duration::from_mins(5),
            renewal: Duration::from_mins(1),
            retry: Duration::from_secs(10),
        }
    }
}

/// A held lock. [`release`](Self::release) gives it back; a dropped one is no longer renewed and
/// expires.
#[derive(Debug)]
pub struct StackLock {
    lease: Lease,
    renewing: JoinHandle<()>,
    stop: watch::Sender<bool>,
    lost: watch::Receiver<bool>,
}

/// What is needed to make a lock's containers.
#[derive(Debug, Clone)]
struct Lease {
    engine: Engine,
    stack: String,
    owner: Owner,
    image: String,
    operation: String,
    times: LockTimes,
    since: DateTime<Utc>,
    /// The id of the container with the lock's name.
    id: String,
}

impl Engine {
    /// Takes the lock on a stack; an error of the kind `Busy` when another run holds it.
    ///
    /// `image` is the id of any image on this engine, which the lock's containers are made from.
    pub async fn lock(
        &self,
        stack: &str,
        owner: &Owner,
        image: &str,
        operation: &str,
    ) -> Result<StackLock> {
        self.lock_with(stack, owner, image, operation, LockTimes::default())
            .await
    }

    /// Like [`lock`](Self::lock), with times of its own.
    pub async fn lock_with(
        &self,
        stack: &str,
        owner: &Owner,
        image: &str,
        operation: &str,
        times: LockTimes,
    ) -> Result<StackLock> {
        let mut lease = Lease {
            engine: self.clone(),
            stack: stack.to_owned(),
            owner: owner.clone(),
            image: image.to_owned(),
            operation: operation.to_owned(),
            times,
            since: self.time().await?,
            id: String::new(),
        };
        // Once for a free lock, again after a dead one was cleared away; more often only where
        // others take and release it in between.
        let patience = Instant::now() + PUTTING_RIGHT_TAKES;
        let mut tries = 0;
        while tries < 5 {
            if let Some(id) = lease.create(&lease.name(), lease.since).await? {
                lease.id = id;
                return lease.confirm().await;
            }
            let now = self.time().await?;
            let held = lease.containers().await?;
            if let Some(holder) = held.iter().find(|one| !one.is_over(now)) {
                let is_brief = holder.label(OPERATION_LABEL) == PUTTING_RIGHT;
                if !is_brief || operation == PUTTING_RIGHT || Instant::now() > patience {
                    return Err(busy(stack, holder));
                }
                // Any command that comes by does that, for seconds: nobody meant to be in the way.
                tokio::time::sleep(POLL / 4).await;
                continue;
            }
            tries += 1;
            for dead in &held {
                self.remove(&dead.id).await?;
            }
            if held.is_empty() {
                // Either it was just released, or the name belongs to something else.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        Err(
            Error::busy(format!("the lock on {stack} cannot be taken")).hint(format!(
                "if no other run is under way, remove the container {}",
                lease.name()
            )),
        )
    }

    /// Like [`lock`](Self::lock), but waits so long for the lock to become free.
    pub async fn lock_waiting(
        &self,
        stack: &str,
        owner: &Owner,
        image: &str,
        operation: &str,
        wait: Duration,
    ) -> Result<StackLock> {
        let until = Instant::now() + wait;
        loop {
            match self.lock(stack, owner, image, operation).await {
                Err(error)
                    if error.kind() == crate::error::Kind::Busy
                        && Instant::now() + POLL <= until =>
                {
                    tokio::time::sleep(POLL).await;
                }
                result => return result,
            }
        }
    }
}

impl StackLock {
    /// Gives the lock back.
    pub async fn release(mut self) -> Result<()> {
        // A renewal that is under way is let finish: cut off, its container might appear after the
        // others were removed, and keep the stack locked while this process lives.
        self.stop.send_replace(true);
        if tokio::time::timeout(PLAIN_REQUEST, &mut self.renewing)
            .await
            .is_err()
        {
            self.renewing.abort();
        }
        // The name last: until then nobody else can have the lock, and sees why.
        let lease = &self.lease;
        for container in lease.containers().await? {
            if lease.is_mine(&container) && container.id != lease.id {
                lease.engine.remove(&container.id).await?;
            }
        }
        lease.engine.remove(&lease.id).await
    }

    /// Whether the lock was lost: it expired, or somebody removed its container. An operation that
    /// changes something asks before each step.
    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Waits until the lock is lost, which is for ever where all is well.
    pub async fn lost(&self) -> Error {
        let mut lost = self.lost.clone();
        if lost.wait_for(|lost| *lost).await.is_err() {
            std::future::pending::<()>().await;
        }
        Error::busy(format!("the lock on {} was lost", self.lease.stack)).hint(
            "this machine slept, the engine was away for minutes, or somebody removed the \
             container of the lock; run again",
        )
    }
}

impl Drop for StackLock {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl Lease {
    fn name(&self) -> String {
        format!("lifeboat-lock-{}", container_name(&self.stack))
    }

    /// A container of this lock; `None` when the name is taken.
    async fn create(&self, name: &str, now: DateTime<Utc>) -> Result<Option<String>> {
        let lease = TimeDelta::from_std(self.times.lease).unwrap_or(TimeDelta::MAX);
        let deadline = now.checked_add_signed(lease).unwrap_or(now);
        let mut labels = self.owner.labels(LOCK_ROLE, deadline);
        labels.extend([
            (STACK_LABEL.to_owned(), self.stack.clone()),
            (OPERATION_LABEL.to_owned(), self.operation.clone()),
            (SINCE_LABEL.to_owned(), self.since.to_rfc3339()),
        ]);
        let body = ContainerCreateBody {
            image: Some(self.image.clone()),
            // Never run; but an image without a command of its own could not be created from.
            cmd: Some(vec!["true".to_owned()]),
            network_disabled: Some(true),
            labels: Some(labels),
            ..ContainerCreateBody::default()
        };
        self.engine
            .create(name, body)
            .await
            .map_err(|error| error.while_doing(format!("cannot lock {}", self.stack)))
    }

    /// Every container of the lock on this stack, whoever made it.
    async fn containers(&self) -> Result<Vec<Labelled>> {
        let mut found = self
            .engine
            .labelled(format!("{STACK_LABEL}={}", self.stack))
            .await?;
        found.retain(|one| one.label(ROLE_LABEL) == LOCK_ROLE);
        Ok(found)
    }

    fn is_mine(&self, container: &Labelled) -> bool {
        container.label(RUN_LABEL) == self.owner.run
    }

    /// Looks again after the name was created (rule 1), then starts to renew.
    async fn confirm(self) -> Result<StackLock> {
        let now = self.engine.time().await?;
        let others = self.containers().await?;
        let other = others
            .iter()
            .find(|one| one.id != self.id && !self.is_mine(one) && !one.is_over(now));
        if let Some(holder) = other {
            self.engine.remove(&self.id).await?;
            return Err(busy(&self.stack, holder));
        }
        let (tell, lost) = watch::channel(false);
        let (stop, stopped) = watch::channel(false);
        let renewing = tokio::spawn(renew(self.clone(), tell, stopped));
        Ok(StackLock {
            lease: self,
            renewing,
            stop,
            lost,
        })
    }

    /// One renewal; false when the lock is no longer ours (rule 2).
    async fn renew(&self, number: u64, previous: &mut Option<String>) -> Result<bool> {
        let name = format!(
            "{}-{}-{number}",
            self.name(),
            container_name(&self.owner.run)
        );
        let now = self.engine.time().await?;
        let Some(id) = self.create(&name, now).await? else {
            // Made by an attempt whose answer was lost.
            let known = self.containers().await?;
            let found = known.into_iter().find(|one| one.named(&name));
            if let Some(old) = found {
                self.engine.remove(&old.id).await?;
            }
            return Err(Error::failed("a renewal of that name exists"));
        };
        if !self.engine.exists(&self.id).await? {
            self.engine.remove(&id).await?;
            return Ok(false);
        }
        if let Some(old) = previous.replace(id) {
            self.engine.remove(&old).await?;
        }
        Ok(true)
    }
}

/// Renews until the lock is released or lost.
async fn renew(lease: Lease, tell: watch::Sender<bool>, mut stop: watch::Receiver<bool>) {
    let mut previous = None;
    let LockTimes {
        lease: lifetime,
        renewal,
        retry,
    } = lease.times;
    let mut pause = renewal;
    let mut number = 1;
    let mut valid_until = Instant::now() + lifetime;
    loop {
        if tokio::time::timeout(pause, stop.wait_for(|stop| *stop))
            .await
            .is_ok()
        {
            return;
        }
        let asked = Instant::now();
        let renewed =
            tokio::time::timeout_at(valid_until, lease.renew(number, &mut previous)).await;
        match renewed {
            Ok(Ok(true)) => {
                number += 1;
                pause = renewal;
                valid_until = asked + lifetime;
            }
            Ok(Err(_)) if Instant::now() + retry < valid_until => pause = retry,
            _ => {
                tell.send_replace(true);
                return;
            }
        }
    }
}

fn busy(stack: &str, holder: &Labelled) -> Error {
    let who = Owner::of(holder).map_or_else(
        || "somebody".to_owned(),
        |owner| format!("process {} on {}", owner.pid, owner.host),
    );
    Error::busy(format!(
        "{stack} is locked by {who} for {} since {} (run {})",
        holder.label(OPERATION_LABEL),
        holder.label(SINCE_LABEL),
        holder.label(RUN_LABEL)
    ))
    .hint("wait for it, or use --wait; a lock whose process died frees itself within 5 minutes")
}

/// `text` as a part of a container's name, which may hold `A-Za-z0-9_.-` only. No two texts have
/// the same one: an underscore is doubled, every other byte becomes `_` and two digits.
fn container_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' => name.push(char::from(byte)),
            b'_' => name.push_str("__"),
            other => {
                name.push('_');
                name.push_str(&hex::encode([other]));
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_names_are_legal_and_unlike() {
        assert_eq!(container_name("procgenie-prod.1"), "procgenie-prod.1");
        assert_eq!(container_name("a_2f"), "a__2f");
        assert_eq!(container_name("a/"), "a_2f");
        assert_eq!(container_name("é"), "_c3_a9");
    }
}

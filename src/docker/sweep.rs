//! Removes what a killed run left on the engine.

use super::image::HELPER_ROLE;
use super::lock::LOCK_ROLE;
use super::quiesce::QUIESCED_ROLE;
use super::scratch::SCRATCH_ROLE;
use super::{Engine, Labelled, ROLE_LABEL, RUN_LABEL};
use crate::error::Result;
use chrono::{DateTime, Utc};

impl Engine {
    /// Removes lifeboat's own containers, and its throwaway volumes, whose deadline has passed by the engine's
    /// clock, or whose process is known to be gone. Gives the number that were removed.
    pub async fn sweep(&self) -> Result<usize> {
        let now = self.time().await?;
        let ours = self.labelled(ROLE_LABEL.to_owned()).await?;
        let mut removed = 0;
        for container in ours.iter().filter(|one| is_leftover(one, &ours, now)) {
            self.remove(&container.id).await?;
            removed += 1;
        }
        Ok(removed + self.sweep_volumes(now).await?)
    }

    /// Removes the scratch containers and helpers of one run, which is known to be at its end.
    pub async fn end_scratches(&self, run: &str) -> Result<()> {
        let ours = self.labelled(format!("{RUN_LABEL}={run}")).await?;
        for container in ours
            .iter()
            .filter(|one| [SCRATCH_ROLE, HELPER_ROLE].contains(&one.label(ROLE_LABEL)))
        {
            self.remove(&container.id).await?;
        }
        Ok(())
    }
}

/// A lock lives as long as any container of its run does: the first one keeps the name and is never
/// renewed itself.
fn is_leftover(container: &Labelled, all: &[Labelled], now: DateTime<Utc>) -> bool {
    // What a dead run has stopped is started first; the record goes with that.
    if container.label(ROLE_LABEL) == QUIESCED_ROLE {
        return false;
    }
    if container.label(ROLE_LABEL) != LOCK_ROLE {
        return container.is_over(now);
    }
    all.iter()
        .filter(|other| {
            other.label(ROLE_LABEL) == LOCK_ROLE
                && other.label(RUN_LABEL) == container.label(RUN_LABEL)
        })
        .all(|other| other.is_over(now))
}

#[cfg(test)]
mod tests {
    use super::super::DEADLINE_LABEL;
    use super::*;
    use chrono::TimeDelta;

    fn container(role: &str, run: &str, deadline: DateTime<Utc>) -> Labelled {
        let labels = [
            (ROLE_LABEL, role.to_owned()),
            (RUN_LABEL, run.to_owned()),
            (DEADLINE_LABEL, deadline.to_rfc3339()),
        ];
        Labelled {
            id: String::new(),
            image: String::new(),
            names: Vec::new(),
            labels: labels.map(|(name, value)| (name.to_owned(), value)).into(),
        }
    }

    #[test]
    fn a_renewed_lock_is_kept_whole() {
        let now = DateTime::UNIX_EPOCH;
        let (past, future) = (now - TimeDelta::seconds(1), now + TimeDelta::seconds(1));
        let all = [
            container(LOCK_ROLE, "a", past),
            container(LOCK_ROLE, "a", future),
            container(LOCK_ROLE, "b", past),
            container("scratch", "a", past),
            container("scratch", "a", future),
            container(QUIESCED_ROLE, "b", past),
        ];
        let leftovers: Vec<bool> = all.iter().map(|one| is_leftover(one, &all, now)).collect();
        assert_eq!(leftovers, [false, false, true, true, false, false]);
    }
}

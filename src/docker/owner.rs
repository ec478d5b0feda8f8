//! Which process made something on the engine, and whether it still lives.

use super::{DEADLINE_LABEL, Labelled, ROLE_LABEL, RUN_LABEL};
use crate::error::{OrFail, Result};
use chrono::{DateTime, SecondsFormat, Utc};
use std::collections::HashMap;

const HOST_LABEL: &str = "dev.lifeboat.owner.host";
const BOOT_LABEL: &str = "dev.lifeboat.owner.boot";
const NAMESPACE_LABEL: &str = "dev.lifeboat.owner.pid-namespace";
const PID_LABEL: &str = "dev.lifeboat.owner.pid";
const STARTED_LABEL: &str = "dev.lifeboat.owner.started";

/// One process on one machine, told apart from every later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The run's id.
    pub run: String,
    /// The machine's name, for people.
    pub host: String,
    /// The kernel's id of this boot: another one means that every process is gone.
    pub boot_id: String,
    /// The namespace that gives the process id its meaning. A daemon in a container and a command
    /// on its host share a boot, but not their process ids.
    pub pid_namespace: String,
    /// The process id.
    pub pid: u32,
    /// When the process started, in clock ticks since boot: process ids are used again.
    pub started: u64,
}

impl Owner {
    /// This process, in the run with this id.
    pub fn current(run: impl Into<String>) -> Result<Self> {
        let read = |path: &str| {
            std::fs::read_to_string(path)
                .or_fail(|| format!("cannot read {path}"))
                .map(|text| text.trim().to_owned())
        };
        let pid = std::process::id();
        Ok(Self {
            run: run.into(),
            host: read("/proc/sys/kernel/hostname")?,
            boot_id: read("/proc/sys/kernel/random/boot_id")?,
            pid_namespace: pid_namespace().or_fail(|| "cannot read /proc/self/ns/pid")?,
            pid,
            started: started(pid).or_fail(|| "cannot read /proc/self/stat")?,
        })
    }

    /// Whether this process is known to be gone; false wherever that cannot be told from here.
    pub fn is_dead(&self) -> bool {
        let here = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let same_kernel = here.is_ok_and(|boot| boot.trim() == self.boot_id);
        // On another machine, or after a reboot of this one, which look the same: only the
        // deadline tells.
        if !same_kernel || pid_namespace().ok().as_deref() != Some(self.pid_namespace.as_str()) {
            return false;
        }
        match started(self.pid) {
            Ok(started) => started != self.started,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }

    /// The labels of a container that this process makes.
    pub(super) fn labels(&self, role: &str, deadline: DateTime<Utc>) -> HashMap<String, String> {
        [
            (ROLE_LABEL, role.to_owned()),
            (RUN_LABEL, self.run.clone()),
            (
                DEADLINE_LABEL,
                deadline.to_rfc3339_opts(SecondsFormat::Millis, true),
            ),
            (HOST_LABEL, self.host.clone()),
            (BOOT_LABEL, self.boot_id.clone()),
            (NAMESPACE_LABEL, self.pid_namespace.clone()),
            (PID_LABEL, self.pid.to_string()),
            (STARTED_LABEL, self.started.to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// Reads [`labels`](Self::labels) back.
    pub(super) fn of(container: &Labelled) -> Option<Self> {
        Some(Self {
            run: container.label(RUN_LABEL).to_owned(),
            host: container.label(HOST_LABEL).to_owned(),
            boot_id: container.label(BOOT_LABEL).to_owned(),
            pid_namespace: container.label(NAMESPACE_LABEL).to_owned(),
            pid: container.label(PID_LABEL).parse().ok()?,
            started: container.label(STARTED_LABEL).parse().ok()?,
        })
    }
}

impl Labelled {
    /// Whether what it stands for is over: its deadline has passed by the engine's clock, or its
    /// process is known to be gone. A container whose labels cannot be read is not judged by them.
    pub(super) fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.deadline().is_some_and(|deadline| deadline < now)
            || Owner::of(self).is_some_and(|owner| owner.is_dead())
    }
}

/// The name of this process's pid namespace: `pid:[4026531836]`.
fn pid_namespace() -> std::io::Result<String> {
    std::fs::read_link("/proc/self/ns/pid").map(|path| path.to_string_lossy().into_owned())
}

/// When a process started, in clock ticks since boot (field 22 of proc(5)'s stat).
fn started(pid: u32) -> std::io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses and may hold anything, even ") ".
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19)?.parse().ok())
        .ok_or_else(|| std::io::Error::other("it has no start time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_its_neighbours_in_time_do_not() {
        let me = Owner::current("r").unwrap();
        assert!(!me.is_dead());
        let earlier = Owner {
            started: me.started - 1,
            ..me.clone()
        };
        assert!(earlier.is_dead(), "a process id that was used again");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(Owner { pid, ..me.clone() }.is_dead());
        let elsewhere = Owner {
            pid_namespace: "pid:[1]".to_owned(),
            ..earlier
        };
        assert!(!elsewhere.is_dead(), "another namespace cannot be judged");
    }

    #[test]
    fn labels_are_read_back() {
        let me = Owner::current("run-1").unwrap();
        let deadline = DateTime::UNIX_EPOCH + chrono::TimeDelta::milliseconds(1234);
        let container = Labelled {
            id: String::new(),
            image: String::new(),
            names: Vec::new(),
            labels: me.labels("lock", deadline),
        };
        assert_eq!(container.deadline(), Some(deadline));
        assert!(container.is_over(deadline + chrono::TimeDelta::seconds(1)));
        assert!(!container.is_over(deadline - chrono::TimeDelta::seconds(1)));
        assert_eq!(Owner::of(&container), Some(me));
    }
}

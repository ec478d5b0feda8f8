//! Whether containers are well: what their own health checks say, or that they run and go on running.

use super::{Engine, PLAIN_REQUEST, failed, status, too_late};
use crate::error::{Error, Result};
use crate::stack::Service;
use bollard::models::ContainerState;
use bollard::query_parameters::InspectContainerOptions;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;

/// How often a container is looked at.
const POLL: Duration = Duration::from_millis(250);
/// How long a container without a health check must have run to be taken for well: many of those that cannot work
/// start, and end at once.
const SETTLED: Duration = Duration::from_secs(2);
/// The most characters of what a health check said.
const LONGEST_OUTPUT: usize = 400;

/// A container that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaited {
    /// The container's id.
    pub container_id: String,
    /// The container's name, which finds it where it was made anew meanwhile.
    pub container_name: String,
    /// Its service.
    pub service: String,
    /// Whether it was well before: only then is it a failure where it is not afterwards.
    pub was_well: bool,
}

/// How a container is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// The engine's word for its state: `running`, `exited`, `restarting`.
    pub state: String,
    /// How it ended, where it has.
    pub exit_code: i64,
    /// When it was last started, as the engine writes it.
    pub started_at: String,
    /// What its health check says: `starting`, `healthy`, `unhealthy`; `None` without a check.
    pub health: Option<String>,
    /// What the last run of the check printed.
    pub output: Option<String>,
}

impl Condition {
    fn of(state: ContainerState) -> Self {
        let health = state.health.unwrap_or_default();
        let said = health.status.map(|status| status.to_string());
        let last = health.log.unwrap_or_default().pop();
        Self {
            state: state.status.map(|one| one.to_string()).unwrap_or_default(),
            exit_code: state.exit_code.unwrap_or_default(),
            started_at: state.started_at.unwrap_or_default(),
            health: said.filter(|said| !matches!(said.as_str(), "" | "none")),
            output: last
                .and_then(|result| result.output)
                .map(|output| shortened(output.trim()))
                .filter(|output| !output.is_empty()),
        }
    }

    /// Whether nothing is wrong with it as far as is known: it runs, and its check has not failed.
    pub fn is_well(&self) -> bool {
        self.state == "running" && self.health.as_deref() != Some("unhealthy")
    }

    /// Whether it has ended for good: nobody starts it again.
    fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "exited" | "dead")
    }

    /// `unhealthy; its check said: …`.
    fn told(&self) -> String {
        let word = match &self.health {
            Some(health) if self.state == "running" => health.clone(),
            _ if self.has_ended() => format!("{} with code {}", self.state, self.exit_code),
            _ => self.state.clone(),
        };
        match &self.output {
            Some(output) => format!("{word}; its check said: {output}"),
            None => word,
        }
    }
}

/// The end of a text says most.
fn shortened(text: &str) -> String {
    let count = text.chars().count();
    match count > LONGEST_OUTPUT {
        true => format!(
            "…{}",
            text.chars()
                .skip(count - LONGEST_OUTPUT)
                .collect::<String>()
        ),
        false => text.to_owned(),
    }
}

/// One container that is looked at again and again.
struct Watched<'a> {
    one: &'a Awaited,
    /// Since when it has run without being started anew, and when that start was.
    runs: Option<(String, Instant)>,
    last: Condition,
}

impl<'a> Watched<'a> {
    fn new(one: &'a Awaited) -> Self {
        Self {
            one,
            runs: None,
            last: Condition::default(),
        }
    }

    /// Whether it is well now, with what was just seen of it.
    fn see(&mut self, condition: Condition) -> bool {
        let now = Instant::now();
        let since = match &self.runs {
            Some((started, since)) if *started == condition.started_at => *since,
            _ => now,
        };
        let runs = condition.state == "running";
        self.runs = runs.then(|| (condition.started_at.clone(), since));
        let well = match condition.health.as_deref() {
            Some(health) => runs && health == "healthy",
            None => runs && now - since >= SETTLED,
        };
        self.last = condition;
        well
    }
}

impl Awaited {
    /// A container of a stack, which is `condition` now.
    pub fn of(service: &Service, condition: Option<&Condition>) -> Self {
        Self {
            container_id: service.container_id.clone(),
            container_name: service.container_name.clone(),
            service: service.name.clone(),
            was_well: condition.is_some_and(Condition::is_well),
        }
    }
}

impl Engine {
    /// How a container is; `None` where there is none of this id or name.
    pub async fn condition(&self, container: &str) -> Result<Option<Condition>> {
        let inspect = self
            .client
            .inspect_container(container, None::<InspectContainerOptions>);
        match tokio::time::timeout(PLAIN_REQUEST, inspect).await {
            Ok(Ok(found)) => Ok(Some(Condition::of(found.state.unwrap_or_default()))),
            Ok(Err(cause)) if status(&cause) == Some(404) => Ok(None),
            Ok(Err(cause)) => Err(failed("inspect a container", cause)),
            Err(_) => Err(too_late("inspect a container")),
        }
    }

    /// Waits until each of these is healthy by its own check; without a check, until it has run for two seconds. One
    /// that is gone is no longer waited for.
    ///
    /// Returns what is to be said of those that were not well before and are not now.
    ///
    /// # Errors
    /// Failed where one that was well before is not at `until`, or has ended.
    pub async fn wait_well(&self, containers: &[Awaited], until: Instant) -> Result<Vec<String>> {
        let begun = Instant::now();
        let mut left: Vec<Watched<'_>> = containers.iter().map(Watched::new).collect();
        loop {
            let mut next = Vec::new();
            for mut watched in left {
                let seen = self.look(watched.one).await?;
                if seen.is_some_and(|condition| !watched.see(condition)) {
                    next.push(watched);
                }
            }
            left = next;
            let is_over = Instant::now() >= until;
            let mut lost = left
                .iter()
                .filter(|one| one.one.was_well && (is_over || one.last.has_ended()))
                .peekable();
            if lost.peek().is_some() {
                return Err(not_well(lost, begun.elapsed()));
            }
            if is_over || left.is_empty() {
                return Ok(left.iter().map(as_before).collect());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn look(&self, one: &Awaited) -> Result<Option<Condition>> {
        match self.condition(&one.container_id).await? {
            Some(condition) => Ok(Some(condition)),
            None => self.condition(&one.container_name).await,
        }
    }
}

fn as_before(watched: &Watched<'_>) -> String {
    format!(
        "service {} was not well before and is not now: it is {}",
        watched.one.service,
        watched.last.told()
    )
}

fn not_well<'w>(lost: impl Iterator<Item = &'w Watched<'w>>, waited: Duration) -> Error {
    let (mut told, mut names) = (Vec::new(), Vec::new());
    for watched in lost {
        told.push(format!(
            "service {} (container {}) is {}",
            watched.one.service,
            watched.one.container_name,
            watched.last.told()
        ));
        names.push(watched.one.container_name.as_str());
    }
    Error::failed(format!(
        "not well after {} seconds: {}",
        waited.as_secs(),
        told.join("; ")
    ))
    .hint(format!("see docker logs {}", names.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(state: &str, health: Option<&str>) -> Condition {
        Condition {
            state: state.to_owned(),
            health: health.map(str::to_owned),
            started_at: "1".to_owned(),
            ..Condition::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_check_it_must_go_on_running() {
        let one = Awaited {
            container_id: String::new(),
            container_name: String::new(),
            service: String::new(),
            was_well: true,
        };
        let mut watched = Watched::new(&one);
        assert!(!watched.see(condition("running", None)));
        tokio::time::advance(SETTLED).await;
        assert!(!watched.see(condition("restarting", None)));
        assert!(!watched.see(condition("running", None)));
        tokio::time::advance(SETTLED).await;
        let anew = Condition {
            started_at: "2".to_owned(),
            ..condition("running", None)
        };
        assert!(!watched.see(anew.clone()), "it was started anew");
        tokio::time::advance(SETTLED).await;
        assert!(watched.see(anew));
        assert!(!watched.see(condition("running", Some("starting"))));
        assert!(watched.see(condition("running", Some("healthy"))));
        assert!(!watched.see(condition("exited", Some("healthy"))));
    }

    #[test]
    fn what_a_check_said_is_told_from_its_end() {
        let long = "x".repeat(LONGEST_OUTPUT) + "the end";
        assert!(shortened(&long).ends_with("the end"));
        assert_eq!(shortened(&long).chars().count(), LONGEST_OUTPUT + 1);
        let told = Condition {
            output: Some("no table".to_owned()),
            ..condition("running", Some("unhealthy"))
        };
        assert_eq!(told.told(), "unhealthy; its check said: no table");
        assert_eq!(condition("exited", None).told(), "exited with code 0");
        assert!(condition("running", Some("starting")).is_well());
        assert!(!told.is_well());
    }
}

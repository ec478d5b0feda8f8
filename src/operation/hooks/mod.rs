//! Commands that people want run around a backup, from a schedule and from the labels of containers.
//!
//! They are steps of the backup's plan: those before it in order, the schedule's first, and those after it the other
//! way round, the labels' first. Those after it run however it ended, once any step was begun; after a `kill -9` the
//! next run that takes the stack's lock on this machine runs them.

mod container;
mod host;
mod said;
#[cfg(test)]
mod tests;

use super::Context;
use super::shown::{masked, shown};
use super::step::Step;
use crate::error::{Error, Result, nearest};
use crate::event::{Event, Observer};
use crate::schedule::{Hook, Hooks};
use crate::stack::{Service, Stack};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The label with the command that is run in its container before a backup, and the one for after it.
const LABELS: (&str, &str) = ("lifeboat.pre", "lifeboat.post");
/// The label with the time that each of the two may take.
const TIME_LABEL: &str = "lifeboat.hook-time-limit";
/// The label with the container's user that they run as.
const USER_LABEL: &str = "lifeboat.exec-user";
/// How long a label's command may take where no label says it: as a schedule's.
const TIME: Duration = Duration::from_mins(5);
/// The variable that tells which run's hook a process belongs to.
const RUN_VARIABLE: &str = "LIFEBOAT_HOOK_OF";

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Before anything is captured. That it fails stops the backup.
    Before,
    /// After it, however it ended.
    After,
}

/// One command, and where it is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookCall {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The container that it runs in; lifeboat's own machine without.
    pub container: Option<HookContainer>,
    /// Milliseconds that it may take.
    pub time_limit_ms: u64,
}

/// The container of a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookContainer {
    /// Its service.
    pub service: String,
    /// The engine's id of it.
    pub container_id: String,
    /// Its name.
    pub container_name: String,
    /// The user that the command runs as, where it is not the container's own.
    pub user: Option<String>,
}

impl fmt::Display for HookCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = shown(&self.command);
        match &self.container {
            Some(container) => write!(f, "`{command}` in {}", container.container_name),
            None => write!(f, "`{command}` on this machine"),
        }
    }
}

impl HookCall {
    fn new(command: Vec<String>, container: Option<HookContainer>, limit: Duration) -> Self {
        Self {
            command,
            container,
            time_limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn time_limit(&self) -> Duration {
        Duration::from_millis(self.time_limit_ms)
    }
}

impl HookContainer {
    fn of(service: &Service) -> Self {
        Self {
            service: service.name.clone(),
            container_id: service.container_id.clone(),
            container_name: service.container_name.clone(),
            user: service.labels.get(USER_LABEL).cloned(),
        }
    }
}

/// The steps around a backup.
#[derive(Debug, Default)]
pub(super) struct Around {
    pub before: Vec<Step>,
    pub after: Vec<Step>,
}

impl Around {
    /// What a schedule and the labels of a stack's containers want.
    ///
    /// # Errors
    /// Usage for labels that cannot be read; failed where a service is not there or does not run.
    pub(super) fn of(stack: &Stack, hooks: &Hooks, observer: &dyn Observer) -> Result<Self> {
        let step = |when| move |hook| Step::RunHook { when, hook };
        let (mut labelled_before, mut labelled_after) = (Vec::new(), Vec::new());
        for service in &stack.services {
            let before = labelled(service, LABELS.0)?;
            let after = labelled(service, LABELS.1)?;
            if (before.is_some() || after.is_some()) && !service.running {
                // What does not run changes nothing that would have to be prepared.
                observer.observe(&Event::Warning {
                    message: format!(
                        "container {} is {}: its hooks are not run",
                        service.container_name, service.state
                    ),
                });
                continue;
            }
            labelled_before.extend(before);
            labelled_after.extend(after);
        }
        labelled_after.reverse();
        let before = scheduled(stack, &hooks.before)?;
        let after = scheduled(stack, &hooks.after)?;
        Ok(Self {
            before: before
                .into_iter()
                .chain(labelled_before)
                .map(step(When::Before))
                .collect(),
            after: labelled_after
                .into_iter()
                .chain(after)
                .map(step(When::After))
                .collect(),
        })
    }
}

/// The hooks of a schedule, their services found.
fn scheduled(stack: &Stack, hooks: &[Hook]) -> Result<Vec<HookCall>> {
    let calls = hooks.iter().map(|hook| {
        let container = match &hook.service {
            Some(name) => Some(HookContainer::of(running(stack, name, &hook.command)?)),
            None => None,
        };
        Ok(HookCall::new(
            hook.command.clone(),
            container,
            hook.time_limit,
        ))
    });
    calls.collect()
}

/// The first container of a service that runs.
fn running<'s>(stack: &'s Stack, name: &str, command: &[String]) -> Result<&'s Service> {
    let of_name = || stack.services.iter().filter(|one| one.name == name);
    if let Some(found) = of_name().find(|one| one.running) {
        return Ok(found);
    }
    let hook = shown(command);
    if let Some(service) = of_name().next() {
        return Err(Error::failed(format!(
            "the hook `{hook}` runs in service {name}, which is {}",
            service.state
        ))
        .hint(format!("start it: docker start {}", service.container_name)));
    }
    let names: Vec<&str> = stack.services.iter().map(|one| &*one.name).collect();
    let near = nearest(name, names.iter().copied()).join(" or ");
    Err(Error::failed(format!(
        "the hook `{hook}` runs in service {name:?}, and stack {} has no such service",
        stack.name
    ))
    .hint(match near.is_empty() {
        true => format!("its services are {}", names.join(", ")),
        false => format!("did you mean {near}?"),
    }))
}

/// What a container's label wants to be run in it. It is split as a shell would split it, and nothing else of a shell
/// is in it.
///
/// # Errors
/// Usage where it cannot be read.
fn labelled(service: &Service, label: &str) -> Result<Option<HookCall>> {
    let enabled = service.labels.get("lifeboat.enable").map(String::as_str) != Some("false");
    let Some(text) = service.labels.get(label).filter(|_| enabled) else {
        return Ok(None);
    };
    let wrong = |label: &str, what: &str| {
        let container = &service.container_name;
        Error::usage(format!("container {container} has a label {label} {what}"))
    };
    let command = shlex::split(text).ok_or_else(|| {
        wrong(label, "that does not end").hint("a quote is open, or a backslash is its last sign")
    })?;
    if command.is_empty() {
        return Ok(None);
    }
    let limit = match service.labels.get(TIME_LABEL) {
        None => TIME,
        Some(limit) => humantime::parse_duration(limit).map_err(|error| {
            wrong(
                TIME_LABEL,
                &format!("that is no span of time: {limit:?}: {error}"),
            )
            .hint("a number and a unit, such as 30s or 10m")
        })?,
    };
    let container = Some(HookContainer::of(service));
    Ok(Some(HookCall::new(command, container, limit)))
}

/// What hooks are told, and where their output goes.
pub(super) struct Surroundings<'a> {
    pub context: &'a Context,
    pub stack: &'a Stack,
    pub run: &'a str,
    /// How the backup ended; none before it.
    pub outcome: Option<&'static str>,
    pub observer: &'a dyn Observer,
}

/// Why a hook was ended before its end.
enum Stopped {
    TimeLimit,
    Interrupted,
}

/// How a hook ended.
enum End {
    /// By itself, well.
    Well,
    /// By itself, and not well; reads after the hook's name.
    Badly(String),
    Stopped(Stopped),
}

impl Surroundings<'_> {
    /// Runs a hook to its end.
    ///
    /// # Errors
    /// Failed where it could not be started, did not end well or was not in time; interrupted where the run is, for
    /// one before the backup: one after it puts things back, and only its time limit ends it.
    pub(super) async fn run(&self, when: When, hook: &HookCall) -> Result<()> {
        let stop = async {
            let interrupted = async {
                match when {
                    When::Before => self.context.cancel.cancelled().await,
                    When::After => std::future::pending().await,
                }
            };
            tokio::select! {
                () = interrupted => Stopped::Interrupted,
                () = tokio::time::sleep(hook.time_limit()) => Stopped::TimeLimit,
            }
        };
        let mut said = said::Said::new(self.observer, &hook.command);
        let ended = match &hook.container {
            None => host::run(hook, &self.variables(), stop, &mut said).await,
            Some(container) => {
                let id = self.present(container)?;
                self.in_container(&id, container, hook, stop, &mut said)
                    .await
            }
        };
        said.end();
        let name = || format!("the hook {hook}");
        let how = match ended.map_err(|error| error.while_doing(format!("{} failed", name())))? {
            End::Well => return Ok(()),
            End::Stopped(Stopped::Interrupted) => return Err(Error::interrupted()),
            End::Badly(how) => how,
            End::Stopped(Stopped::TimeLimit) => format!(
                "was ended: it took longer than {}",
                humantime::format_duration(hook.time_limit())
            ),
        };
        let tail = said.tail();
        Err(Error::failed(match tail.is_empty() {
            true => format!("{} {how}, and said nothing", name()),
            false => format!("{} {how}: {tail}", name()),
        }))
    }

    /// The container that a hook runs in: the one of the plan, or the one that has taken its place since.
    fn present(&self, container: &HookContainer) -> Result<String> {
        let services = &self.stack.services;
        let same = |one: &&Service| one.container_id == container.container_id;
        let other = |one: &&Service| one.name == container.service && one.running;
        let found = services.iter().find(same).or(services.iter().find(other));
        found.map(|one| one.container_id.clone()).ok_or_else(|| {
            Error::failed(format!(
                "container {} of service {} is gone",
                container.container_name, container.service
            ))
        })
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("LIFEBOAT_STACK", self.stack.name.clone()),
            ("LIFEBOAT_BACKUP", self.run.to_owned()),
            (RUN_VARIABLE, self.run.to_owned()),
        ];
        variables.extend(
            self.outcome
                .map(|outcome| ("LIFEBOAT_OUTCOME", outcome.to_owned())),
        );
        variables
    }

    /// Puts right what a run that was killed has left: ends the hook that it was at, and runs those that were to be
    /// run after it, from the step `at` on. Each is tried once: what fails is a warning.
    pub(super) async fn after_death(&self, steps: &[Step], at: usize, is_ours: bool) {
        if let Some(Step::RunHook { hook, .. }) = steps.get(at) {
            self.end_left_over(hook).await;
        }
        for step in &steps[at.min(steps.len())..] {
            let Step::RunHook {
                when: When::After,
                hook,
            } = step
            else {
                continue;
            };
            let run = self.run;
            self.warn(format!(
                "the backup {run} died before its end: running {hook}"
            ));
            if hook.container.is_none() && !is_ours {
                self.warn(format!(
                    "{hook} is not run: the journal of {run} is another user's"
                ));
                continue;
            }
            if let Err(error) = self.run(When::After, hook).await {
                self.warn(error.chain());
            }
        }
    }

    async fn end_left_over(&self, hook: &HookCall) {
        match &hook.container {
            None => host::end_left_over(self.run).await,
            Some(container) => {
                if let Ok(id) = self.present(container) {
                    self.end_in_container(&id, container).await;
                }
            }
        }
    }

    fn warn(&self, message: String) {
        self.observer.observe(&Event::Warning { message });
    }
}

/// The step as it may be shown: with the command's secrets masked.
pub(super) fn presentable(step: Step) -> Step {
    match step {
        Step::RunHook { when, hook } => Step::RunHook {
            when,
            hook: HookCall {
                command: masked(&hook.command),
                ..hook
            },
        },
        other => other,
    }
}

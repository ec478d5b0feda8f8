//! What is stopped or paused while volumes are read, in which order, and how it comes back.

use super::Context;
use super::dependencies::Dependencies;
use super::exchange;
use super::snapshots::Snapshots;
use super::sources::{SourceOptions, SourceService, SourcesByStack, find_stack, source_services};
use super::trees::Trees;
use super::volumes::Store;
use crate::docker::health::Awaited;
use crate::docker::lock::PUTTING_RIGHT;
use crate::docker::own::works_with_engine;
use crate::docker::quiesce::{Abandoned, Quiesced, Standstill};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer};
use crate::manifest::{BackupId, Consistency};
use crate::stack::{Quiesce, Service, Stack};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Says in a container what is done to it while its volumes are read.
const LABEL: &str = "lifeboat.quiesce";

/// What is done to a container: its own label says it, else the person.
///
/// # Errors
/// Usage for a label that says something else.
fn wish(service: &Service, asked: Option<Quiesce>) -> Result<Option<Quiesce>> {
    match service.labels.get(LABEL).map(String::as_str) {
        None => Ok(asked),
        Some("none") => Ok(None),
        Some("stop") => Ok(Some(Quiesce::Stop)),
        Some("pause") => Ok(Some(Quiesce::Pause)),
        Some(other) => Err(Error::usage(format!(
            "container {} has the label {LABEL}={other}",
            service.container_name
        ))
        .hint("it can be stop, pause or none")),
    }
}

/// How consistent a store's archive is going to be.
pub(super) fn consistency(store: &Store, asked: Option<Quiesce>) -> Result<Consistency> {
    let mut found = Consistency::Stopped;
    for user in store.writers() {
        match wish(&user.service, asked)? {
            None => return Ok(Consistency::Live),
            Some(Quiesce::Pause) => found = Consistency::Paused,
            Some(Quiesce::Stop) => {}
        }
    }
    Ok(found)
}

/// The containers that are quiesced while `stores` are read, in the order in which they are started again: what
/// others depend on comes first.
pub(super) fn containers<'s>(
    stores: impl IntoIterator<Item = &'s Store>,
    stacks: &[Stack],
    asked: Option<Quiesce>,
) -> Result<Vec<Quiesced>> {
    let mut wanted: BTreeMap<&str, (&Service, Quiesce)> = BTreeMap::new();
    for store in stores {
        // One that stays live is read as it is: stopping half of its writers would help nobody.
        if consistency(store, asked)? == Consistency::Live {
            continue;
        }
        for user in store.writers() {
            if let Some(how) = wish(&user.service, asked)? {
                wanted.insert(&user.service.container_id, (&user.service, how));
            }
        }
    }
    let mut found = Vec::new();
    for stack in stacks {
        let dependencies = Dependencies::of(stack);
        for name in dependencies.order() {
            let replicas = stack.services.iter().filter(|service| service.name == name);
            for service in replicas {
                if let Some((service, how)) = wanted.get(service.container_id.as_str()) {
                    let awaited = dependencies.awaited.contains(name);
                    found.push(Quiesced::of(service, *how, awaited));
                }
            }
        }
    }
    Ok(found)
}

/// The containers that are stopped while a store's content is replaced: pausing is not enough for somebody who has
/// its files open.
///
/// # Errors
/// Usage where one of them says that it is not to be stopped.
pub(super) fn to_stop(store: &Store, stacks: &[Stack]) -> Result<Vec<Quiesced>> {
    for user in store.writers() {
        if user.service.labels.get(LABEL).map(String::as_str) == Some("none") {
            return Err(Error::usage(format!(
                "container {} writes to {} and has the label {LABEL}=none: what it holds cannot be replaced meanwhile",
                user.service.container_name, store.place
            ))
            .hint(format!("stop it: docker stop {}", user.service.container_name)));
        }
    }
    let mut containers = containers([store], stacks, Some(Quiesce::Stop))?;
    for one in &mut containers {
        one.how = Quiesce::Stop;
    }
    Ok(containers)
}

/// The containers of a stack that are stopped while all of it is replaced, those of `known` among them, in the order
/// in which they are started again: everything that runs but its servers, what works with the engine itself, and what
/// says that it is to be left alone.
///
/// # Errors
/// Usage for a label that says something else.
pub(super) fn to_stop_with(
    known: Vec<Quiesced>,
    stack: &Stack,
    services: &[SourceService],
) -> Result<Vec<Quiesced>> {
    let dependencies = Dependencies::of(stack);
    let is_server = |name: &str| services.iter().any(|one| one.service.name == name);
    let is_known = |service: &Service| {
        known
            .iter()
            .any(|one| one.container_id == service.container_id)
    };
    let mut found = Vec::new();
    for name in dependencies.order() {
        let replicas = stack.services.iter().filter(|service| service.name == name);
        for service in replicas {
            // One that is restarted all the time may come up just then.
            let runs = service.running || service.state == "restarting";
            let left_alone = is_server(name)
                || service.labels.get("lifeboat.enable").map(String::as_str) == Some("false")
                || wish(service, Some(Quiesce::Stop))?.is_none()
                || works_with_engine(service);
            if is_known(service) || (runs && !left_alone) {
                let awaited = dependencies.awaited.contains(name);
                found.push(Quiesced::of(service, Quiesce::Stop, awaited));
            }
        }
    }
    // Those of other stacks write to what is replaced.
    for one in known {
        if !found
            .iter()
            .any(|other| other.container_id == one.container_id)
        {
            found.push(one);
        }
    }
    Ok(found)
}

/// Who must be well once all of them are started again: the containers, and the servers. Those that are not well now
/// hold nobody up.
pub(super) async fn awaited(
    context: &Context,
    containers: &mut [Quiesced],
    stack: &Stack,
    servers: &[&Service],
) -> Result<Vec<Awaited>> {
    let engine = context.engine()?;
    let mut health = Vec::new();
    for container in containers {
        let condition = engine.condition(&container.container_id).await?;
        let was_well = condition.is_some_and(|condition| condition.is_well());
        container.awaited &= was_well;
        health.push(Awaited {
            container_id: container.container_id.clone(),
            container_name: container.container_name.clone(),
            service: container.service.clone(),
            was_well,
        });
    }
    for server in servers {
        let replicas = stack.services.iter();
        for service in replicas.filter(|service| service.name == server.name && service.running) {
            let condition = engine.condition(&service.container_id).await?;
            health.push(Awaited::of(service, condition.as_ref()));
        }
    }
    Ok(health)
}

/// Stops or pauses containers, the last to be started first. What is going to be is written down before.
pub(super) async fn quiesce(
    context: &Context,
    run: &BackupId,
    stack: &str,
    image: &str,
    standstill: &Standstill,
) -> Result<()> {
    let engine = context.engine()?;
    let owner = context.owner(run)?;
    engine
        .record_quiesced(&owner, stack, image, standstill)
        .await?;
    for container in standstill.containers.iter().rev() {
        engine.quiesce(container).await.map_err(|error| {
            error.while_doing(format!("cannot quiesce service {}", container.service))
        })?;
    }
    Ok(())
}

/// Starts containers again, each of them whatever becomes of the others; then the record is of no use any more.
///
/// # Errors
/// With every one that could not be started.
pub(super) async fn resume(context: &Context, run: &str, standstill: &Standstill) -> Result<()> {
    start(context, &standstill.containers).await?;
    context.engine()?.forget_quiesced(run).await
}

/// How containers are started again on what was put in place while they stood still.
pub(super) struct Anew<'a> {
    pub context: &'a Context,
    pub run: &'a BackupId,
    pub stack: &'a str,
    /// The id of any image on the engine.
    pub image: &'a str,
    pub standstill: &'a Standstill,
    pub observer: &'a dyn Observer,
}

impl Anew<'_> {
    /// Starts what was stopped, in order, and waits until all of `health` is well. From its first change on whoever
    /// comes after a death starts them on what is there now: they may have written to it.
    ///
    /// # Errors
    /// Failed where something does not start, or is not well within `limit`.
    pub(super) async fn start(&self, health: &[Awaited], limit: Duration) -> Result<()> {
        let engine = self.context.engine()?;
        let containers = &self.standstill.containers;
        self.record(&Standstill::of(containers.clone())).await?;
        let until = Instant::now() + limit;
        let all_well = async {
            for container in containers {
                engine.resume_until(container, until).await?;
            }
            engine.wait_well(health, until).await
        };
        let told = all_well.await.map_err(|error| {
            let hint = error.hint_text().map_or_else(String::new, |hint| format!("{hint}; "));
            error
                .while_doing("the stack does not work on what was put in place, so all of it is put back as it was")
                .hint(format!("{hint}--health-timeout waits longer, --keep-running stops and awaits nobody"))
        })?;
        for message in told {
            self.observer.observe(&Event::Warning { message });
        }
        engine.forget_quiesced(self.run.as_str()).await
    }

    /// Takes [`start`](Self::start) back: all of them stand still again, and whoever comes after a death puts the old
    /// back.
    pub(super) async fn stop(&self) -> Result<()> {
        self.record(self.standstill).await?;
        settle(self.context, &self.standstill.containers).await
    }

    async fn record(&self, standstill: &Standstill) -> Result<()> {
        let owner = self.context.owner(self.run)?;
        self.context
            .engine()?
            .record_instead(&owner, self.stack, self.image, standstill)
            .await
    }
}

/// Takes [`quiesce`] back, however far it came; nothing to do is no error.
pub(super) async fn take_back(context: &Context, run: &str, standstill: &Standstill) -> Result<()> {
    if !context.engine()?.has_quiesced(run).await? {
        return Ok(());
    }
    settle(context, &standstill.containers).await?;
    resume(context, run, standstill).await
}

/// Waits until nothing is on its way down any more. Whoever asked the engine to stop a container may have gone, and it
/// goes on with that: starting the container does nothing then, and a moment later it is down.
async fn settle(context: &Context, containers: &[Quiesced]) -> Result<()> {
    let engine = context.engine()?;
    let stopped = containers.iter().filter(|one| one.how == Quiesce::Stop);
    for container in stopped.rev() {
        // One that is gone does not matter.
        let _ = engine.quiesce(container).await;
    }
    Ok(())
}

async fn start(context: &Context, containers: &[Quiesced]) -> Result<()> {
    let engine = context.engine()?;
    let mut left = Vec::new();
    for container in containers {
        if let Err(error) = engine.resume(container).await {
            left.push((container, error));
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let said: Vec<String> = left
        .iter()
        .map(|(container, error)| format!("{}: {}", container.service, error.chain()))
        .collect();
    let names: Vec<&str> = left
        .iter()
        .map(|(container, _)| container.container_name.as_str())
        .collect();
    Err(Error::failed(format!(
        "not everything that was stopped could be started again: {}",
        said.join("; ")
    ))
    .hint(format!(
        "see docker logs; then: docker start {}",
        names.join(" ")
    )))
}

/// Starts what dead runs have stopped, on every stack that nobody else is at work on.
///
/// # Errors
/// Where the engine does not answer. That a container could not be started is a warning: it keeps nobody from work.
pub async fn resume_abandoned(
    context: &Context,
    sources: impl Fn() -> Result<SourcesByStack>,
    observer: &dyn Observer,
) -> Result<()> {
    let engine = context.engine()?;
    let abandoned = engine.abandoned().await?;
    let images: BTreeMap<&str, &str> = abandoned
        .iter()
        .map(|one| (one.stack.as_str(), one.image.as_str()))
        .collect();
    for (stack, image) in images {
        let run = context.new_id()?;
        let owner = context.owner(&run)?;
        let lock = engine.lock(stack, &owner, image, PUTTING_RIGHT).await;
        let lock = match lock {
            Ok(lock) => lock,
            // Whoever holds it has seen to this when it took it.
            Err(error) if error.kind() == Kind::Busy => continue,
            Err(error) => return Err(error),
        };
        // Looked at again: what ended well since has taken its record away before it gave the lock back.
        let resumed = async {
            let (services, options) = servers_of(context, stack, &abandoned, &sources).await?;
            let aftermath = Aftermath {
                context,
                services: &services,
                options: &options,
                observer,
            };
            aftermath.of_stack(stack).await
        }
        .await;
        super::lock::release(Some(lock), observer).await;
        if let Err(error) = resumed {
            observer.observe(&Event::Warning {
                message: error.chain(),
            });
        }
    }
    Ok(())
}

/// The database services of a stack and how they are logged in to, where a record names servers.
async fn servers_of(
    context: &Context,
    stack: &str,
    abandoned: &[Abandoned],
    sources: &impl Fn() -> Result<SourcesByStack>,
) -> Result<(Vec<SourceService>, SourceOptions)> {
    let mut records = abandoned.iter().filter(|one| one.stack == stack);
    if records.all(|one| one.standstill.exchanges.is_empty()) {
        return Ok((Vec::new(), SourceOptions::default()));
    }
    let engine = context.engine()?;
    let stack = find_stack(engine, Some(stack)).await?;
    let services = source_services(engine, &stack).await?;
    let options = sources()?.remove(&stack.name).unwrap_or_default();
    Ok((services, options))
}

/// What dead runs have left on a stack whose lock is held.
pub(super) struct Aftermath<'a> {
    pub context: &'a Context,
    /// The stack's database services.
    pub services: &'a [SourceService],
    pub options: &'a SourceOptions,
    pub observer: &'a dyn Observer,
}

impl Aftermath<'_> {
    /// Puts back what dead runs had exchanged, and starts what they had stopped.
    pub(super) async fn of_stack(&self, stack: &str) -> Result<()> {
        for abandoned in self.context.engine()?.abandoned().await? {
            if abandoned.stack == stack {
                self.of_one(&abandoned).await?;
            }
        }
        Ok(())
    }

    async fn of_one(&self, abandoned: &Abandoned) -> Result<()> {
        self.say(abandoned);
        let Standstill {
            containers,
            trees,
            volumes,
            exchanges,
        } = &abandoned.standstill;
        let (context, observer) = (self.context, self.observer);
        let run: BackupId = abandoned.run.parse()?;
        let work = Trees::new(context, &run, observer);
        settle(context, containers).await?;
        let snapshots = Snapshots {
            context,
            services: self.services,
            options: self.options,
            run: &run,
            observer,
        };
        exchange::take_back(&snapshots, exchanges).await?;
        for tree in trees {
            work.swap_back(tree).await?;
        }
        for name in volumes {
            work.discard(name).await?;
        }
        self.start(abandoned).await
    }

    fn say(&self, abandoned: &Abandoned) {
        let Standstill {
            containers,
            trees,
            volumes,
            exchanges,
        } = &abandoned.standstill;
        let servers = match exchanges.is_empty() {
            true => None,
            false => Some("putting back what the servers had".to_owned()),
        };
        let trees = trees
            .iter()
            .map(|tree| format!("putting back what {} held", tree.place));
        let volumes = volumes
            .iter()
            .map(|name| format!("removing the unfinished volume {name}"));
        let containers = containers
            .iter()
            .map(|one| format!("starting {}", one.container_name));
        let doing: Vec<String> = servers
            .into_iter()
            .chain(trees)
            .chain(volumes)
            .chain(containers)
            .collect();
        self.observer.observe(&Event::Warning {
            message: format!(
                "the run {} on {} died before its end: {}",
                abandoned.run,
                abandoned.stack,
                doing.join(", ")
            ),
        });
    }

    async fn start(&self, abandoned: &Abandoned) -> Result<()> {
        // What is gone is gone: somebody has removed it meanwhile.
        let mut present = Vec::new();
        let engine = self.context.engine()?;
        for container in &abandoned.standstill.containers {
            match engine.resume(container).await {
                Err(error) if error.kind() == Kind::NotFound => {
                    self.observer.observe(&Event::Warning {
                        message: error.chain(),
                    });
                }
                Err(error) => present.push(format!("{}: {}", container.service, error.chain())),
                Ok(()) => {}
            }
        }
        if !present.is_empty() {
            return Err(Error::failed(format!(
                "what the run {} has stopped could not be started: {}",
                abandoned.run,
                present.join("; ")
            ))
            .hint("see docker logs; the next command tries again"));
        }
        engine.forget(abandoned).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, labels: &[(&str, &str)]) -> Service {
        Service {
            name: name.to_owned(),
            container_id: format!("id-{name}"),
            container_name: name.to_owned(),
            image: String::new(),
            image_id: String::new(),
            image_digest: None,
            running: true,
            state: "running".to_owned(),
            labels: labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            env: BTreeMap::new(),
            command: Vec::new(),
            mounts: Vec::new(),
            nano_cpus: 0,
            memory: 0,
        }
    }

    fn store(users: &[(&Service, bool)]) -> Store {
        Store {
            place: crate::docker::helper::Place::Volume("v".to_owned()),
            volume: None,
            users: users
                .iter()
                .map(|(service, read_only)| super::super::volumes::User {
                    stack: "s".to_owned(),
                    service: (*service).clone(),
                    destination: "/v".to_owned(),
                    read_only: *read_only,
                })
                .collect(),
            covered_by: None,
        }
    }

    #[test]
    fn what_others_need_is_started_first() {
        let needs = "com.docker.compose.depends_on";
        let stack = Stack {
            name: "s".to_owned(),
            services: vec![
                service(
                    "api",
                    &[(needs, "db:service_healthy:false,cache:service_started:true")],
                ),
                service("cache", &[]),
                service("db", &[]),
                service("a-web", &[(needs, "api:service_started:false")]),
                service("reader", &[]),
            ],
        };
        let all: Vec<(&Service, bool)> = stack
            .services
            .iter()
            .map(|service| (service, service.name == "reader"))
            .collect();
        let found = containers(
            [&store(&all)],
            std::slice::from_ref(&stack),
            Some(Quiesce::Stop),
        )
        .unwrap();
        let names: Vec<(&str, bool)> = found
            .iter()
            .map(|one| (one.service.as_str(), one.awaited))
            .collect();
        assert_eq!(
            names,
            [
                ("cache", false),
                ("db", true),
                ("api", false),
                ("a-web", false)
            ]
        );
    }

    #[test]
    fn a_label_wins_over_the_person() {
        let (plain, paused, never) = (
            service("plain", &[]),
            service("paused", &[(LABEL, "pause")]),
            service("never", &[(LABEL, "none")]),
        );
        let look = |users: &[(&Service, bool)], asked| consistency(&store(users), asked).unwrap();
        let stop = Some(Quiesce::Stop);
        assert_eq!(look(&[], None), Consistency::Stopped);
        assert_eq!(look(&[(&plain, false)], None), Consistency::Live);
        assert_eq!(look(&[(&plain, true)], None), Consistency::Stopped);
        assert_eq!(look(&[(&plain, false)], stop), Consistency::Stopped);
        assert_eq!(look(&[(&paused, false)], None), Consistency::Paused);
        assert_eq!(
            look(&[(&plain, false), (&paused, false)], stop),
            Consistency::Paused
        );
        assert_eq!(
            look(&[(&plain, false), (&never, false)], stop),
            Consistency::Live
        );
        let wrong = service("wrong", &[(LABEL, "freeze")]);
        assert!(consistency(&store(&[(&wrong, false)]), None).is_err());
    }
}

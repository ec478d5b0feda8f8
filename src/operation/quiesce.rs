//! What is stopped or paused while volumes are read, in which order, and how it comes back.

use super::Context;
use super::dependencies::Dependencies;
use super::volumes::Store;
use crate::docker::quiesce::{Quiesced, Standstill};
use crate::error::{Error, Result};
use crate::manifest::{BackupId, Consistency};
use crate::stack::{Quiesce, Service, Stack};
use std::collections::BTreeMap;

/// Says in a container what is done to it while its volumes are read.
const LABEL: &str = "lifeboat.quiesce";

/// What is done to a container: its own label says it, else the person.
///
/// # Errors
/// Usage for a label that says something else.
pub(super) fn wish(service: &Service, asked: Option<Quiesce>) -> Result<Option<Quiesce>> {
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
pub(super) async fn settle(context: &Context, containers: &[Quiesced]) -> Result<()> {
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
            user: None,
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

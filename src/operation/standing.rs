//! Who is stopped while stores are replaced, and who must be well afterwards.

use super::Context;
use super::dependencies::Dependencies;
use super::exchange::recorded;
use super::quiesce::{settle, wish};
use super::sources::SourceService;
use super::step::Step;
use crate::docker::health::Awaited;
use crate::docker::own::works_with_engine;
use crate::docker::quiesce::{Quiesced, Standstill};
use crate::error::Result;
use crate::event::{Event, Observer};
use crate::manifest::BackupId;
use crate::stack::{Quiesce, Service, Stack};
use std::time::Duration;
use tokio::time::Instant;

/// What is known of those who are stopped.
pub(super) struct Standing<'a> {
    pub context: &'a Context,
    pub stack: &'a Stack,
    /// The stack's servers.
    pub services: &'a [SourceService],
    /// The services of those that get something else to serve.
    pub concerned: &'a [&'a str],
    /// Whether everything of the stack is stopped, not only who writes to what is replaced.
    pub all: bool,
    /// How long it may take until they are well again.
    pub health: Duration,
}

impl Standing<'_> {
    /// The steps of `exchange` between stopping and starting; as they are where nobody has to be stopped.
    pub(super) async fn around(
        &self,
        mut standstill: Standstill,
        exchange: Vec<Step>,
    ) -> Result<Vec<Step>> {
        if self.all && !exchange.is_empty() {
            standstill.containers = to_stop_with(standstill.containers, self.stack, self.services)?;
            // Nobody writes meanwhile: all of it can be taken back long after this run has died.
            if !standstill.containers.is_empty() {
                standstill.exchanges = recorded(&exchange);
            }
        }
        if standstill.trees.is_empty() && standstill.containers.is_empty() {
            return Ok(exchange);
        }
        let servers: Vec<&Service> = match self.all {
            true => self.servers().collect(),
            false => Vec::new(),
        };
        let health = awaited(
            self.context,
            &mut standstill.containers,
            self.stack,
            &servers,
        )
        .await?;
        let mut steps = vec![Step::Quiesce {
            standstill: standstill.clone(),
        }];
        steps.extend(exchange);
        steps.push(Step::StartAgain {
            standstill,
            health,
            seconds: self.health.as_secs(),
        });
        Ok(steps)
    }

    /// The servers that get something else to serve.
    fn servers(&self) -> impl Iterator<Item = &Service> {
        let services = self.services.iter().map(|one| &one.service);
        services.filter(|service| self.concerned.contains(&service.name.as_str()))
    }
}

/// The containers of a stack that are stopped while all of it is replaced, those of `known` among them, in the order
/// in which they are started again: everything that runs but its servers, what works with the engine itself, and what
/// says that it is to be left alone.
///
/// # Errors
/// Usage for a label that says something else.
fn to_stop_with(
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
async fn awaited(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{Mount, SourceKind};

    fn service(name: &str, label: Option<(&str, &str)>) -> Service {
        let labels = label.into_iter();
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
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            env: std::collections::BTreeMap::new(),
            command: vec!["sleep".to_owned()],
            mounts: Vec::new(),
            user: None,
            nano_cpus: 0,
            memory: 0,
        }
    }

    #[test]
    fn who_serves_data_or_reaches_the_engine_or_asks_for_it_is_left_running() {
        let needs = "com.docker.compose.depends_on";
        let mut loops = service("loops", None);
        loops.running = false;
        loops.state = "restarting".to_owned();
        let mut ended = service("ended", None);
        ended.running = false;
        ended.state = "exited".to_owned();
        let mut daemon = service("backups", None);
        daemon.command = vec!["/usr/bin/lifeboat".to_owned(), "daemon".to_owned()];
        let mut proxy = service("proxy", None);
        proxy.mounts.push(Mount {
            volume: None,
            folder: Some("/var/run/docker.sock".to_owned()),
            destination: "/var/run/docker.sock".to_owned(),
            read_only: true,
        });
        let stack = Stack {
            name: "s".to_owned(),
            services: vec![
                service("a-web", Some((needs, "api:service_healthy:false"))),
                service("api", Some((needs, "db:service_healthy:false"))),
                daemon,
                service("db", None),
                ended,
                service("left", Some(("lifeboat.quiesce", "none"))),
                loops,
                service("off", Some(("lifeboat.enable", "false"))),
                proxy,
                service("writer", Some(("lifeboat.enable", "false"))),
            ],
        };
        let db = SourceService {
            kind: SourceKind::Postgres,
            service: service("db", None),
        };
        let other = service("of-another-stack", None);
        let known = [&stack.services[9], &other];
        let known = known.map(|one| Quiesced::of(one, Quiesce::Stop, false));
        let found = to_stop_with(known.to_vec(), &stack, &[db]).unwrap();
        let names: Vec<(&str, bool)> = found
            .iter()
            .map(|one| (one.service.as_str(), one.awaited))
            .collect();
        assert_eq!(
            names,
            [
                ("api", true),
                ("a-web", false),
                ("loops", false),
                ("writer", false),
                ("of-another-stack", false)
            ]
        );
    }
}

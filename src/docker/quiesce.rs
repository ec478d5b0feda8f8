//! Stopping or pausing containers of the application for a while, so that they are started again whatever happens.
//!
//! What was running is written down before anything is stopped: on the engine, in the labels of a container that is
//! never started, because the next run may come from another machine or be of a daemon in a container. The record
//! counts for as long as its run holds the stack's lock; one that outlives it was left by a dead run, and whoever
//! comes next starts what it names.

use super::health::Awaited;
use super::helper::Place;
use super::lock::{LOCK_ROLE, STACK_LABEL};
use super::owner::Owner;
use super::{Engine, Labelled, ROLE_LABEL, RUN_LABEL, within};
use crate::error::{Error, Result};
use crate::stack::{Quiesce, Service};
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::ListContainersOptionsBuilder;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// The role of a record.
pub(super) const QUIESCED_ROLE: &str = "quiesced";
/// The label of a record that holds what it names, as JSON.
const STANDSTILL_LABEL: &str = "dev.lifeboat.standstill";
/// How long a container may take to be healthy again before the next one is started.
const HEALTHY_LIMIT: Duration = Duration::from_mins(2);

/// A container that ran, and is stopped or paused for a while. Its id may change meanwhile: its labels find it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiesced {
    /// The container's id.
    pub container_id: String,
    /// The container's name.
    pub container_name: String,
    /// The Compose project, where it is of one.
    pub project: Option<String>,
    /// The Compose service, or the container's name.
    pub service: String,
    /// Which replica it is.
    pub number: Option<String>,
    /// What is done to it.
    pub how: Quiesce,
    /// Whether others wait for it to be healthy before they start.
    pub awaited: bool,
}

impl Quiesced {
    /// A container of a stack.
    pub fn of(service: &Service, how: Quiesce, awaited: bool) -> Self {
        let label = |name: &str| service.labels.get(name).cloned();
        Self {
            container_id: service.container_id.clone(),
            container_name: service.container_name.clone(),
            project: label("com.docker.compose.project"),
            service: service.name.clone(),
            number: label("com.docker.compose.container-number"),
            how,
            awaited,
        }
    }
}

/// A tree that takes the place of another one in a volume or a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwappedTree {
    /// The volume or folder.
    pub place: Place,
    /// The folder in it that comes in.
    pub incoming: String,
    /// The folder in it that keeps what was there.
    pub aside: String,
}

/// What must be put right if a run dies: on the engine from before its first change to after its last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standstill {
    /// What is stopped or paused, in the order in which it is started again.
    #[serde(default)]
    pub containers: Vec<Quiesced>,
    /// What is swapped while they are: swapped back before they are started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trees: Vec<SwappedTree>,
    /// Volumes that are made, and removed again unless they were filled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// What is exchanged on servers while they are, in the words of whoever does it: exchanged back, last first, before
    /// they are started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exchanges: Vec<serde_json::Value>,
}

impl Standstill {
    /// Of containers, and nothing else.
    pub fn of(containers: Vec<Quiesced>) -> Self {
        Self {
            containers,
            ..Self::default()
        }
    }
}

/// What a dead run had stopped or begun.
#[derive(Debug, Clone)]
pub struct Abandoned {
    /// The run.
    pub run: String,
    /// The stack whose lock it held.
    pub stack: String,
    /// An image that is on the engine.
    pub image: String,
    /// What is to be put right.
    pub standstill: Standstill,
    record: String,
}

impl Engine {
    /// Writes down what is going to be stopped. `image` is the id of any image on the engine.
    pub async fn record_quiesced(
        &self,
        owner: &Owner,
        stack: &str,
        image: &str,
        standstill: &Standstill,
    ) -> Result<()> {
        let now = self.time().await?;
        let deadline = now.checked_add_signed(TimeDelta::days(7)).unwrap_or(now);
        let mut labels = owner.labels(QUIESCED_ROLE, deadline);
        let text = serde_json::to_string(standstill).unwrap_or_default();
        labels.insert(STANDSTILL_LABEL.to_owned(), text);
        labels.insert(STACK_LABEL.to_owned(), stack.to_owned());
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            cmd: Some(vec!["true".to_owned()]),
            network_disabled: Some(true),
            labels: Some(labels),
            ..ContainerCreateBody::default()
        };
        let name = format!("lifeboat-quiesced-{}", super::random_hex(8)?);
        let made = self.create(&name, body).await?;
        made.map(|_| ())
            .ok_or_else(|| Error::failed(format!("the container name {name} is taken")))
    }

    /// Writes down something else in the place of what a run has written down before. Whoever comes by between the two
    /// finds both, which must do no harm.
    pub async fn record_instead(
        &self,
        owner: &Owner,
        stack: &str,
        image: &str,
        standstill: &Standstill,
    ) -> Result<()> {
        let known = self.labelled(format!("{RUN_LABEL}={}", owner.run)).await?;
        self.record_quiesced(owner, stack, image, standstill)
            .await?;
        for record in known {
            if record.label(ROLE_LABEL) == QUIESCED_ROLE {
                self.remove(&record.id).await?;
            }
        }
        Ok(())
    }

    /// Removes the record of a run that has started everything again.
    pub async fn forget_quiesced(&self, run: &str) -> Result<()> {
        for record in self.labelled(format!("{RUN_LABEL}={run}")).await? {
            if record.label(ROLE_LABEL) == QUIESCED_ROLE {
                self.remove(&record.id).await?;
            }
        }
        Ok(())
    }

    /// Whether there is a record of a run.
    pub async fn has_quiesced(&self, run: &str) -> Result<bool> {
        let records = self.labelled(format!("{RUN_LABEL}={run}")).await?;
        Ok(records
            .iter()
            .any(|record| record.label(ROLE_LABEL) == QUIESCED_ROLE))
    }

    /// The records of dead runs.
    pub async fn abandoned(&self) -> Result<Vec<Abandoned>> {
        let records = self
            .labelled(format!("{ROLE_LABEL}={QUIESCED_ROLE}"))
            .await?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.time().await?;
        let locks = self.labelled(format!("{ROLE_LABEL}={LOCK_ROLE}")).await?;
        let is_held = |record: &Labelled| {
            locks
                .iter()
                .any(|lock| lock.label(RUN_LABEL) == record.label(RUN_LABEL) && !lock.is_over(now))
        };
        let dead = records.iter().filter(|record| !is_held(record));
        let read = dead.map(|record| {
            Some(Abandoned {
                run: record.label(RUN_LABEL).to_owned(),
                stack: record.label(STACK_LABEL).to_owned(),
                image: record.image.clone(),
                standstill: serde_json::from_str(record.label(STANDSTILL_LABEL)).ok()?,
                record: record.id.clone(),
            })
        });
        Ok(read.flatten().collect())
    }

    /// Removes the record of a dead run, once what it names was started.
    pub async fn forget(&self, abandoned: &Abandoned) -> Result<()> {
        self.remove(&abandoned.record).await
    }

    /// Stops or pauses a container, as its record says; one that does not run is no error.
    pub async fn quiesce(&self, container: &Quiesced) -> Result<()> {
        match container.how {
            Quiesce::Stop => self.stop(&container.container_id).await,
            Quiesce::Pause => {
                let pause = self.client.pause_container(&container.container_id);
                match within("pause the container", pause).await {
                    Err(error) if error.chain().contains("already paused") => Ok(()),
                    result => result,
                }
            }
        }
    }

    /// Starts or continues a container, under its present id. One that runs is no error.
    ///
    /// # Errors
    /// Not found where nothing of its labels is there any more.
    pub async fn resume(&self, container: &Quiesced) -> Result<()> {
        self.resume_until(container, Instant::now() + HEALTHY_LIMIT)
            .await
    }

    /// The same; one that others wait for must be healthy at `until`.
    pub async fn resume_until(&self, container: &Quiesced, until: Instant) -> Result<()> {
        let id = self.present_id(container).await?.ok_or_else(|| {
            Error::not_found(format!(
                "there is no container of service {} any more",
                container.service
            ))
        })?;
        if container.how == Quiesce::Pause && self.state(&id).await? == "paused" {
            return within("continue the container", self.client.unpause_container(&id)).await;
        }
        self.start(&id).await?;
        if container.awaited {
            let one = Awaited {
                container_id: id,
                container_name: container.container_name.clone(),
                service: container.service.clone(),
                was_well: true,
            };
            self.wait_well(&[one], until).await?;
        }
        Ok(())
    }

    /// The id that a container has now: it may have been made anew under the same labels.
    async fn present_id(&self, container: &Quiesced) -> Result<Option<String>> {
        if self.exists(&container.container_id).await? {
            return Ok(Some(container.container_id.clone()));
        }
        let Some(project) = &container.project else {
            let by_name = self.exists(&container.container_name).await?;
            return Ok(by_name.then(|| container.container_name.clone()));
        };
        let mut labels = vec![
            format!("com.docker.compose.project={project}"),
            format!("com.docker.compose.service={}", container.service),
        ];
        if let Some(number) = &container.number {
            labels.push(format!("com.docker.compose.container-number={number}"));
        }
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let list = self.client.list_containers(Some(options));
        let found = within("list the containers", list).await?;
        Ok(found.into_iter().find_map(|one| one.id))
    }
}

//! Throwaway servers: containers of a store's own image that live as long as one run, on volumes of their own.
//!
//! What is restored into one must not reach anybody: a restored job or subscription would call the live systems.
//! So it has no network but its own loopback, not even an internal one, whose gateway is the engine's machine; no
//! published port, no rights beyond those that an image's entrypoint needs, limits, and the last say when
//! processors are short.
//!
//! Containers and volumes carry their owner's labels. They are removed at the end of the run, by
//! [`Engine::end_throwaways`]; what a killed run leaves, [`Engine::sweep`] removes once its owner is dead.

use super::owner::Owner;
use super::scratch::Bound;
use super::{Engine, Labelled, ROLE_LABEL, RUN_LABEL, within};
use crate::error::{Error, Result};
use crate::stack::{Service, Volume};
use bollard::container::LogOutput;
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, RestartPolicy,
    RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    ListVolumesOptionsBuilder, LogsOptionsBuilder, StartContainerOptions,
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use std::collections::HashMap;
use std::time::Duration;

/// The role of throwaway servers and of their volumes.
pub(super) const THROWAWAY_ROLE: &str = "throwaway";

/// When one is a leftover whatever became of its owner: no restore takes so long.
const LIFETIME: TimeDelta = TimeDelta::days(7);
/// What an entrypoint needs that begins as root, gives its folders away and becomes the server's user.
const CAPABILITIES: [&str; 5] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"];
/// Shared memory in bytes: a ceiling, counted against the memory limit. The default of 64 MiB is too small for
/// PostgreSQL's parallel queries (docker-library/postgres#416).
const SHARED_MEMORY: i64 = 1 << 30;
/// The share of the processors when others want them, too; everybody else's is 1024.
const PROCESSOR_SHARES: i64 = 256;
/// How long one may take to end where it is asked to, in seconds: all that is in its memory goes to the disk.
const FAREWELL: i64 = 600;
/// How many lines of a server's log are told where it does not come up, and how long asking for them may take.
const LAST_LINES: &str = "6";
const ASKING: Duration = Duration::from_secs(5);

/// What a throwaway server may take of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: i64,
    /// Processors, in billionths of one.
    pub nano_cpus: i64,
}

/// What a throwaway server is made from.
#[derive(Debug, Clone)]
pub struct ThrowawayOptions {
    /// The image's id.
    pub image: String,
    /// The arguments of its entrypoint; none for the image's own.
    pub command: Vec<String>,
    /// Variables: `NAME=value`. They show in no event and no process list.
    pub environment: Vec<String>,
    /// Its data's volume, which is a throwaway one, too.
    pub data: Bound,
    /// What it may take.
    pub limits: Limits,
}

impl Engine {
    /// Makes an empty volume for the owner's run.
    pub async fn throwaway_volume(&self, owner: &Owner) -> Result<Volume> {
        let name = format!("lifeboat-throwaway-{}", super::random_hex(8)?);
        // To make a volume that is there already is no error to the engine.
        if self.volume_exists(&name).await? {
            return Err(Error::failed(format!("there is a volume {name} already")));
        }
        let volume = Volume {
            labels: self.throwaway_labels(owner).await?.into_iter().collect(),
            ..Volume::plain(&name)
        };
        self.create_volume(&volume).await?;
        Ok(volume)
    }

    /// Makes and starts a server for the owner's run; described as a service of this name.
    pub async fn throwaway_server(
        &self,
        owner: &Owner,
        service: &str,
        options: &ThrowawayOptions,
    ) -> Result<Service> {
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let body = ContainerCreateBody {
            image: Some(options.image.clone()),
            cmd: (!options.command.is_empty()).then(|| options.command.clone()),
            env: Some(options.environment.clone()),
            labels: Some(self.throwaway_labels(owner).await?),
            stop_timeout: Some(FAREWELL),
            healthcheck: Some(HealthConfig {
                test: Some(strings(&["NONE"])),
                ..HealthConfig::default()
            }),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                cap_drop: Some(strings(&["ALL"])),
                cap_add: Some(strings(&CAPABILITIES)),
                security_opt: Some(strings(&["no-new-privileges"])),
                memory: Some(options.limits.memory),
                nano_cpus: Some(options.limits.nano_cpus),
                cpu_shares: Some(PROCESSOR_SHARES),
                pids_limit: Some(4096),
                shm_size: Some(SHARED_MEMORY),
                restart_policy: Some(RestartPolicy {
                    name: Some(RestartPolicyNameEnum::NO),
                    ..RestartPolicy::default()
                }),
                binds: Some(vec![format!(
                    "{}:{}",
                    options.data.source, options.data.destination
                )]),
                // Kept, since its end may have to be explained; not much of it.
                log_config: Some(HostConfigLogConfig {
                    typ: Some("json-file".to_owned()),
                    config: Some(HashMap::from([("max-size".to_owned(), "1m".to_owned())])),
                }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let name = format!("lifeboat-throwaway-{}", super::random_hex(8)?);
        let id = self
            .create(&name, body)
            .await?
            .ok_or_else(|| Error::failed(format!("the container name {name} is taken")))?;
        let start = self
            .client
            .start_container(&id, None::<StartContainerOptions>);
        within("start a throwaway server", start).await?;
        let made = self.service(&id).await?;
        Ok(Service {
            name: service.to_owned(),
            ..made
        })
    }

    /// The end of a server's log, on one line, for whoever wonders why it does not come up; empty where the engine
    /// does not tell.
    pub async fn last_log_lines(&self, container_id: &str) -> String {
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .tail(LAST_LINES)
            .build();
        let mut lines = self.client.logs(container_id, Some(options));
        let mut said = String::new();
        while let Ok(Some(Ok(line))) = tokio::time::timeout(ASKING, lines.next()).await {
            let (LogOutput::StdOut { message }
            | LogOutput::StdErr { message }
            | LogOutput::Console { message }
            | LogOutput::StdIn { message }) = line;
            let text = String::from_utf8_lossy(&message);
            let text = text.trim();
            if !text.is_empty() {
                let between = if said.is_empty() { "" } else { " / " };
                said = format!("{said}{between}{text}");
            }
        }
        said
    }

    /// Removes everything that a run has made for itself: its throwaway servers, scratch containers and helpers,
    /// then its volumes.
    pub async fn end_throwaways(&self, run: &str) -> Result<()> {
        let label = format!("{RUN_LABEL}={run}");
        for container in self.labelled(label.clone()).await? {
            if container.label(ROLE_LABEL) == THROWAWAY_ROLE {
                self.remove(&container.id).await?;
            }
        }
        self.end_scratches(run).await?;
        for volume in self.throwaway_volumes(label).await? {
            self.discard_volume(&volume.id).await?;
        }
        Ok(())
    }

    /// Removes the throwaway volumes of runs that are over. Their containers have gone before.
    pub(super) async fn sweep_volumes(&self, now: DateTime<Utc>) -> Result<usize> {
        let volumes = self.throwaway_volumes(ROLE_LABEL.to_owned()).await?;
        let mut removed = 0;
        for volume in volumes.iter().filter(|volume| volume.is_over(now)) {
            self.discard_volume(&volume.id).await?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Throwaway volumes that carry `label` too; a volume's id is its name.
    async fn throwaway_volumes(&self, label: String) -> Result<Vec<Labelled>> {
        let role = format!("{ROLE_LABEL}={THROWAWAY_ROLE}");
        let filters = HashMap::from([("label".to_owned(), vec![label, role])]);
        let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
        let list = self.client.list_volumes(Some(options));
        let listed = within("list lifeboat's volumes", list).await?;
        let volumes = listed.volumes.unwrap_or_default().into_iter();
        Ok(volumes
            .map(|volume| Labelled {
                id: volume.name,
                image: String::new(),
                names: Vec::new(),
                labels: volume.labels,
            })
            // The engine's filter is not taken on trust where something is removed.
            .filter(|volume| volume.label(ROLE_LABEL) == THROWAWAY_ROLE)
            .collect())
    }

    /// Removes a volume; one that somebody else has just removed is no error.
    async fn discard_volume(&self, name: &str) -> Result<()> {
        match self.remove_volume(name).await {
            Err(error) if self.volume_exists(name).await? => Err(error),
            _ => Ok(()),
        }
    }

    async fn throwaway_labels(&self, owner: &Owner) -> Result<HashMap<String, String>> {
        let now = self.time().await?;
        let deadline = now.checked_add_signed(LIFETIME).unwrap_or(now);
        Ok(owner.labels(THROWAWAY_ROLE, deadline))
    }
}

//! Throwaway containers for checks and for work on a volume: no network, no log, and an end of their own.

use super::owner::Owner;
use super::{Engine, within};
use crate::error::{Error, Result};
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::StartContainerOptions;
use chrono::TimeDelta;
use std::time::Duration;

/// The role of a scratch container.
pub(super) const SCRATCH_ROLE: &str = "scratch";

/// What a scratch container is made from.
#[derive(Debug, Clone)]
pub struct ScratchOptions {
    /// The image's id or name. It must be on the engine already and have `sh` and `sleep`.
    pub image: String,
    /// After this it ends by itself and is removed, whatever became of lifeboat.
    pub lifetime: Duration,
    /// Paths to keep in memory, the image's own volumes among them.
    pub tmpfs: Vec<String>,
    /// Memory limit in bytes, `tmpfs` included; 0 for none.
    pub memory: i64,
    /// What of the application's is mounted, where it is worked on. Work on somebody's files is done as root:
    /// they belong to whatever user the application has.
    pub volume: Option<Bound>,
}

/// A volume or a folder of the engine's machine, and where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The volume's name or the folder's path.
    pub source: String,
    /// The path in the container.
    pub destination: String,
}

/// A running scratch container. It is removed by [`remove`](Self::remove), by its own end, or by
/// [`Engine::sweep`]; dropping this value does nothing.
#[derive(Debug)]
pub struct Scratch {
    /// The container's id.
    pub id: String,
    engine: Engine,
}

impl Engine {
    /// Creates and starts a scratch container for the owner's run.
    pub async fn scratch(&self, owner: &Owner, options: &ScratchOptions) -> Result<Scratch> {
        let seconds = options.lifetime.as_secs().max(1);
        let slack = 60;
        let lifetime = i64::try_from(seconds)
            .ok()
            .and_then(|seconds| TimeDelta::try_seconds(seconds.saturating_add(slack)))
            .ok_or_else(|| Error::failed(format!("{seconds} seconds are no lifetime")))?;
        let deadline = self
            .time()
            .await?
            .checked_add_signed(lifetime)
            .ok_or_else(|| Error::failed(format!("{seconds} seconds are no lifetime")))?;
        let body = ContainerCreateBody {
            image: Some(options.image.clone()),
            // `wait` can be interrupted by a signal, `sleep` as process 1 could not: process 1 has
            // no default handlers.
            entrypoint: Some(vec!["sh".to_owned(), "-c".to_owned()]),
            cmd: Some(vec![format!(
                "trap 'exit 0' TERM INT; sleep {seconds} & wait"
            )]),
            // The image's own check would only cost time here.
            healthcheck: Some(bollard::models::HealthConfig {
                test: Some(vec!["NONE".to_owned()]),
                ..Default::default()
            }),
            labels: Some(owner.labels(SCRATCH_ROLE, deadline)),
            user: options.volume.as_ref().map(|_| "0:0".to_owned()),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                auto_remove: Some(true),
                memory: (options.memory > 0).then_some(options.memory),
                tmpfs: Some(
                    options
                        .tmpfs
                        .iter()
                        .map(|path| (path.clone(), String::new()))
                        .collect(),
                ),
                // By its name, a volume is never removed together with the container.
                binds: options
                    .volume
                    .as_ref()
                    .map(|bound| vec![format!("{}:{}", bound.source, bound.destination)]),
                // Whatever a container prints would else be kept in the engine's own log file.
                log_config: Some(HostConfigLogConfig {
                    typ: Some("none".to_owned()),
                    config: None,
                }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let name = format!("lifeboat-scratch-{}", super::random_hex(8)?);
        let id = self
            .create(&name, body)
            .await?
            .ok_or_else(|| Error::failed(format!("the container name {name} is taken")))?;
        let start = self
            .client
            .start_container(&id, None::<StartContainerOptions>);
        if let Err(error) = within("start a scratch container", start).await {
            // The reason it could not be started matters more than whether it could be removed;
            // what stays is swept later.
            let _ = self.remove(&id).await;
            return Err(error);
        }
        Ok(Scratch {
            id,
            engine: self.clone(),
        })
    }
}

impl Scratch {
    /// Removes it with everything in it.
    pub async fn remove(self) -> Result<()> {
        self.engine.remove(&self.id).await
    }
}

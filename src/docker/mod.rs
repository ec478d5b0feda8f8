//! The Docker engine, and the only folder that names `bollard`.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`connect`] | finds the engine: `DOCKER_HOST`, contexts, TLS, SSH |
//! | [`discover`] | what runs there: stacks, services, mounts |
//! | [`exec`] | runs commands in containers, with proof that every byte arrived |
//! | [`owner`] | which process made something on the engine, and whether it still lives |
//! | [`lock`] | one operation per stack, whoever shares the engine |
//! | [`quiesce`] | stops or pauses them for a while, and starts them again whatever happens |
//! | [`lifecycle`] | stops and starts containers of the application |
//! | [`scratch`] | throwaway containers for checks, and for work on a volume |
//! | [`volume`] | named volumes |
//! | `doorway` | the shorter way to a helper on this very machine |
//! | [`image`], [`helper`] | lifeboat's own program as an image, and in a container next to volumes |
//! | [`throwaway`] | servers for one run that reach nobody, and their volumes |
//! | [`local_image`] | images that are on the engine already |
//! | `fetch` | brings others there, from a registry or a file |
//! | [`network`] | networks |
//! | [`sweep`] | removes what a killed run left behind |

pub mod connect;
mod context;
mod describe;
pub mod discover;
mod doorway;
pub mod exec;
mod fetch;
pub mod health;
pub mod helper;
pub mod image;
pub mod lifecycle;
pub mod local_image;
pub mod lock;
pub mod network;
pub mod own;
pub mod owner;
pub mod quiesce;
pub mod scratch;
mod ssh;
pub mod sweep;
pub mod throwaway;
pub mod volume;

use crate::error::{Error, Result};
use bollard::errors::Error as Cause;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a plain request (create, inspect, list) may take. Streams have no such limit.
const PLAIN_REQUEST: Duration = Duration::from_mins(1);

/// The label that marks a container as lifeboat's own and says what for: `lock`, `scratch`,
/// `throwaway`.
pub const ROLE_LABEL: &str = "dev.lifeboat.role";
/// The label with the id of the run that made a container.
pub const RUN_LABEL: &str = "dev.lifeboat.run";
/// The label with the time, by the engine's clock, after which a container is a leftover.
pub const DEADLINE_LABEL: &str = "dev.lifeboat.deadline";

/// A connection to one Docker engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    client: bollard::Docker,
    endpoint: Arc<str>,
}

impl Engine {
    /// Where this engine is, for messages: `unix:///var/run/docker.sock`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The time by the engine's own clock. Deadlines are compared with it and never with a local
    /// clock: everyone who shares an engine then agrees on what has expired.
    pub async fn time(&self) -> Result<DateTime<Utc>> {
        let info = within("ask the engine for its time", self.client.info()).await?;
        let text = info.system_time.unwrap_or_default();
        DateTime::parse_from_rfc3339(&text)
            .map(|time| time.with_timezone(&Utc))
            .map_err(|error| {
                Error::failed(format!("the engine's time {text:?} cannot be read")).caused_by(error)
            })
    }

    /// Creates a container; `None` when its name is taken.
    async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<Option<String>> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let request = self.client.create_container(Some(options), body);
        match tokio::time::timeout(PLAIN_REQUEST, request).await {
            Ok(Ok(made)) => Ok(Some(made.id)),
            Ok(Err(cause)) if status(&cause) == Some(409) => Ok(None),
            Ok(Err(cause)) => Err(failed(&format!("create the container {name}"), cause)),
            Err(_) => Err(too_late(&format!("create the container {name}"))),
        }
    }

    /// Removes a container with its anonymous volumes. One that is gone already is no error.
    async fn remove(&self, id: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        let request = self.client.remove_container(id, Some(options));
        match tokio::time::timeout(PLAIN_REQUEST, request).await {
            // 409: somebody else's removal of it is under way.
            Ok(Err(cause)) if matches!(status(&cause), Some(404 | 409)) => Ok(()),
            Ok(result) => result.map_err(|cause| failed("remove a container", cause)),
            Err(_) => Err(too_late("remove a container")),
        }
    }

    /// Whether a container exists, running or not.
    async fn exists(&self, id: &str) -> Result<bool> {
        let request = self
            .client
            .inspect_container(id, None::<InspectContainerOptions>);
        match tokio::time::timeout(PLAIN_REQUEST, request).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(cause)) if status(&cause) == Some(404) => Ok(false),
            Ok(Err(cause)) => Err(failed("inspect a container", cause)),
            Err(_) => Err(too_late("inspect a container")),
        }
    }

    /// Lifeboat's own containers that carry `label`, stopped ones included.
    async fn labelled(&self, label: String) -> Result<Vec<Labelled>> {
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let found = within(
            "list lifeboat's containers",
            self.client.list_containers(Some(options)),
        )
        .await?;
        Ok(found
            .into_iter()
            .filter_map(|container| {
                Some(Labelled {
                    image: container.image_id.unwrap_or_default(),
                    id: container.id?,
                    names: container.names.unwrap_or_default(),
                    labels: container.labels.unwrap_or_default(),
                })
            })
            .collect())
    }
}

/// One of lifeboat's own containers, as far as its labels tell.
struct Labelled {
    id: String,
    image: String,
    names: Vec<String>,
    labels: HashMap<String, String>,
}

impl Labelled {
    fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// When it stops to count; `None` where the label is missing or is no time.
    fn deadline(&self) -> Option<DateTime<Utc>> {
        DateTime::parse_from_rfc3339(self.label(DEADLINE_LABEL))
            .ok()
            .map(|time| time.with_timezone(&Utc))
    }

    fn named(&self, name: &str) -> bool {
        self.names
            .iter()
            .any(|candidate| candidate.trim_start_matches('/') == name)
    }
}

/// A plain request, within [`PLAIN_REQUEST`]; `what` reads after "cannot".
async fn within<T>(what: &str, request: impl Future<Output = Result<T, Cause>>) -> Result<T> {
    match tokio::time::timeout(PLAIN_REQUEST, request).await {
        Ok(result) => result.map_err(|cause| failed(what, cause)),
        Err(_) => Err(too_late(what)),
    }
}

fn too_late(what: &str) -> Error {
    Error::failed(format!(
        "cannot {what}: the Docker engine did not answer within {} seconds",
        PLAIN_REQUEST.as_secs()
    ))
    .hint("see whether `docker ps` answers; an engine that is out of memory or disk can hang")
}

/// The engine's answer as lifeboat's error; `what` reads after "cannot".
fn failed(what: &str, cause: Cause) -> Error {
    match cause {
        Cause::DockerResponseServerError { message, .. } if !message.is_empty() => {
            Error::failed(format!("cannot {what}: {}", message.trim()))
        }
        other => {
            let error = Error::failed(format!("cannot {what}")).caused_by(other);
            // haproxy from 2.4 on takes `Upgrade` off requests that have a body (haproxy#2684).
            match error.chain().contains("no upgrade available") {
                true => error.hint(
                    "a proxy before the engine does not pass `Connection: Upgrade` on, which exec and attach need: \
                     see docs/engine-api.md",
                ),
                false => error,
            }
        }
    }
}

/// The HTTP status of an engine's refusal.
fn status(cause: &Cause) -> Option<u16> {
    match cause {
        Cause::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// `count` random bytes as lowercase hexadecimal digits.
fn random_hex(count: usize) -> Result<String> {
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::failed(format!("cannot get random bytes: {error}")))?;
    Ok(hex::encode(bytes))
}

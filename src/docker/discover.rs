//! What runs on an engine: its containers, grouped into stacks.

use super::{Engine, PLAIN_REQUEST, ROLE_LABEL, failed, status, too_late, within};
use crate::error::{Error, Result};
use crate::stack::{Mount, Service, Stack};
use bollard::models::{ContainerInspectResponse, MountPoint};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use futures_util::{StreamExt, TryStreamExt};
use std::collections::{BTreeMap, HashMap};

/// The label with the Compose project's name.
pub(super) const PROJECT_LABEL: &str = "com.docker.compose.project";
const SERVICE_LABEL: &str = "com.docker.compose.service";
const ONEOFF_LABEL: &str = "com.docker.compose.oneoff";

/// How many containers are inspected at once.
const AT_ONCE: usize = 8;

impl Engine {
    /// Every stack on this engine, stopped containers included, ordered by name.
    ///
    /// A plain container is a stack of its own name. Left out are lifeboat's own containers and
    /// those of `docker compose run`. A container that vanishes meanwhile is left out too.
    pub async fn containers(&self) -> Result<Vec<Stack>> {
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let listed = within(
            "list the containers",
            self.client.list_containers(Some(options)),
        )
        .await?;
        let ids = listed
            .into_iter()
            .filter(|container| {
                container.labels.as_ref().is_none_or(|labels| {
                    !labels.contains_key(ROLE_LABEL)
                        && labels.get(ONEOFF_LABEL).map(String::as_str) != Some("True")
                })
            })
            .filter_map(|container| container.id);
        let inspected: Vec<_> = futures_util::stream::iter(ids)
            .map(|id| async move { self.inspect(&id).await })
            .buffered(AT_ONCE)
            .try_filter_map(|found| async { Ok(found) })
            .try_collect()
            .await?;
        let services: Vec<Service> = inspected.into_iter().filter_map(service).collect();
        let digests = self.digests(&services).await?;
        Ok(group(services.into_iter().map(|mut service| {
            service.image_digest = digests
                .get(&service.image_id)
                .and_then(|known| digest_of(known, &service.image));
            service
        })))
    }

    /// One container, as a service; its image's digest is not looked for.
    pub(super) async fn service(&self, id: &str) -> Result<Service> {
        let found = self.inspect(id).await?.and_then(service);
        found.ok_or_else(|| Error::failed("a container is gone that was just made"))
    }

    /// `None` for a container that is gone.
    async fn inspect(&self, id: &str) -> Result<Option<ContainerInspectResponse>> {
        let request = self
            .client
            .inspect_container(id, None::<InspectContainerOptions>);
        match tokio::time::timeout(PLAIN_REQUEST, request).await {
            Ok(Ok(container)) => Ok(Some(container)),
            Ok(Err(cause)) if status(&cause) == Some(404) => Ok(None),
            Ok(Err(cause)) => Err(failed("inspect a container", cause)),
            Err(_) => Err(too_late("inspect a container")),
        }
    }

    /// The repository digests of every image in use. An image may have been removed while a
    /// container of it still exists.
    async fn digests(&self, services: &[Service]) -> Result<HashMap<String, Vec<String>>> {
        let mut digests = HashMap::new();
        for service in services {
            if digests.contains_key(&service.image_id) {
                continue;
            }
            let request = self.client.inspect_image(&service.image_id);
            let known = match tokio::time::timeout(PLAIN_REQUEST, request).await {
                Ok(Ok(image)) => image.repo_digests.unwrap_or_default(),
                Ok(Err(cause)) if status(&cause) == Some(404) => Vec::new(),
                Ok(Err(cause)) => return Err(failed("inspect an image", cause)),
                Err(_) => return Err(too_late("inspect an image")),
            };
            digests.insert(service.image_id.clone(), known);
        }
        Ok(digests)
    }
}

/// One container as a service; `None` without the fields that every engine fills.
fn service(container: ContainerInspectResponse) -> Option<Service> {
    let config = container.config?;
    let limits = container.host_config.unwrap_or_default();
    let state = container.state.unwrap_or_default();
    let labels: BTreeMap<String, String> = config.labels.unwrap_or_default().into_iter().collect();
    let container_name = container.name?.trim_start_matches('/').to_owned();
    let on = |flag: Option<bool>| flag == Some(true);
    Some(Service {
        name: labels
            .get(SERVICE_LABEL)
            .unwrap_or(&container_name)
            .to_owned(),
        container_id: container.id?,
        container_name,
        image: config.image.unwrap_or_default(),
        image_id: container.image.unwrap_or_default(),
        image_digest: None,
        running: on(state.running) && !on(state.paused) && !on(state.restarting),
        state: state
            .status
            .map(|status| status.to_string())
            .unwrap_or_default(),
        labels,
        env: config
            .env
            .unwrap_or_default()
            .iter()
            .filter_map(|entry| entry.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        command: container
            .path
            .into_iter()
            .chain(container.args.unwrap_or_default())
            .collect(),
        mounts: container
            .mounts
            .unwrap_or_default()
            .into_iter()
            .filter_map(mount)
            .collect(),
        user: config.user.filter(|user| !user.is_empty()),
        nano_cpus: cpu_limit(&limits),
        memory: limits.memory.unwrap_or_default(),
    })
}

/// The CPU limit in billionths of a core, however it was given.
fn cpu_limit(limits: &bollard::models::HostConfig) -> i64 {
    let quota = limits.cpu_quota.unwrap_or_default();
    let period = match limits.cpu_period.unwrap_or_default() {
        // The kernel's default, in microseconds.
        0 => 100_000,
        period => period,
    };
    match limits.nano_cpus.unwrap_or_default() {
        0 if quota > 0 => quota.saturating_mul(1_000_000_000) / period,
        nano_cpus => nano_cpus,
    }
}

fn mount(point: MountPoint) -> Option<Mount> {
    let is_bind = point.typ.as_deref() == Some("bind");
    Some(Mount {
        // A bind mount has no name; an engine may say so with an empty one.
        volume: point.name.filter(|name| !name.is_empty()),
        folder: point.source.filter(|_| is_bind),
        destination: point.destination?,
        read_only: point.rw == Some(false),
    })
}

/// The digest under the repository that the container's image was named by, else the first.
fn digest_of(known: &[String], image: &str) -> Option<String> {
    let tag = image
        .rfind(':')
        .filter(|&colon| !image[colon..].contains('/'));
    let repository = &image[..tag.unwrap_or(image.len())];
    known
        .iter()
        .find(|digest| {
            digest
                .split_once('@')
                .is_some_and(|(name, _)| name == repository)
        })
        .or(known.first())
        .cloned()
}

/// Stacks by name. A plain container that is named like a project stays a stack of its own.
fn group(services: impl Iterator<Item = Service>) -> Vec<Stack> {
    let mut stacks: BTreeMap<(String, bool), Vec<Service>> = BTreeMap::new();
    for service in services {
        let key = match service.labels.get(PROJECT_LABEL) {
            Some(project) => (project.clone(), false),
            None => (service.container_name.clone(), true),
        };
        stacks.entry(key).or_default().push(service);
    }
    stacks
        .into_iter()
        .map(|((name, _), mut services)| {
            services
                .sort_by(|a, b| (&a.name, &a.container_name).cmp(&(&b.name, &b.container_name)));
            Stack { name, services }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_images_own_repository() {
        let known = [
            "mirror.example:5000/postgres@sha256:1".to_owned(),
            "postgres@sha256:2".to_owned(),
        ];
        let digest = |image: &str| digest_of(&known, image).unwrap();
        assert_eq!(digest("postgres:17"), "postgres@sha256:2");
        assert_eq!(digest("postgres"), "postgres@sha256:2");
        assert_eq!(digest("mirror.example:5000/postgres"), known[0]);
        assert_eq!(digest("sha256:abc"), known[0]);
        assert_eq!(digest_of(&[], "postgres"), None);
    }

    #[test]
    fn a_cpu_limit_is_read_from_either_form() {
        let limit = |nano_cpus, cpu_quota, cpu_period| {
            cpu_limit(&bollard::models::HostConfig {
                nano_cpus,
                cpu_quota,
                cpu_period,
                ..Default::default()
            })
        };
        assert_eq!(limit(Some(1_500_000_000), None, None), 1_500_000_000);
        assert_eq!(limit(Some(0), Some(50_000), Some(0)), 500_000_000);
        assert_eq!(limit(None, Some(-1), None), 0);
    }
}

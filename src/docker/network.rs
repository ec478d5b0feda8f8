//! Networks: which a stack is in, made again as they were, removed.

use super::discover::PROJECT_LABEL;
use super::{Engine, PLAIN_REQUEST, failed, status, too_late, within};
use crate::error::{Error, Result};
use bollard::models::{Network, NetworkCreateRequest};
use bollard::query_parameters::{
    InspectNetworkOptions, ListContainersOptionsBuilder, ListNetworksOptions,
    ListNetworksOptionsBuilder,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// The networks that every engine has by itself.
const BUILT_IN: [&str; 3] = ["bridge", "host", "none"];

/// A network as an engine described it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordedNetwork(Network);

// What the engine says of a network has no numbers that are not whole.
impl Eq for RecordedNetwork {}

impl RecordedNetwork {
    /// Its name.
    pub fn name(&self) -> &str {
        self.0.name.as_deref().unwrap_or_default()
    }

    /// Whether somebody else than Compose made it (`external: true`): Compose then wants it to be there.
    pub fn is_external(&self) -> bool {
        let labels = self.0.labels.as_ref();
        !labels.is_some_and(|labels| labels.contains_key(PROJECT_LABEL))
    }
}

impl Engine {
    /// The networks that were made for a Compose project, and those that its containers are in.
    pub(super) async fn networks_around(&self, project: &str) -> Result<Vec<Network>> {
        let label = vec![format!("{PROJECT_LABEL}={project}")];
        let filters = HashMap::from([("label".to_owned(), label)]);
        let containers = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let containers = within(
            "list the containers",
            self.client.list_containers(Some(containers)),
        )
        .await?;
        let joined: BTreeSet<String> = containers
            .into_iter()
            .filter_map(|container| container.network_settings?.networks)
            .flat_map(HashMap::into_keys)
            .filter(|name| !BUILT_IN.contains(&name.as_str()))
            .collect();
        let all = within(
            "list the networks",
            self.client.list_networks(None::<ListNetworksOptions>),
        )
        .await?;
        let mut around: Vec<Network> = all
            .into_iter()
            .filter(|network| {
                let made_for = network
                    .labels
                    .as_ref()
                    .and_then(|labels| labels.get(PROJECT_LABEL));
                made_for.is_some_and(|made_for| made_for == project)
                    || network
                        .name
                        .as_ref()
                        .is_some_and(|name| joined.contains(name))
            })
            .collect();
        around.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(around)
    }

    /// The names of a Compose project's networks.
    pub async fn networks_of(&self, project: &str) -> Result<Vec<String>> {
        let label = vec![format!("{PROJECT_LABEL}={project}")];
        let filters = HashMap::from([("label".to_owned(), label)]);
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        let list = self.client.list_networks(Some(options));
        let networks = within("list the networks", list).await?;
        Ok(networks.into_iter().filter_map(|one| one.name).collect())
    }

    /// Whether there is a network of this name.
    pub async fn network_exists(&self, name: &str) -> Result<bool> {
        if !is_network_name(name) {
            return Ok(false);
        }
        let request = self
            .client
            .inspect_network(name, None::<InspectNetworkOptions>);
        match tokio::time::timeout(PLAIN_REQUEST, request).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(cause)) if status(&cause) == Some(404) => Ok(false),
            Ok(Err(cause)) => Err(failed("inspect a network", cause)),
            Err(_) => Err(too_late("inspect a network")),
        }
    }

    /// Makes a network as it was. Gives false where its addresses are taken on this machine, and it got others.
    pub async fn create_network(&self, recorded: &RecordedNetwork) -> Result<bool> {
        let name = recorded.name();
        if !is_network_name(name) {
            return Err(Error::usage(format!("{name:?} is no name for a network")));
        }
        let Network {
            driver,
            internal,
            attachable,
            enable_ipv6,
            ipam,
            options,
            labels,
            ..
        } = recorded.0.clone();
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver,
            internal,
            attachable,
            enable_ipv6,
            ipam,
            options,
            labels,
            ..NetworkCreateRequest::default()
        };
        let what = format!("create the network {name}");
        let made = within(&what, self.client.create_network(request.clone())).await;
        match made {
            Ok(_) => return Ok(true),
            Err(error) if !error.chain().contains("overlaps") => return Err(error),
            Err(_) => {}
        }
        let elsewhere = NetworkCreateRequest {
            ipam: None,
            ..request
        };
        within(&what, self.client.create_network(elsewhere)).await?;
        Ok(false)
    }

    /// Removes a network that no container is in.
    pub async fn remove_network(&self, name: &str) -> Result<()> {
        within(
            &format!("remove the network {name}"),
            self.client.remove_network(name),
        )
        .await
    }
}

/// Whether it can be a part of a request's path: a backup's may be an enemy's.
fn is_network_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

//! A stack as the engine describes it, for `stack.json`: what a rebuild of it has to know.

use super::discover::PROJECT_LABEL;
use super::{Engine, within};
use crate::error::Result;
use crate::stack::Stack;
use bollard::models::Network;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptions, ListVolumesOptions,
};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// Networks that every engine has.
const BUILT_IN: [&str; 3] = ["bridge", "host", "none"];

impl Engine {
    /// Services with their images, volumes with their drivers, labels and options (those that it mounts and those
    /// that were made for it), networks. No
    /// environment: that is where secrets are.
    pub async fn describe(&self, stack: &Stack) -> Result<Value> {
        let list = self.client.list_volumes(None::<ListVolumesOptions>);
        let listed = within("list the volumes", list).await?.volumes;
        let is_of_stack = |volume: &bollard::models::Volume| {
            let mut mounts = stack.services.iter().flat_map(|service| &service.mounts);
            volume.labels.get(PROJECT_LABEL) == Some(&stack.name)
                || mounts.any(|mount| mount.volume.as_deref() == Some(&volume.name))
        };
        let volumes: Vec<_> = listed
            .unwrap_or_default()
            .into_iter()
            .filter(is_of_stack)
            .collect();
        let networks = self.networks(stack).await?;
        Ok(json!({
            "engine": self.version().await?,
            "stack": stack,
            "volumes": volumes,
            "networks": networks,
        }))
    }

    /// The project's networks, and those that its containers are in; not those that every engine has.
    async fn networks(&self, stack: &Stack) -> Result<Vec<Network>> {
        let ids = stack.services.iter().map(|one| one.container_id.clone());
        let filters = HashMap::from([("id".to_owned(), ids.collect::<Vec<_>>())]);
        let mut attached = HashSet::new();
        if !stack.services.is_empty() {
            let options = ListContainersOptionsBuilder::new();
            let list = options.all(true).filters(&filters).build();
            let list = self.client.list_containers(Some(list));
            for container in within("list the containers", list).await? {
                let settings = container.network_settings.and_then(|one| one.networks);
                attached.extend(settings.into_iter().flatten().map(|(name, _)| name));
            }
        }
        let list = self.client.list_networks(None::<ListNetworksOptions>);
        let mut networks = within("list the networks", list).await?;
        networks.retain(|network| {
            let labels = network.labels.as_ref();
            let name = network.name.as_deref().unwrap_or_default();
            labels.and_then(|labels| labels.get(PROJECT_LABEL)) == Some(&stack.name)
                || (attached.contains(name) && !BUILT_IN.contains(&name))
        });
        Ok(networks)
    }

    /// The engine's version with the API version that was agreed on: `20.10.24 (API 1.41)`.
    pub async fn version(&self) -> Result<String> {
        let version = within("ask the engine for its version", self.client.version()).await?;
        let api = self.client.client_version();
        Ok(format!(
            "{} (API {api})",
            version.version.unwrap_or_default()
        ))
    }
}

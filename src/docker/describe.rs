//! A stack as the engine describes it, for `stack.json`: what a rebuild of it has to know.

use super::discover::PROJECT_LABEL;
use super::{Engine, within};
use crate::error::Result;
use crate::stack::Stack;
use bollard::query_parameters::ListVolumesOptions;
use serde_json::{Value, json};

impl Engine {
    /// Services with their images, volumes with their drivers, labels and options (those that it mounts and those
    /// that were made for it), networks (those that it is in, too). No environment: that is where secrets are.
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
        let networks = self.networks_around(&stack.name).await?;
        Ok(json!({
            "engine": self.version().await?,
            "stack": stack,
            "volumes": volumes,
            "networks": networks,
        }))
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

//! A stack as the engine describes it, for `stack.json`: what a rebuild of it has to know.

use super::{Engine, within};
use crate::error::Result;
use crate::stack::Stack;
use bollard::query_parameters::{ListNetworksOptionsBuilder, ListVolumesOptionsBuilder};
use serde_json::{Value, json};
use std::collections::HashMap;

impl Engine {
    /// Services with their images, volumes with their drivers, labels and options, networks. No
    /// environment: that is where secrets are.
    pub async fn describe(&self, stack: &Stack) -> Result<Value> {
        let project = vec![format!("com.docker.compose.project={}", stack.name)];
        let filters = HashMap::from([("label".to_owned(), project)]);
        let volumes = ListVolumesOptionsBuilder::new().filters(&filters).build();
        let volumes = within("list the volumes", self.client.list_volumes(Some(volumes))).await?;
        let networks = ListNetworksOptionsBuilder::new().filters(&filters).build();
        let networks = within(
            "list the networks",
            self.client.list_networks(Some(networks)),
        )
        .await?;
        Ok(json!({
            "engine": self.version().await?,
            "stack": stack,
            "volumes": volumes.volumes,
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

//! Stopping and starting a container of the application, for what can only be changed while nothing runs.

use super::{Engine, failed, status, within};
use crate::error::{Error, Result};
use bollard::query_parameters::{
    InspectContainerOptions, StartContainerOptions, StopContainerOptions,
};
use std::time::Duration;

/// How long a stop may take, the container's own grace period included: people give databases minutes.
const STOP_LIMIT: Duration = Duration::from_mins(30);

impl Engine {
    /// Stops a container and waits until it has: its own signal, then its own grace period before it is
    /// killed. One that does not run is no error.
    pub async fn stop(&self, container_id: &str) -> Result<()> {
        // Without `t` the engine takes the container's own grace period.
        let request = self
            .client
            .stop_container(container_id, None::<StopContainerOptions>);
        match tokio::time::timeout(STOP_LIMIT, request).await {
            Ok(Err(cause)) if status(&cause) == Some(304) => Ok(()),
            Ok(result) => result.map_err(|cause| failed("stop the container", cause)),
            Err(_) => Err(Error::failed(format!(
                "the container {container_id} did not stop within {} minutes",
                STOP_LIMIT.as_secs() / 60
            ))),
        }
    }

    /// Starts a container. One that runs is no error.
    pub async fn start(&self, container_id: &str) -> Result<()> {
        let request = self
            .client
            .start_container(container_id, None::<StartContainerOptions>);
        within("start the container", request).await
    }

    /// Removes a container of the application, with its anonymous volumes. One that is gone is no error.
    pub async fn remove_container(&self, container_id: &str) -> Result<()> {
        self.remove(container_id).await
    }

    /// The engine's word for a container's state: `running`, `exited`, `restarting`.
    pub async fn state(&self, container_id: &str) -> Result<String> {
        let request = self
            .client
            .inspect_container(container_id, None::<InspectContainerOptions>);
        let container = within("inspect a container", request).await?;
        let state = container.state.and_then(|state| state.status);
        Ok(state.map(|state| state.to_string()).unwrap_or_default())
    }

    /// What the first process of a container that has ended ended with.
    pub async fn exit_code(&self, container_id: &str) -> Result<i64> {
        let request = self
            .client
            .inspect_container(container_id, None::<InspectContainerOptions>);
        let container = within("inspect a container", request).await?;
        let code = container.state.and_then(|state| state.exit_code);
        code.ok_or_else(|| Error::failed("the engine does not say how the container ended"))
    }
}

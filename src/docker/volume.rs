//! Named volumes.

use super::{Engine, PLAIN_REQUEST, failed, status, too_late, within};
use crate::error::Result;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::RemoveVolumeOptions;

impl Engine {
    /// Whether there is a volume of this name. Asked before one is used: a name that is new to the engine
    /// makes an empty volume without a word.
    pub async fn volume_exists(&self, name: &str) -> Result<bool> {
        let request = self.client.inspect_volume(name);
        match tokio::time::timeout(PLAIN_REQUEST, request).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(cause)) if status(&cause) == Some(404) => Ok(false),
            Ok(Err(cause)) => Err(failed("inspect a volume", cause)),
            Err(_) => Err(too_late("inspect a volume")),
        }
    }

    /// Makes an empty volume with the engine's default driver.
    pub async fn create_volume(&self, name: &str) -> Result<()> {
        let request = self.client.create_volume(VolumeCreateRequest {
            name: Some(name.to_owned()),
            ..VolumeCreateRequest::default()
        });
        within(&format!("create the volume {name}"), request)
            .await
            .map(|_| ())
    }

    /// Removes a volume with all that is in it.
    pub async fn remove_volume(&self, name: &str) -> Result<()> {
        let request = self.client.remove_volume(name, None::<RemoveVolumeOptions>);
        within(&format!("remove the volume {name}"), request).await
    }
}

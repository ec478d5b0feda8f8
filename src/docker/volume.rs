//! Named volumes: what they are, made and removed as they were.

use super::{Engine, PLAIN_REQUEST, ROLE_LABEL, failed, status, too_late, within};
use crate::error::{Error, Result};
use crate::stack::Volume;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often, and how many times, the engine is asked again to remove a volume that is in use.
const IN_USE_PAUSE: Duration = Duration::from_millis(500);
const IN_USE_TRIES: u32 = 20;

impl Engine {
    /// Every volume, by name, but those that lifeboat itself has made for a while.
    pub async fn volumes(&self) -> Result<Vec<Volume>> {
        let list = self.client.list_volumes(None::<ListVolumesOptions>);
        let listed = within("list the volumes", list).await?;
        let mut volumes: Vec<Volume> = listed
            .volumes
            .unwrap_or_default()
            .into_iter()
            .map(volume)
            .filter(|volume| !volume.labels.contains_key(ROLE_LABEL))
            .collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// The volume of this name, where there is one. Asked before one is used: a name that is new to the engine
    /// makes an empty volume without a word.
    pub async fn volume(&self, name: &str) -> Result<Option<Volume>> {
        // The name is a part of the request's path, and would be another request.
        if !is_volume_name(name) {
            return Ok(None);
        }
        let request = self.client.inspect_volume(name);
        match tokio::time::timeout(PLAIN_REQUEST, request).await {
            Ok(Ok(found)) => Ok(Some(volume(found))),
            Ok(Err(cause)) if status(&cause) == Some(404) => Ok(None),
            Ok(Err(cause)) => Err(failed("inspect a volume", cause)),
            Err(_) => Err(too_late("inspect a volume")),
        }
    }

    /// Whether there is a volume of this name.
    pub async fn volume_exists(&self, name: &str) -> Result<bool> {
        self.volume(name).await.map(|found| found.is_some())
    }

    /// Makes an empty volume with exactly this driver, these options and labels: Compose looks at them.
    pub async fn create_volume(&self, wanted: &Volume) -> Result<()> {
        if !is_volume_name(&wanted.name) {
            return Err(Error::usage(format!(
                "{:?} is no name for a volume",
                wanted.name
            ))
            .hint("a volume's name begins with a letter or digit, and has letters, digits, '_', '.' and '-'"));
        }
        // Nothing, and an empty map, are not the same to whoever inspects it.
        let map = |map: &BTreeMap<String, String>| {
            let pairs = map.iter().map(|(key, value)| (key.clone(), value.clone()));
            (!map.is_empty()).then(|| pairs.collect())
        };
        let request = self.client.create_volume(VolumeCreateRequest {
            name: Some(wanted.name.clone()),
            driver: Some(wanted.driver.clone()),
            driver_opts: map(&wanted.options),
            labels: map(&wanted.labels),
            ..VolumeCreateRequest::default()
        });
        within(&format!("create the volume {}", wanted.name), request)
            .await
            .map(|_| ())
    }

    /// Removes a volume with all that is in it. Another lifeboat may be measuring it just now: that takes seconds,
    /// and is waited for.
    pub async fn remove_volume(&self, name: &str) -> Result<()> {
        for _ in 0..IN_USE_TRIES {
            let request = self.client.remove_volume(name, None::<RemoveVolumeOptions>);
            match within(&format!("remove the volume {name}"), request).await {
                Err(error) if error.chain().contains("volume is in use") => {
                    tokio::time::sleep(IN_USE_PAUSE).await;
                }
                removed => return removed,
            }
        }
        let request = self.client.remove_volume(name, None::<RemoveVolumeOptions>);
        within(&format!("remove the volume {name}"), request).await
    }
}

fn volume(found: bollard::models::Volume) -> Volume {
    Volume {
        name: found.name,
        driver: found.driver,
        labels: found.labels.into_iter().collect(),
        options: found.options.into_iter().collect(),
    }
}

/// What the engine takes for a volume's name (`volume/local`, `RestrictedNamePattern`).
fn is_volume_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

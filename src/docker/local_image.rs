//! Images that are on the engine already. Nothing is ever pulled.

use super::{Engine, PLAIN_REQUEST, failed, status, too_late};
use crate::error::Result;
use std::collections::BTreeMap;

/// An image of the engine, as far as a server of it has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalImage {
    /// Its id: `sha256:…`.
    pub id: String,
    /// The name that it was found by.
    pub name: String,
    /// The variables that it sets.
    pub env: BTreeMap<String, String>,
    /// What it runs by itself, without its entrypoint.
    pub command: Vec<String>,
    /// The folders that it declares as volumes, sorted.
    pub volumes: Vec<String>,
    /// Where its programs start; empty for the root.
    pub folder: String,
}

impl LocalImage {
    /// Where a volume for the data folder `folder` belongs: the declared volume that holds it, else the folder.
    pub fn volume_for(&self, folder: &str) -> String {
        let holds = |volume: &&String| {
            folder
                .strip_prefix(volume.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let declared = self.volumes.iter().find(holds).cloned();
        declared.unwrap_or_else(|| folder.to_owned())
    }
}

impl Engine {
    /// The image of this id, digest or name; `None` where the engine does not have it, or it is no name at all.
    pub async fn local_image(&self, name: &str) -> Result<Option<LocalImage>> {
        // The name is a part of the request's path, and would be another request; a backup's may be an enemy's.
        if !is_reference(name) {
            return Ok(None);
        }
        let image = match tokio::time::timeout(PLAIN_REQUEST, self.client.inspect_image(name)).await
        {
            Ok(Ok(image)) => image,
            // 400: the engine takes it for no name.
            Ok(Err(cause)) if matches!(status(&cause), Some(400 | 404)) => return Ok(None),
            Ok(Err(cause)) => return Err(failed("inspect an image", cause)),
            Err(_) => return Err(too_late("inspect an image")),
        };
        let config = image.config.unwrap_or_default();
        let mut volumes: Vec<String> = config.volumes.into_iter().flatten().collect();
        volumes.sort();
        Ok(image.id.map(|id| LocalImage {
            id,
            name: name.to_owned(),
            env: config
                .env
                .unwrap_or_default()
                .iter()
                .filter_map(|entry| entry.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            command: config.cmd.unwrap_or_default(),
            volumes,
            folder: config.working_dir.unwrap_or_default(),
        }))
    }

    /// How many processors and how many bytes of memory the engine's machine has.
    pub async fn capacity(&self) -> Result<(i64, i64)> {
        let info = super::within("ask the engine for its machine", self.client.info()).await?;
        Ok((
            info.ncpu.unwrap_or_default(),
            info.mem_total.unwrap_or_default(),
        ))
    }
}

/// Whether it has the form of an image's name, digest or id.
fn is_reference(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    name.bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() <= 512
        && name.bytes().all(plain)
        && !name
            .split('/')
            .any(|part| part.is_empty() || part.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_other_request() {
        for name in ["postgres:17", "sha256:0a1b", "r.example:5000/a/b@sha256:00"] {
            assert!(is_reference(name), "{name}");
        }
        for name in [
            "",
            "../containers",
            "a/../b",
            "a?x=1",
            "a b",
            "/a",
            "a//b",
            "-a",
        ] {
            assert!(!is_reference(name), "{name}");
        }
    }

    #[test]
    fn the_declared_volume_that_holds_the_data_is_taken() {
        let image = LocalImage {
            id: String::new(),
            name: String::new(),
            env: BTreeMap::new(),
            command: Vec::new(),
            volumes: vec!["/var/lib/postgresql".to_owned()],
            folder: String::new(),
        };
        assert_eq!(
            image.volume_for("/var/lib/postgresql/18/docker"),
            "/var/lib/postgresql"
        );
        assert_eq!(
            image.volume_for("/var/lib/postgresql2"),
            "/var/lib/postgresql2"
        );
    }
}

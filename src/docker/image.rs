//! The image that helpers run: made of lifeboat's own files, and never pulled.

use super::{Engine, PLAIN_REQUEST, ROLE_LABEL, failed, status, too_late, within};
use crate::error::{Error, Result};
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{Stream, StreamExt};
use std::collections::HashMap;
use std::io;
use std::time::Duration;

/// What helper images are called; the tag tells builds apart.
const REPOSITORY: &str = "lifeboat-helper";
/// The role of a helper and of its image.
pub(super) const HELPER_ROLE: &str = "helper";
/// How long an import may take: some megabytes, over a slow line.
const IMPORT_LIMIT: Duration = Duration::from_mins(10);
/// How old an image of another build must be before it is removed: somebody may have just made it.
const LEFTOVER_AGE: TimeDelta = TimeDelta::hours(24);

impl Engine {
    /// The kind of machine that the engine runs on, in its own words: `amd64`.
    pub async fn architecture(&self) -> Result<String> {
        let version = within("ask the engine for its version", self.client.version()).await?;
        Ok(version.arch.unwrap_or_default())
    }

    /// The id of the helper image of the build `key`; `None` where it has none yet.
    pub async fn helper_image(&self, key: &str) -> Result<Option<String>> {
        let name = format!("{REPOSITORY}:{key}");
        match tokio::time::timeout(PLAIN_REQUEST, self.client.inspect_image(&name)).await {
            Ok(Ok(image)) => Ok(image.id),
            Ok(Err(cause)) if status(&cause) == Some(404) => Ok(None),
            Ok(Err(cause)) => Err(failed("inspect an image", cause)),
            Err(_) => Err(too_late("inspect an image")),
        }
    }

    /// Makes the helper image of the build `key` from the files of a tar archive; gives its id.
    pub async fn import_helper_image(
        &self,
        key: &str,
        files: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<String> {
        let options = CreateImageOptionsBuilder::new()
            .from_src("-")
            .repo(REPOSITORY)
            .tag(key)
            .message("lifeboat's own program")
            .changes(vec![format!("LABEL {ROLE_LABEL}={HELPER_ROLE}")])
            .build();
        let body = bollard::body_try_stream(files);
        let mut answers = self.client.create_image(Some(options), Some(body), None);
        let import = async {
            while let Some(answer) = answers.next().await {
                answer.map_err(|cause| failed("import lifeboat's own image", cause))?;
            }
            Ok::<(), Error>(())
        };
        tokio::time::timeout(IMPORT_LIMIT, import)
            .await
            .map_err(|_| too_late("import lifeboat's own image"))??;
        self.helper_image(key).await?.ok_or_else(|| {
            Error::failed("the engine has imported lifeboat's own image and does not have it")
        })
    }

    /// Removes the helper images of other builds, unless they are in use or were made within a day.
    pub async fn sweep_images(&self, key: &str, now: DateTime<Utc>) -> Result<()> {
        let label = vec![format!("{ROLE_LABEL}={HELPER_ROLE}")];
        let filters = HashMap::from([("label".to_owned(), label)]);
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        let images = within("list the images", self.client.list_images(Some(options))).await?;
        let current = format!("{REPOSITORY}:{key}");
        for image in images {
            let created = DateTime::from_timestamp(image.created, 0).unwrap_or(now);
            if image.repo_tags.contains(&current) || now - created < LEFTOVER_AGE {
                continue;
            }
            let options = RemoveImageOptionsBuilder::new().force(false).build();
            // One that a container still uses stays.
            let _ = self
                .client
                .remove_image(&image.id, Some(options), None)
                .await;
        }
        Ok(())
    }
}

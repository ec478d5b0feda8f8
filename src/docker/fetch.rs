//! Bringing images to an engine that does not have them: from a registry, or from a file of `docker save`.

use super::{Engine, failed, within};
use crate::error::{Error, OrFail, Result};
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ImportImageOptionsBuilder, TagImageOptionsBuilder,
};
use futures_util::StreamExt;
use std::path::Path;
use std::time::Duration;
use tokio::fs::File;
use tokio_util::io::ReaderStream;

/// How long an engine may say nothing while it pulls or loads: a large layer is unpacked without a word.
const SILENCE: Duration = Duration::from_mins(15);

impl Engine {
    /// Pulls an image from its registry, without anybody's login: by its `digest` (`postgres@sha256:…`) where that is
    /// known, so that it is the very image, and then under its `name`, too, unless the engine has one of that name.
    pub async fn pull_image(&self, name: &str, digest: Option<&str>) -> Result<()> {
        let reference = digest.unwrap_or(name);
        let what = format!("pull the image {reference}");
        let (repository, tag) = split_tag(name);
        let options = CreateImageOptionsBuilder::new();
        let options = if let Some(digest) = digest {
            options.from_image(digest)
        } else {
            options.from_image(repository).tag(tag)
        };
        let mut answers = self.client.create_image(Some(options.build()), None, None);
        while let Some(answer) = next(&what, &mut answers).await? {
            let answer = answer.map_err(|cause| not_pulled(failed(&what, cause), reference))?;
            if let Some(message) = answer.error_detail.and_then(|detail| detail.message) {
                return Err(not_pulled(
                    Error::failed(format!("cannot {what}: {message}")),
                    reference,
                ));
            }
        }
        if digest.is_some() && !name.contains('@') && self.local_image(name).await?.is_none() {
            let options = TagImageOptionsBuilder::new().repo(repository).tag(tag);
            let tagging = self.client.tag_image(reference, Some(options.build()));
            within(&format!("name the image {name}"), tagging).await?;
        }
        Ok(())
    }

    /// Loads all images of a file that `docker save` has written.
    pub async fn load_images(&self, path: &Path) -> Result<()> {
        let what = format!("load the images of {}", path.display());
        let file = File::open(path)
            .await
            .or_fail(|| format!("cannot read {}", path.display()))?;
        let options = ImportImageOptionsBuilder::new().quiet(true).build();
        let stream = ReaderStream::with_capacity(file, 1 << 20);
        let mut answers = self.client.import_image_stream(options, stream, None);
        while let Some(answer) = next(&what, &mut answers).await? {
            let answer = answer.map_err(|cause| failed(&what, cause))?;
            if let Some(message) = answer.error_detail.and_then(|detail| detail.message) {
                return Err(Error::failed(format!("cannot {what}: {message}"))
                    .hint("docker save -o FILE IMAGE… writes such a file where the images are"));
            }
        }
        Ok(())
    }
}

async fn next<S: futures_util::Stream + Unpin>(
    what: &str,
    answers: &mut S,
) -> Result<Option<S::Item>> {
    tokio::time::timeout(SILENCE, answers.next())
        .await
        .map_err(|_| {
            Error::failed(format!(
                "cannot {what}: the engine has said nothing for {} minutes",
                SILENCE.as_secs() / 60
            ))
        })
}

fn not_pulled(error: Error, reference: &str) -> Error {
    error.hint(format!(
        "docker pull {reference} uses your own login; or docker save it where it still is, and --load that file"
    ))
}

/// A name and its tag; `latest` where it has none.
fn split_tag(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_tag() {
        for (name, repository, tag) in [
            ("postgres:17", "postgres", "17"),
            ("postgres", "postgres", "latest"),
            ("r.example:5000/a/b", "r.example:5000/a/b", "latest"),
            ("r.example:5000/a:1", "r.example:5000/a", "1"),
        ] {
            assert_eq!(split_tag(name), (repository, tag), "{name}");
        }
    }
}

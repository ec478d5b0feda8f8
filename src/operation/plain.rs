//! What is stored, plain again.

use crate::error::{Error, Result};
use crate::manifest::Artifact;
use crate::pipeline::{Limits, RawInspector, unseal};
use crate::repository::Backup;

/// The most that a globals script may hold, in bytes: it is kept in memory.
const LONGEST_GLOBALS: u64 = 64 << 20;

/// A cluster's globals, as text.
pub(super) async fn globals_script(backup: &Backup, artifact: &Artifact) -> Result<String> {
    if artifact.raw_size > LONGEST_GLOBALS {
        return Err(Error::damaged(format!(
            "{} is too long for what it is",
            artifact.name
        )));
    }
    let mut script = Vec::new();
    plain_bytes(backup, artifact, async |bytes| {
        script.extend_from_slice(&bytes);
        Ok(())
    })
    .await?;
    String::from_utf8(script).map_err(|_| Error::damaged(format!("{} is not text", artifact.name)))
}

/// An artifact's plain bytes, every stored digest and the plain size checked by the end.
pub(super) async fn plain_bytes(
    backup: &Backup,
    artifact: &Artifact,
    mut sink: impl AsyncFnMut(bytes::Bytes) -> Result<()>,
) -> Result<()> {
    let limits = Limits {
        raw_size: artifact.raw_size,
    };
    let (mut input, mut output) = unseal(limits, Box::new(RawInspector::new()));
    let mut reader = backup.read(artifact);
    let read = async {
        while let Some(bytes) = reader.next().await? {
            input.push(bytes).await?;
        }
        input.finish().await
    };
    let write = async {
        while let Some(bytes) = output.next().await? {
            sink(bytes).await?;
        }
        Ok(())
    };
    tokio::try_join!(read, write)
        .map(|_| ())
        .map_err(|error| error.while_doing(format!("cannot read {}", artifact.name)))
}

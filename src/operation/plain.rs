//! What is stored, plain again.

use crate::error::Result;
use crate::manifest::Artifact;
use crate::pipeline::{Limits, RawInspector, unseal};
use crate::repository::Backup;

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

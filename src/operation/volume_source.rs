//! A volume as a source: the helper next to it, and when it is started.

use super::Context;
use super::helpers::helper_image;
use super::volumes::Store;
use crate::docker::helper::HelperMount;
use crate::error::Result;
use crate::manifest::{BackupId, Consistency};
use crate::source::volume::{Capture, Session};
use crate::stack::ArtifactName;
use tokio::sync::Mutex;

/// Where a helper has the volume that it works on.
pub(super) const ROOT: &str = "/volume";

/// A volume that is going to be captured.
pub(super) struct VolumeSource {
    pub consistency: Consistency,
    store: Store,
    context: Context,
    run: BackupId,
    /// The helper, where it was started before something was stopped.
    session: Mutex<Option<Session>>,
}

impl VolumeSource {
    pub(super) fn new(
        context: &Context,
        store: Store,
        consistency: Consistency,
        run: &BackupId,
    ) -> Result<Self> {
        context.engine()?;
        Ok(Self {
            consistency,
            store,
            context: context.clone(),
            run: run.clone(),
            session: Mutex::new(None),
        })
    }

    /// What keeps it.
    pub(super) fn driver(&self) -> &str {
        match &self.store.volume {
            Some(volume) => &volume.driver,
            None => "bind",
        }
    }

    /// Starts the helper, so that it is known that it can be. It also keeps a volume in memory from vanishing with
    /// the last container that has it mounted.
    pub(super) async fn prepare(&self) -> Result<()> {
        if self.consistency == Consistency::Live {
            return Ok(());
        }
        let mut session = self.session.lock().await;
        if session.is_none() {
            *session = Some(self.open().await?);
        }
        Ok(())
    }

    /// Starts to read it.
    pub(super) async fn start(&self, name: ArtifactName, level: u8) -> Result<Capture> {
        let session = match self.session.lock().await.take() {
            Some(session) => session,
            None => self.open().await?,
        };
        let live = self.consistency == Consistency::Live;
        Capture::start(name, session, ROOT, level, live).await
    }

    async fn open(&self) -> Result<Session> {
        let mount = HelperMount::read(&self.store.place, ROOT);
        open_session(&self.context, &self.run, vec![mount], false).await
    }
}

/// Starts a helper next to stores.
pub(super) async fn open_session(
    context: &Context,
    run: &BackupId,
    mounts: Vec<HelperMount>,
    in_memory: bool,
) -> Result<Session> {
    let engine = context.engine()?;
    let image = helper_image(context, engine).await?;
    let owner = context.owner(run)?;
    Session::open(engine, &owner, &image, mounts, in_memory).await
}

/// Has a helper work next to stores; it is gone afterwards, however the work came out.
pub(super) async fn with_session<T>(
    context: &Context,
    run: &BackupId,
    mounts: Vec<HelperMount>,
    in_memory: bool,
    work: impl AsyncFnOnce(&mut Session) -> Result<T>,
) -> Result<T> {
    let mut session = open_session(context, run, mounts, in_memory).await?;
    let result = work(&mut session).await;
    let closed = session.close().await;
    // What went wrong with the work says more than what went wrong with the cleaning up.
    let value = result?;
    closed.map(|()| value)
}

//! The image that helpers run, on the engine that needs one.

use super::Context;
use crate::docker::Engine;
use crate::error::{Error, OrFail, Result};
use crate::helper::ARGUMENT;
use crate::helper::bundle::{Bundle, PROGRAM};
use crate::source::volume::HelperImage;
use bytes::Bytes;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{OnceCell, mpsc};

/// What helpers run: this program, or another build of it.
#[derive(Debug, Clone, Default)]
pub struct HelperProgram {
    /// `--helper`: a static executable for an engine on another kind of machine.
    pub path: Option<PathBuf>,
    bundle: Arc<OnceCell<Arc<Bundle>>>,
}

impl HelperProgram {
    /// The executable at `path`; without one, this program.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            ..Self::default()
        }
    }

    async fn bundle(&self) -> Result<Arc<Bundle>> {
        let read = || async {
            let path = self.path.clone();
            let read = move || match path {
                Some(path) => Bundle::of(&path),
                None => Bundle::of_this_program(),
            };
            let read = tokio::task::spawn_blocking(read).await;
            read.or_fail(|| "cannot read lifeboat's own program")?
                .map(Arc::new)
        };
        self.bundle.get_or_try_init(read).await.cloned()
    }
}

/// The image that helpers on `engine` run; imported where it is not there yet.
///
/// # Errors
/// Usage where the engine is on another kind of machine than this program is for.
pub(super) async fn helper_image(context: &Context, engine: &Engine) -> Result<HelperImage> {
    let bundle = context.helper.bundle().await?;
    let machine = engine.architecture().await?;
    if !machine.is_empty() && machine != bundle.architecture {
        let ours = bundle.architecture;
        return Err(Error::usage(format!(
            "the engine at {} is on {machine}, and this lifeboat is for {ours}",
            engine.endpoint()
        ))
        .hint(format!(
            "--helper PATH names a static lifeboat for {machine}, which is run next to the volumes there"
        )));
    }
    let id = match engine.helper_image(&bundle.key).await? {
        Some(id) => id,
        None => import(context, engine, &bundle).await?,
    };
    let mut environment = Vec::new();
    if !bundle.library_folders.is_empty() {
        environment.push(format!(
            "LD_LIBRARY_PATH={}",
            bundle.library_folders.join(":")
        ));
    }
    Ok(HelperImage {
        id,
        command: vec![PROGRAM.to_owned(), ARGUMENT.to_owned()],
        environment,
        sockets: context.state.join("sockets"),
    })
}

async fn import(context: &Context, engine: &Engine, bundle: &Arc<Bundle>) -> Result<String> {
    let (sender, mut receiver) = mpsc::channel(16);
    let own = Arc::clone(bundle);
    let written = tokio::task::spawn_blocking(move || {
        let mut sink = Pieces {
            sender,
            piece: Vec::new(),
        };
        let result = own
            .write(&mut sink)
            .and_then(|()| sink.flush().or_fail(|| "cannot send it"));
        if let Err(error) = &result {
            // The engine must not take what came until here for the whole.
            let _ = sink
                .sender
                .blocking_send(Err(io::Error::other(error.chain())));
        }
        result
    });
    let stream = futures_util::stream::poll_fn(move |task| receiver.poll_recv(task));
    let imported = engine.import_helper_image(&bundle.key, stream).await;
    written
        .await
        .or_fail(|| "cannot read lifeboat's own program")??;
    let id = imported?;
    // Images of builds that are gone are no harm.
    let _ = engine.sweep_images(&bundle.key, context.now()).await;
    Ok(id)
}

/// What is written, piece by piece, for another task.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const PIECE: usize = 256 * 1024;
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        self.sender
            .blocking_send(Ok(piece))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

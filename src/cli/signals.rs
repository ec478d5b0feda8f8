//! SIGINT and SIGTERM: the first one asks the run to end, the second one ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Who listens.
#[derive(Debug, Clone)]
pub(super) struct Signals {
    cancel: CancellationToken,
    /// Signals are a command's meanwhile.
    is_deaf: Arc<AtomicBool>,
}

impl Signals {
    /// Starts to listen.
    pub(super) fn listen() -> Self {
        let signals = Self {
            cancel: CancellationToken::new(),
            is_deaf: Arc::new(AtomicBool::new(false)),
        };
        tokio::spawn(signals.clone().hear());
        signals
    }

    /// The token that the first signal cancels.
    pub(super) fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Whether signals are somebody else's from now on.
    pub(super) fn set_deaf(&self, is_deaf: bool) {
        self.is_deaf.store(is_deaf, Ordering::SeqCst);
    }

    async fn hear(self) {
        let (Ok(mut interrupt), Ok(mut terminate)) = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        ) else {
            return;
        };
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if self.is_deaf.load(Ordering::SeqCst) {
                continue;
            }
            if self.cancel.is_cancelled() {
                let myself = rustix::process::getpid();
                // Whoever asks twice does not want to wait for the cleaning up; the next run does that.
                let _ = rustix::process::kill_process(myself, rustix::process::Signal::KILL);
            }
            self.cancel.cancel();
        }
    }
}

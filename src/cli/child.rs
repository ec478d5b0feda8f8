//! A command that is run with the terminal passed through, as if the shell had run it.

use super::environment;
use super::signals::Signals;
use crate::error::{Error, OrFail, Result};
use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// What a shell says of a command that is there and cannot be run.
const CANNOT_RUN: u8 = 126;
/// What a shell says of a command that is not there.
const NOT_FOUND: u8 = 127;
/// A shell adds this to the number of the signal that ended a command.
const SIGNALLED: i32 = 128;
/// How long a signal that has ended the command may take to arrive here, too.
const ON_ITS_WAY: Duration = Duration::from_millis(100);

/// A command that cannot be run.
#[derive(Debug)]
pub(super) struct NotRun {
    /// Why.
    pub(super) error: Error,
    /// The exit code that says so.
    pub(super) code: u8,
}

impl NotRun {
    fn new(program: &OsString, error: std::io::Error) -> Self {
        let code = match error.kind() {
            ErrorKind::NotFound => NOT_FOUND,
            _ => CANNOT_RUN,
        };
        let message = format!("cannot run {}", program.display());
        Self {
            error: Error::failed(message).caused_by(error),
            code,
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended(ExitStatus);

impl Ended {
    pub(super) fn well(self) -> bool {
        self.0.success()
    }

    /// Its exit code, as a shell would give it.
    pub(super) fn code(self) -> u8 {
        let signal = || SIGNALLED + self.0.signal().unwrap_or_default();
        let code = self.0.code().unwrap_or_else(signal);
        u8::try_from(code).unwrap_or(1)
    }

    /// The number of the signal that ended it.
    pub(super) fn signal(self) -> Option<i32> {
        self.0.signal()
    }

    /// Reads after "the command".
    pub(super) fn how(self) -> String {
        match self.0.signal() {
            Some(signal) => format!("was ended by signal {signal}"),
            None => format!("ended with exit code {}", self.code()),
        }
    }
}

/// Looks for a program where it would be run from, so that what cannot be run at all is told before anything is done.
pub(super) fn check(program: &OsString) -> Result<(), NotRun> {
    let is_path = program.as_bytes().contains(&b'/');
    let places: Vec<PathBuf> = match (is_path, environment::variable("PATH")) {
        (true, _) => vec![PathBuf::from(program)],
        // Where it is then looked for is the system's business.
        (false, None) => return Ok(()),
        (false, Some(path)) => std::env::split_paths(&path)
            .map(|folder| folder.join(program))
            .collect(),
    };
    let mut reason = std::io::Error::from(rustix::io::Errno::NOENT);
    for place in &places {
        match executable(place) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => reason = error,
        }
    }
    Err(NotRun::new(program, reason))
}

fn executable(place: &Path) -> std::io::Result<()> {
    if std::fs::metadata(place)?.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    Ok(access(place, Access::EXEC_OK)?)
}

/// Runs a command to its end. It has the terminal, and is in the foreground with lifeboat: Ctrl-C reaches it from
/// there. SIGTERM and SIGHUP are handed on to it. lifeboat itself ends of none of them meanwhile.
///
/// # Errors
/// Where signals cannot be listened to.
pub(super) async fn run(
    command: &[OsString],
    signals: &Signals,
) -> Result<std::result::Result<Ended, NotRun>> {
    let [program, arguments @ ..] = command else {
        return Err(Error::usage("no command is given"));
    };
    let listen = |kind| signal(kind).or_fail(|| "cannot listen to signals");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut quit = listen(SignalKind::quit())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    signals.set_deaf(true);
    if signals.cancelled().is_cancelled() {
        // Whoever stopped the run before it came here wants no command either.
        signals.set_deaf(false);
        return Err(Error::interrupted());
    }
    let mut child = match Command::new(program).args(arguments).spawn() {
        Ok(child) => child,
        Err(error) => {
            signals.set_deaf(false);
            return Ok(Err(NotRun::new(program, error)));
        }
    };
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.or_fail(|| "cannot wait for the command")?,
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
            _ = terminate.recv() => send(&child, Signal::TERM),
            _ = hang_up.recv() => send(&child, Signal::HUP),
        }
    };
    if !status.success() {
        tokio::time::sleep(ON_ITS_WAY).await;
    }
    signals.set_deaf(false);
    Ok(Ok(Ended(status)))
}

fn send(child: &Child, signal: Signal) {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(process) = id.and_then(Pid::from_raw) {
        let _ = kill_process(process, signal);
    }
}

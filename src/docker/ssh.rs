//! An engine behind `ssh`: the user's own client, keys, agent and known hosts.
//!
//! bollard's own SSH transport opens a new master for each connection and accepts new host keys
//! without asking. Here one master is shared by all connections, and a host that is not known is
//! refused, as `ssh` itself would with nobody to ask.

use crate::error::{Error, OrFail, Result};
use bollard::{BollardRequest, ClientVersion, Docker};
use hyper::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tower_service::Service;

/// Where to and how: `ssh://[user@]host[:port][/path of the socket]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    destination: String,
    port: Option<u16>,
    socket: Option<String>,
}

impl Target {
    /// Parses what follows `ssh://`.
    pub(super) fn parse(rest: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format!("\"ssh://{rest}\" is not an SSH address"))
                .hint("it looks like ssh://user@host or ssh://user@host:22")
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let (host, port) = if let Some(bracketed) = host.strip_prefix('[') {
            let (address, after) = bracketed.split_once(']').ok_or_else(wrong)?;
            (address, after.strip_prefix(':'))
        } else {
            match host.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host, None),
            }
        };
        let port = port
            .map(|port| port.parse().map_err(|_| wrong()))
            .transpose()?;
        // A leading dash would be an option to ssh; a colon in the user's name is a password, which
        // has no place in an address.
        let bad = |text: &str| text.is_empty() || text.starts_with('-');
        if bad(host) || user.is_some_and(|user| bad(user) || user.contains(':')) {
            return Err(wrong());
        }
        Ok(Self {
            destination: user.map_or_else(|| host.to_owned(), |user| format!("{user}@{host}")),
            port,
            socket: (!path.is_empty()).then(|| format!("/{path}")),
        })
    }

    /// The arguments of `ssh`.
    fn arguments(&self, control: &str) -> Vec<String> {
        let mut arguments: Vec<String> = [
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=30",
            "-o",
            "ServerAliveInterval=30",
            "-o",
            "ControlMaster=auto",
            "-o",
            "ControlPersist=60",
        ]
        .map(ToOwned::to_owned)
        .to_vec();
        arguments.extend(["-o".to_owned(), format!("ControlPath={control}")]);
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["-T", "--", &self.destination, "docker"].map(ToOwned::to_owned));
        if let Some(socket) = &self.socket {
            // The other side's shell reads this.
            let quoted = socket.replace('\'', r"'\''");
            arguments.extend(["--host".to_owned(), format!("'unix://{quoted}'")]);
        }
        arguments.extend(["system", "dial-stdio"].map(ToOwned::to_owned));
        arguments
    }
}

/// What `ssh` said last: a broken connection's reason is there and nowhere else.
#[derive(Debug, Clone, Default)]
pub(super) struct Said(Arc<Mutex<String>>);

impl Said {
    pub(super) fn text(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .trim()
            .to_owned()
    }
}

/// Opens connections through `ssh`.
#[derive(Clone)]
pub(super) struct Dialer {
    arguments: Arc<Vec<String>>,
    said: Said,
}

impl Dialer {
    pub(super) fn new(target: &Target) -> Result<Self> {
        // %C is a hash of both ends: short enough for a socket's name, one per destination.
        let control = control_dir()?.join("%C");
        Ok(Self {
            arguments: Arc::new(target.arguments(&control.to_string_lossy())),
            said: Said::default(),
        })
    }

    pub(super) fn said(&self) -> Said {
        self.said.clone()
    }

    /// A client whose every connection is one `docker system dial-stdio` over the shared master.
    pub(super) fn client(&self, timeout: Duration, version: &ClientVersion) -> Result<Docker> {
        let client = Arc::new(
            Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(0)
                .build(self.clone()),
        );
        Docker::connect_with_custom_transport(
            move |request: BollardRequest| {
                let client = Arc::clone(&client);
                async move {
                    client
                        .request(request)
                        .await
                        .map_err(bollard::errors::Error::from)
                }
            },
            // Never resolved: the connector goes where `ssh` goes.
            Some("http://docker"),
            timeout.as_secs(),
            version,
        )
        .or_fail(|| "cannot prepare the connection through ssh")
    }

    fn dial(&self) -> io::Result<TokioIo<Stream>> {
        let mut child = Command::new("ssh")
            .args(self.arguments.iter())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(input), Some(output), Some(mut errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("ssh was started without pipes"));
        };
        let said = self.said.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = errors.read(&mut buffer).await {
                let mut words = said.0.lock().unwrap_or_else(PoisonError::into_inner);
                if words.len() > 16 * 1024 {
                    words.clear();
                }
                words.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Ok(TokioIo::new(Stream {
            input: Some(input),
            output,
            _child: child,
        }))
    }
}

/// A folder that only this user can enter: whoever can reach a control socket is that user on the
/// other side.
fn control_dir() -> Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let dir = std::env::temp_dir().join(format!("lifeboat-ssh-{user}"));
    match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Error::failed(format!("cannot create {}", dir.display())).caused_by(error));
        }
        _ => {}
    }
    let found =
        std::fs::symlink_metadata(&dir).or_fail(|| format!("cannot look at {}", dir.display()))?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        return Err(Error::failed(format!(
            "{} does not belong to this user alone",
            dir.display()
        ))
        .hint("remove it: SSH connections that others can enter are not safe"));
    }
    Ok(dir)
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<TokioIo<Stream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        std::future::ready(self.dial())
    }
}

/// One `ssh` process as a connection.
pub(super) struct Stream {
    input: Option<ChildStdin>,
    output: ChildStdout,
    _child: Child,
}

impl Stream {
    fn input(&mut self) -> io::Result<Pin<&mut ChildStdin>> {
        self.input
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.input()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.input() {
            Ok(input) => input.poll_flush(context),
            // Closed already.
            Err(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Ok(input) = self.input() {
            ready!(input.poll_shutdown(context))?;
        }
        // A child's stdin is closed by dropping it; its shutdown does nothing.
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_options_are_not_smuggled_in() {
        let target = Target::parse("me@host:2222/run/user/1000/docker.sock").unwrap();
        let arguments = target.arguments("/c/%C").join(" ");
        assert!(
            arguments.ends_with(
                "-p 2222 -T -- me@host docker --host 'unix:///run/user/1000/docker.sock' system dial-stdio"
            ),
            "{arguments}"
        );
        assert!(arguments.contains("BatchMode=yes") && !arguments.contains("accept-new"));
        assert_eq!(Target::parse("[::1]:22").unwrap().destination, "::1");
        for wrong in [
            "",
            "-oProxyCommand=x",
            "-u@host",
            "me:secret@host",
            "host:port",
        ] {
            assert!(Target::parse(wrong).is_err(), "{wrong:?} was read");
        }
    }
}

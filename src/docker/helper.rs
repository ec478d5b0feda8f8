//! A container of lifeboat's own program next to volumes: bytes in, bytes out. What they mean is
//! [`helper::protocol`](crate::helper::protocol)'s.
//!
//! It has no network, a read-only root, no log, no way to more rights, and of root's powers only those that reading
//! or writing other users' files takes.

use super::doorway::{Doorway, SOCKET};
use super::exec::LastWords;
use super::image::HELPER_ROLE;
use super::owner::Owner;
use super::{Engine, within};
use crate::error::{Error, Result};
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, InspectContainerOptions, StartContainerOptions,
};
use bytes::{Buf, Bytes};
use chrono::TimeDelta;
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::io::ReaderStream;

/// When a helper is a leftover whatever became of its owner: no volume takes so long.
const LIFETIME: TimeDelta = TimeDelta::days(7);
/// After so much silence the engine is asked whether the helper still runs: a connection can die without a word.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the engine may take to answer when only a better message depends on it.
const EXPLANATION: Duration = Duration::from_secs(5);
/// What is read from a socket at once, in bytes.
const READ_AHEAD: usize = 256 * 1024;
/// What a helper may take of the machine's memory in bytes, the files that the kernel keeps for it among it.
const MEMORY: i64 = 512 << 20;

/// What a helper works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperMount {
    /// What is mounted.
    pub place: Place,
    /// The folder in the helper's container.
    pub target: String,
    /// Whether it is only read.
    pub read_only: bool,
    /// Whether a folder that is not there yet is made.
    pub create: bool,
}

/// Where data is that a helper can reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A named volume.
    Volume(String),
    /// A folder of the engine's machine.
    Folder(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(name) => write!(f, "volume {name}"),
            Self::Folder(path) => write!(f, "folder {path}"),
        }
    }
}

/// How a helper is made.
#[derive(Debug, Clone)]
pub struct HelperOptions {
    /// The image's id.
    pub image: String,
    /// The program in it, and its arguments.
    pub command: Vec<String>,
    /// Its environment: `NAME=value`.
    pub environment: Vec<String>,
    /// What it works on.
    pub mounts: Vec<HelperMount>,
    /// Whether what it writes may be kept in memory: then it has no limit of its own.
    pub in_memory: bool,
    /// A folder for sockets, where one may be tried.
    pub sockets: PathBuf,
}

/// A running helper. It ends by itself when nobody is attached to it any more; [`remove`](Self::remove) removes it,
/// else [`Engine::sweep`] does.
pub struct Helper {
    id: String,
    engine: Engine,
    output: Output,
    input: Pin<Box<dyn AsyncWrite + Send>>,
    /// Its standard streams, where it speaks over a socket: they carry its last words, and end it.
    attached: Option<AttachContainerResults>,
    stderr: LastWords,
}

type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

impl Engine {
    /// Creates, attaches to and starts a helper.
    pub async fn helper(&self, owner: &Owner, options: &HelperOptions) -> Result<Helper> {
        if self.endpoint().starts_with("unix://")
            && let Some(doorway) = Doorway::open(&options.sockets)
        {
            // An engine that does not see this folder is behind a socket and elsewhere, or this runs in a container.
            match self.start_helper(owner, options, Some(&doorway)).await {
                Err(error) if error.chain().contains(doorway.name()) => {}
                helper => return helper,
            }
        }
        self.start_helper(owner, options, None).await
    }

    async fn start_helper(
        &self,
        owner: &Owner,
        options: &HelperOptions,
        doorway: Option<&Doorway>,
    ) -> Result<Helper> {
        let now = self.time().await?;
        let deadline = now.checked_add_signed(LIFETIME).unwrap_or(now);
        let mut command = options.command.clone();
        command.extend(doorway.map(|_| SOCKET.to_owned()));
        let (made, mounts): (Vec<_>, Vec<_>) =
            options.mounts.iter().partition(|mount| mount.is_made());
        let reads_only = options.mounts.iter().all(|mount| mount.read_only);
        let capabilities: &[&str] = match reads_only {
            true => &["DAC_READ_SEARCH"],
            false => &[
                "CHOWN",
                "DAC_OVERRIDE",
                "DAC_READ_SEARCH",
                "FOWNER",
                "FSETID",
                "SETFCAP",
            ],
        };
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let body = ContainerCreateBody {
            image: Some(options.image.clone()),
            entrypoint: Some(command),
            cmd: Some(Vec::new()),
            env: Some(options.environment.clone()),
            user: Some("0:0".to_owned()),
            labels: Some(owner.labels(HELPER_ROLE, deadline)),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            open_stdin: Some(true),
            // Whoever goes away ends the helper's input, and with it the helper.
            stdin_once: Some(true),
            tty: Some(false),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                readonly_rootfs: Some(true),
                cap_drop: Some(strings(&["ALL"])),
                cap_add: Some(strings(capabilities)),
                // Volumes that SELinux keeps to one container could not be read otherwise.
                security_opt: Some(strings(&["no-new-privileges", "label=disable"])),
                memory: (!options.in_memory).then_some(MEMORY),
                pids_limit: Some(64),
                mounts: Some(
                    mounts
                        .into_iter()
                        .map(mount)
                        .chain(doorway.map(Doorway::mount))
                        .collect(),
                ),
                // This older way of saying the same makes a folder that is missing; the other one refuses.
                binds: Some(made.into_iter().map(bind).collect()),
                // Whatever passes would else be kept in the engine's own log file.
                log_config: Some(HostConfigLogConfig {
                    typ: Some("none".to_owned()),
                    config: None,
                }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let name = format!("lifeboat-helper-{}", super::random_hex(8)?);
        let id = self
            .create(&name, body)
            .await?
            .ok_or_else(|| Error::failed(format!("the container name {name} is taken")))?;
        match self.attach(&id, doorway).await {
            Ok(helper) => Ok(helper),
            Err(error) => {
                // Why it could not be started matters more; what stays is swept later.
                let _ = self.remove(&id).await;
                Err(error)
            }
        }
    }

    async fn attach(&self, id: &str, doorway: Option<&Doorway>) -> Result<Helper> {
        let options = AttachContainerOptionsBuilder::new()
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .stream(true)
            .build();
        let attach = self.client.attach_container(id, Some(options));
        let attached = within("attach to lifeboat's helper", attach).await?;
        let start = self
            .client
            .start_container(id, None::<StartContainerOptions>);
        within("start lifeboat's helper", start).await?;
        let mut helper = Helper {
            id: id.to_owned(),
            engine: self.clone(),
            output: attached.output,
            input: attached.input,
            attached: None,
            stderr: LastWords::default(),
        };
        if let Some(doorway) = doorway {
            helper.meet(doorway).await;
        }
        Ok(helper)
    }
}

impl HelperMount {
    /// A store that is only read.
    pub fn read(place: &Place, target: &str) -> Self {
        Self {
            place: place.clone(),
            target: target.to_owned(),
            read_only: true,
            create: false,
        }
    }

    /// A store that is written to.
    pub fn write(place: &Place, target: &str) -> Self {
        Self {
            read_only: false,
            ..Self::read(place, target)
        }
    }

    fn is_made(&self) -> bool {
        self.create && matches!(self.place, Place::Folder(_))
    }
}

fn bind(mount: &HelperMount) -> String {
    let (Place::Volume(source) | Place::Folder(source)) = &mount.place;
    format!("{source}:{}", mount.target)
}

/// A volume's own content is never hidden by what the image has there: the image has nothing.
fn mount(mount: &HelperMount) -> Mount {
    let (typ, source) = match &mount.place {
        Place::Volume(name) => (MountType::VOLUME, name),
        Place::Folder(path) => (MountType::BIND, path),
    };
    Mount {
        target: Some(mount.target.clone()),
        source: Some(source.clone()),
        read_only: Some(mount.read_only),
        volume_options: (typ == MountType::VOLUME).then(|| MountVolumeOptions {
            no_copy: Some(true),
            ..MountVolumeOptions::default()
        }),
        typ: Some(typ),
        ..Mount::default()
    }
}

impl Helper {
    /// Waits until the helper has come in by the doorway, or has begun to speak on its standard output.
    async fn meet(&mut self, doorway: &Doorway) {
        let first = tokio::select! {
            accepted = doorway.listener.accept() => match accepted {
                Ok((stream, _)) => {
                    self.speak_over(stream);
                    return;
                }
                Err(_) => return,
            },
            first = self.output.next() => first,
        };
        // Nothing that it said is lost.
        let rest = std::mem::replace(&mut self.output, Box::pin(futures_util::stream::empty()));
        self.output = Box::pin(futures_util::stream::iter(first).chain(rest));
    }

    fn speak_over(&mut self, stream: UnixStream) {
        let (read, write) = stream.into_split();
        let frames = ReaderStream::with_capacity(read, READ_AHEAD).map(|bytes| match bytes {
            Ok(message) => Ok(LogOutput::StdOut { message }),
            Err(err) => Err(bollard::errors::Error::IOError { err }),
        });
        let output = std::mem::replace(&mut self.output, Box::pin(frames));
        let input = std::mem::replace(&mut self.input, Box::pin(write));
        self.attached = Some(AttachContainerResults { output, input });
    }

    /// The next bytes that it wrote. Nothing is lost when this is cancelled.
    ///
    /// # Errors
    /// Where it ends: whoever reads knows by what it said that it was going to, and asks no more.
    pub async fn next(&mut self) -> Result<Bytes> {
        loop {
            let Ok(item) = tokio::time::timeout(SILENCE, self.output.next()).await else {
                if let Some(trouble) = self.trouble().await {
                    return Err(self.died(&trouble));
                }
                continue;
            };
            if let Some(said) = self.taken(item).await? {
                return Ok(said);
            }
        }
    }

    /// Sends it bytes, which are taken off the front, and reads meanwhile: what it wrote before it took all of them,
    /// or `None` when it has.
    pub async fn exchange(&mut self, bytes: &mut Bytes) -> Result<Option<Bytes>> {
        while bytes.has_remaining() {
            let said = tokio::select! {
                wrote = self.input.write_buf(bytes) => match wrote {
                    Ok(0) => return Err(self.cut().await),
                    Ok(_) => continue,
                    Err(cause) => return Err(self.cut().await.caused_by(cause)),
                },
                said = self.output.next() => said,
            };
            if let Some(said) = self.taken(said).await? {
                return Ok(Some(said));
            }
        }
        match self.input.flush().await {
            Ok(()) => Ok(None),
            Err(cause) => Err(self.cut().await.caused_by(cause)),
        }
    }

    /// What came, where it is output; an error where the stream ended.
    async fn taken(
        &mut self,
        item: Option<Result<LogOutput, bollard::errors::Error>>,
    ) -> Result<Option<Bytes>> {
        match item {
            Some(Ok(LogOutput::StdOut { message })) => Ok((!message.is_empty()).then_some(message)),
            Some(Ok(LogOutput::StdErr { message })) => {
                self.stderr.push(&message);
                Ok(None)
            }
            // No terminal is allocated: anything else is a frame that was torn when the connection was cut.
            None | Some(Ok(_)) => Err(self.cut().await),
            Some(Err(cause)) => Err(self.cut().await.caused_by(cause)),
        }
    }

    /// Why the stream ended before the helper's work did.
    async fn cut(&mut self) -> Error {
        // A container's end is booked a moment after its streams are closed.
        for _ in 0..20 {
            if let Some(trouble) = self.trouble().await {
                self.listen_to_last_words().await;
                return self.died(&trouble);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Error::failed("the connection to lifeboat's helper was cut").hint(
            "the engine was restarted, or a socket proxy between here and there ends silent streams; run again",
        )
    }

    /// What it said on standard error, where frames came another way.
    async fn listen_to_last_words(&mut self) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        while let Ok(Some(Ok(said))) =
            tokio::time::timeout(EXPLANATION, attached.output.next()).await
        {
            self.stderr.push(&said.into_bytes());
        }
    }

    fn died(&self, trouble: &str) -> Error {
        let words = self.stderr.brief();
        let said = match words.is_empty() {
            true => String::new(),
            false => format!(": {words}"),
        };
        Error::failed(format!("lifeboat's helper {trouble}{said}"))
    }

    /// What happened to the container, where something did.
    async fn trouble(&mut self) -> Option<String> {
        let inspect = self
            .engine
            .client
            .inspect_container(&self.id, None::<InspectContainerOptions>);
        let state = match tokio::time::timeout(EXPLANATION, inspect).await.ok()? {
            Ok(container) => container.state?,
            Err(cause) if super::status(&cause) == Some(404) => {
                return Some("was removed".to_owned());
            }
            Err(_) => return None,
        };
        if state.running == Some(true) {
            return None;
        }
        let code = state.exit_code.unwrap_or_default();
        Some(match state.oom_killed {
            Some(true) => format!("ran out of memory (exit code {code})"),
            _ => format!("ended with exit code {code}"),
        })
    }

    /// Ends it and removes its container.
    pub async fn remove(self) -> Result<()> {
        let Self {
            id, engine, input, ..
        } = self;
        drop(input);
        engine.remove(&id).await
    }
}

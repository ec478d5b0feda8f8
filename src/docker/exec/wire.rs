//! One exec's connection: how it is started, what comes from it, and how it is ended early.

use super::command::{Command, Transport};
use super::reader::{LastWords, Scanner};
use super::script::{END_PROGRAMS, Ends};
use crate::docker::{Engine, failed, random_hex, within};
use crate::error::{Error, Result};
use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::pin::Pin;
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

/// What the client library reads into at once. The engine sends frames of 32 KiB at the most; a
/// buffer of many frames saves a system call and a wake-up for each.
const READ_AHEAD: usize = 1024 * 1024;

/// After so much silence the engine is asked whether the exec still runs at all: a connection can
/// die without a word, and a dump may be silent for long with good reason.
const SILENCE: Duration = Duration::from_secs(30);

/// How long the engine may take to answer when only a better message depends on it.
pub(super) const EXPLANATION: Duration = Duration::from_secs(5);

pub(super) type Frames =
    Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;
pub(super) type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// A started exec.
pub(super) struct Started {
    pub(super) id: String,
    pub(super) frames: Frames,
    pub(super) input: Input,
}

/// What came from the other side.
pub(super) enum Event {
    Stdout(Bytes),
    Stderr,
    End,
}

/// A started script with what is needed to judge its end.
///
/// Its async methods take `&mut self` even where they change nothing: the stream can be sent to
/// another thread but not shared, and their futures must be sendable.
pub(super) struct Wire {
    pub(super) engine: Engine,
    pub(super) container_id: String,
    pub(super) exec_id: String,
    pub(super) program: String,
    user: Option<String>,
    nonce: String,
    compressed: bool,
    idle_timeout: Option<Duration>,
    pub(super) end_timeout: Duration,
    frames: Frames,
    /// Separates the end mark from stdout.
    pub(super) scanner: Scanner,
    /// The end of what it wrote to stderr.
    pub(super) stderr: LastWords,
    /// The first bytes of stdout: where an exec could not be started, they say why.
    pub(super) head: Vec<u8>,
    last_heard: Instant,
}

/// Creates and starts an exec with all three streams attached.
pub(super) async fn start(
    engine: &Engine,
    container_id: &str,
    command: &Command,
    argv: Vec<String>,
) -> Result<Started> {
    let program = command.program();
    let config = ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(false),
        env: Some(command.environment()),
        cmd: Some(argv),
        user: command.user.clone(),
        ..ExecConfig::default()
    };
    let what = format!("run {program} in the container");
    let id = within(&what, engine.client.create_exec(container_id, config))
        .await
        .map_err(|error| start_hint(error, program))?
        .id;
    let options = StartExecOptions {
        output_capacity: Some(READ_AHEAD),
        ..StartExecOptions::default()
    };
    match within(&what, engine.client.start_exec(&id, Some(options))).await {
        Ok(StartExecResults::Attached { output, input }) => Ok(Started {
            id,
            frames: output,
            input,
        }),
        Ok(StartExecResults::Detached) => {
            Err(Error::failed(format!("cannot {what}: it was detached")))
        }
        Err(error) => Err(start_hint(error, program)),
    }
}

/// What to do about the engine's reasons not to start something.
fn start_hint(error: Error, program: &str) -> Error {
    let text = error.chain();
    if text.contains("is not running") || text.contains("is paused") {
        error.hint("start the container and try again")
    } else if let Some(hint) = missing_hint(&text, program) {
        error.hint(hint)
    } else if text.contains("no matching entries in passwd") || text.contains("unable to find user")
    {
        error.hint("the container does not know that user: see the label lifeboat.exec-user")
    } else {
        error
    }
}

/// The hint for an exec that names a missing file.
pub(super) fn missing_hint(text: &str, program: &str) -> Option<String> {
    let missing = text.contains("executable file not found") || text.contains("no such file");
    (missing && text.contains("\"sh\""))
        .then(|| {
            format!(
                "the container's image has no `sh`, which lifeboat needs to run {program} in it"
            )
        })
        .or_else(|| missing.then(|| format!("the container's image has no `{program}`")))
}

impl Wire {
    /// Starts `script` around the command; gives the process's stdin beside the rest, so that both
    /// can be waited on at once.
    pub(super) async fn open(
        engine: &Engine,
        container_id: &str,
        command: &Command,
        script: &str,
        transport: Transport,
    ) -> Result<(Self, Input)> {
        let nonce = random_hex(16)?;
        let mut argv = vec![
            "sh".to_owned(),
            "-c".to_owned(),
            script.to_owned(),
            "sh".to_owned(),
            nonce.clone(),
        ];
        argv.extend(command.argv.iter().cloned());
        let started = start(engine, container_id, command, argv).await?;
        let wire = Self {
            engine: engine.clone(),
            container_id: container_id.to_owned(),
            exec_id: started.id,
            program: command.program().to_owned(),
            user: command.user.clone(),
            scanner: Scanner::new(&nonce),
            nonce,
            compressed: transport != Transport::Raw,
            idle_timeout: command.idle_timeout,
            end_timeout: command.end_timeout,
            frames: started.frames,
            stderr: LastWords::default(),
            head: Vec::new(),
            last_heard: Instant::now(),
        };
        Ok((wire, started.input))
    }

    /// The program's name, for messages.
    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// How long its end may take.
    pub(super) fn end_timeout(&self) -> Duration {
        self.end_timeout
    }

    /// Starts the idle clock anew: the reader, not the process, was the slow one until now.
    pub(super) fn attend(&mut self) {
        self.last_heard = Instant::now();
    }

    /// The next thing that arrives; stderr is kept on the way. Nothing is lost when this is
    /// cancelled.
    pub(super) async fn event(&mut self) -> Result<Event> {
        loop {
            let mut patience = SILENCE;
            if let Some(limit) = self.idle_timeout {
                let left = limit.saturating_sub(self.last_heard.elapsed());
                if left.is_zero() {
                    return Err(self.idle(limit));
                }
                patience = patience.min(left);
            }
            match tokio::time::timeout(patience, self.frames.next()).await {
                Ok(frame) => return self.sort(frame),
                Err(_) if patience == SILENCE => self.still_there().await?,
                Err(_) => {}
            }
        }
    }

    fn idle(&self, limit: Duration) -> Error {
        let words = self.stderr.brief();
        let said = if words.is_empty() {
            String::new()
        } else {
            format!(" (its last words: {words})")
        };
        Error::failed(format!(
            "{} was silent for {} seconds{said}",
            self.program,
            limit.as_secs()
        ))
        .hint(
            "it may wait for a lock that somebody else holds; end that session, or allow more time",
        )
    }

    /// After a long silence: an exec that has ended has nothing more to say.
    async fn still_there(&mut self) -> Result<()> {
        let inspect = self.engine.client.inspect_exec(&self.exec_id);
        let state = within("ask the engine about a running command", inspect).await?;
        if state.running == Some(true) {
            return Ok(());
        }
        match tokio::time::timeout(EXPLANATION, self.frames.next()).await {
            Ok(Some(Ok(frame))) => {
                // It was on its way: hand it out as if it came in time.
                let rest = std::mem::replace(
                    &mut self.frames,
                    Box::pin(futures_util::stream::empty()) as Frames,
                );
                self.frames = Box::pin(futures_util::stream::iter([Ok(frame)]).chain(rest));
                Ok(())
            }
            Ok(_) => {
                self.frames = Box::pin(futures_util::stream::empty());
                Ok(())
            }
            Err(_) => Err(Error::failed(format!(
                "the connection to {} is dead: the engine says that it has ended, but its output \
                 never did",
                self.program
            ))),
        }
    }

    /// One frame, sorted by where it came from.
    fn sort(&mut self, frame: Option<Result<LogOutput, bollard::errors::Error>>) -> Result<Event> {
        self.last_heard = Instant::now();
        match frame {
            None => Ok(Event::End),
            Some(Ok(LogOutput::StdOut { message })) => {
                if self.head.len() < 1024 {
                    let take = message.len().min(1024 - self.head.len());
                    self.head.extend_from_slice(&message[..take]);
                }
                Ok(Event::Stdout(message))
            }
            Some(Ok(LogOutput::StdErr { message })) => {
                self.stderr.push(&message);
                Ok(Event::Stderr)
            }
            // The client library makes a torn frame at a cut connection into "console" output and
            // a clean end of stream (measured with bollard 0.21).
            Some(Ok(LogOutput::Console { .. } | LogOutput::StdIn { .. })) => {
                Err(Error::failed(format!(
                    "the stream of {} is torn: the connection to the engine was cut or garbled",
                    self.program
                )))
            }
            Some(Err(cause)) => Err(failed(&format!("read what {} writes", self.program), cause)),
        }
    }

    /// The statuses behind the end mark, if it was read: an error unless it says what a script with
    /// this transport says.
    pub(super) fn ends(&self) -> Result<Option<Ends>> {
        let Some(text) = self.scanner.statuses() else {
            return Ok(None);
        };
        Ends::parse(text)
            .filter(|ends| ends.zstd.is_some() == self.compressed)
            .map(Some)
            .ok_or_else(|| {
                Error::failed(format!(
                    "the end mark of {} cannot be read: {text:?}",
                    self.program
                ))
            })
    }

    /// Ends everything that the script has started, and so the script, by best effort: when a client goes away the
    /// engine lets its exec run on (measured), and a dump that nobody reads holds its locks.
    pub(super) async fn end_processes(self) {
        let Self {
            engine,
            container_id,
            exec_id,
            user,
            nonce,
            frames,
            ..
        } = self;
        drop(frames);
        for signal in ["TERM", "KILL"] {
            let mut command = Command::new("sh", ["-c", END_PROGRAMS, "sh", signal])
                .env("LIFEBOAT_NONCE", &nonce);
            if let Some(user) = &user {
                command = command.user(user);
            }
            let argv = command.argv.clone();
            let attempt = async {
                let mut killer = start(&engine, &container_id, &command, argv).await?;
                while let Some(Ok(_)) = killer.frames.next().await {}
                Ok::<(), Error>(())
            };
            if !matches!(tokio::time::timeout(EXPLANATION, attempt).await, Ok(Ok(()))) {
                return;
            }
            for _ in 0..30 {
                match engine.client.inspect_exec(&exec_id).await {
                    Ok(state) if state.running == Some(true) => {}
                    _ => return,
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

//! One exec's connection: how it is started, what comes from it, and how its end is judged.

use super::command::{Command, Transport};
use super::reader::{LastWords, Scanner};
use super::script::{END_PROGRAMS, Ends};
use crate::docker::{Engine, failed, random_hex, within};
use crate::error::{Error, Result};
use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerStateStatusEnum, ExecConfig};
use bollard::query_parameters::InspectContainerOptions;
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
const EXPLANATION: Duration = Duration::from_secs(5);

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
    engine: Engine,
    container_id: String,
    exec_id: String,
    program: String,
    user: Option<String>,
    nonce: String,
    compressed: bool,
    idle_timeout: Option<Duration>,
    end_timeout: Duration,
    frames: Frames,
    /// Separates the end mark from stdout.
    pub(super) scanner: Scanner,
    /// The end of what it wrote to stderr.
    pub(super) stderr: LastWords,
    /// The first bytes of stdout: where an exec could not be started, they say why.
    head: Vec<u8>,
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
fn missing_hint(text: &str, program: &str) -> Option<String> {
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

    /// An error that names each process that ended badly, with the last words of stderr.
    pub(super) fn check(&self, ends: Ends) -> Result<()> {
        let command = (self.program.as_str(), "", ends.command);
        let zstd = ("zstd", " (in the container)", ends.zstd.unwrap_or(0));
        let mut bad: Vec<_> = [command, zstd]
            .into_iter()
            .filter(|&(_, _, status)| status != 0)
            .collect();
        // 141 is SIGPIPE: that process was cut off because the other one ended, which is the one
        // to name.
        if bad.iter().any(|&(_, _, status)| status != 141) {
            bad.retain(|&(_, _, status)| status != 141);
        }
        let Some(&(name, _, first)) = bad.first() else {
            return Ok(());
        };
        let named: Vec<String> = bad
            .iter()
            .map(|(name, place, status)| format!("{name}{place} ended with status {status}"))
            .collect();
        let mut message = named.join(", ");
        let words = self.stderr.brief();
        if !words.is_empty() {
            message = format!("{message}: {words}");
        }
        let error = Error::failed(message);
        Err(match first {
            127 => error.hint(format!("the container's image has no `{name}`")),
            126 => error.hint(format!(
                "`{name}` in the container cannot be executed by this user"
            )),
            137 => error.hint(
                "it was killed: see the container's memory limit (`docker inspect`, `dmesg`)",
            ),
            _ => error,
        })
    }

    /// The engine must agree that it is over and well. Its bookkeeping may lag behind the stream.
    pub(super) async fn confirm(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.end_timeout;
        let mut pause = Duration::from_millis(2);
        loop {
            let inspect = self.engine.client.inspect_exec(&self.exec_id);
            let state = within(
                &format!("ask the engine how {} ended", self.program),
                inspect,
            )
            .await?;
            match (state.running, state.exit_code) {
                (Some(false), Some(0)) => return Ok(()),
                (Some(false), Some(code)) => {
                    return Err(Error::failed(format!(
                        "the engine reports exit code {code} for {}, which its own end mark does \
                         not explain",
                        self.program
                    )));
                }
                _ if Instant::now() >= deadline => {
                    return Err(Error::failed(format!(
                        "{} has written all of its output but does not end",
                        self.program
                    )));
                }
                _ => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// The stream ended without an end mark: finds out why.
    pub(super) async fn explain(&mut self) -> Error {
        let head = String::from_utf8_lossy(&self.head).into_owned();
        let code = self.exit_code().await;
        if head.contains("OCI runtime exec failed") || matches!(code, Some(126 | 127)) {
            // Exec start errors arrive on stdout as text, with code 126 or 127 (measured).
            let said = head.lines().next().unwrap_or_default().trim();
            let error = Error::failed(format!(
                "cannot start {} in the container: {said}",
                self.program
            ));
            return match missing_hint(&head, &self.program) {
                Some(hint) => error.hint(hint),
                None => error,
            };
        }
        // A container's end kills its execs first and is booked a moment later; an exec that the
        // engine has forgotten by then has no code.
        let mut trouble = self.container_trouble().await;
        for _ in 0..30 {
            if trouble.is_some() || matches!(code, Some(..=128)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            trouble = self.container_trouble().await;
        }
        if let Some(state) = trouble {
            return Error::failed(format!("the container {state} while {} ran", self.program))
                .hint("see `docker logs` and `docker inspect` for the reason; then run again");
        }
        let words = self.stderr.brief();
        let words = if words.is_empty() {
            words
        } else {
            format!(": {words}")
        };
        match code {
            Some(code) if code != 0 => {
                let error = Error::failed(format!(
                    "{} did not come to its end, exit code {code}{words}",
                    self.program
                ));
                if code == 137 {
                    error.hint(
                        "it was killed: the container was stopped, or it ran out of memory (see \
                         `docker inspect`, `dmesg`)",
                    )
                } else {
                    error
                }
            }
            _ => Error::failed(format!(
                "the stream of {} ended before its end mark{words}",
                self.program
            ))
            .hint(
                "the connection to the engine was cut: the engine was restarted, or a socket proxy \
                 between here and there ends silent streams after 10 minutes (connect to the \
                 engine's own socket, or raise the proxy's timeout)",
            ),
        }
    }

    /// The exit code of the exec, if the engine says it soon.
    async fn exit_code(&mut self) -> Option<i64> {
        let deadline = Instant::now() + EXPLANATION;
        let mut tries = 0;
        loop {
            let inspect = self.engine.client.inspect_exec(&self.exec_id);
            let state = tokio::time::timeout_at(deadline, inspect)
                .await
                .ok()?
                .ok()?;
            if state.running == Some(false) {
                return state.exit_code;
            }
            tries += 1;
            if tries == 5 {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(20 * tries)).await;
        }
    }

    /// What happened to the container, where something did; reads after "the container".
    async fn container_trouble(&mut self) -> Option<String> {
        let inspect = self
            .engine
            .client
            .inspect_container(&self.container_id, None::<InspectContainerOptions>);
        let state = match tokio::time::timeout(EXPLANATION, inspect).await.ok()? {
            Ok(container) => container.state?,
            Err(cause) if crate::docker::status(&cause) == Some(404) => {
                return Some("was removed".to_owned());
            }
            Err(_) => return None,
        };
        let killed = if state.oom_killed == Some(true) {
            " (out of memory)"
        } else {
            ""
        };
        match state.status? {
            ContainerStateStatusEnum::RUNNING => None,
            ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD => Some(format!(
                "stopped with exit code {}{killed}",
                state.exit_code.unwrap_or_default()
            )),
            other => Some(format!("became {other}")),
        }
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

//! How an exec's end is judged: its own end mark, the engine's word, and where both are missing, why.

use super::script::Ends;
use super::wire::{EXPLANATION, Wire, missing_hint};
use crate::docker::within;
use crate::error::{Error, Result};
use bollard::models::ContainerStateStatusEnum;
use bollard::query_parameters::InspectContainerOptions;
use std::time::Duration;
use tokio::time::Instant;

impl Wire {
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
}

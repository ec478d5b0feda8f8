//! One Redis or Valkey server in a container, asked with the container's own client.

use super::login::{Login, Password};
use crate::docker::Engine;
use crate::docker::exec::{Command, Producer, Transport};
use crate::error::{Error, Result};
use crate::source::Credentials;
use crate::stack::Service;
use std::sync::Arc;
use std::time::Duration;

/// Runs before every command in the container: finds the client and the password, which never leaves the
/// container's own shell unless the description shows it anyway.
///
/// The order is: what lifeboat was given or read in the container's command; the file that the command names;
/// the configuration file's `requirepass`; what the environment says, which may be meant for others.
const PREAMBLE: &str = r#"
configured() {
  sed -n "s/^[[:space:]]*$1[[:space:]][[:space:]]*//p" "$LIFEBOAT_CONFIG" | tail -n 1 |
    sed -e 's/^"\(.*\)"[[:space:]]*$/\1/' -e "s/^'\(.*\)'[[:space:]]*\$/\1/"
}
auth=${LIFEBOAT_PASSWORD:-}
if [ -z "$auth" ] && [ -n "${LIFEBOAT_PASSWORD_FILE:-}" ]; then auth=$(cat "$LIFEBOAT_PASSWORD_FILE"); fi
if [ -z "$auth" ] && [ -n "${LIFEBOAT_CONFIG:-}" ] && [ -r "$LIFEBOAT_CONFIG" ]; then
  auth=$(configured requirepass)
fi
if [ -n "${LIFEBOAT_CONFIG:-}" ] && [ -r "$LIFEBOAT_CONFIG" ]; then
  : "${LIFEBOAT_PORT:=$(configured port)}"
  if [ "${LIFEBOAT_PORT:-}" = 0 ]; then : "${LIFEBOAT_SOCKET:=$(configured unixsocket)}"; fi
fi
for file in "${REDIS_PASSWORD_FILE:-}" "${VALKEY_PASSWORD_FILE:-}"; do
  if [ -z "$auth" ] && [ -z "${REDISCLI_AUTH:-}" ] && [ -n "$file" ] && [ -r "$file" ]; then auth=$(cat "$file"); fi
done
: "${auth:=${REDISCLI_AUTH:-${REDIS_PASSWORD:-${VALKEY_PASSWORD:-}}}}"
if [ -n "$auth" ]; then export REDISCLI_AUTH="$auth" VALKEYCLI_AUTH="$auth"; else unset REDISCLI_AUTH VALKEYCLI_AUTH; fi
redis_client() {
  cli=redis-cli
  command -v "$cli" >/dev/null 2>&1 || cli=valkey-cli
  if [ -n "${LIFEBOAT_USER:-}" ]; then set -- --user "$LIFEBOAT_USER" "$@"; fi
  if [ -n "${LIFEBOAT_SOCKET:-}" ]; then
    set -- -s "$LIFEBOAT_SOCKET" "$@"
  else
    set -- -h 127.0.0.1 -p "${LIFEBOAT_PORT:-6379}" "$@"
  fi
  "$cli" --no-auth-warning "$@"
}
redis_ask() { printf '%s\n' "$LIFEBOAT_COMMANDS" | redis_client; }
"#;

/// How often a server that is starting, loading or saving is asked, at first and at the most.
pub(super) const POLLS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How long the engine may still call a container running that has ended.
const ENGINE_LAGS: Duration = Duration::from_secs(5);

/// A Redis or Valkey server in a running container.
#[derive(Debug, Clone)]
pub struct Server {
    engine: Engine,
    service: Arc<Service>,
    user: Option<String>,
    login: Arc<Login>,
    run: String,
}

impl Server {
    /// The server in `service`; what lifeboat runs in its container carries `run`.
    pub fn new(engine: &Engine, service: &Service, credentials: &Credentials, run: &str) -> Self {
        let mut login = Login::of(&service.command, &service.env);
        if let Some(password) = &credentials.password {
            login.password = Some(Password::Here(password.clone()));
        }
        Self {
            engine: engine.clone(),
            service: Arc::new(service.clone()),
            user: credentials.user.clone(),
            login: Arc::new(login),
            run: run.to_owned(),
        }
    }

    /// The engine that the server runs on.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The container that the server runs in.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// A command in the container, in whose shell `redis_client` is the client, logged in.
    pub(super) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program, arguments.iter().copied())
            .env("LIFEBOAT_RUN", &self.run)
            .env("LC_ALL", "C")
            .preamble(PREAMBLE);
        let told = [
            ("LIFEBOAT_USER", &self.user),
            ("LIFEBOAT_PORT", &self.login.port),
            ("LIFEBOAT_SOCKET", &self.login.socket),
            ("LIFEBOAT_CONFIG", &self.login.config),
        ];
        for (name, value) in told {
            if let Some(value) = value {
                command = command.env(name, value);
            }
        }
        command = match &self.login.password {
            Some(Password::Here(secret)) => command.secret_env("LIFEBOAT_PASSWORD", secret.clone()),
            Some(Password::File(path)) => command.env("LIFEBOAT_PASSWORD_FILE", path),
            None => command,
        };
        match self.service.labels.get("lifeboat.exec-user") {
            Some(user) => command.user(user),
            None => command,
        }
    }

    /// Starts the client as a producer, which hangs where it gets no further for so long.
    pub(super) async fn produce(
        &self,
        arguments: &[&str],
        transport: Transport,
        idle_limit: Duration,
    ) -> Result<Producer> {
        let command = self
            .command("redis_client", arguments)
            .idle_timeout(idle_limit);
        self.engine
            .produce(&self.service.container_id, &command, transport)
            .await
    }

    /// Asks the server several things in one session; an answer each, trimmed. An answer may be an error of
    /// the server's: see [`refusal`].
    ///
    /// # Errors
    /// Where the server can't be reached or does not let lifeboat in.
    pub(super) async fn ask(&self, commands: &[&str]) -> Result<Vec<String>> {
        // The client prints answers without a sign between them, so each is followed by a mark.
        let mark = format!("lifeboat-{}-answered", self.run);
        let lines: Vec<String> = commands
            .iter()
            .map(|command| format!("{command}\nPING {mark}"))
            .collect();
        let command = self
            .command("redis_ask", &[])
            .env("LIFEBOAT_COMMANDS", lines.join("\n"));
        let output = self
            .engine
            .run(&self.service.container_id, &command)
            .await?;
        let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        let mut answers: Vec<String> = Vec::with_capacity(commands.len());
        let mut answer = String::new();
        for line in said.lines() {
            if line == mark || is_answer(line) {
                answers.push(answer.trim().to_owned());
                answer.clear();
            } else {
                answer.push_str(line);
                answer.push('\n');
            }
        }
        if answers.len() == commands.len() {
            return Ok(answers);
        }
        Err(match output.status {
            126 | 127 => self.no_client(),
            _ => self.refused(&format!("{said}\n{}", output.stderr)),
        })
    }

    /// What a complaint of the server or the client means: which user, which service, what to do.
    pub(super) fn refused(&self, said: &str) -> Error {
        let said = said
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or("it answers nothing");
        let user = self.user.as_deref().unwrap_or("default");
        let error = Error::failed(format!(
            "service {}: user {user:?} cannot use the {} server: {said}",
            self.service.name,
            if self.service.command.join(" ").contains("valkey") {
                "Valkey"
            } else {
                "Redis"
            },
        ));
        if said.contains("NOAUTH")
            || said.contains("WRONGPASS")
            || said.contains("invalid password")
        {
            error.hint(format!(
                "give the password of this service: [stack.NAME.redis.{}] user and password in lifeboat.toml",
                self.service.name
            ))
        } else if said.contains("NOPERM") {
            error.hint(
                "a backup's user needs +ping +info +sync +psync +replconf (or +bgsave), and +config|get +dbsize for a restore",
            )
        } else if said.contains("Could not connect") {
            error.hint(format!(
                "see its log: docker logs {}; a server that speaks TLS only is not supported",
                self.service.container_name
            ))
        } else {
            error
        }
    }

    /// Waits until the server answers and has loaded its data.
    ///
    /// # Errors
    /// At once where it does not let lifeboat in or its container has ended; after `deadline` where it does not answer.
    pub async fn wait_ready(&self, deadline: Duration) -> Result<()> {
        let begun = tokio::time::Instant::now();
        let command = self
            .command("redis_ask", &[])
            .env("LIFEBOAT_COMMANDS", "PING");
        let mut pause = POLLS.0;
        loop {
            let pinged = self.engine.run(&self.service.container_id, &command).await;
            let output = match pinged {
                Ok(output) => output,
                Err(error) => return Err(self.gone().await?.unwrap_or(error)),
            };
            let said = String::from_utf8_lossy(&output.stdout);
            if said.trim() == "PONG" || is_answer(&said) {
                return Ok(());
            }
            let said = format!("{said}\n{}", output.stderr);
            // Loading takes as long as it takes; only a server that does not even answer has a deadline.
            let loading = said.contains("LOADING");
            let silent = said.contains("Could not connect") && begun.elapsed() < deadline;
            if !loading && !silent {
                // A client that died with its container says nothing of use.
                if said.trim().is_empty()
                    && let Some(error) = self.gone().await?
                {
                    return Err(error);
                }
                return Err(match output.status {
                    126 | 127 => self.no_client(),
                    _ => self.refused(&said),
                });
            }
            if let Some(error) = self.down().await? {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(POLLS.1);
        }
    }

    /// An error where the container has ended, after something in it could not be run. The runtime knows of the end
    /// before the engine says so (seen: "cannot exec in a stopped container" of one still called running).
    async fn gone(&self) -> Result<Option<Error>> {
        let deadline = tokio::time::Instant::now() + ENGINE_LAGS;
        loop {
            let down = self.down().await?;
            if down.is_some() || tokio::time::Instant::now() >= deadline {
                return Ok(down);
            }
            tokio::time::sleep(POLLS.0).await;
        }
    }

    /// An error where the container does not run.
    async fn down(&self) -> Result<Option<Error>> {
        let state = self.engine.state(&self.service.container_id).await?;
        Ok((state != "running").then(|| {
            Error::failed(format!(
                "the server of service {} does not stay up: its container is {state}",
                self.service.name
            ))
            .hint(format!(
                "its log says why: docker logs {}",
                self.service.container_name
            ))
        }))
    }

    fn no_client(&self) -> Error {
        Error::failed(format!(
            "service {} has no redis-cli in its image {}",
            self.service.name, self.service.image
        ))
        .hint("lifeboat asks the server with the container's own client; is this a Redis image?")
    }

    /// Ends what lifeboat runs in the container: of this run, or, where `others`, of dead ones. A client
    /// that went away leaves its exec running.
    pub async fn end_processes(&self, others: bool) -> Result<()> {
        let command = Command::new("sh", ["-c", END_CLIENTS])
            .env("LIFEBOAT_END", &self.run)
            .env("LIFEBOAT_OTHERS", if others { "1" } else { "" });
        self.engine
            .run(&self.service.container_id, &command)
            .await
            .map(|_| ())
    }
}

/// Ends clients and readers that carry a run's id in their environment: the one given, or all but that one.
const END_CLIENTS: &str = r#"
for d in /proc/[0-9]*; do
  [ "$d" != "/proc/$$" ] || continue
  run=$(tr '\0' '\n' <"$d/environ" 2>/dev/null | sed -n 's/^LIFEBOAT_RUN=//p')
  [ -n "$run" ] || continue
  case "$run:$LIFEBOAT_OTHERS" in
    "$LIFEBOAT_END:1" | doctor:1) ;;
    *:1 | "$LIFEBOAT_END:") kill "${d#/proc/}" 2>/dev/null ;;
  esac
done
exit 0
"#;

/// Whether a PING was answered by a server that is up and has a complaint of its own: it could not save, or its
/// primary is down.
fn is_answer(line: &str) -> bool {
    line.starts_with("MISCONF ") || line.starts_with("MASTERDOWN ")
}

/// The answer, where it is an error of the server's.
pub(super) fn refusal(answer: &str) -> Option<&str> {
    let first = answer.split([' ', '\n']).next().unwrap_or_default();
    let code = first.len() >= 3 && first.bytes().all(|byte| byte.is_ascii_uppercase());
    (code && first != "PONG" && first != "OK").then(|| answer.lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_a_refusal() {
        assert_eq!(
            refusal("NOPERM this user has no permissions\n"),
            Some("NOPERM this user has no permissions")
        );
        assert_eq!(refusal("ERR unknown command"), Some("ERR unknown command"));
        for answer in [
            "PONG",
            "OK",
            "dir\n/data",
            "# Server\nredis_version:7",
            "",
            "1",
        ] {
            assert_eq!(refusal(answer), None, "{answer:?}");
        }
    }
}

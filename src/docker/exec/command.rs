//! What to run in a container, and how its bytes travel.

use crate::secret::Secret;
use std::fmt;
use std::time::Duration;

/// A command for a container. Secrets go into its environment only: arguments show in
/// `docker events` and in the container's process list, the environment of an exec does not.
#[derive(Clone)]
pub struct Command {
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, Value)>,
    pub(super) user: Option<String>,
    pub(super) preamble: Option<&'static str>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) end_timeout: Duration,
}

#[derive(Clone)]
pub(super) enum Value {
    Plain(String),
    Secret(Secret),
}

impl Command {
    /// `program` with `arguments`, found on the container's own `PATH`.
    pub fn new<A: Into<String>>(
        program: impl Into<String>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let mut argv = vec![program.into()];
        argv.extend(arguments.into_iter().map(Into::into));
        Self {
            argv,
            env: Vec::new(),
            user: None,
            preamble: None,
            idle_timeout: None,
            end_timeout: Duration::from_mins(1),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.argv.push(argument.into());
        self
    }

    /// Sets an environment variable that is no secret.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), Value::Plain(value.into())));
        self
    }

    /// Sets an environment variable to a secret.
    #[must_use]
    pub fn secret_env(mut self, name: impl Into<String>, value: Secret) -> Self {
        self.env.push((name.into(), Value::Secret(value)));
        self
    }

    /// Runs it as this user of the container instead of the container's own.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// `sh` code to run first, in the same shell, with no input and its output on stderr. One that
    /// cannot do its work says why on stderr and exits.
    #[must_use]
    pub fn preamble(mut self, code: &'static str) -> Self {
        self.preamble = Some(code);
        self
    }

    /// Fails when neither output nor stderr came for this long. Without it a silent command may
    /// run as long as the engine says that it runs.
    #[must_use]
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    /// How long its end may take once all of its output was read (default: 60 seconds).
    #[must_use]
    pub fn end_timeout(mut self, limit: Duration) -> Self {
        self.end_timeout = limit;
        self
    }

    /// The program's name without its folder, for messages.
    pub fn program(&self) -> &str {
        let path = self.argv.first().map_or("", String::as_str);
        path.rsplit('/').next().unwrap_or(path)
    }

    /// The environment as the engine takes it.
    pub(super) fn environment(&self) -> Vec<String> {
        self.env
            .iter()
            .map(|(name, value)| match value {
                Value::Plain(value) => format!("{name}={value}"),
                Value::Secret(secret) => format!("{name}={}", secret.expose()),
            })
            .collect()
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of the environment the names only: a password may have been passed as a plain value.
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        formatter
            .debug_struct("Command")
            .field("argv", &self.argv)
            .field("env", &names)
            .field("user", &self.user)
            .field("preamble", &self.preamble)
            .finish_non_exhaustive()
    }
}

/// How bytes travel between the container and lifeboat.
///
/// Compressing beside the data is worth it: a dump of 1.5 GB took 12.4 s through exec as it is and
/// 6.9 s through `zstd -1 -T2` in the container (measured, 2 cores, Docker 20.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// As they are.
    Raw,
    /// Through the container's own `zstd`.
    Zstd {
        /// Compression level. Above 3 it needs memory that a database's container may not have:
        /// 17 MiB at level 1, 55 at 3, 350 at 19 (measured).
        level: u8,
        /// Compressing threads.
        threads: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_value_of_the_environment() {
        let command = Command::new("pg_dump", ["-Fc"])
            .env("PGOPTIONS", "canary-plain")
            .secret_env("PGPASSWORD", Secret::new("canary-secret".to_owned()));
        let text = format!("{command:?}");
        assert!(
            text.contains("PGPASSWORD") && !text.contains("canary"),
            "{text}"
        );
        assert!(
            command
                .environment()
                .contains(&"PGPASSWORD=canary-secret".to_owned())
        );
    }

    #[test]
    fn the_program_is_named_without_its_folder() {
        assert_eq!(
            Command::new("/usr/bin/pg_dump", [""; 0]).program(),
            "pg_dump"
        );
    }
}

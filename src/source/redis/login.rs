//! Where a server's password and address stand: in the container's description, of which nothing is ever run.

use crate::secret::Secret;
use std::collections::BTreeMap;

/// The programs whose arguments are the server's own.
const SERVERS: [&str; 2] = ["redis-server", "valkey-server"];
/// Shells that a command may be wrapped in, as `sh -c '…'`.
const SHELLS: [&str; 4] = ["sh", "bash", "ash", "dash"];

/// What the command of a container says about its server. What a configuration file or the environment says
/// is read in the container, by `server`'s preamble.
#[derive(Debug, Clone, Default)]
pub(super) struct Login {
    /// Where the password is; `None` where the command does not tell.
    pub password: Option<Password>,
    /// The TCP port, where it is not 6379.
    pub port: Option<String>,
    /// The path of a Unix socket.
    pub socket: Option<String>,
    /// The configuration file, a path in the container.
    pub config: Option<String>,
}

/// Where a password is.
#[derive(Debug, Clone)]
pub(super) enum Password {
    /// It stands in the description itself.
    Here(Secret),
    /// In this file of the container, where only the container's own shell reads it.
    File(String),
}

impl Login {
    /// Reads the command and the environment of a container.
    pub(super) fn of(command: &[String], env: &BTreeMap<String, String>) -> Self {
        let (words, in_shell) = words(command);
        let plain = |word: &str| match in_shell {
            true => plain(word, env),
            false => Some(word.to_owned()),
        };
        let mut login = Self::default();
        let mut rest = words.iter().map(String::as_str).peekable();
        let mut in_server = false;
        while let Some(word) = rest.next() {
            let name = word.rsplit('/').next().unwrap_or(word);
            if SERVERS.contains(&name) {
                in_server = true;
            }
            // The images' entrypoint takes options, or a configuration file, for the server's.
            let starts = in_server || word.starts_with("--") || is_config(word);
            if !starts {
                continue;
            }
            in_server = true;
            match word {
                "--requirepass" => {
                    login.password = rest.next().and_then(|value| match in_shell {
                        true => password(value, env),
                        false => Some(Password::Here(Secret::new(value.to_owned()))),
                    });
                }
                "--port" => login.port = rest.next().and_then(plain),
                "--unixsocket" => login.socket = rest.next().and_then(plain),
                _ if is_config(word) && login.config.is_none() => {
                    login.config = plain(word);
                }
                _ => {}
            }
        }
        login
    }
}

fn is_config(word: &str) -> bool {
    std::path::Path::new(word)
        .extension()
        .is_some_and(|extension| extension == "conf")
}

/// The command's words; where a shell was given a script, the script's, and that it was.
fn words(command: &[String]) -> (Vec<String>, bool) {
    let is_shell = |word: &String| {
        let name = word.rsplit('/').next().unwrap_or(word);
        SHELLS.contains(&name)
    };
    let script = command
        .iter()
        .position(is_shell)
        .and_then(|shell| {
            command[shell..]
                .iter()
                .position(|word| word.ends_with('c') && word.starts_with('-'))
                .map(|at| shell + at + 1)
        })
        .and_then(|at| command.get(at));
    let Some(script) = script else {
        return (command.to_vec(), false);
    };
    let mut words: Vec<String> = Vec::new();
    for word in shlex::Shlex::new(script) {
        match words.last_mut() {
            // `$(cat /run/secrets/x)` without quotes around it is several words to a splitter.
            Some(open) if open.matches("$(").count() > open.matches(')').count() => {
                open.push(' ');
                open.push_str(&word);
            }
            _ => words.push(word),
        }
    }
    (words, true)
}

/// What a word of a script means as a password: a literal, a variable of the container's, a file.
fn password(word: &str, env: &BTreeMap<String, String>) -> Option<Password> {
    let inner = word
        .strip_prefix("$(")
        .and_then(|rest| rest.strip_suffix(')'))
        .or_else(|| {
            word.strip_prefix('`')
                .and_then(|rest| rest.strip_suffix('`'))
        });
    let Some(inner) = inner else {
        return plain(word, env).map(|value| Password::Here(Secret::new(value)));
    };
    let path = inner
        .trim()
        .strip_prefix("cat ")
        .or_else(|| inner.trim().strip_prefix('<'))?;
    let path = plain(path.trim().trim_matches(['"', '\'']), env)?;
    (!path.contains(' ')).then_some(Password::File(path))
}

/// A word without anything for a shell to work out but one whole variable.
fn plain(word: &str, env: &BTreeMap<String, String>) -> Option<String> {
    let Some(name) = word.strip_prefix('$') else {
        return (!word.contains(['$', '`'])).then(|| word.to_owned());
    };
    let name = match name.strip_prefix('{') {
        Some(braced) => braced.strip_suffix('}')?.split(':').next()?,
        None => name,
    };
    env.get(name).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(command: &[&str], env: &[(&str, &str)]) -> Login {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Login::of(&command, &env)
    }

    fn told(login: &Login) -> String {
        match &login.password {
            None => "none".to_owned(),
            Some(Password::Here(secret)) => format!("is {}", secret.expose()),
            Some(Password::File(path)) => format!("in {path}"),
        }
    }

    #[test]
    fn a_password_is_found_where_people_put_it() {
        let entry = "docker-entrypoint.sh";
        let env = [("PASS", "p w"), ("FILE", "/run/secrets/f")];
        for (command, expected) in [
            (&[entry, "redis-server"][..], "none"),
            (&[entry, "redis-server", "--requirepass", "a b"], "is a b"),
            (&[entry, "--requirepass", "x"], "is x"),
            (
                &["sh", "-c", "exec redis-server --requirepass \"$PASS\""],
                "is p w",
            ),
            (
                &["/bin/sh", "-ec", "redis-server --requirepass ${PASS:?}"],
                "is p w",
            ),
            (
                &[
                    entry,
                    "sh",
                    "-c",
                    "valkey-server --requirepass \"$(cat /run/secrets/r)\" --appendonly yes",
                ],
                "in /run/secrets/r",
            ),
            (
                &[
                    "sh",
                    "-c",
                    "redis-server --requirepass $(cat /run/r) --port 7000",
                ],
                "in /run/r",
            ),
            (
                &["sh", "-c", "redis-server --requirepass `cat $FILE`"],
                "none",
            ),
            (
                &["sh", "-c", "redis-server --requirepass \"$(cat $FILE)\""],
                "in /run/secrets/f",
            ),
            (
                &["sh", "-c", "redis-server --requirepass $(curl http://x)"],
                "none",
            ),
            (&["redis-server", "--requirepass"], "none"),
            (
                &["redis-server", "--requirepass", "$(cat x)"],
                "is $(cat x)",
            ),
        ] {
            assert_eq!(told(&login(command, &env)), expected, "{command:?}");
        }
    }

    #[test]
    fn a_port_after_a_password_of_several_words_is_found() {
        let command = [
            "sh",
            "-c",
            "redis-server /etc/r.conf --requirepass $(cat /run/r) --port 7000 --unixsocket /s",
        ];
        let found = login(&command, &[]);
        assert_eq!(found.port.as_deref(), Some("7000"));
        assert_eq!(found.socket.as_deref(), Some("/s"));
        assert_eq!(found.config.as_deref(), Some("/etc/r.conf"));
    }
}

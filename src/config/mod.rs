//! `lifeboat.toml` and schedule files, into typed values. Secret references, never secret values.
//!
//! Unknown keys are errors that point at line and column and suggest the nearest key: a misspelt `exclude`
//! that is passed over would be noticed in the disaster.

mod conceal;
mod interpolate;
mod notify;
mod schedule;

pub use interpolate::expand;
pub use notify::{ChannelConfig, ChannelKind, NotifyConfig, Place, SmtpConfig};
pub use schedule::{files as schedule_files, read as read_schedule};

use crate::error::{Error, OrFail, Result, nearest};
use crate::secret::SecretRef;
use crate::stack::Compress;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `lifeboat.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[repository.NAME]`.
    #[serde(default)]
    pub repository: BTreeMap<String, RepositoryConfig>,
    /// `[encryption]`.
    #[serde(default)]
    pub encryption: EncryptionConfig,
    /// `[signature]`.
    #[serde(default)]
    pub signature: SignatureConfig,
    /// `[stack.NAME]`.
    #[serde(default)]
    pub stack: BTreeMap<String, StackConfig>,
    /// `[notify]`.
    #[serde(default)]
    pub notify: NotifyConfig,
}

/// `[encryption]`: who new backups are encrypted to, and who opens them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncryptionConfig {
    /// Public keys: `age1…`, `ssh-ed25519 …`, `ssh-rsa …`.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// A file of public keys, one a line.
    pub recipients_file: Option<PathBuf>,
    /// A passphrase, in the place of keys.
    pub passphrase: Option<SecretRef>,
    /// A private key, for machines that restore.
    pub identity: Option<IdentityRef>,
    /// Whether the names of databases and volumes are hidden, too.
    #[serde(default)]
    pub hide_names: bool,
}

/// Where a private key is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum IdentityRef {
    /// An environment variable of the lifeboat process.
    Env(String),
    /// A file.
    File(PathBuf),
    /// A program that prints it, with its arguments.
    Command(Vec<String>),
}

/// `[signature]`: who signs new backups, and whose signature is wanted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureConfig {
    /// Where minisign's secret key is.
    pub secret_key: Option<SecretRef>,
    /// Where its password is, if it has one.
    pub password: Option<SecretRef>,
    /// The public key whose signature every backup must have to be trusted.
    pub public_key: Option<String>,
}

/// `[repository.NAME]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// Where it is: a path or `file:///path`. `${VARIABLE}` stands for the environment's.
    pub url: toml::Spanned<String>,
}

/// `[stack.NAME]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StackConfig {
    /// Artifacts that are left out, by name or folder: `postgres/db/db/scratch`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Folders of the engine's machine that are captured like volumes: `bind:/srv/app/uploads`.
    #[serde(default)]
    pub include: Vec<String>,
    /// Files of the Compose project that are captured besides its Compose files and what those name: `conf/**`,
    /// `/etc/app.conf`; `!path` leaves out.
    #[serde(default)]
    pub include_files: Vec<String>,
    /// Where bytes are compressed: `beside` the data or on the `host`.
    #[serde(default)]
    pub compress: Compress,
    /// zstd level of stored bytes, 1 to 19.
    pub level: Option<toml::Spanned<u8>>,
    /// `[stack.NAME.postgres.SERVICE]`.
    #[serde(default)]
    pub postgres: BTreeMap<String, LoginConfig>,
    /// `[stack.NAME.redis.SERVICE]`.
    #[serde(default)]
    pub redis: BTreeMap<String, LoginConfig>,
}

/// `[stack.NAME.postgres.SERVICE]` and `[stack.NAME.redis.SERVICE]`: for servers whose container does not say it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginConfig {
    /// The role or user to connect as.
    pub user: Option<String>,
    /// Where its password is: `{ env = "NAME" }` or `{ file = "/path" }`.
    pub password: Option<SecretRef>,
}

/// A configuration, and the file that it came from.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The values; all defaults where there is no file.
    pub config: Config,
    /// The file.
    pub path: Option<PathBuf>,
}

/// Where a configuration is looked for, and the environment for `${VARIABLE}`.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// `--config` or `LIFEBOAT_CONFIG`: this file and no other.
    pub explicit: Option<PathBuf>,
    /// Folders, in order; the first that has a `lifeboat.toml` gives it.
    pub folders: Vec<PathBuf>,
}

/// Reads the configuration.
///
/// # Errors
/// Usage, with line and column, where the file is not right; failed where an explicit one can't be read.
pub fn load(search: &Search, variable: &dyn Fn(&str) -> Option<String>) -> Result<Loaded> {
    let path = match &search.explicit {
        Some(path) if path.is_file() => path.clone(),
        Some(path) => {
            return Err(
                Error::usage(format!("there is no configuration file {}", path.display()))
                    .hint("lifeboat init writes one"),
            );
        }
        None => {
            let candidates = search
                .folders
                .iter()
                .map(|folder| folder.join("lifeboat.toml"));
            match candidates.into_iter().find(|path| path.is_file()) {
                Some(path) => path,
                None => return Ok(Loaded::default()),
            }
        }
    };
    let text =
        std::fs::read_to_string(&path).or_fail(|| format!("cannot read {}", path.display()))?;
    let mut config: Config = parse(&path, &text)?;
    for repository in config.repository.values_mut() {
        let span = repository.url.span();
        let url = interpolate::expand(repository.url.as_ref(), variable)
            .map_err(|missing| at(&path, &text, span.clone(), &missing))?;
        repository.url = toml::Spanned::new(span, url);
    }
    for level in config
        .stack
        .values()
        .filter_map(|stack| stack.level.as_ref())
    {
        if !(1..=19).contains(level.as_ref()) {
            let what = "level is 1 (fast) to 19 (small)";
            return Err(at(&path, &text, level.span(), what));
        }
    }
    config.notify.check().map_err(|mistake| {
        let shown = match mistake.secret {
            true => conceal::span(&text, &mistake.span),
            false => text.clone(),
        };
        at(&path, &shown, mistake.span, &mistake.what)
    })?;
    Ok(Loaded {
        config,
        path: Some(path),
    })
}

/// Parses TOML; what is wrong is shown with its line, its column, and the nearest key.
fn parse<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let shown = at(path, text, span.clone(), error.message());
        if conceal::holds_secret(line_at(text, &span)) {
            return shown;
        }
        match nearest_key(error.message()) {
            Some(key) => shown.hint(format!("did you mean {key}?")),
            None => shown,
        }
    })
}

/// The line at which a span begins.
fn line_at<'a>(text: &'a str, span: &std::ops::Range<usize>) -> &'a str {
    let before = text.get(..span.start).unwrap_or(text);
    let number = before.matches('\n').count();
    text.lines().nth(number).unwrap_or_default()
}

/// `file:line:column: what`, with the line itself under it, and nothing secret in either.
fn at(path: &Path, text: &str, span: std::ops::Range<usize>, what: &str) -> Error {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |start| start.chars().count())
        + 1;
    let source = line_at(text, &span);
    let what = conceal::message(source, what.lines().next().unwrap_or_default());
    let start: String = source.chars().take(column - 1).collect();
    // What is not shown moves what comes after it.
    let caret = " ".repeat(conceal::line(&start).chars().count());
    Error::usage(format!(
        "{}:{line}:{column}: {what}\n  {}\n  {caret}^",
        path.display(),
        conceal::line(source),
    ))
}

/// The key that an "unknown field" was meant to be: serde's message lists those that there are.
fn nearest_key(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let wrong = quoted.next()?;
    let known: Vec<&str> = quoted.collect();
    if !message.starts_with("unknown") {
        return None;
    }
    nearest(wrong, known).first().map(|key| (*key).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<Loaded> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lifeboat.toml");
        std::fs::write(&path, text).unwrap();
        let search = Search {
            explicit: Some(path),
            ..Search::default()
        };
        load(&search, &|name| (name == "SET").then(|| "value".to_owned()))
    }

    #[test]
    fn unknown_keys_point_at_their_place_and_name_the_nearest() {
        let error = load_text("[repository.local]\nurl = \"/b\"\n\n[stack.shop]\nexlude = []\n")
            .unwrap_err();
        assert_eq!(error.kind().exit_code(), 2);
        assert!(
            error
                .to_string()
                .contains("lifeboat.toml:5:1: unknown field `exlude`"),
            "{error}"
        );
        assert_eq!(error.hint_text(), Some("did you mean exclude?"));
    }

    #[test]
    fn wrong_types_and_broken_syntax_point_at_their_place() {
        for (text, place) in [
            ("[stack.a]\nlevel = \"high\"\n", ":2:9:"),
            ("[stack.a]\nlevel = 300\n", ":2:9:"),
            ("[stack.a]\nlevel = 20\n", ":2:9: level is 1"),
            ("[repository.x]\nurl = /b\n", ":2:7:"),
            ("[stack.a]\ncompress = \"nowhere\"\n", ":2:12:"),
        ] {
            let error = load_text(text).unwrap_err();
            assert!(error.to_string().contains(place), "{text:?}: {error}");
        }
    }

    #[test]
    fn variables_are_expanded_and_unset_ones_are_errors() {
        let loaded = load_text("[repository.x]\nurl = \"/b/${SET}/c$\"\n").unwrap();
        assert_eq!(loaded.config.repository["x"].url.as_ref(), "/b/value/c$");
        let error = load_text("[repository.x]\nurl = \"/b/${UNSET}\"\n").unwrap_err();
        assert!(
            error
                .to_string()
                .contains(":2:7: the variable UNSET is not set"),
            "{error}"
        );
    }

    #[test]
    fn a_password_is_a_reference() {
        let loaded = load_text(
            "[stack.a.postgres.db]\nuser = \"x\"\npassword = { file = \"/run/secrets/x\" }\n",
        )
        .unwrap();
        let password = loaded.config.stack["a"].postgres["db"].password.clone();
        assert_eq!(password, Some(SecretRef::File("/run/secrets/x".into())));
        assert!(load_text("[stack.a.postgres.db]\npassword = \"secret\"\n").is_err());
    }
}

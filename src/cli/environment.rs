//! The process's surroundings: variables, folders, clock. Read here, at the edge, and nowhere deeper.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the edge where the environment and the clock are read"
)]

use crate::docker::connect::ConnectOptions;
use crate::error::{Error, OrFail, Result};
use crate::repository::Access;
use crate::secret::{Secret, SecretRef};
use chrono::{DateTime, Utc};
use std::path::PathBuf;
use std::time::Duration;

/// The time.
pub(super) fn now() -> DateTime<Utc> {
    Utc::now()
}

/// The zone of this machine's clock: `TZ`'s, else that of `/etc/localtime`; `None` where neither names one.
pub(super) fn zone() -> Option<chrono_tz::Tz> {
    if let Some(name) = variable("TZ") {
        return name.trim_start_matches(':').parse().ok();
    }
    let Ok(link) = std::fs::read_link("/etc/localtime") else {
        // Without the file it is UTC.
        let is_there = std::path::Path::new("/etc/localtime").exists();
        return (!is_there).then_some(chrono_tz::Tz::UTC);
    };
    let path = link.to_string_lossy();
    path.split_once("zoneinfo/")?.1.parse().ok()
}

/// A variable of the environment; empty is unset.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `LIFEBOAT_X`, or the first line of the file that `LIFEBOAT_X_FILE` names.
pub(super) fn setting(name: &str) -> Result<Option<String>> {
    let file = variable(&format!("{name}_FILE"));
    match (variable(name), file) {
        (Some(_), Some(_)) => Err(Error::usage(format!("both {name} and {name}_FILE are set"))),
        (Some(value), None) => Ok(Some(value)),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(&path)
                .or_fail(|| format!("cannot read {path}, which {name}_FILE names"))?;
            Ok(Some(text.trim_end_matches('\n').to_owned()))
        }
        (None, None) => Ok(None),
    }
}

/// How buckets are reached: `AWS_*`, `AZURE_*`, `GOOGLE_*`, and lifeboat's own limits.
pub(super) fn access() -> Result<Access> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let access = Access::from_environment(variables, |name, path| {
        let text = std::fs::read_to_string(path)
            .or_fail(|| format!("cannot read {path}, which {name} names"))?;
        Ok(text.trim_end_matches('\n').to_owned())
    })?;
    Ok(access.with_limits(
        seconds("LIFEBOAT_REQUEST_TIMEOUT")?,
        seconds("LIFEBOAT_RETRY_FOR")?,
        state_folder()?.join("cache"),
    ))
}

/// A variable that holds a number of seconds.
fn seconds(name: &str) -> Result<Option<Duration>> {
    let Some(text) = setting(name)? else {
        return Ok(None);
    };
    let number = text
        .trim()
        .parse()
        .map_err(|_| Error::usage(format!("{name} is {text:?}, not a number of seconds")))?;
    Ok(Some(Duration::from_secs(number)))
}

/// What a reference refers to.
pub(super) fn resolve(reference: &SecretRef) -> Result<Secret> {
    match reference {
        SecretRef::Env(name) => variable(name).map(Secret::new).ok_or_else(|| {
            Error::usage(format!(
                "a password is said to be in the variable {name}, which is not set"
            ))
        }),
        SecretRef::File(path) => {
            let text = std::fs::read_to_string(path)
                .or_fail(|| format!("cannot read the password file {}", path.display()))?;
            Ok(Secret::new(
                text.strip_suffix('\n').unwrap_or(&text).to_owned(),
            ))
        }
    }
}

/// How the `docker` command would connect.
pub(super) fn connect_options() -> ConnectOptions {
    let config_dir = variable("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| home().map(|home| home.join(".docker")));
    ConnectOptions {
        host: variable("DOCKER_HOST"),
        context: variable("DOCKER_CONTEXT"),
        config_dir,
        tls_verify: variable("DOCKER_TLS_VERIFY").is_some(),
        cert_path: variable("DOCKER_CERT_PATH").map(PathBuf::from),
    }
}

/// The person's home folder.
pub(super) fn home() -> Option<PathBuf> {
    etcetera::home_dir().ok()
}

/// Where a `lifeboat.toml` is looked for, in order.
pub(super) fn config_folders() -> Vec<PathBuf> {
    let xdg = variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| home().map(|home| home.join(".config")));
    let mut folders = vec![PathBuf::from(".")];
    folders.extend(xdg.map(|folder| folder.join("lifeboat")));
    folders.push(PathBuf::from("/etc/lifeboat"));
    folders
}

/// Where journals are kept: `LIFEBOAT_STATE_DIR`, else `$XDG_STATE_HOME/lifeboat`, else `/var/lib/lifeboat` for root.
pub(super) fn state_folder() -> Result<PathBuf> {
    if let Some(folder) = setting("LIFEBOAT_STATE_DIR")? {
        return Ok(PathBuf::from(folder));
    }
    if let Some(folder) = variable("XDG_STATE_HOME") {
        return Ok(PathBuf::from(folder).join("lifeboat"));
    }
    match home() {
        Some(home) if !rustix::process::geteuid().is_root() => {
            Ok(home.join(".local/state/lifeboat"))
        }
        _ => Ok(PathBuf::from("/var/lib/lifeboat")),
    }
}

/// This machine's name.
pub(super) fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

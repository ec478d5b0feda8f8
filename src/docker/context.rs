//! The docker command's own notion of where the engine is: `config.json` and its contexts. bollard
//! reads neither.

use crate::error::{Error, OrFail, Result, nearest};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What a context says about its engine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Context {
    /// `unix://…`, `tcp://…`, `ssh://…`.
    pub(super) host: String,
    /// The folder with `ca.pem`, `cert.pem` and `key.pem`, where there is one.
    pub(super) tls: Option<PathBuf>,
    /// Whether it asks not to check the engine's certificate.
    pub(super) skip_tls_verify: bool,
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(rename = "currentContext", default)]
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Endpoints", default)]
    endpoints: BTreeMap<String, Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Host", default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

/// The context that `config.json` names; `None` for the built-in one or without such a file.
pub(super) fn current(config_dir: &Path) -> Result<Option<String>> {
    let path = config_dir.join("config.json");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Error::failed(format!("cannot read {}", path.display())).caused_by(error));
        }
    };
    let config: ConfigFile =
        serde_json::from_str(&text).or_fail(|| format!("cannot read {}", path.display()))?;
    Ok(config
        .current_context
        .filter(|name| !name.is_empty() && name != "default"))
}

/// Reads the context with this name.
pub(super) fn read(config_dir: &Path, name: &str) -> Result<Context> {
    // The docker command names a context's folders by the SHA-256 of its name.
    let id = hex::encode(Sha256::digest(name.as_bytes()));
    let contexts = config_dir.join("contexts");
    let path = contexts.join("meta").join(&id).join("meta.json");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(unknown(&contexts, name)),
        Err(error) => {
            return Err(Error::failed(format!("cannot read {}", path.display())).caused_by(error));
        }
    };
    let meta: Meta =
        serde_json::from_str(&text).or_fail(|| format!("cannot read {}", path.display()))?;
    let endpoint = meta
        .endpoints
        .get("docker")
        .filter(|endpoint| !endpoint.host.is_empty())
        .ok_or_else(|| {
            Error::usage(format!(
                "the Docker context {name:?} names no Docker engine"
            ))
        })?;
    let tls = contexts.join("tls").join(&id).join("docker");
    Ok(Context {
        host: endpoint.host.clone(),
        tls: tls.is_dir().then_some(tls),
        skip_tls_verify: endpoint.skip_tls_verify,
    })
}

fn unknown(contexts: &Path, name: &str) -> Error {
    let known = names(contexts);
    let near = nearest(name, known.iter().map(String::as_str));
    let error = Error::usage(format!("there is no Docker context {name:?}"));
    if near.is_empty() {
        error.hint("`docker context ls` lists them")
    } else {
        error.hint(format!("did you mean {}?", near.join(", ")))
    }
}

/// The names of every context that can be read.
fn names(contexts: &Path) -> Vec<String> {
    let Ok(folders) = std::fs::read_dir(contexts.join("meta")) else {
        return Vec::new();
    };
    folders
        .filter_map(|folder| {
            let text = std::fs::read(folder.ok()?.path().join("meta.json")).ok()?;
            serde_json::from_slice::<Meta>(&text)
                .ok()
                .map(|meta| meta.name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, host: &str, tls: bool) {
        let id = hex::encode(Sha256::digest(name.as_bytes()));
        let meta = dir.join("contexts/meta").join(&id);
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(
            meta.join("meta.json"),
            format!(
                r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}","SkipTLSVerify":false}}}}}}"#
            ),
        )
        .unwrap();
        if tls {
            std::fs::create_dir_all(dir.join("contexts/tls").join(&id).join("docker")).unwrap();
        }
    }

    #[test]
    fn a_context_is_found_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        // The folder's name as the docker command makes it.
        write(dir.path(), "prod", "tcp://10.0.0.5:2376", true);
        write(dir.path(), "lab", "ssh://me@lab", false);
        let prod = read(dir.path(), "prod").unwrap();
        assert_eq!(prod.host, "tcp://10.0.0.5:2376");
        assert!(prod.tls.unwrap().ends_with(
            "contexts/tls/6754af9632a2745e85c293e5aac0863370d9bd3330b9938c00cadfd215227d77/docker"
        ));
        assert_eq!(read(dir.path(), "lab").unwrap().tls, None);
    }

    #[test]
    fn an_unknown_context_suggests_the_nearest() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "production", "tcp://10.0.0.5:2376", false);
        let error = read(dir.path(), "prodution").unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Usage);
        assert!(
            error.hint_text().unwrap().contains("production"),
            "{error:?}"
        );
    }

    #[test]
    fn the_current_context_is_the_files_unless_it_is_the_built_in_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(current(dir.path()).unwrap(), None);
        let file = dir.path().join("config.json");
        std::fs::write(&file, r#"{"auths":{},"currentContext":"lab"}"#).unwrap();
        assert_eq!(current(dir.path()).unwrap().as_deref(), Some("lab"));
        std::fs::write(&file, r#"{"currentContext":"default"}"#).unwrap();
        assert_eq!(current(dir.path()).unwrap(), None);
        std::fs::write(&file, "{").unwrap();
        assert!(current(dir.path()).is_err());
    }
}

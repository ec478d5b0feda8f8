//! Stacks, services, volumes and the names of artifacts: values, no input or output.

use crate::error::{Error, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A Compose project on one engine, or one plain container that stands for itself.
#[derive(Debug, Clone, Serialize)]
pub struct Stack {
    /// The project's name (label `com.docker.compose.project`), or the container's.
    pub name: String,
    /// Its containers, replicas included, ordered by service and container name.
    pub services: Vec<Service>,
}

/// One container of a stack, as the engine described it.
#[derive(Debug, Clone, Serialize)]
pub struct Service {
    /// The Compose service's name, or the container's own.
    pub name: String,
    /// The engine's full container id.
    pub container_id: String,
    /// The container's name, without the leading slash.
    pub container_name: String,
    /// The image as the container was created from it: `postgres:17`.
    pub image: String,
    /// The image's id on this engine: `sha256:…`.
    pub image_id: String,
    /// The image's repository digest where it came from a registry: `postgres@sha256:…`.
    pub image_digest: Option<String>,
    /// Whether it runs now and is not paused.
    pub running: bool,
    /// The engine's word for its state: `running`, `exited`, `paused`.
    pub state: String,
    /// The container's labels.
    pub labels: BTreeMap<String, String>,
    /// The container's environment. Holds secrets: never serialised, never printed.
    #[serde(skip)]
    pub env: BTreeMap<String, String>,
    /// What it runs: entrypoint and arguments. May hold secrets: never serialised, never printed.
    #[serde(skip)]
    pub command: Vec<String>,
    /// What is mounted into it.
    pub mounts: Vec<Mount>,
    /// The user that it runs as (`999:999`), where it is another one than the image's.
    pub user: Option<String>,
    /// CPU limit in billionths of a core; 0 where there is none.
    pub nano_cpus: i64,
    /// Memory limit in bytes; 0 where there is none.
    pub memory: i64,
}

/// A named volume, as the engine knows it. Compose compares all of it with its files. Read from what the engine says
/// (`Name`) and from what lifeboat has written (`name`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(deserialize = "PascalCase"))]
pub struct Volume {
    /// Its name.
    #[serde(alias = "name")]
    pub name: String,
    /// What keeps it: `local`.
    #[serde(alias = "driver")]
    pub driver: String,
    /// Its labels.
    #[serde(alias = "labels", default, deserialize_with = "or_null")]
    pub labels: BTreeMap<String, String>,
    /// What its driver was told: `type`, `device`, `o`.
    #[serde(alias = "options", default, deserialize_with = "or_null")]
    pub options: BTreeMap<String, String>,
}

/// A value, or its default where there is none: the engine writes `null` for an empty map.
fn or_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Volume {
    /// A volume of the engine's own kind, without options and labels.
    pub fn plain(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            driver: "local".to_owned(),
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
        }
    }

    /// The Compose project that made it.
    pub fn project(&self) -> Option<&str> {
        self.labels
            .get("com.docker.compose.project")
            .map(String::as_str)
    }

    /// The folder or device that its options name: two volumes with the same one hold the same data.
    pub fn device(&self) -> Option<&str> {
        let own = matches!(self.options.get("type").map(String::as_str), Some("tmpfs"));
        self.options
            .get("device")
            .filter(|_| !own)
            .map(String::as_str)
    }

    /// Whether it is kept in memory, and gone when no container has it mounted.
    pub fn in_memory(&self) -> bool {
        self.options.get("type").is_some_and(|kind| kind == "tmpfs")
    }
}

/// A volume or directory mounted into a container.
#[derive(Debug, Clone, Serialize)]
pub struct Mount {
    /// The volume's name; `None` for a bind mount.
    pub volume: Option<String>,
    /// The folder on the engine's machine, for a bind mount.
    pub folder: Option<String>,
    /// The path inside the container.
    pub destination: String,
    /// Whether the container cannot write to it.
    pub read_only: bool,
}

/// Which kind of store an artifact came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A PostgreSQL server.
    Postgres,
    /// A Redis or Valkey server.
    Redis,
    /// A named volume, or a folder that is mounted.
    Volume,
    /// The Compose project's own files.
    Files,
}

/// Where the bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compress {
    /// In the container, where its image has zstd: fewer bytes cross the engine.
    #[default]
    Beside,
    /// In the lifeboat process, which leaves the container's CPU limit to the database.
    Host,
}

/// What is done to a container while its volumes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quiesce {
    /// It is stopped, with its own grace period.
    Stop,
    /// Its processes are frozen: what they have not yet written stays in their memory.
    Pause,
}

/// The name of one stored stream. Displayed and parsed in its percent-encoded form only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ArtifactName {
    /// `postgres/<service>/db/<database>`: one database's dump.
    Database {
        /// The Compose service.
        service: String,
        /// The database.
        database: String,
    },
    /// `postgres/<service>/globals`: roles, memberships and tablespaces of a cluster.
    Globals {
        /// The Compose service.
        service: String,
    },
    /// `redis/<service>`: an RDB snapshot.
    Redis {
        /// The Compose service.
        service: String,
    },
    /// `volume/<name>`: a volume's archive.
    Volume {
        /// The volume.
        name: String,
    },
    /// `bind/<path>`: the archive of a folder of the engine's machine that is mounted into a container.
    Bind {
        /// The folder's absolute path.
        path: String,
    },
    /// `files`: the archive of the Compose project's own files. There is one in a backup at the most.
    Files,
}

impl ArtifactName {
    /// Which kind of store it came from.
    pub fn source_kind(&self) -> SourceKind {
        match self {
            Self::Database { .. } | Self::Globals { .. } => SourceKind::Postgres,
            Self::Redis { .. } => SourceKind::Redis,
            Self::Volume { .. } | Self::Bind { .. } => SourceKind::Volume,
            Self::Files => SourceKind::Files,
        }
    }

    /// The Compose service it came from, where there is one.
    pub fn service(&self) -> Option<&str> {
        match self {
            Self::Database { service, .. }
            | Self::Globals { service }
            | Self::Redis { service } => Some(service),
            Self::Volume { .. } | Self::Bind { .. } | Self::Files => None,
        }
    }

    /// The artifact under a name that says nothing, made of `random`: databases, volumes and folders have names of
    /// their own; of the others the service says all.
    #[must_use]
    pub fn hidden(&self, random: &[u8; 8]) -> Self {
        let hidden = format!("hidden-{:016x}", u64::from_be_bytes(*random));
        match self {
            Self::Database { service, .. } => Self::Database {
                service: service.clone(),
                database: hidden,
            },
            Self::Volume { .. } => Self::Volume { name: hidden },
            Self::Bind { .. } => Self::Bind {
                path: format!("/{hidden}"),
            },
            Self::Globals { .. } | Self::Redis { .. } | Self::Files => self.clone(),
        }
    }

    /// Whether `pattern` names this artifact or a folder of it: `postgres`, `postgres/db1/db/app`,
    /// and for convenience a bare database name.
    pub fn matches(&self, pattern: &str) -> bool {
        let name = self.to_string();
        name == pattern
            || name
                .strip_prefix(pattern)
                .is_some_and(|rest| rest.starts_with('/'))
            || matches!(self, Self::Database { database, .. } if database == pattern)
    }
}

impl fmt::Display for ArtifactName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database { service, database } => {
                write!(
                    formatter,
                    "postgres/{}/db/{}",
                    encode(service),
                    encode(database)
                )
            }
            Self::Globals { service } => write!(formatter, "postgres/{}/globals", encode(service)),
            Self::Redis { service } => write!(formatter, "redis/{}", encode(service)),
            Self::Volume { name } => write!(formatter, "volume/{}", encode(name)),
            Self::Bind { path } => write!(formatter, "bind/{}", encode(path)),
            Self::Files => formatter.write_str("files"),
        }
    }
}

impl FromStr for ArtifactName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::usage(format!("{text:?} is not an artifact's name"));
        let parts: Vec<&str> = text.split('/').collect();
        let decoded = |part: &str| decode(part).ok_or_else(invalid);
        match parts[..] {
            ["postgres", service, "db", database] => Ok(Self::Database {
                service: decoded(service)?,
                database: decoded(database)?,
            }),
            ["postgres", service, "globals"] => Ok(Self::Globals {
                service: decoded(service)?,
            }),
            ["redis", service] => Ok(Self::Redis {
                service: decoded(service)?,
            }),
            ["volume", name] => Ok(Self::Volume {
                name: decoded(name)?,
            }),
            ["bind", path] => Ok(Self::Bind {
                path: decoded(path)?,
            }),
            ["files"] => Ok(Self::Files),
            _ => Err(invalid()),
        }
    }
}

impl Serialize for ArtifactName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ArtifactName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Everything but `A-Za-z0-9._-` (docs/format.md, "Keys").
const OUTSIDE_NAMES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');

/// A name as it stands in keys: every byte outside `A-Za-z0-9._-` percent-encoded, and a leading
/// dot or dash too, so that no name hides a file or reads as an option.
pub fn encode(name: &str) -> String {
    let encoded = utf8_percent_encode(name, OUTSIDE_NAMES).to_string();
    match encoded.as_bytes().first() {
        Some(b'.') => format!("%2E{}", &encoded[1..]),
        Some(b'-') => format!("%2D{}", &encoded[1..]),
        _ => encoded,
    }
}

/// The name behind its encoded form; `None` unless `encoded` is exactly what [`encode`] makes.
pub fn decode(encoded: &str) -> Option<String> {
    let name = percent_decode_str(encoded).decode_utf8().ok()?.into_owned();
    (!name.is_empty() && encode(&name) == encoded).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_outside_the_plain_set_are_encoded() {
        assert_eq!(encode("procgenie_dev"), "procgenie_dev");
        assert_eq!(encode("../a b"), "%2E.%2Fa%20b");
        assert_eq!(encode("-rf"), "%2Drf");
        assert_eq!(encode("é%"), "%C3%A9%25");
    }

    #[test]
    fn a_name_is_parsed_in_its_encoded_form_only() {
        for text in [
            "",
            "postgres",
            "postgres//db/x",
            "postgres/s/db/%2e",
            "postgres/s/db/.x",
            "postgres/s/db/..",
            "volume/%41",
            "files/",
            "files/x",
        ] {
            assert!(text.parse::<ArtifactName>().is_err(), "{text:?} was parsed");
        }
    }

    #[test]
    fn only_takes_whole_parts() {
        let name: ArtifactName = "postgres/main/db/shop".parse().unwrap();
        assert!(
            name.matches("postgres")
                && name.matches("postgres/main/db/shop")
                && name.matches("shop")
        );
        assert!(!name.matches("postgres/ma") && !name.matches("sho"));
    }

    proptest! {
        #[test]
        fn every_name_comes_back(service in "\\PC{1,20}", database in "[\\s\\S]{1,63}") {
            let name = ArtifactName::Database { service, database };
            prop_assert_eq!(name.to_string().parse::<ArtifactName>().unwrap(), name);
        }
    }
}

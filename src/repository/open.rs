//! Opening a repository, and making one.

use super::folder::{Folder, Published, io_error};
use super::layout::{LOCK, MARKER, PROBE, is_staging};
use super::store::{Store, blocking};
use super::{Location, Repository};
use crate::error::{Error, OrFail, Result};
use crate::manifest::FORMAT;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;

/// What `lifeboat-repository.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The newest format of any backup in it.
    pub format: u32,
    /// 32 hex digits that tell it from every other repository.
    pub id: String,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// The lifeboat that made it, or that raised its format.
    pub lifeboat_version: String,
}

/// What [`Repository::init`] found.
#[derive(Debug, Clone)]
pub enum InitOutcome {
    /// There was none; now there is.
    Created(Repository),
    /// There was one already, and it is as it was.
    Existed(Repository),
}

impl InitOutcome {
    /// The repository, new or not.
    pub fn into_repository(self) -> Repository {
        match self {
            Self::Created(repository) | Self::Existed(repository) => repository,
        }
    }
}

/// The part of a marker that every format has: enough to say which version is needed.
#[derive(Deserialize)]
struct AnyMarker {
    format: u32,
    #[serde(default)]
    lifeboat_version: Option<String>,
}

impl Repository {
    /// Opens an existing repository. Never makes one: a disk that is not mounted must be noticed.
    ///
    /// # Errors
    /// Not found where there is none; failed where its format is newer than this program's;
    /// damaged where its marker is not readable as one.
    pub async fn open(location: &Location) -> Result<Self> {
        let folder = Folder::new(location.path());
        let (checked, shown) = (folder.clone(), location.clone());
        blocking(move || {
            if checked.check_file(MARKER)? {
                Ok(())
            } else {
                Err(missing(&checked, &shown))
            }
        })
        .await?;
        let store = Store::local(folder)?;
        let bytes = store
            .get(MARKER)
            .await?
            .ok_or_else(|| missing(store.folder(), location))?;
        Ok(Self {
            location: location.clone(),
            marker: read_marker(location, &bytes)?,
            store,
        })
    }

    /// Writes and removes a key of its own: whether a backup could be written now.
    ///
    /// # Errors
    /// Failed where the place refuses to write, or writes one key twice.
    pub async fn probe(&self) -> Result<()> {
        let folder = self.store.folder().clone();
        let probe = format!("{PROBE}{}", random_hex()?);
        blocking(move || {
            let probed = try_twice(&folder, &probe);
            folder.remove(&probe)?;
            probed
        })
        .await
    }

    /// Makes a repository in a directory that is missing or empty, with the time `now`.
    ///
    /// Probes first that the place refuses to write one key twice: the commit of a backup rests
    /// on that.
    ///
    /// # Errors
    /// Usage where the directory holds other things; failed where the probe or a write does.
    pub async fn init(location: &Location, now: DateTime<Utc>) -> Result<InitOutcome> {
        let folder = Folder::new(location.path());
        let existed = folder.check_file(MARKER)?;
        if existed {
            return Self::open(location).await.map(InitOutcome::Existed);
        }
        let marker = Marker {
            format: FORMAT,
            id: random_hex()?,
            created: now,
            lifeboat_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let mut bytes = serde_json::to_vec_pretty(&marker)
            .or_fail(|| "cannot write the repository's marker")?;
        bytes.push(b'\n');
        let probe = format!("{PROBE}{}", marker.id);
        let published = blocking(move || {
            folder.make_root()?;
            refuse_others(&folder)?;
            let probed = try_twice(&folder, &probe);
            folder.remove(&probe)?;
            probed?;
            folder.put_new(MARKER, &bytes)
        })
        .await?;
        let repository = Self::open(location).await?;
        Ok(match published {
            Published::Created => InitOutcome::Created(repository),
            Published::Existed => InitOutcome::Existed(repository),
        })
    }
}

/// No repository here; says what it may be instead.
fn missing(folder: &Folder, location: &Location) -> Error {
    let error = Error::not_found(format!("no repository at {location}"));
    let path = folder.root();
    let make = format!("make one: `lifeboat repository init --repository {location}`");
    match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => error.hint(format!(
            "the directory is empty: is the disk mounted? If it is new, {make}"
        )),
        Ok(false) => error.hint(format!("the directory holds other things; {make}")),
        Err(cause) if cause.kind() == ErrorKind::NotFound => error.hint(make),
        Err(cause) => error.caused_by(io_error("list", path, cause)),
    }
}

fn read_marker(location: &Location, bytes: &[u8]) -> Result<Marker> {
    let damaged = |error: serde_json::Error| {
        Error::damaged(format!("{MARKER} of {location} is not a marker")).caused_by(error)
    };
    let any: AnyMarker = serde_json::from_slice(bytes).map_err(damaged)?;
    if any.format > FORMAT {
        let by = any.lifeboat_version.map_or(String::new(), |version| {
            format!(", written by lifeboat {version}")
        });
        return Err(Error::failed(format!(
            "the repository at {location} has format {}{by}, and this lifeboat reads formats up to {FORMAT}",
            any.format
        ))
        .hint("use that version of lifeboat, or a newer one"));
    }
    let marker: Marker = serde_json::from_slice(bytes).map_err(damaged)?;
    let hex = marker.id.len() == 32 && marker.id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if marker.format == 0 || !hex {
        return Err(Error::damaged(format!(
            "{MARKER} of {location} is not a marker"
        )));
    }
    Ok(marker)
}

/// A repository shares its directory with nothing else: its folders could be taken for stacks.
fn refuse_others(folder: &Folder) -> Result<()> {
    let entries =
        fs::read_dir(folder.root()).map_err(|error| io_error("list", folder.root(), error))?;
    for entry in entries {
        let entry = entry.map_err(|error| io_error("list", folder.root(), error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What an `init` that was killed leaves, one that runs beside this one, or `mkfs`.
        let ours = name == LOCK || name == MARKER || name.starts_with(PROBE) || is_staging(&name);
        if !ours && name != "lost+found" {
            return Err(Error::usage(format!(
                "{} is not empty: it holds {name:?}",
                folder.root().display()
            ))
            .hint(format!(
                "give the repository a directory of its own: {}",
                folder.path("lifeboat").display()
            )));
        }
    }
    Ok(())
}

/// That a key is written once only.
fn try_twice(folder: &Folder, probe: &str) -> Result<()> {
    let first = folder.put_new(probe, b"1")?;
    let second = folder.put_new(probe, b"2")?;
    let kept = fs::read(folder.path(probe))
        .map_err(|error| io_error("read", &folder.path(probe), error))?;
    if (first, second) == (Published::Created, Published::Existed) && kept == b"1" {
        return Ok(());
    }
    Err(Error::failed(format!(
        "{} lets one file be created twice, so two runs could overwrite each other's backups",
        folder.root().display()
    ))
    .hint("choose another file system"))
}

fn random_hex() -> Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).or_fail(|| "the system gives no random bytes")?;
    Ok(hex::encode(bytes))
}

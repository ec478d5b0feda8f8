//! Opening a repository, and making one.

use super::access::Access;
use super::bucket::{Bucket, Removal};
use super::folder::{Folder, Published, io_error};
use super::layout::{HOLDS, LOCK, MARKER, ORPHANS, PROBE, is_staging};
use super::store::{Store, blocking};
use super::{Keys, Location, Protection, Repository};
use crate::error::{Error, OrFail, Result};
use crate::manifest::FORMAT;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

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
    /// What its store was found to do, where it is a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreTraits>,
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

/// What a store was found to do when the repository was made, where it is a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreTraits {
    /// Whether it refuses to create what exists already.
    pub create_if_absent: bool,
    /// Whether it lists what was just written.
    pub list_after_write: bool,
    /// Whether the credentials that made it were allowed to remove an object.
    pub delete: bool,
}

/// What [`Repository::probe`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// What the store does; `None` for a directory, of which all of it is required.
    pub traits: Option<StoreTraits>,
    /// How many seconds the store's clock is ahead of this machine's, to the second.
    pub clock_ahead: i64,
}

impl Repository {
    /// Opens an existing repository. Never makes one: a disk that is not mounted must be noticed.
    ///
    /// # Errors
    /// Not found where there is none; failed where its format is newer than this program's;
    /// damaged where its marker is not readable as one.
    pub async fn open(location: &Location, access: &Access) -> Result<Self> {
        let store = match location {
            Location::Directory(path) => {
                let folder = Folder::new(path);
                let (checked, shown) = (folder.clone(), location.clone());
                blocking(move || {
                    if checked.check_file(MARKER)? {
                        Ok(())
                    } else {
                        Err(missing(&checked, &shown))
                    }
                })
                .await?;
                Store::local(folder)?
            }
            Location::Bucket(address) => Store::Bucket(Bucket::new(address, access)?),
        };
        let bytes = first_answer(&store, access).await?.ok_or_else(|| {
            Error::not_found(format!("no repository at {location}")).hint(format!(
                "make one: `lifeboat repository init --repository {location}`"
            ))
        })?;
        let marker = read_marker(location, &bytes)?;
        if let (Store::Bucket(bucket), Some(traits)) = (&store, &marker.store)
            && !traits.create_if_absent
        {
            bucket.overwrites();
        }
        Ok(Self {
            location: location.clone(),
            marker,
            store,
            keys: Keys::default(),
            protection: Protection::default(),
        })
    }

    /// Writes and removes a key of its own: whether a backup could be written now, and what the store does.
    ///
    /// # Errors
    /// Failed where the place refuses to write; and where it is a directory, if it writes one key twice.
    pub async fn probe(&self, now: DateTime<Utc>) -> Result<Probed> {
        probe(&self.store, &format!("{PROBE}{}", random_hex()?), now).await
    }

    /// How many seconds the store's clock is ahead of `now`, to the second. Writes and removes a key of its own.
    ///
    /// # Errors
    /// Failed where the place refuses to write.
    pub async fn clock_ahead(&self, now: DateTime<Utc>) -> Result<i64> {
        clock_ahead(&self.store, now).await
    }

    /// Makes a repository in a directory or below a prefix that is missing or empty, with the time `now`.
    ///
    /// Probes first what the place does when one key is written twice: the commit of a backup rests
    /// on that.
    ///
    /// # Errors
    /// Usage where the place holds other things; failed where the probe or a write does.
    pub async fn init(
        location: &Location,
        access: &Access,
        now: DateTime<Utc>,
    ) -> Result<InitOutcome> {
        let store = match location {
            Location::Directory(path) => {
                let folder = Folder::new(path);
                if folder.check_file(MARKER)? {
                    return Self::open(location, access).await.map(InitOutcome::Existed);
                }
                let made = folder.clone();
                blocking(move || made.make_root()).await?;
                Store::local(folder)?
            }
            Location::Bucket(address) => {
                let store = Store::Bucket(Bucket::new(address, access)?);
                if first_answer(&store, access).await?.is_some() {
                    return Self::open(location, access).await.map(InitOutcome::Existed);
                }
                store
            }
        };
        refuse_others(&store).await?;
        let id = random_hex()?;
        let probed = probe(&store, &format!("{PROBE}{id}"), now).await?;
        let marker = Marker {
            format: FORMAT,
            id,
            created: now,
            lifeboat_version: env!("CARGO_PKG_VERSION").to_owned(),
            store: probed.traits,
        };
        let mut bytes = serde_json::to_vec_pretty(&marker)
            .or_fail(|| "cannot write the repository's marker")?;
        bytes.push(b'\n');
        let published = store.put_new(MARKER, bytes).await?;
        let repository = Self::open(location, access).await?;
        Ok(match published {
            Published::Created => InitOutcome::Created(repository),
            Published::Existed => InitOutcome::Existed(repository),
        })
    }
}

/// How long a bucket's first answer may take: where it is not reachable, or nobody gave credentials, that should be
/// known before a person gives up.
const FIRST_ANSWER: Duration = Duration::from_secs(45);

/// For how long a first request that fails is tried again.
const FIRST_TRIES: Duration = Duration::from_secs(20);

/// The marker, if there is one.
async fn first_answer(store: &Store, access: &Access) -> Result<Option<bytes::Bytes>> {
    let bucket = match store {
        Store::Folder(_) => return store.get(MARKER).await,
        Store::Bucket(bucket) => bucket.hasty(FIRST_TRIES),
    };
    let limit = FIRST_ANSWER.min(access.patience + access.request_timeout);
    let late = || {
        Error::failed(format!(
            "{} has not answered within {} seconds",
            store.shown(""),
            limit.as_secs()
        ))
        .hint("are the endpoint and the credentials set? docs/stores.md lists the variables")
    };
    tokio::time::timeout(limit, bucket.get(MARKER))
        .await
        .unwrap_or_else(|_| Err(late()))
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

/// A repository shares its place with nothing else: its folders could be taken for stacks.
async fn refuse_others(store: &Store) -> Result<()> {
    for found in store.list("").await? {
        let name = &found.key;
        // What an `init` that was killed leaves, one that runs beside this one, or `mkfs`.
        let ours = [LOCK, MARKER, HOLDS, ORPHANS].contains(&name.as_str())
            || name.starts_with(PROBE)
            || is_staging(name);
        if !ours && name != "lost+found" {
            return Err(Error::usage(format!(
                "{} is not empty: it holds {name:?}",
                store.shown("")
            ))
            .hint(format!(
                "give the repository a place of its own: {}",
                store.shown("lifeboat")
            )));
        }
    }
    Ok(())
}

async fn probe(store: &Store, key: &str, now: DateTime<Utc>) -> Result<Probed> {
    let traits = match store {
        Store::Folder(_) => {
            let probed = try_twice(store, key).await;
            store.remove(key).await?;
            probed?;
            None
        }
        Store::Bucket(bucket) => {
            let create_if_absent = bucket.refuses_a_second(key).await?;
            let listed = bucket.list("").await?;
            Some(StoreTraits {
                create_if_absent,
                list_after_write: listed.iter().any(|found| found.key == key),
                delete: bucket.remove(key).await? == Removal::Gone,
            })
        }
    };
    if traits
        .as_ref()
        .is_some_and(|traits| !traits.list_after_write)
    {
        return Err(Error::failed(format!(
            "{} does not list what was just written",
            store.shown("")
        ))
        .hint("this store cannot hold a repository"));
    }
    Ok(Probed {
        traits,
        clock_ahead: clock_ahead(store, now).await?,
    })
}

async fn clock_ahead(store: &Store, now: DateTime<Utc>) -> Result<i64> {
    let theirs: DateTime<Utc> = store.clock().await?.into();
    Ok((theirs - now).num_seconds())
}

/// That a key is written once only.
async fn try_twice(store: &Store, probe: &str) -> Result<()> {
    let first = store.put_new(probe, b"1".to_vec()).await?;
    let second = store.put_new(probe, b"2".to_vec()).await?;
    let kept = store.get(probe).await?;
    if (first, second) == (Published::Created, Published::Existed)
        && kept.is_some_and(|kept| kept == "1"[..])
    {
        return Ok(());
    }
    Err(Error::failed(format!(
        "{} lets one file be created twice, so two runs could overwrite each other's backups",
        store.shown("")
    ))
    .hint("choose another file system"))
}

/// 32 hex digits that nothing else has.
pub(super) fn random_hex() -> Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).or_fail(|| "the system gives no random bytes")?;
    Ok(hex::encode(bytes))
}

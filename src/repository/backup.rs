//! One backup, opened for reading: its parts have been held against each other.

use super::catalog::{Entry, parse_commit};
use super::check::{check_listing, check_manifest, check_sums};
use super::layout::{
    FACTS, MANIFEST, RECIPE, SIGNATURE, STACK, SUMS, backup_folder, commit_key, either,
};
use super::lease::Lease;
use super::reader::{ArtifactReader, ArtifactStream};
use super::store::{SMALL, Store};
use super::sums::{Sums, digest};
use super::{Keys, Repository};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Artifact, Commit, Encoding, Facts, Manifest, ObjectRef, Remarks};
use crate::stack::ArtifactName;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

/// How much of an encrypted stream is read to see whether a key opens it: room for a hundred recipients.
const HEADER: u64 = 64 << 10;

/// The most that a compressed JSON object may decode to (256 MiB): no decompression bombs.
const DECODED: u64 = 256 << 20;

/// A backup whose commit, `SHA256SUMS` and manifest agree. Pruning waits while it is open.
#[derive(Debug)]
pub struct Backup {
    pub(super) store: Store,
    pub(super) folder: String,
    commit: Commit,
    /// The commit as it is stored.
    pub(super) commit_bytes: Bytes,
    manifest: Manifest,
    pub(super) sums: Sums,
    pub(super) sizes: BTreeMap<String, u64>,
    /// How the folder differs from what was written, as far as a listing tells.
    unlike: Vec<Damage>,
    lease: Arc<Lease>,
    keys: Keys,
    /// What hidden names stand for, where the keys tell.
    names: BTreeMap<String, ArtifactName>,
}

/// What [`Backup::verify_objects`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many objects were read.
    pub objects: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The objects that are not what was written.
    pub damaged: Vec<Damage>,
}

/// An object that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Its key in the backup's folder.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Report {
    /// The error that damaged objects are; `Ok` where there are none.
    ///
    /// # Errors
    /// Damaged, naming the first object and how many more there are.
    pub fn into_result(self) -> Result<()> {
        match &self.damaged[..] {
            [] => Ok(()),
            [one] => Err(Error::damaged(one.reason.clone())),
            [first, rest @ ..] => Err(Error::damaged(format!(
                "{}, and {} more objects are damaged",
                first.reason,
                rest.len()
            ))),
        }
    }
}

impl Repository {
    /// Opens a backup and checks what says what it is. Whether its objects are there and whole is asked with
    /// [`Backup::check_folder`] and [`Backup::verify_objects`]: one that is lost does not take the others along.
    ///
    /// # Errors
    /// Damaged, naming the object; not found where it was removed since it was listed; busy while
    /// the repository is being pruned.
    pub async fn open_backup(&self, entry: &Entry) -> Result<Backup> {
        let lease = self.store.share().await?;
        let (stack, id) = (&entry.stack, &entry.id);
        let key = commit_key(stack, id);
        let bytes =
            self.store.get(&key).await?.ok_or_else(|| {
                Error::not_found(format!("{} has been removed", entry.reference()))
            })?;
        let commit = parse_commit(&key, &bytes, stack, id)?;
        let folder = backup_folder(stack, id);
        let sums = self.read_sums(&folder, &commit).await?;
        let manifest = read_manifest(&self.store, &folder, &sums).await?;
        check_manifest(&folder, &manifest, &commit)?;
        check_sums(&folder, &manifest, &sums)?;
        let sizes: BTreeMap<String, u64> = self
            .store
            .tree(&folder)
            .await?
            .into_iter()
            .filter(|found| !found.is_folder)
            .map(|found| (found.key, found.size))
            .collect();
        let unlike = check_listing(&folder, &manifest, &sums, &sizes);
        let mut backup = Backup {
            store: self.store.clone(),
            folder,
            commit,
            commit_bytes: bytes,
            manifest,
            sums,
            sizes,
            unlike,
            lease: Arc::new(lease),
            keys: self.keys.clone(),
            names: BTreeMap::new(),
        };
        for key in [FACTS, STACK, RECIPE] {
            backup.fixed(key)?;
        }
        backup.reveal().await?;
        Ok(backup)
    }
}

impl Repository {
    /// The marks that a person gave a backup, from its manifest, if that is the one which the commit vouches for; `None` where
    /// it has been removed since it was listed.
    ///
    /// # Errors
    /// Damaged where the manifest is not what was written.
    pub async fn tags(&self, entry: &Entry) -> Result<Option<BTreeMap<String, String>>> {
        let Some(commit) = &entry.commit else {
            return Ok(None);
        };
        let folder = backup_folder(&entry.stack, &entry.id);
        let read = async {
            let sums = self.read_sums(&folder, commit).await?;
            read_manifest(&self.store, &folder, &sums).await
        };
        match read.await {
            Ok(manifest) => Ok(Some(manifest.tags)),
            Err(error) if error.kind() == Kind::Damaged => {
                let key = commit_key(&entry.stack, &entry.id);
                // The commit goes first: what has none is gone, not damaged.
                match self.store.exists(&key).await? {
                    true => Err(error),
                    false => Ok(None),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The digests of a backup, if they are those of its commit, and signed where a signature is wanted.
    async fn read_sums(&self, folder: &str, commit: &Commit) -> Result<Sums> {
        let key = format!("{folder}/{SUMS}");
        let bytes = need(&self.store, &key).await?;
        if digest(&bytes) != commit.sha256sums {
            return Err(Error::damaged(format!(
                "{key}: not the one that the backup was committed with"
            )));
        }
        if let Some(wanted) = &self.keys.signed_by {
            let signature = self.store.get(&format!("{folder}/{SIGNATURE}")).await?;
            let signature = signature.ok_or_else(|| {
                Error::damaged(format!(
                    "{folder}: not signed, and only signed backups are trusted"
                ))
                .hint("the configuration pins a public key: [signature] public_key")
            })?;
            wanted
                .check(&bytes, &signature, &commit.stack, commit.backup.as_str())
                .map_err(|error| error.while_doing(format!("{folder} is not to be trusted")))?;
        }
        Sums::parse(folder, &bytes)
    }
}

async fn read_manifest(store: &Store, folder: &str, sums: &Sums) -> Result<Manifest> {
    let bytes = read_checked(store, folder, MANIFEST, sums).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::damaged(format!("{folder}/{MANIFEST}: not a manifest")).caused_by(error)
    })
}

async fn need(store: &Store, key: &str) -> Result<Bytes> {
    store
        .get(key)
        .await?
        .ok_or_else(|| Error::damaged(format!("{key}: missing")))
}

/// A small object that has the digest that it was written with.
async fn read_checked(store: &Store, folder: &str, key: &str, sums: &Sums) -> Result<Bytes> {
    let full = format!("{folder}/{key}");
    let expected = sums
        .get(key)
        .ok_or_else(|| Error::damaged(format!("{full}: not listed in {SUMS}")))?;
    let bytes = need(store, &full).await?;
    if digest(&bytes) == expected {
        Ok(bytes)
    } else {
        Err(Error::damaged(format!(
            "{full}: its digest is not the one in {SUMS}"
        )))
    }
}

impl Backup {
    /// The summary that makes the backup count.
    pub fn commit(&self) -> &Commit {
        &self.commit
    }

    /// What the backup holds and how it was made.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What was counted while it was made.
    ///
    /// # Errors
    /// Damaged where it is not what was written; key where it is encrypted.
    pub async fn facts(&self) -> Result<Facts> {
        let facts: Facts = self.read_json(FACTS).await?;
        let named = facts
            .0
            .into_iter()
            .map(|(name, facts)| match self.names.get(&name) {
                Some(real) => (real.to_string(), facts),
                None => (name, facts),
            });
        Ok(Facts(named.collect()))
    }

    /// Gives artifacts whose names are hidden their own ones, for whoever has the key, and the manifest what was
    /// withdrawn from it.
    async fn reveal(&mut self) -> Result<()> {
        if !self.is_encrypted() || self.keys.identities.is_empty() {
            return Ok(());
        }
        let facts = match self.facts().await {
            Ok(facts) => facts,
            // Whoever needs what the key opens is told then.
            Err(error) if error.kind() == Kind::Key => return Ok(()),
            Err(error) => return Err(error),
        };
        let damaged = |what: &str| Error::damaged(format!("{}: its facts {what}", self.folder));
        if let Some(remarks) = facts.0.get(Facts::REMARKS) {
            let remarks: Remarks = serde_json::from_value(remarks.clone())
                .map_err(|error| damaged("hold no remarks").caused_by(error))?;
            self.manifest.only = remarks.only;
            self.manifest.reasons = remarks.reasons;
            self.manifest.notes = remarks.notes;
        }
        if !self.manifest.hidden_names {
            return Ok(());
        }
        let names = facts.0.get(Facts::NAMES).cloned().unwrap_or_default();
        let names: BTreeMap<String, ArtifactName> = serde_json::from_value(names)
            .map_err(|error| damaged("do not say what its names stand for").caused_by(error))?;
        let mut real_names = BTreeSet::new();
        for artifact in &mut self.manifest.artifacts {
            if let Some(real) = names.get(&artifact.name.to_string()) {
                // age says nothing about who wrote this: a name may stand for another of its own kind, no more.
                let alike = real.source_kind() == artifact.name.source_kind()
                    && real.service() == artifact.name.service();
                if !alike {
                    return Err(damaged("give a name to what is something else"));
                }
                artifact.name = real.clone();
            }
            if !real_names.insert(artifact.name.clone()) {
                return Err(damaged("give one name twice"));
            }
        }
        self.names = names;
        Ok(())
    }

    /// What the engine said of the stack.
    ///
    /// # Errors
    /// As [`Backup::facts`].
    pub async fn stack_json(&self) -> Result<serde_json::Value> {
        self.read_json(STACK).await
    }

    /// How to restore it with stock tools.
    ///
    /// # Errors
    /// Damaged where it is not what was written.
    pub async fn restore_md(&self) -> Result<String> {
        let bytes = read_checked(&self.store, &self.folder, RECIPE, &self.sums).await?;
        String::from_utf8(bytes.to_vec()).map_err(|error| {
            Error::damaged(format!("{}/{RECIPE}: not text", self.folder)).caused_by(error)
        })
    }

    /// Reads an artifact's stored bytes, through all of its objects.
    pub fn read(&self, artifact: &Artifact) -> ArtifactStream {
        let reader = self.read_objects(artifact.objects.clone());
        ArtifactStream::new(reader, &artifact.encoding, &self.keys)
    }

    /// That the keys at hand open the facts and the beginning of each of `artifacts`.
    ///
    /// # Errors
    /// Key where they do not.
    pub async fn check_keys(&self, artifacts: &[Artifact]) -> Result<()> {
        if !self.is_encrypted() {
            return Ok(());
        }
        self.facts().await?;
        for artifact in artifacts {
            let (Some(Encoding::Age), Some(first)) =
                (artifact.encoding.last(), artifact.objects.first())
            else {
                continue;
            };
            let key = format!("{}/{}", self.folder, first.key);
            let beginning = self.store.range(&key, 0..first.size.min(HEADER)).await?;
            let Err(error) = self.keys.identities.check(&beginning) else {
                continue;
            };
            // They opened the facts: perhaps it is not the key that is wrong.
            let mut reader = self.read_objects(vec![first.clone()]);
            while reader.next().await?.is_some() {}
            return Err(error.while_doing(format!("cannot open {key}")));
        }
        Ok(())
    }

    /// Whether anything in it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.sums.get(FACTS).is_none()
    }

    /// Reads objects one after another.
    pub(super) fn read_objects(&self, objects: Vec<ObjectRef>) -> ArtifactReader {
        let lease = Arc::clone(&self.lease);
        ArtifactReader::new(self.store.clone(), &self.folder, objects, lease)
    }

    /// That the folder holds exactly the objects that were written, artifacts with their sizes.
    ///
    /// # Errors
    /// Damaged, naming the first object that is missing, not listed, or of another size.
    pub fn check_folder(&self) -> Result<()> {
        let report = Report {
            damaged: self.unlike.clone(),
            ..Report::default()
        };
        report.into_result()
    }

    /// Reads every object to its end and compares its digest. `progress` gets an object's key and
    /// how many bytes of it have been read since the last call.
    ///
    /// # Errors
    /// Where reading fails for another reason than damage: that is no verdict on the backup.
    pub async fn verify_objects(&self, mut progress: impl FnMut(&str, u64)) -> Result<Report> {
        let mut report = Report {
            damaged: self.unlike.clone(),
            ..Report::default()
        };
        for key in self.sums.keys() {
            if self.unlike.iter().any(|damage| damage.key == key) {
                continue;
            }
            let object = ObjectRef {
                key: key.to_owned(),
                size: self.sizes.get(key).copied().unwrap_or_default(),
                sha256: self.sums.get(key).unwrap_or_default().to_owned(),
            };
            let mut reader = self.read_objects(vec![object]);
            report.objects += 1;
            loop {
                match reader.next().await {
                    Ok(Some(bytes)) => {
                        report.bytes += bytes.len() as u64;
                        progress(key, bytes.len() as u64);
                    }
                    Ok(None) => break,
                    Err(error) if error.kind() == Kind::Damaged => {
                        report.damaged.push(Damage {
                            key: key.to_owned(),
                            reason: error.chain(),
                        });
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(report)
    }

    /// The key under which a fixed object stands, plain or encrypted.
    fn fixed(&self, key: &str) -> Result<String> {
        either(key)
            .into_iter()
            .find(|key| self.sums.get(key).is_some())
            .ok_or_else(|| Error::damaged(format!("{}/{key}: not listed in {SUMS}", self.folder)))
    }

    async fn read_json<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T> {
        let stored = self.fixed(key)?;
        let mut bytes = read_checked(&self.store, &self.folder, &stored, &self.sums).await?;
        if stored != key {
            let opened = self.keys.identities.decrypt(&bytes, SMALL);
            bytes = Bytes::from(opened.map_err(|error| {
                error.while_doing(format!("cannot open {}/{stored}", self.folder))
            })?);
        }
        let damaged = || Error::damaged(format!("{}/{key}: not readable as JSON", self.folder));
        let mut json = Vec::new();
        zstd::Decoder::new(&bytes[..])
            .and_then(|decoder| decoder.take(DECODED + 1).read_to_end(&mut json))
            .map_err(|error| damaged().caused_by(error))?;
        if json.len() as u64 > DECODED {
            return Err(damaged());
        }
        serde_json::from_slice(&json).map_err(|error| damaged().caused_by(error))
    }
}

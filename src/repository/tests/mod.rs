//! What can only be tested from inside: everything that commits a backup, since a
//! [`Proof`](crate::proof::Proof) cannot be had outside.

mod catalog;
mod damage;
mod faults;
mod forged;
mod place;
#[path = "../../../tests/support/proxy.rs"]
mod proxy;
mod removal;
mod stores;
mod writing;

use super::{Access, InitOutcome, Location, Repository, Upload};
use crate::error::Result;
use crate::manifest::{
    Artifact, BackupId, Commit, Consistency, Encoding, Facts, Manifest, ObjectRef, Sealed,
};
use crate::proof::Proof;
use crate::stack::ArtifactName;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A fixed moment: 2026-11-22 02:00:00 UTC.
fn moment() -> DateTime<Utc> {
    "2026-11-22T02:00:00Z".parse().unwrap()
}

/// The id of the `n`th second after [`moment`].
fn id(n: i64) -> BackupId {
    BackupId::new(moment() + chrono::TimeDelta::seconds(n), [0, 1, 2, 3])
}

/// A new repository that lives as long as its directory.
async fn repository() -> (TempDir, Repository) {
    let dir = tempfile::tempdir().unwrap();
    let location = Location::directory(dir.path().join("repo"));
    let made = init(&location, moment()).await.unwrap();
    assert!(matches!(made, InitOutcome::Created(_)));
    (dir, made.into_repository())
}

/// Opens a repository without any credentials.
async fn open(location: &Location) -> Result<Repository> {
    Repository::open(location, &Access::default()).await
}

/// Makes a repository without any credentials.
async fn init(location: &Location, now: DateTime<Utc>) -> Result<InitOutcome> {
    Repository::init(location, &Access::default(), now).await
}

/// The directory of a repository that is in one.
fn root(repository: &Repository) -> &Path {
    repository.location().path().unwrap()
}

fn name(text: &str) -> ArtifactName {
    text.parse().unwrap()
}

fn artifact(name: &ArtifactName, objects: Vec<ObjectRef>) -> Artifact {
    let stored = objects.iter().map(|object| object.size).sum();
    Artifact {
        name: name.clone(),
        source: name.source_kind(),
        container_id: "c0ffee".into(),
        image: "postgres:17".into(),
        image_digest: "postgres@sha256:00".into(),
        engine_version: "17.5".into(),
        media_type: "application/octet-stream".into(),
        encoding: vec![Encoding::Zstd],
        raw_size: stored,
        stored_size: stored,
        objects,
        started: moment(),
        finished: moment(),
        consistency: Consistency::Snapshot,
        method: None,
    }
}

fn manifest(stack: &str, id: &BackupId) -> Manifest {
    Manifest {
        format: 1,
        backup: id.clone(),
        stack: stack.into(),
        host: "host".into(),
        lifeboat_version: "0.1.0".into(),
        started: id.started(),
        finished: id.started(),
        trigger: "manual".into(),
        tags: BTreeMap::new(),
        complete: true,
        only: Vec::new(),
        reasons: Vec::new(),
        notes: Vec::new(),
        hidden_names: false,
        artifacts: Vec::new(),
    }
}

async fn land(mut upload: Upload, bytes: &[u8]) -> Result<Vec<ObjectRef>> {
    for chunk in bytes.chunks(70_000) {
        upload.write(Bytes::copy_from_slice(chunk)).await?;
    }
    upload.finish().await
}

fn seal(name: &ArtifactName, objects: Vec<ObjectRef>) -> Sealed {
    Sealed::new(&Proof::attest(0), artifact(name, objects)).unwrap()
}

/// Commits a backup of these artifacts.
async fn back_up(
    repository: &Repository,
    stack: &str,
    id: &BackupId,
    artifacts: &[(ArtifactName, &[u8])],
) -> Result<Commit> {
    let writer = repository
        .begin(stack, id)
        .await?
        .with_object_limit(100_000);
    let mut sealed = Vec::new();
    for (name, bytes) in artifacts {
        let upload = writer.upload(name, &[Encoding::Zstd])?;
        sealed.push(seal(name, land(upload, bytes).await?));
    }
    let facts = Facts(BTreeMap::from([("postgres/db".into(), json!({"rows": 3}))]));
    writer
        .commit(
            manifest(stack, id),
            sealed,
            &facts,
            &json!({"services": []}),
            "# Restore\n",
        )
        .await
}

/// Three artifacts, one of them in three objects.
fn three() -> Vec<(ArtifactName, &'static [u8])> {
    static LARGE: [u8; 250_000] = {
        let mut bytes = [0; 250_000];
        let mut at = 0;
        while at < bytes.len() {
            bytes[at] = (at % 251).to_le_bytes()[0];
            at += 1;
        }
        bytes
    };
    vec![
        (name("postgres/postgres/db/shop"), LARGE.as_slice()),
        (name("postgres/postgres/globals"), b"roles"),
        (name("volume/empty"), b""),
    ]
}

/// Opens and verifies the newest backup of a stack, as `verify` and `restore` do.
async fn verify(repository: &Repository, stack: &str) -> Result<()> {
    let entry = repository.resolve("latest", Some(stack)).await?;
    let backup = repository.open_backup(&entry).await?;
    backup.verify_objects(|_, _| {}).await?.into_result()
}

/// Every file below a directory, relative to it, sorted.
fn files(root: &Path) -> Vec<PathBuf> {
    fn walk(root: &Path, at: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

fn copy_tree(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(&file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(from.join(file), target).unwrap();
    }
}

fn python_reader(root: &Path) -> (i32, serde_json::Value) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/reader.py");
    let output = std::process::Command::new("python3")
        .args(["-I", "-S", script])
        .arg("verify")
        .arg(root)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let parsed = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), parsed)
}

/// A mount at a directory, taken away when the test ends, passed or failed.
struct Mount(PathBuf);

impl Mount {
    /// `None` where mounting is not permitted: such a test is skipped, and says so.
    fn new(at: &Path, arguments: &[&str]) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        let mounted = mount.args(arguments).arg(at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        println!("skipped: mounting takes root");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
        if !unmounted.is_ok_and(|status| status.success()) {
            println!("{} stays mounted", self.0.display());
        }
    }
}

//! Backups of any time that are valid to the last byte, made of a frozen one: retention is about hundreds of them.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const TEMPLATE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/format-1/shop/20261122T020100Z-abcd"
);

/// A backup that is about to be made.
pub(crate) struct Fabricated {
    pub(crate) stack: String,
    pub(crate) started: DateTime<Utc>,
    pub(crate) complete: bool,
    pub(crate) only: Vec<String>,
    pub(crate) tags: Value,
}

impl Fabricated {
    pub(crate) fn new(stack: &str, started: DateTime<Utc>) -> Self {
        Self {
            stack: stack.to_owned(),
            started,
            complete: true,
            only: Vec::new(),
            tags: json!({}),
        }
    }

    pub(crate) fn partial(mut self) -> Self {
        self.complete = false;
        self
    }

    pub(crate) fn only(mut self, artifact: &str) -> Self {
        self.only.push(artifact.to_owned());
        self
    }

    pub(crate) fn tagged(mut self, key: &str, value: &str) -> Self {
        self.tags[key] = json!(value);
        self
    }

    pub(crate) fn id(&self) -> String {
        format!("{}-abcd", self.started.format("%Y%m%dT%H%M%SZ"))
    }

    /// Writes it into the repository in this directory; its id.
    pub(crate) fn write(&self, repository: &Path) -> String {
        let commit = Self::commit(&self.write_folder(repository));
        let path = repository.join(&self.stack);
        fs::write(path.join(format!("{}.backup.json", self.id())), commit).unwrap();
        self.id()
    }

    /// Writes its commit alone, which is all that a listing looks at.
    pub(crate) fn write_commit(&self, repository: &Path) -> String {
        let text = fs::read_to_string(Path::new(TEMPLATE).join("manifest.json")).unwrap();
        let manifest = self.describe(serde_json::from_str(&text).unwrap());
        let path = repository.join(&self.stack);
        fs::create_dir_all(&path).unwrap();
        let commit = Self::commit(&(manifest, String::new()));
        fs::write(path.join(format!("{}.backup.json", self.id())), commit).unwrap();
        self.id()
    }

    fn describe(&self, mut manifest: Value) -> Value {
        manifest["backup"] = json!(self.id());
        manifest["stack"] = json!(self.stack);
        manifest["started"] = json!(self.started);
        manifest["finished"] = json!(self.started);
        manifest["complete"] = json!(self.complete);
        manifest["tags"] = self.tags.clone();
        if !self.only.is_empty() {
            manifest["only"] = json!(self.only);
        }
        manifest
    }

    /// Its folder, and the manifest in it.
    fn write_folder(&self, repository: &Path) -> (Value, String) {
        let folder = repository.join(&self.stack).join(self.id());
        for file in walk_files(Path::new(TEMPLATE)) {
            let target = folder.join(file.strip_prefix(TEMPLATE).unwrap());
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(file, target).unwrap();
        }
        let text = fs::read_to_string(folder.join("manifest.json")).unwrap();
        let manifest = self.describe(serde_json::from_str(&text).unwrap());
        let text = pretty(&manifest);
        fs::write(folder.join("manifest.json"), &text).unwrap();
        let sums = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
        let sums: String = sums
            .lines()
            .map(|line| match line.ends_with("  manifest.json") {
                true => format!("{}  manifest.json\n", digest(&text)),
                false => format!("{line}\n"),
            })
            .collect();
        fs::write(folder.join("SHA256SUMS"), &sums).unwrap();
        (manifest, sums)
    }

    fn commit((manifest, sums): &(Value, String)) -> String {
        let artifacts = manifest["artifacts"].as_array().unwrap();
        let total = |size: &str| -> u64 {
            let sizes = artifacts.iter().map(|artifact| artifact[size].as_u64());
            sizes.map(Option::unwrap).sum()
        };
        let names: Vec<&Value> = artifacts.iter().map(|artifact| &artifact["name"]).collect();
        let mut commit = json!({
            "sha256sums": digest(sums),
            "artifacts": names,
            "raw_size": total("raw_size"),
            "stored_size": total("stored_size"),
        });
        for key in [
            "format", "backup", "stack", "started", "finished", "trigger", "complete", "only",
        ] {
            if let Some(value) = manifest.get(key) {
                commit[key] = value.clone();
            }
        }
        pretty(&commit)
    }
}

/// Every file below a folder.
fn walk_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // A folder may vanish while it is looked at.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => found.extend(walk_files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// Makes every file below a folder, and every folder, as old as that.
pub(crate) fn age(path: &Path, by: Duration) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            age(&entry.unwrap().path(), by);
        }
    }
    let times = fs::FileTimes::new().set_modified(SystemTime::now() - by);
    fs::File::open(path).unwrap().set_times(times).unwrap();
}

/// Every file of a repository but its lock, by its key.
pub(crate) fn keys(repository: &Path) -> Vec<String> {
    let mut keys: Vec<String> = walk_files(repository)
        .iter()
        .map(|file: &PathBuf| file.strip_prefix(repository).unwrap().display().to_string())
        .filter(|key| key != "lifeboat-repository.lock")
        .collect();
    keys.sort();
    keys
}

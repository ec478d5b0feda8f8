//! Fresh places for repositories in every kind of store, and access beneath lifeboat to what stands there.

use crate::repository::bucket::Bucket;
use crate::repository::{Access, Location, Repository};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    S3,
    Azure,
    Gcs,
}

/// Azurite's account and key, which are the same everywhere and no secret.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// An empty place for a repository.
pub(super) struct Place {
    pub kind: Kind,
    pub location: Location,
    pub access: Access,
    /// Around lifeboat's way to the store: no proxy stands before it.
    raw: Raw,
}

enum Raw {
    Directory(
        PathBuf,
        #[expect(dead_code, reason = "removed when dropped")] TempDir,
    ),
    Bucket(Bucket),
}

/// Where a store of the lab is.
#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the lab's environment"
)]
pub(super) fn endpoint(kind: Kind) -> String {
    let variable = match kind {
        Kind::Directory => panic!("a directory has no endpoint"),
        Kind::S3 => "LIFEBOAT_LAB_S3",
        Kind::Azure => "LIFEBOAT_LAB_AZURE",
        Kind::Gcs => "LIFEBOAT_LAB_GCS",
    };
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: tests/lab/lab stores; eval \"$(tests/lab/lab env)\"")
    })
}

/// A size or a count: `usual` in a test run, `long` under `make soak`.
#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the environment"
)]
pub(super) fn soak(usual: u32, long: u32) -> u32 {
    match std::env::var_os("LIFEBOAT_SOAK") {
        Some(_) => long,
        None => usual,
    }
}

/// What a user would set to reach a store at `endpoint`.
fn access(kind: Kind, endpoint: &str) -> Access {
    let gcs = format!(
        r#"{{"gcs_base_url":"{endpoint}","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}}"#
    );
    let azure = format!("{endpoint}/{ACCOUNT}");
    let variables: Vec<(&str, &str)> = match kind {
        Kind::Directory => Vec::new(),
        Kind::S3 => vec![
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ],
        Kind::Azure => vec![
            ("AZURE_STORAGE_ACCOUNT", ACCOUNT),
            ("AZURE_STORAGE_KEY", KEY),
            ("AZURE_STORAGE_ENDPOINT", &azure),
        ],
        Kind::Gcs => vec![("GOOGLE_SERVICE_ACCOUNT_KEY", &gcs)],
    };
    let variables = variables.into_iter().map(|(k, v)| (k.into(), v.into()));
    Access::from_environment(variables, |_, _| unreachable!()).unwrap()
}

impl Place {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Directory => {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("repo");
                Self {
                    kind,
                    location: Location::directory(&path),
                    access: Access::default(),
                    raw: Raw::Directory(path, dir),
                }
            }
            _ => Self::behind(kind, &endpoint(kind)),
        }
    }

    /// A place in a bucket that lifeboat reaches at `endpoint`: a proxy's.
    pub(super) fn behind(kind: Kind, at: &str) -> Self {
        let scheme = match kind {
            Kind::S3 => "s3",
            Kind::Azure => "az",
            _ => "gs",
        };
        let prefix = super::super::open::random_hex().unwrap();
        let location = format!("{scheme}://lifeboat-tests/{prefix}")
            .parse()
            .unwrap();
        let Location::Bucket(address) = &location else {
            panic!("a bucket");
        };
        let raw = Bucket::new(address, &access(kind, &endpoint(kind))).unwrap();
        Self {
            kind,
            raw: Raw::Bucket(raw),
            access: access(kind, at).with_limits(
                Some(Duration::from_secs(5)),
                Some(Duration::from_secs(15)),
                std::env::temp_dir().join(format!("lifeboat-cache-{prefix}")),
            ),
            location,
        }
    }

    pub(super) async fn init(&self) -> Repository {
        let made = Repository::init(&self.location, &self.access, super::moment()).await;
        made.unwrap().into_repository()
    }

    pub(super) async fn open(&self) -> Repository {
        Repository::open(&self.location, &self.access)
            .await
            .unwrap()
    }

    /// The same with requests that are given up soon, and sent again for long.
    pub(super) fn patient_with_stalls(mut self) -> Self {
        let cache = self.access.cache.clone().unwrap();
        let (timeout, patience) = (Duration::from_secs(2), Duration::from_secs(15));
        self.access = self
            .access
            .with_limits(Some(timeout), Some(patience), cache);
        self
    }

    /// The same with a store that is given up soon.
    pub(super) fn hasty(mut self) -> Self {
        let cache = self.access.cache.clone().unwrap();
        let (timeout, patience) = (Duration::from_secs(1), Duration::from_secs(2));
        self.access = self
            .access
            .with_limits(Some(timeout), Some(patience), cache);
        self
    }

    /// Every key but the locks', sorted.
    pub(super) async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = match &self.raw {
            Raw::Directory(path, _) => super::files(path)
                .into_iter()
                .map(|file| file.to_str().unwrap().to_owned())
                .collect(),
            Raw::Bucket(bucket) => {
                let found = bucket.tree("").await.unwrap();
                found.into_iter().map(|found| found.key).collect()
            }
        };
        keys.retain(|key| !key.starts_with("lifeboat-repository.lock"));
        keys.sort();
        keys
    }

    pub(super) async fn read(&self, key: &str) -> Vec<u8> {
        match &self.raw {
            Raw::Directory(path, _) => fs::read(path.join(key)).unwrap(),
            Raw::Bucket(bucket) => bucket.get(key).await.unwrap().unwrap().to_vec(),
        }
    }

    /// Writes a key whatever stands there.
    pub(super) async fn write(&self, key: &str, bytes: &[u8]) {
        match &self.raw {
            Raw::Directory(path, _) => {
                let file = path.join(key);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, bytes).unwrap();
            }
            Raw::Bucket(bucket) => bucket.put_over(key, bytes).await.unwrap(),
        }
    }

    pub(super) async fn remove(&self, key: &str) {
        match &self.raw {
            Raw::Directory(path, _) => fs::remove_file(path.join(key)).unwrap(),
            Raw::Bucket(bucket) => {
                bucket.remove(key).await.unwrap();
            }
        }
    }

    /// Leaves the store as it was before.
    pub(super) async fn clean(self) {
        self.access.close().await;
        if let Raw::Bucket(bucket) = &self.raw {
            for found in bucket.tree("").await.unwrap() {
                bucket.remove(&found.key).await.unwrap();
            }
            if let Some(cache) = &self.access.cache {
                let _ = fs::remove_dir_all(cache);
            }
        }
    }
}

//! How keys are named (docs/format.md, "Keys"): pure functions, no input or output.

use crate::error::{Error, Result};
use crate::manifest::{BackupId, Encoding};
use crate::stack::{ArtifactName, decode, encode};
use chrono::{DateTime, NaiveDateTime, Utc};
use std::fmt::Write;

/// The object that makes a directory a repository.
pub const MARKER: &str = "lifeboat-repository.json";
/// The file whose lock keeps pruning away from writers and readers. Not part of the format.
pub(super) const LOCK: &str = "lifeboat-repository.lock";
/// What the names of probes start with. Not part of the format.
pub(super) const PROBE: &str = "lifeboat-probe-";

/// The folder of a bucket's holds: who uses the repository right now. Not part of the format.
pub(super) const HOLDS: &str = "lifeboat-repository.locks";
/// The folder of a bucket's records of uploads in parts that are under way. Not part of the format.
pub(super) const ORPHANS: &str = "lifeboat-repository.uploads";

/// What a backup holds besides its artifacts.
pub(super) const FACTS: &str = "facts.json.zst";
/// What the engine said of the stack.
pub(super) const STACK: &str = "stack.json.zst";
/// What the backup holds.
pub(super) const MANIFEST: &str = "manifest.json";
/// How to restore it with stock tools.
pub(super) const RECIPE: &str = "RESTORE.md";
/// The digests of all other objects.
pub(super) const SUMS: &str = "SHA256SUMS";
/// A signature over [`SUMS`]; not written by this version, tolerated beside it.
pub(super) const SIGNATURE: &str = "SHA256SUMS.minisig";
/// What is added to the keys of encrypted objects.
const ENCRYPTED: &str = ".age";

/// The longest key that every store takes, in bytes.
const LONGEST_KEY: usize = 1024;
/// How the time stands in the key of a proof.
const PROOF_TIME: &str = "%Y%m%dT%H%M%SZ";

/// The folder of a stack.
pub(super) fn stack_folder(stack: &str) -> String {
    encode(stack)
}

/// The folder of a backup.
pub(super) fn backup_folder(stack: &str, id: &BackupId) -> String {
    format!("{}/{id}", encode(stack))
}

/// The commit of a backup.
pub(super) fn commit_key(stack: &str, id: &BackupId) -> String {
    format!("{}/{id}.backup.json", encode(stack))
}

/// The pin of a backup.
pub(super) fn pin_key(stack: &str, id: &BackupId) -> String {
    format!("{}/{id}.pin.json", encode(stack))
}

/// The proof that a backup restored at `time`.
pub(super) fn proof_key(stack: &str, id: &BackupId, time: DateTime<Utc>) -> String {
    let time = time.format(PROOF_TIME);
    format!("{}/{id}.proof-{time}.json", encode(stack))
}

/// What a file in a stack's folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Beside {
    /// `<id>.backup.json`.
    Commit(BackupId),
    /// `<id>.pin.json`.
    Pin(BackupId),
    /// `<id>.proof-<time>.json`.
    Proof(BackupId, DateTime<Utc>),
}

impl Beside {
    /// Reads a file's name; `None` for a name that this format does not know.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (id, rest) = name.split_once('.')?;
        let id: BackupId = id.parse().ok()?;
        match rest {
            "backup.json" => Some(Self::Commit(id)),
            "pin.json" => Some(Self::Pin(id)),
            _ => {
                let time = rest.strip_prefix("proof-")?.strip_suffix(".json")?;
                let time = NaiveDateTime::parse_from_str(time, PROOF_TIME).ok()?;
                Some(Self::Proof(id, time.and_utc()))
            }
        }
    }

    /// The backup that it belongs to.
    pub(super) fn id(&self) -> &BackupId {
        match self {
            Self::Commit(id) | Self::Pin(id) | Self::Proof(id, _) => id,
        }
    }
}

/// The key of the object `index` of an artifact, relative to its backup's folder.
///
/// Unambiguous: the first object's key ends in what the stream is, later ones in digits.
pub fn object_key(name: &ArtifactName, encodings: &[Encoding], index: usize) -> String {
    let mut key = name.to_string();
    key.push_str(match name {
        ArtifactName::Database { .. } => ".dump",
        ArtifactName::Globals { .. } => ".sql",
        ArtifactName::Redis { .. } => ".rdb",
        ArtifactName::Volume { .. } | ArtifactName::Bind { .. } | ArtifactName::Files => ".tar",
    });
    for encoding in encodings {
        key.push_str(match encoding {
            Encoding::Zstd => ".zst",
            Encoding::Age => ENCRYPTED,
        });
    }
    if index > 0 {
        // Writing to a string cannot fail.
        let _ = write!(key, ".{index:04}");
    }
    key
}

/// Whether `key` may name an object of a backup's folder: relative, of plain segments, short.
///
/// # Errors
/// [`Kind::Damaged`](crate::error::Kind::Damaged) with the key, its control characters escaped.
pub(super) fn check_key(folder: &str, key: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-%".contains(&byte);
    let reason = if folder.len() + 1 + key.len() > LONGEST_KEY {
        "is too long"
    } else if key
        .split('/')
        .any(|segment| segment.is_empty() || segment.starts_with(['.', '-']))
    {
        "has an empty or hidden segment, or is not relative"
    } else if !key.bytes().all(|byte| byte == b'/' || plain(byte)) {
        "holds characters that no key holds"
    } else {
        return Ok(());
    };
    // Never the whole of a key that may be megabytes long.
    let shown: String = key.chars().take(80).collect();
    Err(Error::damaged(format!(
        "{folder}: the key {shown:?} {reason}"
    )))
}

/// The plain and the encrypted form of a key.
pub(super) fn either(key: &str) -> [String; 2] {
    [key.to_owned(), format!("{key}{ENCRYPTED}")]
}

/// Whether `key` is one of the objects that a backup holds besides its artifacts and [`SUMS`].
pub(super) fn is_fixed(key: &str) -> bool {
    let plain = key.strip_suffix(ENCRYPTED);
    [FACTS, STACK, MANIFEST, RECIPE].contains(&key)
        || plain.is_some_and(|plain| [FACTS, STACK].contains(&plain))
}

/// The stack whose folder is called `name`; `None` for a name that no stack's folder has.
pub(super) fn stack_of_folder(name: &str) -> Option<String> {
    decode(name)
}

/// Whether a file of this name is one that is still being written, or was when its writer died.
/// The same rule as `object_store`'s: a `#` and digits at the end.
pub(super) fn is_staging(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, digits)| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, encodings: &[Encoding], index: usize) -> String {
        object_key(&name.parse().unwrap(), encodings, index)
    }

    #[test]
    fn keys_derive_from_names() {
        use Encoding::{Age, Zstd};
        assert_eq!(
            key("postgres/s/db/a%2Fb", &[Zstd], 0),
            "postgres/s/db/a%2Fb.dump.zst"
        );
        assert_eq!(
            key("postgres/s/globals", &[Zstd, Age], 0),
            "postgres/s/globals.sql.zst.age"
        );
        assert_eq!(key("redis/cache", &[Zstd], 1), "redis/cache.rdb.zst.0001");
        assert_eq!(key("volume/v", &[], 12345), "volume/v.tar.12345");
        assert_eq!(key("files", &[Zstd, Age], 0), "files.tar.zst.age");
    }

    #[test]
    fn keys_that_leave_the_folder_or_hide_are_refused() {
        let long = "x".repeat(1025);
        for bad in [
            "",
            "/etc/passwd",
            "a//b",
            "../x",
            "a/../x",
            "a/..",
            ".",
            "a/.hidden",
            "-rf",
            "a/-b",
            "a\nb",
            "a\0b",
            "a b",
            "a\\b",
            "é",
            "x#1",
            long.as_str(),
        ] {
            assert!(check_key("s/id", bad).is_err(), "{bad:?} was taken");
        }
        for good in [
            "manifest.json",
            "postgres/s/db/%2E%2E.dump.zst",
            "volume/a..b.tar.zst",
        ] {
            check_key("s/id", good).unwrap();
        }
    }

    #[test]
    fn files_beside_the_folders_are_told_apart() {
        let id: BackupId = "20261122T020000Z-k3f9".parse().unwrap();
        let time = id.started();
        for (made, expected) in [
            (commit_key("s", &id), Beside::Commit(id.clone())),
            (pin_key("s", &id), Beside::Pin(id.clone())),
            (proof_key("s", &id, time), Beside::Proof(id.clone(), time)),
        ] {
            let name = made.strip_prefix("s/").unwrap();
            assert_eq!(Beside::parse(name), Some(expected));
        }
        for other in [
            "x.backup.json",
            "20261122T020000Z-k3f9.backup.json#1",
            "notes.txt",
        ] {
            assert_eq!(Beside::parse(other), None);
        }
    }
}

//! What must hold between a manifest and the keys, digests and sizes around it: pure functions.

use super::backup::Damage;
use super::layout::{SIGNATURE, SUMS, check_key, is_fixed, object_key};
use super::sums::{Sums, is_digest};
use crate::error::{Error, Result};
use crate::manifest::{Artifact, Commit, FORMAT, Manifest};
use std::collections::{BTreeMap, BTreeSet};

/// That every artifact's objects have the keys that derive from its name, and add up.
///
/// # Errors
/// Damaged, naming the artifact or the key.
pub(super) fn check_artifacts(folder: &str, artifacts: &[Artifact]) -> Result<()> {
    let mut names = BTreeSet::new();
    for artifact in artifacts {
        let name = &artifact.name;
        let wrong = |what: &str| Err(Error::damaged(format!("{folder}: {name} {what}")));
        if !names.insert(name) {
            return wrong("stands in the manifest twice");
        }
        if artifact.source != name.source_kind() {
            return wrong("is said to come from another kind of source");
        }
        if artifact.objects.is_empty() {
            return wrong("has no object");
        }
        let mut total = Some(0_u64);
        for (index, object) in artifact.objects.iter().enumerate() {
            check_key(folder, &object.key)?;
            if object.key != object_key(name, &artifact.encoding, index) {
                return wrong(&format!("does not have the key {}", object.key));
            }
            if !is_digest(&object.sha256) {
                return wrong("has a digest that is none");
            }
            total = total.and_then(|total| total.checked_add(object.size));
        }
        if total != Some(artifact.stored_size) {
            return wrong("has objects that do not add up to its size");
        }
    }
    Ok(())
}

/// That a manifest is the one of this backup and says what the commit says.
///
/// # Errors
/// Damaged, naming `manifest.json` or the commit.
pub(super) fn check_manifest(folder: &str, manifest: &Manifest, commit: &Commit) -> Result<()> {
    if (&manifest.backup, &manifest.stack) != (&commit.backup, &commit.stack) {
        return Err(Error::damaged(format!(
            "{folder}/manifest.json is that of another backup"
        )));
    }
    if manifest.format == 0 || manifest.format > FORMAT {
        return Err(Error::damaged(format!(
            "{folder}/manifest.json has format {}, which its repository does not have",
            manifest.format
        )));
    }
    check_artifacts(folder, &manifest.artifacts)?;
    if *commit != Commit::of(manifest, commit.sha256sums.clone()) {
        return Err(Error::damaged(format!(
            "{folder}.backup.json does not say what the manifest says"
        )));
    }
    Ok(())
}

/// That manifest and `SHA256SUMS` speak of the same objects with the same digests.
///
/// # Errors
/// Damaged, naming the first object that one of them lacks.
pub(super) fn check_sums(folder: &str, manifest: &Manifest, sums: &Sums) -> Result<()> {
    let mut left: BTreeSet<&str> = sums.keys().filter(|key| !is_fixed(key)).collect();
    for object in manifest.artifacts.iter().flat_map(|a| &a.objects) {
        if sums.get(&object.key) != Some(&object.sha256) {
            return Err(Error::damaged(format!(
                "{folder}/{}: its digest in the manifest is not the one in {SUMS}",
                object.key
            )));
        }
        left.remove(object.key.as_str());
    }
    match left.first() {
        None => Ok(()),
        Some(key) => Err(Error::damaged(format!(
            "{folder}/{key} is not in the manifest"
        ))),
    }
}

/// How the folder's objects differ from the listed ones: missing, not listed, or of another size.
pub(super) fn check_listing(
    folder: &str,
    manifest: &Manifest,
    sums: &Sums,
    sizes: &BTreeMap<String, u64>,
) -> Vec<Damage> {
    let damage = |key: &str, what: &str| Damage {
        key: key.to_owned(),
        reason: format!("{folder}/{key}: {what}"),
    };
    let missing = sums.keys().filter(|key| !sizes.contains_key(*key));
    let mut found: Vec<Damage> = missing.map(|key| damage(key, "missing")).collect();
    let listed = |key: &str| sums.get(key).is_some() || [SUMS, SIGNATURE].contains(&key);
    let more = sizes.keys().filter(|key| !listed(key));
    found.extend(more.map(|key| damage(key, &format!("not listed in {SUMS}"))));
    for object in manifest.artifacts.iter().flat_map(|a| &a.objects) {
        match sizes.get(&object.key) {
            Some(size) if *size != object.size => found.push(damage(
                &object.key,
                &format!("{size} bytes, and {} were written", object.size),
            )),
            _ => {}
        }
    }
    found
}

//! A backup that was tampered with by somebody who knows how: every digest and size agrees.

use super::server::Place;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Puts artifacts of the backup `from` into the backup `to`, whose facts stay as they are, and makes every digest
/// and size agree: only a restore tells, and a signature.
pub(crate) fn doctor(place: &Place, stack: &str, to: &str, from: &str) {
    let stack = place.repository.join(stack);
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let commit_path = stack.join(format!("{to}.backup.json"));
    let (to, from) = (stack.join(to), stack.join(from));
    let mut manifest = read(&to.join("manifest.json"));
    let other = read(&from.join("manifest.json"));
    for (index, artifact) in other["artifacts"].as_array().unwrap().iter().enumerate() {
        for object in artifact["objects"].as_array().unwrap() {
            let key = object["key"].as_str().unwrap();
            fs::copy(from.join(key), to.join(key)).unwrap();
        }
        manifest["artifacts"][index] = artifact.clone();
    }
    fs::write(to.join("manifest.json"), manifest.to_string()).unwrap();
    let script = "LC_ALL=C; export LC_ALL; find . -type f ! -name 'SHA256SUMS*' -printf '%P\\n' | sort | xargs sha256sum >s; \
                  mv s SHA256SUMS; sed -i '/  s$/d' SHA256SUMS; sha256sum SHA256SUMS | cut -d' ' -f1";
    let summed = Command::new("sh")
        .args(["-ec", script])
        .current_dir(&to)
        .output()
        .unwrap();
    let mut commit = read(&commit_path);
    commit["sha256sums"] = String::from_utf8(summed.stdout).unwrap().trim().into();
    for size in ["raw_size", "stored_size"] {
        let artifacts = manifest["artifacts"].as_array().unwrap().iter();
        let sum: u64 = artifacts
            .map(|artifact| artifact[size].as_u64().unwrap())
            .sum();
        commit[size] = sum.into();
    }
    fs::write(commit_path, format!("{commit}\n")).unwrap();
}

/// Signs a backup anew with minisign, as lifeboat would; `key` is a file in the place's folder.
pub(crate) fn sign(place: &Place, stack: &str, id: &str, key: &str) {
    let signed = Command::new("minisign")
        .args(["-S", "-W", "-m", "SHA256SUMS", "-x", "SHA256SUMS.minisig"])
        .args(["-t", &format!("lifeboat backup {id} of {stack}"), "-s"])
        .arg(place.folder.path().join(key))
        .current_dir(place.repository.join(stack).join(id))
        .output()
        .unwrap();
    assert!(signed.status.success(), "{signed:?}");
}

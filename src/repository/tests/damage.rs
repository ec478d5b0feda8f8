//! What was done to a backup after it was written: every kind of damage to every object.

use super::*;
use crate::error::Kind;
use std::path::Path;

const CHANGES: [&str; 7] = [
    "delete",
    "truncate",
    "empty",
    "flip first",
    "flip last",
    "swap",
    "append",
];

/// Damages `file`; `false` where that leaves the file as it is.
fn damage(change: &str, file: &Path, other: &Path) -> bool {
    let mut bytes = fs::read(file).unwrap();
    match change {
        "delete" => {
            fs::remove_file(file).unwrap();
            return true;
        }
        "truncate" | "empty" | "flip first" | "flip last" if bytes.is_empty() => return false,
        "truncate" => {
            bytes.pop();
        }
        "empty" => bytes.clear(),
        "flip first" => bytes[0] ^= 1,
        "flip last" => {
            let last = bytes.len() - 1;
            bytes[last] ^= 0x80;
        }
        "swap" => {
            let theirs = fs::read(other).unwrap();
            fs::write(other, &bytes).unwrap();
            bytes = theirs;
        }
        "append" => bytes.push(b'x'),
        _ => panic!("{change} is unknown"),
    }
    fs::write(file, bytes).unwrap();
    true
}

#[tokio::test]
async fn every_damage_to_every_object_is_found_and_named() {
    let (_dir, good) = repository().await;
    let artifacts = three();
    back_up(&good, "shop", &id(0), &artifacts).await.unwrap();
    let objects: Vec<PathBuf> = files(root(&good))
        .into_iter()
        .filter(|file| file.starts_with("shop"))
        .collect();
    assert_eq!(objects.len(), 11);
    let mut cells = 0;
    for (index, object) in objects.iter().enumerate() {
        for change in CHANGES {
            let copy = tempfile::tempdir().unwrap();
            copy_tree(root(&good), copy.path());
            let other = &objects[(index + 1) % objects.len()];
            if !damage(change, &copy.path().join(object), &copy.path().join(other)) {
                continue;
            }
            cells += 1;
            let cell = format!("{change} {}", object.display());
            let repository = open(&Location::directory(copy.path())).await.unwrap();
            let outcome = verify(&repository, "shop").await;
            let (python, report) = python_reader(copy.path());
            let is_commit = object.to_string_lossy().ends_with(".backup.json");
            if is_commit && change == "delete" {
                // Without its commit the backup does not exist.
                assert_eq!(outcome.unwrap_err().kind(), Kind::NotFound, "{cell}");
                assert_eq!(report["backups"], json!([]), "{cell}");
                continue;
            }
            let error = outcome.expect_err(&cell);
            assert_eq!(error.kind(), Kind::Damaged, "{cell}: {}", error.chain());
            let said = error.chain();
            let named = [object, other]
                .iter()
                .filter(|file| change == "swap" || **file == object)
                .any(|file| said.contains(file.file_name().unwrap().to_str().unwrap()));
            assert!(named, "{cell} is called {said}");
            assert_eq!(python, 13, "{cell}: the second reader says {report}");
        }
    }
    assert_eq!(
        cells,
        11 * CHANGES.len() - 4,
        "the empty object has nothing to lose"
    );
}

/// No digest covers the commit: the manifest, whose digest it holds, has to say the same.
#[tokio::test]
async fn every_bit_of_the_commit_counts() {
    let (_dir, repository) = repository().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    let path = root(&repository).join(format!("shop/{}.backup.json", id(0)));
    let good = fs::read(&path).unwrap();
    let commit: Commit = serde_json::from_slice(&good).unwrap();
    let mut alike = 0;
    for position in 0..good.len() {
        for bit in [0, 1, 2, 5] {
            let mut bad = good.clone();
            bad[position] ^= 1 << bit;
            // `2026-11-22t02:00:00z` is the same moment.
            if serde_json::from_slice::<Commit>(&bad).is_ok_and(|same| same == commit) {
                alike += 1;
                continue;
            }
            fs::write(&path, &bad).unwrap();
            let error = verify(&repository, "shop").await;
            let error = error.expect_err(&String::from_utf8_lossy(&bad));
            assert_eq!(error.kind(), Kind::Damaged);
        }
    }
    assert_eq!(alike, 4, "the T and Z of two times");
    fs::write(&path, &good).unwrap();
    verify(&repository, "shop").await.unwrap();
}

#[tokio::test]
async fn an_object_too_many_is_damage() {
    let (_dir, repository) = repository().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    let folder = root(&repository).join(format!("shop/{}", id(0)));
    for extra in [
        "extra",
        "postgres/postgres/db/more.dump.zst",
        "manifest.json#1",
    ] {
        fs::write(folder.join(extra), "x").unwrap();
        let error = verify(&repository, "shop").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged);
        assert!(error.to_string().contains(extra), "{error}");
        assert_eq!(python_reader(root(&repository)).0, 13, "{extra}");
        fs::remove_file(folder.join(extra)).unwrap();
    }
    fs::write(folder.join("SHA256SUMS.minisig"), "untrusted comment").unwrap();
    verify(&repository, "shop").await.unwrap();
    assert_eq!(python_reader(root(&repository)).0, 0);
}

#[tokio::test]
async fn links_are_never_followed() {
    let (dir, repository) = repository().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    let root = root(&repository);
    let outside = dir.path().join("outside");
    for victim in [
        format!("shop/{}/manifest.json", id(0)),
        format!("shop/{}/volume", id(0)),
        format!("shop/{}", id(0)),
        format!("shop/{}.backup.json", id(0)),
    ] {
        let path = root.join(&victim);
        fs::rename(&path, &outside).unwrap();
        std::os::unix::fs::symlink(&outside, &path).unwrap();
        let error = verify(&repository, "shop").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{victim}");
        assert!(
            error.chain().contains("link"),
            "{victim}: {}",
            error.chain()
        );
        assert_eq!(python_reader(root).0, 13, "{victim}");
        fs::remove_file(&path).unwrap();
        fs::rename(&outside, &path).unwrap();
    }
    verify(&repository, "shop").await.unwrap();
    let marker = root.join(crate::repository::MARKER);
    fs::rename(&marker, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &marker).unwrap();
    let error = open(repository.location()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
}

/// A file that is cut while it is read, or before: an error, never an endless stream.
#[tokio::test]
async fn a_file_cut_after_the_check_ends_in_an_error() {
    let (_dir, repository) = repository().await;
    let large = vec![9; 20 << 20];
    let writer = repository.begin("shop", &id(0)).await.unwrap();
    let v = name("volume/v");
    let upload = writer.upload(&v, &[Encoding::Zstd]).unwrap();
    let sealed = vec![seal(&v, land(upload, &large).await.unwrap())];
    let facts = Facts::default();
    writer
        .commit(manifest("shop", &id(0)), sealed, &facts, &json!({}), "")
        .await
        .unwrap();
    let entry = repository.resolve("latest", None).await.unwrap();
    let backup = repository.open_backup(&entry).await.unwrap();
    let mut reader = backup.read(&backup.manifest().artifacts[0]);
    assert!(reader.next().await.unwrap().is_some());
    let path = root(&repository).join(format!("shop/{}/volume/v.tar.zst", id(0)));
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(9 << 20)
        .unwrap();
    let mut chunks = 1;
    let error = loop {
        match reader.next().await {
            Ok(Some(_)) => chunks += 1,
            Ok(None) => panic!("a cut file was read to its end"),
            Err(error) => break error,
        }
        assert!(chunks < 30);
    };
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.to_string().contains("volume/v.tar.zst"));
}

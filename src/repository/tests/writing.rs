//! Making repositories and writing backups.

use super::*;
use crate::error::Kind;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[tokio::test]
async fn a_backup_comes_back_byte_by_byte() {
    let (_dir, repository) = repository().await;
    let commit = back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    assert_eq!(commit.stored_size, 250_005);
    let entry = repository.resolve("latest", None).await.unwrap();
    assert_eq!(entry.commit.as_ref(), Some(&commit));
    let backup = repository.open_backup(&entry).await.unwrap();
    assert_eq!(backup.manifest().artifacts.len(), 3);
    let objects: Vec<usize> = backup
        .manifest()
        .artifacts
        .iter()
        .map(|artifact| artifact.objects.len())
        .collect();
    assert_eq!(objects, [3, 1, 1], "250,000 bytes at 100,000 an object");
    for (artifact, (name, expected)) in backup.manifest().artifacts.iter().zip(three()) {
        assert_eq!(artifact.name, name);
        let mut reader = backup.read(artifact);
        let mut read = Vec::new();
        while let Some(chunk) = reader.next().await.unwrap() {
            read.extend_from_slice(&chunk);
        }
        assert!(read == expected, "{name} differs");
    }
    assert_eq!(
        backup.facts().await.unwrap().0["postgres/db"],
        json!({"rows": 3})
    );
    assert_eq!(backup.stack_json().await.unwrap(), json!({"services": []}));
    assert_eq!(backup.restore_md().await.unwrap(), "# Restore\n");
    let mut seen = 0;
    let report = backup
        .verify_objects(|_, bytes| seen += bytes)
        .await
        .unwrap();
    assert_eq!((report.objects, seen), (9, report.bytes));
    assert!(report.damaged.is_empty());
}

#[tokio::test]
async fn stock_tools_agree() {
    let (_dir, repository) = repository().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    let folder = root(&repository).join(format!("shop/{}", id(0)));
    let check = Command::new("sha256sum")
        .args(["-c", "--strict", "SHA256SUMS"])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
    assert_eq!(
        String::from_utf8_lossy(&check.stdout)
            .matches(": OK")
            .count(),
        9
    );
    let facts = Command::new("zstd")
        .arg("-dc")
        .arg(folder.join("facts.json.zst"))
        .output();
    assert!(String::from_utf8_lossy(&facts.unwrap().stdout).contains("\"rows\": 3"));
}

/// Nobody but the owner reads a backup.
#[tokio::test]
async fn only_the_owner_may_read() {
    let (dir, repository) = repository().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    let entry = repository.resolve("latest", None).await.unwrap();
    repository.pin(&entry, "why", moment()).await.unwrap();
    let root = root(&repository);
    for file in files(dir.path()) {
        let mode = fs::metadata(dir.path().join(&file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    for folder in ["", "shop", &format!("shop/{}/postgres/postgres/db", id(0))] {
        let mode = fs::metadata(root.join(folder))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
}

#[tokio::test]
async fn hostile_names_round_trip() {
    let (dir, repository) = repository().await;
    let long = "é".repeat(31) + "x";
    let names = [
        "100%",
        "%2e%2e",
        "\"quoted'\"",
        "new\nline",
        "a/b",
        "../../etc",
        ".hidden",
        "-rf",
        "..",
        &long,
        "💾",
        "a b",
        "x#1",
        "\\",
        "\u{7f}",
    ];
    let stacks = ["shop", "-rf", ".git", "a/b", "50%"];
    for stack in stacks {
        let artifacts: Vec<(ArtifactName, &[u8])> = names
            .iter()
            .map(|database| {
                let name = ArtifactName::Database {
                    service: "db".into(),
                    database: (*database).to_owned(),
                };
                (name, database.as_bytes())
            })
            .collect();
        back_up(&repository, stack, &id(0), &artifacts)
            .await
            .unwrap();
        verify(&repository, stack).await.unwrap();
        let entry = repository.resolve("latest", Some(stack)).await.unwrap();
        let backup = repository.open_backup(&entry).await.unwrap();
        for artifact in &backup.manifest().artifacts {
            let ArtifactName::Database { database, .. } = &artifact.name else {
                panic!("{} is no database", artifact.name);
            };
            let chunk = backup.read(artifact).next().await.unwrap().unwrap();
            assert_eq!(chunk, database.as_bytes());
        }
    }
    let mut sorted = stacks.map(str::to_owned).to_vec();
    sorted.sort();
    assert_eq!(repository.stacks().await.unwrap(), sorted);
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "something left the repository"
    );
    assert_eq!(python_reader(root(&repository)).0, 0);
}

#[tokio::test]
async fn several_uploads_run_at_once() {
    let (_dir, repository) = repository().await;
    let writer = repository.begin("shop", &id(0)).await.unwrap();
    let names: Vec<_> = (0..20).map(|n| name(&format!("volume/v{n}"))).collect();
    let uploads = names.iter().map(|name| {
        let upload = writer.upload(name, &[Encoding::Zstd]).unwrap();
        async move { seal(name, land(upload, &vec![1; 3_000_000]).await.unwrap()) }
    });
    let sealed = futures_util::future::join_all(uploads).await;
    let facts = Facts::default();
    writer
        .commit(manifest("shop", &id(0)), sealed, &facts, &json!({}), "")
        .await
        .unwrap();
    verify(&repository, "shop").await.unwrap();
}

#[tokio::test]
async fn an_upload_that_ends_early_leaves_nothing() {
    let (_dir, repository) = repository().await;
    let writer = repository
        .begin("shop", &id(0))
        .await
        .unwrap()
        .with_object_limit(1 << 20);
    let root = root(&repository).to_owned();
    let before = files(&root);
    for dropped in [false, true] {
        let mut upload = writer.upload(&name("volume/v"), &[]).unwrap();
        upload.write(Bytes::from(vec![1; 3 << 20])).await.unwrap();
        if dropped {
            while files(&root) == before {
                tokio::task::yield_now().await;
            }
            drop(upload);
            while files(&root) != before {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        } else {
            upload.abort().await;
        }
        assert_eq!(files(&root), before);
    }
    // The name is free again.
    land(writer.upload(&name("volume/v"), &[]).unwrap(), b"x")
        .await
        .unwrap();
    let twice = land(writer.upload(&name("volume/v"), &[]).unwrap(), b"y").await;
    assert!(twice.unwrap_err().to_string().contains("written twice"));
    writer.abandon().await.unwrap();
    assert!(!root.join("shop").exists());
}

#[tokio::test]
async fn only_what_is_sealed_is_committed() {
    let (_dir, repository) = repository().await;
    for case in ["unsealed", "unlanded", "unfinished", "twice", "other id"] {
        let writer = repository.begin("shop", &id(0)).await.unwrap();
        let v = name("volume/v");
        let objects = land(writer.upload(&v, &[Encoding::Zstd]).unwrap(), b"x")
            .await
            .unwrap();
        let mut sealed = vec![seal(&v, objects.clone())];
        let mut described = manifest("shop", &id(0));
        let mut open = None;
        match case {
            "unsealed" => sealed.clear(),
            "unlanded" => {
                let mut objects = objects;
                objects[0].size += 1;
                sealed = vec![seal(&v, objects)];
            }
            "unfinished" => {
                let mut upload = writer.upload(&name("volume/w"), &[]).unwrap();
                upload.write(Bytes::from(vec![0; 2 << 20])).await.unwrap();
                while !files(root(&repository))
                    .iter()
                    .any(|file| file.to_string_lossy().contains("#1"))
                {
                    tokio::task::yield_now().await;
                }
                open = Some(upload);
            }
            "twice" => sealed.push(sealed[0].clone()),
            _ => described.backup = id(1),
        }
        let (facts, stack) = (Facts::default(), json!({}));
        let committing = writer.commit(described, sealed, &facts, &stack, "");
        let dropping = async {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            drop(open);
        };
        let (committed, ()) = tokio::join!(committing, dropping);
        assert_eq!(committed.unwrap_err().kind(), Kind::Failed, "{case}");
        assert!(repository.list("shop").await.unwrap().is_empty(), "{case}");
        assert!(
            !root(&repository).join("shop").exists(),
            "{case}: leftovers"
        );
    }
}

/// A store that lost the answer says "exists" about the object it has just made.
#[tokio::test]
async fn an_ambiguous_commit_is_read_back() {
    for (theirs, good) in [(false, true), (true, false)] {
        let (_a, first) = repository().await;
        back_up(&first, "shop", &id(0), &three()).await.unwrap();
        let key = format!("shop/{}.backup.json", id(0));
        let mut commit = fs::read_to_string(root(&first).join(&key)).unwrap();
        if theirs {
            commit = commit.replace("manual", "another");
        }
        let (_b, second) = repository().await;
        let writer = second
            .begin("shop", &id(0))
            .await
            .unwrap()
            .with_object_limit(100_000);
        let mut sealed = Vec::new();
        for (name, bytes) in three() {
            let upload = writer.upload(&name, &[Encoding::Zstd]).unwrap();
            sealed.push(seal(&name, land(upload, bytes).await.unwrap()));
        }
        let path = root(&second).join(&key);
        fs::write(&path, &commit).unwrap();
        let facts = Facts(BTreeMap::from([("postgres/db".into(), json!({"rows": 3}))]));
        let committed = writer
            .commit(
                manifest("shop", &id(0)),
                sealed,
                &facts,
                &json!({"services": []}),
                "# Restore\n",
            )
            .await;
        assert_eq!(committed.is_ok(), good);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            commit,
            "the other's commit was touched"
        );
        if good {
            verify(&second, "shop").await.unwrap();
        }
    }
}

#[tokio::test]
async fn one_id_is_written_once() {
    let (_dir, repository) = repository().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    let error = repository.begin("shop", &id(0)).await.unwrap_err();
    assert!(error.to_string().contains("exists already"));
    let _writer = repository.begin("shop", &id(1)).await.unwrap();
    assert!(repository.begin("shop", &id(1)).await.is_err());
    let error = repository.begin("", &id(2)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    verify(&repository, "shop").await.unwrap();
}

#[tokio::test]
async fn names_longer_than_a_key_are_refused_before_anything_is_written() {
    let (_dir, repository) = repository().await;
    let writer = repository.begin("shop", &id(0)).await.unwrap();
    let name = ArtifactName::Volume {
        name: "x".repeat(1000),
    };
    let error = writer.upload(&name, &[]).unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert!(error.to_string().contains("too long"));
    // Some 255 bytes are the most that a file system takes: that error names the path.
    let name = ArtifactName::Volume {
        name: "x".repeat(300),
    };
    let error = land(writer.upload(&name, &[]).unwrap(), b"1")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("volume/xxx"), "{error}");
}

#[tokio::test]
async fn a_full_disk_fails_and_leaves_older_backups_whole() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["-t", "tmpfs", "-o", "size=4m", "tmpfs"];
    let Some(_mount) = Mount::new(dir.path(), &arguments) else {
        return;
    };
    let location = Location::directory(dir.path().join("repo"));
    let repository = init(&location, moment()).await.unwrap().into_repository();
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    let before = files(location.path().unwrap());
    let large = vec![1; 8 << 20];
    let error = back_up(&repository, "shop", &id(1), &[(name("volume/v"), &large)]).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert!(
        error.to_string().contains("volume/v.tar.zst"),
        "{}",
        error.chain()
    );
    assert!(error.hint_text().unwrap().contains("make room"));
    assert_eq!(files(location.path().unwrap()), before, "staging stayed");
    // Full only when the description is written: artifacts land, the manifest does not.
    let writer = repository.begin("shop", &id(2)).await.unwrap();
    let upload = writer.upload(&name("volume/v"), &[Encoding::Zstd]).unwrap();
    let sealed = vec![seal(
        &name("volume/v"),
        land(upload, b"small").await.unwrap(),
    )];
    let fill = dir.path().join("fill");
    let _ = fs::write(&fill, &large);
    let recipe = "x".repeat(1 << 20);
    let facts = Facts::default();
    let committed = writer
        .commit(
            manifest("shop", &id(2)),
            sealed,
            &facts,
            &json!({}),
            &recipe,
        )
        .await;
    assert_eq!(committed.unwrap_err().kind(), Kind::Failed);
    fs::remove_file(&fill).unwrap();
    assert_eq!(files(location.path().unwrap()), before);
    assert_eq!(repository.list("shop").await.unwrap().len(), 1);
    verify(&repository, "shop").await.unwrap();
}

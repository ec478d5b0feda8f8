//! Repositories as other programs and later versions meet them: the frozen ones in tests/data,
//! read by lifeboat and by the second reader.
//!
//! Writing is tested beside the code (src/repository/tests), because only a capture that has
//! proven its end may be committed.

use lifeboat::error::{Kind, Result};
use lifeboat::repository::{Access, Location, Repository};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const FORMAT_1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/format-1");
const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/reader.py");
const SHOP: &str = "shop/20261122T020000Z-abcd";

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn frozen() -> (TempDir, Location) {
    let dir = tempfile::tempdir().unwrap();
    copy_tree(Path::new(FORMAT_1), dir.path());
    let location = Location::directory(dir.path());
    (dir, location)
}

fn reader(command: &str, root: &Path) -> (Option<i32>, Value) {
    let mut python = Command::new("python3");
    python.args(["-I", "-S", READER, command]).arg(root);
    let output = python.output().unwrap();
    let parsed = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        parsed.unwrap_or_else(|_| panic!("{output:?}")),
    )
}

async fn verify(repository: &Repository, reference: &str) -> Result<()> {
    let entry = repository.resolve(reference, None).await?;
    let backup = repository.open_backup(&entry).await?;
    backup.verify_objects(|_, _| {}).await?.into_result()
}

#[tokio::test]
async fn format_1_is_read_for_ever() {
    let (_dir, location) = frozen();
    let repository = Repository::open(&location, &Access::default())
        .await
        .unwrap();
    assert_eq!(repository.marker().format, 1);
    assert_eq!(repository.stacks().await.unwrap(), ["a/b", "shop"]);
    let listed = repository.list("shop").await.unwrap();
    let ids: Vec<String> = listed.iter().map(|entry| entry.id.to_string()).collect();
    assert_eq!(ids, ["20261122T020100Z-abcd", "20261122T020000Z-abcd"]);
    assert_eq!(listed[1].pinned.as_ref().unwrap().reason, "before the move");
    assert_eq!(listed[1].proofs.len(), 1);
    for reference in ["shop/latest", "shop/latest~1", "a/b/latest", "a%2Fb/latest"] {
        verify(&repository, reference).await.unwrap();
    }
    let backup = repository.open_backup(&listed[1]).await.unwrap();
    let names: Vec<String> = backup
        .manifest()
        .artifacts
        .iter()
        .map(|artifact| artifact.name.to_string())
        .collect();
    assert_eq!(
        names,
        [
            "postgres/postgres/db/%2E.%2Fshop%25",
            "postgres/postgres/globals",
            "redis/cache",
            "volume/uploads"
        ]
    );
    let mut globals = backup.read(&backup.manifest().artifacts[1]);
    assert_eq!(globals.next().await.unwrap().unwrap(), "roles");
    assert!(globals.next().await.unwrap().is_none());
    assert_eq!(
        backup.facts().await.unwrap().0["postgres/db"],
        json!({"rows": 3})
    );
    assert_eq!(backup.stack_json().await.unwrap(), json!({"services": []}));
    assert_eq!(backup.restore_md().await.unwrap(), "# Restore\n");
}

#[tokio::test]
async fn the_second_reader_agrees() {
    let (dir, location) = frozen();
    let repository = Repository::open(&location, &Access::default())
        .await
        .unwrap();
    let mut ours = Vec::new();
    for stack in repository.stacks().await.unwrap() {
        for entry in repository.list(&stack).await.unwrap() {
            ours.push(json!({"stack": entry.stack, "id": entry.id.to_string()}));
        }
    }
    let (code, theirs) = reader("list", dir.path());
    assert_eq!((code, &theirs["backups"]), (Some(0), &Value::from(ours)));
    assert_eq!(reader("verify", dir.path()).0, Some(0));
    // On a damaged one of the three, too.
    let globals = dir
        .path()
        .join(SHOP)
        .join("postgres/postgres/globals.sql.zst");
    fs::write(globals, "rolls").unwrap();
    let (code, report) = reader("verify", dir.path());
    assert_eq!(code, Some(13));
    let damaged: Vec<bool> = report["backups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|backup| backup.get("damaged").is_some())
        .collect();
    assert_eq!(damaged, [false, false, true]);
    let error = verify(&repository, "shop/latest~1").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.chain().contains("postgres/postgres/globals.sql.zst"));
    verify(&repository, "shop/latest").await.unwrap();
    fs::remove_file(dir.path().join("lifeboat-repository.json")).unwrap();
    assert_eq!(reader("list", dir.path()).0, Some(10));
    assert_eq!(
        Repository::open(&location, &Access::default())
            .await
            .unwrap_err()
            .kind(),
        Kind::NotFound
    );
}

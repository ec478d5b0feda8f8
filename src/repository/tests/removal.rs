//! Killed writers, deletion, sweeping and who keeps whom away.

use super::*;
use crate::error::Kind;
use std::time::{Duration, SystemTime};

/// The objects of a backup in the order in which they are written.
fn write_order(root: &Path) -> Vec<PathBuf> {
    let rank = |file: &PathBuf| {
        let text = file.to_string_lossy().into_owned();
        let name = text.rsplit('/').next().unwrap().to_owned();
        let order = [
            "facts.json.zst",
            "stack.json.zst",
            "manifest.json",
            "RESTORE.md",
            "SHA256SUMS",
        ];
        match order.iter().position(|fixed| *fixed == name) {
            Some(position) => position + 1,
            None if text.ends_with(".backup.json") => 9,
            None => 0,
        }
    };
    let mut found: Vec<PathBuf> = files(root)
        .into_iter()
        .filter(|file| file.starts_with("shop"))
        .collect();
    found.sort_by_key(rank);
    found
}

/// Makes everything below `path` two days old.
fn age(path: &Path, days: u64) {
    let time = SystemTime::now() - Duration::from_hours(24 * days);
    let times = fs::FileTimes::new().set_modified(time);
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            age(&entry.unwrap().path(), days);
        }
    }
    fs::File::open(path).unwrap().set_times(times).unwrap();
}

/// The order in which the real writer makes its files, as the disk's own clock has it.
#[tokio::test]
async fn the_write_order_is_the_invariant() {
    use std::os::unix::fs::MetadataExt;
    let (_dir, repository) = repository().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    let root = root(&repository);
    let changed = |file: &PathBuf| {
        let metadata = fs::metadata(root.join(file)).unwrap();
        (metadata.ctime(), metadata.ctime_nsec())
    };
    let order = write_order(root);
    let (commit, sums) = (&order[order.len() - 1], &order[order.len() - 2]);
    assert!(sums.ends_with("SHA256SUMS"));
    for file in &order {
        assert!(
            changed(file) <= changed(commit),
            "{} came after the commit",
            file.display()
        );
        if file != commit {
            assert!(
                changed(file) <= changed(sums),
                "{} came after the sums",
                file.display()
            );
        }
    }
}

/// Whatever a writer that was killed had written: absent or complete, never half.
#[tokio::test]
async fn a_kill_at_any_stage_leaves_a_backup_absent_or_complete() {
    let (_dir, good) = repository().await;
    back_up(&good, "shop", &id(0), &three()).await.unwrap();
    let order = write_order(root(&good));
    for stage in 0..=order.len() {
        for staging in [false, true] {
            let copy = tempfile::tempdir().unwrap();
            let location = Location::directory(copy.path());
            init(&location, moment()).await.unwrap();
            fs::create_dir_all(copy.path().join(format!("shop/{}", id(0)))).unwrap();
            for file in &order[..stage] {
                let target = copy.path().join(file);
                fs::create_dir_all(target.parent().unwrap()).unwrap();
                fs::copy(root(&good).join(file), target).unwrap();
            }
            // Killed in the middle of the next object.
            if let Some(next) = order.get(stage).filter(|_| staging) {
                let half = format!("{}#1", copy.path().join(next).display());
                fs::create_dir_all(Path::new(&half).parent().unwrap()).unwrap();
                fs::write(half, "half").unwrap();
            }
            let repository = open(&location).await.unwrap();
            let complete = stage == order.len();
            let listed = repository.list("shop").await.unwrap();
            assert_eq!(listed.len(), usize::from(complete), "stage {stage}");
            if complete {
                verify(&repository, "shop").await.unwrap();
            }
            // The next backup works, with the leftovers still there.
            back_up(&repository, "shop", &id(60), &three())
                .await
                .unwrap();
            verify(&repository, "shop").await.unwrap();
            let sweep = async || repository.maintain().await.unwrap().sweep().await.unwrap();
            assert_eq!(
                sweep().await,
                Vec::<String>::new(),
                "stage {stage}: too young"
            );
            age(copy.path(), 2);
            let swept = sweep().await;
            assert_eq!(swept.is_empty(), complete, "stage {stage}: {swept:?}");
            let kept = if complete { 2 } else { 1 };
            assert_eq!(repository.list("shop").await.unwrap().len(), kept);
            assert!(copy.path().join(format!("shop/{}", id(0))).exists() == complete);
            let left = files(copy.path());
            assert!(
                !left.iter().any(|file| file.to_string_lossy().contains('#')),
                "{left:?}"
            );
            verify(&repository, "shop").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_sweep_touches_nothing_that_is_not_ours() {
    let (_dir, repository) = repository().await;
    let root = root(&repository);
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    for other in [
        "photos/cat.jpg",
        "shop/notes.txt",
        "shop/old/notes.txt",
        "lost+found/x",
    ] {
        fs::create_dir_all(root.join(other).parent().unwrap()).unwrap();
        fs::write(root.join(other), "mine").unwrap();
    }
    age(root, 400);
    let before = files(root);
    assert_eq!(
        repository.maintain().await.unwrap().sweep().await.unwrap(),
        Vec::<String>::new()
    );
    let mut after = files(root);
    after.retain(|file| !file.ends_with("lifeboat-repository.lock"));
    let mut before = before;
    before.retain(|file| !file.ends_with("lifeboat-repository.lock"));
    assert_eq!(before, after);
    assert_eq!(repository.stacks().await.unwrap(), ["shop"]);
    // One young file in it keeps a folder; so does a time in the future.
    let half = root.join(format!("shop/{}", id(9)));
    fs::create_dir_all(half.join("volume")).unwrap();
    fs::write(half.join("volume/a"), "").unwrap();
    age(&half, 3);
    fs::write(half.join("volume/b"), "").unwrap();
    assert!(
        repository
            .maintain()
            .await
            .unwrap()
            .sweep()
            .await
            .unwrap()
            .is_empty()
    );
    age(&half, 3);
    assert_eq!(
        repository.maintain().await.unwrap().sweep().await.unwrap(),
        [format!("shop/{}", id(9))]
    );
}

#[tokio::test]
async fn deleting_takes_the_commit_first_and_spares_pins() {
    let (_dir, repository) = repository().await;
    for second in [0, 60] {
        back_up(&repository, "shop", &id(second), &three())
            .await
            .unwrap();
    }
    let entry = repository.resolve("latest~1", None).await.unwrap();
    let stale = entry.clone();
    repository.pin(&entry, "", moment()).await.unwrap();
    let maintenance = repository.maintain().await.unwrap();
    let error = maintenance.delete(&stale).await.unwrap_err();
    assert!(error.to_string().contains("pinned"));
    assert_eq!(repository.list("shop").await.unwrap().len(), 2);
    repository.unpin(&entry).await.unwrap();
    // A folder that cannot be removed: by then the backup is no longer listed.
    let folder = root(&repository).join(format!("shop/{}", id(0)));
    let away = root(&repository).join("away");
    fs::rename(&folder, &away).unwrap();
    fs::write(&folder, "a file in its place").unwrap();
    assert!(maintenance.delete(&entry).await.is_err());
    assert_eq!(repository.list("shop").await.unwrap().len(), 1);
    fs::remove_file(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    maintenance.delete(&entry).await.unwrap();
    assert!(!folder.exists());
    drop(maintenance);
    verify(&repository, "shop").await.unwrap();
    let error = repository.open_backup(&stale).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(
        repository
            .pin(&stale, "", moment())
            .await
            .unwrap_err()
            .kind(),
        Kind::NotFound
    );
    let last = repository.resolve("latest", None).await.unwrap();
    repository
        .record_proof(&last, moment(), &json!({}))
        .await
        .unwrap();
    let last = repository.resolve("latest", None).await.unwrap();
    repository
        .maintain()
        .await
        .unwrap()
        .delete(&last)
        .await
        .unwrap();
    assert!(!root(&repository).join("shop").exists());
}

#[tokio::test]
async fn nobody_prunes_under_a_writer_or_a_reader() {
    let (_dir, repository) = repository().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    let writer = repository.begin("shop", &id(1)).await.unwrap();
    let busy = async || {
        repository
            .maintain()
            .await
            .map(|_| ())
            .map_err(|error| error.kind())
    };
    assert_eq!(busy().await, Err(Kind::Busy));
    let entry = repository.resolve("latest", None).await.unwrap();
    let backup = repository.open_backup(&entry).await.unwrap();
    writer.abandon().await.unwrap();
    assert_eq!(busy().await, Err(Kind::Busy));
    let reader = backup.read(&backup.manifest().artifacts[0]);
    drop(backup);
    assert_eq!(busy().await, Err(Kind::Busy));
    drop(reader);
    assert_eq!(busy().await, Ok(()));
    // A writer waits for a short prune rather than failing a night's backup.
    let maintenance = repository.maintain().await.unwrap();
    let releasing = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(maintenance);
    };
    let next = id(2);
    let (begun, ()) = tokio::join!(repository.begin("shop", &next), releasing);
    begun.unwrap().abandon().await.unwrap();
}

/// What a prune that was killed has left: files as old as ever in folders that it has made young.
#[tokio::test]
async fn what_a_killed_removal_has_left_is_swept_by_the_next() {
    let (_dir, repository) = repository().await;
    for second in [0, 60] {
        back_up(&repository, "shop", &id(second), &three())
            .await
            .unwrap();
    }
    let root = root(&repository);
    age(root, 3);
    fs::remove_file(root.join(format!("shop/{}.backup.json", id(0)))).unwrap();
    let folder = root.join(format!("shop/{}", id(0)));
    fs::remove_dir_all(folder.join("volume")).unwrap();
    fs::remove_file(folder.join("manifest.json")).unwrap();
    assert_eq!(repository.list("shop").await.unwrap().len(), 1);
    let maintenance = repository.maintain().await.unwrap();
    let swept = maintenance.sweep().await.unwrap();
    assert_eq!(swept, [format!("shop/{}", id(0))]);
    assert!(!folder.exists());
    maintenance.release().await;
    verify(&repository, "shop").await.unwrap();
}

/// A disk that can only be read serves a restore.
#[tokio::test]
async fn a_read_only_disk_can_be_read() {
    let (dir, repository) = repository().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    fs::remove_file(root(&repository).join("lifeboat-repository.lock")).unwrap();
    let bind = ["--bind", dir.path().to_str().unwrap()];
    let Some(mount) = Mount::new(dir.path(), &bind) else {
        return;
    };
    let remounted = std::process::Command::new("mount")
        .args(["-o", "remount,bind,ro"])
        .arg(dir.path())
        .status();
    assert!(remounted.unwrap().success());
    let verified = verify(&repository, "shop").await;
    let begun = repository.begin("shop", &id(1)).await.map(|_| ());
    let maintained = repository.maintain().await.map(|_| ());
    drop(mount);
    verified.unwrap();
    assert_eq!(begun.unwrap_err().kind(), Kind::Failed);
    assert_eq!(maintained.unwrap_err().kind(), Kind::Failed);
}

//! Opening repositories, listing backups, and what references mean.

use super::*;
use crate::error::Kind;
use crate::repository::MARKER;

#[tokio::test]
async fn a_missing_repository_is_never_made_silently() {
    let dir = tempfile::tempdir().unwrap();
    let location = Location::directory(dir.path().join("mnt"));
    let error = open(&location).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(
        error
            .hint_text()
            .unwrap()
            .contains("lifeboat repository init --repository")
    );
    fs::create_dir(location.path().unwrap()).unwrap();
    let error = open(&location).await.unwrap_err();
    assert!(error.hint_text().unwrap().contains("is the disk mounted?"));
    assert_eq!(fs::read_dir(location.path().unwrap()).unwrap().count(), 0);
}

/// The disk goes away between opening and writing: no second repository below its mount point.
#[tokio::test]
async fn a_disk_that_goes_away_is_noticed() {
    let (dir, repository) = repository().await;
    fs::rename(root(&repository), dir.path().join("away")).unwrap();
    assert!(repository.begin("shop", &id(0)).await.is_err());
    assert!(!root(&repository).exists());
    fs::create_dir(root(&repository)).unwrap();
    let error = repository.begin("shop", &id(0)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(fs::read_dir(root(&repository)).unwrap().count(), 0);
}

#[tokio::test]
async fn init_keeps_what_is_there() {
    let (dir, first) = repository().await;
    let again = init(first.location(), moment() + chrono::TimeDelta::days(1))
        .await
        .unwrap();
    let InitOutcome::Existed(again) = again else {
        panic!("a second repository was made");
    };
    assert_eq!(again.marker(), first.marker());
    assert_eq!(first.marker().created, moment());
    let names: Vec<_> = files(root(&first));
    assert_eq!(names, [PathBuf::from(MARKER)], "probes stayed");
    let full = dir.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("thesis.doc"), "").unwrap();
    let error = init(&Location::directory(&full), moment())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    // What an init leaves that was killed.
    let half = dir.path().join("half");
    fs::create_dir(&half).unwrap();
    fs::write(half.join(format!("{MARKER}#1")), "{").unwrap();
    fs::write(half.join("lifeboat-probe-00"), "1").unwrap();
    init(&Location::directory(&half), moment()).await.unwrap();
}

#[tokio::test]
async fn newer_and_broken_markers_are_refused() {
    let (_dir, repository) = repository().await;
    let path = root(&repository).join(MARKER);
    let good = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        r#"{"format": 7, "lifeboat_version": "9.1.0", "other": {}}"#,
    )
    .unwrap();
    let error = open(repository.location()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert!(
        error
            .to_string()
            .contains("format 7, written by lifeboat 9.1.0"),
        "{error}"
    );
    for bad in [
        "",
        "{}",
        "[]",
        &good.replace("\"format\": 1", "\"format\": 0"),
        &good[..40],
    ] {
        fs::write(&path, bad).unwrap();
        let error = open(repository.location()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{bad}");
    }
}

#[tokio::test]
async fn references_mean_one_backup() {
    let (_dir, repository) = repository().await;
    let error = repository.resolve("latest", None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    for second in [0, 60, 3600] {
        back_up(&repository, "shop", &id(second), &three())
            .await
            .unwrap();
    }
    let at = async |reference: &str| {
        repository
            .resolve(reference, None)
            .await
            .map(|entry| entry.reference())
    };
    let full = |second| format!("shop/{}", id(second));
    assert_eq!(at("latest").await.unwrap(), full(3600));
    assert_eq!(at("latest~0").await.unwrap(), full(3600));
    assert_eq!(at("latest~2").await.unwrap(), full(0));
    assert_eq!(at("shop/latest~1").await.unwrap(), full(60));
    assert_eq!(at(id(60).as_str()).await.unwrap(), full(60));
    assert_eq!(at("20261122T03").await.unwrap(), full(3600));
    for (bad, kind) in [
        ("20261122", Kind::Usage),
        ("", Kind::NotFound),
        ("latest~3", Kind::NotFound),
        ("latest~x", Kind::Usage),
        ("latestest", Kind::Usage),
        ("shp/latest", Kind::NotFound),
        ("20261122T020000Z-zzzz", Kind::NotFound),
    ] {
        assert_eq!(at(bad).await.unwrap_err().kind(), kind, "{bad}");
    }
    let error = repository.resolve("latest", Some("shp")).await.unwrap_err();
    assert!(error.hint_text().unwrap().contains("shop"));
    let error = at("20261122T020000Z-zzzz").await.unwrap_err();
    assert!(error.hint_text().unwrap().contains(id(0).as_str()));
    back_up(&repository, "bank", &id(0), &three())
        .await
        .unwrap();
    assert_eq!(at("latest").await.unwrap_err().kind(), Kind::Usage);
    assert_eq!(at(id(0).as_str()).await.unwrap_err().kind(), Kind::Usage);
    assert_eq!(at(id(60).as_str()).await.unwrap(), full(60));
    let entry = repository.resolve("latest", Some("bank")).await.unwrap();
    assert_eq!(entry.stack, "bank");
}

#[tokio::test]
async fn pins_and_proofs_are_listed() {
    let (_dir, repository) = repository().await;
    for second in [0, 60] {
        back_up(&repository, "shop", &id(second), &three())
            .await
            .unwrap();
    }
    let entry = repository.resolve("latest~1", None).await.unwrap();
    repository
        .pin(&entry, "before the move", moment())
        .await
        .unwrap();
    repository.pin(&entry, "again", moment()).await.unwrap();
    repository
        .record_proof(&entry, moment(), &json!({"rto": 5}))
        .await
        .unwrap();
    assert!(
        repository
            .record_proof(&entry, moment(), &json!({}))
            .await
            .is_err()
    );
    let listed = repository.list("shop").await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed[0].pinned.is_none() && listed[0].proofs.is_empty());
    assert_eq!(listed[1].pinned.as_ref().unwrap().reason, "before the move");
    assert_eq!(listed[1].proofs, [moment()]);
    let pin = root(&repository).join(format!("shop/{}.pin.json", id(0)));
    fs::write(&pin, "garbage").unwrap();
    let listed = repository.list("shop").await.unwrap();
    assert!(
        listed[1].pinned.is_some(),
        "a pin that cannot be read still pins"
    );
    repository.unpin(&entry).await.unwrap();
    assert!(repository.list("shop").await.unwrap()[1].pinned.is_none());
}

#[tokio::test]
async fn a_damaged_commit_is_listed_with_its_reason() {
    let (_dir, repository) = repository().await;
    for second in [0, 60, 120] {
        back_up(&repository, "shop", &id(second), &three())
            .await
            .unwrap();
    }
    let root = root(&repository);
    fs::write(root.join(format!("shop/{}.backup.json", id(0))), "{").unwrap();
    // The commit of another backup under this one's key.
    fs::copy(
        root.join(format!("shop/{}.backup.json", id(120))),
        root.join(format!("shop/{}.backup.json", id(60))),
    )
    .unwrap();
    let listed = repository.list("shop").await.unwrap();
    let damaged: Vec<bool> = listed.iter().map(|entry| entry.damaged.is_some()).collect();
    assert_eq!(damaged, [false, true, true]);
    assert!(
        listed[1]
            .damaged
            .as_ref()
            .unwrap()
            .contains("another backup")
    );
    let error = repository.open_backup(&listed[2]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
}

/// 10,000 backups: one second at the most on a developer's machine; the test allows for a busy one.
#[tokio::test]
async fn ten_thousand_backups_are_listed_newest_first() {
    let (_dir, repository) = repository().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    let folder = root(&repository).join("shop");
    let commit = fs::read_to_string(folder.join(format!("{}.backup.json", id(0)))).unwrap();
    for second in 1..10_000 {
        let id = id(second);
        let text = commit.replace(super::id(0).as_str(), id.as_str());
        fs::write(folder.join(format!("{id}.backup.json")), text).unwrap();
    }
    let listed = repository.list("shop").await.unwrap();
    assert_eq!(listed.len(), 10_000);
    assert!(listed.iter().all(|entry| entry.damaged.is_none()));
    assert!(
        listed.windows(2).all(|pair| pair[0].id > pair[1].id),
        "not newest first"
    );
}

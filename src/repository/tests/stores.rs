//! What holds in every kind of store: one suite, run over all of them.

use super::place::{Kind, Place};
use super::{artifact, back_up, id, land, manifest, moment, name, seal, three, verify};
use crate::error::Kind as Failure;
use crate::manifest::{BackupId, Encoding, Facts};
use crate::repository::bucket::{Pace, Sending};
use crate::repository::store::Store;
use crate::repository::{Deletion, InitOutcome, Location, Repository};
use bytes::Bytes;
use serde_json::json;
use std::time::Duration;

/// Runs one scenario as a test over each kind of store.
macro_rules! over_every_store {
    ($($scenario:ident),* $(,)?) => {
        over_every_store!(@kind directory Directory $($scenario)*);
        over_every_store!(@kind s3 S3 $($scenario)*);
        over_every_store!(@kind azure Azure $($scenario)*);
        over_every_store!(@kind gcs Gcs $($scenario)*);
    };
    (@kind $module:ident $kind:ident $($scenario:ident)*) => {
        mod $module {
            use super::{Kind, Place};
            $(
                #[tokio::test]
                async fn $scenario() {
                    let place = Place::new(Kind::$kind);
                    super::$scenario(&place).await;
                    place.clean().await;
                }
            )*
        }
    };
}

over_every_store!(
    it_is_made_once_and_opened_afterwards,
    a_place_with_other_things_is_refused,
    what_is_backed_up_is_listed_found_and_right,
    a_backup_is_written_once,
    of_two_commits_of_one_name_one_stands,
    what_is_not_committed_does_not_exist,
    every_damage_is_noticed,
    pins_and_proofs_stand_beside,
    a_removed_backup_leaves_nothing,
    what_is_removed_is_exactly_what_was_asked_for,
    nobody_prunes_under_a_writer,
    who_has_removed_lets_others_in_at_once,
    a_dead_holder_is_taken_over,
    what_was_left_behind_is_swept_after_a_day,
    an_upload_that_is_given_up_leaves_nothing,
    large_artifacts_come_back,
    a_copy_is_the_backup_and_goes_on_where_it_was,
    signed_and_encrypted_backups_are_for_those_with_the_keys,
);

async fn it_is_made_once_and_opened_afterwards(place: &Place) {
    let missing = Repository::open(&place.location, &place.access).await;
    let error = missing.unwrap_err();
    assert_eq!(error.kind(), Failure::NotFound, "{}", error.chain());
    assert!(error.hint_text().unwrap().contains("repository init"));
    let first = place.init().await;
    let again = Repository::init(&place.location, &place.access, moment()).await;
    let InitOutcome::Existed(again) = again.unwrap() else {
        panic!("it was there");
    };
    assert_eq!(first.marker(), again.marker());
    assert_eq!(place.open().await.marker(), first.marker());
    let traits = first.marker().store.clone();
    match place.kind {
        Kind::Directory => assert_eq!(traits, None),
        // Each of the lab's stores refuses a second creation.
        _ => assert!(traits.unwrap().create_if_absent),
    }
    assert_eq!(place.keys().await, ["lifeboat-repository.json"]);
    // The store's clock is this machine's, and a year is told from that.
    let now: chrono::DateTime<chrono::Utc> = std::time::SystemTime::now().into();
    let probed = first.probe(now).await.unwrap();
    assert!(probed.clock_ahead.abs() < 60, "{probed:?}");
    let probed = first
        .probe(now - chrono::TimeDelta::days(365))
        .await
        .unwrap();
    assert!(probed.clock_ahead > 364 * 86_400, "{probed:?}");
}

async fn a_place_with_other_things_is_refused(place: &Place) {
    place.write("notes.txt", b"mine").await;
    let made = Repository::init(&place.location, &place.access, moment()).await;
    let error = made.unwrap_err();
    assert_eq!(error.kind(), Failure::Usage, "{}", error.chain());
    assert_eq!(place.keys().await, ["notes.txt"]);
}

async fn what_is_backed_up_is_listed_found_and_right(place: &Place) {
    let repository = place.init().await;
    for n in 0..3 {
        back_up(&repository, "shop", &id(n), &three())
            .await
            .unwrap();
    }
    back_up(&repository, "a/b", &id(8), &three()).await.unwrap();
    assert_eq!(repository.stacks().await.unwrap(), ["a/b", "shop"]);
    let listed = async || {
        let entries = repository.list("shop").await.unwrap();
        entries
            .into_iter()
            .map(|entry| entry.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [id(2), id(1), id(0)]);
    // Once more, now with what the first listing has kept.
    assert_eq!(listed().await, [id(2), id(1), id(0)]);
    let found = repository.resolve("latest~1", Some("shop")).await.unwrap();
    assert_eq!(found.id, id(1));
    verify(&repository, "shop").await.unwrap();
    let backup = repository.open_backup(&found).await.unwrap();
    for (artifact, (_, bytes)) in backup.manifest().artifacts.iter().zip(three()) {
        let mut reader = backup.read(artifact);
        let mut read = Vec::new();
        while let Some(more) = reader.next().await.unwrap() {
            read.extend_from_slice(&more);
        }
        assert_eq!(read, bytes, "{}", artifact.name);
    }
}

async fn a_backup_is_written_once(place: &Place) {
    let repository = place.init().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    let before = place.keys().await;
    let error = repository.begin("shop", &id(0)).await.unwrap_err();
    assert!(
        error.chain().contains("exists already"),
        "{}",
        error.chain()
    );
    assert_eq!(place.keys().await, before);
    verify(&repository, "shop").await.unwrap();
}

async fn of_two_commits_of_one_name_one_stands(place: &Place) {
    let repository = place.init().await;
    let key = format!("shop/{}.backup.json", id(0));
    let writer = repository.begin("shop", &id(0)).await.unwrap();
    let upload = writer.upload(&name("volume/v"), &[Encoding::Zstd]).unwrap();
    let sealed = vec![seal(
        &name("volume/v"),
        land(upload, b"mine").await.unwrap(),
    )];
    place.write(&key, b"{\"another\": 1}\n").await;
    let committed = writer
        .commit(
            manifest("shop", &id(0)),
            sealed,
            &Facts::default(),
            &json!({}),
            "",
        )
        .await;
    let error = committed.unwrap_err();
    assert!(error.chain().contains("another run"), "{}", error.chain());
    assert_eq!(place.read(&key).await, b"{\"another\": 1}\n");
}

async fn what_is_not_committed_does_not_exist(place: &Place) {
    let repository = place.init().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    place.remove(&format!("shop/{}.backup.json", id(0))).await;
    assert!(repository.list("shop").await.unwrap().is_empty());
    assert!(repository.stacks().await.unwrap().is_empty());
    // It is younger than a day: whoever sweeps now leaves it alone.
    let maintenance = repository.maintain().await.unwrap();
    assert!(maintenance.sweep().await.unwrap().is_empty());
    drop(maintenance);
    place.access.close().await;
    back_up(&repository, "shop", &id(1), &three())
        .await
        .unwrap();
    verify(&repository, "shop").await.unwrap();
}

async fn every_damage_is_noticed(place: &Place) {
    let repository = place.init().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    verify(&repository, "shop").await.unwrap();
    let keys = place.keys().await;
    let objects: Vec<&String> = keys.iter().filter(|key| key.starts_with("shop/")).collect();
    assert_eq!(objects.len(), 11, "{objects:?}");
    for (at, object) in objects.iter().enumerate() {
        let good = place.read(object).await;
        let mut flipped = good.clone();
        let middle = flipped.len() / 2;
        if let Some(byte) = flipped.get_mut(middle) {
            *byte ^= 1;
        }
        let other = place.read(objects[(at + 1) % objects.len()]).await;
        let cut = good[..good.len().saturating_sub(1)].to_vec();
        let grown = [&good[..], b"x"].concat();
        for (what, bytes) in [
            ("flip", flipped),
            ("swap", other),
            ("cut", cut),
            ("grow", grown),
        ] {
            if bytes == good {
                continue;
            }
            place.write(object, &bytes).await;
            let error = verify(&place.open().await, "shop").await.unwrap_err();
            assert_eq!(
                error.kind(),
                Failure::Damaged,
                "{what} {object}: {}",
                error.chain()
            );
        }
        place.remove(object).await;
        let error = verify(&place.open().await, "shop").await.unwrap_err();
        let expected = match object.ends_with(".backup.json") {
            true => Failure::NotFound,
            false => Failure::Damaged,
        };
        assert_eq!(error.kind(), expected, "delete {object}: {}", error.chain());
        place.write(object, &good).await;
    }
    let stranger = format!("shop/{}/stranger", id(0));
    place.write(&stranger, b"").await;
    let error = verify(&place.open().await, "shop").await.unwrap_err();
    assert_eq!(error.kind(), Failure::Damaged);
    place.remove(&stranger).await;
    verify(&place.open().await, "shop").await.unwrap();
}

async fn pins_and_proofs_stand_beside(place: &Place) {
    let repository = place.init().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    let entry = repository.resolve("latest", None).await.unwrap();
    repository.pin(&entry, "why", moment()).await.unwrap();
    repository
        .pin(&entry, "another reason", moment())
        .await
        .unwrap();
    repository
        .record_proof(&entry, moment(), &json!({}))
        .await
        .unwrap();
    let entry = repository.resolve("latest", None).await.unwrap();
    assert_eq!(entry.pinned.as_ref().unwrap().reason, "why");
    assert_eq!(entry.proofs, [moment()]);
    place.access.close().await;
    let maintenance = repository.maintain().await.unwrap();
    let error = maintenance.delete(&entry).await.unwrap_err();
    assert!(error.chain().contains("is pinned"), "{}", error.chain());
    repository.unpin(&entry).await.unwrap();
    assert_eq!(maintenance.delete(&entry).await.unwrap(), Deletion::Done);
}

async fn a_removed_backup_leaves_nothing(place: &Place) {
    let repository = place.init().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    back_up(&repository, "shop", &id(1), &three())
        .await
        .unwrap();
    place.access.close().await;
    let entry = repository.resolve("latest", None).await.unwrap();
    let maintenance = repository.maintain().await.unwrap();
    assert_eq!(maintenance.delete(&entry).await.unwrap(), Deletion::Done);
    let left = place.keys().await;
    assert!(
        left.iter().all(|key| !key.contains(id(1).as_str())),
        "{left:?}"
    );
    drop(maintenance);
    place.access.close().await;
    verify(&repository, "shop").await.unwrap();
}

async fn what_is_removed_is_exactly_what_was_asked_for(place: &Place) {
    let repository = place.init().await;
    for n in 0..4 {
        back_up(&repository, "shop", &id(n), &three())
            .await
            .unwrap();
    }
    let listed = repository.list("shop").await.unwrap();
    for entry in &listed {
        repository
            .record_proof(entry, moment(), &json!({}))
            .await
            .unwrap();
    }
    repository.pin(&listed[0], "", moment()).await.unwrap();
    let before = place.keys().await;
    place.access.close().await;
    let maintenance = repository.maintain().await.unwrap();
    for entry in repository.list("shop").await.unwrap() {
        if entry.id == id(1) || entry.id == id(2) {
            assert_eq!(maintenance.delete(&entry).await.unwrap(), Deletion::Done);
        }
    }
    maintenance.release().await;
    let of_removed = |key: &str| [id(1), id(2)].iter().any(|id| key.contains(id.as_str()));
    let expected: Vec<String> = before.into_iter().filter(|key| !of_removed(key)).collect();
    assert_eq!(place.keys().await, expected);
    for reference in ["latest", "latest~1"] {
        let entry = repository.resolve(reference, None).await.unwrap();
        let backup = repository.open_backup(&entry).await.unwrap();
        let report = backup.verify_objects(|_, _| {}).await.unwrap();
        report.into_result().unwrap();
    }
}

async fn who_has_removed_lets_others_in_at_once(place: &Place) {
    let repository = place.init().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    place.access.close().await;
    repository.maintain().await.unwrap().release().await;
    // This process lives on, and another one asks.
    let access = match place.kind {
        Kind::Directory => place.access.clone(),
        kind => Place::new(kind).access,
    };
    let other = Repository::open(&place.location, &access).await.unwrap();
    other.maintain().await.unwrap().release().await;
    access.close().await;
}

async fn nobody_prunes_under_a_writer(place: &Place) {
    let repository = place.init().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    place.access.close().await;
    // Another process: its holds are its own.
    let other = match place.kind {
        Kind::Directory => place.open().await,
        kind => {
            let Location::Bucket(address) = &place.location else {
                panic!("a bucket");
            };
            assert_eq!(address.bucket, "lifeboat-tests");
            let access = Place::new(kind).access;
            Repository::open(&place.location, &access).await.unwrap()
        }
    };
    let writer = repository.begin("shop", &id(1)).await.unwrap();
    let busy = other.maintain().await.map(|_| ()).unwrap_err();
    assert_eq!(busy.kind(), Failure::Busy, "{}", busy.chain());
    writer.abandon().await.unwrap();
    place.access.close().await;
    let maintenance = other.maintain().await.unwrap();
    assert!(repository.maintain().await.is_err(), "one at a time");
    drop(maintenance);
}

async fn a_dead_holder_is_taken_over(place: &Place) {
    let repository = place.init().await;
    if place.kind == Kind::Directory {
        // There the kernel lets go for the dead.
        return;
    }
    let _writer = repository.begin("shop", &id(0)).await.unwrap();
    let at = |life| {
        let rhythm = Pace {
            life,
            beat: Duration::from_hours(1),
        };
        place.access.of_another_process(rhythm)
    };
    let patient = at(Duration::from_hours(1));
    let other = Repository::open(&place.location, &patient).await.unwrap();
    assert_eq!(other.maintain().await.unwrap_err().kind(), Failure::Busy);
    // Whoever writes every 30 seconds is dead for one who expects it every second.
    let hasty = at(Duration::from_secs(1));
    let other = Repository::open(&place.location, &hasty).await.unwrap();
    for tries in 0.. {
        match other.maintain().await {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind(), Failure::Busy, "{}", error.chain()),
        }
        assert!(tries < 100, "it is never taken over");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    hasty.close().await;
}

async fn what_was_left_behind_is_swept_after_a_day(place: &Place) {
    let repository = place.init().await;
    back_up(&repository, "shop", &id(0), &three())
        .await
        .unwrap();
    let good = place.keys().await;
    back_up(&repository, "shop", &id(1), &three())
        .await
        .unwrap();
    place.remove(&format!("shop/{}.backup.json", id(1))).await;
    if let Store::Bucket(bucket) = &repository.store {
        // An upload whose writer is killed has no chance to give it up.
        let key = format!("shop/{}/volume/v.tar.zst", id(2));
        let mut sending = Sending::new(bucket.clone(), key);
        for _ in 0..9 {
            let piece = Bytes::from(vec![1; 1 << 20]);
            sending.push(piece).await.unwrap();
        }
        std::mem::forget(sending);
        let left = place.keys().await;
        assert!(left.iter().any(|key| key.contains("uploads/")), "{left:?}");
    }
    place.access.close().await;
    let maintenance = repository.maintain().await.unwrap();
    let now = repository.store.clock().await.unwrap();
    let hours = |hours| now + Duration::from_hours(hours);
    assert!(maintenance.sweep_at(hours(23)).await.unwrap().is_empty());
    let swept = maintenance.sweep_at(hours(25)).await.unwrap();
    assert!(swept.contains(&format!("shop/{}", id(1))), "{swept:?}");
    assert_eq!(place.keys().await, good);
    drop(maintenance);
    place.access.close().await;
    verify(&repository, "shop").await.unwrap();
}

async fn an_upload_that_is_given_up_leaves_nothing(place: &Place) {
    let repository = place.init().await;
    let before = place.keys().await;
    for megabytes in [1, 20] {
        let writer = repository.begin("shop", &id(0)).await.unwrap();
        let mut upload = writer.upload(&name("volume/v"), &[Encoding::Zstd]).unwrap();
        for _ in 0..megabytes {
            upload.write(Bytes::from(vec![7; 1 << 20])).await.unwrap();
        }
        upload.abort().await;
        writer.abandon().await.unwrap();
        assert_eq!(place.keys().await, before);
    }
    assert!(repository.list("shop").await.unwrap().is_empty());
}

async fn large_artifacts_come_back(place: &Place) {
    let repository = place.init().await;
    // Two full parts and a bit, and exactly one part: the two ways of sending, and the edge between them.
    let bytes: Vec<u8> = (0..17_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    for (n, length) in [(0, 17_000_000), (1, 8 << 20), (2, (8 << 20) + 1)] {
        let backup: BackupId = id(n);
        let writer = repository.begin("shop", &backup).await.unwrap();
        let upload = writer.upload(&name("volume/v"), &[Encoding::Zstd]).unwrap();
        let objects = land(upload, &bytes[..length]).await.unwrap();
        assert_eq!(objects.len(), 1);
        let sealed = vec![seal(&name("volume/v"), objects)];
        writer
            .commit(
                manifest("shop", &backup),
                sealed,
                &Facts::default(),
                &json!({}),
                "",
            )
            .await
            .unwrap();
        verify(&repository, "shop").await.unwrap();
    }
    let left = place.keys().await;
    assert!(left.iter().all(|key| !key.contains("uploads")), "{left:?}");
}

async fn a_copy_is_the_backup_and_goes_on_where_it_was(place: &Place) {
    let from = Place::new(Kind::Directory);
    let source = from.init().await;
    back_up(&source, "shop", &id(0), &three()).await.unwrap();
    let entry = source.resolve("latest", None).await.unwrap();
    let backup = source.open_backup(&entry).await.unwrap();
    let repository = place.init().await;
    // What a copy that was cut off has left: one object that is right, and one that is not.
    let folder = format!("shop/{}", id(0));
    let right = format!("{folder}/postgres/postgres/globals.sql.zst");
    place.write(&right, &from.read(&right).await).await;
    place
        .write(&format!("{folder}/volume/empty.tar.zst"), b"wrong")
        .await;
    let copied = repository.copy_in(&backup, |_, _| {}).await.unwrap();
    assert_eq!((copied.kept, copied.sent, copied.existed), (1, 9, false));
    verify(&repository, "shop").await.unwrap();
    for key in from
        .keys()
        .await
        .iter()
        .filter(|key| key.starts_with("shop/"))
    {
        assert_eq!(place.read(key).await, from.read(key).await, "{key}");
    }
    let again = repository.copy_in(&backup, |_, _| {}).await.unwrap();
    assert_eq!((again.kept, again.sent, again.existed), (10, 0, true));
    // A copy that is listed and damaged is not mended in silence.
    place.write(&right, b"wrong").await;
    let error = repository.copy_in(&backup, |_, _| {}).await.unwrap_err();
    assert_eq!(error.kind(), Failure::Damaged, "{}", error.chain());
}

async fn signed_and_encrypted_backups_are_for_those_with_the_keys(place: &Place) {
    use crate::pipeline::{IdentityCollector, Recipients, generate_key};
    use crate::repository::{Keys, Protection, Signer, VerifyingKey, generate_signing_key};
    use secrecy::ExposeSecret;
    let (private, public) = generate_key("now");
    let (stranger, _) = generate_key("now");
    let (secret, verifying) = generate_signing_key().unwrap();
    let (_, other) = generate_signing_key().unwrap();
    let protection = Protection {
        recipients: Some(Recipients::parse(&public).unwrap()),
        hide_names: false,
        signer: Some(Signer::parse(secret.expose(), None).unwrap()),
    };
    let repository = place.init().await.with_protection(protection);
    let writer = repository.begin("shop", &id(0)).await.unwrap();
    let facts = Facts([("volume/v".to_owned(), json!({"canary": "rows"}))].into());
    let upload = writer.upload(&name("volume/v"), &[Encoding::Zstd]).unwrap();
    let sealed = vec![seal(
        &name("volume/v"),
        land(upload, b"bytes").await.unwrap(),
    )];
    assert_eq!(
        sealed[0].artifact().name,
        artifact(&name("volume/v"), Vec::new()).name
    );
    writer
        .commit(
            manifest("shop", &id(0)),
            sealed,
            &facts,
            &json!({"canary": 1}),
            "",
        )
        .await
        .unwrap();
    let folder = format!("shop/{}", id(0));
    let keys = place.keys().await;
    assert!(
        keys.contains(&format!("{folder}/facts.json.zst.age")),
        "{keys:?}"
    );
    assert!(
        keys.contains(&format!("{folder}/stack.json.zst.age")),
        "{keys:?}"
    );
    let holder = |identity: Option<&str>, signed_by: Option<&str>| {
        let mut identities = IdentityCollector::default();
        if let Some(text) = identity {
            identities.add(text, "a test").unwrap();
        }
        let keys = Keys {
            identities: identities.finish(),
            signed_by: signed_by.map(|key| VerifyingKey::parse(key).unwrap()),
        };
        let opened = repository.clone().with_keys(keys);
        async move {
            let entry = opened.resolve("latest", None).await?;
            let backup = opened.open_backup(&entry).await?;
            backup.check_keys(&[]).await?;
            backup.facts().await
        }
    };
    let kind = |read: crate::error::Result<Facts>| read.map_err(|error| error.kind());
    let private = private.expose_secret();
    assert_eq!(
        kind(holder(Some(private), Some(&verifying)).await),
        Ok(facts)
    );
    assert_eq!(kind(holder(None, None).await), Err(Failure::Key));
    assert_eq!(
        kind(holder(Some(stranger.expose_secret()), None).await),
        Err(Failure::Key)
    );
    assert_eq!(
        kind(holder(Some(private), Some(&other)).await),
        Err(Failure::Damaged)
    );
    verify(&repository, "shop").await.unwrap();
    let signature = format!("{folder}/SHA256SUMS.minisig");
    let good = place.read(&signature).await;
    let text = String::from_utf8(good.clone()).unwrap();
    for bad in [
        text.replace("of shop", "of shot"),
        text.replace(id(0).as_str(), id(1).as_str()),
        String::new(),
        "nonsense".to_owned(),
    ] {
        place.write(&signature, bad.as_bytes()).await;
        let read = holder(Some(private), Some(&verifying)).await;
        assert_eq!(kind(read), Err(Failure::Damaged), "{bad}");
    }
    place.remove(&signature).await;
    let read = holder(Some(private), Some(&verifying)).await;
    assert_eq!(kind(read), Err(Failure::Damaged));
    // Without a pinned key a signature is not asked for.
    kind(holder(Some(private), None).await).unwrap();
}

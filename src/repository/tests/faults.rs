//! A store that fails: every kind of fault at every request of a backup, until a run passes without one.

use super::place::{Kind, Place, endpoint, soak};
use super::proxy::{Fault, Proxy, Seen};
use super::{id, land, manifest, name, seal, verify};
use crate::error::Result;
use crate::manifest::{BackupId, Encoding, Facts};
use crate::repository::Repository;
use serde_json::json;

const SLOW_DOWN: &str =
    "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>";
const SKEWED: &str =
    "<Error><Code>RequestTimeTooSkewed</Code><ServerTime>2031-01-02T03:04:05Z</ServerTime></Error>";
const EXPIRED: &str =
    "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>";
const CONFLICT: &str = "<Error><Code>ConditionalRequestConflict</Code></Error>";

/// A backup of one small artifact, and one of two parts.
async fn back_up(repository: &Repository, id: &BackupId, bytes: &[u8]) -> Result<()> {
    let writer = repository.begin("shop", id).await?;
    let mut sealed = Vec::new();
    for (artifact, bytes) in [("redis/cache", &bytes[..1000]), ("volume/v", bytes)] {
        let upload = writer.upload(&name(artifact), &[Encoding::Zstd])?;
        match land(upload, bytes).await {
            Ok(objects) => sealed.push(seal(&name(artifact), objects)),
            Err(error) => {
                // What cannot be removed is swept.
                let _ = writer.abandon().await;
                return Err(error);
            }
        }
    }
    writer
        .commit(
            manifest("shop", id),
            sealed,
            &Facts::default(),
            &json!({}),
            "",
        )
        .await
        .map(|_| ())
}

fn large() -> Vec<u8> {
    (0..9_000_000_u32).map(|n| n.to_le_bytes()[2]).collect()
}

/// Lets the `n`th request of a backup fail, for every `n` until a backup makes fewer requests.
async fn at_every_request(kind: Kind, fault: Fault, must_succeed: bool) {
    let proxy = Proxy::new(&endpoint(kind));
    let mut place = Place::behind(kind, &proxy.url());
    if matches!(fault, Fault::Stall) {
        place = place.patient_with_stalls();
    }
    let repository = place.init().await;
    let bytes = large();
    for n in 1.. {
        let fault = fault.clone();
        proxy.rule(move |seen: &Seen| (seen.number == n).then(|| fault.clone()));
        let id = id(i64::try_from(n).unwrap());
        let done = back_up(&repository, &id, &bytes).await;
        place.access.close().await;
        let last = proxy.seen().len() < n;
        proxy.rule(|_: &Seen| None);
        let listed = repository.list("shop").await.unwrap();
        let listed = listed.iter().any(|entry| entry.id == id);
        if done.is_ok() {
            assert!(listed, "request {n}: it succeeded, and is not listed");
        }
        if let Err(error) = &done {
            assert!(!must_succeed, "request {n}: {}", error.chain());
        }
        if listed {
            // Absent or complete, whatever the run said.
            verify(&repository, "shop").await.unwrap();
        }
        if last {
            assert!(done.is_ok());
            break;
        }
    }
    let left = place.keys().await;
    let parts = left.iter().filter(|key| key.contains("uploads/")).count();
    assert!(!must_succeed || parts == 0, "{left:?}");
    place.clean().await;
}

macro_rules! passing_faults {
    ($($test:ident $kind:ident $fault:expr;)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                at_every_request(Kind::$kind, $fault, true).await;
            }
        )*
    };
}

passing_faults! {
    a_cut_connection_is_passed_over_s3 S3 Fault::Refuse;
    a_cut_connection_is_passed_over_azure Azure Fault::Refuse;
    a_cut_connection_is_passed_over_gcs Gcs Fault::Refuse;
    a_lost_answer_is_no_failure_s3 S3 Fault::LoseAnswer;
    a_lost_answer_is_no_failure_azure Azure Fault::LoseAnswer;
    a_lost_answer_is_no_failure_gcs Gcs Fault::LoseAnswer;
    a_truncated_answer_is_read_again_s3 S3 Fault::Truncate;
    an_internal_error_is_passed_over_s3 S3 Fault::Answer(500, "");
    an_internal_error_is_passed_over_azure Azure Fault::Answer(500, "");
    an_internal_error_is_passed_over_gcs Gcs Fault::Answer(500, "");
    a_store_that_is_busy_is_asked_again_s3 S3 Fault::Answer(503, SLOW_DOWN);
    a_request_that_stalls_is_sent_again_s3 S3 Fault::Stall;
    an_error_after_success_is_no_failure_s3 S3 Fault::AnswerAfter(500, "");
    an_error_after_success_is_no_failure_azure Azure Fault::AnswerAfter(500, "");
    an_error_after_success_is_no_failure_gcs Gcs Fault::AnswerAfter(500, "");
}

#[tokio::test]
async fn a_conflict_after_success_is_never_half_a_backup() {
    at_every_request(Kind::S3, Fault::AnswerAfter(409, CONFLICT), false).await;
}

#[tokio::test]
async fn a_refusal_anywhere_is_never_half_a_backup() {
    for text in [SKEWED, EXPIRED] {
        at_every_request(Kind::S3, Fault::Answer(403, text), false).await;
    }
}

/// A fault that does not go away, from one request on.
async fn from_request(n: usize, fault: Fault) -> crate::error::Error {
    let proxy = Proxy::new(&endpoint(Kind::S3));
    let place = Place::behind(Kind::S3, &proxy.url()).hasty();
    let repository = place.init().await;
    super::back_up(&repository, "shop", &id(0), &super::three())
        .await
        .unwrap();
    proxy.rule(move |seen: &Seen| (seen.number >= n).then(|| fault.clone()));
    let error = back_up(&repository, &id(1), &large()).await.unwrap_err();
    proxy.rule(|_: &Seen| None);
    let listed = repository.list("shop").await.unwrap();
    assert_eq!(
        listed.len(),
        1,
        "what was there before is there, and nothing else"
    );
    verify(&repository, "shop").await.unwrap();
    place.clean().await;
    error
}

#[tokio::test]
async fn a_store_that_stays_away_fails_the_run_in_time() {
    for fault in [Fault::Refuse, Fault::Stall, Fault::Answer(503, SLOW_DOWN)] {
        let error = from_request(8, fault.clone()).await;
        assert_eq!(error.kind().exit_code(), 1, "{fault:?}: {}", error.chain());
    }
}

#[tokio::test]
async fn a_wrong_clock_and_expired_credentials_are_named() {
    let error = from_request(8, Fault::Answer(403, SKEWED)).await;
    assert!(
        error.chain().contains("2031-01-02T03:04:05Z"),
        "{}",
        error.chain()
    );
    assert!(error.hint_text().unwrap().contains("clock"));
    let error = from_request(8, Fault::Answer(403, EXPIRED)).await;
    assert!(
        error.hint_text().unwrap().contains("expired"),
        "{}",
        error.chain()
    );
}

#[tokio::test]
async fn parts_are_equal_and_carry_their_digest() {
    let proxy = Proxy::new(&endpoint(Kind::S3));
    let place = Place::behind(Kind::S3, &proxy.url());
    let repository = place.init().await;
    proxy.rule(|_: &Seen| None);
    back_up(&repository, &id(0), &vec![5; 26 << 20])
        .await
        .unwrap();
    let parts: Vec<Seen> = proxy
        .seen()
        .into_iter()
        .filter(|seen| seen.path.contains("partNumber"))
        .collect();
    let length = |seen: &Seen| {
        let line = seen
            .head
            .lines()
            .find(|line| line.starts_with("content-length:"))
            .unwrap();
        line["content-length:".len()..]
            .trim()
            .parse::<usize>()
            .unwrap()
    };
    let mut lengths: Vec<usize> = parts.iter().map(length).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [2 << 20, 8 << 20, 8 << 20, 8 << 20]);
    assert!(
        parts
            .iter()
            .all(|seen| seen.head.contains("x-amz-checksum-sha256:"))
    );
    place.clean().await;
}

#[tokio::test]
async fn a_store_that_keeps_everything_is_written_to_all_the_same() {
    let denied = "<Error><Code>AccessDenied</Code></Error>";
    let proxy = Proxy::new(&endpoint(Kind::S3));
    let place = Place::behind(Kind::S3, &proxy.url());
    proxy.rule(move |seen: &Seen| (seen.method == "DELETE").then_some(Fault::Answer(403, denied)));
    let repository = place.init().await;
    assert!(!repository.marker().store.as_ref().unwrap().delete);
    back_up(&repository, &id(0), &large()).await.unwrap();
    verify(&repository, "shop").await.unwrap();
    place.access.close().await;
    // What could not be removed says that it is released: a prune does not wait for it.
    let maintenance = repository.maintain().await.unwrap();
    let entry = repository.resolve("latest", None).await.unwrap();
    let retained = maintenance.delete(&entry).await.unwrap();
    assert_eq!(retained, crate::repository::Deletion::Retained);
    drop(maintenance);
    place.access.close().await;
    verify(&repository, "shop").await.unwrap();
    // Where only the commit goes, the backup is gone and what it held is not.
    proxy.rule(move |seen: &Seen| {
        let locked = seen.method == "DELETE" && !seen.path.contains(".backup.json");
        locked.then_some(Fault::Answer(403, denied))
    });
    place.access.close().await;
    let maintenance = repository.maintain().await.unwrap();
    let remains = maintenance.delete(&entry).await.unwrap();
    assert_eq!(remains, crate::repository::Deletion::Remains);
    maintenance.release().await;
    assert!(repository.list("shop").await.unwrap().is_empty());
    proxy.rule(|_: &Seen| None);
    place.clean().await;
}

/// What a removal asks a store for.
async fn requests_of_a_removal(others: i64) -> Vec<String> {
    let proxy = Proxy::new(&endpoint(Kind::S3));
    let place = Place::behind(Kind::S3, &proxy.url());
    let repository = place.init().await;
    for n in 0..=others {
        back_up(&repository, &id(n), &[1; 2000]).await.unwrap();
    }
    place.access.close().await;
    let entry = repository.resolve("latest", None).await.unwrap();
    let maintenance = repository.maintain().await.unwrap();
    proxy.rule(|_: &Seen| None);
    maintenance.delete(&entry).await.unwrap();
    let seen = proxy.seen();
    maintenance.release().await;
    place.clean().await;
    seen.into_iter().map(|seen| seen.method).collect()
}

#[tokio::test]
async fn a_removal_costs_as_much_however_many_others_there_are() {
    let few = requests_of_a_removal(1).await;
    assert!(few.contains(&"DELETE".to_owned()), "{few:?}");
    assert_eq!(few, requests_of_a_removal(12).await);
}

/// Parts that take longer than the pipeline before them: everything waits, nothing is lost, memory does not grow.
#[tokio::test]
async fn a_long_stream_passes_a_throttled_store() {
    let proxy = Proxy::new(&endpoint(Kind::S3));
    let place = Place::behind(Kind::S3, &proxy.url());
    let repository = place.init().await;
    proxy.rule(|seen: &Seen| (seen.method == "PUT").then_some(Fault::Slow(8 << 20)));
    let writer = repository.begin("shop", &id(0)).await.unwrap();
    let mut upload = writer.upload(&name("volume/v"), &[Encoding::Zstd]).unwrap();
    for n in 0..soak(60, 10_000) {
        let piece = vec![n.to_le_bytes()[0]; 1 << 20];
        upload.write(piece.into()).await.unwrap();
    }
    let objects = upload.finish().await.unwrap();
    let sealed = vec![seal(&name("volume/v"), objects)];
    writer
        .commit(
            manifest("shop", &id(0)),
            sealed,
            &Facts::default(),
            &json!({}),
            "",
        )
        .await
        .unwrap();
    verify(&repository, "shop").await.unwrap();
    place.clean().await;
}

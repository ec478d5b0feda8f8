//! What prune must never remove, and when it must not remove anything.

use super::{context, days_ago, keep, keep_last, now};
use crate::support::fabricated::{Fabricated, keys};
use crate::support::server::Place;
use chrono::{DateTime, TimeDelta, Utc};
use lifeboat::error::Kind;
use lifeboat::event::Unobserved;
use lifeboat::operation::prune::{Left, PruneRequest, apply, plan, prune};
use lifeboat::repository::{Access, Location, Repository};
use lifeboat::schedule::Rules;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

type Clock = fn() -> DateTime<Utc>;

async fn open(place: &Place) -> Repository {
    Repository::open(&Location::directory(&place.repository), &Access::default())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_wrong_clock_removes_nothing() {
    let place = Place::new();
    for days in 1..=3 {
        days_ago(days).write(&place.repository);
    }
    let repository = open(&place).await;
    let before = keys(&place.repository);
    let clocks: [(Clock, &str); 4] = [
        (|| now() - TimeDelta::minutes(11), "behind"),
        (|| now() + TimeDelta::minutes(11), "ahead of"),
        (|| now() - TimeDelta::days(4000), "behind"),
        (|| now() + TimeDelta::days(4000), "ahead of"),
    ];
    for (clock, how) in clocks {
        let context = context(place.folder.path(), clock);
        for dry_run in [false, true] {
            let request = PruneRequest {
                dry_run,
                ..keep_last(&repository, 1)
            };
            let refused = prune(&context, &request, &Unobserved).await.unwrap_err();
            assert_eq!(refused.kind(), Kind::Failed);
            assert!(refused.chain().contains(how), "{}", refused.chain());
            assert!(refused.hint_text().unwrap().contains("clock"));
        }
        assert_eq!(keys(&place.repository), before);
    }
    // Within what clocks may differ by, it works.
    let context = context(place.folder.path(), || now() - TimeDelta::minutes(9));
    let report = prune(&context, &keep_last(&repository, 1), &Unobserved).await;
    assert_eq!(report.unwrap().removed.len(), 2);
}

#[tokio::test]
async fn a_backup_of_the_future_lets_nothing_be_removed() {
    let place = Place::new();
    for days in 1..=3 {
        days_ago(days).write(&place.repository);
    }
    let future = Fabricated::new("shop", now() + TimeDelta::hours(1)).write(&place.repository);
    let before = keys(&place.repository);
    let repository = open(&place).await;
    let context = context(place.folder.path(), now);
    let request = keep_last(&repository, 1);
    let refused = prune(&context, &request, &Unobserved).await.unwrap_err();
    assert!(refused.chain().contains(&future), "{}", refused.chain());
    assert!(refused.hint_text().is_some());
    assert_eq!(keys(&place.repository), before);
}

#[tokio::test]
async fn the_last_complete_one_stays_whatever_the_policy_says() {
    let place = Place::new();
    let partial = days_ago(1).partial().write(&place.repository);
    let complete = days_ago(30).write(&place.repository);
    days_ago(31).write(&place.repository);
    days_ago(32).partial().write(&place.repository);
    let repository = open(&place).await;
    let context = context(place.folder.path(), now);
    let rules = Rules {
        within: Some(Duration::from_secs(1)),
        ..Rules::default()
    };
    for removed in [2, 0] {
        let request = keep(&repository, rules.clone());
        let report = prune(&context, &request, &Unobserved).await.unwrap();
        assert_eq!(report.removed.len(), removed);
        let left = place.list();
        assert_eq!(left, [(partial.clone(), false), (complete.clone(), true)]);
    }
}

/// Between the table and the yes another person pins one, and another run makes and removes some.
#[tokio::test]
async fn what_has_changed_since_the_table_counts() {
    let place = Place::new();
    let root = &place.repository;
    let made: Vec<String> = (1..=6).map(|days| days_ago(days).write(root)).collect();
    let repository = open(&place).await;
    let context = context(place.folder.path(), now);
    let planned = plan(&context, &keep_last(&repository, 2), &Unobserved)
        .await
        .unwrap();
    assert_eq!(planned.removals().count(), 4);
    // The table removes all but the first two; both go away, and one of the others is pinned.
    for id in [&made[0], &made[1], &made[5]] {
        fs::remove_file(root.join(format!("shop/{id}.backup.json"))).unwrap();
    }
    place.run(&["pin", &made[4]]).expect_code(0);
    let other = days_ago(20).write(root);
    let report = apply(&context, &repository, &planned, &Unobserved)
        .await
        .unwrap();
    assert_eq!(report.removed, Vec::<String>::new());
    let spared = |id: &String, reason: &str| Left {
        backup: format!("shop/{id}"),
        reason: reason.to_owned(),
    };
    assert_eq!(
        report.spared,
        [
            spared(&made[2], "last 1 of 2, the newest complete one"),
            spared(&made[3], "last 2 of 2"),
            spared(&made[4], "pinned"),
            spared(&made[5], "it is gone already"),
        ]
    );
    let left: Vec<String> = place.list().into_iter().map(|(id, _)| id).collect();
    assert_eq!(
        left,
        [&made[2], &made[3], &made[4], &other].map(Clone::clone)
    );
}

/// Two processes each time: this one, and the program.
#[tokio::test]
async fn readers_and_prunes_keep_out_of_each_others_way() {
    let place = Place::new();
    for days in 1..=3 {
        days_ago(days).write(&place.repository);
    }
    let before = keys(&place.repository);
    let repository = open(&place).await;
    let entry = repository.resolve("latest~2", None).await.unwrap();
    let reading = repository.open_backup(&entry).await.unwrap();
    let prune = ["prune", "--keep-last=1", "--yes"];
    place.run(&prune).expect_code(11).says(&["hint: try again"]);
    assert_eq!(keys(&place.repository), before);
    reading.verify_objects(|_, _| {}).await.unwrap();
    drop(reading);
    // While a prune is at work, whoever wants to read waits, and then reads what is left.
    let pruning = repository.maintain().await.unwrap();
    let mut verify = place.spawn(&["verify", "--all"]);
    pruning.delete(&entry).await.unwrap();
    assert!(verify.runs(), "it waits");
    pruning.release().await;
    let ended = verify.end();
    // It may have listed the one that has gone by now: that is said, and is no damage.
    assert!(
        [Some(0), Some(10)].contains(&ended.code),
        "{}",
        ended.text()
    );
    place.run(&prune).expect_code(0);
    place.run(&["verify", "--all"]).expect_code(0);
    assert_eq!(place.list().len(), 1);
}

#[tokio::test]
async fn a_damaged_backup_is_for_a_person_to_remove() {
    let place = Place::new();
    let root = &place.repository;
    let newest = days_ago(1).write(root);
    let damaged = days_ago(2).write(root);
    let manifest = days_ago(3).tagged("release", "1").write(root);
    fs::write(root.join(format!("shop/{damaged}.backup.json")), "{}\n").unwrap();
    fs::write(root.join(format!("shop/{manifest}/manifest.json")), "{}").unwrap();
    days_ago(4).write(root);
    let repository = open(&place).await;
    let context = context(place.folder.path(), now);
    let rules = Rules {
        last: Some(1),
        tags: vec!["release".to_owned()],
        ..Rules::default()
    };
    let planned = plan(&context, &keep(&repository, rules), &Unobserved)
        .await
        .unwrap();
    let kept: Vec<String> = planned.stacks[0]
        .backups
        .iter()
        .filter(|one| one.decision.keep)
        .map(|one| one.entry.id.to_string())
        .collect();
    assert_eq!(kept, [newest, damaged, manifest]);
    let report = apply(&context, &repository, &planned, &Unobserved).await;
    assert_eq!(report.unwrap().removed.len(), 1);
}

/// Every file of those that stay is the very same file as before, and was not written.
#[tokio::test]
async fn of_two_thousand_only_those_that_go_are_touched() {
    let place = Place::new();
    let root = &place.repository;
    for hours in 0..2000 {
        let started = now() - TimeDelta::hours(hours) - TimeDelta::minutes(1);
        Fabricated::new("shop", started).write_commit(root);
    }
    let state = || -> BTreeMap<String, (u64, i64, i64)> {
        let of = |key: String| {
            let metadata = fs::metadata(root.join(&key)).unwrap();
            (
                key,
                (metadata.ino(), metadata.ctime(), metadata.ctime_nsec()),
            )
        };
        keys(root).into_iter().map(of).collect()
    };
    let before = state();
    let repository = open(&place).await;
    let context = context(place.folder.path(), now);
    let request = keep_last(&repository, 1980);
    let report = prune(&context, &request, &Unobserved).await.unwrap();
    assert_eq!((report.removed.len(), report.kept), (20, 1980));
    let after = state();
    assert_eq!(after.len(), before.len() - 20);
    assert!(after.iter().all(|(key, was)| before[key] == *was));
}

//! `lifeboat prune` as a person or a script runs it.

use super::days_ago;
use crate::support::fabricated::{Fabricated, age, keys};
use crate::support::server::{Place, Server};
use serde_json::Value;
use std::fs;
use std::time::Duration;

/// The ids of a stack's backups that the result keeps, or removes.
fn decided(result: &Value, keep: bool) -> Vec<String> {
    let stacks = result["stacks"].as_array().unwrap();
    let backups = stacks
        .iter()
        .flat_map(|stack| stack["backups"].as_array().unwrap());
    backups
        .filter(|backup| backup["keep"] == keep)
        .map(|backup| backup["backup"].as_str().unwrap().to_owned())
        .collect()
}

fn ids(place: &Place) -> Vec<String> {
    place.list().into_iter().map(|(id, _)| id).collect()
}

#[test]
fn exactly_what_the_table_removes_goes() {
    let place = Place::new();
    let root = &place.repository;
    let newest = days_ago(1).write(root);
    let partial = days_ago(2).partial().write(root);
    let second = days_ago(3).write(root);
    let pinned = days_ago(4).write(root);
    let tagged = days_ago(5).tagged("release", "1.4").write(root);
    let old = days_ago(6).write(root);
    let redis = days_ago(7).only("redis").write(root);
    place.run(&["pin", &pinned]).expect_code(0);
    let arguments = ["prune", "shop", "--keep-last=2", "--keep-tag=release"];
    let before = keys(root);
    let planned = place
        .run(&[&arguments[..], &["--dry-run", "--json"]].concat())
        .expect_code(0)
        .json();
    assert_eq!(keys(root), before, "a dry run changes nothing");
    assert_eq!(decided(&planned, false), [partial.clone(), old.clone()]);
    assert_eq!(
        decided(&planned, true),
        [&newest, &second, &pinned, &tagged, &redis].map(Clone::clone)
    );
    // No terminal, and nobody has said yes: nothing goes, and the table was shown.
    place.run(&arguments).expect_code(2).says(&[
        "no rule keeps it",
        "last 2 of 2",
        "tag release",
        "--yes",
    ]);
    assert_eq!(keys(root), before);
    let pruned = place
        .run(&[&arguments[..], &["--yes", "--json"]].concat())
        .expect_code(0)
        .json();
    assert_eq!(
        pruned["removed"],
        serde_json::json!([format!("shop/{partial}"), format!("shop/{old}")])
    );
    assert_eq!((&pruned["kept"], &pruned["freed"]), (&5.into(), &80.into()));
    let gone = |key: &String| key.contains(&partial) || key.contains(&old);
    let expected: Vec<String> = before.into_iter().filter(|key| !gone(key)).collect();
    assert_eq!(keys(root), expected);
    place.run(&["verify", "--all"]).expect_code(0);
    // Once more, there is nothing to ask about.
    let again = place.run(&arguments).expect_code(0);
    again.says(&["removed nothing, 5 backups kept"]);
    assert_eq!(keys(root), expected);
}

#[test]
fn without_a_rule_everything_is_kept_and_said_to_be() {
    let place = Place::new();
    days_ago(1).write(&place.repository);
    days_ago(2).write(&place.repository);
    let before = keys(&place.repository);
    for (arguments, words) in [
        (&[][..], "nothing says what to keep"),
        (&["shop"][..], "nothing says what to keep of shop"),
        (&["--keep-min=1"][..], "least number"),
        (&["--schedule=nightly"][..], "no schedule \"nightly\""),
        (&["--keep-last=0"][..], "0 is not in"),
        (&["--keep-within=2"][..], "time unit needed"),
        (
            &["--keep-last=1", "--schedule=nightly"][..],
            "cannot be used with",
        ),
    ] {
        let all = [&["prune", "--yes"], arguments].concat();
        place.run(&all).expect_code(2).says(&[words]);
    }
    place
        .run(&["prune", "shopp", "--keep-last=1", "--yes"])
        .expect_code(10)
        .says(&["did you mean shop?"]);
    assert_eq!(keys(&place.repository), before);
}

#[test]
fn what_any_schedule_of_the_stack_keeps_there_is_kept() {
    let place = Place::new();
    let root = &place.repository;
    let schedules = place.folder.path().join("schedules");
    fs::create_dir(&schedules).unwrap();
    let write = |name: &str, text: &str| {
        let head = "cron = \"0 2 * * *\"\n";
        fs::write(schedules.join(name), format!("{head}{text}")).unwrap();
    };
    place.configure(&format!(
        "[repository.local]\nurl = \"{}\"\n[repository.offsite]\nurl = \"/elsewhere\"\n",
        root.display()
    ));
    write(
        "often.toml",
        "stack = \"shop\"\nrepositories = [\"local\"]\n[keep]\nlast = 1\n",
    );
    write("daily.toml", "stack = \"shop\"\n[keep]\ndaily = 3\n");
    write(
        "offsite.toml",
        "stack = \"shop\"\nrepositories = [\"offsite\"]\n[keep]\nlast = 99\n",
    );
    write("migration.toml", "stack = \"shop\"\npin = true\n");
    let mut made: Vec<String> = (1..=5).map(|days| days_ago(days).write(root)).collect();
    let elsewhere = Fabricated::new("wiki", days_ago(9).started).write(root);
    let planned = place
        .run(&["prune", "--dry-run", "--json"])
        .expect_code(0)
        .json();
    let (kept, removed) = (decided(&planned, true), decided(&planned, false));
    assert_eq!(removed, made.split_off(3));
    assert_eq!(kept, [made.clone(), vec![elsewhere]].concat());
    let text = place.run(&["prune", "--dry-run"]).expect_code(0);
    text.says(&[
        "daily: daily",
        "often: last 1 of 1",
        "wiki: 1 backup, and no rule",
    ]);
    // One alone, as asked; and the others are said not to count.
    let alone = place.run(&["prune", "--schedule=often", "--dry-run", "--json"]);
    let alone = alone.says(&["daily, offsite"]).expect_code(0).json();
    assert_eq!(decided(&alone, true), made[..1]);
    // What cannot be read may keep something, too.
    write("broken.toml", "stak = \"shop\"\n");
    let before = keys(root);
    place
        .run(&["prune", "--yes"])
        .expect_code(2)
        .says(&["broken.toml", "unknown field"]);
    assert_eq!(keys(root), before);
}

#[test]
fn nothing_is_removed_under_a_backup_that_is_being_written() {
    let (server, place) = (Server::start("prune"), Place::new());
    server.fill(10);
    let stack = &server.stack;
    let old: Vec<String> = (1..=3)
        .map(|days| Fabricated::new(stack, days_ago(days).started).write(&place.repository))
        .collect();
    let held = server.lock_table("items");
    let backup = place.spawn(&["backup", stack]);
    server.dump_waits();
    let prune = ["prune", stack, "--keep-last=1", "--yes", "--json"];
    let busy = place.run(&prune).expect_code(11).json();
    assert!(
        busy["message"]
            .as_str()
            .unwrap()
            .contains("nothing was removed"),
        "{busy}"
    );
    assert!(busy["hint"].as_str().unwrap().contains("again"), "{busy}");
    assert_eq!(ids(&place), old);
    drop(held);
    backup.end().expect_code(0);
    let pruned = place.run(&prune).expect_code(0).json();
    assert_eq!(pruned["removed"].as_array().unwrap().len(), 3);
    assert_eq!(ids(&place).len(), 1);
    place.run(&["verify", "--deep"]).expect_code(0);
}

#[test]
fn a_prune_that_is_killed_is_finished_by_the_next() {
    let place = Place::new();
    let root = &place.repository;
    let mut made: Vec<String> = (1..=60).map(|days| days_ago(days).write(root)).collect();
    age(&root.join("shop"), Duration::from_hours(72));
    let removed = made.split_off(5);
    let prune = ["prune", "--keep-last=5", "--yes"];
    let mut running = place.spawn(&prune);
    for id in &removed[..7] {
        running.line_with(id);
    }
    running.kill();
    let left = ids(&place);
    assert!(left.len() > 5 && left.len() < 60, "{} are left", left.len());
    assert_eq!(left[..5], made);
    place.run(&["verify", "--all"]).expect_code(0);
    place.run(&prune).expect_code(0);
    assert_eq!(ids(&place), made);
    let strangers: Vec<String> = keys(root)
        .into_iter()
        .filter(|key| key.starts_with("shop/") && !made.iter().any(|id| key.contains(id)))
        .collect();
    assert_eq!(strangers, Vec::<String>::new());
    place.run(&["verify", "--all"]).expect_code(0);
}

//! Two runs on one stack.

use crate::support::server::{Place, Server, wait_for};

#[test]
fn of_two_runs_on_one_stack_the_second_is_busy_or_waits() {
    let (server, place, elsewhere) = (Server::start("two"), Place::new(), Place::new());
    server.fill(10);
    let held = server.lock_table("items");
    let first = place.spawn(&["backup", &server.stack]);
    let run = server.dump_waits();
    let run = run.strip_prefix("lifeboat-").unwrap();
    // Another state folder and another repository: the engine is all that they share.
    let busy = elsewhere
        .run(&["backup", &server.stack, "--json"])
        .expect_code(11);
    let error = busy.json();
    assert_eq!(error["kind"], "busy");
    let message = error["message"].to_string();
    assert!(
        message.contains(run) && message.contains("backup"),
        "{message}"
    );
    assert!(!error["hint"].is_null(), "{error}");
    elsewhere
        .run(&["rollback", &server.stack, "--yes"])
        .expect_code(11);
    assert_eq!(elsewhere.list(), []);
    elsewhere
        .run(&["backup", &server.stack, "--wait=1"])
        .expect_code(11);
    let mut waiting = elsewhere.spawn(&["backup", &server.stack, "--wait"]);
    // It has seen the lock, and waits.
    wait_for("it connects", || waiting.runs());
    drop(held);
    first.end().expect_code(0);
    waiting.line_with("run_started");
    waiting.end().expect_code(0);
    assert_eq!((place.list().len(), elsewhere.list().len()), (1, 1));
    assert_eq!(server.locks(), 0);
}

#[test]
fn a_dry_run_needs_no_lock_and_changes_nothing() {
    let (server, place) = (Server::start("dry"), Place::new());
    server.fill(10);
    let before = place.files();
    let held = server.lock_table("items");
    let first = place.spawn(&["backup", &server.stack]);
    server.dump_waits();
    let during = place.files();
    place
        .run(&["backup", &server.stack, "--dry-run"])
        .expect_code(0)
        .says(&["capture postgres/postgres/db/app"]);
    assert_eq!(place.files(), during);
    first.signal("INT");
    first.end().expect_code(130);
    drop(held);
    assert_eq!(place.files(), before);
}

#[test]
fn the_lock_of_a_killed_run_is_taken_over_by_one_of_many() {
    let (server, place) = (Server::start("stale"), Place::new());
    server.fill(10);
    let held = server.lock_table("items");
    let run = place.spawn(&["backup", &server.stack]);
    server.dump_waits();
    run.kill();
    assert_eq!(server.locks(), 1, "the killed run's lock is still there");
    let mut rivals: Vec<_> = (0..3)
        .map(|_| place.spawn(&["backup", &server.stack]))
        .collect();
    // While the table is locked, whoever got the lock holds it, so that the others are refused.
    server.dump_waits();
    wait_for("all but one are refused", || {
        rivals
            .iter_mut()
            .map(|rival| usize::from(rival.runs()))
            .sum::<usize>()
            == 1
    });
    drop(held);
    let mut codes: Vec<_> = rivals.into_iter().map(|rival| rival.end().code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(11), Some(11)]);
    assert_eq!(place.list().len(), 1);
    assert_eq!(server.locks(), 0);
}

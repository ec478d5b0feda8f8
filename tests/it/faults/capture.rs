//! Faults while a stack is captured.

use crate::support::server::{IMAGE, Place, Server, docker, wait_for};
use crate::support::soak;

/// After a kill: what is listed is complete, and every byte is right.
#[track_caller]
fn absent_or_complete(place: &Place) {
    let listed = place.list();
    assert!(listed.iter().all(|(_, complete)| *complete), "{listed:?}");
    place.run(&["verify", "--all"]).expect_code(0);
}

/// The next backup works, and nothing of the dead run is left on the engine or the server.
#[track_caller]
fn next_backup_works(place: &Place, server: &Server) {
    let before = place.list().len();
    place.run(&["backup", &server.stack]).expect_code(0);
    assert_eq!(place.list().len(), before + 1);
    absent_or_complete(place);
    assert_eq!(server.locks(), 0);
    wait_for("the sessions end", || server.sessions().is_empty());
    assert!(
        !server.processes().contains("pg_dump"),
        "{}",
        server.processes()
    );
}

#[test]
fn a_backup_that_is_killed_after_any_event_is_absent_or_complete() {
    let (server, place) = (Server::start("killed"), Place::new());
    server.fill(4000);
    for _ in 0..soak(1, 100) {
        kill_after_each_event(&server, &place);
    }
    next_backup_works(&place, &server);
}

/// Kills one run after its first event, one after its second, and so on, until one ends by itself.
fn kill_after_each_event(server: &Server, place: &Place) {
    let mut stage = 0;
    let mut killed_at_commit = false;
    loop {
        let mut run = place.spawn(&["backup", &server.stack]);
        let mut line = None;
        for _ in 0..=stage {
            line = run.line();
        }
        let Some(line) = line else {
            // It had ended by itself: there are no more events to be killed after.
            run.end().expect_code(0);
            break;
        };
        killed_at_commit |= line.to_string().contains("commit the backup");
        run.kill();
        absent_or_complete(place);
        stage += 1;
    }
    assert!(killed_at_commit && stage > 9, "{stage}");
}

#[test]
fn a_backup_that_is_killed_as_soon_as_it_has_the_lock_or_an_object_is_absent() {
    let (server, place) = (Server::start("early"), Place::new());
    server.fill(4000);
    let run = place.spawn(&["backup", &server.stack]);
    wait_for("it has the lock", || server.locks() > 0);
    run.kill();
    assert_eq!(place.list(), []);
    let empty = place.files();
    let run = place.spawn(&["backup", &server.stack]);
    let object = |path: &std::path::PathBuf| path.to_string_lossy().contains("globals");
    wait_for("it has an object", || place.files().iter().any(object));
    run.kill();
    assert_ne!(place.files(), empty);
    absent_or_complete(&place);
    next_backup_works(&place, &server);
}

#[test]
fn a_backup_that_is_killed_in_mid_dump_leaves_nothing_that_the_next_does_not_clear() {
    let (server, place) = (Server::start("mid"), Place::new());
    server.fill(100);
    let held = server.lock_table("items");
    let run = place.spawn(&["backup", &server.stack]);
    let dead = server.dump_waits();
    run.kill();
    assert_eq!(place.list(), []);
    assert_eq!(server.locks(), 1);
    // The dead run's sessions end although the table is locked on, so it is the next run that ends them.
    let next = place.spawn(&["backup", &server.stack]);
    wait_for("the dead run's sessions are ended", || {
        let sessions = server.sessions();
        !sessions.is_empty() && !sessions.contains(&dead)
    });
    drop(held);
    next.end().expect_code(0);
    next_backup_works(&place, &server);
}

#[test]
fn an_interrupted_backup_takes_everything_back() {
    let (server, place) = (Server::start("signals"), Place::new());
    server.fill(100);
    place.run(&["backup", &server.stack]).expect_code(0);
    let before = place.files();
    let _held = server.lock_table("items");
    for signal in ["INT", "TERM"] {
        let run = place.spawn(&["backup", &server.stack]);
        server.dump_waits();
        run.signal(signal);
        let ended = run.end().expect_code(130);
        assert_eq!(ended.json()["kind"], "interrupted");
        assert_eq!(place.files(), before, "{signal}");
        assert_eq!(server.locks(), 0, "{signal}");
        wait_for("the sessions end", || server.sessions().is_empty());
        wait_for("pg_dump ends", || !server.processes().contains("pg_dump"));
    }
    assert_eq!(place.list().len(), 1);
}

/// A backup whose dump waits for a lock, until `fault` has been done to the server; it has to fail.
#[track_caller]
fn fails_under(what: &str, fault: impl FnOnce(&Server)) -> crate::support::server::Ran {
    let (server, place) = (Server::start(what), Place::new());
    server.fill(100);
    let before = place.files();
    let held = server.lock_table("items");
    let run = place.spawn(&["backup", &server.stack]);
    server.dump_waits();
    fault(&server);
    drop(held);
    let ended = run.end().expect_code(1);
    assert_eq!(ended.json()["kind"], "failed");
    assert_eq!(place.list(), []);
    assert_eq!(place.files(), before);
    assert_eq!(server.locks(), 0);
    ended
}

#[test]
fn a_container_that_is_killed_or_stopped_in_mid_dump_is_a_failure() {
    fails_under("die", |server| {
        drop(docker(&["kill", &server.id]));
    })
    .says(&["postgres/postgres/db/app"]);
    fails_under("stop", |server| {
        drop(docker(&["stop", "-t", "5", &server.id]));
    })
    .says(&["postgres/postgres/db/app"]);
}

#[test]
fn a_compressor_that_is_killed_in_mid_dump_is_a_failure() {
    let kill = "for d in /proc/[0-9]*; do read -r c <$d/comm && [ \"$c\" = zstd ] && kill -9 ${d#/proc/} && echo killed; done; true";
    fails_under("zstd", |server| {
        let killed = server.exec(&["sh", "-c", kill]).stdout;
        assert_eq!(killed, b"killed\n");
    })
    .says(&["zstd"]);
}

#[test]
fn a_dump_whose_session_is_ended_fails_with_its_own_words() {
    fails_under("terminated", |server| {
        server.sql(
            "postgres",
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where application_name like 'lifeboat-%' and wait_event_type = 'Lock'",
        );
    })
    .says(&["pg_dump", "administrator command"]);
}

#[test]
fn a_program_that_is_missing_is_named() {
    let (server, place) = (Server::start("missing"), Place::new());
    let before = place.files();
    let remove = |names: &str| {
        let code = format!(
            "for n in {names}; do rm -f /usr/bin/$n /usr/local/bin/$n /usr/lib/postgresql/*/bin/$n; done"
        );
        docker(&["exec", "-u", "root", &server.id, "sh", "-c", &code]);
    };
    let fails = |parts: &[&str]| {
        place
            .run(&["backup", &server.stack])
            .expect_code(1)
            .says(parts);
        assert_eq!(place.list(), []);
        assert_eq!(place.files(), before);
        assert_eq!(server.locks(), 0);
    };
    remove("pg_dump");
    fails(&["pg_dump", "postgres"]);
    remove("pg_isready psql");
    fails(&["service postgres has no pg_isready", IMAGE]);
    docker(&[
        "exec",
        "-u",
        "root",
        &server.id,
        "rm",
        "-f",
        "/bin/sh",
        "/usr/bin/sh",
    ]);
    fails(&["no `sh`"]);
}

#[test]
fn a_label_on_something_else_does_not_make_it_a_database() {
    let options = [
        "--label",
        "lifeboat.source=postgres",
        "--entrypoint",
        "sleep",
    ];
    let other = Server::create("other", "lifeboat-lab/postgres:15-bare", &options, &["600"]);
    let remove =
        "rm -f /usr/bin/pg_* /usr/bin/psql /usr/local/bin/pg_* /usr/lib/postgresql/*/bin/*";
    docker(&["exec", "-u", "root", &other.id, "sh", "-c", remove]);
    let place = Place::new();
    let before = place.files();
    place.run(&["backup", &other.stack]).expect_code(1).says(&[
        "service postgres has no pg_isready",
        "is this a PostgreSQL image?",
    ]);
    assert_eq!(place.files(), before);
}

fn config(server: &Server, lines: &str) -> String {
    format!("[stack.{}.postgres.postgres]\n{lines}\n", server.stack)
}

#[test]
fn a_role_that_does_not_exist_is_named_before_anything_is_written() {
    let (server, place) = (Server::start("role"), Place::new());
    let before = place.files();
    place.configure(&config(&server, "user = \"ghost\""));
    place.run(&["backup", &server.stack]).expect_code(1).says(&[
        "service postgres",
        "ghost",
        "does not exist",
        "lifeboat.toml",
    ]);
    assert_eq!(place.files(), before);
    assert_eq!(server.locks(), 0);
}

#[test]
fn a_wrong_password_is_said_with_its_service_and_role() {
    let options = [
        "-e",
        "POSTGRES_PASSWORD=for-tests",
        "-e",
        "POSTGRES_INITDB_ARGS=--auth-local=scram-sha-256 --auth-host=scram-sha-256",
    ];
    // The entrypoint's own temporary server needs the password as well.
    let options = [&options[..], &["-e", "PGPASSWORD=for-tests"]].concat();
    let server = Server::with("password", IMAGE, &options);
    let mut place = Place::new();
    place.run(&["backup", &server.stack]).expect_code(0);
    let before = place.files();
    place.configure(&config(&server, "password = { env = \"WRONG\" }"));
    place
        .env
        .insert("WRONG".to_owned(), "not-the-password".to_owned());
    let ran = place.run(&["backup", &server.stack]).expect_code(1).says(&[
        "service postgres",
        "role \"postgres\"",
        "password authentication failed",
        "lifeboat.toml",
    ]);
    assert!(!ran.text().contains("not-the-password"));
    assert_eq!(place.files(), before);
}

/// A server with a role `saver` that may read all but one table of the database `closed`.
fn with_a_closed_table(what: &str) -> (Server, Place) {
    let (server, place) = (Server::start(what), Place::new());
    server.fill(10);
    server.sql(
        "postgres",
        "create role saver login; grant pg_read_all_data to saver; create database closed",
    );
    server.sql(
        "closed",
        "create table open_one (n int); create table hidden (n int); insert into hidden values (1)",
    );
    server.sql("postgres", "revoke pg_read_all_data from saver");
    server.sql("app", "grant select on items to saver");
    server.sql("closed", "grant select on open_one to saver");
    place.configure(&config(&server, "user = \"saver\""));
    (server, place)
}

#[test]
fn a_table_that_may_not_be_read_is_named_and_fails_the_backup() {
    let (server, place) = with_a_closed_table("privilege");
    place.run(&["backup", &server.stack]).expect_code(1).says(&[
        "closed",
        "hidden",
        "permission denied",
    ]);
    assert_eq!(place.list(), []);
}

#[test]
fn a_partial_backup_is_made_only_when_allowed_and_says_so() {
    let (server, place) = with_a_closed_table("partial");
    let ran = place
        .run(&["backup", &server.stack, "--allow-partial", "--json"])
        .expect_code(3);
    let report = ran.json();
    assert_eq!(report["complete"], false);
    let missing = report["missing"].to_string();
    assert!(
        missing.contains("postgres/postgres/db/closed") && missing.contains("hidden"),
        "{missing}"
    );
    let id = report["backup"].as_str().unwrap().to_owned();
    assert_eq!(place.list(), [(id, false)]);
    place.run(&["list"]).expect_code(0).says(&["partial"]);
    place
        .run(&["show", "latest"])
        .expect_code(0)
        .says(&["hidden"]);
    place.run(&["verify", "--all"]).expect_code(0);
}

#[test]
fn a_backup_of_less_than_half_the_size_warns() {
    let (server, place) = (Server::start("half"), Place::new());
    server.fill(500);
    place.run(&["backup", &server.stack]).expect_code(0);
    let again = place.run(&["backup", &server.stack]).expect_code(0);
    assert!(!again.text().contains("less than half"), "{}", again.text());
    server.sql("app", "delete from items where id > 10");
    place.run(&["backup", &server.stack]).expect_code(0).says(&[
        "\"warn\"",
        "postgres/postgres/db/app",
        "less than half",
    ]);
    place
        .run(&["show", "latest"])
        .expect_code(0)
        .says(&["less than half"]);
}

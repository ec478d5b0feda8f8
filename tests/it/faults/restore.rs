//! Faults while a stack is restored: what serves goes on serving.

use crate::support::server::{Place, Server, wait_for};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// An application that connects again and again: each time it writes a row and reads the marker, in one statement.
struct Application {
    child: Child,
    reader: Option<JoinHandle<()>>,
    /// `marker|row`, for each write that was acknowledged.
    seen: Arc<Mutex<Vec<String>>>,
}

const LOOP: &str = r#"
n=$1
rm -f /tmp/stop
while [ ! -e /tmp/stop ]; do
  n=$((n + 1))
  psql -XtAq -U postgres -d app -c "with w as (insert into writes values ($n) returning n) select (select text from marker), n from w" 2>/dev/null
done"#;

impl Application {
    fn start(server: &Server, first: u32) -> Self {
        let mut child = Command::new("docker")
            .args([
                "exec",
                &server.id,
                "bash",
                "-c",
                LOOP,
                "application",
                &first.to_string(),
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        let reader = std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                shared.lock().unwrap().push(line);
            }
        });
        Self {
            child,
            reader: Some(reader),
            seen,
        }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until it has read `marker` some more times.
    fn sees(&self, marker: &str) {
        let before = self.seen().len();
        wait_for("the application sees the marker", || {
            let seen = self.seen();
            seen[before..]
                .iter()
                .filter(|line| line.starts_with(marker))
                .count()
                > 3
        });
    }

    fn stop(mut self, server: &Server) -> Vec<String> {
        // It ends by itself: an orphan that is killed looks like a crash to the server, which is process 1.
        server.exec(&["touch", "/tmp/stop"]);
        self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        self.seen()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `new` is in the backup, `old` is what serves: an application's table in both.
fn with_a_backup(what: &str) -> (Server, Place) {
    let (server, place) = (Server::start(what), Place::new());
    server.fill(2000);
    server.sql("app", "create table marker (text text); insert into marker values ('new'); create table writes (n int primary key)");
    place.run(&["backup", &server.stack]).expect_code(0);
    server.sql("app", "update marker set text = 'old'");
    (server, place)
}

fn databases(server: &Server) -> Vec<String> {
    server
        .sql(
            "postgres",
            "select datname from pg_database where datallowconn order by 1",
        )
        .lines()
        .map(str::to_owned)
        .collect()
}

const UNTOUCHED: [&str; 3] = ["app", "postgres", "template1"];

fn marker(server: &Server) -> String {
    server.sql("app", "select text from marker")
}

const RESTORE: [&str; 6] = [
    "restore",
    "latest",
    "--in-place",
    "--yes",
    "--only",
    "postgres/postgres/db/app",
];

/// The rows of a table that the application was told are written.
fn rows<'a>(seen: impl Iterator<Item = &'a String>) -> Vec<String> {
    seen.map(|line| line.split_once('|').unwrap().1.to_owned())
        .collect()
}

#[test]
fn an_application_sees_the_old_or_the_new_database_and_rollback_brings_the_old_one_back() {
    let (server, place) = with_a_backup("live");
    let application = Application::start(&server, 0);
    application.sees("old");
    let report = place
        .run(&[&RESTORE[..], &["--json"]].concat())
        .expect_code(0)
        .json();
    assert_eq!(report["kept"][0]["database"], "app");
    application.sees("new");
    let seen = application.stop(&server);
    let switched = seen
        .iter()
        .position(|line| line.starts_with("new"))
        .unwrap();
    let (old, new) = seen.split_at(switched);
    assert!(old.iter().all(|line| line.starts_with("old|")), "{seen:?}");
    assert!(new.iter().all(|line| line.starts_with("new|")), "{seen:?}");
    assert_eq!(databases(&server).len(), UNTOUCHED.len() + 1);

    let application = Application::start(&server, 1_000_000);
    application.sees("new");
    place
        .run(&["rollback", &server.stack, "--yes"])
        .expect_code(0);
    application.sees("old");
    let after = application.stop(&server);
    let kept = server.sql("app", "select n from writes order by n");
    let kept: Vec<&str> = kept.lines().collect();
    for row in rows(old.iter()) {
        assert!(kept.contains(&row.as_str()), "the row {row} was lost");
    }
    // What was written to the restored database is aside, not lost.
    let aside = databases(&server)
        .into_iter()
        .find(|name| name.contains("_undone_"))
        .unwrap();
    let undone = server.sql(&aside, "select n from writes order by n");
    for row in rows(
        new.iter()
            .chain(after.iter().filter(|line| line.starts_with("new|"))),
    ) {
        assert!(
            undone.lines().any(|line| line == row),
            "the row {row} was lost"
        );
    }
    place
        .run(&["rollback", &server.stack, "--discard", "--yes"])
        .expect_code(0);
    assert_eq!(databases(&server), UNTOUCHED);
    assert_eq!(marker(&server), "old");
    place
        .run(&["rollback", &server.stack, "--yes"])
        .expect_code(10);
}

#[test]
fn a_restore_that_is_killed_after_any_step_leaves_the_old_database_or_the_whole_new_one() {
    let (server, place) = with_a_backup("killed");
    let mut stage = 0;
    let mut killed_in_load = false;
    loop {
        let mut run = place.spawn(&RESTORE);
        let mut line = None;
        for _ in 0..=stage {
            line = run.line();
        }
        let Some(line) = line else {
            run.end().expect_code(0);
            break;
        };
        let line = line.to_string();
        killed_in_load |= line.contains("artifact_started");
        run.kill();
        // A swap that was asked for is the server's to finish or to take back.
        wait_for("no swap is at work", || {
            let active = "select count(*) from pg_stat_activity where application_name like 'lifeboat-%' and query like 'begin;%rename%' and state <> 'idle'";
            server.sql("postgres", active) == "0"
        });
        let found = marker(&server);
        if line.contains("swap: ") || line.contains("\"message_type\":\"restore\"") {
            assert!(found == "old" || found == "new", "{found}");
        } else {
            assert_eq!(found, "old", "after {line}");
        }
        assert_eq!(server.sql("app", "select count(*) from items"), "2000");
        if found == "new" {
            place
                .run(&["rollback", &server.stack, "--yes"])
                .expect_code(0);
            assert_eq!(marker(&server), "old");
            place
                .run(&["rollback", &server.stack, "--yes", "--discard"])
                .expect_code(0);
        }
        stage += 1;
    }
    assert!(killed_in_load && stage > 6, "{stage}");
    assert_eq!(marker(&server), "new");
    // The last restore cleared what the killed ones had left.
    let left: Vec<_> = databases(&server)
        .into_iter()
        .filter(|name| name.contains("_restoring_"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(databases(&server).len(), UNTOUCHED.len() + 1);
    assert_eq!(server.locks(), 0);
    wait_for("the sessions end", || server.sessions().is_empty());
}

#[test]
fn an_interrupted_restore_drops_what_it_had_made() {
    let (server, place) = with_a_backup("interrupted");
    // Every COPY waits until it is let go, so that the signal comes in the middle of the load.
    for signal in ["INT", "TERM"] {
        let mut run = place.spawn(&RESTORE);
        run.line_with("artifact_started");
        run.signal(signal);
        let ended = run.end();
        assert_eq!(ended.code, Some(130), "{}", ended.text());
        assert_eq!(databases(&server), UNTOUCHED, "{signal}");
        assert_eq!(marker(&server), "old");
        assert_eq!(server.locks(), 0);
        wait_for("the sessions end", || server.sessions().is_empty());
        assert!(!server.processes().contains("pg_restore"));
    }
}

#[test]
fn a_restore_whose_load_fails_drops_its_database_and_says_why() {
    let (server, place) = with_a_backup("load");
    server.sql(
        "postgres",
        "create role mortal login createdb; alter database app owner to mortal",
    );
    // The role of the dump's objects may not be made by this one: pg_restore stops at `ALTER … OWNER`.
    place.configure(&format!(
        "[stack.{}.postgres.postgres]\nuser = \"mortal\"\n",
        server.stack
    ));
    let ran = place
        .run(&[&RESTORE[..], &["--json"]].concat())
        .expect_code(1);
    assert_eq!(ran.json()["kind"], "failed");
    assert_eq!(databases(&server), UNTOUCHED);
    assert_eq!(marker(&server), "old");
    assert_eq!(server.locks(), 0);
}

#[test]
fn a_container_that_is_killed_in_mid_restore_comes_back_with_the_old_database() {
    let (server, place) = with_a_backup("die");
    let mut run = place.spawn(&RESTORE);
    run.line_with("artifact_started");
    crate::support::server::docker(&["kill", &server.id]);
    run.end().expect_code(1);
    crate::support::server::docker(&["start", &server.id]);
    wait_for("the server is back", || {
        server
            .exec(&["pg_isready", "-q", "-h", "127.0.0.1"])
            .status
            .success()
    });
    assert_eq!(marker(&server), "old");
    place.run(&RESTORE).expect_code(0);
    assert_eq!(marker(&server), "new");
    assert!(
        !databases(&server)
            .iter()
            .any(|name| name.contains("_restoring_"))
    );
}

#[test]
fn restoring_under_a_name_that_is_taken_is_refused() {
    let (server, place) = with_a_backup("taken");
    place
        .run(&[
            "restore", "latest", "--as", "postgres", "--only", "app", "--yes",
        ])
        .expect_code(2)
        .says(&["\"postgres\" already", "choose another name"]);
    assert_eq!(databases(&server), UNTOUCHED);
    place
        .run(&["restore", "latest", "--as", "again", "--only", "app"])
        .expect_code(0);
    assert_eq!(server.sql("again", "select text from marker"), "new");
    assert_eq!(marker(&server), "old");
}

//! `lifeboat schedule` and `lifeboat daemon`: real runs against a real server. What months of nights do is tested
//! beside the daemon, with a clock that is moved.

use crate::support::receiver::Receiver;
use crate::support::server::{Place, Ran, Server, docker, ran, until, wait_for};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// A place with the repositories `local` and `second`, and a schedule `nightly` of `stack` to `local`.
fn place(stack: &str, more: &str) -> Place {
    let mut place = Place::without_repository();
    let root = place.folder.path().to_owned();
    place.repository = root.join("repository");
    place.configure(&format!(
        "[repository.local]\nurl = \"{0}/repository\"\n[repository.second]\nurl = \"{0}/second\"\n",
        root.display()
    ));
    place.init();
    write_schedule(
        &place,
        "nightly",
        stack,
        &format!("repositories = [\"local\"]\n{more}"),
    );
    place
}

/// A schedule that is due every minute, and has been for the last hour.
fn write_schedule(place: &Place, name: &str, stack: &str, more: &str) {
    let folder = place.folder.path().join("schedules");
    fs::create_dir_all(&folder).unwrap();
    let text = format!("stack = \"{stack}\"\ncron = \"* * * * *\"\n{more}");
    fs::write(folder.join(format!("{name}.toml")), text).unwrap();
}

fn json(place: &Place, arguments: &[&str]) -> (Option<i32>, Value) {
    let mut with = arguments.to_vec();
    with.push("--json");
    let ran = place.run(&with);
    (ran.code, ran.json())
}

#[test]
fn a_schedule_backs_its_stack_up_and_says_how_it_ended() {
    let server = Server::start("schedule");
    let place = place(&server.stack, "[tags]\nwhy = \"night\"\n");
    place
        .run(&["schedule", "run", "nightly", "--dry-run"])
        .expect_code(0)
        .says(&["would capture postgres/postgres/db/postgres"]);
    assert!(place.list().is_empty());
    let (code, run) = json(&place, &["schedule", "run", "nightly"]);
    assert_eq!(
        (code, run["outcome"].as_str()),
        (Some(0), Some("succeeded"))
    );
    assert_eq!(run["previous"], Value::Null);
    let id = run["backup"].as_str().unwrap().to_owned();
    assert_eq!(place.list(), [(id.clone(), true)]);
    let (_, shown) = json(&place, &["show", &id]);
    assert_eq!(shown["manifest"]["trigger"], "nightly");
    assert_eq!(shown["manifest"]["tags"]["why"], "night");

    // The server is down: loud, and remembered.
    docker(&["stop", &server.id]);
    let failed = place.run(&["schedule", "run", "nightly"]);
    failed
        .expect_code(1)
        .says(&["error: service postgres is exited", "hint: start it"]);
    let (_, listed) = json(&place, &["schedule", "ls"]);
    assert_eq!(listed["schedules"][0]["last"]["outcome"], "failed");
    place
        .run(&["schedule", "ls"])
        .expect_code(0)
        .says(&["FAILED", &server.stack]);
    assert_eq!(place.list().len(), 1);

    docker(&["start", &server.id]);
    let (code, run) = json(&place, &["schedule", "run", "nightly"]);
    assert_eq!((code, run["previous"].as_str()), (Some(0), Some("failed")));
}

#[test]
fn a_run_that_is_not_due_is_left_out() {
    let server = Server::start("due");
    let place = place(&server.stack, "");
    // On leap days: the last one was longer than an hour ago, or will be within minutes of the tests.
    write_schedule(&place, "leap", &server.stack, "");
    let path = place.folder.path().join("schedules/leap.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("* * * * *", "0 0 29 2 *")).unwrap();
    place
        .run(&["schedule", "run", "leap", "--if-due"])
        .expect_code(0)
        .says(&["nothing is due", "-02-29 00:00 UTC"]);
    assert!(place.list().is_empty());
    // Every minute: due, whoever asks for the first time.
    place
        .run(&["schedule", "run", "nightly", "--if-due"])
        .expect_code(0)
        .says(&["complete backup"]);
    let begun = place.list().len();
    assert_eq!(begun, 1);
    // Another machine has no record of it, and finds it in the repository: at most the next minute's run is due.
    fs::remove_dir_all(place.folder.path().join("state")).unwrap();
    let (code, _) = json(&place, &["schedule", "run", "nightly", "--if-due"]);
    assert_eq!(code, Some(0));
    let missed = place.run(&["schedule", "run", "nightly", "--if-due"]);
    assert!(!missed.text().contains("missed"), "{}", missed.text());
}

#[test]
fn a_repository_that_cannot_be_reached_is_not_hidden() {
    let server = Server::start("second");
    let place = place(&server.stack, "");
    write_schedule(
        &place,
        "both",
        &server.stack,
        "repositories = [\"local\", \"second\"]\n",
    );
    let (code, run) = json(&place, &["schedule", "run", "both"]);
    assert_eq!(
        (code, run["outcome"].as_str()),
        (Some(1), Some("partial")),
        "{run}"
    );
    let repositories = run["repositories"].as_array().unwrap();
    let failed: Vec<bool> = repositories
        .iter()
        .map(|one| one["failed"].is_string())
        .collect();
    assert_eq!(failed, [false, true], "{run}");
    assert_eq!(place.list().len(), 1);
}

#[test]
fn wrong_schedules_are_named() {
    let place = place("shop", "");
    place
        .run(&["schedule", "run", "nigthly"])
        .expect_code(2)
        .says(&["no schedule \"nigthly\"", "hint: did you mean nightly?"]);
    write_schedule(&place, "odd", "shop", "keap = 3\n");
    for command in [
        &["schedule", "ls"][..],
        &["schedule", "next"],
        &["schedule", "run", "odd"],
        &["daemon", "--listen", "off"],
    ] {
        place.run(command).expect_code(2).says(&[
            "odd.toml:3:1: unknown field `keap`",
            "hint: did you mean keep?",
        ]);
    }
    // The others are listed all the same.
    place.run(&["schedule", "ls"]).says(&["nightly", "WRONG"]);
    fs::remove_dir_all(place.folder.path().join("schedules")).unwrap();
    place
        .run(&["schedule", "ls"])
        .expect_code(0)
        .says(&["no schedules in"]);
    place
        .run(&["daemon", "--listen", "off"])
        .expect_code(2)
        .says(&["there is no schedule in"]);
    place
        .run(&["daemon", "--listen", "nowhere"])
        .expect_code(2)
        .says(&["\"nowhere\" is no address", "hint: "]);
}

#[test]
fn the_next_runs_are_told_in_the_schedules_own_time() {
    let place = place("shop", "");
    write_schedule(&place, "berlin", "shop", "");
    let path = place.folder.path().join("schedules/berlin.toml");
    fs::write(
        &path,
        "stack = \"shop\"\ncron = \"30 2 * * *\"\ntimezone = \"Europe/Berlin\"\n",
    )
    .unwrap();
    let ran = place
        .run(&["schedule", "next", "berlin", "-n", "3"])
        .expect_code(0);
    let times: Vec<&str> = ran.stdout.lines().skip(1).collect();
    assert_eq!(times.len(), 3, "{}", ran.stdout);
    assert!(
        times
            .iter()
            .all(|line| line.contains(" 02:30 CE") || line.contains(" 03:00 CEST")),
        "{times:?}"
    );
}

/// A daemon that answers at a port of its own; killed on drop.
struct Daemon {
    child: Child,
    log: std::path::PathBuf,
    address: String,
}

impl Daemon {
    fn start(place: &Place) -> Self {
        let log = place.folder.path().join("daemon.log");
        let file = fs::File::create(&log).unwrap();
        let child = place
            .command(&["daemon", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut daemon = Self {
            child,
            log,
            address: String::new(),
        };
        daemon.address = until("the daemon says where it answers", || {
            let log = daemon.log();
            let line = log.lines().find(|line| line.contains("answering"))?;
            let line: Value = serde_json::from_str(line).unwrap();
            Some(line["message"].as_str()?.rsplit(' ').next()?.to_owned())
        });
        daemon
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The status and the body of an answer.
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    fn health(&self) -> (u16, Value) {
        let (status, body) = self.get("/health");
        (status, serde_json::from_str(&body).unwrap())
    }

    /// The value of a metric, by its name and a part of its labels.
    fn metric(&self, name: &str, label: &str) -> Option<f64> {
        let (status, body) = self.get("/metrics");
        assert_eq!(status, 200);
        assert!(body.ends_with("# EOF\n"), "{body}");
        body.lines()
            .find(|line| line.starts_with(&format!("{name}{{")) && line.contains(label))
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for its end; its exit code.
    fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_daemon_runs_schedules_and_tells_how_it_goes() {
    let server = Server::start("daemon");
    let place = place(&server.stack, "");
    let daemon = Daemon::start(&place);
    let schedule = "schedule=\"nightly\"";
    wait_for("a backup is there", || place.list().len() == 1);
    wait_for("the daemon has seen it", || {
        daemon.metric("lifeboat_backups", schedule) == Some(1.0)
    });
    assert_eq!(
        daemon.metric("lifeboat_last_run_success", schedule),
        Some(1.0)
    );
    assert_eq!(
        daemon.metric("lifeboat_repository_up", "repository"),
        Some(1.0)
    );
    assert!(
        daemon
            .metric("lifeboat_backup_age_seconds", schedule)
            .unwrap()
            < 600.0
    );
    assert!(
        daemon
            .metric("lifeboat_artifact_size_bytes", "kind=\"raw\"")
            .unwrap()
            > 0.0
    );
    let (status, health) = daemon.health();
    assert_eq!(
        (status, health["status"].as_str()),
        (200, Some("ok")),
        "{health}"
    );
    assert_eq!(health["details"]["schedule nightly"]["stack"], server.stack);
    let listen = daemon.address.clone();
    place
        .run(&["daemon", "--healthcheck", "--listen", &listen])
        .expect_code(0);

    // A file that is wrong leaves what was read before in force, and is said.
    let path = place.folder.path().join("schedules/nightly.toml");
    let right = fs::read_to_string(&path).unwrap();
    fs::write(&path, "stack = 1\n").unwrap();
    daemon.signal("HUP");
    wait_for("the wrong file is told", || daemon.health().0 == 503);
    let (_, health) = daemon.health();
    assert!(
        health["error"]["configuration"]["message"]
            .as_str()
            .unwrap()
            .contains("nightly.toml:1:9"),
        "{health}"
    );
    assert!(health["details"]["schedule nightly"].is_object());
    assert_eq!(
        daemon.get("/live").0,
        200,
        "it is no reason to start it anew"
    );
    // Without a signal, too.
    fs::write(&path, right).unwrap();
    write_schedule(
        &place,
        "another",
        "no-such-stack",
        "repositories = [\"local\"]\n",
    );
    wait_for("the new schedule has failed", || {
        daemon.metric("lifeboat_last_run_success", "schedule=\"another\"") == Some(0.0)
    });
    let (status, health) = daemon.health();
    assert_eq!(status, 503);
    assert!(
        health["error"]["schedule another"]["last_run"]["error"]
            .as_str()
            .unwrap()
            .contains("no stack \"no-such-stack\"")
    );
    assert!(
        daemon.log().contains("there is no stack"),
        "{}",
        daemon.log()
    );

    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
    place
        .run(&["daemon", "--healthcheck", "--listen", &listen])
        .expect_code(1)
        .says(&["no daemon answers"]);
}

#[test]
fn a_daemon_that_is_told_to_stop_gives_the_backup_up_cleanly() {
    let server = Server::start("stop");
    server.fill(64);
    let place = place(&server.stack, "");
    let lock = server.lock_table("items");
    let daemon = Daemon::start(&place);
    server.dump_waits();
    // Another run would wait for this one; one that does not want to is told.
    let busy: Ran = ran(place.command(&["backup", &server.stack]).output().unwrap());
    assert_eq!(busy.code, Some(11), "{}", busy.text());
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
    drop(lock);
    assert_eq!((server.locks(), server.sessions()), (0, Vec::new()));
    assert!(place.list().is_empty());
    // The next one catches up.
    let daemon = Daemon::start(&place);
    wait_for("a backup is there", || place.list().len() == 1);
    daemon.signal("TERM");
    assert_eq!(daemon.end(), Some(0));
}

#[test]
fn a_run_tells_people_how_it_went_and_removes_what_no_rule_keeps() {
    let server = Server::start("told");
    let listener = Receiver::new();
    let mut place = place(&server.stack, "[keep]\nlast = 1\n");
    let url = listener.url("/canary-of-the-address");
    place.env.insert("HOOK".to_owned(), url);
    let text = fs::read_to_string(place.folder.path().join("lifeboat.toml")).unwrap();
    let ping = listener.url("/ping");
    place.configure(&format!(
        "{text}[notify]\nfailure = [\"${{HOOK}}\"]\nrecovery = [\"${{HOOK}}\"]\nping = \"{ping}\"\n"
    ));
    let requested = || -> Vec<String> {
        let received = listener.received();
        let path = |one: &crate::support::receiver::Received| {
            one.path.split('?').next().unwrap_or_default().to_owned()
        };
        received.iter().map(path).collect()
    };
    place.run(&["schedule", "run", "nightly"]).expect_code(0);
    let first = place.list();
    assert_eq!(requested(), ["/ping/start", "/ping"]);

    docker(&["stop", &server.id]);
    let failed = place
        .run(&["schedule", "run", "nightly", "-v"])
        .expect_code(1);
    assert!(!failed.text().contains("canary"), "{}", failed.text());
    assert_eq!(
        place.list(),
        first,
        "nothing is removed for a backup that failed"
    );
    assert!(
        requested().contains(&"/canary-of-the-address".to_owned()),
        "{:?}",
        requested()
    );
    assert!(
        requested().contains(&"/ping/fail".to_owned()),
        "{:?}",
        requested()
    );

    docker(&["start", &server.id]);
    place.run(&["schedule", "run", "nightly"]).expect_code(0);
    let second = place.list();
    assert_eq!(second.len(), 1, "{second:?}");
    assert_ne!(second, first);
    let told = listener
        .received()
        .iter()
        .filter(|one| one.path == "/canary-of-the-address")
        .map(|one| one.json()["occasion"].clone())
        .collect::<Vec<_>>();
    assert_eq!(told, ["failure", "recovery"]);

    // A pinned backup stays, and one that another schedule wants kept.
    write_schedule(
        &place,
        "monthly",
        &server.stack,
        "repositories = [\"local\"]\n[keep]\nmonthly = 1\nlast = 2\n",
    );
    place.run(&["schedule", "run", "nightly"]).expect_code(0);
    assert_eq!(place.list().len(), 2);

    // Nobody listens: the backup is there all the same, and that nobody was told is said.
    drop(listener);
    place
        .run(&["schedule", "run", "nightly"])
        .expect_code(0)
        .says(&["could not be notified"]);
}

#[test]
fn a_scheduled_drill_proves_a_backup_or_says_why_not() {
    let server = Server::start("drilled");
    let receiver = Receiver::new();
    let table = "[drill]\ncron = \"0 4 * * 0\"\n[[drill.check]]\nsql = \"select true\"\ndatabase = \"postgres\"\n";
    let place = place(&server.stack, table);
    let text = fs::read_to_string(place.folder.path().join("lifeboat.toml")).unwrap();
    let url = receiver.url("/told");
    place.configure(&format!("{text}[notify]\nfailure = [\"{url}\"]\n"));
    // There is nothing to prove yet.
    place
        .run(&["schedule", "run", "nightly", "--drill"])
        .expect_code(10)
        .says(&["error: "]);
    place.run(&["schedule", "run", "nightly"]).expect_code(0);
    let (id, _) = place.list().pop().unwrap();
    place
        .run(&["schedule", "run", "nightly", "--drill"])
        .expect_code(0)
        .says(&[&format!("proven: backup {id}")]);
    let listed = place.run(&["list", "--json"]).json();
    assert_eq!(
        listed["backups"][0]["proofs"].as_array().unwrap().len(),
        1,
        "{listed}"
    );
    // Of its own: what a backup's timer runs is told apart.
    let cron = place.run(&["schedule", "export", "cron"]).expect_code(0);
    assert!(
        cron.stdout.contains("0 4 * * 0 ") || cron.stdout.contains("--drill -- nightly"),
        "{}",
        cron.stdout
    );
    assert_eq!(cron.stdout.matches("--drill").count(), 1, "{}", cron.stdout);

    let path = place.folder.path().join("schedules/nightly.toml");
    let right = fs::read_to_string(&path).unwrap();
    fs::write(&path, right.replace("select true", "select false")).unwrap();
    place
        .run(&["schedule", "run", "nightly", "--drill"])
        .expect_code(14)
        .says(&["not proven"]);
    let sent: Vec<Value> = receiver.received().iter().map(|one| one.json()).collect();
    let operations: Vec<&Value> = sent
        .iter()
        .map(|one| &one["summary"]["operation"])
        .collect();
    assert_eq!(operations, ["drill", "drill"], "{sent:?}");
    assert_eq!(sent[1]["summary"]["code"], 14);
}

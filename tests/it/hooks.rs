//! Hooks: what people want run around a backup runs, in its order and to its end, whatever becomes of the backup.

use crate::support::server::{IMAGE, Place, Server, docker, wait_for};
use lifeboat::docker::connect::{ConnectOptions, connect};
use lifeboat::error::{Error, Kind};
use lifeboat::event::Unobserved;
use lifeboat::operation::Context;
use lifeboat::operation::backup::{BackupReport, BackupRequest, backup};
use lifeboat::operation::helpers::HelperProgram;
use lifeboat::repository::{Access, Repository};
use lifeboat::schedule::{Hook, Hooks};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

const PSQL: &str = "psql -q -U postgres app -c";

/// A server whose container has labels, with a database `app` and a table `marks`.
fn labelled(what: &str, labels: &[&str]) -> Server {
    let options: Vec<&str> = labels
        .iter()
        .flat_map(|label| ["--label", *label])
        .collect();
    let server = Server::with(what, IMAGE, &options);
    server.fill(10);
    server.sql("app", "create table marks (mark text)");
    server
}

/// What the hooks have written in the container.
fn log(server: &Server) -> Vec<String> {
    let output = server.exec(&["sh", "-c", "cat /tmp/log 2>/dev/null"]);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// A command that writes a line into the container's log, for a shell in the container.
fn note(line: &str) -> String {
    format!("sh -c 'echo {line} >> /tmp/log'")
}

/// As [`note`], run on the host.
fn note_from_here(server: &Server, line: &str) -> Hook {
    let script = format!(
        "docker exec {} {}",
        server.id,
        note(line).replace('\'', "\"")
    );
    here(&["sh", "-c", &script])
}

fn hook(command: &[&str], service: Option<&str>) -> Hook {
    Hook {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        service: service.map(str::to_owned),
        time_limit: Duration::from_mins(1),
    }
}

/// A hook on this machine.
fn here(command: &[&str]) -> Hook {
    hook(command, None)
}

/// A backup with a schedule's hooks, in the repository of `place`.
async fn back_up(place: &Place, server: &Server, hooks: Hooks) -> Result<BackupReport, Error> {
    let context = context(place).await;
    start(&context, place, server, hooks).await
}

async fn start(
    context: &Context,
    place: &Place,
    server: &Server,
    hooks: Hooks,
) -> Result<BackupReport, Error> {
    let access = Access::from_environment(std::iter::empty(), |_, _| unreachable!()).unwrap();
    let location = place.repository.to_str().unwrap().parse().unwrap();
    let request = BackupRequest {
        stack: Some(server.stack.clone()),
        repositories: vec![Repository::open(&location, &access).await.unwrap()],
        unreachable: Vec::new(),
        only: Vec::new(),
        include: Vec::new(),
        sources: lifeboat::operation::sources::SourcesByStack::new(),
        tags: std::collections::BTreeMap::new(),
        pin: false,
        allow_partial: false,
        level: None,
        wait: None,
        quiesce: None,
        hooks,
        trigger: "test".to_owned(),
        dry_run: false,
    };
    backup(context, request, &Unobserved).await
}

#[expect(clippy::disallowed_methods, reason = "a test is an edge")]
async fn context(place: &Place) -> Context {
    let options = ConnectOptions {
        host: std::env::var("DOCKER_HOST").ok(),
        ..Default::default()
    };
    Context {
        clock: chrono::Utc::now,
        cancel: tokio_util::sync::CancellationToken::new(),
        engine: Some(connect(&options).await.unwrap()),
        state: place.folder.path().join("state"),
        host: "test".to_owned(),
        helper: HelperProgram::new(None),
    }
}

/// How many processes of this machine, the containers' included, have this word among their arguments.
fn processes(word: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| {
            line.split(|byte| *byte == 0)
                .any(|one| one == word.as_bytes())
        })
        .count()
}

/// A number of seconds to sleep that no other test takes: it tells its process.
fn long_sleep() -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("10{:07}.{count}", std::process::id())
}

#[test]
fn labels_run_commands_around_what_is_captured() {
    let write = |mark: &str| format!("{PSQL} \"insert into marks values ('{mark}')\"");
    let server = labelled(
        "hooks-labels",
        &[
            &format!("lifeboat.pre={}", write("before")),
            &format!(
                "lifeboat.post={}",
                note("post $LIFEBOAT_OUTCOME $LIFEBOAT_STACK $(id -un)")
            ),
            "lifeboat.exec-user=postgres",
        ],
    );
    let place = Place::new();
    let plan = place
        .run(&["backup", &server.stack, "--dry-run"])
        .expect_code(0)
        .stdout;
    let steps: Vec<&str> = plan.lines().collect();
    assert!(steps[0].starts_with("would run `psql"), "{plan}");
    assert!(
        steps[steps.len() - 1].starts_with("would run `sh"),
        "{plan}"
    );
    assert_eq!(server.sql("app", "select count(*) from marks"), "0");

    let ran = place.run(&["backup", &server.stack, "-v"]).expect_code(0);
    assert_eq!(
        log(&server),
        [format!("post succeeded {} postgres", server.stack)]
    );
    // What the hook wrote is in the backup: it came first.
    let dump = place.folder.path().join("app.dump");
    place
        .run(&[
            "export",
            "latest",
            "app",
            "--output",
            dump.to_str().unwrap(),
        ])
        .expect_code(0);
    docker(&[
        "cp",
        dump.to_str().unwrap(),
        &format!("{}:/tmp/app.dump", server.id),
    ]);
    let rows = server.exec(&["pg_restore", "-t", "marks", "-f", "-", "/tmp/app.dump"]);
    assert!(
        String::from_utf8(rows.stdout)
            .unwrap()
            .contains("\nbefore\n")
    );
    // In a part of the stack, too: whoever writes to it does not know what is captured.
    place
        .run(&[
            "backup",
            &server.stack,
            "--only",
            "postgres/postgres/globals",
        ])
        .expect_code(0);
    assert_eq!(log(&server).len(), 2);
    drop(ran);
}

#[test]
fn a_label_is_text_and_no_shell_reads_it_here() {
    let place = Place::new();
    let trap = place.folder.path().join("trap");
    let trap = trap.to_str().unwrap();
    let server = labelled(
        "hooks-text",
        &[
            &format!("lifeboat.pre=echo a; touch {trap} $(touch {trap}) > {trap}"),
            &format!("lifeboat.run=touch {trap}"),
            &format!("lifeboat.pre.host=touch {trap}"),
        ],
    );
    let ran = place.run(&["backup", &server.stack, "-v"]).expect_code(0);
    assert!(
        ran.stderr
            .contains(&format!("echo: a; touch {trap} $(touch {trap}) > {trap}")),
        "{}",
        ran.stderr
    );
    assert!(!std::path::Path::new(trap).exists());
    assert!(!server.exec(&["test", "-e", trap]).status.success());

    let open = labelled("hooks-open", &["lifeboat.post=echo 'a"]);
    place
        .run(&["backup", &open.stack])
        .expect_code(2)
        .says(&["lifeboat.post that does not end"]);
    let limit = labelled(
        "hooks-limit",
        &["lifeboat.pre=true", "lifeboat.hook-time-limit=soon"],
    );
    place
        .run(&["backup", &limit.stack])
        .expect_code(2)
        .says(&["lifeboat.hook-time-limit", "30s or 10m"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_of_a_schedule_and_of_labels_run_in_their_order() {
    let server = labelled(
        "hooks-order",
        &[
            &format!("lifeboat.pre={}", note("label-pre")),
            &format!("lifeboat.post={}", note("label-post")),
        ],
    );
    let place = Place::new();
    let in_service = |line: &str| {
        let script = format!("echo {line} >> /tmp/log");
        hook(&["sh", "-c", &script], Some("postgres"))
    };
    let hooks = Hooks {
        before: vec![note_from_here(&server, "one"), in_service("two")],
        after: vec![
            in_service("three-$LIFEBOAT_OUTCOME"),
            note_from_here(&server, "four"),
        ],
    };
    let report = back_up(&place, &server, hooks).await.unwrap();
    assert!(matches!(report, BackupReport::Done(_)));
    assert_eq!(
        log(&server),
        [
            "one",
            "two",
            "label-pre",
            "label-post",
            "three-succeeded",
            "four"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_before_the_backup_stops_it_and_those_after_it_run() {
    let server = labelled("hooks-failing", &[]);
    let place = Place::new();
    let sleep = long_sleep();
    let limited = |hook: Hook| Hook {
        time_limit: Duration::from_millis(300),
        ..hook
    };
    let deaf = format!("trap '' TERM; echo waiting; sleep {sleep}");
    let cases: [(Hook, &[&str]); 7] = [
        (
            here(&["sh", "-c", "echo out; echo err >&2; exit 3"]),
            &["on this machine ended with status 3: out; err"],
        ),
        (
            hook(
                &["sh", "-c", "echo out; echo err >&2; exit 3"],
                Some("postgres"),
            ),
            &["ended with status 3: out; err"],
        ),
        (
            here(&["sh", "-c", "kill -9 $$"]),
            &["signal 9, and said nothing"],
        ),
        (
            here(&["lifeboat-no-such-program"]),
            &["cannot run \"lifeboat-no-such-program\""],
        ),
        (
            hook(&["no-such-program"], Some("postgres")),
            &["status 127"],
        ),
        (
            limited(here(&["sh", "-c", &deaf])),
            &["took longer than 300ms: waiting"],
        ),
        (
            limited(hook(&["sleep", &sleep], Some("postgres"))),
            &["took longer than 300ms"],
        ),
    ];
    for (number, (failing, says)) in cases.into_iter().enumerate() {
        let hooks = Hooks {
            before: vec![failing, note_from_here(&server, "never")],
            after: vec![note_from_here(&server, "after-$LIFEBOAT_OUTCOME")],
        };
        let error = back_up(&place, &server, hooks).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Failed);
        for part in says {
            assert!(error.chain().contains(part), "{part:?}: {}", error.chain());
        }
        // The variable is this machine's shell's, and not set in the one of the container.
        assert_eq!(log(&server), vec!["after-failed"; number + 1]);
        assert_eq!(processes(&sleep), 0, "a hook that is out of time is ended");
    }
    assert_eq!(place.list(), []);
    assert!(
        place
            .files()
            .iter()
            .all(|file| file.parent() == Some(&place.repository))
    );

    let nowhere = |service| Hooks {
        before: vec![note_from_here(&server, "never")],
        after: vec![hook(&["true"], Some(service))],
    };
    let error = back_up(&place, &server, nowhere("postgre"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert_eq!(error.hint_text(), Some("did you mean postgres?"));
    assert!(!log(&server).contains(&"never".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_after_the_backup_is_said_and_takes_nothing_from_it() {
    let server = labelled("hooks-after", &[]);
    let place = Place::new();
    let hooks = Hooks {
        before: Vec::new(),
        after: vec![
            here(&["sh", "-c", "echo broken; exit 5"]),
            note_from_here(&server, "last"),
        ],
    };
    let error = back_up(&place, &server, hooks).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    let said = error.chain();
    assert!(
        said.contains("is there, but") && said.contains("status 5: broken"),
        "{said}"
    );
    assert_eq!(log(&server), ["last"]);
    let [(id, true)] = &place.list()[..] else {
        panic!("{:?}", place.list())
    };
    assert!(said.contains(id));
    assert_eq!(server.locks(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_ends_its_hook_and_runs_those_after_it() {
    let server = labelled("hooks-interrupted", &[]);
    let place = Place::new();
    for service in [None, Some("postgres")] {
        let sleep = long_sleep();
        let hooks = Hooks {
            before: vec![hook(&["sleep", &sleep], service)],
            after: vec![note_from_here(&server, "after")],
        };
        let context = context(&place).await;
        let cancel = context.cancel.clone();
        let watched = sleep.clone();
        let stopping = tokio::task::spawn_blocking(move || {
            wait_for("the hook runs", || processes(&watched) > 0);
            cancel.cancel();
        });
        let error = start(&context, &place, &server, hooks).await.unwrap_err();
        stopping.await.unwrap();
        assert_eq!(error.kind(), Kind::Interrupted);
        assert_eq!(processes(&sleep), 0);
    }
    assert_eq!(log(&server), ["after", "after"]);
    assert_eq!((place.list(), server.locks()), (Vec::new(), 0));
}

#[test]
fn a_terminated_backup_runs_the_hooks_after_it_and_a_killed_ones_are_run_by_the_next() {
    let server = labelled(
        "hooks-killed",
        &[&format!(
            "lifeboat.post={}",
            note("$LIFEBOAT_OUTCOME $LIFEBOAT_BACKUP")
        )],
    );
    let place = Place::new();
    let held = server.lock_table("items");
    let run = place.spawn(&["backup", &server.stack]);
    let terminated = server.dump_waits();
    run.signal("TERM");
    run.end().expect_code(130);
    let terminated = terminated.strip_prefix("lifeboat-").unwrap();
    assert_eq!(log(&server), [format!("failed {terminated}")]);

    let run = place.spawn(&["backup", &server.stack]);
    let killed = server.dump_waits();
    let killed = killed.strip_prefix("lifeboat-").unwrap().to_owned();
    run.kill();
    drop(held);
    assert_eq!(log(&server).len(), 1);
    // From another state folder nobody knows of it.
    Place::new().run(&["rollback", &server.stack, "--yes"]);
    assert_eq!(log(&server).len(), 1);
    place
        .run(&["backup", &server.stack])
        .expect_code(0)
        .says(&[&format!("the backup {killed} died before its end: running")]);
    place.run(&["backup", &server.stack]).expect_code(0);
    let said = log(&server);
    assert_eq!(said[1], format!("unknown {killed}"));
    assert_eq!(said.len(), 4, "once each: {said:?}");
}

#[test]
fn what_a_hook_of_a_killed_run_does_is_ended_by_the_next() {
    let sleep = long_sleep();
    let script = format!("lifeboat.pre=sh -c '[ -e /tmp/go ] || exec sleep {sleep}'");
    let server = labelled("hooks-left", &[&script]);
    let place = Place::new();
    let run = place.spawn(&["backup", &server.stack]);
    wait_for("the hook runs", || processes(&sleep) > 0);
    run.kill();
    assert!(processes(&sleep) > 0, "the engine lets it go on");
    server.exec(&["touch", "/tmp/go"]);
    place.run(&["backup", &server.stack]).expect_code(0);
    wait_for("it has gone", || processes(&sleep) == 0);
}

/// A run on this machine that died at its first step, with a hook after it on this machine.
#[test]
fn hooks_on_this_machine_are_run_after_a_death_where_the_journal_is_ours() {
    let server = labelled("hooks-journal", &[]);
    let place = Place::new();
    let run = "20261122T020000Z-k3f9";
    let sleep = long_sleep();
    let trace = place.folder.path().join("trace");
    let script = format!(
        "echo $LIFEBOAT_OUTCOME $LIFEBOAT_BACKUP >> {}",
        trace.display()
    );
    let hook = |when: &str, command: serde_json::Value| {
        serde_json::json!({ "step": "run_hook", "when": when,
            "hook": { "command": command, "container": null, "time_limit_ms": 60_000 } })
    };
    let plan = serde_json::json!({ "operation": "backup", "run": run, "stack": server.stack, "steps": [
        hook("before", serde_json::json!(["sleep", sleep])),
        hook("after", serde_json::json!(["sh", "-c", script])),
    ]});
    let lines = format!(
        "{}\n{}\n",
        serde_json::json!({ "entry": "plan", "plan": plan }),
        serde_json::json!({ "entry": "started", "index": 0 })
    );
    let folder = place.folder.path().join("state/journals");
    fs::create_dir_all(&folder).unwrap();
    let journal = folder.join(format!("{run}.jsonl"));

    // A journal that others may write to is not obeyed.
    fs::write(&journal, &lines).unwrap();
    fs::set_permissions(&journal, fs::Permissions::from_mode(0o666)).unwrap();
    place
        .run(&["backup", &server.stack])
        .expect_code(0)
        .says(&["is another user's"]);
    assert!(!trace.exists());

    let mut left = Command::new("sleep")
        .arg(&sleep)
        .env("LIFEBOAT_HOOK_OF", run)
        .spawn()
        .unwrap();
    fs::write(&journal, &lines).unwrap();
    fs::set_permissions(&journal, fs::Permissions::from_mode(0o600)).unwrap();
    // Gathers the child once it has ended, as its new parent would.
    let waiter = std::thread::spawn(move || left.wait().unwrap());
    place.run(&["backup", &server.stack]).expect_code(0);
    assert!(!waiter.join().unwrap().success(), "what was left is ended");
    place.run(&["backup", &server.stack]).expect_code(0);
    let said = fs::read_to_string(&trace).unwrap();
    assert_eq!(said, format!("unknown {run}\n"));
}

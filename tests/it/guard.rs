//! `guard`: a backup first, then the command as if the shell had run it, and the way back where it fails.

use crate::support::server::{Place, Ran, Server, until, wait_for};
use serde_json::Value;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a command prints, whatever it does.
const SAYS: &str = "echo out; echo err >&2";

fn started(what: &str) -> (Server, Place) {
    let (server, place) = (Server::start(what), Place::new());
    server.fill(10);
    (server, place)
}

fn guard(place: &Place, server: &Server, options: &[&str], command: &[&str]) -> Ran {
    let start: &[&str] = &["guard", &server.stack];
    place.run(&[start, options, &["--"], command].concat())
}

/// The objects with this `message_type` that were printed on standard error.
fn objects(ran: &Ran, message_type: &str) -> Vec<Value> {
    let lines = ran.stderr.lines();
    lines
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|object| object["message_type"] == message_type)
        .collect()
}

fn manifest(place: &Place) -> Value {
    place
        .run(&["show", "latest", "--json"])
        .expect_code(0)
        .json()
}

/// How a command drops a table from outside.
fn drops_items(server: &Server) -> String {
    format!(
        "docker exec {} psql -qU postgres app -c 'drop table items'",
        server.id
    )
}

fn count(server: &Server) -> String {
    server.sql("app", "select count(*) from items")
}

#[test]
fn a_command_has_its_streams_and_its_exit_code() {
    let (server, place) = started("guard-streams");
    let good = guard(&place, &server, &[], &["sh", "-c", SAYS]).expect_code(0);
    assert_eq!(good.stdout, "out\n");
    assert!(good.stderr.contains("err\n") && good.stderr.contains("ended well"));
    let shown = manifest(&place);
    assert_eq!(shown["manifest"]["trigger"], "guard");
    assert!(!shown["pinned"].is_null(), "{shown}");

    let bad = guard(&place, &server, &["--json"], &["sh", "-c", "cat; exit 7"]).expect_code(7);
    assert_eq!(bad.stdout, "");
    let object = &objects(&bad, "guard")[0];
    assert_eq!(
        (&object["code"], &object["signal"], &object["rolled_back"]),
        (&Value::from(7), &Value::Null, &Value::from(false))
    );
    assert_eq!(objects(&bad, "backup").len(), 1);

    let killed = guard(&place, &server, &["--json"], &["sh", "-c", "kill -9 $$"]).expect_code(137);
    assert_eq!(objects(&killed, "guard")[0]["signal"], 9);
    assert_eq!(place.list().len(), 3);
    assert_eq!(server.locks(), 0);

    // Its own input, too.
    let mut command = place.command(&["guard", &server.stack, "--", "cat"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"typed").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"typed");
}

#[test]
fn without_a_backup_the_command_is_not_run() {
    let (server, place) = started("guard-refused");
    let touched = place.folder.path().join("touched");
    let touch = ["touch", touched.to_str().unwrap()];
    let refused = |place: &Place, arguments: &[&str], says: &[&str]| {
        let ran = place.run(&[arguments, &["--"], &touch].concat());
        let ran = ran.expect_code(125).says(says);
        assert_eq!(ran.stdout, "");
        assert!(!touched.exists());
    };
    refused(
        &place,
        &["guard", "no-such-stack"],
        &["the command was not run", "no stack"],
    );
    refused(
        &place,
        &["guard", &server.stack, "--only", "nothing"],
        &["nothing of the stack"],
    );
    refused(
        &place,
        &["guard", &server.stack, "--nonsense"],
        &["--nonsense"],
    );
    refused(&place, &["guard", "x", "--json"], &["\"code\":125"]);
    refused(&place, &["guard", "x", "--json"], &["\"code\":125"]);
    let mut broken = Place::new();
    broken.configure("nonsense = 1\n");
    refused(&broken, &["guard", &server.stack], &["nonsense"]);
    fs::remove_file(broken.folder.path().join("lifeboat.toml")).unwrap();
    broken.env.insert(
        "DOCKER_HOST".to_owned(),
        "unix:///no/engine.sock".to_owned(),
    );
    refused(
        &broken,
        &["guard", &server.stack],
        &["the command was not run"],
    );
    // A command that is stopped by a hook, or in the middle of the backup.
    let held = server.lock_table("items");
    let mut run = place
        .command(&[&["guard", &server.stack, "--"][..], &touch].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    server.dump_waits();
    signal(run.id(), "INT");
    assert_eq!(run.wait().unwrap().code(), Some(125));
    drop(held);
    assert!(!touched.exists());
    assert_eq!((place.list(), server.locks()), (Vec::new(), 0));
}

#[test]
fn a_command_that_cannot_be_run_is_told_before_the_backup() {
    let (server, place) = started("guard-cannot");
    let file = place.folder.path().join("file");
    fs::write(&file, "no program").unwrap();
    let file = file.to_str().unwrap();
    for (command, code) in [
        ("lifeboat-no-such-program", 127),
        ("/no/such/program", 127),
        (file, 126),
        ("/", 126),
    ] {
        let ran = guard(&place, &server, &[], &[command]);
        let ran = ran
            .expect_code(code)
            .says(&["cannot run", "no backup was made"]);
        assert_eq!(ran.stdout, "");
    }
    assert_eq!(place.list(), []);
    // What only shows when it is tried.
    fs::write(file, "\x7fELF").unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    let ran = guard(&place, &server, &[], &[file]).expect_code(126);
    ran.says(&["nothing has changed; the backup", "pinned"]);
    assert_eq!(place.list().len(), 1);
    guard(&place, &server, &["--dry-run"], &["sh", "-c", "exit 9"])
        .expect_code(0)
        .says(&[
            "would capture postgres/postgres/db/app",
            "would run sh -c 'exit 9'",
        ]);
    assert_eq!(place.list().len(), 1);
}

#[test]
fn the_backup_says_what_was_run_on_what() {
    let (server, place) = started("guard-tags");
    let folder = place.folder.path();
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"];
        let output = Command::new("git")
            .args(identity)
            .args(arguments)
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q"]);
    fs::write(folder.join("migration.sql"), "select 1").unwrap();
    git(&["add", "migration.sql"]);
    git(&["commit", "-qm", "one"]);
    let command = [
        "true",
        "--password=canary",
        "--token",
        "canary",
        "postgres://app:canary@db/app",
    ];
    guard(&place, &server, &["--tag", "ticket=42"], &command).expect_code(0);
    let shown = manifest(&place);
    let tags = &shown["manifest"]["tags"];
    assert_eq!(tags["git-commit"], git(&["rev-parse", "HEAD"]));
    assert_eq!(
        tags["git-dirty"],
        Value::Null,
        "the repository is no change"
    );
    assert_eq!(tags["ticket"], "42");
    let image = Command::new("docker")
        .args(["inspect", "-f", "{{.Image}}", &server.id])
        .output()
        .unwrap();
    assert_eq!(
        tags["image.postgres"],
        String::from_utf8(image.stdout).unwrap().trim()
    );
    let said = tags["command"].as_str().unwrap();
    assert!(
        said.starts_with("true '--password=***'") && said.contains("@db/app"),
        "{said}"
    );
    assert!(!shown.to_string().contains("canary"));

    fs::write(folder.join("migration.sql"), "select 2").unwrap();
    let ran = guard(&place, &server, &["--json", "-v"], &command).expect_code(0);
    assert_eq!(manifest(&place)["manifest"]["tags"]["git-dirty"], "true");
    assert!(!ran.text().contains("canary"), "{}", ran.text());
}

#[test]
fn the_command_that_is_printed_goes_back() {
    let (server, place) = started("guard-back");
    let before = server.contents();
    let script = format!("{}; exit 7", drops_items(&server));
    let ran = guard(&place, &server, &[], &["sh", "-c", &script]).expect_code(7);
    assert_ne!(server.contents(), before);
    let line = ran
        .stderr
        .lines()
        .find_map(|line| line.trim().strip_prefix("lifeboat restore "))
        .unwrap_or_else(|| panic!("{}", ran.stderr));
    // From anywhere: the command says where its repository is.
    let mut shell = Command::new("sh");
    let restored = shell
        .args([
            "-c",
            &format!("{} restore {line}", env!("CARGO_BIN_EXE_lifeboat")),
        ])
        .env("LIFEBOAT_STATE_DIR", place.folder.path().join("state"))
        .env_remove("LIFEBOAT_REPOSITORY")
        .current_dir("/")
        .output()
        .unwrap();
    assert!(restored.status.success(), "{restored:?}");
    assert_eq!(count(&server), "10");
}

#[test]
fn a_failed_command_is_rolled_back_where_that_is_wanted() {
    let (server, place) = started("guard-rollback");
    let drops = drops_items(&server);
    let wanted = ["--rollback-on-failure", "--json"];
    let ran = guard(
        &place,
        &server,
        &wanted,
        &["sh", "-c", &format!("{drops}; exit 7")],
    );
    let ran = ran.expect_code(7);
    assert_eq!((count(&server).as_str(), ran.stdout.as_str()), ("10", ""));
    let object = &objects(&ran, "guard")[0];
    assert_eq!(object["rolled_back"], true);
    let kept = object["kept"].as_array().unwrap();
    let kept = kept.iter().find(|one| one["database"] == "app").unwrap();
    let aside = kept["kept_as"].as_str().unwrap();
    assert_eq!(
        server.sql(
            aside,
            "select count(*) from pg_tables where tablename = 'items'"
        ),
        "0"
    );

    // What went well stays.
    server.sql("app", "delete from items where id = 1");
    guard(&place, &server, &wanted, &["sh", "-c", &drops]).expect_code(0);
    assert_eq!(
        server.sql(
            "app",
            "select count(*) from pg_tables where tablename = 'items'"
        ),
        "0"
    );

    // The way back fails, which nobody may overlook.
    let stop = format!("docker stop -t 0 {} >&2; exit 7", server.id);
    guard(&place, &server, &wanted[..1], &["sh", "-c", &stop])
        .expect_code(125)
        .says(&[
            "ended with exit code 7",
            "AND THE WAY BACK FAILED",
            "then try again: lifeboat restore",
        ]);
}

#[test]
fn a_way_back_that_is_not_there_is_told_before_the_command() {
    let (server, place) = started("guard-key");
    let key = place
        .run(&["key", "generate", "--output", "key", "--json"])
        .expect_code(0)
        .json();
    let public = key["public_key"].as_str().unwrap();
    place.configure(&format!("[encryption]\nrecipients = [\"{public}\"]\n"));
    let says = ["could not be put back in place as things are", "no key"];
    guard(&place, &server, &["--rollback-on-failure"], &["false"])
        .expect_code(125)
        .says(&says)
        .says(&["the command was not run"]);
    guard(&place, &server, &[], &["sh", "-c", "exit 7"])
        .expect_code(7)
        .says(&says);
    let identity = ["--rollback-on-failure", "--identity", "key"];
    let script = format!("{}; exit 7", drops_items(&server));
    guard(&place, &server, &identity, &["sh", "-c", &script])
        .expect_code(7)
        .says(&["rolled back"]);
    assert_eq!(count(&server), "10");
}

fn signal(process: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Waits until a command has written its process id into a file.
fn process_in(file: &Path) -> u32 {
    until("the command runs", || {
        fs::read_to_string(file).ok()?.trim().parse().ok()
    })
}

#[test]
fn signals_are_the_commands_while_it_runs() {
    let (server, place) = started("guard-signals");
    let file = place.folder.path().join("process");
    let script = format!(
        "trap 'echo got term' TERM; trap 'echo got hup; exit 5' HUP; echo $$ > {}; {}; while :; do sleep 0.05; done",
        file.display(),
        drops_items(&server),
    );
    let arguments = [
        "guard",
        &server.stack,
        "--rollback-on-failure",
        "--",
        "bash",
        "-c",
        &script,
    ];
    let mut child = place
        .command(&arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process_in(&file);
    // SIGINT is what the terminal sends to both; that lifeboat alone gets it does nothing.
    for name in ["INT", "INT", "TERM"] {
        signal(child.id(), name);
    }
    let mut stdout = child.stdout.take().unwrap();
    let mut heard = [0; 9];
    stdout.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"got term\n");
    assert!(child.try_wait().unwrap().is_none());
    // Nobody holds the stack meanwhile.
    assert_eq!(server.locks(), 0);
    signal(child.id(), "HUP");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    // None of these has kept it from going back.
    assert_eq!(count(&server), "10");
}

/// A terminal, in which a person types Ctrl-C once the command says that it is ready.
const TERMINAL: &str = r#"
import os, pty, select, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
seen, typed = b"", False
while True:
    try:
        data = os.read(terminal, 4096)
    except OSError:
        break
    if not data:
        break
    seen += data
    if b"ready" in seen and not typed:
        typed = True
        os.write(terminal, b"\x03")
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn ctrl_c_at_a_terminal_reaches_the_command() {
    let (server, place) = started("guard-terminal");
    let at_terminal = |script: &str, options: &[&str]| {
        let start: &[&str] = &["guard", &server.stack];
        let arguments = [start, options, &["--", "bash", "-c", script]].concat();
        let lifeboat = place.command(&arguments);
        let mut python = Command::new("python3");
        python
            .args(["-c", TERMINAL])
            .arg(lifeboat.get_program())
            .args(lifeboat.get_args())
            .current_dir(place.folder.path());
        for (name, value) in lifeboat.get_envs() {
            match value {
                Some(value) => python.env(name, value),
                None => python.env_remove(name),
            };
        }
        python.stdin(Stdio::null()).output().unwrap()
    };
    // A command that sees to it by itself, on a terminal of its own.
    let own = "trap 'echo cleaned up; exit 42' INT; test -t 0 && test -t 1 && test -t 2 && echo ready; while :; do sleep 0.05; done";
    let output = at_terminal(own, &[]);
    let seen = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(42), "{seen}");
    assert!(
        seen.contains("cleaned up") && seen.contains("lifeboat restore"),
        "{seen}"
    );

    // One that dies of it; and the way back is taken all the same.
    let dies = format!("{}; echo ready; exec sleep 1000", drops_items(&server));
    let output = at_terminal(&dies, &["--rollback-on-failure"]);
    let seen = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{seen}");
    assert!(seen.contains("was ended by signal 2"), "{seen}");
    assert_eq!(count(&server), "10");
    wait_for("the lock is given back", || server.locks() == 0);
}

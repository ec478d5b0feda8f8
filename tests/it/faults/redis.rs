//! Faults while Redis is captured and restored.

use super::secrets::{Watch, holds, search};
use crate::support::lab::{docker, feed};
use crate::support::redis::{Redis, Style, volume_exists};
use crate::support::server::{Place, unique, wait_for};
use crate::support::soak;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const REDIS_7: &str = "lifeboat-lab/redis:7.0";
const REDIS_8: &str = "lifeboat-lab/redis:8.0";
/// Long enough for a fault to come between a capture's start and its first byte.
const SLOW: &str = "--repl-diskless-sync-delay 30";

fn inspect(server: &Redis, format: &str) -> String {
    docker(&["inspect", "-f", format, &server.id])
}

/// When the container was started last: another time after a restart.
fn started(server: &Redis) -> String {
    inspect(server, "{{.State.StartedAt}}")
}

/// What the server holds was backed up; then it was changed.
fn with_a_backup(style: Style, settings: &[&str]) -> (Redis, Place, String) {
    let (server, place) = (Redis::with(style, &[], settings), Place::new());
    server.seed();
    place.run(&["backup", &server.stack]).expect_code(0);
    server.ask("FLUSHALL\nSET only this");
    let present = server.digest();
    (server, place, present)
}

fn nothing_of_lifeboat_in(server: &Redis) {
    let files = server.files();
    assert!(
        !files.iter().any(|name| name.contains("lifeboat")),
        "{files:?}"
    );
}

/// The client that a capture runs is at work in the container.
fn captures(server: &Redis) -> bool {
    docker(&["top", &server.id, "-eo", "pid,args"]).contains("--rdb")
}

#[test]
fn a_capture_whose_container_dies_pauses_or_stops_is_no_backup() {
    for what in ["kill", "stop"] {
        let server = Redis::with(Style::plain(REDIS_7), &[], &[SLOW]);
        server.seed();
        let place = Place::new();
        let running = place.spawn(&["backup", &server.stack]);
        wait_for("the capture runs", || captures(&server));
        docker(&[what, &server.id]);
        let ran = running.end().expect_code(1);
        assert!(ran.text().contains("redis/redis"), "{what}: {}", ran.text());
        assert!(place.list().is_empty());
    }
}

#[test]
fn an_interrupted_capture_leaves_no_client_behind() {
    let server = Redis::with(Style::plain(REDIS_8), &[], &[SLOW]);
    server.seed();
    let place = Place::new();
    let running = place.spawn(&["backup", &server.stack]);
    wait_for("the capture runs", || captures(&server));
    running.signal("INT");
    running.end().expect_code(130);
    assert!(place.list().is_empty());
    wait_for("the client has ended", || !captures(&server));

    // One that was killed cannot clean up: the next run does.
    let running = place.spawn(&["backup", &server.stack]);
    wait_for("the capture runs", || captures(&server));
    running.kill();
    assert!(captures(&server), "the exec outlives its client");
    server.ask("CONFIG SET repl-diskless-sync-delay 0");
    place.run(&["backup", &server.stack]).expect_code(0);
    assert!(!captures(&server));
    assert_eq!(place.list().len(), 1);
}

/// The reader of the snapshot stalls around its end: no byte is lost.
#[test]
fn a_stalled_reader_gets_every_byte() {
    let server = Redis::start(Style::plain(REDIS_7));
    let megabytes = soak(24, 400);
    server.ask(&format!(
        "EVAL \"for i = 1, {megabytes} do redis.call('SET', 'big:' .. i, string.rep(i .. ' ', 400000):sub(1, 1048576)) end\" 0\nCONFIG SET rdbcompression no"
    ));
    let place = Place::new();
    let running = place.spawn(&["backup", &server.stack]);
    wait_for("the capture runs", || captures(&server));
    running.signal("STOP");
    // The engine gives up two seconds after the end of a program whose output nobody reads; this one has not ended.
    std::thread::sleep(std::time::Duration::from_secs(5));
    running.signal("CONT");
    running.end().expect_code(0);
    place.run(&["verify", "latest", "--deep"]).expect_code(0);
    let facts =
        place.run(&["show", "latest", "--json"]).json()["facts"]["redis/redis"]["snapshot"].clone();
    assert_eq!(facts["databases"]["0"]["keys"], megabytes, "{facts}");
    assert_eq!(facts["checksum"], "verified", "{facts}");
}

#[test]
fn a_save_that_fails_names_its_cause() {
    // A read-only root file system, and the server saves there.
    let style = Style {
        read_only: true,
        ..Style::plain(REDIS_7)
    };
    let label = ["--label", "lifeboat.redis-capture=save"];
    let server = Redis::with(style, &label, &["--dir /"]);
    server.seed();
    let place = Place::new();
    place.run(&["backup", &server.stack]).expect_code(1).says(&[
        "rdb_last_bgsave_status",
        "docker logs",
        "redis/redis",
    ]);
    assert!(place.list().is_empty());
}

#[test]
fn a_killed_restore_is_put_right_by_the_next_run() {
    // At the swap itself, and when the server is up on the new files but they are not compared yet.
    for step in ["stop service redis", "compare what service redis"] {
        for append_only in [false, true] {
            let style = Style {
                append_only,
                ..Style::plain(REDIS_8)
            };
            let (server, place, present) = with_a_backup(style, &[]);
            let before = started(&server);
            let mut running = place.spawn(&["restore", "latest", "--in-place", "--yes"]);
            running.line_with(step);
            if step.starts_with("stop") {
                wait_for("the service is being stopped or was", || {
                    started(&server) != before || inspect(&server, "{{.State.Running}}") == "false"
                });
            }
            running.kill();
            place
                .run(&["backup", &server.stack])
                .expect_code(0)
                .says(&["putting its files back"]);
            server.wait_ready();
            assert_eq!(server.digest(), present, "killed at {step:?}");
            nothing_of_lifeboat_in(&server);
            // And what was begun can be done.
            place
                .run(&["restore", "latest~1", "--in-place", "--yes"])
                .expect_code(0);
            assert_ne!(server.digest(), present);
        }
    }
}

#[test]
fn an_interrupted_restore_leaves_the_old_files_serving() {
    let (server, place, present) = with_a_backup(Style::plain(REDIS_7), &[]);
    let mut running = place.spawn(&["restore", "latest", "--in-place", "--yes"]);
    running.line_with("stop service redis");
    running.signal("TERM");
    running.end().expect_code(130);
    server.wait_ready();
    assert_eq!(server.digest(), present);
    nothing_of_lifeboat_in(&server);
    let mine = docker(&[
        "ps",
        "-aq",
        "--filter",
        "label=dev.lifeboat.role=scratch",
        "--filter",
        &format!("volume={}", server.volume),
    ]);
    assert!(mine.is_empty(), "a container was left: {mine}");
}

/// What was restored does not fit into the container's memory: the server does not stay up on it.
#[test]
fn a_server_that_does_not_start_gets_its_files_back() {
    let large = Redis::start(Style::plain(REDIS_7));
    large.ask("EVAL \"for i = 1, 60 do redis.call('SET', 'big:' .. i, string.rep('x' .. i, 300000)) end\" 0");
    let place = Place::new();
    place.run(&["backup", &large.stack]).expect_code(0);
    let limits = ["--memory", "24m", "--memory-swap", "24m"];
    let small = Redis::with(Style::plain(REDIS_7), &limits, &[]);
    small.ask("SET only this");
    let present = small.digest();
    place
        .run(&[
            "restore",
            "latest",
            "--in-place",
            "--yes",
            "--into",
            &small.stack,
        ])
        .expect_code(1)
        .says(&["does not stay up", "docker logs"]);
    small.wait_ready();
    assert_eq!(small.digest(), present);
    nothing_of_lifeboat_in(&small);
}

#[test]
fn a_full_disk_is_noticed_before_the_service_is_stopped() {
    let source = Redis::start(Style::plain(REDIS_7));
    source.ask("CONFIG SET rdbcompression no\nEVAL \"for i = 1, 16 do redis.call('SET', 'big:' .. i, string.rep('x', 1048576)) end\" 0");
    let place = Place::new();
    place.run(&["backup", &source.stack]).expect_code(0);
    let volume = unique("full");
    docker(&[
        "volume",
        "create",
        "--opt=type=tmpfs",
        "--opt=device=tmpfs",
        "--opt=o=size=4m,uid=999,gid=999",
        &volume,
    ]);
    // The second mount of `/data` is the one that counts.
    let mount = format!("type=volume,source={volume},target=/data/small");
    let target = Redis::with(
        Style::plain(REDIS_7),
        &["--mount", &mount],
        &["--dir /data/small"],
    );
    target.ask("SET only this");
    let before = started(&target);
    let ran = place.run(&[
        "restore",
        "latest",
        "--in-place",
        "--yes",
        "--into",
        &target.stack,
    ]);
    assert_eq!(target.ask("GET only"), "this");
    assert_eq!(started(&target), before, "it was not stopped");
    let left = target.exec(&["ls", "-A", "/data/small"]);
    drop(target);
    docker(&["volume", "rm", &volume]);
    ran.expect_code(1).says(&["No space left on device"]);
    let left = String::from_utf8(left.stdout).unwrap();
    assert!(!left.contains("lifeboat"), "{left}");
}

/// Rows 25 and 13 of a snapshot: whatever was done to its object, nothing is stopped for it.
#[test]
fn a_damaged_snapshot_is_refused_before_anything_is_touched() {
    let (server, place, present) = with_a_backup(Style::plain(REDIS_8), &[]);
    let object = place
        .files()
        .into_iter()
        .find(|path| path.ends_with("redis/redis.rdb.zst"))
        .unwrap();
    let whole = fs::read(&object).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    let mut longer = whole.clone();
    longer.push(0);
    let before = started(&server);
    for (what, bytes) in [
        ("flipped", flipped),
        ("cut", whole[..whole.len() - 1].to_vec()),
        ("longer", longer),
        ("empty", Vec::new()),
    ] {
        fs::write(&object, bytes).unwrap();
        for arguments in [
            &["verify", "latest"][..],
            &["restore", "latest", "--in-place", "--yes"],
            &["restore", "latest", "--as", "never-made-either"],
        ] {
            let ran = place.run(arguments).expect_code(13);
            assert!(
                ran.text().contains("redis/redis.rdb.zst"),
                "{what}: {}",
                ran.text()
            );
        }
    }
    assert_eq!(started(&server), before);
    assert_eq!(server.digest(), present);
    assert!(!volume_exists("never-made-either"));
}

#[test]
fn replicas_and_cluster_nodes_are_captured_but_not_restored() {
    let primary = Redis::start(Style::plain(REDIS_7));
    primary.seed();
    let address = inspect(
        &primary,
        "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
    );
    let replica = Redis::with(
        Style::plain(REDIS_7),
        &[],
        &[&format!("--replicaof {address} 6379")],
    );
    wait_for("the replica has its data", || {
        replica.digest() == primary.digest()
    });
    let place = Place::new();
    place.run(&["backup", &replica.stack]).expect_code(0);
    let before = started(&replica);
    place
        .run(&["restore", "latest", "--in-place", "--yes"])
        .expect_code(1)
        .says(&["it is a replica"]);
    assert_eq!(started(&replica), before);

    // As a sentinel calls its connection.
    let sentinel = primary.held("CLIENT SETNAME sentinel-0123abcd-cmd");
    wait_for("the sentinel is connected", || {
        primary.ask("CLIENT LIST").contains("name=sentinel-")
    });
    place
        .run(&[
            "restore",
            "latest",
            "--in-place",
            "--yes",
            "--into",
            &primary.stack,
        ])
        .expect_code(1)
        .says(&["sentinels watch it"]);
    drop(sentinel);

    let node = Redis::with(Style::plain(REDIS_8), &[], &["--cluster-enabled yes"]);
    place
        .run(&[
            "restore",
            "latest",
            "--in-place",
            "--yes",
            "--into",
            &node.stack,
        ])
        .expect_code(1)
        .says(&["a node of a cluster"]);
}

#[test]
fn data_that_is_on_no_volume_is_not_restored_into() {
    let (source, place, _) = with_a_backup(Style::plain(REDIS_7), &[]);
    let target = Redis::with(
        Style::plain(REDIS_7),
        &["--tmpfs", "/memory:mode=1777"],
        &["--dir /memory"],
    );
    place
        .run(&[
            "restore",
            "latest",
            "--in-place",
            "--yes",
            "--into",
            &target.stack,
        ])
        .expect_code(1)
        .says(&["is on no volume"]);
    drop(source);
}

/// The recipe in the backup, with stock tools, for both settings of the append-only file.
#[test]
fn the_recipe_restores_by_hand() {
    for append_only in [false, true] {
        let style = Style {
            append_only,
            ..Style::plain(REDIS_7)
        };
        let (server, place) = (Redis::start(style), Place::new());
        server.seed();
        let wanted = server.digest();
        place.run(&["backup", &server.stack]).expect_code(0);
        server.ask("FLUSHALL\nSET only this");
        let recipe: PathBuf = place
            .files()
            .into_iter()
            .find(|path| path.ends_with("RESTORE.md"))
            .unwrap();
        let text = fs::read_to_string(&recipe).unwrap();
        let blocks: Vec<&str> = text
            .split("```sh\n")
            .skip(1)
            .map(|block| block.split("```").next().unwrap())
            .collect();
        let script = blocks.concat();
        let output = feed(
            Command::new("bash")
                .args(["-e", "-o", "pipefail", "-c", &script])
                .env("CONTAINER", &server.id)
                .current_dir(recipe.parent().unwrap()),
            b"",
        );
        assert!(output.status.success(), "{script}\n{output:?}");
        server.wait_ready();
        assert_eq!(server.digest(), wanted, "append-only file {append_only}");
    }
}

#[test]
fn a_password_is_in_no_file_event_or_argument() {
    let canary = "canary-4a91-redis";
    let config = tempfile::tempdir().unwrap();
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(config.path(), readable).unwrap();
    fs::write(
        config.path().join("redis.conf"),
        format!("requirepass {canary}\nprotected-mode no\nrepl-diskless-sync-delay 0\n"),
    )
    .unwrap();
    let stack = unique("redis-secret");
    let volume = format!("{stack}-data");
    let project = format!("com.docker.compose.project={stack}");
    let id = docker(&[
        "run",
        "-d",
        "--label",
        &project,
        "--label",
        "com.docker.compose.service=redis",
        "-v",
        &format!("{}:/etc/redis:ro", config.path().display()),
        "-v",
        &format!("{volume}:/data"),
        REDIS_7,
        "redis-server",
        "/etc/redis/redis.conf",
    ]);
    let place = Place::new();
    let watch = Watch::start();
    let mut said = String::new();
    for arguments in [
        &["backup", &stack, "-v"][..],
        &["show", "latest", "--json"],
        &["verify", "latest", "--deep", "-v"],
        &["restore", "latest", "--in-place", "--yes", "-v", "--json"],
        &["rollback", &stack, "--yes", "-v"],
        &["doctor", "--json"],
    ] {
        let ran = place.run(arguments);
        assert!(ran.code == Some(0) || arguments[0] == "doctor", "{ran:?}");
        said.push_str(&ran.text());
    }
    let (events, lines) = watch.end();
    docker(&["rm", "-fv", &id]);
    docker(&["volume", "rm", &volume]);
    assert!(holds(&events, &id), "the events were not seen");
    for (what, seen) in [
        ("an event", &events),
        ("an argument", &lines),
        ("the output", &said.into_bytes()),
    ] {
        assert!(!holds(seen, canary), "{what} shows the password");
    }
    search(place.folder.path(), canary);
}

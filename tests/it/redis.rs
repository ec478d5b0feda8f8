//! Redis and Valkey: captured while somebody writes, restored so that everything is really there.

use crate::support::lab::{Lifeboat, docker};
use crate::support::redis::{
    BACKUP_PASSWORD, BACKUP_USER, Login, RIGHTS, Redis, Style, volume_exists,
};
use crate::support::server::wait_for;
use crate::support::soak;
use serde_json::Value;

const REDIS_7: &str = "lifeboat-lab/redis:7.0";
const REDIS_7_ZSTD: &str = "lifeboat-lab/redis:7.0-zstd";
const REDIS_8: &str = "lifeboat-lab/redis:8.0";
const VALKEY_8: &str = "lifeboat-lab/valkey:8.1";

/// A program whose configuration lets it in as the server wants.
fn lifeboat_for(server: &Redis, login: Login) -> Lifeboat {
    let lifeboat = Lifeboat::new();
    if let Login::Acl(_) = login {
        std::fs::write(lifeboat.folder().join("backup_password"), BACKUP_PASSWORD).unwrap();
        std::fs::write(
            lifeboat.folder().join("lifeboat.toml"),
            format!(
                "[stack.{}.redis.redis]\nuser = \"{BACKUP_USER}\"\npassword = {{ file = \"{}\" }}\n",
                server.stack,
                lifeboat.folder().join("backup_password").display()
            ),
        )
        .unwrap();
    }
    lifeboat
}

/// Backs up while somebody writes, loses everything, restores, and looks for all of it; then goes back.
fn round_trip(style: Style) {
    let what = format!("{style:?}");
    let server = Redis::start(style);
    server.seed();
    let lifeboat = lifeboat_for(&server, style.login);
    let writer = server.writer();
    wait_for("the writer writes", || {
        server.ask("EXISTS writer:499") == "1"
    });
    let backup = lifeboat.json(&["backup", &server.stack]);
    drop(writer);
    assert_eq!(backup["complete"], Value::Bool(true), "{what}: {backup}");
    let verified = lifeboat.run(&["verify", "latest", "--deep"]);
    verified.ok();
    assert!(!verified.stdout.contains("did not read it"), "{verified:?}");

    // What was captured, as a server of the same kind reads it from the exported file.
    let exported = lifeboat.folder().join("exported.rdb");
    let to = exported.to_str().unwrap();
    lifeboat
        .run(&["export", "latest", "redis/redis", "--output", to])
        .ok();
    let reference = Redis::start(Style::plain(style.image));
    docker(&["stop", "-t", "5", &reference.id]);
    docker(&["cp", to, &format!("{}:/data/dump.rdb", reference.id)]);
    docker(&["start", &reference.id]);
    reference.wait_ready();
    let wanted = reference.content();
    assert!(
        wanted.contains("greet") && wanted.contains("readers"),
        "{wanted}"
    );

    server.ask("FLUSHALL\nFUNCTION FLUSH\nSET only this");
    let lost = server.digest();
    lifeboat
        .run(&["restore", "latest", "--in-place", "--yes"])
        .ok();
    assert_eq!(server.content(), wanted, "{what}: what came back");
    // It is there for good, and not only until the next start.
    docker(&["restart", &server.id]);
    server.wait_ready();
    assert_eq!(server.content(), wanted, "{what}: after a restart");
    server.ask("SET written after");

    lifeboat.run(&["rollback", &server.stack, "--yes"]).ok();
    assert_eq!(server.digest(), lost, "{what}: after the rollback");
    lifeboat
        .run(&["rollback", &server.stack, "--discard", "--yes"])
        .ok();
    let left = server.files();
    assert!(
        !left.iter().any(|name| name.contains("lifeboat")),
        "{what}: {left:?}"
    );
}

/// Every pair of settings is in one of these; under `make soak` every combination is tried.
const CELLS: [Style; 9] = {
    const fn cell(image: &'static str, append_only: bool, login: Login, read_only: bool) -> Style {
        Style {
            image,
            append_only,
            login,
            read_only,
        }
    }
    const ACL: Login = Login::Acl(RIGHTS);
    [
        cell(REDIS_7, false, Login::None, false),
        cell(REDIS_7, true, Login::Password, true),
        cell(REDIS_7, true, ACL, false),
        cell(REDIS_8, true, Login::None, true),
        cell(REDIS_8, false, Login::Password, false),
        cell(REDIS_8, false, ACL, true),
        cell(VALKEY_8, true, Login::None, false),
        cell(VALKEY_8, false, Login::Password, true),
        cell(VALKEY_8, true, ACL, false),
    ]
};

#[test]
fn the_cells_have_every_pair_of_settings() {
    let settings = |style: &Style| {
        let login = match style.login {
            Login::None => 0,
            Login::Password => 1,
            Login::Acl(_) => 2,
        };
        [
            usize::from(style.image == REDIS_8) + 2 * usize::from(style.image == VALKEY_8),
            usize::from(style.append_only),
            login,
            usize::from(style.read_only),
        ]
    };
    for (first, second, count) in [
        (0, 1, 6),
        (0, 2, 9),
        (0, 3, 6),
        (1, 2, 6),
        (1, 3, 4),
        (2, 3, 6),
    ] {
        let pairs: std::collections::BTreeSet<_> = CELLS
            .iter()
            .map(settings)
            .map(|one| (one[first], one[second]))
            .collect();
        assert_eq!(pairs.len(), count, "settings {first} and {second}");
    }
}

macro_rules! cells {
    ($($name:ident $index:literal)*) => {$(
        #[test]
        fn $name() {
            round_trip(CELLS[$index]);
        }
    )*};
}

cells! {
    round_trip_of_redis_7_as_it_comes 0
    round_trip_of_redis_7_with_append_only_file_password_and_read_only 1
    round_trip_of_redis_7_with_append_only_file_and_acl_user 2
    round_trip_of_redis_8_with_append_only_file_and_read_only 3
    round_trip_of_redis_8_with_password 4
    round_trip_of_redis_8_with_acl_user_and_read_only 5
    round_trip_of_valkey_8_with_append_only_file 6
    round_trip_of_valkey_8_with_password_and_read_only 7
    round_trip_of_valkey_8_with_append_only_file_and_acl_user 8
}

/// The whole matrix, in a long run only.
#[test]
fn every_cell_of_the_matrix() {
    let images = &[REDIS_7, REDIS_8, VALKEY_8][..soak(0, 3) as usize];
    for &image in images {
        for append_only in [false, true] {
            for login in [Login::None, Login::Password, Login::Acl(RIGHTS)] {
                for read_only in [false, true] {
                    round_trip(Style {
                        image,
                        append_only,
                        login,
                        read_only,
                    });
                }
            }
        }
    }
}

/// How an artifact was captured.
fn method(lifeboat: &Lifeboat) -> String {
    let shown = lifeboat.json(&["show", "latest"]);
    let method = &shown["manifest"]["artifacts"][0]["method"];
    method.as_str().unwrap_or_default().to_owned()
}

#[test]
fn each_way_of_capturing_gives_the_same_content() {
    let ways = [
        (REDIS_7, "replication", "--repl-diskless-sync yes"),
        (REDIS_7, "replication", "--repl-diskless-sync no"),
        (REDIS_7, "save", ""),
        (REDIS_7_ZSTD, "replication", "--repl-diskless-sync no"),
        (REDIS_7_ZSTD, "replication", "--repl-diskless-sync yes"),
        (REDIS_7_ZSTD, "save", ""),
    ];
    for (image, way, setting) in ways {
        let label = format!("lifeboat.redis-capture={way}");
        let server = Redis::with(Style::plain(image), &["--label", &label], &[setting]);
        server.seed();
        let wanted = server.digest();
        let lifeboat = Lifeboat::new();
        lifeboat.run(&["backup", &server.stack]).ok();
        assert!(method(&lifeboat).starts_with(way), "{}", method(&lifeboat));
        server.ask("FLUSHALL");
        lifeboat
            .run(&["restore", "latest", "--in-place", "--yes"])
            .ok();
        assert_eq!(server.digest(), wanted, "{image} by {way} with {setting:?}");
        let facts = lifeboat.json(&["show", "latest"])["facts"]["redis/redis"]["snapshot"].clone();
        assert_eq!(facts["walked"], Value::Bool(true), "{facts}");
        assert_eq!(facts["functions"], 1, "{facts}");
        let keys = |database: &str| facts["databases"][database]["keys"].as_u64().unwrap();
        assert_eq!(
            server.ask("SELECT 3\nDBSIZE"),
            format!("OK\n{}", keys("3")),
            "{facts}"
        );
    }
}

#[test]
fn a_user_who_may_not_synchronise_saves_instead() {
    let rights = "+ping +info +bgsave +config|get";
    let style = Style {
        login: Login::Acl(rights),
        ..Style::plain(REDIS_8)
    };
    let server = Redis::start(style);
    server.seed();
    let lifeboat = lifeboat_for(&server, style.login);
    lifeboat.run(&["backup", &server.stack]).ok();
    assert!(
        method(&lifeboat).starts_with("save:"),
        "{}",
        method(&lifeboat)
    );
    assert!(method(&lifeboat).contains("may not synchronise"));
}

#[test]
fn a_user_without_rights_is_told_which_ones() {
    let style = Style {
        login: Login::Acl("+ping +info"),
        ..Style::plain(REDIS_7)
    };
    let server = Redis::start(style);
    let lifeboat = lifeboat_for(&server, style.login);
    let run = lifeboat.run(&["backup", &server.stack]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.stderr.contains("NOPERM") && run.stderr.contains("+sync +psync +replconf"),
        "{run:?}"
    );
    assert!(
        lifeboat.run(&["list"]).stdout.contains("no backups"),
        "{run:?}"
    );
}

#[test]
fn a_wrong_password_names_the_service_and_the_user() {
    let server = Redis::start(Style {
        login: Login::Password,
        ..Style::plain(REDIS_7)
    });
    let lifeboat = Lifeboat::new();
    std::fs::write(lifeboat.folder().join("wrong"), "not-the-password").unwrap();
    std::fs::write(
        lifeboat.folder().join("lifeboat.toml"),
        format!(
            "[stack.{}.redis.redis]\npassword = {{ file = \"{}/wrong\" }}\n",
            server.stack,
            lifeboat.folder().display()
        ),
    )
    .unwrap();
    let run = lifeboat.run(&["backup", &server.stack]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.stderr.contains("service redis: user \"default\"")
            && run.stderr.contains("[stack.NAME.redis.redis]"),
        "{run:?}"
    );
    assert!(!run.stderr.contains("not-the-password"), "{run:?}");
}

/// The places where people put a password: each is found, and none shows it.
#[test]
fn a_password_is_found_wherever_the_container_has_it() {
    let secret = "canary' $x";
    let config = tempfile::tempdir().unwrap();
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(config.path(), readable).unwrap();
    std::fs::write(
        config.path().join("redis.conf"),
        "port 7777\nrequirepass \"first one\"\nrequirepass canary-in-a-file\n",
    )
    .unwrap();
    let mount = format!("{}:/etc/redis:ro", config.path().display());
    let variable = format!("REDIS_PASSWORD={secret}");
    let cases: [(&[&str], &[&str], &str); 3] = [
        (
            &["-e", &variable],
            &[
                "sh",
                "-c",
                "exec redis-server --requirepass \"$REDIS_PASSWORD\"",
            ],
            secret,
        ),
        (&[], &["redis-server", "--requirepass", secret], secret),
        (
            &["-v", &mount],
            &["redis-server", "/etc/redis/redis.conf"],
            "canary-in-a-file",
        ),
    ];
    for (number, (options, command, password)) in cases.into_iter().enumerate() {
        let stack = format!("lifeboat-login-{}-{number}", std::process::id());
        let project = format!("com.docker.compose.project={stack}");
        let mut arguments = vec!["run", "-d", "--rm", "--label", &project];
        arguments.extend(["--label", "com.docker.compose.service=redis"]);
        arguments.extend(options);
        arguments.push(REDIS_7);
        arguments.extend(command);
        let id = docker(&arguments);
        let lifeboat = Lifeboat::new();
        let run = lifeboat.run(&["backup", &stack, "-v"]);
        docker(&["rm", "-fv", &id]);
        run.ok();
        for entry in walk(lifeboat.folder()) {
            let bytes = std::fs::read(&entry).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(password), "{} shows it", entry.display());
        }
        assert!(!run.stderr.contains("canary"), "{run:?}");
    }
}

/// Every file below a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path),
        }
    }
    found
}

/// At its end a server with save points writes its file once more: over the restored one, if that was there already.
#[test]
fn save_points_do_not_win_over_a_restore() {
    let server = Redis::with(Style::plain(REDIS_7), &[], &["--save '1 1'"]);
    server.seed();
    let wanted = server.digest();
    let lifeboat = Lifeboat::new();
    lifeboat.run(&["backup", &server.stack]).ok();
    server.ask("FLUSHALL\nSET only this");
    lifeboat
        .run(&["restore", "latest", "--in-place", "--yes"])
        .ok();
    assert_eq!(server.digest(), wanted);
}

#[test]
fn a_newer_snapshot_is_refused_naming_both_versions() {
    let newer = Redis::start(Style::plain(REDIS_8));
    newer.seed();
    let lifeboat = Lifeboat::new();
    lifeboat.run(&["backup", &newer.stack]).ok();
    let older = Redis::start(Style::plain(REDIS_7));
    older.ask("SET mine here");
    for target in [&["--in-place", "--yes"][..], &["--as", "never-made"]] {
        let mut arguments = vec!["restore", "latest", "--into", &older.stack];
        arguments.extend(target);
        let run = lifeboat.run(&arguments);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(
            run.stderr.contains("RDB version 12") && run.stderr.contains("Redis 7.0"),
            "{run:?}"
        );
    }
    assert_eq!(older.ask("GET mine"), "here");
    assert!(!volume_exists("never-made"));
    let left = older.files();
    assert!(
        !left.iter().any(|name| name.contains("lifeboat")),
        "{left:?}"
    );
}

#[test]
fn a_snapshot_is_restored_into_a_new_volume() {
    for append_only in [false, true] {
        let style = Style {
            append_only,
            ..Style::plain(VALKEY_8)
        };
        let server = Redis::start(style);
        server.seed();
        let wanted = server.digest();
        let lifeboat = Lifeboat::new();
        lifeboat.run(&["backup", &server.stack]).ok();
        let beside = format!("{}-beside", server.stack);
        let stack = format!("{}-second", server.stack);
        let volume = format!("{stack}-data");
        lifeboat.run(&["restore", "latest", "--as", &volume]).ok();
        let again = lifeboat.run(&["restore", "latest", "--as", &volume]);
        assert_eq!(again.code, Some(2), "{again:?}");
        assert!(volume_exists(&volume), "the first one is still there");
        let second = Redis::in_stack(&stack, style, &["--name", &beside], &[]);
        second.wait_ready();
        assert_eq!(second.digest(), wanted);
    }
}

/// A stack with both stores: one backup, and no backup where one of them fails.
#[test]
fn both_stores_are_in_one_backup_or_in_none() {
    let postgres = crate::support::lab::Postgres::start(
        "lifeboat-lab/postgres:17",
        crate::support::lab::Style::Development,
    );
    postgres.sql(
        "procgenie",
        "create table t (n int); insert into t select generate_series(1, 100)",
    );
    let redis = Redis::in_stack(&postgres.stack, Style::plain(REDIS_8), &[], &[]);
    redis.wait_ready();
    redis.seed();
    let lifeboat = Lifeboat::new();
    let backup = lifeboat.json(&["backup", &postgres.stack]);
    let names = backup["artifacts"].to_string();
    assert!(
        names.contains("redis/redis") && names.contains("postgres/postgres/db/procgenie"),
        "{names}"
    );
    let shown = lifeboat.json(&["show", "latest"]);
    let artifacts = shown["manifest"]["artifacts"].as_array().unwrap();
    assert!(
        artifacts
            .iter()
            .all(|artifact| artifact["started"].is_string())
    );

    let wanted = redis.digest();
    redis.ask("FLUSHALL");
    postgres.sql("procgenie", "drop table t");
    lifeboat
        .run(&["restore", "latest", "--in-place", "--yes"])
        .ok();
    assert_eq!(redis.digest(), wanted);
    assert_eq!(postgres.query("procgenie", "select count(*) from t"), "100");
    lifeboat.run(&["rollback", &postgres.stack, "--yes"]).ok();
    assert_eq!(redis.ask("DBSIZE"), "0");

    docker(&["pause", &redis.id]);
    let run = lifeboat.run(&["backup", &postgres.stack]);
    let partial = lifeboat.run(&["backup", &postgres.stack, "--allow-partial", "--json"]);
    let only = lifeboat.run(&["backup", &postgres.stack, "--only", "postgres"]);
    docker(&["unpause", &redis.id]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(partial.code, Some(3), "{partial:?}");
    let missing = partial.json()["missing"].to_string();
    assert!(missing.contains("redis/redis"), "{missing}");
    only.ok();
    let listed = lifeboat.json(&["list"]);
    let states: Vec<_> = listed["backups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|backup| backup["commit"]["complete"].as_bool().unwrap())
        .collect();
    assert_eq!(states, [true, false, true], "{listed}");
}

//! Bad input: what is wrong, where, and what was probably meant; before anything is written.

use crate::support::server::{Place, Ran, Server, ran, unique};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

/// The last line is an error with everything that a script needs.
#[track_caller]
fn error(ran: &Ran, kind: &str, code: i32) -> (String, String) {
    assert_eq!(ran.code, Some(code), "{}", ran.text());
    let error = ran.json();
    assert_eq!(error["message_type"], "error", "{error}");
    assert_eq!(error["kind"], kind, "{error}");
    assert_eq!(error["code"], code, "{error}");
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    (text("message"), text("hint"))
}

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    let (server, place) = (Server::start("names"), Place::new());
    server.fill(5);
    let stack = &server.stack;
    let misspelt = format!("{}x", &stack[..stack.len() - 1]);
    let json = |arguments: &[&str]| place.run(&[arguments, &["--json"]].concat());
    let (message, hint) = error(&json(&["backup", &misspelt]), "usage", 2);
    assert!(
        message.contains(&misspelt) && hint.contains(stack.as_str()),
        "{message} {hint}"
    );
    let (message, hint) = error(
        &json(&["backup", stack, "--only", "postgres/postgres/db/ap"]),
        "usage",
        2,
    );
    assert!(
        message.contains("db/ap") && hint.contains("postgres/postgres/db/app"),
        "{message} {hint}"
    );
    assert_eq!(place.list(), []);
    place.run(&["backup", stack]).expect_code(0);
    let id = place.list().remove(0).0;
    let wrong = format!("{}zzzz", &id[..id.len() - 4]);
    for command in [
        &["show", &wrong][..],
        &["verify", &wrong],
        &["pin", &wrong],
        &["export", &wrong, "app"],
        &["restore", &wrong, "--in-place", "--yes"],
    ] {
        let (message, hint) = error(&json(command), "not_found", 10);
        assert!(
            message.contains(&wrong) && hint.contains(&id),
            "{command:?}: {message} {hint}"
        );
    }
    let (message, hint) = error(
        &json(&[
            "restore",
            &id,
            "--in-place",
            "--yes",
            "--only",
            "postgres/postgres/db/ap",
        ]),
        "usage",
        2,
    );
    assert!(
        message.contains("db/ap") && hint.contains("postgres/postgres/db/app"),
        "{message} {hint}"
    );
    let output = place.folder.path().join("exported");
    let exported = json(&[
        "export",
        &id,
        "postgres/postgres/db/ap",
        "-o",
        output.to_str().unwrap(),
    ]);
    assert!(
        [Some(2), Some(10)].contains(&exported.code),
        "{}",
        exported.text()
    );
    assert!(
        exported.text().contains("postgres/postgres/db/app") && !output.exists(),
        "{}",
        exported.text()
    );
    let (message, hint) = error(
        &json(&["restore", &id, "--in-place", "--yes", "--into", &misspelt]),
        "usage",
        2,
    );
    assert!(
        message.contains(&misspelt) && hint.contains(stack.as_str()),
        "{message} {hint}"
    );
    let (message, _) = error(&json(&["list", &misspelt]), "not_found", 10);
    assert!(message.contains(&misspelt), "{message}");
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_changed() {
    let (server, place) = (Server::start("consent"), Place::new());
    server.fill(5);
    place.run(&["backup", &server.stack]).expect_code(0);
    server.sql("app", "delete from items");
    let before = server.contents();
    let ran = place.run(&["restore", "latest", "--in-place", "--json"]);
    let (_, hint) = error(&ran, "usage", 2);
    assert!(
        hint.contains("--yes") && hint.contains("--dry-run"),
        "{hint}"
    );
    place
        .run(&["restore", "latest", "--in-place"])
        .expect_code(2)
        .says(&["no terminal", "--yes"]);
    place
        .run(&["restore", "latest", "--in-place", "--dry-run"])
        .expect_code(0)
        .says(&["swap: \"app\""]);
    assert_eq!(server.contents(), before);
    place
        .run(&["restore", "latest", "--in-place", "--yes"])
        .expect_code(0);
    let restored = server.contents();
    place
        .run(&["rollback", &server.stack])
        .expect_code(2)
        .says(&["--yes"]);
    assert_eq!(server.contents(), restored);
}

#[test]
fn without_an_engine_it_says_what_to_do() {
    let mut place = Place::new();
    let socket = place.folder.path().join("nothing.sock");
    place.env.insert(
        "DOCKER_HOST".to_owned(),
        format!("unix://{}", socket.display()),
    );
    let before = place.files();
    let (message, hint) = error(&place.run(&["backup", "shop", "--json"]), "failed", 1);
    assert!(
        message.contains("nothing.sock") && !hint.is_empty(),
        "{message} {hint}"
    );
    assert_eq!(place.files(), before);
    // What needs no engine works without one.
    place.run(&["list"]).expect_code(0);
    place.run(&["verify", "--all"]).expect_code(0);
    place
        .run(&["doctor"])
        .expect_code(1)
        .says(&["nothing.sock"]);
}

#[test]
fn without_permission_on_the_socket_it_says_what_to_do() {
    let mut place = Place::new();
    let socket = place.folder.path().join("engine.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    place.env.insert(
        "DOCKER_HOST".to_owned(),
        format!("unix://{}", socket.display()),
    );
    // The program itself may lie where nobody else can reach it.
    let program = place.folder.path().join("lifeboat");
    fs::copy(env!("CARGO_BIN_EXE_lifeboat"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = place.command(&["backup", "shop", "--json"]);
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let variables: Vec<_> = command
        .get_envs()
        .map(|(key, value)| (key.to_owned(), value.map(ToOwned::to_owned)))
        .collect();
    command = std::process::Command::new(&program);
    command
        .args(arguments)
        .current_dir(place.folder.path())
        .uid(65534)
        .gid(65534);
    for (key, value) in variables {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    let open = place.folder.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    command.env("LIFEBOAT_REPOSITORY", open.join("repository"));
    let mut init = std::process::Command::new(&program);
    init.args(["repository", "init"])
        .uid(65534)
        .gid(65534)
        .current_dir(&open)
        .env("HOME", &open);
    init.env("LIFEBOAT_REPOSITORY", open.join("repository"));
    ran(init.output().unwrap()).expect_code(0);
    let (message, hint) = error(&ran(command.output().unwrap()), "failed", 1);
    assert!(
        message.contains("ermission denied") && message.contains("engine.sock"),
        "{message}"
    );
    assert!(hint.contains("docker") && hint.contains("group"), "{hint}");
    drop(listener);
}

#[test]
fn a_wrong_configuration_points_at_its_place() {
    let mut place = Place::new();
    let cases = [
        ("[stack.shop]\nexlude = []\n", ":2:1:", "exclude"),
        ("[stack.shop]\nlevel = \"high\"\n", ":2:9:", ""),
        ("[stack.shop]\ncompress = \"nowhere\"\n", ":2:12:", ""),
        ("[repository.x]\nurl = /b\n", ":2:7:", ""),
        (
            "[repository.x]\nurl = \"/b/${FAULTS_UNSET}\"\n",
            ":2:7:",
            "",
        ),
        (
            "[stack.shop.postgres.db]\npassword = \"plain\"\n",
            ":2:12:",
            "",
        ),
        (
            "[stack.shop.postgres.db]\npasword = { env = \"X\" }\n",
            ":2:1:",
            "password",
        ),
        ("[stack.shop\n", ":1:12:", ""),
    ];
    for (text, position, nearest) in cases {
        place.configure(text);
        for command in [&["backup", "shop", "--json"][..], &["list", "--json"]] {
            let (message, hint) = error(&place.run(command), "usage", 2);
            assert!(
                message.contains(&format!("lifeboat.toml{position}")),
                "{text}: {message}"
            );
            assert!(hint.contains(nearest), "{text}: {hint}");
        }
    }
    place.configure("[stack.shop.postgres.db]\npassword = { env = \"FAULTS_UNSET\" }\n");
    let (message, _) = error(&place.run(&["backup", "shop", "--json"]), "usage", 2);
    assert!(message.contains("FAULTS_UNSET"), "{message}");
    // A variable that is set is expanded; a misspelt repository is answered with the nearest.
    place.env.insert(
        "FAULTS_SET".to_owned(),
        place.folder.path().display().to_string(),
    );
    place.configure("[repository.local]\nurl = \"${FAULTS_SET}/repository\"\n");
    place.run(&["list", "-R", "local"]).expect_code(0);
    let (message, hint) = error(&place.run(&["list", "-R", "locl", "--json"]), "usage", 2);
    assert!(
        message.contains("locl") && hint.contains("local"),
        "{message} {hint}"
    );
    let (message, _) = error(
        &place.run(&["list", "--config", "/nonexistent.toml", "--json"]),
        "usage",
        2,
    );
    assert!(message.contains("/nonexistent.toml"), "{message}");
}

#[test]
fn a_wrong_schedule_is_found_by_doctor() {
    let mut place = Place::new();
    // The schedules are what is looked at here, not whatever runs on this machine.
    let socket = format!("unix://{}/nothing.sock", place.folder.path().display());
    place.env.insert("DOCKER_HOST".to_owned(), socket);
    let folder = place.folder.path().join("schedules");
    fs::create_dir(&folder).unwrap();
    place.configure("");
    for (position, text) in [
        (":2:8:", "stack = \"shop\"\ncron = \"61 2 * * *\"\n"),
        (
            ":3:12:",
            "stack = \"shop\"\ncron = \"0 2 * * *\"\ntimezone = \"Mars/Olympus\"\n",
        ),
        (":2:1:", "stack = \"shop\"\ncorn = \"0 2 * * *\"\n"),
    ] {
        fs::write(folder.join("shop.toml"), text).unwrap();
        let ran = place.run(&["doctor", "--json"]);
        let report = ran.expect_code(1).json();
        let checks = report["checks"].as_array().unwrap();
        let schedule = checks
            .iter()
            .find(|check| check["subject"] == "schedule shop")
            .unwrap();
        assert_eq!(schedule["outcome"], "failed");
        let message = schedule["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("shop.toml{position}")),
            "{message}"
        );
    }
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let place = Place::new();
    let stack = unique("nothing");
    for arguments in [
        &["bakup"][..],
        &["backup", &stack, "--level", "20"],
        &["backup", &stack, "--tag", "novalue"],
        &["restore"],
        &["restore", "latest"],
        &["restore", "latest", "--as", "x", "--in-place"],
        &["verify", "latest", "--all"],
        &["list", "-R", "s3://key:secret@bucket"],
        &["list", "-R", ""],
    ] {
        let ran = place.run(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.text());
    }
}

#[test]
fn hostile_labels_and_variables_are_text() {
    let place = Place::new();
    let trap = place.folder.path().join("trap");
    let shell = format!(
        "$(touch {0})`touch {0}`;touch {0}\n\u{1b}[2J\u{1b}]0;title\u{7}",
        trap.display()
    );
    let label = format!("evil={shell}");
    let title = format!("org.opencontainers.image.title={shell}");
    let long = format!("LONG={}", "x".repeat(100_000));
    let variable = format!("EVIL={shell}");
    let options = [
        "--label",
        &label,
        "--label",
        &title,
        "-e",
        &long,
        "-e",
        &variable,
        "-e",
        "POSTGRES_DB=$(touch /tmp/trap)\u{1b}[2J",
    ];
    let server = Server::with("hostile", crate::support::server::IMAGE, &options);
    for arguments in [
        &["backup", &server.stack][..],
        &["backup", &server.stack, "-v"],
        &["backup", &server.stack, "--json"],
        &["list"],
        &["show", "latest"],
        &["show", "latest", "--json"],
        &["verify", "--all", "--deep"],
        &["restore", "latest", "--in-place", "--dry-run"],
        &["restore", "latest", "--in-place", "--yes", "-v"],
        &["rollback", &server.stack, "--yes", "-v"],
    ] {
        let ran = place.run(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.text());
        assert!(
            !ran.text().contains('\u{1b}') && !ran.text().contains('\u{7}'),
            "{arguments:?}: {:?}",
            ran.text()
        );
    }
    let ran = place
        .run(&["backup", &server.stack, "--only", "\u{1b}[2Jnothing"])
        .expect_code(2);
    assert!(!ran.text().contains('\u{1b}'), "{:?}", ran.text());
    assert!(!trap.exists());
    assert!(!server.exec(&["test", "-e", "/tmp/trap"]).status.success());
}

#[test]
fn doctor_asks_every_server_and_repository() {
    let (server, mut place) = (Server::start("doctor"), Place::new());
    // Other tests' servers are on this engine, in whatever state: only its own checks are looked at.
    let checks = |place: &Place| {
        let report = place.run(&["doctor", "--json"]).json();
        let checks = report["checks"].as_array().unwrap().clone();
        move |subject: &str| {
            let found = checks.iter().find(|check| check["subject"] == subject);
            found.cloned().unwrap_or_else(|| panic!("{checks:?}"))
        }
    };
    let database = format!("{}/postgres/postgres", server.stack);
    let repository = format!("repository {}", place.repository.display());
    let check = checks(&place);
    assert_eq!(check("engine")["outcome"], "ok");
    assert_eq!(check(&repository)["outcome"], "ok");
    assert_eq!(check(&database)["outcome"], "ok", "{}", check(&database));

    server.sql("postgres", "create role limited login");
    place.configure(&format!(
        "[stack.{}.postgres.postgres]\nuser = \"nobody\"\n",
        server.stack
    ));
    let elsewhere = place.folder.path().join("elsewhere");
    place.env.insert(
        "LIFEBOAT_REPOSITORY".to_owned(),
        elsewhere.display().to_string(),
    );
    let check = checks(&place);
    let (wrong, missing) = (
        check(&database),
        check(&format!("repository {}", elsewhere.display())),
    );
    assert_eq!(wrong["outcome"], "failed");
    assert!(wrong["message"].to_string().contains("nobody"), "{wrong}");
    assert!(
        wrong["hint"].to_string().contains("lifeboat.toml"),
        "{wrong}"
    );
    assert_eq!(missing["outcome"], "failed");
    assert!(missing["hint"].to_string().contains("repository init"));
}

#[test]
fn init_writes_what_the_other_commands_take() {
    let (server, mut place) = (Server::start("init"), Place::without_repository());
    server.fill(1);
    // Nothing is said about the repository: it is ./lifeboat-backups.
    place
        .env
        .insert("LIFEBOAT_REPOSITORY".to_owned(), String::new());
    let planned = place
        .run(&["init", "--dry-run", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(planned["message_type"], "plan");
    assert!(!place.folder.path().join("lifeboat.toml").exists());
    place.run(&["init", "--yes"]).expect_code(0);
    place.run(&["backup", &server.stack]).expect_code(0);
    assert_eq!(place.list().len(), 1);
    assert!(place.folder.path().join("lifeboat-backups").is_dir());
    place
        .run(&["init", "--yes"])
        .expect_code(2)
        .says(&["is there already"]);
}

//! What people see of volumes, and what keeps them from losing one.

use super::artifact;
use crate::support::project::{APP, Project, files_of};
use crate::support::server::{Place, Server, docker};
use serde_json::Value;
use std::fs;

fn row(place: &Place, name: &str) -> Value {
    let listed = place.run(&["volume", "ls", "--json"]).expect_code(0).json();
    let rows = listed["volumes"].as_array().unwrap();
    rows.iter()
        .find(|row| row["name"] == name)
        .cloned()
        .unwrap_or_else(|| panic!("{name}: {listed}"))
}

#[test]
fn what_there_is_is_told() {
    let (mut project, place) = (Project::start("told"), Place::new());
    let volume = project.volume();
    project.sh("api", "mkdir /files/d; head -c 5000 /dev/zero >/files/d/a; ln /files/d/a /files/b; ln -s b /files/c");
    let seen = row(&place, &volume);
    assert_eq!(seen["size"]["bytes"], 5000, "{seen}");
    assert_eq!(seen["size"]["files"], 2, "one of them has two names");
    assert_eq!(seen["size"]["directories"], 1);
    assert_eq!(
        (&seen["orphan"], &seen["stack"]),
        (&Value::from(false), &Value::from(project.name.clone()))
    );
    assert_eq!(seen["mounted_by"].as_array().unwrap().len(), 2);
    assert_eq!(seen["backup"], Value::Null);
    place.run(&["backup", &project.name]).expect_code(0);
    let id = place.list().remove(0).0;
    assert_eq!(
        row(&place, &volume)["backup"]["backup"],
        format!("{}/{id}", project.name)
    );
    let orphan = project.another("orphan");
    docker(&["volume", "create", &orphan]);
    let seen = row(&place, &orphan);
    assert_eq!(
        (&seen["orphan"], &seen["stack"], &seen["backup"]),
        (&Value::from(true), &Value::Null, &Value::Null)
    );
    let text = place
        .run(&["volume", "inspect", &volume])
        .expect_code(0)
        .stdout;
    for part in [
        "mounted by",
        "at /files, read-write, running",
        "com.docker.compose.volume=files",
        "5.0 kB in 2 files",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    place
        .run(&["volume", "inspect", &format!("{volume}x")])
        .expect_code(10)
        .says(&["hint: did you mean", &volume]);
    let without = Place::without_repository();
    without
        .run(&["volume", "ls", "--no-sizes"])
        .expect_code(0)
        .says(&[&volume]);
}

#[test]
fn differences_are_told_path_by_path() {
    let (mut project, place) = (Project::start("differ"), Place::new());
    let volume = project.volume();
    project.sh("api", "cd /files; echo 1 >content; echo 1 >mode; echo 1 >owner; echo 1 >gone; mkdir d; echo 1 >d/x; mkfifo type");
    place.run(&["backup", &project.name]).expect_code(0);
    let copy = project.another("copy");
    place
        .run(&["volume", "clone", &volume, &copy])
        .expect_code(0);
    let files = files_of(&copy);
    let keep = |name: &str, change: &dyn Fn()| {
        let time = fs::metadata(files.join(name)).unwrap().modified().unwrap();
        change();
        let file = fs::File::open(files.join(name)).unwrap();
        file.set_times(fs::FileTimes::new().set_modified(time))
            .unwrap();
    };
    keep("content", &|| {
        fs::write(files.join("content"), "2\n").unwrap();
    });
    keep("mode", &|| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(files.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    });
    std::os::unix::fs::chown(files.join("owner"), Some(5), None).unwrap();
    fs::remove_file(files.join("type")).unwrap();
    std::os::unix::fs::symlink("mode", files.join("type")).unwrap();
    keep("d", &|| {
        fs::rename(files.join("d/x"), files.join("d/new\nline")).unwrap();
    });
    fs::remove_file(files.join("gone")).unwrap();
    let diff = |with: &str, from: &str| {
        let ran = place.run(&["volume", "diff", from, with]).expect_code(0);
        ran.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let expected = [
        "~ . (time)",
        "~ content (content)",
        "+ d/new\\nline",
        "- d/x",
        "- gone",
        "~ mode (mode)",
        "~ owner (owner)",
        "~ type (type)",
        "1 added, 2 removed, 5 changed, 1 the same",
    ];
    assert_eq!(diff(&copy, &volume), expected);
    let backwards = diff("latest", &volume);
    assert_eq!(backwards, ["0 added, 0 removed, 0 changed, 8 the same"]);
    place
        .run(&["volume", "diff", &volume, "nosuch"])
        .expect_code(10)
        .says(&["is no volume on this engine, and no backup"]);
    place
        .run(&["volume", "diff", &copy, "latest"])
        .expect_code(2)
        .says(&["has no volume/"]);
}

#[test]
fn a_volume_is_removed_only_when_nobody_has_it_and_a_backup_does() {
    let (mut project, place) = (Project::start("remove"), Place::new());
    let volume = project.volume();
    project.sh("api", "echo x >/files/x");
    place.run(&["volume", "backup", &volume]).expect_code(0);
    place
        .run(&["volume", "rm", &volume, "--yes"])
        .expect_code(1)
        .says(&["is mounted by", "hint: remove the containers first"]);
    place
        .run(&["volume", "rm", &volume, "--no-backup", "--yes"])
        .expect_code(1)
        .says(&["is mounted by"]);
    assert!(project.compose(&["stop", "-t", "0"]).status.success());
    place
        .run(&["volume", "rm", &volume, "--yes"])
        .expect_code(1)
        .says(&["is mounted by"]);
    place
        .run(&["volume", "rename", &volume, "elsewhere", "--yes"])
        .expect_code(2)
        .says(&["is mounted by"]);
    assert!(project.compose(&["down"]).status.success());
    place
        .run(&["volume", "rm", &volume])
        .expect_code(2)
        .says(&["hint: --dry-run"]);
    let object = place
        .files()
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with(".tar.zst"))
        .unwrap();
    let object = place.repository.join(object);
    let mut bytes = fs::read(&object).unwrap();
    bytes[20] ^= 1;
    fs::write(&object, &bytes).unwrap();
    place
        .run(&["volume", "rm", &volume, "--yes"])
        .expect_code(1)
        .says(&["is not removed"]);
    bytes[20] ^= 1;
    fs::write(&object, &bytes).unwrap();
    let files = files_of(&volume);
    fs::write(files.join("x"), "y\n").unwrap();
    place
        .run(&["volume", "rm", &volume, "--yes"])
        .expect_code(1)
        .says(&["it has changed since its newest backup"]);
    place.run(&["volume", "backup", &volume]).expect_code(0);
    let plan = place
        .run(&["volume", "prune", &project.name, "--dry-run"])
        .expect_code(0);
    assert!(
        plan.stdout.contains("holds it as it is now") && files.exists(),
        "{}",
        plan.stdout
    );
    let orphan = project.another("kept");
    let label = format!("com.docker.compose.project={}", project.name);
    docker(&["volume", "create", "--label", &label, &orphan]);
    fs::write(files_of(&orphan).join("only copy"), "").unwrap();
    let pruned = place
        .run(&["volume", "prune", &project.name, "--yes", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(pruned["removed"], serde_json::json!([volume]));
    assert!(!files.exists() && files_of(&orphan).join("only copy").exists());
    place
        .run(&["volume", "rm", &orphan, "--no-backup", "--yes"])
        .expect_code(0);
    assert!(
        !docker(&["volume", "ls", "-q"])
            .lines()
            .any(|line| line == orphan)
    );
}

#[test]
fn a_databases_files_are_covered_by_its_dump_and_never_read_while_it_runs() {
    let (server, place) = (Server::start("covered"), Place::new());
    server.fill(50);
    let volume = docker(&[
        "inspect",
        "--format",
        "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Name}} {{end}}{{end}}",
        &server.id,
    ]);
    let volume = volume.split_whitespace().next().unwrap().to_owned();
    let seen = row(&place, &volume);
    assert_eq!(seen["covered_by"], "PostgreSQL service postgres");
    place.run(&["backup", &server.stack]).expect_code(0);
    let commit = place.run(&["list", "--json"]).expect_code(0).json();
    let artifacts = commit["backups"][0]["commit"]["artifacts"].to_string();
    assert!(!artifacts.contains("volume/"), "{artifacts}");
    assert!(
        row(&place, &volume)["backup"]["backup"].is_string(),
        "its dump counts"
    );
    for command in [
        &["volume", "backup", &volume][..],
        &["volume", "backup", &volume, "--quiesce", "pause"],
        &["volume", "clone", &volume, "copy-of-a-live-database"],
    ] {
        let ran = place.run(command);
        if command.contains(&"pause") {
            // Frozen, it is as after a crash, which PostgreSQL recovers from.
            ran.expect_code(0);
        } else {
            assert!(matches!(ran.code, Some(1 | 2)), "{}", ran.text());
            ran.says(&["which runs", "hint: "]);
        }
    }
    let before = server.contents();
    place
        .run(&["volume", "backup", &volume, "--quiesce", "stop"])
        .expect_code(0);
    let name = format!("volume/{volume}");
    assert_eq!(artifact(&place, "latest", &name)["consistency"], "stopped");
    crate::support::server::wait_for("it serves again", || {
        server
            .exec(&["pg_isready", "-h", "127.0.0.1"])
            .status
            .success()
    });
    server.sql("app", "drop table items cascade");
    place
        .run(&["volume", "restore", "latest", "--in-place", "--yes"])
        .expect_code(0);
    crate::support::server::wait_for("it serves again", || {
        server
            .exec(&["pg_isready", "-h", "127.0.0.1"])
            .status
            .success()
    });
    assert_eq!(server.contents(), before);
}

#[test]
fn a_database_that_is_left_alone_is_not_archived_while_it_runs() {
    // Nothing says what it is but its files.
    let server = Server::with(
        "alone",
        crate::support::server::IMAGE,
        &["--label", "lifeboat.enable=false"],
    );
    let place = Place::new();
    let volume = docker(&[
        "inspect",
        "--format",
        "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Name}} {{end}}{{end}}",
        &server.id,
    ]);
    let volume = volume.split_whitespace().next().unwrap().to_owned();
    place.run(&["volume", "backup", &volume]).says(&[
        "is the data folder of a PostgreSQL server that runs",
        "hint: ",
    ]);
    assert_eq!(place.list(), []);
}

#[test]
fn odd_names_and_places_are_refused_with_a_hint() {
    let (project, place) = (Project::start("odd"), Place::new());
    let volume = project.volume();
    let long = "x".repeat(300);
    for name in ["../up", "a/b", "", "-x", "ü", long.as_str()] {
        let ran = place.run(&["volume", "clone", &volume, "--", name]);
        assert!(matches!(ran.code, Some(1 | 2)), "{name:?}: {}", ran.text());
    }
    place
        .run(&["volume", "clone", &volume, &volume])
        .expect_code(2)
        .says(&["there is a volume"]);
    for name in ["bind:relative", "bind:/", "bind:"] {
        place
            .run(&["volume", "backup", name])
            .expect_code(2)
            .says(&["is no folder to include"]);
    }
    let ran = place.run(&["volume", "backup", "bind:/nowhere/at/all"]);
    assert!(
        ran.code == Some(1) && ran.text().contains("/nowhere/at/all"),
        "{}",
        ran.text()
    );
    place.run(&["volume", "rm"]).expect_code(2);
    place.run(&["volume", "restore", "latest"]).expect_code(2);
    place
        .run(&["volume", "rm", "--project", "no-such-project", "--yes"])
        .expect_code(2)
        .says(&["hint: docker compose ls"]);
    assert_eq!(place.list(), []);
    assert!(project.runs());
}

#[test]
fn excluded_and_disabled_volumes_are_left_out() {
    let volumes = "  files: {}\n  cache: {}\n  off: {labels: {lifeboat.enable: \"false\"}}\n";
    let (project, place) = (Project::written("left-out", "", "", volumes), Place::new());
    let text = fs::read_to_string(project.file()).unwrap();
    let text = text.replacen(
        "[\"files:/files\"]",
        "[\"files:/files\", \"cache:/cache\", \"off:/off\"]",
        1,
    );
    fs::write(project.file(), text).unwrap();
    assert!(project.compose(&["up", "-d"]).status.success());
    place.configure(&format!(
        "[stack.{0}]\nexclude = [\"volume/{0}_cache\"]\n",
        project.name
    ));
    place.run(&["backup", &project.name]).expect_code(0);
    let listed = place.run(&["list", "--json"]).expect_code(0).json();
    let artifacts = &listed["backups"][0]["commit"]["artifacts"];
    assert_eq!(
        *artifacts,
        serde_json::json!(["files", format!("volume/{}", project.volume())])
    );
    assert!(docker(&["image", "ls", "-q", APP]).len() > 5);
}

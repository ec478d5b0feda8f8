//! Restores in place: the old content or the new one, never a mixture, and Compose none the wiser.

use super::{leftovers, names};
use crate::support::project::{APP, Project, files_of};
use crate::support::server::{Place, docker, wait_for};
use std::fs;
use std::process::Command;

/// A project whose volume has `old` in its backup and `new` on the disk.
fn with_a_backup(what: &str) -> (Project, Place) {
    let (project, place) = (Project::start(what), Place::new());
    project.sh(
        "api",
        "mkdir /files/d; echo old >/files/d/old; chmod 2751 /files; chown 7:8 /files",
    );
    place.run(&["backup", &project.name]).expect_code(0);
    project.sh(
        "api",
        "rm -r /files/d; echo new >/files/new; chmod 00755 /files; chown 0:0 /files",
    );
    (project, place)
}

#[test]
fn no_stale_file_survives_and_what_was_there_is_in_a_pinned_backup() {
    let (project, place) = with_a_backup("stale");
    let id = place.list().remove(0).0;
    let report = place
        .run(&["restore", &id, "--in-place", "--yes", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(
        project.sh("api", "find /files | sort; stat -c '%a %u:%g' /files"),
        "/files\n/files/d\n/files/d/old\n2751 7:8"
    );
    assert!(project.runs());
    let safety = report["safety"].as_str().unwrap().to_owned();
    let pinned = place.run(&["list", "--json"]).expect_code(0).json();
    let entry = pinned["backups"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["backup"] == safety.as_str())
        .cloned()
        .unwrap();
    assert!(!entry["pinned"].is_null());
    place
        .run(&["restore", &safety, "--in-place", "--yes"])
        .expect_code(0);
    assert_eq!(
        project.sh("api", "find /files | sort; stat -c '%a %u:%g' /files"),
        "/files\n/files/new\n755 0:0"
    );
    project.comes_up_in_silence();
}

#[test]
fn compose_is_none_the_wiser_after_a_restore_a_rename_and_a_removal() {
    let (mut project, place) = with_a_backup("silent");
    let volume = project.volume();
    let labels = || {
        docker(&[
            "volume",
            "inspect",
            "--format",
            "{{json .Labels}} {{json .Options}} {{.Driver}}",
            &volume,
        ])
    };
    let before = labels();
    place
        .run(&["volume", "restore", "latest", "--in-place", "--yes"])
        .expect_code(0);
    project.comes_up_in_silence();
    assert!(project.compose(&["down"]).status.success());
    // Away and back under its own name.
    let other = project.another("away");
    place
        .run(&["volume", "rename", &volume, &other, "--yes"])
        .expect_code(0);
    place
        .run(&["volume", "rename", &other, &volume, "--yes"])
        .expect_code(0);
    project.comes_up_in_silence();
    assert_eq!(project.sh("api", "cat /files/d/old"), "old");
    assert!(project.compose(&["down"]).status.success());
    place
        .run(&["volume", "rm", &volume, "--yes"])
        .expect_code(1)
        .says(&["it has changed since", "hint: lifeboat volume backup"]);
    place.run(&["volume", "backup", &volume]).expect_code(0);
    place
        .run(&["volume", "rm", &volume, "--yes"])
        .expect_code(0);
    place
        .run(&["volume", "restore", "latest", "--as", &volume])
        .expect_code(0);
    // A rename loses the digest of the description, which counts the name; a removal and a restore lose nothing.
    assert_eq!(labels(), before.replace(&config_hash(&before), ""));
    project.comes_up_in_silence();
    assert_eq!(project.sh("api", "cat /files/d/old"), "old");
}

/// `"com.docker.compose.config-hash":"…",` in JSON; nothing where Compose is too old to write one.
fn config_hash(labels: &str) -> String {
    let Some(start) = labels.find("\"com.docker.compose.config-hash\"") else {
        return String::new();
    };
    let end = labels[start..].find(',').unwrap() + start + 1;
    labels[start..end].to_owned()
}

#[test]
fn a_whole_project_goes_and_its_volumes_come_back() {
    let (project, place) = with_a_backup("project");
    let volume = project.volume();
    let labels = docker(&["volume", "inspect", "--format", "{{json .Labels}}", &volume]);
    place
        .run(&["volume", "rm", "--project", &project.name])
        .expect_code(2)
        .says(&["hint: --dry-run shows"]);
    let mount = format!("{volume}:/files");
    let stranger = docker(&["create", "-v", &mount, APP, "true"]);
    place
        .run(&["volume", "rm", "--project", &project.name, "--yes"])
        .expect_code(2)
        .says(&["which is not of", "hint: remove that container first"]);
    docker(&["rm", &stranger]);
    let plan = place
        .run(&["volume", "rm", "--project", &project.name, "--dry-run"])
        .expect_code(0);
    assert!(
        plan.stdout.contains(&volume) && plan.stdout.contains("would back up all of"),
        "{}",
        plan.stdout
    );
    let report = place
        .run(&[
            "volume",
            "rm",
            "--project",
            &project.name,
            "--yes",
            "--json",
        ])
        .expect_code(0)
        .json();
    let left = docker(&[
        "ps",
        "-aq",
        "--filter",
        &format!("label=com.docker.compose.project={}", project.name),
    ]);
    assert_eq!(left, "");
    assert!(
        !docker(&["volume", "ls", "-q"])
            .lines()
            .any(|line| line == volume)
    );
    let backup = report["backup"].as_str().unwrap();
    place
        .run(&["volume", "restore", backup, "--in-place", "--yes"])
        .expect_code(0);
    assert_eq!(
        docker(&["volume", "inspect", "--format", "{{json .Labels}}", &volume]),
        labels
    );
    project.comes_up_in_silence();
    assert_eq!(project.sh("api", "cat /files/new"), "new");
}

#[test]
fn a_restore_that_is_killed_after_any_event_leaves_the_old_or_the_new() {
    let (project, place) = with_a_backup("anytime");
    let id = place.list().remove(0).0;
    let files = files_of(&project.volume());
    let mut stage = 0;
    let (mut old, mut new) = (0, 0);
    loop {
        // To the same beginning: who writes to it may have it as it likes.
        project.sh(
            "api",
            "rm -rf /files/d; echo new >/files/new; chmod 00755 /files; chown 0:0 /files",
        );
        let mut run = place.spawn(&["restore", &id, "--in-place", "--yes"]);
        let mut line = None;
        for _ in 0..=stage {
            line = run.line();
        }
        if line.is_none() {
            run.end().expect_code(0);
            break;
        }
        run.kill();
        // The next command puts right what is to be put right.
        place.run(&["volume", "ls", "--no-sizes"]).expect_code(0);
        wait_for("all run", || project.runs());
        let shown: Vec<String> = names(&files)
            .into_iter()
            .filter(|name| !name.starts_with(".lifeboat-restoring-"))
            .collect();
        match shown.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["new"] => old += 1,
            ["d"] => new += 1,
            // What was there before is removed last, when everything runs on the new.
            ["d", aside] | [aside, "d"] if aside.starts_with(".lifeboat-before-") => new += 1,
            _ => panic!("after event {stage}: {shown:?}"),
        }
        // What is left there is no part of the volume.
        let diff = place
            .run(&["volume", "ls", &project.name, "--json"])
            .expect_code(0);
        assert!(diff.code == Some(0));
        stage += 1;
    }
    assert!(old > 5 && new > 0 && stage > 8, "{old} {new} {stage}");
    assert_eq!(
        leftovers(&format!("dev.lifeboat.stack={}", project.name)),
        ""
    );
    assert_eq!(
        names(&files),
        ["d"],
        "the last one has cleared what the others left"
    );
}

#[test]
fn a_restore_into_a_new_volume_that_is_killed_leaves_none() {
    let (mut project, place) = with_a_backup("unfinished");
    let target = project.another("target");
    let exists = || {
        docker(&["volume", "ls", "-q"])
            .lines()
            .any(|line| line == target)
    };
    let mut run = place.spawn(&["volume", "restore", "latest", "--as", &target]);
    run.line_with("create volume");
    wait_for("it is made", exists);
    run.kill();
    place.run(&["volume", "ls", "--no-sizes"]).expect_code(0);
    wait_for("it is gone, or was whole", || {
        !exists() || names(&files_of(&target)) == ["d"]
    });
    if exists() {
        docker(&["volume", "rm", &target]);
    }
    place
        .run(&["volume", "restore", "latest", "--as", &target])
        .expect_code(0);
    assert_eq!(names(&files_of(&target)), ["d"]);
    place
        .run(&["volume", "restore", "latest", "--as", &target])
        .expect_code(2)
        .says(&["there is a volume", "hint: choose another name"]);
}

#[test]
fn a_full_volume_keeps_what_it_has() {
    let options = "  files: {driver_opts: {type: tmpfs, device: tmpfs, o: size=2m}}\n";
    let (project, place) = (Project::with("full", "", "", options), Place::new());
    project.sh("api", "head -c 1500000 /dev/urandom >/files/old");
    place.run(&["backup", &project.name]).expect_code(0);
    project.sh("api", "mv /files/old /files/new");
    let since = project.inspect("api", "{{.State.StartedAt}}");
    let ran = place
        .run(&["restore", "latest", "--in-place", "--yes"])
        .expect_code(1);
    assert!(ran.stderr.contains("No space left"), "{}", ran.stderr);
    assert_eq!(project.sh("api", "ls -A /files"), "new");
    assert_eq!(
        since,
        project.inspect("api", "{{.State.StartedAt}}"),
        "nothing was stopped"
    );
    // One that is in memory outlives the stop of everyone who has it mounted.
    project.sh("api", "rm /files/new; echo small >/files/small");
    place
        .run(&["backup", &project.name, "--quiesce", "stop"])
        .expect_code(0);
    project.sh("api", "echo other >/files/small");
    place
        .run(&["restore", "latest", "--in-place", "--yes"])
        .expect_code(0);
    assert_eq!(project.sh("api", "cat /files/small"), "small");
}

#[test]
fn a_damaged_archive_is_refused_before_anything_is_touched() {
    let (project, place) = with_a_backup("damaged");
    let id = place.list().remove(0).0;
    let object = place
        .files()
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with("_files.tar.zst"))
        .unwrap();
    let object = place.repository.join(object);
    let sound = fs::read(&object).unwrap();
    let since = project.inspect("api", "{{.State.StartedAt}}");
    for how in ["flipped", "truncated", "appended", "gone"] {
        let mut bytes = sound.clone();
        match how {
            "flipped" => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 4;
            }
            "truncated" => bytes.truncate(bytes.len() - 1),
            "appended" => bytes.push(0),
            _ => fs::remove_file(&object).unwrap(),
        }
        if how != "gone" {
            fs::write(&object, &bytes).unwrap();
        }
        for command in [
            &["verify", &id][..],
            &["restore", &id, "--in-place", "--yes"],
        ] {
            let ran = place.run(command).expect_code(13);
            assert!(
                ran.text().contains(".tar.zst"),
                "{how} {command:?}: {}",
                ran.text()
            );
        }
    }
    assert_eq!(project.sh("api", "ls -A /files"), "new");
    assert_eq!(
        since,
        project.inspect("api", "{{.State.StartedAt}}"),
        "nothing was stopped"
    );
    fs::write(&object, sound).unwrap();
    place
        .run(&["restore", &id, "--in-place", "--yes"])
        .expect_code(0);
    assert_eq!(project.sh("api", "ls -A /files"), "d");
}

#[test]
fn options_labels_and_anonymous_volumes_are_kept() {
    let host = tempfile::tempdir().unwrap();
    let device = host.path().join("device");
    fs::create_dir(&device).unwrap();
    let volumes = format!(
        "  files:\n    labels: {{\"odd label\": \"it's \\\"odd\\\" = %20\"}}\n    driver_opts: {{type: none, o: bind, device: \"{}\"}}\n",
        device.display()
    );
    // Read-only root, another user, an anonymous volume.
    let api = "    read_only: true\n    user: \"1234:1234\"\n    tmpfs: [/tmp]\n";
    let (mut project, place) = (Project::written("options", api, "", &volumes), Place::new());
    let text = fs::read_to_string(project.file()).unwrap();
    let anonymous = text.replacen(
        "volumes: [\"files:/files\"]",
        "volumes: [\"files:/files\", \"/anonymous\"]",
        1,
    );
    fs::write(project.file(), anonymous).unwrap();
    assert!(project.compose(&["up", "-d"]).status.success());
    fs::write(device.join("kept"), "kept").unwrap();
    let name = project.inspect(
        "api",
        "{{range .Mounts}}{{if eq .Destination \"/anonymous\"}}{{.Name}}{{end}}{{end}}",
    );
    fs::write(files_of(&name).join("unnamed"), "x").unwrap();
    place.run(&["backup", &project.name]).expect_code(0);
    let restored = project.another("anonymous");
    place
        .run(&[
            "volume", "restore", "latest", "--volume", &name, "--as", &restored,
        ])
        .expect_code(0);
    assert_eq!(names(&files_of(&restored)), ["unnamed"]);
    // A copy must not be the same folder.
    let copy = project.another("copy");
    let cloned = place
        .run(&["volume", "clone", &project.volume(), &copy])
        .expect_code(0);
    assert!(
        cloned.stderr.contains("both would hold the same files"),
        "{}",
        cloned.stderr
    );
    fs::write(files_of(&copy).join("kept"), "changed").unwrap();
    assert_eq!(fs::read_to_string(device.join("kept")).unwrap(), "kept");
    let description = || {
        docker(&[
            "volume",
            "inspect",
            "--format",
            "{{json .Labels}} {{json .Options}}",
            &project.volume(),
        ])
    };
    let before = description();
    assert!(project.compose(&["down", "--volumes"]).status.success());
    fs::remove_file(device.join("kept")).unwrap();
    place
        .run(&[
            "volume",
            "restore",
            "latest",
            "--volume",
            &project.volume(),
            "--in-place",
            "--yes",
        ])
        .expect_code(0);
    assert_eq!(description(), before);
    assert_eq!(fs::read_to_string(device.join("kept")).unwrap(), "kept");
    project.comes_up_in_silence();
}

#[test]
fn a_container_that_is_not_to_be_stopped_keeps_its_volume() {
    let label = "    labels: {lifeboat.quiesce: none}\n";
    let (project, place) = (
        Project::with("never", label, "", "  files: {}\n"),
        Place::new(),
    );
    place.run(&["backup", &project.name]).expect_code(0);
    project.sh("api", "echo new >/files/new");
    place
        .run(&["restore", "latest", "--in-place", "--yes"])
        .expect_code(2)
        .says(&["lifeboat.quiesce=none", "hint: stop it: docker stop"]);
    assert_eq!(project.sh("api", "ls -A /files"), "new");
    let mut stop = Command::new("docker");
    assert!(
        stop.args(["stop", "-t", "0", &project.container("api")])
            .output()
            .unwrap()
            .status
            .success()
    );
    place
        .run(&["restore", "latest", "--in-place", "--yes"])
        .expect_code(0);
    assert_eq!(project.sh("web", "ls -A /files"), "");
}

//! What goes in comes out: every kind of file, by two ways of looking.

use super::artifact;
use crate::support::project::{Project, files_of};
use crate::support::server::{Place, docker};
use crate::support::soak;
use crate::support::tree::{furnish, furnish_irregular, same};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

#[test]
fn every_kind_of_file_comes_back_by_restore_clone_and_rename() {
    let (mut project, place) = (Project::start("kinds"), Place::new());
    let volume = project.volume();
    let files = files_of(&volume);
    furnish(&files);
    let made = place
        .run(&["volume", "backup", &volume, "--quiesce", "stop"])
        .expect_code(0);
    assert!(!made.text().contains("changed"), "{}", made.text());
    assert!(project.runs());
    let name = format!("volume/{volume}");
    let captured = artifact(&place, "latest", &name);
    assert_eq!(captured["consistency"], "stopped");
    assert_eq!(captured["media_type"], "application/x-tar");
    let (restored, cloned, renamed) = (
        project.another("restored"),
        project.another("cloned"),
        project.another("renamed"),
    );
    place
        .run(&["volume", "restore", "latest", "--as", &restored])
        .expect_code(0);
    assert_eq!(same(&files, &files_of(&restored)), "");
    place
        .run(&["volume", "clone", &volume, &cloned])
        .expect_code(0);
    assert_eq!(same(&files, &files_of(&cloned)), "");
    place
        .run(&["volume", "rename", &cloned, &renamed, "--yes"])
        .expect_code(0);
    assert_eq!(same(&files, &files_of(&renamed)), "");
    assert!(
        !docker(&["volume", "ls", "-q"])
            .lines()
            .any(|line| *line == *cloned)
    );
    for other in [&restored, &renamed, &"latest".to_owned()] {
        let diff = place
            .run(&["volume", "diff", &volume, other, "--json"])
            .expect_code(0)
            .json();
        let counts = ["added", "removed", "changed"].map(|what| diff[what].as_u64().unwrap());
        assert_eq!(counts, [0, 0, 0], "{other}: {diff}");
        assert!(diff["same"].as_u64().unwrap() > 300);
    }
    // The inspector of the stored bytes comes to the same digest as the helper that read the files.
    place.run(&["verify", "latest", "--deep"]).expect_code(0);
    place
        .run(&["volume", "backup", &volume, "--level", "9"])
        .expect_code(0);
    place.run(&["verify", "latest", "--deep"]).expect_code(0);
    // An archive that holds one byte more would be another one.
    fs::write(files.join("one more"), "x").unwrap();
    assert!(same(&files, &files_of(&restored)).contains("one more"));
}

#[test]
fn devices_and_sockets_are_left_out_with_a_warning() {
    let (mut project, place) = (Project::start("irregular"), Place::new());
    let volume = project.volume();
    furnish_irregular(&files_of(&volume));
    fs::write(files_of(&volume).join("plain"), "x").unwrap();
    let made = place
        .run(&["volume", "backup", &volume, "--json"])
        .expect_code(0);
    let warnings = made.json()["warnings"].to_string();
    assert!(
        warnings.contains("a device") && warnings.contains("a socket"),
        "{warnings}"
    );
    let restored = project.another("restored");
    place
        .run(&["volume", "restore", "latest", "--as", &restored])
        .expect_code(0);
    let entries = fs::read_dir(files_of(&restored)).unwrap();
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["plain"]);
}

#[test]
fn many_small_files_and_a_huge_one_with_holes_come_back() {
    let (mut project, place) = (Project::start("many"), Place::new());
    let volume = project.volume();
    let files = files_of(&volume);
    for folder in 0..100 {
        let folder = files.join(format!("folder-{folder}"));
        fs::create_dir(&folder).unwrap();
        for file in 0..1000 {
            fs::write(
                folder.join(file.to_string()),
                format!("{file} in {folder:?}"),
            )
            .unwrap();
        }
    }
    let sparse = fs::File::create(files.join("sparse")).unwrap();
    sparse.set_len(4 << 30).unwrap();
    sparse.write_at(b"in the middle", 3 << 30).unwrap();
    place
        .run(&["volume", "backup", &volume, "--quiesce", "pause"])
        .expect_code(0);
    let captured = artifact(&place, "latest", &format!("volume/{volume}"));
    assert_eq!(captured["consistency"], "paused");
    assert!(
        captured["raw_size"].as_u64().unwrap() < 1 << 30,
        "holes take no room"
    );
    let restored = project.another("restored");
    place
        .run(&["volume", "restore", "latest", "--as", &restored])
        .expect_code(0);
    let there = files_of(&restored);
    assert_eq!(same(&files, &there), "");
    assert!(fs::metadata(there.join("sparse")).unwrap().blocks() < 1000);
    for _ in 1..soak(1, 5) {
        place
            .run(&["volume", "restore", "latest", "--in-place", "--yes"])
            .expect_code(0);
    }
}

#[test]
fn stock_tar_follows_the_recipe() {
    let (project, place) = (Project::start("recipe"), Place::new());
    let volume = project.volume();
    let files = files_of(&volume);
    furnish(&files);
    place
        .run(&["backup", &project.name, "--quiesce", "stop"])
        .expect_code(0);
    let id = place.list().remove(0).0;
    let backup = place.repository.join(&project.name).join(id);
    // A reader of another making comes to the same digest, from the documentation alone.
    let reader = |arguments: &[&str]| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/reader.py");
        let output = Command::new("python3")
            .arg(script)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    reader(&["verify", place.repository.to_str().unwrap()]);
    let plain = place.folder.path().join("plain.tar");
    let plain = plain.to_str().unwrap();
    let name = format!("volume/{volume}");
    place
        .run(&["export", "latest", &name, "--output", plain])
        .expect_code(0);
    let shown = place
        .run(&["show", "latest", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(
        reader(&["digest", plain])["digest"],
        shown["facts"][&name]["tree"]["digest"]
    );
    let recipe = fs::read_to_string(backup.join("RESTORE.md")).unwrap();
    let blocks: Vec<&str> = recipe
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    let target = tempfile::tempdir().unwrap();
    // As it stands there, but for where to.
    let script: String = blocks
        .concat()
        .lines()
        .map(|line| match line.starts_with("DIR=") {
            true => format!("DIR={}\n", target.path().display()),
            false => format!("{line}\n"),
        })
        .collect();
    let script = format!("set -eu\n{script}");
    let run = Command::new("bash")
        .args(["-c", &script])
        .current_dir(&backup)
        .output()
        .unwrap();
    assert!(run.status.success(), "{script}\n{run:?}");
    assert_eq!(same(&files, target.path()), "");
}

#[test]
fn a_folder_is_captured_and_restored_like_a_volume() {
    let host = tempfile::tempdir().unwrap();
    let uploads = host.path().join("up loads");
    fs::create_dir(&uploads).unwrap();
    fs::write(uploads.join("a"), "before").unwrap();
    let mount = format!(
        "    volumes: [\"{}:/up\", \"files:/files\"]\n",
        uploads.display()
    );
    let project = {
        let mut project = Project::written("bind", "", "", "  files: {}\n");
        let file = project.file();
        let text = fs::read_to_string(&file).unwrap();
        let text = text.replacen("    volumes: [\"files:/files\"]\n", &mount, 1);
        fs::write(&file, text).unwrap();
        assert!(project.compose(&["up", "-d"]).status.success());
        project.others.clear();
        project
    };
    let place = Place::new();
    let include = format!("bind:{}", uploads.display());
    place.configure(&format!(
        "[stack.{}]\ninclude = [{include:?}]\n",
        project.name
    ));
    let listed = place.run(&["volume", "ls", "--json"]).expect_code(0).json();
    let listed = listed["volumes"].as_array().unwrap().clone();
    let row = listed
        .iter()
        .find(|row| row["name"] == include.as_str())
        .unwrap();
    assert_eq!(row["mounted_by"][0]["container"], project.container("api"));
    assert_eq!(row["size"]["files"], 1);
    place.run(&["backup", &project.name]).expect_code(0);
    let encoded = uploads
        .display()
        .to_string()
        .replace('/', "%2F")
        .replace(' ', "%20");
    artifact(&place, "latest", &format!("bind/{encoded}"));
    fs::write(uploads.join("a"), "after").unwrap();
    fs::write(uploads.join("stale"), "").unwrap();
    let beside = host.path().join("made/beside");
    let beside_text = beside.display().to_string();
    place
        .run(&[
            "volume",
            "restore",
            "latest",
            "--volume",
            &include,
            "--as",
            &beside_text,
        ])
        .expect_code(0);
    assert_eq!(fs::read_to_string(beside.join("a")).unwrap(), "before");
    place
        .run(&[
            "volume",
            "restore",
            "latest",
            "--volume",
            &include,
            "--as",
            &beside_text,
        ])
        .expect_code(2)
        .says(&["is not empty", "hint: choose one that is"]);
    place
        .run(&[
            "restore",
            "latest",
            "--only",
            &format!("bind/{encoded}"),
            "--in-place",
            "--yes",
        ])
        .expect_code(0);
    let names: Vec<_> = fs::read_dir(&uploads)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["a"]);
    assert_eq!(fs::read_to_string(uploads.join("a")).unwrap(), "before");
    assert!(project.runs());
    // Whoever wrote a backup chose the folder: without a container that has it mounted, it could be any.
    assert!(project.compose(&["down"]).status.success());
    place
        .run(&[
            "volume",
            "restore",
            "latest",
            "--volume",
            &include,
            "--in-place",
            "--yes",
        ])
        .expect_code(2)
        .says(&["no container has the folder", "hint: --as PATH"]);
}

//! The Compose project's own files: which of them are in a backup, and how they come back.

use crate::support::project::APP;
use crate::support::server::{Place, Ran, unique};
use crate::support::tree::same;
use serde_json::Value;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// What a project has besides data: configurations, variables and secrets, by each of the ways that Compose knows.
const COMPOSE: &str = "services:
  api:
    image: APP
    init: true
    command: [sleep, infinity]
    env_file: [app.env, {path: shared/more.conf, required: false}]
    secrets: [token]
    configs: [motd]
    volumes:
      - files:/files
      - ./conf/app.conf:/etc/app.conf:ro
      - ./data:/data
secrets: {token: {file: ./private/token}}
configs: {motd: {file: ./motd.txt}}
volumes: {files: {}}
include: [other/more.yaml]
";

/// A project whose containers were created and do not run; taken down on drop.
struct Project {
    name: String,
    folder: TempDir,
    place: Place,
    /// The last backup: those of one second are in no order of time.
    last: RefCell<String>,
}

impl Project {
    fn new() -> Self {
        let project = Self {
            name: unique("files"),
            folder: tempfile::tempdir().unwrap(),
            place: Place::new(),
            last: RefCell::default(),
        };
        for (path, text) in [
            ("compose.yaml", &*COMPOSE.replace("APP", APP)),
            ("other/more.yaml", "services: {}\n"),
            (".env", "COLOUR=green\n"),
            ("app.env", "A=1\n"),
            ("shared/more.conf", "B=2\n"),
            ("private/token", "a secret\n"),
            ("motd.txt", "hello\n"),
            ("conf/app.conf", "x = 1\n"),
            ("conf/deep/er.conf", "y = 2\n"),
            ("data/rows", "not the project's\n"),
            ("notes.txt", "nobody names this\n"),
        ] {
            project.write(path, text);
        }
        let file = project.path("conf/app.conf");
        fs::set_permissions(file, fs::Permissions::from_mode(0o640)).unwrap();
        let created = project.compose(&["create"]);
        assert!(created.status.success(), "{created:?}");
        project
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn compose(&self, arguments: &[&str]) -> Output {
        compose(&self.name, self.folder.path(), arguments)
    }

    fn include(&self, patterns: &[&str]) {
        self.place.configure(&format!(
            "[stack.{}]\ninclude_files = {patterns:?}\n",
            self.name
        ));
    }

    /// From now on backups are encrypted.
    fn encrypt(&self, include: &[&str]) {
        let made = self
            .place
            .run(&["key", "generate", "--output", "key", "--json"]);
        let public = made.expect_code(0).json()["public_key"].clone();
        self.place.configure(&format!(
            "[encryption]\nrecipients = [{public}]\nidentity = {{ file = \"key\" }}\nhide_names = true\n\
             [stack.{}]\ninclude_files = {include:?}\n",
            self.name
        ));
    }

    fn backup(&self) -> Ran {
        self.run_backup(&["--only", "files"])
    }

    fn run_backup(&self, arguments: &[&str]) -> Ran {
        let command = ["backup", &self.name, "--json", "--verbose"];
        let ran = self.place.run(&[&command[..], arguments].concat());
        if ran.code == Some(0) {
            let id = ran.json()["backup"].as_str().unwrap().to_owned();
            self.last.replace(id);
        }
        ran
    }

    fn last(&self) -> String {
        self.last.borrow().clone()
    }

    /// What `show` says of the last backup.
    fn shown(&self) -> Value {
        let shown = self.place.run(&["show", &self.last(), "--json"]);
        shown.expect_code(0).json()
    }

    /// The last backup's files, in a folder that was not there.
    fn restored(&self) -> PathBuf {
        let folder = self.place.folder.path().join(unique("restored"));
        let name = folder.to_str().unwrap();
        self.place
            .run(&["restore", &self.last(), "--only", "files", "--as", name])
            .expect_code(0);
        folder
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        // By its labels: a test may have spoilt its file.
        let down = ["down", "--volumes", "--timeout", "0"];
        compose(&self.name, Path::new("/"), &down);
    }
}

fn compose(name: &str, folder: &Path, arguments: &[&str]) -> Output {
    Command::new("docker")
        .args(["compose", "--project-name", name, "--ansi", "never"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// The paths of a folder's files and links.
fn paths(folder: &Path) -> Vec<String> {
    let found = Command::new("find")
        .args([".", "!", "-type", "d", "-printf", "%P\n"])
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    let mut paths: Vec<String> = text.lines().map(str::to_owned).collect();
    paths.sort();
    paths
}

const PUBLIC: [&str; 4] = [
    "compose.yaml",
    "conf/app.conf",
    "motd.txt",
    "other/more.yaml",
];
const SECRET: [&str; 4] = [".env", "app.env", "private/token", "shared/more.conf"];

#[test]
fn an_unencrypted_backup_has_the_project_and_says_which_secrets_it_lacks() {
    let project = Project::new();
    // Of the whole stack, with its volume.
    let backup = project.run_backup(&[]).expect_code(0).json();
    let whole = project.last();
    assert_eq!(backup["complete"], true, "{backup}");
    let restored = project.restored();
    assert_eq!(paths(&restored), PUBLIC);
    let mode = fs::metadata(restored.join("conf/app.conf")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o7777, 0o640);
    for path in PUBLIC {
        let before = fs::metadata(project.path(path)).unwrap();
        let after = fs::metadata(restored.join(path)).unwrap();
        assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    }
    let shown = project.shown();
    let notes = shown["manifest"]["notes"].to_string();
    for path in SECRET {
        assert!(notes.contains(path), "{notes}");
    }
    let left_out = shown["facts"]["files"]["left_out"].as_array().unwrap();
    assert_eq!(left_out.len(), SECRET.len());
    // Whoever knows can say so, and hears no more of it.
    project.include(&["!.env", "!app.env", "!private", "!shared"]);
    project.backup().expect_code(0);
    assert_eq!(project.shown()["manifest"]["notes"].to_string(), "[]");

    project.place.run(&["verify", "--deep"]).expect_code(0);
    let plan = project
        .place
        .run(&["drill", &whole, "--json"])
        .expect_code(0)
        .json();
    let proven = plan["artifacts"].to_string();
    assert!(proven.contains("tree digest"), "{proven}");
    second_reader(&project.place.repository);

    // A restore of the whole stack leaves what somebody may have edited alone.
    project.write("compose.yaml", "edited");
    project
        .place
        .run(&["restore", &whole, "--in-place", "--yes"])
        .expect_code(0);
    let left = fs::read_to_string(project.path("compose.yaml")).unwrap();
    assert_eq!(left, "edited");
    let in_place = ["restore", &whole, "--only", "files", "--in-place", "--yes"];
    project
        .place
        .run(&in_place)
        .expect_code(2)
        .says(&["--as FOLDER"]);
    project.write("compose.yaml", &COMPOSE.replace("APP", APP));
}

#[test]
fn an_encrypted_backup_has_all_of_it_and_compose_reads_it_again() {
    let project = Project::new();
    project.encrypt(&[]);
    project.backup().expect_code(0);
    let restored = project.restored();
    let mut all: Vec<&str> = PUBLIC.iter().chain(&SECRET).copied().collect();
    all.sort_unstable();
    assert_eq!(paths(&restored), all);
    let before = project.compose(&["config"]);
    assert!(before.status.success(), "{before:?}");
    let after = compose(&project.name, &restored, &["config"]);
    assert!(after.status.success(), "{after:?}");
    let text = |output: &Output, folder: &Path| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.replace(folder.to_str().unwrap(), "HERE")
    };
    assert_eq!(
        text(&before, project.folder.path()),
        text(&after, &restored)
    );
    // What anybody may read says nothing of it.
    for file in project.place.files() {
        let bytes = fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for word in ["private/token", "a secret", "COLOUR"] {
            assert!(!text.contains(word), "{}: {word}", file.display());
        }
    }
    project.place.run(&["verify", "--deep"]).expect_code(0);
}

#[test]
fn stock_tar_brings_the_same() {
    let project = Project::new();
    project.include(&["conf", "notes.txt"]);
    project.backup().expect_code(0);
    let restored = project.restored();
    assert!(paths(&restored).contains(&"conf/deep/er.conf".to_owned()));
    assert!(paths(&restored).contains(&"notes.txt".to_owned()));
    let exported = project.place.folder.path().join("files.tar");
    let output = exported.to_str().unwrap();
    project
        .place
        .run(&["export", "latest", "files", "--output", output])
        .expect_code(0);
    let stock = tempfile::tempdir().unwrap();
    let tar = Command::new("tar")
        .args(["--extract", "--same-permissions", "--same-owner", "--file"])
        .arg(&exported)
        .current_dir(stock.path())
        .status()
        .unwrap();
    assert!(tar.success());
    assert_eq!(same(&restored, stock.path()), "");
}

#[test]
fn a_secret_that_is_asked_for_is_refused_before_anything_is_captured() {
    let project = Project::new();
    for (pattern, name) in [
        (".env", ".env"),
        ("private/token", "private/token"),
        ("**", ".env"),
        ("conf/**", "conf/server.key"),
    ] {
        project.write("conf/server.key", "key\n");
        project.include(&[pattern]);
        project
            .backup()
            .expect_code(2)
            .says(&["not encrypted", name, "!"]);
    }
    assert!(project.place.list().is_empty());
    project.include(&["conf/**", "!**/*.key"]);
    project.backup().expect_code(0);
    assert!(paths(&project.restored()).contains(&"conf/deep/er.conf".to_owned()));
    project.encrypt(&["conf/**"]);
    project.backup().expect_code(0);
    assert!(paths(&project.restored()).contains(&"conf/server.key".to_owned()));
}

#[test]
fn patterns_take_what_they_mean_and_what_is_outside_has_a_name_of_its_own() {
    let project = Project::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().join("etc/app.conf");
    fs::create_dir(elsewhere.path().join("etc")).unwrap();
    fs::write(&outside, "outside\n").unwrap();
    project.write("zz/last.txt", "sorts behind what is outside\n");
    project.include(&["**/*.txt", outside.to_str().unwrap(), "no*where"]);
    let ran = project.backup().expect_code(0);
    ran.says(&["no*where"]);
    let restored = project.restored();
    let inside = format!("_outside{}", outside.display());
    assert_eq!(
        fs::read_to_string(restored.join(&inside)).unwrap(),
        "outside\n"
    );
    let found = paths(&restored);
    for path in ["notes.txt", "zz/last.txt", "motd.txt", "compose.yaml"] {
        assert!(found.contains(&path.to_owned()), "{found:?}");
    }
    assert!(!found.contains(&"data/rows".to_owned()));
    project.place.run(&["verify", "--deep"]).expect_code(0);
    second_reader(&project.place.repository);

    project.include(&["nowhere"]);
    project.backup().expect_code(1).says(&["nowhere"]);
    project.include(&["../x"]);
    project.backup().expect_code(2);
    let mut without = project.place.command(&["backup", &project.name]);
    without.args(["--only", "files", "--allow-partial"]);
    project.include(&["nowhere"]);
    assert_eq!(without.output().unwrap().status.code(), Some(1));
}

#[test]
fn no_link_leads_out_and_nothing_that_is_no_file_is_taken() {
    let project = Project::new();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("treasure"), "treasure\n").unwrap();
    symlink(elsewhere.path(), project.path("conf/out")).unwrap();
    symlink(elsewhere.path().join("treasure"), project.path("conf/t")).unwrap();
    symlink("deep/er.conf", project.path("conf/in")).unwrap();
    symlink("..", project.path("conf/round")).unwrap();
    symlink("../../../../../../etc/passwd", project.path("conf/up")).unwrap();
    let made = Command::new("mkfifo")
        .arg(project.path("conf/pipe"))
        .status();
    assert!(made.unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(project.path("conf/s")).unwrap();
    let odd = project
        .path("conf")
        .join(OsStr::from_bytes(b"-rf $(id)\n\xff"));
    fs::write(&odd, "odd\n").unwrap();
    project.include(&["conf/**", "conf/t/../out/treasure/"]);
    project.backup().expect_code(2);
    project.include(&["conf/**"]);
    let ran = project.backup().expect_code(0);
    ran.says(&[
        "conf/out leads to",
        "conf/t leads to",
        "conf/pipe",
        "conf/s",
    ]);
    let restored = project.restored();
    for link in ["out", "t", "in", "round", "up"] {
        let path = restored.join("conf").join(link);
        assert!(path.is_symlink(), "{link}");
    }
    for gone in ["pipe", "s"] {
        assert!(!restored.join("conf").join(gone).exists(), "{gone}");
    }
    let name = odd.file_name().unwrap();
    assert_eq!(
        fs::read(restored.join("conf").join(name)).unwrap(),
        b"odd\n"
    );
    let output = project.place.folder.path().join("files.tar");
    let export = ["export", &project.last(), "files", "--output"];
    let export = [&export[..], &[output.to_str().unwrap()]].concat();
    project.place.run(&export).expect_code(0);
    let exported = fs::read(&output).unwrap();
    let exported = String::from_utf8_lossy(&exported);
    assert!(!exported.contains("treasure\n"), "a link was followed");
    project.include(&["conf/out/treasure"]);
    project.backup().expect_code(0).says(&["leads to"]);
    assert!(!paths(&project.restored()).contains(&"conf/out/treasure".to_owned()));
}

#[test]
fn too_much_is_refused_and_what_is_large_comes_only_when_asked_for() {
    let project = Project::new();
    let file = fs::File::create(project.path("conf/app.conf")).unwrap();
    file.set_len(2 << 20).unwrap();
    project
        .backup()
        .expect_code(0)
        .says(&["conf/app.conf has 2097152 bytes"]);
    assert!(!paths(&project.restored()).contains(&"conf/app.conf".to_owned()));
    project.include(&["conf/app.conf"]);
    project.backup().expect_code(0);
    assert!(paths(&project.restored()).contains(&"conf/app.conf".to_owned()));
    file.set_len(65 << 20).unwrap();
    project
        .backup()
        .expect_code(1)
        .says(&["64 MiB", "bind:/path"]);
}

#[test]
fn hostile_yaml_harms_nobody() {
    let project = Project::new();
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let inner = vec![format!("*a{}", level - 1); 10].join(",");
        writeln!(bomb, "a{level}: &a{level} [{inner}]").unwrap();
    }
    for text in [bomb, "[".repeat(1 << 19), "x".repeat(2 << 20), "{".into()] {
        project.write("compose.yaml", &text);
        project.backup().expect_code(0).says(&["compose.yaml"]);
    }
    // A label that names something else than a Compose file brings nothing.
    project.write(
        "compose.yaml",
        "services: {}\ninclude: [motd.txt, /etc/shadow]\n",
    );
    project.backup().expect_code(0);
    let found = paths(&project.restored());
    assert_eq!(found, ["compose.yaml"], "{found:?}");
}

#[test]
fn a_restore_writes_nothing_that_is_there_and_leaves_nothing_half() {
    let project = Project::new();
    project.backup().expect_code(0);
    let folder = project.place.folder.path();
    let target = folder.join("target");
    let name = target.to_str().unwrap();
    let restore = ["restore", "latest", "--only", "files", "--as", name];
    fs::create_dir(&target).unwrap();
    fs::write(target.join("mine"), "mine\n").unwrap();
    project
        .place
        .run(&restore)
        .expect_code(2)
        .says(&["not empty"]);
    assert_eq!(paths(&target), ["mine"]);
    fs::remove_dir_all(&target).unwrap();
    fs::write(&target, "a file\n").unwrap();
    project.place.run(&restore).expect_code(2);
    fs::remove_file(&target).unwrap();
    let planned = project.place.run(&[&restore[..], &["--dry-run"]].concat());
    planned.expect_code(0).says(&["would write"]);
    assert!(!target.exists());

    // What a run that was killed has left does not end up in what the next one writes.
    let staging = folder.join(".target.lifeboat-restoring");
    fs::create_dir(&staging).unwrap();
    fs::write(staging.join("half"), "half\n").unwrap();
    let mut lock = Command::new("flock");
    lock.args(["--shared", staging.to_str().unwrap(), "-c"]);
    lock.arg("read -r _").stdin(std::process::Stdio::piped());
    let mut holder = lock.spawn().unwrap();
    crate::support::server::wait_for("the folder is locked", || {
        let tried = Command::new("flock")
            .args([
                "--nonblock",
                "--exclusive",
                staging.to_str().unwrap(),
                "true",
            ])
            .status();
        !tried.unwrap().success()
    });
    project.place.run(&restore).expect_code(11);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    // An empty folder will do.
    fs::create_dir(&target).unwrap();
    project.place.run(&restore).expect_code(0);
    assert_eq!(paths(&target), PUBLIC);
    assert!(!staging.exists());
    fs::remove_dir_all(&target).unwrap();

    let stored = project
        .place
        .files()
        .into_iter()
        .find(|path| path.ends_with("files.tar.zst"))
        .unwrap();
    let mut bytes = fs::read(&stored).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&stored).unwrap();
    fs::write(&stored, bytes).unwrap();
    project.place.run(&restore).expect_code(13);
    assert!(!target.exists() && !staging.exists());
    project.place.run(&["verify"]).expect_code(13);
}

#[test]
fn a_project_that_is_not_on_this_machine_has_no_files_and_that_is_no_fault() {
    let project = Project::new();
    let away = tempfile::tempdir().unwrap();
    fs::rename(project.folder.path(), away.path().join("moved")).unwrap();
    let said = project.run_backup(&[]).expect_code(0);
    let backup = said.json();
    let artifacts = backup["artifacts"].as_array().unwrap();
    assert_eq!(artifacts.len(), 1, "{backup}");
    said.says(&["not on this machine"]);
    project.include(&["conf"]);
    project
        .place
        .run(&["backup", &project.name])
        .expect_code(1)
        .says(&["include_files"]);
    fs::rename(away.path().join("moved"), project.folder.path()).unwrap();
}

/// The reader that was made from docs/format.md finds nothing wrong.
fn second_reader(repository: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/reader.py");
    let read = Command::new("python3")
        .arg(script)
        .arg("verify")
        .arg(repository)
        .output()
        .unwrap();
    assert!(read.status.success(), "{read:?}");
}

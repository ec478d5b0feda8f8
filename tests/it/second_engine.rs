//! The second engine that other tests rely on: empty, apart from the first, and gone afterwards.

use crate::support::second_engine::{SecondEngine, processes_of};
use crate::support::server::{docker, wait_for};
use std::fs;
use std::path::{Path, PathBuf};

const REDIS: &str = "lifeboat-lab/redis:7.0";

/// Everything of an engine that its end must take with it.
fn left_of(folder: &Path) -> Vec<String> {
    let name = folder.file_name().unwrap();
    let mut left = processes_of(folder);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let path = folder.to_string_lossy();
    left.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&*path))
            .map(str::to_owned),
    );
    let trees = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let mut folders: Vec<PathBuf> = trees.map(|tree| tree.path().join(name)).collect();
    folders.extend([Path::new("/sys/fs/cgroup").join(name), folder.to_owned()]);
    folders.retain(|folder| folder.exists());
    left.extend(folders.iter().map(|folder| folder.display().to_string()));
    left
}

/// Two services of which one asks the other, with a volume and a published port.
fn compose_up(engine: &SecondEngine, folder: &Path) {
    let text = format!(
        "name: second\nservices:\n  redis:\n    image: {REDIS}\n    ports: [\"127.0.0.1:6379:6379\"]\n\
         \x20   volumes: [\"data:/data\"]\n  asks:\n    image: {REDIS}\nvolumes:\n  data: {{}}\n"
    );
    fs::write(folder.join("compose.yaml"), text).unwrap();
    let up = engine.compose(folder, &["up", "-d"]);
    assert!(up.status.success(), "{up:?}");
}

#[test]
fn a_second_engine_begins_empty_serves_and_leaves_nothing_behind() {
    let engine = SecondEngine::start("serves");
    for list in [
        &["ps", "-aq"][..],
        &["image", "ls", "-q"],
        &["volume", "ls", "-q"],
    ] {
        assert_eq!(engine.docker(list), "");
    }
    engine.load_images(&[REDIS]);
    let id = ["image", "inspect", "-f", "{{.Id}}", REDIS];
    assert_eq!(engine.docker(&id), docker(&id));

    let files = tempfile::tempdir().unwrap();
    compose_up(&engine, files.path());
    wait_for("one service reaches the other by its name", || {
        let ping = ["exec", "-T", "asks", "redis-cli", "-h", "redis", "PING"];
        engine.compose(files.path(), &ping).stdout == b"PONG\n"
    });
    let project = "label=com.docker.compose.project=second";
    assert_eq!(docker(&["ps", "-aq", "--filter", project]), "");
    assert_eq!(docker(&["volume", "ls", "-q", "--filter", project]), "");

    let folder = engine.folder().to_owned();
    assert!(left_of(&folder).len() > 2, "what does this test?");
    drop(engine);
    assert_eq!(left_of(&folder), [""; 0]);
}

#[test]
fn an_engine_of_a_test_that_was_killed_ends_and_the_next_one_clears_up() {
    let folder = std::thread::spawn(|| {
        let engine = SecondEngine::start("killed");
        engine.load_images(&[REDIS]);
        let files = tempfile::tempdir().unwrap();
        compose_up(&engine, files.path());
        let folder = engine.folder().to_owned();
        engine.abandon();
        folder
    });
    let folder = folder.join().unwrap();
    drop(SecondEngine::start("next"));
    assert_eq!(left_of(&folder), [""; 0]);
}

//! Faults of the place where backups are stored.

use crate::support::server::{Place, Server};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own; unmounted on drop.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path, size: &str) -> Self {
        fs::create_dir_all(path).unwrap();
        let options = format!("size={size}");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(path)
            .status()
            .unwrap();
        assert!(mount.success(), "this test mounts a tmpfs: it needs root");
        Self(path.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_fails_the_backup_and_leaves_the_older_one() {
    let (server, place) = (Server::start("full"), Place::without_repository());
    let _small = Small::mount(&place.repository, "3m");
    place.init();
    server.fill(1000);
    place.run(&["backup", &server.stack]).expect_code(0);
    let (before, listed) = (place.files(), place.list());
    server.sql("app", "insert into items select id + 100000, body from items; insert into items select id + 300000, sha256(body) || body from items");
    server.sql(
        "app",
        "update items set body = body || sha256(body || 'x') || body where id > 100000",
    );
    place
        .run(&["backup", &server.stack, "--json"])
        .expect_code(1)
        .says(&["No space left on device", "postgres/postgres/db/app"]);
    assert_eq!(place.files(), before);
    assert_eq!(place.list(), listed);
    place.run(&["verify", "--all"]).expect_code(0);
    assert_eq!(server.locks(), 0);
    // Not even an empty file fits.
    fs::write(place.repository.join("filler"), vec![1; 1 << 20]).unwrap_or(());
    let filler = vec![1_u8; 4 << 20];
    let _ = fs::write(place.repository.join("filler"), filler);
    place
        .run(&["backup", &server.stack])
        .expect_code(1)
        .says(&["No space left"]);
    fs::remove_file(place.repository.join("filler")).unwrap();
    assert_eq!(place.files(), before);
    // With room again, it works again.
    server.sql("app", "delete from items where id > 100000");
    place.run(&["backup", &server.stack]).expect_code(0);
}

#[test]
fn a_repository_that_is_not_there_is_not_made() {
    let (server, place) = (Server::start("gone"), Place::without_repository());
    let calls: [&[&str]; 4] = [
        &["backup", &server.stack],
        &["list"],
        &["verify", "--all"],
        &["restore", "latest", "--in-place", "--yes"],
    ];
    for call in calls {
        let ran = place.run(&[call, &["--json"]].concat()).expect_code(10);
        let error = ran.json();
        assert_eq!(
            (&error["kind"], &error["code"]),
            (&"not_found".into(), &10.into())
        );
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.contains("repository init"), "{hint}");
        assert!(!place.repository.exists(), "{call:?}");
    }
    // An empty folder is what is left where a disk is not mounted.
    fs::create_dir(&place.repository).unwrap();
    for call in calls {
        place.run(call).expect_code(10);
        assert!(place.files().is_empty(), "{call:?}");
    }
}

/// What may happen to a stored file.
const DAMAGES: [&str; 5] = ["deleted", "truncated", "flipped", "appended", "swapped"];

fn damage(path: &Path, how: &str, other: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    match how {
        "deleted" => return fs::remove_file(path).unwrap(),
        "truncated" => bytes.truncate(bytes.len() - 1),
        "flipped" => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        "appended" => bytes.push(b'\n'),
        _ => other.clone_into(&mut bytes),
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn every_damage_of_every_object_is_found_before_the_target_is_touched() {
    let (server, place) = (Server::start("damage"), Place::new());
    server.fill(5);
    server.sql("postgres", "create role somebody login password 'x'");
    place.run(&["backup", &server.stack]).expect_code(0);
    let id = place.list().remove(0).0;
    let folder = place.repository.join(&server.stack).join(&id);
    server.sql(
        "app",
        "insert into items values (0, 'written after the backup')",
    );
    server.sql("postgres", "drop role somebody");
    let roles = || server.sql("postgres", "select rolname from pg_roles order by 1");
    let (contents, all_roles) = (server.contents(), roles());
    let objects: Vec<PathBuf> = place
        .files()
        .into_iter()
        .filter(|path| path.starts_with(&folder))
        .collect();
    assert!(objects.len() >= 7, "{objects:?}");
    for object in &objects {
        let whole = fs::read(object).unwrap();
        let other = objects
            .iter()
            .map(|path| fs::read(path).unwrap())
            .find(|bytes| *bytes != whole)
            .unwrap();
        let name = object.strip_prefix(&folder).unwrap().to_str().unwrap();
        for how in DAMAGES {
            damage(object, how, &other);
            let verified = place.run(&["verify", &id]);
            let restored = place.run(&["restore", &id, "--in-place", "--yes"]);
            fs::write(object, &whole).unwrap();
            assert_eq!(verified.code, Some(13), "{name} {how}: {}", verified.text());
            assert!(
                verified.text().contains(name),
                "{name} {how}: {}",
                verified.text()
            );
            assert_eq!(restored.code, Some(13), "{name} {how}: {}", restored.text());
            assert!(
                restored.text().contains(name),
                "{name} {how}: {}",
                restored.text()
            );
        }
        assert_eq!(server.contents(), contents, "{name}");
        assert_eq!(roles(), all_roles, "{name}");
    }
    place.run(&["verify", &id]).expect_code(0);
    let commit = place
        .repository
        .join(&server.stack)
        .join(format!("{id}.backup.json"));
    let whole = fs::read(&commit).unwrap();
    for how in ["truncated", "flipped", "appended", "swapped"] {
        damage(&commit, how, &fs::read(&objects[0]).unwrap());
        let restored = place.run(&["restore", &id, "--in-place", "--yes"]);
        let verified = place.run(&["verify", "--all"]);
        fs::write(&commit, &whole).unwrap();
        assert_eq!(
            (verified.code, restored.code),
            (Some(13), Some(13)),
            "{how}: {}",
            verified.text()
        );
    }
    // Without its commit there is no backup.
    fs::remove_file(&commit).unwrap();
    assert_eq!(place.list(), []);
    place
        .run(&["restore", &id, "--in-place", "--yes"])
        .expect_code(10);
    assert_eq!(server.contents(), contents);
}

#[test]
fn a_lost_object_does_not_take_the_others_along() {
    let (server, place) = (Server::start("lost"), Place::new());
    server.fill(5);
    place.run(&["backup", &server.stack]).expect_code(0);
    let id = place.list().remove(0).0;
    let lost = "postgres/postgres/globals.sql.zst";
    fs::remove_file(place.repository.join(&server.stack).join(&id).join(lost)).unwrap();
    place.run(&["verify"]).expect_code(13).says(&[lost]);
    let (all, one) = (
        ["restore", "latest", "--in-place", "--yes"],
        ["restore", "latest", "--only", "app", "--as", "copy"],
    );
    let before = server.contents();
    place.run(&all).expect_code(13).says(&[lost]);
    assert_eq!(server.contents(), before);
    place.run(&one).expect_code(0);
    assert_eq!(server.sql("copy", "select count(*) from items"), "5");
    place.run(&["show", "--json"]).expect_code(0);
}

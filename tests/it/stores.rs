//! Repositories in buckets as people use them: from several machines, through faults, encrypted and signed.

use crate::support::proxy::{Fault, Proxy, Seen};
use crate::support::server::{Place, Server, unique};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// What must never be seen outside of the place that it was given in.
const CANARY: &str = "canary-8f2c41";

#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the lab's environment"
)]
fn endpoint() -> String {
    std::env::var("LIFEBOAT_LAB_S3").expect("tests/lab/lab stores; eval \"$(tests/lab/lab env)\"")
}

/// A machine of its own: a state folder, a configuration, and the way to a bucket.
fn machine(endpoint: &str, prefix: &str) -> Place {
    let mut place = Place::without_repository();
    for (name, value) in [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", CANARY),
        (
            "LIFEBOAT_REPOSITORY",
            &format!("s3://lifeboat-tests/{prefix}"),
        ),
        ("LIFEBOAT_RETRY_FOR", "5"),
        ("LIFEBOAT_REQUEST_TIMEOUT", "5"),
    ] {
        place.env.insert(name.to_owned(), value.to_owned());
    }
    place
}

fn new_bucket() -> (Place, String) {
    let prefix = unique("stores");
    let place = machine(&endpoint(), &prefix);
    place.run(&["repository", "init"]).expect_code(0);
    (place, prefix)
}

/// A server with a database of some rows.
fn shop() -> Server {
    let server = Server::start("stores");
    server.sql(
        "postgres",
        "create table items as select n as id, md5(n::text) as name from generate_series(1, 5000) n",
    );
    server
}

fn rows(server: &Server, database: &str) -> String {
    server.sql(
        database,
        "select count(*), md5(string_agg(name, '' order by id)) from items",
    )
}

fn key(place: &Place, file: &str) -> String {
    let made = place
        .run(&["key", "generate", "--output", file, "--json"])
        .expect_code(0);
    made.json()["public_key"].as_str().unwrap().to_owned()
}

/// Every text of a folder, and of its folders.
fn texts(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            texts(&entry.path(), found);
        } else {
            found.push((
                entry.path().display().to_string(),
                fs::read(entry.path()).unwrap(),
            ));
        }
    }
}

#[test]
fn two_machines_share_one_bucket() {
    let (one, prefix) = new_bucket();
    let two = machine(&endpoint(), &prefix);
    let (first, second) = (shop(), shop());
    let at_work = two.spawn(&["backup", &second.stack]);
    one.run(&["backup", &first.stack]).expect_code(0);
    at_work.end().expect_code(0);
    for place in [&one, &two] {
        assert_eq!(place.list().len(), 2);
        place.run(&["verify", "--all", "--deep"]).expect_code(0);
    }
}

#[test]
fn a_host_that_has_nothing_but_address_and_key_restores() {
    let (writer, prefix) = new_bucket();
    let server = shop();
    let public = key(&writer, "key");
    writer
        .run(&["backup", &server.stack, "--recipient", &public])
        .expect_code(0);
    let host = machine(&endpoint(), &prefix);
    fs::copy(
        writer.folder.path().join("key"),
        host.folder.path().join("key"),
    )
    .unwrap();
    key(&host, "wrong");
    let restore = [
        "restore", "latest", "--only", "postgres", "--as", "again", "--yes",
    ];
    for keys in [&[][..], &["--identity", "wrong"]] {
        host.run(&[&restore[..], keys].concat())
            .expect_code(12)
            .says(&["hint: "]);
        host.run(&[&["key", "check"][..], keys].concat())
            .expect_code(12);
    }
    assert_eq!(
        server.sql(
            "postgres",
            "select count(*) from pg_database where datname like '%again%'"
        ),
        "0"
    );
    host.run(&["verify", "latest"]).expect_code(0);
    host.run(&["verify", "latest", "--deep"]).expect_code(12);
    let keys = ["--identity", "key"];
    host.run(&[&["key", "check"][..], &keys].concat())
        .expect_code(0);
    host.run(&[&["verify", "latest", "--deep"][..], &keys].concat())
        .expect_code(0);
    host.run(&[&restore[..], &keys].concat()).expect_code(0);
    assert_eq!(rows(&server, "again"), rows(&server, "postgres"));
    let shown = host.run(&["show", "--json"]).expect_code(0).json();
    assert!(shown["facts"].is_null(), "{shown}");
}

#[test]
fn a_backup_that_is_killed_at_any_request_is_absent_or_complete() {
    let (place, prefix) = new_bucket();
    let server = shop();
    let proxy = Proxy::new(&endpoint());
    let through = machine(&proxy.url(), &prefix);
    for n in 1.. {
        let process = Arc::new(AtomicU32::new(0));
        let victim = Arc::clone(&process);
        proxy.rule(move |seen: &Seen| {
            if seen.number != n {
                return None;
            }
            // The request comes from the process, so that its number is known by then, or in a moment.
            while victim.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            let number = victim.load(Ordering::Relaxed).to_string();
            Command::new("kill").args(["-9", &number]).status().unwrap();
            Some(Fault::LoseAnswer)
        });
        let mut child = through
            .command(&["backup", &server.stack, "--quiet"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        process.store(child.id(), Ordering::Relaxed);
        let ended = child.wait().unwrap();
        let listed = place.list();
        assert!(listed.iter().all(|(_, complete)| *complete));
        if ended.success() {
            // No request came to the number that kills: every one has been through it.
            assert!(proxy.seen().len() < n);
            break;
        }
    }
    place.run(&["verify", "--all"]).expect_code(0);
    // What the killed ones have left keeps nobody from anything.
    place.run(&["backup", &server.stack]).expect_code(0);
    place.run(&["repository", "check"]).expect_code(0);
}

#[test]
fn one_repository_that_fails_takes_no_other_with_it() {
    let (place, prefix) = new_bucket();
    let server = shop();
    let proxy = Proxy::new(&endpoint());
    let mut through = machine(&proxy.url(), &prefix);
    through.env.remove("LIFEBOAT_REPOSITORY");
    through.init();
    let bucket = format!("s3://lifeboat-tests/{prefix}");
    let both = [
        "backup",
        &server.stack,
        "--repository",
        "repository",
        "--repository",
        &bucket,
    ];
    through.run(&both).expect_code(0);
    assert_eq!((through.list().len(), place.list().len()), (1, 1));
    assert_eq!(through.list()[0].0, place.list()[0].0);
    // It goes away in the middle, before it has all of the dump.
    proxy.rule(|seen: &Seen| {
        seen.path
            .contains(".dump")
            .then_some(Fault::Answer(500, ""))
    });
    let failed = through.run(&both).expect_code(1);
    let failed = failed.says(&["NOT in s3://", "the backup ", "hint: lifeboat copy"]);
    let command = failed.text();
    let command = command.split("hint: lifeboat ").nth(1).unwrap();
    let command = command.split(" brings").next().unwrap().to_owned();
    through
        .run(&[&both[..], &["--allow-partial"]].concat())
        .expect_code(3);
    assert_eq!((through.list().len(), place.list().len()), (3, 1));
    proxy.rule(|_: &Seen| None);
    // The hint is a command that works.
    let words: Vec<&str> = command.split(' ').collect();
    through.run(&words).expect_code(0).says(&["copied "]);
    through.run(&words).expect_code(0).says(&["already"]);
    assert_eq!(place.list().len(), 2);
    place.run(&["verify", "--all", "--deep"]).expect_code(0);
    // One that is not there at all is named, and the other has its backup.
    let gone = [
        "backup",
        &server.stack,
        "--repository",
        "repository",
        "--repository",
        "s3://no-such-bucket/x",
    ];
    through
        .run(&gone)
        .expect_code(1)
        .says(&["there is no such bucket"]);
    assert_eq!(through.list().len(), 4);
}

#[test]
fn secrets_are_in_no_output_and_no_object() {
    let (mut place, _) = new_bucket();
    let server = shop();
    place
        .env
        .insert("LIFEBOAT_PASSPHRASE".to_owned(), CANARY.to_owned());
    place.configure("[encryption]\npassphrase = { env = \"LIFEBOAT_PASSPHRASE\" }\n");
    let proxy = Proxy::new(&endpoint());
    let heads = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&heads);
    proxy.rule(move |seen: &Seen| {
        kept.lock().unwrap().push_str(&seen.head);
        None
    });
    let direct = place.env.insert("AWS_ENDPOINT_URL".to_owned(), proxy.url());
    let mut said = String::new();
    for arguments in [
        &["backup", &server.stack, "-v"][..],
        &["backup", &server.stack, "-v", "--json"],
        &["show", "latest", "-v", "--json"],
        &["verify", "--all", "--deep", "-v"],
        &["doctor", "-v"],
        &["repository", "info", "-v"],
        &["list", "-v", "--repository", "s3://no-such-bucket/x"],
    ] {
        let ran = place.run(arguments);
        said.push_str(&ran.text());
    }
    proxy.rule(|_: &Seen| {
        Some(Fault::Answer(
            403,
            "<Error><Code>AccessDenied</Code></Error>",
        ))
    });
    let refused = place.run(&["list", "-v"]).expect_code(1);
    said.push_str(&refused.says(&["hint: check the credentials"]).text());
    assert!(!said.contains(CANARY), "{said}");
    assert!(
        heads.lock().unwrap().contains("authorization"),
        "requests are signed"
    );
    assert!(!heads.lock().unwrap().contains(CANARY));
    place
        .env
        .insert("AWS_ENDPOINT_URL".to_owned(), direct.unwrap());
    let address = place.env["LIFEBOAT_REPOSITORY"].clone();
    place.env.remove("LIFEBOAT_REPOSITORY");
    place.init();
    for backup in ["latest", "latest~1"] {
        place
            .run(&[
                "copy",
                backup,
                "--repository",
                &address,
                "--to",
                "repository",
            ])
            .expect_code(0);
    }
    let mut found = Vec::new();
    texts(&place.repository, &mut found);
    texts(&place.folder.path().join("state"), &mut found);
    assert!(found.len() > 10);
    for (path, bytes) in found {
        let seen = bytes
            .windows(CANARY.len())
            .any(|window| window == CANARY.as_bytes());
        assert!(!seen, "{path}");
    }
}

#[test]
fn stock_tools_open_and_check_what_is_encrypted_and_signed() {
    let place = Place::new();
    let server = shop();
    let public = key(&place, "key");
    let signing = place
        .run(&[
            "key",
            "generate",
            "--signing",
            "--output",
            "signing",
            "--json",
        ])
        .expect_code(0)
        .json();
    let verifying = signing["public_key"].as_str().unwrap();
    place.configure(&format!(
        "[encryption]\nrecipients = [{public:?}]\nidentity = {{ file = \"key\" }}\n\
         [signature]\nsecret_key = {{ file = \"signing\" }}\npublic_key = {verifying:?}\n"
    ));
    place.run(&["backup", &server.stack]).expect_code(0);
    place.run(&["verify", "--deep"]).expect_code(0);
    let folder = place
        .repository
        .join(&server.stack)
        .join(&place.list()[0].0);
    let shell = |script: &str| {
        let output = Command::new("sh")
            .args(["-ec", script])
            .current_dir(&folder)
            .env("KEY", place.folder.path().join("key"))
            .env("PUBLIC", verifying)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    shell("sha256sum --check --strict SHA256SUMS");
    let said = shell("minisign -Vm SHA256SUMS -P \"$PUBLIC\"");
    assert!(said.contains(&server.stack), "{said}");
    let magic = shell(
        "age --decrypt -i \"$KEY\" postgres/postgres/db/postgres.dump.zst.age | zstd -dc | head -c 5",
    );
    assert_eq!(magic, "PGDMP");
    let facts = shell("age --decrypt -i \"$KEY\" facts.json.zst.age | zstd -dc");
    assert!(facts.contains("\"rows\": 5000"), "{facts}");
    // A signature of minisign's own is as good; one over other bytes is not.
    let sums = fs::read(folder.join("SHA256SUMS")).unwrap();
    fs::remove_file(folder.join("SHA256SUMS.minisig")).unwrap();
    place.run(&["show"]).expect_code(13).says(&["not signed"]);
    let comment = format!("lifeboat backup {} of {}", place.list()[0].0, server.stack);
    let again = Command::new("minisign")
        .args(["-S", "-W", "-m", "SHA256SUMS", "-t", &comment, "-s"])
        .arg(place.folder.path().join("signing"))
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(again.status.success(), "{again:?}");
    assert_eq!(fs::read(folder.join("SHA256SUMS")).unwrap(), sums);
    place.run(&["show"]).expect_code(0);
}

#[test]
fn hidden_names_are_seen_with_the_key_only() {
    let place = Place::new();
    let server = shop();
    server.sql("postgres", "create database zyxwv");
    let public = key(&place, "key");
    place.configure(&format!(
        "[encryption]\nrecipients = [{public:?}]\nhide_names = true\n"
    ));
    place.run(&["backup", &server.stack]).expect_code(0);
    let mut found = Vec::new();
    texts(&place.repository, &mut found);
    for (path, bytes) in &found {
        assert!(!path.contains("zyxwv"), "{path}");
        let seen = bytes.windows(5).any(|window| window == b"zyxwv");
        assert!(!seen, "{path}");
    }
    assert!(!place.run(&["show"]).expect_code(0).text().contains("zyxwv"));
    let keys = ["--identity", "key"];
    let shown = place.run(&[&["show"][..], &keys].concat()).expect_code(0);
    shown.says(&["postgres/postgres/db/zyxwv"]);
    place
        .run(&[&["verify", "--deep"][..], &keys].concat())
        .expect_code(0);
    let restore = [
        "restore", "latest", "--only", "zyxwv", "--as", "again", "--yes",
    ];
    place.run(&restore).expect_code(2);
    place.run(&[&restore[..], &keys].concat()).expect_code(0);
    assert_eq!(server.sql("again", "select 1"), "1");
}

//! A password goes where it is used and nowhere else.

use crate::support::server::{IMAGE, Place, Server, docker, unique};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Watches what others on this machine can see: the engine's events and every process's arguments.
pub(super) struct Watch {
    events: Child,
    stop: Arc<AtomicBool>,
    sampler: Option<JoinHandle<Vec<u8>>>,
}

impl Watch {
    pub(super) fn start() -> Self {
        let format = "{{json .}}";
        let events = Command::new("docker")
            .args(["events", "--format", format])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sampler = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                for entry in fs::read_dir("/proc").unwrap().flatten() {
                    if let Ok(line) = fs::read(entry.path().join("cmdline")) {
                        // The test's own `docker` commands are not lifeboat's.
                        if !line.starts_with(b"docker\0") {
                            seen.extend(line);
                            seen.push(b'\n');
                        }
                    }
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            seen
        });
        Self {
            events,
            stop,
            sampler: Some(sampler),
        }
    }

    pub(super) fn end(mut self) -> (Vec<u8>, Vec<u8>) {
        self.stop.store(true, Ordering::Relaxed);
        let lines = self.sampler.take().unwrap().join().unwrap();
        self.events.kill().unwrap();
        let mut events = Vec::new();
        self.events
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut events)
            .unwrap();
        (events, lines)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.events.kill();
        let _ = self.events.wait();
    }
}

pub(super) fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// Every file under `folder`, as it is and decompressed.
pub(super) fn search(folder: &Path, canary: &str) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            search(&path, canary);
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        assert!(!holds(&bytes, canary), "{} holds it", path.display());
        if path.extension().is_some_and(|extension| extension == "zst") {
            let plain = zstd::decode_all(&bytes[..]).unwrap();
            assert!(
                !holds(&plain, canary),
                "{} holds it, decompressed",
                path.display()
            );
        }
    }
}

/// Every command, as talkative as it gets; what others could see of it.
fn runs_without_showing(server: &Server, place: &Place, canary: &str) {
    // The server asks for the password everywhere: without it nothing works.
    let watch = Watch::start();
    for arguments in [
        &["backup", &server.stack, "-v"][..],
        &["backup", &server.stack, "-v", "--json"],
        &["show", "latest", "--json"],
        &["verify", "--all", "--deep", "-v", "--json"],
        &["restore", "latest", "--in-place", "--yes", "-v"],
        &["restore", "latest", "--in-place", "--yes", "-v", "--json"],
        &["rollback", &server.stack, "--yes", "-v", "--json"],
        &[
            "rollback",
            &server.stack,
            "--yes",
            "--discard",
            "-v",
            "--json",
        ],
    ] {
        let ran = place.run(arguments);
        assert!(
            !ran.text().contains(canary),
            "{arguments:?}: {}",
            ran.text()
        );
        ran.expect_code(0);
    }
    // Failing is no reason to tell, either.
    let broken = place.run(&["backup", &server.stack, "--only", "nothing", "-v", "--json"]);
    assert!(
        broken.code == Some(2) && !broken.text().contains(canary),
        "{}",
        broken.text()
    );
    let (events, arguments) = watch.end();
    assert!(
        holds(&events, "exec_create") && holds(&events, &server.id),
        "no events were seen"
    );
    assert!(holds(&arguments, "pg_dump"), "no process was seen");
    assert!(!holds(&events, canary), "the engine's events hold it");
    assert!(!holds(&arguments, canary), "a process's arguments hold it");
    search(&place.repository, canary);
    search(&place.folder.path().join("state"), canary);
    let globals = place
        .run(&["export", "latest", "postgres/postgres/globals"])
        .expect_code(0);
    assert!(
        globals.stdout.contains("SCRAM-SHA-256$"),
        "{}",
        globals.text()
    );
}

/// Passwords everywhere, from local connections too.
const STRICT: &str = "POSTGRES_INITDB_ARGS=--auth-local=scram-sha-256 --auth-host=scram-sha-256";

#[test]
fn a_password_in_the_containers_environment_is_shown_nowhere() {
    let canary = unique("canary");
    let (password, own) = (
        format!("POSTGRES_PASSWORD={canary}"),
        format!("PGPASSWORD={canary}"),
    );
    let server = Server::with("env", IMAGE, &["-e", &password, "-e", STRICT, "-e", &own]);
    runs_without_showing(&server, &Place::new(), &canary);
}

#[test]
fn a_password_in_a_file_of_the_container_is_shown_nowhere() {
    let canary = unique("canary");
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), format!("{canary}\n")).unwrap();
    let mount = format!("{}:/run/secrets/password:ro", secret.path().display());
    fs::set_permissions(
        secret.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    let file = "POSTGRES_PASSWORD_FILE=/run/secrets/password";
    let server = Server::with("file", IMAGE, &["-v", &mount, "-e", file]);
    // Strict only now: the entrypoint's temporary server has no password.
    strict(&server);
    runs_without_showing(&server, &Place::new(), &canary);
}

fn strict(server: &Server) {
    let code = "sed -i 's/trust$/scram-sha-256/' \"$PGDATA/pg_hba.conf\"";
    assert!(server.exec(&["sh", "-c", code]).status.success());
    docker(&["kill", "-s", "HUP", &server.id]);
    crate::support::server::wait_for("a password is asked for", || {
        let refused = server.exec(&[
            "psql",
            "-XwU",
            "postgres",
            "-h",
            "127.0.0.1",
            "-c",
            "select 1",
        ]);
        !refused.status.success()
    });
}

#[test]
fn a_password_of_the_configuration_is_shown_nowhere() {
    let canary = unique("canary");
    let server = Server::start("config");
    server.sql(
        "postgres",
        &format!("alter role postgres password '{canary}'"),
    );
    strict(&server);
    let mut place = Place::new();
    place.configure(&format!(
        "[stack.{}.postgres.postgres]\npassword = {{ env = \"FAULTS_PASSWORD\" }}\n",
        server.stack
    ));
    place.run(&["backup", &server.stack]).expect_code(2);
    place
        .env
        .insert("FAULTS_PASSWORD".to_owned(), canary.clone());
    runs_without_showing(&server, &place, &canary);
}

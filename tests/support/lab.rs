//! Real PostgreSQL servers in containers, and the real binary. They need an engine with the lab's
//! images (`tests/lab/lab up`).

use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The password of the lab's superusers.
const PASSWORD: &str = "lab 'superuser' secret";
/// How long a fresh server may take on a busy machine.
const READY: Duration = Duration::from_mins(2);

/// How a server is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// The image's defaults, the password in the environment, a published port.
    Development,
    /// Read-only root, an unprivileged user, the password in a secret file, limits, no ports.
    Production,
}

/// A server in a container that looks like a Compose service called `postgres`; removed with its
/// volumes on drop.
pub(crate) struct Postgres {
    /// The container.
    pub(crate) id: String,
    /// The stack that it is in: nothing else is.
    pub(crate) stack: String,
    /// The superuser.
    pub(crate) user: &'static str,
    secret: Option<TempDir>,
}

impl Postgres {
    /// Starts a server and waits until it answers over TCP.
    pub(crate) fn start(image: &str, style: Style) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let stack = format!("lifeboat-it-{}-{number}", std::process::id());
        let project = format!("com.docker.compose.project={stack}");
        let mut command = Command::new("docker");
        command.args(["run", "-d", "--label", &project]);
        command.args(["--label", "com.docker.compose.service=postgres"]);
        let (user, secret) = match style {
            Style::Development => {
                let password = format!("POSTGRES_PASSWORD={PASSWORD}");
                command.args(["-e", &password, "-p", "127.0.0.1::5432"]);
                ("postgres", None)
            }
            Style::Production => {
                let folder = tempfile::tempdir().unwrap();
                let file = folder.path().join("postgres_password");
                std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
                let mount = format!("{}:/run/secrets/postgres_password:ro", file.display());
                command.args(["--read-only", "--user", "postgres", "--tmpfs", "/tmp"]);
                command.args(["--tmpfs", "/run/postgresql:uid=999,gid=999"]);
                command.args([
                    "-e",
                    "POSTGRES_PASSWORD_FILE=/run/secrets/postgres_password",
                ]);
                command.args(["-e", "POSTGRES_USER=procgenie", "-v", &mount]);
                command.args(["--cpus", "2", "--memory", "1g"]);
                ("procgenie", Some(folder))
            }
        };
        command.args(["-e", "POSTGRES_DB=procgenie", image]);
        command.args(["-c", "fsync=off", "-c", "shared_buffers=32MB"]);
        let id = text(&succeed(command.output().unwrap(), "docker run"));
        let server = Self {
            id,
            stack,
            user,
            secret,
        };
        let begun = Instant::now();
        while !server
            .docker_exec(&[], &["pg_isready", "-q", "-h", "127.0.0.1"], b"")
            .status
            .success()
        {
            if begun.elapsed() > READY {
                let logs = Command::new("docker").args(["logs", &server.id]).output();
                panic!("{image} does not get ready: {logs:?}");
            }
            thread::sleep(Duration::from_millis(300));
        }
        server
    }

    /// Runs a program in the container, with `input` as its standard input.
    pub(crate) fn docker_exec(&self, options: &[&str], argv: &[&str], input: &[u8]) -> Output {
        let mut command = Command::new("docker");
        command.arg("exec").arg("-i").args(options);
        feed(command.arg(&self.id).args(argv), input)
    }

    /// Runs an SQL script with psql in `database`; its standard output.
    pub(crate) fn sql(&self, database: &str, script: &str) -> String {
        let target = conninfo(database);
        let psql = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-A", "-t"];
        let mut argv = psql.to_vec();
        argv.extend(["-U", self.user, "-d", &target]);
        // psql would take the database's own encoding, and these scripts are UTF-8.
        let encoding = ["-e", "PGCLIENTENCODING=UTF8"];
        let output = self.docker_exec(&encoding, &argv, script.as_bytes());
        text(&succeed(output, &format!("psql in {database:?}")))
    }

    /// What a query prints, without the last line's end.
    pub(crate) fn query(&self, database: &str, query: &str) -> String {
        self.sql(database, &format!("{query}\n;"))
    }

    /// The databases that can be connected to, templates excluded.
    pub(crate) fn databases(&self) -> Vec<String> {
        let names = self.query(
            "postgres",
            "select coalesce(json_agg(datname order by datname collate \"C\"), '[]') from pg_database \
             where not datistemplate and datallowconn",
        );
        serde_json::from_str(&names).unwrap()
    }

    /// When the server's checkpointer started: another time after a crash, whatever PID 1 says.
    pub(crate) fn heart(&self) -> String {
        self.query(
            "postgres",
            "select pid || ' ' || backend_start from pg_stat_activity where backend_type = 'checkpointer'",
        )
    }

    /// The address that other containers reach it by, where passwords are asked for.
    pub(crate) fn address(&self) -> String {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        docker(&["inspect", "-f", format, &self.id])
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut remove = Command::new("docker");
        let _ = remove.args(["rm", "-fv", &self.id]).output();
        drop(self.secret.take());
    }
}

/// A database's name where libpq would take some names for connection strings.
fn conninfo(database: &str) -> String {
    let quoted = database.replace('\\', "\\\\").replace('\'', "\\'");
    format!("dbname='{quoted}'")
}

/// What `docker` printed; it must succeed.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    text(&succeed(output, &format!("docker {arguments:?}")))
}

/// Runs `command` with `input` as its standard input.
pub(crate) fn feed(command: &mut Command, input: &[u8]) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = thread::spawn(move || {
        // A program that ends before it has read everything says by its status what is wrong.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

pub(crate) fn succeed(output: Output, what: &str) -> Vec<u8> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {stderr}");
    output.stdout
}

pub(crate) fn text(bytes: &[u8]) -> String {
    let text = std::str::from_utf8(bytes).unwrap();
    text.strip_suffix('\n').unwrap_or(text).to_owned()
}

/// The real binary, with a repository and a state folder of its own and nothing of the person's settings.
pub(crate) struct Lifeboat {
    folder: TempDir,
}

impl Lifeboat {
    /// With an empty repository.
    pub(crate) fn new() -> Self {
        let lifeboat = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        lifeboat.run(&["repository", "init"]).ok();
        lifeboat
    }

    /// A folder of its own, which is also where commands run.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where its backups are.
    pub(crate) fn repository(&self) -> std::path::PathBuf {
        self.folder().join("repository")
    }

    /// The command, ready to be run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LIFEBOAT_") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .env("LIFEBOAT_REPOSITORY", self.repository())
            .env("LIFEBOAT_STATE_DIR", self.folder().join("state"))
            .env("XDG_CONFIG_HOME", self.folder().join("config"))
            .current_dir(self.folder())
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let output = self.command(arguments).output().unwrap();
        Run {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs it with `--json`, which must succeed; the result.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut with = arguments.to_vec();
        with.push("--json");
        let run = self.run(&with);
        run.ok();
        run.json()
    }
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Run {
    /// The exit code; none for a signal.
    pub(crate) code: Option<i32>,
    /// Results.
    pub(crate) stdout: String,
    /// The rest.
    pub(crate) stderr: String,
}

impl Run {
    /// It must have succeeded.
    #[track_caller]
    pub(crate) fn ok(&self) {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
    }

    /// The last line of JSON on standard output: the result, or the error.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let line = self.stdout.lines().last();
        line.and_then(|line| serde_json::from_str(line).ok())
            .unwrap_or_else(|| panic!("no JSON: {self:?}"))
    }
}

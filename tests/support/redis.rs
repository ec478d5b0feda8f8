//! Real Redis and Valkey servers in containers that look like a Compose service called `redis`.

use super::lab::{docker, feed, succeed, text};
use std::fmt::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The password of the default user. A shell would stumble over it; the server itself would over a double quote.
pub(crate) const PASSWORD: &str = "it's a $PASS `word`";
/// The password of the user [`BACKUP_USER`].
pub(crate) const BACKUP_PASSWORD: &str = "for-backups-only";
/// A user with the documented rights and no other.
pub(crate) const BACKUP_USER: &str = "backup";
/// How long a fresh server may take on a busy machine.
const READY: Duration = Duration::from_mins(2);

/// How one has to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Login {
    /// Not at all.
    None,
    /// `requirepass`, from a secret file that the container's command reads.
    Password,
    /// As before, and lifeboat as an ACL user with these rights.
    Acl(&'static str),
}

/// The documented rights for a backup by replication and a restore.
pub(crate) const RIGHTS: &str = "+ping +info +sync +psync +replconf +config|get";

/// How a server is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub(crate) image: &'static str,
    pub(crate) append_only: bool,
    pub(crate) login: Login,
    pub(crate) read_only: bool,
}

impl Style {
    /// The image's defaults.
    pub(crate) const fn plain(image: &'static str) -> Self {
        Self {
            image,
            append_only: false,
            login: Login::None,
            read_only: false,
        }
    }
}

/// A server in a container with a volume of its own; both are removed on drop.
pub(crate) struct Redis {
    pub(crate) id: String,
    pub(crate) stack: String,
    pub(crate) volume: String,
    cli: &'static str,
    login: Login,
    secret: TempDir,
}

impl Redis {
    /// Starts a server and waits until it answers.
    pub(crate) fn start(style: Style) -> Self {
        Self::with(style, &[], &[])
    }

    /// With further options of `docker run` and of the server.
    pub(crate) fn with(style: Style, options: &[&str], settings: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let stack = format!("lifeboat-redis-{}-{number}", std::process::id());
        let server = Self::in_stack(&stack, style, options, settings);
        server.wait_ready();
        server
    }

    /// In a stack of this name, without waiting for it.
    pub(crate) fn in_stack(stack: &str, style: Style, options: &[&str], settings: &[&str]) -> Self {
        let secret = tempfile::tempdir().unwrap();
        let file = secret.path().join("redis_password");
        std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
        open_to_all(secret.path(), 0o755);
        open_to_all(&file, 0o644);
        let volume = format!("{stack}-data");
        let mut command = Command::new("docker");
        let project = format!("com.docker.compose.project={stack}");
        command.args(["run", "-d", "--label", &project]);
        command.args(["--label", "com.docker.compose.service=redis"]);
        command.args(["-v", &format!("{volume}:/data")]);
        let mount = format!("{}:/run/secrets/redis_password:ro", file.display());
        command.args(["-v", &mount]);
        if style.read_only {
            command.args(["--read-only", "--user", "999:999", "--tmpfs", "/tmp"]);
        }
        let server = match style.image.contains("valkey") {
            true => "valkey-server",
            false => "redis-server",
        };
        // DEBUG DIGEST is how the contents are compared; the delay of a diskless synchronisation is tested once.
        let mut words = vec![
            server.to_owned(),
            "--enable-debug-command yes".to_owned(),
            "--repl-diskless-sync-delay 0".to_owned(),
        ];
        if style.append_only {
            words.push("--appendonly yes".to_owned());
        }
        if let Login::Acl(rights) = style.login {
            let rights = rights.replace(' ', "' '");
            words.push(format!(
                "--user {BACKUP_USER} on '>{BACKUP_PASSWORD}' '{rights}'"
            ));
        }
        if style.login != Login::None {
            words.push("--requirepass \"$(cat /run/secrets/redis_password)\"".to_owned());
        }
        words.extend(settings.iter().map(|setting| (*setting).to_owned()));
        command.args(options).arg(style.image);
        command.args(["sh", "-c", &entrypoint(&words)]);
        let id = text(&succeed(command.output().unwrap(), "docker run"));
        Self {
            id,
            stack: stack.to_owned(),
            volume,
            cli: if server.starts_with("valkey") {
                "valkey-cli"
            } else {
                "redis-cli"
            },
            login: style.login,
            secret,
        }
    }

    /// Waits until it answers and has loaded its data.
    pub(crate) fn wait_ready(&self) {
        let begun = Instant::now();
        while self.try_ask("PING").as_deref() != Ok("PONG") {
            let state = docker(&["inspect", "-f", "{{.State.Status}}", &self.id]);
            if begun.elapsed() > READY || state != "running" {
                let logs = Command::new("docker").args(["logs", &self.id]).output();
                panic!("the server does not get ready: {logs:?}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The client, for commands on its standard input.
    fn client(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["exec", "-i"]);
        if self.login != Login::None {
            command.args(["-e", &format!("REDISCLI_AUTH={PASSWORD}")]);
        }
        command.args([&self.id, self.cli]);
        command
    }

    fn try_ask(&self, commands: &str) -> Result<String, String> {
        let output = feed(&mut self.client(), format!("{commands}\n").as_bytes());
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Sends commands, a line each; the answers as the client prints them.
    #[track_caller]
    pub(crate) fn ask(&self, commands: &str) -> String {
        self.try_ask(commands).unwrap()
    }

    /// Runs a program in the container.
    pub(crate) fn exec(&self, argv: &[&str]) -> Output {
        let mut command = Command::new("docker");
        command.args(["exec", "-i", &self.id]).args(argv);
        feed(&mut command, b"")
    }

    /// Fills the server with every type that it has, in three of its databases.
    pub(crate) fn seed(&self) {
        let mut commands = String::new();
        for database in [0, 3, 15] {
            writeln!(commands, "SELECT {database}").unwrap();
            let long = "x y".repeat(400);
            for number in 0..40 {
                writeln!(
                    commands,
                    "SET \"string:{number}\" \"value {number} {long}\""
                )
                .unwrap();
                writeln!(commands, "HSET hash:{} field:{number} {number}", number % 7).unwrap();
                writeln!(commands, "RPUSH list:{} \"{number} {long}\"", number % 3).unwrap();
                writeln!(commands, "SADD set:{} member:{number} {number}", number % 5).unwrap();
                writeln!(
                    commands,
                    "ZADD sorted:{} {number}.5 member:{number}",
                    number % 4
                )
                .unwrap();
                writeln!(commands, "XADD stream * field {number} other \"{long}\"").unwrap();
                writeln!(commands, "SADD ints {number}").unwrap();
            }
            commands.push_str(
                "SET \"hostile \\x00\\xff\\n'\\\"key\" \"\\xde\\xad\"\n\
                 SET expires soon PX 3600000\nSET expires-late x EX 86400\nHSET volatile a 1\nPEXPIRE volatile 7200000\n\
                 SETBIT bits 100001 1\nPFADD hyperloglog a b c d\nINCR counter\nGEOADD places 13.4 52.5 Berlin 2.35 48.86 Paris\n\
                 XGROUP CREATE stream readers 0\nXREADGROUP GROUP readers alice COUNT 5 STREAMS stream >\n\
                 XREADGROUP GROUP readers bob COUNT 3 STREAMS stream >\nXGROUP CREATE stream idle $\nXDEL stream 0-1\n",
            );
        }
        commands.push_str(
            "FUNCTION LOAD \"#!lua name=mylib\\nredis.register_function('greet', function() return 'hello' end)\"\n",
        );
        let said = self.ask(&commands);
        assert!(!said.contains("ERR"), "{said}");
    }

    /// Everything that must come back: each database's digest, expiries to the millisecond, consumer groups,
    /// function libraries.
    pub(crate) fn content(&self) -> String {
        let mut commands = String::from("DEBUG DIGEST\nFUNCTION LIST WITHCODE\nINFO keyspace\n");
        for database in [0, 3, 15] {
            writeln!(
                commands,
                "SELECT {database}\nPEXPIRETIME expires\nPEXPIRETIME expires-late\nPEXPIRETIME volatile\n\
                 XINFO GROUPS stream\nXPENDING stream readers"
            )
            .unwrap();
        }
        self.ask(&commands)
            .lines()
            // The average is one of what is left of the time.
            .map(|line| line.split(",avg_ttl").next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// As [`content`](Self::content), in one line: the digest of all keys and values.
    pub(crate) fn digest(&self) -> String {
        self.ask("DEBUG DIGEST")
    }

    /// Files and folders of its data, by name.
    pub(crate) fn files(&self) -> Vec<String> {
        let said = text(&self.exec(&["ls", "-A", "/data"]).stdout);
        said.lines().map(str::to_owned).collect()
    }

    /// A connection that has sent `command` and is held until the guard is dropped.
    pub(crate) fn held(&self, command: &str) -> Writer {
        use std::io::Write as _;
        let mut client = self.client();
        let mut child = client
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{command}").unwrap();
        Writer { child }
    }

    /// Writes without end, until the guard is dropped.
    pub(crate) fn writer(&self) -> Writer {
        let mut client = self.client();
        let mut child = client
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::spawn(move || {
            use std::io::Write as _;
            let mut number = 0_u64;
            while writeln!(
                stdin,
                "SET writer:{} {number}\nLPUSH written {number}\nLTRIM written 0 999",
                number % 500
            )
            .is_ok()
            {
                number += 1;
            }
        });
        Writer { child }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = Command::new("docker")
            .args(["rm", "-fv", &self.id])
            .output();
        let _ = Command::new("docker")
            .args(["volume", "rm", &self.volume])
            .output();
        let _ = &self.secret;
    }
}

/// Somebody who is connected.
pub(crate) struct Writer {
    child: Child,
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The image's own entrypoint around a command, as Compose would run it.
fn entrypoint(words: &[String]) -> String {
    format!("exec docker-entrypoint.sh {}", words.join(" "))
}

fn open_to_all(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Whether the engine has a volume of this name.
pub(crate) fn volume_exists(name: &str) -> bool {
    let filter = format!("name=^{name}$");
    !docker(&["volume", "ls", "-q", "--filter", &filter]).is_empty()
}

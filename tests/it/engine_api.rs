//! Holds docs/engine-api.md: each command needs exactly the requests that stand there.
//!
//! The commands run one after another against one stack, through a proxy that lets through the rows of one command.

use crate::support::gate::{Endpoint, Gate};
use crate::support::server::{Place, Ran, Server, docker, ran, unique, wait_for};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const DOCUMENT: &str = "docs/engine-api.md";

/// The rows of the document's tables: cells without their bars, by heading.
fn rows(under: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
    let text = fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once(&format!("\n## {under}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap_or_default();
    let table = section.lines().filter(|line| line.starts_with('|'));
    let cells = table.skip(2).map(|line| {
        let inner = line.trim_matches('|').split('|');
        inner.map(|cell| cell.trim().to_owned()).collect()
    });
    cells.collect()
}

/// What each command needs, by its letter.
pub(crate) fn needs() -> BTreeMap<char, BTreeSet<Endpoint>> {
    let commands = rows("Commands");
    let letters = commands
        .iter()
        .map(|cells| cells[0].chars().next().unwrap());
    let mut needs: BTreeMap<char, BTreeSet<Endpoint>> =
        letters.map(|letter| (letter, BTreeSet::new())).collect();
    for cells in rows("Requests") {
        let endpoint = Endpoint::parse(cells[0].trim_matches('`'));
        for letter in cells[1].split(' ') {
            let letter = letter.chars().next().unwrap();
            needs.get_mut(&letter).unwrap().insert(endpoint.clone());
        }
    }
    needs
}

/// A stack with a server of each kind and a volume that a container writes to, and the program behind the gate.
struct Behind {
    gate: Gate,
    needs: BTreeMap<char, BTreeSet<Endpoint>>,
    used: BTreeMap<char, BTreeSet<Endpoint>>,
    stack: String,
    folder: TempDir,
}

impl Behind {
    fn start() -> Self {
        let (stack, folder) = (unique("api"), tempfile::tempdir().unwrap());
        let compose = "services:
  postgres:
    image: lifeboat-lab/postgres:17
    environment: {POSTGRES_PASSWORD: for-tests}
    command: [postgres, -c, fsync=off]
    volumes: ['pg:/var/lib/postgresql/data']
  redis:
    image: lifeboat-lab/redis:7.0
    command: [redis-server, --repl-diskless-sync-delay, '0']
    volumes: ['cache:/data']
  api:
    image: lifeboat-lab/app:1
    init: true
    command: [sh, -c, 'echo one >/files/one; exec sleep infinity']
    volumes: ['files:/files']
  redis-exporter: # by its name it may be a server: it is asked
    image: lifeboat-lab/app:1
    init: true
    command: [sleep, infinity]
volumes: {pg: {}, cache: {}, files: {}}
";
        fs::write(folder.path().join("compose.yaml"), compose).unwrap();
        let behind = Self {
            gate: Gate::start(),
            needs: needs(),
            used: BTreeMap::new(),
            stack,
            folder,
        };
        behind.own_build();
        behind.compose(&["up", "-d"]);
        let postgres = behind.container("postgres");
        let ready = ["exec", &postgres, "pg_isready", "-q", "-h", "127.0.0.1"];
        wait_for("the server accepts connections", || {
            let said = Command::new("docker").args(ready).output().unwrap();
            said.status.success()
        });
        behind
    }

    /// A build that the engine has no helper image of: the program with a byte more, which no loader looks at.
    fn own_build(&self) {
        let mut bytes = fs::read(env!("CARGO_BIN_EXE_lifeboat")).unwrap();
        bytes.extend(self.stack.bytes());
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o755);
        let mut file = file.open(self.program()).unwrap();
        file.write_all(&bytes).unwrap();
    }

    fn program(&self) -> std::path::PathBuf {
        self.folder.path().join("lifeboat")
    }

    fn container(&self, service: &str) -> String {
        format!("{}-{service}-1", self.stack)
    }

    fn volume(&self, name: &str) -> String {
        format!("{}_{name}", self.stack)
    }

    fn compose(&self, arguments: &[&str]) {
        let mut command = Command::new("docker");
        command.args(["compose", "--project-name", &self.stack]);
        let output = command.args(arguments).current_dir(self.folder.path());
        let output = output.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Runs the program with what `letter` has; it must be refused nothing. Where another test's run has just written
    /// down what it stops, or has died, whoever comes by asks for the time: then it is run again.
    fn run(&mut self, letter: char, arguments: &[&str]) -> Ran {
        let time = Endpoint::parse("GET /info");
        loop {
            let ran = self.run_once(letter, arguments);
            let refused = self.gate.refused();
            let asked = refused.iter().any(|request| request.contains("/info"));
            if !asked || self.needs[&letter].contains(&time) {
                return self.judged(letter, arguments, ran, refused);
            }
            wait_for("no other test stops anything", || {
                docker(&["ps", "-aq", "--filter", "label=dev.lifeboat.role=quiesced"]).is_empty()
            });
        }
    }

    fn run_once(&mut self, letter: char, arguments: &[&str]) -> Ran {
        self.gate.allow(self.needs[&letter].clone());
        let mut command = Command::new(self.program());
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("DOCKER_HOST", self.gate.host())
            .env("LIFEBOAT_STATE_DIR", self.folder.path().join("state"))
            .env("LIFEBOAT_REPOSITORY", self.folder.path().join("repository"))
            .stdin(Stdio::null());
        ran(command.output().unwrap())
    }

    fn judged(
        &mut self,
        letter: char,
        arguments: &[&str],
        ran: Ran,
        mut refused: BTreeSet<String>,
    ) -> Ran {
        // What other tests' killed drills have left may be met here: nobody has to be allowed to remove it.
        refused.retain(|request| !request.contains(" /volumes/lifeboat-throwaway-"));
        assert!(
            refused.is_empty(),
            "{letter}, lifeboat {}: {refused:?} is not in {DOCUMENT}\n{}",
            arguments.join(" "),
            ran.text()
        );
        self.used
            .entry(letter)
            .or_default()
            .extend(self.gate.used());
        self.forget_helper();
        ran
    }

    fn succeeds(&mut self, letter: char, arguments: &[&str]) {
        self.run(letter, arguments).expect_code(0);
    }

    /// What the document grants and nothing needed.
    fn idle_rows(&self) -> Vec<String> {
        let of = |(letter, granted): (&char, &BTreeSet<Endpoint>)| {
            let used = self.used.get(letter).cloned().unwrap_or_default();
            let idle = granted.difference(&used);
            idle.map(|one| format!("{letter}: {one}"))
                .collect::<Vec<_>>()
        };
        self.needs.iter().flat_map(of).collect()
    }

    /// So that the next command has to bring its helper's image along.
    fn forget_helper(&self) {
        let paths = self.gate.paths();
        let mut names = paths.iter().filter_map(|path| {
            let name = path.strip_prefix("/images/")?.strip_suffix("/json")?;
            name.starts_with("lifeboat-helper")
                .then(|| name.replace("%3A", ":"))
        });
        if let Some(image) = names.next() {
            let _ = Command::new("docker").args(["rmi", &image]).output();
        }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.forget_helper();
        let mut down = Command::new("docker");
        down.args(["compose", "--project-name", &self.stack, "down"]);
        down.args(["--volumes", "--timeout", "0"]);
        let _ = down.current_dir(self.folder.path()).output();
    }
}

#[test]
fn each_command_needs_what_the_documentation_says() {
    let mut behind = Behind::start();
    let stack = behind.stack.clone();
    let files = behind.volume("files");
    let [copy, cache_copy, clone, renamed] =
        ["copy", "cache-copy", "clone", "renamed"].map(|what| format!("{stack}-{what}"));

    behind.succeeds('A', &["init", "--yes"]);
    behind.run('B', &["doctor"]);
    let servers = ["--only", "postgres", "--only", "redis"];
    behind.succeeds('C', &[&["backup", &stack], &servers[..]].concat());
    behind.succeeds('D', &["volume", "backup", &files]);
    behind.succeeds('E', &["backup", &stack, "--quiesce", "stop"]);
    behind.succeeds('F', &["backup", &stack, "--quiesce", "pause"]);
    behind.succeeds('J', &["verify", "latest", "--deep"]);
    behind.run('P', &["status", &stack]);

    let volume = format!("volume/{files}");
    behind.succeeds(
        'G',
        &[
            "restore",
            "latest",
            "--only",
            "postgres/postgres/db/postgres",
            "--as",
            "pg_copy",
        ],
    );
    behind.succeeds(
        'G',
        &[
            "restore",
            "latest",
            "--only",
            "redis/redis",
            "--as",
            &cache_copy,
        ],
    );
    behind.succeeds(
        'G',
        &["restore", "latest", "--only", &volume, "--as", &copy],
    );
    behind.succeeds('H', &["restore", "latest", "--in-place", "--yes"]);
    behind.succeeds('I', &["rollback", &stack, "--yes"]);

    behind.succeeds('K', &["volume", "ls", &stack]);
    behind.succeeds('K', &["volume", "inspect", &files]);
    behind.succeeds('K', &["volume", "diff", &files, &copy]);
    behind.succeeds('L', &["volume", "clone", &files, &clone]);
    behind.succeeds('M', &["volume", "rename", &clone, &renamed, "--yes"]);
    behind.succeeds('N', &["volume", "rm", &renamed, "--no-backup", "--yes"]);
    behind.succeeds('O', &["volume", "rm", "--project", &stack, "--yes"]);

    let idle = behind.idle_rows();
    assert!(
        idle.is_empty(),
        "nobody needed, and {DOCUMENT} grants:\n{}",
        idle.join("\n")
    );
}

#[test]
fn what_is_not_granted_is_refused() {
    let gate = Gate::start();
    gate.allow([
        Endpoint::parse("HEAD /_ping"),
        Endpoint::parse("GET /version"),
        Endpoint::parse("POST /images/create?fromSrc=-"),
    ]);
    let docker = |arguments: &[&str]| {
        let mut command = Command::new("docker");
        command
            .args(["--host", &gate.host()])
            .args(arguments)
            .output()
            .unwrap()
    };
    assert!(docker(&["version"]).status.success());
    for refused in [&["ps"][..], &["pull", "postgres:17"], &["volume", "ls"]] {
        let output = docker(refused);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("does not allow"),
            "{refused:?}: {said}"
        );
    }
}

#[test]
fn a_proxy_that_drops_upgrades_is_named_and_makes_no_backup_damaged() {
    let (server, mut place, gate) = (Server::start("upgrades"), Place::new(), Gate::start());
    place.env.insert("DOCKER_HOST".to_owned(), gate.host());
    let all = needs().into_values().flatten();
    gate.allow(all);
    place.run(&["backup", &server.stack]).expect_code(0);
    gate.drop_upgrades();
    place.run(&["backup", &server.stack]).expect_code(1).says(&[
        "no upgrade available",
        "hint:",
        "docs/engine-api.md",
    ]);
    // What reads a dump cannot be started: that says nothing about the dump.
    let verified = place.run(&["verify", "latest", "--deep"]).expect_code(0);
    assert!(!verified.text().contains("DAMAGED"), "{verified:?}");
    assert!(
        verified.text().contains("no upgrade available"),
        "{verified:?}"
    );
}

#[test]
fn a_container_that_may_not_be_asked_is_not_taken_for_files() {
    // By its name it may be a database, and nothing else says what it is.
    let stack = unique("unasked");
    let labels = [
        format!("com.docker.compose.project={stack}"),
        "com.docker.compose.service=postgres-of-mine".to_owned(),
    ];
    let volume = format!("{stack}_data:/data");
    let mut run = vec!["run", "-d", "--init", "--volume", &volume];
    run.extend(labels.iter().flat_map(|label| ["--label", label.as_str()]));
    run.extend(["lifeboat-lab/app:1", "sleep", "infinity"]);
    let container = docker(&run);
    let (mut place, gate) = (Place::new(), Gate::start());
    place.env.insert("DOCKER_HOST".to_owned(), gate.host());
    let exec = Endpoint::parse("POST /containers/{id}/exec");
    gate.allow(needs().into_values().flatten().filter(|one| *one != exec));
    let refused = place.run(&["backup", &stack]);
    gate.allow(needs().into_values().flatten());
    let asked = place.run(&["backup", &stack]);
    docker(&["rm", "-fv", &container]);
    docker(&["volume", "rm", &format!("{stack}_data")]);
    refused
        .expect_code(1)
        .says(&["cannot find out whether service postgres-of-mine is a PostgreSQL server"]);
    asked.expect_code(0).says(&["volume/"]);
}

#[test]
fn every_command_is_accounted_for() {
    let help = Command::new(env!("CARGO_BIN_EXE_lifeboat"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let lines = commands.lines().take_while(|line| !line.is_empty());
    // Descriptions that go on in a line of their own stand further in.
    let names = lines.filter(|line| !line.starts_with("   "));
    let document =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT)).unwrap();
    let missing: Vec<&str> = names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help" && !document.contains(&format!("`lifeboat {name}")))
        .collect();
    assert!(missing.is_empty(), "not in {DOCUMENT}: {missing:?}");
}

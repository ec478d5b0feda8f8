//! The ways to install and run lifeboat: units, cron, the image, the Compose and Swarm files.

use crate::engine_api::needs;
use crate::support::gate::Gate;
use crate::support::project::Project;
use crate::support::server::{Ran, Server, docker, ran, unique, until, wait_for};
use lifeboat::config::read_schedule;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a program that must succeed without a word of complaint.
#[track_caller]
fn silent(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    assert_eq!(said, "", "{command:?}");
    output
}

/// What `make install` does, with `PREFIX` in a folder of the test's.
fn installed() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut install = Command::new(root().join("packaging/install"));
    silent(
        install
            .args([env!("CARGO_BIN_EXE_lifeboat"), ""])
            .arg(folder.path()),
    );
    folder
}

#[test]
fn what_is_installed_works() {
    let prefix = installed();
    let at = |name: &str| prefix.path().join(name);
    let version = silent(Command::new(at("bin/lifeboat")).arg("--version"));
    assert!(version.stdout.starts_with(b"lifeboat "));
    for page in ["lifeboat.1", "lifeboat-volume-clone.1"] {
        let text = fs::read_to_string(at("share/man/man1").join(page)).unwrap();
        assert!(text.contains(".SH NAME"), "{page}");
    }
    let completions = at("share/bash-completion/completions/lifeboat");
    let mut bash = Command::new("bash");
    bash.args(["-ec", "source \"$1\"; complete -p lifeboat", "bash"]);
    silent(bash.arg(completions));
    for (file, part) in [
        ("share/zsh/site-functions/_lifeboat", "#compdef lifeboat"),
        (
            "share/fish/vendor_completions.d/lifeboat.fish",
            "complete -c lifeboat",
        ),
    ] {
        assert!(
            fs::read_to_string(at(file)).unwrap().contains(part),
            "{file}"
        );
    }
    for schedule in ["nightly.toml", "pre-migration.toml"] {
        read_schedule(&at("share/doc/lifeboat/examples/schedules").join(schedule)).unwrap();
    }
}

#[test]
fn systemd_accepts_the_units() {
    let prefix = installed();
    let folder = prefix.path().join("lib/systemd/system");
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).current_dir(folder);
    // It says what is wrong, and mostly succeeds all the same.
    silent(verify.args([
        "./lifeboat.service",
        "./lifeboat@nightly.service",
        "./lifeboat@nightly.timer",
    ]));
}

#[test]
fn cron_accepts_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| fs::read_to_string(root().join("schedules/cron").join(name)).unwrap();
    let without_users: String = read("lifeboat")
        .lines()
        .map(
            |line| match line.starts_with(|c: char| c.is_ascii_digit()) {
                true => line.replacen(" root ", " ", 1) + "\n",
                false => format!("{line}\n"),
            },
        )
        .collect();
    assert_eq!(without_users.matches(" root ").count(), 0);
    for table in [read("crontab"), without_users] {
        let file = folder.path().join("table");
        fs::write(&file, &table).unwrap();
        let output = Command::new("crontab")
            .arg("-n")
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}\n{table}");
    }
}

#[test]
fn the_schedule_for_migrations_never_runs_by_itself() {
    let schedule = read_schedule(&root().join("schedules/pre-migration.toml")).unwrap();
    assert!(schedule.pin);
    let new_year = "2026-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(schedule.calendar.next_after(new_year), None);
    assert_eq!(schedule.calendar.last_before(new_year), None);
}

/// The files of `packaging/` in a folder of their own, with what belongs beside them.
struct Deployment {
    folder: TempDir,
    name: String,
    environment: Vec<(&'static str, String)>,
}

impl Deployment {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(root().join("packaging")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "yaml") {
                fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        let deployment = Self {
            folder,
            name: unique("packaging"),
            environment: Vec::new(),
        };
        deployment.write(
            "lifeboat.toml",
            "[repository.local]\nurl = \"/var/backups/lifeboat\"\n",
        );
        fs::create_dir(deployment.path("schedules")).unwrap();
        fs::copy(
            root().join("schedules/nightly.toml"),
            deployment.path("schedules/nightly.toml"),
        )
        .unwrap();
        fs::create_dir(deployment.path("secrets")).unwrap();
        deployment.write("secrets/lifeboat_passphrase", "for tests\n");
        deployment.write("secrets/lifeboat_storage_key", "Zm9yIHRlc3Rz\n");
        deployment
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// `docker` with these arguments, in its folder.
    fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// What Compose makes of these files.
    fn compose(&self, files: &[&str]) -> Value {
        let mut arguments = vec!["compose"];
        arguments.extend(files.iter().flat_map(|file| ["-f", file]));
        arguments.extend(["config", "--format", "json"]);
        let output = silent(&mut self.docker(&arguments));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[test]
fn compose_accepts_the_services() {
    let deployment = Deployment::new();
    let stack = root().join("tests/lab/procgenie/compose.yaml");
    let stack = stack.to_str().unwrap();
    let whole = deployment.compose(&[stack, "compose.lifeboat.yaml"]);
    let of = |config: &Value| config["services"]["lifeboat"].clone();
    let service = of(&whole);
    assert_eq!(service["read_only"], true, "{service}");
    assert_eq!(service["cap_drop"][0], "ALL");
    assert_eq!(service["security_opt"][0], "no-new-privileges:true");
    assert_eq!(service["user"], "65532:65532");
    assert!(service["ports"].is_null(), "{service}");
    assert!(service.to_string().contains("/var/run/docker.sock"));
    assert!(
        whole["services"]["postgres"].is_object(),
        "the stack is still there"
    );

    let behind = deployment.compose(&[stack, "compose.lifeboat.yaml", "compose.socket-proxy.yaml"]);
    let service = of(&behind);
    assert!(!service.to_string().contains("docker.sock"), "{service}");
    assert!(
        service["group_add"].as_array().is_none_or(Vec::is_empty),
        "{service}"
    );
    assert_eq!(behind["networks"]["lifeboat-socket"]["internal"], true);
}

#[test]
fn swarm_accepts_the_stack() {
    let deployment = Deployment::new();
    let output = silent(&mut deployment.docker(&["stack", "config", "-c", "swarm.lifeboat.yaml"]));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "mode: global",
        "node.labels.keeps-data == true",
        "{{.Node.Hostname}}",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// The image of this build, made by the repository's own Dockerfile.
fn image() -> String {
    let mut lab = Command::new(root().join("tests/lab/lab"));
    let output = lab
        .args(["lifeboat-image", env!("CARGO_BIN_EXE_lifeboat")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The Compose service as it is shipped, behind a gate, with volumes of the test's own.
struct Contained {
    deployment: Deployment,
    gate: Gate,
}

impl Contained {
    fn start() -> Self {
        let mut deployment = Deployment::new();
        let gate = Gate::start();
        let socket = gate.socket();
        // The service's user is nobody's on this machine; a group would do as well.
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o660)).unwrap();
        let group = fs::metadata(&socket).unwrap().gid().to_string();
        deployment.environment = vec![("LIFEBOAT_IMAGE", image()), ("DOCKER_GID", group)];
        let contained = Self { deployment, gate };
        for volume in contained.volumes() {
            docker(&["volume", "create", &volume]);
        }
        let [state, backups] = contained.volumes();
        contained.deployment.write(
            "test.yaml",
            &format!(
                "services:\n  lifeboat:\n    network_mode: none\n    volumes:\n      - {}:/var/run/docker.sock\n\
                 volumes:\n  lifeboat-state: {{name: {state}}}\n  lifeboat-backups: {{name: {backups}}}\n",
                socket.display()
            ),
        );
        contained
    }

    fn volumes(&self) -> [String; 2] {
        ["state", "backups"].map(|what| format!("{}-{what}", self.deployment.name))
    }

    fn compose(&self, arguments: &[&str]) -> Command {
        let mut whole = vec!["compose", "--project-name", &self.deployment.name];
        whole.extend(["-f", "compose.lifeboat.yaml", "-f", "test.yaml"]);
        whole.extend(arguments);
        self.deployment.docker(&whole)
    }

    /// Runs a command in a container of the service.
    fn run(&self, arguments: &[&str]) -> Ran {
        let mut whole = vec!["run", "--rm", "--no-TTY", "lifeboat"];
        whole.extend(arguments);
        ran(self.compose(&whole).output().unwrap())
    }

    /// Lets through what these commands need.
    fn allow(&self, letters: &[char]) {
        let needs = needs();
        let rows = letters.iter().flat_map(|letter| needs[letter].clone());
        self.gate.allow(rows);
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let _ = self.compose(&["down", "--timeout", "0"]).output();
        for volume in self.volumes() {
            let _ = Command::new("docker")
                .args(["volume", "rm", &volume])
                .output();
        }
    }
}

#[test]
fn the_service_backs_up_and_restores_behind_a_proxy() {
    let contained = Contained::start();
    let (server, project) = (Server::start("contained"), Project::start("contained"));
    server.fill(10);
    project.sh("api", "echo one >/files/one");
    contained.allow(&['C', 'D', 'G']);
    contained.run(&["repository", "init"]).expect_code(0);
    contained.run(&["backup", &server.stack]).expect_code(0);
    contained.run(&["backup", &project.name]).expect_code(0);
    contained.run(&["verify", "--all"]).expect_code(0);
    let latest = format!("{}/latest", server.stack);
    let database = "postgres/postgres/db/app";
    contained
        .run(&["restore", &latest, "--only", database, "--as", "app_copy"])
        .expect_code(0);
    assert_eq!(server.sql("app_copy", "select count(*) from items"), "10");
    assert!(
        contained.gate.refused().is_empty(),
        "{:?}",
        contained.gate.refused()
    );
    assert!(
        contained.gate.used().len() > 10,
        "nothing went through the proxy"
    );
}

#[test]
fn the_image_is_what_it_is_said_to_be() {
    let image = image();
    let config = docker(&["image", "inspect", "--format", "{{json .Config}}", &image]);
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], serde_json::json!(["lifeboat"]));
    assert_eq!(config["Cmd"], serde_json::json!(["daemon"]));
    let healthcheck = ["CMD", "lifeboat", "daemon", "--healthcheck"];
    assert_eq!(
        config["Healthcheck"]["Test"],
        serde_json::json!(healthcheck)
    );
    assert_eq!(
        config["Labels"]["org.opencontainers.image.title"],
        "lifeboat"
    );
    let shell = Command::new("docker")
        .args(["run", "--rm", "--entrypoint", "sh", &image])
        .output();
    assert_eq!(shell.unwrap().status.code(), Some(127), "it has no shell");
    let mut run = Command::new("docker");
    run.args([
        "run",
        "--rm",
        "--read-only",
        "--network=none",
        "--cap-drop=ALL",
    ]);
    silent(run.args([&image, "--version"]));
}

#[test]
fn the_daemon_backs_up_every_night_from_its_container() {
    let contained = Contained::start();
    let server = Server::start("daemon");
    server.fill(10);
    // A night that comes every minute.
    contained.deployment.write(
        "schedules/nightly.toml",
        &format!(
            "stack = \"{}\"\ncron = \"* * * * *\"\nrepositories = [\"local\"]\n",
            server.stack
        ),
    );
    contained.allow(&['C', 'D']);
    contained.run(&["repository", "init"]).expect_code(0);
    let up = contained.compose(&["up", "--detach", "lifeboat"]).output();
    let up = up.unwrap();
    assert!(up.status.success(), "{up:?}");
    let id = || {
        let ps = ["ps", "--all", "--quiet", "lifeboat"];
        let listed = contained.compose(&ps).output().unwrap();
        String::from_utf8(listed.stdout).unwrap().trim().to_owned()
    };
    let ask = |format: &str| docker(&["inspect", "--format", format, &id()]);
    assert_eq!(
        ask("{{.HostConfig.ReadonlyRootfs}} {{.Config.User}}"),
        "true 65532:65532"
    );

    let backup = until("the daemon has made a complete backup", || {
        let listed = contained.run(&["list", "--json"]).expect_code(0).json();
        let found = listed["backups"].as_array()?.last()?.clone();
        (found["commit"]["complete"] == true).then_some(found)
    });
    assert_eq!(backup["stack"], server.stack, "{backup}");
    // Docker asks the program, and the program its daemon.
    wait_for("the container is healthy", || {
        ask("{{.State.Health.Status}}") == "healthy"
    });
    // Compose puts characters of its own between the lines.
    let logs = Command::new("docker")
        .args(["logs", &id()])
        .output()
        .unwrap();
    let logs = String::from_utf8([logs.stdout, logs.stderr].concat()).unwrap();
    assert!(!logs.is_empty(), "it logs nothing");
    for line in logs.lines().filter(|line| !line.is_empty()) {
        let entry: Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert!(
            entry["level"].is_string() && entry["message"].is_string(),
            "{line}"
        );
    }
    let refused = contained.gate.refused();
    assert!(refused.is_empty(), "{refused:?}\n{logs}");

    // It ends by itself when it is asked to, long before the engine loses its patience.
    let stopped = contained.compose(&["stop", "lifeboat"]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    assert_ne!(ask("{{.State.ExitCode}}"), "137", "{logs}");
    let locks = docker(&[
        "ps",
        "--all",
        "--quiet",
        "--filter",
        &format!("label=dev.lifeboat.stack={}", server.stack),
    ]);
    assert_eq!(locks, "", "a lock was left behind");
}

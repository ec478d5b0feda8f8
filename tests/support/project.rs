//! A Compose project of small containers that write to volumes; the real `docker compose`.

use super::server::{docker, unique};
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

/// The image of its services: a shell and not much more.
pub(crate) const APP: &str = "lifeboat-lab/app:1";

/// A project; taken down with its volumes on drop.
pub(crate) struct Project {
    /// Its name, which no other test has.
    pub(crate) name: String,
    folder: TempDir,
    /// Volumes beside it that are to be removed in the end, too.
    pub(crate) others: Vec<String>,
}

impl Project {
    /// Starts `api`, and `web` that depends on it, both with the volume `NAME_files` at `/files`.
    pub(crate) fn start(what: &str) -> Self {
        Self::with(what, "", "", "  files: {}\n")
    }

    /// With further lines for `api` and `web`, and other volumes.
    pub(crate) fn with(what: &str, api: &str, web: &str, volumes: &str) -> Self {
        let project = Self::written(what, api, web, volumes);
        let up = project.compose(&["up", "-d"]);
        assert!(up.status.success(), "{up:?}");
        project
    }

    /// Its file is there, and nothing runs.
    pub(crate) fn written(what: &str, api: &str, web: &str, volumes: &str) -> Self {
        let service = |name: &str, lines: &str| {
            format!(
                "  {name}:\n    image: {APP}\n    init: true\n    command: [sleep, infinity]\n    volumes: [\"files:/files\"]\n\
                 {lines}"
            )
        };
        let text = format!(
            "services:\n{}{}volumes:\n{volumes}",
            service("api", api),
            service("web", &format!("    depends_on: [api]\n{web}")),
        );
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("compose.yaml"), text).unwrap();
        Self {
            name: unique(what),
            folder,
            others: Vec::new(),
        }
    }

    /// Its Compose file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("compose.yaml")
    }

    /// The project's own volume.
    pub(crate) fn volume(&self) -> String {
        format!("{}_files", self.name)
    }

    /// A name for one more volume, removed in the end.
    pub(crate) fn another(&mut self, what: &str) -> String {
        let name = format!("{}-{what}", self.name);
        self.others.push(name.clone());
        name
    }

    pub(crate) fn compose(&self, arguments: &[&str]) -> Output {
        Command::new("docker")
            .args(["compose", "--project-name", &self.name, "--ansi", "never"])
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    /// `docker compose up -d` must neither ask nor warn.
    #[track_caller]
    pub(crate) fn comes_up_in_silence(&self) {
        let up = self.compose(&["up", "-d"]);
        let said =
            String::from_utf8_lossy(&up.stderr).into_owned() + &String::from_utf8_lossy(&up.stdout);
        assert!(up.status.success(), "{said}");
        for word in ["warn", "Recreate", "lost", "level=", "already exists", "?"] {
            assert!(!said.contains(word), "{said}");
        }
    }

    /// Runs a script in a service's container.
    #[track_caller]
    pub(crate) fn sh(&self, service: &str, script: &str) -> String {
        docker(&["exec", &self.container(service), "sh", "-ec", script])
    }

    /// The container of a service.
    pub(crate) fn container(&self, service: &str) -> String {
        format!("{}-{service}-1", self.name)
    }

    /// What `docker inspect` says of a service's container.
    pub(crate) fn inspect(&self, service: &str, format: &str) -> String {
        docker(&["inspect", "--format", format, &self.container(service)])
    }

    /// Whether both services run and are not paused.
    pub(crate) fn runs(&self) -> bool {
        ["api", "web"]
            .iter()
            .all(|service| self.inspect(service, "{{.State.Status}}") == "running")
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.compose(&["down", "--volumes", "--timeout", "0"]);
        for volume in &self.others {
            let mut remove = Command::new("docker");
            let _ = remove.args(["volume", "rm", "-f", volume]).output();
        }
    }
}

/// Where the engine keeps a volume's files: tests run as root on its machine.
pub(crate) fn files_of(volume: &str) -> PathBuf {
    docker(&["volume", "inspect", "--format", "{{.Mountpoint}}", volume]).into()
}

//! A second Docker engine that is empty: another machine, as far as lifeboat can tell.
//!
//! It has processes, mounts and a network of its own (namespaces), so that it shares nothing with the engine that the
//! other tests use but the kernel: the same ports may be published on both, and where its first process ends, nothing
//! of it runs or is mounted any more.

use super::server::{until, wait_for};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How the folders of all second engines begin, and the parents of their containers' control groups.
const PREFIX: &str = "lifeboat-second-engine-";
/// How long dockerd may take to end when it is asked to.
const FAREWELL: Duration = Duration::from_secs(20);

/// Runs containerd, then becomes dockerd, which so is the first process of its namespace. A containerd that dockerd
/// finds or starts by itself might be the other engine's.
const SCRIPT: &str = r#"
ip link set lo up
containerd --config "$1/containerd.toml" --root "$1/containerd" --state "$1/containerd-state" \
  --address "$1/containerd.sock" >"$1/containerd.log" 2>&1 &
exec dockerd --containerd "$1/containerd.sock" --config-file "$1/daemon.json" --data-root "$1/data" \
  --exec-root "$1/exec" --pidfile "$1/dockerd.pid" -H "unix://$1/docker.sock" --iptables=false --ip6tables=false \
  --bridge=none --default-address-pool base=10.201.0.0/16,size=24 --exec-opt native.cgroupdriver=cgroupfs \
  --cgroup-parent "/$2" >"$1/dockerd.log" 2>&1
"#;

/// An engine of its own; gone with all that is in it on drop, and at the latest when the thread ends that started it.
///
/// What it publishes is reached from its own network only, as by `docker exec`.
pub(crate) struct SecondEngine {
    name: String,
    folder: PathBuf,
    host: String,
    /// `unshare`, the parent of the engine's first process.
    outer: Child,
    /// Held as long as whoever started it lives.
    lock: Option<File>,
}

impl SecondEngine {
    /// Starts an engine and waits until it answers. What tests that were killed have left behind is removed first.
    pub(crate) fn start(what: &str) -> Self {
        sweep();
        let folder = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{what}-"))
            .tempdir()
            .unwrap()
            .keep();
        let lock = File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        let plugins = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        fs::write(folder.join("containerd.toml"), plugins).unwrap();
        // Not the settings of the machine's own engine.
        fs::write(folder.join("daemon.json"), "{}").unwrap();
        let name = name_of(&folder);
        let outer = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare"])
            .args(["--fork", "--pid", "--kill-child", "--mount-proc"])
            .args(["--mount", "--propagation", "slave", "--net"])
            .args(["sh", "-ec", SCRIPT, "sh"])
            .arg(&folder)
            .arg(&name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut engine = Self {
            host: format!("unix://{}", folder.join("docker.sock").display()),
            name,
            folder,
            outer,
            lock: Some(lock),
        };
        until("the second engine answers", || {
            let ended = engine.outer.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", engine.log());
            let asked = engine.command(&["version"]).output().unwrap();
            asked.status.success().then_some(())
        });
        engine
    }

    /// The engine's address, for `DOCKER_HOST`.
    pub(crate) fn docker_host(&self) -> &str {
        &self.host
    }

    /// The folder in which it keeps everything.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs `docker` on it; what it printed, where it succeeded.
    #[track_caller]
    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Runs `docker compose` on it, in `folder`.
    pub(crate) fn compose(&self, folder: &Path, arguments: &[&str]) -> Output {
        let mut command = self.command(&["compose", "--ansi", "never"]);
        command
            .args(arguments)
            .current_dir(folder)
            .output()
            .unwrap()
    }

    /// `docker` on it, ready to be run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .env_remove("DOCKER_CONTEXT")
            .env("DOCKER_HOST", self.docker_host())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Takes images over from the engine that the other tests use, under their names.
    pub(crate) fn load_images(&self, names: &[&str]) {
        let mut save = Command::new("docker")
            .arg("save")
            .args(names)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut load = self.command(&["load", "--quiet"]);
        let loaded = load.stdin(save.stdout.take().unwrap()).output().unwrap();
        assert!(save.wait().unwrap().success(), "docker save {names:?}");
        assert!(loaded.status.success(), "{loaded:?}");
    }

    fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        read("containerd.log") + &read("dockerd.log")
    }

    /// What a test that is killed does: nothing is cleaned up.
    pub(crate) fn abandon(mut self) {
        self.lock.take();
        std::mem::forget(self);
    }

    /// The engine's first process, whose end is the end of all of them.
    fn first_process(&self) -> Option<String> {
        let outer = self.outer.id();
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).ok()?;
        Some(children.split_whitespace().next()?.to_owned())
    }

    /// Ends what runs in it, then the engine; an end that is not orderly is made.
    fn stop(&mut self) {
        if let Ok(listed) = self.command(&["ps", "-aq"]).output() {
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            let ids: Vec<&str> = listed.split_whitespace().collect();
            if !ids.is_empty() {
                let _ = self.command(&[&["rm", "-fv"], &ids[..]].concat()).output();
            }
        }
        let first = self.first_process();
        for signal in ["TERM", "KILL"] {
            if let Some(first) = &first {
                let _ = Command::new("kill").args(["-s", signal, first]).output();
            }
            // unshare ends when all processes of the namespace have.
            let begun = Instant::now();
            while begun.elapsed() < FAREWELL {
                if !matches!(self.outer.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

impl Drop for SecondEngine {
    fn drop(&mut self) {
        self.stop();
        remove(&self.folder, &self.name);
    }
}

fn name_of(folder: &Path) -> String {
    folder.file_name().unwrap().to_string_lossy().into_owned()
}

/// Removes what is left of engines whose tests were killed: they have ended by themselves.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let folder = entry.path();
        if !name_of(&folder).starts_with(PREFIX) {
            continue;
        }
        // One without a lock is only just being made.
        if let Ok(lock) = File::open(folder.join("lock"))
            && lock.try_lock().is_ok()
        {
            wait_for("the engine of a dead test has ended", || {
                processes_of(&folder).is_empty()
            });
            remove(&folder, &name_of(&folder));
        }
    }
}

/// Never panics: it may run while a panic is under way.
fn remove(folder: &Path, name: &str) {
    let _ = fs::remove_dir_all(folder);
    // Control groups of version 1 have a tree for each controller.
    let root = Path::new("/sys/fs/cgroup");
    let trees = fs::read_dir(root).into_iter().flatten().flatten();
    for tree in trees.map(|entry| entry.path()).chain([root.to_owned()]) {
        remove_groups(&tree.join(name));
    }
}

/// Removes control groups, the inner ones first. Their files go with them.
fn remove_groups(group: &Path) {
    for inner in fs::read_dir(group).into_iter().flatten().flatten() {
        if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&inner.path());
        }
    }
    let _ = fs::remove_dir(group);
}

/// The command lines of processes that name an engine's folder.
pub(crate) fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_string_lossy();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&*folder))
        .collect()
}

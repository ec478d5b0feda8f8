//! Engines elsewhere: reached over TCP without their files, another engine to move to, another kind of machine.

use crate::support::project::{Project, files_of};
use crate::support::server::{Place, docker, wait_for};
use crate::support::tree::{furnish, same};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The engine's socket on a TCP port of this machine.
fn over_tcp() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let engine = UnixStream::connect("/var/run/docker.sock").unwrap();
            let (to, from) = (client.try_clone().unwrap(), engine.try_clone().unwrap());
            std::thread::spawn(move || {
                pass(client, &engine);
                let _ = engine.shutdown(std::net::Shutdown::Write);
            });
            std::thread::spawn(move || {
                pass(from, &to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    format!("tcp://{address}")
}

fn pass<W>(mut from: impl Read, to: &W)
where
    for<'w> &'w W: Write,
{
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut to = to;
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

#[test]
fn an_engine_over_tcp_needs_no_way_to_the_volumes_folder() {
    let (mut project, place) = (Project::start("tcp"), Place::new());
    let files = files_of(&project.volume());
    furnish(&files);
    let restored = project.another("restored");
    // In a mount namespace of its own, where the engine's folder is empty.
    let hidden = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-ec", "mount -t tmpfs tmpfs /var/lib/docker; test -z \"$(ls -A /var/lib/docker)\"; exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_lifeboat"))
            .args(arguments)
            .current_dir(place.folder.path())
            .env("LIFEBOAT_STATE_DIR", place.folder.path().join("state"))
            .env("LIFEBOAT_REPOSITORY", &place.repository)
            .env("DOCKER_HOST", over_tcp());
        crate::support::server::ran(command.output().unwrap()).expect_code(0)
    };
    hidden(&["backup", &project.name, "--quiesce", "stop"]);
    hidden(&["volume", "restore", "latest", "--as", &restored]);
    assert_eq!(same(&files, &files_of(&restored)), "");
    let listed = hidden(&["volume", "ls", &project.name, "--json"]).json();
    assert!(
        listed["volumes"][0]["size"]["files"].as_u64().unwrap() > 20,
        "{listed}"
    );
}

/// One more engine on this machine, with everything of its own.
struct SecondEngine {
    folder: TempDir,
    daemon: Child,
}

impl SecondEngine {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let log = fs::File::create(at("log")).unwrap();
        // In a network namespace of its own: an engine without a bridge removes the one that there is.
        let daemon = Command::new("unshare")
            .args(["--net", "dockerd", "--host"])
            .arg(format!("unix://{}", at("socket").display()))
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .args(["--bridge", "none", "--iptables=false", "--ip-masq=false"])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let engine = Self { folder, daemon };
        wait_for("the second engine answers", || {
            engine.docker(&["info"]).is_some()
        });
        engine
    }

    fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("socket").display())
    }

    fn docker(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new("docker")
            .args(["--host", &self.host()])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| text.trim().to_owned())
    }

    fn volumes(&self) -> String {
        self.docker(&["volume", "ls", "-q"]).unwrap()
    }

    fn files_of(&self, volume: &str) -> PathBuf {
        self.docker(&["volume", "inspect", "--format", "{{.Mountpoint}}", volume])
            .unwrap()
            .into()
    }
}

impl Drop for SecondEngine {
    fn drop(&mut self) {
        let pid = self.daemon.id().to_string();
        let _ = Command::new("kill").arg(&pid).status();
        let _ = self.daemon.wait();
    }
}

#[test]
fn a_volume_moves_to_another_engine() {
    let second = SecondEngine::start();
    let (project, place) = (Project::start("move"), Place::new());
    let volume = project.volume();
    let files = files_of(&volume);
    furnish(&files);
    let migrate = |more: &[&str]| {
        place.run(
            &[
                &["volume", "migrate", &volume, "--to-engine", &second.host()],
                more,
            ]
            .concat(),
        )
    };
    let before = place.files();
    migrate(&["--quiesce", "pause"]).expect_code(0);
    assert_eq!(place.files(), before, "nothing on a disk between");
    assert!(project.runs() && files.exists());
    assert_eq!(same(&files, &second.files_of(&volume)), "");
    let labels = |docker: &dyn Fn(&[&str]) -> String| {
        docker(&["volume", "inspect", "--format", "{{json .Labels}}", &volume])
    };
    assert_eq!(
        labels(&|arguments| docker(arguments)),
        labels(&|arguments| second.docker(arguments).unwrap())
    );
    migrate(&[])
        .expect_code(2)
        .says(&["has a volume", "hint: --as gives it another name there"]);
    // One that is killed half-way leaves nothing there that looks whole.
    let sparse = fs::File::create(files.join("sparse")).unwrap();
    sparse.set_len(100 << 30).unwrap();
    let run = place.spawn(&[
        "volume",
        "migrate",
        &volume,
        "--to-engine",
        &second.host(),
        "--as",
        "half",
    ]);
    wait_for("it is made", || second.volumes().contains("half"));
    run.kill();
    fs::remove_file(files.join("sparse")).unwrap();
    let mut there = place.command(&["volume", "ls", "--no-sizes"]);
    wait_for("the next command there removes it", || {
        let ran =
            crate::support::server::ran(there.env("DOCKER_HOST", second.host()).output().unwrap());
        ran.code == Some(0) && !second.volumes().contains("half")
    });
    migrate(&["--as", "half"]).expect_code(0);
    place
        .run(&[
            "volume",
            "migrate",
            &volume,
            "--to-engine",
            "unix:///var/run/docker.sock",
        ])
        .expect_code(2)
        .says(&["hint: this is the same engine"]);
}

#[test]
fn a_helper_for_another_machine_is_named() {
    let (project, place) = (Project::start("machine"), Place::new());
    // An executable's header of a machine that this is not, static: no program headers at all.
    let mut header = vec![0_u8; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    header[16] = 2;
    let other = if cfg!(target_arch = "x86_64") {
        183_u16
    } else {
        62
    };
    header[18..20].copy_from_slice(&other.to_le_bytes());
    header[20] = 1;
    header[52] = 64;
    let path = place.folder.path().join("foreign");
    fs::write(&path, header).unwrap();
    let backup = |helper: &str| place.run(&["--helper", helper, "backup", &project.name]);
    backup(path.to_str().unwrap()).expect_code(2).says(&[
        "and this lifeboat is for",
        "hint: --helper PATH names a static lifeboat for",
    ]);
    backup("/bin/sh")
        .expect_code(2)
        .says(&["is dynamically linked"]);
    backup("/etc/passwd")
        .expect_code(2)
        .says(&["is no Linux executable"]);
    backup("/nowhere").says(&["cannot read /nowhere"]);
    assert_eq!(place.list(), []);
}

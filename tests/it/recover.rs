//! `recover`: a whole stack comes back onto an engine that has nothing of it, whatever happens meanwhile.

use crate::support::second_engine::SecondEngine;
use crate::support::server::{Place, Ran, docker, unique, wait_for};
use crate::support::soak;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// What the stack's servers and its application run.
const IMAGES: [&str; 3] = [
    "lifeboat-lab/postgres:17",
    "lifeboat-lab/redis:8.0",
    "lifeboat-lab/app:1",
];
/// A superuser of another name with a password that the network asks for, a cluster with settings that only its making
/// can give, a Redis as another user with an append-only file, volumes with labels, and one and a network that are
/// somebody else's. The application is well where it can read all of it over the network.
const COMPOSE: &str = r#"services:
  postgres:
    image: lifeboat-lab/postgres:17
    environment:
      POSTGRES_USER: keeper
      POSTGRES_PASSWORD: "${PASSWORD}"
      POSTGRES_DB: shop
      POSTGRES_INITDB_ARGS: "--data-checksums --auth-host=scram-sha-256"
    command: [-c, fsync=off]
    volumes: ["pg:/var/lib/postgresql/data"]
  redis:
    image: lifeboat-lab/redis:8.0
    user: "999:999"
    command: [redis-server, --appendonly, "yes", --requirepass, "${PASSWORD}", --repl-diskless-sync-delay, "0"]
    volumes: ["CACHE:/data"]
  api:
    image: lifeboat-lab/app:1
    init: true
    command: [sleep, infinity]
    environment: {PGPASSWORD: "${PASSWORD}"}
    volumes: ["uploads:/uploads", "shared:/shared", "scratch:/scratch"]
    networks: [default, outer]
    healthcheck:
      test: ["CMD-SHELL", "test \"$$(psql -h postgres -U keeper -d shop -tAc 'select count(*) from t')\" = 500 && test -s /uploads/one && test -s /shared/two"]
      interval: 1s
      retries: 40
volumes:
  pg: {labels: {keep: "this one's"}}
  cache: {}
  uploads: {}
  scratch: {}
  shared: {external: true, name: NAME-shared}
networks:
  outer: {external: true, name: NAME-outer}
"#;

/// The stack on one of two engines; gone with all that belongs to it on drop.
struct Shop {
    name: String,
    folder: TempDir,
    place: Place,
    /// Where it is lost from and comes back to; the tests' own engine where there is no other.
    elsewhere: Option<SecondEngine>,
    /// Whether it has moved there.
    moved: bool,
}

impl Shop {
    fn open(what: &str, cache: &str, elsewhere: Option<SecondEngine>) -> Self {
        let shop = Self {
            name: unique(what),
            folder: tempfile::tempdir().unwrap(),
            place: Place::new(),
            elsewhere,
            moved: false,
        };
        let cache = cache.replace("FOLDER", &shop.cache_folder().to_string_lossy());
        let text = COMPOSE.replace("NAME", &shop.name).replace("CACHE", &cache);
        fs::create_dir(shop.project()).unwrap();
        fs::create_dir(shop.cache_folder()).unwrap();
        std::os::unix::fs::chown(shop.cache_folder(), Some(999), Some(999)).unwrap();
        fs::write(shop.project().join("compose.yaml"), text).unwrap();
        fs::write(shop.project().join(".env"), "PASSWORD=it-is-secret\n").unwrap();
        docker(&["network", "create", "--label", "a=b c", &shop.outer()]);
        docker(&["volume", "create", "--label", "d=e f", &shop.shared()]);
        shop.compose(&["up", "-d"]);
        shop.wait_ready();
        shop.sql("create role teller login password 'told' connection limit 7");
        shop.sql("alter role keeper set work_mem = '5MB'");
        shop.sql("create table t as select n, 'x' || n as text from generate_series(1, 500) n");
        shop.sql("create table empty (n int); alter table empty owner to teller");
        shop.redis(&["SET", "greeting", "hello"]);
        shop.redis(&["RPUSH", "list", "a", "b", "c"]);
        shop.api("echo one >/uploads/one; mkdir -m 2750 /uploads/d; chown 7:8 /uploads/d; echo two >/shared/two");
        shop
    }

    fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    fn cache_folder(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn outer(&self) -> String {
        format!("{}-outer", self.name)
    }

    fn shared(&self) -> String {
        format!("{}-shared", self.name)
    }

    /// `docker` on the engine where the stack is now.
    fn docker_command(&self, arguments: &[&str]) -> Command {
        match &self.elsewhere {
            Some(engine) if self.moved => engine.command(arguments),
            _ => {
                let mut command = Command::new("docker");
                command.args(arguments);
                command
            }
        }
    }

    fn try_docker(&self, arguments: &[&str]) -> Output {
        self.docker_command(arguments).output().unwrap()
    }

    fn docker(&self, arguments: &[&str]) -> String {
        let output = self.try_docker(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn compose_in(&self, folder: &Path, arguments: &[&str]) -> Output {
        let compose = ["compose", "--project-name", &self.name, "--ansi", "never"];
        self.docker_command(&[&compose, arguments].concat())
            .current_dir(folder)
            .output()
            .unwrap()
    }

    fn compose(&self, arguments: &[&str]) -> String {
        let output = self.compose_in(&self.project(), arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    fn exec(&self, service: &str, command: &[&str]) -> Output {
        let container = format!("{}-{service}-1", self.name);
        let exec = ["exec", "-e", "PGPASSWORD=it-is-secret", &container];
        self.try_docker(&[&exec[..], command].concat())
    }

    fn said(&self, service: &str, command: &[&str]) -> String {
        let output = self.exec(service, command);
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn sql(&self, query: &str) -> String {
        let psql = ["psql", "-XqAt", "-U", "keeper", "-d", "shop", "-c", query];
        self.said("postgres", &psql)
    }

    fn redis(&self, command: &[&str]) -> String {
        let client = ["redis-cli", "--no-auth-warning", "-a", "it-is-secret"];
        self.said("redis", &[&client[..], command].concat())
    }

    fn api(&self, script: &str) -> String {
        self.said("api", &["sh", "-ec", script])
    }

    fn wait_ready(&self) {
        wait_for("the servers answer", || {
            let ready = ["pg_isready", "-q", "-h", "127.0.0.1"];
            let ping = [
                "redis-cli",
                "--no-auth-warning",
                "-a",
                "it-is-secret",
                "ping",
            ];
            self.exec("postgres", &ready).status.success()
                && self.exec("redis", &ping).stdout.starts_with(b"PONG")
        });
    }

    /// All that there is to tell one state of it from another.
    fn state(&self) -> Vec<String> {
        let mut state = vec![
            self.sql("select count(*), md5(string_agg(n || text, ',' order by n)) from t"),
            self.sql("select tableowner from pg_tables where tablename = 'empty'"),
            self.sql("select datname, pg_get_userbyid(datdba) from pg_database order by 1"),
            self.sql("select rolname, rolpassword, rolsuper, rolconnlimit from pg_authid where rolname !~ '^pg_' order by 1"),
            self.sql("show work_mem"),
            self.sql("show data_checksums"),
            self.sql("show fsync"),
            self.redis(&["GET", "greeting"]),
            self.redis(&["LRANGE", "list", "0", "-1"]),
            self.redis(&["DBSIZE"]),
            self.said("redis", &["stat", "-c", "%u:%g %a", "/data", "/data/appendonlydir"]),
            self.api("cd /uploads; find . | sort; stat -c '%n %a %u:%g' d one; cat one /shared/two; ls -A /scratch"),
        ];
        for volume in ["pg", "uploads", "scratch"] {
            state.push(self.described("volume", &format!("{}_{volume}", self.name)));
        }
        state.push(self.described("volume", &self.shared()));
        state.push(self.described("network", &self.outer()));
        state
    }

    fn described(&self, kind: &str, name: &str) -> String {
        let format = "{{json .Labels}} {{json .Options}} {{.Driver}}";
        self.docker(&[kind, "inspect", "--format", format, name])
    }

    /// Keys for an encrypted and signed repository whose names say nothing.
    fn with_keys(&self) {
        let key = |arguments: &[&str]| {
            let generate = [&["key", "generate", "--json"], arguments].concat();
            let made = self.place.run(&generate).expect_code(0).json();
            made["public_key"].as_str().unwrap().to_owned()
        };
        let public = key(&["--output", "key"]);
        let verifying = key(&["--signing", "--output", "signing"]);
        self.place.configure(&format!(
            "[encryption]\nrecipients = [{public:?}]\nidentity = {{ file = \"key\" }}\nhide_names = true\n\
             [signature]\nsecret_key = {{ file = \"signing\" }}\npublic_key = {verifying:?}\n"
        ));
    }

    /// Takes it off the engine where it is, with all that it has there.
    fn lose(&self) {
        self.compose(&["down", "--volumes", "--timeout", "0"]);
        for (kind, name) in [("volume", self.shared()), ("network", self.outer())] {
            self.docker(&[kind, "rm", &name]);
        }
        // Its files are another user's: a container removes them.
        let folder = format!("{}:/f", self.folder.path().display());
        docker(&[
            "run",
            "--rm",
            "-v",
            &folder,
            "lifeboat-lab/app:1",
            "rm",
            "-rf",
            "/f/cache",
        ]);
    }

    fn move_elsewhere(&mut self) {
        self.lose();
        let host = self.elsewhere.as_ref().unwrap().docker_host().to_owned();
        self.place.env.insert("DOCKER_HOST".to_owned(), host);
        self.moved = true;
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.place.run(arguments)
    }

    /// Compose starts it, has nothing to make anew and nothing to ask, and the application is well.
    fn comes_up(&self, folder: &Path) {
        let up = self.compose_in(folder, &["up", "-d", "--wait"]);
        let said = String::from_utf8_lossy(&up.stderr).into_owned();
        assert!(up.status.success(), "{said}");
        for word in ["warn", "Recreate", "level=", "already exists", "?"] {
            assert!(!said.contains(word), "{word}: {said}");
        }
        self.wait_ready();
    }

    /// What lifeboat has left on the engine for the stack: locks, records, and whatever still uses its volumes.
    fn leftovers(&self) -> String {
        let list = |filter: String| self.docker(&["ps", "-aq", "--filter", &filter]);
        let mut left = list(format!("label=dev.lifeboat.stack={}", self.name));
        for volume in ["pg", "cache", "uploads"] {
            left += &list(format!("volume={}_{volume}", self.name));
        }
        left + &list(format!("volume={}", self.shared()))
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // The other engine goes with all that it has.
        self.moved = false;
        let down = ["down", "--volumes", "--timeout", "0"];
        let _ = self.compose_in(&self.project(), &down);
        for (kind, name) in [("volume", self.shared()), ("network", self.outer())] {
            let _ = self.try_docker(&[kind, "rm", &name]);
        }
        let folder = format!("{}:/f", self.folder.path().display());
        let remove = ["run", "--rm", "-v", &folder, "lifeboat-lab/app:1"];
        let _ = self.try_docker(&[&remove[..], &["rm", "-rf", "/f/cache"]].concat());
    }
}

#[test]
fn an_empty_engine_gets_an_encrypted_stack_back_and_compose_only_starts_it() {
    let mut shop = Shop::open("empty", "cache", Some(SecondEngine::start("recover")));
    let before = shop.state();
    shop.with_keys();
    shop.run(&["backup", &shop.name]).expect_code(0);
    shop.move_elsewhere();
    // The project's files are lost, too.
    let lost = shop.folder.path().join("lost");
    fs::rename(shop.project(), &lost).unwrap();

    // A missing image is said before anything is made.
    let files = shop.project().to_string_lossy().into_owned();
    let images = shop
        .folder
        .path()
        .join("images.tar")
        .to_string_lossy()
        .into_owned();
    docker(&[&["save", "-o", &images], &IMAGES[..]].concat());
    shop.run(&["recover", &shop.name, "--no-pull"])
        .expect_code(1)
        .says(&[
            "does not have the image",
            "lifeboat-lab/postgres:17",
            "hint:",
        ]);
    assert_eq!(shop.docker(&["volume", "ls", "-q"]), "");
    // Neither can a plan make anything.
    let recover = [
        "recover",
        &shop.name,
        "--load",
        &images,
        "--files-to",
        &files,
    ];
    shop.run(&[&recover[..], &["--plan"]].concat())
        .expect_code(0)
        .says(&[
            "would load the images of",
            "would create volume",
            "would write the project's files",
        ]);
    assert_eq!(shop.docker(&["volume", "ls", "-q"]), "");

    shop.run(&recover)
        .expect_code(0)
        .says(&["recovered", "next: docker compose"]);
    assert_eq!(shop.leftovers(), "");
    shop.comes_up(&shop.project());
    assert_eq!(shop.state(), before);
    for file in ["compose.yaml", ".env"] {
        let read = |folder: &Path| fs::read_to_string(folder.join(file)).unwrap();
        assert_eq!(read(&shop.project()), read(&lost), "{file}");
    }
}

/// Account and key of the Azure emulator, which everybody knows.
const AZURE: [(&str, &str); 2] = [
    ("AZURE_STORAGE_ACCOUNT", "devstoreaccount1"),
    (
        "AZURE_STORAGE_KEY",
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    ),
];

#[test]
fn a_stack_comes_back_from_every_kind_of_bucket() {
    let mut shop = Shop::open("bucket", "cache", Some(SecondEngine::start("buckets")));
    let before = shop.state();
    shop.with_keys();
    let lab = |name: &str| {
        #[expect(
            clippy::disallowed_methods,
            reason = "tests are told by the lab's environment"
        )]
        std::env::var(name).expect("tests/lab/lab stores; eval \"$(tests/lab/lab env)\"")
    };
    let gcs = serde_json::json!({
        "gcs_base_url": lab("LIFEBOAT_LAB_GCS"), "disable_oauth": true, "client_email": "", "private_key": "",
        "private_key_id": "",
    });
    let azure = format!("{}/devstoreaccount1", lab("LIFEBOAT_LAB_AZURE"));
    let mut variables = vec![
        ("AWS_ENDPOINT_URL", lab("LIFEBOAT_LAB_S3")),
        ("AWS_ACCESS_KEY_ID", "key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ("AZURE_STORAGE_ENDPOINT", azure),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", gcs.to_string()),
    ];
    variables.extend(AZURE.map(|(name, value)| (name, value.to_owned())));
    for (name, value) in variables {
        shop.place.env.insert(name.to_owned(), value);
    }
    let buckets = ["s3", "az", "gs"].map(|kind| format!("{kind}://lifeboat-tests/{}", shop.name));
    for bucket in &buckets {
        let repository = ["--repository", bucket.as_str()];
        shop.run(&[&["repository", "init"], &repository[..]].concat())
            .expect_code(0);
        shop.run(&[&["backup", &shop.name], &repository[..]].concat())
            .expect_code(0);
    }
    shop.move_elsewhere();
    shop.elsewhere.as_ref().unwrap().load_images(&IMAGES);
    for bucket in &buckets {
        shop.run(&["recover", &shop.name, "--repository", bucket])
            .expect_code(0);
        shop.comes_up(&shop.project());
        assert_eq!(shop.state(), before, "{bucket}");
        shop.lose();
    }
}

/// The beginnings of steps at which a recovery is killed, in their order; at every second event under `make soak`.
const STAGES: [&str; 15] = [
    "verify the stored bytes of redis",
    "create network",
    "create volume",
    "make a cluster",
    "create the backup's roles",
    "load postgres",
    "rename \\\"shop_restoring",
    "end the server for service postgres",
    "put it in the place of what volume",
    "stand\"",
    "write redis/redis into folder",
    "compare what service redis",
    "put it in the place of what folder",
    "write volume/",
    "write the project's files",
];

#[test]
fn a_recovery_that_is_killed_goes_on_where_it_was() {
    let shop = Shop::open("killed", "FOLDER", None);
    let before = shop.state();
    shop.run(&["backup", &shop.name]).expect_code(0);
    shop.lose();
    let files = shop
        .folder
        .path()
        .join("files")
        .to_string_lossy()
        .into_owned();
    let recover = ["recover", &shop.name, "--files-to", &files];
    for stage in 0..soak(u32::try_from(STAGES.len()).unwrap(), 60) {
        let mut run = shop.place.spawn(&recover);
        if soak(0, 1) == 0 {
            run.line_with(STAGES[stage as usize]);
        } else if (0..=stage * 2).any(|_| run.line().is_none()) {
            break;
        }
        run.kill();
    }
    // Most of it stands.
    let done = shop.run(&recover).expect_code(0);
    done.says(&[
        "kept, since an earlier run has recovered it: volume",
        "recovered",
    ]);
    assert_eq!(shop.leftovers(), "");
    let folder = fs::read_dir(shop.cache_folder()).unwrap().flatten();
    let names: Vec<_> = folder.map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["appendonlydir"]);
    shop.comes_up(&shop.project());
    assert_eq!(shop.state(), before);
    assert!(Path::new(&files).join("compose.yaml").exists());
}

#[test]
fn what_is_there_is_never_written_over() {
    let shop = Shop::open("there", "cache", None);
    shop.run(&["backup", &shop.name]).expect_code(0);
    // The stack itself.
    shop.run(&["recover", &shop.name])
        .expect_code(2)
        .says(&["is on this engine already", "--in-place"]);
    // Volumes that somebody has written to.
    shop.compose(&["down", "--timeout", "0"]);
    let volume = format!("{}_uploads", shop.name);
    shop.run(&["recover", &shop.name])
        .expect_code(2)
        .says(&["there is something in volume", "docker volume rm"]);
    let network = shop.outer();
    docker(&["network", "rm", &network]);
    for one in ["pg", "cache"] {
        docker(&["volume", "rm", &format!("{}_{one}", shop.name)]);
    }
    shop.run(&["recover", &shop.name])
        .expect_code(2)
        .says(&["there is something in volume"]);
    let left = docker(&[
        "volume",
        "ls",
        "-q",
        "--filter",
        &format!("name={}", shop.name),
    ]);
    assert!(!left.contains("_pg") && !left.contains("_cache"), "{left}");
    assert!(
        !shop
            .try_docker(&["network", "inspect", &network])
            .status
            .success()
    );
    // One that is there with nothing in it is taken.
    docker(&["volume", "rm", &volume, &shop.shared()]);
    docker(&["volume", "create", &shop.shared()]);
    // A name that is not in the repository, and folders that are not empty.
    shop.run(&["recover", "no-such-stack"])
        .expect_code(10)
        .says(&["holds no backup of \"no-such-stack\"", &shop.name]);
    fs::write(shop.folder.path().join("file"), "").unwrap();
    let taken = shop.folder.path().to_string_lossy().into_owned();
    shop.run(&["recover", &shop.name, "--files-to", &taken])
        .expect_code(2)
        .says(&["is not empty"]);
    shop.run(&["recover", &shop.name, "--image", "nothing=x"])
        .expect_code(2)
        .says(&["no service"]);
    // A failure takes back what was begun and nothing else.
    let wrong = ["recover", &shop.name, "--image", "redis=lifeboat-lab/app:1"];
    shop.run(&wrong).expect_code(1);
    assert_eq!(shop.leftovers(), "");
    let left = docker(&[
        "volume",
        "ls",
        "-q",
        "--filter",
        &format!("name={}", shop.name),
    ]);
    assert!(left.contains("_pg") && !left.contains("_cache"), "{left}");
    shop.run(&["recover", &shop.name])
        .expect_code(0)
        .says(&["kept, since an earlier run", "recovered: volume"]);
    shop.comes_up(&shop.project());
    assert_eq!(shop.sql("select count(*) from t"), "500");
    assert_eq!(shop.api("cat /uploads/one /shared/two"), "one\ntwo");
}

#[test]
fn what_cannot_come_back_is_named_and_the_rest_comes_back() {
    let place = Place::new();
    let name = unique("left");
    let folder = tempfile::tempdir().unwrap();
    let text = "services:\n  cache:\n    image: lifeboat-lab/redis:8.0\n    volumes: ['files:/files']\nvolumes: {files: {}}\n";
    fs::write(folder.path().join("compose.yaml"), text).unwrap();
    let compose = |arguments: &[&str]| {
        let compose = ["compose", "--project-name", &name];
        let mut command = Command::new("docker");
        command.args(compose).args(arguments);
        let output = command.current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    compose(&["up", "-d"]);
    compose(&["exec", "-T", "cache", "sh", "-c", "echo one >/files/one"]);
    place.run(&["backup", &name]).expect_code(0);
    compose(&["down", "--volumes", "--timeout", "0"]);
    let recovered = place.run(&["recover", &name]).expect_code(3);
    let id = place.list().remove(0).0;
    recovered.says(&[
        "NOT recovered: redis/cache: its server had its data in volume",
        "an anonymous volume",
        &format!("lifeboat restore {name}/{id} --in-place --only redis/cache"),
        &format!("recovered: volume {name}_files"),
    ]);
    compose(&["up", "-d"]);
    let read = compose(&["exec", "-T", "cache", "cat", "/files/one"]);
    compose(&["down", "--volumes", "--timeout", "0"]);
    assert_eq!(read, "one\n");
}

/// A registry on this machine; gone with what it holds on drop.
struct Registry {
    child: Child,
    address: String,
    _folder: TempDir,
}

impl Registry {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let settings = serde_json::json!({
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": folder.path()}},
            "http": {"addr": address},
            "log": {"level": "error"},
        });
        // JSON is YAML.
        let file = folder.path().join("settings.yml");
        fs::write(&file, settings.to_string()).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("tests/lab/lab programs");
        wait_for("the registry answers", || {
            TcpStream::connect(&address).is_ok()
        });
        Self {
            child,
            address,
            _folder: folder,
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_image_that_the_engine_lacks_is_pulled_by_its_digest() {
    let registry = Registry::start();
    let place = Place::new();
    let name = unique("pulled");
    let image = format!("{}/{name}:8.0", registry.address);
    // Of its own, so that the engine has it under no other name.
    let made = |label: &str| {
        let label = format!("LABEL made={name}-{label}");
        let made = docker(&["create", "lifeboat-lab/redis:8.0"]);
        docker(&["commit", "--change", &label, &made, &image]);
        docker(&["rm", &made]);
        docker(&["push", "--quiet", &image]);
        docker(&["image", "inspect", "--format", "{{.Id}}", &image])
    };
    let first = made("first");
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "services:\n  cache:\n    image: {image}\n    volumes: ['data:/data']\nvolumes: {{data: {{}}}}\n"
    );
    fs::write(folder.path().join("compose.yaml"), text).unwrap();
    let compose = |arguments: &[&str]| {
        let mut command = Command::new("docker");
        command.args(["compose", "--project-name", &name]);
        let output = command.args(arguments).current_dir(folder.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    compose(&["up", "-d"]);
    wait_for("Redis answers", || {
        let ask = [
            "exec",
            &format!("{name}-cache-1"),
            "redis-cli",
            "set",
            "greeting",
            "hello",
        ];
        Command::new("docker")
            .args(ask)
            .output()
            .unwrap()
            .status
            .success()
    });
    place.run(&["backup", &name]).expect_code(0);
    compose(&["down", "--volumes", "--timeout", "0"]);
    docker(&["rmi", "--force", &image]);
    // Under the same name there is another one by now.
    let second = made("second");
    docker(&["rmi", "--force", &image]);
    assert_ne!(first, second);
    place
        .run(&["recover", &name, "--no-pull"])
        .expect_code(1)
        .says(&["does not have the image", &image]);
    place
        .run(&["recover", &name, "--plan"])
        .expect_code(0)
        .says(&["would pull", "@sha256:"]);
    place.run(&["recover", &name]).expect_code(0);
    let pulled = docker(&["image", "inspect", "--format", "{{.Id}}", &image]);
    assert_eq!(pulled, first);
    compose(&["up", "-d"]);
    let read = compose(&["exec", "-T", "cache", "redis-cli", "get", "greeting"]);
    compose(&["down", "--volumes", "--timeout", "0"]);
    docker(&["rmi", "--force", &image]);
    assert_eq!(read, "hello\n");
}

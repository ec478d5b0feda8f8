//! `RESTORE.md`: its commands, and nothing but stock tools, bring a whole stack back onto an engine that has nothing of it.

use crate::support::project::APP;
use crate::support::server::{Place, docker, unique, wait_for};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A database with a name that no shell may see, and a label that no shell may see.
const DATABASE: &str = "o'dd \"$(touch pwned)\"";
const COMPOSE: &str = "services:
  postgres:
    image: lifeboat-lab/postgres:17
    environment: {POSTGRES_PASSWORD: \"${PASSWORD}\", POSTGRES_DB: shop}
    command: [-c, fsync=off]
    volumes: [\"pg:/var/lib/postgresql/data\"]
  redis:
    image: lifeboat-lab/redis:8.0
    command: [redis-server, --appendonly, \"yes\", --requirepass, \"${PASSWORD}\"]
    volumes: [\"cache:/data\", \"./redis.note:/etc/redis.note:ro\"]
  app:
    image: APP
    init: true
    command: [sleep, infinity]
    depends_on: [postgres, redis]
    volumes: [\"uploads:/uploads\", \"shared:/shared\"]
    networks: [default, outer]
volumes:
  pg: {}
  cache: {}
  uploads: {labels: {\"o'dd;label\": \"a b; $$(touch pwned) 'quoted' \\\"\"}}
  shared: {external: true, name: NAME-shared}
networks:
  outer: {external: true, name: NAME-outer}
";

/// The project; removed with all that belongs to it on drop.
struct Shop {
    name: String,
    folder: TempDir,
    place: Place,
}

impl Shop {
    fn open() -> Self {
        let shop = Self {
            name: unique("by-hand"),
            folder: tempfile::tempdir().unwrap(),
            place: Place::new(),
        };
        let text = COMPOSE.replace("APP", APP).replace("NAME", &shop.name);
        fs::create_dir(shop.project()).unwrap();
        fs::write(shop.project().join("stack.yaml"), text).unwrap();
        fs::write(shop.project().join("extra.yaml"), "services: {}\n").unwrap();
        fs::write(shop.project().join(".env"), "PASSWORD=it's a 'secret'\n").unwrap();
        fs::write(shop.project().join("redis.note"), "a note\n").unwrap();
        docker(&["network", "create", "--label", "a=b c", &shop.outer()]);
        docker(&["volume", "create", "--label", "d=e f", &shop.shared()]);
        let up = shop.compose(&shop.project(), &["up", "-d"]);
        assert!(up.status.success(), "{up:?}");
        shop.wait_ready();
        shop.sql("shop", "create role keeper login password 'kept'");
        shop.sql(
            "shop",
            &format!("create database {} owner keeper", quoted(DATABASE)),
        );
        for database in ["shop", DATABASE] {
            let table =
                "create table t as select n, 'x' || n as text from generate_series(1, 500) n";
            shop.sql(database, table);
        }
        shop.redis(&["SET", "greeting", "hello"]);
        shop.redis(&["RPUSH", "list", "a", "b", "c"]);
        let files = "echo one >/uploads/one; mkdir -m 2750 /uploads/d; chown 7:8 /uploads/d; echo two >/shared/two";
        shop.app(files);
        shop
    }

    fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    fn outer(&self) -> String {
        format!("{}-outer", self.name)
    }

    fn shared(&self) -> String {
        format!("{}-shared", self.name)
    }

    fn container(&self, service: &str) -> String {
        format!("{}-{service}-1", self.name)
    }

    /// Compose with two files, neither of which it would find by itself.
    fn compose(&self, folder: &Path, arguments: &[&str]) -> Output {
        Command::new("docker")
            .args(["compose", "--project-name", &self.name, "--ansi", "never"])
            .args(["--file", "stack.yaml", "--file", "extra.yaml"])
            .args(arguments)
            .current_dir(folder)
            .output()
            .unwrap()
    }

    fn sql(&self, database: &str, query: &str) -> String {
        let database = format!("dbname='{}'", database.replace('\'', "\\'"));
        let container = self.container("postgres");
        let psql = [
            "exec", &container, "psql", "-XqAt", "-U", "postgres", "-d", &database,
        ];
        docker(&[&psql[..], &["-v", "ON_ERROR_STOP=1", "-c", query]].concat())
    }

    fn redis(&self, command: &[&str]) -> String {
        let container = self.container("redis");
        let password = "REDISCLI_AUTH=it's a 'secret'";
        let client = ["exec", "-e", password, &container, "redis-cli"];
        docker(&[&client[..], command].concat())
    }

    fn app(&self, script: &str) -> String {
        docker(&["exec", &self.container("app"), "sh", "-ec", script])
    }

    fn wait_ready(&self) {
        wait_for("the servers answer", || {
            let ready = |service: &str, command: &[&str]| {
                let container = self.container(service);
                let exec = [&["exec", &container], command].concat();
                Command::new("docker").args(exec).output().unwrap()
            };
            let pong = ready(
                "redis",
                &[
                    "redis-cli",
                    "--no-auth-warning",
                    "-a",
                    "it's a 'secret'",
                    "ping",
                ],
            );
            let postgres = ready("postgres", &["pg_isready", "-q", "-h", "127.0.0.1"]);
            postgres.status.success() && pong.stdout.starts_with(b"PONG")
        });
    }

    /// All that there is to tell one state of it from another.
    fn state(&self) -> Vec<String> {
        let mut state = vec![
            self.sql("shop", "select count(*), md5(string_agg(n || text, ',' order by n)) from t"),
            self.sql(DATABASE, "select count(*), md5(string_agg(n || text, ',' order by n)) from t"),
            self.sql(
                "shop",
                "select datname, pg_get_userbyid(datdba) from pg_database where datname not like 'before restore of %' order by 1",
            ),
            self.sql("shop", "select rolname, rolpassword from pg_authid where rolname = 'keeper'"),
            self.redis(&["GET", "greeting"]),
            self.redis(&["LRANGE", "list", "0", "-1"]),
            self.redis(&["DBSIZE"]),
            self.app("cd /uploads; find . | sort; stat -c '%n %a %u:%g' d one; cat one /shared/two"),
        ];
        for volume in ["pg", "cache", "uploads"].map(|one| format!("{}_{one}", self.name)) {
            state.push(described(
                "volume",
                "{{json .Labels}} {{json .Options}} {{.Driver}}",
                &volume,
            ));
        }
        let labels = "{{json .Labels}} {{json .Options}} {{.Driver}}";
        state.push(described("volume", labels, &self.shared()));
        state.push(described("network", labels, &self.outer()));
        state
    }

    /// Removes everything from the engine, and the project's files.
    fn lose(&self) {
        let down = self.compose(&self.project(), &["down", "--volumes", "--timeout", "0"]);
        assert!(down.status.success(), "{down:?}");
        docker(&["volume", "rm", &self.shared()]);
        docker(&["network", "rm", &self.outer()]);
        fs::rename(self.project(), self.folder.path().join("lost")).unwrap();
    }

    /// Runs the blocks of the newest backup's recipe, in order, in one Bash.
    fn restore_by_hand(&self, env: &[(&str, &str)]) -> String {
        let id = self.place.list().remove(0).0;
        let backup = self.place.repository.join(&self.name).join(id);
        let recipe = fs::read_to_string(backup.join("RESTORE.md")).unwrap();
        let blocks = recipe.split("\n```sh\n").skip(1);
        let script: String = blocks
            .map(|block| block.split("```\n").next().unwrap())
            .collect();
        assert!(!script.contains("lifeboat"), "{script}");
        let run = Command::new("bash")
            .args(["-e", "-u", "-o", "pipefail", "-c", &script])
            .current_dir(&backup)
            .env("PROJECT", self.project())
            .envs(env.iter().copied())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
        assert!(run.status.success(), "{recipe}\n{said}");
        assert!(!backup.join("pwned").exists());
        recipe
    }

    /// Compose has nothing to make anew and nothing to ask.
    fn comes_up_in_silence(&self) {
        let up = self.compose(&self.project(), &["up", "-d"]);
        let said = String::from_utf8_lossy(&up.stderr).into_owned();
        assert!(up.status.success(), "{said}");
        for word in ["warn", "Recreate", "level=", "already exists", "?"] {
            assert!(!said.contains(word), "{said}");
        }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        Command::new("docker")
            .args([
                "compose",
                "--project-name",
                &self.name,
                "down",
                "--volumes",
                "--timeout",
                "0",
            ])
            .output()
            .unwrap();
        for (kind, name) in [("volume", self.shared()), ("network", self.outer())] {
            let _ = Command::new("docker").args([kind, "rm", &name]).output();
        }
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn described(kind: &str, format: &str, name: &str) -> String {
    docker(&[kind, "inspect", "--format", format, name])
}

#[test]
fn a_whole_stack_comes_back_by_its_recipe() {
    let shop = Shop::open();
    let before = shop.state();
    shop.place.run(&["backup", &shop.name]).expect_code(0);
    shop.lose();
    // The recipe says that secrets are to be put back: an unencrypted backup has none.
    fs::create_dir(shop.project()).unwrap();
    let lost = shop.folder.path().join("lost/.env");
    fs::copy(lost, shop.project().join(".env")).unwrap();
    shop.restore_by_hand(&[]);
    shop.wait_ready();
    assert_eq!(shop.state(), before);
    shop.comes_up_in_silence();
}

#[test]
fn a_whole_stack_comes_back_by_the_recipe_of_an_encrypted_and_signed_backup() {
    let shop = Shop::open();
    let before = shop.state();
    let key = |arguments: &[&str]| {
        let generate = [&["key", "generate", "--json"], arguments].concat();
        let made = shop.place.run(&generate).expect_code(0).json();
        made["public_key"].as_str().unwrap().to_owned()
    };
    let public = key(&["--output", "key"]);
    let verifying = key(&["--signing", "--output", "signing"]);
    shop.place.configure(&format!(
        "[encryption]\nrecipients = [{public:?}]\nidentity = {{ file = \"key\" }}\nhide_names = true\n\
         [signature]\nsecret_key = {{ file = \"signing\" }}\npublic_key = {verifying:?}\n"
    ));
    shop.place.run(&["backup", &shop.name]).expect_code(0);
    shop.lose();
    let identity = shop.place.folder.path().join("key");
    let env = [
        ("IDENTITY", identity.to_str().unwrap()),
        ("PUBLIC_KEY", &verifying),
    ];
    let recipe = shop.restore_by_hand(&env);
    for word in [
        "uploads",
        "odd",
        "touch pwned",
        "stack.yaml",
        "-shared",
        "-outer",
    ] {
        assert!(!recipe.contains(word), "{word}: {recipe}");
    }
    shop.wait_ready();
    assert_eq!(shop.state(), before);
    shop.comes_up_in_silence();
    // Another key has not signed it.
    let other = key(&["--signing", "--output", "other"]);
    let id = shop.place.list().remove(0).0;
    let check = Command::new("minisign")
        .args(["-Vm", "SHA256SUMS", "-P", &other])
        .current_dir(shop.place.repository.join(&shop.name).join(id))
        .output()
        .unwrap();
    assert!(!check.status.success());
}

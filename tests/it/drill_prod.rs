//! Drills as they are in production: of the whole `ProcGenie` stack at work, and of a backup whose signature is right and
//! whose content is not.

use crate::support::doctor::{doctor, sign};
use crate::support::receiver::Receiver;
use crate::support::server::{Place, Server, docker, unique, until, wait_for};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// The lab's `ProcGenie` stack in production under a name of its own; taken down with its volumes on drop.
struct ProcGenie {
    name: String,
}

impl ProcGenie {
    fn up() -> Self {
        let stack = Self {
            name: unique("procgenie"),
        };
        stack.lab(&["stack", "up", "prod"]);
        stack.lab(&["seed"]);
        stack
    }

    fn lab(&self, arguments: &[&str]) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/lab");
        let mut lab = Command::new(script);
        let ran = lab.args(arguments).env("LAB_PROJECT", &self.name).output();
        let ran = ran.unwrap();
        assert!(ran.status.success(), "lab {arguments:?}: {ran:?}");
    }

    fn container(&self, service: &str) -> String {
        format!("{}-{service}-1", self.name)
    }

    fn sql(&self, query: &str) -> String {
        let psql = ["psql", "-XAtq", "-U", "procgenie", "-d", "procgenie", "-c"];
        let container = self.container("postgres");
        docker(&[&["exec", &container], &psql[..], &[query]].concat())
    }

    fn ask(&self, command: &str) -> String {
        let ask = format!("REDISCLI_AUTH=$(cat /run/secrets/redis_password) redis-cli {command}");
        docker(&["exec", &self.container("redis"), "sh", "-c", &ask])
    }

    fn written(&self) -> u64 {
        self.sql("select count(*) from events").parse().unwrap()
    }

    /// Containers, networks and volumes, and who is connected to the servers for as long as he works.
    fn state(&self) -> Vec<String> {
        let project = format!("label=com.docker.compose.project={}", self.name);
        let ids = |list: &[&str]| -> Vec<String> {
            let listed = docker(&[list, &["--filter", &project]].concat());
            let mut ids: Vec<String> = listed.lines().map(str::to_owned).collect();
            ids.sort();
            ids
        };
        let inspect = |kind: &str, format: &str, ids: &[String]| {
            let ids = ids.iter().map(String::as_str);
            let head = [kind, "inspect", "--format", format];
            docker(&head.into_iter().chain(ids).collect::<Vec<_>>())
        };
        let containers = ids(&["ps", "-aq", "--no-trunc"]);
        let networks = ids(&["network", "ls", "-q", "--no-trunc"]);
        let volumes = ids(&["volume", "ls", "-q"]);
        assert_eq!(
            containers.len(),
            6,
            "two servers, two replicas of api and web"
        );
        let format = "{{.Id}} {{.State.Status}} {{.State.Paused}} {{.State.StartedAt}} {{.RestartCount}} \
                      {{json .HostConfig}} {{json .NetworkSettings.Networks}}";
        let clients = self.ask("CLIENT LIST");
        // Those of health checks come and go.
        let clients = clients.lines().filter(|line| !line.contains(" addr=127."));
        let clients: BTreeSet<&str> = clients
            .flat_map(|line| line.split(' ').filter(|part| part.starts_with("id=")))
            .collect();
        assert!(!clients.is_empty());
        vec![
            inspect("container", format, &containers),
            inspect("network", "{{json .}}", &networks),
            inspect("volume", "{{json .}}", &volumes),
            // Those of web live for one query.
            self.sql(
                "select pid, backend_start, client_addr from pg_stat_activity where backend_type = 'client backend' \
                 and pid <> pg_backend_pid() and query not like 'select count%' and query <> '' order by pid",
            ),
            format!("{clients:?}"),
        ]
    }

    /// From where sessions have been opened since the log was that long, by PostgreSQL's own log.
    fn logins(&self, since: usize) -> BTreeSet<String> {
        let log = self.log().split_off(since);
        let pid = |line: &str| {
            line.split_once('[')?
                .1
                .split_once(']')
                .map(|pid| pid.0.to_owned())
        };
        let authorized: BTreeSet<String> = log
            .lines()
            .filter(|line| line.contains("connection authorized"))
            // The health check's.
            .filter(|line| !line.contains("application_name=pg_isready"))
            .filter_map(pid)
            .collect();
        log.lines()
            .filter(|line| pid(line).is_some_and(|pid| authorized.contains(&pid)))
            .filter_map(|line| {
                line.split_once("connection received: host=")?
                    .1
                    .split(' ')
                    .next()
            })
            .map(str::to_owned)
            .collect()
    }

    fn log(&self) -> String {
        let logs = Command::new("docker")
            .args(["logs", &self.container("postgres")])
            .output()
            .unwrap();
        String::from_utf8_lossy(&logs.stderr).into_owned()
    }

    fn addresses(&self) -> BTreeSet<String> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let containers = ["api-1", "api-2", "web-1", "web-2"];
        let address =
            |one: &str| docker(&["inspect", "-f", format, &format!("{}-{one}", self.name)]);
        containers.into_iter().map(address).collect()
    }
}

impl Drop for ProcGenie {
    fn drop(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/lab");
        let mut lab = Command::new(script);
        let _ = lab
            .args(["stack", "down", "prod"])
            .env("LAB_PROJECT", &self.name)
            .output();
    }
}

#[test]
fn the_production_stack_is_proven_while_it_is_written_to_and_does_not_notice() {
    let (stack, place) = (ProcGenie::up(), Place::new());
    stack.sql("alter system set log_connections to on");
    stack.sql("select pg_reload_conf()");
    place.run(&["backup", &stack.name]).expect_code(0);
    let addresses = stack.addresses();
    let before = stack.state();
    let written = stack.written();
    let logged = stack.log().len();

    let mut drill = place.spawn(&["drill", "--stack", &stack.name]);
    drill.line_with("\"step\":\"load ");
    // What is asked here is in the log, too: so it is looked at first.
    let early = stack.logins(logged);
    let during = stack.state();
    let logged = stack.log().len();
    let ran = drill.end().expect_code(0);
    let late = stack.logins(logged);

    assert_eq!(during, before);
    assert_eq!(stack.state(), before);
    let others: Vec<_> = early
        .union(&late)
        .filter(|host| !addresses.contains(*host))
        .collect();
    assert_eq!(others, [""; 0], "only the stack's own containers log in");
    wait_for("the stack goes on writing", || stack.written() > written);
    let log = stack.log().len();
    wait_for("the log tells who logs in", || {
        !stack.logins(log).is_empty()
    });
    let mut lines = ran.stdout.lines();
    let result = lines.find_map(|line| {
        let value: Value = serde_json::from_str(line).ok()?;
        (value["message_type"] == "drill").then_some(value)
    });
    let result = result.unwrap();
    assert_eq!(result["proven"], true, "{result}");
    for ending in ["db/procgenie", "globals", "redis/redis"] {
        let mut all = result["artifacts"].as_array().unwrap().iter();
        let one = all.find(|one| one["artifact"].as_str().unwrap().ends_with(ending));
        let compared = one.unwrap_or_else(|| panic!("{ending}: {result}"))["compared"].as_array();
        assert!(!compared.unwrap().is_empty(), "{ending}: {result}");
    }
    let exact = result["images"].as_array().unwrap().iter();
    assert!(exact.clone().all(|image| image["exact"] == true) && exact.len() == 2);
    let label = format!("label=dev.lifeboat.run={}", result["run"].as_str().unwrap());
    for list in [
        &["ps", "-aq"][..],
        &["volume", "ls", "-q"],
        &["network", "ls", "-q"],
    ] {
        assert_eq!(docker(&[list, &["--filter", &label]].concat()), "");
    }
}

#[test]
fn a_dump_without_one_row_under_a_valid_signature_is_not_proven_and_people_are_told() {
    let (server, place, receiver) = (Server::start("resigned"), Place::new(), Receiver::new());
    server.sql("postgres", "create database app");
    server.sql(
        "app",
        "create table items (id int primary key, name text); insert into items select n, 'item ' || n from generate_series(1, 10) n",
    );
    let key = |arguments: &[&str]| {
        let generate = [&["key", "generate", "--json"], arguments].concat();
        let made = place.run(&generate).expect_code(0).json();
        made["public_key"].as_str().unwrap().to_owned()
    };
    let recipient = key(&["--output", "key"]);
    let verifying = key(&["--signing", "--output", "signing"]);
    let told = receiver.url("/told");
    place.configure(&format!(
        "[repository.local]\nurl = {:?}\n[encryption]\nrecipients = [{recipient:?}]\nidentity = {{ file = \"key\" }}\n\
         [signature]\nsecret_key = {{ file = \"signing\" }}\npublic_key = {verifying:?}\n[notify]\nfailure = [{told:?}]\n",
        place.repository
    ));
    let schedules = place.folder.path().join("schedules");
    fs::create_dir_all(&schedules).unwrap();
    let schedule = format!(
        "stack = {:?}\ncron = \"0 2 * * *\"\nrepositories = [\"local\"]\n[drill]\ncron = \"0 4 * * 0\"\nbackup = \"oldest\"\n",
        server.stack
    );
    fs::write(schedules.join("nightly.toml"), schedule).unwrap();
    let back_up = || {
        let made = place.run(&["backup", &server.stack, "--json"]);
        made.expect_code(0).json()["backup"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let id = back_up();
    server.sql("app", "delete from items where id = 7");
    let later = back_up();
    let weekly = ["schedule", "run", "nightly", "--drill"];
    place.run(&weekly).expect_code(0);
    assert!(receiver.received().is_empty());

    doctor(&place, &server.stack, &id, &later);
    place
        .run(&["verify", &id])
        .expect_code(13)
        .says(&["signature"]);
    place
        .run(&["drill", &id])
        .expect_code(13)
        .says(&["signature"]);
    sign(&place, &server.stack, &id, "signing");
    // Digests and signature are right: nothing but a comparison tells.
    place.run(&["verify", &id]).expect_code(0);
    let reason = "public.items: 9 rows instead of 10";
    place
        .run(&["drill", &id])
        .expect_code(14)
        .says(&["is not proven", "db/app", reason]);
    place.run(&weekly).expect_code(14).says(&[reason]);
    let sent = until("somebody is told", || receiver.received().pop()).json();
    assert_eq!(sent["occasion"], "failure", "{sent}");
    assert_eq!(sent["summary"]["operation"], "drill", "{sent}");
    assert_eq!(sent["summary"]["code"], 14, "{sent}");
    assert!(sent.to_string().contains(reason), "{sent}");

    // Nor is one that cannot even be opened.
    key(&["--output", "other"]);
    let configuration = place.folder.path().join("lifeboat.toml");
    let text = fs::read_to_string(&configuration).unwrap();
    place.configure(&text.replace("file = \"key\"", "file = \"other\""));
    place.run(&weekly).expect_code(14).says(&["another key"]);
    let sent: Vec<Value> = receiver.received().iter().map(|one| one.json()).collect();
    let codes: Vec<&Value> = sent.iter().map(|one| &one["summary"]["code"]).collect();
    assert_eq!(codes, [14, 14], "{sent:?}");
}

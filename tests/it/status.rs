//! `status`: a stack with every kind of gap, its exit codes, and what `--json` says of the same.

use crate::support::lab::{Lifeboat, Postgres, Run, Style, docker};
use crate::support::redis::{Redis, Style as RedisStyle};
use crate::support::server::{until, wait_for};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

const POSTGRES: &str = "lifeboat-lab/postgres:17";
const REDIS: &str = "lifeboat-lab/redis:7.0";
/// The code of a stack that is not safe.
const NOT_SAFE: Option<i32> = Some(15);

/// A volume of a stack, removed on drop.
struct Volume(String);

impl Volume {
    /// As Compose makes it.
    fn of(stack: &str, name: &str) -> Self {
        let name = format!("{stack}_{name}");
        let label = format!("com.docker.compose.project={stack}");
        docker(&["volume", "create", "--label", &label, &name]);
        Self(name)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let mut remove = std::process::Command::new("docker");
        let _ = remove.args(["volume", "rm", "-f", &self.0]).output();
    }
}

/// The program, and the stack that it is asked about: others on the engine come and go.
struct Watched<'a> {
    lifeboat: Lifeboat,
    stack: &'a str,
}

impl<'a> Watched<'a> {
    fn new(stack: &'a str) -> Self {
        Self {
            lifeboat: Lifeboat::new(),
            stack,
        }
    }

    fn run(&self, options: &[&str]) -> Run {
        let mut arguments = vec!["status", self.stack];
        arguments.extend(options);
        self.lifeboat.run(&arguments)
    }

    /// What `--json` says, whose exit code must be that of the text.
    #[track_caller]
    fn found(&self, options: &[&str], code: Option<i32>) -> Found {
        let text = self.run(options);
        assert_eq!(text.code, code, "{}\n{}", text.stdout, text.stderr);
        let json = self.run(&[options, &["--json"]].concat());
        assert_eq!(json.code, code, "{}", json.stdout);
        let value = json.json();
        assert_eq!(value["message_type"], "status");
        assert_eq!(value["code"].as_i64(), code.map(i64::from));
        assert_eq!(value["safe"], code == Some(0));
        Found {
            text: text.stdout,
            value,
        }
    }

    fn backup(&self, options: &[&str]) -> String {
        let mut arguments = vec!["backup", self.stack];
        arguments.extend(options);
        let made = self.lifeboat.json(&arguments);
        made["backup"].as_str().unwrap().to_owned()
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.lifeboat.folder().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn commit(&self, id: &str) -> PathBuf {
        let folder = self.lifeboat.repository().join(self.stack);
        folder.join(format!("{id}.backup.json"))
    }
}

/// What was found, as text and as JSON.
struct Found {
    text: String,
    value: Value,
}

impl Found {
    /// The state of a source of the only stack; the text must have it in the same line.
    #[track_caller]
    fn state(&self, source: &str) -> String {
        let sources = self.value["stacks"][0]["sources"].as_array().unwrap();
        let found = sources.iter().find(|found| found["name"] == source);
        let state = found.unwrap_or_else(|| panic!("no {source}: {sources:?}"))["state"].as_str();
        let state = state.unwrap();
        let word = match state {
            "optional" => "not included".to_owned(),
            "unknown" => "not known".to_owned(),
            other => other.replace('_', " "),
        };
        let mut lines = self.text.lines().filter(|line| line.contains(source));
        assert!(
            lines.any(|line| line.to_lowercase().contains(&word)),
            "{source} is {state}:\n{}",
            self.text
        );
        state.to_owned()
    }

    /// The problems, as `SEVERITY: MESSAGE`.
    fn problems(&self) -> Vec<String> {
        let problems = self.value["problems"].as_array().unwrap();
        let said = problems.iter().map(|problem| {
            let (severity, message) = (&problem["severity"], &problem["message"]);
            format!(
                "{}: {}",
                severity.as_str().unwrap(),
                message.as_str().unwrap()
            )
        });
        said.collect()
    }

    #[track_caller]
    fn has(&self, start: &str, word: &str) {
        let problems = self.problems();
        let found = problems
            .iter()
            .any(|said| said.starts_with(start) && said.contains(word));
        assert!(found, "no {start} of {word}: {problems:#?}");
    }

    fn newest(&self) -> &str {
        self.value["stacks"][0]["newest"]["backup"]
            .as_str()
            .unwrap()
    }
}

#[test]
fn every_kind_of_gap_is_told() {
    let server = Postgres::start(POSTGRES, Style::Development);
    let stack = server.stack.as_str();
    let watched = Watched::new(stack);
    let files = Volume::of(stack, "files");
    let cache = Volume::of(stack, "cache");
    watched.write(
        "lifeboat.toml",
        &format!("[stack.{stack}]\nexclude = [\"volume/{}\"]\n", cache.0),
    );

    // No repository, and one without a backup.
    let found = watched.found(&["--repository", "./nowhere"], NOT_SAFE);
    found.has("unprotected", "nothing of");
    found.has("warning", "no repository at");
    watched.found(&[], NOT_SAFE);

    let first = watched.backup(&[]);
    let found = watched.found(&[], Some(0));
    assert_eq!(found.state("postgres/postgres"), "protected");
    assert_eq!(found.state(&format!("volume/{}", files.0)), "protected");
    assert_eq!(found.state(&format!("volume/{}", cache.0)), "left_out");
    assert!(found.text.starts_with("SAFE  2 of 2"), "{}", found.text);
    assert!(found.newest().ends_with(&first));
    assert!(!found.text.contains('\u{1b}'), "no colours off a terminal");
    let backups = &found.value["repositories"][0]["backups"];
    assert_eq!(*backups, 1);

    // A database that only the server knows of; what the hint says helps.
    server.sql("postgres", "create database fresh");
    let found = watched.found(&[], NOT_SAFE);
    assert_eq!(found.state("postgres/postgres"), "unprotected");
    found.has("unprotected", "database fresh of postgres/postgres");
    watched.backup(&["--only", "postgres/postgres/db/fresh"]);
    watched.found(&[], Some(0));

    // A server and a volume that came later, and a volume that is nobody's.
    let redis = Redis::in_stack(stack, RedisStyle::plain(REDIS), &[], &[]);
    redis.wait_ready();
    let late = Volume::of(stack, "late");
    let found = watched.found(&[], NOT_SAFE);
    assert_eq!(found.state("redis/redis"), "unprotected");
    assert_eq!(found.state(&format!("volume/{}", redis.volume)), "covered");
    assert_eq!(found.state(&format!("volume/{}", late.0)), "unprotected");
    assert_eq!(found.state("postgres/postgres"), "protected");
    assert!(found.text.starts_with("NOT SAFE"), "{}", found.text);
    let loose = Volume(format!("{stack}-loose"));
    docker(&["volume", "create", &loose.0]);
    let whole = watched.lifeboat.run(&["status", "--json"]).json();
    let loose = whole["loose"]
        .as_array()
        .unwrap()
        .iter()
        .find(|volume| volume["name"] == format!("volume/{stack}-loose"));
    assert_eq!(loose.unwrap()["state"], "optional");

    watched.backup(&[]);
    watched.found(&[], Some(0));
    let found = watched.found(&["--max-age", "1ms"], NOT_SAFE);
    assert_eq!(found.state("redis/redis"), "overdue");
    watched.found(&["--max-age", "1h"], Some(0));
}

#[test]
fn backups_that_do_not_count_and_schedules_that_are_late_are_told() {
    let server = Redis::start(RedisStyle::plain(REDIS));
    let stack = server.stack.as_str();
    let watched = Watched::new(stack);
    let files = Volume::of(stack, "files");
    let first = watched.backup(&[]);
    let second = watched.backup(&[]);
    let found = watched.found(&[], Some(0));
    assert!(found.newest().ends_with(&second));

    // One that is damaged, and one that is partial: the one before them counts.
    std::fs::write(watched.commit(&second), "{}").unwrap();
    let found = watched.found(&[], Some(0));
    assert!(found.newest().ends_with(&first), "{}", found.newest());
    found.has("warning", &format!("{second} in"));
    found.has("warning", "damaged");
    std::fs::remove_file(watched.commit(&second)).unwrap();
    docker(&["stop", "-t", "5", &server.id]);
    let partial = watched.lifeboat.run(&["backup", stack, "--allow-partial"]);
    assert_eq!(partial.code, Some(3), "{}", partial.stderr);
    let found = watched.found(&[], Some(0));
    assert!(found.newest().ends_with(&first), "{}", found.newest());
    found.has("warning", "is partial and does not count");
    found.has("warning", "service redis is exited");
    docker(&["start", &server.id]);
    server.wait_ready();

    // A schedule that nothing keeps, and why its last run failed.
    let schedule = format!("stack = \"{stack}\"\ncron = \"0 0 29 2 *\"\nrpo = ");
    watched.write("schedules/nightly.toml", &format!("{schedule}\"1h\"\n"));
    let found = watched.found(&[], Some(0));
    let next = &found.value["stacks"][0]["next"];
    assert_eq!(next["schedule"], "nightly");
    assert!(next["at"].as_str().unwrap().contains("-02-29T00:00"));
    let run = json!({
        "operation": "backup", "stack": stack, "schedule": "nightly", "backup": null,
        "outcome": "failed", "previous": null, "started": "2100-01-01T00:00:00Z", "seconds": 1.0,
        "raw_size": 0, "stored_size": 0, "repositories": [], "warnings": [],
        "error": "the disk is full", "hint": "make room", "code": 1,
    });
    watched.write("state/schedules/nightly.json", &run.to_string());
    watched
        .found(&[], Some(0))
        .has("warning", "the last run of nightly failed");
    watched.write("schedules/nightly.toml", &format!("{schedule}\"1s\"\n"));
    wait_for("the newest backup is a second old", || {
        watched.run(&[]).code == NOT_SAFE
    });
    let found = watched.found(&[], NOT_SAFE);
    found.has("overdue", "nightly is late");
    assert_eq!(found.state("redis/redis"), "overdue");
    assert!(found.text.contains("its last run failed: the disk is full"));

    // A second repository that cannot be read: no more than a backup's place may be on it.
    watched.write("elsewhere/lifeboat-repository.json", "not a marker");
    std::fs::write(watched.lifeboat.folder().join("file"), "not a folder").unwrap();
    watched.write("schedules/nightly.toml", &format!("{schedule}\"1h\"\n"));
    let repository = watched.lifeboat.repository().display().to_string();
    let both = ["--repository", &repository, "--repository", "file/below"];
    let found = watched.found(&both, Some(1));
    found.has("unknown", "repository file/below");
    assert_eq!(found.state("redis/redis"), "protected");

    // A schedule that is not right, and a stack that nobody knows.
    watched.write("schedules/broken.toml", "stack = 1");
    watched
        .found(&[], Some(1))
        .has("unknown", "schedule broken");
    std::fs::remove_file(watched.lifeboat.folder().join("schedules/broken.toml")).unwrap();
    let unknown = watched.lifeboat.run(&["status", &format!("{stack}x")]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stdout);
    assert!(
        unknown.stderr.contains(&format!("did you mean {stack}")),
        "{}",
        unknown.stderr
    );

    // The stack is gone, and its backups and its schedule are not.
    let stack = stack.to_owned();
    let lifeboat = watched.lifeboat;
    drop((server, files));
    let watched = Watched {
        lifeboat,
        stack: &stack,
    };
    let found = watched.found(&[], Some(0));
    assert_eq!(found.value["stacks"][0]["present"], false);
    found.has("warning", "is not on this engine");
    assert!(found.newest().ends_with(&first));
    let blind = watched
        .lifeboat
        .command(&["status", &stack])
        .env("DOCKER_HOST", "unix:///nowhere")
        .output();
    assert_eq!(
        blind.unwrap().status.code(),
        Some(1),
        "an engine that does not answer"
    );
}

#[test]
fn hidden_names_are_counted_and_a_key_tells_them() {
    let stack = crate::support::server::unique("status");
    let watched = Watched::new(&stack);
    let files = Volume::of(&stack, "files");
    let key = watched
        .lifeboat
        .json(&["key", "generate", "--output", "key.txt"]);
    let public = key["public_key"].as_str().unwrap();
    watched.write(
        "lifeboat.toml",
        &format!("[encryption]\nrecipients = [\"{public}\"]\nhide_names = true\n"),
    );
    watched.backup(&[]);
    let name = format!("volume/{}", files.0);
    let found = watched.found(&[], Some(0));
    assert_eq!(found.state(&name), "protected");
    assert!(found.text.contains("names hidden"), "{}", found.text);
    let opened = watched.found(&["--identity", "key.txt"], Some(0));
    assert!(!opened.text.contains("names hidden"), "{}", opened.text);

    // One more than the backup has: without the key nobody knows which.
    let other = Volume::of(&stack, "other");
    let other = format!("volume/{}", other.0);
    let found = watched.found(&[], NOT_SAFE);
    assert_eq!(found.state(&name), "unprotected");
    let opened = watched.found(&["--identity", "key.txt"], NOT_SAFE);
    assert_eq!(opened.state(&name), "protected");
    assert_eq!(opened.state(&other), "unprotected");
    docker(&["volume", "rm", &format!("{stack}_other")]);
}

#[test]
fn watching_draws_again_until_it_is_stopped() {
    let stack = crate::support::server::unique("watched");
    let watched = Watched::new(&stack);
    let files = Volume::of(&stack, "files");
    let refused = watched.run(&["--watch"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("no terminal"), "{}", refused.stderr);
    let mut command = watched
        .lifeboat
        .command(&["status", &stack, "--watch=1", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["code"], 15);
    watched.backup(&[]);
    let safe = until("a round sees the backup", || {
        Some(next()).filter(|found| found["code"] == 0)
    });
    assert_eq!(
        safe["stacks"][0]["sources"][0]["name"],
        format!("volume/{}", files.0)
    );
    let pid = child.id().to_string();
    let kill = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(kill.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

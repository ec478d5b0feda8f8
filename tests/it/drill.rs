//! Drills: what restores is proven, what does not is not, nobody else notices, and nothing stays behind.

use crate::support::doctor::doctor;
use crate::support::project::files_of;
use crate::support::redis::{Redis, Style};
use crate::support::server::{IMAGE, Place, Ran, Running, Server, docker, unique, wait_for};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const REDIS: &str = "lifeboat-lab/redis:7.0";

/// A stack with everything that a backup can hold.
struct Shop {
    server: Server,
    redis: Redis,
    volume: String,
    place: Place,
}

impl Shop {
    fn open() -> Self {
        let server = Server::start("drill");
        let redis = Redis::in_stack(&server.stack, Style::plain(REDIS), &[], &[]);
        redis.wait_ready();
        let volume = format!("{}_uploads", server.stack);
        let project = format!("com.docker.compose.project={}", server.stack);
        docker(&["volume", "create", "--label", &project, &volume]);
        let files = files_of(&volume);
        fs::create_dir(files.join("images")).unwrap();
        fs::write(files.join("images/logo.png"), "a picture").unwrap();
        server.sql(
            "postgres",
            "create role clerk login password 'secret'; create database app owner clerk; create database books;
             alter database app set work_mem to '7MB'; grant create on database books to clerk;",
        );
        server.sql(
            "app",
            "create extension citext; create table items (id int primary key, name citext);
             insert into items select n, 'item ' || n from generate_series(1, 10) n;
             create index on items (name); select lo_from_bytea(0, 'large');
             create schema hold; create table hold.nothing ();",
        );
        server.sql(
            "books",
            "create sequence numbers; select setval('numbers', 7); create table pages (id int); insert into pages values (1);",
        );
        redis.ask("SET session:1 anna\nSET other x\nSELECT 3\nSET soon gone EX 10000");
        Self {
            server,
            redis,
            volume,
            place: Place::new(),
        }
    }

    fn back_up(&self) -> String {
        let made = self
            .place
            .run(&["backup", &self.server.stack, "--json"])
            .expect_code(0);
        made.json()["backup"].as_str().unwrap().to_owned()
    }

    fn schedule(&self, name: &str, checks: &str) {
        let folder = self.place.folder.path().join("schedules");
        fs::create_dir_all(&folder).unwrap();
        let text = format!(
            "stack = \"{}\"\ncron = \"0 2 * * *\"\n[drill]\ncron = \"0 4 * * 0\"\n{checks}",
            self.server.stack
        );
        fs::write(folder.join(name), text).unwrap();
    }

    /// Everything of the stack that a drill could have touched.
    fn state(&self) -> Vec<String> {
        let format = "{{.Id}} {{.State.Status}} {{.State.StartedAt}} {{.RestartCount}} {{json .NetworkSettings.Networks}}";
        let mut mounts: Vec<String> = docker(&[
            "inspect",
            "--format",
            "{{range .Mounts}}{{json .}}{{println}}{{end}}",
            &self.server.id,
            &self.redis.id,
        ])
        .lines()
        .map(str::to_owned)
        .collect();
        // The engine tells them in any order.
        mounts.sort();
        let project = format!("label=com.docker.compose.project={}", self.server.stack);
        let volumes = ["volume", "ls", "-q", "--filter", &project];
        vec![
            mounts.join("\n"),
            docker(&[
                "inspect",
                "--format",
                format,
                &self.server.id,
                &self.redis.id,
            ]),
            docker(&["ps", "-aq", "--no-trunc", "--filter", &project]),
            docker(&volumes),
            docker(&["volume", "inspect", &self.volume, &self.redis.volume]),
            self.server.sql(
                "postgres",
                "select pid, backend_start, application_name, state from pg_stat_activity \
                 where backend_type = 'client backend' and pid <> pg_backend_pid() order by 1",
            ),
            self.server.contents(),
            self.redis.digest(),
        ]
    }

    /// How many connections Redis has ever taken.
    fn connections(&self) -> u64 {
        let said = self.redis.ask("INFO stats");
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix("total_connections_received:"));
        line.unwrap().trim().parse().unwrap()
    }

    fn proofs(&self) -> Vec<PathBuf> {
        let mut files = self.place.files();
        files.retain(|path| path.to_string_lossy().contains(".proof-"));
        files
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let mut remove = Command::new("docker");
        let _ = remove.args(["volume", "rm", "-f", &self.volume]).output();
    }
}

/// What a run has on the engine: containers, volumes and networks.
fn left_of(run: &str) -> Vec<String> {
    let label = format!("label=dev.lifeboat.run={run}");
    [
        docker(&["ps", "-aq", "--filter", &label]),
        docker(&["volume", "ls", "-q", "--filter", &label]),
        docker(&["network", "ls", "-q", "--filter", &label]),
    ]
    .join("\n")
    .lines()
    .filter(|line| !line.is_empty())
    .map(str::to_owned)
    .collect()
}

/// The result, which comes before the error where there is one.
fn result(ran: &Ran) -> Value {
    let lines = ran.stdout.lines();
    let mut values = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = values.find(|value| value["message_type"] == "drill");
    found.unwrap_or_else(|| panic!("no result: {}", ran.text()))
}

fn artifact<'a>(result: &'a Value, ending: &str) -> &'a Value {
    let mut all = result["artifacts"].as_array().unwrap().iter();
    all.find(|one| one["artifact"].as_str().unwrap().ends_with(ending))
        .unwrap()
}

fn counted(artifact: &Value, what: &str) -> u64 {
    let mut all = artifact["compared"].as_array().unwrap().iter();
    let found = all.find(|one| one["what"] == what);
    found.unwrap_or_else(|| panic!("no {what} in {artifact}"))["count"]
        .as_u64()
        .unwrap()
}

const CHECKS: &str = "[[drill.check]]\nsql = \"select count(*) > 9 from items\"\ndatabase = \"app\"\n\
                      [[drill.check]]\nredis = \"EXISTS session:1\"\n\
                      [[drill.check]]\nfile = \"uploads:images/logo.png\"\n";

#[test]
fn a_backup_that_restores_is_proven_and_the_live_stack_is_as_before() {
    let shop = Shop::open();
    let id = shop.back_up();
    shop.schedule("nightly.toml", CHECKS);
    // Somebody is connected all the time.
    let locked = shop.server.lock_table("hold.nothing");
    let before = shop.state();
    let connections = [shop.connections(), shop.connections()];

    let drill = [
        "drill", "--json", "--report", "r.html", "--report", "r.json",
    ];
    let ran = shop.place.run(&drill).expect_code(0);

    let cost = connections[1] - connections[0];
    assert_eq!(
        shop.connections() - connections[1],
        cost,
        "Redis was connected to"
    );
    assert_eq!(shop.state(), before);
    drop(locked);
    let result = result(&ran);
    assert_eq!(result["proven"], true, "{result}");
    assert_eq!(left_of(result["run"].as_str().unwrap()), [""; 0]);
    let app = artifact(&result, "db/app");
    for (what, count) in [
        ("tables", 2),
        ("rows", 10),
        ("extensions", 1),
        ("large objects", 1),
        ("settings", 1),
        ("indexes (amcheck)", 3),
    ] {
        assert_eq!(counted(app, what), count, "{what}");
    }
    let books = artifact(&result, "db/books");
    assert_eq!(counted(books, "sequences"), 1);
    assert!(counted(books, "grants") > 0);
    assert_eq!(counted(artifact(&result, "globals"), "roles"), 2);
    let cache = artifact(&result, "redis/redis");
    assert_eq!(counted(cache, "keys in database 0"), 2);
    assert_eq!(counted(cache, "keys in database 3"), 1);
    assert_eq!(counted(artifact(&result, "_uploads"), "files"), 1);
    assert_eq!(result["checks"].as_array().unwrap().len(), 3);
    assert!(result["recovery_seconds"].as_f64().unwrap() > 0.0);

    let [proof] = &shop.proofs()[..] else {
        panic!("{:?}", shop.proofs());
    };
    let proof: Value = serde_json::from_slice(&fs::read(proof).unwrap()).unwrap();
    assert_eq!(proof["backup"], id.as_str());
    assert_eq!(proof["sha256sums"], result["sha256sums"]);
    let listed = shop.place.run(&["show", "--json"]).expect_code(0).json();
    assert_eq!(listed["proofs"].as_array().unwrap().len(), 1, "{listed}");
    let folder = shop.place.folder.path();
    let written: Value = serde_json::from_slice(&fs::read(folder.join("r.json")).unwrap()).unwrap();
    assert_eq!(written["run"], result["run"]);
    let page = fs::read_to_string(folder.join("r.html")).unwrap();
    assert!(page.contains("select count(*) &gt; 9 from items") && page.contains("<svg"));
    assert!(
        !page.contains("secret") && !page.contains("<script"),
        "{page}"
    );
}

#[test]
fn what_cannot_be_drilled_is_said_before_anything_is_made() {
    let shop = Shop::open();
    shop.back_up();
    for (arguments, code, words) in [
        (
            &["--image", "postgres=nowhere/postgres:17"][..],
            14,
            &[
                "is not proven",
                "nowhere/postgres:17 of service postgres",
                "docker pull",
            ][..],
        ),
        (
            &["--image", "postgers=x"],
            2,
            &["postgers", "did you mean postgres"],
        ),
        (&["--image", "postgres"], 2, &["SERVICE=IMAGE"]),
        (
            &["--check-from", "nightly"],
            2,
            &["no schedule \"nightly\""],
        ),
        (&["--report", "r.pdf"], 2, &["r.pdf", ".html"]),
        (&["--report", "nowhere/r.html"], 2, &["nowhere"]),
        (
            &["--stack", "another"],
            10,
            &["holds no backup of \"another\""],
        ),
        (&["latest~5"], 10, &["latest~5"]),
        (&["latest", "--pick", "oldest"], 2, &["--pick"]),
    ] {
        let ran = shop.place.run(&[&["drill"], arguments].concat());
        ran.expect_code(code).says(words);
    }
    shop.schedule("wrong.toml", "[[drill.check]]\nfile = \"elsewhere:x\"\n");
    let ran = shop.place.run(&["drill"]).expect_code(2);
    ran.says(&["elsewhere:x", "redis/redis"]);
    let gone = shop.place.folder.path().join("schedules/wrong.toml");
    fs::remove_file(gone).unwrap();
    let plan = shop
        .place
        .run(&["drill", "--dry-run", "--json"])
        .expect_code(0);
    let plan = plan.json();
    assert_eq!(plan["operation"], "drill");
    assert_eq!(left_of(plan["run"].as_str().unwrap()), [""; 0]);
    let journals = shop.place.folder.path().join("state/journals");
    let drills = fs::read_dir(journals).unwrap().filter(|entry| {
        let text = fs::read_to_string(entry.as_ref().unwrap().path()).unwrap();
        text.contains("\"operation\":\"drill\"")
    });
    assert_eq!(drills.count(), 0);
    assert_eq!(shop.proofs(), [""; 0].map(PathBuf::from));

    // A byte that has flipped is no question of proof.
    let files = shop.place.files();
    let dump = files
        .iter()
        .find(|path| path.ends_with("app.dump.zst"))
        .unwrap();
    let mut bytes = fs::read(dump).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(dump, bytes).unwrap();
    shop.place
        .run(&["drill"])
        .expect_code(13)
        .says(&["app.dump.zst"]);
}

#[test]
fn what_is_not_as_it_was_is_not_proven_and_every_reason_is_named() {
    let shop = Shop::open();
    let id = shop.back_up();
    shop.server.sql("app", "delete from items where id = 5");
    shop.server.sql("books", "select setval('numbers', 6)");
    shop.redis.ask("DEL other");
    // As long as before.
    fs::write(files_of(&shop.volume).join("images/logo.png"), "A picture").unwrap();
    let later = shop.back_up();
    doctor(&shop.place, &shop.server.stack, &id, &later);
    shop.place.run(&["verify", &id]).expect_code(0);
    shop.schedule(
        "nightly.toml",
        "[[drill.check]]\nredis = \"EXISTS session:2\"\n[[drill.check]]\nsql = \"select 1 / 0\"\ndatabase = \"postgres\"\n",
    );

    let ran = shop.place.run(&["drill", &id, "--json"]).expect_code(14);
    let error = ran.json();
    assert_eq!(error["kind"], "not_proven", "{error}");
    assert_eq!(error["code"], 14);
    let result = result(&ran);
    assert_eq!(result["proven"], false);
    for (ending, reason) in [
        ("db/app", "public.items: 9 rows instead of 10"),
        ("db/books", "public.numbers: at 6 instead of 7"),
        ("redis/redis", "database 0 has 1 keys instead of 2"),
        ("_uploads", "but not the same ones"),
    ] {
        let failed = artifact(&result, ending)["failed"].to_string();
        assert!(failed.contains(reason), "{ending}: {failed}");
        assert!(error["message"].to_string().contains(reason), "{error}");
    }
    for ending in ["db/postgres", "globals"] {
        assert!(artifact(&result, ending)["failed"].is_null(), "{result}");
    }
    for (check, reason) in [(0, "not proven itself"), (1, "division by zero")] {
        let failed = result["checks"][check]["failed"].to_string();
        assert!(failed.contains(reason), "{failed}");
    }
    assert_eq!(shop.proofs(), [""; 0].map(PathBuf::from));
    assert_eq!(left_of(result["run"].as_str().unwrap()), [""; 0]);
}

/// An image like another one, but for what a script does to it.
struct Image(String);

impl Image {
    fn without(script: &str) -> Self {
        let name = format!("{}:1", unique("image"));
        let made = docker(&[
            "run",
            "-d",
            "--log-driver=none",
            "--entrypoint",
            "sh",
            IMAGE,
            "-c",
            script,
        ]);
        docker(&["wait", &made]);
        let entrypoint = [
            "ENTRYPOINT [\"docker-entrypoint.sh\"]",
            "CMD [\"postgres\"]",
        ];
        docker(&[
            "commit",
            "-c",
            entrypoint[0],
            "-c",
            entrypoint[1],
            &made,
            &name,
        ]);
        docker(&["rm", "-v", &made]);
        Self(name)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "-f", &self.0]).output();
    }
}

#[test]
fn a_backup_whose_image_is_gone_is_not_proven() {
    let image = Image::without("true");
    let (server, place) = (Server::with("drill", &image.0, &[]), Place::new());
    place.run(&["backup", &server.stack]).expect_code(0);
    place.run(&["drill"]).expect_code(0);
    drop(server);
    docker(&["rmi", &image.0]);
    for more in [&[][..], &["--dry-run"]] {
        let ran = place.run(&[&["drill", "--json"], more].concat());
        let error = ran.expect_code(14).json();
        assert_eq!(error["kind"], "not_proven", "{error}");
        let reason = format!("the image {} of service postgres", image.0);
        assert!(error["message"].to_string().contains(&reason), "{error}");
        let hint = error["hint"].to_string();
        assert!(
            hint.contains("docker pull") && hint.contains("--image postgres="),
            "{hint}"
        );
    }
    place
        .run(&["drill", "--image", &format!("postgres={IMAGE}")])
        .expect_code(0);
}

#[test]
fn an_extension_that_the_image_lacks_and_a_server_that_does_not_start_are_named() {
    let (server, place) = (Server::start("drill"), Place::new());
    server.sql("postgres", "create database app");
    server.sql("app", "create extension citext");
    place.run(&["backup", &server.stack]).expect_code(0);
    let lacking = Image::without("rm /usr/share/postgresql/17/extension/citext*");
    let ran = place.run(&["drill", "--image", &format!("postgres={}", lacking.0)]);
    ran.expect_code(14)
        .says(&["postgres/postgres/db/app", "citext", &lacking.0]);
    let broken = Image::without(
        "printf '#!/bin/sh\\necho no such luck >&2; exit 3\\n' >/usr/local/bin/docker-entrypoint.sh",
    );
    let ran = place.run(&[
        "drill",
        "--image",
        &format!("postgres={}", broken.0),
        "--json",
    ]);
    let ran = ran
        .expect_code(14)
        .says(&["does not come up", "no such luck"]);
    assert_eq!(left_of(result(&ran)["run"].as_str().unwrap()), [""; 0]);
    // One without bash and zstd will do.
    let ran = place.run(&["drill", "--image", "postgres=lifeboat-lab/postgres:17-bare"]);
    ran.expect_code(0)
        .says(&["is not the image that the backup was made from"]);
}

fn run_of(running: &mut Running) -> String {
    while let Some(line) = running.line() {
        if line["message_type"] == "run_started" {
            return line["run"].as_str().unwrap().to_owned();
        }
    }
    panic!("it did not start");
}

#[test]
fn a_drill_that_is_killed_anywhere_leaves_nothing_after_the_next_one() {
    let shop = Shop::open();
    shop.back_up();
    shop.schedule("nightly.toml", CHECKS);
    let drill = || shop.place.spawn(&["drill"]);
    let volumes = |run: &str| {
        let label = format!("label=dev.lifeboat.run={run}");
        docker(&["volume", "ls", "-q", "--filter", &label])
            .lines()
            .count()
    };
    let mut runs: Vec<String> = Vec::new();
    for (stage, at_least) in [
        ("start a throwaway server", 1),
        ("load postgres/postgres/db/app", 1),
        ("write volume/", 3),
        ("ask redis/redis", 3),
    ] {
        let mut running = drill();
        let run = run_of(&mut running);
        running.line_with(stage);
        wait_for("the stage has made its volume", || {
            volumes(&run) >= at_least
        });
        running.kill();
        assert!(!left_of(&run).is_empty(), "{stage}: what does this test?");
        if let Some(before) = runs.last() {
            assert_eq!(left_of(before), [""; 0], "{stage}: the drill before");
        }
        runs.push(run);
    }
    // Who is asked to stop cleans up himself.
    let mut running = drill();
    let run = run_of(&mut running);
    running.line_with("load postgres/postgres/db/app");
    running.signal("INT");
    running.end().expect_code(130);
    runs.push(run);
    for run in &runs {
        assert_eq!(left_of(run), [""; 0]);
    }
    assert_eq!(shop.proofs(), [""; 0].map(PathBuf::from));
    shop.place.run(&["drill"]).expect_code(0);
    assert_eq!(shop.proofs().len(), 1);
}

#[test]
fn a_drill_that_is_killed_at_any_step_is_cleared_up_by_the_next_one() {
    let server = Server::start("drill");
    let redis = Redis::in_stack(&server.stack, Style::plain(REDIS), &[], &[]);
    redis.wait_ready();
    redis.ask("SET one 1");
    let place = Place::new();
    place.run(&["backup", &server.stack]).expect_code(0);
    let whole = result(&place.run(&["drill", "--json"]).expect_code(0));
    let steps = whole["steps"].as_array().unwrap().iter();
    let steps: Vec<&str> = steps.map(|step| step["step"].as_str().unwrap()).collect();
    // One step of each kind.
    let kind = |step: &str| step.split(' ').next().unwrap_or_default().to_owned();
    let stages = (0..steps.len()).filter(|&n| {
        let mut before = steps[..n].iter();
        !before.any(|step| kind(step) == kind(steps[n]))
    });
    let mut killed: Vec<(String, &str)> = Vec::new();
    for stage in stages {
        let mut running = place.spawn(&["drill"]);
        let run = run_of(&mut running);
        for _ in 0..=stage {
            running.line_with("step_started");
        }
        running.kill();
        if let Some((before, step)) = killed.last() {
            assert_eq!(left_of(before), [""; 0], "killed at {step}");
        }
        killed.push((run, steps[stage]));
    }
    assert!(killed.len() > 7, "{killed:?}");
    let last = result(&place.run(&["drill", "--json"]).expect_code(0));
    for (run, step) in &killed {
        assert_eq!(left_of(run), [""; 0], "killed at {step}");
    }
    // Who was killed before the end of it has proven nothing.
    let may_prove = |run: &Value| {
        let mut killed = killed.iter();
        let was_killed = killed.find(|one| *run == one.0);
        *run == whole["run"]
            || *run == last["run"]
            || was_killed.is_some_and(|(_, step)| step.contains("proof") || step.contains("remove"))
    };
    let proofs = place.files().into_iter();
    let proofs: Vec<Value> = proofs
        .filter(|path| path.to_string_lossy().contains(".proof-"))
        .map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
        .collect();
    assert!(proofs.len() >= 2, "{proofs:?}");
    for proof in proofs {
        assert!(may_prove(&proof["drill"]), "{proof}");
    }
}

#[test]
fn an_encrypted_backup_needs_its_key_and_its_proof_says_nothing() {
    let (server, place) = (Server::start("drill"), Place::new());
    server.sql("postgres", "create database ledger; create role auditor");
    server.sql(
        "ledger",
        "create table accounts as select generate_series(1, 4711) n",
    );
    let key = |name: &str| {
        let made = place
            .run(&["key", "generate", "--output", name, "--json"])
            .expect_code(0);
        made.json()["public_key"].as_str().unwrap().to_owned()
    };
    let public = key("right");
    key("wrong");
    place.configure(&format!(
        "[encryption]\nrecipients = [\"{public}\"]\nhide_names = true\n"
    ));
    place.run(&["backup", &server.stack]).expect_code(0);
    for (keys, reason) in [
        (&[][..], "no key is given"),
        (&["--identity", "wrong"], "encrypted to another key"),
    ] {
        let ran = place.run(&[&["drill", "--json"], keys].concat());
        let error = ran.expect_code(14).json();
        assert_eq!(error["kind"], "not_proven", "{error}");
        assert!(error["message"].to_string().contains(reason), "{error}");
        assert!(error["hint"].to_string().contains("--identity"), "{error}");
    }
    let ran = place.run(&["drill", "--identity", "right"]).expect_code(0);
    ran.says(&["db/ledger", "rows: 4711"]);
    let files = place.files();
    let proof = files
        .iter()
        .find(|path| path.to_string_lossy().contains(".proof-"));
    let proof = fs::read_to_string(proof.unwrap()).unwrap();
    assert!(
        proof.contains("\"recovery_seconds\"") && proof.contains("hidden-"),
        "{proof}"
    );
    for told in ["ledger", "accounts", "4711", "auditor", "rows"] {
        assert!(!proof.contains(told), "{told}: {proof}");
    }
}

#[test]
fn a_drill_reads_from_a_bucket_and_leaves_its_proof_there() {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests are told by the lab's environment"
    )]
    let endpoint = std::env::var("LIFEBOAT_LAB_S3")
        .expect("tests/lab/lab stores; eval \"$(tests/lab/lab env)\"");
    let mut place = Place::without_repository();
    let address = format!("s3://lifeboat-tests/{}", unique("drill"));
    for (name, value) in [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "canary-51ad"),
        ("LIFEBOAT_REPOSITORY", &address),
    ] {
        place.env.insert(name.to_owned(), value.to_owned());
    }
    place.init();
    let redis = Redis::start(Style::plain("lifeboat-lab/valkey:8.1"));
    redis.seed();
    place.run(&["backup", &redis.stack]).expect_code(0);
    place.run(&["backup", &redis.stack]).expect_code(0);
    let [newest, oldest] = &place.list()[..] else {
        panic!("{:?}", place.list());
    };
    let drill = ["drill", "--pick", "oldest", "--json", "--report", "r.html"];
    let ran = place.run(&drill).expect_code(0);
    let result = result(&ran);
    assert_eq!(result["backup"], oldest.0.as_str());
    assert_eq!(result["repository"], address.as_str());
    let proofs = |id: &str| {
        let shown = place.run(&["show", id, "--json"]).expect_code(0).json();
        shown["proofs"].as_array().unwrap().len()
    };
    assert_eq!((proofs(&oldest.0), proofs(&newest.0)), (1, 0));
    let page = fs::read_to_string(place.folder.path().join("r.html")).unwrap();
    assert!(!ran.text().contains("canary-51ad") && !page.contains("canary-51ad"));
}

//! A whole stack goes back in place, and forward again: all of it or none.

use crate::support::server::{Place, Ran, docker, ran, unique, wait_for};
use crate::support::soak;
use chrono::{DateTime, Utc};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use tempfile::TempDir;

/// A server of each kind, an api whose health is that of its data, and a web that waits for it.
const COMPOSE: &str = "services:
  postgres:
    image: lifeboat-lab/postgres:17
    environment: {POSTGRES_PASSWORD: for-tests, POSTGRES_DB: shop}
    command: [postgres, -c, fsync=off]
    volumes: ['pg:/var/lib/postgresql/data']
    healthcheck: {test: [CMD, pg_isready, -q, -h, 127.0.0.1], interval: 1s, start_period: 60s}
  redis:
    image: lifeboat-lab/redis:7.0
    command: [redis-server, --repl-diskless-sync-delay, '0']
    volumes: ['cache:/data']
    healthcheck: {test: [CMD, redis-cli, ping], interval: 1s, start_period: 60s}
  api:
    image: lifeboat-lab/app:1
    init: true
    command: [sleep, infinity]
    environment: {PGPASSWORD: for-tests}
    volumes: ['files:/files']
    depends_on: {postgres: {condition: service_healthy}, redis: {condition: service_healthy}}
    healthcheck:
      test: ['CMD-SHELL', 'said=$$(psql -h postgres -U postgres -d shop -tAc \"select body from marker\"); echo marker $$said; test \"$$said\" != bad']
      interval: 1s
      retries: 2
  web:
    image: lifeboat-lab/app:1
    init: true
    command: [sleep, infinity]
    depends_on: {api: {condition: service_healthy}}
  watcher:
    image: lifeboat-lab/app:1
    init: true
    command: [sleep, infinity]
    labels: {lifeboat.quiesce: none}
volumes: {pg: {}, cache: {}, files: {}}
";

/// A stack of these, and the program; taken down with its volumes on drop.
struct Shop {
    name: String,
    folder: TempDir,
    place: Place,
}

impl Shop {
    /// With `old` in every store.
    fn start(what: &str) -> Self {
        let shop = Self {
            name: unique(what),
            folder: tempfile::tempdir().unwrap(),
            place: Place::new(),
        };
        fs::write(shop.folder.path().join("compose.yaml"), COMPOSE).unwrap();
        shop.place.configure(&format!(
            "[stack.{}]\nexclude = [\"postgres/postgres/db/postgres\"]\n",
            shop.name
        ));
        shop.compose(&["up", "-d", "postgres", "redis"]);
        wait_for("the server accepts connections", || {
            shop.try_sql("create table if not exists marker (body text)")
        });
        shop.sql("insert into marker values ('')");
        shop.compose(&["up", "-d"]);
        shop.write("old");
        shop
    }

    fn compose(&self, arguments: &[&str]) {
        let mut command = Command::new("docker");
        command.args(["compose", "--project-name", &self.name]);
        let command = command.args(arguments).current_dir(self.folder.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn container(&self, service: &str) -> String {
        format!("{}-{service}-1", self.name)
    }

    fn inspect(&self, service: &str, format: &str) -> String {
        docker(&["inspect", "--format", format, &self.container(service)])
    }

    fn exec(&self, service: &str, command: &[&str]) -> String {
        docker(&[&["exec", &self.container(service)], command].concat())
    }

    fn try_sql(&self, statement: &str) -> bool {
        let container = self.container("postgres");
        let psql = ["exec", &container, "psql", "-h", "127.0.0.1", "-qtAU"];
        let rest = ["postgres", "-d", "shop", "-c", statement];
        let output = Command::new("docker").args(psql).args(rest).output();
        output.unwrap().status.success()
    }

    fn sql(&self, statement: &str) -> String {
        let psql = ["psql", "-qtAU", "postgres", "-d", "shop", "-c", statement];
        self.exec("postgres", &psql)
    }

    /// The same word into every store.
    fn write(&self, word: &str) {
        self.sql(&format!("update marker set body = '{word}'"));
        self.exec("redis", &["redis-cli", "set", "marker", word]);
        let script = format!("rm -f /files/*; echo {word} >/files/marker; echo x >/files/{word}");
        self.exec("api", &["sh", "-c", &script]);
    }

    /// What PostgreSQL, Redis and the volume hold.
    fn read(&self) -> [String; 3] {
        [
            self.sql("select body from marker"),
            self.exec("redis", &["redis-cli", "get", "marker"]),
            self.exec("api", &["sh", "-c", "ls -A /files; cat /files/marker"]),
        ]
    }

    /// The word that all of them hold; fails where they do not agree.
    #[track_caller]
    fn word(&self, when: &str) -> String {
        let [sql, redis, files] = self.read();
        let names: Vec<&str> = files
            .lines()
            .filter(|name| !name.starts_with(".lifeboat-"))
            .collect();
        assert_eq!(sql, redis, "{when}");
        let mut expected = ["marker", &sql];
        expected.sort_unstable();
        assert_eq!(names, [expected[0], expected[1], &sql], "{when}");
        sql
    }

    fn all_run(&self) -> bool {
        ["postgres", "redis", "api", "web", "watcher"]
            .iter()
            .all(|service| self.inspect(service, "{{.State.Status}}") == "running")
    }

    fn is_healthy(&self, service: &str) -> bool {
        self.inspect(service, "{{.State.Health.Status}}") == "healthy"
    }

    /// When a container ended or was started.
    fn moment(&self, service: &str, what: &str) -> DateTime<Utc> {
        let said = self.inspect(service, &format!("{{{{.State.{what}}}}}"));
        said.parse().unwrap()
    }

    fn started(&self, service: &str) -> String {
        self.inspect(service, "{{.State.StartedAt}}")
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.place.run(arguments)
    }

    /// A backup of what there is; its id.
    fn back_up(&self) -> String {
        let made = self.run(&["backup", &self.name, "--json"]);
        let made = made.expect_code(0).json();
        made["backup"].as_str().unwrap().to_owned()
    }

    /// What lifeboat has left on the engine and on the servers.
    fn leftovers(&self) -> String {
        let label = format!("label=dev.lifeboat.stack={}", self.name);
        let mut left = docker(&["ps", "-aq", "--filter", &label]);
        let side = "select datname from pg_database where datname like '%restoring%'";
        left += &self.sql(side);
        left += &self.exec(
            "redis",
            &["sh", "-c", "ls -A /data | grep restoring || true"],
        );
        let hidden = "ls -A /files | grep lifeboat || true";
        left += &self.exec("api", &["sh", "-c", hidden]);
        left
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.compose(&["down", "--volumes", "--timeout", "0"]);
    }
}

#[test]
fn all_of_a_stack_goes_back_and_forward_again() {
    let shop = Shop::start("whole");
    let backup = shop.back_up();
    shop.write("new");
    wait_for("api is healthy", || shop.is_healthy("api"));

    // Looking changes nothing.
    let before = shop.started("api");
    let plan = ["restore", &backup, "--in-place", "--dry-run"];
    let (api, web) = (shop.container("api"), shop.container("web"));
    let planned = shop.run(&plan).expect_code(0);
    let stopping = format!("would stop {web}, stop {api}\n");
    let starting = format!(
        "would start again {api}, {web}, wait until these are well, 300 seconds at most: {api}, {web}"
    );
    let planned = planned.says(&[&stopping, &starting, &shop.container("redis")]);
    assert!(!planned.stdout.contains("watcher"), "{}", planned.stdout);
    let keeping = shop.run(&[&plan[..], &["--keep-running"]].concat());
    let keeping = keeping
        .expect_code(0)
        .says(&[&format!("would stop {api}\n")]);
    assert!(!keeping.stdout.contains(&web), "{}", keeping.stdout);
    assert_eq!(
        (shop.started("api"), shop.word("planned")),
        (before, "new".to_owned())
    );

    // Back: who uses the data is stopped in order, and is well afterwards.
    let watcher = shop.started("watcher");
    let server = shop.started("postgres");
    let report = shop.run(&["restore", &backup, "--in-place", "--yes", "--json"]);
    let report = report.expect_code(0).json();
    assert!(shop.is_healthy("api") && shop.is_healthy("redis") && shop.all_run());
    assert_eq!(shop.word("restored"), "old");
    let moments = [
        shop.moment("web", "FinishedAt"),
        shop.moment("api", "FinishedAt"),
        shop.moment("redis", "FinishedAt"),
        shop.moment("redis", "StartedAt"),
        shop.moment("api", "StartedAt"),
        shop.moment("web", "StartedAt"),
    ];
    assert!(moments.is_sorted(), "{moments:?}");
    assert_eq!(
        (shop.started("watcher"), shop.started("postgres")),
        (watcher, server)
    );
    assert!(report["safety"].is_string(), "{report}");

    // Forward: with what was written since in its turn kept.
    shop.write("since");
    let plan = shop.run(&["rollback", &shop.name, "--dry-run"]);
    plan.expect_code(0).says(&[
        &stopping,
        &starting,
        "would verify the stored bytes of volume/",
    ]);
    assert_eq!(shop.word("planned"), "since");
    // From another machine the backup tells of the volumes, where its repository is at hand.
    let elsewhere = |repository: &std::path::Path| {
        let mut place = shop.place.command(&["rollback", &shop.name, "--dry-run"]);
        place.env("LIFEBOAT_STATE_DIR", shop.folder.path().join("state"));
        ran(place
            .env("LIFEBOAT_REPOSITORY", repository)
            .output()
            .unwrap())
        .expect_code(0)
    };
    elsewhere(&shop.place.repository)
        .says(&[&stopping, "would verify the stored bytes of volume/"]);
    let without = elsewhere(&shop.folder.path().join("nowhere"));
    let without = without.says(&["is not known without its repository", "would swap"]);
    assert!(!without.stdout.contains("volume/"), "{}", without.stdout);
    let away = shop.place.folder.path().join("away");
    fs::rename(&shop.place.repository, &away).unwrap();
    shop.run(&["rollback", &shop.name, "--yes"])
        .expect_code(10)
        .says(&[
            "cannot be read, so nothing was changed",
            "--without-volumes",
            "--repository",
        ]);
    assert_eq!(shop.word("refused"), "since");
    fs::rename(&away, &shop.place.repository).unwrap();
    let done = shop.run(&["rollback", &shop.name, "--yes", "--json"]);
    let done = done.expect_code(0).json();
    assert_eq!(shop.word("rolled back"), "new");
    assert!(shop.all_run() && shop.is_healthy("api"));
    let safety = done["safety"].as_str().unwrap();
    shop.run(&["restore", safety, "--in-place", "--yes"])
        .expect_code(0);
    assert_eq!(shop.exec("api", &["cat", "/files/marker"]), "since");
    assert_eq!(shop.leftovers(), "");
    // That was of volumes alone, and is undone alone.
    shop.run(&["rollback", &shop.name, "--yes"]).expect_code(0);
    assert_eq!(shop.word("of volumes"), "new");
    shop.run(&["rollback", &shop.name, "--yes"])
        .expect_code(10)
        .says(&["keeps nothing"]);
}

#[test]
fn a_stack_that_is_not_healthy_on_what_was_restored_is_put_back() {
    let shop = Shop::start("unwell");
    shop.write("bad");
    let backup = shop.back_up();
    shop.write("good");
    wait_for("api is healthy", || shop.is_healthy("api"));
    let restore = [
        "restore",
        &backup,
        "--in-place",
        "--yes",
        "--health-timeout",
        "6",
    ];
    let failed = shop.run(&restore).expect_code(1);
    failed.says(&[
        "does not work on what was put in place, so all of it is put back",
        &format!(
            "service api (container {}) is unhealthy",
            shop.container("api")
        ),
        "its check said: marker bad",
        "hint: see docker logs",
        "--health-timeout",
    ]);
    assert_eq!(shop.word("put back"), "good");
    wait_for("all run", || shop.all_run());
    wait_for("api is healthy", || shop.is_healthy("api"));
    assert_eq!(shop.leftovers(), "");
    shop.run(&["rollback", &shop.name, "--yes"])
        .expect_code(10)
        .says(&["keeps nothing"]);

    // One that was not well before keeps nobody from the data that was asked for.
    shop.write("bad");
    wait_for("api is unhealthy", || {
        shop.inspect("api", "{{.State.Health.Status}}") == "unhealthy"
    });
    shop.exec("redis", &["redis-cli", "set", "other", "x"]);
    shop.run(&restore)
        .expect_code(0)
        .says(&["service api was not well before and is not now"]);
    assert_eq!(shop.word("restored"), "bad");
    assert_eq!(shop.exec("redis", &["redis-cli", "exists", "other"]), "0");

    // The way forward fails as a whole, too.
    shop.write("good");
    wait_for("api is healthy", || shop.is_healthy("api"));
    shop.run(&["rollback", &shop.name, "--yes", "--health-timeout", "6"])
        .expect_code(1)
        .says(&["is unhealthy", "its check said: marker bad"]);
    assert_eq!(shop.word("put back"), "good");
    // With the other half of the way open: databases and Redis alone, whatever the rest makes of them.
    shop.run(&[
        "rollback",
        &shop.name,
        "--yes",
        "--without-volumes",
        "--keep-running",
    ])
    .expect_code(0);
    let [sql, redis, files] = shop.read();
    assert_eq!((sql.as_str(), redis.as_str()), ("bad", "bad"));
    assert!(files.contains("good"), "{files}");
}

/// The steps at whose beginnings a run is killed; after every third event that it tells under `make soak`.
const STAGES: [&str; 4] = [
    "put it in the place of",
    "compare what service redis",
    "swap: \\\"shop",
    "start again",
];

#[test]
fn a_whole_restore_or_rollback_that_is_killed_leaves_all_old_or_all_new() {
    let shop = Shop::start("dies");
    let backup = shop.back_up();
    let restore = ["restore", &backup, "--in-place", "--yes"];
    let mut seen = String::new();
    let total = u32::try_from(STAGES.len()).unwrap();
    let mut stage = 0;
    while stage < soak(total, 200) {
        shop.write("new");
        let mut run = shop.place.spawn(&restore);
        if soak(0, 1) == 0 {
            run.line_with(STAGES[stage as usize]);
            if stage + 1 == total {
                // From here on it stands.
                wait_for("api is started", || {
                    shop.inspect("api", "{{.State.Running}}") == "true"
                });
            }
        } else if (0..=stage * 3).any(|_| run.line().is_none()) {
            break;
        }
        run.kill();
        let when = format!("killed at {stage}");
        // Whatever is asked next, by anybody who has the engine.
        let next = match stage % 3 {
            0 => shop.run(&["backup", &shop.name, "--only", "redis"]),
            _ => shop.run(&["volume", "ls", "--no-sizes"]),
        };
        next.expect_code(0);
        wait_for("all run", || shop.all_run());
        let word = shop.word(&when);
        write!(seen, "{word} ").unwrap();
        stage += 1;
    }
    assert!(seen.starts_with("new ") && seen.ends_with("old "), "{seen}");
    // What was begun can be done, and nothing of the others is left.
    shop.write("new");
    shop.run(&restore).expect_code(0);
    assert_eq!(shop.word("done"), "old");
    assert_eq!(shop.leftovers(), "");

    // The same on the way forward.
    let mut run = shop.place.spawn(&["rollback", &shop.name, "--yes"]);
    run.line_with("swap: \\\"shop");
    run.kill();
    shop.run(&["volume", "ls", "--no-sizes"]).expect_code(0);
    wait_for("all run", || shop.all_run());
    assert_eq!(shop.word("killed at a swap of the rollback"), "old");
    shop.run(&["rollback", &shop.name, "--yes"]).expect_code(0);
    assert_eq!(shop.word("forward"), "new");
    assert_eq!(shop.leftovers(), "");
}

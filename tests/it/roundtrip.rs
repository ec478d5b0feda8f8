//! Backup and restore with the real binary and real servers: what comes back is what was there,
//! told by SQL on both sides. Needs an engine with the lab's images.

use crate::support::lab::{Lifeboat, Postgres, Run, Style};
use crate::support::soak;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const FULL_15: &str = "lifeboat-lab/postgres:15";
const BARE_15: &str = "lifeboat-lab/postgres:15-bare";
const FULL_17: &str = "lifeboat-lab/postgres:17";
const BARE_17: &str = "lifeboat-lab/postgres:17-bare";

const PROCGENIE: &str = include_str!("../lab/seed/procgenie.sql");
const RICH: &str = include_str!("../data/roundtrip/seed.sql");
const FINGERPRINT: &str = include_str!("../data/roundtrip/fingerprint.sql");
const ROLES: &str = include_str!("../data/roundtrip/roles.sql");

/// Databases whose names somebody will take for something else: SQL, options, paths, connection strings.
const HOSTILE: [&str; 8] = [
    "it's \"a\" \\ db; drop -- %s\n\tend",
    "-leading",
    "--file=x",
    "dbname=postgres host=nowhere",
    "../../up%2F..",
    " spaces ",
    "$(id)`id`$HOME",
    // 63 bytes, as long as a name can be.
    "üüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüx",
];

type Fingerprint = BTreeMap<String, String>;

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn fingerprint(server: &Postgres, database: &str) -> Fingerprint {
    serde_json::from_str(&server.sql(database, FINGERPRINT)).unwrap()
}

/// Everything that is different, and nothing else: the whole is hundreds of lines.
#[track_caller]
fn assert_same(what: &str, before: &Fingerprint, after: &Fingerprint) {
    let mut different = String::new();
    for key in before
        .keys()
        .chain(after.keys().filter(|key| !before.contains_key(*key)))
    {
        let (old, new) = (before.get(key), after.get(key));
        if old != new {
            writeln!(different, "{key}\n  was {old:?}\n  is  {new:?}").unwrap();
        }
    }
    assert!(
        different.is_empty(),
        "{what:?} came back otherwise:\n{different}"
    );
}

/// The fingerprint of every database of a server, and of its roles.
fn fingerprints(server: &Postgres) -> BTreeMap<String, Fingerprint> {
    let mut all: BTreeMap<String, Fingerprint> = server
        .databases()
        .iter()
        .map(|database| (database.clone(), fingerprint(server, database)))
        .collect();
    let roles = serde_json::from_str(&server.sql("postgres", ROLES)).unwrap();
    all.insert("the roles".to_owned(), roles);
    all
}

#[track_caller]
fn assert_all_same(
    before: &BTreeMap<String, Fingerprint>,
    after: &BTreeMap<String, Fingerprint>,
    aside: impl Fn(&str) -> bool,
) {
    for (name, was) in before {
        let is = after
            .get(name)
            .unwrap_or_else(|| panic!("{name:?} is gone"));
        assert_same(name, was, is);
    }
    let more: Vec<&String> = after
        .keys()
        .filter(|name| !before.contains_key(*name) && !aside(name))
        .collect();
    assert!(more.is_empty(), "{more:?} came from nowhere");
}

/// Fills a server with everything that a restore could lose.
fn seed(server: &Postgres) {
    server.sql("procgenie", PROCGENIE);
    server.sql("procgenie", RICH);
    for database in HOSTILE {
        server.sql(
            "postgres",
            &format!("create database {};", quoted(database)),
        );
        server.sql(
            database,
            "create table t as select i, 'row ' || i as s from generate_series(1, 50) i; \
             create table empty (i int primary key);",
        );
    }
    server.sql(
        "postgres",
        "create database icu template template0 locale_provider icu icu_locale 'de-DE' owner app_owner; \
         create database latin template template0 encoding latin1 lc_collate 'C' lc_ctype 'C'; \
         create table in_postgres (i int); insert into in_postgres values (1);",
    );
    if server.query("postgres", "show server_version_num").as_str() >= "170000" {
        server.sql(
            "postgres",
            "create database built_in template template0 locale_provider builtin builtin_locale 'C.UTF-8'",
        );
    }
    server.sql(
        "icu",
        "create table words (w text); insert into words values ('ä'), ('z'), ('a');",
    );
    server.sql(
        "latin",
        "create table \"é\" (\"ß\" text); insert into \"é\" values ('àéîõü')",
    );
}

/// Whether a role gets in with a password, over a network that asks for it.
fn logs_in(server: &Postgres, role: &str, password: &str) -> bool {
    let environment = format!("PGPASSWORD={password}");
    let address = server.address();
    let argv = [
        "psql",
        "-X",
        "-w",
        "-h",
        &address,
        "-U",
        role,
        "-d",
        "procgenie",
        "-c",
        "select 1",
    ];
    server
        .docker_exec(&["-e", &environment], &argv, b"")
        .status
        .success()
}

const HOSTILE_ROLE: &str = "ro'le \"quoted\" \\ %s ..\n;-- second line";
const HOSTILE_PASSWORD: &str = "pä 'ss\" \\word";

/// Where a backup's files are.
fn backup_folder(lifeboat: &Lifeboat, backup: &Value) -> std::path::PathBuf {
    lifeboat
        .repository()
        .join(backup["stack"].as_str().unwrap())
        .join(backup["backup"].as_str().unwrap())
}

fn round_trip(image: &str, style: Style) {
    let lifeboat = Lifeboat::new();
    let source = Postgres::start(image, style);
    seed(&source);
    let (before, heart) = (fingerprints(&source), source.heart());

    let backup = lifeboat.json(&["backup", &source.stack]);
    assert_eq!(backup["complete"], true, "{backup}");
    assert_eq!(backup["warnings"], Value::Array(Vec::new()));
    let listed = lifeboat.json(&["list", &source.stack]);
    assert_eq!(listed["backups"][0]["backup"], backup["backup"]);
    let artifacts = backup["artifacts"].as_array().unwrap();
    assert_eq!(artifacts.len(), source.databases().len() + 1);
    let shown = lifeboat.json(&["show"]);
    assert_eq!(
        shown["manifest"]["artifacts"].as_array().unwrap().len(),
        artifacts.len()
    );
    let verified = lifeboat.json(&["verify", "--deep"]);
    assert_eq!(verified["damaged"], Value::Array(Vec::new()));
    assert_eq!(verified["unchecked"], Value::Array(Vec::new()));

    // Beside, on the same server: the rich one, and one whose name is as bad as names get.
    for (database, name) in [
        ("procgenie", "copy of it"),
        (HOSTILE[0], "-c 'x' \"y\"\n\\"),
    ] {
        lifeboat
            .run(&[
                "restore",
                "latest",
                "--only",
                database,
                &format!("--as={name}"),
                "--yes",
            ])
            .ok();
        assert_same(name, &before[database], &fingerprint(&source, name));
        source.sql("postgres", &format!("drop database {}", quoted(name)));
    }
    assert_all_same(&before, &fingerprints(&source), |_| false);

    // Into another, empty server.
    let target = Postgres::start(image, style);
    let old = target.heart();
    lifeboat
        .run(&[
            "restore",
            "latest",
            "--in-place",
            "--into",
            &target.stack,
            "--yes",
        ])
        .ok();
    assert_eq!(target.heart(), old, "the target's server has crashed");
    let kept = |name: &str| name.contains("lifeboat") || name.contains("before");
    assert_all_same(&before, &fingerprints(&target), kept);
    assert!(logs_in(&target, HOSTILE_ROLE, HOSTILE_PASSWORD));
    assert!(!logs_in(&target, HOSTILE_ROLE, "something else"));
    assert_eq!(source.heart(), heart, "the source's server has crashed");
}

#[test]
fn round_trip_on_15_with_zstd_and_bash() {
    round_trip(FULL_15, Style::Development);
}

#[test]
fn round_trip_on_15_without_zstd_and_bash_in_production() {
    round_trip(BARE_15, Style::Production);
}

#[test]
fn round_trip_on_17_with_zstd_and_bash_in_production() {
    round_trip(FULL_17, Style::Production);
}

#[test]
fn round_trip_on_17_without_zstd_and_bash() {
    round_trip(BARE_17, Style::Development);
}

/// A bare container in which nothing can make a bridge: no bash, socat, nc or perl.
#[test]
fn without_a_bridge_a_backup_says_what_it_lacks() {
    let lifeboat = Lifeboat::new();
    let server = Postgres::start(BARE_17, Style::Development);
    let remove = "rm -f /usr/bin/perl* && find /usr/bin -lname '*pg_wrapper' -delete && ! command -v bash && ! command -v socat && ! command -v nc && ! command -v perl";
    let removed = server.docker_exec(&["-u", "root"], &["sh", "-c", remove], b"");
    assert!(removed.status.success(), "{removed:?}");
    server.sql(
        "procgenie",
        "create table t as select generate_series(1, 1000) as i",
    );
    server.sql(
        "postgres",
        &format!("create database {}", quoted(HOSTILE[0])),
    );

    let backup = lifeboat.json(&["backup", &server.stack]);
    assert_eq!(backup["complete"], true);
    let artifacts = backup["artifacts"].as_array().unwrap();
    assert_eq!(artifacts.len(), 4, "{artifacts:?}");
    let shown = lifeboat.json(&["show"]);
    let notes = shown["manifest"]["notes"].to_string();
    assert!(
        notes.contains("procgenie: owner, settings, grants and extension versions are unavailable"),
        "{notes}"
    );
    assert!(
        notes.contains("bash, socat, nc or perl") || notes.contains("cannot reach PostgreSQL"),
        "{notes}"
    );
    let facts = &shown["facts"]["postgres/postgres/db/procgenie"];
    assert_eq!(facts["dump"]["tables"]["public"]["t"]["rows"], 1000);
    assert_eq!(facts["properties"], Value::Null);
    lifeboat.run(&["verify", "--deep"]).ok();

    // Such a backup restores into a server that can be asked.
    let target = Postgres::start(BARE_17, Style::Development);
    let into = [
        "restore",
        "latest",
        "--in-place",
        "--yes",
        "--into",
        &target.stack,
    ];
    lifeboat.run(&into).ok();
    assert_eq!(
        target.query("procgenie", "select count(*), sum(i) from t"),
        "1000|500500"
    );
}

/// A client that writes for as long as it lives, in a container.
struct Writers(Vec<Child>);

impl Writers {
    /// Each transaction keeps the invariant: the sum of both tables' amounts is zero, and every entry
    /// has a counterpart.
    fn start(server: &Postgres, clients: usize) -> Self {
        let script = "begin; \
            with moved as (insert into debits (amount) select 1 + (random() * 100)::int returning id, amount) \
              insert into credits (id, amount) select id, -amount from moved; \
            commit; \
            begin; \
            with gone as (delete from debits where id in \
                (select id from debits where id % 3 = 0 order by id limit 1 for update skip locked) returning id) \
              delete from credits where id in (select id from gone); \
            commit;\n";
        let mut writers = Vec::new();
        for _ in 0..clients {
            let mut command = Command::new("docker");
            command.args([
                "exec",
                "-i",
                &server.id,
                "psql",
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
            ]);
            command.args(["-U", server.user, "-d", "procgenie"]);
            let child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            writers.push(child.unwrap());
        }
        for writer in &mut writers {
            let mut stdin = writer.stdin.take().unwrap();
            // Ends with the program that reads, whose end of the pipe is closed.
            std::thread::spawn(move || while stdin.write_all(script.as_bytes()).is_ok() {});
        }
        Self(writers)
    }

    fn all_alive(&mut self) -> bool {
        self.0
            .iter_mut()
            .all(|writer| writer.try_wait().unwrap().is_none())
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        for writer in &mut self.0 {
            let _ = writer.kill();
            let _ = writer.wait();
        }
    }
}

const BALANCE: &str = "select (select coalesce(sum(amount), 0) from debits) + (select coalesce(sum(amount), 0) from credits), \
    (select count(*) from debits full join credits using (id) where debits.amount is distinct from -credits.amount)";
const COUNTS: &str =
    "select (select count(*) from debits) || ' ' || (select count(*) from credits)";

#[test]
fn facts_of_a_backup_under_writers_are_those_of_its_dump() {
    let lifeboat = Lifeboat::new();
    let server = Postgres::start(FULL_17, Style::Development);
    // What stands between the two tables in the dump takes a while, in which the writers go on.
    let rows = soak(100_000, 20_000_000).to_string();
    let tables = "create table credits (id int primary key, amount int not null); \
         create table d_between as select i, md5(i::text) as t from generate_series(1, ROWS) i; \
         create table debits (id int generated always as identity primary key, amount int not null); \
         with moved as (insert into debits (amount) select i from generate_series(1, 3000) i returning id, amount) \
           insert into credits select id, -amount from moved;";
    server.sql("procgenie", &tables.replace("ROWS", &rows));
    let mut writers = Writers::start(&server, 3);
    let progress = || server.query("procgenie", "select last_value from debits_id_seq");
    let begun = Instant::now();
    while progress() == "3000" {
        assert!(begun.elapsed() < Duration::from_mins(1), "nobody writes");
    }
    let before: u64 = progress().parse().unwrap();
    let backup = lifeboat.json(&["backup", &server.stack, "--only", "procgenie"]);
    assert_eq!(backup["complete"], true);
    let after: u64 = progress().parse().unwrap();
    assert!(after > before, "nobody wrote during the backup");
    assert!(writers.all_alive());
    drop(writers);

    let shown = lifeboat.json(&["show"]);
    let tables = &shown["facts"]["postgres/postgres/db/procgenie"]["dump"]["tables"]["public"];
    let (debits, credits) = (&tables["debits"]["rows"], &tables["credits"]["rows"]);
    lifeboat
        .run(&["restore", "latest", "--as", "then", "--yes"])
        .ok();
    assert_eq!(server.query("then", COUNTS), format!("{debits} {credits}"));
    assert_eq!(debits, credits);
    assert_eq!(server.query("then", BALANCE), "0|0");
    assert_eq!(server.query("then", "select count(*) from d_between"), rows);
}

/// The blocks of shell in a Markdown text.
fn shell_blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in markdown.lines() {
        match (&mut block, line) {
            (None, "```sh") => block = Some(String::new()),
            (Some(_), "```") => blocks.extend(block.take()),
            (Some(text), line) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

fn by_hand(image: &str, style: Style) {
    let lifeboat = Lifeboat::new();
    let source = Postgres::start(image, style);
    seed(&source);
    let before = fingerprints(&source);
    let backup = lifeboat.json(&["backup", &source.stack]);
    let folder = backup_folder(&lifeboat, &backup);

    let target = Postgres::start(image, style);
    // The names that are taken there are freed by the recipe.
    let recipe = std::fs::read_to_string(folder.join("RESTORE.md")).unwrap();
    let script = shell_blocks(&recipe).concat();
    let output = Command::new("bash")
        .args(["-e", "-o", "pipefail", "-c", &script])
        .env("STACK", &target.stack)
        .current_dir(&folder)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{stderr}");
    assert_all_same(&before, &fingerprints(&target), |name| {
        name.starts_with("before restore of ")
    });
    assert!(logs_in(&target, HOSTILE_ROLE, HOSTILE_PASSWORD));

    // The check that the recipe begins with does find a changed byte.
    let dump = folder.join("postgres/postgres/db/procgenie.dump.zst");
    let mut bytes = std::fs::read(&dump).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let _ = std::fs::remove_file(&dump);
    std::fs::write(&dump, bytes).unwrap();
    let check = Command::new("sha256sum")
        .args(["-c", "SHA256SUMS"])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(!check.status.success());
    assert!(String::from_utf8_lossy(&check.stdout).contains("procgenie.dump.zst: FAILED"));
}

#[test]
fn the_recipe_restores_by_hand_on_15() {
    by_hand(BARE_15, Style::Development);
}

#[test]
fn the_recipe_restores_by_hand_on_17() {
    by_hand(FULL_17, Style::Production);
}

#[test]
fn an_exported_dump_is_what_stock_tools_restore() {
    let lifeboat = Lifeboat::new();
    let server = Postgres::start(FULL_15, Style::Development);
    server.sql("procgenie", PROCGENIE);
    server.sql("procgenie", RICH);
    lifeboat.run(&["backup", &server.stack]).ok();
    let file = lifeboat.folder().join("out.dump");
    let path = file.to_str().unwrap();
    lifeboat
        .run(&["export", "latest", "procgenie", "--output", path])
        .ok();
    let dump = std::fs::read(&file).unwrap();
    // To standard output the same bytes go.
    let piped = lifeboat.folder().join("piped.dump");
    let mut export = lifeboat.command(&["export", "latest", "postgres/postgres/db/procgenie"]);
    let status = export
        .stdout(File::create(&piped).unwrap())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(std::fs::read(&piped).unwrap() == dump);

    let list = server.docker_exec(&[], &["pg_restore", "--list"], &dump);
    assert!(list.status.success(), "{list:?}");
    assert!(String::from_utf8_lossy(&list.stdout).contains("TABLE DATA procurement requests"));
    server.sql("postgres", "create database stock template template0");
    let restore = [
        "pg_restore",
        "--exit-on-error",
        "-U",
        server.user,
        "-d",
        "stock",
    ];
    let restored = server.docker_exec(&[], &restore, &dump);
    assert!(restored.status.success(), "{restored:?}");
    let (mut before, mut after) = (
        fingerprint(&server, "procgenie"),
        fingerprint(&server, "stock"),
    );
    for facts in [&mut before, &mut after] {
        // Without --create these stay as they are.
        facts.retain(|key, _| key != "database" && !key.starts_with("settings of "));
    }
    assert_same("stock", &before, &after);
}

/// A restore that must fail with exit code 1 before it makes anything; what it says.
#[track_caller]
fn refused(lifeboat: &Lifeboat, target: &Postgres, arguments: &[&str]) -> String {
    let (databases, roles) = (target.databases(), target.sql("postgres", ROLES));
    let into = ["--into", &target.stack, "--yes", "--json"];
    let run: Run = lifeboat.run(&[&["restore", "latest"], arguments, &into].concat());
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(target.databases(), databases);
    assert_eq!(target.sql("postgres", ROLES), roles);
    assert!(
        !run.stdout.contains("step_started"),
        "it had begun: {}",
        run.stdout
    );
    let error = run.json();
    assert_eq!(error["message_type"], "error");
    format!("{} | {}", error["message"], error["hint"])
}

#[test]
fn an_older_server_is_refused_naming_both_versions() {
    let lifeboat = Lifeboat::new();
    let newer = Postgres::start(BARE_17, Style::Development);
    let older = Postgres::start(FULL_15, Style::Development);
    newer.sql("procgenie", "create table t as select 1 as i");
    lifeboat.run(&["backup", &newer.stack]).ok();
    let versions = [&newer, &older].map(|server| {
        let version = server.query("postgres", "show server_version");
        version.split(' ').next().unwrap().to_owned()
    });
    for arguments in [&["--in-place"][..], &["--only", "procgenie", "--as", "new"]] {
        let said = refused(&lifeboat, &older, arguments);
        for version in &versions {
            assert!(said.contains(version), "{said}");
        }
    }
    // The other way round it is no question.
    let lifeboat = Lifeboat::new();
    older.sql("procgenie", "create table t as select 42 as i");
    lifeboat.run(&["backup", &older.stack]).ok();
    let up = [
        "restore",
        "latest",
        "--in-place",
        "--yes",
        "--into",
        &newer.stack,
    ];
    lifeboat.run(&up).ok();
    assert_eq!(newer.query("procgenie", "select i from t"), "42");
}

#[test]
fn a_missing_extension_is_refused_by_name() {
    let lifeboat = Lifeboat::new();
    let source = Postgres::start(FULL_15, Style::Development);
    source.sql(
        "procgenie",
        "create extension hstore; create table t (h hstore)",
    );
    lifeboat.run(&["backup", &source.stack]).ok();
    let target = Postgres::start(FULL_15, Style::Development);
    let remove = "rm $(pg_config --sharedir 2>/dev/null || echo /usr/share/postgresql/$PG_MAJOR)/extension/hstore*";
    let removed = target.docker_exec(&["-u", "root"], &["sh", "-c", remove], b"");
    assert!(removed.status.success(), "{removed:?}");
    let said = refused(&lifeboat, &target, &["--in-place"]);
    assert!(said.contains("hstore") && said.contains(FULL_15), "{said}");
}

/// What owns and may use things in one database: the roles that a restore of it needs.
const ROLES_OF_ONE: &str = "create role keeper; create role reader login password 'reads'; create role bystander; \
    create role column_reader; create role policed; create role defaulted; create role lob_owner; \
    create table t (i int, j int); alter table t owner to keeper; grant select on t to reader; \
    grant select (i) on t to column_reader; create policy p on t to policed using (true); \
    alter default privileges grant select on tables to defaulted; \
    select lo_create(4711); alter large object 4711 owner to lob_owner; insert into t values (1, 2);";

#[test]
fn roles_that_nobody_has_are_refused_with_a_hint() {
    let lifeboat = Lifeboat::new();
    let source = Postgres::start(FULL_15, Style::Development);
    source.sql("procgenie", ROLES_OF_ONE);
    source.sql(
        "procgenie",
        "create role owner_of_all; alter database procgenie owner to owner_of_all",
    );
    let backup = lifeboat.json(&["backup", &source.stack, "--only", "procgenie"]);
    assert_eq!(backup["artifacts"].as_array().unwrap().len(), 1);
    let target = Postgres::start(FULL_15, Style::Development);
    let said = refused(&lifeboat, &target, &["--as", "new"]);
    assert!(
        said.contains("owner_of_all") && said.contains("create role"),
        "{said}"
    );
}

#[test]
fn roles_that_only_objects_need_are_missed_before_anything_is_made() {
    let lifeboat = Lifeboat::new();
    let source = Postgres::start(FULL_15, Style::Development);
    source.sql("procgenie", ROLES_OF_ONE);
    lifeboat
        .run(&["backup", &source.stack, "--only", "procgenie"])
        .ok();
    let target = Postgres::start(FULL_15, Style::Development);
    let said = refused(&lifeboat, &target, &["--as", "new"]);
    assert!(
        said.contains("keeper") && said.contains("create role"),
        "{said}"
    );
}

#[test]
fn a_restore_of_one_database_makes_the_roles_that_it_needs() {
    let lifeboat = Lifeboat::new();
    let source = Postgres::start(FULL_15, Style::Development);
    source.sql("procgenie", ROLES_OF_ONE);
    let before = fingerprint(&source, "procgenie");
    lifeboat.run(&["backup", &source.stack]).ok();
    let target = Postgres::start(FULL_15, Style::Development);
    let one = [
        "restore",
        "latest",
        "--only",
        "procgenie",
        "--as",
        "new",
        "--yes",
        "--into",
        &target.stack,
    ];
    lifeboat.run(&one).ok();
    assert_same("new", &before, &fingerprint(&target, "new"));
    assert!(logs_in(&target, "reader", "reads"));
}

/// From 64 MiB on, a dump is loaded by two `pg_restore`: each has tables of its own, and their indexes.
#[test]
fn a_large_dump_is_loaded_by_two_and_whole() {
    let server = Postgres::start(FULL_17, Style::Development);
    server.sql(
        "procgenie",
        "create table parents (id int primary key, body text, state int);
         create table children (id int primary key, parent int not null references parents, body text unique);
         create table empty (id int primary key);
         insert into parents select n, repeat(md5(n::text), 40), n % 7 from generate_series(1, 30000) n;
         insert into children select n, 1 + n % 30000, repeat(md5((n * 7)::text), 40) from generate_series(1, 30000) n;
         create index parents_state on parents (state, id);
         create index children_parent on children (parent);
         cluster children using children_parent;
         comment on index children_parent is 'by parent'",
    );
    let before = fingerprint(&server, "procgenie");
    let lifeboat = Lifeboat::new();
    lifeboat.run(&["backup", &server.stack]).ok();
    let restored = lifeboat.run(&[
        "restore",
        "latest",
        "--only",
        "procgenie",
        "--as",
        "again",
        "-v",
    ]);
    restored.ok();
    assert!(
        restored.stderr.contains("with 2 pg_restore side by side"),
        "{}",
        restored.stderr
    );
    assert_same("again", &before, &fingerprint(&server, "again"));
}

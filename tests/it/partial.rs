//! Tables beside the live ones: cut loose in a side database, carried over in one transaction.

use crate::support::server::{Place, Server};
use lifeboat::docker::connect::{ConnectOptions, connect};
use lifeboat::operation::sources::{find_stack, source_services};
use lifeboat::source::Credentials;
use lifeboat::source::postgres;

/// The same in both databases; the table's rows differ.
const SEED: &str = r#"
create schema other; create type other.mood as enum ('good', 'bad'); create role clerk;
create table customers (id int primary key); insert into customers values (1);
create table invoices (id serial primary key, customer int references customers, mood other.mood default 'good',
  amount int check (amount > 0), twice int generated always as (amount * 2) stored);
alter table invoices owner to clerk; create index on invoices (amount);
create table lines (invoice int references invoices, corrects int references invoices);
create table numbered (id int generated always as identity primary key, text text); insert into numbered (text) values ('x');
create sequence everybodys; create table drawing (id int default nextval('everybodys'), n int default 3);
create table parts (k int primary key, c int references customers) partition by range (k);
create table other.low partition of parts for values from (0) to (10);
create table "High ""%""
" partition of parts for values from (10) to (20);
insert into parts select n, 1 from generate_series(1, 15) n;
create table "üüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüx" ("a'b" int); insert into "üüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüx" values (7);
create function nothing() returns trigger language plpgsql as 'begin return new; end';
create trigger t before insert on invoices for each row execute function nothing();
create trigger t after insert on parts for each row execute function nothing();
create rule r as on delete to invoices do also select 1; create publication p for table invoices;
alter table invoices enable row level security; create policy mine on invoices using (amount > 0);
create view seen as select * from invoices; "#;

const LONG: &str = "üüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüx";

async fn server_of(live: &Server) -> postgres::Server {
    let engine = connect(&ConnectOptions::default()).await.unwrap();
    let stack = find_stack(&engine, Some(&live.stack)).await.unwrap();
    let services = source_services(&engine, &stack).await.unwrap();
    postgres::Server::new(
        &engine,
        &services[0].service,
        &Credentials::default(),
        "20261125T000000Z-test",
    )
}

#[tokio::test]
async fn tables_are_cut_loose_and_carried_past_locks_and_a_missing_type_leaves_nothing() {
    let live = Server::start("partial");
    live.sql("postgres", "create database app");
    live.sql("app", SEED);
    live.sql("postgres", "create database side template app");
    live.sql(
        "side",
        "insert into invoices (customer, amount) select 1, n from generate_series(1, 5) n",
    );
    let server = server_of(&live).await;
    let schema = "Life \"%\"\n'boat'";
    let tables = [
        ("public", "invoices"),
        ("public", "numbered"),
        ("public", "drawing"),
        ("public", "parts"),
        ("public", LONG),
    ];
    let missing = server
        .cut_loose("side", schema, &[("public", "gone")])
        .await;
    assert!(missing.unwrap_err().to_string().contains("gone"));
    server.cut_loose("side", schema, &tables).await.unwrap();

    live.sql("app", "alter type other.mood rename to gone");
    let error = server.carry("side", "app", schema).await.unwrap_err();
    assert!(error.chain().contains("other.mood"), "{}", error.chain());
    let schemas = "select count(*) from pg_namespace where nspname like 'Life%'";
    assert_eq!(live.sql("app", schemas), "0");
    live.sql("app", "alter type other.gone rename to mood");

    let locks = live.lock_table("invoices, parts, customers");
    server.carry("side", "app", schema).await.unwrap();
    drop(locks);

    let quoted = format!("\"{}\"", schema.replace('"', r#""""#));
    let ask = |query: &str| live.sql("app", &query.replace('@', &quoted));
    assert_eq!(ask("select count(*), sum(twice) from @.invoices"), "5|30");
    assert_eq!(ask("select count(*) from invoices"), "0");
    assert_eq!(
        ask("insert into @.invoices (amount) values (9) returning id, mood"),
        "6|good"
    );
    assert_eq!(
        ask("insert into @.numbered (text) values ('y') returning id"),
        "2"
    );
    assert_eq!(
        ask("insert into @.drawing default values returning id, n"),
        "|3"
    );
    assert_eq!(ask("select count(*) from @.parts"), "15");
    assert_eq!(ask(&format!("select \"a'b\" from @.\"{LONG}\"")), "7");
    assert_eq!(
        ask(
            "select count(*) filter (where contype = 'f'), count(*) filter (where contype = 'c') from pg_constraint c \
             join pg_namespace n on n.oid = connamespace where nspname like 'Life%'"
        ),
        "0|1"
    );
    assert_eq!(
        ask(
            "select pg_get_userbyid(relowner), relrowsecurity, relhastriggers, relhasrules from pg_class c \
             join pg_namespace n on n.oid = relnamespace where nspname like 'Life%' and relname = 'invoices'"
        ),
        "clerk|f|f|f"
    );
    assert_eq!(
        ask(
            "select count(*) from pg_indexes where schemaname like 'Life%' and tablename = 'invoices'"
        ),
        "2"
    );
    // Nothing of the schema is named from outside, nor names what is.
    ask("drop table lines, invoices cascade");
    assert_eq!(ask("select count(*) from @.invoices"), "6");
}

/// A server with the database `app`, seeded, and a backup of it.
fn backed_up(what: &str) -> (Server, Place) {
    let live = Server::start(what);
    live.sql("postgres", "create database app");
    live.sql("app", SEED);
    live.sql(
        "app",
        "insert into invoices (customer, amount) select 1, n from generate_series(1, 5) n",
    );
    let place = Place::new();
    place.run(&["backup", &live.stack]).expect_code(0);
    live.sql(
        "app",
        "delete from invoices; update numbered set text = 'changed'; delete from parts where k > 3",
    );
    (live, place)
}

/// What must not be changed by a restore of tables.
fn around(live: &Server) -> String {
    live.sql(
        "app",
        "select (select count(*) from invoices), (select text from numbered), (select count(*) from parts), \
         (select count(*) from pg_database), (select count(*) from pg_constraint where contype = 'f')",
    )
}

#[test]
fn tables_come_into_a_schema_beside_and_the_live_ones_stay_as_they_are() {
    let (live, place) = backed_up("beside");
    let before = around(&live);
    let id = place.list().remove(0).0;
    let usual = format!("lifeboat_{}", id.to_lowercase().replace('-', "_"));
    let one = [
        "restore",
        "latest",
        "--only",
        "postgres/db/app:public.invoices",
    ];

    let planned = place.run(&[&one[..], &["--dry-run"]].concat());
    planned.expect_code(0).says(&[&usual, "public.invoices"]);
    assert_eq!(
        live.sql(
            "app",
            "select count(*) from pg_namespace where nspname like 'lifeboat%'"
        ),
        "0"
    );
    let done = place.run(&[&one[..], &["--json"]].concat()).expect_code(0);
    assert_eq!(done.json()["schema"], *usual);
    assert_eq!(
        live.sql(
            "app",
            &format!("select count(*), sum(twice) from {usual}.invoices")
        ),
        "5|30"
    );
    assert_eq!(
        live.sql(
            "app",
            &format!("insert into {usual}.invoices (amount) values (9) returning id")
        ),
        "6"
    );
    let comment = format!("select obj_description('{usual}'::regnamespace)");
    assert!(live.sql("app", &comment).contains(&id));
    place
        .run(&one)
        .expect_code(2)
        .says(&[&usual, "already", "--as"]);

    let several = [
        "restore",
        "latest",
        "--as",
        "Mine \"x\"",
        "--only",
        "app:parts",
        "--only",
        "app:numbered",
        "--only",
        "app:\"üüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüx\"",
    ];
    place.run(&several).expect_code(0);
    let mine = "\"Mine \"\"x\"\"\"";
    assert_eq!(
        live.sql(
            "app",
            &format!(
                "select (select count(*) from {mine}.parts), (select text from {mine}.numbered), \
             (select count(*) from {mine}.low), (select \"a'b\" from {mine}.\"{LONG}\"), \
             (select count(*) from pg_indexes where schemaname = 'Mine \"x\"')"
            )
        ),
        "15|x|9|7|4"
    );
    assert_eq!(
        live.sql(
            "app",
            &format!("insert into {mine}.numbered (text) values ('y') returning id")
        ),
        "2"
    );
    assert_eq!(around(&live), before);
}

#[test]
fn a_restore_of_tables_that_cannot_be_is_refused_before_anything_is_touched() {
    let (live, place) = backed_up("refused");
    let before = around(&live);
    for (arguments, words) in [
        (
            &["--only", "app:invoices", "--in-place", "--yes"][..],
            "not restored in place",
        ),
        (&["--only", "app:invoces"], "app:public.invoices"),
        (
            &["--only", "app:invoices", "--only", "app"],
            "not restored together",
        ),
        (&["--only", "app:invoices", "--as", "pg_x"], "pg_"),
        (&["--only", "app:invoices", "--as", "public"], "already"),
        (&["--only", "app"], "--as NAME"),
    ] {
        place
            .run(&[&["restore", "latest"], arguments].concat())
            .expect_code(2)
            .says(&[words, "hint"]);
    }
    assert_eq!(around(&live), before);
}

#[test]
fn a_restore_of_tables_that_was_killed_at_any_stage_is_cleared_and_done_by_the_next() {
    let (live, place) = backed_up("killed");
    let before = around(&live);
    let arguments = [
        "restore",
        "latest",
        "--only",
        "app:invoices",
        "--as",
        "mine",
    ];
    for step in [
        "create database",
        "load public.invoices",
        "compare the tables",
        "move them into",
        "bring the schema",
        "compare the schema",
        "analyze the schema",
        "drop database",
    ] {
        let mut running = place.spawn(&arguments);
        running.line_with(step);
        running.kill();
        let again = place.run(&arguments);
        // Behind the last step but one the schema is whole, and the person's.
        if step == "drop database" {
            again.expect_code(2).says(&["already"]);
        } else {
            again.expect_code(0);
        }
        assert_eq!(
            live.sql("app", "select count(*) from mine.invoices"),
            "5",
            "killed at {step}"
        );
        assert_eq!(around(&live), before, "killed at {step}");
        live.sql("app", "drop schema mine cascade");
    }
}

/// A server whose `app` has the type that the tables need, but neither their rows nor their owner.
fn another() -> Server {
    // No zstd there: archives come plain.
    let target = Server::with("into", "lifeboat-lab/postgres:17-bare", &[]);
    target.sql("postgres", "create database app");
    target.sql(
        "app",
        "create schema other; create type other.mood as enum ('good', 'bad')",
    );
    target
}

/// How many databases there are, and how many schemas that a restore can have made.
fn made(server: &Server) -> String {
    server.sql(
        "app",
        "select (select count(*) from pg_database), \
         (select count(*) from pg_namespace where nspname in ('mine', 'first'))",
    )
}

#[test]
fn tables_of_an_encrypted_backup_come_into_another_stack_and_what_differs_there_is_undone() {
    let live = Server::start("encrypted");
    // Far more than what fits into pipes comes behind `a_first`.
    live.fill(24 << 10);
    live.sql("app", SEED);
    live.sql(
        "app",
        "create table a_first as select n from generate_series(1, 9) n; \
         insert into invoices (customer, amount) select 1, n from generate_series(1, 5) n",
    );
    let place = Place::without_repository();
    let generate = ["key", "generate", "--output", "key", "--json"];
    let key = place.run(&generate).expect_code(0).json();
    place.configure(&format!(
        "[encryption]\nrecipients = [{}]\nidentity = {{ file = \"key\" }}\n",
        key["public_key"]
    ));
    place.init();
    place.run(&["backup", &live.stack]).expect_code(0);
    let latest = format!("{}/latest", live.stack);
    let early = ["restore", &latest, "--only", "app:a_first", "--as", "first"];
    place.run(&early).expect_code(0);
    let sum = "select sum(n) from first.a_first";
    assert_eq!(live.sql("app", sum), "45");
    drop(live);

    let target = another();
    let before = made(&target);
    let restore = |table: &str, schema: &str| {
        let into = ["--into", &target.stack];
        let table = ["--only", table, "--as", schema];
        place.run(&[&["restore", &latest], &into[..], &table[..]].concat())
    };
    // Takes the rows away as soon as the table has its key: behind the load, before it is compared.
    target.sql(
        "app",
        "create function takes() returns event_trigger language plpgsql as $$ begin \
           if to_regclass('mine.invoices') is not null then delete from mine.invoices; end if; end $$; \
         create event trigger takes on ddl_command_end when tag in ('CREATE INDEX') execute function takes()",
    );
    restore("app:invoices", "mine")
        .expect_code(1)
        .says(&["not what was backed up", "mine.invoices"]);
    assert_eq!(made(&target), before);

    target.sql("app", "drop event trigger takes");
    restore("app:invoices", "mine").expect_code(0);
    // Its owner was made with it, and reads it where it is.
    assert_eq!(
        target.sql("app", "set role clerk; select count(*) from mine.invoices"),
        "5"
    );
    restore("app:a_first", "first").expect_code(0);
    assert_eq!(target.sql("app", sum), "45");
    let databases = "select count(*) from pg_database where datname like '%restoring%'";
    assert_eq!(target.sql("postgres", databases), "0");
}

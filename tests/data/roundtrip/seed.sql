-- What the lab's believable data lacks: hostile names, hostile data, and objects that dumps get wrong.
\set ON_ERROR_STOP on
set client_min_messages = warning;

create role "ro'le ""quoted"" \ %s ..
;-- second line" login password 'pä ''ss" \word';
create role "-x" nologin;
create role "zoë schön" login connection limit 5 valid until '2099-12-31' in role "-x";
create role "üüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüx";
create role app_owner;
comment on role app_owner is E'owns; the ''app''\nsecond line';
alter role app_owner set search_path = 'a, b', "$user", public;
alter role "zoë schön" set statement_timeout = '17s';
grant set on parameter log_statement to "zoë schön" with grant option;

create table public.transfers (id int generated always as identity primary key, account text, amount numeric);
insert into public.transfers (account, amount) select 'a' || i % 7, i from generate_series(1, 100) i;

create schema "s'c ""hema"" %..\
" authorization app_owner;
comment on schema "s'c ""hema"" %..\
" is E'back\\slash';
set search_path = "s'c ""hema"" %..\
";

create table "t'able; drop table x; -- ""q"" ../..
\." (
  "co l'""umn\ %
" text,
  "-c" bytea,
  "üüüüüüüüüüüüüüüüüüüüüüüüüüüüüüüx" int default 7
);
insert into "t'able; drop table x; -- ""q"" ../..
\." values
  (E'tab\tnewline\ncarriage\rbackslash\\ \\N \\.', '\x00ff0a5c2e0a', null),
  (E'\\.', decode('', 'hex'), 1), (E'\n\\.\n', null, -2147483648), ('', '\x', 0), (E'\\N', '\x5c4e', 2),
  (repeat(E'long\t\\.\n', 40000), decode(repeat('00ff0a', 50000), 'hex'), 3),
  (E'\u0001\u007f\u2028 snowman \u2603 \U0001F600', null, null);
comment on table "t'able; drop table x; -- ""q"" ../..
\." is E'it''s; "quoted"\n\\. %';
comment on column "t'able; drop table x; -- ""q"" ../..
\."."-c" is '';
comment on column "t'able; drop table x; -- ""q"" ../..
\."."co l'""umn\ %
" is E'a''b\\c';
grant select ("-c"), update ("co l'""umn\ %
") on "t'able; drop table x; -- ""q"" ../..
\." to "zoë schön", "ro'le ""quoted"" \ %s ..
;-- second line" with grant option;
alter table "t'able; drop table x; -- ""q"" ../..
\." owner to app_owner;

create table things (
  id bigint generated always as identity (start with 500 increment by -3 minvalue -100000 maxvalue 1000) primary key,
  n numeric, doubled numeric generated always as (n * 2) stored, f float8, r float4, t timestamptz, i interval, a text[][], j json, b bit varying(9),
  ip inet, m money, x xml, rng int4range, p point, dropped int, u uuid, owner_note text
);
alter table things drop column dropped;
alter table things alter column n set statistics 77;
alter table things owner to app_owner;
insert into things (n, f, r, t, i, a, j, b, ip, m, x, rng, p, u) values
  ('NaN', 'Infinity', '-Infinity', 'infinity', '-1 mon 3 days -00:00:00.000001', '{{"a,b","NULL"},{NULL,"c\\\"d"}}', '{"a" : 1,"a":2 }', B'101', '::1/64', 12.34, '<a>&lt;</a>', '[1,5)', '(1.1,-2)', '00000000-0000-0000-0000-000000000001'),
  (1e-20, 0.1, 0.1, '2000-02-29 23:59:59.999999+05:30', '1 year', '{}', 'null', B'', '10.0.0.1', -1, null, 'empty', null, null),
  (123456789012345678901234567890.123456789, -0.0, 3.4028235e38, '0044-03-15 00:00:00 BC', null, null, '[]', null, null, null, null, '(,)', null, null);
create sequence never_used start 42;
create sequence cyclic minvalue -5 maxvalue 5 start 4 cycle;
select nextval('cyclic'), nextval('cyclic'), nextval('cyclic');
create unlogged table fleeting (i int);
insert into fleeting values (1), (2);

create table measures (day date not null, place text collate "C", v int, primary key (day, place)) partition by range (day);
create table "measures ""2026""" partition of measures for values from ('2026-01-01') to ('2027-01-01') partition by hash (place);
create table m0 partition of "measures ""2026""" for values with (modulus 2, remainder 0);
create table m1 partition of "measures ""2026""" for values with (modulus 2, remainder 1);
create table m_other partition of measures default;
insert into measures select date '2025-12-01' + i % 90, 'place ' || i, i from generate_series(1, 500) i;
create table parent (a int); create table child (b int) inherits (parent);
insert into parent values (1); insert into child values (2, 3);

create materialized view sums as select place, sum(v) from measures group by place;
create materialized view never_filled as select 1 as one with no data;
create view guarded with (security_barrier, check_option = cascaded) as select * from things where n > 0;
create function "f'n ""x"""(a int default 3, variadic "rest;" text[] default '{}') returns text language plpgsql security definer set search_path = pg_catalog, "$user" as
  $fn$ begin return 'it''s $$ ' || a; end $fn$;
revoke execute on function "f'n ""x"""(int, text[]) from public;
grant execute on function "f'n ""x"""(int, text[]) to "-x";
create domain "posi;tive" as int constraint "ch'k" check (value > 0);
create type "en'um" as enum ('it''s', E'two\nlines', '');
create statistics stats (dependencies) on day, place from measures;
alter table things enable row level security, force row level security;
create policy "pol'icy ""x""" on things as restrictive for all to "zoë schön", "-x" using (n > 0) with check (doubled < 100);
create policy everyone on things using (true);
create rule quiet as on delete to fleeting do instead nothing;
create trigger "tri""gger" after update of n on things for each row when (old.n is distinct from new.n) execute function suppress_redundant_updates_trigger();
alter table things disable trigger "tri""gger";
alter default privileges for role app_owner grant select on tables to "zoë schön";
alter default privileges for role app_owner revoke execute on functions from public;
alter default privileges for role app_owner in schema "s'c ""hema"" %..\
" grant usage on sequences to "-x" with grant option;
grant create, usage on schema "s'c ""hema"" %..\
" to "zoë schön" with grant option;
create extension citext schema public;
create extension "uuid-ossp" schema public;
create publication "pub;" for table things;

select lo_from_bytea(900001, decode(repeat('00ff0a5c2e', 100000), 'hex'));
select lo_create(900002);
comment on large object 900001 is E'a large ''object''';
grant select on large object 900001 to "zoë schön";
alter large object 900002 owner to app_owner;

select format('alter database %I set search_path = %s', current_database(), $$"s'c ""hema"" %..\ ", "$user", public$$) \gexec
select format('alter database %I set datestyle = %L', current_database(), 'German, DMY') \gexec
select format('alter database %I set "my.app" = %L', current_database(), E'it''s "a" \\ value\n2') \gexec
select format('alter role "zoë schön" in database %I set search_path = "a, b", public', current_database()) \gexec
select format('grant temporary, connect on database %I to "zoë schön" with grant option', current_database()) \gexec
select format('revoke connect on database %I from public', current_database()) \gexec
select format('grant connect on database %I to "ro''le ""quoted"" \ %%s ..
;-- second line"', current_database()) \gexec

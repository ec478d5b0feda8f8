-- The database behind postgres-15.dump and postgres-17.dump: pg_dump -Fc -Z0 sample | cat
CREATE SCHEMA "odd "" schema";
CREATE EXTENSION hstore WITH SCHEMA "odd "" schema";
CREATE EXTENSION pgcrypto;
CREATE TABLE empty (id int primary key, note text);
CREATE TABLE no_columns ();
INSERT INTO no_columns SELECT FROM generate_series(1, 4);
CREATE TABLE no_columns_no_rows ();
CREATE TABLE texts (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, raw bytea);
INSERT INTO texts (body, raw) VALUES
 (E'\\.', '\x00ff0a5c2e'), (E'a\n\\.\nb', NULL), (E'\t\r\n\\N', ''), (NULL, NULL), ('', decode('0a0a0a','hex')),
 (E'\\.\n\n\n', NULL), ('naïve ☃ 🚣', NULL), (repeat('x', 300), NULL);
CREATE TABLE one_text (t text);
INSERT INTO one_text VALUES (E'\\.'), (''), (E'\n'), (NULL);
CREATE TABLE "odd "" schema"."-rf ; DROP
TABLE 'x' %s\" (id int);
INSERT INTO "odd "" schema"."-rf ; DROP
TABLE 'x' %s\" SELECT generate_series(1, 3);
CREATE TABLE "ééééééééééééééééééééééééééééééé" (v int);
INSERT INTO "ééééééééééééééééééééééééééééééé" VALUES (1);
CREATE TABLE events (day date NOT NULL, n int) PARTITION BY RANGE (day);
CREATE TABLE events_a PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE events_b PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE events_rest PARTITION OF events DEFAULT;
INSERT INTO events SELECT date '2026-01-01' + g, g FROM generate_series(0, 40) g;
CREATE TYPE mood AS ENUM ('low', 'high');
CREATE TABLE by_mood (m mood, n int) PARTITION BY HASH (m);
CREATE TABLE by_mood_0 PARTITION OF by_mood FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE by_mood_1 PARTITION OF by_mood FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO by_mood VALUES ('low', 1), ('high', 2), ('low', 3);
CREATE TABLE parent (a int); CREATE TABLE child (b int) INHERITS (parent);
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 3), (4, 5);
CREATE SEQUENCE called; SELECT nextval('called'), nextval('called');
CREATE SEQUENCE fresh START 100;
CREATE SEQUENCE down INCREMENT -5 MINVALUE -9223372036854775808 MAXVALUE -1; SELECT nextval('down'), nextval('down');
CREATE SEQUENCE top; SELECT setval('top', 9223372036854775807);
CREATE SEQUENCE "odd "" schema"."it's, 7, true);" START 3; SELECT setval('"odd "" schema"."it''s, 7, true);"', 9, false);
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n FROM events;
CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS n WITH NO DATA;
CREATE VIEW v AS SELECT * FROM texts;
CREATE FUNCTION f(a int, b text DEFAULT '\.') RETURNS int LANGUAGE sql AS $$ SELECT a $$;
CREATE TRIGGER t BEFORE UPDATE ON texts FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
SELECT lo_from_bytea(70001, 'large object'), lo_from_bytea(70002, ''), lo_from_bytea(4100000000::bigint::oid, decode(repeat('0a', 3000), 'hex'));
COMMENT ON LARGE OBJECT 70001 IS 'first';
COMMENT ON TABLE texts IS E'two\nlines';
GRANT SELECT ON texts TO PUBLIC;

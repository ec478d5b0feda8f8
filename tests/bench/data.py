"""The data that is measured on. Nothing of it is random: every machine gets the same."""

import hashlib
import itertools
import json
import random
import subprocess
from datetime import datetime, timedelta, timezone

from rig import SCALE, say

# What one row of `documents` is in a dump.
DOCUMENT = 1000


def shop(server):
    """pgbench at scale 100 and 600 MB of JSON: about 1.5 GB as a dump."""
    say("making the data: pgbench and a table of JSON")
    scale = max(1, round(100 * SCALE))
    server.run("sh", "-c", f"pgbench -i -I dtGvp -s {scale} -q -U postgres bench 2>/dev/null")
    count = max(100, round(600e6 * SCALE / DOCUMENT))
    server.sql(
        f"""
create table documents (id bigint primary key, created timestamptz not null, body jsonb not null);
create sequence tickets;
select setval('tickets', 4711);
insert into documents
select i, '2026-01-01 00:00:00+00'::timestamptz + i * interval '17 seconds', jsonb_build_object(
    'number', 'PO-' || to_char(i, 'FM0000000000'),
    'customer', md5(i::text),
    'contact', jsonb_build_object('name', words[1 + i % 24] || ' ' || words[1 + i / 7 % 24],
                                  'mail', words[1 + i % 24] || i * 7919 % 100003 || '@example.com'),
    'state', (array['open', 'approved', 'ordered', 'delivered', 'paid'])[1 + i % 5],
    'paid', i % 3 = 0,
    'lines', (select jsonb_agg(jsonb_build_object(
                 'sku', upper(substr(md5((i * 10 + n)::text), 1, 10)),
                 'quantity', 1 + i * n % 9,
                 'price', round((i * 31 * n % 100000) / 100.0, 2),
                 'text', words[1 + (i * n) % 24] || ' ' || words[1 + (i + n * 5) % 24] || ' ' || words[1 + (i / 3 + n) % 24]))
              from generate_series(1, 7) n))
from generate_series(1, {count}::bigint) i,
     (select string_to_array('steel bracket paper toner desk lamp cable office chair server licence support '
        'express delivery spare part annual contract monitor keyboard wireless mouse folder label', ' ')) w(words);
create index documents_created on documents (created);
create index documents_state on documents ((body ->> 'state'));
vacuum analyze;
checkpoint;
"""
    )


def small_tables(server):
    """500 tables as an application has them: a key, an index, a reference, a few rows."""
    count = max(5, round(500 * SCALE))
    server.sql(
        f"""
create table t_0 (id int primary key, name text);
insert into t_0 select i, 'row ' || i from generate_series(1, 20) i;
select format('create table t_%s (id int primary key, parent int references t_%s, name text not null, '
              'changed timestamptz default now())', n, n - 1),
       format('insert into t_%s select i, i, md5(i::text), ''2026-01-01 00:00:00+00'' from generate_series(1, 20) i', n),
       format('create index on t_%s (name)', n)
  from generate_series(1, {count} - 1) n \\gexec
vacuum analyze;
checkpoint;
"""
    )


def large_objects(server):
    """10,000 large objects of a kilobyte."""
    count = max(10, round(10_000 * SCALE))
    server.sql(
        f"""
create table files (id int primary key, object oid not null);
insert into files select i, lo_from_bytea(20000 + i, decode(repeat(md5(i::text), 32), 'hex')) from generate_series(1, {count}) i;
vacuum analyze;
checkpoint;
"""
    )


def bulk(server, size):
    """Four tables of text that hardly compresses, `size` bytes in all as a dump; unlogged, since only memory is looked at."""
    pool = min(32_768, max(64, size // 4 // 1930))
    say(f"making {size / 1e9:.2f} GB")
    # A block is met again only after 60 MB, which no compressor up to level 3 looks back.
    server.sql(
        f"""
create table pool as
select n, (select string_agg(md5((n * 100 + part)::text), '') from generate_series(1, 60) part) as body
  from generate_series(1, {pool}) n;
"""
    )
    rounds = max(1, size // 4 // 1930 // pool)
    for table in range(1, 5):
        server.sql(
            f"""
create unlogged table bulk_{table} (id bigint, body text);
do $$ begin
  for round in 0..{rounds - 1} loop
    insert into bulk_{table} select round * {pool}::bigint + n, body from pool;
  end loop;
end $$;
alter table bulk_{table} add primary key (id);
"""
        )
    server.sql("drop table pool; vacuum analyze; checkpoint")


def keys(server):
    """A million keys as an application has them: strings of 100 bytes, hashes of five fields, some of all the others."""
    count = max(100, round(1_000_000 * SCALE))
    say(f"making {count} keys")

    def members(digest):
        return " ".join(digest[at : at + 6] for at in range(0, 30, 6))

    def command(i):
        digest = hashlib.md5(str(i).encode()).hexdigest()
        if i % 10 < 7:
            return f"""SET cache:{i} '{{"id":{i},"state":"approved","total":"{i % 10007}.{i % 100:02}","etag":"{digest}","page":{i % 97}}}'"""
        if i % 10 < 9:
            return f"HSET session:{digest} user {i % 5003} tenant {i % 20} csrf {digest[:16]} seen 17{i:08} agent Mozilla/5.0"
        kind = i // 10 % 5
        if kind == 0:
            return f"RPUSH jobs:{i} {members(digest)}"
        if kind == 1:
            return f"SADD tags:{i} {members(digest)}"
        if kind == 2:
            scored = " ".join(f"{(i + at * 7919) % 10007 / 8} {member}" for at, member in enumerate(members(digest).split()))
            return f"ZADD board:{i} {scored}"
        if kind == 3:
            return f"XADD log:{i} 1767225600000-{i} type changed by {digest[:8]}"
        # Until the year 2100.
        return f"SET token:{digest} {i} EXAT 4102444800"

    server.load(f"{command(i)}\r\n".encode() for i in range(count))
    return count


def repository(folder, count):
    """A repository of `count` backups of one stack, whole and valid by docs/format.md, with very small artifacts."""
    say(f"making a repository of {count} backups")

    def compressed(text):
        return subprocess.run(["zstd", "-q", "-1", "-c"], input=text.encode(), capture_output=True, check=True).stdout

    def digest(data):
        return hashlib.sha256(data).hexdigest()

    def written(value):
        return (json.dumps(value, indent=2) + "\n").encode()

    dump = compressed("a dump")
    roles = compressed("-- roles\n")
    kinds = {
        "postgres/postgres/db/shop": (".dump.zst", dump, 6, "application/vnd.postgresql.custom-dump"),
        "postgres/postgres/globals": (".sql.zst", roles, 9, "application/sql"),
    }
    fixed = {name + suffix: data for name, (suffix, data, _, _) in kinds.items()}
    fixed.update({"facts.json.zst": compressed("{}"), "stack.json.zst": compressed("{}"), "RESTORE.md": b"# How\n"})
    digests = {key: digest(data) for key, data in fixed.items()}
    folder.mkdir()
    marker = {"format": 1, "id": "0" * 32, "created": "2025-01-01T00:00:00Z", "lifeboat_version": "0.1.0"}
    (folder / "lifeboat-repository.json").write_bytes(written(marker))
    stack = folder / "shop"
    stack.mkdir()
    first = datetime(2025, 1, 1, tzinfo=timezone.utc)
    for number in range(count):
        moment = first + timedelta(hours=number)
        at = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        backup = moment.strftime("%Y%m%dT%H%M%SZ-") + "bnch"
        artifacts = [
            {
                "name": name,
                "source": "postgres",
                "container_id": "c0ffee",
                "image": "postgres:17",
                "image_digest": "sha256:00",
                "engine_version": "17.5",
                "media_type": media_type,
                "encoding": ["zstd"],
                "raw_size": raw_size,
                "stored_size": len(data),
                "objects": [{"key": name + suffix, "size": len(data), "sha256": digests[name + suffix]}],
                "started": at,
                "finished": at,
                "consistency": "snapshot",
            }
            for name, (suffix, data, raw_size, media_type) in kinds.items()
        ]
        head = {"format": 1, "backup": backup, "stack": "shop"}
        times = {"started": at, "finished": at, "trigger": "nightly", "complete": True}
        manifest = written(
            {**head, "host": "host", "lifeboat_version": "0.1.0", **times, "tags": {}, "reasons": [], "notes": [], "artifacts": artifacts}
        )
        place = stack / backup
        (place / "postgres/postgres/db").mkdir(parents=True)
        listed = {**digests, "manifest.json": digest(manifest)}
        sums = "".join(f"{listed[key]}  {key}\n" for key in sorted(listed)).encode()
        for key, data in {**fixed, "manifest.json": manifest, "SHA256SUMS": sums}.items():
            (place / key).write_bytes(data)
        commit = {
            **head,
            "sha256sums": digest(sums),
            **times,
            "artifacts": [artifact["name"] for artifact in artifacts],
            "raw_size": sum(artifact["raw_size"] for artifact in artifacts),
            "stored_size": sum(artifact["stored_size"] for artifact in artifacts),
        }
        (stack / f"{backup}.backup.json").write_bytes(written(commit))


# Volumes: files on the engine's machine, written by root.


def words(seed):
    """Endless words, the same for the same seed."""
    chosen = random.Random(seed)
    known = [f"{chosen.getrandbits(36):x}" for _ in range(4000)]
    while True:
        yield chosen.choice(known)


def small_files(folder):
    """A hundred thousand files of 0.2 to 8 KB in a hundred folders: 300 MB."""
    stream = words(1)
    sizes = random.Random(2)
    for number in range(100):
        below = folder / f"{number:02}"
        below.mkdir()
        for file in range(max(1, round(1000 * SCALE))):
            text = " ".join(itertools.islice(stream, sizes.randrange(20, 640)))
            (below / f"{file:04}.json").write_text(text)


def large_file(folder):
    """Lines like a log's, 4 GB of them. The same 64 MB again and again: further apart than zstd -1 looks."""
    stream = words(3)
    lines = (f"2026-11-22T02:{i % 60:02}:00Z INFO {' '.join(itertools.islice(stream, 8))} {i}\n" for i in itertools.count())
    log = folder / "log"
    # Piece by piece: what this process has once held counts as the peak of every program that it starts.
    with open(log, "w") as file:
        while file.tell() < 64 << 20:
            file.write(next(lines))
    block = folder / "block"
    log.rename(block)
    for _ in range(max(1, round(60 * SCALE))):
        subprocess.run(["sh", "-c", 'cat "$0" >> "$1"', str(block), str(log)], check=True)
    block.unlink()


def random_file(folder):
    """A gigabyte that nothing makes smaller, the same every time."""
    source = random.Random(7)
    left = max(20_000_000, round(1e9 * SCALE))
    with open(folder / "random", "wb") as file:
        while left > 0:
            some = source.randbytes(min(left, 1 << 20))
            file.write(some)
            left -= len(some)


def project(volume, container):
    """A Compose file: the server on the volume, and an application that is healthy once it has its data."""
    return f"""services:
  postgres:
    image: lifeboat-lab/postgres:17
    container_name: {container}
    environment: {{POSTGRES_PASSWORD: bench, POSTGRES_DB: bench}}
    command: [-c, autovacuum=off]
    volumes: ["data:/var/lib/postgresql/data"]
    healthcheck:
      test: [CMD, pg_isready, -q, -h, 127.0.0.1]
      interval: 500ms
      retries: 240
  api:
    image: lifeboat-lab/app:1
    init: true
    command: [sleep, infinity]
    environment: {{PGPASSWORD: bench}}
    depends_on: {{postgres: {{condition: service_healthy}}}}
    healthcheck:
      test: [CMD-SHELL, "test $$(psql -h postgres -U postgres -d bench -tAc 'select count(*) from pgbench_branches') -gt 0"]
      interval: 500ms
      retries: 240
volumes:
  data: {{external: true, name: {volume}}}
"""

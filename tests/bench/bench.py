"""The workloads. What is measured and why is in docs/benchmarks.md."""

import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import data
import store
from rig import (
    LIFEBOAT, MIB, RUNS, SCALE, Failed, HelperPeak, Lifeboat, Ran, Rig, Server, Table, contest, must, output, say, shell, timed,
)  # fmt: skip

# Peak memory that backup and restore may take, in MiB.
MEMORY = 96


class Bench:
    def __init__(self, rig, table):
        self.rig = rig
        self.table = table
        self.shop_volume = None
        self.shop_content = None

    # The first data set is used by three workloads: made once, in a volume that one server after another mounts.

    def shop(self, image="17"):
        if self.shop_volume is None:
            volume = self.rig.volume()
            server = self.rig.server("17", volume)
            data.shop(server)
            self.shop_content = server.content()
            server.stop()
            self.shop_volume = volume
        server = self.rig.server(image, self.shop_volume)
        server.archive()  # so that the first contestant finds it in the page cache, as the others do
        return server

    def dump(self):
        server = self.shop()
        measured, stored = self.dumps("dump", server, ("F", "L", "P", "G"))
        add = self.adder("dump", measured)
        add("time / F", measured.ratios("lifeboat", "F"), 1.40)
        add("time / L", measured.ratios("lifeboat", "L"), 0.60)
        add("time / P", measured.ratios("lifeboat", "P"), 0.50)
        add("stored / P's file", stored, 1.05)
        add("time / G", measured.ratios("lifeboat", "G"))
        add("F / L", measured.ratios("F", "L"))
        server.stop()

    def dump_bare(self):
        server = self.shop("17-bare")
        measured, stored = self.dumps("dump-bare", server, ("L", "P"))
        add = self.adder("dump-bare", measured)
        add("time / P", measured.ratios("lifeboat", "P"), 1.00)
        add("time / L", measured.ratios("lifeboat", "L"))
        add("stored / P's file", stored)
        server.stop()

    def dumps(self, title, server, yardsticks, **selections):
        """Backups beside dumps of the stack's database; each backup is compared with a dump, byte by byte.

        `lifeboat` backs up the whole stack: roles and the database `postgres` as well. A selection is one
        more contestant, by name, with its options.
        """
        lifeboat = Lifeboat(self.rig)
        wanted = server.archive()
        theirs = self.rig.folder / "P"
        plain = self.rig.folder / "G"
        stored = []

        def backup(options):
            lifeboat.renew()
            ran = lifeboat.run("backup", server.name, "--quiet", *options)
            commit = lifeboat.latest()
            must("a complete backup", True, commit["complete"])
            must("the dump in the backup", wanted, lifeboat.archive())
            stored.append(commit["stored_size"])
            return ran

        whole = server.dump("-Fc", "-Z0")
        lines = {
            "F": lambda: timed(server.inside("pg_dump -Fc -Z0 -U postgres -d bench > /dev/null")),
            "L": lambda: shell(f"{whole} > /dev/null"),
            "P": lambda: shell(f"{whole} | zstd -q -T0 -3 | tee '{theirs}' | sha256sum"),
            "G": lambda: shell(f"{server.dump()} > '{plain}'"),
        }
        contestants = {"lifeboat": lambda: backup(())}
        contestants.update({name: lambda options=options: backup(options) for name, options in selections.items()})
        contestants.update({name: lines[name] for name in yardsticks})
        measured = contest(title, contestants, server.checkpoint)
        lifeboat.run("verify", "latest", "--deep")
        # What was stored restores to what was there.
        lifeboat.run("restore", "latest", "--only", "bench", "--as", "proof")
        must("the restored content", server.content(), server.content("proof"))
        server.drop("proof")
        sizes = [size / theirs.stat().st_size for size in stored] if theirs.exists() else []
        for file in (theirs, plain):
            file.unlink(missing_ok=True)
        return measured, sizes

    def small(self):
        for title, make in (
            ("500 tables", data.small_tables),
            ("10,000 large objects", data.large_objects),
            ("an empty database", lambda _: None),
        ):
            server = self.rig.server()
            make(server)
            # Like for like: the yardstick dumps one database, too.
            measured, _ = self.dumps(f"small, {title}", server, ("L",), alone=("--only", "bench"))
            allowed = [1.2 * seconds + 0.5 for seconds in measured.seconds("L")]
            add = self.adder("small", measured)
            for name, what, reach in (("alone", title, 1.00), ("lifeboat", f"{title}, whole stack", None)):
                ratios = [mine / most for mine, most in zip(measured.seconds(name), allowed)]
                add(f"{what}: time / (1.2 L + 0.5 s)", ratios, reach)
            server.stop()

    def restore(self):
        server = self.shop()
        lifeboat = Lifeboat(self.rig)
        lifeboat.run("backup", server.name, "--quiet")
        plain = self.rig.folder / "backup.sql"
        shell(f"{server.dump()} > '{plain}'")
        # Its own file, where it can seek, as `pg_restore --jobs` needs it.
        server.run("sh", "-c", "pg_dump -Fc -Z0 -U postgres -d bench -f /var/tmp/bench.dump")
        wanted = self.shop_content

        def judged(ran, database):
            must(f"the content of {database}", wanted, server.content(database))
            return ran

        def new():
            ran = lifeboat.run("restore", "latest", "--only", "bench", "--as", "new", "--quiet")
            judged(ran, "new")
            server.drop("new")
            return ran

        def in_place():
            ran = lifeboat.run("restore", "latest", "--only", "bench", "--in-place", "--yes", "--quiet")
            judged(ran, "bench")
            lifeboat.run("rollback", server.name, "--discard", "--yes")
            return ran

        def empty():
            server.sql("create database yardstick template template0", "postgres")
            server.checkpoint()

        def guide():
            empty()
            psql = f"docker exec -i {server.name} psql -v ON_ERROR_STOP=1 -U postgres -d yardstick"
            ran = judged(shell(f"{psql} < '{plain}'"), "yardstick")
            server.drop("yardstick")
            return ran

        def jobs():
            empty()
            ran = judged(timed(server.inside("pg_restore -j2 -U postgres -d yardstick /var/tmp/bench.dump")), "yardstick")
            server.drop("yardstick")
            return ran

        contestants = {"new": new, "in place": in_place, "G": guide, "pg_restore -j2": jobs}
        measured = contest("restore", contestants, server.checkpoint)
        add = self.adder("restore", measured)
        add("new database: time / G", measured.ratios("new", "G"), 0.70)
        add("new database: time / pg_restore -j2", measured.ratios("new", "pg_restore -j2"), 1.00)
        add("in place: time / G", measured.ratios("in place", "G"), 0.90)
        plain.unlink()
        server.stop()
        # In-place restores put new databases into the volume, and pg_restore's file was in the container.
        self.shop_volume = None

    def recover(self):
        """From nothing to a healthy application: volumes made, data in them, Compose's health checks green."""
        server = self.shop()
        lifeboat = Lifeboat(self.rig)
        lifeboat.run("backup", server.name, "--quiet")
        plain = self.rig.folder / "backup.sql"
        shell(f"{server.dump()} > '{plain}'")
        wanted, name, volume = self.shop_content, server.name, self.shop_volume
        server.stop()
        folder = self.rig.folder / "project"
        folder.mkdir()
        (folder / "compose.yaml").write_text(data.project(volume, name))
        compose = f"cd '{folder}' && docker compose -p {name}"
        recovery = f"'{LIFEBOAT}' recover {name} --no-pull --quiet && {compose} up -d --wait"
        environment = {"env": lifeboat.environment}

        def judged(work):
            output(["docker", "volume", "rm", volume])
            try:
                ran = work()
                must("the recovered content", wanted, Server(self.rig, name).content())
            finally:
                shell(f"{compose} down --timeout 60")
            return ran

        def by_hand():
            label = "com.docker.compose.project=none"
            return shell(
                f"docker volume create --label {label} {volume} && {compose} up -d --wait postgres"
                f" && docker compose -p {name} exec -T postgres psql -q -v ON_ERROR_STOP=1 -U postgres -d bench < '{plain}'"
                f" && docker compose -p {name} up -d --wait"
            )

        contestants = {
            "lifeboat": lambda: judged(lambda: shell(recovery, **environment)),
            "G": lambda: judged(by_hand),
        }
        measured = contest("recover", contestants)
        add = self.adder("recover", measured)
        add("to healthy: time / G", measured.ratios("lifeboat", "G"))
        add("to healthy: seconds", measured.seconds("lifeboat"), unit="{:.1f}")
        add("G, to healthy: seconds", measured.seconds("G"), unit="{:.1f}")
        plain.unlink()
        self.shop_volume = None

    def memory(self):
        for size, runs in ((1e9, RUNS), (10e9, 1)):
            size = round(size * SCALE)
            title = f"{size / 1e9:g} GB"
            # The database, its copy, the backup, and the log of both.
            needed = round(size * 3.5) + (3 << 30)
            if self.rig.free() < needed:
                self.table.skip("memory", title, f"needs {needed >> 30} GiB of free disk")
                continue
            volume = self.rig.volume()
            server = self.rig.server("17", volume, ["fsync=off"])
            data.bulk(server, size)
            wanted = server.content()
            # Beside the data with zstd, at the default level; without it all work is lifeboat's own, at the
            # highest level that the promise is made for.
            for image, level in (("17", "1"), ("17-bare", "3")):
                server.stop()
                server = self.rig.server(image, volume, ["fsync=off"])
                self.peaks(f"{title}, {'zstd in the image' if image == '17' else 'no zstd there'}, level {level}", server, level, wanted, runs)
            server.stop()

    def peaks(self, title, server, level, wanted, runs):
        lifeboat = Lifeboat(self.rig)

        def backup():
            lifeboat.renew()
            return lifeboat.run("backup", server.name, "--level", level, "--quiet")

        def restore():
            ran = lifeboat.run("restore", "latest", "--only", "bench", "--as", "new", "--quiet")
            must("the restored content", wanted, server.content("new"))
            server.drop("new")
            return ran

        measured = {"backup": [], "restore": []}
        for number in range(runs):
            # A restore is of the backup before it.
            for name, work in (("backup", backup), ("restore", restore)):
                ran = work()
                measured[name].append(ran.peak / MIB)
                say(f"memory, {title}, {name} {number + 1}/{runs}: {ran.peak / MIB:.0f} MiB, {ran.seconds:.1f} s")
        for name, values in measured.items():
            self.table.add("memory", f"{name}, {title}: peak MiB, worst", values, MEMORY, unit="{:.0f}", middle=max)
        lifeboat.renew()

    def redis(self):
        server = self.rig.redis()
        count = data.keys(server)
        wanted = server.content()
        lifeboat = Lifeboat(self.rig)
        theirs = self.rig.folder / "R.rdb"
        mine = self.rig.folder / "exported.rdb"
        client = server.client()
        stored = []

        def backup():
            lifeboat.renew()
            ran = lifeboat.run("backup", server.name, "--only", "redis/redis", "--quiet")
            commit = lifeboat.latest()
            must("a complete backup", True, commit["complete"])
            lifeboat.export("redis/redis", mine)
            must("keys in the backup", count, server.checked(mine))
            stored.append(commit["stored_size"])
            return ran

        def snapshot():
            theirs.unlink(missing_ok=True)
            ran = timed([*client, "--rdb", str(theirs)])
            must("keys in R's file", count, server.checked(theirs))
            return ran

        measured = contest("redis", {"lifeboat": backup, "R": snapshot}, server.rest)
        lifeboat.run("verify", "latest", "--deep")
        # What was stored is what was there.
        proof = self.rig.redis(mine)
        must("the content of the backup", wanted, proof.content())
        proof.stop()
        must("the server's content", wanted, server.content())
        add = self.adder("redis", measured)
        add("time / R", measured.ratios("lifeboat", "R"), 1.15)
        add("stored / R's file", [size / theirs.stat().st_size for size in stored])
        peaks = [ran.peak / MIB for ran in measured.runs["lifeboat"]]
        add("backup: peak MiB, worst", peaks, MEMORY, unit="{:.0f}", middle=max)
        for file in (theirs, mine):
            file.unlink()
        server.stop()

    def volume(self):
        for title, make in (("100,000 small files", data.small_files), ("one 4 GB file", data.large_file)):
            volume = self.rig.volume()
            files = Path(output(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume]))
            make(files)
            lifeboat = Lifeboat(self.rig)
            theirs = self.rig.folder / "T"
            peaks = []

            def backup():
                lifeboat.renew()
                with HelperPeak() as peak:
                    ran = lifeboat.run("volume", "backup", volume, "--quiet")
                peaks.append(peak.bytes / MIB)
                must("a complete backup", True, lifeboat.latest()["complete"])
                return ran

            tar = f"tar -C '{files}' -cf - . | zstd -q -1 -T0 > '{theirs}'"
            measured = contest(
                f"volume, {title}",
                {
                    "lifeboat": backup,
                    "T": lambda: shell(tar),
                    "T, synced": lambda: shell(f"{tar} && sync '{theirs}'"),
                },
            )
            lifeboat.run("verify", "latest", "--deep")
            # What was stored is what was there.
            proof = f"{volume}-proof"
            lifeboat.run("volume", "restore", "latest", "--as", proof, "--quiet")
            restored = output(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", proof])
            must("what differs", "", output(["diff", "-rq", str(files), restored]))
            output(["docker", "volume", "rm", proof])
            add = self.adder("volume", measured)
            add(f"{title}: time / T", measured.ratios("lifeboat", "T"), 1.10)
            add(f"{title}: time / T and sync", measured.ratios("lifeboat", "T, synced"))
            mine = [ran.peak / MIB for ran in measured.runs["lifeboat"]]
            add(f"{title}: peak MiB, worst", mine, MEMORY, unit="{:.0f}", middle=max)
            add(f"{title}, the helper: peak MiB, worst", peaks, MEMORY, unit="{:.0f}", middle=max)
            theirs.unlink()
            lifeboat.renew()
            output(["docker", "volume", "rm", volume])

    def upload(self):
        """A gigabyte that does not compress, into a bucket behind slow connections."""
        volume = self.rig.volume()
        files = Path(output(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume]))
        data.random_file(files)
        slow = store.Shaper()
        lifeboat = Lifeboat(self.rig)
        prefixes = [f"{lifeboat.folder.name}-{number}" for number in range(3)]
        lifeboat.environment.update(
            AWS_ENDPOINT_URL=slow.url, AWS_ACCESS_KEY_ID="bench", AWS_SECRET_ACCESS_KEY="bench"
        )

        def backup(count):
            for prefix in prefixes:
                store.remove(prefix)
            options = []
            for prefix in prefixes[:count]:
                address = f"s3://{store.BUCKET}/{prefix}"
                timed([LIFEBOAT, "repository", "init", "--repository", address], **lifeboat.options)
                options += ["--repository", address]
            ran = lifeboat.run("volume", "backup", volume, "--quiet", *options)
            lifeboat.run("verify", "latest", *options[:2])
            return ran

        def one_stream():
            store.remove(prefixes[0])
            seconds = store.one_stream(slow.url, files / "random", f"{prefixes[0]}/whole")
            return Ran(seconds, 0)

        contestants = {"lifeboat": lambda: backup(1), "to three": lambda: backup(3), "one stream": one_stream}
        measured = contest("upload", contestants)
        add = self.adder("upload", measured)
        # Five times as fast as one stream.
        add("1 GB: time / one stream's", measured.ratios("lifeboat", "one stream"), 0.20)
        add("1 GB to three: time / time to one", measured.ratios("to three", "lifeboat"))
        for name, reach in (("lifeboat", MEMORY), ("to three", 160)):
            mine = [ran.peak / MIB for ran in measured.runs[name]]
            add(f"{name}: peak MiB, worst", mine, reach, unit="{:.0f}", middle=max)
        for prefix in prefixes:
            store.remove(prefix)
        output(["docker", "volume", "rm", volume])

    def list(self):
        count = max(10, round(10_000 * SCALE))
        folder = self.rig.folder / "many"
        data.repository(folder, count)
        many = Lifeboat(self.rig, folder)
        listed = many.json("list")["backups"]
        must("backups in the list", count, len(listed))
        must("damaged ones", [], [one for one in listed if one["damaged"]])
        many.run("verify", listed[count // 2]["backup"])
        none = Lifeboat(self.rig)
        must("backups in an empty repository", [], none.json("list")["backups"])
        # These take milliseconds: more of them cost nothing.
        runs = 4 * RUNS
        contestants = {f"{count} backups": lambda: many.run("list"), "no backup": lambda: none.run("list")}
        measured = contest("list", contestants, runs=runs)
        add = self.adder("list", measured)
        for name, reach in ((f"{count} backups", 1.0), ("no backup", 0.030)):
            add(f"{name}: seconds", measured.seconds(name), reach, unit="{:.3f}")

    def adder(self, workload, measured):
        def add(measure, values, reach=None, **options):
            self.table.add(workload, measure, values, reach, measured, **options)

        return add


WORKLOADS = {
    "dump": Bench.dump,
    "dump-bare": Bench.dump_bare,
    "small": Bench.small,
    "restore": Bench.restore,
    "recover": Bench.recover,
    "redis": Bench.redis,
    "volume": Bench.volume,
    "upload": Bench.upload,
    "memory": Bench.memory,
    "list": Bench.list,
}


def machine():
    """What the figures were measured on; nothing that names the machine."""

    def first(path, key):
        with open(path) as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(key)), "?")

    memory = int(first("/proc/meminfo", "MemTotal").split()[0]) / MIB
    engine = output(["docker", "version", "--format", "{{.Server.Version}}"])
    return (
        f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, {output([LIFEBOAT, '--version'])}, {os.cpu_count()} × {first('/proc/cpuinfo', 'model name')},"
        f" {memory:.0f} GiB, Linux {platform.release().split('-')[0]}, Docker Engine {engine}, {RUNS} runs"
    )


def main():
    chosen = sys.argv[1:] or list(WORKLOADS)
    unknown = [name for name in chosen if name not in WORKLOADS]
    if unknown:
        sys.exit(f"usage: tests/bench/run [{' | '.join(WORKLOADS)}]…")
    if not os.access(LIFEBOAT, os.X_OK):
        sys.exit(f"bench: no program at {LIFEBOAT}: cargo build --release --locked")
    table = Table()
    try:
        about = machine()
        with Rig() as rig:
            bench = Bench(rig, table)
            for name in chosen:
                WORKLOADS[name](bench)
    except (Failed, OSError, subprocess.SubprocessError) as failure:
        say(f"FAILED: {failure}")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if table.rows:
            print(f"{about}\n")
            table.print()
    return 0


if __name__ == "__main__":
    sys.exit(main())

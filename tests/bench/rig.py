"""What every workload stands on: timed runs side by side, servers in containers, the program, the table."""

import json
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

RUNS = int(os.environ.get("BENCH_RUNS", "5"))
SCALE = float(os.environ.get("BENCH_SCALE", "1"))
LIFEBOAT = str(Path(os.environ.get("LIFEBOAT") or Path(__file__).parents[2] / "target/release/lifeboat").resolve())
NAME = f"lifeboat-bench-{os.getpid()}"
MIB = 1 << 20
REDIS = "lifeboat-lab/redis:7.0"

# How many seconds to wait, before each run, for others to leave the processors alone.
PATIENCE = float(os.environ.get("BENCH_PATIENCE", "30"))
# The share of the processors that others may use before and after a run.
QUIET = 0.25
# How often a run is tried that others disturbed.
TRIES = 3


class Failed(Exception):
    """Something did not do what it should: no figure is worth anything then."""


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


# Timed runs


class Ran:
    """A command that has ended well: how long it took, and its largest resident size in bytes."""

    def __init__(self, seconds, peak):
        self.seconds = seconds
        self.peak = peak


def timed(argv, stdin=None, stdout=subprocess.DEVNULL, **options):
    """Runs a command to its end, which must be a good one. Only the command's own time counts."""
    with tempfile.TemporaryFile() as errors:
        begun = time.monotonic()
        process = subprocess.Popen(argv, stdin=stdin or subprocess.DEVNULL, stdout=stdout, stderr=errors, **options)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            raise
        seconds = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            said = errors.read()[-2000:].decode(errors="replace").strip()
            raise Failed(f"{shlex.join(argv)} ended with {process.returncode}: {said}")
    return Ran(seconds, usage.ru_maxrss * 1024)


def shell(script, **options):
    """A pipeline of which every part must end well."""
    return timed(["bash", "-o", "pipefail", "-c", script], **options)


def output(argv, stdin=None, **options):
    """What a command prints, untimed; it must end well, and say nothing on standard error."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, **options)
    if done.returncode != 0 or done.stderr.strip():
        raise Failed(f"{shlex.join(argv)} ended with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout.strip()


def busy(seconds=0.4):
    """The share of all processors that somebody used, while nothing of ours was running."""

    def sample():
        with open("/proc/stat") as file:
            ticks = [int(value) for value in file.readline().split()[1:9]]
        return sum(ticks), ticks[3] + ticks[4]

    total, idle = sample()
    time.sleep(seconds)
    total_after, idle_after = sample()
    return 1 - (idle_after - idle) / max(1, total_after - total)


def load():
    with open("/proc/loadavg") as file:
        return float(file.read().split()[0])


class Measured:
    """The runs of several contestants, in rounds, so that what one round suffers all of them do."""

    def __init__(self):
        self.runs = {}
        self.loads = []
        self.disturbed = 0

    def seconds(self, name):
        return [ran.seconds for ran in self.runs[name]]

    def ratios(self, name, against):
        return [mine / theirs for mine, theirs in zip(self.seconds(name), self.seconds(against))]


def undisturbed(run, before, log):
    """Runs while others leave the processors alone, as far as that can be had: of some tries, the quietest."""
    best = None
    for _ in range(TRIES):
        before()
        os.sync()
        until = time.monotonic() + PATIENCE
        others = busy()
        while others > QUIET and time.monotonic() < until:
            others = busy(2)
        average = load()
        ran = run()
        others = max(others, busy())
        log(f"{ran.seconds:.3f} s, peak {ran.peak / MIB:.0f} MiB (load {average:.2f}, others {others:.0%})")
        if best is None or others < best[2]:
            best = (ran, average, others)
        if others <= QUIET:
            break
    return best


def contest(title, contestants, before=lambda: None, runs=RUNS):
    """Runs each contestant `runs` times, interleaved, each round beginning with another one.

    A contestant is a function that returns its `Ran`; what it does beside that is not timed.
    """
    measured = Measured()
    names = list(contestants)
    for number in range(runs):
        begin = number % len(names)
        for name in names[begin:] + names[:begin]:
            prefix = f"{title} {number + 1}/{runs} {name}: "
            ran, average, others = undisturbed(contestants[name], before, lambda text: say(prefix + text))
            measured.runs.setdefault(name, []).append(ran)
            measured.loads.append(average)
            measured.disturbed += others > QUIET
    return measured


# The table


class Table:
    def __init__(self):
        self.rows = []

    def add(self, workload, measure, values, reach=None, measured=None, unit="{:.2f}", middle=statistics.median):
        """A row; `reach` is the most that the middle of the values may be, or nothing where it only informs."""
        value = middle(values)
        verdict = "–" if reach is None else "smoke" if SCALE != 1 else "met" if value <= reach else "missed"
        loads = f"{min(measured.loads):.1f}–{max(measured.loads):.1f}" if measured else ""
        if measured and measured.disturbed:
            loads += f", {measured.disturbed} of {len(measured.loads)} runs disturbed"
        spread = f"{unit.format(min(values))}–{unit.format(max(values))}"
        shown = "" if reach is None else "≤ " + unit.format(reach)
        self.rows.append((workload, measure, unit.format(value), spread, shown, verdict, str(len(values)), loads))

    def skip(self, workload, measure, why):
        self.rows.append((workload, measure, "", "", "", "not measured: " + why, "", ""))

    def print(self):
        head = ("workload", "measure", "median", "spread", "reach", "", "runs", "load before")
        rows = [head, *self.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        for number, row in enumerate(rows):
            print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
            if number == 0:
                print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
        if SCALE != 1:
            print(f"\nA smoke run at {SCALE} of the size: these figures say nothing.")


# Containers and files


class Rig:
    """Makes things that are removed at the end, however it ends."""

    def __init__(self):
        for name in ("SIGTERM", "SIGHUP"):
            signal.signal(getattr(signal, name), lambda number, _: sys.exit(128 + number))
        parent = os.environ.get("BENCH_DIR") or "/var/tmp"
        self.folder = Path(tempfile.mkdtemp(prefix=f"{NAME}-", dir=parent))
        self.containers = []
        self.volumes = []
        self.number = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for container in list(self.containers):
            self.remove(container)
        for volume in self.volumes:
            subprocess.run(["docker", "volume", "rm", "-f", volume], stdout=subprocess.DEVNULL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def name(self):
        self.number += 1
        return f"{NAME}-{self.number}"

    def volume(self):
        name = self.name()
        self.volumes.append(name)
        output(["docker", "volume", "create", "--label", "lifeboat-bench", name])
        return name

    def remove(self, container):
        subprocess.run(["docker", "rm", "-fv", container], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.containers.remove(container)

    def container(self, service, *argv, data=None):
        """Starts a container that looks like the one service of a Compose stack, with a file `(from, to)` in it; its name."""
        name = self.name()
        labels = ("lifeboat-bench", f"com.docker.compose.project={name}", f"com.docker.compose.service={service}")
        self.containers.append(name)
        output(["docker", "create", "--name", name, *(word for label in labels for word in ("--label", label)), *argv])
        if data:
            timed(["docker", "cp", str(data[0]), f"{name}:{data[1]}"])
        output(["docker", "start", name])
        return name

    def server(self, image="17", volume=None, settings=()):
        """A PostgreSQL server."""
        argv = ["-e", "POSTGRES_PASSWORD=bench", "-e", "POSTGRES_DB=bench"]
        if volume:
            argv += ["-v", f"{volume}:/var/lib/postgresql/data"]
        argv.append(f"lifeboat-lab/postgres:{image}")
        # Its own work would fall now into this contestant's time, now into that one's.
        for setting in ("autovacuum=off", *settings):
            argv += ["-c", setting]
        return Server(self, self.container("postgres", *argv))

    def redis(self, snapshot=None):
        """A Redis server that this machine reaches, empty or with what is in a snapshot."""
        argv = ["-p", "127.0.0.1::6379", REDIS, "--enable-debug-command", "local"]
        # A wait before a synchronisation would be the same for everybody, and hide what is measured; snapshots of
        # its own would fall now into one contestant's time, now into another's.
        argv += ["--repl-diskless-sync-delay", "0", "--save", ""]
        return Redis(self, self.container("redis", *argv, data=snapshot and (snapshot, "/data/dump.rdb")))

    def free(self):
        """Free bytes where the containers' volumes are, and here; the less of both where they differ."""
        root = output(["docker", "info", "--format", "{{.DockerRootDir}}"])
        return min(shutil.disk_usage(path).free for path in (root, self.folder) if os.path.exists(path))


class Container:
    """Its name is its stack's."""

    def __init__(self, rig, name, ready):
        """Waits until the command `ready` ends well in it."""
        self.rig = rig
        self.name = name
        until = time.monotonic() + 120
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        while subprocess.run(["docker", "exec", name, *ready], **quiet).returncode:
            if time.monotonic() > until:
                raise Failed(f"{name} does not get ready")
            time.sleep(0.3)

    def stop(self):
        output(["docker", "stop", "-t", "60", self.name])
        self.rig.remove(self.name)

    def run(self, *argv):
        return output(["docker", "exec", self.name, *argv])

    def inside(self, script):
        """A line for the container's shell."""
        return ["docker", "exec", self.name, "sh", "-c", script]


class Server(Container):
    """PostgreSQL."""

    def __init__(self, rig, name):
        # Over TCP, where the temporary server of the first initialisation does not listen.
        super().__init__(rig, name, ["pg_isready", "-q", "-h", "127.0.0.1"])

    def sql(self, script, database="bench"):
        argv = ["docker", "exec", "-i", self.name, "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-U", "postgres"]
        return output([*argv, "-d", database], stdin=script)

    def checkpoint(self):
        self.sql("checkpoint", "postgres")

    def drop(self, database):
        self.sql(f'drop database if exists "{database}" with (force)', "postgres")
        self.checkpoint()

    def dump(self, *options, database="bench"):
        """A `pg_dump` in its container, as part of a shell's line."""
        return shlex.join(["docker", "exec", self.name, "pg_dump", "-U", "postgres", "-d", database, *options])

    def archive(self, database="bench"):
        """The digest of a dump, without its beginning, which holds the time; computed beside the server."""
        return self.run("sh", "-c", f"pg_dump -Fc -Z0 -U postgres -d {database} | tail -c +65 | sha256sum").split()[0]

    def content(self, database="bench"):
        """The digest of every row of every table in order, the sequences, the large objects and the definitions."""
        rows = """
select format('select %L', t), format('copy (select * from %s order by 1) to stdout', t)
  from (select oid::regclass::text t from pg_class
         where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1) tables \\gexec
select format('select %L, last_value, is_called from %s', s, s)
  from (select oid::regclass::text s from pg_class
         where relkind = 'S' and relnamespace = 'public'::regnamespace order by 1) sequences \\gexec
copy (select loid, pageno, encode(data, 'hex') from pg_largeobject order by 1, 2) to stdout;
select 'whole';
"""
        script = (
            f"{{ psql -XqAt -v ON_ERROR_STOP=1 -U postgres -d {database} || echo failed >&2; }} | sha256sum; "
            f"pg_dump -U postgres -d {database} --schema-only | grep -v '^.\\(un\\)\\?restrict ' | sha256sum"
        )
        return output(["docker", "exec", "-i", self.name, "sh", "-c", script], stdin=rows)


class Redis(Container):
    def __init__(self, rig, name):
        # It answers PING while it loads, with an error.
        super().__init__(rig, name, ["sh", "-c", "redis-cli ping | grep -qx PONG"])

    def ask(self, *words):
        return self.run("redis-cli", "-e", *words)

    def load(self, commands):
        """Runs commands, of which each is a line as bytes, without waiting for the answers one by one."""
        argv = ["docker", "exec", "-i", self.name, "redis-cli", "--pipe"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
            try:
                client.stdin.writelines(commands)
            except BrokenPipeError:
                pass
            said, _ = client.communicate()
        if client.returncode != 0:
            raise Failed(f"redis-cli --pipe ended with {client.returncode}: {said[-2000:].decode(errors='replace')}")

    def rest(self):
        """Waits until nothing of an earlier snapshot goes on."""
        until = time.monotonic() + 60
        while not {"rdb_bgsave_in_progress:0", "connected_slaves:0"} <= set(self.ask("info", "everything").split()):
            if time.monotonic() > until:
                raise Failed(f"{self.name} does not come to rest")
            time.sleep(0.1)

    def client(self):
        """The image's `redis-cli` as a program of this machine, connected to the published port."""
        folder = self.rig.folder / "redis-cli"
        libraries = re.findall(r"(/\S+) \(0x", self.run("ldd", "/usr/bin/redis-cli"))
        if not folder.exists():
            folder.mkdir()
            files = shlex.join(["/usr/bin/redis-cli", *libraries])
            shell(f"docker exec {self.name} tar -chf - {files} | tar -xf - -C '{folder}'")
        (loader,) = [file for file in libraries if "/ld-" in file]
        places = ":".join(sorted({f"{folder}{os.path.dirname(file)}" for file in libraries}))
        port = output(["docker", "port", self.name, "6379/tcp"]).split()[0].rsplit(":", 1)[1]
        return [f"{folder}{loader}", "--library-path", places, f"{folder}/usr/bin/redis-cli", "-h", "127.0.0.1", "-p", port]

    def checked(self, snapshot):
        """How many keys a snapshot has; it must be whole, as Redis's own tool sees it."""
        argv = ["docker", "run", "--rm", "--network", "none", "-v", f"{snapshot.parent}:/snapshot:ro", REDIS]
        said = output([*argv, "redis-check-rdb", f"/snapshot/{snapshot.name}"])
        if "RDB looks OK" not in said:
            raise Failed(f"redis-check-rdb: {said[-2000:]}")
        return int(re.search(r"(\d+) keys read", said)[1])

    def content(self):
        """The digest of every key with its value, and how many there are in each database."""
        keyspace = re.sub(r",avg_ttl=\d+", "", self.ask("info", "keyspace"))
        return self.ask("debug", "digest"), keyspace.split()


class Lifeboat:
    """The program, with a repository and a state of its own and nothing of this shell's settings."""

    def __init__(self, rig, repository=None):
        self.folder = rig.folder / f"lifeboat-{rig.name()}"
        self.folder.mkdir()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("LIFEBOAT_")}
        self.environment.update(
            LIFEBOAT_REPOSITORY=str(repository or self.folder / "repository"),
            LIFEBOAT_STATE_DIR=str(self.folder / "state"),
            XDG_CONFIG_HOME=str(self.folder / "config"),
        )
        self.options = {"cwd": self.folder, "env": self.environment}
        if repository is None:
            self.renew()

    def renew(self):
        """An empty repository in the place of the last one."""
        shutil.rmtree(self.folder / "repository", ignore_errors=True)
        timed([LIFEBOAT, "repository", "init"], **self.options)

    def run(self, *arguments, stdout=subprocess.DEVNULL):
        """Timed."""
        return timed([LIFEBOAT, *arguments], stdout=stdout, **self.options)

    def json(self, *arguments):
        """The result; untimed."""
        done = subprocess.run([LIFEBOAT, *arguments, "--json"], capture_output=True, text=True, **self.options)
        if done.returncode != 0:
            raise Failed(f"lifeboat {shlex.join(arguments)} ended with {done.returncode}: {done.stdout[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    def archive(self, artifact="bench"):
        """The digest of the newest backup's dump, as `Server.archive` makes it."""
        export = shlex.join([LIFEBOAT, "export", "latest", artifact])
        script = f"{export} | tail -c +65 | sha256sum"
        done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, **self.options)
        if done.returncode != 0:
            raise Failed(f"{script} ended with {done.returncode}: {done.stderr}")
        return done.stdout.split()[0]

    def export(self, artifact, file):
        """One artifact of the newest backup in a file; untimed."""
        file.unlink(missing_ok=True)
        self.run("export", "latest", artifact, "--output", str(file))

    def latest(self):
        """The newest backup's commit."""
        return self.json("list")["backups"][0]["commit"]


class HelperPeak:
    """The largest resident size of any helper that runs meanwhile, as the kernel counts it."""

    def __enter__(self):
        self.bytes = 0
        self.ended = threading.Event()
        self.watcher = threading.Thread(target=self.watch)
        self.watcher.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.watcher.join()

    def watch(self):
        while not self.ended.wait(0.05):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if b"helper-serve" not in (process / "cmdline").read_bytes():
                        continue
                    status = (process / "status").read_text()
                except OSError:
                    continue  # It has ended since.
                peak = re.search(r"VmHWM:\s+(\d+) kB", status)
                if peak:
                    self.bytes = max(self.bytes, int(peak[1]) * 1024)


def must(what, wanted, found):
    if wanted != found:
        raise Failed(f"{what}: {found} instead of {wanted}")

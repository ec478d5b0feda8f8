//! A real PostgreSQL server in a container of its own, and the real program with folders of its own.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const IMAGE: &str = "lifeboat-lab/postgres:17";
/// How long a condition may take to come about. Never a measure of speed.
const PATIENCE: Duration = Duration::from_mins(2);

/// Looks again and again until `look` gives something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "it never came about: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// As [`until`], for a condition.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    until(what, || holds().then_some(()));
}

/// Runs `docker`; what it printed, where it succeeded.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A name that no other test and no other run of the tests uses.
pub(crate) fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("faults-{what}-{}-{count}", std::process::id())
}

/// A container with a PostgreSQL server; removed with its volumes on drop.
pub(crate) struct Server {
    pub(crate) id: String,
    /// The Compose project that it is in; its service is `postgres`.
    pub(crate) stack: String,
    user: String,
}

impl Server {
    /// A server of version 17 that trusts local connections.
    pub(crate) fn start(what: &str) -> Self {
        Self::with(what, IMAGE, &[])
    }

    pub(crate) fn with(what: &str, image: &str, options: &[&str]) -> Self {
        let server = Self::create(what, image, options, &["-c", "fsync=off"]);
        wait_for("the server accepts connections", || {
            server
                .exec(&["pg_isready", "-q", "-h", "127.0.0.1"])
                .status
                .success()
        });
        server
    }

    /// As [`Self::with`], without waiting for a server; `command` is the container's.
    pub(crate) fn create(what: &str, image: &str, options: &[&str], command: &[&str]) -> Self {
        let stack = unique(what);
        let project = format!("com.docker.compose.project={stack}");
        let mut arguments = vec!["run", "-d", "--log-driver=none", "--label", &project];
        arguments.extend(["--label", "com.docker.compose.service=postgres"]);
        if !options
            .iter()
            .any(|option| option.starts_with("POSTGRES_PASSWORD"))
        {
            arguments.extend(["-e", "POSTGRES_PASSWORD=for-tests"]);
        }
        arguments.extend(options);
        arguments.push(image);
        arguments.extend(command);
        let user = options
            .iter()
            .find_map(|option| option.strip_prefix("POSTGRES_USER="))
            .unwrap_or("postgres");
        Self {
            id: docker(&arguments),
            stack,
            user: user.to_owned(),
        }
    }

    /// Runs a program in the container.
    pub(crate) fn exec(&self, command: &[&str]) -> Output {
        Command::new("docker")
            .args(["exec", &self.id])
            .args(command)
            .output()
            .unwrap()
    }

    fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new("docker");
        psql.args([
            "exec",
            "-i",
            "-e",
            "PGPASSWORD=for-tests",
            &self.id,
            "psql",
            "-X",
            "-tAq",
        ]);
        psql.args(["-v", "ON_ERROR_STOP=1", "-U", &self.user, "-d", database]);
        psql
    }

    /// Runs statements; the rows that they gave, as psql prints them.
    pub(crate) fn sql(&self, database: &str, statements: &str) -> String {
        let mut psql = self.psql(database);
        psql.args(["-f", "-"]).stdin(Stdio::piped());
        let mut child = psql
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(statements.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{statements}: {stderr}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A database `app` with a table `items` of so many kilobytes that do not compress.
    pub(crate) fn fill(&self, kilobytes: u32) {
        self.sql("postgres", "create database app");
        self.sql(
            "app",
            &format!(
                "create table items (id int primary key, body bytea);
                 alter table items alter body set storage external;
                 insert into items select n, (select string_agg(sha256((random()::text || n || m)::bytea), '')
                   from generate_series(1, 32) m) from generate_series(1, {kilobytes}) n;"
            ),
        );
    }

    /// Every database with its tables' row counts, as one text.
    pub(crate) fn contents(&self) -> String {
        let names = self.sql(
            "postgres",
            "select datname from pg_database where datallowconn order by 1",
        );
        let mut all = String::new();
        for name in names.lines() {
            let counts = self.sql(
                name,
                "select relname, (xpath('/row/c/text()', query_to_xml(format('select count(*) as c from %s', oid::regclass), \
                 false, true, '')))[1] from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1",
            );
            writeln!(all, "{name}: {counts}").unwrap();
        }
        all
    }

    /// The application names of lifeboat's sessions on the server.
    pub(crate) fn sessions(&self) -> Vec<String> {
        self.sql(
            "postgres",
            "select application_name from pg_stat_activity where application_name like 'lifeboat-%'",
        )
        .lines()
        .map(str::to_owned)
        .collect()
    }

    /// Locks a table of `app` until the guard is dropped: a dump of it waits.
    pub(crate) fn lock_table(&self, table: &str) -> TableLock<'_> {
        let mut psql = self.psql("app");
        let statements = format!(
            "set application_name to 'locker'; begin; lock table {table} in access exclusive mode; select pg_sleep(3600)"
        );
        psql.args(["-c", &statements]).stdin(Stdio::null());
        let child = psql
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let guard = TableLock {
            server: self,
            child,
        };
        wait_for("the table is locked", || {
            self.sql(
                "postgres",
                "select count(*) from pg_stat_activity where application_name = 'locker' and wait_event = 'PgSleep'",
            ) == "1"
        });
        guard
    }

    /// Waits until a dump waits for a table's lock; the run that it belongs to.
    pub(crate) fn dump_waits(&self) -> String {
        until("a dump waits for a lock", || {
            let name = self.sql(
                "postgres",
                "select application_name from pg_stat_activity \
                 where application_name like 'lifeboat-%' and wait_event_type = 'Lock'",
            );
            (!name.is_empty()).then_some(name)
        })
    }

    /// How many containers hold the stack's lock.
    pub(crate) fn locks(&self) -> usize {
        let label = format!("label=dev.lifeboat.stack={}", self.stack);
        docker(&["ps", "-aq", "--filter", &label]).lines().count()
    }

    /// What runs in the container.
    pub(crate) fn processes(&self) -> String {
        docker(&["top", &self.id, "-eo", "pid,args"])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("docker")
            .args(["rm", "-fv", &self.id])
            .output();
    }
}

/// A session that holds a table's lock.
pub(crate) struct TableLock<'a> {
    server: &'a Server,
    child: Child,
}

impl Drop for TableLock<'_> {
    fn drop(&mut self) {
        let end = "select pg_terminate_backend(pid, 10000) from pg_stat_activity where application_name = 'locker'";
        // The container may be gone: then so is the lock.
        let _ = self
            .server
            .psql("postgres")
            .args(["-c", end])
            .stdin(Stdio::null())
            .output();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a run of the program did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Everything that it printed.
    pub(crate) fn text(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }

    /// The last line of JSON.
    pub(crate) fn json(&self) -> Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|_| panic!("{self:?}"))
    }

    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.text());
        self
    }

    /// Asserts that each of `parts` was printed.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(
                self.text().contains(part),
                "no {part:?} in: {}",
                self.text()
            );
        }
        self
    }
}

/// Folders for the program, and the program in them.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) repository: PathBuf,
    /// Further variables.
    pub(crate) env: BTreeMap<String, String>,
}

impl Place {
    /// With a new repository.
    pub(crate) fn new() -> Self {
        let place = Self::without_repository();
        place.init();
        place
    }

    pub(crate) fn without_repository() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            repository: folder.path().join("repository"),
            folder,
            env: BTreeMap::new(),
        }
    }

    pub(crate) fn init(&self) {
        self.run(&["repository", "init"]).expect_code(0);
    }

    /// Writes the configuration.
    pub(crate) fn configure(&self, text: &str) {
        fs::write(self.folder.path().join("lifeboat.toml"), text).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        for name in ["LIFEBOAT_CONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME"] {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("LIFEBOAT_STATE_DIR", self.folder.path().join("state"))
            .env("LIFEBOAT_REPOSITORY", &self.repository)
            .envs(&self.env)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).output().unwrap())
    }

    /// Starts `arguments` with `--json`.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running {
            child,
            lines,
            seen: String::new(),
        }
    }

    /// What `list` shows: ids, newest first, and whether complete.
    pub(crate) fn list(&self) -> Vec<(String, bool)> {
        let listed = self.run(&["list", "--json"]).expect_code(0).json();
        let backups = listed["backups"].as_array().unwrap();
        backups
            .iter()
            .map(|backup| {
                assert!(backup["damaged"].is_null(), "{backup}");
                let id = backup["backup"].as_str().unwrap().to_owned();
                (id, backup["commit"]["complete"].as_bool().unwrap())
            })
            .collect()
    }

    /// Every file of the repository, but for the one that is only ever locked.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(&self.repository, &mut found);
        found.retain(|path| !path.ends_with("lifeboat-repository.lock"));
        found.sort();
        found
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    // A folder may vanish while it is looked at.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            walk(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

pub(crate) fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The program at work; killed on drop.
pub(crate) struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
    seen: String,
}

impl Running {
    /// The next line of JSON; none where it has ended.
    pub(crate) fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        if self.lines.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        self.seen.push_str(&line);
        Some(serde_json::from_str(&line).unwrap())
    }

    /// Reads on until a line holds `text`.
    pub(crate) fn line_with(&mut self, text: &str) {
        while let Some(line) = self.line() {
            if line.to_string().contains(text) {
                return;
            }
        }
        panic!("it ended without {text:?}: {}", self.seen);
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args(["-s", signal, &pid])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        let mut stdout = std::mem::take(&mut self.seen);
        self.lines.read_to_string(&mut stdout).unwrap();
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        let code = self.child.wait().unwrap().code();
        Ran {
            code,
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! One PostgreSQL server in a container: who to be, what it holds, and SQL to it.
//!
//! SQL runs over `tokio-postgres` through a bridge inside the container, so that no published port is
//! needed: bash's `/dev/tcp`, else `socat`, `nc` or perl. Where an image has none of them, what can
//! be asked with the image's own `psql` still is, and the rest is said to be unavailable.

use super::quote::conninfo;
use crate::docker::Engine;
use crate::docker::exec::Command;
use crate::error::{Error, OrFail, Result};
use crate::secret::Secret;
use crate::stack::Service;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

/// Runs before every PostgreSQL program in a container. The password never leaves the container:
/// its shell reads the file or the variable that the image itself was given.
const PASSWORD_FROM_CONTAINER: &str = r#"
if [ -z "${PGPASSWORD:-}" ]; then
  if [ -n "${POSTGRES_PASSWORD_FILE:-}" ] && [ -r "${POSTGRES_PASSWORD_FILE}" ]; then
    PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
  else
    PGPASSWORD=${POSTGRES_PASSWORD:-}
  fi
  if [ -n "$PGPASSWORD" ]; then export PGPASSWORD; else unset PGPASSWORD; fi
fi
"#;

/// Connects standard input and output to the server, with the first tool that the image has.
///
/// The `wait` behind the `kill` keeps the server up: a child that outlives its shell is handed to process 1,
/// which is the server itself, and that takes a child's death by a signal for a crash of its own and
/// ends every session (`CleanupBackend` in postmaster.c; measured on 15).
const BRIDGE: &str = r#"
if command -v bash >/dev/null 2>&1; then
  exec bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 97; cat <&3 & pid=$!; cat >&3; kill $pid 2>/dev/null; wait $pid 2>/dev/null' bash "$1"
elif command -v socat >/dev/null 2>&1; then
  exec socat - "TCP:127.0.0.1:$1"
elif command -v nc >/dev/null 2>&1; then
  exec nc 127.0.0.1 "$1"
elif command -v perl >/dev/null 2>&1; then
  exec perl -MIO::Socket::INET -e '
    my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$ARGV[0]") or exit 97;
    my $pid = fork();
    if ($pid == 0) { while (sysread($s, my $b, 65536)) { syswrite(STDOUT, $b) } exit 0 }
    while (sysread(STDIN, my $b, 65536)) { syswrite($s, $b) }
    $s->shutdown(1); waitpid($pid, 0);' "$1"
fi
exit 98
"#;

/// How long a connection through the bridge may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);

/// Who lifeboat is to the server, where the container does not say it or says it wrong.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The role; by default the image's `POSTGRES_USER`, else `postgres`.
    pub user: Option<String>,
    /// The role's password; by default what the container itself was given.
    pub password: Option<Secret>,
}

/// A PostgreSQL server in a running container.
#[derive(Debug, Clone)]
pub struct Server {
    engine: Engine,
    service: Arc<Service>,
    user: String,
    password: Option<Secret>,
    application_name: String,
}

/// A database of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Bytes on the server's disk; 0 where it could not be asked.
    pub size: u64,
}

impl Server {
    /// The server in `service`; its sessions carry `run` in their application name, so that what a
    /// dead run left behind can be found and ended.
    pub fn new(engine: &Engine, service: &Service, credentials: &Credentials, run: &str) -> Self {
        let user = credentials
            .user
            .clone()
            .or_else(|| service.env.get("POSTGRES_USER").cloned())
            .unwrap_or_else(|| "postgres".to_owned());
        Self {
            engine: engine.clone(),
            service: Arc::new(service.clone()),
            user,
            password: credentials.password.clone(),
            application_name: format!("lifeboat-{run}"),
        }
    }

    /// The engine that the server runs on.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The container that the server runs in.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// The role that lifeboat is.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// What this run's sessions are called in `pg_stat_activity`.
    pub fn application_name(&self) -> &str {
        &self.application_name
    }

    /// A PostgreSQL program of the container, with the credentials and the session settings that a
    /// long silent run needs: a dump must not end because the server's own timeouts fire.
    pub(crate) fn program(&self, argv: &[&str]) -> Command {
        let (program, arguments) = argv
            .split_first()
            .map_or(("", argv), |(first, rest)| (*first, rest));
        let mut command = Command::new(program, arguments.iter().copied())
            .env("PGAPPNAME", &self.application_name)
            .env(
                "PGOPTIONS",
                "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0",
            )
            .env("PGCONNECT_TIMEOUT", "20")
            .env("LC_ALL", "C.UTF-8")
            .preamble(PASSWORD_FROM_CONTAINER);
        if let Some(password) = &self.password {
            command = command.secret_env("PGPASSWORD", password.clone());
        }
        if let Some(user) = self.service.labels.get("lifeboat.exec-user") {
            command = command.user(user);
        }
        command
    }

    /// The server's port inside the container.
    fn port(&self) -> &str {
        self.service
            .env
            .get("PGPORT")
            .map_or("5432", String::as_str)
    }

    /// Waits until the server answers over TCP. During first initialisation a temporary server answers
    /// on the socket alone (docker-library/postgres#880), so the socket proves nothing.
    pub async fn wait_ready(&self, deadline: Duration) -> Result<()> {
        let command = self.program(&[
            "pg_isready",
            "-q",
            "-h",
            "127.0.0.1",
            "-p",
            self.port(),
            "-U",
            &self.user,
            "-d",
            "postgres",
        ]);
        let wait = async {
            loop {
                let output = self
                    .engine
                    .run(&self.service.container_id, &command)
                    .await?;
                match output.status {
                    0 => return Ok(()),
                    // 126 and 127: there is no such program in the image; asking again won't help.
                    126 | 127 => return Err(self.no_such_program("pg_isready", &output.stderr)),
                    _ => tokio::time::sleep(Duration::from_millis(250)).await,
                }
            }
        };
        tokio::time::timeout(deadline, wait)
            .await
            .unwrap_or_else(|_| {
                Err(Error::failed(format!(
                    "the PostgreSQL server of service {} does not accept connections",
                    self.service.name
                ))
                .hint(format!(
                    "look at its log: docker logs {}",
                    self.service.container_name
                )))
            })
    }

    fn no_such_program(&self, program: &str, stderr: &str) -> Error {
        Error::failed(format!(
            "service {} has no {program} in its image {}: {}",
            self.service.name,
            self.service.image,
            stderr.trim()
        ))
        .hint("lifeboat dumps with the container's own PostgreSQL programs; is this a PostgreSQL image?")
    }

    /// The databases that can be connected to, templates excluded, by name. Asked with the image's
    /// own `psql`, which is there wherever `pg_dump` is.
    pub async fn databases(&self) -> Result<Vec<Database>> {
        self.databases_where("true").await
    }

    /// The databases that a backup holds: all but those that lifeboat itself keeps aside or is
    /// restoring into, which carry its mark.
    pub async fn databases_to_capture(&self) -> Result<Vec<Database>> {
        self.databases_where(
            "not exists (select from pg_db_role_setting s, unnest(s.setconfig) entry \
             where s.setdatabase = d.oid and s.setrole = 0 and entry like 'lifeboat.%')",
        )
        .await
    }

    async fn databases_where(&self, condition: &str) -> Result<Vec<Database>> {
        // A connection limit of -2 marks what an interrupted DROP DATABASE has left (PostgreSQL 15.4).
        let query = format!(
            "select datname, pg_database_size(oid) from pg_database d \
             where datallowconn and not datistemplate and datconnlimit <> -2 and {condition} \
             order by datname"
        );
        let rows = self.psql(&query).await?;
        rows.iter()
            .map(|row| match &row[..] {
                [name, size] => Ok(Database {
                    name: name.clone(),
                    size: size.parse().unwrap_or(0),
                }),
                _ => Err(Error::failed(format!(
                    "psql printed a row of {} columns",
                    row.len()
                ))),
            })
            .collect()
    }

    /// The server's version as it says it: `17.5 (Debian 17.5-1)`, cut to its number.
    pub async fn version(&self) -> Result<String> {
        let rows = self.psql("show server_version").await?;
        let text = rows.into_iter().flatten().next().unwrap_or_default();
        Ok(text.split(' ').next().unwrap_or_default().to_owned())
    }

    /// Whether lifeboat's role may read password verifiers.
    pub(super) async fn may_read_passwords(&self) -> Result<bool> {
        let rows = self
            .psql("select has_table_privilege('pg_catalog.pg_authid', 'select')")
            .await?;
        Ok(rows.into_iter().flatten().next().as_deref() == Some("t"))
    }

    /// Whether lifeboat's role is a superuser.
    pub async fn is_superuser(&self) -> Result<bool> {
        let rows = self
            .psql("select rolsuper from pg_roles where rolname = current_user")
            .await?;
        Ok(rows.into_iter().flatten().next().as_deref() == Some("t"))
    }

    /// Runs one query with the container's `psql`, over its local socket; rows of text columns.
    /// Separators are bytes that no name can hold: 0x1F between columns, 0x00 between rows.
    async fn psql(&self, query: &str) -> Result<Vec<Vec<String>>> {
        let target = conninfo("postgres", &self.user);
        let command = self.program(&[
            "psql",
            "--no-psqlrc",
            "--no-align",
            "--tuples-only",
            "--quiet",
            "--no-password",
            "--field-separator=\u{1f}",
            "--record-separator-zero",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            query,
            "-d",
            &target,
        ]);
        let output = self
            .engine
            .run(&self.service.container_id, &command)
            .await?;
        match output.status {
            0 => {}
            126 | 127 => return Err(self.no_such_program("psql", &output.stderr)),
            _ => return Err(self.refused(&output.stderr)),
        }
        let text = String::from_utf8(output.stdout).or_fail(|| {
            format!(
                "service {}: psql printed a name that is not UTF-8",
                self.service.name
            )
        })?;
        Ok(text
            .split('\0')
            .filter(|row| !row.is_empty())
            .map(|row| row.split('\u{1f}').map(str::to_owned).collect())
            .collect())
    }

    /// What a program's complaint about the connection means: which role, which service, what to do.
    pub(crate) fn refused(&self, stderr: &str) -> Error {
        let said = stderr.trim();
        let error = Error::failed(format!(
            "service {}: role {:?} cannot use the PostgreSQL server: {said}",
            self.service.name, self.user
        ));
        if said.contains("authentication")
            || said.contains("no password supplied")
            || said.contains("fe_sendauth")
        {
            error.hint(format!(
                "set the role and its password for this service: [stack.NAME.postgres.{}] user and password in lifeboat.toml",
                self.service.name
            ))
        } else if said.contains("does not exist") && said.contains("role") {
            error.hint(format!(
                "the container's POSTGRES_USER says {:?}; set user in [stack.NAME.postgres.{}] of lifeboat.toml",
                self.user, self.service.name
            ))
        } else if said.contains("Peer authentication") {
            error.hint("label the container lifeboat.exec-user=postgres to run as that system user")
        } else {
            error
        }
    }

    /// An SQL session with `database` through the bridge.
    pub async fn connect(&self, database: &str) -> Result<Session> {
        tokio::time::timeout(CONNECT_DEADLINE, self.connect_through_bridge(database))
            .await
            .unwrap_or_else(|_| {
                Err(Error::failed(format!(
                    "service {}: no answer from PostgreSQL through the bridge within {} seconds",
                    self.service.name,
                    CONNECT_DEADLINE.as_secs()
                )))
            })
    }

    async fn connect_through_bridge(&self, database: &str) -> Result<Session> {
        let script = Command::new("sh", ["-c", BRIDGE, "sh", self.port()]);
        let stream = self
            .engine
            .duplex(&self.service.container_id, &script)
            .await?;
        let mut config = tokio_postgres::Config::new();
        config
            .user(&self.user)
            .dbname(database)
            .application_name(&self.application_name)
            .options("-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c lock_timeout=60s");
        if let Some(password) = self.session_password().await? {
            config.password(password.expose());
        }
        let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| {
            if error.as_db_error().is_some() {
                self.refused(&describe(&error)).caused_by(error)
            } else {
                Error::failed(format!(
                    "service {}: cannot reach PostgreSQL inside the container",
                    self.service.name
                ))
                .caused_by(error)
                .hint("the image needs one of bash, socat, nc or perl for SQL, and the server must listen on 127.0.0.1")
            }
        })?;
        let driver = tokio::spawn(async move {
            // The client reports a broken connection itself, at its next query.
            let _ = connection.await;
        });
        Ok(Session {
            client,
            driver,
            context: format!("service {}, database {database:?}", self.service.name),
        })
    }

    /// The password for a session that this process opens itself. The official image trusts 127.0.0.1,
    /// but not every configuration does.
    async fn session_password(&self) -> Result<Option<Secret>> {
        if self.password.is_some() {
            return Ok(self.password.clone());
        }
        if let Some(password) = self.service.env.get("POSTGRES_PASSWORD") {
            return Ok(Some(Secret::new(password.clone())));
        }
        if !self.service.env.contains_key("POSTGRES_PASSWORD_FILE") {
            return Ok(None);
        }
        let command = self.program(&["sh", "-c", "printf %s \"${PGPASSWORD:-}\""]);
        let output = self
            .engine
            .run(&self.service.container_id, &command)
            .await?;
        Ok(String::from_utf8(output.stdout)
            .ok()
            .filter(|text| !text.is_empty())
            .map(Secret::new))
    }
}

/// An open SQL session. Dropping it ends the bridge.
#[derive(Debug)]
pub struct Session {
    client: Client,
    driver: tokio::task::JoinHandle<()>,
    context: String,
}

impl Session {
    /// The rows of a query.
    pub async fn query(
        &self,
        sql: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>> {
        self.client
            .query(sql, parameters)
            .await
            .map_err(|error| self.failed(sql, error))
    }

    /// The one row of a query that always has one.
    pub async fn query_one(
        &self,
        sql: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<tokio_postgres::Row> {
        self.client
            .query_one(sql, parameters)
            .await
            .map_err(|error| self.failed(sql, error))
    }

    /// Runs statements that return nothing.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        self.client
            .batch_execute(sql)
            .await
            .map_err(|error| self.failed(sql, error))
    }

    /// As [`Session::execute`], but the server's error comes back as it is, for callers that tell
    /// one from another by its SQLSTATE.
    pub(crate) async fn try_execute(
        &self,
        sql: &str,
    ) -> std::result::Result<(), tokio_postgres::Error> {
        self.client.batch_execute(sql).await
    }

    fn failed(&self, sql: &str, error: tokio_postgres::Error) -> Error {
        // Statements may carry password verifiers (ALTER ROLE): the first words name the statement.
        let words: Vec<&str> = sql.split_whitespace().take(3).collect();
        let message = format!(
            "{}: {} … failed: {}",
            self.context,
            words.join(" "),
            describe(&error)
        );
        Error::failed(message).caused_by(error)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Whether the server itself said no, as opposed to nobody having been reached.
pub(super) fn is_refusal(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<tokio_postgres::Error>())
        .is_some_and(|error| error.as_db_error().is_some())
}

/// The server's own words for an error, with its detail and hint.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let mut text = db.message().to_owned();
            for part in [db.detail(), db.hint()].into_iter().flatten() {
                text.push_str("; ");
                text.push_str(part);
            }
            text
        }
        None => error.to_string(),
    }
}

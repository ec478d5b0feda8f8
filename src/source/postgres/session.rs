//! SQL to a server inside its container.
//!
//! It runs over `tokio-postgres` through a bridge inside the container, so that no published port is
//! needed: bash's `/dev/tcp`, else `socat`, `nc` or perl. Where an image has none of them, what can
//! be asked with the image's own `psql` still is, and the rest is said to be unavailable.

use super::server::{MAINTENANCE, Server, is_no_such_database};
use crate::docker::exec::Command;
use crate::error::{Error, Result};
use crate::secret::Secret;
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

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

impl Server {
    /// A session for work that belongs to no database of its own, in none of the databases `beside`: those
    /// may be renamed or dropped.
    pub async fn maintenance(&self, beside: &[&str]) -> Result<Session> {
        let mut candidates = MAINTENANCE.iter().filter(|name| !beside.contains(name));
        let first = candidates.next().unwrap_or(&MAINTENANCE[0]);
        match (self.connect(first).await, candidates.next()) {
            (Err(error), Some(second)) if is_no_such_database(&error, first) => {
                self.connect(second).await
            }
            (result, _) => result,
        }
    }

    /// An SQL session with `database` through the bridge.
    pub async fn connect(&self, database: &str) -> Result<Session> {
        tokio::time::timeout(CONNECT_DEADLINE, self.connect_through_bridge(database))
            .await
            .unwrap_or_else(|_| {
                Err(Error::failed(format!(
                    "service {}: no answer from PostgreSQL through the bridge within {} seconds",
                    self.service().name,
                    CONNECT_DEADLINE.as_secs()
                )))
            })
    }

    async fn connect_through_bridge(&self, database: &str) -> Result<Session> {
        let script = Command::new("sh", ["-c", BRIDGE, "sh", self.port()]);
        let stream = self
            .engine()
            .duplex(&self.service().container_id, &script)
            .await?;
        let mut config = tokio_postgres::Config::new();
        config
            .user(self.user())
            .dbname(database)
            .application_name(self.application_name())
            .options("-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c lock_timeout=60s");
        if let Some(password) = self.session_password().await? {
            config.password(password.expose());
        }
        let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| {
            if error.as_db_error().is_some() {
                self.refused(&describe(&error)).caused_by(Told(error))
            } else {
                Error::failed(format!(
                    "service {}: cannot reach PostgreSQL inside the container",
                    self.service().name
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
            context: format!("service {}, database {database:?}", self.service().name),
        })
    }

    /// The password for a session that this process opens itself. The official image trusts 127.0.0.1,
    /// but not every configuration does.
    async fn session_password(&self) -> Result<Option<Secret>> {
        if self.password().is_some() {
            return Ok(self.password().cloned());
        }
        if let Some(password) = self.service().env.get("POSTGRES_PASSWORD") {
            return Ok(Some(Secret::new(password.clone())));
        }
        if !self.service().env.contains_key("POSTGRES_PASSWORD_FILE") {
            return Ok(None);
        }
        let command = self.program(&["sh", "-c", "printf %s \"${PGPASSWORD:-}\""]);
        let output = self
            .engine()
            .run(&self.service().container_id, &command)
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

    /// The first column of a query's first row, as the server writes it; `None` for null and for no row.
    pub async fn first_value(&self, sql: &str) -> Result<Option<String>> {
        let messages = self
            .client
            .simple_query(sql)
            .await
            .map_err(|error| self.failed(sql, error))?;
        Ok(messages
            .iter()
            .find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) if !row.is_empty() => {
                    Some(row.get(0).map(str::to_owned))
                }
                _ => None,
            })
            .flatten())
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
        Error::failed(message).caused_by(Told(error))
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
        .and_then(|source| source.downcast_ref::<Told>())
        .is_some_and(|Told(error)| error.as_db_error().is_some())
}

/// An error of the client whose words stand at the end of lifeboat's message already.
#[derive(Debug)]
pub(super) struct Told(pub(super) tokio_postgres::Error);

impl std::fmt::Display for Told {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&describe(&self.0))
    }
}

impl std::error::Error for Told {}

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
        None => match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    }
}

//! One PostgreSQL server in a container: who to be and what it holds, asked with the image's own `psql`.

use super::quote::conninfo;
use crate::docker::Engine;
use crate::docker::exec::Command;
use crate::error::{Error, OrFail, Result};
use crate::secret::Secret;
use crate::source::Credentials;
use crate::stack::Service;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// Runs before every PostgreSQL program in a container. The password never leaves the container:
/// its shell reads the file or the variable that the image itself was given. Debian's programs are found
/// without `pg_wrapper`, whose start of perl costs a tenth of a second each time.
const PREAMBLE: &str = r#"
[ -z "${PG_MAJOR:-}" ] || PATH=/usr/lib/postgresql/$PG_MAJOR/bin:$PATH
if [ -z "${PGPASSWORD:-}" ]; then
  if [ -n "${POSTGRES_PASSWORD_FILE:-}" ] && [ -r "${POSTGRES_PASSWORD_FILE}" ]; then
    PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
  else
    PGPASSWORD=${POSTGRES_PASSWORD:-}
  fi
  if [ -n "$PGPASSWORD" ]; then export PGPASSWORD; else unset PGPASSWORD; fi
fi
"#;

/// Databases for work that belongs to none, in the order in which `createdb` tries them.
pub(super) const MAINTENANCE: [&str; 2] = ["postgres", "template1"];

/// A PostgreSQL server in a running container.
#[derive(Debug, Clone)]
pub struct Server {
    engine: Engine,
    service: Arc<Service>,
    user: String,
    password: Option<Secret>,
    application_name: String,
    /// Which of [`MAINTENANCE`] there is, once it is known.
    maintenance: Arc<OnceCell<&'static str>>,
}

/// A database of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Bytes on the server's disk; 0 where it could not be asked.
    pub size: u64,
}

/// What a backup has to know of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Its version: `17.5`.
    pub version: String,
    /// Whether lifeboat's role may read password verifiers (`pg_authid` is for superusers).
    pub may_read_passwords: bool,
    /// The databases that a backup holds, by name.
    pub databases: Vec<Database>,
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
            maintenance: Arc::default(),
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

    /// The role's password, where the configuration gives one.
    pub(super) fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
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
            .preamble(PREAMBLE);
        if let Some(password) = &self.password {
            command = command.secret_env("PGPASSWORD", password.clone());
        }
        if let Some(user) = self.service.labels.get("lifeboat.exec-user") {
            command = command.user(user);
        }
        command
    }

    /// The server's port inside the container.
    pub(super) fn port(&self) -> &str {
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
        let rows = self.psql(&connectable("true")).await?;
        rows.iter().map(|row| database(row)).collect()
    }

    /// What a backup has to know of the server, in one question: each costs a tenth of a second. The
    /// databases are all but those that lifeboat itself keeps aside or is restoring into, which carry its mark.
    pub async fn survey(&self) -> Result<Survey> {
        let databases = connectable(
            "not exists (select from pg_db_role_setting s, unnest(s.setconfig) entry \
             where s.setdatabase = d.oid and s.setrole = 0 and entry like 'lifeboat.%')",
        );
        let rows = self
            .psql(&format!(
                "select name, value from (\
                 select 0 as place, current_setting('server_version') as name, \
                 has_table_privilege('pg_catalog.pg_authid', 'select')::text as value \
                 union all select 1, name, value from ({databases}) found) rows order by place, name"
            ))
            .await?;
        let (first, databases) = rows
            .split_first()
            .ok_or_else(|| Error::failed("psql answered nothing"))?;
        let [version, passwords] = &first[..] else {
            return Err(odd_row(first));
        };
        Ok(Survey {
            version: version.split(' ').next().unwrap_or_default().to_owned(),
            may_read_passwords: passwords == "true",
            databases: databases
                .iter()
                .map(|row| database(row))
                .collect::<Result<_>>()?,
        })
    }

    /// The server's version as it says it: `17.5 (Debian 17.5-1)`, cut to its number.
    pub async fn version(&self) -> Result<String> {
        let rows = self.psql("show server_version").await?;
        let text = rows.into_iter().flatten().next().unwrap_or_default();
        Ok(text.split(' ').next().unwrap_or_default().to_owned())
    }

    /// Whether lifeboat's role is a superuser.
    pub async fn is_superuser(&self) -> Result<bool> {
        let rows = self
            .psql("select rolsuper from pg_roles where rolname = current_user")
            .await?;
        Ok(rows.into_iter().flatten().next().as_deref() == Some("t"))
    }

    /// The database for what belongs to none.
    pub(super) fn maintenance_database(&self) -> &'static str {
        self.maintenance.get().copied().unwrap_or(MAINTENANCE[0])
    }

    /// Runs one query with the container's `psql`, over its local socket; rows of text columns.
    async fn psql(&self, query: &str) -> Result<Vec<Vec<String>>> {
        if let Some(database) = self.maintenance.get() {
            return self.psql_in(database, query).await;
        }
        let [first, second] = MAINTENANCE;
        let (database, rows) = match self.psql_in(first, query).await {
            Err(error) if is_no_such_database(&error, first) => {
                (second, self.psql_in(second, query).await?)
            }
            rows => (first, rows?),
        };
        self.maintenance.get_or_init(async || database).await;
        Ok(rows)
    }

    /// Separators are bytes that no name can hold: 0x1F between columns, 0x00 between rows.
    async fn psql_in(&self, database: &str, query: &str) -> Result<Vec<Vec<String>>> {
        let target = conninfo(database, &self.user);
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
                "lifeboat takes user of [stack.NAME.postgres.{}] in lifeboat.toml, else the container's POSTGRES_USER, else postgres",
                self.service.name
            ))
        } else if said.contains("Peer authentication") {
            error.hint("label the container lifeboat.exec-user=postgres to run as that system user")
        } else {
            error
        }
    }
}

/// Whether a server said that it has no database of this name, whichever program asked it.
pub(super) fn is_no_such_database(error: &Error, database: &str) -> bool {
    error
        .to_string()
        .contains(&format!("database \"{database}\" does not exist"))
}

/// The query for the databases that can be connected to, templates excluded: names and sizes, by name.
fn connectable(condition: &str) -> String {
    // A connection limit of -2 marks what an interrupted DROP DATABASE has left (PostgreSQL 15.4).
    format!(
        "select datname::text as name, pg_database_size(oid)::text as value from pg_database d \
         where datallowconn and not datistemplate and datconnlimit <> -2 and {condition} \
         order by datname"
    )
}

fn database(row: &[String]) -> Result<Database> {
    match row {
        [name, size] => Ok(Database {
            name: name.clone(),
            size: size.parse().unwrap_or(0),
        }),
        _ => Err(odd_row(row)),
    }
}

fn odd_row(row: &[String]) -> Error {
    Error::failed(format!("psql printed a row of {} columns", row.len()))
}

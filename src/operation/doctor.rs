//! Looking for what would make a backup fail, before the night.

use super::Context;
use super::sources::{
    LABEL_HINT, SourceOptions, SourcesByStack, ready_redis, ready_server, source_services,
};
use crate::docker::Engine;
use crate::error::{Error, Result};
use crate::repository::{Access, Location, Repository};
use crate::source::redis::DataFolder;
use crate::stack::{Service, SourceKind};
use serde::Serialize;

/// What doctor's sessions are called: it holds no lock, so they are nobody's leftovers.
const RUN: &str = "doctor";

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// It works, with something missing.
    Warning,
    /// A backup would fail.
    Failed,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was looked at.
    pub subject: String,
    /// How it came out.
    pub outcome: Outcome,
    /// What was found.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Check {
    fn ok(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            outcome: Outcome::Ok,
            message: message.into(),
            hint: None,
        }
    }

    fn of(subject: impl Into<String>, outcome: Outcome, error: &Error) -> Self {
        Self {
            subject: subject.into(),
            outcome,
            message: error.chain(),
            hint: error.hint_text().map(str::to_owned),
        }
    }
}

/// What to look at.
#[derive(Debug)]
pub struct DoctorRequest {
    /// What connecting to the engine gave.
    pub engine: Result<Engine>,
    /// The repositories, with the names that the person gave them.
    pub repositories: Vec<(String, Location)>,
    /// How those in buckets are reached.
    pub access: Access,
    /// The sources' configuration by stack.
    pub sources: SourcesByStack,
    /// Checks that the caller has made: the configuration.
    pub before: Vec<Check>,
}

/// Runs every check; none keeps the others from running.
pub async fn doctor(context: Context, request: DoctorRequest) -> Vec<Check> {
    let mut checks = request.before;
    match request.engine {
        Ok(engine) => {
            let context = Context {
                engine: Some(engine.clone()),
                ..context.clone()
            };
            check_engine(&context, &engine, &request.sources, &mut checks).await;
        }
        Err(error) => checks.push(Check::of("engine", Outcome::Failed, &error)),
    }
    for (name, location) in &request.repositories {
        check_repository(&context, name, location, &request.access, &mut checks).await;
    }
    checks
}

/// Whether a backup could be written there now, and what the store does not do.
async fn check_repository(
    context: &Context,
    name: &str,
    location: &Location,
    access: &Access,
    checks: &mut Vec<Check>,
) {
    let subject = format!("repository {name}");
    let probed = async {
        let repository = Repository::open(location, access).await?;
        let probed = repository.probe(context.now()).await?;
        Ok((repository.marker().format, probed))
    };
    let (format, probed) = match probed.await {
        Ok(found) => found,
        Err(error) => return checks.push(Check::of(subject, Outcome::Failed, &error)),
    };
    checks.push(Check::ok(
        subject.clone(),
        format!("{location} is there and can be written (format {format})"),
    ));
    let mut warn = |message: String, hint: &str| {
        checks.push(Check {
            subject: subject.clone(),
            outcome: Outcome::Warning,
            message,
            hint: Some(hint.to_owned()),
        });
    };
    if probed.clock_ahead.abs() > CLOCKS_APART {
        warn(
            format!(
                "the store's clock is {} seconds ahead of this machine's",
                probed.clock_ahead
            ),
            "set the clocks: stores refuse requests, and backups get wrong times",
        );
    }
    let Some(traits) = probed.traits else {
        return;
    };
    if !traits.create_if_absent {
        warn(
            "the store creates what exists already; lifeboat looks first instead".to_owned(),
            "nothing to do: no two backups have one name",
        );
    }
    if !traits.delete {
        warn(
            "these credentials may not remove: unfinished backups and locks stay until others remove them"
                .to_owned(),
            "prune with other credentials; a lifecycle rule that aborts unfinished multipart uploads clears parts",
        );
    }
}

/// Seconds between two clocks that are worth a word.
const CLOCKS_APART: i64 = 60;

async fn check_engine(
    context: &Context,
    engine: &Engine,
    sources: &SourcesByStack,
    checks: &mut Vec<Check>,
) {
    match engine.version().await {
        Ok(version) => checks.push(Check::ok(
            "engine",
            format!("{version} at {}", engine.endpoint()),
        )),
        Err(error) => checks.push(Check::of("engine", Outcome::Failed, &error)),
    }
    match engine.time().await {
        Ok(time) => {
            let skew = (context.now() - time).num_seconds();
            checks.push(match skew.abs() {
                0..=60 => Check::ok("clock", "this machine and the engine agree on the time"),
                _ => Check {
                    subject: "clock".to_owned(),
                    outcome: Outcome::Warning,
                    message: format!(
                        "this machine's clock is {skew} seconds away from the engine's"
                    ),
                    hint: Some(
                        "backups are named by the time: set the clock (timedatectl)".to_owned(),
                    ),
                },
            });
        }
        Err(error) => checks.push(Check::of("clock", Outcome::Failed, &error)),
    }
    let stacks = match engine.containers().await {
        Ok(stacks) => stacks,
        Err(error) => return checks.push(Check::of("stacks", Outcome::Failed, &error)),
    };
    let before = checks.len();
    for stack in &stacks {
        let services = match source_services(engine, stack).await {
            Ok(services) => services,
            Err(error) => {
                checks.push(Check::of(
                    format!("stack {}", stack.name),
                    Outcome::Failed,
                    &error,
                ));
                continue;
            }
        };
        let options = sources.get(&stack.name).cloned().unwrap_or_default();
        for one in services {
            let (service, folder) = match one.kind {
                SourceKind::Postgres => (&one.service, "postgres"),
                SourceKind::Redis | SourceKind::Volume | SourceKind::Files => {
                    (&one.service, "redis")
                }
            };
            let subject = format!("{}/{folder}/{}", stack.name, service.name);
            let found = match one.kind {
                SourceKind::Postgres => check_postgres(context, service, &options).await,
                SourceKind::Redis | SourceKind::Volume | SourceKind::Files => {
                    check_redis(context, service, &options).await
                }
            };
            checks.push(match found {
                Ok(message) => Check::ok(subject, message),
                Err((outcome, error)) => Check::of(subject, outcome, &error),
            });
        }
    }
    if checks.len() == before {
        checks.push(Check {
            subject: "stacks".to_owned(),
            outcome: Outcome::Warning,
            message: "no container looks like a database".to_owned(),
            hint: Some(LABEL_HINT.to_owned()),
        });
    }
}

/// What a backup needs of a PostgreSQL server.
async fn check_postgres(
    context: &Context,
    service: &Service,
    options: &SourceOptions,
) -> Result<String, (Outcome, Error)> {
    let failed = |error| (Outcome::Failed, error);
    let server = ready_server(context, service, options, RUN)
        .await
        .map_err(failed)?;
    let version = server.version().await.map_err(failed)?;
    let databases = server.databases().await.map_err(failed)?;
    // Without SQL over TCP a dump still works.
    let sql = server.maintenance(&[]).await;
    sql.map_err(|error| (Outcome::Warning, error))?;
    Ok(format!(
        "PostgreSQL {version}, {} databases, role {:?}",
        databases.len(),
        server.user()
    ))
}

/// What a backup and a restore need of a Redis server.
async fn check_redis(
    context: &Context,
    service: &Service,
    options: &SourceOptions,
) -> Result<String, (Outcome, Error)> {
    let failed = |error| (Outcome::Failed, error);
    let server = ready_redis(context, service, options, RUN)
        .await
        .map_err(failed)?;
    let survey = server.survey().await.map_err(failed)?;
    let product = format!(
        "{} {}, {}, {} keys",
        survey.product(),
        survey.version,
        survey.role,
        survey.keys
    );
    let layout = survey.layout.map_err(|said| {
        let error = Error::failed(format!(
            "{product}; a restore could not know where its data is: {said}"
        ));
        (Outcome::Warning, error.hint("give the user +config|get"))
    })?;
    let on_volume = DataFolder::of(server.engine(), service, &layout);
    on_volume.map_err(|error| (Outcome::Warning, error))?;
    let append = if layout.appendonly { "on" } else { "off" };
    Ok(format!("{product}, append-only file {append}"))
}

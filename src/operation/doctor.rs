//! Looking for what would make a backup fail, before the night.

use super::Context;
use super::sources::{SourcesByStack, postgres_services, ready_server};
use crate::docker::Engine;
use crate::error::{Error, Result};
use crate::repository::{Location, Repository};
use serde::Serialize;

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
                ..context
            };
            check_engine(&context, &engine, &request.sources, &mut checks).await;
        }
        Err(error) => checks.push(Check::of("engine", Outcome::Failed, &error)),
    }
    for (name, location) in &request.repositories {
        checks.push(match Repository::open(location).await {
            Ok(repository) => match repository.probe().await {
                Ok(()) => Check::ok(
                    format!("repository {name}"),
                    format!(
                        "{location} is there and can be written (format {})",
                        repository.marker().format
                    ),
                ),
                Err(error) => Check::of(format!("repository {name}"), Outcome::Failed, &error),
            },
            Err(error) => Check::of(format!("repository {name}"), Outcome::Failed, &error),
        });
    }
    checks
}

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
        let services = match postgres_services(engine, stack).await {
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
        for service in services {
            let subject = format!("{}/postgres/{}", stack.name, service.name);
            let server = match ready_server(context, &service, &options, "doctor").await {
                Ok(server) => server,
                Err(error) => {
                    checks.push(Check::of(subject, Outcome::Failed, &error));
                    continue;
                }
            };
            match (
                server.version().await,
                server.databases().await,
                server.maintenance(&[]).await,
            ) {
                (Ok(version), Ok(databases), Ok(_)) => checks.push(Check::ok(
                    subject,
                    format!(
                        "PostgreSQL {version}, {} databases, role {:?}",
                        databases.len(),
                        server.user()
                    ),
                )),
                (Err(error), _, _) | (_, Err(error), _) => {
                    checks.push(Check::of(subject, Outcome::Failed, &error));
                }
                (_, _, Err(error)) => checks.push(Check::of(subject, Outcome::Warning, &error)),
            }
        }
    }
    if checks.len() == before {
        checks.push(Check {
            subject: "stacks".to_owned(),
            outcome: Outcome::Warning,
            message: "no container looks like a database".to_owned(),
            hint: Some("start the stack, or label a container lifeboat.source=postgres".to_owned()),
        });
    }
}

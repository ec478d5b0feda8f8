//! Undoing the last in-place restore, or giving up what was kept for that.
//!
//! What was kept is written on the databases themselves, so this works from any machine.

use super::Context;
use super::backup::{release, take_lock};
use super::journal::Journal;
use super::plan::{Executor, Plan, Step, execute};
use super::sources::{SourcesByStack, find_stack, postgres_services, ready_server};
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::manifest::BackupId;
use crate::source::postgres::{self, Marked, Role, Server, derived_name, drop_database, marked};
use std::collections::BTreeMap;
use std::time::Duration;

/// What to undo.
#[derive(Debug)]
pub struct RollbackRequest {
    /// The stack; without it, the one that there is.
    pub stack: Option<String>,
    /// The sources' configuration.
    pub sources: SourcesByStack,
    /// Drop what was kept instead of bringing it back.
    pub discard: bool,
    /// How long to wait for another run on the stack.
    pub wait: Option<Duration>,
    /// Make the plan and stop.
    pub dry_run: bool,
}

/// What became of it.
#[derive(Debug)]
pub struct RollbackReport {
    /// What was done, or would be.
    pub plan: Plan,
    /// Whether it was.
    pub done: bool,
}

/// Brings the databases back that served before the last in-place restore. What served since is kept aside in
/// its turn: it may hold what was written meanwhile.
///
/// # Errors
/// Not found where nothing is kept.
pub async fn rollback(
    context: &Context,
    request: RollbackRequest,
    observer: &dyn Observer,
) -> Result<RollbackReport> {
    let engine = context.engine()?;
    let stack = find_stack(engine, request.stack.as_deref()).await?;
    let services = postgres_services(engine, &stack).await?;
    let run = context.new_id()?;
    let Some(first) = services.first() else {
        return Err(Error::usage(format!(
            "stack {} has no database",
            stack.name
        )));
    };
    let lock = match request.dry_run {
        true => None,
        false => Some(
            context
                .unless_cancelled(take_lock(
                    context,
                    &stack.name,
                    &run,
                    &first.image_id,
                    "rollback",
                    request.wait,
                ))
                .await?,
        ),
    };
    let outcome = async {
        let options = request
            .sources
            .get(&stack.name)
            .cloned()
            .unwrap_or_default();
        let mut servers = BTreeMap::new();
        let mut steps = Vec::new();
        let mut found: Vec<(String, Marked)> = Vec::new();
        for service in services.iter().filter(|service| service.running) {
            let server = ready_server(context, service, &options, run.as_str()).await?;
            let session = server.connect("postgres").await?;
            found.extend(
                marked(&session)
                    .await?
                    .into_iter()
                    .map(|one| (service.name.clone(), one)),
            );
            servers.insert(service.name.clone(), server);
        }
        let kept = |one: &&(String, Marked)| one.1.role == Role::Kept;
        let last = found
            .iter()
            .filter(kept)
            .map(|(_, one)| one.run.clone())
            .max();
        for (service, one) in &found {
            if request.discard && one.role != Role::Side {
                steps.push(Step::DropDatabase {
                    service: service.clone(),
                    name: one.name.clone(),
                });
            } else if !request.discard && one.role == Role::Kept && Some(&one.run) == last.as_ref()
            {
                let exists = match servers.get(service) {
                    Some(server) => server
                        .databases()
                        .await?
                        .iter()
                        .any(|known| known.name == one.of),
                    None => false,
                };
                steps.push(Step::Swap {
                    service: service.clone(),
                    incoming: one.name.clone(),
                    live: one.of.clone(),
                    aside: exists.then(|| derived_name(&one.of, "undone", run.as_str())),
                });
            }
        }
        if steps.is_empty() {
            return Err(Error::not_found(format!(
                "stack {} keeps nothing from an in-place restore",
                stack.name
            ))
            .hint("only lifeboat restore --in-place leaves something to roll back"));
        }
        let plan = Plan {
            operation: "rollback".to_owned(),
            run: run.to_string(),
            stack: stack.name.clone(),
            steps,
        };
        let Some(lock) = lock.as_ref() else {
            return Ok(RollbackReport { plan, done: false });
        };
        observer.observe(&Event::RunStarted {
            operation: "rollback",
            run: run.to_string(),
            stack: stack.name.clone(),
        });
        let mut work = Work { servers, run: &run };
        let journal = Journal::begin(&context.state, &plan)?;
        execute(&plan, &mut work, journal, context, lock, observer).await?;
        Ok(RollbackReport { plan, done: true })
    }
    .await;
    release(lock, observer).await;
    outcome
}

struct Work<'a> {
    servers: BTreeMap<String, Server>,
    run: &'a BackupId,
}

impl Work<'_> {
    fn server(&self, service: &str) -> Result<&Server> {
        self.servers
            .get(service)
            .ok_or_else(|| Error::failed(format!("service {service} is not part of this run")))
    }
}

impl Executor for Work<'_> {
    async fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Swap {
                service,
                incoming,
                live,
                aside,
            } => {
                let aside = aside.as_deref().map(|aside| (aside, Role::Undone));
                postgres::swap(
                    self.server(service)?,
                    live,
                    incoming,
                    aside,
                    self.run.as_str(),
                )
                .await
            }
            Step::DropDatabase { service, name } => {
                let session = self.server(service)?.connect("postgres").await?;
                drop_database(&session, name).await
            }
            _ => Err(Error::failed("a rollback has no such step")),
        }
    }

    /// Each swap is whole by itself and each drop was asked for: what was done stays.
    async fn undo(&mut self, _: &Step) -> Result<()> {
        Ok(())
    }
}

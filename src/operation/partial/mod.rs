//! Some tables of a backup, beside the live ones and never over them: into a side database, from there into a schema
//! of their own in the live one.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `selection` | which tables a person means |
//! | `plan` | what is going to be done; what can be known to fail fails there |
//! | `work` | its steps, done and undone |

mod plan;
pub mod selection;
mod work;

use super::Context;
use super::journal::Journal;
use super::lock::{Claim, release};
use super::plan::execute;
use super::restore::{RestoreReport, RestoreRequest, clear_leftovers};
use super::restore_plan::{Servers, check_services};
use super::sources::{find_stack, ready_server, source_services};
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::manifest::Artifact;
use crate::repository::Backup;
use crate::source::Capability;
use crate::stack::{ArtifactName, SourceKind};
use plan::Planner;
use std::time::{Duration, Instant};
use work::Work;

/// Whether a restore is asked for tables: what it names is no artifact, and there is a colon in it.
///
/// # Errors
/// Usage where tables and whole artifacts are named together.
pub(super) fn asked_for(backup: &Backup, request: &RestoreRequest) -> Result<bool> {
    let artifacts = &backup.manifest().artifacts;
    let is_table = |pattern: &&String| {
        pattern.contains(':') && !artifacts.iter().any(|one| one.name.matches(pattern))
    };
    let tables = request.only.iter().filter(is_table).count();
    if tables > 0 && tables < request.only.len() {
        return Err(
            Error::usage("tables and whole artifacts are not restored together")
                .hint("restore them one after the other"),
        );
    }
    Ok(tables > 0)
}

/// Restores tables.
pub(super) async fn restore(
    context: &Context,
    request: &RestoreRequest,
    backup: &Backup,
    observer: &dyn Observer,
) -> Result<RestoreReport> {
    let begun = Instant::now();
    let schema = plan::schema(request)?;
    let is_dump = |artifact: &&Artifact| matches!(artifact.name, ArtifactName::Database { .. });
    let dumps: Vec<Artifact> = backup
        .manifest()
        .artifacts
        .iter()
        .filter(is_dump)
        .cloned()
        .collect();
    backup.check_keys(&dumps).await?;
    let facts = backup.facts().await?;
    let mut parts = plan::parts(backup, &facts, &dumps, &request.only, schema.as_str()).await?;
    let engine = context.engine()?;
    let name = request.into.as_deref().unwrap_or(&request.entry.stack);
    let stack = find_stack(engine, Some(name)).await?;
    let services = source_services(engine, &stack).await?;
    let artifacts: Vec<Artifact> = parts.iter().map(|part| part.artifact.clone()).collect();
    check_services(&services, &artifacts, &stack)?;
    let options = request
        .sources
        .get(&stack.name)
        .cloned()
        .unwrap_or_default();
    let run = context.new_id()?;
    let claim = Claim {
        stack: &stack,
        services: &services,
        options: &options,
        observer,
        run: &run,
        operation: "restore",
        wait: request.wait,
        dry_run: request.dry_run,
    };
    let lock = claim.take(context).await?;
    let outcome: Result<RestoreReport> = async {
        let mut servers = Servers::new();
        for one in &services {
            let service = &one.service;
            let takes_part = |artifact: &Artifact| artifact.name.service() == Some(&service.name);
            if one.kind != SourceKind::Postgres || !artifacts.iter().any(takes_part) {
                continue;
            }
            let server = ready_server(context, service, &options, run.as_str()).await?;
            if lock.is_some() {
                clear_leftovers(&server, observer).await?;
            }
            let capability = Capability::probe(server.engine(), service).await?;
            servers.insert(service.name.clone(), (server, capability));
        }
        let planner = Planner {
            backup,
            stack: &stack.name,
            servers: &servers,
            schema: &schema,
            run: &run,
        };
        let plan = context.unless_cancelled(planner.make(&mut parts)).await?;
        let report = RestoreReport {
            plan,
            done: lock.is_some(),
            kept: Vec::new(),
            safety: None,
            duration: Duration::ZERO,
        };
        let Some(lock) = &lock else { return Ok(report) };
        observer.observe(&Event::RunStarted {
            operation: "restore",
            run: run.to_string(),
            stack: stack.name.clone(),
        });
        let mut work = Work {
            backup,
            run: &run,
            servers,
            parts,
            observer,
        };
        let journal = Journal::begin(&context.state, &report.plan)?;
        execute(&report.plan, &mut work, journal, context, lock, observer).await?;
        Ok(report)
    }
    .await;
    release(lock, observer).await;
    let mut report = outcome?;
    report.duration = begun.elapsed();
    Ok(report)
}

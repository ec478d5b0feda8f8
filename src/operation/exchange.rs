//! Taking back what was exchanged on servers: the databases and the data files that served before serve again.

use super::snapshots::Snapshots;
use super::sources::{end_dead_sessions, ready_server};
use super::step::Step;
use crate::error::{Error, OrFail, Result};
use crate::source::postgres::{self, Role, Server, drop_database, marked};
use serde_json::Value;

/// The steps that are taken back, as a record on the engine holds them.
pub(super) fn recorded<'s>(steps: impl IntoIterator<Item = &'s Step>) -> Vec<Value> {
    let exchanges = steps
        .into_iter()
        .filter(|step| matches!(step, Step::Swap { .. } | Step::ReplaceFiles { .. }));
    exchanges
        .filter_map(|step| serde_json::to_value(step).ok())
        .collect()
}

/// Takes back what a record of a dead run names, however far it came. `snapshots` has the dead run's id.
///
/// # Errors
/// Where a server does not answer, or what the record names cannot be understood.
pub(super) async fn take_back(snapshots: &Snapshots<'_>, recorded: &[Value]) -> Result<()> {
    for value in recorded.iter().rev() {
        let step: Step = serde_json::from_value(value.clone())
            .or_fail(|| "the record of what was exchanged cannot be understood")
            .map_err(|error| error.hint("a newer lifeboat has written it"))?;
        one_back(snapshots, &step)
            .await
            .map_err(|error| error.while_doing(format!("cannot take back \"{step}\"")))?;
    }
    Ok(())
}

async fn one_back(snapshots: &Snapshots<'_>, step: &Step) -> Result<()> {
    let (Step::ReplaceFiles { service, .. } | Step::Swap { service, .. }) = step else {
        return Ok(());
    };
    let mut services = snapshots.services.iter();
    // Whoever took the service out of the stack took its data along.
    let Some(host) = services.find(|one| one.service.name == *service) else {
        return Ok(());
    };
    match step {
        Step::ReplaceFiles {
            layout,
            incoming,
            aside,
            ..
        } => snapshots.put_back(service, layout, incoming, aside).await,
        Step::Swap { incoming, .. } => {
            let context = snapshots.context;
            let run = context.new_id()?;
            let server =
                ready_server(context, &host.service, snapshots.options, run.as_str()).await?;
            end_dead_sessions(&server).await;
            swap_back(&server, step, snapshots.run.as_str()).await?;
            // What the dead run had loaded is nobody's any more.
            let session = server.maintenance(&[]).await?;
            let mut known = marked(&session).await?.into_iter();
            match known.any(|one| one.name == *incoming && one.role == Role::Side) {
                true => drop_database(&session, incoming).await,
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Takes a swap of databases back that `run` made or was going to; one that was not made is no error.
pub(super) async fn swap_back(server: &Server, step: &Step, run: &str) -> Result<()> {
    let Step::Swap {
        incoming,
        live,
        aside,
        kept_by,
        ..
    } = step
    else {
        return Err(Error::failed(format!("\"{step}\" is no swap")));
    };
    let session = server.maintenance(&[]).await?;
    let databases = server.databases().await?;
    let is_there = |name: &String| databases.iter().any(|known| known.name == *name);
    // Its old name is free once it has come in.
    let swapped = match aside {
        Some(aside) => marked(&session).await?.iter().any(|one| one.name == *aside),
        None => !is_there(incoming) && is_there(live),
    };
    if !swapped {
        return Ok(());
    }
    let (role, marked_by) = match kept_by {
        Some(kept_by) => (Role::Kept, kept_by.as_str()),
        None => (Role::Side, run),
    };
    match aside {
        Some(aside) => postgres::swap(server, live, aside, Some((incoming, role)), marked_by).await,
        None => postgres::set_aside(server, live, incoming, role, marked_by).await,
    }
}

//! `lifeboat pin` and `lifeboat unpin`.

use crate::cli::args::{Chosen, Pin};
use crate::cli::environment::now;
use crate::cli::output::Output;
use crate::cli::session::Session;
use crate::error::Result;
use serde_json::json;
use std::process::ExitCode;

pub(super) async fn pin(session: &Session, arguments: &Pin, output: &Output) -> Result<ExitCode> {
    let repository = session.repository().await?;
    let entry = repository.resolve(&arguments.backup, None).await?;
    repository.pin(&entry, &arguments.reason, now()).await?;
    let text = format!("pinned {}: no retention will remove it", entry.reference());
    output.result(
        "pin",
        &json!({ "backup": entry.id, "stack": entry.stack }),
        &text,
    );
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn unpin(
    session: &Session,
    arguments: &Chosen,
    output: &Output,
) -> Result<ExitCode> {
    let repository = session.repository().await?;
    let entry = repository.resolve(&arguments.backup, None).await?;
    repository.unpin(&entry).await?;
    let text = match entry.pinned {
        Some(_) => format!("unpinned {}", entry.reference()),
        None => format!("{} was not pinned", entry.reference()),
    };
    output.result(
        "unpin",
        &json!({ "backup": entry.id, "stack": entry.stack }),
        &text,
    );
    Ok(ExitCode::SUCCESS)
}

//! `lifeboat copy`.

use crate::cli::args::Copy;
use crate::cli::output::{Output, size};
use crate::cli::session::Session;
use crate::error::{Error, Result};
use crate::operation::copy::{CopyRequest, copy};
use crate::repository::Repository;
use serde_json::json;
use std::process::ExitCode;

pub(super) async fn run(session: &Session, arguments: Copy, output: &Output) -> Result<ExitCode> {
    let from = session.repository().await?;
    // The copy needs no key: bytes are moved as they are.
    let to = Repository::open(&session.find(&arguments.to)?, &session.access).await?;
    if from.marker().id == to.marker().id {
        return Err(Error::usage(format!(
            "{} and {} are one repository",
            from.location(),
            to.location()
        )));
    }
    let entry = from.resolve(&arguments.backup, None).await?;
    let reference = entry.reference();
    if arguments.dry_run {
        let text = format!(
            "would copy {reference} from {} to {}",
            from.location(),
            to.location()
        );
        let value = json!({ "backup": reference, "to": to.location().to_string() });
        output.result("plan", &value, &text);
        return Ok(ExitCode::SUCCESS);
    }
    let request = CopyRequest { from, entry, to };
    let copied = copy(&session.context()?, &request, output).await?;
    let to = request.to.location();
    let text = match copied.existed {
        true => format!("{reference} is in {to} already, every byte is what was written"),
        false => format!(
            "copied {reference} to {to}: {} objects, {}; {} were there already",
            copied.sent,
            size(copied.sent_bytes),
            copied.kept
        ),
    };
    let value = json!({
        "backup": reference,
        "to": to.to_string(),
        "existed": copied.existed,
        "sent_objects": copied.sent,
        "sent_bytes": copied.sent_bytes,
        "kept_objects": copied.kept,
    });
    output.result("copy", &value, &text);
    Ok(ExitCode::SUCCESS)
}

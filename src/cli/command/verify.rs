//! `lifeboat verify`.

use crate::cli::args::Verify;
use crate::cli::output::{Output, harmless, size};
use crate::cli::session::Session;
use crate::error::{Kind, Result};
use crate::operation::catalog;
use crate::operation::verify::{Verified, VerifyRequest, verify};
use serde_json::json;
use std::process::ExitCode;

pub(super) async fn run(session: &Session, arguments: Verify, output: &Output) -> Result<ExitCode> {
    let repository = session.repository().await?;
    let entries = match (arguments.all, &arguments.backup) {
        (true, _) => catalog::list(&repository, None).await?,
        (false, backup) => vec![
            repository
                .resolve(backup.as_deref().unwrap_or("latest"), None)
                .await?,
        ],
    };
    // Verifying needs no engine; with one, pg_restore reads the dumps, too.
    let context = match arguments.deep {
        true => match session.context_with_engine(output).await {
            Ok(context) => context,
            Err(_) => session.context()?,
        },
        false => session.context()?,
    };
    let request = VerifyRequest {
        repository,
        entries,
        deep: arguments.deep,
    };
    let verified = verify(&context, request, output).await?;
    for one in &verified {
        report(one, output);
    }
    match verified.iter().all(|one| one.damaged.is_empty()) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::from(Kind::Damaged.exit_code())),
    }
}

fn report(one: &Verified, output: &Output) {
    let reference = one.entry.reference();
    let mut text = match one.damaged.is_empty() {
        true => format!(
            "{reference}: {} objects, {}, every byte is what was written",
            one.objects,
            size(one.bytes)
        ),
        false => format!("{reference}: DAMAGED"),
    };
    for damage in &one.damaged {
        text.push_str("\n  ");
        text.push_str(&harmless(damage));
    }
    for unchecked in &one.unchecked {
        text.push_str("\n  not checked: ");
        text.push_str(&harmless(unchecked));
    }
    let value = json!({
        "backup": one.entry.id,
        "stack": one.entry.stack,
        "objects": one.objects,
        "bytes": one.bytes,
        "damaged": one.damaged,
        "unchecked": one.unchecked,
        "seconds": one.duration.as_secs_f64(),
    });
    output.result("verify", &value, &text);
}

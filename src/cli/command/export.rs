//! `lifeboat export`.

use crate::cli::args::Export;
use crate::cli::output::{Output, size};
use crate::cli::session::Session;
use crate::error::{Error, OrFail, Result};
use crate::operation::export::{ExportReport, ExportRequest, export};
use serde_json::json;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use tokio::io::AsyncWriteExt;

pub(super) async fn run(session: &Session, arguments: Export, output: &Output) -> Result<ExitCode> {
    let repository = session.repository().await?;
    let entry = repository.resolve(&arguments.backup, None).await?;
    let request = ExportRequest {
        repository,
        entry,
        artifact: arguments.artifact,
    };
    match &arguments.output {
        Some(path) => {
            let report = to_file(request, path).await?;
            let text = format!(
                "{}: {} ({}) in {}",
                report.artifact,
                size(report.bytes),
                report.media_type,
                path.display()
            );
            let value = json!({ "artifact": report.artifact, "bytes": report.bytes, "media_type": report.media_type, "file": path });
            output.result("export", &value, &text);
        }
        None if output.is_json() => {
            return Err(
                Error::usage("--json and an artifact cannot both go to standard output")
                    .hint("add --output FILE"),
            );
        }
        None if std::io::stdout().is_terminal() => {
            return Err(Error::usage("an artifact is not for a terminal")
                .hint("add --output FILE, or pipe it into a program"));
        }
        None => {
            let mut out = tokio::io::stdout();
            export(request, async |bytes| {
                out.write_all(&bytes)
                    .await
                    .or_fail(|| "cannot write to standard output")
            })
            .await?;
            out.flush()
                .await
                .or_fail(|| "cannot write to standard output")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Into a new file beside, which gets its name when all is proven.
async fn to_file(request: ExportRequest, path: &Path) -> Result<ExportReport> {
    let failed = || format!("cannot write {}", path.display());
    if path.exists() {
        return Err(Error::usage(format!("{} is there already", path.display()))
            .hint("choose another name, or remove it first"));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    let mut file = tokio::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .await
        .or_fail(failed)?;
    let written = async {
        let report = export(request, async |bytes| {
            file.write_all(&bytes).await.or_fail(failed)
        })
        .await?;
        file.sync_all().await.or_fail(failed)?;
        tokio::fs::rename(&beside, path).await.or_fail(failed)?;
        Ok(report)
    }
    .await;
    if written.is_err() {
        // What is half written must not be taken for an export.
        let _ = tokio::fs::remove_file(&beside).await;
    }
    written
}

//! `lifeboat show`.

use crate::cli::args::Chosen;
use crate::cli::output::{Output, harmless, size, table};
use crate::cli::session::Session;
use crate::error::{Kind, Result};
use crate::manifest::{Facts, Manifest};
use crate::source::redis::snapshot_facts;
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;

pub(super) async fn run(
    session: &Session,
    arguments: &Chosen,
    output: &Output,
) -> Result<ExitCode> {
    let repository = session.repository().await?;
    let entry = repository.resolve(&arguments.backup, None).await?;
    let backup = repository.open_backup(&entry).await?;
    let encrypted = backup.is_encrypted();
    let facts = match backup.facts().await {
        Ok(facts) => Some(facts),
        // What everybody may read is shown to everybody.
        Err(error) if encrypted && error.kind() == Kind::Key => None,
        Err(error) => return Err(error),
    };
    let manifest = backup.manifest();
    let value = json!({ "manifest": manifest, "facts": facts, "encrypted": encrypted, "pinned": entry.pinned, "proofs": entry.proofs });
    let mut text = text(
        manifest,
        facts.as_ref().unwrap_or(&Facts::default()),
        entry.pinned.is_some(),
    );
    if facts.is_none() {
        text.push_str("\nencrypted: with its key, --identity FILE, more is shown");
    }
    output.result("show", &value, &text);
    Ok(ExitCode::SUCCESS)
}

fn text(manifest: &Manifest, facts: &Facts, pinned: bool) -> String {
    let mut text = format!(
        "backup     {}\nstack      {}\nhost       {}\nstarted    {}\nfinished   {}\ntrigger    {}\nstate      {}{}\nlifeboat   {}\n",
        manifest.backup,
        harmless(&manifest.stack),
        harmless(&manifest.host),
        manifest.started.format("%Y-%m-%d %H:%M:%S UTC"),
        manifest.finished.format("%Y-%m-%d %H:%M:%S UTC"),
        harmless(&manifest.trigger),
        if manifest.complete {
            "complete"
        } else {
            "PARTIAL"
        },
        if pinned { ", pinned" } else { "" },
        manifest.lifeboat_version,
    );
    for (key, value) in &manifest.tags {
        let _ = writeln!(text, "tag        {}={}", harmless(key), harmless(value));
    }
    for reason in &manifest.reasons {
        let _ = writeln!(text, "missing    {}", harmless(reason));
    }
    for note in &manifest.notes {
        let _ = writeln!(text, "note       {}", harmless(note));
    }
    for artifact in &manifest.artifacts {
        if let Some(method) = &artifact.method {
            let _ = writeln!(text, "method     {}: {}", artifact.name, harmless(method));
        }
    }
    text.push('\n');
    let rows = manifest.artifacts.iter().map(|artifact| {
        let name = artifact.name.to_string();
        let counted = rows(facts, &name).or_else(|| keys(facts, &name));
        let counted = counted.map_or_else(|| "-".to_owned(), |counted| counted.to_string());
        vec![
            name,
            artifact.image.clone(),
            artifact.engine_version.clone(),
            size(artifact.raw_size),
            size(artifact.stored_size),
            counted,
        ]
    });
    text.push_str(&table(
        &["ARTIFACT", "IMAGE", "VERSION", "RAW", "STORED", "ROWS/KEYS"],
        rows,
    ));
    text
}

/// How many keys a snapshot holds, where it could be walked.
fn keys(facts: &Facts, artifact: &str) -> Option<u64> {
    let facts = snapshot_facts(facts.0.get(artifact)?).ok()?.snapshot;
    let keys = facts.databases.values().map(|keys| keys.keys);
    facts.walked.then(|| keys.sum())
}

/// How many rows a dump holds, where its facts say so.
fn rows(facts: &Facts, artifact: &str) -> Option<u64> {
    let tables = facts
        .0
        .get(artifact)?
        .get("dump")?
        .get("tables")?
        .as_object()?;
    let tables = tables
        .values()
        .filter_map(serde_json::Value::as_object)
        .flat_map(|schema| schema.values());
    Some(tables.filter_map(|table| table.get("rows")?.as_u64()).sum())
}

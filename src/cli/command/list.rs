//! `lifeboat list`.

use crate::cli::args::List;
use crate::cli::environment::now;
use crate::cli::output::{Output, age, size, table};
use crate::cli::session::Session;
use crate::error::Result;
use crate::operation::catalog;
use crate::repository::Entry;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::ExitCode;

pub(super) async fn run(session: &Session, arguments: &List, output: &Output) -> Result<ExitCode> {
    let repository = session.repository().await?;
    let entries = catalog::list(&repository, arguments.stack.as_deref()).await?;
    let rows = entries.iter().map(row);
    let mut text = table(
        &[
            "BACKUP",
            "STACK",
            "AGE",
            "ARTIFACTS",
            "RAW",
            "STORED",
            "STATE",
        ],
        rows,
    );
    if entries.is_empty() {
        text = format!("no backups in {}", repository.location());
    }
    let values: Vec<Value> = entries.iter().map(value).collect();
    let location = repository.location().to_string();
    output.result(
        "list",
        &json!({ "repository": location, "backups": values }),
        &text,
    );
    Ok(ExitCode::SUCCESS)
}

fn row(entry: &Entry) -> Vec<String> {
    let commit = entry.commit.as_ref();
    let shown = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
    vec![
        entry.id.to_string(),
        entry.stack.clone(),
        age(entry.id.started(), now()),
        shown(commit.map(|commit| commit.artifacts.len().to_string())),
        shown(commit.map(|commit| size(commit.raw_size))),
        shown(commit.map(|commit| size(commit.stored_size))),
        state(entry),
    ]
}

/// `complete`, `partial` or `DAMAGED`, and whether it is pinned.
pub(super) fn state(entry: &Entry) -> String {
    let mut state = match (&entry.damaged, &entry.commit) {
        (Some(reason), _) => format!("DAMAGED: {reason}"),
        (None, Some(commit)) if commit.complete => "complete".to_owned(),
        (None, _) => "partial".to_owned(),
    };
    if let Some(commit) = entry
        .commit
        .as_ref()
        .filter(|commit| !commit.only.is_empty())
    {
        let _ = write!(state, ", only {}", commit.only.join(" "));
    }
    if entry.pinned.is_some() {
        state.push_str(", pinned");
    }
    state
}

fn value(entry: &Entry) -> Value {
    json!({
        "backup": entry.id,
        "stack": entry.stack,
        "commit": entry.commit,
        "pinned": entry.pinned,
        "proofs": entry.proofs,
        "damaged": entry.damaged,
    })
}

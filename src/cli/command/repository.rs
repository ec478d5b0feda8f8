//! `lifeboat repository`: make one, see which there are, what they say about themselves, and whether they hold.

use crate::cli::environment::now;
use crate::cli::output::{Output, harmless, size, table};
use crate::cli::session::{DEFAULT_REPOSITORY, Session};
use crate::error::{Error, Kind, Result};
use crate::operation::catalog;
use crate::repository::{Entry, InitOutcome, Location, Repository, StoreTraits};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::ExitCode;

pub(super) async fn init(session: &Session, output: &Output) -> Result<ExitCode> {
    let location = session.location()?;
    let made = Repository::init(&location, &session.access, now()).await?;
    let created = matches!(made, InitOutcome::Created(_));
    let repository = made.into_repository();
    let mut text = match created {
        true => format!("made the repository {location}"),
        false => format!("the repository {location} is there already, as it was"),
    };
    for lacking in lacks(repository.marker().store.as_ref()) {
        let _ = write!(text, "\nnote: {lacking}");
    }
    let value = json!({
        "repository": location.to_string(),
        "created": created,
        "id": repository.marker().id,
        "store": repository.marker().store,
    });
    output.result("repository", &value, &text);
    Ok(ExitCode::SUCCESS)
}

/// What a store was found not to do, and what that means.
fn lacks(traits: Option<&StoreTraits>) -> Vec<&'static str> {
    let Some(traits) = traits else {
        return Vec::new();
    };
    let mut lacking = Vec::new();
    if !traits.create_if_absent {
        lacking.push("the store creates what exists already; lifeboat looks first instead");
    }
    if !traits.delete {
        lacking.push(
            "these credentials may not remove: unfinished backups and locks stay until others remove them",
        );
    }
    lacking
}

/// Which repositories are known here, and whether they can be reached.
pub(super) async fn ls(session: &Session, output: &Output) -> Result<ExitCode> {
    let mut known: Vec<(String, Location)> = Vec::new();
    for (name, configured) in &session.loaded.config.repository {
        known.push((name.clone(), configured.url.as_ref().parse()?));
    }
    for named in &session.named {
        if !known.iter().any(|(name, _)| name == named) {
            known.push((named.clone(), session.find(named)?));
        }
    }
    if known.is_empty() {
        known.push((DEFAULT_REPOSITORY.to_owned(), session.location()?));
    }
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for (name, location) in known {
        let state = match counted(session, &location).await {
            Ok((stacks, entries)) => {
                let backups = entries.len();
                values.push(json!({
                    "name": name, "url": location.url(), "stacks": stacks, "backups": backups,
                }));
                format!("{backups} backups of {}", of_stacks(&stacks))
            }
            Err(error) => {
                values.push(json!({
                    "name": name, "url": location.url(), "error": error.chain(),
                }));
                format!("FAILED: {}", error.chain())
            }
        };
        rows.push(vec![name, location.to_string(), harmless(&state)]);
    }
    output.result(
        "repositories",
        &json!({ "repositories": values }),
        &table(&["NAME", "WHERE", "STATE"], rows),
    );
    Ok(ExitCode::SUCCESS)
}

fn of_stacks(stacks: &[String]) -> String {
    match stacks {
        [] => "no stack".to_owned(),
        _ => stacks.join(", "),
    }
}

async fn counted(session: &Session, location: &Location) -> Result<(Vec<String>, Vec<Entry>)> {
    let repository = Repository::open(location, &session.access).await?;
    let stacks = repository.stacks().await?;
    Ok((stacks, catalog::list(&repository, None).await?))
}

/// What the repository says about itself, and what it holds.
pub(super) async fn info(session: &Session, output: &Output) -> Result<ExitCode> {
    let repository = session.repository().await?;
    let marker = repository.marker();
    let stacks = repository.stacks().await?;
    let entries = catalog::list(&repository, None).await?;
    let commits = || entries.iter().filter_map(|entry| entry.commit.as_ref());
    let stored = commits().map(|commit| commit.stored_size).sum();
    let raw = commits().map(|commit| commit.raw_size).sum();
    let pinned = entries
        .iter()
        .filter(|entry| entry.pinned.is_some())
        .count();
    let damaged = entries
        .iter()
        .filter(|entry| entry.damaged.is_some())
        .count();
    let mut text = format!(
        "repository {}\nid {}\nformat {}, made {} by lifeboat {}\n{} backups of {}: {} stored, {} plain; {pinned} pinned, {damaged} damaged",
        repository.location(),
        marker.id,
        marker.format,
        marker.created.format("%Y-%m-%d %H:%M:%S UTC"),
        harmless(&marker.lifeboat_version),
        entries.len(),
        of_stacks(&stacks),
        size(stored),
        size(raw),
    );
    for lacking in lacks(marker.store.as_ref()) {
        let _ = write!(text, "\nnote: {lacking}");
    }
    let value = json!({
        "repository": repository.location().url(),
        "id": marker.id,
        "format": marker.format,
        "created": marker.created,
        "lifeboat_version": marker.lifeboat_version,
        "store": marker.store,
        "stacks": stacks,
        "backups": entries.len(),
        "pinned": pinned,
        "damaged": damaged,
        "stored_size": stored,
        "raw_size": raw,
    });
    output.result("repository", &value, &text);
    Ok(ExitCode::SUCCESS)
}

/// Whether backups can be written there, and whether each one's description and objects are in place. Their bytes
/// are read by `lifeboat verify --all`.
pub(super) async fn check(session: &Session, output: &Output) -> Result<ExitCode> {
    let repository = session.repository().await?;
    let probed = repository.probe(now()).await;
    let mut problems: Vec<String> = Vec::new();
    let clock_ahead = match &probed {
        Ok(probed) => {
            problems.extend(lacks(probed.traits.as_ref()).into_iter().map(str::to_owned));
            Some(probed.clock_ahead)
        }
        Err(error) => {
            problems.push(format!("nothing can be written: {}", error.chain()));
            None
        }
    };
    let entries = catalog::list(&repository, None).await?;
    let mut damaged: Vec<Value> = Vec::new();
    for entry in &entries {
        let opened = async { repository.open_backup(entry).await?.check_folder() };
        match opened.await {
            Ok(()) => {}
            Err(error) if error.kind() == Kind::Damaged => {
                let reason = error.chain();
                problems.push(format!("{} is DAMAGED: {reason}", entry.reference()));
                damaged.push(json!({ "backup": entry.reference(), "reason": reason }));
            }
            Err(error) => return Err(error),
        }
    }
    let mut text = format!(
        "{}: {} backups, {} damaged",
        repository.location(),
        entries.len(),
        damaged.len()
    );
    for problem in &problems {
        let _ = write!(text, "\n  {}", harmless(problem));
    }
    let value = json!({
        "repository": repository.location().url(),
        "backups": entries.len(),
        "damaged": damaged,
        "problems": problems,
        "clock_ahead_seconds": clock_ahead,
    });
    output.result("check", &value, &text);
    match (damaged.is_empty(), probed) {
        (false, _) => Ok(ExitCode::from(Kind::Damaged.exit_code())),
        (true, Err(error)) => {
            Err(Error::failed("the repository cannot be written").caused_by(error))
        }
        (true, Ok(_)) => Ok(ExitCode::SUCCESS),
    }
}

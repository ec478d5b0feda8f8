//! A backup before a command such as a migration, and the way back to it.

use super::Context;
use super::backup::{BackupReport, BackupRequest, Finished, backup};
use super::plan::Plan;
use super::restore::{HEALTH_LIMIT, RestoreReport, RestoreRequest, Target, restore};
use super::shown::shown;
use super::sources::{SourcesByStack, find_stack};
use crate::error::{Error, Result};
use crate::event::Observer;
use crate::repository::{Entry, Repository};
use crate::stack::Stack;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// What backups before a command say about why they are there.
pub const TRIGGER: &str = "guard";
/// How many characters of a command a tag holds.
const LONGEST_COMMAND: usize = 300;
/// How long git may think.
const GIT_TIME: Duration = Duration::from_secs(5);

/// What became of the backup before the command.
#[derive(Debug)]
pub enum Guarded {
    /// What would be done.
    Planned(Plan),
    /// It is there.
    Done(Box<Finished>, Box<WayBack>),
}

/// A backup that can be put back in place.
#[derive(Debug)]
pub struct WayBack {
    repository: Repository,
    entry: Entry,
    sources: SourcesByStack,
    /// Whether it holds a part of the stack only, which is put back while the rest runs.
    keep_running: bool,
    wait: Option<Duration>,
}

/// Backs up before `command` is run in `folder`, with tags that say what is run on what.
///
/// # Errors
/// As [`backup`].
pub async fn back_up(
    context: &Context,
    mut request: BackupRequest,
    command: &[String],
    folder: &Path,
    observer: &dyn Observer,
) -> Result<Guarded> {
    let stack = find_stack(context.engine()?, request.stack.as_deref()).await?;
    let mut tags = tags(&stack, command, folder).await;
    tags.append(&mut request.tags);
    request.tags = tags;
    request.stack = Some(stack.name);
    let (repositories, sources) = (request.repositories.clone(), request.sources.clone());
    let (wait, keep_running) = (request.wait, !request.only.is_empty());
    let finished = match backup(context, request, observer).await? {
        BackupReport::Planned(plan) => return Ok(Guarded::Planned(plan)),
        BackupReport::Done(finished) => finished,
    };
    let holder = finished
        .repositories
        .iter()
        .find(|stored| stored.failed.is_none());
    let holds = |repository: &&Repository| {
        holder.is_some_and(|holder| holder.repository == repository.location().to_string())
    };
    let repository = repositories
        .iter()
        .find(holds)
        .ok_or_else(|| Error::failed("no repository has the backup"))?;
    let commit = &finished.commit;
    let entry = repository
        .resolve(commit.backup.as_str(), Some(&commit.stack))
        .await?;
    let back = WayBack {
        repository: repository.clone(),
        entry,
        sources,
        keep_running,
        wait,
    };
    Ok(Guarded::Done(finished, Box::new(back)))
}

impl WayBack {
    /// The backup, with its stack.
    pub fn reference(&self) -> String {
        self.entry.reference()
    }

    /// Where it is.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Whether all of the backup could be put back in place as things are now: keys, servers, what is stopped.
    ///
    /// # Errors
    /// With the reason why not.
    pub async fn check(&self, context: &Context, observer: &dyn Observer) -> Result<()> {
        self.restore(context, true, observer).await.map(|_| ())
    }

    /// Puts all of the backup back in place.
    ///
    /// # Errors
    /// As [`restore`].
    pub async fn take(&self, context: &Context, observer: &dyn Observer) -> Result<RestoreReport> {
        self.restore(context, false, observer).await
    }

    async fn restore(
        &self,
        context: &Context,
        dry_run: bool,
        observer: &dyn Observer,
    ) -> Result<RestoreReport> {
        let request = RestoreRequest {
            repository: self.repository.clone(),
            entry: self.entry.clone(),
            only: Vec::new(),
            target: Target::InPlace,
            into: None,
            sources: self.sources.clone(),
            keep_running: self.keep_running,
            health: HEALTH_LIMIT,
            wait: self.wait,
            dry_run,
        };
        restore(context, request, observer).await
    }
}

/// What is run, from which commit, on which images.
async fn tags(stack: &Stack, command: &[String], folder: &Path) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::from([("command".to_owned(), shortened(&shown(command)))]);
    for service in &stack.services {
        let digest = service.image_digest.as_ref().unwrap_or(&service.image_id);
        tags.entry(format!("image.{}", service.name))
            .or_insert_with(|| digest.clone());
    }
    if let Some(commit) = git(folder, &["rev-parse", "--verify", "HEAD"]).await {
        tags.insert("git-commit".to_owned(), commit);
        // Files that git does not know are not looked for: a repository of backups may lie here.
        let changed = git(folder, &["status", "--porcelain", "--untracked-files=no"]).await;
        if changed.is_some_and(|changed| !changed.is_empty()) {
            tags.insert("git-dirty".to_owned(), "true".to_owned());
        }
    }
    tags
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_COMMAND) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What git says about a folder; nothing where there is no git or no work tree.
async fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(GIT_TIME, output).await.ok()?.ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}

//! Capturing a stack: every source streamed into one repository, committed as a whole or not at all.

use super::Context;
use super::journal::Journal;
use super::plan::{Executor, Plan, Step, execute};
use super::sources::{SourceOptions, SourcesByStack, find_stack, postgres_services, ready_server};
use super::{journal, recipe};
use crate::docker::lock::StackLock;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer};
use crate::manifest::{
    Artifact, BackupId, Commit, Consistency, Encoding, FORMAT, Facts, Manifest, Sealed,
};
use crate::pipeline::{SealOptions, seal};
use crate::repository::{BackupWriter, Entry, Repository};
use crate::source::postgres::{Capability, Capture, Database, Server};
use crate::stack::{ArtifactName, Service, Stack};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// zstd level of stored bytes where nobody says otherwise: above it, time grows faster than size falls.
const DEFAULT_LEVEL: u8 = 1;
/// Threads that compress on the host.
const THREADS: u32 = 2;

/// What to back up, and how.
#[derive(Debug)]
pub struct BackupRequest {
    /// The stack; without it, the one that there is.
    pub stack: Option<String>,
    /// Where to.
    pub repository: Repository,
    /// Only these artifacts, by name or folder; empty for all.
    pub only: Vec<String>,
    /// The sources' configuration.
    pub sources: SourcesByStack,
    /// The person's own marks.
    pub tags: BTreeMap<String, String>,
    /// Pin it at once.
    pub pin: bool,
    /// Commit what there is where an artifact fails; the backup is then partial.
    pub allow_partial: bool,
    /// zstd level of the stored bytes, 1 to 19; the configuration's, else 1, where it is not given.
    pub level: Option<u8>,
    /// How long to wait for another run on the stack; none to fail at once.
    pub wait: Option<Duration>,
    /// Why it runs: `manual`, a schedule's name.
    pub trigger: String,
    /// Print the plan and stop.
    pub dry_run: bool,
}

/// What became of it.
#[derive(Debug)]
pub enum BackupReport {
    /// What would be done.
    Planned(Plan),
    /// It exists.
    Done(Box<Finished>),
}

/// A backup that exists.
#[derive(Debug)]
pub struct Finished {
    /// Its commit.
    pub commit: Commit,
    /// Where it is.
    pub repository: String,
    /// How long it took.
    pub duration: Duration,
    /// Where it is partial: what is missing, and why.
    pub missing: Vec<String>,
    /// The warnings, for the report's end.
    pub warnings: Vec<String>,
}

/// Backs up a stack.
///
/// # Errors
/// Busy where another run holds the stack; failed, with nothing listed and nothing left, where any
/// artifact failed (unless partial backups are allowed).
pub async fn backup(
    context: &Context,
    request: BackupRequest,
    observer: &dyn Observer,
) -> Result<BackupReport> {
    let begun = Instant::now();
    let engine = context.engine()?;
    let stack = find_stack(engine, request.stack.as_deref()).await?;
    let id = context.new_id()?;
    let services = postgres_services(engine, &stack).await?;
    let image = match services.first() {
        Some(service) => service.image_id.clone(),
        None => {
            return Err(
                Error::usage(format!("stack {} has no database to back up", stack.name))
                    .hint("label the container lifeboat.source=postgres if it is one"),
            );
        }
    };
    let lock = match request.dry_run {
        true => None,
        false => Some(
            context
                .unless_cancelled(take_lock(
                    context,
                    &stack.name,
                    &id,
                    &image,
                    "backup",
                    request.wait,
                ))
                .await?,
        ),
    };
    let outcome = locked(
        context,
        &request,
        &stack,
        &services,
        &id,
        lock.as_ref(),
        observer,
    )
    .await;
    release(lock, observer).await;
    let report = outcome?;
    if let BackupReport::Done(finished) = report {
        return Ok(BackupReport::Done(Box::new(Finished {
            duration: begun.elapsed(),
            ..*finished
        })));
    }
    Ok(report)
}

/// Takes the stack's lock, at once or within `wait`, and puts right what a dead run left behind.
pub(super) async fn take_lock(
    context: &Context,
    stack: &str,
    run: &BackupId,
    image: &str,
    operation: &str,
    wait: Option<Duration>,
) -> Result<StackLock> {
    let engine = context.engine()?;
    let owner = context.owner(run)?;
    let lock = match wait {
        None => engine.lock(stack, &owner, image, operation).await?,
        Some(wait) => {
            engine
                .lock_waiting(stack, &owner, image, operation, wait)
                .await?
        }
    };
    // What stays is swept by the next run.
    let _ = engine.sweep().await;
    // Whoever wrote these no longer holds the lock: they are dead.
    for dead in journal::unfinished(&context.state, stack) {
        journal::close(&context.state, &dead.plan.run)?;
    }
    Ok(lock)
}

/// Gives the stack's lock back. What the run has done stands, whatever becomes of the lock.
pub(super) async fn release(lock: Option<StackLock>, observer: &dyn Observer) {
    let Some(lock) = lock else { return };
    if let Err(error) = lock.release().await {
        observer.observe(&Event::Warning {
            message: format!(
                "the lock could not be given back, it lapses within five minutes: {}",
                error.chain()
            ),
        });
    }
}

async fn locked(
    context: &Context,
    request: &BackupRequest,
    stack: &Stack,
    services: &[Service],
    id: &BackupId,
    lock: Option<&StackLock>,
    observer: &dyn Observer,
) -> Result<BackupReport> {
    let options = request
        .sources
        .get(&stack.name)
        .cloned()
        .unwrap_or_default();
    let sources = context
        .unless_cancelled(inspect(context, request, &options, services, id))
        .await?;
    let mut steps: Vec<Step> = sources
        .iter()
        .map(|source| Step::Capture {
            artifact: source.name.clone(),
        })
        .collect();
    steps.push(Step::Commit {
        repository: request.repository.location().to_string(),
    });
    let plan = Plan {
        operation: "backup".to_owned(),
        run: id.to_string(),
        stack: stack.name.clone(),
        steps,
    };
    let Some(lock) = lock else {
        return Ok(BackupReport::Planned(plan));
    };
    observer.observe(&Event::RunStarted {
        operation: "backup",
        run: id.to_string(),
        stack: stack.name.clone(),
    });
    let previous = previous_sizes(&request.repository, &stack.name).await;
    let stack_json = context.engine()?.describe(stack).await?;
    let mut run = Run {
        context,
        request,
        options,
        stack,
        stack_json,
        id,
        sources,
        previous,
        writer: Some(request.repository.begin(&stack.name, id).await?),
        observer,
        started: context.now(),
        sealed: Vec::new(),
        facts: Facts::default(),
        notes: Vec::new(),
        missing: Vec::new(),
        warnings: Vec::new(),
        commit: None,
    };
    let journal = Journal::begin(&context.state, &plan)?;
    let result = execute(&plan, &mut run, journal, context, lock, observer).await;
    if result.is_err() {
        run.give_up().await;
    }
    result?;
    let commit = run
        .commit
        .ok_or_else(|| Error::failed("the backup was not committed"))?;
    if request.pin {
        let entry = request
            .repository
            .resolve(id.as_str(), Some(&stack.name))
            .await?;
        request
            .repository
            .pin(&entry, "backup --pin", context.now())
            .await?;
    }
    Ok(BackupReport::Done(Box::new(Finished {
        commit,
        repository: request.repository.location().to_string(),
        duration: Duration::ZERO,
        missing: run.missing,
        warnings: run.warnings,
    })))
}

/// One artifact that is going to be captured.
struct Planned {
    name: ArtifactName,
    server: Server,
    capability: Capability,
    version: String,
    /// `None` for the globals.
    database: Option<Database>,
}

/// Asks every service what it holds. Everything that can be known to fail fails here, before a byte is written.
async fn inspect(
    context: &Context,
    request: &BackupRequest,
    options: &SourceOptions,
    services: &[Service],
    id: &BackupId,
) -> Result<Vec<Planned>> {
    let mut planned = Vec::new();
    let excluded =
        |name: &ArtifactName| options.exclude.iter().any(|pattern| name.matches(pattern));
    let wanted = |name: &ArtifactName| {
        (request.only.is_empty() || request.only.iter().any(|pattern| name.matches(pattern)))
            && !excluded(name)
    };
    let mut seen = Vec::new();
    for service in services {
        let service_pattern = format!("postgres/{}", crate::stack::encode(&service.name));
        if options.exclude.contains(&service_pattern) {
            continue;
        }
        let server = ready_server(context, service, options, id.as_str()).await?;
        end_dead_sessions(&server).await;
        let version = server.version().await?;
        let capability = server.capability().await?;
        let globals = ArtifactName::Globals {
            service: service.name.clone(),
        };
        let databases = server.databases_to_capture().await?.into_iter().map(Some);
        for database in std::iter::once(None).chain(databases) {
            let name = match &database {
                None => globals.clone(),
                Some(database) => ArtifactName::Database {
                    service: service.name.clone(),
                    database: database.name.clone(),
                },
            };
            seen.push(name.to_string());
            if wanted(&name) {
                planned.push(Planned {
                    name,
                    server: server.clone(),
                    capability,
                    version: version.clone(),
                    database,
                });
            }
        }
    }
    for pattern in &request.only {
        if !planned.iter().any(|planned| planned.name.matches(pattern)) {
            let near = crate::error::nearest(pattern, seen.iter().map(String::as_str));
            let error = Error::usage(format!("nothing of the stack is called {pattern:?}"));
            return Err(error.hint(match near.is_empty() {
                true => format!("the stack has {}", seen.join(", ")),
                false => format!("did you mean {}?", near.join(" or ")),
            }));
        }
    }
    if planned.is_empty() {
        return Err(Error::usage(
            "everything of this stack is excluded: there is nothing to back up",
        ));
    }
    Ok(planned)
}

/// Ends what dead runs of lifeboat still do on the server: when a client goes away, its exec keeps
/// running. Called with the stack's lock held, so whoever has such a session is dead.
pub(super) async fn end_dead_sessions(server: &Server) {
    let Ok(session) = server.connect("postgres").await else {
        // Without SQL there is nothing to be done about them, and a dump still works.
        return;
    };
    let _ = session
        .query(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where application_name ~ '^lifeboat-[0-9]{8}T[0-9]{6}Z-[a-z0-9]{4}$' and application_name <> $1",
            &[&server.application_name()],
        )
        .await;
}

/// The sizes of the newest complete backup's artifacts, plain and stored. A hint for warnings and
/// progress bars only.
async fn previous_sizes(
    repository: &Repository,
    stack: &str,
) -> BTreeMap<ArtifactName, (u64, u64)> {
    let Ok(entries) = repository.list(stack).await else {
        return BTreeMap::new();
    };
    let complete = |entry: &&Entry| entry.commit.as_ref().is_some_and(|commit| commit.complete);
    let Some(entry) = entries.iter().find(complete) else {
        return BTreeMap::new();
    };
    let Ok(backup) = repository.open_backup(entry).await else {
        return BTreeMap::new();
    };
    let artifacts = backup.manifest().artifacts.iter();
    artifacts
        .map(|artifact| {
            let sizes = (artifact.raw_size, artifact.stored_size);
            (artifact.name.clone(), sizes)
        })
        .collect()
}

/// A backup at work.
struct Run<'a> {
    context: &'a Context,
    request: &'a BackupRequest,
    options: SourceOptions,
    stack: &'a Stack,
    stack_json: serde_json::Value,
    id: &'a BackupId,
    sources: Vec<Planned>,
    previous: BTreeMap<ArtifactName, (u64, u64)>,
    writer: Option<BackupWriter>,
    observer: &'a dyn Observer,
    started: DateTime<Utc>,
    sealed: Vec<Sealed>,
    facts: Facts,
    notes: Vec<String>,
    missing: Vec<String>,
    warnings: Vec<String>,
    commit: Option<Commit>,
}

impl Executor for Run<'_> {
    async fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Capture { artifact } => match self.capture(artifact).await {
                Err(error) if self.request.allow_partial && error.kind() == Kind::Failed => {
                    let reason = format!("{artifact}: {}", error.chain());
                    self.warn(format!("not captured: {reason}"));
                    self.missing.push(reason);
                    Ok(())
                }
                result => result,
            },
            Step::Commit { .. } => self.commit().await,
            _ => Err(Error::failed("a backup has no such step")),
        }
    }

    async fn undo(&mut self, _: &Step) -> Result<()> {
        match self.writer.take() {
            Some(writer) => writer.abandon().await,
            None => Ok(()),
        }
    }
}

impl Run<'_> {
    async fn capture(&mut self, name: &ArtifactName) -> Result<()> {
        let source = self
            .sources
            .iter()
            .find(|source| source.name == *name)
            .ok_or_else(|| Error::failed(format!("{name} is not part of this run")))?;
        let begun = Instant::now();
        let started = self.context.now();
        self.observer.observe(&Event::ArtifactStarted {
            artifact: name.to_string(),
            expected: self.previous.get(name).map(|(_, stored)| *stored),
        });
        let compress = self.options.compress;
        let mut capture = match &source.database {
            Some(database) => {
                source
                    .server
                    .dump(database, source.capability, compress)
                    .await?
            }
            None => {
                source
                    .server
                    .dump_globals(source.capability, compress)
                    .await?
            }
        };
        let notes = std::mem::take(&mut capture.notes);
        let (artifact, facts) = self.store(source, capture, started).await?;
        let (raw_size, stored_size) = (
            artifact.artifact().raw_size,
            artifact.artifact().stored_size,
        );
        self.sealed.push(artifact);
        self.facts.0.insert(name.to_string(), facts);
        for note in &notes {
            self.warn(note.clone());
        }
        self.notes.extend(notes);
        if let Some((previous, _)) = self.previous.get(name)
            && raw_size < previous / 2
        {
            let text = format!(
                "{name} is {raw_size} bytes, less than half of the {previous} of the last backup"
            );
            self.notes.push(text.clone());
            self.warn(text);
        }
        self.observer.observe(&Event::ArtifactFinished {
            artifact: name.to_string(),
            raw_size,
            stored_size,
            seconds: begun.elapsed().as_secs_f64(),
        });
        Ok(())
    }

    /// The stream of a capture through the pipeline into the repository, and the proof that it is whole.
    async fn store(
        &self,
        source: &Planned,
        mut capture: Capture,
        started: DateTime<Utc>,
    ) -> Result<(Sealed, serde_json::Value)> {
        let writer = self
            .writer
            .as_ref()
            .ok_or_else(|| Error::failed("the backup was given up"))?;
        let options = SealOptions {
            incoming: capture.incoming,
            level: self
                .request
                .level
                .or(self.options.level)
                .unwrap_or(DEFAULT_LEVEL),
            threads: THREADS,
        };
        let encoding = vec![Encoding::Zstd];
        let mut upload = writer.upload(&capture.name, &encoding)?;
        let (mut input, mut output) = seal(&options, capture.inspector())?;
        let artifact = capture.name.to_string();
        let read = async {
            while let Some(bytes) = capture.next().await? {
                input.push(bytes).await?;
            }
            input.finish().await
        };
        let write = async {
            let mut stored = 0;
            while let Some(bytes) = output.next().await? {
                stored += bytes.len() as u64;
                upload.write(bytes).await?;
                self.observer.observe(&Event::Progress {
                    artifact: artifact.clone(),
                    bytes: stored,
                });
            }
            Ok(())
        };
        let measured = match tokio::try_join!(read, write) {
            Ok((measured, ())) => measured,
            Err(error) => {
                upload.abort().await;
                return Err(error);
            }
        };
        let name = capture.name.clone();
        let media_type = capture.media_type.to_owned();
        let (proof, facts) = match capture.finish(measured.inspection.facts).await {
            Ok(ended) => ended,
            Err(error) => {
                upload.abort().await;
                return Err(error);
            }
        };
        let objects = upload.finish().await?;
        let service = source.server.service();
        let sealed = Sealed::new(
            &proof,
            Artifact {
                source: name.source_kind(),
                name,
                container_id: service.container_id.clone(),
                image: service.image.clone(),
                image_digest: service
                    .image_digest
                    .clone()
                    .unwrap_or_else(|| service.image_id.clone()),
                engine_version: source.version.clone(),
                media_type,
                encoding,
                raw_size: measured.raw_size,
                stored_size: measured.stored_size,
                objects,
                started,
                finished: self.context.now(),
                consistency: Consistency::Snapshot,
            },
        )?;
        Ok((sealed, facts))
    }

    async fn commit(&mut self) -> Result<()> {
        if self.sealed.is_empty() {
            return Err(Error::failed(format!(
                "nothing was captured: {}",
                self.missing.join("; ")
            )));
        }
        let manifest = Manifest {
            format: FORMAT,
            backup: self.id.clone(),
            stack: self.stack.name.clone(),
            host: self.context.host.clone(),
            lifeboat_version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            finished: self.context.now(),
            trigger: self.request.trigger.clone(),
            tags: self.request.tags.clone(),
            complete: self.missing.is_empty(),
            reasons: self.missing.clone(),
            notes: self.notes.clone(),
            artifacts: self
                .sealed
                .iter()
                .map(|sealed| sealed.artifact().clone())
                .collect(),
        };
        let recipe = recipe::restore_md(&manifest);
        let writer = self
            .writer
            .take()
            .ok_or_else(|| Error::failed("the backup was given up"))?;
        let sealed = std::mem::take(&mut self.sealed);
        self.commit = Some(
            writer
                .commit(manifest, sealed, &self.facts, &self.stack_json, &recipe)
                .await?,
        );
        Ok(())
    }

    /// After a failure: ends what still runs in the containers under this run's name.
    async fn give_up(&self) {
        let mut done: Vec<&str> = Vec::new();
        for source in &self.sources {
            let service = source.server.service().name.as_str();
            if done.contains(&service) {
                continue;
            }
            done.push(service);
            if let Ok(session) = source.server.connect("postgres").await {
                let _ = session
                    .query(
                        "select pg_terminate_backend(pid) from pg_stat_activity \
                         where application_name = $1 and pid <> pg_backend_pid()",
                        &[&source.server.application_name()],
                    )
                    .await;
            }
        }
    }

    fn warn(&mut self, message: String) {
        self.observer.observe(&Event::Warning {
            message: message.clone(),
        });
        self.warnings.push(message);
    }
}

//! A backup at work: each source's stream through the pipeline into the repository, then the commit.

use super::Context;
use super::backup::BackupRequest;
use super::fan_out::Lanes;
use super::hooks::{HookCall, Surroundings, When};
use super::inventory::{Planned, Source};
use super::plan::Executor;
use super::quiesce::{quiesce, resume, take_back};
use super::recipe::Recipe;
use super::sources::{SourceOptions, some_image};
use super::step::Step;
use crate::docker::quiesce::Standstill;
use crate::error::{Error, Kind, OrFail, Result};
use crate::event::{Event, Observer};
use crate::manifest::{Artifact, BackupId, Encoding, FORMAT, Facts, Manifest, Remarks, Sealed};
use crate::pipeline::{SealOptions, seal};
use crate::source::Capture;
use crate::stack::{ArtifactName, Stack};
use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use std::collections::BTreeMap;
use std::time::Instant;

/// zstd level of stored bytes where nobody says otherwise: above it, time grows faster than size falls.
const DEFAULT_LEVEL: u8 = 1;
/// Threads that compress on the host.
const THREADS: u32 = 2;

/// A backup at work.
pub(super) struct Run<'a> {
    pub context: &'a Context,
    pub request: &'a BackupRequest,
    pub options: &'a SourceOptions,
    pub stack: &'a Stack,
    pub stack_json: serde_json::Value,
    pub id: &'a BackupId,
    pub sources: Vec<Planned>,
    pub previous: BTreeMap<ArtifactName, (u64, u64)>,
    pub lanes: Lanes,
    /// What artifacts are called in the repositories, where that is not their own name.
    pub names: BTreeMap<ArtifactName, ArtifactName>,
    pub observer: &'a dyn Observer,
    pub started: DateTime<Utc>,
    pub sealed: Vec<Sealed>,
    pub facts: Facts,
    pub notes: Vec<String>,
    pub missing: Vec<String>,
    pub warnings: Vec<String>,
    /// What is committed, once all of it has landed.
    pub ready: Option<Ready>,
    /// Whether a step has failed.
    pub has_failed: bool,
    /// What went wrong with what is not the backup, which is none the worse for that: not everything that was stopped
    /// runs again, a hook after it failed.
    pub afterwards: Vec<Error>,
}

impl Executor for Run<'_> {
    async fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Capture { artifact } => self.capture_all(std::slice::from_ref(artifact)).await,
            Step::CaptureTogether { artifacts } => self.capture_all(artifacts).await,
            Step::Quiesce { standstill } => self.quiesce(standstill).await,
            Step::Resume { standstill } => {
                let resumed = resume(self.context, self.id.as_str(), standstill).await;
                self.afterwards.extend(resumed.err());
                Ok(())
            }
            Step::RunHook { when, hook } => self.run_hook(*when, hook).await,
            Step::Commit { repository } => self.commit(repository).await,
            _ => Err(Error::failed("a backup has no such step")),
        }
    }

    async fn undo(&mut self, step: &Step) -> Result<()> {
        if let Step::Quiesce { standstill } = step {
            return take_back(self.context, self.id.as_str(), standstill).await;
        }
        match step {
            Step::RunHook { .. } => Ok(()),
            _ => self.lanes.abandon().await,
        }
    }

    async fn failed(&mut self) {
        self.has_failed = true;
        // Where the first step failed that is not a capture, nothing of that was undone, and all was begun.
        let _ = self.lanes.abandon().await;
        self.give_up().await;
    }
}

/// A backup's description.
pub(super) struct Ready {
    manifest: Manifest,
    sealed: Vec<Sealed>,
    recipe: String,
}

/// What became of one artifact.
enum Captured {
    Landed(Box<Landed>),
    /// It failed, which is allowed; why.
    Missing(String),
}

/// An artifact in the repository.
struct Landed {
    /// Its own name, also where the repository has it under another one.
    name: ArtifactName,
    sealed: Sealed,
    facts: serde_json::Value,
    notes: Vec<String>,
}

impl Run<'_> {
    /// Captures artifacts: those of one service one after another, the services side by side, so that their
    /// moments are close together.
    async fn capture_all(&mut self, artifacts: &[ArtifactName]) -> Result<()> {
        let mut lanes: Vec<Vec<&ArtifactName>> = Vec::new();
        for name in artifacts {
            match lanes
                .iter_mut()
                .find(|lane| lane[0].service() == name.service())
            {
                Some(lane) => lane.push(name),
                None => lanes.push(vec![name]),
            }
        }
        let run = &*self;
        let lanes = lanes.into_iter().map(|lane| async move {
            let mut captured = Vec::new();
            for name in lane {
                captured.push(run.attempt(name).await?);
            }
            Ok::<_, Error>(captured)
        });
        for captured in try_join_all(lanes).await?.into_iter().flatten() {
            match captured {
                Captured::Landed(landed) => self.take(*landed),
                Captured::Missing(reason) => self.lacks(reason),
            }
        }
        Ok(())
    }

    /// Stops or pauses containers, once it is known that their volumes can be read.
    async fn quiesce(&self, standstill: &Standstill) -> Result<()> {
        for planned in &self.sources {
            if let Source::Volume(volume) = &planned.source {
                volume.prepare().await?;
            }
        }
        let image = some_image(self.context, self.stack).await?;
        quiesce(self.context, self.id, &self.stack.name, &image, standstill).await
    }

    /// Captures one artifact; that it failed is no error where a partial backup is allowed.
    async fn attempt(&self, name: &ArtifactName) -> Result<Captured> {
        match self.capture(name).await {
            Ok(landed) => Ok(Captured::Landed(Box::new(landed))),
            Err(error) if self.request.allow_partial && error.kind() == Kind::Failed => {
                Ok(Captured::Missing(format!("{name}: {}", error.chain())))
            }
            Err(error) => Err(error.while_doing(format!("cannot capture {name}"))),
        }
    }

    async fn capture(&self, name: &ArtifactName) -> Result<Landed> {
        let source = self
            .sources
            .iter()
            .find(|source| source.name == *name)
            .ok_or_else(|| Error::failed(format!("{name} is not part of this run")))?;
        let begun = Instant::now();
        self.observer.observe(&Event::ArtifactStarted {
            artifact: name.to_string(),
            expected: self.previous.get(name).map(|(_, stored)| *stored),
        });
        let capture = source.start(self.options.compress, self.level()).await?;
        let (sealed, facts, notes) = self.store(source, capture, self.context.now()).await?;
        self.observer.observe(&Event::ArtifactFinished {
            artifact: name.to_string(),
            raw_size: sealed.artifact().raw_size,
            stored_size: sealed.artifact().stored_size,
            seconds: begun.elapsed().as_secs_f64(),
        });
        Ok(Landed {
            name: name.clone(),
            sealed,
            facts,
            notes,
        })
    }

    /// Runs a hook. That one after a backup that is there fails takes nothing from the backup.
    async fn run_hook(&mut self, when: When, hook: &HookCall) -> Result<()> {
        let is_everywhere = self.request.unreachable.is_empty() && self.lanes.all_work();
        let outcome = match (self.has_failed, self.missing.is_empty() && is_everywhere) {
            (true, _) => "failed",
            (false, true) => "succeeded",
            (false, false) => "partial",
        };
        let surroundings = Surroundings {
            context: self.context,
            stack: self.stack,
            run: self.id.as_str(),
            outcome: (when == When::After).then_some(outcome),
            observer: self.observer,
        };
        match (surroundings.run(when, hook).await, when) {
            (Err(error), When::After) if !self.has_failed => {
                self.afterwards.push(error);
                Ok(())
            }
            (ran, _) => ran,
        }
    }

    /// That all is well besides the backup.
    ///
    /// # Errors
    /// With all that is not.
    pub(super) fn check_afterwards(&mut self) -> Result<()> {
        let mut wrong = std::mem::take(&mut self.afterwards).into_iter();
        let Some(first) = wrong.next() else {
            return Ok(());
        };
        for further in wrong {
            self.warn(further.chain());
        }
        Err(first.while_doing(format!("the backup {} is there, but", self.id)))
    }

    /// Takes note of what will be missing.
    pub(super) fn lacks(&mut self, reason: String) {
        self.warn(format!("not captured: {reason}"));
        self.missing.push(reason);
    }

    /// Takes note of an artifact that landed.
    fn take(&mut self, landed: Landed) {
        let public = &landed.sealed.artifact().name;
        self.facts.0.insert(public.to_string(), landed.facts);
        let name = landed.name;
        let raw_size = landed.sealed.artifact().raw_size;
        self.sealed.push(landed.sealed);
        let mut notes = landed.notes;
        if let Some((previous, _)) = self.previous.get(&name)
            && raw_size < previous / 2
        {
            notes.push(format!(
                "{name} is {raw_size} bytes, less than half of the {previous} of the last backup"
            ));
        }
        for note in notes {
            self.warn(note.clone());
            self.notes.push(note);
        }
    }

    /// The stream of a capture through the pipeline into the repository, and the proof that it is whole.
    async fn store(
        &self,
        source: &Planned,
        mut capture: Capture,
        started: DateTime<Utc>,
    ) -> Result<(Sealed, serde_json::Value, Vec<String>)> {
        let options = SealOptions {
            incoming: capture.incoming(),
            level: self.level(),
            threads: THREADS,
            recipients: self
                .lanes
                .protection()
                .and_then(|protection| protection.recipients.clone()),
        };
        let mut encoding = vec![Encoding::Zstd];
        if options.recipients.is_some() {
            encoding.push(Encoding::Age);
        }
        let public = self.names.get(capture.name()).unwrap_or(capture.name());
        let public = public.clone();
        let mut upload = self.lanes.upload(&public, &encoding)?;
        let (mut input, mut output) = seal(&options, capture.inspector())?;
        let artifact = capture.name().to_string();
        let mut ended = false;
        let read = async {
            while let Some(bytes) = capture.next().await? {
                input.push(bytes).await?;
            }
            ended = true;
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
                // A program that failed leaves a stream that is too short; its own words say why.
                let said = if ended {
                    capture.finish(serde_json::Value::Null).await.err()
                } else {
                    capture.abort().await;
                    None
                };
                return Err(said.unwrap_or(error));
            }
        };
        let name = public;
        let media_type = capture.media_type().to_owned();
        let method = capture.method().map(str::to_owned);
        let ended = match capture.finish(measured.inspection.facts).await {
            Ok(ended) => ended,
            Err(error) => {
                upload.abort().await;
                return Err(error);
            }
        };
        let objects = upload.finish().await?;
        let origin = source.origin();
        let sealed = Sealed::new(
            &ended.proof,
            Artifact {
                source: name.source_kind(),
                name,
                container_id: origin.container_id,
                image: origin.image,
                image_digest: origin.image_digest,
                engine_version: source.version().to_owned(),
                media_type,
                encoding,
                raw_size: ended.raw_size.unwrap_or(measured.raw_size),
                stored_size: measured.stored_size,
                objects,
                started,
                finished: self.context.now(),
                consistency: source.consistency(),
                method,
            },
        )?;
        Ok((sealed, ended.facts, ended.notes))
    }

    async fn commit(&mut self, repository: &str) -> Result<()> {
        let ready = match self.ready.take() {
            Some(ready) => ready,
            None => self.describe()?,
        };
        let committed = self
            .lanes
            .commit(
                repository,
                &ready.manifest,
                &ready.sealed,
                &self.facts,
                &self.stack_json,
                &ready.recipe,
            )
            .await;
        self.ready = Some(ready);
        committed
    }

    /// What all repositories get to read about the backup.
    fn describe(&mut self) -> Result<Ready> {
        if self.sealed.is_empty() {
            return Err(Error::failed(format!(
                "nothing was captured: {}",
                self.missing.join("; ")
            )));
        }
        let mut manifest = Manifest {
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
            only: self.request.only.clone(),
            reasons: self.missing.clone(),
            notes: self.notes.clone(),
            hidden_names: !self.names.is_empty(),
            artifacts: self
                .sealed
                .iter()
                .map(|sealed| sealed.artifact().clone())
                .collect(),
        };
        let encrypted = self
            .lanes
            .protection()
            .is_some_and(|protection| protection.recipients.is_some());
        if encrypted {
            self.withdraw(&mut manifest)?;
        }
        let protection = self.lanes.protection();
        let recipe = Recipe {
            manifest: &manifest,
            stack: self.stack,
            described: &self.stack_json,
            signed: protection.is_some_and(|protection| protection.signer.is_some()),
        };
        Ok(Ready {
            recipe: recipe.text(),
            manifest,
            sealed: std::mem::take(&mut self.sealed),
        })
    }

    /// Moves out of a manifest that everybody may read what could tell of the content, and into the facts.
    fn withdraw(&mut self, manifest: &mut Manifest) -> Result<()> {
        let remarks = Remarks {
            only: std::mem::take(&mut manifest.only),
            reasons: std::mem::take(&mut manifest.reasons),
            notes: std::mem::take(&mut manifest.notes),
        };
        if !remarks.reasons.is_empty() {
            let count = remarks.reasons.len();
            manifest.reasons = vec![format!(
                "{count} parts are missing; the facts say which, and why"
            )];
        }
        if !remarks.only.is_empty() {
            // That it is not all of the stack has to be seen; what it is, its artifacts' names say.
            let artifacts = manifest.artifacts.iter();
            manifest.only = artifacts
                .map(|artifact| artifact.name.to_string())
                .collect();
        }
        if remarks != Remarks::default() {
            let value = serde_json::to_value(&remarks).or_fail(|| "cannot write the remarks")?;
            self.facts.0.insert(Facts::REMARKS.to_owned(), value);
        }
        if !self.names.is_empty() {
            let names: BTreeMap<String, String> = self
                .names
                .iter()
                .map(|(real, public)| (public.to_string(), real.to_string()))
                .collect();
            let value = serde_json::to_value(&names).or_fail(|| "cannot write the names")?;
            self.facts.0.insert(Facts::NAMES.to_owned(), value);
        }
        Ok(())
    }

    /// After a failure: ends what still runs in the containers under this run's name.
    async fn give_up(&self) {
        let mut done: Vec<&str> = Vec::new();
        for source in &self.sources {
            let Some(service) = source.name.service() else {
                continue;
            };
            if done.contains(&service) {
                continue;
            }
            done.push(service);
            match &source.source {
                Source::Postgres { server, .. } => {
                    let Ok(session) = server.maintenance(&[]).await else {
                        continue;
                    };
                    let _ = session
                        .query(
                            "select pg_terminate_backend(pid) from pg_stat_activity \
                             where application_name = $1 and pid <> pg_backend_pid()",
                            &[&server.application_name()],
                        )
                        .await;
                }
                Source::Redis { server, .. } => {
                    let _ = server.end_processes(false).await;
                }
                Source::Volume(_) | Source::Files(_) => {}
            }
        }
        if let Ok(engine) = self.context.engine() {
            let _ = engine.end_scratches(self.id.as_str()).await;
        }
    }

    /// The zstd level of stored bytes.
    fn level(&self) -> u8 {
        self.request
            .level
            .or(self.options.level)
            .unwrap_or(DEFAULT_LEVEL)
    }

    fn warn(&mut self, message: String) {
        self.observer.observe(&Event::Warning {
            message: message.clone(),
        });
        self.warnings.push(message);
    }
}

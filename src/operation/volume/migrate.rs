//! A volume to another engine: streamed from one helper to another, nothing on a disk between.

use super::super::Context;
use super::super::helpers::helper_image;
use super::super::lock::release;
use super::super::quiesce::{self, quiesce, take_back};
use super::super::restore_trees::renamed;
use super::super::sources::some_image;
use super::super::trees::Trees;
use super::super::volume_source::{ROOT, open_session};
use super::copy::refuse_live_database;
use super::{Surroundings, take_lock};
use crate::archive::TreeFacts;
use crate::docker::Engine;
use crate::docker::helper::{HelperMount, Place};
use crate::docker::quiesce::Standstill;
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::helper::protocol::{Archived, Request};
use crate::manifest::BackupId;
use crate::source::volume::Session;
use crate::stack::{Quiesce, Volume};
use std::time::Duration;

/// The zstd level on the way, and threads for it.
const LEVEL: u8 = 1;
const THREADS: u32 = 2;

/// What to move, and where to.
#[derive(Debug)]
pub struct MigrateRequest {
    /// The volume.
    pub from: String,
    /// Its name there.
    pub to: String,
    /// The other engine.
    pub engine: Engine,
    /// What is done to containers that write to it meanwhile.
    pub quiesce: Option<Quiesce>,
    /// How long to wait for another run on the stack.
    pub wait: Option<Duration>,
}

/// Copies a volume to another engine, labels, driver and options with it, and reads it there again. The original stays.
///
/// # Errors
/// Usage where there is a volume of this name there; failed where what arrived is not what was read, and then nothing
/// is left there.
pub async fn migrate(
    context: &Context,
    request: &MigrateRequest,
    observer: &dyn Observer,
) -> Result<TreeFacts> {
    let engine = context.engine()?;
    let surroundings = Surroundings::of(engine).await?;
    let store = surroundings.store(&request.from)?;
    let volume = store.volume.clone().ok_or_else(|| {
        Error::usage(format!(
            "{} is a folder: migrate moves volumes",
            request.from
        ))
    })?;
    refuse_live_database(&store, request.quiesce)?;
    if request.engine.volume_exists(&request.to).await? {
        let same = engine.endpoint() == request.engine.endpoint();
        let error = Error::usage(format!(
            "the engine at {} has a volume {:?} already",
            request.engine.endpoint(),
            request.to
        ));
        return Err(match same {
            true => {
                error.hint("this is the same engine: lifeboat volume clone copies a volume on it")
            }
            false => error.hint("--as gives it another name there"),
        });
    }
    let run = context.new_id()?;
    let stack = surroundings.stack_of(&store);
    let lock = take_lock(
        context,
        &stack,
        &run,
        "volume migrate",
        request.wait,
        false,
        observer,
    )
    .await?;
    observer.observe(&Event::RunStarted {
        operation: "volume migrate",
        run: run.to_string(),
        stack: stack.name.clone(),
    });
    let containers = quiesce::containers([&store], &surroundings.stores.stacks, request.quiesce);
    let outcome = async {
        let standstill = Standstill::of(containers?);
        let from = mounted(context, &run, &store.place, true).await?;
        let image = some_image(context, &stack).await?;
        let stopped = quiesce(context, &run, &stack.name, &image, &standstill).await;
        let arrived = match stopped {
            Ok(()) => {
                let there = There {
                    context,
                    request,
                    run: &run,
                    stack: &stack.name,
                    observer,
                };
                context
                    .unless_cancelled(there.receive(from, &renamed(&volume, &request.to)))
                    .await
            }
            Err(error) => Err(error),
        };
        let resumed = take_back(context, run.as_str(), &standstill).await;
        let arrived = arrived?;
        resumed.map(|()| arrived)
    }
    .await;
    if outcome.is_err() {
        let _ = engine.end_scratches(run.as_str()).await;
    }
    release(lock, observer).await;
    outcome
}

async fn mounted(
    context: &Context,
    run: &BackupId,
    place: &Place,
    read_only: bool,
) -> Result<Session> {
    let mount = match read_only {
        true => HelperMount::read(place, ROOT),
        false => HelperMount::write(place, ROOT),
    };
    open_session(context, run, vec![mount], !read_only).await
}

/// The other engine's side.
struct There<'a> {
    context: &'a Context,
    request: &'a MigrateRequest,
    run: &'a BackupId,
    stack: &'a str,
    observer: &'a dyn Observer,
}

impl There<'_> {
    /// Under a lock there, so that a run that dies leaves a record of what is to be removed.
    async fn receive(&self, from: Session, volume: &Volume) -> Result<TreeFacts> {
        let engine = &self.request.engine;
        let context = Context {
            engine: Some(engine.clone()),
            ..self.context.clone()
        };
        let image = helper_image(&context, engine).await?;
        let owner = context.owner(self.run)?;
        let lock = engine
            .lock(self.stack, &owner, &image.id, "volume migrate")
            .await?;
        let standstill = Standstill {
            volumes: vec![volume.name.clone()],
            ..Standstill::default()
        };
        let trees = Trees::new(&context, self.run, self.observer);
        let outcome = async {
            engine
                .record_quiesced(&owner, self.stack, &image.id, &standstill)
                .await?;
            trees.create(volume).await?;
            self.stream(&context, from, volume).await
        }
        .await;
        let cleaned = match &outcome {
            Ok(_) => Ok(()),
            Err(_) => trees.discard(&volume.name).await,
        };
        if cleaned.is_ok() {
            engine.forget_quiesced(self.run.as_str()).await?;
        }
        release(Some(lock), self.observer).await;
        outcome
    }

    async fn stream(
        &self,
        there: &Context,
        mut from: Session,
        volume: &Volume,
    ) -> Result<TreeFacts> {
        let place = Place::Volume(volume.name.clone());
        let mut to = mounted(there, self.run, &place, false).await?;
        let name = self.request.from.clone();
        self.observer.observe(&Event::ArtifactStarted {
            artifact: name.clone(),
            expected: None,
        });
        from.ask(Request::Archive {
            root: ROOT.to_owned(),
            level: LEVEL,
            threads: THREADS,
            live: true,
        })
        .await?;
        to.ask(Request::Extract {
            root: ROOT.to_owned(),
            into: None,
            // How much it is, is known at its end.
            raw_size: u64::MAX,
        })
        .await?;
        let mut passed = 0;
        while let Some(bytes) = from.data().await? {
            passed += bytes.len() as u64;
            to.send(bytes).await?;
            self.observer.observe(&Event::Progress {
                artifact: name.clone(),
                bytes: passed,
            });
        }
        let archived: Archived = from.finish().await?;
        from.close().await?;
        to.sent_all().await?;
        let written: TreeFacts = to.finish().await?;
        let root = ROOT.to_owned();
        let read: TreeFacts = to.perform(Request::Digest { root }).await?;
        to.close().await?;
        if archived.tree != written || written != read {
            return Err(Error::failed(format!(
                "what arrived is not what was read: {} files with {} bytes were read, and {} with {} are there",
                archived.tree.files, archived.tree.bytes, read.files, read.bytes
            )));
        }
        if let Some(first) = archived.irregular.changed.first() {
            self.observer.observe(&Event::Warning {
                message: format!(
                    "changed while it was read: {first} and {} more; --quiesce stop stops who writes to it",
                    archived.irregular.changed.len() - 1
                ),
            });
        }
        Ok(read)
    }
}

//! Cloning and renaming: a copy that is compared with its original, and for a rename, the original removed once the
//! copy is proven and nobody has it mounted.

use super::super::Context;
use super::super::journal::Journal;
use super::super::lock::release;
use super::super::plan::{Executor, Plan, execute};
use super::super::quiesce::{self, quiesce, resume, take_back};
use super::super::restore_trees::renamed;
use super::super::sources::some_image;
use super::super::step::Step;
use super::super::trees::Trees;
use super::super::volume_source::with_session;
use super::super::volumes::Store;
use super::{Surroundings, take_lock};
use crate::docker::helper::{HelperMount, Place};
use crate::docker::quiesce::Standstill;
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::helper::protocol::{Copied, Request};
use crate::manifest::{BackupId, Consistency};
use crate::source::volume::Session;
use crate::stack::{Quiesce, Stack, Volume};
use std::time::Duration;

/// Where a helper has the original and the copy.
const FROM: &str = "/from";
const TO: &str = "/to";

/// What to copy.
#[derive(Debug)]
pub struct CopyRequest {
    /// The volume.
    pub from: String,
    /// The new one.
    pub to: String,
    /// Remove the first one then.
    pub rename: bool,
    /// What is done to containers that write to it meanwhile.
    pub quiesce: Option<Quiesce>,
    /// How long to wait for another run on the stack.
    pub wait: Option<Duration>,
    /// Make the plan and stop.
    pub dry_run: bool,
}

/// What became of it.
#[derive(Debug)]
pub struct CopyReport {
    /// What was done, or would be.
    pub plan: Plan,
    /// What was copied; `None` where nothing had to be, or was planned only.
    pub copied: Option<Copied>,
}

/// Clones or renames a volume.
///
/// # Errors
/// Usage where the new name is taken, or where the data of a running database would be copied; for a rename also
/// where a container has it mounted.
pub async fn copy(
    context: &Context,
    request: &CopyRequest,
    observer: &dyn Observer,
) -> Result<CopyReport> {
    let surroundings = Surroundings::of(context.engine()?).await?;
    let store = surroundings.store(&request.from)?;
    let volume = store.volume.clone().ok_or_else(|| {
        Error::usage(format!(
            "{} is a folder, and only volumes have names to give",
            request.from
        ))
    })?;
    if context.engine()?.volume_exists(&request.to).await? {
        return Err(
            Error::usage(format!("there is a volume {:?} already", request.to))
                .hint("choose another name; lifeboat volume diff shows how two differ"),
        );
    }
    if request.rename {
        refuse_mounted(&store)?;
    }
    refuse_live_database(&store, request.quiesce)?;
    let run = context.new_id()?;
    let stack = surroundings.stack_of(&store);
    let operation = match request.rename {
        true => "volume rename",
        false => "volume clone",
    };
    let plan = Plan {
        operation: operation.to_owned(),
        run: run.to_string(),
        stack: stack.name.clone(),
        steps: steps(request, &surroundings, &store, &volume, observer)?,
    };
    let lock = take_lock(
        context,
        &stack,
        &run,
        operation,
        request.wait,
        request.dry_run,
        observer,
    )
    .await?;
    let Some(lock) = lock else {
        return Ok(CopyReport { plan, copied: None });
    };
    observer.observe(&Event::RunStarted {
        operation,
        run: run.to_string(),
        stack: stack.name.clone(),
    });
    let mut work = Work {
        context,
        run: &run,
        stack: &stack,
        trees: Trees::new(context, &run, observer),
        observer,
        copied: None,
    };
    let outcome = async {
        let journal = Journal::begin(&context.state, &plan)?;
        execute(&plan, &mut work, journal, context, &lock, observer).await
    }
    .await;
    if outcome.is_err() {
        let _ = context.engine()?.end_scratches(run.as_str()).await;
    }
    let copied = work.copied;
    release(Some(lock), observer).await;
    outcome?;
    Ok(CopyReport { plan, copied })
}

fn steps(
    request: &CopyRequest,
    surroundings: &Surroundings,
    store: &Store,
    volume: &Volume,
    observer: &dyn Observer,
) -> Result<Vec<Step>> {
    let shared = volume.device();
    let new = match (shared, request.rename) {
        // Under its new name it is the same folder or device: nothing moves.
        (_, true) | (None, false) => renamed(volume, &request.to),
        (Some(device), false) => {
            observer.observe(&Event::Warning {
                message: format!(
                    "{} is made without the options of {}: they name {device}, and both would hold the same files",
                    request.to, request.from
                ),
            });
            Volume {
                labels: renamed(volume, &request.to).labels,
                ..Volume::plain(&request.to)
            }
        }
    };
    let copies = !(request.rename && shared.is_some());
    let standstill = Standstill {
        containers: match copies {
            true => quiesce::containers([store], &surroundings.stores.stacks, request.quiesce)?,
            false => Vec::new(),
        },
        // One that is in the place of a device is not the device: it is not removed with what it shows.
        volumes: vec![request.to.clone()],
        trees: Vec::new(),
        ..Standstill::default()
    };
    let mut steps = vec![
        Step::Quiesce {
            standstill: standstill.clone(),
        },
        Step::CreateVolume { volume: new },
    ];
    if copies {
        steps.push(Step::CopyTree {
            from: store.place.clone(),
            to: Place::Volume(request.to.clone()),
        });
    }
    steps.push(Step::Resume { standstill });
    if request.rename {
        steps.push(Step::RemoveVolume {
            name: request.from.clone(),
        });
    }
    Ok(steps)
}

/// A volume that a container has mounted keeps its name: the container would be left with a name that is gone.
pub(super) fn refuse_mounted(store: &Store) -> Result<()> {
    if store.users.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = store
        .users
        .iter()
        .map(|user| user.service.container_name.as_str())
        .collect();
    Err(Error::usage(format!(
        "{} is mounted by {}",
        store.place,
        names.join(", ")
    ))
    .hint(format!(
        "remove the containers first, running or not: docker compose down, or docker rm {}",
        names.join(" ")
    )))
}

/// The files of a running database are no copy of it.
pub(super) fn refuse_live_database(store: &Store, asked: Option<Quiesce>) -> Result<()> {
    let Some(covered) = &store.covered_by else {
        return Ok(());
    };
    match quiesce::consistency(store, asked)? {
        Consistency::Live => Err(Error::usage(format!(
            "{} holds the data of service {}, which runs: files that are read one after another are no copy of it",
            store.place, covered.service
        ))
        .hint("--quiesce stop stops it meanwhile")),
        _ => Ok(()),
    }
}

struct Work<'a> {
    context: &'a Context,
    run: &'a BackupId,
    stack: &'a Stack,
    trees: Trees<'a>,
    observer: &'a dyn Observer,
    copied: Option<Copied>,
}

impl Executor for Work<'_> {
    async fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Quiesce { standstill } => {
                let image = some_image(self.context, self.stack).await?;
                quiesce(self.context, self.run, &self.stack.name, &image, standstill).await
            }
            Step::Resume { standstill } => {
                resume(self.context, self.run.as_str(), standstill).await
            }
            Step::CreateVolume { volume } => self.trees.create(volume).await,
            Step::CopyTree { from, to } => self.copy(from, to).await,
            // The engine itself refuses where a container has come to use it meanwhile.
            Step::RemoveVolume { name } => self.context.engine()?.remove_volume(name).await,
            _ => Err(Error::failed("a copy has no such step")),
        }
    }

    async fn undo(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Quiesce { standstill } => {
                take_back(self.context, self.run.as_str(), standstill).await
            }
            Step::CreateVolume { volume } => self.trees.discard(&volume.name).await,
            _ => Ok(()),
        }
    }
}

impl Work<'_> {
    async fn copy(&mut self, from: &Place, to: &Place) -> Result<()> {
        let mounts = vec![HelperMount::read(from, FROM), HelperMount::write(to, TO)];
        let request = Request::Copy {
            from: FROM.to_owned(),
            to: TO.to_owned(),
        };
        // Whether the copy is kept in memory is the new volume's matter, and no limit is worth a failure here.
        let copy = async |session: &mut Session| session.perform(request).await;
        let copied: Copied = with_session(self.context, self.run, mounts, true, copy).await?;
        if copied.original != copied.copy {
            return Err(Error::failed(format!(
                "the copy is not what was read: {} files with {} bytes were read, and it holds {} with {}",
                copied.original.files, copied.original.bytes, copied.copy.files, copied.copy.bytes
            )));
        }
        for (what, paths) in [
            ("not copied", &copied.irregular.skipped),
            ("changed while it was copied", &copied.irregular.changed),
        ] {
            if let Some(first) = paths.first() {
                self.observer.observe(&Event::Warning {
                    message: format!("{what}: {first} and {} more", paths.len() - 1),
                });
            }
        }
        self.copied = Some(copied);
        Ok(())
    }
}

//! What runs that died have left: exchanged back, and started again.

use super::Context;
use super::exchange;
use super::quiesce::settle;
use super::snapshots::Snapshots;
use super::sources::{SourceOptions, SourceService, SourcesByStack, find_stack, source_services};
use super::trees::Trees;
use crate::docker::lock::PUTTING_RIGHT;
use crate::docker::quiesce::{Abandoned, Standstill};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer};
use crate::manifest::BackupId;
use std::collections::BTreeMap;

/// Starts what dead runs have stopped, on every stack that nobody else is at work on.
///
/// # Errors
/// Where the engine does not answer. That a container could not be started is a warning: it keeps nobody from work.
pub async fn resume_abandoned(
    context: &Context,
    sources: impl Fn() -> Result<SourcesByStack>,
    observer: &dyn Observer,
) -> Result<()> {
    let engine = context.engine()?;
    let abandoned = engine.abandoned().await?;
    let images: BTreeMap<&str, &str> = abandoned
        .iter()
        .map(|one| (one.stack.as_str(), one.image.as_str()))
        .collect();
    for (stack, image) in images {
        let run = context.new_id()?;
        let owner = context.owner(&run)?;
        let lock = engine.lock(stack, &owner, image, PUTTING_RIGHT).await;
        let lock = match lock {
            Ok(lock) => lock,
            // Whoever holds it has seen to this when it took it.
            Err(error) if error.kind() == Kind::Busy => continue,
            Err(error) => return Err(error),
        };
        // Looked at again: what ended well since has taken its record away before it gave the lock back.
        let resumed = async {
            let (services, options) = servers_of(context, stack, &abandoned, &sources).await?;
            let aftermath = Aftermath {
                context,
                services: &services,
                options: &options,
                observer,
            };
            aftermath.of_stack(stack).await
        }
        .await;
        super::lock::release(Some(lock), observer).await;
        if let Err(error) = resumed {
            observer.observe(&Event::Warning {
                message: error.chain(),
            });
        }
    }
    Ok(())
}

/// The database services of a stack and how they are logged in to, where a record names servers.
async fn servers_of(
    context: &Context,
    stack: &str,
    abandoned: &[Abandoned],
    sources: &impl Fn() -> Result<SourcesByStack>,
) -> Result<(Vec<SourceService>, SourceOptions)> {
    let mut records = abandoned.iter().filter(|one| one.stack == stack);
    if records.all(|one| one.standstill.exchanges.is_empty()) {
        return Ok((Vec::new(), SourceOptions::default()));
    }
    let engine = context.engine()?;
    let stack = match find_stack(engine, Some(stack)).await {
        Ok(stack) => stack,
        // Whoever has taken the stack away took its servers along.
        Err(error) if error.kind() == Kind::Usage => {
            return Ok((Vec::new(), SourceOptions::default()));
        }
        Err(error) => return Err(error),
    };
    let services = source_services(engine, &stack).await?;
    let options = sources()?.remove(&stack.name).unwrap_or_default();
    Ok((services, options))
}

/// What dead runs have left on a stack whose lock is held.
pub(super) struct Aftermath<'a> {
    pub context: &'a Context,
    /// The stack's database services.
    pub services: &'a [SourceService],
    pub options: &'a SourceOptions,
    pub observer: &'a dyn Observer,
}

impl Aftermath<'_> {
    /// Puts back what dead runs had exchanged, and starts what they had stopped.
    pub(super) async fn of_stack(&self, stack: &str) -> Result<()> {
        for abandoned in self.context.engine()?.abandoned().await? {
            if abandoned.stack == stack {
                self.of_one(&abandoned).await?;
            }
        }
        Ok(())
    }

    async fn of_one(&self, abandoned: &Abandoned) -> Result<()> {
        self.say(abandoned);
        let Standstill {
            containers,
            trees,
            volumes,
            exchanges,
        } = &abandoned.standstill;
        let (context, observer) = (self.context, self.observer);
        let run: BackupId = abandoned.run.parse()?;
        let work = Trees::new(context, &run, observer);
        settle(context, containers).await?;
        // Servers that it had begun to fill would go on with that.
        context.engine()?.end_throwaways(&abandoned.run).await?;
        let snapshots = Snapshots {
            context,
            services: self.services,
            options: self.options,
            run: &run,
            observer,
        };
        exchange::take_back(&snapshots, exchanges).await?;
        for tree in trees {
            work.swap_back(tree).await?;
        }
        for name in volumes {
            work.discard(name).await?;
        }
        self.start(abandoned).await
    }

    fn say(&self, abandoned: &Abandoned) {
        let Standstill {
            containers,
            trees,
            volumes,
            exchanges,
        } = &abandoned.standstill;
        let servers = match exchanges.is_empty() {
            true => None,
            false => Some("putting back what the servers had".to_owned()),
        };
        let trees = trees
            .iter()
            .map(|tree| format!("putting back what {} held", tree.place));
        let volumes = volumes
            .iter()
            .map(|name| format!("removing the unfinished volume {name}"));
        let containers = containers
            .iter()
            .map(|one| format!("starting {}", one.container_name));
        let doing: Vec<String> = servers
            .into_iter()
            .chain(trees)
            .chain(volumes)
            .chain(containers)
            .collect();
        self.observer.observe(&Event::Warning {
            message: format!(
                "the run {} on {} died before its end: {}",
                abandoned.run,
                abandoned.stack,
                doing.join(", ")
            ),
        });
    }

    async fn start(&self, abandoned: &Abandoned) -> Result<()> {
        // What is gone is gone: somebody has removed it meanwhile.
        let mut present = Vec::new();
        let engine = self.context.engine()?;
        for container in &abandoned.standstill.containers {
            match engine.resume(container).await {
                Err(error) if error.kind() == Kind::NotFound => {
                    self.observer.observe(&Event::Warning {
                        message: error.chain(),
                    });
                }
                Err(error) => present.push(format!("{}: {}", container.service, error.chain())),
                Ok(()) => {}
            }
        }
        if !present.is_empty() {
            return Err(Error::failed(format!(
                "what the run {} has stopped could not be started: {}",
                abandoned.run,
                present.join("; ")
            ))
            .hint("see docker logs; the next command tries again"));
        }
        engine.forget(abandoned).await
    }
}

//! A drill: a backup is restored as on the worst day, into servers and volumes that go again, compared with what was
//! counted when it was made, and the time that took is measured.
//!
//! It only reads the repository, and touches nothing of the live stack: it needs no lock on it.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `plan` | what is going to be done; everything that can be known to fail fails there |
//! | `work`, `steps` | a drill at work, and what each of its steps does |
//! | `compare` | what was restored, held against the facts |
//! | `questions` | the person's own checks |
//! | `report` | what came of it, and what is kept as proof |

mod compare;
mod plan;
mod questions;
mod report;
mod steps;
mod work;

pub use report::{ArtifactResult, CheckResult, Counted, DrillReport, ImageUsed, Timed};

use super::Context;
use super::journal::Journal;
use super::throwaway::Throwaways;
use crate::docker::Engine;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer};
use crate::repository::{Entry, Repository};
use crate::schedule::DrillCheck;
use plan::Planner;
use std::collections::BTreeMap;
use std::time::Instant;
use work::Work;

/// Which backup to prove, and how.
#[derive(Debug, Clone)]
pub struct DrillRequest {
    /// The repository. Reading from it is a part of the time that is measured.
    pub repository: Repository,
    /// The backup in it.
    pub entry: Entry,
    /// Other images than the backup's, by service.
    pub images: BTreeMap<String, String>,
    /// What must hold, besides the backup's own facts.
    pub checks: Vec<DrillCheck>,
    /// Make the plan and stop.
    pub dry_run: bool,
}

impl DrillRequest {
    /// What keeps a backup from being restored at all says as much of it as what differs afterwards: whoever waits for
    /// proof must not take it for an accident of the drill.
    fn unproven(&self, why: Error) -> Error {
        let Entry { stack, id, .. } = &self.entry;
        why.while_doing(format!("{stack}/{id} is not proven"))
            .with_kind(Kind::NotProven)
    }
}

/// Restores a backup where nobody sees it, compares it, and writes a proof beside the backup where all of it is as
/// it was. A backup that could not be proven is a report, too: ask its [`verdict`](DrillReport::verdict).
///
/// # Errors
/// Before anything is made: damaged, not proven where no key opens it or an image is not on the engine, usage where a
/// check asks for what the backup does not have. Later: damaged where a stored byte is not what was written, and interrupted.
pub async fn drill(
    context: &Context,
    request: DrillRequest,
    observer: &dyn Observer,
) -> Result<DrillReport> {
    let begun = Instant::now();
    let engine = context.engine()?;
    let run = context.new_id()?;
    if !request.dry_run {
        sweep(engine, observer).await;
    }
    let opened = async {
        let backup = request.repository.open_backup(&request.entry).await?;
        backup.check_keys(&backup.manifest().artifacts).await?;
        let facts = backup.facts().await?;
        backup.check_folder()?;
        backup.restore_md().await?;
        let described = backup.stack_json().await?;
        Ok((backup, facts, described))
    };
    let opened = context.unless_cancelled(opened).await;
    let (backup, facts, described) = opened.map_err(|error| match error.kind() {
        Kind::Key => request.unproven(error),
        _ => error,
    })?;
    let making = Planner {
        context,
        request: &request,
        backup: &backup,
        facts: &facts,
        described: &described,
        run: &run,
    };
    let planned = context.unless_cancelled(making.make()).await?;
    let mut report = DrillReport::begin(context, &request, &backup, &planned);
    report.engine = engine.version().await.unwrap_or_default();
    if request.dry_run {
        return Ok(report);
    }
    observer.observe(&Event::RunStarted {
        operation: "drill",
        run: run.to_string(),
        stack: request.entry.stack.clone(),
    });
    let throwaways = Throwaways {
        context,
        run: &run,
        observer,
    };
    let mut journal = Journal::begin(&context.state, &planned.plan)?;
    let mut work = Work::new(
        &throwaways,
        &request,
        &backup,
        &facts,
        planned,
        report,
        begun,
    );
    let outcome = work.run(&mut journal).await;
    let report = work.into_report();
    // However it ended: nothing that matters relies on dropping a future.
    if let Err(left) = throwaways.end().await {
        observer.observe(&Event::Warning {
            message: format!(
                "not everything that the drill has made could be removed, the next run tries again: {}",
                left.chain()
            ),
        });
    }
    let ended = match &outcome {
        Err(error) => Some(error.chain()),
        Ok(()) => report.verdict().err().map(|error| error.chain()),
    };
    journal.ended(ended.as_deref())?;
    outcome.map(|()| report)
}

/// What a killed drill has left goes first.
async fn sweep(engine: &Engine, observer: &dyn Observer) {
    match engine.sweep().await {
        Ok(0) => {}
        Ok(removed) => observer.observe(&Event::Detail {
            message: format!("removed {removed} containers and volumes of runs that died"),
        }),
        Err(error) => observer.observe(&Event::Warning {
            message: format!(
                "what runs that died have left could not be removed: {}",
                error.chain()
            ),
        }),
    }
}

/// Whether an error says that something is not as it was, or could not be brought back: a drill's own answer. The
/// others end it without one.
fn is_answer(error: &Error) -> bool {
    matches!(error.kind(), Kind::Failed | Kind::Usage | Kind::Partial)
}

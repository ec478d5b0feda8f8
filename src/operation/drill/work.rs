//! A drill at work: step by step, each timed. Where one fails, the others go on: whoever asks wants to know all that
//! is wrong.

use super::plan::Planned;
use super::report::{DrillReport, Timed};
use super::{DrillRequest, compare, is_answer};
use crate::docker::helper::Place;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::manifest::{Artifact, Facts};
use crate::operation::bases::Basis;
use crate::operation::journal::Journal;
use crate::operation::new_cluster::{NewCluster, globals};
use crate::operation::restore_plan::{Incoming, Servers};
use crate::operation::step::Step;
use crate::operation::throwaway::Throwaways;
use crate::operation::trees::Trees;
use crate::repository::Backup;
use crate::source::Capability;
use crate::source::postgres::Server;
use crate::source::redis;
use crate::stack::{ArtifactName, SourceKind};
use std::collections::BTreeMap;
use std::time::Instant;

/// A drill at work.
pub(super) struct Work<'a> {
    pub(super) throwaways: &'a Throwaways<'a>,
    pub(super) request: &'a DrillRequest,
    pub(super) backup: &'a Backup,
    pub(super) facts: &'a Facts,
    pub(super) bases: BTreeMap<String, Basis>,
    pub(super) incoming: Vec<Incoming>,
    pub(super) servers: Servers,
    /// What each new cluster begins with.
    pub(super) clusters: BTreeMap<String, NewCluster>,
    pub(super) snapshots: BTreeMap<String, redis::Server>,
    pub(super) trees: BTreeMap<ArtifactName, Place>,
    pub(super) report: DrillReport,
    pub(super) begun: Instant,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        throwaways: &'a Throwaways<'a>,
        request: &'a DrillRequest,
        backup: &'a Backup,
        facts: &'a Facts,
        planned: Planned,
        report: DrillReport,
        begun: Instant,
    ) -> Self {
        Self {
            throwaways,
            request,
            backup,
            facts,
            bases: planned.bases,
            incoming: planned.incoming,
            servers: Servers::new(),
            clusters: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            trees: BTreeMap::new(),
            report,
            begun,
        }
    }

    /// What has come of it so far.
    pub(super) fn into_report(self) -> DrillReport {
        self.report
    }

    /// Does every step. What is not as it was is told by the report.
    ///
    /// # Errors
    /// What ends a drill without an answer.
    pub(super) async fn run(&mut self, journal: &mut Journal) -> Result<()> {
        let steps = self.report.plan.steps.clone();
        for (index, step) in steps.iter().enumerate() {
            self.throwaways.observer.observe(&Event::StepStarted {
                step: step.to_string(),
            });
            journal.started(index)?;
            if !self.is_spared(step) {
                self.timed(step).await?;
            }
            journal.done(index)?;
        }
        if self.report.proof.is_none() {
            self.report.finished = self.throwaways.context.now();
        }
        Ok(())
    }

    async fn timed(&mut self, step: &Step) -> Result<()> {
        let before = self.begun.elapsed();
        let context = self.throwaways.context;
        let performed = context.unless_cancelled(self.perform(step)).await;
        let (after, recovery) = (self.begun.elapsed(), is_recovery(step));
        let seconds = after.saturating_sub(before).as_secs_f64();
        self.report.steps.push(Timed {
            step: step.to_string(),
            begun_seconds: before.as_secs_f64(),
            seconds,
            recovery,
        });
        if recovery {
            self.report.recovery_seconds = after.as_secs_f64();
        }
        for name in self.about(step) {
            if let Some(result) = self.result(&name) {
                result.seconds += seconds;
            }
        }
        match performed {
            Err(error) if is_answer(&error) => {
                self.fail(step, &error);
                Ok(())
            }
            performed => performed,
        }
    }

    /// Whether a step can't be done any more, since what it is about has failed.
    fn is_spared(&self, step: &Step) -> bool {
        let about = match step {
            Step::RecordProof { .. } => return !self.report.failures().is_empty(),
            // It is answered in any case.
            Step::CheckRestored { .. } => return false,
            Step::CreateRoles { service, .. } => return !self.servers.contains_key(service),
            step => self.about(step),
        };
        let failed = |name: &ArtifactName| {
            let mut results = self.report.artifacts.iter();
            results.any(|one| one.artifact == *name && one.failed.is_some())
        };
        !about.is_empty() && about.iter().all(failed)
    }

    /// The artifacts that a step is about; of a server's start, none.
    fn about(&self, step: &Step) -> Vec<ArtifactName> {
        match step {
            Step::Verify { artifact }
            | Step::Load { artifact, .. }
            | Step::StartOnSnapshot { artifact, .. }
            | Step::CompareKeys { artifact, .. }
            | Step::ProveTree { artifact } => vec![artifact.clone()],
            Step::CreateRoles { service, .. } => vec![globals(service)],
            Step::CreateDatabase { side, .. }
            | Step::Settle { side, .. }
            | Step::Compare { side, .. }
            | Step::Swap { incoming: side, .. } => {
                let found = self.incoming.iter().find(|one| one.side == *side);
                found
                    .map(|one| one.artifact.name.clone())
                    .into_iter()
                    .collect()
            }
            Step::CheckFiles => vec![ArtifactName::Files],
            Step::CheckIndexes { service, database } => vec![ArtifactName::Database {
                service: service.clone(),
                database: database.clone(),
            }],
            _ => Vec::new(),
        }
    }

    /// Writes down that a step failed. Without its server or its roles, nothing of a service comes back.
    fn fail(&mut self, step: &Step, error: &Error) {
        let failed: Vec<ArtifactName> = match step {
            Step::RecordProof { .. } => {
                self.report.proof_failed = Some(error.chain());
                self.report.proven = true;
                return;
            }
            Step::StartThrowaway { service, .. } | Step::CreateRoles { service, .. } => {
                let results = self.report.artifacts.iter();
                let names = results.map(|one| one.artifact.clone());
                names
                    .filter(|name| {
                        name.source_kind() == SourceKind::Postgres
                            && name.service() == Some(service)
                    })
                    .collect()
            }
            step => self.about(step),
        };
        let names: Vec<String> = failed.iter().map(ToString::to_string).collect();
        self.throwaways.observer.observe(&Event::Warning {
            message: format!("not proven: {}: {}", names.join(", "), error.chain()),
        });
        for name in failed {
            if let Some(result) = self.result(&name) {
                result.failed.get_or_insert(error.chain());
            }
        }
    }

    pub(super) fn write_down(&mut self, name: &ArtifactName, compared: compare::Compared) {
        if let Some(result) = self.result(name) {
            let counted = compared.counted.into_iter();
            result.compared.extend(counted.filter(|one| one.count > 0));
            result.not_compared.extend(compared.open);
        }
    }

    pub(super) fn result(&mut self, name: &ArtifactName) -> Option<&mut super::ArtifactResult> {
        let mut results = self.report.artifacts.iter_mut();
        results.find(|one| one.artifact == *name)
    }

    pub(super) fn of_trees(&self) -> Trees<'a> {
        let Throwaways {
            context,
            run,
            observer,
        } = self.throwaways;
        Trees::new(context, run, *observer)
    }

    pub(super) fn artifact(&self, name: &ArtifactName) -> Result<&'a Artifact> {
        let mut artifacts = self.backup.manifest().artifacts.iter();
        artifacts
            .find(|artifact| artifact.name == *name)
            .ok_or_else(|| Error::failed(format!("{name} is not part of the backup")))
    }

    pub(super) fn incoming(&self, side: &str) -> Result<&Incoming> {
        let mut all = self.incoming.iter();
        all.find(|one| one.side == side)
            .ok_or_else(|| Error::failed(format!("{side} is not part of this run")))
    }

    pub(super) fn basis(&self, service: &str) -> Result<&Basis> {
        let basis = self.bases.get(service);
        basis.ok_or_else(|| Error::failed(format!("service {service} is not part of this run")))
    }

    pub(super) fn server(&self, of: &ArtifactName) -> Result<&(Server, Capability)> {
        let server = of.service().and_then(|service| self.servers.get(service));
        server.ok_or_else(|| Error::failed(format!("there is no server for {of}")))
    }

    pub(super) fn snapshot(&self, service: &str) -> Result<&redis::Server> {
        let server = self.snapshots.get(service);
        server.ok_or_else(|| Error::failed(format!("service {service} is not part of this run")))
    }
}

/// Whether a recovery would have to do it, too.
fn is_recovery(step: &Step) -> bool {
    !matches!(
        step,
        Step::CheckIndexes { .. }
            | Step::CheckRestored { .. }
            | Step::RecordProof { .. }
            | Step::RemoveThrowaways
    )
}

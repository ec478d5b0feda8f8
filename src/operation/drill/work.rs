//! The steps of a drill, done. Where one fails, the others go on: whoever asks wants to know all that is wrong.

use super::plan::{Basis, Planned};
use super::questions::is_yes;
use super::report::{CheckResult, Counted, DrillReport, Timed};
use super::{DrillRequest, compare, is_answer};
use crate::docker::helper::Place;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::manifest::{Artifact, Facts};
use crate::operation::journal::Journal;
use crate::operation::load::Loading;
use crate::operation::plain::globals_script;
use crate::operation::restore_plan::{Incoming, Servers};
use crate::operation::step::Step;
use crate::operation::throwaway::Throwaways;
use crate::operation::trees::{Trees, tree_difference};
use crate::repository::Backup;
use crate::schedule::DrillCheck;
use crate::source::Capability;
use crate::source::postgres::{self, Role, ScriptRoles, Server};
use crate::source::redis;
use crate::source::volume::{VolumeFacts, volume_facts};
use crate::stack::{ArtifactName, SourceKind};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// How many characters of an answer are told.
const LONGEST_ANSWER: usize = 100;

/// A drill at work.
pub(super) struct Work<'a> {
    throwaways: &'a Throwaways<'a>,
    request: &'a DrillRequest,
    backup: &'a Backup,
    facts: &'a Facts,
    bases: BTreeMap<String, Basis>,
    incoming: Vec<Incoming>,
    servers: Servers,
    /// What each cluster's globals script makes.
    roles: BTreeMap<String, (String, ScriptRoles)>,
    snapshots: BTreeMap<String, redis::Server>,
    trees: BTreeMap<ArtifactName, Place>,
    report: DrillReport,
    begun: Instant,
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
            roles: BTreeMap::new(),
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

    async fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Verify { artifact } => {
                let mut reader = self.backup.read(self.artifact(artifact)?);
                while reader.next().await?.is_some() {}
                Ok(())
            }
            Step::StartThrowaway { service, .. } => self.start_postgres(service).await,
            Step::CreateRoles { service, .. } => self.create_roles(service).await,
            Step::CreateDatabase { side, target, .. } => self.create_database(side, target).await,
            Step::Load { side, .. } => self.load(side).await,
            Step::Settle { side, .. } => {
                let one = self.incoming(side)?;
                let (server, _) = self.server(&one.artifact.name)?;
                server.settle(side, one.facts.properties.as_ref()).await
            }
            Step::Compare { side, .. } => self.compare(side).await,
            Step::Swap {
                incoming,
                live,
                aside,
                ..
            } => {
                let (server, _) = self.server(&self.incoming(incoming)?.artifact.name)?;
                let aside = aside.as_deref().map(|aside| (aside, Role::Kept));
                let run = self.throwaways.run.as_str();
                postgres::swap(server, live, incoming, aside, run).await
            }
            Step::StartOnSnapshot {
                service, artifact, ..
            } => {
                let basis = self.basis(service)?;
                let artifact = self.artifact(artifact)?;
                let starting = self.throwaways.redis(
                    service,
                    &basis.image,
                    basis.limits,
                    self.backup,
                    artifact,
                );
                let server = starting.await?;
                self.snapshots.insert(service.clone(), server);
                Ok(())
            }
            Step::CompareKeys { service, artifact } => self.compare_keys(service, artifact).await,
            Step::ProveTree { artifact } => self.prove_tree(artifact).await,
            Step::CheckIndexes { service, database } => self.check_indexes(service, database).await,
            Step::CheckRestored { check, artifact } => self.ask(check, artifact).await,
            Step::RecordProof { .. } => self.record().await,
            Step::RemoveThrowaways => {
                // Their connections end first.
                self.servers.clear();
                self.snapshots.clear();
                self.throwaways.end().await
            }
            _ => Err(Error::failed("a drill has no such step")),
        }
    }

    async fn start_postgres(&mut self, service: &str) -> Result<()> {
        let mut superuser = "postgres".to_owned();
        if let Ok(artifact) = self.artifact(&globals(service)) {
            let script = globals_script(self.backup, artifact).await?;
            let roles = ScriptRoles::of(&script);
            let first = self.incoming.iter().find_map(|one| {
                let name = &one.artifact.name;
                let is_first =
                    matches!(name, ArtifactName::Database { database, .. } if database == "postgres");
                let properties = one.facts.properties.as_ref();
                (is_first && name.service() == Some(service))
                    .then(|| properties.map(|properties| properties.owner.as_str()))?
            });
            if let Some(name) = roles.first_superuser(first) {
                name.clone_into(&mut superuser);
            }
            self.roles.insert(service.to_owned(), (script, roles));
        }
        let basis = self.basis(service)?;
        let starting = self
            .throwaways
            .postgres(service, &basis.image, &superuser, basis.limits);
        let server = starting.await?;
        self.servers.insert(service.to_owned(), server);
        Ok(())
    }

    /// All of the backup's roles; where it has none, such as can do nothing in the place of those that are needed.
    async fn create_roles(&mut self, service: &str) -> Result<()> {
        let (server, _) = self.server(&globals(service))?;
        let session = server.maintenance(&[]).await?;
        let Some((script, roles)) = self.roles.get(service) else {
            let of_service = self
                .incoming
                .iter()
                .filter(|one| one.artifact.name.service() == Some(service));
            let wanted: BTreeSet<String> = of_service
                .filter_map(|one| one.facts.properties.as_ref())
                .flat_map(|properties| properties.roles().map(str::to_owned))
                .collect();
            let made = server.make_placeholders(&session, &wanted).await?;
            if !made.is_empty() {
                self.report.notes.push(format!(
                    "the backup has no roles of service {service}: a restore needs a server that has them; for the drill, \
                     roles that can do nothing stood in for {}",
                    made.join(", ")
                ));
            }
            return Ok(());
        };
        let replay = server.replay_globals(&session, script, None).await?;
        let missing = server.missing_roles(&session, &roles.all).await?;
        if !missing.is_empty() {
            return Err(Error::failed(format!(
                "the roles {} were not made",
                missing.join(", ")
            )));
        }
        let count = u64::try_from(roles.all.len()).unwrap_or(u64::MAX);
        if let Some(result) = self.result(&globals(service)) {
            result.compared.push(Counted::new("roles", count));
            result.not_compared.extend(replay.skipped);
        }
        Ok(())
    }

    async fn create_database(&self, side: &str, target: &str) -> Result<()> {
        let one = self.incoming(side)?;
        let (server, _) = self.server(&one.artifact.name)?;
        let session = server.maintenance(&[]).await?;
        server.preflight(&session, &one.facts).await?;
        let properties = one.facts.properties.as_ref();
        let run = self.throwaways.run.as_str();
        server
            .create_side(&session, side, target, run, properties)
            .await
    }

    async fn load(&self, side: &str) -> Result<()> {
        let one = self.incoming(side)?;
        let (server, capability) = self.server(&one.artifact.name)?;
        let loading = Loading {
            backup: self.backup,
            artifact: &one.artifact,
            facts: &one.facts.dump,
            server,
            capability: *capability,
            side,
            observer: self.throwaways.observer,
        };
        loading.run().await
    }

    async fn compare(&mut self, side: &str) -> Result<()> {
        let one = self.incoming(side)?;
        let (server, _) = self.server(&one.artifact.name)?;
        let compared = server.compare(side, &one.facts).await?;
        if !compared.found.is_empty() {
            return Err(Error::failed(compared.found.join("; ")));
        }
        let name = one.artifact.name.clone();
        let compared = compare::of_database(&one.facts, &compared.unchecked);
        self.write_down(&name, compared);
        Ok(())
    }

    async fn compare_keys(&mut self, service: &str, name: &ArtifactName) -> Result<()> {
        let facts = self.facts.0.get(&name.to_string());
        let facts = redis::snapshot_facts(facts.unwrap_or(&serde_json::Value::Null))?;
        let server = self.snapshot(service)?;
        let compared = compare::of_snapshot(server, &facts.snapshot).await?;
        self.write_down(name, compared);
        Ok(())
    }

    async fn prove_tree(&mut self, name: &ArtifactName) -> Result<()> {
        let facts = self.facts.0.get(&name.to_string());
        let facts: VolumeFacts = volume_facts(facts.unwrap_or(&serde_json::Value::Null))?;
        let place = Place::Volume(self.throwaways.volume().await?.name);
        let trees = self.of_trees();
        trees
            .fill(&place, self.backup, self.artifact(name)?)
            .await?;
        let read = trees.examine(&place).await?;
        if let Some(difference) = tree_difference(&facts.tree, &read) {
            return Err(Error::failed(format!(
                "what was read from the disk is not what was backed up: {difference}"
            )));
        }
        self.trees.insert(name.clone(), place);
        self.write_down(name, compare::of_tree(&read, &facts));
        Ok(())
    }

    async fn check_indexes(&mut self, service: &str, database: &str) -> Result<()> {
        let name = ArtifactName::Database {
            service: service.to_owned(),
            database: database.to_owned(),
        };
        let (server, _) = self.server(&name)?;
        let checked = server.check_indexes(database).await?;
        let Some(result) = self.result(&name) else {
            return Ok(());
        };
        match checked {
            None => result
                .not_compared
                .push("its indexes: the image does not have amcheck".to_owned()),
            Some(check) if check.checked == 0 => {}
            Some(check) if check.found.is_empty() => result
                .compared
                .push(Counted::new("indexes (amcheck)", check.checked)),
            Some(check) => return Err(Error::failed(check.found.join("; "))),
        }
        Ok(())
    }

    /// Asks a check's question. Whatever the answer is, the next one is asked, too.
    async fn ask(&mut self, check: &DrillCheck, name: &ArtifactName) -> Result<()> {
        let (answer, failed) = match self.answer(check, name).await {
            Ok(answer) if is_yes(check, answer.as_deref()) => (answer, None),
            Ok(answer) => {
                let said = answer.as_deref().filter(|answer| !answer.is_empty());
                let said: String = said
                    .unwrap_or("nothing")
                    .chars()
                    .take(LONGEST_ANSWER)
                    .collect();
                let failed = format!("the answer is {said}");
                (answer, Some(failed))
            }
            Err(error) if is_answer(&error) => (None, Some(error.chain())),
            Err(error) => return Err(error),
        };
        self.report.checks.push(CheckResult {
            check: check.clone(),
            artifact: name.clone(),
            answer: answer.map(|answer| answer.chars().take(LONGEST_ANSWER).collect()),
            failed,
        });
        Ok(())
    }

    async fn answer(&self, check: &DrillCheck, name: &ArtifactName) -> Result<Option<String>> {
        let gone = || Error::failed("what it asks is not proven itself");
        let mut results = self.report.artifacts.iter();
        if results.any(|one| one.artifact == *name && one.failed.is_some()) {
            return Err(gone());
        }
        match (check, name) {
            (DrillCheck::Sql { query, .. }, ArtifactName::Database { service, database }) => {
                let (server, _) = self.servers.get(service).ok_or_else(gone)?;
                server.first_value(database, query).await
            }
            (
                DrillCheck::Redis {
                    command, database, ..
                },
                ArtifactName::Redis { service },
            ) => {
                let server = self.snapshots.get(service).ok_or_else(gone)?;
                server.answer(*database, command).await.map(Some)
            }
            (DrillCheck::File { path, .. }, name) => {
                let place = self.trees.get(name).ok_or_else(gone)?;
                let found = self.of_trees().has(place, &[path]).await?;
                match found.first() {
                    Some(true) => Ok(Some("true".to_owned())),
                    _ => Err(Error::failed("there is no such file")),
                }
            }
            _ => Err(gone()),
        }
    }

    async fn record(&mut self) -> Result<()> {
        let context = self.throwaways.context;
        let now = context.now();
        self.report.finished = now;
        let proof = self.report.proof();
        self.request
            .repository
            .record_proof(&self.request.entry, now, &proof)
            .await?;
        self.report.proven = true;
        self.report.proof = Some(now);
        Ok(())
    }

    fn write_down(&mut self, name: &ArtifactName, compared: compare::Compared) {
        if let Some(result) = self.result(name) {
            let counted = compared.counted.into_iter();
            result.compared.extend(counted.filter(|one| one.count > 0));
            result.not_compared.extend(compared.open);
        }
    }

    fn result(&mut self, name: &ArtifactName) -> Option<&mut super::ArtifactResult> {
        let mut results = self.report.artifacts.iter_mut();
        results.find(|one| one.artifact == *name)
    }

    fn of_trees(&self) -> Trees<'a> {
        let Throwaways {
            context,
            run,
            observer,
        } = self.throwaways;
        Trees::new(context, run, *observer)
    }

    fn artifact(&self, name: &ArtifactName) -> Result<&'a Artifact> {
        let mut artifacts = self.backup.manifest().artifacts.iter();
        artifacts
            .find(|artifact| artifact.name == *name)
            .ok_or_else(|| Error::failed(format!("{name} is not part of the backup")))
    }

    fn incoming(&self, side: &str) -> Result<&Incoming> {
        let mut all = self.incoming.iter();
        all.find(|one| one.side == side)
            .ok_or_else(|| Error::failed(format!("{side} is not part of this run")))
    }

    fn basis(&self, service: &str) -> Result<&Basis> {
        let basis = self.bases.get(service);
        basis.ok_or_else(|| Error::failed(format!("service {service} is not part of this run")))
    }

    fn server(&self, of: &ArtifactName) -> Result<&(Server, Capability)> {
        let server = of.service().and_then(|service| self.servers.get(service));
        server.ok_or_else(|| Error::failed(format!("there is no server for {of}")))
    }

    fn snapshot(&self, service: &str) -> Result<&redis::Server> {
        let server = self.snapshots.get(service);
        server.ok_or_else(|| Error::failed(format!("service {service} is not part of this run")))
    }
}

fn globals(service: &str) -> ArtifactName {
    ArtifactName::Globals {
        service: service.to_owned(),
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

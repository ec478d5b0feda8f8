//! What each step of a drill does.

use super::questions::is_yes;
use super::report::{CheckResult, Counted};
use super::work::Work;
use super::{compare, is_answer};
use crate::docker::helper::Place;
use crate::error::{Error, Result};
use crate::operation::files;
use crate::operation::load::Loading;
use crate::operation::new_cluster::{NewCluster, globals};
use crate::operation::step::Step;
use crate::operation::trees::tree_difference;
use crate::schedule::DrillCheck;
use crate::source::postgres::{self, Role};
use crate::source::redis;
use crate::source::volume::{VolumeFacts, volume_facts};
use crate::stack::ArtifactName;

/// How many characters of an answer are told.
const LONGEST_ANSWER: usize = 100;

impl Work<'_> {
    pub(super) async fn perform(&mut self, step: &Step) -> Result<()> {
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
            Step::CheckFiles => self.check_files().await,
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
        let cluster = NewCluster::of(self.backup, &self.incoming, service).await?;
        let basis = self.basis(service)?;
        let starting =
            self.throwaways
                .postgres(service, &basis.image, &cluster.superuser, basis.limits);
        let server = starting.await?;
        self.servers.insert(service.to_owned(), server);
        self.clusters.insert(service.to_owned(), cluster);
        Ok(())
    }

    async fn create_roles(&mut self, service: &str) -> Result<()> {
        let (server, _) = self.server(&globals(service))?;
        let cluster = self.clusters.get(service);
        let cluster = cluster
            .ok_or_else(|| Error::failed(format!("service {service} is not part of this run")))?;
        let made = cluster.create_roles(server).await?;
        if !made.placeholders.is_empty() {
            self.report.notes.push(format!(
                "the backup has no roles of service {service}: a restore needs a server that has them; for the drill, \
                 roles that can do nothing stood in for {}",
                made.placeholders.join(", ")
            ));
        }
        let count = u64::try_from(made.count).unwrap_or(u64::MAX);
        if let Some(result) = self.result(&globals(service)) {
            result.compared.push(Counted::new("roles", count));
            result.not_compared.extend(made.skipped);
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

    async fn check_files(&mut self) -> Result<()> {
        let name = ArtifactName::Files;
        let read = files::check(self.backup, self.artifact(&name)?).await?;
        self.write_down(&name, compare::of_files(&read));
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
}

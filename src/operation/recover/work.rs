//! A recovery at work: servers that reach nobody fill the volumes, and what a restore does with a live server is done
//! with them.

use super::plan::Planned;
use super::stores::{Content, Store};
use super::{RecoverRequest, Recovering};
use crate::docker::helper::Place;
use crate::docker::lock::StackLock;
use crate::docker::scratch::{Bound, ScratchOptions};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::manifest::Facts;
use crate::operation::bases::{Bases, Basis, Images};
use crate::operation::files;
use crate::operation::homes::DataHome;
use crate::operation::new_cluster::NewCluster;
use crate::operation::plan::Executor;
use crate::operation::restore_steps;
use crate::operation::snapshots::Snapshots;
use crate::operation::step::Step;
use crate::operation::throwaway::{Care, ClusterHome, Throwaways, usual_layout};
use crate::operation::tree_steps::{TreeWork, artifact_of};
use crate::operation::trees::{RESTORING, Trees};
use crate::source::redis::{self, Layout};
use crate::stack::ArtifactName;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// How long giving a server's files to its user may take.
const GIVING: Duration = Duration::from_hours(2);

/// A recovery at work.
pub(super) struct Work<'a> {
    request: &'a RecoverRequest,
    throwaways: &'a Throwaways<'a>,
    described: &'a Value,
    stores: Vec<Store>,
    bases: Bases,
    /// What a restore does, on servers that are put into it.
    restoring: restore_steps::Work<'a>,
    clusters: BTreeMap<String, NewCluster>,
    snapshots: BTreeMap<String, redis::Server>,
    /// What stands, whatever comes.
    finished: BTreeSet<Place>,
    /// What the person has to know.
    pub notes: Vec<String>,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        recovering: &Recovering<'a>,
        throwaways: &'a Throwaways<'a>,
        planned: Planned,
        facts: &'a Facts,
        described: &'a Value,
        lock: &'a StackLock,
    ) -> Self {
        let Recovering {
            context,
            request,
            stack,
            options,
            backup,
            run,
            observer,
        } = *recovering;
        let trees = TreeWork {
            snapshots: Snapshots {
                context,
                services: &[],
                options,
                run,
                observer,
            },
            trees: Trees::new(context, run, observer),
            stack,
            lock,
            archives: Some((&request.repository, backup)),
            safety: None,
        };
        Self {
            request,
            throwaways,
            described,
            stores: planned.stores,
            bases: planned.bases,
            restoring: restore_steps::Work {
                backup,
                run,
                servers: BTreeMap::new(),
                facts,
                incoming: planned.incoming,
                observer,
                trees,
            },
            clusters: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            finished: BTreeSet::new(),
            notes: Vec::new(),
        }
    }
}

impl Executor for Work<'_> {
    async fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::LoadImages { file } => self.load_images(file).await,
            Step::PullImage { image, digest, .. } => {
                let engine = self.throwaways.context.engine()?;
                engine.pull_image(image, digest.as_deref()).await?;
                self.find_images().await
            }
            Step::CreateNetwork { network } => {
                let engine = self.throwaways.context.engine()?;
                let name = network.name();
                // Compose will say that it is missing; the data can come back without it.
                match engine.create_network(network).await {
                    Ok(true) => {}
                    Ok(false) => self.notes.push(format!(
                        "network {name} has other addresses than before: those are taken on this machine"
                    )),
                    Err(error) => self.notes.push(format!(
                        "network {name} could not be made, and Compose wants it: {}",
                        error.chain()
                    )),
                }
                Ok(())
            }
            Step::Quiesce { standstill } => {
                // A folder is there before the record that names it: what reads the record looks into it.
                for tree in &standstill.trees {
                    self.restoring.trees.trees.clear(&tree.place).await?;
                }
                self.restoring.perform(step).await
            }
            Step::StartCluster {
                service, folder, ..
            } => self.start_cluster(service, folder).await,
            Step::CreateRoles { service, .. } => self.create_roles(service).await,
            Step::CreateDatabase { service, side, .. } => {
                self.preflight(service, side).await?;
                self.restoring.perform(step).await
            }
            Step::DropDatabase { service, name } => {
                let (server, _) = self.restoring.server(service)?;
                let session = server.maintenance(&[]).await?;
                crate::source::postgres::drop_database(&session, name).await
            }
            Step::StartOnStore {
                service,
                artifact,
                folder,
                ..
            } => self.start_redis(service, artifact, folder).await,
            Step::CompareKeys { service, artifact } => self.compare_keys(service, artifact).await,
            Step::EndServer { service } => self.end_server(service).await,
            Step::FinishStore { place, .. } => {
                let context = self.throwaways.context;
                let run = self.throwaways.run.as_str();
                context.engine()?.forget_quiesced(run).await?;
                self.finished.insert(place.clone());
                Ok(())
            }
            Step::WriteFiles { folder } => {
                let backup = self.restoring.backup;
                let artifact = artifact_of(backup, &ArtifactName::Files)?;
                let (context, observer) = (self.throwaways.context, self.throwaways.observer);
                files::write_to(context, backup, artifact, Path::new(folder), observer)
                    .await
                    .map(|_| ())
            }
            step => self.restoring.perform(step).await,
        }
    }

    async fn undo(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::CreateVolume { volume } => {
                let place = Place::Volume(volume.name.clone());
                if self.finished.contains(&place) {
                    return Ok(());
                }
                self.end_servers().await?;
                self.restoring.undo(step).await
            }
            Step::StageTree { place, .. } if self.finished.contains(place) => Ok(()),
            Step::SwapTree { tree } if self.finished.contains(&tree.place) => Ok(()),
            Step::SwapTree { .. } => {
                self.end_servers().await?;
                self.restoring.undo(step).await
            }
            Step::StartCluster { place, folder, .. } | Step::StartOnStore { place, folder, .. }
                if !self.finished.contains(place) =>
            {
                self.end_servers().await?;
                self.restoring.trees.trees.remove(place, folder).await
            }
            Step::StageTree { .. } | Step::Quiesce { .. } => self.restoring.undo(step).await,
            // It goes with its server.
            _ => Ok(()),
        }
    }
}

impl Work<'_> {
    async fn load_images(&mut self, file: &Path) -> Result<()> {
        let engine = self.throwaways.context.engine()?;
        engine.load_images(file).await?;
        let mut found = self.images().find().await?;
        found
            .missing
            .retain(|missing| self.home(&missing.service).is_ok());
        self.bases = found.whole()?;
        Ok(())
    }

    async fn find_images(&mut self) -> Result<()> {
        self.bases = self.images().find().await?.bases;
        Ok(())
    }

    fn images(&self) -> Images<'_> {
        Images {
            context: self.throwaways.context,
            artifacts: &self.restoring.backup.manifest().artifacts,
            described: self.described,
            given: &self.request.images,
        }
    }

    fn basis(&self, service: &str) -> Result<Basis> {
        let basis = self.bases.get(service).cloned();
        basis.ok_or_else(|| Error::failed(format!("the engine has no image for service {service}")))
    }

    /// Where a service has its data.
    fn home(&self, service: &str) -> Result<(Place, DataHome)> {
        let mut stores = self.stores.iter();
        let found = stores.find_map(|store| match &store.content {
            Content::Server(home) if home.service == service => {
                Some((store.place.clone(), (**home).clone()))
            }
            _ => None,
        });
        found.ok_or_else(|| Error::failed(format!("service {service} is not part of this run")))
    }

    /// Where a new cluster is made, and where it lies in the end: a folder of the same volume.
    fn cluster(&self, service: &str, folder: &str, care: Care) -> Result<ClusterHome> {
        let (place, home) = self.home(service)?;
        Ok(ClusterHome {
            folder: Some(inside(&home, folder)?),
            data: bound(&place, &home)?,
            initial: local_trust(&home.initial),
            care,
        })
    }

    async fn start_cluster(&mut self, service: &str, folder: &str) -> Result<()> {
        let (_, home) = self.home(service)?;
        let cluster =
            NewCluster::of(self.restoring.backup, &self.restoring.incoming, service).await?;
        if local_trust(&home.initial) != home.initial {
            self.notes.push(format!(
                "service {service}: the new pg_hba.conf lets whoever is in the container in without a password; how its \
                 cluster was made said otherwise ({})",
                home.initial
                    .get(INITDB_ARGUMENTS)
                    .map_or("", String::as_str)
            ));
        }
        let basis = self.basis(service)?;
        let at = self.cluster(service, folder, Care::Unsafe)?;
        let started = self
            .throwaways
            .postgres_at(service, &basis.image, &cluster.superuser, basis.limits, &at)
            .await?;
        self.restoring.servers.insert(service.to_owned(), started);
        self.clusters.insert(service.to_owned(), cluster);
        Ok(())
    }

    async fn create_roles(&mut self, service: &str) -> Result<()> {
        let (server, _) = self.restoring.server(service)?;
        let made = self.new_cluster(service)?.create_roles(server).await?;
        for message in made.skipped {
            self.throwaways
                .observer
                .observe(&Event::Warning { message });
        }
        Ok(())
    }

    fn new_cluster(&self, service: &str) -> Result<&NewCluster> {
        let cluster = self.clusters.get(service);
        cluster.ok_or_else(|| Error::failed(format!("service {service} is not part of this run")))
    }

    async fn preflight(&self, service: &str, side: &str) -> Result<()> {
        let (server, _) = self.restoring.server(service)?;
        let session = server.maintenance(&[]).await?;
        let facts = &self.restoring.incoming(side)?.facts;
        server.preflight(&session, facts).await
    }

    async fn start_redis(
        &mut self,
        service: &str,
        artifact: &ArtifactName,
        folder: &str,
    ) -> Result<()> {
        let (place, home) = self.home(service)?;
        let basis = self.basis(service)?;
        let usual = usual_layout(&basis.image);
        let layout = Layout {
            dir: inside(&home, folder)?,
            ..home.layout.clone().unwrap_or(usual)
        };
        let backup = self.restoring.backup;
        let server = self
            .throwaways
            .redis_at(
                service,
                &basis.image,
                basis.limits,
                (&bound(&place, &home)?, &layout),
                backup,
                artifact_of(backup, artifact)?,
            )
            .await?;
        self.snapshots.insert(service.to_owned(), server);
        Ok(())
    }

    async fn compare_keys(&self, service: &str, artifact: &ArtifactName) -> Result<()> {
        let facts = self.restoring.facts.0.get(&artifact.to_string());
        let facts = redis::snapshot_facts(facts.unwrap_or(&Value::Null))?;
        let server = self.snapshots.get(service);
        let server = server
            .ok_or_else(|| Error::failed(format!("service {service} is not part of this run")))?;
        let trees = &self.restoring.trees;
        trees.snapshots.compare_with(server, &facts.snapshot).await
    }

    /// Ends a server, so that its files are all that there is of it. A cluster that was filled without waiting for the
    /// disk is started once more as it will run, writes everything out, and ends again; the swap that follows then waits
    /// for the disk.
    async fn end_server(&mut self, service: &str) -> Result<()> {
        let (place, home) = self.home(service)?;
        let folder = format!("{RESTORING}{}", self.throwaways.run);
        if let Some(server) = self.snapshots.remove(service) {
            self.throwaways.stop(server.service()).await?;
        }
        if let Some((server, _)) = self.restoring.servers.remove(service) {
            self.throwaways.stop(server.service()).await?;
            let basis = self.basis(service)?;
            let superuser = self.new_cluster(service)?.superuser.clone();
            let at = self.cluster(service, &folder, Care::Safe)?;
            let (server, _) = self
                .throwaways
                .postgres_at(service, &basis.image, &superuser, basis.limits, &at)
                .await?;
            let session = server.maintenance(&[]).await?;
            let has_password = self
                .new_cluster(service)?
                .settle_superuser(&session)
                .await?;
            session.execute("CHECKPOINT").await?;
            drop(session);
            if !has_password {
                self.notes.push(format!(
                    "service {service}: the backup has no password of its superuser {superuser}, who has one now that \
                     nobody knows: give it another"
                ));
            }
            self.throwaways.stop(server.service()).await?;
        }
        match &home.user {
            None => Ok(()),
            Some(user) => self.give(service, &place, &home, &folder, user).await,
        }
    }

    /// Gives a server's files to the user that its container runs as.
    async fn give(
        &self,
        service: &str,
        place: &Place,
        home: &DataHome,
        folder: &str,
        user: &str,
    ) -> Result<()> {
        let context = self.throwaways.context;
        let engine = context.engine()?;
        let mounted_at = home.mounted_at.as_deref().unwrap_or_default();
        let options = ScratchOptions {
            image: self.basis(service)?.image.id,
            lifetime: GIVING,
            tmpfs: Vec::new(),
            memory: 0,
            volume: Some(bound(place, home)?),
        };
        let scratch = engine
            .scratch(&context.owner(self.throwaways.run)?, &options)
            .await?;
        let path = format!("{}/{folder}", mounted_at.trim_end_matches('/'));
        let command = crate::docker::exec::Command::new("chown", ["-R", "--", user, path.as_str()]);
        let given = engine.run(&scratch.id, &command).await;
        scratch.remove().await?;
        let output = given?;
        match output.status {
            0 => Ok(()),
            _ => Err(Error::failed(format!(
                "cannot give the data of service {service} to its user {user}: {}",
                output.stderr.trim()
            ))),
        }
    }

    /// Ends the servers of a store that is taken back.
    async fn end_servers(&mut self) -> Result<()> {
        self.restoring.servers.clear();
        self.snapshots.clear();
        self.throwaways.end().await
    }
}

const INITDB_ARGUMENTS: &str = "POSTGRES_INITDB_ARGS";

/// How a cluster is made, without what would shut lifeboat out of it once its superuser has the password of the backup.
fn local_trust(initial: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut initial = initial.clone();
    if let Some(arguments) = initial.get_mut(INITDB_ARGUMENTS) {
        let mut kept = Vec::new();
        let mut words = arguments.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                "-A" | "--auth" | "--auth-local" | "--auth-host" => {
                    words.next();
                }
                word if word.starts_with("--auth") || word.starts_with("-A") => {}
                word => kept.push(word),
            }
        }
        *arguments = kept.join(" ");
    }
    initial
}

/// The volume or folder, mounted where the service has it.
fn bound(place: &Place, home: &DataHome) -> Result<Bound> {
    let (Place::Volume(source) | Place::Folder(source)) = place;
    let mounted_at = home.mounted_at.clone();
    Ok(Bound {
        source: source.clone(),
        destination: mounted_at.ok_or_else(|| {
            Error::failed(format!(
                "the data of service {} are on no volume",
                home.service
            ))
        })?,
    })
}

/// A server's data folder where all of its volume's content is still in `folder`.
fn inside(home: &DataHome, folder: &str) -> Result<String> {
    match (&home.mounted_at, home.below_mount()) {
        (Some(mounted_at), Some(below)) => Ok(format!(
            "{}/{folder}{below}",
            mounted_at.trim_end_matches('/')
        )),
        _ => Err(Error::failed(format!(
            "the data of service {} are on no volume",
            home.service
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_gets_in_without_a_password_is_left_out_of_a_cluster_s_making() {
        for (given, kept) in [
            (
                "--data-checksums --auth-local=scram-sha-256",
                "--data-checksums",
            ),
            ("-A md5 --locale=C", "--locale=C"),
            ("--auth-host scram-sha-256 -k", "-k"),
            ("", ""),
        ] {
            let initial = BTreeMap::from([(INITDB_ARGUMENTS.to_owned(), given.to_owned())]);
            assert_eq!(local_trust(&initial)[INITDB_ARGUMENTS], kept, "{given}");
        }
    }
}

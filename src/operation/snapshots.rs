//! The steps that put a Redis server's data files in place, and those that take that back.

use super::Context;
use super::plain::plain_bytes;
use super::sources::{READY_DEADLINE, SourceOptions, SourceService};
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::manifest::{Artifact, BackupId};
use crate::repository::Backup;
use crate::source::redis::{self, DataFolder, Layout, RESTORING, RdbFacts, Workplace};
use crate::stack::{Service, Volume};
use std::time::Instant;

/// Who puts files in place, and where.
pub(super) struct Snapshots<'a> {
    pub context: &'a Context,
    pub services: &'a [SourceService],
    pub options: &'a SourceOptions,
    pub run: &'a BackupId,
    pub observer: &'a dyn Observer,
}

impl Snapshots<'_> {
    /// Writes a snapshot beside the server's data and lets the image's own check read it. Clears what dead
    /// restores have left there: the stack's lock is held.
    pub(super) async fn stage(
        &self,
        service: &str,
        layout: &Layout,
        folder: &str,
        backup: &Backup,
        artifact: &Artifact,
    ) -> Result<()> {
        let place = self.folder(service, layout)?;
        self.at_work(&place, async |work| {
            work.remove(RESTORING).await?;
            self.write(work, service, folder, backup, artifact).await
        })
        .await
    }

    /// Takes [`stage`](Self::stage) back.
    pub(super) async fn unstage(&self, service: &str, layout: &Layout, folder: &str) -> Result<()> {
        let place = self.folder(service, layout)?;
        self.at_work(&place, async |work| work.remove(folder).await)
            .await
    }

    /// Stops the service, swaps its files for those of `incoming`, starts it and waits until it has loaded them.
    pub(super) async fn replace(
        &self,
        service: &str,
        layout: &Layout,
        incoming: &str,
        aside: &str,
    ) -> Result<()> {
        let place = self.folder(service, layout)?;
        let container = &self.service(service)?.container_id;
        let engine = self.context.engine()?;
        // That the files can be worked on is known before anything is stopped.
        self.at_work(&place, async |work| {
            engine.stop(container).await?;
            work.swap(incoming, aside).await?;
            engine.start(container).await
        })
        .await?;
        self.server(service)?.wait_ready(READY_DEADLINE).await
    }

    /// Takes [`replace`](Self::replace) back, however far it came: the files of before serve again.
    pub(super) async fn put_back(
        &self,
        service: &str,
        layout: &Layout,
        incoming: &str,
        aside: &str,
    ) -> Result<()> {
        let place = self.folder(service, layout)?;
        let container = &self.service(service)?.container_id;
        let engine = self.context.engine()?;
        self.at_work(&place, async |work| {
            if work.has(aside).await? {
                engine.stop(container).await?;
                work.swap_back(incoming, aside).await?;
            }
            engine.start(container).await
        })
        .await?;
        self.server(service)?.wait_ready(READY_DEADLINE).await
    }

    /// Makes a volume that holds a snapshot as the service would read it.
    pub(super) async fn fill_volume(
        &self,
        service: &str,
        layout: &Layout,
        volume: &str,
        backup: &Backup,
        artifact: &Artifact,
    ) -> Result<()> {
        let present = self.folder(service, layout)?;
        let owner = self
            .at_work(&present, async |work| work.owner().await)
            .await?;
        self.context
            .engine()?
            .create_volume(&Volume::plain(volume))
            .await?;
        let folder = format!("{RESTORING}{}", self.run);
        let place = present.in_volume(volume);
        self.at_work(&place, async |work| {
            work.make_folder(&owner).await?;
            self.write(work, service, &folder, backup, artifact).await?;
            work.unfold(&folder).await
        })
        .await
    }

    /// Writes a snapshot into the service's own data folder, which is empty and nobody's yet, as the service would
    /// read it.
    pub(super) async fn lay_out(
        &self,
        service: &str,
        layout: &Layout,
        backup: &Backup,
        artifact: &Artifact,
    ) -> Result<()> {
        let folder = format!("{RESTORING}{}", self.run);
        let place = self.folder(service, layout)?;
        self.at_work(&place, async |work| {
            work.make_like_mount().await?;
            self.write(work, service, &folder, backup, artifact).await?;
            work.unfold(&folder).await
        })
        .await
    }

    /// Takes [`fill_volume`](Self::fill_volume) back.
    pub(super) async fn remove_volume(&self, volume: &str) -> Result<()> {
        let engine = self.context.engine()?;
        // A container that still works on it would keep it.
        engine.end_scratches(self.run.as_str()).await?;
        match engine.volume_exists(volume).await? {
            true => engine.remove_volume(volume).await,
            false => Ok(()),
        }
    }

    /// Removes a folder of files that lifeboat keeps.
    pub(super) async fn remove(&self, service: &str, layout: &Layout, folder: &str) -> Result<()> {
        self.unstage(service, layout, folder).await
    }

    /// Compares what the server has loaded with what was captured.
    pub(super) async fn compare(&self, service: &str, snapshot: &RdbFacts) -> Result<()> {
        self.compare_with(&self.server(service)?, snapshot).await
    }

    /// The same with a server that is known.
    pub(super) async fn compare_with(
        &self,
        server: &redis::Server,
        snapshot: &RdbFacts,
    ) -> Result<()> {
        let service = &server.service().name;
        let (loaded, databases) = server.loaded().await?;
        if !snapshot.walked {
            self.observer.observe(&Event::Warning {
                message: format!(
                    "the keys of service {service} were not compared: the snapshot could not be walked to its end"
                ),
            });
            return Ok(());
        }
        let expected: u64 = snapshot.databases.values().map(|keys| keys.keys).sum();
        if let Some(loaded) = loaded {
            return match loaded == expected {
                true => Ok(()),
                false => Err(Error::failed(format!(
                    "service {service} has loaded {loaded} keys, and the backup holds {expected}"
                ))),
            };
        }
        // A server before 7.0 tells only what it has now: a key may have expired, none may be missing else.
        for (number, keys) in &snapshot.databases {
            let present = databases.get(number).copied().unwrap_or(0);
            if present < keys.keys - keys.expiring {
                return Err(Error::failed(format!(
                    "database {number} of service {service} has {present} keys, and the backup holds {}, {} of \
                     them with an expiry",
                    keys.keys, keys.expiring
                )));
            }
        }
        Ok(())
    }

    /// The plain snapshot into a folder, checked by the image's own program.
    async fn write(
        &self,
        work: &Workplace<'_>,
        service: &str,
        folder: &str,
        backup: &Backup,
        artifact: &Artifact,
    ) -> Result<()> {
        let begun = Instant::now();
        self.observer.observe(&Event::ArtifactStarted {
            artifact: artifact.name.to_string(),
            expected: Some(artifact.raw_size),
        });
        let mut consumer = work.stage(folder).await?;
        let mut written = 0;
        let fed = plain_bytes(backup, artifact, async |bytes| {
            written += bytes.len() as u64;
            consumer.write(bytes).await?;
            self.observer.observe(&Event::Progress {
                artifact: artifact.name.to_string(),
                bytes: written,
            });
            Ok(())
        })
        .await;
        match fed {
            Ok(()) => consumer.finish().await?,
            Err(error) => {
                consumer.abort().await;
                return Err(error);
            }
        };
        if !work.check(folder).await? {
            self.observer.observe(&Event::Detail {
                message: format!(
                    "the image of service {service} has no program to check a snapshot with"
                ),
            });
        }
        self.observer.observe(&Event::ArtifactFinished {
            artifact: artifact.name.to_string(),
            raw_size: artifact.raw_size,
            stored_size: artifact.stored_size,
            seconds: begun.elapsed().as_secs_f64(),
        });
        Ok(())
    }

    fn service(&self, name: &str) -> Result<&Service> {
        self.services
            .iter()
            .map(|one| &one.service)
            .find(|service| service.name == name)
            .ok_or_else(|| Error::failed(format!("service {name} is not part of this run")))
    }

    fn server(&self, name: &str) -> Result<redis::Server> {
        let credentials = self.options.credentials.get(name).cloned();
        Ok(redis::Server::new(
            self.context.engine()?,
            self.service(name)?,
            &credentials.unwrap_or_default(),
            self.run.as_str(),
        ))
    }

    fn folder(&self, service: &str, layout: &Layout) -> Result<DataFolder> {
        DataFolder::of(self.context.engine()?, self.service(service)?, layout)
    }

    /// Works on a folder; the container for it is gone afterwards, however the work came out.
    async fn at_work<T>(
        &self,
        folder: &DataFolder,
        work: impl AsyncFnOnce(&Workplace<'_>) -> Result<T>,
    ) -> Result<T> {
        let owner = self.context.owner(self.run)?;
        let place = folder.open(&owner).await?;
        let result = work(&place).await;
        let closed = place.close().await;
        // What went wrong with the work says more than what went wrong with the cleaning up.
        let value = result?;
        closed.map(|()| value)
    }
}

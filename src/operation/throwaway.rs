//! Servers of a backup's images that live as long as one run and reach nobody: what a drill restores into.
//!
//! Nothing that is in them has to survive a power cut, so PostgreSQL is started with settings that no server of
//! anybody's may have.

use super::Context;
use super::snapshots::Snapshots;
use super::sources::{SourceOptions, SourceService};
use crate::docker::local_image::LocalImage;
use crate::docker::scratch::Bound;
use crate::docker::throwaway::{Limits, ThrowawayOptions};
use crate::error::{Error, OrFail, Result};
use crate::event::Observer;
use crate::manifest::{Artifact, BackupId};
use crate::repository::Backup;
use crate::source::postgres::Server;
use crate::source::redis::Layout;
use crate::source::{Capability, Credentials, redis};
use crate::stack::{Mount, Service, SourceKind, Volume};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a server may take until it answers: it makes its cluster first, or loads its snapshot.
const READY_DEADLINE: Duration = Duration::from_mins(5);

/// Where the official images of PostgreSQL have their data, unless they say so.
const PGDATA: &str = "/var/lib/postgresql/data";
/// The same of Redis and Valkey.
const REDIS_DATA: &str = "/data";

/// Settings that are only safe where a crash loses nothing that is not in the backup: no waiting for the disk, no
/// second copies of pages, the least WAL, few checkpoints.
const UNSAFE: [&str; 10] = [
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "archive_mode=off",
    "max_wal_size=4GB",
    "checkpoint_timeout=1h",
    // Statistics are gathered when all is loaded.
    "autovacuum=off",
    LOCAL,
];

/// Nobody is on its network, and nobody has to wonder.
const LOCAL: &str = "listen_addresses=127.0.0.1";

/// Where a cluster lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClusterHome {
    /// The volume, and where it is mounted.
    pub data: Bound,
    /// The data folder, a path in the container; `None` for the image's own.
    pub folder: Option<String>,
    /// What the image is told where it makes the cluster, besides who its superuser is.
    pub initial: BTreeMap<String, String>,
    /// How much of it has to survive a power cut.
    pub care: Care,
}

/// How a server looks after its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// Not at all: whoever loses the machine begins again.
    Unsafe,
    /// As the image does by itself.
    Safe,
}

/// The throwaway servers and volumes of one run. [`end`](Self::end) them, however the run ends.
pub(super) struct Throwaways<'a> {
    pub context: &'a Context,
    pub run: &'a BackupId,
    pub observer: &'a dyn Observer,
}

impl Throwaways<'_> {
    /// An empty volume.
    pub(super) async fn volume(&self) -> Result<Volume> {
        let owner = self.context.owner(self.run)?;
        self.context.engine()?.throwaway_volume(&owner).await
    }

    /// An empty PostgreSQL cluster on a volume of its own, whose superuser has this name, and a server that accepts
    /// connections.
    pub(super) async fn postgres(
        &self,
        service: &str,
        image: &LocalImage,
        superuser: &str,
        limits: Limits,
    ) -> Result<(Server, Capability)> {
        let folder = image.env.get("PGDATA").map_or(PGDATA, String::as_str);
        let home = ClusterHome {
            data: Bound {
                source: self.volume().await?.name,
                destination: image.volume_for(folder),
            },
            folder: None,
            initial: BTreeMap::new(),
            care: Care::Unsafe,
        };
        self.postgres_at(service, image, superuser, limits, &home)
            .await
    }

    /// A server on the cluster at `home`, which is made where there is none yet.
    pub(super) async fn postgres_at(
        &self,
        service: &str,
        image: &LocalImage,
        superuser: &str,
        limits: Limits,
        home: &ClusterHome,
    ) -> Result<(Server, Capability)> {
        let buffers = (limits.memory / (8 << 20)).clamp(32, 1024);
        let mut command = vec!["postgres".to_owned()];
        let settings: &[&str] = match home.care {
            Care::Unsafe => &UNSAFE,
            Care::Safe => &[LOCAL],
        };
        for setting in settings
            .iter()
            .map(ToString::to_string)
            .chain([format!("shared_buffers={buffers}MB")])
        {
            command.extend(["-c".to_owned(), setting]);
        }
        let mut environment = vec![
            format!("POSTGRES_USER={superuser}"),
            format!("POSTGRES_PASSWORD={}", password()?),
            // Else the entrypoint would make one with the superuser's name.
            "POSTGRES_DB=postgres".to_owned(),
        ];
        environment.extend(home.folder.iter().map(|folder| format!("PGDATA={folder}")));
        let initial = home.initial.iter();
        environment.extend(initial.map(|(name, value)| format!("{name}={value}")));
        let options = ThrowawayOptions {
            image: image.id.clone(),
            command,
            environment,
            data: home.data.clone(),
            limits,
        };
        let made = self.start(service, image, &options).await?;
        let engine = self.context.engine()?;
        let server = Server::new(engine, &made, &Credentials::default(), self.run.as_str());
        let ready = server.wait_ready(READY_DEADLINE).await;
        self.explained(&made, ready).await?;
        let capability = Capability::probe(engine, &made).await?;
        Ok((server, capability))
    }

    /// A Redis or Valkey server on a volume of its own that has loaded a snapshot.
    pub(super) async fn redis(
        &self,
        service: &str,
        image: &LocalImage,
        limits: Limits,
        backup: &Backup,
        artifact: &Artifact,
    ) -> Result<redis::Server> {
        let layout = usual_layout(image);
        let data = Bound {
            source: self.volume().await?.name,
            destination: image.volume_for(&layout.dir),
        };
        self.redis_at(service, image, limits, (&data, &layout), backup, artifact)
            .await
    }

    /// A server that has loaded a snapshot, which is written into an empty volume or folder before, as the server of
    /// that layout will read it.
    pub(super) async fn redis_at(
        &self,
        service: &str,
        image: &LocalImage,
        limits: Limits,
        (data, layout): (&Bound, &Layout),
        backup: &Backup,
        artifact: &Artifact,
    ) -> Result<redis::Server> {
        self.lay_out(service, image, data, layout, backup, artifact)
            .await?;
        let options = ThrowawayOptions {
            image: image.id.clone(),
            command: redis_command(image, layout),
            environment: Vec::new(),
            data: data.clone(),
            limits,
        };
        let made = self.start(service, image, &options).await?;
        let engine = self.context.engine()?;
        let server = redis::Server::new(engine, &made, &Credentials::default(), self.run.as_str());
        let ready = server.wait_ready(READY_DEADLINE).await;
        self.explained(&made, ready).await?;
        Ok(server)
    }

    /// Stops a server, so that all that it has is in its files, and removes its container.
    ///
    /// # Errors
    /// Where it did not end well by itself.
    pub(super) async fn stop(&self, service: &Service) -> Result<()> {
        let engine = self.context.engine()?;
        engine.stop(&service.container_id).await?;
        let status = engine.exit_code(&service.container_id).await?;
        if status != 0 {
            let said = engine.last_log_lines(&service.container_id).await;
            return Err(Error::failed(format!(
                "the server of {} ended with status {status}: its log ends with: {said}",
                service.image
            )));
        }
        engine.remove_container(&service.container_id).await
    }

    /// Removes all of them, and what else the run has made on the engine for itself.
    pub(super) async fn end(&self) -> Result<()> {
        self.context
            .engine()?
            .end_throwaways(self.run.as_str())
            .await
    }

    /// The snapshot into the volume, as the server will read it, checked by the image's own program.
    async fn lay_out(
        &self,
        service: &str,
        image: &LocalImage,
        data: &Bound,
        layout: &Layout,
        backup: &Backup,
        artifact: &Artifact,
    ) -> Result<()> {
        let services = [SourceService {
            kind: SourceKind::Redis,
            service: stopped_service(service, image, data),
        }];
        let snapshots = Snapshots {
            context: self.context,
            services: &services,
            options: &SourceOptions::default(),
            run: self.run,
            observer: self.observer,
        };
        snapshots.lay_out(service, layout, backup, artifact).await
    }

    async fn start(
        &self,
        service: &str,
        image: &LocalImage,
        options: &ThrowawayOptions,
    ) -> Result<Service> {
        let owner = self.context.owner(self.run)?;
        let engine = self.context.engine()?;
        let made = engine.throwaway_server(&owner, service, options).await?;
        Ok(Service {
            image: image.name.clone(),
            // Nobody else works in it: it may take all that it has.
            nano_cpus: 0,
            ..made
        })
    }

    /// Why a server does not come up, with the end of its log: the container is about to go, and the log with it.
    async fn explained(&self, service: &Service, ready: Result<()>) -> Result<()> {
        let Err(error) = ready else { return Ok(()) };
        let engine = self.context.engine()?;
        let said = engine.last_log_lines(&service.container_id).await;
        let what = format!("a server of {} does not come up", service.image);
        Err(match said.is_empty() {
            true => Error::failed(what).caused_by(error),
            // It says more than that nothing could be run in the container any more.
            false => Error::failed(format!("{what}: its log ends with: {said}")),
        })
    }
}

/// What the throwaway server of each service may take: what the service itself may, else half of the machine's
/// memory and all of its processors. `described` is the backup's stack description.
pub(super) async fn limits(
    context: &Context,
    described: &serde_json::Value,
) -> Result<(Limits, BTreeMap<String, Limits>)> {
    let (processors, memory) = context.engine()?.capacity().await?;
    let whole = Limits {
        memory: (memory / 2).max(256 << 20),
        nano_cpus: processors.max(1) * 1_000_000_000,
    };
    let services = described.pointer("/stack/services");
    let services = services.and_then(serde_json::Value::as_array);
    let known = services.into_iter().flatten().filter_map(|service| {
        let number = |name: &str| service.get(name).and_then(serde_json::Value::as_i64);
        let limits = Limits {
            memory: number("memory")
                .filter(|memory| *memory > 0)
                .unwrap_or(whole.memory),
            // The engine refuses more processors than there are.
            nano_cpus: number("nano_cpus")
                .filter(|cpus| *cpus > 0)
                .map_or(whole.nano_cpus, |cpus| cpus.min(whole.nano_cpus)),
        };
        Some((service.get("name")?.as_str()?.to_owned(), limits))
    });
    Ok((whole, known.collect()))
}

/// Where a server of the image has its data, unless it is told otherwise.
pub(super) fn usual_layout(image: &LocalImage) -> Layout {
    let folder = match image.folder.as_str() {
        "" | "/" => image.volumes.first().map_or(REDIS_DATA, String::as_str),
        folder => folder,
    };
    Layout {
        dir: folder.to_owned(),
        dbfilename: "dump.rdb".to_owned(),
        appendonly: false,
        appenddirname: None,
        appendfilename: "appendonly.aof".to_owned(),
    }
}

/// The arguments of the image's entrypoint: the server's own name with what is needed; none where the image starts
/// something else.
fn redis_command(image: &LocalImage, layout: &Layout) -> Vec<String> {
    let Some(program) = image
        .command
        .first()
        .filter(|program| program.ends_with("-server"))
    else {
        return Vec::new();
    };
    let mut words = vec![
        program.as_str(),
        "--dir",
        &layout.dir,
        "--dbfilename",
        &layout.dbfilename,
        "--appendonly",
        if layout.appendonly { "yes" } else { "no" },
        "--save",
        "",
    ];
    if layout.appendonly {
        words.extend(["--appendfilename", &layout.appendfilename]);
        let folder = layout.appenddirname.iter();
        words.extend(folder.flat_map(|folder| ["--appenddirname", folder.as_str()]));
    }
    words.into_iter().map(str::to_owned).collect()
}

/// A service as it would be described, of which there is no container yet.
fn stopped_service(name: &str, image: &LocalImage, data: &Bound) -> Service {
    Service {
        name: name.to_owned(),
        container_id: String::new(),
        container_name: String::new(),
        image: image.name.clone(),
        image_id: image.id.clone(),
        image_digest: None,
        running: false,
        state: String::new(),
        labels: BTreeMap::new(),
        env: BTreeMap::new(),
        command: Vec::new(),
        mounts: vec![Mount {
            volume: Some(data.source.clone()),
            folder: None,
            destination: data.destination.clone(),
            read_only: false,
        }],
        user: None,
        nano_cpus: 0,
        memory: 0,
    }
}

/// A password that nobody knows. It stands in the container's environment only, and goes with it.
fn password() -> Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).or_fail(|| "the system gives no random numbers")?;
    Ok(hex::encode(random))
}

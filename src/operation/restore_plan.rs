//! What a restore is going to do. Everything that can be known to fail fails here, before anything is touched.

use super::plan::Plan;
use super::restore::{Kept, RestoreRequest, Target};
use super::restore_trees::TreePlanner;
use super::sources::SourceService;
use super::standing::Standing;
use super::step::Step;
use crate::docker::quiesce::Standstill;
use crate::error::{Error, Result, nearest};
use crate::manifest::{Artifact, BackupId, Facts};
use crate::repository::Backup;
use crate::source::Capability;
use crate::source::postgres::{self, DatabaseFacts, Server, Session, derived_name};
use crate::source::redis::{self, BEFORE, DataFolder, Layout, RESTORING, Survey};
use crate::stack::{ArtifactName, SourceKind, Stack};
use std::collections::{BTreeMap, BTreeSet};

/// The longest name of a database, in bytes (`NAMEDATALEN` - 1).
const LONGEST_NAME: usize = 63;

/// The artifacts that are asked for; all where nothing is.
pub(super) fn select(backup: &Backup, only: &[String]) -> Result<Vec<Artifact>> {
    let all = &backup.manifest().artifacts;
    for pattern in only {
        if !all.iter().any(|artifact| artifact.name.matches(pattern)) {
            let names: Vec<String> = all
                .iter()
                .map(|artifact| artifact.name.to_string())
                .collect();
            let near = nearest(pattern, names.iter().map(String::as_str)).join(" or ");
            return Err(
                Error::usage(format!("the backup has nothing called {pattern:?}")).hint(
                    if near.is_empty() {
                        format!("it has {}", names.join(", "))
                    } else {
                        format!("did you mean {near}?")
                    },
                ),
            );
        }
    }
    let wanted = |artifact: &&Artifact| {
        only.is_empty() || only.iter().any(|pattern| artifact.name.matches(pattern))
    };
    Ok(all.iter().filter(wanted).cloned().collect())
}

/// Every selected artifact needs its service in the stack.
pub(super) fn check_services(
    services: &[SourceService],
    selected: &[Artifact],
    stack: &Stack,
) -> Result<()> {
    for artifact in selected {
        let Some(name) = artifact.name.service() else {
            continue;
        };
        let kind = artifact.name.source_kind();
        let is_there = |one: &SourceService| one.kind == kind && one.service.name == name;
        if !services.iter().any(is_there) {
            let product = match kind {
                SourceKind::Postgres => "PostgreSQL",
                SourceKind::Redis | SourceKind::Volume | SourceKind::Files => "Redis",
            };
            return Err(Error::usage(format!(
                "stack {} has no {product} service {name:?}, which {} came from",
                stack.name, artifact.name
            ))
            .hint("restore into a stack that has this service: --into STACK"));
        }
    }
    Ok(())
}

/// One database on its way back.
pub(super) struct Incoming {
    pub artifact: Artifact,
    pub facts: DatabaseFacts,
    /// The database that it is loaded into.
    pub side: String,
}

/// Every database of a backup, on its way into a cluster that has nothing yet.
pub(super) fn all_incoming(
    backup: &Backup,
    facts: &Facts,
    run: &BackupId,
) -> Result<Vec<Incoming>> {
    let mut incoming = Vec::new();
    for artifact in &backup.manifest().artifacts {
        let ArtifactName::Database { database, .. } = &artifact.name else {
            continue;
        };
        let facts = facts.0.get(&artifact.name.to_string());
        let facts = facts.ok_or_else(|| {
            Error::damaged(format!("the facts say nothing about {}", artifact.name))
        })?;
        incoming.push(Incoming {
            artifact: artifact.clone(),
            facts: postgres::database_facts(facts)?,
            side: derived_name(database, "restoring", run.as_str()),
        });
    }
    Ok(incoming)
}

/// The PostgreSQL servers that take part, by service.
pub(super) type Servers = BTreeMap<String, (Server, Capability)>;

/// The Redis servers that take part, by service.
pub(super) type RedisServers = BTreeMap<String, (redis::Server, Survey)>;

/// A server that is restored into, as it is before.
struct Host<'a> {
    server: &'a Server,
    session: Session,
    databases: BTreeSet<String>,
}

/// A plan, and what its steps refer to.
pub(super) struct Planned {
    pub plan: Plan,
    pub incoming: Vec<Incoming>,
    /// What will be kept aside.
    pub kept: Vec<Kept>,
}

/// What a plan is made from.
pub(super) struct Planner<'a> {
    pub request: &'a RestoreRequest,
    pub stack: &'a Stack,
    pub backup: &'a Backup,
    pub selected: &'a [Artifact],
    pub facts: &'a Facts,
    pub servers: &'a Servers,
    pub redis: &'a RedisServers,
    /// The stack's servers.
    pub services: &'a [SourceService],
    pub trees: TreePlanner<'a>,
    pub run: &'a BackupId,
}

impl Planner<'_> {
    /// Asks the servers whether they can take what is selected.
    ///
    /// # Errors
    /// Usage where the request cannot be met; failed where a server cannot take a dump.
    pub(super) async fn make(&self) -> Result<Planned> {
        let databases = self.databases()?;
        let hosts = self.hosts().await?;
        let mut incoming = Vec::new();
        let (mut loads, mut swaps, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for artifact in databases {
            let ArtifactName::Database { service, database } = &artifact.name else {
                continue;
            };
            let host = hosts.get(service.as_str()).ok_or_else(|| {
                Error::failed(format!("service {service} is not part of this run"))
            })?;
            let one = self.incoming(artifact, database, host).await?;
            let live = self.live_name(database);
            let aside = self.aside(service, live, host)?;
            let (service, side) = (service.clone(), one.side.clone());
            loads.extend([
                Step::CreateDatabase {
                    service: service.clone(),
                    side: side.clone(),
                    target: live.to_owned(),
                },
                Step::Load {
                    service: service.clone(),
                    artifact: artifact.name.clone(),
                    side: side.clone(),
                },
                Step::Settle {
                    service: service.clone(),
                    side: side.clone(),
                },
                Step::Compare {
                    service: service.clone(),
                    side: side.clone(),
                },
            ]);
            kept.extend(aside.iter().map(|aside| Kept::Database {
                service: service.clone(),
                database: live.to_owned(),
                kept_as: aside.clone(),
            }));
            swaps.push(Step::Swap {
                service,
                incoming: side,
                live: live.to_owned(),
                aside,
                kept_by: None,
            });
            incoming.push(one);
        }
        let verify = self.selected.iter().map(|artifact| Step::Verify {
            artifact: artifact.name.clone(),
        });
        let mut steps: Vec<Step> = verify.collect();
        steps.extend(self.roles(&incoming, &hosts).await?);
        steps.extend(loads);
        let (staged, replaced) = self.snapshots(&mut kept).await?;
        steps.extend(staged);
        let trees = self.trees.make().await?;
        steps.extend(trees.beside);
        // Last, and together: until here nothing that serves was touched.
        let mut exchange = trees.swaps;
        exchange.extend(replaced);
        exchange.extend(swaps);
        steps.extend(self.standing_still(trees.standstill, exchange).await?);
        steps.extend(trees.after);
        let plan = Plan {
            operation: "restore".to_owned(),
            run: self.run.to_string(),
            stack: self.stack.name.clone(),
            steps,
        };
        Ok(Planned {
            plan,
            incoming,
            kept,
        })
    }

    /// What puts everything in place, between stopping who must not see it and starting them again.
    async fn standing_still(
        &self,
        standstill: Standstill,
        exchange: Vec<Step>,
    ) -> Result<Vec<Step>> {
        let request = self.request;
        let is_whole = request.only.is_empty() && request.target == Target::InPlace;
        let artifacts = self.selected.iter();
        let servers: Vec<&str> = artifacts
            .filter_map(|artifact| artifact.name.service())
            .collect();
        let standing = Standing {
            context: self.trees.context,
            stack: self.stack,
            services: self.services,
            concerned: &servers,
            all: is_whole && !request.keep_running,
            health: request.health,
        };
        standing.around(standstill, exchange).await
    }

    /// The steps that put the selected snapshots in place: those that touch nothing that serves, then the rest.
    async fn snapshots(&self, kept: &mut Vec<Kept>) -> Result<(Vec<Step>, Vec<Step>)> {
        let (mut staged, mut replaced) = (Vec::new(), Vec::new());
        for artifact in self.selected {
            let ArtifactName::Redis { service } = &artifact.name else {
                continue;
            };
            let layout = self.layout(service, artifact)?;
            let (service, artifact) = (service.clone(), artifact.name.clone());
            if let Target::As(volume) = &self.request.target {
                let (server, _) = self.redis_server(&service)?;
                if server.engine().volume_exists(volume).await? {
                    return Err(
                        Error::usage(format!("there is a volume {volume:?} already"))
                            .hint("choose another name, or --in-place to replace what serves"),
                    );
                }
                staged.push(Step::FillVolume {
                    service,
                    artifact,
                    layout,
                    volume: volume.clone(),
                });
                continue;
            }
            let incoming = format!("{RESTORING}{}", self.run);
            let aside = format!("{BEFORE}{}", self.run);
            kept.push(Kept::Files {
                service: service.clone(),
                folder: format!("{}/{aside}", layout.dir.trim_end_matches('/')),
            });
            staged.push(Step::StageSnapshot {
                service: service.clone(),
                artifact: artifact.clone(),
                layout: layout.clone(),
                folder: incoming.clone(),
            });
            replaced.extend([
                Step::ReplaceFiles {
                    service: service.clone(),
                    layout,
                    incoming,
                    aside,
                },
                Step::CompareKeys { service, artifact },
            ]);
        }
        Ok((staged, replaced))
    }

    fn redis_server(&self, service: &str) -> Result<&(redis::Server, Survey)> {
        self.redis
            .get(service)
            .ok_or_else(|| Error::failed(format!("service {service} is not part of this run")))
    }

    /// Where a server's data files are, once it is known that it can take the snapshot.
    fn layout(&self, service: &str, artifact: &Artifact) -> Result<Layout> {
        let (server, survey) = self.redis_server(service)?;
        let facts = self.facts.0.get(&artifact.name.to_string());
        let facts = facts.ok_or_else(|| {
            Error::damaged(format!("the facts say nothing about {}", artifact.name))
        })?;
        let facts = redis::snapshot_facts(facts)?;
        redis::preflight(service, survey, &facts.snapshot)?;
        let refused = |why: &str, hint: &str| {
            Err(Error::failed(format!("service {service} is not restored: {why}")).hint(hint))
        };
        let beside = matches!(self.request.target, Target::As(_));
        if survey.mode == "cluster" {
            return refused(
                "it is a node of a cluster, whose data is spread over all of them",
                "restore into a server of its own: --into STACK",
            );
        }
        if survey.role != "master" && !beside {
            return refused(
                "it is a replica, and takes over what its primary has",
                "restore the primary: --into STACK",
            );
        }
        if survey.sentinels == Some(true) && !beside {
            return refused(
                "sentinels watch it, and would make another server the primary while it is stopped",
                "stop the sentinels first",
            );
        }
        let layout = survey.layout.clone().map_err(|said| {
            Error::failed(format!(
                "service {service}: the server does not tell where it keeps its data: {said}"
            ))
            .hint("a restore's user needs +config|get, and CONFIG its own name")
        })?;
        DataFolder::of(server.engine(), server.service(), &layout)?;
        Ok(layout)
    }

    /// The selected databases; what gets a new name must be one thing.
    fn databases(&self) -> Result<Vec<&Artifact>> {
        let is_database =
            |artifact: &&Artifact| matches!(artifact.name, ArtifactName::Database { .. });
        let databases: Vec<&Artifact> = self.selected.iter().filter(is_database).collect();
        if let Target::As(name) = &self.request.target {
            let is_snapshot =
                |artifact: &&Artifact| artifact.name.source_kind() != SourceKind::Postgres;
            let snapshots = self.selected.iter().filter(is_snapshot);
            let all: Vec<&Artifact> = databases.iter().copied().chain(snapshots).collect();
            if all.len() != 1 {
                let selected = all.iter().map(|artifact| artifact.name.to_string());
                return Err(Error::usage(format!(
                    "--as {name} restores one database, snapshot or volume, and {} are selected",
                    all.len()
                ))
                .hint(format!(
                    "choose one with --only: {}",
                    selected.collect::<Vec<_>>().join(", ")
                )));
            }
            if !databases.is_empty() && (name.is_empty() || name.len() > LONGEST_NAME) {
                return Err(Error::usage(format!(
                    "a database's name has 1 to {LONGEST_NAME} bytes, {name:?} has {}",
                    name.len()
                )));
            }
        }
        Ok(databases)
    }

    /// Every server that takes part, asked once what it has.
    async fn hosts(&self) -> Result<BTreeMap<&str, Host<'_>>> {
        let mut hosts = BTreeMap::new();
        for (service, (server, _)) in self.servers {
            let known = server.databases().await?.into_iter();
            let host = Host {
                server,
                session: server.maintenance(&[]).await?,
                databases: known.map(|database| database.name).collect(),
            };
            hosts.insert(service.as_str(), host);
        }
        Ok(hosts)
    }

    /// What is known of a database, once its server is known to be able to take it.
    async fn incoming(
        &self,
        artifact: &Artifact,
        database: &str,
        host: &Host<'_>,
    ) -> Result<Incoming> {
        let facts = self.facts.0.get(&artifact.name.to_string());
        let facts = facts.ok_or_else(|| {
            Error::damaged(format!("the facts say nothing about {}", artifact.name))
        })?;
        let facts = postgres::database_facts(facts)?;
        host.server.preflight(&host.session, &facts).await?;
        let side = derived_name(self.live_name(database), "restoring", self.run.as_str());
        Ok(Incoming {
            artifact: artifact.clone(),
            facts,
            side,
        })
    }

    /// The name that a restored database serves under.
    fn live_name<'n>(&'n self, database: &'n str) -> &'n str {
        match &self.request.target {
            Target::As(name) => name,
            Target::InPlace | Target::Beside => database,
        }
    }

    /// What the database that serves as `live` becomes, where there is one.
    fn aside(&self, service: &str, live: &str, host: &Host<'_>) -> Result<Option<String>> {
        let exists = host.databases.contains(live);
        match (&self.request.target, exists) {
            (Target::As(name), true) => Err(Error::usage(format!(
                "service {service} has a database {name:?} already"
            ))
            .hint("choose another name, or --in-place to replace the one the backup is of")),
            (Target::InPlace | Target::Beside, true) => {
                Ok(Some(derived_name(live, "before", self.run.as_str())))
            }
            (_, false) => Ok(None),
        }
    }

    /// One step for each service that lacks roles: all of the backup's where its globals are selected, else
    /// those that the databases need.
    async fn roles(
        &self,
        incoming: &[Incoming],
        hosts: &BTreeMap<&str, Host<'_>>,
    ) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for (service, host) in hosts {
            let service = (*service).to_owned();
            let globals = ArtifactName::Globals {
                service: service.clone(),
            };
            let roles = if has(self.selected, &globals) {
                Vec::new()
            } else {
                let of_service = incoming
                    .iter()
                    .filter(|one| one.artifact.name.service() == Some(service.as_str()));
                let wanted: BTreeSet<String> = of_service
                    .filter_map(|one| one.facts.properties.as_ref())
                    .flat_map(|properties| properties.roles().map(str::to_owned))
                    .collect();
                let missing = host.server.missing_roles(&host.session, &wanted).await?;
                if missing.is_empty() {
                    continue;
                }
                if !has(&self.backup.manifest().artifacts, &globals) {
                    return Err(postgres::missing_roles(&missing));
                }
                missing
            };
            steps.push(Step::CreateRoles { service, roles });
        }
        Ok(steps)
    }
}

fn has(artifacts: &[Artifact], name: &ArtifactName) -> bool {
    artifacts.iter().any(|artifact| artifact.name == *name)
}

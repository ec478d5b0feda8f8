//! What a restore is going to do. Everything that can be known to fail fails here, before anything is touched.

use super::plan::{Plan, Step};
use super::restore::{RestoreRequest, Target};
use crate::error::{Error, Result, nearest};
use crate::manifest::{Artifact, BackupId, Facts};
use crate::repository::Backup;
use crate::source::postgres::{self, Capability, DatabaseFacts, Server, Session, derived_name};
use crate::stack::{ArtifactName, Service, Stack};
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
    services: &[Service],
    selected: &[Artifact],
    stack: &Stack,
) -> Result<()> {
    for artifact in selected {
        let name = artifact.name.service().unwrap_or_default();
        if !services.iter().any(|service| service.name == name) {
            return Err(Error::usage(format!(
                "stack {} has no PostgreSQL service {name:?}, which {} came from",
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

/// The servers that take part, by service.
pub(super) type Servers = BTreeMap<String, (Server, Capability)>;

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
    /// The databases that will be kept aside: service, the name each gets, the name it has.
    pub kept: Vec<(String, String, String)>,
}

/// What a plan is made from.
pub(super) struct Planner<'a> {
    pub request: &'a RestoreRequest,
    pub stack: &'a Stack,
    pub backup: &'a Backup,
    pub selected: &'a [Artifact],
    pub facts: &'a Facts,
    pub servers: &'a Servers,
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
            kept.extend(
                aside
                    .iter()
                    .map(|aside| (service.clone(), aside.clone(), live.to_owned())),
            );
            swaps.push(Step::Swap {
                service,
                incoming: side,
                live: live.to_owned(),
                aside,
            });
            incoming.push(one);
        }
        let verify = self.selected.iter().map(|artifact| Step::Verify {
            artifact: artifact.name.clone(),
        });
        let mut steps: Vec<Step> = verify.collect();
        steps.extend(self.roles(&incoming, &hosts).await?);
        steps.extend(loads);
        // Last, and together: until here nothing that serves was touched.
        steps.extend(swaps);
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

    /// The selected databases, which must be one where it gets a new name.
    fn databases(&self) -> Result<Vec<&Artifact>> {
        let is_database =
            |artifact: &&Artifact| matches!(artifact.name, ArtifactName::Database { .. });
        let databases: Vec<&Artifact> = self.selected.iter().filter(is_database).collect();
        if let Target::As(name) = &self.request.target {
            if databases.len() != 1 {
                let selected = databases.iter().map(|artifact| artifact.name.to_string());
                return Err(Error::usage(format!(
                    "--as {name} restores one database, and {} are selected",
                    databases.len()
                ))
                .hint(format!(
                    "choose one with --only: {}",
                    selected.collect::<Vec<_>>().join(", ")
                )));
            }
            if name.is_empty() || name.len() > LONGEST_NAME {
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
            Target::InPlace => database,
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
            (Target::InPlace, true) => Ok(Some(derived_name(live, "before", self.run.as_str()))),
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

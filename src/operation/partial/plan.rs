//! What a restore of tables is going to do. What can be known to fail fails here, before anything is touched.

use super::selection::{Selected, TableName, TablesByDump, names_table_of, select_table};
use crate::error::{Error, Result};
use crate::manifest::{Artifact, BackupId, Facts};
use crate::operation::load::{Contents, contents};
use crate::operation::plan::Plan;
use crate::operation::restore::{RestoreRequest, Target};
use crate::operation::restore_plan::Servers;
use crate::operation::step::Step;
use crate::repository::Backup;
use crate::source::postgres::{self, DatabaseFacts, Relation, derived_name};
use crate::stack::ArtifactName;
use std::collections::{BTreeMap, BTreeSet};

/// The longest name of a schema, in bytes (`NAMEDATALEN` - 1).
const LONGEST_NAME: usize = 63;

/// The tables of one dump.
pub(super) struct Part {
    pub artifact: Artifact,
    pub facts: DatabaseFacts,
    pub service: String,
    /// The live database.
    pub live: String,
    /// The database that they are loaded into; known once the run is.
    pub side: String,
    pub tables: BTreeSet<TableName>,
    pub contents: Contents,
    /// They with their partitions and sequences; known once they are defined.
    pub relations: Vec<Relation>,
}

impl Part {
    /// Schemas and names, as the facts spell them.
    pub(super) fn names(&self) -> Vec<(&str, &str)> {
        let tables = self.tables.iter();
        tables
            .map(|one| (one.schema.as_str(), one.table.as_str()))
            .collect()
    }

    pub(super) fn spelled(&self) -> Vec<String> {
        self.tables.iter().map(ToString::to_string).collect()
    }
}

/// The schema that the tables come into.
pub(super) fn schema(request: &RestoreRequest) -> Result<String> {
    match &request.target {
        Target::InPlace => Err(Error::usage(
            "a table is not restored in place: others refer to it, and so may a transaction that runs",
        )
        .hint("leave --in-place out: the table is restored into a schema beside, from where SQL takes what is needed")),
        Target::Beside => {
            let id = request.entry.id.to_string().to_ascii_lowercase();
            Ok(format!("lifeboat_{}", id.replace('-', "_")))
        }
        Target::As(name) if name.is_empty() || name.len() > LONGEST_NAME => {
            Err(Error::usage(format!(
                "a schema's name has 1 to {LONGEST_NAME} bytes, {name:?} has {}",
                name.len()
            )))
        }
        Target::As(name) if name.starts_with("pg_") => Err(Error::usage(format!(
            "a schema cannot be called {name:?}: PostgreSQL keeps names that begin with pg_ for itself"
        ))
        .hint("choose another name")),
        Target::As(name) => Ok(name.clone()),
    }
}

/// The tables that are asked for, by dump.
pub(super) async fn parts(
    backup: &Backup,
    facts: &Facts,
    dumps: &[Artifact],
    only: &[String],
    schema: &str,
) -> Result<Vec<Part>> {
    let mut known = BTreeMap::new();
    let mut tables = TablesByDump::new();
    for artifact in dumps {
        let facts = facts.0.get(&artifact.name.to_string()).ok_or_else(|| {
            Error::damaged(format!("the facts say nothing about {}", artifact.name))
        })?;
        let facts = postgres::database_facts(facts)?;
        let mut names = BTreeSet::new();
        let is_named = |pattern: &String| names_table_of(pattern, &artifact.name);
        if only.iter().any(is_named) {
            let contents = contents(backup, artifact).await?.ok_or_else(|| {
                Error::failed(format!(
                    "the table of contents of {} is too long to choose tables from it",
                    artifact.name
                ))
                .hint("restore the database under another name with --as")
            })?;
            let entries = contents.entries.iter();
            // A table of an extension has rows here and no definition: it comes with its extension.
            names.extend(
                entries
                    .filter(|entry| &*entry.desc == "TABLE")
                    .map(|entry| TableName {
                        schema: entry.schema.as_deref().unwrap_or_default().to_owned(),
                        table: entry.tag.to_string(),
                    }),
            );
            known.insert(artifact.name.clone(), (artifact.clone(), facts, contents));
        } else {
            for (schema, of_schema) in &facts.dump.tables {
                names.extend(of_schema.keys().map(|table| TableName {
                    schema: schema.clone(),
                    table: table.clone(),
                }));
            }
        }
        tables.insert(artifact.name.clone(), names);
    }
    let mut chosen: BTreeMap<ArtifactName, BTreeSet<TableName>> = BTreeMap::new();
    for pattern in only {
        let Selected { artifact, name } = select_table(pattern, &tables)?;
        chosen.entry(artifact).or_default().insert(name);
    }
    let mut parts = Vec::new();
    for (name, tables) in chosen {
        let mut own = BTreeSet::new();
        if let Some(twice) = tables.iter().find(|one| !own.insert(one.table.clone())) {
            return Err(Error::usage(format!(
                "two of the tables are called {:?}, and the schema {schema:?} holds one of a name",
                twice.table
            ))
            .hint("restore them one after the other, each with its own --as"));
        }
        let (Some((artifact, facts, contents)), ArtifactName::Database { service, database }) =
            (known.remove(&name), name)
        else {
            continue;
        };
        parts.push(Part {
            artifact,
            facts,
            service,
            live: database,
            side: String::new(),
            tables,
            contents,
            relations: Vec::new(),
        });
    }
    Ok(parts)
}

/// What a plan is made from.
pub(super) struct Planner<'a> {
    pub backup: &'a Backup,
    pub stack: &'a str,
    pub servers: &'a Servers,
    pub schema: &'a str,
    pub run: &'a BackupId,
}

impl Planner<'_> {
    /// # Errors
    /// Usage where there is no database to bring the tables into, or it has the schema already; failed where the server
    /// cannot take the dump.
    pub(super) async fn make(&self, parts: &mut [Part]) -> Result<Plan> {
        let mut steps: Vec<Step> = parts
            .iter()
            .map(|part| Step::Verify {
                artifact: part.artifact.name.clone(),
            })
            .collect();
        let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut loads = Vec::new();
        for part in parts {
            part.side = derived_name(&part.live, "restoring", self.run.as_str());
            self.check(part).await?;
            let roles = part.facts.properties.iter();
            let roles = roles.flat_map(|properties| properties.roles().map(str::to_owned));
            wanted
                .entry(part.service.clone())
                .or_default()
                .extend(roles);
            loads.extend(self.steps(part));
        }
        for (service, roles) in wanted {
            steps.extend(self.roles(service, &roles).await?);
        }
        steps.extend(loads);
        Ok(Plan {
            operation: "restore".to_owned(),
            run: self.run.to_string(),
            stack: self.stack.to_owned(),
            steps,
        })
    }

    async fn check(&self, part: &Part) -> Result<()> {
        let (service, live, schema) = (&part.service, &part.live, self.schema);
        let (server, _) = self
            .servers
            .get(service)
            .ok_or_else(|| Error::failed(format!("service {service} is not part of this run")))?;
        if !server.has_database(live).await? {
            return Err(Error::usage(format!(
                "service {service} has no database {live:?} that the tables could be brought into"
            ))
            .hint(
                "restore the whole database: --only and its name alone, with --as or --in-place",
            ));
        }
        if server.has_schema(live, schema).await? {
            return Err(Error::usage(format!(
                "the database {live:?} of service {service} has a schema {schema:?} already"
            ))
            .hint("choose another with --as, or drop that one"));
        }
        let session = server.maintenance(&[]).await?;
        server.preflight(&session, &part.facts).await
    }

    fn steps(&self, part: &Part) -> [Step; 8] {
        let (service, side) = (part.service.clone(), part.side.clone());
        let (live, schema) = (part.live.clone(), self.schema.to_owned());
        [
            Step::CreateDatabase {
                service: service.clone(),
                side: side.clone(),
                target: live.clone(),
            },
            Step::LoadTables {
                service: service.clone(),
                artifact: part.artifact.name.clone(),
                side: side.clone(),
                tables: part.spelled(),
            },
            Step::CompareTables {
                service: service.clone(),
                side: side.clone(),
                carried: None,
            },
            Step::CutLoose {
                service: service.clone(),
                side: side.clone(),
                schema: schema.clone(),
            },
            Step::Carry {
                service: service.clone(),
                side: side.clone(),
                live: live.clone(),
                schema: schema.clone(),
            },
            Step::CompareTables {
                service: service.clone(),
                side: side.clone(),
                carried: Some((live.clone(), schema.clone())),
            },
            Step::SettleSchema {
                service: service.clone(),
                side: side.clone(),
                live,
                schema,
            },
            Step::DropDatabase {
                service,
                name: side,
            },
        ]
    }

    /// The roles that the dump's definitions name and the server lacks.
    async fn roles(&self, service: String, wanted: &BTreeSet<String>) -> Result<Option<Step>> {
        let Some((server, _)) = self.servers.get(&service) else {
            return Ok(None);
        };
        let session = server.maintenance(&[]).await?;
        let roles = server.missing_roles(&session, wanted).await?;
        if roles.is_empty() {
            return Ok(None);
        }
        let globals = ArtifactName::Globals {
            service: service.clone(),
        };
        let artifacts = &self.backup.manifest().artifacts;
        match artifacts.iter().any(|artifact| artifact.name == globals) {
            true => Ok(Some(Step::CreateRoles { service, roles })),
            false => Err(postgres::missing_roles(&roles)),
        }
    }
}

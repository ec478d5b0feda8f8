//! What was restored, counted again and held against what passed when it was dumped.

use super::archive::{DumpFacts, spelled_bytes};
use super::dump::DatabaseFacts;
use super::quote::{identifier, literal};
use super::server::Server;
use super::session::Session;
use crate::error::Result;

/// How a restored database differs from the backup's facts.
#[derive(Debug, Default)]
pub struct Differences {
    /// Each difference, for people.
    pub found: Vec<String>,
    /// Tables and sequences that could not be asked for, because no session can spell their names.
    pub unchecked: Vec<String>,
}

impl Differences {
    fn unchecked(&mut self, schema: &str, name: &str) {
        self.unchecked.push(format!("{schema}.{name}"));
    }
}

impl Server {
    /// Counts what was restored and compares it with what passed when it was dumped.
    pub async fn compare(&self, database: &str, facts: &DatabaseFacts) -> Result<Differences> {
        let session = self.connect(database).await?;
        let mut differences = compare_contents(&session, &facts.dump).await?;
        if let Some(properties) = &facts.properties {
            let restored = super::properties::read(&session).await?;
            let mut expected = properties.clone();
            // Extension versions are the restoring image's own; the tablespace may not exist here.
            expected.extensions.clone_from(&restored.extensions);
            expected.tablespace.clone_from(&restored.tablespace);
            // Here another role may be the superuser that nothing is said to depend on.
            expected.roles.clone_from(&restored.roles);
            if restored != expected {
                differences.found.push(format!(
                    "the database's properties: {restored:?} instead of {expected:?}"
                ));
            }
        }
        Ok(differences)
    }
}

/// The names of a dump's facts, as this session has to write them.
struct Names<'a> {
    session: &'a Session,
    /// The encoding of the dump, in which the facts keep names that are not UTF-8.
    encoding: Option<&'a str>,
}

impl Names<'_> {
    /// A qualified identifier; `None` where its bytes are no text in their encoding (`SQL_ASCII` takes any).
    async fn relation(&self, schema: &str, name: &str) -> Result<Option<String>> {
        let parts = (self.name(schema).await?, self.name(name).await?);
        Ok(match parts {
            (Some(schema), Some(name)) => {
                Some(format!("{}.{}", identifier(&schema), identifier(&name)))
            }
            _ => None,
        })
    }

    async fn name(&self, spelled: &str) -> Result<Option<String>> {
        let Some(encoding) = self.encoding.filter(|name| *name != "UTF8") else {
            return Ok(Some(spelled.to_owned()));
        };
        let bytes = spelled_bytes(spelled);
        if bytes.is_ascii() {
            return Ok(String::from_utf8(bytes).ok());
        }
        // The server knows all its encodings; this session speaks UTF-8.
        let converted = self
            .session
            .query_one(
                "select convert_from($1, $2::text::name)",
                &[&bytes, &encoding],
            )
            .await?;
        Ok(converted.try_get(0).ok())
    }
}

/// Compares rows and sequences.
pub(super) async fn compare_relations(session: &Session, dump: &DumpFacts) -> Result<Differences> {
    let mut differences = Differences::default();
    let names = Names {
        session,
        encoding: dump.encoding.as_deref(),
    };
    for (schema, tables) in &dump.tables {
        for (table, facts) in tables {
            // Rows loaded through a partition's root may land in another partition; the root's sum holds.
            let (Some(expected), None) = (facts.rows, &facts.loaded_through) else {
                continue;
            };
            let Some(relation) = names.relation(schema, table).await? else {
                differences.unchecked(schema, table);
                continue;
            };
            let sql = format!("select count(*) from only {relation}");
            let counted: i64 = session.query_one(&sql, &[]).await?.get(0);
            if u64::try_from(counted) != Ok(expected) {
                differences.found.push(format!(
                    "{schema}.{table}: {counted} rows instead of {expected}"
                ));
            }
        }
    }
    for (schema, sequences) in &dump.sequences {
        for (sequence, facts) in sequences {
            let Some(expected) = facts else { continue };
            let Some(relation) = names.relation(schema, sequence).await? else {
                differences.unchecked(schema, sequence);
                continue;
            };
            let sql = format!("select last_value, is_called from {relation}");
            let row = session.query_one(&sql, &[]).await?;
            let (value, called): (i64, bool) = (row.get(0), row.get(1));
            if value != expected.last_value || called != expected.is_called {
                differences.found.push(format!(
                    "{schema}.{sequence}: at {value} instead of {}",
                    expected.last_value
                ));
            }
        }
    }
    Ok(differences)
}

async fn compare_contents(session: &Session, dump: &DumpFacts) -> Result<Differences> {
    let mut differences = compare_relations(session, dump).await?;
    let objects: i64 = session
        .query_one("select count(*) from pg_largeobject_metadata", &[])
        .await?
        .get(0);
    if u64::try_from(objects) != Ok(dump.large_objects.count) {
        differences.found.push(format!(
            "{objects} large objects instead of {}",
            dump.large_objects.count
        ));
    }
    let names: Vec<String> = dump.extensions.keys().map(|name| literal(name)).collect();
    if !names.is_empty() {
        let sql = format!(
            "select count(*) from pg_extension where extname in ({})",
            names.join(", ")
        );
        let present: i64 = session.query_one(&sql, &[]).await?.get(0);
        if usize::try_from(present) != Ok(names.len()) {
            differences
                .found
                .push(format!("{present} of the {} extensions", names.len()));
        }
    }
    Ok(differences)
}

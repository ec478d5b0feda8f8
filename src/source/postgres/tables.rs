//! Some tables of a dump: what of the archive belongs to them, whether they came back whole, and the schema that
//! holds them beside the live ones.

use super::archive::{DumpFacts, Section, TocEntry, spelled_bytes};
use super::compare::{Differences, compare_relations};
use super::parallel::List;
use super::quote::{identifier, literal};
use super::server::Server;
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// What the comment of a schema begins with that a run has not finished.
const UNFINISHED: &str = "lifeboat restores this schema: run ";

/// The tables `$1.$2` (bytes of the database's encoding) with their partitions, and the sequences that are theirs.
const TREE: &str = "\
with recursive tree(oid, root) as (
  select c.oid, true from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p') and convert_to(n.nspname::text, getdatabaseencoding()) = $1
    and convert_to(c.relname::text, getdatabaseencoding()) = $2
  union all
  select i.inhrelid, false from pg_inherits i join tree t on i.inhparent = t.oid
    join pg_class p on p.oid = t.oid and p.relkind = 'p'),
owned(oid) as (
  select distinct d.objid from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S'
  where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
    and d.refobjid in (select oid from tree)),
all_of_it(oid, root) as (select oid, root from tree union all select oid, false from owned)
select n.nspname::text, c.relname::text, convert_to(n.nspname::text, getdatabaseencoding()),
  convert_to(c.relname::text, getdatabaseencoding()), c.relkind::text, a.root
from all_of_it a join pg_class c on c.oid = a.oid join pg_namespace n on n.oid = c.relnamespace";

/// A table, a partition or a sequence that belongs to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether it is one of those that were asked for, and no partition or sequence of theirs.
    pub root: bool,
    bytes: (Vec<u8>, Vec<u8>),
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Table,
    Partitioned,
    Sequence,
}

impl Relation {
    fn is(&self, schema: &str, name: &str, utf8: bool) -> bool {
        let bytes = |text: &str| match utf8 {
            true => text.as_bytes().to_vec(),
            false => spelled_bytes(text),
        };
        self.bytes.0 == bytes(schema) && self.bytes.1 == bytes(name)
    }
}

/// What of an archive belongs to some tables, behind the definitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfTables {
    /// Their rows, and where their sequences stand; this needs the whole archive.
    pub data: List,
    /// Their keys, indexes, and the foreign keys among them.
    pub behind: List,
}

/// Chooses from an archive's table of contents what belongs to `relations`.
pub fn of_tables(entries: &[TocEntry], facts: &DumpFacts, relations: &[Relation]) -> OfTables {
    let utf8 = is_utf8(facts);
    let find = |entry: &TocEntry| {
        let schema = entry.schema.as_deref().unwrap_or_default();
        relations
            .iter()
            .find(|one| one.is(schema, &entry.tag, utf8))
    };
    let (mut tables, mut others) = (BTreeSet::new(), BTreeSet::new());
    let (mut data, mut behind) = (Vec::new(), Vec::new());
    // What comes behind the data and was not chosen.
    let mut left = BTreeSet::new();
    let mut section = Section::PreData;
    for entry in entries {
        if entry.section != Section::None {
            section = entry.section;
        }
        match &*entry.desc {
            "TABLE" if find(entry).is_some() => drop(tables.insert(entry.dump_id)),
            "TABLE" => drop(others.insert(entry.dump_id)),
            "TABLE DATA" | "SEQUENCE SET" if find(entry).is_some() => data.push(entry.dump_id),
            "INDEX" | "CONSTRAINT" | "CHECK CONSTRAINT" | "INDEX ATTACH" | "FK CONSTRAINT"
            | "COMMENT"
                if section == Section::PostData =>
            {
                let needs = &entry.dependencies;
                let mine = |id: &u32| tables.contains(id) || behind.contains(id);
                let alien = |id: &u32| others.contains(id) || left.contains(id);
                match needs.iter().any(mine) && !needs.iter().any(alien) {
                    true => behind.push(entry.dump_id),
                    false => drop(left.insert(entry.dump_id)),
                }
            }
            _ if section == Section::PostData => drop(left.insert(entry.dump_id)),
            _ => {}
        }
    }
    OfTables {
        data: List::of(data),
        behind: List::of(behind),
    }
}

fn is_utf8(facts: &DumpFacts) -> bool {
    facts.encoding.as_deref().is_none_or(|name| name == "UTF8")
}

impl Server {
    /// The tables `names`, spelled as in a dump's facts, with their partitions and sequences, in `database`.
    ///
    /// # Errors
    /// Where one is not there, or its name is no text.
    pub async fn relations(
        &self,
        database: &str,
        facts: &DumpFacts,
        names: &[(&str, &str)],
    ) -> Result<Vec<Relation>> {
        let session = self.connect(database).await?;
        let mut found = Vec::new();
        for (schema, table) in names {
            let bytes = |text: &str| match is_utf8(facts) {
                true => text.as_bytes().to_vec(),
                false => spelled_bytes(text),
            };
            let rows = session
                .query(TREE, &[&bytes(schema), &bytes(table)])
                .await?;
            if rows.is_empty() {
                return Err(Error::failed(format!(
                    "{schema}.{table} is not in {database:?}"
                )));
            }
            for row in rows {
                let no_text = |error| {
                    Error::failed(format!("a name in {schema}.{table} is no text")).caused_by(error)
                };
                let kind: String = row.get(4);
                let relation = Relation {
                    schema: row.try_get(0).map_err(no_text)?,
                    name: row.try_get(1).map_err(no_text)?,
                    bytes: (row.get(2), row.get(3)),
                    kind: match kind.as_str() {
                        "S" => Kind::Sequence,
                        "p" => Kind::Partitioned,
                        _ => Kind::Table,
                    },
                    root: row.get(5),
                };
                if !found.contains(&relation) {
                    found.push(relation);
                }
            }
        }
        Ok(found)
    }

    /// Counts the rows of `relations` in `database` and asks where their sequences stand, and compares that with what was
    /// dumped. They are looked for in `schema` where one is given, else in their own.
    pub async fn compare_tables(
        &self,
        database: &str,
        dump: &DumpFacts,
        relations: &[Relation],
        schema: Option<&str>,
    ) -> Result<Differences> {
        let utf8 = is_utf8(dump);
        let mut expected = DumpFacts::default();
        let (mut sum, mut through_root) = (Some(0), false);
        for relation in relations {
            let schema = schema.unwrap_or(&relation.schema).to_owned();
            let name = relation.name.clone();
            match relation.kind {
                Kind::Sequence => {
                    let known = dump.sequences.iter().flat_map(|(schema, sequences)| {
                        sequences.iter().map(move |one| (schema, one))
                    });
                    for (its, (tag, facts)) in known {
                        if relation.is(its, tag, utf8) {
                            let known = expected.sequences.entry(schema.clone()).or_default();
                            known.insert(name.clone(), *facts);
                        }
                    }
                }
                Kind::Table => {
                    let known = dump
                        .tables
                        .iter()
                        .flat_map(|(schema, tables)| tables.iter().map(move |one| (schema, one)));
                    for (its, (tag, facts)) in known {
                        if relation.is(its, tag, utf8) {
                            sum = sum.zip(facts.rows).map(|(sum, rows)| sum + rows);
                            through_root |= facts.loaded_through.is_some();
                            let known = expected.tables.entry(schema.clone()).or_default();
                            known.insert(name.clone(), facts.clone());
                        }
                    }
                }
                Kind::Partitioned => {}
            }
        }
        let session = self.connect(database).await?;
        let mut differences = compare_relations(&session, &expected).await?;
        if let (Some(expected), true) = (sum, through_root) {
            // Which partition a row landed in is the server's affair: all of them together count.
            let mut counted = 0;
            for root in relations.iter().filter(|one| one.root) {
                let its = identifier(schema.unwrap_or(&root.schema));
                let only = match root.kind {
                    Kind::Partitioned => "",
                    _ => "only ",
                };
                let sql = format!(
                    "select count(*) from {only}{its}.{}",
                    identifier(&root.name)
                );
                let rows: i64 = session.query_one(&sql, &[]).await?.get(0);
                counted += u64::try_from(rows).unwrap_or_default();
            }
            if counted != expected {
                differences
                    .found
                    .push(format!("{counted} rows instead of {expected}"));
            }
        }
        Ok(differences)
    }

    /// Whether the server has a database of this name that can be connected to.
    pub async fn has_database(&self, name: &str) -> Result<bool> {
        let databases = self.databases().await?;
        Ok(databases.iter().any(|database| database.name == name))
    }

    /// Whether `database` has this schema.
    pub async fn has_schema(&self, database: &str, schema: &str) -> Result<bool> {
        let session = self.connect(database).await?;
        let sql = "select exists (select from pg_namespace where nspname = $1)";
        Ok(session.query_one(sql, &[&schema]).await?.get(0))
    }

    /// Writes on a schema that `run` is not done with it.
    pub async fn mark_schema(&self, database: &str, schema: &str, run: &str) -> Result<()> {
        self.comment_on(database, schema, &format!("{UNFINISHED}{run}"))
            .await
    }

    /// Writes on a schema where it is from: it is whole from here on. Gathers its tables' statistics.
    pub async fn settle_schema(
        &self,
        database: &str,
        schema: &str,
        tables: &[(&str, &str)],
        from: &str,
    ) -> Result<()> {
        let session = self.connect(database).await?;
        for (_, table) in tables {
            let table = format!("{}.{}", identifier(schema), identifier(table));
            session.execute(&format!("analyze {table}")).await?;
        }
        self.comment_on(database, schema, from).await
    }

    async fn comment_on(&self, database: &str, schema: &str, text: &str) -> Result<()> {
        let session = self.connect(database).await?;
        let schema = identifier(schema);
        let sql = format!("comment on schema {schema} is {}", literal(text));
        session.execute(&sql).await
    }

    /// Drops the schemas of `database` that `run` has not finished; their names. One that something else has come to
    /// depend on stays.
    ///
    /// # Errors
    /// Where one of them could not be dropped.
    pub async fn drop_unfinished(&self, database: &str, run: &str) -> Result<Vec<String>> {
        let session = self.connect(database).await?;
        let marked = format!("{UNFINISHED}{run}");
        let rows = session
            .query(
                "select nspname::text from pg_namespace where obj_description(oid, 'pg_namespace') = $1",
                &[&marked],
            )
            .await?;
        let schemas: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        for schema in &schemas {
            let tables = session
                .query(
                    "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                     where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition",
                    &[schema],
                )
                .await?;
            let schema = identifier(schema);
            let names: Vec<String> = tables
                .iter()
                .map(|row| format!("{schema}.{}", identifier(row.get(0))))
                .collect();
            let tables = match names.is_empty() {
                true => String::new(),
                false => format!("drop table {}; ", names.join(", ")),
            };
            session
                .execute(&format!("begin; {tables}drop schema {schema}; commit"))
                .await?;
        }
        Ok(schemas)
    }
}

//! Which tables of which database an `--only` names, as a person types them.

use crate::error::{Error, Result, nearest};
use crate::stack::{ArtifactName, encode};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The longest identifier of PostgreSQL, in bytes (`NAMEDATALEN` - 1).
const LONGEST_NAME: usize = 63;
/// The schema of a table that is named alone.
const USUAL_SCHEMA: &str = "public";

/// A table's qualified name. Displayed as PostgreSQL reads it: quoted where it has to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// Its schema.
    pub schema: String,
    /// Its own name.
    pub table: String,
}

/// The tables of each dump that there is, by the dump's name. A partitioned table is one of them, though it has no
/// rows of its own and no facts therefore: the archive's table of contents tells of it.
pub type TablesByDump = BTreeMap<ArtifactName, BTreeSet<TableName>>;

/// A table of a dump.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selected {
    /// The dump.
    pub artifact: ArtifactName,
    /// The table in it.
    pub name: TableName,
}

/// The table that `pattern` names: `postgres/SERVICE/db/DATABASE:TABLE`, `postgres/db/DATABASE:TABLE`,
/// `DATABASE:TABLE` or TABLE, which is `schema.name` or the name of a table in `public`.
///
/// # Errors
/// Usage where it is no name, names nothing (with the nearest names), or names tables of several dumps.
pub fn select_table(pattern: &str, dumps: &TablesByDump) -> Result<Selected> {
    let mut fitting = Vec::new();
    for (artifact, tables) in dumps {
        fitting.extend(table_parts(pattern, artifact).map(|part| (artifact, tables, part)));
    }
    let names_a_dump = !fitting.is_empty();
    let searched = match fitting.is_empty() {
        false => fitting,
        true => dumps
            .iter()
            .map(|(artifact, tables)| (artifact, tables, pattern))
            .collect(),
    };
    let Some((_, _, first)) = searched.first() else {
        return Err(Error::usage(format!(
            "the backup has no table {pattern:?}: it holds no PostgreSQL database"
        )));
    };
    // A database's name may hold a colon, so that the same text can be read in two ways.
    let mut parsed = Vec::new();
    for (artifact, tables, part) in &searched {
        parsed.extend(
            TableName::parse(part)
                .ok()
                .map(|name| (*artifact, *tables, name)),
        );
    }
    if parsed.is_empty() {
        if let Some((database, _)) = pattern.split_once(':')
            && !names_a_dump
        {
            return Err(unknown_database(database, dumps));
        }
        TableName::parse(first)?;
    }
    let mut found: Vec<Selected> = parsed
        .iter()
        .filter(|(_, tables, name)| tables.contains(name))
        .map(|(artifact, _, name)| Selected {
            artifact: (*artifact).clone(),
            name: name.clone(),
        })
        .collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(unknown(pattern, dumps)),
        _ => {
            let names: Vec<String> = found.iter().map(ToString::to_string).collect();
            Err(Error::usage(format!(
                "{pattern:?} names tables of {} databases",
                found.len()
            ))
            .hint(format!("one of {}", names.join(", "))))
        }
    }
}

/// Whether `pattern` begins with a name of this dump and a colon.
pub(in crate::operation) fn names_table_of(pattern: &str, artifact: &ArtifactName) -> bool {
    table_parts(pattern, artifact).is_some()
}

/// What is left of `pattern` behind each way of writing the name of a dump and a colon.
fn table_parts<'p>(pattern: &'p str, artifact: &ArtifactName) -> Option<&'p str> {
    let ArtifactName::Database { database, .. } = artifact else {
        return None;
    };
    let forms = [
        artifact.to_string(),
        format!("postgres/db/{}", encode(database)),
        database.clone(),
    ];
    let mut behind = forms
        .iter()
        .filter_map(|form| pattern.strip_prefix(form.as_str())?.strip_prefix(':'));
    behind.next()
}

/// There is no such database: those that there are.
fn unknown_database(database: &str, dumps: &TablesByDump) -> Error {
    let names: Vec<String> = dumps.keys().map(ToString::to_string).collect();
    Error::usage(format!("the backup has no database {database:?}"))
        .hint(format!("it holds {}", names.join(", ")))
}

/// There is no such table: the nearest that there are, written so that they will do.
fn unknown(pattern: &str, dumps: &TablesByDump) -> Error {
    let all = dumps.iter().flat_map(|(artifact, tables)| {
        tables.iter().map(|name| Selected {
            artifact: artifact.clone(),
            name: name.clone(),
        })
    });
    // The one that the pattern looks like, however much of the name was written.
    let mut spelled: BTreeMap<String, String> = BTreeMap::new();
    for one in all {
        let whole = one.to_string();
        for form in one.forms() {
            spelled.entry(form).or_insert_with(|| whole.clone());
        }
    }
    let mut near: Vec<&str> = Vec::new();
    for form in nearest(pattern, spelled.keys().map(String::as_str)) {
        if let Some(whole) = spelled
            .get(form)
            .filter(|whole| !near.contains(&whole.as_str()))
        {
            near.push(whole);
        }
    }
    Error::usage(format!("the backup has no table {pattern:?}")).hint(match near.is_empty() {
        false => format!("did you mean {}?", near.join(" or ")),
        true => "lifeboat show lists what the backup holds; quote names that are not lower case, as in SQL"
            .to_owned(),
    })
}

impl Selected {
    /// The ways of writing it, whether they are unambiguous or not.
    fn forms(&self) -> Vec<String> {
        let name = &self.name;
        let mut forms = vec![self.to_string(), name.to_string()];
        if name.schema == USUAL_SCHEMA {
            forms.push(written(&name.table));
        }
        if let ArtifactName::Database { database, .. } = &self.artifact {
            forms.push(format!("{database}:{name}"));
            forms.push(format!("postgres/db/{}:{name}", encode(database)));
        }
        forms
    }
}

impl fmt::Display for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.artifact, self.name)
    }
}

impl TableName {
    /// A name as PostgreSQL reads it: folded to lower case where it is not quoted.
    ///
    /// # Errors
    /// Usage where it is no name, of one or two parts.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = |why: &str| {
            Error::usage(format!("{text:?} is not a table's name: {why}"))
                .hint("write it as in SQL: invoices, sales.invoices, public.\"My table\"")
        };
        let (first, rest) = identifier(text).map_err(refused)?;
        let Some(rest) = rest.strip_prefix('.') else {
            return match rest.is_empty() {
                true => Ok(Self {
                    schema: USUAL_SCHEMA.to_owned(),
                    table: first,
                }),
                false => Err(refused("something follows the name")),
            };
        };
        let (table, rest) = identifier(rest).map_err(refused)?;
        match rest.is_empty() {
            true => Ok(Self {
                schema: first,
                table,
            }),
            false => Err(refused("something follows the name")),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", written(&self.schema), written(&self.table))
    }
}

/// An identifier as a person may type it.
fn written(name: &str) -> String {
    match identifier(name) {
        Ok((read, "")) if read == name => name.to_owned(),
        _ => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// The identifier that `text` begins with, and what follows it: `scan.l` of PostgreSQL.
fn identifier(text: &str) -> Result<(String, &str), &'static str> {
    let (name, rest) = if let Some(quoted) = text.strip_prefix('"') {
        quoted_identifier(quoted)?
    } else {
        let belongs = |c: char| c.is_ascii_alphanumeric() || "_$".contains(c) || !c.is_ascii();
        let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        if name.starts_with(|c: char| c.is_ascii_digit() || c == '$') {
            return Err("a name that begins so has to be quoted");
        }
        (name.to_ascii_lowercase(), rest)
    };
    match name.len() {
        0 if rest.is_empty() => Err("a part of it is empty"),
        0 => Err("it holds what has to be quoted"),
        1..=LONGEST_NAME if name.contains('\0') => Err("no name holds a zero byte"),
        1..=LONGEST_NAME => Ok((name, rest)),
        _ => Err("PostgreSQL's names have 63 bytes at the most"),
    }
}

/// What stands up to the closing quote, doubled quotes made one.
fn quoted_identifier(text: &str) -> Result<(String, &str), &'static str> {
    let (mut name, mut rest) = (String::new(), text);
    loop {
        let (piece, after) = rest.split_once('"').ok_or("a quote is not closed")?;
        name.push_str(piece);
        let Some(further) = after.strip_prefix('"') else {
            return Ok((name, after));
        };
        name.push('"');
        rest = further;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(schema: &str, table: &str) -> TableName {
        TableName {
            schema: schema.to_owned(),
            table: table.to_owned(),
        }
    }

    fn dump(service: &str, database: &str) -> ArtifactName {
        ArtifactName::Database {
            service: service.to_owned(),
            database: database.to_owned(),
        }
    }

    fn dumps() -> TablesByDump {
        TablesByDump::from([
            (
                dump("main", "orders"),
                [
                    table("public", "invoices"),
                    table("sales", "invoices"),
                    table("public", "My \"table\"\n%"),
                    table("public", "shared"),
                ]
                .into(),
            ),
            (
                dump("main", "a:b"),
                [table("public", "shared"), table("public", "only_here")].into(),
            ),
            (dump("other", "logs"), [table("public", "lines")].into()),
            (dump("main", "logs"), [table("public", "lines")].into()),
        ])
    }

    #[test]
    fn a_table_is_found_by_every_form_of_its_name() {
        let invoices = (dump("main", "orders"), table("public", "invoices"));
        let of_sales = (dump("main", "orders"), table("sales", "invoices"));
        let hostile = (dump("main", "orders"), table("public", "My \"table\"\n%"));
        let colon = (dump("main", "a:b"), table("public", "shared"));
        for (pattern, (artifact, name)) in [
            ("postgres/main/db/orders:public.invoices", &invoices),
            ("postgres/db/orders:public.invoices", &invoices),
            ("orders:public.invoices", &invoices),
            ("orders:invoices", &invoices),
            ("invoices", &invoices),
            ("INVOICES", &invoices),
            ("\"public\".\"invoices\"", &invoices),
            ("orders:sales.invoices", &of_sales),
            ("Sales.Invoices", &of_sales),
            ("orders:\"My \"\"table\"\"\n%\"", &hostile),
            ("public.\"My \"\"table\"\"\n%\"", &hostile),
            ("a:b:shared", &colon),
            ("postgres/main/db/a%3Ab:shared", &colon),
            ("postgres/db/a%3Ab:public.shared", &colon),
        ] {
            let found = select_table(pattern, &dumps()).unwrap();
            assert_eq!(
                (&found.artifact, &found.name),
                (artifact, name),
                "{pattern}"
            );
        }
    }

    #[test]
    fn what_names_nothing_or_too_much_is_refused_with_what_there_is() {
        for (pattern, words) in [
            (
                "orders:public.invoces",
                "postgres/main/db/orders:public.invoices",
            ),
            (
                "invoces",
                "did you mean postgres/main/db/orders:public.invoices",
            ),
            (
                "orders:\"Invoices\"",
                "postgres/main/db/orders:public.invoices",
            ),
            (
                "postgres/db/logs:lines",
                "postgres/other/db/logs:public.lines",
            ),
            ("shared", "postgres/main/db/a%3Ab:public.shared"),
            ("no-such-database:public.invoices", "postgres/other/db/logs"),
        ] {
            let error = select_table(pattern, &dumps()).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Usage, "{pattern}");
            let hint = error.hint_text().unwrap();
            assert!(hint.contains(words), "{pattern}: {hint}");
        }
        assert!(select_table("x", &TablesByDump::new()).is_err());
    }

    #[test]
    fn what_postgresql_would_not_read_as_a_name_is_refused() {
        let long = format!("\"{}\"", "é".repeat(32));
        for text in [
            "", ".", "a.", ".a", "a.b.c", "my table", "1a", "$a", "a-b", "\"a", "a\"b\"", "\"\"",
            "\"a\0\"", "a;drop", "public.*", &long,
        ] {
            assert!(TableName::parse(text).is_err(), "{text:?} was parsed");
        }
        let longest = format!("{}x", "é".repeat(31));
        assert_eq!(TableName::parse(&longest).unwrap().table, longest);
    }

    proptest! {
        #[test]
        fn every_name_comes_back(schema in "[^\0]{1,15}", name in "[^\0]{1,15}") {
            let name = TableName { schema, table: name };
            prop_assert_eq!(TableName::parse(&name.to_string()).unwrap(), name);
        }
    }
}

//! What an archive holds, told from its own bytes.

use super::reader::Input;
use super::toc::ReadEntry;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a dump holds: exact, and all of one moment, because it is read from the dump.
///
/// Tables, sequences and materialized views stand under their schema, then their name. Names are
/// text; where the database is not in UTF-8, a byte that is no UTF-8 is spelled `\xe9` and a
/// backslash `\\`, so that different names stay different.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpFacts {
    /// The archive itself.
    pub archive: ArchiveFacts,
    /// The database's encoding, such as `UTF8`.
    pub encoding: Option<String>,
    /// How many entries of each type its table of contents has.
    pub entries: BTreeMap<String, u64>,
    /// Every table whose data are in it, empty ones and partitions too.
    pub tables: BTreeMap<String, BTreeMap<String, TableFacts>>,
    /// Where each sequence stands; `null` where the archive says it in words that are not known.
    pub sequences: BTreeMap<String, BTreeMap<String, Option<SequenceFacts>>>,
    /// The large objects.
    pub large_objects: LargeObjectFacts,
    /// The extensions. Their versions are not in an archive: the restoring server chooses them.
    pub extensions: BTreeMap<String, ExtensionFacts>,
    /// The materialized views that a restore must refresh, and does; those that were never filled
    /// are not among them.
    pub materialized_views: BTreeMap<String, Vec<String>>,
}

/// An archive's header.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveFacts {
    /// The archive version, such as `1.14-0`.
    pub format: String,
    /// Whether `pg_dump` compressed the data, so that rows could not be counted and bytes are
    /// those of the compressed data.
    pub compressed: bool,
    /// When `pg_dump` started, in its own time zone, which the archive does not tell.
    pub created: String,
    /// The database that was dumped.
    pub database: String,
    /// The server's version.
    pub server_version: String,
    /// The version of `pg_dump`.
    pub pg_dump_version: String,
}

/// A table's data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFacts {
    /// Its rows; `null` where they were not walked: written as `INSERT` commands, or compressed.
    pub rows: Option<u64>,
    /// The bytes of its data in the archive, the mark of their end included.
    pub bytes: u64,
    /// For a partition that a restore loads through its root, the root as SQL names it. Its rows
    /// may land in another partition there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded_through: Option<String>,
}

/// Where a sequence stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceFacts {
    /// Its `last_value`.
    pub last_value: i64,
    /// Whether that value was handed out: if not, it comes next.
    pub is_called: bool,
}

/// The large objects of a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjectFacts {
    /// How many there are.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// An extension.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionFacts {
    /// The schema that it is put into.
    pub schema: Option<String>,
}

impl DumpFacts {
    /// The facts of one table.
    pub fn table(&self, schema: &str, name: &str) -> Option<&TableFacts> {
        self.tables.get(schema)?.get(name)
    }

    /// The rows of all tables whose rows were counted.
    pub fn rows(&self) -> u64 {
        let tables = self.tables.values().flat_map(BTreeMap::values);
        tables.filter_map(|table| table.rows).sum()
    }

    /// Takes in what an entry tells by itself, and says whether it keeps the entry's name.
    pub(super) fn announce(&mut self, entry: &ReadEntry, input: &Input<'_>) -> Result<bool> {
        let head = &entry.head;
        if let Some(count) = self.entries.get_mut(&*head.desc) {
            *count += 1;
        } else {
            self.entries.insert(head.desc.to_string(), 1);
        }
        let schema = head.schema.as_deref().unwrap_or_default();
        let name = head.tag.to_string();
        match &*head.desc {
            "ENCODING" => {
                self.encoding = encoding(&entry.definition).map(str::to_owned);
                Ok(false)
            }
            "SEQUENCE SET" => {
                let sequences = self.sequences.entry(schema.to_owned()).or_default();
                let twice = sequences.insert(name, setval(&entry.definition)).is_some();
                if twice {
                    return Err(input.damaged(format!("the sequence {:?} twice", head.tag)));
                }
                Ok(true)
            }
            "EXTENSION" => {
                let spelling = self.spelling();
                let schema =
                    extension_schema(&entry.definition).map(|schema| spelling.spell(schema));
                self.extensions.insert(name, ExtensionFacts { schema });
                Ok(true)
            }
            "MATERIALIZED VIEW DATA" => {
                let views = self.materialized_views.entry(schema.to_owned());
                views.or_default().push(name);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// How names are spelled, once the encoding is known.
    pub(super) fn spelling(&self) -> Spelling {
        Spelling {
            escaped: self.encoding.as_deref().is_some_and(|name| name != "UTF8"),
        }
    }
}

/// How the bytes of a name become text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Spelling {
    /// Backslashes are doubled, because a name may need one to spell a byte.
    escaped: bool,
}

impl Spelling {
    /// Of the names behind the `ENCODING` entry with this definition.
    pub(super) fn of(definition: &[u8]) -> Self {
        Self {
            escaped: encoding(definition).is_some_and(|name| name != "UTF8"),
        }
    }

    pub(super) fn spell(self, name: Vec<u8>) -> String {
        let name = match String::from_utf8(name) {
            Ok(name) if !self.escaped => return name,
            Ok(name) => name.into_bytes(),
            Err(error) => error.into_bytes(),
        };
        let mut text = String::with_capacity(name.len());
        for chunk in name.utf8_chunks() {
            text.push_str(&chunk.valid().replace('\\', "\\\\"));
            for byte in chunk.invalid() {
                text.push_str("\\x");
                text.push_str(&hex::encode([*byte]));
            }
        }
        text
    }
}

/// The bytes of a name that facts of an encoding other than UTF-8 spell: what [`Spelling::spell`] was given.
pub(in crate::source::postgres) fn spelled_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let byte = escape.strip_prefix('x').and_then(|digits| digits.get(..2));
        if let Some(byte) = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = &escape[3..];
        } else {
            bytes.push(b'\\');
            rest = escape.strip_prefix('\\').unwrap_or(escape);
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// `SET client_encoding = 'UTF8';`: `dumpEncoding` of `pg_dump.c`.
fn encoding(definition: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(definition).ok()?;
    let (_, quoted) = text.split_once('\'')?;
    quoted.split_once('\'').map(|(name, _)| name)
}

/// `SELECT pg_catalog.setval('public.id_seq', 42, true);`: `dumpSequenceData` of `pg_dump.c`. Read from
/// the end, because the name may hold anything.
fn setval(definition: &[u8]) -> Option<SequenceFacts> {
    let text = definition.trim_ascii_end().strip_suffix(b");")?;
    let (text, is_called) = match text.strip_suffix(b", true") {
        Some(text) => (text, true),
        None => (text.strip_suffix(b", false")?, false),
    };
    let comma = memchr::memrchr(b',', text)?;
    let value = std::str::from_utf8(text.get(comma + 1..)?).ok()?;
    Some(SequenceFacts {
        last_value: value.trim_start().parse().ok()?,
        is_called,
    })
}

/// `CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA public;`: `dumpExtension` of `pg_dump.c`.
fn extension_schema(definition: &[u8]) -> Option<Vec<u8>> {
    let text = definition.strip_prefix(b"CREATE EXTENSION IF NOT EXISTS ")?;
    let (_, text) = identifier(text)?;
    let (schema, _) = identifier(text.strip_prefix(b" WITH SCHEMA ")?)?;
    Some(schema)
}

/// The identifier that `text` begins with, unquoted, and what follows it.
fn identifier(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(mut rest) = text.strip_prefix(b"\"") else {
        let end = text
            .iter()
            .position(|byte| b" ;.\n".contains(byte))
            .unwrap_or(text.len());
        return Some((text[..end].to_vec(), &text[end..]));
    };
    let mut name = Vec::new();
    loop {
        let quote = memchr::memchr(b'"', rest)?;
        name.extend_from_slice(&rest[..quote]);
        rest = &rest[quote + 1..];
        let Some(after) = rest.strip_prefix(b"\"") else {
            return Some((name, rest));
        };
        name.push(b'"');
        rest = after;
    }
}

/// `-- load via partition root public.events`: `dumpTableData` of `pg_dump.c`.
pub(super) fn partition_root(definition: &[u8]) -> Option<&[u8]> {
    let root = definition.strip_prefix(b"-- load via partition root ")?;
    Some(root.trim_ascii_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setval_is_read_from_its_end() {
        let read =
            |text: &str| setval(text.as_bytes()).map(|facts| (facts.last_value, facts.is_called));
        let call = |arguments: &str| read(&format!("SELECT pg_catalog.setval({arguments});\n"));
        assert_eq!(call("'public.a', 42, true"), Some((42, true)));
        assert_eq!(
            call("'public.\"it''s, 7, true);\"', 9, false"),
            Some((9, false))
        );
        assert_eq!(
            call("'a', -9223372036854775808, true"),
            Some((i64::MIN, true))
        );
        assert_eq!(call("'a', 9223372036854775808, true"), None);
        assert_eq!(call("'a', 1, maybe"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn an_extension_tells_its_schema() {
        let read = |text: &str| {
            extension_schema(format!("CREATE EXTENSION IF NOT EXISTS {text};\n").as_bytes())
                .map(|schema| String::from_utf8(schema).unwrap())
        };
        assert_eq!(read("hstore WITH SCHEMA public").as_deref(), Some("public"));
        assert_eq!(
            read("\"uuid WITH SCHEMA x\" WITH SCHEMA \"a \"\" b;\"").as_deref(),
            Some("a \" b;")
        );
        assert_eq!(read("hstore"), None);
        assert_eq!(read("\"open WITH SCHEMA x"), None);
    }

    #[test]
    fn spelling_keeps_different_names_different() {
        let utf8 = Spelling::of(b"SET client_encoding = 'UTF8';\n");
        let other = Spelling::of(b"SET client_encoding = 'SQL_ASCII';\n");
        assert_eq!(utf8.spell(br"a\b".to_vec()), r"a\b");
        assert_eq!(other.spell(br"a\b".to_vec()), r"a\\b");
        assert_eq!(other.spell(b"caf\xe9".to_vec()), r"caf\xe9");
        assert_eq!(other.spell(br"caf\xe9".to_vec()), r"caf\\xe9");
        assert_eq!(other.spell("café".into()), "café");
        for name in [
            &b"caf\xe9"[..],
            br"caf\xe9",
            br"\",
            br"\\x41\",
            "é\u{ff}\\".as_bytes(),
        ] {
            assert_eq!(spelled_bytes(&other.spell(name.to_vec())), name);
        }
    }
}

//! Restoring one archive with several `pg_restore` at once, though it arrives as a stream.
//!
//! `pg_restore --jobs` wants a file to seek in, and there is none in the container. Several plain ones do as
//! well: the definitions first, then the data of some tables by each and their indexes behind it, then the rest.
//! Each reads the stream and passes over what is not on its list, at the price of decompressing it.

use super::archive::{DumpFacts, Section, TocEntry};
use std::collections::BTreeMap;

/// A list that is longer would not fit into an environment variable (`MAX_ARG_STRLEN`, 128 KiB).
const LONGEST_LIST: usize = 100 << 10;
/// The second table is worth a second stream if the tables beside the largest hold this share of all data.
const WORTH_A_STREAM: u64 = 8;

/// Entries of an archive's table of contents, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List(Vec<u32>);

impl List {
    pub(super) fn of(entries: Vec<u32>) -> Self {
        Self(entries)
    }

    /// Whether it is too long for a program's environment.
    pub fn is_too_long(&self) -> bool {
        self.to_text().len() > LONGEST_LIST
    }

    /// The form of `pg_restore --use-list`.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for id in &self.0 {
            text.push_str(&id.to_string());
            text.push_str(";\n");
        }
        text
    }

    /// Whether there is nothing on it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What follows the definitions: what the workers do side by side, and what comes when all of them are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phases {
    /// Each has the data and the indexes of other tables.
    pub workers: Vec<Worker>,
    /// Foreign keys, triggers, policies, what is refreshed and what comes last.
    pub rest: List,
}

/// What one worker does, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worker {
    /// Data; this needs the whole archive.
    pub data: List,
    /// Primary keys, unique constraints and indexes of the tables that it has loaded.
    pub indexes: List,
}

/// Divides an archive among `workers`; `None` where that is not worth it or not safe, and one `pg_restore`
/// shall do it all.
pub fn phases(entries: &[TocEntry], facts: &DumpFacts, workers: usize) -> Option<Phases> {
    let bytes_of = |entry: &TocEntry| match &*entry.desc {
        "TABLE DATA" => facts
            .table(entry.schema.as_deref().unwrap_or_default(), &entry.tag)
            .map_or(0, |table| table.bytes),
        "BLOBS" => facts.large_objects.bytes,
        _ => 0,
    };
    let mut section = Section::PreData;
    let (mut data, mut indexes, mut rest) =
        (Vec::new(), BTreeMap::<u32, Vec<u32>>::new(), Vec::new());
    for entry in entries {
        // Comments and grants have no section of their own: they belong to what they follow
        // (ProcessArchiveRestoreOptions in pg_backup_archiver.c).
        if entry.section != Section::None {
            section = entry.section;
        }
        match section {
            Section::Data => data.push(Data {
                id: entry.dump_id,
                bytes: bytes_of(entry),
                table: entry.dependencies.first().copied(),
            }),
            Section::PostData => match index_of(entry) {
                Some(table) => indexes.entry(table).or_default().push(entry.dump_id),
                None => rest.push(entry.dump_id),
            },
            Section::PreData | Section::None => {}
        }
    }
    let total: u64 = data.iter().map(|one| one.bytes).sum();
    let largest = data.iter().map(|one| one.bytes).max().unwrap_or(0);
    if workers < 2
        || facts.archive.compressed
        || (total - largest) * WORTH_A_STREAM < total
        || total == 0
    {
        return None;
    }
    let phases = Phases {
        workers: share(data, indexes, workers),
        rest: List(rest),
    };
    let of_workers = phases
        .workers
        .iter()
        .flat_map(|worker| [&worker.data, &worker.indexes]);
    let fits = of_workers
        .chain([&phases.rest])
        .all(|list| list.to_text().len() <= LONGEST_LIST);
    fits.then_some(phases)
}

/// The data of one table, or something like it.
struct Data {
    id: u32,
    bytes: u64,
    table: Option<u32>,
}

/// The table whose index or key this is. A constraint's tag is `table name`, an index names only itself, so
/// that what they depend on tells: an entry with one dependency depends on its table.
fn index_of(entry: &TocEntry) -> Option<u32> {
    match (&*entry.desc, &entry.dependencies[..]) {
        ("INDEX" | "CONSTRAINT", [table]) => Some(*table),
        _ => None,
    }
}

/// Gives each table to whoever has least, largest first, and its indexes with it; data, and the indexes of one
/// table, in the order of the archive.
fn share(data: Vec<Data>, indexes: BTreeMap<u32, Vec<u32>>, workers: usize) -> Vec<Worker> {
    let mut pieces: Vec<(usize, Data)> = data.into_iter().enumerate().collect();
    pieces.sort_by_key(|(_, piece)| std::cmp::Reverse(piece.bytes));
    let mut shares = vec![(0_u64, Vec::new(), Vec::new()); workers];
    let mut owner = BTreeMap::new();
    for (position, piece) in pieces {
        let least = least(&shares);
        let share = &mut shares[least];
        share.0 += piece.bytes.max(1);
        share.1.push((position, piece.id));
        if let Some(table) = piece.table {
            owner.insert(table, least);
        }
    }
    for (table, ids) in indexes {
        let worker = owner.get(&table).copied();
        let worker = worker.unwrap_or_else(|| least(&shares));
        shares[worker].2.extend(ids);
    }
    shares
        .into_iter()
        .map(|(_, mut data, indexes)| {
            data.sort_unstable();
            Worker {
                data: List(data.into_iter().map(|(_, id)| id).collect()),
                indexes: List(indexes),
            }
        })
        .filter(|worker| !worker.data.is_empty() || !worker.indexes.is_empty())
        .collect()
}

/// Which share has least.
fn least<A, B>(shares: &[(u64, A, B)]) -> usize {
    let weights = shares.iter().map(|(weight, ..)| weight).enumerate();
    weights
        .min_by_key(|(_, weight)| **weight)
        .map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::postgres::archive::TableFacts;

    fn entry(
        dump_id: u32,
        desc: &str,
        tag: &str,
        section: Section,
        dependencies: &[u32],
    ) -> TocEntry {
        TocEntry {
            dump_id,
            desc: desc.into(),
            schema: Some("public".into()),
            tag: tag.into(),
            owner: None,
            had_data: desc == "TABLE DATA",
            dependencies: dependencies.into(),
            section,
        }
    }

    fn sample() -> (Vec<TocEntry>, DumpFacts) {
        let entries = vec![
            entry(1, "TABLE", "a", Section::PreData, &[]),
            entry(2, "COMMENT", "TABLE a", Section::None, &[1]),
            entry(3, "TABLE", "b", Section::PreData, &[]),
            entry(10, "TABLE DATA", "a", Section::Data, &[1]),
            entry(11, "TABLE DATA", "b", Section::Data, &[3]),
            entry(12, "TABLE DATA", "c", Section::Data, &[]),
            entry(13, "SEQUENCE SET", "s", Section::Data, &[]),
            entry(20, "CONSTRAINT", "a a_pkey", Section::PostData, &[1]),
            entry(21, "INDEX", "a_x", Section::PostData, &[1]),
            entry(22, "COMMENT", "INDEX a_x", Section::None, &[21]),
            entry(23, "INDEX", "b_x", Section::PostData, &[3]),
            entry(
                24,
                "FK CONSTRAINT",
                "b b_fk",
                Section::PostData,
                &[3, 20, 1],
            ),
            entry(25, "DEFAULT ACL", "x", Section::None, &[]),
        ];
        let mut facts = DumpFacts::default();
        for (name, bytes) in [("a", 100), ("b", 60), ("c", 50)] {
            let table = TableFacts {
                rows: Some(1),
                bytes,
                loaded_through: None,
            };
            facts
                .tables
                .entry("public".into())
                .or_default()
                .insert(name.into(), table);
        }
        (entries, facts)
    }

    #[test]
    fn every_entry_behind_the_definitions_is_on_one_list_in_its_order() {
        let (entries, facts) = sample();
        let phases = phases(&entries, &facts, 2).unwrap();
        let worker = |data: &[u32], indexes: &[u32]| Worker {
            data: List(data.into()),
            indexes: List(indexes.into()),
        };
        assert_eq!(
            phases.workers,
            [worker(&[10, 13], &[20, 21]), worker(&[11, 12], &[23])],
            "indexes follow their tables' data"
        );
        assert_eq!(phases.rest, List(vec![22, 24, 25]));
    }

    #[test]
    fn one_large_table_or_one_worker_is_not_divided() {
        let (entries, mut facts) = sample();
        assert_eq!(phases(&entries, &facts, 1), None);
        for name in ["b", "c"] {
            facts
                .tables
                .get_mut("public")
                .unwrap()
                .get_mut(name)
                .unwrap()
                .bytes = 1;
        }
        assert_eq!(phases(&entries, &facts, 2), None);
        assert_eq!(phases(&[], &DumpFacts::default(), 2), None);
    }
}

//! Restoring one archive with several `pg_restore` at once, though it arrives as a stream.
//!
//! `pg_restore --jobs` wants a file to seek in, and there is none in the container. Several plain ones do as
//! well: the definitions first, then the data of some tables by each, then their indexes, then the rest.
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

/// What follows the definitions. The lists of one phase run side by side, phases one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phases {
    /// Data; these need the whole archive.
    pub data: Vec<List>,
    /// Primary keys, unique constraints and indexes; each list has those of other tables.
    pub indexes: Vec<List>,
    /// Foreign keys, triggers, policies, what is refreshed and what comes last.
    pub rest: List,
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
        (Vec::new(), BTreeMap::<String, Vec<u32>>::new(), Vec::new());
    for entry in entries {
        // Comments and grants have no section of their own: they belong to what they follow
        // (ProcessArchiveRestoreOptions in pg_backup_archiver.c).
        if entry.section != Section::None {
            section = entry.section;
        }
        match section {
            Section::Data => data.push((entry.dump_id, bytes_of(entry))),
            Section::PostData => match index_of(entry) {
                Some(table) => indexes.entry(table).or_default().push(entry.dump_id),
                None => rest.push(entry.dump_id),
            },
            Section::PreData | Section::None => {}
        }
    }
    let total: u64 = data.iter().map(|(_, bytes)| bytes).sum();
    let largest = data.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
    if workers < 2
        || facts.archive.compressed
        || (total - largest) * WORTH_A_STREAM < total
        || total == 0
    {
        return None;
    }
    let indexes = indexes.into_values().map(|ids| (ids.len() as u64, ids));
    let phases = Phases {
        data: share(
            data.into_iter().map(|(id, bytes)| (bytes, vec![id])),
            workers,
        ),
        indexes: share(indexes, workers),
        rest: List(rest),
    };
    let lists = phases
        .data
        .iter()
        .chain(&phases.indexes)
        .chain([&phases.rest]);
    let fits = lists
        .into_iter()
        .all(|list| list.to_text().len() <= LONGEST_LIST);
    fits.then_some(phases)
}

/// The table whose index or key this is. A constraint's tag is `table name`, an index names only itself, so
/// that what they depend on tells: an entry with one dependency depends on its table.
fn index_of(entry: &TocEntry) -> Option<String> {
    match (&*entry.desc, &entry.dependencies[..]) {
        ("INDEX" | "CONSTRAINT", [table]) => Some(table.to_string()),
        _ => None,
    }
}

/// Gives each piece to whoever has least, largest first; each share in the order of the archive.
fn share(pieces: impl Iterator<Item = (u64, Vec<u32>)>, workers: usize) -> Vec<List> {
    let mut pieces: Vec<(usize, (u64, Vec<u32>))> = pieces.enumerate().collect();
    pieces.sort_by_key(|(_, piece)| std::cmp::Reverse(piece.0));
    let mut shares = vec![(0_u64, Vec::new()); workers];
    for (position, (weight, ids)) in pieces {
        if let Some(least) = shares.iter_mut().min_by_key(|(sum, _)| *sum) {
            least.0 += weight.max(1);
            least.1.push((position, ids));
        }
    }
    shares
        .into_iter()
        .map(|(_, mut pieces)| {
            pieces.sort();
            List(pieces.into_iter().flat_map(|(_, ids)| ids).collect())
        })
        .filter(|list| !list.is_empty())
        .collect()
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
        assert_eq!(phases.data, [List(vec![10, 13]), List(vec![11, 12])]);
        assert_eq!(phases.indexes, [List(vec![20, 21]), List(vec![23])]);
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

//! Real archives, whole and broken, and made-up ones that no `pg_dump` would write.
//!
//! `tests/data/archives/sample.sql` made the real ones; `sample.counts.json` holds what the database
//! itself counted.

use super::*;
use crate::error::Kind;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::PathBuf;

const SAMPLES: [&str; 2] = ["postgres-15.dump", "postgres-17.dump"];
const SMALL: [&str; 4] = [
    "postgres-15-file.dump",
    "postgres-15-gzip.dump",
    "postgres-15-inserts.dump",
    "postgres-17-zstd.dump",
];

fn read(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/archives");
    std::fs::read(path.join(name)).unwrap()
}

fn walk<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Archive> {
    let mut inspector = ArchiveInspector::with_entries();
    for piece in pieces {
        inspector.push(piece)?;
    }
    inspector.complete()
}

fn facts(name: &str) -> DumpFacts {
    walk([read(name).as_slice()]).unwrap().facts
}

#[test]
fn facts_are_what_the_database_counted() {
    let counted: Value = serde_json::from_slice(&read("sample.counts.json")).unwrap();
    for sample in SAMPLES {
        let facts = facts(sample);
        let tables: Value = facts
            .tables
            .iter()
            .map(|(schema, tables)| {
                let rows: Value = tables
                    .iter()
                    .map(|(name, table)| (name.clone(), json!(table.rows)))
                    .collect();
                (schema.clone(), rows)
            })
            .collect();
        assert_eq!(tables, counted["tables"], "{sample}");
        assert_eq!(json!(facts.sequences), counted["sequences"], "{sample}");
        assert_eq!(json!(facts.large_objects), counted["large_objects"]);
        assert_eq!(json!(facts.extensions), counted["extensions"], "{sample}");
        assert_eq!(
            json!(facts.materialized_views),
            counted["materialized_views"]
        );
        assert_eq!(facts.encoding.as_deref(), Some("UTF8"));
        assert_eq!(facts.archive.database, "sample");
        assert!(!facts.archive.compressed);
        assert_eq!(facts.rows(), 67);
    }
}

#[test]
fn headers_are_read() {
    let old = facts("postgres-15.dump").archive;
    assert_eq!(old.format, "1.14-0");
    assert_eq!(old.created, "2026-11-23T02:50:08");
    assert_eq!(old.server_version, "15.20 (Debian 15.20-0+deb12u1)");
    assert_eq!(old.pg_dump_version, "15.20 (Debian 15.20-0+deb12u1)");
    let new = facts("postgres-17.dump").archive;
    assert_eq!(new.format, "1.16-0");
    assert_eq!(new.server_version, "17.11 (Debian 17.11-0+deb13u1)");
}

#[test]
fn a_partition_by_enum_is_loaded_through_its_root() {
    for sample in SAMPLES {
        let facts = facts(sample);
        let root = |name| {
            facts
                .table("public", name)
                .unwrap()
                .loaded_through
                .as_deref()
        };
        assert_eq!(root("by_mood_0"), Some("public.by_mood"));
        assert_eq!(root("by_mood_1"), Some("public.by_mood"));
        assert_eq!(root("events_a"), None);
        assert_eq!(facts.table("public", "events"), None);
    }
}

#[test]
fn entries_are_those_that_pg_restore_lists() {
    for (sample, total, kept) in [("postgres-15.dump", 72, 68), ("postgres-17.dump", 70, 69)] {
        let archive = walk([read(sample).as_slice()]).unwrap();
        assert_eq!(
            archive.facts.entries.values().sum::<u64>(),
            total,
            "{sample}"
        );
        assert_eq!(archive.entries.len(), kept, "{sample}");
        let find = |desc: &str, tag: &str| {
            archive
                .entries
                .iter()
                .find(|entry| &*entry.desc == desc && &*entry.tag == tag)
                .unwrap()
        };
        let table = find("TABLE", "texts");
        let data = find("TABLE DATA", "texts");
        assert_eq!(data.section, Section::Data);
        assert!(data.had_data && !table.had_data);
        assert_eq!(*data.dependencies, [table.dump_id]);
        assert_eq!(data.schema.as_deref(), Some("public"));
        assert_eq!(data.owner.as_deref(), Some("postgres"));
        assert_eq!(find("TRIGGER", "texts t").section, Section::PostData);
        assert_eq!(find("COMMENT", "TABLE texts").section, Section::None);
    }
}

#[test]
fn compressed_data_and_inserts_are_not_walked() {
    for (name, compressed) in [
        ("postgres-15-gzip.dump", true),
        ("postgres-17-zstd.dump", true),
        ("postgres-15-inserts.dump", false),
    ] {
        let facts = facts(name);
        assert_eq!(facts.archive.compressed, compressed, "{name}");
        let table = facts.table("public", "texts").unwrap();
        assert_eq!(table.rows, None, "{name}");
        assert!(table.bytes > 0, "{name}");
    }
}

#[test]
fn a_file_tells_where_its_data_are() {
    let mut bytes = read("postgres-15-file.dump");
    let archive = walk([bytes.as_slice()]).unwrap();
    assert_eq!(
        archive.facts.table("public", "texts").unwrap().rows,
        Some(8)
    );
    // Where `texts` is said to begin: the only offset that is that of its block.
    let block = {
        let id = archive
            .entries
            .iter()
            .find(|entry| &*entry.desc == "TABLE DATA" && &*entry.tag == "texts")
            .unwrap()
            .dump_id;
        let mut head = vec![1, 0];
        head.extend(id.to_le_bytes());
        bytes.windows(6).rposition(|window| window == head).unwrap()
    };
    let mut told = vec![2];
    told.extend((block as u64).to_le_bytes());
    let place = bytes.windows(9).position(|window| window == told).unwrap();
    bytes[place + 1] ^= 1;
    let error = walk([bytes.as_slice()]).unwrap_err();
    assert!(error.to_string().contains("should be at"), "{error}");
}

#[test]
fn every_truncation_is_noticed() {
    for name in SAMPLES.iter().chain(&SMALL) {
        let bytes = read(name);
        for length in 0..bytes.len() {
            let error = walk([&bytes[..length]]).expect_err(name);
            assert_eq!(error.kind(), Kind::Damaged, "{name} cut to {length}");
        }
        walk([bytes.as_slice()]).unwrap();
    }
}

#[test]
fn nothing_may_follow_the_last_block() {
    for name in SAMPLES.iter().chain(&SMALL) {
        let mut bytes = read(name);
        bytes.push(0);
        let error = walk([bytes.as_slice()]).unwrap_err();
        assert!(error.to_string().contains("behind the last"), "{error}");
        bytes.pop();
        bytes.extend(read(name));
        assert!(walk([bytes.as_slice()]).is_err());
    }
}

#[test]
fn fixed_pieces_give_the_same_as_the_whole() {
    for name in SAMPLES.iter().chain(&SMALL) {
        let bytes = read(name);
        let whole = walk([bytes.as_slice()]).unwrap();
        for size in [1, 2, 3, 7, 4096] {
            assert_eq!(walk(bytes.chunks(size)).unwrap(), whole, "{name} by {size}");
        }
    }
}

#[test]
fn an_inspector_that_failed_stays_failed() {
    let mut inspector = ArchiveInspector::new();
    assert!(inspector.push(b"PLAIN").is_err());
    assert!(inspector.complete().is_err());
    // Even where what follows the damage would be a proper rest.
    let mut archive = Draft::new(14);
    archive.table("t");
    let (head, block) = (archive.head(), Draft::block(1, b"1\n\\.\n\n\n"));
    let mut inspector = ArchiveInspector::new();
    inspector.push(&head).unwrap();
    assert!(inspector.push(&[9]).is_err());
    assert!(inspector.push(&block).is_err());
    assert!(inspector.complete().is_err());
}

#[test]
fn facts_survive_json() {
    let facts = facts("postgres-17.dump");
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<DumpFacts>(&text).unwrap(), facts);
    let mut inspector = Box::new(ArchiveInspector::new());
    inspector.feed(&read("postgres-17.dump")).unwrap();
    let inspection = inspector.finish().unwrap();
    assert_eq!(inspection.facts, json!(facts));
    assert_eq!(inspection.raw_size, read("postgres-17.dump").len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_pieces_give_the_same_as_the_whole(
        sizes in prop::collection::vec(1_usize..600, 1..80),
        sample in 0..SAMPLES.len(),
    ) {
        let bytes = read(SAMPLES[sample]);
        let mut rest = bytes.as_slice();
        let mut pieces = Vec::new();
        for size in sizes.iter().cycle() {
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(walk(pieces).unwrap(), walk([bytes.as_slice()]).unwrap());
    }

    // With -Z0 nothing in the archive notices every flipped bit, so the verdict may be either. What
    // is asked is an end, without a panic, and no more memory than the bytes themselves justify.
    #[test]
    fn a_changed_byte_is_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        sample in 0..SAMPLES.len(),
    ) {
        let mut bytes = read(SAMPLES[sample]);
        for (index, byte) in changes {
            let place = index.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(archive) = walk(bytes.chunks(1000)) {
            prop_assert_eq!(archive.raw_size, bytes.len() as u64);
        }
    }

    #[test]
    fn noise_is_survived(mut noise in prop::collection::vec(any::<u8>(), 0..2000), minor in 14_u8..=16) {
        let mut bytes = Draft::new(minor).header();
        bytes.append(&mut noise);
        let _ = walk([bytes.as_slice()]);
    }
}

#[test]
fn every_version_is_read_to_its_end() {
    for minor in 14..=16 {
        let mut archive = Draft::new(minor);
        archive.table("t");
        let bytes = [archive.head(), Draft::block(1, b"1\n2\n\\.\n\n\n")].concat();
        let facts = walk([bytes.as_slice()]).unwrap().facts;
        assert_eq!(facts.table("s", "t").unwrap().rows, Some(2));
        assert_eq!(facts.table("s", "t").unwrap().bytes, 9);
    }
    for minor in [13, 17] {
        let error = walk([Draft::new(minor).head().as_slice()]).unwrap_err();
        assert!(error.to_string().contains("is not known"), "{error}");
    }
}

#[test]
fn a_block_comes_once_and_only_if_announced() {
    let mut archive = Draft::new(16);
    archive.table("t");
    archive.table("u");
    let (head, rows) = (archive.head(), b"1\n\\.\n\n\n");
    let blocks = |ids: &[u32]| {
        let mut bytes = head.clone();
        for id in ids {
            bytes.extend(Draft::block(*id, rows));
        }
        walk([bytes.as_slice()])
    };
    assert!(blocks(&[1, 2]).is_ok());
    assert!(blocks(&[2, 1]).is_ok());
    assert!(
        blocks(&[1])
            .unwrap_err()
            .to_string()
            .contains("1 of its data blocks short")
    );
    assert!(blocks(&[1, 1]).is_err());
    assert!(blocks(&[1, 3]).is_err());
    assert!(blocks(&[1, 2, 2]).is_err());
}

#[test]
fn data_without_their_end_are_damage() {
    let mut archive = Draft::new(16);
    archive.table("t");
    for data in [&b""[..], b"1\n", b"1\n\\.\n\n", b"1\\.\n\n\n"] {
        let bytes = [archive.head(), Draft::block(1, data)].concat();
        let error = walk([bytes.as_slice()]).unwrap_err();
        assert!(error.to_string().contains("lack the mark"), "{error}");
    }
}

#[test]
fn a_length_that_lies_takes_no_memory() {
    // A name that claims two gigabytes is refused before they come …
    let mut bytes = Draft::new(16).header();
    bytes.extend(integer(1));
    for value in [1, 0] {
        bytes.extend(integer(value));
    }
    bytes.extend(text(Some(b"0")));
    bytes.extend(text(Some(b"0")));
    bytes.extend(integer(i32::MAX));
    assert!(
        walk([bytes.as_slice()])
            .unwrap_err()
            .to_string()
            .contains("2147483647 bytes")
    );

    // … a count of two thousand million entries is only waited for …
    let mut bytes = Draft::new(16).header();
    bytes.extend(integer(i32::MAX));
    let error = walk([bytes.as_slice()]).unwrap_err();
    assert!(
        error.to_string().contains("2147483647 entries short"),
        "{error}"
    );

    // … and a negative one, or a piece of negative length, is damage.
    let mut bytes = Draft::new(16).header();
    bytes.extend(integer(-1));
    assert!(walk([bytes.as_slice()]).is_err());
    let mut archive = Draft::new(16);
    archive.table("t");
    let mut bytes = archive.head();
    bytes.push(1);
    bytes.extend(integer(1));
    bytes.extend(integer(-5));
    assert!(
        walk([bytes.as_slice()])
            .unwrap_err()
            .to_string()
            .contains("negative length")
    );
}

#[test]
fn a_table_of_contents_is_bounded() {
    let mut archive = Draft::new(16);
    archive.entry("TABLE", &"x".repeat(1 << 20), None);
    let head = archive.header();
    let entry = archive.entries.concat();
    let mut inspector = ArchiveInspector::with_entries();
    inspector.push(&head).unwrap();
    inspector.push(&integer(1_000_000)).unwrap();
    let error = (0..300).find_map(|_| inspector.push(&entry).err()).unwrap();
    assert!(error.to_string().contains("256 MiB"), "{error}");

    // The same within one entry, whose dependencies do not end.
    let mut inspector = ArchiveInspector::new();
    inspector.push(&head).unwrap();
    inspector.push(&integer(1)).unwrap();
    // Without the end of the dependencies and what stands behind it.
    inspector.push(&entry[..entry.len() - 14]).unwrap();
    let dependency = text(Some(format!("{}7", "0".repeat((1 << 20) - 1)).as_bytes()));
    let error = (0..300).find_map(|_| inspector.push(&dependency).err());
    assert!(error.unwrap().to_string().contains("256 MiB"));

    // Entries that nobody keeps are not counted, whatever their number.
    let mut inspector = ArchiveInspector::new();
    inspector.push(&head).unwrap();
    inspector.push(&integer(300)).unwrap();
    for _ in 0..300 {
        inspector.push(&entry).unwrap();
    }
    assert_eq!(inspector.complete().unwrap().facts.entries["TABLE"], 300);
}

#[test]
fn large_objects_are_counted_over_all_blocks() {
    let mut archive = Draft::new(16);
    archive.large_objects();
    archive.large_objects();
    let mut bytes = archive.head();
    for (id, objects) in [(1, 1000), (2, 1500)] {
        bytes.push(3);
        bytes.extend(integer(id));
        for object in 1..=objects {
            // The second half of the numbers are negative as an int.
            bytes.extend(integer(-object));
            bytes.extend(stream(&vec![b'\n'; object.unsigned_abs() as usize % 3]));
        }
        bytes.extend(integer(0));
    }
    let facts = walk(bytes.chunks(11)).unwrap().facts;
    assert_eq!(facts.large_objects.count, 2500);
    assert_eq!(facts.large_objects.bytes, 1000 + 1500);
}

#[test]
fn a_name_that_is_no_utf_8_is_spelled() {
    let mut archive = Draft::new(14);
    archive.entry(
        "ENCODING",
        "ENCODING",
        Some("SET client_encoding = 'LATIN1';\n"),
    );
    archive.table("caf\\");
    let mut bytes = [archive.head(), Draft::block(2, b"\\.\n\n\n")].concat();
    let name = bytes.windows(4).position(|w| w == b"caf\\").unwrap();
    assert!(
        walk([bytes.as_slice()])
            .unwrap()
            .facts
            .table("s", "caf\\\\")
            .is_some()
    );
    bytes[name + 3] = 0xe9;
    assert!(
        walk([bytes.as_slice()])
            .unwrap()
            .facts
            .table("s", "caf\\xe9")
            .is_some()
    );
}

/// An archive made by hand.
struct Draft {
    minor: u8,
    entries: Vec<Vec<u8>>,
}

fn integer(value: i32) -> Vec<u8> {
    let mut bytes = vec![u8::from(value < 0)];
    bytes.extend(value.unsigned_abs().to_le_bytes());
    bytes
}

fn text(value: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = integer(value.map_or(-1, |value| value.len().try_into().unwrap()));
    bytes.extend(value.unwrap_or_default());
    bytes
}

fn stream(data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in data.chunks(3) {
        bytes.extend(integer(piece.len().try_into().unwrap()));
        bytes.extend(piece);
    }
    bytes.extend(integer(0));
    bytes
}

impl Draft {
    fn new(minor: u8) -> Self {
        Self {
            minor,
            entries: Vec::new(),
        }
    }

    fn header(&self) -> Vec<u8> {
        let mut bytes = b"PGDMP".to_vec();
        bytes.extend([1, self.minor, 0, 4, 8, 1]);
        if self.minor >= 15 {
            bytes.push(0);
        } else {
            bytes.extend(integer(0));
        }
        for value in [0, 0, 2, 22, 10, 126, 0] {
            bytes.extend(integer(value));
        }
        for value in ["db", "16.1", "16.1"] {
            bytes.extend(text(Some(value.as_bytes())));
        }
        bytes
    }

    fn head(&self) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.extend(integer(self.entries.len().try_into().unwrap()));
        bytes.extend(self.entries.concat());
        bytes
    }

    fn table(&mut self, name: &str) {
        self.add("TABLE DATA", name, None, true);
    }

    fn large_objects(&mut self) {
        self.add("BLOBS", "BLOBS", None, true);
    }

    fn entry(&mut self, desc: &str, tag: &str, definition: Option<&str>) {
        self.add(desc, tag, definition, false);
    }

    fn add(&mut self, desc: &str, tag: &str, definition: Option<&str>, has_data: bool) {
        let id = self.entries.len() + 1;
        let mut bytes = integer(id.try_into().unwrap());
        bytes.extend(integer(i32::from(has_data)));
        for value in ["0", "0", tag, desc] {
            bytes.extend(text(Some(value.as_bytes())));
        }
        bytes.extend(integer(3));
        bytes.extend(text(definition.map(str::as_bytes)));
        bytes.extend(text(None));
        bytes.extend(text(has_data.then_some(b"COPY")));
        for value in [Some("s"), None, None] {
            bytes.extend(text(value.map(str::as_bytes)));
        }
        if self.minor >= 16 {
            bytes.extend(integer(114));
        }
        bytes.extend(text(Some(b"o")));
        bytes.extend(text(Some(b"false")));
        if has_data {
            bytes.extend(text(Some(b"7")));
        }
        bytes.extend(text(None));
        bytes.push(if has_data { 1 } else { 3 });
        bytes.extend([0; 8]);
        self.entries.push(bytes);
    }

    fn block(id: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![1];
        bytes.extend(integer(id.try_into().unwrap()));
        bytes.extend(stream(data));
        bytes
    }
}

//! Every kind of record is followed, whatever the cuts, and every damage is noticed.

use super::generator::{Key, Writer, numbers};
use super::*;
use crate::error::Kind;
use bytes::Bytes;
use proptest::prelude::*;
use std::path::PathBuf;

fn read(bytes: &[u8], size: usize) -> Result<Snapshot> {
    let mut inspector = RdbInspector::new();
    for piece in bytes.chunks(size.max(1)) {
        inspector.push(piece)?;
    }
    inspector.complete()
}

fn facts(bytes: &[u8]) -> RdbFacts {
    read(bytes, usize::MAX).unwrap().facts
}

/// It is damage, and it says so in the same words whatever the cuts.
fn assert_damaged(bytes: &[u8], what: &str) {
    let whole = read(bytes, usize::MAX).expect_err(what);
    assert_eq!(whole.kind(), Kind::Damaged, "{what}");
    assert!(whole.to_string().contains("byte"), "{what}: {whole}");
    let cut = read(bytes, 1).expect_err(what);
    assert_eq!(cut.to_string(), whole.to_string(), "{what}");
}

/// One key of every type that there is.
fn every_type(flavour: Flavour, version: u32, checksum: bool) -> (Vec<u8>, RdbFacts) {
    let keys: Vec<Key> = numbers(flavour, version)
        .into_iter()
        .map(|number| Key {
            number,
            database: u32::from(number) / 8,
            expires: number % 3 == 0,
            seed: 0x9e37_79b9_7f4a_7c15 ^ u64::from(number) << 7,
        })
        .collect();
    Writer::filled(flavour, version, &keys).finish(checksum)
}

fn formats() -> impl Strategy<Value = (Flavour, u32)> {
    prop_oneof![
        (1_u32..=NEWEST_REDIS).prop_map(|version| (Flavour::Redis, version)),
        Just((Flavour::Valkey, KNOWN_VALKEY)),
    ]
}

fn keys() -> impl Strategy<Value = (Flavour, u32, Vec<Key>)> {
    formats().prop_flat_map(|(flavour, version)| {
        let key = (
            proptest::sample::select(numbers(flavour, version)),
            prop_oneof![0_u32..3, any::<u32>()],
            any::<bool>(),
            any::<u64>(),
        )
            .prop_map(|(number, database, expires, seed)| Key {
                number,
                database,
                expires,
                seed,
            });
        (
            Just(flavour),
            Just(version),
            proptest::collection::vec(key, 0..30),
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn finds_what_was_written(
        (flavour, version, keys) in keys(),
        checksum: bool,
        sizes in proptest::collection::vec(1_usize..40, 1..6),
    ) {
        let (bytes, expected) = Writer::filled(flavour, version, &keys).finish(checksum);
        prop_assert_eq!(&facts(&bytes), &expected);
        let mut inspector = RdbInspector::new();
        let mut rest = &*bytes;
        for size in sizes.iter().cycle() {
            let (piece, behind) = rest.split_at((*size).min(rest.len()));
            inspector.push(piece).unwrap();
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        let snapshot = inspector.complete().unwrap();
        prop_assert_eq!(snapshot.raw_size, bytes.len() as u64);
        prop_assert_eq!(snapshot.facts, expected);
    }

    #[test]
    fn takes_any_bytes_the_same_way_however_they_are_cut(
        (flavour, version, keys) in keys(),
        flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..5),
        size in 1_usize..30,
    ) {
        let (mut bytes, _) = Writer::filled(flavour, version, &keys).finish(true);
        for (at, byte) in flips {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let text = |result: Result<Snapshot>| result.map_err(|error| error.to_string());
        prop_assert_eq!(text(read(&bytes, size)), text(read(&bytes, usize::MAX)));
    }
}

#[test]
fn notices_every_flipped_byte() {
    for (flavour, version) in [(Flavour::Redis, 14), (Flavour::Valkey, 80)] {
        let (mut bytes, _) = every_type(flavour, version, true);
        for at in 0..bytes.len() {
            for flip in [1 << (at % 8), 0xff] {
                bytes[at] ^= flip;
                let result = read(&bytes, 1 << 20);
                assert!(result.is_err(), "byte {at} ^ {flip:#x} of {flavour:?}");
                bytes[at] ^= flip;
            }
        }
    }
}

#[test]
fn notices_every_missing_end_and_every_byte_too_many() {
    for (flavour, version, checksum) in [
        (Flavour::Redis, 14, true),
        (Flavour::Redis, 14, false),
        (Flavour::Redis, 4, false),
        (Flavour::Valkey, 80, true),
    ] {
        let (mut bytes, expected) = every_type(flavour, version, checksum);
        assert_eq!(facts(&bytes), expected);
        for end in 0..bytes.len() {
            let cut = read(&bytes[..end], 1 << 20).map_err(|error| error.to_string());
            let message = cut.expect_err("a piece of a snapshot");
            assert!(message.contains(&format!("after {end} bytes")), "{message}");
        }
        let size = bytes.len();
        bytes.push(0);
        assert_damaged(&bytes, "a byte too many");
        let error = read(&bytes, 3).unwrap_err().to_string();
        assert!(error.contains(&format!("at byte {size}: ")), "{error}");
    }
}

#[test]
fn says_what_it_does_not_know_and_still_sums() {
    let unknown: [(Flavour, u32, &[u8], &str); 8] = [
        (Flavour::Redis, 15, b"", "version REDIS0015"),
        (Flavour::Valkey, 81, b"", "version VALKEY081"),
        (Flavour::Redis, 14, &[33, 1, 7], "byte 9 is of type 33"),
        (Flavour::Redis, 11, &[22, 1, 7], "byte 9 is of type 22"),
        (Flavour::Valkey, 80, &[24, 1, 7], "byte 9 is of type 24"),
        (Flavour::Redis, 9, &[6, 1, 7], "byte 9 is of type 6"),
        (Flavour::Redis, 10, &[0xf6, 1, 7], "byte 9 is of type 246"),
        (
            Flavour::Redis,
            11,
            &[7, 1, 7, 0, 6, 1],
            "before byte 14, the value of a module has a part of kind 6",
        ),
    ];
    for (flavour, version, record, reason) in unknown {
        for checksum in [false, true] {
            let mut writer = Writer::new(flavour, version);
            writer.bytes.extend(record);
            let (mut bytes, _) = writer.finish(checksum);
            for size in [1, 7, 1 << 20] {
                let found = read(&bytes, size).unwrap().facts;
                assert!(!found.walked);
                let not_walked = found.not_walked.unwrap();
                assert!(not_walked.contains(reason), "{not_walked}");
                assert_eq!(found.checksum == Checksum::Verified, checksum);
            }
            assert_damaged(&bytes[..bytes.len() - 1], reason);
            assert_damaged(&[&*bytes, b"\0"].concat(), reason);
            let end = bytes.len() - 9;
            bytes[end] = 0;
            assert_damaged(&bytes, reason);
        }
    }
}

#[test]
fn counts_up_to_what_it_does_not_know() {
    let (bytes, mut expected) = {
        let mut writer = Writer::new(Flavour::Redis, 11);
        writer.key(&Key {
            number: 0,
            database: 3,
            expires: true,
            seed: 5,
        });
        writer.bytes.push(33);
        writer.finish(true)
    };
    let found = facts(&bytes);
    assert_eq!(
        found.databases[&3],
        Keys {
            keys: 1,
            expiring: 1
        }
    );
    expected.walked = false;
    expected.not_walked.clone_from(&found.not_walked);
    assert_eq!(found, expected);
}

#[test]
fn a_length_is_never_room() {
    for length in [1_u64 << 63, u64::MAX] {
        // A string, a list, a stream's groups, a compressed string, a database.
        let heads: [&[u8]; 5] = [
            &[0],
            &[1, 1, 7],
            &[15, 1, 7, 0, 0, 0, 0],
            &[0, 1, 7, 0xc3],
            &[0xfa],
        ];
        for head in heads {
            let mut writer = Writer::new(Flavour::Redis, 11);
            writer.bytes.extend(head);
            writer.bytes.push(0x81);
            writer.bytes.extend(length.to_be_bytes());
            writer.bytes.extend([1; 4000]);
            let (bytes, _) = writer.finish(true);
            assert_damaged(&bytes, "a hostile length");
        }
    }
}

#[test]
fn says_where_a_record_makes_no_sense() {
    let damages: [(&[u8], u64); 6] = [
        (&[0, 1, 7, 0xc4, 9], 12),
        (&[0, 0x82], 10),
        (&[0, 1, 7, 0xbf], 12),
        (&[0xfe, 0xc0], 10),
        (&[18, 1, 7, 1, 3, 0], 14),
        (&[0xfe, 0x81, 0, 0, 0, 1, 0, 0, 0, 0], 19),
    ];
    for (record, at) in damages {
        let mut writer = Writer::new(Flavour::Redis, 11);
        writer.bytes.extend(record);
        let (bytes, _) = writer.finish(true);
        assert_damaged(&bytes, "nonsense");
        let error = read(&bytes, 1).unwrap_err().to_string();
        assert!(error.contains(&format!("at byte {at}: ")), "{error}");
    }
    for magic in ["RADIS0011", "REDIS00x1", "VALKEY08", "VALKEY-80", ""] {
        assert_damaged(format!("{magic}\u{7f}").as_bytes(), magic);
    }
}

#[test]
fn prefers_what_valkey_says_of_itself() {
    let mut writer = Writer::new(Flavour::Redis, 11);
    writer.aux("redis-ver", "7.2.4");
    writer.aux("valkey-ver", "8.1.3");
    writer.aux("redis-ver", "7.2.4");
    writer.aux("valkey-ver", "8.1\u{1b}[2J");
    let found = facts(&writer.finish(true).0);
    assert_eq!(found.format, Flavour::Redis);
    assert_eq!(found.server, Some(Flavour::Valkey));
    assert_eq!(found.server_version.as_deref(), Some("8.1.3"));
}

#[test]
fn is_an_inspector_with_facts_that_can_be_read_back() {
    let (bytes, expected) = every_type(Flavour::Redis, 12, true);
    let mut inspector: Box<dyn Inspector> = Box::new(RdbInspector::default());
    inspector.feed(&bytes).unwrap();
    let inspection = inspector.finish().unwrap();
    assert_eq!(inspection.raw_size, bytes.len() as u64);
    assert_eq!(inspection.facts["format"], "redis");
    assert_eq!(inspection.facts["checksum"], "verified");
    assert_eq!(inspection.facts["databases"]["0"]["keys"], 7);
    let read_back: RdbFacts = serde_json::from_value(inspection.facts).unwrap();
    assert_eq!(read_back, expected);
    let mut failed = RdbInspector::new();
    assert!(failed.push(b"PGDMP....").is_err());
    assert!(failed.push(b"").is_err());
    assert!(failed.complete().is_err());
}

/// What a real server wrote; `tests/data/snapshots/sample` filled it.
fn real(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/snapshots");
    std::fs::read(path.join(name)).unwrap()
}

#[test]
fn follows_what_real_servers_wrote() {
    let servers = [
        ("redis-7.0.rdb", Flavour::Redis, 10, "7.0.15", 16),
        ("redis-8.2.rdb", Flavour::Redis, 12, "8.2.3", 18),
        ("valkey-9.1.rdb", Flavour::Valkey, 80, "9.1.2", 18),
    ];
    for (name, flavour, version, server, keys) in servers {
        let bytes = real(name);
        let expected = RdbFacts {
            format: flavour,
            rdb_version: version,
            server: Some(flavour),
            server_version: Some(server.to_owned()),
            databases: BTreeMap::from([
                (0, Keys { keys, expiring: 1 }),
                (
                    3,
                    Keys {
                        keys: 2,
                        expiring: 1,
                    },
                ),
            ]),
            functions: 1,
            checksum: Checksum::Verified,
            walked: true,
            not_walked: None,
            modules: BTreeSet::new(),
        };
        for size in [1, 13, usize::MAX] {
            assert_eq!(read(&bytes, size).unwrap().facts, expected, "{name}");
        }
    }
    let module = facts(&real("redis-8.2-module.rdb"));
    assert!(module.walked);
    assert_eq!(module.modules, BTreeSet::from(["graphdata".to_owned()]));
}

#[test]
fn a_mark_is_no_part_of_a_snapshot() {
    let stream = Bytes::from(real("redis-7.0.marked"));
    assert_damaged(&stream, "the mark");
    let mut stripper = MarkStripper::new();
    let mut inspector = RdbInspector::new();
    for piece in stripper.push(stream) {
        inspector.push(&piece).unwrap();
    }
    assert!(stripper.finish().is_empty(), "forty digits were held back");
    assert_eq!(inspector.complete().unwrap().facts.databases[&0].keys, 16);
}

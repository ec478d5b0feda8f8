//! Writes snapshots of every kind of record, and what is to be found in them.

use super::{Checksum, Flavour, Keys, RdbFacts};
use crc::{CRC_64_REDIS, Crc};
use std::collections::{BTreeMap, BTreeSet};

/// Repeatable randomness: xorshift.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// One key that is to be written.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) number: u8,
    pub(super) database: u32,
    pub(super) expires: bool,
    pub(super) seed: u64,
}

/// The types that a version of a format has.
pub(super) fn numbers(flavour: Flavour, version: u32) -> Vec<u8> {
    let newest = match (flavour, version) {
        (Flavour::Valkey, _) => 22,
        (Flavour::Redis, ..12) => 21,
        (Flavour::Redis, _) => 27,
    };
    (0..=newest)
        .filter(|number| ![6, 8].contains(number))
        .collect()
}

/// A snapshot that grows.
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    pub(super) facts: RdbFacts,
    dice: Dice,
    database: u32,
}

impl Writer {
    pub(super) fn new(flavour: Flavour, version: u32) -> Self {
        let magic = match flavour {
            Flavour::Redis => format!("REDIS{version:04}"),
            Flavour::Valkey => format!("VALKEY{version:03}"),
        };
        Self {
            bytes: magic.into_bytes(),
            facts: RdbFacts {
                format: flavour,
                rdb_version: version,
                server: None,
                server_version: None,
                databases: BTreeMap::new(),
                functions: 0,
                checksum: Checksum::Unchecked,
                walked: true,
                not_walked: None,
                modules: BTreeSet::new(),
            },
            dice: Dice::new(7),
            database: 0,
        }
    }

    /// A snapshot with all that is no key, then `keys`.
    pub(super) fn filled(flavour: Flavour, version: u32, keys: &[Key]) -> Self {
        let mut writer = Self::new(flavour, version);
        let name = match flavour {
            Flavour::Redis => "redis-ver",
            Flavour::Valkey => "valkey-ver",
        };
        writer.aux(name, "7.4.1");
        writer.facts.server = Some(flavour);
        writer.facts.server_version = Some("7.4.1".to_owned());
        writer.bytes.extend([0xfa, 10]);
        writer.bytes.extend(b"redis-bits\xc0\x40");
        writer.aux("other", &"x".repeat(300));
        writer.bytes.extend([0xf5, 5]);
        writer.bytes.extend(b"#!lua");
        writer.facts.functions = 1;
        // A module's data: SearchIdx, before the keys (2), a string.
        writer.bytes.extend([0xf7, 0x81]);
        writer
            .bytes
            .extend((module_id("ft_index0") | 1).to_be_bytes());
        writer.facts.modules.insert("ft_index0".to_owned());
        writer.bytes.extend([2, 2, 5]);
        writer.text();
        writer.bytes.push(0);
        for key in keys {
            writer.key(key);
        }
        writer
    }

    pub(super) fn aux(&mut self, name: &str, value: &str) {
        self.bytes.push(0xfa);
        for text in [name, value] {
            self.number(text.len() as u64);
            self.bytes.extend(text.bytes());
        }
    }

    pub(super) fn key(&mut self, key: &Key) {
        self.dice = Dice::new(key.seed);
        if key.database != self.database {
            self.bytes.push(0xfe);
            self.number(u64::from(key.database));
            self.bytes.push(0xfb);
            self.number(9);
            self.number(0);
            self.database = key.database;
        }
        match self.dice.below(6) {
            0 => self.bytes.extend([0xf9, 255]),
            1 => self.bytes.extend([0xf8, 0x7f, 0xff]),
            2 => self.bytes.extend([0xf4, 1, 2, 3]),
            3 if self.facts.format == Flavour::Valkey => {
                self.bytes
                    .extend([0xf3, 3, 0xff, 0xff, 0xff, 1, 0, 0x7f, 0xff]);
            }
            3 if self.facts.rdb_version >= 12 => {
                // One class, its four bytes, an unsigned number, a string, the end.
                self.bytes.extend([0xf3, 1, 0xff, 0, 0, 0xff, 2, 0x20, 5]);
                self.text();
                self.bytes.push(0);
            }
            _ => {}
        }
        if key.expires {
            match self.dice.below(2) {
                0 => self.raw(0xfc, 8),
                _ => self.raw(0xfd, 4),
            }
        }
        let keys: &mut Keys = self.facts.databases.entry(key.database).or_default();
        keys.keys += 1;
        keys.expiring += u64::from(key.expires);
        self.bytes.push(key.number);
        self.text();
        self.value(key.number);
    }

    /// The end; the checksum is zero unless it is wanted.
    pub(super) fn finish(mut self, checksum: bool) -> (Vec<u8>, RdbFacts) {
        self.bytes.push(0xff);
        if self.facts.rdb_version >= 5 {
            let sum = match checksum {
                true => Crc::<u64>::new(&CRC_64_REDIS).checksum(&self.bytes),
                false => 0,
            };
            if checksum {
                self.facts.checksum = Checksum::Verified;
            }
            self.bytes.extend(sum.to_le_bytes());
        }
        (self.bytes, self.facts)
    }

    fn raw(&mut self, first: u8, size: usize) {
        self.bytes.push(first);
        self.filler(size);
    }

    /// Bytes that would be records, were they read as such.
    fn filler(&mut self, size: usize) {
        for _ in 0..size {
            let byte = match self.dice.below(3) {
                0 => 0xff,
                1 => 0x81,
                _ => 0,
            };
            self.bytes.push(byte);
        }
    }

    /// A number in one of the encodings that can hold it.
    pub(super) fn number(&mut self, number: u64) {
        let widest = match number {
            0..0x40 => 4,
            0x40..0x4000 => 3,
            0x4000..0x1_0000_0000 => 2,
            _ => 1,
        };
        match widest - self.dice.below(widest) {
            4 => self.bytes.extend(number.to_be_bytes().last()),
            3 => {
                let bytes = u16::try_from(number).unwrap() | 0x4000;
                self.bytes.extend(bytes.to_be_bytes());
            }
            2 => {
                self.bytes.push(0x80);
                self.bytes
                    .extend(u32::try_from(number).unwrap().to_be_bytes());
            }
            _ => {
                self.bytes.push(0x81);
                self.bytes.extend(number.to_be_bytes());
            }
        }
    }

    /// A string in any of its encodings.
    fn text(&mut self) {
        match self.dice.below(12) {
            0 => self.raw(0xc0, 1),
            1 => self.raw(0xc1, 2),
            2 => self.raw(0xc2, 4),
            3 => {
                let size = self.dice.below(80);
                self.bytes.push(0xc3);
                self.number(size);
                self.number(size * 3);
                self.filler(usize::try_from(size).unwrap());
            }
            kind => {
                let most = if kind == 4 { 400 } else { 12 };
                let size = self.dice.below(most);
                self.number(size);
                self.filler(usize::try_from(size).unwrap());
            }
        }
    }

    /// A count, and as often what `part` writes.
    fn many(&mut self, part: impl Fn(&mut Self)) {
        let count = self.dice.below(4);
        self.number(count);
        for _ in 0..count {
            part(self);
        }
    }

    fn value(&mut self, number: u8) {
        match number {
            1 | 2 | 14 => self.many(Self::text),
            3 => self.many(|writer| {
                writer.text();
                match writer.dice.below(4) {
                    0 => writer.bytes.push(253),
                    1 => writer.bytes.push(254),
                    2 => writer.bytes.push(255),
                    _ => writer.bytes.extend(b"\x04-1.5"),
                }
            }),
            4 => self.many(|writer| {
                writer.text();
                writer.text();
            }),
            5 => self.many(|writer| {
                writer.text();
                writer.filler(8);
            }),
            7 => self.module(),
            18 => self.many(|writer| {
                let container = 1 + writer.dice.below(2);
                writer.number(container);
                writer.text();
            }),
            15 => self.stream(1),
            19 => self.stream(2),
            21 => self.stream(3),
            22 if self.facts.format == Flavour::Valkey => self.many(|writer| {
                writer.text();
                writer.text();
                writer.filler(8);
            }),
            22 | 24 => {
                if number == 24 {
                    self.filler(8);
                }
                self.many(|writer| {
                    writer.number(1 << 40);
                    writer.text();
                    writer.text();
                });
            }
            25 => {
                self.filler(8);
                self.text();
            }
            26 => self.stream(4),
            27 => self.stream(5),
            _ => self.text(),
        }
    }

    fn module(&mut self) {
        self.bytes.push(0x81);
        self.bytes
            .extend((module_id("ReJSON-RL") | 3).to_be_bytes());
        self.facts.modules.insert("ReJSON-RL".to_owned());
        for _ in 0..self.dice.below(6) {
            match 1 + self.dice.below(5) {
                3 => self.raw(3, 4),
                4 => self.raw(4, 8),
                5 => {
                    self.bytes.push(5);
                    self.text();
                }
                kind => {
                    self.number(kind);
                    self.number(1 << 33);
                }
            }
        }
        self.bytes.push(0);
    }

    fn stream(&mut self, edition: u8) {
        self.many(|writer| {
            writer.number(16);
            writer.filler(16);
            writer.text();
        });
        for number in 0..3 {
            self.number(number << 20);
        }
        if edition >= 2 {
            for number in 0..5 {
                self.number(number << 30);
            }
        }
        self.many(|writer| writer.group(edition));
        if edition >= 4 {
            self.number(100);
            self.number(100);
            self.many(|writer| {
                writer.text();
                writer.many(|writer| {
                    writer.text();
                    writer.number(1 << 40);
                    writer.number(0);
                });
            });
            self.number(1);
            self.number(0);
        }
    }

    fn group(&mut self, edition: u8) {
        self.text();
        self.number(1 << 41);
        self.number(5);
        if edition >= 2 {
            self.number(u64::MAX);
        }
        self.many(|writer| {
            writer.filler(24);
            writer.number(1);
        });
        self.many(|writer| {
            writer.text();
            writer.filler(if edition >= 3 { 16 } else { 8 });
            writer.many(|writer| writer.filler(16));
        });
        if edition >= 5 {
            self.many(|writer| writer.filler(16));
        }
    }
}

/// The number of a module's type, its version 0.
pub(super) fn module_id(name: &str) -> u64 {
    let characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let id = name.chars().fold(0, |id, character| {
        id << 6 | characters.find(character).unwrap() as u64
    });
    id << 10
}

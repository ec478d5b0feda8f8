//! What follows each first byte of a record, as tables.

use super::Flavour;

/// The newest version of Redis' format that is walked; Redis 8.8 writes it.
pub(super) const NEWEST_REDIS: u32 = 14;
/// The version of Valkey's format that is walked; Valkey 9 writes it.
pub(super) const KNOWN_VALKEY: u32 = 80;
/// From this version on a checksum follows the end.
pub(super) const CHECKSUM_SINCE: u32 = 5;
/// The record that ends a snapshot.
pub(super) const END: u8 = 0xff;
/// The deepest that tables nest, a module's items within them included.
pub(super) const DEPTH: usize = 8;

/// One piece of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A string in any of its encodings.
    Text,
    /// A string that is kept where it is short and plain.
    Kept,
    /// A number, encoded like a length.
    Number,
    /// So many bytes.
    Raw(u8),
    /// A number as text behind one byte of length; three lengths mean infinities and "not a number".
    Score,
    /// A number of repetitions, then the shapes as often.
    Many(&'static [Shape]),
    /// What kind of node of a list follows: 1 or 2.
    Container,
    /// The number of the database that the next keys belong to.
    Database,
    /// The kept string names an auxiliary field. No bytes.
    AuxName,
    /// The kept string is its value. No bytes.
    AuxValue,
    /// A module's name and its version of the value.
    Module,
    /// Values of a module, each with its kind before it, up to a zero.
    Items,
}

use Shape::{
    AuxName, AuxValue, Container, Database, Items, Kept, Many, Module, Number, Raw, Score, Text,
};

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    /// A key's value; its name comes first.
    Key(&'static [Shape]),
    /// When the next key expires.
    Expiry(&'static [Shape]),
    /// A library of functions.
    Function(&'static [Shape]),
    /// Something that counts nothing.
    Other(&'static [Shape]),
    /// The end.
    End,
    /// Something whose length cannot be known.
    Unknown,
}

pub(super) const NAME: &[Shape] = &[Text];

const PENDING: &[Shape] = &[Raw(16), Raw(8), Number];
const OWNED: &[Shape] = &[Raw(16)];
const CONSUMER_1: &[Shape] = &[Text, Raw(8), Many(OWNED)];
const CONSUMER_3: &[Shape] = &[Text, Raw(8), Raw(8), Many(OWNED)];
const GROUP_1: &[Shape] = &[Text, Number, Number, Many(PENDING), Many(CONSUMER_1)];
const GROUP_2: &[Shape] = &[
    Text,
    Number,
    Number,
    Number,
    Many(PENDING),
    Many(CONSUMER_1),
];
const GROUP_3: &[Shape] = &[
    Text,
    Number,
    Number,
    Number,
    Many(PENDING),
    Many(CONSUMER_3),
];
/// With the entries that no consumer owns.
const GROUP_5: &[Shape] = &[
    Text,
    Number,
    Number,
    Number,
    Many(PENDING),
    Many(CONSUMER_3),
    Many(OWNED),
];
const ENTRIES: &[Shape] = &[Text, Text];
const PRODUCER: &[Shape] = &[Text, Many(&[Text, Number, Number])];

/// Listpacks, length, last id; groups.
const STREAM_1: &[Shape] = &[Many(ENTRIES), Number, Number, Number, Many(GROUP_1)];
/// Also first id, greatest deleted id, entries ever added.
const STREAM_2: &[Shape] = &[
    Many(ENTRIES),
    Number,
    Number,
    Number,
    Number,
    Number,
    Number,
    Number,
    Number,
    Many(GROUP_2),
];
const STREAM_3: &[Shape] = &[
    Many(ENTRIES),
    Number,
    Number,
    Number,
    Number,
    Number,
    Number,
    Number,
    Number,
    Many(GROUP_3),
];
/// Also producers: how long and how many ids are remembered, those ids, two counters.
const STREAM_4: &[Shape] = &[
    Many(ENTRIES),
    Number,
    Number,
    Number,
    Number,
    Number,
    Number,
    Number,
    Number,
    Many(GROUP_3),
    Number,
    Number,
    Many(PRODUCER),
    Number,
    Number,
];
const STREAM_5: &[Shape] = &[
    Many(ENTRIES),
    Number,
    Number,
    Number,
    Number,
    Number,
    Number,
    Number,
    Number,
    Many(GROUP_5),
    Number,
    Number,
    Many(PRODUCER),
    Number,
    Number,
];

/// The record that `first` begins.
pub(super) fn record(flavour: Flavour, version: u32, first: u8) -> Record {
    match first {
        0x00..=0x7f => value(flavour, version, first).map_or(Record::Unknown, Record::Key),
        0xff => Record::End,
        0xfe => Record::Other(&[Database]),
        0xfd => Record::Expiry(&[Raw(4)]),
        0xfc => Record::Expiry(&[Raw(8)]),
        // How large the tables will be: hints.
        0xfb => Record::Other(&[Number, Number]),
        0xfa => Record::Other(&[Kept, AuxName, Kept, AuxValue]),
        // How often, and how long not, the next key was used.
        0xf9 => Record::Other(&[Raw(1)]),
        0xf8 => Record::Other(&[Number]),
        // A module's own data: when they are to be loaded comes as one more item.
        0xf7 => Record::Other(&[Module, Number, Number, Items]),
        0xf5 => Record::Function(&[Text]),
        // A slot of a cluster, how many keys are in it, how many of them expire.
        0xf4 => Record::Other(&[Number, Number, Number]),
        0xf3 => match (flavour, version) {
            // A slot that is being imported: the job, ranges of slots.
            (Flavour::Valkey, _) => Record::Other(&[Text, Many(&[Number, Number])]),
            // What modules attach to the next key.
            (Flavour::Redis, 12..) => Record::Other(&[Many(&[Raw(4), Items])]),
            (Flavour::Redis, _) => Record::Unknown,
        },
        // 0xf6: functions as the candidates for 7.0 wrote them; no release reads them.
        _ => Record::Unknown,
    }
}

/// What the value of a key of type `number` is made of.
fn value(flavour: Flavour, version: u32, number: u8) -> Option<&'static [Shape]> {
    Some(match number {
        // Strings; zipmap, ziplists, intset, listpacks, each within one.
        0 | 9..=13 | 16 | 17 | 20 => &[Text],
        // Lists, also as ziplists, and sets.
        1 | 2 | 14 => &[Many(&[Text])],
        3 => &[Many(&[Text, Score])],
        4 => &[Many(&[Text, Text])],
        5 => &[Many(&[Text, Raw(8)])],
        // 6: values of modules as the candidates for 4.0 wrote them, without the kinds.
        7 => &[Module, Items],
        15 => STREAM_1,
        18 => &[Many(&[Container, Text])],
        19 => STREAM_2,
        21 => STREAM_3,
        // After the fork the numbers mean different things.
        22.. => return fork(flavour, version, number),
        _ => return None,
    })
}

fn fork(flavour: Flavour, version: u32, number: u8) -> Option<&'static [Shape]> {
    Some(match (flavour, version, number) {
        // Fields that expire: field, value, when.
        (Flavour::Valkey, _, 22) => &[Many(&[Text, Text, Raw(8)])],
        // Those of Redis: when, field, value; since the release, after the earliest time.
        (Flavour::Redis, 12.., 22) => &[Many(&[Number, Text, Text])],
        (Flavour::Redis, 12.., 23) => &[Text],
        (Flavour::Redis, 12.., 24) => &[Raw(8), Many(&[Number, Text, Text])],
        (Flavour::Redis, 12.., 25) => &[Raw(8), Text],
        (Flavour::Redis, 12.., 26) => STREAM_4,
        (Flavour::Redis, 12.., 27) => STREAM_5,
        _ => return None,
    })
}

/// What the kind of a module's item says is next; `None` for an unknown kind.
pub(super) fn item(kind: u64) -> Option<&'static [Shape]> {
    Some(match kind {
        0 => &[],
        1 | 2 => &[Number],
        3 => &[Raw(4)],
        4 => &[Raw(8)],
        5 => &[Text],
        _ => return None,
    })
}

/// The name within a module's id: nine characters of six bits, and ten bits of version.
pub(super) fn module_name(id: u64) -> String {
    const CHARACTERS: &[u8; 64] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9)
        .rev()
        .map(|place| {
            let index = id >> (10 + 6 * place) & 0x3f;
            char::from(CHARACTERS[usize::try_from(index).unwrap_or_default()])
        })
        .collect()
}

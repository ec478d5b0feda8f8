//! What is known of a snapshot that was found whole.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Which of the two servers: after their fork, numbers of the format mean different things to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavour {
    /// Redis, and Valkey up to 8, which still writes Redis' format.
    Redis,
    /// Valkey.
    Valkey,
}

/// How many keys one database holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// All of its keys, a number.
    pub keys: u64,
    /// Those of them that expire as a whole, a number; some may have expired since.
    pub expiring: u64,
}

/// What the checksum at the end says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksum {
    /// It fits the bytes before it.
    Verified,
    /// There is none: `rdbchecksum no`, or a format older than version 5.
    Unchecked,
}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdbFacts {
    /// Whose format it is, by its first bytes. Valkey up to 8 writes `redis`.
    pub format: Flavour,
    /// The format's version, such as 12; not the server's.
    pub rdb_version: u32,
    /// Who wrote it, where it says so.
    pub server: Option<Flavour>,
    /// The version of the server that wrote it, such as "7.4.1", where it says so.
    pub server_version: Option<String>,
    /// The databases that hold keys, by number. Where `walked` is false, the keys that came before
    /// what is not known: at least so many.
    pub databases: BTreeMap<u32, Keys>,
    /// Libraries of functions, a number; where `walked` is false, at least so many.
    pub functions: u64,
    /// Whether the bytes were compared with a checksum.
    pub checksum: Checksum,
    /// Every record was followed to the end; false where one is not known to lifeboat.
    pub walked: bool,
    /// Why it was not walked to the end, with the byte where that is.
    pub not_walked: Option<String>,
    /// The modules whose values or data are in it, by the nine characters of their types' names; 64
    /// of them at the most.
    pub modules: BTreeSet<String>,
}

//! Which servers read which snapshots: a server that meets a newer RDB version does not start.

use super::rdb::{Flavour, RdbFacts};
use super::server::Survey;
use crate::error::{Error, Result};

/// The newest RDB version that the Redis of each release writes and reads (`RDB_VERSION` in its rdb.h).
const REDIS: [(u32, u32, u32); 8] = [
    (3, 2, 7),
    (4, 0, 8),
    (5, 0, 9),
    (6, 0, 9),
    (7, 0, 10),
    (7, 2, 11),
    (7, 4, 12),
    (8, 0, 12),
];
/// The same of Valkey. From 9.0 its own magic is `VALKEY` and its versions start at 80.
const VALKEY: [(u32, u32, u32); 3] = [(7, 2, 11), (8, 0, 11), (9, 0, 80)];

/// Refuses a snapshot that the server can't read, naming both sides. What is not known here, the server's own
/// check of the staged file finds.
pub fn preflight(service: &str, survey: &Survey, snapshot: &RdbFacts) -> Result<()> {
    let Some(newest) = reads_up_to(survey) else {
        return Ok(());
    };
    let foreign = snapshot.format == Flavour::Valkey && (!survey.valkey || newest < 80);
    if snapshot.rdb_version <= newest && !foreign {
        return Ok(());
    }
    let product = match snapshot.server.unwrap_or(snapshot.format) {
        Flavour::Redis => "Redis",
        Flavour::Valkey => "Valkey",
    };
    let version = snapshot.server_version.as_deref().unwrap_or_default();
    Err(Error::failed(format!(
        "the snapshot is of RDB version {}{}, written by {product} {version}; service {service} runs {} {}, which \
         reads up to version {newest}",
        snapshot.rdb_version,
        if snapshot.format == Flavour::Valkey { " (Valkey's own)" } else { "" },
        survey.product(),
        survey.version,
    ))
    .hint("restore into a server of the same or a newer version"))
}

/// The newest RDB version that a server reads; `None` for releases older or newer than this program knows.
fn reads_up_to(survey: &Survey) -> Option<u32> {
    let (major, minor) = release(&survey.version)?;
    let known: &[(u32, u32, u32)] = if survey.valkey { &VALKEY } else { &REDIS };
    let last = known.last()?;
    if (major, minor) > (last.0, last.1) {
        return None;
    }
    known
        .iter()
        .rev()
        .find(|(known_major, known_minor, _)| (*known_major, *known_minor) <= (major, minor))
        .map(|(_, _, newest)| *newest)
}

/// `(7, 0)` of `7.0.15`.
pub(super) fn release(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

//! Which servers read which snapshots: a server that meets a newer RDB version does not start.

use super::rdb::{Flavour, RdbFacts};
use super::survey::Survey;
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

/// Refuses a snapshot with values of modules where the server has none, naming them: it would not start.
fn check_modules(service: &str, survey: &Survey, snapshot: &RdbFacts) -> Result<()> {
    if snapshot.modules.is_empty() || !survey.modules.is_empty() {
        return Ok(());
    }
    let types: Vec<&str> = snapshot.modules.iter().map(String::as_str).collect();
    Err(Error::failed(format!(
        "the snapshot holds values of modules ({}), and service {service} has loaded no module",
        types.join(", ")
    ))
    .hint("use an image with the modules that the backup's had"))
}

/// Refuses a snapshot that the server can't read, naming both sides. What is not known here, the server's own
/// check of the staged file finds.
pub fn preflight(service: &str, survey: &Survey, snapshot: &RdbFacts) -> Result<()> {
    check_modules(service, survey, snapshot)?;
    let Some(newest) = reads_up_to(survey) else {
        return Ok(());
    };
    // After the fork each reads the other's format only as far as it had come by then: version 11.
    let foreign = match snapshot.format {
        Flavour::Valkey => !survey.valkey,
        Flavour::Redis => survey.valkey && snapshot.rdb_version > 11,
    };
    if snapshot.rdb_version <= newest && !foreign {
        return Ok(());
    }
    let reads = match (foreign, snapshot.format) {
        (true, Flavour::Redis) => "Redis's versions up to 11".to_owned(),
        _ => format!("up to version {newest}"),
    };
    let product = match snapshot.server.unwrap_or(snapshot.format) {
        Flavour::Redis => "Redis",
        Flavour::Valkey => "Valkey",
    };
    let version = snapshot.server_version.as_deref().unwrap_or_default();
    Err(Error::failed(format!(
        "the snapshot is of RDB version {}{}, written by {product} {version}; service {service} runs {} {}, which \
         reads {reads}",
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

#[cfg(test)]
mod tests {
    use super::super::rdb::Checksum;
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn server(valkey: bool, version: &str, modules: &[&str]) -> Survey {
        Survey {
            valkey,
            version: version.to_owned(),
            role: "master".to_owned(),
            mode: "standalone".to_owned(),
            keys: 0,
            sentinels: None,
            modules: modules.iter().map(|name| (*name).to_owned()).collect(),
            layout: Err(String::new()),
            diskless: None,
            diskless_delay: 0,
        }
    }

    fn snapshot(format: Flavour, rdb_version: u32, modules: &[&str]) -> RdbFacts {
        RdbFacts {
            format,
            rdb_version,
            server: None,
            server_version: Some("9.9.9".to_owned()),
            databases: BTreeMap::new(),
            functions: 0,
            checksum: Checksum::Verified,
            walked: true,
            not_walked: None,
            modules: modules
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<BTreeSet<_>>(),
        }
    }

    #[test]
    fn a_newer_snapshot_is_refused_and_an_unknown_server_is_left_to_its_own_check() {
        use Flavour::{Redis, Valkey};
        for (valkey, version, format, rdb, taken) in [
            (false, "7.0.15", Redis, 10, true),
            (false, "7.0.15", Redis, 11, false),
            (false, "7.2.4", Redis, 11, true),
            (false, "8.0.2", Redis, 12, true),
            (false, "8.0.2", Valkey, 80, false),
            (false, "8.8.0", Redis, 14, true),
            (true, "8.1.1", Redis, 11, true),
            (true, "8.1.1", Redis, 12, false),
            (true, "8.1.1", Valkey, 80, false),
            (true, "9.0.0", Valkey, 80, true),
            (true, "9.0.0", Redis, 11, true),
            (true, "9.0.0", Redis, 12, false),
            (false, "2.8.0", Redis, 12, true),
            (false, "", Redis, 12, true),
        ] {
            let here = server(valkey, version, &[]);
            let checked = preflight("cache", &here, &snapshot(format, rdb, &[]));
            assert_eq!(
                checked.is_ok(),
                taken,
                "{version} and {format:?} {rdb}: {checked:?}"
            );
        }
    }

    #[test]
    fn values_of_modules_need_a_module() {
        let facts = snapshot(Flavour::Redis, 10, &["graphdata"]);
        let refused = preflight("cache", &server(false, "7.0.15", &[]), &facts).unwrap_err();
        assert!(refused.to_string().contains("graphdata"), "{refused}");
        assert!(preflight("cache", &server(false, "7.0.15", &["graph"]), &facts).is_ok());
    }
}

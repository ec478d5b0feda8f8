//! The person's own checks: which store each one is for, and what counts as yes.

use crate::error::{Error, Result};
use crate::manifest::Artifact;
use crate::schedule::DrillCheck;
use crate::stack::ArtifactName;

/// The artifact that a check asks.
///
/// # Errors
/// Usage where the backup does not have it, or where the check does not say which of several it means.
pub(super) fn target(
    check: &DrillCheck,
    artifacts: &[Artifact],
    stack: &str,
) -> Result<ArtifactName> {
    let asked = |name: &ArtifactName| match (check, name) {
        (
            DrillCheck::Sql {
                service, database, ..
            },
            ArtifactName::Database {
                service: its_service,
                database: its_name,
            },
        ) => is_or_any(service.as_ref(), its_service) && is_or_any(database.as_ref(), its_name),
        (
            DrillCheck::Redis { service, .. },
            ArtifactName::Redis {
                service: its_service,
            },
        ) => is_or_any(service.as_ref(), its_service),
        (DrillCheck::File { volume, .. }, ArtifactName::Volume { name }) => {
            name == volume || *name == format!("{stack}_{volume}")
        }
        (DrillCheck::File { volume, .. }, ArtifactName::Bind { path }) => {
            volume.strip_prefix("bind:").unwrap_or(volume) == path
        }
        _ => false,
    };
    let names = artifacts.iter().map(|artifact| &artifact.name);
    let mut found: Vec<&ArtifactName> = names.filter(|name| asked(name)).collect();
    let says_nothing = matches!(check, DrillCheck::Sql { database: None, .. });
    if says_nothing && found.len() > 1 {
        // Every cluster has this one, and hardly anybody keeps anything in it.
        found.retain(
            |name| !matches!(name, ArtifactName::Database { database, .. } if database == "postgres"),
        );
    }
    match found[..] {
        [only] => Ok(only.clone()),
        [] => {
            let all: Vec<String> = artifacts.iter().map(|one| one.name.to_string()).collect();
            Err(Error::usage(format!(
                "the backup has nothing that the check \"{check}\" could ask"
            ))
            .hint(format!("it has {}", all.join(", "))))
        }
        _ => {
            let all: Vec<String> = found.iter().map(ToString::to_string).collect();
            Err(Error::usage(format!(
                "the check \"{check}\" may mean {}",
                all.join(" or ")
            ))
            .hint("say which, with service and database beside it"))
        }
    }
}

fn is_or_any(wanted: Option<&String>, name: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == name)
}

/// Whether an answer is a yes: true, or a number other than zero; of Redis, any text that is neither empty nor zero.
pub(super) fn is_yes(check: &DrillCheck, answer: Option<&str>) -> bool {
    let Some(answer) = answer.map(str::trim) else {
        return false;
    };
    let number = answer.parse::<f64>().ok();
    match check {
        DrillCheck::Sql { .. } => {
            matches!(answer, "t" | "true") || number.is_some_and(|n| n != 0.0 && !n.is_nan())
        }
        DrillCheck::Redis { .. } => !answer.is_empty() && number != Some(0.0),
        DrillCheck::File { .. } => answer == "true",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(database: Option<&str>) -> DrillCheck {
        DrillCheck::Sql {
            query: "select 1".to_owned(),
            service: None,
            database: database.map(str::to_owned),
        }
    }

    fn file(volume: &str) -> DrillCheck {
        DrillCheck::File {
            volume: volume.to_owned(),
            path: "a".to_owned(),
        }
    }

    fn redis() -> DrillCheck {
        DrillCheck::Redis {
            command: "EXISTS a".to_owned(),
            service: None,
            database: 0,
        }
    }

    fn artifacts(names: &[&str]) -> Vec<Artifact> {
        names
            .iter()
            .map(|name| Artifact {
                name: name.parse().unwrap(),
                source: crate::stack::SourceKind::Volume,
                container_id: String::new(),
                image: String::new(),
                image_digest: String::new(),
                engine_version: String::new(),
                media_type: String::new(),
                encoding: Vec::new(),
                raw_size: 0,
                stored_size: 0,
                objects: Vec::new(),
                started: chrono::DateTime::UNIX_EPOCH,
                finished: chrono::DateTime::UNIX_EPOCH,
                consistency: crate::manifest::Consistency::Live,
                method: None,
            })
            .collect()
    }

    #[test]
    fn a_check_finds_what_it_asks_or_says_what_there_is() {
        let all = artifacts(&[
            "postgres/db/db/app",
            "postgres/db/db/postgres",
            "redis/cache",
            "volume/shop_files",
            "bind/%2Fsrv",
        ]);
        let found = |check: &DrillCheck| target(check, &all, "shop").map(|name| name.to_string());
        assert_eq!(found(&sql(None)).unwrap(), "postgres/db/db/app");
        assert_eq!(
            found(&sql(Some("postgres"))).unwrap(),
            "postgres/db/db/postgres"
        );
        assert_eq!(found(&redis()).unwrap(), "redis/cache");
        assert_eq!(found(&file("files")).unwrap(), "volume/shop_files");
        assert_eq!(found(&file("shop_files")).unwrap(), "volume/shop_files");
        assert_eq!(found(&file("bind:/srv")).unwrap(), "bind/%2Fsrv");
        for missing in [sql(Some("other")), file("other")] {
            let error = found(&missing).unwrap_err();
            assert_eq!(error.kind().exit_code(), 2);
            assert!(error.hint_text().unwrap().contains("redis/cache"));
        }
        let two = artifacts(&["postgres/db/db/a", "postgres/db/db/b"]);
        let error = target(&sql(None), &two, "shop").unwrap_err();
        assert!(
            error.to_string().contains("postgres/db/db/a or "),
            "{error}"
        );
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        for (check, answer, expected) in [
            (sql(None), Some("t"), true),
            (sql(None), Some("true"), true),
            (sql(None), Some("12"), true),
            (sql(None), Some("-0.5"), true),
            (sql(None), Some("f"), false),
            (sql(None), Some("0"), false),
            (sql(None), Some("0.00"), false),
            (sql(None), Some("NaN"), false),
            (sql(None), Some("some text"), false),
            (sql(None), Some(""), false),
            (sql(None), None, false),
            (redis(), Some("1"), true),
            (redis(), Some("text"), true),
            (redis(), Some("0"), false),
            (redis(), Some(""), false),
            (file("v"), Some("true"), true),
            (file("v"), None, false),
        ] {
            assert_eq!(is_yes(&check, answer), expected, "{check} {answer:?}");
        }
    }
}

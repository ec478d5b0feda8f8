//! Telling a PostgreSQL service by what it is, never by its name alone.

use crate::docker::Engine;
use crate::docker::exec::Command;
use crate::error::Result;
use crate::stack::Service;

/// What the container's own description says: `Some` where it decides the matter.
///
/// The label `lifeboat.source` decides first, `lifeboat.enable=false` takes the container out, then the
/// variables that PostgreSQL images set (`PG_MAJOR`, `PGDATA`).
pub fn might_be_postgres(service: &Service) -> Option<bool> {
    let label = |name: &str| service.labels.get(name).map(String::as_str);
    if label("lifeboat.enable") == Some("false") {
        return Some(false);
    }
    match label("lifeboat.source") {
        Some(source) => Some(source == "postgres"),
        None if service.env.contains_key("PG_MAJOR") || service.env.contains_key("PGDATA") => {
            Some(true)
        }
        None => None,
    }
}

/// Whether `service` is a PostgreSQL server; where its description does not say, and its image's name
/// makes it worth asking, the container is asked whether it has `pg_dump` and a server that answers.
pub async fn is_postgres(engine: &Engine, service: &Service) -> Result<bool> {
    if let Some(decided) = might_be_postgres(service) {
        return Ok(decided);
    }
    let named = |text: &str| {
        text.contains("postgres") || text.contains("pgsql") || text.contains("timescale")
    };
    if !service.running || !(named(&service.image) || named(&service.name)) {
        return Ok(false);
    }
    let ask = Command::new(
        "sh",
        [
            "-c",
            "command -v pg_dump >/dev/null && pg_isready -q -h 127.0.0.1",
        ],
    );
    // An image without a shell is no PostgreSQL server that could be dumped. Where the container may
    // not be asked, though, it may well be a server: its data must not be taken for plain files.
    let asked = engine.succeeds(&service.container_id, &ask).await;
    asked.map_err(|error| {
        error.while_doing(format!(
            "cannot find out whether service {} is a PostgreSQL server",
            service.name
        ))
    })
}

/// Where a server has its data, as far as its container's description tells: folders in the container. Images from
/// 18 on have a folder of their version (docker-library/postgres#1259).
pub fn data_folders(service: &Service) -> Vec<String> {
    match service.env.get("PGDATA") {
        Some(folder) => vec![folder.clone()],
        None => vec!["/var/lib/postgresql/data".to_owned()],
    }
}

//! Databases, snapshots, volumes and folders in a recipe.

use super::words::{command_word, decode, plain, sql_text};
use crate::manifest::{Artifact, Manifest};
use crate::stack::ArtifactName;
use std::fmt::Write as _;

/// What a database is called that gives way to one of the backup.
const BEFORE: &str = "before restore of ";

/// What comes before a cluster's databases: a server that answers, free names, roles.
pub(super) fn cluster(service: &str, manifest: &Manifest) -> String {
    let of_service = || {
        let artifacts = manifest.artifacts.iter();
        artifacts.filter(|artifact| artifact.name.service() == Some(service))
    };
    let names: Vec<String> = of_service()
        .filter_map(|artifact| match &artifact.name {
            ArtifactName::Database { database, .. } => Some(sql_text(database)),
            _ => None,
        })
        .collect();
    let which = match manifest.hidden_names || names.is_empty() {
        true => format!("datname not like '{BEFORE}%'"),
        false => format!("datname in ({})", names.join(", ")),
    };
    let version = of_service().map(|artifact| plain(&artifact.engine_version));
    let mut text = format!(
        "The server is PostgreSQL {version} or newer. Databases that it has under names that come back, such as those that an\n\
         image makes at its first start, are called `{BEFORE}…` from here on; nobody may be connected to them.\n\n\
         ```sh\nCONTAINER=$(container {service})\n\
         until docker exec \"$CONTAINER\" pg_isready -q -h 127.0.0.1; do sleep 1; done\n\
         docker exec -i \"$CONTAINER\" sh -c 'psql -X -q -v ON_ERROR_STOP=1 -U \"${{POSTGRES_USER:-postgres}}\" -d template1' <<'SQL'\n\
         select format('alter database %I rename to %I', datname, left('{BEFORE}' || datname, 63)) from pg_database\n\
         where not datistemplate and datallowconn and {which}\n\\gexec\nSQL\n```\n",
        version = version.max().unwrap_or_default(),
        service = command_word(service),
    );
    let globals = |artifact: &&Artifact| matches!(artifact.name, ArtifactName::Globals { .. });
    if let Some(globals) = of_service().find(globals) {
        let _ = write!(
            text,
            "\nRoles that exist already give errors that can be passed over.\n\n\
             ```sh\n{decode} \\\n  | docker exec -i \"$CONTAINER\" sh -c 'psql -X -q -U \"${{POSTGRES_USER:-postgres}}\" -d template1'\n```\n",
            decode = decode(globals),
        );
    }
    text
}

/// How a dump becomes a database.
pub(super) fn database(artifact: &Artifact) -> String {
    format!(
        "Makes the database under its own name, with its owner, encoding, settings and grants.\n\n\
         ```sh\n{decode} \\\n  | docker exec -i \"$CONTAINER\" sh -c 'pg_restore --create --exit-on-error -U \"${{POSTGRES_USER:-postgres}}\" -d template1'\n```\n",
        decode = decode(artifact),
    )
}

/// How a snapshot is put in place, whether the server keeps an append-only file or not.
pub(super) fn snapshot(artifact: &Artifact) -> String {
    format!(
        "The server is of {image} or newer (Redis 7 on, or Valkey); its folder and its files have the usual names unless\n\
         `CONFIG GET dir`, `dbfilename`, `appenddirname` and `appendfilename` say otherwise. It is stopped for this: at its\n\
         end it may write its files once more. What it had is moved into `before_restore`. A server with `appendonly yes`\n\
         has the folder `appendonlydir`, and does not read `dump.rdb`.\n\n\
         ```sh\nCONTAINER=$(container {service})\nDIR=/data\n\
         IMAGE=$(docker inspect --format '{{{{.Image}}}}' \"$CONTAINER\")\n\
         until docker exec \"$CONTAINER\" redis-cli ping >/dev/null; do sleep 1; done\n\
         docker stop \"$CONTAINER\"\n\
         {decode} \\\n  | docker run --rm -i --user 0 --network none --volumes-from \"$CONTAINER\" --entrypoint sh \"$IMAGE\" -ec '\n\
         cd \"$0\"\nowner=$(stat -c %u:%g .)\nappend=\n[ ! -e appendonlydir ] || append=yes\nmkdir before_restore\n\
         for name in dump.rdb appendonly.aof appendonlydir; do\n  [ ! -e $name ] || mv $name before_restore/\ndone\n\
         cat >dump.rdb\nchown \"$owner\" dump.rdb before_restore\n[ \"$append\" ] || exit 0\n\
         mkdir appendonlydir\ncp dump.rdb appendonlydir/appendonly.aof.1.base.rdb\n: >appendonlydir/appendonly.aof.1.incr.aof\n\
         printf \"file appendonly.aof.1.base.rdb seq 1 type b\\nfile appendonly.aof.1.incr.aof seq 1 type i\\n\" \\\n  \
         >appendonlydir/appendonly.aof.manifest\nchown -R \"$owner\" appendonlydir\n' \"$DIR\"\n\
         docker start \"$CONTAINER\"\n```\n",
        image = plain(&artifact.image),
        service = command_word(artifact.name.service().unwrap_or_default()),
        decode = decode(artifact),
    )
}

/// How a volume's or a folder's archive is unpacked, as root on the engine's machine.
pub(super) fn tree(artifact: &Artifact, manifest: &Manifest) -> String {
    let (words, mut commands) = match &artifact.name {
        ArtifactName::Bind { path } => (
            "`DIR` is the folder on the machine of the Docker engine",
            format!("DIR={}\n", command_word(path)),
        ),
        name => {
            let volume = match name {
                ArtifactName::Volume { name } => name.as_str(),
                _ => "",
            };
            (
                "The volume is made where it is not there",
                format!("VOLUME={}\n", command_word(volume)),
            )
        }
    };
    if manifest.hidden_names {
        let variable = commands.split('=').next().unwrap_or_default().to_owned();
        // The name in the facts is encoded as in keys.
        commands = format!(
            "{variable}=$(age --decrypt --identity \"$IDENTITY\" facts.json.zst.age | zstd -dc | jq --raw-output '.names[\"{name}\"]')\n\
             {variable}=${{{variable}#*/}}\n{variable}=$(printf '%b' \"${{{variable}//%/\\\\x}}\")\n",
            name = artifact.name,
        );
    }
    commands.push_str(match artifact.name {
        ArtifactName::Bind { .. } => "mkdir -p \"$DIR\"\n",
        _ => {
            "docker volume create -- \"$VOLUME\" >/dev/null\n\
             DIR=$(docker volume inspect --format '{{.Mountpoint}}' \"$VOLUME\")\n"
        }
    });
    format!(
        "{words}; it should be empty, or what it has is mixed with what comes, and nobody may be using it. As root on the\n\
         machine of the Docker engine:\n\n\
         ```sh\n{commands}{decode} \\\n  | tar --extract --numeric-owner --same-owner --same-permissions --acls --xattrs --xattrs-include='*' \\\n    \
         --directory=\"$DIR\" --file=-\n```\n",
        decode = decode(artifact),
    )
}

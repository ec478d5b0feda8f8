//! `RESTORE.md`: how to restore one very backup with stock tools and without lifeboat.
//!
//! It stays readable where the rest is encrypted, so it names artifacts, keys and sizes only: no table, owner or count.

use crate::manifest::{Artifact, Encoding, Manifest};
use crate::stack::{ArtifactName, SourceKind};
use std::fmt::Write as _;

/// The recipe of `manifest`'s backup.
pub(super) fn restore_md(manifest: &Manifest) -> String {
    let mut text = format!(
        "# Restoring {stack}/{id} by hand\n\n\
         lifeboat {version} wrote this backup on {finished}. It needs no lifeboat to be restored: `sha256sum`, `zstd`,\n\
         Docker and the programs of the container are enough. Run the commands in this folder.\n\n\
         ## 1. Check that every byte is what was written\n\n\
         ```sh\nsha256sum --check SHA256SUMS\n```\n",
        stack = manifest.stack,
        id = manifest.backup,
        version = manifest.lifeboat_version,
        finished = manifest.finished.format("%Y-%m-%d %H:%M:%S UTC"),
    );
    if !manifest.complete {
        text.push_str(
            "\nThis backup is partial; `reasons` in manifest.json say what is missing.\n",
        );
    }
    let encrypted = |artifact: &Artifact| artifact.encoding.last() == Some(&Encoding::Age);
    let is_encrypted = manifest.artifacts.iter().any(encrypted);
    if is_encrypted {
        text.push_str(
            "\nIt is encrypted with [age](https://age-encryption.org). `IDENTITY` is the file with the private key; where it was\n\
             encrypted to a passphrase, leave `--identity \"$IDENTITY\"` out, and age asks for it.\n",
        );
    }
    if manifest.hidden_names {
        text.push_str(
            "\nNames of databases, volumes and folders are hidden. `names` in the facts says what they stand for:\n\n\
             ```sh\nage --decrypt --identity \"$IDENTITY\" facts.json.zst.age | zstd -dc\n```\n",
        );
    }
    let mut step = 2;
    let globals = |artifact: &&Artifact| matches!(artifact.name, ArtifactName::Globals { .. });
    let databases = |artifact: &&Artifact| matches!(artifact.name, ArtifactName::Database { .. });
    for artifact in manifest.artifacts.iter().filter(globals) {
        let service = artifact.name.service().unwrap_or_default();
        let _ = write!(
            text,
            "\n## {step}. Roles of service {shown}\n\n\
             `CONTAINER` is the container that runs PostgreSQL {version} or newer ({image}). Roles that exist there\n\
             already give errors that can be passed over.\n\n\
             ```sh\n{decode} \\\n  | docker exec -i \"$CONTAINER\" sh -c 'psql -X -U \"${{POSTGRES_USER:-postgres}}\" -d template1'\n```\n",
            shown = plain(service),
            version = plain(&artifact.engine_version),
            image = plain(&artifact.image),
            decode = decode(artifact),
        );
        step += 1;
    }
    for artifact in manifest.artifacts.iter().filter(databases) {
        let _ = write!(
            text,
            "\n## {step}. {name}\n\n\
             Makes the database under its own name, with its owner, encoding, settings and grants. Where one of this name is\n\
             there, rename it first, connected to template1: `ALTER DATABASE … RENAME TO …`.\n\n\
             ```sh\n{decode} \\\n  | docker exec -i \"$CONTAINER\" sh -c 'pg_restore --create --exit-on-error -U \"${{POSTGRES_USER:-postgres}}\" -d template1'\n```\n",
            name = artifact.name,
            decode = decode(artifact),
        );
        step += 1;
    }
    let snapshots = |artifact: &&Artifact| matches!(artifact.name, ArtifactName::Redis { .. });
    for artifact in manifest.artifacts.iter().filter(snapshots) {
        let _ = write!(
            text,
            "\n## {step}. {name}\n\n{}",
            snapshot(artifact),
            name = artifact.name
        );
        step += 1;
    }
    let trees = |artifact: &&Artifact| artifact.name.source_kind() == SourceKind::Volume;
    for artifact in manifest.artifacts.iter().filter(trees) {
        let _ = write!(
            text,
            "\n## {step}. {name}\n\n{}",
            tree(artifact),
            name = artifact.name
        );
        step += 1;
    }
    let suffix = if is_encrypted { ".age" } else { "" };
    let _ = write!(
        text,
        "\n## What is in this folder\n\n\
         `manifest.json` says what each artifact is, where it came from and how large it is; `facts.json.zst{suffix}` what was\n\
         counted in it (rows, sequences, extensions), for comparison after a restore; `stack.json.zst{suffix}` how the engine\n\
         described the stack.\n",
    );
    text
}

/// How a snapshot is put in place, for both settings of the append-only file.
fn snapshot(artifact: &Artifact) -> String {
    let into = |write: &str| {
        format!(
            "```sh\n{decode} \\\n  | docker run --rm -i --user 0 --network none --volumes-from \"$CONTAINER\" --entrypoint sh \"$IMAGE\" -ec '\n\
             cd \"$0\"\nowner=$(stat -c %u:%g .)\nmkdir before_restore\n\
             for name in dump.rdb appendonly.aof appendonlydir; do\n  [ ! -e $name ] || mv $name before_restore/\ndone\n\
             {write}' \"$DIR\"\n```\n",
            decode = decode(artifact),
        )
    };
    format!(
        "`CONTAINER` is the container that runs {image} or a newer version; its server's folder and file names are the usual\n\
         ones unless `CONFIG GET dir`, `dbfilename`, `appenddirname` and `appendfilename` say otherwise. The server has to be\n\
         stopped first: at its end it may write its files once more. What it had is moved into `before_restore`.\n\n\
         ```sh\nDIR=/data\nIMAGE=$(docker inspect --format '{{{{.Image}}}}' \"$CONTAINER\")\ndocker stop \"$CONTAINER\"\n```\n\n\
         With `appendonly no`, the default:\n\n{off}\n\
         With `appendonly yes` the server does not read `dump.rdb`, and would start empty. Since Redis 7.0 and with Valkey:\n\n{on}\n\
         Then:\n\n```sh\ndocker start \"$CONTAINER\"\n```\n",
        image = plain(&artifact.image),
        off = into("cat >dump.rdb\nchown \"$owner\" dump.rdb\n"),
        on = into(
            "mkdir appendonlydir\ncat >appendonlydir/appendonly.aof.1.base.rdb\n: >appendonlydir/appendonly.aof.1.incr.aof\n\
             printf \"file appendonly.aof.1.base.rdb seq 1 type b\\nfile appendonly.aof.1.incr.aof seq 1 type i\\n\" \\\n  \
             >appendonlydir/appendonly.aof.manifest\nchown -R \"$owner\" appendonlydir\n"
        ),
    )
}

/// How a volume's or a folder's archive is unpacked, as root on the engine's machine.
fn tree(artifact: &Artifact) -> String {
    let place = match &artifact.name {
        ArtifactName::Bind { .. } => {
            "`DIR` is the folder on the machine of the Docker engine: an empty one, or what was there is mixed with what\n\
             comes.\n\n"
                .to_owned()
        }
        _ => "Where the volume is gone, make it first, with the driver, options and labels that `stack.json.zst` has for it:\n\
              Compose compares them. Stop the containers that use it; it should be empty, or what was there is mixed with what\n\
              comes.\n\n\
              ```sh\nDIR=$(docker volume inspect --format '{{.Mountpoint}}' \"$VOLUME\")\n```\n\n"
            .to_owned(),
    };
    format!(
        "{place}As root on the machine of the Docker engine:\n\n\
         ```sh\n{decode} \\\n  | tar --extract --numeric-owner --same-owner --same-permissions --acls --xattrs --xattrs-include='*' \\\n    \
         --directory=\"$DIR\" --file=-\n```\n",
        decode = decode(artifact),
    )
}

/// The command that prints an artifact's plain bytes. Keys hold `A-Za-z0-9._%/-` only: nothing to quote.
fn decode(artifact: &Artifact) -> String {
    let keys: Vec<&str> = artifact
        .objects
        .iter()
        .map(|object| object.key.as_str())
        .collect();
    let decrypt = match artifact.encoding.last() {
        Some(Encoding::Age) => " | age --decrypt --identity \"$IDENTITY\"",
        _ => "",
    };
    format!("cat {}{decrypt} | zstd -dc", keys.join(" "))
}

/// A name from outside on one line of Markdown, outside code.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._:/@ ()+-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect()
}

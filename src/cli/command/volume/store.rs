//! `lifeboat volume backup` and `lifeboat volume restore`: a backup of one volume, and the volumes of a backup.

use crate::cli::args::{Backup, Restore, Standing, VolumeBackup, VolumeRestore};
use crate::cli::command;
use crate::cli::output::Output;
use crate::cli::session::Session;
use crate::error::{Error, Result};
use crate::operation::volume::stack_of;
use crate::stack::SourceKind;
use std::process::ExitCode;

pub(super) async fn backup(
    session: &Session,
    arguments: VolumeBackup,
    output: &Output,
) -> Result<ExitCode> {
    let context = session.context_with_engine(output).await?;
    let (stack, artifact) = stack_of(&context, &arguments.name).await?;
    let backup = Backup {
        recipient: Vec::new(),
        stack: Some(stack),
        only: vec![artifact],
        include: match arguments.name.starts_with("bind:") {
            true => vec![arguments.name],
            false => Vec::new(),
        },
        tag: arguments.tag,
        pin: arguments.pin,
        allow_partial: false,
        quiesce: arguments.quiesce,
        level: arguments.level,
        wait: arguments.wait,
        dry_run: arguments.dry_run,
    };
    command::backup::run(session, backup, output).await
}

pub(super) async fn restore(
    session: &Session,
    arguments: VolumeRestore,
    output: &Output,
) -> Result<ExitCode> {
    let repository = session.repository().await?;
    let entry = repository.resolve(&arguments.backup, None).await?;
    let commit = entry.commit.as_ref();
    let volumes: Vec<String> = commit
        .iter()
        .flat_map(|commit| &commit.artifacts)
        .filter(|artifact| artifact.source_kind() == SourceKind::Volume)
        .map(ToString::to_string)
        .collect();
    if volumes.is_empty() {
        return Err(
            Error::usage(format!("the backup {} has no volume", entry.reference()))
                .hint("lifeboat show lists what it has; lifeboat restore brings databases back"),
        );
    }
    let only = match arguments.volume.is_empty() {
        true => volumes,
        false => arguments
            .volume
            .iter()
            .map(|name| crate::operation::volume::artifact_of(name))
            .collect::<Result<_>>()?,
    };
    let restore = Restore {
        backup: entry.reference(),
        only,
        name: arguments.name,
        in_place: arguments.in_place,
        into: None,
        standing: Standing {
            keep_running: true,
            health_timeout: arguments.health_timeout,
        },
        wait: arguments.wait,
        dry_run: arguments.dry_run,
        yes: arguments.yes,
    };
    command::restore::run(session, restore, output).await
}

//! `lifeboat volume ls` and `lifeboat volume inspect`.

use crate::cli::args::{VolumeInspect, VolumeLs};
use crate::cli::environment::now;
use crate::cli::output::{Output, age, size, table};
use crate::cli::session::Session;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer};
use crate::operation::volume::list::{ListRequest, VolumeReport, list};
use crate::repository::Repository;
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;

pub(super) async fn ls(
    session: &Session,
    arguments: VolumeLs,
    output: &Output,
) -> Result<ExitCode> {
    let request = ListRequest {
        stack: arguments.stack,
        name: None,
        repository: repository_if_any(session).await?,
        sizes: !arguments.no_sizes,
    };
    let context = session.context_with_engine(output).await?;
    let volumes = list(&context, &request, output).await?;
    let text = match volumes.is_empty() {
        true => "no volumes".to_owned(),
        false => table(
            &[
                "VOLUME",
                "SIZE",
                "FILES",
                "DRIVER",
                "STACK",
                "MOUNTED BY",
                "COVERED BY",
                "BACKUP",
            ],
            volumes.iter().map(row),
        ),
    };
    for volume in &volumes {
        if let Some(error) = &volume.unmeasured {
            output.observe(&Event::Warning {
                message: format!("{} could not be measured: {error}", volume.name),
            });
        }
    }
    output.result("volumes", &json!({ "volumes": volumes }), &text);
    Ok(ExitCode::SUCCESS)
}

fn row(volume: &VolumeReport) -> Vec<String> {
    let mut users: Vec<&str> = volume
        .mounted_by
        .iter()
        .map(|mount| mount.container.as_str())
        .collect();
    users.dedup();
    vec![
        volume.name.clone(),
        volume
            .size
            .map_or("-".to_owned(), |size_of| size(size_of.bytes)),
        volume
            .size
            .map_or("-".to_owned(), |size| size.files.to_string()),
        volume.driver.clone(),
        volume.stack.clone().unwrap_or_else(|| "-".to_owned()),
        match users[..] {
            [] => "nobody (orphan)".to_owned(),
            _ => users.join(", "),
        },
        volume.covered_by.clone().unwrap_or_else(|| "-".to_owned()),
        match &volume.backup {
            None => "none".to_owned(),
            Some(backup) => format!("{}, {}", backup.backup, age(backup.started, now())),
        },
    ]
}

pub(super) async fn inspect(
    session: &Session,
    arguments: VolumeInspect,
    output: &Output,
) -> Result<ExitCode> {
    let request = ListRequest {
        stack: None,
        name: Some(arguments.name.clone()),
        repository: repository_if_any(session).await?,
        sizes: true,
    };
    let context = session.context_with_engine(output).await?;
    let volumes = list(&context, &request, output).await?;
    let volume = volumes
        .first()
        .ok_or_else(|| Error::not_found(format!("there is no volume {:?}", arguments.name)))?;
    output.result("volume", volume, &details(volume));
    Ok(ExitCode::SUCCESS)
}

fn details(volume: &VolumeReport) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line("volume", &volume.name);
    line("driver", &volume.driver);
    for (key, value) in &volume.options {
        line("option", &format!("{key}={value}"));
    }
    for (key, value) in &volume.labels {
        line("label", &format!("{key}={value}"));
    }
    line("stack", volume.stack.as_deref().unwrap_or("-"));
    for mount in &volume.mounted_by {
        let access = if mount.read_only {
            "read-only"
        } else {
            "read-write"
        };
        let state = if mount.running {
            "running"
        } else {
            "not running"
        };
        line(
            "mounted by",
            &format!(
                "{} at {}, {access}, {state}",
                mount.container, mount.destination
            ),
        );
    }
    if volume.orphan {
        line("mounted by", "nobody");
    }
    if let Some(covered) = &volume.covered_by {
        line("covered by", covered);
    }
    line(
        "backup",
        &volume.backup.as_ref().map_or("none".to_owned(), |backup| {
            format!("{}, {}", backup.backup, age(backup.started, now()))
        }),
    );
    match (&volume.size, &volume.unmeasured) {
        (Some(measure), _) => line(
            "size",
            &format!(
                "{} in {} files and {} folders, {} on the disk",
                size(measure.bytes),
                measure.files,
                measure.directories,
                size(measure.allocated)
            ),
        ),
        (None, Some(error)) => line("size", &format!("could not be measured: {error}")),
        (None, None) => {}
    }
    text
}

/// The repository, where there is one: what volumes there are can be told without.
async fn repository_if_any(session: &Session) -> Result<Option<Repository>> {
    match session.repository().await {
        Ok(repository) => Ok(Some(repository)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

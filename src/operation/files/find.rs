//! Which files of a stack's project are captured.

use crate::error::{Error, OrFail, Result};
use crate::event::Event;
use crate::operation::backup::BackupRequest;
use crate::operation::inventory::{Planned, Source};
use crate::operation::lock::Claim;
use crate::source::files::{Project, select};
use crate::stack::{ArtifactName, Service};
use std::path::PathBuf;

/// Labels that Compose gives to containers: the project's folder, its Compose files, the files of its variables.
const FOLDER: &str = "com.docker.compose.project.working_dir";
const COMPOSE_FILES: &str = "com.docker.compose.project.config_files";
const ENVIRONMENT_FILES: &str = "com.docker.compose.project.environment_file";

/// The files that are going to be captured; `None` where there are none on this machine.
///
/// # Errors
/// As [`select`]; failed where the configuration names files and it is not known where the project is.
pub(in crate::operation) async fn find(
    request: &BackupRequest,
    claim: &Claim<'_>,
) -> Result<Option<Planned>> {
    let detail = |message: String| claim.observer.observe(&Event::Detail { message });
    let include = &claim.options.include_files;
    let encrypted = request
        .repositories
        .first()
        .is_some_and(|repository| repository.protection().recipients.is_some());
    let found = project(&claim.stack.services);
    let is_here = |project: &Project| project.folder.is_dir();
    let Some(project) = found.filter(is_here) else {
        return match include.iter().all(|text| text.starts_with('!')) {
            true => {
                detail(not_here(&claim.stack.name));
                Ok(None)
            }
            false => Err(Error::failed(format!(
                "include_files names files of the project {}, whose folder is not known or not on this machine",
                claim.stack.name
            ))
            .hint(
                "run lifeboat where docker compose is run, or mount the project's folder into its container under the \
                 same path",
            )),
        };
    };
    let project = Project {
        include: include.clone(),
        encrypted,
        ..project
    };
    let selecting = tokio::task::spawn_blocking(move || select(&project));
    let selection = selecting
        .await
        .or_fail(|| "the thread that looks for the project's files died")??;
    for message in &selection.details {
        detail(message.clone());
    }
    if selection.is_empty() {
        detail(not_here(&claim.stack.name));
        return Ok(None);
    }
    Ok(Some(Planned {
        name: ArtifactName::Files,
        source: Source::Files(selection),
        alone: false,
    }))
}

fn not_here(stack: &str) -> String {
    format!("the files of the project {stack} are not on this machine, and not in the backup")
}

/// What the containers' labels say. Where they do not agree on a folder, those of the first one count.
fn project(services: &[Service]) -> Option<Project> {
    let folder = |service: &Service| {
        let folder = service.labels.get(FOLDER)?;
        folder.starts_with('/').then(|| PathBuf::from(folder))
    };
    let first = services.iter().find_map(folder)?;
    let mut project = Project {
        folder: first,
        ..Project::default()
    };
    let of_project = services
        .iter()
        .filter(|service| folder(service).as_ref() == Some(&project.folder));
    let listed = |service: &Service, label| -> Vec<PathBuf> {
        let text = service.labels.get(label).map(String::as_str);
        let paths = text.unwrap_or_default().split(',');
        let paths = paths.filter(|path| path.starts_with('/'));
        paths.map(PathBuf::from).collect()
    };
    for service in of_project {
        let files = [
            (COMPOSE_FILES, &mut project.compose_files),
            (ENVIRONMENT_FILES, &mut project.environment_files),
        ];
        for (label, known) in files {
            for path in listed(service, label) {
                if !known.contains(&path) {
                    known.push(path);
                }
            }
        }
    }
    Some(project)
}

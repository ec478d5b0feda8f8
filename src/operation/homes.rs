//! Where the servers of a stack keep their data: what a rebuild on an empty engine has to know, kept in `stack.json`
//! under `data`.

use super::inventory::{Planned, Source};
use super::sources::SourceService;
use super::volumes::{data_folders, mount_around};
use crate::docker::helper::Place;
use crate::source::redis::Layout;
use crate::stack::SourceKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The name in `stack.json`.
const KEY: &str = "data";

/// Where one server keeps its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DataHome {
    /// The service.
    pub service: String,
    /// What its server is.
    pub kind: SourceKind,
    /// The data folder, a path in the container.
    pub folder: String,
    /// The volume, or the folder of the engine's machine, that holds it; `None` where it is in the container itself.
    #[serde(default)]
    pub place: Option<Place>,
    /// Where that is mounted, a path in the container.
    #[serde(default)]
    pub mounted_at: Option<String>,
    /// What a Redis server reads at its start.
    #[serde(default)]
    pub layout: Option<Layout>,
}

impl DataHome {
    fn of(source: &SourceService, layout: Option<Layout>) -> Option<Self> {
        let known = layout.as_ref().map(|layout| layout.dir.clone());
        let folder = known.or_else(|| data_folders(source).into_iter().next())?;
        let mount = mount_around(&source.service, &folder);
        let place = mount.and_then(|mount| match (&mount.volume, &mount.folder) {
            (Some(volume), _) => Some(Place::Volume(volume.clone())),
            (None, Some(folder)) => Some(Place::Folder(folder.clone())),
            (None, None) => None,
        });
        Some(Self {
            service: source.service.name.clone(),
            kind: source.kind,
            mounted_at: place
                .as_ref()
                .and(mount)
                .map(|mount| mount.destination.clone()),
            folder,
            place,
            layout,
        })
    }
}

/// Writes down where the servers that are captured keep their data.
pub(super) fn describe(stack_json: &mut Value, services: &[SourceService], planned: &[Planned]) {
    let layout = |service: &str| {
        planned.iter().find_map(|one| match &one.source {
            Source::Redis { server, survey, .. } if server.service().name == service => {
                survey.layout.clone().ok()
            }
            _ => None,
        })
    };
    let captured = services.iter().filter(|one| {
        let mut planned = planned.iter();
        planned.any(|planned| planned.name.service() == Some(&one.service.name))
    });
    let homes: Vec<DataHome> = captured
        .filter_map(|one| DataHome::of(one, layout(&one.service.name)))
        .collect();
    if let (Some(object), Ok(homes)) = (stack_json.as_object_mut(), serde_json::to_value(homes)) {
        object.insert(KEY.to_owned(), homes);
    }
}

//! Where the servers of a stack keep their data: what a rebuild on an empty engine has to know, kept in `stack.json`
//! under `data`.

use super::inventory::{Planned, Source};
use super::sources::SourceService;
use super::volumes::{data_folders, mount_around};
use crate::docker::helper::Place;
use crate::error::{Error, Result};
use crate::source::redis::Layout;
use crate::stack::SourceKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

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
    /// The user that the container runs as, where it is another one than the image's.
    #[serde(default)]
    pub user: Option<String>,
    /// What its image was told about making a new cluster, of [`INITIAL`]: the cluster keeps it for good.
    #[serde(default)]
    pub initial: BTreeMap<String, String>,
}

/// Variables of the official PostgreSQL images that count only when a cluster is made, and are no secrets.
const INITIAL: [&str; 2] = ["POSTGRES_INITDB_ARGS", "POSTGRES_HOST_AUTH_METHOD"];

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
            user: source.service.user.clone(),
            initial: INITIAL
                .iter()
                .filter_map(|name| {
                    let value = source.service.env.get(*name)?;
                    Some(((*name).to_owned(), value.clone()))
                })
                .collect(),
        })
    }

    /// Its data folder below where its volume is mounted: empty, or `/` and a path. `None` where it is on no volume.
    pub(super) fn below_mount(&self) -> Option<&str> {
        let mounted_at = self.mounted_at.as_deref()?.trim_end_matches('/');
        self.folder.trim_end_matches('/').strip_prefix(mounted_at)
    }
}

/// What [`describe`] has written down; nothing in the backup of an older lifeboat.
pub(super) fn recorded(stack_json: &Value) -> Result<Vec<DataHome>> {
    let homes = stack_json.get(KEY).cloned();
    let read = homes.map(serde_json::from_value).transpose();
    read.map(Option::unwrap_or_default).map_err(|error| {
        Error::damaged("stack.json does not say where the servers had their data").caused_by(error)
    })
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

//! The shorter way to a helper on this very machine: a socket instead of the engine's streams.

use bollard::models::{Mount, MountType};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// Where a helper finds the folder with the socket.
const FOLDER: &str = "/lifeboat-socket";
/// Where it finds the socket.
pub(super) const SOCKET: &str = "/lifeboat-socket/socket";

/// Where a helper on this very machine can come to: a socket in a folder that only this user can enter.
pub(super) struct Doorway {
    folder: PathBuf,
    pub(super) listener: UnixListener,
}

impl Doorway {
    /// `None` wherever it cannot be made: it is a shorter way, not the only one.
    pub(super) fn open(sockets: &Path) -> Option<Self> {
        let folder = sockets.join(format!("lifeboat-{}", super::random_hex(8).ok()?));
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&folder).ok()?;
        let path = folder.join("socket");
        let listener = UnixListener::bind(&path);
        // The helper is another user where this one is not root.
        let opened = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666));
        if let (Ok(listener), Ok(())) = (listener, opened) {
            return Some(Self { folder, listener });
        }
        let _ = std::fs::remove_dir_all(&folder);
        None
    }

    /// What the engine's words about it hold.
    pub(super) fn name(&self) -> &str {
        let name = self.folder.file_name().and_then(|name| name.to_str());
        name.unwrap_or_default()
    }

    pub(super) fn mount(&self) -> Mount {
        Mount {
            target: Some(FOLDER.to_owned()),
            source: Some(self.folder.to_string_lossy().into_owned()),
            typ: Some(MountType::BIND),
            read_only: Some(true),
            ..Mount::default()
        }
    }
}

impl Drop for Doorway {
    fn drop(&mut self) {
        // Whoever has come in stays in.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

//! Who lifeboat is to a server.

use crate::secret::Secret;

/// Who lifeboat is to a server, where its container does not say it or says it wrong.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The role or user; by default the one that the container's own description names.
    pub user: Option<String>,
    /// The password; by default what the container itself was given.
    pub password: Option<Secret>,
}

//! What a repository needs to know of keys: who opens what is encrypted, and whose signature is wanted.

use super::signature::{Signer, VerifyingKey};
use crate::pipeline::{Identities, Recipients};

/// What reading takes. Empty by default: nothing encrypted can be opened, no signature is asked for.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Who opens what is encrypted.
    pub identities: Identities,
    /// Whose signature every backup must have.
    pub signed_by: Option<VerifyingKey>,
}

/// How new backups are kept from being read and forged. Artifacts come encrypted; the repository encrypts and signs
/// their description.
#[derive(Debug, Clone, Default)]
pub struct Protection {
    /// Who they are encrypted to, where they are.
    pub recipients: Option<Recipients>,
    /// Whether names of databases and volumes are hidden, where they are encrypted.
    pub hide_names: bool,
    /// Who signs them, where somebody does.
    pub signer: Option<Signer>,
}

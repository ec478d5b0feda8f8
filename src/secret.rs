//! Secrets: where one is kept ([`SecretRef`], which configuration holds) and what it is
//! ([`Secret`], which is never printed).

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::fmt;
use std::path::PathBuf;

/// Where a secret is kept. Never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum SecretRef {
    /// An environment variable of the lifeboat process.
    Env(String),
    /// A file readable by the lifeboat process; one trailing newline is not part of the secret.
    File(PathBuf),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(formatter, "the variable {name}"),
            Self::File(path) => write!(formatter, "the file {}", path.display()),
        }
    }
}

/// What a secret is. `Debug` prints a placeholder, memory is wiped on drop.
#[derive(Debug, Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes the text out of circulation.
    pub fn new(text: String) -> Self {
        Self(SecretString::from(text))
    }

    /// The text, for the one call that needs it. Never for a message, an argument or a file.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

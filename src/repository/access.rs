//! How buckets are reached: the variables of their own ecosystems, time limits, and what this process holds there.

use super::bucket::Holds;
use crate::error::{Error, Result};
use crate::secret::Secret;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What the variables that concern stores start with.
const PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// Variables whose own name ends in `_FILE`: they name files for the store's client, and are passed on as they are.
const NAMED_FILES: [&str; 5] = [
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AZURE_FEDERATED_TOKEN_FILE",
];

/// How long one request may take, its body included: 8 MiB over 30 KB/s.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(5);
/// For how long a request that failed is tried again.
const PATIENCE: Duration = Duration::from_mins(3);

/// What is needed to reach repositories in buckets. Cheap to clone; clones share what they hold in the stores.
#[derive(Debug, Clone)]
pub struct Access {
    /// Variables such as `AWS_ACCESS_KEY_ID`, the values of `…_FILE` already read.
    pub(super) variables: Vec<(String, Secret)>,
    /// How long one request may take.
    pub(super) request_timeout: Duration,
    /// For how long a failing request is tried again before the run fails.
    pub(super) patience: Duration,
    /// Where commits that were read are kept, so that listings ask for each of them once.
    pub(super) cache: Option<PathBuf>,
    /// How many repositories one run writes to: they share the memory that parts in flight may take.
    pub(super) lanes: usize,
    /// What this process holds in the stores.
    holds: Arc<Holds>,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            variables: Vec::new(),
            request_timeout: REQUEST_TIMEOUT,
            patience: PATIENCE,
            cache: None,
            lanes: 1,
            holds: Arc::default(),
        }
    }
}

impl Access {
    /// Takes what concerns stores out of `environment`. `read` reads the file that a `…_FILE` variable names.
    ///
    /// # Errors
    /// Usage where a variable is given in both ways; what `read` said.
    pub fn from_environment(
        environment: impl IntoIterator<Item = (String, String)>,
        read: impl Fn(&str, &str) -> Result<String>,
    ) -> Result<Self> {
        let mut variables: Vec<(String, Secret)> = Vec::new();
        for (name, value) in environment {
            if value.is_empty() || !PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            let (name, value) = match name.strip_suffix("_FILE") {
                Some(plain) if !NAMED_FILES.contains(&name.as_str()) => {
                    (plain.to_owned(), read(&name, &value)?)
                }
                _ => (name, value),
            };
            if variables.iter().any(|(known, _)| *known == name) {
                return Err(Error::usage(format!("both {name} and {name}_FILE are set")));
            }
            variables.push((name, Secret::new(value)));
        }
        Ok(Self {
            variables,
            ..Self::default()
        })
    }

    /// The same with other limits, and with a folder for the cache.
    #[must_use]
    pub fn with_limits(
        mut self,
        request_timeout: Option<Duration>,
        patience: Option<Duration>,
        cache: PathBuf,
    ) -> Self {
        self.request_timeout = request_timeout.unwrap_or(self.request_timeout);
        self.patience = patience.unwrap_or(self.patience);
        self.cache = Some(cache);
        self
    }

    /// The same for a run that writes to so many repositories.
    #[must_use]
    pub fn for_lanes(mut self, lanes: usize) -> Self {
        self.lanes = lanes;
        self
    }

    /// The same as another process, whose holds are its own and live at another pace.
    #[cfg(test)]
    #[must_use]
    pub(super) fn of_another_process(&self, pace: super::bucket::Pace) -> Self {
        Self {
            holds: Arc::new(Holds::at(pace)),
            ..self.clone()
        }
    }

    pub(super) fn holds(&self) -> &Holds {
        &self.holds
    }

    /// The value of a variable.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let mut variables = self.variables.iter();
        variables
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.expose())
    }

    /// Lets go of what this process holds in its repositories. What is not let go of ends by itself some minutes
    /// later, and pruning waits until then.
    pub async fn close(&self) {
        self.holds.release_all().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Access> {
        let variables = variables.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        Access::from_environment(variables, |_, path| Ok(format!("read from {path}")))
    }

    #[test]
    fn files_stand_for_values_and_other_variables_are_left_alone() {
        let access = from(&[
            ("AWS_SECRET_ACCESS_KEY_FILE", "/run/secrets/key"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/token"),
            ("AWS_REGION", ""),
            ("PATH", "/bin"),
        ])
        .unwrap();
        assert_eq!(
            access.variable("AWS_SECRET_ACCESS_KEY"),
            Some("read from /run/secrets/key")
        );
        assert_eq!(
            access.variable("AWS_WEB_IDENTITY_TOKEN_FILE"),
            Some("/var/token")
        );
        assert_eq!(access.variables.len(), 2);
        let shown = format!("{access:?}");
        assert!(!shown.contains("/run/secrets"), "{shown}");
    }

    #[test]
    fn a_variable_given_twice_is_refused() {
        let error = from(&[("AZURE_X", "1"), ("AZURE_X_FILE", "f")]).unwrap_err();
        assert_eq!(error.kind().exit_code(), 2);
    }
}

//! Addresses that are secrets.

use crate::error::{Error, Result};
use crate::secret::Secret;
use reqwest::Url;
use std::fmt;
use std::net::IpAddr;

/// Parts of an address that are shorter than this are not taken for secrets where a receiver repeats them.
const SHORTEST_SECRET: usize = 6;

/// The address of a receiver. Whoever knows it can post there: it prints as `scheme://host/…`.
#[derive(Clone)]
pub struct Address {
    url: Secret,
    shown: String,
    host: String,
}

impl Address {
    /// An address with one of `schemes`.
    ///
    /// # Errors
    /// Usage, without the address, where it is none.
    pub fn parse(text: &Secret, schemes: &[&str]) -> Result<Self> {
        let wanted = schemes.join(":// or ");
        let wrong = |what: String| Error::usage(what).hint(format!("it begins with {wanted}://"));
        let url = Url::parse(text.expose())
            .map_err(|error| wrong(format!("this is no address: {error}")))?;
        if !schemes.contains(&url.scheme()) {
            return Err(wrong(format!(
                "an address with {}:// cannot be used here",
                url.scheme()
            )));
        }
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return Err(wrong("this address names no host".to_owned()));
        };
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        Ok(Self {
            shown: format!("{}://{host}{port}/…", url.scheme()),
            host: host.to_owned(),
            url: Secret::new(url.to_string()),
        })
    }

    /// The address as it may be shown: `https://hooks.example/…`.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Its host.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The address itself, for the one call that needs it.
    pub(super) fn url(&self) -> Result<Url, String> {
        Url::parse(self.url.expose()).map_err(|_| "the address cannot be used".to_owned())
    }

    /// Whether its host is this machine, whatever a name server says.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Takes the address and its telling parts out of a text.
    pub(super) fn conceal(&self, text: &str) -> String {
        let mut secrets = vec![self.url.expose().to_owned()];
        if let Ok(url) = self.url() {
            secrets.extend(url.query().map(str::to_owned));
            secrets.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
            secrets.push(url.path().to_owned());
            secrets.extend(url.path().split('/').map(str::to_owned));
            secrets.push(url.username().to_owned());
            secrets.extend(url.password().map(str::to_owned));
        }
        secrets.retain(|secret| secret.len() >= SHORTEST_SECRET);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let concealed = |text: String, secret: &String| text.replace(secret.as_str(), "…");
        secrets.iter().fold(text.to_owned(), concealed)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown)
    }
}

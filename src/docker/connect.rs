//! Finds the engine and connects to it, the way the docker command would.

use super::context::{self, Context};
use super::ssh::{Dialer, Said, Target};
use super::{Engine, PLAIN_REQUEST, failed, status};
use crate::error::{Error, OrFail, Result};
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use std::error::Error as StdError;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The client library's own limit. It covers the wait for response headers and the whole of an
/// upload (measured), so it is long; plain requests have a shorter one of their own.
const LONGEST_REQUEST: Duration = Duration::from_hours(24);

/// The API versions to speak, in this order. Engines of 2024 and later refuse clients below 1.44
/// sooner or later (29 does), and any engine refuses a client newer than itself; 1.41 is Docker
/// 20.10 of 2020. Nothing here needs more, and the same version on every engine means the same
/// answers from every engine.
const VERSIONS: [&ClientVersion; 3] = [
    &ClientVersion {
        major_version: 1,
        minor_version: 44,
    },
    &ClientVersion {
        major_version: 1,
        minor_version: 41,
    },
    API_DEFAULT_VERSION,
];

/// Where to look for an engine. The caller reads the environment; this module does not.
#[derive(Debug, Clone, Default)]
pub struct ConnectOptions {
    /// `DOCKER_HOST`: wins over everything else.
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`: wins over the current context of `config.json`.
    pub context: Option<String>,
    /// `DOCKER_CONFIG`, or `~/.docker`.
    pub config_dir: Option<PathBuf>,
    /// `DOCKER_TLS_VERIFY` is set: TCP is spoken over TLS.
    pub tls_verify: bool,
    /// `DOCKER_CERT_PATH`: the folder with `ca.pem`, `cert.pem` and `key.pem`.
    pub cert_path: Option<PathBuf>,
}

/// Connects and makes sure that an engine answers that speaks a known version.
///
/// Errors say where was looked and what to do: an absent or forbidden socket, a refused
/// connection, an unknown context.
pub async fn connect(options: &ConnectOptions) -> Result<Engine> {
    let place = locate(options)?;
    let mut refusal = None;
    for version in VERSIONS {
        let (client, said) = open(&place, version)?;
        let answer = tokio::time::timeout(PLAIN_REQUEST, client.negotiate_version()).await;
        match answer {
            Ok(Ok(client)) => {
                return Ok(Engine {
                    client,
                    endpoint: place.host.into(),
                });
            }
            // "client version 1.44 is too new" or "too old".
            Ok(Err(cause)) if status(&cause) == Some(400) => refusal = Some(cause),
            Ok(Err(cause)) => return Err(unreachable(&place, cause, &said)),
            Err(_) => {
                return Err(Error::failed(format!(
                    "the Docker engine at {} does not answer",
                    place.host
                ))
                .hint("see whether `docker version` answers"));
            }
        }
    }
    let error = Error::failed(format!(
        "the Docker engine at {} speaks no version that lifeboat knows",
        place.host
    ))
    .hint("lifeboat needs Docker 20.10 (API 1.41) or later");
    Err(match refusal {
        Some(cause) => error.caused_by(failed("agree on an API version", cause)),
        None => error,
    })
}

/// An address, and how to speak TLS with it.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    host: String,
    certificates: Option<PathBuf>,
}

/// Which engine is meant.
fn locate(options: &ConnectOptions) -> Result<Place> {
    let set = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
    if let Some(host) = set(&options.host) {
        let certificates = if options.tls_verify {
            let folder = options.cert_path.as_ref().or(options.config_dir.as_ref());
            Some(folder.cloned().ok_or_else(|| {
                Error::usage("DOCKER_TLS_VERIFY is set, but there are no certificates")
                    .hint("set DOCKER_CERT_PATH to the folder with ca.pem, cert.pem and key.pem")
            })?)
        } else {
            None
        };
        return Ok(Place { host, certificates });
    }
    let built_in = || Place {
        host: "unix:///var/run/docker.sock".to_owned(),
        certificates: None,
    };
    let named = set(&options.context);
    if named.as_deref() == Some("default") {
        return Ok(built_in());
    }
    let Some(config_dir) = &options.config_dir else {
        return match named {
            None => Ok(built_in()),
            Some(name) => Err(Error::usage(format!(
                "cannot look for the Docker context {name:?} without a configuration folder"
            ))
            .hint("set DOCKER_CONFIG or HOME")),
        };
    };
    let name = match named {
        Some(name) => Some(name),
        None => context::current(config_dir)?,
    };
    let Some(name) = name else {
        return Ok(built_in());
    };
    let Context {
        host,
        tls,
        skip_tls_verify,
    } = context::read(config_dir, &name)?;
    if skip_tls_verify && host.starts_with("tcp://") {
        return Err(Error::usage(format!(
            "the Docker context {name:?} asks not to check the engine's certificate"
        ))
        .hint("give the context a ca.pem (`docker context update`): lifeboat always checks"));
    }
    Ok(Place {
        host,
        certificates: tls,
    })
}

/// A client for the place; nothing is sent yet.
fn open(place: &Place, version: &ClientVersion) -> Result<(Docker, Said)> {
    let timeout = LONGEST_REQUEST.as_secs();
    let host = place.host.as_str();
    let prepared = || format!("cannot prepare the connection to {host}");
    let client = match host.split_once("://") {
        Some(("unix", path)) => {
            if let Err(error) = Path::new(path).symlink_metadata() {
                return Err(no_engine(host, error.kind()).caused_by(error));
            }
            Docker::connect_with_unix(path, timeout, version).or_fail(prepared)?
        }
        Some(("tcp" | "http" | "https", address)) => {
            let encrypted = place.certificates.is_some() || host.starts_with("https");
            let address = with_port(address, encrypted);
            if encrypted {
                let folder = place.certificates.as_ref().ok_or_else(|| {
                    Error::usage(format!("{host} needs certificates"))
                        .hint("set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH")
                })?;
                let file = |name: &str| folder.join(name);
                Docker::connect_with_ssl(
                    &address,
                    &file("key.pem"),
                    &file("cert.pem"),
                    &file("ca.pem"),
                    timeout,
                    version,
                )
                .or_fail(|| format!("cannot use the certificates in {}", folder.display()))?
            } else {
                Docker::connect_with_http(&address, timeout, version).or_fail(prepared)?
            }
        }
        Some(("ssh", rest)) => {
            let dialer = Dialer::new(&Target::parse(rest)?)?;
            return Ok((dialer.client(LONGEST_REQUEST, version)?, dialer.said()));
        }
        _ => {
            return Err(
                Error::usage(format!("{host:?} is not the address of a Docker engine")).hint(
                    "it looks like unix:///var/run/docker.sock, tcp://host:2375 or ssh://user@host",
                ),
            );
        }
    };
    Ok((client, Said::default()))
}

/// The docker command's default ports.
fn with_port(address: &str, encrypted: bool) -> String {
    let address = address.trim_end_matches('/');
    let after_host = address.rsplit(']').next().unwrap_or(address);
    if after_host.contains(':') {
        address.to_owned()
    } else {
        format!("{address}:{}", if encrypted { 2376 } else { 2375 })
    }
}

/// Why a first request failed.
fn unreachable(place: &Place, cause: bollard::errors::Error, said: &Said) -> Error {
    let words = said.text();
    if place.host.starts_with("ssh://") && !words.is_empty() {
        return Error::failed(format!(
            "no Docker engine answers at {}: {}",
            place.host,
            words.replace(['\r', '\n'], " ")
        ))
        .hint(format!(
            "see whether `ssh {} docker version` works without asking anything",
            place.host.trim_start_matches("ssh://")
        ));
    }
    let mut link: Option<&(dyn StdError + 'static)> = Some(&cause);
    while let Some(error) = link {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return no_engine(&place.host, io.kind()).caused_by(cause);
        }
        link = error.source();
    }
    Error::failed(format!("no Docker engine answers at {}", place.host)).caused_by(cause)
}

fn no_engine(host: &str, kind: ErrorKind) -> Error {
    if kind == ErrorKind::PermissionDenied {
        return Error::failed(format!(
            "this user may not talk to the Docker engine at {host}"
        ))
        .hint("add the user to the group `docker` and log in again, or use sudo");
    }
    Error::failed(format!("no Docker engine answers at {host}")).hint(
        "start it (`systemctl start docker`), or say where it is: DOCKER_HOST, DOCKER_CONTEXT",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(host: Option<&str>, context: Option<&str>) -> ConnectOptions {
        ConnectOptions {
            host: host.map(ToOwned::to_owned),
            context: context.map(ToOwned::to_owned),
            ..ConnectOptions::default()
        }
    }

    #[test]
    fn docker_host_wins_and_the_default_is_the_local_socket() {
        let both = options(Some("tcp://10.0.0.1"), Some("absent"));
        assert_eq!(locate(&both).unwrap().host, "tcp://10.0.0.1");
        for none in [
            options(None, None),
            options(Some(""), Some("")),
            options(None, Some("default")),
        ] {
            assert_eq!(locate(&none).unwrap().host, "unix:///var/run/docker.sock");
        }
        assert!(locate(&options(None, Some("absent"))).is_err());
    }

    #[test]
    fn addresses_without_a_port_get_the_usual_one() {
        assert_eq!(with_port("host", false), "host:2375");
        assert_eq!(with_port("[::1]", true), "[::1]:2376");
        assert_eq!(with_port("host:99/", false), "host:99");
        assert_eq!(with_port("[::1]:99", false), "[::1]:99");
    }

    #[tokio::test]
    async fn an_absent_socket_says_what_to_do() {
        let error = connect(&options(Some("unix:///nowhere/docker.sock"), None))
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("no Docker engine answers at unix:///nowhere")
        );
        assert!(error.hint_text().unwrap().contains("DOCKER_HOST"));
    }

    #[tokio::test]
    async fn a_socket_that_nobody_serves_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let host = format!("unix://{}", path.display());
        let error = connect(&options(Some(&host), None)).await.unwrap_err();
        assert!(
            error.to_string().contains("no Docker engine answers"),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_nonsense_address_is_a_usage_error() {
        let error = connect(&options(Some("host:2375"), None))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Usage);
    }
}

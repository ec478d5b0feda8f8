//! Where a repository is: what a person writes after `--repository`.

use crate::error::{Error, Result};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The schemes that are part of the design but not of this version.
const PLANNED: [&str; 3] = ["s3", "az", "gs"];

/// What a `file://` address cannot hold as it is.
const OUTSIDE_ADDRESSES: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#');

/// The address of a repository. Only directories for now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    path: PathBuf,
}

impl Location {
    /// The repository in the directory `path`.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The `file://` address of the directory, which means the same from any working directory.
    pub fn url(&self) -> String {
        let path = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        let path = path.to_string_lossy();
        format!("file://{}", utf8_percent_encode(&path, OUTSIDE_ADDRESSES))
    }
}

impl FromStr for Location {
    type Err = Error;

    /// Parses a plain path or `file:///path`, whose `%20` and the like are decoded.
    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::usage("the repository's address is empty"));
        }
        if text.contains('\0') {
            return Err(Error::usage("the repository's address holds a zero byte"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::directory(text));
        };
        // A path such as `./odd://name` has a separator before the colon: it is no address.
        if scheme.contains('/') {
            return Ok(Self::directory(text));
        }
        if scheme == "file" {
            return from_file_url(rest);
        }
        // Of an address that is refused only the scheme is shown: the rest may hold credentials.
        if PLANNED.contains(&scheme) {
            return Err(Error::usage(format!(
                "{scheme}:// repositories are not supported yet by this version"
            ))
            .hint("use a directory: a plain path or file:///path"));
        }
        Err(Error::usage(format!(
            "{scheme:?} is not a scheme of a repository's address"
        ))
        .hint(format!(
            "the known ones are file, {} (the last three in a later version)",
            PLANNED.join(", ")
        )))
    }
}

fn from_file_url(rest: &str) -> Result<Location> {
    if !rest.starts_with('/') {
        return Err(
            Error::usage(format!("file://{rest} names a host, not a directory"))
                .hint("write three slashes: file:///path"),
        );
    }
    let bytes: Vec<u8> = percent_decode_str(rest).collect();
    if bytes.contains(&0) {
        return Err(Error::usage("the repository's address holds a zero byte"));
    }
    Ok(Location::directory(OsString::from_vec(bytes)))
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn paths_and_file_addresses_are_directories() {
        for (text, path) in [
            ("/var/backups", "/var/backups"),
            ("./here", "./here"),
            ("./odd://name", "./odd://name"),
            ("file:///var/my%20backups", "/var/my backups"),
            ("file:///a?b#c", "/a?b#c"),
        ] {
            assert_eq!(text.parse::<Location>().unwrap().path(), Path::new(path));
        }
        let odd = Location::directory("/a b%?#");
        assert_eq!(odd.url().parse::<Location>().unwrap(), odd);
        let here = Location::directory("./here").url();
        let here = here.parse::<Location>().unwrap();
        assert_eq!(here.path(), std::env::current_dir().unwrap().join("here"));
    }

    #[test]
    fn other_addresses_are_refused_without_showing_credentials() {
        for text in ["s3://key:secret@bucket", "az://c", "gs://b"] {
            let error = text.parse::<Location>().unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.to_string().contains("not supported yet"));
            assert!(!error.to_string().contains("secret"));
        }
        let error = "ftp://secret@host".parse::<Location>().unwrap_err();
        assert!(error.hint_text().unwrap().contains("file, s3, az, gs"));
        assert!(!error.to_string().contains("secret"));
        for text in ["", "file://relative", "file:///a%00b", "a\0b"] {
            let error = text.parse::<Location>().unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{text:?}");
        }
    }
}

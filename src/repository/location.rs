//! Where a repository is: what a person writes after `--repository`.

use crate::error::{Error, Result, nearest};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What a `file://` address cannot hold as it is.
const OUTSIDE_ADDRESSES: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#');

/// The schemes of addresses.
const SCHEMES: [&str; 4] = ["file", "s3", "az", "gs"];

/// The address of a repository. It holds no credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A bucket, or a part of one.
    Bucket(BucketAddress),
}

/// Which kind of store a bucket is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Amazon S3, and what speaks its protocol.
    S3,
    /// Azure Blob Storage, where buckets are called containers.
    Azure,
    /// Google Cloud Storage.
    Gcs,
}

/// `s3://bucket/prefix`, `az://container/prefix` or `gs://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketAddress {
    /// The kind of store.
    pub scheme: Scheme,
    /// The bucket's name.
    pub bucket: String,
    /// What the keys start with, without a slash at either end; empty for the whole bucket.
    pub prefix: String,
}

impl fmt::Display for BucketAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::S3 => "s3",
            Scheme::Azure => "az",
            Scheme::Gcs => "gs",
        };
        write!(formatter, "{scheme}://{}", self.bucket)?;
        match self.prefix.as_str() {
            "" => Ok(()),
            prefix => write!(formatter, "/{prefix}"),
        }
    }
}

impl Location {
    /// The repository in the directory `path`.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::Directory(path.into())
    }

    /// The directory, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Bucket(_) => None,
        }
    }

    /// The address that means the same from any working directory.
    pub fn url(&self) -> String {
        let path = match self {
            Self::Bucket(address) => return address.to_string(),
            Self::Directory(path) => std::path::absolute(path).unwrap_or_else(|_| path.clone()),
        };
        let path = path.to_string_lossy();
        format!("file://{}", utf8_percent_encode(&path, OUTSIDE_ADDRESSES))
    }
}

impl FromStr for Location {
    type Err = Error;

    /// Parses a plain path, `file:///path` (whose `%20` and the like are decoded), or a bucket's address.
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
        // Of an address that is refused only the scheme is shown: the rest may hold credentials.
        let scheme = match scheme {
            "file" => return from_file_url(rest),
            "s3" => Scheme::S3,
            "az" => Scheme::Azure,
            "gs" => Scheme::Gcs,
            other => {
                let near = match other {
                    "azure" | "abfs" | "abfss" | "wasb" => Some("az"),
                    "gcs" => Some("gs"),
                    "s3a" => Some("s3"),
                    _ => nearest(other, SCHEMES).first().copied(),
                };
                let known = format!("the known ones are {}", SCHEMES.join(", "));
                return Err(Error::usage(format!(
                    "{other:?} is not a scheme of a repository's address"
                ))
                .hint(near.map_or(known, |near| format!("did you mean {near}://…?"))));
            }
        };
        from_bucket_url(scheme, rest)
    }
}

fn from_bucket_url(scheme: Scheme, rest: &str) -> Result<Location> {
    let form = match scheme {
        Scheme::S3 => "s3://bucket/prefix",
        Scheme::Azure => "az://container/prefix",
        Scheme::Gcs => "gs://bucket/prefix",
    };
    if rest.contains(['@', '?', '#']) {
        return Err(Error::usage(
            "the repository's address holds credentials or settings, where a bucket and a prefix belong",
        )
        .hint(format!(
            "write {form}; credentials are given in variables (docs/configuration.md)"
        )));
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let bucket_is_good = !bucket.is_empty() && bucket.chars().all(plain);
    let prefix_is_good = prefix.is_empty()
        || prefix.split('/').all(|segment| {
            !segment.is_empty() && segment != "." && segment != ".." && segment.chars().all(plain)
        });
    if !bucket_is_good || !prefix_is_good || prefix.len() > 512 {
        return Err(
            Error::usage("the repository's address is not that of a bucket").hint(format!(
                "write {form}, of letters, digits, dots, dashes and underscores"
            )),
        );
    }
    Ok(Location::Bucket(BucketAddress {
        scheme,
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    }))
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

impl Location {
    /// Whether two addresses lead to one repository: of folders, also by way of links, `..` and the present folder.
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory(one), Self::Directory(another)) => {
                let real = |path: &std::path::Path| {
                    std::fs::canonicalize(path).or_else(|_| std::path::absolute(path))
                };
                one == another || real(one).ok() == real(another).ok()
            }
            _ => self == other,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(formatter),
            Self::Bucket(address) => address.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn one_folder_is_one_place_however_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let place = |path: &std::path::Path| Location::directory(path);
        assert!(place(&real).is_same_place(&place(&link)));
        assert!(place(&real).is_same_place(&place(&real.join("../real"))));
        assert!(!place(&real).is_same_place(&place(folder.path())));
    }

    #[test]
    fn paths_and_file_addresses_are_directories() {
        for (text, path) in [
            ("/var/backups", "/var/backups"),
            ("./here", "./here"),
            ("./odd://name", "./odd://name"),
            ("file:///var/my%20backups", "/var/my backups"),
            ("file:///a?b#c", "/a?b#c"),
        ] {
            let parsed: Location = text.parse().unwrap();
            assert_eq!(parsed.path(), Some(Path::new(path)));
        }
        let odd = Location::directory("/a b%?#");
        assert_eq!(odd.url().parse::<Location>().unwrap(), odd);
        let here = Location::directory("./here").url();
        let here = here.parse::<Location>().unwrap();
        assert_eq!(
            here.path().unwrap(),
            std::env::current_dir().unwrap().join("here")
        );
    }

    #[test]
    fn buckets_have_a_name_and_perhaps_a_prefix() {
        for (text, bucket, prefix) in [
            ("s3://b", "b", ""),
            ("az://my-container/", "my-container", ""),
            ("gs://b.example/backups/shop/", "b.example", "backups/shop"),
        ] {
            let Location::Bucket(address) = text.parse().unwrap() else {
                panic!("{text} is a bucket");
            };
            assert_eq!((&*address.bucket, &*address.prefix), (bucket, prefix));
            let again: Location = address.to_string().parse().unwrap();
            assert_eq!(again, Location::Bucket(address));
        }
    }

    #[test]
    fn other_addresses_are_refused_without_showing_credentials() {
        for text in [
            "ftp://secret@host",
            "s3://key:secret@bucket",
            "az://c?sig=secret",
            "s3://",
            "s3:///secret",
            "gs://b/../secret",
            "gs://b//secret",
            "s3://b/se cret",
            "",
            "file://relative",
            "file:///a%00b",
            "a\0b",
        ] {
            let error = text.parse::<Location>().unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{text:?}");
            assert!(!error.chain().contains("secret"), "{text:?}");
        }
        let error = "azure://c".parse::<Location>().unwrap_err();
        assert_eq!(error.hint_text(), Some("did you mean az://…?"));
    }
}

//! `SHA256SUMS`: the digest of every other object of a backup, in the form of `sha256sum`.

use super::layout::{SIGNATURE, SUMS, check_key};
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Lowercase hex SHA-256 of `bytes`.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The digests of a backup's objects by key.
#[derive(Debug, Default)]
pub(super) struct Sums(BTreeMap<String, String>);

impl Sums {
    /// Adds an object; `false` where its key is in already.
    pub(super) fn add(&mut self, key: &str, digest: &str) -> bool {
        self.0.insert(key.to_owned(), digest.to_owned()).is_none()
    }

    /// The digest of an object.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The keys, sorted.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The file's text: a digest, two spaces and a key in each line, sorted by key.
    pub(super) fn to_text(&self) -> String {
        self.0
            .iter()
            .fold(String::new(), |mut text, (key, digest)| {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{digest}  {key}");
                text
            })
    }

    /// Reads the text of the file in `folder`.
    ///
    /// # Errors
    /// Damaged unless the text is exactly what [`Sums::to_text`] makes of its objects.
    pub(super) fn parse(folder: &str, text: &[u8]) -> Result<Self> {
        let damaged = |what: &str| Error::damaged(format!("{folder}/{SUMS}: {what}"));
        let text = std::str::from_utf8(text).map_err(|_| damaged("not text"))?;
        let mut sums = Self::default();
        for line in text.lines() {
            let (digest, key) = line
                .split_once("  ")
                .ok_or_else(|| damaged("a line is not a digest and a key"))?;
            check_key(folder, key)?;
            if !is_digest(digest) {
                return Err(damaged("a line has no SHA-256 digest"));
            }
            if [SUMS, SIGNATURE].contains(&key) || !sums.add(key, digest) {
                return Err(damaged("it lists itself, or an object twice"));
            }
        }
        if sums.to_text() != text {
            return Err(damaged("not sorted, or not in the form of sha256sum"));
        }
        Ok(sums)
    }
}

/// Whether `text` is a digest as this format writes it.
pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_form_is_parsed() {
        let (a, b) = (digest(b"a"), digest(b"b"));
        let good = format!("{a}  a/x\n{b}  b\n");
        assert_eq!(
            Sums::parse("f", good.as_bytes()).unwrap().get("b"),
            Some(&*b)
        );
        for bad in [
            format!("{b}  b\n{a}  a/x\n"),
            format!("{a}  x\n{b}  x\n"),
            format!("{a}  x"),
            format!("{a} *x\n"),
            format!("{a}  ../x\n"),
            format!("{a}  /x\n"),
            format!("{a}  SHA256SUMS\n"),
            format!("{}  x\n", a.to_uppercase()),
            format!("{a}  x\r\n"),
            format!("{a}  x\n\n"),
            "nonsense\n".to_owned(),
        ] {
            assert!(Sums::parse("f", bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Sums::parse("f", b"\xff\n").is_err());
    }
}

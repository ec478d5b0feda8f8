//! Signatures over `SHA256SUMS`, as minisign makes and checks them.

use crate::error::{Error, Kind, OrFail, Result};
use crate::secret::Secret;
use minisign::{PublicKey, SecretKey, SecretKeyBox, SignatureBox};
use std::fmt;
use std::io::Cursor;
use std::sync::Arc;

/// The public half of a signing key. Cheap to clone.
#[derive(Clone)]
pub struct VerifyingKey(Arc<PublicKey>);

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VerifyingKey({})", self.0.to_base64())
    }
}

/// A signing key. Cheap to clone.
#[derive(Clone)]
pub struct Signer(Arc<SecretKey>);

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Signer")
    }
}

/// What the trusted comment of a backup's signature says: a signature of one backup is none of another.
fn comment(stack: &str, id: &str) -> String {
    // minisign's comments are one line.
    let stack: String = stack.chars().filter(|c| !c.is_control()).collect();
    format!("lifeboat backup {id} of {stack}")
}

impl VerifyingKey {
    /// Reads a public key: `RW…`, or the text of the file that minisign writes.
    ///
    /// # Errors
    /// Usage where it is none.
    pub fn parse(text: &str) -> Result<Self> {
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
        let key = PublicKey::from_base64(line.unwrap_or_default()).map_err(|error| {
            Error::usage("the signature's public key is not one of minisign")
                .caused_by(error.to_string())
                .hint("it begins with RW, and is the second line of the .pub file")
        })?;
        Ok(Self(Arc::new(key)))
    }

    /// That `signature` is this key's over `sums`, for that backup.
    ///
    /// # Errors
    /// Damaged where it is not.
    pub(super) fn check(
        &self,
        sums: &[u8],
        signature: &[u8],
        stack: &str,
        id: &str,
    ) -> Result<(), Error> {
        let damaged = |what: &str| Error::damaged(what.to_owned());
        let text =
            std::str::from_utf8(signature).map_err(|_| damaged("its signature is not text"))?;
        let signature = SignatureBox::from_string(text)
            .map_err(|_| damaged("its signature is not one of minisign"))?;
        minisign::verify(&self.0, &signature, Cursor::new(sums), true, false, false)
            .map_err(|_| damaged("its signature is not the pinned key's over these bytes"))?;
        let said = signature
            .trusted_comment()
            .map_err(|_| damaged("its signature has no comment"))?;
        match said == comment(stack, id) {
            true => Ok(()),
            false => Err(damaged("its signature is that of another backup")),
        }
    }
}

impl Signer {
    /// Reads a secret key as minisign writes it; `password` opens one that is protected.
    ///
    /// # Errors
    /// Key where it is none, or cannot be opened.
    pub fn parse(text: &str, password: Option<&Secret>) -> Result<Self> {
        let wrong = |what: &str| Error::new(Kind::Key, format!("the signing key {what}"));
        let file = SecretKeyBox::from_string(text).map_err(|_| wrong("is not one of minisign"))?;
        let opened = match password {
            Some(password) => file.into_secret_key(Some(password.expose().to_owned())),
            None => file.into_unencrypted_secret_key(),
        };
        let key = opened.map_err(|_| match password {
            Some(_) => wrong("cannot be opened with this password"),
            None => wrong("is protected by a password").hint(
                "say where it is: [signature] password, or make a key without one: minisign -G -W",
            ),
        })?;
        Ok(Self(Arc::new(key)))
    }

    /// The text of `SHA256SUMS.minisig`.
    pub(super) fn sign(&self, sums: &[u8], stack: &str, id: &str) -> Result<Vec<u8>> {
        let trusted = comment(stack, id);
        let signature = minisign::sign(
            None,
            &self.0,
            Cursor::new(sums),
            Some(&trusted),
            Some("signature of SHA256SUMS"),
        )
        .or_fail(|| "cannot sign")?;
        Ok(signature.to_string().into_bytes())
    }
}

/// A new signing key without a password: the texts of minisign's two files, the secret one first.
///
/// # Errors
/// Where the system gives no random bytes.
pub fn generate_signing_key() -> Result<(Secret, String)> {
    let pair = minisign::KeyPair::generate_unencrypted_keypair().or_fail(|| "cannot make a key")?;
    let secret = pair.sk.to_box(None).or_fail(|| "cannot write the key")?;
    let public = pair.pk.to_box().or_fail(|| "cannot write the key")?;
    Ok((Secret::new(secret.to_string()), public.to_string()))
}

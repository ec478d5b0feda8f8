//! Keys from options, variables and the configuration. Their values are read here, at the edge.

use super::environment;
use crate::config::{Config, EncryptionConfig, IdentityRef};
use crate::error::{Error, Kind, OrFail, Result};
use crate::pipeline::{IdentityCollector, Recipients};
use crate::repository::{Keys, Protection, Signer, VerifyingKey};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What reading takes: the private keys at hand, and whose signature is wanted.
///
/// # Errors
/// Key where a private key that is named cannot be read or used.
pub(super) fn keys(files: &[PathBuf], config: &Config) -> Result<Keys> {
    let mut identities = IdentityCollector::default();
    for file in files {
        identities.add(&read(file)?, &file.display().to_string())?;
    }
    if let Some(text) = environment::setting("LIFEBOAT_IDENTITY")? {
        identities.add(&text, "LIFEBOAT_IDENTITY")?;
    }
    match &config.encryption.identity {
        None => {}
        Some(IdentityRef::File(file)) => {
            identities.add(&read(file)?, &file.display().to_string())?;
        }
        Some(IdentityRef::Env(name)) => {
            let text = environment::variable(name).ok_or_else(|| {
                Error::new(
                    Kind::Key,
                    format!("the identity is said to be in the variable {name}, which is not set"),
                )
            })?;
            identities.add(&text, &format!("the variable {name}"))?;
        }
        Some(IdentityRef::Command(words)) => {
            identities.add(&printed(words)?, "what the identity's command printed")?;
        }
    }
    if let Some(passphrase) = environment::setting("LIFEBOAT_PASSPHRASE")? {
        identities.add_passphrase(&passphrase);
    } else if let Some(passphrase) = &config.encryption.passphrase {
        identities.add_passphrase(environment::resolve(passphrase)?.expose());
    }
    let public = match environment::setting("LIFEBOAT_PUBLIC_KEY")? {
        Some(text) => Some(text),
        None => config.signature.public_key.clone(),
    };
    Ok(Keys {
        identities: identities.finish(),
        signed_by: public.map(|text| VerifyingKey::parse(&text)).transpose()?,
    })
}

/// How new backups are kept from being read and forged; `recipients` win over the variable, and that over the
/// configuration.
///
/// # Errors
/// Usage where a public key is none, or keys and a passphrase are both given.
pub(super) fn protection(recipients: &[String], config: &Config) -> Result<Protection> {
    let signature = &config.signature;
    let signer = match &signature.secret_key {
        None => None,
        Some(key) => {
            let password = signature.password.as_ref().map(environment::resolve);
            let key = environment::resolve(key)?;
            Some(Signer::parse(key.expose(), password.transpose()?.as_ref())?)
        }
    };
    Ok(Protection {
        recipients: encrypted_to(recipients, &config.encryption)?,
        signer,
        hide_names: config.encryption.hide_names,
    })
}

fn encrypted_to(named: &[String], config: &EncryptionConfig) -> Result<Option<Recipients>> {
    let mut text = named.join("\n");
    if text.is_empty() {
        text = environment::setting("LIFEBOAT_RECIPIENTS")?.unwrap_or_default();
    }
    if text.is_empty() {
        text = config.recipients.join("\n");
        if let Some(file) = &config.recipients_file {
            let more = std::fs::read_to_string(file)
                .or_fail(|| format!("cannot read the recipients in {}", file.display()))?;
            text = format!("{text}\n{more}");
        }
        if let Some(passphrase) = &config.passphrase {
            if !text.is_empty() {
                return Err(Error::usage(
                    "[encryption] has both recipients and a passphrase: age takes one or the other",
                ));
            }
            let passphrase = environment::resolve(passphrase)?;
            return Ok(Some(Recipients::passphrase(passphrase.expose())));
        }
    }
    match text.trim().is_empty() {
        true if config.hide_names => Err(Error::usage(
            "hide_names hides names only where the backup is encrypted",
        )
        .hint("say who it is encrypted to: [encryption] recipients")),
        true => Ok(None),
        false => Recipients::parse(&text).map(Some),
    }
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|error| {
        Error::new(
            Kind::Key,
            format!("cannot read the identity {}", file.display()),
        )
        .caused_by(error)
    })
}

/// What a program prints that gives a key.
fn printed(words: &[String]) -> Result<String> {
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| Error::usage("[encryption] identity has an empty command"))?;
    let failed =
        |why: String| Error::new(Kind::Key, format!("the identity's command {program} {why}"));
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed("cannot be run".to_owned()).caused_by(error))?;
    if !output.status.success() {
        return Err(failed(format!("ended with {}", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|_| failed("printed no text".to_owned()))
}

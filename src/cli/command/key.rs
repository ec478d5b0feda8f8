//! `lifeboat key generate` and `lifeboat key check`.

use crate::cli::args::{Chosen, KeyGenerate};
use crate::cli::environment::now;
use crate::cli::output::Output;
use crate::cli::session::Session;
use crate::error::{Error, OrFail, Result};
use crate::pipeline::generate_key;
use crate::repository::generate_signing_key;
use secrecy::ExposeSecret;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn generate(arguments: &KeyGenerate, output: &Output) -> Result<ExitCode> {
    let file = &arguments.output;
    let (public, hint) = if arguments.signing {
        let (secret, public) = generate_signing_key()?;
        write_new(file, secret.expose())?;
        let line = public.lines().last().unwrap_or_default().to_owned();
        (
            line,
            "in lifeboat.toml: [signature] secret_key where backups are made, public_key where they are trusted",
        )
    } else {
        let created = now().format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let (secret, public) = generate_key(&created);
        write_new(file, secret.expose_secret())?;
        (
            public,
            "the machine that backs up needs this line only: [encryption] recipients in lifeboat.toml",
        )
    };
    let text = format!(
        "{public}\nhint: {hint}\nhint: keep {} where it outlives this machine: without it nobody opens a backup",
        file.display()
    );
    let text = match arguments.signing {
        true => text
            .rsplit_once("\nhint")
            .map_or(text.clone(), |(start, _)| start.to_owned()),
        false => text,
    };
    let value = json!({ "public_key": public, "file": file });
    output.result("key", &value, &text);
    Ok(ExitCode::SUCCESS)
}

/// Writes a private key that nobody else may read, over nothing.
fn write_new(file: &Path, text: &str) -> Result<()> {
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    let mut opened = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Error::usage(format!("{} is there already", file.display()))
                .hint("a key that is overwritten opens no backup any more: choose another file"));
        }
        Err(error) => {
            return Err(Error::failed(format!("cannot write {}", file.display())).caused_by(error));
        }
    };
    opened
        .write_all(text.as_bytes())
        .and_then(|()| opened.sync_all())
        .or_fail(|| format!("cannot write {}", file.display()))
}

pub(super) async fn check(
    session: &Session,
    arguments: &Chosen,
    output: &Output,
) -> Result<ExitCode> {
    let repository = session.repository().await?;
    let entry = repository.resolve(&arguments.backup, None).await?;
    let backup = repository.open_backup(&entry).await?;
    let reference = entry.reference();
    let encrypted = backup.is_encrypted();
    let opened = async {
        backup.check_keys(&backup.manifest().artifacts).await?;
        backup.stack_json().await.map(|_| ())
    };
    opened
        .await
        .map_err(|error| error.while_doing(format!("the keys at hand do not open {reference}")))?;
    let count = backup.manifest().artifacts.len();
    let text = match encrypted {
        true => format!("the keys at hand open {reference}: facts, stack and {count} artifacts"),
        false => format!("{reference} is not encrypted: it needs no key"),
    };
    let value = json!({ "backup": reference, "encrypted": encrypted, "artifacts": count });
    output.result("key", &value, &text);
    Ok(ExitCode::SUCCESS)
}

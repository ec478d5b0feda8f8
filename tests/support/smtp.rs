//! A mail server on loopback: `tests/lab/smtp.py`, which says what it can.

use super::server::until;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The password that it wants of the user `backup`.
pub(crate) const PASSWORD: &str = "canary-mail-5d10";

/// The server; killed on drop.
pub(crate) struct MailServer {
    folder: TempDir,
    child: Child,
    pub(crate) port: u16,
}

impl MailServer {
    /// `mode` is `plain`, `starttls`, `implicit` or `stall`.
    #[expect(
        clippy::disallowed_methods,
        reason = "tests are told by the lab's environment"
    )]
    pub(crate) fn start(mode: &str) -> Self {
        let python = std::env::var("LIFEBOAT_LAB_PYTHON")
            .expect("tests/lab/lab stores; eval \"$(tests/lab/lab env)\"");
        let folder = tempfile::tempdir().unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/smtp.py");
        let child = Command::new(python)
            .args(["-B", script])
            .arg(folder.path())
            .arg(mode)
            .env("SMTP_PASSWORD", PASSWORD)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let port = until("the mail server listens", || {
            let text = std::fs::read_to_string(folder.path().join("port")).ok()?;
            text.parse().ok()
        });
        Self {
            folder,
            child,
            port,
        }
    }

    /// The certificate of its authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The mails that it took.
    pub(crate) fn mails(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("mails")).unwrap_or_default();
        let parsed = text.lines().map(serde_json::from_str);
        parsed.collect::<Result<_, _>>().unwrap()
    }

    /// What it answered, one line each.
    pub(crate) fn answers(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("answers")).unwrap_or_default()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

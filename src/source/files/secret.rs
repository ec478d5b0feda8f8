//! Which files are secrets, by their names. Those that a Compose file calls secrets are, too.

/// Names of environment files that are for everybody's eyes.
const EXAMPLES: [&str; 4] = ["example", "sample", "template", "dist"];
/// Ends of names: keys, and stores of keys.
const KEYS: [&str; 6] = [".pem", ".key", ".p12", ".pfx", ".jks", ".kdbx"];
/// Files that hold passwords.
const PASSWORDS: [&str; 4] = [".pgpass", ".netrc", ".htpasswd", ".git-credentials"];

/// Whether a file is one that only an encrypted backup may hold.
pub(super) fn is_secret(path: &str) -> bool {
    let path = path.to_lowercase();
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", &path));
    let is_example = |name: &str| {
        let mut parts = name.split('.');
        parts.any(|part| EXAMPLES.contains(&part))
    };
    let ends_in = |end: &str| name.ends_with(end);
    let is_environment = ends_in(".env") || name.starts_with(".env.");
    let is_key =
        KEYS.iter().any(|end| ends_in(end)) || (name.starts_with("id_") && !ends_in(".pub"));
    (is_environment && !is_example(name))
        || is_key
        || PASSWORDS.contains(&name)
        || folders
            .split('/')
            .any(|folder| folder == "secrets" || folder == ".secrets")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for path in [
            ".env",
            "a/prod.env",
            ".env.production",
            "secrets/x",
            "a/secrets/b/c",
            "tls/server.KEY",
            "ca.pem",
            "ssh/id_ed25519",
        ] {
            assert!(is_secret(path), "{path}");
        }
        for path in [
            "compose.yaml",
            ".env.example",
            "sample.env.dist",
            "secrets",
            "id_ed25519.pub",
            "environment",
            "keys.conf",
        ] {
            assert!(!is_secret(path), "{path}");
        }
    }
}

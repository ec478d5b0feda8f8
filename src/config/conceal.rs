//! What is secret in a line of configuration: a mistake in it is shown, its secrets are not.

/// Addresses that hold nothing secret. Of any other the rest may be a password.
const OPEN: [&str; 4] = ["file", "s3", "az", "gs"];
/// Keys that hold a reference to a secret, and by mistake the secret itself.
const SECRETS: [&str; 3] = ["password", "passphrase", "secret_key"];

/// Whether the line gives a value to a key that is for secrets.
pub(super) fn holds_secret(line: &str) -> bool {
    value(line).is_some()
}

/// What stands behind `password =`.
fn value(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=')?;
    let value = value.trim();
    // A reference is no secret.
    (SECRETS.contains(&key.trim()) && !value.starts_with('{')).then_some((key, value))
}

/// The line as it may be shown.
pub(super) fn line(line: &str) -> String {
    match value(line) {
        Some((key, _)) => format!("{key}= …"),
        None => addresses(line),
    }
}

/// What is wrong with a line, as it may be shown.
pub(super) fn message(line: &str, what: &str) -> String {
    match holds_secret(line) {
        true => {
            "a secret is not written here: { env = \"NAME\" } or { file = \"/path\" } says where it is"
                .to_owned()
        }
        false => addresses(what),
    }
}

/// The text without what stands at a span.
pub(super) fn span(text: &str, span: &std::ops::Range<usize>) -> String {
    let before = text.get(..span.start).unwrap_or_default();
    let after = text.get(span.end..).unwrap_or_default();
    format!("{before}\"…\"{after}")
}

/// Keeps `scheme://host` of addresses, and nothing behind it.
fn addresses(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, address)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        rest = address;
        let starts = |c: char| !c.is_ascii_alphanumeric();
        let scheme = before.rsplit(starts).next().unwrap_or_default();
        if OPEN.contains(&scheme) {
            continue;
        }
        let ends = |c: char| c.is_whitespace() || "\"'`".contains(c);
        let (address, after) = address.split_at(address.find(ends).unwrap_or(address.len()));
        // What stands before an @ is a login.
        let host = address.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        shown.push_str(host);
        if address.len() > host.len() {
            shown.push_str("/…");
        }
        rest = after;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_what_is_secret() {
        for (text, shown) in [
            (
                "url = \"https://a.example/T0/SECRET\" # x",
                "url = \"https://a.example/…\" # x",
            ),
            (
                "[\"http://u:p@b:8/s\", 'https://c?k=s']",
                "[\"http://b:8/…\", 'https://c/…']",
            ),
            ("\"s3://bucket/prefix\"", "\"s3://bucket/prefix\""),
            ("\"https://plain.example\"", "\"https://plain.example\""),
        ] {
            assert_eq!(line(text), shown);
        }
    }

    #[test]
    fn a_secret_in_the_place_of_its_reference_is_not_shown() {
        assert_eq!(line("  password = \"hunter2\""), "  password = …");
        let said = message("password = \"hunter2\"", "unknown variant `hunter2`");
        assert!(!said.contains("hunter2"), "{said}");
        let reference = "password = { env = \"X\", fil = 1 }";
        assert_eq!(line(reference), reference);
    }
}

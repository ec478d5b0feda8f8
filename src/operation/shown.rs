//! A command line as it may be shown: in plans, messages, logs and tags. What looks like a secret is masked.

use std::iter::Peekable;
use std::str::CharIndices;

/// What stands in the place of a secret.
const MASK: &str = "***";

/// Words that make the name of an option or a variable one of a secret's, lower case, `-` and `_` left out.
const SECRET_NAMES: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "credential",
    "authorization",
    "redisauth",
];

/// A command as one line, quoted as a shell would want it, secrets masked.
pub fn shown(command: &[String]) -> String {
    quoted(&masked(command))
}

/// Arguments as one line that a shell splits into them again.
pub fn quoted(arguments: &[String]) -> String {
    let quoted = arguments.iter().map(|argument| {
        // A byte 0 cannot be in an argument.
        shlex::try_quote(argument).map_or_else(|_| String::new(), Into::into)
    });
    quoted.collect::<Vec<String>>().join(" ")
}

/// The arguments of a command, with `***` where a secret looks out: `--password=…`, the word after `--password`,
/// `PASSWORD=…`, `Authorization: …`, `scheme://user:…@host`.
pub fn masked(command: &[String]) -> Vec<String> {
    let mut masked = Vec::with_capacity(command.len());
    let mut is_value = false;
    for argument in command {
        if is_value && !argument.starts_with('-') {
            masked.push(MASK.to_owned());
            is_value = false;
            continue;
        }
        is_value = argument.starts_with("--") && !argument.contains('=') && is_secret(argument);
        masked.push(without_user(&without_values(argument)));
    }
    masked
}

/// Whether a name is one that secrets have.
fn is_secret(name: &str) -> bool {
    let name: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    // A file that holds a secret is not the secret.
    !name.ends_with("file") && SECRET_NAMES.iter().any(|secret| name.contains(secret))
}

/// Masks what follows the name of a secret and `=` or `:`, wherever in the text that is.
fn without_values(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut name = String::new();
    let mut rest = text.char_indices().peekable();
    while let Some((_, c)) = rest.next() {
        shown.push(c);
        match c {
            '=' | ':' if is_secret(&name) => {
                shown.push_str(MASK);
                pass_value(&mut rest, c == ':');
                name.clear();
            }
            _ if c.is_ascii_alphanumeric() || c == '-' || c == '_' => name.push(c),
            _ => name.clear(),
        }
    }
    shown
}

/// Passes over a value: in quotes up to the closing one, a header's to the end of its line.
fn pass_value(rest: &mut Peekable<CharIndices<'_>>, is_header: bool) {
    let quote = rest
        .peek()
        .map(|(_, c)| *c)
        .filter(|c| ['\'', '"'].contains(c));
    if quote.is_some() {
        rest.next();
    }
    while let Some((_, c)) = rest.peek().copied() {
        let ends = match quote {
            Some(quote) => c == quote,
            None if is_header => ['\n', '\'', '"'].contains(&c),
            None => c.is_whitespace() || ['&', ';', '\'', '"'].contains(&c),
        };
        if ends {
            // A closing quote belongs to the value, another one to what stands around it.
            if quote.is_some() {
                rest.next();
            }
            return;
        }
        rest.next();
    }
}

/// Masks who logs in at an address: `postgres://app:secret@db/app`.
fn without_user(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || ['/', '?', '#', '\'', '"'].contains(&c))
            .unwrap_or(after.len());
        match after[..end].rfind('@') {
            Some(at) => {
                shown.push_str(MASK);
                rest = &after[at..];
            }
            None => rest = after,
        }
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        shown(&shlex::split(text).unwrap())
    }

    #[test]
    fn secrets_are_masked_and_the_rest_stays() {
        for (given, expected) in [
            ("npm run migration:run", "npm run migration:run"),
            (
                "x --password=canary --user app",
                "x '--password=***' --user app",
            ),
            (
                "x --password canary --user app",
                "x --password '***' --user app",
            ),
            ("x --password --user app", "x --password --user app"),
            ("env PGPASSWORD=canary psql", "env 'PGPASSWORD=***' psql"),
            ("x --api-key=canary", "x '--api-key=***'"),
            ("x --token-file=/run/x", "x '--token-file=/run/x'"),
            (
                "migrate postgres://app:can@ary@db:5432/app?sslmode=require",
                "migrate 'postgres://***@db:5432/app?sslmode=require'",
            ),
            (
                "migrate 'postgres://db/app?user=x&password=canary&sslmode=off'",
                "migrate 'postgres://db/app?user=x&password=***&sslmode=off'",
            ),
            (
                r#"sh -c "PGPASSWORD='can ary' psql -c 'select 1'""#,
                r#"sh -c "PGPASSWORD=*** psql -c 'select 1'""#,
            ),
            (
                "curl -H 'Authorization: Bearer canary' https://x",
                "curl -H 'Authorization:***' 'https://x'",
            ),
            (
                "psql 'host=db password=canary'",
                "psql 'host=db password=***'",
            ),
        ] {
            let shown = line(given);
            assert!(!shown.contains("ary"), "{shown}");
            assert_eq!(
                shown.replace('\'', ""),
                expected.replace('\'', ""),
                "{given}"
            );
        }
    }

    #[test]
    fn what_is_quoted_is_split_into_the_same() {
        let arguments: Vec<String> = ["a b", "it's", "", "$x", "\n", "-"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(shlex::split(&quoted(&arguments)).unwrap(), arguments);
    }
}

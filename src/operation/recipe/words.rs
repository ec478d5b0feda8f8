//! Names in commands and in text: nothing that somebody has called so is ever run.

use crate::manifest::{Artifact, Encoding};
use std::fmt::Write as _;

/// A word of a command, in single quotes.
pub(super) fn command_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A name as a text of SQL, in letters that no shell and no encoding minds.
pub(super) fn sql_text(text: &str) -> String {
    let mut escaped = String::from("U&'");
    for c in text.chars() {
        match c.is_ascii_alphanumeric() || "_-. ".contains(c) {
            true => escaped.push(c),
            // Writing to a string cannot fail.
            false => drop(write!(escaped, "\\+{:06X}", u32::from(c))),
        }
    }
    escaped.push('\'');
    escaped
}

/// A name from outside on one line of Markdown, outside code.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._:/@ ()+-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect()
}

/// The command that prints an artifact's plain bytes. Keys hold `A-Za-z0-9._%/-` only: nothing to quote.
pub(super) fn decode(artifact: &Artifact) -> String {
    let keys: Vec<&str> = artifact
        .objects
        .iter()
        .map(|object| object.key.as_str())
        .collect();
    let decrypt = match artifact.encoding.last() {
        Some(Encoding::Age) => " | age --decrypt --identity \"$IDENTITY\"",
        _ => "",
    };
    format!("cat {}{decrypt} | zstd -dc", keys.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_words_and_texts() {
        assert_eq!(command_word("a'b $(x)"), "'a'\\''b $(x)'");
        assert_eq!(sql_text("a'\n\u{e9}"), "U&'a\\+000027\\+00000A\\+0000E9'");
        assert_eq!(plain("a`b\n|"), "a_b__");
    }
}

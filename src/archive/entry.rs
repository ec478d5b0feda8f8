//! What one thing in a tree is.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// One thing in a tree: where it is, what it is, whose it is. The content of a file comes beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path below the tree's root, `/` between its parts; empty for the root itself. Any bytes but NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permissions with the set-id and sticky bits: `0o7777` at the most.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// When its content was last changed.
    pub mtime: Time,
    /// Extended attributes by their names on the disk. Access control lists are among them, in the kernel's form.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a thing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Directory,
    /// A file.
    File {
        /// Its length in bytes, holes included.
        size: u64,
        /// Where it has data; `None` where all of it is. What lies between reads as zeros and takes no room.
        segments: Option<Vec<Segment>>,
    },
    /// Another name of a file that came before.
    HardLink {
        /// That file's path.
        target: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// What it says, which is nobody's business here.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
}

impl Kind {
    /// The letter of this kind in digests and listings.
    pub fn letter(&self) -> char {
        match self {
            Self::Directory => 'd',
            Self::File { .. } => 'f',
            Self::HardLink { .. } => 'h',
            Self::Symlink { .. } => 'l',
            Self::Fifo => 'p',
        }
    }
}

/// A part of a file that has data, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// A time as files have it: seconds since 1970, and the billionths after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Seconds, before 1970 below zero.
    pub seconds: i64,
    /// Billionths of a second after that.
    pub nanoseconds: u32,
}

/// The order of paths in an archive: part by part, each by its bytes, so that a folder is followed by what is in it.
pub fn order(a: &[u8], b: &[u8]) -> Ordering {
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    a.iter().map(key).cmp(b.iter().map(key))
}

/// A path for a message: control characters and what is no text are escaped.
pub fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    let mut text = String::new();
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c.is_control() {
                true => text.extend(c.escape_default()),
                false => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str("\\x");
            text.push_str(&hex::encode([*byte]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_followed_by_what_is_in_it() {
        let mut paths: Vec<&[u8]> = vec![b"a-b", b"a/z", b"a", b"", b"a\x01", b"b"];
        paths.sort_by(|a, b| order(a, b));
        let expected: [&[u8]; 6] = [b"", b"a", b"a/z", b"a\x01", b"a-b", b"b"];
        assert_eq!(paths, expected);
    }

    #[test]
    fn paths_are_shown_without_harm() {
        assert_eq!(shown(b"a\n\xff\xc3\xa9"), "a\\n\\xff\u{e9}");
    }
}

//! The files that a server reads at its start.

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Where a server looks for its data at its start, and under which names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The folder, a path in the container (`dir`).
    pub dir: String,
    /// The snapshot's name (`dbfilename`).
    pub dbfilename: String,
    /// Whether the append-only file is what counts (`appendonly`).
    pub appendonly: bool,
    /// The folder of the append-only files, below `dir` (`appenddirname`); `None` before 7.0.
    pub appenddirname: Option<String>,
    /// Their name, or what their names begin with (`appendfilename`).
    pub appendfilename: String,
}

/// One file that a restore writes; its path below the data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The folder below the data folder, where there is one.
    pub folder: Option<String>,
    /// The snapshot itself.
    pub snapshot: String,
    /// An empty file and a manifest that belong to it: name and content.
    pub beside: Vec<(String, String)>,
}

impl Layout {
    /// What has to lie where, so that a server of this layout starts from a snapshot.
    ///
    /// With `appendonly yes` a server ignores the file of `dbfilename` and starts empty (redis#12484). What it
    /// reads instead is, since 7.0, the base file that a manifest names, which may be a snapshot; before, the
    /// append-only file itself, which may begin with one and have no tail.
    pub(super) fn target(&self) -> Target {
        match (self.appendonly, &self.appenddirname) {
            (false, _) => Target {
                folder: None,
                snapshot: self.dbfilename.clone(),
                beside: Vec::new(),
            },
            (true, None) => Target {
                folder: None,
                snapshot: self.appendfilename.clone(),
                beside: Vec::new(),
            },
            (true, Some(folder)) => {
                let name = &self.appendfilename;
                let base = format!("{name}.1.base.rdb");
                let increment = format!("{name}.1.incr.aof");
                let manifest = format!(
                    "file {} seq 1 type b\nfile {} seq 1 type i\n",
                    quoted(&base),
                    quoted(&increment)
                );
                Target {
                    folder: Some(folder.clone()),
                    snapshot: base,
                    beside: vec![
                        (increment, String::new()),
                        (format!("{name}.manifest"), manifest),
                    ],
                }
            }
        }
    }

    /// Every name below `dir` that the server may take for its data, whatever its settings are today.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names = vec![self.dbfilename.as_str(), self.appendfilename.as_str()];
        names.extend(self.appenddirname.as_deref());
        names.dedup();
        names.retain(|name| !name.is_empty());
        names
    }
}

/// A name as it stands in a manifest: in quotes where it holds anything but plain characters.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\');
    if name.chars().all(plain) {
        return name.to_owned();
    }
    let mut text = String::from("\"");
    for byte in name.bytes() {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(text, "\\x{byte:02x}")),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual(appendonly: bool, appenddirname: Option<&str>) -> Layout {
        Layout {
            dir: "/data".to_owned(),
            dbfilename: "dump.rdb".to_owned(),
            appendonly,
            appenddirname: appenddirname.map(str::to_owned),
            appendfilename: "appendonly.aof".to_owned(),
        }
    }

    #[test]
    fn a_snapshot_goes_where_the_server_reads_it() {
        let off = usual(false, Some("appendonlydir")).target();
        assert_eq!((off.folder, off.snapshot.as_str()), (None, "dump.rdb"));
        let old = usual(true, None).target();
        assert_eq!(
            (old.folder, old.snapshot.as_str()),
            (None, "appendonly.aof")
        );
        let new = usual(true, Some("appendonlydir")).target();
        assert_eq!(new.folder.as_deref(), Some("appendonlydir"));
        assert_eq!(new.snapshot, "appendonly.aof.1.base.rdb");
        assert_eq!(
            new.beside[1],
            (
                "appendonly.aof.manifest".to_owned(),
                "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"
                    .to_owned()
            )
        );
    }

    #[test]
    fn odd_names_are_quoted_in_the_manifest() {
        assert_eq!(quoted("a b\"\u{e9}"), "\"a b\\\"\\xc3\\xa9\"");
        assert_eq!(quoted("plain.aof"), "plain.aof");
    }
}

//! Which names of a tree are read, where not all are.

use crate::error::{Error, Result};
use rustix::fs::FileType;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;

/// Paths below a tree's root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chosen {
    /// The names in each folder, by its path; the root's is empty.
    folders: BTreeMap<Vec<u8>, BTreeSet<CString>>,
}

impl Chosen {
    /// Chooses a path, and the folders on the way to it.
    ///
    /// # Errors
    /// Failed for a path that could lead out of the tree.
    pub fn add(&mut self, path: &[u8]) -> Result<()> {
        let refused = || Error::failed("a path leads out of its tree");
        let mut folder = Vec::new();
        for part in path.split(|byte| *byte == b'/') {
            if part.is_empty() || part == b"." || part == b".." {
                return Err(refused());
            }
            let name = CString::new(part).map_err(|_| refused())?;
            self.folders.entry(folder.clone()).or_default().insert(name);
            if !folder.is_empty() {
                folder.push(b'/');
            }
            folder.extend_from_slice(part);
        }
        Ok(())
    }

    /// Whether nothing is chosen.
    pub fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// The chosen names in a folder; what they are is not known yet.
    pub(super) fn names(&self, folder: &[u8]) -> Vec<(CString, FileType)> {
        let names = self.folders.get(folder).into_iter().flatten();
        names
            .map(|name| (name.clone(), FileType::Unknown))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_brings_its_folders_and_none_leads_out() {
        let mut chosen = Chosen::default();
        for path in [&b"a/b/c"[..], b"a/d"] {
            chosen.add(path).unwrap();
        }
        let names = |folder: &[u8]| -> Vec<CString> {
            chosen.names(folder).into_iter().map(|one| one.0).collect()
        };
        assert_eq!(names(b""), [c"a".to_owned()]);
        assert_eq!(names(b"a"), [c"b".to_owned(), c"d".to_owned()]);
        assert_eq!(names(b"a/b"), [c"c".to_owned()]);
        for path in [&b"../x"[..], b"/etc", b"a/../../x", b"", b"a//b", b"a\0"] {
            assert!(Chosen::default().add(path).is_err(), "{path:?}");
        }
    }
}

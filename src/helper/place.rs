//! Puts a tree in the place of another within one folder, and back: renames only, so it takes no time and no room.
//!
//! The folder stays what it is, since it is what is mounted: its content is exchanged, and what it is itself (owner,
//! mode, attributes, time) goes with the content. The name of the folder that keeps the old content tells how far
//! an exchange came: with [`PARTIAL`] behind it, the old content is on its way; without, all of it is there, and
//! the new is coming in.

use crate::archive::{
    Entry, names as names_in, own_entry, remove as remove_tree, settle, shown, strip,
};
use crate::error::{Error, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, renameat, syncfs, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// What the name of every folder begins with that lifeboat makes in a volume.
const OURS: &str = ".lifeboat-";
/// What the names of folders end in whose content is not all there yet.
const PARTIAL: &str = ".partial";

/// Whether a name in a volume's root is one of lifeboat's own, left by a run that died: no part of the volume.
/// `.lifeboat-restoring-20261122T020000Z-k3f9`, and with [`PARTIAL`].
pub(super) fn is_ours(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(OURS.as_bytes()) else {
        return false;
    };
    let rest = rest.strip_suffix(PARTIAL.as_bytes()).unwrap_or(rest);
    let run = rest
        .strip_prefix(b"restoring-")
        .or_else(|| rest.strip_prefix(b"before-"));
    run.is_some_and(|run| {
        run.len() == "20261122T020000Z-k3f9".len() && run[8] == b'T' && run[15..17] == *b"Z-"
    })
}

/// Makes an empty folder for a tree on its way in.
pub(super) fn make(root: &OwnedFd, name: &str) -> Result<OwnedFd> {
    let name = own_name(name)?;
    let before = own_entry(root)?;
    mkdirat(root, &name, Mode::RWXU).map_err(|error| cannot("make", &name, error))?;
    settle(root, &before)?;
    open(root, &name)
}

/// Exchanges the root's content for that of its folder `incoming`; the old one goes to `aside`.
pub(super) fn swap(root: &OwnedFd, incoming: &str, aside: &str) -> Result<()> {
    let (incoming, partial, aside) = (own_name(incoming)?, partial(aside)?, own_name(aside)?);
    let new = open(root, &incoming)?;
    // Whatever is moved changes the times of the folders that it leaves and comes to.
    let (was, will_be) = (own_entry(root)?, own_entry(&new)?);
    mkdirat(root, &partial, Mode::RWXU).map_err(|error| cannot("make", &partial, error))?;
    let old = open(root, &partial)?;
    move_all(root, &old)?;
    become_like(&old, &was)?;
    rename(root, &partial, &aside)?;
    sync(root)?;
    move_all(&new, root)?;
    remove_empty(root, &incoming)?;
    become_like(root, &will_be)?;
    sync(root)
}

/// Takes [`swap`] back from wherever it came to; nothing to do is no error. What had come in goes to `incoming`.
pub(super) fn swap_back(root: &OwnedFd, incoming: &str, aside: &str) -> Result<()> {
    let (incoming, partial, aside) = (own_name(incoming)?, partial(aside)?, own_name(aside)?);
    let is_marked = exists(root, &aside)?;
    if is_marked {
        match mkdirat(root, &incoming, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(cannot("make", &incoming, error)),
        }
        let new = open(root, &incoming)?;
        let was = own_entry(root)?;
        move_all(root, &new)?;
        become_like(&new, &was)?;
        sync(root)?;
        rename(root, &aside, &partial)?;
    }
    if exists(root, &partial)? {
        let old = open(root, &partial)?;
        // While the old content was still being moved, the root was what it had been.
        let was = match is_marked {
            true => own_entry(&old)?,
            false => own_entry(root)?,
        };
        move_all(&old, root)?;
        remove_empty(root, &partial)?;
        become_like(root, &was)?;
    }
    sync(root)
}

/// Removes folders of lifeboat's own; every one of them where none is named.
pub(super) fn remove(root: &OwnedFd, names: &[String]) -> Result<()> {
    let names: Vec<CString> = match names {
        [] => names_in(root)?
            .into_iter()
            .filter(|name| is_ours(name.to_bytes()))
            .collect(),
        names => names
            .iter()
            .map(|name| own_name(name))
            .collect::<Result<_>>()?,
    };
    let was = own_entry(root)?;
    for name in names {
        remove_tree(root, &name)?;
    }
    settle(root, &was)?;
    sync(root)
}

/// Makes a folder itself what another one is or was, and nothing else.
fn become_like(folder: &OwnedFd, like: &Entry) -> Result<()> {
    strip(folder);
    settle(folder, like)
}

/// Moves everything but lifeboat's own folders.
fn move_all(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    for name in names_in(from)? {
        if !is_ours(name.to_bytes()) {
            renameat(from, &name, to, &name).map_err(|error| cannot("move", &name, error))?;
        }
    }
    Ok(())
}

fn open(root: &OwnedFd, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(root, name, flags, Mode::empty()).map_err(|error| cannot("open", name, error))
}

fn exists(root: &OwnedFd, name: &CStr) -> Result<bool> {
    match rustix::fs::statat(root, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(cannot("look at", name, error)),
    }
}

fn rename(root: &OwnedFd, from: &CStr, to: &CStr) -> Result<()> {
    renameat(root, from, root, to).map_err(|error| cannot("rename", from, error))
}

fn remove_empty(root: &OwnedFd, name: &CStr) -> Result<()> {
    unlinkat(root, name, AtFlags::REMOVEDIR).map_err(|error| cannot("remove", name, error))
}

fn sync(root: &OwnedFd) -> Result<()> {
    syncfs(root).map_err(|error| cannot("write", c".", error))
}

/// Only folders of lifeboat's own are made, moved or removed by name.
fn own_name(name: &str) -> Result<CString> {
    CString::new(name)
        .ok()
        .filter(|name| is_ours(name.to_bytes()))
        .ok_or_else(|| Error::failed(format!("{name:?} is no folder of lifeboat's")))
}

fn partial(aside: &str) -> Result<CString> {
    own_name(&format!("{aside}{PARTIAL}"))
}

fn cannot(what: &str, name: &CStr, error: Errno) -> Error {
    Error::failed(format!("cannot {what} {}", shown(name.to_bytes()))).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    const INCOMING: &str = ".lifeboat-restoring-20261122T020000Z-k3f9";
    const ASIDE: &str = ".lifeboat-before-20261122T020000Z-k3f9";

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A folder with `old` in it, and `new` on its way in.
    fn volume() -> (tempfile::TempDir, OwnedFd) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("old/deep")).unwrap();
        let root: OwnedFd = fs::File::open(folder.path()).unwrap().into();
        make(&root, INCOMING).unwrap();
        fs::write(folder.path().join(INCOMING).join("new"), "").unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&folder.path().join(INCOMING), 0o751);
        mode(folder.path(), 0o2775);
        let time = |path: &Path, seconds| {
            let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            let times = fs::FileTimes::new().set_modified(then);
            fs::File::open(path).unwrap().set_times(times).unwrap();
        };
        time(&folder.path().join(INCOMING), 2_000);
        time(folder.path(), 1_000);
        (folder, root)
    }

    /// When its content was changed, in seconds.
    fn time(folder: &Path) -> i64 {
        std::os::unix::fs::MetadataExt::mtime(&fs::metadata(folder).unwrap())
    }

    fn mode(folder: &Path) -> u32 {
        fs::metadata(folder).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_swap_is_whole_and_can_be_taken_back() {
        let (folder, root) = volume();
        swap(&root, INCOMING, ASIDE).unwrap();
        assert_eq!(names(folder.path()), [ASIDE, "new"]);
        assert_eq!(names(&folder.path().join(ASIDE)), ["old"]);
        assert_eq!(mode(folder.path()), 0o751);
        assert_eq!(time(folder.path()), 2_000);
        swap_back(&root, INCOMING, ASIDE).unwrap();
        assert_eq!(names(folder.path()), [INCOMING, "old"]);
        assert_eq!(mode(folder.path()), 0o2775);
        assert_eq!(time(folder.path()), 1_000);
        swap_back(&root, INCOMING, ASIDE).unwrap();
        remove(&root, &[]).unwrap();
        assert_eq!(names(folder.path()), ["old"]);
        assert_eq!(time(folder.path()), 1_000);
    }

    #[test]
    fn a_swap_that_died_half_way_is_taken_back() {
        // While the old content moved, and while the new did.
        let (folder, root) = volume();
        let partial = format!("{ASIDE}{PARTIAL}");
        fs::create_dir(folder.path().join(&partial)).unwrap();
        fs::write(folder.path().join(&partial).join("moved"), "").unwrap();
        swap_back(&root, INCOMING, ASIDE).unwrap();
        assert_eq!(names(folder.path()), [INCOMING, "moved", "old"]);
        let (folder, root) = volume();
        fs::create_dir(folder.path().join(ASIDE)).unwrap();
        fs::rename(
            folder.path().join("old"),
            folder.path().join(ASIDE).join("old"),
        )
        .unwrap();
        fs::rename(
            folder.path().join(INCOMING).join("new"),
            folder.path().join("new"),
        )
        .unwrap();
        swap_back(&root, INCOMING, ASIDE).unwrap();
        assert_eq!(names(folder.path()), [INCOMING, "old"]);
        assert_eq!(names(&folder.path().join(INCOMING)), ["new"]);
    }

    #[test]
    fn only_folders_of_our_own_are_touched() {
        assert!(is_ours(INCOMING.as_bytes()) && is_ours(format!("{ASIDE}.partial").as_bytes()));
        for name in [
            ".lifeboat-",
            ".lifeboat-restoring-mine",
            "lifeboat",
            ".lifeboat-before-20261122X020000Z-k3f9",
        ] {
            assert!(!is_ours(name.as_bytes()), "{name}");
        }
        let (folder, root) = volume();
        assert!(remove(&root, &["old".to_owned()]).is_err());
        assert!(remove(&root, &["../x".to_owned()]).is_err());
        assert_eq!(names(folder.path()), [INCOMING, "old"]);
    }
}

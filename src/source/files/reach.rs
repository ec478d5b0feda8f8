//! Where paths lead, and the text that is there.

use super::yaml;
use crate::error::{Error, OrFail, Result};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// The most links on the way to a file, as in the kernel.
const MOST_LINKS: usize = 40;

/// What a path comes to.
pub(super) enum Reached {
    There(PathBuf),
    /// A link that leads out.
    Elsewhere(PathBuf),
}

/// Where a path leads, link by link; the links are added to `links`. Outside of the project, only the folder of a
/// path is resolved: what is named there is taken as it is.
pub(super) fn follow(
    root: &Path,
    path: &Path,
    links: &mut Vec<PathBuf>,
) -> std::io::Result<Reached> {
    let Ok(below) = path.strip_prefix(root) else {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(Reached::There(path.to_owned()));
        };
        let path = folder.canonicalize()?.join(name);
        if fs::symlink_metadata(&path)?.is_symlink() {
            let target = fs::read_link(&path)?;
            links.push(path);
            return Ok(Reached::Elsewhere(target));
        }
        return Ok(Reached::There(path));
    };
    let mut rest: VecDeque<_> = below.iter().map(PathBuf::from).collect();
    let mut at = root.to_owned();
    while let Some(part) = rest.pop_front() {
        let next = at.join(&part);
        if !fs::symlink_metadata(&next)?.is_symlink() {
            at = next;
            continue;
        }
        if links.len() == MOST_LINKS {
            return Err(rustix::io::Errno::LOOP.into());
        }
        let said = fs::read_link(&next)?;
        links.push(next);
        let target = normal(&at.join(said));
        let Ok(inside) = target.strip_prefix(root) else {
            return Ok(Reached::Elsewhere(target));
        };
        for part in inside.iter().rev() {
            rest.push_front(PathBuf::from(part));
        }
        root.clone_into(&mut at);
    }
    Ok(Reached::There(at))
}

/// The text of a file of a length that such files have.
pub(super) fn read(path: &Path) -> Result<String> {
    let failed = || format!("cannot read {}", path.display());
    if !fs::metadata(path).or_fail(failed)?.is_file() {
        return Err(Error::failed(format!("{} is no file", path.display())));
    }
    let mut text = String::new();
    let file = File::open(path).or_fail(failed)?;
    file.take(yaml::LONGEST + 1)
        .read_to_string(&mut text)
        .or_fail(failed)?;
    match text.len() as u64 > yaml::LONGEST {
        true => Err(Error::failed(format!(
            "it has more than {} bytes",
            yaml::LONGEST
        ))),
        false => Ok(text),
    }
}

/// A path without `.` and `..`, as if it had no links.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

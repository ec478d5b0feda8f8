//! How much is in a tree: names and lengths only, nothing is opened but folders.

use super::protocol::Measure;
use crate::archive::open_root;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::Errno;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Mutex;

/// How many trees are measured at once.
const AT_ONCE: usize = 4;

/// Measures trees side by side; an error's text where one cannot be read.
pub(super) fn measure(roots: &[String]) -> Vec<Result<Measure, String>> {
    let waiting = Mutex::new(roots.iter().enumerate());
    let measured = Mutex::new(vec![Err("it was not measured".to_owned()); roots.len()]);
    std::thread::scope(|threads| {
        for _ in 0..AT_ONCE.min(roots.len()) {
            threads.spawn(|| {
                loop {
                    let next = waiting.lock().ok().and_then(|mut waiting| waiting.next());
                    let Some((index, root)) = next else { return };
                    let result = one(root);
                    if let Ok(mut measured) = measured.lock() {
                        measured[index] = result;
                    }
                }
            });
        }
    });
    measured.into_inner().unwrap_or_default()
}

fn one(root: &str) -> Result<Measure, String> {
    let root = open_root(Path::new(root)).map_err(|error| error.chain())?;
    let mut walk = Walk::default();
    walk.folder(&root).map_err(|error| error.to_string())?;
    Ok(walk.measure)
}

#[derive(Default)]
struct Walk {
    measure: Measure,
    /// Files with several names that were counted already, by device and inode.
    counted: HashSet<(u32, u32, u64)>,
}

impl Walk {
    fn folder(&mut self, folder: &OwnedFd) -> Result<(), Errno> {
        for found in Dir::read_from(folder)? {
            let found = found?;
            let name = found.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let stat = match statx(
                folder,
                name,
                AtFlags::SYMLINK_NOFOLLOW,
                StatxFlags::BASIC_STATS,
            ) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error),
            };
            let file = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
            let kind = FileType::from_raw_mode(stat.stx_mode.into());
            if kind == FileType::Directory {
                self.measure.directories += 1;
                self.measure.allocated += stat.stx_blocks * 512;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match openat(folder, name, flags, Mode::empty()) {
                    Ok(below) => self.folder(&below)?,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(error) => return Err(error),
                }
            } else if stat.stx_nlink < 2 || self.counted.insert(file) {
                self.measure.files += 1;
                self.measure.allocated += stat.stx_blocks * 512;
                if kind == FileType::RegularFile {
                    self.measure.bytes += stat.stx_size;
                }
            }
        }
        Ok(())
    }
}

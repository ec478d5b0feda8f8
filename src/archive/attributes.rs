//! Extended attributes, access control lists among them, of what is on a disk.

use super::acl;
use rustix::fd::OwnedFd;
use rustix::fs::{fgetxattr, flistxattr, lgetxattr, llistxattr};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};

/// The extended attributes of something that is open.
pub(super) fn attributes(file: &OwnedFd) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    collect(
        |buffer| flistxattr(file, buffer),
        |name, buffer| fgetxattr(file, name, buffer),
    )
}

/// Those of something that must not be opened: a pipe would wait for a writer.
pub(super) fn unopened_attributes(
    folder: &OwnedFd,
    name: &CStr,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let path = beside(folder, name);
    collect(
        |buffer| llistxattr(&path, buffer),
        |name, buffer| lgetxattr(&path, name, buffer),
    )
}

/// The path of a name in an open folder, for the calls that take no open folder.
pub(super) fn beside(folder: &OwnedFd, name: &CStr) -> CString {
    use rustix::fd::AsRawFd;
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    CString::new(path).unwrap_or_default()
}

fn collect(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&CStr, &mut [u8]) -> Result<usize, Errno>,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let mut attributes = BTreeMap::new();
    let names = match grown(&list) {
        Ok(names) => names,
        // A file system, or a kind of file, that has none.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(attributes),
        Err(error) => return Err(error),
    };
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        if !travels(name) {
            continue;
        }
        let Ok(text) = CString::new(name) else {
            continue;
        };
        match grown(|buffer| get(&text, buffer)) {
            Ok(value) => drop(attributes.insert(name.to_vec(), value)),
            // Removed since it was listed.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(attributes)
}

/// Whether an attribute belongs to the file and not to the machine: `SELinux` labels are the engine's own, and
/// `trusted.` is what file systems below this one keep there.
fn travels(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name == acl::ACCESS
        || name == acl::DEFAULT
        || name == b"security.capability"
}

/// What a call gives that fills a buffer, however long that is.
fn grown(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Ok(count) => {
                buffer.truncate(count);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(error) => return Err(error),
        }
    }
}

//! What the helper's image is made of: this very program, and the libraries that it runs with, at their own paths.
//!
//! A static executable needs nothing. A dynamic one takes along its loader, which its ELF header names, and the
//! libraries that are mapped into this process (`/proc/self/maps`).

use crate::archive::{Entry, Kind, Time, Writer};
use crate::error::{Error, OrFail, Result};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, elf};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where the program is in the image.
pub const PROGRAM: &str = "/lifeboat";
/// How much of an executable is looked at: its headers and the loader's name are at the beginning.
const HEADERS: u64 = 1 << 20;

/// The content of an image.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The machine that it runs on, as the engine calls it: `amd64`.
    pub architecture: &'static str,
    /// Tells this build from every other: hexadecimal digits.
    pub key: String,
    /// Folders that the loader shall look into.
    pub library_folders: Vec<String>,
    /// Files of the image, by their paths in it: where their bytes are.
    files: BTreeMap<PathBuf, PathBuf>,
    /// Symbolic links of the image, and where they lead.
    links: BTreeMap<PathBuf, PathBuf>,
}

impl Bundle {
    /// Of the program that runs now.
    pub fn of_this_program() -> Result<Self> {
        let program = Path::new("/proc/self/exe");
        let header = Header::of(program)?;
        let mut libraries = BTreeSet::new();
        let mut files = BTreeMap::from([(PathBuf::from(PROGRAM), program.to_owned())]);
        if let Some(loader) = header.loader {
            files.insert(loader.clone(), loader);
            let maps =
                std::fs::read("/proc/self/maps").or_fail(|| "cannot read /proc/self/maps")?;
            let own = std::fs::read_link(program).unwrap_or_default();
            libraries = mapped(&maps);
            libraries.remove(&own);
        }
        let mut links = BTreeMap::new();
        let mut folders = BTreeSet::new();
        for library in libraries {
            if let Some(folder) = library.parent() {
                folders.insert(folder.to_string_lossy().into_owned());
                links.extend(other_names(folder, &library));
            }
            files.entry(library.clone()).or_insert(library);
        }
        links.retain(|link, _| !files.contains_key(link));
        Self::new(header.architecture, folders, files, links)
    }

    /// Of another executable of lifeboat's, for an engine on another kind of machine.
    ///
    /// # Errors
    /// Usage where it is no executable, or not a static one: its libraries are not known here.
    pub fn of(program: &Path) -> Result<Self> {
        let header =
            Header::of(program).map_err(|error| error.with_kind(crate::error::Kind::Usage))?;
        if header.loader.is_some() {
            return Err(Error::usage(format!(
                "{} is dynamically linked, and its libraries are not known here",
                program.display()
            ))
            .hint("build it statically: cargo build --release --target …-unknown-linux-musl"));
        }
        let files = BTreeMap::from([(PathBuf::from(PROGRAM), program.to_owned())]);
        Self::new(header.architecture, BTreeSet::new(), files, BTreeMap::new())
    }

    fn new(
        architecture: &'static str,
        folders: BTreeSet<String>,
        files: BTreeMap<PathBuf, PathBuf>,
        links: BTreeMap<PathBuf, PathBuf>,
    ) -> Result<Self> {
        let mut hasher = Sha256::new();
        for (path, source) in &files {
            hasher.update(path.as_os_str().as_bytes());
            let mut file =
                File::open(source).or_fail(|| format!("cannot read {}", source.display()))?;
            let mut buffer = vec![0; 256 * 1024];
            loop {
                match file
                    .read(&mut buffer)
                    .or_fail(|| format!("cannot read {}", source.display()))?
                {
                    0 => break,
                    count => hasher.update(&buffer[..count]),
                }
            }
        }
        Ok(Self {
            architecture,
            key: hex::encode(&hasher.finalize()[..10]),
            library_folders: folders.into_iter().collect(),
            files,
            links,
        })
    }

    /// Writes the image's files as a tar archive.
    pub fn write(&self, sink: impl Write) -> Result<()> {
        let mut writer = Writer::new(sink);
        let mut made = BTreeSet::new();
        let entry = |path: &Path, kind, mode| Entry {
            path: path
                .as_os_str()
                .as_bytes()
                .iter()
                .copied()
                .skip(1)
                .collect(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            attributes: BTreeMap::new(),
        };
        for path in self.files.keys().chain(self.links.keys()) {
            let mut folders: Vec<&Path> = path.ancestors().skip(1).collect();
            folders.reverse();
            for folder in folders
                .into_iter()
                .filter(|folder| made.insert((*folder).to_owned()))
            {
                writer.begin(&entry(folder, Kind::Directory, 0o755))?;
            }
            if let Some(target) = self.links.get(path) {
                let target = target.as_os_str().as_bytes().to_vec();
                writer.begin(&entry(path, Kind::Symlink { target }, 0o777))?;
                continue;
            }
            let source = &self.files[path];
            let failed = || format!("cannot read {}", source.display());
            let mut file = File::open(source).or_fail(failed)?;
            let size = file.metadata().or_fail(failed)?.len();
            let kind = Kind::File {
                size,
                segments: None,
            };
            writer.begin(&entry(path, kind, 0o755))?;
            let mut buffer = vec![0; 256 * 1024];
            loop {
                match file.read(&mut buffer).or_fail(failed)? {
                    0 => break,
                    count => writer.data(&buffer[..count])?,
                }
            }
        }
        writer.finish().map(|_| ())
    }
}

/// What an executable's headers say.
struct Header {
    architecture: &'static str,
    /// The dynamic loader, where it needs one.
    loader: Option<PathBuf>,
}

impl Header {
    fn of(path: &Path) -> Result<Self> {
        let failed = || format!("cannot read {}", path.display());
        let mut bytes = Vec::new();
        File::open(path)
            .or_fail(failed)?
            .take(HEADERS)
            .read_to_end(&mut bytes)
            .or_fail(failed)?;
        Self::parse(&bytes).ok_or_else(|| {
            Error::failed(format!(
                "{} is no Linux executable that lifeboat knows",
                path.display()
            ))
        })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        const CLASS_64: u8 = 2;
        match bytes.get(4) == Some(&CLASS_64) {
            true => Self::read::<elf::FileHeader64<Endianness>>(bytes),
            false => Self::read::<elf::FileHeader32<Endianness>>(bytes),
        }
    }

    fn read<H: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Option<Self> {
        let header = H::parse(bytes).ok()?;
        let endian = header.endian().ok()?;
        let mut segments = header.program_headers(endian, bytes).ok()?.iter();
        let loader = segments.find_map(|segment| segment.interpreter(endian, bytes).ok()?);
        Some(Self {
            architecture: architecture(header.e_machine(endian), endian)?,
            loader: loader.map(|name| {
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                PathBuf::from(OsString::from_vec(name.to_vec()))
            }),
        })
    }
}

/// The machine, by the engine's word for it.
fn architecture(machine: elf::Machine, endian: Endianness) -> Option<&'static str> {
    Some(match (machine, endian) {
        (elf::EM_X86_64, _) => "amd64",
        (elf::EM_AARCH64, _) => "arm64",
        (elf::EM_ARM, _) => "arm",
        (elf::EM_386, _) => "386",
        (elf::EM_PPC64, Endianness::Little) => "ppc64le",
        (elf::EM_RISCV, _) => "riscv64",
        (elf::EM_LOONGARCH, _) => "loong64",
        (elf::EM_S390, _) => "s390x",
        _ => return None,
    })
}

/// The files that are mapped as programs into a process.
fn mapped(maps: &[u8]) -> BTreeSet<PathBuf> {
    maps.split(|byte| *byte == b'\n')
        .filter_map(|line| {
            // address, permissions, offset, device, inode, path
            let mut fields = line.splitn(6, |byte| *byte == b' ');
            let permissions = fields.nth(1)?;
            let path = fields.nth(3)?.trim_ascii_start();
            let is_file = path.starts_with(b"/") && !path.ends_with(b" (deleted)");
            (permissions.contains(&b'x') && is_file)
                .then(|| PathBuf::from(OsString::from_vec(path.to_vec())))
        })
        .collect()
}

/// The links beside a library that lead to it: the name that programs ask for may be one of them.
fn other_names(folder: &Path, library: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return BTreeMap::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_symlink() && path.canonicalize().is_ok_and(|real| real == library))
        .map(|path| (path, library.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_of_this_program_has_what_it_runs_with() {
        let bundle = Bundle::of_this_program().unwrap();
        assert_eq!(bundle.key, Bundle::of_this_program().unwrap().key);
        let mut bytes = Vec::new();
        bundle.write(&mut bytes).unwrap();
        let mut reader = crate::archive::Reader::new(&bytes[..]);
        let paths: Vec<Vec<u8>> = std::iter::from_fn(|| reader.next_entry().unwrap())
            .map(|entry| entry.path)
            .collect();
        assert!(paths.contains(&b"lifeboat".to_vec()));
        let has = |part: &str| {
            paths
                .iter()
                .any(|path| String::from_utf8_lossy(path).contains(part))
        };
        assert_eq!(has("ld-"), has("libc"), "a dynamic program needs both");
    }

    #[test]
    fn what_is_mapped_is_read_from_the_kernels_lines() {
        let maps = b"7f-80 r-xp 00000000 08:01 42      /usr/lib/a b.so.1\n80-81 r--p 0 08:01 42 /usr/lib/data\n\
                     81-82 r-xp 0 00:00 0 [vdso]\n82-83 r-xp 0 08:01 9 /gone.so (deleted)\n83-84 rwxp 0 00:00 0 \n";
        assert_eq!(
            mapped(maps),
            BTreeSet::from([PathBuf::from("/usr/lib/a b.so.1")])
        );
    }

    #[test]
    fn what_is_no_executable_is_refused() {
        let error = Bundle::of(Path::new("/etc/passwd")).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Usage);
        let error = Bundle::of(Path::new("/bin/sh")).unwrap_err();
        assert!(error.to_string().contains("dynamically linked"), "{error}");
    }
}

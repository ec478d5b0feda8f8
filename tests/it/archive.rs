//! Archives of trees, against the programs that other people have: GNU tar, bsdtar, Python. They need root.

use crate::support::soak;
use crate::support::tree::{SPARSE, furnish, furnish_irregular, noise, same};
use lifeboat::archive::{
    Archiver, Entry, Irregular, Kind, Reader, Scan, Time, TreeDigest, TreeFacts, Writer, extract,
    open_root, scan,
};
use rustix::fs::{AtFlags, Mode, OFlags, linkat, mkdirat, openat, symlinkat};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/reader.py");

/// A tree, room for a second one, and an archive's path.
struct Trees {
    _folder: TempDir,
    from: PathBuf,
    to: PathBuf,
    tar: PathBuf,
}

impl Trees {
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "owners need root");
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("from")).unwrap();
        fs::create_dir(at("to")).unwrap();
        Self {
            from: at("from"),
            to: at("to"),
            tar: at("archive.tar"),
            _folder: folder,
        }
    }

    fn furnished() -> Self {
        let trees = Self::new();
        furnish(&trees.from);
        trees
    }

    /// Archives the first tree; what was left out or changed must be nothing.
    fn archive(&self) -> TreeFacts {
        let (facts, irregular) = archive(&self.from, &self.tar);
        assert_eq!(irregular, Irregular::default());
        facts
    }

    /// Extracts the archive as the second tree.
    fn extract(&self) -> TreeFacts {
        let file = BufReader::new(fs::File::open(&self.tar).unwrap());
        extract(&mut Reader::new(file), &open_root(&self.to).unwrap()).unwrap()
    }

    /// GNU tar with its options for a volume.
    fn tar(&self, action: &str, folder: &Path) -> Command {
        let mut tar = Command::new("tar");
        tar.args([action, "--numeric-owner", "--sparse", "--acls"]);
        tar.arg("--file").arg(&self.tar).arg("-C").arg(folder);
        tar
    }

    fn gnu_extract(&self) {
        let mut tar = self.tar("--extract", &self.to);
        tar.args(["--same-owner", "--xattrs", "--xattrs-include=*"]);
        // It finds times before 1970 and in the future implausible, and sets them.
        quiet(tar.arg("--warning=no-timestamp"));
    }

    fn gnu_create(&self) {
        let mut tar = self.tar("--create", &self.from);
        tar.args(["--format=posix", "--sort=name", "--xattrs"]);
        // The kernel's form of a list would come twice.
        tar.args([
            "--xattrs-include=user.*",
            "--xattrs-include=security.capability",
        ]);
        quiet(tar.arg("."));
    }
}

fn archive(folder: &Path, tar: &Path) -> (TreeFacts, Irregular) {
    let sink = BufWriter::new(fs::File::create(tar).unwrap());
    let mut archiver = Archiver::new(sink);
    let irregular = scan(&open_root(folder).unwrap(), Scan::default(), &mut archiver).unwrap();
    let (sink, written, facts) = archiver.finish().unwrap();
    let file = sink.into_inner().unwrap();
    assert_eq!(file.metadata().unwrap().len(), written);
    (facts, irregular)
}

/// The facts of a tree on the disk.
fn facts(folder: &Path) -> TreeFacts {
    let mut digest = TreeDigest::new();
    scan(&open_root(folder).unwrap(), Scan::default(), &mut digest).unwrap();
    digest.finish()
}

fn succeed(command: &mut Command) -> Output {
    let output = command.env("LC_ALL", "C.UTF-8").output();
    let output =
        output.unwrap_or_else(|error| panic!("{command:?}: {error}: see `tests/lab/lab programs`"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    output
}

/// Runs a program that must have nothing to complain about.
fn quiet(command: &mut Command) -> String {
    let output = succeed(command);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "", "{command:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a file takes on the disk, in bytes.
fn room(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().blocks() * 512
}

fn assert_holes(folder: &Path) {
    for (name, most) in [
        ("sparse", 64 << 10),
        ("sparse to its last byte", 16 << 10),
        ("hole", 0),
        ("holey", 100 * (8 << 10)),
    ] {
        let taken = room(&folder.join(name));
        assert!(taken <= most, "{name} takes {taken} bytes");
    }
    assert_eq!(
        fs::metadata(folder.join("sparse")).unwrap().len(),
        SPARSE,
        "holes at the end count"
    );
}

#[test]
fn a_tree_comes_back_with_everything_that_rsync_can_see() {
    let trees = Trees::furnished();
    let written = trees.archive();
    assert!(
        fs::metadata(&trees.tar).unwrap().len() < 8 << 20,
        "holes take no room in an archive"
    );
    assert_eq!(trees.extract(), written);
    assert_eq!(facts(&trees.to), written);
    assert_eq!(same(&trees.from, &trees.to), "");
    assert_holes(&trees.to);
}

#[test]
fn gnu_tar_extracts_what_lifeboat_archives() {
    let trees = Trees::furnished();
    let written = trees.archive();
    trees.gnu_extract();
    assert_eq!(same(&trees.from, &trees.to), "");
    assert_eq!(facts(&trees.to), written);
    assert_holes(&trees.to);
}

#[test]
fn lifeboat_extracts_what_gnu_tar_archives() {
    let trees = Trees::furnished();
    // GNU tar forgets that two pipes are one.
    fs::remove_file(trees.from.join("links/fifo")).unwrap();
    trees.gnu_create();
    assert_eq!(trees.extract(), facts(&trees.from));
    assert_eq!(same(&trees.from, &trees.to), "");
    assert_holes(&trees.to);
}

/// What bsdtar 3.6 has of its own: times before 1970 lose their fractions' sign, `%3D` stays in the names of
/// attributes, and there are no users beyond 2147483647 in its lists.
fn is_bsdtars(difference: &str) -> bool {
    let (what, path) = difference.split_at(difference.len().min(12));
    let is_before_1970 = path == "./" || path.starts_with("times/") && path.contains(" -");
    match what {
        ".f........x " => path == "attributes",
        ".f.......a. " => path == "lists/large",
        ".f..t...... " | ".d..t...... " | ".L..t...... " => is_before_1970,
        _ => false,
    }
}

#[test]
fn bsdtar_lists_and_extracts_what_lifeboat_archives() {
    let trees = Trees::furnished();
    let written = trees.archive();
    let bsdtar = |arguments: &[&str]| {
        let mut bsdtar = Command::new("bsdtar");
        bsdtar.args(arguments).arg("-f").arg(&trees.tar);
        // Any other locale would have it compose letters and accents.
        let output = bsdtar.arg("-C").arg(&trees.to).env("LC_ALL", "C").output();
        let output = output.expect("bsdtar runs: see `tests/lab/lab programs`");
        // It takes names as they are, and complains where they are no text.
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            let known = line.ends_with("name can't be converted from UTF-8 to current locale.")
                || line == "bsdtar: Error exit delayed from previous errors.";
            assert!(known, "{line}");
        }
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let entries =
        written.files + written.directories + written.symlinks + written.hard_links + written.fifos;
    assert_eq!(bsdtar(&["-t"]).lines().count() as u64, entries);
    let everything = ["--same-owner", "--numeric-owner", "--acls", "--xattrs"];
    bsdtar(&[&["-xp"], &everything[..]].concat());
    let differences = same(&trees.from, &trees.to);
    let unknown: Vec<&str> = differences
        .lines()
        .filter(|line| !is_bsdtars(line))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert_holes(&trees.to);
}

#[test]
fn a_second_reader_gives_an_archive_the_same_digest() {
    let trees = Trees::furnished();
    let written = trees.archive();
    let mut python = Command::new("python3");
    python.args(["-I", "-S", READER, "digest"]).arg(&trees.tar);
    let read: TreeFacts = serde_json::from_str(&quiet(&mut python)).unwrap();
    assert_eq!(read, written);
}

#[test]
fn devices_and_sockets_are_told_and_left_out() {
    let trees = Trees::new();
    fs::create_dir(trees.from.join("folder")).unwrap();
    fs::write(trees.from.join("file"), "x").unwrap();
    furnish_irregular(&trees.from);
    furnish_irregular(&trees.from.join("folder"));
    let (written, irregular) = archive(&trees.from, &trees.tar);
    let skipped = [
        "device (a device)",
        "disk (a device)",
        "folder/device (a device)",
        "folder/disk (a device)",
        "folder/socket (a socket)",
        "socket (a socket)",
    ];
    assert_eq!(irregular.skipped, skipped);
    assert!(irregular.changed.is_empty());
    assert_eq!((written.files, written.directories), (1, 2));
    assert_eq!(trees.extract(), written);
    let missing = same(&trees.to, &trees.from);
    assert_eq!(missing.matches("*deleting").count(), skipped.len());
    assert_eq!(missing.lines().count(), skipped.len(), "{missing}");
}

#[test]
fn many_small_files_come_back() {
    let count = soak(20_000, 100_000);
    let trees = Trees::new();
    fs::create_dir(trees.from.join("flat")).unwrap();
    for number in 0..count {
        // Half of them in one folder, half in many.
        let path = match number % 2 {
            0 => format!("flat/{number}"),
            _ => format!("{}/{number}", number / 100),
        };
        let path = trees.from.join(path);
        if number % 100 == 1 {
            fs::create_dir(path.parent().unwrap()).unwrap();
        }
        fs::write(path, number.to_string()).unwrap();
    }
    let written = trees.archive();
    assert_eq!(written.files, u64::from(count));
    assert_eq!(written.directories, u64::from(count) / 100 + 2);
    assert_eq!(trees.extract(), written);
    assert_eq!(facts(&trees.to), written);
    assert_eq!(same(&trees.from, &trees.to), "");
}

#[test]
fn a_file_of_4_gigabytes_of_holes_comes_back_as_one() {
    // Offsets on both sides of what 31 and 32 bits hold.
    const SIZE: u64 = (4 << 30) + (1 << 20) + 7;
    const PIECES: [u64; 4] = [0, 1 << 30, 3 << 30, (4 << 30) + 8192];
    let check = |folder: &Path| {
        let path = folder.join("file");
        let file = fs::File::open(&path).unwrap();
        assert_eq!(file.metadata().unwrap().len(), SIZE);
        for offset in PIECES {
            let mut found = [0; 4096];
            file.read_exact_at(&mut found, offset).unwrap();
            assert_eq!(found, *noise(4096), "{offset}");
        }
        assert!(room(&path) < 1 << 20, "{} bytes", room(&path));
    };
    let trees = Trees::new();
    let file = fs::File::create(trees.from.join("file")).unwrap();
    for offset in PIECES {
        file.write_all_at(&noise(4096), offset).unwrap();
    }
    file.set_len(SIZE).unwrap();
    check(&trees.from);
    let written = trees.archive();
    assert_eq!(written.bytes, SIZE);
    let length = fs::metadata(&trees.tar).unwrap().len();
    assert!(length < 64 << 10, "{length} bytes");
    assert_eq!(trees.extract(), written);
    check(&trees.to);
    fs::remove_file(trees.to.join("file")).unwrap();
    trees.gnu_extract();
    check(&trees.to);
}

/// Keeps what is written, but for whole chunks.
#[derive(Default)]
struct Sink {
    head: Vec<u8>,
    chunks: u64,
    tail: Vec<u8>,
}

/// A megabyte of nothing.
static CHUNK: [u8; 1 << 20] = [0; 1 << 20];

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (bytes.len() == CHUNK.len(), self.chunks) {
            (true, _) => self.chunks += 1,
            (false, 0) => self.head.extend_from_slice(bytes),
            (false, _) => self.tail.extend_from_slice(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_size_that_no_header_holds_is_understood() {
    // 8 GiB less one byte is the most.
    let chunks = 8 << 10;
    let size = chunks << 20;
    let entry = |path: &[u8], kind| Entry {
        path: path.to_vec(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        attributes: BTreeMap::new(),
    };
    let file = |size| Kind::File {
        size,
        segments: None,
    };
    let mut writer = Writer::new(Sink::default());
    writer.begin(&entry(b"", Kind::Directory)).unwrap();
    writer.begin(&entry(b"large", file(size))).unwrap();
    for _ in 0..chunks {
        writer.data(&CHUNK).unwrap();
    }
    writer.begin(&entry(b"next", file(4))).unwrap();
    writer.data(b"data").unwrap();
    let (sink, length) = writer.finish().unwrap();
    assert_eq!(sink.chunks, chunks);

    let zeros = io::repeat(0).take(size);
    let source = sink.head.chain(zeros).chain(&sink.tail[..]);
    let mut reader = Reader::new(source);
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        found.push((entry.path, entry.kind));
    }
    let expected = [
        (b"".to_vec(), Kind::Directory),
        (b"large".to_vec(), file(size)),
        (b"next".to_vec(), file(4)),
    ];
    assert_eq!(found, expected);

    let trees = Trees::new();
    let archive = fs::File::create(&trees.tar).unwrap();
    archive.set_len(length).unwrap();
    archive.write_all_at(&sink.head, 0).unwrap();
    let behind = sink.head.len() as u64 + size;
    archive.write_all_at(&sink.tail, behind).unwrap();
    for program in ["tar", "bsdtar"] {
        let mut tar = Command::new(program);
        let listed = quiet(tar.arg("-tvf").arg(&trees.tar));
        let lines: Vec<Vec<&str>> = listed
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let says = |line: &[&str], word: &str| line.contains(&word);
        assert_eq!(lines.len(), 3, "{listed}");
        assert!(says(&lines[1], "./large"), "{listed}");
        assert!(says(&lines[1], &size.to_string()), "{listed}");
        assert!(
            says(&lines[2], "./next") && says(&lines[2], "4"),
            "{listed}"
        );
    }
}

#[test]
fn names_of_every_byte_come_back() {
    let trees = Trees::new();
    for byte in (1..=255).filter(|byte| *byte != b'/') {
        let mut names = vec![vec![b'n', byte, b'm'], vec![b'n', byte]];
        // The folder itself has this one.
        if byte != b'.' {
            names.push(vec![byte]);
        }
        for name in names {
            fs::write(trees.from.join(OsStr::from_bytes(&name)), &name).unwrap();
        }
    }
    let written = trees.archive();
    assert_eq!(written.files, 3 * 254 - 1);
    assert_eq!(trees.extract(), written);
    assert_eq!(same(&trees.from, &trees.to), "");
    let again = || {
        fs::remove_dir_all(&trees.to).unwrap();
        fs::create_dir(&trees.to).unwrap();
    };
    again();
    trees.gnu_extract();
    assert_eq!(same(&trees.from, &trees.to), "");
    again();
    trees.gnu_create();
    assert_eq!(trees.extract(), written);
}

#[test]
fn a_path_longer_than_the_kernel_takes_comes_back() {
    let trees = Trees::new();
    let name = "n".repeat(250);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = open_root(&trees.from).unwrap();
    // PATH_MAX is 4096.
    for _ in 0..20 {
        mkdirat(&folder, &name, Mode::RWXU).unwrap();
        folder = openat(&folder, &name, flags, Mode::empty()).unwrap();
    }
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = openat(&folder, "file", create, Mode::RUSR).unwrap();
    fs::File::from(file).write_all(b"the bottom").unwrap();
    symlinkat("file", &folder, "link").unwrap();
    let root = open_root(&trees.from).unwrap();
    linkat(&folder, "file", &root, "zz", AtFlags::empty()).unwrap();
    let written = trees.archive();
    assert_eq!((written.files, written.hard_links), (1, 1));
    assert_eq!(trees.extract(), written);
    assert_eq!(facts(&trees.to), written);
    assert_eq!(fs::read(trees.to.join("zz")).unwrap(), b"the bottom");
}

#[test]
fn nothing_is_inherited_from_the_folder_that_is_filled() {
    let trees = Trees::new();
    fs::create_dir(trees.from.join("folder")).unwrap();
    fs::write(trees.from.join("folder/file"), "x").unwrap();
    let written = trees.archive();
    let mut setfacl = Command::new("setfacl");
    setfacl.args(["-m", "u:12345:rwx,d:u:12345:rwx"]);
    quiet(setfacl.arg(&trees.to));
    assert_ne!(same(&trees.from, &trees.to), "");
    assert_eq!(trees.extract(), written);
    assert_eq!(same(&trees.from, &trees.to), "");
}

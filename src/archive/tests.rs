//! Archives of real trees, ours against ourselves: a tree, its archive, the tree again.

use super::*;
use proptest::prelude::*;
use rustix::fd::OwnedFd;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

fn root(path: &Path) -> OwnedFd {
    fs::File::open(path).unwrap().into()
}

fn archived(path: &Path) -> (Vec<u8>, TreeFacts, Irregular) {
    let mut archiver = Archiver::new(Vec::new());
    let irregular = scan(&root(path), Scan::default(), &mut archiver).unwrap();
    let (bytes, length, facts) = archiver.finish().unwrap();
    assert_eq!(bytes.len() as u64, length);
    (bytes, facts, irregular)
}

fn facts(path: &Path) -> TreeFacts {
    let mut digest = TreeDigest::new();
    scan(&root(path), Scan::default(), &mut digest).unwrap();
    digest.finish()
}

#[test]
fn a_tree_comes_back_with_everything() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &str| from.path().join(name);
    fs::create_dir_all(at("a/empty")).unwrap();
    fs::write(at("a/file"), "content").unwrap();
    fs::set_permissions(at("a/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(at("a/file"), at("z")).unwrap();
    symlink("../nowhere", at("a/link")).unwrap();
    fs::write(at(&"long".repeat(60)), "x").unwrap();
    fs::write(
        from.path()
            .join(std::ffi::OsStr::from_bytes(b"bad\xff\nname")),
        "",
    )
    .unwrap();
    let sparse = fs::File::create(at("sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"middle", 5 << 20).unwrap();
    sparse
        .set_times(
            fs::FileTimes::new()
                .set_modified(std::time::UNIX_EPOCH - std::time::Duration::new(5, 250_000_001)),
        )
        .unwrap();
    fs::set_permissions(at("a"), fs::Permissions::from_mode(0o500)).unwrap();
    let (bytes, written, irregular) = archived(from.path());
    assert_eq!(irregular, Irregular::default());
    assert!(bytes.len() < 1 << 20, "holes take no room");
    let extracted = extract(&mut Reader::new(&bytes[..]), &root(to.path())).unwrap();
    assert_eq!(extracted, written);
    assert_eq!(facts(to.path()), written);
    assert_eq!(examine(&mut Reader::new(&bytes[..])).unwrap(), written);
    let stat = |folder: &Path, name: &str| fs::symlink_metadata(folder.join(name)).unwrap();
    for name in ["a", "a/file", "a/link", "sparse", "a/empty", ""] {
        let (before, after) = (stat(from.path(), name), stat(to.path(), name));
        let look =
            |stat: &fs::Metadata| (stat.mtime(), stat.mtime_nsec(), stat.mode(), stat.nlink());
        assert_eq!(look(&before), look(&after), "{name}");
    }
    assert_eq!(stat(to.path(), "sparse").mtime_nsec(), 749_999_999);
    assert!(stat(to.path(), "sparse").blocks() < 100);
    let counted = (
        written.files,
        written.directories,
        written.symlinks,
        written.hard_links,
    );
    assert_eq!(counted, (4, 3, 1, 1));
    assert_eq!(written.bytes, 7 + 1 + (10 << 20));
}

#[test]
fn a_digest_tells_trees_apart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "one").unwrap();
    let mut seen = vec![facts(folder.path()).digest];
    let mut changed = |what: &str| {
        let digest = facts(folder.path()).digest;
        assert!(!seen.contains(&digest), "{what}");
        seen.push(digest);
    };
    fs::write(&file, "two").unwrap();
    changed("content");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    changed("mode");
    fs::rename(&file, folder.path().join("other")).unwrap();
    changed("name");
    symlink("other", &file).unwrap();
    changed("one more");
    fs::remove_file(&file).unwrap();
    symlink("otter", &file).unwrap();
    changed("a link's target");
}

#[test]
fn what_vanishes_or_shrinks_meanwhile_is_told() {
    struct Meddler<'a> {
        archiver: Archiver<Vec<u8>>,
        folder: &'a Path,
    }
    impl Visitor for Meddler<'_> {
        fn entry(
            &mut self,
            entry: &Entry,
            content: Option<&mut Content<'_>>,
        ) -> crate::error::Result<()> {
            if entry.path == b"a" {
                fs::remove_file(self.folder.join("b")).unwrap();
                fs::File::options()
                    .write(true)
                    .open(self.folder.join("a"))
                    .unwrap()
                    .set_len(3)
                    .unwrap();
            }
            self.archiver.entry(entry, content)
        }
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), vec![b'x'; 1000]).unwrap();
    fs::write(folder.path().join("b"), "b").unwrap();
    fs::write(folder.path().join("c"), "c").unwrap();
    let mut meddler = Meddler {
        archiver: Archiver::new(Vec::new()),
        folder: folder.path(),
    };
    let irregular = scan(&root(folder.path()), Scan::default(), &mut meddler).unwrap();
    let (bytes, ..) = meddler.archiver.finish().unwrap();
    assert_eq!(irregular.changed, ["a", "b", "."]);
    let mut reader = Reader::new(&bytes[..]);
    let paths: Vec<Vec<u8>> = std::iter::from_fn(|| reader.next_entry().unwrap())
        .map(|entry| entry.path)
        .collect();
    assert_eq!(paths, [&b""[..], b"a", b"c"]);
}

#[test]
fn a_running_servers_data_folder_is_refused_where_that_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("deep/data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "15").unwrap();
    let options = Scan {
        refuse_live_database: true,
        ..Scan::default()
    };
    let look = || scan(&root(folder.path()), options, &mut TreeDigest::new());
    assert!(look().is_ok(), "it does not run");
    fs::write(data.join("postmaster.pid"), "1").unwrap();
    assert!(look().unwrap_err().to_string().contains("deep/data"));
}

/// An archive of one entry, with no writer of ours to keep it decent.
fn forged(entries: &[(&str, u8, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, typeflag, link) in entries {
        let header = ustar::Header {
            name: name.as_bytes().to_vec(),
            mode: 0o644,
            typeflag: *typeflag,
            linkname: link.as_bytes().to_vec(),
            ..ustar::Header::default()
        };
        bytes.extend(header.encode());
    }
    bytes.extend([0; 1024]);
    bytes
}

#[test]
fn hostile_entries_are_refused_and_nothing_outside_is_touched() {
    let outer = tempfile::tempdir().unwrap();
    let target = outer.path().join("target");
    fs::write(outer.path().join("secret"), "before").unwrap();
    for (what, entries) in [
        ("upwards", vec![("../secret", b'0', "")]),
        (
            "upwards in the middle",
            vec![("a", b'5', ""), ("a/../../secret", b'0', "")],
        ),
        ("absolute", vec![("/etc/x", b'0', "")]),
        (
            "through a link",
            vec![("a", b'2', ".."), ("a/secret", b'0', "")],
        ),
        (
            "through a link to a folder",
            vec![("a", b'2', "/tmp"), ("a/x", b'5', "")],
        ),
        (
            "over a link",
            vec![("a", b'2', "../secret"), ("a", b'0', "")],
        ),
        ("a hard link outwards", vec![("a", b'1', "../secret")]),
        ("an absolute hard link", vec![("a", b'1', "/etc/passwd")]),
        (
            "a hard link through a link",
            vec![("a", b'2', ".."), ("b", b'1', "a/secret")],
        ),
        (
            "a hard link to what comes later",
            vec![("a", b'1', "b"), ("b", b'0', "")],
        ),
        ("a character device", vec![("a", b'3', "")]),
        ("a block device", vec![("a", b'4', "")]),
        ("of no known type", vec![("a", b'Z', "")]),
        ("twice", vec![("a", b'0', ""), ("a", b'0', "")]),
        ("in no folder", vec![("a/b", b'0', "")]),
        ("in a file", vec![("a", b'0', ""), ("a/b", b'0', "")]),
        ("a link to nothing", vec![("a", b'2', "")]),
        ("the root as a file", vec![(".", b'0', "")]),
        ("nameless", vec![("", b'0', "")]),
    ] {
        fs::create_dir(&target).unwrap();
        let bytes = forged(&entries);
        let error = extract(&mut Reader::new(&bytes[..]), &root(&target)).expect_err(what);
        assert_eq!(error.kind(), crate::error::Kind::Damaged, "{what}: {error}");
        let mut around: Vec<_> = fs::read_dir(outer.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        around.sort();
        assert_eq!(around, ["secret", "target"], "{what}");
        let secret = outer.path().join("secret");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "before", "{what}");
        assert_eq!(fs::metadata(&secret).unwrap().nlink(), 1, "{what}");
        clear(&root(&target)).unwrap();
        fs::remove_dir(&target).unwrap();
    }
}

/// A file's entry with these extended records before it.
fn with_records(records: &[(&str, &str)], size: u64, data: &[u8]) -> Vec<u8> {
    let mut text = pax::Records::default();
    for (key, value) in records {
        text.push(key.as_bytes(), value.as_bytes());
    }
    let header = |typeflag, size| ustar::Header {
        name: b"f".to_vec(),
        mode: 0o644,
        typeflag,
        size,
        ..ustar::Header::default()
    };
    let padded = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    };
    let mut bytes = header(b'x', text.bytes().len() as u64).encode().to_vec();
    bytes.extend(padded(text.bytes()));
    bytes.extend(header(b'0', size).encode());
    bytes.extend(padded(data));
    bytes.extend([0; 1024]);
    bytes
}

#[test]
fn sizes_that_do_not_agree_are_refused() {
    let sparse = |real: &'static str| {
        [
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "f"),
            ("GNU.sparse.realsize", real),
        ]
    };
    let map = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(512, 0);
        bytes.extend([b'x'; 10]);
        bytes
    };
    let well = with_records(&sparse("100"), 522, &map("1\n50\n10\n"));
    assert_eq!(examine(&mut Reader::new(&well[..])).unwrap().bytes, 100);
    for (what, bytes) in [
        (
            "a PAX size beyond the data",
            with_records(&[("size", "99999")], 4, b"data"),
        ),
        (
            "a size that is no number",
            with_records(&[("size", "-1")], 4, b"data"),
        ),
        (
            "segments beyond the file",
            with_records(&sparse("55"), 522, &map("1\n50\n10\n")),
        ),
        (
            "segments that overlap",
            with_records(&sparse("100"), 522, &map("2\n50\n5\n52\n5\n")),
        ),
        (
            "a map that does not fit its data",
            with_records(&sparse("100"), 522, &map("1\n50\n9\n")),
        ),
        (
            "a segment that wraps around",
            with_records(&sparse("100"), 522, &map("1\n18446744073709551615\n10\n")),
        ),
        (
            "a map without an end",
            with_records(&sparse("100"), 522, &map("7\n1\n")),
        ),
        (
            "a huge map",
            with_records(&sparse("100"), 522, &map("99999999999\n")),
        ),
        (
            "another form of sparse files",
            with_records(
                &[("GNU.sparse.major", "0"), ("GNU.sparse.minor", "1")],
                0,
                b"",
            ),
        ),
        (
            "a record that is none",
            with_records(&[("mtime", "yesterday")], 0, b""),
        ),
    ] {
        let error = examine(&mut Reader::new(&bytes[..])).expect_err(what);
        assert_eq!(error.kind(), crate::error::Kind::Damaged, "{what}");
    }
}

#[test]
fn an_archive_that_is_cut_anywhere_is_no_archive() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), vec![7; 3000]).unwrap();
    fs::write(folder.path().join("long".repeat(40)), "x").unwrap();
    let (bytes, written, _) = archived(folder.path());
    for length in (0..bytes.len()).step_by(100).chain([bytes.len() - 1]) {
        assert!(
            examine(&mut Reader::new(&bytes[..length])).is_err(),
            "{length}"
        );
    }
    let mut followed = bytes.clone();
    followed.extend([0; 9000]);
    assert_eq!(examine(&mut Reader::new(&followed[..])).unwrap(), written);
    followed.push(1);
    assert!(examine(&mut Reader::new(&followed[..])).is_err());
}

proptest! {
    /// Whatever bytes come, reading ends, and nothing panics.
    #[test]
    fn noise_is_read_to_an_error(
        name in prop::collection::vec(any::<u8>(), 0..20),
        flips in prop::collection::vec((0usize..4096, any::<u8>()), 0..6),
    ) {
        let entry = |path: Vec<u8>, kind| Entry {
            path, kind, mode: 0o644, uid: 1, gid: 1,
            mtime: Time { seconds: 1, nanoseconds: 1 },
            attributes: [(b"user.a".to_vec(), name.clone())].into(),
        };
        let mut writer = Writer::new(Vec::new());
        writer.begin(&entry(Vec::new(), Kind::Directory)).unwrap();
        let segments = Some(vec![Segment { offset: 10, length: 4 }]);
        writer.begin(&entry(b"s".to_vec(), Kind::File { size: 20, segments })).unwrap();
        writer.data(b"data").unwrap();
        let (mut bytes, _) = writer.finish().unwrap();
        prop_assert_eq!(examine(&mut Reader::new(&bytes[..])).unwrap().bytes, 20);
        for (at, byte) in flips {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let _ = examine(&mut Reader::new(&bytes[..]));
    }
}

//! Trees of files with everything in them that a volume can hold. They need root, and a file system that keeps
//! extended attributes.

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use rustix::process::{Resource, Rlimit};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

/// The length of the sparse files, in bytes.
pub(crate) const SPARSE: u64 = 64 << 20;

/// Names that somebody has to quote, escape, cut or sort with care.
const NAMES: [&[u8]; 18] = [
    b"-dash",
    b"--help",
    b"new\nline",
    b"not \xff UTF-8 \xc3",
    b"quote'd \"twice\" `thrice`",
    b"100%",
    b"%41",
    b"trailing ",
    b" leading",
    b"trailing dot.",
    b"back\\slash\\n",
    b"\xc3\xbcml\xc3\xa4ut",
    b"e\xcc\x81 in two",
    b"*",
    b"$HOME",
    b"...",
    b"\x1b[31m",
    &[b'n'; 255],
];

/// A program's arguments, and the file that it works on.
fn run(program: &str, arguments: &[&str], file: &Path) {
    let output = Command::new(program).args(arguments).arg(file).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program}: {error}: see `tests/lab/lab programs`"));
    let file = file.display();
    assert!(output.status.success(), "{program} {file}: {output:?}");
}

/// Bytes that are no zeros and do not repeat soon.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0] | 1
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Fills an empty folder with every kind of thing that an archive holds.
pub(crate) fn furnish(folder: &Path) {
    // Each level of a deep tree is held open, and tests run side by side.
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    rustix::process::setrlimit(Resource::Nofile, raised).unwrap();
    files(folder);
    links(folder);
    holes(folder);
    names(folder);
    lengths(folder);
    attributes(folder);
    lists(folder);
    modes(folder);
    owners(folder);
    // What is made in a folder changes its time: they come last.
    times(folder);
}

fn files(folder: &Path) {
    fs::write(folder.join("empty"), "").unwrap();
    fs::write(folder.join("small"), "content\n").unwrap();
    // Whole blocks, and one byte around them.
    for length in [511, 512, 513, 1 << 20] {
        fs::write(folder.join(format!("file-{length}")), noise(length)).unwrap();
    }
    fs::create_dir(folder.join("folder")).unwrap();
    fs::write(folder.join("folder/file"), "in a folder\n").unwrap();
    fs::create_dir(folder.join("folder/empty")).unwrap();
    let mode = Mode::from_raw_mode(0o620);
    rustix::fs::mknodat(CWD, folder.join("fifo"), FileType::Fifo, mode, 0).unwrap();
}

fn links(folder: &Path) {
    let below = folder.join("links");
    fs::create_dir(&below).unwrap();
    symlink("nowhere", below.join("dangling")).unwrap();
    symlink("/etc/passwd", below.join("absolute")).unwrap();
    symlink("../../../upwards", below.join("upwards")).unwrap();
    symlink("../small", below.join("sideways")).unwrap();
    symlink(".", below.join("itself")).unwrap();
    symlink("../folder/", below.join("folder")).unwrap();
    // The most that a header holds, and one more; the most that the kernel takes.
    for length in [100, 101, 4095] {
        symlink(
            "t".repeat(length),
            below.join(format!("target-of-{length}")),
        )
        .unwrap();
    }
    symlink(
        OsStr::from_bytes(b"to \xff\n"),
        below.join("target no text"),
    )
    .unwrap();
    // Names before and behind the file's own, in other folders, too.
    let link = |from: &str, to: &str| fs::hard_link(folder.join(from), folder.join(to)).unwrap();
    link("small", "links/small");
    link("small", "zmall");
    link("links/dangling", "links/dangling too");
    link("links/absolute", "links/an absolute one");
    link("fifo", "links/fifo");
}

fn holes(folder: &Path) {
    let make = |name: &str, length: u64, pieces: &[(u64, usize)]| {
        let file = fs::File::create(folder.join(name)).unwrap();
        for (offset, length) in pieces {
            file.write_all_at(&noise(*length), *offset).unwrap();
        }
        file.set_len(length).unwrap();
    };
    let pieces = [(0, 1), (1 << 20, 4096), (20_000_123, 10_000)];
    make("sparse", SPARSE, &pieces);
    make("sparse to its last byte", SPARSE, &[(SPARSE - 5, 5)]);
    make("hole", (1 << 20) + 1, &[]);
    make(&format!("hole {}", "long ".repeat(40)), 1 << 20, &[(0, 9)]);
    // So many pieces that their map is longer than one block.
    let many: Vec<(u64, usize)> = (0..100).map(|piece| (piece * 65536, 10)).collect();
    make("holey", 100 * 65536, &many);
}

fn names(folder: &Path) {
    let below = folder.join("names");
    fs::create_dir(&below).unwrap();
    for name in NAMES {
        fs::write(below.join(OsStr::from_bytes(name)), name).unwrap();
        let both = [b"folder of ", &name[..name.len().min(200)]].concat();
        let both = below.join(OsString::from_vec(both));
        fs::create_dir(&both).unwrap();
        symlink(OsStr::from_bytes(name), both.join(OsStr::from_bytes(name))).unwrap();
    }
    // A slash sorts before every other byte, though not in ASCII.
    fs::create_dir(below.join("a")).unwrap();
    for name in ["a/b", "a-b", "a\x01", "a.", "a0", "A"] {
        fs::write(below.join(name), name).unwrap();
    }
}

fn lengths(folder: &Path) {
    let below = folder.join("lengths");
    // Around the 100 bytes of a header, of which the folder's name and `./` take some.
    for length in 95..=100 {
        let name = "l".repeat(length - "./lengths/".len());
        fs::create_dir_all(below.join(format!("{name}d/"))).unwrap();
        fs::write(below.join(format!("{name}f")), "x").unwrap();
        fs::hard_link(
            below.join(format!("{name}f")),
            below.join(format!("{name}h")),
        )
        .unwrap();
    }
    // 128 bytes, and 384.
    let long = below.join("60".repeat(30)).join("60".repeat(30));
    let longer = long.join("\u{e9}".repeat(60)).join("120".repeat(40));
    fs::create_dir_all(longer.parent().unwrap()).unwrap();
    fs::write(long.join("file"), "more than 100\n").unwrap();
    fs::write(&longer, "more than 255\n").unwrap();
    fs::hard_link(&longer, long.join("link")).unwrap();
    let deep = folder.join("deep").join("d/".repeat(300));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "the bottom\n").unwrap();
}

fn attributes(folder: &Path) {
    let file = folder.join("attributes");
    fs::write(&file, "x").unwrap();
    let below = folder.join("folder");
    let binary = [0, 1, 10, 255, 37, 61, 128, 0];
    for (path, name, value) in [
        (&file, "user.plain", &b"value"[..]),
        (&file, "user.a=b%c%3D=", &binary),
        (&file, "user.nothing", b""),
        (&file, "user.\u{e9}", "\u{e9}".as_bytes()),
        // File systems with 4 KiB for all of them are the rule.
        (&file, "user.large", &noise(2000)),
        (&below, "user.folder", b"two\nlines\n"),
        (&folder.to_owned(), "user.root", b"the root's"),
    ] {
        rustix::fs::setxattr(path, name, value, XattrFlags::empty())
            .unwrap_or_else(|error| panic!("{}: {name}: {error}", path.display()));
    }
    let program = folder.join("capable");
    fs::copy("/bin/true", &program).unwrap();
    run("setcap", &["cap_net_bind_service,cap_chown=ep"], &program);
}

fn lists(folder: &Path) {
    let below = folder.join("lists");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("file"), "x").unwrap();
    fs::write(below.join("large"), "x").unwrap();
    fs::create_dir(below.join("folder")).unwrap();
    // Numbers that no machine has names for: GNU tar would archive those.
    let access = ["-m", "u:12345:rwx,g:23456:---,m:r-x"];
    run("setfacl", &access, &below.join("file"));
    run("setfacl", &access, &below.join("folder"));
    run("setfacl", &access, &folder.join("fifo"));
    run("setfacl", &["-m", "u:4000000000:r"], &below.join("large"));
    let default = ["-d", "-m", "u:12345:rwx,g:23456:r--,o::-"];
    run("setfacl", &default, &below.join("folder"));
    // These inherit it, the folder both ways.
    fs::write(below.join("folder/heir"), "x").unwrap();
    fs::create_dir(below.join("folder/heirs")).unwrap();
    // And these were told not to: whoever makes them again has to tell them, too.
    fs::write(below.join("folder/rebel"), "x").unwrap();
    fs::create_dir(below.join("folder/rebels")).unwrap();
    run("setfacl", &["-b"], &below.join("folder/rebel"));
    run("setfacl", &["-b"], &below.join("folder/rebels"));
}

fn modes(folder: &Path) {
    let below = folder.join("modes");
    fs::create_dir(&below).unwrap();
    for mode in [0, 0o200, 0o644, 0o777, 0o1644, 0o2755, 0o4755, 0o7777] {
        let file = below.join(format!("file-{mode:04o}"));
        let inner = below.join(format!("folder-{mode:04o}"));
        fs::write(&file, "x").unwrap();
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("file"), "x").unwrap();
        for path in [&file, &inner] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    // The root of a volume has a mode of its own.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o1751)).unwrap();
}

fn owners(folder: &Path) {
    let below = folder.join("owners");
    fs::create_dir(&below).unwrap();
    // 2097151 is the last that a header holds.
    for (uid, gid) in [
        (65534, 65534),
        (2_097_151, 2_097_152),
        (3_000_000, 3_000_000),
        (4_294_967_294, 1),
    ] {
        let file = below.join(format!("file-{uid}"));
        fs::write(&file, "x").unwrap();
        chown(&file, Some(uid), Some(gid)).unwrap();
        // A change of owner takes these bits away.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o6711)).unwrap();
        let inner = below.join(format!("folder-{uid}"));
        fs::create_dir(&inner).unwrap();
        chown(&inner, Some(uid), Some(gid)).unwrap();
        let link = below.join(format!("link-{uid}"));
        symlink("x", &link).unwrap();
        lchown(&link, Some(uid), Some(gid)).unwrap();
    }
    chown(folder, Some(999), Some(3_000_000)).unwrap();
}

fn times(folder: &Path) {
    let below = folder.join("times");
    fs::create_dir(&below).unwrap();
    let set = |path: &Path, seconds, nanoseconds| {
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    // 8589934591 (in 2242) is the last second that a header holds.
    for (seconds, nanoseconds) in [
        (0, 0),
        (0, 1),
        (-1, 0),
        (-1, 1),
        (-1, 999_999_999),
        (-1_000_000_000, 123_456_789),
        (1_700_000_000, 100_000_000),
        (1_700_000_000, 7),
        (8_589_934_591, 0),
        (8_589_934_592, 0),
        (10_000_000_000, 999_999_999),
    ] {
        let name = |kind| below.join(format!("{kind} {seconds} {nanoseconds}"));
        let (file, inner, link) = (name("file"), name("folder"), name("link"));
        fs::write(&file, "x").unwrap();
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("file"), "x").unwrap();
        symlink("x", &link).unwrap();
        for path in [&file, &inner, &link] {
            set(path, seconds, nanoseconds);
        }
    }
    set(&folder.join("fifo"), 1_000_000_000, 5);
    set(&folder.join("links"), 1_000_000_001, 6);
    set(&folder.join("lists/folder"), 1_000_000_002, 7);
    set(&below, 1_000_000_003, 8);
    set(folder, -1_000_000_004, 9);
}

/// Puts devices and a socket into a folder, which no archive holds.
pub(crate) fn furnish_irregular(folder: &Path) {
    let mode = Mode::from_raw_mode(0o600);
    // As /dev/null, and a disk that hardly anybody has.
    for (name, kind, major, minor) in [
        ("device", FileType::CharacterDevice, 1, 3),
        ("disk", FileType::BlockDevice, 7, 255),
    ] {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(CWD, folder.join(name), kind, mode, device).unwrap();
    }
    drop(UnixListener::bind(folder.join("socket")).unwrap());
}

/// What rsync would change to make `b` the same as `a`, to the last bit of metadata; empty where they are the same.
pub(crate) fn same(a: &Path, b: &Path) -> String {
    let slashed = |path: &Path| path.join("");
    let mut rsync = Command::new("rsync");
    rsync.args(["-aHAXSn", "--checksum", "--delete", "--itemize-changes"]);
    // -1 compares nanoseconds, which plain rsync overlooks.
    rsync.args(["--numeric-ids", "--modify-window=-1"]);
    rsync.arg(slashed(a)).arg(slashed(b)).env("LC_ALL", "C");
    let output = rsync
        .output()
        .expect("rsync runs: see `tests/lab/lab programs`");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

//! The import rules: upper layers import lower ones, and each foreign crate has one home.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which modules of the crate each module may import, besides itself.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("schedule", &["stack"]),
    ("archive", &["error"]),
    ("helper", &["archive", "error"]),
    ("event", &["error", "stack"]),
    ("stack", &["error"]),
    ("secret", &["error", "stack"]),
    ("notify", &["error", "event", "secret"]),
    ("proof", &["manifest"]), // in a link of its documentation
    ("manifest", &["error", "proof", "stack"]),
    ("docker", &["error", "proof", "secret", "stack"]),
    ("pipeline", &["error"]),
    (
        "repository",
        &["error", "manifest", "pipeline", "proof", "secret", "stack"],
    ),
    (
        "source",
        &[
            "archive", "docker", "error", "event", "helper", "manifest", "pipeline", "proof",
            "secret", "stack",
        ],
    ),
    (
        "operation",
        &[
            "docker",
            "archive",
            "error",
            "event",
            "helper",
            "manifest",
            "pipeline",
            "repository",
            "schedule",
            "source",
            "stack",
        ],
    ),
    ("daemon", &["error", "event", "schedule"]),
    ("web", &["daemon", "error", "event"]),
    (
        "config",
        &["error", "notify", "schedule", "secret", "stack"],
    ),
];

/// Where each of these may be named, as starts of paths below `src/`.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["web/"]),
    ("prometheus_client", &["web/"]),
    ("bollard", &["docker/"]),
    ("clap", &["cli/"]),
    ("object_store", &["repository/"]),
    ("tokio_postgres", &["source/postgres/"]),
    ("zstd", &["helper/", "pipeline/", "repository/"]),
    ("age", &["pipeline/"]),
    ("minisign", &["repository/signature.rs"]),
    ("indicatif", &["cli/"]),
    ("comfy_table", &["cli/"]),
    ("toml", &["config/", "cli/command/init.rs"]),
    ("croner", &["schedule/"]),
    ("lettre", &["notify/"]),
    ("reqwest", &["notify/"]),
    ("saphyr_parser", &["source/files/yaml.rs"]),
    // Only the readers of an exec's and of a helper's end, who archives a project's files in this very process, and the
    // repository's own tests, make a proof.
    (
        "Proof::attest",
        &[
            "docker/exec/",
            "repository/tests/",
            "source/files/capture.rs",
            "source/volume/session.rs",
        ],
    ),
    ("std::io::stdout", &["cli/"]),
];

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
                found.push((name.to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// The module that a file belongs to.
fn module(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

/// Code without its comments: a text may name what the code may not.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
}

/// The names that follow `crate::` in one line.
fn imported(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
        Some(&rest[..end.unwrap_or(rest.len())]).filter(|name| !name.is_empty())
    })
}

#[test]
fn modules_import_downwards_only() {
    let mut wrong = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for (file, text) in sources() {
        let module = module(&file);
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            // The binary, the crate's root, and the layer above all others.
            assert!(
                ["main", "lib", "cli"].contains(&module),
                "the table says nothing about {module}"
            );
            continue;
        };
        for name in code(&text).flat_map(imported) {
            seen.insert((module.to_owned(), name.to_owned()));
            if name != module && !allowed.contains(&name) {
                wrong.insert(format!("{file} imports {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // A scan that sees nothing would find nothing wrong.
    assert!(seen.contains(&("operation".to_owned(), "repository".to_owned())));
}

#[test]
fn nothing_imports_the_command_line() {
    for (file, text) in sources() {
        let outside = !file.starts_with("cli/") && file != "main.rs" && file != "lib.rs";
        assert!(
            !outside || code(&text).flat_map(imported).all(|name| name != "cli"),
            "{file}"
        );
    }
}

#[test]
fn each_foreign_crate_has_one_home() {
    let mut wrong = Vec::new();
    for (name, homes) in HOMES {
        let mut used = false;
        for (file, text) in sources() {
            let names = |line: &str| {
                line.match_indices(name).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    let after = &line[at + name.len()..];
                    before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
                        && (name.contains("::") || after.starts_with("::"))
                })
            };
            if code(&text).any(names) {
                used = true;
                if !homes.iter().any(|home| file.starts_with(home)) {
                    wrong.push(format!("{file} names {name}"));
                }
            }
        }
        assert!(used, "nothing names {name}: is the scan blind?");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

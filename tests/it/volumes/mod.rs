//! Volumes: real ones, of a real engine.

mod commands;
mod engines;
mod quiesce;
mod restore;
mod roundtrip;

use crate::support::server::{Place, docker};
use serde_json::Value;
use std::path::Path;

/// What a backup's manifest says of an artifact.
fn artifact(place: &Place, backup: &str, name: &str) -> Value {
    let shown = place.run(&["show", backup, "--json"]).expect_code(0).json();
    let artifacts = shown["manifest"]["artifacts"].as_array().unwrap();
    let found = artifacts.iter().find(|artifact| artifact["name"] == name);
    found
        .unwrap_or_else(|| panic!("{name} is not in {shown}"))
        .clone()
}

/// The containers of lifeboat's own that name this stack or run, with their roles.
fn leftovers(label: &str) -> String {
    docker(&[
        "ps",
        "-a",
        "--filter",
        &format!("label={label}"),
        "--format",
        "{{.Names}} {{.Label \"dev.lifeboat.role\"}}",
    ])
}

/// What is in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

//! The integration tests: one binary, since every further one would link the whole program again.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails, helpers included"
)]

#[path = "../support/mod.rs"]
mod support;

mod archive;
mod by_hand;
mod docs;
mod drill;
mod drill_prod;
mod engine_api;
mod exec_engine;
mod exec_wire;
mod faults;
mod files;
mod guard;
mod hooks;
mod layers;
mod notify;
mod packaging;
mod partial;
mod prune;
mod recover;
mod redis;
mod repository;
mod roundtrip;
mod schedules;
mod second_engine;
mod status;
mod stores;
mod volumes;
mod whole;

//! The integration tests, in one binary.

#[path = "../support/mod.rs"]
mod support;

mod exec_engine;
mod exec_wire;

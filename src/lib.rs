//! lifeboat: backups of Docker Compose stacks that have been proven to restore.
//!
//! # The layers, upper ones importing lower ones only
//!
//! | layer | what it holds |
//! | --- | --- |
//! | [`cli`] | arguments, output, exit codes: the only place that prints |
//! | [`daemon`], [`web`] | the loop that runs schedules, and what it tells over HTTP |
//! | [`config`] | `lifeboat.toml` and schedule files, into typed values |
//! | [`schedule`] | when a stack is backed up, and which backups are kept: pure |
//! | [`operation`] | what a person asks for: backup, restore, verify …; the only place where sources and repositories meet |
//! | [`source`] | what can be captured and restored: PostgreSQL, Redis, volumes |
//! | [`repository`] | where backups live, and the format they are kept in |
//! | [`pipeline`] | bytes between the two: compress, digest, inspect |
//! | [`archive`] | a tree of files as one tar stream and back |
//! | [`helper`] | this program beside a volume, in a container of nothing but itself |
//! | [`notify`] | observers of events that tell people: webhooks, e-mail, pings, commands |
//! | [`docker`] | the engine: discovery, exec with its end proof, locks |
//! | [`manifest`], [`proof`], [`secret`], [`stack`], [`event`], [`error`] | values |
//!
//! `tests/it/layers.rs` holds these rules.
//!
//! # The way of a byte
//!
//! Backup: container → `docker::exec` → `source` → `pipeline::seal` → `repository::upload` →
//! manifest → `SHA256SUMS` → commit. Restore: repository → `pipeline::unseal` → `source` →
//! `docker::exec` → a side database → checks → swap.

pub mod archive;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod docker;
pub mod error;
pub mod event;
pub mod helper;
pub mod manifest;
pub mod notify;
pub mod operation;
pub mod pipeline;
pub mod proof;
pub mod repository;
pub mod schedule;
pub mod secret;
pub mod source;
pub mod stack;
pub mod web;

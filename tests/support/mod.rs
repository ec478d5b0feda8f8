//! What the integration tests share.

/// A size or a count: `usual` in a test run, `long` under `make soak`.
#[expect(clippy::disallowed_methods, reason = "tests are an edge, too")]
pub(crate) fn soak(usual: u32, long: u32) -> u32 {
    match std::env::var_os("LIFEBOAT_SOAK") {
        Some(_) => long,
        None => usual,
    }
}

pub(crate) mod doctor;
pub(crate) mod engine;
pub(crate) mod fabricated;
pub(crate) mod gate;
pub(crate) mod lab;
pub(crate) mod project;
pub(crate) mod proxy;
pub(crate) mod receiver;
pub(crate) mod redis;
pub(crate) mod second_engine;
pub(crate) mod server;
pub(crate) mod smtp;
pub(crate) mod tree;

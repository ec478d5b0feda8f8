//! What the integration tests share.

pub(crate) mod engine;
pub(crate) mod lab;
pub(crate) mod server;

//! What can be captured and restored.

pub mod postgres;

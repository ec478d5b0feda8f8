//! Stores of a stack that can be captured and restored.
//!
//! A source never knows where its bytes are kept, and a repository never knows what they mean.

pub mod files;
pub mod postgres;
pub mod redis;
pub mod volume;

mod capability;
mod capture;
mod credentials;

pub use capability::Capability;
pub use capture::{Capture, Ended};
pub use credentials::Credentials;

//! Bytes between a source and a repository: compress, decompress, measure, inspect.
//!
//! This layer knows bytes only: neither what they mean, which an [`Inspector`] learns as they pass,
//! nor where they are kept. [`seal()`] turns a source's stream into what is stored, [`unseal()`] turns
//! it back, [`examine()`] only reads it. Each returns halves that the caller drives together:
//!
//! ```text
//! let (mut input, mut output) = seal(&options, inspector)?;
//! let read = async {
//!     while let Some(bytes) = producer.next().await? {
//!         input.push(bytes).await?;
//!     }
//!     input.finish().await
//! };
//! let write = async {
//!     while let Some(bytes) = output.next().await? {
//!         upload.write(bytes).await?;
//!     }
//!     Ok(())
//! };
//! let (measured, ()) = tokio::try_join!(read, write)?;
//! ```
//!
//! Every queue in between is bounded, so a slow store slows the source down. When either side is
//! dropped the other gets an error, never a stream that looks complete.

mod encryption;
mod halves;
mod inspector;
mod seal;
mod unseal;
mod zstandard;

#[cfg(test)]
mod encryption_tests;
#[cfg(test)]
mod tests;

pub use encryption::{Identities, IdentityCollector, Recipients, decrypt, generate_key};
pub use halves::{Input, Measured, Output};
pub use inspector::{Inspection, Inspector, RawInspector};
pub use seal::{Incoming, LEVELS, SealOptions, TRANSPORT_LEVEL, seal};
pub use unseal::{Limits, examine, unseal};

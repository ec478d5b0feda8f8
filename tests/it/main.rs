//! The integration tests: one binary, since every further one would link the whole program again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod repository;

//! One table of a backup, beside the live one: which is meant.

pub mod selection;

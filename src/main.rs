//! The lifeboat program: parses, runs, exits.

fn main() {}

//! Any bytes, cut anywhere: the snapshot's inspector must not panic, and must not care for the cuts.
#![no_main]

#[path = "../../src/error.rs"]
#[allow(dead_code)]
mod error;
#[path = "../../src/pipeline/inspector.rs"]
#[allow(dead_code)]
mod inspector;
mod pipeline {
    pub use crate::inspector::{Inspection, Inspector};
}
#[path = "../../src/source/redis/rdb/mod.rs"]
#[allow(dead_code)]
mod rdb;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rdb::{MarkStripper, RdbInspector, Snapshot};

/// The first bytes of an input are the sizes of the pieces.
const SIZES: usize = 4;

fn cut<'a>(bytes: &'a [u8], sizes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    sizes.iter().cycle().map_while(move |size| {
        let (piece, behind) = rest.split_at(usize::from(*size).max(1).min(rest.len()));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

fn inspect<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Snapshot, String> {
    let mut inspector = RdbInspector::new();
    for piece in pieces {
        inspector.push(piece).map_err(|error| error.to_string())?;
    }
    inspector.complete().map_err(|error| error.to_string())
}

fuzz_target!(|input: &[u8]| {
    let Some((sizes, bytes)) = input.split_first_chunk::<SIZES>() else {
        return;
    };
    let whole = inspect([bytes].into_iter());
    assert_eq!(inspect(cut(bytes, sizes)), whole, "pieces of {sizes:?}");
    if let Ok(snapshot) = whole {
        assert_eq!(snapshot.raw_size, bytes.len() as u64);
        assert_eq!(snapshot.facts.walked, snapshot.facts.not_walked.is_none());
    }

    let mut stripper = MarkStripper::new();
    let mut passed = Vec::new();
    for piece in cut(bytes, sizes) {
        passed.extend(stripper.push(Bytes::copy_from_slice(piece)).concat());
    }
    assert_eq!(passed, bytes[..bytes.len().saturating_sub(40)]);
    let held = stripper.finish().concat();
    assert!(held.is_empty() || [passed, held].concat() == bytes);
});

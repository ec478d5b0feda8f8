//! Streams that are whole, broken, hostile, and halves that are dropped.

use super::*;
use crate::error::{Error, Kind, Result};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Halves that hang are a failure, not a wait.
const PATIENCE: Duration = Duration::from_mins(1);

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("a hang") })
}

fn compress(raw: &[u8], level: i32) -> Vec<u8> {
    zstd::encode_all(raw, level).unwrap()
}

/// Bytes that compress, but not to nothing.
fn sample(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            b"abcdefgh"[usize::try_from(state >> 61).unwrap()]
        })
        .collect()
}

/// Hashes nothing, but keeps everything, for comparison.
struct Keeper {
    seen: Vec<u8>,
    fail_at: Option<usize>,
}

impl Inspector for Keeper {
    fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        self.seen.extend_from_slice(bytes);
        match self.fail_at {
            Some(limit) if self.seen.len() > limit => {
                Err(Error::damaged("not as it should be").hint("look again"))
            }
            _ => Ok(()),
        }
    }

    fn finish(self: Box<Self>) -> Result<Inspection> {
        Ok(Inspection {
            raw_size: self.seen.len() as u64,
            facts: json!({ "seen": self.seen }),
        })
    }
}

fn keeper() -> Box<dyn Inspector> {
    Box::new(Keeper {
        seen: Vec::new(),
        fail_at: None,
    })
}

fn failing(limit: usize) -> Box<dyn Inspector> {
    Box::new(Keeper {
        seen: Vec::new(),
        fail_at: Some(limit),
    })
}

fn options(incoming: Incoming, level: u8, threads: u32) -> SealOptions {
    SealOptions {
        incoming,
        level,
        threads,
        recipients: None,
    }
}

/// Pushes `bytes` cut by `sizes`, and reads what comes out.
async fn drive(
    (mut input, mut output): (Input, Output),
    bytes: &[u8],
    sizes: &[usize],
) -> Result<(Measured, Vec<u8>)> {
    let read = async {
        let mut rest = Bytes::copy_from_slice(bytes);
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let piece = rest.split_to((*size).min(rest.len()));
            input.push(piece).await?;
        }
        input.finish().await
    };
    let write = async {
        let mut stored = Vec::new();
        while let Some(bytes) = output.next().await? {
            assert!(!bytes.is_empty());
            stored.extend_from_slice(&bytes);
        }
        Ok(stored)
    };
    tokio::try_join!(read, write)
}

async fn sealed(
    options: SealOptions,
    inspector: Box<dyn Inspector>,
    bytes: &[u8],
    sizes: &[usize],
) -> Result<(Measured, Vec<u8>)> {
    drive(seal(&options, inspector)?, bytes, sizes).await
}

async fn unsealed(raw_size: u64, stored: &[u8], sizes: &[usize]) -> Result<(Measured, Vec<u8>)> {
    drive(unseal(Limits { raw_size }, keeper()), stored, sizes).await
}

#[test]
fn a_seal_and_its_unseal_give_the_same_bytes() {
    let raw = sample(3 << 20);
    for (incoming, level, threads) in [
        (Incoming::Raw, 1, 0),
        (Incoming::Raw, 3, 2),
        (Incoming::Raw, 9, 2),
        (Incoming::Zstd, 1, 0),
        (Incoming::Zstd, 3, 2),
        (Incoming::Zstd, 4, 2),
        (Incoming::Zstd, 12, 1),
    ] {
        let transport = match incoming {
            Incoming::Raw | Incoming::Proven => raw.clone(),
            Incoming::Zstd => compress(&raw, 1),
        };
        let options = options(incoming, level, threads);
        let (measured, stored) = run(sealed(
            options.clone(),
            keeper(),
            &transport,
            &[100_000, 7, 1_000_000],
        ))
        .unwrap();
        assert_eq!(measured.raw_size, raw.len() as u64, "{options:?}");
        assert_eq!(measured.stored_size, stored.len() as u64, "{options:?}");
        assert_eq!(measured.inspection.raw_size, raw.len() as u64);
        assert!(
            measured.inspection.facts["seen"] == json!(raw),
            "{options:?}"
        );
        // Up to the transport's level its own bytes are stored, above it they are made anew.
        assert_eq!(
            stored == transport,
            incoming == Incoming::Zstd && level <= TRANSPORT_LEVEL,
            "{options:?}"
        );
        let (back, bytes) = run(unsealed(measured.raw_size, &stored, &[65_536])).unwrap();
        assert!(bytes == raw, "{options:?}");
        assert_eq!(back.inspection, measured.inspection);
    }
}

#[test]
fn what_is_written_carries_a_checksum_and_no_size() {
    for (level, threads) in [(1, 0), (3, 4), (5, 4)] {
        let raw = sample(5 << 20);
        let options = options(Incoming::Raw, level, threads);
        let (_, stored) = run(sealed(options.clone(), keeper(), &raw, &[1 << 20])).unwrap();
        // RFC 8878, 3.1.1.1.1: bit 2 is the checksum flag, bits 6 and 7 tell a size of the content.
        assert_eq!(stored[..4], [0x28, 0xb5, 0x2f, 0xfd]);
        assert_eq!(stored[4] & 0b1110_0100, 0b0000_0100, "{options:?}");
    }
}

#[test]
fn nothing_is_a_stream_too_but_no_transport_is() {
    let options_raw = options(Incoming::Raw, 1, 0);
    let (measured, stored) = run(sealed(options_raw, keeper(), b"", &[1])).unwrap();
    assert_eq!(measured.raw_size, 0);
    assert!(!stored.is_empty());
    let (_, raw) = run(unsealed(0, &stored, &[1])).unwrap();
    assert!(raw.is_empty());
    let error = run(sealed(options(Incoming::Zstd, 1, 0), keeper(), b"", &[1])).unwrap_err();
    assert!(error.to_string().contains("empty"), "{error}");
    assert!(run(unsealed(0, b"", &[1])).is_err());
}

#[test]
fn several_frames_are_one_stream() {
    let frames = [compress(b"one ", 1), compress(b"", 1), compress(b"two", 1)].concat();
    for sizes in [&[1][..], &[5], &[1000]] {
        let options = options(Incoming::Zstd, 1, 0);
        let (measured, _) = run(sealed(options.clone(), keeper(), &frames, sizes)).unwrap();
        assert_eq!(measured.inspection.facts["seen"], json!(b"one two"));
        let (_, raw) = run(unsealed(7, &frames, sizes)).unwrap();
        assert_eq!(raw, b"one two");
    }
}

#[test]
fn every_truncated_transport_is_an_error() {
    let transport = compress(&sample(300), 1);
    run(async {
        for length in 0..transport.len() {
            for level in [1, 4] {
                let options = options(Incoming::Zstd, level, 0);
                let error = sealed(options, keeper(), &transport[..length], &[9])
                    .await
                    .unwrap_err();
                assert_eq!(error.kind(), Kind::Failed, "cut to {length}");
            }
            let error = unsealed(300, &transport[..length], &[9]).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Damaged, "cut to {length}");
        }
    });
}

#[test]
fn whatever_follows_the_last_frame_is_an_error() {
    for rest in [&b"\0"[..], b"(", b"\x28\xb5\x2f\xfd", b"trailing garbage"] {
        let transport = [compress(b"whole", 1), rest.to_vec()].concat();
        for size in [1, 3, 1000] {
            let options = options(Incoming::Zstd, 1, 0);
            assert!(run(sealed(options.clone(), keeper(), &transport, &[size])).is_err());
            assert!(run(unsealed(5, &transport, &[size])).is_err());
        }
    }
}

#[test]
fn a_flipped_bit_is_an_error() {
    // As zstd's command does by default, the transport carries a checksum.
    let mut transport = Vec::new();
    let mut encoder = zstd::Encoder::new(&mut transport, 1).unwrap();
    encoder.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut encoder, &sample(20_000)).unwrap();
    encoder.finish().unwrap();
    run(async {
        for place in (0..transport.len()).step_by(97) {
            let mut broken = transport.clone();
            broken[place] ^= 0x10;
            // The one bit that nobody reads: "unused" of the frame's header.
            if place == 4 {
                continue;
            }
            assert!(
                unsealed(20_000, &broken, &[4096]).await.is_err(),
                "at {place}"
            );
        }
    });
}

#[test]
fn a_bomb_goes_off_at_once() {
    // A gigabyte of nothing, 32 KiB of frames.
    let mebibyte = compress(&vec![0; 1 << 20], 19);
    let bomb = mebibyte.repeat(1024);
    let error = run(async {
        let limits = Limits { raw_size: 3 << 20 };
        let (input, mut output) = unseal(limits, Box::new(RawInspector::new()));
        let mut seen = 0;
        let read = drain(&mut output, &mut seen);
        let (pushed, drained) = tokio::join!(push_all(input, &bomb), read);
        assert!(drained.is_err());
        assert!(seen <= 3 << 20);
        pushed.unwrap_err()
    });
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.to_string().contains("more than"), "{error}");
}

async fn push_all(mut input: Input, bytes: &[u8]) -> Result<Measured> {
    for piece in bytes.chunks(4096) {
        input.push(Bytes::copy_from_slice(piece)).await?;
    }
    input.finish().await
}

async fn drain(output: &mut Output, seen: &mut usize) -> Result<()> {
    while let Some(bytes) = output.next().await? {
        *seen += bytes.len();
    }
    Ok(())
}

#[test]
fn a_window_beyond_the_cap_is_refused() {
    // RFC 8878, 3.1.1.1.2: an exponent of 18 is a window of 2^28 bytes; an empty last block.
    let greedy = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 18 << 3, 1, 0, 0];
    let modest = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 1, 0, 0];
    assert!(run(unsealed(0, &greedy, &[100])).is_err());
    assert!(run(unsealed(0, &modest, &[100])).is_ok());
}

#[test]
fn fewer_bytes_than_the_manifest_says_are_damage() {
    let stored = compress(&sample(1000), 1);
    let error = run(unsealed(1001, &stored, &[100])).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(run(unsealed(999, &stored, &[100])).is_err());
    assert!(run(unsealed(1000, &stored, &[100])).is_ok());
}

#[test]
fn an_examination_tells_the_same_without_output() {
    let stored = compress(&sample(100_000), 1);
    let examined =
        |raw_size| run(async { push_all(examine(Limits { raw_size }, keeper()), &stored).await });
    assert_eq!(examined(100_000).unwrap().raw_size, 100_000);
    assert!(examined(99_999).is_err());
    assert!(examined(100_001).is_err());
}

#[test]
fn an_inspectors_error_stops_the_producer() {
    let raw = sample(1 << 20);
    let transport = compress(&raw, 1);
    for (incoming, level) in [(Incoming::Raw, 1), (Incoming::Zstd, 1), (Incoming::Zstd, 5)] {
        let bytes = Bytes::from(match incoming {
            Incoming::Raw | Incoming::Proven => raw.clone(),
            Incoming::Zstd => transport.clone(),
        });
        let (pushed, ended) = run(async {
            let halves = seal(&options(incoming, level, 0), failing(1000)).unwrap();
            let (mut input, mut output) = halves;
            let read = async {
                // A producer that never ends.
                loop {
                    if let Err(error) = input.push(bytes.clone()).await {
                        drop(input);
                        return error;
                    }
                }
            };
            let mut seen = 0;
            tokio::join!(read, drain(&mut output, &mut seen))
        });
        assert_eq!(pushed.to_string(), "not as it should be");
        assert_eq!(pushed.hint_text(), Some("look again"));
        assert_eq!(pushed.kind(), Kind::Failed);
        // Whoever only reads learns of it as well.
        assert_eq!(ended.unwrap_err().to_string(), "not as it should be");
    }
}

#[test]
fn an_inspector_has_the_last_word() {
    let stored = compress(b"REDI", 1);
    let inspector = || Box::new(RawInspector::with_magic("REDIS"));
    let options = options(Incoming::Zstd, 1, 0);
    assert!(run(sealed(options, inspector(), &stored, &[100])).is_err());
    let halves = || unseal(Limits { raw_size: 4 }, inspector());
    let error = run(async { drive(halves(), &stored, &[100]).await }).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
}

#[test]
fn a_dropped_input_is_no_end() {
    let stored = compress(&sample(1000), 1);
    run(async {
        for which in 0..3 {
            let (mut input, mut output) = match which {
                0 => seal(&options(Incoming::Raw, 1, 0), keeper()).unwrap(),
                1 => seal(&options(Incoming::Zstd, 1, 0), keeper()).unwrap(),
                _ => unseal(Limits { raw_size: 1000 }, keeper()),
            };
            input.push(Bytes::from(stored.clone())).await.unwrap();
            drop(input);
            let error = drain(&mut output, &mut 0).await.unwrap_err();
            assert!(error.to_string().contains("abandoned"), "{which}: {error}");
        }
    });
}

#[test]
fn a_dropped_output_stops_the_producer() {
    let bytes = Bytes::from(sample(1 << 20));
    let frame = Bytes::from(compress(&bytes, 1));
    run(async {
        for which in 0..4 {
            let (mut input, output) = match which {
                0 => seal(&options(Incoming::Raw, 1, 0), keeper()).unwrap(),
                1 => seal(&options(Incoming::Zstd, 1, 0), keeper()).unwrap(),
                2 => seal(&options(Incoming::Zstd, 4, 0), keeper()).unwrap(),
                _ => unseal(Limits { raw_size: u64::MAX }, Box::new(RawInspector::new())),
            };
            let bytes = if which == 0 { &bytes } else { &frame };
            input.push(bytes.clone()).await.unwrap();
            drop(output);
            let error = loop {
                if let Err(error) = input.push(bytes.clone()).await {
                    break error;
                }
            };
            assert!(error.to_string().contains("went away"), "{which}: {error}");
        }
    });
}

#[test]
fn a_worker_that_panics_is_an_error() {
    struct Panics;
    impl Inspector for Panics {
        fn feed(&mut self, _: &[u8]) -> Result<()> {
            panic!("on purpose")
        }
        fn finish(self: Box<Self>) -> Result<Inspection> {
            unreachable!()
        }
    }
    for incoming in [Incoming::Raw, Incoming::Zstd] {
        let bytes = compress(b"some", 1);
        let options = options(incoming, 1, 0);
        assert!(run(sealed(options, Box::new(Panics), &bytes, &[100])).is_err());
    }
}

#[test]
fn a_slow_reader_slows_the_producer_down() {
    let pushed = Arc::new(AtomicU64::new(0));
    // What does not compress, so that as much comes out as goes in.
    let noise = |incoming| {
        let mut noise = vec![0; 64 * 1024];
        getrandom::fill(&mut noise).unwrap();
        match incoming {
            Incoming::Raw | Incoming::Proven => Bytes::from(noise),
            Incoming::Zstd => Bytes::from(compress(&noise, 1)),
        }
    };
    run(async {
        for incoming in [Incoming::Raw, Incoming::Zstd] {
            let (mut input, output) =
                seal(&options(incoming, 1, 0), Box::new(RawInspector::new())).unwrap();
            pushed.store(0, Ordering::SeqCst);
            let counted = Arc::clone(&pushed);
            let producer = tokio::spawn(async move {
                loop {
                    let piece = noise(incoming);
                    let length = piece.len() as u64;
                    if input.push(piece).await.is_err() {
                        break;
                    }
                    counted.fetch_add(length, Ordering::SeqCst);
                }
            });
            let mut before = u64::MAX;
            while before != pushed.load(Ordering::SeqCst) {
                before = pushed.load(Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!(
                (1..8 << 20).contains(&before),
                "{incoming:?}: {before} bytes in queues"
            );
            drop(output);
            producer.await.unwrap();
        }
    });
}

#[test]
fn a_level_that_does_not_exist_is_refused() {
    for level in [0, 20] {
        let error = seal(&options(Incoming::Raw, level, 0), keeper())
            .err()
            .unwrap();
        assert_eq!(error.kind(), Kind::Usage);
    }
}

#[test]
fn both_halves_can_be_spawned() {
    fn is_send<T: Send>(_: &T) {}
    run(async {
        let (input, output) = seal(&options(Incoming::Raw, 1, 0), keeper()).unwrap();
        let driven = drive((input, output), b"x", &[1]);
        is_send(&driven);
        driven.await.unwrap();
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_in_any_pieces_come_back(
        raw in prop::collection::vec(any::<u8>(), 0..5000),
        repeat in 1_usize..200,
        sizes in prop::collection::vec(1_usize..100_000, 1..8),
        level in 1_u8..=6,
        threads in 0_u32..3,
        is_zstd in any::<bool>(),
    ) {
        let raw = raw.repeat(repeat);
        let (incoming, transport) = if is_zstd {
            (Incoming::Zstd, compress(&raw, 1))
        } else {
            (Incoming::Raw, raw.clone())
        };
        let plain = Box::new(RawInspector::new());
        run(async {
            let options = options(incoming, level, threads);
            let (measured, stored) = sealed(options, plain, &transport, &sizes).await.unwrap();
            prop_assert_eq!(measured.raw_size, raw.len() as u64);
            prop_assert_eq!(measured.stored_size, stored.len() as u64);
            let halves = unseal(Limits { raw_size: measured.raw_size }, Box::new(RawInspector::new()));
            let (_, back) = drive(halves, &stored, &sizes).await.unwrap();
            prop_assert!(back == raw);
            Ok(())
        })?;
    }

    #[test]
    fn noise_is_no_transport(noise in prop::collection::vec(any::<u8>(), 1..300)) {
        let plain = Box::new(RawInspector::new());
        let options = options(Incoming::Zstd, 1, 0);
        prop_assert!(run(sealed(options, plain, &noise, &[50])).is_err());
    }
}

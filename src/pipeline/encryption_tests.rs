//! Encrypted streams: whole, cut, changed, added to, and read with every kind of key.

use super::encryption::*;
use super::{Incoming, Input, Measured, Output, RawInspector, SealOptions, seal};
use crate::error::{Error, Kind, Result};
use bytes::Bytes;
use secrecy::ExposeSecret;
use std::time::Duration;

/// What age encrypts at once, and what that is as stored.
const CHUNK: usize = 64 * 1024;
const STORED_CHUNK: usize = CHUNK + 16;

const ED25519: &str = include_str!("../../tests/data/encryption/ed25519");
const ED25519_PUBLIC: &str = include_str!("../../tests/data/encryption/ed25519.pub");
const ED25519_LOCKED: &str = include_str!("../../tests/data/encryption/ed25519-locked");
const RSA: &str = include_str!("../../tests/data/encryption/rsa");
const RSA_PUBLIC: &str = include_str!("../../tests/data/encryption/rsa.pub");

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let patience = Duration::from_secs(30);
    runtime.block_on(async { tokio::time::timeout(patience, work).await.expect("a hang") })
}

fn noise(length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    getrandom::fill(&mut noise).unwrap();
    noise
}

async fn drive(
    (mut input, mut output): (Input, Output),
    bytes: &[u8],
) -> Result<(Measured, Vec<u8>)> {
    let read = async {
        for piece in bytes.chunks(50_001) {
            input.push(Bytes::copy_from_slice(piece)).await?;
        }
        input.finish().await
    };
    let write = async {
        let mut written = Vec::new();
        while let Some(bytes) = output.next().await? {
            written.extend_from_slice(&bytes);
        }
        Ok(written)
    };
    tokio::try_join!(read, write)
}

/// A stream that arrives compressed and proven, so that it is only encrypted on its way.
fn encrypting(recipients: &Recipients) -> (Input, Output) {
    let options = SealOptions {
        incoming: Incoming::Proven,
        level: 1,
        threads: 0,
        recipients: Some(recipients.clone()),
    };
    seal(&options, Box::new(RawInspector::new())).unwrap()
}

fn encrypted(recipients: &Recipients, plain: &[u8]) -> Vec<u8> {
    let (measured, stored) = run(async { drive(encrypting(recipients), plain).await }).unwrap();
    assert_eq!(measured.stored_size, stored.len() as u64);
    stored
}

fn decrypted(identities: &Identities, stored: &[u8]) -> Result<Vec<u8>> {
    let (measured, plain) = run(async { drive(decrypt(identities), stored).await })?;
    assert_eq!(measured.raw_size, plain.len() as u64);
    Ok(plain)
}

fn to(lines: &[&str]) -> Recipients {
    Recipients::parse(&lines.join("\n")).unwrap()
}

fn with(text: &str) -> Identities {
    let mut identities = IdentityCollector::default();
    identities.add(text, "the test").unwrap();
    identities.finish()
}

/// A new key: who can read with it, and its public key.
fn key() -> (Identities, String) {
    let (secret, public) = generate_key("now");
    (with(secret.expose_secret()), public)
}

#[test]
fn streams_of_every_length_come_back() {
    let (identities, public) = key();
    let recipients = to(&[&public]);
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 10 * CHUNK + 3] {
        let plain = noise(length);
        let stored = encrypted(&recipients, &plain);
        assert!(stored.starts_with(b"age-encryption.org/v1\n"));
        assert!(
            decrypted(&identities, &stored).unwrap() == plain,
            "{length}"
        );
        let at_once = identities.decrypt(&stored, 1 << 20).unwrap();
        assert!(at_once == plain, "{length}");
        let at_once = recipients.encrypt(&plain).unwrap();
        assert!(
            decrypted(&identities, &at_once).unwrap() == plain,
            "{length}"
        );
    }
}

/// Where an age stream ends its header and each of its chunks.
fn boundaries(stored: &[u8]) -> Vec<usize> {
    let mac = stored.windows(4).position(|four| four == b"\n---").unwrap();
    let line = stored[mac + 1..].iter().position(|byte| *byte == b'\n');
    let header = mac + 1 + line.unwrap() + 1;
    let mut found = vec![header, header + 16];
    while found.last().unwrap() + STORED_CHUNK < stored.len() {
        found.push(found.last().unwrap() + STORED_CHUNK);
    }
    found
}

#[test]
fn every_cut_change_and_addition_is_damage() {
    let (identities, public) = key();
    for length in [100, CHUNK, 2 * CHUNK, 2 * CHUNK + 100] {
        let stored = encrypted(&to(&[&public]), &noise(length));
        let expect_damage = |bad: &[u8], what: &str| {
            let error = decrypted(&identities, bad).expect_err(what);
            assert_eq!(error.kind(), Kind::Damaged, "{what}: {}", error.chain());
        };
        let boundaries = boundaries(&stored);
        for boundary in &boundaries {
            for at in [boundary - 1, *boundary, boundary + 1] {
                expect_damage(&stored[..at], &format!("{length} cut to {at}"));
                let mut flipped = stored.clone();
                flipped[at] ^= 1;
                expect_damage(&flipped, &format!("{length} changed at {at}"));
                let mut longer = stored.clone();
                longer.insert(at, b'x');
                expect_damage(&longer, &format!("{length} with one more at {at}"));
            }
        }
        expect_damage(&[], "nothing");
        expect_damage(&stored[..stored.len() - 1], "without the last byte");
        expect_damage(&[&stored[..], b"x"].concat(), "with one byte more");
        expect_damage(&[&stored[..], &stored[..]].concat(), "twice");
        // Whole chunks in another order, and one that is not there.
        if boundaries.len() > 3 {
            let (first, second) = (boundaries[1], boundaries[2]);
            let swapped = [
                &stored[..first],
                &stored[second..second + STORED_CHUNK],
                &stored[first..second],
                &stored[second + STORED_CHUNK..],
            ];
            expect_damage(&swapped.concat(), "swapped");
            let lacking = [&stored[..first], &stored[second..]];
            expect_damage(&lacking.concat(), "without its first chunk");
        }
    }
}

#[test]
fn a_key_that_is_none_of_theirs_opens_nothing() {
    let (own, public) = key();
    let (other, second) = key();
    let stored = encrypted(&to(&[&public, ED25519_PUBLIC]), b"words");
    let error = decrypted(&other, &stored).unwrap_err();
    assert_eq!(error.kind(), Kind::Key);
    assert!(error.hint_text().unwrap().contains("--identity"));
    let error = decrypted(&Identities::default(), &stored).unwrap_err();
    assert_eq!(error.kind(), Kind::Key);
    assert!(error.to_string().contains("no key is given"));
    // Each of several recipients can read, and so can who has several keys.
    let stored = encrypted(&to(&[&public, &second]), b"words");
    assert_eq!(decrypted(&own, &stored).unwrap(), b"words");
    assert_eq!(decrypted(&other, &stored).unwrap(), b"words");
    let mut both = IdentityCollector::default();
    both.add(generate_key("now").0.expose_secret(), "the test")
        .unwrap();
    both.add(ED25519, "the test").unwrap();
    let stored = encrypted(&to(&[ED25519_PUBLIC]), b"words");
    assert_eq!(decrypted(&both.finish(), &stored).unwrap(), b"words");
}

#[test]
fn ssh_keys_open_what_is_encrypted_to_them() {
    let both = to(&[&format!("# two keys\n\n{ED25519_PUBLIC}\n{RSA_PUBLIC}")]);
    let stored = encrypted(&both, b"words");
    for identity in [ED25519, RSA] {
        assert_eq!(decrypted(&with(identity), &stored).unwrap(), b"words");
    }
    let error = decrypted(&with(RSA), &encrypted(&to(&[ED25519_PUBLIC]), b"")).unwrap_err();
    assert_eq!(error.kind(), Kind::Key);
    let mut identities = IdentityCollector::default();
    let error = identities.add(ED25519_LOCKED, "id").unwrap_err();
    assert!(error.hint_text().unwrap().contains("ssh-keygen -p"));
}

#[test]
fn a_passphrase_opens_what_is_encrypted_to_it() {
    let knowing = |passphrase: &str| {
        let mut identities = IdentityCollector::default();
        identities.add_passphrase(passphrase);
        identities.finish()
    };
    let stored = encrypted(&Recipients::passphrase("correct horse"), b"words");
    let error = decrypted(&knowing("wrong horse"), &stored).unwrap_err();
    assert_eq!(error.kind(), Kind::Key);
    let right = knowing("correct horse");
    assert_eq!(decrypted(&right, &stored).unwrap(), b"words");
    // A header that asks for days of work, or for more memory than there is.
    let header = stored.windows(4).position(|four| four == b"\n---").unwrap();
    let text = String::from_utf8(stored[..header].to_vec()).unwrap();
    let (line, rest) = text.split_once('\n').unwrap().1.split_once('\n').unwrap();
    let (words, _) = line.rsplit_once(' ').unwrap();
    let mut hostile = format!("age-encryption.org/v1\n{words} 30\n{rest}").into_bytes();
    hostile.extend(&stored[header..]);
    let error = decrypted(&right, &hostile).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged, "{}", error.chain());
    assert!(error.to_string().contains("2^30"), "{error}");
}

#[test]
fn the_header_is_enough_to_know_whether_a_key_fits() {
    let (identities, public) = key();
    let stored = encrypted(&to(&[&public]), &noise(3 * CHUNK));
    identities.check(&stored[..1000]).unwrap();
    let kind = |checked: Result<()>| checked.unwrap_err().kind();
    assert_eq!(kind(key().0.check(&stored[..1000])), Kind::Key);
    assert_eq!(kind(identities.check(&stored[..60])), Kind::Damaged);
}

#[test]
fn a_header_without_an_end_takes_no_memory() {
    let (identities, _) = key();
    for line in ["-> x y\nAAAA\n", &format!("-> {}\n\n", "x".repeat(60_000))] {
        let mut endless = b"age-encryption.org/v1\n".to_vec();
        endless.extend(line.repeat(1 + (1 << 20) / line.len()).as_bytes());
        let error = decrypted(&identities, &endless).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged);
        assert!(
            error.to_string().contains("without an end"),
            "{}",
            error.chain()
        );
    }
    // As many recipients as anybody has are readable.
    let stored = encrypted(&to(&[RSA_PUBLIC; 50]), b"words");
    assert_eq!(decrypted(&with(RSA), &stored).unwrap(), b"words");
}

#[test]
fn what_is_no_key_is_refused_and_no_secret_shown() {
    let (secret, public) = generate_key("now");
    let private = secret.expose_secret().lines().last().unwrap();
    for text in [
        private,
        "age1qqqqqqq",
        "ssh-dss AAAAB3NzaC1kc3M=",
        "# nothing\n\n",
        "hunter2",
    ] {
        let error = Recipients::parse(text).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        for shown in [error.chain(), error.hint_text().unwrap_or("").to_owned()] {
            assert!(!shown.contains("hunter2") && !shown.contains(private));
        }
    }
    for text in [
        "hunter2",
        "",
        &public,
        "age-encryption.org/v1\n",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2",
    ] {
        let mut identities = IdentityCollector::default();
        let error: Error = identities.add(text, "FILE").unwrap_err();
        assert_eq!(error.kind(), Kind::Key);
        assert!(error.to_string().contains("FILE"), "{error}");
        assert!(!error.chain().contains("hunter2"), "{error}");
    }
    assert!(!format!("{:?}", with(private)).contains("SECRET"));
}

#[test]
fn a_dropped_input_leaves_no_stream_that_looks_whole() {
    let (identities, public) = key();
    let plain = noise(CHUNK);
    run(async {
        let (mut input, mut output) = encrypting(&to(&[&public]));
        input.push(Bytes::from(plain.clone())).await.unwrap();
        drop(input);
        let mut stored = Vec::new();
        let error = loop {
            match output.next().await {
                Ok(Some(bytes)) => stored.extend_from_slice(&bytes),
                Ok(None) => panic!("an end"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("abandoned"), "{error}");
        assert!(identities.decrypt(&stored, 1 << 20).is_err());
    });
    let stored = encrypted(&to(&[&public]), &plain);
    run(async {
        let (mut input, mut output) = decrypt(&identities);
        input.push(Bytes::from(stored)).await.unwrap();
        drop(input);
        let error = loop {
            match output.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("an end"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("abandoned"), "{error}");
    });
}

#[test]
fn a_dropped_output_stops_the_producer() {
    let (_, public) = key();
    run(async {
        let (mut input, output) = encrypting(&to(&[&public]));
        drop(output);
        let piece = Bytes::from(noise(1 << 20));
        let error = loop {
            if let Err(error) = input.push(piece.clone()).await {
                break error;
            }
        };
        assert!(error.to_string().contains("went away"), "{error}");
    });
}

//! The end proof against an engine that cuts, garbles and lies.

use crate::support::engine::{BadEngine, Inspect, Script, Step, frame};
use bytes::Bytes;
use lifeboat::docker::exec::{Command, Transport};
use lifeboat::error::{Error, Result};
use std::time::Duration;

const ZSTD: Transport = Transport::Zstd {
    level: 1,
    threads: 2,
};

fn command() -> Command {
    Command::new("/usr/bin/pg_dump", ["-Fc"]).end_timeout(Duration::from_millis(300))
}

/// Reads a producer to its end; `Ok` only with its proof.
async fn produce(script: Script, transport: Transport) -> Result<Vec<u8>> {
    produce_with(script, transport, command()).await
}

async fn produce_with(script: Script, transport: Transport, command: Command) -> Result<Vec<u8>> {
    let bad = BadEngine::start(script);
    let engine = bad.connect().await;
    let mut producer = engine.produce("c1", &command, transport).await?;
    let mut data = Vec::new();
    while let Some(bytes) = producer.next().await? {
        data.extend_from_slice(&bytes);
    }
    let proof = producer.finish().await?;
    assert_eq!(proof.bytes(), data.len() as u64);
    assert_eq!(bad.received(), b"\n", "it was not acknowledged");
    Ok(data)
}

/// Feeds a consumer three chunks.
async fn consume(script: Script, transport: Transport) -> Result<()> {
    let bad = BadEngine::start(script);
    let engine = bad.connect().await;
    let mut consumer = engine.consume("c1", &command(), transport).await?;
    for chunk in ["one", "two", "three"] {
        consumer.write(Bytes::from(chunk)).await?;
    }
    let end = consumer.finish().await?;
    assert_eq!(end.written, 11);
    assert_eq!(bad.received(), b"onetwothree");
    Ok(())
}

fn stdout(text: impl AsRef<[u8]>) -> Step {
    Step::Send(frame(1, text.as_ref()))
}

fn stderr(text: &str) -> Step {
    Step::Send(frame(2, text.as_bytes()))
}

/// A whole exchange: data, then a mark with these statuses.
fn whole(statuses: &'static str) -> Script {
    Script::new(move |nonce| {
        vec![
            stdout("PGDMP and more"),
            stderr("pg_dump: warning: hm\n"),
            stdout(format!("the end{nonce}:{statuses}\n")),
            Step::AwaitNewline,
        ]
    })
}

fn text_of(result: Result<impl Sized>) -> String {
    let error: Error = result.err().expect("it was taken for a success");
    format!(
        "{} | {}",
        error.chain(),
        error.hint_text().unwrap_or_default()
    )
}

#[tokio::test]
async fn a_whole_exchange_is_a_success() {
    let data = produce(whole("c0"), Transport::Raw).await.unwrap();
    assert_eq!(data, b"PGDMP and morethe end");
    let data = produce(whole("c0 z0"), ZSTD).await.unwrap();
    assert_eq!(data, b"PGDMP and morethe end");
}

#[tokio::test]
async fn a_connection_that_is_cut_anywhere_is_no_success() {
    let bytes = |nonce: &str| {
        [
            frame(1, b"some data"),
            frame(2, b"a warning\n"),
            frame(1, format!("more{nonce}:c0\n").as_bytes()),
        ]
        .concat()
    };
    let length = bytes(&"0".repeat(32)).len();
    for cut in 0..length {
        let script = Script::new(move |nonce| vec![Step::Send(bytes(nonce)[..cut].to_vec())]);
        let result = produce(script, Transport::Raw).await;
        assert!(result.is_err(), "cut after {cut} of {length} bytes");
    }
    // All the bytes, and the connection closes without waiting for the acknowledgement: this the
    // engine's own word decides.
    for code in [96, 1] {
        let script = Script::new(move |nonce| vec![Step::Send(bytes(nonce))])
            .inspects([Inspect::ended(code)]);
        assert!(produce(script, Transport::Raw).await.is_err());
    }
}

#[tokio::test]
async fn a_mark_in_pieces_is_found_and_every_byte_is_exact() {
    let stream = |nonce: &str| format!("data that ends in 0a{nonce}:c0\n").into_bytes();
    let length = stream(&"0".repeat(32)).len();
    for cut in 1..length {
        let script = Script::new(move |nonce| {
            let bytes = stream(nonce);
            vec![
                stdout(&bytes[..cut]),
                stdout(&bytes[cut..]),
                Step::AwaitNewline,
            ]
        });
        let data = produce(script, Transport::Raw).await.unwrap();
        assert_eq!(data, b"data that ends in 0a", "cut at {cut}");
    }
    let script = Script::new(move |nonce| {
        let mut steps: Vec<Step> = stream(nonce).iter().map(|byte| stdout([*byte])).collect();
        steps.push(Step::AwaitNewline);
        steps
    });
    let data = produce(script, Transport::Raw).await.unwrap();
    assert_eq!(data, b"data that ends in 0a", "byte by byte");
}

#[tokio::test]
async fn half_a_nonce_in_the_data_is_data() {
    let script = Script::new(|nonce| {
        vec![
            stdout(&nonce[..31]),
            stdout(format!("x{}", &nonce[..16])),
            stdout(format!("{nonce}:c0\n")),
            Step::AwaitNewline,
        ]
    });
    let data = produce(script, Transport::Raw).await.unwrap();
    assert_eq!(data.len(), 31 + 1 + 16);
}

#[tokio::test]
async fn an_empty_output_is_a_success_of_nothing() {
    let script = Script::new(|nonce| vec![stdout(format!("{nonce}:c0\n")), Step::AwaitNewline]);
    assert_eq!(produce(script, Transport::Raw).await.unwrap(), b"");
}

#[tokio::test]
async fn another_runs_mark_is_no_mark() {
    let script = Script::new(|nonce| {
        let other: String = nonce.chars().rev().collect();
        vec![stdout(format!("data{other}:c0\n"))]
    });
    let text = text_of(produce(script, Transport::Raw).await);
    assert!(text.contains("before its end mark"), "{text}");
    assert!(text.contains("socket proxy"), "{text}");
}

#[tokio::test]
async fn nothing_may_follow_the_mark() {
    let same_frame =
        Script::new(|nonce| vec![stdout(format!("data{nonce}:c0\nx")), Step::AwaitNewline]);
    let next_frame = Script::new(|nonce| {
        vec![
            stdout(format!("data{nonce}:c0\n")),
            stdout("x"),
            Step::AwaitNewline,
        ]
    });
    let after_the_acknowledgement = Script::new(|nonce| {
        vec![
            stdout(format!("data{nonce}:c0\n")),
            Step::AwaitNewline,
            stdout("x"),
        ]
    });
    for script in [same_frame, next_frame, after_the_acknowledgement] {
        let text = text_of(produce(script, Transport::Raw).await);
        assert!(text.contains("after its end"), "{text}");
    }
    let stderr_may = Script::new(|nonce| {
        vec![
            stdout(format!("data{nonce}:c0\n")),
            Step::AwaitNewline,
            stderr("bye\n"),
        ]
    });
    assert!(produce(stderr_may, Transport::Raw).await.is_ok());
}

#[tokio::test]
async fn every_status_counts_and_is_named() {
    for (statuses, transport, named) in [
        (
            "c1",
            Transport::Raw,
            "pg_dump ended with status 1: pg_dump: warning: hm",
        ),
        ("c1 z0", ZSTD, "pg_dump ended with status 1"),
        (
            "c0 z137",
            ZSTD,
            "zstd (in the container) ended with status 137",
        ),
        (
            "c141 z137",
            ZSTD,
            "zstd (in the container) ended with status 137: pg_dump: warning",
        ),
        ("c127", Transport::Raw, "no `pg_dump`"),
        ("z127 c141", ZSTD, "no `zstd`"),
    ] {
        let text = text_of(produce(whole(statuses), transport).await);
        assert!(text.contains(named), "{statuses}: {text}");
    }
}

#[tokio::test]
async fn a_mark_that_does_not_fit_the_transport_is_refused() {
    for (statuses, transport) in [
        ("c0", ZSTD),
        ("c0 z0", Transport::Raw),
        ("z0", ZSTD),
        ("0", Transport::Raw),
        ("", Transport::Raw),
        ("c0 c0", Transport::Raw),
    ] {
        let result = produce(whole(statuses), transport).await;
        assert!(result.is_err(), "{statuses:?} passed");
    }
}

#[tokio::test]
async fn the_engine_must_agree() {
    let script = whole("c0").inspects([Inspect::ended(96)]);
    let text = text_of(produce(script, Transport::Raw).await);
    assert!(text.contains("exit code 96"), "{text}");
    let script = whole("c0").inspects([Inspect::RUNNING]);
    let text = text_of(produce(script, Transport::Raw).await);
    assert!(text.contains("does not end"), "{text}");
    let late = whole("c0").inspects([Inspect::RUNNING, Inspect::RUNNING, Inspect::WELL]);
    assert!(produce(late, Transport::Raw).await.is_ok());
}

#[tokio::test]
async fn an_acknowledgement_without_an_effect_ends_in_time() {
    let script = Script::new(|nonce| {
        vec![
            stdout(format!("data{nonce}:c0\n")),
            Step::AwaitNewline,
            Step::Pause(Duration::from_mins(1)),
        ]
    });
    let text = text_of(produce(script, Transport::Raw).await);
    assert!(text.contains("does not end"), "{text}");
}

#[tokio::test]
async fn a_start_error_on_stdout_is_read_as_such() {
    for (missing, hint) in [("sh", "no `sh`"), ("pg_dump", "no `pg_dump`")] {
        let said = format!(
            "OCI runtime exec failed: exec failed: unable to start container process: exec: \
             \"{missing}\": executable file not found in $PATH: unknown\r\n"
        );
        let script = Script::new(move |_| vec![stdout(&said)]).inspects([Inspect::ended(126)]);
        let text = text_of(produce(script, Transport::Raw).await);
        assert!(
            text.contains("cannot start pg_dump") && text.contains(hint),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_stream_without_frames_is_torn() {
    for bytes in [
        &b"raw text without any header"[..],
        &[1, 0, 0],
        &[3, 0, 0, 0, 0, 0, 0, 1, 65],
    ] {
        let script = Script::new(move |_| vec![Step::Send(bytes.to_vec())]);
        let text = text_of(produce(script, Transport::Raw).await);
        assert!(text.contains("torn"), "{text}");
    }
}

#[tokio::test]
async fn a_container_that_stopped_is_named() {
    let script = Script::new(|_| vec![stdout("data")])
        .inspects([Inspect::ended(137)])
        .container("exited");
    let text = text_of(produce(script, Transport::Raw).await);
    assert!(
        text.contains("the container stopped with exit code 137"),
        "{text}"
    );
}

#[tokio::test]
async fn a_silent_producer_is_given_up() {
    let script = || {
        Script::new(|nonce| {
            vec![
                stdout("data"),
                Step::Pause(Duration::from_millis(100)),
                stderr("waiting for a lock\n"),
                Step::Pause(Duration::from_millis(400)),
                stdout(format!("{nonce}:c0\n")),
                Step::AwaitNewline,
            ]
        })
    };
    let hasty = command().idle_timeout(Duration::from_millis(200));
    let text = text_of(produce_with(script(), Transport::Raw, hasty).await);
    assert!(
        text.contains("silent") && text.contains("waiting for a lock"),
        "{text}"
    );
    let patient = command().idle_timeout(Duration::from_secs(5));
    assert!(
        produce_with(script(), Transport::Raw, patient)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn finishing_before_the_end_is_no_success() {
    let bad = BadEngine::start(whole("c0"));
    let engine = bad.connect().await;
    let mut producer = engine
        .produce("c1", &command(), Transport::Raw)
        .await
        .unwrap();
    producer.next().await.unwrap();
    assert!(producer.finish().await.is_err());
}

#[tokio::test]
async fn a_short_command_gives_its_status() {
    let bad = BadEngine::start(whole("c3"));
    let engine = bad.connect().await;
    let output = engine.run("c1", &command()).await.unwrap();
    assert_eq!(output.status, 3);
    assert_eq!(output.stdout, b"PGDMP and morethe end");
    assert_eq!(output.stderr, "pg_dump: warning: hm\n");
}

#[tokio::test]
async fn a_consumer_that_ends_well_is_a_success() {
    let script =
        Script::new(|nonce| vec![Step::AwaitEnd, stdout(format!("hello\n{nonce}:c0 u0\n"))]);
    consume(script, Transport::Raw).await.unwrap();
    let script = Script::new(|nonce| vec![Step::AwaitEnd, stdout(format!("{nonce}:z0 c0 u0\n"))]);
    consume(script, ZSTD).await.unwrap();
}

#[tokio::test]
async fn a_consumer_without_its_mark_is_no_success() {
    let bytes = |nonce: &str| frame(1, format!("{nonce}:c0 u0\n").as_bytes());
    let length = bytes(&"0".repeat(32)).len();
    for cut in 0..length {
        let script = Script::new(move |nonce| {
            vec![Step::AwaitEnd, Step::Send(bytes(nonce)[..cut].to_vec())]
        });
        let result = consume(script, Transport::Raw).await;
        assert!(result.is_err(), "cut after {cut} of {length} bytes");
    }
}

#[tokio::test]
async fn a_consumer_that_fails_is_named_whenever_it_does() {
    let late = Script::new(|nonce| {
        vec![
            Step::AwaitEnd,
            stderr("pg_dump: error: disk full\n"),
            stdout(format!("{nonce}:z0 c1\n")),
        ]
    });
    let early = Script::new(|nonce| {
        vec![
            stderr("pg_dump: error: disk full\n"),
            stdout(format!("{nonce}:z141 c1\n")),
        ]
    });
    for script in [late, early] {
        let text = text_of(consume(script, ZSTD).await);
        assert!(text.contains("pg_dump ended with status 1"), "{text}");
        assert!(text.contains("disk full"), "{text}");
    }
    let bad_code = Script::new(|nonce| vec![Step::AwaitEnd, stdout(format!("{nonce}:c0 u0\n"))])
        .inspects([Inspect::ended(1)]);
    assert!(consume(bad_code, Transport::Raw).await.is_err());
}

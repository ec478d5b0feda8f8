//! Exec, locks and scratch containers with a real engine. It needs one that answers at
//! `DOCKER_HOST` or the usual socket, with the laboratory's image of PostgreSQL 15.

use bytes::Bytes;
use lifeboat::docker::Engine;
use lifeboat::docker::connect::{ConnectOptions, connect};
use lifeboat::docker::exec::{Command, Producer, Transport};
use lifeboat::docker::lock::LockTimes;
use lifeboat::docker::owner::Owner;
use lifeboat::docker::scratch::ScratchOptions;
use lifeboat::error::{Error, Kind, Result};
use lifeboat::secret::Secret;
use sha2::{Digest, Sha256};
use std::process::Command as Process;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const IMAGE: &str = "lifeboat-lab/postgres:15";
const ZSTD: Transport = Transport::Zstd {
    level: 1,
    threads: 2,
};

/// A container that does nothing, removed on drop.
struct Idle(String);

impl Idle {
    fn start(options: &[&str]) -> Self {
        let mut arguments = vec!["run", "-d", "--rm", "--network=none", "--log-driver=none"];
        arguments.extend(options);
        arguments.extend(["--entrypoint", "sleep", IMAGE, "600"]);
        Self(docker(&arguments))
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = Process::new("docker").args(["rm", "-f", &self.0]).output();
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Process::new("docker").args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn engine() -> Engine {
    #[expect(clippy::disallowed_methods, reason = "a test is an edge")]
    let host = std::env::var("DOCKER_HOST").ok();
    connect(&ConnectOptions {
        host,
        ..Default::default()
    })
    .await
    .unwrap()
}

fn sh(code: &str) -> Command {
    Command::new("sh", ["-c", code])
}

async fn read(producer: &mut Producer) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    while let Some(bytes) = producer.next().await? {
        data.extend_from_slice(&bytes);
    }
    Ok(data)
}

/// Reads a command to its end; `Ok` only with its proof.
async fn produce(id: &str, command: &Command, transport: Transport) -> Result<Vec<u8>> {
    let mut producer = engine().await.produce(id, command, transport).await?;
    let data = read(&mut producer).await?;
    let proof = producer.finish().await?;
    assert_eq!(proof.bytes(), data.len() as u64);
    Ok(data)
}

fn text_of(result: Result<impl Sized>) -> String {
    let error: Error = result.err().expect("it was taken for a success");
    format!(
        "{} | {}",
        error.chain(),
        error.hint_text().unwrap_or_default()
    )
}

/// What `seq 1 count` prints.
fn seq(count: u32) -> Vec<u8> {
    (1..=count)
        .flat_map(|n| format!("{n}\n").into_bytes())
        .collect()
}

/// Stalls for 5 s before the first byte and for 5 s shortly before the last one.
async fn read_with_stalls(
    id: &str,
    command: &Command,
    transport: Transport,
    total: u64,
) -> Vec<u8> {
    let mut producer = engine()
        .await
        .produce(id, command, transport)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut data = Vec::new();
    let mut stalled = false;
    while let Some(bytes) = producer.next().await.unwrap() {
        data.extend_from_slice(&bytes);
        if !stalled && producer.bytes() + 300_000 > total {
            stalled = true;
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }
    assert!(stalled);
    producer.finish().await.unwrap();
    data
}

#[tokio::test]
async fn a_reader_that_stalls_gets_every_byte() {
    let idle = Idle::start(&[]);
    let numbers = Command::new("seq", ["1", "1000000"]);
    // Random, so that the compressed stream is as long.
    let noise = sh("head -c 6000000 /dev/urandom | tee /tmp/noise");
    let (raw, compressed) = tokio::join!(
        read_with_stalls(&idle.0, &numbers, Transport::Raw, 6_888_896),
        read_with_stalls(&idle.0, &noise, ZSTD, 6_000_000),
    );
    assert!(raw == seq(1_000_000), "{} bytes", raw.len());
    let decoded = zstd::decode_all(&compressed[..]).unwrap();
    let sum = produce(
        &idle.0,
        &Command::new("sha256sum", ["/tmp/noise"]),
        Transport::Raw,
    )
    .await
    .unwrap();
    assert_eq!(decoded.len(), 6_000_000);
    assert!(sum.starts_with(hex::encode(Sha256::digest(&decoded)).as_bytes()));
}

/// The engine closes the streams of a process some two seconds after its end, whatever is still in
/// them; so a process must not end before its reader has everything.
#[tokio::test]
async fn a_process_does_not_end_before_its_reader_has_everything() {
    let idle = Idle::start(&[]);
    let engine = engine().await;
    let waits = || docker(&["top", &idle.0, "-eo", "pid,args"]).contains("read _");
    for transport in [Transport::Raw, ZSTD] {
        let command = Command::new("echo", ["done"]);
        let mut producer = engine.produce(&idle.0, &command, transport).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(waits(), "{transport:?}: it ended unread");
        read(&mut producer).await.unwrap();
        producer.finish().await.unwrap();
        assert!(!waits(), "{transport:?}: it waits for ever");
    }
}

#[tokio::test]
async fn a_producer_that_fails_late_is_no_success() {
    let idle = Idle::start(&[]);
    let command = sh("head -c 1048576 /dev/zero; echo no space >&2; exit 7");
    for transport in [Transport::Raw, ZSTD] {
        let text = text_of(produce(&idle.0, &command, transport).await);
        assert!(text.contains("sh ended with status 7: no space"), "{text}");
    }
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let idle = Idle::start(&["--user", "root"]);
    let missing = Command::new("pg_dumpp", ["-Fc"]);
    for transport in [Transport::Raw, ZSTD] {
        let text = text_of(produce(&idle.0, &missing, transport).await);
        assert!(text.contains("no `pg_dumpp`"), "{text}");
    }
    docker(&["exec", &idle.0, "rm", "/usr/bin/zstd"]);
    let text = text_of(produce(&idle.0, &Command::new("true", [""; 0]), ZSTD).await);
    assert!(text.contains("no `zstd`"), "{text}");
    docker(&["exec", &idle.0, "rm", "/bin/sh"]);
    let text = text_of(produce(&idle.0, &Command::new("true", [""; 0]), Transport::Raw).await);
    assert!(text.contains("no `sh`"), "{text}");
    let mut duplex = engine().await.duplex(&idle.0, &missing).await.unwrap();
    let error = duplex.read(&mut [0; 10]).await.unwrap_err();
    assert!(error.to_string().contains("pg_dumpp"), "{error}");
}

#[tokio::test]
async fn an_unknown_user_or_container_is_an_error() {
    let idle = Idle::start(&[]);
    let command = Command::new("true", [""; 0]).user("nobody-here");
    let text = text_of(produce(&idle.0, &command, Transport::Raw).await);
    assert!(text.contains("nobody-here"), "{text}");
    let text = text_of(produce("no-such-container", &command, Transport::Raw).await);
    assert!(text.contains("No such container"), "{text}");
}

/// Kills every process of that name in its own container.
const KILL_ZSTD: &str =
    "for d in /proc/[0-9]*; do read -r c <$d/comm; [ \"$c\" = zstd ] && kill -9 ${d#/proc/}; done";

#[tokio::test]
async fn a_dead_compressor_is_no_success() {
    let idle = Idle::start(&[]);
    // The producer itself ends well: what it wrote last still fits into the pipe.
    let command = sh(&format!(
        "head -c 3000000 /dev/urandom; {KILL_ZSTD}; exit 0"
    ));
    let text = text_of(produce(&idle.0, &command, ZSTD).await);
    assert!(
        text.contains("zstd (in the container) ended with status 137"),
        "{text}"
    );
}

#[tokio::test]
async fn a_dead_container_is_no_success() {
    let idle = Idle::start(&[]);
    let mut producer = engine()
        .await
        .produce(
            &idle.0,
            &sh("head -c 3000000 /dev/zero; sleep 60"),
            Transport::Raw,
        )
        .await
        .unwrap();
    for _ in 0..10 {
        producer.next().await.unwrap();
    }
    docker(&["kill", &idle.0]);
    let text = text_of(read(&mut producer).await);
    assert!(text.contains("container"), "{text}");
    assert!(producer.finish().await.is_err());
}

#[tokio::test]
async fn a_consumer_gets_every_byte_and_its_output_comes_back() {
    let idle = Idle::start(&[]);
    let engine = engine().await;
    let payload = seq(1_000_000);
    let sum = hex::encode(Sha256::digest(&payload));
    for transport in [Transport::Raw, ZSTD] {
        let bytes = match transport {
            Transport::Raw => payload.clone(),
            Transport::Zstd { .. } => zstd::encode_all(&payload[..], 1).unwrap(),
        };
        let command = Command::new("sha256sum", [""; 0]);
        let mut consumer = engine.consume(&idle.0, &command, transport).await.unwrap();
        let bytes = Bytes::from(bytes);
        for from in (0..bytes.len()).step_by(100_000) {
            let to = (from + 100_000).min(bytes.len());
            consumer.write(bytes.slice(from..to)).await.unwrap();
        }
        let end = consumer.finish().await.unwrap();
        assert!(end.stdout.starts_with(&sum), "{}", end.stdout);
        assert_eq!((end.written, end.unread), (bytes.len() as u64, Some(0)));
    }
}

/// Writes a payload in small pieces until it is taken or refused.
async fn feed(id: &str, code: &str, transport: Transport, payload: &[u8]) -> Result<Option<u64>> {
    let mut consumer = engine().await.consume(id, &sh(code), transport).await?;
    for chunk in payload.chunks(64 * 1024) {
        consumer.write(Bytes::copy_from_slice(chunk)).await?;
    }
    Ok(consumer.finish().await?.unread)
}

#[tokio::test]
async fn a_consumer_that_stops_early_says_why() {
    let idle = Idle::start(&[]);
    let payload = vec![b'x'; 20_000_000];
    let compressed = zstd::encode_all(&seq(3_000_000)[..], 1).unwrap();
    let fails = "head -c 100 >/dev/null; echo 'pg_restore: error: no' >&2; exit 3";
    for (transport, payload) in [(Transport::Raw, &payload), (ZSTD, &compressed)] {
        let text = text_of(feed(&idle.0, fails, transport, payload).await);
        assert!(
            text.contains("sh ended with status 3: pg_restore: error: no"),
            "{text}"
        );
    }
    // Much on both outputs while the input is still being written.
    let chatty = "seq 1 1000000; seq 1 1000000 >&2; cat >/dev/null; exit 4";
    let text = text_of(feed(&idle.0, chatty, Transport::Raw, &payload).await);
    assert!(
        text.contains("status 4") && text.contains("1000000"),
        "{text}"
    );
    // One that has enough and ends well: what it left is counted.
    let enough = "dd bs=1 count=100 of=/dev/null 2>/dev/null";
    let unread = feed(&idle.0, enough, Transport::Raw, &payload)
        .await
        .unwrap();
    assert_eq!(unread, Some(20_000_000 - 100));
}

#[tokio::test]
async fn a_damaged_payload_is_noticed_by_its_transport() {
    let idle = Idle::start(&[]);
    let whole = zstd::encode_all(&seq(100_000)[..], 1).unwrap();
    let cut = &whole[..whole.len() - 5];
    // The consumer never looks at the end of its input.
    for consumer in ["cat >/dev/null", "head -c 10 >/dev/null", "true"] {
        let text = text_of(feed(&idle.0, consumer, ZSTD, cut).await);
        assert!(text.contains("zstd (in the container) ended"), "{text}");
        feed(&idle.0, consumer, ZSTD, &whole).await.unwrap();
    }
}

#[tokio::test]
async fn a_short_command_sees_its_preamble_and_its_environment() {
    let idle = Idle::start(&[]);
    let command = sh("echo \"$A-$B\"; echo words >&2; exit 5")
        .preamble("B=from-preamble; export B; echo noise")
        .secret_env("A", Secret::new("from 'env'".to_owned()))
        .user("nobody");
    let output = engine().await.run(&idle.0, &command).await.unwrap();
    assert_eq!(output.stdout, b"from 'env'-from-preamble\n");
    assert_eq!(output.stderr, "noise\nwords\n");
    assert_eq!(output.status, 5);
    let gives_up = sh("true").preamble("echo no password file >&2; exit 9");
    let text = text_of(engine().await.run(&idle.0, &gives_up).await);
    assert!(
        text.contains("no password file") && text.contains('9'),
        "{text}"
    );
}

#[tokio::test]
async fn hostile_arguments_arrive_as_they_are() {
    let idle = Idle::start(&[]);
    let hostile = ["$(id)", "a\nb", "", "-n", "'\"\\", "é %s", "*"];
    let mut command = Command::new("printf", ["<%s>"]);
    for argument in hostile {
        command = command.arg(argument);
    }
    let expected = format!("<{}>", hostile.join("><"));
    for transport in [Transport::Raw, ZSTD] {
        let data = produce(&idle.0, &command, transport).await.unwrap();
        let data = match transport {
            Transport::Raw => data,
            Transport::Zstd { .. } => zstd::decode_all(&data[..]).unwrap(),
        };
        assert_eq!(String::from_utf8(data).unwrap(), expected);
    }
}

#[tokio::test]
async fn an_aborted_producer_is_ended_with_its_children() {
    let idle = Idle::start(&[]);
    let engine = engine().await;
    for transport in [Transport::Raw, ZSTD] {
        let command = sh("yes | cat & sleep 4711");
        let mut producer = engine.produce(&idle.0, &command, transport).await.unwrap();
        producer.next().await.unwrap();
        assert!(docker(&["top", &idle.0]).contains("4711"));
        producer.abort().await;
        let left = docker(&["top", &idle.0]);
        assert!(!left.contains("4711") && !left.contains("yes"), "{left}");
    }
}

#[tokio::test]
async fn a_duplex_stream_carries_both_directions() {
    let idle = Idle::start(&[]);
    let command = sh("echo hello >&2; exec cat");
    let mut duplex = engine().await.duplex(&idle.0, &command).await.unwrap();
    let stderr = duplex.stderr();
    for round in 0..3 {
        let text = format!("round {round}");
        duplex.write_all(text.as_bytes()).await.unwrap();
        duplex.flush().await.unwrap();
        let mut back = vec![0; text.len()];
        duplex.read_exact(&mut back).await.unwrap();
        assert_eq!(back, text.as_bytes());
    }
    duplex.shutdown().await.unwrap();
    assert_eq!(duplex.read(&mut [0; 10]).await.unwrap(), 0);
    assert_eq!(stderr.brief(), "hello");
}

#[tokio::test]
async fn stacks_are_found_with_their_services() {
    let project = format!("lifeboat-test-{}", std::process::id());
    let label = format!("com.docker.compose.project={project}");
    let volume = format!("{project}-data");
    let stopped = docker(&[
        "create",
        "--label",
        &label,
        "--label",
        "com.docker.compose.service=db",
        "--cpus=1.5",
        "--memory=256m",
        "-e",
        "A=b=c",
        "-v",
        &format!("{volume}:/data"),
        "-v",
        "/tmp:/host",
        IMAGE,
    ]);
    let stopped = Idle(stopped);
    let running = Idle::start(&[
        "--label",
        &label,
        "--label",
        "com.docker.compose.service=web",
    ]);
    let one_off = Idle::start(&[
        "--label",
        &label,
        "--label",
        "com.docker.compose.oneoff=True",
    ]);
    let plain = Idle::start(&["--name", &format!("{project}-plain")]);
    let stacks = engine().await.containers().await.unwrap();
    let stack = stacks.iter().find(|stack| stack.name == project).unwrap();
    let names: Vec<_> = stack.services.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["db", "web"]);
    let (db, web) = (&stack.services[0], &stack.services[1]);
    assert_eq!(db.container_id, stopped.0);
    assert_eq!((db.running, db.state.as_str()), (false, "created"));
    assert_eq!((web.running, web.state.as_str()), (true, "running"));
    assert_eq!((db.nano_cpus, db.memory), (1_500_000_000, 256 << 20));
    assert_eq!(db.image, IMAGE);
    assert!(db.image_id.starts_with("sha256:") && db.image_digest.is_none());
    assert_eq!(db.env["A"], "b=c");
    let mounted = |path: &str| {
        let mount = db.mounts.iter().find(|mount| mount.destination == path);
        mount.map(|mount| mount.volume.clone())
    };
    assert_eq!(mounted("/data"), Some(Some(volume.clone())));
    assert_eq!(mounted("/host"), Some(None));
    let alone = stacks
        .iter()
        .find(|stack| stack.name == format!("{project}-plain"))
        .unwrap();
    assert_eq!(alone.services[0].container_id, plain.0);
    drop((stopped, running, one_off, plain));
    docker(&["volume", "rm", &volume]);
}

fn stack(test: &str) -> String {
    format!("test/{test}_{}", std::process::id())
}

fn containers_of(label: &str) -> usize {
    docker(&["ps", "-aq", "--filter", &format!("label={label}")])
        .lines()
        .count()
}

#[tokio::test]
async fn a_lock_is_held_by_one() {
    let (engine, stack) = (engine().await, stack("one"));
    let (first, second) = (
        Owner::current("run-1").unwrap(),
        Owner::current("run-2").unwrap(),
    );
    let held = engine.lock(&stack, &first, IMAGE, "backup").await.unwrap();
    let error = engine
        .lock(&stack, &second, IMAGE, "restore")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    let text = error.to_string();
    assert!(
        text.contains("for backup since") && text.contains("run-1"),
        "{text}"
    );
    // Another stack's lock has nothing to do with it.
    let other = engine
        .lock(&format!("{stack}2"), &second, IMAGE, "backup")
        .await
        .unwrap();
    other.release().await.unwrap();
    let began = Instant::now();
    let waiting = engine.lock_waiting(&stack, &second, IMAGE, "restore", Duration::from_secs(30));
    let (waited, ()) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!held.is_lost());
        held.release().await.unwrap();
    });
    assert!(began.elapsed() > Duration::from_secs(1));
    waited.unwrap().release().await.unwrap();
    assert_eq!(containers_of(&format!("dev.lifeboat.stack={stack}")), 0);
}

#[tokio::test]
async fn a_lock_of_a_dead_process_is_taken_over_by_one() {
    let (engine, stack) = (engine().await, stack("dead"));
    let me = Owner::current("dead-run").unwrap();
    let dead = Owner {
        started: me.started - 1,
        ..me
    };
    let left = engine.lock(&stack, &dead, IMAGE, "backup").await.unwrap();
    drop(left);
    let attempts = (0..8).map(|number| {
        let (engine, stack) = (engine.clone(), stack.clone());
        tokio::spawn(async move {
            let owner = Owner::current(format!("run-{number}")).unwrap();
            engine.lock(&stack, &owner, IMAGE, "backup").await
        })
    });
    let mut locks = Vec::new();
    for attempt in attempts.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            Ok(lock) => locks.push(lock),
            Err(error) => assert_eq!(error.kind(), Kind::Busy, "{error:?}"),
        }
    }
    assert_eq!(locks.len(), 1);
    for lock in locks {
        lock.release().await.unwrap();
    }
    assert_eq!(containers_of(&format!("dev.lifeboat.stack={stack}")), 0);
}

/// A holder that was frozen past its deadline, lost its name, and renewed just then.
#[tokio::test]
async fn a_lock_is_not_taken_from_a_run_that_renewed_it_meanwhile() {
    let (engine, stack) = (engine().await, stack("frozen"));
    let label = format!("dev.lifeboat.stack={stack}");
    let renewal = docker(&[
        "create",
        "--label",
        &label,
        "--label",
        "dev.lifeboat.role=lock",
        "--label",
        "dev.lifeboat.run=frozen",
        "--label",
        "dev.lifeboat.deadline=2999-01-01T00:00:00Z",
        IMAGE,
    ]);
    let owner = Owner::current("b").unwrap();
    let error = engine
        .lock(&stack, &owner, IMAGE, "backup")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    assert_eq!(containers_of(&label), 1, "the name was not given back");
    docker(&["rm", "-v", &renewal]);
    let lock = engine.lock(&stack, &owner, IMAGE, "backup").await.unwrap();
    lock.release().await.unwrap();
    assert_eq!(containers_of(&label), 0);
}

#[tokio::test]
async fn a_lock_is_renewed_expires_when_it_is_not_and_notices_its_loss() {
    let (engine, stack) = (engine().await, stack("renewed"));
    let times = LockTimes {
        lease: Duration::from_secs(3),
        renewal: Duration::from_secs(1),
        retry: Duration::from_millis(500),
    };
    let owner = |run: &str| Owner::current(run).unwrap();
    let held = engine
        .lock_with(&stack, &owner("a"), IMAGE, "backup", times)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let busy = engine.lock(&stack, &owner("b"), IMAGE, "backup").await;
    assert_eq!(busy.unwrap_err().kind(), Kind::Busy, "it was renewed");
    assert!(containers_of(&format!("dev.lifeboat.stack={stack}")) <= 3);
    engine.sweep().await.unwrap();
    assert!(!held.is_lost(), "it was swept");
    // Not renewed any more, though this process lives.
    drop(held);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let held = engine
        .lock_with(&stack, &owner("b"), IMAGE, "backup", times)
        .await
        .unwrap();
    let name = docker(&[
        "ps",
        "-aq",
        "--filter",
        &format!("label=dev.lifeboat.stack={stack}"),
    ]);
    docker(&["rm", &name]);
    let error = tokio::time::timeout(Duration::from_secs(5), held.lost())
        .await
        .unwrap();
    assert_eq!(error.kind(), Kind::Busy);
    held.release().await.unwrap();
    assert_eq!(containers_of(&format!("dev.lifeboat.stack={stack}")), 0);
}

#[tokio::test]
async fn a_scratch_container_works_and_leaves_nothing() {
    let engine = engine().await;
    let run = format!("scratch-{}", std::process::id());
    let owner = Owner::current(&run).unwrap();
    let options = ScratchOptions {
        image: IMAGE.to_owned(),
        lifetime: Duration::from_mins(1),
        tmpfs: vec!["/room".to_owned()],
        memory: 128 << 20,
        volume: None,
    };
    let label = format!("dev.lifeboat.run={run}");
    let scratch = engine.scratch(&owner, &options).await.unwrap();
    let check = sh("echo x >/room/x && mount | grep -c ' /room '; ls /sys/class/net");
    let output = engine.run(&scratch.id, &check).await.unwrap();
    assert_eq!(output.stdout, b"1\nlo\n", "{}", output.stderr);
    assert_eq!(containers_of(&label), 1);
    let format = "{{range .Mounts}}{{.Name}}{{end}}";
    let volume = docker(&["inspect", "-f", format, &scratch.id]);
    assert!(!volume.is_empty(), "the image declares a volume");
    scratch.remove().await.unwrap();
    assert_eq!(containers_of(&label), 0);
    let left = docker(&["volume", "ls", "-q", "--filter", &format!("name={volume}")]);
    assert_eq!(left, "");
    // It ends by itself.
    let short = ScratchOptions {
        lifetime: Duration::from_secs(1),
        ..options.clone()
    };
    engine.scratch(&owner, &short).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(containers_of(&label), 0);
    // A dead run's is swept, a live run's is not.
    let dead = Owner {
        started: owner.started - 1,
        ..owner.clone()
    };
    engine.scratch(&dead, &options).await.unwrap();
    let live = engine.scratch(&owner, &options).await.unwrap();
    assert!(engine.sweep().await.unwrap() >= 1);
    assert_eq!(
        docker(&[
            "ps",
            "-aq",
            "--no-trunc",
            "--filter",
            &format!("label={label}")
        ]),
        live.id
    );
    live.remove().await.unwrap();
}

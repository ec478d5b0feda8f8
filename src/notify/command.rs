//! A program of the person's own: the message on its standard input as JSON, the most of it in variables.

use super::delivery::seconds;
use super::log::truncate;
use super::message::{Message, one_line};
use super::payload::generic;
use rustix::process::{Pid, Signal, kill_process_group};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Bytes of the program's complaint that are read, and shown.
const COMPLAINT: u64 = 4096;
const SHOWN: usize = 200;
/// What opens backups is not for every program that is told how they went.
const WITHHELD: [&str; 4] = [
    "LIFEBOAT_IDENTITY",
    "LIFEBOAT_IDENTITY_FILE",
    "LIFEBOAT_PASSPHRASE",
    "LIFEBOAT_PASSPHRASE_FILE",
];

/// Runs it; whatever it has started is killed where it takes longer than `limit`.
pub(super) async fn run(
    words: &[String],
    limit: Duration,
    message: &Message,
) -> Result<(), String> {
    let Some((program, arguments)) = words.split_first() else {
        return Err("the command names no program".to_owned());
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    for name in WITHHELD {
        command.env_remove(name);
    }
    for (name, value) in variables(message) {
        // A variable cannot hold a null byte.
        command.env(name, value.replace('\0', ""));
    }
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let ended = timeout(limit, follow(&mut child, generic(message).to_string())).await;
    drop(group);
    match ended {
        Ok(result) => result.map_err(|reason| format!("{program} {reason}")),
        Err(_) => Err(format!(
            "{program} did not end within {} and was killed",
            seconds(limit)
        )),
    }
}

/// A program and what it has started; killed on drop.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It is gone in most cases.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

async fn follow(child: &mut Child, input: String) -> Result<(), String> {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input need not.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let listen = async move {
        let mut complaint = Vec::new();
        if let Some(stderr) = stderr {
            let mut first = stderr.take(COMPLAINT);
            let _ = first.read_to_end(&mut complaint).await;
            // The rest is read and dropped: a full pipe would stop the program.
            let _ = tokio::io::copy(&mut first.into_inner(), &mut tokio::io::sink()).await;
        }
        complaint
    };
    let (status, (), complaint) = tokio::join!(child.wait(), feed, listen);
    let status = status.map_err(|error| format!("cannot be waited for: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&complaint);
    let mut last = one_line(complaint.trim_end().lines().last().unwrap_or_default());
    truncate(&mut last, SHOWN);
    let colon = if last.is_empty() { "" } else { ": " };
    Err(format!("ended with {status}{colon}{last}"))
}

/// What the program finds in its environment.
fn variables(message: &Message) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("LIFEBOAT_OCCASION", message.occasion_name().to_owned()),
        ("LIFEBOAT_TITLE", message.title.clone()),
        ("LIFEBOAT_TEXT", message.facts_text()),
        ("LIFEBOAT_HOST", message.host.clone()),
    ];
    let mut add = |name, value: Option<&str>| {
        variables.push((name, value.unwrap_or_default().to_owned()));
    };
    if let Some(summary) = &message.summary {
        let outcome = serde_json::to_value(summary.outcome).unwrap_or_default();
        add("LIFEBOAT_OUTCOME", outcome.as_str());
        add("LIFEBOAT_OPERATION", Some(&summary.operation));
        add("LIFEBOAT_STACK", Some(&summary.stack));
        add("LIFEBOAT_SCHEDULE", summary.schedule.as_deref());
        add("LIFEBOAT_BACKUP", summary.backup.as_deref());
        add("LIFEBOAT_ERROR", summary.error.as_deref());
        add("LIFEBOAT_CODE", Some(&summary.code.to_string()));
    } else {
        add("LIFEBOAT_OUTCOME", Some(message.occasion_name()));
        let overdue = message.overdue.as_ref();
        add(
            "LIFEBOAT_STACK",
            overdue.map(|overdue| overdue.stack.as_str()),
        );
        let schedule = overdue.and_then(|overdue| overdue.schedule.as_deref());
        add("LIFEBOAT_SCHEDULE", schedule);
    }
    variables
}

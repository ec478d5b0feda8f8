//! Hooks on lifeboat's own machine: a program with its arguments, no shell, in a process group of its own.

use super::said::Said;
use super::{End, HookCall, RUN_VARIABLE, Stopped};
use crate::error::{Error, OrFail, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

/// How long a hook may take to end once it was asked to.
const GRACE: Duration = Duration::from_secs(5);
/// How long the output of a hook that has ended is waited for. What it has started in the background may hold the
/// pipe open for good.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

pub(super) async fn run(
    hook: &HookCall,
    variables: &[(&'static str, String)],
    stop: impl Future<Output = Stopped>,
    said: &mut Said<'_>,
) -> Result<End> {
    let (mut child, mut output) = start(hook, variables)?;
    let mut buffer = vec![0; 8192];
    tokio::pin!(stop);
    let mut is_open = true;
    let status = loop {
        tokio::select! {
            read = output.read(&mut buffer), if is_open => match read {
                Ok(0) | Err(_) => is_open = false,
                Ok(count) => said.push(&buffer[..count]),
            },
            status = child.wait() => break status.or_fail(|| "cannot wait for it")?,
            why = &mut stop => {
                end(&mut child, &mut output, said).await;
                return Ok(End::Stopped(why));
            }
        }
    };
    let rest = async {
        while let Ok(count @ 1..) = output.read(&mut buffer).await {
            said.push(&buffer[..count]);
        }
    };
    if is_open {
        let _ = tokio::time::timeout(LAST_OUTPUT, rest).await;
    }
    Ok(match status.success() {
        true => End::Well,
        false => End::Badly(how(status)),
    })
}

/// Reads after the hook's name.
fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Starts it, both its outputs in one pipe, so that they come in their order.
fn start(hook: &HookCall, variables: &[(&'static str, String)]) -> Result<(Child, Receiver)> {
    let [program, arguments @ ..] = &hook.command[..] else {
        return Err(Error::failed("it has no command"));
    };
    let (reader, writer) = std::io::pipe().or_fail(|| "cannot make a pipe")?;
    let both = writer.try_clone().or_fail(|| "cannot make a pipe")?;
    let child = Command::new(program)
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(both)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "is the program there, and on the PATH that lifeboat was started with? a hook is no shell's command line"
                }
                _ => "it has to be a program that lifeboat's user may run",
            };
            Error::failed(format!("cannot run {program:?}"))
                .caused_by(error)
                .hint(hint)
        })?;
    let reader = Receiver::from_owned_fd(reader.into()).or_fail(|| "cannot read its output")?;
    Ok((child, reader))
}

/// Ends a hook and what it has started: SIGTERM, and SIGKILL where that is not enough.
async fn end(child: &mut Child, output: &mut Receiver, said: &mut Said<'_>) {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let Some(group) = id.and_then(Pid::from_raw) else {
        return;
    };
    let _ = kill_process_group(group, Signal::TERM);
    // What it says to that is of interest; and a full pipe must not keep it from ending.
    let mut buffer = vec![0; 8192];
    let last_words = async {
        let mut is_open = true;
        loop {
            tokio::select! {
                read = output.read(&mut buffer), if is_open => match read {
                    Ok(0) | Err(_) => is_open = false,
                    Ok(count) => said.push(&buffer[..count]),
                },
                _ = child.wait() => return,
            }
        }
    };
    let _ = tokio::time::timeout(GRACE, last_words).await;
    // Its children, too, where they have not gone with it.
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait().await;
}

/// Ends what a lifeboat that was killed has left running: the processes of this user with the run's id in their
/// environment.
pub(super) async fn end_left_over(run: &str) {
    let mark = format!("{RUN_VARIABLE}={run}");
    for signal in [Signal::TERM, Signal::KILL] {
        let deadline = tokio::time::Instant::now() + GRACE;
        let mut left = of_run(&mark);
        for process in &left {
            let _ = kill_process(*process, signal);
        }
        while !left.is_empty() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
            left = of_run(&mark);
        }
        if left.is_empty() {
            return;
        }
    }
}

/// The processes with `mark` in their environment.
fn of_run(mark: &str) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let processes = entries.filter_map(|entry| {
        let id: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let environment = std::fs::read(format!("/proc/{id}/environ")).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        let is_other = id.unsigned_abs() != std::process::id();
        let is_marked = variables.any(|variable| variable == mark.as_bytes());
        (is_marked && is_other).then(|| Pid::from_raw(id)).flatten()
    });
    processes.collect()
}

//! `lifeboat daemon`.

use super::schedule::PATIENCE;
use crate::cli::args::Daemon;
use crate::cli::environment;
use crate::cli::output::Output;
use crate::cli::session::Session;
use crate::daemon::{self, Board, Due, RepositoryState, World};
use crate::error::{Error, OrFail, Result};
use crate::event::{Event, Observer, RunSummary};
use crate::manifest::Commit;
use crate::operation::runs;
use crate::repository::Repository;
use crate::schedule::{Schedule, Work};
use crate::web;
use chrono::{DateTime, Utc};
use futures_util::future::{FutureExt, LocalBoxFuture};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Where it is answered where nobody says otherwise: this machine only.
const LISTEN: &str = "127.0.0.1:9402";
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How long the daemon may take to say that it is at work.
const ANSWER: Duration = Duration::from_secs(5);

pub(super) async fn run(
    session: &Session,
    arguments: &Daemon,
    output: &Output,
) -> Result<ExitCode> {
    let listen = match &arguments.listen {
        Some(listen) => Some(listen.clone()),
        None => environment::setting("LIFEBOAT_LISTEN")?,
    };
    let listen = listen.unwrap_or_else(|| LISTEN.to_owned());
    let address = match listen.as_str() {
        "off" => None,
        text => Some(text.parse::<SocketAddr>().map_err(|cause| {
            Error::usage(format!("{text:?} is no address to listen at"))
                .caused_by(cause)
                .hint("an address and a port, such as 127.0.0.1:9402, or off")
        })?),
    };
    if arguments.healthcheck {
        return healthcheck(address, output).await;
    }
    let board = Arc::new(Board::default());
    let machine = Machine {
        session: Mutex::new(Arc::new(session.again()?)),
        digest: Mutex::new(None),
        board: Arc::clone(&board),
        output,
    };
    // What is wrong at the start is said at once: nothing is in force yet.
    machine.session().right_schedules(None)?;
    let stop = session.signals.cancelled();
    let pages = match address {
        Some(address) => {
            let listener = web::bind(address).await?;
            let at = listener.local_addr().or_fail(|| "cannot listen")?;
            output.log_line(
                "info",
                &format!("answering /health, /live and /metrics at {at}"),
            );
            let pages = web::serve(listener, Arc::clone(&board), environment::now, stop.clone());
            Some(tokio::spawn(pages))
        }
        None => None,
    };
    let reload = reload_on_hangup();
    output.log_line("info", "running the schedules");
    daemon::run(&machine, &board, &reload, &stop).await;
    output.log_line("info", "stopped");
    if let Some(pages) = pages {
        pages.abort();
    }
    Ok(ExitCode::SUCCESS)
}

/// Notified by each SIGHUP.
fn reload_on_hangup() -> Arc<Notify> {
    use tokio::signal::unix::{SignalKind, signal};
    let notify = Arc::new(Notify::new());
    let told = Arc::clone(&notify);
    tokio::spawn(async move {
        let Ok(mut hangups) = signal(SignalKind::hangup()) else {
            return;
        };
        while hangups.recv().await.is_some() {
            told.notify_one();
        }
    });
    notify
}

/// Asks the daemon on this machine whether it is at work.
async fn healthcheck(address: Option<SocketAddr>, output: &Output) -> Result<ExitCode> {
    let mut address =
        address.ok_or_else(|| Error::usage("a daemon that listens nowhere cannot be asked"))?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    let answer = tokio::time::timeout(ANSWER, ask(address));
    let answer = answer
        .await
        .map_err(|_| Error::failed(format!("the daemon at {address} does not answer")))?
        .or_fail(|| format!("no daemon answers at {address}"))?;
    let ok = answer.starts_with("HTTP/1.1 200 ");
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    output.result("healthcheck", &json!({ "alive": ok }), body);
    match ok {
        true => Ok(ExitCode::SUCCESS),
        false => Err(Error::failed(format!(
            "the daemon at {address} is not at work"
        ))),
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /live HTTP/1.1\r\nHost: lifeboat\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The world as it is: files, repositories, an engine.
struct Machine<'a> {
    session: Mutex<Arc<Session>>,
    /// Of the files that were last read.
    digest: Mutex<Option<Vec<u8>>>,
    board: Arc<Board>,
    output: &'a Output,
}

impl Machine<'_> {
    fn session(&self) -> Arc<Session> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&session)
    }

    /// A digest of the configuration and the schedules, as they are on the disk now.
    fn digest(&self) -> Vec<u8> {
        let session = self.session();
        let mut paths =
            crate::config::schedule_files(&session.schedules_folder()).unwrap_or_default();
        paths.extend(session.loaded.path.clone());
        let mut digest = Sha256::new();
        for path in paths {
            digest.update(path.as_os_str().as_encoded_bytes());
            digest.update([0]);
            digest.update(std::fs::read(&path).unwrap_or_default());
            digest.update([0]);
        }
        digest.finalize().to_vec()
    }
}

impl World for Machine<'_> {
    fn now(&self) -> DateTime<Utc> {
        environment::now()
    }

    fn patience(&self) -> Duration {
        LOOK
    }

    fn schedules(&self, force: bool) -> Result<Option<Vec<Schedule>>> {
        let found = self.digest();
        {
            let mut digest = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
            let before = digest.replace(found.clone());
            if !force && before == Some(found) {
                return Ok(None);
            }
        }
        let session = Arc::new(self.session().again()?);
        let schedules = session.right_schedules(None)?;
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session;
        let names: Vec<&str> = schedules.iter().map(|one| one.name.as_str()).collect();
        self.output
            .log_line("info", &format!("schedules in force: {}", names.join(", ")));
        Ok(Some(schedules))
    }

    fn last_run(&self, schedule: &Schedule, work: Work) -> Option<RunSummary> {
        let state = environment::state_folder().ok()?;
        runs::last_of(&state, &schedule.name, work.name())
    }

    fn settled<'a>(
        &'a self,
        schedule: &'a Schedule,
        work: Work,
    ) -> LocalBoxFuture<'a, Option<DateTime<Utc>>> {
        async move { self.session().settled(schedule, work).await.ok()? }.boxed_local()
    }

    fn run<'a>(&'a self, due: &'a Due) -> LocalBoxFuture<'a, RunSummary> {
        async move {
            // Of its own: what it holds in repositories is let go of at its end, and others' is not.
            let session = self.session();
            let own = session.again().or_else(|_| session.apart());
            let session = own.map_or(session, Arc::new);
            let observer = Watched {
                stack: &due.schedule.stack,
                board: &self.board,
                output: self.output,
            };
            match due.work {
                Work::Backup => {
                    session
                        .run_schedule(&due.schedule, Some(PATIENCE), &observer)
                        .await
                }
                Work::Drill => session.drill_schedule(&due.schedule, &observer).await,
            }
        }
        .boxed_local()
    }

    fn survey<'a>(&'a self, schedule: &'a Schedule) -> LocalBoxFuture<'a, Vec<RepositoryState>> {
        async move {
            let session = self.session();
            match session.repositories_of(&schedule.repositories).await {
                Ok((opened, unreachable)) => {
                    let mut states = Vec::new();
                    for repository in &opened {
                        states.push(look(repository, schedule).await);
                    }
                    let left_out = unreachable
                        .into_iter()
                        .map(|(address, error)| out_of_reach(&address, &error));
                    states.extend(left_out);
                    states
                }
                Err(error) => {
                    let locations = session.locations_of(&schedule.repositories);
                    let locations = locations.unwrap_or_default().into_iter();
                    locations
                        .map(|location| out_of_reach(&location.to_string(), &error))
                        .collect()
                }
            }
        }
        .boxed_local()
    }

    fn tell(&self, overdue: Event) -> LocalBoxFuture<'_, ()> {
        async move { self.session().tell(&overdue, self.output).await }.boxed_local()
    }

    fn observer(&self) -> &dyn Observer {
        self.output
    }
}

/// What a repository holds of a stack.
async fn look(repository: &Repository, schedule: &Schedule) -> RepositoryState {
    let address = repository.location().to_string();
    let entries = match repository.list(&schedule.stack).await {
        Ok(entries) => entries,
        Err(error) => return out_of_reach(&address, &error),
    };
    let commits = || entries.iter().filter_map(|entry| entry.commit.as_ref());
    // A schedule of a part of the stack is in time where that part is there.
    let is_whole = |commit: &Commit| {
        commit.only.is_empty() || (!schedule.only.is_empty() && commit.trigger == schedule.name)
    };
    RepositoryState {
        repository: address,
        newest: commits()
            .filter(|commit| commit.complete && is_whole(commit))
            .map(|commit| commit.started)
            .max(),
        proven: entries
            .iter()
            .flat_map(|entry| &entry.proofs)
            .max()
            .copied(),
        backups: entries.len() as u64,
        stored_size: commits().map(|commit| commit.stored_size).sum(),
        unreachable: None,
    }
}

fn out_of_reach(address: &str, error: &Error) -> RepositoryState {
    RepositoryState {
        repository: address.to_owned(),
        newest: None,
        proven: None,
        backups: 0,
        stored_size: 0,
        unreachable: Some(error.chain()),
    }
}

/// Tells the board of a run's artifacts, and the log of everything.
struct Watched<'a> {
    stack: &'a str,
    board: &'a Board,
    output: &'a Output,
}

impl Observer for Watched<'_> {
    fn observe(&self, event: &Event) {
        self.board.observe(self.stack, event);
        self.output.observe(event);
    }
}

//! A socket proxy before the engine: it lets through what a list names, refuses everything else, and remembers both.
//!
//! Each connection carries one request: the engine is told to close it after its answer. What follows the head is
//! passed on as it comes, in both directions and to each one's own end, so that the streams of exec and attach, which
//! leave HTTP behind, work as they do without it.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use tempfile::TempDir;

/// A request that may pass: `POST /images/create?fromSrc=-`, `GET /containers/{id}/json`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint(String);

impl Endpoint {
    /// As the documentation writes it.
    pub(crate) fn parse(text: &str) -> Self {
        let (method, path) = text.split_once(' ').unwrap();
        assert!(
            path.starts_with('/') && method.bytes().all(|byte| byte.is_ascii_uppercase()),
            "{text}"
        );
        Self(text.to_owned())
    }

    /// Whether a request is this one: `{…}` stands for any text, and where a query is named, it must be part of the
    /// request's.
    fn is(&self, method: &str, target: &str) -> bool {
        let (own_method, own_target) = self.0.split_once(' ').unwrap_or_default();
        let (own_path, own_query) = own_target.split_once('?').unwrap_or((own_target, ""));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let asks_so = own_query.is_empty() || query.split('&').any(|part| part == own_query);
        own_method == method && asks_so && fits(own_path, without_version(path))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a path is that of a pattern with at most one `{…}`.
fn fits(pattern: &str, path: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('{') else {
        return pattern == path;
    };
    let after = rest.split_once('}').unwrap().1;
    let inside = path
        .strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after));
    // The engine's own words are no names: `/containers/json` is not a container's.
    inside.is_some_and(|name| !name.is_empty() && !["json", "create", "prune"].contains(&name))
}

/// A path without `/v1.41`.
fn without_version(path: &str) -> &str {
    let Some(rest) = path.strip_prefix("/v") else {
        return path;
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
    match end {
        Some(end) if end > 0 && rest[end..].starts_with('/') => &rest[end..],
        _ => path,
    }
}

#[derive(Default)]
struct Book {
    allowed: BTreeSet<Endpoint>,
    used: BTreeSet<Endpoint>,
    refused: BTreeSet<String>,
    paths: Vec<String>,
}

struct State {
    engine: PathBuf,
    book: Mutex<Book>,
    drops_upgrades: AtomicBool,
    closed: AtomicBool,
}

/// A running proxy; dropping it ends it.
pub(crate) struct Gate {
    state: Arc<State>,
    folder: TempDir,
}

impl Gate {
    /// Stands before the engine at `DOCKER_HOST` or the usual socket, and lets nothing through yet.
    #[expect(clippy::disallowed_methods, reason = "tests are an edge, too")]
    pub(crate) fn start() -> Self {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let engine = host
            .strip_prefix("unix://")
            .unwrap_or("/var/run/docker.sock");
        let state = Arc::new(State {
            engine: engine.into(),
            book: Mutex::default(),
            drops_upgrades: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("docker.sock")).unwrap();
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                if serving.closed.load(Ordering::Relaxed) {
                    break;
                }
                let state = Arc::clone(&serving);
                // A client that goes away in the middle is nothing to report.
                thread::spawn(move || client.and_then(|client| serve(&state, &client)).ok());
            }
        });
        Self { state, folder }
    }

    /// For `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The socket itself.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// Lets these through from now on, and forgets what was seen.
    pub(crate) fn allow(&self, endpoints: impl IntoIterator<Item = Endpoint>) {
        *self.state.book.lock().unwrap() = Book {
            allowed: endpoints.into_iter().collect(),
            ..Book::default()
        };
    }

    /// Takes `Upgrade` off requests from now on, as haproxy does.
    pub(crate) fn drop_upgrades(&self) {
        self.state.drops_upgrades.store(true, Ordering::Relaxed);
    }

    /// What was let through since.
    pub(crate) fn used(&self) -> BTreeSet<Endpoint> {
        self.state.book.lock().unwrap().used.clone()
    }

    /// The paths of all requests since.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.state.book.lock().unwrap().paths.clone()
    }

    /// What was refused since.
    pub(crate) fn refused(&self) -> BTreeSet<String> {
        self.state.book.lock().unwrap().refused.clone()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Relaxed);
        // The listener looks at the flag when somebody comes.
        let _ = UnixStream::connect(self.socket());
    }
}

fn serve(state: &State, client: &UnixStream) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let keeps = !state.drops_upgrades.load(Ordering::Relaxed);
    let (first, head) = read_head(&mut reader, keeps)?;
    let mut words = first.split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    if !state.lets_through(method, target) {
        return refuse(client, method, target);
    }
    let engine = UnixStream::connect(&state.engine)?;
    let mut to_engine = engine.try_clone()?;
    write!(to_engine, "{first}\r\n{head}\r\n")?;
    let gone = client.try_clone()?;
    let upwards = thread::spawn(move || {
        let _ = io::copy(&mut reader, &mut to_engine);
        let _ = to_engine.shutdown(Shutdown::Write);
    });
    let (mut from_engine, mut to_client) = (engine.try_clone()?, client.try_clone()?);
    let passed = io::copy(&mut from_engine, &mut to_client);
    let _ = match passed {
        Ok(_) => gone.shutdown(Shutdown::Write),
        Err(_) => engine.shutdown(Shutdown::Both),
    };
    let _ = upwards.join();
    Ok(())
}

impl State {
    fn lets_through(&self, method: &str, target: &str) -> bool {
        let mut book = self.book.lock().unwrap();
        let path = target.split('?').next().unwrap_or_default();
        book.paths.push(without_version(path).to_owned());
        let found = book.allowed.iter().find(|one| one.is(method, target));
        let Some(endpoint) = found.cloned() else {
            let path = without_version(target);
            book.refused.insert(format!("{method} {path}"));
            return false;
        };
        book.used.insert(endpoint);
        true
    }
}

/// The first line, and the other lines; a plain request asks for the connection's end after its answer.
fn read_head(reader: &mut impl BufRead, keeps_upgrades: bool) -> io::Result<(String, String)> {
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let (mut lines, mut upgrades) = (Vec::new(), false);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if line == "\r\n" {
            break;
        }
        let is_upgrade = line.to_lowercase().starts_with("upgrade:");
        if !is_upgrade || keeps_upgrades {
            lines.push(line);
        }
        upgrades |= is_upgrade && keeps_upgrades;
    }
    if !upgrades {
        lines.retain(|line| !line.to_lowercase().starts_with("connection:"));
        lines.push("Connection: close\r\n".to_owned());
    }
    Ok((first.trim_end().to_owned(), lines.concat()))
}

fn refuse(mut client: &UnixStream, method: &str, target: &str) -> io::Result<()> {
    let text = format!(r#"{{"message":"the proxy does not allow {method} {target}"}}"#);
    write!(
        client,
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

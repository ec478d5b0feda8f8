//! A proxy between lifeboat and an object store that goes wrong on purpose, at the request that a test names.
//!
//! Each request is read from its own connection and sent on unchanged but for `Connection: close`, so that signatures
//! stay right. Bodies are passed on as they come: memory does not grow with them.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What goes wrong.
#[derive(Debug, Clone)]
#[allow(
    dead_code,
    reason = "shared by two test programs, of which neither uses everything"
)]
pub(crate) enum Fault {
    /// The connection ends before the store hears of the request.
    Refuse,
    /// The store does it, and its answer is lost.
    LoseAnswer,
    /// The answer's body breaks off half-way.
    Truncate,
    /// Nothing comes back, for as long as the proxy lives.
    Stall,
    /// Another answer than the store's, which hears nothing of the request.
    Answer(u16, &'static str),
    /// Another answer, after the store has done it.
    AnswerAfter(u16, &'static str),
    /// The bytes of the request pass at so many a second.
    Slow(u64),
}

/// A request, as rules and tests see it.
#[derive(Debug, Clone)]
#[allow(
    dead_code,
    reason = "shared by two test programs, of which neither uses everything"
)]
pub(crate) struct Seen {
    /// Counted from 1.
    pub number: usize,
    pub method: String,
    /// With its query.
    pub path: String,
    /// The head, in lower case but for the first line.
    pub head: String,
}

type Rule = Box<dyn Fn(&Seen) -> Option<Fault> + Send + Sync>;

struct State {
    upstream: String,
    rule: Mutex<Arc<Rule>>,
    seen: Mutex<Vec<Seen>>,
    closed: AtomicBool,
}

/// A running proxy; dropping it ends it.
pub(crate) struct Proxy {
    state: Arc<State>,
    port: u16,
}

#[allow(
    dead_code,
    reason = "shared by two test programs, of which neither uses everything"
)]
impl Proxy {
    /// Stands before `upstream`, `http://127.0.0.1:PORT`, and does nothing wrong yet.
    pub(crate) fn new(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            upstream: upstream.trim_start_matches("http://").to_owned(),
            rule: Mutex::new(Arc::new(Box::new(|_: &Seen| None))),
            seen: Mutex::new(Vec::new()),
            closed: AtomicBool::new(false),
        });
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
        Self { state, port }
    }

    /// Where clients reach it.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Goes wrong where `rule` says so, from now on; counts requests from 1 again.
    pub(crate) fn rule(&self, rule: impl Fn(&Seen) -> Option<Fault> + Send + Sync + 'static) {
        self.state.seen.lock().unwrap().clear();
        *self.state.rule.lock().unwrap() = Arc::new(Box::new(rule));
    }

    /// What was asked since the last rule was set.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Relaxed);
        // The listener looks at the flag when somebody comes.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(state: &State, client: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let (first, head, length) = read_head(&mut reader)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next(), words.next());
    let seen = {
        let mut all = state.seen.lock().unwrap();
        let seen = Seen {
            number: all.len() + 1,
            method: method.unwrap_or_default(),
            path: path.unwrap_or_default(),
            head: head.to_lowercase(),
        };
        all.push(seen.clone());
        seen
    };
    let rule = Arc::clone(&state.rule.lock().unwrap());
    let mut body = reader.take(length);
    match rule(&seen) {
        None => relay(state, &first, &head, &mut body, client, None, u64::MAX),
        Some(Fault::Slow(rate)) => relay(state, &first, &head, &mut body, client, None, rate),
        Some(Fault::Truncate) => relay(state, &first, &head, &mut body, client, Some(()), u64::MAX),
        Some(Fault::Refuse) => Ok(()),
        Some(Fault::LoseAnswer) => {
            let mut answer = forward(state, &first, &head, &mut body, u64::MAX)?;
            io::copy(&mut answer, &mut io::sink()).map(|_| ())
        }
        Some(Fault::Stall) => {
            while !state.closed.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        }
        Some(Fault::Answer(status, text)) => {
            io::copy(&mut body, &mut io::sink())?;
            answer(client, status, text)
        }
        Some(Fault::AnswerAfter(status, text)) => {
            let mut real = forward(state, &first, &head, &mut body, u64::MAX)?;
            io::copy(&mut real, &mut io::sink())?;
            answer(client, status, text)
        }
    }
}

/// The first line, the other lines but `Connection`, and the length of the body.
fn read_head(reader: &mut impl BufRead) -> io::Result<(String, String, u64)> {
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let lower = line.to_lowercase();
        if line == "\r\n" {
            return Ok((first.trim_end().to_owned(), head, length));
        }
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if !lower.starts_with("connection:") {
            head.push_str(&line);
        }
    }
}

/// Sends a request on; what comes back ends with its connection.
fn forward(
    state: &State,
    first: &str,
    head: &str,
    body: &mut impl Read,
    rate: u64,
) -> io::Result<TcpStream> {
    let mut upstream = TcpStream::connect(&state.upstream)?;
    write!(upstream, "{first}\r\n{head}Connection: close\r\n\r\n")?;
    let (begun, mut sent) = (Instant::now(), 0_u64);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = body.read(&mut buffer)?;
        if length == 0 {
            return Ok(upstream);
        }
        upstream.write_all(&buffer[..length])?;
        sent += length as u64;
        if rate != u64::MAX {
            // Where the stream should be by now, at that rate.
            let due = Duration::from_micros(sent.saturating_mul(1_000_000) / rate);
            thread::sleep(due.saturating_sub(begun.elapsed()));
        }
    }
}

fn relay(
    state: &State,
    first: &str,
    head: &str,
    body: &mut impl Read,
    mut client: &TcpStream,
    truncate: Option<()>,
    rate: u64,
) -> io::Result<()> {
    let mut answer = BufReader::new(forward(state, first, head, body, rate)?);
    let (status, head, length) = read_head(&mut answer)?;
    write!(client, "{status}\r\n{head}Connection: close\r\n\r\n")?;
    match truncate {
        Some(()) => io::copy(&mut answer.take(length / 2), &mut client).map(|_| ()),
        None => io::copy(&mut answer, &mut client).map(|_| ()),
    }
}

fn answer(mut client: &TcpStream, status: u16, text: &str) -> io::Result<()> {
    write!(
        client,
        "HTTP/1.1 {status} Fault\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

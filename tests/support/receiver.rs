//! An HTTP receiver on loopback that writes down what it gets, and answers as a test wants.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Received {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What it answers.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A status, further headers (each with its line end) and a body.
    Status(u16, &'static str, &'static str),
    /// The connection ends without an answer.
    HangUp,
    /// Nothing, for as long as the receiver lives.
    Stall,
}

impl Answer {
    pub(crate) const OK: Self = Self::Status(200, "", "OK");
}

type Rule = Box<dyn Fn(usize, &Received) -> Answer + Send + Sync>;

struct State {
    rule: Rule,
    received: Mutex<Vec<Received>>,
    closed: AtomicBool,
    closing: (Mutex<bool>, Condvar),
}

/// The receiver; dropping it ends it.
pub(crate) struct Receiver {
    state: Arc<State>,
    port: u16,
}

impl Receiver {
    /// One that takes everything.
    pub(crate) fn new() -> Self {
        Self::answering(|_, _| Answer::OK)
    }

    /// One that answers the request of a number, counted from 1, by a rule.
    pub(crate) fn answering(
        rule: impl Fn(usize, &Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            rule: Box::new(rule),
            received: Mutex::default(),
            closed: AtomicBool::new(false),
            closing: (Mutex::new(false), Condvar::new()),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.closed.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { state, port }
    }

    /// An address below it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// All that it got so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// The one request that it got.
    #[track_caller]
    pub(crate) fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received[0].clone()
    }

    /// Method and path of each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |one: &Received| format!("{} {}", one.method, one.path);
        self.received().iter().map(line).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        *self.state.closing.0.lock().unwrap() = true;
        self.state.closing.1.notify_all();
        // Wakes the one that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: &TcpStream, state: &State) {
    let Some(received) = read(stream) else { return };
    let number = {
        let mut all = state.received.lock().unwrap();
        all.push(received.clone());
        all.len()
    };
    match (state.rule)(number, &received) {
        Answer::Status(status, headers, body) => {
            let length = body.len();
            let text = format!(
                "HTTP/1.1 {status} Said\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            let _ = (&*stream).write_all(text.as_bytes());
        }
        Answer::HangUp => {}
        Answer::Stall => {
            let (closed, told) = &state.closing;
            let guard = closed.lock().unwrap();
            drop(told.wait_while(guard, |closed| !*closed).unwrap());
        }
    }
}

fn read(stream: &TcpStream) -> Option<Received> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut words = first.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    Some(Received {
        method,
        path,
        headers,
        body,
    })
}

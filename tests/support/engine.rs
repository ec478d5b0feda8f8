//! A Docker engine that misbehaves on purpose: a unix socket that speaks just enough of the API for
//! one exec, and plays a script of bytes as its stream.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// One thing that the engine does on an exec's connection.
#[derive(Clone)]
pub(crate) enum Step {
    /// Sends these bytes at once.
    Send(Vec<u8>),
    /// Reads until a newline came, which is the acknowledgement.
    AwaitNewline,
    /// Reads until the client closed its side, as an exec's process reads its input.
    AwaitEnd,
    /// Does nothing for a while.
    Pause(Duration),
}

/// How the engine answers `GET /exec/…/json`.
#[derive(Clone, Copy)]
pub(crate) struct Inspect {
    pub(crate) running: bool,
    pub(crate) code: Option<i64>,
}

impl Inspect {
    pub(crate) const WELL: Self = Self::ended(0);
    pub(crate) const RUNNING: Self = Self {
        running: true,
        code: None,
    };

    pub(crate) const fn ended(code: i64) -> Self {
        Self {
            running: false,
            code: Some(code),
        }
    }
}

/// Makes an exchange from the nonce.
type Exchange = dyn Fn(&str) -> Vec<Step> + Send + Sync;

/// What the engine does; the exchange is made when the nonce is known.
pub(crate) struct Script {
    pub(crate) exchange: Box<Exchange>,
    /// The answers to inspections, in order; the last one is repeated.
    pub(crate) inspects: Vec<Inspect>,
    /// What the container's state is said to be.
    pub(crate) container: &'static str,
}

impl Script {
    pub(crate) fn new(exchange: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self {
            exchange: Box::new(exchange),
            inspects: vec![Inspect::WELL],
            container: "running",
        }
    }

    pub(crate) fn inspects(mut self, inspects: impl Into<Vec<Inspect>>) -> Self {
        self.inspects = inspects.into();
        self
    }

    pub(crate) fn container(mut self, state: &'static str) -> Self {
        self.container = state;
        self
    }
}

/// A frame of the multiplexed stream: 1 is stdout, 2 is stderr.
pub(crate) fn frame(stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![stream, 0, 0, 0];
    bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The engine; it goes away when this is dropped.
pub(crate) struct BadEngine {
    dir: TempDir,
    state: Arc<State>,
    server: tokio::task::JoinHandle<()>,
}

struct State {
    script: Script,
    nonce: Mutex<String>,
    inspected: Mutex<usize>,
    received: Mutex<Vec<u8>>,
}

impl BadEngine {
    pub(crate) fn start(script: Script) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket(dir.path())).unwrap();
        let state = Arc::new(State {
            script,
            nonce: Mutex::default(),
            inspected: Mutex::default(),
            received: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { dir, state, server }
    }

    pub(crate) async fn connect(&self) -> lifeboat::docker::Engine {
        let options = lifeboat::docker::connect::ConnectOptions {
            host: Some(format!("unix://{}", socket(self.dir.path()).display())),
            ..Default::default()
        };
        lifeboat::docker::connect::connect(&options).await.unwrap()
    }

    /// What the client sent as the process's input.
    pub(crate) fn received(&self) -> Vec<u8> {
        self.state.received.lock().unwrap().clone()
    }
}

impl Drop for BadEngine {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn socket(dir: &Path) -> std::path::PathBuf {
    dir.join("engine.sock")
}

async fn serve(mut stream: UnixStream, state: Arc<State>) {
    let Some((line, body)) = request(&mut stream).await else {
        return;
    };
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    if path.ends_with("/version") {
        let version = r#"{"Version":"20.10.24","ApiVersion":"1.44","MinAPIVersion":"1.12"}"#;
        answer(&mut stream, 200, version).await;
    } else if path.ends_with("/exec") {
        let config: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let nonce = config["Cmd"][4].as_str().unwrap_or_default();
        nonce.clone_into(&mut state.nonce.lock().unwrap());
        answer(&mut stream, 201, r#"{"Id":"e1"}"#).await;
    } else if path.ends_with("/start") {
        play(stream, &state).await;
    } else if path.contains("/exec/") {
        let inspect = {
            let mut count = state.inspected.lock().unwrap();
            let at = (*count).min(state.script.inspects.len() - 1);
            *count += 1;
            state.script.inspects[at]
        };
        let code = inspect
            .code
            .map_or("null".to_owned(), |code| code.to_string());
        let text = format!(
            r#"{{"ID":"e1","Running":{},"ExitCode":{code}}}"#,
            inspect.running
        );
        answer(&mut stream, 200, &text).await;
    } else if path.contains("/containers/") {
        let text = format!(
            r#"{{"Id":"c1","State":{{"Status":"{}","ExitCode":137,"OOMKilled":false}}}}"#,
            state.script.container
        );
        answer(&mut stream, 200, &text).await;
    } else {
        answer(&mut stream, 404, r#"{"message":"page not found"}"#).await;
    }
}

/// The request line and the body.
async fn request(stream: &mut UnixStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, value)| value.trim().parse().unwrap());
            while bytes.len() < end + 4 + length {
                if stream.read_buf(&mut bytes).await.ok()? == 0 {
                    return None;
                }
            }
            return Some((head.lines().next()?.to_owned(), bytes[end + 4..].to_vec()));
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

async fn answer(stream: &mut UnixStream, status: u16, body: &str) {
    let text = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes()).await;
}

async fn play(mut stream: UnixStream, state: &State) {
    let upgrade = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
                   Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    if stream.write_all(upgrade.as_bytes()).await.is_err() {
        return;
    }
    let nonce = state.nonce.lock().unwrap().clone();
    let mut buffer = vec![0; 64 * 1024];
    for step in (state.script.exchange)(&nonce) {
        match step {
            Step::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Step::Pause(time) => tokio::time::sleep(time).await,
            Step::AwaitNewline | Step::AwaitEnd => loop {
                let Ok(count) = stream.read(&mut buffer).await else {
                    return;
                };
                state.received.lock().unwrap().extend(&buffer[..count]);
                let newline =
                    matches!(step, Step::AwaitNewline) && buffer[..count].contains(&b'\n');
                if count == 0 || newline {
                    break;
                }
            },
        }
    }
}

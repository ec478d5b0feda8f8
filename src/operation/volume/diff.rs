//! How two trees differ: volumes, folders, or what a backup has of one. Both are read in order, side by side, so
//! that nothing but what differs is kept.

use super::super::Context;
use super::super::plain::plain_bytes;
use super::super::volume_source::{ROOT, open_session};
use super::Surroundings;
use crate::archive::{Line, Lister, Reader, order, shown};
use crate::docker::helper::HelperMount;
use crate::error::{Error, OrFail, Result};
use crate::helper::protocol::Request;
use crate::manifest::Artifact;
use crate::repository::{Backup, Entry, Repository};
use crate::source::volume::Session;
use crate::stack::ArtifactName;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use serde::Serialize;
use serde_json::Value;
use std::cmp::Ordering;
use std::io::{self, Read, Write};
use tokio::sync::mpsc;

/// What to compare.
#[derive(Debug)]
pub struct DiffRequest {
    /// A volume, or `bind:/path`.
    pub from: String,
    /// What it is compared with.
    pub with: Other,
}

/// What something is compared with.
#[derive(Debug)]
pub enum Other {
    /// A volume, or `bind:/path`.
    Store(String),
    /// What a backup has of it.
    Backup(Box<(Repository, Entry)>),
}

/// How one path differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `added`, `removed` or `changed`.
    pub change: &'static str,
    /// The path.
    pub path: String,
    /// What changed: `content`, `mode`, `owner`, `attributes`, `time`, `type`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<&'static str>,
}

/// How many paths differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DiffReport {
    /// Only in the second.
    pub added: u64,
    /// Only in the first.
    pub removed: u64,
    /// In both, and not the same.
    pub changed: u64,
    /// In both, and the same.
    pub same: u64,
}

/// Compares two trees; each difference goes to `sink` as it is found, in the order of the paths.
pub async fn diff(
    context: &Context,
    request: &DiffRequest,
    sink: impl FnMut(&Difference),
) -> Result<DiffReport> {
    let surroundings = Surroundings::of(context.engine()?).await?;
    let store = surroundings.store(&request.from)?;
    let mut first = Lines::of_store(context, &surroundings, &request.from).await?;
    let second = match &request.with {
        Other::Store(name) => Lines::of_store(context, &surroundings, name).await,
        Other::Backup(backup) => {
            let (repository, entry) = &**backup;
            Lines::of_backup(repository, entry, &store.artifact()).await
        }
    };
    let mut second = match second {
        Ok(second) => second,
        Err(error) => {
            first.close().await?;
            return Err(error);
        }
    };
    let compared = context
        .unless_cancelled(merge(&mut first, &mut second, sink))
        .await;
    let closed = (first.close().await, second.close().await);
    let report = compared?;
    closed.0.and(closed.1).map(|()| report)
}

async fn merge(
    first: &mut Lines,
    second: &mut Lines,
    mut sink: impl FnMut(&Difference),
) -> Result<DiffReport> {
    let mut report = DiffReport::default();
    let (mut left, mut right) = (first.next().await?, second.next().await?);
    loop {
        let side = match (&left, &right) {
            (None, None) => return Ok(report),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => order(&left.path, &right.path),
        };
        let difference = |change, line: &Option<Line>, what| Difference {
            change,
            path: shown(line.as_ref().map_or(&[][..], |line| &line.path)),
            what,
        };
        match side {
            Ordering::Less => {
                report.removed += 1;
                sink(&difference("removed", &left, Vec::new()));
                left = first.next().await?;
            }
            Ordering::Greater => {
                report.added += 1;
                sink(&difference("added", &right, Vec::new()));
                right = second.next().await?;
            }
            Ordering::Equal => {
                let what = match (&left, &right) {
                    (Some(left), Some(right)) => left.differences(right),
                    _ => Vec::new(),
                };
                if what.is_empty() {
                    report.same += 1;
                } else {
                    report.changed += 1;
                    sink(&difference("changed", &left, what));
                }
                left = first.next().await?;
                right = second.next().await?;
            }
        }
    }
}

/// A tree's lines, as they come.
struct Lines {
    source: Source,
    buffer: Vec<u8>,
    /// Where the next line begins.
    at: usize,
    ended: bool,
}

enum Source {
    Helper(Box<Session>),
    Archive {
        pieces: mpsc::Receiver<Bytes>,
        /// What feeds the reader; `None` once it has come to its end.
        feeding: Option<LocalBoxFuture<'static, Result<()>>>,
    },
}

impl Lines {
    fn new(source: Source) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            at: 0,
            ended: false,
        }
    }

    async fn of_store(context: &Context, surroundings: &Surroundings, name: &str) -> Result<Self> {
        let store = surroundings.store(name)?;
        let run = context.new_id()?;
        let mount = HelperMount::read(&store.place, ROOT);
        let mut session = open_session(context, &run, vec![mount], false).await?;
        let root = ROOT.to_owned();
        session.ask(Request::List { root }).await?;
        Ok(Self::new(Source::Helper(Box::new(session))))
    }

    /// The archive is read on threads of its own: it is pulled, and its bytes are pushed.
    async fn of_backup(
        repository: &Repository,
        entry: &Entry,
        name: &ArtifactName,
    ) -> Result<Self> {
        let backup = repository.open_backup(entry).await?;
        let artifacts = &backup.manifest().artifacts;
        let found = artifacts.iter().find(|artifact| artifact.name == *name);
        let artifact = found.cloned().ok_or_else(|| {
            let names: Vec<String> = artifacts.iter().map(|one| one.name.to_string()).collect();
            Error::usage(format!("the backup {} has no {name}", entry.reference()))
                .hint(format!("it has {}", names.join(", ")))
        })?;
        let (sender, pieces) = mpsc::channel(8);
        let feeding = list_archive(backup, artifact, sender).boxed_local();
        Ok(Self::new(Source::Archive {
            pieces,
            feeding: Some(feeding),
        }))
    }

    async fn next(&mut self) -> Result<Option<Line>> {
        loop {
            if let Some(length) = memchr::memchr(b'\n', &self.buffer[self.at..]) {
                let line = &self.buffer[self.at..self.at + length];
                let line =
                    serde_json::from_slice(line).or_fail(|| "a line of a tree cannot be read")?;
                self.at += length + 1;
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            match self.more().await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => self.ended = true,
            }
        }
    }

    async fn more(&mut self) -> Result<Option<Bytes>> {
        match &mut self.source {
            Source::Helper(session) => match session.data().await? {
                Some(bytes) => Ok(Some(bytes)),
                None => session.finish::<Value>().await.map(|_| None),
            },
            Source::Archive { pieces, feeding } => loop {
                let Some(work) = feeding else {
                    return Ok(pieces.recv().await);
                };
                tokio::select! {
                    biased;
                    Some(bytes) = pieces.recv() => return Ok(Some(bytes)),
                    fed = work => {
                        *feeding = None;
                        fed?;
                    }
                }
            },
        }
    }

    async fn close(self) -> Result<()> {
        match self.source {
            Source::Helper(session) => session.close().await,
            Source::Archive { .. } => Ok(()),
        }
    }
}

/// Sends an archive's lines.
async fn list_archive(
    backup: Backup,
    artifact: Artifact,
    lines: mpsc::Sender<Bytes>,
) -> Result<()> {
    let (sender, plain) = mpsc::channel::<Bytes>(8);
    let listed = tokio::task::spawn_blocking(move || {
        let pulled = Pulled {
            plain,
            piece: Bytes::new(),
        };
        let sink = io::BufWriter::with_capacity(64 * 1024, Pushed(lines));
        let mut lister = Lister::new(sink);
        lister.archive(&mut Reader::new(io::BufReader::with_capacity(
            64 * 1024,
            pulled,
        )))?;
        lister
            .into_inner()
            .flush()
            .or_fail(|| "nobody reads the lines any more")
    });
    let fed = plain_bytes(&backup, &artifact, async |bytes| {
        // Where the reader has given up, it says why.
        let _ = sender.send(bytes).await;
        Ok(())
    })
    .await;
    drop(sender);
    let listed = listed
        .await
        .or_fail(|| "the thread that reads the archive died")?;
    fed.and(listed)
}

struct Pulled {
    plain: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Pulled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.plain.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

struct Pushed(mpsc::Sender<Bytes>);

impl Write for Pushed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Bytes::copy_from_slice(bytes))
            .map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

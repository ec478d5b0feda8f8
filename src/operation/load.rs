//! Feeding one archive to the programs that load it: to one, or to several side by side.

use super::plain::plain_bytes;
use crate::docker::exec::{Consumer, Transport};
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::manifest::Artifact;
use crate::pipeline::{Limits, RawInspector, unseal};
use crate::repository::Backup;
use crate::source::Capability;
use crate::source::postgres::archive::{ArchiveInspector, DumpFacts, TocEntry};
use crate::source::postgres::{List, OfTables, Part, Phases, Server, phases};
use bytes::{Bytes, BytesMut};
use futures_util::future::try_join_all;
use std::time::Instant;

/// Below this many plain bytes one `pg_restore` is as fast as several.
const WORTH_DIVIDING: u64 = 64 << 20;
/// The longest table of contents that is kept to be sent again, in bytes.
const LONGEST_CONTENTS: usize = 64 << 20;

/// One dump on its way into its side database.
pub(super) struct Loading<'a> {
    pub backup: &'a Backup,
    pub artifact: &'a Artifact,
    pub facts: &'a DumpFacts,
    pub server: &'a Server,
    pub capability: Capability,
    pub side: &'a str,
    pub observer: &'a dyn Observer,
}

/// An archive up to the end of its table of contents, and what that says.
pub(super) struct Contents {
    bytes: Bytes,
    pub entries: Vec<TocEntry>,
}

/// The table of contents of a dump; `None` where it is too long to be kept.
pub(super) async fn contents(backup: &Backup, artifact: &Artifact) -> Result<Option<Contents>> {
    let mut inspector = ArchiveInspector::with_entries();
    let mut seen = BytesMut::new();
    let mut found = None;
    let read = plain_bytes(backup, artifact, async |bytes| {
        inspector.push(&bytes)?;
        seen.extend_from_slice(&bytes);
        found = inspector.contents().map(|(end, _)| end);
        match found.is_some() || seen.len() >= LONGEST_CONTENTS {
            true => Err(Error::failed("it was read far enough")),
            false => Ok(()),
        }
    })
    .await;
    if found.is_none() && seen.len() < LONGEST_CONTENTS {
        read?;
        // One that ends with its table of contents.
        inspector.push(&[])?;
    }
    Ok(inspector.contents().map(|(end, entries)| {
        let end = usize::try_from(end).unwrap_or(usize::MAX).min(seen.len());
        let entries = entries.to_vec();
        Contents {
            bytes: seen.split_to(end).freeze(),
            entries,
        }
    }))
}

/// An archive up to the end of its table of contents, and how to divide the rest.
struct Division {
    contents: Bytes,
    phases: Phases,
}

impl Loading<'_> {
    /// Loads the archive; returns once every program has ended well.
    pub(super) async fn run(&self) -> Result<()> {
        let begun = Instant::now();
        self.observer.observe(&Event::ArtifactStarted {
            artifact: self.artifact.name.to_string(),
            expected: Some(self.artifact.stored_size),
        });
        match self.division().await? {
            None => self.stream(&Part::Whole, true).await?,
            Some(division) => self.divided(&division).await?,
        }
        self.observer.observe(&Event::ArtifactFinished {
            artifact: self.artifact.name.to_string(),
            raw_size: self.artifact.raw_size,
            stored_size: self.artifact.stored_size,
            seconds: begun.elapsed().as_secs_f64(),
        });
        Ok(())
    }

    /// Loads all definitions, and of the rest what belongs to some tables. `chosen` is asked once the definitions are
    /// there.
    pub(super) async fn tables(
        &self,
        contents: &Contents,
        chosen: impl AsyncFnOnce() -> Result<OfTables>,
    ) -> Result<()> {
        self.describe(&contents.bytes, &Part::Definitions).await?;
        let OfTables { data, behind } = chosen().await?;
        if data.is_too_long() || behind.is_too_long() {
            return Err(Error::failed(format!(
                "too many partitions to load them alone from {}",
                self.artifact.name
            ))
            .hint("restore the database under another name with --as, or choose partitions"));
        }
        if !data.is_empty() {
            self.stream(&Part::Entries(data), true).await?;
        }
        self.entries(&contents.bytes, &behind).await
    }

    async fn divided(&self, Division { contents, phases }: &Division) -> Result<()> {
        self.observer.observe(&Event::Detail {
            message: format!(
                "loading {} with {} pg_restore side by side",
                self.artifact.name,
                phases.workers.len()
            ),
        });
        self.describe(contents, &Part::Definitions).await?;
        let workers = phases.workers.iter().enumerate();
        let workers = workers.map(async |(index, worker)| {
            if !worker.data.is_empty() {
                // Each reads the whole stream: the first one's progress stands for all.
                let data = Part::Entries(worker.data.clone());
                self.stream(&data, index == 0).await?;
            }
            self.entries(contents, &worker.indexes).await
        });
        try_join_all(workers).await?;
        self.entries(contents, &phases.rest).await
    }

    async fn entries(&self, contents: &Bytes, list: &List) -> Result<()> {
        match list.is_empty() {
            true => Ok(()),
            false => self.describe(contents, &Part::Entries(list.clone())).await,
        }
    }

    /// Restores what needs no data: the table of contents is all that is sent.
    async fn describe(&self, contents: &Bytes, part: &Part) -> Result<()> {
        let mut consumer = self.server.load(self.side, part, Transport::Raw).await?;
        let fed = consumer.write(contents.clone()).await;
        end(consumer, fed).await
    }

    /// Sends the whole archive, compressed where the container can decompress.
    async fn stream(&self, part: &Part, shown: bool) -> Result<()> {
        let transport = self.capability.restore_transport();
        let mut consumer = self.server.load(self.side, part, transport).await?;
        let fed = match transport {
            Transport::Zstd { .. } => self.stored_bytes(&mut consumer, shown).await,
            Transport::Raw => {
                let sink = async |bytes| consumer.write(bytes).await;
                plain_bytes(self.backup, self.artifact, sink).await
            }
        };
        end(consumer, fed).await
    }

    async fn stored_bytes(&self, consumer: &mut Consumer, shown: bool) -> Result<()> {
        let mut reader = self.backup.read(self.artifact);
        let mut sent = 0;
        while let Some(bytes) = reader.next().await? {
            sent += bytes.len() as u64;
            consumer.write(bytes).await?;
            if shown {
                self.observer.observe(&Event::Progress {
                    artifact: self.artifact.name.to_string(),
                    bytes: sent,
                });
            }
        }
        Ok(())
    }

    /// How to divide the archive; `None` where one program shall load it all.
    async fn division(&self) -> Result<Option<Division>> {
        if self.artifact.raw_size < WORTH_DIVIDING || self.capability.workers() < 2 {
            return Ok(None);
        }
        // Each program gets the whole stream. Plain, that is more than the engine's streams can take.
        if self.capability.restore_transport() == Transport::Raw {
            return Ok(None);
        }
        // An owner who lost the right to write cannot load behind the definitions: grants come with them.
        if !self.server.is_superuser().await? {
            return Ok(None);
        }
        let limits = Limits {
            raw_size: self.artifact.raw_size,
        };
        let (mut input, mut output) = unseal(limits, Box::new(RawInspector::new()));
        let mut reader = self.backup.read(self.artifact);
        let feed = async {
            while let Some(bytes) = reader.next().await? {
                input.push(bytes).await?;
            }
            // Only an archive without data comes here before its contents have been read.
            std::future::pending::<Result<Option<Division>>>().await
        };
        let find = async {
            let mut inspector = ArchiveInspector::with_entries();
            let mut seen = BytesMut::new();
            while seen.len() < LONGEST_CONTENTS {
                let Some(bytes) = output.next().await? else {
                    return Ok(None);
                };
                inspector.push(&bytes)?;
                seen.extend_from_slice(&bytes);
                if let Some((end, entries)) = inspector.contents() {
                    let end = usize::try_from(end).unwrap_or(usize::MAX).min(seen.len());
                    let phases = phases(entries, self.facts, self.capability.workers());
                    let contents = seen.split_to(end).freeze();
                    return Ok(phases.map(|phases| Division { contents, phases }));
                }
            }
            Ok(None)
        };
        tokio::select! {
            division = find => division,
            failed = feed => failed,
        }
    }
}

/// The end of a program, or why it was not fed to its end: its own last words come first.
async fn end(consumer: Consumer, fed: Result<()>) -> Result<()> {
    match fed {
        Ok(()) => consumer.finish().await.map(|_| ()),
        Err(error) => {
            consumer.abort().await;
            Err::<(), Error>(error)
        }
    }
}

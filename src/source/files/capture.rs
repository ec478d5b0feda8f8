//! A project's files as an archive, written by a thread of this process.

use super::pipe::{joined, outlet};
use super::select::{OUTSIDE, Selection};
use crate::archive::{
    Archiver, Content, Entry, Irregular, Kind, TreeFacts, Visitor, open_root, order, scan_chosen,
};
use crate::error::{Error, Result};
use crate::proof::Proof;
use crate::source::capture::Ended;
use crate::source::volume::note;
use crate::stack::ArtifactName;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

/// What is known of the archive of a project's files: `facts.json`, under `files`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesFacts {
    /// What it holds.
    pub tree: TreeFacts,
    /// The project's folder, where the files were.
    pub folder: String,
    /// Secrets that are not in it, since the backup is not encrypted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Devices and sockets, which no archive holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
    /// What changed, shrank or vanished while it was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
}

/// A running capture.
pub struct Capture {
    pieces: Receiver<Bytes>,
    received: u64,
    selection: Selection,
    work: JoinHandle<Result<Archived>>,
}

/// What an archive came to.
struct Archived {
    raw_size: u64,
    tree: TreeFacts,
    irregular: Irregular,
}

impl Capture {
    /// Starts to read what is selected.
    pub fn start(selection: Selection) -> Self {
        let (outlet, pieces) = outlet();
        let chosen = selection.clone();
        Self {
            pieces,
            received: 0,
            selection,
            work: tokio::task::spawn_blocking(move || archive(&chosen, outlet)),
        }
    }

    /// The next bytes of the archive; `None` at its end, whichever that is.
    pub async fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.recv().await?;
        self.received += piece.len() as u64;
        Some(piece)
    }

    /// Evidence that the archive is whole, and what the facts shall say of it.
    pub async fn finish(self, inspected: serde_json::Value) -> Result<Ended> {
        let Archived {
            raw_size,
            tree,
            irregular,
        } = joined(self.work.await)?;
        let said = serde_json::to_value(&tree).unwrap_or_default();
        if inspected != said || raw_size != self.received {
            return Err(Error::failed("what arrived is not what was read"));
        }
        let name = ArtifactName::Files;
        let mut notes = self.selection.notes;
        note(
            &mut notes,
            &name,
            "not in the backup, which is not encrypted",
            &self.selection.left_out,
        );
        note(&mut notes, &name, "not archived", &irregular.skipped);
        let changed = &irregular.changed;
        note(&mut notes, &name, "changed while it was read", changed);
        let facts = FilesFacts {
            tree,
            folder: self.selection.folder.to_string_lossy().into_owned(),
            left_out: self.selection.left_out,
            skipped: irregular.skipped,
            changed: irregular.changed,
        };
        Ok(Ended {
            proof: Proof::attest(self.received),
            facts: serde_json::to_value(&facts).unwrap_or_default(),
            raw_size: Some(raw_size),
            notes,
        })
    }
}

fn archive(selection: &Selection, outlet: impl Write) -> Result<Archived> {
    let root = open_root(&selection.folder)?;
    let mut merged = Merged {
        archiver: Archiver::new(outlet),
        outside: (!selection.outside.is_empty()).then_some(selection),
        irregular: Irregular::default(),
    };
    let inside = scan_chosen(&root, &selection.inside, &mut merged)?;
    merged.bring_outside()?;
    let mut irregular = merged.irregular;
    irregular.skipped.extend(inside.skipped);
    irregular.changed.extend(inside.changed);
    let (mut outlet, raw_size, tree) = merged.archiver.finish()?;
    outlet
        .flush()
        .map_err(|cause| Error::failed("cannot write the archive").caused_by(cause))?;
    Ok(Archived {
        raw_size,
        tree,
        irregular,
    })
}

/// The project's folder as it is read, and at its place in the order of names what is outside of it.
struct Merged<'s, W> {
    archiver: Archiver<W>,
    /// Until it was brought.
    outside: Option<&'s Selection>,
    irregular: Irregular,
}

impl<W: Write> Merged<'_, W> {
    fn bring_outside(&mut self) -> Result<()> {
        let Some(selection) = self.outside.take() else {
            return Ok(());
        };
        let root = open_root(Path::new("/"))?;
        let mut below = Below(&mut self.archiver);
        self.irregular = scan_chosen(&root, &selection.outside, &mut below)?;
        Ok(())
    }
}

impl<W: Write> Visitor for Merged<'_, W> {
    fn entry(&mut self, entry: &Entry, content: Option<&mut Content<'_>>) -> Result<()> {
        if order(&entry.path, OUTSIDE.as_bytes()).is_gt() {
            self.bring_outside()?;
        }
        self.archiver.entry(entry, content)
    }
}

/// Puts a tree into the folder [`OUTSIDE`].
struct Below<'a, W>(&'a mut Archiver<W>);

impl<W: Write> Visitor for Below<'_, W> {
    fn entry(&mut self, entry: &Entry, content: Option<&mut Content<'_>>) -> Result<()> {
        let below = |path: &[u8]| match path {
            [] => OUTSIDE.as_bytes().to_vec(),
            path => [OUTSIDE.as_bytes(), b"/", path].concat(),
        };
        let mut moved = entry.clone();
        moved.path = below(&entry.path);
        if let Kind::HardLink { target } = &entry.kind {
            moved.kind = Kind::HardLink {
                target: below(target),
            };
        }
        self.0.entry(&moved, content)
    }
}

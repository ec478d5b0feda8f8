//! Progress bars with rate and time left, on a terminal only.

use crate::event::Event;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// One bar an artifact at work.
pub(super) struct Bars {
    all: MultiProgress,
    running: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Bars {
    pub(super) fn new() -> Self {
        Self {
            all: MultiProgress::new(),
            running: Mutex::new(BTreeMap::new()),
        }
    }

    /// A line above the bars.
    pub(super) fn println(&self, text: &str) {
        // A terminal that has gone away takes no lines.
        let _ = self.all.println(text);
    }

    pub(super) fn observe(&self, event: &Event) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::ArtifactStarted { artifact, expected } => {
                let template = match expected {
                    Some(_) => {
                        "{msg}  {bar:24} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left"
                    }
                    None => "{msg}  {spinner} {decimal_bytes}  {decimal_bytes_per_sec}",
                };
                // Added before anything is set: a bar of its own would draw itself past the others.
                let bar = self
                    .all
                    .add(expected.map_or_else(ProgressBar::new_spinner, ProgressBar::new));
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_message(super::output::harmless(artifact));
                running.insert(artifact.clone(), bar);
            }
            Event::Progress { artifact, bytes } => {
                if let Some(bar) = running.get(artifact) {
                    bar.set_position(*bytes);
                }
            }
            Event::ArtifactFinished { artifact, .. } | Event::VerifyFinished { artifact, .. } => {
                if let Some(bar) = running.remove(artifact) {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }
}

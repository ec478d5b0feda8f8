//! The arguments of `lifeboat drill`.

use crate::schedule::DrillChoice;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Drill {
    /// The backup; without it, the one that --pick means
    #[arg(value_name = "BACKUP", conflicts_with_all = ["pick", "stack"])]
    pub backup: Option<String>,
    /// Which complete backup to take, where none is named
    #[arg(long, value_enum, value_name = "WHICH", default_value = "newest")]
    pub pick: Pick,
    /// The stack whose backup to take, where the repository holds several
    #[arg(long, value_name = "STACK")]
    pub stack: Option<String>,
    /// Another image than the backup's for a service; repeatable
    #[arg(long, value_name = "SERVICE=IMAGE", value_parser = image)]
    pub image: Vec<(String, String)>,
    /// The schedule whose [[drill.check]] are asked: a name in schedules/, or a file; repeatable [default: all of the stack's]
    #[arg(long, value_name = "SCHEDULE")]
    pub check_from: Vec<String>,
    /// Write what came of it into this file: .json, or .html for people; repeatable
    #[arg(long, value_name = "FILE")]
    pub report: Vec<PathBuf>,
    /// Print what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// Which backup.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Pick {
    /// The newest
    Newest,
    /// The oldest
    Oldest,
    /// Any
    Random,
}

impl From<Pick> for DrillChoice {
    fn from(pick: Pick) -> Self {
        match pick {
            Pick::Newest => Self::Newest,
            Pick::Oldest => Self::Oldest,
            Pick::Random => Self::Random,
        }
    }
}

pub(super) fn image(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((service, image)) if !service.is_empty() && !image.is_empty() => {
            Ok((service.to_owned(), image.to_owned()))
        }
        _ => Err("an image is given as SERVICE=IMAGE".to_owned()),
    }
}

//! The arguments of `lifeboat recover`.

use super::Wait;
use super::drill::image;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// The stack, as it was called when it was backed up
    #[arg(value_name = "STACK")]
    pub stack: String,
    /// The backup: an id, or its beginning [default: the newest complete one]
    #[arg(long, value_name = "BACKUP")]
    pub backup: Option<String>,
    /// Another image than the backup's for a service; repeatable
    #[arg(long, value_name = "SERVICE=IMAGE", value_parser = image)]
    pub image: Vec<(String, String)>,
    /// Load the images of this file of `docker save` first, and pull none
    #[arg(long, value_name = "FILE")]
    pub load: Option<PathBuf>,
    /// Pull no image: fail where one is missing
    #[arg(long)]
    pub no_pull: bool,
    /// Write the Compose project's own files into this folder, which is empty or not there yet
    #[arg(long, value_name = "DIR")]
    pub files_to: Option<PathBuf>,
    /// Print every step that would be taken
    #[arg(long, visible_alias = "plan")]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: Wait,
}

//! The arguments of `lifeboat guard`.

use super::Wait;
use clap::Args;
use std::ffi::OsString;

#[derive(Debug, Args)]
pub(in crate::cli) struct Guard {
    /// The stack; may be left out where there is one
    pub stack: Option<String>,
    /// Only this artifact, folder or database, for the backup and the way back; repeatable
    #[arg(long, value_name = "A")]
    pub only: Vec<String>,
    /// A mark of your own, besides git-commit, git-dirty, command and image.SERVICE; repeatable
    #[arg(long, value_name = "K=V", value_parser = super::tag)]
    pub tag: Vec<(String, String)>,
    /// Where the command fails, put back in place what the backup holds
    #[arg(long)]
    pub rollback_on_failure: bool,
    #[command(flatten)]
    pub wait: Wait,
    /// Print what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

//! The arguments of `lifeboat notify`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum NotifyCommand {
    /// Send a test through every channel of [notify], and say which arrived
    Test(NotifyTest),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct NotifyTest {
    /// Only through this channel; repeatable
    #[arg(long, value_name = "NAME")]
    pub channel: Vec<String>,
    /// Print the channels and what they are told of, and send nothing
    #[arg(long)]
    pub dry_run: bool,
}

//! `lifeboat volume`.

mod copy;
mod diff;
mod list;
mod removal;
mod store;

use crate::cli::args::VolumeCommand;
use crate::cli::output::Output;
use crate::cli::session::Session;
use crate::error::Result;
use std::process::ExitCode;

pub(super) async fn run(
    session: &Session,
    command: VolumeCommand,
    output: &Output,
) -> Result<ExitCode> {
    match command {
        VolumeCommand::Ls(arguments) => list::ls(session, arguments, output).await,
        VolumeCommand::Inspect(arguments) => list::inspect(session, arguments, output).await,
        VolumeCommand::Backup(arguments) => store::backup(session, arguments, output).await,
        VolumeCommand::Restore(arguments) => store::restore(session, arguments, output).await,
        VolumeCommand::Clone(arguments) => copy::run(session, arguments, false, output).await,
        VolumeCommand::Rename(arguments) => copy::run(session, arguments, true, output).await,
        VolumeCommand::Migrate(arguments) => copy::migrate(session, arguments, output).await,
        VolumeCommand::Diff(arguments) => diff::run(session, &arguments, output).await,
        VolumeCommand::Rm(arguments) => removal::rm(session, arguments, output).await,
        VolumeCommand::Prune(arguments) => removal::prune(session, &arguments, output).await,
    }
}

//! One file a command: arguments to a request, the operation, its report to text or JSON.

mod backup;
mod copy;
mod daemon;
mod doctor;
pub(super) mod drill;
mod export;
mod guard;
mod init;
mod key;
mod list;
mod manual;
mod notify;
mod pin;
mod prune;
mod recover;
mod repository;
mod restore;
mod rollback;
mod schedule;
mod show;
mod status;
mod verify;
mod volume;

use super::args::{Arguments, Command, KeyCommand, NotifyCommand, RepositoryCommand};
use super::output::Output;
use super::session::Session;
use crate::error::Result;
use std::process::ExitCode;

/// Runs the command.
pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<ExitCode> {
    match &arguments.command {
        // These work anywhere, whatever the configuration says.
        Command::Completions { shell } => return Ok(manual::completions(*shell)),
        Command::Man { output: folder } => return manual::man(folder.as_deref()),
        _ => {}
    }
    let session = Session::start(&arguments.global)?;
    let result = dispatch(&session, arguments, output).await;
    session.access.close().await;
    result
}

async fn dispatch(session: &Session, arguments: Arguments, output: &Output) -> Result<ExitCode> {
    match arguments.command {
        Command::Init(arguments) => init::run(session, &arguments, output).await,
        Command::Status(arguments) => status::run(session, &arguments, output).await,
        Command::Backup(arguments) => backup::run(session, arguments, output).await,
        Command::List(arguments) => list::run(session, &arguments, output).await,
        Command::Show(arguments) => show::run(session, &arguments, output).await,
        Command::Verify(arguments) => verify::run(session, arguments, output).await,
        Command::Restore(arguments) => restore::run(session, arguments, output).await,
        Command::Rollback(arguments) => rollback::run(session, &arguments, output).await,
        Command::Guard(guarded) => guard::run(session, &arguments.global, guarded, output).await,
        Command::Export(arguments) => export::run(session, arguments, output).await,
        Command::Drill(arguments) => drill::run(session, arguments, output).await,
        Command::Recover(arguments) => recover::run(session, arguments, output).await,
        Command::Volume(command) => volume::run(session, command, output).await,
        Command::Pin(arguments) => pin::pin(session, &arguments, output).await,
        Command::Unpin(arguments) => pin::unpin(session, &arguments, output).await,
        Command::Prune(arguments) => prune::run(session, arguments, output).await,
        Command::Schedule(command) => schedule::run(session, command, output).await,
        Command::Daemon(arguments) => daemon::run(session, &arguments, output).await,
        Command::Doctor => doctor::run(session, output).await,
        Command::Key(KeyCommand::Generate(arguments)) => key::generate(&arguments, output),
        Command::Key(KeyCommand::Check(arguments)) => key::check(session, &arguments, output).await,
        Command::Notify(NotifyCommand::Test(arguments)) => {
            notify::test(session, &arguments, output).await
        }
        Command::Copy(arguments) => copy::run(session, arguments, output).await,
        Command::Repository(RepositoryCommand::Init) => repository::init(session, output).await,
        Command::Repository(RepositoryCommand::Ls) => repository::ls(session, output).await,
        Command::Repository(RepositoryCommand::Info) => repository::info(session, output).await,
        Command::Repository(RepositoryCommand::Check) => repository::check(session, output).await,
        Command::Completions { .. } | Command::Man { .. } => Ok(ExitCode::SUCCESS),
    }
}

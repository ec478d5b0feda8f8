//! The command line: arguments to requests, reports to output, errors to exit codes. The only place that prints.

mod args;
mod child;
mod command;
mod confirm;
mod environment;
mod keys;
mod notify;
mod output;
mod progress;
mod report;
mod schedules;
mod session;
mod signals;

use crate::error::{Error, Kind};
use clap::Parser;
use output::Output;
use std::process::ExitCode;

/// Runs the program and gives its exit code.
pub fn main() -> ExitCode {
    // What lifeboat writes is for its owner: dumps hold everything.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap's own words and its exit codes: 0 for --help, 2 for usage.
            let is_guard = args::is_guard(std::env::args_os());
            let code = match u8::try_from(error.exit_code()).unwrap_or(2) {
                code if code != 0 && is_guard => Kind::Guard.exit_code(),
                code => code,
            };
            if code != 0 && is_json() {
                output::usage_as_json(&error.to_string(), code, is_guard);
            } else {
                let _ = error.print();
            }
            return ExitCode::from(code);
        }
    };
    let is_guard = matches!(arguments.command, args::Command::Guard(_));
    let output = Output::new(&arguments.global);
    let output = if is_guard { output.aside() } else { output };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&output, &Error::failed("cannot start").caused_by(error)),
    };
    let result = runtime.block_on(command::run(arguments, &output));
    // Helper threads that still wait for a socket must not hold the exit up.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        // Of a guard every other code is its command's.
        Err(error) if is_guard => failed(&output, &error.with_kind(Kind::Guard)),
        Err(error) => failed(&output, &error),
    }
}

/// Whether JSON was asked for, of arguments that clap does not understand; not by what follows `--`, which is a
/// command's.
fn is_json() -> bool {
    std::env::args_os()
        .take_while(|argument| argument != "--")
        .any(|argument| argument == "--json")
}

fn failed(output: &Output, error: &Error) -> ExitCode {
    output.error(error);
    ExitCode::from(error.kind().exit_code())
}

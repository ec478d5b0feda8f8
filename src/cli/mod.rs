//! The command line: arguments to requests, reports to output, errors to exit codes. The only place that prints.

mod args;
mod command;
mod confirm;
mod environment;
mod keys;
mod output;
mod progress;
mod report;
mod session;

use crate::error::Error;
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
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            if code != 0 && std::env::args_os().any(|argument| argument == "--json") {
                output::usage_as_json(&error.to_string(), code);
            } else {
                let _ = error.print();
            }
            return ExitCode::from(code);
        }
    };
    let output = Output::new(&arguments.global);
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
        Err(error) => failed(&output, &error),
    }
}

fn failed(output: &Output, error: &Error) -> ExitCode {
    output.error(error);
    ExitCode::from(error.kind().exit_code())
}

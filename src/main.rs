//! The lifeboat program: parses, runs, exits.

use lifeboat::helper;
use std::path::PathBuf;

fn main() -> std::process::ExitCode {
    // In a container of its own, beside a volume: no arguments of a person's to parse, and no runtime.
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|first| first == helper::ARGUMENT)
    {
        return helper::serve(arguments.next().map(PathBuf::from).as_deref());
    }
    lifeboat::cli::main()
}

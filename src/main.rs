//! The lifeboat program: parses, runs, exits.

use lifeboat::helper;

fn main() -> std::process::ExitCode {
    // In a container of its own, beside a volume: no arguments to parse, and no runtime.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == helper::ARGUMENT)
    {
        return helper::serve();
    }
    lifeboat::cli::main()
}

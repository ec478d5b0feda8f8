//! The lifeboat program: parses, runs, exits.

fn main() -> std::process::ExitCode {
    lifeboat::cli::main()
}

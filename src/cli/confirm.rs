//! Asking before something is changed that somebody uses.

use super::output::Output;
use crate::error::{Error, OrFail, Result};
use std::io::{BufRead, IsTerminal, Write};

/// Asks on the terminal; with no terminal, refuses unless `--yes` was given.
pub(super) fn confirm(output: &Output, yes: bool, question: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || output.is_json() {
        return Err(Error::usage(
            "this changes what is in use, and there is no terminal to ask at",
        )
        .hint("--dry-run shows what would be done; --yes does it"));
    }
    output.remark(&format!("{question} Type yes to go on:"));
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .or_fail(|| "cannot read your answer")?;
    if answer.trim().eq_ignore_ascii_case("yes") {
        Ok(())
    } else {
        Err(Error::failed("nothing was done: the answer was not yes"))
    }
}

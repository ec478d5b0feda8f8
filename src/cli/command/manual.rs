//! `lifeboat completions` and `lifeboat man`: made from the arguments themselves.

use crate::cli::args::Arguments;
use crate::error::{OrFail, Result};
use clap::CommandFactory;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "lifeboat", &mut script);
    print(&script);
    ExitCode::SUCCESS
}

pub(super) fn man(folder: Option<&Path>) -> Result<ExitCode> {
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).or_fail(|| format!("cannot make {}", folder.display()))?;
        clap_mangen::generate_to(Arguments::command(), folder)
            .or_fail(|| format!("cannot write the manual pages to {}", folder.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command())
        .render(&mut page)
        .or_fail(|| "cannot write the manual page")?;
    print(&page);
    Ok(ExitCode::SUCCESS)
}

/// Scripts and pages go to standard output as they are.
fn print(bytes: &[u8]) {
    use std::io::Write;
    // A reader that has gone away (head) is no failure of ours.
    let _ = std::io::stdout().lock().write_all(bytes);
}

//! Drawing the screen again and again.

use super::screen::{Screen, cut};
use crate::cli::output::Output;
use crate::operation::status::Status;
use std::fmt::Write as _;

/// Columns and rows of the terminal, where standard output is one.
pub(super) fn size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    let known = size.ws_col >= 20 && size.ws_row >= 3;
    known.then(|| (size.ws_col.into(), size.ws_row.into()))
}

/// Draws over what is there: the cursor goes home, and each line clears what was behind it. Nothing is blank meanwhile.
pub(super) fn draw(output: &Output, colour: bool, found: &Status, seconds: u64) {
    let (width, height) = size().unwrap_or((100, 30));
    let mut lines = Screen { colour, width }.draw(found);
    lines.push(String::new());
    let footer = format!("every {seconds} s; Ctrl-C ends");
    if lines.len() + 1 > height {
        let hidden = lines.len() + 1 - height;
        lines.truncate(height - 1);
        lines.push(format!(
            "{footer}; {hidden} more lines need a taller window"
        ));
    } else {
        lines.push(footer);
    }
    let mut frame = String::from("\u{1b}[H");
    for (number, line) in lines.iter().enumerate() {
        let end = if number + 1 < lines.len() { "\r\n" } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(frame, "{}\u{1b}[K{end}", cut(line, width));
    }
    frame.push_str("\u{1b}[J");
    output.frame(&frame);
}

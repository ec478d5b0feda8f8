//! The Compose project's own files: what an empty machine needs besides the data.
//!
//! They are on the machine that `docker compose` is run on, so lifeboat's own process reads them.
//!
//! | file | what it does |
//! | --- | --- |
//! | `yaml` | reads YAML that nobody trusts |
//! | `compose` | which files a Compose file names |
//! | `pattern` | the patterns of `include_files` |
//! | `reach` | where paths lead |
//! | `secret` | which files are secrets |
//! | `select` | which files are captured, and which are not |
//! | `capture` | those files as an archive |

mod capture;
mod compose;
mod pattern;
mod pipe;
mod reach;
mod secret;
mod select;
mod yaml;

pub use capture::{Capture, FilesFacts};
pub use pipe::{Intake, intake};
pub use select::{MOST_BYTES, OUTSIDE, Project, Selection, select};

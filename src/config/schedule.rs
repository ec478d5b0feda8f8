//! Schedule files: which stack, when, where to, what to keep.

use super::{at, parse};
use crate::error::{Error, OrFail, Result, nearest};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A schedule, checked.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// The file's name without its ending.
    pub name: String,
    /// The stack.
    pub stack: String,
    /// When, in `timezone`.
    pub cron: Cron,
    /// The zone of `cron`.
    pub timezone: Tz,
    /// The repositories' names.
    pub repositories: Vec<String>,
    /// What to keep.
    pub keep: Keep,
}

/// `[keep]`: how many of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// The newest.
    pub last: Option<u32>,
    /// One a day.
    pub daily: Option<u32>,
    /// One a week.
    pub weekly: Option<u32>,
    /// One a month.
    pub monthly: Option<u32>,
}

/// A schedule file as it stands.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleFile {
    stack: String,
    cron: toml::Spanned<String>,
    timezone: Option<toml::Spanned<String>>,
    #[serde(default)]
    repositories: Vec<String>,
    #[serde(default)]
    keep: Keep,
}

impl Schedule {
    /// Reads and checks one file.
    ///
    /// # Errors
    /// Usage, with line and column, for unknown keys, a wrong cron expression or an unknown zone.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).or_fail(|| format!("cannot read {}", path.display()))?;
        let file: ScheduleFile = parse(path, &text)?;
        let cron = Cron::from_str(file.cron.as_ref()).map_err(|error| {
            at(
                path,
                &text,
                file.cron.span(),
                &format!("not a cron expression: {error}"),
            )
            .hint("five fields: minute hour day month weekday, such as 0 2 * * *")
        })?;
        let timezone = match &file.timezone {
            None => Tz::UTC,
            Some(zone) => Tz::from_str(zone.as_ref()).map_err(|_| {
                let near = nearest(
                    zone.as_ref(),
                    chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()),
                )
                .join(" or ");
                let error = at(path, &text, zone.span(), "no such time zone");
                match near.is_empty() {
                    true => error.hint("zones look like Europe/Berlin"),
                    false => error.hint(format!("did you mean {near}?")),
                }
            })?,
        };
        Ok(Self {
            name: path
                .file_stem()
                .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
            stack: file.stack,
            cron,
            timezone,
            repositories: file.repositories,
            keep: file.keep,
        })
    }

    /// The first run after `now`; `None` where there is none.
    pub fn next_run(&self, now: DateTime<Utc>) -> Option<DateTime<Tz>> {
        self.cron
            .find_next_occurrence(&now.with_timezone(&self.timezone), false)
            .ok()
    }
}

/// Every `*.toml` in `folder`, by name; none where there is no such folder.
///
/// # Errors
/// Failed where the folder is there and cannot be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Error::failed(format!("cannot read {}", folder.display())).caused_by(error));
        }
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Schedule> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nightly.toml");
        std::fs::write(&path, text).unwrap();
        Schedule::read(&path)
    }

    #[test]
    fn a_schedule_runs_at_its_zones_time() {
        let schedule = read("stack = \"a\"\ncron = \"0 2 * * *\"\ntimezone = \"Europe/Berlin\"\n[keep]\ndaily = 7\n").unwrap();
        let now = "2026-07-01T12:00:00Z".parse().unwrap();
        assert_eq!(
            schedule.next_run(now).unwrap().to_rfc3339(),
            "2026-07-02T02:00:00+02:00"
        );
        assert_eq!(
            (schedule.name.as_str(), schedule.keep.daily),
            ("nightly", Some(7))
        );
    }

    #[test]
    fn what_is_wrong_is_shown_with_its_place() {
        for (text, words) in [
            (
                "stack = \"a\"\ncron = \"61 2 * * *\"\n",
                ":2:8: not a cron expression",
            ),
            (
                "stack = \"a\"\ncron = \"0 2 * * *\"\ntimezone = \"Europe/Berlim\"\n",
                ":3:12: no such time zone",
            ),
            (
                "stack = \"a\"\ncrom = \"0 2 * * *\"\n",
                ":2:1: unknown field `crom`",
            ),
            (
                "stack = \"a\"\ncron = \"0 2 * * *\"\n[keep]\ndayly = 1\n",
                ":4:1: unknown field `dayly`",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind().exit_code(), 2);
            assert!(error.to_string().contains(words), "{error}");
        }
        let error = read("stack = \"a\"\ncron = \"0 2 * * *\"\ntimezone = \"Europe/Berlim\"\n")
            .unwrap_err();
        assert!(
            error
                .hint_text()
                .is_some_and(|hint| hint.contains("Europe/Berlin"))
        );
    }
}

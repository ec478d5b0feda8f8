//! Schedule files: which stack, when, where to, what to keep.

use super::{at, parse};
use crate::error::{Error, OrFail, Result, nearest};
use crate::schedule::{Calendar, Drill, DrillCheck, DrillChoice, Hook, Hooks, Rules, Schedule};
use crate::stack::Quiesce;
use chrono_tz::Tz;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use toml::Spanned;

/// How long a hook may take where its file does not say.
const HOOK_TIME: Duration = Duration::from_mins(5);

/// A schedule file as it stands.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleFile {
    stack: String,
    cron: Spanned<String>,
    timezone: Option<Spanned<String>>,
    jitter: Option<Spanned<String>>,
    #[serde(default)]
    repositories: Vec<String>,
    #[serde(default)]
    only: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
    quiesce: Option<Quiesce>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    pin: bool,
    #[serde(default)]
    allow_partial: bool,
    rpo: Option<Spanned<String>>,
    keep: Option<KeepTable>,
    #[serde(default)]
    hooks: HooksTable,
    drill: Option<DrillTable>,
}

/// `[keep]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeepTable {
    last: Option<u32>,
    hourly: Option<u32>,
    daily: Option<u32>,
    weekly: Option<u32>,
    monthly: Option<u32>,
    yearly: Option<u32>,
    within: Option<Spanned<String>>,
    #[serde(default)]
    tags: Vec<String>,
    min: Option<u32>,
}

/// `[hooks]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HooksTable {
    #[serde(default)]
    pre: Vec<HookTable>,
    #[serde(default)]
    post: Vec<HookTable>,
}

/// One of `[hooks]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HookTable {
    run: Spanned<Vec<String>>,
    service: Option<String>,
    time_limit: Option<Spanned<String>>,
}

/// `[drill]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrillTable {
    cron: Spanned<String>,
    #[serde(default)]
    backup: DrillChoice,
    #[serde(default)]
    check: Vec<Spanned<CheckTable>>,
}

/// One of `[[drill.check]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckTable {
    sql: Option<String>,
    redis: Option<String>,
    file: Option<String>,
    service: Option<String>,
    database: Option<Spanned<String>>,
    volume: Option<String>,
}

/// Reads and checks one file.
///
/// # Errors
/// Usage, with line and column, for unknown keys, a wrong cron expression, time span or zone.
pub fn read(path: &Path) -> Result<Schedule> {
    let text =
        std::fs::read_to_string(path).or_fail(|| format!("cannot read {}", path.display()))?;
    let file: ScheduleFile = parse(path, &text)?;
    let source = Source { path, text: &text };
    let zone = file
        .timezone
        .as_ref()
        .map_or(Ok(Tz::UTC), |zone| source.zone(zone))?;
    let calendar = source.calendar(&file.cron, zone)?;
    let calendar = match &file.jitter {
        Some(jitter) => source.jitter(calendar, jitter)?,
        None => calendar,
    };
    let drill = file.drill.map(|drill| {
        Ok::<_, Error>(Drill {
            calendar: source.calendar(&drill.cron, zone)?,
            backup: drill.backup,
            checks: source.checks(drill.check)?,
        })
    });
    Ok(Schedule {
        name: path
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
        stack: file.stack,
        calendar,
        repositories: file.repositories,
        only: file.only,
        include: file.include,
        quiesce: file.quiesce,
        tags: file.tags,
        pin: file.pin,
        allow_partial: file.allow_partial,
        rpo: file.rpo.map(|rpo| source.duration(&rpo)).transpose()?,
        keep: file.keep.map(|keep| source.rules(keep)).transpose()?,
        hooks: Hooks {
            before: source.hooks(file.hooks.pre)?,
            after: source.hooks(file.hooks.post)?,
        },
        drill: drill.transpose()?,
    })
}

/// The file that is read, for messages that point at a place in it.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn wrong<T>(&self, value: &Spanned<T>, what: &str) -> Error {
        at(self.path, self.text, value.span(), what)
    }

    fn zone(&self, zone: &Spanned<String>) -> Result<Tz> {
        Tz::from_str(zone.as_ref()).map_err(|_| {
            let names = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
            let near = nearest(zone.as_ref(), names).join(" or ");
            let error = self.wrong(zone, "no such time zone");
            match near.is_empty() {
                true => error.hint("zones look like Europe/Berlin"),
                false => error.hint(format!("did you mean {near}?")),
            }
        })
    }

    fn calendar(&self, cron: &Spanned<String>, zone: Tz) -> Result<Calendar> {
        Calendar::parse(cron.as_ref(), zone).map_err(|error| {
            self.wrong(cron, &format!("not a cron expression: {error}"))
                .hint("five fields: minute hour day month weekday, such as 0 2 * * *; or @daily")
        })
    }

    /// Runs that are put off until after the next ones would be lost.
    fn jitter(&self, calendar: Calendar, jitter: &Spanned<String>) -> Result<Calendar> {
        let span = self.duration(jitter)?;
        match calendar.shortest_gap() {
            Some(gap) if span >= gap => Err(self
                .wrong(jitter, "the jitter is as long as the time between two runs")
                .hint(format!(
                    "it must be below {}",
                    humantime::format_duration(gap)
                ))),
            _ => Ok(calendar.with_jitter(span)),
        }
    }

    fn duration(&self, span: &Spanned<String>) -> Result<Duration> {
        humantime::parse_duration(span.as_ref()).map_err(|error| {
            self.wrong(span, &format!("not a span of time: {error}"))
                .hint("a number and a unit, such as 10m, 26h or 14d")
        })
    }

    fn rules(&self, keep: KeepTable) -> Result<Rules> {
        Ok(Rules {
            last: keep.last,
            hourly: keep.hourly,
            daily: keep.daily,
            weekly: keep.weekly,
            monthly: keep.monthly,
            yearly: keep.yearly,
            within: keep.within.map(|span| self.duration(&span)).transpose()?,
            tags: keep.tags,
            min: keep.min,
        })
    }

    fn hooks(&self, hooks: Vec<HookTable>) -> Result<Vec<Hook>> {
        let hooks = hooks.into_iter().map(|hook| {
            if hook.run.as_ref().is_empty() {
                return Err(self.wrong(&hook.run, "a hook runs a program"));
            }
            Ok(Hook {
                time_limit: match &hook.time_limit {
                    Some(limit) => self.duration(limit)?,
                    None => HOOK_TIME,
                },
                command: hook.run.into_inner(),
                service: hook.service,
            })
        });
        hooks.collect()
    }

    fn checks(&self, checks: Vec<Spanned<CheckTable>>) -> Result<Vec<DrillCheck>> {
        checks.into_iter().map(|check| self.check(&check)).collect()
    }

    fn check(&self, spanned: &Spanned<CheckTable>) -> Result<DrillCheck> {
        let check = spanned.as_ref();
        let stray = |present: bool, key: &str, of: &str| match present {
            true => Err(self.wrong(spanned, &format!("a {of} check has no {key}"))),
            false => Ok(()),
        };
        match (&check.sql, &check.redis, &check.file) {
            (Some(query), None, None) => {
                stray(check.volume.is_some(), "volume", "sql")?;
                Ok(DrillCheck::Sql {
                    query: query.clone(),
                    service: check.service.clone(),
                    database: check.database.as_ref().map(|name| name.as_ref().clone()),
                })
            }
            (None, Some(command), None) => {
                stray(check.volume.is_some(), "volume", "redis")?;
                if command.contains(char::is_control) || command.trim().is_empty() {
                    return Err(self.wrong(spanned, "a redis check is one command on one line"));
                }
                Ok(DrillCheck::Redis {
                    command: command.clone(),
                    service: check.service.clone(),
                    database: match &check.database {
                        None => 0,
                        Some(number) => number
                            .as_ref()
                            .parse()
                            .map_err(|_| self.wrong(number, "a Redis database is a number"))?,
                    },
                })
            }
            (None, None, Some(file)) => {
                stray(check.service.is_some(), "service", "file")?;
                stray(check.database.is_some(), "database", "file")?;
                let (volume, path) = match (&check.volume, file.split_once(':')) {
                    (Some(volume), _) => (volume.as_str(), file.as_str()),
                    (None, Some((volume, path))) => (volume, path),
                    (None, None) => {
                        return Err(self
                            .wrong(
                                spanned,
                                "the check does not say in which volume the file is",
                            )
                            .hint("file = \"VOLUME:PATH\", or volume = \"VOLUME\" beside it"));
                    }
                };
                let path = path.trim_matches('/');
                if path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
                    return Err(self.wrong(spanned, "the path is not one of a file in the volume"));
                }
                Ok(DrillCheck::File {
                    volume: volume.to_owned(),
                    path: path.to_owned(),
                })
            }
            _ => Err(self
                .wrong(spanned, "a check is one of sql, redis and file")
                .hint("write one [[drill.check]] for each")),
        }
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
        super::read(&path)
    }

    #[test]
    fn a_schedule_runs_at_its_zones_time() {
        let schedule = read("stack = \"a\"\ncron = \"0 2 * * *\"\ntimezone = \"Europe/Berlin\"\n[keep]\ndaily = 7\n").unwrap();
        let now = "2026-07-01T12:00:00Z".parse().unwrap();
        assert_eq!(
            schedule.calendar.next_after(now).unwrap().to_rfc3339(),
            "2026-07-02T00:00:00+00:00"
        );
        assert_eq!(schedule.name, "nightly");
        assert_eq!(schedule.keep.unwrap().daily, Some(7));
    }

    #[test]
    fn everything_that_can_be_said_is_read() {
        let schedule = read(
            "stack = \"a\"\ncron = \"@daily\"\njitter = \"10m\"\nrepositories = [\"x\", \"y\"]\nonly = [\"redis\"]\n\
             include = [\"bind:/srv\"]\nquiesce = \"pause\"\npin = true\nallow_partial = true\nrpo = \"26h\"\n\
             [tags]\nwhy = \"night\"\n\
             [keep]\nhourly = 1\nyearly = 2\nwithin = \"14d\"\ntags = [\"release\"]\nmin = 5\n\
             [hooks]\npre = [{ run = [\"flush\", \"--all\"], service = \"api\", time_limit = \"90s\" }]\npost = [{ run = [\"wake\"] }]\n\
             [drill]\ncron = \"0 4 * * 0\"\nbackup = \"random\"\n",
        )
        .unwrap();
        assert_eq!(schedule.calendar.jitter(), Duration::from_mins(10));
        assert_eq!(schedule.quiesce, Some(Quiesce::Pause));
        assert_eq!(schedule.rpo, Some(Duration::from_hours(26)));
        assert_eq!(schedule.tags["why"], "night");
        let keep = schedule.keep.unwrap();
        assert_eq!(keep.within, Some(Duration::from_hours(14 * 24)));
        assert_eq!((keep.tags, keep.min), (vec!["release".to_owned()], Some(5)));
        let pre = &schedule.hooks.before[0];
        assert_eq!(pre.command, ["flush", "--all"]);
        assert_eq!(pre.service.as_deref(), Some("api"));
        assert_eq!(pre.time_limit, Duration::from_secs(90));
        assert_eq!(schedule.hooks.after[0].time_limit, HOOK_TIME);
        assert_eq!(schedule.drill.unwrap().backup, DrillChoice::Random);
    }

    #[test]
    fn checks_of_a_drill_are_read() {
        let schedule = read(
            "stack = \"a\"\ncron = \"@daily\"\n[drill]\ncron = \"@weekly\"\n\
             [[drill.check]]\nsql = \"select 1\"\ndatabase = \"shop\"\n\
             [[drill.check]]\nredis = \"EXISTS session:1\"\ndatabase = \"3\"\n\
             [[drill.check]]\nfile = \"uploads:a/logo.png\"\n\
             [[drill.check]]\nfile = \"/b:c\"\nvolume = \"other\"\n",
        )
        .unwrap();
        let file = |volume: &str, path: &str| DrillCheck::File {
            volume: volume.to_owned(),
            path: path.to_owned(),
        };
        assert_eq!(
            schedule.drill.unwrap().checks,
            [
                DrillCheck::Sql {
                    query: "select 1".to_owned(),
                    service: None,
                    database: Some("shop".to_owned()),
                },
                DrillCheck::Redis {
                    command: "EXISTS session:1".to_owned(),
                    service: None,
                    database: 3,
                },
                file("uploads", "a/logo.png"),
                file("other", "b:c"),
            ]
        );
    }

    #[test]
    fn a_check_that_is_none_is_shown_with_its_place() {
        for (check, words) in [
            ("", "one of sql, redis and file"),
            ("sql = \"a\"\nredis = \"b\"\n", "one of sql, redis and file"),
            ("file = \"logo.png\"\n", "in which volume"),
            ("file = \"v:../x\"\n", "not one of a file in the volume"),
            ("sql = \"a\"\nvolume = \"v\"\n", "has no volume"),
            (
                "redis = \"GET a\"\ndatabase = \"x\"\n",
                ":7:12: a Redis database",
            ),
            ("sgl = \"a\"\n", "unknown field `sgl`"),
        ] {
            let text = format!(
                "stack = \"a\"\ncron = \"@daily\"\n[drill]\ncron = \"@weekly\"\n[[drill.check]]\n{check}"
            );
            let error = read(&text).unwrap_err();
            assert_eq!(error.kind().exit_code(), 2);
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.to_string().contains(".toml:"), "{error}");
        }
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
            (
                "stack = \"a\"\ncron = \"0 2 * * *\"\nrpo = \"26 fortnights\"\n",
                ":3:7: not a span of time",
            ),
            (
                "stack = \"a\"\ncron = \"@hourly\"\njitter = \"1h\"\n",
                ":3:10: the jitter is as long as",
            ),
            (
                "stack = \"a\"\ncron = \"0 2 * * *\"\n[hooks]\npre = [{ run = [] }]\n",
                ":4:16: a hook runs a program",
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

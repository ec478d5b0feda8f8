//! `lifeboat drill`.

use crate::cli::args::Drill;
use crate::cli::output::{Output, harmless, size, table};
use crate::cli::report;
use crate::cli::session::Session;
use crate::config::{read_schedule, schedule_files};
use crate::error::{Error, OrFail, Result, nearest};
use crate::operation::drill::{DrillReport, DrillRequest, drill};
use crate::operation::pick::pick;
use crate::schedule::DrillCheck;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) async fn run(session: &Session, arguments: Drill, output: &Output) -> Result<ExitCode> {
    // What is wrong with a file's name must not be found out at the end of an hour.
    let files: Vec<File> = arguments
        .report
        .iter()
        .map(|path| File::new(path))
        .collect::<Result<_>>()?;
    let repository = session.repository().await?;
    let entry = match &arguments.backup {
        Some(backup) => repository.resolve(backup, None).await?,
        None => {
            pick(
                &repository,
                arguments.stack.as_deref(),
                arguments.pick.into(),
            )
            .await?
        }
    };
    let checks = checks(session, &arguments.check_from, &entry.stack)?;
    let context = session.context_with_engine(output).await?;
    let request = DrillRequest {
        repository,
        entry,
        images: arguments.image.into_iter().collect(),
        checks,
        dry_run: arguments.dry_run,
    };
    let report = drill(&context, request, output).await?;
    if arguments.dry_run {
        output.result("plan", &report.plan, &report.plan.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    output.result("drill", &report, &text(&report));
    for file in &files {
        file.write(&report)?;
    }
    report.verdict().map(|()| ExitCode::SUCCESS)
}

/// The checks of the schedules that are named, else of all that are the stack's.
fn checks(session: &Session, named: &[String], stack: &str) -> Result<Vec<DrillCheck>> {
    let folder = session.schedules_folder();
    let mut schedules = Vec::new();
    if named.is_empty() {
        for (_, read) in session.schedules()? {
            let schedule = read?;
            schedules.extend((schedule.stack == stack).then_some(schedule));
        }
    }
    for name in named {
        let schedule = read_schedule(&schedule_file(&folder, name)?)?;
        if schedule.drill.is_none() {
            return Err(Error::usage(format!("the schedule {name} has no [drill]")));
        }
        schedules.push(schedule);
    }
    let mut checks: Vec<DrillCheck> = Vec::new();
    for check in schedules
        .into_iter()
        .filter_map(|schedule| schedule.drill)
        .flat_map(|drill| drill.checks)
    {
        if !checks.contains(&check) {
            checks.push(check);
        }
    }
    Ok(checks)
}

/// The file of a schedule that is given by its name or its path.
fn schedule_file(folder: &Path, name: &str) -> Result<PathBuf> {
    let given = Path::new(name);
    let is_path = given
        .extension()
        .is_some_and(|extension| extension == "toml");
    if is_path || name.contains('/') {
        return Ok(given.to_owned());
    }
    let path = folder.join(format!("{name}.toml"));
    if path.exists() {
        return Ok(path);
    }
    let known = schedule_files(folder)?;
    let known: Vec<String> = known
        .iter()
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    let near = nearest(name, known.iter().map(String::as_str)).join(" or ");
    let error = Error::usage(format!(
        "there is no schedule {name:?} in {}",
        folder.display()
    ));
    Err(match (near.is_empty(), known.is_empty()) {
        (false, _) => error.hint(format!("did you mean {near}?")),
        (true, false) => error.hint(format!("there are {}", known.join(", "))),
        (true, true) => error.hint("--check-from takes a file, too"),
    })
}

/// A file for the report, and what goes into it.
struct File {
    path: PathBuf,
    page: bool,
}

impl File {
    fn new(path: &Path) -> Result<Self> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let page = match extension {
            Some("html" | "htm") => true,
            Some("json") => false,
            _ => {
                return Err(Error::usage(format!(
                    "{} ends neither in .json nor in .html",
                    path.display()
                )));
            }
        };
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder
            && !folder.is_dir()
        {
            return Err(Error::usage(format!(
                "there is no folder {}",
                folder.display()
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            page,
        })
    }

    /// An older report is replaced by a whole one or not at all.
    fn write(&self, report: &DrillReport) -> Result<()> {
        let failed = || format!("cannot write {}", self.path.display());
        let text = match self.page {
            true => report::page(report),
            false => serde_json::to_string_pretty(report).or_fail(failed)? + "\n",
        };
        let mut staging = self.path.clone().into_os_string();
        staging.push(".part");
        std::fs::write(&staging, text).or_fail(failed)?;
        std::fs::rename(&staging, &self.path).or_fail(failed)
    }
}

fn text(report: &DrillReport) -> String {
    let reference = report.reference();
    let proven = report.failures().is_empty();
    let mut text = match proven {
        true => format!(
            "{reference} is proven: restored and compared in {:.1} s; its data were {} old",
            report.recovery_seconds,
            span(report.data_age_seconds)
        ),
        false => format!("{reference} is NOT PROVEN"),
    };
    text.push_str("\n\n");
    let rows = report.artifacts.iter().map(|one| {
        let compared: Vec<String> = one
            .compared
            .iter()
            .map(|counted| format!("{}: {}", counted.what, counted.count))
            .collect();
        vec![
            one.artifact.to_string(),
            size(one.raw_size),
            size(one.stored_size),
            format!("{:.1} s", one.seconds),
            match &one.failed {
                None if compared.is_empty() => "nothing in it, as before".to_owned(),
                None => compared.join(", "),
                Some(reason) => format!("FAILED: {reason}"),
            },
        ]
    });
    text.push_str(&table(
        &["ARTIFACT", "RAW", "STORED", "TIME", "COMPARED"],
        rows,
    ));
    for check in &report.checks {
        let outcome = match &check.failed {
            None => "holds".to_owned(),
            Some(reason) => format!("FAILED: {}", harmless(reason)),
        };
        let _ = writeln!(
            text,
            "check {}: {outcome}",
            harmless(&check.check.to_string())
        );
    }
    for one in &report.artifacts {
        for open in &one.not_compared {
            let _ = writeln!(text, "not compared: {}: {}", one.artifact, harmless(open));
        }
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {}", harmless(note));
    }
    if report.proof.is_some() {
        let _ = writeln!(
            text,
            "the proof is beside the backup in {}",
            report.repository
        );
    }
    text
}

/// A span of time for people: `3 hours`.
pub(in crate::cli) fn span(seconds: i64) -> String {
    let (count, unit) = match seconds {
        ..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

//! `lifeboat schedule`.

use crate::cli::args::{
    ExportCron, ExportSystemd, ScheduleCommand, ScheduleExport, ScheduleNext, ScheduleRun,
};
use crate::cli::environment;
use crate::cli::output::{Output, age, size, table};
use crate::cli::schedules::last_run;
use crate::cli::session::Session;
use crate::error::{Error, OrFail, Result};
use crate::event::{Event, Observer, Outcome, RunSummary};
use crate::operation::runs;
use crate::schedule::{Invocation, Schedule, Work, crontab, systemd};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// How long a scheduled run waits for another one on its stack, where it is not told: schedules overlap.
pub(in crate::cli) const PATIENCE: Duration = Duration::from_hours(6);

pub(super) async fn run(
    session: &Session,
    command: ScheduleCommand,
    output: &Output,
) -> Result<ExitCode> {
    match command {
        ScheduleCommand::Ls => ls(session, output),
        ScheduleCommand::Next(arguments) => next(session, &arguments, output),
        ScheduleCommand::Run(arguments) => run_now(session, &arguments, output).await,
        ScheduleCommand::Export(ScheduleExport::Systemd(arguments)) => {
            export_systemd(session, &arguments, output)
        }
        ScheduleCommand::Export(ScheduleExport::Cron(arguments)) => {
            export_cron(session, &arguments, output)
        }
    }
}

/// A time in a schedule's own zone.
fn local(schedule: &Schedule, at: DateTime<Utc>) -> String {
    let local = at.with_timezone(&schedule.calendar.zone());
    local.format("%a %Y-%m-%d %H:%M %Z").to_string()
}

fn ls(session: &Session, output: &Output) -> Result<ExitCode> {
    let now = environment::now();
    let read = session.schedules()?;
    let (mut rows, mut values, mut wrong) = (Vec::new(), Vec::new(), None);
    for (name, schedule) in read {
        let schedule = match schedule {
            Ok(schedule) => schedule,
            Err(error) => {
                rows.push(vec![name.clone(), "WRONG".to_owned()]);
                values.push(json!({ "schedule": name, "error": error.chain() }));
                wrong = Some(error);
                continue;
            }
        };
        let next = schedule.calendar.next_begin(&schedule.name, now);
        let last = last_run(&schedule)?;
        rows.push(vec![
            name,
            schedule.stack.clone(),
            schedule.calendar.text().to_owned(),
            next.map_or("never".to_owned(), |next| local(&schedule, next)),
            last.as_ref().map_or("-".to_owned(), |last| {
                format!("{} {}", outcome(last), age(last.started, now))
            }),
            match &schedule.repositories[..] {
                [] => "-".to_owned(),
                named => named.join(", "),
            },
        ]);
        values.push(value(&schedule, next, last.as_ref()));
    }
    let text = match rows.is_empty() {
        true => format!("no schedules in {}", session.schedules_folder().display()),
        false => table(
            &["SCHEDULE", "STACK", "CRON", "NEXT", "LAST", "REPOSITORIES"],
            rows,
        ),
    };
    output.result("schedules", &json!({ "schedules": values }), &text);
    wrong.map_or(Ok(ExitCode::SUCCESS), Err)
}

fn outcome(run: &RunSummary) -> &'static str {
    match run.outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Partial => "PARTIAL",
        Outcome::Failed => "FAILED",
    }
}

fn value(schedule: &Schedule, next: Option<DateTime<Utc>>, last: Option<&RunSummary>) -> Value {
    json!({
        "schedule": schedule.name,
        "stack": schedule.stack,
        "cron": schedule.calendar.text(),
        "timezone": schedule.calendar.zone().name(),
        "jitter": schedule.calendar.jitter().as_secs(),
        "repositories": schedule.repositories,
        "next": next,
        "last": last,
    })
}

fn next(session: &Session, arguments: &ScheduleNext, output: &Output) -> Result<ExitCode> {
    let schedules = session.right_schedules(arguments.name.as_deref())?;
    let mut runs: Vec<(DateTime<Utc>, &Schedule)> = Vec::new();
    for schedule in &schedules {
        let mut at = environment::now();
        for _ in 0..arguments.count {
            let Some(next) = schedule.calendar.next_after(at) else {
                break;
            };
            runs.push((schedule.calendar.begins(&schedule.name, next), schedule));
            at = next;
        }
    }
    runs.sort_by_key(|(at, _)| *at);
    let rows = runs.iter().map(|(at, schedule)| {
        vec![
            local(schedule, *at),
            schedule.name.clone(),
            schedule.stack.clone(),
        ]
    });
    let values: Vec<Value> = runs
        .iter()
        .map(|(at, schedule)| json!({ "at": at, "schedule": schedule.name, "stack": schedule.stack }))
        .collect();
    let text = table(&["AT", "SCHEDULE", "STACK"], rows);
    output.result("next_runs", &json!({ "runs": values }), &text);
    Ok(ExitCode::SUCCESS)
}

async fn run_now(session: &Session, arguments: &ScheduleRun, output: &Output) -> Result<ExitCode> {
    let schedule = session
        .right_schedules(Some(&arguments.name))?
        .pop()
        .ok_or_else(|| Error::usage("there is no such schedule"))?;
    let work = match arguments.drill {
        true => Work::Drill,
        false => Work::Backup,
    };
    let calendar = schedule.calendar_of(work).ok_or_else(|| {
        Error::usage(format!("the schedule {} has no [drill]", schedule.name))
            .hint("lifeboat drill proves a backup without a schedule")
    })?;
    // Held to the end: timers come again while a run is at work.
    let mut turn = None;
    if arguments.if_due {
        let state = environment::state_folder()?;
        turn = runs::turn(&state, &schedule.name, work.name())?;
        if turn.is_none() {
            let text = format!(
                "nothing to do: the {} of {} is at work",
                work.name(),
                schedule.name
            );
            output.result(
                "schedule_run",
                &json!({ "due": false, "running": true }),
                &text,
            );
            return Ok(ExitCode::SUCCESS);
        }
        let now = environment::now();
        let settled = session.settled(&schedule, work).await?;
        let Some(due) = calendar.due(&schedule.name, settled, now) else {
            let next = calendar.next_begin(&schedule.name, now);
            let said = next.map_or("never".to_owned(), |next| local(&schedule, next));
            let text = format!("nothing is due: {} runs next {said}", schedule.name);
            output.result(
                "schedule_run",
                &json!({ "due": false, "next": next }),
                &text,
            );
            return Ok(ExitCode::SUCCESS);
        };
        if due.missed > 0 || due.late {
            output.observe(&Event::Warning {
                message: format!(
                    "the run of {} was missed, and {} before it: catching up once",
                    local(&schedule, due.at),
                    due.missed
                ),
            });
        }
    }
    if arguments.dry_run {
        return session.plan_schedule(&schedule, output).await;
    }
    let summary = match work {
        Work::Drill => session.drill_schedule(&schedule, output).await,
        Work::Backup => {
            let wait = arguments.wait.wait.map_or(PATIENCE, Duration::from_secs);
            session.run_schedule(&schedule, Some(wait), output).await
        }
    };
    drop(turn);
    report(&summary, output);
    Ok(ExitCode::from(summary.code))
}

fn report(summary: &RunSummary, output: &Output) {
    let mut text = match &summary.backup {
        Some(backup) if summary.operation == "drill" && summary.outcome == Outcome::Succeeded => {
            format!(
                "proven: backup {backup} of {} restores, in {:.1} s",
                summary.stack, summary.seconds
            )
        }
        Some(backup) if summary.outcome != Outcome::Failed => format!(
            "{} backup {backup} of {}: {} → {} in {:.1} s",
            match summary.outcome {
                Outcome::Succeeded => "complete",
                _ => "PARTIAL",
            },
            summary.stack,
            size(summary.raw_size),
            size(summary.stored_size),
            summary.seconds,
        ),
        _ => String::new(),
    };
    for repository in &summary.repositories {
        let line = match &repository.failed {
            None => format!("\n  in {}", repository.repository),
            Some(reason) => format!("\n  NOT in {}: {reason}", repository.repository),
        };
        text.push_str(&line);
    }
    output.result("schedule_run", summary, &text);
    if let Some(message) = &summary.error
        && !output.is_json()
    {
        let error = Error::failed(message.clone());
        output.error(&match &summary.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        });
    }
}

/// Everything that schedules do at times of their own.
fn works(schedules: &[Schedule]) -> impl Iterator<Item = (&Schedule, Work)> {
    schedules.iter().flat_map(|schedule| {
        let works = [Work::Backup, Work::Drill].into_iter();
        works
            .filter(|work| schedule.calendar_of(*work).is_some())
            .map(move |work| (schedule, work))
    })
}

/// The program and the configuration as a timer must name them.
fn invocation(session: &Session) -> Result<Invocation> {
    let text = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| Error::usage(format!("{} is not UTF-8", path.display())))
    };
    let program = std::env::current_exe().or_fail(|| "cannot find this program's own path")?;
    let config = match &session.loaded.path {
        Some(path) => Some(
            std::fs::canonicalize(path).or_fail(|| format!("cannot find {}", path.display()))?,
        ),
        None => None,
    };
    Ok(Invocation {
        program: text(&program)?,
        config: config.as_deref().map(text).transpose()?,
    })
}

fn export_systemd(
    session: &Session,
    arguments: &ExportSystemd,
    output: &Output,
) -> Result<ExitCode> {
    let invocation = invocation(session)?;
    let (mut text, mut files) = (String::new(), serde_json::Map::new());
    let schedules = session.right_schedules(arguments.name.as_deref())?;
    for (schedule, work) in works(&schedules) {
        let units = systemd(schedule, work, &invocation).map_err(|reason| {
            Error::usage(format!("schedule {}: {reason}", schedule.name)).hint(
                "lifeboat daemon runs it, and so does what `lifeboat schedule export cron` prints",
            )
        })?;
        for (ending, content) in [("service", units.service), ("timer", units.timer)] {
            let name = format!("{}.{ending}", units.name);
            match &arguments.output {
                Some(folder) => {
                    let path = folder.join(&name);
                    std::fs::write(&path, &content)
                        .or_fail(|| format!("cannot write {}", path.display()))?;
                    let _ = writeln!(text, "wrote {}", path.display());
                }
                None => {
                    let _ = writeln!(text, "# {name}\n{content}");
                }
            }
            files.insert(name, Value::String(content));
        }
    }
    if arguments.output.is_some() {
        let timers: Vec<&str> = files
            .keys()
            .map(String::as_str)
            .filter(|name| {
                Path::new(name)
                    .extension()
                    .is_some_and(|ending| ending == "timer")
            })
            .collect();
        let _ = write!(
            text,
            "hint: systemctl daemon-reload && systemctl enable --now {}",
            timers.join(" ")
        );
    }
    output.result("systemd", &json!({ "files": files }), &text);
    Ok(ExitCode::SUCCESS)
}

fn export_cron(session: &Session, arguments: &ExportCron, output: &Output) -> Result<ExitCode> {
    let invocation = invocation(session)?;
    let machine = environment::zone();
    let schedules = session.right_schedules(arguments.name.as_deref())?;
    let user = arguments.user.as_deref();
    let lines: Vec<String> = works(&schedules)
        .map(|(schedule, work)| crontab(schedule, work, &invocation, machine, user))
        .collect();
    output.result("cron", &json!({ "lines": lines }), &lines.concat());
    Ok(ExitCode::SUCCESS)
}

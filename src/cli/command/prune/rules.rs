//! What is to be kept: the options, else the schedules that fill the repository.

use crate::cli::args::{Keep, Prune};
use crate::cli::environment::zone;
use crate::cli::output::Output;
use crate::cli::session::Session;
use crate::error::{Error, Result, nearest};
use crate::event::{Event, Observer};
use crate::repository::Location;
use crate::schedule::{Policies, Policy, Rules, Schedule};
use std::path::Path;

/// What is kept, and the stack that it is about, where only one is meant.
pub(super) fn policies(
    session: &Session,
    arguments: &Prune,
    location: &Location,
    output: &Output,
) -> Result<(Policies, Option<String>)> {
    let rules = rules(&arguments.keep);
    if !rules.is_empty() {
        let policy = Policy {
            schedule: None,
            rules,
            zone: zone().unwrap_or(chrono_tz::Tz::UTC),
        };
        let policies = Policies {
            default: vec![policy],
            ..Policies::default()
        };
        return Ok((policies, arguments.stack.clone()));
    }
    if arguments.keep.min.is_some() {
        return Err(Error::usage(
            "--keep-min is a least number, and nothing says what else to keep",
        )
        .hint("add --keep-daily 7 or another rule"));
    }
    let folder = session.schedules_folder();
    let read = session.schedules()?.into_iter();
    let schedules = read
        .map(|(_, schedule)| schedule)
        .collect::<Result<Vec<Schedule>>>()?;
    if let Some(name) = &arguments.schedule {
        let chosen = one(&schedules, name, arguments.stack.as_deref(), &folder)?;
        warn_of_others(&schedules, chosen, output);
        let stack = Some(chosen.stack.clone());
        return Ok((Policies::of_schedules([chosen]), stack));
    }
    let policies = session.policies_of(&schedules, location)?;
    let stack = arguments.stack.clone();
    let known = match &stack {
        Some(stack) => !policies.of(stack).is_empty(),
        None => !policies.by_stack.is_empty(),
    };
    match known {
        true => Ok((policies, stack)),
        false => Err(none(stack.as_deref(), location, &folder)),
    }
}

fn rules(keep: &Keep) -> Rules {
    Rules {
        last: keep.last,
        hourly: keep.hourly,
        daily: keep.daily,
        weekly: keep.weekly,
        monthly: keep.monthly,
        yearly: keep.yearly,
        within: keep.within,
        tags: keep.tag.clone(),
        min: keep.min,
    }
}

fn one<'a>(
    schedules: &'a [Schedule],
    name: &str,
    stack: Option<&str>,
    folder: &Path,
) -> Result<&'a Schedule> {
    let names = || schedules.iter().map(|schedule| schedule.name.as_str());
    let chosen = schedules.iter().find(|schedule| schedule.name == name);
    let chosen = chosen.ok_or_else(|| {
        let error = Error::usage(format!("{} has no schedule {name:?}", folder.display()));
        let near = nearest(name, names()).join(" or ");
        match (near.is_empty(), schedules.is_empty()) {
            (false, _) => error.hint(format!("did you mean {near}?")),
            (true, true) => error.hint("schedule files stand beside lifeboat.toml: --config FILE"),
            (true, false) => {
                error.hint(format!("it has {}", names().collect::<Vec<_>>().join(", ")))
            }
        }
    })?;
    if let Some(stack) = stack.filter(|stack| *stack != chosen.stack) {
        return Err(Error::usage(format!(
            "the schedule {name} is one of the stack {}, not of {stack}",
            chosen.stack
        )));
    }
    if chosen.keep.as_ref().is_none_or(Rules::is_empty) {
        return Err(
            Error::usage(format!("the schedule {name} does not say what to keep"))
                .hint("add [keep] to its file, with daily = 7 or another rule"),
        );
    }
    Ok(chosen)
}

/// What another schedule wants kept is not asked for.
fn warn_of_others(schedules: &[Schedule], chosen: &Schedule, output: &Output) {
    let others: Vec<&str> = schedules
        .iter()
        .filter(|other| other.stack == chosen.stack && other.name != chosen.name)
        .filter(|other| other.keep.as_ref().is_some_and(|keep| !keep.is_empty()))
        .map(|other| other.name.as_str())
        .collect();
    if !others.is_empty() {
        output.observe(&Event::Warning {
            message: format!(
                "what {} keeps of {} does not count now: without --schedule all of them do",
                others.join(", "),
                chosen.stack
            ),
        });
    }
}

fn none(stack: Option<&str>, location: &Location, folder: &Path) -> Error {
    let of = stack.map_or(String::new(), |stack| format!(" of {stack}"));
    Error::usage(format!(
        "nothing says what to keep{of} in {location}, so everything is kept"
    ))
    .hint(format!(
        "--keep-daily 7 or the like; or [keep] in a file of {} that has the stack and this repository",
        folder.display()
    ))
}

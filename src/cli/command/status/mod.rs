//! `lifeboat status`.

mod screen;
mod watch;

use crate::cli::args::Status as Arguments;
use crate::cli::environment::{connect_options, variable};
use crate::cli::output::Output;
use crate::cli::session::{DEFAULT_REPOSITORY, Session};
use crate::docker::connect::connect;
use crate::error::{Error, Kind, Result};
use crate::operation::Context;
use crate::operation::status::{
    PlannedSchedule, Problem, RepositoryAsked, Status, StatusRequest, status,
};
use crate::repository::{Location, Repository};
use futures_util::future::join_all;
use screen::Screen;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

pub(super) async fn run(
    session: &Session,
    arguments: &Arguments,
    output: &Output,
) -> Result<ExitCode> {
    let terminal = std::io::stdout().is_terminal();
    if arguments.watch.is_some() && !terminal && !output.is_json() {
        return Err(
            Error::usage("--watch draws a screen, and standard output is no terminal")
                .hint("leave it out, or add --json for one object a line"),
        );
    }
    let context = session.context()?;
    let screen = Screen {
        colour: terminal
            && variable("NO_COLOR").is_none()
            && variable("TERM").as_deref() != Some("dumb"),
        width: watch::size()
            .filter(|_| terminal)
            .map_or(100, |(width, _)| width),
    };
    let Some(seconds) = arguments.watch else {
        let found = look(session, &context, arguments).await?;
        if output.is_json() {
            output.result("status", &value(&found), "");
        } else {
            output.screen(&screen.draw(&found).join("\n"));
        }
        return Ok(exit_code(&found));
    };
    let every = Duration::from_secs(seconds);
    loop {
        let found = match look(session, &context, arguments).await {
            // Whoever watches ends it so.
            Err(_) if context.cancel.is_cancelled() => return Ok(ExitCode::SUCCESS),
            found => found?,
        };
        if output.is_json() {
            output.result("status", &value(&found), "");
        } else {
            watch::draw(output, screen.colour, &found, seconds);
        }
        tokio::select! {
            () = context.cancel.cancelled() => {
                // The prompt comes below what was drawn last.
                output.screen("");
                return Ok(exit_code(&found));
            }
            () = tokio::time::sleep(every) => {}
        }
    }
}

fn exit_code(found: &Status) -> ExitCode {
    let kind = found.kind();
    kind.map_or(ExitCode::SUCCESS, |kind| ExitCode::from(kind.exit_code()))
}

/// What `--json` prints.
fn value(found: &Status) -> Value {
    let mut value = json!({
        "safe": found.kind().is_none(),
        "code": found.kind().map_or(0, Kind::exit_code),
    });
    if let (Some(object), Ok(Value::Object(fields))) =
        (value.as_object_mut(), serde_json::to_value(found))
    {
        object.extend(fields);
    }
    value
}

/// Looks once: connections and files are looked at anew each time.
async fn look(session: &Session, context: &Context, arguments: &Arguments) -> Result<Status> {
    let mut before = Vec::new();
    let schedules = schedules(session, arguments.stack.as_deref(), &mut before)?;
    let asked = places(session, &schedules)?.into_iter();
    let opening = asked.map(|place| open(session, place));
    let (repositories, engine) = tokio::join!(join_all(opening), connected());
    let request = StatusRequest {
        stack: arguments.stack.clone(),
        engine,
        repositories,
        schedules,
        sources: session.sources()?,
        max_age: arguments.max_age,
        before,
    };
    status(context, request).await
}

async fn connected() -> Result<crate::docker::Engine> {
    connect(&connect_options()).await
}

/// A repository that is going to be looked at.
struct Place {
    name: String,
    location: Location,
    needed: bool,
}

async fn open(session: &Session, place: Place) -> RepositoryAsked {
    let opened = Repository::open(&place.location, &session.access).await;
    RepositoryAsked {
        name: place.name,
        address: place.location.to_string(),
        needed: place.needed,
        opened: opened.map(|repository| session.with_keys_at_hand(repository)),
    }
}

/// Where backups are looked for: what is named; else all of the configuration and of the schedules; else the default.
fn places(session: &Session, schedules: &[PlannedSchedule]) -> Result<Vec<Place>> {
    let mut places: Vec<Place> = Vec::new();
    let mut add = |name: &str, location: Location, needed| {
        if !places.iter().any(|place| place.location == location) {
            places.push(Place {
                name: name.to_owned(),
                location,
                needed,
            });
        }
    };
    for named in &session.named {
        add(named, session.find(named)?, true);
    }
    if !session.named.is_empty() {
        return Ok(places);
    }
    let promised = || schedules.iter().flat_map(|one| &one.repositories);
    let configured = &session.loaded.config.repository;
    for (name, repository) in configured {
        let location: Location = repository.url.as_ref().parse()?;
        let needed =
            configured.len() == 1 || promised().any(|address| *address == location.to_string());
        add(name, location, needed);
    }
    for address in promised() {
        add(address, address.parse()?, true);
    }
    if places.is_empty() {
        places.push(Place {
            name: DEFAULT_REPOSITORY.to_owned(),
            location: session.location()?,
            needed: true,
        });
    }
    Ok(places)
}

/// The schedules beside the configuration; those that are not right are problems.
fn schedules(
    session: &Session,
    stack: Option<&str>,
    before: &mut Vec<Problem>,
) -> Result<Vec<PlannedSchedule>> {
    let mut schedules = Vec::new();
    for (name, read) in session.schedules()? {
        let read = read.and_then(|schedule| {
            Ok(PlannedSchedule {
                repositories: addresses(session, &schedule.repositories)?,
                schedule,
            })
        });
        match read {
            Ok(one) if stack.is_none_or(|stack| one.schedule.stack == stack) => schedules.push(one),
            Ok(_) => {}
            Err(error) => before.push(Problem::unknown(&format!("schedule {name}"), &error)),
        }
    }
    Ok(schedules)
}

/// The repositories of a schedule that are looked at. Where some are named on the command line, only those are.
fn addresses(session: &Session, repositories: &[String]) -> Result<Vec<String>> {
    let locations = session.locations_of(repositories)?;
    let named = session.named.iter().map(|named| session.find(named));
    let named = named.collect::<Result<Vec<Location>>>()?;
    Ok(locations
        .into_iter()
        .filter(|location| named.is_empty() || named.contains(location))
        .map(|location| location.to_string())
        .collect())
}

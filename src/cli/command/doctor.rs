//! `lifeboat doctor`.

use crate::cli::environment::{connect_options, now};
use crate::cli::output::{Output, harmless};
use crate::cli::session::{DEFAULT_REPOSITORY, Session};
use crate::docker::connect::connect;
use crate::error::{Kind, Result};
use crate::operation::doctor::{Check, DoctorRequest, Outcome, doctor};
use serde_json::json;
use std::process::ExitCode;

pub(super) async fn run(session: &Session, output: &Output) -> Result<ExitCode> {
    let mut repositories = Vec::new();
    for (name, repository) in &session.loaded.config.repository {
        repositories.push((name.clone(), repository.url.as_ref().parse()?));
    }
    for named in &session.named {
        if !session.loaded.config.repository.contains_key(named) {
            repositories.push((named.clone(), session.find(named)?));
        }
    }
    if repositories.is_empty() {
        repositories.push((DEFAULT_REPOSITORY.to_owned(), session.location()?));
    }
    let context = session.context()?;
    let request = DoctorRequest {
        engine: connect(&connect_options()).await,
        repositories,
        access: session.access.clone(),
        sources: session.sources()?,
        before: schedules(session)?,
    };
    let checks = doctor(context, request).await;
    let mut lines = Vec::new();
    for check in &checks {
        let mark = match check.outcome {
            Outcome::Ok => "ok     ",
            Outcome::Warning => "warning",
            Outcome::Failed => "FAILED ",
        };
        lines.push(format!(
            "{mark}  {}: {}",
            harmless(&check.subject),
            harmless(&check.message)
        ));
        if let Some(hint) = &check.hint {
            lines.push(format!("         hint: {}", harmless(hint)));
        }
    }
    output.result("doctor", &json!({ "checks": checks }), &lines.join("\n"));
    match checks.iter().any(|check| check.outcome == Outcome::Failed) {
        true => Ok(ExitCode::from(Kind::Failed.exit_code())),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// The schedule files beside the configuration.
fn schedules(session: &Session) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (name, read) in session.schedules()? {
        let subject = format!("schedule {name}");
        let (outcome, message, hint) = match read {
            Ok(schedule) => {
                let calendar = &schedule.calendar;
                let next = calendar
                    .next_after(now())
                    .map_or("never".to_owned(), |next| {
                        next.with_timezone(&calendar.zone()).to_rfc3339()
                    });
                (
                    Outcome::Ok,
                    format!("stack {}, next at {next}", schedule.stack),
                    None,
                )
            }
            Err(error) => (
                Outcome::Failed,
                error.to_string(),
                error.hint_text().map(str::to_owned),
            ),
        };
        checks.push(Check {
            subject,
            outcome,
            message,
            hint,
        });
    }
    Ok(checks)
}

//! `lifeboat notify test`: whether notifications arrive, before the night in which they have to.

use crate::cli::args::NotifyTest;
use crate::cli::notify::notifier;
use crate::cli::output::{Output, table};
use crate::cli::session::Session;
use crate::error::{Error, Result, nearest};
use crate::notify::{Channel, NotifyFailure, Occasion};
use serde::Serialize;
use serde_json::json;
use std::process::ExitCode;

/// One channel, and what became of its test.
#[derive(Serialize)]
struct Row {
    channel: String,
    /// `null` where it cannot be used.
    kind: Option<&'static str>,
    /// Without what is secret about it.
    address: Option<String>,
    on: Vec<Occasion>,
    /// `null` where nothing was sent.
    delivered: Option<bool>,
    reason: Option<String>,
}

impl Row {
    fn of(channel: &Channel) -> Self {
        Self {
            channel: channel.name().to_owned(),
            kind: Some(channel.kind()),
            address: Some(channel.shown()),
            on: channel.audience().on.iter().copied().collect(),
            delivered: None,
            reason: None,
        }
    }

    fn unusable(failure: NotifyFailure) -> Self {
        Self {
            channel: failure.channel,
            kind: None,
            address: None,
            on: Vec::new(),
            delivered: Some(false),
            reason: Some(failure.reason),
        }
    }

    fn cells(&self) -> Vec<String> {
        let on: Vec<&str> = self.on.iter().map(|occasion| occasion.name()).collect();
        let on = match self.kind {
            Some("ping") => "start and end of runs".to_owned(),
            _ => on.join(", "),
        };
        let result = match (self.delivered, &self.reason) {
            (None, _) => "not sent".to_owned(),
            (Some(true), _) => "delivered".to_owned(),
            (Some(false), reason) => format!("FAILED: {}", reason.as_deref().unwrap_or_default()),
        };
        vec![
            self.channel.clone(),
            self.kind.unwrap_or("-").to_owned(),
            self.address.clone().unwrap_or_else(|| "-".to_owned()),
            on,
            result,
        ]
    }
}

pub(super) async fn test(
    session: &Session,
    arguments: &NotifyTest,
    output: &Output,
) -> Result<ExitCode> {
    let (notifier, unusable) = notifier(&session.loaded.config.notify, None);
    let names = notifier.channels().iter().map(Channel::name);
    let names = names.chain(unusable.iter().map(|one| one.channel.as_str()));
    check_names(&arguments.channel, &names.collect::<Vec<_>>())?;
    let asked = |name: &str| {
        arguments.channel.is_empty() || arguments.channel.iter().any(|one| one == name)
    };
    let wanted = |channel: &Channel| asked(channel.name());
    let mut rows: Vec<Row> = notifier
        .channels()
        .iter()
        .filter(|one| wanted(one))
        .map(Row::of)
        .collect();
    if !arguments.dry_run {
        for tested in notifier.test(wanted).await {
            if let Some(row) = rows.iter_mut().find(|row| row.channel == tested.channel) {
                row.delivered = Some(tested.failed.is_none());
                row.reason = tested.failed;
            }
        }
    }
    let unusable = unusable.into_iter().filter(|one| asked(&one.channel));
    rows.extend(unusable.map(Row::unusable));
    let failed = rows.iter().any(|row| row.delivered == Some(false));
    let text = table(
        &["CHANNEL", "KIND", "WHERE", "TOLD OF", "RESULT"],
        rows.iter().map(Row::cells),
    );
    output.result("notify_test", &json!({ "channels": rows }), &text);
    Ok(ExitCode::from(u8::from(failed)))
}

/// That there is something to test, and that what is named is there.
fn check_names(asked: &[String], names: &[&str]) -> Result<()> {
    if names.is_empty() {
        return Err(Error::usage("the configuration has nobody to notify")
            .hint("[notify] in lifeboat.toml: failure = [\"https://…\"]"));
    }
    match asked.iter().find(|one| !names.contains(&one.as_str())) {
        None => Ok(()),
        Some(wrong) => {
            let near = nearest(wrong, names.iter().copied()).join(" or ");
            let error = Error::usage(format!("no channel is called {wrong:?}"));
            Err(error.hint(match near.is_empty() {
                true => format!("there is {}", names.join(", ")),
                false => format!("did you mean {near}?"),
            }))
        }
    }
}

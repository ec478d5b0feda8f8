//! Channels from the configuration. Addresses and passwords are read here, at the edge.

use super::environment;
use crate::config::{self, ChannelConfig, ChannelKind, NotifyConfig, Place, SmtpConfig};
use crate::error::{Error, OrFail, Result};
use crate::notify::{Audience, Channel, Notifier, NotifyFailure, Occasion, Smtp, Surroundings};
use crate::secret::{Secret, SecretRef};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a run's log that are kept for who is told of its failure.
const LOG: usize = 64 * 1024;
/// How long a command may take where the configuration does not say.
const COMMAND_TIME: Duration = Duration::from_secs(30);

/// A notifier of a run, of `schedule` where it is one's; and the channels that cannot be used, with the reason. They are
/// no reason to fail: each is for a warning.
pub(super) fn notifier(
    config: &NotifyConfig,
    schedule: Option<&str>,
) -> (Notifier, Vec<NotifyFailure>) {
    let (channels, unusable) = channels(config);
    let at = Surroundings {
        host: environment::host(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        schedule: schedule.map(str::to_owned),
        clock: environment::now,
    };
    (Notifier::new(channels, at, LOG), unusable)
}

/// Every channel of the configuration, and those that cannot be used.
fn channels(config: &NotifyConfig) -> (Vec<Channel>, Vec<NotifyFailure>) {
    let mut made = Made {
        smtp: Server::of(config),
        channels: Vec::new(),
        unusable: Vec::new(),
    };
    // Who is told of failures wants to know that there was no run at all, unless somebody else is.
    let absence = config.absence.as_ref().unwrap_or(&config.failure);
    for (occasion, places) in [
        (Occasion::Failure, &config.failure),
        (Occasion::Recovery, &config.recovery),
        (Occasion::Success, &config.success),
        (Occasion::Absence, absence),
    ] {
        for (index, place) in places.iter().enumerate() {
            let name = format!("{}-{}", occasion.name(), index + 1);
            made.listed(&name, place.get_ref(), occasion);
        }
    }
    if let Some(place) = &config.ping {
        let channel = address(place.get_ref())
            .and_then(|address| Channel::ping("ping", Audience::default(), &address));
        made.add("ping", None, channel);
    }
    for (name, channel) in &config.channel {
        let channel = made.configured(name, channel);
        made.add(name, None, channel);
    }
    let channels = made.channels.into_iter().map(|(_, channel)| channel);
    (channels.collect(), made.unusable)
}

/// What has been made so far.
struct Made {
    smtp: Server,
    /// With the place that a list has it from: the same place in several lists is one channel.
    channels: Vec<(Option<String>, Channel)>,
    unusable: Vec<NotifyFailure>,
}

impl Made {
    /// A place of a list.
    fn listed(&mut self, name: &str, place: &Place, occasion: Occasion) {
        let key = match place {
            Place::Text(text) => text.expose().to_owned(),
            Place::Reference(reference) => reference.to_string(),
        };
        let same = |one: &&mut (Option<String>, Channel)| one.0.as_ref() == Some(&key);
        if let Some((_, channel)) = self.channels.iter_mut().find(same) {
            channel.add(occasion);
            return;
        }
        let audience = Audience {
            on: [occasion].into(),
            ..Audience::default()
        };
        let channel = match place.mail_addresses() {
            Some(to) => self
                .smtp
                .get()
                .and_then(|smtp| Channel::email(name, audience, smtp, &to)),
            None => {
                address(place).and_then(|address| Channel::webhook(name, audience, &address, None))
            }
        };
        self.add(name, Some(key), channel);
    }

    /// `[notify.channel.NAME]`.
    fn configured(&self, name: &str, config: &ChannelConfig) -> Result<Channel> {
        let kind = *config.kind.get_ref();
        let on = match (&config.on, kind) {
            (Some(on), _) => on.iter().copied().collect(),
            (None, ChannelKind::Ping) => [].into(),
            (None, _) => [Occasion::Failure, Occasion::Absence].into(),
        };
        let audience = Audience {
            on,
            stacks: config.stacks.clone(),
            schedules: config.schedules.clone(),
            operations: config.operations.clone(),
        };
        let url = || match &config.url {
            Some(place) => address(place.get_ref()),
            None => Err(Error::usage("its address is missing")),
        };
        match kind {
            ChannelKind::Webhook => Channel::webhook(name, audience, &url()?, config.style),
            ChannelKind::Ping => Channel::ping(name, audience, &url()?),
            ChannelKind::Email => Channel::email(name, audience, self.smtp.get()?, &config.to),
            ChannelKind::Command => {
                let limit = config.time_limit().map_err(Error::usage)?;
                let words = config.command.clone();
                Channel::command(name, audience, words, limit.unwrap_or(COMMAND_TIME))
            }
        }
    }

    fn add(&mut self, name: &str, key: Option<String>, channel: Result<Channel>) {
        match channel {
            Ok(channel) => self.channels.push((key, channel)),
            Err(error) => {
                let failure = NotifyFailure {
                    channel: name.to_owned(),
                    reason: error.chain(),
                };
                // A place of two lists is unusable once.
                if key.is_none() || self.unusable.iter().all(|one| one.reason != failure.reason) {
                    self.unusable.push(failure);
                }
            }
        }
    }
}

/// The mail server: read once, and where it cannot be used, the reason for each e-mail.
struct Server(Result<Arc<Smtp>, String>);

impl Server {
    fn of(config: &NotifyConfig) -> Self {
        let Some(smtp) = &config.smtp else {
            return Self(Err("there is no [notify.smtp]".to_owned()));
        };
        let made = smtp_server(smtp.get_ref()).map(Arc::new);
        Self(made.map_err(|error| format!("[notify.smtp] cannot be used: {}", error.chain())))
    }

    fn get(&self) -> Result<Arc<Smtp>> {
        self.0.clone().map_err(Error::usage)
    }
}

fn smtp_server(config: &SmtpConfig) -> Result<Smtp> {
    let login = match (&config.user, &config.password) {
        (Some(user), Some(password)) => Some((user.clone(), secret(password)?)),
        _ => None,
    };
    let authority = config.ca_file.as_ref().map(|file| {
        std::fs::read(file).or_fail(|| format!("cannot read the ca_file {}", file.display()))
    });
    Smtp::new(
        &address(config.url.get_ref())?,
        config.tls,
        login,
        &config.from,
        authority.transpose()?.as_deref(),
    )
}

/// An address, its variables expanded.
fn address(place: &Place) -> Result<Secret> {
    match place {
        Place::Text(text) => config::expand(text.expose(), &environment::variable)
            .map(Secret::new)
            .map_err(Error::usage),
        Place::Reference(reference) => secret(reference),
    }
}

/// What a reference refers to, without the ends of lines that editors leave.
fn secret(reference: &SecretRef) -> Result<Secret> {
    match reference {
        SecretRef::Env(name) => environment::variable(name)
            .map(Secret::new)
            .ok_or_else(|| Error::usage(format!("the variable {name} is not set"))),
        SecretRef::File(file) => {
            let text = std::fs::read_to_string(file)
                .or_fail(|| format!("cannot read {}", file.display()))?;
            Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
        }
    }
}

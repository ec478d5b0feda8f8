//! A channel: who is told, how, and of what.

use super::address::Address;
use super::email::{Mail, Smtp};
use crate::error::{Error, Result};
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What somebody may want to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Occasion {
    /// A run failed, or brought a part only.
    Failure,
    /// A run succeeded after one that did not.
    Recovery,
    /// A run succeeded.
    Success,
    /// A stack has no complete backup that is new enough.
    Absence,
}

impl Occasion {
    /// Its name in the configuration and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Recovery => "recovery",
            Self::Success => "success",
            Self::Absence => "absence",
        }
    }
}

/// What a webhook's receiver understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// JSON of lifeboat's own, with everything that is known.
    Json,
    /// An incoming webhook of Slack, or of what imitates it (Mattermost, Rocket.Chat).
    Slack,
    /// A webhook of Discord.
    Discord,
    /// An Adaptive Card for a webhook of Teams' Workflows.
    Teams,
}

impl Style {
    /// The style that the receiver at this address is known for; else JSON.
    pub fn guess(address: &Address) -> Self {
        let host = address.host();
        let within = |domain: &str| {
            host.strip_suffix(domain)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if within("hooks.slack.com") {
            Self::Slack
        } else if within("discord.com") || within("discordapp.com") {
            Self::Discord
        } else if within("webhook.office.com")
            || within("logic.azure.com")
            || within("api.powerplatform.com")
        {
            Self::Teams
        } else {
            Self::Json
        }
    }
}

/// Which runs a channel hears of; an empty list is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audience {
    /// What of: empty for a ping, which follows runs from start to end instead.
    pub on: BTreeSet<Occasion>,
    /// Of these stacks.
    pub stacks: Vec<String>,
    /// Of these schedules.
    pub schedules: Vec<String>,
    /// Of these operations.
    pub operations: Vec<String>,
}

impl Audience {
    /// Whether runs of this kind are of interest; `None` of the operation is one that did not happen.
    pub(super) fn hears_of(
        &self,
        stack: &str,
        schedule: Option<&str>,
        operation: Option<&str>,
    ) -> bool {
        let among = |list: &[String], name: Option<&str>| {
            list.is_empty() || name.is_some_and(|name| list.iter().any(|one| one == name))
        };
        among(&self.stacks, Some(stack))
            && among(&self.schedules, schedule)
            && (operation.is_none() || among(&self.operations, operation))
    }
}

/// How it is told.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// A POST of JSON.
    Webhook { address: Address, style: Style },
    /// A ping of a monitor that waits for it.
    Ping { address: Address },
    /// An e-mail.
    Email(Mail),
    /// A program of the person's own.
    Command {
        words: Vec<String>,
        time_limit: Duration,
    },
}

/// One receiver.
#[derive(Debug, Clone)]
pub struct Channel {
    pub(super) name: String,
    pub(super) audience: Audience,
    pub(super) target: Target,
}

impl Channel {
    /// A webhook. Without a style, the one that its host is known for.
    ///
    /// # Errors
    /// Usage where the address is none.
    pub fn webhook(
        name: &str,
        audience: Audience,
        address: &Secret,
        style: Option<Style>,
    ) -> Result<Self> {
        let address = Address::parse(address, &["https", "http"])?;
        let style = style.unwrap_or_else(|| Style::guess(&address));
        let target = Target::Webhook { address, style };
        Ok(Self::new(name, audience, target))
    }

    /// A ping in the manner of healthchecks.io, of backups where `audience` names no operations: a drill that went
    /// well must not hide that the backup is missing.
    ///
    /// # Errors
    /// Usage where the address is none.
    pub fn ping(name: &str, mut audience: Audience, address: &Secret) -> Result<Self> {
        if audience.operations.is_empty() {
            audience.operations = vec!["backup".to_owned()];
        }
        let address = Address::parse(address, &["https", "http"])?;
        Ok(Self::new(name, audience, Target::Ping { address }))
    }

    /// An e-mail to `to`.
    ///
    /// # Errors
    /// Usage where one of them is no address of e-mail, or there is none.
    pub fn email(name: &str, audience: Audience, smtp: Arc<Smtp>, to: &[String]) -> Result<Self> {
        let target = Target::Email(Mail::new(smtp, to)?);
        Ok(Self::new(name, audience, target))
    }

    /// A program with its arguments, run without a shell, killed with what it started after `time_limit`.
    ///
    /// # Errors
    /// Usage where no program is named.
    pub fn command(
        name: &str,
        audience: Audience,
        words: Vec<String>,
        time_limit: Duration,
    ) -> Result<Self> {
        if words.first().is_none_or(String::is_empty) {
            return Err(Error::usage("the command names no program"));
        }
        let target = Target::Command { words, time_limit };
        Ok(Self::new(name, audience, target))
    }

    fn new(name: &str, audience: Audience, target: Target) -> Self {
        Self {
            name: name.to_owned(),
            audience,
            target,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whom it tells of what.
    pub fn audience(&self) -> &Audience {
        &self.audience
    }

    /// Adds an occasion.
    pub fn add(&mut self, occasion: Occasion) {
        self.audience.on.insert(occasion);
    }

    /// What it is: `webhook (slack)`, `ping`, `email`, `command`.
    pub fn kind(&self) -> &'static str {
        match &self.target {
            Target::Webhook { style, .. } => match style {
                Style::Json => "webhook (json)",
                Style::Slack => "webhook (slack)",
                Style::Discord => "webhook (discord)",
                Style::Teams => "webhook (teams)",
            },
            Target::Ping { .. } => "ping",
            Target::Email(_) => "email",
            Target::Command { .. } => "command",
        }
    }

    /// Where it leads, without what is secret about it.
    pub fn shown(&self) -> String {
        match &self.target {
            Target::Webhook { address, .. } | Target::Ping { address } => {
                address.shown().to_owned()
            }
            Target::Email(mail) => mail.shown(),
            // Arguments may hold what nobody should see.
            Target::Command { words, .. } => words.first().cloned().unwrap_or_default(),
        }
    }

    /// Takes what is secret about it out of a text.
    pub(super) fn conceal(&self, text: &str) -> String {
        match &self.target {
            Target::Webhook { address, .. } | Target::Ping { address } => address.conceal(text),
            Target::Email(mail) => mail.conceal(text),
            Target::Command { .. } => text.to_owned(),
        }
    }
}

//! `[notify]`: who is told. Places of secrets, and addresses that are secrets themselves.

use crate::notify::{Address, Occasion, Style, Tls};
use crate::secret::{Secret, SecretRef};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor, value::MapAccessDeserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;

/// The longest that a command may take: a run waits for it.
const LONGEST_COMMAND: Duration = Duration::from_mins(10);

/// `[notify]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    /// Who is told of failures, and of absence where `absence` says nothing.
    #[serde(default)]
    pub failure: Vec<Spanned<Place>>,
    /// Who is told that what failed before works again.
    #[serde(default)]
    pub recovery: Vec<Spanned<Place>>,
    /// Who is told of every success.
    #[serde(default)]
    pub success: Vec<Spanned<Place>>,
    /// Who is told that a stack has no complete backup that is new enough.
    pub absence: Option<Vec<Spanned<Place>>>,
    /// A monitor that waits for pings.
    pub ping: Option<Spanned<Place>>,
    /// `[notify.smtp]`.
    pub smtp: Option<Spanned<SmtpConfig>>,
    /// `[notify.channel.NAME]`.
    #[serde(default)]
    pub channel: BTreeMap<String, ChannelConfig>,
}

/// An address, in which `${VARIABLE}` stands for the environment's, or where to find it.
#[derive(Debug, Clone)]
pub enum Place {
    /// The address. Secret: whoever knows a webhook's can post there.
    Text(Secret),
    /// Where it is.
    Reference(SecretRef),
}

impl Place {
    /// The addresses behind `mailto:`, where it is e-mail.
    pub fn mail_addresses(&self) -> Option<Vec<String>> {
        let Self::Text(text) = self else {
            return None;
        };
        let list = text.expose().strip_prefix("mailto:")?;
        let addresses = list.split(',').map(|one| one.trim().to_owned());
        Some(addresses.filter(|one| !one.is_empty()).collect())
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Places;
        impl<'de> Visitor<'de> for Places {
            type Value = Place;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an address, { env = \"NAME\" } or { file = \"/path\" }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Place, E> {
                Ok(Place::Text(Secret::new(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Place, A::Error> {
                SecretRef::deserialize(MapAccessDeserializer::new(map))
                    .map(Place::Reference)
                    .map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Places)
    }
}

/// `[notify.smtp]`: the server that takes e-mail.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpConfig {
    /// `smtp://HOST:PORT` or `smtps://HOST:PORT`.
    pub url: Spanned<Place>,
    /// Who to log in as.
    pub user: Option<String>,
    /// Where the password is.
    pub password: Option<SecretRef>,
    /// Who the mail is from.
    pub from: String,
    /// `starttls` or `none`, where the address does not say it all.
    pub tls: Option<Tls>,
    /// The certificate of an authority that the machine does not know.
    pub ca_file: Option<PathBuf>,
}

/// `[notify.channel.NAME]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelConfig {
    /// What it is.
    pub kind: Spanned<ChannelKind>,
    /// Of a webhook or a ping: its address.
    pub url: Option<Spanned<Place>>,
    /// Of a webhook: what its receiver understands, where the host does not tell.
    pub style: Option<Style>,
    /// Of an e-mail: who gets it.
    #[serde(default)]
    pub to: Vec<String>,
    /// Of a command: the program and its arguments.
    #[serde(default)]
    pub command: Vec<String>,
    /// Of a command: how long it may take, `30s`.
    pub time_limit: Option<Spanned<String>>,
    /// What it is told of.
    pub on: Option<Vec<Occasion>>,
    /// Only of these stacks.
    #[serde(default)]
    pub stacks: Vec<String>,
    /// Only of these schedules.
    #[serde(default)]
    pub schedules: Vec<String>,
    /// Only of these operations.
    #[serde(default)]
    pub operations: Vec<String>,
}

/// What a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// A POST of JSON.
    Webhook,
    /// A letter through `[notify.smtp]`.
    Email,
    /// A monitor that waits for pings.
    Ping,
    /// A program.
    Command,
}

/// What is wrong, and where.
pub(super) struct Mistake {
    pub(super) span: Range<usize>,
    pub(super) what: String,
    /// Whether what stands there is not to be shown.
    pub(super) secret: bool,
}

impl Mistake {
    fn new(span: Range<usize>, what: impl Into<String>) -> Self {
        Self {
            span,
            what: what.into(),
            secret: false,
        }
    }
}

type Checked = Result<(), Mistake>;

impl NotifyConfig {
    /// What can be told without the environment.
    pub(super) fn check(&self) -> Checked {
        let lists = [&self.failure, &self.recovery, &self.success];
        for place in lists.into_iter().chain(&self.absence).flatten() {
            if let Some(mail) = place.get_ref().mail_addresses() {
                let nowhere = self.smtp.is_none().then_some(NO_SMTP);
                let nobody = mail
                    .is_empty()
                    .then_some("mailto: is followed by an address");
                if let Some(what) = nowhere.or(nobody) {
                    return Err(Mistake::new(place.span(), what));
                }
            } else {
                address(place, &["https", "http"])?;
            }
        }
        if let Some(place) = &self.ping {
            address(place, &["https", "http"])?;
        }
        if let Some(smtp) = &self.smtp {
            address(&smtp.get_ref().url, &["smtp", "smtps"])?;
            if smtp.get_ref().user.is_some() != smtp.get_ref().password.is_some() {
                let what = "user and password go together";
                return Err(Mistake::new(smtp.span(), what));
            }
        }
        self.channel
            .values()
            .try_for_each(|channel| channel.check(self.smtp.is_some()))
    }
}

const NO_SMTP: &str = "e-mail needs [notify.smtp], which says what server takes it";

impl ChannelConfig {
    fn check(&self, smtp: bool) -> Checked {
        let kind = *self.kind.get_ref();
        let wrong = |what: &str| Err(Mistake::new(self.kind.span(), what));
        let web = matches!(kind, ChannelKind::Webhook | ChannelKind::Ping);
        match kind {
            _ if web && self.url.is_none() => return wrong("its address is missing: url = …"),
            _ if !web && self.url.is_some() => {
                return wrong("only a webhook and a ping have a url");
            }
            ChannelKind::Email if self.to.is_empty() => {
                return wrong("who gets the e-mail is missing: to = [\"…\"]");
            }
            ChannelKind::Email if !smtp => return wrong(NO_SMTP),
            ChannelKind::Command if self.command.is_empty() => {
                return wrong("the program is missing: command = [\"/path\", \"argument\"]");
            }
            ChannelKind::Ping if self.on.is_some() => {
                return wrong("a ping follows every run from its start to its end: leave on out");
            }
            _ => {}
        }
        for (there, belongs, what) in [
            (
                self.style.is_some(),
                kind == ChannelKind::Webhook,
                "only a webhook has a style",
            ),
            (
                !self.to.is_empty(),
                kind == ChannelKind::Email,
                "only an e-mail has to",
            ),
            (
                !self.command.is_empty(),
                kind == ChannelKind::Command,
                "only a command has command",
            ),
            (
                self.time_limit.is_some(),
                kind == ChannelKind::Command,
                "only a command has time_limit",
            ),
        ] {
            if there && !belongs {
                return wrong(what);
            }
        }
        if let Some(place) = &self.url {
            address(place, &["https", "http"])?;
        }
        match (&self.time_limit, self.time_limit()) {
            (Some(text), Err(what)) => Err(Mistake::new(text.span(), what)),
            _ => Ok(()),
        }
    }

    /// How long a command may take, where the file says it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn time_limit(&self) -> Result<Option<Duration>, String> {
        let Some(text) = &self.time_limit else {
            return Ok(None);
        };
        match humantime::parse_duration(text.get_ref()) {
            Ok(time) if !time.is_zero() && time <= LONGEST_COMMAND => Ok(Some(time)),
            Ok(_) => Err("a time limit is 1s to 10m".to_owned()),
            Err(error) => Err(format!("not a span of time such as 30s: {error}")),
        }
    }
}

/// An address that is written out is checked here; any other where it is read.
fn address(place: &Spanned<Place>, schemes: &[&str]) -> Checked {
    match place.get_ref() {
        Place::Text(text) if !text.expose().contains("${") => Address::parse(text, schemes)
            .map(drop)
            .map_err(|error| Mistake {
                span: place.span(),
                what: with_hint(&error),
                secret: true,
            }),
        _ => Ok(()),
    }
}

fn with_hint(error: &crate::error::Error) -> String {
    match error.hint_text() {
        Some(hint) => format!("{error}: {hint}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Loaded, Search, load};
    use crate::error::Result;

    fn load_text(text: &str) -> Result<Loaded> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lifeboat.toml");
        std::fs::write(&path, text).unwrap();
        let search = Search {
            explicit: Some(path),
            ..Search::default()
        };
        load(&search, &|_| None)
    }

    #[test]
    fn mistakes_point_at_their_place_and_show_no_address() {
        for (text, place) in [
            (
                "[notify]\nfailure = \"https://h/CANARY\"\n",
                ":2:11: invalid type",
            ),
            (
                "[notify]\nfailure = [\"htps://h/CANARY\"]\n",
                ":2:12: an address with htps://",
            ),
            ("[notify]\nfailure = [\"https://h/CANARY\", 5]\n", ":2:"),
            (
                "[notify]\nfailure = [\"hooks/CANARY\"]\n",
                ":2:12: this is no address",
            ),
            ("[notify]\nfailure = [{ evn = \"X\" }]\n", ":2:"),
            (
                "[notify]\nfailures = [\"https://h/CANARY\"]\n",
                ":2:1: unknown field `failures`",
            ),
            (
                "[notify]\nfailure = [\"mailto:a@b.example\"]\n",
                ":2:12: e-mail needs [notify.smtp]",
            ),
            (
                "[notify]\nping = \"ftp://h/CANARY\"\n",
                ":2:8: an address with ftp://",
            ),
            (
                "[notify.channel.a]\nkind = \"webhok\"\n",
                ":2:8: unknown variant",
            ),
            (
                "[notify.channel.a]\nkind = \"webhook\"\n",
                ":2:8: its address is missing",
            ),
            (
                "[notify.channel.a]\nkind = \"email\"\nto = [\"a@b\"]\n",
                ":2:8: e-mail needs",
            ),
            (
                "[notify.channel.a]\nkind = \"command\"\n",
                ":2:8: the program is missing",
            ),
            (
                "[notify.channel.a]\nkind = \"ping\"\nurl = \"https://h/CANARY\"\non = []\n",
                ":2:8: a ping",
            ),
            (
                "[notify.channel.a]\nkind = \"command\"\ncommand = [\"a\"]\ntime_limit = \"1y\"\n",
                ":4:14: a time",
            ),
            (
                "[notify.channel.a]\nkind = \"command\"\ncommand = [\"a\"]\nstyle = \"slack\"\n",
                ":2:8: only a webhook",
            ),
            (
                "[notify.channel.a]\nkind = \"webhook\"\nurl = \"https://h/CANARY\"\non = [\"failed\"]\n",
                ":4:7: unknown variant",
            ),
            (
                "[notify.smtp]\nurl = \"smtp://h\"\nfrom = \"a@b\"\nuser = \"u\"\n",
                ":1:1: user and password",
            ),
            (
                "[notify.smtp]\nurl = \"smtp://h\"\nfrom = \"a@b\"\nuser = \"u\"\npassword = \"CANARY\"\n",
                ":5:12: a secret is not written",
            ),
        ] {
            let error = load_text(text).unwrap_err();
            let said = format!("{error} {:?} {error:?}", error.hint_text());
            assert!(said.contains(place), "{text}\n{said}");
            assert!(!said.contains("CANARY"), "{text}\n{said}");
            assert_eq!(error.kind().exit_code(), 2);
        }
    }

    #[test]
    fn a_configuration_does_not_print_its_addresses() {
        let text = "[notify]\nfailure = [\"https://h/CANARY\", { env = \"X\" }, \"https://h/${UNSET}\"]\nping = \"https://h/CANARY\"\n";
        let loaded = load_text(text).unwrap();
        assert_eq!(loaded.config.notify.failure.len(), 3);
        assert!(!format!("{loaded:?}").contains("CANARY"));
    }
}

//! E-mail over SMTP, encrypted unless somebody says that it need not be.

use super::address::Address;
use super::delivery::Trouble;
use super::message::{Message, one_line};
use crate::error::{Error, OrFail, Result};
use crate::secret::Secret;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls as LettreTls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Ports where the address says none: submission, and submission over TLS (RFC 8314).
const SUBMISSION: u16 = 587;
const SUBMISSIONS: u16 = 465;
/// The time for one command of SMTP; the delivery's own limits are shorter.
const COMMAND_TIME: Duration = Duration::from_secs(30);

/// Whether the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// From the first byte: what `smtps://` means.
    Implicit,
    /// After STARTTLS, which the server must offer.
    StartTls,
    /// Not at all.
    None,
}

/// A server that takes mail.
#[derive(Debug)]
pub struct Smtp {
    address: Address,
    tls: Tls,
    login: Option<(String, Secret)>,
    from: Mailbox,
    authority: Option<Certificate>,
}

impl Smtp {
    /// The server at `smtp://HOST:PORT` or `smtps://HOST:PORT`. Over `smtp://` STARTTLS is required, unless `tls` says
    /// otherwise or the host is this machine itself.
    ///
    /// `authority` is the certificate, in PEM, of who vouches for the server besides the machine's own authorities.
    ///
    /// # Errors
    /// Usage where the parts do not fit together.
    pub fn new(
        address: &Secret,
        tls: Option<Tls>,
        login: Option<(String, Secret)>,
        from: &str,
        authority: Option<&[u8]>,
    ) -> Result<Self> {
        let address = Address::parse(address, &["smtp", "smtps"])?;
        let url = address.url().map_err(Error::usage)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::usage("the address of the mail server holds a login")
                .hint("say it with user and password beside it"));
        }
        let tls = match (url.scheme(), tls) {
            ("smtps", None | Some(Tls::Implicit)) => Tls::Implicit,
            ("smtps", Some(_)) => {
                return Err(Error::usage("smtps:// is encrypted from the first byte")
                    .hint("leave tls out, or take smtp://"));
            }
            (_, Some(tls)) => tls,
            (_, None) if address.is_loopback() => Tls::None,
            (_, None) => Tls::StartTls,
        };
        let authority = authority
            .map(|pem| Certificate::from_pem(pem).or_fail(|| "the ca_file holds no certificate"));
        Ok(Self {
            tls,
            login,
            from: mailbox(from)?,
            authority: authority.transpose()?,
            address,
        })
    }
}

#[cfg(test)]
impl Smtp {
    pub(super) fn tls(&self) -> Tls {
        self.tls
    }
}

fn mailbox(text: &str) -> Result<Mailbox> {
    text.parse().map_err(|error| {
        Error::usage(format!("{text:?} is no address of e-mail: {error}"))
            .hint("such as ops@example.com or \"Ops <ops@example.com>\"")
    })
}

/// Whom a mail goes to, and who takes it.
#[derive(Debug, Clone)]
pub(super) struct Mail {
    smtp: Arc<Smtp>,
    to: Vec<Mailbox>,
}

impl Mail {
    pub(super) fn new(smtp: Arc<Smtp>, to: &[String]) -> Result<Self> {
        if to.is_empty() {
            return Err(Error::usage("nobody is said to get the e-mail"));
        }
        let to = to.iter().map(|one| mailbox(one)).collect::<Result<_>>()?;
        Ok(Self { smtp, to })
    }

    pub(super) fn shown(&self) -> String {
        let to: Vec<String> = self.to.iter().map(|one| one.email.to_string()).collect();
        to.join(", ")
    }

    pub(super) fn conceal(&self, text: &str) -> String {
        match &self.smtp.login {
            Some((_, password)) if !password.expose().is_empty() => {
                text.replace(password.expose(), "…")
            }
            _ => text.to_owned(),
        }
    }
}

/// Sends it once.
pub(super) async fn send(mail: &Mail, message: &Message) -> Result<(), Trouble> {
    let letter = letter(mail, message).map_err(Trouble::Lasting)?;
    let transport = transport(&mail.smtp, &message.host).map_err(Trouble::Lasting)?;
    match transport.send(letter).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let reason = Error::failed(format!("the mail server at {}", mail.smtp.address.shown()))
                .caused_by(format!("{error}").trim_end_matches(['\r', '\n']));
            let reason = one_line(&reason.chain());
            // What the server refuses for good, what TLS found wrong and what was never offered stay so.
            match error.is_permanent() || error.is_tls() || error.is_client() {
                true => Err(Trouble::Lasting(reason)),
                false => Err(Trouble::passing(reason)),
            }
        }
    }
}

fn transport(smtp: &Smtp, host: &str) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let server = smtp.address.host().trim_matches(['[', ']']).to_owned();
    let mut tls = TlsParameters::builder(server.clone());
    if let Some(authority) = &smtp.authority {
        tls = tls.add_root_certificate(authority.clone());
    }
    let parameters = || {
        let built = tls.build();
        built.map_err(|error| format!("cannot prepare TLS: {error}"))
    };
    let tls = match smtp.tls {
        Tls::Implicit => LettreTls::Wrapper(parameters()?),
        Tls::StartTls => LettreTls::Required(parameters()?),
        Tls::None => LettreTls::None,
    };
    let port = match smtp.tls {
        Tls::Implicit => SUBMISSIONS,
        _ => SUBMISSION,
    };
    let port = smtp.address.url()?.port().unwrap_or(port);
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server)
        .port(port)
        .tls(tls)
        .timeout(Some(COMMAND_TIME));
    // Servers refuse names that are not full ones; lettre's own greeting is an address.
    if host.contains('.')
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
    {
        builder = builder.hello_name(ClientId::Domain(host.to_owned()));
    }
    if let Some((user, password)) = &smtp.login {
        let password = password.expose().to_owned();
        builder = builder.credentials(Credentials::new(user.clone(), password));
    }
    Ok(builder.build())
}

/// The letter. The title is one line without control characters, so that no name makes a header.
fn letter(mail: &Mail, message: &Message) -> Result<lettre::Message, String> {
    let builder = mail.to.iter().fold(
        lettre::Message::builder().from(mail.smtp.from.clone()),
        |builder, one| builder.to(one.clone()),
    );
    with_marks(builder)
        .date(SystemTime::from(message.time))
        .message_id(None)
        .subject(format!("[lifeboat] {}", message.title))
        .header(ContentType::TEXT_PLAIN)
        .body(message.text_with_log())
        .map_err(|error| format!("cannot write the e-mail: {error}"))
}

/// Nobody's holiday notice is wanted (RFC 3834).
fn with_marks(builder: MessageBuilder) -> MessageBuilder {
    let name = HeaderName::new_from_ascii_str("Auto-Submitted");
    builder.raw_header(HeaderValue::new(name, "auto-generated".to_owned()))
}

//! Who is told how a run went: webhooks, e-mail, pings of a monitor, commands.
//!
//! A [`Notifier`] observes the one stream of events. It never blocks the run that it observes, and what it cannot
//! deliver is no failure of the run: [`Notifier::settle`] says it, and the caller says it aloud.
//!
//! Addresses of webhooks are passwords. They are kept as secrets, shown as `scheme://host/…`, and taken out of
//! what receivers answer before anybody sees that.

mod address;
mod channel;
mod command;
mod delivery;
mod email;
mod http;
mod log;
mod message;
mod notifier;
mod payload;

#[cfg(test)]
mod tests;

pub use address::Address;
pub use channel::{Audience, Channel, Occasion, Style};
pub use delivery::Limits;
pub use email::{Smtp, Tls};
pub use notifier::{Notifier, NotifyFailure, Surroundings, Tested};

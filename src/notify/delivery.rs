//! Bringing one message to one channel, within a time.

use super::channel::{Channel, Target};
use super::message::Message;
use super::{command, email, http, payload};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// What healthchecks.io keeps of a ping's body, from its beginning
/// (<https://healthchecks.io/docs/attaching_logs/>).
const PING_BODY: usize = 100_000;

/// How long a receiver may keep the run waiting.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For one message, all tries together. A command has a limit of its own.
    pub total: Duration,
    /// For one try.
    pub one_try: Duration,
    /// How often it is tried.
    pub tries: u32,
    /// The pause before the second try; each further one is twice as long.
    pub pause: Duration,
    /// The longest pause that a receiver may ask for.
    pub longest_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total: Duration::from_secs(30),
            one_try: Duration::from_secs(10),
            tries: 3,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(10),
        }
    }
}

/// Why a try failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Another try may succeed, after `wait` where the receiver said so.
    Passing {
        reason: String,
        wait: Option<Duration>,
    },
    /// Another try would fail, too.
    Lasting(String),
}

impl Trouble {
    pub(super) fn passing(reason: String) -> Self {
        Self::Passing { reason, wait: None }
    }

    pub(super) fn lasting(reason: String) -> Self {
        Self::Lasting(reason)
    }
}

/// What a monitor is told with its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// A run began.
    Start,
    /// It succeeded.
    Success,
    /// It did not.
    Fail,
    /// Something for the record that changes nothing: what a test sends.
    Log,
}

/// A message on its way.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) message: Arc<Message>,
    pub(super) signal: Signal,
    /// What ties a run's pings together.
    pub(super) run: Option<String>,
}

/// What deliveries share.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) client: Result<reqwest::Client, String>,
    pub(super) limits: Limits,
}

/// The most time that a message may take to this channel.
pub(super) fn patience(channel: &Channel, limits: Limits) -> Duration {
    match &channel.target {
        Target::Command { time_limit, .. } => *time_limit,
        _ => limits.total,
    }
}

/// Delivers, or says why not; without what is secret about the channel.
pub(super) async fn deliver(
    channel: &Channel,
    delivery: &Delivery,
    wire: &Wire,
) -> Result<(), String> {
    let tried = match &channel.target {
        Target::Command { words, time_limit } => {
            command::run(words, *time_limit, &delivery.message).await
        }
        _ => again(wire.limits, || once(channel, delivery, wire)).await,
    };
    tried.map_err(|reason| channel.conceal(&reason))
}

async fn once(channel: &Channel, delivery: &Delivery, wire: &Wire) -> Result<(), Trouble> {
    let client = || {
        wire.client
            .as_ref()
            .map_err(|e| Trouble::lasting(e.clone()))
    };
    match &channel.target {
        Target::Webhook { address, style } => {
            let url = address.url().map_err(Trouble::Lasting)?;
            let body = payload::body(&delivery.message, *style).to_string();
            http::post(client()?, url, "application/json", body).await
        }
        Target::Ping { address } => {
            let what = match delivery.signal {
                Signal::Start => Some("start"),
                Signal::Success => None,
                Signal::Fail => Some("fail"),
                Signal::Log => Some("log"),
            };
            let url = http::signal_url(address, what, delivery.run.as_deref());
            let mut body = delivery.message.text_with_log();
            super::log::truncate(&mut body, PING_BODY);
            let url = url.map_err(Trouble::Lasting)?;
            http::post(client()?, url, "text/plain; charset=utf-8", body).await
        }
        Target::Email(mail) => email::send(mail, &delivery.message).await,
        Target::Command { .. } => Ok(()),
    }
}

/// Tries until it succeeds, it makes no sense any more, or the time is over.
async fn again<F: Future<Output = Result<(), Trouble>>>(
    limits: Limits,
    mut once: impl FnMut() -> F,
) -> Result<(), String> {
    let over = Instant::now() + limits.total;
    let last = Mutex::new(None);
    let tries = async {
        let mut pause = limits.pause;
        for number in 1..=limits.tries {
            let trouble = match timeout(limits.one_try, once()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(trouble)) => trouble,
                Err(_) => Trouble::passing(format!("no answer within {}", seconds(limits.one_try))),
            };
            let (reason, wait) = match trouble {
                Trouble::Lasting(reason) => return Err(reason),
                Trouble::Passing { reason, wait } => (reason, wait),
            };
            let wait = wait.unwrap_or(pause).min(limits.longest_pause);
            if number == limits.tries || Instant::now() + wait >= over {
                return Err(format!("{reason} ({})", tries(number)));
            }
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
            sleep(wait).await;
            pause *= 2;
        }
        Err("it was not tried".to_owned())
    };
    if let Ok(result) = timeout(limits.total, tries).await {
        return result;
    }
    let last = last.lock().unwrap_or_else(PoisonError::into_inner).take();
    let last = last.map_or(String::new(), |reason| format!(": {reason}"));
    let total = seconds(limits.total);
    Err(format!("given up after {total}{last}"))
}

fn tries(number: u32) -> String {
    match number {
        1 => "tried once".to_owned(),
        _ => format!("tried {number} times"),
    }
}

pub(super) fn seconds(time: Duration) -> String {
    format!("{} seconds", time.as_secs_f64())
}

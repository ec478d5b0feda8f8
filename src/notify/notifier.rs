//! The observer: what happens becomes messages, which tasks of their own deliver.

use super::channel::{Audience, Channel, Occasion, Target};
use super::delivery::{self, Delivery, Limits, Signal, Wire, deliver};
use super::http;
use super::log::Tail;
use super::message::{Message, Overdue};
use crate::event::{Event, Observer, Outcome, RunSummary};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Where the messages come from.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// This machine's name.
    pub host: String,
    /// lifeboat's version.
    pub version: String,
    /// The schedule whose run is observed; `None` where a person started it.
    pub schedule: Option<String>,
    /// The time.
    pub clock: fn() -> DateTime<Utc>,
}

/// A message that did not arrive, or a channel that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotifyFailure {
    /// The channel.
    pub channel: String,
    /// Why, without what is secret about the channel.
    pub reason: String,
}

impl fmt::Display for NotifyFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "nobody was notified through {}: {}",
            self.channel, self.reason
        )
    }
}

/// What became of a channel's test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// The channel.
    pub channel: String,
    /// Why it failed, without what is secret about the channel.
    pub failed: Option<String>,
}

/// Tells channels how a run goes. One for each run: what it observes is that run's log.
///
/// It is made within a tokio runtime. What is still on its way when it is dropped is given up: see
/// [`Notifier::settle`].
pub struct Notifier {
    shared: Arc<Shared>,
    run: Mutex<Run>,
}

/// The run that is observed.
struct Run {
    log: Tail,
    /// What ties its pings together.
    id: Option<String>,
    /// The tasks; aborted on drop.
    tasks: JoinSet<()>,
    /// Where they run: events may come from threads that know no runtime.
    runtime: Handle,
}

struct Shared {
    channels: Vec<Channel>,
    at: Surroundings,
    wire: Wire,
    queues: Mutex<Queues>,
    /// Told whenever a queue has been worked off.
    idle: Notify,
}

#[derive(Default)]
struct Queues {
    /// What waits or is on its way, by channel: one after another, so that a start comes before its end.
    waiting: Vec<VecDeque<Delivery>>,
    failures: Vec<NotifyFailure>,
}

impl Notifier {
    /// A notifier of these channels that keeps the last `log` bytes of a run's log.
    pub fn new(channels: Vec<Channel>, at: Surroundings, log: usize) -> Self {
        let http = |channel: &Channel| {
            matches!(channel.target, Target::Webhook { .. } | Target::Ping { .. })
        };
        // Making a client reads the machine's authorities, which nobody needs for nothing.
        let client = match channels.iter().any(http) {
            true => http::client(&at.version),
            false => Err("there is no HTTP client".to_owned()),
        };
        let limits = Limits::default();
        let waiting = channels.iter().map(|_| VecDeque::new()).collect();
        Self {
            shared: Arc::new(Shared {
                channels,
                at,
                wire: Wire { client, limits },
                queues: Mutex::new(Queues {
                    waiting,
                    failures: Vec::new(),
                }),
                idle: Notify::new(),
            }),
            run: Mutex::new(Run {
                log: Tail::new(log),
                id: None,
                tasks: JoinSet::new(),
                runtime: Handle::current(),
            }),
        }
    }

    /// With other limits than the usual ones; before anything was observed.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.wire.limits = limits;
        }
        self
    }

    /// The longest that a message may take, and so a sensible limit for [`Notifier::settle`].
    pub fn patience(&self) -> Duration {
        let limits = self.shared.wire.limits;
        let patience = |channel| delivery::patience(channel, limits);
        let longest = self.shared.channels.iter().map(patience).max();
        longest.unwrap_or_default() + Duration::from_secs(1)
    }

    /// Waits, for `limit` at the most, until everything has arrived or been given up; says what did not arrive. What is
    /// on its way after that is given up.
    pub async fn settle(&self, limit: Duration) -> Vec<NotifyFailure> {
        let shared = &self.shared;
        let idle = async {
            loop {
                // Asked for before the look, so that no word is missed between the two.
                let next = shared.idle.notified();
                if shared.queues().waiting.iter().all(VecDeque::is_empty) {
                    break;
                }
                next.await;
            }
        };
        let _ = timeout(limit, idle).await;
        let mut queues = shared.queues();
        let mut failures = std::mem::take(&mut queues.failures);
        for (channel, waiting) in shared.channels.iter().zip(&mut queues.waiting) {
            if !waiting.is_empty() {
                waiting.clear();
                let limit = delivery::seconds(limit);
                failures.push(channel_failed(
                    channel,
                    format!("not delivered within {limit}"),
                ));
            }
        }
        drop(queues);
        self.run().tasks.abort_all();
        failures
    }

    /// Sends a test to every channel that is `wanted`, at once.
    pub async fn test(&self, wanted: impl Fn(&Channel) -> bool) -> Vec<Tested> {
        let delivery = Delivery {
            message: Arc::new(Message::of_test(&self.shared.at)),
            signal: Signal::Log,
            run: None,
        };
        let channels = self.shared.channels.iter();
        let tests = channels.filter(|one| wanted(one)).map(async |channel| {
            let sent = deliver(channel, &delivery, &self.shared.wire).await;
            Tested {
                channel: channel.name.clone(),
                failed: sent.err(),
            }
        });
        futures_util::future::join_all(tests).await
    }

    /// The channels.
    pub fn channels(&self) -> &[Channel] {
        &self.shared.channels
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn started(&self, run: &mut Run, operation: &str, id: &str, stack: &str) {
        let at = &self.shared.at;
        run.id = Some(uuid(&at.host, id));
        let message = Arc::new(Message::of_start(operation, stack, at));
        let hears = |channel: &Channel| {
            let audience = &channel.audience;
            matches!(channel.target, Target::Ping { .. })
                && audience.hears_of(stack, at.schedule.as_deref(), Some(operation))
        };
        self.send(run, &message, Signal::Start, hears);
    }

    fn finished(&self, run: &mut Run, summary: &RunSummary) {
        let at = &self.shared.at;
        let message = Arc::new(Message::of_run(summary, run.log.take(), at));
        let signal = match summary.outcome {
            Outcome::Succeeded => Signal::Success,
            Outcome::Partial | Outcome::Failed => Signal::Fail,
        };
        let schedule = summary.schedule.as_deref().or(at.schedule.as_deref());
        let hears = |channel: &Channel| {
            let audience = &channel.audience;
            let ping = matches!(channel.target, Target::Ping { .. });
            let wanted = ping || wants(audience, message.occasion);
            wanted && audience.hears_of(&summary.stack, schedule, Some(&summary.operation))
        };
        self.send(run, &message, signal, hears);
        run.id = None;
    }

    fn overdue(&self, run: &mut Run, overdue: Overdue) {
        let stack = overdue.stack.clone();
        let schedule = overdue.schedule.clone();
        let message = Arc::new(Message::of_absence(overdue, &self.shared.at));
        // A monitor that waits for pings notices by itself.
        let hears = |channel: &Channel| {
            let audience = &channel.audience;
            let ping = matches!(channel.target, Target::Ping { .. });
            !ping
                && wants(audience, Some(Occasion::Absence))
                && audience.hears_of(&stack, schedule.as_deref(), None)
        };
        self.send(run, &message, Signal::Log, hears);
    }

    /// Queues a message for those who want it.
    fn send(
        &self,
        run: &mut Run,
        message: &Arc<Message>,
        signal: Signal,
        hears: impl Fn(&Channel) -> bool,
    ) {
        // Whatever is through has left its task behind.
        while run.tasks.try_join_next().is_some() {}
        let mut queues = self.shared.queues();
        for (index, channel) in self.shared.channels.iter().enumerate() {
            if !hears(channel) {
                continue;
            }
            let Some(waiting) = queues.waiting.get_mut(index) else {
                continue;
            };
            waiting.push_back(Delivery {
                message: Arc::clone(message),
                signal,
                run: run.id.clone(),
            });
            if waiting.len() == 1 {
                let work = Arc::clone(&self.shared).work_off(index);
                run.tasks.spawn_on(work, &run.runtime);
            }
        }
    }
}

impl Observer for Notifier {
    fn observe(&self, event: &Event) {
        let run = &mut *self.run();
        run.log.add(event, (self.shared.at.clock)());
        match event {
            Event::RunStarted {
                operation,
                run: id,
                stack,
            } => self.started(run, operation, id, stack),
            Event::RunFinished(summary) => self.finished(run, summary),
            Event::BackupOverdue {
                stack,
                schedule,
                newest,
                since,
            } => {
                let overdue = Overdue {
                    stack: stack.clone(),
                    schedule: schedule.clone(),
                    newest: *newest,
                    since: *since,
                };
                self.overdue(run, overdue);
            }
            _ => {}
        }
    }
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers what waits for a channel, one after another. The first one stays in the queue while it is on its way.
    async fn work_off(self: Arc<Self>, index: usize) {
        let Some(channel) = self.channels.get(index) else {
            return;
        };
        let first = |queues: &Queues| queues.waiting.get(index)?.front().cloned();
        let mut next = first(&self.queues());
        while let Some(delivery) = next {
            let sent = deliver(channel, &delivery, &self.wire).await;
            let mut queues = self.queues();
            if let Err(reason) = sent {
                queues.failures.push(channel_failed(channel, reason));
            }
            // In one go: whoever finds the queue empty starts another task.
            if let Some(waiting) = queues.waiting.get_mut(index) {
                waiting.pop_front();
            }
            next = first(&queues);
        }
        self.idle.notify_waiters();
    }
}

/// Whether these occasions are among those that a channel hears of. A recovery is a success, too.
fn wants(audience: &Audience, occasion: Option<Occasion>) -> bool {
    occasion.is_some_and(|occasion| {
        let recovered = occasion == Occasion::Recovery && audience.on.contains(&Occasion::Success);
        recovered || audience.on.contains(&occasion)
    })
}

fn channel_failed(channel: &Channel, reason: String) -> NotifyFailure {
    NotifyFailure {
        channel: channel.name.clone(),
        reason,
    }
}

/// A run's id as a UUID (version 8, RFC 9562), which is what healthchecks.io ties pings together with.
fn uuid(host: &str, run: &str) -> String {
    let mut bytes = [0; 16];
    let digest = Sha256::digest(format!("{host}\n{run}"));
    for (byte, digest) in bytes.iter_mut().zip(digest) {
        *byte = digest;
    }
    bytes[6] = 0x80 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    let hex = hex::encode(bytes);
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

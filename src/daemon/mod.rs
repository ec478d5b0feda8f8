//! The daemon: runs the schedules, one run a stack at a time, and tells whoever asks how it goes.
//!
//! It has no memory that counts: what ran is told by the records of runs and by the repositories, so that one that is
//! started anew, or elsewhere, goes on where the other was.

mod agenda;
mod board;

#[cfg(test)]
mod tests;

pub use agenda::Due;
pub use board::{ArtifactState, Board, RepositoryState, ScheduleState, State};

use crate::error::Result;
use crate::event::{Event, Observer, RunSummary};
use crate::schedule::{Schedule, Work};
use agenda::Agenda;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use futures_util::future::{FutureExt, LocalBoxFuture, join_all};
use futures_util::stream::FuturesUnordered;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often the repositories are looked at where nothing ran.
const SURVEY_EVERY: TimeDelta = TimeDelta::hours(1);

/// What the daemon works on. The real one reads files and makes backups; that of the tests plays months in seconds.
pub trait World {
    /// What time it is.
    fn now(&self) -> DateTime<Utc>;

    /// How long to wait at the most before files and clock are looked at again.
    fn patience(&self) -> Duration;

    /// The schedules, where they have changed since they were asked for, or with `force`.
    ///
    /// # Errors
    /// Where the files are wrong: what was read before stays in force.
    fn schedules(&self, force: bool) -> Result<Option<Vec<Schedule>>>;

    /// How the last run of this kind ended, in this life or one before.
    fn last_run(&self, schedule: &Schedule, work: Work) -> Option<RunSummary>;

    /// Up to when the runs of this kind have had their chance, in this life or one before; `None` where nobody knows.
    fn settled<'a>(
        &'a self,
        schedule: &'a Schedule,
        work: Work,
    ) -> LocalBoxFuture<'a, Option<DateTime<Utc>>>;

    /// Does what is due.
    fn run<'a>(&'a self, due: &'a Due) -> LocalBoxFuture<'a, RunSummary>;

    /// Looks at the repositories of a schedule.
    fn survey<'a>(&'a self, schedule: &'a Schedule) -> LocalBoxFuture<'a, Vec<RepositoryState>>;

    /// Tells people that a stack has had no complete backup for too long.
    fn tell(&self, overdue: Event) -> LocalBoxFuture<'_, ()>;

    /// Who is told what happens.
    fn observer(&self) -> &dyn Observer;
}

/// What the daemon waits for.
enum Ended {
    Run(Box<RunSummary>),
    Survey(String, Vec<RepositoryState>),
    Told,
}

/// What [`World::settled`] says of several jobs.
type Settled = BTreeMap<(String, Work), Option<DateTime<Utc>>>;

/// The daemon at work.
struct Daemon<'a, W> {
    world: &'a W,
    board: &'a Board,
    stop: &'a CancellationToken,
    started: DateTime<Utc>,
    agenda: Agenda,
    /// What is due and waits for another run on its stack.
    queue: VecDeque<Due>,
    /// Stacks at work.
    busy: BTreeMap<String, Work>,
    running: FuturesUnordered<LocalBoxFuture<'a, Ended>>,
    /// When each schedule's repositories were last looked at.
    surveyed: BTreeMap<String, DateTime<Utc>>,
    /// What was last said to be wrong with the files.
    said: Option<String>,
}

/// Runs the schedules until `stop`. A run that is at work then ends by itself or by the word that `stop` gives it, too.
pub async fn run<W: World>(world: &W, board: &Board, reload: &Notify, stop: &CancellationToken) {
    let mut daemon = Daemon {
        world,
        board,
        stop,
        started: world.now(),
        agenda: Agenda::default(),
        queue: VecDeque::new(),
        busy: BTreeMap::new(),
        running: FuturesUnordered::new(),
        surveyed: BTreeMap::new(),
        said: None,
    };
    board.lock().beat = daemon.started;
    let mut force = true;
    while !stop.is_cancelled() {
        daemon.load(force).await;
        force = false;
        let pause = daemon.turn();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            Some(ended) = daemon.running.next() => daemon.take(ended),
            () = reload.notified() => force = true,
            () = tokio::time::sleep(pause) => {}
        }
    }
    daemon.queue.clear();
    while let Some(ended) = daemon.running.next().await {
        daemon.take(ended);
    }
}

impl<W: World> Daemon<'_, W> {
    /// Reads the schedules, where they have changed.
    async fn load(&mut self, force: bool) {
        match self.world.schedules(force) {
            Ok(None) => {}
            Ok(Some(schedules)) => {
                let schedules: Vec<Arc<Schedule>> = schedules.into_iter().map(Arc::new).collect();
                let world = self.world;
                let Some(settled) = self.settled(&schedules).await else {
                    return;
                };
                self.agenda.load(&schedules, |schedule, work| {
                    settled.get(&(schedule.name.clone(), work)).copied()?
                });
                self.board
                    .load(&schedules, |schedule, work| world.last_run(schedule, work));
                self.surveyed.clear();
                self.said = None;
            }
            Err(error) => {
                let message = error.chain();
                if self.said.as_ref() != Some(&message) {
                    self.warn(format!(
                        "the files cannot be read, and what was read before stays in force: {message}"
                    ));
                    self.said = Some(message.clone());
                }
                self.board.lock().configuration_error = Some(message);
            }
        }
    }

    /// Up to when the runs of jobs that are new here have had their chance; `None` where the daemon is told to stop
    /// meanwhile. Repositories may have to be asked, which takes its time: what runs goes on.
    async fn settled(&mut self, schedules: &[Arc<Schedule>]) -> Option<Settled> {
        let world = self.world;
        let jobs = schedules.iter().flat_map(|schedule| {
            let works = [Work::Backup, Work::Drill].into_iter();
            works.map(move |work| (schedule, work))
        });
        let unknown: Vec<_> = jobs
            .filter(|(schedule, work)| {
                schedule.calendar_of(*work).is_some() && !self.agenda.knows(&schedule.name, *work)
            })
            .collect();
        let asked = unknown.into_iter().map(|(schedule, work)| async move {
            let key = (schedule.name.clone(), work);
            (key, world.settled(schedule, work).await)
        });
        let mut asked = std::pin::pin!(join_all(asked));
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                settled = &mut asked => return Some(settled.into_iter().collect()),
                Some(ended) = self.running.next() => self.take(ended),
            }
        }
    }

    /// Starts what is due and gives how long nothing else will be.
    fn turn(&mut self) -> Duration {
        let now = self.world.now();
        for due in self.agenda.due(now) {
            self.announce(&due);
            self.enqueue(due);
        }
        self.start(now);
        self.survey(now);
        self.miss(now);
        let mut state = self.board.lock();
        state.beat = now;
        for (name, entry) in &mut state.schedules {
            entry.next = self.agenda.next_of(name);
        }
        drop(state);
        let next = self.agenda.next().map(|next| next - now);
        next.and_then(|next| next.to_std().ok())
            .map_or(self.world.patience(), |next| {
                next.min(self.world.patience())
            })
            .max(Duration::from_millis(1))
    }

    /// Says what was missed.
    fn announce(&self, due: &Due) {
        if due.missed > 0 || due.late {
            let others = match due.missed {
                0 => String::new(),
                1 => ", and one before it".to_owned(),
                missed => format!(", and {missed} before it"),
            };
            self.warn(format!(
                "schedule {}: the {} of {} was missed{others}: catching up once",
                due.schedule.name,
                due.work.name(),
                due.at.to_rfc3339(),
            ));
        }
    }

    /// A run that waits already is the one that is due.
    fn enqueue(&mut self, due: Due) {
        let waits = self
            .queue
            .iter()
            .any(|one| one.schedule.name == due.schedule.name && one.work == due.work);
        if !waits {
            self.queue.push_back(due);
        }
    }

    /// Starts what waits for a stack that is free.
    fn start(&mut self, now: DateTime<Utc>) {
        let mut waiting = VecDeque::new();
        while let Some(due) = self.queue.pop_front() {
            let stack = due.schedule.stack.clone();
            if self.busy.contains_key(&stack) {
                waiting.push_back(due);
                continue;
            }
            self.busy.insert(stack, due.work);
            if due.work == Work::Backup
                && let Some(entry) = self.board.lock().schedules.get_mut(&due.schedule.name)
            {
                entry.running = Some(now);
            }
            let world = self.world;
            let run = async move { Ended::Run(Box::new(world.run(&due).await)) };
            self.running.push(run.boxed_local());
        }
        self.queue = waiting;
    }

    /// Looks at repositories that nobody has looked at for a while.
    fn survey(&mut self, now: DateTime<Utc>) {
        let schedules: Vec<Arc<Schedule>> = {
            let state = self.board.lock();
            let entries = state.schedules.values();
            entries.map(|entry| Arc::clone(&entry.schedule)).collect()
        };
        for schedule in schedules {
            let last = self.surveyed.get(&schedule.name);
            if last.is_some_and(|last| (now - *last).abs() < SURVEY_EVERY) {
                continue;
            }
            self.surveyed.insert(schedule.name.clone(), now);
            let world = self.world;
            let stop = self.stop.clone();
            let look = async move {
                let survey = stop.run_until_cancelled(world.survey(&schedule));
                match survey.await {
                    Some(found) => Ended::Survey(schedule.name.clone(), found),
                    // Whoever stops does not wait for a store that does not answer.
                    None => Ended::Told,
                }
            };
            self.running.push(look.boxed_local());
        }
    }

    /// Says once of each schedule that its stack has had no complete backup for too long.
    fn miss(&self, now: DateTime<Utc>) {
        let mut overdue = Vec::new();
        for entry in self.board.lock().schedules.values_mut() {
            let newest = entry.newest();
            let mut repositories = entry.repositories.iter();
            if newest.is_none() && repositories.all(|one| one.unreachable.is_some()) {
                // Nobody knows: none could be looked at yet.
                continue;
            }
            // Whoever has just been set up has its first night still before it.
            let counted = newest.unwrap_or(self.started);
            let since = entry.schedule.overdue_since(Some(counted), now);
            if let Some(since) = since.filter(|_| entry.overdue_since.is_none()) {
                overdue.push(Event::BackupOverdue {
                    stack: entry.schedule.stack.clone(),
                    schedule: Some(entry.schedule.name.clone()),
                    newest,
                    since,
                });
            }
            entry.overdue_since = since;
        }
        for event in overdue {
            let told = self.world.tell(event).map(|()| Ended::Told);
            self.running.push(told.boxed_local());
        }
    }

    /// Takes note of what has ended.
    fn take(&mut self, ended: Ended) {
        match ended {
            Ended::Run(summary) => {
                self.busy.remove(&summary.stack);
                if let Some(schedule) = &summary.schedule {
                    // What it made is looked at in the next turn.
                    self.surveyed.remove(schedule);
                }
                self.board.ended(*summary);
            }
            Ended::Told => {}
            Ended::Survey(schedule, found) => {
                if let Some(entry) = self.board.lock().schedules.get_mut(&schedule) {
                    entry.repositories = merged(&entry.repositories, found);
                }
            }
        }
    }

    fn warn(&self, message: String) {
        self.world.observer().observe(&Event::Warning { message });
    }
}

/// What was found now; of a repository that cannot be reached, what was found the last time.
fn merged(before: &[RepositoryState], found: Vec<RepositoryState>) -> Vec<RepositoryState> {
    found
        .into_iter()
        .map(|now| match now.unreachable {
            None => now,
            Some(reason) => {
                let known = before.iter().find(|one| one.repository == now.repository);
                RepositoryState {
                    unreachable: Some(reason),
                    ..known.cloned().unwrap_or(RepositoryState {
                        unreachable: None,
                        ..now
                    })
                }
            }
        })
        .collect()
}

//! Months of nights in seconds: the daemon itself, in a world whose clock is moved.

use super::*;
use crate::event::Outcome;
use crate::schedule::Calendar;
use chrono_tz::Tz;
use std::sync::Mutex;
use tokio::time::Instant;

/// A world in which backups are lines in a list.
struct Sim {
    began: DateTime<Utc>,
    start: Instant,
    /// By how much its clock was set.
    set: Mutex<TimeDelta>,
    files: Mutex<Option<Result<Vec<Schedule>, String>>>,
    /// How long a run takes.
    takes: Duration,
    /// Whether a run that begins then fails.
    fails: fn(DateTime<Utc>) -> bool,
    runs: Mutex<Vec<Ran>>,
    events: Mutex<Vec<Event>>,
    at_work: Mutex<BTreeMap<String, u32>>,
    /// What ran in a life before.
    before: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone)]
struct Ran {
    schedule: String,
    work: Work,
    at: DateTime<Utc>,
    began: DateTime<Utc>,
    missed: u32,
    outcome: Outcome,
}

impl Sim {
    fn new(began: &str, schedules: Vec<Schedule>) -> Self {
        Self {
            began: began.parse().unwrap(),
            start: Instant::now(),
            set: Mutex::default(),
            files: Mutex::new(Some(Ok(schedules))),
            takes: Duration::from_mins(7),
            fails: |_| false,
            runs: Mutex::default(),
            events: Mutex::default(),
            at_work: Mutex::default(),
            before: None,
        }
    }

    /// Moves the clock, as somebody with `date -s` would.
    fn set_clock(&self, by: TimeDelta) {
        *self.set.lock().unwrap() += by;
    }

    /// Lives until `until` by a clock that nobody moves, while `meanwhile` happens.
    async fn live(&self, days: u64, board: &Board, meanwhile: impl Future<Output = ()>) {
        let (reload, stop) = (Notify::new(), CancellationToken::new());
        let end = async {
            tokio::join!(
                meanwhile,
                tokio::time::sleep(Duration::from_hours(24 * days))
            );
            stop.cancel();
        };
        tokio::join!(run(self, board, &reload, &stop), end);
    }

    /// The times that had a run, as RFC 3339 without the year and seconds.
    fn times(&self, schedule: &str) -> Vec<String> {
        let runs = self.runs.lock().unwrap();
        let of_schedule = runs.iter().filter(|run| run.schedule == schedule);
        of_schedule
            .map(|run| run.at.format("%m-%dT%H:%M").to_string())
            .collect()
    }

    fn count(&self) -> usize {
        self.runs.lock().unwrap().len()
    }

    fn overdue(&self) -> usize {
        let events = self.events.lock().unwrap();
        let overdue = |event: &&Event| matches!(event, Event::BackupOverdue { .. });
        events.iter().filter(overdue).count()
    }

    fn warnings(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let text = |event: &Event| match event {
            Event::Warning { message } => Some(message.clone()),
            _ => None,
        };
        events.iter().filter_map(text).collect()
    }
}

impl Observer for Sim {
    fn observe(&self, event: &Event) {
        self.events.lock().unwrap().push(event.clone());
    }
}

impl World for Sim {
    fn now(&self) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(self.start.elapsed()).unwrap();
        self.began + passed + *self.set.lock().unwrap()
    }

    fn patience(&self) -> Duration {
        Duration::from_mins(20)
    }

    fn schedules(&self, force: bool) -> Result<Option<Vec<Schedule>>> {
        let mut files = self.files.lock().unwrap();
        assert!(
            !force || files.is_some() || self.count() > 0,
            "files are read at the start"
        );
        files.take().transpose().map_err(crate::error::Error::usage)
    }

    fn last_run(&self, schedule: &Schedule, work: Work) -> Option<RunSummary> {
        let started = self.before.filter(|_| work == Work::Backup)?;
        Some(summary(schedule, "backup", started, Outcome::Succeeded))
    }

    fn settled<'a>(
        &'a self,
        schedule: &'a Schedule,
        work: Work,
    ) -> LocalBoxFuture<'a, Option<DateTime<Utc>>> {
        async move { self.last_run(schedule, work).map(|run| run.started) }.boxed_local()
    }

    fn run<'a>(&'a self, due: &'a Due) -> LocalBoxFuture<'a, RunSummary> {
        async move {
            let began = self.now();
            let stack = due.schedule.stack.clone();
            *self
                .at_work
                .lock()
                .unwrap()
                .entry(stack.clone())
                .or_default() += 1;
            assert_eq!(
                self.at_work.lock().unwrap()[&stack],
                1,
                "one run a stack at a time"
            );
            tokio::time::sleep(self.takes).await;
            *self.at_work.lock().unwrap().get_mut(&stack).unwrap() -= 1;
            let outcome = match (self.fails)(began) {
                true => Outcome::Failed,
                false => Outcome::Succeeded,
            };
            self.runs.lock().unwrap().push(Ran {
                schedule: due.schedule.name.clone(),
                work: due.work,
                at: due.at,
                began,
                missed: due.missed,
                outcome,
            });
            summary(&due.schedule, due.work.name(), began, outcome)
        }
        .boxed_local()
    }

    fn survey<'a>(&'a self, schedule: &'a Schedule) -> LocalBoxFuture<'a, Vec<RepositoryState>> {
        async move {
            let runs = self.runs.lock().unwrap();
            let good = runs
                .iter()
                .filter(|run| run.schedule == schedule.name && run.outcome == Outcome::Succeeded);
            vec![RepositoryState {
                repository: "sim".to_owned(),
                newest: good.map(|run| run.began).max().or(self.before),
                proven: None,
                backups: runs.len() as u64,
                stored_size: 0,
                unreachable: None,
            }]
        }
        .boxed_local()
    }

    fn tell(&self, overdue: Event) -> LocalBoxFuture<'_, ()> {
        async move { self.observe(&overdue) }.boxed_local()
    }

    fn observer(&self) -> &dyn Observer {
        self
    }
}

fn summary(
    schedule: &Schedule,
    operation: &str,
    started: DateTime<Utc>,
    outcome: Outcome,
) -> RunSummary {
    RunSummary {
        operation: operation.to_owned(),
        stack: schedule.stack.clone(),
        schedule: Some(schedule.name.clone()),
        backup: None,
        outcome,
        previous: None,
        started,
        seconds: 0.0,
        raw_size: 0,
        stored_size: 0,
        repositories: Vec::new(),
        warnings: Vec::new(),
        error: None,
        hint: None,
        code: 0,
    }
}

fn schedule(name: &str, stack: &str, cron: &str, zone: Tz) -> Schedule {
    Schedule {
        name: name.to_owned(),
        stack: stack.to_owned(),
        calendar: Calendar::parse(cron, zone).unwrap(),
        ..crate::schedule::tests::nightly()
    }
}

fn nothing() -> std::future::Ready<()> {
    std::future::ready(())
}

#[tokio::test(start_paused = true)]
async fn every_night_of_two_zones_has_one_run_through_both_changes_of_the_clock() {
    for (zone, cron, odd) in [
        // Berlin skips 02:00 to 03:00 on 29 March 2026, and has it twice on 25 October.
        (
            Tz::Europe__Berlin,
            "30 2 * * *",
            ["03-29T01:00", "10-25T00:30"],
        ),
        // New York on 8 March; it has 01:00 to 02:00 twice on 1 November.
        (
            Tz::America__New_York,
            "30 1 * * *",
            ["03-08T06:30", "11-01T05:30"],
        ),
    ] {
        let sim = Sim::new(
            "2026-01-01T12:00:00Z",
            vec![schedule("n", "shop", cron, zone)],
        );
        sim.live(365, &Board::default(), nothing()).await;
        let times = sim.times("n");
        let mut nights: Vec<String> = sim
            .runs
            .lock()
            .unwrap()
            .iter()
            .map(|run| run.at.with_timezone(&zone).format("%F").to_string())
            .collect();
        assert_eq!(nights.len(), 365, "{zone}");
        nights.dedup();
        assert_eq!(nights.len(), 365, "{zone}: a night has two runs");
        for odd in odd {
            assert!(
                times.contains(&odd.to_owned()),
                "{zone}: {odd} is not in {times:?}"
            );
        }
        assert_eq!(sim.warnings(), Vec::<String>::new());
        assert_eq!(sim.overdue(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leap_day_is_a_day() {
    let leap = schedule("n", "shop", "0 2 * * *", Tz::UTC);
    let monthly = schedule("m", "shop", "0 3 29 * *", Tz::UTC);
    let sim = Sim::new("2028-02-27T12:00:00Z", vec![leap, monthly]);
    sim.live(3, &Board::default(), nothing()).await;
    assert_eq!(
        sim.times("n"),
        ["02-28T02:00", "02-29T02:00", "03-01T02:00"]
    );
    assert_eq!(sim.times("m"), ["02-29T03:00"]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_is_caught_up_once() {
    let sim = Sim::new(
        "2026-11-01T12:00:00Z",
        vec![schedule("n", "shop", "0 2 * * *", Tz::UTC)],
    );
    let jump = async {
        tokio::time::sleep(Duration::from_hours(24)).await;
        sim.set_clock(TimeDelta::days(2));
    };
    sim.live(3, &Board::default(), jump).await;
    // Of the two nights that were jumped over, one run.
    assert_eq!(
        sim.times("n"),
        ["11-02T02:00", "11-04T02:00", "11-05T02:00", "11-06T02:00"]
    );
    assert_eq!(sim.runs.lock().unwrap()[1].missed, 1);
    let said = sim.warnings();
    assert!(
        said.len() == 1 && said[0].contains("missed, and one before it: catching up once"),
        "{said:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_skips_no_night() {
    let sim = Sim::new(
        "2026-11-01T12:00:00Z",
        vec![schedule("n", "shop", "0 2 * * *", Tz::UTC)],
    );
    let jump = async {
        tokio::time::sleep(Duration::from_hours(72)).await;
        sim.set_clock(-TimeDelta::days(2));
    };
    sim.live(5, &Board::default(), jump).await;
    let began: Vec<_> = sim
        .runs
        .lock()
        .unwrap()
        .iter()
        .map(|run| run.began)
        .collect();
    assert_eq!(
        sim.times("n"),
        [
            "11-02T02:00",
            "11-03T02:00",
            "11-04T02:00",
            "11-03T02:00",
            "11-04T02:00"
        ],
        "{began:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_a_little_repeats_nothing() {
    let sim = Sim::new(
        "2026-11-01T12:00:00Z",
        vec![schedule("n", "shop", "0 2 * * *", Tz::UTC)],
    );
    let jump = async {
        // Ten minutes after the run the clock is set back by half an hour: it shows 02:00 again.
        tokio::time::sleep(Duration::from_mins(14 * 60 + 10)).await;
        sim.set_clock(-TimeDelta::minutes(30));
    };
    sim.live(2, &Board::default(), jump).await;
    assert_eq!(sim.times("n"), ["11-02T02:00", "11-03T02:00"]);
}

#[tokio::test(start_paused = true)]
async fn nights_that_nobody_was_there_for_are_caught_up_once() {
    let mut sim = Sim::new(
        "2026-11-05T09:00:00Z",
        vec![schedule("n", "shop", "0 2 * * *", Tz::UTC)],
    );
    sim.before = Some("2026-11-02T02:00:00Z".parse().unwrap());
    sim.live(1, &Board::default(), nothing()).await;
    assert_eq!(sim.times("n"), ["11-05T02:00", "11-06T02:00"]);
    assert_eq!(sim.runs.lock().unwrap()[0].missed, 2);
}

#[tokio::test(start_paused = true)]
async fn schedules_of_one_stack_wait_for_each_other() {
    let mut drilled = schedule("a", "shop", "0 2 * * *", Tz::UTC);
    drilled.drill = Some(crate::schedule::Drill {
        calendar: Calendar::parse("0 2 * * 0", Tz::UTC).unwrap(),
        backup: crate::schedule::DrillChoice::Newest,
        checks: Vec::new(),
    });
    let schedules = vec![
        drilled,
        schedule("b", "shop", "5 2 * * *", Tz::UTC),
        schedule("other", "blog", "0 2 * * *", Tz::UTC),
    ];
    let mut sim = Sim::new("2026-11-01T12:00:00Z", schedules);
    sim.takes = Duration::from_mins(90);
    let board = Board::default();
    sim.live(14, &board, nothing()).await;
    let runs = sim.runs.lock().unwrap();
    let drills = runs.iter().filter(|run| run.work == Work::Drill).count();
    assert_eq!((drills, runs.len()), (2, 3 * 14 + 2));
    let began = |name: &str| runs.iter().find(|run| run.schedule == name).unwrap().began;
    assert_eq!(began("a").to_rfc3339(), "2026-11-02T02:00:00+00:00");
    assert_eq!(
        began("b").to_rfc3339(),
        "2026-11-02T03:30:00+00:00",
        "it waited"
    );
    assert_eq!(
        began("other").to_rfc3339(),
        "2026-11-02T02:00:00+00:00",
        "another stack does not wait"
    );
    let state = board.read();
    assert_eq!(
        state.runs[&("a".to_owned(), "drill".to_owned(), "succeeded")],
        2
    );
}

#[tokio::test(start_paused = true)]
async fn a_stack_without_a_backup_is_missed_once_until_there_is_one() {
    let mut sim = Sim::new(
        "2026-11-01T12:00:00Z",
        vec![schedule("n", "shop", "0 2 * * *", Tz::UTC)],
    );
    sim.before = Some("2026-11-01T02:00:00Z".parse().unwrap());
    // Three nights of failures, then it works again, then it fails again.
    sim.fails = |began| {
        matches!(
            began.format("%d").to_string().as_str(),
            "02" | "03" | "04" | "08"
        )
    };
    let board = Board::default();
    sim.live(9, &board, nothing()).await;
    assert_eq!(sim.overdue(), 2);
    let state = board.read();
    assert_eq!(
        state.runs[&("n".to_owned(), "backup".to_owned(), "failed")],
        4
    );
    assert_eq!(state.schedules["n"].overdue_since, None);
    assert_eq!(
        state.schedules["n"].next.unwrap().to_rfc3339(),
        "2026-11-11T02:00:00+00:00"
    );
}

#[tokio::test(start_paused = true)]
async fn files_that_are_wrong_leave_what_was_read_in_force() {
    let sim = Sim::new(
        "2026-11-01T12:00:00Z",
        vec![schedule("n", "shop", "0 2 * * *", Tz::UTC)],
    );
    let board = Board::default();
    let edit = async {
        tokio::time::sleep(Duration::from_hours(24)).await;
        *sim.files.lock().unwrap() = Some(Err("nightly.toml:2:1: unknown field".to_owned()));
        tokio::time::sleep(Duration::from_hours(24)).await;
        assert!(board.read().configuration_error.is_some());
        let changed = vec![
            schedule("n", "shop", "0 2 * * *", Tz::UTC),
            schedule("noon", "shop", "0 12 * * *", Tz::UTC),
        ];
        *sim.files.lock().unwrap() = Some(Ok(changed));
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!(board.read().configuration_error, None);
    };
    sim.live(4, &board, edit).await;
    assert_eq!(
        sim.times("n"),
        ["11-02T02:00", "11-03T02:00", "11-04T02:00", "11-05T02:00"]
    );
    // Its own files came at noon: of that hour there is a run, too.
    assert_eq!(sim.times("noon"), ["11-03T12:00", "11-04T12:00"]);
    assert_eq!(sim.warnings().len(), 1, "said once: {:?}", sim.warnings());
}

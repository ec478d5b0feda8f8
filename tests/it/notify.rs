//! Notifications, each against a real receiver on loopback: what arrives, what is escaped, what is tried again, what
//! is given up, and that nothing secret is in what anybody sees.

use crate::support::receiver::{Answer, Receiver};
use crate::support::server::{Place, Ran};
use crate::support::smtp::{MailServer, PASSWORD};
use chrono::{DateTime, Utc};
use lifeboat::event::{Both, Event, Observer, Outcome, RepositoryOutcome, RunSummary, Unobserved};
use lifeboat::notify::{
    Audience, Channel, Limits, Notifier, Occasion, Smtp, Style, Surroundings, Tls,
};
use lifeboat::secret::Secret;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What must never be seen outside of the place that it was given in.
const CANARY: &str = "canary-7be2f0";
/// Longer than anything here takes.
const AGES: Duration = Duration::from_mins(1);
/// A name that would like to be more than one.
const HOSTILE: &str =
    "shop\r\nBcc: victim@example.com\r\n\r\n@everyone <!channel> <@U1> [x](http://evil) *b*";

fn noon() -> DateTime<Utc> {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn at() -> Surroundings {
    Surroundings {
        host: "host-1".to_owned(),
        version: "1.2.3".to_owned(),
        schedule: Some("nightly".to_owned()),
        clock: noon,
    }
}

/// Limits under which a test is quick where the receiver is.
fn limits() -> Limits {
    Limits {
        pause: Duration::from_millis(10),
        ..Limits::default()
    }
}

fn notifier(channels: Vec<Channel>) -> Notifier {
    Notifier::new(channels, at(), 10_000).with_limits(limits())
}

fn on(occasions: &[Occasion]) -> Audience {
    Audience {
        on: occasions.iter().copied().collect(),
        ..Audience::default()
    }
}

fn everything() -> Audience {
    use Occasion::{Absence, Failure, Recovery, Success};
    on(&[Failure, Recovery, Success, Absence])
}

fn webhook(receiver: &Receiver, style: Style, audience: Audience) -> Channel {
    let url = Secret::new(receiver.url(&format!("/hook/{CANARY}")));
    Channel::webhook("hook", audience, &url, Some(style)).unwrap()
}

fn ping(receiver: &Receiver, audience: Audience) -> Channel {
    let url = Secret::new(receiver.url(&format!("/{CANARY}?team=a")));
    Channel::ping("ping", audience, &url).unwrap()
}

fn summary(outcome: Outcome) -> RunSummary {
    let failed = outcome != Outcome::Succeeded;
    RunSummary {
        operation: "backup".to_owned(),
        stack: "shop".to_owned(),
        schedule: Some("nightly".to_owned()),
        backup: Some("20261122T120000Z-k3f9".to_owned()),
        outcome,
        previous: None,
        started: noon(),
        seconds: 4.2,
        raw_size: 1000,
        stored_size: 100,
        repositories: vec![RepositoryOutcome {
            repository: "s3://bucket/shop".to_owned(),
            failed: failed.then(|| "the store is full".to_owned()),
        }],
        warnings: vec!["the clock is late".to_owned()],
        error: failed.then(|| "cannot write".to_owned()),
        hint: failed.then(|| "make room".to_owned()),
        code: u8::from(failed),
    }
}

fn started(operation: &'static str) -> Event {
    Event::RunStarted {
        operation,
        run: "20261122T120000Z-k3f9".to_owned(),
        stack: "shop".to_owned(),
    }
}

fn overdue(stack: &str) -> Event {
    Event::BackupOverdue {
        stack: stack.to_owned(),
        schedule: Some("nightly".to_owned()),
        newest: Some("2026-11-21T10:00:00Z".parse().unwrap()),
        since: "2026-11-22T11:00:00Z".parse().unwrap(),
    }
}

/// A run from its start to its end.
fn run(observer: &dyn Observer, summary: RunSummary) {
    observer.observe(&started("backup"));
    observer.observe(&Event::StepStarted {
        step: "capture redis/cache".to_owned(),
    });
    observer.observe(&Event::Warning {
        message: "a warning\nof two lines".to_owned(),
    });
    observer.observe(&Event::RunFinished(Box::new(summary)));
}

#[track_caller]
fn assert_delivered(failures: &[lifeboat::notify::NotifyFailure]) {
    assert!(failures.is_empty(), "{failures:?}");
}

#[tokio::test]
async fn the_generic_webhook_has_everything() {
    let receiver = Receiver::new();
    let notifier = notifier(vec![webhook(&receiver, Style::Json, everything())]);
    run(&Both(&Unobserved, &notifier), summary(Outcome::Failed));
    assert_delivered(&notifier.settle(AGES).await);
    let got = receiver.only();
    assert_eq!(
        (got.method.as_str(), got.path),
        ("POST", format!("/hook/{CANARY}"))
    );
    assert_eq!(got.headers["content-type"], "application/json");
    assert_eq!(got.headers["user-agent"], "lifeboat/1.2.3");
    let json: Value = serde_json::from_str(&got.body).unwrap();
    assert_eq!(json["occasion"], "failure");
    assert_eq!(json["title"], "backup of shop FAILED on host-1");
    assert_eq!(json["host"], "host-1");
    assert_eq!(json["version"], "1.2.3");
    let told: RunSummary = serde_json::from_value(json["summary"].clone()).unwrap();
    assert_eq!(told, summary(Outcome::Failed));
    assert_eq!(
        json["log"],
        json!([
            "2026-11-22T12:00:00Z backup of shop started: 20261122T120000Z-k3f9",
            "2026-11-22T12:00:00Z capture redis/cache",
            "2026-11-22T12:00:00Z warning: a warning of two lines",
        ])
    );
    assert!(json["text"].as_str().unwrap().contains("Hint: make room\n"));
}

#[tokio::test]
async fn who_is_told_of_what() {
    use Occasion::{Absence, Failure, Recovery, Success};
    let after = |outcome, previous| RunSummary {
        previous,
        ..summary(outcome)
    };
    let runs = [
        ("failed", after(Outcome::Failed, None)),
        ("partial", after(Outcome::Partial, Some(Outcome::Succeeded))),
        (
            "recovered",
            after(Outcome::Succeeded, Some(Outcome::Partial)),
        ),
        ("again", after(Outcome::Succeeded, Some(Outcome::Succeeded))),
    ];
    for (occasions, expected) in [
        (&[Failure][..], &["failed", "partial"][..]),
        (&[Recovery], &["recovered"]),
        (&[Success], &["recovered", "again"]),
        (&[Recovery, Success], &["recovered", "again"]),
        (&[Absence], &["absent"]),
    ] {
        let mut told = Vec::new();
        for (name, summary) in &runs {
            let receiver = Receiver::new();
            let notifier = notifier(vec![webhook(&receiver, Style::Json, on(occasions))]);
            run(&notifier, summary.clone());
            assert_delivered(&notifier.settle(AGES).await);
            told.extend(receiver.received().iter().map(|_| *name));
        }
        let receiver = Receiver::new();
        let notifier = notifier(vec![webhook(&receiver, Style::Json, on(occasions))]);
        notifier.observe(&overdue("shop"));
        assert_delivered(&notifier.settle(AGES).await);
        told.extend(receiver.received().iter().map(|_| "absent"));
        assert_eq!(told, expected, "{occasions:?}");
    }
}

#[tokio::test]
async fn absence_says_for_how_long() {
    let receiver = Receiver::new();
    let notifier = notifier(vec![webhook(&receiver, Style::Json, everything())]);
    notifier.observe(&overdue("shop"));
    assert_delivered(&notifier.settle(AGES).await);
    let json = receiver.only().json();
    assert_eq!(
        json["title"],
        "shop has no complete backup for 26 hours on host-1"
    );
    assert_eq!(json["overdue"]["since"], "2026-11-22T11:00:00Z");
}

#[tokio::test]
async fn channels_hear_of_their_own_stacks_schedules_and_operations_only() {
    let narrow = |stacks: &[&str], schedules: &[&str], operations: &[&str]| {
        let own = |list: &[&str]| list.iter().map(|&one| one.to_owned()).collect();
        Audience {
            stacks: own(stacks),
            schedules: own(schedules),
            operations: own(operations),
            ..everything()
        }
    };
    for (audience, heard) in [
        (narrow(&["shop"], &["nightly"], &["backup"]), 2),
        (narrow(&["other"], &[], &[]), 0),
        (narrow(&[], &["other"], &[]), 0),
        // An absence is no operation's.
        (narrow(&[], &[], &["drill"]), 1),
    ] {
        let receiver = Receiver::new();
        let notifier = notifier(vec![webhook(&receiver, Style::Json, audience.clone())]);
        run(&notifier, summary(Outcome::Failed));
        notifier.observe(&overdue("shop"));
        assert_delivered(&notifier.settle(AGES).await);
        assert_eq!(receiver.received().len(), heard, "{audience:?}");
    }
}

#[tokio::test]
async fn slack_gets_escaped_sections() {
    let receiver = Receiver::new();
    let notifier = notifier(vec![webhook(&receiver, Style::Slack, everything())]);
    let hostile = RunSummary {
        stack: HOSTILE.to_owned(),
        error: Some("& <b>".repeat(2000)),
        ..summary(Outcome::Failed)
    };
    run(&notifier, hostile);
    assert_delivered(&notifier.settle(AGES).await);
    let got = receiver.only();
    assert!(!got.body.contains("<!"), "{}", got.body);
    assert!(!got.body.contains("<@"), "{}", got.body);
    let json = got.json();
    let blocks = json["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        assert_eq!(block["type"], "section");
        assert_eq!(block["text"]["type"], "mrkdwn");
        assert_eq!(block["text"]["verbatim"], true);
        let text = block["text"]["text"].as_str().unwrap();
        assert!(text.chars().count() <= 3000, "{}", text.len());
        assert!(!text.contains('<') && !text.contains('>'), "{text}");
    }
    assert!(json["text"].as_str().unwrap().contains("&lt;!channel&gt;"));
}

#[tokio::test]
async fn discord_gets_an_embed_without_mentions() {
    let receiver = Receiver::answering(|_, _| Answer::Status(204, "", ""));
    let notifier = notifier(vec![webhook(&receiver, Style::Discord, everything())]);
    let hostile = RunSummary {
        stack: HOSTILE.repeat(40),
        error: Some("*_~`|".repeat(3000)),
        ..summary(Outcome::Partial)
    };
    run(&notifier, hostile);
    assert_delivered(&notifier.settle(AGES).await);
    let json = receiver.only().json();
    assert_eq!(json["allowed_mentions"], json!({ "parse": [] }));
    let content = json["content"].as_str().unwrap();
    let description = json["embeds"][0]["description"].as_str().unwrap();
    assert!(content.chars().count() <= 2000 && description.chars().count() <= 4096);
    assert!(
        content.contains("\\@everyone \\<!channel\\> \\<\\@U1\\> \\[x\\]"),
        "{content}"
    );
}

#[tokio::test]
async fn teams_gets_a_card_that_is_not_too_big() {
    let receiver = Receiver::answering(|_, _| Answer::Status(202, "", ""));
    let notifier = notifier(vec![webhook(&receiver, Style::Teams, everything())]);
    let hostile = RunSummary {
        stack: HOSTILE.to_owned(),
        error: Some("é*".repeat(30_000)),
        warnings: vec!["[é]".repeat(30_000); 9],
        ..summary(Outcome::Failed)
    };
    run(&notifier, hostile);
    assert_delivered(&notifier.settle(AGES).await);
    let got = receiver.only();
    assert!(got.body.len() <= 28_000, "{}", got.body.len());
    let json = got.json();
    assert_eq!(json["type"], "message");
    let attachment = &json["attachments"][0];
    assert_eq!(
        attachment["contentType"],
        "application/vnd.microsoft.card.adaptive"
    );
    let card = &attachment["content"];
    assert_eq!(card["type"], "AdaptiveCard");
    assert_eq!(card["body"][1]["type"], "FactSet");
    let title = card["body"][0]["text"].as_str().unwrap();
    assert!(title.contains("\\[x\\](http://evil) \\*b\\*"), "{title}");
    let warnings = got.body.matches("Warning").count();
    assert_eq!(warnings, 6, "five and how many more");
}

#[tokio::test]
async fn a_monitor_is_pinged_from_start_to_end() {
    for (outcome, end) in [
        (Outcome::Succeeded, ""),
        (Outcome::Partial, "/fail"),
        (Outcome::Failed, "/fail"),
    ] {
        let receiver = Receiver::new();
        let notifier = notifier(vec![ping(&receiver, Audience::default())]);
        run(&notifier, summary(outcome));
        assert_delivered(&notifier.settle(AGES).await);
        let lines = receiver.lines();
        let (_, rid) = lines[0].split_once("&rid=").unwrap();
        assert_eq!(
            lines,
            [
                format!("POST /{CANARY}/start?team=a&rid={rid}"),
                format!("POST /{CANARY}{end}?team=a&rid={rid}"),
            ]
        );
        let groups: Vec<usize> = rid.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{rid}");
        let body = &receiver.received()[1].body;
        assert!(body.contains("Z capture redis/cache\n"), "{body}");
    }
}

#[tokio::test]
async fn a_drill_does_not_hide_from_the_monitor_that_the_backup_is_missing() {
    let receiver = Receiver::new();
    let notifier = notifier(vec![ping(&receiver, Audience::default())]);
    notifier.observe(&started("drill"));
    let drill = RunSummary {
        operation: "drill".to_owned(),
        ..summary(Outcome::Succeeded)
    };
    notifier.observe(&Event::RunFinished(Box::new(drill)));
    notifier.observe(&overdue("shop"));
    assert_delivered(&notifier.settle(AGES).await);
    assert_eq!(receiver.lines(), [""; 0]);
}

#[tokio::test]
async fn a_ping_holds_the_end_of_a_long_log() {
    let receiver = Receiver::new();
    let channel = ping(&receiver, Audience::default());
    let notifier = Notifier::new(vec![channel], at(), 64 * 1024).with_limits(limits());
    for number in 0..20_000 {
        let message = format!("line {number} of the log");
        notifier.observe(&Event::Detail { message });
    }
    let finished = summary(Outcome::Failed);
    notifier.observe(&Event::RunFinished(Box::new(finished)));
    assert_delivered(&notifier.settle(AGES).await);
    let body = receiver.only().body;
    assert!(body.len() <= 100_000, "{}", body.len());
    assert!(body.contains("line 19999 of") && !body.contains("line 10000 of"));
    assert!(body.contains("Error: cannot write\n"));
}

#[tokio::test]
async fn a_monitor_that_knows_no_such_check_is_no_success() {
    // healthchecks.io answers so, with a status of success.
    let receiver = Receiver::answering(|_, _| Answer::Status(200, "", "OK (not found)"));
    let notifier = notifier(vec![ping(&receiver, Audience::default())]);
    run(&notifier, summary(Outcome::Succeeded));
    let failures = notifier.settle(AGES).await;
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(failures[1].reason.contains("not found"), "{failures:?}");
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    for first in [
        Answer::HangUp,
        Answer::Status(500, "", "oops"),
        Answer::Status(503, "", ""),
        Answer::Status(429, "Retry-After: 0\r\n", ""),
        // Discord says it with a fraction.
        Answer::Status(429, "Retry-After: 0.05\r\n", ""),
    ] {
        let said = first.clone();
        let receiver = Receiver::answering(move |number, _| match number {
            1 | 2 => said.clone(),
            _ => Answer::OK,
        });
        let notifier = notifier(vec![webhook(&receiver, Style::Json, everything())]);
        run(&notifier, summary(Outcome::Failed));
        assert_delivered(&notifier.settle(AGES).await);
        let bodies: Vec<String> = receiver
            .received()
            .into_iter()
            .map(|one| one.body)
            .collect();
        assert_eq!(bodies.len(), 3, "{first:?}");
        assert!(bodies.iter().all(|body| *body == bodies[0]));
    }
}

#[tokio::test]
async fn what_lasts_is_said_once_and_without_the_address() {
    // Receivers repeat the address in their complaints.
    for (answer, tries, says) in [
        (
            Answer::Status(404, "", "no_service /hook/canary-7be2f0"),
            1,
            "404 Not Found: no_service",
        ),
        (
            Answer::Status(400, "", "canary-7be2f0 invalid_payload"),
            1,
            "invalid_payload",
        ),
        (
            Answer::Status(302, "Location: /hook/canary-7be2f0\r\n", ""),
            1,
            "redirects are not followed",
        ),
        (
            Answer::Status(500, "", "canary-7be2f0"),
            3,
            "500 Internal Server Error",
        ),
        (
            Answer::Status(429, "Retry-After: 86400\r\n", ""),
            1,
            "429 Too Many Requests",
        ),
        (Answer::HangUp, 3, "tried 3 times"),
    ] {
        let said = answer.clone();
        let receiver = Receiver::answering(move |_, _| said.clone());
        let short = Limits {
            total: Duration::from_secs(5),
            ..limits()
        };
        let channels = vec![webhook(&receiver, Style::Json, everything())];
        let notifier = Notifier::new(channels, at(), 1000).with_limits(short);
        run(&notifier, summary(Outcome::Failed));
        let failures = notifier.settle(AGES).await;
        assert_eq!(failures.len(), 1, "{answer:?}");
        let text = format!("{} {failures:?}", failures[0]);
        assert!(text.contains(says) && !text.contains(CANARY), "{text}");
        assert_eq!(receiver.received().len(), tries, "{answer:?}");
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_said_without_it() {
    let gone = {
        let receiver = Receiver::new();
        webhook(&receiver, Style::Json, everything())
    };
    let notifier = notifier(vec![gone]);
    run(&notifier, summary(Outcome::Failed));
    let failures = notifier.settle(AGES).await;
    let text = format!("{failures:?} {:?}", notifier.channels());
    assert!(
        text.contains("tried 3 times") && !text.contains(CANARY),
        "{text}"
    );
}

#[tokio::test]
async fn a_receiver_that_stalls_is_given_up_and_the_others_get_theirs() {
    let (stalled, well) = (Receiver::answering(|_, _| Answer::Stall), Receiver::new());
    let channels = || {
        vec![
            webhook(&stalled, Style::Json, everything()),
            webhook(&well, Style::Json, everything()),
        ]
    };
    // By the limit of a delivery.
    let short = Limits {
        one_try: Duration::from_millis(100),
        total: Duration::from_millis(250),
        ..limits()
    };
    let notifier = Notifier::new(channels(), at(), 1000).with_limits(short);
    run(&notifier, summary(Outcome::Failed));
    let failures = notifier.settle(AGES).await;
    assert_eq!(failures.len(), 1);
    assert!(
        failures[0].reason.contains("no answer within 0.1 seconds"),
        "{failures:?}"
    );
    // By the limit of whoever waits: the delivery itself would go on for longer than this test may take.
    let endless = Limits {
        one_try: Duration::from_hours(1),
        total: Duration::from_hours(1),
        ..limits()
    };
    let notifier = Notifier::new(channels(), at(), 1000).with_limits(endless);
    run(&notifier, summary(Outcome::Failed));
    let failures = notifier.settle(Duration::from_millis(500)).await;
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].reason, "not delivered within 0.5 seconds");
    assert_eq!(well.received().len(), 2);
}

fn executable(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("told");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}

/// A command that runs this script in its folder.
fn command(folder: &Path, text: &str, limit: Duration) -> Channel {
    let words = vec![
        executable(folder, text).display().to_string(),
        folder.display().to_string(),
        "two words; $HOME".to_owned(),
    ];
    Channel::command("own", everything(), words, limit).unwrap()
}

#[tokio::test]
async fn a_command_gets_json_and_variables() {
    let folder = tempfile::tempdir().unwrap();
    let script = "cat >\"$1/json\"; env >\"$1/env\"; echo \"$2\" >\"$1/words\"";
    let notifier = notifier(vec![command(folder.path(), script, AGES)]);
    let hostile = RunSummary {
        stack: HOSTILE.to_owned(),
        error: Some("null \0 byte".to_owned()),
        ..summary(Outcome::Partial)
    };
    run(&notifier, hostile.clone());
    assert_delivered(&notifier.settle(AGES).await);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let json: Value = serde_json::from_str(&read("json")).unwrap();
    let told: RunSummary = serde_json::from_value(json["summary"].clone()).unwrap();
    assert_eq!(told, hostile);
    let env = read("env");
    for line in [
        "LIFEBOAT_OUTCOME=partial",
        "LIFEBOAT_OCCASION=failure",
        "LIFEBOAT_OPERATION=backup",
        "LIFEBOAT_SCHEDULE=nightly",
        "LIFEBOAT_HOST=host-1",
        "LIFEBOAT_ERROR=null  byte",
        "LIFEBOAT_CODE=1",
    ] {
        assert!(env.lines().any(|one| one == line), "{line} is not in {env}");
    }
    assert_eq!(read("words"), "two words; $HOME\n");
}

#[tokio::test]
async fn a_command_that_fails_or_takes_too_long_is_said() {
    let folder = tempfile::tempdir().unwrap();
    // It reads nothing and complains at length.
    let script = "yes | head -c 300000 >&2; echo >&2 'the pager is off'; exit 3";
    let notifier = notifier(vec![command(folder.path(), script, AGES)]);
    run(&notifier, summary(Outcome::Failed));
    let failures = notifier.settle(AGES).await;
    assert_eq!(failures.len(), 1);
    assert!(
        failures[0].reason.contains("ended with exit status: 3"),
        "{failures:?}"
    );

    // What it has started is killed with it.
    let script = "sleep 3600 & echo $! >\"$1/pid.new\"; mv \"$1/pid.new\" \"$1/pid\"; wait";
    let limit = Duration::from_millis(500);
    let channel = command(folder.path(), script, limit);
    let notifier = Notifier::new(vec![channel], at(), 1000);
    run(&notifier, summary(Outcome::Failed));
    let failures = notifier.settle(AGES).await;
    assert!(
        failures[0]
            .reason
            .contains("within 0.5 seconds and was killed"),
        "{failures:?}"
    );
    let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
    let stat = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
    crate::support::server::wait_for("what the command started is killed", || {
        // A zombie waits for whoever adopted it.
        std::fs::read_to_string(&stat).is_ok_and(|text| text.contains(") Z ")) || !stat.exists()
    });
}

fn smtp(
    server: &MailServer,
    scheme: &str,
    host: &str,
    tls: Option<Tls>,
    secret: &str,
) -> Arc<Smtp> {
    let url = Secret::new(format!("{scheme}://{host}:{}", server.port));
    let login = (!secret.is_empty()).then(|| ("backup".to_owned(), Secret::new(secret.to_owned())));
    let authority = std::fs::read(server.authority()).ok();
    let from = "Backups <backup@example.com>";
    Arc::new(Smtp::new(&url, tls, login, from, authority.as_deref()).unwrap())
}

fn mail(smtp: Arc<Smtp>) -> Channel {
    let to = [
        "ops@example.com".to_owned(),
        "Boss <boss@example.com>".to_owned(),
    ];
    Channel::email("mail", everything(), smtp, &to).unwrap()
}

/// Sends a failure; what could not be delivered.
async fn mail_failure(smtp: Arc<Smtp>, stack: &str) -> Vec<lifeboat::notify::NotifyFailure> {
    let notifier = notifier(vec![mail(smtp)]);
    let summary = RunSummary {
        stack: stack.to_owned(),
        ..summary(Outcome::Failed)
    };
    run(&notifier, summary);
    notifier.settle(AGES).await
}

#[tokio::test]
async fn e_mail_goes_encrypted_and_logged_in() {
    for (mode, scheme, tls) in [
        ("starttls", "smtp", Some(Tls::StartTls)),
        ("implicit", "smtps", None),
    ] {
        let server = MailServer::start(mode);
        let smtp = smtp(&server, scheme, "localhost", tls, PASSWORD);
        assert_delivered(&mail_failure(smtp, HOSTILE).await);
        let mails = server.mails();
        assert_eq!(mails.len(), 1, "{mode}");
        let mail = &mails[0];
        assert_eq!(mail["tls"], true, "{mode}");
        assert_eq!(mail["user"], "backup", "{mode}");
        assert_eq!(mail["sender"], "backup@example.com");
        assert_eq!(
            mail["recipients"],
            json!(["ops@example.com", "boss@example.com"])
        );
        let message = mail["message"].as_str().unwrap();
        let (head, body) = message.split_once("\r\n\r\n").unwrap();
        let bcc = head
            .lines()
            .any(|line| line.to_lowercase().starts_with("bcc"));
        assert!(
            !bcc && head.contains("Subject: [lifeboat] backup of shop"),
            "{head}"
        );
        assert!(head.contains("Date: Sun, 22 Nov 2026 12:00:00"), "{head}");
        assert!(head.contains("Auto-Submitted: auto-generated"), "{head}");
        assert!(
            body.contains("Hint: make room") && body.contains("capture redis/cache"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn e_mail_to_this_machine_may_be_plain() {
    let server = MailServer::start("plain");
    for host in ["localhost", "127.0.0.1"] {
        assert_delivered(&mail_failure(smtp(&server, "smtp", host, None, ""), "shop").await);
    }
    assert_eq!(server.mails().len(), 2);
}

#[tokio::test]
async fn e_mail_to_others_is_never_plain_unless_somebody_says_so() {
    let server = MailServer::start("plain");
    // The same server under a name that does not look like this machine.
    let there = |tls, secret| smtp(&server, "smtp", "0.0.0.0", tls, secret);
    let failures = mail_failure(there(None, PASSWORD), "shop").await;
    assert_eq!(failures.len(), 1);
    assert!(!failures[0].reason.contains(PASSWORD), "{failures:?}");
    assert!(server.mails().is_empty());
    // It hung up when STARTTLS was not offered: no login, no sender was answered.
    let answers = server.answers();
    assert!(
        !answers.contains("334") && !answers.contains("250 OK"),
        "{answers}"
    );
    assert_delivered(&mail_failure(there(Some(Tls::None), ""), "shop").await);
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn e_mail_is_not_given_to_a_server_that_nobody_vouches_for() {
    let server = MailServer::start("starttls");
    let url = Secret::new(format!("smtp://localhost:{}", server.port));
    let login = ("backup".to_owned(), Secret::new(PASSWORD.to_owned()));
    let smtp = Smtp::new(
        &url,
        Some(Tls::StartTls),
        Some(login),
        "a@example.com",
        None,
    )
    .unwrap();
    let failures = mail_failure(Arc::new(smtp), "shop").await;
    assert_eq!(failures.len(), 1);
    assert!(server.mails().is_empty());
    assert!(failures[0].reason.contains("certificate"), "{failures:?}");
}

#[tokio::test]
async fn a_wrong_password_is_said_and_not_shown() {
    let server = MailServer::start("starttls");
    let wrong = smtp(&server, "smtp", "localhost", Some(Tls::StartTls), CANARY);
    let failures = mail_failure(wrong, "shop").await;
    assert_eq!(failures.len(), 1);
    let text = format!("{failures:?}");
    assert!(text.contains("535") && !text.contains(CANARY), "{text}");
    assert_eq!(server.answers().matches("535").count(), 1, "tried once");
}

#[tokio::test]
async fn a_mail_server_that_says_nothing_is_given_up() {
    let server = MailServer::start("stall");
    let short = Limits {
        one_try: Duration::from_millis(200),
        total: Duration::from_millis(500),
        ..limits()
    };
    let channels = vec![mail(smtp(&server, "smtp", "localhost", None, ""))];
    let notifier = Notifier::new(channels, at(), 1000).with_limits(short);
    run(&notifier, summary(Outcome::Failed));
    let failures = notifier.settle(AGES).await;
    assert_eq!(failures.len(), 1);
    assert!(
        failures[0].reason.contains("no answer within 0.2 seconds"),
        "{failures:?}"
    );
}

// lifeboat notify test

#[track_caller]
fn without_secrets(ran: &Ran) {
    let text = ran.text();
    assert!(!text.contains(CANARY) && !text.contains(PASSWORD), "{text}");
}

/// A configuration with a channel of every kind, one of which does not work where `broken`.
fn configured(receiver: &Receiver, mails: &MailServer, broken: &str) -> Place {
    let mut place = Place::without_repository();
    let program = executable(place.folder.path(), "cat >json");
    let hook = receiver.url(&format!("/hook/{CANARY}"));
    std::fs::write(
        place.folder.path().join("ping"),
        format!("{}\n", receiver.url(&format!("/ping/{CANARY}"))),
    )
    .unwrap();
    place.env.insert("SLACK".to_owned(), CANARY.to_owned());
    place
        .env
        .insert("MAIL_PASSWORD".to_owned(), PASSWORD.to_owned());
    place.configure(&format!(
        "[notify]\nfailure = [\"{hook}\", \"mailto:ops@example.com\"]\nrecovery = [\"{hook}\"]\nping = {{ file = \"ping\" }}\n\
         [notify.smtp]\nurl = \"smtp://localhost:{}\"\ntls = \"starttls\"\nuser = \"backup\"\npassword = {{ env = \"MAIL_PASSWORD\" }}\n\
         from = \"backup@example.com\"\nca_file = \"{}\"\n\
         [notify.channel.own]\nkind = \"command\"\ncommand = [\"{}\"]\n\
         [notify.channel.slack]\nkind = \"webhook\"\nurl = \"{}/${{SLACK}}{broken}\"\nstyle = \"slack\"\non = [\"success\"]\n",
        mails.port, mails.authority().display(), program.display(), receiver.url("/slack"),
    ));
    place
}

#[test]
fn a_test_goes_through_every_channel() {
    let (receiver, mails) = (Receiver::new(), MailServer::start("starttls"));
    let place = configured(&receiver, &mails, "");
    let dry = place.run(&["notify", "test", "--dry-run"]).expect_code(0);
    without_secrets(&dry);
    assert!(receiver.received().is_empty() && mails.mails().is_empty());
    let ran = place.run(&["notify", "test", "--verbose"]).expect_code(0);
    without_secrets(&ran);
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let lines: Vec<String> = ran.stdout.lines().map(words).collect();
    let port = receiver.url("");
    assert_eq!(
        lines,
        [
            "CHANNEL KIND WHERE TOLD OF RESULT".to_owned(),
            format!("failure-1 webhook (json) {port}/… failure, recovery, absence delivered"),
            "failure-2 email ops@example.com failure, absence delivered".to_owned(),
            format!("ping ping {port}/… start and end of runs delivered"),
            format!(
                "own command {} failure, absence delivered",
                place.folder.path().join("told").display()
            ),
            format!("slack webhook (slack) {port}/… success delivered"),
        ]
    );
    let mut paths = receiver.lines();
    paths.sort();
    let expected = ["hook/CANARY", "ping/CANARY/log", "slack/CANARY"];
    assert_eq!(
        paths,
        expected.map(|path| format!("POST /{}", path.replace("CANARY", CANARY)))
    );
    assert_eq!(mails.mails().len(), 1);
    assert!(place.folder.path().join("json").is_file());
}

#[test]
fn a_test_that_does_not_arrive_is_a_failure() {
    let receiver = Receiver::answering(|_, received| match received.path.starts_with("/hook") {
        true => Answer::Status(410, "", "gone"),
        false => Answer::OK,
    });
    let mails = MailServer::start("starttls");
    let place = configured(&receiver, &mails, "/${UNSET}");
    let ran = place.run(&["notify", "test", "--json"]).expect_code(1);
    without_secrets(&ran);
    let json = ran.json();
    assert_eq!(json["message_type"], "notify_test");
    let told = |name: &str| {
        let channels = json["channels"].as_array().unwrap();
        channels.iter().find(|one| one["channel"] == name).unwrap()
    };
    assert_eq!(told("failure-1")["delivered"], false);
    assert!(
        told("failure-1")["reason"]
            .as_str()
            .unwrap()
            .contains("410")
    );
    assert_eq!(told("failure-2")["delivered"], true);
    // What cannot even be addressed stops nothing else, and no other command.
    assert_eq!(told("slack")["reason"], "the variable UNSET is not set");
    place.run(&["repository", "init"]).expect_code(0);
    let one = ["notify", "test", "--channel", "own", "--channel", "ping"];
    place.run(&one).expect_code(0);
    let wrong = place.run(&["notify", "test", "--channel", "pign"]);
    wrong.expect_code(2).says(&["did you mean ping?"]);
}

#[test]
fn nobody_to_notify_is_a_mistake() {
    let place = Place::without_repository();
    let ran = place.run(&["notify", "test"]).expect_code(2);
    ran.says(&["nobody to notify", "hint: [notify]"]);
}

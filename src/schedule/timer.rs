//! Schedules in the words of systemd and cron.
//!
//! Both only wake lifeboat: `schedule run NAME --if-due` decides, by its own calendar, whether a run is due, so each
//! run comes once whatever a timer does about daylight saving, and a missed one is caught up.

use super::{Calendar, Schedule, Work};
use chrono_tz::Tz;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The names that systemd has for weekdays, Sunday first.
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// The program and the options that a timer starts it with, already fit for the place that it stands in.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The program's absolute path.
    pub program: String,
    /// The configuration file's absolute path, where one is used.
    pub config: Option<String>,
}

/// A schedule as a pair of systemd units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    /// `lifeboat-NAME.service` without its ending.
    pub name: String,
    /// The service's text.
    pub service: String,
    /// The timer's text.
    pub timer: String,
}

/// The units that run what `schedule` does.
///
/// # Errors
/// Where its calendar says what systemd cannot.
pub fn systemd(schedule: &Schedule, work: Work, invocation: &Invocation) -> Result<Units, String> {
    let calendar = schedule.calendar_of(work).ok_or("it has no such times")?;
    let mut times = String::new();
    for time in on_calendar(calendar)? {
        let _ = writeln!(times, "OnCalendar={time}");
    }
    let jitter = calendar.jitter().as_secs();
    // lifeboat puts a run off itself, by the same span for everybody who asks: the timer wakes it afterwards.
    if jitter > 0 {
        times.push_str("OnUnitInactiveSec=15min\n");
    }
    let suffix = match work {
        Work::Backup => "",
        // No name of a schedule holds a dot here.
        Work::Drill => ".drill",
    };
    let name = format!("lifeboat-{}{suffix}", unit_name(&schedule.name));
    let description = one_line(&format!(
        "lifeboat: {} of {}, schedule {}",
        work.name(),
        schedule.stack,
        schedule.name
    ));
    let words = command(schedule, work, invocation);
    let words: Vec<String> = words.iter().map(|word| systemd_word(word)).collect();
    Ok(Units {
        service: format!(
            "[Unit]\nDescription={description}\nWants=network-online.target\nAfter=network-online.target docker.service\n\n\
             [Service]\nType=oneshot\nExecStart={}\nTimeoutStopSec=5min\nNice=10\nIOSchedulingClass=idle\nUMask=0077\n\
             NoNewPrivileges=yes\nProtectSystem=full\nProtectHome=read-only\nPrivateTmp=yes\n",
            words.join(" ")
        ),
        timer: format!(
            "[Unit]\nDescription={description}\n\n[Timer]\n{times}Persistent=true\n\n[Install]\nWantedBy=timers.target\n"
        ),
        name,
    })
}

/// The line of a crontab that runs `schedule`, on a machine whose clock shows `machine`'s time. With `user`, as
/// `/etc/cron.d` wants it.
///
/// Debian's cron knows no time zones: where the schedule has another one than the machine, the line wakes lifeboat
/// every quarter of an hour.
pub fn crontab(
    schedule: &Schedule,
    work: Work,
    invocation: &Invocation,
    machine: Option<Tz>,
    user: Option<&str>,
) -> String {
    let calendar = schedule.calendar_of(work).unwrap_or(&schedule.calendar);
    let plain = calendar.fields();
    let mut days = plain.split_whitespace().skip(2).step_by(2);
    let is_plain = days
        .next()
        .zip(days.next())
        .is_some_and(|(day, weekday)| is_plain(day, weekday));
    let exact = machine == Some(calendar.zone()) && calendar.jitter().is_zero() && is_plain;
    let when = if exact {
        plain
    } else {
        "*/15 * * * *".to_owned()
    };
    let words = command(schedule, work, invocation);
    let words: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
    // A percent sign ends a crontab's command.
    let command = words.join(" ").replace('%', "\\%");
    let user = user.map(|user| format!("{user} ")).unwrap_or_default();
    format!(
        "# lifeboat: {} of {}, schedule {}: {} {}\n{when} {user}{command}\n",
        work.name(),
        one_line(&schedule.stack),
        one_line(&schedule.name),
        one_line(calendar.text()),
        calendar.zone(),
    )
}

fn command(schedule: &Schedule, work: Work, invocation: &Invocation) -> Vec<String> {
    let mut words = vec![invocation.program.clone()];
    if let Some(config) = &invocation.config {
        words.extend(["--config".to_owned(), config.clone()]);
    }
    words.extend(["schedule", "run", "--if-due"].map(str::to_owned));
    if work == Work::Drill {
        words.push("--drill".to_owned());
    }
    // A name may begin with a dash.
    words.extend(["--".to_owned(), schedule.name.clone()]);
    words
}

/// The times of a calendar as systemd writes them.
fn on_calendar(calendar: &Calendar) -> Result<Vec<String>, String> {
    let text = calendar.fields();
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        return Err(format!("{text:?} has not five fields"));
    };
    if !is_plain(day, weekday) {
        return Err(format!("systemd's calendar has no words for {text:?}"));
    }
    let minutes = numbers(&Calendar::matching(&format!("{minute} * * * *"), "%M"), 60);
    let hours = numbers(&Calendar::matching(&format!("0 {hour} * * *"), "%H"), 24);
    let days = numbers(&Calendar::matching(&format!("0 0 {day} * *"), "%d"), 31);
    let months = numbers(&Calendar::matching(&format!("0 0 1 {month} *"), "%m"), 12);
    let named: Vec<&str> = Calendar::matching(&format!("0 0 * * {weekday}"), "%w")
        .into_iter()
        .filter_map(|day| WEEKDAYS.get(usize::try_from(day).ok()?).copied())
        .collect();
    let time = format!("{hours}:{minutes}:00 {}", calendar.zone());
    let by_date = format!("*-{months}-{days} {time}");
    if named.len() == WEEKDAYS.len() {
        return Ok(vec![by_date]);
    }
    let by_weekday = format!("{} *-{months}-* {time}", named.join(","));
    // cron runs on either where both are said.
    Ok(match days.as_str() {
        "*" => vec![by_weekday],
        _ => vec![by_date, by_weekday],
    })
}

/// `*` for all of them, else a list.
fn numbers(found: &BTreeSet<u32>, all: usize) -> String {
    if found.len() == all {
        return "*".to_owned();
    }
    let numbers: Vec<String> = found.iter().map(|number| format!("{number:02}")).collect();
    numbers.join(",")
}

/// Whether days are said by lists, ranges and steps of numbers and names alone: not "the last", "the nearest weekday",
/// "the second Friday" or "both at once".
fn is_plain(day: &str, weekday: &str) -> bool {
    !day.contains(['L', 'W', 'l', 'w', '+', '?']) && !weekday.contains(['L', 'l', '#', '+', '?'])
}

/// A name as the name of a unit may hold it, in the way of `systemd-escape`.
fn unit_name(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

/// A word of `ExecStart=`: quoted, with systemd's specifiers and variables switched off.
fn systemd_word(word: &str) -> String {
    let word = word.replace('%', "%%").replace('$', "$$");
    let plain = word
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_./=:%@+,".contains(c));
    if plain && !word.is_empty() {
        return word;
    }
    let escaped = word
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{escaped}\"")
}

/// A word of a shell's command.
fn shell_word(word: &str) -> String {
    let quoted = shlex::try_quote(word);
    quoted.map_or_else(|_| String::new(), std::borrow::Cow::into_owned)
}

/// Text from a file in a comment of one line.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || c == '%' { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::tests::nightly;
    use std::time::Duration;

    fn invocation() -> Invocation {
        Invocation {
            program: "/usr/bin/lifeboat".to_owned(),
            config: None,
        }
    }

    fn times(text: &str, zone: Tz) -> Result<Vec<String>, String> {
        on_calendar(&Calendar::parse(text, zone).unwrap())
    }

    #[test]
    fn cron_is_said_in_systemds_words() {
        let berlin = Tz::Europe__Berlin;
        for (text, expected) in [
            ("0 2 * * *", vec!["*-*-* 02:00:00 Europe/Berlin"]),
            ("*/15 * * * *", vec!["*-*-* *:00,15,30,45:00 Europe/Berlin"]),
            ("0 4 * * 0", vec!["Sun *-*-* 04:00:00 Europe/Berlin"]),
            (
                "0 4 * * 1-5",
                vec!["Mon,Tue,Wed,Thu,Fri *-*-* 04:00:00 Europe/Berlin"],
            ),
            ("0 4 * * SAT", vec!["Sat *-*-* 04:00:00 Europe/Berlin"]),
            (
                "30 1 1,15 1-3 *",
                vec!["*-01,02,03-01,15 01:30:00 Europe/Berlin"],
            ),
            (
                "0 3 1 * 1",
                vec![
                    "*-*-01 03:00:00 Europe/Berlin",
                    "Mon *-*-* 03:00:00 Europe/Berlin",
                ],
            ),
            ("0 4 * JUL WED", vec!["Wed *-07-* 04:00:00 Europe/Berlin"]),
            ("@daily", vec!["*-*-* 00:00:00 Europe/Berlin"]),
            ("@weekly", vec!["Sun *-*-* 00:00:00 Europe/Berlin"]),
        ] {
            assert_eq!(times(text, berlin).unwrap(), expected, "{text}");
        }
        assert!(times("0 2 L * *", berlin).is_err());
        assert!(times("0 2 * * 5#2", berlin).is_err());
    }

    #[test]
    fn words_of_a_command_stay_words() {
        let mut schedule = nightly();
        schedule.name = "a b%\"$X".to_owned();
        let units = systemd(&schedule, Work::Backup, &invocation()).unwrap();
        assert!(
            units.service.contains(
                "ExecStart=/usr/bin/lifeboat schedule run --if-due -- \"a b%%\\\"$$X\"\n"
            ),
            "{}",
            units.service
        );
        assert_eq!(units.name, "lifeboat-a\\x20b\\x25\\x22\\x24X");
        let line = crontab(
            &schedule,
            Work::Backup,
            &invocation(),
            Some(Tz::UTC),
            Some("root"),
        );
        assert!(
            line.ends_with(
                "\n0 2 * * * root /usr/bin/lifeboat schedule run --if-due -- 'a b\\%\"$X'\n"
            ),
            "{line}"
        );
    }

    #[test]
    fn cron_is_told_the_time_only_where_it_has_the_schedules_clock() {
        let mut schedule = nightly();
        let when = |schedule: &Schedule, machine| {
            let line = crontab(schedule, Work::Backup, &invocation(), machine, None);
            line.lines()
                .nth(1)
                .unwrap()
                .split(" /usr")
                .next()
                .unwrap()
                .to_owned()
        };
        assert_eq!(when(&schedule, Some(Tz::UTC)), "0 2 * * *");
        assert_eq!(when(&schedule, Some(Tz::Europe__Berlin)), "*/15 * * * *");
        assert_eq!(when(&schedule, None), "*/15 * * * *");
        schedule.calendar = schedule.calendar.with_jitter(Duration::from_mins(5));
        assert_eq!(when(&schedule, Some(Tz::UTC)), "*/15 * * * *");
    }
}

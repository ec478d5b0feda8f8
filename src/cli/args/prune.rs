//! The arguments of `lifeboat prune`.

use clap::{Args, value_parser};
use std::time::Duration;

#[derive(Debug, Args)]
pub(in crate::cli) struct Prune {
    /// The stack; all of the repository where none is named
    pub stack: Option<String>,
    /// By the rules of this schedule alone
    #[arg(long, value_name = "NAME", conflicts_with_all = Keep::OPTIONS)]
    pub schedule: Option<String>,
    #[command(flatten)]
    pub keep: Keep,
    /// Print what would be kept and removed
    #[arg(long)]
    pub dry_run: bool,
    /// Do it without asking
    #[arg(long, short)]
    pub yes: bool,
}

/// What to keep, in the place of what schedules say.
#[derive(Debug, Args)]
pub(in crate::cli) struct Keep {
    /// Keep the N newest
    #[arg(long = "keep-last", value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub last: Option<u32>,
    /// Keep one an hour, for the N newest hours that have one
    #[arg(long = "keep-hourly", value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub hourly: Option<u32>,
    /// Keep one a day
    #[arg(long = "keep-daily", value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub daily: Option<u32>,
    /// Keep one a week, from Monday
    #[arg(long = "keep-weekly", value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub weekly: Option<u32>,
    /// Keep one a month
    #[arg(long = "keep-monthly", value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub monthly: Option<u32>,
    /// Keep one a year
    #[arg(long = "keep-yearly", value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub yearly: Option<u32>,
    /// Keep all that are no older, such as 14d or 36h
    #[arg(long = "keep-within", value_name = "SPAN", value_parser = span)]
    pub within: Option<Duration>,
    /// Keep all with this tag, KEY or KEY=VALUE; repeatable
    #[arg(long = "keep-tag", value_name = "T")]
    pub tag: Vec<String>,
    /// Keep at least N complete ones, whatever the others say
    #[arg(long = "keep-min", value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub min: Option<u32>,
}

impl Keep {
    const OPTIONS: [&str; 9] = [
        "last", "hourly", "daily", "weekly", "monthly", "yearly", "within", "tag", "min",
    ];
}

fn span(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(span) if span.is_zero() => Err("a span of nothing keeps nothing".to_owned()),
        Ok(span) => Ok(span),
        Err(error) => Err(format!(
            "{error}: a number and a unit, such as 36h, 14d or 3months"
        )),
    }
}

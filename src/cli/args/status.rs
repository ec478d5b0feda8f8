//! The arguments of `status`.

use clap::Args;
use std::time::Duration;

/// How often the screen is drawn again where `--watch` does not say, in seconds.
const EVERY: &str = "10";

#[derive(Debug, Args)]
pub(in crate::cli) struct Status {
    /// Only this stack
    pub stack: Option<String>,
    /// Call every source late whose newest complete backup is older than this span, such as 26h, whatever schedules say
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    pub max_age: Option<Duration>,
    /// Draw the screen again every 10 seconds, or every SECONDS, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = EVERY, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub watch: Option<u64>,
}

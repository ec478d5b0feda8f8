//! The arguments of `lifeboat schedule` and `lifeboat daemon`.

use super::Wait;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ScheduleCommand {
    /// List the schedules, when each runs next and how it last ended
    Ls,
    /// Print the times of the next runs
    Next(ScheduleNext),
    /// Run a schedule now: its backup, then its retention; notifies as the configuration says
    Run(ScheduleRun),
    /// Print what makes systemd or cron run the schedules
    #[command(subcommand)]
    Export(ScheduleExport),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ScheduleNext {
    /// Only this schedule
    pub name: Option<String>,
    /// How many runs of each
    #[arg(long, short = 'n', default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ScheduleRun {
    /// The schedule: its file's name without .toml
    pub name: String,
    /// Do nothing unless a run is due that has not been; for timers, which may come too often
    #[arg(long)]
    pub if_due: bool,
    /// Run its drill, not its backup
    #[arg(long)]
    pub drill: bool,
    /// Print what would be done
    #[arg(long, conflicts_with = "drill")]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: Wait,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ScheduleExport {
    /// A service and a timer for each schedule
    Systemd(ExportSystemd),
    /// A crontab line for each schedule
    Cron(ExportCron),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportSystemd {
    /// Only this schedule
    pub name: Option<String>,
    /// Write the units into this folder, such as /etc/systemd/system
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportCron {
    /// Only this schedule
    pub name: Option<String>,
    /// Print lines for /etc/cron.d, run by this user, in the place of lines for crontab -e
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Daemon {
    /// Where /health, /live and /metrics are answered; off for nowhere [LIFEBOAT_LISTEN; default: 127.0.0.1:9402]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Ask the daemon that runs here whether it is at work, and exit with 0 or 1
    #[arg(long)]
    pub healthcheck: bool,
}

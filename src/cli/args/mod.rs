//! The arguments, as clap reads them. What stands here is what `--help` and the man pages say.

#![expect(
    clippy::doc_markdown,
    rustdoc::bare_urls,
    reason = "these comments are the help texts, which are no Markdown"
)]

mod drill;
mod guard;
mod notify;
mod prune;
mod recover;
mod schedule;
mod status;
mod volume;

pub(super) use drill::Drill;
pub(super) use guard::Guard;
pub(super) use notify::{NotifyCommand, NotifyTest};
pub(super) use prune::{Keep, Prune};
pub(super) use recover::Recover;
pub(super) use schedule::{
    Daemon, ExportCron, ExportSystemd, ScheduleCommand, ScheduleExport, ScheduleNext, ScheduleRun,
};
pub(super) use status::Status;
pub(super) use volume::{
    VolumeBackup, VolumeCommand, VolumeCopy, VolumeDiff, VolumeInspect, VolumeLs, VolumeMigrate,
    VolumePrune, VolumeRestore, VolumeRm,
};

use clap::{Args, CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// Backups of Docker Compose stacks that have been proven to restore.
#[derive(Debug, Parser)]
#[command(
    name = "lifeboat",
    version,
    max_term_width = 100,
    infer_long_args = false
)]
#[command(
    after_help = "BACKUP is an id, a unique prefix of one, `latest` or `latest~1`, with `STACK/` before it where there are \
several.\nExit codes: 0 done, 1 failed, 2 usage, 3 partial, 10 not found, 11 busy, 12 key, 13 damaged, 14 not proven, 15 overdue, \
125 guard itself failed, 130 interrupted."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Args, Clone)]
pub(super) struct Global {
    /// Where backups live: a name from lifeboat.toml, a path, file:///path, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix; backup takes several [LIFEBOAT_REPOSITORY; default: ./lifeboat-backups]
    #[arg(long, short = 'R', global = true, value_name = "R", action = clap::ArgAction::Append)]
    pub repository: Vec<String>,
    /// A private key that opens encrypted backups: age's, or OpenSSH's; repeatable [LIFEBOAT_IDENTITY]
    #[arg(long, global = true, value_name = "FILE", action = clap::ArgAction::Append)]
    pub identity: Vec<PathBuf>,
    /// The configuration file [LIFEBOAT_CONFIG; default: lifeboat.toml here, in $XDG_CONFIG_HOME/lifeboat, in /etc/lifeboat]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON, one object a line; errors too
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results and errors only
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print details
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// A static lifeboat to run next to volumes, for an engine on another kind of machine [LIFEBOAT_HELPER]
    #[arg(long, global = true, value_name = "PATH")]
    pub helper: Option<PathBuf>,
    /// Show no progress bars
    #[arg(long, global = true)]
    pub no_progress: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Find the stacks here, write lifeboat.toml and a schedule, create the repository
    Init(Init),
    /// Show what is protected and what is not: problems first; exit code 15 where something is unprotected or late
    Status(Status),
    /// Back up a stack
    Backup(Backup),
    /// List backups
    List(List),
    /// Show what a backup holds
    Show(Chosen),
    /// Re-read and check every stored byte
    Verify(Verify),
    /// Restore a backup: verified first, loaded beside, compared, swapped last
    Restore(Restore),
    /// Undo the last in-place restore while the old databases and files are still kept
    Rollback(Rollback),
    /// Back up and pin, run a command such as a migration, and show or take the way back where it fails
    Guard(Guard),
    /// Write one artifact, plain, to standard output or a file
    Export(Export),
    /// Prove a backup: restore it into throwaway servers, compare, measure how long that took
    Drill(Drill),
    /// Bring a whole stack's data back onto an engine that does not have it, so that Compose only has to start it
    Recover(Recover),
    /// Look at volumes, back them up, copy, move, compare and remove them
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Mark a backup as one to keep: no retention will remove it
    Pin(Pin),
    /// Take the pin off
    Unpin(Chosen),
    /// Remove the backups that no rule keeps; prints the table with reasons first
    Prune(Prune),
    /// Look at the schedules, run one, and make systemd or cron run them
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Run the schedules; answers /health and /metrics
    Daemon(Daemon),
    /// Check engine, sources, repositories, clock and schedules
    Doctor,
    /// Make keys, and find out whether a key opens a backup
    #[command(subcommand)]
    Key(KeyCommand),
    /// Find out whether notifications arrive
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Bring a backup into another repository; what is there and right is not sent again
    Copy(Copy),
    /// Make, list, describe and check repositories
    #[command(subcommand)]
    Repository(RepositoryCommand),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for every command into a folder
    Man {
        /// Write the pages into this folder
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum RepositoryCommand {
    /// Make the repository, unless it is there; finds out what its store does and records it
    Init,
    /// List the repositories that are configured or named, and whether they can be reached
    Ls,
    /// Show what the repository says about itself, and what it holds
    Info,
    /// Check that it can be written, and that every backup's description and objects are in place
    Check,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key: the private half into a file of its own, the public half printed
    Generate(KeyGenerate),
    /// Find out whether the keys at hand open a backup; exit code 12 where they do not
    Check(Chosen),
}

#[derive(Debug, Args)]
pub(super) struct KeyGenerate {
    /// The file for the private key, which must not be there yet
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Make a signing key as minisign does, in the place of one for encryption
    #[arg(long)]
    pub signing: bool,
}

#[derive(Debug, Args)]
pub(super) struct Copy {
    /// The backup
    #[arg(value_name = "BACKUP")]
    pub backup: String,
    /// The repository that gets it: a name from lifeboat.toml or an address
    #[arg(long, value_name = "R")]
    pub to: String,
    /// Print what would be done
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct Init {
    /// Write without asking
    #[arg(long, short)]
    pub yes: bool,
    /// Print what would be written
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The stack; may be left out where there is one
    pub stack: Option<String>,
    /// Only this artifact (postgres/SERVICE/db/DATABASE, redis/SERVICE, volume/NAME), folder (postgres/SERVICE, volume) or database; repeatable
    #[arg(long, value_name = "A")]
    pub only: Vec<String>,
    /// A folder of the engine's machine to capture like a volume; repeatable
    #[arg(long, value_name = "bind:/PATH")]
    pub include: Vec<String>,
    /// A mark of your own; repeatable
    #[arg(long, value_name = "K=V", value_parser = tag)]
    pub tag: Vec<(String, String)>,
    /// Mark it as one to keep, as lifeboat pin does
    #[arg(long)]
    pub pin: bool,
    /// Keep what could be captured where something could not; exit code 3
    #[arg(long)]
    pub allow_partial: bool,
    /// What to do to containers that write to volumes while those are read; their label lifeboat.quiesce wins
    #[arg(long, value_enum, value_name = "HOW")]
    pub quiesce: Option<Quiesce>,
    /// Encrypt to this public key (age1…, ssh-ed25519 …, ssh-rsa …) in the place of the configuration's; repeatable [LIFEBOAT_RECIPIENTS]
    #[arg(long, value_name = "KEY")]
    pub recipient: Vec<String>,
    /// zstd level of the stored bytes [default: 1]
    #[arg(long, value_name = "1-19", value_parser = clap::value_parser!(u8).range(1..=19))]
    pub level: Option<u8>,
    #[command(flatten)]
    pub wait: Wait,
    /// Print what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// What is done to containers meanwhile.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Quiesce {
    /// Stop them, with their own grace period, and start them again
    Stop,
    /// Freeze them, and let them go on
    Pause,
}

impl From<Quiesce> for crate::stack::Quiesce {
    fn from(quiesce: Quiesce) -> Self {
        match quiesce {
            Quiesce::Stop => Self::Stop,
            Quiesce::Pause => Self::Pause,
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(super) struct Wait {
    /// Wait for another run on the stack instead of failing at once; for an hour where no time is given
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "3600")]
    pub wait: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only this stack
    pub stack: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Chosen {
    /// The backup
    #[arg(value_name = "BACKUP", default_value = "latest")]
    pub backup: String,
}

#[derive(Debug, Args)]
pub(super) struct Pin {
    /// The backup
    #[arg(value_name = "BACKUP", default_value = "latest")]
    pub backup: String,
    /// Why, for whoever wonders later
    #[arg(long, default_value = "")]
    pub reason: String,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The backup
    #[arg(value_name = "BACKUP", conflicts_with = "all")]
    pub backup: Option<String>,
    /// Every backup of the repository
    #[arg(long)]
    pub all: bool,
    /// Decode every stream to its end, too, and let pg_restore and redis-check-rdb read what is theirs
    #[arg(long)]
    pub deep: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("target").args(["name", "in_place"]))]
pub(super) struct Restore {
    /// The backup
    #[arg(value_name = "BACKUP")]
    pub backup: String,
    /// Only this artifact (postgres/SERVICE/db/DATABASE, redis/SERVICE, volume/NAME), folder, database or table (DATABASE:SCHEMA.TABLE); repeatable
    #[arg(long, value_name = "A")]
    pub only: Vec<String>,
    /// Restore one database under a new name, one Redis snapshot or volume into a new volume, or tables into this schema
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
    /// Put it in the place of what serves now, which is kept aside
    #[arg(long)]
    pub in_place: bool,
    /// Another stack than the backup's own
    #[arg(long, value_name = "STACK")]
    pub into: Option<String>,
    #[command(flatten)]
    pub standing: Standing,
    #[command(flatten)]
    pub wait: Wait,
    /// Print what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Do it without asking
    #[arg(long, short)]
    pub yes: bool,
}

/// What becomes of the stack's containers while what they use is replaced.
#[derive(Debug, Clone, Args)]
pub(super) struct Standing {
    /// Stop only who writes to a volume that is replaced; without it, all of a backup in place stops the rest of the stack
    #[arg(long)]
    pub keep_running: bool,
    /// How long what was stopped may take to be healthy again, before all of it is undone
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub health_timeout: u64,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The stack; may be left out where there is one
    pub stack: Option<String>,
    /// Drop what in-place restores and rollbacks have kept aside, instead
    #[arg(long)]
    pub discard: bool,
    /// Leave volumes and folders as they are: databases and Redis alone go back, without any repository
    #[arg(long, conflicts_with = "discard")]
    pub without_volumes: bool,
    #[command(flatten)]
    pub standing: Standing,
    #[command(flatten)]
    pub wait: Wait,
    /// Print what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Do it without asking
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// The backup
    #[arg(value_name = "BACKUP")]
    pub backup: String,
    /// The artifact, as `lifeboat show` prints it, or a database's name
    #[arg(value_name = "ARTIFACT")]
    pub artifact: String,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a tag is KEY=VALUE".to_owned()),
    }
}

/// Whether arguments that are not understood are those of `guard`, whose exit codes are its command's.
pub(super) fn is_guard(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let command = Arguments::command().ignore_errors(true);
    let matches = command.try_get_matches_from(arguments);
    matches.is_ok_and(|matches| matches.subcommand_name() == Some("guard"))
}

//! The arguments of `lifeboat volume`.

#![expect(
    rustdoc::broken_intra_doc_links,
    reason = "these comments are the help texts, which are no Markdown"
)]

use super::{Quiesce, Wait, tag};
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum VolumeCommand {
    /// List volumes and mounted folders: how much is in them, who has them mounted, what backs them up
    Ls(VolumeLs),
    /// Show what is known of one
    Inspect(VolumeInspect),
    /// Back one up
    Backup(VolumeBackup),
    /// Restore the volumes of a backup: beside, or in the place of what is there
    Restore(VolumeRestore),
    /// Copy a volume, and read the copy
    Clone(VolumeCopy),
    /// Give a volume that no container has mounted another name: copied, compared, the old one removed last
    Rename(VolumeCopy),
    /// Copy a volume to another engine, streamed, and read it there
    Migrate(VolumeMigrate),
    /// Show how a volume differs from another one, or from what a backup has of it
    Diff(VolumeDiff),
    /// Remove volumes that no container has mounted and that a backup holds as they are now
    Rm(VolumeRm),
    /// Remove every volume that no container has mounted and that a backup holds as it is now
    Prune(VolumePrune),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct VolumeLs {
    /// Only this stack's
    pub stack: Option<String>,
    /// Do not measure how much is in them
    #[arg(long)]
    pub no_sizes: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct VolumeInspect {
    /// The volume, or bind:/path for a folder
    pub name: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct VolumeBackup {
    /// The volume, or bind:/path for a folder
    pub name: String,
    /// A mark of your own; repeatable
    #[arg(long, value_name = "K=V", value_parser = tag)]
    pub tag: Vec<(String, String)>,
    /// Mark it as one to keep, as lifeboat pin does
    #[arg(long)]
    pub pin: bool,
    /// What to do to containers that write to it meanwhile; their label lifeboat.quiesce wins
    #[arg(long, value_enum, value_name = "HOW")]
    pub quiesce: Option<Quiesce>,
    /// zstd level of the stored bytes [default: 1]
    #[arg(long, value_name = "1-19", value_parser = clap::value_parser!(u8).range(1..=19))]
    pub level: Option<u8>,
    #[command(flatten)]
    pub wait: Wait,
    /// Print what would be done
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["name", "in_place"]))]
pub(in crate::cli) struct VolumeRestore {
    /// The backup
    #[arg(value_name = "BACKUP")]
    pub backup: String,
    /// Only this volume, or bind:/path; repeatable [default: every one of the backup]
    #[arg(long, value_name = "NAME")]
    pub volume: Vec<String>,
    /// Restore one into a new volume; a folder into an empty one, or one that is not there yet
    #[arg(long = "as", value_name = "NEW")]
    pub name: Option<String>,
    /// Put it in the place of what is there, which is backed up first; a volume that is gone is made as it was
    #[arg(long)]
    pub in_place: bool,
    /// How long who was stopped may take to be healthy again, before all of it is undone
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub health_timeout: u64,
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
pub(in crate::cli) struct VolumeCopy {
    /// The volume
    #[arg(value_name = "A")]
    pub from: String,
    /// The new name
    #[arg(value_name = "B")]
    pub to: String,
    /// What to do to containers that write to it meanwhile; their label lifeboat.quiesce wins
    #[arg(long, value_enum, value_name = "HOW")]
    pub quiesce: Option<Quiesce>,
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
pub(in crate::cli) struct VolumeMigrate {
    /// The volume
    #[arg(value_name = "A")]
    pub from: String,
    /// The other engine: ssh://user@host, tcp://host:2376, unix:///path
    #[arg(long, value_name = "HOST")]
    pub to_engine: String,
    /// Its name there [default: the same]
    #[arg(long = "as", value_name = "B")]
    pub name: Option<String>,
    /// What to do to containers that write to it meanwhile; their label lifeboat.quiesce wins
    #[arg(long, value_enum, value_name = "HOW")]
    pub quiesce: Option<Quiesce>,
    #[command(flatten)]
    pub wait: Wait,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct VolumeDiff {
    /// The volume, or bind:/path for a folder
    #[arg(value_name = "A")]
    pub from: String,
    /// Another volume, bind:/path, or a backup
    #[arg(value_name = "B|BACKUP")]
    pub with: String,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["names", "project"]))]
pub(in crate::cli) struct VolumeRm {
    /// The volumes
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// A whole Compose project, as docker compose down -v does; backed up, pinned and read again first
    #[arg(long, value_name = "STACK")]
    pub project: Option<String>,
    /// Remove what no backup holds, too; with --project, make none
    #[arg(long)]
    pub no_backup: bool,
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
pub(in crate::cli) struct VolumePrune {
    /// Only this stack's
    pub stack: Option<String>,
    /// Remove what no backup holds, too
    #[arg(long)]
    pub no_backup: bool,
    #[command(flatten)]
    pub wait: Wait,
    /// Print what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Do it without asking
    #[arg(long, short)]
    pub yes: bool,
}

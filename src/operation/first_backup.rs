//! A backup of what is going to be replaced or removed, by the run that does it and under its lock.

use super::Context;
use super::backup::{BackupReport, BackupRequest, under_lock};
use super::hooks::Around;
use super::lock::Claim;
use super::sources::{SourceOptions, SourceService, SourcesByStack};
use super::volumes::BIND;
use crate::docker::lock::StackLock;
use crate::error::{Error, Result};
use crate::event::Observer;
use crate::manifest::BackupId;
use crate::repository::Repository;
use crate::schedule::Hooks;
use crate::stack::{ArtifactName, Stack};
use std::collections::BTreeMap;

/// The tag of such a backup: its value is the run that it was made for.
pub(super) const BEFORE: &str = "before";

/// Who backs up first, and where to.
pub(super) struct FirstBackup<'a> {
    pub context: &'a Context,
    pub stack: &'a Stack,
    pub services: &'a [SourceService],
    pub options: &'a SourceOptions,
    pub repository: &'a Repository,
    pub lock: &'a StackLock,
    pub observer: &'a dyn Observer,
}

impl FirstBackup<'_> {
    /// Backs all of the stack up, pinned.
    pub(super) async fn of_all(&self, options: &SourceOptions, run: &BackupId) -> Result<BackupId> {
        self.back_up(Vec::new(), options, run).await
    }

    /// Backs these artifacts up, pinned: no retention takes away what undoes `run`.
    pub(super) async fn of(&self, artifacts: &[ArtifactName], run: &BackupId) -> Result<BackupId> {
        let mut options = self.options.clone();
        options.exclude.clear();
        for artifact in artifacts {
            if let ArtifactName::Bind { path } = artifact {
                options.include.push(format!("{BIND}{path}"));
            }
        }
        let only = artifacts.iter().map(ToString::to_string).collect();
        self.back_up(only, &options, run).await
    }

    async fn back_up(
        &self,
        only: Vec<String>,
        options: &SourceOptions,
        run: &BackupId,
    ) -> Result<BackupId> {
        let request = BackupRequest {
            stack: Some(self.stack.name.clone()),
            repositories: vec![self.repository.clone()],
            unreachable: Vec::new(),
            only,
            include: Vec::new(),
            sources: SourcesByStack::new(),
            tags: BTreeMap::from([(BEFORE.to_owned(), run.to_string())]),
            pin: true,
            allow_partial: false,
            level: None,
            wait: None,
            quiesce: None,
            hooks: Hooks::default(),
            trigger: "before a change".to_owned(),
            dry_run: false,
        };
        let id = self.context.new_id()?;
        let claim = Claim {
            stack: self.stack,
            services: self.services,
            options,
            observer: self.observer,
            run: &id,
            operation: "backup",
            wait: None,
            dry_run: false,
        };
        match Box::pin(under_lock(
            self.context,
            &request,
            &claim,
            // It is part of another change, for which containers may be down already.
            Around::default(),
            Some(self.lock),
        ))
        .await?
        {
            BackupReport::Done(finished) => Ok(finished.commit.backup),
            BackupReport::Planned(_) => Err(Error::failed("the backup was only planned")),
        }
    }
}

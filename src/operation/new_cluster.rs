//! What a new PostgreSQL cluster begins with, so that a backup fits into it: its superuser and its roles.

use super::plain::globals_script;
use super::restore_plan::Incoming;
use crate::error::{Error, Result};
use crate::repository::Backup;
use crate::source::postgres::{ScriptRoles, Server, Session, about_role};
use crate::stack::ArtifactName;
use std::collections::BTreeSet;

/// Who the superuser is where nobody says otherwise.
const USUAL_SUPERUSER: &str = "postgres";

/// What a backup says of the cluster that one service had.
#[derive(Debug, Clone)]
pub(super) struct NewCluster {
    /// The role that makes the cluster.
    pub superuser: String,
    /// The script that makes the others; `None` where the backup has none.
    globals: Option<(String, ScriptRoles)>,
    /// The roles that its databases name.
    named: BTreeSet<String>,
}

/// What became of a cluster's roles.
#[derive(Debug, Default)]
pub(super) struct RolesMade {
    /// How many of the backup's there are now.
    pub count: usize,
    /// Statements that could not be replayed, and why.
    pub skipped: Vec<String>,
    /// Roles that stand in for those that the backup does not have: they can do nothing.
    pub placeholders: Vec<String>,
}

impl NewCluster {
    /// Reads the globals of a service.
    pub(super) async fn of(backup: &Backup, incoming: &[Incoming], service: &str) -> Result<Self> {
        let of_service = || {
            incoming
                .iter()
                .filter(|one| one.artifact.name.service() == Some(service))
        };
        let named = of_service()
            .filter_map(|one| one.facts.properties.as_ref())
            .flat_map(|properties| properties.roles().map(str::to_owned))
            .collect();
        let name = globals(service);
        let mut artifacts = backup.manifest().artifacts.iter();
        let Some(artifact) = artifacts.find(|artifact| artifact.name == name) else {
            return Ok(Self {
                superuser: USUAL_SUPERUSER.to_owned(),
                globals: None,
                named,
            });
        };
        let script = globals_script(backup, artifact).await?;
        let roles = ScriptRoles::of(&script);
        let first = of_service().find_map(|one| {
            let is_first = matches!(&one.artifact.name, ArtifactName::Database { database, .. } if database == "postgres");
            let properties = one.facts.properties.as_ref().filter(|_| is_first)?;
            Some(properties.owner.as_str())
        });
        let superuser = roles.first_superuser(first).unwrap_or(USUAL_SUPERUSER);
        Ok(Self {
            superuser: superuser.to_owned(),
            globals: Some((script, roles)),
            named,
        })
    }

    /// Makes all of the backup's roles; where it has none, such as can do nothing in the place of those that its
    /// databases name.
    pub(super) async fn create_roles(&self, server: &Server) -> Result<RolesMade> {
        let session = server.maintenance(&[]).await?;
        let Some((script, roles)) = &self.globals else {
            return Ok(RolesMade {
                placeholders: server.make_placeholders(&session, &self.named).await?,
                ..RolesMade::default()
            });
        };
        let replay = server.replay_globals(&session, script, None).await?;
        let missing = server.missing_roles(&session, &roles.all).await?;
        if !missing.is_empty() {
            return Err(Error::failed(format!(
                "the roles {} were not made",
                missing.join(", ")
            )));
        }
        Ok(RolesMade {
            count: roles.all.len(),
            skipped: replay.skipped,
            placeholders: Vec::new(),
        })
    }

    /// Gives the superuser the password, the attributes and the settings of the backup's. It is there since the cluster
    /// is, so that [`create_roles`](Self::create_roles) has left it as it is. Last of all: it may not be allowed to log
    /// in afterwards. Gives whether the backup has a password of it.
    pub(super) async fn settle_superuser(&self, session: &Session) -> Result<bool> {
        let Some((script, _)) = &self.globals else {
            return Ok(false);
        };
        let statements = about_role(script, &self.superuser);
        for statement in &statements {
            session.execute(statement).await?;
        }
        Ok(statements.iter().any(|text| text.contains(" PASSWORD ")))
    }
}

/// The artifact of a service's roles.
pub(super) fn globals(service: &str) -> ArtifactName {
    ArtifactName::Globals {
        service: service.to_owned(),
    }
}

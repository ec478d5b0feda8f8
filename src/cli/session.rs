//! What the commands have in common: configuration, repository, context.

use super::args::Global;
use super::environment;
use super::keys;
use super::signals::Signals;
use crate::config::{self, Loaded, Search};
use crate::docker::connect::connect;
use crate::error::{Error, Kind, Result, nearest};
use crate::event::Observer;
use crate::operation::Context;
use crate::operation::aftermath::resume_abandoned;
use crate::operation::helpers::HelperProgram;
use crate::operation::sources::{SourceOptions, SourcesByStack};
use crate::repository::{Access, Location, Repository};
use crate::source::Credentials;
use std::path::PathBuf;

/// The repository where nobody names one.
pub(super) const DEFAULT_REPOSITORY: &str = "./lifeboat-backups";

/// The surroundings of one command.
pub(super) struct Session {
    pub loaded: Loaded,
    /// `--repository`, each of them, or `LIFEBOAT_REPOSITORY`, as they were given.
    pub(super) named: Vec<String>,
    /// How buckets are reached.
    pub(super) access: Access,
    /// `--identity`, each of them.
    identities: Vec<PathBuf>,
    /// What is run next to volumes.
    helper: HelperProgram,
    /// Who hears when the run is to end.
    pub(super) signals: Signals,
    global: Global,
}

impl Session {
    /// Reads the configuration and starts to listen for SIGINT and SIGTERM.
    pub(super) fn start(global: &Global) -> Result<Self> {
        Self::read(global, Signals::listen())
    }

    /// The same with the configuration and the environment as they are now.
    pub(super) fn again(&self) -> Result<Self> {
        Self::read(&self.global, self.signals.clone())
    }

    /// The same, with holds in repositories of its own.
    pub(super) fn apart(&self) -> Result<Self> {
        Ok(Self {
            loaded: self.loaded.clone(),
            named: self.named.clone(),
            access: environment::access()?,
            identities: self.identities.clone(),
            helper: self.helper.clone(),
            signals: self.signals.clone(),
            global: self.global.clone(),
        })
    }

    fn read(global: &Global, signals: Signals) -> Result<Self> {
        let explicit = match &global.config {
            Some(path) => Some(path.clone()),
            None => environment::setting("LIFEBOAT_CONFIG")?.map(PathBuf::from),
        };
        let search = Search {
            explicit,
            folders: environment::config_folders(),
        };
        let named = match &global.repository[..] {
            [] => environment::setting("LIFEBOAT_REPOSITORY")?
                .into_iter()
                .collect(),
            named => named.to_vec(),
        };
        let helper = match &global.helper {
            Some(path) => Some(path.clone()),
            None => environment::setting("LIFEBOAT_HELPER")?.map(PathBuf::from),
        };
        Ok(Self {
            helper: HelperProgram::new(helper),
            loaded: config::load(&search, &environment::variable)?,
            named,
            identities: global.identity.clone(),
            access: environment::access()?,
            signals,
            global: global.clone(),
        })
    }

    /// Where the repository is: the option, the variable, the only one of the configuration, the default.
    pub(super) fn location(&self) -> Result<Location> {
        match &self.named[..] {
            [] => self.only_location(),
            [named] => self.find(named),
            _ => Err(
                Error::usage("this works on one repository, and several are named").hint(
                    "only backup takes several: lifeboat copy brings a backup from one to another",
                ),
            ),
        }
    }

    /// Every repository that is named; else the one that [`Session::location`] finds.
    pub(super) fn locations(&self) -> Result<Vec<Location>> {
        if self.named.is_empty() {
            return Ok(vec![self.only_location()?]);
        }
        let mut locations = Vec::new();
        for named in &self.named {
            let location = self.find(named)?;
            if locations.contains(&location) {
                return Err(Error::usage(format!("{location} is named twice")));
            }
            locations.push(location);
        }
        Ok(locations)
    }

    /// The repository where none is named.
    fn only_location(&self) -> Result<Location> {
        let repositories = &self.loaded.config.repository;
        let mut urls = repositories.values();
        match (urls.next(), urls.next()) {
            (Some(only), None) => only.url.as_ref().parse(),
            (None, _) => DEFAULT_REPOSITORY.parse(),
            _ => {
                let names: Vec<&str> = repositories.keys().map(String::as_str).collect();
                Err(
                    Error::usage("several repositories are configured: say which one")
                        .hint(format!("--repository {}", names.join(" or "))),
                )
            }
        }
    }

    /// The repository of a name from the configuration, or at an address.
    pub(super) fn find(&self, named: &str) -> Result<Location> {
        let repositories = &self.loaded.config.repository;
        if let Some(repository) = repositories.get(named) {
            return repository.url.as_ref().parse();
        }
        let looks_like_a_name = !named.contains(['/', ':', '.']);
        if looks_like_a_name && !std::path::Path::new(named).exists() && !repositories.is_empty() {
            let near = nearest(named, repositories.keys().map(String::as_str)).join(" or ");
            let known: Vec<&str> = repositories.keys().map(String::as_str).collect();
            return Err(
                Error::usage(format!("no repository is called {named:?}")).hint(
                    if near.is_empty() {
                        format!("lifeboat.toml has {}", known.join(", "))
                    } else {
                        format!("did you mean {near}?")
                    },
                ),
            );
        }
        named.parse()
    }

    /// The repository, opened.
    pub(super) async fn repository(&self) -> Result<Repository> {
        let repository = Repository::open(&self.location()?, &self.access).await?;
        self.with_keys(repository, &[])
    }

    /// The repository that is named; without a name the one at `address`, where that is known.
    pub(super) async fn repository_or(&self, address: Option<&str>) -> Result<Repository> {
        let location = match address {
            Some(address) if self.named.is_empty() => address.parse()?,
            _ => self.location()?,
        };
        let repository = Repository::open(&location, &self.access).await?;
        self.with_keys(repository, &[])
    }

    /// The repository with the keys at hand: `--identity`, `LIFEBOAT_IDENTITY`, `LIFEBOAT_PASSPHRASE`, the
    /// configuration's; and `recipients`, or the configuration's, for new backups.
    fn with_keys(&self, repository: Repository, recipients: &[String]) -> Result<Repository> {
        let config = &self.loaded.config;
        Ok(repository
            .with_keys(keys::keys(&self.identities, config)?)
            .with_protection(keys::protection(recipients, config)?))
    }

    /// The repository for whoever only looks: with the keys at hand; without where they cannot be read, which hides no
    /// more than names.
    pub(super) fn with_keys_at_hand(&self, repository: Repository) -> Repository {
        match keys::keys(&self.identities, &self.loaded.config) {
            Ok(keys) => repository.with_keys(keys),
            Err(_) => repository,
        }
    }

    /// Every repository that is named, opened; and by address those that cannot be, with the reason. One that is
    /// out of reach must not keep the others from their backup. New backups are encrypted to `recipients`, or to the
    /// configuration's.
    ///
    /// # Errors
    /// Where none can be opened, and where an address is wrong.
    pub(super) async fn repositories(
        &self,
        recipients: &[String],
    ) -> Result<(Vec<Repository>, Vec<(String, Error)>)> {
        self.open_all(self.locations()?, recipients).await
    }

    /// As [`Session::repositories`], of the repositories that a schedule names; where it names none, of those that a
    /// command without `--repository` would take.
    pub(super) async fn repositories_of(
        &self,
        named: &[String],
    ) -> Result<(Vec<Repository>, Vec<(String, Error)>)> {
        self.open_all(self.locations_of(named)?, &[]).await
    }

    /// Where those are.
    pub(super) fn locations_of(&self, named: &[String]) -> Result<Vec<Location>> {
        match named.is_empty() {
            true => self.locations(),
            false => named.iter().map(|name| self.find(name)).collect(),
        }
    }

    async fn open_all(
        &self,
        locations: Vec<Location>,
        recipients: &[String],
    ) -> Result<(Vec<Repository>, Vec<(String, Error)>)> {
        let access = self.access.clone().for_lanes(locations.len());
        let (mut opened, mut unreachable) = (Vec::new(), Vec::new());
        for location in locations {
            match Repository::open(&location, &access).await {
                Ok(repository) => opened.push(self.with_keys(repository, recipients)?),
                Err(error) if error.kind() == Kind::Usage => return Err(error),
                Err(error) => unreachable.push((location.to_string(), error)),
            }
        }
        match (opened.is_empty(), unreachable.pop()) {
            (true, Some((_, error))) => Err(error),
            (_, last) => {
                unreachable.extend(last);
                Ok((opened, unreachable))
            }
        }
    }

    /// What the configuration says about sources, secrets resolved.
    pub(super) fn sources(&self) -> Result<SourcesByStack> {
        let mut stacks = SourcesByStack::new();
        for (name, configured) in &self.loaded.config.stack {
            let mut options = SourceOptions {
                exclude: configured.exclude.clone(),
                include: configured.include.clone(),
                include_files: configured.include_files.clone(),
                compress: configured.compress,
                level: configured.level.as_ref().map(|level| *level.as_ref()),
                ..SourceOptions::default()
            };
            for (service, login) in configured.postgres.iter().chain(&configured.redis) {
                let credentials = Credentials {
                    user: login.user.clone(),
                    password: login
                        .password
                        .as_ref()
                        .map(environment::resolve)
                        .transpose()?,
                };
                options.credentials.insert(service.clone(), credentials);
            }
            stacks.insert(name.clone(), options);
        }
        Ok(stacks)
    }

    /// A context without an engine.
    pub(super) fn context(&self) -> Result<Context> {
        Ok(Context {
            clock: environment::now,
            cancel: self.signals.cancelled(),
            engine: None,
            state: environment::state_folder()?,
            host: environment::host(),
            helper: self.helper.clone(),
        })
    }

    /// A context with the engine that `docker` would use.
    ///
    /// What a dead run had stopped is started, whoever asks for the engine next.
    pub(super) async fn context_with_engine(&self, observer: &dyn Observer) -> Result<Context> {
        let engine = connect(&environment::connect_options()).await?;
        let context = Context {
            engine: Some(engine),
            ..self.context()?
        };
        resume_abandoned(&context, || self.sources(), observer).await?;
        Ok(context)
    }
}

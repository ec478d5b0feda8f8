//! Which files of a project are captured, and which are not.
//!
//! A symbolic link is kept as a link. Where it leads to something inside of the project, that is captured, too; what is
//! outside is never reached by way of a link.

use super::compose::{self, What};
use super::pattern::Pattern;
use super::reach::{Reached, follow, normal, read};
use super::secret::is_secret;
use super::yaml;
use crate::archive::{Chosen, shown};
use crate::error::{Error, OrFail, Result};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The most that a project's files may hold together, in bytes: they are no data.
pub const MOST_BYTES: u64 = 64 << 20;
/// The folder of the archive that holds what is outside of the project's folder, under its absolute path.
pub const OUTSIDE: &str = "_outside";
/// The largest file, in bytes, that comes along because a Compose file names it.
const LARGEST_NAMED: u64 = 1 << 20;
/// The most files, and the most that are looked at for a pattern.
const MOST_FILES: usize = 10_000;
const MOST_LOOKED_AT: usize = 200_000;
/// The most Compose files that name one another.
const MOST_COMPOSE_FILES: usize = 64;
/// How many names a message has at the most.
const SHOWN: usize = 5;

/// What a stack's containers and its configuration say about its files.
#[derive(Debug, Clone, Default)]
pub struct Project {
    /// The project's folder: label `com.docker.compose.project.working_dir`.
    pub folder: PathBuf,
    /// Its Compose files: label `com.docker.compose.project.config_files`.
    pub compose_files: Vec<PathBuf>,
    /// Files of variables that Compose was given: label `com.docker.compose.project.environment_file`.
    pub environment_files: Vec<PathBuf>,
    /// What is captured besides; what begins with `!` is not.
    pub include: Vec<String>,
    /// Whether the backup is encrypted: only then it holds secrets.
    pub encrypted: bool,
}

/// The files that are captured.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The project's folder.
    pub folder: PathBuf,
    /// Paths below it.
    pub inside: Chosen,
    /// Paths below `/`.
    pub outside: Chosen,
    /// Secrets that are not captured, since the backup is not encrypted.
    pub left_out: Vec<String>,
    /// What else is not captured that may be missed.
    pub notes: Vec<String>,
    /// What is of interest only to whoever wants to know everything.
    pub details: Vec<String>,
}

impl Selection {
    /// Whether there is nothing to capture.
    pub fn is_empty(&self) -> bool {
        self.inside.is_empty() && self.outside.is_empty()
    }
}

/// Looks which files there are.
///
/// # Errors
/// Usage where the configuration names a secret and the backup is not encrypted; failed where something that the
/// configuration names is not there or cannot be read, or all of it is too much.
pub fn select(project: &Project) -> Result<Selection> {
    let excluded = |text: &String| text.strip_prefix('!').map(|text| Wish::of(text, project));
    let mut finder = Finder {
        project,
        excluded: project.include.iter().filter_map(excluded).collect(),
        found: BTreeMap::new(),
        secrets: BTreeSet::new(),
        refused: BTreeSet::new(),
        looked_at: 0,
        chosen: Selection {
            folder: project.folder.clone(),
            ..Selection::default()
        },
    };
    finder.defaults()?;
    let wanted = project.include.iter();
    for text in wanted.filter(|text| !text.starts_with('!')) {
        finder.wish(text)?;
    }
    finder.finish()
}

/// Why a file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The configuration asks for it.
    Asked,
    /// The configuration asks for more than it: it is in a folder, or as a pattern says.
    Below,
    /// It is one of the project's Compose files, or of its variables.
    Own,
    /// A Compose file names it.
    Named,
}

/// A pattern of the configuration, and where its paths begin.
struct Wish {
    root: PathBuf,
    pattern: Pattern,
}

impl Wish {
    fn of(text: &str, project: &Project) -> Self {
        let root = match text.starts_with('/') {
            true => PathBuf::from("/"),
            false => project.folder.clone(),
        };
        let pattern = Pattern::new(text);
        Self { root, pattern }
    }

    fn means(&self, path: &Path) -> bool {
        let below = path.strip_prefix(&self.root);
        below.is_ok_and(|below| self.pattern.matches(&below.to_string_lossy()))
    }
}

struct Finder<'p> {
    project: &'p Project,
    excluded: Vec<Wish>,
    /// What is captured, by absolute path, with its length in bytes.
    found: BTreeMap<PathBuf, u64>,
    /// Files that a Compose file calls secrets.
    secrets: BTreeSet<PathBuf>,
    /// Secrets that the configuration asks for and the backup must not hold.
    refused: BTreeSet<String>,
    looked_at: usize,
    chosen: Selection,
}

impl Finder<'_> {
    /// The project's Compose files and what they name, and its variables.
    fn defaults(&mut self) -> Result<()> {
        let mut environment = self.project.environment_files.clone();
        if environment.is_empty() {
            environment.push(self.project.folder.join(".env"));
        }
        let mut variables = BTreeMap::new();
        for file in &environment {
            if let Ok(text) = read(file) {
                variables.extend(compose::variables(&text));
            }
            self.secrets.insert(normal(file));
            self.add(file, Why::Own)?;
        }
        let folder = &self.project.folder;
        let files = self.project.compose_files.iter();
        let mut waiting: VecDeque<(PathBuf, PathBuf)> =
            files.map(|file| (normal(file), folder.clone())).collect();
        let mut seen = BTreeSet::new();
        while let Some((file, folder)) = waiting.pop_front() {
            if seen.len() < MOST_COMPOSE_FILES && seen.insert(file.clone()) {
                self.compose_file(&file, &folder, &variables, &mut waiting)?;
            }
        }
        Ok(())
    }

    /// One Compose file, whose paths begin in `folder`.
    fn compose_file(
        &mut self,
        file: &Path,
        folder: &Path,
        variables: &BTreeMap<String, String>,
        waiting: &mut VecDeque<(PathBuf, PathBuf)>,
    ) -> Result<()> {
        let name = self.shown(file);
        let is_called_so = matches!(file.extension(), Some(end) if end == "yaml" || end == "yml");
        let documents = match read(file).and_then(|text| yaml::load(&text)) {
            Ok(documents) if documents.iter().any(compose::is_compose) => documents,
            // Whoever made a container chose its labels: not every file that one names is for a backup.
            _ if !is_called_so && file.exists() => {
                let detail = format!("{name} is not captured: it is no Compose file");
                self.chosen.details.push(detail);
                return Ok(());
            }
            Ok(documents) => documents,
            Err(error) if file.exists() => {
                let note = format!(
                    "{name} cannot be read as a Compose file, what it names is not captured: {}",
                    error.chain()
                );
                self.chosen.notes.push(note);
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        self.add(file, Why::Own)?;
        for document in &documents {
            let (named, unknown) = compose::named(document, variables);
            for path in unknown {
                let detail = format!(
                    "{path} of {name} is not looked for: it has a variable that is not known here"
                );
                self.chosen.details.push(detail);
            }
            for one in named {
                let path = normal(&folder.join(&one.path));
                match one.what {
                    What::Compose { folder: own } => {
                        let own = own.map(|own| normal(&folder.join(own)));
                        let beside = path.parent().map(Path::to_owned);
                        waiting.push_back((path, own.or(beside).unwrap_or_default()));
                    }
                    What::Environment | What::Secret => {
                        self.secrets.insert(path.clone());
                        self.add(&path, Why::Named)?;
                    }
                    What::Config => self.add(&path, Why::Named)?,
                    // What is mounted from elsewhere is the machine's, and a folder is data.
                    What::Mount if path.starts_with(&self.project.folder) && !path.is_dir() => {
                        self.add(&path, Why::Named)?;
                    }
                    What::Mount => {}
                }
            }
        }
        Ok(())
    }

    /// One of `include_files`.
    fn wish(&mut self, text: &str) -> Result<()> {
        let wish = Wish::of(text, self.project);
        if wish.pattern.leaves() {
            return Err(Error::usage(format!(
                "include_files has {text:?}: a path that leaves the project's folder is written from / on"
            )));
        }
        if wish.pattern.is_literal() {
            return self.add(&wish.root.join(text.trim_end_matches('/')), Why::Asked);
        }
        let before = self.found.len() + self.refused.len();
        let start = wish.root.join(wish.pattern.fixed());
        self.below(&start, Some(&wish))?;
        if self.found.len() + self.refused.len() == before {
            let note = format!("include_files: nothing more is called {text}");
            self.chosen.notes.push(note);
        }
        Ok(())
    }

    /// All below a folder that is meant; links are not followed on the way.
    fn below(&mut self, folder: &Path, wish: Option<&Wish>) -> Result<()> {
        let failed = || format!("include_files: cannot list {}", self.shown(folder));
        let entries = fs::read_dir(folder).or_fail(failed)?;
        let mut paths = Vec::new();
        for entry in entries {
            let entry = entry.or_fail(failed)?;
            let is_folder = entry.file_type().or_fail(failed)?.is_dir();
            paths.push((entry.path(), is_folder));
        }
        paths.sort();
        self.looked_at += paths.len();
        if self.looked_at > MOST_LOOKED_AT {
            return Err(Error::failed(format!(
                "include_files: more than {MOST_LOOKED_AT} files would have to be looked at"
            ))
            .hint("name the folders that are meant: conf/** rather than **"));
        }
        for (path, is_folder) in paths {
            let relative = |wish: &Wish| {
                let below = path.strip_prefix(&wish.root).unwrap_or(&path);
                below.to_string_lossy().into_owned()
            };
            match wish {
                _ if self.is_excluded(&path) => {}
                Some(wish) if is_folder => {
                    if wish.pattern.may_be_below(&relative(wish)) {
                        self.below(&path, Some(wish))?;
                    }
                }
                None if is_folder => self.below(&path, None)?,
                Some(wish) if !wish.pattern.matches(&relative(wish)) => {}
                _ => self.add(&path, Why::Below)?,
            }
        }
        Ok(())
    }

    fn is_excluded(&self, path: &Path) -> bool {
        self.excluded.iter().any(|wish| wish.means(path))
    }

    /// A file, a link, or a folder that is asked for.
    fn add(&mut self, path: &Path, why: Why) -> Result<()> {
        let path = normal(path);
        if self.is_excluded(&path) {
            return Ok(());
        }
        let mut on_the_way = Vec::new();
        let reached = match follow(&self.project.folder, &path, &mut on_the_way) {
            Ok(Reached::There(reached)) => reached,
            Ok(Reached::Elsewhere(target)) => {
                let note = format!(
                    "{} leads to {}, which is not followed: include_files can name it",
                    self.shown(&path),
                    shown(target.as_os_str().as_bytes())
                );
                self.chosen.notes.push(note);
                return self.take(&path, &on_the_way, None, why);
            }
            // A link that leads nowhere is as good as any.
            Err(_) if why == Why::Below && !on_the_way.is_empty() => {
                return self.take(&path, &on_the_way, None, why);
            }
            Err(error) => return self.missing(&path, &error, why),
        };
        let looked = fs::symlink_metadata(&reached);
        let looked = match looked {
            Ok(looked) => looked,
            Err(error) => return self.missing(&path, &error, why),
        };
        if looked.is_dir() {
            return match why {
                Why::Asked => {
                    self.take(&path, &on_the_way, None, why)?;
                    self.below(&reached, None)
                }
                // A link to a folder, which may be the one that it is in.
                Why::Below => self.take(&path, &on_the_way, None, why),
                Why::Own | Why::Named => Ok(()),
            };
        }
        if !looked.is_file() {
            if matches!(why, Why::Asked | Why::Below) {
                let note = format!("{} is no file, and not captured", self.shown(&path));
                self.chosen.notes.push(note);
            }
            return Ok(());
        }
        if why == Why::Named && looked.len() > LARGEST_NAMED {
            let note = format!(
                "{} has {} bytes, and is captured only where include_files names it",
                self.shown(&path),
                looked.len()
            );
            self.chosen.notes.push(note);
            return Ok(());
        }
        self.take(&path, &on_the_way, Some((reached, looked.len())), why)
    }

    /// Chooses a file and the links on the way to it, unless it is a secret that must not be in the backup.
    fn take(
        &mut self,
        path: &Path,
        links: &[PathBuf],
        file: Option<(PathBuf, u64)>,
        why: Why,
    ) -> Result<()> {
        let mut names = vec![path.to_owned()];
        names.extend(links.iter().cloned());
        names.extend(file.iter().map(|(file, _)| file.clone()));
        let is_secret =
            |name: &PathBuf| self.secrets.contains(name) || is_secret(&self.shown(name));
        let is_only_a_link = file.is_none();
        if !self.project.encrypted && !is_only_a_link && names.iter().any(is_secret) {
            match why {
                Why::Asked | Why::Below => drop(self.refused.insert(self.shown(path))),
                Why::Own | Why::Named => {
                    let name = self.shown(path);
                    if !self.chosen.left_out.contains(&name) {
                        self.chosen.left_out.push(name);
                    }
                }
            }
            return Ok(());
        }
        if let Some((file, _)) = &file
            && let Err(error) = File::open(file)
        {
            return self.missing(path, &error, why);
        }
        let links = links.iter().map(|link| (link.clone(), 0));
        self.found.extend(links.chain(file));
        if self.found.len() > MOST_FILES {
            return Err(too_much(&format!("more than {MOST_FILES}")));
        }
        Ok(())
    }

    /// A file is not there, or cannot be read.
    fn missing(&mut self, path: &Path, error: &std::io::Error, why: Why) -> Result<()> {
        let name = self.shown(path);
        let is_gone = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
        match (why, is_gone) {
            (Why::Asked | Why::Below, _) => Err(Error::failed(format!(
                "include_files: cannot read {name}: {error}"
            ))
            .hint("correct include_files in lifeboat.toml, or run lifeboat where the file can be read")),
            // Compose does without, too.
            (_, true) => Ok(()),
            (_, false) => {
                let note = format!("{name} is not captured: {error}");
                self.chosen.notes.push(note);
                Ok(())
            }
        }
    }

    /// A path for people: below the project's folder without it.
    fn shown(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.project.folder).unwrap_or(path);
        shown(path.as_os_str().as_bytes())
    }

    fn finish(mut self) -> Result<Selection> {
        if !self.refused.is_empty() {
            let mut names: Vec<&str> = self.refused.iter().map(String::as_str).collect();
            let more = names.len().saturating_sub(SHOWN);
            names.truncate(SHOWN);
            let others = match more {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            return Err(Error::usage(format!(
                "include_files names secrets, and the backup is not encrypted: {}{others}",
                names.join(", ")
            ))
            .hint(format!(
                "encrypt the backup ([encryption] in lifeboat.toml, or --recipient), or leave it out: include_files = [\"!{}\"]",
                names.first().unwrap_or(&"")
            )));
        }
        let bytes = self
            .found
            .values()
            .fold(0, |sum: u64, one| sum.saturating_add(*one));
        if bytes > MOST_BYTES {
            return Err(too_much(&format!("{bytes} bytes")));
        }
        for path in self.found.keys() {
            let inside = path.strip_prefix(&self.project.folder);
            match inside {
                Ok(inside) if inside.starts_with(OUTSIDE) => {
                    return Err(Error::failed(format!(
                        "the project has something called {OUTSIDE}, where files from outside of it are kept in the archive"
                    ))
                    .hint(format!("include_files = [\"!{OUTSIDE}\"] leaves it out")));
                }
                Ok(inside) => self.chosen.inside.add(inside.as_os_str().as_bytes())?,
                Err(_) => {
                    let below = path.strip_prefix("/").unwrap_or(path);
                    self.chosen.outside.add(below.as_os_str().as_bytes())?;
                }
            }
        }
        Ok(self.chosen)
    }
}

fn too_much(what: &str) -> Error {
    Error::failed(format!("the project's files are {what}: they are for what the stack is started from"))
        .hint(format!(
            "name less in include_files ({} MiB at the most); folders of data are captured with include = [\"bind:/path\"]",
            MOST_BYTES >> 20
        ))
}

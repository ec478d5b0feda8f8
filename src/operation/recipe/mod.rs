//! `RESTORE.md`: how to restore one very backup with stock tools and without lifeboat, from an empty engine on.
//!
//! It stays readable where the rest is encrypted. There it names artifacts, keys and sizes only: no table, owner, count
//! or label; what it needs of those, its commands read from what they decrypt.
//!
//! | file | what it writes |
//! | --- | --- |
//! | `project` | the project's files, its volumes and networks, its start |
//! | `stores` | databases, snapshots, volumes and folders |
//! | `words` | names in commands and in text |

mod project;
mod stores;
mod words;

use crate::manifest::{Artifact, Encoding, Manifest};
use crate::stack::{ArtifactName, SourceKind, Stack};
use project::Setting;
use serde_json::Value;
use std::fmt::Write as _;

/// What a recipe is made from.
pub(super) struct Recipe<'a> {
    pub manifest: &'a Manifest,
    pub stack: &'a Stack,
    /// What the engine said of the stack.
    pub described: &'a Value,
    /// Whether `SHA256SUMS` is signed.
    pub signed: bool,
}

/// Sections with their numbers.
#[derive(Default)]
struct Sections {
    text: String,
    count: usize,
}

impl Sections {
    fn add(&mut self, title: &str, body: &str) {
        self.count += 1;
        let _ = write!(self.text, "\n## {}. {title}\n\n{body}", self.count);
    }
}

impl Recipe<'_> {
    /// Its text, Markdown. The blocks of shell, one after the other in one Bash, restore all of the stack.
    pub(super) fn text(&self) -> String {
        let setting = Setting::of(self);
        let mut sections = Sections::default();
        sections.add("Check that every byte is what was written", &self.check());
        sections.add("Say what is restored, and where to", &setting.names(self));
        if let Some(files) = self.first(&ArtifactName::Files) {
            sections.add("The project's files", &setting.files(files));
        }
        if let Some(made) = setting.made(self) {
            sections.add("Volumes and networks", &made);
        }
        for artifact in self.of(SourceKind::Volume) {
            let title = artifact.name.to_string();
            sections.add(&title, &stores::tree(artifact, self.manifest));
        }
        if let Some(start) = setting.start_servers(self) {
            sections.add("Start the servers, and nothing else", &start);
        }
        for service in services(&self.of(SourceKind::Postgres)) {
            let title = format!("Roles and names of service {}", words::plain(service));
            sections.add(&title, &stores::cluster(service, self.manifest));
            for artifact in self.of(SourceKind::Postgres) {
                let is_database = matches!(artifact.name, ArtifactName::Database { .. });
                if is_database && artifact.name.service() == Some(service) {
                    sections.add(&artifact.name.to_string(), &stores::database(artifact));
                }
            }
        }
        for artifact in self.of(SourceKind::Redis) {
            sections.add(&artifact.name.to_string(), &stores::snapshot(artifact));
        }
        if let Some(start) = setting.start_all() {
            sections.add("Start the stack", &start);
        }
        format!(
            "{}{}{}",
            self.introduction(),
            sections.text,
            self.contents()
        )
    }

    fn of(&self, kind: SourceKind) -> Vec<&Artifact> {
        let artifacts = self.manifest.artifacts.iter();
        artifacts
            .filter(|artifact| artifact.name.source_kind() == kind)
            .collect()
    }

    fn first(&self, name: &ArtifactName) -> Option<&Artifact> {
        let mut artifacts = self.manifest.artifacts.iter();
        artifacts.find(|artifact| artifact.name == *name)
    }

    fn is_encrypted(&self) -> bool {
        is_encrypted(self.manifest)
    }

    fn introduction(&self) -> String {
        let manifest = self.manifest;
        let mut text = format!(
            "# Restoring {stack}/{id} by hand\n\n\
             lifeboat {version} wrote this backup on {finished}. It needs no lifeboat to be restored: `sha256sum`, `zstd`, GNU\n\
             `tar`, Docker and the programs of the containers are enough{more}. Run the commands in this folder, one after the\n\
             other in one Bash; they restore the whole stack onto an empty engine. Where only a part of it is wanted, run the\n\
             first two sections, and those of that part.\n",
            stack = words::plain(&manifest.stack),
            id = manifest.backup,
            version = manifest.lifeboat_version,
            finished = manifest.finished.format("%Y-%m-%d %H:%M:%S UTC"),
            more = match self.is_encrypted() {
                true => ", with `age` and `jq`",
                false => "",
            },
        );
        if !manifest.complete {
            text.push_str(
                "\nThis backup is partial; `reasons` in manifest.json say what is missing.\n",
            );
        }
        if self.is_encrypted() {
            text.push_str(
                "\nIt is encrypted with [age](https://age-encryption.org). `IDENTITY` is the file with the private key; where it was\n\
                 encrypted to a passphrase, leave `--identity \"$IDENTITY\"` out, and age asks for it.\n",
            );
        }
        if manifest.hidden_names {
            text.push_str(
                "\nNames of databases, volumes and folders are hidden. `names` in the facts says what they stand for:\n\
                 `age --decrypt --identity \"$IDENTITY\" facts.json.zst.age | zstd -dc`.\n",
            );
        }
        text
    }

    fn check(&self) -> String {
        let mut text = "```sh\nsha256sum --check --quiet SHA256SUMS\n```\n".to_owned();
        if self.signed {
            text.push_str(
                "\nThe check sums are signed. `PUBLIC_KEY` is the public key that you know, from elsewhere than this folder; the\n\
                 trusted comment that is printed names this backup and its stack.\n\n\
                 ```sh\nminisign -Vm SHA256SUMS -P \"$PUBLIC_KEY\"\n```\n",
            );
        }
        text
    }

    fn contents(&self) -> String {
        let suffix = if self.is_encrypted() { ".age" } else { "" };
        format!(
            "\n## What is in this folder\n\n\
             `manifest.json` says what each artifact is, where it came from and how large it is; `facts.json.zst{suffix}` what was\n\
             counted in it (rows, sequences, extensions), for comparison after a restore; `stack.json.zst{suffix}` how the engine\n\
             described the stack.\n",
        )
    }
}

fn is_encrypted(manifest: &Manifest) -> bool {
    let mut artifacts = manifest.artifacts.iter();
    artifacts.any(|artifact| artifact.encoding.last() == Some(&Encoding::Age))
}

/// The services of artifacts, each once.
fn services<'a>(artifacts: &[&'a Artifact]) -> Vec<&'a str> {
    let mut services = Vec::new();
    for service in artifacts.iter().filter_map(|one| one.name.service()) {
        if !services.contains(&service) {
            services.push(service);
        }
    }
    services
}

//! What is around the stores in a recipe: the project's files, its volumes and networks, its start.

use super::words::{command_word, decode};
use super::{Recipe, services};
use crate::manifest::Artifact;
use crate::source::files::OUTSIDE;
use crate::stack::{ArtifactName, SourceKind};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

const PROJECT: &str = "com.docker.compose.project";
const FOLDER: &str = "com.docker.compose.project.working_dir";
const COMPOSE_FILES: &str = "com.docker.compose.project.config_files";
/// What Docker gives to volumes that nobody named.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// How the stack was started, and how its backup is to be read.
pub(super) struct Setting {
    started: Started,
    encrypted: bool,
    has_files: bool,
}

/// Who started a stack's containers.
#[derive(PartialEq, Eq)]
enum Started {
    Compose,
    /// Somebody who gave them a project's labels.
    Labelled,
    ByHand,
}

impl Setting {
    pub(super) fn of(recipe: &Recipe<'_>) -> Self {
        let has = |label: &str| {
            let mut services = recipe.stack.services.iter();
            services.any(|service| service.labels.contains_key(label))
        };
        Self {
            started: match (has(COMPOSE_FILES), has(PROJECT)) {
                (true, _) => Started::Compose,
                (false, true) => Started::Labelled,
                (false, false) => Started::ByHand,
            },
            encrypted: recipe.is_encrypted(),
            has_files: recipe.first(&ArtifactName::Files).is_some(),
        }
    }

    fn is_compose(&self) -> bool {
        self.started == Started::Compose
    }

    /// What the other sections refer to.
    pub(super) fn names(&self, recipe: &Recipe<'_>) -> String {
        let stack = command_word(&recipe.manifest.stack);
        let container = match self.started {
            Started::Compose | Started::Labelled => {
                "docker ps --all --quiet --filter \"label=com.docker.compose.project=$STACK\" \\\n    \
                 --filter \"label=com.docker.compose.service=$1\" | head -n 1"
            }
            Started::ByHand => "docker ps --all --quiet --filter \"name=^/$1\\$\"",
        };
        let mut commands = format!("[ \"${{STACK:-}}\" ] || STACK={stack}\n");
        let words = match self.is_compose() {
            true => {
                "`STACK` is the project's name, and `PROJECT` the folder that its files are in, or come to. Set them before to\n\
                 choose others."
            }
            false => "`STACK` is the stack that is restored.",
        };
        if self.is_compose() {
            let folder = crate::stack::encode(&recipe.manifest.stack);
            let _ = writeln!(commands, "[ \"${{PROJECT:-}}\" ] || PROJECT=/srv/{folder}");
        }
        let _ = writeln!(commands, "container() {{\n  {container}\n}}");
        if self.is_compose() {
            commands.push_str(
                "compose() {\n  (cd \"$PROJECT\" && docker compose --project-name \"$STACK\" \"$@\")\n}\n",
            );
        }
        if self.encrypted {
            commands.push_str(
                "described() {\n  age --decrypt --identity \"$IDENTITY\" stack.json.zst.age | zstd -dc\n}\n",
            );
        }
        commands.push_str(&self.compose_files(recipe));
        format!("{words}\n\n```sh\n{commands}```\n")
    }

    /// Tells Compose its files, as it was told.
    fn compose_files(&self, recipe: &Recipe<'_>) -> String {
        if !self.is_compose() {
            return String::new();
        }
        if self.encrypted {
            return format!(
                "COMPOSE_FILE=$(described | jq --raw-output '[.stack.services[].labels | select(.\"{COMPOSE_FILES}\")][0]\n  \
                 | .\"{FOLDER}\" as $folder | .\"{COMPOSE_FILES}\" / \",\"\n  \
                 | map(if startswith($folder + \"/\") then .[($folder | length) + 1:] else \"{OUTSIDE}\" + . end) | join(\":\")')\n\
                 export COMPOSE_FILE\n"
            );
        }
        let labels = recipe.stack.services.iter().map(|service| &service.labels);
        let Some(labels) = labels
            .into_iter()
            .find(|labels| labels.contains_key(COMPOSE_FILES))
        else {
            return String::new();
        };
        let of = |label: &str| labels.get(label).map(String::as_str).unwrap_or_default();
        let files: Vec<String> = of(COMPOSE_FILES)
            .split(',')
            .map(|file| match Path::new(file).strip_prefix(of(FOLDER)) {
                Ok(below) => below.to_string_lossy().into_owned(),
                Err(_) => format!("{OUTSIDE}{file}"),
            })
            .collect();
        format!("export COMPOSE_FILE={}\n", command_word(&files.join(":")))
    }

    pub(super) fn files(&self, files: &Artifact) -> String {
        let secrets = match self.encrypted {
            true => "",
            false => {
                " Secrets (`.env`, `secrets/`) are not among them, since\n\
                 the backup is not encrypted: `notes` in manifest.json name them. Put them into `PROJECT` before you go on."
            }
        };
        format!(
            "Files that were outside of the project's folder are in `{OUTSIDE}`, under their absolute paths.{secrets}\n\n\
             ```sh\nmkdir -p \"$PROJECT\"\n{decode} \\\n  | tar --extract --same-permissions --numeric-owner --directory=\"$PROJECT\" --file=-\n```\n",
            decode = decode(files),
        )
    }

    /// What Compose would find wrong where it were made otherwise, or does not make.
    pub(super) fn made(&self, recipe: &Recipe<'_>) -> Option<String> {
        const WORDS: &str = "With the drivers, labels and options that they had: Compose compares them. What is there stays as it is. Networks\n\
             that are the project's own, Compose makes.";
        if self.encrypted {
            return Some(format!(
                "{WORDS} The commands are read from `stack.json`; leave `| sh` out to see them.\n\n\
                 ```sh\ndescribed | jq --raw-output '\n\
                 def labels: .Labels // {{}} | to_entries | map(select(.key | test(\"\\\\s\") | not) | \"--label\", \"\\(.key)=\\(.value)\");\n\
                 def options: .Options // {{}} | to_entries | map(\"--opt\", \"\\(.key)=\\(.value)\");\n\
                 (.volumes[]? | select(.Labels.\"{ANONYMOUS}\" == null)\n  \
                 | [\"docker\", \"volume\", \"create\", \"--driver\", .Driver] + labels + options + [\"--\", .Name] | map(@sh) | join(\" \")),\n\
                 (.networks[]? | select(.Labels.\"{PROJECT}\" == null) | \"docker network inspect -- \\(.Name | @sh) >/dev/null 2>&1 || \"\n  \
                 + ([\"docker\", \"network\", \"create\", \"--driver\", .Driver] + labels + options\n  \
                 + (if .Internal then [\"--internal\"] else [] end) + (if .Attachable then [\"--attachable\"] else [] end)\n  \
                 + [\"--\", .Name] | map(@sh) | join(\" \")))' | sh -e\n```\n"
            ));
        }
        let mut lines = Vec::new();
        for volume in listed(recipe.described, "volumes") {
            if volume["Labels"][ANONYMOUS].is_null() {
                let command = create("volume", volume);
                lines.push(format!("{command} >/dev/null"));
            }
        }
        for network in listed(recipe.described, "networks") {
            if network["Labels"][PROJECT].is_null() {
                let name = command_word(network["Name"].as_str().unwrap_or_default());
                let command = create("network", network);
                lines.push(format!(
                    "docker network inspect -- {name} >/dev/null 2>&1 || {command}"
                ));
            }
        }
        let commands = lines.join("\n");
        (!lines.is_empty()).then(|| format!("{WORDS}\n\n```sh\n{commands}\n```\n"))
    }

    pub(super) fn start_servers(&self, recipe: &Recipe<'_>) -> Option<String> {
        let mut servers = recipe.of(SourceKind::Postgres);
        servers.extend(recipe.of(SourceKind::Redis));
        let names: Vec<String> = services(&servers).into_iter().map(command_word).collect();
        if names.is_empty() {
            return None;
        }
        if !self.is_compose() {
            return Some(
                "Start them as they were started: `stack.json` says from which images. The sections below look for their\n\
                 containers by name.\n"
                    .to_owned(),
            );
        }
        let files = match self.has_files {
            true => "",
            false => "The backup has no files of the project: put them into `PROJECT` first.\n\n",
        };
        Some(format!(
            "{files}```sh\ncompose up --detach --no-deps {}\n```\n",
            names.join(" ")
        ))
    }

    pub(super) fn start_all(&self) -> Option<String> {
        self.is_compose()
            .then(|| "```sh\ncompose up --detach\n```\n".to_owned())
    }
}

fn listed<'a>(described: &'a Value, what: &str) -> &'a [Value] {
    described[what].as_array().map_or(&[], Vec::as_slice)
}

/// The command that makes a volume or a network as the engine described it.
fn create(what: &str, described: &Value) -> String {
    let mut words = vec![format!("docker {what} create --driver")];
    let text = |key: &str| described[key].as_str().unwrap_or_default();
    words.push(command_word(text("Driver")));
    for (key, option) in [("Labels", "--label"), ("Options", "--opt")] {
        for (name, value) in described[key].as_object().into_iter().flatten() {
            // The command line takes no such label, whatever Compose does.
            if name.contains(char::is_whitespace) {
                continue;
            }
            let value = value.as_str().unwrap_or_default();
            words.push(format!(
                "{option} {}",
                command_word(&format!("{name}={value}"))
            ));
        }
    }
    for (key, option) in [("Internal", "--internal"), ("Attachable", "--attachable")] {
        if described[key] == true {
            words.push(option.to_owned());
        }
    }
    words.push(format!("-- {}", command_word(text("Name"))));
    words.join(" ")
}

//! `lifeboat init` and `lifeboat repository init`.

use crate::cli::args::Init;
use crate::cli::confirm::confirm;
use crate::cli::environment::now;
use crate::cli::output::Output;
use crate::cli::session::Session;
use crate::error::{Error, OrFail, Result};
use crate::operation::sources::{LABEL_HINT, SourceService, source_services};
use crate::repository::{InitOutcome, Repository};
use crate::stack::{SourceKind, encode};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

const CONFIG: &str = "lifeboat.toml";
const SCHEDULE: &str = "schedules/nightly.toml";

pub(super) async fn run(session: &Session, arguments: &Init, output: &Output) -> Result<ExitCode> {
    let context = session.context_with_engine(output).await?;
    let engine = context.engine()?;
    let mut stacks = Vec::new();
    for stack in engine.containers().await? {
        let services = source_services(engine, &stack).await?;
        if !services.is_empty() {
            stacks.push((stack.name, services));
        }
    }
    let Some((first, _)) = stacks.first() else {
        return Err(Error::usage(format!(
            "no container on the engine at {} looks like a database",
            engine.endpoint()
        ))
        .hint(LABEL_HINT));
    };
    let location = session.location()?;
    let files = [
        (CONFIG, config(&location.url(), &stacks)),
        (SCHEDULE, schedule(first)),
    ];
    for (name, services) in &stacks {
        let found: Vec<String> = services
            .iter()
            .map(|one| match one.kind {
                SourceKind::Postgres => format!("PostgreSQL in {}", one.service.name),
                SourceKind::Redis => format!("Redis in {}", one.service.name),
                SourceKind::Volume | SourceKind::Files => one.service.name.clone(),
            })
            .collect();
        output.remark(&format!("found stack {name}: {}", found.join(", ")));
    }
    if arguments.dry_run {
        let mut text = String::new();
        for (path, content) in &files {
            let _ = writeln!(text, "would write {path}:\n{content}");
        }
        let _ = write!(text, "would make the repository {location}");
        let written: BTreeMap<_, _> = files.into_iter().collect();
        let value = json!({ "files": written, "repository": location.to_string() });
        output.result("plan", &value, &text);
        return Ok(ExitCode::SUCCESS);
    }
    for (path, _) in &files {
        if Path::new(path).exists() {
            return Err(Error::usage(format!("{path} is there already: init writes new files only"))
                .hint("lifeboat repository init makes just the repository; lifeboat doctor checks what is there"));
        }
    }
    confirm(
        output,
        arguments.yes,
        &format!("This writes {CONFIG} and {SCHEDULE} and makes the repository {location}."),
    )?;
    for (path, text) in &files {
        write_new(Path::new(path), text)?;
    }
    let made = Repository::init(&location, &session.access, now()).await?;
    let verb = match made {
        InitOutcome::Created(_) => "made",
        InitOutcome::Existed(_) => "found",
    };
    let text = format!(
        "wrote {CONFIG} and {SCHEDULE}, {verb} the repository {location}\nhint: lifeboat backup {first} makes the first backup"
    );
    output.result(
        "init",
        &json!({ "config": CONFIG, "schedule": SCHEDULE, "repository": location.to_string() }),
        &text,
    );
    Ok(ExitCode::SUCCESS)
}

fn config(url: &str, stacks: &[(String, Vec<SourceService>)]) -> String {
    let mut text = format!(
        "# What each key means: docs/configuration.md\n\n[repository.local]\nurl = {}\n",
        toml::Value::from(url)
    );
    for (name, services) in stacks {
        let _ = write!(
            text,
            "\n[stack.{}]\n# exclude = [\"{}\"]\n",
            key(name),
            example(&services[0])
        );
    }
    text
}

/// Something of a service that could be excluded.
fn example(one: &SourceService) -> String {
    let name = encode(&one.service.name);
    match one.kind {
        SourceKind::Postgres => format!("postgres/{name}/db/scratch"),
        SourceKind::Redis => format!("redis/{name}"),
        SourceKind::Volume | SourceKind::Files => format!("volume/{name}"),
    }
}

fn schedule(stack: &str) -> String {
    format!(
        "stack = {}\ncron = \"0 2 * * *\"\ntimezone = \"UTC\"\nrepositories = [\"local\"]\n\n[keep]\nlast = 3\ndaily = 7\nweekly = 4\nmonthly = 12\n",
        toml::Value::from(stack)
    )
}

/// A TOML key, quoted where it has to be.
fn key(name: &str) -> String {
    let bare = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    match bare && !name.is_empty() {
        true => name.to_owned(),
        false => toml::Value::from(name).to_string(),
    }
}

fn write_new(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let failed = || format!("cannot write {}", path.display());
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).or_fail(failed)?;
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .or_fail(failed)?;
    file.write_all(text.as_bytes()).or_fail(failed)
}

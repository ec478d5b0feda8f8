//! Holds the documentation: what it shows is run, what it names exists, and what exists is named.

use crate::support::lab::{Postgres, Style};
use lifeboat::config::{self, Search, read_schedule};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const IMAGE: &str = "lifeboat-lab/postgres:17";
const README: &str = "README.md";
const GUIDE: &str = "docs/guide.md";
const REFERENCE: &str = "docs/reference.md";
/// The rows of `items` in `orders`, the table that is lost again and again.
const ROWS: &str = "1000";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    let text = std::fs::read_to_string(root().join(file));
    text.unwrap_or_else(|error| panic!("{file}: {error}"))
}

// What is shown is run.

/// The shop of the documentation: its stack, its database `orders`, a folder to work in and a disk for
/// the repository. Tests share an engine, so names are put in the place of the documentation's.
struct Shop {
    server: Postgres,
    folder: TempDir,
}

impl Shop {
    fn open() -> Self {
        let server = Postgres::start(IMAGE, Style::Development);
        server.sql(
            "postgres",
            "create role orders_owner login;\ncreate database orders owner orders_owner;",
        );
        server.sql(
            "orders",
            &format!(
                "set role orders_owner; create table items (id int primary key, name text); \
                 insert into items select n, 'item ' || n from generate_series(1, {ROWS}) n;"
            ),
        );
        let folder = tempfile::tempdir().unwrap();
        for name in ["bin", "work"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let program = folder.path().join("bin/lifeboat");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lifeboat"), program).unwrap();
        Self { server, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a block as a person would, and gives what it printed.
    fn run(&self, block: &Block) -> String {
        let repository = self.path("repository").display().to_string();
        let script = block
            .script
            .replace("/var/backups/lifeboat", &repository)
            .replace("shop-postgres-1", &self.server.id);
        let script = replace_word(&script, "shop", &self.server.stack);
        let script = format!("PATH={}:$PATH\n{script}", self.path("bin").display());
        let mut bash = Command::new("bash");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LIFEBOAT_") {
                bash.env_remove(name);
            }
        }
        let output = bash
            .args(["-euo", "pipefail", "-c", &script])
            .env("LIFEBOAT_STATE_DIR", self.path("state"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .current_dir(self.path("work"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{}:{}: {}\n{script}\n{stdout}\n{}",
            block.file,
            block.line,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        stdout
    }

    /// A disaster.
    fn lose_items(&self) {
        self.server.sql("orders", "drop table items");
    }

    #[track_caller]
    fn expect_items(&self, database: &str) {
        let counted = self.server.query(database, "select count(*) from items");
        assert_eq!(counted, ROWS, "rows of items in {database}");
    }

    fn has_database(&self, prefix: &str) -> bool {
        let databases = self.server.databases();
        databases.iter().any(|name| name.starts_with(prefix))
    }

    /// How many files of the stack's folder in the repository have names that end so.
    fn stored(&self, ending: &str) -> usize {
        let folder = self.path("repository").join(&self.server.stack);
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(ending)).count()
    }
}

/// Replaces `word` where it stands alone.
fn replace_word(text: &str, word: &str, by: &str) -> String {
    let outside = |c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c));
    let pieces = text.split_inclusive(outside);
    pieces
        .map(|piece| match piece.strip_prefix(word) {
            Some(rest) if rest.chars().all(outside) => format!("{by}{rest}"),
            _ => piece.to_owned(),
        })
        .collect()
}

/// A block that is marked `<!-- tested -->`.
struct Block {
    file: &'static str,
    line: usize,
    heading: String,
    script: String,
}

impl Block {
    fn holds(&self, text: &str) -> bool {
        self.script.contains(text)
    }
}

fn tested(file: &'static str) -> Vec<Block> {
    let text = read(file);
    let mut lines = text.lines().enumerate();
    let mut heading = String::new();
    let mut blocks = Vec::new();
    while let Some((index, line)) = lines.next() {
        if line.starts_with('#') {
            line.trim_start_matches('#').trim().clone_into(&mut heading);
        }
        if line != "<!-- tested -->" {
            continue;
        }
        let fence = lines.next().map(|(_, line)| line);
        assert_eq!(fence, Some("```sh"), "{file}:{}", index + 2);
        let script: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| *line != "```")
            .collect();
        for forbidden in ["apt ", "apt-get ", "make ", "sudo ", "systemctl "] {
            let found = script.iter().find(|line| line.contains(forbidden));
            assert_eq!(found, None, "{file}: a tested block changes the host");
        }
        blocks.push(Block {
            file,
            line: index + 2,
            heading: heading.clone(),
            script: script.join("\n"),
        });
    }
    blocks
}

#[test]
fn the_quick_start_does_what_it_says() {
    let shop = Shop::open();
    let blocks = tested(README);
    for block in &blocks {
        assert_eq!(block.heading, "Quick start");
        if block.holds("--in-place") {
            shop.lose_items();
        }
        let printed = shop.run(block);
        if block.holds("volume ls") {
            assert!(printed.contains("PostgreSQL service"), "{printed}");
        } else if block.holds("lifeboat backup") {
            assert_eq!(shop.stored(".backup.json"), 1);
        } else if block.holds("--as orders_copy") {
            shop.expect_items("orders_copy");
        } else if block.holds("--in-place") {
            shop.expect_items("orders");
            assert!(shop.has_database("orders_before_"));
        } else if block.holds("lifeboat rollback") {
            let items = shop.server.query("orders", "select to_regclass('items')");
            assert_eq!(items, "", "the database without the table serves again");
            assert!(shop.has_database("orders_undone_"));
        } else {
            panic!("nobody checks what {}:{} did", block.file, block.line);
        }
    }
    assert_eq!(blocks.len(), 5);
}

#[test]
fn the_guide_does_what_it_says() {
    let shop = Shop::open();
    let blocks = tested(GUIDE);
    for block in &blocks {
        before(&shop, block);
        let printed = shop.run(block);
        after(&shop, block, &printed);
    }
    assert!(blocks.len() >= 10, "{} tested blocks", blocks.len());
}

/// What goes wrong before a block puts it right.
fn before(shop: &Shop, block: &Block) {
    match block.heading.as_str() {
        "Before a migration" if block.holds("--in-place") => shop.lose_items(),
        "Restoring one database, or one table" | "Restoring without lifeboat" => shop.lose_items(),
        "In a disaster" => {
            let script = "drop database orders;\ndrop role orders_owner;";
            shop.server.sql("postgres", script);
        }
        _ => {}
    }
}

fn after(shop: &Shop, block: &Block, printed: &str) {
    match block.heading.as_str() {
        "The first backup" => {
            assert_eq!(shop.stored(".backup.json"), 1);
            assert!(shop.path("work/lifeboat.toml").is_file());
            assert!(shop.path("work/schedules/nightly.toml").is_file());
        }
        "Before a migration" if block.holds("lifeboat guard") => {
            assert_eq!(printed, "npm run migration:run\n");
            assert_eq!(shop.stored(".backup.json"), 2);
            assert_eq!(shop.stored(".pin.json"), 1);
        }
        "Before a migration" if block.holds("lifeboat backup") => {
            assert_eq!(shop.stored(".backup.json"), 3);
            assert_eq!(shop.stored(".pin.json"), 2);
        }
        "Before a migration" if block.holds("--in-place") => {
            shop.expect_items("orders");
            assert!(shop.has_database("orders_before_"));
        }
        "Before a migration" if block.holds("--discard") => {
            assert!(!shop.has_database("orders_before_"));
        }
        "Restoring one database, or one table" => {
            shop.expect_items("orders");
            assert!(!shop.has_database("orders_copy"));
        }
        "In a disaster" => {
            shop.expect_items("orders");
            let owner = "select datdba::regrole from pg_database where datname = 'orders'";
            assert_eq!(shop.server.query("postgres", owner), "orders_owner");
        }
        "Restoring without lifeboat" => {
            shop.expect_items("orders");
            assert!(shop.has_database("orders_before"));
        }
        "Taking one dump out" => {
            let contents = std::fs::read_to_string(shop.path("work/contents.txt")).unwrap();
            assert!(contents.contains("TABLE DATA public items"), "{contents}");
        }
        "Pins" => assert_eq!(shop.stored(".pin.json"), 1),
        "What is kept" => assert!(printed.contains("keeps 3 of 3"), "{printed}"),
        "Output for programs" => {
            let list: serde_json::Value = serde_json::from_str(printed.trim()).unwrap();
            assert_eq!(list["backups"].as_array().map(Vec::len), Some(3), "{list}");
        }
        _ => panic!("nobody checks what {}:{} did", block.file, block.line),
    }
}

#[test]
fn examples_of_configuration_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("example.toml");
    let mut examples: Vec<String> = Vec::new();
    for file in documents() {
        let lines = lines(&file);
        let adjoin = |a: &Line, b: &Line| a.number + 1 == b.number && a.fence == b.fence;
        for block in lines.chunk_by(adjoin) {
            if block[0].fence.as_deref() == Some("toml") {
                let text: Vec<&str> = block.iter().map(|line| line.text.as_str()).collect();
                examples.push(text.join("\n"));
            }
        }
    }
    assert!(examples.len() >= 3, "{examples:?}");
    for example in examples {
        std::fs::write(&path, &example).unwrap();
        let accepted = if example.contains("cron = ") {
            read_schedule(&path).map(drop)
        } else {
            let search = Search {
                explicit: Some(path.clone()),
                ..Search::default()
            };
            config::load(&search, &|_| None).map(drop)
        };
        assert!(accepted.is_ok(), "{example}\n{accepted:?}");
    }
    for schedule in config::schedule_files(&root().join("schedules")).unwrap() {
        let checked = read_schedule(&schedule);
        assert!(checked.is_ok(), "{}: {checked:?}", schedule.display());
    }
}

// What is named exists, and what exists is named.

/// A line of a Markdown file, and where it stands.
struct Line {
    number: usize,
    heading: String,
    /// The language of the fence around it.
    fence: Option<String>,
    text: String,
}

fn lines(file: &str) -> Vec<Line> {
    let mut heading = String::new();
    let mut fence: Option<String> = None;
    let mut found = Vec::new();
    for (index, text) in read(file).lines().enumerate() {
        if let Some(language) = text.trim_start().strip_prefix("```") {
            fence = fence.is_none().then(|| language.to_owned());
            continue;
        }
        if fence.is_none() && text.starts_with('#') {
            text.trim_start_matches('#').trim().clone_into(&mut heading);
        }
        found.push(Line {
            number: index + 1,
            heading: heading.clone(),
            fence: fence.clone(),
            text: text.to_owned(),
        });
    }
    found
}

/// What stands between backticks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The files of the repository, those that are about to be added included.
fn files() -> BTreeSet<String> {
    let listing = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git")
        .args(["-c", "safe.directory=*"])
        .args(listing)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "git ls-files: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The Markdown files that people read; those in tests/data are data.
fn documents() -> Vec<String> {
    let of_people = |file: &String| {
        let markdown = Path::new(file)
            .extension()
            .is_some_and(|ending| ending == "md");
        markdown && !file.starts_with("tests/data/")
    };
    files().into_iter().filter(of_people).collect()
}

fn help(command: &[&str]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
    let output = program.args(command).arg("--help").output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The options of every command, as `--help` shows them; the program itself is the empty command.
fn commands() -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![String::new()];
    while let Some(command) = waiting.pop() {
        let words: Vec<&str> = command.split_whitespace().collect();
        let mut options = BTreeSet::new();
        let mut section = String::new();
        for line in help(&words).lines() {
            if line.is_empty() {
                continue;
            }
            if !line.starts_with(' ') {
                line.clone_into(&mut section);
                continue;
            }
            let line = line.trim_start();
            if let Some((_, aliases)) = line.split_once("[alias") {
                let names = aliases.split([' ', ',', ']']);
                let names = names.filter(|name| name.starts_with('-'));
                options.extend(names.map(str::to_owned));
            }
            // The description stands at least two spaces away.
            let entry = line.split("  ").next().unwrap_or_default();
            if section == "Commands:" && entry != "help" && line != entry {
                waiting.push(format!("{command} {entry}").trim().to_owned());
            } else if section == "Options:" && entry.starts_with('-') && entry != "-" {
                let names = entry
                    .split([',', ' ', '['])
                    .filter(|word| word.len() > 1 && word.starts_with('-'));
                options.extend(names.map(str::to_owned));
            }
        }
        found.insert(command, options);
    }
    found
}

/// What of `code` is no command of lifeboat's or no option of one.
fn unknown(code: &str, commands: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut words = code.split_whitespace().peekable();
    while let Some(word) = words.next() {
        if word != "lifeboat" && !word.ends_with("/bin/lifeboat") {
            continue;
        }
        let mut command = String::new();
        while let Some(word) = words.next_if(|word| *word != "lifeboat") {
            let deeper = format!("{command} {word}").trim().to_owned();
            if commands.contains_key(&deeper) {
                command = deeper;
            } else if word == "--" {
                // What follows is a command of the person's own.
                break;
            } else if word.starts_with('-') {
                let option = word.split('=').next().unwrap_or_default();
                if !commands[&command].contains(option) {
                    wrong.push(format!("lifeboat {command} {option}"));
                }
            } else if ["|", "||", "&&", ";", "#", ">", "<"].contains(&word) {
                break;
            } else if command.is_empty() && word != "help" && is_lowercase(word) {
                wrong.push(format!("lifeboat {word}"));
            }
        }
    }
    wrong
}

fn is_lowercase(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_lowercase())
}

#[test]
fn what_the_documentation_names_exists() {
    let commands = commands();
    let options: BTreeSet<&str> = commands.values().flatten().map(String::as_str).collect();
    let mut wrong = Vec::new();
    for file in documents() {
        let mut code = String::new();
        for line in lines(&file) {
            if line.heading.contains("does not exist") {
                continue;
            }
            let place = format!("{file}:{}", line.number);
            match line.fence.as_deref() {
                Some("sh" | "") => {
                    code.push_str(line.text.trim_end_matches('\\'));
                    if line.text.ends_with('\\') {
                        continue;
                    }
                    let found = unknown(&code, &commands).into_iter();
                    wrong.extend(found.map(|what| format!("{place}: {what}")));
                    code.clear();
                }
                Some(_) => {}
                None => {
                    for span in spans(&line.text) {
                        let first = span.split([' ', '=']).next().unwrap_or_default();
                        let is_option = first.starts_with('-') && !["-", "--"].contains(&first);
                        if is_option && !options.contains(first) {
                            wrong.push(format!("{place}: {first}"));
                        }
                        if first == "lifeboat" {
                            let found = unknown(span, &commands).into_iter();
                            wrong.extend(found.map(|what| format!("{place}: {what}")));
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "no such thing:\n{}", wrong.join("\n"));
}

#[test]
fn the_reference_names_every_command_and_option() {
    let lines = lines(REFERENCE);
    let everywhere = spans_under(&lines, "");
    let common = spans_under(&lines, "Options of every command");
    let mut missing = Vec::new();
    for (command, options) in commands() {
        let name = format!("lifeboat {command}").trim().to_owned();
        let is_it = |span: &&str| *span == name || span.starts_with(&format!("{name} "));
        if !everywhere.iter().any(is_it) {
            missing.push(name.clone());
        }
        let own = match command.is_empty() {
            true => everywhere.clone(),
            false => spans_under(&lines, &format!("`{name}")),
        };
        for option in options {
            let is_it = |span: &&str| span.split(' ').any(|word| word == option);
            if !own.iter().any(is_it) && !common.iter().any(is_it) {
                missing.push(format!("{name} {option}"));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "not in {REFERENCE}:\n{}",
        missing.join("\n")
    );
}

/// What stands between backticks under headings that begin so.
fn spans_under<'a>(lines: &'a [Line], heading: &str) -> Vec<&'a str> {
    let inside = lines
        .iter()
        .filter(|line| line.heading.starts_with(heading));
    inside.flat_map(|line| spans(&line.text)).collect()
}

#[test]
fn the_reference_names_every_message() {
    let reference = read(REFERENCE);
    let mut names = variants("src/event.rs", "enum Event");
    // Bars alone observe it.
    names.retain(|name| name != "progress");
    names.extend(variants("src/operation/step.rs", "enum Step"));
    let sources = files().into_iter();
    for file in sources.filter(|file| file.starts_with("src/cli/command/")) {
        let source = read(&file);
        let calls = source.split("output.result(").skip(1);
        // The first argument, wherever rustfmt puts it.
        let literals = calls.filter_map(|call| call.trim_start().strip_prefix('"'));
        names.extend(literals.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
    }
    assert!(names.len() >= 20, "{names:?}");
    names.retain(|name| !reference.contains(&format!("`{name}`")));
    assert!(names.is_empty(), "not in {REFERENCE}: {names:?}");
}

/// The variants of an enum, as serde writes them.
fn variants(file: &str, declaration: &str) -> Vec<String> {
    let source = read(file);
    let (_, body) = source.split_once(&format!("{declaration} {{")).unwrap();
    let body = body.split("\n}").next().unwrap_or_default();
    let names = body.lines().filter_map(|line| {
        let name = line.strip_prefix("    ")?.strip_suffix(" {")?;
        name.starts_with(|c: char| c.is_ascii_uppercase())
            .then_some(name)
    });
    names.map(snake).collect()
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (index, c) in name.char_indices() {
        if c.is_ascii_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[test]
fn the_table_of_exit_codes_is_the_programs() {
    let (mut codes, mut names) = (BTreeMap::new(), BTreeMap::new());
    for line in read("src/error.rs").lines() {
        let arm = line.trim().strip_prefix("Self::");
        let Some((kind, value)) = arm.and_then(|arm| arm.split_once(" => ")) else {
            continue;
        };
        let value = value.trim_end_matches(',');
        if let Ok(code) = value.parse::<u8>() {
            codes.insert(kind.to_owned(), code);
        } else {
            names.insert(kind.to_owned(), value.trim_matches('"').to_owned());
        }
    }
    assert!(codes.len() >= 8 && codes.len() == names.len());
    let mut program: BTreeMap<u8, String> = codes
        .into_iter()
        .map(|(kind, code)| (code, names[&kind].clone()))
        .collect();
    program.insert(0, String::new());

    let lines = lines(REFERENCE);
    let rows = lines.iter().filter(|line| line.heading == "Exit codes");
    let table: BTreeMap<u8, String> = rows
        .filter_map(|line| {
            let mut cells = line.text.split('|').skip(1).map(str::trim);
            let code = cells.next()?.parse().ok()?;
            Some((code, cells.next()?.trim_matches('`').to_owned()))
        })
        .collect();
    assert_eq!(table, program);

    let help = help(&[]);
    let (_, text) = help.split_once("Exit codes:").unwrap();
    let said: BTreeSet<u8> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    assert_eq!(said, program.into_keys().collect::<BTreeSet<u8>>());
}

#[test]
fn every_link_leads_somewhere() {
    let files = files();
    let mut broken = Vec::new();
    for document in documents() {
        let folder = Path::new(&document).parent().unwrap();
        for line in lines(&document) {
            if line.fence.is_some() {
                continue;
            }
            let targets = line.text.split("](").skip(1);
            for target in targets.filter_map(|rest| rest.split(')').next()) {
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                let file = match path.is_empty() {
                    true => document.clone(),
                    false => plain(&folder.join(path)),
                };
                let is_there = files.contains(&file) && root().join(&file).is_file();
                if !is_there || !(anchor.is_empty() || anchors(&file).contains(anchor)) {
                    broken.push(format!("{document}:{}: {target}", line.number));
                }
            }
        }
    }
    assert!(broken.is_empty(), "lead nowhere:\n{}", broken.join("\n"));
}

/// A relative path without `..`.
fn plain(path: &Path) -> String {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain.to_string_lossy().into_owned()
}

/// The anchors that a file's headings have where it is shown as a page.
fn anchors(file: &str) -> BTreeSet<String> {
    let text_of = |line: &Line| line.text.trim_start_matches('#').trim().to_lowercase();
    let headings = lines(file)
        .into_iter()
        .filter(|line| line.fence.is_none() && line.text.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    headings
        .map(|line| text_of(&line).chars().filter(kept).collect::<String>())
        .map(|heading| heading.replace(' ', "-"))
        .collect()
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let declared: BTreeSet<String> = ["dependencies", "dev-dependencies"]
        .iter()
        .filter_map(|table| manifest.get(*table)?.as_table())
        .flat_map(|table| table.keys().cloned())
        .collect();
    let rows = lines("docs/dependencies.md");
    let explained: BTreeSet<String> = rows
        .iter()
        .filter_map(|line| line.text.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(explained, declared);
}

//! Which files a Compose file names.

use super::yaml::Node;
use std::collections::BTreeMap;

/// A file that a Compose file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// Its path as it is written there.
    pub(super) path: String,
    pub(super) what: What,
}

/// What a file is to a Compose file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Another Compose file, and the folder that its own paths begin in, where that is said.
    Compose { folder: Option<String> },
    /// Variables: `env_file`.
    Environment,
    /// A secret.
    Secret,
    /// A configuration, or labels.
    Config,
    /// A file that is mounted.
    Mount,
}

/// The keys that make a document one of Compose.
const KEYS: [&str; 7] = [
    "services", "include", "volumes", "networks", "configs", "secrets", "name",
];

/// Whether a document is one of Compose.
pub(super) fn is_compose(document: &Node) -> bool {
    KEYS.iter().any(|key| document.get(key).is_some())
}

/// What a document names, variables in paths replaced; a path with a variable that nobody knows is given apart.
pub(super) fn named(
    document: &Node,
    variables: &BTreeMap<String, String>,
) -> (Vec<Named>, Vec<String>) {
    let mut found = Vec::new();
    let mut add = |path: &str, what: What| {
        let path = path.to_owned();
        found.push(Named { path, what });
    };
    for included in document
        .get("include")
        .map(Node::values)
        .unwrap_or_default()
    {
        let folder = included.get("project_directory").and_then(Node::text);
        for path in texts(included.get("path").unwrap_or(included)) {
            let folder = folder.map(str::to_owned);
            add(path, What::Compose { folder });
        }
        for path in included.get("env_file").map(texts).unwrap_or_default() {
            add(path, What::Environment);
        }
    }
    for (key, what) in [("secrets", What::Secret), ("configs", What::Config)] {
        for one in document.get(key).map(Node::values).unwrap_or_default() {
            if let Some(path) = one.get("file").and_then(Node::text) {
                add(path, what.clone());
            }
        }
    }
    for service in document
        .get("services")
        .map(Node::values)
        .unwrap_or_default()
    {
        if let Some(path) = service
            .get("extends")
            .and_then(|one| one.get("file")?.text())
        {
            add(path, What::Compose { folder: None });
        }
        for one in service.get("env_file").map(list).unwrap_or_default() {
            for path in texts(one.get("path").unwrap_or(one)) {
                add(path, What::Environment);
            }
        }
        for path in service.get("label_file").map(texts).unwrap_or_default() {
            add(path, What::Config);
        }
        for mount in service.get("volumes").map(Node::values).unwrap_or_default() {
            if let Some(path) = mounted(mount) {
                add(path, What::Mount);
            }
        }
    }
    let mut unknown = Vec::new();
    found.retain_mut(|one| {
        let Some(path) = expand(&one.path, variables) else {
            unknown.push(one.path.clone());
            return false;
        };
        one.path = path;
        true
    });
    (found, unknown)
}

/// The items of a list; a single value is a list of one.
fn list(node: &Node) -> Vec<&Node> {
    match node {
        Node::List(items) => items.iter().collect(),
        node => vec![node],
    }
}

fn texts(node: &Node) -> Vec<&str> {
    list(node).into_iter().filter_map(Node::text).collect()
}

/// What of the machine's own files a mount is of.
fn mounted(mount: &Node) -> Option<&str> {
    match mount {
        Node::Text(short) => {
            // A colon may be in `${A:-b}`, too.
            let end = outside_braces(short, ':')?;
            let source = &short[..end];
            source.starts_with(['.', '/', '$']).then_some(source)
        }
        long => {
            let is_bind = long.get("type").and_then(Node::text) == Some("bind");
            long.get("source").and_then(Node::text).filter(|_| is_bind)
        }
    }
}

fn outside_braces(text: &str, wanted: char) -> Option<usize> {
    let mut depth = 0_usize;
    text.char_indices().find_map(|(at, c)| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        (depth == 0 && c == wanted).then_some(at)
    })
}

/// The text with its variables replaced: `$A`, `${A}`, `${A:-other}`, `${A-other}`, and `$$` for `$`. `None` where one is
/// not known and nothing stands in for it.
fn expand(text: &str, variables: &BTreeMap<String, String>) -> Option<String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let (inner, behind) = match after.strip_prefix('{') {
            Some(braced) => {
                let end = braced.find('}')?;
                (&braced[..end], &braced[end + 1..])
            }
            None => after.split_at(name_end(after)),
        };
        let (name, other) = inner.split_at(name_end(inner));
        let value = variables.get(name).filter(|value| !value.is_empty());
        match (value, other.strip_prefix(":-").or(other.strip_prefix('-'))) {
            (Some(value), _) => expanded.push_str(value),
            (None, Some(other)) if !other.contains('$') => expanded.push_str(other),
            _ => return None,
        }
        rest = behind;
    }
    expanded.push_str(rest);
    Some(expanded)
}

fn name_end(text: &str) -> usize {
    let ends = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    text.find(ends).unwrap_or(text.len())
}

/// The variables of an environment file.
pub(super) fn variables(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            let name = name.trim().trim_start_matches("export ").trim();
            let value = value.trim();
            let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
            let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
            Some((name.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::yaml::load;
    use super::*;

    const FILE: &str = "
include: [other.yaml, {path: [a.yaml, b.yaml], project_directory: sub, env_file: sub/x.env}]
services:
  api:
    extends: {file: base.yaml, service: api}
    env_file: [one.env, {path: two.env, required: false}]
    volumes:
      - ./conf/redis.conf:/etc/redis.conf:ro
      - data:/data
      - ${CONF:-./conf}/x:/x
      - ${UNKNOWN}/y:/y
      - {type: bind, source: ./long.conf, target: /l}
      - {type: volume, source: data, target: /d}
  web:
    env_file: three.env
    label_file: labels.txt
secrets: {p: {file: secrets/p}, q: {environment: Q}}
configs: {c: {file: c.conf}, d: {content: inline}}
volumes: {data: {}}
";

    #[test]
    fn everything_that_a_file_names_is_found() {
        let document = &load(FILE).unwrap()[0];
        assert!(is_compose(document));
        let (found, unknown) = named(document, &variables("A=1\n# CONF=x\n"));
        let of = |wanted: &What| -> Vec<&str> {
            let found = found.iter().filter(|one| one.what == *wanted);
            found.map(|one| one.path.as_str()).collect()
        };
        let sub = Some("sub".to_owned());
        assert_eq!(of(&What::Compose { folder: sub }), ["a.yaml", "b.yaml"]);
        assert_eq!(
            of(&What::Compose { folder: None }),
            ["other.yaml", "base.yaml"]
        );
        assert_eq!(
            of(&What::Environment),
            ["sub/x.env", "one.env", "two.env", "three.env"]
        );
        assert_eq!(of(&What::Secret), ["secrets/p"]);
        assert_eq!(of(&What::Config), ["c.conf", "labels.txt"]);
        assert_eq!(
            of(&What::Mount),
            ["./conf/redis.conf", "./conf/x", "./long.conf"]
        );
        assert_eq!(unknown, ["${UNKNOWN}/y"]);
    }

    #[test]
    fn variables_are_replaced_or_given_up() {
        let known = variables("A=x\nexport B='y z'\nEMPTY=\n");
        let expanded = |text| expand(text, &known);
        assert_eq!(expanded("$A/${B}/$$c").unwrap(), "x/y z/$c");
        assert_eq!(expanded("${EMPTY:-d}${A:-e}").unwrap(), "dx");
        for open in ["$C", "${C}", "${C:?no}", "${A", "$"] {
            assert_eq!(expanded(open), None, "{open}");
        }
        assert!(!is_compose(&load("root:x:0:0\n").unwrap()[0]));
    }
}

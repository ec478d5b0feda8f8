//! Reads YAML that nobody trusts: bounded in length, depth and size, aliases counted as what they stand for.

use crate::error::{Error, Result};
use saphyr_parser::{Event, Parser};
use std::collections::HashMap;

/// The longest text, in bytes.
pub(super) const LONGEST: u64 = 1 << 20;
/// The deepest nesting.
const DEEPEST: usize = 64;
/// The most nodes of a text, what aliases stand for counted each time.
const MOST_NODES: usize = 200_000;

/// A value. Tags are passed over: Compose's `!reset` and `!override` are about merging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value of a key, those that `<<` merges in among them.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else {
            return None;
        };
        let of = |wanted: &str| {
            let mut found = entries.iter().filter(move |(name, _)| name == wanted);
            found.next_back().map(|(_, value)| value)
        };
        of(key).or_else(|| match of("<<")? {
            Self::List(merged) => merged.iter().find_map(|one| one.get(key)),
            merged => merged.get(key),
        })
    }

    /// The text.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The values of a map, or of a list; of a text, itself.
    pub(super) fn values(&self) -> Vec<&Self> {
        match self {
            Self::Text(_) => vec![self],
            Self::List(items) => items.iter().collect(),
            Self::Map(entries) => entries.iter().map(|(_, value)| value).collect(),
        }
    }

    fn nodes(&self) -> usize {
        1 + self
            .values()
            .iter()
            .map(|one| match one {
                Self::Text(_) => 1,
                one => one.nodes(),
            })
            .sum::<usize>()
    }
}

/// A list or map that is not complete yet.
struct Open {
    node: Node,
    /// Its anchor; 0 for none.
    anchor: usize,
    /// The key whose value comes next.
    key: Option<String>,
}

#[derive(Default)]
struct Loader {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    documents: Vec<Node>,
}

/// The documents of a text.
///
/// # Errors
/// Failed where it is no YAML, or more of it than any project has.
pub(super) fn load(text: &str) -> Result<Vec<Node>> {
    let mut loader = Loader::default();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| Error::failed("it is no YAML").caused_by(error))?;
        match event {
            Event::Scalar(text, _, anchor, _) => {
                loader.done(Node::Text(text.into_owned()), anchor)?;
            }
            Event::SequenceStart(anchor, _) => loader.begin(Node::List(Vec::new()), anchor)?,
            Event::MappingStart(anchor, _) => loader.begin(Node::Map(Vec::new()), anchor)?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = loader.open.pop() {
                    loader.done(open.node, open.anchor)?;
                }
            }
            Event::Alias(anchor) => {
                let node = loader.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| Error::failed("an alias stands for nothing"))?;
                loader.count(node.nodes())?;
                loader.done(node, 0)?;
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
    }
    Ok(loader.documents)
}

impl Loader {
    fn count(&mut self, nodes: usize) -> Result<()> {
        self.nodes += nodes;
        match self.nodes > MOST_NODES {
            true => Err(Error::failed(format!(
                "it has more than {MOST_NODES} values"
            ))),
            false => Ok(()),
        }
    }

    fn begin(&mut self, node: Node, anchor: usize) -> Result<()> {
        if self.open.len() == DEEPEST {
            return Err(Error::failed(format!(
                "it is more than {DEEPEST} levels deep"
            )));
        }
        let key = None;
        self.open.push(Open { node, anchor, key });
        Ok(())
    }

    /// A value is complete: it belongs to what is open.
    fn done(&mut self, node: Node, anchor: usize) -> Result<()> {
        self.count(1)?;
        if anchor > 0 {
            // What an alias may stand for is kept twice.
            self.count(node.nodes())?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match (&mut open.node, open.key.take()) {
            (Node::List(items), _) => items.push(node),
            (Node::Map(entries), Some(key)) => entries.push((key, node)),
            // A key that is no text is nothing that Compose knows.
            (Node::Map(_), None) => open.key = Some(node.text().unwrap_or_default().to_owned()),
            (Node::Text(_), _) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write as _;

    #[test]
    fn maps_lists_merges_and_tags_are_read() {
        let text = "x: &d {a: 1, b: [p, q]}\ny:\n  <<: *d\n  a: 2\nz: !reset []\n---\nw: 'v'\n";
        let documents = load(text).unwrap();
        assert_eq!(documents.len(), 2);
        let y = documents[0].get("y").unwrap();
        assert_eq!(y.get("a").unwrap().text(), Some("2"));
        assert_eq!(y.get("b").unwrap().values().len(), 2);
        assert_eq!(documents[1].get("w").unwrap().text(), Some("v"));
    }

    #[test]
    fn what_would_grow_or_sink_without_end_is_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..20 {
            let inner = format!("*a{}, ", level - 1).repeat(10);
            writeln!(bomb, "a{level}: &a{level} [{inner}]").unwrap();
        }
        assert!(load(&bomb).unwrap_err().to_string().contains("values"));
        let longest = usize::try_from(LONGEST).unwrap();
        for deep in ["[", "{a: ", "- "] {
            let text = deep.repeat(longest / deep.len());
            assert!(load(&text).is_err(), "{deep}");
        }
        assert!(load("a: *nothing\n").is_err());
        assert!(load("a: &a [*a]\n").is_err());
    }

    proptest! {
        #[test]
        fn nothing_is_a_panic(text in "[ \\n\\t:&*!|>{}\\[\\],'\"#%@a-c\\-?0-9]{0,200}") {
            let _ = load(&text);
        }
    }
}

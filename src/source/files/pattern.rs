//! The patterns of `include_files`.

/// A pattern of paths: `*` and `?` stand for any characters of a name, `**` for any number of folders, and the name
/// of a folder for all that is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<String>);

impl Pattern {
    /// From its text; whether it is absolute is the caller's business.
    pub(super) fn new(text: &str) -> Self {
        let parts = text
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".");
        Self(parts.map(str::to_owned).collect())
    }

    /// Whether it stands for itself only.
    pub(super) fn is_literal(&self) -> bool {
        self.0.iter().all(|part| !part.contains(['*', '?']))
    }

    /// Whether it leaves the folder that it begins in.
    pub(super) fn leaves(&self) -> bool {
        self.0.iter().any(|part| part == "..")
    }

    /// The folders at its beginning that stand for themselves.
    pub(super) fn fixed(&self) -> String {
        let folders = &self.0[..self.0.len().saturating_sub(1)];
        let fixed = folders.iter().take_while(|part| !part.contains(['*', '?']));
        fixed.map(String::as_str).collect::<Vec<_>>().join("/")
    }

    /// Whether a path, or a folder that it is in, is meant.
    pub(super) fn matches(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        (1..=parts.len()).any(|length| reaches(&self.0, &parts[..length], false))
    }

    /// Whether something below a folder may be meant.
    pub(super) fn may_be_below(&self, folder: &str) -> bool {
        let parts: Vec<&str> = folder.split('/').collect();
        folder.is_empty() || reaches(&self.0, &parts, true) || self.matches(folder)
    }
}

/// Whether the parts are what the pattern says; with `begin`, whether they are its beginning.
fn reaches(pattern: &[String], parts: &[&str], begin: bool) -> bool {
    // What the pattern's first `i` parts can have taken, for each `i`: `**` makes it more than one.
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    let spread = |reached: &mut Vec<bool>| {
        for (at, part) in pattern.iter().enumerate() {
            if reached[at] && part == "**" {
                reached[at + 1] = true;
            }
        }
    };
    spread(&mut reached);
    for name in parts {
        let mut next = vec![false; pattern.len() + 1];
        for (at, part) in pattern.iter().enumerate().filter(|(at, _)| reached[*at]) {
            match part.as_str() {
                "**" => next[at] = true,
                part if name_matches(part, name) => next[at + 1] = true,
                _ => {}
            }
        }
        reached = next;
        spread(&mut reached);
    }
    match begin {
        true => reached.iter().any(|reached| *reached),
        false => reached[pattern.len()],
    }
}

/// Whether a name is what a part says. Linear in memory, at most quadratic in time, whatever the two are.
fn name_matches(part: &str, name: &str) -> bool {
    let (part, name): (Vec<char>, Vec<char>) = (part.chars().collect(), name.chars().collect());
    let (mut at, mut of, mut star) = (0, 0, None);
    while of < name.len() {
        match part.get(at) {
            Some('*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(c) if *c == '?' || *c == name[of] => (at, of) = (at + 1, of + 1),
            _ => match &mut star {
                Some((back, taken)) => {
                    *taken += 1;
                    (at, of) = (*back + 1, *taken);
                }
                None => return false,
            },
        }
    }
    part[at..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_elsewhere() {
        for (pattern, path) in [
            ("compose.yaml", "compose.yaml"),
            ("./conf/", "conf/a/b"),
            ("conf/**", "conf/a/b"),
            ("conf/*", "conf/.hidden"),
            ("**/*.conf", "a/b/c.conf"),
            ("**/*.conf", "c.conf"),
            ("a/**/b", "a/b"),
            ("a/**/b", "a/x/y/b"),
            ("*.y?ml", "x.yaml"),
            ("**", "a"),
            ("co*f/x", "conf/x"),
        ] {
            assert!(Pattern::new(pattern).matches(path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("conf", "config"),
            ("*.conf", "a/b.conf"),
            ("*/b", "b"),
            ("a/**/b", "a/c"),
            ("?", "ab"),
        ] {
            assert!(!Pattern::new(pattern).matches(path), "{pattern} {path}");
        }
        assert_eq!(Pattern::new("a/b/*/c").fixed(), "a/b");
        assert!(Pattern::new("a/*/c").may_be_below("a/x"));
        assert!(Pattern::new("**/c").may_be_below("x/y"));
        assert!(!Pattern::new("a/*/c").may_be_below("b"));
        assert!(Pattern::new(&"*a".repeat(1000)).matches(&"a".repeat(2000)));
        assert!(!Pattern::new(&"*a".repeat(1000)).matches(&"ab".repeat(2000)));
    }
}

//! The one error of the library: what failed, why, and what to do next.

use std::error::Error as StdError;
use std::fmt;

/// What a failure means to the caller; each kind has one exit code, stable for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something did not work (exit code 1).
    Failed,
    /// The command line or the configuration is wrong (2).
    Usage,
    /// Something that was asked for was not captured (3).
    Partial,
    /// There is no such repository, backup or artifact (10).
    NotFound,
    /// Another run holds the lock (11).
    Busy,
    /// A key is wrong or missing (12).
    Key,
    /// A stored byte is not what was written (13).
    Damaged,
    /// What a drill restored is not what was backed up, or it could not be restored (14).
    NotProven,
    /// `status` found something unprotected or late (15).
    Overdue,
    /// `guard` itself failed: any other code is its command's (125).
    Guard,
    /// The run was interrupted (130).
    Interrupted,
}

impl Kind {
    /// The process exit code of this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::NotFound => 10,
            Self::Busy => 11,
            Self::Key => 12,
            Self::Damaged => 13,
            Self::NotProven => 14,
            Self::Overdue => 15,
            Self::Guard => 125,
            Self::Interrupted => 130,
        }
    }

    /// The name of this kind in JSON output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Partial => "partial",
            Self::NotFound => "not_found",
            Self::Busy => "busy",
            Self::Key => "key",
            Self::Damaged => "damaged",
            Self::NotProven => "not_proven",
            Self::Overdue => "overdue",
            Self::Guard => "guard",
            Self::Interrupted => "interrupted",
        }
    }
}

/// An error with its kind, a message that is a lowercase fragment, an optional hint and its cause.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// A result whose error is lifeboat's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a message such as "cannot open …".
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            source: None,
        }
    }

    /// Something did not work.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The command line or the configuration is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// There is no such repository, backup or artifact.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// Another run holds the lock.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(Kind::Busy, message)
    }

    /// A stored byte is not what was written.
    pub fn damaged(message: impl Into<String>) -> Self {
        Self::new(Kind::Damaged, message)
    }

    /// The run was interrupted by a signal.
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    /// Adds what the reader should do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts what was being done in front of this error, keeping its kind and its hint.
    #[must_use]
    pub fn while_doing(self, message: impl Into<String>) -> Self {
        Self {
            kind: self.kind,
            message: message.into(),
            hint: self.hint.clone(),
            source: Some(Box::new(Self { hint: None, ..self })),
        }
    }

    /// What this failure means to the caller.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same error with another meaning to the caller.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// What to do next, where lifeboat knows.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message and every cause behind it, joined by colons, repetitions left out.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let next = error.to_string();
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

/// Turns any result into lifeboat's, with the words that say what failed.
pub trait OrFail<T> {
    /// "cannot read x: permission denied": the message is made only where something failed.
    fn or_fail<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> OrFail<T> for std::result::Result<T, E> {
    fn or_fail<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|error| Error::failed(message()).caused_by(error))
    }
}

/// Of `candidates`, those that look like `wanted`, nearest first, three at the most.
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut scored: Vec<(f64, &str)> = candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(wanted, candidate), candidate))
        .filter(|(score, candidate)| *score > 0.7 || candidate.contains(wanted))
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

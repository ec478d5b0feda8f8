//! What a store said, in words that help, without the signatures and tokens that addresses may hold.

use crate::error::{Error, Kind};
use std::error::Error as StdError;

/// What a failed request means for whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// There is no such object.
    Missing,
    /// The store says that there is one already; fact 41: perhaps there is none.
    Exists,
    /// It will be said again however often one asks.
    Final,
    /// The next try may go better.
    Passing,
}

/// What stores say with a client's status though the next try may go better: bytes that came slowly, not at all, or
/// other than they were sent.
const PASSING: [&str; 7] = [
    "status code: 408",
    "status code: 429",
    "<Code>RequestTimeout</Code>",
    "<Code>IncompleteBody</Code>",
    "<Code>BadDigest</Code>",
    "<Code>XAmzContentSHA256Mismatch</Code>",
    "<Code>Md5Mismatch</Code>",
];

/// What stores say of credentials that were good once.
const EXPIRED: [&str; 4] = [
    "ExpiredToken",
    "TokenExpired",
    "InvalidToken",
    "token has expired",
];

/// Sorts an error of the client.
pub(super) fn meaning(error: &object_store::Error) -> Meaning {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => Meaning::Missing,
        E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => Meaning::Exists,
        E::Generic { .. } => {
            let text = chain(error);
            // "Not implemented" is no mishap, though it is the server's.
            let last_words = ["builder error", "status code: 4", "status code: 501"];
            let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
            match says(&last_words) && !says(&PASSING) {
                true => Meaning::Final,
                false => Meaning::Passing,
            }
        }
        _ => Meaning::Final,
    }
}

/// Whether the store says that there is no such bucket at all.
pub(super) fn is_no_bucket(error: &object_store::Error) -> bool {
    let text = chain(error);
    [
        "NoSuchBucket",
        "ContainerNotFound",
        "specified bucket does not exist",
    ]
    .iter()
    .any(|code| text.contains(code))
}

/// The error of a request: what was being done to what, why it failed, what to do.
pub(super) fn explain(doing: &str, what: &str, error: &object_store::Error) -> Error {
    let text = chain(error);
    let failed = Error::failed(format!("cannot {doing} {what}"));
    let said = redacted(&text);
    if is_no_bucket(error) {
        return Error::not_found(format!("cannot {doing} {what}: there is no such bucket"))
            .hint("check its name and the endpoint; lifeboat makes repositories, not buckets");
    }
    if let Some(server) = skewed(&text) {
        return failed
            .caused_by(format!(
                "the clock of this machine differs too much from the store's, where it is {server}"
            ))
            .hint("set this machine's clock (an NTP client keeps it right)");
    }
    if EXPIRED.iter().any(|code| text.contains(code)) {
        return failed
            .caused_by(said)
            .hint("the credentials have expired: give new ones, and run it again");
    }
    let failed = failed.caused_by(said);
    match error {
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => {
            failed.hint("check the credentials, and what they may do in that bucket")
        }
        _ if text.contains("169.254.169.254") || text.contains("metadata.google") => failed.hint(
            "no credentials are set, and this machine's own identity could not be asked for either",
        ),
        object_store::Error::Generic { .. } => failed.hint("is the endpoint reachable from here?"),
        _ => failed,
    }
}

/// Whether the store refused because the credentials may not do that, or because it keeps what it has.
pub(super) fn is_refusal(error: &object_store::Error) -> bool {
    let text = chain(error);
    // Wrong credentials say nothing about what right ones may do.
    let unknown = ["SignatureDoesNotMatch", "InvalidAccessKeyId"];
    let is_unproven = EXPIRED
        .iter()
        .chain(&unknown)
        .any(|code| text.contains(code));
    matches!(
        error,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }
    ) && skewed(&text).is_none()
        && !is_unproven
        // Azure: a legal hold or an immutability policy answers with a conflict.
        || text.contains("BlobImmutableDueToPolicy")
        || text.contains("BlobImmutableDueToLegalHold")
        || text.contains("AccessDenied")
        || text.contains("retentionPolicyNotMet")
        || text.contains("under active") // GCS: "Object … is under active Temporary hold"
}

/// The kind of an error that reading gave: lost bytes are damage, a store that cannot be asked is not.
pub(super) fn reading(key: &str, error: &object_store::Error) -> Error {
    match meaning(error) {
        Meaning::Missing if !is_no_bucket(error) => Error::damaged(format!("{key}: missing")),
        _ => explain("read", key, error).with_kind(Kind::Failed),
    }
}

/// The server's time, where it refused because of the clock.
fn skewed(text: &str) -> Option<String> {
    let codes = ["RequestTimeTooSkewed", "RequestExpired", "too skewed"];
    let between = |open: &str, close: &str| {
        let (_, rest) = text.split_once(open)?;
        Some(rest.split_once(close)?.0.to_owned())
    };
    if codes.iter().any(|code| text.contains(code)) {
        return Some(
            between("<ServerTime>", "</ServerTime>").unwrap_or_else(|| "another time".to_owned()),
        );
    }
    // Azure: "The date header in the request is incorrect", or its detail.
    text.contains("date header")
        .then(|| "another time".to_owned())
}

/// An error and its causes, joined by colons.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(at) = cause {
        let next = at.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = at.source();
    }
    text
}

/// The text without the queries of addresses, which may be signatures, and on one line of bearable length.
pub(super) fn redacted(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, address) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = address
            .find(|c: char| c.is_whitespace() || "\"'<>()".contains(c))
            .unwrap_or(address.len());
        let (address, after) = address.split_at(end);
        let plain = address.split(['?', '#']).next().unwrap_or_default();
        // user:password@host
        shown.push_str(plain.rsplit_once('@').map_or(plain, |(_, host)| host));
        rest = after;
    }
    shown.push_str(rest);
    let mut line: String = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = line.char_indices().nth(500) {
        line.truncate(at);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_queries_and_credentials() {
        let text = "GET http://u:secret@h:1/c/k?sv=1&sig=secret%3D failed\n  (url: https://h/x?X-Amz-Signature=secret)";
        assert_eq!(
            redacted(text),
            "GET http://h:1/c/k failed (url: https://h/x)"
        );
    }

    #[test]
    fn what_may_go_better_is_tried_again_and_what_will_not_is_not() {
        let generic = |text: &str| object_store::Error::Generic {
            store: "S3",
            source: format!("Server returned non-2xx status code: {text}").into(),
        };
        for (text, expected) in [
            (
                "400 Bad Request: <Code>InvalidRequest</Code>",
                Meaning::Final,
            ),
            (
                "400 Bad Request: <Code>RequestTimeout</Code>",
                Meaning::Passing,
            ),
            ("400 Bad Request: <Code>BadDigest</Code>", Meaning::Passing),
            ("429 Too Many Requests: ", Meaning::Passing),
            ("500 Internal Server Error: ", Meaning::Passing),
            ("501 Not Implemented: ", Meaning::Final),
        ] {
            assert_eq!(meaning(&generic(text)), expected, "{text}");
        }
    }

    #[test]
    fn credentials_that_are_wrong_are_no_refusal() {
        let denied = |code: &str| object_store::Error::PermissionDenied {
            path: "x".into(),
            source: format!("403: <Code>{code}</Code>").into(),
        };
        assert!(is_refusal(&denied("AccessDenied")));
        for code in [
            "ExpiredToken",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
        ] {
            assert!(!is_refusal(&denied(code)), "{code}");
        }
        let expired = object_store::Error::Unauthenticated {
            path: "x".into(),
            source: "401: <Code>ExpiredToken</Code>".into(),
        };
        assert!(!is_refusal(&expired));
    }

    #[test]
    fn a_wrong_clock_is_named_with_the_servers_time() {
        let error = object_store::Error::PermissionDenied {
            path: "x".into(),
            source: "403: <Code>RequestTimeTooSkewed</Code><ServerTime>2026-11-22T02:00:00Z</ServerTime>".into(),
        };
        let said = explain("write", "s3://b/x", &error);
        assert!(
            said.chain().contains("2026-11-22T02:00:00Z"),
            "{}",
            said.chain()
        );
        assert!(said.hint_text().unwrap().contains("clock"));
        assert!(!is_refusal(&error));
    }
}

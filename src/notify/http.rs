//! One request to a webhook or a monitor.

use super::address::Address;
use super::delivery::Trouble;
use super::log::truncate;
use super::message::one_line;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use std::time::Duration;

/// Bytes of an answer that are read: an error's reason stands at its beginning.
const ANSWER: usize = 1024;
/// Bytes of an answer that are shown.
const SHOWN: usize = 200;

/// A client that follows no redirects: what is sent is meant for one receiver.
pub(super) fn client(version: &str) -> Result<Client, String> {
    Client::builder()
        .user_agent(format!("lifeboat/{version}"))
        .redirect(redirect::Policy::none())
        .build()
        .map_err(|error| format!("cannot make an HTTP client: {}", causes(&error)))
}

/// Sends `body`; any answer of success will do.
pub(super) async fn post(
    client: &Client,
    url: Url,
    content_type: &'static str,
    body: String,
) -> Result<(), Trouble> {
    let request = client.post(url).header(CONTENT_TYPE, content_type);
    let answer = request.body(body).send().await.map_err(|error| {
        // Only what cannot be sent at all is not worth another try.
        let reason = causes(&error.without_url());
        Trouble::passing(reason)
    })?;
    let status = answer.status();
    let wait = retry_after(&answer);
    let text = beginning(answer).await;
    if status.is_success() {
        return match text.contains("(not found)") || text.contains("(rate limited)") {
            // healthchecks.io answers so, with 200, where it knows no such check or has dropped the ping.
            true => Err(Trouble::lasting(format!("the receiver answered {text:?}"))),
            false => Ok(()),
        };
    }
    let mut reason = format!("the receiver answered {status}");
    if status.is_redirection() {
        reason.push_str(": it is somewhere else now, and redirects are not followed");
    } else if !text.is_empty() {
        reason = format!("{reason}: {text}");
    }
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        return Err(Trouble::Passing { reason, wait });
    }
    Err(Trouble::lasting(reason))
}

/// Where a monitor wants to hear of `what`: `URL/what?rid=…`, with the query that the address has.
pub(super) fn signal_url(
    address: &Address,
    what: Option<&str>,
    rid: Option<&str>,
) -> Result<Url, String> {
    let mut url = address.url()?;
    if let (Some(what), Ok(mut path)) = (what, url.path_segments_mut()) {
        path.pop_if_empty().push(what);
    }
    if let Some(rid) = rid {
        url.query_pairs_mut().append_pair("rid", rid);
    }
    Ok(url)
}

fn retry_after(answer: &Response) -> Option<Duration> {
    // A date is the other form; it is rare, and the pause without it is as good.
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
    let seconds: f64 = seconds.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The beginning of an answer, as one line.
async fn beginning(mut answer: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        bytes.extend_from_slice(&chunk);
    }
    let mut text = one_line(String::from_utf8_lossy(&bytes).trim());
    truncate(&mut text, SHOWN);
    text
}

/// An error with its causes; reqwest's own text leaves them out.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

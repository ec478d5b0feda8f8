//! The bodies of webhooks, each within its receiver's limits and with text from outside escaped its way.

use super::channel::{Occasion, Style};
use super::log::truncate;
use super::message::Message;
use crate::event::Outcome;
use chrono::SecondsFormat;
use serde_json::{Value, json};

/// Characters of a section's text in Slack: 3,000 are refused beyond
/// (<https://docs.slack.dev/reference/block-kit/blocks/section-block>). Bytes here, which are never fewer.
const SLACK_TEXT: usize = 2900;
/// Characters of a message's content in Discord: 2,000
/// (<https://discord.com/developers/docs/resources/webhook#execute-webhook>).
const DISCORD_CONTENT: usize = 1900;
/// Characters of an embed's description in Discord: 4,096, and 6,000 of all embeds together.
const DISCORD_DESCRIPTION: usize = 3900;
/// Bytes of a message in Teams: 28 KB
/// (<https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook>).
const TEAMS_BODY: usize = 26_000;

/// The body of a webhook.
pub(super) fn body(message: &Message, style: Style) -> Value {
    match style {
        Style::Json => generic(message),
        Style::Slack => slack(message),
        Style::Discord => discord(message),
        Style::Teams => teams(message),
    }
}

/// Everything that is known, for programs.
pub(super) fn generic(message: &Message) -> Value {
    json!({
        "message_type": "notification",
        "occasion": message.occasion_name(),
        "title": message.title,
        "text": message.facts_text(),
        "summary": message.summary,
        "overdue": message.overdue,
        "log": message.log,
        "host": message.host,
        "version": message.version,
        "time": message.time.to_rfc3339_opts(SecondsFormat::Secs, true),
    })
}

/// Blocks of text. `verbatim` keeps Slack from making links and mentions of what looks like them.
fn slack(message: &Message) -> Value {
    let section = |text: String| {
        json!({
            "type": "section",
            "text": { "type": "mrkdwn", "verbatim": true, "text": text },
        })
    };
    let title = slack_escaped(&message.title, SLACK_TEXT);
    let mut blocks = vec![section(format!("*{title}*"))];
    let facts = message.facts_text();
    if !facts.is_empty() {
        blocks.push(section(slack_escaped(&facts, SLACK_TEXT)));
    }
    json!({ "text": title, "blocks": blocks })
}

/// The three characters that are Slack's (<https://docs.slack.dev/messaging/formatting-message-text>): with them go
/// `<!channel>`, `<@user>` and links.
fn slack_escaped(text: &str, limit: usize) -> String {
    escaped(text, limit, |c| match c {
        '&' => Some("&amp;".to_owned()),
        '<' => Some("&lt;".to_owned()),
        '>' => Some("&gt;".to_owned()),
        _ => None,
    })
}

/// A line and an embed. No mention of the text is one: `allowed_mentions` allows none.
fn discord(message: &Message) -> Value {
    json!({
        "content": markdown_escaped(&message.title, DISCORD_SPECIAL, DISCORD_CONTENT),
        "allowed_mentions": { "parse": [] },
        "embeds": [{
            "description": markdown_escaped(&message.facts_text(), DISCORD_SPECIAL, DISCORD_DESCRIPTION),
            "color": color(message),
            "timestamp": message.time.to_rfc3339_opts(SecondsFormat::Secs, true),
        }],
    })
}

fn color(message: &Message) -> u32 {
    let partial = message
        .summary
        .as_ref()
        .is_some_and(|summary| summary.outcome == Outcome::Partial);
    match message.occasion {
        Some(Occasion::Failure) if partial => 0x00e6_9f00,
        Some(Occasion::Failure | Occasion::Absence) => 0x00cc_2936,
        Some(Occasion::Recovery | Occasion::Success) => 0x002e_8b57,
        None => 0x0060_7d8b,
    }
}

/// An Adaptive Card in the envelope that Workflows' "when a Teams webhook request is received" wants.
fn teams(message: &Message) -> Value {
    let mut limit = 4000;
    loop {
        let card = card(message, limit);
        // Long values are cut until the whole fits.
        if limit < 100 || card.to_string().len() <= TEAMS_BODY {
            return card;
        }
        limit /= 2;
    }
}

fn card(message: &Message, limit: usize) -> Value {
    let color = match message.occasion {
        Some(Occasion::Failure | Occasion::Absence) => "Attention",
        Some(Occasion::Recovery | Occasion::Success) => "Good",
        None => "Default",
    };
    let facts: Vec<Value> = message
        .facts
        .iter()
        .map(|(label, value)| json!({ "title": label, "value": markdown_escaped(value, TEAMS_SPECIAL, limit) }))
        .collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": [
                    {
                        "type": "TextBlock",
                        "text": markdown_escaped(&message.title, TEAMS_SPECIAL, limit),
                        "weight": "Bolder",
                        "size": "Medium",
                        "color": color,
                        "wrap": true,
                    },
                    { "type": "FactSet", "facts": facts },
                ],
            },
        }],
    })
}

/// What Discord's Markdown takes for markup or a mention.
const DISCORD_SPECIAL: &str = "\\`*_~|[]<>#@";
/// What an Adaptive Card's Markdown takes for markup; HTML and mentions are none there.
const TEAMS_SPECIAL: &str = "\\`*_~[]";

/// Markdown's characters, with a backslash each.
fn markdown_escaped(text: &str, special: &str, limit: usize) -> String {
    escaped(text, limit, |c| {
        special.contains(c).then(|| format!("\\{c}"))
    })
}

/// Escapes character by character, and ends with `…` where the next one would go beyond `limit` bytes.
fn escaped(text: &str, limit: usize, escape: impl Fn(char) -> Option<String>) -> String {
    let mut out = String::new();
    for c in text.trim_end().chars() {
        let next = escape(c).unwrap_or_else(|| c.to_string());
        if out.len() + next.len() > limit {
            truncate(&mut out, limit);
            out.push('…');
            return out;
        }
        out.push_str(&next);
    }
    out
}

//! What can be told without a receiver.

use super::log::Tail;
use super::message::one_line;
use super::{Address, Audience, Channel, Smtp, Style, Tls};
use crate::event::Event;
use crate::secret::Secret;
use chrono::DateTime;

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

#[test]
fn styles_are_guessed_from_the_host_and_not_from_what_looks_like_it() {
    for (url, style) in [
        ("https://hooks.slack.com/services/T/B/X", Style::Slack),
        ("https://discord.com/api/webhooks/1/x", Style::Discord),
        (
            "https://canary.discord.com/api/webhooks/1/x",
            Style::Discord,
        ),
        ("https://acme.webhook.office.com/webhookb2/x", Style::Teams),
        (
            "https://prod-1.westeurope.logic.azure.com:443/workflows/x",
            Style::Teams,
        ),
        (
            "https://x.environment.api.powerplatform.com:443/y",
            Style::Teams,
        ),
        ("https://hooks.slack.com.evil.example/x", Style::Json),
        ("https://notdiscord.com/x", Style::Json),
        ("https://hooks.example/hooks.slack.com", Style::Json),
    ] {
        let address = Address::parse(&secret(url), &["https"]).unwrap();
        assert_eq!(Style::guess(&address), style, "{url}");
    }
}

#[test]
fn an_address_shows_its_host_only() {
    let address = Address::parse(
        &secret("https://user:pass@h.example:8443/a?b#c"),
        &["https"],
    );
    let address = address.unwrap();
    assert_eq!(address.shown(), "https://h.example:8443/…");
    assert_eq!(format!("{address:?}"), "https://h.example:8443/…");
    for wrong in ["", "hooks", "https://", "ftp://h/x", "mailto:a@b.example"] {
        assert!(
            Address::parse(&secret(wrong), &["https"]).is_err(),
            "{wrong:?}"
        );
    }
}

#[test]
fn what_a_receiver_repeats_is_concealed() {
    let url = secret("https://h.example/T0SECRET/B0SECRET?sig=S0SECRET%2Fx");
    let channel = Channel::webhook("x", Audience::default(), &url, None).unwrap();
    let text = channel.conceal("T0SECRET, /T0SECRET/B0SECRET and S0SECRET/x, sig=S0SECRET%2Fx");
    assert!(!text.contains("SECRET"), "{text}");
}

#[test]
fn a_mail_server_is_encrypted_unless_it_need_not_be() {
    let smtp = |url: &str, tls| Smtp::new(&secret(url), tls, None, "a@example.com", None);
    for (url, tls) in [
        ("smtp://mail.example.com", Tls::StartTls),
        ("smtp://localhost.example.com", Tls::StartTls),
        ("smtp://10.0.0.1:25", Tls::StartTls),
        ("smtps://mail.example.com", Tls::Implicit),
        ("smtps://localhost", Tls::Implicit),
        ("smtp://localhost", Tls::None),
        ("smtp://127.1.2.3:25", Tls::None),
        ("smtp://[::1]:25", Tls::None),
    ] {
        assert_eq!(smtp(url, None).unwrap().tls(), tls, "{url}");
    }
    assert!(smtp("smtps://mail.example.com", Some(Tls::None)).is_err());
    assert!(smtp("smtp://user:pass@mail.example.com", None).is_err());
    assert!(smtp("https://mail.example.com", None).is_err());
}

#[test]
fn a_tail_keeps_the_end_within_its_bytes() {
    let mut tail = Tail::new(200);
    for number in 0..100 {
        let message = format!("line {number}");
        tail.add(&Event::Detail { message }, DateTime::UNIX_EPOCH);
    }
    let lines = tail.take();
    assert!(lines.iter().map(|line| line.len() + 1).sum::<usize>() <= 200);
    assert_eq!(
        lines.last().map(String::as_str),
        Some("1970-01-01T00:00:00Z line 99")
    );
    assert!(lines.len() > 3);
    let message = "é".repeat(1000);
    tail.add(&Event::Detail { message }, DateTime::UNIX_EPOCH);
    assert_eq!(tail.take().len(), 1);
    assert!(tail.take().is_empty());
}

#[test]
fn one_line_is_one_line() {
    let text = one_line("a\r\nb\u{2028}c\u{1b}[2J\u{202e}d\0");
    assert_eq!(text, "a  b c [2J d ");
}

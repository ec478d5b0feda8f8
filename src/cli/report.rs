//! A drill's report as one page that needs nothing else: no script, no picture, no font from anywhere.

use super::command::drill::span;
use super::output::size;
use crate::operation::drill::{ArtifactResult, DrillReport, Timed};
use std::fmt::Write as _;

/// How wide the chart is, in the units of its own.
const CHART: f64 = 420.0;
/// Of more steps than these only the longer ones are shown.
const MOST_LINES: usize = 60;
/// How high one of its lines is.
const LINE: usize = 20;

const STYLE: &str = "
:root{--ink:#1c2733;--soft:#5b6b7a;--line:#dfe5ea;--good:#176f4b;--bad:#a61e2d;--bar:#3a7ca5;--other:#b8c4ce;--paper:#fff}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:62rem;margin:2rem auto;padding:0 1.2rem}
h1{font-size:1.5rem;margin:0 0 .2rem}h2{font-size:1.1rem;margin:2.2rem 0 .6rem}
.verdict{display:inline-block;padding:.15rem .7rem;border-radius:.3rem;color:#fff;font-weight:600;background:var(--good)}
.verdict.bad{background:var(--bad)}
.cards{display:flex;flex-wrap:wrap;gap:.8rem;margin:1.2rem 0}
.card{flex:1 1 11rem;border:1px solid var(--line);border-radius:.4rem;padding:.6rem .9rem}
.card b{display:block;font-size:1.35rem}.card span{color:var(--soft);font-size:.85rem}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem .35rem 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}
th{font-weight:600;color:var(--soft);white-space:nowrap}td:first-child{min-width:13rem}td.n{text-align:right;white-space:nowrap}
.good{color:var(--good)}.bad{color:var(--bad)}.soft{color:var(--soft)}
code{font-family:ui-monospace,monospace;font-size:.9em}ul{margin:.2rem 0;padding-left:1.1rem}
svg{width:100%;height:auto;display:block}svg text{font:11px system-ui,sans-serif;fill:var(--ink)}
footer{margin:2.5rem 0 1rem;color:var(--soft);font-size:.85rem}
@media print{body{margin:0;max-width:none}tr,.card{break-inside:avoid}}
";

/// The page.
pub(super) fn page(report: &DrillReport) -> String {
    let failures = report.failures();
    let proven = failures.is_empty();
    let reference = escape(&report.reference());
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Drill of {reference}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Drill of {reference}</h1>\n<p>{}</p>\n",
        match proven {
            true =>
                "<span class=\"verdict\">Proven</span> Everything in this backup was restored and is as it was.",
            false =>
                "<span class=\"verdict bad\">Not proven</span> This backup must not be relied on.",
        }
    );
    if !proven {
        let items: Vec<String> = failures
            .iter()
            .map(|failure| format!("<li>{}</li>", escape(failure)))
            .collect();
        let items = items.concat();
        let _ = writeln!(page, "<ul class=\"bad\">{items}</ul>");
    }
    page.push_str(&cards(report, proven));
    page.push_str(&origin(report));
    page.push_str(&chart(&report.steps));
    page.push_str(&comparison(&report.artifacts));
    page.push_str(&checks(report));
    page.push_str(&images(report));
    page.push_str(&notes(report));
    let _ = write!(
        page,
        "<footer>Written by lifeboat {}. The recovery time is measured from the first byte that was read from the repository \
         until everything had been restored, served and was compared; reading indexes, own checks and cleaning up are not in \
         it. What was restored ran without any network and was removed afterwards.</footer>\n</body>\n</html>\n",
        escape(&report.lifeboat_version)
    );
    page
}

fn cards(report: &DrillReport, proven: bool) -> String {
    let sum = |size: fn(&ArtifactResult) -> u64| report.artifacts.iter().map(size).sum::<u64>();
    let recovery = match proven {
        true => format!("{:.1} s", report.recovery_seconds),
        false => "\u{2013}".to_owned(),
    };
    let cards = [
        (recovery, "measured recovery time (RTO)"),
        (
            span(report.data_age_seconds),
            "age of the data at the drill (RPO)",
        ),
        (size(sum(|one| one.stored_size)), "read from the repository"),
        (size(sum(|one| one.raw_size)), "restored"),
    ];
    let cards: Vec<String> = cards
        .iter()
        .map(|(value, what)| {
            format!(
                "<div class=\"card\"><b>{}</b><span>{what}</span></div>\n",
                escape(value)
            )
        })
        .collect();
    let cards = cards.concat();
    format!("<div class=\"cards\">\n{cards}</div>\n")
}

/// What was proven, when, and from where.
fn origin(report: &DrillReport) -> String {
    let time =
        |time: chrono::DateTime<chrono::Utc>| time.format("%Y-%m-%d %H:%M:%S UTC").to_string();
    let proof = match report.proof {
        Some(at) => format!("written beside the backup at {}", time(at)),
        None => "none was written".to_owned(),
    };
    let rows = [
        ("Stack", report.stack.clone()),
        ("Backup", report.backup.to_string()),
        ("Backup began", time(report.backup.started())),
        ("Repository", report.repository.clone()),
        ("SHA-256 of its SHA256SUMS", report.sha256sums.clone()),
        ("Drill", report.run.clone()),
        ("Drill began", time(report.started)),
        ("Drill ended", time(report.finished)),
        (
            "On",
            format!("{}, Docker Engine {}", report.host, report.engine),
        ),
        ("Proof", proof),
    ];
    let rows: Vec<String> = rows
        .iter()
        .map(|(what, value)| format!("<tr><th>{what}</th><td>{}</td></tr>\n", escape(value)))
        .collect();
    let rows = rows.concat();
    format!("<h2>What, when, from where</h2>\n<table>\n{rows}</table>\n")
}

/// Every step as a bar, from when to when.
fn chart(steps: &[Timed]) -> String {
    let end = steps
        .iter()
        .map(|step| step.begun_seconds + step.seconds)
        .fold(0.001, f64::max);
    let shown: Vec<&Timed> = match steps.len() > MOST_LINES {
        true => steps
            .iter()
            .filter(|step| step.seconds > end / 100.0)
            .collect(),
        false => steps.iter().collect(),
    };
    let rest = match steps.len() - shown.len() {
        0 => String::new(),
        shorter => format!(" {shorter} steps that took less than a hundredth of it are not shown."),
    };
    let mut lines = String::new();
    for (index, step) in shown.iter().enumerate() {
        let y = index * LINE;
        let x = step.begun_seconds / end * CHART;
        let width = (step.seconds / end * CHART).max(1.5);
        let fill = if step.recovery {
            "var(--bar)"
        } else {
            "var(--other)"
        };
        let _ = writeln!(
            lines,
            "<g><title>{text}: {seconds:.2} s</title><text x=\"0\" y=\"{base}\">{short}</text>\
             <rect x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"11\" rx=\"2\" fill=\"{fill}\"/>\
             <text x=\"{after:.1}\" y=\"{base}\">{seconds:.2} s</text></g>",
            text = escape(&step.step),
            short = escape(&shortened(&step.step, 54)),
            seconds = step.seconds,
            base = y + 13,
            top = y + 4,
            left = 380.0 + x,
            after = 380.0 + x + width + 5.0,
        );
    }
    format!(
        "<h2>How long it took</h2>\n<p class=\"soft\">{end:.1} s in all; blue is what a recovery does, too.{rest}</p>\n\
         <svg viewBox=\"0 0 860 {}\" role=\"img\" aria-label=\"The steps of the drill and their times\">\n{lines}</svg>\n",
        (shown.len() * LINE).max(LINE)
    )
}

fn comparison(artifacts: &[ArtifactResult]) -> String {
    let rows: Vec<String> = artifacts
        .iter()
        .map(|one| {
            let counted: Vec<String> = one
                .compared
                .iter()
                .map(|counted| format!("{}:&nbsp;{}", escape(&counted.what), counted.count))
                .collect();
            let mut cell = match &one.failed {
                None if counted.is_empty() => "<span class=\"good\">nothing in it, as before</span>".to_owned(),
                None => format!("<span class=\"good\">as it was</span>: {}", counted.join(", ")),
                Some(reason) => format!("<span class=\"bad\">{}</span>", escape(reason)),
            };
            for open in &one.not_compared {
                let _ = write!(cell, "<br><span class=\"soft\">not compared: {}</span>", escape(open));
            }
            format!(
                "<tr><td><code>{}</code></td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{:.1} s</td><td>{cell}</td></tr>\n",
                escape(&one.artifact.to_string()),
                size(one.raw_size),
                size(one.stored_size),
                one.seconds,
            )
        })
        .collect();
    let rows = rows.concat();
    format!(
        "<h2>What was compared with what was counted when the backup was made</h2>\n<table>\n\
         <tr><th>Artifact</th><th>Plain</th><th>Stored</th><th>Time</th><th>Result</th></tr>\n{rows}</table>\n"
    )
}

fn checks(report: &DrillReport) -> String {
    if report.checks.is_empty() {
        return String::new();
    }
    let rows: Vec<String> = report
        .checks
        .iter()
        .map(|check| {
            let outcome = match &check.failed {
                None => "<span class=\"good\">holds</span>".to_owned(),
                Some(reason) => format!("<span class=\"bad\">{}</span>", escape(reason)),
            };
            format!(
                "<tr><td><code>{}</code></td><td><code>{}</code></td><td>{}</td><td>{outcome}</td></tr>\n",
                escape(&check.check.to_string()),
                escape(&check.artifact.to_string()),
                escape(check.answer.as_deref().unwrap_or("\u{2013}")),
            )
        })
        .collect();
    let rows = rows.concat();
    format!(
        "<h2>Own checks</h2>\n<table>\n<tr><th>Check</th><th>Asked</th><th>Answer</th><th>Result</th></tr>\n{rows}</table>\n"
    )
}

fn images(report: &DrillReport) -> String {
    if report.images.is_empty() {
        return String::new();
    }
    let rows: Vec<String> = report
        .images
        .iter()
        .map(|image| {
            format!(
                "<tr><td>{}</td><td>{}<br><code class=\"soft\">{}</code></td><td>{}</td></tr>\n",
                escape(&image.service),
                escape(&image.image),
                escape(&image.id),
                match image.exact {
                    true => "the backup's own",
                    false => "another one than the backup's",
                }
            )
        })
        .collect();
    let rows = rows.concat();
    format!(
        "<h2>Images that it was restored into</h2>\n<table>\n<tr><th>Service</th><th>Image</th><th></th></tr>\n{rows}</table>\n"
    )
}

fn notes(report: &DrillReport) -> String {
    if report.notes.is_empty() {
        return String::new();
    }
    let items: Vec<String> = report
        .notes
        .iter()
        .map(|note| format!("<li>{}</li>\n", escape(note)))
        .collect();
    let items = items.concat();
    format!("<h2>Notes</h2>\n<ul>\n{items}</ul>\n")
}

/// Text as it stands in a page: names come from outside, and control characters are shown.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.extend(c.escape_default()),
            c => escaped.push(c),
        }
    }
    escaped
}

fn shortened(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let short: String = text.chars().take(longest - 1).collect();
    format!("{short}\u{2026}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_is_obeyed() {
        assert_eq!(
            escape("<script>\"a\" & 'b'</script>\u{1b}[2J"),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;\\u{1b}[2J"
        );
    }

    #[test]
    fn bars_lie_where_their_times_are() {
        let step = |step: &str, begun_seconds, seconds| Timed {
            step: step.to_owned(),
            begun_seconds,
            seconds,
            recovery: true,
        };
        let chart = chart(&[step("one", 0.0, 5.0), step("<two>", 5.0, 5.0)]);
        assert!(
            chart.contains("x=\"380.0\" y=\"4\" width=\"210.0\""),
            "{chart}"
        );
        assert!(
            chart.contains("x=\"590.0\" y=\"24\" width=\"210.0\""),
            "{chart}"
        );
        assert!(chart.contains("&lt;two&gt;") && !chart.contains("<two>"));
    }
}

//! Pieces of pages. Pure. Text reaches a page through [`escape`] alone.

use std::fmt::Write;

use axum::response::{Html, IntoResponse, Response};
use http::{HeaderName, header};
use sojourn_contract::journey::{Bottleneck, Outcome};
use sojourn_journey::draw::printable_text;
use sojourn_journey::quantity::duration;

use crate::journeys::summary::{Part, Summary};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("live.js");

/// A text as it stands in an element or in an attribute's quotes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in printable_text(text).chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// A text as a part of a URL's path; ids keep what is legal there.
pub fn path_segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~:/=@".contains(&byte) {
            encoded.push(byte.into());
        } else {
            // Writing to a String cannot fail.
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    encoded
}

/// A whole page: no file of anybody else's, no script but ours, in no frame.
pub fn page(title: &str, body: &str) -> Response {
    let nonce = format!("{:032x}", rand::random::<u128>());
    let text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <link rel=\"icon\" href=\"data:,\"><style>{STYLE}</style></head>\n<body>{body}<script nonce=\"{nonce}\">{SCRIPT}</script>\
         </body></html>\n",
        escape(title)
    );
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    (headers, Html(text)).into_response()
}

/// What each part of a request's time is, for people.
pub fn meaning(part: Bottleneck) -> &'static str {
    match part {
        Bottleneck::Api => "reading and preparing the request",
        Bottleneck::Queue => "waiting for a place",
        Bottleneck::Prefill => "processing the prompt",
        Bottleneck::Decode => "generating tokens",
        Bottleneck::Preempted => "evicted, waiting to go on",
        Bottleneck::Client => "the client reads its answer",
    }
}

/// The legend of the bars.
pub fn legend() -> String {
    let entry =
        |part: &Bottleneck| format!("<li><i class=\"swatch {part}\"></i><b>{part}</b> <span>{}</span></li>", meaning(*part));
    format!("<ul class=\"legend\">{}</ul>", Bottleneck::ALL.iter().map(entry).collect::<String>())
}

/// A bar whose parts take the room that their times take of `whole` seconds.
pub fn bar(parts: &[Part], whole: f64, is_live: bool) -> String {
    let said: Vec<String> = totals(parts).iter().map(|(part, seconds)| format!("{part} {}", duration(*seconds))).collect();
    let said = said.join(", ");
    let cell = |part: &Part| {
        let width = 100.0 * part.seconds / whole.max(f64::MIN_POSITIVE);
        format!("<i class=\"{}\" style=\"width:{width:.3}%\"></i>", part.part)
    };
    let cells: String = parts.iter().map(cell).collect();
    let live = if is_live { " live" } else { "" };
    format!("<span class=\"bar{live}\" role=\"img\" aria-label=\"{said}\" title=\"{said}\">{cells}</span>")
}

/// The time in each part that there was, in the order of the legend.
pub fn totals(parts: &[Part]) -> Vec<(Bottleneck, f64)> {
    let total = |part: &Bottleneck| parts.iter().filter(|of| of.part == *part).map(|of| of.seconds).sum::<f64>();
    Bottleneck::ALL.iter().map(|part| (*part, total(part))).filter(|(_, seconds)| *seconds > 0.0).collect()
}

/// How a journey ended, or where it is.
pub fn state(journey: &Summary) -> String {
    match (journey.outcome, journey.phase) {
        (Some(outcome), _) => {
            let why = journey.abort_reason.map(|reason| format!(" <small>{reason}</small>")).unwrap_or_default();
            let class = if outcome == Outcome::Ok { "ok" } else { outcome.as_str() };
            format!("<span class=\"state {class}\">{outcome}</span>{why}")
        }
        (None, phase) => {
            let phase = phase.map(|phase| format!(" <small>{phase}</small>")).unwrap_or_default();
            format!("<span class=\"state running\">running</span>{phase}")
        }
    }
}

/// How long ago, for people.
pub fn ago(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => "now".to_owned(),
        s if s < 60.0 => format!("{s:.0} s ago"),
        s if s < 3600.0 => format!("{:.0} min ago", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h ago", s / 3600.0),
        s => format!("{:.0} d ago", s / 86400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        assert_eq!(escape("<img src=x onerror='a()'>&\"\u{1b}"), "&lt;img src=x onerror=&#39;a()&#39;&gt;&amp;&quot;\u{fffd}");
        assert_eq!(path_segment("a/b:c?d#<e>+\u{e9}"), "a/b:c%3Fd%23%3Ce%3E%2B%C3%A9");
    }

    #[test]
    fn a_bar_says_what_it_shows() {
        let part = |part, seconds| Part { part, seconds };
        let parts = [part(Bottleneck::Queue, 1.0), part(Bottleneck::Decode, 2.0), part(Bottleneck::Decode, 1.0)];
        let bar = bar(&parts, 4.0, false);
        assert!(bar.contains("aria-label=\"queue 1.00 s, decode 3.00 s\""), "{bar}");
        assert!(bar.contains("<i class=\"queue\" style=\"width:25.000%\">"), "{bar}");
    }

    #[test]
    fn ages_have_the_unit_that_people_use() {
        for (seconds, text) in [(0.2, "now"), (12.4, "12 s ago"), (150.0, "2 min ago"), (7300.0, "2 h ago"), (2e5, "2 d ago")] {
            assert_eq!(ago(seconds), text);
        }
    }
}

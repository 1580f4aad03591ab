//! `sojourn-engine journeys`: the admin port's JSON as lines, or one journey drawn. Does I/O.

use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use sojourn_contract::path;
use sojourn_journey::draw::{self, Style, draw, printable_text};
use sojourn_journey::quantity::duration;
use sojourn_journey::trace::Trace;

use super::filter::Filter;
use super::summary::Summary;

/// How often `--follow` looks.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer.
const MAX_ANSWER: usize = 64 << 20;
/// Columns of a line without its bar and its request id.
const OTHER_COLUMNS: usize = 74;

/// What to show.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where the admin port is.
    pub url: String,
    /// Which journeys.
    pub filter: Filter,
    /// How many at most.
    pub limit: usize,
    /// Go on as journeys end.
    pub follow: bool,
    /// One journey instead: a request id, a trace id or a span id.
    pub id: Option<String>,
}

/// Prints what is wanted; with `follow` until it is interrupted or nobody reads.
pub async fn show(wanted: &Wanted, style: Style) -> anyhow::Result<()> {
    let engine = Engine::at(&wanted.url)?;
    match &wanted.id {
        Some(id) => one(&engine, id, style).await,
        None if wanted.follow => follow(&engine, wanted, style).await,
        None => {
            let list = engine.list(wanted.filter, wanted.limit).await?;
            // As in a log, the newest comes last.
            print(list.journeys.iter().rev(), style)?;
            print_line(&format!("{} in flight, {} of at most {} kept", list.in_flight, list.kept, list.history))
        }
    }
}

async fn one(engine: &Engine, id: &str, style: Style) -> anyhow::Result<()> {
    let text = engine.get(&format!("{}/{}.json", path::JOURNEYS, percent_encoded(id))).await?;
    for trace in Trace::read(&text).context("the engine's answer is no trace")? {
        print_line(draw(&trace, style).trim_end())?;
    }
    Ok(())
}

/// Every journey once, when it has ended; of those that ended before, the last.
async fn follow(engine: &Engine, wanted: &Wanted, style: Style) -> anyhow::Result<()> {
    let mut seen: HashSet<String> = HashSet::new();
    let mut limit = wanted.limit;
    loop {
        let list = engine.list(wanted.filter, usize::MAX).await?;
        let ended: Vec<Summary> = list.journeys.into_iter().filter(|journey| journey.outcome.is_some()).collect();
        print(unseen(&ended, &seen, limit).into_iter(), style)?;
        seen = ended.into_iter().map(|journey| journey.span_id).collect();
        // The limit is for what was there before; of what comes nothing is missed.
        limit = usize::MAX;
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

/// The newest of `ended` that nobody has seen, the newest last.
fn unseen<'a>(ended: &'a [Summary], seen: &HashSet<String>, limit: usize) -> Vec<&'a Summary> {
    let unseen = ended.iter().filter(|journey| !seen.contains(&journey.span_id));
    let mut unseen: Vec<&Summary> = unseen.take(limit).collect();
    unseen.reverse();
    unseen
}

fn print<'a>(journeys: impl Iterator<Item = &'a Summary>, style: Style) -> anyhow::Result<()> {
    journeys.into_iter().try_for_each(|journey| print_line(&line(journey, style)))
}

fn print_line(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot write")
}

/// A journey in one line: how it ended, how long it took, where the time went, its tokens and its id.
fn line(journey: &Summary, style: Style) -> String {
    let state = journey.outcome.map_or("running", |outcome| outcome.as_str());
    let why = journey.abort_reason.map_or_else(|| journey.bottleneck.as_str(), |reason| reason.as_str());
    let parts: Vec<_> = journey.parts.iter().map(|part| (part.part, part.seconds)).collect();
    let width = style.width.saturating_sub(OTHER_COLUMNS).max(10);
    // The bar's colours take no columns, so it is padded by what it would be without them.
    let plain = draw::bar(&parts, Style { width, color: false });
    let padding = " ".repeat(width.saturating_sub(plain.chars().count()));
    let bar = draw::bar(&parts, Style { width, ..style });
    let tokens = match journey.prompt_tokens {
        None => "-".to_owned(),
        Some(prompt) => format!("{prompt}→{}", journey.output_tokens),
    };
    let preempted = if journey.preemptions > 0 { format!("  ×{}", journey.preemptions) } else { String::new() };
    let first = journey.time_to_first_token_seconds.map_or_else(|| "-".to_owned(), duration);
    format!(
        "{state:<8} {:>8} {bar}{padding} {first:>8} {tokens:>11} {why:<17} {}{preempted}",
        duration(journey.duration_seconds),
        printable_text(&journey.request_id),
    )
}

fn percent_encoded(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    id.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[derive(Deserialize)]
struct List {
    in_flight: usize,
    kept: usize,
    history: usize,
    journeys: Vec<Summary>,
}

/// The admin port of an engine.
struct Engine {
    base: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Engine {
    fn at(url: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("'{url}' is no URL"))?;
        let Some(authority) = uri.authority().filter(|_| uri.scheme_str() == Some("http")) else {
            bail!("'{url}' is not of the form http://HOST:PORT");
        };
        let base = format!("http://{authority}");
        Ok(Self { base, client: Client::builder(TokioExecutor::new()).build_http() })
    }

    async fn list(&self, filter: Filter, limit: usize) -> anyhow::Result<List> {
        let text = self.get(&format!("{}?filter={}&limit={limit}", path::JOURNEYS_JSON, filter.as_str())).await?;
        serde_json::from_str(&text).with_context(|| format!("{} answers, but not as an engine's admin port does", self.base))
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let request = Request::builder().method(Method::GET).uri(format!("{}{path}", self.base)).body(Empty::new())?;
        let answer = async {
            let response = self.client.request(request).await.with_context(|| {
                format!(
                    "no engine's admin port answers at {}; is the engine running, on this machine, with another --admin-port? \
                     In a cluster: kubectl port-forward POD 8001",
                    self.base
                )
            })?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("the answer of {} broke off: {error}", self.base))?.to_bytes();
            anyhow::Ok((head, String::from_utf8_lossy(&body).into_owned()))
        };
        let (head, text) = tokio::time::timeout(PATIENCE, answer)
            .await
            .with_context(|| format!("{} did not answer within {} s", self.base, PATIENCE.as_secs()))??;
        if head.status == StatusCode::OK {
            return Ok(text);
        }
        let is_json =
            head.headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
        let error = serde_json::from_str::<serde_json::Value>(&text).ok().filter(|_| is_json);
        let error = error.and_then(|body| body.get("error")?.as_str().map(str::to_owned));
        bail!("{}{path}: {}", self.base, error.unwrap_or_else(|| format!("{} {}", head.status, text.trim())))
    }
}

#[cfg(test)]
mod tests {
    use sojourn_contract::journey::{AbortReason, Bottleneck, Outcome};

    use super::super::summary::Part;
    use super::super::summary::tests::summary;
    use super::*;

    const STYLE: Style = Style { width: 94, color: false };

    #[test]
    fn a_journey_is_one_line() {
        let part = |part, seconds| Part { part, seconds };
        let journey = Summary {
            parts: vec![part(Bottleneck::Queue, 1.0), part(Bottleneck::Decode, 3.0)],
            prompt_tokens: Some(41),
            output_tokens: 60,
            time_to_first_token_seconds: Some(1.2),
            bottleneck: Bottleneck::Decode,
            preemptions: 2,
            ..summary("order-7", 4.0)
        };
        let expected = "ok         4.00 s ░░░░░███████████████   1.20 s       41→60 decode            order-7  ×2";
        assert_eq!(line(&journey, STYLE), expected);
    }

    #[test]
    fn a_line_says_why_there_was_no_answer_and_moves_no_cursor() {
        let journey = Summary {
            outcome: Some(Outcome::Rejected),
            abort_reason: Some(AbortReason::Overloaded),
            ..summary("a\u{1b}[2J", 0.5)
        };
        let line = line(&journey, STYLE);
        assert!(line.starts_with("rejected") && line.contains("overloaded"), "{line}");
        assert!(line.ends_with("a\u{fffd}[2J"), "{line}");
    }

    #[test]
    fn what_follows_is_shown_once_and_in_order() {
        let ended = ["3", "2", "1"].map(|id| Summary { span_id: id.to_owned(), ..summary(id, 1.0) });
        let ids = |seen: &[&str], limit| {
            let seen = seen.iter().map(|id| (*id).to_owned()).collect();
            unseen(&ended, &seen, limit).iter().map(|journey| journey.span_id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(ids(&[], 2), ["2", "3"]);
        assert_eq!(ids(&["1", "2"], usize::MAX), ["3"]);
        assert!(ids(&["1", "2", "3"], usize::MAX).is_empty());
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_said_with_what_to_do() {
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let wanted = Wanted { url: format!("http://{nobody}"), filter: Filter::All, limit: 1, follow: false, id: None };
        let error = format!("{:#}", show(&wanted, STYLE).await.unwrap_err());
        assert!(error.contains(&format!("no engine's admin port answers at http://{nobody}")), "{error}");
        assert!(error.contains("kubectl port-forward"), "{error}");
    }

    #[tokio::test]
    async fn an_address_of_another_form_is_said() {
        for url in ["127.0.0.1:8001", "https://127.0.0.1:8001", "not a url"] {
            let wanted = Wanted { url: url.to_owned(), filter: Filter::All, limit: 1, follow: false, id: None };
            assert!(show(&wanted, STYLE).await.is_err(), "{url}");
        }
    }
}

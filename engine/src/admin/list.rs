//! The page that lists journeys. Pure: a listing in, a page out.

use axum::response::Response;
use sojourn_contract::journey::Kind;
use sojourn_contract::{flag, path};
use sojourn_journey::quantity::duration;

use super::Listing;
use super::html::{ago, bar, escape, legend, page as whole_page, path_segment, state};
use crate::journeys::filter::Filter;
use crate::journeys::summary::Summary;

/// The page of a listing.
pub fn page(listing: &Listing, history: usize, model: &str) -> Response {
    let body = format!(
        "<header><h1>Journeys</h1><p>{}: where the time of each request went</p><p class=\"end\" id=\"link\" role=\"status\"></p></header>\
         <main>{}<div data-live>{}{}{}</div></main>\
         <footer>In flight, and the last {history} that ended (<code>--{}</code>), in this engine alone. The same as JSON: \
         <a href=\"{json}?filter={}\">{json}</a>. In a terminal: <code>sojourn-engine journeys</code>.</footer>",
        escape(model),
        legend(),
        stalled(listing),
        filters(listing),
        table(listing),
        flag::JOURNEY_HISTORY,
        listing.filter.as_str(),
        json = path::JOURNEYS_JSON,
    );
    whole_page("Journeys", &body)
}

/// What is there instead with tracing off.
pub fn tracing_is_off() -> Response {
    let body = format!(
        "<header><h1>Journeys</h1></header><main><p class=\"note\">Journey tracing is off, so there is nothing to see. Start the \
         engine with <code>--{}</code>; nothing has to receive the traces for this page to work.</p></main>",
        flag::ENABLE_JOURNEY_TRACING
    );
    whole_page("Journeys", &body)
}

fn stalled(listing: &Listing) -> String {
    let Some(stall) = &listing.stall else { return String::new() };
    let requests: Vec<String> = stall.requests.iter().map(|id| format!("<code>{}</code>", escape(id))).collect();
    format!(
        "<p class=\"alarm\" role=\"alert\">Step {} of the model has not come back for {}. In it: {}</p>",
        stall.step,
        duration(stall.seconds),
        requests.join(", ")
    )
}

fn filters(listing: &Listing) -> String {
    let link = |filter: Filter| {
        let current = if filter == listing.filter { " aria-current=\"page\"" } else { "" };
        let count = listing.count(filter);
        let none = if count == 0 { " class=\"none\"" } else { "" };
        let name = match filter {
            Filter::Slow if listing.slow_from > 0.0 => format!("slow: {} or more", duration(listing.slow_from)),
            filter => filter.as_str().to_owned(),
        };
        let title =
            if filter == Filter::Slow { " title=\"as long as the slowest tenth of those that were answered\"" } else { "" };
        let href = format!("{}?filter={}", path::JOURNEYS, filter.as_str());
        format!("<a href=\"{href}\"{current}{none}{title}>{name}<b>{count}</b></a>")
    };
    format!("<nav aria-label=\"Filter\">{}</nav>", Filter::ALL.map(link).concat())
}

fn table(listing: &Listing) -> String {
    let shown: Vec<&Summary> = listing.shown().collect();
    if shown.is_empty() {
        return empty(listing);
    }
    let longest = shown.iter().map(|journey| journey.duration_seconds).fold(0.0, f64::max);
    let rows: String = shown.iter().map(|journey| row(listing, journey, longest)).collect();
    let more = listing.count(listing.filter).saturating_sub(shown.len());
    let more = if more > 0 { format!("<p class=\"note\">{more} older ones are not shown.</p>") } else { String::new() };
    format!(
        "<div class=\"scroll\"><table><thead><tr><th>Request<th>Outcome<th>Where its time went<th class=\"number\">Duration\
         <th class=\"number\" title=\"from the first byte of the request to the first token\">First token\
         <th class=\"number\" title=\"of the prompt → generated\">Tokens<th>Mostly<th>Arrived<th>Trace</tr></thead>\
         <tbody>{rows}</tbody></table></div>{more}"
    )
}

fn empty(listing: &Listing) -> String {
    let text = match (listing.filter, listing.all.is_empty()) {
        (_, true) => "<p>No request yet.</p><p>Send one, and its journey is here while it runs: <code>curl \
             http://localhost:8000/v1/completions -H 'content-type: application/json' -d '{\"prompt\": \"Hello\"}'</code></p>"
            .to_owned(),
        (filter, false) => {
            format!(
                "<p>None of the {} journeys is {}.</p>",
                listing.all.len(),
                if filter == Filter::Error { "an error" } else { filter.as_str() }
            )
        }
    };
    format!("<div class=\"scroll empty\">{text}</div>")
}

fn row(listing: &Listing, journey: &Summary, longest: f64) -> String {
    let twins = listing.all.iter().filter(|other| other.request_id == journey.request_id).count();
    // A client may send an id twice; the id of the span is the request's alone.
    let id = if twins > 1 { &journey.span_id } else { &journey.request_id };
    let kind =
        if journey.kind == Kind::Request { String::new() } else { format!("<span class=\"kind\">{}</span>", journey.kind) };
    let preempted = match journey.preemptions {
        0 => String::new(),
        1 => " <small>preempted once</small>".to_owned(),
        times => format!(" <small>preempted {times} times</small>"),
    };
    let tokens = match journey.prompt_tokens {
        None => "–".to_owned(),
        Some(prompt) => format!("{prompt} → {}", journey.output_tokens),
    };
    format!(
        "<tr><td><a class=\"id\" href=\"{}/{}\" title=\"{request}\">{request}</a>{kind}<td>{}{preempted}<td class=\"parts\">{}\
         <td class=\"number length\">{}<i style=\"--share:{:.1}%\"></i><td class=\"number\">{}<td class=\"number\">{tokens}<td>{}\
         <td>{}<td><span class=\"id trace\" title=\"{trace}\">{trace}</span></tr>",
        path::JOURNEYS,
        path_segment(id),
        state(journey),
        bar(&journey.parts, journey.duration_seconds, journey.outcome.is_none()),
        duration(journey.duration_seconds),
        100.0 * journey.duration_seconds / longest.max(f64::MIN_POSITIVE),
        journey.time_to_first_token_seconds.map_or_else(|| "–".to_owned(), duration),
        journey.bottleneck,
        ago(listing.now_unix_seconds - journey.arrived_unix_seconds),
        request = escape(&journey.request_id),
        trace = escape(&journey.trace_id),
    )
}

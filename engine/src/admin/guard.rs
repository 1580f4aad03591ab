//! Who may ask: whoever can reach 127.0.0.1, and no web page of somebody else's in a browser that runs there. A page that has
//! its own name resolve to 127.0.0.1 (DNS rebinding) gives itself away by the Host header, one that just posts by its Origin.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// Lets a request in if it is for this machine by name, and not sent by another site's page.
pub async fn admit(request: Request, next: Next) -> Response {
    match refusal(request.headers()) {
        None => next.run(request).await,
        Some(reason) => (StatusCode::FORBIDDEN, reason).into_response(),
    }
}

fn refusal(headers: &HeaderMap) -> Option<&'static str> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    if !text(header::HOST).is_some_and(is_local) {
        return Some("this port answers to localhost, 127.0.0.1 and [::1] alone; reach it by one of these names\n");
    }
    let is_foreign = |origin: &str| !origin.strip_prefix("http://").is_some_and(is_local);
    if text(header::ORIGIN).is_some_and(is_foreign) {
        return Some("this port does not answer to pages of other sites\n");
    }
    None
}

/// Whether a host, with or without a port, is this machine by name.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').filter(|(_, port)| port.is_empty() || port.starts_with(':')).map(|(name, _)| name),
        None => host.split(':').next(),
    };
    name.is_some_and(|name| name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "::1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(headers: &[(header::HeaderName, &str)]) -> bool {
        let pairs = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        refusal(&HeaderMap::from_iter(pairs)).is_some()
    }

    #[test]
    fn this_machine_by_its_own_names_is_let_in() {
        for host in ["localhost", "localhost:8001", "LocalHost:1", "127.0.0.1", "127.0.0.1:9000", "[::1]", "[::1]:8001"] {
            assert!(!refused(&[(header::HOST, host)]), "{host}");
        }
    }

    #[test]
    fn every_other_name_is_refused() {
        let hosts =
            ["evil.example", "localhost.evil.example:8001", "127.0.0.1.nip.io", "", "[::1].evil", "10.0.0.7:8001", "[::2]"];
        for host in hosts {
            assert!(refused(&[(header::HOST, host)]), "{host}");
        }
        assert!(refused(&[]));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let host = (header::HOST, "localhost:8001");
        assert!(!refused(&[host.clone(), (header::ORIGIN, "http://localhost:8001")]));
        for origin in ["https://evil.example", "http://evil.example", "null"] {
            assert!(refused(&[host.clone(), (header::ORIGIN, origin)]), "{origin}");
        }
    }
}

//! What is asked of the hub: the files of a revision, what is known of one of them, and its bytes. The token goes to the
//! hub's own origin and nowhere else: redirects are followed here and not by the HTTP client.

use std::time::Duration;

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, LOCATION, RANGE, RETRY_AFTER,
};
use http::{HeaderValue, Method, StatusCode};
use reqwest::{Response, Url};
use serde::Deserialize;

use super::error::HubError;
use super::repository::{Repository, is_commit, is_path};
use super::retry::{Failure, Retry};
use super::settings::Settings;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence in an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 10;
/// Characters of an error that are worth repeating.
const MAX_SAID: usize = 300;

const COMMIT: &str = "x-repo-commit";
const LINKED_ETAG: &str = "x-linked-etag";
const LINKED_SIZE: &str = "x-linked-size";
const ERROR_CODE: &str = "x-error-code";
const ERROR_MESSAGE: &str = "x-error-message";
const RATE_LIMIT: &str = "ratelimit";

/// Asks the hub.
pub(super) struct Client<'a> {
    http: reqwest::Client,
    settings: &'a Settings,
    id: &'a str,
}

/// What is known of a file before it is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    /// The commit that the revision means.
    pub commit: String,
    /// Names the content.
    pub etag: String,
    /// Bytes.
    pub size: u64,
}

/// The files of a revision.
#[derive(Debug)]
pub(super) struct Listing {
    /// The commit that the revision means.
    pub commit: String,
    /// Paths in the repository.
    pub files: Vec<String>,
}

#[derive(Deserialize)]
struct ModelInfo {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl<'a> Client<'a> {
    pub fn new(settings: &'a Settings, repository: &'a Repository) -> Result<Self, HubError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("sojourn-engine/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT.min(settings.patience))
            .build();
        let http = http.map_err(|error| HubError::Configuration(format!("no HTTP client can be made: {}", causes(error))))?;
        Ok(Self { http, settings, id: &repository.id })
    }

    pub fn retry(&self) -> Retry {
        Retry::new(self.settings)
    }

    /// The files of a revision.
    pub async fn list(&self, revision: &str) -> Result<Listing, Failure> {
        let url = self.url(&["api", "models"], &["revision", revision], "");
        let (response, _) = self.send(Method::GET, url, 0).await?;
        let response = self.accept(response, revision, None)?;
        let info: ModelInfo = response.json().await.map_err(broken)?;
        let files = info.siblings.into_iter().map(|sibling| sibling.rfilename).filter(|file| is_path(file)).collect();
        Ok(Listing { commit: self.commit(info.sha)?, files })
    }

    /// What the hub says of a file, without asking the place that the file is kept at.
    pub async fn metadata(&self, revision: &str, file: &str) -> Result<Metadata, Failure> {
        let url = self.url(&[], &["resolve", revision], file);
        let (response, seen) = self.send(Method::HEAD, url, 0).await?;
        if !response.status().is_redirection() {
            self.accept(response, revision, Some(file))?;
        }
        let etag = seen.etag().ok_or_else(|| self.protocol(format!("it gives no ETag for {file}")))?;
        if !is_file_name(&etag) {
            return Err(self.protocol(format!("the ETag of {file} cannot name a file")));
        }
        let size = seen.size().ok_or_else(|| self.protocol(format!("it does not give the size of {file}")))?;
        let commit = seen.commit.ok_or_else(|| self.protocol("it names no commit (X-Repo-Commit)".to_owned()))?;
        Ok(Metadata { commit: self.commit(commit)?, etag, size })
    }

    /// The bytes of a file from an offset on, and where they really begin: at 0 where the server does not do ranges.
    pub async fn open(&self, commit: &str, file: &str, from: u64) -> Result<(Response, u64), Failure> {
        let url = self.url(&[], &["resolve", commit], file);
        let (response, _) = self.send(Method::GET, url, from).await?;
        let response = self.accept(response, commit, Some(file))?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok((response, 0));
        }
        let range = text(response.headers(), CONTENT_RANGE.as_str()).unwrap_or_default();
        let begins: Option<u64> = range.strip_prefix("bytes ").and_then(|range| range.split('-').next()?.parse().ok());
        match begins {
            Some(begins) if begins == from => Ok((response, from)),
            _ => Err(Failure::passing(format!("it was asked for bytes from {from} on and sends '{range}'"))),
        }
    }

    /// `ENDPOINT/BEFORE/ORG/REPO/AFTER/FILE`, each part percent-encoded, so that a revision may hold a slash.
    fn url(&self, before: &[&str], after: &[&str], file: &str) -> Url {
        let mut url = self.settings.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(before).extend(self.id.split('/')).extend(after);
            segments.extend(file.split('/').filter(|segment| !segment.is_empty()));
        }
        url
    }

    /// Follows redirects. A HEAD stops where the hub has said all, in front of the place that the file is kept at.
    async fn send(&self, method: Method, mut url: Url, from: u64) -> Result<(Response, Seen), Failure> {
        let mut seen = Seen::default();
        for _ in 0..MAX_REDIRECTS {
            // Compressed, the length would be another one.
            let mut request = self.http.request(method.clone(), url.clone()).header(ACCEPT_ENCODING, "identity");
            if self.is_ours(&url)
                && let Some(authorization) = &self.settings.authorization
            {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let response = request.send().await.map_err(broken)?;
            seen.note(&response);
            let next = response.headers().get(LOCATION).filter(|_| response.status().is_redirection());
            let Some(next) = next else { return Ok((response, seen)) };
            let next = next.to_str().ok().and_then(|next| url.join(next).ok());
            url = next.ok_or_else(|| self.protocol("it redirects to what is no URL".to_owned()))?;
            if method == Method::HEAD && seen.is_complete() && !self.is_ours(&url) {
                return Ok((response, seen));
            }
        }
        Err(self.protocol(format!("it redirects more than {MAX_REDIRECTS} times")))
    }

    fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.settings.endpoint.origin()
    }

    /// The answer, or what its status means.
    fn accept(&self, response: Response, revision: &str, file: Option<&str>) -> Result<Response, Failure> {
        let (status, headers) = (response.status(), response.headers());
        if status.is_success() {
            return Ok(response);
        }
        let said = text(headers, ERROR_MESSAGE).map(|said| said.chars().take(MAX_SAID).collect()).unwrap_or(status.to_string());
        let passes = status.is_server_error() || matches!(status.as_u16(), 408 | 416 | 429);
        // The place that a file is kept at knows nothing of repositories: its link has run out, say.
        if passes || !self.is_ours(response.url()) {
            return Err(Failure::Passing { why: format!("it answers {status}"), after: asked_pause(headers) });
        }
        let (id, endpoint) = (self.id.to_owned(), self.endpoint());
        let no_file = || match file {
            Some(file) => {
                HubError::NoFile { id: id.clone(), file: file.into(), revision: revision.into(), endpoint: endpoint.clone() }
            }
            None => HubError::NoRepository { id: id.clone(), endpoint: endpoint.clone() },
        };
        Err(Failure::Final(match (text(headers, ERROR_CODE).as_deref(), status) {
            (Some("GatedRepo"), _) => HubError::Gated { id, endpoint, said },
            (Some("RevisionNotFound"), _) => HubError::NoRevision { id, revision: revision.to_owned() },
            (Some("EntryNotFound"), _) => no_file(),
            (_, StatusCode::UNAUTHORIZED) if said.contains("Invalid credentials") => HubError::BadToken { endpoint, said },
            (Some("RepoNotFound"), _) | (_, StatusCode::UNAUTHORIZED) => HubError::NoRepository { id, endpoint },
            (_, StatusCode::FORBIDDEN) => HubError::Gated { id, endpoint, said },
            (_, StatusCode::NOT_FOUND) => no_file(),
            _ => HubError::Protocol { endpoint, why: said },
        }))
    }

    fn commit(&self, commit: String) -> Result<String, Failure> {
        if is_commit(&commit) { Ok(commit) } else { Err(self.protocol("it names a commit that is none".to_owned())) }
    }

    fn protocol(&self, why: String) -> Failure {
        Failure::Final(HubError::Protocol { endpoint: self.endpoint(), why })
    }

    fn endpoint(&self) -> String {
        self.settings.endpoint.as_str().trim_end_matches('/').to_owned()
    }
}

/// What the answers on the way to a file have said of it.
#[derive(Debug, Default)]
struct Seen {
    commit: Option<String>,
    /// Said by the hub of the file, in whatever answer.
    linked: (Option<String>, Option<u64>),
    /// Said by the last answer of itself.
    own: (Option<String>, Option<u64>),
}

impl Seen {
    fn note(&mut self, response: &Response) {
        let headers = response.headers();
        let etag = |name: &str| text(headers, name).as_deref().map(unquoted);
        let size = |name: &str| text(headers, name).and_then(|size| size.parse().ok());
        self.commit = self.commit.take().or_else(|| text(headers, COMMIT));
        self.linked.0 = self.linked.0.take().or_else(|| etag(LINKED_ETAG));
        self.linked.1 = self.linked.1.or_else(|| size(LINKED_SIZE));
        if !response.status().is_redirection() {
            self.own = (etag(ETAG.as_str()), size(CONTENT_LENGTH.as_str()));
        }
    }

    /// All is said; the place that the file is kept at need not be asked.
    fn is_complete(&self) -> bool {
        self.linked.0.is_some() && self.linked.1.is_some()
    }

    fn etag(&self) -> Option<String> {
        self.linked.0.clone().or_else(|| self.own.0.clone())
    }

    fn size(&self) -> Option<u64> {
        self.linked.1.or(self.own.1)
    }
}

fn text(headers: &HeaderMap<HeaderValue>, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// An ETag without `W/` and quotes.
fn unquoted(etag: &str) -> String {
    etag.trim_start_matches("W/").trim_matches('"').to_owned()
}

fn is_file_name(etag: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=128).contains(&etag.len()) && !etag.starts_with('.') && etag.bytes().all(known)
}

/// The pause in `Retry-After`, or the rest of the window in the hub's `RateLimit: "api";r=0;t=55`; seconds both.
fn asked_pause(headers: &HeaderMap<HeaderValue>) -> Option<Duration> {
    let retry_after = text(headers, RETRY_AFTER.as_str()).and_then(|seconds| seconds.trim().parse().ok());
    let window = || text(headers, RATE_LIMIT)?.split(';').find_map(|part| part.trim().strip_prefix("t=")?.parse().ok());
    retry_after.or_else(window).map(Duration::from_secs)
}

/// A connection that failed. The URL stays out of it: the links of the place that files are kept at are secrets.
pub(super) fn broken(error: reqwest::Error) -> Failure {
    Failure::passing(causes(error))
}

fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_names_a_blob_or_is_refused() {
        assert_eq!(unquoted("W/\"abc\""), "abc");
        assert!(is_file_name("abc") && is_file_name("9b2-1"));
        assert!(!is_file_name("") && !is_file_name("../x") && !is_file_name(".x") && !is_file_name("a/b"));
    }

    #[test]
    fn a_pause_is_read_from_either_header() {
        let headers = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            headers
        };
        assert_eq!(asked_pause(&headers("retry-after", "7")), Some(Duration::from_secs(7)));
        assert_eq!(asked_pause(&headers("ratelimit", "\"api\";r=0;t=55")), Some(Duration::from_secs(55)));
        assert_eq!(asked_pause(&headers("retry-after", "soon")), None);
    }
}

//! Where models come from and where they land: the flags, then the variables that huggingface_hub reads.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http::HeaderValue;
use reqwest::Url;
use sojourn_contract::{env, flag};

use super::error::HubError;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// First pause before a request is tried again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Flags of what comes from the hub.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Hugging Face Hub")]
pub struct Flags {
    /// Branch, tag or commit of an hf:// model [default: main].
    #[arg(long = flag::REVISION, value_name = "REVISION")]
    pub revision: Option<String>,
    /// Token for private and gated models; better given in the environment, where no list of processes shows it.
    #[arg(long = flag::HF_TOKEN, env = env::HF_TOKEN, hide_env_values = true, value_name = "TOKEN")]
    pub hf_token: Option<Token>,
    /// Cache for hf:// models, in the layout of huggingface_hub [default: $HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub].
    #[arg(long = flag::DOWNLOAD_DIR, value_name = "DIRECTORY")]
    pub download_dir: Option<PathBuf>,
}

/// A secret that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Where models come from and where they land.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The hub.
    pub endpoint: Url,
    /// The cache's directory.
    pub cache: PathBuf,
    /// What the hub is shown, and nobody else.
    pub authorization: Option<HeaderValue>,
    /// Only the cache may be used.
    pub offline: bool,
    /// First pause before a request is tried again; it doubles each time.
    pub first_pause: Duration,
    /// No byte for so long, and the download is given up.
    pub patience: Duration,
}

impl Settings {
    /// Reads flags and variables; `patience` is `--startup-timeout`.
    pub fn read(flags: &Flags, patience: Duration, env: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        // An empty variable is one that nobody set.
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let home = hub_home(&env);
        let cache = flags.download_dir.clone().or_else(|| env(env::HF_HUB_CACHE).map(PathBuf::from));
        let cache = cache.or_else(|| home.as_ref().map(|home| home.join("hub"))).ok_or_else(|| {
            let (flag, variable) = (flag::DOWNLOAD_DIR, env::HF_HOME);
            HubError::Configuration(format!("there is no place for the model: give --{flag}, or set {variable} or HOME"))
        })?;
        let token = flags.hf_token.clone().filter(|token| !token.0.is_empty()).or_else(|| token_file(home.as_deref(), &env));
        Ok(Self {
            endpoint: endpoint(env(env::HF_ENDPOINT).as_deref().unwrap_or(DEFAULT_ENDPOINT))?,
            cache,
            authorization: token.map(|token| authorization(&token)).transpose()?,
            offline: env(env::HF_HUB_OFFLINE).is_some_and(|value| is_true(&value)),
            first_pause: FIRST_PAUSE,
            patience,
        })
    }
}

/// huggingface_hub's rule for `HF_HOME`.
fn hub_home(env: &impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let cache = || env("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(Path::new(&env("HOME")?).join(".cache")));
    env(env::HF_HOME).map(PathBuf::from).or_else(|| Some(cache()?.join("huggingface")))
}

/// What `hf auth login` has written.
fn token_file(home: Option<&Path>, env: &impl Fn(&str) -> Option<String>) -> Option<Token> {
    let path = env("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(home?.join("token")))?;
    let text = std::fs::read_to_string(path).ok()?;
    Some(Token::from(text.as_str())).filter(|token| !token.0.is_empty())
}

fn endpoint(text: &str) -> Result<Url, HubError> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| HubError::Configuration(format!("{} is '{text}': write https://HOST", env::HF_ENDPOINT)))
}

fn authorization(token: &Token) -> Result<HeaderValue, HubError> {
    let value = HeaderValue::try_from(format!("Bearer {}", token.0));
    let mut value = value
        .map_err(|_| HubError::Configuration(format!("the token in {} has characters that no token has", env::HF_TOKEN)))?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &Flags, variables: &[(&str, &str)]) -> Result<Settings, HubError> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Settings::read(flags, Duration::from_secs(60), find)
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_has_it() {
        let cache = |variables: &[(&str, &str)]| read(&Flags::default(), variables).unwrap().cache;
        let home = ("HOME", "/home/me");
        assert_eq!(cache(&[home]), Path::new("/home/me/.cache/huggingface/hub"));
        assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[home, ("HF_HOME", "/hf")]), Path::new("/hf/hub"));
        assert_eq!(cache(&[home, ("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        let flags = Flags { download_dir: Some("/d".into()), ..Flags::default() };
        assert_eq!(read(&flags, &[("HF_HUB_CACHE", "/c")]).unwrap().cache, Path::new("/d"));
        assert!(read(&Flags::default(), &[]).unwrap_err().to_string().contains("--download-dir"));
    }

    #[test]
    fn a_token_is_sent_and_never_shown() {
        let flags = Flags { hf_token: Some("hf_secret\n".into()), download_dir: Some("/d".into()), ..Flags::default() };
        let settings = read(&flags, &[]).unwrap();
        assert_eq!(settings.authorization.as_ref().unwrap().to_str().unwrap(), "Bearer hf_secret");
        assert!(!format!("{flags:?} {settings:?}").contains("secret"));
        let flags = Flags { hf_token: Some("".into()), ..flags };
        assert_eq!(read(&flags, &[]).unwrap().authorization, None);
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        let flags = Flags { download_dir: Some("/d".into()), ..Flags::default() };
        for endpoint in ["hub.example", "ftp://hub.example"] {
            assert!(read(&flags, &[("HF_ENDPOINT", endpoint)]).unwrap_err().to_string().contains("HF_ENDPOINT"));
        }
        let settings = read(&flags, &[("HF_ENDPOINT", "http://mirror:8080/hub"), ("HF_HUB_OFFLINE", "true")]).unwrap();
        assert_eq!((settings.endpoint.as_str(), settings.offline), ("http://mirror:8080/hub", true));
    }
}

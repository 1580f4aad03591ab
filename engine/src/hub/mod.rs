//! Models from the Hugging Face Hub, in a cache that is shared with huggingface_hub: whole files only, each fetched once,
//! checked, and taken up where it stopped. The hub's crate, at the version that mistral.rs has, gives up on a lock after five
//! seconds and checks no sums, which two pods on one volume cannot live with.

mod cache;
mod checksum;
mod choice;
mod client;
mod error;
mod lock;
mod meter;
mod repository;
mod retry;
mod settings;
mod transfer;

use futures::stream::{self, StreamExt, TryStreamExt};

pub use cache::Cached;
pub use choice::NoChoice;
pub use error::HubError;
pub use meter::Meter;
pub use repository::{Repository, SCHEME};
pub use settings::{Flags, Settings, Token};

use cache::Cache;
use choice::Choice;
use client::Client;
use transfer::Wanted;

/// Files that are fetched at a time.
const AT_A_TIME: usize = 4;
/// Questions that the hub is asked at a time.
const QUESTIONS_AT_A_TIME: usize = 8;

/// A model to have in the cache.
#[derive(Debug, Clone)]
pub struct Download {
    /// Which.
    pub repository: Repository,
    /// From where, and where to.
    pub settings: Settings,
}

impl Download {
    /// Puts together what the flags, the variables and the model's name say.
    pub fn new(repository: Repository, flags: &Flags, settings: Settings) -> Result<Self, HubError> {
        let repository = match &flags.revision {
            Some(revision) => repository.at(revision).map_err(HubError::Configuration)?,
            None => repository,
        };
        Ok(Self { repository, settings })
    }

    /// Has the model in the cache and says where. What is there is used without asking at a commit; at a branch or a tag when
    /// the hub cannot say what that means today.
    pub async fn run(&self, meter: &Meter) -> Result<Cached, HubError> {
        let Self { repository, settings } = self;
        let cache = Cache::new(&settings.cache, &repository.id);
        let cached = cache.find(repository);
        match cached {
            Some(cached) if settings.offline || repository.is_pinned() => Ok(cached),
            None if settings.offline => {
                Err(HubError::Offline { repository: repository.clone(), cache: settings.cache.clone() })
            }
            cached => match (self.fetch(&cache, cached.is_some(), meter).await, cached) {
                (Err(error), Some(cached)) if error.allows_the_cached() => {
                    tracing::warn!(%error, commit = cached.commit, "{repository} is served as it was fetched before");
                    Ok(cached)
                }
                (result, _) => result,
            },
        }
    }

    async fn fetch(&self, cache: &Cache, has_cached: bool, meter: &Meter) -> Result<Cached, HubError> {
        let client = Client::new(&self.settings, &self.repository)?;
        let plan = self.plan(&client, has_cached).await?;
        meter.expect(plan.small.iter().chain(&plan.weights).map(|wanted| wanted.metadata.size).sum());
        // One after the other: where the weights are, all else is too.
        for stage in [&plan.small, &plan.weights] {
            let fetching = stage.iter().map(|wanted| transfer::fetch(&client, cache, wanted, meter));
            stream::iter(fetching).buffer_unordered(AT_A_TIME).try_collect::<Vec<()>>().await?;
        }
        cache.remember(self.repository.revision(), &plan.commit);
        Ok(cache.entry(&plan.commit, &plan.choice))
    }

    /// Asks what the revision means today, and what has to be there.
    async fn plan(&self, client: &Client<'_>, has_cached: bool) -> Result<Plan, HubError> {
        let retry = || client.retry().impatient_if(has_cached);
        let revision = self.repository.revision();
        let (choice, commit) = match &self.repository.file {
            Some(file) => {
                let metadata = retry().run(async || client.metadata(revision, file).await).await?;
                (Choice::of_file(file), metadata.commit)
            }
            None => {
                let listing = retry().run(async || client.list(revision).await).await?;
                let no_choice = |why| HubError::NoChoice { repository: self.repository.clone(), why };
                (Choice::of_repository(&listing.files).map_err(no_choice)?, listing.commit)
            }
        };
        let describe = async |file: &String| {
            let metadata = retry().run(async || client.metadata(&commit, file).await).await?;
            Ok::<Wanted, HubError>(Wanted { file: file.clone(), metadata })
        };
        let small = stream::iter(choice.small.iter().map(&describe)).buffered(QUESTIONS_AT_A_TIME).try_collect().await?;
        let weights = stream::iter(choice.weights.iter().map(&describe)).buffered(QUESTIONS_AT_A_TIME).try_collect().await?;
        Ok(Plan { choice, commit, small, weights })
    }
}

/// What has to be there.
struct Plan {
    choice: Choice,
    commit: String,
    small: Vec<Wanted>,
    weights: Vec<Wanted>,
}

//! Prompts of different lengths that no cache has seen: equal in every run of the program, no two equal in one.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const WORDS: [&str; 32] = [
    "the", "river", "a", "small", "village", "by", "sea", "where", "people", "of", "old", "mountain", "and", "light", "winter",
    "in", "garden", "story", "about", "how", "music", "travels", "over", "long", "roads", "with", "friends", "who", "build",
    "quiet", "houses", "for",
];
/// Words of a prompt: unequal, as requests are.
const LENGTHS: std::ops::Range<usize> = 12..40;

/// An endless supply.
pub struct Prompts(StdRng);

impl Default for Prompts {
    fn default() -> Self {
        Self(StdRng::seed_from_u64(1))
    }
}

impl Prompts {
    /// The next one.
    pub fn draw(&mut self) -> String {
        let length = self.0.random_range(LENGTHS);
        let words: Vec<&str> = (0..length).map(|_| WORDS[self.0.random_range(0..WORDS.len())]).collect();
        // The number comes first, so that no two prompts share a beginning that a server could have cached.
        format!("{} {}", self.0.random_range(100_000..1_000_000), words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_the_same_in_every_run_and_differ_within_one() {
        let (mut one, mut other) = (Prompts::default(), Prompts::default());
        let first: Vec<String> = (0..50).map(|_| one.draw()).collect();
        let second: Vec<String> = (0..50).map(|_| other.draw()).collect();
        assert_eq!(first, second);
        let beginnings: std::collections::HashSet<&str> = first.iter().map(|prompt| &prompt[..6]).collect();
        assert_eq!(beginnings.len(), first.len());
    }
}

//! The random models, written where there is room for them.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::{Plan, say};
use crate::local::beside_this_program;

/// Writes a model unless it is there.
pub async fn make(plan: &Plan, size: &str, dtype: &str) -> Result<String> {
    let path: PathBuf = plan.directory.join(format!("random-{size}-{dtype}.gguf"));
    if !path.exists() {
        say(&format!("writing {}", path.display()));
        let mut command = Command::new(beside_this_program("sojourn-models")?);
        command.args(["random-llama", size, "--dtype", dtype]).arg(&path);
        let status = command.status().await.context("cannot run sojourn-models")?;
        ensure!(status.success(), "sojourn-models ended with {status}");
    }
    Ok(path.to_string_lossy().into_owned())
}

/// Prompts of token ids, all different from their first token on; the longest is within a block of 512 tokens, and its answer is
/// not. The same in every run.
pub fn prompts(count: usize, tokens: u32) -> Vec<Vec<u32>> {
    let longest = 511;
    let shortest = 40.min(longest);
    let length = |number: usize| match number % 2 {
        // Half of them grow beyond the block.
        0 => longest - number % tokens.max(1) as usize,
        _ => shortest + (number * 61) % (longest - shortest),
    };
    // Ids of words, spread by a prime.
    let id = |number: usize, position: usize| 300 + u32::try_from((number * 7_919 + position * 104_729) % 48_000).unwrap_or(0);
    (0..count).map(|number| (0..length(number)).map(|position| id(number, position)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_differ_from_the_first_token_on_and_half_of_them_outgrow_a_block() {
        let prompts = prompts(32, 64);
        let first: std::collections::HashSet<u32> = prompts.iter().map(|prompt| prompt[0]).collect();
        assert_eq!(first.len(), 32);
        assert!(prompts.iter().flatten().all(|id| (257..49_151).contains(id)));
        assert!(prompts.iter().all(|prompt| (40..512).contains(&prompt.len())));
        assert!(prompts.iter().filter(|prompt| prompt.len() + 64 > 512).count() >= 16);
    }
}

//! Running other programs: nothing of what they print is lost when they fail, and none outlives the one who asked.

use std::{ffi::OsStr, process::Stdio};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

/// Lines of output that an error quotes.
const QUOTED_LINES: usize = 15;

/// A command that ends with us: when its future is dropped, and also when we are killed.
pub(super) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(name).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs to the end and answers with standard output.
pub(super) async fn output(command: &mut Command) -> Result<String> {
    let output = command.output().await.with_context(|| format!("cannot start {}", line_of(command)))?;
    if !output.status.success() {
        let text = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        bail!("{} ended with {}:\n{}", line_of(command), output.status, last_lines(&String::from_utf8_lossy(text)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs to the end with `input` on standard input and answers with standard output.
pub(super) async fn output_with_input(command: &mut Command, input: &str) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", line_of(command)))?;
    let mut stdin = child.stdin.take().context("standard input was asked for")?;
    let feed = async move { stdin.write_all(input.as_bytes()).await };
    let (fed, output) = tokio::join!(feed, child.wait_with_output());
    let output = output?;
    if !output.status.success() {
        bail!("{} ended with {}:\n{}", line_of(command), output.status, last_lines(&String::from_utf8_lossy(&output.stderr)));
    }
    fed.with_context(|| format!("{} did not read its input", line_of(command)))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs to the end and hands every line of both outputs to `each`, as it comes.
pub(super) async fn follow(command: &mut Command, mut each: impl FnMut(&str)) -> Result<()> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", line_of(command)))?;
    let stdout = child.stdout.take().context("standard output was asked for")?;
    let stderr = child.stderr.take().context("standard error was asked for")?;
    let (mut out, mut err) = (BufReader::new(stdout).lines(), BufReader::new(stderr).lines());
    let (mut out_open, mut err_open) = (true, true);
    let mut seen = Vec::new();
    while out_open || err_open {
        let line = tokio::select! {
            line = out.next_line(), if out_open => { let line = line?; out_open = line.is_some(); line }
            line = err.next_line(), if err_open => { let line = line?; err_open = line.is_some(); line }
        };
        let Some(line) = line else { continue };
        each(&line);
        seen.push(line);
        if seen.len() > 2 * QUOTED_LINES {
            seen.drain(..QUOTED_LINES);
        }
    }
    let status = child.wait().await?;
    if !status.success() {
        bail!("{} ended with {status}:\n{}", line_of(command), last_lines(&seen.join("\n")));
    }
    Ok(())
}

/// The last lines of a text, those that say what went wrong.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
}

/// Where a program is, searched as a shell does, then where Debian keeps what only root runs.
pub(super) fn find(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into(), "/usr/bin".into(), "/bin".into()])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// The command as a person would type it: without what [`program`] puts in front.
fn line_of(command: &Command) -> String {
    let command = command.as_std();
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    let asked = if words[0] == "setpriv" { words.iter().position(|word| word == "--").map_or(0, |at| at + 1) } else { 0 };
    format!("`{}`", words[asked..].join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_names_the_command_and_quotes_its_words() {
        let error = output(program("sh").args(["-c", "echo no such cheese >&2; exit 3"])).await.unwrap_err().to_string();
        assert!(error.starts_with("`sh -c"), "{error}");
        let plain = output(Command::new("false").arg("--")).await.unwrap_err().to_string();
        assert!(plain.starts_with("`false --` ended"), "{plain}");
        assert!(error.contains("exit status: 3") && error.ends_with("no such cheese"), "{error}");
    }

    #[tokio::test]
    async fn lines_of_both_outputs_are_followed() {
        let mut lines = Vec::new();
        follow(program("sh").args(["-c", "echo one; echo two >&2"]), |line| lines.push(line.to_owned())).await.unwrap();
        lines.sort();
        assert_eq!(lines, ["one", "two"]);
    }

    #[tokio::test]
    async fn input_reaches_the_program() {
        assert_eq!(output_with_input(&mut program("cat"), "milk").await.unwrap(), "milk");
    }
}

//! How the process ends: a code, one line for people on stderr, and one JSON line where Kubernetes reads it.

use std::path::Path;
use std::process::ExitCode;

use sojourn_contract::exit::Termination;
use sojourn_contract::path::TERMINATION_LOG;

/// Reports why the process ends, and gives its exit code.
pub fn report(termination: &Termination) -> ExitCode {
    tracing::error!(reason = %termination.reason, "{}", termination.message);
    let log = Path::new(TERMINATION_LOG);
    // Outside Kubernetes there is no such file, and none is made.
    if log.exists() {
        let written =
            serde_json::to_string(termination).map_err(std::io::Error::other).and_then(|line| std::fs::write(log, line));
        if let Err(error) = written {
            tracing::warn!(%error, "cannot write the termination message");
        }
    }
    ExitCode::from(termination.reason.code())
}

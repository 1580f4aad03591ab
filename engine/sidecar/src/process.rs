//! The collector as a process: started in a group of its own, signalled as a group, reaped, its log passed on.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::sync::mpsc::Sender;
use tracing::warn;

use crate::log::{Complaint, Reader, Scrubber};

/// Longest piece of a log line that is read at once, bytes.
const LONGEST_LINE: u64 = 64 << 10;
/// Longest wait for the rest of the log of a collector that is gone; somebody else may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the log of a collector brings.
#[derive(Debug)]
pub enum Word {
    /// An error.
    Complaint(Complaint),
    /// The log is at its end.
    Closed(Pid),
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// For people: `exit status 1`, `signal SIGKILL`.
    pub text: String,
    /// It ended by a fault of its own, and not because somebody, or the kernel for want of memory, ended it.
    pub is_fault: bool,
}

/// A started collector.
#[derive(Debug)]
pub struct Process {
    leader: Pid,
    ending: Option<Ending>,
    gone_since: Option<Instant>,
    log_is_open: bool,
}

/// Makes orphans of the collector's children ours, also where we are not process 1 (a shared process namespace).
pub fn adopt_orphans() {
    if let Err(error) = prctl::set_child_subreaper(true) {
        warn!(%error, "cannot adopt orphaned processes");
    }
}

impl Process {
    /// Starts `COMMAND... --config=FILE` in a process group of its own; its log is passed on from a thread.
    pub fn start(command: &[String], config: &Path, scrubber: Scrubber, words: Sender<Word>) -> io::Result<Self> {
        let (program, arguments) = command.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
        let mut option = std::ffi::OsString::from("--config=");
        option.push(config);
        let mut child = Command::new(program)
            .args(arguments)
            .arg(option)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("cannot start {program}: {error}")))?;
        let leader = Pid::from_raw(child.id().cast_signed());
        let log = child.stderr.take();
        let process = Self { leader, ending: None, gone_since: None, log_is_open: log.is_some() };
        if let Some(log) = log {
            let passed_on =
                std::thread::Builder::new().name("collector-log".into()).spawn(move || pass_on(log, &scrubber, &words, leader));
            if let Err(error) = passed_on {
                process.signal(Signal::SIGKILL);
                return Err(error);
            }
        }
        Ok(process)
    }

    /// The process group, which has the leader's number.
    pub fn group(&self) -> Pid {
        self.leader
    }

    /// Sends a signal to the whole group; to none is not an error.
    pub fn signal(&self, signal: Signal) {
        if let Err(error) = killpg(self.leader, signal)
            && error != Errno::ESRCH
        {
            warn!(%error, %signal, "cannot signal the collector");
        }
    }

    /// Takes note that a process ended; answers whether it was the leader.
    pub fn ended(&mut self, pid: Pid, ending: &Ending) -> bool {
        let is_leader = pid == self.leader;
        if is_leader {
            self.ending = Some(ending.clone());
        }
        is_leader
    }

    /// Takes note that the log of this leader is at its end.
    pub fn log_closed(&mut self, leader: Pid) {
        if leader == self.leader {
            self.log_is_open = false;
        }
    }

    /// How the leader ended, once nobody of the group is left and the log was read.
    pub fn ending(&mut self, now: Instant) -> Option<&Ending> {
        let ending = self.ending.as_ref()?;
        if killpg(self.leader, None).is_ok() {
            return None;
        }
        let gone_since = *self.gone_since.get_or_insert(now);
        let is_over = !self.log_is_open || now.saturating_duration_since(gone_since) >= LAST_WORDS;
        is_over.then_some(ending)
    }
}

/// Reaps all children that ended, also adopted ones, and answers how each did.
pub fn reap() -> Vec<(Pid, Ending)> {
    let mut reaped = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => {
                reaped.push((pid, Ending { text: format!("exit status {code}"), is_fault: code != 0 }));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                let is_fault = !matches!(signal, Signal::SIGKILL | Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP);
                reaped.push((pid, Ending { text: format!("signal {signal}"), is_fault }));
            }
            Err(Errno::EINTR) => {}
            Ok(WaitStatus::StillAlive) | Err(_) => return reaped,
            Ok(_) => {}
        }
    }
}

/// Passes the log on to our own, line by line and without credentials, and tells of the errors in it.
fn pass_on(log: ChildStderr, scrubber: &Scrubber, words: &Sender<Word>, leader: Pid) {
    let mut log = BufReader::new(log);
    let mut reader = Reader::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        match log.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        // Our own log may be closed: the collector must not notice.
        io::stderr().write_all(scrubber.scrub(&text).as_bytes()).unwrap_or_default();
        if let Some(mut complaint) = reader.read(&text) {
            complaint.text = scrubber.scrub(&complaint.text);
            if words.blocking_send(Word::Complaint(complaint)).is_err() {
                return;
            }
        }
    }
    words.blocking_send(Word::Closed(leader)).unwrap_or_default();
}

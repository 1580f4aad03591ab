//! How much memory the container's processes use, and how much they may.

use std::fs;

use nix::unistd::{Pid, getpid};

/// Where the limit of the container's control group stands: version 2, version 1.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// Version 1 says "none" by a number of about this size.
const NO_LIMIT: u64 = 1 << 60;

/// The memory limit of this container, bytes; `None` where it has none.
pub fn limit() -> Option<u64> {
    LIMITS.iter().find_map(|path| fs::read_to_string(path).ok()).and_then(|text| parse_limit(&text))
}

fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

/// Resident memory of a process group and of the supervisor itself, bytes.
pub fn resident(group: Pid) -> u64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()));
    let statuses = numbered.filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok());
    let own = getpid();
    statuses.filter_map(|status| resident_of(&status, group, own)).sum()
}

/// Resident bytes of a `/proc/PID/status` that belongs to the group, or is the supervisor's own.
fn resident_of(status: &str, group: Pid, own: Pid) -> Option<u64> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.split_whitespace().collect::<Vec<_>>())
    };
    // The last number is the one in the innermost namespace: ours.
    let is = |name: &str, pid: Pid| field(name)?.last()?.parse().ok().map(|id: i32| id == pid.as_raw());
    let belongs = is("NSpgid", group)? || is("NSpid", own)?;
    let kilobytes: u64 = field("VmRSS")?.first()?.parse().ok()?;
    belongs.then_some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use nix::unistd::getpgrp;

    use super::*;

    #[test]
    fn a_limit_is_a_number_below_the_one_that_means_none() {
        assert_eq!(parse_limit("209715200\n"), Some(209_715_200));
        assert_eq!(parse_limit("max\n"), None);
        assert_eq!(parse_limit("9223372036854771712\n"), None);
    }

    #[test]
    fn only_processes_of_the_group_and_the_supervisor_count() {
        let status = "Name:\totelcol\nNSpid:\t4711\t7\nNSpgid:\t4711\t7\nVmRSS:\t    2048 kB\n";
        assert_eq!(resident_of(status, Pid::from_raw(7), Pid::from_raw(1)), Some(2048 * 1024));
        assert_eq!(resident_of(status, Pid::from_raw(8), Pid::from_raw(7)), Some(2048 * 1024));
        assert_eq!(resident_of(status, Pid::from_raw(8), Pid::from_raw(1)), None);
    }

    #[test]
    fn this_very_process_uses_memory() {
        assert!(resident(getpgrp()) > 1 << 20);
    }
}

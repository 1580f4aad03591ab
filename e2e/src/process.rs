//! What the kernel says of a running process, from /proc.

use anyhow::{Context, Result};

/// Clock ticks in a second: fixed at 100 for user space on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time of a process and all its threads so far, in seconds (a hundredth exact).
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    ticks(&stat).map(|ticks| ticks / TICKS_PER_SECOND).with_context(|| format!("{path} is of another form"))
}

/// Memory of a process that is in RAM, in KiB.
pub fn resident_kib(pid: u32) -> Result<f64> {
    status_kib(pid, "VmRSS:")
}

fn status_kib(pid: u32, field: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    field_kib(&status, field).with_context(|| format!("{path} does not say {field}"))
}

/// The most memory of a process that was in RAM since its start, in KiB.
pub fn peak_resident_kib(pid: u32) -> Result<f64> {
    status_kib(pid, "VmHWM:")
}

/// The processes that run a program of this name.
pub fn running(program: &str) -> Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").context("cannot read /proc")? {
        let path = entry?.path();
        let pid: Option<u32> = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        // One that ended meanwhile has no program any more.
        let runs = std::fs::read_link(path.join("exe")).is_ok_and(|exe| exe.file_name().is_some_and(|name| name == program));
        pids.extend(pid.filter(|_| runs));
    }
    Ok(pids)
}

/// `utime + stime`; the program's name, which may hold anything, is in parentheses before them.
fn ticks(stat: &str) -> Option<f64> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A field of /proc/PID/status or /proc/meminfo that is given in kB.
pub fn field_kib(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (my (odd) name) S 1 42 42 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 3 0 100 1 1";
        assert_eq!(ticks(stat), Some(300.0));
        assert_eq!(ticks("nonsense"), None);
    }

    #[test]
    fn memory_is_read_from_its_line() {
        assert_eq!(field_kib("Name:\tx\nVmRSS:\t  1024 kB\n", "VmRSS:"), Some(1024.0));
        assert_eq!(field_kib("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn a_process_is_found_by_its_program() {
        let this = std::env::current_exe().unwrap();
        let name = this.file_name().unwrap().to_str().unwrap();
        assert!(running(name).unwrap().contains(&std::process::id()));
        assert_eq!(running("no program of this name").unwrap(), [0_u32; 0]);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(resident_kib(std::process::id()).unwrap() > 0.0);
        assert!(peak_resident_kib(std::process::id()).unwrap() > 0.0);
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
    }
}

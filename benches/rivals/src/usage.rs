//! What a process has used: CPU time and context switches, from the kernel's own books.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{getrusage, UsageWho};
use nix::time::{clock_gettime, ClockId};

use crate::Result;

/// The usage of this process, all its threads together, up to a moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// Times that a thread gave the core up to wait.
    pub waits: u64,
    /// Times that a thread was put off the core.
    pub preemptions: u64,
}

impl Usage {
    pub fn now() -> Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let time = |value: nix::sys::time::TimeVal| {
            Duration::from_micros(value.tv_sec() as u64 * 1_000_000 + value.tv_usec() as u64)
        };
        Ok(Usage {
            cpu: time(usage.user_time()) + time(usage.system_time()),
            waits: usage.voluntary_context_switches() as u64,
            preemptions: usage.involuntary_context_switches() as u64,
        })
    }

    /// What was used since an earlier moment.
    pub fn since(self, earlier: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            waits: self.waits.saturating_sub(earlier.waits),
            preemptions: self.preemptions.saturating_sub(earlier.preemptions),
        }
    }
}

/// Nanoseconds on a clock that all processes of this machine share.
pub fn shared_clock_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// One field of a process's status page, as a number: `VmRSS` in KiB, `Threads`, ...
pub fn status_field(pid: u32, field: &str) -> Result<u64> {
    let page = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = page.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next()).ok_or("no such field")?;
    Ok(number.parse()?)
}

/// Voluntary context switches of all threads of another process.
pub fn waits_of(pid: u32) -> Result<u64> {
    let mut waits = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let page = fs::read_to_string(task?.path().join("status"))?;
        let line = page.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        waits += line.map_or(Ok(0), |rest| rest.trim().parse::<u64>())?;
    }
    Ok(waits)
}

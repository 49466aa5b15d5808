//! Where and when this was measured.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::peers;

/// What a reader has to know of the machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub date: String,
    pub commit: String,
    pub processor: String,
    pub cores: usize,
    pub is_virtual: bool,
    pub memory_mib: u64,
    pub kernel: String,
    pub compiler: String,
    pub versions: Vec<(String, String)>,
    /// Runnable threads in the minute before: anything above a few tenths has disturbed the figures.
    pub load_before: f64,
}

impl Machine {
    pub fn here() -> Machine {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib: Option<u64> =
            field(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok());
        let versions = peers::versions().into_iter().map(|(name, version)| (name.into(), version)).collect();
        Machine {
            date: date(),
            commit: commit(),
            processor: field(&processor, "model name").unwrap_or("unknown").into(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            is_virtual: field(&processor, "flags").is_some_and(|flags| flags.contains("hypervisor")),
            memory_mib: kib.unwrap_or_default() / 1024,
            kernel: kernel(),
            compiler: output("rustc", &["--version"]),
            versions,
            load_before: load(),
        }
    }
}

/// The kernel without what its builder added to the version.
fn kernel() -> String {
    let version = output("uname", &["-r"]);
    let version = version.split('-').next().unwrap_or_default();
    format!("{} {version}, {}", output("uname", &["-s"]), output("uname", &["-m"]))
}

/// The first line `name : value` of a page.
fn field<'a>(page: &'a str, name: &str) -> Option<&'a str> {
    let line = page.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
    Some(line.split_once(':')?.1.trim())
}

/// The mean number of runnable threads in the last minute.
pub fn load() -> f64 {
    let page = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    page.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default()
}

/// The commit that was built, with a `+` if there was more than it.
fn commit() -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    let hash = output("git", &["-C", folder, "rev-parse", "--short", "HEAD"]);
    let changes = output("git", &["-C", folder, "status", "--porcelain", "--untracked-files=no"]);
    if changes.is_empty() {
        hash
    } else {
        hash + "+"
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().into())
}

/// Today in UTC, as year, month and day.
fn date() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil(now.as_secs() / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// The date so many days after the first of January 1970, in the Gregorian calendar.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    for (month, length) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
        if days < length {
            return (year, month, days + 1);
        }
        days -= length;
    }
    unreachable!("the months of a year have as many days as it has")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(19_722), (2023, 12, 31));
        assert_eq!(civil(19_723), (2024, 1, 1));
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let page = "model\t\t: 2\nmodel name\t: A processor\n";
        assert_eq!(field(page, "model name"), Some("A processor"));
        assert_eq!(field(page, "name"), None);
    }
}

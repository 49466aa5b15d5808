//! System calls per operation, counted by `strace -c -f` in runs of their own: a traced process is a slow one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;

/// Calls that move bytes, wait, or wake somebody; what only sets a process up is left out.
const COUNTED: &str = "trace=read,write,readv,writev,recvfrom,sendto,recvmsg,sendmsg,poll,ppoll,select,pselect6,\
                       epoll_wait,epoll_pwait,epoll_ctl,futex,sched_yield,nanosleep,clock_nanosleep,ioctl,fcntl";

/// Whether it is there.
pub fn is_there() -> bool {
    let probe = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}

/// The program under strace, which writes its summary into a file.
pub fn command(program: &Path, summary: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-c", "-f", "-q", "-e", COUNTED, "-o"]).arg(summary).arg(program);
    command
}

/// The calls in a summary, by name.
pub fn read_summary(path: &Path) -> Result<BTreeMap<String, u64>> {
    Ok(parse(&fs::read_to_string(path)?))
}

/// `% time  seconds  usecs/call  calls  [errors]  syscall`, between two rules of dashes.
fn parse(summary: &str) -> BTreeMap<String, u64> {
    let rows = summary.lines().skip_while(|line| !line.starts_with("---")).skip(1);
    rows.take_while(|line| !line.starts_with("---"))
        .filter_map(|row| {
            let cells: Vec<&str> = row.split_whitespace().collect();
            Some((String::from(*cells.last()?), cells.get(3)?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_is_read_with_and_without_errors() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.35    0.000100           1      2002           sendto
 38.65    0.000063           0      4004      1001 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.000163           0      6006      1001 total
";
        let calls = parse(summary);
        assert_eq!(calls.get("sendto"), Some(&2002));
        assert_eq!(calls.get("recvfrom"), Some(&4004));
        assert_eq!(calls.len(), 2);
    }
}

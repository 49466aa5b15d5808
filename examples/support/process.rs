//! Children, their pipes, and the directory of a run. Nothing of it outlives the parent.
//!
//! Shared by examples that start themselves in other roles: each has its own roles in `options.rs`, and says in `lines.rs`
//! what goes through the pipes.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::lines::{Order, Report};
use crate::options::{Part, Role};

/// What came from one child.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    Report(Report),
    /// A line that is no report.
    Nonsense(String),
    /// Its end of the pipe is closed.
    End,
}

/// A child: this program once more, in another role.
///
/// Dropping it kills it. Should the parent itself be killed, the child sees its standard input end, and ends.
#[derive(Debug)]
pub struct Process {
    child: Child,
    orders: ChildStdin,
}

impl Process {
    /// Starts the child, and a thread that puts all it says into `inbox`.
    ///
    /// # Errors
    /// What the system says when it cannot start a process.
    pub fn start(part: &Part, inbox: Sender<(Role, Heard)>) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(part.to_args()).stdin(Stdio::piped()).stdout(Stdio::piped());
        #[cfg(unix)]
        {
            // Ctrl-C then reaches the parent alone, and the children tidy up behind it.
            use std::os::unix::process::CommandExt;
            command.process_group(0);
        }
        let mut child = command.spawn()?;
        let orders = child.stdin.take().expect("its standard input is a pipe");
        let reports = child.stdout.take().expect("its standard output is a pipe");
        let process = Process { child, orders };
        let role = part.role;
        thread::Builder::new().name("listener".into()).spawn(move || listen(role, reports, &inbox))?;
        Ok(process)
    }

    /// # Errors
    /// If the child has ended.
    pub fn order(&mut self, order: Order) -> io::Result<()> {
        writeln!(self.orders, "{order}")
    }

    /// Kills the child (on Unix with SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// What the system says when it cannot.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    /// Waits for the child to end by itself; `None` if it has not when the time is over.
    ///
    /// # Errors
    /// What the system says when it cannot wait.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.child.try_wait()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Process {
    /// Waits a moment for an end that is under way, then kills.
    ///
    /// # Errors
    /// What the system says when it cannot.
    pub fn wait_or_kill(&mut self) -> io::Result<ExitStatus> {
        match self.wait(Duration::from_secs(1))? {
            Some(status) => Ok(status),
            None => self.kill(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill(); // It may have ended already.
    }
}

fn listen(role: Role, reports: ChildStdout, inbox: &Sender<(Role, Heard)>) {
    for line in BufReader::new(reports).lines().map_while(Result::ok) {
        let heard = match line.parse() {
            Ok(report) => Heard::Report(report),
            Err(_) => Heard::Nonsense(line),
        };
        if inbox.send((role, heard)).is_err() {
            return; // The parent has seen enough.
        }
    }
    let _ = inbox.send((role, Heard::End));
}

/// Says something to the parent. Without a parent there is nothing left to do, and the process ends.
pub fn report(report: &Report) {
    let line = format!("{report}\n");
    let mut out = io::stdout().lock();
    if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
        end_as_orphan();
    }
}

/// Listens to the parent, from the first moment on. When there is no parent any more the process ends.
///
/// # Errors
/// What the system says when it starts no thread.
pub fn orders(scratch: &Path) -> io::Result<Receiver<Order>> {
    let (sender, orders) = mpsc::channel();
    let _ = SCRATCH.set(scratch.to_owned()); // A process has one part, and so one directory.
    thread::Builder::new().name("orders".into()).spawn(move || {
        let understood = io::stdin().lock().lines().map_while(Result::ok).map_while(|line| line.parse().ok());
        for order in understood {
            let _ = sender.send(order); // Who has been told to stop need not listen.
        }
        end_as_orphan()
    })?;
    Ok(orders)
}

/// The parent was killed and could not tidy up, so its children do, each as it finds out.
fn end_as_orphan() -> ! {
    if let Some(path) = SCRATCH.get() {
        Scratch(path.clone()).remove();
    }
    process::exit(ORPHANED)
}

/// The directory of the run that this child belongs to.
static SCRATCH: OnceLock<PathBuf> = OnceLock::new();

/// From now on a panic in any thread ends the process, so that the parent hears of it at once.
pub fn end_with_any_thread() {
    let report_panic = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        report_panic(panic);
        process::exit(PANICKED);
    }));
}

/// Exit codes of a child whose parent is gone, and of one with a panic.
const ORPHANED: i32 = 3;
const PANICKED: i32 = 101;

/// The directory of a run; dropping it removes it.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// # Errors
    /// What the system says when it makes no directory.
    pub fn create() -> io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let path = env::temp_dir().join(format!("{SCRATCH_PREFIX}{}-{}", process::id(), now.as_nanos()));
        fs::create_dir(&path)?;
        Ok(Scratch(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Removes it, if it is ours by its name; it may be gone already.
    fn remove(&self) {
        let name = self.0.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(SCRATCH_PREFIX)) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

const SCRATCH_PREFIX: &str = "pulsewire-example-";

impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_is_removed_with_what_is_in_it_and_nothing_else_is() {
        let scratch = Scratch::create().unwrap();
        let path = scratch.path().to_owned();
        let inner = path.join("not-ours");
        fs::create_dir(&inner).unwrap();
        drop(Scratch(inner.clone()));
        assert!(inner.is_dir());
        drop(scratch);
        assert!(!path.exists());
    }
}

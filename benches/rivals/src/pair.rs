//! Two processes of one measurement: what the one says is passed on to the other, until both have handed their figures
//! in or the deadline is over.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::cases::{Figures, Spec};
use crate::side::{End, Role, REPORTS, SAYS};
use crate::Result;

/// What both sides found.
#[derive(Debug, Default)]
pub struct Found {
    pub server: Figures,
    pub client: Figures,
}

impl Found {
    /// Of a measurement that has one side only.
    pub fn of_server(server: Figures) -> Self {
        Found { server, client: Figures::new() }
    }

    /// Calls or messages, all that there were: those before anything counted as well.
    pub fn operations(&self) -> f64 {
        let of = |figures: &Figures| figures.get("operations").copied();
        of(&self.server).or_else(|| of(&self.client)).unwrap_or(f64::NAN)
    }
}

/// Starts the two sides, and waits for what they find.
///
/// # Errors
/// One of them failed or they took too long; both are ended then.
pub fn measure(spec: &Spec, traces: Option<&Path>) -> Result<Found> {
    let (sender, heard) = channel();
    let mut ends = [start(End::Server, spec, traces, &sender)?, start(End::Client, spec, traces, &sender)?];
    drop(sender);
    let deadline = Instant::now() + Duration::from_secs(u64::from(spec.deadline_s));
    let found = pass_on(&mut ends, &heard, deadline);
    for end in &mut ends {
        if found.is_err() {
            // Gone already, perhaps.
            let _ = end.child.kill();
        }
        end.child.wait()?;
    }
    found
}

struct Started {
    child: Child,
    input: ChildStdin,
}

/// What a side printed; `None`: it has ended.
type Heard = (End, Option<String>);

fn start(end: End, spec: &Spec, traces: Option<&Path>, sender: &Sender<Heard>) -> Result<Started> {
    let exe = std::env::current_exe()?;
    let mut command = match traces {
        None => Command::new(exe),
        Some(folder) => crate::strace::command(&exe, &folder.join(end.name())),
    };
    command.args(Role::arguments(end, spec)?).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let input = child.stdin.take().ok_or("no standard input")?;
    let output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
    let sender = sender.clone();
    thread::spawn(move || {
        for line in output.lines().map_while(std::result::Result::ok) {
            if sender.send((end, Some(line))).is_err() {
                return;
            }
        }
        let _ = sender.send((end, None));
    });
    Ok(Started { child, input })
}

fn pass_on(ends: &mut [Started; 2], heard: &Receiver<Heard>, deadline: Instant) -> Result<Found> {
    let mut reports: [Option<Figures>; 2] = [None, None];
    while reports.iter().any(Option::is_none) {
        let (end, line) = match heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(heard) => heard,
            Err(RecvTimeoutError::Timeout) => return Err("it took longer than its deadline".into()),
            Err(RecvTimeoutError::Disconnected) => return Err("both sides ended without a report".into()),
        };
        let (this, other) = match end {
            End::Server => (0, 1),
            End::Client => (1, 0),
        };
        match line {
            Some(line) if line.starts_with(SAYS) => {
                // An other side that is through already has no use for it.
                let _ = writeln!(ends[other].input, "{}", &line[SAYS.len()..]);
            }
            Some(line) if line.starts_with(REPORTS) => {
                reports[this] = Some(serde_json::from_str(&line[REPORTS.len()..])?);
            }
            Some(_) => {}
            None if reports[this].is_none() => {
                return Err(format!("the {} ended without a report", end.name()).into())
            }
            None => {}
        }
    }
    let [server, client] = reports.map(Option::unwrap_or_default);
    Ok(Found { server, client })
}

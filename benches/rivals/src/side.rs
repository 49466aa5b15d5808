//! One of the two processes of a measurement: its core, its words with the other side, and how it ends.

use std::io::{self, BufRead, BufReader, Stdin, Write};
use std::os::fd::AsFd;

use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sched::{sched_setaffinity, CpuSet};
use nix::sys::prctl;
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use nix::sys::signal::Signal;
use nix::unistd::{alarm, Pid};

use crate::cases::{self, Figures, Spec};
use crate::Result;

/// What this process was started for.
pub struct Role {
    end: End,
    spec: Spec,
}

/// Which side of a measurement a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It listens: the replier, the publisher.
    Server,
    /// It connects: the caller, the subscriber.
    Client,
}

impl End {
    pub fn name(self) -> &'static str {
        match self {
            End::Server => "server",
            End::Client => "client",
        }
    }
}

impl Role {
    /// The arguments that make a process play this role.
    pub fn arguments(end: End, spec: &Spec) -> Result<[String; 3]> {
        Ok([ROLE.into(), end.name().into(), serde_json::to_string(spec)?])
    }

    /// The role that this process was started in; `None` if by a person.
    pub fn of_this_process() -> Option<Role> {
        let mut arguments = std::env::args().skip(1);
        if arguments.next()? != ROLE {
            return None;
        }
        let end = match arguments.next()?.as_str() {
            "server" => End::Server,
            _ => End::Client,
        };
        let spec = serde_json::from_str(&arguments.next()?).ok()?;
        Some(Role { end, spec })
    }
}

const ROLE: &str = "--role";

/// Pins this process, sees to it that it ends, and does its part of the case.
pub fn play(role: Role) -> Result<()> {
    // Two ends that no code of ours can hold up: with the process that started it, and after its deadline.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    alarm::set(role.spec.deadline_s);
    let mut core = CpuSet::new();
    core.set(role.spec.placement.core(role.end))?;
    sched_setaffinity(Pid::from_raw(0), &core)?;
    // Sleeps between paced messages end when they should, and not up to 50 us later.
    prctl::set_timerslack(1)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let mut side = Side { input: BufReader::new(io::stdin()), end: role.end, spec: role.spec };
    cases::play(&mut side)?;
    // No good-byes: libraries that linger on closing would only take time.
    std::process::exit(0);
}

/// This process, as the cases see it.
pub struct Side {
    input: BufReader<Stdin>,
    pub end: End,
    pub spec: Spec,
}

impl Side {
    /// Says something to the other side.
    pub fn say(&mut self, words: &str) -> Result<()> {
        self.print(&format!("{SAYS}{words}"))
    }

    /// Waits for what the other side says.
    pub fn hear(&mut self) -> Result<String> {
        let mut words = String::new();
        if self.input.read_line(&mut words)? == 0 {
            return Err("the other side is gone".into());
        }
        Ok(words.trim().into())
    }

    /// Waits for one word and no other.
    pub fn expect(&mut self, word: &str) -> Result<()> {
        let heard = self.hear()?;
        if heard != word {
            return Err(format!("expected {word:?}, heard {heard:?}").into());
        }
        Ok(())
    }

    /// The other side has said something that was not heard yet.
    pub fn has_mail(&mut self) -> Result<bool> {
        if !self.input.buffer().is_empty() {
            return Ok(true);
        }
        let mut handles = [PollFd::new(self.input.get_ref().as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut handles, PollTimeout::ZERO)? > 0)
    }

    /// Hands this side's figures in.
    pub fn report(&mut self, figures: &Figures) -> Result<()> {
        self.print(&format!("{REPORTS}{}", serde_json::to_string(figures)?))
    }

    fn print(&mut self, line: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()?;
        Ok(())
    }
}

/// Begins a line that is for the other side.
pub const SAYS: &str = "> ";
/// Begins a line with figures.
pub const REPORTS: &str = "= ";

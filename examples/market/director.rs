//! The parent: starts everybody, kills the server half way, listens to all, and closes the accounts.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitStatus;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crate::capture;
use crate::feed::{Feed, Source};
use crate::ledger::Ledger;
use crate::lines::{Order, Report};
use crate::live::Live;
use crate::options::{Options, Part, Role, Speed};
use crate::process::{Heard, Process, Scratch};
use crate::profile::{Reads, CLIENTS};
use crate::record::Record;
use crate::report;
use crate::text;

/// How long the server stays away after it was killed.
const AWAY: Duration = Duration::from_millis(500);

/// For how long a child may fail to do what it was started for, or told.
const PATIENCE: Duration = Duration::from_secs(15);

/// Between the server's last tick and the order to stop: time for what is on its way.
const SETTLING: Duration = Duration::from_millis(200);

/// Lives of the server in one run.
const LIVES: u32 = 2;

/// Directs one run, and says whether everything balances.
///
/// # Errors
/// What kept the run from coming to its end; nothing was balanced then.
pub fn direct(options: &Options) -> Result<bool, Trouble> {
    let feed = options.source.load()?;
    let mut director = Director::prepare(options)?;
    director.live.write(&introduction(options, &feed))?;
    director.start_server(0)?;
    director.start_clients()?;
    director.await_clients()?;

    let began = Instant::now();
    director.live.begin()?;
    director.watch_until(began + options.run_for / 2)?;
    director.kill_server()?;
    director.watch_until(Instant::now() + AWAY)?;
    director.start_server(1)?;
    director.await_clients()?;
    director.watch_until(began + options.run_for)?;

    director.stop_all()?;
    let executed = Ledger::read(director.scratch.path(), LIVES).map_err(Trouble::Ledger)?;
    let verdict = report::write(&director.record, &feed, &executed);
    director.live.write(&verdict.text)?;
    Ok(verdict.is_balanced)
}

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error(transparent)]
    Capture(#[from] capture::Error),
    #[error("cannot write to the standard output: {0}")]
    Output(#[from] io::Error),
    #[error("cannot prepare the run: {0}")]
    Preparation(io::Error),
    #[error("cannot handle {}: {error}", name(*role))]
    Process { role: Role, error: io::Error },
    #[error("{} ended, and nobody had told it to ({status})", name(*role))]
    Ended { role: Role, status: ExitStatus },
    #[error("{} did not end well ({status})", name(*role))]
    Failed { role: Role, status: ExitStatus },
    #[error("{} did not end when it was told to", name(*role))]
    Stubborn { role: Role },
    #[error("{} says what it should not: {line:?}", name(*role))]
    Nonsense { role: Role, line: String },
    #[error("waited {PATIENCE:?} for {what}, in vain")]
    Late { what: &'static str },
    #[error("cannot read the ledger: {0}")]
    Ledger(io::Error),
}

struct Director<'a> {
    options: &'a Options,
    port: u16,
    record: Record,
    live: Live<io::Stdout>,
    /// Children that run. They go before `scratch` does, for they write there.
    processes: Vec<(Role, Process)>,
    scratch: Scratch,
    inbox: Receiver<(Role, Heard)>,
    sender: Sender<(Role, Heard)>,
    /// Children whose end is no surprise.
    may_end: HashSet<Role>,
    /// Children that have said all.
    silent: HashSet<Role>,
}

impl<'a> Director<'a> {
    fn prepare(options: &'a Options) -> Result<Self, Trouble> {
        // The port is free now. Both lives of the server take it, and try for a while if somebody was quicker.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Trouble::Preparation)?;
        let port = listener.local_addr().map_err(Trouble::Preparation)?.port();
        let (sender, inbox) = mpsc::channel();
        Ok(Director {
            options,
            port,
            record: Record::new(),
            live: Live::new(),
            processes: Vec::new(),
            scratch: Scratch::create().map_err(Trouble::Preparation)?,
            inbox,
            sender,
            may_end: HashSet::new(),
            silent: HashSet::new(),
        })
    }

    fn start(&mut self, role: Role) -> Result<(), Trouble> {
        let part = Part {
            role,
            source: self.options.source.clone(),
            speed: self.options.speed,
            port: self.port,
            scratch: self.scratch.path().to_owned(),
        };
        let process =
            Process::start(&part, self.sender.clone()).map_err(|error| Trouble::Process { role, error })?;
        self.processes.push((role, process));
        Ok(())
    }

    fn start_server(&mut self, life: u32) -> Result<(), Trouble> {
        self.start(Role::Server { life })?;
        self.watch_for("the server to listen", |director| director.record.lives.len() == life as usize + 1)?;
        let again = if life > 0 { " again" } else { "" };
        self.live.note(&format!("server listens{again} on 127.0.0.1:{}", self.port))?;
        Ok(())
    }

    fn start_clients(&mut self) -> Result<(), Trouble> {
        (0..CLIENTS.len()).try_for_each(|index| self.start(Role::Client { index }))
    }

    /// Waits until all clients follow the newest life of the server.
    fn await_clients(&mut self) -> Result<(), Trouble> {
        let began = Instant::now();
        let epoch = self.record.lives.last().map(|life| life.epoch);
        let follows = move |following: Option<(u64, Instant)>| following.map(|(seen, _)| seen) == epoch;
        self.watch_for("the clients to follow the server", |director| {
            director.record.clients.iter().all(|client| follows(client.following))
        })?;
        let took = self.record.clients.iter().zip(CLIENTS).filter_map(|(client, profile)| {
            let (_, at) = client.following?;
            Some(format!("{:?} after {}", profile.name, text::time(at.saturating_duration_since(began))))
        });
        self.live.note(&format!("followed by {}", took.collect::<Vec<_>>().join(", ")))?;
        Ok(())
    }

    fn kill_server(&mut self) -> Result<(), Trouble> {
        let role = Role::Server { life: 0 };
        self.may_end.insert(role);
        let mut server = self.take_process(role);
        server.kill().map_err(|error| Trouble::Process { role, error })?;
        self.live.note("server killed in the middle of it")?;
        self.watch_for("the last words of the server", |director| director.silent.contains(&role))
    }

    /// First no more ticks, then the clients, then the server: so what is left on the way is known exactly.
    fn stop_all(&mut self) -> Result<(), Trouble> {
        let server = Role::Server { life: LIVES - 1 };
        self.order(server, Order::Quiet)?;
        self.watch_for("the server to fall silent", |director| {
            director.record.lives.last().is_some_and(|life| life.published.is_exact())
        })?;
        self.live.note("server publishes no more; stopping all")?;
        self.watch_until(Instant::now() + SETTLING)?;
        for index in 0..CLIENTS.len() {
            self.order(Role::Client { index }, Order::Stop)?;
        }
        for index in 0..CLIENTS.len() {
            self.await_end(Role::Client { index })?;
        }
        self.order(server, Order::Stop)?;
        self.await_end(server)
    }

    fn order(&mut self, role: Role, order: Order) -> Result<(), Trouble> {
        if order == Order::Stop {
            self.may_end.insert(role);
        }
        let process = self.processes.iter_mut().find(|(other, _)| *other == role).map(|(_, process)| process);
        let process = process.expect("only children that run are told anything");
        process.order(order).map_err(|error| Trouble::Process { role, error })
    }

    fn await_end(&mut self, role: Role) -> Result<(), Trouble> {
        self.watch_for("a child's last words", |director| director.silent.contains(&role))?;
        let mut process = self.take_process(role);
        match process.wait(PATIENCE).map_err(|error| Trouble::Process { role, error })? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Trouble::Failed { role, status }),
            None => Err(Trouble::Stubborn { role }),
        }
    }

    fn take_process(&mut self, role: Role) -> Process {
        let at = self.processes.iter().position(|(other, _)| *other == role);
        self.processes.swap_remove(at.expect("a child is taken once")).1
    }

    /// Listens until then.
    fn watch_until(&mut self, until: Instant) -> Result<(), Trouble> {
        self.watch(until, |_| false).map(|_| ())
    }

    /// Listens until it is so, and loses patience at last.
    fn watch_for(&mut self, what: &'static str, is_so: impl Fn(&Self) -> bool) -> Result<(), Trouble> {
        match self.watch(Instant::now() + PATIENCE, is_so)? {
            true => Ok(()),
            false => Err(Trouble::Late { what }),
        }
    }

    fn watch(&mut self, until: Instant, is_so: impl Fn(&Self) -> bool) -> Result<bool, Trouble> {
        while !is_so(self) {
            let now = Instant::now();
            if now >= until {
                return Ok(false);
            }
            self.live.refresh(now)?;
            let wake = self.live.due().map_or(until, |due| due.min(until));
            match self.inbox.recv_timeout(wake.saturating_duration_since(now)) {
                Ok((role, heard)) => self.handle_heard(role, heard)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the director holds a sender itself"),
            }
        }
        Ok(true)
    }

    fn handle_heard(&mut self, role: Role, heard: Heard) -> Result<(), Trouble> {
        match heard {
            Heard::Report(report) => {
                if let (Role::Client { index }, Report::Measured { over, ticks, queries }) = (role, &report) {
                    self.live.add(index, *over, ticks, queries);
                }
                if let Report::Wrong { text } = &report {
                    self.live.note(&format!("WRONG: {}: {text}", name(role)))?;
                }
                let line = report.to_string();
                self.record.take(role, report).map_err(|_| Trouble::Nonsense { role, line })
            }
            Heard::Nonsense(line) => Err(Trouble::Nonsense { role, line }),
            Heard::End if self.may_end.contains(&role) => {
                self.silent.insert(role);
                Ok(())
            }
            Heard::End => {
                let status = self.take_process(role).wait_or_kill();
                Err(status.map_or_else(
                    |error| Trouble::Process { role, error },
                    |status| Trouble::Ended { role, status },
                ))
            }
        }
    }
}

/// What there is to be seen.
fn introduction(options: &Options, feed: &Feed) -> String {
    let market = match &options.source {
        Source::Generator { seed } => format!("a generated market (seed {seed})"),
        Source::Capture(path) => format!("the market in {}", path.display()),
    };
    let speed = match options.speed {
        Speed::Times(times) => format!("{times} times its natural speed"),
        Speed::Max => "the greatest possible speed".to_owned(),
    };
    let mut text = format!("{market}, {} instruments, at {speed}\n", feed.topics().len());
    for profile in CLIENTS {
        let name = format!("{:?}", profile.name);
        let what = match profile.prefix(feed) {
            "" => "everything".to_owned(),
            prefix => format!("what begins with {prefix:?}"),
        };
        let how = match profile.reads {
            Reads::Always => "",
            Reads::InTurns { .. } => ", but reads only now and then",
        };
        text += &format!("client {name:12} follows {what}{how}\n");
    }
    text + "below: ticks a second and their age on arrival; queries a second and how long they took\n\n"
}

/// What people call the child.
pub fn name(role: Role) -> String {
    match role {
        Role::Server { life: 0 } => "the server".to_owned(),
        Role::Server { .. } => "the restarted server".to_owned(),
        Role::Client { index } => format!("{:?}", CLIENTS[index].name),
    }
}

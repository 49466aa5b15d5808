//! The parent: starts everybody, kills the server half way, listens to all, and has the accounts compared.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitStatus;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use pulsewire::trader::paper::{read_ledger, LedgerError};

use crate::books::Books;
use crate::feed::Source;
use crate::lines::{Order, Report};
use crate::options::{self, Options, Part, Role, CLIENTS};
use crate::process::{Heard, Process, Scratch};
use crate::report;
use crate::trading::client::Statement;

/// How long the server stays away after it was killed.
const AWAY: Duration = Duration::from_millis(500);

/// For how long a child may fail to do what it was started for, or told. Longer than its own patience, for it knows more.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two lines that say how far it is.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Directs one run, and says whether everything balances.
///
/// # Errors
/// What kept the run from coming to its end; nothing was balanced then.
pub fn direct(options: &Options) -> Result<bool, Trouble> {
    let mut director = Director::prepare(options)?;
    director.start_server(0)?;
    for index in 0..CLIENTS.len() {
        director.start(Role::Client { index })?;
    }
    director.await_live("the clients to trade")?;

    director.trade_for(options.run_for / 2)?;
    director.kill_server()?;
    director.watch_until(Instant::now() + AWAY)?;
    director.start_server(1)?;
    director.await_live("the clients to be back")?;
    director.trade_for(options.run_for / 2)?;

    let statements = director.settle()?;
    let content = read_ledger(options::ledger(director.scratch.path()))?;
    let books = Books::of(&content).map_err(Trouble::Books)?;
    let verdict = report::write(&books, &statements);
    print!("{}", verdict.text);
    Ok(verdict.is_balanced)
}

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
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
    #[error("waited {PATIENCE:?} for {0}, in vain")]
    Late(&'static str),
    #[error("cannot read what {} believes: {error}", name(*role))]
    Statement { role: Role, error: io::Error },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the ledger makes no sense: {0}")]
    Books(String),
}

struct Director<'a> {
    options: &'a Options,
    port: u16,
    started: Instant,
    /// Children that run. They go before `scratch` does, for they write there.
    processes: Vec<(Role, Process)>,
    scratch: Scratch,
    inbox: Receiver<(Role, Heard)>,
    sender: Sender<(Role, Heard)>,
    /// Children whose end is no surprise.
    may_end: HashSet<Role>,
    /// Children that have said all.
    silent: HashSet<Role>,
    /// Lives of the server that have begun.
    lives: u32,
    clients: [Client; CLIENTS.len()],
}

/// What a client has said.
#[derive(Debug, Clone, Copy, Default)]
struct Client {
    /// Lives of the server that it has followed.
    lives: u32,
    sent: usize,
    unknown: usize,
    is_settled: bool,
    has_stated: bool,
}

impl<'a> Director<'a> {
    fn prepare(options: &'a Options) -> Result<Self, Trouble> {
        // The port is free now. Both lives of the server take it, and try for a while if somebody was quicker.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Trouble::Preparation)?;
        let port = listener.local_addr().map_err(Trouble::Preparation)?.port();
        let (sender, inbox) = mpsc::channel();
        match &options.source {
            Source::Generator { seed } => {
                println!("a generated market (seed {seed}), {} clients", CLIENTS.len())
            }
            Source::Capture(path) => println!("the market in {}, {} clients", path.display(), CLIENTS.len()),
        }
        Ok(Director {
            options,
            port,
            started: Instant::now(),
            processes: Vec::new(),
            scratch: Scratch::create().map_err(Trouble::Preparation)?,
            inbox,
            sender,
            may_end: HashSet::new(),
            silent: HashSet::new(),
            lives: 0,
            clients: Default::default(),
        })
    }

    fn start(&mut self, role: Role) -> Result<(), Trouble> {
        let part = Part {
            role,
            source: self.options.source.clone(),
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
        self.watch_for("the server to listen", |director| director.lives == life + 1)?;
        let again = if life > 0 { " again" } else { "" };
        self.note(&format!("server listens{again} on 127.0.0.1:{}", self.port));
        Ok(())
    }

    /// Waits until all clients have all that the newest life of the server has.
    fn await_live(&mut self, what: &'static str) -> Result<(), Trouble> {
        self.watch_for(what, |director| {
            director.clients.iter().all(|client| client.lives == director.lives)
        })?;
        self.note("all clients are live");
        Ok(())
    }

    fn trade_for(&mut self, time: Duration) -> Result<(), Trouble> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.watch_until(end.min(Instant::now() + LINE_EVERY))?;
            let sent: usize = self.clients.iter().map(|client| client.sent).sum();
            let unknown: usize = self.clients.iter().map(|client| client.unknown).sum();
            self.note(&format!("{sent} orders sent, the outcome of {unknown} unknown"));
        }
        Ok(())
    }

    fn kill_server(&mut self) -> Result<(), Trouble> {
        let role = Role::Server { life: 0 };
        self.may_end.insert(role);
        let mut server = self.take_process(role);
        server.kill().map_err(|error| Trouble::Process { role, error })?;
        self.note("server killed in the middle of it");
        self.watch_for("the last words of the server", |director| director.silent.contains(&role))
    }

    /// Ends the trade, has everybody state what they believe, and stops all.
    fn settle(&mut self) -> Result<Vec<Statement>, Trouble> {
        self.note("the trade is over; settling");
        let clients: Vec<Role> = (0..CLIENTS.len()).map(|index| Role::Client { index }).collect();
        self.order_all(&clients, Order::Settle)?;
        self.watch_for("the clients to settle", |director| {
            director.clients.iter().all(|client| client.is_settled)
        })?;
        self.may_end.extend(&clients);
        self.order_all(&clients, Order::Stop)?;
        self.watch_for("the clients' statements", |director| {
            director.clients.iter().all(|client| client.has_stated)
        })?;
        clients.iter().try_for_each(|&role| self.await_end(role))?;
        let server = Role::Server { life: self.lives - 1 };
        self.may_end.insert(server);
        self.order_all(&[server], Order::Stop)?;
        self.await_end(server)?;
        let read = |index| {
            let bytes = fs::read(options::statement(self.scratch.path(), index));
            let statement = bytes.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
            statement.map_err(|error| Trouble::Statement { role: Role::Client { index }, error })
        };
        (0..CLIENTS.len()).map(read).collect()
    }

    fn order_all(&mut self, roles: &[Role], order: Order) -> Result<(), Trouble> {
        for (role, process) in self.processes.iter_mut().filter(|(role, _)| roles.contains(role)) {
            process.order(order).map_err(|error| Trouble::Process { role: *role, error })?;
        }
        Ok(())
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
            false => Err(Trouble::Late(what)),
        }
    }

    fn watch(&mut self, until: Instant, is_so: impl Fn(&Self) -> bool) -> Result<bool, Trouble> {
        while !is_so(self) {
            match self.inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((role, heard)) => self.handle_heard(role, heard)?,
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => unreachable!("the director holds a sender itself"),
            }
        }
        Ok(true)
    }

    fn handle_heard(&mut self, role: Role, heard: Heard) -> Result<(), Trouble> {
        match heard {
            Heard::Report(report) => self.handle_report(role, report),
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

    fn handle_report(&mut self, role: Role, report: Report) -> Result<(), Trouble> {
        match (role, report) {
            (Role::Server { .. }, Report::Ready) => self.lives += 1,
            (Role::Client { index }, Report::Live { .. }) => self.clients[index].lives += 1,
            (Role::Client { index }, Report::Progress { sent, unknown }) => {
                (self.clients[index].sent, self.clients[index].unknown) = (sent, unknown);
            }
            (Role::Client { index }, Report::Settled) => self.clients[index].is_settled = true,
            (Role::Client { index }, Report::Stated) => self.clients[index].has_stated = true,
            (role, report) => return Err(Trouble::Nonsense { role, line: report.to_string() }),
        }
        Ok(())
    }

    /// Writes something that happened, with the time.
    fn note(&self, text: &str) {
        println!("{:5.1} s  {text}", self.started.elapsed().as_secs_f64());
    }
}

/// What people call the child.
fn name(role: Role) -> String {
    match role {
        Role::Server { life: 0 } => "the server".to_owned(),
        Role::Server { .. } => "the restarted server".to_owned(),
        Role::Client { index } => format!("the client {:?}", CLIENTS[index].0),
    }
}

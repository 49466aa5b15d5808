//! A driver as lazy as the contract of [`Machine`] allows: it oversleeps, reads in small pieces, holds chunks back and
//! tells the machine of everything late, but never out of order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use pulsewire::pattern::{Action, Chunk, ConnId, Machine, StreamEnd};
use pulsewire::time::{Duration, Instant};

use super::dice::{mix, mix_bytes, Dice};
use super::network::{End, Link, Network, Node, Read};

/// How a driver goes about its work.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    /// Most that it wakes late for a timer.
    pub oversleep_us: u64,
    /// Most bytes of one read.
    pub read_bytes: usize,
    /// In so many of a thousand writes another thread is writing, and the machine learns later what became of it.
    pub holds: u64,
    /// In so many of a thousand turns it asks for timers that are not due.
    pub fidgets: u64,
}

/// Reads of one connection in one turn.
const READS_PER_TURN: usize = 32;
/// How long a chunk may be held.
const LONGEST_HOLD_MS: u64 = 300;

#[derive(Debug)]
struct Line {
    link: Link,
    end: End,
    wants_write: bool,
    /// The machine wants no bytes, until it says to look again.
    paused: bool,
    /// Its end was seen, and the machine is told when no chunk of it is out.
    lost: Option<StreamEnd>,
}

/// A chunk that is with another thread.
struct Held {
    conn: ConnId,
    chunk: Chunk,
    written: usize,
    until: Instant,
}

pub struct Driver {
    pub node: Node,
    habits: Habits,
    dice: Dice,
    lines: BTreeMap<ConnId, Line>,
    dialling: BTreeSet<ConnId>,
    held: Vec<Held>,
    /// There is more to do at once.
    again: bool,
    pub turns: u64,
    pub trace: u64,
}

impl Driver {
    pub fn new(node: Node, habits: Habits, mut dice: Dice) -> Self {
        let trace = dice.bits();
        Driver {
            node,
            habits,
            dice,
            lines: BTreeMap::new(),
            dialling: BTreeSet::new(),
            held: Vec::new(),
            again: false,
            turns: 0,
            trace,
        }
    }

    fn note(&mut self, what: u64, bytes: &[u8]) {
        self.trace = mix_bytes(mix(self.trace, what), bytes);
    }

    /// The first half of a turn: everything that the network has.
    pub fn input<M: Machine>(&mut self, now: Instant, machine: &mut M, network: &mut Network) {
        self.turns += 1;
        self.again = false;
        self.trace = mix(self.trace, now.as_micros());
        self.hand_back(now, machine, network);
        self.dialled(now, machine, network);
        self.accept(now, machine, network);
        for conn in self.lines.keys().copied().collect::<Vec<_>>() {
            self.read(now, machine, network, conn);
        }
    }

    fn hand_back<M: Machine>(&mut self, now: Instant, machine: &mut M, network: &mut Network) {
        let (due, held) = std::mem::take(&mut self.held).into_iter().partition(|held| held.until <= now);
        self.held = held;
        for Held { conn, chunk, written, .. } in due {
            machine.handle_written(now, conn, chunk, written);
            if let Some(how) = self.lines.get_mut(&conn).and_then(|line| line.lost) {
                self.lose(now, machine, network, conn, how);
            }
        }
    }

    fn lose<M: Machine>(
        &mut self,
        now: Instant,
        machine: &mut M,
        network: &mut Network,
        conn: ConnId,
        how: StreamEnd,
    ) {
        if let Some(line) = self.lines.remove(&conn) {
            network.close(now, line.link, line.end);
            machine.handle_closed(now, conn, how);
        }
    }

    fn dialled<M: Machine>(&mut self, now: Instant, machine: &mut M, network: &mut Network) {
        let mine = |dialled: &super::network::Dialled| dialled.node == self.node && dialled.at <= now;
        let (due, rest) = std::mem::take(&mut network.dialled).into_iter().partition(mine);
        network.dialled = rest;
        for dialled in due {
            let wanted = self.dialling.remove(&dialled.conn);
            match dialled.result {
                Ok(link) if wanted => {
                    let line = Line { link, end: End::Client, wants_write: false, paused: false, lost: None };
                    self.lines.insert(dialled.conn, line);
                    machine.handle_connected(now, dialled.conn);
                }
                Ok(link) => network.close(now, link, End::Client),
                Err(error) => machine.handle_dial_failed(now, dialled.conn, error),
            }
        }
    }

    fn accept<M: Machine>(&mut self, now: Instant, machine: &mut M, network: &mut Network) {
        let mine = |(at, node, _): &(Instant, Node, Link)| *node == self.node && *at <= now;
        let (due, rest) = std::mem::take(&mut network.accepted).into_iter().partition(mine);
        network.accepted = rest;
        for (_, _, link) in due {
            match machine.handle_accepted(now, SocketAddr::from(([127, 0, 0, 1], 1))) {
                Some(conn) => {
                    let line = Line { link, end: End::Server, wants_write: false, paused: false, lost: None };
                    self.lines.insert(conn, line);
                }
                None => network.close(now, link, End::Server),
            }
        }
    }

    fn read<M: Machine>(&mut self, now: Instant, machine: &mut M, network: &mut Network, conn: ConnId) {
        for _ in 0..READS_PER_TURN {
            let readable = |line: &&mut Line| line.lost.is_none() && !line.paused;
            let Some(line) = self.lines.get_mut(&conn).filter(readable) else { return };
            if !machine.wants_read(conn) {
                line.paused = true;
                return;
            }
            let most = 1 + usize::try_from(self.dice.mostly_small(self.habits.read_bytes as u64)).unwrap();
            match network.read(now, line.link, line.end, most) {
                Read::Bytes(bytes) => {
                    self.note(1, &bytes);
                    machine.handle_bytes(now, conn, &bytes);
                }
                Read::Nothing => return machine.handle_drained(now, conn),
                Read::Over(how) => {
                    self.note(2, &[]);
                    if self.held.iter().any(|held| held.conn == conn) {
                        self.lines.get_mut(&conn).expect("looked up above").lost = Some(how);
                    } else {
                        self.lose(now, machine, network, conn, how);
                    }
                    return;
                }
            }
        }
        self.again = true;
    }

    /// The second half of a turn: timers, and then whatever the machine wants.
    pub fn output<M: Machine>(&mut self, now: Instant, machine: &mut M, network: &mut Network) {
        let due = machine.poll_timeout().is_some_and(|at| at <= now);
        if due || self.dice.permille(self.habits.fidgets) {
            machine.handle_timeout(now);
            let next = machine.poll_timeout();
            assert!(next.is_none_or(|next| next > now), "a timer at {next:?} spins at {now:?}");
        }
        loop {
            self.act(now, machine, network);
            let writable = |(conn, line): (&ConnId, &Line)| line.wants_write.then_some(*conn);
            let writable: Vec<ConnId> = self.lines.iter().filter_map(writable).collect();
            let mut progress = false;
            for conn in writable {
                progress |= self.write(now, machine, network, conn);
            }
            if !progress {
                break;
            }
        }
        self.act(now, machine, network);
    }

    fn act<M: Machine>(&mut self, now: Instant, machine: &mut M, network: &mut Network) {
        while let Some(action) = machine.poll_action() {
            match action {
                Action::Dial { conn, address } => {
                    self.dialling.insert(conn);
                    network.dial(now, self.node, conn, address);
                }
                Action::Transmit(conn) => {
                    if let Some(line) = self.lines.get_mut(&conn) {
                        line.wants_write = true;
                    }
                }
                Action::Read(conn) => {
                    self.lines.get_mut(&conn).into_iter().for_each(|line| line.paused = false);
                    self.again = true;
                }
                Action::Shutdown(conn) => {
                    if let Some(line) = self.lines.get(&conn) {
                        network.shutdown(now, line.link, line.end);
                    }
                }
                Action::Close(conn) => {
                    self.dialling.remove(&conn);
                    if let Some(line) = self.lines.remove(&conn) {
                        network.close(now, line.link, line.end);
                    }
                }
                action => panic!("a driver does not know {action:?}"),
            }
        }
    }

    /// Writes one chunk; whether another try makes sense now.
    fn write<M: Machine>(
        &mut self,
        now: Instant,
        machine: &mut M,
        network: &mut Network,
        conn: ConnId,
    ) -> bool {
        if self.held.iter().any(|held| held.conn == conn) {
            return false;
        }
        let Some(chunk) = machine.poll_transmit(now, conn) else {
            if let Some(line) = self.lines.get_mut(&conn) {
                line.wants_write = false;
            }
            return true; // It may have actions now.
        };
        assert!(!chunk.bytes().is_empty(), "an empty chunk");
        let line = self.lines.get(&conn).expect("only such are written to");
        let (written, lost) = match network.write(now, line.link, line.end, chunk.bytes()) {
            Ok(written) => (written, None),
            Err(how) => (0, Some(how)),
        };
        self.note(3, &chunk.bytes()[..written]);
        let whole = written == chunk.bytes().len();
        if self.dice.permille(self.habits.holds) {
            self.lines.get_mut(&conn).expect("looked up above").lost = lost;
            let until = now + self.dice.millis(1, LONGEST_HOLD_MS);
            self.held.push(Held { conn, chunk, written, until });
            return false;
        }
        machine.handle_written(now, conn, chunk, written);
        if let Some(how) = lost {
            self.lose(now, machine, network, conn, how);
        }
        whole
    }

    /// When it wants its next turn, if nothing happens before.
    pub fn next_turn<M: Machine>(&mut self, now: Instant, machine: &M) -> Instant {
        if self.again {
            return now + Duration::from_micros(1);
        }
        let oversleep = Duration::from_micros(self.dice.mostly_small(self.habits.oversleep_us));
        let timer = machine.poll_timeout().map(|at| at.max(now) + oversleep);
        let held = self.held.iter().map(|held| held.until).min();
        timer.into_iter().chain(held).min().unwrap_or(Instant::NEVER)
    }

    /// Nothing is with another thread.
    pub fn holds_nothing(&self) -> bool {
        self.held.is_empty()
    }
}

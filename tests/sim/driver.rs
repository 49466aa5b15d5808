//! A driver as lazy as the contract of [`Machine`] allows: it oversleeps, reads in small pieces, holds chunks back and
//! tells the machine of everything late, but never out of order.

mod habits;
mod line;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use pulsewire::pattern::{Action, Chunk, ConnId, Machine, StreamEnd};
use pulsewire::time::{Duration, Instant};

use super::dice::{mix, mix_bytes, Dice};
use super::network::{Dialled, End, Link, Network, Node, Read};
use super::tap::Tap;
pub use habits::Habits;
pub use line::Gone;
use line::Line;

/// Reads of one connection in one turn.
const READS_PER_TURN: usize = 32;

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
    /// Of all connections that there ever were.
    links: BTreeMap<ConnId, Link>,
    dialling: BTreeSet<ConnId>,
    held: Vec<Held>,
    /// When the last held chunk was handed back, in the world's time. Until then its machine says nothing on a newer
    /// connection, as it does not know what has left on the older one.
    handed_back: Instant,
    /// There is more to do at once.
    again: bool,
    /// Connections that ended in this turn or the last one.
    gone: Vec<Gone>,
    /// Dials of this turn.
    pub dials: u64,
    /// Listens to what is written.
    pub tap: Option<Tap>,
    pub turns: u64,
    /// What changed a machine: bytes that came or went, timers, connections that came and went.
    pub events: u64,
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
            links: BTreeMap::new(),
            dialling: BTreeSet::new(),
            held: Vec::new(),
            handed_back: Instant::ZERO,
            again: false,
            gone: Vec::new(),
            dials: 0,
            tap: None,
            turns: 0,
            events: 0,
            trace,
        }
    }

    /// From here on it is as quick as can be.
    pub fn calm_down(&mut self) {
        self.habits = Habits::CALM;
    }

    fn note(&mut self, what: u64, bytes: &[u8]) {
        self.trace = mix_bytes(mix(self.trace, what), bytes);
    }

    /// The first half of a turn: everything that the network has.
    pub fn input<M: Machine>(&mut self, now: Instant, machine: &mut M, network: &mut Network) {
        self.turns += 1;
        self.again = false;
        self.dials = 0;
        self.gone.retain(|gone| gone.turn + 1 >= self.turns);
        self.tap.iter_mut().for_each(Tap::forget_cut);
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
            self.handed_back = network.now;
            self.give_back(now, machine, conn, chunk, written);
            if let Some(how) = self.lines.get_mut(&conn).and_then(|line| line.lost) {
                self.lose(now, machine, network, conn, how);
            }
        }
    }

    fn give_back<M: Machine>(
        &mut self,
        now: Instant,
        machine: &mut M,
        conn: ConnId,
        chunk: Chunk,
        written: usize,
    ) {
        self.events += 1;
        if let Some(line) = self.lines.get_mut(&conn) {
            line.wrote(now, written, chunk.bytes().len());
        }
        self.tap.iter_mut().for_each(|tap| tap.returned(conn));
        machine.handle_written(now, conn, chunk, written);
    }

    fn lose<M: Machine>(
        &mut self,
        now: Instant,
        machine: &mut M,
        network: &mut Network,
        conn: ConnId,
        how: StreamEnd,
    ) {
        if self.close(network, conn, Some(how)) {
            self.events += 1;
            machine.handle_closed(now, conn, how);
        }
    }

    fn close(&mut self, network: &mut Network, conn: ConnId, how: Option<StreamEnd>) -> bool {
        let Some(line) = self.lines.remove(&conn) else { return false };
        self.gone.push(Gone::new(conn, self.turns, &line, network, how));
        self.tap.iter_mut().for_each(|tap| tap.lost(conn));
        network.close(line.link, line.end);
        true
    }

    fn open(&mut self, conn: ConnId, link: Link, end: End) {
        self.lines.insert(conn, Line::new(link, end));
        self.links.insert(conn, link);
        self.events += 1;
    }

    fn dialled<M: Machine>(&mut self, now: Instant, machine: &mut M, network: &mut Network) {
        let mine = |dialled: &Dialled| dialled.node == self.node && dialled.at <= network.now;
        let (due, rest) = std::mem::take(&mut network.dialled).into_iter().partition(mine);
        network.dialled = rest;
        for dialled in due {
            let wanted = self.dialling.remove(&dialled.conn);
            match dialled.result {
                Ok(link) if wanted => {
                    self.open(dialled.conn, link, End::Client);
                    machine.handle_connected(now, dialled.conn);
                }
                Ok(link) => network.close(link, End::Client),
                Err(error) => {
                    self.events += 1;
                    machine.handle_dial_failed(now, dialled.conn, error);
                }
            }
        }
    }

    fn accept<M: Machine>(&mut self, now: Instant, machine: &mut M, network: &mut Network) {
        let mine = |(at, node, _): &(Instant, Node, Link)| *node == self.node && *at <= network.now;
        let (due, rest) = std::mem::take(&mut network.accepted).into_iter().partition(mine);
        network.accepted = rest;
        for (_, _, link) in due {
            match machine.handle_accepted(now, SocketAddr::from(([127, 0, 0, 1], 1))) {
                Some(conn) => self.open(conn, link, End::Server),
                None => network.close(link, End::Server),
            }
        }
    }

    fn read<M: Machine>(&mut self, now: Instant, machine: &mut M, network: &mut Network, conn: ConnId) {
        for _ in 0..READS_PER_TURN {
            let readable = |line: &&mut Line| line.lost.is_none() && !line.paused;
            let Some(line) = self.lines.get_mut(&conn).filter(readable) else { return };
            if !machine.wants_read(conn) {
                (line.paused, line.drained_since) = (true, None);
                return;
            }
            let most = 1 + usize::try_from(self.dice.mostly_small(self.habits.read_bytes as u64)).unwrap();
            match network.read(line.link, line.end, most) {
                Read::Bytes(bytes) => {
                    line.drained_since = None;
                    line.flow.heard(network.now, bytes.len());
                    self.events += 1;
                    self.note(1, &bytes);
                    machine.handle_bytes(now, conn, &bytes);
                }
                Read::Nothing => {
                    line.drained_since.get_or_insert((now, network.now));
                    return machine.handle_drained(now, conn);
                }
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
            self.events += u64::from(due);
            machine.handle_timeout(now);
            let next = machine.poll_timeout();
            assert!(next.is_none_or(|next| next > now), "a timer at {next:?} spins at {now:?}");
        }
        loop {
            self.act(machine, network);
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
        self.act(machine, network);
    }

    fn act<M: Machine>(&mut self, machine: &mut M, network: &mut Network) {
        while let Some(action) = machine.poll_action() {
            match action {
                Action::Dial { conn, address } => {
                    self.dialling.insert(conn);
                    self.dials += 1;
                    network.dial(self.node, conn, address);
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
                        network.shutdown(line.link, line.end);
                    }
                }
                Action::Close(conn) => {
                    self.dialling.remove(&conn);
                    self.close(network, conn, None);
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
                (line.wants_write, line.starved_since) = (false, None);
            }
            return true; // It may have actions now.
        };
        assert!(!chunk.bytes().is_empty(), "an empty chunk");
        let line = self.lines.get(&conn).expect("only such are written to");
        let (written, lost) = match network.write(line.link, line.end, chunk.bytes()) {
            Ok(written) => (written, None),
            Err(how) => (0, Some(how)),
        };
        if let Some(tap) = &mut self.tap {
            tap.lent(conn, chunk.bytes());
            tap.took(conn, written);
        }
        self.note(3, &chunk.bytes()[..written]);
        let whole = written == chunk.bytes().len();
        if self.dice.permille(self.habits.holds) {
            self.lines.get_mut(&conn).expect("looked up above").lost = lost;
            let until =
                now + Duration::from_micros(self.dice.mostly_small(self.habits.longest_hold_ms * 1_000));
            self.held.push(Held { conn, chunk, written, until });
            return false;
        }
        self.give_back(now, machine, conn, chunk, written);
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

    /// The connection that ended last, if that was in this turn or the one before.
    pub fn last_gone(&self) -> Option<&Gone> {
        self.gone.last()
    }

    /// A connection that ended in this turn or the one before.
    pub fn gone(&self, conn: ConnId) -> Option<&Gone> {
        self.gone.iter().find(|gone| gone.conn == conn)
    }

    /// Since when, in the world's time, the only connection of a client has been in good order, and its server had
    /// nothing to say beside its heartbeats, while we kept nothing back ourselves.
    pub fn idle_since(&self, network: &Network) -> Option<Instant> {
        let line = self.lines.values().next()?;
        let since = line.flow.trickles_since()?;
        let in_order = line.lost.is_none()
            && !network.has_unread(line.link, line.end)
            && !network.was_disturbed(line.link, since);
        (in_order && self.holds_nothing()).then_some(since.max(self.handed_back))
    }

    /// Most bytes of one read.
    pub fn read_bytes(&self) -> u64 {
        self.habits.read_bytes as u64
    }

    /// The process that dialled a connection, which may have ended since.
    pub fn client_of(&self, network: &Network, conn: ConnId) -> Option<Node> {
        self.links.get(&conn).map(|link| network.client_of(*link))
    }

    /// Connections, and those to be.
    pub fn connections(&self) -> usize {
        self.lines.len() + self.dialling.len()
    }
}

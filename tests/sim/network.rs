//! An invented network: connections between processes whose bytes are split, delayed and held back, and which break.
//!
//! It lives in the world's time, which no process sees: each of them has a clock of its own.

mod connection;

use std::collections::BTreeMap;

use pulsewire::pattern::{ConnId, DialError, StreamEnd};
use pulsewire::time::{Duration, Instant};

use super::dice::Dice;
use connection::Connection;
pub use connection::End;

/// A process, by its place in the world.
pub type Node = usize;
/// A connection, by its place in the network.
pub type Link = usize;

/// How bytes travel.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub longest_delay_us: u64,
    /// Bytes on their way and unread, per direction: the kernel's buffers.
    pub window: usize,
    /// In so many of a thousand writes the kernel takes less than it could, or nothing.
    pub short_writes: u64,
}

/// What a read brings.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    Bytes(Vec<u8>),
    Nothing,
    Over(StreamEnd),
}

/// What became of a dial.
#[derive(Debug)]
pub struct Dialled {
    pub at: Instant,
    pub node: Node,
    pub conn: ConnId,
    pub result: Result<Link, DialError>,
}

/// The latest that a connection is accepted: by then its client has given it up.
const LATEST_ACCEPT_MS: u64 = 5_000;
/// The latest that a server notices that a connection died young.
const LATEST_NOTICE_MS: u64 = 1_000;

pub struct Network {
    /// The world's time.
    pub now: Instant,
    pub weather: Weather,
    links: Vec<Connection>,
    /// By address: the process that listens there, if it does.
    pub listeners: Vec<Option<Node>>,
    /// Dials whose outcome is on its way.
    pub dialled: Vec<Dialled>,
    /// Connections that wait to be accepted.
    pub accepted: Vec<(Instant, Node, Link)>,
    /// Dials to this address are lost until then.
    pub unreachable_until: Vec<Instant>,
    /// Who listens at this address accepts late until then: its clients are connected, and speak to nobody.
    pub backlog_until: Vec<Instant>,
    /// Connections to this address die young until then: the client's end breaks in the middle of the handshake, while
    /// the server has heard its client, and answers nobody.
    pub stillborn_until: Vec<Instant>,
    /// Dials of these processes are lost until then.
    unplugged_until: BTreeMap<Node, Instant>,
    /// Who has to look at what when.
    wakes: Vec<(Node, Instant)>,
    dice: Dice,
}

impl Network {
    pub fn new(weather: Weather, addresses: usize, dice: Dice) -> Self {
        Network {
            now: Instant::ZERO,
            weather,
            links: Vec::new(),
            listeners: vec![None; addresses],
            dialled: Vec::new(),
            accepted: Vec::new(),
            unreachable_until: vec![Instant::ZERO; addresses],
            backlog_until: vec![Instant::ZERO; addresses],
            stillborn_until: vec![Instant::ZERO; addresses],
            unplugged_until: BTreeMap::new(),
            wakes: Vec::new(),
            dice,
        }
    }

    /// Connections ever made.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    pub fn take_wakes(&mut self) -> Vec<(Node, Instant)> {
        std::mem::take(&mut self.wakes)
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(10 + self.dice.mostly_small(self.weather.longest_delay_us))
    }

    // What processes do.

    pub fn dial(&mut self, node: Node, conn: ConnId, address: usize) {
        let at = self.now + self.delay();
        let unplugged = self.unplugged_until.get(&node).is_some_and(|until| at < *until);
        let (at, result) = match self.listeners[address] {
            _ if unplugged || at < self.unreachable_until[address] => {
                (self.now + Duration::from_secs(3), Err(DialError::TimedOut))
            }
            None => (at, Err(DialError::Refused)),
            Some(server) => {
                let late = if at < self.backlog_until[address] { LATEST_ACCEPT_MS } else { 0 };
                let accepted = at + self.dice.millis(0, late);
                let link = self.connect(accepted, node, server);
                let connected = at + self.delay();
                if at < self.stillborn_until[address] {
                    self.die_young(link, connected);
                }
                (connected, Ok(link))
            }
        };
        self.dialled.push(Dialled { at, node, conn, result });
        self.wakes.push((node, at));
    }

    /// The client's end breaks soon, the server's later.
    fn die_young(&mut self, link: Link, connected: Instant) {
        self.disturb(link, Instant::NEVER);
        let dies = connected + self.delay() + self.delay();
        self.breaks(dies, link, End::Client, StreamEnd::Reset);
        let noticed = dies + self.dice.millis(1, LATEST_NOTICE_MS);
        self.breaks(noticed, link, End::Server, StreamEnd::Reset);
    }

    /// A connection comes about; `server` is to accept it then.
    pub fn connect(&mut self, at: Instant, client: Node, server: Node) -> Link {
        let reads_before_end = self.dice.permille(500);
        self.links.push(Connection::new(client, server, reads_before_end));
        let link = self.links.len() - 1;
        self.accepted.push((at, server, link));
        self.wakes.push((server, at));
        link
    }

    /// Reads at most `most` bytes.
    pub fn read(&mut self, link: Link, end: End, most: usize) -> Read {
        let now = self.now;
        let connection = &mut self.links[link];
        let over = connection.over(now, end);
        if let Some(how) = over.filter(|how| *how == StreamEnd::TimedOut || !connection.reads_before_end) {
            return Read::Over(how);
        }
        if now < connection.frozen_until[end as usize] {
            return Read::Nothing;
        }
        let pipe = &mut connection.pipes[end as usize];
        let bytes = pipe.take(now, most);
        if !bytes.is_empty() {
            if std::mem::take(&mut pipe.blocked) {
                let writer = connection.nodes[end.other() as usize];
                let at = now + self.delay();
                self.wakes.push((writer, at));
            }
            return Read::Bytes(bytes);
        }
        match pipe.finished {
            Some(at) if over.is_none() && at <= now && pipe.bytes.is_empty() => Read::Over(StreamEnd::Eof),
            _ => over.map_or(Read::Nothing, Read::Over),
        }
    }

    /// Whether bytes have arrived that this end has not read.
    pub fn has_unread(&self, link: Link, end: End) -> bool {
        let connection = &self.links[link];
        let arrived = |(at, _): &(Instant, usize)| *at <= self.now;
        self.now >= connection.frozen_until[end as usize]
            && connection.pipes[end as usize].arrivals.front().is_some_and(arrived)
    }

    /// Whether a trouble was at work on the connection at `since` or later.
    pub fn was_disturbed(&self, link: Link, since: Instant) -> bool {
        self.links[link].disturbed_until >= since
    }

    /// Hands bytes to the kernel; how many it took, or that the connection is broken.
    pub fn write(&mut self, link: Link, end: End, bytes: &[u8]) -> Result<usize, StreamEnd> {
        let now = self.now;
        let delay = self.delay();
        let connection = &mut self.links[link];
        if let Some(how) = connection.over(now, end) {
            return Err(how);
        }
        let other = end.other();
        let arrival = (now + delay).max(connection.frozen_until[other as usize]);
        if connection.closed[other as usize] {
            // Nobody is there any more: the kernel takes it, and the answer is a reset.
            connection.broken[end as usize].get_or_insert((arrival + delay, StreamEnd::Reset));
            self.wakes.push((connection.nodes[end as usize], arrival + delay));
            return Ok(bytes.len());
        }
        let pipe = &mut connection.pipes[other as usize];
        let room = self.weather.window.saturating_sub(pipe.bytes.len());
        let mut taken = bytes.len().min(room);
        if self.dice.permille(self.weather.short_writes) {
            taken = usize::try_from(self.dice.mostly_small(taken as u64)).expect("below a usize");
        }
        pipe.blocked = taken < bytes.len();
        if pipe.blocked && taken < room {
            self.wakes.push((connection.nodes[end as usize], now + delay));
        }
        if taken > 0 {
            let arrival = pipe.arrivals.back().map_or(arrival, |(last, _)| arrival.max(*last));
            // Split somewhere: what is written together does not arrive together.
            let head = 1 + self.dice.index(taken);
            pipe.bytes.extend(&bytes[..taken]);
            pipe.arrivals.push_back((arrival, head));
            self.wakes.push((connection.nodes[other as usize], arrival));
            if head < taken {
                pipe.arrivals.push_back((arrival + delay, taken - head));
                self.wakes.push((connection.nodes[other as usize], arrival + delay));
            }
        }
        Ok(taken)
    }

    /// The process that dialled.
    pub fn client_of(&self, link: Link) -> Node {
        self.links[link].nodes[End::Client as usize]
    }

    pub fn shutdown(&mut self, link: Link, end: End) {
        let at = self.now + self.delay();
        let connection = &mut self.links[link];
        let pipe = &mut connection.pipes[end.other() as usize];
        let at = pipe.arrivals.back().map_or(at, |(last, _)| at.max(*last));
        pipe.finished.get_or_insert(at);
        let at = at.max(connection.frozen_until[end.other() as usize]);
        self.wakes.push((connection.nodes[end.other() as usize], at));
    }

    /// Closes one end. Unread bytes turn the end into a reset, as they do in a real kernel.
    pub fn close(&mut self, link: Link, end: End) {
        let connection = &mut self.links[link];
        let known = std::mem::replace(&mut connection.closed[end as usize], true);
        if known || connection.over(self.now, end).is_some() {
            return; // There is nobody to tell.
        }
        if self.links[link].pipes[end as usize].bytes.is_empty() {
            return self.shutdown(link, end);
        }
        let at = self.now + self.delay();
        self.breaks(at, link, end.other(), StreamEnd::Reset);
    }

    fn breaks(&mut self, at: Instant, link: Link, end: End, how: StreamEnd) {
        let connection = &mut self.links[link];
        connection.broken[end as usize].get_or_insert((at, how));
        let frozen_until = connection.frozen_until[end as usize];
        let at = if how == StreamEnd::TimedOut { at } else { at.max(frozen_until) };
        self.wakes.push((connection.nodes[end as usize], at));
    }

    /// Whatever is written from here on is taken and arrives soon.
    pub fn calm_down(&mut self) {
        self.weather.longest_delay_us = self.weather.longest_delay_us.min(2_000);
        self.weather.short_writes = 0;
        self.unreachable_until.fill(self.now);
        self.backlog_until.fill(self.now);
        self.stillborn_until.fill(self.now);
        self.unplugged_until.clear();
    }

    // What happens to connections.

    /// Connections that are not closed at both ends.
    pub fn living(&self) -> Vec<Link> {
        (0..self.links.len()).filter(|link| self.links[*link].closed != [true; 2]).collect()
    }

    /// Both ends see a reset, each in its own time.
    pub fn reset(&mut self, link: Link) {
        self.disturb(link, self.now);
        for end in [End::Client, End::Server] {
            let at = self.now + self.delay();
            self.breaks(at, link, end, StreamEnd::Reset);
        }
    }

    /// One end is told that the other has finished, while that one knows nothing of it.
    pub fn half_close(&mut self, link: Link, end: End) {
        self.disturb(link, Instant::NEVER);
        self.shutdown(link, end.other());
    }

    /// Nothing arrives at this end until then.
    pub fn freeze(&mut self, link: Link, end: End, until: Instant) {
        self.disturb(link, until);
        let connection = &mut self.links[link];
        let frozen_until = &mut connection.frozen_until[end as usize];
        *frozen_until = until.max(*frozen_until);
        self.wakes.push((connection.nodes[end as usize], until));
    }

    /// The client's end breaks, and the server hears of it late, behind the bytes that were on their way: by then the
    /// client may have come back on another connection.
    pub fn abandon(&mut self, link: Link, until: Instant) {
        self.freeze(link, End::Server, until);
        self.shutdown(link, End::Client);
        self.breaks(self.now, link, End::Client, StreamEnd::Reset);
    }

    /// The cable is cut: nothing arrives any more, and only the server's keepalive finds out.
    pub fn cut(&mut self, link: Link) {
        self.disturb(link, Instant::NEVER);
        self.links[link].frozen_until = [Instant::NEVER; 2];
        // A reset that was on its way gets stuck as well.
        self.links[link].broken[End::Server as usize] = None;
        let at = self.now + Duration::from_secs(20);
        self.breaks(at, link, End::Server, StreamEnd::TimedOut);
    }

    /// The cable of a process is out until then.
    pub fn unplug(&mut self, node: Node, until: Instant) {
        self.unplugged_until.insert(node, until);
        for link in self.links_of(node) {
            self.freeze(link, End::Client, until);
            self.freeze(link, End::Server, until);
        }
    }

    /// Every connection of a process breaks, as both of its ends see.
    pub fn reset_all(&mut self, node: Node) {
        self.links_of(node).into_iter().for_each(|link| self.reset(link));
    }

    /// A trouble of this process is at work until then.
    pub fn disturb_all(&mut self, node: Node, until: Instant) {
        self.links_of(node).into_iter().for_each(|link| self.disturb(link, until));
    }

    fn disturb(&mut self, link: Link, until: Instant) {
        let disturbed_until = &mut self.links[link].disturbed_until;
        *disturbed_until = until.max(*disturbed_until);
    }

    fn links_of(&self, node: Node) -> Vec<Link> {
        self.living().into_iter().filter(|link| self.links[*link].nodes.contains(&node)).collect()
    }

    /// A process is gone: its kernel tells its peers, or its whole machine has vanished and tells nobody until they
    /// speak to it again.
    pub fn kill(&mut self, node: Node, silently: bool) {
        self.disturb_all(node, Instant::NEVER);
        for link in self.living() {
            for end in [End::Client, End::Server] {
                if self.links[link].nodes[end as usize] == node && !self.links[link].closed[end as usize] {
                    self.links[link].closed[end as usize] = true;
                    let after = if silently { Duration::from_secs(30) } else { self.delay() };
                    self.breaks(self.now + after, link, end.other(), StreamEnd::Reset);
                }
            }
        }
        self.accepted.retain(|(_, server, _)| *server != node);
        self.dialled.retain(|dialled| dialled.node != node);
    }
}

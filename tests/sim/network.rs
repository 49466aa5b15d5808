//! An invented network: connections between processes whose bytes are split, delayed and held back, and which break.

use std::collections::VecDeque;

use pulsewire::pattern::{ConnId, DialError, StreamEnd};
use pulsewire::time::{Duration, Instant};

use super::dice::Dice;

/// A process, by its place in the world.
pub type Node = usize;
/// A connection, by its place in the network.
pub type Link = usize;

/// One of the two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Client = 0,
    Server = 1,
}

impl End {
    pub fn other(self) -> End {
        match self {
            End::Client => End::Server,
            End::Server => End::Client,
        }
    }
}

/// How bytes travel.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub longest_delay_us: u64,
    /// Bytes on their way and unread, per direction: the kernel's buffers.
    pub window: usize,
    /// In so many of a thousand writes the kernel takes less than it could, or nothing.
    pub short_writes: u64,
}

/// Bytes on their way to one end.
#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// When so many more of them arrive, in order.
    arrivals: VecDeque<(Instant, usize)>,
    /// The sender ended its side; all is there when the bytes are.
    finished: Option<Instant>,
    /// The sender waits for room.
    blocked: bool,
}

#[derive(Debug)]
struct Connection {
    nodes: [Node; 2],
    /// By the end that reads.
    pipes: [Pipe; 2],
    /// The end that an end will see, and when.
    broken: [Option<(Instant, StreamEnd)>; 2],
    closed: [bool; 2],
    /// Until then nothing arrives, neither bytes nor ends.
    frozen_until: Instant,
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

pub struct Network {
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
    /// Who has to look at what when.
    wakes: Vec<(Node, Instant)>,
    dice: Dice,
}

impl Network {
    pub fn new(weather: Weather, addresses: usize, dice: Dice) -> Self {
        Network {
            weather,
            links: Vec::new(),
            listeners: vec![None; addresses],
            dialled: Vec::new(),
            accepted: Vec::new(),
            unreachable_until: vec![Instant::ZERO; addresses],
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

    pub fn dial(&mut self, now: Instant, node: Node, conn: ConnId, address: usize) {
        let at = now + self.delay();
        let (at, result) = match self.listeners[address] {
            _ if at < self.unreachable_until[address] => {
                (now + Duration::from_secs(3), Err(DialError::TimedOut))
            }
            None => (at, Err(DialError::Refused)),
            Some(server) => (at + self.delay(), Ok(self.connect(at, node, server))),
        };
        self.dialled.push(Dialled { at, node, conn, result });
        self.wakes.push((node, at));
    }

    /// A connection comes about; `server` is to accept it.
    pub fn connect(&mut self, at: Instant, client: Node, server: Node) -> Link {
        self.links.push(Connection {
            nodes: [client, server],
            pipes: Default::default(),
            broken: [None; 2],
            closed: [false; 2],
            frozen_until: Instant::ZERO,
        });
        let link = self.links.len() - 1;
        self.accepted.push((at, server, link));
        self.wakes.push((server, at));
        link
    }

    /// Reads at most `most` bytes.
    pub fn read(&mut self, now: Instant, link: Link, end: End, most: usize) -> Read {
        let connection = &mut self.links[link];
        let over = connection.broken[end as usize].filter(|(at, _)| *at <= now);
        if let Some((_, how @ StreamEnd::TimedOut)) = over {
            return Read::Over(how); // Our own kernel gave up: no network is needed for that.
        }
        if now < connection.frozen_until {
            return Read::Nothing;
        }
        if let Some((_, how)) = over {
            return Read::Over(how);
        }
        let pipe = &mut connection.pipes[end as usize];
        let mut bytes = Vec::new();
        while let Some((_, len)) =
            pipe.arrivals.front_mut().filter(|(at, _)| *at <= now && bytes.len() < most)
        {
            let taken = (*len).min(most - bytes.len());
            bytes.extend(pipe.bytes.drain(..taken));
            *len -= taken;
            if *len == 0 {
                pipe.arrivals.pop_front();
            }
        }
        if !bytes.is_empty() {
            if std::mem::take(&mut pipe.blocked) {
                let writer = connection.nodes[end.other() as usize];
                let at = now + self.delay();
                self.wakes.push((writer, at));
            }
            return Read::Bytes(bytes);
        }
        match pipe.finished {
            Some(at) if at <= now && pipe.bytes.is_empty() => Read::Over(StreamEnd::Eof),
            _ => Read::Nothing,
        }
    }

    /// When there will be something to read, as far as it is on its way.
    pub fn readable_at(&self, link: Link, end: End) -> Option<Instant> {
        let connection = &self.links[link];
        let pipe = &connection.pipes[end as usize];
        let next = pipe.arrivals.front().map(|(at, _)| *at).or(pipe.finished);
        let broken = connection.broken[end as usize].map(|(at, _)| at);
        next.into_iter().chain(broken).min().map(|at| at.max(connection.frozen_until))
    }

    /// Hands bytes to the kernel; how many it took, or that the connection is broken.
    pub fn write(&mut self, now: Instant, link: Link, end: End, bytes: &[u8]) -> Result<usize, StreamEnd> {
        let delay = self.delay();
        let connection = &mut self.links[link];
        if let Some((_, how)) = connection.broken[end as usize].filter(|(at, _)| *at <= now) {
            return Err(how);
        }
        let other = end.other();
        let arrival = (now + delay).max(connection.frozen_until);
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

    pub fn shutdown(&mut self, now: Instant, link: Link, end: End) {
        let at = now + self.delay();
        let connection = &mut self.links[link];
        let pipe = &mut connection.pipes[end.other() as usize];
        let at = pipe.arrivals.back().map_or(at, |(last, _)| at.max(*last));
        pipe.finished.get_or_insert(at);
        self.wakes.push((connection.nodes[end.other() as usize], at.max(connection.frozen_until)));
    }

    /// Closes one end. Unread bytes turn the end into a reset, as they do in a real kernel.
    pub fn close(&mut self, now: Instant, link: Link, end: End) {
        if std::mem::replace(&mut self.links[link].closed[end as usize], true) {
            return;
        }
        if self.links[link].pipes[end as usize].bytes.is_empty() {
            return self.shutdown(now, link, end);
        }
        let at = now + self.delay();
        self.breaks(at, link, end.other(), StreamEnd::Reset);
    }

    fn breaks(&mut self, at: Instant, link: Link, end: End, how: StreamEnd) {
        let connection = &mut self.links[link];
        connection.broken[end as usize].get_or_insert((at, how));
        let at = if how == StreamEnd::TimedOut { at } else { at.max(connection.frozen_until) };
        self.wakes.push((connection.nodes[end as usize], at));
    }

    // What happens to connections.

    /// Connections that are not closed at both ends.
    pub fn living(&self) -> Vec<Link> {
        (0..self.links.len()).filter(|link| self.links[*link].closed != [true; 2]).collect()
    }

    /// Both ends see a reset, each in its own time.
    pub fn reset(&mut self, now: Instant, link: Link) {
        for end in [End::Client, End::Server] {
            let at = now + self.delay();
            self.breaks(at, link, end, StreamEnd::Reset);
        }
    }

    /// One end is told that the other has finished, while that one knows nothing of it.
    pub fn half_close(&mut self, now: Instant, link: Link, end: End) {
        self.shutdown(now, link, end.other());
    }

    /// Nothing arrives until then.
    pub fn freeze(&mut self, link: Link, until: Instant) {
        let connection = &mut self.links[link];
        connection.frozen_until = connection.frozen_until.max(until);
        self.wakes.extend(connection.nodes.map(|node| (node, until)));
    }

    /// The cable is cut: nothing arrives any more, and only the server's keepalive finds out.
    pub fn cut(&mut self, now: Instant, link: Link) {
        self.links[link].frozen_until = Instant::NEVER;
        // A reset that was on its way gets stuck as well.
        self.links[link].broken[End::Server as usize] = None;
        let at = now + Duration::from_secs(20);
        self.breaks(at, link, End::Server, StreamEnd::TimedOut);
    }

    /// A process is gone: its kernel tells its peers, or its whole machine has vanished and tells nobody until they
    /// speak to it again.
    pub fn kill(&mut self, now: Instant, node: Node, silently: bool) {
        for link in self.living() {
            for end in [End::Client, End::Server] {
                if self.links[link].nodes[end as usize] == node && !self.links[link].closed[end as usize] {
                    self.links[link].closed[end as usize] = true;
                    let after = if silently { Duration::from_secs(30) } else { self.delay() };
                    self.breaks(now + after, link, end.other(), StreamEnd::Reset);
                }
            }
        }
        self.accepted.retain(|(_, server, _)| *server != node);
        self.dialled.retain(|dialled| dialled.node != node);
    }
}

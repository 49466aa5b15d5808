//! One connection: its two ends, and the bytes that are on their way between them.

use std::collections::VecDeque;

use pulsewire::pattern::StreamEnd;
use pulsewire::time::Instant;

use super::Node;

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

/// Bytes on their way to one end.
#[derive(Debug, Default)]
pub struct Pipe {
    pub bytes: VecDeque<u8>,
    /// When so many more of them arrive, in order.
    pub arrivals: VecDeque<(Instant, usize)>,
    /// The sender ended its side; all is there when the bytes are.
    pub finished: Option<Instant>,
    /// The sender waits for room.
    pub blocked: bool,
}

#[derive(Debug)]
pub struct Connection {
    pub nodes: [Node; 2],
    /// By the end that reads.
    pub pipes: [Pipe; 2],
    /// The end that an end will see, and when.
    pub broken: [Option<(Instant, StreamEnd)>; 2],
    pub closed: [bool; 2],
    /// By the end that reads: until then nothing arrives there, neither bytes nor ends.
    pub frozen_until: [Instant; 2],
    /// Its kernels hand out what has arrived before they say that the connection is broken, as Linux does; others throw
    /// it away.
    pub reads_before_end: bool,
    /// The last moment at which a trouble of this connection, or of a process at one of its ends, was at work.
    pub disturbed_until: Instant,
}

impl Pipe {
    /// At most `most` of the bytes that have arrived.
    pub fn take(&mut self, now: Instant, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some((_, len)) =
            self.arrivals.front_mut().filter(|(at, _)| *at <= now && bytes.len() < most)
        {
            let taken = (*len).min(most - bytes.len());
            bytes.extend(self.bytes.drain(..taken));
            *len -= taken;
            if *len == 0 {
                self.arrivals.pop_front();
            }
        }
        bytes
    }
}

impl Connection {
    pub fn new(client: Node, server: Node, reads_before_end: bool) -> Self {
        Connection {
            nodes: [client, server],
            pipes: Default::default(),
            broken: [None; 2],
            closed: [false; 2],
            frozen_until: [Instant::ZERO; 2],
            reads_before_end,
            disturbed_until: Instant::ZERO,
        }
    }

    /// How it is over for this end, as far as that has got around.
    pub fn over(&self, now: Instant, end: End) -> Option<StreamEnd> {
        let (at, how) = self.broken[end as usize]?;
        // A kernel that gives up by itself has no network to wait for.
        let hidden = how != StreamEnd::TimedOut && now < self.frozen_until[end as usize];
        Some(how).filter(|_| at <= now && !hidden)
    }
}

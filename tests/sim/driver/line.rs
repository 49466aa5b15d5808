//! A connection as its driver sees it, while it lives and when it is gone.

use pulsewire::pattern::{ConnId, StreamEnd};
use pulsewire::time::{Duration, Instant};

use super::super::network::{End, Link, Network};

#[derive(Debug)]
pub struct Line {
    pub link: Link,
    pub end: End,
    pub wants_write: bool,
    /// The machine wants no bytes, until it says to look again.
    pub paused: bool,
    /// Its end was seen, and the machine is told when no chunk of it is out.
    pub lost: Option<StreamEnd>,
    /// Since when reads find nothing, by our clock and by the world's.
    pub drained_since: Option<(Instant, Instant)>,
    /// Since when the kernel takes nothing of what is to be written.
    pub starved_since: Option<Instant>,
    pub flow: Flow,
}

impl Line {
    pub fn new(link: Link, end: End) -> Self {
        Line {
            link,
            end,
            wants_write: false,
            paused: false,
            lost: None,
            drained_since: None,
            starved_since: None,
            flow: Flow::default(),
        }
    }

    /// The machine hears what became of a chunk.
    pub fn wrote(&mut self, now: Instant, written: usize, len: usize) {
        if written > 0 {
            self.starved_since = None;
        }
        if written < len {
            self.starved_since.get_or_insert(now);
        }
    }
}

/// How much comes, in the world's time: whether a peer has anything to say beside its heartbeats.
#[derive(Debug, Default)]
pub struct Flow {
    /// When the first bytes came.
    since: Option<Instant>,
    /// The present second, and what has come in it.
    second: Instant,
    bytes: usize,
    /// The end of the last second in which more came than a trickle.
    flowed_until: Option<Instant>,
}

impl Flow {
    /// A second's heartbeats are less, anything that takes time is more.
    const TRICKLE_BYTES: usize = 64;
    const SECOND: Duration = Duration::from_secs(1);

    pub fn heard(&mut self, world: Instant, bytes: usize) {
        self.since.get_or_insert(world);
        if world >= self.second + Self::SECOND {
            self.flowed_until = self.flowed().or(self.flowed_until);
            (self.second, self.bytes) = (world, 0);
        }
        self.bytes += bytes;
    }

    fn flowed(&self) -> Option<Instant> {
        (self.bytes > Self::TRICKLE_BYTES).then_some(self.second + Self::SECOND)
    }

    /// Since when it has been a trickle at the most; `None` if nothing has ever come.
    pub fn trickles_since(&self) -> Option<Instant> {
        let since = self.since?;
        Some(self.flowed().or(self.flowed_until).unwrap_or(since))
    }
}

/// A connection that has ended, as its driver saw it.
#[derive(Debug)]
pub struct Gone {
    pub conn: ConnId,
    /// The turn in which it ended.
    pub turn: u64,
    /// Since when reads found nothing, by our clock and by the world's.
    pub drained_since: Option<(Instant, Instant)>,
    /// Bytes had come that were not read.
    pub unread: bool,
    /// A trouble of the connection was at work since then.
    pub was_disturbed: bool,
    starved_since: Option<Instant>,
    how: Option<StreamEnd>,
}

impl Gone {
    /// `how` it ended, if it was not closed on purpose.
    pub fn new(conn: ConnId, turn: u64, line: &Line, network: &Network, how: Option<StreamEnd>) -> Self {
        let Line { link, end, lost, drained_since, starved_since, .. } = *line;
        // An end that was seen while a chunk was out is all there is to see.
        let unread = lost.is_none() && network.has_unread(link, end);
        let disturbed = |(_, since)| lost.is_some() || network.was_disturbed(link, since);
        let was_disturbed = drained_since.is_some_and(disturbed);
        Gone { conn, turn, drained_since, unread, was_disturbed, starved_since, how }
    }

    /// It was given up because its peer took nothing: then it really took nothing for so long, or the kernel says so.
    pub fn expect_starved(&self, now: Instant, timeout: Duration) {
        let starved = self.starved_since.map(|since| now.saturating_since(since));
        let timed_out = self.how == Some(StreamEnd::TimedOut);
        assert!(timed_out || starved >= Some(timeout), "a peer that reads was given up: {self:?}");
    }
}

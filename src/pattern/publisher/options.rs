//! What a stream of publications is to be.

/// What becomes of a subscriber that the log has moved past.
///
/// The publisher's configuration decides, never the peer. Whatever is chosen, each message that is not received is
/// counted in an exact [`Lost`](super::super::EventKind::Lost).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SlowPolicy {
    /// It goes on from the oldest message of the log's newest three quarters, so that it is not lapped again at once.
    /// For whoever wants as much as possible.
    #[default]
    SkipToOldest,
    /// It goes on from the newest message that matches. For whoever wants what is true now, such as prices.
    SkipToNewest,
    /// Nobody who is connected is lapped: the publisher waits for room in the log, at most `Limits::block_timeout`
    /// from its turn on if several threads wait, and then puts the slow ones out. They come back by themselves, and get what the log still has and an exact
    /// count of the rest. Who is absent is not waited for. For lossless pipelines: as fast as their slowest reader.
    Block,
}

/// Which publications the log of a stream keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Retain {
    /// Those that match somebody who is connected or remembered. Nobody costs nothing.
    #[default]
    Matched,
    /// All of them, so that whoever comes later can be given what was published before, see
    /// [`SubscribeOptions::from`](super::super::SubscribeOptions::from).
    All,
}

/// What a stream of publications is to be. The default is what the main stream is.
///
/// ```
/// use pulsewire::{Retain, SlowPolicy, StreamOptions};
/// let ticks = StreamOptions::default().policy(SlowPolicy::SkipToNewest).last_value(true);
/// let trades = StreamOptions::default().retain(Retain::All).log_bytes(1024 * 1024);
/// # let _ = (ticks, trades);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StreamOptions {
    /// What becomes of slow subscribers. Default: [`SlowPolicy::SkipToOldest`].
    pub policy: SlowPolicy,
    /// What the log keeps. Default: [`Retain::Matched`].
    pub retain: Retain,
    /// Whether the newest message of each topic is kept for whoever comes and asks for a snapshot. Default: no. The
    /// topics are bounded by `Limits::max_last_topics`, the bytes of all streams by `Limits::last_values_bytes`; beyond
    /// them the value that is oldest goes, and is counted.
    pub last_value: bool,
    /// Bytes of the log; `None` takes `Limits::log_bytes`. At least 16 KiB, a publication may take a quarter.
    pub log_bytes: Option<u64>,
    /// Messages in the log; `None` takes `Limits::log_messages`.
    pub log_messages: Option<u32>,
}

impl StreamOptions {
    /// Takes this policy for slow subscribers.
    pub fn policy(mut self, policy: SlowPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Keeps these publications.
    pub fn retain(mut self, retain: Retain) -> Self {
        self.retain = retain;
        self
    }

    /// Keeps the newest message of each topic, or does not.
    pub fn last_value(mut self, keep: bool) -> Self {
        self.last_value = keep;
        self
    }

    /// Takes a log of so many bytes, at least 16 KiB.
    pub fn log_bytes(mut self, bytes: u64) -> Self {
        self.log_bytes = Some(bytes);
        self
    }

    /// Takes a log of so many messages, at least 1.
    pub fn log_messages(mut self, messages: u32) -> Self {
        self.log_messages = Some(messages);
        self
    }
}

/// One stream of a server: the main one, or one that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u32);

impl StreamId {
    /// The stream without a name, which every server has.
    pub const MAIN: StreamId = StreamId(0);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Why a stream was not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The name is longer than 255 bytes.
    #[error("stream name of {len} bytes is above the limit of {limit}")]
    NameTooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// There is a stream of this name already; the empty name is the main one's.
    #[error("there is a stream of this name already")]
    Exists,
    /// The server has as many streams as it may.
    #[error("the server has {limit} streams, its limit")]
    TooMany {
        /// The limit in streams, the main one included.
        limit: u32,
    },
    /// Its log is too small to hold a useful publication in its quarter, or larger than this machine's addresses.
    #[error("a log of {log_bytes} bytes and {log_messages} messages cannot be: the least are {least} and 1")]
    LogSize {
        /// The bytes asked for.
        log_bytes: u64,
        /// The messages asked for.
        log_messages: u32,
        /// The least possible bytes.
        least: u64,
    },
    /// The server is stopping or stopped.
    #[error("the server is stopped")]
    Stopped,
}

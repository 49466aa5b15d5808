//! Why a connection ended.

use alloc::boxed::Box;

use crate::wire::{self, ByeCode, Kind, RejectCode};

/// Why a connection ended: an outcome, not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer said Bye.
    ByPeer {
        /// Its reason.
        code: ByeCode,
        /// Its words, at most 512 bytes of them.
        text: Box<str>,
    },
    /// We closed it on purpose.
    ByUs,
    /// A newer connection of the same session has taken its place.
    Replaced,
    /// The server refused the client.
    Rejected {
        /// Its reason.
        code: RejectCode,
        /// Its words, at most 512 bytes of them.
        text: Box<str>,
    },
    /// Nothing was heard for the heartbeat timeout.
    Silent,
    /// The peer took nothing of what waited for it for so long that it was given up.
    NotReading,
    /// The subscriber was so slow that a publisher whose policy is to wait waited no longer.
    TooSlow,
    /// The handshake was not finished in time.
    HandshakeTimeout,
    /// A begun frame neither ended nor gained enough in time.
    FrameStalled {
        /// Bytes of it that had come.
        received: u64,
    },
    /// The peer broke the protocol.
    Protocol(Violation),
    /// A limit of ours was reached, and this connection had to go for it.
    Limit(LimitReached),
    /// The stream ended or broke under us.
    StreamLost(StreamEnd),
}

/// How the peer broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Its bytes are no frames.
    #[error(transparent)]
    Bytes(#[from] wire::Error),
    /// A frame of this kind has no place here and now.
    #[error("unexpected {kind:?} frame")]
    Unexpected {
        /// The frame's kind.
        kind: Kind,
    },
    /// A request id was used before, or ids go backwards.
    #[error("request id {id} was used before")]
    RequestIdReused {
        /// The id.
        id: u64,
    },
    /// More calls without an outcome than twice its limit, after it was told that it is full.
    #[error("more than twice the limit of {limit} calls in flight")]
    TooManyInFlight {
        /// The limit in calls.
        limit: u64,
    },
    /// A sequence number or position went backwards.
    #[error("sequence number {seq} after position {position}")]
    SequenceWentBack {
        /// The number that came.
        seq: u64,
        /// The position that had been reached.
        position: u64,
    },
    /// A subscriber claims to have what it cannot have.
    #[error("cannot resume at {next_seq} with {accounted} messages accounted for")]
    ImpossibleResume {
        /// The position that it claims.
        next_seq: u64,
        /// The messages that it claims.
        accounted: u64,
    },
    /// A subscription to everything can take no single prefixes.
    #[error("prefixes for a subscription to everything")]
    PrefixesBesideEverything,
    /// The subscriber's set is above its limit.
    #[error("more prefixes than the limit of {limit_count} and {limit_bytes} bytes")]
    TooManyPrefixes {
        /// The limit in prefixes.
        limit_count: u32,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// An acknowledgement that nobody waits for.
    #[error("unknown ticket {ticket}")]
    UnknownTicket {
        /// The ticket.
        ticket: u64,
    },
}

/// Which limit of ours ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitReached {
    /// Too many connections were in their handshake, and this was the oldest.
    #[error("too many connections in their handshake")]
    HalfOpen,
    /// All subscribers' prefixes together.
    #[error("prefixes of all subscribers are above {limit} bytes")]
    Prefixes {
        /// The limit in bytes.
        limit: u64,
    },
    /// A publication that the subscriber must take is longer than its frame limit.
    #[error("a publication of {needed} bytes is above the subscriber's frame limit")]
    PeerFrame {
        /// The frame's length in bytes after the length field.
        needed: u32,
    },
    /// All connections' send queues together.
    #[error("send queues are above {limit} bytes")]
    SendQueues {
        /// The limit in bytes.
        limit: u64,
    },
}

/// How a stream of bytes ended, as far as a driver can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamEnd {
    /// The peer closed its side.
    Eof,
    /// The peer, or something between, reset the connection.
    Reset,
    /// The kernel gave up: keepalive or data unanswered.
    TimedOut,
    /// Anything else.
    Broken,
}

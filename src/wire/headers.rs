//! What each header holds, field by field in the order on the wire.

use postcard::fixint::le;
use serde::{Deserialize, Serialize};

use super::kind::Role;
use super::lists::{Ids, Prefixes};
use super::{MAGIC, VERSION};

/// The 128 random bits that name a requester, or one subscription, across its reconnects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct SessionId(pub [u8; 16]);

/// The first frame of a connection, and the only one accepted before [`Welcome`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello<'a> {
    magic: [u8; 4],
    #[serde(with = "le")]
    version: u16,
    /// What the connection is for.
    pub role: Role,
    /// Kept across the reconnects of one requester or one subscription.
    pub session: SessionId,
    /// Counts up with each dial of this session, so that a late dial is recognised.
    #[serde(with = "le")]
    pub attempt: u64,
    /// The largest frame that the client accepts, in bytes after the length field.
    #[serde(with = "le")]
    pub max_frame: u32,
    /// The stream that a subscriber follows; empty is the main one. Empty for requesters.
    pub stream: &'a str,
}

impl<'a> Hello<'a> {
    /// A greeting in the version of the protocol that this crate speaks.
    pub fn new(role: Role, session: SessionId, attempt: u64, max_frame: u32, stream: &'a str) -> Self {
        Hello { magic: MAGIC, version: VERSION, role, session, attempt, max_frame, stream }
    }
}

/// The server's answer to a [`Hello`] that it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    #[serde(with = "le")]
    version: u16,
    /// One life of the server: random at each start.
    #[serde(with = "le")]
    pub epoch: u64,
    /// The server still holds this session's record (implies an unchanged epoch).
    pub known: bool,
    /// Quiet after which the server sends a heartbeat, in milliseconds.
    #[serde(with = "le")]
    pub heartbeat_interval_ms: u32,
    /// The largest frame that the server accepts, in bytes after the length field.
    #[serde(with = "le")]
    pub max_frame: u32,
}

impl Welcome {
    /// A welcome in the version of the protocol that this crate speaks.
    pub fn new(epoch: u64, known: bool, heartbeat_interval_ms: u32, max_frame: u32) -> Self {
        Welcome { version: VERSION, epoch, known, heartbeat_interval_ms, max_frame }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ReasonHeader {
    #[serde(with = "le")]
    pub(super) code: u16,
}

/// Sign of life from a server that had nothing else to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The server's wall clock, nanoseconds since the Unix epoch; data, never a timer.
    #[serde(with = "le")]
    pub wall_clock_ns: u64,
    /// Everything matching below this sequence number precedes this frame; 0 for requesters.
    #[serde(with = "le")]
    pub position: u64,
}

/// A call on its way to the server; the arguments follow the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request<'a> {
    /// Unique within the session, counting up from 1.
    #[serde(with = "le")]
    pub id: u64,
    /// Time left until the caller's deadline, in milliseconds, at the moment the frame was begun.
    #[serde(with = "le")]
    pub time_left_ms: u32,
    /// The function's name, at most 255 bytes. An empty one is answered like any unknown one: the mistake costs its
    /// caller one call, not the connection.
    pub function: &'a str,
    /// Calls that have had their outcome since the last frame that said so.
    #[serde(borrow)]
    pub settled: Ids<'a>,
}

/// Which calls have had their outcome, so that the server may forget them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle<'a> {
    /// False: these calls. True: all calls of the session but these.
    pub all_but: bool,
    /// The calls meant.
    #[serde(borrow)]
    pub ids: Ids<'a>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Status {
    /// It ran; the payload is its result.
    Ok,
    /// It ran and says no; the payload is its text.
    Failed,
    /// There is no function of that name.
    UnknownFunction,
    /// The arguments did not decode; the payload says why.
    BadArguments,
    /// It ran and panicked.
    Panicked,
    /// It certainly did not start.
    NotExecuted(Refusal),
    /// It ran once, and the answer is gone.
    ResultNotKept,
    /// It was taken up and its responder was dropped without an answer.
    Dropped,
}

/// Why a server did not start a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    /// Its deadline had passed.
    Expired,
    /// A bound of the server was reached.
    Full,
    /// The server is stopping.
    ShuttingDown,
    /// The caller settled it before it started.
    Settled,
}

/// The outcome of one request; the result or a text follows the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's id.
    #[serde(with = "le")]
    pub id: u64,
    /// What became of it.
    pub status: Status,
}

/// Where a subscriber wants its stream to begin; carried by the last Subscribe of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// With what is published from now on.
    Fresh,
    /// At this sequence number, as far as the log reaches back.
    From {
        /// The first sequence number wanted.
        #[serde(with = "le")]
        seq: u64,
    },
    /// Where the last connection of this session ended.
    Resume {
        /// The position that the client has reached.
        #[serde(with = "le")]
        next_seq: u64,
        /// Messages received plus messages reported lost, in this account.
        #[serde(with = "le")]
        accounted: u64,
    },
}

/// Prefixes to add to the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe<'a> {
    /// Comes back in [`Subscribed`].
    #[serde(with = "le")]
    pub ticket: u64,
    /// Send the newest message of each matching topic first.
    pub snapshot: bool,
    /// Present on the last Subscribe of a handshake: the set is complete, start here.
    pub start: Option<Start>,
    /// The prefixes, each at most 255 bytes; may be empty.
    #[serde(borrow)]
    pub prefixes: Prefixes<'a>,
}

/// Prefixes to take from the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsubscribe<'a> {
    /// Comes back in [`Subscribed`].
    #[serde(with = "le")]
    pub ticket: u64,
    /// The prefixes; unknown ones are ignored.
    #[serde(borrow)]
    pub prefixes: Prefixes<'a>,
}

/// The set that a Subscribe or Unsubscribe asked for is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribed {
    /// The ticket of the frame that is answered.
    #[serde(with = "le")]
    pub ticket: u64,
    /// Below it the old set ruled, from it on the new one does; everything matching below precedes this frame.
    #[serde(with = "le")]
    pub position: u64,
}

/// One publication; the data follows the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish<'a> {
    /// Its number in the stream, from 0 in each epoch.
    #[serde(with = "le")]
    pub seq: u64,
    /// What prefixes are compared with, at most 255 bytes.
    pub topic: &'a str,
}

/// The newest message of a topic; the data follows the header. Not counted as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last<'a> {
    /// The number that the message was published under.
    #[serde(with = "le")]
    pub seq: u64,
    /// Its topic.
    pub topic: &'a str,
}

/// How many matching messages were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lost {
    /// Exactly so many.
    Exact(#[serde(with = "le")] u64),
    /// It cannot be known; not more than so many.
    AtMost(#[serde(with = "le")] u64),
}

/// The subscriber missed what it had a right to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The subscriber's position before the gap.
    #[serde(with = "le")]
    pub before: u64,
    /// Its position after it.
    #[serde(with = "le")]
    pub after: u64,
    /// Matching messages between the two that it will not receive.
    pub lost: Lost,
}

//! What a frame is, and what a client is: the byte after the length, and the role in Hello.

use serde::{Deserialize, Serialize};

use super::Error;

/// What a frame is, as its first byte after the length says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Kind {
    /// Client: who I am and what for.
    Hello = 1,
    /// Server: you are in.
    Welcome = 2,
    /// Server: you are not, and why.
    Reject = 3,
    /// Server: I am alive, and this is where your stream stands.
    Heartbeat = 4,
    /// Both: I am going, on purpose.
    Bye = 5,
    /// Client: run this function.
    Request = 6,
    /// Client: these calls have their outcome.
    Settle = 7,
    /// Server: what became of a request.
    Reply = 8,
    /// Client: add these prefixes.
    Subscribe = 9,
    /// Client: remove these prefixes.
    Unsubscribe = 10,
    /// Server: your set is in force from this position on.
    Subscribed = 11,
    /// Server: one publication.
    Publish = 12,
    /// Server: the newest message of a topic, for one who has just come.
    Last = 13,
    /// Server: you missed something, and how much.
    Gap = 14,
}

impl Kind {
    /// The kind that the byte stands for, or the byte if there is none.
    ///
    /// # Errors
    /// [`Error::UnknownKind`]: the peer's mistake.
    pub fn from_byte(byte: u8) -> Result<Kind, Error> {
        use Kind::*;
        const KINDS: [Kind; 14] = [
            Hello,
            Welcome,
            Reject,
            Heartbeat,
            Bye,
            Request,
            Settle,
            Reply,
            Subscribe,
            Unsubscribe,
            Subscribed,
            Publish,
            Last,
            Gap,
        ];
        KINDS.into_iter().find(|kind| *kind as u8 == byte).ok_or(Error::UnknownKind { kind: byte })
    }
}

/// What a client wants the connection for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// It calls functions.
    Requester,
    /// It follows one stream of publications.
    Subscriber,
}

//! Frames as bytes: the only floor that knows the format.

mod deframer;
mod frame;
mod lists;

pub use deframer::Deframer;
pub use frame::{
    ByeCode, Frame, Gap, Heartbeat, Hello, Kind, Last, Lost, Publish, Refusal, RejectCode, Reply, Request,
    Role, SessionId, Settle, Start, Status, Subscribe, Subscribed, Unsubscribe, Welcome,
};
pub use lists::{Ids, Prefixes};

/// The first bytes of every Hello.
pub const MAGIC: [u8; 4] = *b"PLSW";
/// The version of the protocol, in Hello and Welcome.
pub const VERSION: u16 = 1;
/// Bytes of the length field in front of every frame; not counted by the length itself.
pub const LENGTH_BYTES: usize = 4;
/// The longest topic, prefix, stream name and function name, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// The largest frame before Welcome, in bytes after the length field.
pub const HANDSHAKE_MAX_FRAME: u32 = 4 * 1024;

/// What is wrong with bytes that a peer sent. Always the peer's fault; the connection ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The length field promises more than the limit allows; nothing was reserved for it.
    #[error("frame of {len} bytes is above the limit of {limit}")]
    FrameTooLong {
        /// What the length field says.
        len: u32,
        /// The limit in force.
        limit: u32,
    },
    /// A frame without even a kind.
    #[error("frame of no bytes")]
    Empty,
    /// A kind that this version does not know.
    #[error("unknown frame kind {kind}")]
    UnknownKind {
        /// The byte.
        kind: u8,
    },
    /// A Hello without our magic: somebody else's protocol.
    #[error("not the pulsewire protocol")]
    NotPulsewire,
    /// A Hello or Welcome of another version.
    #[error("protocol version {theirs}, here {ours} is spoken")]
    Version {
        /// What the peer speaks.
        theirs: u16,
        /// What this crate speaks.
        ours: u16,
    },
    /// The header does not decode.
    #[error("malformed {kind:?} frame")]
    Malformed {
        /// The frame's kind.
        kind: Kind,
    },
    /// A name or topic is longer than 255 bytes.
    #[error("name of {len} bytes in a {kind:?} frame is above the limit of {limit}")]
    NameTooLong {
        /// The frame's kind.
        kind: Kind,
        /// The name's length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Bytes are left after a header that has no payload.
    #[error("{count} bytes too many in a {kind:?} frame")]
    TrailingBytes {
        /// The frame's kind.
        kind: Kind,
        /// How many.
        count: u64,
    },
}

/// Something of ours is too long to be sent. The caller's mistake; nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes are above the limit of {limit}")]
pub struct TooLong {
    /// Its length in bytes.
    pub len: u64,
    /// The limit in bytes.
    pub limit: u32,
}

//! Frames as bytes: the only floor that knows the format.
//!
//! # A frame
//!
//! ```text
//! [len: u32 LE][kind: u8][header][payload]
//!              '----------- len -----------'
//! ```
//!
//! `len` counts what comes after it, so it is at least 1. It is compared with the limit before anything is reserved:
//! 4 KiB until Welcome, from then on what the reader named as its `max_frame`. The `kind` stands outside the header,
//! so that an unknown one is a clean protocol error, and a header can get a successor under a new kind. The header is
//! the postcard form of the struct of that name, and ends where its last field does; the payload is the rest, and is
//! nobody's business on this floor.
//!
//! # The kinds
//!
//! | kind | name | sent by | header | payload |
//! |---:|---|---|---|---|
//! | 1 | [`Hello`] | client | magic, version, role, session, attempt, max_frame, stream | |
//! | 2 | [`Welcome`] | server | version, epoch, known, heartbeat_interval_ms, max_frame | |
//! | 3 | [`Reject`](RejectCode) | server | code | text |
//! | 4 | [`Heartbeat`] | server | wall_clock_ns, position | |
//! | 5 | [`Bye`](ByeCode) | both | code | text |
//! | 6 | [`Request`] | client | id, time_left_ms, function, settled | arguments |
//! | 7 | [`Settle`] | client | all_but, ids | |
//! | 8 | [`Reply`] | server | id, status | result or text |
//! | 9 | [`Subscribe`] | client | ticket, snapshot, start, prefixes | |
//! | 10 | [`Unsubscribe`] | client | ticket, prefixes | |
//! | 11 | [`Subscribed`] | server | ticket, position | |
//! | 12 | [`Publish`] | server | seq, topic | data |
//! | 13 | [`Last`] | server | seq, topic | data |
//! | 14 | [`Gap`] | server | before, after, lost | |
//!
//! # One publication, byte by byte
//!
//! Number 5 of its stream, topic `tick.rb`, four bytes of data:
//!
//! ```text
//! 15 00 00 00                 len: 21 bytes follow
//! 0c                          kind: Publish
//! 05 00 00 00 00 00 00 00     seq: 5
//! 07 74 69 63 6b 2e 72 62     topic: 7 bytes, "tick.rb"
//! de ad be ef                 data
//! ```
//!
//! # What is strict, and what is not
//!
//! Integers are fixed in width and little-endian, lengths of strings and lists are varints. Every byte of a frame must
//! be accounted for: bytes after a header that has no payload, a boolean that is neither 0 nor 1, a name above
//! 255 bytes and text that is not UTF-8 are errors, and after an error nothing more is decoded from that connection.
//! The one leniency is postcard's: a varint may be longer than it needs to be. It is never written so, and since two
//! encodings may therefore mean the same, **encoded bytes are never compared**, only what they decode to.
//!
//! Nothing here recurses, and nothing is reserved for what has only been promised. Work is linear in the bytes, also
//! when they come one at a time. Decoded frames borrow from the bytes that they came in.
//!
//! `PROTOCOL.md` beside this file is the normative text, from which a client can be written in another language. It
//! says when which frame may be sent, and what it does.

mod codes;
mod deframer;
mod frame;
mod headers;
mod kind;
mod layout;
mod lists;

pub use codes::{ByeCode, RejectCode};
pub use deframer::Deframer;
pub use frame::Frame;
pub use headers::{
    Gap, Heartbeat, Hello, Last, Lost, Publish, Refusal, Reply, Request, SessionId, Settle, Start, Status,
    Subscribe, Subscribed, Unsubscribe, Welcome,
};
pub use kind::{Kind, Role};
pub(crate) use layout::{complete_result, RequestParts, RESULT_HEAD_BYTES};
pub use layout::{frame_tag, publish_frame_len, put_publish, split_whole_publish};
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

/// What is wrong with bytes that a peer sent.
///
/// Always the peer's fault, and the end of the connection: where one frame was wrong, nothing says where the next
/// one begins.
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
    /// The header does not decode, or the text after it is not UTF-8.
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

impl TooLong {
    fn name(len: usize) -> Self {
        TooLong { len: len as u64, limit: NAME_LIMIT }
    }
}

/// [`MAX_NAME_BYTES`] as a number to compare lengths on the wire with; a prefix has one byte for its length.
const NAME_LIMIT: u32 = u8::MAX as u32;
const _: () = assert!(MAX_NAME_BYTES == NAME_LIMIT as usize);

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// The bytes of the example above, read from the page that shows them.
    fn worked_example() -> Vec<u8> {
        let page = include_str!("mod.rs").lines().map_while(|line| line.strip_prefix("//!"));
        let fence = |line: &&str| line.trim().starts_with("```");
        let example = page.skip_while(|line| !line.contains("byte by byte")).skip_while(|line| !fence(line));
        example
            .skip(1)
            .take_while(|line| !fence(line))
            .flat_map(|line| line.split_whitespace().map_while(|word| u8::from_str_radix(word, 16).ok()))
            .collect()
    }

    #[test]
    fn worked_example_is_what_is_written_and_read() {
        let frame =
            Frame::Publish { header: Publish { seq: 5, topic: "tick.rb" }, data: &[0xde, 0xad, 0xbe, 0xef] };
        let mut bytes = Vec::new();
        frame.encode(HANDSHAKE_MAX_FRAME, &mut bytes).unwrap();
        assert_eq!(worked_example(), bytes);
        assert_eq!(Frame::decode(&bytes[LENGTH_BYTES..]), Ok(frame));
    }

    #[test]
    fn table_of_kinds_is_complete() {
        let page: Vec<&str> =
            include_str!("mod.rs").lines().map_while(|line| line.strip_prefix("//!")).collect();
        for byte in 0..=u8::MAX {
            let row = page.iter().find(|line| line.starts_with(&alloc::format!(" | {byte} | ")));
            match Kind::from_byte(byte) {
                Ok(kind) => assert!(row.is_some_and(|row| row.contains(&alloc::format!("{kind:?}")))),
                Err(error) => {
                    assert_eq!(error, Error::UnknownKind { kind: byte });
                    assert_eq!(row, None);
                }
            }
        }
    }
}

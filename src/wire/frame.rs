//! The frames by their kinds: what each header holds, and how it becomes bytes and comes back.

use alloc::vec::Vec;

use postcard::fixint::le;
use serde::{Deserialize, Serialize};

use super::lists::{Ids, Prefixes};
use super::{Error, TooLong, LENGTH_BYTES, MAGIC, MAX_NAME_BYTES, VERSION};

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

/// Why the server refuses a connection. Codes from a later version arrive as [`RejectCode::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectCode {
    /// The first frame was no Hello of this protocol.
    NotHello,
    /// The protocol version is not spoken here.
    Version,
    /// The role is not served at this address.
    Role,
    /// No stream of that name.
    UnknownStream,
    /// As many connections as the server's limit allows.
    Full,
    /// The client's frame limit is below the least there is, or below the largest publication of the stream.
    FrameLimit,
    /// The server is stopping.
    ShuttingDown,
    /// A code that this version does not know.
    Other(u16),
}

impl RejectCode {
    /// The number on the wire.
    pub fn code(self) -> u16 {
        match self {
            RejectCode::NotHello => 1,
            RejectCode::Version => 2,
            RejectCode::Role => 3,
            RejectCode::UnknownStream => 4,
            RejectCode::Full => 5,
            RejectCode::FrameLimit => 6,
            RejectCode::ShuttingDown => 7,
            RejectCode::Other(code) => code,
        }
    }

    /// The reason that a number on the wire stands for.
    pub fn from_code(code: u16) -> Self {
        match code {
            1 => RejectCode::NotHello,
            2 => RejectCode::Version,
            3 => RejectCode::Role,
            4 => RejectCode::UnknownStream,
            5 => RejectCode::Full,
            6 => RejectCode::FrameLimit,
            7 => RejectCode::ShuttingDown,
            code => RejectCode::Other(code),
        }
    }
}

/// Why a peer ends a connection on purpose. Codes from a later version arrive as [`ByeCode::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ByeCode {
    /// It is stopping.
    Stopped,
    /// The other side broke the protocol; the text says how.
    Protocol,
    /// The other side was too slow, and the policy is to put it out.
    TooSlow,
    /// A newer connection of the same session has taken over.
    Replaced,
    /// A limit of the sender was exceeded; the text says which.
    Limit,
    /// A code that this version does not know.
    Other(u16),
}

impl ByeCode {
    /// The number on the wire.
    pub fn code(self) -> u16 {
        match self {
            ByeCode::Stopped => 1,
            ByeCode::Protocol => 2,
            ByeCode::TooSlow => 3,
            ByeCode::Replaced => 4,
            ByeCode::Limit => 5,
            ByeCode::Other(code) => code,
        }
    }

    /// The reason that a number on the wire stands for.
    pub fn from_code(code: u16) -> Self {
        match code {
            1 => ByeCode::Stopped,
            2 => ByeCode::Protocol,
            3 => ByeCode::TooSlow,
            4 => ByeCode::Replaced,
            5 => ByeCode::Limit,
            code => ByeCode::Other(code),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct ReasonHeader {
    #[serde(with = "le")]
    code: u16,
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

/// One decoded frame, borrowing from the bytes that it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The variants are the kinds, documented on their headers.
#[non_exhaustive]
pub enum Frame<'a> {
    Hello(Hello<'a>),
    Welcome(Welcome),
    Reject { code: RejectCode, text: &'a str },
    Heartbeat(Heartbeat),
    Bye { code: ByeCode, text: &'a str },
    Request { header: Request<'a>, arguments: &'a [u8] },
    Settle(Settle<'a>),
    Reply { header: Reply, payload: &'a [u8] },
    Subscribe(Subscribe<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Subscribed(Subscribed),
    Publish { header: Publish<'a>, data: &'a [u8] },
    Last { header: Last<'a>, data: &'a [u8] },
    Gap(Gap),
}

impl<'a> Frame<'a> {
    /// What the frame is.
    pub fn kind(&self) -> Kind {
        match self {
            Frame::Hello(_) => Kind::Hello,
            Frame::Welcome(_) => Kind::Welcome,
            Frame::Reject { .. } => Kind::Reject,
            Frame::Heartbeat(_) => Kind::Heartbeat,
            Frame::Bye { .. } => Kind::Bye,
            Frame::Request { .. } => Kind::Request,
            Frame::Settle(_) => Kind::Settle,
            Frame::Reply { .. } => Kind::Reply,
            Frame::Subscribe(_) => Kind::Subscribe,
            Frame::Unsubscribe(_) => Kind::Unsubscribe,
            Frame::Subscribed(_) => Kind::Subscribed,
            Frame::Publish { .. } => Kind::Publish,
            Frame::Last { .. } => Kind::Last,
            Frame::Gap(_) => Kind::Gap,
        }
    }

    /// Reads one frame from its body: the bytes after the length field, whole.
    ///
    /// Strict: every byte must be accounted for, names and topics are within their limits, text is UTF-8.
    ///
    /// # Errors
    /// What is wrong with the bytes; always the peer's fault.
    pub fn decode(body: &'a [u8]) -> Result<Frame<'a>, Error> {
        let (&kind, rest) = body.split_first().ok_or(Error::Empty)?;
        let kind = Kind::from_byte(kind)?;
        Ok(match kind {
            Kind::Hello => Frame::Hello(decode_hello(rest)?),
            Kind::Welcome => {
                // The version sits first, so that a server of another version is named and not merely misread.
                check_version(kind, rest)?;
                Frame::Welcome(header_only(kind, rest)?)
            }
            Kind::Reject => {
                let (ReasonHeader { code }, text) = header(kind, rest)?;
                Frame::Reject { code: RejectCode::from_code(code), text: utf8(kind, text)? }
            }
            Kind::Heartbeat => Frame::Heartbeat(header_only(kind, rest)?),
            Kind::Bye => {
                let (ReasonHeader { code }, text) = header(kind, rest)?;
                Frame::Bye { code: ByeCode::from_code(code), text: utf8(kind, text)? }
            }
            Kind::Request => {
                let (header, arguments): (Request<'a>, _) = header(kind, rest)?;
                name_within_limit(kind, header.function)?;
                Frame::Request { header, arguments }
            }
            Kind::Settle => Frame::Settle(header_only(kind, rest)?),
            Kind::Reply => {
                let (header, payload) = header(kind, rest)?;
                Frame::Reply { header, payload }
            }
            Kind::Subscribe => Frame::Subscribe(header_only(kind, rest)?),
            Kind::Unsubscribe => Frame::Unsubscribe(header_only(kind, rest)?),
            Kind::Subscribed => Frame::Subscribed(header_only(kind, rest)?),
            Kind::Publish => {
                let (header, data): (Publish<'a>, _) = header(kind, rest)?;
                name_within_limit(kind, header.topic)?;
                Frame::Publish { header, data }
            }
            Kind::Last => {
                let (header, data): (Last<'a>, _) = header(kind, rest)?;
                name_within_limit(kind, header.topic)?;
                Frame::Last { header, data }
            }
            Kind::Gap => Frame::Gap(header_only(kind, rest)?),
        })
    }

    /// Appends the whole frame, length field included, to `out`.
    ///
    /// `max_frame` is the limit of the side that will read it, in bytes after the length field. What is written here
    /// is what [`Frame::decode`] accepts: a name that the peer would refuse is refused here, where it costs one
    /// frame and not the connection.
    ///
    /// # Errors
    /// [`TooLong`] if the frame exceeds `max_frame`, or a name or topic 255 bytes; `out` is then as it was before,
    /// and no payload was copied.
    pub fn encode(&self, max_frame: u32, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let name = self.name();
        if name.len() > MAX_NAME_BYTES {
            return Err(TooLong::name(name.len()));
        }
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        out.push(self.kind() as u8);
        match self {
            Frame::Hello(header) => put(header, out),
            Frame::Welcome(header) => put(header, out),
            Frame::Reject { code, .. } => put(&ReasonHeader { code: code.code() }, out),
            Frame::Heartbeat(header) => put(header, out),
            Frame::Bye { code, .. } => put(&ReasonHeader { code: code.code() }, out),
            Frame::Request { header, .. } => put(header, out),
            Frame::Settle(header) => put(header, out),
            Frame::Reply { header, .. } => put(header, out),
            Frame::Subscribe(header) => put(header, out),
            Frame::Unsubscribe(header) => put(header, out),
            Frame::Subscribed(header) => put(header, out),
            Frame::Publish { header, .. } => put(header, out),
            Frame::Last { header, .. } => put(header, out),
            Frame::Gap(header) => put(header, out),
        }
        let payload = self.payload();
        let len = out.len() - start - LENGTH_BYTES + payload.len();
        match u32::try_from(len) {
            Ok(length) if length <= max_frame => {
                out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
                out.extend_from_slice(payload);
                Ok(())
            }
            _ => {
                out.truncate(start);
                Err(TooLong { len: len as u64, limit: max_frame })
            }
        }
    }

    /// The name or topic in the header, empty where there is none.
    fn name(&self) -> &'a str {
        match self {
            Frame::Hello(header) => header.stream,
            Frame::Request { header, .. } => header.function,
            Frame::Publish { header, .. } => header.topic,
            Frame::Last { header, .. } => header.topic,
            _ => "",
        }
    }

    /// The bytes that follow the header.
    fn payload(&self) -> &'a [u8] {
        match self {
            Frame::Reject { text, .. } | Frame::Bye { text, .. } => text.as_bytes(),
            Frame::Request { arguments, .. } => arguments,
            Frame::Reply { payload, .. } => payload,
            Frame::Publish { data, .. } | Frame::Last { data, .. } => data,
            _ => &[],
        }
    }
}

fn put<T: Serialize>(header: &T, out: &mut Vec<u8>) {
    postcard::serialize_with_flavor(header, Appender(out))
        .expect("headers hold nothing that postcard refuses, and a Vec takes every byte");
}

/// Lets postcard write into a vector that already holds something.
struct Appender<'v>(&'v mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appender<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

fn header<'a, T: Deserialize<'a>>(kind: Kind, bytes: &'a [u8]) -> Result<(T, &'a [u8]), Error> {
    postcard::take_from_bytes(bytes).map_err(|_| Error::Malformed { kind })
}

fn header_only<'a, T: Deserialize<'a>>(kind: Kind, bytes: &'a [u8]) -> Result<T, Error> {
    let (header, rest) = header(kind, bytes)?;
    if rest.is_empty() {
        Ok(header)
    } else {
        Err(Error::TrailingBytes { kind, count: rest.len() as u64 })
    }
}

/// The magic and the version come first and are looked at before the rest is decoded, so that a stranger is
/// told apart from a relative of another age.
fn decode_hello(bytes: &[u8]) -> Result<Hello<'_>, Error> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or(Error::NotPulsewire)?;
    check_version(Kind::Hello, rest)?;
    let hello: Hello<'_> = header_only(Kind::Hello, bytes)?;
    name_within_limit(Kind::Hello, hello.stream)?;
    Ok(hello)
}

fn check_version(kind: Kind, bytes: &[u8]) -> Result<(), Error> {
    match bytes {
        [low, high, ..] => match u16::from_le_bytes([*low, *high]) {
            VERSION => Ok(()),
            theirs => Err(Error::Version { theirs, ours: VERSION }),
        },
        _ => Err(Error::Malformed { kind }),
    }
}

fn name_within_limit(kind: Kind, name: &str) -> Result<(), Error> {
    if name.len() > MAX_NAME_BYTES {
        return Err(Error::NameTooLong { kind, len: name.len() as u64, limit: MAX_NAME_BYTES as u64 });
    }
    Ok(())
}

fn utf8(kind: Kind, text: &[u8]) -> Result<&str, Error> {
    core::str::from_utf8(text).map_err(|_| Error::Malformed { kind })
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;

    use super::*;

    fn publish<'a>(topic: &'a str, data: &'a [u8]) -> Frame<'a> {
        Frame::Publish { header: Publish { seq: 7, topic }, data }
    }

    #[test]
    fn frame_at_the_limit_is_written_and_one_above_it_leaves_nothing_behind() {
        let mut out = vec![0xaa];
        assert_eq!(publish("t", b"data").encode(15, &mut out), Ok(()));
        assert_eq!(out.len(), 1 + LENGTH_BYTES + 15);
        let before = out.clone();
        assert_eq!(publish("t", b"data+").encode(15, &mut out), Err(TooLong { len: 16, limit: 15 }));
        assert_eq!(out, before);
    }

    #[test]
    fn payload_above_the_limit_is_refused_before_it_is_copied() {
        let mut out = Vec::new();
        let data = vec![0; 1_000_000];
        assert!(publish("t", &data).encode(1_000, &mut out).is_err());
        assert!(out.capacity() < 1_000, "{} bytes were reserved", out.capacity());
    }

    #[test]
    fn name_that_the_peer_would_refuse_is_not_written() {
        let longest = String::from_utf8(vec![b'n'; MAX_NAME_BYTES]).unwrap();
        let longer = String::from_utf8(vec![b'n'; MAX_NAME_BYTES + 1]).unwrap();
        let all = |name| -> [Frame<'_>; 4] {
            let request = Request { id: 1, time_left_ms: 1, function: name, settled: Ids::default() };
            [
                Frame::Hello(Hello::new(Role::Subscriber, SessionId::default(), 0, 0, name)),
                Frame::Request { header: request, arguments: b"" },
                publish(name, b""),
                Frame::Last { header: Last { seq: 0, topic: name }, data: b"" },
            ]
        };
        for frame in all(&longest) {
            let mut out = Vec::new();
            frame.encode(1_000, &mut out).unwrap();
            assert_eq!(Frame::decode(&out[LENGTH_BYTES..]), Ok(frame));
        }
        for frame in all(&longer) {
            let mut out = Vec::new();
            assert_eq!(frame.encode(1_000, &mut out), Err(TooLong { len: 256, limit: 255 }));
            assert_eq!(out, []);
        }
    }

    #[test]
    fn stranger_is_told_apart_from_another_version_and_from_a_torso() {
        let kind = Kind::Hello;
        assert_eq!(Frame::decode(b"\x01GET / HTTP"), Err(Error::NotPulsewire));
        assert_eq!(Frame::decode(b"\x01PLS"), Err(Error::NotPulsewire));
        assert_eq!(Frame::decode(b"\x01PLSW"), Err(Error::Malformed { kind }));
        assert_eq!(Frame::decode(b"\x01PLSW\x01\x00"), Err(Error::Malformed { kind }));
        assert_eq!(
            Frame::decode(b"\x01PLSW\x02\x00 whatever"),
            Err(Error::Version { theirs: 2, ours: VERSION })
        );
        let kind = Kind::Welcome;
        assert_eq!(Frame::decode(b"\x02\x01"), Err(Error::Malformed { kind }));
        assert_eq!(Frame::decode(b"\x02\x00\x01"), Err(Error::Version { theirs: 256, ours: VERSION }));
    }

    #[test]
    fn codes_of_a_later_version_survive_the_way_through_this_one() {
        for code in 0..=u16::from(u8::MAX) {
            assert_eq!(RejectCode::from_code(code).code(), code);
            assert_eq!(ByeCode::from_code(code).code(), code);
        }
    }
}

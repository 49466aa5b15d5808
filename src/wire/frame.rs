//! One frame: how it becomes bytes and comes back.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::codes::{ByeCode, RejectCode};
use super::headers::{
    Gap, Heartbeat, Hello, Last, Publish, ReasonHeader, Reply, Request, Settle, Status, Subscribe,
    Subscribed, Unsubscribe, Welcome,
};
use super::kind::Kind;
use super::layout::{put_result, split_publish, split_request, split_result, RequestParts};
use super::{Error, TooLong, LENGTH_BYTES, MAGIC, MAX_NAME_BYTES, VERSION};

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
                let (header, arguments) = request(rest)?;
                name_within_limit(kind, header.function)?;
                Frame::Request { header, arguments }
            }
            Kind::Settle => Frame::Settle(header_only(kind, rest)?),
            Kind::Reply => {
                let (header, payload) = match split_result(rest) {
                    Some(result) => result,
                    None => header(kind, rest)?,
                };
                Frame::Reply { header, payload }
            }
            Kind::Subscribe => Frame::Subscribe(header_only(kind, rest)?),
            Kind::Unsubscribe => Frame::Unsubscribe(header_only(kind, rest)?),
            Kind::Subscribed => Frame::Subscribed(header_only(kind, rest)?),
            Kind::Publish => {
                let (header, data) = match split_publish(rest) {
                    Some((seq, topic, data)) => (Publish { seq, topic: utf8(kind, topic)? }, data),
                    None => header(kind, rest)?,
                };
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
        match self {
            Frame::Request { header, arguments } => return put_request(header, arguments, max_frame, out),
            Frame::Reply { header: Reply { id, status: Status::Ok }, payload } => {
                return put_result(*id, payload, max_frame, out);
            }
            _ => {}
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

/// A whole Request frame without the codec, which takes numbers of fixed width byte by byte.
fn put_request(
    header: &Request<'_>,
    arguments: &[u8],
    max_frame: u32,
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    let Request { id, time_left_ms, function, settled } = *header;
    let parts = RequestParts { id, time_left_ms, function: function.as_bytes(), settled, arguments };
    parts.encode(max_frame, out)
}

/// What lies in a Request frame behind its kind.
fn request(bytes: &[u8]) -> Result<(Request<'_>, &[u8]), Error> {
    let kind = Kind::Request;
    match split_request(bytes) {
        Some(RequestParts { id, time_left_ms, function, settled, arguments }) => {
            Ok((Request { id, time_left_ms, function: utf8(kind, function)?, settled }, arguments))
        }
        None => header(kind, bytes),
    }
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

    use super::super::{frame_tag, Ids, Refusal, Role, SessionId};
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
    fn headers_of_calls_are_what_the_codec_makes_of_them() {
        let ids: Vec<u8> = (0..2_048u64).flat_map(u64::to_le_bytes).collect();
        // Lengths of one, two and three bytes.
        for count in [0, 15, 16, 300, 2_048] {
            let settled = Ids::from_bytes(&ids[..count * 8]).unwrap();
            let header =
                Request { id: u64::MAX - 1, time_left_ms: 0x0102_0304, function: "f\u{e9}", settled };
            let (mut bytes, mut whole) = (Vec::new(), Vec::new());
            let frame = Frame::Request { header, arguments: b"args" };
            frame.encode(u32::MAX, &mut bytes).unwrap();
            put(&header, &mut whole);
            assert_eq!(bytes[LENGTH_BYTES + 1..], [&whole[..], b"args"].concat());
            let len = (bytes.len() - LENGTH_BYTES) as u64;
            assert_eq!(frame_tag(&bytes), Some((bytes.len(), header.id)));
            let limit = u32::try_from(len - 1).unwrap();
            assert_eq!(frame.encode(limit, &mut Vec::new()), Err(TooLong { len, limit }));
            assert_eq!(Frame::decode(&bytes[LENGTH_BYTES..]), Ok(frame));
            for torso in 1..=whole.len().min(500) {
                let malformed = Err(Error::Malformed { kind: Kind::Request });
                assert_eq!(Frame::decode(&bytes[LENGTH_BYTES..][..torso]), malformed, "{torso} bytes");
            }
        }
        for status in [Status::Ok, Status::NotExecuted(Refusal::Full)] {
            let header = Reply { id: 0x0102_0304_0506_0708, status };
            let (mut bytes, mut whole) = (Vec::new(), Vec::new());
            Frame::Reply { header, payload: b"result" }.encode(u32::MAX, &mut bytes).unwrap();
            put(&header, &mut whole);
            assert_eq!(&bytes[LENGTH_BYTES + 1..][..whole.len()], whole);
            assert_eq!(
                Frame::decode(&bytes[LENGTH_BYTES..]),
                Ok(Frame::Reply { header, payload: b"result" })
            );
        }
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
            assert_eq!(out, [0; 0]);
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
}

//! What can be said of a frame's bytes without the codec.

mod calls;

#[cfg(test)]
use alloc::vec::Vec;

pub(crate) use calls::{complete_result, RequestParts, RESULT_HEAD_BYTES};
pub(super) use calls::{put_result, split_request, split_result};

use super::{Kind, LENGTH_BYTES, MAX_NAME_BYTES};

/// A publication's number, the bytes of its topic, and its data.
pub type Split<'a> = (u64, &'a [u8], &'a [u8]);

/// The whole length, length field included, of the encoded frame at the front of `bytes`, and its tag: the u64 that
/// every Request, Reply, Publish and Last header begins with (the id or the sequence number). 0 where there is none.
///
/// For frames that this crate encoded itself; `None` if not even the length is there.
pub fn frame_tag(bytes: &[u8]) -> Option<(usize, u64)> {
    let length = bytes.get(..LENGTH_BYTES)?;
    let len = u32::from_le_bytes(length.try_into().expect("the slice has four bytes"));
    let total = LENGTH_BYTES.checked_add(usize::try_from(len).ok()?)?;
    let tag = bytes
        .get(LENGTH_BYTES + 1..LENGTH_BYTES + 9)
        .map_or(0, |tag| u64::from_le_bytes(tag.try_into().expect("the slice has eight bytes")));
    Some((total, tag))
}

/// The whole length, length field included, that a Publish frame of this topic and data has.
#[inline]
pub fn publish_frame_len(topic: &str, data: &[u8]) -> u64 {
    let topic_len = topic.len() as u64;
    let varint: u64 = if topic_len < 128 { 1 } else { 2 };
    LENGTH_BYTES as u64 + 1 + 8 + varint + topic_len + data.len() as u64
}

/// Writes a whole Publish frame of this topic and data over `out`, as [`Frame::encode`](super::Frame::encode) does, without
/// asking the codec: it is the frame that is written by the million. `out` is as long as [`publish_frame_len`] says; the
/// topic is within its limit, and the frame's length was compared with its own.
#[inline]
pub fn put_publish(seq: u64, topic: &str, data: &[u8], out: &mut [u8]) {
    let len = u32::try_from(out.len() - LENGTH_BYTES).expect("frames are limited to a u32");
    let topic_len = u8::try_from(topic.len()).expect("a topic within its limit");
    let (head, mut rest) =
        out.split_first_chunk_mut::<{ LENGTH_BYTES + 1 + 8 + 1 }>().expect("no frame is shorter");
    head[..4].copy_from_slice(&len.to_le_bytes());
    head[4] = Kind::Publish as u8;
    head[5..13].copy_from_slice(&seq.to_le_bytes());
    head[13] = topic_len;
    if topic_len >= 0x80 {
        rest[0] = 1;
        rest = &mut rest[1..];
    }
    let (topic_out, data_out) = rest.split_at_mut(topic.len());
    topic_out.copy_from_slice(topic.as_bytes());
    data_out.copy_from_slice(data);
}

/// The whole Publish frame of this topic and data.
#[cfg(test)]
pub fn publish_frame(seq: u64, topic: &str, data: &[u8]) -> Vec<u8> {
    let len = usize::try_from(publish_frame_len(topic, data)).expect("it fits into memory");
    let mut frame = alloc::vec![0x5a; len];
    put_publish(seq, topic, data, &mut frame);
    frame
}

/// What the header of a Publish frame holds, if it is written in the shortest way: the number, the topic's bytes and the
/// data.
#[inline]
pub(super) fn split_publish(header: &[u8]) -> Option<Split<'_>> {
    let (seq, rest) = header.split_first_chunk::<8>()?;
    let (topic, data) = calls::split_bytes(rest)?;
    Some((u64::from_le_bytes(*seq), topic, data))
}

/// The Publish frame at the front of `bytes`, if all of it is there, it is written in the shortest way and within the
/// limit, which is in bytes after the length field: its number, the bytes of its topic, which nobody has looked at, and
/// its data; and what lies behind it.
#[inline]
pub fn split_whole_publish(bytes: &[u8], limit: u32) -> Option<(Split<'_>, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    let len = Some(u32::from_le_bytes(*len)).filter(|len| *len <= limit)?;
    let (body, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    let (kind, header) = body.split_first()?;
    if *kind != Kind::Publish as u8 {
        return None;
    }
    let publish = split_publish(header).filter(|(_, topic, _)| topic.len() <= MAX_NAME_BYTES)?;
    Some((publish, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Frame, Publish, Reply, Status};

    #[test]
    fn the_tag_is_where_the_codec_puts_it() {
        let mut bytes = Vec::new();
        let publish = Frame::Publish { header: Publish { seq: 0x0123_4567_89ab, topic: "t" }, data: b"d" };
        publish.encode(u32::MAX, &mut bytes).unwrap();
        assert_eq!(frame_tag(&bytes), Some((bytes.len(), 0x0123_4567_89ab)));
        bytes.clear();
        let reply = Frame::Reply { header: Reply { id: 9, status: Status::Ok }, payload: b"" };
        reply.encode(u32::MAX, &mut bytes).unwrap();
        assert_eq!(frame_tag(&bytes), Some((bytes.len(), 9)));
        assert_eq!(frame_tag(&bytes[..3]), None);
    }

    #[test]
    fn length_and_bytes_are_what_the_codec_makes() {
        for topic_len in [0, 1, 127, 128, 255] {
            let topic = "t".repeat(topic_len);
            let mut bytes = Vec::new();
            let publish = Frame::Publish { header: Publish { seq: u64::MAX, topic: &topic }, data: b"data" };
            publish.encode(u32::MAX, &mut bytes).unwrap();
            assert_eq!(publish_frame_len(&topic, b"data"), bytes.len() as u64);
            let quick = publish_frame(u64::MAX, &topic, b"data");
            assert_eq!(quick, bytes, "the short cut writes what the codec writes");
            let split = split_publish(&bytes[LENGTH_BYTES + 1..]);
            assert_eq!(split, Some((u64::MAX, topic.as_bytes(), &b"data"[..])));
            assert_eq!(split_publish(&bytes[LENGTH_BYTES + 1..][..topic_len]), None, "a torso");
        }
    }

    #[test]
    fn only_a_whole_publication_within_its_limits_is_taken_off_the_front() {
        let mut bytes = publish_frame(7, "tick.a", b"data");
        let len = u32::try_from(bytes.len() - LENGTH_BYTES).unwrap();
        let whole = bytes.clone();
        bytes.extend_from_slice(b"rest");
        let split = split_whole_publish(&bytes, len);
        assert_eq!(split, Some(((7, &b"tick.a"[..], &b"data"[..]), &b"rest"[..])));
        assert_eq!(split_whole_publish(&bytes, len - 1), None, "too long");
        (0..whole.len()).for_each(|cut| assert_eq!(split_whole_publish(&bytes[..cut], len), None));
        let mut other = whole.clone();
        other[LENGTH_BYTES] = Kind::Last as u8;
        assert_eq!(split_whole_publish(&other, len), None, "another kind");
        let mut long = publish_frame(7, &"t".repeat(255), b"");
        long[LENGTH_BYTES + 9] |= 0x7f;
        long[LENGTH_BYTES + 10] = 2;
        assert_eq!(split_whole_publish(&long, u32::MAX), None, "a name that is too long, or not there");
        assert_eq!(split_whole_publish(&[0; 8], u32::MAX), None, "nothing at all");
    }
}

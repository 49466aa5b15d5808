//! What can be said of a frame's bytes without the codec.

use super::LENGTH_BYTES;

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
pub fn publish_frame_len(topic: &str, data: &[u8]) -> u64 {
    let topic_len = topic.len() as u64;
    let varint: u64 = if topic_len < 128 { 1 } else { 2 };
    LENGTH_BYTES as u64 + 1 + 8 + varint + topic_len + data.len() as u64
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

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
    fn the_length_is_what_the_codec_makes() {
        for topic_len in [0, 1, 127, 128, 255] {
            let topic = "t".repeat(topic_len);
            let mut bytes = Vec::new();
            let publish = Frame::Publish { header: Publish { seq: u64::MAX, topic: &topic }, data: b"data" };
            publish.encode(u32::MAX, &mut bytes).unwrap();
            assert_eq!(publish_frame_len(&topic, b"data"), bytes.len() as u64);
        }
    }
}

//! The least that a message over TCP needs, for the peers that are no library: a length, a topic, and the data.
//!
//! ```text
//! len: u32 LE, bytes after this field | topic length: u8 | topic | data
//! ```

use std::io;

/// Room for a flood; a longer frame makes more.
pub const READ_BYTES: usize = 256 * 1024;
/// What a batching peer gathers before it writes.
pub const BATCH_BYTES: usize = 64 * 1024;

const LENGTH: usize = 4;

/// Appends one frame.
#[inline]
pub fn put(buffer: &mut Vec<u8>, topic: &[u8], data: &[u8]) {
    let len = (1 + topic.len() + data.len()) as u32;
    buffer.extend_from_slice(&len.to_le_bytes());
    buffer.push(topic.len() as u8);
    buffer.extend_from_slice(topic);
    buffer.extend_from_slice(data);
}

/// Bytes as they were read, and the frames in them.
pub struct Frames {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Frames {
    pub fn new() -> Self {
        Frames { bytes: vec![0; READ_BYTES], start: 0, end: 0 }
    }

    /// Reads once. Returns how many bytes came and whether they filled the buffer, so that there may be more.
    pub fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<(usize, bool)> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if let Some(length) = self.bytes[..self.end].first_chunk::<LENGTH>() {
            let whole = LENGTH + u32::from_le_bytes(*length) as usize;
            self.bytes.resize(whole.max(self.bytes.len()), 0);
        }
        let room = &mut self.bytes[self.end..];
        let most = room.len();
        let got = read(room)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end += got;
        Ok((got, got == most))
    }

    /// The next whole frame: its topic and its data.
    #[inline]
    pub fn next(&mut self) -> Option<(&[u8], &[u8])> {
        let waiting = &self.bytes[self.start..self.end];
        let (length, rest) = waiting.split_first_chunk::<LENGTH>()?;
        let len = u32::from_le_bytes(*length) as usize;
        let body = rest.get(..len)?;
        self.start += LENGTH + len;
        let topic = usize::from(body[0]);
        Some(body[1..].split_at(topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_however_they_are_cut() {
        let mut bytes = Vec::new();
        put(&mut bytes, b"tick.1", b"first");
        put(&mut bytes, b"", b"second");
        for cut in 1..bytes.len() {
            let mut frames = Frames::new();
            let mut seen = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                let read = frames.fill(|room| {
                    room[..part.len()].copy_from_slice(part);
                    Ok(part.len())
                });
                assert_eq!(read.unwrap(), (part.len(), false));
                while let Some((topic, data)) = frames.next() {
                    seen.push((topic.to_vec(), data.to_vec()));
                }
            }
            let expected = [(b"tick.1".to_vec(), b"first".to_vec()), (b"".to_vec(), b"second".to_vec())];
            assert_eq!(seen, expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_may_be_longer_than_the_room_at_the_beginning() {
        let mut bytes = Vec::new();
        put(&mut bytes, b"", &vec![7; 2 * READ_BYTES]);
        let (mut frames, mut rest) = (Frames::new(), &bytes[..]);
        while !rest.is_empty() {
            assert!(frames.next().is_none());
            let read = |room: &mut [u8]| io::Read::read(&mut rest, room);
            frames.fill(read).unwrap();
        }
        assert_eq!(frames.next().unwrap().1.len(), 2 * READ_BYTES);
    }

    #[test]
    fn end_of_the_stream_is_an_error() {
        let end = Frames::new().fill(|_| Ok(0)).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }
}

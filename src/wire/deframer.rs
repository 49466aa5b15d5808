//! Cuts a stream of bytes into frame bodies.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Error, LENGTH_BYTES};

/// Cuts a stream of bytes, chopped in any way, into frame bodies.
///
/// Whole frames are handed out borrowed from the input itself; only an unfinished one is copied, and memory for it is
/// taken as its bytes arrive, whatever its length field promises: at most twice what has come, and never more than
/// the frame will need, unless somebody gives it a buffer that is larger. A copied frame is let go at the call after the one that handed it out, so call until the
/// answer is "not yet"; from then on, with nothing unfinished, no memory is held.
/// After an error it says the same error for ever: nothing more is decoded from that connection.
#[derive(Debug, Default)]
pub struct Deframer {
    /// The beginning of an unfinished frame, length field included.
    partial: Vec<u8>,
    /// `partial` was handed out whole and is to be dropped at the next call.
    handed_out: bool,
    /// Boxed: there is a deframer for each connection, and next to none of them fails.
    failed: Option<Box<Error>>,
}

impl Deframer {
    /// A deframer at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next frame's body off the front of `input`.
    ///
    /// `Ok(None)` means "not yet": all of `input` has been taken in. The limit is in bytes after the length field and
    /// is compared as soon as the four length bytes are there.
    ///
    /// # Errors
    /// [`Error::FrameTooLong`] or [`Error::Empty`], from then on at every call.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        limit: u32,
    ) -> Result<Option<&'a [u8]>, Error> {
        if let Some(error) = &self.failed {
            return Err(**error);
        }
        if self.handed_out {
            self.handed_out = false;
            self.partial = Vec::new();
        }
        if self.partial.is_empty() {
            match whole_frame(input, limit) {
                Ok(Some(total)) => {
                    let (frame, rest) = input.split_at(total);
                    *input = rest;
                    return Ok(Some(&frame[LENGTH_BYTES..]));
                }
                Ok(None) => {
                    self.partial.extend_from_slice(input);
                    *input = &[];
                    return Ok(None);
                }
                Err(error) => return Err(self.fail(error)),
            }
        }
        self.fill(input, LENGTH_BYTES);
        let total = match announced(&self.partial, limit) {
            Ok(Some(total)) => total,
            Ok(None) => return Ok(None),
            Err(error) => return Err(self.fail(error)),
        };
        self.fill(input, total);
        if self.partial.len() < total {
            return Ok(None);
        }
        self.handed_out = true;
        Ok(Some(&self.partial[LENGTH_BYTES..]))
    }

    /// Gives away the buffer of the frame that was handed out last, length field included, if that frame was copied: it
    /// had not come in one piece. Who keeps it spares another buffer.
    pub fn take_copied(&mut self) -> Option<Vec<u8>> {
        core::mem::take(&mut self.handed_out).then(|| core::mem::take(&mut self.partial))
    }

    /// Bytes that the unfinished frame will need in all, if it has said so and there is no memory for them yet.
    pub fn wanted_len(&self) -> Option<usize> {
        if self.partial.is_empty() {
            return None;
        }
        let len = usize::try_from(self.announced_len()?).ok()?;
        (len > self.partial.capacity()).then_some(len)
    }

    /// Goes on in this buffer, which is empty and has room for all of the unfinished frame: whoever has one spares the
    /// memory that would be taken.
    pub fn adopt(&mut self, mut buffer: Vec<u8>) {
        debug_assert!(buffer.is_empty() && !self.handed_out, "bytes would be lost, or come twice");
        buffer.extend_from_slice(&self.partial);
        self.partial = buffer;
    }

    /// Nothing is unfinished, and nothing has failed: the next frame begins with the next byte.
    pub fn is_between_frames(&self) -> bool {
        self.failed.is_none() && (self.handed_out || self.partial.is_empty())
    }

    /// Bytes held of an unfinished frame, length field included; 0 between frames.
    pub fn partial_len(&self) -> usize {
        if self.handed_out {
            0
        } else {
            self.partial.len()
        }
    }

    /// Bytes that the unfinished frame has announced, length field included; `None` between frames or before all
    /// four bytes of its length are there.
    pub fn announced_len(&self) -> Option<u64> {
        if self.handed_out {
            return None;
        }
        let length = self.partial.get(..LENGTH_BYTES)?;
        let len = u32::from_le_bytes(length.try_into().expect("the slice has four bytes"));
        Some(u64::from(len) + LENGTH_BYTES as u64)
    }

    /// Memory held at this moment, in bytes.
    pub fn capacity(&self) -> usize {
        self.partial.capacity()
    }

    /// Moves bytes from the input until `partial` has `total` of them.
    ///
    /// Memory doubles as bytes arrive, so that a frame that comes byte by byte is copied a constant number of times,
    /// but stops at `total`: left to itself a vector would take up to twice the frame, which no budget foresaw.
    fn fill(&mut self, input: &mut &[u8], total: usize) {
        let have = self.partial.len();
        let (taken, rest) = input.split_at(total.saturating_sub(have).min(input.len()));
        let needed = have + taken.len();
        if needed > self.partial.capacity() {
            let doubled = self.partial.capacity().saturating_mul(2);
            self.partial.reserve_exact(doubled.min(total).max(needed) - have);
        }
        self.partial.extend_from_slice(taken);
        *input = rest;
    }

    fn fail(&mut self, error: Error) -> Error {
        self.partial = Vec::new();
        self.failed = Some(Box::new(error));
        error
    }
}

/// The length of the frame at the front of `bytes`, length field included, if all of it is there.
fn whole_frame(bytes: &[u8], limit: u32) -> Result<Option<usize>, Error> {
    Ok(announced(bytes, limit)?.filter(|total| bytes.len() >= *total))
}

/// The length that the front of `bytes` announces, length field included, checked against the limit before anything
/// else is done.
fn announced(bytes: &[u8], limit: u32) -> Result<Option<usize>, Error> {
    let Some(length) = bytes.get(..LENGTH_BYTES) else { return Ok(None) };
    let len = u32::from_le_bytes(length.try_into().expect("the slice has four bytes"));
    if len > limit {
        return Err(Error::FrameTooLong { len, limit });
    }
    if len == 0 {
        return Err(Error::Empty);
    }
    // Where addresses have 32 bits, a limit near `u32::MAX` admits frames that do not fit into memory.
    let total = usize::try_from(len).ok().and_then(|len| len.checked_add(LENGTH_BYTES));
    total.map(Some).ok_or(Error::FrameTooLong { len, limit })
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    /// Feeds one piece and counts the frames in it.
    fn feed(deframer: &mut Deframer, mut piece: &[u8], limit: u32) -> Result<usize, Error> {
        let mut count = 0;
        while deframer.next(&mut piece, limit)?.is_some() {
            count += 1;
        }
        assert!(piece.is_empty(), "not yet means that everything was taken in");
        Ok(count)
    }

    #[test]
    fn whole_frames_are_borrowed_and_cost_no_memory() {
        let mut deframer = Deframer::new();
        let bytes = [1, 0, 0, 0, 7, 2, 0, 0, 0, 8, 9];
        let mut input = &bytes[..];
        assert_eq!(deframer.next(&mut input, 2), Ok(Some(&bytes[4..5])));
        assert_eq!(deframer.next(&mut input, 2), Ok(Some(&bytes[9..])));
        assert_eq!(deframer.next(&mut input, 2), Ok(None));
        assert_eq!(deframer.capacity(), 0);
    }

    #[test]
    fn unfinished_frame_says_how_far_it_is() {
        let mut deframer = Deframer::new();
        assert_eq!(feed(&mut deframer, &[5, 0, 0], 9), Ok(0));
        assert_eq!((deframer.partial_len(), deframer.announced_len()), (3, None));
        assert_eq!(feed(&mut deframer, &[0, 1, 2], 9), Ok(0));
        assert_eq!((deframer.partial_len(), deframer.announced_len()), (6, Some(9)));
        let mut input = &[3, 4, 5, 1][..];
        assert_eq!(deframer.next(&mut input, 9), Ok(Some(&[1, 2, 3, 4, 5][..])));
        assert_eq!((deframer.partial_len(), deframer.announced_len()), (0, None));
        assert_eq!(deframer.next(&mut input, 9), Ok(None));
        assert_eq!((deframer.partial_len(), deframer.announced_len()), (1, None));
    }

    #[test]
    fn memory_is_let_go_once_nothing_is_unfinished() {
        let mut deframer = Deframer::new();
        let mut frame = vec![0; LENGTH_BYTES + 1_000];
        frame[..LENGTH_BYTES].copy_from_slice(&1_000_u32.to_le_bytes());
        assert_eq!(feed(&mut deframer, &frame[..10], 1_000), Ok(0));
        assert_eq!(feed(&mut deframer, &frame[10..], 1_000), Ok(1));
        assert_eq!(deframer.capacity(), 0);
    }

    #[test]
    fn copied_frame_can_be_kept_and_a_borrowed_one_cannot() {
        let stream = [4, 0, 0, 0, 1, 2, 3, 4, 2, 0, 0, 0, 5, 6];
        let mut deframer = Deframer::new();
        assert_eq!(deframer.next(&mut &stream[..6], 100), Ok(None));
        assert_eq!(deframer.take_copied(), None, "it is not whole");
        let mut input = &stream[6..];
        assert_eq!(deframer.next(&mut input, 100), Ok(Some(&stream[4..8])));
        assert_eq!(deframer.take_copied().as_deref(), Some(&stream[..8]));
        assert_eq!((deframer.take_copied(), deframer.capacity()), (None, 0), "it is somebody else's now");
        assert_eq!(deframer.next(&mut input, 100), Ok(Some(&stream[12..])));
        assert_eq!(deframer.take_copied(), None, "it lies in the input");
        assert_eq!(deframer.next(&mut input, 100), Ok(None));
    }

    #[test]
    fn frame_fed_bytewise_is_moved_a_few_times_and_never_takes_more_than_its_length() {
        const LEN: u32 = 1_024 * 1_024 + 1; // Just above a power of two, where doubling overshoots most.
        let total = LEN as usize + LENGTH_BYTES;
        let mut deframer = Deframer::new();
        let mut moves = 0;
        let mut frames = 0;
        for byte in LEN.to_le_bytes().into_iter().chain((0..LEN).map(|n| n.to_le_bytes()[0])) {
            let before = deframer.capacity();
            let mut piece = &[byte][..];
            frames += usize::from(deframer.next(&mut piece, LEN).unwrap().is_some());
            moves += usize::from(deframer.capacity() != before);
            assert!(deframer.capacity() <= total.max(8));
        }
        assert_eq!(frames, 1);
        assert!(moves <= 24, "{moves} reallocations are not a constant number of copies per byte");
    }

    #[test]
    fn length_above_the_limit_is_refused_before_anything_is_reserved() {
        for (len, limit) in [(5, 4), (0x7fff_ffff, 4_096), (u32::MAX, 4_096), (u32::MAX, u32::MAX - 1)] {
            let mut whole = Deframer::new();
            let error = Error::FrameTooLong { len, limit };
            assert_eq!(feed(&mut whole, &len.to_le_bytes(), limit), Err(error));
            assert_eq!(whole.capacity(), 0);

            let mut bytewise = Deframer::new();
            let mut outcome = Ok(0);
            for byte in len.to_le_bytes() {
                assert_eq!(outcome, Ok(0));
                assert!(bytewise.capacity() <= 8);
                outcome = feed(&mut bytewise, &[byte], limit);
            }
            assert_eq!(outcome, Err(error));
            assert_eq!(bytewise.capacity(), 0);
            assert_eq!(feed(&mut bytewise, &[1, 0, 0, 0, 7], limit), Err(error), "an error is for ever");
        }
    }

    #[test]
    fn length_at_the_limit_is_accepted_and_takes_memory_only_as_bytes_come() {
        let mut deframer = Deframer::new();
        assert_eq!(feed(&mut deframer, &[4, 0, 0, 0, 1, 2, 3, 4], 4), Ok(1));
        if cfg!(target_pointer_width = "64") {
            assert_eq!(feed(&mut deframer, &[0xff, 0xff, 0xff, 0xff, 1], u32::MAX), Ok(0));
            assert_eq!(deframer.announced_len(), Some(0x1_0000_0003));
            assert!(deframer.capacity() <= 16);
        }
    }

    #[test]
    fn frame_without_a_kind_is_refused() {
        assert_eq!(feed(&mut Deframer::new(), &[0, 0, 0, 0], 9), Err(Error::Empty));
    }

    #[test]
    fn limit_may_grow_between_frames_of_one_read() {
        let bytes = [1, 0, 0, 0, 7, 2, 0, 0, 0, 8, 9];
        let mut input = &bytes[..];
        let mut deframer = Deframer::new();
        assert_eq!(deframer.next(&mut input, 1), Ok(Some(&[7][..])));
        assert_eq!(deframer.next(&mut input, 2), Ok(Some(&[8, 9][..])));
    }
}

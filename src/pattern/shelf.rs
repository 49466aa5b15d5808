//! Buffers of large messages that are over, for those that come.

use alloc::vec::Vec;

use super::spares::Spares;

/// Buffers of the last large messages, for the next ones.
///
/// A buffer of some hundred KiB that is taken and given back for each message costs more than all else that is done with
/// its bytes: the allocator returns it to the system, and each of its pages is a fault the next time. So a few are kept
/// while there are large messages, within a part of a budget that their owner has for messages of this kind; when the
/// messages themselves need the budget, the buffers go.
#[derive(Debug)]
pub(crate) struct Shelf {
    buffers: Vec<Vec<u8>>,
    /// Invariant: the sum of the buffers' capacities.
    bytes: usize,
    most_bytes: usize,
    large_bytes: usize,
    /// A buffer of more bytes neither stays with its message nor is kept: none of these takes more than a frame may.
    longest: usize,
    /// One was put or taken since somebody last looked.
    is_used: bool,
}

impl Shelf {
    /// Most buffers kept: one that is filled, one that is read, and what tails of begun frames were copied to.
    const MOST: usize = 4;

    /// A shelf for messages that have this budget, none of which needs more bytes than the longest.
    pub(crate) fn new(budget: u64, longest: usize) -> Self {
        Shelf {
            longest,
            buffers: Vec::new(),
            bytes: 0,
            most_bytes: Self::most_bytes(budget),
            large_bytes: Self::large_bytes(budget),
            is_used: false,
        }
    }

    /// The most bytes that are kept of such a budget.
    pub(crate) fn most_bytes(budget: u64) -> usize {
        usize::try_from(budget / 16).unwrap_or(usize::MAX)
    }

    /// Longer messages are large ones, for which other rules hold: 32 KiB, or a thirty-second of the budget for messages of
    /// their kind.
    pub(crate) fn large_bytes(budget: u64) -> usize {
        const LEAST: u64 = 1_024;
        const MOST: u64 = 32 * 1_024;
        (budget / 32).clamp(LEAST, MOST) as usize
    }

    /// A message of so many bytes is a large one.
    pub(crate) fn is_large(&self, len: usize) -> bool {
        len > self.large_bytes
    }

    /// What a buffer counts for in the budget of its message: its length, give or take [`Spares::SLACK`], or if it is
    /// larger than that, all of it.
    pub(crate) fn cost(buffer: &Vec<u8>) -> u64 {
        let is_close = buffer.capacity() <= buffer.len() + Spares::SLACK;
        (if is_close { buffer.len() } else { buffer.capacity() }) as u64
    }

    /// A message may stay in this buffer, which is large and not much larger than what is in it.
    pub(crate) fn may_stay(&self, buffer: &Vec<u8>) -> bool {
        let capacity = buffer.capacity();
        self.is_large(buffer.len()) && capacity / 2 <= buffer.len() && capacity <= self.longest
    }

    /// An empty buffer for `len` bytes, if there is one that is not much larger and takes at most so many.
    pub(crate) fn take(&mut self, len: usize, most: usize) -> Option<Vec<u8>> {
        let fits = |buffer: &Vec<u8>| (len..=most.min(2 * len)).contains(&buffer.capacity());
        let at = self.buffers.iter().rposition(fits)?;
        Some(self.remove(at))
    }

    /// An empty buffer for a message of unknown length, if there is one: the largest that takes at most so many bytes.
    pub(crate) fn take_any(&mut self, most: usize) -> Option<Vec<u8>> {
        let fitting = self.buffers.iter().enumerate().filter(|(_, buffer)| buffer.capacity() <= most);
        let (at, _) = fitting.max_by_key(|(_, buffer)| buffer.capacity())?;
        Some(self.remove(at))
    }

    fn remove(&mut self, at: usize) -> Vec<u8> {
        self.is_used = true;
        let buffer = self.buffers.remove(at);
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Keeps a large buffer for the next message, if there is room for it in `room` bytes that nobody needs now. A small
    /// one comes back.
    pub(crate) fn put(&mut self, mut buffer: Vec<u8>, room: u64) -> Option<Vec<u8>> {
        let capacity = buffer.capacity();
        if !self.is_large(capacity) {
            return Some(buffer);
        }
        if capacity > self.longest || capacity > self.most_bytes || capacity as u64 > room {
            return None;
        }
        if self.buffers.len() == Self::MOST {
            self.remove(0);
        }
        if self.bytes + capacity <= self.most_bytes && (self.bytes + capacity) as u64 <= room {
            self.is_used = true;
            buffer.clear();
            self.bytes += capacity;
            self.buffers.push(buffer);
        }
        None
    }

    /// Nobody else has more than `room` bytes for it from here on.
    pub(crate) fn make_room(&mut self, room: u64) {
        while self.bytes as u64 > room {
            self.remove(0);
        }
    }

    /// Lets go of everything if nobody has used it since the last time.
    pub(crate) fn age(&mut self) {
        if !core::mem::take(&mut self.is_used) {
            self.clear();
        }
    }

    /// Lets go of everything.
    pub(crate) fn clear(&mut self) {
        (self.buffers, self.bytes) = (Vec::new(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1_024;
    const ANY: usize = usize::MAX;

    #[test]
    fn a_few_large_buffers_are_kept_while_they_are_used_and_there_is_room() {
        let mut shelf = Shelf::new(64 * 1_024 * 1_024, 3_000 * KIB);
        let put = |shelf: &mut Shelf, len: usize, room: u64| shelf.put(Vec::with_capacity(len), room);
        let capacity = |buffer: Option<Vec<u8>>| buffer.map(|buffer| buffer.capacity() / KIB);
        assert_eq!(capacity(put(&mut shelf, 32 * KIB, u64::MAX)), Some(32), "a small one comes back");
        assert_eq!(shelf.take_any(ANY), None);
        for len in [100, 900, 800, 200, 300] {
            assert_eq!(put(&mut shelf, len * KIB, u64::MAX), None);
        }
        assert_eq!(shelf.bytes, 2_200 * KIB, "the oldest made room");
        assert_eq!(capacity(shelf.take_any(ANY)), Some(900), "the largest");
        assert_eq!(capacity(shelf.take(500 * KIB, ANY)), Some(800));
        assert_eq!(shelf.take(90 * KIB, ANY), None, "too large for so little");
        assert_eq!(shelf.take(301 * KIB, ANY), None, "too small for more");
        assert_eq!(
            (shelf.take(150 * KIB, 199 * KIB), shelf.take_any(199 * KIB)),
            (None, None),
            "too large for who asks"
        );
        assert_eq!(capacity(shelf.take(150 * KIB, ANY)), Some(300), "the newest that fits");
        assert_eq!(capacity(shelf.take(150 * KIB, ANY)), Some(200));
        put(&mut shelf, 100 * KIB, 100 * KIB as u64 - 1);
        put(&mut shelf, 4 * KIB * KIB + 1, u64::MAX);
        put(&mut shelf, 3_000 * KIB + 1, u64::MAX);
        assert_eq!(
            shelf.bytes, 0,
            "there is no room, it is more than a sixteenth of all, or than a message needs"
        );
        put(&mut shelf, 100 * KIB, u64::MAX);
        shelf.age();
        assert!(shelf.bytes > 0);
        shelf.age();
        assert_eq!(shelf.bytes, 0);
        put(&mut shelf, 100 * KIB, u64::MAX);
        put(&mut shelf, 50 * KIB, u64::MAX);
        shelf.make_room(60 * KIB as u64);
        assert_eq!(shelf.bytes, 50 * KIB);
    }

    #[test]
    fn what_a_buffer_counts_for_is_what_it_takes() {
        let shelf = Shelf::new(64 * 1_024 * 1_024, 100 * KIB);
        let with = |len: usize, capacity: usize| {
            let mut buffer = Vec::with_capacity(capacity);
            buffer.resize(len, 1);
            buffer
        };
        assert_eq!(Shelf::cost(&with(100, 100 + Spares::SLACK)), 100);
        assert_eq!(Shelf::cost(&with(100, 101 + Spares::SLACK)), 101 + Spares::SLACK as u64);
        assert!(shelf.may_stay(&with(50 * KIB, 100 * KIB)));
        assert!(!shelf.may_stay(&with(49 * KIB, 100 * KIB)), "much larger than what is in it");
        assert!(!shelf.may_stay(&with(60 * KIB, 101 * KIB)), "larger than a message may be");
        assert!(!shelf.may_stay(&with(32 * KIB, 32 * KIB)));
        assert_eq!([0, 64 * 1_024, 1 << 30].map(Shelf::large_bytes), [1_024, 2_048, 32 * KIB]);
    }
}

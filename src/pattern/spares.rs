//! Buffers of messages that are over, for those that come.

use alloc::vec::Vec;

/// Buffers of messages that are over, for those that come: a steady stream of them allocates nothing.
///
/// Bounded in number and bytes. A buffer that is handed out is hardly larger than what it is for, so that whoever counts
/// the lengths of what it keeps counts the memory, give or take [`Spares::SLACK`].
#[derive(Debug, Default)]
pub(crate) struct Spares {
    buffers: Vec<Vec<u8>>,
    /// Invariant: the sum of the buffers' capacities.
    bytes: usize,
    /// The one to go next if there is no room for another.
    oldest: usize,
}

impl Spares {
    /// Bytes that a buffer may be larger than asked for.
    pub(crate) const SLACK: usize = 64;
    /// Most buffers kept: as many messages may be under way together before one of them allocates.
    const MOST: usize = 256;
    /// Buffers among which one that fits is looked for, the newest ones.
    const LOOKED_AT: usize = 16;
    /// Most bytes kept.
    const MOST_BYTES: usize = 64 * 1024;
    /// The most memory that these can hold, in bytes.
    pub(crate) const CEILING_BYTES: usize = Self::MOST_BYTES + 2 * Self::MOST * size_of::<Vec<u8>>();

    /// An empty buffer with room for `len` bytes.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Vec<u8> {
        let fits = |buffer: &Vec<u8>| (len..=len + Self::SLACK).contains(&buffer.capacity());
        let buffer = match self.buffers.last() {
            Some(newest) if fits(newest) => self.buffers.pop(),
            Some(_) => self.take_older(fits),
            None => None,
        };
        match buffer {
            Some(buffer) => {
                self.bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(len),
        }
    }

    fn take_older(&mut self, fits: impl Fn(&Vec<u8>) -> bool) -> Option<Vec<u8>> {
        let among = self.buffers.len().saturating_sub(Self::LOOKED_AT);
        let at = self.buffers[among..].iter().rposition(fits)?;
        Some(self.buffers.swap_remove(among + at))
    }

    /// A copy of these bytes.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.take(bytes.len());
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// Keeps a buffer for the next one, unless it is too large.
    #[inline]
    pub(crate) fn put(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity == 0 || capacity > Self::MOST_BYTES / 2 {
            return;
        }
        while self.buffers.len() >= Self::MOST || self.bytes + capacity > Self::MOST_BYTES {
            self.oldest = (self.oldest + 1) % self.buffers.len();
            self.bytes -= self.buffers.swap_remove(self.oldest).capacity();
        }
        buffer.clear();
        self.bytes += capacity;
        self.buffers.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_for_what_it_fits_and_never_for_much_less() {
        let mut spares = Spares::default();
        let buffer = spares.copy(&[1; 1_000]);
        let at = buffer.as_ptr();
        spares.put(buffer);
        assert!(spares.take(100).capacity() < 1_000, "too large for so little");
        let again = spares.take(950);
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
        spares.put(again);
        assert!(spares.take(1_001).capacity() > 1_000, "too small for more");
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let mut spares = Spares::default();
        for n in 0..1_000usize {
            spares.put(Vec::with_capacity(n * 97 % 50_000));
            let bytes: usize = spares.buffers.iter().map(Vec::capacity).sum();
            assert_eq!(bytes, spares.bytes);
            assert!(bytes <= Spares::MOST_BYTES && spares.buffers.len() <= Spares::MOST);
        }
        assert!(!spares.buffers.is_empty());
    }
}

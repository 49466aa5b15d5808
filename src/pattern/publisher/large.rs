//! Large publications on their way out: copied out of the log once for all subscribers that are in the middle of them.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::super::log::Slot;
use super::super::CHUNK_BYTES;
use crate::session::{Limits, SharedFrame};

/// The copies of a stream's large frames that somebody is in the middle of.
///
/// A subscriber that has begun a frame must finish it, also when the log has gone on. If each had a copy of its own, one
/// publication of 1 MiB to a hundred subscribers, none of them slow, would take 100 MiB.
#[derive(Debug, Default)]
pub(crate) struct LargeFrames {
    /// In the order in which they were copied. Those that nobody has any more go when the next one comes.
    copies: Vec<(Slot, Weak<SharedFrame>)>,
    total: Arc<AtomicUsize>,
}

impl LargeFrames {
    /// Larger frames are not copied for each subscriber; smaller ones fit into a buffer that is kept.
    pub(crate) const ABOVE_BYTES: usize = 2 * CHUNK_BYTES;

    /// The most memory that is known of copies, in bytes. The copies themselves are in the budget of send queues.
    pub(crate) fn ceiling_bytes(limits: &Limits) -> u64 {
        /// What is left of a copy until the next one comes, and its place among twice as many.
        const EACH: u64 = 96;
        (limits.send_queues_bytes / Self::ABOVE_BYTES as u64 + 2) * EACH
    }

    /// The copy of the log's frame in this slot: one that somebody has, or a new one.
    pub(crate) fn copy(&mut self, slot: Slot, frame: &[u8]) -> Arc<SharedFrame> {
        let newest_first = self.copies.iter().rev();
        let mut of_slot = newest_first.filter(|(of, _)| *of == slot).map(|(_, copy)| copy);
        if let Some(copy) = of_slot.find_map(Weak::upgrade) {
            return copy;
        }
        let copy = SharedFrame::copy(frame, Arc::clone(&self.total));
        self.copies.retain(|(_, copy)| copy.strong_count() > 0);
        self.copies.push((slot, Arc::downgrade(&copy)));
        copy
    }

    /// Bytes of memory that all copies take.
    pub(crate) fn bytes(&self) -> u64 {
        self.total.load(Ordering::Relaxed) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_copied_once_while_somebody_has_it() {
        let mut large = LargeFrames::default();
        let one = large.copy(1, &[1; 10_000]);
        let other = large.copy(2, &[2; 20_000]);
        let again = large.copy(1, &[1; 10_000]);
        assert!(Arc::ptr_eq(&one, &again));
        assert_eq!((one.bytes(), other.bytes()), (&[1; 10_000][..], &[2; 20_000][..]));
        assert_eq!(large.bytes(), 30_000);
        drop(one);
        assert_eq!(large.bytes(), 30_000, "somebody has it still");
        drop(again);
        assert_eq!(large.bytes(), 20_000);
        drop(large.copy(1, &[1; 10_000]));
        assert_eq!((large.bytes(), large.copies.len()), (20_000, 2), "who is forgotten leaves no entry");
    }
}

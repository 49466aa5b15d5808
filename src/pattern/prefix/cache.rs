//! Answers that were given before, for topics that come again.

use alloc::vec::Vec;
use core::mem;

use super::allocated_bytes;

/// The table's size when the first answer is stored.
const FIRST_ENTRIES: usize = 64;
/// The table's size in the end.
const MAX_ENTRIES: usize = 4096;
/// An answer larger than this part of the limit is not stored: it would push out too many others.
const LARGEST_PART: usize = 16;

/// A bounded table from topic to subscribers, each topic with one place where it can be.
///
/// An answer is good for one generation of the index. A stale one stays until its place or its memory is needed.
/// Nothing is allocated before the first answer is stored, nor when an answer fits into the buffers of the one it
/// replaces.
pub(super) struct Cache {
    pub(super) seed: u64,
    /// Most bytes, table included. The table takes at most half of them.
    limit_bytes: usize,
    /// Empty, or a power of two of places.
    entries: Vec<Entry>,
    /// Invariant: the sum of [`Entry::heap_bytes`] over all places.
    heap_bytes: usize,
    /// The place to be looked at next when memory is needed.
    hand: usize,
}

#[derive(Default)]
struct Entry {
    hash: u64,
    /// The index's generation that this answer belongs to; 0 for a place that was never used.
    generation: u64,
    topic: Vec<u8>,
    subscribers: Vec<u32>,
}

impl Cache {
    pub(super) fn new(seed: u64, limit_bytes: usize) -> Self {
        Cache { seed, limit_bytes, entries: Vec::new(), heap_bytes: 0, hand: 0 }
    }

    /// Forgets everything and holds no memory.
    pub(super) fn clear(&mut self) {
        *self = Cache::new(self.seed, self.limit_bytes);
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.heap_bytes
    }

    /// What a topic's place is computed from: eight bytes at a time are mixed in by a multiplication.
    pub(super) fn hash(&self, topic: &[u8]) -> u64 {
        // The golden ratio's bits, as in Fibonacci hashing (Knuth, TAOCP vol. 3, 6.4).
        const MIXER: u64 = 0x9E37_79B9_7F4A_7C15;
        let mix = |state: u64, word: u64| {
            let product = (state ^ word).wrapping_mul(MIXER);
            product ^ (product >> 32)
        };
        let words = topic.chunks_exact(8);
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        let state = words.fold(mix(self.seed, topic.len() as u64), |state, word| {
            mix(state, u64::from_le_bytes(word.try_into().expect("chunks_exact yields eight bytes")))
        });
        mix(state, u64::from_le_bytes(last))
    }

    /// The answer to `topic` in that generation, if it is here.
    pub(super) fn find(&self, hash: u64, topic: &[u8], generation: u64) -> Option<&[u32]> {
        let entry = self.entries.get(place(hash, self.entries.len())?)?;
        let found = entry.hash == hash && entry.generation == generation && entry.topic == topic;
        found.then_some(&entry.subscribers)
    }

    /// Stores an answer that [`find`](Self::find) did not have, in place of what is in its place.
    pub(super) fn store(&mut self, hash: u64, topic: &[u8], generation: u64, subscribers: &[u32]) {
        let needed = heap_bytes(topic.len(), subscribers.len());
        if needed > self.limit_bytes / LARGEST_PART {
            return;
        }
        if self.is_contended(hash, generation) {
            self.grow(generation);
        }
        let Some(at) = place(hash, self.entries.len()) else { return };
        let entry = &mut self.entries[at];
        if entry.topic.capacity() < topic.len() || entry.subscribers.capacity() < subscribers.len() {
            self.empty(at);
            self.make_room(needed);
            let entry = &mut self.entries[at];
            entry.topic.reserve_exact(topic.len());
            entry.subscribers.reserve_exact(subscribers.len());
            self.heap_bytes += entry.heap_bytes();
        }
        let entry = &mut self.entries[at];
        entry.hash = hash;
        entry.generation = generation;
        entry.topic.clear();
        entry.topic.extend_from_slice(topic);
        entry.subscribers.clear();
        entry.subscribers.extend_from_slice(subscribers);
    }

    /// Whether another topic of this generation is where that hash belongs, or there is no place at all.
    fn is_contended(&self, hash: u64, generation: u64) -> bool {
        place(hash, self.entries.len()).is_none_or(|at| self.entries[at].generation == generation)
    }

    /// Doubles the table, unless it has its full size. Stale answers are left behind.
    fn grow(&mut self, generation: u64) {
        let len = (self.entries.len() * 2).max(FIRST_ENTRIES);
        let table_bytes = len * size_of::<Entry>();
        if len > MAX_ENTRIES || table_bytes > self.limit_bytes / 2 {
            return;
        }
        let mut entries = Vec::new();
        entries.resize_with(len, Entry::default);
        let old = mem::replace(&mut self.entries, entries);
        self.heap_bytes = 0;
        self.hand = 0;
        for entry in old.into_iter().filter(|entry| entry.generation == generation) {
            // Two that had places of their own in the smaller table have them in the larger one.
            let Some(at) = place(entry.hash, len) else { continue };
            self.heap_bytes += entry.heap_bytes();
            self.entries[at] = entry;
        }
        self.make_room(0);
    }

    /// Empties places, one after the other around the table, until `needed` more bytes are within the limit.
    fn make_room(&mut self, needed: usize) {
        let table_bytes = self.entries.capacity() * size_of::<Entry>();
        while self.heap_bytes > 0 && table_bytes + self.heap_bytes + needed > self.limit_bytes {
            self.empty(self.hand);
            self.hand = (self.hand + 1) % self.entries.len();
        }
    }

    fn empty(&mut self, at: usize) {
        self.heap_bytes -= self.entries[at].heap_bytes();
        self.entries[at] = Entry::default();
    }
}

impl Entry {
    fn heap_bytes(&self) -> usize {
        heap_bytes(self.topic.capacity(), self.subscribers.capacity())
    }
}

fn heap_bytes(topic_len: usize, subscribers: usize) -> usize {
    allocated_bytes(topic_len) + allocated_bytes(subscribers * size_of::<u32>())
}

/// Where a hash belongs in a table of `len` entries; `None` in an empty one.
fn place(hash: u64, len: usize) -> Option<usize> {
    let place = hash & (len as u64).checked_sub(1)?;
    Some(usize::try_from(place).expect("below the table's length"))
}

#[cfg(test)]
impl Cache {
    /// Panics if an invariant does not hold.
    pub(super) fn check(&self) {
        assert_eq!(self.heap_bytes, self.entries.iter().map(Entry::heap_bytes).sum::<usize>());
        assert!(self.bytes() <= self.limit_bytes, "{} bytes", self.bytes());
        assert!(self.entries.len() <= MAX_ENTRIES);
    }
}

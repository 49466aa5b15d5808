//! Which subscribers hold a prefix of this topic?
//!
//! ```text
//! held: "" by 7, "bar." by 1, "tick." by 1 and 2, "tick.rb" by 3
//!
//!     (root) {7} ─┬─ "bar."  {1}
//!                 └─ "tick." {1, 2} ── "rb" {3}
//!
//! "tick.rb2410" passes the root, "tick." and "rb": subscribers 1, 2, 3, 7
//! ```
//!
//! A trie over bytes whose edges carry as many bytes as can be without a branch, so that memory is about that of
//! the prefixes and a walk visits few nodes. Everything is a loop over an arena of nodes: neither a long prefix nor
//! many of them can exhaust a stack, not even when the index is dropped.
//!
//! Most topics that nobody holds a prefix of are told by their first few bytes. In front of the trie lies a bounded cache from topic to subscribers, because market data and sensors repeat the
//! same few thousand topics for ever. Any change of the index makes all that it holds stale at once.

mod cache;
mod sieve;
mod trie;

use alloc::vec::Vec;
use core::{fmt, mem};

use cache::Cache;
pub(crate) use sieve::Sieve;
use trie::Trie;

/// Finds the subscribers that hold a prefix of a topic.
///
/// A subscriber is a small dense number that the owner gives out, such as a place in its table: the index keeps eight
/// bytes for each number up to the highest. Prefixes are compared byte by byte; `""` is a prefix of every topic. The
/// index checks no length and no count, that is its owner's part, with [`len`](Self::len) and [`bytes`](Self::bytes).
pub struct PrefixIndex {
    trie: Trie,
    /// Which match saw each subscriber last. Invariant: long enough for every subscriber in the trie.
    stamps: Vec<u64>,
    /// Counts the matches that had to look for duplicates.
    stamp: u64,
    cache: Cache,
    /// Counts the changes, so that cached answers to an older index are recognised. Never 0, which no entry matches.
    generation: u64,
    /// Distinct pairs of prefix and subscriber.
    pairs: usize,
    /// Prefix bytes of all pairs, however many bytes of them are shared.
    pair_bytes: usize,
}

impl PrefixIndex {
    /// Most bytes of the cache from topic to subscribers, unless [`limit_cache`](Self::limit_cache) says otherwise.
    pub const CACHE_BYTES: usize = 1024 * 1024;

    /// An empty index, which holds no memory.
    pub fn new() -> Self {
        Self::with_seed(0)
    }

    /// An empty index whose cache scatters topics as the seed decides.
    ///
    /// With a random seed nobody can choose topics that push each other out of the cache. Answers do not depend on it.
    pub fn with_seed(seed: u64) -> Self {
        PrefixIndex {
            trie: Trie::default(),
            stamps: Vec::new(),
            stamp: 0,
            cache: Cache::new(seed, Self::CACHE_BYTES),
            generation: 1,
            pairs: 0,
            pair_bytes: 0,
        }
    }

    /// What the index may keep of its answers, in bytes: a part of what the prefixes themselves may take.
    pub(crate) fn cache_bytes(prefixes_bytes: u64) -> usize {
        usize::try_from(prefixes_bytes / 4).map_or(Self::CACHE_BYTES, |bytes| bytes.min(Self::CACHE_BYTES))
    }

    /// Bounds the cache, in bytes, and empties it.
    ///
    /// Default: [`CACHE_BYTES`](Self::CACHE_BYTES), room for 4096 topics of everyday length with a few dozen
    /// subscribers each. Too little: repeated topics are looked up in the trie each time, which costs some hundred
    /// nanoseconds; below 8 KiB there is no cache at all. Too much: memory that stays unused, as there are never more
    /// than 4096 entries.
    pub fn limit_cache(&mut self, bytes: usize) {
        self.cache = Cache::new(self.cache.seed, bytes);
    }

    /// Enters a prefix of a subscriber; false if that subscriber already held exactly this prefix.
    pub fn insert(&mut self, prefix: &str, subscriber: u32) -> bool {
        if !self.trie.insert(prefix.as_bytes(), subscriber) {
            return false;
        }
        let needed = subscriber as usize + 1;
        if self.stamps.len() < needed {
            self.stamps.resize(needed, 0);
        }
        self.pairs += 1;
        self.pair_bytes += prefix.len();
        self.generation += 1;
        true
    }

    /// Takes a prefix of a subscriber out; false if the subscriber did not hold exactly this prefix.
    ///
    /// With the last prefix goes all memory, the cache's too.
    pub fn remove(&mut self, prefix: &str, subscriber: u32) -> bool {
        if !self.trie.remove(prefix.as_bytes(), subscriber) {
            return false;
        }
        self.pairs -= 1;
        self.pair_bytes -= prefix.len();
        self.generation += 1;
        if self.pairs == 0 {
            self.stamps = Vec::new();
            self.cache.clear();
        }
        true
    }

    /// Appends each subscriber that holds a prefix of `topic`, once, whatever the number of its prefixes that match.
    ///
    /// In ascending order, behind what `out` already holds. A topic that parts from all prefixes early costs a few
    /// steps, one asked for since the last change of the index a hash and a compare, another one a walk of at most its
    /// length.
    #[inline]
    pub fn matching(&mut self, topic: &str, out: &mut Vec<u32>) {
        if self.pairs > 0 && !self.trie.parts_early(topic.as_bytes()) {
            self.matching_cached(topic.as_bytes(), out);
        }
    }

    fn matching_cached(&mut self, topic: &[u8], out: &mut Vec<u32>) {
        let hash = self.cache.hash(topic);
        if let Some(known) = self.cache.find(hash, topic, self.generation) {
            out.extend_from_slice(known);
            return;
        }
        let start = out.len();
        self.look_up(topic, out);
        self.cache.store(hash, topic, self.generation, &out[start..]);
    }

    /// Whether anybody holds a prefix of `topic`.
    ///
    /// Cheaper than [`matching`](Self::matching) on a topic not seen before: it stops at the first prefix.
    pub fn matches_any(&self, topic: &str) -> bool {
        self.trie.holders(topic.as_bytes()).next().is_some()
    }

    /// Calls `f` with the beginning of each prefix that somebody holds, as far as a [`Sieve`] looks, those that begin alike once.
    pub(crate) fn for_each_beginning(&self, f: impl FnMut(&[u8])) {
        self.trie.for_each_beginning(sieve::MOST_BYTES, f);
    }

    /// About as many as there are distinct prefixes, twice as many at most.
    pub(crate) fn nodes(&self) -> usize {
        self.trie.nodes()
    }

    /// Distinct pairs of prefix and subscriber.
    pub fn len(&self) -> usize {
        self.pairs
    }

    /// Whether nobody holds any prefix.
    pub fn is_empty(&self) -> bool {
        self.pairs == 0
    }

    /// Bytes that the index holds, about, the cache included; 0 when it is empty.
    ///
    /// For budgets, and so never less than the prefix bytes of all pairs, although shared beginnings are stored once.
    pub fn bytes(&self) -> usize {
        let held = self.trie.bytes() + self.stamps.capacity() * size_of::<u64>() + self.cache.bytes();
        held.max(self.pair_bytes)
    }

    fn look_up(&mut self, topic: &[u8], out: &mut Vec<u32>) {
        let start = out.len();
        let mut lists = self.trie.holders(topic);
        // Most topics match one prefix, whose subscribers are sorted and distinct as they are.
        let Some(first) = lists.next() else { return };
        out.extend_from_slice(first);
        let mut overlapping = lists.peekable();
        if overlapping.peek().is_none() {
            return;
        }
        self.stamp += 1;
        for &subscriber in first {
            self.stamps[subscriber as usize] = self.stamp;
        }
        for &subscriber in overlapping.flatten() {
            let stamp = &mut self.stamps[subscriber as usize];
            if mem::replace(stamp, self.stamp) != self.stamp {
                out.push(subscriber);
            }
        }
        out[start..].sort_unstable();
    }
}

impl Default for PrefixIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PrefixIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrefixIndex")
            .field("len", &self.pairs)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

/// What an allocator adds to an allocation, about: the many small ones here would look cheaper than they are.
const ALLOCATION_BYTES: usize = 16;

/// What a buffer of `bytes` costs; nothing if it was never allocated.
fn allocated_bytes(bytes: usize) -> usize {
    if bytes == 0 {
        0
    } else {
        bytes + ALLOCATION_BYTES
    }
}

#[cfg(test)]
mod tests;

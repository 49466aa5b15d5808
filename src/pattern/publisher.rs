//! The publisher: matches each publication once, writes it once into the log, and lets every subscriber read on
//! from its own place.
//!
//! It does not know connections: `server` tells it who subscribes and asks, for each peer, what there is to write.

use alloc::vec::Vec;

use super::follower::{Follower, POSITION_BYTES};
use super::log::{Log, LogLimits};
use super::prefix::PrefixIndex;
use super::set::{self, PrefixSet};
use crate::session::{LimitReached, Limits, Violation};
use crate::wire::{
    publish_frame_len, Frame, Gap, Lost, Prefixes, Publish, Start, LENGTH_BYTES, MAX_NAME_BYTES,
};

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its sequence number.
    pub seq: u64,
    /// How many subscribers it matched.
    pub subscribers: usize,
}

/// Why a publication was refused; nothing of it was sent and no sequence number was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic is longer than 255 bytes.
    #[error("topic of {len} bytes is above the limit of {limit}")]
    TopicTooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The publication is larger than the frame limit or a quarter of its log.
    #[error("publication of {len} bytes is above the limit of {limit}")]
    TooLong {
        /// The length of its frame in bytes, without the length field.
        len: u64,
        /// The limit in bytes.
        limit: u32,
    },
    /// The publisher is stopping or stopped.
    #[error("the publisher is stopped")]
    Stopped,
}

/// What a publisher counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PublisherStats {
    /// Publications accepted.
    pub published: u64,
    /// Publications that matched somebody and were stored.
    pub stored: u64,
    /// Subscribers at this moment.
    pub subscribers: u64,
    /// Prefixes that they hold, together.
    pub prefixes: u64,
    /// Messages given to connections.
    pub sent: u64,
    /// Messages counted in gaps that were sent.
    pub lost: u64,
    /// Publications that the log holds.
    pub log_messages: u64,
    /// Bytes of them.
    pub log_bytes: u64,
    /// Bytes of memory that the log holds, its index included.
    pub log_memory_bytes: u64,
    /// Sequence numbers that the log spans, from its oldest publication to the head: how long an absence it bridges.
    pub log_span: u64,
}

/// One stream of publications.
#[derive(Debug)]
pub(crate) struct Publisher {
    log: Log,
    head: u64,
    index: PrefixIndex,
    /// Peer slots of the subscribers to everything.
    everything: Vec<u32>,
    /// Those among them that have read everything and are to be woken by the next publication.
    quiet: Vec<u32>,
    matched: Vec<u32>,
    prefix_bytes: u64,
    positions: u64,
    /// The longest frame published so far, without its length field: what every subscriber must accept.
    longest: u32,
    max_frame: u32,
    max_prefixes: u32,
    max_prefix_bytes: u64,
    prefixes_limit: u64,
    positions_limit: u64,
    stats: PublisherStats,
}

impl Publisher {
    pub(crate) fn new(limits: &Limits, seed: u64) -> Self {
        let log = Log::new(LogLimits {
            bytes: usize::try_from(limits.log_bytes).unwrap_or(usize::MAX),
            messages: limits.log_messages as usize,
        });
        let mut index = PrefixIndex::with_seed(seed);
        index.limit_cache(cache_bytes(limits));
        let quarter = u32::try_from(log.max_frame_bytes().saturating_sub(LENGTH_BYTES)).unwrap_or(u32::MAX);
        Publisher {
            log,
            head: 0,
            index,
            everything: Vec::new(),
            quiet: Vec::new(),
            matched: Vec::new(),
            prefix_bytes: 0,
            positions: 0,
            longest: 0,
            max_frame: limits.max_frame_bytes.min(quarter),
            max_prefixes: limits.max_prefixes,
            max_prefix_bytes: limits.max_prefix_bytes,
            prefixes_limit: limits.prefixes_bytes,
            positions_limit: limits.positions_bytes / POSITION_BYTES,
            stats: PublisherStats::default(),
        }
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// The sequence number of the next publication.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// The longest frame published so far, in bytes after the length field.
    pub(crate) fn longest(&self) -> u32 {
        self.longest
    }

    /// Numbers a publication and stores it if it matches anybody. Gives the slots of the peers that have to be told
    /// of its log slot (`Some`), or only have to be woken (`None`).
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        data: &[u8],
        mut tell: impl FnMut(&Log, u32, Option<u64>) -> i64,
    ) -> Result<Published, PublishError> {
        let frame = Frame::Publish { header: Publish { seq: self.head, topic }, data };
        let len = self.check(topic, data)?;
        let seq = self.head;
        self.head += 1;
        self.stats.published += 1;
        self.matched.clear();
        self.index.matching(topic, &mut self.matched);
        let subscribers = self.matched.len() + self.everything.len();
        if subscribers == 0 {
            return Ok(Published { seq, subscribers });
        }
        self.longest = self.longest.max(len);
        let total = LENGTH_BYTES + len as usize;
        let slot = self.log.push_with(seq, total, |out| {
            frame.encode(len, out).expect("the length was computed from this very frame");
        });
        self.stats.stored += 1;
        for peer in core::mem::take(&mut self.quiet) {
            tell(&self.log, peer, None);
        }
        for peer in &self.matched {
            let grown = tell(&self.log, *peer, Some(slot));
            self.positions = self.positions.saturating_add_signed(grown);
        }
        Ok(Published { seq, subscribers })
    }

    /// The length of the frame without its length field, if it may be published.
    fn check(&self, topic: &str, data: &[u8]) -> Result<u32, PublishError> {
        if topic.len() > MAX_NAME_BYTES {
            return Err(PublishError::TopicTooLong { len: topic.len(), limit: MAX_NAME_BYTES });
        }
        let len = publish_frame_len(topic, data) - LENGTH_BYTES as u64;
        u32::try_from(len)
            .ok()
            .filter(|len| *len <= self.max_frame)
            .ok_or(PublishError::TooLong { len, limit: self.max_frame })
    }

    /// If the memory of places is above its budget: the number of them above which a follower gives up the older
    /// half of its own. Only who is behind holds many, so the slow ones pay.
    pub(crate) fn positions_to_shed_above(&self) -> Option<u64> {
        let fair = self.positions_limit / self.stats.subscribers.max(1);
        (self.positions > self.positions_limit).then_some(fair / 2)
    }

    pub(crate) fn note_positions(&mut self, grown: i64) {
        self.positions = self.positions.saturating_add_signed(grown);
    }

    /// Adds prefixes to a follower's set; they are in force from the head on once the set is complete.
    pub(crate) fn subscribe(
        &mut self,
        follower: &mut Follower,
        peer: u32,
        prefixes: Prefixes<'_>,
    ) -> Result<Result<(), Violation>, LimitReached> {
        let everything = follower.is_everything();
        for prefix in prefixes.iter() {
            if everything && !prefix.is_empty() {
                return Ok(Err(Violation::PrefixesBesideEverything));
            }
            let in_force = follower.incoming.is_none();
            let set = follower.incoming.as_mut().unwrap_or(&mut follower.set);
            if !set.insert(prefix) {
                continue;
            }
            self.prefix_bytes += set::cost(prefix);
            self.stats.prefixes += 1;
            if set.len() > self.max_prefixes as usize || set.bytes() > self.max_prefix_bytes {
                return Ok(Err(Violation::TooManyPrefixes {
                    limit_count: self.max_prefixes,
                    limit_bytes: self.max_prefix_bytes,
                }));
            }
            if self.prefix_bytes > self.prefixes_limit {
                return Err(LimitReached::Prefixes { limit: self.prefixes_limit });
            }
            if in_force {
                self.index.insert(prefix, peer);
            }
        }
        Ok(Ok(()))
    }

    /// The set that a handshake sent is complete: it is in force from the head on, and `start` says from where on the
    /// subscriber wants what was published before. Returns what it has certainly or perhaps missed, if that cannot
    /// come out of the log.
    pub(crate) fn complete(
        &mut self,
        follower: &mut Follower,
        peer: u32,
        start: Start,
    ) -> Result<Option<Gap>, Violation> {
        let Some(set) = follower.incoming.take() else { return Ok(None) };
        let back = follower.has_begun();
        if back && (follower.is_everything() != set.is_everything()) {
            self.forget_incoming(&set);
            return Err(Violation::PrefixesBesideEverything);
        }
        // Who resumes before the account's beginning has never heard of it: the account before was lost with its record.
        let heard = |next_seq| next_seq >= follower.account_start();
        if let (true, Start::Resume { next_seq, accounted }) =
            (back && matches!(start, Start::Resume { next_seq, .. } if heard(next_seq)), start)
        {
            let resumed = follower.resume(&self.log, self.head, next_seq, accounted);
            self.exchange(follower, peer, set);
            let grown = resumed.ok_or(Violation::ImpossibleResume { next_seq, accounted })?;
            self.note_positions(grown);
            return Ok(None);
        }
        self.exchange(follower, peer, set);
        let grown = follower.begin(&self.log, self.head);
        self.note_positions(grown);
        if !back {
            self.stats.subscribers += 1;
            if follower.is_everything() {
                self.everything.push(peer);
            }
        }
        Ok(start_gap(start, self.head))
    }

    /// Puts a complete set in the place of the one before.
    fn exchange(&mut self, follower: &mut Follower, peer: u32, set: PrefixSet) {
        let before = core::mem::replace(&mut follower.set, set);
        for prefix in before.iter().filter(|prefix| !follower.set.contains(prefix)) {
            self.index.remove(prefix, peer);
        }
        if !follower.set.is_everything() {
            for prefix in follower.set.iter().filter(|prefix| !before.contains(prefix)) {
                self.index.insert(prefix, peer);
            }
        }
        self.forget_incoming(&before);
    }

    /// A set that is in no force any more, or never was, leaves the budget.
    fn forget_incoming(&mut self, set: &PrefixSet) {
        for prefix in set.iter() {
            self.prefix_bytes = self.prefix_bytes.saturating_sub(set::cost(prefix));
            self.stats.prefixes = self.stats.prefixes.saturating_sub(1);
        }
    }

    /// The follower's connection is gone, and its record stays.
    pub(crate) fn detach(&mut self, follower: &mut Follower) {
        if let Some(set) = follower.detach() {
            self.forget_incoming(&set);
        }
    }

    /// Takes prefixes from a follower's set, from the head on.
    pub(crate) fn unsubscribe(
        &mut self,
        follower: &mut Follower,
        peer: u32,
        prefixes: Prefixes<'_>,
    ) -> Result<(), Violation> {
        for prefix in prefixes.iter() {
            if follower.is_everything() {
                return Err(Violation::PrefixesBesideEverything);
            }
            if follower.set.remove(prefix) {
                self.forget(prefix, peer);
            }
        }
        Ok(())
    }

    fn forget(&mut self, prefix: &str, peer: u32) {
        self.prefix_bytes = self.prefix_bytes.saturating_sub(set::cost(prefix));
        self.stats.prefixes = self.stats.prefixes.saturating_sub(1);
        self.index.remove(prefix, peer);
    }

    /// The follower's connection is gone, and its record with it.
    pub(crate) fn leave(&mut self, follower: &mut Follower, peer: u32) {
        self.detach(follower);
        for prefix in follower.set.iter() {
            self.forget(prefix, peer);
        }
        self.everything.retain(|other| *other != peer);
        self.quiet.retain(|other| *other != peer);
        self.positions = self.positions.saturating_sub(follower.positions());
        if follower.has_begun() {
            self.stats.subscribers -= 1;
        }
        self.stats.sent += follower.sent;
        self.stats.lost += follower.lost;
    }

    /// A follower of everything has read all there is: the next publication wakes it.
    pub(crate) fn sleep(&mut self, follower: &mut Follower, peer: u32) {
        if follower.is_everything() && !follower.quiet {
            follower.quiet = true;
            self.quiet.push(peer);
        }
    }

    /// Places held by all followers.
    #[cfg(test)]
    pub(crate) fn positions(&self) -> u64 {
        self.positions
    }

    /// Bytes that the index of prefixes holds.
    #[cfg(test)]
    pub(crate) fn index_bytes(&self) -> usize {
        self.index.bytes()
    }

    /// The counters, without what living followers count themselves.
    pub(crate) fn stats(&self) -> PublisherStats {
        PublisherStats {
            log_messages: self.log.len_messages() as u64,
            log_bytes: self.log.len_bytes() as u64,
            log_memory_bytes: (self.log.capacity_bytes() + self.log.index_bytes()) as u64,
            log_span: self.log.seq(self.log.first_slot()).map_or(0, |first| self.head - first),
            ..self.stats
        }
    }
}

/// What a subscriber that was here before has missed. Its record is gone, so it cannot be known exactly.
fn start_gap(start: Start, head: u64) -> Option<Gap> {
    let before = match start {
        Start::Fresh => return None,
        Start::From { seq } => seq,
        Start::Resume { next_seq, .. } => next_seq,
    };
    // Nothing was published meanwhile: nothing can have been lost.
    let missed = head.checked_sub(before).filter(|missed| *missed > 0)?;
    Some(Gap { before, after: head, lost: Lost::AtMost(missed) })
}

/// What the index may keep of its answers: a part of what the prefixes themselves may take.
fn cache_bytes(limits: &Limits) -> usize {
    const PART: u64 = 4;
    usize::try_from(limits.prefixes_bytes / PART)
        .map_or(PrefixIndex::CACHE_BYTES, |bytes| bytes.min(PrefixIndex::CACHE_BYTES))
}

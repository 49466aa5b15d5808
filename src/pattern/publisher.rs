//! The publisher: matches each publication of one stream once, writes it once into the log, and lets every subscriber
//! read on from its own place.
//!
//! It does not know connections: `server` tells it who subscribes and asks, for each peer, what there is to write.

mod budget;
mod following;
mod head;
mod large;
mod last;
mod options;
mod outcome;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

pub(crate) use budget::{answers_bytes, Budget};
pub use head::Gate;
use head::Head;
pub(crate) use large::LargeFrames;
pub(crate) use last::LastValues;
pub use options::{Retain, SlowPolicy, StreamError, StreamId, StreamOptions};
pub use outcome::{PublishError, Published, PublisherStats};

use super::log::{Log, LogLimits, Slot};
use super::prefix::PrefixIndex;
use crate::session::{Limits, LEAST_LOG_BYTES};
use crate::wire::{publish_frame_len, put_publish, LENGTH_BYTES, MAX_NAME_BYTES};

/// One stream of publications.
#[derive(Debug)]
pub(crate) struct Publisher {
    policy: SlowPolicy,
    retain: Retain,
    log: Log,
    large: LargeFrames,
    head: Head,
    last: Option<LastValues>,
    index: PrefixIndex,
    /// Peer slots of the subscribers to everything.
    everything: Vec<u32>,
    /// Those among them that have read everything and are to be woken by the next publication.
    quiet: Vec<u32>,
    matched: Vec<u32>,
    /// No connected subscriber needs what lies before it, as far as was found when last looked. It moves on as they
    /// read, and back when one returns.
    floor: Slot,
    /// The last publication found no room.
    is_blocked: bool,
    /// Publications that wait for room, in the order in which they began to: what the first one needs is kept for it.
    waiting: VecDeque<Waiting>,
    next_turn: u64,
    /// The longest frame published so far, without its length field: what every subscriber must accept.
    longest: u32,
    max_frame: u32,
    max_prefixes: u32,
    max_prefix_bytes: u64,
    stats: PublisherStats,
}

/// A publication's place among those that wait for room, see [`Server::wait_for_room`](super::Server::wait_for_room).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn(u64);

/// A publication that waits for room.
#[derive(Debug)]
struct Waiting {
    turn: Turn,
    /// The length of its frame, length field included.
    total: usize,
}

/// A publication that can be made, and whom it is for: nothing may happen to its stream in between.
///
/// Two words, so that it is handed on in registers: one that is put together in memory and copied as a whole costs as much
/// as the rest of a publication that nobody wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prepared {
    /// The length of its frame, without the length field.
    len: u32,
    pub(crate) subscribers: usize,
}

/// A publication found no room, because of so many subscribers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blocked {
    pub(crate) subscribers: usize,
}

impl Publisher {
    /// A stream with nothing published. The options are valid.
    pub(crate) fn new(limits: &Limits, options: StreamOptions, seed: u64) -> Self {
        let log = Log::new(LogLimits {
            bytes: usize::try_from(options.log_bytes.unwrap_or(limits.log_bytes)).unwrap_or(usize::MAX),
            messages: options.log_messages.unwrap_or(limits.log_messages) as usize,
        });
        let mut index = PrefixIndex::with_seed(seed);
        index.limit_cache(PrefixIndex::cache_bytes(limits.prefixes_bytes));
        let quarter = u32::try_from(log.max_frame_bytes().saturating_sub(LENGTH_BYTES)).unwrap_or(u32::MAX);
        let max_frame = limits.max_frame_bytes.min(quarter);
        let leaves_no_trace = options.retain == Retain::Matched && !options.last_value;
        Publisher {
            policy: options.policy,
            retain: options.retain,
            log,
            large: LargeFrames::default(),
            head: Head::new(limits, seed, max_frame, leaves_no_trace),
            last: options.last_value.then(|| LastValues::new(limits.max_last_topics)),
            index,
            everything: Vec::new(),
            quiet: Vec::new(),
            matched: Vec::new(),
            floor: 0,
            is_blocked: false,
            waiting: VecDeque::new(),
            next_turn: 0,
            longest: 0,
            max_frame,
            max_prefixes: limits.max_prefixes,
            max_prefix_bytes: limits.max_prefix_bytes,
            stats: PublisherStats::default(),
        }
    }

    /// Checks the options of a stream that is to be.
    pub(crate) fn check_options(limits: &Limits, options: &StreamOptions) -> Result<(), StreamError> {
        let log_bytes = options.log_bytes.unwrap_or(limits.log_bytes);
        let log_messages = options.log_messages.unwrap_or(limits.log_messages);
        match log_bytes < LEAST_LOG_BYTES || usize::try_from(log_bytes).is_err() || log_messages == 0 {
            true => Err(StreamError::LogSize { log_bytes, log_messages, least: LEAST_LOG_BYTES }),
            false => Ok(()),
        }
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// What a subscriber's frames are taken from: the log, the newest message of each topic if they are kept, and copies of
    /// large frames.
    pub(crate) fn sources(&mut self) -> (&Log, Option<&LastValues>, &mut LargeFrames) {
        (&self.log, self.last.as_ref(), &mut self.large)
    }

    /// Bytes of memory that large frames take on their way out, beside the log.
    pub(crate) fn large_bytes(&self) -> u64 {
        self.large.bytes()
    }

    pub(crate) fn policy(&self) -> SlowPolicy {
        self.policy
    }

    /// The newest message of each topic, if they are kept.
    pub(crate) fn last(&self) -> Option<&LastValues> {
        self.last.as_ref()
    }

    /// The sequence number of the next publication.
    pub(crate) fn head(&self) -> u64 {
        self.head.get()
    }

    /// Where publications that nobody wants pass without asking this stream.
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        self.head.gate()
    }

    /// Nothing is published any more.
    pub(crate) fn stop(&mut self) {
        self.head.shut_for_good();
    }

    /// The longest frame published so far, in bytes after the length field.
    pub(crate) fn longest(&self) -> u32 {
        self.longest
    }

    /// Subscribers, connected or remembered.
    pub(crate) fn subscribers(&self) -> u64 {
        self.stats.subscribers
    }

    /// Finds out whom a publication is for, before anything else is done about it.
    ///
    /// # Errors
    /// It can never be published.
    #[inline]
    pub(crate) fn prepare(&mut self, topic: &str, data: &[u8]) -> Result<Prepared, PublishError> {
        let len = self.check(topic, data)?;
        self.matched.clear();
        self.index.matching(topic, &mut self.matched);
        let subscribers = self.matched.len() + self.everything.len();
        #[cfg(debug_assertions)]
        assert!(
            self.matched.is_empty() || !self.head.sifts_out(topic),
            "{topic:?} would be lost at the gate"
        );
        Ok(Prepared { len, subscribers })
    }

    /// Whether it goes into the log.
    #[inline]
    fn stores(&self, prepared: Prepared) -> bool {
        prepared.subscribers > 0 || self.retain == Retain::All
    }

    /// Numbers a publication that is for nobody and is not kept either; that is all there is to it. `None` for any other.
    #[inline]
    pub(crate) fn pass_over(&mut self, prepared: Prepared) -> Option<u64> {
        if self.stores(prepared) || self.last.is_some() {
            return None;
        }
        Some(self.head.take_unwanted(&self.index))
    }

    /// If this publication has to wait for whoever still needs what lies before a slot: that slot. Only a stream whose
    /// policy is to block ever says so, and only if there may be somebody; see [`Publisher::note_floor`].
    ///
    /// Whoever has not waited longest leaves room for who has: else a large publication would wait for ever for what small
    /// ones take again and again.
    #[inline]
    pub(crate) fn first_after(&self, prepared: Prepared, turn: Option<Turn>) -> Option<Slot> {
        if self.policy != SlowPolicy::Block || !self.stores(prepared) {
            return None;
        }
        let total = LENGTH_BYTES + prepared.len as usize;
        let first = match self.waiting.front() {
            Some(waiting) if turn != Some(waiting.turn) => {
                self.log.first_slot_after_both(total, waiting.total)
            }
            _ => self.log.first_slot_after(total),
        };
        (first > self.floor).then_some(first)
    }

    /// This publication waits for room from now on.
    pub(crate) fn begin_wait(&mut self, prepared: Prepared) -> Turn {
        let turn = Turn(self.next_turn);
        self.next_turn += 1;
        self.waiting.push_back(Waiting { turn, total: LENGTH_BYTES + prepared.len as usize });
        turn
    }

    /// It waits no longer, whatever has become of it.
    pub(crate) fn end_wait(&mut self, turn: Turn) {
        self.waiting.retain(|waiting| waiting.turn != turn);
    }

    /// No other publication has waited longer.
    pub(crate) fn is_first(&self, turn: Turn) -> bool {
        self.waiting.front().is_none_or(|first| first.turn == turn)
    }

    /// The publication that has waited longest.
    pub(crate) fn first_turn(&self) -> Option<Turn> {
        self.waiting.front().map(|first| first.turn)
    }

    /// No connected subscriber needs what lies before `floor`.
    pub(crate) fn note_floor(&mut self, floor: Slot) {
        self.floor = floor;
    }

    /// A publication found no room, because of so many subscribers.
    pub(crate) fn note_blocked(&mut self, subscribers: usize) -> Blocked {
        if !core::mem::replace(&mut self.is_blocked, true) {
            self.stats.blocked += 1;
        }
        Blocked { subscribers }
    }

    /// A subscriber was put out for being slow.
    pub(crate) fn note_put_out(&mut self) {
        self.stats.put_out += 1;
    }

    /// Numbers a publication and stores it if it matches anybody, or all are kept. Gives the slots of the peers that
    /// have to be told of its log slot (`Some`), or only have to be woken (`None`). Returns its number.
    #[inline]
    pub(crate) fn publish(
        &mut self,
        budget: &mut Budget,
        prepared: Prepared,
        topic: &str,
        data: &[u8],
        mut tell: impl FnMut(&Log, u32, Option<u64>) -> i64,
    ) -> u64 {
        let Prepared { len, .. } = prepared;
        let seq = self.head.take_wanted();
        self.is_blocked = false;
        if let Some(last) = &mut self.last {
            last.put(seq, topic, data, budget);
            self.longest = self.longest.max(len);
        }
        if !self.stores(prepared) {
            return seq;
        }
        self.longest = self.longest.max(len);
        let total = LENGTH_BYTES + len as usize;
        let slot = self.log.push_with(seq, total, |out| put_publish(seq, topic, data, out));
        self.stats.stored += 1;
        if !self.quiet.is_empty() {
            self.quiet.drain(..).for_each(|peer| {
                tell(&self.log, peer, None);
            });
        }
        for peer in &self.matched {
            let grown = tell(&self.log, *peer, Some(slot));
            budget.note_positions(grown);
        }
        seq
    }

    /// The length of the frame without its length field, if it may be published.
    #[inline]
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

    /// Bytes that the index of prefixes holds.
    #[cfg(test)]
    pub(crate) fn index_bytes(&self) -> usize {
        self.index.bytes()
    }

    /// The counters, without what living followers count themselves.
    pub(crate) fn stats(&self) -> PublisherStats {
        let head = self.head();
        PublisherStats {
            published: head,
            log_messages: self.log.len_messages() as u64,
            log_bytes: self.log.len_bytes() as u64,
            log_memory_bytes: (self.log.capacity_bytes() + self.log.index_bytes()) as u64,
            log_span: self.log.seq(self.log.first_slot()).map_or(0, |first| head - first),
            last_topics: self.last.as_ref().map_or(0, |last| last.len() as u64),
            last_bytes: self.last.as_ref().map_or(0, LastValues::bytes),
            last_dropped: self.last.as_ref().map_or(0, LastValues::dropped),
            ..self.stats
        }
    }
}

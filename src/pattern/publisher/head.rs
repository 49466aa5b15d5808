//! The numbers of a stream's publications, and the gate through which those that nobody wants pass.
//!
//! ```text
//! publishing thread                                    the stream, under its lock
//! gate.pass_over(topic): its sieve says that nobody     shut, before anything changes that says who wants what
//!   wants it, and the gate is still open with the       opened after several publications in a row that nobody
//!   number that it had before: that number is taken       wanted, so never with a number that it had before
//! otherwise: lock the stream, and look                 numbers are taken here while it is shut
//! ```
//!
//! So a number that was taken at the gate is one of a publication that nobody wanted when it was taken: had a subscriber come
//! in between, the gate would be shut, or open again with another number.

#[cfg(not(target_has_atomic = "64"))]
mod number;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use core::fmt;
#[cfg(target_has_atomic = "64")]
use core::sync::atomic::AtomicU64 as Number;
use core::sync::atomic::Ordering;

#[cfg(not(target_has_atomic = "64"))]
use number::Number;

use super::{PrefixIndex, Published};
use crate::pattern::prefix::Sieve;
use crate::session::Limits;
use crate::wire::MAX_NAME_BYTES;

/// Where publications that nobody wants are numbered without their stream's lock, by any thread: most of those under topics
/// that nobody has a prefix of, while they are many.
///
/// It is shut, and the stream is to be asked, where publications are kept for those who may come ([`Retain::All`] or newest
/// values), while most of them are wanted, after a stop, and on targets without 64-bit atomic operations.
///
/// [`Retain::All`]: super::Retain::All
pub struct Gate {
    /// The number of the next publication, or [`SHUT`].
    next: Number,
    /// Changed only while the gate is shut. Invariant: whatever the index holds was entered.
    sieve: Sieve,
    /// Topic and data of a publication that is certainly not too long.
    short_bytes: usize,
}

/// Stands for no number.
const SHUT: u64 = u64::MAX;
/// What a frame has beside topic and data, at most.
const FRAME_BYTES: u32 = 32;
/// The gate opens after so many publications in a row that nobody wanted.
const OPENING: u32 = 8;
/// It is shut when one is wanted that comes after fewer than so many others: two atomic operations each would cost more
/// than is gained.
const FEW: u64 = 4;
/// With more nodes than this in the index for each word of the sieve, that would let through more and more of what it is
/// asked, and take longer and longer to fill under the lock: a millisecond for 16 KiB.
const MOST_NODES: usize = 4;
/// Other threads may be quicker so often; after that a publication goes by the lock.
const TRIES: usize = 16;
/// The sieve is filled anew when so many prefixes have gone since, and as many as the index has nodes: filling is always a
/// part of the work of those who came and went.
const MOST_STALE: usize = 64;

impl Gate {
    /// Bytes of the sieve, a power of two. 16 KiB let through 2 % of what nobody wants with 10 000 prefixes.
    pub(crate) fn sieve_bytes(limits: &Limits) -> usize {
        let part = usize::try_from(limits.prefixes_bytes / 64).unwrap_or(usize::MAX);
        1 << part.clamp(512, 16 * 1024).ilog2()
    }

    /// Numbers a publication that nobody wants and nobody keeps; that is all there is to it. `None`: the stream is to be
    /// asked.
    #[inline]
    pub fn pass_over(&self, topic: &str, data: &[u8]) -> Option<Published> {
        self.pass(topic, data).map(|seq| Published { seq, subscribers: 0 })
    }

    // Its result is in registers; put together in memory, it would cost as much as half of the rest.
    #[inline]
    fn pass(&self, topic: &str, data: &[u8]) -> Option<u64> {
        for _ in 0..TRIES {
            let seq = self.look(topic, data)?;
            if self.take(seq) {
                return Some(seq);
            }
        }
        None
    }

    /// The number that a publication may take, if nobody wants it and it is not too long.
    #[inline]
    fn look(&self, topic: &str, data: &[u8]) -> Option<u64> {
        // The number first: who has come after that changes it.
        let seq = self.next.load(Ordering::Acquire);
        if seq == SHUT || topic.len() > MAX_NAME_BYTES || topic.len() + data.len() > self.short_bytes {
            return None;
        }
        (!self.sieve.may_match(topic.as_bytes())).then_some(seq)
    }

    /// Takes this number, unless it was taken, or somebody has come since it was found.
    #[inline]
    fn take(&self, seq: u64) -> bool {
        self.next.compare_exchange(seq, seq + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_open = self.next.load(Ordering::Relaxed) != SHUT;
        f.debug_struct("Gate").field("is_open", &is_open).finish_non_exhaustive()
    }
}

/// The stream's own end of its gate.
#[derive(Debug)]
pub(super) struct Head {
    /// The number of the next publication while the gate is shut.
    next: u64,
    is_open: bool,
    /// Whether publications may be passed over at all.
    may_open: bool,
    /// Publications in a row that nobody wanted, with the gate shut.
    unwanted: u32,
    /// The last publication that somebody wanted, or one shortly before the gate was opened.
    wanted: u64,
    /// Prefixes taken out of the index since the sieve was last filled.
    stale: usize,
    gate: Arc<Gate>,
}

impl Head {
    /// Nothing published. `may_open`: publications that nobody wants leave no trace but their number.
    pub(super) fn new(limits: &Limits, seed: u64, max_frame: u32, may_open: bool) -> Self {
        let may_open = may_open && cfg!(target_has_atomic = "64");
        let gate = Gate {
            next: Number::new(SHUT),
            sieve: Sieve::new(seed, if may_open { Gate::sieve_bytes(limits) } else { 4 }),
            short_bytes: max_frame.saturating_sub(FRAME_BYTES) as usize,
        };
        let gate = Arc::new(gate);
        Head { next: 0, is_open: false, may_open, unwanted: 0, wanted: 0, stale: 0, gate }
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The number of the next publication.
    pub(super) fn get(&self) -> u64 {
        match self.is_open {
            true => self.gate.next.load(Ordering::Acquire),
            false => self.next,
        }
    }

    /// Takes the number of a publication that somebody wants or keeps.
    #[inline]
    pub(super) fn take_wanted(&mut self) -> u64 {
        self.unwanted = 0;
        if self.is_open {
            return self.take_at_gate();
        }
        self.next += 1;
        self.next - 1
    }

    #[cold]
    fn take_at_gate(&mut self) -> u64 {
        let seq = self.gate.next.fetch_add(1, Ordering::AcqRel);
        if seq - self.wanted <= FEW {
            self.shut();
        }
        self.wanted = seq;
        seq
    }

    /// Takes the number of a publication that nobody wants, and that the gate did not pass over.
    pub(super) fn take_unwanted(&mut self, index: &PrefixIndex) -> u64 {
        if self.is_open {
            return self.gate.next.fetch_add(1, Ordering::AcqRel);
        }
        self.next += 1;
        self.unwanted += 1;
        if self.unwanted >= OPENING && self.may_open {
            self.open(index);
        }
        self.next - 1
    }

    #[cold]
    fn open(&mut self, index: &PrefixIndex) {
        self.unwanted = 0;
        if index.nodes() > MOST_NODES * self.gate.sieve.len() {
            return;
        }
        if self.stale > MOST_STALE + index.nodes() || (self.stale > 0 && index.is_empty()) {
            self.gate.sieve.clear();
            index.for_each_beginning(|beginning| self.gate.sieve.enter(beginning));
            self.stale = 0;
        }
        self.wanted = self.next - u64::from(OPENING);
        self.is_open = true;
        self.gate.next.store(self.next, Ordering::Release);
    }

    /// From here on all numbers are taken under the lock, until several publications in a row were for nobody.
    pub(super) fn shut(&mut self) {
        self.unwanted = 0;
        if core::mem::take(&mut self.is_open) {
            self.next = self.gate.next.swap(SHUT, Ordering::AcqRel);
        }
    }

    /// Nothing is passed over any more.
    pub(super) fn shut_for_good(&mut self) {
        self.shut();
        self.may_open = false;
    }

    /// Somebody wants what begins so, from the head on. Said before the index knows, and before the head is asked for.
    pub(super) fn note_wanted(&mut self, prefix: &str) {
        self.shut();
        if self.may_open {
            self.gate.sieve.enter(prefix.as_bytes());
        }
    }

    /// The index has a prefix less.
    pub(super) fn note_removed(&mut self) {
        self.stale += 1;
    }

    /// Whether the gate may pass this topic over: never if somebody wants it.
    #[cfg(debug_assertions)]
    pub(super) fn sifts_out(&self, topic: &str) -> bool {
        self.may_open && !self.gate.sieve.may_match(topic.as_bytes())
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.shut();
    }
}

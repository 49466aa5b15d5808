//! The publication log: the newest frames of one stream, encoded once and kept for whoever reads them later.
//!
//! ```text
//!             first_slot                                        next_slot
//!                  v                                                v
//!     slots    ··· 57 58 59 60 | 61        | 62 63 64 65 66 67      68
//!     seqs     ··· 90 91 94 95 | 99        | 100 102 ...
//!     segments [ x x ########  ] [########] [#############        ]
//!                sealed         large frame         open
//! ```
//!
//! A reader keeps nothing but a slot, and how far into that slot's frame it is: memory is the log's, whatever the
//! number of readers, and a slow one is noticed by nobody. When the log has moved past its slot the reader learns it
//! from [`Log::first_slot`], and goes on at [`Log::recovery_slot`]. What it missed is counted elsewhere: a log knows
//! frames and sequence numbers, no topics and no subscribers.
//!
//! Frames lie one behind the other in segments, so that a reader that is behind writes many of them at once. A frame
//! never continues in the next segment. The oldest go first, the whole segment when its bytes are needed, and the
//! buffer of an evicted segment becomes the next one: a steady stream allocates nothing.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::fmt;
use core::ops::Range;

/// The most bytes of a segment, unless one frame alone is larger.
const MAX_SEGMENT_BYTES: usize = 64 * 1024;
/// A small log is cut into so many segments at least: evicting one costs it no more than this part.
const MIN_SEGMENTS: usize = 8;
/// The largest frame is this part of the log.
const LARGEST_PART: usize = 4;
/// The index begins with room for so many messages.
const FIRST_INDEX_LEN: usize = 64;

/// Where in the log a stored frame is: dense numbers, 0 for the first frame ever stored.
pub type Slot = u64;

/// How much the log of a stream keeps. Neither limit is ever exceeded; whichever is reached first evicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Most bytes reserved for frames, the unused ends of segments included. Default: 4 MiB, some seconds of a busy
    /// market or minutes of sensors, which bridges a reconnect.
    ///
    /// Too little: a short absence ends in a gap, and large publications are refused, as one may take a quarter of
    /// this. Too much: memory, once the stream has filled it; an unused log holds none.
    pub bytes: usize,
    /// Most messages, at least 1. Default: 65 536, at which messages of 64 bytes fill the default of 4 MiB.
    ///
    /// Too little: the log forgets small messages although it has room for their bytes. Too much: each costs
    /// 16 bytes of index beside the frames, 1 MiB at the default.
    pub messages: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        LogLimits { bytes: 4 * 1024 * 1024, messages: 65_536 }
    }
}

impl LogLimits {
    /// The most bytes that a log with these limits can hold: segments and index.
    pub const fn ceiling_bytes(&self) -> usize {
        self.bytes.saturating_add(self.messages.saturating_mul(size_of::<Entry>()))
    }
}

/// A bounded ring of encoded frames in the order of their sequence numbers.
///
/// An unused log holds no memory.
pub struct Log {
    limits: LogLimits,
    /// From the one that holds `first` to the open one. Invariant: each holds at least one slot, except the open one
    /// after a panic in `encode`.
    segments: VecDeque<Segment>,
    /// One entry for each slot from `first` on.
    index: VecDeque<Entry>,
    /// The oldest slot still held.
    first: Slot,
    /// The buffer of an evicted segment, to be used again.
    spare: Option<Box<[u8]>>,
    /// Invariant: lengths of the buffers of all segments and of the spare one, at most `limits.bytes`.
    reserved_bytes: usize,
    /// Bytes of the frames still held.
    held_bytes: usize,
}

/// Frames one behind the other.
struct Segment {
    bytes: Box<[u8]>,
    /// The end of the last frame. What lies beyond it means nothing: it is written over.
    end: usize,
    /// The slot of the first frame that was stored here; it may be evicted already.
    first: Slot,
    /// Counts the segments as they are opened, wrapping.
    number: u32,
}

impl Segment {
    /// Bytes that it has room for.
    fn room(&self) -> usize {
        self.bytes.len() - self.end
    }
}

/// One message in the index. Invariant: 16 bytes, there may be a great many.
struct Entry {
    seq: u64,
    /// Where its frame begins in its segment. A frame ends where the next one begins, or at the segment's end.
    offset: u32,
    /// The number of its segment.
    segment: u32,
}

/// Bytes to be written next, as [`Log::run`] finds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<'a> {
    /// The rest of the frame asked for and whole frames behind it, or only a part of that rest.
    pub bytes: &'a [u8],
    /// The slot after the last frame that ends in `bytes`: the slot asked for, if it does not.
    pub next: Slot,
}

impl Log {
    /// An empty log.
    pub fn new(limits: LogLimits) -> Self {
        Log {
            limits: LogLimits { messages: limits.messages.max(1), ..limits },
            segments: VecDeque::new(),
            index: VecDeque::new(),
            first: 0,
            spare: None,
            reserved_bytes: 0,
            held_bytes: 0,
        }
    }

    /// The largest frame that may be stored, length field included: a quarter of the log's bytes.
    pub fn max_frame_bytes(&self) -> usize {
        let largest = self.limits.bytes / LARGEST_PART;
        largest.min(u32::MAX as usize)
    }

    /// Appends the frame of publication `seq`, evicting the oldest as the limits demand, and returns its slot.
    ///
    /// `seq` is above that of the frame before; gaps are allowed. `encode` writes the whole frame, length field included,
    /// over the `len` bytes that it is given, which hold anything. If it panics, nothing was appended.
    ///
    /// # Panics
    /// If `len` is above [`max_frame_bytes`](Self::max_frame_bytes), or if `seq` does not ascend (this one in debug
    /// builds only). Both are the caller's mistakes.
    #[inline]
    pub fn push_with(&mut self, seq: u64, len: usize, encode: impl FnOnce(&mut [u8])) -> Slot {
        debug_assert!(self.index.back().is_none_or(|newest| newest.seq < seq), "sequence numbers ascend");
        if self.index.len() == self.limits.messages {
            self.evict_oldest();
        }
        if self.index.len() == self.index.capacity() {
            self.reserve_index();
        }
        if self.segments.back().is_none_or(|open| open.room() < len) {
            self.open_segment(len);
        }
        let slot = self.next_slot();
        let open = self.segments.back_mut().expect("a segment with room is open");
        let start = open.end;
        encode(&mut open.bytes[start..start + len]);
        open.end = start + len;
        self.held_bytes += len;
        let offset = u32::try_from(start).expect("a segment is no larger than the largest frame or 64 KiB");
        self.index.push_back(Entry { seq, offset, segment: open.number });
        slot
    }

    /// What [`first_slot`](Self::first_slot) will be once a frame of `len` bytes has been pushed: every frame before it
    /// has to go for that one. Looks at each segment that goes.
    #[inline]
    pub fn first_slot_after(&self, len: usize) -> Slot {
        let by_messages = self.first + u64::from(self.index.len() == self.limits.messages);
        if self.segments.back().is_some_and(|open| open.room() >= len) {
            return by_messages;
        }
        self.first_slot_after_opening(len, by_messages)
    }

    /// The same, if a segment has to be opened for it.
    #[cold]
    fn first_slot_after_opening(&self, len: usize, by_messages: Slot) -> Slot {
        let wanted = self.segment_capacity(len);
        let fits = |capacity: usize| (wanted..=2 * wanted).contains(&capacity);
        let spare = self.spare.as_ref().map_or(0, |spare| spare.len());
        let mut free = self.limits.bytes - self.reserved_bytes;
        if fits(spare) || free >= wanted {
            return by_messages;
        }
        free += spare;
        let mut by_bytes = self.first;
        for (at, segment) in self.segments.iter().enumerate() {
            if free >= wanted {
                break;
            }
            by_bytes = self.slots_end(at);
            if fits(segment.bytes.len()) {
                break;
            }
            free += segment.bytes.len();
        }
        by_messages.max(by_bytes)
    }

    /// The first slot that is left, at the latest, once a frame of `len` bytes has been pushed and there is room for one of
    /// `kept` bytes behind it, whatever segments they open. Looks at each segment that goes.
    #[cold]
    pub fn first_slot_after_both(&self, len: usize, kept: usize) -> Slot {
        let by_messages = self.first + 2_u64.saturating_sub((self.limits.messages - self.index.len()) as u64);
        // What is opened for the first may be a buffer that was used before, of up to twice the size. Three quarters of the
        // log at most.
        let wanted = 2 * self.segment_capacity(len) + self.segment_capacity(kept);
        let mut free =
            self.limits.bytes - self.reserved_bytes + self.spare.as_ref().map_or(0, |spare| spare.len());
        let mut by_bytes = self.first;
        for (at, segment) in self.segments.iter().enumerate() {
            if free >= wanted {
                break;
            }
            by_bytes = self.slots_end(at);
            free += segment.bytes.len();
        }
        by_messages.max(by_bytes).min(self.next_slot())
    }

    /// The slot of the oldest frame still held; [`next_slot`](Self::next_slot) if there is none.
    pub fn first_slot(&self) -> Slot {
        self.first
    }

    /// The slot that the next push gets.
    pub fn next_slot(&self) -> Slot {
        self.first + self.index.len() as u64
    }

    /// The sequence number of a frame; `None` if it is evicted or yet to come.
    pub fn seq(&self, slot: Slot) -> Option<u64> {
        Some(self.entry(slot)?.seq)
    }

    /// A whole frame, length field included; `None` if it is evicted or yet to come.
    pub fn frame(&self, slot: Slot) -> Option<&[u8]> {
        let segment = &self.segments[self.segment_of(self.entry(slot)?)];
        Some(&segment.bytes[self.start_of(slot)?..self.end_of(slot)?])
    }

    /// What a reader that is `offset` bytes into the frame of `slot` writes next, at most `max` bytes of it.
    ///
    /// If the rest of that frame is larger than `max`, it is the first `max` bytes of it. Else it is all of it and the
    /// frames behind it that are whole within `max`, lie in the same segment and have a sequence number below
    /// `before` (`u64::MAX` for no such bound).
    ///
    /// `None` if there is nothing: the frame is yet to come, or is not below the bound, or is evicted (then `slot` is
    /// below [`first_slot`](Self::first_slot), and a reader that had begun it has to end its connection), or is no
    /// longer than `offset`, the caller's mistake.
    pub fn run(&self, slot: Slot, offset: usize, max: usize, before: u64) -> Option<Run<'_>> {
        let entry = self.entry(slot).filter(|entry| entry.seq < before)?;
        let at = self.segment_of(entry);
        let bytes = &self.segments[at].bytes;
        let end = self.end_of(slot)?;
        let start = self.start_of(slot)?.checked_add(offset).filter(|start| *start < end)?;
        if end - start > max {
            return Some(Run { bytes: &bytes[start..start + max], next: slot });
        }
        let next = self.first_where(slot + 1..self.slots_end(at), |later| {
            self.end_of(later).is_none_or(|end| end - start > max) || self.seq(later) >= Some(before)
        });
        Some(Run { bytes: &bytes[start..self.end_of(next - 1)?], next })
    }

    /// The first slot whose sequence number is `seq` or above; [`next_slot`](Self::next_slot) if there is none.
    pub fn slot_at_or_after(&self, seq: u64) -> Slot {
        self.first_where(self.first..self.next_slot(), |slot| self.seq(slot) >= Some(seq))
    }

    /// Where a reader that the log has moved past goes on: the oldest slot of the newest three quarters.
    ///
    /// These are the newest frames within three quarters of the limit in messages and, counted in whole segments, within
    /// three quarters of the limit in bytes: whichever begins later, or all frames if the log is not yet so full. So a
    /// quarter of the log has to be published before the reader can be lapped again, and no frame is given up that
    /// this does not cost. Looks at each segment.
    pub fn recovery_slot(&self) -> Slot {
        let messages = (self.limits.messages - self.limits.messages / 4) as u64;
        let by_messages = self.next_slot().saturating_sub(messages);
        let mut bytes = self.limits.bytes - self.limits.bytes / 4;
        let mut by_bytes = self.next_slot();
        for segment in self.segments.iter().rev() {
            let Some(rest) = bytes.checked_sub(segment.bytes.len()) else { break };
            bytes = rest;
            by_bytes = segment.first;
        }
        self.first.max(by_messages).max(by_bytes)
    }

    /// The sequence numbers that the log bridges: from that of the oldest frame to the one after the newest.
    ///
    /// Not each number in between has a frame here. `0..0` if no frame is held.
    pub fn span(&self) -> Range<u64> {
        match (self.index.front(), self.index.back()) {
            (Some(oldest), Some(newest)) => oldest.seq..newest.seq.saturating_add(1),
            _ => 0..0,
        }
    }

    /// Frames held.
    pub fn len_messages(&self) -> usize {
        self.index.len()
    }

    /// Bytes of the frames held.
    pub fn len_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether no frame is held.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes really reserved for frames, whether used or not: never above [`LogLimits::bytes`].
    pub fn capacity_bytes(&self) -> usize {
        self.reserved_bytes
    }

    /// Bytes reserved for the index: 16 for each message that the log has held at once, never more than
    /// [`LogLimits::messages`] times 16.
    pub fn index_bytes(&self) -> usize {
        self.index.capacity() * size_of::<Entry>()
    }

    fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.index.get(usize::try_from(slot.checked_sub(self.first)?).ok()?)
    }

    /// Where in `segments` a message of the index lies.
    fn segment_of(&self, entry: &Entry) -> usize {
        let front = self.segments.front().expect("what is in the index is in a segment");
        entry.segment.wrapping_sub(front.number) as usize
    }

    /// Where a frame begins in its segment.
    fn start_of(&self, slot: Slot) -> Option<usize> {
        Some(self.entry(slot)?.offset as usize)
    }

    /// Where a frame ends in its segment.
    fn end_of(&self, slot: Slot) -> Option<usize> {
        let entry = self.entry(slot)?;
        match self.entry(slot + 1) {
            Some(next) if next.segment == entry.segment => Some(next.offset as usize),
            _ => Some(self.segments[self.segment_of(entry)].end),
        }
    }

    /// The slot after the last one of a segment.
    fn slots_end(&self, at: usize) -> Slot {
        self.segments.get(at + 1).map_or(self.next_slot(), |later| later.first)
    }

    /// The first of `slots` that is `past`, or their end. One that is past has only such behind it.
    fn first_where(&self, slots: Range<Slot>, past: impl Fn(Slot) -> bool) -> Slot {
        let Range { start: mut low, end: mut high } = slots;
        while low < high {
            let middle = low + (high - low) / 2;
            if past(middle) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// Makes room for more entries, doubling, but never beyond the limit as a vector that grows by itself would.
    #[cold]
    fn reserve_index(&mut self) {
        let len = self.index.len();
        self.index.reserve_exact(len.max(FIRST_INDEX_LEN).min(self.limits.messages - len));
    }

    /// The room of the segment that is opened for a frame of `len` bytes.
    fn segment_capacity(&self, len: usize) -> usize {
        len.max(MAX_SEGMENT_BYTES.min(self.limits.bytes / MIN_SEGMENTS))
    }

    /// Opens a segment with room for a frame of `len` bytes, in a buffer that was used before if one fits.
    #[cold]
    fn open_segment(&mut self, len: usize) {
        assert!(len <= self.max_frame_bytes(), "a frame of {len} bytes is above the log's limit");
        let next_slot = self.next_slot();
        if self.segments.back().is_some_and(|open| open.first == next_slot) {
            self.segments.pop_back().into_iter().for_each(|unused| self.retire(unused));
        }
        let wanted = self.segment_capacity(len);
        let bytes = loop {
            // A buffer of twice the size at most: a larger one would go at once when it is evicted.
            if let Some(fitting) = self.spare.take_if(|spare| (wanted..=2 * wanted).contains(&spare.len())) {
                break fitting;
            }
            if self.reserved_bytes + wanted <= self.limits.bytes {
                self.reserved_bytes += wanted;
                break alloc::vec![0; wanted].into_boxed_slice();
            }
            match self.spare.take() {
                Some(unfit) => self.reserved_bytes -= unfit.len(),
                None => self.evict_before(self.slots_end(0)),
            }
        };
        let number = self.segments.back().map_or(0, |newest| newest.number.wrapping_add(1));
        self.segments.push_back(Segment { bytes, end: 0, first: next_slot, number });
    }

    /// Evicts the oldest frame, if there is one.
    fn evict_oldest(&mut self) {
        let Some(Entry { offset, segment, .. }) = self.index.pop_front() else { return };
        self.first += 1;
        let next = self.index.front().filter(|next| next.segment == segment).map(|next| next.offset as usize);
        let front = self.segments.front().expect("what is in the index is in a segment");
        self.held_bytes -= next.unwrap_or(front.end) - offset as usize;
        if next.is_none() {
            self.segments.pop_front().into_iter().for_each(|empty| self.retire(empty));
        }
    }

    /// Evicts the frames before `slot`, which is one of the front segment or the one after its last.
    fn evict_before(&mut self, slot: Slot) {
        let count = usize::try_from(slot - self.first).expect("only frames of the index are evicted");
        if let (Some(start), Some(end)) = (self.start_of(self.first), self.end_of(slot.saturating_sub(1))) {
            self.held_bytes -= end - start;
        }
        self.index.drain(..count);
        self.first = slot;
        if self.slots_end(0) == slot {
            self.segments.pop_front().into_iter().for_each(|empty| self.retire(empty));
        }
    }

    /// Keeps the buffer of a segment that is no more to be used again, one such at a time.
    fn retire(&mut self, segment: Segment) {
        if self.spare.is_some() {
            self.reserved_bytes -= segment.bytes.len();
            return;
        }
        self.spare = Some(segment.bytes);
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("limits", &self.limits)
            .field("slots", &(self.first..self.next_slot()))
            .field("span", &self.span())
            .field("len_bytes", &self.held_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! A subscriber's place in the publication log.

mod snapshot;
mod writing;

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use super::log::{Log, Slot};
use super::publisher::{Budget, StreamId};
use super::set::PrefixSet;
use crate::wire::{Frame, Publish, LENGTH_BYTES};
use snapshot::Snapshot;

/// Bytes that one remembered place takes, for the budget.
pub(crate) const POSITION_BYTES: u64 = 8;

/// A subscriber's place in the publication log: what it has still to get, and what it has lost.
///
/// ```text
///            reached                    P (a Subscribed to come)      head
/// ... sent ... | pending, old set ......... | pending, new set ......... |
/// ```
///
/// It falls behind in the log alone: nothing is copied for it until it can be written. Invariant: for every matching
/// publication between the first Subscribed and the head, exactly one holds: written whole or begun, pending, in a
/// chunk, or counted in a [`Gap`] (sent or to come).
#[derive(Debug)]
pub(crate) struct Follower {
    /// The stream that it follows, for life.
    pub(crate) stream: StreamId,
    /// The set as the client sent it; complete once `follow` is decided.
    pub(crate) set: PrefixSet,
    /// The set that a handshake is sending, until it is complete. While it is there, nothing is written.
    pub(crate) incoming: Option<Box<PrefixSet>>,
    /// Prefixes whose newest messages are wanted with the next answer.
    pub(crate) marked: Option<Box<PrefixSet>>,
    follow: Follow,
    /// The position and the slot at which the account began.
    account_start: (u64, Slot),
    /// It has just come back: what the log has is replayed, all of it.
    replays: bool,
    /// What has matched in this account, if it is kept by prefixes.
    account_matched: u64,
    /// Subscribed frames to come, in the order of their places.
    acks: VecDeque<Ack>,
    /// Those that were written: they may be lost on their way, and with them the client's knowledge of its set.
    answered: VecDeque<Answer>,
    /// Everything matching below this sequence number precedes whatever is queued next. Invariant: never below a
    /// position that was told to the peer.
    reached: u64,
    /// It follows everything and the next publication will wake it.
    pub(crate) quiet: bool,
    /// The memory of answers that the budget knows of.
    pub(crate) noted_answers: u64,
    /// Answers were forgotten for want of memory that may have to be given again: whoever loses its connection now cannot
    /// go on with this account, since on either side of each of them another set ruled.
    pub(crate) is_incomplete: bool,
    /// Messages given to the connection.
    pub(crate) sent: u64,
    /// Messages counted in gaps.
    pub(crate) lost: u64,
    /// Newest messages given to the connection in snapshots.
    pub(crate) snapshot_messages: u64,
}

/// A Subscribed frame. Each subscriber remembers one at least, for as long as it is there.
#[derive(Debug, Clone, Copy)]
struct Answer {
    ticket: u64,
    /// The head of the stream when the set came into force.
    position: u64,
    /// The slot that the next stored publication had then.
    slot: Slot,
    /// What had matched in the account until then.
    matched: u64,
}

/// One that is to be written when the stream gets to its place.
#[derive(Debug)]
struct Ack {
    answer: Answer,
    /// Places dropped that lie behind this one and before the next.
    dropped_after: u64,
    /// What is to be written in its place before it.
    snapshot: Option<Box<Snapshot>>,
}

#[derive(Debug)]
enum Follow {
    /// The set is not complete: nothing is published to it.
    Nothing,
    /// The set is the empty prefix: a cursor is all it needs, because every publication matches. What lies from
    /// `kept` on may have to be written again: a chunk is out that begins there, and when it is written whole all
    /// below `until` has been sent.
    Everything { next: Slot, kept: Slot, until: u64 },
    /// A set of prefixes. Whoever has been sent nothing has no places; where any were given up there are.
    Matched(Option<Box<Places>>),
}

/// The slots of what matched, oldest first. What was written is remembered while the log has it: it may be lost on its way.
#[derive(Debug, Default)]
struct Places {
    written: VecDeque<Slot>,
    /// In a chunk.
    taken: VecDeque<Slot>,
    pending: VecDeque<Slot>,
    /// How many were dropped before the first ack.
    dropped: u64,
}

impl Follower {
    pub(crate) fn new(stream: StreamId) -> Self {
        Follower {
            stream,
            set: PrefixSet::default(),
            incoming: Some(Box::default()),
            marked: None,
            follow: Follow::Nothing,
            account_start: (0, 0),
            replays: false,
            account_matched: 0,
            acks: VecDeque::new(),
            answered: VecDeque::new(),
            reached: 0,
            quiet: false,
            noted_answers: 0,
            is_incomplete: false,
            sent: 0,
            lost: 0,
            snapshot_messages: 0,
        }
    }

    /// The set is complete, and an account begins at this position, which is the head or one that the log replays
    /// from: there the answer to `ticket` has its place.
    pub(crate) fn begin(&mut self, log: &Log, position: u64, slot: Slot, ticket: u64) {
        self.reached = position;
        self.account_start = (position, slot);
        self.account_matched = 0;
        self.acks.clear();
        self.answered.clear();
        self.is_incomplete = false;
        self.acknowledge_at(ticket, position, slot);
        self.replays = slot < log.next_slot();
        self.follow = if self.set.is_everything() {
            Follow::Everything { next: slot, kept: slot, until: 0 }
        } else {
            let pending: VecDeque<Slot> =
                (slot..log.next_slot()).filter(|slot| matches_frame(&self.set, log, *slot)).collect();
            self.account_matched = pending.len() as u64;
            let places = (!pending.is_empty()).then(|| Box::new(Places { pending, ..Places::default() }));
            Follow::Matched(places)
        };
    }

    /// The subscriber is back and has everything matching below `next_seq`, `accounted` messages in this account: the
    /// rest is pending again as far as the log has it, and what it has not is an exact gap. `None` if the numbers
    /// cannot be.
    pub(crate) fn resume(&mut self, log: &Log, head: u64, next_seq: u64, accounted: u64) -> Option<()> {
        let (start, start_slot) = self.account_start;
        if next_seq < start || next_seq > head {
            return None;
        }
        let given_up = self.given_up_below();
        // The answers that it may not have come again, each in its place.
        let again = self.answered.drain(..).filter(|answer| answer.position >= next_seq);
        let again = again.map(|answer| Ack { answer, dropped_after: 0, snapshot: None });
        self.acks = again.chain(self.acks.drain(..)).collect();
        match &mut self.follow {
            Follow::Nothing => return None,
            Follow::Everything { next, kept, .. } => {
                // Everything published since the account began was stored, in slots without a gap.
                if accounted != next_seq - start {
                    return None;
                }
                *next = start_slot + accounted;
                *kept = *next;
            }
            Follow::Matched(places) => {
                let Places { written, taken, pending, .. } =
                    places.take().map_or_else(Places::default, |at| *at);
                // Places behind these were given up. A gap names the stretch in which messages are missing, so those
                // before them go with them.
                let unsure = written.into_iter().chain(taken);
                let unsure = unsure
                    .filter(|slot| *slot >= given_up || log.seq(*slot).is_some_and(|seq| seq < next_seq));
                let mut received = VecDeque::new();
                let mut missing = VecDeque::new();
                for slot in unsure.chain(pending) {
                    match log.seq(slot) {
                        Some(seq) if seq < next_seq => received.push_back(slot),
                        Some(_) => missing.push_back(slot),
                        // Evicted: received or lost, as the counts say.
                        None => {}
                    }
                }
                // Between the answers, other sets ruled.
                let mut until = self.account_matched;
                let mut behind = missing.len();
                for ack in self.acks.iter_mut().rev() {
                    let first = missing.partition_point(|slot| *slot < ack.answer.slot);
                    ack.dropped_after =
                        until.checked_sub(ack.answer.matched)?.checked_sub((behind - first) as u64)?;
                    (until, behind) = (ack.answer.matched, first);
                }
                let lost = until.checked_sub(accounted)?.checked_sub(behind as u64)?;
                let given_up = lost > 0 || self.acks.iter().any(|ack| ack.dropped_after > 0);
                if given_up || !received.is_empty() || !missing.is_empty() {
                    let (written, taken, pending) = (received, VecDeque::new(), missing);
                    *places = Some(Box::new(Places { written, taken, pending, dropped: lost }));
                }
            }
        }
        self.replays = true;
        self.reached = next_seq;
        Some(())
    }

    /// The slot below which places that were pending have been given up; 0 if none were.
    fn given_up_below(&self) -> Slot {
        let Follow::Matched(Some(places)) = &self.follow else { return 0 };
        let last = self.acks.iter().rposition(|ack| ack.dropped_after > 0).map(|index| index + 1);
        let last = last.or((places.dropped > 0).then_some(0));
        last.map_or(0, |next| self.acks.get(next).map_or(Slot::MAX, |ack| ack.answer.slot))
    }

    /// The connection is gone: a set that was on its way is forgotten. Returns it.
    pub(crate) fn detach(&mut self) -> Option<Box<PrefixSet>> {
        self.incoming.take()
    }

    /// The position at which the account began.
    pub(crate) fn account_start(&self) -> u64 {
        self.account_start.0
    }

    pub(crate) fn has_begun(&self) -> bool {
        !matches!(self.follow, Follow::Nothing)
    }

    /// It follows everything, for life.
    pub(crate) fn is_everything(&self) -> bool {
        matches!(self.follow, Follow::Everything { .. })
    }

    /// The set that `ticket` asked for is in force from `head` on; the answer comes when the stream gets there.
    pub(crate) fn acknowledge(&mut self, ticket: u64, log: &Log, head: u64) {
        self.acknowledge_at(ticket, head, log.next_slot());
    }

    fn acknowledge_at(&mut self, ticket: u64, position: u64, slot: Slot) {
        let snapshot = self.marked.take().map(|marked| Box::new(Snapshot::new(*marked)));
        let matched = self.account_matched;
        let answer = Answer { ticket, position, slot, matched };
        if self.acks.is_empty() {
            // The rule is one at a time.
            self.acks.reserve_exact(1);
        }
        self.acks.push_back(Ack { answer, dropped_after: 0, snapshot });
    }

    /// The connection is gone, and with it the snapshots that it was to bring.
    pub(crate) fn forget_snapshots(&mut self, budget: &mut Budget) {
        if let Some(marked) = self.marked.take() {
            budget.release_set(&marked);
        }
        for snapshot in self.acks.iter_mut().filter_map(|ack| ack.snapshot.take()) {
            budget.release_set(snapshot.set());
        }
    }

    /// The oldest frame that it may still need; `None` if it has been given all there is.
    pub(crate) fn needs(&self, log: &Log) -> Option<Slot> {
        match &self.follow {
            Follow::Nothing => None,
            Follow::Everything { kept, .. } => Some(*kept).filter(|kept| *kept < log.next_slot()),
            Follow::Matched(places) => {
                let places = places.as_ref()?;
                places.taken.front().or(places.pending.front()).copied()
            }
        }
    }

    /// Places of what is still to be written.
    pub(crate) fn pending(&self) -> u64 {
        match &self.follow {
            Follow::Matched(Some(places)) => (places.taken.len() + places.pending.len()) as u64,
            _ => 0,
        }
    }

    /// A publication matched. `scarce`: memory for places is to be taken sparingly. Returns by how many places it grew.
    pub(crate) fn handle_match(&mut self, slot: Slot, log: &Log, scarce: bool) -> i64 {
        let before = self.positions();
        let Follow::Matched(places) = &mut self.follow else { return 0 };
        let Places { written, pending, dropped, .. } = &mut **places.get_or_insert_default();
        while written.front().is_some_and(|slot| *slot < log.first_slot()) {
            written.pop_front();
        }
        drop_lapped(pending, dropped, &mut self.acks, log.first_slot());
        if scarce && pending.len() == pending.capacity() {
            pending.reserve_exact(pending.len() / 8 + 1);
        }
        pending.push_back(slot);
        self.account_matched += 1;
        grown(before, self.positions())
    }

    /// Gives up the places of what was written, or else (unless it is to lose nothing) the older half of the others:
    /// the budget of all places together is used up. Returns by how many places the memory of places grew.
    pub(crate) fn drop_older_half(&mut self, loses_nothing: bool) -> i64 {
        let before = self.positions();
        if let Follow::Matched(Some(places)) = &mut self.follow {
            let Places { written, pending, dropped, .. } = &mut **places;
            if !written.is_empty() || loses_nothing {
                *written = VecDeque::new();
            } else if let Some(&middle) = pending.get(pending.len() / 2) {
                drop_lapped(pending, dropped, &mut self.acks, middle + 1);
                pending.shrink_to_fit();
            }
        }
        grown(before, self.positions())
    }

    /// Acknowledgements that wait for their place.
    pub(crate) fn waiting_acks(&self) -> usize {
        self.acks.len()
    }

    /// Gives the memory back that no place stands in. Returns by how many places the memory of places grew.
    pub(crate) fn shrink(&mut self) -> i64 {
        let before = self.positions();
        if let Follow::Matched(Some(places)) = &mut self.follow {
            let Places { written, taken, pending, .. } = &mut **places;
            [written, taken, pending].into_iter().for_each(VecDeque::shrink_to_fit);
        }
        grown(before, self.positions())
    }

    /// Places that there is memory for, beside the few that each subscriber may have.
    pub(crate) fn positions(&self) -> u64 {
        match &self.follow {
            Follow::Matched(Some(places)) => {
                [&places.written, &places.taken, &places.pending].into_iter().map(beyond_few).sum()
            }
            _ => 0,
        }
    }

    /// Answers that there is memory for, written ones included, beside the few that each subscriber may have.
    pub(crate) fn answers(&self) -> u64 {
        beyond_few(&self.acks) + beyond_few(&self.answered)
    }

    /// Gives the memory back that no answer stands in, and forgets those that were written before the last few.
    pub(crate) fn shrink_answers(&mut self) {
        let too_many = self.answered.len().saturating_sub(FEW);
        self.is_incomplete |= too_many > 0;
        self.answered.drain(..too_many);
        self.answered.shrink_to_fit();
        self.acks.shrink_to_fit();
    }

    /// Whether [`Follower::take`] or [`Follower::render`] would have something to write.
    pub(crate) fn wants_transmit(&self, log: &Log) -> bool {
        self.incoming.is_none()
            && (!self.acks.is_empty()
                || match &self.follow {
                    Follow::Nothing => false,
                    Follow::Everything { next, .. } => *next < log.next_slot(),
                    Follow::Matched(places) => {
                        places.as_ref().is_some_and(|places| !places.pending.is_empty() || places.dropped > 0)
                    }
                })
    }

    /// This connection's position: everything matching below it precedes whatever is written now.
    pub(crate) fn position(&self, log: &Log, head: u64) -> u64 {
        if self.wants_transmit(log) || !self.has_begun() {
            self.reached
        } else {
            head
        }
    }
}

/// Places or answers in each list that count against no budget: the least that a list has memory for.
pub(crate) const FEW: usize = 4;
/// What the lists of a subscriber take that has few places and answers: sets that are on their way included.
pub(crate) const FEW_BYTES: usize = size_of::<Places>()
    + 2 * size_of::<PrefixSet>()
    + FEW * (3 * size_of::<Slot>() + size_of::<Ack>() + size_of::<Answer>());
/// What an answer takes, for the budget.
pub(crate) const ANSWER_BYTES: u64 = size_of::<Ack>() as u64;
fn beyond_few<T>(list: &VecDeque<T>) -> u64 {
    list.capacity().saturating_sub(FEW) as u64
}

/// Drops the places before `first`, and counts each on the side of the acknowledgements on which it lies.
fn drop_lapped(pending: &mut VecDeque<Slot>, dropped: &mut u64, acks: &mut VecDeque<Ack>, first: Slot) {
    while let Some(&slot) = pending.front().filter(|slot| **slot < first) {
        pending.pop_front();
        match acks.partition_point(|ack| ack.answer.slot <= slot).checked_sub(1) {
            Some(index) => acks[index].dropped_after += 1,
            None => *dropped += 1,
        }
    }
}

/// Whether a stored publication belongs to a set.
fn matches_frame(set: &PrefixSet, log: &Log, slot: Slot) -> bool {
    let body = log.frame(slot).and_then(|frame| frame.get(LENGTH_BYTES..));
    match body.map(Frame::decode) {
        Some(Ok(Frame::Publish { header: Publish { topic, .. }, .. })) => set.matches(topic),
        _ => false,
    }
}

/// By how many places their memory grew.
pub(crate) fn grown(before: u64, after: u64) -> i64 {
    i64::try_from(after).unwrap_or(i64::MAX) - i64::try_from(before).unwrap_or(i64::MAX)
}

//! Who follows a stream: sets of prefixes that come, change and go, and where each account begins.

use super::{Budget, Publisher, Retain};
use crate::pattern::follower::{grown, Follower};
use crate::pattern::log::Slot;
use crate::pattern::set::PrefixSet;
use crate::session::{LimitReached, Violation};
use crate::wire::{Gap, Lost, Prefixes, Start};

impl Publisher {
    /// Adds prefixes to a follower's set; they are in force from the head on once the set is complete. `snapshot`: the
    /// newest message of each topic that they match is wanted with the answer.
    pub(crate) fn subscribe(
        &mut self,
        budget: &mut Budget,
        follower: &mut Follower,
        peer: u32,
        prefixes: Prefixes<'_>,
        snapshot: bool,
    ) -> Result<Result<(), Violation>, LimitReached> {
        let everything = follower.is_everything();
        for prefix in prefixes.iter() {
            if everything && !prefix.is_empty() {
                return Ok(Err(Violation::PrefixesBesideEverything));
            }
            let mut room = true;
            if snapshot && self.last.is_some() && follower.marked.get_or_insert_default().insert(prefix) {
                room &= budget.take_prefix(prefix);
            }
            let in_force = follower.incoming.is_none();
            let set = follower.incoming.as_deref_mut().unwrap_or(&mut follower.set);
            if set.insert(prefix) {
                room &= budget.take_prefix(prefix);
                self.stats.prefixes += 1;
                if set.len() > self.max_prefixes as usize || set.bytes() > self.max_prefix_bytes {
                    return Ok(Err(Violation::TooManyPrefixes {
                        limit_count: self.max_prefixes,
                        limit_bytes: self.max_prefix_bytes,
                    }));
                }
                if in_force && room {
                    self.head.note_wanted(prefix);
                    self.index.insert(prefix, peer);
                }
            }
            if !room {
                return Err(LimitReached::Prefixes { limit: budget.prefix_bytes_limit() });
            }
        }
        Ok(Ok(()))
    }

    /// The set that a handshake sent is complete: it is in force, and `start` says from where on the subscriber wants
    /// what was published before. Answers the frame that completed it, and returns what the subscriber has certainly
    /// or perhaps missed, if that cannot come out of the log.
    pub(crate) fn complete(
        &mut self,
        budget: &mut Budget,
        follower: &mut Follower,
        peer: u32,
        start: Start,
        ticket: u64,
    ) -> Result<Option<Gap>, Violation> {
        let Some(set) = follower.incoming.take() else { return Ok(None) };
        // Whatever is published while it is told where it begins is looked at under the lock.
        self.head.shut();
        let back = follower.has_begun();
        if back && (follower.is_everything() != set.is_everything()) {
            self.forget_set(budget, &set);
            return Err(Violation::PrefixesBesideEverything);
        }
        self.floor = 0;
        // Who resumes before the account's beginning has never heard of it: the account before was lost with its record.
        let heard = |next_seq| next_seq >= follower.account_start();
        if let (true, Start::Resume { next_seq, accounted }) =
            (back && matches!(start, Start::Resume { next_seq, .. } if heard(next_seq)), start)
        {
            let held = follower.positions();
            let resumed = follower.resume(&self.log, self.head(), next_seq, accounted);
            // Also where the numbers cannot be: some places may have been given up by then.
            budget.note_positions(grown(held, follower.positions()));
            self.exchange(budget, follower, peer, *set);
            resumed.ok_or(Violation::ImpossibleResume { next_seq, accounted })?;
            follower.acknowledge(ticket, &self.log, self.head());
            return Ok(None);
        }
        self.exchange(budget, follower, peer, *set);
        let (position, slot) = self.replay_from(start);
        let held = follower.positions();
        follower.begin(&self.log, position, slot, ticket);
        budget.note_positions(grown(held, follower.positions()));
        if !back {
            self.stats.subscribers += 1;
            if follower.is_everything() {
                self.everything.push(peer);
            }
        }
        Ok(start_gap(start, position))
    }

    /// Where an account that begins now has its beginning: at the head, or where the log can replay from.
    fn replay_from(&self, start: Start) -> (u64, Slot) {
        let wanted = match start {
            Start::From { seq } | Start::Resume { next_seq: seq, .. } if self.retain == Retain::All => seq,
            _ => return (self.head(), self.log.next_slot()),
        };
        let slot = self.log.slot_at_or_after(wanted);
        // Every publication is in the log, so a frame's number is where the replay begins.
        (self.log.seq(slot).unwrap_or_else(|| self.head()), slot)
    }

    /// Puts a complete set in the place of the one before.
    fn exchange(&mut self, budget: &mut Budget, follower: &mut Follower, peer: u32, set: PrefixSet) {
        let before = core::mem::replace(&mut follower.set, set);
        for prefix in before.iter().filter(|prefix| !follower.set.contains(prefix)) {
            self.index.remove(prefix, peer);
            self.head.note_removed();
        }
        if !follower.set.is_everything() {
            for prefix in follower.set.iter().filter(|prefix| !before.contains(prefix)) {
                self.head.note_wanted(prefix);
                self.index.insert(prefix, peer);
            }
        }
        self.forget_set(budget, &before);
    }

    /// A set that is in no force any more, or never was, is counted no longer.
    fn forget_set(&mut self, budget: &mut Budget, set: &PrefixSet) {
        budget.release_set(set);
        self.stats.prefixes = self.stats.prefixes.saturating_sub(set.len() as u64);
    }

    /// The follower's connection is gone, and its record stays.
    pub(crate) fn detach(&mut self, budget: &mut Budget, follower: &mut Follower) {
        if let Some(set) = follower.detach() {
            self.forget_set(budget, &set);
        }
        // Whoever comes back asks again for the snapshots that it has not had.
        follower.forget_snapshots(budget);
    }

    /// Takes prefixes from a follower's set, from the head on.
    pub(crate) fn unsubscribe(
        &mut self,
        budget: &mut Budget,
        follower: &mut Follower,
        peer: u32,
        prefixes: Prefixes<'_>,
    ) -> Result<(), Violation> {
        for prefix in prefixes.iter() {
            if follower.is_everything() {
                return Err(Violation::PrefixesBesideEverything);
            }
            if follower.set.remove(prefix) {
                self.forget(budget, prefix, peer);
            }
        }
        Ok(())
    }

    fn forget(&mut self, budget: &mut Budget, prefix: &str, peer: u32) {
        budget.release_prefix(prefix);
        self.stats.prefixes = self.stats.prefixes.saturating_sub(1);
        self.index.remove(prefix, peer);
        self.head.note_removed();
    }

    /// The follower's connection is gone, and its record with it.
    pub(crate) fn leave(&mut self, budget: &mut Budget, follower: &mut Follower, peer: u32) {
        self.detach(budget, follower);
        for prefix in follower.set.iter() {
            self.forget(budget, prefix, peer);
        }
        self.everything.retain(|other| *other != peer);
        self.quiet.retain(|other| *other != peer);
        budget.note_positions(-i64::try_from(follower.positions()).unwrap_or(i64::MAX));
        budget.note_answers(follower.noted_answers, 0);
        if follower.has_begun() {
            self.stats.subscribers -= 1;
        }
        self.stats.sent += follower.sent;
        self.stats.lost += follower.lost;
        self.stats.snapshot_messages += follower.snapshot_messages;
    }

    /// A follower of everything has read all there is: the next publication wakes it.
    pub(crate) fn sleep(&mut self, follower: &mut Follower, peer: u32) {
        if follower.is_everything() && !follower.quiet {
            follower.quiet = true;
            self.quiet.push(peer);
        }
    }
}

/// What a subscriber that was here before has missed of what lies before the beginning of its account. Nothing is known
/// of what matched, so it is a bound.
fn start_gap(start: Start, begins: u64) -> Option<Gap> {
    let before = match start {
        Start::Fresh => return None,
        Start::From { seq } => seq,
        Start::Resume { next_seq, .. } => next_seq,
    };
    // Nothing was published meanwhile: nothing can have been lost.
    let missed = begins.checked_sub(before).filter(|missed| *missed > 0)?;
    Some(Gap { before, after: begins, lost: Lost::AtMost(missed) })
}

//! What all streams and all subscribers of one server may take together.

use super::super::follower::{Follower, ANSWER_BYTES, POSITION_BYTES};
use super::super::set::{self, PrefixSet};
use crate::session::Limits;

/// What answers may take of the bytes of send queues.
pub(crate) fn answers_bytes(limits: &Limits) -> u64 {
    limits.send_queues_bytes / 8
}

/// What all streams and all subscribers of one server take together, and may take.
#[derive(Debug)]
pub(crate) struct Budget {
    prefix_bytes: u64,
    prefix_bytes_limit: u64,
    positions: u64,
    positions_limit: u64,
    answers: u64,
    answers_limit: u64,
    last_bytes: u64,
    last_bytes_limit: u64,
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Self {
        Budget {
            prefix_bytes: 0,
            prefix_bytes_limit: limits.prefixes_bytes,
            positions: 0,
            // The rest is for what one publication adds before others make room.
            positions_limit: limits.positions_bytes / 16 * 15 / POSITION_BYTES,
            answers: 0,
            answers_limit: answers_bytes(limits) / ANSWER_BYTES,
            last_bytes: 0,
            last_bytes_limit: limits.last_values_bytes,
        }
    }

    // Prefixes.

    /// One more prefix in a set. False if that is more than there may be; it counts all the same, until it is
    /// released.
    pub(crate) fn take_prefix(&mut self, prefix: &str) -> bool {
        self.prefix_bytes += set::cost(prefix);
        self.prefix_bytes <= self.prefix_bytes_limit
    }

    pub(crate) fn release_prefix(&mut self, prefix: &str) {
        self.prefix_bytes = self.prefix_bytes.saturating_sub(set::cost(prefix));
    }

    /// A set that is in no force any more, or never was.
    pub(crate) fn release_set(&mut self, set: &PrefixSet) {
        set.iter().for_each(|prefix| self.release_prefix(prefix));
    }

    pub(crate) fn prefix_bytes_limit(&self) -> u64 {
        self.prefix_bytes_limit
    }

    // Places in logs.

    pub(crate) fn note_positions(&mut self, grown: i64) {
        self.positions = self.positions.saturating_add_signed(grown);
    }

    /// Whether more than half of the memory of places is taken: then none is held for what may come.
    pub(crate) fn is_scarce(&self) -> bool {
        self.positions > self.positions_limit / 2
    }

    /// Whether the memory of places is above its budget.
    pub(crate) fn is_over(&self) -> bool {
        self.positions > self.positions_limit
    }

    /// If the memory of places is above its budget: the number of them above which one of so many followers gives up
    /// the older half of its own. Only who is behind holds many, so the slow ones pay.
    pub(crate) fn positions_to_shed_above(&self, followers: u64) -> Option<u64> {
        let fair = self.positions_limit / followers.max(1);
        self.is_over().then_some(fair / 2)
    }

    // Answers that subscribers have not read, or may have to be given again.

    /// The memory of a follower's answers may have changed: takes note of it. What is not needed of it goes if it is scarce.
    pub(crate) fn note_answers_of(&mut self, follower: &mut Follower) {
        if self.answers > self.answers_limit / 2 {
            follower.shrink_answers();
        }
        let answers = follower.answers();
        self.note_answers(core::mem::replace(&mut follower.noted_answers, answers), answers);
    }

    pub(crate) fn note_answers(&mut self, before: u64, after: u64) {
        self.answers = (self.answers + after).saturating_sub(before);
    }

    pub(crate) fn has_too_many_answers(&self) -> bool {
        self.answers > self.answers_limit
    }

    #[cfg(test)]
    pub(crate) fn prefix_bytes(&self) -> u64 {
        self.prefix_bytes
    }

    /// Places that all followers have memory for.
    #[cfg(test)]
    pub(crate) fn positions(&self) -> u64 {
        self.positions
    }

    // Last values.

    /// Room for so many bytes of last values more; false, and nothing is taken, if there is none.
    pub(crate) fn take_last(&mut self, bytes: u64) -> bool {
        let fits = self.last_bytes + bytes <= self.last_bytes_limit;
        if fits {
            self.last_bytes += bytes;
        }
        fits
    }

    pub(crate) fn release_last(&mut self, bytes: u64) {
        self.last_bytes = self.last_bytes.saturating_sub(bytes);
    }

    /// Whether so many bytes would fit if so many of those that are taken were given back.
    pub(crate) fn could_fit_last(&self, bytes: u64, given_back: u64) -> bool {
        self.last_bytes.saturating_sub(given_back) + bytes <= self.last_bytes_limit
    }
}

//! The prefixes of a subscription whose newest messages are still to come.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};

/// The prefixes whose snapshot was asked for, or is to be asked for, and has not been answered.
///
/// Like the set itself this is state, not messages: it outlives connections, and each handshake asks again for what
/// the last one has not brought.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Each with the ticket of the frame that asked.
    prefixes: BTreeMap<Box<str>, u64>,
    /// Tickets of frames that were one part of a request with several; the last part is what its user waits for.
    parts: BTreeSet<u64>,
    /// The ticket that ends the snapshot after a restart.
    after_restart: Option<u64>,
}

impl Marks {
    /// The ticket of what no frame has asked for yet.
    pub(super) const NOT_SENT: u64 = 0;

    pub(super) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    pub(super) fn contains(&self, prefix: &str) -> bool {
        self.prefixes.contains_key(prefix)
    }

    pub(super) fn add(&mut self, prefix: &str, ticket: u64) {
        self.prefixes.insert(Box::from(prefix), ticket);
    }

    pub(super) fn add_all<'a>(&mut self, prefixes: impl Iterator<Item = &'a str>, ticket: u64) {
        prefixes.for_each(|prefix| self.add(prefix, ticket));
    }

    /// It is no longer in the set. What has been asked for comes all the same, and is waited for.
    pub(super) fn remove(&mut self, prefix: &str) {
        if self.prefixes.get(prefix) == Some(&Self::NOT_SENT) {
            self.prefixes.remove(prefix);
        }
    }

    /// A handshake has asked for all of them.
    pub(super) fn asked_by(&mut self, ticket: u64) {
        self.prefixes.values_mut().for_each(|asked| *asked = ticket);
    }

    /// The frame with this ticket was answered.
    pub(super) fn handle_answer(&mut self, ticket: u64) {
        self.prefixes.retain(|_, asked| *asked != ticket);
    }

    /// Nobody waits for the answer to this ticket by itself.
    pub(super) fn note_part(&mut self, ticket: u64) {
        self.parts.insert(ticket);
    }

    /// The answer to this ticket ends the snapshot that was asked for because of a restart.
    pub(super) fn note_restart(&mut self, ticket: u64) {
        self.after_restart = Some(ticket);
    }

    /// What the user is told in the place of an answered ticket: nothing for a part, 0 for what a handshake does.
    pub(super) fn told(&mut self, ticket: u64) -> Option<u64> {
        if self.parts.remove(&ticket) {
            return None;
        }
        match self.after_restart.take_if(|last| *last == ticket) {
            Some(_) => Some(0),
            None => Some(ticket),
        }
    }

    /// The connection is gone: the next handshake asks again, and ends what it asked for itself.
    pub(super) fn handle_lost(&mut self) {
        if let Some(last) = self.after_restart.take() {
            self.parts.insert(last);
        }
    }
}

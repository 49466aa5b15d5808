//! Which connections are to be read, and in which order.

use std::collections::hash_map::Entry;
use std::collections::VecDeque;

use crate::net::dial::DialKey;
use crate::net::numbered::Numbered;

/// Connections that may have more to read, each once, however often the kernel says so: that is its budget per turn.
#[derive(Default)]
pub(super) struct Ready {
    order: VecDeque<DialKey>,
    /// Those in `order`, and whether to read on until the end.
    until_end: Numbered<DialKey, bool>,
}

impl Ready {
    pub(super) fn push(&mut self, key: DialKey, until_end: bool) {
        match self.until_end.entry(key) {
            Entry::Occupied(mut entry) => *entry.get_mut() |= until_end,
            Entry::Vacant(entry) => {
                entry.insert(until_end);
                self.order.push_back(key);
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<(DialKey, bool)> {
        let key = self.order.pop_front()?;
        Some((key, self.until_end.remove(&key).unwrap_or(false)))
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

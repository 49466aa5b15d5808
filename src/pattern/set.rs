//! Sets of topic prefixes: as the server keeps them, and as the client counts them.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;

use crate::wire::Prefixes;

/// Bytes that a prefix takes beside its own, for budgets: its place in the set and in the index.
///
/// 64 for the tree of the set; two nodes of 64 in the index, of which up to as many are free and a quarter is not yet
/// used; their lists.
const PREFIX_OVERHEAD: u64 = 64 + 2 * 2 * 64 * 5 / 4 + 48;

/// What one prefix counts against the budget of all subscribers together.
pub(crate) fn cost(prefix: &str) -> u64 {
    2 * prefix.len() as u64 + PREFIX_OVERHEAD
}

/// A subscriber's prefixes at the server: each once, however often it was asked for.
#[derive(Debug, Default)]
pub(crate) struct PrefixSet {
    /// The empty prefix is in it: with most subscribers nothing else is, and then there is no tree.
    has_empty: bool,
    /// All others.
    prefixes: BTreeSet<Box<str>>,
    bytes: u64,
}

impl PrefixSet {
    /// False if it was there already.
    pub(crate) fn insert(&mut self, prefix: &str) -> bool {
        if prefix.is_empty() {
            return !core::mem::replace(&mut self.has_empty, true);
        }
        let new = !self.prefixes.contains(prefix) && self.prefixes.insert(Box::from(prefix));
        self.bytes += if new { prefix.len() as u64 } else { 0 };
        new
    }

    /// False if it was not there.
    pub(crate) fn remove(&mut self, prefix: &str) -> bool {
        if prefix.is_empty() {
            return core::mem::take(&mut self.has_empty);
        }
        let removed = self.prefixes.remove(prefix);
        self.bytes -= if removed { prefix.len() as u64 } else { 0 };
        removed
    }

    pub(crate) fn contains(&self, prefix: &str) -> bool {
        if prefix.is_empty() {
            self.has_empty
        } else {
            self.prefixes.contains(prefix)
        }
    }

    /// Whether a topic begins with one of them.
    ///
    /// The greatest prefix that is not above the topic is one that it begins with, or else every prefix that it begins
    /// with also begins that one: so the topic can be cut to what the two have in common, and a few steps decide.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        if self.has_empty {
            return true;
        }
        let mut topic = topic;
        while let Some(nearest) =
            self.prefixes.range::<str, _>((Bound::Unbounded, Bound::Included(topic))).next_back()
        {
            if topic.starts_with(&**nearest) {
                return true;
            }
            let common = topic.bytes().zip(nearest.bytes()).take_while(|(a, b)| a == b).count();
            let common = (0..=common).rev().find(|end| topic.is_char_boundary(*end)).unwrap_or(0);
            topic = &topic[..common];
        }
        false
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// It is the empty prefix alone.
    pub(crate) fn is_everything(&self) -> bool {
        self.has_empty && self.prefixes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.prefixes.len() + usize::from(self.has_empty)
    }

    /// Bytes of the prefixes themselves.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let empty = self.has_empty.then_some("");
        empty.into_iter().chain(self.prefixes.iter().map(|prefix| &**prefix))
    }
}

/// A subscription's prefixes at the client, each with the number of times it was asked for.
///
/// This is state, not messages: it is sent anew in every handshake, and survives every loss.
#[derive(Debug, Default)]
pub(crate) struct CountedSet(BTreeMap<Box<str>, u32>);

impl CountedSet {
    /// True if the prefix is new and the server has to hear of it.
    pub(crate) fn add(&mut self, prefix: &str) -> bool {
        match self.0.get_mut(prefix) {
            Some(count) => {
                *count = count.saturating_add(1);
                false
            }
            None => {
                self.0.insert(Box::from(prefix), 1);
                true
            }
        }
    }

    /// True if this was the last time that it was asked for and the server has to hear of it; `None` if it is not in
    /// the set.
    pub(crate) fn release(&mut self, prefix: &str) -> Option<bool> {
        let count = self.0.get_mut(prefix)?;
        *count -= 1;
        let last = *count == 0;
        if last {
            self.0.remove(prefix);
        }
        Some(last)
    }

    pub(crate) fn contains(&self, prefix: &str) -> bool {
        self.0.contains_key(prefix)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|prefix| &**prefix)
    }

    /// All prefixes as they stand in frames, as many to each as fit well below the smallest frame limit.
    pub(crate) fn regions(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.regions_of(|_| true)
    }

    /// Those of them that are wanted, likewise.
    pub(crate) fn regions_of<'a>(
        &'a self,
        wanted: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = Vec<u8>> + 'a {
        let mut prefixes = self.iter().filter(move |prefix| wanted(prefix));
        core::iter::from_fn(move || {
            let mut region = Vec::new();
            while region.len() <= REGION_BYTES {
                let Some(prefix) = prefixes.next() else { break };
                Prefixes::push(&mut region, prefix).expect("prefixes are checked when they are added");
            }
            (!region.is_empty()).then_some(region)
        })
    }
}

/// Bytes of prefixes in one Subscribe frame, give or take one prefix.
const REGION_BYTES: usize = 2 * 1024;

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_matches_what_begins_with_one_of_it(
            prefixes in prop::collection::vec("[abé]{0,4}", 0..8),
            topic in "[abé]{0,6}",
        ) {
            let mut set = PrefixSet::default();
            prefixes.iter().for_each(|prefix: &String| { set.insert(prefix); });
            let expected = prefixes.iter().any(|prefix| topic.starts_with(prefix.as_str()));
            prop_assert_eq!(set.matches(&topic), expected, "{:?}", set.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn repeated_subscriptions_are_counted_at_the_client_and_kept_once_at_the_server() {
        let mut counted = CountedSet::default();
        assert!(counted.add("a"));
        assert!(!counted.add("a"));
        assert_eq!(counted.release("a"), Some(false));
        assert_eq!(counted.release("a"), Some(true));
        assert_eq!(counted.release("a"), None);
        let mut set = PrefixSet::default();
        assert!(set.insert("abc"));
        assert!(!set.insert("abc"));
        assert_eq!((set.len(), set.bytes()), (1, 3));
        assert!(set.remove("abc"));
        assert!(!set.remove("abc"));
        assert_eq!((set.len(), set.bytes()), (0, 0));
    }
}

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
    prefixes: Held,
    bytes: u64,
}

/// Most subscribers have a few prefixes: for these a tree would be mostly empty, and each would be an allocation.
#[derive(Debug)]
enum Held {
    /// One behind the other, as they stand in frames.
    Few(Vec<u8>),
    Many(BTreeSet<Box<str>>),
}

/// More than these are kept in a tree.
const FEW: usize = 8;

impl Default for Held {
    fn default() -> Self {
        Held::Few(Vec::new())
    }
}

impl Held {
    /// False if it was there already.
    fn insert(&mut self, prefix: &str) -> bool {
        if self.contains(prefix) {
            return false;
        }
        if self.len() == FEW {
            // One by one: collecting would bring a sort along, which is more code than all the rest here.
            let mut many = BTreeSet::new();
            self.iter().for_each(|prefix| {
                many.insert(Box::from(prefix));
            });
            *self = Held::Many(many);
        }
        match self {
            Held::Few(few) => {
                few.reserve_exact(1 + prefix.len());
                Prefixes::push(few, prefix).expect("it came out of a frame");
                true
            }
            Held::Many(many) => many.insert(Box::from(prefix)),
        }
    }

    /// False if it was not there.
    fn remove(&mut self, prefix: &str) -> bool {
        match self {
            Held::Few(few) => {
                let begin: usize =
                    walk(few).take_while(|other| *other != prefix).map(|other| 1 + other.len()).sum();
                if begin == few.len() {
                    return false;
                }
                few.drain(begin..=begin + prefix.len());
                few.shrink_to_fit();
                true
            }
            Held::Many(many) => many.remove(prefix),
        }
    }

    fn contains(&self, prefix: &str) -> bool {
        match self {
            Held::Few(few) => walk(few).any(|other| other == prefix),
            Held::Many(many) => many.contains(prefix),
        }
    }

    /// Whether a topic begins with one of them.
    fn match_topic(&self, topic: &str) -> bool {
        match self {
            Held::Few(few) => walk(few).any(|prefix| topic.starts_with(prefix)),
            Held::Many(many) => match_in_tree(many, topic),
        }
    }

    fn len(&self) -> usize {
        match self {
            Held::Few(few) => walk(few).count(),
            Held::Many(many) => many.len(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let (few, many) = match self {
            Held::Few(few) => (Some(walk(few)), None),
            Held::Many(many) => (None, Some(many.iter().map(|prefix| &**prefix))),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }
}

/// The prefixes in a region that was pushed together here.
fn walk(region: &[u8]) -> impl Iterator<Item = &str> {
    Prefixes::from_bytes(region).expect("whole prefixes were pushed").iter()
}

/// Whether a topic begins with one of many.
///
/// The greatest prefix that is not above the topic is one that it begins with, or else every prefix that it begins
/// with also begins that one: so the topic can be cut to what the two have in common, and a few steps decide.
fn match_in_tree(prefixes: &BTreeSet<Box<str>>, topic: &str) -> bool {
    let mut topic = topic;
    while let Some(nearest) = prefixes.range::<str, _>((Bound::Unbounded, Bound::Included(topic))).next_back()
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

impl PrefixSet {
    /// False if it was there already.
    pub(crate) fn insert(&mut self, prefix: &str) -> bool {
        if prefix.is_empty() {
            return !core::mem::replace(&mut self.has_empty, true);
        }
        let new = self.prefixes.insert(prefix);
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
    pub(crate) fn matches(&self, topic: &str) -> bool {
        self.has_empty || self.prefixes.match_topic(topic)
    }

    /// It is the empty prefix alone.
    pub(crate) fn is_everything(&self) -> bool {
        self.has_empty && self.prefixes.len() == 0
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
        empty.into_iter().chain(self.prefixes.iter())
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
            prefixes in prop::collection::vec("[abé]{0,4}", 0..2 * FEW),
            topic in "[abé]{0,6}",
        ) {
            let mut set = PrefixSet::default();
            prefixes.iter().for_each(|prefix: &String| { set.insert(prefix); });
            let expected = prefixes.iter().any(|prefix| topic.starts_with(prefix.as_str()));
            prop_assert_eq!(set.matches(&topic), expected, "{:?}", set.iter().collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn a_set_is_a_set_however_few_or_many_it_has(
            steps in prop::collection::vec((any::<bool>(), "[ab]{0,4}"), 0..6 * FEW),
        ) {
            let (mut set, mut expected) = (PrefixSet::default(), BTreeSet::new());
            for (adds, prefix) in steps {
                match adds {
                    true => prop_assert_eq!(set.insert(&prefix), expected.insert(prefix.clone())),
                    false => prop_assert_eq!(set.remove(&prefix), expected.remove(&prefix)),
                }
                prop_assert_eq!(set.contains(&prefix), expected.contains(&prefix));
                prop_assert_eq!(set.len(), expected.len());
                prop_assert_eq!(set.bytes(), expected.iter().map(|prefix| prefix.len() as u64).sum::<u64>());
                prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), expected.iter().map(String::as_str).collect());
            }
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

//! The newest message of each topic, for whoever comes later and asks for a snapshot.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::budget::Budget;

/// Bytes that a topic takes beside its name (twice) and its data: its places in the two indexes.
const TOPIC_OVERHEAD: u64 = 208;

/// The newest message of each topic of one stream.
///
/// Bounded in topics by itself and in bytes by the budget of all streams. When either is reached, the value that was
/// published longest ago goes.
#[derive(Debug)]
pub(crate) struct LastValues {
    /// The number of each topic's newest message.
    topics: BTreeMap<Box<str>, u64>,
    /// Invariant: one entry for each of `topics`, under its number.
    by_seq: BTreeMap<u64, Value>,
    max_topics: usize,
    /// Bytes taken from the budget.
    bytes: u64,
    /// Values that went because there was no room.
    dropped: u64,
}

#[derive(Debug)]
struct Value {
    topic: Box<str>,
    data: Vec<u8>,
}

impl Value {
    fn cost(&self) -> u64 {
        cost(&self.topic, self.data.capacity())
    }
}

fn cost(topic: &str, data_bytes: usize) -> u64 {
    2 * topic.len() as u64 + data_bytes as u64 + TOPIC_OVERHEAD
}

impl LastValues {
    pub(super) fn new(max_topics: u32) -> Self {
        LastValues {
            topics: BTreeMap::new(),
            by_seq: BTreeMap::new(),
            max_topics: max_topics.max(1) as usize,
            bytes: 0,
            dropped: 0,
        }
    }

    /// A message of this topic was published; it is newer than all before.
    pub(super) fn put(&mut self, seq: u64, topic: &str, data: &[u8], budget: &mut Budget) {
        let mut value = match self.take(topic, budget) {
            Some(value) => value,
            None => Value { topic: Box::from(topic), data: Vec::new() },
        };
        if !budget.could_fit_last(cost(topic, data.len()), self.bytes) {
            // Larger than everything of ours together: it takes nobody's place but its own.
            self.topics.remove(topic);
            self.dropped += 1;
            return;
        }
        value.data.clear();
        if !(data.len()..=data.len() + data.len() / 4).contains(&value.data.capacity()) {
            value.data = Vec::with_capacity(data.len());
        }
        value.data.extend_from_slice(data);
        // A topic that is here already takes the place that it has.
        while self.by_seq.len() >= self.max_topics || !budget.take_last(value.cost()) {
            self.drop_oldest(budget);
        }
        self.bytes += value.cost();
        match self.topics.get_mut(topic) {
            Some(newest) => *newest = seq,
            None => {
                self.topics.insert(value.topic.clone(), seq);
            }
        }
        self.by_seq.insert(seq, value);
    }

    /// Takes the value of a topic out; its entry in `topics` stays, for the one that follows.
    fn take(&mut self, topic: &str, budget: &mut Budget) -> Option<Value> {
        let value = self.by_seq.remove(self.topics.get(topic)?)?;
        budget.release_last(value.cost());
        self.bytes -= value.cost();
        Some(value)
    }

    fn drop_oldest(&mut self, budget: &mut Budget) {
        let (_, oldest) = self.by_seq.pop_first().expect("what could fit fits once the others are gone");
        self.topics.remove(&oldest.topic);
        budget.release_last(oldest.cost());
        self.bytes -= oldest.cost();
        self.dropped += 1;
    }

    /// The first value whose number is in this range, with its number, topic and data.
    pub(crate) fn first_in(&self, from: u64, below: u64) -> Option<(u64, &str, &[u8])> {
        if from >= below {
            return None;
        }
        let (seq, value) = self.by_seq.range(from..below).next()?;
        Some((*seq, &value.topic, &value.data))
    }

    pub(super) fn len(&self) -> usize {
        self.by_seq.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::session::Limits;

    fn budget(bytes: u64) -> Budget {
        let mut limits = Limits::default();
        limits.last_values_bytes = bytes;
        Budget::new(&limits)
    }

    fn all(values: &LastValues) -> Vec<(u64, &str, &[u8])> {
        let mut found = vec![];
        let mut from = 0;
        while let Some(value) = values.first_in(from, u64::MAX) {
            from = value.0 + 1;
            found.push(value);
        }
        found
    }

    #[test]
    fn each_topic_has_its_newest_value_in_the_order_of_publication() {
        let (mut values, mut budget) = (LastValues::new(10), budget(10_000));
        for (seq, topic, data) in [(0, "a", "1"), (1, "b", "2"), (4, "a", "3"), (9, "c", "")] {
            values.put(seq, topic, data.as_bytes(), &mut budget);
        }
        assert_eq!(all(&values), [(1, "b", &b"2"[..]), (4, "a", b"3"), (9, "c", b"")]);
        assert_eq!(values.first_in(0, 1), None);
        assert_eq!(values.first_in(2, 9), Some((4, "a", &b"3"[..])));
        assert_eq!(values.bytes(), 3 * (TOPIC_OVERHEAD + 2) + 2);
    }

    #[test]
    fn the_value_published_longest_ago_goes_when_topics_or_bytes_are_used_up() {
        let (mut values, mut roomy) = (LastValues::new(2), budget(10_000));
        for (seq, topic) in ["a", "b", "a", "c"].iter().enumerate() {
            values.put(seq as u64, topic, b"x", &mut roomy);
        }
        assert_eq!(all(&values), [(2, "a", &b"x"[..]), (3, "c", b"x")]);
        assert_eq!(values.dropped(), 1);

        let (mut values, mut scarce) = (LastValues::new(10), budget(2 * (TOPIC_OVERHEAD + 12)));
        for (seq, topic) in ["a", "b", "c"].iter().enumerate() {
            values.put(seq as u64, topic, &[0; 10], &mut scarce);
        }
        assert_eq!(values.len(), 2);
        values.put(3, "c", &[0; 150], &mut scarce);
        assert_eq!(all(&values), [(3, "c", &[0; 150][..])], "a large one takes the place of several");
        values.put(4, "c", &[0; 1_000], &mut scarce);
        assert_eq!(
            (values.len(), values.bytes()),
            (0, 0),
            "one that never fits leaves no stale value behind"
        );
        assert!(scarce.take_last(2 * (TOPIC_OVERHEAD + 12)), "all of it was given back");
    }
}

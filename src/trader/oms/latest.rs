//! The newest record of each id, bounded.

use std::borrow::ToOwned;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::vec::Vec;

/// The newest record of each id, in the order in which the ids first came.
///
/// Records that are needed, as whoever makes it says, are kept however many there are. Of all others there is a limit, and
/// beyond it the one goes that has not been needed for the longest time.
pub(in crate::trader) struct Latest<T> {
    /// Invariant: holds the same ids as `by_place`, each with its place there.
    places: HashMap<Arc<str>, u64>,
    by_place: BTreeMap<u64, Entry<T>>,
    /// The places of what is needed. Invariant: these and `turns` together are all places.
    needed: BTreeSet<u64>,
    /// The places of what is not, in the order in which it stopped to be, or came.
    turns: BTreeMap<u64, u64>,
    next: u64,
    max_records: usize,
    is_needed: fn(&T) -> bool,
}

struct Entry<T> {
    id: Arc<str>,
    record: Arc<T>,
    /// Its place in `turns`; `None` while it is needed.
    turn: Option<u64>,
}

impl<T> Latest<T> {
    /// None is needed more than others.
    pub(in crate::trader) fn new(max_records: usize) -> Self {
        Self::keeping(max_records, |_| false)
    }

    /// Keeps all for which this holds, and so many others.
    pub(in crate::trader) fn keeping(max_records: usize, is_needed: fn(&T) -> bool) -> Self {
        Latest {
            places: HashMap::new(),
            by_place: BTreeMap::new(),
            needed: BTreeSet::new(),
            turns: BTreeMap::new(),
            next: 0,
            max_records,
            is_needed,
        }
    }

    /// Keeps a record instead of the last one of its id. Returns how many others had to go for it.
    pub(in crate::trader) fn put(&mut self, id: &str, record: Arc<T>) -> u64 {
        let is_needed = (self.is_needed)(&record);
        let place = match self.places.get(id) {
            Some(place) => *place,
            None => self.take_number(),
        };
        let new_turn = self.next;
        let entry = self.by_place.entry(place).or_insert_with(|| {
            let id: Arc<str> = id.to_owned().into();
            self.places.insert(Arc::clone(&id), place);
            Entry { id, record: Arc::clone(&record), turn: None }
        });
        entry.record = record;
        match (is_needed, entry.turn) {
            (true, turn) => {
                entry.turn = None;
                turn.map(|turn| self.turns.remove(&turn));
                self.needed.insert(place);
            }
            (false, None) => {
                entry.turn = Some(new_turn);
                self.next += 1;
                self.needed.remove(&place);
                self.turns.insert(new_turn, place);
            }
            (false, Some(_)) => {}
        }
        self.evict()
    }

    pub(in crate::trader) fn remove(&mut self, id: &str) {
        let Some(place) = self.places.remove(id) else { return };
        self.needed.remove(&place);
        let turn = self.by_place.remove(&place).and_then(|entry| entry.turn);
        turn.map(|turn| self.turns.remove(&turn));
    }

    pub(in crate::trader) fn find(&self, id: &str) -> Option<Arc<T>> {
        let entry = self.by_place.get(self.places.get(id)?)?;
        Some(Arc::clone(&entry.record))
    }

    /// All records for which `wanted` holds, the id that came first in front.
    pub(in crate::trader) fn select(&self, wanted: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let records = self.by_place.values().map(|entry| &entry.record);
        records.filter(|record| wanted(record)).cloned().collect()
    }

    /// The first record for which `wanted` holds, in the same order.
    pub(in crate::trader) fn find_first(&self, wanted: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        self.by_place.values().map(|entry| &entry.record).find(|record| wanted(record)).cloned()
    }

    /// Those that are needed, as [`Latest::select`].
    pub(in crate::trader) fn select_needed(&self, wanted: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let records = self.needed.iter().filter_map(|place| self.by_place.get(place));
        let records = records.map(|entry| &entry.record);
        records.filter(|record| wanted(record)).cloned().collect()
    }

    fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn evict(&mut self) -> u64 {
        let mut evicted = 0;
        while self.turns.len() > self.max_records {
            let Some((_, place)) = self.turns.pop_first() else { break };
            if let Some(entry) = self.by_place.remove(&place) {
                self.places.remove(&entry.id);
            }
            evicted += 1;
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(latest: &Latest<u32>) -> Vec<u32> {
        latest.select(|_| true).into_iter().map(|record| *record).collect()
    }

    fn is_consistent(latest: &Latest<u32>) -> bool {
        latest.places.len() == latest.by_place.len()
            && latest.needed.len() + latest.turns.len() == latest.by_place.len()
    }

    #[test]
    fn newest_record_of_an_id_keeps_the_place_of_the_first() {
        let mut latest = Latest::new(10);
        for (id, record) in [("a", 1), ("b", 2), ("a", 3)] {
            assert_eq!(latest.put(id, Arc::new(record)), 0);
        }
        assert_eq!(all(&latest), [3, 2]);
        assert_eq!(latest.find("a").as_deref(), Some(&3));
        assert_eq!(latest.select(|record| *record < 3), [Arc::new(2)]);
        assert_eq!(latest.find_first(|record| *record > 1), Some(Arc::new(3)));
        assert_eq!(latest.find_first(|record| *record > 3), None);
        latest.remove("a");
        latest.remove("a");
        assert_eq!((all(&latest), latest.find("a")), ([2].into(), None));
        assert!(is_consistent(&latest));
    }

    #[test]
    fn oldest_id_goes_when_there_are_too_many() {
        let mut latest = Latest::new(2);
        let evicted: Vec<u64> = [("a", 1), ("b", 2), ("a", 3), ("c", 4)]
            .map(|(id, record)| latest.put(id, Arc::new(record)))
            .into();
        assert_eq!(evicted, [0, 0, 0, 1]);
        assert_eq!((all(&latest), latest.find("a")), ([2, 4].into(), None));
        assert!(is_consistent(&latest));
    }

    #[test]
    fn what_is_needed_is_kept_and_goes_by_the_time_since_it_was() {
        let mut latest = Latest::keeping(2, |record| *record < 10);
        for n in 0..5 {
            assert_eq!(latest.put(&std::format!("{n}"), Arc::new(n)), 0);
        }
        assert_eq!(latest.select_needed(|record| *record != 3), [0, 1, 2, 4].map(Arc::new));
        let mut evicted = Vec::new();
        for n in [3, 0, 4, 0] {
            evicted.push(latest.put(&std::format!("{n}"), Arc::new(n + 10)));
        }
        assert_eq!(evicted, [0, 0, 1, 0], "the one that was not needed first, not the one that came first");
        assert_eq!(all(&latest), [10, 1, 2, 14]);
        assert_eq!(latest.put("0", Arc::new(5)), 0, "and it may be needed again");
        assert_eq!(latest.select_needed(|_| true), [5, 1, 2].map(Arc::new));
        latest.remove("0");
        latest.remove("4");
        assert_eq!(all(&latest), [1, 2]);
        assert!(is_consistent(&latest));
    }
}

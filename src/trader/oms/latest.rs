//! The newest record of each id, bounded.

use std::borrow::ToOwned;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::vec::Vec;

/// The newest record of each id, in the order in which the ids first came. Beyond its limit the oldest id goes.
pub(in crate::trader) struct Latest<T> {
    /// Invariant: holds the same ids as `by_place`, each with its place there.
    places: HashMap<Arc<str>, u64>,
    by_place: BTreeMap<u64, (Arc<str>, Arc<T>)>,
    next_place: u64,
    max_records: usize,
}

impl<T> Latest<T> {
    pub(in crate::trader) fn new(max_records: usize) -> Self {
        Latest { places: HashMap::new(), by_place: BTreeMap::new(), next_place: 0, max_records }
    }

    /// Keeps a record instead of the last one of its id. Returns how many others had to go for it.
    pub(in crate::trader) fn put(&mut self, id: &str, record: Arc<T>) -> u64 {
        if let Some((_, last)) = self.places.get(id).and_then(|place| self.by_place.get_mut(place)) {
            *last = record;
            return 0;
        }
        let mut evicted = 0;
        while self.places.len() >= self.max_records {
            let Some((_, (oldest, _))) = self.by_place.pop_first() else { break };
            self.places.remove(&oldest);
            evicted += 1;
        }
        let id: Arc<str> = id.to_owned().into();
        self.places.insert(Arc::clone(&id), self.next_place);
        self.by_place.insert(self.next_place, (id, record));
        self.next_place += 1;
        evicted
    }

    pub(in crate::trader) fn remove(&mut self, id: &str) {
        if let Some(place) = self.places.remove(id) {
            self.by_place.remove(&place);
        }
    }

    pub(in crate::trader) fn find(&self, id: &str) -> Option<Arc<T>> {
        let (_, record) = self.by_place.get(self.places.get(id)?)?;
        Some(Arc::clone(record))
    }

    /// All records for which `wanted` holds, the id that came first in front.
    pub(in crate::trader) fn select(&self, wanted: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let records = self.by_place.values().map(|(_, record)| record);
        records.filter(|record| wanted(record)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(latest: &Latest<u32>) -> Vec<u32> {
        latest.select(|_| true).into_iter().map(|record| *record).collect()
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
        latest.remove("a");
        latest.remove("a");
        assert_eq!((all(&latest), latest.find("a")), ([2].into(), None));
    }

    #[test]
    fn oldest_id_goes_when_there_are_too_many() {
        let mut latest = Latest::new(2);
        let evicted: Vec<u64> = [("a", 1), ("b", 2), ("a", 3), ("c", 4)]
            .map(|(id, record)| latest.put(id, Arc::new(record)))
            .into();
        assert_eq!(evicted, [0, 0, 0, 1]);
        assert_eq!((all(&latest), latest.find("a")), ([2, 4].into(), None));
        assert_eq!(latest.places.len(), latest.by_place.len());
    }
}

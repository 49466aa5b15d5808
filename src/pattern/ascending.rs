//! Things by ids that come in ascending order, and go in any.

use alloc::collections::VecDeque;

/// A map whose ids are mostly inserted in ascending order and removed soon after: then an id's place follows from the
/// first one, and nothing is moved.
///
/// One that stays for long holds up nobody: places of those that are gone are cleared away when they are more than half
/// of all.
#[derive(Debug)]
pub(super) struct Ascending<T> {
    /// Invariant: ids ascend, and neither the first place nor the last one is empty.
    places: VecDeque<(u64, Option<T>)>,
    /// Places that are not empty.
    len: usize,
}

/// Empty places that are no reason to clear up.
const FEW: usize = 16;

impl<T> Ascending<T> {
    pub(super) fn new() -> Self {
        Ascending { places: VecDeque::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn contains_key(&self, id: u64) -> bool {
        self.get(id).is_some()
    }

    pub(super) fn get(&self, id: u64) -> Option<&T> {
        self.places[self.find(id)?].1.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        let at = self.find(id)?;
        self.places[at].1.as_mut()
    }

    /// Inserts one behind all others.
    ///
    /// # Panics
    /// If there is an id that is not below this one.
    pub(super) fn push(&mut self, id: u64, value: T) {
        assert!(self.places.back().is_none_or(|(last, _)| *last < id), "ids ascend");
        self.places.push_back((id, Some(value)));
        self.len += 1;
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<T> {
        let at = self.find(id)?;
        let value = self.places[at].1.take()?;
        self.len -= 1;
        while self.places.front().is_some_and(|(_, value)| value.is_none()) {
            self.places.pop_front();
        }
        while self.places.back().is_some_and(|(_, value)| value.is_none()) {
            self.places.pop_back();
        }
        if self.places.len() > 2 * self.len + FEW {
            self.places.retain(|(_, value)| value.is_some());
        }
        Some(value)
    }

    /// All of them, by ascending ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.places.iter().filter_map(|(id, value)| Some((*id, value.as_ref()?)))
    }

    /// All ids, ascending.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.iter().map(|(id, _)| id)
    }

    /// The place of an id, which may be empty.
    fn find(&self, id: u64) -> Option<usize> {
        let first = self.places.front()?.0;
        // Were none missing, it would be there; else it is before.
        let distance = usize::try_from(id.checked_sub(first)?).unwrap_or(usize::MAX);
        if self.places.get(distance).is_some_and(|(other, _)| *other == id) {
            return Some(distance);
        }
        self.places.binary_search_by_key(&id, |(other, _)| *other).ok()
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_that_stays_keeps_no_room_for_those_that_have_gone() {
        let mut map = Ascending::new();
        map.push(1, 1);
        map.push(2, 2);
        for id in 3..100_000u64 {
            map.push(id, id);
            assert_eq!(map.remove(id - 1), Some(id - 1));
            assert!(map.places.len() <= 2 * map.len() + FEW);
        }
        assert_eq!(map.get(1), Some(&1));
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0u64..4, 0usize..64), 0..400)) {
            let (mut map, mut model, mut next) = (Ascending::new(), BTreeMap::new(), 0);
            for (step, which) in steps {
                if step < 2 {
                    next += 1 + step;
                    map.push(next, next);
                    model.insert(next, next);
                } else {
                    let id = model.keys().copied().nth(which).unwrap_or(which as u64);
                    prop_assert_eq!(map.get(id), model.get(&id));
                    prop_assert_eq!(map.remove(id), model.remove(&id));
                    prop_assert!(!map.contains_key(id) && map.get_mut(id).is_none());
                }
                prop_assert_eq!(map.len(), model.len());
                let all: Vec<(u64, u64)> = map.iter().map(|(id, value)| (id, *value)).collect();
                prop_assert_eq!(all, model.iter().map(|(id, value)| (*id, *value)).collect::<Vec<_>>());
                prop_assert!(map.places.len() <= 2 * map.len() + FEW);
            }
        }
    }
}

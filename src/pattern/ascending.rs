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
const FEW: usize = 12;

impl<T> Ascending<T> {
    pub(super) fn new() -> Self {
        Ascending { places: VecDeque::new(), len: 0 }
    }

    /// Bytes of one place.
    pub(super) const PLACE_BYTES: usize = size_of::<(u64, Option<T>)>();

    /// The most places that there is memory for after [`shrink`](Self::shrink), while there are `len` things.
    pub(super) const fn most_places(len: usize) -> usize {
        3 * len + FEW
    }

    /// Bytes of memory that are held.
    pub(super) fn memory(&self) -> usize {
        self.places.capacity() * Self::PLACE_BYTES
    }

    /// Lets go of memory that is not needed for what is there and a little more.
    pub(super) fn shrink(&mut self) {
        if self.places.capacity() > Self::most_places(self.len) {
            self.places.shrink_to(Self::most_places(self.len) / 2);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn contains_key(&self, id: u64) -> bool {
        self.get(id).is_some()
    }

    #[inline]
    pub(super) fn get(&self, id: u64) -> Option<&T> {
        match self.places.get(self.likely_place(id)) {
            Some((found, value)) if *found == id => value.as_ref(),
            _ => self.places[self.search(id)?].1.as_ref(),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        let at = self.find(id)?;
        self.places[at].1.as_mut()
    }

    /// Inserts one behind all others.
    ///
    /// # Panics
    /// If there is an id that is not below this one.
    #[inline]
    pub(super) fn push(&mut self, id: u64, value: T) {
        assert!(self.places.back().is_none_or(|(last, _)| *last < id), "ids ascend");
        self.len += 1;
        if self.places.len() == self.places.capacity() {
            self.make_room();
        }
        self.places.push_back((id, Some(value)));
    }

    /// Room for half as many more, where doubling would take more than may be.
    #[cold]
    fn make_room(&mut self) {
        self.places.reserve_exact((self.len / 2).max(4));
    }

    #[inline]
    pub(super) fn remove(&mut self, id: u64) -> Option<T> {
        let value = match self.places.front() {
            // Most often the oldest one goes first.
            Some((first, _)) if *first == id => self.places.pop_front()?.1,
            _ => self.take(id),
        }?;
        self.len -= 1;
        while self.places.front().is_some_and(|(_, value)| value.is_none()) {
            self.places.pop_front();
        }
        if self.places.len() > 2 * self.len + FEW / 2 {
            self.places.retain(|(_, value)| value.is_some());
        }
        Some(value)
    }

    /// Takes one out that is not the first.
    fn take(&mut self, id: u64) -> Option<T> {
        let at = self.find(id)?;
        let value = self.places[at].1.take()?;
        while self.places.back().is_some_and(|(_, value)| value.is_none()) {
            self.places.pop_back();
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
    #[inline]
    fn find(&self, id: u64) -> Option<usize> {
        let at = self.likely_place(id);
        match self.places.get(at) {
            Some((found, _)) if *found == id => Some(at),
            _ => self.search(id),
        }
    }

    /// Where an id would be if none were missing; else it is before.
    #[inline]
    fn likely_place(&self, id: u64) -> usize {
        let first = self.places.front().map_or(0, |(first, _)| *first);
        usize::try_from(id.wrapping_sub(first)).unwrap_or(usize::MAX)
    }

    #[cold]
    fn search(&self, id: u64) -> Option<usize> {
        // Most often it is not there yet.
        if self.places.back()?.0 < id {
            return None;
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
            assert!(map.places.len() <= 2 * map.len() + FEW / 2);
        }
        assert_eq!(map.get(1), Some(&1));
    }

    #[test]
    fn memory_is_in_proportion_to_what_is_there_while_it_grows_and_once_it_has_shrunk() {
        const PLACE: usize = Ascending::<u64>::PLACE_BYTES;
        let mut map = Ascending::new();
        for id in 0..10_000u64 {
            map.push(id, id);
            assert!(map.memory() <= Ascending::<u64>::most_places(map.len()) * PLACE);
        }
        for id in (0..10_000u64).rev().step_by(3).chain((0..10_000).step_by(2)) {
            map.remove(id);
            map.shrink();
            assert!(map.memory() <= Ascending::<u64>::most_places(map.len()) * PLACE);
        }
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
                prop_assert!(map.places.len() <= 2 * map.len() + FEW / 2);
            }
        }
    }
}

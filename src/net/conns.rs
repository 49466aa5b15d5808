//! Tables under the connections of one machine.

use std::vec::Vec;

use crate::pattern::ConnId;

/// A table under the connections of one machine. They lie side by side in their slots, which are few and dense, so that
/// finding one costs no more than a compare, and thousands of idle ones take no more room than they need.
///
/// Each slot holds one connection: a machine may give a slot to a newer one before its driver has closed the older one.
pub(crate) struct Conns<T> {
    slots: Vec<Option<(ConnId, T)>>,
    len: usize,
}

impl<T> Default for Conns<T> {
    fn default() -> Self {
        Conns { slots: Vec::new(), len: 0 }
    }
}

impl<T> Conns<T> {
    pub(crate) fn get(&self, conn: &ConnId) -> Option<&T> {
        match self.slots.get(conn.slot() as usize)? {
            Some((id, value)) if id == conn => Some(value),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, conn: &ConnId) -> Option<&mut T> {
        match self.slots.get_mut(conn.slot() as usize)? {
            Some((id, value)) if id == conn => Some(value),
            _ => None,
        }
    }

    /// Returns what an older connection has left in the slot.
    pub(crate) fn insert(&mut self, conn: ConnId, value: T) -> Option<T> {
        let slot = conn.slot() as usize;
        if slot >= self.slots.capacity() {
            // By a quarter and not by half, since there may be a great many.
            self.slots.reserve_exact(slot + 1 + slot / 4 - self.slots.len());
        }
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        let left = self.slots[slot].replace((conn, value));
        self.len += usize::from(left.is_none());
        left.map(|(_, value)| value)
    }

    /// With the last one goes all memory.
    pub(crate) fn remove(&mut self, conn: &ConnId) -> Option<T> {
        self.get(conn)?;
        let (_, value) = self.slots[conn.slot() as usize].take()?;
        self.len -= 1;
        if self.len == 0 {
            self.slots = Vec::new();
        }
        Some(value)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.slots.iter().flatten().map(|(conn, _)| *conn)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_is_found_under_its_own_id_alone() {
        let mut conns = Conns::default();
        let (old, new, far) = (ConnId::new(1, 0), ConnId::new(1, 1), ConnId::new(40, 0));
        assert_eq!((conns.insert(old, 'a'), conns.insert(far, 'b')), (None, None));
        assert_eq!(
            (conns.get(&old), conns.get(&new), conns.get(&ConnId::new(99, 0))),
            (Some(&'a'), None, None)
        );
        assert_eq!(conns.remove(&new), None, "a newer one that never came");
        assert_eq!(conns.insert(new, 'c'), Some('a'));
        assert_eq!(conns.get(&old), None);
        assert_eq!(conns.get_mut(&new), Some(&mut 'c'));
        assert!(conns.ids().eq([new, far]));
        assert_eq!((conns.remove(&new), conns.remove(&new)), (Some('c'), None));
        assert_eq!(conns.remove(&far), Some('b'));
        assert!(conns.is_empty());
        assert_eq!(conns.slots.capacity(), 0, "nothing is held for nobody");
    }
}

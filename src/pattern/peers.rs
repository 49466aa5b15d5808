//! The connections that a server holds: slots that are reused, ids that are not.

use alloc::vec::Vec;

use super::ConnId;

/// What a server keeps of one session, whatever connection it has: in slots like a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RecordId(pub(crate) ConnId);

/// Peers in slots, each with a generation, so that an id of a peer that is gone finds nobody.
#[derive(Debug)]
pub(crate) struct Peers<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    peer: Option<T>,
}

impl<T> Peers<T> {
    /// The most memory for each that there ever was at once: a quarter may be unused.
    pub(crate) const MEMORY_EACH: u64 = (size_of::<Slot<T>>() * 5 / 4 + 2 * size_of::<u32>()) as u64;

    pub(crate) fn new() -> Self {
        Peers { slots: Vec::new(), free: Vec::new(), len: 0 }
    }

    pub(crate) fn insert(&mut self, peer: T) -> ConnId {
        self.len += 1;
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.peer = Some(peer);
            return ConnId::new(index, slot.generation);
        }
        let index = u32::try_from(self.slots.len()).expect("connections are limited to a u32");
        if self.slots.len() == self.slots.capacity() {
            // By a quarter and not by half, since there may be a great many.
            self.slots.reserve_exact(self.slots.len() / 4 + 4);
        }
        self.slots.push(Slot { generation: 0, peer: Some(peer) });
        ConnId::new(index, 0)
    }

    pub(crate) fn get(&self, id: ConnId) -> Option<&T> {
        let slot = self.slots.get(id.slot() as usize)?;
        slot.peer.as_ref().filter(|_| ConnId::new(id.slot(), slot.generation) == id)
    }

    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.slot() as usize)?;
        let current = ConnId::new(id.slot(), slot.generation) == id;
        slot.peer.as_mut().filter(|_| current)
    }

    /// The living peer in a slot, with its id.
    pub(crate) fn in_slot(&mut self, index: u32) -> Option<(ConnId, &mut T)> {
        let slot = self.slots.get_mut(index as usize)?;
        let id = ConnId::new(index, slot.generation);
        slot.peer.as_mut().map(|peer| (id, peer))
    }

    pub(crate) fn remove(&mut self, id: ConnId) -> Option<T> {
        self.get(id)?;
        let slot = &mut self.slots[id.slot() as usize];
        let peer = slot.peer.take();
        // A slot whose generations are used up is not used again.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(id.slot());
        }
        self.len -= 1;
        peer
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ConnId, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(index, slot)| {
            let id = ConnId::new(u32::try_from(index).ok()?, slot.generation);
            slot.peer.as_mut().map(|peer| (id, peer))
        })
    }

    pub(crate) fn ids(&self) -> Vec<ConnId> {
        let ids = self.slots.iter().enumerate().filter(|(_, slot)| slot.peer.is_some());
        ids.filter_map(|(index, slot)| Some(ConnId::new(u32::try_from(index).ok()?, slot.generation)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_id_finds_nobody_in_a_reused_slot() {
        let mut peers = Peers::new();
        let old = peers.insert('a');
        assert_eq!(peers.remove(old), Some('a'));
        let new = peers.insert('b');
        assert_eq!(new.slot(), old.slot());
        assert_eq!(peers.get(old), None);
        assert_eq!(peers.get_mut(old), None);
        assert_eq!(peers.remove(old), None);
        assert_eq!(peers.get(new), Some(&'b'));
        assert_eq!(peers.len(), 1);
    }
}

//! Room for frames that are not whole yet: a budget that large ones are admitted to, first come first served.

use alloc::collections::VecDeque;

use super::ConnId;

/// Frames up to this size never wait.
pub(crate) const FREE_BYTES: u64 = FREE_READ_BYTES as u64;
const FREE_READ_BYTES: usize = 4 * 1024;

/// Admits large frames with their whole length before more of them is read.
///
/// Who has to wait is not read from until there is room: the kernel's buffers and the peer's patience hold the rest.
/// A frame that is larger than the whole budget is admitted when nobody else is, so that nobody waits for ever.
#[derive(Debug)]
pub(crate) struct Admission {
    budget: u64,
    used: u64,
    waiting: VecDeque<(ConnId, u64)>,
}

impl Admission {
    pub(crate) fn new(budget: u64) -> Self {
        Admission { budget, used: 0, waiting: VecDeque::new() }
    }

    /// Asks for room for a frame of `len` bytes; false: wait until [`Admission::poll_admitted`] names the connection.
    pub(crate) fn admit(&mut self, conn: ConnId, len: u64) -> bool {
        if len <= FREE_BYTES {
            return true;
        }
        if self.has_room(len) {
            self.used += len;
            return true;
        }
        self.waiting.push_back((conn, len));
        false
    }

    /// A frame of `len` bytes would not have to wait.
    pub(crate) fn has_room(&self, len: u64) -> bool {
        self.waiting.is_empty() && self.fits(len)
    }

    /// Bytes to be read at once from a connection, at most: while somebody waits for room, no more than a frame may have
    /// that never waits. What is read beyond the room there is has to be kept until there is some.
    pub(crate) fn read_most(&self) -> usize {
        if self.waiting.is_empty() {
            usize::MAX
        } else {
            FREE_READ_BYTES
        }
    }

    /// The frame has ended, one way or the other.
    pub(crate) fn release(&mut self, len: u64) {
        if len > FREE_BYTES {
            self.used = self.used.saturating_sub(len);
        }
    }

    /// The connection no longer waits.
    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.waiting.retain(|(other, _)| *other != conn);
    }

    /// The next connection for which there is room now, and the room that it has got.
    pub(crate) fn poll_admitted(&mut self) -> Option<(ConnId, u64)> {
        let &(conn, len) = self.waiting.front()?;
        if !self.fits(len) {
            return None;
        }
        self.waiting.pop_front();
        self.used += len;
        Some((conn, len))
    }

    fn fits(&self, len: u64) -> bool {
        self.used == 0 || self.used.saturating_add(len) <= self.budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_frames_wait_for_room_in_the_order_in_which_they_came() {
        let conn = |slot| ConnId::new(slot, 0);
        let mut admission = Admission::new(100_000);
        assert!(admission.admit(conn(0), 90_000));
        assert!(!admission.admit(conn(1), 20_000));
        assert!(!admission.admit(conn(2), 5_000), "no overtaking: the larger one came first");
        assert!(admission.admit(conn(3), FREE_BYTES), "small frames never wait");
        assert_eq!(admission.poll_admitted(), None);
        assert_eq!(admission.read_most(), 4_096, "what cannot be admitted is not read by the chunk either");
        admission.release(90_000);
        assert_eq!(admission.poll_admitted(), Some((conn(1), 20_000)));
        assert_eq!(admission.poll_admitted(), Some((conn(2), 5_000)));
        assert_eq!(admission.poll_admitted(), None);
        assert_eq!(admission.read_most(), usize::MAX);
        assert!(!admission.admit(conn(4), 1_000_000));
        admission.release(20_000);
        admission.release(5_000);
        assert_eq!(
            admission.poll_admitted(),
            Some((conn(4), 1_000_000)),
            "larger than the budget, but alone"
        );
    }
}

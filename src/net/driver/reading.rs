//! Whose turn it is to be read, and how much.

use super::{DialKey, Driver, Readiness};
use crate::time::{Duration, Instant};

/// Read at once until that was too little once: handshakes and small requests need no more.
pub(super) const FIRST_READ_BYTES: usize = 4 * 1024;
/// What a turn takes in from connections that have more than was asked for, all together: it is dealt with, by whom it is
/// for, while it is fresh. Those that had no turn come first in the next one, unless a timer may fire before: then they are
/// read a little.
const TURN_BYTES: usize = 256 * 1024;
/// More than reading takes in a turn.
const SOON: Duration = Duration::from_millis(10);

impl Driver {
    /// Reads from every connection in the next turn, whatever has been announced.
    pub(crate) fn look_at_everything(&mut self) {
        for (port, slot) in self.ports.iter().enumerate() {
            let conns = slot.iter().flat_map(|slot| slot.tokens.ids());
            conns.for_each(|conn| self.ready.push(DialKey { port, conn }, true));
        }
    }

    pub(super) fn read(&mut self, now: Instant) {
        if self.ready.is_empty() {
            return;
        }
        if self.buffer.is_empty() {
            self.buffer = std::vec![0; self.read_bytes.min(FIRST_READ_BYTES)];
        }
        let (mut left, mut is_late) = (TURN_BYTES, None);
        // What is read first is dealt with at this moment, and that may take its time.
        let mut moment = Some(now);
        for _ in 0..self.ready.len() {
            // Nobody is judged as silent with its bytes unread.
            if left == 0 && !*is_late.get_or_insert_with(|| self.is_anyone_due(now + SOON)) {
                break;
            }
            let Some((key, closed)) = self.ready.pop() else { break };
            let Some(slot) = self.ports.get(key.port).and_then(Option::as_ref) else { continue };
            let wanted = self.read_bytes * slot.port.reads_at_once();
            let most = if left == 0 { FIRST_READ_BYTES } else { wanted };
            let most = most.min(self.buffer.len());
            if let Readiness::More(read) =
                slot.port.read(moment.take(), key.conn, closed, &mut self.buffer[..most])
            {
                left = left.saturating_sub(read);
                if read == self.buffer.len() && read < wanted {
                    // Too little: from here on more is read at once.
                    self.buffer = std::vec![0; wanted];
                }
                self.ready.push(key, closed);
            }
        }
    }

    fn is_anyone_due(&self, now: Instant) -> bool {
        self.ports.iter().flatten().any(|slot| slot.is_due(now))
    }
}

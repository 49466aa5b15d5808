//! What the server may forget: the ids of calls that have had their outcome are gathered, and ride on a request or go
//! in a frame of their own.

use alloc::vec::Vec;

use super::{Outcome, Requester, Unknown};
use crate::session::Fate;
use crate::time::{Duration, Instant};
use crate::wire::{Frame, Ids, Settle};

impl Requester {
    /// The server may forget this call.
    pub(super) fn settle(&mut self, now: Instant, id: u64, at_once: bool) {
        Ids::push(&mut self.settled, id);
        if at_once || self.settled.len() >= SETTLE_AT * ID_BYTES {
            self.settle_now = true;
            self.dialer.wake();
        } else {
            self.settle_due.get_or_insert(now + SETTLE_AFTER);
        }
    }

    /// The request that settled ids rode on was begun: they are said. If it was not, they ride on the next one.
    pub(super) fn handle_ride(&mut self, id: u64, fate: Fate) {
        let Some((_, len)) = self.riding.take_if(|(carrier, _)| *carrier == id) else { return };
        if fate != Fate::Untouched {
            self.settled.drain(..len);
            if self.settled.is_empty() {
                self.settle_due = None;
                self.settle_now = false;
            }
        }
    }

    /// Tells a server that still knows the session which calls it has to keep. Those for which one frame has no room
    /// end here.
    pub(super) fn keep_only(&mut self, again: &mut Vec<u64>) {
        let room = self.dialer.session_mut().map_or(0, |session| session.peer_max_frame()) as usize;
        let most = room.saturating_sub(SETTLE_HEADER_BYTES) / ID_BYTES;
        for id in again.split_off(most.min(again.len())) {
            self.finish(id, Outcome::Unknown(Unknown::SessionLost));
        }
        let mut kept = Vec::new();
        again.iter().for_each(|id| Ids::push(&mut kept, *id));
        let ids = Ids::from_bytes(&kept).expect("built from whole ids");
        if let Some(session) = self.dialer.session_mut() {
            session.send_control(&Frame::Settle(Settle { all_but: true, ids }));
        }
    }

    /// Forgets what was to be settled: the record that it was about is gone.
    pub(super) fn unsettle(&mut self) {
        self.settled.clear();
        self.riding = None;
        self.settle_due = None;
        self.settle_now = false;
    }
}

/// Settled ids that are gathered before a frame of their own is sent for them.
pub(super) const SETTLE_AT: usize = 256;
/// How long they are gathered.
const SETTLE_AFTER: Duration = Duration::from_secs(1);
pub(super) const ID_BYTES: usize = size_of::<u64>();
/// Bytes of a Settle frame beside its ids, at most: the kind, the flag, and their length.
const SETTLE_HEADER_BYTES: usize = 1 + 1 + 5;

//! Turning a machine without a network: what it says is collected, what it hears is handed in.

use alloc::vec::Vec;

use crate::pattern::{Action, ConnId, Machine};
use crate::time::Instant;
use crate::wire::{Deframer, Frame};

/// A machine and what became of its actions.
pub(super) struct Turned<M> {
    pub(super) machine: M,
    pub(super) now: Instant,
    /// Dials that were asked for and not given up.
    pub(super) dials: Vec<ConnId>,
    /// Connections that the machine has closed.
    pub(super) closed: Vec<ConnId>,
    /// Connections that the machine has shut down.
    pub(super) shut_down: Vec<ConnId>,
    /// Connections with something to write.
    writable: Vec<ConnId>,
}

impl<M: Machine> Turned<M> {
    pub(super) fn new(machine: M) -> Self {
        let (dials, closed, shut_down, writable) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Turned { machine, now: Instant::ZERO, dials, closed, shut_down, writable }
    }

    /// Does what the machine wants.
    pub(super) fn act(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Dial { conn, .. } => self.dials.push(conn),
                Action::Transmit(conn) if !self.writable.contains(&conn) => self.writable.push(conn),
                Action::Transmit(_) | Action::Read(_) => {}
                Action::Shutdown(conn) => self.shut_down.push(conn),
                Action::Close(conn) => {
                    self.dials.retain(|dialled| *dialled != conn);
                    self.writable.retain(|writable| *writable != conn);
                    self.closed.push(conn);
                }
            }
        }
    }

    /// Takes at most `room` bytes of what the machine has to write there.
    pub(super) fn say(&mut self, conn: ConnId, mut room: usize) -> Vec<u8> {
        let mut said = Vec::new();
        self.act();
        while self.writable.contains(&conn) {
            let Some(chunk) = self.machine.poll_transmit(self.now, conn) else {
                self.writable.retain(|writable| *writable != conn);
                break;
            };
            assert!(!chunk.bytes().is_empty(), "there is something in a chunk");
            let taken = room.min(chunk.bytes().len());
            said.extend_from_slice(&chunk.bytes()[..taken]);
            room -= taken;
            let whole = taken == chunk.bytes().len();
            self.machine.handle_written(self.now, conn, chunk, taken);
            self.act();
            if !whole {
                break;
            }
        }
        self.act();
        said
    }

    /// Hands bytes in.
    pub(super) fn hear(&mut self, conn: ConnId, bytes: &[u8]) {
        self.machine.handle_bytes(self.now, conn, bytes);
        self.machine.handle_drained(self.now, conn);
        self.act();
    }

    /// Lets time pass, and every timer on the way fire.
    pub(super) fn until(&mut self, then: Instant) {
        self.act();
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= then) {
            self.now = self.now.max(due);
            self.machine.handle_timeout(self.now);
            let next = self.machine.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "a timer spins");
            self.act();
        }
        self.now = self.now.max(then);
    }

    pub(super) fn is_closed(&self, conn: ConnId) -> bool {
        self.closed.contains(&conn)
    }
}

/// Checks that a machine says frames and nothing else.
pub(super) fn check_frames(deframer: &mut Deframer, said: &[u8], limit: u32) {
    let mut input = said;
    while let Some(body) = deframer.next(&mut input, limit).expect("a machine keeps to its peer's limit") {
        Frame::decode(body).expect("a machine writes what can be read");
    }
}

/// A frame's bytes.
pub(super) fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(u32::MAX, &mut bytes).expect("small frames");
    bytes
}

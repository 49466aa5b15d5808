//! The write token: one thread writes to a port's connections at a time, and others append meanwhile.

use std::io::{self, Write};
use std::sync::Arc;

use mio::net::TcpStream;

use super::{how_it_ended, Guard, Handler, Port};
use crate::pattern::{ConnId, Machine};
use crate::time::Instant;

/// What writing to a connection came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrote {
    /// There was nothing to write, or it cannot be written now.
    Nothing,
    /// The kernel has no room for more, or the connection has ended.
    Part,
    /// There may be more, and the kernel has room for it.
    Whole,
}

impl<H: Handler> Port<H> {
    /// Works the backlog off, unless somebody else does; what takes more than a few chunks is left to the driver.
    pub(crate) fn flush(self: &Arc<Self>) {
        self.flush_at(None);
    }

    /// The same, at this moment if it is known.
    pub(super) fn flush_at(self: &Arc<Self>, now: Option<Instant>) {
        let mut state = self.lock();
        if state.flushing || state.backlog.is_empty() {
            return;
        }
        state.flushing = true;
        let begun = now.unwrap_or_else(|| self.now());
        let mut now = begun;
        // Twice round: whoever had but one chunk is not left to the driver.
        let mut left = (2 * state.backlog.len()).max(CHUNKS_PER_TURN);
        while left > 0 {
            let Some(conn) = state.backlog.pop_front() else { break };
            let wrote;
            (state, wrote) = self.write(state, conn, &mut now);
            // Whoever had nothing more has cost nothing.
            left -= usize::from(wrote != Wrote::Nothing);
            if wrote == Wrote::Whole {
                state.backlog.push_back(conn);
            }
        }
        state.flushing = false;
        let unfinished = !state.backlog.is_empty();
        state.flood.note_written(begun, now);
        state.gathered = 0;
        // A caller that waits for each call says nothing of what comes next.
        if core::mem::take(&mut state.has_begun) {
            state.busy_at = now;
        }
        if unfinished {
            state.flood.leave_to_driver();
        }
        self.settle(state);
        if unfinished {
            self.shared.wake();
        }
    }

    /// Writes one chunk, and moves `now` on by the time that it takes.
    fn write<'a>(
        &'a self,
        mut state: Guard<'a, H>,
        conn: ConnId,
        now: &mut Instant,
    ) -> (Guard<'a, H>, Wrote) {
        let inner = &mut *state;
        let Some(entry) = inner.conns.get_mut(&conn) else { return (state, Wrote::Nothing) };
        if entry.writing || !entry.writable {
            return (state, Wrote::Nothing);
        }
        let Some(chunk) = inner.machine.poll_transmit(*now, conn) else {
            self.take_actions(&mut state);
            return (state, Wrote::Nothing);
        };
        entry.writing = true;
        entry.became_writable = false;
        let stream = Arc::clone(&entry.stream);
        drop(state);
        let result = write_some(&stream, chunk.bytes());
        let mut state = self.lock();
        *now = self.now();
        let inner = &mut *state;
        let (written, ended) = match result {
            Ok(written) => (written, None),
            Err(error) => (0, Some(how_it_ended(&error))),
        };
        let all = written == chunk.bytes().len();
        inner.machine.handle_written(*now, conn, chunk, written);
        let mut wrote = Wrote::Part;
        if let Some(entry) = inner.conns.get_mut(&conn) {
            entry.writing = false;
            entry.writable = all || entry.became_writable;
            if let Some(how) = ended.or(entry.ended.take()) {
                inner.machine.handle_closed(*now, conn, how);
            } else if entry.writable {
                wrote = Wrote::Whole;
            }
        }
        self.take_actions(&mut state);
        (state, wrote)
    }
}

fn write_some(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match stream.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            result => return result,
        }
    }
}

/// Chunks that one connection may write before others have their turn.
const CHUNKS_PER_TURN: usize = 8;

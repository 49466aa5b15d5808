//! A port as its driver sees it: whatever its machine is, it reads, writes, keeps time and says what it wants.

use std::boxed::Box;
use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use mio::net::TcpStream;

use super::{how_it_ended, Handler, Port};
use crate::net::Clock;
use crate::pattern::{Action, ConnId, Machine, StreamEnd};
use crate::time::Instant;

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// There may be more than these bytes.
    More(usize),
    /// Nothing more until the kernel says so, or the machine wants none.
    Done,
}

/// A port as the driver sees it, whatever its machine is.
pub(crate) trait AnyPort: Send + Sync {
    /// A connection was accepted: what the machine calls it, if there is room.
    fn accepted(&self, peer: core::net::SocketAddr) -> Option<ConnId>;
    /// A dial succeeded or failed.
    fn dialled(&self, conn: ConnId, result: Result<(), crate::pattern::DialError>);
    fn adopt(&self, conn: ConnId, stream: Arc<TcpStream>);
    /// So many times what is read at once from others may be read from its connections.
    fn reads_at_once(&self) -> usize;
    /// Reads once, at this moment if it is known. `closed`: the kernel has said that the peer's side has ended, so read on
    /// until the end.
    fn read(&self, now: Option<Instant>, conn: ConnId, closed: bool, buffer: &mut [u8]) -> Readiness;
    /// The kernel has room for more.
    fn writable(&self, conn: ConnId);
    /// Fires timers if they are due.
    fn timers(&self, now: Instant);
    /// Somebody has had the machine since the last [`AnyPort::outlook`].
    fn is_touched(&self) -> bool;
    /// What the driver is to come back for.
    fn outlook(&self) -> Outlook;
    /// Writes what waits.
    fn flush_backlog(&self, now: Instant);
    /// The next thing that only the driver can do.
    fn poll_deferred(&self) -> Option<Action>;
    /// Shuts our side of a connection down.
    fn shutdown(&self, conn: ConnId);
    /// Lets a connection go.
    fn close(&self, conn: ConnId);
    /// The port can go. Then what its machine holds is gone already.
    fn is_over(&self) -> bool;
    /// Lets go of all that the port holds, whoever keeps the port itself: its driver has done with it.
    fn let_go(&self);
}

/// What a port wants its driver for, good until somebody has its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// Work waits: the driver must not sleep.
    pub(crate) is_busy: bool,
    /// When the next timer is due.
    pub(crate) next_timeout: Option<Instant>,
    /// The port can go, as far as can be seen.
    pub(crate) is_over: bool,
}

impl<H: Handler> AnyPort for Arc<Port<H>> {
    fn accepted(&self, peer: core::net::SocketAddr) -> Option<ConnId> {
        let now = self.now();
        let mut state = self.lock();
        let conn = state.machine.handle_accepted(now, peer);
        self.settle(state);
        conn
    }

    fn dialled(&self, conn: ConnId, result: Result<(), crate::pattern::DialError>) {
        let now = self.now();
        let mut state = self.lock();
        match result {
            Ok(()) => state.machine.handle_connected(now, conn),
            Err(error) => state.machine.handle_dial_failed(now, conn, error),
        }
        self.settle(state);
    }

    fn adopt(&self, conn: ConnId, stream: Arc<TcpStream>) {
        self.add_conn(conn, stream);
    }

    fn reads_at_once(&self) -> usize {
        // A bare socket has a buffer of its own, and there may be many.
        if H::IS_BARE {
            1
        } else {
            H::Machine::READS_AT_ONCE
        }
    }

    fn read(&self, now: Option<Instant>, conn: ConnId, closed: bool, buffer: &mut [u8]) -> Readiness {
        let (stream, most) = {
            let state = self.lock();
            match state.conns.get(&conn) {
                Some(entry) if state.machine.wants_read(conn) => {
                    (Arc::clone(&entry.stream), state.machine.read_most(conn).min(buffer.len()))
                }
                _ => return Readiness::Done,
            }
        };
        let buffer = &mut buffer[..most];
        let result = read_some(&stream, buffer);
        let now = now.unwrap_or_else(|| self.now());
        let mut state = self.lock();
        let mut readiness = Readiness::Done;
        match result {
            Ok(0) => self.ended(&mut state, now, conn, StreamEnd::Eof),
            Ok(read) => {
                if state.machine.wants_wall_clock(conn) {
                    state.machine.handle_wall_clock(Clock::wall_clock_ns());
                }
                state.machine.handle_bytes(now, conn, &buffer[..read]);
                if read == buffer.len() || closed {
                    readiness = Readiness::More(read);
                } else {
                    state.machine.handle_drained(now, conn);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                state.machine.handle_drained(now, conn)
            }
            Err(error) => self.ended(&mut state, now, conn, how_it_ended(&error)),
        }
        self.settle(state);
        readiness
    }

    fn let_go(&self) {
        let mut state = self.lock_quietly();
        let conns = core::mem::take(&mut state.conns);
        state.machine.release();
        drop(state);
        drop(conns);
        self.handler.handle_over();
    }

    fn writable(&self, conn: ConnId) {
        let mut state = self.lock();
        let inner = &mut *state;
        if let Some(entry) = inner.conns.get_mut(&conn) {
            entry.became_writable = true;
            if !entry.writable {
                entry.writable = !entry.writing;
                if entry.writable {
                    inner.backlog.push_back(conn);
                }
            }
        }
    }

    fn timers(&self, now: Instant) {
        let mut state = self.lock();
        if state.machine.poll_timeout().is_some_and(|due| due <= now) {
            state.machine.handle_wall_clock(Clock::wall_clock_ns());
            state.machine.handle_timeout(now);
            self.settle(state);
        }
    }

    fn is_touched(&self) -> bool {
        self.touched.load(Ordering::Relaxed)
    }

    fn outlook(&self) -> Outlook {
        let mut state = self.lock_quietly();
        self.touched.store(false, Ordering::Relaxed);
        if H::IS_BARE {
            // A turn writes all there is: when the next one comes, nobody knows.
            state.flood.leave_to_driver();
        }
        let waiting = !state.backlog.is_empty() && !state.flushing;
        let is_busy = (waiting && !state.flood.is_on()) || !state.deferred.is_empty();
        let attention = match state.flood.pay_attention() {
            Some(wait) => Some(self.now() + wait),
            // It is over, and something of it is left.
            None => waiting.then(|| self.now()),
        };
        let next_timeout = [attention, state.machine.poll_timeout()].into_iter().flatten().min();
        Outlook { is_busy, next_timeout, is_over: self.is_over_now(&state) }
    }

    fn flush_backlog(&self, now: Instant) {
        self.flush_at(Some(now));
    }

    fn poll_deferred(&self) -> Option<Action> {
        if !self.is_deferred.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.lock();
        let action = state.deferred.pop_front();
        self.is_deferred.store(!state.deferred.is_empty(), Ordering::Relaxed);
        action
    }

    fn shutdown(&self, conn: ConnId) {
        let stream = self.lock().conns.get(&conn).map(|entry| Arc::clone(&entry.stream));
        if let Some(stream) = stream {
            // It may be gone already; then the next read says so.
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
    }

    fn close(&self, conn: ConnId) {
        let gone = self.lock().conns.remove(&conn);
        drop(gone);
        self.lock().wake_watchers();
    }

    fn is_over(&self) -> bool {
        let state = self.lock_quietly();
        let is_over = self.is_over_now(&state);
        drop(state);
        if is_over {
            self.let_go();
        }
        is_over
    }
}

impl Outlook {
    /// There is something to be done at once.
    pub(crate) fn keeps_awake(self) -> bool {
        self.is_busy || self.is_over
    }
}

/// Ports in a driver.
pub(crate) type BoxedPort = Box<dyn AnyPort>;

fn read_some(mut stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

//! What tells one client from another, and the code that they share: frames and chunks between a driver and a role.

use alloc::vec::Vec;
use core::net::SocketAddr;

use super::super::received::Received;
use super::super::{earlier, Action, ConnId, DialError, Machine};
use super::{Dialer, Stage};
use crate::session::{Chunk, CloseReason, StreamEnd, Taken, Violation};
use crate::time::Instant;
use crate::wire::{Frame, Reply, Welcome};

/// What a role adds to the dialling side. The frames in a chunk are named by their tags.
pub(crate) trait ClientRole {
    /// See [`Machine::READS_AT_ONCE`].
    const READS_AT_ONCE: usize = 1;
    fn dialer(&self) -> &Dialer;
    fn dialer_mut(&mut self) -> &mut Dialer;
    /// The handshake is done. `before` is the epoch met before this one, if any.
    fn handle_established(&mut self, now: Instant, welcome: Welcome, before: Option<u64>);
    /// A frame of the role. The session is established.
    fn handle_frame(&mut self, now: Instant, frame: Frame<'_>) -> Result<(), CloseReason>;
    /// The same for a reply whose payload may be kept.
    fn handle_own_reply(
        &mut self,
        now: Instant,
        header: Reply,
        payload: Received,
    ) -> Result<(), CloseReason> {
        self.handle_frame(now, Frame::Reply { header, payload: &payload })
    }
    /// An empty buffer with room for `len` bytes, if one is left of what is over: for a frame that is coming.
    fn lend_buffer(&mut self, _len: usize) -> Option<Vec<u8>> {
        None
    }
    /// Takes frames off the front of the input that it can do without any more ado, whole ones within the limit. Whatever
    /// it leaves comes as a frame. The session is established. True if it took any.
    fn handle_front(&mut self, _input: &mut &[u8], _limit: u32) -> bool {
        false
    }
    /// The connection is gone; the frame `begun` was cut off.
    fn handle_lost(&mut self, now: Instant, begun: Option<u64>);
    /// Queues the control frames that are due. No chunk is out.
    fn render(&mut self, now: Instant);
    /// Appends what the role has to write.
    fn gather(&mut self, now: Instant, chunk: &mut Chunk);
    /// What became of the frames of a chunk; `lost`: its connection is gone already.
    fn handle_fates(&mut self, now: Instant, chunk: &Chunk, written: usize, lost: bool);
    fn handle_role_timeout(&mut self, now: Instant);
    fn poll_role_timeout(&self) -> Option<Instant>;
    /// Connection events have come about.
    fn after_input(&mut self);
    /// Whether the application is so far behind that reading pauses, and how far.
    fn lag(&self) -> Lag;
    /// Reading has been paused because of it.
    fn handle_paused(&mut self) {}
    /// A panic interrupted the machine: whatever waits for it ends.
    fn handle_poisoned_role(&mut self, now: Instant);
    /// Nobody drives it any more, but somebody may keep it: it lets go of memory that nothing is kept in.
    fn release_role(&mut self) {}
}

/// How far the application is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lag {
    /// It keeps up.
    None,
    /// Reading pauses until it has caught up.
    Behind,
    /// Not even the events of further connections would have room.
    FarBehind,
}

impl<R: ClientRole> Machine for R {
    const READS_AT_ONCE: usize = <R as ClientRole>::READS_AT_ONCE;

    fn handle_accepted(&mut self, _now: Instant, _peer: SocketAddr) -> Option<ConnId> {
        None
    }

    fn handle_connected(&mut self, now: Instant, conn: ConnId) {
        self.dialer_mut().handle_connected(now, conn);
    }

    fn handle_dial_failed(&mut self, now: Instant, conn: ConnId, error: DialError) {
        self.dialer_mut().handle_dial_failed(now, conn, error);
        self.after_input();
    }

    fn handle_bytes(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        let Some(session) = self.dialer_mut().session_of(conn) else { return };
        session.handle_heard();
        let mut deframer = session.lend_deframer();
        let mut input = bytes;
        let mut ended = false;
        let broken = loop {
            let Some(session) = self.dialer_mut().session_of(conn).filter(|session| !session.is_closing())
            else {
                break None;
            };
            let (limit, established) = (session.frame_limit(), session.is_established());
            if established && deframer.is_between_frames() {
                ended |= self.handle_front(&mut input, limit);
            }
            let is_copied = !deframer.is_between_frames();
            let frame = match deframer.next(&mut input, limit) {
                Ok(None) => break None,
                Ok(Some(body)) => Frame::decode(body),
                Err(error) => Err(error),
            };
            ended = true;
            let handled = match frame {
                Ok(Frame::Reply { header, payload }) if is_copied && established => {
                    let len = payload.len();
                    let buffer = deframer.take_copied().expect("its frame was copied");
                    let begin = buffer.len() - len;
                    self.dialer_mut().handle_served();
                    self.handle_own_reply(now, header, Received::behind(buffer, begin))
                }
                Ok(frame) => handle_frame(self, now, frame),
                Err(error) => Err(CloseReason::Protocol(Violation::Bytes(error))),
            };
            if let Err(reason) = handled {
                break Some(reason);
            }
        };
        if let Some(reason) = broken {
            // Without a word: a client's Bye would free its record.
            return lose(self, now, reason, true);
        }
        self.after_input();
        if let Some(buffer) = deframer.wanted_len().and_then(|len| self.lend_buffer(len)) {
            deframer.adopt(buffer);
        }
        let behind = self.lag() > Lag::None;
        if let Some(session) = self.dialer_mut().session_of(conn) {
            session.return_deframer(deframer);
            session.handle_decoded(now, ended);
            if behind && !session.is_paused() && !session.is_closing() {
                session.pause();
                self.handle_paused();
            }
        }
    }

    fn handle_drained(&mut self, now: Instant, conn: ConnId) {
        if let Some(session) = self.dialer_mut().session_of(conn) {
            session.handle_drained(now);
        }
    }

    fn handle_closed(&mut self, now: Instant, conn: ConnId, how: StreamEnd) {
        let dialer = self.dialer_mut();
        if dialer.lent.take_if(|lent| *lent == conn).is_some() {
            // The driver broke its contract and will never say what became of the chunk.
            dialer.wake();
        }
        if self.dialer_mut().session_of(conn).is_none() {
            return;
        }
        let reason = match how {
            StreamEnd::TimedOut => CloseReason::NotReading,
            how => CloseReason::StreamLost(how),
        };
        lose(self, now, reason, true);
    }

    fn handle_written(&mut self, now: Instant, conn: ConnId, chunk: Chunk, written: usize) {
        let dialer = self.dialer_mut();
        if dialer.lent.take_if(|lent| *lent == conn).is_none() {
            // Handed back twice, or after the loss: its fate has been decided.
            return;
        }
        let lost = dialer.session_of(conn).is_none();
        self.handle_fates(now, &chunk, written, lost);
        let dialer = self.dialer_mut();
        let buffer = match dialer.session_of(conn) {
            Some(session) => session.put_back(now, chunk, written),
            None => Some(chunk.into_buffer()),
        };
        if let Some(buffer) = buffer {
            dialer.buffers.put(buffer);
        }
        if lost {
            // The next connection has waited for this.
            dialer.wake();
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.handle_role_timeout(now);
        let far_behind = self.lag() == Lag::FarBehind;
        let dialer = self.dialer_mut();
        match &mut dialer.stage {
            Stage::Waiting { until } if now >= *until => match far_behind {
                true => dialer.stage = Stage::Held,
                false => dialer.dial(),
            },
            Stage::Open { session, .. } => {
                if let Some(reason) = session.handle_timeout(now) {
                    lose(self, now, reason, true);
                }
            }
            _ => {}
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let stage = match &self.dialer().stage {
            Stage::Idle | Stage::Held | Stage::Dialling { .. } => None,
            Stage::Waiting { until } => Some(*until),
            Stage::Open { session, .. } => session.poll_timeout().map(|(due, _)| due),
        };
        earlier(stage, self.poll_role_timeout())
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.dialer_mut().actions.pop_front()
    }

    fn poll_transmit(&mut self, now: Instant, conn: ConnId) -> Option<Chunk> {
        let dialer = self.dialer_mut();
        let session = dialer.session_of(conn)?;
        let ready = session.is_established() && !session.is_lent();
        if dialer.lent.is_some_and(|lent| lent != conn) {
            if let Stage::Open { idle, .. } = &mut dialer.stage {
                *idle = true;
            }
            return None;
        }
        if ready {
            self.render(now);
        }
        let dialer = self.dialer_mut();
        let buffer = dialer.buffers.take();
        let session = dialer.session_of(conn)?;
        let mut chunk = match session.take(buffer) {
            Err(buffer) => {
                dialer.buffers.put(buffer);
                return None;
            }
            Ok(Taken::Rest(chunk, buffer)) => {
                dialer.buffers.put(buffer);
                dialer.lent = Some(conn);
                return Some(chunk);
            }
            Ok(Taken::Fresh(chunk)) => chunk,
        };
        if session.is_established() && chunk.accepts_frames() {
            self.gather(now, &mut chunk);
        }
        if !chunk.bytes().is_empty() {
            self.dialer_mut().lent = Some(conn);
            return Some(chunk);
        }
        let dialer = self.dialer_mut();
        let Stage::Open { conn, session, idle, .. } = &mut dialer.stage else { return None };
        let buffer = session.untake(chunk);
        dialer.buffers.put(buffer);
        if session.is_closing() && session.takes_role_frames() {
            session.say_farewell();
            let conn = *conn;
            return self.poll_transmit(now, conn);
        }
        *idle = true;
        session.handle_nothing_to_write();
        if session.poll_shutdown(now) {
            dialer.actions.push_back(Action::Shutdown(*conn));
        }
        None
    }

    fn wants_read(&self, conn: ConnId) -> bool {
        match &self.dialer().stage {
            Stage::Open { conn: open, session, .. } => *open == conn && !session.is_paused(),
            _ => false,
        }
    }

    fn handle_wall_clock(&mut self, _wall_clock_ns: u64) {}

    fn handle_poisoned(&mut self, now: Instant) {
        lose(self, now, CloseReason::ByUs, true);
        self.dialer_mut().stop(now);
        self.handle_poisoned_role(now);
    }

    fn release(&mut self) {
        self.release_role();
    }
}

fn lose<R: ClientRole>(role: &mut R, now: Instant, reason: CloseReason, tell_driver: bool) {
    if let Some(begun) = role.dialer_mut().lose(now, reason, tell_driver) {
        role.handle_lost(now, begun);
    }
    role.after_input();
}

fn handle_frame<R: ClientRole>(role: &mut R, now: Instant, frame: Frame<'_>) -> Result<(), CloseReason> {
    let greeting = role.dialer_mut().session_mut().is_some_and(|session| session.is_greeting());
    match (greeting, frame) {
        (true, Frame::Welcome(welcome)) => {
            let before = role.dialer().epoch();
            role.dialer_mut().handle_welcome(now, welcome);
            role.handle_established(now, welcome, before);
            Ok(())
        }
        (true, Frame::Reject { code, text }) => Err(crate::session::said_no(code, text)),
        (_, Frame::Bye { code, text }) => Err(crate::session::said_bye(code, text)),
        (true, frame) => Err(CloseReason::Protocol(Violation::Unexpected { kind: frame.kind() })),
        (false, frame) => {
            role.dialer_mut().handle_served();
            role.handle_frame(now, frame)
        }
    }
}

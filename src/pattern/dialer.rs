//! The dialling side of a connection: dial, greet, notice the loss, wait, dial again.
//!
//! ```text
//!         start            connected              Welcome
//! Idle ----------> Dialling --------> greeting ------------> established
//!   ^                 ^  | failed        | lost, refused         | lost
//!   |  policy: never  |  v               v                       v
//!   +-------------- Waiting <------------+-----------------------+
//! ```
//!
//! [`Requester`](super::Requester) and [`Subscriber`](super::Subscriber) have one of these each, and share the code
//! that moves frames between it and a driver.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use super::{Action, Buffers, ConnId, Machine};
use crate::session::reconnect::{Backoff, Random, Reconnect};
use crate::session::{Chunk, CloseReason, Limits, Session, Side, StreamEnd, Taken, Violation};
use crate::time::{Duration, Instant};
use crate::wire::{ByeCode, Frame, Hello, Role, SessionId, Welcome};

/// Why a dial failed, as far as a driver can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No answer within the connect timeout.
    #[error("no answer in time")]
    TimedOut,
    /// No way there.
    #[error("unreachable")]
    Unreachable,
    /// The name has no address, or its resolver no answer.
    #[error("name not resolved")]
    Unresolved,
    /// The kernel connected the socket to itself (a port of the ephemeral range on which nobody listens).
    #[error("connected to itself")]
    SelfConnection,
    /// Out of file descriptors or memory for sockets.
    #[error("out of descriptors")]
    OutOfDescriptors,
    /// Anything else.
    #[error("connecting failed")]
    Failed,
}

/// Why a client waits before it dials again, or gives up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The dial failed.
    Dial(DialError),
    /// The connection ended.
    Closed(CloseReason),
}

/// What happened to a client's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// The handshake is done.
    Connected {
        /// Index of the address.
        address: usize,
        /// The server's life.
        epoch: u64,
    },
    /// An established connection ended.
    Disconnected {
        /// Why.
        reason: CloseReason,
    },
    /// The next dial comes after this wait.
    RetryIn {
        /// The wait.
        after: Duration,
        /// Counts the waits since the last success, from 1.
        attempt: u32,
        /// What went wrong.
        cause: Cause,
    },
    /// The policy says to dial no more.
    GaveUp {
        /// What went wrong.
        cause: Cause,
    },
}

#[derive(Debug)]
enum Stage {
    Idle,
    Waiting {
        until: Instant,
    },
    /// The wait is over, but the application is so far behind that another connection would only add to it.
    Held,
    Dialling {
        conn: ConnId,
    },
    Open {
        conn: ConnId,
        session: Box<Session>,
        served: bool,
        idle: bool,
    },
}

/// One client connection and its reconnects.
#[derive(Debug)]
pub(crate) struct Dialer {
    role: Role,
    session_id: SessionId,
    stream: Box<str>,
    limits: Limits,
    backoff: Backoff,
    random: Random,
    addresses: usize,
    address: usize,
    attempt: u64,
    stage: Stage,
    /// It was started and not stopped since.
    wanted: bool,
    /// The connection whose chunk is with the driver. It may be gone already; until the chunk is back, nothing is
    /// written on the next one, because the fate of the frames in it decides what is to be written there.
    lent: Option<ConnId>,
    epoch: Option<u64>,
    pub(crate) buffers: Buffers,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) events: VecDeque<ConnectionEvent>,
}

/// What a client machine is made with.
pub(crate) struct DialerSetup {
    pub(crate) role: Role,
    pub(crate) stream: Box<str>,
    pub(crate) session_id: SessionId,
    pub(crate) reconnect: Reconnect,
    pub(crate) addresses: usize,
    pub(crate) seed: u64,
}

impl Dialer {
    pub(crate) fn new(setup: DialerSetup, limits: Limits) -> Self {
        if let Err(error) = limits.validate() {
            panic!("invalid limits: {error}");
        }
        assert!(setup.addresses > 0, "a client needs an address");
        Dialer {
            role: setup.role,
            session_id: setup.session_id,
            stream: setup.stream,
            limits,
            backoff: Backoff::new(setup.reconnect),
            random: Random::new(setup.seed),
            addresses: setup.addresses,
            address: 0,
            attempt: 0,
            stage: Stage::Idle,
            wanted: false,
            lent: None,
            epoch: None,
            buffers: Buffers::default(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    // Commands.

    /// Dials at once, unless it is under way already. A connection that is still being closed is closed first.
    pub(crate) fn start(&mut self) {
        self.wanted = true;
        if self.is_idle() {
            self.dial();
        }
    }

    /// Takes another session id from the next dial on: the server was told that the old session is over.
    pub(crate) fn renew(&mut self, session_id: SessionId) {
        self.session_id = session_id;
    }

    /// Ends the connection in good order, and dials no more.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.wanted = false;
        match &mut self.stage {
            Stage::Idle => {}
            Stage::Waiting { .. } | Stage::Held => self.stage = Stage::Idle,
            Stage::Open { session, .. } if session.is_closing() => {}
            Stage::Open { conn, session, idle, .. } if session.is_established() => {
                session.close(now, ByeCode::Stopped, "the client is stopping");
                if core::mem::take(idle) {
                    self.actions.push_back(Action::Transmit(*conn));
                }
                // It may have been paused; a closing connection is read to its end.
                self.actions.push_back(Action::Read(*conn));
                self.note(ConnectionEvent::Disconnected { reason: CloseReason::ByUs });
            }
            Stage::Open { conn, .. } | Stage::Dialling { conn } => {
                self.actions.push_back(Action::Close(*conn));
                self.stage = Stage::Idle;
            }
        }
    }

    /// Announces that there is something to write, if there was nothing.
    pub(crate) fn wake(&mut self) {
        if let Stage::Open { conn, idle, .. } = &mut self.stage {
            if core::mem::take(idle) {
                self.actions.push_back(Action::Transmit(*conn));
            }
        }
    }

    /// The application has caught up: an attempt that was held back is made.
    pub(crate) fn release(&mut self) {
        if matches!(self.stage, Stage::Held) {
            self.dial();
        }
    }

    /// Tells what happened. While nobody looks, failed attempts replace each other, and in the end the oldest events
    /// go: this is what happened to a connection, not an account of anything.
    fn note(&mut self, event: ConnectionEvent) {
        use ConnectionEvent::RetryIn;
        if let (Some(RetryIn { .. }), RetryIn { .. }) = (self.events.back(), &event) {
            self.events.pop_back();
        }
        if self.events.len() >= MOST_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn dial(&mut self) {
        self.attempt += 1;
        let conn = ConnId::new(0, (self.attempt & 0xffff_ffff) as u32);
        self.stage = Stage::Dialling { conn };
        self.actions.push_back(Action::Dial { conn, address: self.address });
    }

    fn retry(&mut self, now: Instant, cause: Cause) {
        match self.backoff.next_wait(&mut self.random) {
            Some(after) => {
                self.stage = Stage::Waiting { until: now + after };
                self.note(ConnectionEvent::RetryIn { after, attempt: self.backoff.attempt(), cause });
            }
            None => {
                self.stage = Stage::Idle;
                self.note(ConnectionEvent::GaveUp { cause });
            }
        }
    }

    /// After a failure another address has its turn; after a loss the same one does, which is perhaps restarting.
    fn next_address(&mut self) {
        self.address = (self.address + 1) % self.addresses;
    }

    // What the world did.

    fn handle_connected(&mut self, now: Instant, conn: ConnId) {
        if !matches!(self.stage, Stage::Dialling { conn: dialled } if dialled == conn) {
            return;
        }
        self.backoff.handle_connected();
        let mut session = Box::new(Session::new(now, Side::Client, &self.limits));
        session.send_control(&Frame::Hello(Hello::new(
            self.role,
            self.session_id,
            self.attempt,
            self.limits.max_frame_bytes,
            &self.stream,
        )));
        self.stage = Stage::Open { conn, session, served: false, idle: false };
        self.actions.push_back(Action::Transmit(conn));
    }

    fn handle_dial_failed(&mut self, now: Instant, conn: ConnId, error: DialError) {
        if matches!(self.stage, Stage::Dialling { conn: dialled } if dialled == conn) {
            self.next_address();
            self.retry(now, Cause::Dial(error));
        }
    }

    /// The handshake is done.
    fn handle_welcome(&mut self, now: Instant, welcome: Welcome) {
        let Stage::Open { session, .. } = &mut self.stage else { return };
        session.establish(now, welcome.max_frame.max(crate::wire::HANDSHAKE_MAX_FRAME));
        let interval = Duration::from_millis(u64::from(welcome.heartbeat_interval_ms));
        session.expect_heartbeats_every(interval, self.limits.heartbeat_timeout);
        self.epoch = Some(welcome.epoch);
        self.note(ConnectionEvent::Connected { address: self.address, epoch: welcome.epoch });
    }

    /// The first frame after the handshake: the server does serve us.
    fn handle_served(&mut self) {
        if let Stage::Open { served, .. } = &mut self.stage {
            if !core::mem::replace(served, true) {
                self.backoff.handle_served();
            }
        }
    }

    /// The connection is over. Returns whether there was one, and the tag of a frame that was begun and cut off.
    fn lose(&mut self, now: Instant, reason: CloseReason, tell_driver: bool) -> Option<Option<u64>> {
        let Stage::Open { conn, .. } = &self.stage else { return None };
        if tell_driver {
            self.actions.push_back(Action::Close(*conn));
        }
        let Stage::Open { session, served, .. } = core::mem::replace(&mut self.stage, Stage::Idle) else {
            return None;
        };
        let begun = session.begun();
        if session.is_closing() {
            // It was stopped, and said so then. It may have been started again since.
            if self.wanted {
                self.dial();
            }
            return Some(begun);
        }
        if !served {
            self.next_address();
        }
        if session.is_established() {
            self.note(ConnectionEvent::Disconnected { reason: reason.clone() });
        }
        self.retry(now, Cause::Closed(reason));
        Some(begun)
    }

    // Looking.

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    pub(crate) fn is_established(&self) -> bool {
        matches!(&self.stage, Stage::Open { session, .. } if session.is_established())
    }

    /// Stopped, and nothing of ours waits to be written any more.
    pub(crate) fn is_flushed(&self) -> bool {
        match &self.stage {
            Stage::Open { session, idle, .. } => session.is_closing() && *idle && session.unsent_len() == 0,
            _ => true,
        }
    }

    /// The life of the server that was last met.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// A chunk is with the driver; its connection may be gone already.
    pub(crate) fn is_lent(&self) -> bool {
        self.lent.is_some()
    }

    /// The open connection.
    pub(crate) fn conn(&self) -> Option<ConnId> {
        match &self.stage {
            Stage::Open { conn, .. } => Some(*conn),
            _ => None,
        }
    }

    pub(crate) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.stage {
            Stage::Open { session, .. } => Some(session),
            _ => None,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn session_of(&mut self, conn: ConnId) -> Option<&mut Session> {
        match &mut self.stage {
            Stage::Open { conn: open, session, .. } if *open == conn => Some(session),
            _ => None,
        }
    }
}

/// What a role adds to the dialling side. The frames in a chunk are named by their tags.
pub(crate) trait ClientRole {
    fn dialer(&self) -> &Dialer;
    fn dialer_mut(&mut self) -> &mut Dialer;
    /// The handshake is done. `before` is the epoch met before this one, if any.
    fn handle_established(&mut self, now: Instant, welcome: Welcome, before: Option<u64>);
    /// A frame of the role. The session is established.
    fn handle_frame(&mut self, now: Instant, frame: Frame<'_>) -> Result<(), CloseReason>;
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

/// Connection events that wait for somebody to look.
const MOST_EVENTS: usize = 256;

fn lose<R: ClientRole>(role: &mut R, now: Instant, reason: CloseReason, tell_driver: bool) {
    if let Some(begun) = role.dialer_mut().lose(now, reason, tell_driver) {
        role.handle_lost(now, begun);
    }
    role.after_input();
}

/// Ends the connection for a reason that is told to the peer first, if there is anything to tell.
fn end<R: ClientRole>(role: &mut R, now: Instant, reason: CloseReason) {
    // A client's last words would keep it from dialling anew; the server learns as much from the reset.
    lose(role, now, reason, true);
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
        (true, Frame::Reject { code, text }) => Err(CloseReason::Rejected { code, text: Box::from(text) }),
        (_, Frame::Bye { code, text }) => Err(crate::session::said_bye(code, text)),
        (true, frame) => Err(CloseReason::Protocol(Violation::Unexpected { kind: frame.kind() })),
        (false, frame) => {
            role.dialer_mut().handle_served();
            role.handle_frame(now, frame)
        }
    }
}

impl<R: ClientRole> Machine for R {
    fn handle_accepted(&mut self, _now: Instant, _peer: core::net::SocketAddr) -> Option<ConnId> {
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
            let frame = match deframer.next(&mut input, session.frame_limit()) {
                Ok(None) => break None,
                Ok(Some(body)) => Frame::decode(body),
                Err(error) => Err(error),
            };
            ended = true;
            let handled = match frame {
                Ok(frame) => handle_frame(self, now, frame),
                Err(error) => Err(CloseReason::Protocol(Violation::Bytes(error))),
            };
            if let Err(reason) = handled {
                break Some(reason);
            }
        };
        if let Some(reason) = broken {
            return end(self, now, reason);
        }
        self.after_input();
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
        [stage, self.poll_role_timeout()].into_iter().flatten().min()
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
}

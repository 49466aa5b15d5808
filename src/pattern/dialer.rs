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

mod ceiling;
mod event;
mod role;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;

pub use ceiling::ClientCeiling;
pub use event::{Cause, ConnectionEvent, DialError};
pub(crate) use role::{ClientRole, Lag};

use super::{Action, Buffers, ConnId};
use crate::session::reconnect::{Backoff, Random, Reconnect};
use crate::session::{CloseReason, Limits, Session, Side};
use crate::time::Instant;
use crate::wire::{ByeCode, Frame, Hello, Role, SessionId, Welcome};

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
    limits: Arc<Limits>,
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
            limits: Arc::new(limits),
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
        session.expect_heartbeats_every(welcome.heartbeat_interval_ms);
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

/// Connection events that wait for somebody to look.
const MOST_EVENTS: usize = 256;

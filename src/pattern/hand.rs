//! A machine turned by hand, for tests that read as conversations: one clock, and at the other end of each connection
//! the test itself.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::{Action, ConnId, DialError, Machine, StreamEnd};
use crate::time::Instant;
use crate::wire::{ByeCode, Deframer, Frame};

/// A machine, its clock, and what it has said.
pub(super) struct Hand<M> {
    pub(super) machine: M,
    pub(super) now: Instant,
    lines: BTreeMap<ConnId, Line>,
    dialled: VecDeque<(ConnId, usize)>,
}

/// One connection as its other end sees it.
struct Line {
    deframer: Deframer,
    said: VecDeque<Vec<u8>>,
    /// Bytes that the kernel takes until it is told otherwise.
    room: usize,
    /// The machine has something to write, or may have.
    wanted: bool,
    shut_down: bool,
    closed: bool,
}

impl<M: Machine> Hand<M> {
    pub(super) fn new(machine: M) -> Self {
        Hand { machine, now: Instant::ZERO, lines: BTreeMap::new(), dialled: VecDeque::new() }
    }

    /// Lets time pass until then. Every timer on the way fires at its moment.
    pub(super) fn at(&mut self, millis: u64) -> &mut Self {
        let then = Instant::from_millis(millis);
        assert!(then >= self.now, "time does not go back");
        self.pump();
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= then) {
            self.now = self.now.max(due);
            self.fire();
        }
        self.now = then;
        self
    }

    /// The driver looks at the timers, due or not.
    pub(super) fn fire(&mut self) -> &mut Self {
        self.machine.handle_timeout(self.now);
        let next = self.machine.poll_timeout();
        assert!(
            next.is_none_or(|next| next > self.now),
            "{next:?} is in the past at {:?}: it spins",
            self.now
        );
        self.pump()
    }

    /// Does what the machine wants, and writes what the kernel takes.
    pub(super) fn pump(&mut self) -> &mut Self {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Dial { conn, address } => self.dialled.push_back((conn, address)),
                Action::Transmit(conn) => {
                    if let Some(line) = self.lines.get_mut(&conn) {
                        assert!(!line.wanted || line.closed, "announced twice");
                        line.wanted = true;
                    }
                    self.write(conn);
                }
                Action::Read(_) => {}
                Action::Shutdown(conn) => self.line(conn).shut_down = true,
                Action::Close(conn) => {
                    if let Some(line) = self.lines.get_mut(&conn) {
                        line.closed = true;
                    }
                    self.dialled.retain(|(dialled, _)| *dialled != conn);
                }
            }
        }
        self
    }

    fn write(&mut self, conn: ConnId) {
        while let Some(line) = self.lines.get(&conn).filter(|line| line.wanted) {
            let room = line.room;
            let Some(chunk) = self.machine.poll_transmit(self.now, conn) else {
                self.line(conn).wanted = false;
                return;
            };
            let taken = room.min(chunk.bytes().len());
            let line = self.line(conn);
            line.room -= taken;
            let mut input = &chunk.bytes()[..taken];
            while let Some(body) = line.deframer.next(&mut input, u32::MAX).expect("a machine writes frames")
            {
                line.said.push_back(body.to_vec());
            }
            let all = taken == chunk.bytes().len();
            self.machine.handle_written(self.now, conn, chunk, taken);
            if !all {
                return;
            }
        }
    }

    fn line(&mut self, conn: ConnId) -> &mut Line {
        self.lines.get_mut(&conn).expect("an id that the machine gave out")
    }

    // The world.

    /// Somebody connects.
    pub(super) fn accept(&mut self) -> Option<ConnId> {
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let conn = self.machine.handle_accepted(self.now, peer)?;
        self.open(conn);
        self.pump();
        Some(conn)
    }

    fn open(&mut self, conn: ConnId) {
        let line = Line {
            deframer: Deframer::new(),
            said: VecDeque::new(),
            room: usize::MAX,
            wanted: false,
            shut_down: false,
            closed: false,
        };
        self.lines.insert(conn, line);
    }

    /// The dial that the machine has asked for, and the address.
    pub(super) fn dialled(&mut self) -> Option<(ConnId, usize)> {
        self.pump();
        self.dialled.pop_front()
    }

    /// Whether the machine has asked for a dial.
    pub(super) fn dialled_now(&mut self) -> bool {
        self.pump();
        !self.dialled.is_empty()
    }

    /// The dial that the machine has asked for succeeds.
    pub(super) fn connect(&mut self) -> ConnId {
        let (conn, _) = self.dialled().expect("the machine dials");
        self.open(conn);
        self.machine.handle_connected(self.now, conn);
        self.pump();
        self.machine.handle_drained(self.now, conn);
        conn
    }

    /// The dial that the machine has asked for fails. Returns the address.
    pub(super) fn refuse(&mut self) -> usize {
        let (conn, address) = self.dialled().expect("the machine dials");
        self.machine.handle_dial_failed(self.now, conn, DialError::Refused);
        self.pump();
        address
    }

    pub(super) fn deliver(&mut self, conn: ConnId, frame: Frame<'_>) -> &mut Self {
        let mut bytes = Vec::new();
        frame.encode(u32::MAX, &mut bytes).unwrap();
        self.deliver_bytes(conn, &bytes)
    }

    pub(super) fn deliver_bytes(&mut self, conn: ConnId, bytes: &[u8]) -> &mut Self {
        self.machine.handle_bytes(self.now, conn, bytes);
        self.machine.handle_drained(self.now, conn);
        self.pump()
    }

    /// The connection is gone.
    pub(super) fn lose(&mut self, conn: ConnId, how: StreamEnd) -> &mut Self {
        self.line(conn).closed = true;
        self.machine.handle_closed(self.now, conn, how);
        self.pump()
    }

    /// From now on the kernel takes so many bytes.
    pub(super) fn room(&mut self, conn: ConnId, bytes: usize) -> &mut Self {
        self.line(conn).room = bytes;
        self.write(conn);
        self.pump()
    }

    // What it said and did.

    /// The next frame that it has said there.
    pub(super) fn heard(&mut self, conn: ConnId) -> Option<Vec<u8>> {
        self.pump();
        self.line(conn).said.pop_front()
    }

    pub(super) fn expect(&mut self, conn: ConnId, frame: Frame<'_>) -> &mut Self {
        let body = self.heard(conn).unwrap_or_else(|| panic!("silence instead of {frame:?}"));
        assert_eq!(Frame::decode(&body), Ok(frame));
        self
    }

    pub(super) fn expect_bye(&mut self, conn: ConnId, code: ByeCode) -> &mut Self {
        let body = self.heard(conn).expect("a Bye");
        assert!(matches!(Frame::decode(&body), Ok(Frame::Bye { code: said, .. }) if said == code));
        self
    }

    pub(super) fn expect_silence(&mut self, conn: ConnId) -> &mut Self {
        if let Some(body) = self.heard(conn) {
            panic!("unexpected {:?}", Frame::decode(&body));
        }
        self
    }

    pub(super) fn is_closed(&mut self, conn: ConnId) -> bool {
        self.pump();
        self.line(conn).closed
    }

    pub(super) fn is_shut_down(&mut self, conn: ConnId) -> bool {
        self.pump();
        self.line(conn).shut_down
    }
}

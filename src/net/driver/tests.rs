//! Whose turn it is to be read, and who makes way.

use std::boxed::Box;
use std::sync::Mutex;

use super::reading::FIRST_READ_BYTES;
use super::*;
use crate::net::port::AnyPort;
use crate::pattern::{ConnId, DialError};

/// A port with one connection that never runs dry.
struct Flooded {
    index: usize,
    due: Option<Instant>,
    reads: Reads,
}

impl AnyPort for Flooded {
    fn accepted(&self, _peer: SocketAddr) -> Option<ConnId> {
        None
    }
    fn dialled(&self, _conn: ConnId, _result: Result<(), DialError>) {}
    fn adopt(&self, _conn: ConnId, _stream: Arc<TcpStream>) {}
    fn reads_at_once(&self) -> usize {
        1
    }
    fn read(&self, _: Option<Instant>, _: ConnId, _closed: bool, buffer: &mut [u8]) -> Readiness {
        self.reads.lock().expect("no panic").push((self.index, buffer.len()));
        Readiness::More(buffer.len())
    }
    fn writable(&self, _conn: ConnId) {}
    fn timers(&self, _now: Instant) {}
    fn is_touched(&self) -> bool {
        false
    }
    fn outlook(&self) -> Outlook {
        Outlook { is_busy: false, next_timeout: self.due, is_over: false }
    }
    fn flush_backlog(&self, _: Instant) {}
    fn poll_deferred(&self) -> Option<Action> {
        None
    }
    fn shutdown(&self, _conn: ConnId) {}
    fn close(&self, _conn: ConnId) {}
    fn is_over(&self) -> bool {
        false
    }
    fn let_go(&self) {}
}

/// Which ports were read, in their order, and how much of each.
type Reads = Arc<Mutex<Vec<(usize, usize)>>>;

const PORTS: usize = 6;

/// A driver of flooded ports, the last of which has a timer.
fn flooded(due: Option<Instant>) -> (Driver, Reads) {
    let limits = Limits { read_bytes: 128 * 1024, ..Limits::default() };
    let mut driver = Driver::new(&limits, Keepalive::default()).expect("a poll handle");
    let reads = Reads::default();
    for index in 0..PORTS {
        let due = due.filter(|_| index == PORTS - 1);
        let at = driver.add(Box::new(Flooded { index, due, reads: Arc::clone(&reads) }), Vec::new());
        driver.ready.push(DialKey { port: at, conn: ConnId::new(0, 0) }, false);
    }
    (driver, reads)
}

#[test]
fn who_had_no_turn_is_read_first_in_the_next_one() {
    let (mut driver, reads) = flooded(None);
    let now = driver.shared.clock.now();
    let mut turn = || {
        driver.read(now);
        core::mem::take(&mut *reads.lock().expect("no panic"))
    };
    assert_eq!(turn(), [(0, 4 * 1024), (1, 128 * 1024), (2, 128 * 1024)]);
    assert_eq!(turn(), [(3, 128 * 1024), (4, 128 * 1024)]);
    assert_eq!(turn(), [(5, 128 * 1024), (0, 128 * 1024)]);
    assert_eq!(turn(), [(1, 128 * 1024), (2, 128 * 1024)]);
}

#[test]
fn everybody_is_read_a_little_before_a_timer_may_fire() {
    let now = Instant::from_micros(1_000_000);
    let (mut driver, reads) = flooded(Some(now));
    driver.read(now);
    let read: Vec<usize> = reads.lock().expect("no panic").iter().map(|(index, _)| *index).collect();
    assert_eq!(read, [0, 1, 2, 3, 4, 5]);
    let (_, behind) = *reads.lock().expect("no panic").last().expect("all were read");
    assert_eq!(behind, FIRST_READ_BYTES);
}

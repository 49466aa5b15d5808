//! When a command is written: by whom, and with what else.

use std::io::Write;
use std::net::TcpListener;

use super::super::{Driver, Keepalive};
use super::driven::AnyPort;
use super::*;
use crate::pattern::{CallOptions, Done, Limits, Random, Reconnect, Requester, SessionId};

fn requester() -> Requester {
    let (reconnect, random) = (Reconnect::default(), Random::new(1));
    let mut machine = Requester::new(Limits::default(), reconnect, 1, SessionId::default(), random);
    machine.start();
    machine
}

fn driver() -> Driver {
    Driver::new(&Limits::default(), Keepalive::default()).expect("a poll handle")
}

/// A port whose connection is open, with the driver's end and the peer's.
fn connected() -> (Arc<Port<Bare<Requester>>>, ConnId, std::net::TcpStream) {
    let port = Port::new(Bare::new(), requester(), Arc::clone(driver().shared()));
    let Some(Action::Dial { conn, .. }) = port.poll_deferred() else { panic!("it dials") };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("a dial");
    let (peer, _) = listener.accept().expect("a connection");
    port.adopt(conn, Arc::new(stream));
    // What it has to say at once is nobody's command.
    port.dialled(conn, Ok(()));
    (port, conn, peer)
}

fn options() -> CallOptions {
    CallOptions { deadline: Instant::NEVER, idempotent: false, fail_fast: false }
}

#[test]
fn a_burst_is_counted_from_the_end_of_the_last_write_whoever_made_it() {
    let (port, _, _peer) = connected();
    assert_eq!(port.lock().busy_at, Instant::ZERO);
    let before = port.now();
    port.command_at(Pace::Burst { exact: false }, |_, _| ());
    assert!(port.lock().busy_at >= before);
    let written = port.lock().busy_at;
    port.flush();
    assert_eq!(port.lock().busy_at, written, "there was nothing to write");
}

#[test]
fn who_waits_for_each_call_begins_no_burst() {
    let (port, _, _peer) = connected();
    port.command(|_, _| ());
    assert!(port.lock().backlog.is_empty(), "it was written");
    assert_eq!(port.lock().busy_at, Instant::ZERO);
}

/// A port whose machine is connected, and which has just written what had been begun.
fn established() -> (Arc<Port<Bare<Requester>>>, std::net::TcpStream) {
    let (port, conn, mut peer) = connected();
    port.flush();
    // Welcome: version 1, epoch 1, no record, a heartbeat each 10 000 ms, frames of 64 KiB.
    let header = [&[1, 0][..], &[1, 0, 0, 0, 0, 0, 0, 0], &[0], &[0x10, 0x27, 0, 0], &[0, 0, 1, 0]].concat();
    peer.write_all(&[&[20, 0, 0, 0, 2][..], &header].concat()).expect("an open connection");
    while !port.lock().machine.is_connected() {
        port.read(None, conn, false, &mut [0; 1_024]);
    }
    // Whatever the clock says, it is no moment ago.
    port.lock().busy_at = Instant::NEVER;
    (port, peer)
}

#[test]
fn enough_of_a_burst_are_written_however_soon_they_come() {
    let (port, _peer) = established();
    for n in 1..=MOST_GATHERED {
        port.command_at(Pace::Burst { exact: false }, |requester, now| {
            requester.call(now, "f", &[], options())
        })
        .expect("room");
        assert_eq!(port.lock().backlog.is_empty(), n == MOST_GATHERED, "the {n}th");
    }
    assert_eq!(port.lock().gathered, 0);
}

#[test]
fn calls_that_wait_to_be_written_together_share_a_moment_unless_they_have_to_be_exact() {
    let (port, _peer) = established();
    let begin = |exact| {
        port.lock().looked_at = Instant::ZERO;
        port.command_at(Pace::Burst { exact }, |requester, now| {
            requester.call(now, "f", &[], options()).expect("room");
            now
        })
    };
    assert_ne!(begin(false), Instant::ZERO, "nothing was waiting");
    assert_eq!(begin(false), Instant::ZERO);
    assert_ne!(begin(true), Instant::ZERO);
    let looks = (0..LOOK_AGAIN).filter(|_| begin(false) != Instant::ZERO).count();
    assert_eq!(looks, 1);
    port.flush();
    port.lock().gathered = 1;
    assert_ne!(begin(false), Instant::ZERO, "nothing was waiting any more");
}

/// Forgets how calls ended.
struct Forgetful;

impl Handler for Forgetful {
    type Machine = Requester;
    type Job = Done;

    fn collect(&self, machine: &mut Requester, jobs: &mut Vec<Done>) {
        jobs.extend(core::iter::from_fn(|| machine.poll_done()));
    }

    fn run(&self, _port: &Arc<Port<Self>>, jobs: &mut Vec<Done>) {
        jobs.clear();
    }

    fn is_over(&self, _machine: &Requester) -> bool {
        false
    }
}

#[test]
fn a_burst_goes_on_when_several_answers_have_come_together_and_not_after_one() {
    let port = Port::new(Forgetful, requester(), Arc::clone(driver().shared()));
    for calls in [1, 2] {
        port.command(|requester, now| {
            requester.start();
            for _ in 0..calls {
                requester.call(now, "f", &[], options()).expect("room");
            }
        });
        let before = port.now();
        port.command(|requester, now| requester.stop(now));
        let busy_at = port.lock().busy_at;
        assert_eq!(busy_at > Instant::ZERO && busy_at >= before, calls > 1);
    }
}

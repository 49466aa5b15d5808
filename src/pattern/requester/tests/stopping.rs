//! The end of a requester, and of every call with it.

use super::*;

#[test]
fn stop_ends_every_call_and_says_bye() {
    let (mut hand, conn) = connected();
    let sent = call(&mut hand, until(30_000));
    hand.heard(conn);
    hand.room(conn, 0);
    let unsent = call(&mut hand, until(30_000));
    let mut hand_now = hand.now;
    hand.machine.stop(hand_now);
    assert_eq!(
        ends(&mut hand),
        [unknown(sent, Unknown::Stopped), not_run(unsent, NotExecuted::ShuttingDown)]
    );
    assert_eq!(hand.machine.call(hand.now, "f", b"", until(9_000)), Err(NotExecuted::ShuttingDown));
    assert!(!hand.machine.is_flushed());
    hand.room(conn, usize::MAX);
    hand.expect(conn, Frame::Bye { code: ByeCode::Stopped, text: "the client is stopping" });
    assert!(hand.is_shut_down(conn) && hand.machine.is_flushed() && !hand.machine.is_closed());
    hand.lose(conn, StreamEnd::Eof);
    assert!(hand.machine.is_closed());
    hand.at(100_000);
    assert_eq!(hand.dialled(), None, "who is stopped does not dial");

    // It can be started again, also while the old connection is still being closed.
    hand.machine.start();
    let conn = welcome(&mut hand, EPOCH, false);
    hand_now = hand.now;
    hand.machine.stop(hand_now);
    hand.machine.start();
    assert_eq!(hand.dialled(), None, "one connection at a time");
    hand.lose(conn, StreamEnd::Eof);
    welcome(&mut hand, EPOCH, false);
    assert!(hand.machine.is_connected());
}

#[test]
fn stop_with_nothing_unsent_is_flushed_at_once_with_a_silent_peer_too() {
    let (mut hand, conn) = connected();
    let now = hand.now;
    hand.machine.stop(now);
    hand.pump();
    assert!(hand.machine.is_flushed());
    hand.at(199);
    assert!(!hand.is_closed(conn));
    hand.at(400);
    assert!(hand.is_closed(conn) && hand.machine.is_closed());
}

#[test]
fn stop_in_every_other_stage_is_over_at_once() {
    let mut hand = requester(Limits::default(), Reconnect::zmq(100, 100));
    let now = hand.now;
    hand.pump().machine.stop(now);
    assert!(hand.machine.is_closed() && hand.machine.is_flushed());
    assert_eq!(hand.dialled(), None, "dialling: the dial is given up");

    hand.machine.start();
    hand.refuse();
    hand.machine.stop(now);
    assert!(hand.at(1_000).machine.is_closed());
    assert_eq!(hand.dialled(), None, "waiting");

    hand.machine.start();
    let conn = hand.connect();
    let now = hand.now;
    hand.machine.stop(now);
    assert!(hand.is_closed(conn) && hand.machine.is_closed(), "greeting");
}

#[test]
fn each_call_ends_once_also_after_a_panic() {
    let (mut hand, conn) = connected();
    let id = call(&mut hand, until(30_000));
    let now = hand.now;
    hand.machine.handle_poisoned(now);
    assert_eq!(ends(&mut hand), [unknown(id, Unknown::Stopped)]);
    assert!(hand.is_closed(conn) && hand.machine.is_closed());
    hand.at(100_000);
    assert_eq!((ends(&mut hand), hand.dialled()), (vec![], None));
}

mod dialling;
mod large;
mod stopping;

use alloc::string::String;
use alloc::vec;

use super::super::hand::Hand;
use super::*;
use crate::pattern::{Cause, DialError, Machine, StreamEnd};
use crate::session::{Chunk, CloseReason, Violation};
use crate::time::Duration;
use crate::wire::{
    ByeCode, Frame, Heartbeat, Hello, Ids, Refusal, RejectCode, Reply, Request, Settle, Status, Welcome,
};

const EPOCH: u64 = 77;
const SESSION: SessionId = SessionId([7; 16]);

fn requester(limits: Limits, reconnect: Reconnect) -> Hand<Requester> {
    let mut hand = Hand::new(Requester::new(limits, reconnect, 2, SESSION, Random::new(1)));
    hand.machine.start();
    hand
}

/// A requester whose server has welcomed it.
fn connected() -> (Hand<Requester>, super::super::ConnId) {
    let mut hand = requester(Limits::default(), Reconnect::zmq(100, 100));
    let conn = welcome(&mut hand, EPOCH, false);
    (hand, conn)
}

fn welcome(hand: &mut Hand<Requester>, epoch: u64, known: bool) -> super::super::ConnId {
    let conn = hand.connect();
    assert!(hand.heard(conn).is_some_and(|hello| matches!(Frame::decode(&hello), Ok(Frame::Hello(_)))));
    hand.deliver(conn, Frame::Welcome(Welcome::new(epoch, known, 10_000, 100_000)));
    hand.deliver(conn, heartbeat());
    conn
}

fn heartbeat() -> Frame<'static> {
    Frame::Heartbeat(Heartbeat { wall_clock_ns: 0, position: 0 })
}

fn until(millis: u64) -> CallOptions {
    CallOptions { deadline: Instant::from_millis(millis), idempotent: false, fail_fast: false }
}

fn again_until(millis: u64) -> CallOptions {
    CallOptions { idempotent: true, ..until(millis) }
}

fn call(hand: &mut Hand<Requester>, options: CallOptions) -> u64 {
    let id = hand.machine.call(hand.now, "f", b"args", options).unwrap();
    hand.pump();
    id
}

fn request(id: u64, time_left_ms: u32, settled: &[u8]) -> Frame<'_> {
    let header = Request { id, time_left_ms, function: "f", settled: Ids::from_bytes(settled).unwrap() };
    Frame::Request { header, arguments: b"args" }
}

fn reply(id: u64, status: Status, payload: &[u8]) -> Frame<'_> {
    Frame::Reply { header: Reply { id, status }, payload }
}

fn ids(ids: &[u64]) -> Vec<u8> {
    let mut region = Vec::new();
    ids.iter().for_each(|id| Ids::push(&mut region, *id));
    region
}

fn ends(hand: &mut Hand<Requester>) -> Vec<(u64, Outcome)> {
    core::iter::from_fn(|| hand.machine.poll_done()).map(|done| (done.id, done.outcome)).collect()
}

fn events(hand: &mut Hand<Requester>) -> Vec<ConnectionEvent> {
    hand.pump();
    core::iter::from_fn(|| hand.machine.poll_connection_event()).collect()
}

fn unknown(id: u64, why: Unknown) -> (u64, Outcome) {
    (id, Outcome::Unknown(why))
}

fn not_run(id: u64, why: NotExecuted) -> (u64, Outcome) {
    (id, Outcome::NotExecuted(why))
}

#[test]
fn each_status_ends_the_call_in_its_own_way() {
    let (mut hand, conn) = connected();
    let failed = |kind| Outcome::Failed(Failure { kind, text: String::from("why") });
    let table = [
        (Status::Ok, Outcome::Value(b"why".to_vec().into())),
        (Status::Failed, failed(FailureKind::Function)),
        (Status::UnknownFunction, failed(FailureKind::UnknownFunction)),
        (Status::BadArguments, failed(FailureKind::BadArguments)),
        (Status::Panicked, failed(FailureKind::Panicked)),
        (Status::Dropped, failed(FailureKind::Dropped)),
        (Status::ResultNotKept, Outcome::ResultNotKept),
        (Status::NotExecuted(Refusal::Expired), Outcome::NotExecuted(NotExecuted::Expired)),
        (Status::NotExecuted(Refusal::Full), Outcome::NotExecuted(NotExecuted::Full)),
        (Status::NotExecuted(Refusal::ShuttingDown), Outcome::NotExecuted(NotExecuted::ShuttingDown)),
        (Status::NotExecuted(Refusal::Settled), Outcome::NotExecuted(NotExecuted::Withdrawn)),
    ];
    for (status, outcome) in table {
        let id = call(&mut hand, until(30_000));
        hand.deliver(conn, reply(id, status, b"why"));
        assert_eq!(ends(&mut hand), [(id, outcome)]);
    }
    assert_eq!((hand.machine.stats().in_flight, hand.machine.stats().held_bytes), (0, 0));
}

#[test]
fn replies_are_matched_by_id_in_any_order() {
    let (mut hand, conn) = connected();
    let (a, b) = (call(&mut hand, until(30_000)), call(&mut hand, until(30_000)));
    hand.expect(conn, request(a, 30_000, &[])).expect(conn, request(b, 30_000, &[]));
    hand.deliver(conn, reply(b, Status::Ok, b"b")).deliver(conn, reply(a, Status::Ok, b"a"));
    assert_eq!(
        ends(&mut hand),
        [(b, Outcome::Value(b"b".to_vec().into())), (a, Outcome::Value(b"a".to_vec().into()))]
    );
}

#[test]
fn timed_out_call_leaves_the_requester_usable_and_its_late_reply_reaches_nobody() {
    let (mut hand, conn) = connected();
    let slow = call(&mut hand, until(100));
    hand.expect(conn, request(slow, 100, &[]));
    hand.at(99);
    assert_eq!(ends(&mut hand), []);
    hand.at(100);
    assert_eq!(ends(&mut hand), [unknown(slow, Unknown::Deadline)]);
    hand.expect(conn, Frame::Settle(Settle { all_but: false, ids: Ids::from_bytes(&ids(&[slow])).unwrap() }));
    let next = call(&mut hand, until(1_000));
    hand.expect(conn, request(next, 900, &[]));
    hand.at(150).deliver(conn, reply(slow, Status::Ok, b"late"));
    assert_eq!((ends(&mut hand), hand.machine.stats().late_replies), (vec![], 1));
    hand.deliver(conn, reply(next, Status::Ok, b"42"));
    assert_eq!(ends(&mut hand), [(next, Outcome::Value(b"42".to_vec().into()))]);
}

#[test]
fn call_that_is_still_queued_at_its_deadline_is_never_sent() {
    let (mut hand, conn) = connected();
    hand.room(conn, 0);
    let kept = call(&mut hand, until(5_000));
    let late = call(&mut hand, until(100));
    hand.at(100);
    assert_eq!(ends(&mut hand), [not_run(late, NotExecuted::Expired)]);
    hand.at(200).room(conn, usize::MAX);
    hand.expect(conn, request(kept, 4_800, &[])).expect_silence(conn);
}

#[test]
fn begun_call_is_unknown_at_its_deadline_and_its_frame_is_finished_before_its_settle() {
    let (mut hand, conn) = connected();
    hand.room(conn, 9);
    let id = call(&mut hand, until(100));
    hand.at(100);
    assert_eq!(ends(&mut hand), [unknown(id, Unknown::Deadline)]);
    hand.at(150).room(conn, usize::MAX);
    hand.expect(conn, request(id, 100, &[]));
    hand.expect(conn, Frame::Settle(Settle { all_but: false, ids: Ids::from_bytes(&ids(&[id])).unwrap() }));
    hand.expect_silence(conn);
}

#[test]
fn unwritable_settle_does_not_make_the_timer_spin() {
    let (mut hand, conn) = connected();
    let id = call(&mut hand, until(100));
    hand.room(conn, 0).at(60_000);
    assert_eq!(ends(&mut hand), [unknown(id, Unknown::Deadline)]);
}

#[test]
fn settled_ids_ride_on_the_next_request_and_are_sent_after_a_second_without_one() {
    let (mut hand, conn) = connected();
    let a = call(&mut hand, until(30_000));
    hand.expect(conn, request(a, 30_000, &[])).deliver(conn, reply(a, Status::Ok, b""));
    let b = call(&mut hand, until(30_000));
    hand.expect(conn, request(b, 30_000, &ids(&[a]))).deliver(conn, reply(b, Status::Ok, b""));
    hand.at(999).expect_silence(conn).at(1_000);
    hand.expect(conn, Frame::Settle(Settle { all_but: false, ids: Ids::from_bytes(&ids(&[b])).unwrap() }));
    hand.at(10_000).expect_silence(conn);
}

#[test]
fn settled_ids_on_a_request_that_was_not_begun_are_not_lost() {
    let (mut hand, conn) = connected();
    let a = call(&mut hand, until(30_000));
    hand.expect(conn, request(a, 30_000, &[])).deliver(conn, reply(a, Status::Ok, b""));
    hand.room(conn, 0);
    let b = call(&mut hand, until(500));
    hand.at(500);
    assert_eq!(ends(&mut hand)[1..], [not_run(b, NotExecuted::Expired)]);
    let c = call(&mut hand, until(30_000));
    hand.room(conn, usize::MAX);
    hand.expect(conn, request(c, 29_500, &ids(&[a]))).expect_silence(conn);
}

#[test]
fn many_settled_ids_fit_into_the_smallest_frame_limit() {
    let mut hand = requester(Limits::default(), Reconnect::default());
    let conn = hand.connect();
    hand.heard(conn);
    hand.deliver(conn, Frame::Welcome(Welcome::new(EPOCH, false, 10_000, 4_096)));
    let all: Vec<u64> = (0..1_000).map(|_| call(&mut hand, until(30_000))).collect();
    while hand.heard(conn).is_some() {}
    hand.room(conn, 0);
    for id in &all {
        hand.deliver(conn, reply(*id, Status::Ok, b""));
    }
    let next = call(&mut hand, until(30_000));
    hand.room(conn, usize::MAX);
    let mut settled = Vec::new();
    while let Some(body) = hand.heard(conn) {
        assert!(body.len() <= 4_096);
        match Frame::decode(&body).unwrap() {
            Frame::Request { header, .. } => {
                assert_eq!(header.id, next);
                settled.extend(header.settled.iter());
            }
            Frame::Settle(settle) => settled.extend(settle.ids.iter()),
            frame => panic!("{frame:?}"),
        }
    }
    settled.sort_unstable();
    assert_eq!(settled, all);
}

#[test]
fn calls_made_while_disconnected_wait_for_the_connection_until_their_deadline() {
    let mut hand = requester(Limits::default(), Reconnect::zmq(100, 100));
    let (a, b) = (call(&mut hand, until(50)), call(&mut hand, until(5_000)));
    assert_eq!(hand.refuse(), 0);
    hand.at(50);
    assert_eq!(ends(&mut hand), [not_run(a, NotExecuted::NotConnected)]);
    let fail_fast = CallOptions { fail_fast: true, ..until(5_000) };
    assert_eq!(hand.machine.call(hand.now, "f", b"", fail_fast), Err(NotExecuted::NotConnected));
    hand.at(100);
    let conn = welcome(&mut hand, EPOCH, false);
    hand.expect(conn, request(b, 4_900, &[]));
}

#[test]
fn calls_in_flight_at_a_restart_are_unknown_and_unsent_ones_are_sent_on_the_next_connection() {
    let (mut hand, conn) = connected();
    let sent: Vec<u64> = (0..10).map(|_| call(&mut hand, until(30_000))).collect();
    (0..10).for_each(|_| drop(hand.heard(conn)));
    hand.room(conn, 0);
    let unsent: Vec<u64> = (0..3).map(|_| call(&mut hand, until(30_000))).collect();
    hand.lose(conn, StreamEnd::Reset);
    assert_eq!(ends(&mut hand), []);
    hand.at(100);
    let conn = welcome(&mut hand, EPOCH + 1, false);
    assert_eq!(ends(&mut hand), sent.iter().map(|id| unknown(*id, Unknown::Restarted)).collect::<Vec<_>>());
    for id in unsent {
        hand.expect(conn, request(id, 29_900, &[]));
    }
    hand.expect_silence(conn);
}

#[test]
fn calls_in_flight_are_unknown_after_the_resume_wait_or_with_the_session() {
    let (mut hand, conn) = connected();
    let (early, late) = (call(&mut hand, until(1_000)), call(&mut hand, until(30_000)));
    hand.lose(conn, StreamEnd::Eof);
    hand.at(999);
    assert_eq!(ends(&mut hand), []);
    hand.at(1_000);
    assert_eq!(ends(&mut hand), [unknown(early, Unknown::ConnectionLost)]);
    hand.at(2_999);
    assert_eq!(ends(&mut hand), []);
    hand.at(3_000);
    assert_eq!(ends(&mut hand), [unknown(late, Unknown::ConnectionLost)]);

    let (mut hand, conn) = connected();
    let id = call(&mut hand, until(30_000));
    hand.lose(conn, StreamEnd::Eof).at(100);
    welcome(&mut hand, EPOCH, false);
    assert_eq!(ends(&mut hand), [unknown(id, Unknown::SessionLost)]);
}

#[test]
fn call_that_was_cut_off_is_sent_again_because_it_cannot_have_started() {
    let (mut hand, conn) = connected();
    hand.room(conn, 5);
    let id = call(&mut hand, until(30_000));
    hand.lose(conn, StreamEnd::Reset).at(100);
    let conn = welcome(&mut hand, EPOCH + 1, false);
    hand.expect(conn, request(id, 29_900, &[]));
    assert_eq!(ends(&mut hand), []);
}

#[test]
fn idempotent_call_is_sent_again_under_a_new_id_before_those_that_came_after_it() {
    let (mut hand, conn) = connected();
    let (again, plain) = (call(&mut hand, again_until(30_000)), call(&mut hand, until(30_000)));
    hand.room(conn, 0);
    let unsent = call(&mut hand, until(30_000));
    hand.lose(conn, StreamEnd::Reset).at(100);
    let conn = welcome(&mut hand, EPOCH + 1, false);
    assert_eq!(ends(&mut hand), [unknown(plain, Unknown::Restarted)]);
    hand.expect(conn, request(unsent + 1, 29_900, &[])).expect(conn, request(unsent + 2, 29_900, &[]));
    hand.deliver(conn, reply(unsent + 2, Status::Ok, b"second"))
        .deliver(conn, reply(unsent + 1, Status::Ok, b"first"));
    assert_eq!(
        ends(&mut hand),
        [
            (unsent, Outcome::Value(b"second".to_vec().into())),
            (again, Outcome::Value(b"first".to_vec().into()))
        ]
    );
}

#[test]
fn idempotent_call_that_was_sent_once_is_never_called_not_executed() {
    // The new server refuses it, but the old one may have run it.
    let (mut hand, conn) = connected();
    let id = call(&mut hand, again_until(30_000));
    hand.lose(conn, StreamEnd::Reset).at(100);
    let conn = welcome(&mut hand, EPOCH + 1, false);
    hand.deliver(conn, reply(id + 1, Status::NotExecuted(Refusal::Full), b""));
    assert_eq!(ends(&mut hand), [unknown(id, Unknown::Restarted)]);

    // It is queued anew, and its deadline comes.
    let (mut hand, conn) = connected();
    let id = call(&mut hand, again_until(5_000));
    hand.lose(conn, StreamEnd::Reset).at(100);
    let conn = hand.connect();
    hand.deliver(conn, Frame::Welcome(Welcome::new(EPOCH, false, 10_000, 100_000)));
    hand.room(conn, 0).at(5_000);
    assert_eq!(ends(&mut hand), [unknown(id, Unknown::Deadline)]);

    // Nobody comes back.
    let (mut hand, conn) = connected();
    let id = call(&mut hand, again_until(5_000));
    hand.lose(conn, StreamEnd::Reset).at(4_999);
    assert_eq!(ends(&mut hand), []);
    hand.at(5_000);
    assert!(matches!(ends(&mut hand)[..], [(done, Outcome::Unknown(_))] if done == id));
}

#[test]
fn known_session_settles_all_but_what_it_sends_again_before_new_calls() {
    let (mut hand, conn) = connected();
    let (a, b) = (call(&mut hand, until(30_000)), call(&mut hand, until(30_000)));
    hand.lose(conn, StreamEnd::Reset).at(50);
    let c = call(&mut hand, until(30_050));
    hand.at(100);
    let conn = hand.connect();
    hand.heard(conn);
    hand.deliver(conn, Frame::Welcome(Welcome::new(EPOCH, true, 10_000, 100_000)));
    hand.expect(conn, Frame::Settle(Settle { all_but: true, ids: Ids::from_bytes(&ids(&[a, b])).unwrap() }));
    hand.expect(conn, request(a, 29_900, &[])).expect(conn, request(b, 29_900, &[]));
    hand.expect(conn, request(c, 29_950, &[])).expect_silence(conn);
    // A server that still has the record knows what it did not execute.
    hand.deliver(conn, reply(a, Status::NotExecuted(Refusal::Expired), b""))
        .deliver(conn, reply(b, Status::Ok, b"b"));
    assert_eq!(
        ends(&mut hand),
        [not_run(a, NotExecuted::Expired), (b, Outcome::Value(b"b".to_vec().into()))]
    );

    // An empty list is said as well: the server may forget all it has.
    hand.deliver(conn, reply(c, Status::Ok, b""));
    hand.lose(conn, StreamEnd::Reset).at(200);
    let conn = hand.connect();
    hand.heard(conn);
    hand.deliver(conn, Frame::Welcome(Welcome::new(EPOCH, true, 10_000, 100_000)));
    hand.expect(conn, Frame::Settle(Settle { all_but: true, ids: Ids::default() })).expect_silence(conn);
}

#[test]
fn fate_that_comes_after_the_loss_is_right_and_the_next_connection_waits_for_it() {
    for (taken, sent_again) in [(0, 2), (30, 1), (1_000, 0)] {
        let (mut hand, conn) = connected();
        let calls = [
            hand.machine.call(hand.now, "f", b"args", until(30_000)).unwrap(),
            hand.machine.call(hand.now, "f", b"args", until(30_000)).unwrap(),
        ];
        let chunk = hand.machine.poll_transmit(hand.now, conn).unwrap();
        // The machine itself gives the connection up while the driver is writing.
        hand.machine.handle_bytes(hand.now, conn, &[0, 0, 0, 0]);
        hand.at(100);
        let next = hand.connect();
        hand.expect_silence(next);
        assert!(hand.machine.poll_transmit(hand.now, next).is_none());
        let taken = chunk.bytes().len().min(taken);
        hand.machine.handle_written(hand.now, conn, chunk, taken);
        hand.pump();
        assert!(hand.heard(next).is_some(), "Hello");
        hand.deliver(next, Frame::Welcome(Welcome::new(EPOCH + 1, false, 10_000, 100_000)));
        for id in &calls[2 - sent_again..] {
            hand.expect(next, request(*id, 29_900, &[]));
        }
        let lost = calls[..2 - sent_again].iter().map(|id| unknown(*id, Unknown::Restarted));
        assert_eq!(ends(&mut hand), lost.collect::<Vec<_>>());
        hand.expect_silence(next);
    }
}

#[test]
fn chunk_that_comes_back_twice_or_never_does_no_harm() {
    let (mut hand, conn) = connected();
    let id = call(&mut hand, until(30_000));
    hand.machine.handle_written(hand.now, conn, Chunk::default(), 0);
    hand.machine.call(hand.now, "f", b"args", until(30_000)).unwrap();
    let _lost = hand.machine.poll_transmit(hand.now, conn).unwrap();
    hand.lose(conn, StreamEnd::Broken).at(100);
    welcome(&mut hand, EPOCH + 1, false);
    assert_eq!(ends(&mut hand), [unknown(id, Unknown::Restarted), unknown(id + 1, Unknown::Restarted)]);
}

#[test]
fn bounds_refuse_at_once_and_nothing_is_sent() {
    let mut limits = Limits::default();
    limits.max_in_flight = 2;
    limits.held_requests_bytes = 10;
    limits.max_frame_bytes = 5_000;
    let mut hand = requester(limits, Reconnect::default());
    let mut refused = |function: &str, arguments: &[u8], options| {
        hand.machine.call(hand.now, function, arguments, options).unwrap_err()
    };
    assert_eq!(refused("", b"", until(1)), NotExecuted::BadName { len: 0, limit: 255 });
    assert_eq!(refused(&"f".repeat(256), b"", until(1)), NotExecuted::BadName { len: 256, limit: 255 });
    assert_eq!(refused("f", &[0; 4_984], until(1)), NotExecuted::TooLong { len: 5_001, limit: 5_000 });
    assert_eq!(refused("f", b"", until(0)), NotExecuted::Expired);
    assert_eq!(refused("f", b"elevenbytes", until(1)), NotExecuted::Full);
    call(&mut hand, until(1));
    call(&mut hand, until(1));
    assert_eq!(hand.machine.call(hand.now, "f", b"", until(1)), Err(NotExecuted::Full));
    hand.at(1);
    assert_eq!(ends(&mut hand).len(), 2);
    assert!(hand.machine.call(hand.now, "f", b"", until(2)).is_ok());
    assert_eq!(hand.machine.stats().refused, 6);
}

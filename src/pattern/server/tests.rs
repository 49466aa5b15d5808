mod gate;
mod streams;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;

use super::super::hand::Hand;
use super::super::Machine;
use super::*;
use crate::session::{LimitReached, StreamEnd, Violation};
use crate::wire::{
    self, Frame, Gap, Heartbeat, Hello, Ids, Kind, Lost, Prefixes, Publish, RejectCode, Reply, Request,
    Settle, Start, Subscribe, Subscribed, Unsubscribe, Welcome,
};

const EPOCH: u64 = 77;

fn server(limits: Limits) -> Hand<Server> {
    Hand::new(Server::new(Roles::Both, limits, EPOCH, 1))
}

fn hello(role: Role, session: u8, attempt: u64) -> Frame<'static> {
    Frame::Hello(Hello::new(role, SessionId([session; 16]), attempt, 1_000_000, ""))
}

fn welcome() -> Frame<'static> {
    Frame::Welcome(Welcome::new(EPOCH, false, 10_000, 16 * 1024 * 1024))
}

fn welcome_back() -> Frame<'static> {
    Frame::Welcome(Welcome::new(EPOCH, true, 10_000, 16 * 1024 * 1024))
}

/// A dial of a session that was here before and is remembered.
fn back(hand: &mut Hand<Server>, role: Role, session: u8, attempt: u64) -> ConnId {
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello(role, session, attempt)).expect(conn, welcome_back());
    if role == Role::Requester {
        hand.expect(conn, heartbeat(0));
    }
    conn
}

fn settle_all_but(hand: &mut Hand<Server>, conn: ConnId, kept: &[u64]) {
    let mut region = vec![];
    kept.iter().for_each(|id| Ids::push(&mut region, *id));
    let ids = Ids::from_bytes(&region).unwrap();
    hand.deliver(conn, Frame::Settle(Settle { all_but: true, ids }));
}

fn heartbeat(position: u64) -> Frame<'static> {
    Frame::Heartbeat(Heartbeat { wall_clock_ns: 0, position })
}

fn requester(hand: &mut Hand<Server>, session: u8) -> ConnId {
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello(Role::Requester, session, 1));
    hand.expect(conn, welcome()).expect(conn, heartbeat(0)).expect_silence(conn);
    conn
}

fn subscriber(hand: &mut Hand<Server>, session: u8, prefixes: &[&str]) -> ConnId {
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello(Role::Subscriber, session, 1)).expect(conn, welcome()).expect_silence(conn);
    let position = hand.machine.head();
    subscribe(hand, conn, 1, Some(Start::Fresh), prefixes);
    hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 1, position })).expect_silence(conn);
    conn
}

fn subscribe(hand: &mut Hand<Server>, conn: ConnId, ticket: u64, start: Option<Start>, prefixes: &[&str]) {
    let region = region(prefixes);
    let prefixes = Prefixes::from_bytes(&region).unwrap();
    hand.deliver(conn, Frame::Subscribe(Subscribe { ticket, snapshot: false, start, prefixes }));
}

fn unsubscribe(hand: &mut Hand<Server>, conn: ConnId, ticket: u64, prefixes: &[&str]) {
    let region = region(prefixes);
    let prefixes = Prefixes::from_bytes(&region).unwrap();
    hand.deliver(conn, Frame::Unsubscribe(Unsubscribe { ticket, prefixes }));
}

fn region(prefixes: &[&str]) -> Vec<u8> {
    let mut region = Vec::new();
    prefixes.iter().for_each(|prefix| Prefixes::push(&mut region, prefix).unwrap());
    region
}

fn request(hand: &mut Hand<Server>, conn: ConnId, id: u64, time_left_ms: u32, settled: &[u64]) {
    let mut region = Vec::new();
    settled.iter().for_each(|id| Ids::push(&mut region, *id));
    let settled = Ids::from_bytes(&region).unwrap();
    let header = Request { id, time_left_ms, function: "f", settled };
    hand.deliver(conn, Frame::Request { header, arguments: b"args" });
}

fn settle(hand: &mut Hand<Server>, conn: ConnId, all_but: bool, ids: &[u64]) {
    let mut region = Vec::new();
    ids.iter().for_each(|id| Ids::push(&mut region, *id));
    hand.deliver(conn, Frame::Settle(Settle { all_but, ids: Ids::from_bytes(&region).unwrap() }));
}

fn reply(id: u64, status: Status, payload: &[u8]) -> Frame<'_> {
    Frame::Reply { header: Reply { id, status }, payload }
}

fn publish<'a>(seq: u64, topic: &'a str, data: &'a [u8]) -> Frame<'a> {
    Frame::Publish { header: Publish { seq, topic }, data }
}

fn work(hand: &mut Hand<Server>) -> Vec<Ticket> {
    let events = core::iter::from_fn(|| hand.machine.poll_event());
    events
        .filter_map(|event| match event {
            ServerEvent::Work(work) => Some(work.ticket),
            _ => None,
        })
        .collect()
}

fn left(hand: &mut Hand<Server>) -> Vec<(ConnId, CloseReason)> {
    hand.pump();
    let events = core::iter::from_fn(|| hand.machine.poll_event());
    events
        .filter_map(|event| match event {
            ServerEvent::Left { conn, reason, .. } => Some((conn, reason)),
            _ => None,
        })
        .collect()
}

/// Checks that a bystander of either role is served as if nothing had happened.
fn expect_undisturbed(hand: &mut Hand<Server>, calls: ConnId, follows: ConnId) {
    let seq = hand.machine.publish("by.stander", b"!").unwrap().seq;
    hand.expect(follows, publish(seq, "by.stander", b"!")).expect_silence(follows);
    request(hand, calls, seq + 1, 1_000, &[]);
    let ticket = *work(hand).last().unwrap();
    let now = hand.now;
    assert_eq!(hand.machine.start(now, ticket).as_deref(), Ok(&b"args"[..]));
    assert!(hand.machine.reply(ticket, Status::Ok, b"ok"));
    hand.expect(calls, reply(seq + 1, Status::Ok, b"ok")).expect_silence(calls);
    settle(hand, calls, false, &[seq + 1]);
}

#[test]
fn call_is_queued_started_and_answered_once() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 1, 1_000, &[]);
    let [ticket] = work(&mut hand)[..] else { panic!("one call") };
    let now = hand.now;
    assert_eq!(hand.machine.start(now, ticket).as_deref(), Ok(&b"args"[..]));
    assert_eq!(hand.machine.start(now, ticket), Err(NotStarted::Started));
    assert!(hand.machine.reply(ticket, Status::Ok, b"result"));
    assert!(!hand.machine.reply(ticket, Status::Ok, b"second"));
    hand.expect(conn, reply(1, Status::Ok, b"result")).expect_silence(conn);
    assert!(hand.machine.stats().replier.result_bytes > 0, "kept until it is settled");
    settle(&mut hand, conn, false, &[1]);
    let stats = hand.machine.stats().replier;
    assert_eq!((stats.result_bytes, stats.queued_bytes, stats.dropped_results), (0, 0, 1));
}

#[test]
fn expired_call_does_not_start() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 1, 100, &[]);
    let ticket = work(&mut hand)[0];
    hand.at(100);
    let now = hand.now;
    assert_eq!(hand.machine.start(now, ticket), Err(NotStarted::Expired));
    hand.expect(conn, reply(1, Status::NotExecuted(Refusal::Expired), b""));
    assert_eq!(hand.machine.start(now, ticket), Err(NotStarted::Started));
}

#[test]
fn call_settled_while_queued_never_runs_and_one_settled_while_running_has_its_result_dropped() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 1, 1_000, &[]);
    request(&mut hand, conn, 2, 1_000, &[]);
    let [queued, running] = work(&mut hand)[..] else { panic!("two calls") };
    let now = hand.now;
    hand.machine.start(now, running).unwrap();
    settle(&mut hand, conn, false, &[1, 2]);
    assert_eq!(hand.machine.start(now, queued), Err(NotStarted::Withdrawn));
    assert!(!hand.machine.reply(running, Status::Ok, b"result"));
    hand.expect_silence(conn);
    let stats = hand.machine.stats().replier;
    assert_eq!((stats.withdrawn, stats.dropped_results, stats.queued_bytes), (1, 1, 0));
}

#[test]
fn settled_ids_are_applied_before_the_request_that_they_ride_on_and_all_but_keeps_the_rest() {
    let mut limits = Limits::default();
    limits.max_in_flight = 2;
    let mut hand = server(limits);
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 1, 1_000, &[]);
    request(&mut hand, conn, 2, 1_000, &[]);
    request(&mut hand, conn, 3, 1_000, &[1]);
    hand.expect_silence(conn);
    settle(&mut hand, conn, true, &[3]);
    request(&mut hand, conn, 4, 1_000, &[]);
    hand.expect_silence(conn);
    assert_eq!(work(&mut hand).len(), 4);
}

#[test]
fn full_table_refuses_new_calls_and_evicts_none_and_who_goes_on_is_put_out() {
    let mut limits = Limits::default();
    limits.max_in_flight = 2;
    let mut hand = server(limits);
    let (conn, bystander, follower) =
        (requester(&mut hand, 1), requester(&mut hand, 2), subscriber(&mut hand, 3, &["by"]));
    request(&mut hand, conn, 1, 1_000, &[]);
    request(&mut hand, conn, 2, 1_000, &[]);
    hand.expect_silence(conn);
    for id in [3, 4] {
        request(&mut hand, conn, id, 1_000, &[]);
        hand.expect(conn, reply(id, Status::NotExecuted(Refusal::Full), b""));
    }
    assert_eq!(work(&mut hand).len(), 2);
    request(&mut hand, conn, 5, 1_000, &[]);
    hand.expect(
        conn,
        Frame::Bye { code: ByeCode::Protocol, text: "more than twice the limit of 2 calls in flight" },
    );
    expect_undisturbed(&mut hand, bystander, follower);
    assert_eq!(hand.machine.stats().replier.queued_bytes, 0);
}

#[test]
fn argument_and_result_budgets_refuse_instead_of_growing() {
    let mut limits = Limits::default();
    limits.queued_arguments_bytes = 540;
    limits.results_bytes = 50;
    let mut hand = server(limits);
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 1, 1_000, &[]);
    let now = hand.now;
    let ticket = work(&mut hand)[0];
    request(&mut hand, conn, 2, 1_000, &[]);
    hand.expect(conn, reply(2, Status::NotExecuted(Refusal::Full), b""));
    settle(&mut hand, conn, false, &[2]);
    hand.machine.start(now, ticket).unwrap();
    assert!(hand.machine.reply(ticket, Status::Ok, &[0; 51]));
    hand.expect(conn, reply(1, Status::ResultNotKept, b""));
    request(&mut hand, conn, 3, 1_000, &[1]);
    let ticket = work(&mut hand)[0];
    hand.machine.start(now, ticket).unwrap();
    // Of a refusal only the words are lost: it is no lost result, and the call was not executed after all.
    hand.machine.reply(ticket, Status::Failed, &[b'x'; 51]);
    hand.expect(conn, reply(3, Status::Failed, b""));
    request(&mut hand, conn, 4, 1, &[3]);
    let ticket = work(&mut hand)[0];
    hand.machine.start(now, ticket).unwrap();
    hand.machine.reply(ticket, Status::Ok, &[0; 50]);
    hand.expect(conn, reply(4, Status::Ok, &[0; 50]));
    request(&mut hand, conn, 5, 1_000, &[]);
    hand.expect(conn, reply(5, Status::NotExecuted(Refusal::Full), b""));
}

#[test]
fn result_above_the_clients_frame_limit_is_not_kept() {
    let mut hand = server(Limits::default());
    let conn = hand.accept().unwrap();
    hand.deliver(conn, Frame::Hello(Hello::new(Role::Requester, SessionId::default(), 1, 4_096, "")));
    hand.expect(conn, welcome()).expect(conn, heartbeat(0));
    request(&mut hand, conn, 1, 1_000, &[]);
    let ticket = work(&mut hand)[0];
    let now = hand.now;
    hand.machine.start(now, ticket).unwrap();
    hand.machine.reply(ticket, Status::Ok, &[0; 4_096]);
    hand.expect(conn, reply(1, Status::ResultNotKept, b""));
}

#[test]
fn large_reply_is_written_alone_and_not_kept_once_it_is_begun() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    hand.room(conn, 0);
    for id in 1..=3 {
        request(&mut hand, conn, id, 1_000, &[]);
    }
    let now = hand.now;
    for (ticket, len) in work(&mut hand).into_iter().zip([10, 200_000, 20]) {
        hand.machine.start(now, ticket).unwrap();
        hand.machine.reply(ticket, Status::Ok, &vec![7; len]);
    }
    hand.room(conn, 0).room(conn, 40).room(conn, 0).room(conn, 1);
    assert!(hand.machine.stats().replier.result_bytes < 100);
    hand.room(conn, 0).room(conn, 99_999).room(conn, usize::MAX);
    hand.expect(conn, reply(1, Status::Ok, &[7; 10]));
    hand.expect(conn, reply(2, Status::Ok, &vec![7; 200_000]));
    hand.expect(conn, reply(3, Status::Ok, &[7; 20])).expect_silence(conn);
    settle(&mut hand, conn, false, &[1, 2, 3]);
    assert_eq!(hand.machine.stats().replier.result_bytes, 0);
    assert_eq!(hand.machine.rest_bytes, 0);
}

#[test]
fn who_settles_without_reading_does_not_make_anything_grow() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    hand.room(conn, 0);
    let now = hand.now;
    for id in 1..=10_000 {
        request(&mut hand, conn, id, 1_000, &[id - 1]);
        let ticket = work(&mut hand)[0];
        hand.machine.start(now, ticket).unwrap();
        hand.machine.reply(ticket, Status::Ok, b"");
    }
    let record = hand.machine.peers.get(conn).unwrap().record.unwrap();
    let table = hand.machine.records.get_mut(record.0).unwrap().table().expect("a requester");
    let debug = alloc::format!("{table:?}");
    assert!(debug.len() < 2_000, "{} bytes", debug.len());
}

#[test]
fn id_that_was_used_before_ends_the_connection() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 5, 1_000, &[]);
    let ticket = work(&mut hand)[0];
    request(&mut hand, conn, 5, 1_000, &[]);
    hand.expect(conn, Frame::Bye { code: ByeCode::Protocol, text: "request id 5 was used before" });
    assert_eq!(left(&mut hand), [(conn, CloseReason::Protocol(Violation::RequestIdReused { id: 5 }))]);
    let now = hand.now;
    assert_eq!(hand.machine.start(now, ticket), Err(NotStarted::Withdrawn));
    assert!(!hand.machine.reply(ticket, Status::Ok, b""), "whoever answers late is told so");
}

#[test]
fn strangers_are_turned_away_without_an_answer_and_a_bystander_notices_nothing() {
    let mut hand = server(Limits::default());
    let (calls, follows) = (requester(&mut hand, 1), subscriber(&mut hand, 2, &["by"]));
    let junk: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03],
        &[0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0],
        &[5, 0, 0, 0, 200, 1, 2, 3, 4],
        &[5, 0, 0, 0, 1, b'n', b'o', b'p', b'e'],
    ];
    for bytes in junk {
        let conn = hand.accept().unwrap();
        hand.deliver_bytes(conn, bytes);
        assert!(hand.is_closed(conn), "{bytes:?}");
        hand.expect_silence(conn);
        assert!(matches!(left(&mut hand)[..], [(gone, CloseReason::Protocol(_))] if gone == conn));
        expect_undisturbed(&mut hand, calls, follows);
    }
    let silent = hand.accept().unwrap();
    hand.at(4_999);
    assert!(!hand.is_closed(silent));
    hand.at(5_000);
    assert!(hand.is_closed(silent));
    assert_eq!(left(&mut hand), [(silent, CloseReason::HandshakeTimeout)]);
    expect_undisturbed(&mut hand, calls, follows);
    let stats = hand.machine.stats();
    assert_eq!((stats.connections, stats.half_open, stats.protocol_errors), (2, 0, 6));
}

#[test]
fn wrong_frames_in_every_state_end_that_connection_alone() {
    let mut hand = server(Limits::default());
    let (calls, follows) = (requester(&mut hand, 1), subscriber(&mut hand, 2, &["by"]));
    let set = region(&["a"]);
    let prefixes = Prefixes::from_bytes(&set).unwrap();
    let header = Request { id: 9, time_left_ms: 1, function: "f", settled: Ids::default() };
    let all = [
        hello(Role::Requester, 9, 9),
        welcome(),
        Frame::Reject { code: RejectCode::Full, text: "" },
        heartbeat(0),
        Frame::Request { header, arguments: b"" },
        Frame::Settle(Settle { all_but: false, ids: Ids::default() }),
        reply(1, Status::Ok, b""),
        Frame::Subscribe(Subscribe { ticket: 7, snapshot: false, start: None, prefixes }),
        Frame::Unsubscribe(Unsubscribe { ticket: 7, prefixes }),
        Frame::Subscribed(Subscribed { ticket: 7, position: 0 }),
        publish(0, "t", b""),
        Frame::Last { header: wire::Last { seq: 0, topic: "t" }, data: b"" },
        Frame::Gap(Gap { before: 0, after: 1, lost: Lost::Exact(1) }),
    ];
    let right: [&[Kind]; 4] = [
        &[Kind::Hello],
        &[Kind::Request, Kind::Settle],
        &[Kind::Subscribe],
        &[Kind::Subscribe, Kind::Unsubscribe],
    ];
    for (state, right) in right.into_iter().enumerate() {
        for frame in all.into_iter().filter(|frame| !right.contains(&frame.kind())) {
            let conn = match state {
                0 => hand.accept().unwrap(),
                1 => requester(&mut hand, 3),
                2 => {
                    let conn = hand.accept().unwrap();
                    hand.deliver(conn, hello(Role::Subscriber, 3, 1)).expect(conn, welcome());
                    conn
                }
                _ => subscriber(&mut hand, 3, &["x"]),
            };
            hand.deliver(conn, frame);
            let text = alloc::format!("unexpected {:?} frame", frame.kind());
            if state == 0 {
                assert!(hand.is_closed(conn), "{frame:?}");
            } else {
                hand.expect(conn, Frame::Bye { code: ByeCode::Protocol, text: &text });
                assert!(hand.is_shut_down(conn));
            }
            let unexpected = CloseReason::Protocol(Violation::Unexpected { kind: frame.kind() });
            assert_eq!(left(&mut hand), [(conn, unexpected)]);
            // Whatever else it says is not even decoded.
            hand.deliver_bytes(conn, b"anything").expect_silence(conn);
            expect_undisturbed(&mut hand, calls, follows);
        }
    }
    let then = hand.now.as_micros() / 1_000 + 400;
    hand.at(then);
    assert_eq!(hand.machine.stats().connections, 2);
}

#[test]
fn hello_is_refused_with_a_reason_where_there_is_one() {
    let mut limits = Limits::default();
    limits.log_bytes = 1024 * 1024;
    let mut hand = Hand::new(Server::new(Roles::Publisher, limits, EPOCH, 1));
    let session = SessionId([1; 16]);
    let other_version: &[u8] = b"\x07\0\0\0\x01PLSW\x02\0";
    let cases = [
        (hello(Role::Requester, 1, 1), RejectCode::Role),
        (Frame::Hello(Hello::new(Role::Subscriber, session, 1, 5_000, "ticks")), RejectCode::UnknownStream),
        (Frame::Hello(Hello::new(Role::Subscriber, session, 1, 4_095, "")), RejectCode::FrameLimit),
    ];
    for (frame, code) in cases {
        let conn = hand.accept().unwrap();
        let body = hand.deliver(conn, frame).heard(conn).unwrap();
        let Ok(Frame::Reject { code: said, text }) = Frame::decode(&body) else { panic!("no Reject") };
        assert_eq!(said, code);
        assert!(hand.is_shut_down(conn));
        let reason = CloseReason::Rejected { code, text: Box::from(text) };
        assert_eq!(left(&mut hand), [(conn, reason)]);
        assert_eq!(hand.machine.stats().half_open, 0);
        hand.lose(conn, StreamEnd::Eof);
        assert_eq!(left(&mut hand), [], "once");
    }
    let conn = hand.accept().unwrap();
    hand.deliver_bytes(conn, other_version);
    hand.expect(conn, Frame::Reject { code: RejectCode::Version, text: "version 1 is spoken here" });
    assert!(hand.is_shut_down(conn));
}

#[test]
fn subscriber_that_cannot_take_the_longest_publication_is_put_out_and_not_let_in_again() {
    let mut hand = server(Limits::default());
    let small = hand.accept().unwrap();
    hand.deliver(small, Frame::Hello(Hello::new(Role::Subscriber, SessionId([1; 16]), 1, 5_000, "")));
    subscribe(&mut hand, small, 1, Some(Start::Fresh), &["a"]);
    let large = subscriber(&mut hand, 2, &["a"]);
    hand.machine.publish("a", &[0; 6_000]).unwrap();
    assert!(hand.is_closed(small));
    hand.expect(large, publish(0, "a", &[0; 6_000]));
    let again = hand.accept().unwrap();
    hand.deliver(again, Frame::Hello(Hello::new(Role::Subscriber, SessionId([1; 16]), 2, 5_000, "")));
    let body = hand.heard(again).unwrap();
    assert!(matches!(Frame::decode(&body), Ok(Frame::Reject { code: RejectCode::FrameLimit, .. })));
}

#[test]
fn half_open_connections_are_bounded_and_the_oldest_goes_first() {
    let mut limits = Limits::default();
    limits.max_half_open = 2;
    limits.max_connections = 4;
    let mut hand = server(limits);
    let served = requester(&mut hand, 1);
    let [a, b, c] = [(); 3].map(|()| hand.accept().unwrap());
    assert_eq!([a, b, c].map(|conn| hand.is_closed(conn)), [true, false, false]);
    assert_eq!(left(&mut hand), [(a, CloseReason::Limit(LimitReached::HalfOpen))]);
    hand.deliver(b, hello(Role::Requester, 2, 1)).expect(b, welcome());
    hand.accept().unwrap();
    assert_eq!(hand.accept(), None, "all connections are taken");
    assert!(!hand.is_closed(served) && !hand.is_closed(c));
    assert_eq!(hand.machine.stats().refused, 1);
}

#[test]
fn newer_connection_of_a_session_fences_the_older_one_and_a_late_dial_has_no_effect() {
    let mut hand = server(Limits::default());
    let old = requester(&mut hand, 1);
    request(&mut hand, old, 1, 1_000, &[]);
    let ticket = work(&mut hand)[0];
    let new = hand.accept().unwrap();
    hand.deliver(new, hello(Role::Requester, 1, 2)).expect(new, welcome_back());
    hand.expect(
        old,
        Frame::Bye { code: ByeCode::Replaced, text: "a newer connection of this session has come" },
    );
    request(&mut hand, old, 2, 1_000, &[]);
    let now = hand.now;
    // What came before the fence still runs; what came behind it does not exist.
    assert_eq!((work(&mut hand), hand.machine.start(now, ticket)), (vec![], Ok(b"args".to_vec())));
    let late = hand.accept().unwrap();
    hand.deliver(late, hello(Role::Requester, 1, 2));
    assert!(hand.is_closed(late) && !hand.is_closed(new));
    // Also once the session's connection is gone.
    hand.lose(new, StreamEnd::Eof);
    let late = hand.accept().unwrap();
    hand.deliver(late, hello(Role::Requester, 1, 2));
    assert!(hand.is_closed(late));
    back(&mut hand, Role::Requester, 1, 3);
}

#[test]
fn quiet_server_says_heartbeats_with_the_position_of_the_moment_and_a_busy_one_none() {
    let mut hand = server(Limits::default());
    let (calls, follows) = (requester(&mut hand, 1), subscriber(&mut hand, 2, &["a"]));
    hand.machine.handle_wall_clock(123);
    hand.machine.publish("nobody", b"").unwrap();
    hand.at(9_999).expect_silence(calls).expect_silence(follows).at(10_000);
    hand.expect(calls, Frame::Heartbeat(Heartbeat { wall_clock_ns: 123, position: 0 }));
    hand.expect(follows, Frame::Heartbeat(Heartbeat { wall_clock_ns: 123, position: 1 }));
    hand.at(15_000).machine.publish("a", b"").unwrap();
    hand.expect(follows, publish(1, "a", b"")).at(20_000).expect_silence(follows);
    hand.expect(calls, Frame::Heartbeat(Heartbeat { wall_clock_ns: 123, position: 0 }));
    hand.at(25_000).expect(follows, Frame::Heartbeat(Heartbeat { wall_clock_ns: 123, position: 2 }));
}

#[test]
fn heartbeat_behind_a_blocked_stream_never_runs_ahead_of_it_nor_back() {
    let mut hand = server(Limits::default());
    let conn = subscriber(&mut hand, 1, &["a"]);
    hand.machine.publish("b", b"").unwrap();
    hand.at(10_000).expect(conn, heartbeat(1));
    hand.room(conn, 3).machine.publish("a", b"first").unwrap();
    hand.machine.publish("a", b"second").unwrap();
    hand.machine.publish("b", b"").unwrap();
    hand.at(20_001).room(conn, 4).at(40_000).room(conn, usize::MAX);
    hand.expect(conn, publish(1, "a", b"first"));
    // The heartbeat is as old as its place: behind the first, before the second.
    let body = hand.heard(conn).unwrap();
    let Ok(Frame::Heartbeat(Heartbeat { position, .. })) = Frame::decode(&body) else {
        panic!("no heartbeat")
    };
    assert_eq!(position, 2);
    hand.expect(conn, publish(2, "a", b"second")).expect_silence(conn);
    hand.at(60_000).expect(conn, heartbeat(4));
}

#[test]
fn connection_whose_peer_takes_nothing_is_given_up() {
    let mut hand = server(Limits::default());
    let conn = subscriber(&mut hand, 1, &[""]);
    hand.room(conn, 0).machine.publish("a", b"").unwrap();
    hand.at(119_999);
    assert!(!hand.is_closed(conn));
    hand.at(120_000);
    assert!(hand.is_closed(conn));
    assert_eq!(left(&mut hand), [(conn, CloseReason::NotReading)]);
}

#[test]
fn prefixes_match_bytes_deliver_once_and_are_idempotent() {
    let mut hand = server(Limits::default());
    let conn = subscriber(&mut hand, 1, &["tick.", "tick.rb", "order"]);
    for topic in ["tick.rb2410", "tick", "order", "orders", "Tick.a", ""] {
        hand.machine.publish(topic, b"x").unwrap();
    }
    hand.expect(conn, publish(0, "tick.rb2410", b"x"));
    hand.expect(conn, publish(2, "order", b"x"))
        .expect(conn, publish(3, "orders", b"x"))
        .expect_silence(conn);
    subscribe(&mut hand, conn, 2, None, &["order", "tick"]);
    hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 2, position: 6 }));
    unsubscribe(&mut hand, conn, 3, &["order", "never there"]);
    hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 3, position: 6 }));
    for topic in ["order", "tick"] {
        hand.machine.publish(topic, b"y").unwrap();
    }
    hand.expect(conn, publish(7, "tick", b"y")).expect_silence(conn);
    assert_eq!(hand.machine.stats().publisher.prefixes, 3);
}

#[test]
fn nothing_is_published_before_the_set_is_complete() {
    let mut hand = server(Limits::default());
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello(Role::Subscriber, 1, 1)).expect(conn, welcome());
    subscribe(&mut hand, conn, 9, None, &["a"]);
    assert_eq!(hand.machine.publish("a", b"").unwrap().subscribers, 0);
    hand.at(10_000).expect(conn, heartbeat(0));
    subscribe(&mut hand, conn, 9, Some(Start::Fresh), &["b"]);
    hand.machine.publish("a", b"x").unwrap();
    hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 9, position: 1 }));
    hand.expect(conn, publish(1, "a", b"x")).expect_silence(conn);
}

#[test]
fn acknowledgement_waits_for_its_place_behind_what_was_published_before() {
    let mut hand = server(Limits::default());
    let conn = subscriber(&mut hand, 1, &["a"]);
    hand.room(conn, 0);
    hand.machine.publish("a", b"0").unwrap();
    unsubscribe(&mut hand, conn, 2, &["a"]);
    hand.machine.publish("a", b"1").unwrap();
    subscribe(&mut hand, conn, 3, None, &["a", "b"]);
    hand.machine.publish("b", b"2").unwrap();
    hand.room(conn, 2).room(conn, 1).room(conn, usize::MAX);
    hand.expect(conn, publish(0, "a", b"0"));
    hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 2, position: 1 }));
    hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 3, position: 2 }));
    hand.expect(conn, publish(2, "b", b"2")).expect_silence(conn);
}

#[test]
fn slow_subscriber_is_lapped_alone_and_told_exactly_what_it_lost() {
    for set in [&["a", "b"][..], &[""]] {
        let mut limits = Limits::default();
        limits.log_messages = 16;
        let mut hand = server(limits);
        let (slow, quick) = (subscriber(&mut hand, 1, set), subscriber(&mut hand, 2, &["a"]));
        hand.room(slow, 20);
        for seq in 0..100_u64 {
            let topic = if seq % 2 == 0 { "a" } else { "b" };
            hand.machine.publish(topic, b"0123456789").unwrap();
            if seq % 2 == 0 {
                hand.expect(quick, publish(seq, topic, b"0123456789"));
            }
        }
        hand.room(slow, usize::MAX);
        // It had begun the first; it goes on from the oldest of the newest three quarters of 16.
        hand.expect(slow, publish(0, "a", b"0123456789"));
        hand.expect(slow, Frame::Gap(Gap { before: 1, after: 88, lost: Lost::Exact(87) }));
        for seq in 88..100 {
            let topic = if seq % 2 == 0 { "a" } else { "b" };
            hand.expect(slow, publish(seq, topic, b"0123456789"));
        }
        hand.expect_silence(slow).expect_silence(quick);
    }
}

#[test]
fn gap_never_reaches_over_an_acknowledgement() {
    let mut limits = Limits::default();
    limits.log_messages = 4;
    let mut hand = server(limits);
    let conn = subscriber(&mut hand, 1, &["a"]);
    hand.room(conn, 0);
    for _ in 0..5 {
        hand.machine.publish("a", b"").unwrap();
    }
    subscribe(&mut hand, conn, 2, None, &["b"]);
    for _ in 0..5 {
        hand.machine.publish("b", b"").unwrap();
    }
    hand.room(conn, usize::MAX);
    // The first two were lost when it was last tried, the other three since.
    hand.expect(conn, Frame::Gap(Gap { before: 0, after: 2, lost: Lost::Exact(2) }));
    hand.expect(conn, Frame::Gap(Gap { before: 2, after: 5, lost: Lost::Exact(3) }));
    hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 2, position: 5 }));
    hand.expect(conn, Frame::Gap(Gap { before: 5, after: 7, lost: Lost::Exact(2) }));
    for seq in 7..10 {
        hand.expect(conn, publish(seq, "b", b""));
    }
    hand.expect_silence(conn);
}

#[test]
fn messages_in_a_chunk_that_is_out_while_the_log_moves_on_are_counted_in_their_place() {
    for set in ["a", ""] {
        for taken in [0, 1, 25, 60] {
            let mut limits = Limits::default();
            limits.log_messages = 4;
            let mut hand = server(limits);
            let conn = subscriber(&mut hand, 1, &[set]);
            for _ in 0..4 {
                hand.machine.publish("a", b"0123456789").unwrap();
            }
            let now = hand.now;
            let chunk = hand.machine.poll_transmit(now, conn).unwrap();
            for _ in 0..6 {
                hand.machine.publish("a", b"0123456789").unwrap();
            }
            // The first frames may still be written from the chunk, whatever the log has forgotten.
            let whole = chunk.bytes()[..taken.min(chunk.bytes().len())].to_vec();
            hand.machine.handle_written(now, conn, chunk, whole.len());
            let begun = whole.len().div_ceil(29) as u64;
            while let Some(chunk) = hand.machine.poll_transmit(now, conn) {
                let mut bytes = chunk.bytes();
                if bytes.len() > 4 && begun > 0 && hand.machine.stats().sent_bytes < 29 * begun {
                    bytes = &bytes[bytes.len()..];
                }
                let mut deframer = wire::Deframer::new();
                while let Some(body) = deframer.next(&mut bytes, u32::MAX).unwrap() {
                    if let Ok(Frame::Gap(gap)) = Frame::decode(body) {
                        let expected = Gap { before: gap.before, after: 7, lost: Lost::Exact(7 - begun) };
                        assert_eq!((gap, begun <= gap.before), (expected, true), "{set:?} {taken}");
                    }
                }
                let len = chunk.bytes().len();
                hand.machine.handle_written(now, conn, chunk, len);
            }
            let stats = hand.machine.stats().publisher;
            assert_eq!((stats.sent, stats.lost), (3 + begun, 7 - begun), "{set:?} {taken}");
        }
    }
}

#[test]
fn places_above_their_budget_become_exact_gaps_of_the_slow() {
    let mut limits = Limits::default();
    limits.positions_bytes = 800;
    let mut hand = server(limits);
    let (slow, quick) = (subscriber(&mut hand, 1, &["a"]), subscriber(&mut hand, 2, &["a"]));
    hand.room(slow, 0);
    for seq in 0..1_000 {
        hand.machine.publish("a", b"").unwrap();
        hand.expect(quick, publish(seq, "a", b""));
    }
    hand.room(slow, usize::MAX);
    let body = hand.heard(slow).unwrap();
    let Ok(Frame::Gap(Gap { before: 0, after, lost: Lost::Exact(lost) })) = Frame::decode(&body) else {
        panic!("no gap")
    };
    assert_eq!(after, lost);
    for seq in after..1_000 {
        hand.expect(slow, publish(seq, "a", b""));
    }
    hand.expect_silence(slow);
    assert!(hand.machine.budget.positions() <= 100);
}

/// Everything that is written to a connection now, as if the kernel took it.
fn drain(hand: &mut Hand<Server>, conn: ConnId) -> Vec<Vec<u8>> {
    let now = hand.now;
    let mut bodies = Vec::new();
    while let Some(chunk) = hand.machine.poll_transmit(now, conn) {
        let (mut deframer, mut bytes) = (wire::Deframer::new(), chunk.bytes());
        while let Some(body) = deframer.next(&mut bytes, u32::MAX).unwrap() {
            bodies.push(body.to_vec());
        }
        let len = chunk.bytes().len();
        hand.machine.handle_written(now, conn, chunk, len);
    }
    bodies
}

/// Of a stream in which every publication matches: nothing comes twice, and each gap lies where its messages are
/// missing. Returns how many were received and how many lost.
#[track_caller]
fn assert_in_order(bodies: &[Vec<u8>]) -> (u64, u64) {
    let (mut position, mut received, mut lost) = (0, 0, 0);
    for body in bodies {
        match Frame::decode(body).unwrap() {
            Frame::Publish { header, .. } => {
                assert_eq!(header.seq, position, "the next one, or a gap before it");
                (position, received) = (header.seq + 1, received + 1);
            }
            Frame::Gap(Gap { before, after, lost: Lost::Exact(count) }) => {
                assert_eq!((before, after - before), (position, count), "as many as there is room for");
                (position, lost) = (after, lost + count);
            }
            _ => {}
        }
    }
    (received, lost)
}

#[test]
fn places_given_up_behind_a_chunk_that_is_out_take_what_it_held_with_them() {
    for written in [0, usize::MAX] {
        let mut limits = Limits::default();
        limits.positions_bytes = 800;
        let mut hand = server(limits);
        let conn = subscriber(&mut hand, 1, &["a"]);
        (0..2).for_each(|_| {
            hand.machine.publish("a", b"").unwrap();
        });
        let now = hand.now;
        let chunk = hand.machine.poll_transmit(now, conn).unwrap();
        (2..1_000).for_each(|_| {
            hand.machine.publish("a", b"").unwrap();
        });
        let held = if written == 0 { 0 } else { 2 };
        let len = written.min(chunk.bytes().len());
        hand.machine.handle_written(now, conn, chunk, len);
        // Nothing of the chunk was taken: its messages are in the gap, and not behind it.
        let mut bodies = drain(&mut hand, conn);
        if held > 0 {
            bodies.splice(
                0..0,
                (0..2).map(|seq| {
                    let mut frame = Vec::new();
                    publish(seq, "a", b"").encode(u32::MAX, &mut frame).unwrap();
                    frame.split_off(4)
                }),
            );
        }
        let (received, lost) = assert_in_order(&bodies);
        assert_eq!((received + lost, lost > 100), (1_000, true), "{written}");
        // All of it got lost on its way: what was written before the gap cannot come before it again.
        hand.lose(conn, StreamEnd::Reset);
        let conn = back(&mut hand, Role::Subscriber, 1, 2);
        hand.room(conn, 0);
        subscribe(&mut hand, conn, 9, Some(Start::Resume { next_seq: 0, accounted: 0 }), &["a"]);
        let (received, lost) = assert_in_order(&drain(&mut hand, conn));
        assert_eq!(received + lost, 1_000, "{written}");
    }
}

#[test]
fn resume_of_a_lost_record_is_one_gap_of_at_most_and_none_if_nothing_was_published() {
    let mut hand = server(Limits::default());
    for _ in 0..10 {
        hand.machine.publish("nobody", b"").unwrap();
    }
    for (session, (next_seq, gap)) in (1..).zip([(4, Some(6)), (10, None), (99, None)]) {
        let conn = hand.accept().unwrap();
        hand.deliver(conn, hello(Role::Subscriber, session, next_seq)).expect(conn, welcome());
        subscribe(&mut hand, conn, 1, Some(Start::Resume { next_seq, accounted: 0 }), &["a"]);
        if let Some(missed) = gap {
            hand.expect(conn, Frame::Gap(Gap { before: next_seq, after: 10, lost: Lost::AtMost(missed) }));
        }
        hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 1, position: 10 })).expect_silence(conn);
    }
}

#[test]
fn everything_is_for_life_and_sets_are_bounded() {
    let mut limits = Limits::default();
    limits.max_prefixes = 3;
    limits.prefixes_bytes = 2_600;
    let mut hand = server(limits);
    let text = "prefixes for a subscription to everything";
    for change in [true, false] {
        let conn = subscriber(&mut hand, 1, &[""]);
        subscribe(&mut hand, conn, 2, None, &[""]);
        hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 2, position: 0 }));
        match change {
            true => subscribe(&mut hand, conn, 3, None, &["a"]),
            false => unsubscribe(&mut hand, conn, 3, &["a"]),
        }
        hand.expect(conn, Frame::Bye { code: ByeCode::Protocol, text });
    }
    let conn = subscriber(&mut hand, 2, &["a", "b", "c"]);
    subscribe(&mut hand, conn, 2, None, &["d"]);
    let text = "more prefixes than the limit of 3 and 4194304 bytes";
    hand.expect(conn, Frame::Bye { code: ByeCode::Protocol, text });
    let others = [subscriber(&mut hand, 3, &["a", "b", "c"]), subscriber(&mut hand, 4, &["a", "b"])];
    subscribe(&mut hand, others[1], 2, None, &["c"]);
    hand.expect_bye(others[1], ByeCode::Limit);
    let stats = hand.machine.stats().publisher;
    assert_eq!((stats.prefixes, stats.subscribers), (3, 1));
    hand.machine.publish("a", b"").unwrap();
    hand.expect(others[0], publish(0, "a", b""));
}

#[test]
fn who_asks_and_does_not_read_is_not_read_from_until_it_does() {
    let mut hand = server(Limits::default());
    let conn = subscriber(&mut hand, 1, &["a"]);
    hand.room(conn, 0);
    let mut asked = 0;
    while hand.machine.wants_read(conn) {
        asked += 1;
        subscribe(&mut hand, conn, 1 + asked, None, &["b"]);
        assert!(asked < 20_000);
    }
    assert!(asked > 1_000, "an ordinary burst is taken");
    hand.room(conn, usize::MAX);
    assert!(hand.machine.wants_read(conn));
    for ticket in 2..2 + asked {
        hand.expect(conn, Frame::Subscribed(Subscribed { ticket, position: 0 }));
    }
}

#[test]
fn publications_that_are_too_long_use_no_number() {
    let mut limits = Limits::default();
    limits.log_bytes = 64 * 1024;
    let mut hand = server(limits);
    let long = "t".repeat(256);
    assert_eq!(hand.machine.publish(&long, b""), Err(PublishError::TopicTooLong { len: 256, limit: 255 }));
    let limit = 16 * 1024 - 4;
    assert_eq!(
        hand.machine.publish("t", &[0; 16 * 1024]),
        Err(PublishError::TooLong { len: 16 * 1024 + 11, limit })
    );
    assert_eq!(hand.machine.publish("t", b"").map(|published| published.seq), Ok(0));
}

#[test]
fn stop_answers_what_has_not_started_sends_what_is_unsent_and_says_bye() {
    let mut hand = server(Limits::default());
    let (calls, follows) = (requester(&mut hand, 1), subscriber(&mut hand, 2, &["a"]));
    let half_open = hand.accept().unwrap();
    request(&mut hand, calls, 1, 1_000, &[]);
    request(&mut hand, calls, 2, 1_000, &[]);
    let now = hand.now;
    let running = work(&mut hand)[0];
    hand.machine.start(now, running).unwrap();
    hand.room(follows, 0).machine.publish("a", b"last words").unwrap();
    hand.machine.stop(now);
    hand.pump();
    assert!(hand.is_closed(half_open) && !hand.machine.is_flushed());
    hand.expect(calls, reply(2, Status::NotExecuted(Refusal::ShuttingDown), b""));
    let bye = Frame::Bye { code: ByeCode::Stopped, text: "the server is stopping" };
    hand.expect(calls, bye);
    assert!(!hand.machine.reply(running, Status::Ok, b"too late"));
    hand.room(follows, usize::MAX);
    hand.expect(follows, publish(0, "a", b"last words")).expect(follows, bye);
    assert!(hand.machine.is_flushed() && !hand.machine.is_empty());
    assert!(hand.is_shut_down(calls) && hand.is_shut_down(follows));
    assert_eq!(hand.machine.publish("a", b""), Err(PublishError::Stopped));
    assert_eq!(hand.accept(), None);
    left(&mut hand);
    hand.lose(calls, StreamEnd::Eof).at(400);
    assert_eq!(left(&mut hand), [(calls, CloseReason::ByUs), (follows, CloseReason::ByUs)]);
    assert!(hand.machine.is_empty() && hand.machine.poll_timeout().is_none());
}

#[test]
fn stop_with_nothing_unsent_is_flushed_at_once_and_with_a_stuck_peer_after_linger() {
    let mut hand = server(Limits::default());
    let (silent, stuck) = (requester(&mut hand, 1), subscriber(&mut hand, 2, &["a"]));
    hand.room(stuck, 0);
    let now = hand.now;
    hand.machine.stop(now);
    hand.pump();
    assert!(hand.is_shut_down(silent) && !hand.machine.is_flushed());
    hand.at(200);
    assert!(hand.is_closed(stuck) && hand.machine.is_flushed());
}

#[test]
fn bye_from_the_client_frees_everything_at_once() {
    let mut hand = server(Limits::default());
    let (calls, follows) = (requester(&mut hand, 1), subscriber(&mut hand, 2, &["a"]));
    request(&mut hand, calls, 1, 1_000, &[]);
    let ticket = work(&mut hand)[0];
    for conn in [calls, follows] {
        hand.deliver(conn, Frame::Bye { code: ByeCode::Stopped, text: "enough" });
        let reason = CloseReason::ByPeer { code: ByeCode::Stopped, text: Box::from("enough") };
        assert_eq!(left(&mut hand), [(conn, reason)]);
        assert!(hand.is_shut_down(conn));
    }
    let now = hand.now;
    assert_eq!(hand.machine.start(now, ticket), Err(NotStarted::Withdrawn));
    assert_eq!(hand.machine.publish("a", b"").unwrap().subscribers, 0);
    hand.lose(calls, StreamEnd::Eof).lose(follows, StreamEnd::Eof);
    assert_eq!((left(&mut hand), hand.machine.is_empty()), (vec![], true));
    assert_eq!(hand.machine.timers.len(), 0);
}

#[test]
fn large_frames_wait_for_room_in_the_kernel_and_the_budget_comes_back() {
    let mut limits = Limits::default();
    limits.partial_frames_bytes = 100_000;
    let mut hand = server(limits);
    let conns = [1, 2, 3].map(|session| requester(&mut hand, session));
    let mut frame = Vec::new();
    let header = Request { id: 1, time_left_ms: 1_000, function: "f", settled: Ids::default() };
    Frame::Request { header, arguments: &[7; 80_000] }.encode(u32::MAX, &mut frame).unwrap();
    for conn in conns {
        hand.deliver_bytes(conn, &frame[..100]);
    }
    let reads = |hand: &Hand<Server>| conns.map(|conn| hand.machine.wants_read(conn));
    assert_eq!(reads(&hand), [true, false, false]);
    // Bytes that were on their way when reading paused are taken all the same.
    hand.deliver_bytes(conns[2], &frame[100..200]);
    hand.deliver_bytes(conns[0], &frame[100..]);
    assert_eq!(reads(&hand), [true, true, false]);
    hand.lose(conns[1], StreamEnd::Reset);
    assert!(hand.machine.wants_read(conns[2]));
    hand.deliver_bytes(conns[2], &frame[200..]);
    assert_eq!(work(&mut hand).len(), 2);
    for conn in [conns[0], conns[2]] {
        hand.lose(conn, StreamEnd::Reset);
    }
    assert!(hand.machine.admission.admit(conns[0], 100_000), "nothing is held any more");
}

#[test]
fn reports_for_a_connection_that_is_gone_are_harmless() {
    let mut hand = server(Limits::default());
    let conn = subscriber(&mut hand, 1, &["a"]);
    hand.machine.publish("a", b"x").unwrap();
    let now = hand.now;
    let chunk = hand.machine.poll_transmit(now, conn).unwrap();
    hand.machine.handle_closed(now, conn, StreamEnd::Reset);
    hand.machine.handle_written(now, conn, chunk, 3);
    hand.machine.handle_closed(now, conn, StreamEnd::Reset);
    hand.machine.handle_bytes(now, conn, b"x");
    hand.machine.handle_drained(now, conn);
    assert!(hand.machine.poll_transmit(now, conn).is_none() && !hand.machine.wants_read(conn));
    assert_eq!(left(&mut hand).len(), 1);
    assert_eq!(hand.machine.rest_bytes, 0);
}

#[test]
fn send_queues_above_their_budget_cost_the_connection_that_took_them_there() {
    let mut limits = Limits::default();
    limits.send_queues_bytes = 300_000;
    let mut hand = server(limits);
    let conns = [1, 2].map(|session| requester(&mut hand, session));
    let now = hand.now;
    for conn in conns {
        hand.room(conn, 1);
        request(&mut hand, conn, 1, 1_000, &[]);
        let ticket = work(&mut hand)[0];
        hand.machine.start(now, ticket).unwrap();
        hand.machine.reply(ticket, Status::Ok, &vec![0; 200_000]);
        hand.pump();
    }
    assert_eq!(conns.map(|conn| hand.is_closed(conn)), [false, true]);
    hand.room(conns[0], usize::MAX).expect(conns[0], reply(1, Status::Ok, &vec![0; 200_000]));
    assert_eq!(hand.machine.rest_bytes, 0);
}

#[test]
fn twenty_thousand_prefixes_come_in_many_frames_and_are_all_in_force() {
    let mut hand = server(Limits::default());
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello(Role::Subscriber, 1, 1)).expect(conn, welcome());
    let prefixes: Vec<String> = (0..20_000).map(|n| alloc::format!("tick.{n:05}.")).collect();
    for part in prefixes.chunks(150) {
        let part: Vec<&str> = part.iter().map(|prefix| &**prefix).collect();
        subscribe(&mut hand, conn, 1, None, &part);
    }
    subscribe(&mut hand, conn, 1, Some(Start::Fresh), &[]);
    hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 1, position: 0 }));
    for (seq, prefix) in (0..).zip(&prefixes) {
        assert_eq!(hand.machine.publish(prefix, b"").unwrap().subscribers, 1);
        hand.expect(conn, publish(seq, prefix, b""));
    }
    hand.deliver(conn, Frame::Bye { code: ByeCode::Stopped, text: "" });
    assert_eq!(hand.machine.stats().publisher.prefixes, 0);
}

#[test]
fn tiny_limits_hold_little_for_the_index() {
    let mut hand = server(Limits::tiny());
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello(Role::Subscriber, 1, 1));
    subscribe(&mut hand, conn, 1, Some(Start::Fresh), &["a"]);
    for n in 0..10_000 {
        hand.machine.publish(&alloc::format!("a{n}"), b"").unwrap();
    }
    let bytes = hand.machine.streams.main().index_bytes();
    assert!((8 * 1024..80 * 1024).contains(&bytes), "{bytes} bytes");
}

#[test]
fn call_that_was_begun_before_a_loss_is_joined_and_answered_once() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 1, 1_000, &[]);
    request(&mut hand, conn, 2, 1_000, &[]);
    request(&mut hand, conn, 3, 1_000, &[]);
    let tickets = work(&mut hand);
    let now = hand.now;
    hand.machine.start(now, tickets[0]).unwrap();
    hand.machine.start(now, tickets[1]).unwrap();
    hand.machine.reply(tickets[1], Status::Ok, b"two");
    // The answer of 2 may be lost with the connection; 1 ends while nobody is there.
    hand.lose(conn, StreamEnd::Reset);
    assert!(hand.machine.reply(tickets[0], Status::Ok, b"one"));
    let conn = back(&mut hand, Role::Requester, 1, 2);
    hand.expect_silence(conn);
    settle_all_but(&mut hand, conn, &[1, 2, 4]);
    for id in [1, 2, 4] {
        request(&mut hand, conn, id, 1_000, &[]);
    }
    hand.expect(conn, reply(1, Status::Ok, b"one")).expect(conn, reply(2, Status::Ok, b"two"));
    // 4 never came before and runs now; 3 was settled while it was queued and never runs.
    let fresh = work(&mut hand);
    assert_eq!(fresh.len(), 1);
    assert_eq!(hand.machine.start(now, tickets[2]), Err(NotStarted::Withdrawn));
    assert_eq!(hand.machine.start(now, fresh[0]), Ok(b"args".to_vec()));
    assert_eq!(hand.machine.start(now, tickets[0]), Err(NotStarted::Started));
    assert_eq!(hand.machine.stats().replier.joined, 2);
}

#[test]
fn queued_call_runs_although_its_connection_is_lost_and_its_answer_waits() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 1, 60_000, &[]);
    let ticket = work(&mut hand)[0];
    hand.lose(conn, StreamEnd::Reset).at(1_000);
    let now = hand.now;
    hand.machine.start(now, ticket).unwrap();
    let conn = back(&mut hand, Role::Requester, 1, 2);
    settle_all_but(&mut hand, conn, &[1]);
    request(&mut hand, conn, 1, 59_000, &[]);
    assert_eq!(work(&mut hand), vec![], "it is joined, not entered again");
    hand.expect_silence(conn);
    hand.machine.reply(ticket, Status::Ok, b"");
    hand.expect(conn, reply(1, Status::Ok, b""));
}

#[test]
fn large_answer_that_was_begun_on_a_lost_connection_is_not_kept() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    hand.room(conn, 100);
    request(&mut hand, conn, 1, 1_000, &[]);
    let ticket = work(&mut hand)[0];
    let now = hand.now;
    hand.machine.start(now, ticket).unwrap();
    hand.machine.reply(ticket, Status::Ok, &[0; 100_000]);
    hand.pump();
    hand.lose(conn, StreamEnd::Reset);
    let conn = back(&mut hand, Role::Requester, 1, 2);
    settle_all_but(&mut hand, conn, &[1]);
    request(&mut hand, conn, 1, 1_000, &[]);
    hand.expect(conn, reply(1, Status::ResultNotKept, b""));
    assert_eq!(work(&mut hand), vec![]);
}

#[test]
fn records_are_kept_for_a_while_and_a_bye_or_a_mistake_frees_them_at_once() {
    let mut limits = Limits::default();
    limits.max_detached = 2;
    let mut hand = server(limits);
    let queued = |hand: &mut Hand<Server>, session| {
        let conn = requester(hand, session);
        request(hand, conn, 1, 600_000, &[]);
        (conn, work(hand)[0])
    };
    let (conn, bye) = queued(&mut hand, 1);
    hand.deliver(conn, Frame::Bye { code: ByeCode::Stopped, text: "" });
    let now = hand.now;
    assert_eq!(hand.machine.start(now, bye), Err(NotStarted::Withdrawn));
    // Of three lost ones the oldest is forgotten, the others after their time.
    let lost: Vec<Ticket> = (2..5)
        .map(|session| {
            let (conn, ticket) = queued(&mut hand, session);
            hand.at(u64::from(session)).lose(conn, StreamEnd::Reset);
            ticket
        })
        .collect();
    let now = hand.now;
    assert_eq!(hand.machine.start(now, lost[0]), Err(NotStarted::Withdrawn));
    assert_eq!(hand.machine.start(now, lost[1]), Ok(b"args".to_vec()));
    hand.at(60_003);
    let now = hand.now;
    assert!(!hand.machine.reply(lost[1], Status::Ok, b""), "forgotten");
    assert_eq!(hand.machine.start(now, lost[2]), Ok(b"args".to_vec()));
    hand.at(60_004);
    assert!(!hand.machine.reply(lost[2], Status::Ok, b""), "forgotten");
    assert_eq!(hand.machine.stats().replier.queued_bytes, 0);
    requester(&mut hand, 4);
}

#[test]
fn record_whose_welcome_may_be_lost_is_not_taken_for_the_one_before() {
    let mut limits = Limits::default();
    limits.max_detached = 0;
    let mut hand = server(limits);
    let first = requester(&mut hand, 1);
    request(&mut hand, first, 1, 30_000, &[]);
    let ticket = work(&mut hand)[0];
    assert_eq!(hand.machine.start(hand.now, ticket), Ok(b"args".to_vec()));
    assert!(hand.machine.reply(ticket, Status::Ok, b"done"));
    // The record goes with the connection, and the client does not hear that its next one is new.
    hand.lose(first, StreamEnd::Reset);
    Arc::make_mut(&mut hand.machine.limits).max_detached = 16;
    for attempt in [2, 3] {
        let conn = hand.accept().unwrap();
        hand.deliver(conn, hello(Role::Requester, 1, attempt)).expect(conn, welcome());
        hand.lose(conn, StreamEnd::Reset);
    }
    // Nor where the next connection is the one that ends it.
    for attempt in [4, 5] {
        let conn = hand.accept().unwrap();
        hand.deliver(conn, hello(Role::Requester, 1, attempt)).expect(conn, welcome());
    }
    // One that has said anything knows.
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello(Role::Requester, 1, 6)).expect(conn, welcome());
    settle(&mut hand, conn, false, &[1]);
    back(&mut hand, Role::Requester, 1, 7);
}

#[test]
fn short_absence_loses_nothing_and_doubles_nothing() {
    for set in [&[""][..], &["a", "b"]] {
        let mut hand = server(Limits::default());
        let conn = subscriber(&mut hand, 1, set);
        for seq in 0..3 {
            hand.machine.publish("a", b"").unwrap();
            hand.expect(conn, publish(seq, "a", b""));
        }
        hand.lose(conn, StreamEnd::Reset);
        for _ in 3..6 {
            hand.machine.publish("b", b"").unwrap();
        }
        let conn = back(&mut hand, Role::Subscriber, 1, 2);
        hand.machine.publish("a", b"").unwrap();
        // It has the first two; the third was lost in the network.
        subscribe(&mut hand, conn, 9, Some(Start::Resume { next_seq: 2, accounted: 2 }), set);
        hand.expect(conn, publish(2, "a", b""));
        for seq in 3..6 {
            hand.expect(conn, publish(seq, "b", b""));
        }
        hand.expect(conn, publish(6, "a", b""));
        hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 9, position: 7 })).expect_silence(conn);
    }
}

#[test]
fn absence_that_the_log_does_not_bridge_is_an_exact_gap() {
    for (set, matching) in [(&[""][..], 20), (&["a"], 10)] {
        let mut limits = Limits::default();
        limits.log_messages = 8;
        let mut hand = server(limits);
        let conn = subscriber(&mut hand, 1, set);
        // Somebody else wants everything, so that everything is stored.
        let _other = subscriber(&mut hand, 2, &[""]);
        hand.lose(conn, StreamEnd::Reset);
        for n in 0..20 {
            hand.machine.publish(if n % 2 == 0 { "a" } else { "b" }, b"").unwrap();
        }
        let conn = back(&mut hand, Role::Subscriber, 1, 2);
        subscribe(&mut hand, conn, 9, Some(Start::Resume { next_seq: 0, accounted: 0 }), set);
        let kept: Vec<u64> = (12..20).filter(|seq| set[0].is_empty() || seq % 2 == 0).collect();
        let lost = Lost::Exact(matching - kept.len() as u64);
        // The first answer may have been lost as well.
        hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 1, position: 0 }));
        hand.expect(conn, Frame::Gap(Gap { before: 0, after: 12, lost }));
        for seq in kept {
            hand.expect(conn, publish(seq, if seq % 2 == 0 { "a" } else { "b" }, b""));
        }
        hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 9, position: 20 })).expect_silence(conn);
    }
}

#[test]
fn set_that_changed_during_an_absence_rules_from_its_answer_on() {
    let mut hand = server(Limits::default());
    let conn = subscriber(&mut hand, 1, &["a", "b"]);
    hand.lose(conn, StreamEnd::Reset);
    for topic in ["a", "b", "c"] {
        hand.machine.publish(topic, b"").unwrap();
    }
    let conn = back(&mut hand, Role::Subscriber, 1, 2);
    subscribe(&mut hand, conn, 9, None, &["b"]);
    hand.machine.publish("a", b"").unwrap();
    hand.expect_silence(conn);
    subscribe(&mut hand, conn, 9, Some(Start::Resume { next_seq: 0, accounted: 0 }), &["c"]);
    for topic in ["a", "b", "c"] {
        hand.machine.publish(topic, b"").unwrap();
    }
    hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 1, position: 0 }));
    hand.expect(conn, publish(0, "a", b""))
        .expect(conn, publish(1, "b", b""))
        .expect(conn, publish(3, "a", b""));
    hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 9, position: 4 }));
    hand.expect(conn, publish(5, "b", b"")).expect(conn, publish(6, "c", b"")).expect_silence(conn);
    assert_eq!(hand.machine.stats().publisher.prefixes, 2);
}

#[test]
fn claim_to_have_what_was_never_sent_ends_the_connection() {
    for (set, next_seq, accounted) in [("", 1, 0), ("", 9, 9), ("a", 0, 7), ("a", 9, 0)] {
        let mut hand = server(Limits::default());
        let conn = subscriber(&mut hand, 1, &[set]);
        hand.machine.publish("a", b"").unwrap();
        hand.lose(conn, StreamEnd::Reset);
        let conn = back(&mut hand, Role::Subscriber, 1, 2);
        subscribe(&mut hand, conn, 9, Some(Start::Resume { next_seq, accounted }), &[set]);
        let violation = Violation::ImpossibleResume { next_seq, accounted };
        let text = alloc::format!("{violation}");
        hand.expect(conn, Frame::Bye { code: ByeCode::Protocol, text: &text });
        assert_eq!(hand.machine.stats().publisher.prefixes, 0, "and its record is gone");
    }
}

#[test]
fn account_that_the_client_never_heard_of_is_begun_again() {
    let mut hand = server(Limits::default());
    for _ in 0..10 {
        hand.machine.publish("nobody", b"").unwrap();
    }
    // The record of an earlier account is lost, and the answer that says so is lost as well.
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello(Role::Subscriber, 1, 1)).expect(conn, welcome());
    hand.room(conn, 0);
    subscribe(&mut hand, conn, 1, Some(Start::Resume { next_seq: 4, accounted: 0 }), &["a"]);
    hand.lose(conn, StreamEnd::Reset);
    hand.machine.publish("a", b"").unwrap();
    let conn = back(&mut hand, Role::Subscriber, 1, 2);
    subscribe(&mut hand, conn, 2, Some(Start::Resume { next_seq: 4, accounted: 0 }), &["a"]);
    hand.expect(conn, Frame::Gap(Gap { before: 4, after: 11, lost: Lost::AtMost(7) }));
    hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 2, position: 11 })).expect_silence(conn);
}

#[test]
fn calls_that_run_on_without_their_callers_count_against_no_bound_of_calls() {
    let mut limits = Limits::default();
    limits.max_in_flight = 2;
    let mut hand = server(limits);
    let conn = requester(&mut hand, 1);
    let now = hand.now;
    let mut running = Vec::new();
    for id in 1..=10 {
        request(&mut hand, conn, id, 1_000, &[id - 1]);
        let ticket = work(&mut hand)[0];
        hand.machine.start(now, ticket).unwrap();
        running.push(ticket);
    }
    hand.expect_silence(conn);
    for ticket in running {
        hand.machine.reply(ticket, Status::Ok, b"");
    }
    hand.expect(conn, reply(10, Status::Ok, b"")).expect_silence(conn);
    settle_all_but(&mut hand, conn, &[]);
    assert_eq!(hand.machine.stats().replier.queued_bytes, 0);
}

#[test]
fn not_even_refusals_are_kept_without_bound_and_one_that_is_not_may_come_again() {
    let mut limits = Limits::default();
    limits.queued_arguments_bytes = 32 * 256;
    let mut hand = server(limits.clone());
    let conn = requester(&mut hand, 1);
    hand.room(conn, 0);
    for id in 1..=31 {
        request(&mut hand, conn, id, 1_000, &[]);
    }
    let tickets = work(&mut hand);
    assert_eq!(tickets.len(), 29, "those behind them are refused");
    for id in 32..=60 {
        request(&mut hand, conn, id, 1_000, &[]);
        assert!(hand.machine.stats().replier.queued_bytes <= limits.queued_arguments_bytes);
    }
    assert!(!hand.machine.wants_read(conn), "whoever does not read its refusals is not read from");
    // They are lost on their way; meanwhile there is room, and a later call has taken some of it.
    let second = back(&mut hand, Role::Requester, 1, 2);
    settle_all_but(&mut hand, second, &[40, 61]);
    request(&mut hand, second, 61, 1_000, &[]);
    assert_eq!(work(&mut hand).len(), 1);
    let again = back(&mut hand, Role::Requester, 1, 3);
    request(&mut hand, again, 40, 1_000, &[]);
    hand.expect(again, reply(40, Status::NotExecuted(Refusal::Full), b""));
    assert_eq!(work(&mut hand).len(), 0, "it is behind one that was entered, so it is not run any more");
    request(&mut hand, again, 62, 1_000, &[]);
    assert_eq!(work(&mut hand).len(), 1);
}

#[test]
fn id_of_a_call_that_was_refused_and_is_over_is_no_excuse_to_use_it_again() {
    let mut limits = Limits::default();
    limits.queued_arguments_bytes = 32 * 256;
    let mut hand = server(limits);
    let conn = requester(&mut hand, 1);
    for id in 1..=40 {
        request(&mut hand, conn, id, 1_000, &[]);
    }
    assert_eq!(hand.machine.stats().replier.refused, 11, "nine of them without an entry");
    let second = back(&mut hand, Role::Requester, 1, 2);
    settle_all_but(&mut hand, second, &[38]);
    request(&mut hand, second, 38, 1_000, &[]);
    request(&mut hand, second, 41, 1_000, &[]);
    hand.expect_silence(second);
    let third = back(&mut hand, Role::Requester, 1, 3);
    settle_all_but(&mut hand, third, &[41]);
    left(&mut hand);
    request(&mut hand, third, 35, 1_000, &[]);
    hand.expect(third, Frame::Bye { code: ByeCode::Protocol, text: "request id 35 was used before" });
    assert_eq!(left(&mut hand), [(third, CloseReason::Protocol(Violation::RequestIdReused { id: 35 }))]);
}

#[test]
fn answers_that_are_not_read_count_and_whoever_asks_for_more_of_them_is_put_out() {
    let mut limits = Limits::default();
    limits.send_queues_bytes = 64 * 1024;
    let mut hand = server(limits);
    let (greedy, modest) = (subscriber(&mut hand, 1, &["a"]), subscriber(&mut hand, 2, &["a"]));
    hand.room(greedy, 0).room(modest, 0);
    let asked = (2..1_000).find(|ticket| {
        subscribe(&mut hand, greedy, *ticket, None, &["a"]);
        !left(&mut hand).is_empty()
    });
    assert!(asked.is_some_and(|asked| (50..200).contains(&asked)), "put out at {asked:?}");
    subscribe(&mut hand, modest, 2, None, &["b"]);
    hand.room(modest, usize::MAX);
    hand.expect(modest, Frame::Subscribed(Subscribed { ticket: 2, position: 0 }));
}

#[test]
fn whose_answers_were_forgotten_for_want_of_memory_is_not_known_when_it_comes_back() {
    let mut limits = Limits::default();
    limits.send_queues_bytes = 64 * 1024;
    let mut hand = server(limits);
    let (greedy, modest) = (subscriber(&mut hand, 1, &["a"]), subscriber(&mut hand, 2, &["a"]));
    // It reads its answers, and so many of them are remembered that the memory for them becomes scarce.
    for ticket in 2..1_000 {
        subscribe(&mut hand, greedy, ticket, None, &["a"]);
        hand.pump();
    }
    assert_eq!(left(&mut hand), [], "nobody is put out for answers that it has read");
    hand.lose(greedy, StreamEnd::Reset).lose(modest, StreamEnd::Reset);
    let conn = back(&mut hand, Role::Subscriber, 2, 2);
    subscribe(&mut hand, conn, 9, Some(Start::Resume { next_seq: 0, accounted: 0 }), &["a"]);
    // On either side of each answer another set ruled: without them there is no exact account.
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello(Role::Subscriber, 1, 2)).expect(conn, welcome());
}

#[test]
fn answers_are_written_down_a_few_at_a_time() {
    let mut hand = server(Limits::default());
    let conn = subscriber(&mut hand, 1, &["a"]);
    hand.room(conn, 0);
    for ticket in 2..1_000 {
        subscribe(&mut hand, conn, ticket, None, &["a"]);
    }
    let now = hand.now;
    let chunk = hand.machine.poll_transmit(now, conn).unwrap();
    assert!(chunk.bytes().len() < 512, "{} bytes", chunk.bytes().len());
    hand.machine.handle_written(now, conn, chunk, 0);
    hand.room(conn, usize::MAX);
    for ticket in 2..1_000 {
        hand.expect(conn, Frame::Subscribed(Subscribed { ticket, position: 0 }));
    }
}

#[test]
fn who_came_and_went_does_not_pile_up_for_one_who_never_asks() {
    let mut hand = server(Limits::default());
    for attempt in 1..=3_000 {
        let conn = hand.accept().unwrap();
        hand.deliver(conn, hello(Role::Subscriber, 1, attempt)).lose(conn, StreamEnd::Eof);
    }
    assert_eq!(core::iter::from_fn(|| hand.machine.poll_event()).count(), 512);
}

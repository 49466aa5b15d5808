mod snapshots;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

use super::super::hand::Hand;
use super::*;
use crate::pattern::{Cause, ConnId, Event, Machine, StreamEnd};
use crate::session::{CloseReason, Violation};
use crate::time::Duration;
use crate::wire::{ByeCode, Frame, Gap, Heartbeat, Kind, Last, Lost, Publish, Start, Subscribed, Welcome};

const EPOCH: u64 = 77;

fn subscriber(limits: Limits, prefix: &str) -> Hand<Subscriber> {
    let policy = Reconnect::zmq(100, 100);
    let mut hand =
        Hand::new(Subscriber::new(limits, policy, 1, SessionId([7; 16]), Random::new(1), prefix).unwrap());
    hand.machine.start();
    hand
}

/// Answers the dial and the Hello of a subscriber.
fn greet(hand: &mut Hand<Subscriber>, epoch: u64) -> ConnId {
    let conn = hand.connect();
    let hello = hand.heard(conn).unwrap();
    assert!(matches!(Frame::decode(&hello), Ok(Frame::Hello(hello)) if hello.role == Role::Subscriber));
    hand.deliver(conn, Frame::Welcome(Welcome::new(epoch, false, 10_000, 1_000_000)));
    conn
}

/// The set that a handshake sends, its ticket, and where it wants to start.
fn set(hand: &mut Hand<Subscriber>, conn: ConnId) -> (Vec<String>, u64, Start) {
    let mut all = Vec::new();
    loop {
        let body = hand.heard(conn).expect("the last Subscribe of a handshake");
        let Ok(Frame::Subscribe(subscribe)) = Frame::decode(&body) else { panic!("no Subscribe") };
        all.extend(subscribe.prefixes.iter().map(String::from));
        if let Some(start) = subscribe.start {
            return (all, subscribe.ticket, start);
        }
    }
}

/// A subscriber to `a` whose set is in force from position 5 on.
fn following() -> (Hand<Subscriber>, ConnId) {
    let mut hand = subscriber(Limits::default(), "a");
    let conn = greet(&mut hand, EPOCH);
    let (_, ticket, _) = set(&mut hand, conn);
    hand.deliver(conn, subscribed(ticket, 5));
    events(&mut hand);
    (hand, conn)
}

fn subscribed(ticket: u64, position: u64) -> Frame<'static> {
    Frame::Subscribed(Subscribed { ticket, position })
}

fn publish<'a>(seq: u64, topic: &'a str) -> Frame<'a> {
    Frame::Publish { header: Publish { seq, topic }, data: b"data" }
}

fn heartbeat(position: u64) -> Frame<'static> {
    Frame::Heartbeat(Heartbeat { wall_clock_ns: 0, position })
}

fn gap(before: u64, after: u64, lost: Lost) -> Frame<'static> {
    Frame::Gap(Gap { before, after, lost })
}

/// What the application sees: messages as `seq topic`, the rest in a word or two.
fn events(hand: &mut Hand<Subscriber>) -> Vec<String> {
    let mut batch = Batch::new();
    let mut all = Vec::new();
    while hand.machine.exchange(&mut batch) {
        while let Some(event) = batch.next() {
            all.push(match event {
                Event::Message { seq, topic, data } => {
                    assert_eq!(data, b"data");
                    format!("{seq} {topic}")
                }
                Event::Snapshot { seq, topic, data } => {
                    assert_eq!(data, b"data");
                    format!("snapshot {seq} {topic}")
                }
                Event::Other(EventKind::Lost { before, after, lost }) => {
                    format!("{before}..{after} {lost:?}")
                }
                Event::Other(EventKind::Subscribed { ticket, position }) => {
                    format!("subscribed {ticket} {position}")
                }
                Event::Other(EventKind::Restarted { epoch, from }) => format!("restarted {epoch} {from}"),
                Event::Other(EventKind::Position(position)) => format!("position {position}"),
                Event::Other(EventKind::Connection(event)) => match *event {
                    ConnectionEvent::Connected { .. } => "connected".to_string(),
                    ConnectionEvent::Disconnected { .. } => "disconnected".to_string(),
                    ConnectionEvent::RetryIn { .. } => "retry".to_string(),
                    ConnectionEvent::GaveUp { .. } => "gave up".to_string(),
                },
            });
        }
    }
    hand.pump();
    all
}

fn closed_for(hand: &mut Hand<Subscriber>) -> Option<CloseReason> {
    hand.pump();
    core::iter::from_fn(|| hand.machine.poll_connection_event()).find_map(|event| match event {
        ConnectionEvent::RetryIn { cause: Cause::Closed(reason), .. } => Some(reason),
        _ => None,
    })
}

#[test]
fn first_connection_starts_fresh_and_messages_come_in_order() {
    let mut hand = subscriber(Limits::default(), "a");
    let conn = greet(&mut hand, EPOCH);
    let (prefixes, ticket, start) = set(&mut hand, conn);
    assert_eq!((prefixes, start), (vec![String::from("a")], Start::Fresh));
    hand.deliver(conn, heartbeat(0)).deliver(conn, subscribed(ticket, 5));
    hand.deliver(conn, publish(5, "a")).deliver(conn, publish(9, "ab"));
    hand.deliver(conn, heartbeat(20))
        .deliver(conn, gap(10, 30, Lost::Exact(3)))
        .deliver(conn, publish(30, "a"));
    assert_eq!(
        events(&mut hand),
        ["connected", "subscribed 0 5", "5 a", "9 ab", "position 20", "10..30 Exact(3)", "30 a"]
    );
    let stats = hand.machine.stats();
    assert_eq!((stats.received, stats.lost, stats.accounts), (3, 3, 1));
}

#[test]
fn set_is_state_and_tickets_survive_a_reconnect() {
    let mut hand = subscriber(Limits::default(), "a");
    let early = hand.machine.subscribe("b").unwrap();
    let conn = greet(&mut hand, EPOCH);
    let (prefixes, handshake, _) = set(&mut hand, conn);
    assert_eq!(prefixes, ["a", "b"]);
    // Asked for after the set was sent: it has an answer of its own.
    let late = hand.machine.subscribe("c").unwrap();
    assert!(!hand.machine.is_answered(early) && !hand.machine.is_answered(late));
    hand.deliver(conn, subscribed(handshake, 0));
    assert!(hand.machine.is_answered(early) && !hand.machine.is_answered(late));
    let body = hand.heard(conn).unwrap();
    assert!(matches!(Frame::decode(&body), Ok(Frame::Subscribe(subscribe)) if subscribe.ticket == late));
    // Its answer never comes, the next handshake is one.
    hand.lose(conn, StreamEnd::Reset);
    let removed = hand.machine.unsubscribe("a").unwrap();
    hand.at(100);
    let conn = greet(&mut hand, EPOCH);
    let (prefixes, handshake, start) = set(&mut hand, conn);
    assert_eq!(
        (prefixes, start),
        (vec!["b".into(), "c".into()], Start::Resume { next_seq: 0, accounted: 0 })
    );
    hand.deliver(conn, subscribed(handshake, 0));
    assert!([early, late, removed].iter().all(|ticket| hand.machine.is_answered(*ticket)));
    assert!(!hand.machine.is_answered(999));
    hand.expect_silence(conn);
}

#[test]
fn repeated_subscriptions_are_counted_here_and_asked_for_once() {
    let (mut hand, conn) = following();
    let again = hand.machine.subscribe("a").unwrap();
    let body = hand.heard(conn).unwrap();
    assert!(matches!(Frame::decode(&body), Ok(Frame::Subscribe(_))), "the answer says from where on");
    hand.deliver(conn, subscribed(again, 5));
    let one = hand.machine.unsubscribe("a").unwrap();
    let body = hand.heard(conn).unwrap();
    assert!(matches!(Frame::decode(&body), Ok(Frame::Subscribe(_))), "still wanted");
    hand.deliver(conn, subscribed(one, 6));
    let two = hand.machine.unsubscribe("a").unwrap();
    let body = hand.heard(conn).unwrap();
    assert!(matches!(Frame::decode(&body), Ok(Frame::Unsubscribe(_))));
    hand.deliver(conn, publish(6, "a")).deliver(conn, subscribed(two, 7));
    assert_eq!(events(&mut hand), ["subscribed 2 5", "subscribed 3 6", "6 a", "subscribed 4 7"]);
    assert_eq!(hand.machine.unsubscribe("a"), Err(SubscribeError::NotSubscribed));
}

#[test]
fn resume_goes_on_where_it_was_and_a_gap_of_at_most_begins_a_new_account() {
    let (mut hand, conn) = following();
    hand.deliver(conn, publish(7, "a")).lose(conn, StreamEnd::Reset).at(100);
    let conn = greet(&mut hand, EPOCH);
    let (_, ticket, start) = set(&mut hand, conn);
    assert_eq!(
        start,
        Start::Resume { next_seq: 8, accounted: 0 },
        "the record is lost, and its counts with it"
    );
    hand.deliver(conn, subscribed(ticket, 8)).deliver(conn, publish(8, "a"));
    assert_eq!(hand.machine.stats().accounts, 1, "nothing was published meanwhile");
    hand.lose(conn, StreamEnd::Reset).at(200);
    let conn = greet(&mut hand, EPOCH);
    let (_, ticket, start) = set(&mut hand, conn);
    assert_eq!(start, Start::Resume { next_seq: 9, accounted: 0 }, "again");
    hand.deliver(conn, gap(9, 20, Lost::AtMost(11))).deliver(conn, subscribed(ticket, 20));
    hand.deliver(conn, publish(20, "a")).lose(conn, StreamEnd::Reset).at(300);
    let conn = greet(&mut hand, EPOCH);
    assert_eq!(set(&mut hand, conn).2, Start::Resume { next_seq: 21, accounted: 0 });
    let stats = hand.machine.stats();
    assert_eq!((stats.accounts, stats.lost, stats.lost_at_most), (2, 0, 11));
    let cycle = ["disconnected", "retry", "connected"];
    let seen: Vec<String> =
        events(&mut hand).into_iter().filter(|event| !cycle.contains(&&**event)).collect();
    assert_eq!(seen, ["7 a", "subscribed 0 8", "8 a", "9..20 AtMost(11)", "subscribed 0 20", "20 a"]);
}

#[test]
fn gap_of_nothing_is_only_a_position() {
    let (mut hand, conn) = following();
    hand.deliver(conn, gap(5, 9, Lost::AtMost(0))).deliver(conn, gap(9, 12, Lost::Exact(0)));
    assert_eq!(events(&mut hand), ["position 12"]);
    assert_eq!(hand.machine.stats().accounts, 1);
}

#[test]
fn another_epoch_is_a_restart_with_a_new_account() {
    let (mut hand, conn) = following();
    hand.deliver(conn, publish(100, "a")).lose(conn, StreamEnd::Eof).at(100);
    let conn = greet(&mut hand, EPOCH + 1);
    let (_, ticket, start) = set(&mut hand, conn);
    assert_eq!(start, Start::Fresh);
    hand.deliver(conn, subscribed(ticket, 3)).deliver(conn, publish(3, "a"));
    assert_eq!(
        events(&mut hand),
        ["100 a", "disconnected", "retry", "connected", "restarted 78 3", "subscribed 0 3", "3 a"]
    );
    assert_eq!(hand.machine.stats().accounts, 2);

    // Lost before the first set was in force: there is no account that a restart could end.
    let mut hand = subscriber(Limits::default(), "a");
    let conn = greet(&mut hand, EPOCH);
    hand.lose(conn, StreamEnd::Eof).at(100);
    let conn = greet(&mut hand, EPOCH + 1);
    let (_, ticket, _) = set(&mut hand, conn);
    hand.deliver(conn, subscribed(ticket, 3));
    assert_eq!(events(&mut hand)[3..], ["connected", "subscribed 0 3"]);
}

#[test]
fn server_that_is_lost_before_the_set_is_in_force_changes_nothing() {
    let (mut hand, conn) = following();
    hand.deliver(conn, publish(8, "a")).lose(conn, StreamEnd::Eof).at(100);
    let other = greet(&mut hand, EPOCH + 1);
    assert_eq!(set(&mut hand, other).2, Start::Fresh);
    hand.lose(other, StreamEnd::Eof).at(200);
    let conn = greet(&mut hand, EPOCH);
    let (_, ticket, start) = set(&mut hand, conn);
    assert_eq!(start, Start::Resume { next_seq: 9, accounted: 0 }, "the account of before is still open");
    hand.deliver(conn, subscribed(ticket, 9)).lose(conn, StreamEnd::Eof).at(300);
    let other = greet(&mut hand, EPOCH + 1);
    hand.lose(other, StreamEnd::Eof).at(400);
    let other = greet(&mut hand, EPOCH + 1);
    let (_, ticket, _) = set(&mut hand, other);
    hand.deliver(other, subscribed(ticket, 3));
    let seen = events(&mut hand);
    assert_eq!(
        seen[seen.len() - 2..],
        ["restarted 78 3", "subscribed 0 3"],
        "however often it was met before"
    );
}

#[test]
fn wrong_frames_end_the_connection_and_are_told() {
    let back = |seq, position| Violation::SequenceWentBack { seq, position };
    let table = [
        (publish(4, "a"), back(4, 5)),
        (heartbeat(4), back(4, 5)),
        (gap(0, 4, Lost::Exact(1)), back(4, 5)),
        (subscribed(99, 5), Violation::UnknownTicket { ticket: 99 }),
        (Frame::Welcome(Welcome::new(1, false, 1, 5_000)), Violation::Unexpected { kind: Kind::Welcome }),
        (
            Frame::Last { header: Last { seq: 9, topic: "a" }, data: b"" },
            Violation::Unexpected { kind: Kind::Last },
        ),
    ];
    for (frame, violation) in table {
        let (mut hand, conn) = following();
        hand.deliver(conn, frame);
        assert!(hand.is_closed(conn));
        assert_eq!(closed_for(&mut hand), Some(CloseReason::Protocol(violation)), "{frame:?}");
    }
    // Before the set is in force there is nothing to publish, and its answer names it.
    for frame in [publish(4, "a"), subscribed(99, 5)] {
        let mut hand = subscriber(Limits::default(), "a");
        let conn = greet(&mut hand, EPOCH);
        hand.deliver(conn, frame);
        assert!(hand.is_closed(conn));
    }
    // What a lying server says is lost does not overflow.
    let (mut hand, conn) = following();
    hand.deliver(conn, gap(5, 6, Lost::Exact(u64::MAX))).deliver(conn, gap(6, 7, Lost::Exact(u64::MAX)));
    hand.deliver(conn, publish(u64::MAX, "a"));
    assert_eq!(hand.machine.stats().lost, u64::MAX);
}

#[test]
fn slow_application_pauses_reading_and_loses_nothing() {
    let mut limits = Limits::default();
    limits.inbox_bytes = 1_000;
    let mut hand = subscriber(limits, "");
    let conn = greet(&mut hand, EPOCH);
    let (prefixes, ticket, _) = set(&mut hand, conn);
    assert_eq!(prefixes, [""]);
    hand.deliver(conn, subscribed(ticket, 0));
    let mut seq = 0;
    while hand.machine.wants_read(conn) {
        hand.deliver(conn, publish(seq, "a"));
        seq += 1;
        assert!(seq < 1_000);
    }
    // Silence does not count while nobody reads, and what is on its way is still taken.
    hand.at(1_000_000).deliver(conn, publish(seq, "a"));
    assert_eq!(hand.machine.stats().pauses, 1);
    assert_eq!(events(&mut hand).len() as u64, seq + 3);
    assert!(hand.machine.wants_read(conn));
    hand.machine.handle_drained(hand.now, conn);
    assert_eq!(hand.machine.poll_timeout(), Some(hand.now + Duration::from_secs(30)));
}

#[test]
fn application_that_reads_nothing_does_not_gather_connection_events_without_end() {
    let mut limits = Limits::default();
    limits.inbox_bytes = 1_000;
    let mut hand = subscriber(limits, "a");
    let mut attempts = 0;
    while hand.dialled_now() {
        attempts += 1;
        let conn = greet(&mut hand, EPOCH);
        hand.lose(conn, StreamEnd::Reset);
        let then = hand.now.as_micros() / 1_000 + 100;
        hand.at(then);
        assert!(attempts < 1_000);
    }
    assert!(hand.machine.stats().inbox_bytes < 4_000, "twice the limit, and what one more brings");
    let then = hand.now.as_micros() / 1_000 + 100_000;
    assert!(!hand.at(then).dialled_now(), "another connection would only add to it");
    events(&mut hand);
    assert!(hand.dialled_now(), "it has caught up");
}

#[test]
fn twenty_thousand_subscriptions_are_all_there_after_a_reconnect() {
    let (mut hand, conn) = following();
    let tickets: Vec<u64> =
        (0..20_000).map(|n| hand.machine.subscribe(&format!("tick.{n:05}")).unwrap()).collect();
    for ticket in &tickets {
        hand.heard(conn).unwrap();
        hand.deliver(conn, subscribed(*ticket, 5));
    }
    assert!(tickets.iter().all(|ticket| hand.machine.is_answered(*ticket)));
    hand.lose(conn, StreamEnd::Reset).at(100);
    let conn = greet(&mut hand, EPOCH);
    let (prefixes, _, _) = set(&mut hand, conn);
    assert_eq!(prefixes.len(), 20_001);
    assert!((0..20_000).all(|n| prefixes[n + 1] == format!("tick.{n:05}")));
}

#[test]
fn set_is_bounded_and_everything_is_for_life() {
    let mut limits = Limits::default();
    limits.max_prefixes = 2;
    limits.max_prefix_bytes = 10;
    let mut hand = subscriber(limits.clone(), "a");
    let long = "p".repeat(256);
    assert_eq!(hand.machine.subscribe(&long), Err(SubscribeError::TooLong { len: 256, limit: 255 }));
    assert_eq!(hand.machine.subscribe("0123456789"), Err(SubscribeError::TooManyBytes { limit: 10 }));
    assert_eq!(hand.machine.subscribe(""), Err(SubscribeError::EverythingIsForLife));
    assert!(hand.machine.subscribe("b").is_ok());
    assert_eq!(hand.machine.subscribe("c"), Err(SubscribeError::TooMany { limit: 2 }));
    assert!(hand.machine.unsubscribe("a").is_ok());
    assert!(hand.machine.subscribe("c").is_ok());
    assert_eq!(hand.machine.stats().prefixes, 2);
    assert!(hand.machine.subscribe("c").is_ok());
    assert_eq!(hand.machine.unsubscribe("c"), Err(SubscribeError::TooManyUnanswered { limit: 4 }));

    let mut hand = subscriber(limits, "");
    assert_eq!(hand.machine.subscribe("a"), Err(SubscribeError::EverythingIsForLife));
    assert_eq!(hand.machine.unsubscribe(""), Err(SubscribeError::EverythingIsForLife));
    assert!(hand.machine.subscribe("").is_ok());
}

#[test]
fn stop_keeps_events_and_the_set_and_a_paused_subscriber_reads_its_end() {
    let mut limits = Limits::default();
    limits.inbox_bytes = 1;
    let mut hand = subscriber(limits, "a");
    let conn = greet(&mut hand, EPOCH);
    let (_, ticket, _) = set(&mut hand, conn);
    hand.deliver(conn, subscribed(ticket, 0));
    assert!(!hand.machine.wants_read(conn));
    let now = hand.now;
    hand.machine.stop(now);
    hand.expect(conn, Frame::Bye { code: ByeCode::Stopped, text: "the client is stopping" });
    assert!(hand.machine.wants_read(conn) && hand.machine.is_flushed());
    hand.deliver(conn, publish(0, "a")).lose(conn, StreamEnd::Eof);
    assert!(hand.machine.is_closed() && !hand.at(60_000).dialled_now());
    assert_eq!(events(&mut hand), ["connected", "subscribed 0 0", "disconnected"]);
    hand.machine.start();
    let conn = greet(&mut hand, EPOCH);
    assert_eq!(set(&mut hand, conn).0, ["a"]);
}

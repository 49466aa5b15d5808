//! Streams beside the main one, snapshots, and replay from a saved place.

use super::*;
use crate::pattern::{Retain, StreamError, StreamId, StreamOptions};
use crate::wire::Last;

pub(super) fn hello_to(stream: &str, session: u8, attempt: u64) -> Frame<'_> {
    Frame::Hello(Hello::new(Role::Subscriber, SessionId([session; 16]), attempt, 1_000_000, stream))
}

/// A server whose main stream is like this.
pub(super) fn server_with(limits: Limits, options: StreamOptions) -> Hand<Server> {
    let mut hand = server(limits);
    hand.machine.set_main_stream(options).unwrap();
    hand
}

pub(super) fn short_log(messages: u32) -> Limits {
    let mut limits = Limits::default();
    limits.log_messages = messages;
    limits
}

pub(super) fn subscribed(ticket: u64, position: u64) -> Frame<'static> {
    Frame::Subscribed(Subscribed { ticket, position })
}

pub(super) fn last<'a>(seq: u64, topic: &'a str, data: &'a [u8]) -> Frame<'a> {
    Frame::Last { header: Last { seq, topic }, data }
}

pub(super) fn subscribe_marked(
    hand: &mut Hand<Server>,
    conn: ConnId,
    ticket: u64,
    start: Option<Start>,
    prefixes: &[&str],
) {
    let region = region(prefixes);
    let prefixes = Prefixes::from_bytes(&region).unwrap();
    hand.deliver(conn, Frame::Subscribe(Subscribe { ticket, snapshot: true, start, prefixes }));
}

/// A connection of a subscriber that has not sent its set.
pub(super) fn greeted(hand: &mut Hand<Server>, session: u8) -> ConnId {
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello(Role::Subscriber, session, 1)).expect(conn, welcome());
    conn
}

// Streams.

#[test]
fn each_stream_has_its_own_numbers_log_and_subscribers() {
    let mut hand = server(short_log(4));
    let ticks = hand.machine.add_stream("ticks", StreamOptions::default()).unwrap();
    assert_eq!((hand.machine.stream("ticks"), hand.machine.stream("")), (Some(ticks), Some(StreamId::MAIN)));
    let orders = subscriber(&mut hand, 1, &["a"]);
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello_to("ticks", 2, 1)).expect(conn, welcome());
    subscribe(&mut hand, conn, 1, Some(Start::Fresh), &["a"]);
    hand.expect(conn, subscribed(1, 0));

    // A flood on one does not evict what is to be read on the other.
    hand.room(orders, 0).machine.publish("a", b"order").unwrap();
    for n in 0..100 {
        assert_eq!(hand.machine.publish_on(ticks, "a", b"tick").unwrap().seq, n);
        hand.expect(conn, publish(n, "a", b"tick"));
    }
    hand.room(orders, usize::MAX).expect(orders, publish(0, "a", b"order")).expect_silence(orders);
    assert_eq!((hand.machine.head(), hand.machine.head_of(ticks)), (1, Some(100)));
    let stats = hand.machine.stream_stats(ticks).unwrap();
    assert_eq!((stats.published, stats.sent, stats.subscribers), (100, 100, 1));
    assert_eq!(hand.machine.stats().publisher.published, 1);
}

#[test]
fn unknown_stream_is_refused_and_can_be_added_later() {
    let mut hand = server(Limits::default());
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello_to("ticks", 1, 1));
    let body = hand.heard(conn).unwrap();
    assert!(matches!(Frame::decode(&body), Ok(Frame::Reject { code: RejectCode::UnknownStream, .. })));
    hand.machine.add_stream("ticks", StreamOptions::default()).unwrap();
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello_to("ticks", 1, 2)).expect(conn, welcome());
}

#[test]
fn streams_are_bounded_and_what_cannot_be_is_said() {
    let mut limits = Limits::default();
    limits.max_streams = 3;
    let mut hand = server(limits);
    let plain = StreamOptions::default();
    let long = "s".repeat(256);
    let machine = &mut hand.machine;
    assert_eq!(machine.add_stream(&long, plain), Err(StreamError::NameTooLong { len: 256, limit: 255 }));
    assert_eq!(machine.add_stream("", plain), Err(StreamError::Exists));
    assert_eq!(
        machine.add_stream("a", plain.log_bytes(100)),
        Err(StreamError::LogSize { log_bytes: 100, log_messages: 65_536, least: 16 * 1024 })
    );
    assert!(matches!(machine.add_stream("a", plain.log_messages(0)), Err(StreamError::LogSize { .. })));
    machine.add_stream("a", plain).unwrap();
    assert_eq!(machine.add_stream("a", plain), Err(StreamError::Exists));
    machine.add_stream("b", plain).unwrap();
    assert_eq!(machine.add_stream("c", plain), Err(StreamError::TooMany { limit: 3 }));
    assert_eq!(machine.publish_on(StreamId(7), "a", b""), Err(PublishError::UnknownStream));
    machine.publish("a", b"").unwrap();
    assert_eq!(machine.set_main_stream(plain), Err(StreamError::Exists), "it is in use");
}

#[test]
fn session_that_comes_back_to_another_stream_begins_anew() {
    let mut hand = server(Limits::default());
    let other = hand.machine.add_stream("other", StreamOptions::default()).unwrap();
    let conn = subscriber(&mut hand, 1, &["a"]);
    hand.lose(conn, StreamEnd::Reset);
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello_to("other", 1, 2)).expect(conn, welcome());
    subscribe(&mut hand, conn, 1, Some(Start::Fresh), &["a"]);
    hand.expect(conn, subscribed(1, 0));
    hand.machine.publish("a", b"main").unwrap();
    hand.machine.publish_on(other, "a", b"other").unwrap();
    hand.expect(conn, publish(0, "a", b"other")).expect_silence(conn);
    assert_eq!(hand.machine.stats().publisher.subscribers, 0);
}

#[test]
fn longer_publication_puts_out_only_the_small_readers_of_its_stream() {
    let mut hand = server(Limits::default());
    let wide = hand.machine.add_stream("wide", StreamOptions::default()).unwrap();
    let small = |stream: &'static str, session| {
        Frame::Hello(Hello::new(Role::Subscriber, SessionId([session; 16]), 1, 5_000, stream))
    };
    let [main, beside] = [("", 1), ("wide", 2)].map(|(stream, session)| {
        let conn = hand.accept().unwrap();
        hand.deliver(conn, small(stream, session)).expect(conn, welcome());
        subscribe(&mut hand, conn, 1, Some(Start::Fresh), &["a"]);
        hand.expect(conn, subscribed(1, 0));
        conn
    });
    hand.machine.publish_on(wide, "a", &[0; 6_000]).unwrap();
    assert!(hand.is_closed(beside) && !hand.is_closed(main));
}

// Snapshots.

#[test]
fn snapshot_is_the_newest_message_of_each_topic_before_the_answer() {
    let mut hand = server_with(Limits::default(), StreamOptions::default().last_value(true));
    for (topic, data) in [("t.a", "1"), ("t.b", "2"), ("t.a", "3"), ("x", "4")] {
        hand.machine.publish(topic, data.as_bytes()).unwrap();
    }
    let conn = greeted(&mut hand, 1);
    subscribe_marked(&mut hand, conn, 1, Some(Start::Fresh), &["t."]);
    hand.expect(conn, last(1, "t.b", b"2")).expect(conn, last(2, "t.a", b"3"));
    hand.expect(conn, subscribed(1, 4)).expect_silence(conn);
    hand.machine.publish("t.a", b"5").unwrap();
    hand.expect(conn, publish(4, "t.a", b"5"));
    // Only what was marked, and it counts as nothing.
    subscribe(&mut hand, conn, 2, None, &["x"]);
    hand.expect(conn, subscribed(2, 5));
    subscribe_marked(&mut hand, conn, 3, None, &["x"]);
    hand.expect(conn, last(3, "x", b"4")).expect(conn, subscribed(3, 5)).expect_silence(conn);
    let stats = hand.machine.stats().publisher;
    assert_eq!((stats.sent, stats.snapshot_messages, stats.last_topics), (1, 3, 3));
}

#[test]
fn everything_has_a_snapshot_too_and_a_stream_without_last_values_has_none() {
    let mut hand = server_with(Limits::default(), StreamOptions::default().last_value(true));
    hand.machine.publish("a", b"1").unwrap();
    hand.machine.publish("b", b"2").unwrap();
    let conn = greeted(&mut hand, 1);
    subscribe_marked(&mut hand, conn, 1, Some(Start::Fresh), &[""]);
    hand.expect(conn, last(0, "a", b"1")).expect(conn, last(1, "b", b"2"));
    hand.expect(conn, subscribed(1, 2)).expect_silence(conn);

    let mut hand = server(Limits::default());
    hand.machine.publish("a", b"1").unwrap();
    let conn = greeted(&mut hand, 1);
    subscribe_marked(&mut hand, conn, 1, Some(Start::Fresh), &[""]);
    hand.expect(conn, subscribed(1, 1)).expect_silence(conn);
}

#[test]
fn what_moves_on_while_a_snapshot_is_written_comes_from_the_log() {
    for set in [&["t"][..], &[""]] {
        let mut hand = server_with(Limits::default(), StreamOptions::default().last_value(true));
        for topic in ["t.a", "t.b", "t.c"] {
            hand.machine.publish(topic, &[b'x'; 40_000]).unwrap();
        }
        let conn = greeted(&mut hand, 1);
        hand.room(conn, 50_000);
        subscribe_marked(&mut hand, conn, 1, Some(Start::Fresh), set);
        // The first is out, the second has begun, and the third is published again before its turn.
        hand.machine.publish("t.c", b"new").unwrap();
        hand.room(conn, usize::MAX);
        hand.expect(conn, last(0, "t.a", &[b'x'; 40_000]));
        hand.expect(conn, last(1, "t.b", &[b'x'; 40_000]));
        hand.expect(conn, subscribed(1, 3)).expect(conn, publish(3, "t.c", b"new")).expect_silence(conn);
    }
}

#[test]
fn snapshot_cut_off_by_a_loss_is_asked_for_again_and_leaves_no_trace() {
    let mut hand = server_with(Limits::default(), StreamOptions::default().last_value(true));
    for topic in ["t.a", "t.b"] {
        hand.machine.publish(topic, b"12345").unwrap();
    }
    let conn = subscriber(&mut hand, 1, &["t"]);
    hand.room(conn, 3);
    subscribe_marked(&mut hand, conn, 2, None, &["t"]);
    hand.machine.publish("t.b", b"later").unwrap();
    hand.lose(conn, StreamEnd::Reset);
    let conn = back(&mut hand, Role::Subscriber, 1, 2);
    subscribe_marked(&mut hand, conn, 3, Some(Start::Resume { next_seq: 2, accounted: 0 }), &["t"]);
    // The old answer in its place, without what it was to bring; then what was missed; then the snapshot.
    hand.expect(conn, subscribed(1, 2));
    hand.expect(conn, subscribed(2, 2)).expect(conn, publish(2, "t.b", b"later"));
    hand.expect(conn, last(0, "t.a", b"12345")).expect(conn, last(2, "t.b", b"later"));
    hand.expect(conn, subscribed(3, 3)).expect_silence(conn);
    hand.deliver(conn, Frame::Bye { code: ByeCode::Stopped, text: "" });
    assert_eq!(hand.machine.budget.prefix_bytes(), 0, "nothing is left of sets and marks");
    assert_eq!(hand.machine.budget.positions(), 0);
}

#[test]
fn marks_count_against_the_budget_of_prefixes() {
    let mut limits = Limits::default();
    limits.prefixes_bytes = 3 * (432 + 4);
    let mut hand = server_with(limits, StreamOptions::default().last_value(true));
    let conn = greeted(&mut hand, 1);
    subscribe_marked(&mut hand, conn, 1, Some(Start::Fresh), &["aa"]);
    hand.expect(conn, subscribed(1, 0));
    hand.room(conn, 0).machine.publish("aa", b"").unwrap();
    subscribe_marked(&mut hand, conn, 2, None, &["aa"]);
    subscribe_marked(&mut hand, conn, 3, None, &["bb"]);
    hand.room(conn, usize::MAX).expect_bye(conn, ByeCode::Limit);
    let reason = CloseReason::Limit(LimitReached::Prefixes { limit: 1_308 });
    assert_eq!(left(&mut hand), [(conn, reason)]);
    assert_eq!(hand.machine.budget.prefix_bytes(), 0);
}

// Replay.

#[test]
fn whoever_saved_a_place_gets_what_the_log_retains_from_there_on() {
    for set in [&["a"][..], &[""]] {
        let mut hand = server_with(short_log(8), StreamOptions::default().retain(Retain::All));
        let topic_of = |n: u64| if n.is_multiple_of(2) { "a" } else { "b" };
        for n in 0..10 {
            hand.machine.publish(topic_of(n), b"x").unwrap();
        }
        let conn = greeted(&mut hand, 1);
        subscribe(&mut hand, conn, 1, Some(Start::From { seq: 5 }), set);
        hand.expect(conn, subscribed(1, 5));
        let wanted = |n: &u64| set == [""] || topic_of(*n) == "a";
        for n in (5..10).filter(wanted) {
            hand.expect(conn, publish(n, topic_of(n), b"x"));
        }
        hand.expect_silence(conn);
        // It is an account like any other: a loss later is resumed exactly.
        hand.lose(conn, StreamEnd::Reset).machine.publish("a", b"y").unwrap();
        let conn = back(&mut hand, Role::Subscriber, 1, 2);
        let accounted = (5..9).filter(wanted).count() as u64;
        subscribe(&mut hand, conn, 2, Some(Start::Resume { next_seq: 9, accounted }), set);
        if set == [""] {
            hand.expect(conn, publish(9, "b", b"x"));
        }
        hand.expect(conn, publish(10, "a", b"y")).expect(conn, subscribed(2, 11)).expect_silence(conn);
    }
}

#[test]
fn what_the_log_has_not_is_a_gap_of_at_most_that_many() {
    let mut hand = server_with(short_log(4), StreamOptions::default().retain(Retain::All));
    for _ in 0..10 {
        hand.machine.publish("a", b"x").unwrap();
    }
    let conn = greeted(&mut hand, 1);
    subscribe(&mut hand, conn, 1, Some(Start::From { seq: 2 }), &["a"]);
    hand.expect(conn, Frame::Gap(Gap { before: 2, after: 6, lost: Lost::AtMost(4) }));
    hand.expect(conn, subscribed(1, 6));
    (6..10).for_each(|n| {
        hand.expect(conn, publish(n, "a", b"x"));
    });
    hand.expect_silence(conn);
    // A place ahead of the head is taken for the head; a lost record is replayed like a saved place.
    let conn = greeted(&mut hand, 2);
    subscribe(&mut hand, conn, 1, Some(Start::From { seq: 99 }), &["a"]);
    hand.expect(conn, subscribed(1, 10)).expect_silence(conn);
    let conn = greeted(&mut hand, 3);
    subscribe(&mut hand, conn, 1, Some(Start::Resume { next_seq: 9, accounted: 3 }), &["a"]);
    hand.expect(conn, subscribed(1, 9)).expect(conn, publish(9, "a", b"x")).expect_silence(conn);
}

#[test]
fn stream_that_retains_only_what_matches_replays_nothing_to_one_it_does_not_know() {
    let mut hand = server(Limits::default());
    let other = subscriber(&mut hand, 1, &[""]);
    hand.machine.publish("a", b"x").unwrap();
    hand.expect(other, publish(0, "a", b"x"));
    let conn = greeted(&mut hand, 2);
    subscribe(&mut hand, conn, 1, Some(Start::From { seq: 0 }), &["a"]);
    hand.expect(conn, Frame::Gap(Gap { before: 0, after: 1, lost: Lost::AtMost(1) }));
    hand.expect(conn, subscribed(1, 1)).expect_silence(conn);
}

#[test]
fn replay_that_is_lapped_before_it_is_read_is_counted_exactly() {
    for set in [&["a"][..], &[""]] {
        let mut hand = server_with(short_log(8), StreamOptions::default().retain(Retain::All));
        for _ in 0..8 {
            hand.machine.publish("a", b"x").unwrap();
        }
        let conn = greeted(&mut hand, 1);
        hand.room(conn, 0);
        subscribe(&mut hand, conn, 1, Some(Start::From { seq: 0 }), set);
        for _ in 0..5 {
            hand.machine.publish("a", b"x").unwrap();
        }
        hand.room(conn, usize::MAX).expect(conn, subscribed(1, 0));
        // It goes on from the newest three quarters, as always.
        hand.expect(conn, Frame::Gap(Gap { before: 0, after: 7, lost: Lost::Exact(7) }));
        (7..13).for_each(|n| {
            hand.expect(conn, publish(n, "a", b"x"));
        });
        hand.expect_silence(conn);
    }
}

#[test]
fn a_claim_that_cannot_be_leaves_no_places_behind() {
    for accounted in [1_000, 0] {
        let mut hand = server(Limits::default());
        let conn = subscriber(&mut hand, 1, &["a"]);
        hand.room(conn, 0);
        for _ in 0..100 {
            hand.machine.publish("a", b"x").unwrap();
        }
        let conn = back(&mut hand, Role::Subscriber, 1, 2);
        subscribe(&mut hand, conn, 9, Some(Start::Resume { next_seq: 0, accounted }), &["a"]);
        hand.pump().deliver(conn, Frame::Bye { code: ByeCode::Stopped, text: "" });
        assert_eq!(hand.machine.budget.positions(), 0, "{accounted}");
    }
}

//! What becomes of slow subscribers, as their stream's policy says.

use super::streams::*;
use super::*;
use crate::pattern::{SlowPolicy, StreamId, StreamOptions};

#[test]
fn skipping_to_the_newest_leaves_out_all_but_the_last_and_counts_it() {
    for set in [&["a", "b"][..], &[""]] {
        let mut hand = server_with(short_log(16), StreamOptions::default().policy(SlowPolicy::SkipToNewest));
        let slow = subscriber(&mut hand, 1, set);
        hand.room(slow, 20);
        for seq in 0..100_u64 {
            hand.machine.publish(if seq % 2 == 0 { "a" } else { "b" }, b"0123456789").unwrap();
            hand.pump();
        }
        hand.room(slow, usize::MAX).expect(slow, publish(0, "a", b"0123456789"));
        hand.expect(slow, Frame::Gap(Gap { before: 1, after: 99, lost: Lost::Exact(98) }));
        hand.expect(slow, publish(99, "b", b"0123456789")).expect_silence(slow);
        // Who keeps up loses nothing.
        hand.machine.publish("a", b"0123456789").unwrap();
        hand.expect(slow, publish(100, "a", b"0123456789")).expect_silence(slow);
    }
}

#[test]
fn newest_that_was_pushed_out_for_others_is_counted_in_its_place() {
    let mut hand = server_with(short_log(4), StreamOptions::default().policy(SlowPolicy::SkipToNewest));
    let slow = subscriber(&mut hand, 1, &["a"]);
    let quick = subscriber(&mut hand, 2, &["b"]);
    hand.room(slow, 20);
    for topic in ["a", "a", "a", "b", "b", "b", "b"] {
        hand.machine.publish(topic, b"0123456789").unwrap();
        hand.pump();
    }
    hand.room(slow, usize::MAX).expect(slow, publish(0, "a", b"0123456789"));
    hand.expect(slow, Frame::Gap(Gap { before: 1, after: 7, lost: Lost::Exact(2) })).expect_silence(slow);
    (3..7).for_each(|seq| {
        hand.expect(quick, publish(seq, "b", b"0123456789"));
    });
    hand.machine.publish("a", b"0123456789").unwrap();
    hand.expect(slow, publish(7, "a", b"0123456789")).expect_silence(slow);
}

#[test]
fn blocking_publisher_finds_no_room_until_the_slow_one_has_read() {
    for set in [&["a"][..], &[""]] {
        let mut hand = server_with(short_log(4), StreamOptions::default().policy(SlowPolicy::Block));
        let (slow, quick) = (subscriber(&mut hand, 1, set), subscriber(&mut hand, 2, set));
        hand.room(slow, 0);
        for n in 0..4 {
            hand.machine.publish("a", b"0123456789").unwrap();
            hand.expect(quick, publish(n, "a", b"0123456789"));
        }
        for _ in 0..3 {
            assert_eq!(hand.machine.publish("a", b"x"), Err(PublishError::WouldBlock { subscribers: 1 }));
        }
        assert_eq!(hand.machine.stats().publisher.blocked, 1, "one publication waited");
        assert_eq!(hand.machine.head(), 4, "no number was used");
        // What matches nobody takes nobody's room; the frame that is half out is copied and needs no room.
        if set == ["a"] {
            hand.machine.publish("nobody", b"").unwrap();
        }
        hand.room(slow, 5);
        let seq = hand.machine.publish("a", b"x").unwrap().seq;
        assert!(matches!(hand.machine.publish("a", b"x"), Err(PublishError::WouldBlock { .. })));
        hand.room(slow, usize::MAX);
        for n in 0..4 {
            hand.expect(slow, publish(n, "a", b"0123456789"));
        }
        hand.expect(slow, publish(seq, "a", b"x")).expect(quick, publish(seq, "a", b"x"));
        for n in 1..=20 {
            hand.machine.publish("a", b"x").unwrap();
            hand.expect(slow, publish(seq + n, "a", b"x")).expect(quick, publish(seq + n, "a", b"x"));
        }
        hand.expect_silence(slow).expect_silence(quick);
    }
}

#[test]
fn there_is_room_for_more_when_the_oldest_part_is_read_and_the_publication_itself_finds_room() {
    let mut hand = server_with(short_log(64), StreamOptions::default().policy(SlowPolicy::Block));
    let slow = subscriber(&mut hand, 1, &[""]);
    hand.room(slow, 0);
    let large = [0u8; 3_000];
    while hand.machine.publish("a", &large).is_ok() {
        hand.pump();
    }
    let turn = hand.machine.wait_for_room(StreamId::MAIN, "a", &large).unwrap();
    assert!(!hand.machine.has_room_for_more(StreamId::MAIN, turn, "a", &large));
    // A little more is read at a time: whenever it says that there is room, there is.
    let mut told = 0;
    for _ in 0..200 {
        hand.room(slow, 500);
        hand.pump();
        if hand.machine.has_room_for_more(StreamId::MAIN, turn, "a", &large) {
            told += 1;
            let published = hand.machine.publish_waiting(StreamId::MAIN, turn, "a", &large);
            published.expect("it said that there is room");
        }
    }
    assert!(told > 5, "{told}");
    let too_long = vec![0u8; 1 << 20];
    assert!(
        hand.machine.has_room_for_more(StreamId::MAIN, turn, "a", &too_long),
        "nobody waits for what can never be"
    );
}

#[test]
fn what_a_large_publication_waits_for_is_not_taken_by_small_ones() {
    let limits = Limits { log_bytes: 64 * 1024, ..Limits::default() };
    let mut hand = server_with(limits, StreamOptions::default().policy(SlowPolicy::Block));
    let slow = subscriber(&mut hand, 1, &[""]);
    hand.room(slow, 0);
    let (large, small) = ([0u8; 12_000], [0u8; 100]);
    let small_ones = |hand: &mut Hand<Server>| {
        let count = (0..).take_while(|_| hand.machine.publish("a", &small).is_ok()).count();
        hand.pump();
        count
    };
    assert!(small_ones(&mut hand) > 400, "the log is full");
    let wait = |hand: &mut Hand<Server>| hand.machine.wait_for_room(StreamId::MAIN, "a", &large).unwrap();
    let (first, second) = (wait(&mut hand), wait(&mut hand));
    for turn in [first, second] {
        // It reads a little at a time, and in between there are always small ones that would take what becomes free.
        let mut reads = 0;
        while let Err(error) = hand.machine.publish_waiting(StreamId::MAIN, turn, "a", &large) {
            assert!(
                matches!(error, PublishError::WouldBlock { .. })
                    && hand.machine.is_first_to_wait(StreamId::MAIN, turn)
            );
            let read = hand.room(slow, 1_000);
            small_ones(read);
            reads += 1;
            assert!(reads < 100, "it starves");
        }
        assert!(reads > 1 || turn == second);
        if turn == first {
            let later = hand.machine.publish_waiting(StreamId::MAIN, second, "a", &large);
            assert!(later.is_err() || hand.machine.is_first_to_wait(StreamId::MAIN, first));
        }
        hand.machine.end_wait(StreamId::MAIN, turn);
    }
    hand.room(slow, usize::MAX);
    assert!(small_ones(&mut hand) > 400, "nobody waits any more");
    assert_eq!(hand.machine.stats().publisher.put_out, 0);
}

#[test]
fn who_was_waited_for_in_vain_is_put_out_and_comes_back_to_an_exact_count() {
    for set in [&["a"][..], &[""]] {
        let mut hand = server_with(short_log(4), StreamOptions::default().policy(SlowPolicy::Block));
        let (slow, quick) = (subscriber(&mut hand, 1, set), subscriber(&mut hand, 2, set));
        hand.room(slow, 0);
        for _ in 0..4 {
            hand.machine.publish("a", b"x").unwrap();
            hand.pump();
        }
        let now = hand.now;
        assert_eq!(hand.machine.put_out_slow(now, StreamId::MAIN, "a", b"x"), Ok(1));
        assert_eq!(left(&mut hand), [(slow, CloseReason::TooSlow)]);
        assert_eq!(hand.machine.put_out_slow(now, StreamId::MAIN, "a", b"x"), Ok(0), "nobody else is slow");
        // Nobody waits for one who is absent.
        for _ in 0..3 {
            hand.machine.publish("a", b"x").unwrap();
            hand.pump();
        }
        hand.room(slow, usize::MAX).expect_bye(slow, ByeCode::TooSlow);
        let conn = back(&mut hand, Role::Subscriber, 1, 2);
        subscribe(&mut hand, conn, 2, Some(Start::Resume { next_seq: 0, accounted: 0 }), set);
        hand.expect(conn, subscribed(1, 0));
        hand.expect(conn, Frame::Gap(Gap { before: 0, after: 3, lost: Lost::Exact(3) }));
        (3..7).for_each(|n| {
            hand.expect(conn, publish(n, "a", b"x"));
        });
        hand.expect(conn, subscribed(2, 7)).expect_silence(conn);
        assert_eq!(hand.machine.stats().publisher.put_out, 1);
        (0..7).for_each(|n| {
            hand.expect(quick, publish(n, "a", b"x"));
        });
    }
}

#[test]
fn one_who_returns_to_a_blocking_stream_is_waited_for_again() {
    let mut hand = server_with(short_log(4), StreamOptions::default().policy(SlowPolicy::Block));
    let conn = subscriber(&mut hand, 1, &["a"]);
    hand.lose(conn, StreamEnd::Reset);
    for _ in 0..4 {
        hand.machine.publish("a", b"x").unwrap();
    }
    let conn = back(&mut hand, Role::Subscriber, 1, 2);
    hand.room(conn, 0);
    subscribe(&mut hand, conn, 2, Some(Start::Resume { next_seq: 0, accounted: 0 }), &["a"]);
    assert_eq!(hand.machine.publish("a", b"x"), Err(PublishError::WouldBlock { subscribers: 1 }));
    hand.room(conn, usize::MAX);
    assert_eq!(hand.machine.publish("a", b"x").unwrap().seq, 4);
    hand.expect(conn, subscribed(1, 0));
    (0..4).for_each(|n| {
        hand.expect(conn, publish(n, "a", b"x"));
    });
    hand.expect(conn, subscribed(2, 4)).expect(conn, publish(4, "a", b"x")).expect_silence(conn);
}

#[test]
fn blocking_stream_waits_rather_than_forgets_places_when_their_memory_is_used_up() {
    let mut limits = Limits::default();
    limits.positions_bytes = 8 * 20;
    let mut hand = server_with(limits, StreamOptions::default().policy(SlowPolicy::Block));
    let slow = subscriber(&mut hand, 1, &["a"]);
    hand.room(slow, 0);
    let mut published = 0;
    while hand.machine.publish("a", b"x").is_ok() {
        published += 1;
        assert!(published < 100, "places are bounded");
    }
    hand.room(slow, usize::MAX);
    (0..published).for_each(|n| {
        hand.expect(slow, publish(n, "a", b"x"));
    });
    hand.machine.publish("a", b"y").unwrap();
    hand.expect(slow, publish(published, "a", b"y")).expect_silence(slow);
}

#[test]
fn a_large_publication_that_many_are_in_the_middle_of_takes_its_bytes_once() {
    let limits = Limits { send_queues_bytes: 2 << 20, ..Limits::default() };
    let mut hand = server(limits);
    let conns: Vec<ConnId> =
        (0..40).map(|n| subscriber(&mut hand, n, if n % 2 == 0 { &["a"] } else { &[""] })).collect();
    for &conn in &conns {
        hand.room(conn, 256 * 1024);
    }
    let large = vec![7u8; 900_000];
    hand.machine.publish("a", &large).unwrap();
    hand.pump();
    assert_eq!(left(&mut hand), [], "nobody is slow, and it is 36 MB less");
    assert_eq!((hand.machine.rest_bytes, hand.machine.streams.large_bytes() / 900_000), (0, 1));
    // The next one goes behind it, in its own time.
    hand.machine.publish("a", b"small").unwrap();
    for &conn in &conns {
        hand.room(conn, 1).room(conn, 300_000).room(conn, usize::MAX);
        hand.expect(conn, publish(0, "a", &large))
            .expect(conn, publish(1, "a", b"small"))
            .expect_silence(conn);
    }
    assert_eq!(hand.machine.streams.large_bytes(), 0);
}

#[test]
fn large_publications_that_nobody_finishes_cost_the_one_who_has_begun_too_many() {
    let limits = Limits { send_queues_bytes: 2 << 20, ..Limits::default() };
    let mut hand = server(limits);
    let large = vec![7u8; 900_000];
    // Each is in the middle of another one.
    let conns: Vec<ConnId> = (0..4)
        .map(|n| {
            let conn = subscriber(&mut hand, n, &[""]);
            hand.room(conn, 256 * 1024).machine.publish("a", &large).unwrap();
            hand.pump();
            conn
        })
        .collect();
    let why = CloseReason::Limit(LimitReached::SendQueues { limit: 2 << 20 });
    assert_eq!(left(&mut hand), [(conns[2], why.clone()), (conns[3], why)]);
    assert_eq!(hand.machine.streams.large_bytes() / 900_000, 2);
    hand.lose(conns[0], StreamEnd::Reset);
    hand.room(conns[1], usize::MAX).expect(conns[1], publish(1, "a", &large));
    assert_eq!(hand.machine.streams.large_bytes(), 0, "it goes with whoever was in the middle of it");
}

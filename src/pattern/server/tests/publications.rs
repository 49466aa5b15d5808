//! Publications: who gets what, the log that moves on, exact gaps.

use super::*;

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

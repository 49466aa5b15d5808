//! Sessions that outlive their connections: what is kept, and what a subscriber that comes back is told.

use super::*;

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
    assert_eq!(hand.machine.start(now, lost[1]).as_deref(), Ok(&b"args"[..]));
    hand.at(60_003);
    let now = hand.now;
    assert!(!hand.machine.reply(lost[1], Status::Ok, b""), "forgotten");
    assert_eq!(hand.machine.start(now, lost[2]).as_deref(), Ok(&b"args"[..]));
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
    assert_eq!(hand.machine.start(hand.now, ticket).as_deref(), Ok(&b"args"[..]));
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

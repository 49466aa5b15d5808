//! Publications that nobody wants, at the gate beside the lock, and those who come meanwhile.
#![cfg(target_has_atomic = "64")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;
use std::thread;

use super::*;
use crate::pattern::{Retain, StreamId, StreamOptions};

/// Publishes as threads do: at the gate, else with the lock.
fn publish_anyhow(hand: &mut Hand<Server>, topic: &str) -> Published {
    let gate = hand.machine.gate(StreamId::MAIN).unwrap();
    gate.pass_over(topic, b"x").unwrap_or_else(|| hand.machine.publish(topic, b"x").unwrap())
}

/// A server whose gate has let 100 publications pass or more; its head.
fn with_open_gate(hand: &mut Hand<Server>) -> u64 {
    (0..100).for_each(|_| {
        assert_eq!(publish_anyhow(hand, "a.b").subscribers, 0);
    });
    assert!(hand.machine.gate(StreamId::MAIN).unwrap().pass_over("a.b", b"").is_some(), "it is open");
    hand.machine.head()
}

#[test]
fn whoever_comes_has_all_from_there_on_that_it_wants() {
    for prefix in ["a", "a.b", "a.b.c", ""] {
        let mut hand = server(Limits::default());
        let head = with_open_gate(&mut hand);
        let conn = subscriber(&mut hand, 1, &[prefix]);
        let published = publish_anyhow(&mut hand, "a.b.c");
        assert_eq!((published.seq, published.subscribers), (head, 1), "{prefix:?}");
        hand.expect(conn, publish(head, "a.b.c", b"x"));
    }
}

#[test]
fn prefix_that_joins_others_is_in_force_from_the_head_on() {
    let mut hand = server(Limits::default());
    let conn = subscriber(&mut hand, 1, &["other"]);
    let head = with_open_gate(&mut hand);
    subscribe(&mut hand, conn, 2, None, &["a"]);
    hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 2, position: head }));
    assert_eq!(publish_anyhow(&mut hand, "a.b"), Published { seq: head, subscribers: 1 });
    hand.expect(conn, publish(head, "a.b", b"x"));
    unsubscribe(&mut hand, conn, 3, &["a"]);
    hand.heard(conn).expect("an answer");
    (0..100).for_each(|_| {
        assert_eq!(publish_anyhow(&mut hand, "a.b").subscribers, 0);
    });
    let head = hand.machine.head();
    assert_eq!(publish_anyhow(&mut hand, "other"), Published { seq: head, subscribers: 1 });
}

#[test]
fn set_that_comes_back_with_more_is_in_force_as_a_whole() {
    let mut hand = server(Limits::default());
    let conn = subscriber(&mut hand, 1, &["other"]);
    hand.lose(conn, StreamEnd::Eof);
    let head = with_open_gate(&mut hand);
    let conn = back(&mut hand, Role::Subscriber, 1, 2);
    let resume = Start::Resume { next_seq: 0, accounted: 0 };
    subscribe(&mut hand, conn, 2, Some(resume), &["other", "a"]);
    for (ticket, position) in [(1, 0), (2, head)] {
        hand.expect(conn, Frame::Subscribed(Subscribed { ticket, position }));
    }
    assert_eq!(publish_anyhow(&mut hand, "a.b"), Published { seq: head, subscribers: 1 });
}

#[test]
fn numbers_taken_at_the_gate_are_counted() {
    let mut hand = server(Limits::default());
    let head = with_open_gate(&mut hand);
    let stats = hand.machine.stats().publisher;
    assert_eq!((stats.published, stats.stored, hand.machine.head()), (head, 0, head));
}

#[test]
fn what_is_kept_for_those_who_may_come_is_never_passed_over() {
    let plain = StreamOptions::default();
    for options in [plain.retain(Retain::All), plain.last_value(true)] {
        let mut hand = server(Limits::default());
        let before = hand.machine.gate(StreamId::MAIN).unwrap();
        hand.machine.set_main_stream(options).unwrap();
        let gate = hand.machine.gate(StreamId::MAIN).unwrap();
        for seq in 0..100 {
            assert_eq!(before.pass_over("a", b"").or(gate.pass_over("a", b"")), None, "{options:?}");
            assert_eq!(hand.machine.publish("a", b"").unwrap().seq, seq);
        }
    }
}

#[test]
fn nothing_is_published_at_the_gate_of_a_server_that_was_stopped() {
    let mut hand = server(Limits::default());
    let more = hand.machine.add_stream("more", StreamOptions::default()).unwrap();
    with_open_gate(&mut hand);
    (0..100).for_each(|_| {
        hand.machine.publish_on(more, "a", b"").unwrap();
    });
    let gates = [StreamId::MAIN, more].map(|stream| hand.machine.gate(stream).unwrap());
    assert!(gates.iter().all(|gate| gate.pass_over("a", b"").is_some()));
    let now = hand.now;
    hand.machine.stop(now);
    assert!(gates.iter().all(|gate| gate.pass_over("a", b"").is_none()));
    assert_eq!(hand.machine.publish("a", b""), Err(PublishError::Stopped));
}

#[test]
fn nothing_is_published_at_the_gate_of_a_server_that_a_panic_interrupted() {
    let mut hand = server(Limits::default());
    with_open_gate(&mut hand);
    let now = hand.now;
    hand.machine.handle_poisoned(now);
    let gate = hand.machine.gate(StreamId::MAIN).unwrap();
    assert_eq!(gate.pass_over("a", b""), None);
    assert_eq!(hand.machine.publish("a", b""), Err(PublishError::Stopped));
}

#[test]
fn whoever_adds_everything_to_its_prefixes_has_everything() {
    let mut hand = server(Limits::default());
    let conn = subscriber(&mut hand, 1, &["other"]);
    let head = with_open_gate(&mut hand);
    // Only a stranger's client asks for that.
    subscribe(&mut hand, conn, 2, None, &[""]);
    hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 2, position: head }));
    for n in 0..20 {
        assert_eq!(publish_anyhow(&mut hand, "a.b"), Published { seq: head + n, subscribers: 1 });
    }
    let conn = subscriber(&mut hand, 2, &["", "w"]);
    assert_eq!(publish_anyhow(&mut hand, "z"), Published { seq: head + 20, subscribers: 2 });
    hand.expect(conn, publish(head + 20, "z", b"x"));
}

#[test]
fn nothing_that_somebody_wants_passes_while_subscriptions_come_and_go() {
    const ROUNDS: u64 = 500;
    const LONG: u64 = 100_000_000;
    let mut hand = server(Limits::default());
    let conn = subscriber(&mut hand, 1, &["other"]);
    let gate = hand.machine.gate(StreamId::MAIN).unwrap();
    let (hand, over) = (Mutex::new(hand), AtomicBool::new(false));
    let publish = || {
        let mut all = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let locked = || hand.lock().unwrap().machine.publish("a.b", b"").unwrap();
            all.push(gate.pass_over("a.b", b"").unwrap_or_else(locked));
        }
        all
    };
    thread::scope(|scope| {
        let publishers = [scope.spawn(publish), scope.spawn(publish)];
        let mut wanted = Vec::new();
        for round in 0..ROUNDS {
            let has_opened = (0..LONG).any(|_| {
                thread::yield_now();
                gate.pass_over("b", b"").is_some()
            });
            assert!(has_opened);
            let at = |ticket, is_wanted: bool| {
                let mut hand = hand.lock().unwrap();
                match is_wanted {
                    true => subscribe(&mut hand, conn, ticket, None, &["a"]),
                    false => unsubscribe(&mut hand, conn, ticket, &["a"]),
                }
                let head = hand.machine.head();
                while hand.heard(conn).is_some() {}
                head
            };
            let from = at(2 * round + 2, true);
            if round % 10 == 0 {
                let has_come = (0..LONG).any(|_| {
                    thread::yield_now();
                    hand.lock().unwrap().machine.head() > from
                });
                assert!(has_come);
            }
            wanted.push(from..at(2 * round + 3, false));
        }
        over.store(true, Ordering::SeqCst);
        let mut all: Vec<Published> = publishers.into_iter().flat_map(|all| all.join().unwrap()).collect();
        all.sort_by_key(|published| published.seq);
        assert!(all.windows(2).all(|pair| pair[0].seq < pair[1].seq), "a number for each");
        assert!(wanted.iter().step_by(10).all(|wanted| !wanted.is_empty()), "some were published meanwhile");
        for published in all {
            let next = wanted.partition_point(|wanted| wanted.end <= published.seq);
            let is_wanted = wanted.get(next).is_some_and(|wanted| wanted.contains(&published.seq));
            assert_eq!(published.subscribers, usize::from(is_wanted), "{published:?}");
        }
    });
}

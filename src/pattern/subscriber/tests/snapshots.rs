//! Other streams, snapshots, and beginning at a saved place.

use super::*;

fn with(options: SubscribeOptions, prefix: &str) -> Hand<Subscriber> {
    let policy = Reconnect::zmq(100, 100);
    let (session, random) = (SessionId([7; 16]), Random::new(1));
    let machine = Subscriber::with(Limits::default(), policy, 1, session, random, prefix, options).unwrap();
    let mut hand = Hand::new(machine);
    hand.machine.start();
    hand
}

fn last<'a>(seq: u64, topic: &'a str) -> Frame<'a> {
    Frame::Last { header: Last { seq, topic }, data: b"data" }
}

/// The Subscribe frames that were sent: ticket, prefixes, whether marked, and the start.
fn asked(hand: &mut Hand<Subscriber>, conn: ConnId) -> Vec<(u64, Vec<String>, bool, Option<Start>)> {
    let mut all = Vec::new();
    while let Some(body) = hand.heard(conn) {
        let Ok(Frame::Subscribe(subscribe)) = Frame::decode(&body) else { panic!("no Subscribe") };
        let prefixes = subscribe.prefixes.iter().map(String::from).collect();
        all.push((subscribe.ticket, prefixes, subscribe.snapshot, subscribe.start));
    }
    all
}

fn back(hand: &mut Hand<Subscriber>, conn: ConnId, epoch: u64) -> ConnId {
    hand.lose(conn, StreamEnd::Reset);
    let then = hand.now + Duration::from_millis(100);
    hand.at(then.as_micros() / 1_000);
    greet(hand, epoch)
}

#[test]
fn the_stream_that_is_followed_is_named_in_every_greeting() {
    let mut hand = with(SubscribeOptions::default().stream("ticks"), "a");
    for _ in 0..2 {
        let conn = hand.connect();
        let hello = hand.heard(conn).unwrap();
        assert!(matches!(Frame::decode(&hello), Ok(Frame::Hello(hello)) if hello.stream == "ticks"));
        let then = hand.now + Duration::from_millis(200);
        hand.lose(conn, StreamEnd::Reset).at(then.as_micros() / 1_000);
    }
    let long = "s".repeat(256);
    let refused = Subscriber::with(
        Limits::default(),
        Reconnect::default(),
        1,
        SessionId([7; 16]),
        Random::new(1),
        "a",
        SubscribeOptions::default().stream(long),
    );
    assert_eq!(refused.unwrap_err(), SubscribeError::StreamNameTooLong { len: 256, limit: 255 });
}

#[test]
fn snapshot_comes_before_the_answer_and_counts_as_nothing() {
    let mut hand = with(SubscribeOptions::default().snapshot(), "a");
    let conn = greet(&mut hand, EPOCH);
    let asked_first = asked(&mut hand, conn);
    let ticket = asked_first[0].0;
    assert_eq!(asked_first, [(ticket, vec!["a".into()], true, Some(Start::Fresh))]);
    hand.deliver(conn, last(2, "a")).deliver(conn, last(4, "ab")).deliver(conn, subscribed(ticket, 7));
    hand.deliver(conn, publish(7, "a"));
    assert_eq!(events(&mut hand), ["connected", "snapshot 2 a", "snapshot 4 ab", "subscribed 0 7", "7 a"]);
    let stats = hand.machine.stats();
    assert_eq!((stats.received, stats.snapshot_messages), (1, 2));
    // One more prefix brings its own; one that is asked for again does not.
    let b = hand.machine.subscribe("b").unwrap();
    let again = hand.machine.subscribe("a").unwrap();
    let asked_then = asked(&mut hand, conn);
    assert_eq!(asked_then, [(b, vec!["b".into()], true, None), (again, vec!["a".into()], false, None)]);
    hand.deliver(conn, last(1, "b")).deliver(conn, subscribed(b, 8)).deliver(conn, subscribed(again, 8));
    // Nothing is asked for any more.
    hand.deliver(conn, last(1, "b"));
    let unexpected = CloseReason::Protocol(Violation::Unexpected { kind: Kind::Last });
    assert_eq!(closed_for(&mut hand), Some(unexpected));
}

#[test]
fn snapshot_that_did_not_come_is_asked_for_in_the_next_handshake_and_no_other() {
    let mut hand = with(SubscribeOptions::default().snapshot(), "a");
    let conn = greet(&mut hand, EPOCH);
    let ticket = asked(&mut hand, conn)[0].0;
    hand.deliver(conn, subscribed(ticket, 0));
    let b = hand.machine.subscribe("b").unwrap();
    hand.deliver(conn, last(0, "b"));
    let conn = back(&mut hand, conn, EPOCH);
    let set = asked(&mut hand, conn);
    let handshake = set[0].0;
    let resume = Some(Start::Resume { next_seq: 0, accounted: 0 });
    assert_eq!(
        set,
        [(handshake, vec!["b".into()], true, None), (handshake, vec!["a".into()], false, resume)]
    );
    // The old answer says nothing about the snapshot, which came to its end elsewhere.
    hand.deliver(conn, subscribed(b, 0)).deliver(conn, last(0, "b")).deliver(conn, subscribed(handshake, 3));
    let conn = back(&mut hand, conn, EPOCH);
    assert!(asked(&mut hand, conn).iter().all(|(_, _, marked, _)| !marked));
}

#[test]
fn after_a_restart_the_user_hears_of_it_before_the_snapshot_of_the_new_life() {
    let mut hand = with(SubscribeOptions::default().snapshot(), "a");
    let conn = greet(&mut hand, EPOCH);
    let ticket = asked(&mut hand, conn)[0].0;
    hand.deliver(conn, subscribed(ticket, 5));
    events(&mut hand);
    let conn = back(&mut hand, conn, EPOCH + 1);
    let set = asked(&mut hand, conn);
    assert_eq!(set, [(set[0].0, vec!["a".into()], false, Some(Start::Fresh))]);
    hand.deliver(conn, subscribed(set[0].0, 2));
    let refresh = asked(&mut hand, conn);
    assert_eq!(refresh, [(refresh[0].0, vec!["a".into()], true, None)]);
    hand.deliver(conn, publish(2, "a"))
        .deliver(conn, last(1, "a"))
        .deliver(conn, subscribed(refresh[0].0, 3));
    assert_eq!(
        events(&mut hand)[2..],
        ["connected", "restarted 78 2", "2 a", "snapshot 1 a", "subscribed 0 3"]
    );
}

#[test]
fn restart_whose_snapshot_is_cut_off_ends_it_with_the_next_handshake() {
    let mut hand = with(SubscribeOptions::default().snapshot(), "a");
    let conn = greet(&mut hand, EPOCH);
    let ticket = asked(&mut hand, conn)[0].0;
    hand.deliver(conn, subscribed(ticket, 5));
    let conn = back(&mut hand, conn, EPOCH + 1);
    let ticket = asked(&mut hand, conn)[0].0;
    hand.deliver(conn, subscribed(ticket, 2));
    events(&mut hand);
    let conn = back(&mut hand, conn, EPOCH + 1);
    let set = asked(&mut hand, conn);
    assert!(set[0].2, "marked");
    hand.deliver(conn, last(1, "a")).deliver(conn, subscribed(set[0].0, 4));
    assert_eq!(
        events(&mut hand),
        ["disconnected", "retry", "connected", "snapshot 1 a", "subscribed 0 4", "position 4"]
    );
}

#[test]
fn refresh_asks_for_all_in_as_many_frames_as_it_takes_and_the_last_answer_ends_it() {
    let (mut hand, conn) = following();
    for n in 0..300 {
        hand.machine.subscribe(&format!("prefix.{n:010}")).unwrap();
    }
    let tickets: Vec<u64> = asked(&mut hand, conn).iter().map(|frame| frame.0).collect();
    tickets.iter().for_each(|ticket| {
        hand.deliver(conn, subscribed(*ticket, 5));
    });
    events(&mut hand);
    let ticket = hand.machine.refresh().unwrap();
    let frames = asked(&mut hand, conn);
    assert!(frames.len() > 1 && frames.iter().all(|frame| frame.2), "marked, in several frames");
    assert_eq!(frames.iter().map(|frame| frame.1.len()).sum::<usize>(), 301);
    assert_eq!(frames.last().unwrap().0, ticket);
    for frame in &frames {
        assert!(!hand.machine.is_answered(ticket));
        hand.deliver(conn, last(3, "a")).deliver(conn, subscribed(frame.0, 5));
    }
    assert!(hand.machine.is_answered(ticket));
    let all = events(&mut hand);
    assert_eq!(all.iter().filter(|event| event.starts_with("subscribed")).count(), 1);
    assert_eq!(all.last().unwrap(), &format!("subscribed {ticket} 5"));
}

#[test]
fn snapshot_of_a_prefix_that_was_given_up_meanwhile_is_no_mistake_of_the_servers() {
    let mut hand = with(SubscribeOptions::default().snapshot(), "a");
    let conn = greet(&mut hand, EPOCH);
    let ticket = asked(&mut hand, conn)[0].0;
    hand.deliver(conn, subscribed(ticket, 5));
    let added = hand.machine.subscribe("b").unwrap();
    asked(&mut hand, conn);
    let removed = hand.machine.unsubscribe("b").unwrap();
    hand.deliver(conn, last(1, "b")).deliver(conn, subscribed(added, 5));
    hand.deliver(conn, subscribed(removed, 5)).deliver(conn, publish(5, "a"));
    assert_eq!(hand.machine.stats().received, 1);
    // Away, it is not even asked for.
    hand.lose(conn, StreamEnd::Reset);
    hand.machine.subscribe("c").unwrap();
    hand.machine.unsubscribe("c").unwrap();
    let then = hand.now + Duration::from_millis(100);
    hand.at(then.as_micros() / 1_000);
    let conn = greet(&mut hand, EPOCH);
    assert!(asked(&mut hand, conn).iter().all(|(_, _, marked, _)| !marked));
}

#[test]
fn refresh_while_away_rides_on_the_handshake() {
    let (mut hand, conn) = following();
    hand.lose(conn, StreamEnd::Reset);
    let ticket = hand.machine.refresh().unwrap();
    hand.at(100);
    let conn = greet(&mut hand, EPOCH);
    let set = asked(&mut hand, conn);
    assert!(set[0].2, "marked");
    hand.deliver(conn, last(1, "a")).deliver(conn, subscribed(set[0].0, 5));
    assert!(hand.machine.is_answered(ticket));
}

#[test]
fn refresh_while_away_from_a_server_that_restarts_is_asked_for_when_the_user_knows() {
    let (mut hand, conn) = following();
    hand.lose(conn, StreamEnd::Reset);
    hand.machine.refresh().unwrap();
    hand.at(100);
    let conn = greet(&mut hand, EPOCH + 1);
    let set = asked(&mut hand, conn);
    hand.deliver(conn, subscribed(set[0].0, 2));
    let refresh = asked(&mut hand, conn);
    assert_eq!(refresh, [(refresh[0].0, vec!["a".into()], true, None)]);
    hand.deliver(conn, last(1, "a")).deliver(conn, subscribed(refresh[0].0, 3));
    assert_eq!(events(&mut hand).last().unwrap(), "subscribed 0 3");
}

#[test]
fn refresh_of_an_empty_set_is_answered() {
    let (mut hand, conn) = following();
    let left = hand.machine.unsubscribe("a").unwrap();
    hand.heard(conn).unwrap();
    hand.deliver(conn, subscribed(left, 5));
    let ticket = hand.machine.refresh().unwrap();
    assert_eq!(asked(&mut hand, conn), [(ticket, vec![], true, None)]);
    hand.deliver(conn, subscribed(ticket, 5));
    assert_eq!(events(&mut hand).last().unwrap(), &format!("subscribed {ticket} 5"));
}

#[test]
fn saved_place_is_asked_for_until_something_has_come_of_it() {
    let mut hand = with(SubscribeOptions::default().from(EPOCH, 40), "a");
    let conn = greet(&mut hand, EPOCH);
    assert_eq!(set(&mut hand, conn).2, Start::From { seq: 40 });
    let conn = back(&mut hand, conn, EPOCH);
    let (_, ticket, start) = set(&mut hand, conn);
    assert_eq!(start, Start::From { seq: 40 }, "nothing has come yet");
    hand.deliver(conn, gap(40, 50, Lost::AtMost(10))).deliver(conn, subscribed(ticket, 50));
    hand.deliver(conn, publish(50, "a"));
    assert_eq!(events(&mut hand)[3..], ["connected", "40..50 AtMost(10)", "subscribed 0 50", "50 a"]);
    hand.lose(conn, StreamEnd::Reset).at(500);
    let conn = hand.connect();
    hand.heard(conn).unwrap();
    hand.deliver(conn, Frame::Welcome(Welcome::new(EPOCH, true, 10_000, 1_000_000)));
    assert_eq!(set(&mut hand, conn).2, Start::Resume { next_seq: 51, accounted: 1 });
}

#[test]
fn saved_place_in_another_life_of_the_server_is_a_restart() {
    let mut hand = with(SubscribeOptions::default().from(EPOCH, 40), "a");
    let conn = greet(&mut hand, EPOCH + 1);
    let (_, ticket, start) = set(&mut hand, conn);
    assert_eq!(start, Start::Fresh);
    hand.deliver(conn, subscribed(ticket, 3));
    assert_eq!(events(&mut hand), ["connected", "restarted 78 3", "subscribed 0 3"]);
}

#[test]
fn saved_place_that_the_server_has_not_come_to_is_taken_for_the_place_where_it_is() {
    let mut hand = with(SubscribeOptions::default().from(EPOCH, 40), "a");
    let conn = greet(&mut hand, EPOCH);
    let (_, ticket, _) = set(&mut hand, conn);
    hand.deliver(conn, subscribed(ticket, 7)).deliver(conn, publish(7, "a"));
    assert_eq!(events(&mut hand), ["connected", "subscribed 0 7", "7 a"]);
    assert_eq!(hand.machine.stats().accounts, 1);
    // From then on it is an account like any other.
    hand.deliver(conn, publish(3, "a"));
    let back = Violation::SequenceWentBack { seq: 3, position: 8 };
    assert_eq!(closed_for(&mut hand), Some(CloseReason::Protocol(back)));
}

#[test]
fn several_prefixes_are_one_set_from_the_first_handshake_on() {
    let mut hand = with(SubscribeOptions::default().also("b").also("c").also("b"), "a");
    let conn = greet(&mut hand, EPOCH);
    let (prefixes, ticket, _) = set(&mut hand, conn);
    assert_eq!(prefixes, ["a", "b", "c"]);
    hand.deliver(conn, subscribed(ticket, 5)).expect_silence(conn);
    assert_eq!(hand.machine.stats().prefixes, 3);
    let (limits, policy) = (Limits::default(), Reconnect::default());
    let options = SubscribeOptions::default().also("x".repeat(256));
    let refused = Subscriber::with(limits, policy, 1, SessionId([7; 16]), Random::new(1), "a", options);
    assert_eq!(refused.unwrap_err(), SubscribeError::TooLong { len: 256, limit: 255 });
}

//! Connections: strangers, handshakes, heartbeats, and how each of them ends.

use super::*;

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
    assert_eq!(work(&mut hand), vec![]);
    assert_eq!(hand.machine.start(now, ticket).as_deref(), Ok(&b"args"[..]));
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
fn who_came_and_went_does_not_pile_up_for_one_who_never_asks() {
    let mut hand = server(Limits::default());
    for attempt in 1..=3_000 {
        let conn = hand.accept().unwrap();
        hand.deliver(conn, hello(Role::Subscriber, 1, attempt)).lose(conn, StreamEnd::Eof);
    }
    assert_eq!(core::iter::from_fn(|| hand.machine.poll_event()).count(), 512);
}

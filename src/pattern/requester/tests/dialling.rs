//! The dialling that a requester shares with the subscriber.

use super::*;

fn waits(hand: &mut Hand<Requester>) -> Vec<u64> {
    let waits = events(hand).into_iter().filter_map(|event| match event {
        ConnectionEvent::RetryIn { after, .. } => u64::try_from(after.as_millis()).ok(),
        _ => None,
    });
    waits.collect()
}

#[test]
fn first_attempt_is_immediate_and_the_list_of_addresses_is_gone_through() {
    let mut hand = requester(Limits::default(), Reconnect::zmq(100, 400));
    for (n, wait) in [100, 200, 400, 400].into_iter().enumerate() {
        assert_eq!(hand.refuse(), n % 2);
        assert_eq!(waits(&mut hand), [wait]);
        let then = u64::try_from(hand.now.saturating_since(Instant::ZERO).as_millis()).unwrap() + wait;
        hand.at(then - 1);
        assert_eq!(hand.dialled(), None);
        hand.at(then);
    }
    // A loss of a connection that served stays at its address.
    let conn = welcome(&mut hand, EPOCH, false);
    assert!(matches!(events(&mut hand)[..], [ConnectionEvent::Connected { address: 0, epoch: EPOCH }]));
    hand.lose(conn, StreamEnd::Reset);
    let reason = CloseReason::StreamLost(StreamEnd::Reset);
    let after = Duration::from_millis(100);
    assert_eq!(
        events(&mut hand),
        [
            ConnectionEvent::Disconnected { reason: reason.clone() },
            ConnectionEvent::RetryIn { after, attempt: 1, cause: Cause::Closed(reason) }
        ]
    );
    hand.at(10_000);
    assert_eq!(hand.dialled().map(|(_, address)| address), Some(0));
}

#[test]
fn zmq_starts_anew_with_each_connect_and_ours_only_when_it_is_served() {
    for (policy, hammers) in [(Reconnect::zmq(100, 10_000), true), (Reconnect::default(), false)] {
        let mut hand = requester(Limits::default(), policy);
        for _ in 0..8 {
            let conn = hand.connect();
            hand.deliver(conn, Frame::Welcome(Welcome::new(EPOCH, false, 10_000, 100_000)));
            hand.lose(conn, StreamEnd::Eof);
            let next = hand.machine.poll_timeout().unwrap().as_micros() / 1_000 + 1;
            hand.at(next);
        }
        assert_eq!(waits(&mut hand).into_iter().max().unwrap() <= 100, hammers);
        let conn = welcome(&mut hand, EPOCH, false);
        waits(&mut hand);
        hand.lose(conn, StreamEnd::Eof);
        assert!(waits(&mut hand)[0] <= 100, "served");
    }
}

#[test]
fn policy_that_never_retries_gives_up_and_can_be_started_again() {
    let mut hand = requester(Limits::default(), Reconnect::never());
    let id = call(&mut hand, until(500));
    hand.refuse();
    assert_eq!(events(&mut hand), [ConnectionEvent::GaveUp { cause: Cause::Dial(DialError::Refused) }]);
    hand.at(400);
    hand.machine.start();
    let conn = welcome(&mut hand, EPOCH, false);
    hand.expect(conn, request(id, 100, &[]));
}

#[test]
fn refusals_protocol_errors_and_byes_are_told_and_retried() {
    let cases: [(Frame<'_>, CloseReason); 4] = [
        (
            Frame::Reject { code: RejectCode::Full, text: "later" },
            CloseReason::Rejected { code: RejectCode::Full, text: Box::from("later") },
        ),
        (heartbeat(), CloseReason::Protocol(Violation::Unexpected { kind: crate::wire::Kind::Heartbeat })),
        (
            Frame::Hello(Hello::new(Role::Requester, SESSION, 1, 5_000, "")),
            CloseReason::Protocol(Violation::Unexpected { kind: crate::wire::Kind::Hello }),
        ),
        (
            Frame::Bye { code: ByeCode::Stopped, text: "" },
            CloseReason::ByPeer { code: ByeCode::Stopped, text: Box::from("") },
        ),
    ];
    for (frame, reason) in cases {
        let mut hand = requester(Limits::default(), Reconnect::zmq(100, 100));
        let conn = hand.connect();
        hand.deliver(conn, frame);
        assert!(hand.is_closed(conn));
        let after = Duration::from_millis(100);
        assert_eq!(
            events(&mut hand),
            [ConnectionEvent::RetryIn { after, attempt: 1, cause: Cause::Closed(reason) }]
        );
    }
}

#[test]
fn events_of_attempts_that_fail_for_ever_do_not_pile_up() {
    let mut hand = requester(Limits::default(), Reconnect::zmq(1, 1));
    for millis in 1..=2_000 {
        hand.refuse();
        hand.at(millis);
    }
    assert_eq!(waits(&mut hand), [1]);
    for _ in 0..500 {
        let conn = welcome(&mut hand, EPOCH, false);
        hand.lose(conn, StreamEnd::Reset);
        let then = hand.now.as_micros() / 1_000 + 1;
        hand.at(then);
    }
    assert_eq!(events(&mut hand).len(), 256);
}

#[test]
fn late_reports_of_a_dial_or_a_connection_that_is_gone_are_ignored() {
    let mut hand = requester(Limits::default(), Reconnect::zmq(100, 100));
    let (conn, _) = hand.dialled().unwrap();
    let now = hand.now;
    hand.machine.handle_dial_failed(now, conn, DialError::TimedOut);
    hand.machine.handle_connected(now, conn);
    hand.machine.handle_dial_failed(now, conn, DialError::TimedOut);
    hand.machine.handle_closed(now, conn, StreamEnd::Eof);
    hand.machine.handle_bytes(now, conn, b"whatever");
    assert_eq!(events(&mut hand).len(), 1);
    assert!(hand.machine.poll_transmit(now, conn).is_none() && !hand.machine.wants_read(conn));
}

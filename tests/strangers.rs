//! Whoever is not what it should be is turned away, for the right reason, and a bystander notices nothing.
#![allow(clippy::cast_possible_truncation)] // Small numbers of the tests' own.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pulsewire::net::{Publisher, Replier};
use pulsewire::pattern::{LimitReached, StreamEnd, Violation};
use pulsewire::wire::{
    self, ByeCode, Frame, Ids, Kind, Prefixes, Publish, RejectCode, Reply, Request, Role, Start, Status,
    Subscribe,
};
use pulsewire::{CloseReason, Limits};

use support::*;

/// A length within which the peer is expected to act; nothing is asserted about the time that it takes.
const SOON: Duration = Duration::from_millis(400);

fn protocol(error: wire::Error) -> CloseReason {
    CloseReason::Protocol(Violation::Bytes(error))
}

fn unexpected(kind: Kind) -> CloseReason {
    CloseReason::Protocol(Violation::Unexpected { kind })
}

fn too_long(len: u32) -> CloseReason {
    protocol(wire::Error::FrameTooLong { len, limit: HANDSHAKE_LIMIT })
}

/// The last frame was a Bye of this code.
fn assert_bye(last: Option<Vec<u8>>, expected: ByeCode) {
    match last.as_deref().map(Frame::decode) {
        Some(Ok(Frame::Bye { code, .. })) => assert_eq!(code, expected),
        other => panic!("expected Bye, not {other:?}"),
    }
}

/// The connection was refused with this code and ended.
fn assert_rejected(raw: &mut Raw, expected: RejectCode) {
    let body = raw.read_frame().expect("a word of refusal");
    match Frame::decode(&body) {
        Ok(Frame::Reject { code, .. }) => assert_eq!(code, expected),
        other => panic!("expected Reject, not {other:?}"),
    }
    raw.expect_silent_end();
}

fn request(id: u64, arguments: &[u8]) -> Vec<u8> {
    let header = Request { id, time_left_ms: 10_000, function: "add", settled: Ids::default() };
    encoded(&Frame::Request { header, arguments })
}

#[test]
fn f01_strangers_are_turned_away_without_a_word() {
    let watched = Watched::new(Limits::default());
    let mut bystander = Bystander::new(&watched.server);
    // Version, random and cipher suites of a TLS 1.2 hello, cut after what anybody looks at.
    let tls =
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 random random random random rando\x00\x00\x02\x13\x01";
    let mut random = Random(0x5eed);
    let junk: Vec<u8> = (0..1_000).map(|_| random.next() as u8).collect();
    let junk_len = u32::from_le_bytes(junk[..4].try_into().unwrap());
    let cases: [(&str, Vec<u8>, CloseReason); 8] = [
        ("junk", junk, too_long(junk_len)),
        (
            "http",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            too_long(u32::from_le_bytes(*b"GET ")),
        ),
        ("tls", tls.to_vec(), too_long(0x0201_0316)),
        ("zeros", vec![0; 100], protocol(wire::Error::Empty)),
        ("0xff", vec![0xff; 100], too_long(u32::MAX)),
        ("4 GiB", forged(u32::MAX, 1, b""), too_long(u32::MAX)),
        ("limit + 1", forged(HANDSHAKE_LIMIT + 1, 1, b""), too_long(HANDSHAKE_LIMIT + 1)),
        ("i32::MAX", forged(i32::MAX as u32, 1, b""), too_long(i32::MAX as u32)),
    ];
    for (name, bytes, reason) in cases {
        let mut raw = watched.connect();
        raw.send(&bytes);
        raw.expect_silent_end();
        assert_eq!(watched.next_left(), (raw.local, reason), "{name}");
        bystander.notices_nothing();
    }
}

#[test]
fn f01_whatever_the_bytes_and_however_they_are_cut_the_server_lives() {
    let watched = Watched::new(Limits::default());
    let mut bystander = Bystander::new(&watched.server);
    let mut random = Random(0xbad_5eed);
    for round in 0..200 {
        let mut raw = watched.connect();
        if round % 2 == 0 {
            raw.shake_hands(if round % 4 == 0 { Role::Requester } else { Role::Subscriber });
        }
        for _ in 0..3 {
            let len = random.below(40) as usize;
            let mut bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
            if round % 3 != 0 {
                // Of a credible length and kind, so that something further in is reached.
                let kind = 1 + random.below(14) as u8;
                bytes = forged(len as u32 + 1, kind, &bytes);
            }
            let (front, back) = bytes.split_at(random.below(bytes.len() as u64 + 1) as usize);
            raw.send(front);
            raw.send(back);
        }
        drop(raw);
        if round % 20 == 0 {
            bystander.notices_nothing();
        }
    }
    bystander.notices_nothing();
}

#[test]
fn f02_a_frame_above_the_negotiated_limit_is_refused_on_its_length() {
    let limits = limits(|limits| {
        limits.max_frame_bytes = 100_000;
        limits.log_bytes = 100_000;
    });
    let watched = Watched::new(limits);
    let mut bystander = Bystander::new(&watched.server);
    for len in [100_001, u32::MAX] {
        let mut raw = watched.connect();
        raw.shake_hands(Role::Requester);
        raw.send(&forged(len, 6, b""));
        assert_bye(raw.last_frame(), ByeCode::Protocol);
        watched.expect_left(&raw, protocol(wire::Error::FrameTooLong { len, limit: 100_000 }));
        bystander.notices_nothing();
    }
}

#[test]
fn f14_frames_out_of_place_end_the_connection_and_name_the_rule() {
    let watched = Watched::new(Limits::default());
    let mut bystander = Bystander::new(&watched.server);
    let publish = encoded(&Frame::Publish { header: Publish { seq: 0, topic: "bystander." }, data: &[1] });
    let reply = encoded(&Frame::Reply { header: Reply { id: 1, status: Status::Ok }, payload: &[] });

    // Before the Hello nobody is owed an answer.
    for (bytes, kind) in [(request(1, &[2, 2]), Kind::Request), (publish.clone(), Kind::Publish)] {
        let mut raw = watched.connect();
        raw.send(&bytes);
        raw.expect_silent_end();
        watched.expect_left(&raw, unexpected(kind));
    }

    let second_hello = encoded(&hello(Role::Requester));
    let cases = [
        (Role::Requester, second_hello.clone(), unexpected(Kind::Hello)),
        (Role::Subscriber, second_hello, unexpected(Kind::Hello)),
        (Role::Requester, publish.clone(), unexpected(Kind::Publish)),
        (Role::Subscriber, publish, unexpected(Kind::Publish)),
        (Role::Requester, reply, unexpected(Kind::Reply)),
        (Role::Subscriber, request(1, &[2, 2]), unexpected(Kind::Request)),
        (Role::Requester, forged(3, 200, b"ab"), protocol(wire::Error::UnknownKind { kind: 200 })),
        (Role::Requester, forged(3, 6, b"ab"), protocol(wire::Error::Malformed { kind: Kind::Request })),
    ];
    for (role, bytes, reason) in cases {
        let mut raw = watched.connect();
        raw.shake_hands(role);
        raw.send(&bytes);
        assert_bye(raw.last_frame(), ByeCode::Protocol);
        watched.expect_left(&raw, reason);
        bystander.notices_nothing();
    }
}

#[test]
fn f17_another_version_is_told_which_one_is_spoken() {
    let watched = Watched::new(Limits::default());
    let mut bystander = Bystander::new(&watched.server);
    let mut bytes = encoded(&hello(Role::Requester));
    let version = wire::LENGTH_BYTES + 1 + wire::MAGIC.len();
    assert_eq!(bytes[version..version + 2], wire::VERSION.to_le_bytes());
    bytes[version] += 1;
    let mut raw = watched.connect();
    raw.send(&bytes);
    assert_rejected(&mut raw, RejectCode::Version);
    let theirs = wire::VERSION + 1;
    watched.expect_left(&raw, protocol(wire::Error::Version { theirs, ours: wire::VERSION }));
    bystander.notices_nothing();
}

#[test]
fn a_role_that_is_not_served_is_rejected() {
    let mut publisher = Publisher::bind("127.0.0.1:0", Limits::default(), false).unwrap();
    let mut replier = Replier::bind("127.0.0.1:0", Limits::default(), false).unwrap();
    let (publishes, replies) = (publisher.local_addr(), replier.local_addr());
    let over = AtomicBool::new(false);
    let step = Some(Duration::from_millis(5));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                publisher.poll(step).unwrap();
            }
        });
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                assert!(replier.recv(step).unwrap().is_none());
            }
        });
        for (addr, wrong, right) in
            [(publishes, Role::Requester, Role::Subscriber), (replies, Role::Subscriber, Role::Requester)]
        {
            let mut raw = Raw::connect(addr);
            raw.send_frame(&hello(wrong));
            assert_rejected(&mut raw, RejectCode::Role);
            Raw::connect(addr).shake_hands(right);
        }
        over.store(true, Ordering::SeqCst);
    });
}

#[test]
fn f18_a_silent_connection_is_given_up() {
    let watched = Watched::new(limits(|limits| limits.handshake_timeout = SOON));
    let mut bystander = Bystander::new(&watched.server);
    let mut raw = watched.connect();
    raw.expect_silent_end();
    watched.expect_left(&raw, CloseReason::HandshakeTimeout);
    bystander.notices_nothing();
}

#[test]
fn f19_a_dribble_does_not_move_the_deadline_of_the_handshake() {
    let watched = Watched::new(limits(|limits| limits.handshake_timeout = SOON));
    let mut bystander = Bystander::new(&watched.server);
    let mut raw = watched.connect();
    raw.send(&forged(HANDSHAKE_LIMIT, 1, b"PLSW"));
    // It would take twenty seconds at this pace, and goes on only while it is listened to.
    let left = (0..HANDSHAKE_LIMIT - 5).find_map(|_| {
        raw.send(b"\x01");
        watched.left_within(Duration::from_millis(5))
    });
    assert_eq!(left, Some((raw.local, CloseReason::HandshakeTimeout)));
    bystander.notices_nothing();
}

#[test]
fn f18_a_flood_of_half_open_connections_pushes_its_own_oldest_out() {
    let limits = limits(|limits| {
        limits.max_half_open = 8;
        limits.handshake_timeout = LONG;
    });
    let watched = Watched::new(limits);
    let mut bystander = Bystander::new(&watched.server);
    let mut flood: Vec<Raw> = (0..20).map(|_| watched.connect()).collect();
    let pushed_out: Vec<_> = (0..12).map(|_| watched.next_left()).collect();
    let oldest: Vec<_> =
        flood[..12].iter().map(|raw| (raw.local, CloseReason::Limit(LimitReached::HalfOpen))).collect();
    assert_eq!(pushed_out, oldest);
    bystander.notices_nothing();
    // The newest are still there, and greeting is not too late for them.
    for raw in &mut flood[12..] {
        raw.shake_hands(Role::Requester);
    }
    for raw in &mut flood[..12] {
        raw.expect_silent_end();
    }
    bystander.notices_nothing();
}

#[test]
fn f04_a_begun_frame_that_does_not_go_on_is_given_up() {
    let watched = Watched::new(limits(|limits| limits.frame_progress_timeout = SOON));
    let mut bystander = Bystander::new(&watched.server);
    // One stalls, and one dribbles: too little to count.
    let mut stalled = watched.connect();
    stalled.shake_hands(Role::Requester);
    stalled.send(&request(1, &[0; 3_000])[..2_000]);
    assert_eq!(stalled.last_frame().map(|frame| frame[0]), Some(Kind::Heartbeat as u8));
    watched.expect_left(&stalled, CloseReason::FrameStalled { received: 2_000 });

    let mut dribbling = watched.connect();
    dribbling.shake_hands(Role::Requester);
    dribbling.send(&request(1, &vec![0; 1_000_000])[..2_000]);
    let left = (0..100_000).find_map(|_| {
        dribbling.send(&[0]);
        watched.left_within(Duration::from_millis(5))
    });
    match left {
        Some((peer, CloseReason::FrameStalled { received })) => {
            assert_eq!(peer, dribbling.local);
            assert!((2_000..60_000).contains(&received), "{received}");
        }
        other => panic!("{other:?}"),
    }
    bystander.notices_nothing();
}

#[test]
fn f37_a_reset_in_the_middle_of_a_frame_is_the_end_of_that_connection_alone() {
    let watched = Watched::new(Limits::default());
    let mut bystander = Bystander::new(&watched.server);
    for role in [Role::Requester, Role::Subscriber] {
        let mut raw = watched.connect();
        raw.shake_hands(role);
        raw.send(&request(1, &[0; 1_000])[..500]);
        let local = raw.local;
        raw.reset();
        assert_eq!(watched.next_left(), (local, CloseReason::StreamLost(StreamEnd::Reset)));
        bystander.notices_nothing();
    }
    // Before the handshake, too, and in good order.
    let raw = watched.connect();
    let local = raw.local;
    drop(raw);
    assert_eq!(watched.next_left(), (local, CloseReason::StreamLost(StreamEnd::Eof)));
    bystander.notices_nothing();
}

#[test]
fn f27_requests_without_end_and_without_reading_are_put_an_end_to() {
    let watched = Watched::new(limits(|limits| limits.max_in_flight = 4));
    let mut bystander = Bystander::new(&watched.server);
    let mut raw = watched.connect();
    raw.shake_hands(Role::Requester);
    for id in 1..=100 {
        raw.send(&request(id, &[2, 2]));
    }
    watched.expect_left(&raw, CloseReason::Protocol(Violation::TooManyInFlight { limit: 4 }));
    bystander.notices_nothing();
    // An id that was there before is no better.
    let mut raw = watched.connect();
    raw.shake_hands(Role::Requester);
    raw.send(&request(7, &[2, 2]));
    raw.send(&request(7, &[2, 2]));
    watched.expect_left(&raw, CloseReason::Protocol(Violation::RequestIdReused { id: 7 }));
    bystander.notices_nothing();
}

#[test]
fn f23_a_flood_of_prefixes_ends_at_the_limit() {
    let watched = Watched::new(limits(|limits| limits.max_prefixes = 100));
    let mut bystander = Bystander::new(&watched.server);
    let mut raw = watched.connect();
    raw.shake_hands(Role::Subscriber);
    for n in 0..200 {
        let mut region = Vec::new();
        Prefixes::push(&mut region, &format!("topic.{n}")).unwrap();
        let prefixes = Prefixes::from_bytes(&region).unwrap();
        let start = (n == 0).then_some(Start::Fresh);
        raw.send_frame(&Frame::Subscribe(Subscribe { ticket: n, snapshot: false, start, prefixes }));
    }
    let left = std::iter::from_fn(|| Some(watched.next_left())).find(|(peer, _)| *peer == raw.local);
    let (_, reason) = left.expect("it leaves");
    assert!(
        matches!(reason, CloseReason::Protocol(Violation::TooManyPrefixes { limit_count: 100, .. })),
        "{reason:?}"
    );
    bystander.notices_nothing();
}

#[test]
fn f28_a_subscriber_that_never_reads_is_given_up_in_the_end() {
    let watched = Watched::new(limits(|limits| limits.not_reading_timeout = SOON));
    let mut bystander = Bystander::new(&watched.server);
    let mut raw = watched.connect();
    raw.shake_hands(Role::Subscriber);
    let mut region = Vec::new();
    Prefixes::push(&mut region, "flood.").unwrap();
    let prefixes = Prefixes::from_bytes(&region).unwrap();
    let subscribe = Subscribe { ticket: 1, snapshot: false, start: Some(Start::Fresh), prefixes };
    raw.send_frame(&Frame::Subscribe(subscribe));
    let subscribed = raw.read_frame().expect("an answer");
    assert_eq!(subscribed[0], Kind::Subscribed as u8);
    let data = vec![0u8; 100_000];
    let left = (0..100_000).find_map(|n| {
        if n < 500 {
            watched.server.publish("flood.", &data).unwrap();
        }
        if n % 50 == 0 {
            bystander.notices_nothing();
        }
        watched.left_within(if n < 500 { Duration::ZERO } else { Duration::from_millis(5) })
    });
    assert_eq!(left, Some((raw.local, CloseReason::NotReading)));
    bystander.notices_nothing();
}

#[cfg(target_os = "linux")]
#[test]
fn f20_ten_thousand_bad_handshakes_leave_no_descriptor_behind() {
    // In a process of its own: descriptors are counted, and other tests have some.
    let process = Process::start("bad-handshakes");
    assert_eq!(process.hear(), "as before");
    assert!(process.wait());
}

/// Not a test of its own: what the processes do that other tests start.
#[test]
fn plays_a_part() {
    match part().as_deref() {
        #[cfg(target_os = "linux")]
        Some("bad-handshakes") => bad_handshakes(),
        Some(other) => panic!("no part {other}"),
        None => {}
    }
}

#[cfg(target_os = "linux")]
fn bad_handshakes() {
    live_no_longer_than_the_parent();
    let watched = Watched::new(Limits::default());
    let mut bystander = Bystander::new(&watched.server);
    let before = descriptors();
    for round in 0..10_000u32 {
        let mut raw = watched.connect();
        match round % 4 {
            0 => raw.send(b"GET / HTTP/1.1\r\n\r\n"),
            1 => raw.send(&request(1, &[])),
            2 => {
                raw.shake_hands(Role::Requester);
                raw.send(&[0; 4]);
            }
            _ => {
                // Gone before anybody looked.
                raw.reset();
                continue;
            }
        }
        let _ = raw.last_frame();
        raw.reset();
        if round % 1_000 == 0 {
            bystander.notices_nothing();
        }
    }
    bystander.notices_nothing();
    eventually("descriptors are given back", || descriptors() == before);
    say("as before");
}

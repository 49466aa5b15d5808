//! Large calls, which are written from where they are held, and large results.

use super::*;

const LEN: usize = 100_000;

/// Arguments in a buffer as a caller encodes them, and where they begin in memory.
fn buffer(byte: u8) -> (Vec<u8>, *const u8) {
    let mut buffer = vec![0; REQUEST_FRONT_BYTES];
    buffer.resize(REQUEST_FRONT_BYTES + LEN, byte);
    let at = buffer[REQUEST_FRONT_BYTES..].as_ptr();
    (buffer, at)
}

fn call_in_place(hand: &mut Hand<Requester>, byte: u8, options: CallOptions) -> u64 {
    let (mut buffer, _) = buffer(byte);
    let id = hand.machine.call_in_place(hand.now, "f", &mut buffer, options).unwrap();
    assert_eq!(buffer.capacity(), 0, "the call has it");
    hand.pump();
    id
}

fn large(id: u64, time_left_ms: u32, settled: &[u64], byte: u8) -> Vec<u8> {
    let settled = ids(settled);
    let header = Request { id, time_left_ms, function: "f", settled: Ids::from_bytes(&settled).unwrap() };
    let mut frame = Vec::new();
    Frame::Request { header, arguments: &[byte; LEN] }.encode(u32::MAX, &mut frame).unwrap();
    frame.split_off(4)
}

/// Bytes that large buffers of what is over take.
fn kept(hand: &mut Hand<Requester>) -> Vec<*const u8> {
    core::iter::from_fn(|| hand.machine.shelf.take_any(usize::MAX)).map(|buffer| buffer.as_ptr()).collect()
}

/// A server that accepts large frames.
fn connected() -> (Hand<Requester>, super::super::super::ConnId) {
    let mut hand = requester(Limits::default(), Reconnect::zmq(100, 100));
    let conn = greet(&mut hand, EPOCH);
    (hand, conn)
}

fn greet(hand: &mut Hand<Requester>, epoch: u64) -> super::super::super::ConnId {
    let conn = hand.connect();
    hand.heard(conn).expect("its Hello");
    hand.deliver(conn, Frame::Welcome(Welcome::new(epoch, false, 10_000, 1_000_000)));
    hand.deliver(conn, heartbeat());
    conn
}

#[test]
fn a_large_call_is_written_from_the_buffer_that_it_came_in() {
    let (mut hand, conn) = connected();
    let (mut buffer, at) = buffer(7);
    let id = hand.machine.call_in_place(hand.now, "f", &mut buffer, until(1_000)).unwrap();
    while hand.machine.poll_action().is_some() {}
    let chunk = hand.machine.poll_transmit(hand.now, conn).unwrap();
    assert_eq!(chunk.bytes()[chunk.bytes().len() - LEN..].as_ptr(), at);
    assert!(chunk.bytes()[4..] == large(id, 1_000, &[], 7));
    let len = chunk.bytes().len();
    hand.machine.handle_written(hand.now, conn, chunk, len);
    assert_eq!(hand.machine.stats().held_bytes, LEN as u64);
    hand.deliver(conn, reply(id, Status::Ok, b""));
    assert_eq!((ends(&mut hand).len(), hand.machine.stats().held_bytes), (1, 0));
    // It is there for the next one, or for a large result, and gone when nothing large has come for a while.
    let next = hand.machine.call(hand.now, "f", &[8; LEN], until(1_000)).unwrap();
    assert_eq!(
        hand.machine.calls.get(next).unwrap().large.as_ref().unwrap().buffer()[REQUEST_FRONT_BYTES..]
            .as_ptr(),
        at
    );
    hand.pump().deliver(conn, reply(next, Status::Ok, b""));
    hand.at(1_000);
    assert_eq!(kept(&mut hand), []);
}

#[test]
fn a_large_result_comes_together_in_a_buffer_that_is_left_and_stays_there() {
    let (mut hand, conn) = connected();
    let id = call_in_place(&mut hand, 7, until(30_000));
    hand.deliver(conn, reply(id, Status::Ok, b""));
    let left = hand.machine.shelf.take_any(usize::MAX).expect("that of the call");
    let at = left.as_ptr();
    hand.machine.keep(left);
    let id = call(&mut hand, until(30_000));
    let mut frame = Vec::new();
    reply(id, Status::Ok, &[9; LEN]).encode(u32::MAX, &mut frame).unwrap();
    for piece in frame.chunks(30_000) {
        hand.deliver_bytes(conn, piece);
    }
    let (_, outcome) = ends(&mut hand).pop().unwrap();
    let Outcome::Value(value) = outcome else { panic!("{outcome:?}") };
    assert_eq!(value.buffer().as_ptr(), at);
    assert!(value[..] == [9; LEN]);
}

#[test]
fn what_is_sent_again_has_another_head_and_the_same_arguments() {
    let (mut hand, conn) = connected();
    // One has been sent, one is cut off, and one has not begun.
    let sent = call_in_place(&mut hand, 1, again_until(30_000));
    hand.room(conn, 50_000);
    let cut_off = call_in_place(&mut hand, 2, until(30_000));
    let unsent = call_in_place(&mut hand, 3, until(30_000));
    assert!(hand.heard(conn) == Some(large(sent, 30_000, &[], 1)));
    hand.lose(conn, StreamEnd::Reset).at(100);
    let conn = greet(&mut hand, EPOCH + 1);
    for (id, byte) in [(unsent + 1, 1), (unsent + 2, 2), (unsent + 3, 3)] {
        assert!(hand.heard(conn) == Some(large(id, 29_900, &[], byte)));
    }
    for id in unsent + 1..=unsent + 3 {
        hand.deliver(conn, reply(id, Status::Ok, b""));
    }
    assert_eq!(ends(&mut hand).into_iter().map(|(id, _)| id).collect::<Vec<_>>(), [sent, cut_off, unsent]);
    assert_eq!(hand.machine.stats().held_bytes, 0);
}

#[test]
fn a_large_call_waits_its_turn_is_alone_in_its_chunk_and_carries_a_few_settled_ids() {
    let (mut hand, conn) = connected();
    let first: Vec<u64> = (0..10).map(|_| call(&mut hand, until(1_000))).collect();
    for id in &first {
        hand.heard(conn).expect("its request");
        hand.deliver(conn, reply(*id, Status::Ok, b""));
    }
    hand.room(conn, 0);
    let small = call(&mut hand, until(1_000));
    let large_one = call_in_place(&mut hand, 7, until(1_000));
    let last = call(&mut hand, until(1_000));
    hand.room(conn, usize::MAX);
    hand.expect(conn, request(small, 1_000, &ids(&first)));
    assert!(hand.heard(conn) == Some(large(large_one, 1_000, &[], 7)));
    hand.expect(conn, request(last, 1_000, &[])).expect_silence(conn);

    for id in &first {
        hand.machine.settle(hand.now, *id, false);
    }
    let next = call_in_place(&mut hand, 7, until(1_000));
    assert!(hand.heard(conn) == Some(large(next, 1_000, &first[..8], 7)));
    let last = call(&mut hand, until(1_000));
    hand.expect(conn, request(last, 1_000, &ids(&first[8..])));
}

#[test]
fn a_large_call_that_the_server_would_not_take_ends_and_holds_nobody_up() {
    let mut hand = requester(Limits::default(), Reconnect::zmq(100, 100));
    let too_long = call_in_place(&mut hand, 7, until(30_000));
    let next = call(&mut hand, until(30_000));
    let conn = hand.connect();
    hand.heard(conn).expect("its Hello");
    hand.deliver(conn, Frame::Welcome(Welcome::new(EPOCH, false, 10_000, 50_000)));
    hand.expect(conn, request(next, 30_000, &[])).expect_silence(conn);
    let len = large(too_long, 0, &[], 7).len() as u64;
    assert_eq!(ends(&mut hand), [not_run(too_long, NotExecuted::TooLong { len, limit: 50_000 })]);
    assert_eq!(hand.machine.stats().held_bytes, "args".len() as u64);
}

#[test]
fn what_is_kept_makes_room_for_what_is_held_and_memory_counts_whole() {
    let mut limits = Limits::default();
    limits.held_requests_bytes = 32 * LEN as u64;
    let mut hand = requester(limits, Reconnect::zmq(100, 100));
    let conn = greet(&mut hand, EPOCH);
    for _ in 0..2 {
        let id = call_in_place(&mut hand, 7, until(30_000));
        hand.deliver(conn, reply(id, Status::Ok, b""));
    }
    assert_eq!(kept(&mut hand).len(), 1, "a sixteenth of all has room for one");
    let id = call_in_place(&mut hand, 7, until(30_000));
    hand.deliver(conn, reply(id, Status::Ok, b""));
    hand.room(conn, 0);
    // A buffer of twice the size counts for all that it takes; one that is larger still is not kept.
    let mut roomy = Vec::with_capacity(REQUEST_FRONT_BYTES + 2 * LEN);
    roomy.resize(REQUEST_FRONT_BYTES + LEN, 1);
    hand.machine.call_in_place(hand.now, "f", &mut roomy, until(30_000)).unwrap();
    assert_eq!((roomy.capacity(), hand.machine.stats().held_bytes), (0, 2 * LEN as u64));
    let mut too_roomy = Vec::with_capacity(4 * LEN);
    too_roomy.resize(REQUEST_FRONT_BYTES + LEN, 1);
    hand.machine.call_in_place(hand.now, "f", &mut too_roomy, until(30_000)).unwrap();
    assert_eq!(too_roomy.capacity(), 4 * LEN, "the call has a copy");
    assert!(hand.machine.stats().held_bytes < 4 * LEN as u64);
    hand.machine.keep(Vec::with_capacity(LEN));
    let refused = loop {
        let (mut buffer, at) = buffer(1);
        if let Err(refused) = hand.machine.call_in_place(hand.now, "f", &mut buffer, until(30_000)) {
            assert_eq!(buffer[REQUEST_FRONT_BYTES..].as_ptr(), at, "it is as it was");
            break refused;
        }
    };
    assert_eq!(refused, NotExecuted::Full);
    assert!(hand.machine.stats().held_bytes > 31 * LEN as u64 - 1_000 * REQUEST_FRONT_BYTES as u64);
    assert_eq!(kept(&mut hand), [], "nothing is kept beside what is held");
}

#[test]
fn a_call_that_fits_is_not_refused_because_its_buffer_does_not() {
    let mut limits = Limits::default();
    limits.held_requests_bytes = LEN as u64;
    limits.max_frame_bytes = u32::try_from(LEN).unwrap() + 1_000;
    let mut hand = requester(limits, Reconnect::zmq(100, 100));
    let conn = greet(&mut hand, EPOCH);
    for (len, capacity) in [(LEN, 2 * LEN), (LEN, LEN + 1_000), (LEN * 3 / 4, LEN)] {
        let mut buffer = Vec::with_capacity(REQUEST_FRONT_BYTES + capacity);
        buffer.resize(REQUEST_FRONT_BYTES + len, 7);
        let id = hand.machine.call_in_place(hand.now, "f", &mut buffer, until(30_000)).unwrap();
        assert!(hand.machine.stats().held_bytes <= LEN as u64);
        let said = hand.heard(conn).unwrap();
        assert!(
            matches!(Frame::decode(&said), Ok(Frame::Request { arguments, .. }) if arguments == vec![7; len])
        );
        let too_much = hand.machine.call(hand.now, "f", &vec![1; LEN / 3], until(30_000));
        assert_eq!(too_much, Err(NotExecuted::Full));
        hand.deliver(conn, reply(id, Status::Ok, b""));
    }
}

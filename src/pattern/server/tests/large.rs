//! Large calls, whose arguments stay where they came together, and whose answers are written from where they were encoded.

use super::super::super::replier::ENTRY_OVERHEAD;
use super::super::super::ANSWER_FRONT_BYTES;
use super::*;

const LEN: usize = 200_000;

/// A request in two pieces.
fn pieces(id: u64, byte: u8) -> (Vec<u8>, Vec<u8>) {
    let header = Request { id, time_left_ms: 1_000, function: "f", settled: Ids::default() };
    let mut frame = Vec::new();
    Frame::Request { header, arguments: &[byte; LEN] }.encode(u32::MAX, &mut frame).unwrap();
    let rest = frame.split_off(60_000);
    (frame, rest)
}

fn answer(byte: u8, len: usize) -> Vec<u8> {
    let mut buffer = vec![0; ANSWER_FRONT_BYTES];
    buffer.resize(ANSWER_FRONT_BYTES + len, byte);
    buffer
}

fn kept(hand: &mut Hand<Server>) -> Option<Vec<u8>> {
    let mut buffer = Vec::new();
    hand.machine.lend_for_answer(&mut buffer);
    (buffer.capacity() > 0).then_some(buffer)
}

#[test]
fn large_arguments_stay_where_they_came_together_and_count_until_the_answer() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    let (front, rest) = pieces(1, 7);
    hand.deliver_bytes(conn, &front);
    let taken = (front.len() + rest.len()) as u64;
    assert_eq!(hand.machine.peers.get(conn).unwrap().admitted, taken);
    hand.deliver_bytes(conn, &rest);
    assert_eq!(hand.machine.peers.get(conn).unwrap().admitted, 0);
    assert_eq!(hand.machine.stats().replier.queued_bytes, ENTRY_OVERHEAD + taken);
    let (now, ticket) = (hand.now, work(&mut hand)[0]);
    let arguments = hand.machine.start(now, ticket).unwrap();
    assert_eq!(arguments.buffer().len() as u64, taken);
    assert!(arguments[..] == [7; LEN]);
    let at = arguments.buffer().as_ptr();
    hand.machine.give_back(arguments);
    assert_eq!(hand.machine.stats().replier.queued_bytes, ENTRY_OVERHEAD + taken);
    hand.machine.reply(ticket, Status::Ok, b"");
    hand.expect(conn, reply(1, Status::Ok, b""));
    // The next ones come together in the same buffer, as soon as it is known how long they are.
    settle(&mut hand, conn, false, &[1]);
    let (front, rest) = pieces(2, 8);
    hand.deliver_bytes(conn, &front).deliver_bytes(conn, &rest);
    let ticket = work(&mut hand)[0];
    let arguments = hand.machine.start(now, ticket).unwrap();
    assert_eq!(arguments.buffer().as_ptr(), at);
    assert!(arguments[..] == [8; LEN]);
    hand.machine.reply(ticket, Status::Ok, b"");
    settle(&mut hand, conn, false, &[2]);
    assert_eq!(hand.machine.stats().replier.queued_bytes, 0);
}

#[test]
fn a_large_answer_is_written_from_the_buffer_that_it_came_in() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 1, 1_000, &[]);
    let (now, ticket) = (hand.now, work(&mut hand)[0]);
    hand.machine.start(now, ticket).unwrap();
    let mut buffer = answer(7, LEN);
    let at = buffer.as_ptr();
    hand.room(conn, 1_000);
    assert!(hand.machine.reply_in_place(ticket, Status::Ok, &mut buffer));
    assert_eq!(buffer.capacity(), 0, "the call has it");
    // A part of it is written, and then the rest; then it is there for the next answer.
    hand.pump().room(conn, usize::MAX);
    hand.expect(conn, reply(1, Status::Ok, &[7; LEN])).expect_silence(conn);
    settle(&mut hand, conn, false, &[1]);
    assert_eq!((hand.machine.stats().replier.result_bytes, hand.machine.rest_bytes), (0, 0));
    let mut left = kept(&mut hand).expect("a buffer is left");
    request(&mut hand, conn, 2, 1_000, &[]);
    let ticket = work(&mut hand)[0];
    hand.machine.start(now, ticket).unwrap();
    left.resize(ANSWER_FRONT_BYTES, 0);
    left.extend_from_slice(&[8; LEN]);
    assert_eq!(left.as_ptr(), at);
    hand.machine.reply_in_place(ticket, Status::Ok, &mut left);
    hand.expect(conn, reply(2, Status::Ok, &[8; LEN]));
    // When nothing large has come for a while, nothing is kept.
    hand.at(20_000).at(40_000).at(60_000);
    assert_eq!(kept(&mut hand), None);
}

#[test]
fn an_answer_in_place_is_what_a_copied_one_would_be() {
    let mut limits = Limits::default();
    limits.results_bytes = 300_000;
    for (status, len, said) in [
        (Status::Ok, 10, reply(1, Status::Ok, &[7; 10])),
        (Status::Ok, LEN, reply(1, Status::Ok, &[7; LEN])),
        (Status::Failed, LEN, reply(1, Status::Failed, &[7; LEN])),
        (Status::Ok, 300_001, reply(1, Status::ResultNotKept, &[])),
        (Status::Failed, 300_001, reply(1, Status::Failed, &[])),
    ] {
        let mut hand = server(limits.clone());
        let conn = requester(&mut hand, 1);
        request(&mut hand, conn, 1, 1_000, &[]);
        let (now, ticket) = (hand.now, work(&mut hand)[0]);
        hand.machine.start(now, ticket).unwrap();
        assert!(hand.machine.reply_in_place(ticket, status, &mut answer(7, len)));
        assert!(!hand.machine.reply_in_place(ticket, status, &mut answer(8, len)), "it has its answer");
        hand.expect(conn, said).expect_silence(conn);
        settle(&mut hand, conn, false, &[1]);
        assert_eq!(hand.machine.stats().replier.result_bytes, 0);
    }
    // A client that takes no such frame.
    let mut hand = server(Limits::default());
    let conn = hand.accept().unwrap();
    hand.deliver(conn, Frame::Hello(Hello::new(Role::Requester, SessionId::default(), 1, 50_000, "")));
    hand.expect(conn, welcome()).expect(conn, heartbeat(0));
    request(&mut hand, conn, 1, 1_000, &[]);
    let (now, ticket) = (hand.now, work(&mut hand)[0]);
    hand.machine.start(now, ticket).unwrap();
    hand.machine.reply_in_place(ticket, Status::Ok, &mut answer(7, LEN));
    hand.expect(conn, reply(1, Status::ResultNotKept, b""));
}

#[test]
fn what_is_kept_makes_room_for_results_and_is_admitted_where_a_frame_comes_together_in_it() {
    let mut limits = Limits::default();
    limits.results_bytes = 32 * LEN as u64;
    limits.partial_frames_bytes = LEN as u64 + 50_000;
    let mut hand = server(limits);
    let conn = requester(&mut hand, 1);
    let now = hand.now;
    let mut roomy = Vec::with_capacity(LEN + 60_000);
    roomy.push(0);
    hand.machine.replier.keep(roomy);
    // Its memory, not its length, would have to be admitted: it waits until nobody else has any, and needs none then.
    let other = requester(&mut hand, 2);
    let (front, _) = pieces(1, 1);
    hand.deliver_bytes(other, &front[..10]);
    assert_eq!(hand.machine.peers.get(other).unwrap().admitted, (LEN + 60_000) as u64);
    hand.lose(other, StreamEnd::Reset);
    assert_eq!(kept(&mut hand), None);
    hand.room(conn, 0);
    hand.machine.replier.keep(Vec::with_capacity(LEN));
    for id in 1..=31 {
        request(&mut hand, conn, id, 1_000, &[]);
        let ticket = work(&mut hand)[0];
        hand.machine.start(now, ticket).unwrap();
        assert!(hand.machine.reply(ticket, Status::Ok, &vec![7; LEN]));
    }
    assert_eq!(hand.machine.stats().replier.results_not_kept, 0);
    assert_eq!(kept(&mut hand), None, "results go before what is kept");
}

#[test]
fn arguments_behind_a_long_head_are_copied() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    let mut settled = vec![];
    (0..1_000).for_each(|id| Ids::push(&mut settled, 1_000 + id));
    for (id, ids, kept) in [(1, 8 * 8, true), (2, 8 * 1_000, false)] {
        let settled = Ids::from_bytes(&settled[..ids]).unwrap();
        let header = Request { id, time_left_ms: 1_000, function: "f", settled };
        let mut frame = Vec::new();
        Frame::Request { header, arguments: &[7; LEN] }.encode(u32::MAX, &mut frame).unwrap();
        let len = frame.len();
        hand.deliver_bytes(conn, &frame[..60_000]).deliver_bytes(conn, &frame[60_000..]);
        let (now, ticket) = (hand.now, work(&mut hand)[0]);
        let arguments = hand.machine.start(now, ticket).unwrap();
        assert_eq!(arguments.buffer().len(), if kept { len } else { LEN });
        assert!(arguments[..] == [7; LEN]);
    }
}

#[test]
fn a_buffer_that_could_not_be_admitted_stays_and_its_frame_asks_for_itself() {
    let mut limits = Limits::default();
    limits.partial_frames_bytes = LEN as u64 + 80_000;
    let mut hand = server(limits);
    let (other, conn) = (requester(&mut hand, 1), requester(&mut hand, 2));
    let mut small = Vec::new();
    Frame::Bye { code: ByeCode::Stopped, text: &"x".repeat(60_000) }.encode(u32::MAX, &mut small).unwrap();
    hand.deliver_bytes(other, &small[..10]);
    hand.machine.replier.keep(Vec::with_capacity(LEN + 50_000));
    let (front, rest) = pieces(1, 7);
    hand.deliver_bytes(conn, &front);
    let admitted = hand.machine.peers.get(conn).unwrap().admitted;
    assert_eq!(admitted, (front.len() + rest.len()) as u64);
    assert!(kept(&mut hand).is_some());
}

#[test]
fn what_is_lent_for_an_answer_is_no_more_than_is_counted_for_a_lane() {
    let limits = Limits::default();
    let most = limits.lent_answer_bytes();
    let mut hand = server(limits);
    hand.machine.replier.keep(Vec::with_capacity(most + 1));
    assert_eq!(kept(&mut hand), None);
    hand.machine.replier.keep(Vec::with_capacity(most));
    assert_eq!(kept(&mut hand).map(|buffer| buffer.capacity()), Some(most));
}

#[test]
#[should_panic(expected = "there is no room in front of the answer")]
fn an_answer_without_room_is_a_mistake_that_is_said_before_anything_is_done() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 1, 1_000, &[]);
    let ticket = work(&mut hand)[0];
    hand.machine.reply_in_place(ticket, Status::Ok, &mut vec![0; ANSWER_FRONT_BYTES - 1]);
}

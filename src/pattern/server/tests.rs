mod calls;
mod connections;
mod gate;
mod large;
mod publications;
mod sessions;
mod slow;
mod streams;
use super::super::hand::Hand;
use super::super::Machine;
use super::*;
use crate::session::{LimitReached, StreamEnd, Violation};
use crate::wire::{
    self, Frame, Gap, Heartbeat, Hello, Ids, Kind, Lost, Prefixes, Publish, RejectCode, Reply, Request,
    Settle, Start, Subscribe, Subscribed, Unsubscribe, Welcome,
};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
const EPOCH: u64 = 77;
fn server(limits: Limits) -> Hand<Server> {
    Hand::new(Server::new(Roles::Both, limits, EPOCH, 1))
}
fn hello(role: Role, session: u8, attempt: u64) -> Frame<'static> {
    Frame::Hello(Hello::new(role, SessionId([session; 16]), attempt, 1_000_000, ""))
}
fn welcome() -> Frame<'static> {
    Frame::Welcome(Welcome::new(EPOCH, false, 10_000, 16 * 1024 * 1024))
}
fn welcome_back() -> Frame<'static> {
    Frame::Welcome(Welcome::new(EPOCH, true, 10_000, 16 * 1024 * 1024))
}
/// A dial of a session that was here before and is remembered.
fn back(hand: &mut Hand<Server>, role: Role, session: u8, attempt: u64) -> ConnId {
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello(role, session, attempt)).expect(conn, welcome_back());
    if role == Role::Requester {
        hand.expect(conn, heartbeat(0));
    }
    conn
}
fn settle_all_but(hand: &mut Hand<Server>, conn: ConnId, kept: &[u64]) {
    let mut region = vec![];
    kept.iter().for_each(|id| Ids::push(&mut region, *id));
    let ids = Ids::from_bytes(&region).unwrap();
    hand.deliver(conn, Frame::Settle(Settle { all_but: true, ids }));
}
fn heartbeat(position: u64) -> Frame<'static> {
    Frame::Heartbeat(Heartbeat { wall_clock_ns: 0, position })
}
fn requester(hand: &mut Hand<Server>, session: u8) -> ConnId {
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello(Role::Requester, session, 1));
    hand.expect(conn, welcome()).expect(conn, heartbeat(0)).expect_silence(conn);
    conn
}
fn subscriber(hand: &mut Hand<Server>, session: u8, prefixes: &[&str]) -> ConnId {
    let conn = hand.accept().unwrap();
    hand.deliver(conn, hello(Role::Subscriber, session, 1)).expect(conn, welcome()).expect_silence(conn);
    let position = hand.machine.head();
    subscribe(hand, conn, 1, Some(Start::Fresh), prefixes);
    hand.expect(conn, Frame::Subscribed(Subscribed { ticket: 1, position })).expect_silence(conn);
    conn
}
fn subscribe(hand: &mut Hand<Server>, conn: ConnId, ticket: u64, start: Option<Start>, prefixes: &[&str]) {
    let region = region(prefixes);
    let prefixes = Prefixes::from_bytes(&region).unwrap();
    hand.deliver(conn, Frame::Subscribe(Subscribe { ticket, snapshot: false, start, prefixes }));
}
fn unsubscribe(hand: &mut Hand<Server>, conn: ConnId, ticket: u64, prefixes: &[&str]) {
    let region = region(prefixes);
    let prefixes = Prefixes::from_bytes(&region).unwrap();
    hand.deliver(conn, Frame::Unsubscribe(Unsubscribe { ticket, prefixes }));
}
fn region(prefixes: &[&str]) -> Vec<u8> {
    let mut region = Vec::new();
    prefixes.iter().for_each(|prefix| Prefixes::push(&mut region, prefix).unwrap());
    region
}
fn request(hand: &mut Hand<Server>, conn: ConnId, id: u64, time_left_ms: u32, settled: &[u64]) {
    let mut region = Vec::new();
    settled.iter().for_each(|id| Ids::push(&mut region, *id));
    let settled = Ids::from_bytes(&region).unwrap();
    let header = Request { id, time_left_ms, function: "f", settled };
    hand.deliver(conn, Frame::Request { header, arguments: b"args" });
}
fn settle(hand: &mut Hand<Server>, conn: ConnId, all_but: bool, ids: &[u64]) {
    let mut region = Vec::new();
    ids.iter().for_each(|id| Ids::push(&mut region, *id));
    hand.deliver(conn, Frame::Settle(Settle { all_but, ids: Ids::from_bytes(&region).unwrap() }));
}
fn reply(id: u64, status: Status, payload: &[u8]) -> Frame<'_> {
    Frame::Reply { header: Reply { id, status }, payload }
}
fn publish<'a>(seq: u64, topic: &'a str, data: &'a [u8]) -> Frame<'a> {
    Frame::Publish { header: Publish { seq, topic }, data }
}
fn work(hand: &mut Hand<Server>) -> Vec<Ticket> {
    let events = core::iter::from_fn(|| hand.machine.poll_event());
    events
        .filter_map(|event| match event {
            ServerEvent::Work(work) => Some(work.ticket),
            _ => None,
        })
        .collect()
}
fn left(hand: &mut Hand<Server>) -> Vec<(ConnId, CloseReason)> {
    hand.pump();
    let events = core::iter::from_fn(|| hand.machine.poll_event());
    events
        .filter_map(|event| match event {
            ServerEvent::Left { conn, reason, .. } => Some((conn, reason)),
            _ => None,
        })
        .collect()
}
/// Checks that a bystander of either role is served as if nothing had happened.
fn expect_undisturbed(hand: &mut Hand<Server>, calls: ConnId, follows: ConnId) {
    let seq = hand.machine.publish("by.stander", b"!").unwrap().seq;
    hand.expect(follows, publish(seq, "by.stander", b"!")).expect_silence(follows);
    request(hand, calls, seq + 1, 1_000, &[]);
    let ticket = *work(hand).last().unwrap();
    let now = hand.now;
    assert_eq!(hand.machine.start(now, ticket).as_deref(), Ok(&b"args"[..]));
    assert!(hand.machine.reply(ticket, Status::Ok, b"ok"));
    hand.expect(calls, reply(seq + 1, Status::Ok, b"ok")).expect_silence(calls);
    settle(hand, calls, false, &[seq + 1]);
}

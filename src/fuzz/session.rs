//! Arbitrary bytes for every machine in every stage.

use alloc::vec::Vec;
use core::net::SocketAddr;

use super::pieces;
use super::turn::{check_frames, encoded, Turned};
use crate::pattern::{
    Batch, CallOptions, ConnId, Limits, Machine, Random, Reconnect, Requester, Retain, Roles, Server,
    ServerEvent, SessionId, Status, StreamEnd, StreamOptions, SubscribeOptions, Subscriber,
};
use crate::time::{Duration, Instant};
use crate::wire::{Deframer, Frame, Hello, Prefixes, Role, Start, Subscribe, Welcome};

const EPOCH: u64 = 5;
/// Frame limit of the peers that are played here.
const PEER_LIMIT: u32 = 8_192;

/// Feeds bytes to a machine: which one and in which stage is the first byte's choice, into how many pieces they are
/// chopped the second's; as many bytes after it are the lengths of the pieces, which repeat. The rest is what the
/// peer says.
///
/// # Panics
/// If the machine does, if a timer spins, if it says what is no frame or too long a one, if a bystander notices
/// anything, or if it holds more than its limits allow.
pub fn session(bytes: &[u8]) {
    let Some((&stage, rest)) = bytes.split_first() else { return };
    let Some((&count, rest)) = rest.split_first() else { return };
    let (lengths, stream) = rest.split_at(usize::from(count & 0x1f).min(rest.len()));
    let pieces: Vec<&[u8]> = pieces(stream, lengths).collect();
    match stage % 10 {
        stage @ 0..=3 => server(stage, &pieces),
        stage @ 4..=6 => requester(stage, &pieces),
        stage => subscriber(stage, &pieces),
    }
}

fn limits() -> Limits {
    let mut limits = Limits::tiny();
    limits.max_in_flight = 4;
    limits.max_prefixes = 16;
    limits.log_bytes = 16 * 1024;
    limits.inbox_bytes = 4 * 1024;
    // A record goes with its connection, so that the end can be checked without waiting.
    limits.max_detached = 0;
    limits
}

/// One who plays the peer: says pieces, lets time pass between them, and checks what it hears.
#[derive(Default)]
struct Peer {
    deframer: Deframer,
    turn: usize,
}

impl Peer {
    fn say<M: Machine>(&mut self, turned: &mut Turned<M>, conn: ConnId, piece: &[u8]) {
        turned.hear(conn, piece);
        let room = if self.turn.is_multiple_of(3) { 7 } else { usize::MAX };
        let said = turned.say(conn, room);
        check_frames(&mut self.deframer, &said, PEER_LIMIT);
        turned.until(turned.now + Duration::from_millis(3));
        self.turn += 1;
    }
}

// Servers: 0 before Hello, 1 a requester, 2 a subscriber whose set is not complete, 3 one that follows.

fn hello(role: Role, session: u8) -> Vec<u8> {
    encoded(&Frame::Hello(Hello::new(role, SessionId([session; 16]), 1, PEER_LIMIT, "")))
}

fn subscribe(start: Option<Start>) -> Vec<u8> {
    let prefixes = Prefixes::from_bytes(b"\x01a").expect("one prefix");
    encoded(&Frame::Subscribe(Subscribe { ticket: 1, snapshot: false, start, prefixes }))
}

fn server(stage: u8, pieces: &[&[u8]]) {
    let mut machine = Server::new(Roles::Both, limits(), EPOCH, 1);
    let options = StreamOptions::default().last_value(true).retain(Retain::All);
    machine.set_main_stream(options).expect("a fresh server");
    let mut turned = Turned::new(machine);
    let bystander =
        join(&mut turned, &[&hello(Role::Subscriber, 1)[..], &subscribe(Some(Start::Fresh))].concat());
    let conn = match stage {
        0 => join(&mut turned, &[]),
        1 => join(&mut turned, &hello(Role::Requester, 2)),
        2 => join(&mut turned, &[&hello(Role::Subscriber, 2)[..], &subscribe(None)].concat()),
        _ => join(&mut turned, &[&hello(Role::Subscriber, 2)[..], &subscribe(Some(Start::Fresh))].concat()),
    };
    let mut peer = Peer::default();
    for piece in pieces {
        peer.say(&mut turned, conn, piece);
        answer_all(&mut turned);
        let _ = turned.machine.publish("a", b"0123456789");
        let heard = turned.say(bystander, usize::MAX);
        if turned.shut_down.contains(&bystander) {
            return; // Whoever knows a session's id can take it over.
        }
        assert!(heard.ends_with(b"\x01a0123456789"), "a bystander misses something");
        let stats = turned.machine.stats();
        assert!(stats.replier.queued_bytes <= limits().queued_arguments_bytes + 4_096 * 2);
        assert!(stats.replier.result_bytes <= limits().results_bytes + 4_096);
        assert!(stats.publisher.prefixes <= 17 && stats.publisher.log_bytes <= 16 * 1024);
    }
    turned.machine.handle_closed(turned.now, conn, StreamEnd::Reset);
    answer_all(&mut turned);
    let stats = turned.machine.stats();
    assert_eq!((stats.replier.queued_bytes, stats.replier.result_bytes), (0, 0), "a record goes whole");
    assert_eq!((stats.connections, stats.half_open, stats.publisher.prefixes), (1, 0, 1));
}

fn join(turned: &mut Turned<Server>, bytes: &[u8]) -> ConnId {
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let conn = turned.machine.handle_accepted(turned.now, peer).expect("there is room for two");
    turned.hear(conn, bytes);
    turned.say(conn, usize::MAX);
    conn
}

fn answer_all(turned: &mut Turned<Server>) {
    while let Some(event) = turned.machine.poll_event() {
        if let ServerEvent::Work(work) = event {
            if let Ok(arguments) = turned.machine.start(turned.now, work.ticket) {
                turned.machine.reply(work.ticket, Status::Ok, &arguments);
            }
        }
    }
}

// Clients: before Welcome, and after it with and without a record, or with a set in force.

fn connect<M: Machine>(turned: &mut Turned<M>) -> ConnId {
    turned.act();
    let conn = turned.dials.pop().expect("it dials");
    turned.machine.handle_connected(turned.now, conn);
    turned.say(conn, usize::MAX);
    conn
}

fn welcome(known: bool) -> Vec<u8> {
    encoded(&Frame::Welcome(Welcome::new(EPOCH, known, 10_000, PEER_LIMIT)))
}

/// Time enough for everything to end, however often it is lost.
fn outlive<M: Machine>(turned: &mut Turned<M>, conn: ConnId) {
    if !turned.is_closed(conn) {
        turned.machine.handle_closed(turned.now, conn, StreamEnd::Eof);
    }
    turned.until(Instant::from_millis(120_000));
}

fn requester(stage: u8, pieces: &[&[u8]]) {
    let random = Random::new(1);
    let machine = Requester::new(limits(), Reconnect::default(), 1, SessionId::default(), random);
    let mut turned = Turned::new(machine);
    turned.machine.start();
    let mut open = Vec::new();
    for number in 0..3 {
        let deadline = Instant::from_millis(20 + 10_000 * number);
        let options = CallOptions { deadline, idempotent: number == 1, fail_fast: false };
        open.push(turned.machine.call(turned.now, "f", b"arguments", options).expect("room for three"));
    }
    let conn = connect(&mut turned);
    if stage > 4 {
        turned.hear(conn, &welcome(stage == 6));
    }
    let mut peer = Peer::default();
    pieces.iter().for_each(|piece| peer.say(&mut turned, conn, piece));
    outlive(&mut turned, conn);
    while let Some(done) = turned.machine.poll_done() {
        let index = open.iter().position(|id| *id == done.id).expect("each call ends once");
        open.swap_remove(index);
    }
    assert!(open.is_empty(), "calls that never end");
    assert_eq!(turned.machine.stats().held_bytes, 0);
}

fn subscriber(stage: u8, pieces: &[&[u8]]) {
    let random = Random::new(1);
    let options = SubscribeOptions::default().snapshot();
    let machine =
        Subscriber::with(limits(), Reconnect::default(), 1, SessionId::default(), random, "a", options);
    let mut turned = Turned::new(machine.expect("a short prefix"));
    turned.machine.start();
    let conn = connect(&mut turned);
    if stage > 7 {
        turned.hear(conn, &welcome(false));
        turned.say(conn, usize::MAX);
    }
    if stage > 8 {
        // The handshake's Subscribe has the first ticket.
        let subscribed = crate::wire::Subscribed { ticket: 1, position: 0 };
        turned.hear(conn, &encoded(&Frame::Subscribed(subscribed)));
        assert!(turned.machine.is_connected());
    }
    let largest = pieces.iter().map(|piece| piece.len()).max().unwrap_or(0) as u64;
    let (mut peer, mut batch) = (Peer::default(), Batch::new());
    for (turn, piece) in pieces.iter().enumerate() {
        if turned.machine.wants_read(conn) {
            peer.say(&mut turned, conn, piece);
        }
        // Events cost more than the bytes that they came in, but not more than so many times.
        let bound = limits().inbox_bytes + 16 * largest + u64::from(limits().max_frame_bytes);
        assert!(turned.machine.stats().inbox_bytes <= bound);
        if turn % 5 == 4 && turned.machine.exchange(&mut batch) {
            while batch.next().is_some() {}
        }
    }
    outlive(&mut turned, conn);
}

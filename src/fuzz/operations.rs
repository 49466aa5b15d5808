//! Lists of operations on a server and two clients, joined by pipes.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::turn::Turned;
use crate::pattern::{
    Batch, CallOptions, ConnId, Event, EventKind, Limits, Lost, Machine, Outcome, Random, Reconnect,
    Requester, Roles, Server, ServerEvent, SessionId, Status, StreamEnd, Subscriber, Ticket,
};
use crate::time::Duration;

/// Applies a list of operations, two bytes each: what, and how much of it.
///
/// # Panics
/// If a machine does, if a timer spins, if a call ends twice or runs twice, if it has a result and did not run or ran
/// and is called not executed, or if the account of the subscriber, which follows everything, does not balance.
pub fn operations(bytes: &[u8]) {
    let mut pair = Pair::new();
    for operation in bytes.chunks_exact(2).take(2_000) {
        pair.apply(operation[0] % 16, operation[1]);
    }
    pair.end();
}

/// A connection: its two ends, and the bytes on their way.
#[derive(Default)]
struct Pipe {
    ends: Option<(ConnId, ConnId)>,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

struct Pair {
    server: Turned<Server>,
    requester: Turned<Requester>,
    subscriber: Turned<Subscriber>,
    calls: Pipe,
    events: Pipe,
    works: Vec<Ticket>,
    /// What the user of the requester knows: the end of each call.
    ends: BTreeMap<u64, Option<Outcome>>,
    /// How often each call ran; its arguments are its number.
    runs: BTreeMap<u64, u64>,
    made: u64,
    batch: Batch,
    position: Option<u64>,
}

fn limits() -> Limits {
    let mut limits = Limits::tiny();
    limits.log_messages = 8;
    limits.max_in_flight = 4;
    limits
}

impl Pair {
    fn new() -> Self {
        let policy = Reconnect::zmq(10, 40);
        let requester = Requester::new(limits(), policy, 1, SessionId([1; 16]), Random::new(1));
        let subscriber = Subscriber::new(limits(), policy, 1, SessionId([2; 16]), Random::new(2), "");
        let mut pair = Pair {
            server: Turned::new(Server::new(Roles::Both, limits(), 7, 7)),
            requester: Turned::new(requester),
            subscriber: Turned::new(subscriber.expect("a short prefix")),
            calls: Pipe::default(),
            events: Pipe::default(),
            works: Vec::new(),
            ends: BTreeMap::new(),
            runs: BTreeMap::new(),
            made: 0,
            batch: Batch::new(),
            position: None,
        };
        pair.requester.machine.start();
        pair.subscriber.machine.start();
        pair
    }

    fn apply(&mut self, what: u8, amount: u8) {
        let few = usize::from(amount);
        match what {
            0 => self.pass(u64::from(amount) * 10),
            1 => self.call(amount),
            2 | 3 => self.publish(few),
            4 => self.start_and_answer(Some(few)),
            5 => self.start_and_answer(None),
            6 => move_bytes(&mut self.requester, &mut self.server, &mut self.calls, few, few),
            7 => move_bytes(&mut self.subscriber, &mut self.server, &mut self.events, few, few),
            8 => self.move_all(),
            9 => lose(&mut self.requester, &mut self.server, &mut self.calls, amount),
            10 => lose(&mut self.subscriber, &mut self.server, &mut self.events, amount),
            11 => self.look(),
            12 => self.requester.machine.stop(self.requester.now),
            13 => self.requester.machine.start(),
            14 => self.subscriber.machine.stop(self.subscriber.now),
            _ => self.subscriber.machine.start(),
        }
        connect(&mut self.requester, &mut self.server, &mut self.calls);
        connect(&mut self.subscriber, &mut self.server, &mut self.events);
        while let Some(event) = self.server.machine.poll_event() {
            if let ServerEvent::Work(work) = event {
                self.works.push(work.ticket);
            }
        }
        self.note_ends();
    }

    fn pass(&mut self, millis: u64) {
        let then = self.server.now + Duration::from_millis(millis);
        self.server.until(then);
        self.requester.until(then);
        self.subscriber.until(then);
    }

    fn call(&mut self, amount: u8) {
        let deadline = self.requester.now + Duration::from_millis(u64::from(amount) * 20);
        let options = CallOptions { deadline, idempotent: amount & 3 == 0, fail_fast: amount & 7 == 1 };
        let number = self.made;
        if let Ok(id) = self.requester.machine.call(self.requester.now, "f", &number.to_le_bytes(), options) {
            self.made += 1;
            assert_eq!(self.ends.insert(id, None), None, "ids are used once");
            // The number is what the function sees, the id what the caller does: the one leads to the other.
            self.runs.insert(number, if options.idempotent { 0 } else { ONCE });
            self.ends.insert(u64::MAX - id, Some(Outcome::Value(number.to_le_bytes().to_vec().into())));
        }
    }

    fn publish(&mut self, len: usize) {
        let seq = self.server.machine.head();
        let data: Vec<u8> = seq.to_le_bytes().into_iter().cycle().take(len * 8).collect();
        let published = self.server.machine.publish("topic", &data).expect("short, and the server is up");
        assert_eq!(published.seq, seq);
    }

    fn start_and_answer(&mut self, which: Option<usize>) {
        if self.works.is_empty() {
            return;
        }
        let ticket = self.works.remove(which.unwrap_or(0) % self.works.len());
        if let Ok(arguments) = self.server.machine.start(self.server.now, ticket) {
            let number = u64::from_le_bytes(arguments[..].try_into().expect("what call() sends"));
            let runs = self.runs.get_mut(&number).expect("it was called");
            *runs += 1;
            assert!(*runs != ONCE + 2, "call {number} runs again");
            self.server.machine.reply(ticket, Status::Ok, &arguments);
        }
    }

    fn move_all(&mut self) {
        for _ in 0..4 {
            move_bytes(&mut self.requester, &mut self.server, &mut self.calls, usize::MAX, usize::MAX);
            move_bytes(&mut self.subscriber, &mut self.server, &mut self.events, usize::MAX, usize::MAX);
        }
    }

    fn note_ends(&mut self) {
        while let Some(done) = self.requester.machine.poll_done() {
            let Some(Some(Outcome::Value(number))) = self.ends.get(&(u64::MAX - done.id)) else {
                panic!("only what was called ends")
            };
            let number = u64::from_le_bytes(number[..].try_into().expect("what call() noted"));
            let ran = self.runs[&number] != 0 && self.runs[&number] != ONCE;
            match &done.outcome {
                Outcome::Value(value) => {
                    assert!(ran && **value == number.to_le_bytes(), "call {number}: {value:?}")
                }
                Outcome::NotExecuted(why) => assert!(!ran, "call {number} ran, and is {why:?}"),
                _ => {}
            }
            let before = self.ends.insert(done.id, Some(done.outcome));
            assert_eq!(before, Some(None), "each call ends once");
        }
    }

    fn look(&mut self) {
        if !self.subscriber.machine.exchange(&mut self.batch) {
            return;
        }
        while let Some(event) = self.batch.next() {
            let to = match event {
                Event::Message { seq, data, .. } => {
                    assert!(data.iter().zip(seq.to_le_bytes().iter().cycle()).all(|(got, sent)| got == sent));
                    assert!(
                        self.position.is_some_and(|position| position == seq),
                        "everything comes in order"
                    );
                    seq + 1
                }
                Event::Other(EventKind::Lost { after, lost: Lost::Exact(lost), .. }) => {
                    assert_eq!(self.position.map(|position| position + lost), Some(after), "an exact gap");
                    after
                }
                Event::Other(EventKind::Lost { after, lost: Lost::AtMost(_), .. }) => after,
                Event::Other(EventKind::Subscribed { position, .. } | EventKind::Position(position)) => {
                    assert!(self.position.is_none_or(|before| before == position), "nothing is left out");
                    position
                }
                Event::Snapshot { .. } => panic!("nobody asked for a snapshot"),
                Event::Other(_) => continue,
            };
            assert!(self.position.is_none_or(|before| before <= to));
            self.position = Some(to);
        }
    }

    /// All that is under way comes to its end.
    fn end(&mut self) {
        for _ in 0..200 {
            self.apply(0, 100);
            self.apply(8, 0);
            self.apply(5, 0);
            self.apply(11, 0);
        }
        let hanging = self.ends.iter().find(|(_, end)| end.is_none());
        assert_eq!(hanging, None, "a call never ends");
        if self.subscriber.machine.is_connected() {
            assert_eq!(self.position, Some(self.server.machine.head()), "the account balances");
        }
    }
}

/// Runs are counted from here for a call that may run once.
const ONCE: u64 = 1 << 32;

/// A dial that was asked for succeeds.
fn connect<M: Machine>(client: &mut Turned<M>, server: &mut Turned<Server>, pipe: &mut Pipe) {
    client.act();
    settle_closed(client, server, pipe);
    let Some(dialled) = client.dials.pop() else { return };
    let accepted = server.machine.handle_accepted(server.now, SocketAddr::from(([127, 0, 0, 1], 1)));
    *pipe = Pipe { ends: accepted.map(|accepted| (dialled, accepted)), ..Pipe::default() };
    client.machine.handle_connected(client.now, dialled);
    client.act();
}

/// Moves what the ends say, as far as there is room, and of what is on its way so much in each direction.
fn move_bytes<M: Machine>(
    client: &mut Turned<M>,
    server: &mut Turned<Server>,
    pipe: &mut Pipe,
    room: usize,
    most: usize,
) {
    let Some((dialled, accepted)) = pipe.ends else { return };
    pipe.to_server.extend(client.say(dialled, room));
    pipe.to_client.extend(server.say(accepted, room));
    if server.machine.wants_read(accepted) {
        let bytes: Vec<u8> = pipe.to_server.drain(..most.min(pipe.to_server.len())).collect();
        server.hear(accepted, &bytes);
    }
    if client.machine.wants_read(dialled) {
        let bytes: Vec<u8> = pipe.to_client.drain(..most.min(pipe.to_client.len())).collect();
        client.hear(dialled, &bytes);
    }
    settle_closed(client, server, pipe);
}

/// Where one end has closed or said all it had to say, the other learns it.
fn settle_closed<M: Machine>(client: &mut Turned<M>, server: &mut Turned<Server>, pipe: &mut Pipe) {
    let Some((dialled, accepted)) = pipe.ends else { return };
    client.act();
    server.act();
    let client_ends =
        client.is_closed(dialled) || (client.shut_down.contains(&dialled) && pipe.to_server.is_empty());
    let server_ends =
        server.is_closed(accepted) || (server.shut_down.contains(&accepted) && pipe.to_client.is_empty());
    if !client_ends && !server_ends {
        return;
    }
    if client_ends && !pipe.to_server.is_empty() {
        server.hear(accepted, &core::mem::take(&mut pipe.to_server));
    }
    pipe.ends = None;
    server.machine.handle_closed(server.now, accepted, StreamEnd::Eof);
    client.machine.handle_closed(client.now, dialled, StreamEnd::Eof);
    client.act();
    server.act();
}

/// The connection breaks; the amount says who hears of it first, and whether what is on its way still arrives.
fn lose<M: Machine>(client: &mut Turned<M>, server: &mut Turned<Server>, pipe: &mut Pipe, amount: u8) {
    let Some((dialled, accepted)) = pipe.ends.take() else { return };
    if amount & 1 == 1 {
        server.hear(accepted, &core::mem::take(&mut pipe.to_server));
    }
    client.machine.handle_closed(client.now, dialled, StreamEnd::Reset);
    if amount & 2 == 0 {
        server.machine.handle_closed(server.now, accepted, StreamEnd::Reset);
    } // Else the server learns it from the next Hello.
    client.act();
    server.act();
}

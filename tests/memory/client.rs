//! A hostile server: what it sends, its client has to hold or to leave alone.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use pulsewire::rpc::{CallOptions, PendingCall, Subscription};
use pulsewire::wire::{Frame, Publish, Reply, Status, Subscribed, Welcome, LENGTH_BYTES};
use pulsewire::{Limits, RpcClient};

use super::{is_alone, send, ALLOCATOR, LONG};

/// The client under attack, and what the attacker uses.
struct Siege {
    client: RpcClient,
    limits: Limits,
    ceiling: usize,
    /// What was allocated before there was a client.
    before: usize,
    listener: TcpListener,
    calls: TcpStream,
    streams: Vec<TcpStream>,
    pending: Vec<PendingCall<String>>,
    arguments: String,
    frame: Vec<u8>,
    payload: Vec<u8>,
}

impl Siege {
    fn begin(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let in_flight = limits.max_in_flight as usize;
        let pending = Vec::with_capacity(2 * in_flight);
        let arguments = "x".repeat(limits.held_requests_bytes as usize / in_flight - 8);
        let mut frame = Vec::with_capacity(2 * limits.max_frame_bytes as usize);
        let payload = vec![b'x'; limits.max_frame_bytes as usize];
        let streams = Vec::with_capacity(1);
        let before = ALLOCATOR.allocated();
        let builder = RpcClient::builder().limits(limits.clone());
        let ceiling = builder.memory_ceiling(1, in_flight).total_bytes() as usize;
        let client = builder.connect(addr).unwrap();
        let mut calls = listener.accept().unwrap().0;
        welcome(&limits, &mut frame, &mut calls);
        assert!(client.wait_connected(LONG));
        Siege {
            client,
            limits,
            ceiling,
            before,
            listener,
            calls,
            streams,
            pending,
            arguments,
            frame,
            payload,
        }
    }

    fn eventually(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + LONG;
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.client.stats());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Calls are begun, as many as may be.
    fn call(&mut self) {
        let options = CallOptions::new().timeout(10 * LONG);
        for _ in 0..self.limits.max_in_flight {
            let call = self.client.start_call("f", self.arguments.as_str(), options).unwrap();
            self.pending.push(call);
        }
    }

    /// Each call has the longest answer that there can be, and nobody takes it.
    fn answer_at_length(&mut self) {
        self.call();
        let len = self.limits.max_frame_bytes as usize - 32;
        for _ in 0..self.limits.max_in_flight {
            let Frame::Request { header, .. } = receive(&mut self.frame, &mut self.calls) else {
                panic!("a request was expected")
            };
            let header = Reply { id: header.id, status: Status::Ok };
            let reply = Frame::Reply { header, payload: &self.payload[..len] };
            send(&mut self.frame, &mut self.calls, &reply);
        }
        let asked = u64::from(self.limits.max_in_flight);
        self.eventually("all are answered", || self.client.stats().calls.answered == asked);
    }

    /// The next ones have no answer, but half of one.
    fn answer_by_half(&mut self) {
        self.call();
        let held = ALLOCATOR.allocated();
        let len = self.limits.max_frame_bytes;
        self.calls.write_all(&len.to_le_bytes()).unwrap();
        self.calls.write_all(&self.payload[..len as usize - 10]).unwrap();
        self.eventually("it is read", || ALLOCATOR.allocated() >= held + len as usize / 2);
    }

    /// More is published than anybody reads, and when somebody begins to read, as much again.
    fn flood(&mut self) -> Subscription<String> {
        let mut subscription: Subscription<String> = self.client.subscribe("").unwrap();
        let mut stream = self.listener.accept().unwrap().0;
        welcome(&self.limits, &mut self.frame, &mut stream);
        let Frame::Subscribe(subscribe) = receive(&mut self.frame, &mut stream) else {
            panic!("a set was expected")
        };
        let subscribed = Subscribed { ticket: subscribe.ticket, position: 0 };
        send(&mut self.frame, &mut stream, &Frame::Subscribed(subscribed));
        let most = 6 * self.limits.inbox_bytes;
        // Where the kernel takes no more, there is more than enough.
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut seq = 0;
        'flood: loop {
            self.frame.clear();
            while self.frame.len() < self.limits.max_frame_bytes as usize {
                let header = Publish { seq, topic: "a topic of some length" };
                Frame::Publish { header, data: &self.payload[..40] }
                    .encode(u32::MAX, &mut self.frame)
                    .unwrap();
                seq += 1;
            }
            match stream.write_all(&self.frame) {
                Ok(()) if seq * 75 > most => break 'flood,
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    break 'flood
                }
                Err(error) => panic!("{error}"),
            }
        }
        let full =
            |subscription: &Subscription<String>| subscription.stats().inbox_bytes >= self.limits.inbox_bytes;
        self.eventually("it reads no more", || full(&subscription));
        assert!(subscription.recv_bytes(LONG).is_some());
        self.eventually("it reads no more again", || full(&subscription));
        // Its connection stays.
        self.streams.push(stream);
        subscription
    }

    fn end(self, subscription: Subscription<String>) {
        let peak = ALLOCATOR.max_allocated() - self.before;
        let Siege { ceiling, .. } = self;
        println!("{peak} of {ceiling} bytes, {} %", 100 * peak / ceiling);
        println!("{:?} {:?}", self.client.stats(), subscription.stats());
        assert!(peak <= ceiling, "{peak} bytes, the ceiling is {ceiling}");
        let much = ceiling / 5 * 2;
        assert!(peak >= much, "{peak} bytes, and not even {much}");
    }
}

/// Lets a client in, whoever it is.
fn welcome(limits: &Limits, buffer: &mut Vec<u8>, stream: &mut TcpStream) {
    assert!(matches!(receive(buffer, stream), Frame::Hello(_)));
    send(buffer, stream, &Frame::Welcome(Welcome::new(7, false, 10_000, limits.max_frame_bytes)));
}

fn receive<'a>(buffer: &'a mut Vec<u8>, stream: &mut TcpStream) -> Frame<'a> {
    let mut length = [0; LENGTH_BYTES];
    stream.read_exact(&mut length).unwrap();
    buffer.resize(u32::from_le_bytes(length) as usize, 0);
    stream.read_exact(buffer).unwrap();
    Frame::decode(buffer).unwrap()
}

fn besiege(limits: Limits) {
    let mut siege = Siege::begin(limits);
    let mut noted = ALLOCATOR.allocated();
    let mut note = |what| {
        let held = ALLOCATOR.allocated();
        println!("{what}: {} bytes more", held as i64 - std::mem::replace(&mut noted, held) as i64);
    };
    siege.answer_at_length();
    note("results");
    let subscription = siege.flood();
    note("publications");
    siege.answer_by_half();
    note("requests, and half an answer");
    siege.end(subscription);
}

#[test]
fn hostile_server_takes_much_of_its_tiny_clients_ceiling_and_never_passes_it() {
    if is_alone("client::hostile_server_takes_much_of_its_tiny_clients_ceiling_and_never_passes_it") {
        besiege(Limits::tiny());
    }
}

#[test]
fn hostile_server_takes_much_of_a_larger_clients_ceiling_and_never_passes_it() {
    if is_alone("client::hostile_server_takes_much_of_a_larger_clients_ceiling_and_never_passes_it") {
        let mut limits = Limits::default();
        limits.max_frame_bytes = 256 * 1024;
        limits.max_in_flight = 64;
        limits.max_prefixes = 1_024;
        limits.max_prefix_bytes = 64 * 1024;
        limits.held_requests_bytes = 2 * 1024 * 1024;
        limits.inbox_bytes = 512 * 1024;
        besiege(limits);
    }
}

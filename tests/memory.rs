//! Hostile peers that take all that they can get reach at least half of what `memory_ceiling` says, and never more. A
//! hostile server takes much of its client's, and never more.
//!
//! The whole process is measured, each test in one of its own. The peers are raw sockets and hold next to nothing: what
//! they send is made in two buffers that are there before the first look.
#![allow(clippy::cast_possible_truncation)] // Small numbers of the test's own.

#[path = "memory/client.rs"]
mod client;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use cap::Cap;
use pulsewire::pattern::{ReplierStats, ServerStats};
use pulsewire::wire::{
    ByeCode, Frame, Hello, Ids, Prefixes, Request, Role, SessionId, Settle, Start, Subscribe,
};
use pulsewire::{Limits, Retain, RpcServer, StreamOptions};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Nothing here takes this long unless it hangs.
const LONG: Duration = Duration::from_secs(60);

/// Runs a test again, alone in a process of its own. True there.
fn is_alone(name: &str) -> bool {
    const ALONE: &str = "PULSEWIRE_MEMORY_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let status = command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(ALONE, "1").status();
    assert!(status.unwrap().success(), "{name} failed");
    false
}

/// Until it lets go, every function of the lane waits here.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn wait(&self) {
        let open = self.0.lock().unwrap();
        drop(self.1.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

/// The server under attack, and what the attackers use.
struct Siege {
    server: RpcServer,
    gate: Arc<Gate>,
    limits: Limits,
    ceiling: usize,
    /// What was allocated before there was a server.
    before: usize,
    peers: Vec<TcpStream>,
    sessions: u128,
    frame: Vec<u8>,
    region: Vec<u8>,
}

impl Siege {
    fn begin(limits: Limits) -> Self {
        let peers = Vec::with_capacity(limits.max_connections as usize + limits.max_detached as usize);
        let frame = Vec::with_capacity(2 * limits.max_frame_bytes as usize);
        let region = Vec::with_capacity(limits.max_frame_bytes as usize);
        let gate = Arc::new(Gate::default());
        let before = ALLOCATOR.allocated();
        let (hung, result) = (Arc::clone(&gate), result_len(&limits));
        let builder = RpcServer::builder()
            .limits(limits.clone())
            .main_stream(StreamOptions::default().last_value(true).retain(Retain::All))
            .register_bytes("hang", move |_| {
                hung.wait();
                Ok(Vec::new())
            })
            .register_inline("large", move |()| Ok("x".repeat(result)));
        let ceiling = builder.memory_ceiling().total_bytes() as usize;
        let server = builder.bind("127.0.0.1:0").unwrap();
        Siege { server, gate, limits, ceiling, before, peers, sessions: 0, frame, region }
    }

    fn stats(&self) -> ServerStats {
        self.server.stats().machine
    }

    fn eventually(&self, what: &str, is_so: impl Fn(&ServerStats) -> bool) {
        let deadline = Instant::now() + LONG;
        while !is_so(&self.stats()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.stats());
            std::thread::yield_now();
        }
    }

    /// Connects, and is let in.
    fn peer(&mut self, role: Role) -> TcpStream {
        let addr: SocketAddr = self.server.local_addr();
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        self.sessions += 1;
        let hello =
            Hello::new(role, SessionId(self.sessions.to_le_bytes()), 1, self.limits.max_frame_bytes, "");
        send(&mut self.frame, &mut stream, &Frame::Hello(hello));
        let mut welcome = [0; 4];
        stream.read_exact(&mut welcome).unwrap();
        stream
    }

    fn subscriber(&mut self, prefix: &str) -> TcpStream {
        let mut stream = self.peer(Role::Subscriber);
        self.region.clear();
        Prefixes::push(&mut self.region, prefix).unwrap();
        subscribe(&mut self.frame, &self.region, &mut stream, 1, Some(Start::Fresh));
        stream
    }

    // The attacks.

    /// Records without a connection.
    fn leave_records(&mut self) {
        for _ in 0..self.limits.max_detached {
            drop(self.subscriber("nothing"));
        }
        self.eventually("all are gone", |stats| stats.connections == 0);
    }

    /// Subscribers that read nothing while large publications come: each has a frame that is not whole.
    fn read_nothing(&mut self) {
        let largest = self.limits.max_frame_bytes.min(self.limits.log_bytes as u32 / 4) as usize - 100;
        // Where the kernel stops in a frame is its own affair: half of it is left, as a rule, and less is not rare.
        let most = 3 * self.limits.send_queues_bytes as usize / largest;
        let first = self.peers.len();
        for _ in 0..most {
            let stream = self.subscriber("");
            self.peers.push(stream);
        }
        self.region.clear();
        self.region.resize(largest, 7);
        let (mut sent, mut stuck) = (0, 0);
        while stuck < 50 {
            self.server.publish_bytes("large", &self.region).unwrap();
            std::thread::sleep(Duration::from_millis(1));
            let now = self.stats().sent_bytes;
            stuck = if now == sent { stuck + 1 } else { 0 };
            sent = now;
        }
        // They ask for answers that they do not read either.
        self.region.clear();
        Prefixes::push(&mut self.region, "").unwrap();
        for at in first..self.peers.len() {
            for ticket in 2..200 {
                let subscribe = Subscribe {
                    ticket,
                    snapshot: false,
                    start: None,
                    prefixes: Prefixes::from_bytes(&self.region).unwrap(),
                };
                self.frame.clear();
                Frame::Subscribe(subscribe).encode(u32::MAX, &mut self.frame).unwrap();
                // It may have been put out by now.
                let _ = self.peers[at].write_all(&self.frame);
            }
        }
    }

    /// Nearly as many prefixes as there is room for, none of which begins like another.
    fn fill_sets(&mut self) {
        let mut number = 0u32;
        for _ in 0..8 {
            let mut stream = self.subscriber("q");
            let before = self.stats().publisher.prefixes;
            for _ in 0..self.limits.prefixes_bytes / 10 * 9 / (8 * 832 * 32) {
                self.region.clear();
                for _ in 0..32 {
                    // Scattered over the whole space, so that the tree has a node for each and many between.
                    let scattered = number.wrapping_mul(0x9e37_79b1);
                    Prefixes::push(&mut self.region, &format!("{scattered:08x}{:0192}", 0)).unwrap();
                    number += 1;
                }
                subscribe(&mut self.frame, &self.region, &mut stream, 2, None);
            }
            self.eventually("they are in force", |stats| stats.publisher.prefixes > before);
            self.peers.push(stream);
        }
    }

    /// The log and the newest messages, and places in the log of those who read nothing.
    fn fill_log(&mut self) {
        // As many as may each remember the whole log, and one less.
        let remembered = 8 * u64::from(self.limits.log_messages);
        for _ in 1..self.limits.positions_bytes / 16 * 15 / remembered {
            let stream = self.subscriber("p");
            self.peers.push(stream);
        }
        let messages = 2 * self.limits.log_messages as usize;
        let len = (self.limits.log_bytes as usize / self.limits.log_messages as usize).max(80) - 60;
        self.region.clear();
        self.region.resize(len, 7);
        for n in 0..messages {
            self.server.publish_bytes(&format!("p{}", n % 5_000), &self.region).unwrap();
        }
    }

    /// Results that are neither read nor settled.
    fn keep_results(&mut self) {
        let mut stream = self.peer(Role::Requester);
        let calls = 2 * self.limits.results_bytes / result_len(&self.limits) as u64;
        let before = self.stats().replier.answered;
        for id in 1..=calls {
            request(&mut self.frame, &mut stream, id, "large", &[]);
        }
        self.eventually("all have run", |stats| stats.replier.answered >= before + calls);
        assert!(self.stats().replier.results_not_kept > 0);
        self.peers.push(stream);
        // Names that nobody knows.
        let asked = u64::from(self.limits.max_in_flight).min(256);
        for peer in 0..256 / asked {
            let mut stream = self.peer(Role::Requester);
            let ReplierStats { requests: before, queued_bytes: queued, .. } = self.stats().replier;
            for id in 1..=asked {
                request(&mut self.frame, &mut stream, id, &format!("{peer}{id:0254}"), &[]);
            }
            self.eventually("all are answered", |stats| stats.replier.requests >= before + asked);
            // Whoever says so takes its entries with it.
            send(&mut self.frame, &mut stream, &Frame::Bye { code: ByeCode::Stopped, text: "" });
            self.eventually("it is gone", |stats| stats.replier.queued_bytes <= queued);
        }
    }

    /// Arguments of calls that hang, and calls that are taken back while they wait.
    fn hang(&mut self) {
        let mut stream = self.peer(Role::Requester);
        let mut id = 0;
        let half = 1_000.min(self.limits.queued_arguments_bytes / 600);
        for _ in 0..half {
            id += 1;
            request(&mut self.frame, &mut stream, id, "hang", &[]);
            self.region.clear();
            Ids::push(&mut self.region, id);
            let settle = Settle { all_but: false, ids: Ids::from_bytes(&self.region).unwrap() };
            send(&mut self.frame, &mut stream, &Frame::Settle(settle));
        }
        let known = self.stats().replier;
        self.eventually("all are taken back", |stats| {
            stats.replier.withdrawn + 1 >= known.withdrawn.max(half)
        });
        self.region.clear();
        self.region.resize(self.limits.max_frame_bytes as usize / 16, 7);
        let before = self.stats().replier.requests;
        let asked = id;
        // One after the other, until there is no room for the next.
        while self.stats().replier.refused == 0 {
            id += 1;
            request(&mut self.frame, &mut stream, id, "hang", &self.region);
            self.eventually("it is entered", |stats| stats.replier.requests >= before + id - asked);
        }
        self.peers.push(stream);
    }

    /// Frames that have nearly come whole: large ones that are admitted or wait, and small ones.
    fn send_halves(&mut self) {
        // A little less than may be, so that they fill their room.
        let large = self.limits.max_frame_bytes as usize - 1_000;
        let fit = self.limits.partial_frames_bytes as usize / (large + 4);
        for n in 0.. {
            let free = u64::from(self.limits.max_connections) - self.stats().connections;
            if free <= 2 {
                break;
            }
            // Two more than there is room for: they have to wait, and nobody is read by the chunk meanwhile.
            let (len, sent) = match n {
                n if n < fit => (large, large),
                n if n < fit + 2 => (large, 4_000),
                _ => (4_000, 4_000),
            };
            let mut stream = self.peer(Role::Requester);
            let received = self.stats().received_bytes;
            self.region.clear();
            self.region.extend_from_slice(&(len as u32).to_le_bytes());
            self.region.resize(len, 7);
            stream.write_all(&self.region[..sent]).unwrap();
            self.eventually("it is read", |stats| stats.received_bytes >= received + sent as u64);
            self.peers.push(stream);
        }
    }

    fn end(self) {
        let peak = ALLOCATOR.max_allocated() - self.before;
        let Siege { ceiling, .. } = self;
        println!("{peak} of {ceiling} bytes, {} %", 100 * peak / ceiling);
        println!("{:?}", self.stats());
        self.gate.open();
        assert!(peak <= ceiling, "{peak} bytes, the ceiling is {ceiling}");
        assert!(peak >= ceiling / 2, "{peak} bytes, half of the ceiling is {}", ceiling / 2);
    }
}

/// The length of results: as long as they can be and are still kept until they are settled, though they are written.
fn result_len(limits: &Limits) -> usize {
    (limits.max_frame_bytes as usize / 4).min(60_000)
}

fn send(buffer: &mut Vec<u8>, stream: &mut TcpStream, frame: &Frame<'_>) {
    buffer.clear();
    frame.encode(u32::MAX, buffer).unwrap();
    stream.write_all(buffer).unwrap();
}

fn subscribe(buffer: &mut Vec<u8>, region: &[u8], stream: &mut TcpStream, ticket: u64, start: Option<Start>) {
    let prefixes = Prefixes::from_bytes(region).unwrap();
    send(buffer, stream, &Frame::Subscribe(Subscribe { ticket, snapshot: false, start, prefixes }));
}

fn request(buffer: &mut Vec<u8>, stream: &mut TcpStream, id: u64, function: &str, arguments: &[u8]) {
    let header = Request { id, time_left_ms: 600_000, function, settled: Ids::default() };
    send(buffer, stream, &Frame::Request { header, arguments });
}

/// What some of the peers do.
type Attack = fn(&mut Siege);

fn besiege(limits: Limits) {
    let mut siege = Siege::begin(limits);
    let attacks: [(&str, Attack); 7] = [
        ("records without a connection", Siege::leave_records),
        ("begun frames", Siege::read_nothing),
        ("prefixes", Siege::fill_sets),
        ("log", Siege::fill_log),
        ("results", Siege::keep_results),
        ("arguments", Siege::hang),
        ("frames that are not whole", Siege::send_halves),
    ];
    for (what, attack) in attacks {
        let held = ALLOCATOR.allocated();
        attack(&mut siege);
        println!("{what}: {} bytes more", ALLOCATOR.allocated() as i64 - held as i64);
    }
    siege.end();
}

#[test]
fn hostile_peers_reach_half_of_the_tiny_ceiling_and_never_pass_it() {
    if is_alone("hostile_peers_reach_half_of_the_tiny_ceiling_and_never_pass_it") {
        besiege(Limits::tiny());
    }
}

#[test]
fn hostile_peers_reach_half_of_a_larger_ceiling_and_never_pass_it() {
    if is_alone("hostile_peers_reach_half_of_a_larger_ceiling_and_never_pass_it") {
        let mut limits = Limits::default();
        limits.max_connections = 256;
        limits.max_frame_bytes = 512 * 1024;
        limits.max_detached = 64;
        limits.partial_frames_bytes = 4 * 1024 * 1024;
        limits.queued_arguments_bytes = 2 * 1024 * 1024;
        limits.results_bytes = 4 * 1024 * 1024;
        limits.send_queues_bytes = 4 * 1024 * 1024;
        limits.prefixes_bytes = 4 * 1024 * 1024;
        limits.positions_bytes = 4 * 1024 * 1024;
        limits.last_values_bytes = 1024 * 1024;
        besiege(limits);
    }
}

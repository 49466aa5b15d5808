//! What the tests with real sockets share: a raw peer that speaks in bytes, a bystander, a relay that cuts what passes
//! through it, and a process of one's own.
#![allow(dead_code)] // Each test file uses a part of it.

pub mod relay;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use pulsewire::pattern::ServerEvent;
use pulsewire::rpc::RpcServerBuilder;
use pulsewire::wire::{Frame, Hello, Role, SessionId, HANDSHAKE_MAX_FRAME, LENGTH_BYTES};
use pulsewire::{CloseReason, Event, Limits, Method, RpcClient, RpcServer, Subscription};

/// Nothing here takes this long unless it hangs.
pub const LONG: Duration = Duration::from_secs(60);

pub const ADD: Method<(i64, i64), i64> = Method::new("add");

/// A server in the making, with what a bystander asks for.
pub fn builder() -> RpcServerBuilder {
    RpcServer::builder().register_on("bystander", ADD, |(a, b)| Ok(a + b))
}

/// The default limits with changes.
pub fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// Waits for something that nobody announces. Ends the test if it does not come.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {LONG:?}");
        std::thread::yield_now();
    }
}

// The bystander.

/// A healthy client that must not notice what is done to its server by others.
pub struct Bystander<'a> {
    server: &'a RpcServer,
    client: RpcClient,
    events: Subscription<i64>,
    count: i64,
}

impl<'a> Bystander<'a> {
    pub fn new(server: &'a RpcServer) -> Self {
        let client = RpcClient::connect(server.local_addr()).unwrap();
        let mut events = client.subscribe_and_wait("bystander.", LONG).unwrap().expect("subscribed");
        assert!(client.wait_connected(LONG));
        while events.try_recv().is_some() {}
        Bystander { server, client, events, count: 0 }
    }

    /// Its next call succeeds, and the next message reaches it with nothing in front of it.
    pub fn notices_nothing(&mut self) {
        self.count += 1;
        assert_eq!(self.client.call(ADD, &(self.count, 1)), Ok(self.count + 1));
        self.server.publish("bystander.", &self.count).unwrap();
        match self.events.recv_timeout(LONG) {
            Some(Event::Message { data, .. }) => assert_eq!(data, self.count),
            event => panic!("the bystander noticed: {event:?}"),
        }
    }
}

/// A server that tells of the connections that end, and what it tells.
pub struct Watched {
    pub server: RpcServer,
    left: Receiver<(SocketAddr, CloseReason)>,
}

impl Watched {
    pub fn new(limits: Limits) -> Self {
        Self::bind(builder(), limits)
    }

    pub fn bind(builder: RpcServerBuilder, limits: Limits) -> Self {
        let (sender, left) = mpsc::channel();
        let on_client = move |event: &ServerEvent| {
            if let ServerEvent::Left { peer, reason, .. } = event {
                let _ = sender.send((*peer, reason.clone()));
            }
        };
        let server = builder.limits(limits).on_client(on_client).bind("127.0.0.1:0").unwrap();
        Watched { server, left }
    }

    /// Who left next, and why.
    pub fn next_left(&self) -> (SocketAddr, CloseReason) {
        self.left.recv_timeout(LONG).expect("somebody leaves")
    }

    /// The same, if it comes so soon.
    pub fn left_within(&self, timeout: Duration) -> Option<(SocketAddr, CloseReason)> {
        self.left.recv_timeout(timeout).ok()
    }

    pub fn connect(&self) -> Raw {
        Raw::connect(self.server.local_addr())
    }

    /// The peer leaves, for this reason.
    pub fn expect_left(&self, raw: &Raw, reason: CloseReason) {
        let left = std::iter::from_fn(|| Some(self.next_left())).find(|(peer, _)| *peer == raw.local);
        assert_eq!(left, Some((raw.local, reason)));
    }
}

// A raw peer.

/// A peer that sends what it likes.
pub struct Raw {
    pub stream: TcpStream,
    pub local: SocketAddr,
}

impl Raw {
    pub fn connect(addr: SocketAddr) -> Self {
        Self::new(TcpStream::connect(addr).unwrap())
    }

    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        let local = stream.local_addr().unwrap();
        Raw { stream, local }
    }

    /// Sends bytes. The other side may have closed already: what it thinks of us is read, not written.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub fn send_frame(&mut self, frame: &Frame<'_>) {
        self.send(&encoded(frame));
    }

    /// Greets and is let in.
    pub fn shake_hands(&mut self, role: Role) {
        self.send_frame(&hello(role));
        let welcome = self.read_frame().expect("a frame");
        assert!(matches!(Frame::decode(&welcome), Ok(Frame::Welcome(_))), "{welcome:?}");
    }

    /// The next frame's body; `None` when the other side has ended.
    pub fn read_frame(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; LENGTH_BYTES];
        self.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        self.read_exact(&mut body)?;
        Some(body)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(buffer) {
            Ok(()) => Some(()),
            Err(error) => {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "nothing came and nothing ended");
                None
            }
        }
    }

    /// Reads to the end, past everything, and returns the last frame's body.
    pub fn last_frame(&mut self) -> Option<Vec<u8>> {
        std::iter::from_fn(|| self.read_frame()).last()
    }

    /// The other side ends without a word.
    pub fn expect_silent_end(&mut self) {
        assert_eq!(self.read_frame(), None);
    }

    /// Closes by reset instead of in good order.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// The greeting of a session that nobody else has.
pub fn hello(role: Role) -> Frame<'static> {
    static SESSIONS: AtomicU64 = AtomicU64::new(0);
    let number = SESSIONS.fetch_add(1, Ordering::Relaxed).to_le_bytes();
    let mut session = SessionId::default();
    session.0[..number.len()].copy_from_slice(&number);
    session.0[number.len()..].copy_from_slice(&u64::from(std::process::id()).to_le_bytes());
    Frame::Hello(Hello::new(role, session, 1, 16 * 1024 * 1024, ""))
}

pub fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(u32::MAX, &mut bytes).unwrap();
    bytes
}

/// A frame of any kind and any promise.
pub fn forged(len: u32, kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = len.to_le_bytes().to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(rest);
    bytes
}

pub const HANDSHAKE_LIMIT: u32 = HANDSHAKE_MAX_FRAME;

/// Random enough to surprise, and the same each time.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

// Another process.

/// A process that is being started holds a copy of every descriptor until it is what it is to be, and with them the
/// ports of listeners that were closed meanwhile. Starting one takes this for writing; a test that binds a port anew
/// takes it for reading.
static STARTING: RwLock<()> = RwLock::new(());

/// Keeps other processes from being started, so that a closed port is free.
pub fn ports_are_free_when_closed() -> RwLockReadGuard<'static, ()> {
    STARTING.read().unwrap_or_else(PoisonError::into_inner)
}

/// Starts another process.
pub fn spawn(command: &mut Command) -> Child {
    let _starting = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap()
}

/// The variable that tells this program, started anew by one of its tests, which part to play.
const PART: &str = "PULSEWIRE_TEST_PART";

/// The part that this process was started for. The test that plays parts returns at once if there is none.
pub fn part() -> Option<String> {
    std::env::var(PART).ok()
}

/// Says something to the process that started this one.
pub fn say(words: &str) {
    println!("@{words}");
    std::io::stdout().flush().unwrap();
}

/// Ends this process when the one that started it lets go of it.
pub fn live_no_longer_than_the_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
}

/// This test program in another process, playing one part. Killed when dropped.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Process {
    /// Plays `part` in the test of the name `plays_a_part`.
    pub fn start(part: &str) -> Self {
        Self::start_by("exec", part)
    }

    /// The same, with the words `by` of a shell in front of the command.
    pub fn start_by(by: &str, part: &str) -> Self {
        let exe = std::env::current_exe().unwrap();
        let command = format!("{by} \"$0\" --exact plays_a_part --nocapture --test-threads 1");
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).arg(exe).env(PART, part);
        let mut child = spawn(shell.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The test runner may have begun the line.
                if let Some((_, words)) = line.split_once('@') {
                    let _ = sender.send(String::from(words));
                }
            }
        });
        Process { child, stdin, lines }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it says next.
    pub fn hear(&self) -> String {
        self.lines.recv_timeout(LONG).expect("the other process says something")
    }

    /// What it says, if it says it so soon.
    pub fn hear_within(&self, timeout: Duration) -> Option<String> {
        self.lines.recv_timeout(timeout).ok()
    }

    /// `SIGKILL`, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended by itself; whether it was content.
    pub fn wait(mut self) -> bool {
        let status = self.child.wait().unwrap();
        drop(self.stdin.take());
        status.success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Open descriptors of this process.
#[cfg(target_os = "linux")]
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Threads of this process.
#[cfg(target_os = "linux")]
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// What the threads of a process whose names begin so have used: hundredths of a second of processor time, and times
/// that they went to sleep.
#[cfg(target_os = "linux")]
pub fn used_by_threads(process: u32, name: &str) -> (u64, u64) {
    let mut used = (0, 0);
    for task in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let path = task.unwrap().path();
        let read = |file: &str| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        if !read("comm").starts_with(name) {
            continue;
        }
        let stat = read("stat");
        // Behind the name, which may hold anything: the state is field 3, utime and stime are 14 and 15.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).map_or(0, |field| field.parse::<u64>().unwrap());
        used.0 += ticks(11) + ticks(12);
        let status = read("status");
        let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        used.1 += sleeps.map_or(0, |sleeps| sleeps.trim().parse::<u64>().unwrap());
    }
    used
}

//! The director: draws cuts from a seed, makes them, and sees to it that everybody recovers.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::callers;
use super::exchange::Log;
use super::support::relay::{Cut, Relay, Way, Width};
use super::support::{Process, Random, LONG};
use super::watch::Watch;

/// Kinds of cuts, and how many of a hundred are of each.
const DECK: [(&str, usize); 10] = [
    ("server killed", 8),
    ("reset", 20),
    ("all reset", 8),
    ("half-closed", 14),
    ("stalled", 12),
    ("late", 14),
    ("in pieces", 8),
    ("gathered", 8),
    ("refused", 4),
    ("socket killed", 4),
];
/// What the kernel holds of a slow reader's stream is not to hide that it is slow.
const NARROW: Width = Width { buffer_bytes: Some(32 * 1024), piece: None };
/// For how long a cut waits for the bytes that it is to come after.
const PATIENCE: Duration = Duration::from_millis(200);

/// Makes the cuts.
pub struct Director<'a> {
    relay: Relay,
    server: Option<Process>,
    server_addr: SocketAddr,
    journal: &'a Path,
    watch: &'a Watch,
    random: Random,
    /// The lives of the server so far.
    epochs: Vec<u64>,
    made: BTreeMap<&'static str, u64>,
    /// Followers that recover at once.
    quick: Vec<usize>,
    may_kill_sockets: bool,
}

impl<'a> Director<'a> {
    pub fn new(journal: &'a Path, watch: &'a Watch, quick: Vec<usize>, random: Random) -> Self {
        let [server_addr, relay_addr] = free_addrs();
        let mut director = Director {
            relay: Relay::start(relay_addr, server_addr, NARROW),
            server: None,
            server_addr,
            journal,
            watch,
            random,
            epochs: Vec::new(),
            made: BTreeMap::new(),
            quick,
            may_kill_sockets: may_kill_sockets(),
        };
        if !director.may_kill_sockets {
            println!("skipped: no ss -K here, or no right to it; sockets are reset by the relay instead");
        }
        director.start_server();
        director
    }

    pub fn relay_addr(&self) -> SocketAddr {
        self.relay.addr()
    }

    pub fn server_addr(&self) -> SocketAddr {
        self.server_addr
    }

    /// Lives of the server so far.
    pub fn lives(&self) -> usize {
        self.epochs.len()
    }

    /// Makes so many cuts, unless something goes wrong.
    pub fn make(&mut self, cuts: u64) {
        let mut deck = Vec::new();
        self.await_all_well();
        let mut made = 0;
        while made < cuts && !self.watch.has_failed() {
            if deck.is_empty() {
                deck = self.shuffled();
            }
            self.let_pass();
            let kind = match deck.pop().expect("it was filled") {
                "socket killed" if !self.may_kill_sockets => "reset",
                kind => kind,
            };
            if self.cut(kind) {
                *self.made.entry(kind).or_default() += 1;
                made += 1;
            } else {
                // Nobody was there to be cut.
                self.await_all_well();
                deck.insert(0, kind);
            }
            self.listen();
        }
        self.await_all_well();
    }

    /// Kills the server for good, and says how many cuts of each kind were made.
    pub fn end(mut self) -> BTreeMap<&'static str, u64> {
        self.listen();
        self.server.take().into_iter().for_each(Process::kill);
        self.made
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn millis(&mut self, from: u64, below: u64) -> Duration {
        Duration::from_micros(from * 1_000 + self.below((below - from) * 1_000))
    }

    fn shuffled(&mut self) -> Vec<&'static str> {
        let mut deck: Vec<_> = DECK.iter().flat_map(|(kind, count)| vec![*kind; *count]).collect();
        for at in (1..deck.len()).rev() {
            let other = self.below(at as u64 + 1) as usize;
            deck.swap(at, other);
        }
        deck
    }

    /// Some time passes, or everybody recovers, or neither.
    fn let_pass(&mut self) {
        match self.below(3) {
            0 => self.await_all_well(),
            1 => std::thread::sleep(self.millis(0, 100)),
            _ => {}
        }
    }

    fn cut(&mut self, kind: &'static str) -> bool {
        let way = if self.below(2) == 0 { Way::ToServer } else { Way::ToClient };
        let cut = match kind {
            "server killed" => {
                self.kill_server();
                return true;
            }
            "socket killed" => return self.kill_socket(),
            "all reset" => Cut::ResetAll,
            "half-closed" => Cut::HalfClose(way),
            "stalled" => {
                let ways = [[true, true], [true, false], [false, true]][self.below(3) as usize];
                // One in three for longer than a client bears.
                let most = if self.below(3) == 0 { 1_500 } else { 300 };
                Cut::Stall { ways, length: self.millis(10, most), reset: self.below(2) == 0 }
            }
            "late" => Cut::Late(self.millis(1, 150)),
            "in pieces" => {
                Cut::Pieces { piece: 1 + self.below(7) as usize, bytes: 1 + self.below(3_000) as usize }
            }
            "gathered" => Cut::Gather { bytes: 2 + self.below(8_000) as usize },
            "refused" => Cut::Refuse(self.millis(10, 300)),
            _ => Cut::Reset,
        };
        let after = if self.below(4) == 0 { self.below(100_000) } else { self.below(2_000) };
        let victim = self.below(1 << 16) as usize;
        self.relay.cut(cut, victim, after, PATIENCE)
    }

    /// Waits until each caller has had a value, and each quick follower something of this life.
    fn await_all_well(&mut self) {
        let served = |watch: &Watch| -> Vec<u64> {
            watch.0.served.iter().map(|count| count.load(Ordering::Relaxed)).collect()
        };
        let before = served(self.watch);
        let epoch = *self.epochs.last().expect("it has lived");
        let deadline = Instant::now() + LONG;
        while !self.watch.has_failed() {
            let follows = |number: &usize| self.watch.0.followed[*number].load(Ordering::Relaxed) == epoch;
            let calls = served(self.watch).iter().zip(&before).all(|(now, before)| now > before);
            if calls && self.quick.iter().all(follows) {
                return;
            }
            if Instant::now() > deadline {
                self.watch.wrong(format!(
                    "not well within {LONG:?}: {:?} of {before:?} served",
                    served(self.watch)
                ));
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    // The server.

    fn start_server(&mut self) {
        let port = self.server_addr.port();
        let life = self.epochs.len();
        let server = Process::start(&format!("exchange {port} {life} {}", self.journal.display()));
        let words = server.hear();
        let epoch = words.split(' ').nth(1).and_then(|epoch| epoch.parse().ok());
        let epoch = epoch.unwrap_or_else(|| panic!("the server says {words:?}"));
        self.epochs.push(epoch);
        if Log::of(life) == Log::Whole {
            self.watch.0.lossless.lock().unwrap().insert(epoch);
        }
        self.server = Some(server);
    }

    fn kill_server(&mut self) {
        self.listen();
        self.server.take().into_iter().for_each(Process::kill);
        if self.below(2) == 0 {
            std::thread::sleep(self.millis(0, 200));
        }
        self.start_server();
    }

    /// What the server has to say since it was started can only be bad.
    fn listen(&self) {
        let said = || self.server.as_ref().and_then(|server| server.hear_within(Duration::ZERO));
        while let Some(words) = said() {
            self.watch.wrong(format!("the server says {words:?}"));
        }
    }

    /// Has the kernel end one end of a connection to the server.
    fn kill_socket(&mut self) -> bool {
        let server = self.server_addr.port();
        let Some(list) = ss(&["-Htn", "state", "established", &format!("dport = :{server}")]) else {
            return false;
        };
        // Queues, and then our address and the server's.
        let ports: Vec<&str> =
            list.lines().filter_map(|line| line.split_whitespace().nth(2)?.rsplit(':').next()).collect();
        if ports.is_empty() {
            return false;
        }
        let port = ports[self.below(ports.len() as u64) as usize];
        let (near, far) = if self.below(2) == 0 { ("sport", "dport") } else { ("dport", "sport") };
        let killed = ss(&["-HKt", &format!("{near} = :{port} and {far} = :{server}")]);
        killed.is_some_and(|list| !list.trim().is_empty())
    }
}

fn ss(arguments: &[&str]) -> Option<String> {
    let output = Command::new("ss").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Tries it on a connection of its own.
fn may_kill_sockets() -> bool {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let _other = listener.accept().unwrap();
    let (from, to) = (stream.local_addr().unwrap().port(), listener.local_addr().unwrap().port());
    let _ = ss(&["-Kt", &format!("sport = :{from} and dport = :{to}")]);
    stream.take_error().is_ok_and(|error| error.is_some())
}

/// Addresses that nobody has, and that are given to nobody who asks for any: they may be let go and taken again.
fn free_addrs() -> [SocketAddr; 2] {
    const FIRST: u16 = 10_000;
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let given_out = range.split_whitespace().next().and_then(|port| port.parse().ok()).unwrap_or(32_768);
    let mut random = callers::seed(u64::from(std::process::id()), 0);
    let mut free = || loop {
        let port = FIRST + random.below(u64::from(given_out.max(FIRST + 1_000) - FIRST)) as u16;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            break listener;
        }
    };
    let listeners = [free(), free()];
    listeners.map(|listener| listener.local_addr().unwrap())
}

//! The server: in a process of its own that may be killed at any moment. It publishes all the time, and writes down what
//! it executes before it says so.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{mpsc, Arc, Mutex, OnceLock};
use std::time::Duration;

use pulsewire::pattern::ServerEvent;
use pulsewire::rpc::Responder;
use pulsewire::wire::ByeCode;
use pulsewire::{CloseReason, FunctionResult, Limits, Method, RpcServer};

use super::books::Journal;
use super::feed::{self, mixed};
use super::support::{limits, live_no_longer_than_the_parent, say};

/// An order: its id, which no other has, and bytes that take their time on the wire.
pub type Order = (u64, Vec<u8>);
/// What comes of it: what no other order gives, and bytes likewise.
pub type Filled = (u64, Vec<u8>);

/// Functions that execute an order, each in its way. The last one is not there.
pub const FUNCTIONS: [&str; 7] = ["order", "inline", "slow", "large", "refuse", "later", "nobody"];

/// Ends the publications: the life of the server, and how many there were.
pub const QUIET: Method<(), (u64, u64)> = Method::new("quiet");

/// What an order comes to. Some results are longer than what a server keeps once it has begun to write them.
pub fn filled(function: &str, id: u64) -> Filled {
    let bits = mixed(id, 1);
    let len = if function == "large" { 60_000 + bits % 60_000 } else { bits % 100 };
    (mixed(id, 2), feed::bytes(bits, len as usize))
}

/// Orders of this kind are dropped without an answer, if they come to "later".
pub fn is_dropped(id: u64) -> bool {
    mixed(id, 3) & 7 == 0
}

/// The log of a life of the server: one that every slow reader and every absence is too long for, or one that holds all
/// that such a life publishes, so that nothing is lost in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    Short,
    Whole,
}

impl Log {
    pub fn of(life: usize) -> Self {
        match life % 2 {
            0 => Log::Short,
            _ => Log::Whole,
        }
    }

    fn set(self, limits: &mut Limits) {
        (limits.log_bytes, limits.log_messages) = match self {
            Log::Short => (256 << 10, 65_536),
            Log::Whole => (256 << 20, 1 << 20),
        };
    }
}

/// Publications that go out together, and the pause behind them.
const BURST: u32 = 10;
const PAUSE: Duration = Duration::from_millis(2);

/// What the server does beside answering: publishes, and keeps its journal.
struct Exchange {
    server: OnceLock<RpcServer>,
    journal: Journal,
    /// The number of the next publication.
    next: Mutex<u64>,
    is_quiet: AtomicBool,
}

impl Exchange {
    fn publish(&self) {
        let (Some(server), mut next) = (self.server.get(), self.next.lock().unwrap()) else { return };
        if self.is_quiet.load(Ordering::SeqCst) {
            return;
        }
        let epoch = server.epoch().expect("it runs");
        let published = server.publish(feed::topic(epoch, *next), &feed::data(epoch, *next));
        match published {
            Ok(published) if published.seq == *next => *next += 1,
            other => say(&format!("wrong: publication {next}: {other:?}")),
        }
    }

    fn execute(&self, (id, bytes): &Order) -> FunctionResult<()> {
        if *bytes != feed::bytes(*id, bytes.len()) {
            return Err(format!("other arguments of {id}").into());
        }
        self.journal.append(*id)?;
        self.publish();
        Ok(())
    }

    fn quiet(&self) -> FunctionResult<(u64, u64)> {
        let next = self.next.lock().unwrap();
        self.is_quiet.store(true, Ordering::SeqCst);
        let epoch = self.server.get().and_then(RpcServer::epoch).ok_or("not yet")?;
        Ok((epoch, *next))
    }
}

/// Plays the server, until somebody kills it.
pub fn play(port: &str, log: Log, journal: &Path) {
    live_no_longer_than_the_parent();
    let exchange = Arc::new(Exchange {
        server: OnceLock::new(),
        journal: Journal::open(journal).unwrap(),
        next: Mutex::new(0),
        is_quiet: AtomicBool::new(false),
    });
    let server = start(port, log, &exchange);
    say(&format!("{} {}", server.local_addr(), server.epoch().expect("it runs")));
    exchange.server.set(server).expect("set once");
    while !exchange.is_quiet.load(Ordering::SeqCst) {
        (0..BURST).for_each(|_| exchange.publish());
        std::thread::park_timeout(PAUSE);
    }
    loop {
        std::thread::park();
    }
}

fn start(port: &str, log: Log, exchange: &Arc<Exchange>) -> RpcServer {
    let fills = |function: &'static str| {
        let exchange = Arc::clone(exchange);
        move |order: Order| {
            exchange.execute(&order)?;
            match function {
                "slow" => std::thread::park_timeout(Duration::from_micros(mixed(order.0, 4) % 3_000)),
                "refuse" => return Err("as asked for".into()),
                _ => {}
            }
            Ok(filled(function, order.0))
        }
    };
    let (later, answers) = mpsc::channel::<(u64, Responder<Filled>)>();
    std::thread::spawn(move || {
        for (id, responder) in answers {
            if !is_dropped(id) {
                responder.ok(&filled("later", id));
            }
        }
    });
    let (takes, quiets) = (Arc::clone(exchange), Arc::clone(exchange));
    RpcServer::builder()
        .register("order", fills("order"))
        .register_inline("inline", fills("inline"))
        .register_on("slow", "slow", fills("slow"))
        .register_on("large", "large", fills("large"))
        .register("refuse", fills("refuse"))
        .register_deferred("later", move |order: Order, responder| match takes.execute(&order) {
            Ok(()) => later.send((order.0, responder)).expect("the thread lives"),
            Err(error) => {
                responder.failed(error);
            }
        })
        .register_on("quiet", QUIET, move |()| quiets.quiet())
        .limits(limits(|limits| {
            limits.heartbeat_interval = Duration::from_millis(100);
            log.set(limits);
        }))
        .on_client(|event| {
            if let ServerEvent::Left { reason, .. } = event {
                if let Some(wrong) = is_wrong(reason) {
                    say(&format!("wrong: {wrong}"));
                }
            }
        })
        .bind(format!("127.0.0.1:{port}"))
        .unwrap()
}

/// Why a connection must not have ended so, whatever was done to its bytes on the way.
pub fn is_wrong(reason: &CloseReason) -> Option<String> {
    match reason {
        CloseReason::StreamLost(_)
        | CloseReason::Silent
        | CloseReason::HandshakeTimeout
        | CloseReason::Replaced
        | CloseReason::ByUs
        | CloseReason::ByPeer { code: ByeCode::Stopped, .. } => None,
        other => Some(format!("a connection ended: {other:?}")),
    }
}

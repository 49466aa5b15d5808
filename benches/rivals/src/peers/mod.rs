//! The same few verbs for each library: answer, call, publish, receive.

#[cfg(feature = "message-io")]
mod message_io;
mod mio;
#[cfg(feature = "nng")]
mod nng;
#[cfg(not(all(feature = "nng", feature = "message-io")))]
mod not_built;
mod pulsewire;
mod pulsewire_bare;
mod raw;
mod zmq;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::mpsc::{channel, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Result;
#[cfg(not(feature = "message-io"))]
use not_built as message_io;
#[cfg(not(feature = "nng"))]
use not_built as nng;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// `std::net`, blocking, `TCP_NODELAY`, a thread for each connection, one write for each message.
    Raw,
    /// The same, but each wait begins with up to 50 us of tries that yield the core in between.
    RawYield,
    /// A length and a copy into 64 KiB, written whole: the practical limit for small messages.
    RawBatch,
    /// A `mio::Poll` and `TcpStream`s: the floor that pulsewire's own event loop allows.
    Mio,
    /// libzmq.
    #[serde(rename = "libzmq")]
    Zmq,
    /// NNG.
    Nng,
    /// message-io, framed TCP.
    MessageIo,
    /// `RpcServer` and `RpcClient`; calls to an inline function.
    Pulsewire,
    /// The same without polling for a bounded time before each sleep.
    PulsewireNoPolling,
    /// Calls to a function in a lane.
    PulsewireWorker,
    /// A publisher that nobody holds back: what a subscriber misses is reported to it as lost.
    PulsewireFlood,
    /// The bare sockets, which have no thread.
    PulsewireBare,
}

impl Peer {
    pub const ALL: [Peer; 12] = [
        Peer::RawBatch,
        Peer::Raw,
        Peer::RawYield,
        Peer::Mio,
        Peer::Zmq,
        Peer::Nng,
        Peer::MessageIo,
        Peer::Pulsewire,
        Peer::PulsewireNoPolling,
        Peer::PulsewireWorker,
        Peer::PulsewireFlood,
        Peer::PulsewireBare,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Peer::Raw => "raw",
            Peer::RawYield => "raw-yield",
            Peer::RawBatch => "raw-batch",
            Peer::Mio => "mio",
            Peer::Zmq => "libzmq",
            Peer::Nng => "nng",
            Peer::MessageIo => "message-io",
            Peer::Pulsewire => "pulsewire",
            Peer::PulsewireNoPolling => "pulsewire-no-polling",
            Peer::PulsewireWorker => "pulsewire-worker",
            Peer::PulsewireFlood => "pulsewire-flood",
            Peer::PulsewireBare => "pulsewire-bare",
        }
    }

    /// It is pulsewire in some way.
    pub fn is_ours(self) -> bool {
        self >= Peer::Pulsewire
    }

    /// Why it cannot be measured in this build, if it cannot.
    pub fn missing(self) -> Option<&'static str> {
        match self {
            Peer::Nng if !cfg!(feature = "nng") => Some("not built: cargo feature `nng`, which needs CMake"),
            Peer::MessageIo if !cfg!(feature = "message-io") => Some("not built: cargo feature `message-io`"),
            _ => None,
        }
    }
}

/// What was measured, with its version.
pub fn versions() -> Vec<(&'static str, String)> {
    let mut versions = vec![("pulsewire", pulsewire::version()), ("libzmq", zmq::version())];
    if Peer::Nng.missing().is_none() {
        versions.push(("NNG", "1.4.0-rc.0 (crate nng-sys)".into()));
    }
    if Peer::MessageIo.missing().is_none() {
        versions.push(("message-io", "0.19".into()));
    }
    versions
}

// Calls.

/// Makes one call after the other.
pub trait Caller: Send {
    /// Sends a request and waits for its answer, whose length is returned.
    fn call(&mut self, request: &[u8]) -> Result<usize>;
}

/// Keeps many calls under way.
pub trait Pipeline: Send {
    /// Keeps `outstanding` requests under way, and tells `done` how many answers have just come; goes on until that
    /// breaks.
    fn run(
        &mut self,
        request: &[u8],
        outstanding: usize,
        done: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<()>;
}

/// Starts to answer each request with its own bytes, for as long as this process lives. Returns the port.
pub fn serve_calls(peer: Peer) -> Result<u16> {
    match peer {
        Peer::Raw | Peer::RawYield | Peer::RawBatch => raw::serve_calls(peer == Peer::RawYield),
        Peer::Mio => mio::serve_calls(),
        Peer::Zmq => zmq::serve_calls(),
        Peer::Nng => nng::serve_calls(),
        Peer::MessageIo => Err("message-io has no calls".into()),
        Peer::PulsewireBare => pulsewire_bare::serve_calls(),
        Peer::Pulsewire | Peer::PulsewireNoPolling | Peer::PulsewireWorker | Peer::PulsewireFlood => {
            pulsewire::serve_calls(peer)
        }
    }
}

/// So many callers, as they are used from as many threads: each with a connection of its own, but for pulsewire,
/// whose callers share one client.
pub fn callers(peer: Peer, port: u16, count: usize) -> Result<Vec<Box<dyn Caller>>> {
    match peer {
        Peer::Raw | Peer::RawYield | Peer::RawBatch => raw::callers(port, count, peer == Peer::RawYield),
        Peer::Mio => mio::callers(port, count),
        Peer::Zmq => zmq::callers(port, count),
        Peer::Nng => nng::callers(port, count),
        Peer::MessageIo => Err("message-io has no calls".into()),
        Peer::PulsewireBare => pulsewire_bare::callers(port, count),
        Peer::Pulsewire | Peer::PulsewireNoPolling | Peer::PulsewireWorker | Peer::PulsewireFlood => {
            pulsewire::callers(peer, port, count)
        }
    }
}

/// A caller with many calls under way on one connection.
pub fn pipeline(peer: Peer, port: u16) -> Result<Box<dyn Pipeline>> {
    match peer {
        Peer::Raw => raw::pipeline(port),
        Peer::Mio => mio::pipeline(port),
        Peer::Zmq => zmq::pipeline(port),
        Peer::Pulsewire | Peer::PulsewireNoPolling => pulsewire::pipeline(peer, port),
        _ => Err(format!("{} is not measured with a pipeline", peer.name()).into()),
    }
}

/// A caller of what answers pipelined calls, with a connection of its own.
pub fn bystander(peer: Peer, port: u16) -> Result<Box<dyn Caller>> {
    match peer {
        Peer::Zmq => zmq::bystander(port),
        peer => callers(peer, port, 1)?.pop().ok_or_else(|| "no caller".into()),
    }
}

/// Starts what answers the pipelined calls; for most peers that is what answers all others. Returns the port.
pub fn serve_pipeline(peer: Peer) -> Result<u16> {
    match peer {
        Peer::Zmq => zmq::serve_pipeline(),
        peer => serve_calls(peer),
    }
}

// Publications.

/// Publishes to whoever has subscribed.
pub trait Publisher: Sized {
    /// [`Publisher::wait_for`] waits for prefixes and not for subscribers.
    const COUNTS_PREFIXES: bool = false;
    fn bind(peer: Peer) -> Result<Self>;
    fn port(&self) -> u16;
    /// Waits until so many subscribers or prefixes are there.
    fn wait_for(&mut self, count: usize) -> Result<()>;
    fn publish(&mut self, topic: &str, data: &[u8]) -> Result<()>;
    /// Everything that was published is on its way.
    fn flush(&mut self) -> Result<()>;
    /// Passes time in which nothing is published.
    fn rest(&mut self, length: Duration) -> Result<()> {
        thread::sleep(length);
        Ok(())
    }
    /// Bytes handed to the kernel so far, if it is known.
    fn sent_bytes(&self) -> Option<u64> {
        None
    }
}

/// One or more subscriptions in one process, each with a connection of its own.
pub trait Subscriber: Sized {
    /// Connects one subscription for each set of prefixes, and one for each set of the crowd, to which nothing comes.
    fn connect(peer: Peer, port: u16, sets: &[Vec<String>], crowd: &[Vec<String>]) -> Result<Self>;
    /// Delivers each message to the sink of its subscription, in the way that suits the library best, until all sinks
    /// have broken off. Returns them. There is a sink for each set but for the crowd's.
    fn receive<S: Sink>(self, sinks: Vec<S>) -> Result<Vec<S>>;
}

/// The application at the end of one subscription.
pub trait Sink: Send + 'static {
    fn message(&mut self, topic: &[u8], data: &[u8]) -> ControlFlow<()>;
    /// The library says that messages were lost.
    fn lost(&mut self, count: u64);
}

/// What is to be done with a peer's publisher and subscriber, whatever their types are.
pub trait WithTypes {
    type Output;
    fn with<P: Publisher, S: Subscriber>(self) -> Result<Self::Output>;
}

/// Does it with this peer's types.
pub fn with_types<W: WithTypes>(peer: Peer, work: W) -> Result<W::Output> {
    match peer {
        Peer::Raw | Peer::RawYield | Peer::RawBatch => work.with::<raw::Publisher, raw::Subscriber>(),
        Peer::Mio => work.with::<mio::Publisher, mio::Subscriber>(),
        Peer::Zmq => work.with::<zmq::Publisher, zmq::Subscriber>(),
        Peer::Nng => work.with::<nng::Publisher, nng::Subscriber>(),
        Peer::MessageIo => work.with::<message_io::Publisher, message_io::Subscriber>(),
        Peer::PulsewireBare => work.with::<pulsewire_bare::Publisher, pulsewire_bare::Subscriber>(),
        Peer::Pulsewire | Peer::PulsewireNoPolling | Peer::PulsewireWorker | Peer::PulsewireFlood => {
            work.with::<pulsewire::Publisher, pulsewire::Subscriber>()
        }
    }
}

// What several peers need.

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Topics of libraries that know none are cut off from the front of the message by their length, which is the same
/// for all topics that are measured.
pub const TOPIC_BYTES: usize = 12;

/// Listens, and accepts on a thread of its own, as the kernel holds few connections that nobody accepts.
fn accept_in_background() -> Result<(u16, Receiver<TcpStream>)> {
    let listener = TcpListener::bind((LOOPBACK, 0))?;
    let port = listener.local_addr()?.port();
    let (sender, accepted) = channel();
    thread::spawn(move || {
        listener.incoming().map_while(std::result::Result::ok).try_for_each(|stream| sender.send(stream))
    });
    Ok((port, accepted))
}

/// Gives each sink its messages until all have broken off.
struct Sinks<S> {
    sinks: Vec<S>,
    ended: Vec<bool>,
    left: usize,
}

impl<S: Sink> Sinks<S> {
    fn new(sinks: Vec<S>) -> Self {
        Sinks { ended: vec![false; sinks.len()], left: sinks.len(), sinks }
    }

    #[inline]
    fn message(&mut self, subscription: usize, topic: &[u8], data: &[u8]) {
        if !self.ended[subscription] && self.sinks[subscription].message(topic, data).is_break() {
            self.ended[subscription] = true;
            self.left -= 1;
        }
    }

    fn lost(&mut self, subscription: usize, count: u64) {
        self.sinks[subscription].lost(count);
    }

    fn all_ended(&self) -> bool {
        self.left == 0
    }
}

/// Receives on a thread for each subscription. Each connection is kept until the last of them is through.
fn one_thread_each<C: Send + 'static, S: Sink>(
    work: Vec<(C, S)>,
    receive: impl Fn(&mut (C, S)) -> Result<()> + Copy + Send + 'static,
) -> Result<Vec<S>> {
    let begin = |mut one: (C, S)| thread::spawn(move || receive(&mut one).map(|()| one));
    let threads: Vec<_> = work.into_iter().map(begin).collect();
    let join = |thread: JoinHandle<Result<(C, S)>>| thread.join().map_err(|_| "a subscriber panicked")?;
    let received: Result<Vec<(C, S)>> = threads.into_iter().map(join).collect();
    Ok(received?.into_iter().map(|(_, sink)| sink).collect())
}

//! libzmq through the crate `zmq`: REQ and REP, DEALER and ROUTER, XPUB and SUB, one I/O thread on each side.

use std::ops::ControlFlow;
use std::thread;

use zmq::{Context, Message, PollItem, Socket, SocketType};

use super::{Caller, Peer, Pipeline, Sink, Sinks, TOPIC_BYTES};
use crate::Result;

/// Messages that a publisher may be ahead of a subscriber. The default of 1 000 costs libzmq throughput; more than this
/// brings none.
const HIGH_WATER_MARK: i32 = 20_000;
/// Messages taken from one subscription before the others have their turn.
const TURN: usize = 1_000;

pub fn version() -> String {
    let (major, minor, patch) = zmq::version();
    format!("{major}.{minor}.{patch}")
}

fn bind(context: &Context, kind: SocketType) -> Result<(Socket, u16)> {
    let socket = context.socket(kind)?;
    set_up(&socket)?;
    socket.bind("tcp://127.0.0.1:*")?;
    let endpoint = socket.get_last_endpoint()?.map_err(|_| "an endpoint that is no text")?;
    let port = endpoint.rsplit(':').next().and_then(|port| port.parse().ok());
    Ok((socket, port.ok_or("an endpoint without a port")?))
}

fn connect(context: &Context, kind: SocketType, port: u16) -> Result<Socket> {
    let socket = context.socket(kind)?;
    set_up(&socket)?;
    socket.connect(&format!("tcp://127.0.0.1:{port}"))?;
    Ok(socket)
}

fn set_up(socket: &Socket) -> Result<()> {
    socket.set_sndhwm(HIGH_WATER_MARK)?;
    socket.set_rcvhwm(HIGH_WATER_MARK)?;
    socket.set_linger(0)?;
    Ok(())
}

pub fn serve_calls() -> Result<u16> {
    let context = Context::new();
    let (socket, port) = bind(&context, zmq::REP)?;
    thread::spawn(move || -> zmq::Result<()> {
        let mut message = Message::new();
        loop {
            socket.recv(&mut message, 0)?;
            socket.send(&message[..], 0)?;
        }
    });
    Ok(port)
}

/// A ROUTER, as REP would answer one request of a client at a time.
pub fn serve_pipeline() -> Result<u16> {
    let context = Context::new();
    let (socket, port) = bind(&context, zmq::ROUTER)?;
    thread::spawn(move || -> zmq::Result<()> {
        let (mut client, mut message) = (Message::new(), Message::new());
        loop {
            socket.recv(&mut client, 0)?;
            socket.recv(&mut message, 0)?;
            socket.send(&client[..], zmq::SNDMORE)?;
            socket.send(&message[..], 0)?;
        }
    });
    Ok(port)
}

struct Client {
    socket: Socket,
    message: Message,
    /// Goes after its socket.
    _context: Context,
}

impl Client {
    fn connect(kind: SocketType, port: u16) -> Result<Self> {
        let context = Context::new();
        let socket = connect(&context, kind, port)?;
        Ok(Client { socket, message: Message::new(), _context: context })
    }
}

/// Each with a context of its own, as separate programs would have.
pub fn callers(port: u16, count: usize) -> Result<Vec<Box<dyn Caller>>> {
    (0..count).map(|_| Ok(Box::new(Client::connect(zmq::REQ, port)?) as Box<dyn Caller>)).collect()
}

pub fn pipeline(port: u16) -> Result<Box<dyn Pipeline>> {
    Ok(Box::new(Client::connect(zmq::DEALER, port)?))
}

/// A ROUTER is called by a DEALER.
pub fn bystander(port: u16) -> Result<Box<dyn Caller>> {
    Ok(Box::new(Client::connect(zmq::DEALER, port)?))
}

impl Caller for Client {
    fn call(&mut self, request: &[u8]) -> Result<usize> {
        self.socket.send(request, 0)?;
        self.socket.recv(&mut self.message, 0)?;
        Ok(self.message.len())
    }
}

impl Pipeline for Client {
    fn run(
        &mut self,
        request: &[u8],
        outstanding: usize,
        done: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<()> {
        for _ in 0..outstanding {
            self.socket.send(request, 0)?;
        }
        loop {
            self.socket.recv(&mut self.message, 0)?;
            let mut answers = 1;
            while self.socket.recv(&mut self.message, zmq::DONTWAIT).is_ok() {
                answers += 1;
            }
            for _ in 0..answers {
                self.socket.send(request, 0)?;
            }
            if done(answers).is_break() {
                return Ok(());
            }
        }
    }
}

/// An XPUB that waits for slow subscribers instead of dropping what they have no room for.
pub struct Publisher {
    socket: Socket,
    port: u16,
    message: Vec<u8>,
    _context: Context,
}

impl super::Publisher for Publisher {
    const COUNTS_PREFIXES: bool = true;

    fn bind(_peer: Peer) -> Result<Self> {
        let context = Context::new();
        let (mut socket, port) = bind(&context, zmq::XPUB)?;
        do_not_drop(&mut socket)?;
        // Each prefix of each subscriber is announced, and not only what nobody had before.
        socket.set_xpub_verbose(true)?;
        Ok(Publisher { socket, port, message: Vec::new(), _context: context })
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn wait_for(&mut self, prefixes: usize) -> Result<()> {
        for _ in 0..prefixes {
            self.socket.recv_bytes(0)?;
        }
        Ok(())
    }

    fn publish(&mut self, topic: &str, data: &[u8]) -> Result<()> {
        // One part, topic first: the quickest that libzmq has.
        self.message.clear();
        self.message.extend_from_slice(topic.as_bytes());
        self.message.extend_from_slice(data);
        Ok(self.socket.send(&self.message[..], 0)?)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The one option that the crate has no setter for.
#[allow(unsafe_code)]
fn do_not_drop(socket: &mut Socket) -> Result<()> {
    let on: i32 = 1;
    // SAFETY: the socket is alive and nobody else has it; the option takes an int, which `on` is, and its size.
    let result = unsafe {
        zmq_sys::zmq_setsockopt(
            socket.as_mut_ptr(),
            zmq_sys::ZMQ_XPUB_NODROP as i32,
            std::ptr::from_ref(&on).cast(),
            size_of::<i32>(),
        )
    };
    if result != 0 {
        return Err("ZMQ_XPUB_NODROP was refused".into());
    }
    Ok(())
}

/// All sockets of one context on one thread, with `zmq_poll` if there are several.
pub struct Subscriber {
    sockets: Vec<Socket>,
    _crowd: Vec<Socket>,
    _context: Context,
}

impl super::Subscriber for Subscriber {
    fn connect(_peer: Peer, port: u16, sets: &[Vec<String>], crowd: &[Vec<String>]) -> Result<Self> {
        let context = Context::new();
        let subscribe_all =
            |sets: &[Vec<String>]| sets.iter().map(|set| subscribe(&context, port, set)).collect();
        let (sockets, crowd): (Result<_>, Result<_>) = (subscribe_all(sets), subscribe_all(crowd));
        Ok(Subscriber { sockets: sockets?, _crowd: crowd?, _context: context })
    }

    fn receive<S: Sink>(self, sinks: Vec<S>) -> Result<Vec<S>> {
        let mut sinks = Sinks::new(sinks);
        let mut message = Message::new();
        let mut items: Vec<PollItem<'_>> =
            self.sockets.iter().map(|socket| socket.as_poll_item(zmq::POLLIN)).collect();
        while !sinks.all_ended() {
            if let [socket] = &self.sockets[..] {
                socket.recv(&mut message, 0)?;
                let (topic, data) = message.split_at(TOPIC_BYTES);
                sinks.message(0, topic, data);
                continue;
            }
            zmq::poll(&mut items, -1)?;
            for (subscription, socket) in self.sockets.iter().enumerate() {
                if !items[subscription].is_readable() {
                    continue;
                }
                for _ in 0..TURN {
                    if socket.recv(&mut message, zmq::DONTWAIT).is_err() {
                        break;
                    }
                    let (topic, data) = message.split_at(TOPIC_BYTES);
                    sinks.message(subscription, topic, data);
                }
            }
        }
        Ok(sinks.sinks)
    }
}

fn subscribe(context: &Context, port: u16, set: &[String]) -> Result<Socket> {
    let socket = connect(context, zmq::SUB, port)?;
    for prefix in set {
        socket.set_subscribe(prefix.as_bytes())?;
    }
    Ok(socket)
}

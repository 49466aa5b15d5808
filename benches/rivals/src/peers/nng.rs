//! NNG through the crate `nng`, built from its own source. It filters on the subscriber's side, and drops what a slow
//! subscriber has no room for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nng::options::protocol::pubsub::Subscribe;
use nng::options::{LocalAddr, Options, RecvBufferSize, SendBufferSize};
use nng::{Listener, Message, PipeEvent, Protocol, Socket, SocketAddr};

use super::{Caller, Peer, Sink, TOPIC_BYTES};
use crate::Result;

/// Messages that may wait on either side.
const QUEUE: i32 = 1_000;

fn listen(socket: &Socket) -> Result<u16> {
    let listener = Listener::new(socket, "tcp://127.0.0.1:0")?;
    match listener.get_opt::<LocalAddr>()? {
        // It comes in network order.
        SocketAddr::Inet(address) => Ok(u16::from_be(address.port())),
        address => Err(format!("an address of another kind: {address}").into()),
    }
}

pub fn serve_calls() -> Result<u16> {
    let socket = Socket::new(Protocol::Rep0)?;
    let port = listen(&socket)?;
    thread::spawn(move || -> nng::Result<()> {
        loop {
            let request = socket.recv()?;
            socket.send(request).map_err(|(_, error)| error)?;
        }
    });
    Ok(port)
}

pub fn callers(port: u16, count: usize) -> Result<Vec<Box<dyn Caller>>> {
    (0..count)
        .map(|_| {
            let socket = Socket::new(Protocol::Req0)?;
            socket.dial(&format!("tcp://127.0.0.1:{port}"))?;
            Ok(Box::new(socket) as Box<dyn Caller>)
        })
        .collect()
}

impl Caller for Socket {
    fn call(&mut self, request: &[u8]) -> Result<usize> {
        self.send(Message::from(request)).map_err(|(_, error)| error)?;
        Ok(self.recv()?.len())
    }
}

pub struct Publisher {
    socket: Socket,
    port: u16,
    subscribers: Arc<AtomicUsize>,
}

impl super::Publisher for Publisher {
    fn bind(_peer: Peer) -> Result<Self> {
        let socket = Socket::new(Protocol::Pub0)?;
        socket.set_opt::<SendBufferSize>(QUEUE)?;
        let subscribers = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&subscribers);
        socket.pipe_notify(move |_, event| {
            if event == PipeEvent::AddPost {
                count.fetch_add(1, Ordering::SeqCst);
            }
        })?;
        let port = listen(&socket)?;
        Ok(Publisher { socket, port, subscribers })
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn wait_for(&mut self, subscriptions: usize) -> Result<()> {
        while self.subscribers.load(Ordering::SeqCst) < subscriptions {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn publish(&mut self, topic: &str, data: &[u8]) -> Result<()> {
        let mut message = Message::with_capacity(topic.len() + data.len());
        message.push_back(topic.as_bytes());
        message.push_back(data);
        self.socket.send(message).map_err(|(_, error)| error)?;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A socket and a thread for each subscription.
pub struct Subscriber {
    sockets: Vec<Socket>,
    _crowd: Vec<Socket>,
}

impl super::Subscriber for Subscriber {
    fn connect(_peer: Peer, port: u16, sets: &[Vec<String>], crowd: &[Vec<String>]) -> Result<Self> {
        let subscribe_all = |sets: &[Vec<String>]| sets.iter().map(|set| subscribe(port, set)).collect();
        let (sockets, crowd): (Result<_>, Result<_>) = (subscribe_all(sets), subscribe_all(crowd));
        Ok(Subscriber { sockets: sockets?, _crowd: crowd? })
    }

    fn receive<S: Sink>(self, sinks: Vec<S>) -> Result<Vec<S>> {
        let work = self.sockets.into_iter().zip(sinks).collect();
        super::one_thread_each(work, |(socket, sink)| Ok(receive_one(socket, sink)?))
    }
}

fn subscribe(port: u16, set: &[String]) -> Result<Socket> {
    let socket = Socket::new(Protocol::Sub0)?;
    socket.set_opt::<RecvBufferSize>(QUEUE)?;
    for prefix in set {
        socket.set_opt::<Subscribe>(prefix.as_bytes().to_vec())?;
    }
    socket.dial(&format!("tcp://127.0.0.1:{port}"))?;
    Ok(socket)
}

fn receive_one<S: Sink>(socket: &Socket, sink: &mut S) -> nng::Result<()> {
    loop {
        let message = socket.recv()?;
        let (topic, data) = message.split_at(TOPIC_BYTES);
        if sink.message(topic, data).is_break() {
            return Ok(());
        }
    }
}

//! A `mio::Poll` and `TcpStream`s, one thread on each side: what any library on mio pays at the least.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::mpsc::Receiver;
use std::thread;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::{Caller, Peer, Pipeline, Sink, Sinks, LOOPBACK};
use crate::framing::{self, Frames, BATCH_BYTES};
use crate::Result;

/// A connection in somebody's `Poll`, edge-triggered.
struct Conn {
    stream: TcpStream,
    frames: Frames,
    out: Vec<u8>,
    /// Bytes of `out` that are written.
    written: usize,
}

impl Conn {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Conn { stream, frames: Frames::new(), out: Vec::new(), written: 0 })
    }

    fn register(&mut self, poll: &Poll, token: usize) -> io::Result<()> {
        poll.registry().register(&mut self.stream, Token(token), Interest::READABLE | Interest::WRITABLE)
    }

    /// Reads once. Returns whether there may be more; a short read has emptied the socket.
    fn read(&mut self) -> io::Result<bool> {
        match self.frames.fill(|room| self.stream.read(room)) {
            Ok((_, more)) => Ok(more),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes what waits. Returns whether all of it is gone.
    fn write(&mut self) -> io::Result<bool> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(true)
    }

    /// Answers each frame with itself.
    fn echo(&mut self) -> io::Result<()> {
        loop {
            let more = self.read()?;
            while let Some((topic, data)) = self.frames.next() {
                framing::put(&mut self.out, topic, data);
            }
            self.write()?;
            if !more {
                return Ok(());
            }
        }
    }
}

fn listen() -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind(SocketAddr::from((LOOPBACK, 0)))?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

fn connect(port: u16) -> io::Result<Conn> {
    let stream = std::net::TcpStream::connect((LOOPBACK, port))?;
    stream.set_nonblocking(true)?;
    Conn::new(TcpStream::from_std(stream))
}

const LISTENER: Token = Token(usize::MAX);

pub fn serve_calls() -> Result<u16> {
    let (listener, port) = listen()?;
    let poll = Poll::new()?;
    thread::spawn(move || drop(serve(poll, listener)));
    Ok(port)
}

fn serve(mut poll: Poll, mut listener: TcpListener) -> io::Result<()> {
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(256);
    let mut conns: Vec<Conn> = Vec::new();
    loop {
        poll.poll(&mut events, None)?;
        for event in events.iter() {
            if event.token() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    let mut conn = Conn::new(stream)?;
                    conn.register(&poll, conns.len())?;
                    conns.push(conn);
                }
                continue;
            }
            let conn = &mut conns[event.token().0];
            if event.is_writable() {
                conn.write()?;
            }
            if event.is_readable() {
                // Its end is the caller's.
                let _ = conn.echo();
            }
        }
    }
}

/// A caller with a `Poll` of its own.
struct Client {
    poll: Poll,
    events: Events,
    conn: Conn,
}

impl Client {
    fn connect(port: u16) -> Result<Self> {
        let poll = Poll::new()?;
        let mut conn = connect(port)?;
        conn.register(&poll, 0)?;
        Ok(Client { poll, events: Events::with_capacity(16), conn })
    }

    /// Waits until there is something to read, and writes what waits meanwhile.
    fn wait(&mut self) -> io::Result<()> {
        loop {
            self.poll.poll(&mut self.events, None)?;
            let (mut readable, mut writable) = (false, false);
            for event in self.events.iter() {
                readable |= event.is_readable();
                writable |= event.is_writable();
            }
            if writable {
                self.conn.write()?;
            }
            if readable {
                return Ok(());
            }
        }
    }
}

pub fn callers(port: u16, count: usize) -> Result<Vec<Box<dyn Caller>>> {
    (0..count).map(|_| Ok(Box::new(Client::connect(port)?) as Box<dyn Caller>)).collect()
}

pub fn pipeline(port: u16) -> Result<Box<dyn Pipeline>> {
    Ok(Box::new(Client::connect(port)?))
}

impl Caller for Client {
    fn call(&mut self, request: &[u8]) -> Result<usize> {
        framing::put(&mut self.conn.out, b"", request);
        self.conn.write()?;
        loop {
            self.wait()?;
            while self.conn.read()? {}
            if let Some((_, data)) = self.conn.frames.next() {
                return Ok(data.len());
            }
        }
    }
}

impl Pipeline for Client {
    fn run(
        &mut self,
        request: &[u8],
        outstanding: usize,
        done: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<()> {
        (0..outstanding).for_each(|_| framing::put(&mut self.conn.out, b"", request));
        loop {
            self.conn.write()?;
            self.wait()?;
            while self.conn.read()? {}
            let mut answers = 0;
            while self.conn.frames.next().is_some() {
                framing::put(&mut self.conn.out, b"", request);
                answers += 1;
            }
            if done(answers).is_break() {
                return Ok(());
            }
        }
    }
}

/// Gathers 64 KiB and writes the same bytes to each subscriber; whoever has no room is waited for.
pub struct Publisher {
    poll: Poll,
    events: Events,
    port: u16,
    accepted: Receiver<std::net::TcpStream>,
    streams: Vec<TcpStream>,
    /// How much of the buffer each subscriber has.
    written: Vec<usize>,
    buffer: Vec<u8>,
}

impl super::Publisher for Publisher {
    fn bind(_peer: Peer) -> Result<Self> {
        let (port, accepted) = super::accept_in_background()?;
        Ok(Publisher {
            poll: Poll::new()?,
            events: Events::with_capacity(256),
            port,
            accepted,
            streams: Vec::new(),
            written: Vec::new(),
            buffer: Vec::with_capacity(BATCH_BYTES),
        })
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn wait_for(&mut self, subscriptions: usize) -> Result<()> {
        for token in 0..subscriptions {
            let stream = self.accepted.recv()?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let mut stream = TcpStream::from_std(stream);
            self.poll.registry().register(&mut stream, Token(token), Interest::WRITABLE)?;
            self.streams.push(stream);
        }
        self.written = vec![0; self.streams.len()];
        Ok(())
    }

    fn publish(&mut self, topic: &str, data: &[u8]) -> Result<()> {
        framing::put(&mut self.buffer, topic.as_bytes(), data);
        if self.buffer.len() >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.written.fill(0);
        loop {
            let mut is_done = true;
            for (stream, written) in self.streams.iter_mut().zip(&mut self.written) {
                while *written < self.buffer.len() {
                    match stream.write(&self.buffer[*written..]) {
                        Ok(more) => *written += more,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            is_done = false;
                            break;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            if is_done {
                self.buffer.clear();
                return Ok(());
            }
            self.poll.poll(&mut self.events, None)?;
        }
    }
}

/// All subscriptions in one `Poll`, on one thread.
pub struct Subscriber {
    poll: Poll,
    conns: Vec<Conn>,
}

impl super::Subscriber for Subscriber {
    fn connect(_peer: Peer, port: u16, sets: &[Vec<String>], _crowd: &[Vec<String>]) -> Result<Self> {
        let poll = Poll::new()?;
        let mut conns = Vec::new();
        for token in 0..sets.len() {
            let mut conn = connect(port)?;
            poll.registry().register(&mut conn.stream, Token(token), Interest::READABLE)?;
            conns.push(conn);
        }
        Ok(Subscriber { poll, conns })
    }

    fn receive<S: Sink>(mut self, sinks: Vec<S>) -> Result<Vec<S>> {
        let mut sinks = Sinks::new(sinks);
        let mut events = Events::with_capacity(256);
        while !sinks.all_ended() {
            self.poll.poll(&mut events, None)?;
            for event in events.iter() {
                let subscription = event.token().0;
                let conn = &mut self.conns[subscription];
                loop {
                    let more = conn.read()?;
                    while let Some((topic, data)) = conn.frames.next() {
                        sinks.message(subscription, topic, data);
                    }
                    if !more {
                        break;
                    }
                }
            }
        }
        Ok(sinks.sinks)
    }
}

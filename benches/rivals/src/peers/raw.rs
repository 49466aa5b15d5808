//! `std::net` and nothing else: blocking sockets, a thread for each connection.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{recv, MsgFlags};

use super::{Caller, Peer, Pipeline, Sink, LOOPBACK};
use crate::framing::{self, Frames, BATCH_BYTES};
use crate::Result;

/// How long a wait tries before it sleeps.
const TRY_FOR: Duration = Duration::from_micros(50);

/// A connection, and whether its waits begin with tries.
struct Conn {
    stream: TcpStream,
    frames: Frames,
    out: Vec<u8>,
    yields: bool,
}

impl Conn {
    fn new(stream: TcpStream, yields: bool) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Conn { stream, frames: Frames::new(), out: Vec::new(), yields })
    }

    fn connect(port: u16, yields: bool) -> io::Result<Self> {
        Self::new(TcpStream::connect((LOOPBACK, port))?, yields)
    }

    /// Reads once, at least one byte.
    fn read(&mut self) -> io::Result<()> {
        let (stream, yields) = (&mut self.stream, self.yields);
        self.frames.fill(|room| match yields {
            true => match try_read(stream, room) {
                Some(read) => read,
                None => stream.read(room),
            },
            false => stream.read(room),
        })?;
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Answers each frame with itself; what has come at once is answered at once.
    fn echo(mut self) -> io::Result<()> {
        loop {
            self.read()?;
            while let Some((topic, data)) = self.frames.next() {
                framing::put(&mut self.out, topic, data);
            }
            self.write()?;
        }
    }
}

/// Tries to read for a bounded time, yielding the core in between. `None`: nothing has come.
fn try_read(stream: &TcpStream, room: &mut [u8]) -> Option<io::Result<usize>> {
    let begun = Instant::now();
    loop {
        match recv(stream.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => {}
            result => return Some(result.map_err(io::Error::from)),
        }
        if begun.elapsed() > TRY_FOR {
            return None;
        }
        thread::yield_now();
    }
}

pub fn serve_calls(yields: bool) -> Result<u16> {
    let listener = TcpListener::bind((LOOPBACK, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(io::Result::ok) {
            let Ok(conn) = Conn::new(stream, yields) else { return };
            // Its end is the caller's.
            thread::spawn(move || drop(conn.echo()));
        }
    });
    Ok(port)
}

pub fn callers(port: u16, count: usize, yields: bool) -> Result<Vec<Box<dyn Caller>>> {
    (0..count).map(|_| Ok(Box::new(Conn::connect(port, yields)?) as Box<dyn Caller>)).collect()
}

pub fn pipeline(port: u16) -> Result<Box<dyn Pipeline>> {
    Ok(Box::new(Conn::connect(port, false)?))
}

impl Caller for Conn {
    fn call(&mut self, request: &[u8]) -> Result<usize> {
        framing::put(&mut self.out, b"", request);
        self.write()?;
        loop {
            self.read()?;
            if let Some((_, data)) = self.frames.next() {
                return Ok(data.len());
            }
        }
    }
}

impl Pipeline for Conn {
    fn run(
        &mut self,
        request: &[u8],
        outstanding: usize,
        done: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<()> {
        (0..outstanding).for_each(|_| framing::put(&mut self.out, b"", request));
        loop {
            self.write()?;
            self.read()?;
            let mut answers = 0;
            while self.frames.next().is_some() {
                framing::put(&mut self.out, b"", request);
                answers += 1;
            }
            if done(answers).is_break() {
                return Ok(());
            }
        }
    }
}

/// Writes the same bytes to each subscriber, one after the other.
pub struct Publisher {
    port: u16,
    accepted: Receiver<TcpStream>,
    streams: Vec<TcpStream>,
    buffer: Vec<u8>,
    /// Gathers this many bytes before it writes; 1: each message by itself.
    batch: usize,
}

impl super::Publisher for Publisher {
    fn bind(peer: Peer) -> Result<Self> {
        let (port, accepted) = super::accept_in_background()?;
        let batch = if peer == Peer::RawBatch { BATCH_BYTES } else { 1 };
        Ok(Publisher { port, accepted, streams: Vec::new(), buffer: Vec::with_capacity(BATCH_BYTES), batch })
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn wait_for(&mut self, subscriptions: usize) -> Result<()> {
        while self.streams.len() < subscriptions {
            let stream = self.accepted.recv()?;
            stream.set_nodelay(true)?;
            self.streams.push(stream);
        }
        Ok(())
    }

    fn publish(&mut self, topic: &str, data: &[u8]) -> Result<()> {
        framing::put(&mut self.buffer, topic.as_bytes(), data);
        if self.buffer.len() >= self.batch {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        for stream in &mut self.streams {
            stream.write_all(&self.buffer)?;
        }
        self.buffer.clear();
        Ok(())
    }
}

/// One thread for each subscription; none if it is the only one.
pub struct Subscriber(Vec<Conn>);

impl super::Subscriber for Subscriber {
    fn connect(_peer: Peer, port: u16, sets: &[Vec<String>], _crowd: &[Vec<String>]) -> Result<Self> {
        let conns: io::Result<Vec<Conn>> = sets.iter().map(|_| Conn::connect(port, false)).collect();
        Ok(Subscriber(conns?))
    }

    fn receive<S: Sink>(self, sinks: Vec<S>) -> Result<Vec<S>> {
        let mut work: Vec<(Conn, S)> = self.0.into_iter().zip(sinks).collect();
        if let [(conn, sink)] = &mut work[..] {
            receive_one(conn, sink)?;
            return Ok(work.into_iter().map(|(_, sink)| sink).collect());
        }
        super::one_thread_each(work, |(conn, sink)| Ok(receive_one(conn, sink)?))
    }
}

fn receive_one<S: Sink>(conn: &mut Conn, sink: &mut S) -> io::Result<()> {
    loop {
        conn.read()?;
        while let Some((topic, data)) = conn.frames.next() {
            if sink.message(topic, data).is_break() {
                return Ok(());
            }
        }
    }
}

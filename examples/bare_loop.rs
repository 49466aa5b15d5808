//! A machine turned by hand: no mio, no thread, only a blocking `std::net::TcpStream`.
//!
//! What a driver has to do for a client, in one loop: carry out the machine's actions, hand it bytes and the time, and
//! write the chunks that it lends. The same calls put it on any other stack: a serial line, a microcontroller's TCP,
//! a simulator. The server here is an ordinary `RpcServer` in the same process.
//!
//! `cargo run --example bare_loop`

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use pulsewire::pattern::{
    Action, CallOptions, ConnId, DialError, Machine, Outcome, Random, Requester, SessionId, StreamEnd,
};
use pulsewire::time::{Duration, Instant};
use pulsewire::{FunctionResult, Limits, Reconnect, RpcServer};

/// A connection and the machine that it belongs to.
struct Loop {
    machine: Requester,
    server: SocketAddr,
    stream: Option<(ConnId, TcpStream)>,
    origin: std::time::Instant,
}

impl Loop {
    fn now(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }

    /// One pass: read first, fire timers after, act and write last.
    fn turn(&mut self) -> FunctionResult<()> {
        self.read()?;
        let now = self.now();
        self.machine.handle_timeout(now);
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Dial { conn, .. } => self.dial(conn)?,
                Action::Transmit(conn) => self.write(conn)?,
                Action::Shutdown(_) => {
                    if let Some((_, stream)) = &self.stream {
                        stream.shutdown(std::net::Shutdown::Write)?;
                    }
                }
                Action::Close(_) => self.stream = None,
                _ => {}
            }
        }
        Ok(())
    }

    fn dial(&mut self, conn: ConnId) -> FunctionResult<()> {
        match TcpStream::connect(self.server) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                self.stream = Some((conn, stream));
                self.machine.handle_connected(self.now(), conn);
            }
            Err(_) => self.machine.handle_dial_failed(self.now(), conn, DialError::Refused),
        }
        Ok(())
    }

    fn write(&mut self, conn: ConnId) -> FunctionResult<()> {
        while let Some(chunk) = self.machine.poll_transmit(self.now(), conn) {
            let Some((_, stream)) = &mut self.stream else { break };
            let written = stream.write(chunk.bytes())?;
            self.machine.handle_written(self.now(), conn, chunk, written);
        }
        Ok(())
    }

    fn read(&mut self) -> FunctionResult<()> {
        let Some((conn, stream)) = &mut self.stream else { return Ok(()) };
        let conn = *conn;
        // A driver would sleep until there are bytes or the machine's next timeout.
        stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => self.machine.handle_closed(self.now(), conn, StreamEnd::Eof),
            Ok(read) => self.machine.handle_bytes(self.now(), conn, &buffer[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                self.machine.handle_drained(self.now(), conn);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn main() -> FunctionResult<()> {
    let server = RpcServer::builder().register("add", |(a, b): (i64, i64)| Ok(a + b)).bind("127.0.0.1:0")?;
    // Random bits are the driver's part; here a fixed number has to do.
    let machine = Requester::new(
        Limits::tiny(),
        Reconnect::default(),
        1,
        SessionId(*b"a bare loop's id"),
        Random::new(7),
    );
    let origin = std::time::Instant::now();
    let mut turned = Loop { machine, server: server.local_addr(), stream: None, origin };
    turned.machine.start();

    let now = turned.now();
    let options =
        CallOptions { deadline: now + Duration::from_secs(10), idempotent: false, fail_fast: false };
    // Two i64 in postcard are two zigzag varints: 20 and 22 stand for 10 and 11.
    turned.machine.call(now, "add", &[20, 22], options)?;
    let done = loop {
        turned.turn()?;
        if let Some(done) = turned.machine.poll_done() {
            break done;
        }
    };
    println!("10 + 11 = {:?} (a zigzag varint) after {:?}", done.outcome, origin.elapsed());
    assert_eq!(done.outcome, Outcome::Value(vec![42].into()));

    turned.machine.stop(turned.now());
    while !turned.machine.is_closed() {
        turned.turn()?;
    }
    println!("closed in good order");
    Ok(())
}

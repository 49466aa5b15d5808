//! One connection through the relay: its two sides, and what is on its way between them.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::SockRef;

/// A direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

/// How far a pair came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pumped {
    /// Nothing moves until the kernel says so.
    Idle,
    /// There may be more to move.
    More,
    /// Both sides have ended in good order.
    Over,
    /// One side is broken, or the pair was to end here: the other side ends by reset.
    Broken,
}

/// A client's connection and the one to the server that belongs to it.
pub struct Pair {
    /// The client's and the server's. A side that is gone takes nothing and gives nothing.
    ends: [Option<TcpStream>; 2],
    /// By the side that they come from.
    flows: [Flow; 2],
    /// Bytes that may still pass, after which it breaks.
    doom: Option<usize>,
}

/// What is on its way in one direction.
#[derive(Default)]
struct Flow {
    held: Vec<u8>,
    stalled: bool,
    /// Its source has ended.
    ended: bool,
    /// Its receiver has been told so, or takes nothing more.
    finished: bool,
    /// Bytes that pass in one go.
    piece: Option<usize>,
    /// Nothing passes before so many bytes have come.
    gather: usize,
}

/// Bytes held of one direction; the receiver's slowness reaches the sender beyond it.
const MOST_HELD: usize = 64 * 1024;
/// Rounds of one pair until others have their turn.
const ROUNDS: usize = 16;

impl Pair {
    pub fn new(ends: [TcpStream; 2], piece: Option<usize>) -> Self {
        let flow = || Flow { piece, ..Flow::default() };
        Pair { ends: ends.map(Some), flows: [flow(), flow()], doom: None }
    }

    /// Moves what can be moved, up to `left` bytes, and counts them off it.
    pub fn pump(&mut self, mut left: Option<&mut u64>) -> Pumped {
        for _ in 0..ROUNDS {
            let mut moved = false;
            for way in 0..2 {
                let most =
                    left.as_ref().map_or(usize::MAX, |left| usize::try_from(**left).unwrap_or(usize::MAX));
                let passed = match self.fill(way).and_then(|filled| {
                    moved |= filled;
                    self.drain(way, most)
                }) {
                    Ok(passed) => passed,
                    Err(_) => return Pumped::Broken,
                };
                moved |= passed > 0;
                if let Some(left) = left.as_mut() {
                    **left -= passed as u64;
                    if **left == 0 {
                        return Pumped::Idle;
                    }
                }
            }
            if self.doom == Some(0) {
                return Pumped::Broken;
            }
            if self.flows.iter().all(|flow| flow.finished) {
                return Pumped::Over;
            }
            if !moved {
                return Pumped::Idle;
            }
        }
        Pumped::More
    }

    /// Reads once. Returns whether there was anything, an end included.
    fn fill(&mut self, way: usize) -> io::Result<bool> {
        let flow = &mut self.flows[way];
        let Some(mut from) = self.ends[way].as_ref() else { return Ok(false) };
        if flow.stalled || flow.ended || flow.finished || flow.held.len() >= MOST_HELD {
            return Ok(false);
        }
        let mut buffer = [0; 16 * 1024];
        match from.read(&mut buffer) {
            Ok(0) => flow.ended = true,
            Ok(read) => flow.held.extend_from_slice(&buffer[..read]),
            Err(error) => return not_yet(error).map(|()| false),
        }
        Ok(true)
    }

    /// Writes once, at most so many bytes. Returns how many.
    fn drain(&mut self, way: usize, most: usize) -> io::Result<usize> {
        let flow = &mut self.flows[way];
        let Some(mut to) = self.ends[1 - way].as_ref() else { return Ok(0) };
        if flow.stalled || flow.finished {
            return Ok(0);
        }
        if flow.held.is_empty() && flow.ended {
            flow.finished = true;
            // It may have gone itself; then there is nobody to be told.
            let _ = to.shutdown(Shutdown::Write);
            return Ok(0);
        }
        let limits = [Some(flow.held.len()), Some(most), flow.piece, self.doom];
        let most = limits.into_iter().flatten().min().unwrap_or(0);
        if most == 0 || flow.held.len() < flow.gather {
            return Ok(0);
        }
        match to.write(&flow.held[..most]) {
            Ok(written) => {
                flow.held.drain(..written);
                if let Some(doom) = &mut self.doom {
                    *doom -= written;
                }
                Ok(written)
            }
            Err(error) => not_yet(error).map(|()| 0),
        }
    }

    // What is done to it.

    /// Ends both sides by reset.
    pub fn reset(self) {
        self.ends.into_iter().flatten().for_each(reset);
    }

    /// Tells the receiver of one direction that there is no more.
    pub fn half_close(&mut self, way: Way) {
        let from = way as usize;
        self.flows[from].finished = true;
        if let Some(to) = &self.ends[1 - from] {
            let _ = to.shutdown(Shutdown::Write);
        }
    }

    pub fn stall(&mut self, ways: [bool; 2]) {
        for (flow, stalled) in self.flows.iter_mut().zip(ways) {
            flow.stalled = stalled;
        }
    }

    pub fn go_on(&mut self) {
        self.stall([false, false]);
    }

    /// Takes what the client has sent, resets its side, and keeps the server waiting for the rest.
    pub fn lose_client(&mut self) {
        while let Ok(true) = self.fill(Way::ToServer as usize) {}
        self.stall([true, false]);
        self.flows[Way::ToServer as usize].ended = true;
        self.flows[Way::ToClient as usize].finished = true;
        self.ends[0].take().into_iter().for_each(reset);
    }

    /// Lets so many bytes pass in tiny pieces, and then breaks it.
    pub fn cut_up(&mut self, piece: usize, bytes: usize) {
        self.flows.iter_mut().for_each(|flow| flow.piece = Some(piece));
        self.doom = Some(bytes);
    }

    /// Holds so many bytes back, lets half of them pass at once, and then breaks it.
    pub fn gather(&mut self, bytes: usize) {
        self.flows.iter_mut().for_each(|flow| flow.gather = bytes);
        self.doom = Some(bytes / 2);
    }
}

fn reset(end: TcpStream) {
    // Where it cannot be set, it ends in good order, which is a cut as well.
    let _ = SockRef::from(&end).set_linger(Some(Duration::ZERO));
}

/// An error that only says that it is too early is none.
fn not_yet(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

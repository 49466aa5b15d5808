//! A relay on loopback between clients and a server: real sockets, and bytes that pass as badly as it is told.
//!
//! One thread turns all of it. What it holds of a connection that it resets is lost, although whoever sent it was told
//! by its kernel that it was written; that is how it is with real networks.

mod pair;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, SockRef, Socket, Type};

use super::LONG;
pub use pair::Way;
use pair::{Pair, Pumped};

/// What a relay does to the connections that pass through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// One connection ends by reset, on both sides.
    Reset,
    /// All of them do.
    ResetAll,
    /// The receiver of this direction is told that there is no more. The other direction stays open.
    HalfClose(Way),
    /// Nothing passes for a while: then all goes on, or ends by reset.
    Stall { ways: [bool; 2], length: Duration, reset: bool },
    /// The client's side ends by reset. What it had sent until then reaches the server that much later.
    Late(Duration),
    /// So many bytes pass in pieces of at most `piece` bytes, then it ends by reset.
    Pieces { piece: usize, bytes: usize },
    /// So many bytes are held back, half of them pass in one go, then it ends by reset.
    Gather { bytes: usize },
    /// All connections end by reset, and new ones are refused for a while.
    Refuse(Duration),
}

/// How narrow the relay's sockets are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Width {
    /// Bytes that each socket buffers in the kernel; the system's own choice if there is none.
    pub buffer_bytes: Option<usize>,
    /// Bytes that pass in one go; without limit if there is none.
    pub piece: Option<usize>,
}

/// The relay. It ends with its handle, and all connections with it.
pub struct Relay {
    addr: SocketAddr,
    orders: Sender<Order>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Cut { cut: Cut, victim: usize, after: u64, done: Sender<bool> },
    Hurry,
    End,
}

impl Relay {
    /// Listens at `listen` and dials `to` for each connection that comes.
    pub fn start(listen: SocketAddr, to: SocketAddr, width: Width) -> Self {
        let (orders, received) = mpsc::channel();
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), WAKER).unwrap();
        let mut works = Works {
            poll,
            listen,
            to,
            width,
            listener: None,
            pairs: BTreeMap::new(),
            next: 1,
            again: Vec::new(),
            due: Vec::new(),
            plan: None,
        };
        works.open();
        let addr = works.listener.as_ref().unwrap().local_addr().unwrap();
        works.listen = addr;
        let thread = std::thread::Builder::new().name("relay".into()).spawn(move || works.run(&received));
        Relay { addr, orders, waker, thread: Some(thread.unwrap()) }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Cuts the connection that `victim` picks, when so many more bytes have passed through it; at once when that takes
    /// longer than `patience`. False: there was none to be cut.
    pub fn cut(&self, cut: Cut, victim: usize, after: u64, patience: Duration) -> bool {
        let (done, is_done) = mpsc::channel();
        self.order(Order::Cut { cut, victim, after, done });
        match is_done.recv_timeout(patience) {
            Err(RecvTimeoutError::Timeout) => {
                self.order(Order::Hurry);
                is_done.recv_timeout(LONG).expect("the relay lives")
            }
            result => result.expect("the relay lives"),
        }
    }

    fn order(&self, order: Order) {
        self.orders.send(order).expect("the relay lives");
        self.waker.wake().unwrap();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::End);
        let _ = self.waker.wake();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the relay has panicked");
    }
}

const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);
/// What holds bytes back gives up after so long: nothing more may come.
const MOST_HELD_BACK: Duration = Duration::from_millis(200);

struct Works {
    poll: Poll,
    listen: SocketAddr,
    to: SocketAddr,
    width: Width,
    /// `None` while it refuses.
    listener: Option<TcpListener>,
    pairs: BTreeMap<usize, Pair>,
    next: usize,
    /// Pairs that have more to move than they were given time for.
    again: Vec<usize>,
    due: Vec<(Instant, Due)>,
    plan: Option<Plan>,
}

struct Plan {
    cut: Cut,
    /// The pair that is watched.
    pair: usize,
    /// Bytes that have still to pass through it.
    left: u64,
    done: Sender<bool>,
}

#[derive(Clone, Copy)]
enum Due {
    GoOn(usize),
    Reset(usize),
    Listen,
}

impl Works {
    fn run(mut self, orders: &Receiver<Order>) {
        let mut events = Events::with_capacity(64);
        loop {
            let next = self.due.iter().map(|(at, _)| at.saturating_duration_since(Instant::now())).min();
            let wait = if self.again.is_empty() { next } else { Some(Duration::ZERO) };
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.unwrap(),
            }
            for order in orders.try_iter() {
                match order {
                    Order::Cut { cut, victim, after, done } => self.plan(cut, victim, after, done),
                    Order::Hurry => self.hurry(),
                    Order::End => return,
                }
            }
            self.do_due();
            let mut moving = std::mem::take(&mut self.again);
            for event in &events {
                match event.token() {
                    WAKER => {}
                    LISTENER => self.accept(),
                    Token(token) => moving.push(token / 2),
                }
            }
            moving.into_iter().for_each(|pair| self.pump(pair));
        }
    }

    // Connections.

    fn open(&mut self) {
        let mut listener = TcpListener::bind(self.listen).unwrap();
        self.narrow(&SockRef::from(&listener));
        self.poll.registry().register(&mut listener, LISTENER, Interest::READABLE).unwrap();
        self.listener = Some(listener);
    }

    fn narrow(&self, socket: &SockRef<'_>) {
        if let Some(bytes) = self.width.buffer_bytes {
            socket.set_recv_buffer_size(bytes).unwrap();
            socket.set_send_buffer_size(bytes).unwrap();
            // With loopback's own segments, which are larger than such a buffer, each one waits for a timer.
            #[cfg(unix)]
            socket.set_tcp_mss(1_460).unwrap();
        }
    }

    fn accept(&mut self) {
        while let Some(Ok((client, _))) = self.listener.as_ref().map(TcpListener::accept) {
            let Ok(server) = self.dial() else { continue };
            let number = self.next;
            self.next += 1;
            let mut ends = [client, server];
            for (side, end) in ends.iter_mut().enumerate() {
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(end, Token(number * 2 + side), interest).unwrap();
                // It may have gone already; then the next read says so.
                let _ = end.set_nodelay(true);
            }
            self.pairs.insert(number, Pair::new(ends, self.width.piece));
            self.pump(number);
        }
    }

    fn dial(&self) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.to), Type::STREAM, None)?;
        self.narrow(&SockRef::from(&socket));
        socket.set_nonblocking(true)?;
        // Whether it gets through is seen when it is written to.
        let _ = socket.connect(&self.to.into());
        Ok(TcpStream::from_std(socket.into()))
    }

    fn pump(&mut self, number: usize) {
        let Some(pair) = self.pairs.get_mut(&number) else { return };
        let mut plan = self.plan.as_mut().filter(|plan| plan.pair == number);
        let pumped = pair.pump(plan.as_mut().map(|plan| &mut plan.left));
        let reached = plan.is_some_and(|plan| plan.left == 0);
        match pumped {
            Pumped::Idle => {}
            Pumped::More => self.again.push(number),
            Pumped::Over => {
                self.pairs.remove(&number);
            }
            Pumped::Broken => self.reset(number),
        }
        if reached {
            self.carry_out();
        } else if !self.pairs.contains_key(&number) {
            self.choose_anew(number);
        }
    }

    fn reset(&mut self, number: usize) {
        if let Some(pair) = self.pairs.remove(&number) {
            pair.reset();
        }
    }

    // Cuts.

    fn plan(&mut self, cut: Cut, victim: usize, after: u64, done: Sender<bool>) {
        let pair = self.pick(victim);
        self.plan = Some(Plan { cut, pair, left: after, done });
        if after == 0 {
            self.carry_out();
        }
    }

    fn pick(&self, victim: usize) -> usize {
        let among = self.pairs.len().max(1);
        self.pairs.keys().nth(victim % among).copied().unwrap_or(0)
    }

    /// The one that was watched has ended before its time.
    fn choose_anew(&mut self, gone: usize) {
        let another = self.pick(gone);
        if let Some(plan) = self.plan.as_mut().filter(|plan| plan.pair == gone) {
            plan.pair = another;
        }
    }

    fn hurry(&mut self) {
        if let Some(gone) = self.plan.as_ref().map(|plan| plan.pair) {
            if !self.pairs.contains_key(&gone) {
                self.choose_anew(gone);
            }
            self.carry_out();
        }
    }

    fn carry_out(&mut self) {
        let Some(Plan { cut, pair: number, done, .. }) = self.plan.take() else { return };
        let known = self.pairs.get_mut(&number);
        let is_done = known.is_some() || matches!(cut, Cut::Refuse(_));
        match (cut, known) {
            (Cut::ResetAll, _) => self.reset_all(),
            (Cut::Refuse(length), _) => {
                self.reset_all();
                self.listener = None;
                self.remind(length, Due::Listen);
            }
            (_, None) => {}
            (Cut::Reset, Some(_)) => self.reset(number),
            (Cut::HalfClose(way), Some(pair)) => pair.half_close(way),
            (Cut::Stall { ways, length, reset }, Some(pair)) => {
                pair.stall(ways);
                self.remind(length, if reset { Due::Reset(number) } else { Due::GoOn(number) });
            }
            (Cut::Late(length), Some(pair)) => {
                pair.lose_client();
                self.remind(length, Due::GoOn(number));
            }
            (Cut::Pieces { piece, bytes }, Some(pair)) => {
                pair.cut_up(piece, bytes);
                self.remind(MOST_HELD_BACK, Due::Reset(number));
            }
            (Cut::Gather { bytes }, Some(pair)) => {
                pair.gather(bytes);
                self.remind(MOST_HELD_BACK, Due::Reset(number));
            }
        }
        // Whoever gave the order may have gone.
        let _ = done.send(is_done);
        self.pump(number);
    }

    fn reset_all(&mut self) {
        std::mem::take(&mut self.pairs).into_values().for_each(Pair::reset);
    }

    fn remind(&mut self, after: Duration, due: Due) {
        self.due.push((Instant::now() + after, due));
    }

    fn do_due(&mut self) {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.due).into_iter().partition(|(at, _)| *at <= now);
        self.due = later;
        let due: Vec<(Instant, Due)> = due;
        for (_, due) in due {
            match due {
                Due::Reset(number) => {
                    self.reset(number);
                    self.choose_anew(number);
                }
                Due::GoOn(number) => {
                    if let Some(pair) = self.pairs.get_mut(&number) {
                        pair.go_on();
                    }
                    self.pump(number);
                }
                Due::Listen if self.listener.is_none() => self.open(),
                Due::Listen => {}
            }
        }
    }
}

//! The poll loop: one pass of it is a turn.
//!
//! A turn waits for the kernel, the mailbox or a timer, and then reads first, fires timers after, and writes last, so
//! that a late wake-up never kills a talkative peer. A turn reads so much and no more; what is left over, and before it
//! who had no turn, comes first in the next one, which then does not wait.

mod accept;
mod patience;
mod reading;
mod ready;
mod shared;
#[cfg(test)]
mod tests;
mod tokens;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use super::address::Target;
use super::dial::{dial_error, DialKey, Dialled, Dials};
use super::numbered::Numbered;
use super::port::{BoxedPort, Outlook, Readiness};
use super::resolver::Resolver;
use super::socket::Keepalive;
use super::{Address, Conns};
use crate::pattern::{Action, DialError, Limits};
use crate::time::{Duration, Instant};
use accept::Listener;
use patience::Patience;
use ready::Ready;
pub(crate) use shared::{Command, Shared};
use tokens::{Tokens, FIRST_OTHER};

/// A poll loop and the ports that it drives.
pub(crate) struct Driver {
    poll: Poll,
    events: Events,
    shared: Arc<Shared>,
    /// `None`: free.
    ports: Vec<Option<Slot>>,
    /// The ports that a turn has something to do for; kept for its memory.
    touched: Vec<usize>,
    listeners: Vec<Listener>,
    tokens: Tokens,
    /// Of listeners and dials.
    next_token: usize,
    ready: Ready,
    /// Empty before the first read, and no larger than reads have been.
    buffer: Vec<u8>,
    read_bytes: usize,
    dials: Dials,
    resolver: Option<Resolver>,
    resolving: Numbered<u64, DialKey>,
    next_query: u64,
    keepalive: Keepalive,
    patience: Patience,
    /// When the clock was last looked at.
    looked_at: Instant,
    /// When the last wait was over.
    woken_at: Instant,
}

struct Slot {
    port: BoxedPort,
    addresses: Vec<Address>,
    /// Its connections' tokens.
    tokens: Conns<Token>,
    /// What the port said when it was last looked at.
    outlook: Cell<Outlook>,
}

impl Slot {
    /// What the port wants: asked for only if it may be another thing than it said last.
    fn outlook(&self) -> Outlook {
        if self.port.is_touched() {
            self.outlook.set(self.port.outlook());
        }
        self.outlook.get()
    }

    /// There may be something to do for the port.
    fn may_want(&self) -> bool {
        self.port.is_touched() || self.outlook.get().keeps_awake()
    }

    fn is_due(&self, now: Instant) -> bool {
        self.outlook.get().next_timeout.is_some_and(|due| due <= now)
    }
}

const WAKER: Token = Token(usize::MAX);
const EVENTS_PER_TURN: usize = 256;

impl Driver {
    /// A poll loop with nothing to drive.
    pub(crate) fn new(limits: &Limits, keepalive: Keepalive) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let shared = Arc::new(Shared::new(waker));
        Ok(Driver {
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            shared,
            ports: Vec::new(),
            touched: Vec::new(),
            listeners: Vec::new(),
            tokens: Tokens::default(),
            next_token: FIRST_OTHER,
            ready: Ready::default(),
            buffer: Vec::new(),
            read_bytes: limits.read_bytes as usize,
            dials: Dials::new(limits.connect_timeout, keepalive),
            resolver: None,
            resolving: Numbered::default(),
            next_query: 0,
            keepalive,
            patience: Patience::new(limits.polling),
            looked_at: Instant::ZERO,
            woken_at: Instant::ZERO,
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    #[cfg(unix)]
    pub(crate) fn poll_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.poll)
    }

    /// Drives one more port, which dials these addresses.
    pub(crate) fn add(&mut self, port: BoxedPort, addresses: Vec<Address>) -> usize {
        let outlook = Cell::new(port.outlook());
        let slot = Some(Slot { port, addresses, tokens: Conns::default(), outlook });
        match self.ports.iter().position(Option::is_none) {
            Some(free) => {
                self.ports[free] = slot;
                free
            }
            None => {
                self.ports.push(slot);
                self.ports.len() - 1
            }
        }
    }

    /// All ports were stopped and are gone.
    pub(crate) fn is_over(&self) -> bool {
        self.ports.iter().all(Option::is_none)
    }

    fn port(&self, index: usize) -> Option<&BoxedPort> {
        self.ports.get(index)?.as_ref().map(|slot| &slot.port)
    }

    fn slot_mut(&mut self, index: usize) -> Option<&mut Slot> {
        self.ports.get_mut(index)?.as_mut()
    }

    /// Those that somebody has had, or that have a timer due.
    fn find_touched(&mut self, now: Instant) {
        let ports = self.ports.iter().enumerate();
        let touched = |slot: &Slot| slot.may_want() || slot.is_due(now);
        let found = ports.filter(|(_, slot)| slot.as_ref().is_some_and(touched)).map(|(index, _)| index);
        self.touched.clear();
        self.touched.extend(found);
    }

    fn touched_ports(&self) -> impl Iterator<Item = &BoxedPort> {
        self.touched.iter().filter_map(|index| self.port(*index))
    }

    fn token(&mut self) -> Token {
        next_token(&mut self.next_token)
    }

    /// Looks at the clock.
    fn look(&mut self) -> Instant {
        self.looked_at = self.shared.clock.now();
        self.looked_at
    }

    /// When it last looked at the clock.
    pub(super) fn looked_at(&self) -> Instant {
        self.looked_at
    }

    /// When the last turn's wait was over.
    pub(super) fn woken_at(&self) -> Instant {
        self.woken_at
    }

    /// One pass: waits at most `timeout` (`None`: until something happens), and does what there is to do.
    pub(crate) fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let now = self.look();
        self.turn_at(now, timeout)
    }

    /// The same for who has just looked at the clock.
    pub(super) fn turn_at(&mut self, now: Instant, timeout: Option<Duration>) -> io::Result<()> {
        self.shared.lie_down();
        self.take_mail();
        // An answer that came after the last look, while we were up, woke nobody.
        self.take_resolved(now);
        self.find_touched(now);
        self.do_deferred();
        let wait = self.how_long(now, timeout);
        self.shared.sleep_until(wait.map_or(Instant::NEVER, |wait| now + wait));
        let now = self.wait(now, wait)?;
        self.woken_at = now;
        self.shared.get_up();
        self.take_mail();
        self.sort_events(now);
        self.accept(now);
        self.read(now);
        let now = self.look();
        self.take_resolved(now);
        self.expire_dials(now);
        // Ports that others touch from here on are looked at before the next sleep.
        self.find_touched(now);
        self.touched_ports().for_each(|port| port.timers(now));
        self.do_deferred();
        self.touched_ports().for_each(|port| port.flush_backlog(now));
        self.do_deferred();
        for index in &self.touched {
            if self.ports[*index].as_ref().is_some_and(|slot| slot.port.is_over()) {
                self.ports[*index] = None;
            }
        }
        Ok(())
    }

    /// Waits for the kernel, at most so long: for a short while by polling, if that has paid lately. Says when that is over.
    fn wait(&mut self, begun: Instant, wait: Option<Duration>) -> io::Result<Instant> {
        let bound = if wait == Some(Duration::ZERO) { None } else { self.patience.next_wait() };
        // A timer that ends the wait before is neither a hit nor a miss.
        if let Some(bound) = bound.filter(|bound| wait.is_none_or(|wait| wait > *bound)) {
            loop {
                self.ask_kernel(Some(Duration::ZERO))?;
                let now = self.look();
                let polled = now.saturating_since(begun);
                if !self.events.is_empty() {
                    self.patience.hit(polled);
                    return Ok(now);
                }
                if polled >= bound {
                    break;
                }
                // Whoever is to answer may need this very core.
                std::thread::yield_now();
            }
            self.patience.miss();
        }
        self.ask_kernel(wait)?;
        Ok(self.look())
    }

    fn ask_kernel(&mut self, wait: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, wait) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            result => result,
        }
    }

    fn take_mail(&mut self) {
        for Command::Add(port, addresses) in self.shared.take_mail() {
            self.add(port, addresses);
        }
    }

    /// How long to sleep: not at all if anything waits.
    pub(crate) fn how_long(&self, now: Instant, timeout: Option<Duration>) -> Option<Duration> {
        let busy = !self.ready.is_empty()
            || self.listeners.iter().any(|listener| listener.more)
            || self.ports.iter().flatten().any(|slot| slot.outlook().keeps_awake());
        if busy {
            return Some(Duration::ZERO);
        }
        let timers = self.ports.iter().flatten().filter_map(|slot| slot.outlook().next_timeout);
        let accepts = self.listeners.iter().filter_map(|listener| listener.retry_at);
        let next = timers.chain(accepts).chain(self.dials.next_timeout()).min();
        let until = next.map(|at| at.saturating_since(now));
        [timeout, until].into_iter().flatten().min()
    }

    fn sort_events(&mut self, now: Instant) {
        let mut dials = Vec::new();
        for event in self.events.iter() {
            match self.tokens.get(event.token()) {
                Some(key) => {
                    if event.is_writable() || event.is_error() {
                        if let Some(port) = self.port(key.port) {
                            port.writable(key.conn);
                        }
                    }
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        self.ready.push(key, event.is_read_closed() || event.is_error());
                    }
                }
                None if event.token() == WAKER => {}
                None => match self.listeners.iter_mut().find(|listener| listener.token == event.token()) {
                    Some(listener) => listener.more = true,
                    None => dials.push(event.token()),
                },
            }
        }
        for token in dials {
            let next = &mut self.next_token;
            let ended = self.dials.handle_event(now, self.poll.registry(), || next_token(next), token);
            if let Some((key, dialled)) = ended {
                self.dial_ended(key, dialled);
            }
        }
    }

    /// A connection is open: its port reads and writes from now on. `is_known`: the kernel's poll has it under the token
    /// of its dial.
    fn open(&mut self, key: DialKey, mut stream: TcpStream, is_known: bool) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = self.tokens.give(key);
        let registry = self.poll.registry();
        let registered = match is_known {
            true => registry.reregister(&mut stream, token, interest),
            false => registry.register(&mut stream, token, interest),
        };
        if let Err(error) = registered {
            log::warn!("register-failed: {error}");
            self.tokens.take_back(token);
            // Its end will be read at once.
            let _ = stream.shutdown(std::net::Shutdown::Both);
            self.adopt(key, stream, true);
            return;
        }
        let left = self.slot_mut(key.port).and_then(|slot| slot.tokens.insert(key.conn, token));
        if let Some(left) = left {
            self.tokens.take_back(left);
        }
        // What came before it was registered here causes no event of its own.
        self.adopt(key, stream, false);
    }

    fn adopt(&mut self, key: DialKey, stream: TcpStream, closed: bool) {
        if let Some(port) = self.port(key.port) {
            port.adopt(key.conn, Arc::new(stream));
            self.ready.push(key, closed);
        }
    }

    // What only the driver can do.

    fn do_deferred(&mut self) {
        for at in 0..self.touched.len() {
            let port = self.touched[at];
            while let Some(action) = self.port(port).and_then(|port| port.poll_deferred()) {
                self.act(port, action);
            }
        }
    }

    fn act(&mut self, port: usize, action: Action) {
        match action {
            Action::Dial { conn, address } => self.dial(DialKey { port, conn }, address),
            // Whatever came while reading was paused may have been announced then.
            Action::Read(conn) => self.ready.push(DialKey { port, conn }, true),
            Action::Shutdown(conn) => {
                if let Some(port) = self.port(port) {
                    port.shutdown(conn);
                }
            }
            Action::Close(conn) => self.close(DialKey { port, conn }),
            Action::Transmit(_) => {}
        }
    }

    fn close(&mut self, key: DialKey) {
        self.dials.forget(key);
        self.resolving.retain(|_, resolving| *resolving != key);
        if let Some(token) = self.slot_mut(key.port).and_then(|slot| slot.tokens.remove(&key.conn)) {
            self.tokens.take_back(token);
        }
        // The descriptor leaves the poll with its last handle; a thread that is writing may hold one for a moment.
        if let Some(port) = self.port(key.port) {
            port.close(key.conn);
        }
    }

    fn dialled(&self, key: DialKey, result: Result<(), DialError>) {
        if let Some(port) = self.port(key.port) {
            port.dialled(key.conn, result);
        }
    }

    fn dial(&mut self, key: DialKey, address: usize) {
        let now = self.shared.clock.now();
        let slot = self.ports.get(key.port).and_then(Option::as_ref);
        let Some(address) = slot.and_then(|slot| slot.addresses.get(address)) else {
            return self.dialled(key, Err(DialError::Unresolved));
        };
        match address.to_listen() {
            Target::At(addr) => self.dial_at(now, key, std::vec![addr]),
            Target::Name { host, port } => {
                let host = String::from(host);
                self.resolve(key, &host, port);
            }
            Target::AllInterfaces { .. } => {
                self.dialled(key, Err(DialError::Unresolved));
            }
        }
    }

    fn dial_at(&mut self, now: Instant, key: DialKey, addrs: Vec<SocketAddr>) {
        let next = &mut self.next_token;
        let ended = self.dials.begin(now, self.poll.registry(), || next_token(next), key, addrs);
        if let Some(dialled) = ended {
            self.dial_ended(key, dialled);
        }
    }

    fn dial_ended(&mut self, key: DialKey, dialled: Dialled) {
        match dialled {
            Dialled::Open(stream) => {
                self.open(key, stream, true);
                self.dialled(key, Ok(()));
            }
            Dialled::Failed(error) => self.dialled(key, Err(error)),
        }
    }

    fn expire_dials(&mut self, now: Instant) {
        let next = &mut self.next_token;
        for (key, dialled) in self.dials.expire(now, self.poll.registry(), || next_token(next)) {
            self.dial_ended(key, dialled);
        }
    }

    fn resolve(&mut self, key: DialKey, host: &str, port: u16) {
        let shared = Arc::clone(&self.shared);
        let resolver = self.resolver.get_or_insert_with(|| {
            let shared = Arc::downgrade(&shared);
            Resolver::new(Arc::new(move || {
                if let Some(shared) = shared.upgrade() {
                    shared.wake();
                }
            }))
        });
        self.next_query += 1;
        match resolver.resolve(self.next_query, host, port) {
            Ok(()) => {
                self.resolving.insert(self.next_query, key);
            }
            Err(error) => {
                log::debug!("resolve-failed: {host}: {error}");
                self.dialled(key, Err(dial_error(&error)));
            }
        }
    }

    fn take_resolved(&mut self, now: Instant) {
        while let Some((query, found)) = self.resolver.as_ref().and_then(Resolver::try_take) {
            let Some(key) = self.resolving.remove(&query) else { continue };
            match found {
                Ok(addrs) => self.dial_at(now, key, addrs),
                Err(error) => {
                    log::debug!("resolve-failed: {error}");
                    self.dialled(key, Err(DialError::Unresolved));
                }
            }
        }
    }
}

impl Drop for Driver {
    /// Whoever keeps a port keeps no connection with it.
    fn drop(&mut self) {
        self.ports.iter().flatten().for_each(|slot| slot.port.let_go());
    }
}

/// On 32 bits the numbers come round after two billion dials: by then the first are long gone.
fn next_token(next: &mut usize) -> Token {
    let token = Token(*next);
    *next = ((token.0 + 1) % WAKER.0).max(FIRST_OTHER);
    token
}

//! A machine behind its lock, and the connections that bytes move over for it.

mod driven;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, Thread};
use std::vec::Vec;

use mio::net::TcpStream;

use super::flood::Flood;
use super::{Conns, Shared};
use crate::pattern::{Action, ConnId, Machine, StreamEnd};
use crate::time::{Duration, Instant};
#[cfg(test)]
pub(crate) use driven::AnyPort;
pub(crate) use driven::{BoxedPort, Outlook, Readiness};

/// What is done with what a machine has to say.
pub(crate) trait Handler: Send + Sync + Sized + 'static {
    /// The machine.
    type Machine: Machine + Send + 'static;
    /// Something to be done without the lock.
    type Job: Send;
    /// Takes from the machine what it has to say. Under the lock: quick, and no user code.
    fn collect(&self, machine: &mut Self::Machine, jobs: &mut Vec<Self::Job>);
    /// Does it, in this order, and leaves nothing. Without the lock: user code may run.
    fn run(&self, port: &Arc<Port<Self>>, jobs: &mut Vec<Self::Job>);
    /// The machine was stopped and all is done: the port can go.
    fn is_over(&self, machine: &Self::Machine) -> bool;
    /// Nobody turns its driver but who calls.
    const IS_BARE: bool = false;
    /// The port has let go of everything: nothing of this life will happen any more.
    fn handle_over(&self) {}
}

/// A machine behind its lock. Commands come from any thread, bytes and time from the driver.
pub(crate) struct Port<H: Handler> {
    pub(crate) handler: H,
    state: Mutex<State<H::Machine, H::Job>>,
    /// Somebody has had the state since the driver last looked at it. Written under the lock.
    touched: AtomicBool,
    /// There is something that only the driver can do. Written under the lock.
    is_deferred: AtomicBool,
    shared: Arc<Shared>,
}

/// A port's lock, held.
type Guard<'a, H> = MutexGuard<'a, State<<H as Handler>::Machine, <H as Handler>::Job>>;

pub(crate) struct State<M, J> {
    pub(crate) machine: M,
    conns: Conns<Conn>,
    /// Connections with something to write, waiting for the flusher.
    backlog: VecDeque<ConnId>,
    /// Somebody is working the backlog off.
    flushing: bool,
    /// What only the driver can do.
    deferred: VecDeque<Action>,
    /// When calls that were begun had been written, whoever wrote them, or several pieces of news came together: a caller
    /// that has many calls under way begins the next ones now.
    busy_at: Instant,
    /// What is to be written has calls in it that were begun without waiting for them.
    has_begun: bool,
    /// Commands of a burst since the last write.
    gathered: u32,
    /// When the clock was last looked at for a command.
    looked_at: Instant,
    flood: Flood,
    /// Room for what a handler has to do, to be used again.
    jobs: Vec<J>,
    /// Threads in [`Port::wait_until`], to be woken when something has changed. They leave the list by being woken.
    watchers: Vec<Thread>,
}

impl<M, J> State<M, J> {
    /// This thread is woken by the next change.
    fn watch(&mut self) {
        let me = thread::current();
        if !self.watchers.iter().any(|watcher| watcher.id() == me.id()) {
            self.watchers.push(me);
        }
    }

    fn wake_watchers(&mut self) {
        self.watchers.drain(..).for_each(|watcher| watcher.unpark());
    }
}

struct Conn {
    stream: Arc<TcpStream>,
    /// The kernel took all that it was last given, or has said since that there is room again.
    writable: bool,
    /// The kernel said that there is room while the write token was out.
    became_writable: bool,
    /// The write token is out.
    writing: bool,
    /// The connection ended while the write token was out.
    ended: Option<StreamEnd>,
}

/// When what a command has to write is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// By this thread before it goes on.
    AtOnce,
    /// Likewise, unless others were written a moment ago, or several answers came together: then whoever turns the driver
    /// writes, and until it does, or there are enough, more can gather. The first one of a burst, and every lone one, goes
    /// out at once.
    Burst {
        /// It is told the time. Otherwise the moment may be that of one a little before, of those that wait to be written
        /// with it.
        exact: bool,
    },
}

/// Room for so many jobs is kept.
const KEPT_JOBS: usize = 1_024;
/// A command that comes so soon after the end of the last write, or after several answers, is one of a burst.
const BURST: Duration = Duration::from_micros(20);
/// Commands of a burst for one look at the clock.
const LOOK_AGAIN: u32 = 8;
/// So many of a burst are written together, and while the server is busy with them the next ones gather.
const MOST_GATHERED: u32 = 64;

impl<H: Handler> Port<H> {
    pub(crate) fn new(handler: H, machine: H::Machine, shared: Arc<Shared>) -> Arc<Self> {
        let state = State {
            machine,
            conns: Conns::default(),
            backlog: VecDeque::new(),
            flushing: false,
            deferred: VecDeque::new(),
            busy_at: Instant::ZERO,
            has_begun: false,
            gathered: 0,
            looked_at: Instant::ZERO,
            flood: Flood::default(),
            jobs: Vec::new(),
            watchers: Vec::new(),
        };
        let (touched, is_deferred) = (AtomicBool::new(true), AtomicBool::new(false));
        let port = Port { handler, state: Mutex::new(state), touched, is_deferred, shared };
        // What the machine was told before it came here.
        port.sort_actions(&mut port.lock());
        Arc::new(port)
    }

    pub(crate) fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    /// The machine, to look at it or for a command that [`Port::command`] does not fit. The driver looks at it too.
    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, H> {
        let state = self.lock_quietly();
        // Whoever wakes the driver after this makes sure that it is seen.
        self.touched.store(true, Ordering::Relaxed);
        state
    }

    /// The same, for the driver's look itself.
    #[inline]
    fn lock_quietly(&self) -> Guard<'_, H> {
        match self.state.lock() {
            Ok(state) => state,
            Err(poisoned) => self.take_over(poisoned.into_inner()),
        }
    }

    /// Somebody panicked in the middle of something: what the machine believes is not to be trusted.
    #[cold]
    fn take_over<'a>(&'a self, mut state: Guard<'a, H>) -> Guard<'a, H> {
        self.state.clear_poison();
        log::warn!("machine-poisoned: a panic under the lock; closing its connections");
        state.flushing = false;
        state.machine.handle_poisoned(self.shared.clock.now());
        state
    }

    /// Gives the machine a command, does what it has to say, and writes what it has to write from this thread.
    pub(crate) fn command<T>(self: &Arc<Self>, command: impl FnOnce(&mut H::Machine, Instant) -> T) -> T {
        self.command_at(Pace::AtOnce, command)
    }

    /// Gives the machine a command and does what it has to say; when what it has to write is written, the pace says.
    pub(crate) fn command_at<T>(
        self: &Arc<Self>,
        pace: Pace,
        command: impl FnOnce(&mut H::Machine, Instant) -> T,
    ) -> T {
        let exact = matches!(pace, Pace::AtOnce | Pace::Burst { exact: true }).then(|| self.now());
        let mut state = self.lock();
        // Nothing waits for long to be written.
        let is_recent = !state.backlog.is_empty() && !state.gathered.is_multiple_of(LOOK_AGAIN);
        let coarse = is_recent.then_some(state.looked_at);
        let mut moment = exact;
        let now = exact.or(coarse).unwrap_or_else(|| self.now());
        state.looked_at = state.looked_at.max(now);
        let result = command(&mut state.machine, now);
        state.gathered = state.gathered.saturating_add(1);
        state.has_begun |= pace != Pace::AtOnce;
        let burst = state.gathered < MOST_GATHERED && now.saturating_since(state.busy_at) < BURST;
        if pace != Pace::AtOnce && burst {
            // What it has to say is said, and its timers are looked at, when it is written, which is before long, or in the
            // driver's next turn.
            self.take_actions(&mut state);
            drop(state);
        } else if self.settle(state) {
            // That may have taken its time.
            moment = None;
        }
        match pace {
            Pace::AtOnce => self.flush_at(moment),
            Pace::Burst { .. } if !burst => {
                self.flush_at(moment);
                // Its answer may come while nobody looks.
                self.shared.lead.come_before_long();
            }
            Pace::Burst { .. } if self.shared.lead.is_left_to_callers() => {
                self.shared.lead.come_before_long()
            }
            Pace::Burst { .. } => self.shared.wake(),
        }
        result
    }

    /// Gives the machine a command in the middle of a turn of its driver. What it has to write is written at the end of
    /// that turn, together with what else it brings; then its timers are looked at as well.
    pub(crate) fn command_in_turn<T>(self: &Arc<Self>, command: impl FnOnce(&mut H::Machine) -> T) -> T {
        let mut state = self.lock();
        let result = command(&mut state.machine);
        self.take_actions(&mut state);
        self.tell(state);
        result
    }

    /// The same for one of many: what the machine has to say is said when the last of them is given by
    /// [`Port::command_in_turn`].
    pub(crate) fn command_quietly<T>(&self, command: impl FnOnce(&mut H::Machine) -> T) -> T {
        let mut state = self.lock();
        let result = command(&mut state.machine);
        self.take_actions(&mut state);
        result
    }

    /// For commands that come by the million, have nothing to say and set no timer: publications of so many bytes.
    ///
    /// While they come one by one, each is written at once. A flood is gathered, and written by whoever publishes when a
    /// chunk is full or a moment has passed; the driver looks after what is left at its end.
    #[inline]
    pub(crate) fn command_in_flood<T>(
        self: &Arc<Self>,
        bytes: usize,
        command: impl FnOnce(&mut H::Machine) -> T,
    ) -> T {
        let mut state = self.lock();
        let result = command(&mut state.machine);
        self.take_actions(&mut state);
        if !state.backlog.is_empty() && !state.flushing {
            self.gather(state, bytes);
        }
        result
    }

    /// So many bytes more wait to be written: they are, or others follow them. Releases the lock.
    #[inline(never)]
    fn gather(self: &Arc<Self>, mut state: Guard<'_, H>, bytes: usize) {
        if state.flood.gather(bytes, || self.now()) {
            drop(state);
            self.flush();
        } else if state.flood.call_for_attention() {
            drop(state);
            match H::IS_BARE {
                // It is up and between two turns: the handle of its poll is what its user watches.
                true => self.shared.wake_for_certain(),
                false => self.shared.wake(),
            }
        }
    }

    /// How long it takes about to write to all who wait for something, up to a millisecond.
    pub(crate) fn write_effort(&self) -> Duration {
        self.lock_quietly().flood.effort()
    }

    /// Looks for something in the machine and, if it is there, does and writes what comes of having found it: reading
    /// may go on, a refusal may have to be sent.
    pub(crate) fn look<T>(self: &Arc<Self>, look: impl FnOnce(&mut H::Machine) -> Option<T>) -> Option<T> {
        let mut state = self.lock();
        let found = look(&mut state.machine);
        self.sort_actions(&mut state);
        if !state.backlog.is_empty() {
            drop(state);
            self.flush();
        }
        found
    }

    /// Waits until the machine answers or the time is over. Where waiters may turn the driver, this thread does so if
    /// nobody else does.
    pub(crate) fn wait_until<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut(&mut H::Machine) -> Option<T>,
    ) -> Option<T> {
        self.shared.lead.wait(&self.shared, deadline, || {
            let mut state = self.lock();
            let found = look(&mut state.machine);
            if found.is_some() {
                // Looking may have made room for more.
                self.sort_actions(&mut state);
            } else {
                state.watch();
            }
            found
        })
    }

    /// Waits until `look` finds an answer or the time is over; `look` arranges for this thread to be unparked.
    pub(crate) fn wait_for<T>(&self, deadline: Instant, look: impl FnMut() -> Option<T>) -> Option<T> {
        self.shared.lead.wait_for_answer(&self.shared, deadline, look)
    }

    /// Sorts what the machine wants into what anybody can do and what only the driver can, and does what it has to
    /// say. Releases the lock. True: it had something to say.
    fn settle(self: &Arc<Self>, mut state: Guard<'_, H>) -> bool {
        self.sort_actions(&mut state);
        self.tell(state)
    }

    /// Does what the machine has to say. Releases the lock. True: there was something.
    fn tell(self: &Arc<Self>, mut state: Guard<'_, H>) -> bool {
        let mut jobs = core::mem::take(&mut state.jobs);
        self.handler.collect(&mut state.machine, &mut jobs);
        state.wake_watchers();
        if jobs.is_empty() {
            state.jobs = jobs;
            return false;
        }
        if jobs.len() > 1 {
            state.busy_at = self.now();
        }
        drop(state);
        self.handler.run(self, &mut jobs);
        if jobs.capacity() <= KEPT_JOBS {
            self.lock().jobs = jobs;
        }
        true
    }

    /// Sorts what the machine wants. False if it is for the driver, which has been woken.
    #[inline]
    fn take_actions(&self, state: &mut State<H::Machine, H::Job>) -> bool {
        // Most often there is none.
        state.machine.poll_action().is_none_or(|first| self.sort(first, state))
    }

    #[inline(never)]
    fn sort(&self, first: Action, state: &mut State<H::Machine, H::Job>) -> bool {
        let mut wake = false;
        let mut next = Some(first);
        while let Some(action) = next {
            match action {
                Action::Transmit(conn) => state.backlog.push_back(conn),
                action => {
                    state.deferred.push_back(action);
                    wake = true;
                }
            }
            next = state.machine.poll_action();
        }
        if wake {
            // Whoever is woken by this sees it.
            self.is_deferred.store(true, Ordering::Relaxed);
            self.shared.wake();
        }
        !wake
    }

    fn sort_actions(&self, state: &mut State<H::Machine, H::Job>) {
        if self.take_actions(state) {
            if let Some(due) = state.machine.poll_timeout() {
                self.shared.wake_before(due);
            }
        }
    }

    // What the driver does.

    fn is_over_now(&self, state: &State<H::Machine, H::Job>) -> bool {
        state.deferred.is_empty() && state.conns.is_empty() && self.handler.is_over(&state.machine)
    }

    /// Takes a new connection's stream in.
    pub(crate) fn add_conn(&self, conn: ConnId, stream: Arc<TcpStream>) {
        let entry = Conn { stream, writable: true, became_writable: false, writing: false, ended: None };
        let left = self.lock().conns.insert(conn, entry);
        // An older one that ends here does so without the lock.
        drop(left);
    }
}

impl<H: Handler> Port<H> {
    /// The connection has ended, from outside; its machine hears of it when the write token is back.
    pub(super) fn ended(
        &self,
        state: &mut State<H::Machine, H::Job>,
        now: Instant,
        conn: ConnId,
        how: StreamEnd,
    ) {
        match state.conns.get_mut(&conn) {
            Some(entry) if entry.writing => entry.ended = Some(how),
            _ => state.machine.handle_closed(now, conn, how),
        }
    }
}

pub(super) fn how_it_ended(error: &io::Error) -> StreamEnd {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            StreamEnd::Reset
        }
        io::ErrorKind::TimedOut => StreamEnd::TimedOut,
        _ => StreamEnd::Broken,
    }
}

/// A port whose user asks for everything himself.
pub(crate) struct Bare<M>(core::marker::PhantomData<fn() -> M>);

impl<M> Bare<M> {
    pub(crate) fn new() -> Self {
        Bare(core::marker::PhantomData)
    }
}

impl<M: Machine + Send + 'static> Handler for Bare<M> {
    type Machine = M;
    type Job = ();
    const IS_BARE: bool = true;

    fn collect(&self, _machine: &mut M, _jobs: &mut Vec<()>) {}

    fn run(&self, _port: &Arc<Port<Self>>, _jobs: &mut Vec<()>) {}

    fn is_over(&self, _machine: &M) -> bool {
        false
    }
}

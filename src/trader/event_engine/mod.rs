//! The event engine: one queue, one thread, handlers by type, a timer.

mod handlers;
mod queue;
#[cfg(test)]
mod tests;

use core::fmt;
use std::boxed::Box;
use std::io;
use std::string::String;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::Event;
pub(super) use handlers::discard;
pub use handlers::HandlerId;
use handlers::Handlers;
use queue::{Busy, Entry, Next, Queue, Timer};

/// Hands events to handlers, one at a time, in the order in which they were put, on one thread.
///
/// For each event the handlers of its general type come first, then those of its specific type, then those who want
/// everything; among each the one that was registered first. A handler that panics has lost that event, is counted
/// ([`EventEngineStats::handler_panics`]) and logged, and stays registered; all others get the event, and the engine goes on.
///
/// **Nothing is lost silently.** The queue has a limit ([`EventEngineConfig::capacity`]). When it is full, [`put`] waits
/// for room, and after [`EventEngineConfig::put_timeout`] gives an error that is counted. A handler may put too: its
/// thread is the one that makes room, so it never waits, and may fill the queue up to twice the limit instead.
///
/// The timer ([`Event::Timer`]) does not go through the queue: it is handed out between two events when it is due, however
/// long the queue is. What falls due while one handler runs comes once, and events have their turn between two timers.
///
/// A handle: clones are the same engine. It stops when the last one goes; a handler that holds one keeps it running until
/// [`stop`](EventEngine::stop), and in memory until it is unregistered. After a stop it can be started again, with its
/// handlers.
///
/// ```
/// use std::sync::mpsc;
/// use pulsewire::trader::{CustomData, Event, EventEngine, EVENT_TIMER};
///
/// let engine = EventEngine::new();
/// let (sender, heard) = mpsc::channel();
/// engine.register("eHello", move |event| sender.send(event.clone()).unwrap());
/// engine.register(EVENT_TIMER, |_| println!("a second has passed"));
/// engine.start()?;
/// let hello = Event::custom("eHello", CustomData::Text("world".into()))?;
/// engine.put(hello.clone())?;
/// assert_eq!(heard.recv()?, hello);
/// assert_eq!(engine.stop().dropped, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`put`]: EventEngine::put
#[derive(Clone)]
pub struct EventEngine {
    inner: Arc<Inner>,
}

/// Stops the engine when the last handle goes: the thread itself holds what is inside.
struct Inner {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Queue,
    handlers: Handlers,
    config: EventEngineConfig,
}

/// How an [`EventEngine`] is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventEngineConfig {
    /// Events that may wait. Default 65 536, a few seconds of a busy market: some 20 MiB of ticks at most, twice that
    /// with what handlers put. Less makes gateways wait for slow handlers sooner; more lets strategies see older prices.
    pub capacity: usize,
    /// How long [`EventEngine::put`] waits for room. Default 5 s. Less gives up on events that could still be taken;
    /// more holds a gateway's thread longer, and if the handler that blocks the engine waits for that gateway, both.
    pub put_timeout: Duration,
    /// Time between two timer events, `None` for no timer. Default 1 s, as in vn.py.
    pub timer_interval: Option<Duration>,
    /// How long [`EventEngine::stop`] lets the engine work off what waits, before the rest is dropped and counted.
    /// Default 5 s.
    pub drain_timeout: Duration,
}

impl Default for EventEngineConfig {
    fn default() -> Self {
        EventEngineConfig {
            capacity: 65_536,
            put_timeout: Duration::from_secs(5),
            timer_interval: Some(Duration::from_secs(1)),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// Handlers decode, compute and call gateways.
const STACK_BYTES: usize = 2 * 1024 * 1024;

impl EventEngine {
    /// An engine with the default configuration. It takes events, and hands them out once it is started.
    pub fn new() -> Self {
        Self::with_config(EventEngineConfig::default())
    }

    /// An engine that is set up otherwise. A capacity of 0 counts as 1, an interval of no time as no timer.
    pub fn with_config(mut config: EventEngineConfig) -> Self {
        config.capacity = config.capacity.max(1);
        config.timer_interval = config.timer_interval.filter(|interval| !interval.is_zero());
        let queue = Queue::new(config.clone());
        let shared = Arc::new(Shared { queue, handlers: Handlers::default(), config });
        EventEngine { inner: Arc::new(Inner { shared }) }
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// It is running, a handler of its last life has not come back, or the system starts no thread.
    pub fn start(&self) -> Result<(), StartError> {
        let shared = Arc::clone(&self.inner.shared);
        shared.queue.begin().map_err(|busy| match busy {
            Busy::Running => StartError::AlreadyRunning,
            Busy::Stopping => StartError::StillStopping,
        })?;
        let builder = thread::Builder::new().name(String::from("pulsewire-engine")).stack_size(STACK_BYTES);
        // Nobody joins: stop waits for the word that it is over, and no longer than it may.
        builder.spawn(move || shared.run()).map_err(|error| {
            self.inner.shared.queue.ended();
            StartError::Thread(error)
        })?;
        Ok(())
    }

    /// Takes no more events, hands out those that wait, and ends the thread. Returns when that is done, or after
    /// [`EventEngineConfig::drain_timeout`]; what was not handed out is dropped, and counted in the answer.
    ///
    /// On the engine's own thread, in a handler, it does not wait: the engine ends after that handler and what waits.
    /// Stopping twice is harmless.
    pub fn stop(&self) -> Stopped {
        self.inner.shared.queue.stop()
    }

    /// It has been started, and not stopped.
    pub fn is_running(&self) -> bool {
        self.inner.shared.queue.is_running()
    }

    /// Puts an event behind all others. Waits while the queue is full, but never in a handler.
    ///
    /// # Errors
    /// No room came in time, or the engine is stopped. The event reaches nobody, and is counted.
    pub fn put(&self, event: impl Into<Event>) -> Result<(), PutError> {
        self.inner.shared.queue.put(Entry::Event(event.into()), self.inner.shared.config.put_timeout)
    }

    /// As [`EventEngine::put`], for who cannot wait.
    ///
    /// # Errors
    /// There is no room, or the engine is stopped. The event reaches nobody, and is counted.
    pub fn try_put(&self, event: impl Into<Event>) -> Result<(), PutError> {
        self.inner.shared.queue.put(Entry::Event(event.into()), Duration::ZERO)
    }

    /// Runs something on the engine's thread, once, when its turn comes: behind all that has been put, and before all
    /// that is put from now on. No handler runs meanwhile, so whatever handlers keep is seen as one moment left it. Waits
    /// while the queue is full, as [`EventEngine::put`]. A panic ends in the count of those of handlers.
    ///
    /// # Errors
    /// No room came in time, or the engine is stopped. It will not run. Nor will it if the engine is stopped before its
    /// turn: then it is dropped.
    pub fn run_in_turn(&self, job: impl FnOnce() + Send + 'static) -> Result<(), PutError> {
        self.inner.shared.queue.put(Entry::Job(Box::new(job)), self.inner.shared.config.put_timeout)
    }

    /// Calls `handler` for all events of a type, general (`eTick.`) or specific (`eTick.rb2410.SHFE`), from the next
    /// event on that is handed out. It runs on the engine's thread, and holds up all other events while it does.
    pub fn register<F>(&self, event_type: impl Into<String>, handler: F) -> HandlerId
    where
        F: FnMut(&Event) + Send + 'static,
    {
        self.inner.shared.handlers.add(Some(event_type.into()), Box::new(handler))
    }

    /// Calls `handler` for all events, the timer among them, once each and after the handlers by type.
    pub fn register_general<F>(&self, handler: F) -> HandlerId
    where
        F: FnMut(&Event) + Send + 'static,
    {
        self.inner.shared.handlers.add(None, Box::new(handler))
    }

    /// Ends a registration. Says whether there was one. A call that has begun goes on; none begins afterwards.
    pub fn unregister(&self, handler: HandlerId) -> bool {
        self.inner.shared.handlers.remove(handler)
    }

    /// What has been counted since the engine was made.
    pub fn stats(&self) -> EventEngineStats {
        let shared = &self.inner.shared;
        EventEngineStats { handler_panics: shared.handlers.panics(), ..shared.queue.stats() }
    }
}

impl Default for EventEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for EventEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventEngine").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Shared {
    fn run(&self) {
        self.queue.is_mine();
        let mut timer = Timer::new(self.config.timer_interval);
        let mut scratch = String::new();
        loop {
            match self.queue.next(&mut timer) {
                Next::Dispatch(event) => self.handlers.dispatch(&event, &mut scratch),
                Next::Run(job) => self.handlers.guard("in turn", job),
                Next::End => break,
            }
        }
        self.queue.ended();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let dropped = self.shared.queue.stop().dropped;
        if dropped > 0 {
            log::warn!("events-dropped: {dropped} at the end of the event engine");
        }
    }
}

/// Why an engine was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It is running.
    #[error("the event engine is running")]
    AlreadyRunning,
    /// It was stopped, and a handler has not come back since.
    #[error("the event engine is still stopping")]
    StillStopping,
    /// The system starts no thread.
    #[error("no thread for the event engine: {0}")]
    Thread(#[source] io::Error),
}

/// Why an event was not taken. It reaches nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// As many events wait as may wait, and no room came in time.
    #[error("{limit} events are waiting")]
    Full {
        /// As many as may wait.
        limit: usize,
    },
    /// The engine has been stopped.
    #[error("the event engine is stopped")]
    Stopped,
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "events may have been dropped"]
#[non_exhaustive]
pub struct Stopped {
    /// Events that were put and reached nobody.
    pub dropped: u64,
    /// The thread has ended. If not, a handler has not come back, or is the one who stops.
    pub is_over: bool,
}

/// What an engine counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EventEngineStats {
    /// Events that were taken.
    pub put: u64,
    /// Puts that had to wait for room.
    pub waited: u64,
    /// Events that were not taken; their putters got an error.
    pub refused: u64,
    /// Events that were taken and dropped at a stop.
    pub dropped: u64,
    /// Events that are waiting now, and what is to run in its turn.
    pub queued: usize,
    /// Timer events.
    pub timers: u64,
    /// Calls of handlers that ended in a panic.
    pub handler_panics: u64,
}

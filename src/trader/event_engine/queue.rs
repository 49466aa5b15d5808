//! The events that wait, who waits to put one, and how that ends.

use std::boxed::Box;
use std::collections::VecDeque;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::{EventEngineConfig, EventEngineStats, PutError, Stopped};
use crate::trader::Event;

/// Events between those who put them and the engine's thread, first in, first out.
pub(super) struct Queue {
    state: Mutex<State>,
    /// Told when an idle engine has something to do.
    work: Condvar,
    /// Told when there is room again.
    room: Condvar,
    /// Told when the thread has ended.
    end: Condvar,
    config: EventEngineConfig,
}

/// Something to run on the engine's thread between two events.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// What waits for the engine's thread.
pub(super) enum Entry {
    Event(Event),
    Job(Job),
}

struct State {
    /// Invariant: at most twice the capacity; others than the engine's thread put up to the capacity only.
    entries: VecDeque<Entry>,
    phase: Phase,
    /// The thread waits for `work`.
    is_idle: bool,
    /// How many wait for `room`.
    waiting: usize,
    stats: EventEngineStats,
}

/// Idle -> Running -> Stopping -> Stopped -> Running ...
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Never started: events may be put already.
    Idle,
    Running {
        /// `None` until the thread has said who it is.
        thread: Option<ThreadId>,
    },
    /// The thread works off what has been put, until the deadline.
    Stopping {
        thread: Option<ThreadId>,
        deadline: Instant,
    },
    Stopped,
}

/// When the next timer event is due; the engine's thread has it.
pub(super) struct Timer {
    interval: Duration,
    /// `None` for never.
    due: Option<Instant>,
    /// The timer was the last event handed out.
    was_last: bool,
}

impl Timer {
    pub(super) fn new(interval: Option<Duration>) -> Self {
        let due = interval.and_then(|interval| Instant::now().checked_add(interval));
        Timer { interval: interval.unwrap_or_default(), due, was_last: false }
    }

    /// Whether it is its turn now; if so, the next one is an interval away. Never twice in a row while events wait, so
    /// that handlers of the timer that take longer than the interval do not keep all others from working.
    fn fires(&mut self, now: Instant, is_empty: bool) -> bool {
        let fires = self.due.is_some_and(|due| now >= due) && (is_empty || !self.was_last);
        if fires {
            self.due = now.checked_add(self.interval);
            self.was_last = true;
        }
        fires
    }
}

/// What the engine's thread is to do.
pub(super) enum Next {
    Dispatch(Event),
    Run(Job),
    /// It is over.
    End,
}

/// Why an engine cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Busy {
    Running,
    Stopping,
}

impl Queue {
    pub(super) fn new(config: EventEngineConfig) -> Self {
        let state = State {
            entries: VecDeque::new(),
            phase: Phase::Idle,
            is_idle: false,
            waiting: 0,
            stats: EventEngineStats::default(),
        };
        Queue {
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
            end: Condvar::new(),
            config,
        }
    }

    /// Puts an event or a job behind all others; waits for room up to `patience`, but never on the engine's own thread.
    pub(super) fn put(&self, entry: Entry, patience: Duration) -> Result<(), PutError> {
        let mut state = self.lock();
        let is_own = state.is_own_thread();
        let limit = if is_own { self.config.capacity.saturating_mul(2) } else { self.config.capacity };
        let mut deadline = None;
        loop {
            if !state.accepts(is_own) {
                state.stats.refused += 1;
                return Err(PutError::Stopped);
            }
            if state.entries.len() < limit {
                break;
            }
            let now = Instant::now();
            let until = *deadline.get_or_insert_with(|| {
                state.stats.waited += u64::from(!is_own && !patience.is_zero());
                now + patience
            });
            if is_own || now >= until {
                state.stats.refused += 1;
                return Err(PutError::Full { limit });
            }
            state.waiting += 1;
            let waited = self.room.wait_timeout(state, until - now).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            state.waiting -= 1;
        }
        state.stats.put += u64::from(matches!(entry, Entry::Event(_)));
        state.entries.push_back(entry);
        // A busy thread looks again before it waits: no system call for it.
        let wake = mem::take(&mut state.is_idle);
        drop(state);
        if wake {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Waits for the next event, or for the timer.
    pub(super) fn next(&self, timer: &mut Timer) -> Next {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if let Phase::Stopping { deadline, .. } = state.phase {
                if now >= deadline {
                    let unheard = state.take_all();
                    drop(state);
                    drop(unheard);
                    return Next::End;
                }
                if state.entries.is_empty() {
                    return Next::End;
                }
            } else if timer.fires(now, state.entries.is_empty()) {
                state.stats.timers += 1;
                return Next::Dispatch(Event::Timer);
            }
            if let Some(entry) = state.entries.pop_front() {
                if state.waiting > 0 && state.entries.len() < self.config.capacity {
                    self.room.notify_one();
                }
                timer.was_last = false;
                return match entry {
                    Entry::Event(event) => Next::Dispatch(event),
                    Entry::Job(job) => Next::Run(job),
                };
            }
            state.is_idle = true;
            state = match timer.due {
                Some(due) => {
                    let waited = self.work.wait_timeout(state, due.saturating_duration_since(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.is_idle = false;
        }
    }

    /// A thread is about to be started; it is the only one until [`Queue::ended`].
    pub(super) fn begin(&self) -> Result<(), Busy> {
        let mut state = self.lock();
        match state.phase {
            Phase::Running { .. } => Err(Busy::Running),
            Phase::Stopping { .. } => Err(Busy::Stopping),
            Phase::Idle | Phase::Stopped => {
                state.phase = Phase::Running { thread: None };
                Ok(())
            }
        }
    }

    /// The calling thread is the engine's.
    pub(super) fn is_mine(&self) {
        let me = Some(thread::current().id());
        match &mut self.lock().phase {
            Phase::Running { thread } | Phase::Stopping { thread, .. } => *thread = me,
            Phase::Idle | Phase::Stopped => {}
        }
    }

    /// The thread has ended, or never came to be.
    pub(super) fn ended(&self) {
        let mut state = self.lock();
        state.phase = Phase::Stopped;
        let unheard = state.take_all();
        drop(state);
        self.room.notify_all();
        self.end.notify_all();
        drop(unheard);
    }

    /// Takes no more events from others, and waits until those that are there are worked off, up to the drain timeout.
    pub(super) fn stop(&self) -> Stopped {
        let mut state = self.lock();
        let is_own = state.is_own_thread();
        let before = state.stats.dropped;
        let mut unheard = VecDeque::new();
        match state.phase {
            Phase::Running { thread } => {
                let deadline = Instant::now() + self.config.drain_timeout;
                state.phase = Phase::Stopping { thread, deadline };
                self.work.notify_one();
            }
            Phase::Idle => {
                state.phase = Phase::Stopped;
                unheard = state.take_all();
            }
            Phase::Stopping { .. } | Phase::Stopped => {}
        }
        self.room.notify_all();
        while let Phase::Stopping { deadline, .. } = state.phase {
            let now = Instant::now();
            if is_own || now >= deadline {
                break;
            }
            let waited = self.end.wait_timeout(state, deadline - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let is_over = state.phase == Phase::Stopped;
        if !is_over && !is_own {
            unheard = state.take_all(); // A handler has not come back: what waits behind it has waited long enough.
        }
        let dropped = state.stats.dropped - before;
        drop(state);
        drop(unheard); // Jobs are the user's: not under the lock.
        Stopped { dropped, is_over }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.lock().phase, Phase::Running { .. })
    }

    pub(super) fn stats(&self) -> EventEngineStats {
        let state = self.lock();
        EventEngineStats { queued: state.entries.len(), ..state.stats.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_own_thread(&self) -> bool {
        match self.phase {
            Phase::Running { thread } | Phase::Stopping { thread, .. } => {
                thread == Some(thread::current().id())
            }
            Phase::Idle | Phase::Stopped => false,
        }
    }

    /// While it stops, handlers may still put what belongs to the events that they are given.
    fn accepts(&self, is_own: bool) -> bool {
        match self.phase {
            Phase::Idle | Phase::Running { .. } => true,
            Phase::Stopping { .. } => is_own,
            Phase::Stopped => false,
        }
    }

    /// Takes out what waits, to be dropped when the lock is free, and counts the events among it as dropped.
    fn take_all(&mut self) -> VecDeque<Entry> {
        let events = self.entries.iter().filter(|entry| matches!(entry, Entry::Event(_))).count();
        self.stats.dropped += u64::try_from(events).unwrap_or(u64::MAX);
        mem::take(&mut self.entries)
    }
}

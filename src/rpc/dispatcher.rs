//! The thread that callbacks run on: one per client, started with the first callback.

use std::boxed::Box;
use std::collections::VecDeque;
use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::string::String;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::lane::discard;

/// Something to run on the dispatcher's thread.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs in order on one thread. A panic in one ends that job, is logged, and the next one runs.
pub(crate) struct Dispatcher {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    stopped: bool,
}

const STACK_BYTES: usize = 1024 * 1024;

impl Dispatcher {
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), work: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let builder = thread::Builder::new().name(String::from("pulsewire-events")).stack_size(STACK_BYTES);
        builder.spawn(move || theirs.run())?;
        Ok(Dispatcher { shared })
    }

    /// Runs a job after those before it. A subscription has one job under way; what happens to connections comes no
    /// faster than they are dialled.
    pub(crate) fn push(&self, job: Job) {
        let mut state = self.shared.lock();
        if !state.stopped {
            state.jobs.push_back(job);
            self.shared.work.notify_one();
        }
    }
}

impl Dispatcher {
    /// Runs a job after those before it, unless very many wait already: whoever hangs is not told of everything.
    pub(crate) fn push_or_drop(&self, job: Job) {
        let waiting = self.shared.lock().jobs.len();
        match waiting < MOST_JOBS {
            true => self.push(job),
            false => log::warn!("callback-behind: {waiting} wait, one more is dropped"),
        }
    }
}

/// News that wait for a callback that hangs.
const MOST_JOBS: usize = 1_024;

impl Dispatcher {
    /// Takes no more jobs; the thread ends with the last one.
    pub(crate) fn stop_when_done(&self) {
        self.shared.lock().stopped = true;
        self.shared.work.notify_one();
    }
}

impl Drop for Dispatcher {
    /// The job that runs is not waited for: it may be the one that drops us.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopped = true;
        let unrun = core::mem::take(&mut state.jobs);
        drop(state);
        drop(unrun);
        self.shared.work.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                if let Err(panic) = catch_unwind(AssertUnwindSafe(job)) {
                    discard(panic);
                    log::warn!("callback-panicked");
                }
                state = self.lock();
            } else if state.stopped {
                return;
            } else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

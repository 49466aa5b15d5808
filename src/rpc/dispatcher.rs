//! The thread that callbacks run on: one per client, started with the first callback.
//!
//! Once a callback gets events, it attends its client's driver while it has nothing to run, and turns it if nobody waits for
//! a reply: then an event is read by the thread that its callback runs on, and nobody has to be woken for it. It never has
//! the driver while a callback runs.

use std::boxed::Box;
use std::collections::VecDeque;
use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::string::String;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

use super::lane::discard;
use crate::net;

/// Something to run on the dispatcher's thread.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs in order on one thread. A panic in one ends that job, is logged, and the next one runs.
pub(crate) struct Dispatcher {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    stopped: bool,
    /// Whose driver the thread turns while it waits.
    driven: Option<Arc<net::Shared>>,
    /// The thread, once it has found nothing to do.
    waiting: Option<Thread>,
}

const STACK_BYTES: usize = 1024 * 1024;

impl Dispatcher {
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default() });
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
            state.rouse();
        }
    }

    /// Turns this driver while it waits, and no other any more. False, and all is as before, if the driver `is_ending`:
    /// whoever has it end says so first, and calls [`Dispatcher::leave`] after.
    pub(crate) fn attend(&self, driven: &Arc<net::Shared>, is_ending: impl FnOnce() -> bool) -> bool {
        let mut state = self.shared.lock();
        // Under the lock, so that one that ends now is left after this.
        if is_ending() {
            return false;
        }
        if !state.is_driven(driven) {
            state.let_go();
            state.driven = Some(Arc::clone(driven));
            driven.lead.note_attended(true);
        }
        true
    }

    /// Turns this driver no more: it has to come to its end.
    pub(crate) fn leave(&self, driven: &Arc<net::Shared>) {
        let mut state = self.shared.lock();
        if state.is_driven(driven) {
            state.let_go();
        }
    }

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
        let mut state = self.shared.lock();
        state.stopped = true;
        state.rouse();
    }
}

impl Drop for Dispatcher {
    /// The job that runs is not waited for: it may be the one that drops us.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopped = true;
        state.rouse();
        let unrun = core::mem::take(&mut state.jobs);
        drop(state);
        drop(unrun);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            match self.wait() {
                Next::Job(job) => {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(job)) {
                        discard(panic);
                        log::warn!("callback-panicked");
                    }
                }
                Next::End => return,
            }
        }
    }

    fn wait(&self) -> Next {
        loop {
            let driven = self.lock().driven.clone();
            let next = match &driven {
                Some(shared) => shared.lead.attend(shared, || self.look(driven.as_ref())),
                None => self.look(None).or_else(|| {
                    thread::park();
                    None
                }),
            };
            if let Some(Some(next)) = next {
                return next;
            }
        }
    }

    /// What there is to do; `Some(None)` if it is to turn another driver. Else whatever comes rouses the thread.
    fn look(&self, driven: Option<&Arc<net::Shared>>) -> Option<Option<Next>> {
        let mut state = self.lock();
        state.waiting = None;
        if let Some(job) = state.jobs.pop_front() {
            return Some(Some(Next::Job(job)));
        }
        if state.stopped {
            return Some(Some(Next::End));
        }
        if driven.map_or(state.driven.is_some(), |driven| !state.is_driven(driven)) {
            return Some(None);
        }
        state.waiting = Some(thread::current());
        None
    }
}

/// What the thread does next.
enum Next {
    Job(Job),
    End,
}

impl State {
    fn is_driven(&self, driven: &Arc<net::Shared>) -> bool {
        self.driven.as_ref().is_some_and(|other| Arc::ptr_eq(other, driven))
    }

    /// Turns no driver any more. The thread is told, where it waits.
    fn let_go(&mut self) {
        self.rouse();
        if let Some(driven) = self.driven.take() {
            driven.lead.note_attended(false);
        }
    }

    /// The thread has something to look at, if it waits.
    fn rouse(&mut self) {
        let Some(thread) = self.waiting.take() else { return };
        match &self.driven {
            Some(shared) => shared.lead.rouse(&thread, shared),
            None => thread.unpark(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, Receiver};
    use std::time::Duration;

    use super::*;
    use crate::net::{DriverThread, Instant, Keepalive};
    use crate::pattern::Limits;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn push(dispatcher: &Dispatcher) -> Receiver<()> {
        let (sender, done) = channel();
        dispatcher.push(Box::new(move || sender.send(()).expect("the test waits for it")));
        done
    }

    /// Pushes a job whenever the thread has found nothing to do.
    fn push_many(dispatcher: &Dispatcher) {
        for _ in 0..200 {
            push(dispatcher).recv_timeout(DEADLINE).expect("it was told");
            while dispatcher.shared.lock().waiting.is_none() {
                thread::yield_now();
            }
        }
    }

    #[test]
    fn jobs_are_run_at_once_whoever_turns_the_driver() {
        let dispatcher = Dispatcher::start().unwrap();
        push_many(&dispatcher);
        for _ in 0..3 {
            let (driver, shared) = net::driver(&Limits::tiny(), Keepalive::default()).unwrap();
            let driver = DriverThread::start("test", driver, true).unwrap();
            assert!(dispatcher.attend(&shared, || false));
            push_many(&dispatcher);
            let leads =
                |state: &State| state.waiting.as_ref().is_some_and(|thread| shared.lead.is_led_by(thread));
            let deadline = std::time::Instant::now() + DEADLINE;
            while !leads(&dispatcher.shared.lock()) {
                assert!(std::time::Instant::now() < deadline, "it never turns the driver itself");
                push(&dispatcher).recv_timeout(DEADLINE).expect("it was told");
                thread::yield_now();
            }
            push_many(&dispatcher);
            let found = shared.lead.wait(&shared, Instant::NEVER, || {
                // Another one may have the driver meanwhile, and lets it go.
                let done = push(&dispatcher);
                done.recv_timeout(DEADLINE).ok()
            });
            assert_eq!(found, Some(()));
            dispatcher.leave(&shared);
            push_many(&dispatcher);
            driver.finish();
        }
    }

    #[test]
    fn one_driver_is_attended_and_never_one_that_ends() {
        let dispatcher = Dispatcher::start().unwrap();
        let [one, two, ending] =
            [(); 3].map(|()| net::driver(&Limits::tiny(), Keepalive::default()).unwrap().1);
        let attended = || [&one, &two, &ending].map(|shared| shared.lead.is_attended());
        assert!(dispatcher.attend(&one, || false));
        assert_eq!(attended(), [true, false, false]);
        assert!(dispatcher.attend(&two, || false));
        assert_eq!(attended(), [false, true, false], "the one before is left");
        assert!(!dispatcher.attend(&ending, || true));
        assert_eq!(attended(), [false, true, false], "the one that lives is not");
        dispatcher.leave(&one);
        assert_eq!(attended(), [false, true, false]);
        dispatcher.leave(&two);
        assert_eq!(attended(), [false; 3]);
    }

    #[test]
    fn a_panic_ends_its_own_job_and_no_other() {
        let dispatcher = Dispatcher::start().unwrap();
        dispatcher.push(Box::new(|| panic!("as it does")));
        push(&dispatcher).recv_timeout(DEADLINE).expect("the next one runs");
    }
}

//! A lane: one named thread that does its jobs one after the other, in the order in which they came.

use std::any::Any;
use std::boxed::Box;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::string::String;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;
use std::vec::Vec;

/// One named thread that runs jobs one at a time, first in, first out.
///
/// A job that panics is counted and ends; the lane goes on with the next one. A job that waits for another job of its
/// own lane waits for ever. Nothing of the user's runs under the lane's lock.
///
/// Dropping a lane closes it, drops the jobs that have not started, and leaves a running one to end by itself.
#[derive(Debug)]
pub(crate) struct Lane<J> {
    shared: Arc<Shared<J>>,
    name: String,
    thread_id: ThreadId,
    /// Taken by whoever sees the end first.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Why a job was not taken; it comes back untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused<J> {
    /// As many jobs are waiting as may wait.
    Full(J),
    /// The lane was closed.
    Closed(J),
}

#[derive(Debug)]
struct Shared<J> {
    state: Mutex<State<J>>,
    /// Told when there is a job for an idle thread, and at the close.
    work: Condvar,
    /// Told when the thread has ended.
    end: Condvar,
    /// Jobs that may wait at the same time.
    max_jobs: usize,
}

#[derive(Debug)]
struct State<J> {
    /// Jobs that have not started. Invariant: at most `max_jobs`.
    queue: VecDeque<J>,
    /// The thread waits for `work`; otherwise it looks into the queue by itself.
    is_idle: bool,
    is_closed: bool,
    has_ended: bool,
    panics: u64,
}

impl<J: Send + 'static> Lane<J> {
    /// Starts the thread, which gives each job to `run`; at most `max_jobs` wait at the same time.
    ///
    /// `stack_bytes` has to do for the deepest job: too little ends the process, too much is address space only. The
    /// system may round it up. Linux shows the first 15 bytes of the name.
    ///
    /// # Errors
    /// Whatever keeps the system from starting a thread, and `InvalidInput` for a name with a zero byte in it.
    pub(crate) fn start(
        name: &str,
        stack_bytes: usize,
        max_jobs: usize,
        run: impl FnMut(J) + Send + 'static,
    ) -> io::Result<Self> {
        if name.contains('\0') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "name of a thread with a zero byte"));
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                is_idle: false,
                is_closed: false,
                has_ended: false,
                panics: 0,
            }),
            work: Condvar::new(),
            end: Condvar::new(),
            max_jobs,
        });
        let thread = thread::Builder::new().name(name.into()).stack_size(stack_bytes).spawn({
            let shared = Arc::clone(&shared);
            move || shared.work_off(run)
        })?;
        Ok(Lane {
            shared,
            name: name.into(),
            thread_id: thread.thread().id(),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Puts a job behind all others. Never blocks on a job.
    ///
    /// # Errors
    /// The job comes back if the lane is full or closed; it has not run and never will.
    pub(crate) fn push(&self, job: J) -> Result<(), Refused<J>> {
        let mut state = self.shared.lock();
        if state.is_closed {
            return Err(Refused::Closed(job));
        }
        if state.queue.len() >= self.shared.max_jobs {
            return Err(Refused::Full(job));
        }
        state.queue.push_back(job);
        // A busy thread looks again before it waits: no system call for it.
        let wake = mem::take(&mut state.is_idle);
        drop(state);
        if wake {
            self.shared.work.notify_one();
        }
        Ok(())
    }
}

impl<J> Lane<J> {
    /// The thread's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Jobs that have not started.
    pub(crate) fn len(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// Jobs that ended in a panic.
    #[cfg(test)]
    pub(crate) fn panics(&self) -> u64 {
        self.shared.lock().panics
    }

    /// Takes no more jobs. Never waits; may be called again, and from within a job.
    ///
    /// With `take_rest` the jobs that have not started come back, in their order, and the thread ends after the one
    /// that is running. Without, nothing comes back, and the thread ends after the last job.
    pub(crate) fn close(&self, take_rest: bool) -> Vec<J> {
        let mut state = self.shared.lock();
        state.is_closed = true;
        let rest = if take_rest { mem::take(&mut state.queue) } else { VecDeque::new() };
        drop(state);
        self.shared.work.notify_one();
        rest.into()
    }

    /// Waits until the thread of a closed lane has ended, for `timeout` at most; says whether it has.
    ///
    /// Called from the lane itself it says `false` at once: the job that asks is still running. Without a
    /// [`Lane::close`] before it, it waits in vain.
    pub(crate) fn join_within(&self, timeout: Duration) -> bool {
        if thread::current().id() == self.thread_id {
            return false;
        }
        let state = self.shared.lock();
        let waited = self.shared.end.wait_timeout_while(state, timeout, |state| !state.has_ended);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let has_ended = state.has_ended;
        drop(state);
        if has_ended {
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            // It has nothing left to do but return, so that this does not wait, and it caught every panic.
            let _ = thread.map(JoinHandle::join);
        }
        has_ended
    }
}

impl<J> Drop for Lane<J> {
    fn drop(&mut self) {
        drop(self.close(true));
    }
}

impl<J> Shared<J> {
    /// What the thread does until the end.
    fn work_off(&self, mut run: impl FnMut(J)) {
        while let Some(job) = self.next() {
            // Whatever `run` leaves behind in a bad state is its own, and it is told so by its own panic.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(job))) {
                self.lock().panics += 1;
                discard(panic);
            }
        }
        // What `run` owns is the user's, too, and goes before anybody is told that the thread has ended.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(run))) {
            discard(panic);
        }
        self.lock().has_ended = true;
        self.end.notify_all();
    }

    /// Waits for the next job; `None` is the end.
    fn next(&self) -> Option<J> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            if state.is_closed {
                return None;
            }
            state.is_idle = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.is_idle = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what somebody panicked with, which may panic once more; what comes of that is left alone.
pub(crate) fn discard(panic: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        mem::forget(second);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, Receiver, Sender};

    use super::*;

    /// How long a test waits for what must come.
    const PATIENCE: Duration = Duration::from_secs(10);
    const STACK_BYTES: usize = 64 * 1024;

    /// A lane whose jobs say their number and then wait for the test to let them go.
    struct Bench {
        lane: Lane<u32>,
        began: Receiver<u32>,
        go: Sender<()>,
    }

    impl Bench {
        fn new(max_jobs: usize) -> Self {
            let (began_tx, began) = channel();
            let (go, gone) = channel();
            let lane = Lane::start("bench", STACK_BYTES, max_jobs, move |job: u32| {
                began_tx.send(job).unwrap();
                gone.recv_timeout(PATIENCE).expect("every job is let go");
            });
            Bench { lane: lane.unwrap(), began, go }
        }

        fn expect_began(&self, job: u32) {
            assert_eq!(self.began.recv_timeout(PATIENCE), Ok(job));
        }
    }

    #[test]
    fn jobs_run_one_at_a_time_in_their_order() {
        let bench = Bench::new(usize::MAX);
        for job in 0..100 {
            bench.lane.push(job).unwrap();
        }
        for job in 0..100 {
            bench.expect_began(job);
            assert!(bench.began.try_recv().is_err(), "one at a time");
            assert_eq!(bench.lane.len(), 99 - usize::try_from(job).unwrap());
            bench.go.send(()).unwrap();
        }
    }

    #[test]
    fn jobs_of_many_pushers_all_run_each_pushers_in_order() {
        const PUSHERS: usize = 4;
        const JOBS: usize = 5_000;
        let (ran_tx, ran) = channel();
        let lane = Lane::start("busy", STACK_BYTES, usize::MAX, move |job: (usize, usize)| {
            ran_tx.send(job).unwrap();
        });
        let lane = lane.unwrap();
        thread::scope(|scope| {
            for pusher in 0..PUSHERS {
                let lane = &lane;
                scope.spawn(move || (0..JOBS).for_each(|job| lane.push((pusher, job)).unwrap()));
            }
        });
        assert!(lane.close(false).is_empty());
        assert!(lane.join_within(PATIENCE));
        let mut next = [0; PUSHERS];
        for (pusher, job) in ran {
            assert_eq!(job, next[pusher]);
            next[pusher] += 1;
        }
        assert_eq!(next, [JOBS; PUSHERS]);
    }

    #[test]
    fn thread_has_the_lanes_name() {
        let (name_tx, name) = channel();
        let lane = Lane::start("history", STACK_BYTES, 1, move |()| {
            name_tx.send(thread::current().name().map(String::from)).unwrap();
        });
        let lane = lane.unwrap();
        lane.push(()).unwrap();
        assert_eq!(name.recv_timeout(PATIENCE).unwrap().as_deref(), Some("history"));
        assert_eq!(lane.name(), "history");
        let refused = Lane::start("a\0b", STACK_BYTES, 1, |()| {}).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn full_lane_gives_the_job_back() {
        let bench = Bench::new(2);
        bench.lane.push(1).unwrap();
        bench.expect_began(1);
        bench.lane.push(2).unwrap();
        bench.lane.push(3).unwrap();
        assert_eq!(bench.lane.push(4), Err(Refused::Full(4)), "the running one does not count");
        bench.go.send(()).unwrap();
        bench.expect_began(2);
        bench.lane.push(5).unwrap();
        for job in [3, 5] {
            bench.go.send(()).unwrap();
            bench.expect_began(job);
        }
        bench.go.send(()).unwrap();
    }

    #[test]
    fn panic_hurts_its_own_job_alone() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("a payload that panics when it is dropped");
            }
        }
        let (ran_tx, ran) = channel();
        let mut count = 0;
        let lane = Lane::start("brittle", STACK_BYTES, usize::MAX, move |job: u32| {
            count += 1;
            match job {
                1 => panic!("on purpose"),
                2 => std::panic::panic_any(Bomb),
                _ => ran_tx.send((job, count)).unwrap(),
            }
        });
        let lane = lane.unwrap();
        for job in [1, 2, 3] {
            lane.push(job).unwrap();
        }
        assert_eq!(ran.recv_timeout(PATIENCE), Ok((3, 3)));
        assert_eq!(lane.panics(), 2);
        lane.close(true);
        assert!(lane.join_within(PATIENCE));
    }

    #[test]
    fn close_gives_back_what_has_not_started() {
        let bench = Bench::new(usize::MAX);
        for job in 1..=4 {
            bench.lane.push(job).unwrap();
        }
        bench.expect_began(1);
        assert_eq!(bench.lane.close(true), [2, 3, 4]);
        assert_eq!(bench.lane.push(5), Err(Refused::Closed(5)));
        assert!(bench.lane.close(true).is_empty());
        assert_eq!(bench.lane.len(), 0);

        assert!(!bench.lane.join_within(Duration::ZERO), "the running job is not interrupted");
        bench.go.send(()).unwrap();
        assert!(bench.lane.join_within(PATIENCE));
        assert!(bench.lane.join_within(Duration::ZERO), "may be asked again");
        assert!(bench.began.recv().is_err(), "nothing else ran");
    }

    #[test]
    fn close_may_let_the_rest_run() {
        let bench = Bench::new(usize::MAX);
        for job in 1..=3 {
            bench.lane.push(job).unwrap();
        }
        assert!(bench.lane.close(false).is_empty());
        assert_eq!(bench.lane.push(4), Err(Refused::Closed(4)));
        for job in 1..=3 {
            bench.expect_began(job);
            assert!(!bench.lane.join_within(Duration::ZERO));
            bench.go.send(()).unwrap();
        }
        assert!(bench.lane.join_within(Duration::MAX));
        assert_eq!(bench.lane.panics(), 0);
    }

    #[test]
    fn close_from_within_a_job_does_not_wait_for_itself() {
        let lane: Arc<Mutex<Option<Arc<Lane<u32>>>>> = Arc::default();
        let (answer_tx, answer) = channel();
        let inner = Arc::clone(&lane);
        let started = Lane::start("self", STACK_BYTES, usize::MAX, move |job: u32| {
            let lane = inner.lock().unwrap().clone().expect("set before the first job");
            let rest = lane.close(true);
            answer_tx.send((job, rest, lane.join_within(Duration::MAX))).unwrap();
        });
        let outer = Arc::new(started.unwrap());
        let mut guard = lane.lock().unwrap();
        *guard = Some(Arc::clone(&outer));
        outer.push(1).unwrap();
        outer.push(2).unwrap();
        drop(guard);
        assert_eq!(answer.recv_timeout(PATIENCE).unwrap(), (1, [2].into(), false));
        assert!(outer.join_within(PATIENCE));
        *lane.lock().unwrap() = None;
    }

    #[test]
    fn drop_leaves_the_running_job_alone_and_drops_the_rest() {
        let Bench { lane, began, go } = Bench::new(usize::MAX);
        lane.push(1).unwrap();
        lane.push(2).unwrap();
        assert_eq!(began.recv_timeout(PATIENCE), Ok(1));
        drop(lane);
        // The job was still running: only now is it let go, and the channel closes when the thread has ended.
        go.send(()).unwrap();
        assert!(began.recv_timeout(PATIENCE).is_err());
    }

    #[test]
    fn end_is_told_after_what_the_lane_owned_is_gone() {
        let owned = Arc::new(());
        let inside = Arc::clone(&owned);
        let lane = Lane::start("owner", STACK_BYTES, 1, move |()| drop(Arc::clone(&inside))).unwrap();
        lane.push(()).unwrap();
        lane.close(false);
        assert!(lane.join_within(PATIENCE));
        assert_eq!(Arc::strong_count(&owned), 1);
    }
}

//! Names into addresses, on a thread of its own: the system's resolver blocks, for half a minute if it likes.

use std::boxed::Box;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::{SocketAddr, ToSocketAddrs};
use std::string::String;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::vec::Vec;

/// Resolves names one after the other on a thread of its own, started when the first one is asked for.
///
/// A query carries a token of the asker's; its answer comes back under the same one, by [`Resolver::try_take`]. For
/// each token the newest query counts and has exactly one answer: asking again for what is still waiting or under way
/// changes nothing, and asking for something else replaces it. Nothing is cached: every answer was looked up after its
/// first query was made.
///
/// Dropping never waits for a lookup: an idle thread is joined, a busy one is left to end by itself, silently.
#[derive(Debug)]
pub(crate) struct Resolver {
    shared: Arc<Shared>,
}

type Lookup = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send;
type Wake = dyn Fn() + Send + Sync;
/// A token and what was found for it.
pub(crate) type Answer = (u64, io::Result<Vec<SocketAddr>>);

struct Shared {
    state: Mutex<State>,
    /// Told when a query has come, and at the end.
    work: Condvar,
    /// Locked by the thread alone, for the length of a lookup.
    lookup: Mutex<Box<Lookup>>,
    wake: Arc<Wake>,
}

/// Invariant: a token stands in at most one of `queue`, `running` and `answers`, except that its newer query may wait
/// while an older one is running; then the older one's answer is thrown away.
#[derive(Default)]
struct State {
    queue: VecDeque<Query>,
    running: Option<Query>,
    answers: VecDeque<Answer>,
    /// The thread is in somebody else's code, a lookup or `wake`, and may stay there for long.
    is_busy: bool,
    is_stopped: bool,
    thread: Option<JoinHandle<()>>,
}

#[derive(PartialEq, Eq)]
struct Query {
    token: u64,
    host: String,
    port: u16,
}

impl Resolver {
    /// A resolver that asks the system, and calls `wake` from its thread whenever an answer can be taken.
    ///
    /// No lock is held during `wake`. It is not called for lookups that end after the resolver was dropped.
    pub(crate) fn new(wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self::with_lookup(wake, |host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }

    /// A resolver that asks `lookup`.
    pub(crate) fn with_lookup(
        wake: Arc<dyn Fn() + Send + Sync>,
        lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + 'static,
    ) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            lookup: Mutex::new(Box::new(lookup)),
            wake,
        };
        Resolver { shared: Arc::new(shared) }
    }

    /// Asks for the addresses of `host`, each with `port`. Never blocks on a lookup.
    ///
    /// # Errors
    /// `ResourceBusy` if [`MAX_QUERIES`] are waiting or not taken yet, and whatever keeps the thread from starting; no
    /// answer will come then. The world's fault, to be tried again like a failed lookup.
    pub(crate) fn resolve(&self, token: u64, host: &str, port: u16) -> io::Result<()> {
        let query = Query { token, host: host.into(), port };
        let mut state = self.shared.lock();
        state.answers.retain(|(answered, _)| *answered != token);
        if state.running.as_ref() == Some(&query) {
            state.queue.retain(|waiting| waiting.token != token);
            return Ok(());
        }
        if let Some(waiting) = state.queue.iter_mut().find(|waiting| waiting.token == token) {
            *waiting = query;
            return Ok(());
        }
        if state.queue.len() + state.answers.len() >= MAX_QUERIES {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "too many names to resolve"));
        }
        if state.thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let thread = thread::Builder::new().name(THREAD_NAME.into()).stack_size(STACK_BYTES);
            state.thread = Some(thread.spawn(move || shared.run())?);
        }
        state.queue.push_back(query);
        self.shared.work.notify_one();
        Ok(())
    }

    /// The next answer, if there is one: addresses, at least one and at most [`MAX_ADDRS`], or why there are none.
    pub(crate) fn try_take(&self) -> Option<Answer> {
        self.shared.lock().answers.pop_front()
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_stopped = true;
        let idle_thread = state.thread.take().filter(|_| !state.is_busy);
        let (queue, answers) = (mem::take(&mut state.queue), mem::take(&mut state.answers));
        drop(state);
        self.shared.work.notify_one();
        drop((queue, answers));
        if let Some(thread) = idle_thread {
            // A panic of it was reported where it happened; there is nothing left to save here.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// What the thread does until the end.
    fn run(&self) {
        let lookup = self.lookup.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((host, port)) = self.begin_next() {
            let result = lookup(&host, port).and_then(checked);
            if self.finish(result) {
                (self.wake)();
            }
        }
    }

    /// Waits for a query and marks it as running; `None` is the end.
    fn begin_next(&self) -> Option<(String, u16)> {
        let mut state = self.lock();
        state.is_busy = false;
        loop {
            if state.is_stopped {
                return None;
            }
            if let Some(query) = state.queue.pop_front() {
                let asked = (query.host.clone(), query.port);
                state.is_busy = true;
                state.running = Some(query);
                return Some(asked);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Puts the answer of the running query where it can be taken; `false` if nobody wants it any more.
    fn finish(&self, result: io::Result<Vec<SocketAddr>>) -> bool {
        let mut state = self.lock();
        let query = state.running.take().expect("the thread that runs it is the one that finishes it");
        let is_wanted = !state.is_stopped && state.queue.iter().all(|newer| newer.token != query.token);
        if is_wanted {
            state.answers.push_back((query.token, result));
        }
        is_wanted
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl core::fmt::Debug for Shared {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let state = self.lock();
        f.debug_struct("Shared")
            .field("queued", &state.queue.len())
            .field("answered", &state.answers.len())
            .field("is_busy", &state.is_busy)
            .finish_non_exhaustive()
    }
}

/// Makes the two promises of an answer: not too many addresses, and not none.
fn checked(mut addrs: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    addrs.truncate(MAX_ADDRS);
    if addrs.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addrs)
}

/// The thread's name, for `ps` and for whoever counts threads.
const THREAD_NAME: &str = "pulsewire-resolver";
/// glibc's `getaddrinfo` runs plug-ins (nss) on its caller's stack; a quarter of a megabyte has room for them.
const STACK_BYTES: usize = 256 * 1024;
/// Queries that may wait, together with answers that nobody has taken; one more is running.
pub(crate) const MAX_QUERIES: usize = 1_024;
/// Addresses kept of one name, in the system's order. More are a mistake in its zone: dialling goes through all.
pub(crate) const MAX_ADDRS: usize = 64;

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::ToString;
    use std::sync::mpsc::{channel, Receiver, Sender};
    use std::time::Duration;

    use super::*;

    /// How long a test waits for what must come.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// A resolver whose lookups wait for the test: each says what it was asked for and ends with what it is given.
    struct Bench {
        resolver: Resolver,
        asked: Receiver<String>,
        give: Sender<io::Result<Vec<SocketAddr>>>,
        woken: Receiver<()>,
    }

    impl Bench {
        fn new() -> Self {
            let (asked_tx, asked) = channel();
            let (give, given) = channel();
            let (woken_tx, woken) = channel();
            let wake = Arc::new(move || {
                let _ = woken_tx.send(());
            });
            let resolver = Resolver::with_lookup(wake, move |host, port| {
                assert_eq!(thread::current().name(), Some(THREAD_NAME));
                let _ = asked_tx.send(format!("{host}:{port}"));
                given.recv_timeout(PATIENCE).expect("every lookup is given its answer")
            });
            Bench { resolver, asked, give, woken }
        }

        fn expect_asked(&self, name: &str) {
            assert_eq!(self.asked.recv_timeout(PATIENCE).as_deref(), Ok(name));
        }

        fn give(&self, port: u16) {
            self.give.send(Ok([addr(port)].into())).unwrap();
        }

        fn expect_answer(&self, token: u64, port: u16) {
            self.woken.recv_timeout(PATIENCE).expect("woken");
            let (answered, result) = self.resolver.try_take().expect("there is an answer after each waking");
            assert_eq!((answered, result.unwrap()), (token, [addr(port)].into()));
        }
    }

    fn addr(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn answers_come_in_order_under_their_tokens() {
        let bench = Bench::new();
        assert!(bench.resolver.shared.lock().thread.is_none(), "no thread before the first use");
        bench.resolver.resolve(7, "a", 1).unwrap();
        bench.resolver.resolve(5, "b", 2).unwrap();
        bench.expect_asked("a:1");
        assert!(bench.resolver.try_take().is_none());
        bench.give(11);
        bench.expect_answer(7, 11);
        bench.expect_asked("b:2");
        bench.give(12);
        bench.expect_answer(5, 12);
        assert!(bench.resolver.try_take().is_none());
    }

    #[test]
    fn asking_twice_is_answered_once() {
        let bench = Bench::new();
        bench.resolver.resolve(1, "a", 1).unwrap();
        bench.expect_asked("a:1");
        bench.resolver.resolve(1, "a", 1).unwrap();
        bench.resolver.resolve(2, "b", 2).unwrap();
        bench.resolver.resolve(2, "b", 2).unwrap();
        bench.give(11);
        bench.expect_answer(1, 11);
        bench.expect_asked("b:2");
        bench.give(12);
        bench.expect_answer(2, 12);
        // Whatever else was queued would come before this one.
        bench.resolver.resolve(3, "c", 3).unwrap();
        bench.expect_asked("c:3");
        bench.give(13);
        bench.expect_answer(3, 13);
        assert!(bench.woken.try_recv().is_err());
    }

    #[test]
    fn newest_query_of_a_token_counts() {
        let bench = Bench::new();
        bench.resolver.resolve(1, "old", 1).unwrap();
        bench.expect_asked("old:1");
        bench.resolver.resolve(1, "newer", 1).unwrap();
        bench.resolver.resolve(1, "newest", 1).unwrap();
        bench.give(11);
        bench.expect_asked("newest:1");
        assert!(bench.woken.try_recv().is_err(), "the old answer is thrown away");
        bench.give(12);
        bench.expect_answer(1, 12);

        // Back to what is running: the waiting one is not wanted any more.
        bench.resolver.resolve(1, "a", 1).unwrap();
        bench.expect_asked("a:1");
        bench.resolver.resolve(1, "b", 1).unwrap();
        bench.resolver.resolve(1, "a", 1).unwrap();
        bench.give(13);
        bench.expect_answer(1, 13);

        // An answer that was not taken is replaced, too.
        bench.resolver.resolve(1, "c", 1).unwrap();
        bench.expect_asked("c:1");
        bench.give(14);
        bench.woken.recv_timeout(PATIENCE).unwrap();
        bench.resolver.resolve(1, "c", 1).unwrap();
        assert!(bench.resolver.try_take().is_none());
        bench.expect_asked("c:1");
        bench.give(15);
        bench.expect_answer(1, 15);
    }

    #[test]
    fn failures_and_empty_answers_are_errors() {
        let bench = Bench::new();
        bench.resolver.resolve(1, "a", 1).unwrap();
        bench.give.send(Err(io::ErrorKind::TimedOut.into())).unwrap();
        bench.woken.recv_timeout(PATIENCE).unwrap();
        let (_, result) = bench.resolver.try_take().unwrap();
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);

        bench.resolver.resolve(1, "a", 1).unwrap();
        bench.give.send(Ok(Vec::new())).unwrap();
        bench.woken.recv_timeout(PATIENCE).unwrap();
        let (_, result) = bench.resolver.try_take().unwrap();
        assert_eq!(result.unwrap_err().to_string(), "the name has no address");
    }

    #[test]
    fn too_many_addresses_are_cut() {
        let bench = Bench::new();
        bench.resolver.resolve(1, "a", 1).unwrap();
        bench.give.send(Ok((0..1_000).map(addr).collect())).unwrap();
        bench.woken.recv_timeout(PATIENCE).unwrap();
        let (_, result) = bench.resolver.try_take().unwrap();
        assert_eq!(result.unwrap(), (0..64).map(addr).collect::<Vec<_>>());
    }

    #[test]
    fn queue_has_an_end() {
        let bench = Bench::new();
        bench.resolver.resolve(0, "a", 1).unwrap();
        bench.expect_asked("a:1");
        for token in 1..=MAX_QUERIES as u64 {
            bench.resolver.resolve(token, "b", 1).unwrap();
        }
        let refused = bench.resolver.resolve(u64::MAX, "c", 1).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        bench.resolver.resolve(9, "c", 1).expect("replacing needs no more room");
        bench.give(11);
        bench.expect_answer(0, 11);
        bench.expect_asked("b:1");
        bench.resolver.resolve(u64::MAX, "c", 1).expect("there is room again");
        bench.give(12);
    }

    #[test]
    fn dropping_does_not_wait_for_a_lookup() {
        let Bench { resolver, asked, give, woken } = Bench::new();
        resolver.resolve(1, "slow", 1).unwrap();
        resolver.resolve(2, "waiting", 1).unwrap();
        assert_eq!(asked.recv_timeout(PATIENCE).as_deref(), Ok("slow:1"));
        drop(resolver);
        // The lookup was still running: only now is it given its answer.
        give.send(Ok([addr(1)].into())).unwrap();
        // The thread lets go of the channels when it ends: it has neither woken anybody nor looked up the other name.
        let end = woken.recv_timeout(PATIENCE).unwrap_err();
        assert_eq!(end, std::sync::mpsc::RecvTimeoutError::Disconnected);
        assert!(asked.recv_timeout(PATIENCE).is_err());
    }

    #[test]
    fn dropping_joins_an_idle_thread() {
        let bench = Bench::new();
        bench.resolver.resolve(1, "a", 1).unwrap();
        bench.give(11);
        bench.expect_answer(1, 11);
        let watch = Arc::downgrade(&bench.resolver.shared);
        while bench.resolver.shared.lock().is_busy {
            thread::yield_now();
        }
        drop(bench.resolver);
        assert!(watch.upgrade().is_none(), "the thread and its lookup are gone");
    }

    #[test]
    fn dropping_from_within_wake_does_not_deadlock() {
        let slot: Arc<Mutex<Option<Resolver>>> = Arc::default();
        let (done_tx, done) = channel();
        let wake = {
            let slot = Arc::clone(&slot);
            Arc::new(move || {
                drop(slot.lock().unwrap().take());
                done_tx.send(()).unwrap();
            })
        };
        let resolver = Resolver::with_lookup(wake, |_, port| Ok([addr(port)].into()));
        let mut guard = slot.lock().unwrap();
        guard.insert(resolver).resolve(1, "a", 1).unwrap();
        drop(guard);
        done.recv_timeout(PATIENCE).expect("wake came back");
    }

    #[test]
    fn system_resolves_an_address_to_itself() {
        let (woken_tx, woken) = channel();
        let resolver = Resolver::new(Arc::new(move || woken_tx.send(()).unwrap()));
        resolver.resolve(3, "127.0.0.1", 2014).unwrap();
        woken.recv_timeout(PATIENCE).unwrap();
        let (token, result) = resolver.try_take().unwrap();
        assert_eq!((token, result.unwrap()), (3, [([127, 0, 0, 1], 2014).into()].into()));
    }
}

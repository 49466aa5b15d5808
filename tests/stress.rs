//! Many threads, many calls, many subscriptions: nothing hangs, nothing is mixed up, nothing is left over.
//!
//! `PULSEWIRE_STRESS_CALLS=1000000 cargo test --release --test stress -- --nocapture` is the long run.
#![allow(clippy::cast_possible_truncation)] // Small numbers of the tests' own.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicU8, Ordering};
use std::sync::{mpsc, Arc};
use std::time::{Duration, Instant};

use pulsewire::rpc::CallOptions;
use pulsewire::{CallError, Event, Lost, RpcClient, RpcServer, Subscription, Unknown};

use support::*;

const THREADS: u64 = 8;
/// The default; the environment may ask for more.
const CALLS: u64 = 40_000;
/// What a slow function takes, roughly; one in sixty-four calls goes to one.
const SLOW: Duration = Duration::from_millis(1);

const FUNCTIONS: [&str; 4] = ["inline", "lane", "other lane", "slow"];

/// What a call of this id gives, and no other does.
fn expected(id: u64) -> u64 {
    id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed
}

const NOT_EXECUTED: u8 = 1;
const EXECUTED: u8 = 2;
const UNKNOWN: u8 = 3;

/// What is known of each call, by its id.
struct Books {
    executions: Vec<AtomicU8>,
    endings: Vec<AtomicU8>,
    latest: AtomicU64,
}

impl Books {
    fn new(calls: u64) -> Arc<Self> {
        let zeros = || (0..calls).map(|_| AtomicU8::new(0)).collect();
        Arc::new(Books { executions: zeros(), endings: zeros(), latest: AtomicU64::new(0) })
    }

    fn execute(&self, id: u64) -> u64 {
        self.executions[id as usize].fetch_add(1, Ordering::SeqCst);
        expected(id)
    }

    fn end(&self, id: u64, ending: u8) {
        assert_eq!(self.endings[id as usize].swap(ending, Ordering::SeqCst), 0, "call {id} ended twice");
    }

    /// Nothing ran twice, and nothing ran that was said not to have.
    fn balance(&self) -> [u64; 4] {
        let mut counts = [0; 4];
        for (id, (executions, ending)) in self.executions.iter().zip(&self.endings).enumerate() {
            let (executions, ending) = (executions.load(Ordering::SeqCst), ending.load(Ordering::SeqCst));
            let right = match ending {
                NOT_EXECUTED => executions == 0,
                EXECUTED => executions == 1,
                UNKNOWN => executions <= 1,
                _ => false,
            };
            assert!(right, "call {id} was executed {executions} times and ended as {ending}");
            counts[ending as usize] += 1;
        }
        counts
    }
}

fn stress_server(books: &Arc<Books>) -> RpcServer {
    let of = || {
        let books = Arc::clone(books);
        move |id: u64| Ok(books.execute(id))
    };
    let slow = Arc::clone(books);
    RpcServer::builder()
        .register_inline("inline", of())
        .register("lane", of())
        .register_on("other", "other lane", of())
        .register_on("slow", "slow", move |id: u64| {
            std::thread::park_timeout(SLOW);
            Ok(slow.execute(id))
        })
        .register("fence", |_: ()| Ok(()))
        .register_on("other", "other fence", |_: ()| Ok(()))
        .register_on("slow", "slow fence", |_: ()| Ok(()))
        .bind("127.0.0.1:0")
        .unwrap()
}

/// One call of one thread, with a time-out that it may or may not make.
fn call(client: &RpcClient, books: &Books, random: &mut Random, id: u64) {
    let function = if random.below(64) == 0 { FUNCTIONS[3] } else { FUNCTIONS[random.below(3) as usize] };
    let patient = random.below(4) == 0;
    let timeout = if patient { LONG } else { Duration::from_micros(50 + random.below(4_950)) };
    let deadline = Instant::now() + timeout;
    let outcome: Result<u64, CallError> =
        client.call_with(function, &id, CallOptions::new().timeout(timeout));
    let late = Instant::now().saturating_duration_since(deadline);
    books.latest.fetch_max(late.as_micros() as u64, Ordering::Relaxed);
    let ending = match outcome {
        Ok(value) => {
            assert_eq!(value, expected(id), "the result of another call");
            EXECUTED
        }
        Err(CallError::NotExecuted(_)) if !patient => NOT_EXECUTED,
        Err(CallError::Unknown(Unknown::Deadline)) if !patient => UNKNOWN,
        Err(other) => panic!("{function}, {timeout:?}: {other:?}"),
    };
    books.end(id, ending);
}

#[test]
fn f62_every_call_of_eight_threads_ends_once_and_runs_at_most_once() {
    let calls = std::env::var("PULSEWIRE_STRESS_CALLS").map_or(CALLS, |calls| calls.parse().unwrap());
    let calls = calls / THREADS * THREADS;
    let books = Books::new(calls);
    let server = stress_server(&books);
    let client = RpcClient::connect(server.local_addr()).unwrap();
    assert!(client.wait_connected(LONG));
    let begun = Instant::now();
    let (progress, progresses) = mpsc::channel();
    for thread in 0..THREADS {
        let (client, books, progress) = (client.clone(), Arc::clone(&books), progress.clone());
        std::thread::spawn(move || {
            let mut random = Random(0x5eed + thread);
            for id in (0..calls).skip(thread as usize).step_by(THREADS as usize) {
                call(&client, &books, &mut random, id);
                let _ = progress.send(());
            }
        });
    }
    drop(progress);
    for ended in 0..calls {
        progresses.recv_timeout(LONG).unwrap_or_else(|_| panic!("{ended} calls ended, and then none"));
    }
    let took = begun.elapsed();
    // Behind these nothing is left in the lanes.
    for fence in ["fence", "other fence", "slow fence"] {
        assert_eq!(client.call::<_, ()>(fence, &()), Ok(()));
    }
    let [_, not_executed, executed, unknown] = books.balance();
    let latest = books.latest.load(Ordering::Relaxed) as f64 / 1_000.0;
    println!(
        "{calls} calls by {THREADS} threads: {:.0} calls/s, {executed} with a value, {not_executed} not executed, \
         {unknown} unknown; the latest return {latest:.3} ms after its deadline",
        calls as f64 / took.as_secs_f64()
    );
    assert_eq!(client.stats().calls.in_flight, 0);
    // The last outcomes are settled a second later at most.
    eventually("the server forgets", || server.stats().machine.replier.queued_bytes == 0);
}

#[test]
fn publications_of_four_threads_are_all_accounted_for() {
    const EACH: u64 = 5_000;
    let server = RpcServer::builder().bind("127.0.0.1:0").unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let prefixes = ["", "a.", "b.1", "c."];
    let subscriptions: Vec<Subscription<(u64, u64)>> = prefixes
        .iter()
        .map(|prefix| client.subscribe_and_wait(*prefix, LONG).unwrap().expect("subscribed"))
        .collect();
    let matching: Vec<AtomicU64> = prefixes.iter().map(|_| AtomicU64::new(0)).collect();
    let publish = |thread: u64| {
        for n in 0..EACH {
            let topic = format!("{}.{}", if n % 2 == 0 { 'a' } else { 'b' }, n % 20);
            server.publish(&topic, &(thread, n)).unwrap();
            for (prefix, count) in prefixes.iter().zip(&matching) {
                count.fetch_add(u64::from(topic.starts_with(prefix)), Ordering::Relaxed);
            }
        }
    };
    let publish = &publish;
    std::thread::scope(|scope| {
        let readers: Vec<_> = subscriptions
            .into_iter()
            .map(|subscription| scope.spawn(move || account(subscription)))
            .collect();
        let writers: Vec<_> = (0..4).map(|thread| scope.spawn(move || publish(thread))).collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        // Each subscription sees one of its own.
        for prefix in prefixes {
            server.publish(format!("{prefix}end"), &(u64::MAX, prefix.len() as u64)).unwrap();
        }
        for (reader, (prefix, matching)) in readers.into_iter().zip(prefixes.iter().zip(&matching)) {
            let (accounted, ends) = reader.join().unwrap();
            assert_eq!(accounted, matching.load(Ordering::Relaxed), "{prefix:?}");
            assert_eq!(ends, 1, "{prefix:?}");
        }
    });
}

/// Reads on to the end: the messages received or reported lost before it.
fn account(mut subscription: Subscription<(u64, u64)>) -> (u64, u64) {
    let mut accounted = 0;
    let mut next_seq = 0;
    let mut next_of = [0; 4];
    loop {
        match subscription.recv_timeout(LONG).expect("an event") {
            Event::Message { seq, data: (thread, n), .. } => {
                assert!(seq >= next_seq, "{seq} after {next_seq}");
                next_seq = seq + 1;
                if thread == u64::MAX {
                    return (accounted, 1);
                }
                let next = &mut next_of[thread as usize];
                assert!(n >= *next, "{n} of thread {thread} after {next}");
                *next = n + 1;
                accounted += 1;
            }
            Event::Lost { lost: Lost::Exact(lost), .. } => accounted += lost,
            Event::Connected { .. } | Event::Subscribed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn subscriptions_that_come_and_go_leave_nothing_behind() {
    // In a process of its own: its descriptors and threads are counted.
    let process = Process::start("come-and-go");
    assert_eq!(process.hear(), "as before");
    assert!(process.wait());
}

/// Not a test of its own: what the processes do that other tests start.
#[test]
fn plays_a_part() {
    match part().as_deref() {
        #[cfg(target_os = "linux")]
        Some("come-and-go") => come_and_go(),
        Some(other) => panic!("no part {other}"),
        None => {}
    }
}

#[cfg(target_os = "linux")]
fn come_and_go() {
    live_no_longer_than_the_parent();
    let server = RpcServer::builder().register("one", |_: ()| Ok(1u8)).bind("127.0.0.1:0").unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    assert_eq!(client.call::<_, u8>("one", &()), Ok(1));
    let before = (descriptors(), threads());
    let connections = server.stats().machine.connections;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                server.publish("tick.", &[0u64; 20]).unwrap();
                std::thread::yield_now();
            }
        });
        let mut random = Random(0x5eed);
        let mut some: Vec<Subscription<[u64; 20]>> = Vec::new();
        for round in 0..500 {
            let subscription = client.subscribe("tick.").unwrap();
            if round % 3 == 0 {
                assert!(subscription.wait_subscribed(LONG));
            }
            some.push(subscription);
            if some.len() > 20 {
                let index = random.below(some.len() as u64) as usize;
                let mut gone = some.swap_remove(index);
                if round % 2 == 0 {
                    while !matches!(gone.recv_timeout(LONG), Some(Event::Message { .. })) {}
                }
                // Dropped with events unread, or stopped and then dropped.
                if round % 5 == 0 {
                    gone.stop();
                }
            }
        }
        over.store(true, Ordering::SeqCst);
    });
    // Clients that come and go as a whole, one with callbacks and one that nobody stops.
    for round in 0..20 {
        let (sender, heard) = mpsc::channel();
        let short = RpcClient::builder().on_disconnected(|| {}).connect(server.local_addr()).unwrap();
        short.on_event::<u8>("", move |_| sender.send(()).unwrap_or_default()).unwrap();
        assert_eq!(short.call::<_, u8>("one", &()), Ok(1));
        heard.recv_timeout(LONG).unwrap();
        if round % 2 == 0 {
            short.stop();
            // What the callback owned has gone with it.
            while heard.recv_timeout(LONG).is_ok() {}
            assert_eq!(heard.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected));
        }
    }
    assert_eq!(client.call::<_, u8>("one", &()), Ok(1));
    eventually("connections end", || server.stats().machine.connections == connections);
    eventually("descriptors and threads are given back", || (descriptors(), threads()) == before);
    assert_eq!(client.stats().subscriptions, 0);
    say("as before");
}

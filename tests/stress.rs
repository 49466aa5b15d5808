//! Many threads, many calls, many subscriptions: nothing hangs, nothing is mixed up, nothing is left over.
//!
//! `PULSEWIRE_STRESS_CALLS=1000000 cargo test --release --test stress -- --nocapture` is the long run.
#![allow(clippy::cast_possible_truncation)] // Small numbers of the tests' own.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicU8, Ordering};
use std::sync::{mpsc, Arc, Mutex};
use std::time::{Duration, Instant};

use pulsewire::rpc::{CallOptions, PendingCall};
use pulsewire::{
    CallError, CloseReason, ConnectionEvent, Event, Lost, RpcClient, RpcServer, Subscription, Unknown,
};

use support::relay::{Relay, Width};
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
    let calls = calls_or(CALLS) / THREADS * THREADS;
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

/// What the environment asks for instead of a test's own number of calls.
fn calls_or(default: u64) -> u64 {
    std::env::var("PULSEWIRE_STRESS_CALLS").map_or(default, |calls| calls.parse().unwrap())
}

// Calls that hang.

/// Calls that pass by those that hang.
const PASSING: u64 = 50_000;
/// Calls of the client without an outcome, on both sides: a table that lost its entries late would be full at once.
const TABLE: u32 = 16;

#[test]
fn any_number_of_calls_pass_by_two_that_hang_and_those_end_properly() {
    let calls = calls_or(PASSING) / (2 * PASSERS) * 2 * PASSERS;
    let (open, opened) = mpsc::channel();
    let (begin, begun) = mpsc::channel();
    let gate = Arc::new(Mutex::new(opened));
    let hang = || {
        let (begin, gate) = (begin.clone(), Arc::clone(&gate));
        move |id: u64| {
            begin.send(id)?;
            gate.lock().unwrap().recv()?;
            Ok(expected(id))
        }
    };
    let small = limits(|limits| limits.max_in_flight = TABLE);
    let server = RpcServer::builder()
        .register_on("held", "held", hang())
        .register_on("stuck", "stuck", hang())
        .register_inline("inline", |id: u64| Ok(expected(id)))
        .register("lane", |id: u64| Ok(expected(id)))
        .register_on("other", "other lane", |id: u64| Ok(expected(id)))
        .limits(small.clone())
        .bind("127.0.0.1:0")
        .unwrap();
    let client = RpcClient::builder().limits(small).connect(server.local_addr()).unwrap();
    let within = |timeout| CallOptions::new().timeout(timeout);
    let held: PendingCall<u64> = client.start_call("held", &calls, within(LONG * 60)).unwrap();
    let stuck: PendingCall<u64> = client.start_call("stuck", &calls, within(Duration::from_secs(1))).unwrap();
    for _ in 0..2 {
        begun.recv_timeout(LONG).expect("both run");
    }
    let begun = Instant::now();
    pass_by(&client, 0..calls / 2);
    // From here on its caller has its outcome, and its function still runs.
    assert_eq!(stuck.wait(), Err(CallError::Unknown(Unknown::Deadline)));
    pass_by(&client, calls / 2..calls);
    println!("{calls} calls passed by in {:.1} s", begun.elapsed().as_secs_f64());
    assert!(!held.is_ready());
    assert_eq!(client.stats().calls.in_flight, 1);
    let stats = server.stats().machine.replier;
    assert_eq!((stats.requests, stats.started), (calls + 2, calls + 2));
    assert_eq!((stats.refused, stats.expired, stats.withdrawn, stats.dropped_results), (0, 0, 0, 0));
    for _ in 0..2 {
        open.send(()).unwrap();
    }
    assert_eq!(held.wait(), Ok(expected(calls)));
    eventually("nobody waits for the other's result", || server.stats().machine.replier.dropped_results == 1);
    eventually("the server forgets", || server.stats().machine.replier.queued_bytes == 0);
    assert_eq!(server.stats().machine.replier.result_bytes, 0);
}

/// Threads that call while others hang.
const PASSERS: u64 = 4;

/// Makes these calls, and each has its own value.
fn pass_by(client: &RpcClient, ids: std::ops::Range<u64>) {
    std::thread::scope(|scope| {
        for passer in 0..PASSERS {
            let ids = ids.clone().skip(passer as usize).step_by(PASSERS as usize);
            scope.spawn(move || {
                for id in ids {
                    let function = FUNCTIONS[(id / PASSERS % 3) as usize];
                    assert_eq!(client.call(function, &id), Ok(expected(id)), "{function}");
                }
            });
        }
    });
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

// Many writers.

/// Callers and publishers of the test with frames of all sizes, and what each of them sends.
const WRITERS: u64 = 4;
const FRAMES: u64 = 500;
/// More than a socket buffers here, so that most writes of a large one are cut short.
const LARGE: u64 = 100_000;

/// Bytes that no other frame has, one in eight of them too many for one write.
fn frame_of(writer: u64, n: u64) -> Vec<u8> {
    let mut random = Random(1 + (writer << 32 | n));
    random.next();
    let len = if random.below(8) == 0 { random.below(LARGE) } else { random.below(100) };
    (0..8 + len).map(|_| random.next() as u8).collect()
}

#[test]
fn frames_of_many_threads_never_interleave_on_a_connection_that_takes_few_bytes_at_a_time() {
    let server = RpcServer::builder()
        .register_inline("inline", |bytes: Vec<u8>| Ok(bytes))
        .register("lane", |bytes: Vec<u8>| Ok(bytes))
        .register_on("other", "other lane", |bytes: Vec<u8>| Ok(bytes))
        .limits(limits(|limits| limits.log_bytes = 256 << 20)) // Nothing is to be lost.
        .bind("127.0.0.1:0")
        .unwrap();
    let width = Width { buffer_bytes: Some(16 * 1024), piece: Some(10_000) };
    let relay = Relay::start("127.0.0.1:0".parse().unwrap(), server.local_addr(), width);
    // A frame in another's midst is no frame: whoever reads it hangs up, or finds other bytes than were sent.
    let (sender, lost) = mpsc::channel();
    let client = RpcClient::builder()
        .on_connection(move |event| match &event.event {
            ConnectionEvent::Disconnected { reason } if *reason != CloseReason::ByUs => {
                let _ = sender.send(format!("{:?}: {reason:?}", event.connection));
            }
            _ => {}
        })
        .connect(relay.addr())
        .unwrap();
    let subscriptions = ["", "1", "2"].map(|prefix| {
        let subscription = client.subscribe_and_wait(prefix, LONG).unwrap().expect("subscribed");
        (prefix, subscription)
    });
    let (server, client) = (&server, &client);
    std::thread::scope(|scope| {
        let readers =
            subscriptions.map(|(prefix, subscription)| scope.spawn(move || (prefix, compare(subscription))));
        let publishers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    for n in 0..FRAMES {
                        server.publish(writer.to_string(), &(writer, n, frame_of(writer, n))).unwrap();
                    }
                })
            })
            .collect();
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let options = CallOptions::new().timeout(LONG);
                for n in 0..FRAMES {
                    let bytes = frame_of(WRITERS + writer, n);
                    let answer = client.call_with(FUNCTIONS[(n % 3) as usize], &bytes, options);
                    assert!(
                        answer.as_ref() == Ok(&bytes),
                        "call {n} of {writer}: {:?}",
                        answer.map(|bytes| bytes.len())
                    );
                }
            });
        }
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
        for prefix in ["1", "2"] {
            server.publish(prefix, &(u64::MAX, 0u64, Vec::<u8>::new())).unwrap();
        }
        for reader in readers {
            let (prefix, received) = reader.join().unwrap();
            assert_eq!(received, if prefix.is_empty() { WRITERS * FRAMES } else { FRAMES }, "{prefix:?}");
        }
    });
    assert_eq!(lost.try_iter().collect::<Vec<_>>(), [""; 0]);
}

/// Reads on to the end, and compares: the messages received before it.
fn compare(mut subscription: Subscription<(u64, u64, Vec<u8>)>) -> u64 {
    let mut received = 0;
    loop {
        match subscription.recv_timeout(LONG).expect("an event") {
            Event::Message { data: (u64::MAX, ..), .. } => return received,
            Event::Message { data: (writer, n, bytes), topic, .. } => {
                let right = topic == writer.to_string() && bytes == frame_of(writer, n);
                assert!(right, "{topic}: {n} of {writer}");
                received += 1;
            }
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

//! In the steady state no message costs an allocation, on either side: counted over the whole process, threads included.
//!
//! What the interface itself asks for is counted and said: the result that `call_bytes` returns is its caller's, and so
//! is the one that a function of bytes returns.

use std::alloc::System;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pulsewire::pattern::Event;
use pulsewire::rpc::CallOptions;
use pulsewire::{RpcClient, RpcServer, StreamOptions, Subscription};
use stats_alloc::{Region, StatsAlloc, INSTRUMENTED_SYSTEM};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Messages of which the allocations are counted.
const MESSAGES: usize = 10_000;
/// Messages that are sent before they are waited for: a few are written at once, the others gathered.
const TOGETHER: usize = 20;
/// What time, and not the messages, may bring: heartbeats, timers, a queue that finds its size.
const CONSTANT: f64 = 0.005;
/// The result of a call: its caller gets bytes of his own.
const RESULT: f64 = 1.0;
/// Nothing here takes this long unless it hangs.
const LONG: Duration = Duration::from_secs(60);

/// The whole process is counted, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends `TOGETHER` messages so often that every buffer has found its size, and then counts: at most `owned`
/// allocations for each message.
#[track_caller]
fn assert_allocations(owned: f64, mut some: impl FnMut()) {
    (0..MESSAGES / TOGETHER).for_each(|_| some());
    let region = Region::new(ALLOCATOR);
    (0..MESSAGES / TOGETHER).for_each(|_| some());
    let change = region.change();
    let made = change.allocations + change.reallocations;
    let each = made as f64 / MESSAGES as f64;
    println!("{each:.4} allocations per message");
    assert!(each <= owned + CONSTANT, "{made} allocations for {MESSAGES} messages: {change:?}");
}

fn server() -> RpcServer {
    RpcServer::builder()
        // What a log remembers has found its size when it has gone round.
        .main_stream(StreamOptions::default().log_messages(256))
        .register_bytes("bytes", |bytes| Ok(bytes.to_vec()))
        .register("worker", |(a, b): (i64, i64)| Ok(a + b))
        .register_inline("inline", |(a, b): (i64, i64)| Ok(a + b))
        .bind("127.0.0.1:0")
        .unwrap()
}

fn client(server: &RpcServer) -> RpcClient {
    let client = RpcClient::connect(server.local_addr()).unwrap();
    assert!(client.wait_connected(LONG));
    client
}

/// A subscription that is in force, and whose events up to that are read.
fn subscription(client: &RpcClient, prefix: &str) -> Subscription<u64> {
    let subscription = client.subscribe::<u64>(prefix).unwrap();
    assert!(subscription.wait_subscribed(LONG));
    subscription
}

/// Reads to the next message.
fn next_len(subscription: &mut Subscription<u64>) -> usize {
    loop {
        match subscription.recv_bytes(LONG).expect("a message in time") {
            Event::Message { data, .. } => return data.len(),
            Event::Snapshot { .. } | Event::Other(_) => {}
            event => panic!("{event:?}"),
        }
    }
}

#[test]
fn publications_and_their_receipt_allocate_nothing() {
    let _alone = alone();
    let server = server();
    let client = client(&server);
    for prefix in ["", "tick."] {
        for len in [8, 1_000] {
            let mut subscription = subscription(&client, prefix);
            let data = vec![7; len];
            assert_allocations(0.0, || {
                for _ in 0..TOGETHER {
                    server.publish_bytes("tick.rb2410", &data).unwrap();
                }
                for _ in 0..TOGETHER {
                    assert_eq!(next_len(&mut subscription), len);
                }
            });
        }
    }
}

#[test]
fn a_publication_that_matches_nobody_allocates_nothing() {
    let _alone = alone();
    let server = server();
    let publish = || {
        for _ in 0..TOGETHER {
            server.publish_bytes("tick.rb2410", &[7; 64]).unwrap();
        }
    };
    assert_allocations(0.0, publish);
    let client = client(&server);
    let _subscription = subscription(&client, "trade.");
    assert_allocations(0.0, publish);
}

#[test]
fn a_published_value_allocates_nothing() {
    let _alone = alone();
    let server = server();
    let client = client(&server);
    let mut subscription = subscription(&client, "tick.");
    assert_allocations(0.0, || {
        for _ in 0..TOGETHER {
            server.publish("tick.rb2410", &(3_500.0f64, 12u32)).unwrap();
        }
        for _ in 0..TOGETHER {
            next_len(&mut subscription);
        }
    });
}

#[test]
fn a_call_allocates_its_result_alone() {
    let _alone = alone();
    let server = server();
    let client = client(&server);
    for function in ["inline", "worker"] {
        assert_allocations(RESULT, || {
            for _ in 0..TOGETHER {
                client.call_bytes(function, &[80, 4], CallOptions::default()).unwrap();
            }
        });
        assert_allocations(RESULT, || {
            for _ in 0..TOGETHER {
                assert_eq!(client.call::<(i64, i64), i64>(function, &(40, 2)).unwrap(), 42);
            }
        });
    }
    for len in [16, 1_024, 16 * 1_024] {
        let arguments = vec![1; len];
        // The function of bytes owns what it returns, too.
        assert_allocations(RESULT + 1.0, || {
            for _ in 0..TOGETHER {
                client.call_bytes("bytes", &arguments, CallOptions::default()).unwrap();
            }
        });
    }
}

#[test]
fn calls_under_way_together_allocate_their_results_and_now_and_then_a_node_of_a_table() {
    let _alone = alone();
    let server = server();
    let client = client(&server);
    let mut pending = Vec::with_capacity(TOGETHER);
    // The tables of calls at either end are trees, whose nodes hold six calls and more.
    assert_allocations(RESULT + 2.0 / 6.0, || {
        for _ in 0..TOGETHER {
            let call = client.start_call::<_, i64>("worker", &(40i64, 2i64), CallOptions::default());
            pending.push(call.unwrap());
        }
        for call in pending.drain(..) {
            assert_eq!(call.wait().unwrap(), 42);
        }
    });
}

#[test]
fn a_large_call_takes_the_memory_of_its_values_alone() {
    const LEN: usize = 1_000_000;
    const CALLS: usize = 200;
    let _alone = alone();
    let server = RpcServer::builder()
        .register("worker", |text: String| Ok(text))
        .register_inline("inline", |text: String| Ok(text))
        .register_inline("download", |len: usize| Ok("x".repeat(len)))
        .register_inline("upload", |text: String| Ok(text.len()))
        .bind("127.0.0.1:0")
        .unwrap();
    let client = client(&server);
    let arguments = "x".repeat(LEN);
    for function in ["inline", "worker", "download", "upload"] {
        let call = || {
            let len = match function {
                "download" => client.call::<_, String>(function, &LEN).unwrap().len(),
                "upload" => client.call::<_, usize>(function, arguments.as_str()).unwrap(),
                _ => client.call::<_, String>(function, arguments.as_str()).unwrap().len(),
            };
            assert_eq!(len, LEN);
        };
        (0..CALLS).for_each(|_| call());
        let region = Region::new(ALLOCATOR);
        (0..CALLS).for_each(|_| call());
        let change = region.change();
        let bytes = change.bytes_allocated as f64 / (CALLS * LEN) as f64;
        println!("{function}: {bytes:.2} of the length per call, at both ends together");
        // The text that the function gets and gives back, and the one that the caller gets. At each end what is read first
        // lies elsewhere until it is known how much will come, and tails of an answer that shrink to its half are copied.
        assert!(bytes <= 4.0, "{function}: {bytes} times the length: {change:?}");
    }
}

//! Waiting threads turn the driver and hand it on: nothing is forgotten when they do, and nobody waits for nobody.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pulsewire::{CallOptions, Event, Limits, PendingCall, RpcClient, RpcServer, StreamOptions, Subscription};
use support::{limits, LONG};

/// A reply of so many bytes, told apart from others.
fn reply(n: u64, len: usize) -> Vec<u8> {
    n.to_le_bytes().into_iter().cycle().take(len).collect()
}

/// Limits with which no heartbeat comes to the rescue.
fn patient() -> Limits {
    limits(|limits| {
        limits.heartbeat_interval = Duration::from_secs(600);
        limits.heartbeat_timeout = Duration::from_secs(1_800);
    })
}

/// Lets some time pass, and nobody else has this core for it.
fn spin(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn server() -> RpcServer {
    server_with(Limits::default())
}

fn server_with(limits: Limits) -> RpcServer {
    RpcServer::builder()
        .limits(limits)
        .register_inline("reply", |(n, len): (u64, usize)| Ok(reply(n, len)))
        .register("worker", |(n, len): (u64, usize)| Ok(reply(n, len)))
        .bind("127.0.0.1:0")
        .unwrap()
}

/// Sizes from nothing to what takes several turns to read.
fn sizes() -> impl Iterator<Item = usize> {
    [8, 8, 40_000, 8, 700_000, 8, 8, 70_000, 300_000, 8].into_iter().cycle()
}

#[test]
fn bytes_left_in_the_kernel_by_one_leader_are_read_by_the_next() {
    for polling in [Duration::ZERO, Duration::from_micros(50)] {
        let server = server();
        let client = RpcClient::builder()
            .limits(limits(|limits| limits.polling = polling))
            .connect(server.local_addr())
            .unwrap();
        std::thread::scope(|scope| {
            for (thread, first) in (0..6u64).zip(0..) {
                let client = &client;
                scope.spawn(move || {
                    let name = if thread % 2 == 0 { "reply" } else { "worker" };
                    for (n, len) in (0..60).zip(sizes().skip(first)) {
                        let n = thread << 32 | n;
                        let options = CallOptions::new().timeout(LONG);
                        let bytes: Vec<u8> = client.call_with(name, &(n, len), options).unwrap();
                        assert!(bytes == reply(n, len), "another call's reply");
                    }
                });
            }
        });
    }
}

#[test]
fn what_a_leader_leaves_unread_is_read_though_nothing_more_comes() {
    let patient = patient();
    let server = server_with(patient.clone());
    let client = RpcClient::builder().limits(patient).connect(server.local_addr()).unwrap();
    let begin = |n: u64, len: usize| {
        let options = CallOptions::new().timeout(LONG);
        client.start_call::<_, Vec<u8>>("reply", &(n, len), options).unwrap()
    };
    // The kernel takes more at once on behalf of somebody who has read much.
    for n in 0..8 {
        assert!(begin(n, 4_000_000).wait().unwrap() == reply(n, 4_000_000));
    }
    for (n, len) in (0..400u64).zip((140_000..240_000).step_by(5_000).cycle()) {
        // A short answer, and behind it more than is read in one turn: both lie in the kernel when the first is waited
        // for, unless the caretaker was quicker.
        let (short, long) = (begin(n, 8), begin(n, len));
        spin(Duration::from_micros(25 * (n % 16)));
        assert!(short.wait().unwrap() == reply(n, 8));
        assert!(long.wait().unwrap() == reply(n, len));
    }
}

#[test]
fn calls_that_nobody_waits_for_yet_are_served_while_others_come_and_go() {
    let server = server();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _: Vec<u8> = client.call("reply", &(1u64, 8usize)).unwrap();
                    std::thread::sleep(Duration::from_micros(700));
                }
            });
        }
        for round in 0..20u64 {
            let started: Vec<PendingCall<Vec<u8>>> = (0..50)
                .zip(sizes())
                .map(|(n, len)| {
                    let options = CallOptions::new().timeout(LONG);
                    client.start_call("worker", &(round << 32 | n, len.min(50_000)), options).unwrap()
                })
                .collect();
            // Without anybody waiting for them they are sent and answered.
            support::eventually("answers", || started.iter().all(PendingCall::is_ready));
            for ((n, len), call) in (0..50).zip(sizes()).zip(started) {
                assert!(call.wait().unwrap() == reply(round << 32 | n, len.min(50_000)));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_call_that_is_dropped_has_been_sent() {
    let (sender, ran) = std::sync::mpsc::channel::<u32>();
    let sender = std::sync::Mutex::new(sender);
    let server = RpcServer::builder()
        .register("note", move |n: u32| Ok(sender.lock().unwrap().send(n)?))
        .bind("127.0.0.1:0")
        .unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    assert!(client.wait_connected(LONG));
    for n in 0..100u32 {
        drop(client.start_call::<_, ()>("note", &n, CallOptions::new()).unwrap());
    }
    for n in 0..100 {
        assert_eq!(ran.recv_timeout(LONG), Ok(n));
    }
}

#[test]
fn readers_and_callers_of_one_client_lead_in_turns_and_miss_nothing() {
    const COUNT: u64 = 3_000;
    let server = server();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let (sender, seen) = std::sync::mpsc::channel();
    client
        .on_event::<u64>("called.", move |event| {
            if let Event::Message { data, .. } = event {
                sender.send(data).unwrap();
            }
        })
        .unwrap();
    let mut readers: Vec<_> = (0..3)
        .map(|_| client.subscribe_and_wait::<u64>("tick.", LONG).unwrap().expect("subscribed"))
        .collect();
    support::eventually("the callback's subscription", || server.stats().machine.publisher.subscribers == 4);
    std::thread::scope(|scope| {
        for reader in &mut readers {
            scope.spawn(move || {
                let mut expected = 0;
                while expected < COUNT {
                    if let Event::Message { data, .. } = reader.recv_timeout(LONG).expect("a tick") {
                        assert_eq!(data, expected);
                        expected += 1;
                    }
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for n in 0..500u64 {
                    let _: Vec<u8> = client.call("reply", &(n, 8usize)).unwrap();
                }
            });
        }
        for n in 0..COUNT {
            server.publish("tick.a", &n).unwrap();
            server.publish("called.a", &n).unwrap();
            if n % 64 == 0 {
                std::thread::sleep(Duration::from_micros(300));
            }
        }
    });
    for n in 0..COUNT {
        assert_eq!(seen.recv_timeout(LONG), Ok(n));
    }
}

#[test]
fn a_client_that_is_stopped_while_others_lead_lets_go_of_its_connections() {
    let server = RpcServer::builder()
        .register("never", |(): ()| -> pulsewire::FunctionResult<()> {
            std::thread::sleep(Duration::from_millis(300));
            Ok(())
        })
        .bind("127.0.0.1:0")
        .unwrap();
    for _ in 0..5 {
        let client = RpcClient::connect(server.local_addr()).unwrap();
        let mut subscription = client.subscribe_and_wait::<u64>("", LONG).unwrap().expect("subscribed");
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| client.call::<_, ()>("never", &()).unwrap_err());
            }
            let reader = scope.spawn(move || while subscription.recv().is_some() {});
            support::eventually("a call under way", || client.stats().calls.in_flight >= 3);
            client.stop();
            reader.join().unwrap();
        });
    }
    support::eventually("nobody", || server.stats().machine.connections == 0);
}

#[test]
fn what_a_flood_leaves_behind_is_written_at_its_end() {
    const MESSAGES: u64 = 12_000;
    let patient = patient();
    let roomy = StreamOptions::default().log_bytes(64 << 20);
    let server = RpcServer::builder().limits(patient.clone()).main_stream(roomy).bind("127.0.0.1:0").unwrap();
    let join = || {
        let client = RpcClient::builder().limits(patient.clone()).connect(server.local_addr()).unwrap();
        let reader = client.subscribe_and_wait::<Vec<u8>>("", LONG).unwrap().expect("subscribed");
        (client, reader)
    };
    let (mut quick, mut late) = (join(), join());
    let data = vec![7u8; 1_000];
    for round in 0..30 {
        std::thread::scope(|scope| {
            // Somebody reads what is published, so that it is a flood; and the other one's buffers are full.
            let (_, quick) = &mut quick;
            scope.spawn(move || read_up_to(quick, (round + 1) * MESSAGES));
            for _ in 0..MESSAGES {
                server.publish("t", &data).unwrap();
            }
            // There is room again in the moment in which it is over, for more than is written at once.
            read_up_to(&mut late.1, (round + 1) * MESSAGES);
        });
    }
}

/// Reads until all messages below a position have come.
fn read_up_to(reader: &mut Subscription<Vec<u8>>, position: u64) {
    while (*reader).position() < position {
        assert!(reader.recv_bytes(LONG).is_some(), "what is left is never written");
    }
}

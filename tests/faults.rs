//! Faults of the world, of the other side and of the user's own code: each hurts what it must, and nothing else.
#![allow(clippy::cast_possible_truncation)] // Small numbers of the tests' own.

mod support;

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use pulsewire::net::{self, Publisher, Replier, Requester, Subscriber};
use pulsewire::pattern;
use pulsewire::rpc::{CallOptions, PendingCall, Responder};
use pulsewire::wire::{Frame, Heartbeat, Ids, Kind, Refusal, Reply, Request, Role, Status, Welcome};
use pulsewire::{
    AddressError, BindError, CallError, Cause, ConnectionEvent, DialError, Event, FailureKind,
    FunctionResult, Limits, Lost, NotExecuted, Outcome, PublishError, Reconnect, RpcClient, RpcServer,
    SubscribeError, Subscription, Unknown,
};

use support::*;

/// A wait that ends because nothing comes; nothing is asserted about its length.
const A_WHILE: Duration = Duration::from_millis(500);

/// Limits under which no heartbeat comes to wake up what has fallen asleep.
fn without_heartbeats() -> Limits {
    limits(|limits| {
        limits.heartbeat_interval = LONG * 10;
        limits.heartbeat_timeout = LONG * 30;
    })
}

fn within(timeout: Duration) -> CallOptions {
    CallOptions::new().timeout(timeout)
}

/// A call that may meet a connection whose end has not been read yet: honestly, its outcome would be unknown.
fn call_until_answered(client: &RpcClient, arguments: (i64, i64)) -> i64 {
    client.call_with(ADD, &arguments, within(LONG).idempotent()).unwrap()
}

/// A function's hold on what the test lets go, one at a time.
fn gate() -> (Sender<()>, impl Fn() + Send + Sync) {
    let (open, opened) = mpsc::channel();
    let opened = Mutex::new(opened);
    (open, move || opened.lock().unwrap().recv_timeout(LONG).expect("the test opens the gate"))
}

/// The next message's data, past what else there is; a loss ends the test.
fn next_message<T: serde::de::DeserializeOwned + std::fmt::Debug>(subscription: &mut Subscription<T>) -> T {
    loop {
        match subscription.recv_timeout(LONG).expect("an event") {
            Event::Message { data, .. } => return data,
            lost @ Event::Lost { .. } => panic!("{lost:?}"),
            _ => {}
        }
    }
}

// Descriptors, ports and addresses.

#[cfg(target_os = "linux")]
#[test]
fn f21_out_of_descriptors_the_listener_pauses_and_recovers() {
    let process = Process::start_by("ulimit -n 64; exec", "few-descriptors");
    let addr = process.hear().parse().unwrap();
    let bystander = RpcClient::connect(addr).unwrap();
    assert_eq!(bystander.call(ADD, &(1, 2)), Ok(3));
    let mut crowd: Vec<Raw> = (0..100).map(|_| Raw::connect(addr)).collect();
    crowd.iter_mut().for_each(|raw| raw.send_frame(&hello(Role::Requester)));
    assert_eq!(process.hear(), "full");
    let (ticks, sleeps) = used_by_threads(process.id(), "pulsewire-serve");
    assert_eq!(process.hear_within(A_WHILE), None);
    assert_eq!(bystander.call(ADD, &(2, 2)), Ok(4));
    let (ticks_after, sleeps_after) = used_by_threads(process.id(), "pulsewire-serve");
    assert!(ticks_after - ticks < 25, "{} hundredths of a second in half a second", ticks_after - ticks);
    assert!(sleeps_after - sleeps < 100, "woken {} times in half a second", sleeps_after - sleeps);
    // As each one leaves, one that waited comes in, to the last.
    for mut raw in crowd {
        let welcome = raw.read_frame().expect("a welcome");
        assert!(matches!(Frame::decode(&welcome), Ok(Frame::Welcome(_))));
    }
    assert_eq!(bystander.call(ADD, &(2, 3)), Ok(5));
}

#[cfg(target_os = "linux")]
fn few_descriptors() {
    live_no_longer_than_the_parent();
    let server = builder().bind("127.0.0.1:0").unwrap();
    say(&server.local_addr().to_string());
    const EMFILE: i32 = 24;
    eventually("descriptors run out", || {
        std::fs::File::open("/dev/null").is_err_and(|error| error.raw_os_error() == Some(EMFILE))
    });
    say("full");
    loop {
        std::thread::park();
    }
}

fn is_taken(error: &BindError) -> bool {
    matches!(error, BindError::Net(net::Error::Bind { source, .. })
        if source.kind() == std::io::ErrorKind::AddrInUse)
}

#[test]
fn f43_a_port_belongs_to_one_server_and_is_free_at_once_after_it() {
    let _ports = ports_are_free_when_closed();
    let mut server = builder().bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr();
    for round in 0..5 {
        let second = builder().bind(addr).unwrap_err();
        assert!(is_taken(&second), "{second:?}");
        // Connections that the server closes first, and that stay in TIME_WAIT on its port.
        let client = RpcClient::connect(addr).unwrap();
        assert_eq!(client.call(ADD, &(round, 1)), Ok(round + 1));
        drop(server);
        server = builder().bind(addr).unwrap();
        assert_eq!(call_until_answered(&client, (round, 2)), round + 2);
    }
}

#[test]
fn two_addresses_are_bound_both_or_none() {
    let _ports = ports_are_free_when_closed();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = builder().bind_both(free, taken.local_addr().unwrap()).unwrap_err();
    assert!(is_taken(&error), "{error:?}");
    let server = builder().bind_both(free, "127.0.0.1:0").expect("the first address was let go");
    let addrs = server.local_addrs();
    assert_eq!((addrs.len(), addrs[0]), (2, free));
    // Either serves both.
    for (calls, events) in [(addrs[0], addrs[1]), (addrs[1], addrs[0])] {
        let client = RpcClient::builder().events_at(events).connect(calls).unwrap();
        assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
        let mut all = client.subscribe_and_wait("", LONG).unwrap().expect("subscribed");
        server.publish("a", &7u8).unwrap();
        assert_eq!(next_message::<u8>(&mut all), 7);
    }
}

#[test]
fn a_port_above_65535_is_refused_before_anything_is_tried() {
    let address = String::from("127.0.0.1:66001");
    let invalid = AddressError::InvalidPort { address: address.clone() };
    match builder().bind(&address) {
        Err(BindError::Net(net::Error::Address(error))) => assert_eq!(error, invalid),
        other => panic!("{other:?}"),
    }
    match builder().bind_both("127.0.0.1:0", &address) {
        Err(BindError::Net(net::Error::Address(error))) => assert_eq!(error, invalid),
        other => panic!("{other:?}"),
    }
    for client in [
        RpcClient::connect(&address),
        RpcClient::builder().or_address(&address).connect("127.0.0.1:1"),
        RpcClient::builder().events_at(&address).connect("127.0.0.1:1"),
    ] {
        match client {
            Err(net::Error::Address(error)) => assert_eq!(error, invalid),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_name_is_resolved_and_all_its_addresses_are_tried() {
    let _ports = ports_are_free_when_closed();
    let server = builder().bind("localhost:0").unwrap();
    let port = server.local_addr().port();
    let client = RpcClient::connect(format!("tcp://localhost:{port}")).unwrap();
    assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
    let mut all = client.subscribe_and_wait("", LONG).unwrap().expect("subscribed");
    server.publish("a", &7u8).unwrap();
    assert_eq!(next_message::<u8>(&mut all), 7);
    // Again after a loss.
    server.stop();
    server.start().unwrap();
    assert_eq!(call_until_answered(&client, (2, 2)), 4);
}

#[test]
fn ipv6_is_an_address_like_any_other() {
    if TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: no IPv6 here");
        return;
    }
    let server = builder().bind("[::1]:0").unwrap();
    assert!(server.local_addr().is_ipv6());
    let client = RpcClient::connect(format!("tcp://{}", server.local_addr())).unwrap();
    assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
}

#[test]
fn the_next_address_of_the_list_is_dialled_after_each_failure() {
    // Bound, so that nobody else is given it, and not listened on.
    let held = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    held.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let refuses = held.local_addr().unwrap().as_socket().unwrap();
    let server = builder().bind("127.0.0.1:0").unwrap();
    let (sender, connected) = mpsc::channel();
    let client = RpcClient::builder()
        .or_address(server.local_addr())
        .on_connection(move |event| {
            if let ConnectionEvent::Connected { address, .. } = event.event {
                let _ = sender.send(address);
            }
        })
        .connect(refuses)
        .unwrap();
    assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
    assert_eq!(connected.recv_timeout(LONG), Ok(1));
}

#[cfg(target_os = "linux")]
#[test]
fn a_connection_to_oneself_is_no_connection() {
    // In a network of its own with ten ports to dial from, where dialling one of them soon meets oneself.
    let network = "ip link set lo up && echo 40000 40009 > /proc/sys/net/ipv4/ip_local_port_range && exec";
    let by = format!("unshare -n sh -c '{network} \"$0\" \"$@\"'");
    if !spawn(Command::new("sh").args(["-c", &format!("{by} true")])).wait().unwrap().success() {
        println!("skipped: no right to make a network");
        return;
    }
    let process = Process::start_by(&by, "self-connection");
    assert_eq!(process.hear(), "refused myself");
    assert!(process.wait());
}

#[cfg(target_os = "linux")]
fn self_connection() {
    live_no_longer_than_the_parent();
    let nobody = "127.0.0.1:40004".parse().unwrap();
    let mut requester = Requester::connect(&[nobody], Limits::default(), Reconnect::zmq(1, 1)).unwrap();
    let deadline = Instant::now() + LONG;
    let mut refused = 0;
    while refused < 3 {
        assert!(Instant::now() < deadline, "never met itself");
        requester.poll(Some(Duration::from_millis(10))).unwrap();
        match requester.next_connection_event() {
            Some(ConnectionEvent::RetryIn { cause: Cause::Dial(DialError::SelfConnection), .. }) => {
                refused += 1
            }
            Some(ConnectionEvent::Connected { .. }) => panic!("connected to itself"),
            _ => {}
        }
    }
    // The port is let go for its real server.
    drop(requester);
    TcpListener::bind(nobody).unwrap();
    say("refused myself");
}

// The server dies, stops and comes back.

/// A server in another process; `life` is its first or its second.
struct Victim {
    process: Process,
    addr: std::net::SocketAddr,
}

impl Victim {
    fn start(port: u16, life: u32) -> Self {
        let process = Process::start(&format!("victim {port} {life}"));
        let addr = process.hear().parse().unwrap();
        Victim { process, addr }
    }

    fn hear_calls_held(&self, calls: usize) {
        for call in 1..=calls {
            assert_eq!(self.process.hear(), format!("held {call}"));
        }
    }
}

fn victim(port: &str, life: &str) {
    live_no_longer_than_the_parent();
    let held: Mutex<Vec<Responder<u32>>> = Mutex::default();
    let life: u32 = life.parse().unwrap();
    let server = builder()
        .register_deferred("hold", move |_: (), responder: Responder<u32>| {
            if life > 1 {
                responder.ok(&life);
                return;
            }
            let mut held = held.lock().unwrap();
            held.push(responder);
            say(&format!("held {}", held.len()));
        })
        .bind(format!("127.0.0.1:{port}"))
        .unwrap();
    say(&server.local_addr().to_string());
    loop {
        std::thread::park();
    }
}

#[test]
fn f42_calls_in_flight_end_honestly_when_the_new_epoch_is_seen() {
    let first = Victim::start(0, 1);
    let addr = first.addr;
    let limits = limits(|limits| limits.resume_wait = LONG);
    let client = RpcClient::builder().limits(limits).connect(addr).unwrap();
    let calls: Vec<PendingCall<u32>> =
        (0..10).map(|_| client.start_call("hold", &(), within(LONG)).unwrap()).collect();
    let again: PendingCall<u32> = client.start_call("hold", &(), within(LONG).idempotent()).unwrap();
    first.hear_calls_held(11);
    let epoch = client.epoch();
    first.process.kill();
    let _second = Victim::start(addr.port(), 2);
    for call in calls {
        // The second life would answer: none was sent again.
        assert_eq!(call.wait(), Err(CallError::Unknown(Unknown::Restarted)));
    }
    assert_eq!(again.wait(), Ok(2), "its caller said that it may run twice");
    assert_ne!(client.epoch(), epoch);
    assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
}

#[test]
fn f42_calls_in_flight_end_honestly_when_nobody_comes_back() {
    let first = Victim::start(0, 1);
    let addr = first.addr;
    let limits = limits(|limits| limits.resume_wait = Duration::from_millis(100));
    let client = RpcClient::builder().limits(limits).connect(addr).unwrap();
    let calls: Vec<PendingCall<u32>> =
        (0..10).map(|_| client.start_call("hold", &(), within(LONG)).unwrap()).collect();
    first.hear_calls_held(10);
    first.process.kill();
    for call in calls {
        assert_eq!(call.wait(), Err(CallError::Unknown(Unknown::ConnectionLost)));
    }
    // One that was not sent at all is no mystery.
    let nobody: Result<u32, _> = client.call_with("hold", &(), within(Duration::from_millis(50)));
    assert_eq!(nobody, Err(CallError::NotExecuted(NotExecuted::NotConnected)));
    let _second = Victim::start(addr.port(), 2);
    assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
}

#[cfg(target_os = "linux")]
#[test]
fn f49_a_server_that_is_stopped_and_continued_all_the_time_serves_on() {
    // Each continuation ends `epoll_wait` with EINTR, also where no signal handler is (`man 7 signal`).
    let victim = Victim::start(0, 1);
    let client = RpcClient::connect(victim.addr).unwrap();
    assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
    let storm = format!(
        "for i in 1 2 3 4 5 6 7 8 9 10; do kill -STOP {0}; kill -CONT {0}; done",
        victim.process.id()
    );
    for n in 0..50 {
        let mut storm = spawn(Command::new("sh").args(["-c", &storm]));
        for m in 0..10 {
            assert_eq!(client.call(ADD, &(n, m)), Ok(n + m));
        }
        assert!(storm.wait().unwrap().success());
    }
    assert_eq!(client.stats().calls.unknown, 0);
}

#[test]
fn twenty_thousand_subscriptions_are_all_there_after_a_restart() {
    let _ports = ports_are_free_when_closed();
    const COUNT: u64 = 20_000;
    let server = RpcServer::builder().bind("127.0.0.1:0").unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let mut subscription: Subscription<u64> = client.subscribe("topic.0.").unwrap();
    for n in 1..COUNT - 1 {
        subscription.add(format!("topic.{n}.")).unwrap();
    }
    assert!(subscription.add_and_wait(format!("topic.{}.", COUNT - 1), LONG).unwrap());
    let mut random = Random(0x5eed);
    for life in 1..=2 {
        for _ in 0..500 {
            let n = random.below(COUNT);
            // Beside it, beyond it, and short of it.
            for other in [format!("topic.{}.", COUNT + n), format!("topic.{n}"), String::from("news.")] {
                assert_eq!(server.publish(other, &n).unwrap().subscribers, 0);
            }
            assert_eq!(server.publish(format!("topic.{n}.x"), &n).unwrap().subscribers, 1);
            assert_eq!(next_message(&mut subscription), n);
        }
        if life == 1 {
            server.stop();
            server.start().unwrap();
            while !matches!(subscription.recv_timeout(LONG).expect("an event"), Event::Restarted { .. }) {}
        }
    }
    assert_eq!(subscription.stats().received, 1_000);
}

#[test]
fn disconnected_and_reconnected_are_told_once_per_change_of_the_whole() {
    let _ports = ports_are_free_when_closed();
    let server = builder().bind("127.0.0.1:0").unwrap();
    let (sender, told) = mpsc::channel();
    let again = sender.clone();
    let client = RpcClient::builder()
        .on_disconnected(move || sender.send("disconnected").unwrap())
        .on_reconnected(move || again.send("reconnected").unwrap())
        .connect(server.local_addr())
        .unwrap();
    let subscriptions: Vec<Subscription<u8>> =
        (0..3).map(|_| client.subscribe_and_wait("", LONG).unwrap().expect("subscribed")).collect();
    assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
    for _ in 0..3 {
        server.stop();
        assert_eq!(told.recv_timeout(LONG), Ok("disconnected"));
        server.start().unwrap();
        assert_eq!(told.recv_timeout(LONG), Ok("reconnected"));
    }
    drop(subscriptions);
    // To be stopped is no loss.
    client.stop();
    drop(client);
    assert_eq!(told.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn what_is_dropped_while_it_is_away_is_no_longer_missing() {
    let (calls, events) = (builder().bind("127.0.0.1:0").unwrap(), builder().bind("127.0.0.1:0").unwrap());
    let (sender, told) = mpsc::channel();
    let again = sender.clone();
    let client = RpcClient::builder()
        .events_at(events.local_addr())
        .on_disconnected(move || sender.send("disconnected").unwrap())
        .on_reconnected(move || again.send("reconnected").unwrap())
        .connect(calls.local_addr())
        .unwrap();
    let subscription = client.subscribe_and_wait::<u8>("", LONG).unwrap().expect("subscribed");
    assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
    events.stop();
    assert_eq!(told.recv_timeout(LONG), Ok("disconnected"));
    drop(subscription);
    assert_eq!(told.recv_timeout(LONG), Ok("reconnected"));
    assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
}

#[test]
fn both_ends_can_be_stopped_twice_and_started_again() {
    let _ports = ports_are_free_when_closed();
    let server = builder().bind("127.0.0.1:0").unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let mut epochs = Vec::new();
    for _ in 0..5 {
        assert_eq!(call_until_answered(&client, (1, 2)), 3);
        // Not what an earlier life would say.
        assert_eq!(client.call_with(ADD, &(1, 2), CallOptions::new().fail_fast()), Ok(3));
        let mut all = client.subscribe_and_wait("", LONG).unwrap().expect("subscribed");
        server.publish("a", &7u8).unwrap();
        assert_eq!(next_message::<u8>(&mut all), 7);
        client.stop();
        client.stop();
        while all.recv_timeout(LONG).is_some() {}
        assert!(all.is_over());
        assert!(!all.wait_subscribed(LONG) || all.is_over());
        let refused = CallError::NotExecuted(NotExecuted::ShuttingDown);
        assert_eq!(client.call(ADD, &(1, 2)), Err(refused));
        assert!(client.subscribe::<u8>("").is_err());
        client.start().unwrap();
        assert!(matches!(client.start(), Err(net::Error::AlreadyRunning)));
        epochs.extend(server.epoch());
        server.stop();
        server.stop();
        assert_eq!((server.epoch(), server.is_running()), (None, false));
        assert!(server.publish("a", &7u8).is_err());
        server.start().unwrap();
        assert!(matches!(server.start(), Err(BindError::Net(net::Error::AlreadyRunning))));
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 5, "each life has an epoch of its own");
}

// Stopping.

#[test]
fn f68_a_stopping_server_answers_what_runs_and_what_has_not_started() {
    let (open, gate) = gate();
    let (begun, begins) = mpsc::channel();
    let server = RpcServer::builder()
        .register("hold", move |n: u32| {
            begun.send(())?;
            gate();
            Ok(n)
        })
        .limits(limits(|limits| limits.linger = LONG))
        .bind("127.0.0.1:0")
        .unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let running: PendingCall<u32> = client.start_call("hold", &1u32, within(LONG)).unwrap();
    begins.recv_timeout(LONG).unwrap();
    let queued: Vec<PendingCall<u32>> =
        (2..5).map(|n: u32| client.start_call("hold", &n, within(LONG)).unwrap()).collect();
    eventually("the calls are queued", || server.stats().lanes.iter().any(|(_, waiting)| *waiting == 3));
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| server.stop());
        for call in queued {
            assert_eq!(call.wait(), Err(CallError::NotExecuted(NotExecuted::ShuttingDown)));
        }
        assert!(!stop.is_finished(), "it waits for the one that runs");
        open.send(()).unwrap();
        assert_eq!(running.wait(), Ok(1), "and its answer is not lost");
        stop.join().unwrap();
    });
}

#[test]
fn stopping_does_not_wait_for_a_silent_peer() {
    let linger = LONG / 2;
    let limits = limits(|limits| limits.linger = linger);
    // A server whose clients neither read nor close.
    let server = builder().limits(limits.clone()).bind("127.0.0.1:0").unwrap();
    let mut silent: Vec<Raw> = (0..3).map(|_| Raw::connect(server.local_addr())).collect();
    silent[0].shake_hands(Role::Requester);
    silent[1].shake_hands(Role::Subscriber);
    let begun = Instant::now();
    server.stop();
    assert!(begun.elapsed() < linger, "it waited for somebody who never answers");

    // A client whose server neither reads nor closes.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = RpcClient::builder().limits(limits).connect(listener.local_addr().unwrap()).unwrap();
    let _server = welcome(&listener);
    assert!(client.wait_connected(LONG));
    let begun = Instant::now();
    client.stop();
    assert!(begun.elapsed() < linger, "it waited for somebody who never answers");
}

/// A server in bytes: takes one connection and lets it in.
fn welcome(listener: &TcpListener) -> Raw {
    let mut raw = Raw::new(listener.accept().unwrap().0);
    let greeting = raw.read_frame().expect("a greeting");
    assert!(matches!(Frame::decode(&greeting), Ok(Frame::Hello(_))));
    raw.send_frame(&Frame::Welcome(Welcome::new(7, false, 10_000, 16 * 1024 * 1024)));
    raw.send_frame(&Frame::Heartbeat(Heartbeat { wall_clock_ns: 0, position: 0 }));
    raw
}

#[test]
fn a_stopping_client_says_what_it_knows_of_its_calls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = RpcClient::connect(listener.local_addr().unwrap()).unwrap();
    let mut server = welcome(&listener);
    let sent: PendingCall<()> = client.start_call("f", &(), within(LONG)).unwrap();
    let request = server.read_frame().expect("the request");
    assert!(matches!(Frame::decode(&request), Ok(Frame::Request { .. })));
    client.stop();
    assert_eq!(sent.wait(), Err(CallError::Unknown(Unknown::Stopped)));

    client.start().unwrap();
    let unsent: PendingCall<()> = client.start_call("f", &(), within(LONG)).unwrap();
    client.stop();
    assert_eq!(unsent.wait(), Err(CallError::NotExecuted(NotExecuted::ShuttingDown)));
}

// Functions.

#[test]
fn f59_a_function_that_sleeps_through_five_heartbeat_timeouts_disturbs_nobody_else() {
    let limits = limits(|limits| {
        limits.heartbeat_interval = Duration::from_millis(50);
        limits.heartbeat_timeout = Duration::from_millis(250);
    });
    let (open, gate) = gate();
    let server = builder()
        .register("sleep", move |_: ()| {
            gate();
            Ok(())
        })
        .limits(limits.clone())
        .bind("127.0.0.1:0")
        .unwrap();
    let mut bystander = Bystander::new(&server);
    let (sender, lost) = mpsc::channel();
    let client = RpcClient::builder()
        .limits(limits)
        .on_disconnected(move || sender.send(()).unwrap())
        .connect(server.local_addr())
        .unwrap();
    let mut all: Subscription<i64> = client.subscribe_and_wait("", LONG).unwrap().expect("subscribed");
    let sleeping: PendingCall<()> = client.start_call("sleep", &(), within(LONG)).unwrap();
    // A peer that counts the heartbeats: one each 50 ms, so that these take five timeouts.
    let mut raw = Raw::connect(server.local_addr());
    raw.shake_hands(Role::Requester);
    for _ in 0..25 {
        let heartbeat = raw.read_frame().expect("a heartbeat");
        assert_eq!(heartbeat[0], Kind::Heartbeat as u8);
        assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
        bystander.notices_nothing();
        next_message(&mut all);
    }
    assert!(!sleeping.is_ready());
    open.send(()).unwrap();
    assert_eq!(sleeping.wait(), Ok(()));
    assert!(lost.try_recv().is_err(), "the server was declared dead");
}

#[test]
fn f55_a_panic_in_a_function_is_the_end_of_that_call_alone() {
    let server = builder()
        .register("panic", |_: ()| -> FunctionResult<()> { panic!("as asked for") })
        .register_inline("panic inline", |_: ()| -> FunctionResult<()> { panic!("as asked for") })
        .register_deferred("panic deferred", |_: (), _: Responder<()>| panic!("as asked for"))
        .bind("127.0.0.1:0")
        .unwrap();
    let mut bystander = Bystander::new(&server);
    let client = RpcClient::connect(server.local_addr()).unwrap();
    for name in ["panic", "panic inline", "panic deferred"] {
        for _ in 0..3 {
            match client.call::<_, ()>(name, &()) {
                Err(CallError::Failed(failure)) => assert_eq!(failure.kind, FailureKind::Panicked),
                other => panic!("{name}: {other:?}"),
            }
            bystander.notices_nothing();
        }
    }
}

#[test]
fn functions_may_publish_and_stop_their_own_server() {
    let own: Arc<OnceLock<RpcServer>> = Arc::default();
    let of = || Arc::clone(&own);
    let (publishes, publishes_inline, stops, stops_inline) = (of(), of(), of(), of());
    let server = builder()
        .register("publish", move |n: u8| Ok(publishes.get().ok_or("not yet")?.publish("own", &n)?.seq))
        .register_inline("publish inline", move |n: u8| {
            Ok(publishes_inline.get().ok_or("not yet")?.publish("own", &n)?.seq)
        })
        .register("stop", move |_: ()| {
            stops.get().ok_or("not yet")?.stop();
            Ok(())
        })
        .register_inline("stop inline", move |_: ()| {
            stops_inline.get().ok_or("not yet")?.stop();
            Ok(())
        })
        .bind("127.0.0.1:0")
        .unwrap();
    own.set(server.clone()).unwrap();
    let limits = limits(|limits| limits.resume_wait = Duration::from_millis(20));
    let reconnect = Reconnect::zmq(5, 0);
    let client =
        RpcClient::builder().limits(limits).reconnect(reconnect).connect(server.local_addr()).unwrap();
    let mut all = client.subscribe_and_wait("", LONG).unwrap().expect("subscribed");
    for (n, name) in ["publish", "publish inline", "publish"].into_iter().enumerate() {
        assert_eq!(client.call::<u8, u64>(name, &(n as u8)), Ok(n as u64));
        assert_eq!(next_message::<u8>(&mut all), n as u8);
    }
    for name in ["stop", "stop inline"] {
        // Whether its own answer still comes through is not promised, only that it says so if not.
        let stopped = client.call_with::<_, ()>(name, &(), within(LONG));
        assert!(matches!(stopped, Ok(()) | Err(CallError::Unknown(_))), "{name}: {stopped:?}");
        eventually("it is stopped", || !server.is_running());
        // Stopping from a function does not wait for its listeners to be closed.
        eventually("it can be started again", || server.start().is_ok());
        assert_eq!(call_until_answered(&client, (1, 2)), 3);
    }
    server.stop();
}

#[test]
fn f67_a_call_that_has_expired_is_never_started() {
    let (open, gate) = gate();
    let (begun, begins) = mpsc::channel();
    let runs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&runs);
    let server = RpcServer::builder()
        .register("hold", move |_: ()| {
            begun.send(())?;
            gate();
            Ok(())
        })
        .register("count", move |_: ()| Ok(counted.fetch_add(1, Ordering::SeqCst)))
        .register("fence", |_: ()| Ok(()))
        .bind("127.0.0.1:0")
        .unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let held: PendingCall<()> = client.start_call("hold", &(), within(LONG)).unwrap();
    begins.recv_timeout(LONG).unwrap();
    // One that its client takes back, and one whose client says nothing more.
    let short = within(Duration::from_millis(20));
    assert_eq!(
        client.call_with::<_, u64>("count", &(), short),
        Err(CallError::Unknown(Unknown::Deadline)),
        "it was sent, so that the client cannot know"
    );
    let mut raw = Raw::connect(server.local_addr());
    raw.shake_hands(Role::Requester);
    let header = Request { id: 1, time_left_ms: 1, function: "count", settled: Ids::default() };
    raw.send_frame(&Frame::Request { header, arguments: &[] });
    eventually("both have come", || server.stats().machine.replier.requests == 3);
    // Its millisecond is over when this much later call has ended.
    assert!(client.call_with::<_, u64>("count", &(), short).is_err());
    open.send(()).unwrap();
    assert_eq!(held.wait(), Ok(()));
    assert_eq!(client.call("fence", &()), Ok(()));
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    let reply = raw.last_reply();
    assert_eq!(reply, Reply { id: 1, status: Status::NotExecuted(Refusal::Expired) });
}

trait LastReply {
    fn last_reply(&mut self) -> Reply;
}

impl LastReply for Raw {
    /// The next reply, past heartbeats.
    fn last_reply(&mut self) -> Reply {
        loop {
            let body = self.read_frame().expect("a reply");
            match Frame::decode(&body) {
                Ok(Frame::Reply { header, .. }) => return header,
                Ok(Frame::Heartbeat(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn f27_calls_beyond_the_bound_are_refused_on_either_side() {
    let held: Arc<Mutex<Vec<Responder<()>>>> = Arc::default();
    let holds = Arc::clone(&held);
    let server = builder()
        .register_deferred("hold", move |_: (), responder| holds.lock().unwrap().push(responder))
        .limits(limits(|limits| limits.max_in_flight = 6))
        .bind("127.0.0.1:0")
        .unwrap();
    let mut bystander = Bystander::new(&server);
    let full = CallError::NotExecuted(NotExecuted::Full);
    let limits = limits(|limits| limits.max_in_flight = 4);
    let at_the_client = RpcClient::builder().limits(limits).connect(server.local_addr()).unwrap();
    let at_the_server = RpcClient::connect(server.local_addr()).unwrap();
    for (client, bound) in [(at_the_client, 4), (at_the_server, 6)] {
        let calls: Vec<PendingCall<()>> =
            (0..bound).map(|_| client.start_call("hold", &(), within(LONG)).unwrap()).collect();
        assert_eq!(client.call(ADD, &(1, 2)), Err(full.clone()));
        bystander.notices_nothing();
        eventually("all are held", || held.lock().unwrap().len() == bound);
        // Under no lock of ours: to answer writes.
        let responders = std::mem::take(&mut *held.lock().unwrap());
        assert!(responders.into_iter().all(|responder| responder.ok(&())));
        for call in calls {
            assert_eq!(call.wait(), Ok(()));
        }
        assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
    }
}

#[test]
fn an_answer_may_come_later_from_another_thread_or_never() {
    let (sender, responders) = mpsc::channel();
    let server = builder()
        .register_deferred("later", move |n: i64, responder: Responder<i64>| {
            let _ = sender.send((n, responder));
        })
        .bind("127.0.0.1:0")
        .unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let calls: Vec<PendingCall<i64>> =
        (0..4).map(|n: i64| client.start_call("later", &n, within(LONG)).unwrap()).collect();
    let mut taken: Vec<_> = (0..4).map(|_| responders.recv_timeout(LONG).unwrap()).collect();
    // Its lane is free meanwhile.
    assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
    // In another order than they came.
    taken.reverse();
    for (n, responder) in taken {
        match n {
            0 => drop(responder),
            1 => assert!(responder.failed("no")),
            _ => assert!(responder.ok(&(n * 10))),
        }
    }
    let outcomes: Vec<_> = calls.into_iter().map(PendingCall::wait).collect();
    let failed =
        |kind, text: &str| Err(CallError::Failed(pulsewire::Failure { kind, text: String::from(text) }));
    let expected = [failed(FailureKind::Dropped, ""), failed(FailureKind::Function, "no"), Ok(20), Ok(30)];
    assert_eq!(outcomes, expected);
}

#[test]
fn functions_of_a_lane_run_in_order_on_its_thread_and_inline_ones_where_they_are_read() {
    let (sender, ran) = mpsc::channel();
    let noted = move |n: u32| -> FunctionResult<String> {
        sender.send(n)?;
        Ok(std::thread::current().name().unwrap_or_default().into())
    };
    let server = RpcServer::builder()
        .register_on("history", "in history", noted)
        .register("in main", |_: ()| Ok(String::from(std::thread::current().name().unwrap_or_default())))
        .register_inline("inline", |_: ()| {
            Ok(String::from(std::thread::current().name().unwrap_or_default()))
        })
        .bind("127.0.0.1:0")
        .unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let calls: Vec<PendingCall<String>> =
        (0..500u32).map(|n| client.start_call("in history", &n, within(LONG)).unwrap()).collect();
    assert_eq!(client.call::<_, String>("in main", &()).as_deref(), Ok("main"));
    assert_eq!(client.call::<_, String>("inline", &()).as_deref(), Ok("pulsewire-server"));
    for call in calls {
        assert_eq!(call.wait().as_deref(), Ok("history"));
    }
    assert_eq!(ran.try_iter().collect::<Vec<u32>>(), (0..500).collect::<Vec<u32>>());
}

// Callbacks.

#[test]
fn f56_a_panic_in_a_callback_costs_one_event() {
    let server = builder().limits(without_heartbeats()).bind("127.0.0.1:0").unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let (sender, events) = mpsc::channel();
    let (open, gate) = gate();
    client
        .on_event::<u32>("", move |event| match event {
            Event::Subscribed { .. } => {
                sender.send(u32::MAX).unwrap();
                // What is published now comes in one go.
                gate();
            }
            Event::Message { data, .. } if data % 10 == 3 => panic!("as asked for"),
            Event::Message { data, .. } => sender.send(data).unwrap(),
            _ => {}
        })
        .unwrap();
    assert_eq!(events.recv_timeout(LONG), Ok(u32::MAX));
    for n in 0..30u32 {
        server.publish("n", &n).unwrap();
    }
    open.send(()).unwrap();
    for n in (0..30).filter(|n| n % 10 != 3) {
        assert_eq!(events.recv_timeout(LONG), Ok(n), "without another event to remind it");
    }
    assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
}

/// A client in a slot, from which a callback takes it.
type OwnClient = Arc<Mutex<Option<RpcClient>>>;

/// Has `act` called in a callback, with the client that it belongs to. Ends when what the callback owns is dropped.
fn in_a_callback(act: impl Fn(&OwnClient) -> Result<(), CallError> + Send + 'static) -> Receiver<()> {
    let server = builder().bind("127.0.0.1:0").unwrap();
    let slot: OwnClient = Arc::default();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let (sender, done) = mpsc::channel();
    let own = Arc::clone(&slot);
    let other = client.clone();
    // Once: of several messages the later ones would find the server gone that the first one's end lets go.
    let mut acted = false;
    client
        .on_event::<u8>("", move |event| {
            if matches!(event, Event::Message { .. }) && !std::mem::replace(&mut acted, true) {
                act(&own).unwrap();
                sender.send(()).unwrap();
            }
        })
        .unwrap();
    *slot.lock().unwrap() = Some(client);
    let mut seen = other.subscribe_and_wait::<u8>("", LONG).unwrap().expect("subscribed");
    drop(other);
    // The callback's own subscription may be later: publish until it has had one.
    loop {
        server.publish("", &1u8).unwrap();
        let _ = seen.recv_timeout(Duration::from_millis(5));
        if done.recv_timeout(Duration::from_millis(5)).is_ok() {
            return done;
        }
    }
}

fn own(slot: &OwnClient) -> RpcClient {
    slot.lock().unwrap().clone().expect("the client is here")
}

#[test]
fn f58_a_callback_may_call_and_subscribe() {
    let (sender, nested) = mpsc::channel();
    let done = in_a_callback(move |slot| {
        let client = own(slot);
        assert_eq!(client.call(ADD, &(1, 2))?, 3);
        let subscription = client.subscribe_and_wait::<u8>("x", LONG).unwrap();
        assert!(subscription.is_some_and(|subscription| subscription.is_connected()));
        let sender = sender.clone();
        client.on_event::<u8>("", move |_| sender.send(()).unwrap_or_default()).unwrap();
        Ok(())
    });
    nested.recv_timeout(LONG).unwrap();
    drop(done);
}

#[test]
fn f60_a_callback_may_stop_its_client_and_drop_its_last_handle() {
    // Whatever it owns goes with the client.
    let ends = |done: Receiver<()>| {
        while done.recv_timeout(LONG).is_ok() {}
        assert_eq!(done.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected));
    };
    ends(in_a_callback(|slot| {
        own(slot).stop();
        own(slot).stop();
        assert_eq!(own(slot).call(ADD, &(1, 2)), Err(CallError::NotExecuted(NotExecuted::ShuttingDown)));
        Ok(())
    }));
    ends(in_a_callback(|slot| {
        drop(slot.lock().unwrap().take());
        Ok(())
    }));
}

#[test]
fn the_last_handle_takes_the_server_with_it_and_frees_its_port() {
    let _ports = ports_are_free_when_closed();
    let server = builder().bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr();
    let other = server.clone();
    drop(server);
    let client = RpcClient::connect(addr).unwrap();
    assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
    drop(other);
    drop(TcpListener::bind(addr).unwrap());
}

// Slow and large.

#[test]
fn f28_a_slow_subscriber_is_told_exactly_what_it_missed_and_others_notice_nothing() {
    const COUNT: u64 = 20_000;
    let server = RpcServer::builder()
        .limits(limits(|limits| limits.log_bytes = 64 * 1024))
        .bind("127.0.0.1:0")
        .unwrap();
    let limits = limits(|limits| limits.inbox_bytes = 16 * 1024);
    let slow = RpcClient::builder().limits(limits).connect(server.local_addr()).unwrap();
    let quick = RpcClient::connect(server.local_addr()).unwrap();
    let mut slow: Subscription<(u64, Vec<u8>)> =
        slow.subscribe_and_wait("", LONG).unwrap().expect("subscribed");
    let mut quick: Subscription<(u64, Vec<u8>)> =
        quick.subscribe_and_wait("", LONG).unwrap().expect("subscribed");
    for n in 0..COUNT {
        server.publish("n", &(n, vec![0; 1_000])).unwrap();
        // No further than it can follow.
        assert_eq!(next_message(&mut quick).0, n);
    }
    let (mut received, mut lost, mut next) = (0, 0, 0);
    while received + lost < COUNT {
        match slow.recv_timeout(LONG).expect("an event") {
            Event::Message { data: (n, _), .. } => {
                assert_eq!(n, next, "the gaps are where they are said to be");
                next = n + 1;
                received += 1;
            }
            Event::Lost { before, after, lost: Lost::Exact(count) } => {
                assert_eq!((before, after), (next, next + count));
                next = after;
                lost += count;
            }
            Event::Connected { .. } | Event::Subscribed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(lost > 0, "it was not slow enough");
    assert_eq!((received + lost, next), (COUNT, COUNT));
    let stats = slow.stats();
    assert_eq!((stats.received, stats.lost, stats.lost_at_most), (received, lost, 0));
    assert_eq!(quick.stats().lost, 0);
}

#[test]
fn messages_just_below_the_limits_pass_and_those_above_are_refused_with_the_numbers() {
    let server = RpcServer::builder()
        .register_bytes("echo", |bytes| Ok(bytes.to_vec()))
        .register_bytes("much", |_| Ok(vec![1; 17 * 1024 * 1024]))
        .limits(without_heartbeats())
        .bind("127.0.0.1:0")
        .unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let limit: u32 = 16 * 1024 * 1024;
    // The client reserves some room for its header; the refusal says how much too long it was.
    let too_long = |len: usize| match client.call_bytes("echo", &vec![1; len], within(LONG)) {
        Err(CallError::NotExecuted(NotExecuted::TooLong { len, limit: refused })) => {
            assert_eq!(refused, limit);
            len - u64::from(limit)
        }
        other => panic!("{:?}", other.map(|bytes| bytes.len())),
    };
    let excess = too_long(limit as usize);
    let longest = limit as usize - excess as usize;
    assert_eq!(too_long(longest + 1), 1);
    let bytes: Vec<u8> = (0..longest).map(|n| n as u8).collect();
    assert!(client.call_bytes("echo", &bytes, within(LONG)).as_deref() == Ok(&bytes[..]));
    // A result that fits into no frame: it has run.
    assert_eq!(client.call_bytes("much", &[], within(LONG)), Err(CallError::ResultNotKept));

    let mut all = client.subscribe_and_wait::<Vec<u8>>("", LONG).unwrap().expect("subscribed");
    let publish = |len: usize| server.publish("large", &vec![7u8; len]);
    let refused = publish(limit as usize).unwrap_err();
    let pulsewire::PublishFailed::Refused(PublishError::TooLong { len, limit }) = refused else {
        panic!("{refused:?}");
    };
    let longest = limit as usize - (len as usize - 16 * 1024 * 1024);
    publish(longest).unwrap();
    assert_eq!(next_message(&mut all).len(), longest);
    // A byte for its own length may come or go with the size; a few more never fit.
    assert!(publish(longest + 4).is_err());
    let topic = "t".repeat(256);
    let refused = server.publish(&topic, &1u8).unwrap_err();
    let expected = PublishError::TopicTooLong { len: 256, limit: 255 };
    assert_eq!(refused, pulsewire::PublishFailed::Refused(expected));
    assert_eq!(client.call_bytes("echo", b"still here", within(LONG)).as_deref(), Ok(&b"still here"[..]));
}

// The other side is not what it should be.

#[test]
fn f15_a_reply_that_nobody_waits_for_reaches_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = RpcClient::connect(listener.local_addr().unwrap()).unwrap();
    let mut server = welcome(&listener);
    let reply = |server: &mut Raw, id: u64, payload: &[u8]| {
        server.send_frame(&Frame::Reply { header: Reply { id, status: Status::Ok }, payload });
    };
    reply(&mut server, 1, b"too early");
    eventually("it has come", || client.stats().calls.late_replies == 1);
    let first = std::thread::scope(|scope| {
        let call = scope.spawn(|| client.call_bytes("f", b"", within(LONG)));
        reply(&mut server, 999, b"of the future");
        next_request(&mut server);
        eventually("the strange ones have come", || client.stats().calls.late_replies == 2);
        reply(&mut server, 1, b"right");
        reply(&mut server, 1, b"twice");
        call.join().unwrap()
    });
    assert_eq!(first.as_deref(), Ok(&b"right"[..]));
    eventually("the double has come", || client.stats().calls.late_replies == 3);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| client.call_bytes("f", b"", within(LONG)));
        next_request(&mut server);
        reply(&mut server, 1, b"once more");
        reply(&mut server, 2, b"right again");
        assert_eq!(call.join().unwrap().as_deref(), Ok(&b"right again"[..]));
    });
}

/// Reads on to a request, past what is settled: before it has come, an answer to it is one that nobody waits for.
fn next_request(server: &mut Raw) {
    while server.read_frame().expect("a request")[0] != Kind::Request as u8 {}
}

#[test]
fn f01_a_client_survives_a_server_that_is_none_and_finds_the_real_one() {
    let strangers: [&[u8]; 5] =
        [b"HTTP/1.1 400 Bad Request\r\n\r\n", &[0; 64], &[0xff; 64], b"\x05\x00\x00\x00\x0cabcd", b""];
    for bytes in strangers {
        let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = builder().bind("127.0.0.1:0").unwrap();
        let (sender, causes) = mpsc::channel();
        let client = RpcClient::builder()
            .or_address(server.local_addr())
            .on_connection(move |event| {
                if let ConnectionEvent::RetryIn { cause, .. } = &event.event {
                    let _ = sender.send(cause.clone());
                }
            })
            .connect(stranger.local_addr().unwrap())
            .unwrap();
        let mut raw = Raw::new(stranger.accept().unwrap().0);
        assert!(raw.read_frame().is_some_and(|hello| hello[0] == Kind::Hello as u8));
        raw.send(bytes);
        if bytes.is_empty() {
            drop(raw);
        } else {
            raw.expect_silent_end();
        }
        assert!(matches!(causes.recv_timeout(LONG), Ok(Cause::Closed(_))));
        assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_client_whose_server_reads_nothing_does_not_spin() {
    let process = Process::start("blocked-client");
    assert_eq!(process.hear(), "blocked");
    let (ticks, _) = used_by_threads(process.id(), "pulsewire-clien");
    assert_eq!(process.hear_within(A_WHILE), None);
    let (ticks_after, _) = used_by_threads(process.id(), "pulsewire-clien");
    assert!(ticks_after - ticks < 25, "{} hundredths of a second in half a second", ticks_after - ticks);
}

#[cfg(target_os = "linux")]
fn blocked_client() {
    live_no_longer_than_the_parent();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = RpcClient::connect(listener.local_addr().unwrap()).unwrap();
    let mut server = welcome(&listener);
    let first: PendingCall<()> = client.start_call("f", &(), within(A_WHILE)).unwrap();
    server.read_frame().expect("the request");
    let large = vec![0u8; 15 * 1024 * 1024];
    let large: PendingCall<()> = client.start_call("f", &large, within(LONG)).unwrap();
    // It was sent and ends without an answer: to be settled at once, behind what cannot be written.
    assert_eq!(first.wait(), Err(CallError::Unknown(Unknown::Deadline)));
    say("blocked");
    drop(large);
    loop {
        std::thread::park();
    }
}

// Bare sockets: nobody turns them but their owner.

const STEP: Option<Duration> = Some(Duration::from_millis(1));

#[test]
fn bare_sockets_call_and_answer() {
    let mut replier = Replier::bind("127.0.0.1:0", Limits::default(), false).unwrap();
    let mut requester =
        Requester::connect(&[replier.local_addr()], Limits::default(), Reconnect::default()).unwrap();
    let deadline = Instant::now() + LONG;
    for n in 0..100u8 {
        let id = requester.start_request("echo", &[n], LONG).unwrap();
        let done = loop {
            assert!(Instant::now() < deadline);
            if let Some(call) = replier.recv(STEP).unwrap() {
                assert_eq!(&*call.function, "echo");
                assert!(replier.reply(call.ticket, Status::Ok, &call.arguments));
            }
            if let Some(done) = requester.next_done(STEP).unwrap() {
                break done;
            }
        };
        assert_eq!((done.id, done.outcome), (id, Outcome::Value(vec![n].into())));
    }
    assert!(requester.is_connected());
    requester.close().unwrap();
    eventually("the replier notices", || {
        replier.poll(STEP).unwrap();
        replier.stats().connections == 0
    });
    replier.close().unwrap();
}

#[test]
fn a_bare_replier_refuses_what_has_expired_while_nobody_turned_it() {
    let mut replier = Replier::bind("127.0.0.1:0", without_heartbeats(), false).unwrap();
    let mut raw = Raw::connect(replier.local_addr());
    raw.send_frame(&hello(Role::Requester));
    eventually("it is let in", || {
        replier.poll(STEP).unwrap();
        replier.stats().welcomed == 1
    });
    let header = Request { id: 1, time_left_ms: 1, function: "f", settled: Ids::default() };
    raw.send_frame(&Frame::Request { header, arguments: &[] });
    eventually("the request is read", || {
        replier.poll(STEP).unwrap();
        replier.stats().replier.requests == 1
    });
    // Time passes in which nobody asks for it.
    replier.poll(Some(Duration::from_millis(20))).unwrap();
    assert_eq!(replier.recv(Some(Duration::ZERO)).unwrap(), None);
    assert_eq!(replier.stats().replier.expired, 1);
    raw.read_frame().expect("the welcome");
    assert_eq!(raw.last_reply().status, Status::NotExecuted(Refusal::Expired));
}

#[test]
fn a_bare_subscriber_that_fell_behind_reads_on_by_itself() {
    let mut limits = without_heartbeats();
    limits.inbox_bytes = 1_000;
    let mut publisher = Publisher::bind("127.0.0.1:0", limits.clone(), false).unwrap();
    let address = [publisher.local_addr()];
    let mut subscriber = Subscriber::connect(&address, "", limits, Reconnect::default()).unwrap();
    while !publisher.wait_for_subscribers(1, Duration::from_millis(1)).unwrap() {
        subscriber.recv(STEP).unwrap();
    }
    // More than one read takes, and less than the kernel does: nothing is left to be said when it is paused.
    const COUNT: u64 = 5_000;
    for n in 0..COUNT {
        publisher.publish("n", &n.to_le_bytes()).unwrap();
    }
    eventually("all is sent", || {
        publisher.poll(STEP).unwrap();
        publisher.stats().publisher.sent == COUNT
    });
    let mut next = 0u64;
    while next < COUNT {
        match subscriber.recv(Some(LONG)).unwrap().expect("an event") {
            pattern::Event::Message { seq, data, topic } => {
                assert_eq!((topic, seq, data), ("n", next, &next.to_le_bytes()[..]));
                next += 1;
            }
            other => {
                assert!(
                    !matches!(other, pattern::Event::Other(pattern::EventKind::Lost { .. })),
                    "{other:?}"
                );
            }
        }
    }
    assert!(subscriber.stats().pauses > 0, "it was never behind");
}

/// Not a test of its own: what the processes do that other tests start.
#[test]
fn plays_a_part() {
    let Some(part) = part() else { return };
    match part.split(' ').collect::<Vec<_>>()[..] {
        ["victim", port, life] => victim(port, life),
        #[cfg(target_os = "linux")]
        ["few-descriptors"] => few_descriptors(),
        #[cfg(target_os = "linux")]
        ["self-connection"] => self_connection(),
        #[cfg(target_os = "linux")]
        ["blocked-client"] => blocked_client(),
        _ => panic!("no part {part}"),
    }
}

/// A thing whose end is another panic.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("as planned");
    }
}

#[test]
fn f55_a_panic_whose_payload_panics_costs_one_call() {
    let server = RpcServer::builder()
        .register_inline("bomb", |_: ()| -> FunctionResult<()> { std::panic::panic_any(Bomb) })
        .register_inline("echo", |n: u32| Ok(n))
        .bind("127.0.0.1:0")
        .unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    assert!(matches!(client.call::<(), ()>("bomb", &()), Err(CallError::Failed(_))));
    assert_eq!(client.call::<u32, u32>("echo", &7), Ok(7));
}

#[test]
fn f56_on_client_may_panic_and_stop_the_server() {
    let slot: Arc<OnceLock<RpcServer>> = Arc::default();
    let inside = Arc::clone(&slot);
    let server = RpcServer::builder()
        .register("echo", |n: u32| Ok(n))
        .on_client(move |event| {
            if let (pattern::ServerEvent::Left { .. }, Some(server)) = (event, inside.get()) {
                server.stop();
            }
            panic!("as planned");
        })
        .bind("127.0.0.1:0")
        .unwrap();
    assert!(slot.set(server.clone()).is_ok());
    let silent = std::net::TcpStream::connect(server.local_addr()).unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    assert_eq!(client.call::<u32, u32>("echo", &7), Ok(7));
    server.stop();
    assert!(!server.is_running());
    drop(silent);
}

#[test]
fn f64_a_responder_that_outlives_its_server_keeps_nothing_of_it() {
    let kept: Arc<Mutex<Vec<Responder<u32>>>> = Arc::default();
    let weak = {
        let alive = Arc::new(());
        let weak = Arc::downgrade(&alive);
        let inside = Arc::clone(&kept);
        let server = RpcServer::builder()
            .register_deferred("later", move |_: (), responder: Responder<u32>| {
                let _alive = &alive;
                inside.lock().unwrap().push(responder);
            })
            .bind("127.0.0.1:0")
            .unwrap();
        let client = RpcClient::connect(server.local_addr()).unwrap();
        let options = CallOptions::new().timeout(Duration::from_millis(200));
        assert!(client.call_with::<(), u32>("later", &(), options).unwrap_err().may_have_run());
        server.stop();
        weak
    };
    let deadline = Instant::now() + LONG;
    while weak.upgrade().is_some() {
        assert!(Instant::now() < deadline, "the server's functions are still there");
        std::thread::yield_now();
    }
    assert!(!kept.lock().unwrap().pop().expect("one was kept").ok(&1), "nobody waits");
}

#[test]
fn f60_a_stopped_subscription_says_so_at_once() {
    let server = RpcServer::builder().bind("127.0.0.1:0").unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let subscription = client.subscribe_and_wait::<u32>("a", LONG).unwrap().unwrap();
    client.stop();
    assert_eq!(subscription.add("b"), Err(SubscribeError::Stopped));
    assert_eq!(subscription.add_and_wait("b", Duration::MAX), Err(SubscribeError::Stopped));
}

//! Real sockets on loopback, port 0, no sleeps: every wait is for an event, under one generous deadline.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pulsewire::rpc::CallOptions;
use pulsewire::{
    CallError, Event, Failure, FailureKind, FunctionResult, Limits, Method, NotExecuted, RpcClient,
    RpcServer, SubscribeError, Subscription, Topic, Unknown,
};

/// Nothing here takes this long unless it hangs.
const LONG: Duration = Duration::from_secs(30);

const ADD: Method<(i64, i64), i64> = Method::new("add");
const PRICES: Topic<f64> = Topic::new("price.");

fn server() -> RpcServer {
    RpcServer::builder()
        .register(ADD, |(a, b)| Ok(a + b))
        .register("no", |_: ()| -> FunctionResult<()> { Err("never".into()) })
        .register("panic", |_: ()| -> FunctionResult<()> { panic!("as asked for") })
        .register_inline("echo", |text: String| Ok(text))
        .bind("127.0.0.1:0")
        .unwrap()
}

/// The next message's topic and data, past everything else.
fn next_message<T: serde::de::DeserializeOwned>(subscription: &mut Subscription<T>) -> (String, T) {
    let deadline = Instant::now() + LONG;
    while let Some(event) = subscription.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if let Event::Message { topic, data, .. } = event {
            return (topic, data);
        }
    }
    panic!("no message");
}

#[test]
fn what_a_bare_publisher_has_gathered_is_written_by_its_next_poll() {
    use pulsewire::net::Publisher;
    let mut publisher = Publisher::bind("127.0.0.1:0", Limits::default(), false).unwrap();
    let client = RpcClient::connect(publisher.local_addr()).unwrap();
    let mut subscription = client.subscribe::<u32>("").unwrap();
    assert!(publisher.wait_for_subscribers(1, LONG).unwrap());
    for round in 0..20 {
        (0..100).for_each(|n| {
            publisher.publish("n", &postcard::to_stdvec(&(round * 100 + n)).unwrap()).unwrap();
        });
        publisher.poll(Some(Duration::ZERO)).unwrap();
        // From here on nobody turns its loop.
        (0..100u32).for_each(|n| assert_eq!(next_message(&mut subscription).1, round * 100 + n));
    }
}

#[test]
fn a_function_is_called_by_name() {
    let server = server();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let sum: i64 = client.call("add", &(1i64, 2i64)).unwrap();
    assert_eq!(sum, 3);
    assert_eq!(client.call(ADD, &(40, 2)).unwrap(), 42);
    assert_eq!(client.call::<_, String>("echo", "hello").unwrap(), "hello");
}

#[test]
fn what_goes_wrong_has_a_name_each_and_leaves_the_client_usable() {
    let server = server();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let failed = |name: &str| match client.call::<(), ()>(name, &()) {
        Err(CallError::Failed(failure)) => failure,
        other => panic!("{name}: {other:?}"),
    };
    let no = failed("no");
    assert_eq!((no.kind, no.text.as_str()), (FailureKind::Function, "never"));
    assert_eq!(failed("panic").kind, FailureKind::Panicked);
    assert_eq!(failed("nobody").kind, FailureKind::UnknownFunction);
    match client.call::<u8, i64>("add", &1) {
        Err(CallError::Failed(failure)) => assert_eq!(failure.kind, FailureKind::BadArguments),
        other => panic!("{other:?}"),
    }
    match client.call::<_, bool>("add", &(1i64, 200i64)) {
        Err(error @ CallError::BadResult(_)) => assert!(error.may_have_run()),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.call(ADD, &(1, 1)).unwrap(), 2);
}

#[test]
fn a_subscription_gets_what_matches_its_prefix_and_nothing_else() {
    let server = server();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let mut prices = client.subscribe_and_wait(PRICES, LONG).unwrap().expect("subscribed");
    server.publish("news.today", "nothing").unwrap();
    server.publish(PRICES.at("a"), &1.5).unwrap();
    server.publish("pric", &0.0).unwrap();
    server.publish("price.b", &2.5).unwrap();
    assert_eq!(next_message(&mut prices), (String::from("price.a"), 1.5));
    assert_eq!(next_message(&mut prices), (String::from("price.b"), 2.5));
    assert_eq!(prices.position(), 4);
    assert!(prices.add_and_wait("news.", LONG).unwrap());
    server.publish("news.flash", &9.0).unwrap();
    assert_eq!(next_message(&mut prices), (String::from("news.flash"), 9.0));
}

#[test]
fn a_timed_out_call_leaves_the_client_usable_and_its_late_reply_reaches_nobody() {
    let (release, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = RpcServer::builder()
        .register_on("slow", "slow", move |_: ()| {
            wait.lock().unwrap().recv()?;
            Ok(7u32)
        })
        .register("quick", |_: ()| Ok(1u32))
        .bind("127.0.0.1:0")
        .unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let options = CallOptions::new().timeout(Duration::from_millis(50));
    let late = client.call_with::<_, u32>("slow", &(), options);
    assert_eq!(late, Err(CallError::Unknown(Unknown::Deadline)));
    assert_eq!(client.call::<_, u32>("quick", &()), Ok(1));
    release.send(()).unwrap();
    for _ in 0..100 {
        assert_eq!(client.call::<_, u32>("quick", &()), Ok(1));
    }
}

#[test]
fn a_client_finds_a_server_that_comes_later_and_one_that_comes_back() {
    let first = server();
    let address = first.local_addr();
    first.stop();
    let client = RpcClient::connect(address).unwrap();
    let mut all: Subscription<u32> = client.subscribe("").unwrap();
    let options = CallOptions::new().fail_fast();
    assert_eq!(
        client.call_with(ADD, &(1, 2), options),
        Err(CallError::NotExecuted(NotExecuted::NotConnected))
    );
    first.start().unwrap();
    assert_eq!(first.local_addr(), address);
    assert_eq!(client.call(ADD, &(1, 2)), Ok(3));
    assert!(all.wait_subscribed(LONG));
    first.publish("a", &1u32).unwrap();
    assert_eq!(next_message(&mut all), (String::from("a"), 1));
    first.stop();
    first.start().unwrap();
    // It may meet the old connection, whose end the client has not read yet: then only its caller can say to try again.
    assert_eq!(client.call_with(ADD, &(2, 2), CallOptions::new().idempotent()), Ok(4));
    loop {
        match all.recv_timeout(LONG).expect("an event") {
            Event::Restarted { epoch, .. } => {
                assert_eq!(Some(epoch), first.epoch());
                break;
            }
            Event::Message { .. } => panic!("nothing was published"),
            _ => {}
        }
    }
}

#[test]
fn callbacks_run_in_order_and_may_call_the_client() {
    let server = server();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let (sender, results) = mpsc::channel();
    let inside = client.clone();
    client
        .on_event::<i64>("n.", move |event| {
            if let Event::Message { data, .. } = event {
                sender.send(inside.call(ADD, &(data, 1)).unwrap()).unwrap();
            } else if let Event::Subscribed { .. } = event {
                sender.send(-1).unwrap();
            }
        })
        .unwrap();
    assert_eq!(results.recv_timeout(LONG), Ok(-1));
    for n in 0..10i64 {
        server.publish("n.x", &n).unwrap();
    }
    for n in 0..10i64 {
        assert_eq!(results.recv_timeout(LONG), Ok(n + 1));
    }
}

#[test]
fn a_subscription_is_changed_and_ended_while_another_thread_waits_in_it() {
    let server = server();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let mut subscription = client.subscribe::<i64>("a.").unwrap();
    let control = subscription.control();
    let (sender, events) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        while let Some(event) = subscription.recv() {
            sender.send(event).unwrap();
        }
    });
    let next = |wanted: fn(&Event<i64>) -> bool| {
        std::iter::from_fn(|| events.recv_timeout(LONG).ok()).find(wanted).expect("it comes")
    };
    next(|event| matches!(event, Event::Subscribed { .. }));
    control.add("b.").unwrap();
    next(|event| matches!(event, Event::Subscribed { .. }));
    server.publish("b.x", &7i64).unwrap();
    next(|event| matches!(event, Event::Message { data: 7, .. }));
    assert_eq!(control.remove("c."), Err(SubscribeError::NotSubscribed));
    control.stop();
    reader.join().unwrap();
    assert_eq!(control.add("c."), Err(SubscribeError::Stopped));
}

#[test]
fn many_threads_share_one_client() {
    let server = server();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let calls = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8i64 {
            let (client, calls) = (&client, &calls);
            scope.spawn(move || {
                for n in 0..200 {
                    assert_eq!(client.call(ADD, &(thread, n)), Ok(thread + n));
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(calls.load(Ordering::Relaxed), 1_600);
}

#[test]
fn each_call_of_a_burst_gets_its_own_answer_wherever_its_function_runs() {
    let server = RpcServer::builder()
        .register_inline("double", |n: u64| Ok(2 * n))
        .register_inline("refuse", |n: u64| -> FunctionResult<u64> { Err(format!("not {n}").into()) })
        .register_inline("panic", |_: u64| -> FunctionResult<u64> { panic!("as asked for") })
        .register("triple", |n: u64| Ok(3 * n))
        .bind("127.0.0.1:0")
        .unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    for round in 0..20 {
        // Each kind is at the end of a burst, and at its beginning, some time.
        let functions = ["double", "triple", "refuse", "panic", "nowhere"].into_iter().cycle();
        let calls: Vec<_> = (0..100 + round % 5)
            .zip(functions)
            .map(|(n, function)| {
                (n, client.start_call::<u64, u64>(function, &n, CallOptions::new()).unwrap())
            })
            .collect();
        for (n, call) in calls.into_iter().rev() {
            let failed = |kind, text: String| Err(CallError::Failed(Failure { kind, text }));
            let expected = match n % 5 {
                0 => Ok(2 * n),
                1 => Ok(3 * n),
                2 => failed(FailureKind::Function, format!("not {n}")),
                3 => failed(FailureKind::Panicked, String::new()),
                _ => failed(FailureKind::UnknownFunction, "nowhere".into()),
            };
            assert_eq!(call.wait(), expected, "call {n} of round {round}");
        }
    }
    let stats = server.stats().machine.replier;
    assert_eq!((stats.requests, stats.started, stats.answered), (2_040, 1_640, 1_640));
}

/// A value that cannot be encoded: in front of what fails lies so much that a buffer has grown.
struct Unencodable {
    panics: bool,
    front: Vec<u8>,
}

impl serde::Serialize for Unencodable {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error, SerializeTuple};
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&self.front)?;
        assert!(!self.panics, "as asked for");
        Err(S::Error::custom("as asked for"))
    }
}

#[test]
fn a_result_that_cannot_be_encoded_costs_its_call_alone_whatever_is_in_front_of_it() {
    let result = |(panics, front): (bool, usize)| Ok(Unencodable { panics, front: vec![7; front] });
    let server = RpcServer::builder()
        .register("lane", result)
        .register_inline("inline", result)
        .register_deferred("deferred", |(panics, front): (bool, usize), responder| {
            responder.ok(&Unencodable { panics, front: vec![7; front] });
        })
        .register(ADD, |(a, b)| Ok(a + b))
        .bind("127.0.0.1:0")
        .unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    for function in ["lane", "inline", "deferred"] {
        for front in [0, 10, 100_000] {
            let call = |panics| client.call::<(bool, usize), ()>(function, &(panics, front)).unwrap_err();
            let CallError::Failed(Failure { kind, text }) = call(false) else {
                panic!("{function} did not fail")
            };
            assert_eq!(kind, FailureKind::Function);
            assert!(text.starts_with("the result cannot be encoded: "), "{text:?}");
            let CallError::Failed(Failure { kind, text }) = call(true) else {
                panic!("{function} did not panic")
            };
            assert_eq!((kind, &text[..]), (FailureKind::Panicked, ""));
            assert_eq!(client.call(ADD, &(1, 2)).unwrap(), 3);
        }
    }
}

//! Streams beside the main one over real sockets: their policies, their last values, and places that were saved.

mod support;

use std::sync::mpsc;
use std::time::Duration;

use pulsewire::pattern::{self, ConnectionEvent, EventKind, PublishError};
use pulsewire::{
    Event, Lost, PublishFailed, Retain, RpcClient, RpcServer, SlowPolicy, StreamOptions, SubscribeOptions,
    Subscription,
};
use serde::de::DeserializeOwned;
use support::{eventually, limits, LONG};

/// The next event that is not about the connection.
fn next<T: DeserializeOwned>(subscription: &mut Subscription<T>) -> Event<T> {
    loop {
        match subscription.recv_timeout(LONG).expect("an event") {
            Event::Connected { .. } | Event::Disconnected(_) | Event::RetryIn { .. } => {}
            event => return event,
        }
    }
}

fn message(topic: &str, seq: u64, data: u64) -> Event<u64> {
    Event::Message { topic: topic.into(), seq, data }
}

fn snapshot(topic: &str, seq: u64, data: u64) -> Event<u64> {
    Event::Snapshot { topic: topic.into(), seq, data }
}

#[test]
fn a_stream_is_followed_by_its_name_and_outlives_a_restart_of_its_server() {
    let server = RpcServer::builder()
        .stream("ticks", StreamOptions::default().log_messages(100))
        .bind("127.0.0.1:0")
        .unwrap();
    let (ticks, late) = (server.stream("ticks").unwrap(), server.stream("late").unwrap());
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let follow = |stream: &str| {
        let options = SubscribeOptions::default().stream(stream);
        let mut subscription = client.subscribe_with::<u64>("", options).unwrap();
        assert_eq!(next(&mut subscription), Event::Subscribed { position: 0 });
        subscription
    };
    let (mut main, mut of_ticks, mut of_late) = (follow(""), follow("ticks"), follow("late"));
    for life in 0..2 {
        if life == 1 {
            server.stop();
            assert_eq!(ticks.publish("a", &1u64), Err(PublishFailed::Refused(PublishError::Stopped)));
            server.start().unwrap();
            for subscription in [&mut main, &mut of_ticks, &mut of_late] {
                assert!(matches!(next(subscription), Event::Restarted { from: 0, .. }));
                assert_eq!(next(subscription), Event::Subscribed { position: 0 });
            }
        }
        server.publish("a", &1u64).unwrap();
        ticks.publish("a", &2u64).unwrap();
        late.publish("a", &3u64).unwrap();
        assert_eq!(next(&mut main), message("a", 0, 1));
        assert_eq!(next(&mut of_ticks), message("a", 0, 2));
        assert_eq!(next(&mut of_late), message("a", 0, 3));
        assert_eq!(ticks.stats().published, 1);
    }
}

#[test]
fn a_subscriber_waits_for_a_stream_that_is_added_later() {
    let server = RpcServer::builder().bind("127.0.0.1:0").unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let options = SubscribeOptions::default().stream("later");
    let mut subscription = client.subscribe_with::<u64>("", options).unwrap();
    let refused = std::iter::from_fn(|| subscription.recv_timeout(LONG));
    assert!(refused.into_iter().any(|event| matches!(event, Event::RetryIn { .. })));
    let later = server.stream("later").unwrap();
    assert!(subscription.wait_subscribed(LONG));
    later.publish("a", &7u64).unwrap();
    eventually("the message", || subscription.try_recv() == Some(message("a", 0, 7)));
}

#[test]
fn a_blocking_stream_loses_nothing_to_readers_of_any_speed() {
    // Far more than the log and the kernel's buffers hold.
    const COUNT: u64 = 20_000;
    let server = RpcServer::builder()
        .limits(limits(|limits| limits.block_timeout = LONG))
        .stream("all", StreamOptions::default().policy(SlowPolicy::Block).log_messages(256))
        .bind("127.0.0.1:0")
        .unwrap();
    let client = RpcClient::builder()
        .limits(limits(|limits| limits.inbox_bytes = 16 * 1024))
        .connect(server.local_addr())
        .unwrap();
    let all = server.stream("all").unwrap();
    std::thread::scope(|scope| {
        for (prefix, waits) in [("", true), ("a", true), ("b", false)] {
            let options = SubscribeOptions::default().stream("all");
            let mut subscription = client.subscribe_with::<(u64, Vec<u8>)>(prefix, options).unwrap();
            assert!(subscription.wait_subscribed(LONG));
            let all = all.clone();
            scope.spawn(move || {
                let mut expected = u64::from(prefix == "b");
                while expected < COUNT {
                    match next(&mut subscription) {
                        Event::Message { data, .. } => assert_eq!(data.0, expected, "{prefix:?}"),
                        Event::Subscribed { .. } => continue,
                        event => panic!("{prefix:?}: {event:?}"),
                    }
                    if waits && expected == 0 {
                        eventually("the publisher waits", || all.stats().blocked > 0);
                    }
                    expected += if prefix.is_empty() { 1 } else { 2 };
                }
            });
        }
        let filler = vec![7u8; 1_000];
        for n in 0..COUNT {
            all.publish(if n % 2 == 0 { "a" } else { "b" }, &(n, &filler)).unwrap();
        }
    });
    let stats = all.stats();
    assert_eq!((stats.lost, stats.put_out), (0, 0));
}

#[test]
fn a_large_publication_to_many_puts_nobody_out() {
    let (readers, large) = (32, vec![7u8; 900_000]);
    // Room for all that is published, once; not for each reader that is in the middle of one.
    let server = RpcServer::builder()
        .limits(limits(|limits| limits.send_queues_bytes = 4 << 20))
        .main_stream(StreamOptions::default().policy(SlowPolicy::Block))
        .bind("127.0.0.1:0")
        .unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let mut subscriptions: Vec<Subscription<u64>> =
        (0..readers).map(|n| client.subscribe(if n % 2 == 0 { "" } else { "a" }).unwrap()).collect();
    assert!(subscriptions.iter_mut().all(|subscription| subscription.wait_subscribed(LONG)));
    for _ in 0..3 {
        server.publish_bytes("a", &large).unwrap();
    }
    for subscription in &mut subscriptions {
        let mut expected = 0;
        while expected < 3 {
            match subscription.recv_bytes(LONG).expect("an event") {
                pattern::Event::Message { seq, data, .. } => {
                    assert_eq!((seq, data.len()), (expected, large.len()));
                    expected += 1;
                }
                pattern::Event::Other(EventKind::Subscribed { .. }) => {}
                pattern::Event::Other(EventKind::Connection(event)) => {
                    assert!(matches!(*event, ConnectionEvent::Connected { .. }), "{event:?}");
                }
                event => panic!("{event:?}"),
            }
        }
    }
}

#[test]
fn a_blocking_stream_waits_for_its_readers_in_a_later_life_too() {
    // Far more than the log and the kernel's buffers hold.
    const COUNT: u64 = 2_000;
    let server = RpcServer::builder()
        .limits(limits(|limits| limits.block_timeout = LONG))
        .main_stream(StreamOptions::default().policy(SlowPolicy::Block).log_messages(16))
        .bind("127.0.0.1:0")
        .unwrap();
    server.stop();
    assert_eq!(server.publish_bytes("a", b""), Err(PublishError::Stopped));
    server.start().unwrap();
    let client = RpcClient::builder()
        .limits(limits(|limits| limits.inbox_bytes = 16 * 1024))
        .connect(server.local_addr())
        .unwrap();
    let mut subscription = client.subscribe_and_wait::<Vec<u64>>("", LONG).unwrap().expect("subscribed");
    std::thread::scope(|scope| {
        scope.spawn(|| (0..COUNT).for_each(|n| assert!(server.publish("a", &vec![n; 8_000]).is_ok())));
        eventually("the publisher waits", || server.stats().machine.publisher.blocked > 0);
        let mut expected = 0;
        while expected < COUNT {
            match next(&mut subscription) {
                Event::Message { data, .. } => assert_eq!(data[0], expected),
                Event::Subscribed { .. } => continue,
                event => panic!("{event:?}"),
            }
            expected += 1;
        }
    });
    let stats = server.stats().machine.publisher;
    assert_eq!((stats.lost, stats.put_out), (0, 0));
}

#[test]
fn a_reader_that_is_waited_for_in_vain_is_put_out_and_accounts_for_all_it_missed() {
    const COUNT: u64 = 400;
    let server = RpcServer::builder()
        .limits(limits(|limits| limits.block_timeout = Duration::from_millis(50)))
        .main_stream(StreamOptions::default().policy(SlowPolicy::Block).log_messages(64))
        .bind("127.0.0.1:0")
        .unwrap();
    let client = RpcClient::builder()
        .limits(limits(|limits| limits.inbox_bytes = 1024))
        .connect(server.local_addr())
        .unwrap();
    let mut subscription = client.subscribe_and_wait::<Vec<u64>>("", LONG).unwrap().expect("subscribed");
    // It reads nothing, so its inbox fills, then both kernels' buffers, and then the log.
    let large = vec![u64::MAX; 1_600];
    for _ in 0..COUNT {
        server.publish("a", &large).unwrap();
    }
    assert!(server.stats().machine.publisher.put_out > 0);
    let (mut received, mut lost) = (0, 0);
    while received + lost < COUNT {
        match subscription.recv_timeout(LONG).expect("an event") {
            Event::Message { seq, .. } => {
                assert_eq!(seq, received + lost, "in order");
                received += 1;
            }
            Event::Lost { lost: Lost::Exact(count), .. } => lost += count,
            Event::Lost { lost, .. } => panic!("not exact: {lost:?}"),
            _ => {}
        }
    }
    assert_eq!(received + lost, COUNT);
    assert!(lost > 0);
}

#[test]
fn an_inline_function_cannot_wait_for_what_its_own_thread_would_write() {
    let (sender, handle) = mpsc::channel::<RpcServer>();
    let handle = std::sync::Mutex::new(handle);
    let server = RpcServer::builder()
        .main_stream(StreamOptions::default().policy(SlowPolicy::Block).log_messages(4))
        .register_inline("flood", move |(): ()| {
            let server = handle.lock().unwrap().recv()?;
            let refused = (0..100_000u64).find_map(|n| server.publish("a", &n).err());
            Ok(matches!(refused, Some(PublishFailed::Refused(PublishError::WouldBlock { subscribers: 1 }))))
        })
        .bind("127.0.0.1:0")
        .unwrap();
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let slow = RpcClient::builder()
        .limits(limits(|limits| limits.inbox_bytes = 1024))
        .connect(server.local_addr())
        .unwrap();
    let _subscription = slow.subscribe_and_wait::<u64>("", LONG).unwrap().expect("subscribed");
    sender.send(server.clone()).unwrap();
    assert_eq!(client.call::<_, bool>("flood", &()), Ok(true));
}

#[test]
fn a_newcomer_gets_the_newest_message_of_each_topic_and_again_when_it_asks() {
    let server = RpcServer::builder()
        .main_stream(StreamOptions::default().last_value(true))
        .bind("127.0.0.1:0")
        .unwrap();
    for (topic, value) in [("t.a", 1u64), ("t.b", 2), ("t.a", 3), ("other", 4)] {
        server.publish(topic, &value).unwrap();
    }
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let mut subscription =
        client.subscribe_with::<u64>("t.", SubscribeOptions::default().snapshot()).unwrap();
    assert_eq!(next(&mut subscription), snapshot("t.b", 1, 2));
    assert_eq!(next(&mut subscription), snapshot("t.a", 2, 3));
    assert_eq!(next(&mut subscription), Event::Subscribed { position: 4 });
    server.publish("t.b", &5u64).unwrap();
    assert_eq!(next(&mut subscription), message("t.b", 4, 5));
    subscription.refresh().unwrap();
    assert_eq!(next(&mut subscription), snapshot("t.a", 2, 3));
    assert_eq!(next(&mut subscription), snapshot("t.b", 4, 5));
    assert_eq!(next(&mut subscription), Event::Subscribed { position: 5 });
    assert_eq!(subscription.stats().received, 1);
    // After a restart it comes by itself, behind the news of the restart.
    server.stop();
    server.start().unwrap();
    server.publish("t.c", &6u64).unwrap();
    let mut seen = Vec::new();
    let mut all = false;
    while !all {
        let event = next(&mut subscription);
        all = matches!(event, Event::Subscribed { .. });
        seen.push(event);
    }
    assert!(matches!(seen[0], Event::Restarted { .. }), "{seen:?}");
    assert!(seen[1..].contains(&snapshot("t.c", 0, 6)), "{seen:?}");
}

#[test]
fn a_saved_place_goes_on_in_another_life_of_the_program() {
    let server = RpcServer::builder()
        .main_stream(StreamOptions::default().retain(Retain::All).log_messages(100))
        .bind("127.0.0.1:0")
        .unwrap();
    for n in 0..10u64 {
        server.publish("a", &n).unwrap();
    }
    let client = RpcClient::connect(server.local_addr()).unwrap();
    let epoch = server.epoch().unwrap();
    let mut first = client.subscribe_from::<u64>("a", epoch, 4).unwrap();
    assert_eq!(next(&mut first), Event::Subscribed { position: 4 });
    for n in 4..7 {
        assert_eq!(next(&mut first), message("a", n, n));
    }
    let saved = first.place().expect("it has met the server");
    assert_eq!((saved.epoch, saved.seq), (epoch, 7));
    drop((first, client));

    let client = RpcClient::connect(server.local_addr()).unwrap();
    let mut again = client.subscribe_from::<u64>("a", saved.epoch, saved.seq).unwrap();
    assert_eq!(next(&mut again), Event::Subscribed { position: 7 });
    for n in 7..10 {
        assert_eq!(next(&mut again), message("a", n, n));
    }
    // In another life of the server the numbers mean nothing, and this is said.
    let saved = again.place().unwrap();
    server.stop();
    server.start().unwrap();
    let mut anew = client.subscribe_from::<u64>("a", saved.epoch, saved.seq).unwrap();
    assert!(matches!(next(&mut anew), Event::Restarted { from: 0, .. }));
}

#[test]
fn the_bare_sockets_have_streams_too() {
    use pulsewire::net::{Publisher, Subscriber};
    use pulsewire::pattern::{self, EventKind};
    let options = StreamOptions::default().policy(SlowPolicy::Block).log_messages(8).last_value(true);
    let mut publisher = Publisher::bind("127.0.0.1:0", limits(|_| {}), false).unwrap();
    let ticks = publisher.add_stream("ticks", options).unwrap();
    publisher.publish_on(ticks, "a", b"before").unwrap();
    let address = publisher.local_addr();
    let reader = std::thread::spawn(move || {
        let options = SubscribeOptions::default().stream("ticks").snapshot();
        let reconnect = pulsewire::Reconnect::default();
        let mut subscriber =
            Subscriber::connect_with(&[address], "", limits(|_| {}), reconnect, options).unwrap();
        let (mut snapshots, mut messages) = (0, 0);
        while messages < 1_000 {
            match subscriber.recv(Some(LONG)).unwrap().expect("an event") {
                pattern::Event::Snapshot { data, .. } => {
                    assert_eq!(data, b"before");
                    snapshots += 1;
                }
                pattern::Event::Message { seq, .. } => {
                    messages += 1;
                    assert_eq!(seq, messages, "nothing is lost");
                }
                pattern::Event::Other(EventKind::Lost { lost, .. }) => panic!("lost {lost:?}"),
                _ => {}
            }
        }
        snapshots
    });
    let mut joined = false;
    while !joined {
        publisher.poll(Some(Duration::from_millis(5))).unwrap();
        joined = publisher.stream_stats(ticks).unwrap().subscribers == 1;
    }
    for n in 0..1_000u32 {
        publisher.publish_on(ticks, "a", &n.to_le_bytes()).unwrap();
    }
    while !reader.is_finished() {
        publisher.poll(Some(Duration::from_millis(5))).unwrap();
    }
    assert_eq!(reader.join().unwrap(), 1);
}

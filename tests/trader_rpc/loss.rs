//! Snapshot and stream together: under fire, and when something is lost.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pulsewire::trader::*;
use pulsewire::{Limits, StreamOptions};

use crate::venue::*;

/// What a client's handlers have seen: how often each trade, and the states of each order in their order.
#[derive(Default)]
struct Seen {
    trades: HashMap<String, usize>,
    orders: HashMap<String, Vec<Status>>,
    /// How many states of each order were there when it first was live: those of the snapshot.
    in_snapshot: Option<HashMap<String, usize>>,
}

fn watch(main: &MainEngine) -> Arc<Mutex<Seen>> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let theirs = Arc::clone(&seen);
    main.event_engine().register_general(move |event| match event {
        Event::Trade(trade) => *theirs.lock().unwrap().trades.entry(trade.tradeid.clone()).or_default() += 1,
        Event::Order(order) => {
            theirs.lock().unwrap().orders.entry(order.orderid.clone()).or_default().push(order.status);
        }
        Event::Custom(custom) if *custom.data() == CustomData::Text(GatewayState::Live.name().into()) => {
            let mut seen = theirs.lock().unwrap();
            let orders =
                seen.orders.iter().map(|(orderid, states)| (orderid.clone(), states.len())).collect();
            seen.in_snapshot.get_or_insert(orders);
        }
        _ => {}
    });
    seen
}

/// Says that it is over when it goes.
struct Sets<'a>(&'a AtomicBool);

impl Drop for Sets<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn snapshot_and_stream_agree_under_fire() {
    const CLIENTS: usize = 8;
    let served = Served::new();
    let (is_over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _over_also_if_it_fails = Sets(&is_over);
        let hammer = |hammer: usize| {
            let (served, is_over, sent) = (&served, &is_over, &sent);
            scope.spawn(move || {
                for n in 0.. {
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    // Not more than it takes to keep everybody busy.
                    while served.main.event_engine().stats().queued > 200 {
                        std::thread::yield_now();
                    }
                    served.ctp.trade(&format!("{hammer}-{n}"));
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let hammers = [hammer(0), hammer(1)];
        let clients: Vec<(Client, Arc<Mutex<Seen>>)> = (0..CLIENTS)
            .map(|n| {
                let before = sent.load(Ordering::SeqCst);
                eventually("the hammers go on", || sent.load(Ordering::SeqCst) > before + 20 * n);
                let main = MainEngine::new().unwrap();
                let seen = watch(&main);
                (Client::made(main, RpcGateway::new, &served.address(), Setting::new()), seen)
            })
            .collect();
        for (client, _) in &clients {
            assert!(client.rpc.wait_live(LONG));
        }
        is_over.store(true, Ordering::SeqCst);
        hammers.into_iter().for_each(|hammer| hammer.join().unwrap());
        let all = sent.load(Ordering::SeqCst);
        for (client, seen) in &clients {
            eventually("every trade", || seen.lock().unwrap().trades.len() == all);
            let status = client.rpc.status();
            assert_eq!((status.snapshots, status.lost_events), (1, 0), "{status:?}");
            let seen = seen.lock().unwrap();
            assert!(seen.trades.values().all(|count| *count == 1), "a trade came twice");
            let in_snapshot = seen.in_snapshot.as_ref().expect("it was live");
            for (orderid, states) in &seen.orders {
                let whole = [Status::NotTraded, Status::AllTraded];
                // Of those in the snapshot, what came before it is not there; of all others everything is.
                let is_whole = *states == whole;
                let is_rest = in_snapshot.contains_key(orderid) && *states == whole[1..];
                assert!(is_whole || is_rest, "{orderid}: {states:?}");
            }
            assert_eq!(client.main.oms().active_orders(None).len(), 0);
        }
    });
}

/// A client whose event engine takes nothing while a gate is closed.
fn stuck_client(served: &Served, limits: Limits) -> (Client, Arc<Gate>, Arc<Mutex<Seen>>) {
    let config =
        EventEngineConfig { capacity: 16, put_timeout: LONG, timer_interval: None, ..Default::default() };
    let main = MainEngine::with_event_engine(EventEngine::with_config(config)).unwrap();
    let seen = watch(&main);
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    main.event_engine().register_general(move |_| theirs.pass());
    let make = |context| RpcGateway::new(context).limits(limits);
    let client = Client::made(main, make, &served.address(), Setting::new());
    assert!(client.rpc.wait_live(LONG));
    (client, gate, seen)
}

fn small_inbox() -> Limits {
    let mut limits = Limits::default();
    limits.inbox_bytes = 1_024;
    limits
}

/// Publishes to a client that reads nothing, until it has lost something: until both kernels' buffers, the inbox and the
/// log are full, and it lags by more than a log. It is told so only when it reads on. If it was not enough, it was all read,
/// and there is more the next time.
fn flood(
    served: &Served,
    gate: &Gate,
    publish: impl Fn(),
    lost: impl Fn() -> u64,
    is_read: impl Fn() -> bool,
) {
    let mut burst = 10_000;
    while lost() == 0 {
        assert!(burst < 200_000, "nothing is ever lost");
        gate.close();
        (0..burst).for_each(|_| publish());
        reach(&served.main);
        gate.open();
        eventually("it loses something, or has read it all", || lost() > 0 || is_read());
        burst *= 2;
    }
}

#[test]
fn gap_in_what_must_not_be_lost_takes_a_new_snapshot_that_puts_only_what_is_new() {
    let mut options = RpcServiceOptions::default();
    options.main_stream = StreamOptions::default().log_messages(64);
    let served = Served::with_options(options);
    served.ctp.trade("before");
    let (client, gate, seen) = stuck_client(&served, small_inbox());
    let count = Cell::new(0);
    let publish = || {
        served.ctp.trade(&count.get().to_string());
        count.set(count.get() + 1);
    };
    let lost = || served.service.stats().server.machine.publisher.lost;
    flood(&served, &gate, publish, lost, || seen.lock().unwrap().trades.len() > count.get());
    let all = count.get() + 1;
    eventually("every trade", || seen.lock().unwrap().trades.len() == all);
    eventually("it is live", || client.rpc.state() == GatewayState::Live);
    let status = client.rpc.status();
    assert!(status.snapshots > 1 && status.lost_events > 0, "{status:?}");
    let found = client.heard();
    assert!(lines(&found).iter().any(|line| line.contains("taking a snapshot") && line.contains("lost")));
    assert!(seen.lock().unwrap().trades.values().all(|count| *count == 1), "a trade came twice");
    let remote = served.main.oms().orders().len();
    assert_eq!(client.main.oms().orders().len(), remote);
    assert!(client.main.oms().orders().iter().all(|order| order.status == Status::AllTraded));
}

#[test]
fn gap_in_ticks_is_counted_and_takes_no_snapshot() {
    let mut options = RpcServiceOptions::default();
    options.ticks_stream = options.ticks_stream.log_messages(64);
    let served = Served::with_options(options);
    let (client, gate, _) = stuck_client(&served, small_inbox());
    for symbol in ["rb2410", "cu2410"] {
        client.main.subscribe(&SubscribeRequest::new(symbol, SHFE), "RPC").unwrap();
    }
    eventually("ticks are in force", || client.rpc.status().ticks_live);
    let count = Cell::new(0.0);
    let publish = || {
        count.set(count.get() + 1.0);
        served.ctp.tick("rb2410", count.get());
    };
    let lost = || served.service.stats().ticks_stream.lost;
    let newest = || client.main.oms().tick("rb2410.SHFE").map(|tick| tick.last_price);
    flood(&served, &gate, publish, lost, || newest() == Some(count.get()));
    served.ctp.tick("rb2410", -1.0);
    served.ctp.tick("cu2410", -1.0);
    client.hear(
        "the last tick of one",
        |event| matches!(event, Event::Tick(tick) if tick.symbol == "cu2410" && tick.last_price == -1.0),
    );
    let status = client.rpc.status();
    assert!(status.lost_ticks > 0, "{status:?}");
    assert_eq!((status.snapshots, status.lost_events), (1, 0), "{status:?}");
}

#[test]
fn event_engine_without_room_is_made_up_for_by_a_snapshot() {
    let served = Served::new();
    let config = EventEngineConfig {
        capacity: 8,
        put_timeout: Duration::from_millis(1),
        timer_interval: None,
        ..Default::default()
    };
    let main = MainEngine::with_event_engine(EventEngine::with_config(config)).unwrap();
    let seen = watch(&main);
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    main.event_engine().register(EVENT_TRADE, move |_| theirs.pass());
    let client = Client::made(main, RpcGateway::new, &served.address(), Setting::new());
    assert!(client.rpc.wait_live(LONG));
    gate.close();
    for n in 0..100 {
        served.ctp.trade(&n.to_string());
    }
    eventually("there is no room", || client.rpc.status().refused_here > 0);
    assert_ne!(client.rpc.state(), GatewayState::Live, "and nobody is told otherwise");
    gate.open();
    eventually("every trade", || seen.lock().unwrap().trades.len() == 100);
    eventually("it is live", || client.rpc.state() == GatewayState::Live);
    assert!(seen.lock().unwrap().trades.values().all(|count| *count == 1), "a trade came twice");
}

//! Connecting again: after a close, after giving up, with another setting, and while the event engine is full.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use pulsewire::trader::*;
use pulsewire::Reconnect;

use crate::venue::*;

/// What was put, beside what the gateway says of itself.
fn records(client: &Client) -> Vec<String> {
    let heard = client.heard().into_iter();
    let heard = heard.filter(|event| !matches!(event, Event::Log(_) | Event::Custom(_)));
    heard.map(|event| event.specific_type()).collect()
}

fn connect(client: &Client, more: Setting) {
    client.main.connect(&more.with("rep_address", &*client.address), "RPC").unwrap();
}

/// Connects with another setting than before, on a thread of its own.
fn connect_otherwise(client: &Client) -> std::thread::JoinHandle<Result<(), Refusal>> {
    let setting = Setting::new().with("rep_address", &*client.address).with("ticks", "all");
    let main = client.main.clone();
    std::thread::spawn(move || main.connect(&setting, "RPC"))
}

#[test]
fn what_was_put_before_a_close_is_not_put_again_and_what_came_meanwhile_is() {
    let served = Served::new();
    served.ctp.trade("1");
    served.ctp.context.on_order(OrderData::new("CTP", "rb2410", SHFE, "rests")).unwrap();
    reach(&served.main);
    let client = Client::live(&served);
    assert_eq!(client.main.oms().trades().len(), 1);
    records(&client);
    client.rpc.close();
    served.ctp.trade("2");
    reach(&served.main);
    connect(&client, Setting::new());
    assert!(client.rpc.wait_live(LONG));
    assert_eq!(records(&client), ["eOrder.RPC.CTP.2", "eTrade.rb2410.SHFE"]);

    // Who asks for less is not told that the rest is missing.
    for (key, value) in [("events", vec!["eOrder.IB."]), ("events", vec!["eTrade."])] {
        connect(&client, Setting::new().with(key, value));
        client.hear_state(GatewayState::Live);
    }
    connect(&client, Setting::new().with("remote_gateway", "IB"));
    client.hear_state(GatewayState::Live);
    assert_eq!(client.rpc.status().missing, 0);
    assert_eq!(records(&client), [""; 0]);
    // But who asks for all is: the order that rests was said by a server that is no more.
    let address = served.address();
    drop(served);
    let _served = Served::at(&address, RpcServiceOptions::default());
    connect(&client, Setting::new());
    client.hear_log("the server no longer knows 1 of what is known here: RPC.CTP.rests");
}

#[test]
fn connecting_after_it_has_given_up_tries_anew() {
    let address = Served::new().address();
    let make = |context| RpcGateway::new(context).reconnect(Reconnect::never());
    let client = Client::made(MainEngine::new().unwrap(), make, &address, Setting::new());
    for _ in 0..2 {
        client.hear_log("gave up, it has to be told to connect again");
        connect(&client, Setting::new());
    }
    client.hear_log("gave up, it has to be told to connect again");
    let served = Served::at(&address, RpcServiceOptions::default());
    connect(&client, Setting::new());
    assert!(client.rpc.wait_live(LONG));
    assert!(client.send(&order("rb2410", "")).is_ok());
    drop(served);
    client.hear_log("gave up, it has to be told to connect again");
    let _served = Served::at(&address, RpcServiceOptions::default());
    connect(&client, Setting::new());
    client.hear_state(GatewayState::Live);
}

/// A client whose event engine has little room, and hands out nothing while the gate is closed, as it is.
fn stuck_client(served: &Served) -> (Client, Arc<Gate>) {
    let config =
        EventEngineConfig { capacity: 16, put_timeout: LONG, timer_interval: None, ..Default::default() };
    let main = MainEngine::with_event_engine(EventEngine::with_config(config)).unwrap();
    let gate = Arc::new(Gate::default());
    gate.close();
    let theirs = Arc::clone(&gate);
    main.event_engine().register_general(move |_| theirs.pass());
    let client = Client::made(main, RpcGateway::new, &served.address(), Setting::new());
    (client, gate)
}

/// Opens a gate when it goes, so that a test that fails ends.
struct Opens<'a>(&'a Gate);

impl Drop for Opens<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

#[test]
fn nobody_waits_for_a_connect_that_waits_for_the_event_engine() {
    let served = Served::new();
    for n in 0..100 {
        served.ctp.trade(&n.to_string());
    }
    reach(&served.main);
    let (client, gate) = stuck_client(&served);
    let opens = Opens(&gate);
    let waited = || client.main.event_engine().stats().waited;
    eventually("the engine is full", || waited() > 0);
    let before = waited();
    let connecting = connect_otherwise(&client);
    eventually("it waits", || waited() > before);
    // What the engine's thread may ask for meanwhile is answered at once.
    let subscribe = SubscribeRequest::new("rb2410", SHFE);
    assert_eq!(client.main.subscribe(&subscribe, "RPC"), Ok(()));
    let _placed_if_it_is_that_far = client.send(&order("rb2410", ""));
    // It may have got through by now, if another thread was about to say its words for it.
    drop(opens);
    assert_eq!(connecting.join().unwrap(), Ok(()));
    assert!(client.rpc.wait_live(LONG));
}

#[test]
fn session_that_was_closed_says_nothing_behind_the_first_word_of_the_next_one() {
    const ORDERS: usize = 200;
    let served = Served::new();
    let report = |status| {
        for n in 0..ORDERS {
            let order = OrderData::new("CTP", "rb2410", SHFE, n.to_string());
            served.ctp.context.on_order(OrderData { status, ..order }).unwrap();
        }
        reach(&served.main);
    };
    report(Status::NotTraded);
    let (client, gate) = stuck_client(&served);
    let opens = Opens(&gate);
    let seen: Arc<Mutex<HashMap<String, Vec<Status>>>> = Arc::default();
    let theirs = Arc::clone(&seen);
    client.main.event_engine().register(EVENT_ORDER, move |event| {
        let Event::Order(order) = event else { panic!("{event:?}") };
        theirs.lock().unwrap().entry(order.orderid.clone()).or_default().push(order.status);
    });
    // In the middle of its snapshot it is told to connect otherwise, and the orders are cancelled.
    let waited = || client.main.event_engine().stats().waited;
    eventually("it waits for room", || waited() > 0);
    report(Status::Cancelled);
    let connecting = connect_otherwise(&client);
    // Somebody waits to say that it connects: mostly the caller, and the snapshot is taken meanwhile. Else it is the one who
    // would take it.
    let answered = || served.service.stats().server.machine.replier.answered;
    eventually("the next one waits", || waited() > 1 && (answered() > 1 || connecting.is_finished()));
    drop(opens);
    assert_eq!(connecting.join().unwrap(), Ok(()));
    assert!(client.rpc.wait_live(LONG));
    eventually("all are cancelled", || {
        reach(&client.main);
        client.main.oms().orders().len() == ORDERS && client.main.oms().active_orders(None).is_empty()
    });
    for (orderid, states) in &*seen.lock().unwrap() {
        let is_in_order = states.windows(2).all(|two| two[0] != Status::Cancelled);
        assert!(is_in_order, "{orderid}: {states:?}");
    }
}

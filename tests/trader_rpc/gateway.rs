//! The gateway: connecting whenever, names, what is asked for, states, restarts, ends.

use std::io::Read;
use std::net::TcpStream;

use pulsewire::trader::*;

use crate::venue::*;

#[test]
fn client_that_connects_before_the_server_exists_needs_no_restart() {
    let (address, options) = {
        let first = Served::new();
        (first.address(), RpcServiceOptions::default())
    };
    let client = Client::new(&address, Setting::new());
    client.hear_state(GatewayState::Disconnected);
    client.hear_log("the server cannot be reached");
    assert_eq!(client.rpc.state(), GatewayState::Disconnected);
    // What is sent now is refused now; what is subscribed to now is asked for later.
    assert_eq!(client.send(&order("rb2410", "early")), Err(Refusal::NotConnected.into()));
    client.main.subscribe(&SubscribeRequest::new("rb2410", SHFE), "RPC").unwrap();

    let served = Served::at(&address, options);
    client.hear_state(GatewayState::Snapshotting);
    client.hear_state(GatewayState::Live);
    eventually("the subscription arrives", || served.ctp.subscribed.lock().unwrap().contains("rb2410.SHFE"));
    eventually("ticks are in force", || client.rpc.status().ticks_live);
    served.ctp.tick("rb2410", 3_500.0);
    let Event::Tick(tick) = client.hear_type("eTick.rb2410.SHFE") else { panic!("no tick") };
    assert_eq!((&*tick.gateway_name, tick.last_price), ("RPC", 3_500.0));
    assert_eq!(client.send(&order("rb2410", "late")), Ok("RPC.CTP.1".into()));
    assert!(!served.main.oms().orders().iter().any(|order| order.reference.starts_with("early")));
}

#[test]
fn subscription_that_cannot_be_is_refused_each_time_and_keeps_nobody_from_connecting() {
    let address = Served::new().address();
    let client = Client::new(&address, Setting::new());
    client.hear_state(GatewayState::Disconnected);
    let long = SubscribeRequest::new("x".repeat(260), SHFE);
    for _ in 0..2 {
        let refused = client.rpc.subscribe(&long);
        assert!(matches!(refused, Err(Refusal::NotSent(_))), "no topic is so long: {refused:?}");
    }
    client.rpc.close();
    assert_eq!(client.rpc.subscribe(&long), Ok(()), "without a connection nobody can tell");
    let served = Served::at(&address, RpcServiceOptions::default());
    let setting = Setting::new().with("rep_address", served.address());
    client.rpc.connect(&setting).unwrap();
    client.hear_log("no ticks of xxx");
    client.hear_state(GatewayState::Live);
}

#[test]
fn snapshot_brings_all_records_in_the_names_of_the_gateway() {
    let served = Served::new();
    served.ctp.trade("1");
    served.ib.trade("1");
    let quote = QuoteRequest::new("rb2410", SHFE, 1.0, 10, 2.0, 10);
    served.main.send_quote(&quote, "CTP").unwrap();
    let client = Client::live(&served);
    let heard = client.heard();
    let mut types: Vec<String> = heard.iter().map(Event::specific_type).collect();
    types.retain(|event_type| !event_type.starts_with("eLog") && !event_type.starts_with("eRpc"));
    let expected = [
        "eContract.",
        "eContract.",
        "eContract.",
        "eAccount.RPC.CTP.acc1",
        "eAccount.RPC.IB.acc1",
        "ePosition.rb2410.SHFE",
        "ePosition.ES.SHFE",
        "eOrder.RPC.CTP.1",
        "eOrder.RPC.IB.1",
        "eTrade.rb2410.SHFE",
        "eTrade.ES.SHFE",
        "eQuote.rb2410.SHFE",
    ];
    assert_eq!(types, expected, "contracts first, and each record once");
    let oms = client.main.oms();
    assert_eq!(oms.trade("RPC.IB.1").map(|trade| trade.vt_orderid()), Some("RPC.IB.1".into()));
    assert_eq!(oms.contract("ES.SHFE").map(|contract| contract.gateway_name.clone()), Some("RPC".into()));
    let position = oms.position("RPC.ES.SHFE.LONG").unwrap();
    assert_eq!(position.extra.get(REMOTE_GATEWAY).map(String::as_str), Some("IB"));
    assert!(oms.quote("RPC.CTP.q.1").is_some());
    assert_eq!(client.main.exchanges(), [SHFE]);
}

#[test]
fn names_are_rewritten_in_data_ids_and_types_alike() {
    let served = Served::new();
    let client = Client::live(&served);
    let (sender, specific) = std::sync::mpsc::channel();
    let general = sender.clone();
    client.main.event_engine().register("eOrder.RPC.CTP.1", move |event| {
        sender.send(("specific", event.clone())).unwrap();
    });
    client.main.event_engine().register(EVENT_ORDER, move |event| {
        general.send(("general", event.clone())).unwrap();
    });
    assert_eq!(client.send(&order("rb2410", "grid")), Ok("RPC.CTP.1".into()));
    for expected in ["general", "specific"] {
        let (which, event) = specific.recv_timeout(LONG).unwrap();
        let Event::Order(order) = event else { panic!("{event:?}") };
        assert_eq!((which, order.vt_orderid()), (expected, "RPC.CTP.1".into()));
        assert_eq!((&*order.gateway_name, &*order.reference), ("RPC", "grid"));
    }
    assert_eq!(client.send(&order("ES", "grid")), Ok("RPC.IB.1".into()), "no clash");
    served.ctp.context.write_log(LogLevel::Info, "logged in").unwrap();
    let log = client.hear_log("logged in");
    assert_eq!((&*log.gateway_name, &*log.msg), ("RPC", "CTP: logged in"));
    let hello = Event::custom("eMine", CustomData::Text("hello".into())).unwrap();
    served.main.event_engine().put(hello.clone()).unwrap();
    assert_eq!(client.hear_type("eMine"), hello);
    // A server that has a gateway of our name does not speak for ours.
    let own = Event::custom(state_event_type("RPC"), CustomData::Text("closed".into())).unwrap();
    served.main.event_engine().put(own.clone()).unwrap();
    served.main.event_engine().put(hello.clone()).unwrap();
    assert_eq!(client.hear("either", |event| *event == own || *event == hello), hello);
}

#[test]
fn what_was_not_asked_for_does_not_come() {
    let served = Served::new();
    let more = Setting::new().with("events", vec!["eOrder.CTP.", "eTrade.rb2410"]);
    let client = Client::live_with(&served, more);
    client.main.subscribe(&SubscribeRequest::new("rb2410", SHFE), "RPC").unwrap();
    eventually("ticks are in force", || client.rpc.status().ticks_live);
    served.ib.trade("1");
    served.ctp.tick("cu2410", 1.0);
    served.ctp.tick("rb2410", 2.0);
    served.ctp.trade("1");
    let oms = client.main.oms();
    eventually("what was asked for", || {
        oms.tick("rb2410.SHFE").is_some() && oms.trade("RPC.CTP.1").is_some()
    });
    assert_eq!(oms.orders().len(), 1);
    assert_eq!((oms.accounts().len(), oms.positions().len()), (0, 0));
    assert!(oms.tick("cu2410.SHFE").is_none());
    // Contracts were not asked for either, but requests find their way.
    assert_eq!(client.send(&order("ES", "")), Ok("RPC.IB.2".into()));

    let all = Client::new(&served.address(), Setting::new().with("ticks", "all"));
    let Event::Tick(tick) = all.hear_type("eTick.cu2410.SHFE") else { panic!("no tick") };
    assert_eq!(tick.last_price, 1.0, "the last one from before");
}

#[test]
fn gateway_stands_for_one_of_several_if_it_is_told() {
    let served = Served::new();
    let client = Client::live_with(&served, Setting::new().with("remote_gateway", "IB"));
    assert_eq!(client.main.oms().accounts().len(), 1);
    served.ctp.trade("1");
    served.ib.trade("1");
    client.hear_type("eTrade.ES.SHFE");
    assert_eq!(client.main.oms().trades().len(), 1);
    // It does not go where the contract says: it stands for IB, and IB says no.
    assert_eq!(client.send(&order("rb2410", "")), Ok("RPC.IB.2".into()));
    client.main.gateway("RPC").unwrap().query_account().unwrap();
    client.hear_type("eAccount.RPC.IB.acc1");
}

#[test]
fn two_holders_of_one_contract_are_named() {
    let served = Served::new();
    let client = Client::live(&served);
    let position = PositionData::new("IB", "rb2410", SHFE, Direction::Long);
    served.ib.context.on_position(position).unwrap();
    let log = client.hear_log("rb2410.SHFE is held by CTP and by IB");
    assert!(log.msg.contains("remote_gateway"));
}

#[test]
fn server_restart_renews_subscriptions_and_takes_a_new_snapshot() {
    let served = Served::new();
    let client = Client::live(&served);
    for symbol in ["rb2410", "cu2410"] {
        client.main.subscribe(&SubscribeRequest::new(symbol, SHFE), "RPC").unwrap();
    }
    let before = client.send(&order("rb2410", "")).unwrap();
    client.hear_type("eOrder.RPC.CTP.1");
    let address = served.address();
    drop(served);
    client.hear_state(GatewayState::Disconnected);
    assert_eq!(client.send(&order("rb2410", "")), Err(Refusal::NotConnected.into()));

    // Another process, that knows nothing of the order.
    let served = Served::at(&address, RpcServiceOptions::default());
    client.hear_log("the server was restarted");
    let missing = client.hear_log("no longer knows");
    assert!(missing.msg.contains(&before), "{}", missing.msg);
    client.hear_state(GatewayState::Live);
    let status = client.rpc.status();
    assert_eq!((status.snapshots, status.missing, status.epoch), (2, 1, served.service.epoch()));
    eventually("subscriptions are renewed", || served.ctp.subscribed.lock().unwrap().len() == 2);
    eventually("ticks are in force", || client.rpc.status().ticks_live);
    served.ctp.tick("cu2410", 7.0);
    client.hear_type("eTick.cu2410.SHFE");
    assert!(client.send(&order("rb2410", "")).is_ok());
}

#[test]
fn restarted_service_over_the_same_books_puts_nothing_twice() {
    let served = Served::new();
    served.ctp.trade("1");
    let client = Client::live(&served);
    for life in 2..4 {
        served.service.stop();
        served.ctp.trade(&format!("while away {life}"));
        served.service.start(&RpcServiceSetting::new(&*client.address, "")).unwrap();
        eventually("a new snapshot", || client.rpc.status().snapshots == life);
        served.ctp.trade(&format!("after {life}"));
        client.hear(
            "the last trade",
            |event| matches!(event, Event::Trade(trade) if trade.tradeid == format!("CTP.after {life}")),
        );
    }
    assert_eq!(client.main.oms().trades().len(), 5);
    let stats = client.main.event_engine().stats();
    let again = client.heard();
    assert!(again.is_empty(), "{again:?} of {stats:?}");
}

#[test]
fn every_trade_comes_once_through_restarts() {
    let served = Served::new();
    let client = Client::live(&served);
    let (sender, trades) = std::sync::mpsc::channel();
    client.main.event_engine().register(EVENT_TRADE, move |event| {
        let Event::Trade(trade) = event else { panic!("{event:?}") };
        sender.send(trade.tradeid.clone()).unwrap();
    });
    for n in 0..30 {
        served.ctp.trade(&n.to_string());
        if n % 10 == 5 {
            served.restart();
        }
    }
    let mut found: Vec<String> = (0..30).map(|_| trades.recv_timeout(LONG).unwrap()).collect();
    eventually("it is live again", || client.rpc.state() == GatewayState::Live);
    client.heard();
    found.extend(trades.try_iter());
    found.sort();
    let mut expected: Vec<String> = (0..30).map(|n| format!("CTP.{n}")).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn trade_that_a_venue_reports_again_is_put_once() {
    let served = Served::new();
    let client = Client::live(&served);
    let (sender, trades) = std::sync::mpsc::channel();
    client.main.event_engine().register(EVENT_TRADE, move |event| {
        let Event::Trade(trade) = event else { panic!("{event:?}") };
        sender.send(trade.tradeid.clone()).unwrap();
    });
    // As when its connection comes back, and with it all trades of the day.
    let trade = TradeData { volume: 1.0, ..TradeData::new("CTP", "rb2410", SHFE, "1", "1") };
    for _ in 0..3 {
        served.ctp.context.on_trade(trade.clone()).unwrap();
    }
    served.ctp.trade("last");
    assert_eq!(trades.recv_timeout(LONG).unwrap(), "CTP.1");
    assert_eq!(trades.recv_timeout(LONG).unwrap(), "CTP.last");
}

#[test]
fn several_clients_see_the_orders_of_all() {
    let served = Served::new();
    let clients: Vec<Client> = (0..4).map(|_| Client::live(&served)).collect();
    for client in &clients {
        client.send(&order("rb2410", "grid")).unwrap();
    }
    for client in &clients {
        eventually("all four", || client.main.oms().orders().len() == 4);
        assert!(client.main.oms().orders().iter().all(|order| order.reference == "grid"));
    }
    clients[0].main.cancel_order(&CancelRequest::new("CTP.3", "rb2410", SHFE), "RPC").unwrap();
    for client in &clients {
        eventually("it is cancelled", || client.main.oms().active_orders(None).len() == 3);
    }
}

#[test]
fn slow_history_delays_no_other_call_and_no_heartbeat() {
    let mut options = RpcServiceOptions::default();
    options.limits.heartbeat_interval = std::time::Duration::from_millis(20);
    let served = Served::with_options(options);
    let client = Client::live(&served);
    served.ctp.before_history.close();
    let history = HistoryRequest::new("rb2410", SHFE, Timestamp::UNIX_EPOCH);
    std::thread::scope(|scope| {
        let bars = scope.spawn(|| client.main.query_history(&history, "RPC").unwrap());
        served.ctp.before_history.wait_until_somebody_waits();
        for _ in 0..100 {
            client.send(&order("rb2410", "")).unwrap();
        }
        client.main.subscribe(&SubscribeRequest::new("rb2410", SHFE), "RPC").unwrap();
        // A stranger that only listens hears heartbeats all the while.
        heartbeats(&served.address(), 3);
        assert!(!bars.is_finished());
        served.ctp.before_history.open();
        let bars = bars.join().unwrap();
        assert_eq!(bars.iter().map(|bar| &*bar.gateway_name).collect::<Vec<_>>(), ["RPC"; 3]);
    });
}

#[test]
fn slow_subscription_delays_no_order_and_no_event() {
    let served = Served::new();
    let client = Client::new(&served.address(), Setting::new());
    served.ctp.before_subscribe.close();
    // Asked for anew, by itself, in each life of the server: here in the first one.
    client.main.subscribe(&SubscribeRequest::new("rb2410", SHFE), "RPC").ok();
    served.ctp.before_subscribe.wait_until_somebody_waits();
    assert!(client.rpc.wait_live(LONG));
    served.ctp.trade("1");
    client.hear_type("eTrade.rb2410.SHFE");
    assert_eq!(client.send(&order("rb2410", "")), Ok("RPC.CTP.2".into()));
    client.hear_type("eOrder.RPC.CTP.2");
    assert!(served.ctp.subscribed.lock().unwrap().is_empty());
    // Nor does closing wait for it.
    client.rpc.close();
    client.hear_state(GatewayState::Closed);
    served.ctp.before_subscribe.open();
    eventually("it is granted, if late", || !served.ctp.subscribed.lock().unwrap().is_empty());
}

/// Waits for so many frames behind the Welcome, on a connection that asks for nothing.
fn heartbeats(address: &str, count: usize) {
    use pulsewire::wire::{Frame, Hello, Role, SessionId};
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let hello = Frame::Hello(Hello::new(Role::Requester, SessionId([7; 16]), 1, 1024 * 1024, ""));
    let mut bytes = Vec::new();
    hello.encode(u32::MAX, &mut bytes).unwrap();
    std::io::Write::write_all(&mut stream, &bytes).unwrap();
    let mut heard = 0;
    while heard < count {
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        stream.read_exact(&mut body).unwrap();
        heard += usize::from(matches!(Frame::decode(&body), Ok(Frame::Heartbeat(_))));
    }
}

#[test]
fn connecting_twice_changes_nothing_and_closing_is_at_once_and_not_for_ever() {
    let served = Served::new();
    let client = Client::live(&served);
    let setting = Setting::new().with("rep_address", served.address());
    client.main.connect(&setting, "RPC").unwrap();
    assert_eq!(client.rpc.status().snapshots, 1);
    client.rpc.close();
    client.rpc.close();
    client.hear_state(GatewayState::Closed);
    assert_eq!(client.send(&order("rb2410", "")), Err(Refusal::NotConnected.into()));
    client.main.connect(&setting, "RPC").unwrap();
    client.hear_state(GatewayState::Live);
    assert_eq!(client.send(&order("rb2410", "")), Ok("RPC.CTP.1".into()));
    // Another setting is another connection.
    client.main.connect(&setting.with("ticks", "all"), "RPC").unwrap();
    client.hear_state(GatewayState::Live);
    assert_eq!(client.rpc.status().snapshots, 3);
}

#[test]
fn bad_settings_and_unknown_contracts_are_refused_in_so_many_words() {
    let served = Served::new();
    let client = Client::live(&served);
    let refused = |setting: Setting| match client.main.connect(&setting, "RPC") {
        Err(Refusal::BadSetting(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(Setting::new()), "the setting has no \"rep_address\"");
    assert!(refused(Setting::new().with("rep_address", "*:2014")).contains('*'));
    assert!(refused(Setting::new().with("rep_address", "127.0.0.1:0")).contains('0'));
    assert!(client.main.default_setting("RPC").unwrap().text("rep_address").is_ok());

    let client = Client::live(&served);
    let unknown = Refusal::UnknownContract("zz.SHFE".into());
    assert_eq!(client.send(&order("zz", "")), Err(unknown.clone().into()));
    let subscribe = SubscribeRequest::new("zz", SHFE);
    assert_eq!(client.main.subscribe(&subscribe, "RPC"), Err(unknown.clone()));
    let history = HistoryRequest::new("zz", SHFE, Timestamp::UNIX_EPOCH);
    assert_eq!(client.main.query_history(&history, "RPC"), Err(unknown));
    let cancel =
        |orderid: &str| client.main.cancel_order(&CancelRequest::new(orderid, "rb2410", SHFE), "RPC");
    assert_eq!(cancel("5"), Err(Refusal::Rejected("\"5\" is no id of RPC".into()).into()));
    assert_eq!(cancel("CTP.5"), Err(Refusal::Rejected("no order 5".into()).into()));
    assert_eq!(cancel("NONE.5"), Err(Refusal::NoSuchGateway("NONE".into()).into()));
    let too_much = OrderRequest { volume: 2_000.0, ..order("rb2410", "") };
    assert_eq!(client.send(&too_much), Err(Refusal::Rejected("too much".into()).into()));
}

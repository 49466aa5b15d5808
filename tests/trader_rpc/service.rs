//! The service: its functions, its topics, its settings, its lives.

use std::fs;

use pulsewire::trader::functions as rpc;
use pulsewire::trader::*;
use pulsewire::{Event as Followed, RpcClient, StreamOptions, SubscribeOptions, Subscription};

use crate::venue::*;

fn follow(client: &RpcClient, prefix: &str, stream: &str) -> Subscription<Event> {
    let options = SubscribeOptions::default().stream(stream);
    let subscription = client.subscribe_with(prefix, options).unwrap();
    assert!(subscription.wait_subscribed(LONG));
    subscription
}

/// Topic and event of the next message.
fn next(subscription: &mut Subscription<Event>) -> (String, Event) {
    loop {
        match subscription.recv_timeout(LONG).expect("an event") {
            Followed::Message { topic, data, .. } => return (topic, data),
            Followed::Lost { lost, .. } => panic!("{lost:?}"),
            _ => {}
        }
    }
}

#[test]
fn every_function_answers_with_what_the_main_engine_has() {
    let served = Served::new();
    let client = RpcClient::connect(served.address()).unwrap();
    let to = |request: OrderRequest| (request, String::from("CTP"));
    let vt_orderid = client.call(rpc::SEND_ORDER, &to(order("rb2410", "a"))).unwrap().unwrap();
    assert_eq!(vt_orderid, "CTP.1");
    served.ctp.trade("t.1");
    served.ctp.tick("rb2410", 3_500.0);
    let quote = QuoteRequest::new("rb2410", SHFE, 1.0, 10, 2.0, 10);
    let vt_quoteid = client.call(rpc::SEND_QUOTE, &(quote, "CTP".into())).unwrap().unwrap();
    assert_eq!(vt_quoteid, "CTP.q.1");
    let oms = served.main.oms().clone();
    eventually("all is entered", || oms.quote(&vt_quoteid).is_some() && oms.tick("rb2410.SHFE").is_some());

    let id = String::from;
    assert_eq!(client.call(rpc::GET_TICK, &id("rb2410.SHFE")), Ok(oms.tick("rb2410.SHFE")));
    assert_eq!(client.call(rpc::GET_ORDER, &vt_orderid), Ok(oms.order("CTP.1")));
    assert_eq!(client.call(rpc::GET_TRADE, &id("CTP.t.1")), Ok(oms.trade("CTP.t.1")));
    let position = "CTP.rb2410.SHFE.LONG";
    assert!(oms.position(position).is_some());
    assert_eq!(client.call(rpc::GET_POSITION, &id(position)), Ok(oms.position(position)));
    assert_eq!(client.call(rpc::GET_ACCOUNT, &id("CTP.acc1")), Ok(oms.account("CTP.acc1")));
    assert_eq!(client.call(rpc::GET_CONTRACT, &id("ES.SHFE")), Ok(oms.contract("ES.SHFE")));
    assert_eq!(client.call(rpc::GET_QUOTE, &vt_quoteid), Ok(oms.quote("CTP.q.1")));
    assert_eq!(client.call(rpc::GET_ORDER, &id("CTP.99")), Ok(None));

    assert_eq!(client.call(rpc::GET_ALL_TICKS, &()), Ok(oms.ticks()));
    assert_eq!(client.call(rpc::GET_ALL_ORDERS, &()), Ok(oms.orders()));
    assert_eq!(client.call(rpc::GET_ALL_TRADES, &()), Ok(oms.trades()));
    assert_eq!(client.call(rpc::GET_ALL_POSITIONS, &()), Ok(oms.positions()));
    assert_eq!(client.call(rpc::GET_ALL_ACCOUNTS, &()), Ok(oms.accounts()));
    assert_eq!(client.call(rpc::GET_ALL_CONTRACTS, &()).map(|all| all.len()), Ok(3));
    assert_eq!(client.call(rpc::GET_ALL_QUOTES, &()), Ok(oms.quotes()));
    assert_eq!(client.call(rpc::GET_ALL_ACTIVE_ORDERS, &None).map(|all| all.len()), Ok(1));
    assert_eq!(client.call(rpc::GET_ALL_ACTIVE_ORDERS, &Some(id("ES.SHFE"))), Ok(vec![]));
    assert_eq!(client.call(rpc::GET_ALL_ACTIVE_QUOTES, &None), Ok(oms.quotes()));
    assert_eq!(client.call(rpc::GET_ALL_GATEWAY_NAMES, &()), Ok(vec![id("CTP"), id("IB")]));

    let cancel = |orderid: &str| (CancelRequest::new(orderid, "rb2410", SHFE), id("CTP"));
    assert_eq!(client.call(rpc::CANCEL_ORDER, &cancel("1")), Ok(Ok(())));
    assert_eq!(client.call(rpc::CANCEL_QUOTE, &cancel("q.1")), Ok(Ok(())));
    let subscribe = |symbol| (SubscribeRequest::new(symbol, SHFE), id("IB"));
    assert_eq!(client.call(rpc::SUBSCRIBE, &subscribe("ES")), Ok(Ok(())));
    let history = HistoryRequest::new("rb2410", SHFE, Timestamp::UNIX_EPOCH);
    let bars = client.call(rpc::QUERY_HISTORY, &(history, id("CTP"))).unwrap().unwrap();
    assert_eq!(bars.iter().map(|bar| bar.close_price).collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
    assert_eq!(client.call(rpc::QUERY_ACCOUNT, &id("")), Ok(Ok(())));
    assert_eq!(client.call(rpc::QUERY_POSITION, &id("IB")), Ok(Ok(())));

    // Refusals are typed, and none is an empty id.
    let refused = Refusal::NoSuchGateway(id("NONE"));
    let nowhere = (order("rb2410", ""), id("NONE"));
    assert_eq!(client.call(rpc::SEND_ORDER, &nowhere), Ok(Err(refused.clone().into())));
    assert_eq!(client.call(rpc::QUERY_ACCOUNT, &id("NONE")), Ok(Err(refused)));
    let unknown = Refusal::UnknownContract(id("rb.SHFE"));
    assert_eq!(client.call(rpc::SUBSCRIBE, &subscribe("rb")), Ok(Err(unknown)));
    let too_much = OrderRequest { volume: 2_000.0, ..order("rb2410", "b") };
    let rejected = Refusal::Rejected(id("too much"));
    assert_eq!(client.call(rpc::SEND_ORDER, &to(too_much)), Ok(Err(rejected.into())));
}

#[test]
fn every_event_is_published_once_under_its_most_specific_type_and_ticks_on_a_stream_of_their_own() {
    let served = Served::new();
    let client = RpcClient::connect(served.address()).unwrap();
    let mut everything = follow(&client, "", "");
    let mut of_one_symbol = follow(&client, "eTrade.cu2410", "");
    let mut ticks = follow(&client, "eTick.rb2410", TICKS_STREAM);
    served.ctp.tick("cu2410", 1.0);
    served.ctp.tick("rb2410", 2.0);
    served.ctp.trade("7");
    served.ctp.context.on_trade(TradeData::new("CTP", "cu2410", SHFE, "8", "8")).unwrap();
    let hello = Event::custom("eMine", CustomData::Text("hello".into())).unwrap();
    served.main.event_engine().put(hello.clone()).unwrap();
    let expected = ["eOrder.CTP.7", "eOrder.CTP.7", "eTrade.rb2410.SHFE", "eTrade.cu2410.SHFE", "eMine"];
    for expected in expected {
        let (topic, event) = next(&mut everything);
        assert_eq!((&*topic, event.specific_type()), (expected, expected.into()));
    }
    assert_eq!(next(&mut of_one_symbol).0, "eTrade.cu2410.SHFE");
    let (topic, event) = next(&mut ticks);
    assert!(matches!(event, Event::Tick(tick) if tick.last_price == 2.0));
    assert_eq!(topic, "eTick.rb2410.SHFE");
    // The timer stays where it is: after the next one, the next message is ours.
    let timers = served.main.event_engine().stats().timers;
    eventually("a timer", || served.main.event_engine().stats().timers > timers);
    served.main.event_engine().put(hello).unwrap();
    assert_eq!(next(&mut everything).0, "eMine");
    assert_eq!(served.service.stats().ticks, 2);
}

#[test]
fn bad_event_reaches_nobody_and_hurts_nobody() {
    let served = Served::new();
    let client = RpcClient::connect(served.address()).unwrap();
    let mut everything = follow(&client, "", "");
    let long_id = "9".repeat(300);
    served.ctp.context.on_order(OrderData::new("CTP", "rb2410", SHFE, long_id)).unwrap();
    let (topic, event) = next(&mut everything);
    let Event::Custom(custom) = event else { panic!("{event:?}") };
    let CustomData::Log(log) = custom.data() else { panic!("{custom:?}") };
    assert_eq!((&*topic, log.level), (EVENT_RPC_LOG, LogLevel::Warning));
    assert!(log.msg.starts_with("event not published: eOrder.CTP.999"), "{}", log.msg);

    // One that is too large, and a log line that is: that brings forth no other one.
    let much = vec![7; 8 * 1024 * 1024];
    served.main.event_engine().put(Event::custom("eMine", CustomData::Bytes(much)).unwrap()).unwrap();
    served.main.write_log(LogLevel::Info, "x".repeat(8 * 1024 * 1024)).unwrap();
    served.ctp.trade("1");
    let order = std::iter::repeat_with(|| next(&mut everything)).find(|(topic, _)| topic != EVENT_RPC_LOG);
    assert_eq!(order.map(|(topic, _)| topic).as_deref(), Some("eOrder.CTP.1"));
    assert_eq!(served.service.stats().failed, 3);
    assert_eq!(served.main.event_engine().stats().handler_panics, 0);
    assert!(served.main.oms().order(&format!("CTP.{}", "9".repeat(300))).is_some());
}

#[test]
fn service_starts_stops_and_starts_again_at_the_same_place() {
    let served = Served::new();
    let address = served.address();
    let first = served.service.epoch();
    let setting = RpcServiceSetting::new(&*address, "");
    assert!(matches!(served.service.start(&setting), Err(RpcServiceError::AlreadyRunning)));
    assert_eq!(served.service.setting().map(|setting| setting.rep_address), Some("127.0.0.1:0".into()));
    for _ in 0..3 {
        served.service.stop();
        served.service.stop();
        assert!(!served.service.is_running() && served.service.local_addrs().is_empty());
        served.ctp.trade("unheard");
        reach(&served.main);
        served.service.start(&setting).unwrap();
        let client = RpcClient::connect(&*address).unwrap();
        let mut events = follow(&client, "eOrder.", "");
        served.ctp.trade("heard");
        assert_eq!(next(&mut events).0, "eOrder.CTP.heard");
    }
    assert_ne!(served.service.epoch(), first);
}

#[test]
fn service_says_on_the_event_engine_what_it_does() {
    let main = MainEngine::new().unwrap();
    let (sender, said) = std::sync::mpsc::channel();
    main.event_engine().register(EVENT_RPC_LOG, move |event| {
        let Event::Custom(custom) = event else { panic!("{event:?}") };
        let CustomData::Log(log) = custom.data() else { panic!("{custom:?}") };
        sender.send(log.msg.clone()).unwrap();
    });
    let service = RpcService::new(&main);
    service.start(&RpcServiceSetting::new("127.0.0.1:0", "127.0.0.1:0")).unwrap();
    let [address] = service.local_addrs()[..] else { panic!("one address given twice is one") };
    service.stop();
    service.start(&RpcServiceSetting::new("127.0.0.1:0", "localhost:0")).unwrap();
    assert_eq!(service.local_addrs().len(), 2);
    service.write_log(LogLevel::Info, "by hand").unwrap();
    assert_eq!(said.recv_timeout(LONG), Ok(format!("serving at {address}")));
    assert_eq!(said.recv_timeout(LONG).as_deref(), Ok("stopped"));
    assert!(said.recv_timeout(LONG).unwrap().contains(" and "));
    assert_eq!(said.recv_timeout(LONG).as_deref(), Ok("by hand"));
    drop(service);
    assert_eq!(said.recv_timeout(LONG).as_deref(), Ok("stopped"));
    assert!(main.close().is_over);
}

#[test]
fn settings_go_through_their_file_and_bad_ones_say_what_is_wrong() {
    let folder = std::env::temp_dir().join(format!("pulsewire-service-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("rpc_service_setting.json");
    let default = RpcServiceSetting::load(&path).unwrap();
    assert_eq!(default, RpcServiceSetting::new("tcp://127.0.0.1:2014", "tcp://127.0.0.1:4102"));

    let main = MainEngine::new().unwrap();
    let mut options = RpcServiceOptions::default();
    options.setting_file = Some(path.clone());
    let service = RpcService::with_options(&main, options);
    let setting = RpcServiceSetting::new("tcp://127.0.0.1:0", "");
    service.start(&setting).unwrap();
    assert_eq!(RpcServiceSetting::load(&path).unwrap(), setting, "saved by the start");
    service.stop();

    // What vn.py writes by default listens to everybody: that has to be meant.
    fs::write(&path, r#"{"rep_address": "tcp://*:2014", "pub_address": "tcp://*:4102"}"#).unwrap();
    let error = RpcServiceSetting::load(&path).unwrap_err().to_string();
    assert!(error.contains("allow_plaintext") && error.contains("tcp://*:2014"), "{error}");
    let everywhere = RpcServiceSetting::new("tcp://*:0", "");
    let error = service.start(&everywhere).unwrap_err().to_string();
    assert!(error.contains("allow_plaintext"), "{error}");
    for (broken, expected) in [
        ("[]", "cannot read the setting"),
        (r#"{"rep_address": 2014}"#, "not a text"),
        (r#"{"pub_adress": ""}"#, "unknown \"pub_adress\""),
        (r#"{"rep_address": "127.0.0.1:99999"}"#, "rep_address in the setting"),
    ] {
        fs::write(&path, broken).unwrap();
        let error = RpcServiceSetting::load(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    // A port that is taken, and a file that cannot be written: the one fails, the other is said.
    let other = RpcService::new(&main);
    service.start(&setting).unwrap();
    let taken = RpcServiceSetting::new(service.local_addrs()[0].to_string(), "");
    assert!(matches!(other.start(&taken), Err(RpcServiceError::Bind(_))));
    assert!(!other.is_running());
    fs::remove_dir_all(&folder).unwrap();
    service.stop();
    service.start(&setting).unwrap();
    assert!(service.is_running());
}

#[test]
fn stream_that_cannot_be_is_refused() {
    let main = MainEngine::new().unwrap();
    let mut options = RpcServiceOptions::default();
    options.ticks_stream = StreamOptions::default().log_bytes(1);
    let service = RpcService::with_options(&main, options);
    let error = service.start(&RpcServiceSetting::new("127.0.0.1:0", "")).unwrap_err();
    assert!(matches!(error, RpcServiceError::Bind(_)), "{error}");
}

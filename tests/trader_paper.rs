//! A trading program around a paper exchange: it connects, is fed, trades, ends, and goes on where it was.
#![cfg(feature = "trader")]

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{channel, Receiver};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pulsewire::trader::paper::{read_ledger, PaperExchange};
use pulsewire::trader::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);
const NAME: &str = "PAPER";
const LOCAL: Exchange = Exchange::Local;

fn contract() -> ContractData {
    let contract = ContractData::new("", "COIN", LOCAL, "Coin", Product::Spot, 1.0, 0.5);
    ContractData { net_position: true, history_data: true, ..contract }
}

fn tick(bid: f64, ask: f64) -> TickData {
    let mut tick = TickData::new("FEED", "COIN", LOCAL, Timestamp::from_nanos(7));
    (tick.bid_price[0], tick.bid_volume[0]) = (bid, 5.0);
    (tick.ask_price[0], tick.ask_volume[0]) = (ask, 5.0);
    tick
}

fn buy(price: f64, volume: f64, reference: &str) -> OrderRequest {
    let request = OrderRequest::new("COIN", LOCAL, Direction::Long, OrderType::Limit, volume);
    OrderRequest { price, reference: reference.into(), ..request }
}

/// A program with a paper exchange that is not connected yet.
fn program() -> (MainEngine, Arc<PaperExchange>) {
    let main = MainEngine::new().unwrap();
    let paper = main.add_gateway(NAME, |context| PaperExchange::new(context, vec![contract()])).unwrap();
    (main, paper)
}

/// The specific types of what happens, but for the timer.
fn types_of_all(main: &MainEngine) -> Receiver<String> {
    let (sender, receiver) = channel();
    main.event_engine().register_general(move |event| {
        if *event != Event::Timer {
            let _ = sender.send(event.specific_type());
        }
    });
    receiver
}

#[track_caller]
fn expect(types: &Receiver<String>, expected: &[&str]) {
    for expected in expected {
        assert_eq!(types.recv_timeout(PATIENCE).as_deref(), Ok(*expected));
    }
}

/// A file of one test; dropping it removes it.
struct LedgerPath(PathBuf);

impl LedgerPath {
    fn new(test: &str) -> Self {
        LedgerPath(std::env::temp_dir().join(format!("pulsewire-{test}-{}.jsonl", std::process::id())))
    }

    fn setting(&self) -> Setting {
        Setting::new().with("ledger", self.0.to_str().unwrap())
    }
}

impl Drop for LedgerPath {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn restarted_program_finds_its_orders_trades_and_positions_again() {
    let ledger = LedgerPath::new("restart");
    {
        let (main, paper) = program();
        main.connect(&ledger.setting(), NAME).unwrap();
        paper.handle_tick(tick(99.0, 100.0)).unwrap();
        assert_eq!(main.send_order(&buy(100.0, 8.0, "mine/1"), NAME), Ok("PAPER.1".into()));
        assert_eq!(main.close().dropped, 0);
    }
    let (main, _) = program();
    let types = types_of_all(&main);
    main.connect(&ledger.setting(), NAME).unwrap();
    let all =
        ["eContract.", "eAccount.PAPER.paper", "ePosition.COIN.LOCAL", "eOrder.PAPER.1", "eTrade.COIN.LOCAL"];
    expect(&types, &all);
    let order = main.oms().order("PAPER.1").unwrap();
    assert_eq!((&*order.reference, order.status, order.traded), ("mine/1", Status::PartTraded, 5.0));
    assert_eq!(main.oms().trade("PAPER.1").map(|trade| (trade.price, trade.volume)), Some((100.0, 5.0)));
    assert_eq!(main.oms().position("PAPER.COIN.LOCAL.NET").map(|position| position.volume), Some(5.0));
    let account = main.oms().account("PAPER.paper").unwrap();
    assert_eq!((account.balance, account.frozen), (1e6, 800.0));

    // Whoever does not know what became of it and sends it again places nothing.
    let refusal = main.send_order(&buy(100.0, 8.0, "mine/1"), NAME).unwrap_err();
    assert_eq!(refusal.to_string(), "rejected: the reference \"mine/1\" is that of order 1");
    main.cancel_order(&order.cancel_request(), NAME).unwrap();
    expect(&types, &["eOrder.PAPER.1", "eAccount.PAPER.paper"]);
    assert_eq!(main.oms().active_orders(None).len(), 0);
    main.connect(&ledger.setting(), NAME).unwrap();
    expect(&types, &all);
    assert_eq!(main.close().dropped, 0);
    assert_eq!(read_ledger(&ledger.0).unwrap().entries.len(), 2, "one order that traded, one cancel");
}

#[test]
fn subscribers_get_ticks_before_what_they_cause() {
    let (main, paper) = program();
    let types = types_of_all(&main);
    main.connect(&Setting::new(), NAME).unwrap();
    expect(&types, &["eContract.", "eAccount.PAPER.paper"]);
    paper.handle_tick(tick(99.0, 100.0)).unwrap();
    main.send_order(&buy(99.5, 1.0, ""), NAME).unwrap();
    expect(&types, &["eOrder.PAPER.1", "eOrder.PAPER.1", "eAccount.PAPER.paper"]);
    main.subscribe(&SubscribeRequest::new("COIN", LOCAL), NAME).unwrap();
    main.subscribe(&SubscribeRequest::new("COIN", LOCAL), NAME).unwrap();
    paper.handle_tick(tick(98.0, 99.5)).unwrap();
    let caused = ["eTick.COIN.LOCAL", "eOrder.PAPER.1", "eTrade.COIN.LOCAL", "ePosition.COIN.LOCAL"];
    expect(&types, &caused);
    assert_eq!(main.oms().tick("COIN.LOCAL").map(|tick| tick.gateway_name.clone()), Some(NAME.into()));
    let contract = main.oms().contract("COIN.LOCAL").unwrap();
    assert_eq!((&*contract.gateway_name, contract.history_data), (NAME, false));
}

#[test]
fn exchange_that_is_not_connected_takes_nothing() {
    let (main, paper) = program();
    let cancel = CancelRequest::new("1", "COIN", LOCAL);
    for _ in 0..2 {
        assert_eq!(main.send_order(&buy(1.0, 1.0, ""), NAME), Err(Refusal::NotConnected.into()));
        assert_eq!(main.cancel_order(&cancel, NAME), Err(Refusal::NotConnected.into()));
        assert_eq!(paper.handle_tick(tick(1.0, 2.0)), Err(Refusal::NotConnected));
        assert_eq!(paper.query_account(), Err(Refusal::NotConnected));
        assert_eq!(paper.query_position(), Err(Refusal::NotConnected));
        main.connect(&Setting::new(), NAME).unwrap();
        paper.query_account().unwrap();
        paper.close();
    }
}

#[test]
fn what_is_not_offered_says_so() {
    let (main, paper) = program();
    main.connect(&Setting::new(), NAME).unwrap();
    let quote = QuoteRequest::new("COIN", LOCAL, 1.0, 1, 2.0, 1);
    assert_eq!(main.send_quote(&quote, NAME), Err(Refusal::NotSupported.into()));
    let history = HistoryRequest::new("COIN", LOCAL, Timestamp::UNIX_EPOCH);
    assert_eq!(main.query_history(&history, NAME), Err(Refusal::NotSupported));
    let unknown = Refusal::UnknownContract("COAL.LOCAL".into());
    assert_eq!(main.subscribe(&SubscribeRequest::new("COAL", LOCAL), NAME), Err(unknown.clone()));
    assert_eq!(paper.handle_tick(TickData { symbol: "COAL".into(), ..tick(1.0, 2.0) }), Err(unknown));
    assert_eq!(main.exchanges(), [LOCAL]);
    let setting = main.default_setting(NAME).unwrap();
    assert_eq!(setting.keys().collect::<Vec<_>>(), ["balance", "fee_rate", "fsync", "ledger", "margin_rate"]);
}

#[test]
fn ledgers_and_contracts_that_cannot_be_used_are_refused_at_connect() {
    let refusal = |contract: ContractData, setting: &Setting| {
        let main = MainEngine::new().unwrap();
        main.add_gateway(NAME, |context| PaperExchange::new(context, vec![contract])).unwrap();
        let Err(Refusal::BadSetting(why)) = main.connect(setting, NAME) else { panic!("{setting}") };
        assert_eq!(main.send_order(&buy(1.0, 1.0, ""), NAME), Err(Refusal::NotConnected.into()));
        why
    };
    let folder = std::env::temp_dir();
    let why = refusal(contract(), &Setting::new().with("ledger", folder.to_str().unwrap()));
    assert!(why.starts_with("cannot open the ledger"), "{why}");
    let why = refusal(ContractData { pricetick: 0.0, ..contract() }, &Setting::new());
    assert!(why.starts_with("the contract COIN.LOCAL has"), "{why}");

    let ledger = LedgerPath::new("in-use");
    let (main, _) = program();
    main.connect(&ledger.setting(), NAME).unwrap();
    let why = refusal(contract(), &ledger.setting());
    assert!(why.ends_with("is in use"), "{why}");
    assert!(main.close().is_over);
    fs::write(&ledger.0, "{\"torn\": tr").unwrap();
    let (main, _) = program();
    let types = types_of_all(&main);
    main.connect(&ledger.setting(), NAME).unwrap();
    expect(&types, &["eLog", "eContract.", "eAccount.PAPER.paper"]);
}

#[test]
fn strategies_on_the_engines_thread_and_a_feed_that_waits_for_room_do_not_block_each_other() {
    const TICKS: usize = 200;
    let config =
        EventEngineConfig { capacity: 1, put_timeout: 10 * PATIENCE, ..EventEngineConfig::default() };
    let main = MainEngine::with_event_engine(EventEngine::with_config(config)).unwrap();
    let paper = main.add_gateway(NAME, |context| PaperExchange::new(context, vec![contract()])).unwrap();
    main.connect(&Setting::new().with("balance", 1e9), NAME).unwrap();
    main.subscribe(&SubscribeRequest::new("COIN", LOCAL), NAME).unwrap();
    let (sender, sent) = channel();
    let trader = main.clone();
    main.event_engine().register(EVENT_TICK, move |_| {
        for _ in 0..3 {
            sender.send(trader.send_order(&buy(100.0, 1.0, ""), NAME)).unwrap();
        }
    });
    let feeder = thread::spawn(move || {
        for _ in 0..TICKS {
            paper.handle_tick(tick(99.0, 100.0)).unwrap();
        }
    });
    for number in 1..=3 * TICKS {
        assert_eq!(sent.recv_timeout(PATIENCE).unwrap(), Ok(format!("PAPER.{number}")));
    }
    feeder.join().unwrap();
    assert_eq!((main.close().dropped, main.event_engine().stats().handler_panics), (0, 0));
    let traded: f64 = main.oms().orders().iter().map(|order| order.traded).sum();
    let trades: f64 = main.oms().trades().iter().map(|trade| trade.volume).sum();
    assert_eq!((main.oms().orders().len(), traded), (3 * TICKS, trades));
}

#[test]
fn events_that_find_no_room_are_kept_and_nothing_is_taken_before_they_are_too_many() {
    let config = EventEngineConfig {
        capacity: 64,
        put_timeout: Duration::ZERO,
        timer_interval: Some(Duration::from_millis(1)),
        drain_timeout: PATIENCE,
    };
    let engine = EventEngine::with_config(config);
    let paper = PaperExchange::new(GatewayContext::new(NAME, engine.clone()), vec![contract()]);
    paper.connect(&Setting::new()).unwrap();
    let (sender, ended) = channel();
    engine.register(EVENT_ORDER, move |event| match event {
        Event::Order(order) if !order.is_active() => sender.send(order.orderid.clone()).unwrap(),
        _ => {}
    });
    // Nobody takes the events: the engine has not been started.
    let order = OrderRequest { order_type: OrderType::Fak, ..buy(1.0, 1.0, "") };
    let mut placed = 0;
    let refusal = loop {
        match paper.send_order(&order) {
            Ok(_) => placed += 1,
            Err(refusal) => break refusal,
        }
    };
    let why = "not sent: 65536 events wait for room in the event engine";
    assert_eq!(
        (refusal.to_string(), paper.handle_tick(tick(1.0, 2.0)).unwrap_err().to_string()),
        (why.into(), why.into())
    );
    engine.start().unwrap();
    for number in 1..=placed {
        assert_eq!(ended.recv_timeout(PATIENCE), Ok(format!("{number}")));
    }
    assert_eq!(paper.send_order(&order), Ok(format!("PAPER.{}", placed + 1)));
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(format!("{}", placed + 1)));
}

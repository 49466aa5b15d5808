//! A trading program around a toy gateway: connects, subscribes, trades, cancels, closes; and what is refused.
#![cfg(feature = "trader")]

use std::collections::HashMap;
use std::sync::mpsc::{channel, Receiver};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use pulsewire::trader::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);
const NAME: &str = "TOY";

/// Keeps orders in a book and trades one when a tick is asked for.
struct Toy {
    context: GatewayContext,
    orders: Mutex<HashMap<String, OrderData>>,
    panics_at_close: bool,
}

impl Toy {
    fn new(context: GatewayContext) -> Self {
        Toy { context, orders: Mutex::default(), panics_at_close: false }
    }

    fn report(&self, order: OrderData) -> Result<(), Refusal> {
        self.orders.lock().unwrap().insert(order.orderid.clone(), order.clone());
        Ok(self.context.on_order(order)?)
    }

    /// All orders that wait are traded at this price.
    fn trade_all(&self, price: f64) {
        let waiting: Vec<OrderData> =
            self.orders.lock().unwrap().values().filter(|order| order.is_active()).cloned().collect();
        for order in waiting {
            let traded = OrderData { traded: order.volume, status: Status::AllTraded, ..order };
            let trade = TradeData {
                direction: traded.direction,
                price,
                volume: traded.volume,
                ..TradeData::new(NAME, &*traded.symbol, traded.exchange, &*traded.orderid, "t.1")
            };
            self.report(traded).unwrap();
            self.context.on_trade(trade).unwrap();
        }
    }
}

impl Gateway for Toy {
    fn name(&self) -> &str {
        self.context.gateway_name()
    }

    fn connect(&self, setting: &Setting) -> Result<(), Refusal> {
        let user = setting.text("user")?;
        let contract =
            ContractData::new(NAME, "rb2410", Exchange::Shfe, "Rebar", Product::Futures, 10.0, 1.0);
        self.context.on_contract(contract)?;
        self.query_account()?;
        self.query_position()?;
        Ok(self.context.write_log(LogLevel::Info, format!("{user} is connected"))?)
    }

    fn close(&self) {
        assert!(!self.panics_at_close, "as it was told");
        let _ = self.context.write_log(LogLevel::Info, "closed");
    }

    fn subscribe(&self, request: &SubscribeRequest) -> Result<(), Refusal> {
        if request.vt_symbol() != "rb2410.SHFE" {
            return Err(Refusal::UnknownContract(request.vt_symbol()));
        }
        let tick = TickData::new(NAME, &*request.symbol, request.exchange, Timestamp::now());
        Ok(self.context.on_tick(TickData { last_price: 3_500.0, ..tick })?)
    }

    fn send_order(&self, request: &OrderRequest) -> Result<String, SendError> {
        if request.order_type == OrderType::Rfq {
            return Err(Refusal::Rejected("no requests for quotes here".into()).into());
        }
        let number = self.orders.lock().unwrap().len();
        let order = request.to_order(NAME, format!("7.{number}"));
        let vt_orderid = order.vt_orderid();
        self.report(order.clone())?;
        if request.reference == "line breaks" {
            let why = String::from("connection lost");
            return Err(OutcomeUnknown { why, resolution: Resolution::AwaitEvents }.into());
        }
        self.report(OrderData { status: Status::NotTraded, ..order })?;
        Ok(vt_orderid)
    }

    fn cancel_order(&self, request: &CancelRequest) -> Result<(), SendError> {
        let order = self.orders.lock().unwrap().get(&request.orderid).cloned();
        let order = order.ok_or_else(|| Refusal::Rejected(format!("no order {}", request.orderid)))?;
        Ok(self.report(OrderData { status: Status::Cancelled, ..order })?)
    }

    fn query_account(&self) -> Result<(), Refusal> {
        Ok(self.context.on_account(AccountData { balance: 1e6, ..AccountData::new(NAME, "acc1") })?)
    }

    fn query_position(&self) -> Result<(), Refusal> {
        let position = PositionData::new(NAME, "rb2410", Exchange::Shfe, Direction::Long);
        Ok(self.context.on_position(PositionData { volume: 3.0, ..position })?)
    }

    fn default_setting(&self) -> Setting {
        Setting::new().with("user", "")
    }

    fn exchanges(&self) -> Vec<Exchange> {
        vec![Exchange::Shfe, Exchange::Dce]
    }
}

/// A main engine with a toy gateway.
fn main_with_toy() -> (MainEngine, Arc<Toy>) {
    let main = MainEngine::new().unwrap();
    let toy = main.add_gateway(NAME, Toy::new).unwrap();
    (main, toy)
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

fn order_request(reference: &str) -> OrderRequest {
    let order = OrderRequest::new("rb2410", Exchange::Shfe, Direction::Long, OrderType::Limit, 2.0);
    OrderRequest { price: 3_500.0, reference: reference.into(), ..order }
}

#[test]
fn program_connects_subscribes_trades_and_cancels() {
    let (main, toy) = main_with_toy();
    let types = types_of_all(&main);
    main.connect(&Setting::new().with("user", "ada"), NAME).unwrap();
    main.subscribe(&SubscribeRequest::new("rb2410", Exchange::Shfe), NAME).unwrap();
    let first = main.send_order(&order_request("grid"), NAME).unwrap();
    assert_eq!(first, "TOY.7.0");
    toy.trade_all(3_501.0);
    let second = main.send_order(&order_request("grid"), NAME).unwrap();
    let expected = [
        "eContract.",
        "eAccount.TOY.acc1",
        "ePosition.rb2410.SHFE",
        "eLog",
        "eTick.rb2410.SHFE",
        "eOrder.TOY.7.0",
        "eOrder.TOY.7.0",
        "eOrder.TOY.7.0",
        "eTrade.rb2410.SHFE",
        "eOrder.TOY.7.1",
        "eOrder.TOY.7.1",
    ];
    for expected in expected {
        assert_eq!(types.recv_timeout(PATIENCE).as_deref(), Ok(expected));
    }

    // General handlers come after the order management, so it knows all that.
    let oms = main.oms();
    assert_eq!(oms.tick("rb2410.SHFE").map(|tick| tick.last_price), Some(3_500.0));
    assert_eq!(oms.contract("rb2410.SHFE").map(|contract| contract.size), Some(10.0));
    assert_eq!(oms.account("TOY.acc1").map(|account| account.available()), Some(1e6));
    assert_eq!(oms.position("TOY.rb2410.SHFE.LONG").map(|position| position.volume), Some(3.0));
    assert_eq!(oms.order(&first).map(|order| order.status), Some(Status::AllTraded));
    assert_eq!(oms.trade("TOY.t.1").map(|trade| (trade.price, trade.vt_orderid())), Some((3_501.0, first)));
    let active = oms.active_orders(Some("rb2410.SHFE"));
    assert_eq!(active.iter().map(|order| order.vt_orderid()).collect::<Vec<_>>(), [&*second]);

    let (gateway_name, _) = id::split_vt_id(&second).unwrap();
    main.cancel_order(&active[0].cancel_request(), gateway_name).unwrap();
    assert_eq!(types.recv_timeout(PATIENCE).as_deref(), Ok("eOrder.TOY.7.1"));
    assert_eq!(main.oms().active_orders(None).len(), 0);
    assert_eq!(main.close().dropped, 0);
}

#[test]
fn handler_finds_in_the_order_management_what_its_event_says() {
    let (main, _) = main_with_toy();
    let (sender, found) = channel();
    let oms = main.oms().clone();
    main.event_engine().register("eOrder.TOY.7.0", move |event| {
        let Event::Order(order) = event else { return };
        sender.send((order.status, oms.order("TOY.7.0").map(|order| order.status))).unwrap();
    });
    main.send_order(&order_request(""), NAME).unwrap();
    for status in [Status::Submitting, Status::NotTraded] {
        assert_eq!(found.recv_timeout(PATIENCE), Ok((status, Some(status))));
    }
}

#[test]
fn strategy_may_send_orders_from_its_handler() {
    let (main, _) = main_with_toy();
    let (sender, sent) = channel();
    let trader = main.clone();
    main.event_engine().register(EVENT_TICK, move |_| {
        sender.send(trader.send_order(&order_request("from a handler"), NAME)).unwrap();
    });
    main.subscribe(&SubscribeRequest::new("rb2410", Exchange::Shfe), NAME).unwrap();
    assert_eq!(sent.recv_timeout(PATIENCE), Ok(Ok("TOY.7.0".into())));
    assert_eq!(main.close().dropped, 0);
    assert_eq!(main.oms().active_orders(None).len(), 1);
}

#[test]
fn refused_orders_are_told_from_unknown_ones() {
    let (main, _) = main_with_toy();
    let types = types_of_all(&main);
    let refusal = |request: &OrderRequest, gateway_name: &str| {
        let error = main.send_order(request, gateway_name).unwrap_err();
        assert!(!error.may_be_placed());
        error
    };
    let good = order_request("");
    assert_eq!(refusal(&good, "NONE"), Refusal::NoSuchGateway("NONE".into()).into());
    let zero = OrderRequest { volume: 0.0, ..good.clone() };
    assert_eq!(refusal(&zero, NAME), Refusal::Invalid(InvalidRequest::Volume).into());
    let rfq = OrderRequest { order_type: OrderType::Rfq, ..good };
    assert_eq!(refusal(&rfq, NAME), Refusal::Rejected("no requests for quotes here".into()).into());

    // An unknown outcome is cleared up by events, and found by its reference.
    let unknown = main.send_order(&order_request("line breaks"), NAME).unwrap_err();
    let SendError::Unknown(ref outcome) = unknown else { panic!("{unknown}") };
    assert!(unknown.may_be_placed());
    assert_eq!(outcome.resolution, Resolution::AwaitEvents);
    assert_eq!(types.recv_timeout(PATIENCE).as_deref(), Ok("eOrder.TOY.7.0"), "none of the refused ones");
    let placed = main.oms().orders();
    assert_eq!(placed.iter().map(|order| &*order.reference).collect::<Vec<_>>(), ["line breaks"]);
}

#[test]
fn every_other_request_says_why_it_was_refused() {
    let (main, _) = main_with_toy();
    let no_gateway = || Refusal::NoSuchGateway("NONE".into());
    let subscribe = SubscribeRequest::new("cu2410", Exchange::Shfe);
    assert_eq!(main.subscribe(&subscribe, "NONE"), Err(no_gateway()));
    assert_eq!(main.subscribe(&subscribe, NAME), Err(Refusal::UnknownContract("cu2410.SHFE".into())));
    let cancel = CancelRequest::new("7.9", "rb2410", Exchange::Shfe);
    assert_eq!(main.cancel_order(&cancel, "NONE"), Err(no_gateway().into()));
    assert_eq!(main.cancel_order(&cancel, NAME), Err(Refusal::Rejected("no order 7.9".into()).into()));
    let quote = QuoteRequest::new("IO", Exchange::Cffex, 1.0, 10, 2.0, 10);
    assert_eq!(main.send_quote(&quote, "NONE"), Err(no_gateway().into()));
    assert_eq!(main.send_quote(&quote, NAME), Err(Refusal::NotSupported.into()));
    let nan = QuoteRequest { bid_price: f64::NAN, ..quote };
    assert_eq!(main.send_quote(&nan, NAME), Err(Refusal::Invalid(InvalidRequest::Price).into()));
    assert_eq!(main.cancel_quote(&cancel, NAME), Err(Refusal::NotSupported.into()));
    assert_eq!(main.cancel_quote(&cancel, "NONE"), Err(no_gateway().into()));
    let history = HistoryRequest::new("rb2410", Exchange::Shfe, Timestamp::UNIX_EPOCH);
    assert_eq!(main.query_history(&history, NAME), Err(Refusal::NotSupported));
    assert_eq!(main.query_history(&history, "NONE"), Err(no_gateway()));
    assert_eq!(main.connect(&Setting::new(), "NONE"), Err(no_gateway()));
    let Err(Refusal::BadSetting(why)) = main.connect(&Setting::new(), NAME) else { panic!("no user") };
    assert_eq!(why, "the setting has no \"user\"");
    assert_eq!(main.default_setting(NAME).map(|setting| setting.to_string()), Ok(r#"{"user":""}"#.into()));
    assert_eq!(main.default_setting("NONE"), Err(no_gateway()));
}

#[test]
fn gateways_need_a_name_of_their_own_without_dots() {
    let (main, _) = main_with_toy();
    let refusal = |name: &str| main.add_gateway(name, Toy::new).err();
    assert_eq!(refusal(""), Some(AddGatewayError::BadName("".into())));
    assert_eq!(refusal("TOY.2"), Some(AddGatewayError::BadName("TOY.2".into())));
    assert_eq!(refusal(NAME), Some(AddGatewayError::NameTaken(NAME.into())));
    let other_name =
        |context: GatewayContext| Toy::new(GatewayContext::new("OTHER", context.event_engine().clone()));
    let error = main.add_gateway("MINE", other_name).err();
    assert_eq!(error, Some(AddGatewayError::CallsItself("OTHER".into())));
    assert_eq!(refusal("SECOND"), None);
    assert_eq!(main.gateway_names(), [NAME, "SECOND"]);
    assert_eq!(main.exchanges(), [Exchange::Shfe, Exchange::Dce], "each once, by their numbers");
    assert!(main.gateway("SECOND").is_ok_and(|gateway| gateway.name() == "SECOND"));
}

#[test]
fn close_goes_through_a_gateway_that_panics_and_refuses_what_comes_later() {
    let (main, _) = main_with_toy();
    main.add_gateway("SHAKY", |context| Toy { panics_at_close: true, ..Toy::new(context) }).unwrap();
    let types = types_of_all(&main);
    let stopped = main.close();
    assert!(stopped.dropped == 0 && stopped.is_over);
    assert_eq!(types.try_recv().as_deref(), Ok("eLog"), "the last word of the other gateway was heard");
    assert_eq!(main.send_order(&order_request(""), NAME), Err(Refusal::Closed.into()));
    assert_eq!(main.add_gateway("LATE", Toy::new).err(), Some(AddGatewayError::Closed));
    assert_eq!(main.write_log(LogLevel::Info, "late"), Err(PutError::Stopped));
    assert!(main.close().is_over, "twice is harmless");
}

#[test]
fn dropping_the_last_handle_closes_the_gateways() {
    let (main, toy) = main_with_toy();
    let types = types_of_all(&main);
    drop(main.clone());
    toy.query_account().unwrap();
    assert_eq!(types.recv_timeout(PATIENCE).as_deref(), Ok("eAccount.TOY.acc1"));
    drop(main);
    assert_eq!(types.recv_timeout(PATIENCE).as_deref(), Ok("eLog"), "it was told to close");
    assert_eq!(toy.query_account(), Err(Refusal::from(PutError::Stopped)));
}

#[test]
fn timer_comes_by_itself() {
    let timer_interval = Some(Duration::from_millis(1));
    let config = EventEngineConfig { timer_interval, ..EventEngineConfig::default() };
    let main = MainEngine::with_event_engine(EventEngine::with_config(config)).unwrap();
    let (sender, receiver) = channel();
    main.event_engine().register(EVENT_TIMER, move |event| drop(sender.send(event.clone())));
    for _ in 0..3 {
        assert_eq!(receiver.recv_timeout(PATIENCE), Ok(Event::Timer));
    }
}

/// Keeps what is logged under the trader's target.
struct Memory(Mutex<Vec<(log::Level, String)>>);

impl log::Log for Memory {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == LOG_TARGET
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push((record.level(), record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

#[test]
fn log_events_reach_the_log() {
    static MEMORY: OnceLock<Memory> = OnceLock::new();
    log::set_logger(MEMORY.get_or_init(|| Memory(Mutex::default()))).expect("the only one of this program");
    log::set_max_level(log::LevelFilter::Info);
    let (main, _) = main_with_toy();
    main.write_log(LogLevel::Critical, "it is on fire").unwrap();
    main.write_log(LogLevel::Debug, "too little to say").unwrap();
    main.connect(&Setting::new().with("user", "grace"), NAME).unwrap();
    let begun = Instant::now();
    let expected = [
        (log::Level::Error, String::from("MainEngine: it is on fire")),
        (log::Level::Info, String::from("TOY: grace is connected")),
    ];
    loop {
        // Other tests log as well.
        let mut found = MEMORY.get().unwrap().0.lock().unwrap().clone();
        found.retain(|line| expected.contains(line));
        if found == expected {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{found:?}");
        thread::yield_now();
    }
    assert!(main.close().is_over);
    let lines = MEMORY.get().unwrap().0.lock().unwrap().clone();
    assert!(!lines.iter().any(|(_, line)| line.contains("too little")));
}

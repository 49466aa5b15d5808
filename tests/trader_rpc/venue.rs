//! Both ends of a bridge: a server process's main engine with venues that do as they are told, and a client's.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{channel, Receiver};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use pulsewire::trader::*;

/// Nothing here takes this long unless it hangs.
pub const LONG: Duration = Duration::from_secs(60);
pub const SHFE: Exchange = Exchange::Shfe;

/// Waits for something that nobody announces. Ends the test if it does not come.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A door that is open, or closed until somebody opens it.
#[derive(Default)]
pub struct Gate {
    /// Closed, and how many wait.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    pub fn close(&self) {
        self.state.lock().unwrap().0 = true;
    }

    pub fn open(&self) {
        self.state.lock().unwrap().0 = false;
        self.changed.notify_all();
    }

    pub fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        while state.0 {
            state = self.changed.wait(state).unwrap();
        }
        state.1 -= 1;
    }

    pub fn wait_until_somebody_waits(&self) {
        eventually("somebody waits at the gate", || self.state.lock().unwrap().1 > 0);
    }
}

/// A gateway that places what it is sent, and numbers it from 1, like every other.
pub struct Venue {
    pub context: GatewayContext,
    symbols: Vec<&'static str>,
    pub orders: Mutex<HashMap<String, OrderData>>,
    pub quotes: Mutex<HashMap<String, QuoteData>>,
    pub subscribed: Mutex<HashSet<String>>,
    /// The reference of the order that came last.
    pub asked: Mutex<String>,
    /// Where orders wait before they are placed.
    pub before_send: Gate,
    /// Where histories wait.
    pub before_history: Gate,
    /// Where subscriptions wait.
    pub before_subscribe: Gate,
}

impl Venue {
    pub fn new(context: GatewayContext, symbols: &[&'static str]) -> Self {
        Venue {
            context,
            symbols: symbols.to_vec(),
            orders: Mutex::default(),
            quotes: Mutex::default(),
            subscribed: Mutex::default(),
            asked: Mutex::default(),
            before_send: Gate::default(),
            before_history: Gate::default(),
            before_subscribe: Gate::default(),
        }
    }

    fn report(&self, order: OrderData) -> Result<(), Refusal> {
        self.orders.lock().unwrap().insert(order.orderid.clone(), order.clone());
        Ok(self.context.on_order(order)?)
    }

    /// An order from its beginning to its end, with its trade. Others have their turn between its events.
    pub fn trade(&self, orderid: &str) {
        let order = OrderData {
            direction: Some(Direction::Long),
            volume: 1.0,
            ..OrderData::new(self.name(), self.symbols[0], SHFE, orderid)
        };
        self.report(OrderData { status: Status::NotTraded, ..order.clone() }).unwrap();
        std::thread::yield_now();
        self.report(OrderData { status: Status::AllTraded, traded: 1.0, ..order.clone() }).unwrap();
        std::thread::yield_now();
        let trade =
            TradeData { volume: 1.0, ..TradeData::new(self.name(), self.symbols[0], SHFE, orderid, orderid) };
        self.context.on_trade(trade).unwrap();
    }

    pub fn tick(&self, symbol: &str, last_price: f64) {
        let tick = TickData::new(self.name(), symbol, SHFE, Timestamp::now());
        self.context.on_tick(TickData { last_price, ..tick }).unwrap();
    }
}

impl Gateway for Venue {
    fn name(&self) -> &str {
        self.context.gateway_name()
    }

    fn connect(&self, _: &Setting) -> Result<(), Refusal> {
        for symbol in &self.symbols {
            let contract = ContractData::new(self.name(), *symbol, SHFE, "", Product::Futures, 10.0, 1.0);
            self.context.on_contract(contract)?;
        }
        self.query_account()?;
        self.query_position()
    }

    fn close(&self) {
        self.before_send.open();
        self.before_history.open();
        self.before_subscribe.open();
    }

    fn subscribe(&self, request: &SubscribeRequest) -> Result<(), Refusal> {
        self.before_subscribe.pass();
        if !self.symbols.contains(&&*request.symbol) {
            return Err(Refusal::UnknownContract(request.vt_symbol()));
        }
        self.subscribed.lock().unwrap().insert(request.vt_symbol());
        Ok(())
    }

    fn send_order(&self, request: &OrderRequest) -> Result<String, SendError> {
        *self.asked.lock().unwrap() = request.reference.clone();
        self.before_send.pass();
        if request.volume > 1_000.0 {
            return Err(Refusal::Rejected("too much".into()).into());
        }
        let number = self.orders.lock().unwrap().len() + 1;
        let order = request.to_order(self.name(), number.to_string());
        let vt_orderid = order.vt_orderid();
        self.report(OrderData { status: Status::NotTraded, ..order })?;
        Ok(vt_orderid)
    }

    fn cancel_order(&self, request: &CancelRequest) -> Result<(), SendError> {
        let order = self.orders.lock().unwrap().get(&request.orderid).cloned();
        let order = order.ok_or_else(|| Refusal::Rejected(format!("no order {}", request.orderid)))?;
        Ok(self.report(OrderData { status: Status::Cancelled, ..order })?)
    }

    fn send_quote(&self, request: &QuoteRequest) -> Result<String, SendError> {
        let number = self.quotes.lock().unwrap().len() + 1;
        let quote = request.to_quote(self.name(), format!("q.{number}"));
        self.quotes.lock().unwrap().insert(quote.quoteid.clone(), quote.clone());
        let vt_quoteid = quote.vt_quoteid();
        self.context.on_quote(quote).map_err(Refusal::from)?;
        Ok(vt_quoteid)
    }

    fn cancel_quote(&self, request: &CancelRequest) -> Result<(), SendError> {
        let quote = self.quotes.lock().unwrap().get(&request.orderid).cloned();
        let quote = quote.ok_or_else(|| Refusal::Rejected(format!("no quote {}", request.orderid)))?;
        Ok(self.context.on_quote(QuoteData { status: Status::Cancelled, ..quote }).map_err(Refusal::from)?)
    }

    fn query_account(&self) -> Result<(), Refusal> {
        Ok(self.context.on_account(AccountData { balance: 1e6, ..AccountData::new(self.name(), "acc1") })?)
    }

    fn query_position(&self) -> Result<(), Refusal> {
        let position = PositionData::new(self.name(), self.symbols[0], SHFE, Direction::Long);
        Ok(self.context.on_position(PositionData { volume: 3.0, ..position })?)
    }

    fn query_history(&self, request: &HistoryRequest) -> Result<Vec<BarData>, Refusal> {
        self.before_history.pass();
        let bar = |close_price| BarData {
            close_price,
            ..BarData::new(self.name(), &*request.symbol, request.exchange, request.start)
        };
        Ok((1..=3).map(f64::from).map(bar).collect())
    }

    fn exchanges(&self) -> Vec<Exchange> {
        vec![SHFE]
    }
}

/// A server process: venues, and a service that runs.
pub struct Served {
    pub main: MainEngine,
    pub service: RpcService,
    pub ctp: Arc<Venue>,
    pub ib: Arc<Venue>,
}

impl Served {
    /// At an address that is free.
    pub fn new() -> Self {
        Self::with_options(RpcServiceOptions::default())
    }

    pub fn with_options(options: RpcServiceOptions) -> Self {
        Self::at("127.0.0.1:0", options)
    }

    pub fn at(address: &str, options: RpcServiceOptions) -> Self {
        let main = MainEngine::new().unwrap();
        let ctp = main.add_gateway("CTP", |context| Venue::new(context, &["rb2410", "cu2410"])).unwrap();
        let ib = main.add_gateway("IB", |context| Venue::new(context, &["ES"])).unwrap();
        for name in ["CTP", "IB"] {
            main.connect(&Setting::new(), name).unwrap();
        }
        // So that what they say at the beginning is in the books, and not in the stream.
        reach(&main);
        let service = RpcService::with_options(&main, options);
        service.start(&RpcServiceSetting::new(address, "")).unwrap();
        reach(&main);
        Served { main, service, ctp, ib }
    }

    pub fn address(&self) -> String {
        self.service.local_addrs()[0].to_string()
    }

    /// Stops and starts it at the same place.
    pub fn restart(&self) {
        let address = self.address();
        self.service.stop();
        self.service.start(&RpcServiceSetting::new(address, "")).unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.service.stop();
        let _ = self.main.close();
    }
}

/// A client process: a main engine with a gateway to a service, and all that it hears.
pub struct Client {
    pub main: MainEngine,
    pub rpc: Arc<RpcGateway>,
    pub address: String,
    events: Receiver<Event>,
}

impl Client {
    /// One that connects to this address with what else is in the setting.
    pub fn new(address: &str, more: Setting) -> Self {
        Self::made(MainEngine::new().unwrap(), RpcGateway::new, address, more)
    }

    pub fn made(
        main: MainEngine,
        make: impl FnOnce(GatewayContext) -> RpcGateway,
        address: &str,
        more: Setting,
    ) -> Self {
        let (sender, events) = channel();
        main.event_engine().register_general(move |event| {
            if *event != Event::Timer {
                let _ = sender.send(event.clone());
            }
        });
        let rpc = main.add_gateway("RPC", make).unwrap();
        main.connect(&more.with("rep_address", address), "RPC").unwrap();
        Client { main, rpc, address: address.into(), events }
    }

    /// One that is live.
    pub fn live(served: &Served) -> Self {
        Self::live_with(served, Setting::new())
    }

    /// One that is live, with what else is in the setting.
    pub fn live_with(served: &Served, more: Setting) -> Self {
        let client = Self::new(&served.address(), more);
        assert!(client.rpc.wait_live(LONG));
        reach(&client.main);
        client
    }

    /// The next event for which this holds; those before it are passed over.
    #[track_caller]
    pub fn hear(&self, what: &str, is_wanted: impl Fn(&Event) -> bool) -> Event {
        let deadline = Instant::now() + LONG;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if is_wanted(&event) => return event,
                Ok(_) => {}
                Err(_) => panic!("{what}: not within {LONG:?}"),
            }
        }
    }

    /// The next event of this type.
    #[track_caller]
    pub fn hear_type(&self, event_type: &str) -> Event {
        self.hear(event_type, |event| event.specific_type() == event_type)
    }

    /// The next log event with these words.
    #[track_caller]
    pub fn hear_log(&self, words: &str) -> LogData {
        let event = self.hear(words, |event| matches!(event, Event::Log(log) if log.msg.contains(words)));
        match event {
            Event::Log(log) => LogData::clone(&log),
            event => panic!("{event:?}"),
        }
    }

    /// Its next state, as its event says.
    #[track_caller]
    pub fn hear_state(&self, state: GatewayState) {
        let expected = CustomData::Text(state.name().into());
        self.hear(state.name(), |event| {
            matches!(event, Event::Custom(custom) if custom.event_type() == state_event_type("RPC")
                && *custom.data() == expected)
        });
    }

    /// All that has been heard, once the event engine has come to here.
    pub fn heard(&self) -> Vec<Event> {
        reach(&self.main);
        self.events.try_iter().collect()
    }

    pub fn send(&self, request: &OrderRequest) -> Result<String, SendError> {
        self.main.send_order(request, "RPC")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.main.close();
    }
}

pub fn order(symbol: &str, reference: &str) -> OrderRequest {
    let order = OrderRequest::new(symbol, SHFE, Direction::Long, OrderType::Limit, 2.0);
    OrderRequest { price: 3_500.0, reference: reference.into(), ..order }
}

/// Waits until all that has been put by now was handled.
pub fn reach(main: &MainEngine) {
    let (sender, reached) = channel();
    main.event_engine().run_in_turn(move || sender.send(()).unwrap()).unwrap();
    reached.recv_timeout(LONG).unwrap();
}

/// The lines of these events, for a test that looks for words.
pub fn lines(events: &[Event]) -> Vec<String> {
    let line = |event: &Event| match event {
        Event::Log(log) => Some(log.msg.clone()),
        _ => None,
    };
    events.iter().filter_map(line).collect()
}

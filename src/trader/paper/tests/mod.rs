//! Matching, refusals, positions and money on the bare exchange; the ledger on real files.

mod accounting;
mod matching;
mod property;
mod recovery;
mod refusals;

use std::format;
use std::string::String;
use std::vec::Vec;

use super::entry::{LedgerEntry, Terms};
use super::exchange::Exchange;
use super::ledger::VERSION;
use crate::trader::{
    AccountData, CancelRequest, ContractData, Direction, Event, Exchange as Venue, Offset, OrderData,
    OrderRequest, OrderType, PositionData, Product, Refusal, Status, TickData, Timestamp, TradeData,
};

const NAME: &str = "PAPER";
const TERMS: Terms = Terms { version: VERSION, balance: 100_000.0, margin_rate: 0.1, fee_rate: 0.0 };

/// Coins in tenths, one net position, prices in halves.
fn coin() -> ContractData {
    let coin = ContractData::new("", "COIN", Venue::Local, "", Product::Spot, 1.0, 0.5);
    ContractData { net_position: true, min_volume: 0.1, max_volume: Some(1_000.0), ..coin }
}

/// A future of 10 units, long and short apart.
fn future() -> ContractData {
    ContractData::new("", "rb", Venue::Shfe, "", Product::Futures, 10.0, 1.0)
}

/// An exchange, all that was written down, and all that was reported.
struct Play {
    exchange: Exchange,
    entries: Vec<LedgerEntry>,
    events: Vec<Event>,
}

impl Play {
    fn new() -> Self {
        Self::with_terms(TERMS)
    }

    fn with_terms(terms: Terms) -> Self {
        let exchange = Exchange::new(NAME, &[coin(), future()], terms).unwrap();
        Play { exchange, entries: Vec::new(), events: Vec::new() }
    }

    /// Sends an order and gives its id.
    fn send(&mut self, request: &OrderRequest) -> Result<u64, Refusal> {
        let plan = self.exchange.plan_order(request)?;
        let id = plan.entry.placed.as_ref().map(|placed| placed.order);
        self.entries.push(plan.entry.clone());
        self.exchange.carry_out(plan, &mut self.events);
        Ok(id.unwrap())
    }

    /// Sends an order that is taken.
    #[track_caller]
    fn place(&mut self, request: &OrderRequest) -> u64 {
        self.send(request).unwrap()
    }

    /// Why the order is not taken.
    #[track_caller]
    fn refusal(&mut self, request: &OrderRequest) -> String {
        let before = (self.entries.len(), self.events.len());
        let refusal = self.send(request).unwrap_err();
        assert_eq!((self.entries.len(), self.events.len()), before, "a refusal leaves no trace");
        format!("{refusal}")
    }

    fn cancel(&mut self, order: u64) -> Result<(), Refusal> {
        let contract = self.order(order);
        self.cancel_by(&CancelRequest::new(format!("{order}"), contract.symbol, contract.exchange))
    }

    fn cancel_by(&mut self, request: &CancelRequest) -> Result<(), Refusal> {
        let plan = self.exchange.plan_cancel(request)?;
        self.entries.push(plan.entry.clone());
        self.exchange.carry_out(plan, &mut self.events);
        Ok(())
    }

    fn tick(&mut self, tick: &TickData) {
        let plan = self.exchange.plan_tick(tick).unwrap();
        if !plan.entry.is_empty() {
            self.entries.push(plan.entry.clone());
        }
        self.exchange.note(tick);
        self.exchange.carry_out(plan, &mut self.events);
    }

    #[track_caller]
    fn order(&self, id: u64) -> OrderData {
        self.exchange.orders().find(|order| order.orderid == format!("{id}")).unwrap()
    }

    /// How far an order is, and what has traded of it.
    #[track_caller]
    fn state(&self, id: u64) -> (Status, f64) {
        let order = self.order(id);
        (order.status, order.traded)
    }

    /// Order, price and volume of all trades.
    fn trades(&self) -> Vec<(u64, f64, f64)> {
        self.exchange
            .trades()
            .map(|trade| (trade.orderid.parse().unwrap(), trade.price, trade.volume))
            .collect()
    }

    /// What is held of the coin.
    fn coins(&self) -> PositionData {
        self.exchange.positions().find(|position| position.symbol == "COIN").unwrap()
    }

    /// What is held of the future on one side.
    fn futures(&self, direction: Direction) -> PositionData {
        let mut positions = self.exchange.positions();
        positions.find(|position| position.symbol == "rb" && position.direction == direction).unwrap()
    }

    fn account(&self) -> AccountData {
        self.exchange.account()
    }
}

fn coin_order(direction: Direction, order_type: OrderType, price: f64, volume: f64) -> OrderRequest {
    let request = OrderRequest::new("COIN", Venue::Local, direction, order_type, volume);
    OrderRequest { price, ..request }
}

fn buy(price: f64, volume: f64) -> OrderRequest {
    coin_order(Direction::Long, OrderType::Limit, price, volume)
}

fn sell(price: f64, volume: f64) -> OrderRequest {
    coin_order(Direction::Short, OrderType::Limit, price, volume)
}

fn future_order(direction: Direction, offset: Offset, price: f64, volume: f64) -> OrderRequest {
    let request = OrderRequest::new("rb", Venue::Shfe, direction, OrderType::Limit, volume);
    OrderRequest { price, offset, ..request }
}

/// A tick of the coin: price and volume of up to five levels on each side.
fn coin_tick(bids: &[(f64, f64)], asks: &[(f64, f64)]) -> TickData {
    with_levels(TickData::new("", "COIN", Venue::Local, Timestamp::from_nanos(1_000)), bids, asks)
}

fn future_tick(bids: &[(f64, f64)], asks: &[(f64, f64)]) -> TickData {
    with_levels(TickData::new("", "rb", Venue::Shfe, Timestamp::from_nanos(2_000)), bids, asks)
}

fn with_levels(mut tick: TickData, bids: &[(f64, f64)], asks: &[(f64, f64)]) -> TickData {
    for (at, &(price, volume)) in bids.iter().enumerate() {
        (tick.bid_price[at], tick.bid_volume[at]) = (price, volume);
    }
    for (at, &(price, volume)) in asks.iter().enumerate() {
        (tick.ask_price[at], tick.ask_volume[at]) = (price, volume);
    }
    tick
}

/// What one trade's record says.
fn trade_of(event: &Event) -> Option<&TradeData> {
    match event {
        Event::Trade(trade) => Some(trade),
        _ => None,
    }
}

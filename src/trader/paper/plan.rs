//! What a request, or a tick, would do: an entry, worked out before anything changes.

use std::format;
use std::vec::Vec;

use super::book::{Execution, Levels, Side};
use super::entry::{Fill, LedgerEntry, PlacedOrder};
use super::exchange::Exchange;
use super::holding::Effect;
use super::market::{find, place, Asked, Market};
use super::reject::Reject;
use super::MAX_REFERENCE_BYTES;
use crate::trader::{CancelRequest, OrderRequest, OrderType, Refusal, TickData, Timestamp};

/// An entry that is to be written and applied, and what it leaves of the market's levels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) entry: LedgerEntry,
    pub(super) market: usize,
    pub(super) levels: Vec<(Side, Levels)>,
}

impl Exchange {
    /// What an order would do.
    pub(super) fn plan_order(&self, request: &OrderRequest) -> Result<Plan, Refusal> {
        request.check()?;
        let market = self.market_of(&request.symbol, request.exchange)?;
        self.check_room(request)?;
        let asked = self.markets[market].read(request)?;
        let execution = self.execute(&self.markets[market], &asked, request.order_type);
        self.check_means(&self.markets[market], &asked, &execution)?;
        Ok(self.plan_execution(request, market, &asked, execution))
    }

    /// What a cancel would do.
    pub(super) fn plan_cancel(&self, request: &CancelRequest) -> Result<Plan, Refusal> {
        let order = request.orderid.parse().ok().and_then(place).and_then(|at| self.orders.get(at));
        // A number has one spelling here: what was given out.
        let order = order.filter(|order| format!("{}", order.id) == request.orderid);
        let order = order.ok_or_else(|| Reject::NoSuchOrder(request.orderid.clone()))?;
        let contract = self.markets[order.market].contract.vt_symbol();
        if contract != request.vt_symbol() {
            return Err(Reject::OtherContract { order: order.id, contract }.into());
        }
        if !order.status.is_active() {
            return Err(Reject::Finished { order: order.id, status: order.status }.into());
        }
        let entry = LedgerEntry { cancelled: [order.id].into(), ..self.next_entry() };
        Ok(Plan { entry, market: order.market, levels: Vec::new() })
    }

    /// What a tick would do: its levels meet what rests.
    pub(super) fn plan_tick(&self, tick: &TickData) -> Result<Plan, Refusal> {
        let at = self.market_of(&tick.symbol, tick.exchange)?;
        let market = &self.markets[at];
        let (mut bids, mut asks) = market.levels_of(tick);
        let remaining = |id| find(&self.orders, id).remaining();
        let mut matches = market.book.meet_resting(Side::Buy, &mut asks, remaining);
        matches.extend(market.book.meet_resting(Side::Sell, &mut bids, remaining));
        let mut fills = Fills::new(self, market, Some(tick.datetime));
        for found in matches {
            fills.push(found.maker.expect("orders that rest"), found.price, found.volume);
        }
        let entry = LedgerEntry { fills: fills.list, ..self.next_entry() };
        Ok(Plan { entry, market: at, levels: [(Side::Buy, bids), (Side::Sell, asks)].into() })
    }

    fn check_room(&self, request: &OrderRequest) -> Result<(), Reject> {
        if self.orders.len() + self.trades.len() >= self.max_records {
            return Err(Reject::LedgerFull);
        }
        if request.reference.len() > MAX_REFERENCE_BYTES {
            return Err(Reject::LongReference { len: request.reference.len() });
        }
        match self.references.get(&request.reference) {
            Some(&order) => Err(Reject::DuplicateReference { reference: request.reference.clone(), order }),
            None => Ok(()),
        }
    }

    fn execute(&self, market: &Market, asked: &Asked, order_type: OrderType) -> Execution {
        let remaining = |id| find(&self.orders, id).remaining();
        let execution = market.book.meet(asked.side, asked.limit, asked.volume, remaining);
        if order_type == OrderType::Fok && execution.left > 0 {
            let levels = market.book.levels(asked.side.opposite()).clone();
            return Execution { matches: Vec::new(), left: asked.volume, levels };
        }
        execution
    }

    fn check_means(&self, market: &Market, asked: &Asked, execution: &Execution) -> Result<(), Reject> {
        let needed = market.needed(asked, execution, &self.terms, &self.orders);
        let available = self.account().available();
        // What only closes is never refused, however bad things are.
        if needed > 0.0 && needed > available && asked.effect != Effect::Close {
            return Err(Reject::Means { needed, available });
        }
        Ok(())
    }

    fn plan_execution(&self, request: &OrderRequest, at: usize, asked: &Asked, execution: Execution) -> Plan {
        let market = &self.markets[at];
        let order = self.orders.len() as u64 + 1;
        let mut fills = Fills::new(self, market, market.now);
        for part in &execution.matches {
            if let Some(maker) = part.maker {
                fills.push(maker, part.price, part.volume);
            }
            fills.push(order, part.price, part.volume);
        }
        let is_over = execution.left > 0 && !asked.rests;
        let placed = PlacedOrder {
            order,
            contract: market.contract.vt_symbol(),
            direction: request.direction,
            order_type: request.order_type,
            offset: request.offset,
            price: asked.limit.map_or(0.0, |limit| market.prices.value(limit)),
            volume: market.lots.value(asked.volume),
            reference: request.reference.clone(),
            at_ns: market.now,
        };
        let cancelled = if is_over { [order].into() } else { Vec::new() };
        let entry = LedgerEntry { placed: Some(placed), fills: fills.list, cancelled, ..self.next_entry() };
        Plan { entry, market: at, levels: [(asked.side.opposite(), execution.levels)].into() }
    }

    fn next_entry(&self) -> LedgerEntry {
        LedgerEntry { number: self.entries + 1, placed: None, fills: Vec::new(), cancelled: Vec::new() }
    }
}

impl LedgerEntry {
    /// Nothing happened: nothing is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.placed.is_none() && self.fills.is_empty() && self.cancelled.is_empty()
    }
}

/// Trades to come, with their ids.
struct Fills<'a> {
    market: &'a Market,
    next: u64,
    at_ns: Option<Timestamp>,
    list: Vec<Fill>,
}

impl<'a> Fills<'a> {
    fn new(exchange: &Exchange, market: &'a Market, at_ns: Option<Timestamp>) -> Self {
        Fills { market, next: exchange.trades.len() as u64 + 1, at_ns, list: Vec::new() }
    }

    fn push(&mut self, order: u64, price: i64, volume: i64) {
        let (price, volume) = (self.market.prices.value(price), self.market.lots.value(volume));
        self.list.push(Fill { trade: self.next, order, price, volume, at_ns: self.at_ns });
        self.next += 1;
    }
}

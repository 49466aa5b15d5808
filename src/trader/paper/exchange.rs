//! The exchange itself, without clock, file or thread: entries become state, and events.
//!
//! Whatever is to happen is first [planned](super::plan) as an entry, which changes nothing; then the entry is written
//! down; then it is applied. Reading a ledger is applying its entries again, so a restarted exchange is where the old one
//! was.

use std::collections::{BTreeSet, HashMap};
use std::format;
use std::string::String;
use std::vec::Vec;

use super::book::Side;
use super::entry::{Fill, LedgerEntry, PlacedOrder, Terms};
use super::holding::{Effect, Holding};
use super::market::{direction_of, place, BadContract, Market, Order};
use super::plan::Plan;
use super::{ACCOUNT_ID, MAX_RECORDS};
use crate::trader::{
    id, AccountData, ContractData, Event, Exchange as Venue, OrderData, PositionData, Refusal, Status,
    TickData, TradeData,
};

/// All contracts, orders and trades, and the account.
#[derive(Debug)]
pub(super) struct Exchange {
    gateway_name: String,
    pub(super) terms: Terms,
    pub(super) markets: Vec<Market>,
    /// `vt_symbol` to the place of its market.
    places: HashMap<String, usize>,
    /// Invariant: the order of id `n` is at `n - 1`.
    pub(super) orders: Vec<Order>,
    /// Invariant: the trade of id `n` is at `n - 1`.
    pub(super) trades: Vec<TradeData>,
    /// Reference to the order that has it.
    pub(super) references: HashMap<String, u64>,
    pub(super) entries: u64,
    pub(super) max_records: usize,
}

/// An entry does not go together with those before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Inconsistency {
    /// Entries count without a gap.
    #[error("entry {found} where {expected} is due")]
    Number {
        /// What is there.
        found: u64,
        /// What should be.
        expected: u64,
    },
    /// Orders and trades count without a gap.
    #[error("id {found} where {expected} is due")]
    Id {
        /// What is there.
        found: u64,
        /// What should be.
        expected: u64,
    },
    /// The exchange does not trade this contract, or not any more.
    #[error("unknown contract {0:?}")]
    UnknownContract(String),
    /// The contract's steps, or whether its position is net, have changed.
    #[error("order {0} does not fit its contract")]
    Contract(u64),
    /// A trade, or a cancel, of an order that is not there, is finished, or is not that large.
    #[error("order {0} cannot have done this")]
    Order(u64),
    /// Two orders have one reference.
    #[error("the reference of order {0} is another's")]
    Reference(u64),
}

impl Exchange {
    pub(super) fn new(
        gateway_name: &str,
        contracts: &[ContractData],
        terms: Terms,
    ) -> Result<Self, BadContract> {
        let mut places = HashMap::new();
        let mut markets = Vec::with_capacity(contracts.len());
        for contract in contracts {
            if places.insert(contract.vt_symbol(), markets.len()).is_some() {
                return Err(BadContract::Twice(contract.vt_symbol()));
            }
            markets
                .push(Market::new(ContractData { gateway_name: gateway_name.into(), ..contract.clone() })?);
        }
        Ok(Exchange {
            gateway_name: gateway_name.into(),
            terms,
            markets,
            places,
            orders: Vec::new(),
            trades: Vec::new(),
            references: HashMap::new(),
            entries: 0,
            max_records: MAX_RECORDS,
        })
    }

    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Takes other terms. For an exchange to which nothing has happened yet.
    pub(super) fn restart(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// Does what was planned on this very state. Appends what is to be reported.
    pub(super) fn carry_out(&mut self, plan: Plan, events: &mut Vec<Event>) {
        if !plan.entry.is_empty() {
            self.apply(&plan.entry, events).expect("it was planned on this state");
        }
        for (side, levels) in plan.levels {
            self.markets[plan.market].book.replace_levels(side, levels);
        }
    }

    /// Takes what a tick says beside its levels.
    pub(super) fn note(&mut self, tick: &TickData) {
        if let Ok(at) = self.market_of(&tick.symbol, tick.exchange) {
            self.markets[at].note(tick);
        }
    }

    /// Takes an entry in, and appends what is to be reported.
    ///
    /// # Errors
    /// It does not go together with those before; the state is not to be used any more.
    pub(super) fn apply(
        &mut self,
        entry: &LedgerEntry,
        events: &mut Vec<Event>,
    ) -> Result<(), Inconsistency> {
        expect_next(entry.number, self.entries, |found, expected| Inconsistency::Number { found, expected })?;
        self.entries = entry.number;
        let account = self.account();
        let mut touched = BTreeSet::new();
        if let Some(placed) = &entry.placed {
            self.enter(placed, events)?;
        }
        for fill in &entry.fills {
            touched.insert(self.fill(fill, events)?);
        }
        for &order in &entry.cancelled {
            touched.insert(self.finish_cancelled(order, events)?);
        }
        if let Some(placed) = &entry.placed {
            touched.insert(self.rest_if_active(placed.order, events));
        }
        for market in touched {
            self.count_and_report(market, events);
        }
        if self.account() != account {
            events.push(self.account().into());
        }
        Ok(())
    }

    pub(super) fn contracts(&self) -> impl Iterator<Item = ContractData> + '_ {
        self.markets.iter().map(|market| market.contract.clone())
    }

    /// What is held, of contracts that ever traded.
    pub(super) fn positions(&self) -> impl Iterator<Item = PositionData> + '_ {
        let traded = self.markets.iter().filter(|market| market.holding != Holding::default());
        traded.flat_map(|market| market.positions(&self.gateway_name))
    }

    pub(super) fn orders(&self) -> impl Iterator<Item = OrderData> + '_ {
        self.orders.iter().map(|order| self.markets[order.market].order_data(order, &self.gateway_name))
    }

    pub(super) fn trades(&self) -> impl Iterator<Item = TradeData> + '_ {
        self.trades.iter().cloned()
    }

    pub(super) fn account(&self) -> AccountData {
        let earned: f64 = self.markets.iter().map(|market| market.earned(&self.terms)).sum();
        let frozen = self.markets.iter().map(|market| market.frozen(&self.terms)).sum();
        let balance = self.terms.balance + earned;
        AccountData { balance, frozen, ..AccountData::new(&*self.gateway_name, ACCOUNT_ID) }
    }

    /// # Errors
    /// The exchange does not trade it.
    pub(super) fn market_of(&self, symbol: &str, exchange: Venue) -> Result<usize, Refusal> {
        let vt_symbol = id::vt_symbol(symbol, exchange);
        self.places.get(&vt_symbol).copied().ok_or(Refusal::UnknownContract(vt_symbol))
    }

    fn enter(&mut self, placed: &PlacedOrder, events: &mut Vec<Event>) -> Result<(), Inconsistency> {
        let id = placed.order;
        expect_next(id, self.orders.len() as u64, |found, expected| Inconsistency::Id { found, expected })?;
        let unknown = || Inconsistency::UnknownContract(placed.contract.clone());
        let at = *self.places.get(&placed.contract).ok_or_else(unknown)?;
        let order = order_of(placed, at, &self.markets[at]).ok_or(Inconsistency::Contract(id))?;
        let is_named = !placed.reference.is_empty();
        if is_named && self.references.insert(placed.reference.clone(), id).is_some() {
            return Err(Inconsistency::Reference(id));
        }
        events.push(self.markets[at].order_data(&order, &self.gateway_name).into());
        self.orders.push(order);
        Ok(())
    }

    /// Enters a trade, and gives the place of its market.
    fn fill(&mut self, fill: &Fill, events: &mut Vec<Event>) -> Result<usize, Inconsistency> {
        let trades = self.trades.len() as u64;
        expect_next(fill.trade, trades, |found, expected| Inconsistency::Id { found, expected })?;
        let order = active(&mut self.orders, fill.order)?;
        let market = &mut self.markets[order.market];
        let (price, volume) = (market.prices.exact(fill.price), market.lots.exact(fill.volume));
        let (Some(price), Some(volume)) = (price, volume) else {
            return Err(Inconsistency::Contract(order.id));
        };
        let closable = market.holding.closed_by(order.side).volume;
        let is_too_large = order.effect == Effect::Close && volume > closable;
        if is_too_large || volume <= 0 || volume > order.remaining() {
            return Err(Inconsistency::Order(order.id));
        }
        market.holding.trade(order.side, order.effect, price, volume);
        order.traded += volume;
        order.status = if order.remaining() == 0 { Status::AllTraded } else { Status::PartTraded };
        if order.remaining() == 0 {
            market.book.remove(order.side, order.price, order.id);
        }
        let contract = &market.contract;
        let trade = TradeData::new(
            &*self.gateway_name,
            &*contract.symbol,
            contract.exchange,
            format!("{}", order.id),
            format!("{}", fill.trade),
        );
        let trade = TradeData {
            direction: Some(direction_of(order.side)),
            offset: order.offset,
            price: market.prices.value(price),
            volume: market.lots.value(volume),
            datetime: fill.at_ns,
            ..trade
        };
        events.push(market.order_data(order, &self.gateway_name).into());
        events.push(trade.clone().into());
        self.trades.push(trade);
        Ok(order.market)
    }

    /// Ends an order, and gives the place of its market.
    fn finish_cancelled(&mut self, id: u64, events: &mut Vec<Event>) -> Result<usize, Inconsistency> {
        let order = active(&mut self.orders, id)?;
        let market = &mut self.markets[order.market];
        order.status = Status::Cancelled;
        market.book.remove(order.side, order.price, order.id);
        events.push(market.order_data(order, &self.gateway_name).into());
        Ok(order.market)
    }

    /// Puts the order that was just placed into the book if it may still trade, and gives the place of its market.
    fn rest_if_active(&mut self, id: u64, events: &mut Vec<Event>) -> usize {
        let order = self.orders.last_mut().filter(|order| order.id == id).expect("it was just placed");
        let market = &mut self.markets[order.market];
        if order.status == Status::Submitting {
            order.status = Status::NotTraded;
            events.push(market.order_data(order, &self.gateway_name).into());
        }
        if order.status.is_active() {
            market.book.rest(order.side, order.price, order.id);
        }
        order.market
    }

    /// Counts what the orders of a market bind, and reports its positions if that or a trade has changed them.
    fn count_and_report(&mut self, at: usize, events: &mut Vec<Event>) {
        let market = &mut self.markets[at];
        market.count_bound(&self.orders);
        events.extend(market.changed_positions(&self.gateway_name).map(Event::from));
    }
}

/// The order that was placed, in the steps of its contract; `None` if it does not fit them.
fn order_of(placed: &PlacedOrder, at: usize, market: &Market) -> Option<Order> {
    Some(Order {
        id: placed.order,
        market: at,
        side: Side::of(placed.direction)?,
        order_type: placed.order_type,
        offset: placed.offset,
        effect: market.effect(placed.offset).ok()?,
        price: market.prices.exact(placed.price)?,
        volume: market.lots.exact(placed.volume).filter(|volume| *volume > 0)?,
        traded: 0,
        status: Status::Submitting,
        reference: placed.reference.clone(),
        at: placed.at_ns,
    })
}

/// The order of this id, if it may still trade.
fn active(orders: &mut [Order], id: u64) -> Result<&mut Order, Inconsistency> {
    let order = place(id).and_then(|at| orders.get_mut(at));
    order.filter(|order| order.status.is_active()).ok_or(Inconsistency::Order(id))
}

fn expect_next(
    found: u64,
    last: u64,
    error: impl FnOnce(u64, u64) -> Inconsistency,
) -> Result<(), Inconsistency> {
    if found == last + 1 {
        Ok(())
    } else {
        Err(error(found, last + 1))
    }
}

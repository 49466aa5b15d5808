//! Order management: the newest record of everything, by id.

mod latest;
#[cfg(test)]
mod tests;

use core::fmt;
use std::string::String;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::vec::Vec;

use super::{
    AccountData, ContractData, Event, EventEngine, OrderData, PositionData, QuoteData, TickData, TradeData,
    EVENT_ACCOUNT, EVENT_CONTRACT, EVENT_ORDER, EVENT_POSITION, EVENT_QUOTE, EVENT_TICK, EVENT_TRADE,
};
pub(super) use latest::Latest;

/// Keeps the newest tick, order, trade, position, account, contract and quote of each id, and which orders and quotes are
/// active. vn.py's `OmsEngine`.
///
/// It listens to an event engine. It is the first to do so if it is made before other handlers are registered, as
/// [`MainEngine`](super::MainEngine) does: then a handler of an event finds here what the event says. Seen from other
/// threads it is as far as the engine's thread has come.
///
/// The last event of an id rules, whatever its record says of time. Records are shared, not copied. Lists are in the
/// order in which the ids first came. Beyond [`OmsEngine::DEFAULT_MAX_RECORDS`] ids of one kind the one that came first is
/// forgotten, counted ([`OmsEngine::forgotten`]) and logged. Orders and quotes that are active never are, however many:
/// what may still trade is limited by the venues. Of those that are finished the one goes that was finished first.
///
/// A handle: clones are the same books.
#[derive(Clone)]
pub struct OmsEngine {
    books: Arc<RwLock<Books>>,
}

struct Books {
    ticks: Latest<TickData>,
    orders: Latest<OrderData>,
    trades: Latest<TradeData>,
    positions: Latest<PositionData>,
    accounts: Latest<AccountData>,
    contracts: Latest<ContractData>,
    quotes: Latest<QuoteData>,
    forgotten: u64,
}

impl OmsEngine {
    /// Ids of one kind that are kept: 262 144. Orders take the most, some 100 MiB if there are so many.
    pub const DEFAULT_MAX_RECORDS: usize = 262_144;

    /// Books that this engine's events are entered into, of the default size.
    pub fn new(events: &EventEngine) -> Self {
        Self::with_max_records(events, Self::DEFAULT_MAX_RECORDS)
    }

    /// Books that keep so many ids of one kind, beside orders and quotes that are active; 0 counts as 1.
    pub fn with_max_records(events: &EventEngine, max_records: usize) -> Self {
        let books = Arc::new(RwLock::new(Books::new(max_records.max(1))));
        let types = [
            EVENT_TICK,
            EVENT_ORDER,
            EVENT_TRADE,
            EVENT_POSITION,
            EVENT_ACCOUNT,
            EVENT_CONTRACT,
            EVENT_QUOTE,
        ];
        for event_type in types {
            let books = Arc::clone(&books);
            events.register(event_type, move |event| {
                books.write().unwrap_or_else(PoisonError::into_inner).enter(event);
            });
        }
        OmsEngine { books }
    }

    /// The last tick of a contract, by `vt_symbol`.
    pub fn tick(&self, vt_symbol: &str) -> Option<Arc<TickData>> {
        self.read().ticks.find(vt_symbol)
    }

    /// An order, by `vt_orderid`.
    pub fn order(&self, vt_orderid: &str) -> Option<Arc<OrderData>> {
        self.read().orders.find(vt_orderid)
    }

    /// A trade, by `vt_tradeid`.
    pub fn trade(&self, vt_tradeid: &str) -> Option<Arc<TradeData>> {
        self.read().trades.find(vt_tradeid)
    }

    /// A position, by `vt_positionid`.
    pub fn position(&self, vt_positionid: &str) -> Option<Arc<PositionData>> {
        self.read().positions.find(vt_positionid)
    }

    /// An account, by `vt_accountid`.
    pub fn account(&self, vt_accountid: &str) -> Option<Arc<AccountData>> {
        self.read().accounts.find(vt_accountid)
    }

    /// A contract, by `vt_symbol`. It says which gateway trades it.
    pub fn contract(&self, vt_symbol: &str) -> Option<Arc<ContractData>> {
        self.read().contracts.find(vt_symbol)
    }

    /// A quote, by `vt_quoteid`.
    pub fn quote(&self, vt_quoteid: &str) -> Option<Arc<QuoteData>> {
        self.read().quotes.find(vt_quoteid)
    }

    /// The last tick of each contract.
    pub fn ticks(&self) -> Vec<Arc<TickData>> {
        self.read().ticks.select(|_| true)
    }

    /// All orders.
    pub fn orders(&self) -> Vec<Arc<OrderData>> {
        self.read().orders.select(|_| true)
    }

    /// All trades.
    pub fn trades(&self) -> Vec<Arc<TradeData>> {
        self.read().trades.select(|_| true)
    }

    /// All positions.
    pub fn positions(&self) -> Vec<Arc<PositionData>> {
        self.read().positions.select(|_| true)
    }

    /// All accounts.
    pub fn accounts(&self) -> Vec<Arc<AccountData>> {
        self.read().accounts.select(|_| true)
    }

    /// All contracts.
    pub fn contracts(&self) -> Vec<Arc<ContractData>> {
        self.read().contracts.select(|_| true)
    }

    /// All quotes.
    pub fn quotes(&self) -> Vec<Arc<QuoteData>> {
        self.read().quotes.select(|_| true)
    }

    /// The orders that may still trade, of one contract if a `vt_symbol` is given.
    pub fn active_orders(&self, vt_symbol: Option<&str>) -> Vec<Arc<OrderData>> {
        let is_wanted = |order: &OrderData| vt_symbol.is_none_or(|wanted| order.vt_symbol() == wanted);
        self.read().orders.select_needed(is_wanted)
    }

    /// The quotes that may still trade, of one contract if a `vt_symbol` is given.
    pub fn active_quotes(&self, vt_symbol: Option<&str>) -> Vec<Arc<QuoteData>> {
        let is_wanted = |quote: &QuoteData| vt_symbol.is_none_or(|wanted| quote.vt_symbol() == wanted);
        self.read().quotes.select_needed(is_wanted)
    }

    /// The first order for which this holds.
    pub(in crate::trader) fn find_order(
        &self,
        is_wanted: impl Fn(&OrderData) -> bool,
    ) -> Option<Arc<OrderData>> {
        self.read().orders.find_first(is_wanted)
    }

    /// The first quote for which this holds.
    pub(in crate::trader) fn find_quote(
        &self,
        is_wanted: impl Fn(&QuoteData) -> bool,
    ) -> Option<Arc<QuoteData>> {
        self.read().quotes.find_first(is_wanted)
    }

    /// Records that had to go because there were too many ids of their kind.
    pub fn forgotten(&self) -> u64 {
        self.read().forgotten
    }

    fn read(&self) -> RwLockReadGuard<'_, Books> {
        self.books.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for OmsEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OmsEngine").finish_non_exhaustive()
    }
}

impl Books {
    fn new(max_records: usize) -> Self {
        Books {
            ticks: Latest::new(max_records),
            orders: Latest::keeping(max_records, OrderData::is_active),
            trades: Latest::new(max_records),
            positions: Latest::new(max_records),
            accounts: Latest::new(max_records),
            contracts: Latest::new(max_records),
            quotes: Latest::keeping(max_records, QuoteData::is_active),
            forgotten: 0,
        }
    }

    fn enter(&mut self, event: &Event) {
        let forgotten = match event {
            Event::Tick(tick) => self.ticks.put(&tick.vt_symbol(), Arc::clone(tick)),
            Event::Order(order) => self.orders.put(&order.vt_orderid(), Arc::clone(order)),
            Event::Trade(trade) => self.trades.put(&trade.vt_tradeid(), Arc::clone(trade)),
            Event::Position(position) => self.positions.put(&position.vt_positionid(), Arc::clone(position)),
            Event::Account(account) => self.accounts.put(&account.vt_accountid(), Arc::clone(account)),
            Event::Contract(contract) => self.contracts.put(&contract.vt_symbol(), Arc::clone(contract)),
            Event::Quote(quote) => self.quotes.put(&quote.vt_quoteid(), Arc::clone(quote)),
            Event::Timer | Event::Log(_) | Event::Custom(_) => 0,
        };
        if forgotten > 0 && self.forgotten == 0 {
            let event_type: String = event.general_type().into();
            log::warn!("records-forgotten: more ids of {event_type} than are kept");
        }
        self.forgotten += forgotten;
    }
}

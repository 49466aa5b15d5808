//! A paper exchange: a gateway that trades against ticks instead of money.
//!
//! ```
//! use pulsewire::trader::paper::PaperExchange;
//! use pulsewire::trader::*;
//!
//! let main = MainEngine::new()?;
//! let contract = ContractData {
//!     net_position: true,
//!     ..ContractData::new("PAPER", "BTCUSD", Exchange::Local, "Bitcoin", Product::Spot, 1.0, 0.5)
//! };
//! let paper = main.add_gateway("PAPER", |context| PaperExchange::new(context, vec![contract]))?;
//! main.connect(&Setting::new().with("balance", 1e6), "PAPER")?;
//!
//! // Whoever has the market feeds it in.
//! let mut tick = TickData::new("", "BTCUSD", Exchange::Local, Timestamp::now());
//! (tick.ask_price[0], tick.ask_volume[0]) = (60_000.0, 3.0);
//! paper.handle_tick(tick)?;
//!
//! let order = OrderRequest::new("BTCUSD", Exchange::Local, Direction::Long, OrderType::Limit, 5.0);
//! let order = main.send_order(&OrderRequest { price: 60_000.5, ..order }, "PAPER")?;
//! assert_eq!(main.close().dropped, 0);
//! let order = main.oms().order(&order).expect("it was reported");
//! assert_eq!((order.status, order.traded), (Status::PartTraded, 3.0));
//! assert_eq!(main.oms().position("PAPER.BTCUSD.LOCAL.NET").map(|position| position.volume), Some(3.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Matching
//!
//! The book of a contract is the five levels of its newest tick, less what has been taken from them since, and the orders
//! that rest here. An order that comes in trades at the best price first. At one price the market's volume comes first, as
//! if it had been there before, then resting orders, the oldest first; whose they are does not matter. What trades, trades
//! at the price of the one that was there before. A tick replaces the levels; those that reach a resting order trade
//! with it, at the order's price, up to their volume. Nothing else in a tick trades: orders move the market by nothing but
//! what they take from it until the next tick.
//!
//! | order type | what does not trade at once |
//! |---|---|
//! | `Limit` | rests |
//! | `Market`, no limit | is cancelled |
//! | `Fak` | is cancelled |
//! | `Fok` | is cancelled, and nothing trades unless all of it can |
//!
//! Prices between two steps of a contract count as the next one that is worse to trade at, volumes of levels as the whole
//! lots in them.
//!
//! # Refusals
//!
//! A refused order has no id and leaves no trace; its reference is free. Refused are: unknown contracts; volumes that are
//! not a multiple of `min_volume` above 0, above `max_volume`, or too many to be counted beside what there is; prices that are no multiple of `pricetick`, or beyond the
//! newest tick's `limit_up` or `limit_down` where they are above 0; other order types; offsets that do not suit the
//! contract; closing more than is held and not bound by other orders; orders that need more than is available; a
//! **reference** that an order of this exchange has had already, by whomever (an empty one is none; an
//! [`RpcGateway`](super::RpcGateway) puts a mark of its own behind the references of its clients, so there they may use one
//! again); anything while the exchange is not connected, or its ledger cannot be written. A cancel is refused if there is no such order, or if it is
//! finished. Quotes and history are [not supported](Refusal::NotSupported).
//!
//! # Positions and money
//!
//! There is one account, `paper`, for all who trade here. A contract with `net_position` has one position with a sign, and
//! its orders have no offset; any other has a long and a short one, and its orders say `Open`, `Close` or `CloseToday`
//! (days do not end here, so nothing is from yesterday).
//!
//! The **balance** is what the account began with, plus what closing has earned, less fees. Profit that is not realised
//! is in the positions alone. **Frozen** is `margin_rate` of what positions were opened for and of what resting orders
//! would open, with the fees of the latter. An order is checked when it comes; losses may take what is available below
//! 0 later, and nothing is closed by force.
//!
//! # The ledger
//!
//! Everything that happens is a line in the ledger, a file of JSON ([`LedgerEntry`]), **before** the request is answered or
//! an event is put: no order that was acknowledged is forgotten when the process is killed, and one whose acknowledgement
//! was lost is found by its reference. The next life reads it and goes on with the same orders, trades, positions and
//! account. A line that was not written to its end counts for nothing and is cut off. The system may lose the newest
//! lines if the machine itself fails, unless `fsync` is set.
//!
//! A request whose line cannot be written is refused. If the line cannot be cut off again either, it may be there in the
//! next life: then the outcome is [unknown](SendError::Unknown), and nothing more is taken until it could be cut off.
//!
//! Orders and trades stay in memory, some 1 KiB each; from a million together no more orders are taken.
//!
//! # The same again
//!
//! There is no clock and no chance in it: the same ticks and requests in the same order give the same events, with the
//! ticks' times, and the same ledger.

mod book;
mod entry;
mod exchange;
mod grid;
mod holding;
mod ledger;
mod market;
mod outbox;
mod plan;
mod reject;
mod setting;
#[cfg(test)]
mod tests;

use core::fmt;
use std::collections::{BTreeSet, HashSet};
use std::format;
use std::string::{String, ToString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

pub use entry::{Fill, LedgerEntry, PlacedOrder, Terms};
pub use exchange::Inconsistency;
pub use ledger::{read_ledger, LedgerContent, LedgerError};

use super::{
    CancelRequest, ContractData, Event, Exchange as Venue, Gateway, GatewayContext, HandlerId, LogData,
    LogLevel, OrderRequest, OutcomeUnknown, Refusal, Resolution, SendError, Setting, SubscribeRequest,
    TickData, EVENT_TIMER,
};
use exchange::Exchange;
use ledger::{Ledger, LedgerFile};
use outbox::Outbox;
use plan::Plan;
use setting::PaperSetting;

/// The id of the account.
pub const ACCOUNT_ID: &str = "paper";

/// The longest reference that an order may have, in bytes.
pub const MAX_REFERENCE_BYTES: usize = 255;

/// Orders and trades together from which on no more orders are taken.
pub const MAX_RECORDS: usize = 1_000_000;

/// Events that may wait for room in the event engine before requests and ticks are refused.
const MAX_WAITING_EVENTS: usize = 65_536;

/// A gateway that trades against the ticks that it is fed. [The module's page](self) says how.
///
/// It connects with these values, all of which may be left out:
///
/// | setting | default | |
/// |---|---|---|
/// | `ledger` | `""` | path of the ledger; with none everything is forgotten at the end |
/// | `balance` | 1 000 000 | the account's balance before the first trade, in money |
/// | `margin_rate` | 1 | what of an opening order's value it needs: 0.1 for a tenth |
/// | `fee_rate` | 0 | what of a trade's value it costs |
/// | `fsync` | `false` | each line of the ledger is on the disk before it counts; a request takes as long as that |
///
/// A ledger that exists goes on under its own balance and rates.
pub struct PaperExchange {
    inner: Arc<Inner>,
}

struct Inner {
    context: GatewayContext,
    contracts: Vec<ContractData>,
    /// `None` while it is not connected.
    open: Mutex<Option<Open>>,
    /// Filled under the lock of `open`, so that events are in the order of the ledger.
    outbox: Outbox,
}

/// What a connected exchange has.
struct Open {
    exchange: Exchange,
    ledger: Ledger,
    /// The contracts whose ticks are reported, by their places.
    subscribed: HashSet<usize>,
    timer: HandlerId,
}

impl PaperExchange {
    /// An exchange for these contracts. It trades once it is connected.
    ///
    /// The contracts' steps are `pricetick` and `min_volume`; history and stop orders are not offered, whatever they say.
    pub fn new(context: GatewayContext, contracts: Vec<ContractData>) -> Self {
        let (open, outbox) = (Mutex::default(), Outbox::default());
        PaperExchange { inner: Arc::new(Inner { context, contracts, open, outbox }) }
    }

    /// Takes the newest state of a market: its levels meet the orders that rest, and it is reported if somebody has
    /// subscribed to it. `gateway_name` is set.
    ///
    /// # Errors
    /// The exchange is not connected, does not trade the contract, cannot write its ledger, or the event engine has had no
    /// room for long. Nothing has traded then, unless the ledger could not be cut back to before it: then what would have
    /// traded may count in its next life. A later tick may be handed in.
    pub fn handle_tick(&self, tick: TickData) -> Result<(), Refusal> {
        self.inner.with_open(|open, events| {
            let plan = open.exchange.plan_tick(&tick)?;
            let market = open.exchange.market_of(&tick.symbol, tick.exchange)?;
            open.write(&plan).map_err(|error| match error {
                SendError::Refused(why) => why,
                SendError::Unknown(unknown) => Refusal::NotSent(format!("{unknown}")),
            })?;
            open.exchange.note(&tick);
            if open.subscribed.contains(&market) {
                let gateway_name = self.inner.context.gateway_name().into();
                events.push(TickData { gateway_name, ..tick }.into());
            }
            open.exchange.carry_out(plan, events);
            Ok(())
        })
    }

    /// Reports that the event engine had no room for yet. They are put in their order, as soon as there is.
    pub fn waiting_reports(&self) -> usize {
        self.inner.outbox.len()
    }

    /// Reports that reached nobody, because the event engine was stopped before this exchange was closed. What they say
    /// has happened all the same: it is in the ledger.
    pub fn dropped_reports(&self) -> u64 {
        self.inner.outbox.dropped()
    }

    fn report_all(&self) -> Result<(), Refusal> {
        self.inner.with_open(|open, events| {
            let exchange = &open.exchange;
            events.extend(exchange.contracts().map(Event::from));
            events.push(exchange.account().into());
            events.extend(exchange.positions().map(Event::from));
            events.extend(exchange.orders().map(Event::from));
            events.extend(exchange.trades().map(Event::from));
            Ok(())
        })
    }
}

impl Gateway for PaperExchange {
    fn name(&self) -> &str {
        self.inner.context.gateway_name()
    }

    /// Reads the ledger, and reports contracts, account, positions, orders and trades. On one that is connected it
    /// reports them anew, and the setting means nothing.
    fn connect(&self, setting: &Setting) -> Result<(), Refusal> {
        let setting = PaperSetting::read(setting)?;
        self.inner.open(&setting).map_err(Refusal::BadSetting)?;
        self.report_all()
    }

    /// Reports what there is still to report, and ends. What the event engine has no room for in time waits for the next
    /// connect; [`PaperExchange::waiting_reports`] says how much.
    fn close(&self) {
        let open = self.inner.lock().take();
        if let Some(open) = open {
            let engine = self.inner.context.event_engine();
            engine.unregister(open.timer);
            let left = self.inner.outbox.flush_last(engine);
            if left > 0 {
                log::warn!(
                    "events-wait: {left} reports of an exchange that is closed, until it is connected again"
                );
            }
        }
    }

    fn subscribe(&self, request: &SubscribeRequest) -> Result<(), Refusal> {
        self.inner.with_open(|open, _| {
            open.subscribed.insert(open.exchange.market_of(&request.symbol, request.exchange)?);
            Ok(())
        })
    }

    fn send_order(&self, request: &OrderRequest) -> Result<String, SendError> {
        let orderid = self.inner.with_open::<u64, SendError>(|open, events| {
            let plan = open.exchange.plan_order(request)?;
            let placed = plan.entry.placed.as_ref().map(|placed| placed.order);
            open.write(&plan)?;
            open.exchange.carry_out(plan, events);
            Ok(placed.expect("an order that was planned is placed"))
        })?;
        Ok(super::id::vt_id(self.name(), &format!("{orderid}")))
    }

    fn cancel_order(&self, request: &CancelRequest) -> Result<(), SendError> {
        self.inner.with_open(|open, events| {
            let plan = open.exchange.plan_cancel(request)?;
            open.write(&plan)?;
            open.exchange.carry_out(plan, events);
            Ok(())
        })
    }

    fn query_account(&self) -> Result<(), Refusal> {
        self.inner.with_open(|open, events| {
            events.push(open.exchange.account().into());
            Ok(())
        })
    }

    fn query_position(&self) -> Result<(), Refusal> {
        self.inner.with_open(|open, events| {
            events.extend(open.exchange.positions().map(Event::from));
            Ok(())
        })
    }

    fn default_setting(&self) -> Setting {
        PaperSetting::default().to_setting()
    }

    fn exchanges(&self) -> Vec<Venue> {
        let all: BTreeSet<Venue> = self.inner.contracts.iter().map(|contract| contract.exchange).collect();
        all.into_iter().collect()
    }
}

impl Inner {
    /// Does something with the connected exchange, and then reports what came of it.
    fn with_open<T, E: From<Refusal>>(
        &self,
        act: impl FnOnce(&mut Open, &mut Vec<Event>) -> Result<T, E>,
    ) -> Result<T, E> {
        let done = {
            let mut open = self.lock();
            let open = open.as_mut().ok_or(Refusal::NotConnected)?;
            if self.outbox.len() >= MAX_WAITING_EVENTS {
                let why = format!("{MAX_WAITING_EVENTS} events wait for room in the event engine");
                return Err(Refusal::NotSent(why).into());
            }
            let mut events = Vec::new();
            let done = act(open, &mut events);
            self.outbox.push(events);
            done
        };
        self.outbox.flush(self.context.event_engine());
        done
    }

    /// Reads the ledger and connects, unless it is connected.
    fn open(self: &Arc<Self>, setting: &PaperSetting) -> Result<(), String> {
        let mut open = self.lock();
        if open.is_some() {
            return Ok(());
        }
        let (exchange, ledger) = self.read(setting)?;
        let inner = Arc::downgrade(self);
        // What found no room is put again, also if nobody asks for anything.
        let timer = self.context.event_engine().register(EVENT_TIMER, move |_| {
            if let Some(inner) = inner.upgrade() {
                inner.outbox.flush(inner.context.event_engine());
            }
        });
        *open = Some(Open { exchange, ledger, subscribed: HashSet::new(), timer });
        Ok(())
    }

    fn read(&self, setting: &PaperSetting) -> Result<(Exchange, Ledger), String> {
        let exchange = Exchange::new(self.context.gateway_name(), &self.contracts, setting.terms);
        let mut exchange = exchange.map_err(|error| error.to_string())?;
        let Some(path) = &setting.ledger else { return Ok((exchange, Ledger::Memory)) };
        let opened = LedgerFile::open(path, setting.syncs, &mut exchange);
        let (ledger, torn_bytes) = opened.map_err(|error| error.to_string())?;
        if torn_bytes > 0 {
            let msg =
                format!("the ledger's last line was not written to its end: {torn_bytes} bytes dropped");
            let name = self.context.gateway_name();
            self.outbox.push([LogData { level: LogLevel::Warning, ..LogData::new(name, msg) }.into()].into());
        }
        Ok((exchange, Ledger::File(ledger)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Writes down what is to happen. Only then may it happen.
    fn write(&mut self, plan: &Plan) -> Result<(), SendError> {
        if plan.entry.is_empty() {
            return Ok(());
        }
        self.ledger.append(&plan.entry).map_err(|failed| {
            let why = format!("the ledger cannot be written: {}", failed.error);
            match failed.may_be_there {
                false => Refusal::NotSent(why).into(),
                true => OutcomeUnknown { why, resolution: Resolution::AskVenue }.into(),
            }
        })
    }
}

impl fmt::Debug for PaperExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaperExchange").field("name", &self.name()).finish_non_exhaustive()
    }
}

//! One contract at the exchange: its book, what is held of it, what its orders bind, and what orders of it have to be like.

use std::string::String;

use super::book::{levels_of, Book, Execution, Levels, Side};
use super::entry::Terms;
use super::grid::Grid;
use super::holding::{value, Effect, Holding, Leg};
use super::reject::Reject;
use crate::trader::{
    ContractData, Direction, Offset, OrderData, OrderRequest, OrderType, PositionData, Status, TickData,
    Timestamp,
};

/// An order as the exchange keeps it: in steps of price and of volume.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order {
    pub(super) id: u64,
    /// Place of its contract.
    pub(super) market: usize,
    pub(super) side: Side,
    pub(super) order_type: OrderType,
    pub(super) offset: Offset,
    pub(super) effect: Effect,
    /// The limit; 0 for an order at the market.
    pub(super) price: i64,
    pub(super) volume: i64,
    pub(super) traded: i64,
    pub(super) status: Status,
    pub(super) reference: String,
    pub(super) at: Option<Timestamp>,
}

impl Order {
    pub(super) fn remaining(&self) -> i64 {
        self.volume - self.traded
    }
}

/// A request that this contract can take, in its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) side: Side,
    pub(super) effect: Effect,
    /// `None` for an order at the market.
    pub(super) limit: Option<i64>,
    pub(super) volume: i64,
    /// What does not trade at once stays in the book.
    pub(super) rests: bool,
}

/// What the orders that rest here bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Bound {
    /// Value of what they open.
    opening: i128,
    /// Value of all of them.
    all: i128,
    /// Volume of the long and of the short leg that they close.
    long: i64,
    short: i64,
    /// Volume of all of them, of both sides.
    volume: i64,
}

/// One contract. Public fields are read by [`Exchange`](super::exchange::Exchange) alone.
#[derive(Debug, Clone)]
pub(super) struct Market {
    pub(super) contract: ContractData,
    pub(super) prices: Grid,
    pub(super) lots: Grid,
    pub(super) book: Book,
    pub(super) holding: Holding,
    /// The market's time: that of its newest tick.
    pub(super) now: Option<Timestamp>,
    /// Money for one step of price and of volume.
    unit: f64,
    bound: Bound,
    /// What was last reported of the long and of the short leg: what is held, and what of it is bound.
    reported: [(Leg, i64); 2],
    last_price: f64,
    limit_up: f64,
    limit_down: f64,
}

/// A contract of which nothing can be traded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadContract {
    #[error("the contract {0} has a size, a price step or a smallest volume that is not above 0")]
    Step(String),
    #[error("the contract {0} is there twice")]
    Twice(String),
}

impl Market {
    pub(super) fn new(contract: ContractData) -> Result<Self, BadContract> {
        let (prices, lots) = (Grid::new(contract.pricetick), Grid::new(contract.min_volume));
        let (Some(prices), Some(lots), Some(_)) = (prices, lots, Grid::new(contract.size)) else {
            return Err(BadContract::Step(contract.vt_symbol()));
        };
        Ok(Market {
            prices,
            lots,
            unit: prices.step() * lots.step() * contract.size,
            contract: ContractData { stop_supported: false, history_data: false, ..contract },
            book: Book::default(),
            holding: Holding::default(),
            now: None,
            bound: Bound::default(),
            reported: Default::default(),
            last_price: 0.0,
            limit_up: 0.0,
            limit_down: 0.0,
        })
    }

    /// Reads a request in the steps of this contract.
    pub(super) fn read(&self, request: &OrderRequest) -> Result<Asked, Reject> {
        let side = Side::of(request.direction).ok_or(Reject::NoSide)?;
        let effect = self.effect(request.offset)?;
        let limit = match request.order_type {
            OrderType::Limit | OrderType::Fak | OrderType::Fok => Some(self.read_price(request.price)?),
            OrderType::Market => None,
            other => return Err(Reject::OrderType(other)),
        };
        let volume = self.read_volume(request.volume)?;
        let free = self.free(side);
        if effect == Effect::Close && volume > free {
            let volume = request.volume;
            return Err(Reject::NotHeld { volume, free: self.lots.value(free) });
        }
        Ok(Asked { side, effect, limit, volume, rests: request.order_type == OrderType::Limit })
    }

    /// What an order of this offset does to the position.
    pub(super) fn effect(&self, offset: Offset) -> Result<Effect, Reject> {
        match (self.contract.net_position, offset) {
            (true, Offset::None) => Ok(Effect::Net),
            (true, other) => Err(Reject::NetPosition(other)),
            (false, Offset::None) => Err(Reject::OffsetMissing),
            (false, Offset::Open) => Ok(Effect::Open),
            (false, Offset::Close | Offset::CloseToday) => Ok(Effect::Close),
            (false, Offset::CloseYesterday) => Err(Reject::NothingOfYesterday),
        }
    }

    fn read_price(&self, price: f64) -> Result<i64, Reject> {
        if self.limit_up > 0.0 && price > self.limit_up {
            return Err(Reject::AboveLimit { price, limit: self.limit_up });
        }
        if self.limit_down > 0.0 && price < self.limit_down {
            return Err(Reject::BelowLimit { price, limit: self.limit_down });
        }
        self.prices.exact(price).ok_or(Reject::PriceStep { price, step: self.prices.step() })
    }

    fn read_volume(&self, volume: f64) -> Result<i64, Reject> {
        if let Some(limit) = self.contract.max_volume.filter(|limit| volume > *limit) {
            return Err(Reject::VolumeLimit { volume, limit });
        }
        let lots = self.lots.exact(volume).filter(|lots| *lots > 0);
        let lots = lots.ok_or(Reject::VolumeStep { volume, step: self.lots.step() })?;
        // Trading adds nothing to what is held and rests together, so sums of volumes stay exact for ever.
        let there = self.holding.long.volume + self.holding.short.volume + self.bound.volume;
        match there + lots <= Grid::MOST_STEPS {
            true => Ok(lots),
            false => Err(Reject::TooMuch { volume }),
        }
    }

    /// Volume that an order of this side could close, beside those that rest.
    fn free(&self, side: Side) -> i64 {
        self.holding.closed_by(side).volume
            - match side {
                Side::Buy => self.bound.short,
                Side::Sell => self.bound.long,
            }
    }

    /// The money that an order would bind, were it to trade and to rest as this execution says.
    pub(super) fn needed(
        &self,
        asked: &Asked,
        execution: &Execution,
        terms: &Terms,
        orders: &[Order],
    ) -> f64 {
        let rests = asked.limit.filter(|_| asked.rests).map(|limit| (limit, execution.left));
        let parts = execution.matches.iter().map(|part| (part.price, part.volume)).chain(rests);
        let mut covered = match asked.effect {
            Effect::Open => 0,
            Effect::Close => asked.volume,
            Effect::Net => {
                let queued =
                    self.book.resting(asked.side).map(|id| find(orders, id).remaining()).sum::<i64>();
                (self.holding.closed_by(asked.side).volume - queued).max(0)
            }
        };
        let (mut opening, mut all) = (0, 0);
        for (price, volume) in parts {
            let closing = volume.min(covered);
            covered -= closing;
            opening += value(price, volume - closing).abs();
            all += value(price, volume).abs();
        }
        // What only closes needs no means: its fees come out of what it sets free, or are owed.
        if opening == 0 {
            return 0.0;
        }
        self.bind(opening, all, terms)
    }

    /// The money that positions and resting orders bind.
    pub(super) fn frozen(&self, terms: &Terms) -> f64 {
        let held = self.holding.long.cost.abs() + self.holding.short.cost.abs();
        self.bind(held + self.bound.opening, self.bound.all, terms)
    }

    fn bind(&self, opening: i128, all: i128, terms: &Terms) -> f64 {
        (opening as f64 * terms.margin_rate + all as f64 * terms.fee_rate) * self.unit
    }

    /// The money that closing has earned, less fees.
    pub(super) fn earned(&self, terms: &Terms) -> f64 {
        (self.holding.realised as f64 - self.holding.turnover as f64 * terms.fee_rate) * self.unit
    }

    /// Counts anew what the orders that rest here bind. In a net position the best of them close what there is to close.
    pub(super) fn count_bound(&mut self, orders: &[Order]) {
        let mut bound = Bound::default();
        for side in [Side::Buy, Side::Sell] {
            let mut covered = self.holding.closed_by(side).volume;
            for order in self.book.resting(side).map(|id| find(orders, id)) {
                let closing = match order.effect {
                    Effect::Open => 0,
                    Effect::Close => {
                        let leg = if side == Side::Buy { &mut bound.short } else { &mut bound.long };
                        *leg += order.remaining();
                        order.remaining()
                    }
                    Effect::Net => order.remaining().min(covered),
                };
                covered -= closing;
                bound.volume += order.remaining();
                bound.opening += value(order.price, order.remaining() - closing).abs();
                bound.all += value(order.price, order.remaining()).abs();
            }
        }
        self.bound = bound;
    }

    /// The levels of a tick: bids and asks.
    pub(super) fn levels_of(&self, tick: &TickData) -> (Levels, Levels) {
        let levels = |side| levels_of(tick, side, &self.prices, &self.lots);
        (levels(Side::Buy), levels(Side::Sell))
    }

    /// Takes what a tick says beside its levels.
    pub(super) fn note(&mut self, tick: &TickData) {
        self.now = Some(tick.datetime);
        self.limit_up = tick.limit_up;
        self.limit_down = tick.limit_down;
        if tick.last_price > 0.0 {
            self.last_price = tick.last_price;
        }
    }

    /// The record of an order of this contract.
    pub(super) fn order_data(&self, order: &Order, gateway_name: &str) -> OrderData {
        let contract = &self.contract;
        OrderData {
            order_type: order.order_type,
            direction: Some(direction_of(order.side)),
            offset: order.offset,
            price: self.prices.value(order.price),
            volume: self.lots.value(order.volume),
            traded: self.lots.value(order.traded),
            status: order.status,
            datetime: order.at,
            reference: order.reference.clone(),
            ..OrderData::new(gateway_name, &*contract.symbol, contract.exchange, std::format!("{}", order.id))
        }
    }

    /// The records of those legs that have changed since this was last asked.
    pub(super) fn changed_positions(
        &mut self,
        gateway_name: &str,
    ) -> impl Iterator<Item = PositionData> + '_ {
        let now = [(self.holding.long, self.bound.long), (self.holding.short, self.bound.short)];
        let before = core::mem::replace(&mut self.reported, now);
        let mut changed = [now[0] != before[0], now[1] != before[1]];
        if self.contract.net_position {
            changed[0] |= changed[1];
        }
        self.positions(gateway_name)
            .zip(changed)
            .filter(|(_, is_changed)| *is_changed)
            .map(|(position, _)| position)
    }

    /// The records of what is held: one if it is net, else one for each leg.
    pub(super) fn positions(&self, gateway_name: &str) -> impl Iterator<Item = PositionData> + '_ {
        let Holding { long, short, .. } = self.holding;
        let net = Leg { volume: self.holding.net_volume(), cost: long.cost - short.cost };
        let legs = match self.contract.net_position {
            true => [Some((Direction::Net, net, 0, 1.0)), None],
            false => [
                Some((Direction::Long, long, self.bound.long, 1.0)),
                Some((Direction::Short, short, self.bound.short, -1.0)),
            ],
        };
        let gateway_name = String::from(gateway_name);
        legs.into_iter().flatten().map(move |(direction, leg, frozen, sign)| {
            let (contract, volume) = (&self.contract, self.lots.value(leg.volume));
            let price = match leg.volume {
                0 => 0.0,
                lots => leg.cost as f64 / lots as f64 * self.prices.step(),
            };
            let is_valued = leg.volume != 0 && self.last_price > 0.0;
            let pnl = if is_valued { sign * (self.last_price - price) * volume * contract.size } else { 0.0 };
            let position = PositionData::new(&*gateway_name, &*contract.symbol, contract.exchange, direction);
            PositionData { volume, frozen: self.lots.value(frozen), price, pnl, ..position }
        })
    }
}

pub(super) fn direction_of(side: Side) -> Direction {
    match side {
        Side::Buy => Direction::Long,
        Side::Sell => Direction::Short,
    }
}

/// The order of an id that was given out; orders count from 1.
pub(super) fn find(orders: &[Order], id: u64) -> &Order {
    place(id).and_then(|at| orders.get(at)).expect("the book holds orders that were placed")
}

/// Where the order of this id stands.
pub(super) fn place(id: u64) -> Option<usize> {
    usize::try_from(id).ok()?.checked_sub(1)
}

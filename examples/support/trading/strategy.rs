//! A small strategy: it makes no money, but it uses all that an exchange offers.

use std::sync::Arc;

use pulsewire::trader::{
    CancelRequest, ContractData, Direction, OrderData, OrderRequest, OrderType, TickData,
};

use crate::generator::Random;

/// How somebody trades.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Offers prices inside the spread, and takes them back.
    Maker,
    /// Takes what is offered.
    Taker,
    /// Both, and not always carefully.
    Hasty,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// The reference is for the sender to set.
    Send(OrderRequest),
    Cancel(CancelRequest),
}

/// Decides, by a seed.
#[derive(Debug, Clone)]
pub struct Strategy {
    style: Style,
    random: Random,
}

/// Orders in one contract that may rest before the oldest is cancelled.
const MAX_RESTING: usize = 3;

/// The most that one order is worth.
const MAX_VALUE: f64 = 100_000.0;

impl Strategy {
    pub fn new(style: Style, seed: u64) -> Self {
        Strategy { style, random: Random(seed) }
    }

    /// A place among so many.
    pub fn choose(&mut self, places: usize) -> usize {
        self.random.index(places)
    }

    /// What to do in a market, given what rests there of one's own, the oldest first.
    pub fn decide(&mut self, contract: &ContractData, tick: &TickData, resting: &[Arc<OrderData>]) -> Action {
        if let Some(oldest) = resting.first().filter(|_| resting.len() >= MAX_RESTING) {
            return Action::Cancel(oldest.cancel_request());
        }
        let makes = match self.style {
            Style::Maker => true,
            Style::Taker => false,
            Style::Hasty => self.random.below(2) == 0,
        };
        let direction = if self.random.below(2) == 0 { Direction::Long } else { Direction::Short };
        let mut order = match makes {
            true => self.offer(contract, tick, direction),
            false => self.take(contract, tick, direction),
        };
        if self.style == Style::Hasty && self.random.below(20) == 0 {
            order.price += contract.pricetick / 2.0; // No exchange takes that.
        }
        Action::Send(order)
    }

    /// A step better than the best of its side, if that is not the other side's.
    fn offer(&mut self, contract: &ContractData, tick: &TickData, direction: Direction) -> OrderRequest {
        let (best, step) = match direction {
            Direction::Long => (tick.bid_price[0], contract.pricetick),
            _ => (tick.ask_price[0], -contract.pricetick),
        };
        let has_room = tick.ask_price[0] - tick.bid_price[0] > 1.5 * contract.pricetick;
        let price = if has_room { best + step } else { best };
        self.order(contract, direction, OrderType::Limit, price, tick.bid_volume[0])
    }

    /// The best of the other side, or somewhat behind it.
    fn take(&mut self, contract: &ContractData, tick: &TickData, direction: Direction) -> OrderRequest {
        let depth = self.random.index(3);
        let (price, volume) = match direction {
            Direction::Long => (tick.ask_price[depth], tick.ask_volume[0]),
            _ => (tick.bid_price[depth], tick.bid_volume[0]),
        };
        let types = [OrderType::Limit, OrderType::Market, OrderType::Fak, OrderType::Fok];
        let order_type = types[self.random.index(types.len())];
        self.order(contract, direction, order_type, price, volume)
    }

    /// An order of up to twice a volume.
    fn order(
        &mut self,
        contract: &ContractData,
        direction: Direction,
        order_type: OrderType,
        price: f64,
        volume: f64,
    ) -> OrderRequest {
        let share = self.random.below(200) as f64 / 100.0;
        let affordable = MAX_VALUE / price.abs().max(contract.pricetick);
        let lots = (volume * share).min(affordable) / contract.min_volume;
        let volume = lots.floor().max(1.0) * contract.min_volume;
        let order = OrderRequest::new(&*contract.symbol, contract.exchange, direction, order_type, volume);
        OrderRequest { price, ..order }
    }
}

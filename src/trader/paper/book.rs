//! The book of one contract: the market's levels as the last tick had them, and the orders that rest here.

use std::collections::BTreeSet;
use std::vec::Vec;

use super::grid::Grid;
use crate::trader::{Direction, TickData};

/// The side of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Buy,
    Sell,
}

impl Side {
    /// `None` for [`Direction::Net`], which is no side.
    pub(super) fn of(direction: Direction) -> Option<Self> {
        match direction {
            Direction::Long => Some(Side::Buy),
            Direction::Short => Some(Side::Sell),
            Direction::Net => None,
        }
    }

    pub(super) fn opposite(self) -> Self {
        match self {
            Side::Buy => Side::Sell,
            Side::Sell => Side::Buy,
        }
    }

    /// Orders prices of this side of the book: the best one has the lowest rank.
    fn rank(self, price: i64) -> i64 {
        match self {
            Side::Buy => -price,
            Side::Sell => price,
        }
    }
}

/// What the market offers at one price, in steps of price and of volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) price: i64,
    pub(super) volume: i64,
}

/// One side of the market's levels, the best first.
pub(super) type Levels = Vec<Level>;

/// A part of an order has met something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    /// The resting order that it met; `None` if it was the market.
    pub(super) maker: Option<u64>,
    pub(super) price: i64,
    pub(super) volume: i64,
}

/// What an order that comes in would meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Execution {
    pub(super) matches: Vec<Match>,
    /// What would be left of the order.
    pub(super) left: i64,
    /// What would be left of the market's levels on the other side.
    pub(super) levels: Levels,
}

/// The book of one contract. Invariant: no order rests at a price at which it would trade.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Book {
    bids: Levels,
    asks: Levels,
    /// Rank of the price, then id: the best first, at one price the one that came first.
    buys: BTreeSet<(i64, u64)>,
    sells: BTreeSet<(i64, u64)>,
}

impl Book {
    /// What the market offers on this side.
    pub(super) fn levels(&self, side: Side) -> &Levels {
        match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        }
    }

    pub(super) fn replace_levels(&mut self, side: Side, levels: Levels) {
        match side {
            Side::Buy => self.bids = levels,
            Side::Sell => self.asks = levels,
        }
    }

    /// The orders that rest on this side, the best first.
    pub(super) fn resting(&self, side: Side) -> impl Iterator<Item = u64> + '_ {
        self.queue(side).iter().map(|&(_, order)| order)
    }

    pub(super) fn rest(&mut self, side: Side, price: i64, order: u64) {
        self.queue_mut(side).insert((side.rank(price), order));
    }

    pub(super) fn remove(&mut self, side: Side, price: i64, order: u64) {
        self.queue_mut(side).remove(&(side.rank(price), order));
    }

    /// What an order would meet, up to its limit if it has one: the best price first; at one price the market's volume
    /// first, as if it had been there before, then what rests here, in the order in which it came.
    pub(super) fn meet(
        &self,
        side: Side,
        limit: Option<i64>,
        volume: i64,
        remaining: impl Fn(u64) -> i64,
    ) -> Execution {
        let other = side.opposite();
        let worst = limit.map_or(i64::MAX, |limit| other.rank(limit));
        let mut levels = self.levels(other).clone();
        let mut resting = self.queue(other).iter().peekable();
        let mut matches = Vec::new();
        let mut left = volume;
        let mut at = 0;
        while left > 0 {
            let level = levels.get_mut(at).filter(|level| other.rank(level.price) <= worst);
            let order = resting.peek().filter(|(rank, _)| *rank <= worst);
            let (maker, price, offered) = match (level, order) {
                (Some(level), order) if order.is_none_or(|(rank, _)| other.rank(level.price) <= *rank) => {
                    let (price, offered) = (level.price, level.volume);
                    level.volume -= offered.min(left);
                    at += 1;
                    (None, price, offered)
                }
                (_, Some(&&(rank, order))) => {
                    resting.next();
                    (Some(order), other.rank(rank), remaining(order)) // The rank of a rank is the price.
                }
                _ => break,
            };
            let volume = offered.min(left);
            matches.push(Match { maker, price, volume });
            left -= volume;
        }
        levels.retain(|level| level.volume > 0);
        Execution { matches, left, levels }
    }

    /// What the orders that rest on one side would trade, were these the market's levels on the other: each at its own
    /// price, for it was there before. Takes from the levels what trades.
    pub(super) fn meet_resting(
        &self,
        side: Side,
        levels: &mut Levels,
        remaining: impl Fn(u64) -> i64,
    ) -> Vec<Match> {
        let other = side.opposite();
        let mut matches = Vec::new();
        for &(rank, order) in self.queue(side) {
            let price = side.rank(rank);
            let mut left = remaining(order);
            let crossing = levels.iter_mut().take_while(|level| other.rank(level.price) <= other.rank(price));
            for level in crossing {
                let volume = level.volume.min(left);
                if volume > 0 {
                    matches.push(Match { maker: Some(order), price, volume });
                    level.volume -= volume;
                    left -= volume;
                }
            }
            if left > 0 {
                break; // Whoever is behind is at a price that is not better, and would find nothing either.
            }
        }
        levels.retain(|level| level.volume > 0);
        matches
    }

    fn queue(&self, side: Side) -> &BTreeSet<(i64, u64)> {
        match side {
            Side::Buy => &self.buys,
            Side::Sell => &self.sells,
        }
    }

    fn queue_mut(&mut self, side: Side) -> &mut BTreeSet<(i64, u64)> {
        match side {
            Side::Buy => &mut self.buys,
            Side::Sell => &mut self.sells,
        }
    }
}

/// The levels of one side that a tick has, as whole steps: between two of them the price that is worse to trade at, and
/// never more volume than there is.
pub(super) fn levels_of(tick: &TickData, side: Side, prices: &Grid, lots: &Grid) -> Levels {
    let (price, volume) = match side {
        Side::Buy => (&tick.bid_price, &tick.bid_volume),
        Side::Sell => (&tick.ask_price, &tick.ask_volume),
    };
    let on_grid = |price: f64| match side {
        Side::Buy => prices.floor(price),
        Side::Sell => prices.ceil(price),
    };
    let levels = price.iter().zip(volume).filter(|(_, volume)| **volume > 0.0);
    let levels = levels.filter_map(|(&price, &volume)| {
        Some(Level { price: on_grid(price)?, volume: lots.floor(volume)? }).filter(|level| level.volume > 0)
    });
    let mut levels: Levels = levels.collect();
    levels.sort_by_key(|level| side.rank(level.price));
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trader::{Exchange, Timestamp};

    fn level(price: i64, volume: i64) -> Level {
        Level { price, volume }
    }

    fn matched(maker: impl Into<Option<u64>>, price: i64, volume: i64) -> Match {
        Match { maker: maker.into(), price, volume }
    }

    /// A market of 5 at 98 and 5 at 102, 103; orders of 2 each: 1 and 2 sell at 101, 3 at 102; 4 buys at 99.
    fn book() -> Book {
        let mut book = Book::default();
        book.replace_levels(Side::Buy, [level(98, 5)].into());
        book.replace_levels(Side::Sell, [level(102, 5), level(103, 5)].into());
        for (side, price, order) in
            [(Side::Sell, 102, 3), (Side::Sell, 101, 2), (Side::Sell, 101, 1), (Side::Buy, 99, 4)]
        {
            book.rest(side, price, order);
        }
        book
    }

    #[test]
    fn order_meets_the_best_price_first_then_the_market_then_who_came_first() {
        let all = book().meet(Side::Buy, None, 100, |_| 2);
        let expected = [
            matched(1, 101, 2),
            matched(2, 101, 2),
            matched(None, 102, 5),
            matched(3, 102, 2),
            matched(None, 103, 5),
        ];
        assert_eq!(all.matches, expected);
        assert_eq!((all.left, &*all.levels), (84, &[][..]));
        let sold = book().meet(Side::Sell, None, 3, |_| 2);
        assert_eq!(sold.matches, [matched(4, 99, 2), matched(None, 98, 1)]);
        assert_eq!((sold.left, &*sold.levels), (0, &[level(98, 4)][..]));
    }

    #[test]
    fn order_meets_nothing_beyond_its_limit() {
        let some = book().meet(Side::Buy, Some(102), 10, |_| 2);
        assert_eq!(some.left, 10 - 2 - 2 - 5 - 2 + 1);
        assert_eq!(some.levels, [level(103, 5)]);
        let none = book().meet(Side::Sell, Some(100), 1, |_| 2);
        assert_eq!((none.left, none.matches.len()), (1, 0));
        assert_eq!(book().meet(Side::Sell, Some(99), 1, |_| 2).matches, [matched(4, 99, 1)]);
    }

    #[test]
    fn resting_orders_trade_at_their_own_price_when_the_market_comes_to_them() {
        let book = book();
        let mut bids = [level(103, 1), level(101, 4), level(100, 9)].into();
        let matches = book.meet_resting(Side::Sell, &mut bids, |_| 2);
        let expected = [matched(1, 101, 1), matched(1, 101, 1), matched(2, 101, 2)];
        assert_eq!(matches, expected, "order 3 is beyond the market");
        assert_eq!(bids, [level(101, 1), level(100, 9)]);
        let mut asks = [level(100, 9)].into();
        assert_eq!(book.meet_resting(Side::Buy, &mut asks, |_| 2), []);
        assert_eq!(asks, [level(100, 9)]);
    }

    #[test]
    fn levels_are_rounded_to_what_is_worse() {
        let mut tick = TickData::new("", "X", Exchange::Local, Timestamp::UNIX_EPOCH);
        tick.bid_price = [10.26, 10.3, 0.0, f64::NAN, 9.0];
        tick.bid_volume = [1.5, 0.7, 0.0, 1.0, 0.2];
        tick.ask_price = [10.41, 10.5, 0.0, 0.0, 0.0];
        tick.ask_volume = [3.0, 1.0, 0.0, 0.0, 0.0];
        let (prices, lots) = (Grid::new(0.1).unwrap(), Grid::new(0.5).unwrap());
        let bids = levels_of(&tick, Side::Buy, &prices, &lots);
        assert_eq!(bids, [level(103, 1), level(102, 3)], "sorted, and nothing of less than a lot");
        assert_eq!(levels_of(&tick, Side::Sell, &prices, &lots), [level(105, 6), level(105, 2)]);
    }
}

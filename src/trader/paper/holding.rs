//! What is held of one contract, and what it has earned.

use super::book::Side;

/// One side of a position. Values are steps of price times steps of volume: whole numbers, so that nothing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Leg {
    pub(super) volume: i64,
    /// What it was opened for.
    pub(super) cost: i128,
}

impl Leg {
    fn open(&mut self, price: i64, volume: i64) {
        self.volume += volume;
        self.cost += value(price, volume);
    }

    /// Gives what the part that is closed was opened for, at the average price. What a division leaves stays with the
    /// rest.
    fn close(&mut self, volume: i64) -> i128 {
        let released = self.cost * i128::from(volume) / i128::from(self.volume.max(1));
        self.volume -= volume;
        self.cost -= released;
        released
    }
}

/// The position in one contract. One that is net has at most one of its legs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Holding {
    pub(super) long: Leg,
    pub(super) short: Leg,
    /// What closing has earned.
    pub(super) realised: i128,
    /// What has been bought and sold, together.
    pub(super) turnover: i128,
}

/// What an order does to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Open,
    Close,
    /// Closes what there is on the other side, then opens.
    Net,
}

impl Holding {
    /// The leg that an order of this side closes.
    pub(super) fn closed_by(&self, side: Side) -> &Leg {
        match side {
            Side::Buy => &self.short,
            Side::Sell => &self.long,
        }
    }

    /// What is held: bought less sold.
    pub(super) fn net_volume(&self) -> i64 {
        self.long.volume - self.short.volume
    }

    /// Enters a trade. The volume that closes is at most what is held.
    pub(super) fn trade(&mut self, side: Side, effect: Effect, price: i64, volume: i64) {
        let closing = match effect {
            Effect::Open => 0,
            Effect::Close => volume,
            Effect::Net => volume.min(self.closed_by(side).volume),
        };
        let paid = value(price, closing);
        match side {
            Side::Buy => {
                self.realised += self.short.close(closing) - paid;
                self.long.open(price, volume - closing);
            }
            Side::Sell => {
                self.realised += paid - self.long.close(closing);
                self.short.open(price, volume - closing);
            }
        }
        self.turnover += value(price, volume).abs();
    }
}

pub(super) fn value(price: i64, volume: i64) -> i128 {
    i128::from(price) * i128::from(volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(volume: i64, cost: i128) -> Leg {
        Leg { volume, cost }
    }

    #[test]
    fn net_position_closes_before_it_opens() {
        let mut holding = Holding::default();
        holding.trade(Side::Buy, Effect::Net, 100, 10);
        holding.trade(Side::Buy, Effect::Net, 110, 10);
        assert_eq!((holding.long, holding.realised), (leg(20, 2_100), 0));
        holding.trade(Side::Sell, Effect::Net, 120, 5);
        assert_eq!((holding.long, holding.realised), (leg(15, 1_575), 5 * 120 - 525));
        holding.trade(Side::Sell, Effect::Net, 100, 20);
        assert_eq!((holding.long, holding.short), (leg(0, 0), leg(5, 500)));
        assert_eq!((holding.net_volume(), holding.realised), (-5, 75 + 1_500 - 1_575));
        assert_eq!(holding.turnover, 1_000 + 1_100 + 600 + 2_000);
    }

    #[test]
    fn long_and_short_are_held_side_by_side_where_the_order_says_so() {
        let mut holding = Holding::default();
        holding.trade(Side::Buy, Effect::Open, 100, 10);
        holding.trade(Side::Sell, Effect::Open, 105, 4);
        assert_eq!((holding.long, holding.short), (leg(10, 1_000), leg(4, 420)));
        holding.trade(Side::Buy, Effect::Close, 101, 4);
        assert_eq!((holding.long, holding.short, holding.realised), (leg(10, 1_000), leg(0, 0), 420 - 404));
    }

    #[test]
    fn what_a_division_leaves_is_not_lost() {
        let mut holding = Holding::default();
        holding.trade(Side::Buy, Effect::Net, 10, 1);
        holding.trade(Side::Buy, Effect::Net, 11, 2);
        for _ in 0..3 {
            holding.trade(Side::Sell, Effect::Net, 0, 1);
        }
        assert_eq!((holding.long, holding.realised), (leg(0, 0), -32));
    }
}

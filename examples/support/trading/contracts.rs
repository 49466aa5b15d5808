//! The instruments of a market as contracts, and its ticks as records.

use pulsewire::trader::{ContractData, Exchange, Product, TickData, Timestamp};

use crate::feed::{Feed, Level, DEPTH, TOPIC_ROOT};

/// The venues of a market are no exchanges that records know: they stay in front of the symbol, `NORTH.CU.LOCAL`.
const EXCHANGE: Exchange = Exchange::Local;

/// Prices and volumes have no more digits behind the point.
const MAX_DECIMALS: i32 = 10;

/// A contract for each instrument, the busiest first. Its steps are the smallest that all prices and volumes on the tape
/// are multiples of, as powers of ten.
pub fn contracts(feed: &Feed) -> Vec<ContractData> {
    let mut found = vec![Found::default(); feed.topics().len()];
    for k in 0..feed.len() as u64 {
        let tick = feed.tick(k);
        let found = &mut found[feed.instrument(k)];
        found.ticks += 1;
        for Level { price, volume } in tick.bids.into_iter().chain(tick.asks) {
            found.price_decimals = decimals(price, found.price_decimals);
            found.volume_decimals = decimals(volume, found.volume_decimals);
        }
    }
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(found[at].ticks));
    let contract = |at: usize| {
        let symbol = symbol_in(&feed.topics()[at]);
        let pricetick = step(found[at].price_decimals);
        let contract = ContractData::new("", symbol, EXCHANGE, symbol, Product::Spot, 1.0, pricetick);
        ContractData { min_volume: step(found[at].volume_decimals), net_position: true, ..contract }
    };
    order.into_iter().map(contract).collect()
}

/// Publication `k` as a record.
pub fn tick_data(feed: &Feed, k: u64) -> TickData {
    let tick = feed.tick(k);
    let datetime = Timestamp::from_nanos(i64::try_from(tick.time_ns).unwrap_or(i64::MAX));
    let price = |levels: [Level; DEPTH]| levels.map(|level| level.price);
    let volume = |levels: [Level; DEPTH]| levels.map(|level| level.volume);
    TickData {
        last_price: tick.last_price,
        last_volume: tick.last_volume,
        volume: tick.volume,
        bid_price: price(tick.bids),
        bid_volume: volume(tick.bids),
        ask_price: price(tick.asks),
        ask_volume: volume(tick.asks),
        ..TickData::new("", symbol_in(feed.topic(k)), EXCHANGE, datetime)
    }
}

/// What is on the tape of one instrument.
#[derive(Debug, Clone, Default)]
struct Found {
    ticks: u64,
    price_decimals: i32,
    volume_decimals: i32,
}

fn symbol_in(topic: &str) -> &str {
    topic.strip_prefix(TOPIC_ROOT).unwrap_or(topic)
}

/// Digits behind the point of this number, or so many if it has fewer.
fn decimals(number: f64, at_least: i32) -> i32 {
    let is_whole = |decimals: i32| {
        let steps = number * 10_f64.powi(decimals);
        (steps - steps.round()).abs() < 1e-6
    };
    (at_least..MAX_DECIMALS).find(|&decimals| is_whole(decimals)).unwrap_or(MAX_DECIMALS)
}

/// The nearest number to the decimal.
fn step(decimals: i32) -> f64 {
    1.0 / 10_f64.powi(decimals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::{Row, Tick};

    fn row(instrument: usize, price: f64, volume: f64) -> Row {
        let level = Level { price, volume };
        let tick = Tick { bids: [level; DEPTH], asks: [level; DEPTH], time_ns: 5, ..Tick::default() };
        Row { instrument, at_ns: 0, tick }
    }

    #[test]
    fn steps_are_the_smallest_on_the_tape_and_the_busiest_comes_first() {
        let topics = ["tick.A.X", "tick.A.Y"].map(String::from).to_vec();
        let feed = Feed::new(topics, vec![row(0, 3.0, 2.0), row(1, 10.5, 0.25), row(1, 0.1 + 0.2, 1e-6)]);
        let found: Vec<(String, f64, f64)> = contracts(&feed)
            .into_iter()
            .map(|contract| (contract.vt_symbol(), contract.pricetick, contract.min_volume))
            .collect();
        assert_eq!(found, [("A.Y.LOCAL".into(), 0.1, 1e-6), ("A.X.LOCAL".into(), 1.0, 1.0)]);
        let tick = tick_data(&feed, 1);
        assert_eq!((tick.vt_symbol(), tick.datetime.as_nanos()), ("A.Y.LOCAL".into(), 5));
        assert_eq!((tick.bid_price, tick.ask_volume), ([10.5; DEPTH], [0.25; DEPTH]));
    }
}

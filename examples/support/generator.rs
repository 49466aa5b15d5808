//! A market out of a seed: 60 symbols on four venues, prices that walk at random, and bursts.
//!
//! The same seed makes the same market on every machine: only integers are drawn, and prices are whole multiples of
//! the symbol's price step. Each walk comes back to where it began, so that the tape can be played in a loop.

use std::vec;

use crate::feed::{Feed, Level, Row, Tick, DEPTH, TOPIC_ROOT};

/// Rows on the tape: about three seconds at the natural speed.
const ROWS: usize = 65_536;

const VENUES: [&str; 4] = ["NORTH", "EAST", "SOUTH", "WEST"];

const SYMBOLS: [&str; 15] =
    ["AL", "AU", "BU", "CU", "FU", "NI", "PB", "RB", "RU", "SC", "SN", "SP", "SS", "WR", "ZN"];

/// Mean time between two ticks while the market is calm: about 15 000 a second.
const CALM_GAP_NS: u64 = 64_000;

/// Mean time between two ticks in a burst: 125 000 a second.
const BURST_GAP_NS: u64 = 8_000;

/// Ticks in a burst, and calm ticks between two bursts in the mean.
const BURST_TICKS: u64 = 1_000;
const CALM_TICKS: u64 = 4_000;

/// The time of the first tick: 2024-01-01 00:00 UTC.
const BEGIN_NS: u64 = 1_704_067_200_000_000_000;

/// Makes the tape. About 20 000 ticks a second at the natural speed, bursts included.
pub fn generate(seed: u64) -> Feed {
    let mut random = Random(seed);
    let topics: Vec<String> = VENUES
        .iter()
        .flat_map(|venue| SYMBOLS.iter().map(move |symbol| format!("{TOPIC_ROOT}{venue}.{symbol}")))
        .collect();
    let order = draw_order(&mut random, topics.len());
    let times = draw_times(&mut random);
    let mut books: Vec<Book> = (0..topics.len())
        .map(|at| Book::draw(&mut random, order.iter().filter(|&&instrument| instrument == at).count()))
        .collect();
    let rows = order
        .into_iter()
        .zip(times)
        .map(|(instrument, at_ns)| {
            let tick = books[instrument].next_tick(&mut random, BEGIN_NS + at_ns);
            Row { instrument, at_ns, tick }
        })
        .collect();
    Feed::new(topics, rows)
}

/// Draws whose tick each row is. A few instruments are busy, many are quiet: the one of rank `r` has a share of `1/r`.
fn draw_order(random: &mut Random, instruments: usize) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..instruments).collect();
    for at in (1..instruments).rev() {
        ranked.swap(at, random.index(at + 1));
    }
    let mut total = 0;
    let shares: Vec<u64> = (1..=instruments as u64)
        .map(|rank| {
            total += 1_000_000 / rank;
            total
        })
        .collect();
    (0..ROWS)
        .map(|_| {
            let drawn = random.below(total);
            ranked[shares.partition_point(|&share| share <= drawn)]
        })
        .collect()
}

/// Draws when each row is due.
fn draw_times(random: &mut Random) -> Vec<u64> {
    let mut now = 0;
    let mut burst_left = 0;
    (0..ROWS)
        .map(|_| {
            if burst_left > 0 {
                burst_left -= 1;
            } else if random.below(CALM_TICKS) == 0 {
                burst_left = BURST_TICKS;
            }
            let mean = if burst_left > 0 { BURST_GAP_NS } else { CALM_GAP_NS };
            now += random.below(2 * mean);
            now
        })
        .collect()
}

/// One instrument on its walk.
struct Book {
    /// The smallest difference between two prices.
    price_step: f64,
    /// Where the best bid is in each tick to come, in price steps.
    walk: vec::IntoIter<u32>,
    last_price: f64,
    volume: u64,
}

impl Book {
    /// Draws a price to begin with, a price step, and a walk of `ticks` steps that ends where it began.
    fn draw(random: &mut Random, ticks: usize) -> Self {
        let begin = 2_000 + i64::from(random.small(50_000));
        let price_step = [0.01, 0.05, 0.5, 1.0][random.index(4)];
        let mut place = 0;
        let places: Vec<i64> = (0..ticks)
            .map(|_| {
                place += i64::from(random.small(5)) - 2;
                place
            })
            .collect();
        let walk: Vec<u32> = (1_i64..)
            .zip(&places)
            .map(|(step, place_then)| {
                let drift = place * step / places.len() as i64;
                u32::try_from((begin + place_then - drift).max(100)).expect("a price far below the limit")
            })
            .collect();
        Book { price_step, walk: walk.into_iter(), last_price: 0.0, volume: 0 }
    }

    /// One tick in four reports a trade at the best bid or ask, the others a change of the book.
    fn next_tick(&mut self, random: &mut Random, time_ns: u64) -> Tick {
        let best_bid = self.walk.next().expect("as many places as the tape has rows of this instrument");
        let best_ask = best_bid + 1 + random.small(3);
        let step = self.price_step;
        let mut level =
            |steps: u32| Level { price: f64::from(steps) * step, volume: f64::from(1 + random.small(200)) };
        let mut tick = Tick { time_ns, ..Tick::default() };
        for (depth, (bid, ask)) in (0_u32..).zip(tick.bids.iter_mut().zip(&mut tick.asks)) {
            *bid = level(best_bid - depth);
            *ask = level(best_ask + depth);
        }
        if random.below(4) == 0 {
            let traded = 1 + random.small(20);
            tick.last_volume = f64::from(traded);
            self.volume += u64::from(traded);
            self.last_price = if random.below(2) == 0 { tick.bids[0].price } else { tick.asks[0].price };
        }
        tick.last_price = self.last_price;
        tick.volume = self.volume as f64;
        tick
    }
}

// The walk stays above 100 steps, so that the deepest bid is above zero.
const _: () = assert!(DEPTH < 100);

/// A small generator of random numbers: SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
/// Generators", 2014).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is above 0. The bias is far below what a demonstration could show.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// As [`Random::below`], for small numbers.
    pub fn small(&mut self, end: u32) -> u32 {
        u32::try_from(self.below(u64::from(end))).expect("below a u32")
    }

    /// An index below `len`, which is above 0.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_makes_one_market() {
        assert_eq!(generate(7), generate(7));
        assert_ne!(generate(7), generate(8));
    }

    #[test]
    fn books_have_five_rising_levels_and_are_never_crossed() {
        let feed = generate(1);
        assert_eq!(feed.topics().len(), 60);
        for k in 0..feed.len() as u64 {
            let tick = feed.tick(k);
            assert!(tick.bids.windows(2).all(|pair| pair[0].price > pair[1].price), "bids of {k}");
            assert!(tick.asks.windows(2).all(|pair| pair[0].price < pair[1].price), "asks of {k}");
            assert!(tick.bids[0].price < tick.asks[0].price, "best prices of {k}");
            assert!(tick.bids[DEPTH - 1].price > 0.0, "deepest bid of {k}");
        }
    }

    #[test]
    fn walks_come_back_to_where_they_began() {
        let feed = generate(3);
        for topic in feed.topics() {
            let mids: Vec<Tick> =
                (0..feed.len() as u64).filter(|&k| feed.topic(k) == topic).map(|k| feed.tick(k)).collect();
            let (first, last) = (mids[0], mids[mids.len() - 1]);
            let step = first.bids[0].price - first.bids[1].price;
            assert!((first.bids[0].price - last.bids[0].price).abs() < 6.0 * step, "{topic}");
        }
    }

    #[test]
    fn bursts_are_far_above_the_mean_rate() {
        let feed = generate(1);
        let mean_in_10_ms = feed.len() as u128 * 10 / feed.turn().as_millis();
        let mut in_10_ms = vec![0_u128; usize::try_from(feed.turn().as_millis() / 10 + 1).unwrap()];
        for k in 0..feed.len() as u64 {
            in_10_ms[usize::try_from(feed.due(k).as_millis() / 10).unwrap()] += 1;
        }
        let busiest = in_10_ms.into_iter().max().unwrap();
        assert!((150..250).contains(&mean_in_10_ms), "{mean_in_10_ms} ticks in 10 ms");
        assert!(busiest > 4 * mean_in_10_ms, "{busiest} ticks in the busiest 10 ms");
    }
}

//! The market as everybody in an example knows it: publication `k` is a pure function of the source and `k`.
//!
//! A source (the [generator](crate::generator) or a [capture](crate::capture)) is read once into a tape of some ten
//! thousand rows, and the tape is played in a loop; each turn moves the times on by the length of the tape. So the
//! server publishes, each client checks what it got, and the parent counts what matched, without asking one another.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{capture, generator};

/// Levels on each side of the book.
pub const DEPTH: usize = 5;

/// What every topic begins with; the venue and the symbol follow: `tick.NORTH.CU`.
pub const TOPIC_ROOT: &str = "tick.";

/// One price of the book and what is wanted or offered there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Level {
    pub price: f64,
    pub volume: f64,
}

/// The state of one instrument after something happened to it. Its name is in the topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// Time at the exchange, nanoseconds since 1970 UTC.
    pub time_ns: u64,
    /// Price of the latest trade, 0 until there was one.
    pub last_price: f64,
    /// Volume of the trade that this tick reports, 0 if it reports a change of the book.
    pub last_volume: f64,
    /// Volume traded since the tape began.
    pub volume: f64,
    /// Best bid first.
    pub bids: [Level; DEPTH],
    /// Best ask first.
    pub asks: [Level; DEPTH],
}

/// What is published: the market's tick, and beside it what this run stamps on it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Which life of the server published it, from 0.
    pub life: u32,
    /// Wall clock at the moment of publishing, nanoseconds since 1970 UTC.
    pub sent_ns: u64,
    /// Publication `k` of the feed, and nothing else.
    pub tick: Tick,
}

/// Where the market comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The built-in generator.
    Generator { seed: u64 },
    /// A recorded market.
    Capture(PathBuf),
}

impl Source {
    /// Makes the tape.
    ///
    /// # Errors
    /// A capture that cannot be read; the generator never fails.
    pub fn load(&self) -> Result<Feed, capture::Error> {
        match self {
            Source::Generator { seed } => Ok(generator::generate(*seed)),
            Source::Capture(path) => capture::load(path),
        }
    }
}

/// One row of the tape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Index of the instrument.
    pub instrument: usize,
    /// When it is due in the first turn, counted from the tape's begin.
    pub at_ns: u64,
    pub tick: Tick,
}

/// The looped tape.
#[derive(Debug, Clone, PartialEq)]
pub struct Feed {
    /// Topic of each instrument.
    topics: Vec<String>,
    /// Invariant: not empty, `at_ns` never goes back.
    rows: Vec<Row>,
    /// How long one turn of the tape takes. Invariant: not below any `at_ns`, and not 0.
    turn_ns: u64,
}

impl Feed {
    /// Takes rows that are in the order in which they are due.
    ///
    /// # Panics
    /// If there is no row, or one names an instrument that has no topic.
    pub fn new(topics: Vec<String>, rows: Vec<Row>) -> Self {
        let last = rows.last().expect("a tape has at least one row");
        assert!(rows.iter().all(|row| row.instrument < topics.len()), "each row has an instrument");
        let mean_gap = last.at_ns / rows.len() as u64;
        Feed { turn_ns: last.at_ns + mean_gap.max(1), topics, rows }
    }

    /// Topics of all instruments.
    pub fn topics(&self) -> &[String] {
        &self.topics
    }

    /// Rows in one turn of the tape.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// How long one turn of the tape takes at its natural speed.
    pub fn turn(&self) -> Duration {
        Duration::from_nanos(self.turn_ns)
    }

    /// The instrument of publication `k`.
    pub fn instrument(&self, k: u64) -> usize {
        self.row(k).1.instrument
    }

    /// The topic of publication `k`.
    pub fn topic(&self, k: u64) -> &str {
        &self.topics[self.instrument(k)]
    }

    /// The content of publication `k`.
    pub fn tick(&self, k: u64) -> Tick {
        let (turn, row) = self.row(k);
        Tick { time_ns: row.tick.time_ns.wrapping_add(turn.wrapping_mul(self.turn_ns)), ..row.tick }
    }

    /// When publication `k` is due at the natural speed, counted from publication 0.
    pub fn due(&self, k: u64) -> Duration {
        let (turn, row) = self.row(k);
        Duration::from_nanos(turn.saturating_mul(self.turn_ns).saturating_add(row.at_ns))
    }

    /// What a subscription to `prefix` gets.
    pub fn select(&self, prefix: &str) -> Selection {
        let matches: Vec<bool> = self.topics.iter().map(|topic| topic.starts_with(prefix)).collect();
        let mut below = Vec::with_capacity(self.rows.len() + 1);
        below.push(0);
        let mut count = 0;
        for row in &self.rows {
            count += u64::from(matches[row.instrument]);
            below.push(count);
        }
        Selection { below }
    }

    /// A prefix for some symbols of one venue: those that begin with the same letter as the busiest instrument of all.
    pub fn busy_prefix(&self) -> &str {
        let mut counts = vec![0_u64; self.topics.len()];
        for row in &self.rows {
            counts[row.instrument] += 1;
        }
        let busiest = (0..counts.len()).max_by_key(|&at| counts[at]).expect("a tape has an instrument");
        let topic = &self.topics[busiest];
        let symbol_at = topic.rfind('.').map_or(0, |dot| dot + 1);
        let first_letter = topic[symbol_at..].chars().next().map_or(0, char::len_utf8);
        &topic[..symbol_at + first_letter]
    }

    /// The turn of the tape in which `k` comes, and its row.
    fn row(&self, k: u64) -> (u64, &Row) {
        let (turn, at) = turn_and_place(k, self.rows.len());
        (turn, &self.rows[at])
    }
}

/// Which publications one prefix matches, ready to be counted over any range at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// How many of the first `i` rows match, for `i` from 0 to the length of the tape.
    below: Vec<u64>,
}

impl Selection {
    /// How many publications in `range` match.
    pub fn count(&self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            0
        } else {
            self.count_below(range.end) - self.count_below(range.start)
        }
    }

    /// Whether publication `k` matches.
    pub fn contains(&self, k: u64) -> bool {
        self.count(k..k + 1) == 1
    }

    fn count_below(&self, k: u64) -> u64 {
        let rows = self.below.len() - 1;
        let (turns, rest) = turn_and_place(k, rows);
        turns * self.below[rows] + self.below[rest]
    }
}

/// Cuts `k` into full turns of the tape and the place in the turn that is under way.
fn turn_and_place(k: u64, rows: usize) -> (u64, usize) {
    let rows = rows as u64;
    (k / rows, usize::try_from(k % rows).expect("a place in the tape is below the length of a Vec"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed() -> Feed {
        let topics = ["tick.A.X1", "tick.A.X2", "tick.B.Y"].map(String::from).to_vec();
        let row = |instrument, at_ns| Row {
            instrument,
            at_ns,
            tick: Tick { time_ns: 1_000 + at_ns, ..Tick::default() },
        };
        Feed::new(topics, vec![row(0, 0), row(2, 10), row(0, 10), row(1, 40)])
    }

    #[test]
    fn each_turn_of_the_tape_moves_the_times_on() {
        let feed = feed();
        assert_eq!(feed.turn(), Duration::from_nanos(50));
        assert_eq!(feed.tick(1).time_ns, 1_010);
        assert_eq!(feed.tick(1 + 4 * 7).time_ns, 1_010 + 7 * 50);
        assert_eq!(feed.due(3 + 4), Duration::from_nanos(90));
        assert_eq!(feed.topic(5), "tick.B.Y");
    }

    #[test]
    fn counting_agrees_with_looking_at_each() {
        let feed = feed();
        for prefix in ["", "tick.", "tick.A.", "tick.A.X1", "tick.C", "tick.A.X1.and.more"] {
            let selection = feed.select(prefix);
            for start in 0..13 {
                for end in 0..13 {
                    let looked = (start..end).filter(|&k| feed.topic(k).starts_with(prefix)).count() as u64;
                    assert_eq!(selection.count(start..end), looked, "{prefix:?} in {start}..{end}");
                }
                assert_eq!(selection.contains(start), feed.topic(start).starts_with(prefix));
            }
        }
    }

    #[test]
    fn counting_over_billions_takes_no_time() {
        assert_eq!(feed().select("tick.A.").count(2..4_000_000_002), 3_000_000_000);
    }

    #[test]
    fn busy_prefix_is_the_venue_and_one_letter() {
        assert_eq!(feed().busy_prefix(), "tick.A.X");
    }
}

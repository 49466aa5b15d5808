//! What the server offers to its clients: three functions, their types, and what stands behind them.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pulsewire::Method;
use serde::{Deserialize, Serialize};

use crate::feed::{Feed, Tick, TOPIC_ROOT};
use crate::ledger::Ledger;

/// The newest tick of one instrument by its name, `VENUE.SYMBOL`; `None` until it had one.
pub const GET_TICK: Method<String, Option<Latest>> = Method::new("get_tick");

/// The newest ticks of all instruments that had one.
pub const GET_ALL_TICKS: Method<(), Vec<(String, Latest)>> = Method::new("get_all_ticks");

/// Sends an order to the exchange.
pub const SEND_ORDER: Method<NewOrder, Fill> = Method::new("send_order");

/// The largest order that passes the risk check.
pub const MAX_VOLUME: u32 = 100;

/// How long it takes to the exchange, and as long back.
const WAY: Duration = Duration::from_micros(500);

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latest {
    /// Which publication it was.
    pub seq: u64,
    pub tick: Tick,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewOrder {
    /// The client's own number for it, never used twice.
    pub id: u64,
    pub name: String,
    pub is_buy: bool,
    pub price: f64,
    pub volume: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fill {
    pub id: u64,
    pub volume: u32,
}

/// Why the server says no. It has not executed the order then.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("there is no instrument {0:?}")]
    NoSuchInstrument(String),
    #[error("a volume of {volume} is beyond the limit of {MAX_VOLUME}")]
    TooLarge { volume: u32 },
    #[error("cannot write to the ledger: {0}")]
    Ledger(#[from] io::Error),
}

/// The state behind the functions.
#[derive(Debug)]
pub struct Desk {
    /// Name of an instrument to its place in the feed.
    instruments: HashMap<String, usize>,
    /// By the instrument's place in the feed.
    latest: Mutex<Vec<Option<Latest>>>,
    ledger: Ledger,
}

impl Desk {
    pub fn open(feed: &Feed, ledger: Ledger) -> Self {
        Desk {
            instruments: feed.topics().iter().map(|topic| name_in(topic).to_owned()).zip(0..).collect(),
            latest: Mutex::new(vec![None; feed.topics().len()]),
            ledger,
        }
    }

    /// A tick is about to be published.
    pub fn note_tick(&self, instrument: usize, latest: Latest) {
        self.latest()[instrument] = Some(latest);
    }

    /// # Errors
    /// If there is no such instrument.
    pub fn tick(&self, name: &str) -> Result<Option<Latest>, Refusal> {
        Ok(self.latest()[self.instrument(name)?])
    }

    pub fn all_ticks(&self) -> Vec<(String, Latest)> {
        let latest = self.latest();
        let known = self.instruments.iter().filter_map(|(name, &at)| Some((name.clone(), latest[at]?)));
        known.collect()
    }

    /// Executes the order: checks it, sends it to the exchange, writes it down there, and comes back.
    ///
    /// # Errors
    /// Why it was not executed.
    pub fn execute(&self, order: &NewOrder) -> Result<Fill, Refusal> {
        self.instrument(&order.name)?;
        if order.volume > MAX_VOLUME {
            return Err(Refusal::TooLarge { volume: order.volume });
        }
        thread::sleep(WAY);
        self.ledger.append(order.id)?;
        thread::sleep(WAY);
        Ok(Fill { id: order.id, volume: order.volume })
    }

    fn instrument(&self, name: &str) -> Result<usize, Refusal> {
        self.instruments.get(name).copied().ok_or_else(|| Refusal::NoSuchInstrument(name.to_owned()))
    }

    fn latest(&self) -> MutexGuard<'_, Vec<Option<Latest>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of an instrument, from its topic.
pub fn name_in(topic: &str) -> &str {
    topic.strip_prefix(TOPIC_ROOT).unwrap_or(topic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator;
    use crate::process::Scratch;

    #[test]
    fn desk_knows_the_latest_ticks_and_executes_what_passes_the_check() {
        let scratch = Scratch::create().unwrap();
        let feed = generator::generate(1);
        let desk = Desk::open(&feed, Ledger::create(scratch.path(), 0).unwrap());
        let name = name_in(feed.topic(5));
        assert_eq!(desk.tick(name).unwrap(), None);
        let latest = Latest { seq: 5, tick: feed.tick(5) };
        desk.note_tick(feed.instrument(5), latest);
        assert_eq!(desk.tick(name).unwrap(), Some(latest));
        assert_eq!(desk.all_ticks(), [(name.to_owned(), latest)]);
        assert!(matches!(desk.tick("NORTH.XX"), Err(Refusal::NoSuchInstrument(_))));

        let order = NewOrder { id: 9, name: name.to_owned(), is_buy: true, price: 1.0, volume: MAX_VOLUME };
        assert_eq!(desk.execute(&order).unwrap(), Fill { id: 9, volume: MAX_VOLUME });
        let order = NewOrder { id: 10, volume: MAX_VOLUME + 1, ..order };
        assert!(matches!(desk.execute(&order), Err(Refusal::TooLarge { .. })));
        assert_eq!(Ledger::read(scratch.path(), 1).unwrap(), HashMap::from([(9, 1)]));
    }
}

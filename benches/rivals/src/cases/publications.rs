//! Publications: throughput, fan-out, a paced stream, a filter.
//!
//! Each message carries its number and a mark, so that its application can keep the account by itself: what is missing,
//! what of it was reported, when the part that counts began and ended.
//!
//! ```text
//! number: u64 LE, counts this publisher's matching messages | mark: u64 LE | padding
//! mark = 0 while warming up, the moment of sending or 1 while it counts, the greatest number at the end
//! ```

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::calls::per_operation;
use super::{Case, Figures};
use crate::peers::{self, Publisher, Sink, Subscriber, WithTypes, TOPIC_BYTES};
use crate::side::Side;
use crate::statistics::Times;
use crate::usage::{shared_clock_ns, Usage};
use crate::Result;

/// Payload where the case has no sizes.
const TICK: usize = 256;
/// Topics of the filter case; the subscriber is on one of them.
const TOPICS: usize = 1_000;
/// Payload of the filter case.
const FILTERED: usize = 64;
/// Subscriptions that hold the filter case's other prefixes.
const CROWD: u64 = 100;

const WARM: u64 = 0;
const COUNTS: u64 = 1;
const END: u64 = u64::MAX;

/// One topic of the thousand.
fn topic(number: usize) -> String {
    let topic = format!("tick.{number:04}.SH");
    debug_assert_eq!(topic.len(), TOPIC_BYTES);
    topic
}

/// What the case's numbers are for a side.
struct Shape {
    payload: usize,
    subscriptions: usize,
    crowd: Vec<Vec<String>>,
    /// Between two messages; `None`: as fast as it goes.
    every: Option<Duration>,
    topics: Vec<String>,
    /// The one that is subscribed to.
    matching: usize,
}

impl Shape {
    fn of(side: &Side) -> Shape {
        let parameter = side.spec.parameter;
        let mut shape = Shape {
            payload: TICK,
            subscriptions: 1,
            crowd: Vec::new(),
            every: None,
            topics: vec![topic(0)],
            matching: 0,
        };
        match side.spec.case {
            Case::Throughput => shape.payload = parameter as usize,
            Case::FanOut => shape.subscriptions = parameter as usize,
            Case::Paced => shape.every = Some(Duration::from_secs(1) / parameter as u32),
            _ => {
                shape.payload = FILTERED;
                shape.topics = (0..TOPICS).map(topic).collect();
                shape.matching = TOPICS / 2;
                let each = parameter / CROWD;
                let holders = if each == 0 { 0 } else { CROWD };
                shape.crowd = (0..holders).map(|holder| others(holder, each)).collect();
            }
        }
        shape
    }

    /// The prefixes of each subscription: everything, or one topic.
    fn sets(&self) -> Vec<Vec<String>> {
        let prefix = if self.topics.len() > 1 { self.topics[self.matching].clone() } else { String::new() };
        vec![vec![prefix]; self.subscriptions]
    }

    /// Prefixes of all together.
    fn prefixes(&self) -> usize {
        self.subscriptions + self.crowd.iter().map(Vec::len).sum::<usize>()
    }
}

/// Prefixes of one of the crowd, which nothing is published under although they begin alike.
fn others(holder: u64, count: u64) -> Vec<String> {
    (0..count).map(|number| format!("tick.9{holder:02}{number:03}.")).collect()
}

/// The publisher's side.
pub fn publish(side: &mut Side) -> Result<()> {
    let shape = Shape::of(side);
    peers::with_types(side.spec.peer, PublishWith { side, shape })
}

struct PublishWith<'a> {
    side: &'a mut Side,
    shape: Shape,
}

impl WithTypes for PublishWith<'_> {
    type Output = ();

    fn with<P: Publisher, S: Subscriber>(self) -> Result<()> {
        let PublishWith { side, shape } = self;
        let mut publisher = P::bind(side.spec.peer)?;
        side.say(&publisher.port().to_string())?;
        side.expect(CONNECTED)?;
        let announced =
            if P::COUNTS_PREFIXES { shape.prefixes() } else { shape.subscriptions + shape.crowd.len() };
        publisher.wait_for(announced)?;
        let mut source = Source::new(publisher, &shape);
        source.publish_for(Duration::from_millis(side.spec.warm_ms), WARM)?;
        let sent_before = source.publisher.sent_bytes();
        let before = Usage::now()?;
        let begun = Instant::now();
        let published = source.publish_for(Duration::from_millis(side.spec.run_ms), COUNTS)?;
        let took = begun.elapsed();
        let usage = Usage::now()?.since(before);
        let sent = source.publisher.sent_bytes().zip(sent_before).map(|(after, before)| after - before);
        // Until the other side has heard it: a library that drops may drop this as well. Whoever has heard it may be
        // gone at once.
        while !side.has_mail()? {
            let _ = source.publish_one(END).and_then(|()| source.publisher.flush());
            source.publisher.rest(Duration::from_millis(5))?;
        }
        let mut figures = Figures::new();
        per_operation(&mut figures, usage, published);
        figures.insert("published".into(), source.stamped as f64);
        figures.insert("operations".into(), source.all as f64);
        figures.insert("publications_per_s".into(), published as f64 / took.as_secs_f64());
        figures.insert("publication_ns".into(), took.as_nanos() as f64 / published.max(1) as f64);
        let deliveries = published as f64 * shape.subscriptions as f64;
        figures.insert("cpu_per_delivery_ns".into(), usage.cpu.as_nanos() as f64 / deliveries.max(1.0));
        if let Some(sent) = sent {
            figures.insert("wire_bytes".into(), sent as f64 / published.max(1) as f64);
        }
        side.report(&figures)
    }
}

const CONNECTED: &str = "connected";
const RECEIVED: &str = "received";

/// Publishes the case's messages.
struct Source<'a, P> {
    publisher: P,
    shape: &'a Shape,
    message: Vec<u8>,
    /// The next topic.
    next: usize,
    /// Messages published so far that somebody has subscribed to.
    stamped: u64,
    all: u64,
}

impl<'a, P: Publisher> Source<'a, P> {
    fn new(publisher: P, shape: &'a Shape) -> Self {
        let message = vec![0x5a; shape.payload];
        Source { publisher, shape, message, next: 0, stamped: 0, all: 0 }
    }

    /// Publishes for so long. Returns how many messages that were.
    fn publish_for(&mut self, length: Duration, mark: u64) -> Result<u64> {
        let before = self.all;
        let begun = Instant::now();
        match self.shape.every {
            None => {
                // The clock is looked at once in a few microseconds.
                let burst = if self.shape.payload > 1_024 { 8 } else { 64 };
                while begun.elapsed() < length {
                    for _ in 0..burst {
                        self.publish_next(mark)?;
                    }
                }
            }
            Some(every) => {
                let mut due = Duration::ZERO;
                while due < length {
                    let early = due.saturating_sub(begun.elapsed());
                    if !early.is_zero() {
                        self.publisher.rest(early)?;
                    }
                    let mark = if mark == COUNTS { shared_clock_ns() } else { mark };
                    self.publish_one(mark)?;
                    self.publisher.flush()?;
                    due += every;
                }
            }
        }
        Ok(self.all - before)
    }

    /// The next topic's message.
    #[inline]
    fn publish_next(&mut self, mark: u64) -> Result<()> {
        if self.next == self.shape.matching {
            self.publish_one(mark)?;
        } else {
            self.all += 1;
            self.publisher.publish(&self.shape.topics[self.next], &self.message)?;
        }
        self.next += 1;
        if self.next == self.shape.topics.len() {
            self.next = 0;
        }
        Ok(())
    }

    /// A message of the topic that is subscribed to.
    #[inline]
    fn publish_one(&mut self, mark: u64) -> Result<()> {
        self.message[..8].copy_from_slice(&self.stamped.to_le_bytes());
        self.message[8..16].copy_from_slice(&mark.to_le_bytes());
        self.stamped += 1;
        self.all += 1;
        self.publisher.publish(&self.shape.topics[self.shape.matching], &self.message)
    }
}

/// The subscribers' side.
pub fn subscribe(side: &mut Side) -> Result<()> {
    let shape = Shape::of(side);
    peers::with_types(side.spec.peer, SubscribeWith { side, shape })
}

struct SubscribeWith<'a> {
    side: &'a mut Side,
    shape: Shape,
}

impl WithTypes for SubscribeWith<'_> {
    type Output = ();

    fn with<P: Publisher, S: Subscriber>(self) -> Result<()> {
        let SubscribeWith { side, shape } = self;
        let port = side.hear()?.parse()?;
        let subscriber = S::connect(side.spec.peer, port, &shape.sets(), &shape.crowd)?;
        side.say(CONNECTED)?;
        let first = Arc::new(Mutex::new(None));
        let is_paced = shape.every.is_some();
        let tallies: Vec<_> = (0..shape.subscriptions)
            .map(|_| Tally { first_usage: Arc::clone(&first), is_paced, ..Tally::default() })
            .collect();
        let tallies = subscriber.receive(tallies)?;
        let after = Usage::now()?;
        side.say(RECEIVED)?;
        let before = first.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(after);
        side.report(&account(tallies, after.since(before))?)
    }
}

/// What all subscriptions found together.
fn account(mut tallies: Vec<Tally>, usage: Usage) -> Result<Figures> {
    let sum = |count: fn(&Tally) -> u64| tallies.iter().map(count).sum::<u64>();
    let (received, counted) = (sum(|tally| tally.received), sum(|tally| tally.counted));
    let (missing, reported) = (sum(|tally| tally.missing), sum(|tally| tally.reported));
    let first = tallies.iter().filter_map(|tally| tally.first).min();
    let last = tallies.iter().filter_map(|tally| tally.last).max();
    let took = last.zip(first).map(|(last, first)| last - first).ok_or("nothing was received")?;
    let mut figures = Figures::new();
    per_operation(&mut figures, usage, counted);
    figures.insert("operations".into(), received as f64);
    figures.insert("received".into(), received as f64);
    figures.insert("messages_per_s".into(), counted as f64 / took.as_secs_f64());
    figures.insert("lost".into(), missing as f64 / (received + missing).max(1) as f64);
    figures.insert("unreported".into(), missing.saturating_sub(reported) as f64);
    if let [Tally { is_paced: true, times, .. }] = &mut tallies[..] {
        figures.insert("p50_us".into(), times.percentile_us(0.5));
        figures.insert("p99_us".into(), times.percentile_us(0.99));
    }
    Ok(figures)
}

/// The account of one subscription.
#[derive(Debug, Default)]
struct Tally {
    /// The number of the message that comes next.
    next: u64,
    received: u64,
    /// Of them those that count.
    counted: u64,
    missing: u64,
    /// What the library said is missing.
    reported: u64,
    first: Option<Instant>,
    last: Option<Instant>,
    is_paced: bool,
    times: Times,
    /// What this process had used when the first message that counts came to any of its subscriptions.
    first_usage: Arc<Mutex<Option<Usage>>>,
}

impl Tally {
    #[cold]
    fn begin(&mut self) {
        let mut usage = self.first_usage.lock().unwrap_or_else(PoisonError::into_inner);
        if usage.is_none() {
            *usage = Usage::now().ok();
        }
        self.first = Some(Instant::now());
    }

    #[cold]
    fn end(&mut self) -> ControlFlow<()> {
        self.last = Some(Instant::now());
        ControlFlow::Break(())
    }
}

impl Sink for Tally {
    #[inline]
    fn message(&mut self, _topic: &[u8], data: &[u8]) -> ControlFlow<()> {
        let field = |at: usize| {
            let bytes = data[at..].first_chunk().expect("a message has sixteen bytes at least");
            u64::from_le_bytes(*bytes)
        };
        let (number, mark) = (field(0), field(8));
        self.received += 1;
        self.missing += number.saturating_sub(self.next);
        self.next = number + 1;
        match mark {
            WARM => return ControlFlow::Continue(()),
            END => return self.end(),
            _ if self.first.is_none() => self.begin(),
            _ => {}
        }
        self.counted += 1;
        if self.is_paced {
            self.times.push_ns(shared_clock_ns().saturating_sub(mark));
        }
        ControlFlow::Continue(())
    }

    fn lost(&mut self, count: u64) {
        self.reported += count;
    }
}

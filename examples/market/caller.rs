//! The calls of a client: queries whose answers are checked against the feed, and orders that end in one of five ways.

use std::time::{Duration, Instant};

use pulsewire::{CallError, CallOptions, RpcClient};

use crate::client::Job;
use crate::generator::Random;
use crate::ledger::{order_id, order_name, Outcome};
use crate::lines::{Queries, Report};
use crate::process::report;
use crate::service::{name_in, Latest, NewOrder, GET_ALL_TICKS, GET_TICK, MAX_VOLUME, SEND_ORDER};

const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// An order that has not been executed by then is worth nothing. Shorter than the server's absence, so that some end
/// before it is back.
const ORDER_TIMEOUT: Duration = Duration::from_millis(300);

/// One query in so many asks for all ticks.
const ALL_TICKS_EVERY: u64 = 10;

/// Asks for ticks until the client stops. Gives how the queries ended.
pub fn ask(client: &RpcClient, job: &Job) -> Queries {
    let mut random = Random(job.index as u64);
    let mut queries = Queries::default();
    let mut pace = Pace::new(job.profile.queries_per_second);
    while pace.wait(job) {
        let began = Instant::now();
        let answer = if random.below(ALL_TICKS_EVERY) == 0 {
            ask_for_all(client, job)
        } else {
            ask_for_one(client, job, random.next())
        };
        job.meters().queries.record(began.elapsed());
        match answer {
            Ok(true) => queries.right += 1,
            Ok(false) => queries.wrong += 1,
            Err(CallError::NotExecuted(_) | CallError::Unknown(_)) => queries.unanswered += 1,
            Err(error) => {
                queries.wrong += 1;
                report(&Report::Wrong { text: format!("a query has failed: {error}") });
            }
        }
    }
    queries
}

/// Asks for the newest tick of the instrument of publication `k`, and says whether the answer is one of its ticks.
fn ask_for_one(client: &RpcClient, job: &Job, k: u64) -> Result<bool, CallError> {
    let name = name_in(job.feed.topic(k)).to_owned();
    let options = CallOptions::default().timeout(QUERY_TIMEOUT);
    let latest = client.call_with(GET_TICK, &name, options)?;
    Ok(latest.is_none_or(|latest| is_of_feed(job, &name, &latest)))
}

fn ask_for_all(client: &RpcClient, job: &Job) -> Result<bool, CallError> {
    let options = CallOptions::default().timeout(QUERY_TIMEOUT);
    let all = client.call_with(GET_ALL_TICKS, &(), options)?;
    Ok(all.iter().all(|(name, latest)| is_of_feed(job, name, latest)))
}

fn is_of_feed(job: &Job, name: &str, latest: &Latest) -> bool {
    name_in(job.feed.topic(latest.seq)) == name && job.feed.tick(latest.seq) == latest.tick
}

/// Sends orders until the client stops, each under a number of its own. Gives how many.
pub fn order(client: &RpcClient, job: &Job) -> u64 {
    let mut random = Random(1_000 + job.index as u64);
    let mut pace = Pace::new(job.profile.orders_per_second);
    let mut orders = 0;
    for number in 0.. {
        if !pace.wait(job) {
            break;
        }
        let order = draw_order(job, number, &mut random);
        let began = Instant::now();
        let result = client.call_with(SEND_ORDER, &order, CallOptions::default().timeout(ORDER_TIMEOUT));
        let outcome = match result {
            Ok(_) => Outcome::Value,
            Err(CallError::Failed(_)) => Outcome::Failed,
            Err(CallError::NotExecuted(_)) => Outcome::NotExecuted,
            Err(CallError::ResultNotKept) => Outcome::ResultNotKept,
            Err(CallError::Unknown(_)) => Outcome::Unknown,
            Err(error) => {
                report(&Report::Wrong {
                    text: format!("{} has ended otherwise: {error}", order_name(order.id)),
                });
                continue;
            }
        };
        report(&Report::Order { id: order.id, outcome, took: began.elapsed() });
        orders += 1;
    }
    orders
}

/// One order in ten is too large for the server.
fn draw_order(job: &Job, number: u32, random: &mut Random) -> NewOrder {
    let k = random.next();
    NewOrder {
        id: order_id(job.index, number),
        name: name_in(job.feed.topic(k)).to_owned(),
        is_buy: random.below(2) == 0,
        price: job.feed.tick(k).asks[0].price,
        volume: 1 + if random.below(10) == 0 { MAX_VOLUME } else { random.small(MAX_VOLUME) },
    }
}

/// So many times a second, and not faster after a delay.
struct Pace {
    next: Instant,
    every: Duration,
}

impl Pace {
    fn new(per_second: u32) -> Self {
        Pace { next: Instant::now(), every: Duration::from_secs(1) / per_second }
    }

    /// Waits for the next time. `false` when the client stops.
    fn wait(&mut self, job: &Job) -> bool {
        let now = Instant::now();
        job.rest(self.next.saturating_duration_since(now));
        self.next = self.next.max(now) + self.every;
        !job.is_stopping()
    }
}

//! The server: publishes the market and answers calls.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pulsewire::RpcServer;

use crate::capture;
use crate::feed::{Feed, Stamped};
use crate::ledger::Ledger;
use crate::lines::{Order, Report};
use crate::options::{Part, Speed};
use crate::process::{self, report};
use crate::service::{Desk, Latest, GET_ALL_TICKS, GET_TICK, SEND_ORDER};

/// For how long the server tries to get its port.
const BIND_TIMEOUT: Duration = Duration::from_secs(5);

/// Publications that are announced at once, at most.
const MAX_LEASE: u64 = 32_768;

/// Announcements in a second, if the lease allows.
const LEASES_PER_SECOND: f64 = 10.0;

/// Plays the server until the parent says stop.
///
/// # Errors
/// What kept it from serving.
pub fn play(part: &Part, life: u32) -> Result<(), Trouble> {
    let orders = process::orders(&part.scratch)?;
    let feed = part.source.load()?;
    let desk = Arc::new(Desk::open(&feed, Ledger::create(&part.scratch, life)?));
    let server = bind(part.port, &desk)?;
    report(&Report::Ready { epoch: server.epoch().expect("it runs since it was bound") });

    let end =
        Publishing { server: &server, feed: &feed, desk: &desk, life, speed: part.speed }.run(&orders)?;
    report(&Report::Published { end });
    let _ = orders.recv(); // The order to stop.

    let began = Instant::now();
    server.stop();
    report(&Report::Stopped { took: began.elapsed() });
    Ok(())
}

/// Why the server cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error(transparent)]
    Capture(#[from] capture::Error),
    #[error("cannot write to the run's directory or listen to the parent: {0}")]
    Io(#[from] io::Error),
    #[error("cannot bind: {0}")]
    Bind(#[from] pulsewire::BindError),
    #[error("cannot publish: {0}")]
    Publish(#[from] pulsewire::PublishFailed),
    #[error("publication {expected} got the number {seq}")]
    Numbering { expected: u64, seq: u64 },
}

/// Registers the functions and binds. The port may still be taken for a moment, so it tries for a while.
fn bind(port: u16, desk: &Arc<Desk>) -> Result<RpcServer, pulsewire::BindError> {
    let deadline = Instant::now() + BIND_TIMEOUT;
    loop {
        let (tick, ticks, orders) = (Arc::clone(desk), Arc::clone(desk), Arc::clone(desk));
        let bound = RpcServer::builder()
            .register(GET_TICK, move |name| Ok(tick.tick(&name)?))
            .register(GET_ALL_TICKS, move |()| Ok(ticks.all_ticks()))
            .register_on("orders", SEND_ORDER, move |order| Ok(orders.execute(&order)?))
            .bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        match bound {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            done => return done,
        }
    }
}

/// The market on its way to the subscribers.
struct Publishing<'a> {
    server: &'a RpcServer,
    feed: &'a Feed,
    desk: &'a Desk,
    life: u32,
    speed: Speed,
}

impl Publishing<'_> {
    /// Publishes until the first order of the parent, and gives the number of publications.
    fn run(&self, orders: &Receiver<Order>) -> Result<u64, Trouble> {
        let began = Instant::now();
        let lease = self.lease();
        let mut leased = 0;
        for k in 0.. {
            if k == leased {
                leased += lease;
                report(&Report::Leased { end: leased });
            }
            if self.is_ordered_to_end(orders, began, k) {
                return Ok(k);
            }
            self.publish(k)?;
        }
        unreachable!("nobody publishes for so long")
    }

    fn publish(&self, k: u64) -> Result<(), Trouble> {
        let tick = self.feed.tick(k);
        self.desk.note_tick(self.feed.instrument(k), Latest { seq: k, tick });
        let stamped = Stamped { life: self.life, sent_ns: wall_clock_ns(), tick };
        let published = self.server.publish(self.feed.topic(k), &stamped)?;
        if published.seq == k {
            Ok(())
        } else {
            Err(Trouble::Numbering { expected: k, seq: published.seq })
        }
    }

    /// Waits until publication `k` is due, or for an order.
    fn is_ordered_to_end(&self, orders: &Receiver<Order>, began: Instant, k: u64) -> bool {
        let Speed::Times(times) = self.speed else {
            return orders.try_recv() != Err(TryRecvError::Empty);
        };
        let due = self.feed.due(k).div_f64(times);
        match due.saturating_sub(began.elapsed()) {
            Duration::ZERO => orders.try_recv() != Err(TryRecvError::Empty),
            wait => orders.recv_timeout(wait) != Err(RecvTimeoutError::Timeout),
        }
    }

    /// How many publications are announced before they are made, so that the parent knows a bound should we be killed.
    fn lease(&self) -> u64 {
        let Speed::Times(times) = self.speed else { return MAX_LEASE };
        let between = self.feed.turn().div_f64(times * self.feed.len() as f64);
        let per_lease = 1.0 / (between.as_secs_f64() * LEASES_PER_SECOND);
        (1..MAX_LEASE).find(|&lease| lease as f64 >= per_lease).unwrap_or(MAX_LEASE)
    }
}

/// Nanoseconds since 1970 UTC.
pub fn wall_clock_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

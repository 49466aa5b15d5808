//! A client: its [follower](crate::follower) and its two [callers](crate::caller) at work, each on a thread of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pulsewire::{Limits, RpcClient};

use crate::caller;
use crate::capture;
use crate::feed::{Feed, Stamped};
use crate::follower;
use crate::latency::Latency;
use crate::lines::{Order, Report};
use crate::options::Part;
use crate::process::{self, report};
use crate::profile::{Profile, Reads, CLIENTS};

/// How often the client says what it measured.
const MEASURE_EVERY: Duration = Duration::from_millis(250);

/// How soon a thread that rests sees that it is to stop.
const STOP_WITHIN: Duration = Duration::from_millis(5);

/// Plays the client until the parent says stop.
///
/// # Errors
/// What kept it from following the server. That there is no server is no error: it may come yet.
pub fn play(part: &Part, index: usize) -> Result<(), Trouble> {
    let orders = process::orders(&part.scratch)?;
    let job = Job::new(part.source.load()?, CLIENTS[index], index);
    let limits = match job.profile.reads {
        Reads::Always => Limits::default(),
        Reads::InTurns { .. } => Limits::tiny(),
    };
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, part.port));
    let client = RpcClient::builder().limits(limits).connect(server)?;
    let events = client.subscribe::<Stamped>(job.profile.prefix(&job.feed))?;

    thread::scope(|scope| {
        scope.spawn(|| follower::follow(events, &job));
        let asking = scope.spawn(|| caller::ask(&client, &job));
        let ordering = scope.spawn(|| caller::order(&client, &job));
        job.measure_until_stop(&orders);
        let queries = asking.join().expect("asking does not panic");
        let orders = ordering.join().expect("ordering does not panic");
        report(&Report::Closing { orders, queries });
    });

    let began = Instant::now();
    client.stop();
    report(&Report::Stopped { took: began.elapsed() });
    Ok(())
}

/// Why the client cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error(transparent)]
    Capture(#[from] capture::Error),
    #[error("cannot listen to the parent: {0}")]
    Io(#[from] io::Error),
    #[error("cannot start: {0}")]
    Connect(#[from] pulsewire::net::Error),
    #[error("cannot subscribe: {0}")]
    Subscribe(#[from] pulsewire::SubscribeError),
}

/// What the threads of a client share.
#[derive(Debug)]
pub struct Job {
    pub feed: Feed,
    pub profile: Profile,
    /// Place among [`CLIENTS`].
    pub index: usize,
    is_stopping: AtomicBool,
    meters: Mutex<Meters>,
}

/// What was measured since it was last said.
#[derive(Debug)]
pub struct Meters {
    /// How old ticks were when they came.
    pub ticks: Latency,
    /// How long queries took.
    pub queries: Latency,
}

impl Job {
    fn new(feed: Feed, profile: Profile, index: usize) -> Self {
        let meters = Meters { ticks: Latency::new(), queries: Latency::new() };
        Job { feed, profile, index, is_stopping: AtomicBool::new(false), meters: Mutex::new(meters) }
    }

    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Does nothing for so long, or until the client stops.
    pub fn rest(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_stopping() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(STOP_WITHIN));
        }
    }

    pub fn meters(&self) -> MutexGuard<'_, Meters> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measure_until_stop(&self, orders: &Receiver<Order>) {
        let mut began = Instant::now();
        while orders.recv_timeout(MEASURE_EVERY) == Err(RecvTimeoutError::Timeout) {
            self.report_measured(&mut began);
        }
        self.is_stopping.store(true, Ordering::Relaxed);
        self.report_measured(&mut began);
    }

    fn report_measured(&self, began: &mut Instant) {
        let over = began.elapsed();
        *began += over;
        let mut meters = self.meters();
        let measured =
            Report::Measured { over, ticks: meters.ticks.clone(), queries: meters.queries.clone() };
        meters.ticks.clear();
        meters.queries.clear();
        drop(meters);
        report(&measured);
    }
}

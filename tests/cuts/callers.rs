//! Callers: threads that send orders, a few at a time, and write down how each ended.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pulsewire::rpc::{CallOptions, PendingCall};
use pulsewire::{CallError, ConnectionEvent, FailureKind, Method, Reconnect, RpcClient};

use super::books::{Ended, Ending};
use super::exchange::{filled, is_dropped, is_wrong, Filled, Order, FUNCTIONS};
use super::feed::{self, mixed};
use super::support::{limits, Random};
use super::watch::Watch;

/// Threads of each client.
pub const THREADS: u64 = 2;
/// Calls of a thread that are under way at the same time, at most.
const BATCH: u64 = 6;
/// Between two batches, at most, in microseconds.
const PAUSE_US: u64 = 4_000;

/// A client that gives a lost server up as soon as a loaded machine allows, and finds it again quickly.
pub fn client(
    addr: std::net::SocketAddr,
    reconnect: Reconnect,
    inbox_bytes: u64,
    watch: &Watch,
) -> RpcClient {
    let limits = limits(|limits| {
        limits.heartbeat_interval = Duration::from_millis(100);
        limits.heartbeat_timeout = Duration::from_millis(1_000);
        limits.resume_wait = Duration::from_millis(500);
        limits.inbox_bytes = inbox_bytes;
    });
    let watch = watch.clone();
    RpcClient::builder()
        .limits(limits)
        .reconnect(reconnect)
        .on_connection(move |event| match &event.event {
            ConnectionEvent::Disconnected { reason } => {
                watch.0.losses.fetch_add(1, Ordering::Relaxed);
                is_wrong(reason)
                    .into_iter()
                    .for_each(|wrong| watch.wrong(format!("{:?}: {wrong}", event.connection)));
            }
            ConnectionEvent::GaveUp { .. } => watch.wrong(format!("{event:?}")),
            _ => {}
        })
        .connect(addr)
        .unwrap()
}

/// A call under way.
struct Sent {
    id: u64,
    function: &'static str,
    idempotent: bool,
    call: PendingCall<Filled>,
}

/// One thread's calls, each under an id of its own, until the watch is over.
pub struct Caller<'a> {
    pub number: u64,
    pub client: &'a RpcClient,
    pub watch: &'a Watch,
    pub random: Random,
}

impl Caller<'_> {
    pub fn run(mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        let mut next = self.number << 32;
        while !self.watch.is_over() {
            let batch: Vec<Sent> = (0..1 + self.random.below(BATCH))
                .filter_map(|_| {
                    next += 1;
                    self.begin(next, &mut ended)
                })
                .collect();
            for Sent { id, function, idempotent, call } in batch {
                let result = call.wait();
                if result.is_ok() {
                    self.watch.0.served[self.number as usize].fetch_add(1, Ordering::Relaxed);
                }
                ended.extend(self.end(id, function, idempotent, &result));
            }
            std::thread::park_timeout(Duration::from_micros(self.random.below(PAUSE_US)));
        }
        ended
    }

    fn begin(&mut self, id: u64, ended: &mut Vec<Ended>) -> Option<Sent> {
        let random = &mut self.random;
        let function = FUNCTIONS[random.below(FUNCTIONS.len() as u64) as usize];
        let timeout = match random.below(8) {
            0 => random.below(5_000),
            1..=5 => 50_000 + random.below(200_000),
            _ => 1_000_000 + random.below(1_000_000),
        };
        let mut options = CallOptions::new().timeout(Duration::from_micros(timeout));
        let idempotent = random.below(6) == 0;
        if idempotent {
            options = options.idempotent();
        }
        if random.below(8) == 0 {
            options = options.fail_fast();
        }
        let len = if random.below(16) == 0 { 20_000 + random.below(80_000) } else { random.below(100) };
        let order: Order = (id, feed::bytes(id, len as usize));
        let method: Method<Order, Filled> = Method::new(function);
        match self.client.start_call(method, &order, options) {
            Ok(call) => Some(Sent { id, function, idempotent, call }),
            Err(error) => {
                ended.extend(self.end(id, function, idempotent, &Err(error)));
                None
            }
        }
    }

    /// How it ended, if that is one of the ways in which it may.
    fn end(
        &self,
        id: u64,
        function: &'static str,
        idempotent: bool,
        result: &Result<Filled, CallError>,
    ) -> Option<Ended> {
        let right = match result {
            Ok(value) => *value == filled(function, id) && !matches!(function, "refuse" | "nobody"),
            Err(CallError::Failed(failure)) => match failure.kind {
                FailureKind::Function => function == "refuse" && failure.text == "as asked for",
                FailureKind::Dropped => function == "later" && is_dropped(id),
                FailureKind::UnknownFunction => function == "nobody",
                _ => false,
            },
            Err(CallError::ResultNotKept) => function == "large",
            Err(_) => true,
        };
        let ending = Ending::of(result);
        if let (true, Ok(ending)) = (right, &ending) {
            return Some(Ended { id, ending: *ending, idempotent });
        }
        self.watch
            .wrong(format!("call {id:x} of {function:?}: {:?}", result.as_ref().map(|(value, _)| value)));
        None
    }
}

/// Seeds of threads are drawn from one.
pub fn seed(seed: u64, number: u64) -> Random {
    Random(mixed(seed, number) | 1)
}

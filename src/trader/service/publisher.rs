//! Publishes what the event engine hands out, each event once.

use std::format;
use std::string::String;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::snapshots::Snapshots;
use super::EVENT_RPC_LOG;
use crate::rpc::{PublishError, PublishFailed, RpcServer, Stream};
use crate::trader::{CustomData, CustomEvent, Event, EventEngine, LogData, LogLevel};

/// How far the main stream has come in one life of the server. Changed on the event engine's thread alone, so that
/// there it belongs to what the order management holds.
#[derive(Default)]
pub(super) struct Head {
    /// Set once the publisher hears every event: before, a snapshot has no place.
    pub(super) epoch: OnceLock<u64>,
    pub(super) position: AtomicU64,
}

/// What a service has published, over all its lives.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) published: AtomicU64,
    pub(super) ticks: AtomicU64,
    pub(super) failed: AtomicU64,
}

/// A general handler. Runs after the order management has entered the event.
pub(super) struct Publisher {
    server: RpcServer,
    ticks: Stream,
    head: Arc<Head>,
    counters: Arc<Counters>,
    events: EventEngine,
    snapshots: Arc<Snapshots>,
    topic: String,
    /// When it last complained of an event that cannot be published.
    complained: Option<Instant>,
    /// How many it has not complained of since.
    uncomplained: u64,
}

/// Between two complaints. The count is exact, a log full of the same is of no use.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

impl Publisher {
    pub(super) fn new(
        server: RpcServer,
        ticks: Stream,
        head: Arc<Head>,
        counters: Arc<Counters>,
        events: EventEngine,
        snapshots: Arc<Snapshots>,
    ) -> Self {
        Publisher {
            server,
            ticks,
            head,
            counters,
            events,
            snapshots,
            topic: String::new(),
            complained: None,
            uncomplained: 0,
        }
    }

    /// Publishes under the most specific type. The timer stays here: each process has its own.
    pub(super) fn handle_event(&mut self, event: &Event) {
        if *event == Event::Timer {
            self.snapshots.sweep(Instant::now());
            return;
        }
        self.topic.clear();
        event.write_specific_type(&mut self.topic).expect("strings take all that is written");
        let topic = &*self.topic;
        let published = match event {
            Event::Tick(_) => self.ticks.publish(topic, event).map(|_| &self.counters.ticks),
            _ => self.server.publish(topic, event).map(|published| {
                self.head.position.store(published.seq + 1, Ordering::SeqCst);
                &self.counters.published
            }),
        };
        match published {
            Ok(counter) => {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            // Between the end of the server and that of this handler.
            Err(PublishFailed::Refused(PublishError::Stopped)) => {}
            Err(error) => self.handle_failure(event, &error),
        }
    }

    /// The event reaches no client. Nobody else is to suffer for it.
    fn handle_failure(&mut self, event: &Event, error: &PublishFailed) {
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        if self.complained.is_some_and(|last| now.duration_since(last) < COMPLAINT_INTERVAL) {
            self.uncomplained += 1;
            return;
        }
        self.complained = Some(now);
        let before = core::mem::take(&mut self.uncomplained);
        let start: String = self.topic.chars().take(60).collect();
        let msg = format!("event not published: {start}: {error} ({before} others since the last complaint)");
        log::warn!("event-not-published: {start}: {error}");
        // A log event that cannot be published would only bring forth another one.
        let is_log = match event {
            Event::Log(_) => true,
            Event::Custom(custom) => custom.event_type() == EVENT_RPC_LOG,
            _ => false,
        };
        if !is_log {
            let _ = self.events.try_put(log_event(LogLevel::Warning, msg));
        }
    }
}

/// A log event of the service's own.
pub(super) fn log_event(level: LogLevel, msg: impl Into<String>) -> Event {
    let data = CustomData::Log(LogData { level, ..LogData::new(SOURCE, msg) });
    CustomEvent::new(EVENT_RPC_LOG, data).expect("the type is a good one").into()
}

/// Who speaks in log events of the service's own.
const SOURCE: &str = "RpcService";

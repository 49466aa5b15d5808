//! Log events, handed to the `log` crate.

use super::{Event, EventEngine, HandlerId, LogLevel, EVENT_LOG};

/// The target of what [`LogEngine`] hands on, to filter by.
pub const LOG_TARGET: &str = "pulsewire::trader";

/// Hands log events to the `log` crate: target [`LOG_TARGET`], text `gateway: message`. Whatever logger the program has
/// installed decides what becomes of them. vn.py's `LogEngine`.
#[derive(Debug)]
pub struct LogEngine {
    events: EventEngine,
    handler: HandlerId,
}

impl LogEngine {
    /// Begins to listen.
    pub fn new(events: &EventEngine) -> Self {
        let handler = events.register(EVENT_LOG, |event| {
            if let Event::Log(data) = event {
                log::log!(target: LOG_TARGET, level_of(data.level), "{}: {}", data.gateway_name, data.msg);
            }
        });
        LogEngine { events: events.clone(), handler }
    }

    /// Ends it: log events go on to other handlers alone.
    pub fn close(&self) {
        self.events.unregister(self.handler);
    }
}

/// `log` knows nothing above an error.
fn level_of(level: LogLevel) -> log::Level {
    match level {
        LogLevel::Debug => log::Level::Debug,
        LogLevel::Info => log::Level::Info,
        LogLevel::Warning => log::Level::Warn,
        LogLevel::Error | LogLevel::Critical => log::Level::Error,
    }
}

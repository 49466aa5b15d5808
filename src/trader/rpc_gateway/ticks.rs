//! Reads the stream of ticks, on a thread of its own: what is slow or lost there holds up no order event.

use std::collections::HashMap;
use std::format;
use std::string::String;
use std::time::{Duration, Instant};

use super::session::Session;
use crate::rpc::{self, Lost, Subscription, SubscriptionControl};
use crate::trader::{Event, LogLevel, PutError};

/// Reads the stream of ticks and puts them on the event engine here.
pub(super) struct TickReader {
    events: Subscription<Event>,
    control: SubscriptionControl<Event>,
    /// The number of the last tick of each topic, so that a snapshot brings none twice.
    last: HashMap<String, u64>,
    /// Ticks were lost: when the last ones are to be asked for, in case a symbol has been quiet since.
    refresh_at: Option<Instant>,
    /// When they were last asked for.
    refreshed: Option<Instant>,
    /// The connection was lost, or never there, and that was said.
    is_down: bool,
}

/// Between two questions for the last ticks.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// Topics whose last number is kept; beyond it a snapshot may bring a tick twice.
const MOST_TOPICS: usize = 262_144;

impl TickReader {
    pub(super) fn new(events: Subscription<Event>) -> Self {
        let control = events.control();
        TickReader {
            events,
            control,
            last: HashMap::new(),
            refresh_at: None,
            refreshed: None,
            is_down: false,
        }
    }

    /// Until the client is stopped.
    pub(super) fn run(mut self, session: &Session) {
        loop {
            let event = match self.refresh_at {
                None => self.events.recv(),
                Some(at) => self.events.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            if session.is_closed() || (event.is_none() && self.events.is_over()) {
                return;
            }
            if let Some(Err(PutError::Stopped)) = event.map(|event| self.handle_event(session, event)) {
                return;
            }
            self.refresh_if_due();
        }
    }

    /// Asks for the last tick of each symbol, if some were lost, not too often, and always in the end.
    fn refresh_if_due(&mut self) {
        let now = Instant::now();
        if self.refresh_at.is_some_and(|at| now >= at) {
            self.refresh_at = None;
            self.refreshed = Some(now);
            // If it is over, so is the reading.
            let _ = self.control.refresh();
        }
    }

    fn handle_event(&mut self, session: &Session, event: rpc::Event<Event>) -> Result<(), PutError> {
        let status = &session.shared.status;
        match event {
            rpc::Event::Message { topic, seq, data } => {
                self.note(topic, seq);
                return put(session, data);
            }
            rpc::Event::Snapshot { topic, seq, data }
                if self.last.get(&topic).is_none_or(|last| *last < seq) =>
            {
                self.note(topic, seq);
                return put(session, data);
            }
            rpc::Event::Lost { lost, .. } => {
                let (Lost::Exact(lost) | Lost::AtMost(lost)) = lost;
                status.note_lost_ticks(lost);
                let now = Instant::now();
                let earliest = self.refreshed.map_or(now, |last| last + REFRESH_INTERVAL);
                self.refresh_at.get_or_insert(earliest.max(now));
            }
            rpc::Event::Restarted { .. } => self.last.clear(),
            rpc::Event::Subscribed { .. } => {
                session.count(|status| status.ticks_live = true);
                if core::mem::take(&mut self.is_down) {
                    status.say(LogLevel::Info, String::from("ticks are back"));
                }
            }
            rpc::Event::Disconnected(reason) => {
                self.is_down = true;
                session.count(|status| status.ticks_live = false);
                status.say(LogLevel::Warning, format!("no ticks: connection lost ({reason:?})"));
            }
            rpc::Event::Undecodable { .. } => session.count(|status| status.undecodable += 1),
            rpc::Event::GaveUp(cause) => {
                session.give_up();
                let why = "no ticks any more: gave up, it has to be told to connect again";
                status.say(LogLevel::Error, format!("{why} ({cause:?})"));
            }
            _ => {}
        }
        Ok(())
    }

    fn note(&mut self, topic: String, seq: u64) {
        if self.last.len() >= MOST_TOPICS {
            self.last.clear();
        }
        self.last.insert(topic, seq);
    }
}

/// Puts a tick, if it is one that was asked for: prefixes match what only begins alike too.
fn put(session: &Session, data: Event) -> Result<(), PutError> {
    let Event::Tick(tick) = &data else { return Ok(()) };
    if !session.setting.all_ticks && !session.shared.subscriptions.wants(&tick.vt_symbol()) {
        return Ok(());
    }
    let Some(local) = session.names.localize(data) else { return Ok(()) };
    if session.is_closed() {
        return Err(PutError::Stopped); // The next session has the word.
    }
    session.shared.context.event_engine().put(local).inspect_err(|_| {
        session.count(|status| status.refused_here += 1);
    })
}

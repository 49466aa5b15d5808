//! What is known of a gateway's state, by whoever asks, and who is told when it changes.

use std::collections::VecDeque;
use std::format;
use std::string::String;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::trader::{CustomData, Event, GatewayContext, LogData, LogLevel, Timestamp};

/// How true what a gateway has put on the event engine still is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum GatewayState {
    /// Not told to connect, or closed.
    #[default]
    Closed,
    /// There is no connection for events. What is known here is of before; it is dialled, unless the reconnect policy says
    /// to dial no more: then a log event says so, and it has to be told to connect again.
    Disconnected,
    /// The connection is there and a snapshot is being taken: what is known here may be of before.
    Snapshotting,
    /// What is known here is what the server has said, up to what is under way.
    Live,
}

impl GatewayState {
    /// Its name, as in the events of its changes.
    pub fn name(self) -> &'static str {
        match self {
            GatewayState::Closed => "closed",
            GatewayState::Disconnected => "disconnected",
            GatewayState::Snapshotting => "snapshotting",
            GatewayState::Live => "live",
        }
    }
}

/// A gateway's state, and what it has counted since it was made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GatewayStatus {
    /// How true what is known here is.
    pub state: GatewayState,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Ticks come: their stream is connected, and the symbols asked for are in force there.
    pub ticks_live: bool,
    /// The life of the server that the last snapshot was of.
    pub epoch: Option<u64>,
    /// Snapshots that were applied.
    pub snapshots: u64,
    /// Messages of the main stream that were lost; a snapshot has made up for what it could, but not for log lines,
    /// applications' events, and the states between.
    pub lost_events: u64,
    /// Ticks that were lost.
    pub lost_ticks: u64,
    /// Messages that could not be decoded: the server is of another version.
    pub undecodable: u64,
    /// Events that found no room on the event engine here.
    pub refused_here: u64,
    /// Active orders and quotes, and positions, that were known here and that the last snapshot did not have: the server
    /// has forgotten them, or has not heard of them again since it was restarted. Each is counted and named once, by the
    /// first snapshot without it.
    pub missing: u64,
}

/// The state of one gateway, through all its connections.
pub(super) struct Status {
    context: GatewayContext,
    shown: Mutex<Shown>,
    changed: Condvar,
}

#[derive(Default)]
struct Shown {
    status: GatewayStatus,
    /// Counts connects and closes: what an earlier session still has to say is of no interest.
    session: u64,
    /// What nobody was told of yet.
    untold: VecDeque<Untold>,
    /// Somebody is telling, and goes on until there are none.
    is_telling: bool,
    /// When the loss of ticks was last spoken of, and how many were lost since.
    tick_loss_said: Option<Instant>,
    tick_loss_unsaid: u64,
}

/// What is to be told, in the order in which it came about.
enum Untold {
    Log(LogLevel, String),
    /// An event of the gateway's own, for programs: its type and its text.
    Own(String, String),
}

/// Words that wait while the event engine has no room; beyond it they go to the log alone.
const MOST_UNTOLD: usize = 1_024;
/// Between two log events of lost ticks.
const TICK_LOSS_INTERVAL: Duration = Duration::from_secs(5);

impl Status {
    pub(super) fn new(context: GatewayContext) -> Self {
        Status { context, shown: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn status(&self) -> GatewayStatus {
        self.lock().status.clone()
    }

    pub(super) fn state(&self) -> GatewayState {
        self.lock().status.state
    }

    /// Changes what is counted, unless that session is over.
    pub(super) fn count_for(&self, session: u64, change: impl FnOnce(&mut GatewayStatus)) {
        let mut shown = self.lock();
        if shown.session == session {
            change(&mut shown.status);
        }
    }

    /// A session begins: disconnected. Its number, to speak for it. To be followed by [`Status::tell`].
    pub(super) fn begin(&self, why: &str) -> u64 {
        let mut shown = self.lock();
        shown.session += 1;
        shown.status.ticks_live = false;
        self.change(&mut shown, GatewayState::Disconnected, LogLevel::Info, why);
        shown.session
    }

    /// The last session is over. To be followed by [`Status::tell`].
    pub(super) fn end(&self) {
        let mut shown = self.lock();
        shown.session += 1;
        shown.status.ticks_live = false;
        self.change(&mut shown, GatewayState::Closed, LogLevel::Info, "as it was told");
    }

    /// Shows a state, and tells of it if it is another one: whoever waits, the log, and the handlers of its event.
    pub(super) fn show(&self, session: u64, state: GatewayState, level: LogLevel, why: &str) {
        let mut shown = self.lock();
        if shown.session == session {
            self.change(&mut shown, state, level, why);
        }
        drop(shown);
        self.tell();
    }

    fn change(&self, shown: &mut Shown, state: GatewayState, level: LogLevel, why: &str) {
        if shown.status.state == state {
            return;
        }
        shown.status.state = state;
        shown.status.since = Some(Timestamp::now());
        shown.push(Untold::Log(level, format!("{}: {why}", state.name())));
        let event_type = super::state_event_type(self.context.gateway_name());
        shown.push(Untold::Own(event_type, state.name().into()));
        self.changed.notify_all();
    }

    /// Tells of all changes in their order, unless somebody does. Under no lock: the event engine may have no room, and its
    /// thread may be the one that asks. Once it has waited in vain it waits no more: what there is no room for is in the
    /// log.
    pub(super) fn tell(&self) {
        if core::mem::replace(&mut self.lock().is_telling, true) {
            return;
        }
        let mut waits = true;
        loop {
            let mut shown = self.lock();
            let Some(untold) = shown.untold.pop_front() else {
                shown.is_telling = false;
                return;
            };
            drop(shown);
            let (event, text) = match untold {
                Untold::Log(level, msg) => {
                    let event = LogData { level, ..LogData::new(self.context.gateway_name(), &*msg) }.into();
                    (event, msg)
                }
                Untold::Own(event_type, text) => {
                    match Event::custom(event_type, CustomData::Text(text.clone())) {
                        Ok(event) => (event, text),
                        Err(error) => {
                            log::warn!("gateway-name-too-long: {error}");
                            continue;
                        }
                    }
                }
            };
            let events = self.context.event_engine();
            let put = if waits { events.put(event) } else { events.try_put(event) };
            if let Err(error) = put {
                log::warn!("gateway-untold: {text}: {error}");
                waits = false;
            }
        }
    }

    /// Waits for a state; false if it does not come in time.
    pub(super) fn wait_for(&self, state: GatewayState, timeout: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |shown| shown.status.state != state)
            .unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }

    /// Counts lost ticks, and speaks of them now and then.
    pub(super) fn note_lost_ticks(&self, lost: u64) {
        let mut shown = self.lock();
        shown.status.lost_ticks += lost;
        shown.tick_loss_unsaid += lost;
        let now = Instant::now();
        if shown.tick_loss_said.is_some_and(|said| now.duration_since(said) < TICK_LOSS_INTERVAL) {
            return;
        }
        shown.tick_loss_said = Some(now);
        let lost = core::mem::take(&mut shown.tick_loss_unsaid);
        drop(shown);
        self.say(LogLevel::Warning, format!("{lost} ticks lost: this program reads too slowly"));
    }

    /// A log event that is to be said. To be followed by [`Status::tell`], with nothing locked.
    pub(super) fn note(&self, level: LogLevel, msg: String) {
        self.lock().push(Untold::Log(level, msg));
    }

    /// A log event in the gateway's name, behind all that was said before.
    pub(super) fn say(&self, level: LogLevel, msg: String) {
        self.lock().push(Untold::Log(level, msg));
        self.tell();
    }

    /// The same, and an event of the gateway's own with the same text, for programs.
    pub(super) fn say_to_all(&self, level: LogLevel, msg: String, event_type: String) {
        {
            let mut shown = self.lock();
            shown.push(Untold::Log(level, msg.clone()));
            shown.push(Untold::Own(event_type, msg));
        }
        self.tell();
    }

    /// A log event in the gateway's name, and one of its own with the same text, if there is room for them now.
    pub(super) fn try_say(&self, level: LogLevel, msg: String, event_type: String) {
        let events = self.context.event_engine();
        let log = LogData { level, ..LogData::new(self.context.gateway_name(), &*msg) };
        let own = Event::custom(event_type, CustomData::Text(msg));
        // Whoever asks for the unknown orders finds them, also if there is none.
        let _ = events.try_put(log);
        let _ = own.map(|event| events.try_put(event));
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    fn push(&mut self, untold: Untold) {
        if self.untold.len() < MOST_UNTOLD {
            self.untold.push_back(untold);
        } else {
            let (Untold::Log(_, msg) | Untold::Own(_, msg)) = untold;
            log::warn!("gateway-untold: {msg}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trader::{EventEngine, EventEngineConfig};

    #[test]
    fn who_has_waited_for_room_in_vain_does_not_wait_again_for_the_rest_of_its_words() {
        let (capacity, put_timeout) = (2, Duration::from_millis(1));
        // Not started: nothing is ever handed out.
        let engine =
            EventEngine::with_config(EventEngineConfig { capacity, put_timeout, ..Default::default() });
        let status = Status::new(GatewayContext::new("RPC", engine.clone()));
        status.begin("connecting");
        (0..100).for_each(|n| status.note(LogLevel::Info, format!("{n}")));
        status.tell();
        let stats = engine.stats();
        assert_eq!((stats.put, stats.waited, stats.refused), (2, 1, 100));
        status.say(LogLevel::Info, String::from("later"));
        assert_eq!(engine.stats().waited, 2, "there might have been room by then");
    }
}

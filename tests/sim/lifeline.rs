//! What a client may say about its connection, and when it has to dial.

use pulsewire::pattern::{ByeCode, Cause, CloseReason, ConnectionEvent, Limits, Reconnect};
use pulsewire::time::{Duration, Instant};

use super::clock::Clock;
use super::driver::Gone;

/// A policy, and the shortest and longest of its waits.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    pub policy: Reconnect,
    pub least: Duration,
    pub most: Duration,
}

/// Holds a client to its schedule, and to the reasons that it gives for its losses.
pub struct Lifeline {
    schedule: Schedule,
    heartbeat_timeout: Duration,
    not_reading_timeout: Duration,
    /// How late the driver may be for the next dial.
    grace: Duration,
    /// When the next dial is due, by the client's own clock.
    due: Option<Instant>,
    /// For whoever wonders why it is not connected.
    pub last: Option<ConnectionEvent>,
}

impl Lifeline {
    pub fn new(schedule: Schedule, limits: &Limits, grace: Duration) -> Self {
        Lifeline {
            schedule,
            heartbeat_timeout: limits.heartbeat_timeout,
            not_reading_timeout: limits.not_reading_timeout,
            grace,
            due: None,
            last: None,
        }
    }

    /// It was stopped or started: it dials when it likes, or never.
    pub fn interrupt(&mut self) {
        self.due = None;
    }

    /// It dials.
    pub fn dialled(&mut self, now: Instant) {
        if let Some(due) = self.due.take() {
            assert!(now >= due, "dials at {now:?}, before its wait is over at {due:?}");
        }
    }

    /// Looks whether it dials when it has to. `held`: its application is so far behind that it need not.
    pub fn check(&self, clock: &Clock, world: Instant, held: bool) {
        let Some(due) = self.due.filter(|_| !held) else { return };
        let late = clock.lateness(world, due);
        assert!(late <= self.grace, "was to dial {late:?} ago, after {:?}", self.last);
    }

    /// Something happened to the connection in this turn; `gone` is the one that ended last.
    pub fn saw(&mut self, now: Instant, clock: &Clock, gone: Option<&Gone>, event: ConnectionEvent) {
        match &event {
            ConnectionEvent::RetryIn { after, cause, .. } => {
                let Schedule { least, most, .. } = self.schedule;
                assert!(
                    (least..=most).contains(after),
                    "a wait of {after:?} is not one of {least:?} to {most:?}"
                );
                self.due = Some(now + *after);
                if let Cause::Closed(reason) = cause {
                    self.accuses(reason);
                }
            }
            ConnectionEvent::Disconnected { reason } => {
                self.accuses(reason);
                match reason {
                    CloseReason::Silent => self.was_silent(now, clock, gone.expect("it had a connection")),
                    CloseReason::NotReading => {
                        let gone = gone.expect("it had a connection");
                        gone.expect_starved(now, self.not_reading_timeout);
                    }
                    _ => {}
                }
            }
            ConnectionEvent::GaveUp { cause } => panic!("gave up: {cause:?}"),
            _ => {}
        }
        self.last = Some(event);
    }

    /// Two machines of ours never accuse each other of breaking the protocol, whatever the network does, and the newest
    /// connection of a client is never the one that is replaced.
    fn accuses(&self, reason: &CloseReason) {
        let replaced = matches!(reason, CloseReason::ByPeer { code: ByeCode::Replaced, .. });
        assert!(!matches!(reason, CloseReason::Protocol(_)) && !replaced, "{reason:?}");
    }

    /// It gave a server up: then nothing had come for so long, nothing waited to be read, and something was the matter.
    fn was_silent(&self, now: Instant, clock: &Clock, gone: &Gone) {
        let (since, since_world) = gone.drained_since.expect("silent, and its last read brought bytes");
        let silence = now.saturating_since(since);
        assert!(silence >= self.heartbeat_timeout, "silent after {silence:?}");
        assert!(!gone.unread, "silent, and bytes wait to be read");
        let excused = gone.was_disturbed || clock.has_jumped_since(since_world);
        assert!(excused, "a live server was declared silent after {silence:?}");
    }
}

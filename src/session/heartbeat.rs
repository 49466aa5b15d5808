//! Two clocks of a connection: the server's quiet and the client's silence.

use crate::time::{Duration, Instant};

/// Decides when a server owes its quiet peer a heartbeat.
///
/// Every byte written counts as a sign of life, so a busy connection carries no heartbeats at all.
#[derive(Debug)]
pub(crate) struct Quiet {
    last_sent: Instant,
}

impl Quiet {
    pub(crate) fn new(now: Instant) -> Self {
        Quiet { last_sent: now }
    }

    pub(crate) fn handle_sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// When the peer is owed a heartbeat, if there is one after so much quiet.
    pub(crate) fn due(&self, interval: Duration) -> Instant {
        self.last_sent + interval
    }
}

/// Decides when a client gives its silent server up.
///
/// The clock runs only while our last read found nothing: bytes that wait unread in the kernel are life that we have
/// not looked at, so a client that pauses reading never declares a talkative server dead. Any byte counts, also those
/// of a half-received frame (ZeroMQ counts whole frames, and so loses peers that send a large one slowly).
#[derive(Debug, Default)]
pub(crate) struct Silence {
    /// Since when reads find nothing. Invariant: `None` unless the last read said so and reading goes on.
    since: Option<Instant>,
}

impl Silence {
    /// Bytes came, or we stopped looking.
    pub(crate) fn handle_heard(&mut self) {
        self.since = None;
    }

    /// A read found nothing.
    pub(crate) fn handle_drained(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// When the peer is to be given up that may be silent for so long, if the clock runs.
    pub(crate) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        self.since.map(|since| since + timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_runs_only_while_reads_find_nothing() {
        let at = Instant::from_millis;
        let timeout = Duration::from_secs(30);
        let mut silence = Silence::default();
        assert_eq!(silence.deadline(timeout), None);
        silence.handle_drained(at(1_000));
        silence.handle_drained(at(2_000)); // a spurious look does not restart the clock
        assert_eq!(silence.deadline(timeout), Some(at(31_000)));
        silence.handle_heard();
        assert_eq!(silence.deadline(timeout), None);
        silence.handle_drained(at(90_000));
        assert_eq!(silence.deadline(timeout), Some(at(120_000)));
    }

    #[test]
    fn whatever_is_sent_postpones_the_heartbeat() {
        let at = Instant::from_millis;
        let interval = Duration::from_secs(10);
        let mut quiet = Quiet::new(at(0));
        assert_eq!(quiet.due(interval), at(10_000));
        quiet.handle_sent(at(9_999));
        assert_eq!(quiet.due(interval), at(19_999));
    }
}

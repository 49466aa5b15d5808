//! Two clocks of a connection: the server's quiet and the client's silence.

use crate::time::{Duration, Instant};

/// Decides when a server owes its quiet peer a heartbeat.
///
/// Every byte written counts as a sign of life, so a busy connection carries no heartbeats at all.
#[derive(Debug)]
pub(crate) struct Quiet {
    interval: Duration,
    last_sent: Instant,
}

impl Quiet {
    pub(crate) fn new(now: Instant, interval: Duration) -> Self {
        Quiet { interval, last_sent: now }
    }

    pub(crate) fn handle_sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// When the peer is owed a heartbeat.
    pub(crate) fn due(&self) -> Instant {
        self.last_sent + self.interval
    }
}

/// Decides when a client gives its silent server up.
///
/// The clock runs only while our last read found nothing: bytes that wait unread in the kernel are life that we have
/// not looked at, so a client that pauses reading never declares a talkative server dead. Any byte counts, also those
/// of a half-received frame (ZeroMQ counts whole frames, and so loses peers that send a large one slowly).
#[derive(Debug)]
pub(crate) struct Silence {
    timeout: Duration,
    /// Since when reads find nothing. Invariant: `None` unless the last read said so and reading goes on.
    since: Option<Instant>,
}

impl Silence {
    pub(crate) fn new(timeout: Duration) -> Self {
        Silence { timeout, since: None }
    }

    /// Bytes came, or we stopped looking.
    pub(crate) fn handle_heard(&mut self) {
        self.since = None;
    }

    /// A read found nothing.
    pub(crate) fn handle_drained(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// When the peer is to be given up, if the clock runs.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_runs_only_while_reads_find_nothing() {
        let at = Instant::from_millis;
        let mut silence = Silence::new(Duration::from_secs(30));
        assert_eq!(silence.deadline(), None);
        silence.handle_drained(at(1_000));
        silence.handle_drained(at(2_000)); // a spurious look does not restart the clock
        assert_eq!(silence.deadline(), Some(at(31_000)));
        silence.handle_heard();
        assert_eq!(silence.deadline(), None);
        silence.handle_drained(at(90_000));
        assert_eq!(silence.deadline(), Some(at(120_000)));
    }

    #[test]
    fn whatever_is_sent_postpones_the_heartbeat() {
        let at = Instant::from_millis;
        let mut quiet = Quiet::new(at(0), Duration::from_secs(10));
        assert_eq!(quiet.due(), at(10_000));
        quiet.handle_sent(at(9_999));
        assert_eq!(quiet.due(), at(19_999));
    }
}

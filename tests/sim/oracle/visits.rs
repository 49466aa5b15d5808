//! Who was with which server: whose record it may have forgotten.

use std::collections::BTreeMap;

use pulsewire::pattern::{CloseReason, ConnId};
use pulsewire::time::{Duration, Instant};

use super::super::network::Node;

/// The comings and goings of clients, as their servers tell them.
#[derive(Default)]
pub struct Visits {
    /// How long a server remembers whoever was lost.
    session_keep: Duration,
    /// It remembers all of them, if there is time.
    remembers_all: bool,
    /// By the server's epoch.
    visits: BTreeMap<(u64, Node), Visit>,
}

#[derive(Default)]
struct Visit {
    /// The newest of its connections; the end of another one means nothing.
    conn: Option<ConnId>,
    /// When it was lost, at the earliest, by its server's clock.
    lost_at: Option<Instant>,
    /// How often its record may have been forgotten.
    forgotten: u64,
}

impl Visits {
    pub fn new(session_keep: Duration, remembers_all: bool) -> Self {
        Visits { session_keep, remembers_all, visits: BTreeMap::new() }
    }

    pub fn joined(&mut self, now: Instant, epoch: u64, client: Node, conn: ConnId) {
        let (keep, remembers) = (self.session_keep, self.remembers_all);
        let visit = self.visits.entry((epoch, client)).or_default();
        let kept = visit.lost_at.take().is_some_and(|at| remembers && now < at + keep);
        visit.forgotten += u64::from(!kept);
        visit.conn = Some(conn);
    }

    /// A connection has ended. Where its server ended it, the record was left alone when that began: at `since` or later.
    pub fn left(
        &mut self,
        now: Instant,
        since: Instant,
        epoch: u64,
        client: Node,
        conn: ConnId,
        reason: &CloseReason,
    ) {
        let lost_at = match reason {
            CloseReason::StreamLost(_) | CloseReason::Replaced => Some(now),
            CloseReason::NotReading | CloseReason::TooSlow | CloseReason::FrameStalled { .. } => Some(since),
            _ => None,
        };
        let visit = self.visits.entry((epoch, client)).or_default();
        if visit.conn == Some(conn) {
            visit.lost_at = lost_at;
        }
    }

    /// How often a server may have forgotten the record of a client, or never had one.
    pub fn forgotten(&self, epoch: u64, client: Node) -> u64 {
        self.visits.get(&(epoch, client)).map_or(0, |visit| visit.forgotten)
    }

    /// The same at every server that there has been.
    pub fn all_forgotten(&self, client: Node) -> BTreeMap<u64, u64> {
        let visits = self.visits.iter().filter(|((_, other), _)| *other == client);
        visits.map(|((epoch, _), visit)| (*epoch, visit.forgotten)).collect()
    }
}

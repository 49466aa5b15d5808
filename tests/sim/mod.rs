//! The simulator: whole machines on an invented network, in virtual time, with one seed that decides everything.
//!
//! ```text
//! scenario   what a seed means: limits, habits, who takes part, which troubles come
//! world      the clock: whose turn is next, and what has to be true of all together
//! trouble    storms and lulls: what breaks, and when
//! clock      what one process sees of the time
//! process    a machine with its application: server, caller, follower
//! streams    how many the servers have, and what each is to be
//! driver     moves bytes between a machine and the network, as lazily as a real one may
//! network    streams that split, delay, stall, reset and refuse
//! oracle     a ledger of its own: what was published, called, executed and received, and what has to balance
//! lifeline   holds a client to its reconnect schedule, and to the reasons that it gives
//! tap        listens on the wire: which calls can have reached a server
//! ```
//!
//! Only the public sans-IO interface is used, and nothing that a machine says about itself (`stats`) is believed
//! where the oracle can count. The same seed gives the same run, down to the hash of its trace. `README.md` beside this
//! file says what is found how soon.

#![allow(dead_code)] // Each test that uses the simulator uses a part of it.

pub mod clock;
pub mod dice;
pub mod driver;
pub mod lifeline;
pub mod network;
pub mod oracle;
pub mod process;
pub mod scenario;
mod seeds;
pub mod streams;
pub mod tap;
pub mod trouble;
pub mod world;

pub use seeds::run_seeds;

/// What happened in a run, for whoever wants to know that anything did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Hash of everything that happened, in order.
    pub trace: u64,
    pub seeds: u64,
    /// Delivered chunks, timers and commands that changed a machine, and the least of them in one schedule.
    pub events: u64,
    pub least_events: u64,
    pub turns: u64,
    pub virtual_seconds: u64,
    pub troubles: u64,
    pub connections: u64,
    pub published: u64,
    pub received: u64,
    pub lost_exactly: u64,
    pub gaps: u64,
    pub accounts: u64,
    pub calls: u64,
    pub executed: u64,
    pub values: u64,
    pub not_executed: u64,
    pub unknown: u64,
    pub sent_twice: u64,
    pub snapshots: u64,
    pub rebirths: u64,
    pub blocked: u64,
    pub put_out: u64,
}

impl Report {
    fn add(&mut self, other: &Report) {
        // The order of the seeds is the threads' affair: no hash of all of them depends on it.
        self.trace = self.trace.wrapping_add(other.trace);
        self.least_events = match (self.seeds, other.seeds) {
            (0, _) => other.least_events,
            (_, 0) => self.least_events,
            _ => self.least_events.min(other.least_events),
        };
        let mine = [
            (&mut self.seeds, other.seeds),
            (&mut self.events, other.events),
            (&mut self.turns, other.turns),
            (&mut self.virtual_seconds, other.virtual_seconds),
            (&mut self.troubles, other.troubles),
            (&mut self.connections, other.connections),
            (&mut self.published, other.published),
            (&mut self.received, other.received),
            (&mut self.lost_exactly, other.lost_exactly),
            (&mut self.gaps, other.gaps),
            (&mut self.accounts, other.accounts),
            (&mut self.calls, other.calls),
            (&mut self.executed, other.executed),
            (&mut self.values, other.values),
            (&mut self.not_executed, other.not_executed),
            (&mut self.unknown, other.unknown),
            (&mut self.sent_twice, other.sent_twice),
            (&mut self.snapshots, other.snapshots),
            (&mut self.rebirths, other.rebirths),
            (&mut self.blocked, other.blocked),
            (&mut self.put_out, other.put_out),
        ];
        for (mine, theirs) in mine {
            *mine += theirs;
        }
    }
}

//! The simulator: whole machines on an invented network, in virtual time, with one seed that decides everything.
//!
//! ```text
//! scenario   what a seed means: limits, habits, who takes part, which troubles come and when
//! world      the clock: whose turn is next, and which trouble
//! process    a machine with its application: server, caller, follower
//! driver     moves bytes between a machine and the network, as lazily as a real one may
//! network    streams that split, delay, stall, reset and refuse
//! oracle     a ledger of its own: what was published, called, executed and received, and what has to balance
//! ```
//!
//! Only the public sans-IO interface is used, and nothing that a machine says about itself (`stats`) is believed
//! where the oracle can count. The same seed gives the same run, down to the hash of its trace.

#![allow(dead_code)] // Each test that uses the simulator uses a part of it.

pub mod dice;
pub mod driver;
pub mod network;
pub mod oracle;
pub mod process;
pub mod scenario;
pub mod world;

use std::env;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

/// Runs many seeds of a scenario, or the one that `PULSEWIRE_SIM_SEED` names; `PULSEWIRE_SIM_SEEDS` overrides how many.
///
/// # Panics
/// With what was wrong; before that it prints the seed and how to run it again.
pub fn run_seeds(name: &str, count: u64, run: impl Fn(u64) -> Report) -> Report {
    let number = |variable| env::var(variable).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("PULSEWIRE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PULSEWIRE_SIM_SEEDS").unwrap_or(count),
    };
    let mut sum = Report::default();
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(report) => sum.add(&report),
            Err(panic) => {
                eprintln!("seed {seed} fails; run it again with: PULSEWIRE_SIM_SEED={seed} cargo test --test {name}");
                resume_unwind(panic);
            }
        }
    }
    sum
}

/// What happened in a run, for whoever wants to know that anything did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Hash of everything that happened, in order.
    pub trace: u64,
    pub seeds: u64,
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
}

impl Report {
    fn add(&mut self, other: &Report) {
        self.trace = dice::mix(self.trace, other.trace);
        let mine = [
            (&mut self.seeds, other.seeds),
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
        ];
        for (mine, theirs) in mine {
            *mine += theirs;
        }
    }
}

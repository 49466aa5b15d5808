//! Whole machines on a simulated network: the truths of the first page, after every schedule that a seed can think of.
//!
//! `PULSEWIRE_SIM_SEEDS=200000 cargo test --release --test sim_transport -- --nocapture` looks longer,
//! `PULSEWIRE_SIM_SEED=7 cargo test --test sim_transport every_call_ends_once` looks at one seed of one scenario again.
//! `tests/sim/README.md` says what is found, and how soon.

mod sim;

use std::time::Instant;

use sim::{run_seeds, scenario, Report};

#[test]
fn every_call_ends_once_and_every_account_balances_whatever_the_network_does() {
    look("every_call_ends_once", 1_000, scenario::mixed);
}

#[test]
fn servers_that_forget_sessions_lose_nothing_unsaid_and_run_nothing_twice() {
    look("servers_that_forget", 1_000, scenario::forgetful);
}

#[test]
fn connections_that_end_again_and_again_cost_no_call_and_no_message() {
    look("connections_that_end", 500, scenario::abrupt);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for run in [scenario::mixed, scenario::forgetful, scenario::abrupt] {
        assert_eq!(run(1), run(1));
        assert_ne!(run(0).trace, run(1).trace);
    }
}

/// Runs so many seeds of a scenario; `test` is the beginning of the name of the one that does.
fn look(test: &str, seeds: u64, scenario: fn(u64) -> Report) {
    let started = Instant::now();
    let report = run_seeds(test, seeds, scenario);
    println!("{report:#?}\n{:.0} seeds per second", report.seeds as f64 / started.elapsed().as_secs_f64());
}

//! Whole machines on a simulated network: the truths of the first page, after every schedule that a seed can think of.
//!
//! `PULSEWIRE_SIM_SEEDS=10000 cargo test --release --test sim_transport` looks longer,
//! `PULSEWIRE_SIM_SEED=7 cargo test --test sim_transport` looks at one seed again.

mod sim;

use sim::{run_seeds, scenario};

#[test]
fn every_call_ends_once_and_every_account_balances_whatever_the_network_does() {
    let started = std::time::Instant::now();
    let report = run_seeds("sim_transport", 300, scenario::mixed);
    println!("{report:#?}\n{:.0} seeds per second", report.seeds as f64 / started.elapsed().as_secs_f64());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..3 {
        assert_eq!(scenario::mixed(seed), scenario::mixed(seed));
    }
    assert_ne!(scenario::mixed(0).trace, scenario::mixed(1).trace);
}

#[test]
fn seeds_that_have_caught_something_are_looked_at_every_time() {
    // A heartbeat behind a blocked stream that named an earlier position than the one before it.
    scenario::mixed(434);
    // A call that may run twice, had run, was queued to be sent again, and ended as not executed at a stop.
    scenario::mixed(466);
}

//! Whole machines on a simulated network: the truths of the first page, after every schedule that a seed can think of.
//!
//! `PULSEWIRE_SIM_SEEDS=10000 cargo test --release --test sim_transport` looks longer,
//! `PULSEWIRE_SIM_SEED=7 cargo test --test sim_transport` looks at one seed again.

mod sim;

use sim::{run_seeds, scenario};

#[test]
fn every_call_ends_once_and_every_account_balances_whatever_the_network_does() {
    let started = std::time::Instant::now();
    let report = run_seeds("every_call_ends_once", 1_000, scenario::mixed);
    println!("{report:#?}\n{:.0} seeds per second", report.seeds as f64 / started.elapsed().as_secs_f64());
}

#[test]
fn servers_that_forget_sessions_lose_nothing_unsaid_and_run_nothing_twice() {
    run_seeds("servers_that_forget", 1_000, scenario::forgetful);
}

#[test]
fn connections_that_end_again_and_again_cost_no_call_and_no_message() {
    run_seeds("connections_that_end", 500, scenario::abrupt);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..3 {
        assert_eq!(scenario::mixed(seed), scenario::mixed(seed));
    }
    assert_ne!(scenario::mixed(0).trace, scenario::mixed(1).trace);
}

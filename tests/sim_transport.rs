//! Whole machines on a simulated network: the truths of the first page, after every schedule that a seed can think of.
//!
//! `PULSEWIRE_SIM_SEEDS=200000 cargo test --release --test sim_transport -- --nocapture --test-threads=1` looks longer,
//! `PULSEWIRE_SIM_SEED=7 cargo test --test sim_transport every_call_ends_once` looks at one seed of one scenario again.
//! `tests/sim/README.md` says what is found, and how soon.

mod sim;

use sim::run_seeds;
use sim::scenario::{self, ABRUPT, ALL, FORGETFUL, MIXED};

#[test]
fn every_call_ends_once_and_every_account_balances_whatever_the_network_does() {
    run_seeds("every_call_ends_once", &MIXED);
}

#[test]
fn servers_that_forget_sessions_lose_nothing_unsaid_and_run_nothing_twice() {
    run_seeds("servers_that_forget", &FORGETFUL);
}

#[test]
fn connections_that_end_again_and_again_cost_no_call_and_no_message() {
    run_seeds("connections_that_end", &ABRUPT);
}

#[test]
fn seeds_are_enough_and_shared_out_to_the_last_one() {
    assert!(ALL.iter().map(|scenario| scenario.seeds).sum::<u64>() >= scenario::FEWEST_SEEDS);
    for all in [0, 1, 7, 2_500, 200_000] {
        assert_eq!(ALL.iter().map(|scenario| scenario.share_of(all)).sum::<u64>(), all);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for scenario in ALL {
        assert_eq!((scenario.run)(1), (scenario.run)(1));
        assert_ne!((scenario.run)(0).trace, (scenario.run)(1).trace);
    }
}

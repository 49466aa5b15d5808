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
fn servers_that_forget_sessions_lose_nothing_unsaid_and_run_nothing_twice() {
    run_seeds("sim_transport", 300, scenario::forgetful);
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
    // An answer to a changed set that was lost with its connection, while what it changed was counted.
    scenario::forgetful(27);
    // A call that waited to be sent again, expired, and was never settled.
    scenario::forgetful(232);
    // Answers that were lost and sent again behind later ones.
    scenario::forgetful(595);
    // A record that is forgotten in the moment in which it is detached, and a timer in the past.
    scenario::forgetful(815);
    // A call that waited to be sent again when the connection was lost again: the server was told to forget it.
    scenario::forgetful(1_016);
    // Places given up behind a chunk that was lost with its connection.
    scenario::forgetful(1_559);
    // The answer to an earlier handshake that was lost.
    scenario::forgetful(1_971);
    // A record of an earlier visit, at another server than the one that had run the call.
    scenario::forgetful(5_320);
    // A gap that was lost on its way, behind messages that could be replayed.
    scenario::forgetful(10_728);
}

//! Runs many seeds on all cores, and says which of them fail.
//!
//! | variable | what is run |
//! |---|---|
//! | `PULSEWIRE_SIM_SEEDS=200000` | so many seeds of all scenarios together, on through whatever fails |
//! | `PULSEWIRE_SIM_SEED=7` | this seed of each scenario |
//! | `PULSEWIRE_SIM_SEED=0..1000` | these seeds of each scenario, until one fails |

use std::any::Any;
use std::env;
use std::ops::Range;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use super::scenario::Scenario;
use super::Report;

type Panic = Box<dyn Any + Send>;

/// Runs the seeds of a scenario that the environment asks for, or as many as `cargo test` runs of it, and prints what
/// came of them. `test` is the beginning of the name of the test that does.
///
/// # Panics
/// With what was wrong with the lowest seed that fails; before that it prints each such seed, and how to run it again.
pub fn run_seeds(test: &str, scenario: &Scenario) -> Report {
    let started = Instant::now();
    let Plan { seeds, goes_on } = Plan::of(scenario);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (next, end) = (AtomicU64::new(seeds.start), AtomicU64::new(seeds.end));
    let work = || work(scenario, &next, &end, goes_on);
    let shares: Vec<Share> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("panics are caught")).collect()
    });
    let mut report = Report::default();
    let mut failed: Vec<(u64, Panic)> = Vec::new();
    for share in shares {
        report.add(&share.report);
        failed.extend(share.failed);
    }
    failed.sort_by_key(|(seed, _)| *seed);
    let seconds = started.elapsed().as_secs_f64();
    let run = report.seeds + failed.len() as u64;
    println!("{report:#?}");
    println!(
        "{}: {run} seeds in {seconds:.1} s, {:.1} seeds per second, {} failures",
        scenario.name,
        run as f64 / seconds,
        failed.len()
    );
    for (seed, _) in &failed {
        eprintln!(
            "seed {seed} fails; run it again with: PULSEWIRE_SIM_SEED={seed} cargo test --test sim_transport {test}"
        );
    }
    if let Some((_, panic)) = failed.into_iter().next() {
        resume_unwind(panic);
    }
    report
}

/// Which seeds are run.
struct Plan {
    seeds: Range<u64>,
    /// Also after one that fails.
    goes_on: bool,
}

impl Plan {
    fn of(scenario: &Scenario) -> Plan {
        let number = |text: &str| text.parse::<u64>().expect("a number");
        if let Ok(wanted) = env::var("PULSEWIRE_SIM_SEED") {
            let seeds = match wanted.split_once("..") {
                Some((first, end)) => number(first)..number(end),
                None => number(&wanted)..number(&wanted) + 1,
            };
            return Plan { seeds, goes_on: false };
        }
        match env::var("PULSEWIRE_SIM_SEEDS") {
            Ok(all) => Plan { seeds: 0..scenario.share_of(number(&all)), goes_on: true },
            Err(_) => Plan { seeds: 0..scenario.seeds, goes_on: false },
        }
    }
}

/// What one thread has done.
struct Share {
    report: Report,
    failed: Vec<(u64, Panic)>,
}

/// Takes one seed after the other; unless it goes on, until there are none below the lowest that has failed.
fn work(scenario: &Scenario, next: &AtomicU64, end: &AtomicU64, goes_on: bool) -> Share {
    let mut share = Share { report: Report::default(), failed: Vec::new() };
    loop {
        let seed = next.fetch_add(1, Relaxed);
        if seed >= end.load(Relaxed) {
            return share;
        }
        match catch_unwind(AssertUnwindSafe(|| (scenario.run)(seed))) {
            Ok(report) => share.report.add(&report),
            Err(panic) => {
                share.failed.push((seed, panic));
                if !goes_on {
                    end.fetch_min(seed, Relaxed);
                }
            }
        }
    }
}

//! Runs many seeds on all cores, and says which was the first to fail.

use std::any::Any;
use std::env;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use super::Report;

type Panic = Box<dyn Any + Send>;

/// Runs many seeds of a scenario, or the one that `PULSEWIRE_SIM_SEED` names; `PULSEWIRE_SIM_SEEDS` overrides how many.
///
/// # Panics
/// With what was wrong with the lowest seed that fails; before that it prints the seed and how to run it again.
pub fn run_seeds(test: &str, count: u64, run: impl Fn(u64) -> Report + Sync) -> Report {
    let number = |variable| env::var(variable).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (first, end) = match number("PULSEWIRE_SIM_SEED") {
        Some(seed) => (seed, seed + 1),
        None => (0, number("PULSEWIRE_SIM_SEEDS").unwrap_or(count)),
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (next, end) = (AtomicU64::new(first), AtomicU64::new(end));
    let work = || work(&run, &next, &end);
    let shares: Vec<Share> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("panics are caught")).collect()
    });
    let mut sum = Report::default();
    let mut worst: Option<(u64, Panic)> = None;
    for Share { report, failed } in shares {
        sum.add(&report);
        if let Some(failed) = failed.filter(|(seed, _)| worst.as_ref().is_none_or(|(worst, _)| seed < worst))
        {
            worst = Some(failed);
        }
    }
    if let Some((seed, panic)) = worst {
        eprintln!(
            "seed {seed} fails; run it again with: PULSEWIRE_SIM_SEED={seed} cargo test --test sim_transport {test}"
        );
        resume_unwind(panic);
    }
    sum
}

/// What one thread has done.
struct Share {
    report: Report,
    failed: Option<(u64, Panic)>,
}

/// Takes one seed after the other, until there are none below the lowest that has failed.
fn work(run: &impl Fn(u64) -> Report, next: &AtomicU64, end: &AtomicU64) -> Share {
    let mut share = Share { report: Report::default(), failed: None };
    loop {
        let seed = next.fetch_add(1, Relaxed);
        if seed >= end.load(Relaxed) {
            return share;
        }
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(report) => share.report.add(&report),
            Err(panic) => {
                end.fetch_min(seed, Relaxed);
                share.failed = Some((seed, panic));
                return share;
            }
        }
    }
}

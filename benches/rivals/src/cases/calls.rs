//! Calls: round trips, many callers, a pipeline, a bystander beside a flood.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Case, Figures};
use crate::peers::{self, Caller};
use crate::side::Side;
use crate::statistics::Times;
use crate::usage::Usage;
use crate::Result;

/// Payload where the case has no sizes, as small as an order.
const SMALL: usize = 16;
/// Payload of the flood beside the bystander.
const FLOOD: usize = 1_024;

/// The server's side of all of them: answers each request with its own bytes, and says what that took.
pub fn serve(side: &mut Side) -> Result<()> {
    let port = match side.spec.case {
        Case::Pipeline | Case::Fairness => peers::serve_pipeline(side.spec.peer)?,
        _ => peers::serve_calls(side.spec.peer)?,
    };
    side.say(&port.to_string())?;
    side.expect(BEGIN)?;
    let before = Usage::now()?;
    side.say(BEGIN)?;
    let calls: u64 = side.hear()?.parse()?;
    let mut figures = Figures::new();
    per_operation(&mut figures, Usage::now()?.since(before), calls);
    side.report(&figures)
}

/// What passes between the two sides before the first call that counts.
const BEGIN: &str = "begin";

/// Notes what one operation took.
pub fn per_operation(figures: &mut Figures, usage: Usage, operations: u64) {
    let operations = operations.max(1) as f64;
    figures.insert("cpu_ns".into(), usage.cpu.as_nanos() as f64 / operations);
    figures.insert("waits".into(), usage.waits as f64 / operations);
    figures.insert("preemptions".into(), usage.preemptions as f64 / operations);
}

fn warm(side: &Side) -> Duration {
    Duration::from_millis(side.spec.warm_ms)
}

fn run(side: &Side) -> Duration {
    Duration::from_millis(side.spec.run_ms)
}

/// Tells the server that it counts from here on.
fn begin(side: &mut Side) -> Result<Usage> {
    side.say(BEGIN)?;
    side.expect(BEGIN)?;
    Usage::now()
}

/// Tells the server how many calls that were, and hands the figures in. `all` are those of the warm-up as well.
fn end(side: &mut Side, calls: u64, all: u64, usage: Usage, mut figures: Figures) -> Result<()> {
    side.say(&calls.to_string())?;
    per_operation(&mut figures, usage, calls);
    figures.insert("operations".into(), all as f64);
    side.report(&figures)
}

fn call_for(length: Duration, caller: &mut dyn Caller, request: &[u8], times: &mut Times) -> Result<()> {
    let until = Instant::now() + length;
    let mut last = Instant::now();
    while last < until {
        let answer = caller.call(request)?;
        if answer != request.len() {
            return Err(format!("an answer of {answer} bytes to {}", request.len()).into());
        }
        let now = Instant::now();
        times.push_ns((now - last).as_nanos() as u64);
        last = now;
    }
    Ok(())
}

fn note_times(figures: &mut Figures, mut times: Times, took: Duration) {
    figures.insert("calls_per_s".into(), times.len() as f64 / took.as_secs_f64());
    figures.insert("p50_us".into(), times.percentile_us(0.5));
    figures.insert("p99_us".into(), times.percentile_us(0.99));
}

/// One caller, one request outstanding.
pub fn round_trips(side: &mut Side) -> Result<()> {
    let port = side.hear()?.parse()?;
    let mut callers = peers::callers(side.spec.peer, port, 1)?;
    let request = vec![0x5a; side.spec.parameter as usize];
    time_one(side, callers[0].as_mut(), &request)
}

fn time_one(side: &mut Side, caller: &mut dyn Caller, request: &[u8]) -> Result<()> {
    let mut unmeasured = Times::default();
    call_for(warm(side), caller, request, &mut unmeasured)?;
    let before = begin(side)?;
    let mut times = Times::with_capacity(1 << 20);
    let begun = Instant::now();
    call_for(run(side), caller, request, &mut times)?;
    let took = begun.elapsed();
    let usage = Usage::now()?.since(before);
    let calls = times.len() as u64;
    let mut figures = Figures::new();
    note_times(&mut figures, times, took);
    end(side, calls, calls + unmeasured.len() as u64, usage, figures)
}

/// Several threads in a closed loop.
pub fn callers(side: &mut Side) -> Result<()> {
    let port = side.hear()?.parse()?;
    let callers = peers::callers(side.spec.peer, port, side.spec.parameter as usize)?;
    let (calls, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let threads: Vec<_> = callers
        .into_iter()
        .map(|mut caller| {
            let (calls, over) = (Arc::clone(&calls), Arc::clone(&over));
            thread::spawn(move || -> Result<()> {
                while !over.load(Ordering::Relaxed) {
                    caller.call(&[0x5a; SMALL])?;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect();
    thread::sleep(warm(side));
    let before = begin(side)?;
    let (begun, first) = (Instant::now(), calls.load(Ordering::Relaxed));
    thread::sleep(run(side));
    let (took, made) = (begun.elapsed(), calls.load(Ordering::Relaxed) - first);
    let usage = Usage::now()?.since(before);
    over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().map_err(|_| "a caller panicked")??;
    }
    let rate = made as f64 / took.as_secs_f64();
    end(side, made, calls.load(Ordering::Relaxed), usage, Figures::from([("calls_per_s".into(), rate)]))
}

/// One thread with many requests outstanding.
pub fn pipeline(side: &mut Side) -> Result<()> {
    let port = side.hear()?.parse()?;
    let mut pipeline = peers::pipeline(side.spec.peer, port)?;
    let outstanding = side.spec.parameter as usize;
    let mut stop_after = |until: Instant, calls: &mut u64| -> Result<()> {
        pipeline.run(&[0x5a; SMALL], outstanding, &mut |answers| {
            *calls += answers;
            match Instant::now() < until {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })
    };
    // What is under way when it breaks off is answered in the next run, which ends with as many under way itself.
    let mut unmeasured = 0;
    stop_after(Instant::now() + warm(side), &mut unmeasured)?;
    let before = begin(side)?;
    let (begun, mut calls) = (Instant::now(), 0);
    stop_after(begun + run(side), &mut calls)?;
    let took = begun.elapsed();
    let usage = Usage::now()?.since(before);
    let rate = calls as f64 / took.as_secs_f64();
    end(side, calls, calls + unmeasured, usage, Figures::from([("calls_per_s".into(), rate)]))
}

/// One caller, and beside it, on a connection and a thread of its own, a flood or none.
pub fn bystander(side: &mut Side) -> Result<()> {
    let port = side.hear()?.parse()?;
    let outstanding = side.spec.parameter as usize;
    if outstanding > 0 {
        let mut flood = peers::pipeline(side.spec.peer, port)?;
        // It ends with the process.
        thread::spawn(move || flood.run(&[0xa5; FLOOD], outstanding, &mut |_| ControlFlow::Continue(())));
    }
    let mut caller = peers::bystander(side.spec.peer, port)?;
    time_one(side, caller.as_mut(), &[0x5a; SMALL])
}

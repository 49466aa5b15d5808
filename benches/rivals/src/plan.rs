//! Which cases, parameters, placements and peers are measured, in which order, and for how long.

use std::fs;

use crate::cases::{Case, Figures, Placement, Spec};
use crate::options::Options;
use crate::pair::{self, Found};
use crate::peers::Peer;
use crate::report::{self, Effort, Line, Measured, Results, Traced};
use crate::statistics::median;
use crate::{idle, machine, strace, Result};

/// Measures what was asked for and reports it.
pub fn run(options: Options) -> Result<()> {
    if let Some(file) = &options.render {
        let results = Results::read(file)?;
        let folder = options.out.as_deref().or_else(|| file.parent()).ok_or("a file without a folder")?;
        return report::write(&results, folder);
    }
    if let Some([first, second]) = &options.compare {
        print!("{}", report::compared(&Results::read(first)?, &Results::read(second)?));
        return Ok(());
    }
    if options.strace && !strace::is_there() {
        return Err("strace is not installed".into());
    }
    let mut results = Results::of(machine::Machine::here(), options.effort);
    for case in Case::ALL.into_iter().filter(|case| options.wants_case(*case)) {
        measure_case(&options, case, &mut results)?;
        if let Some(folder) = &options.out {
            // After each case, so that a run that is broken off has not been for nothing.
            report::write(&results, folder)?;
        }
    }
    results.push(Line::LoadAfter(machine::load()));
    print!("{}", report::verdicts(&results));
    match &options.out {
        Some(folder) => report::write(&results, folder),
        None => Ok(()),
    }
}

fn measure_case(options: &Options, case: Case, results: &mut Results) -> Result<()> {
    if case == Case::Idle {
        idle::build()?;
    }
    for parameter in case.parameters().iter().copied().filter(|value| options.wants_parameter(*value)) {
        // Idle connections are the same wherever they are.
        let placements: &[Placement] = if case == Case::Idle { &[Placement::Split] } else { &Placement::ALL };
        for placement in placements.iter().copied().filter(|placement| options.wants_placement(*placement)) {
            let cell = Cell { case, parameter, placement };
            let peers: Vec<Peer> = case
                .peers()
                .iter()
                .copied()
                .filter(|peer| options.wants_peer(*peer) && peer.missing().is_none())
                .collect();
            cell.measure(options, &peers, results);
            if options.strace && case != Case::Idle {
                cell.trace(options, &peers, results)?;
            }
        }
    }
    Ok(())
}

/// What is measured side by side.
#[derive(Debug, Clone, Copy)]
struct Cell {
    case: Case,
    parameter: u64,
    placement: Placement,
}

impl Cell {
    /// Every peer once in each repetition, in an order that rotates.
    fn measure(self, options: &Options, peers: &[Peer], results: &mut Results) {
        for repetition in 0..self.repetitions(options) {
            for turn in 0..peers.len() {
                let peer = peers[(turn + repetition) % peers.len()];
                let spec = self.spec(peer, options.effort);
                let found = match self.case {
                    Case::Idle => idle::measure(peer, self.parameter).map(Found::of_server),
                    _ => pair::measure(&spec, None),
                };
                let (found, error) = match found {
                    Ok(found) => (found, None),
                    Err(error) => (Found::default(), Some(error.to_string())),
                };
                let Found { server, client } = found;
                let Cell { case, parameter, placement } = self;
                results.push(Line::Measured(Measured {
                    case,
                    parameter,
                    placement,
                    repetition,
                    peer,
                    server,
                    client,
                    error,
                }));
            }
        }
        self.tell(peers, results);
    }

    fn repetitions(self, options: &Options) -> usize {
        let usual = match (options.effort, self.case) {
            (_, Case::Idle) if self.parameter >= 1_000 => 1, // A few pages more or less are nothing then.
            (Effort::Quick, _) => 3,
            (Effort::Full, _) => 5,
        };
        options.repetitions.unwrap_or(usual)
    }

    fn spec(self, peer: Peer, effort: Effort) -> Spec {
        let (warm_ms, run_ms) = match self.case {
            Case::RoundTrip => (50, 200),
            Case::Callers | Case::Pipeline | Case::Fairness => (100, 300),
            Case::Throughput | Case::FanOut | Case::Filter => (100, 250),
            Case::Paced => (100, 800),
            Case::Idle => (0, 0),
        };
        let longer = if effort == Effort::Full { 4 } else { 1 };
        let Cell { case, parameter, placement } = self;
        Spec { case, parameter, placement, peer, warm_ms, run_ms: run_ms * longer, deadline_s: 30 }
    }

    /// Counts the system calls of each peer, in a run that counts for nothing else.
    fn trace(self, options: &Options, peers: &[Peer], results: &mut Results) -> Result<()> {
        let folder = std::env::temp_dir().join(format!("rivals-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        for &peer in peers {
            let spec = Spec { run_ms: 150, ..self.spec(peer, options.effort) };
            let traced = pair::measure(&spec, Some(&folder)).and_then(|found| {
                let operations = found.operations();
                let per_operation = |end: &str| -> Result<Figures> {
                    let calls = strace::read_summary(&folder.join(end))?;
                    Ok(calls.into_iter().map(|(name, count)| (name, count as f64 / operations)).collect())
                };
                Ok((per_operation("server")?, per_operation("client")?))
            });
            let Cell { case, parameter, placement } = self;
            match traced {
                Ok((server, client)) => {
                    results.push(Line::Traced(Traced { case, parameter, placement, peer, server, client }));
                }
                Err(error) => eprintln!("strace of {}: {error}", peer.name()),
            }
        }
        fs::remove_dir_all(&folder)?;
        Ok(())
    }

    /// Says how it went, for whoever waits.
    fn tell(self, peers: &[Peer], results: &Results) {
        let Cell { case, parameter, placement } = self;
        eprintln!("{} {parameter} {}", case.name(), placement.name());
        for &peer in peers {
            let runs = results.runs(case, parameter, placement, peer);
            let error = runs.iter().find_map(|run| run.error.as_deref()).unwrap_or_default();
            let figures: Vec<String> = report::headline(case)
                .iter()
                .filter_map(|figure| {
                    let values: Vec<f64> = runs.iter().filter_map(|run| figure.of(run)).collect();
                    Some(format!("{} {}", figure.name(), report::number(median(&values)?)))
                })
                .collect();
            eprintln!("    {:18} {}  {error}", peer.name(), figures.join("   "));
        }
    }
}

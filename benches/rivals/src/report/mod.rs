//! What was measured, and what it says: lines of JSON, tables with verdicts, plots.

mod compare;
mod figures;
mod goals;
mod plot;
mod tables;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cases::{Case, Figures, Placement};
use crate::machine::Machine;
use crate::peers::Peer;
use crate::Result;

pub use compare::compared;
pub use figures::{headline, number, Figure};
pub use tables::verdicts;

/// One line of `results.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    Machine(Machine, Effort),
    Measured(Measured),
    Traced(Traced),
    LoadAfter(f64),
}

/// How long each measurement took, and how often it was repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    Quick,
    Full,
}

/// One measurement of one peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    pub case: Case,
    pub parameter: u64,
    pub placement: Placement,
    pub repetition: usize,
    pub peer: Peer,
    pub server: Figures,
    pub client: Figures,
    /// Why there are no figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// System calls per operation of one peer, by name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Traced {
    pub case: Case,
    pub parameter: u64,
    pub placement: Placement,
    pub peer: Peer,
    pub server: Figures,
    pub client: Figures,
}

/// All lines of one run.
#[derive(Debug)]
pub struct Results {
    lines: Vec<Line>,
}

impl Results {
    pub fn of(machine: Machine, effort: Effort) -> Self {
        Results { lines: vec![Line::Machine(machine, effort)] }
    }

    /// Figures are kept with five digits: the sixth is noise.
    pub fn push(&mut self, mut line: Line) {
        let figures = match &mut line {
            Line::Measured(Measured { server, client, .. }) | Line::Traced(Traced { server, client, .. }) => {
                Some(server.values_mut().chain(client.values_mut()))
            }
            _ => None,
        };
        for value in figures.into_iter().flatten() {
            *value = format!("{value:.4e}").parse().unwrap_or(*value);
        }
        self.lines.push(line);
    }

    pub fn read(path: &Path) -> Result<Self> {
        let mut lines = Vec::new();
        for line in BufReader::new(fs::File::open(path)?).lines() {
            lines.push(serde_json::from_str(&line?)?);
        }
        Ok(Results { lines })
    }

    fn write(&self, path: &Path) -> Result<()> {
        let mut file = fs::File::create(path)?;
        for line in &self.lines {
            writeln!(file, "{}", serde_json::to_string(line)?)?;
        }
        Ok(())
    }

    pub fn measured(&self) -> impl Iterator<Item = &Measured> {
        self.lines.iter().filter_map(|line| match line {
            Line::Measured(measured) => Some(measured),
            _ => None,
        })
    }

    pub fn traced(&self) -> impl Iterator<Item = &Traced> {
        self.lines.iter().filter_map(|line| match line {
            Line::Traced(traced) => Some(traced),
            _ => None,
        })
    }

    /// The repetitions of one peer, in order.
    pub fn runs(&self, case: Case, parameter: u64, placement: Placement, peer: Peer) -> Vec<&Measured> {
        let is_it = |run: &&Measured| {
            (run.case, run.parameter, run.placement, run.peer) == (case, parameter, placement, peer)
        };
        self.measured().filter(is_it).collect()
    }

    /// The values of a figure in the repetitions of one peer.
    fn values(
        &self,
        case: Case,
        parameter: u64,
        placement: Placement,
        peer: Peer,
        figure: &Figure,
    ) -> Vec<f64> {
        let runs = self.runs(case, parameter, placement, peer);
        runs.into_iter().filter_map(|run| figure.of(run)).collect()
    }
}

/// Writes everything into a folder.
pub fn write(results: &Results, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    results.write(&folder.join("results.jsonl"))?;
    for case in Case::ALL {
        if let Some(plot) = plot::of(results, case) {
            fs::write(folder.join(format!("{}.svg", case.name())), plot)?;
        }
    }
    fs::write(folder.join("report.md"), tables::page(results))?;
    Ok(())
}

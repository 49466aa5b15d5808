//! What was asked for on the command line.

use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use crate::cases::{Case, Placement};
use crate::peers::Peer;
use crate::report::Effort;
use crate::Result;

const HELP: &str = "\
Measures pulsewire beside bare TCP, bare mio and other messaging libraries, and writes a report.

  --quick                 short runs, three repetitions: 10 to 13 minutes on two cores (default)
  --full                  longer runs, five repetitions: several times as long
  --strace                count system calls per message in runs of their own as well (needs strace)
  --out FOLDER            where results.jsonl, report.md and the plots go
                          (default: benches/report, or nowhere if only a part is measured)
  --render FILE           write the report anew from a results.jsonl, without measuring
  --compare FILE FILE     say which verdicts of two runs differ, from their results.jsonl, without measuring

For development; each may be given several times:
  --case NAME             round-trip, callers, pipeline, throughput, fan-out, paced, filter, fairness, idle
  --parameter N           only this size, width or count of a case
  --placement NAME        split, one
  --peer NAME             raw, raw-yield, raw-batch, mio, libzmq, nng, message-io, pulsewire, pulsewire-bare, ...
  --repetitions N         instead of three or five
";

#[derive(Debug)]
pub struct Options {
    pub effort: Effort,
    pub repetitions: Option<usize>,
    pub cases: Vec<Case>,
    pub parameters: Vec<u64>,
    pub placements: Vec<Placement>,
    pub peers: Vec<Peer>,
    pub strace: bool,
    /// `None`: nothing is written.
    pub out: Option<PathBuf>,
    pub render: Option<PathBuf>,
    pub compare: Option<[PathBuf; 2]>,
}

impl Options {
    pub fn wants_case(&self, case: Case) -> bool {
        self.cases.is_empty() || self.cases.contains(&case)
    }

    pub fn wants_parameter(&self, parameter: u64) -> bool {
        self.parameters.is_empty() || self.parameters.contains(&parameter)
    }

    pub fn wants_placement(&self, placement: Placement) -> bool {
        self.placements.is_empty() || self.placements.contains(&placement)
    }

    pub fn wants_peer(&self, peer: Peer) -> bool {
        self.peers.is_empty() || self.peers.contains(&peer)
    }
}

/// Reads the command line.
///
/// # Errors
/// What is wrong with it.
pub fn parse() -> Result<Options> {
    let mut options = Options {
        effort: Effort::Quick,
        repetitions: None,
        cases: Vec::new(),
        parameters: Vec::new(),
        placements: Vec::new(),
        peers: Vec::new(),
        strace: false,
        out: None,
        render: None,
        compare: None,
    };
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("quick") => options.effort = Effort::Quick,
            Arg::Long("full") => options.effort = Effort::Full,
            Arg::Long("strace") => options.strace = true,
            Arg::Long("out") => options.out = Some(parser.value()?.into()),
            Arg::Long("render") => options.render = Some(parser.value()?.into()),
            Arg::Long("compare") => {
                options.compare = Some([parser.value()?.into(), parser.value()?.into()]);
            }
            Arg::Long("repetitions") => options.repetitions = Some(parser.value()?.parse()?),
            Arg::Long("parameter") => options.parameters.push(parser.value()?.parse()?),
            Arg::Long("case") => options.cases.push(named(&mut parser, &Case::ALL, |case| case.name())?),
            Arg::Long("peer") => options.peers.push(named(&mut parser, &Peer::ALL, |peer| peer.name())?),
            Arg::Long("placement") => {
                options.placements.push(named(&mut parser, &Placement::ALL, |placement| placement.name())?);
            }
            Arg::Long("help") | Arg::Short('h') => {
                print!("{HELP}");
                std::process::exit(0);
            }
            argument => return Err(argument.unexpected().into()),
        }
    }
    let is_whole = options.cases.is_empty()
        && options.parameters.is_empty()
        && options.placements.is_empty()
        && options.peers.is_empty();
    if options.out.is_none() && is_whole {
        options.out = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../report").into());
    }
    Ok(options)
}

fn named<T: Copy>(parser: &mut Parser, all: &[T], name: impl Fn(&T) -> &'static str) -> Result<T> {
    let wanted = parser.value()?.string()?;
    let found = all.iter().copied().find(|candidate| name(candidate) == wanted);
    found
        .ok_or_else(|| format!("{wanted:?} is none of {:?}", all.iter().map(name).collect::<Vec<_>>()).into())
}

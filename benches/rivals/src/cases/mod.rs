//! What is done and measured. A case has a parameter (a size, a width), two sides, and figures as its outcome.

mod calls;
mod publications;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::peers::Peer;
use crate::side::{End, Side};
use crate::Result;

/// What was found, by name; the names end in their unit.
pub type Figures = BTreeMap<String, f64>;

/// One measurement, as its two processes are told of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    pub case: Case,
    /// What [`Case::parameters`] says.
    pub parameter: u64,
    pub placement: Placement,
    pub peer: Peer,
    /// Before anything counts.
    pub warm_ms: u64,
    /// While everything counts.
    pub run_ms: u64,
    /// When both processes are ended, whatever they do.
    pub deadline_s: u32,
}

/// Where the two processes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// The server's side on core 0, the client's on core 1.
    Split,
    /// Both on core 0.
    One,
}

impl Placement {
    pub const ALL: [Placement; 2] = [Placement::Split, Placement::One];

    pub fn name(self) -> &'static str {
        match self {
            Placement::Split => "split",
            Placement::One => "one",
        }
    }

    pub fn core(self, end: End) -> usize {
        usize::from(self == Placement::Split && end == End::Client)
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// One caller, one request outstanding.
    RoundTrip,
    /// Eight callers in a closed loop.
    Callers,
    /// One caller, 64 requests outstanding.
    Pipeline,
    /// One publisher, one subscriber, as fast as it goes.
    Throughput,
    /// One publisher, many subscribers, as fast as it goes.
    FanOut,
    /// One publisher, one subscriber, 10 000 messages per second.
    Paced,
    /// One publisher of a thousand topics, one subscriber to one of them.
    Filter,
    /// The round trip of a bystander, beside a flood or not.
    Fairness,
    /// Connections that do nothing.
    Idle,
}

impl Case {
    pub const ALL: [Case; 9] = [
        Case::RoundTrip,
        Case::Callers,
        Case::Pipeline,
        Case::Throughput,
        Case::FanOut,
        Case::Paced,
        Case::Filter,
        Case::Fairness,
        Case::Idle,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Case::RoundTrip => "round-trip",
            Case::Callers => "callers",
            Case::Pipeline => "pipeline",
            Case::Throughput => "throughput",
            Case::FanOut => "fan-out",
            Case::Paced => "paced",
            Case::Filter => "filter",
            Case::Fairness => "fairness",
            Case::Idle => "idle",
        }
    }

    /// The parameters it is measured with: bytes of payload; callers; calls outstanding; subscribers; messages per
    /// second; prefixes held by others; calls outstanding in the flood beside it; connections.
    pub fn parameters(self) -> &'static [u64] {
        match self {
            Case::RoundTrip => &[16, 256, 4_096, 65_536, 262_144, 1_048_576],
            Case::Callers => &[8],
            Case::Pipeline => &[64],
            Case::Throughput => &[16, 64, 256, 1_024, 16_384],
            Case::FanOut => &[8, 64, 256],
            Case::Paced => &[10_000],
            Case::Filter => &[0, 10_000],
            Case::Fairness => &[0, 64],
            Case::Idle => &[0, 100, 1_000, 10_000],
        }
    }

    /// Who takes part.
    pub fn peers(self) -> &'static [Peer] {
        use Peer::*;
        match self {
            Case::RoundTrip => {
                &[Raw, RawYield, Mio, Zmq, Nng, Pulsewire, PulsewireNoPolling, PulsewireWorker, PulsewireBare]
            }
            Case::Callers => &[Raw, Mio, Zmq, Nng, Pulsewire, PulsewireNoPolling],
            Case::Pipeline => &[Raw, Mio, Zmq, Pulsewire, PulsewireNoPolling],
            Case::Throughput => {
                &[RawBatch, Raw, Mio, Zmq, Nng, MessageIo, Pulsewire, PulsewireFlood, PulsewireBare]
            }
            Case::FanOut => &[RawBatch, Mio, Zmq, Nng, MessageIo, Pulsewire, PulsewireBare],
            Case::Paced => &[Raw, Mio, Zmq, Nng, MessageIo, Pulsewire, PulsewireBare],
            Case::Filter => &[Zmq, Nng, Pulsewire, PulsewireBare],
            Case::Fairness => &[Raw, Mio, Zmq, Pulsewire],
            Case::Idle => &[Raw, Mio, Zmq, Nng, MessageIo, Pulsewire],
        }
    }
}

/// Does this process's part.
pub fn play(side: &mut Side) -> Result<()> {
    match (side.spec.case, side.end) {
        (Case::RoundTrip | Case::Callers | Case::Pipeline | Case::Fairness, End::Server) => {
            calls::serve(side)
        }
        (Case::RoundTrip, End::Client) => calls::round_trips(side),
        (Case::Callers, End::Client) => calls::callers(side),
        (Case::Pipeline, End::Client) => calls::pipeline(side),
        (Case::Fairness, End::Client) => calls::bystander(side),
        (Case::Throughput | Case::FanOut | Case::Paced | Case::Filter, End::Server) => {
            publications::publish(side)
        }
        (Case::Throughput | Case::FanOut | Case::Paced | Case::Filter, End::Client) => {
            publications::subscribe(side)
        }
        (Case::Idle, _) => Err("idle servers are programs of their own".into()),
    }
}

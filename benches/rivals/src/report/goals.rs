//! What pulsewire is after, in one table. Ratios are taken in one run, as absolute figures move from machine to machine.

use std::fmt;

use super::figures::{
    Figure, BINARY, BOTH_CPU, CALLS, CLIENT_WAITS, DELIVERY_CPU, LOST, MESSAGES, P50, P99, PUBLICATION,
    PUBLICATIONS, RESIDENT, SERVER_WAITS, THREADS, UNREPORTED, WAKE_UPS, WIRE,
};
use super::{Results, Traced};
use crate::cases::{Case, Placement};
use crate::peers::Peer;
use crate::statistics::median;

/// One thing to reach.
pub struct Goal {
    pub case: Case,
    pub parameters: &'static [u64],
    pub placements: &'static [Placement],
    pub ours: Peer,
    pub what: What,
    pub against: Against,
    /// The most of what is better lower, the least of all else.
    pub limit: f64,
    /// The value is a count that no noise touches: reaching the limit is enough.
    pub is_count: bool,
}

/// What is compared.
#[derive(Clone, Copy)]
pub enum What {
    Figure(Figure),
    /// System calls of the side that makes more of them; only known if they were counted.
    SystemCalls,
}

/// What it is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// Nothing: the limit is a value.
    Value,
    /// The same figure of another peer.
    Peer(Peer),
    /// The same figure of our own with another parameter.
    Parameter(u64),
    /// What each unit of the parameter adds to our figure with none.
    PerUnit,
}

/// How a goal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Met,
    /// Within a tenth of the limit, on either side, or on another side in some repetition.
    Near,
    NotMet,
    /// There is no figure.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Met => "**met**",
            Verdict::Near => "near",
            Verdict::NotMet => "not met",
            Verdict::Unknown => "not measured",
        })
    }
}

const BOTH: &[Placement] = &Placement::ALL;
const SPLIT: &[Placement] = &[Placement::Split];
const ONE: &[Placement] = &[Placement::One];
const SMALL: &[u64] = &[16, 256, 4_096];
const ZMQ: Against = Against::Peer(Peer::Zmq);
const RAW: Against = Against::Peer(Peer::Raw);
const BATCH: Against = Against::Peer(Peer::RawBatch);

const fn goal(
    case: Case,
    parameters: &'static [u64],
    placements: &'static [Placement],
    figure: Figure,
    against: Against,
    limit: f64,
) -> Goal {
    let what = What::Figure(figure);
    Goal { case, parameters, placements, ours: Peer::Pulsewire, what, against, limit, is_count: false }
}

const fn of(ours: Peer, goal: Goal) -> Goal {
    Goal { ours, ..goal }
}

const fn count(goal: Goal) -> Goal {
    Goal { is_count: true, ..goal }
}

pub const GOALS: &[Goal] = &[
    // A round trip is two wake-ups and little else; polling saves them.
    goal(Case::RoundTrip, SMALL, SPLIT, P50, ZMQ, 0.15),
    goal(Case::RoundTrip, SMALL, ONE, P50, ZMQ, 0.36),
    goal(Case::RoundTrip, SMALL, ONE, P50, RAW, 1.15),
    goal(Case::RoundTrip, &[65_536], BOTH, P50, ZMQ, 0.30),
    of(Peer::PulsewireNoPolling, goal(Case::RoundTrip, SMALL, SPLIT, P50, RAW, 1.10)),
    of(Peer::PulsewireNoPolling, goal(Case::RoundTrip, SMALL, SPLIT, P50, ZMQ, 0.80)),
    of(Peer::PulsewireNoPolling, goal(Case::RoundTrip, SMALL, ONE, P50, RAW, 1.25)),
    count(of(
        Peer::PulsewireNoPolling,
        goal(Case::RoundTrip, SMALL, BOTH, SERVER_WAITS, Against::Value, 1.0),
    )),
    count(of(
        Peer::PulsewireNoPolling,
        goal(Case::RoundTrip, SMALL, BOTH, CLIENT_WAITS, Against::Value, 1.0),
    )),
    of(
        Peer::PulsewireNoPolling,
        Goal { what: What::SystemCalls, ..goal(Case::RoundTrip, SMALL, BOTH, P50, Against::Value, 3.0) },
    ),
    of(Peer::PulsewireWorker, goal(Case::RoundTrip, SMALL, BOTH, P50, RAW, 1.6)),
    goal(Case::Callers, &[8], SPLIT, CALLS, ZMQ, 2.0),
    goal(Case::Callers, &[8], ONE, CALLS, ZMQ, 2.75),
    goal(Case::Pipeline, &[64], SPLIT, CALLS, ZMQ, 5.0),
    goal(Case::Pipeline, &[64], ONE, CALLS, ZMQ, 3.5),
    goal(Case::Throughput, &[16, 64, 256, 1_024], BOTH, MESSAGES, ZMQ, 4.0),
    goal(Case::Throughput, &[16, 64], BOTH, MESSAGES, BATCH, 0.35),
    goal(Case::Throughput, &[256, 1_024], BOTH, MESSAGES, BATCH, 0.60),
    goal(Case::Throughput, &[16_384], BOTH, MESSAGES, ZMQ, 3.0),
    goal(Case::Throughput, &[16, 64, 256, 1_024, 16_384], BOTH, LOST, Against::Value, 0.0),
    of(
        Peer::PulsewireFlood,
        goal(Case::Throughput, &[16, 64, 256, 1_024, 16_384], BOTH, UNREPORTED, Against::Value, 0.0),
    ),
    goal(Case::FanOut, &[8, 64, 256], SPLIT, MESSAGES, ZMQ, 6.0),
    goal(Case::FanOut, &[8, 64, 256], ONE, MESSAGES, ZMQ, 4.0),
    goal(Case::FanOut, &[8, 64, 256], BOTH, DELIVERY_CPU, Against::Value, 65.0),
    goal(Case::Paced, &[10_000], SPLIT, P50, RAW, 1.10),
    goal(Case::Paced, &[10_000], ONE, P50, RAW, 1.15),
    goal(Case::Paced, &[10_000], BOTH, BOTH_CPU, RAW, 1.10),
    goal(Case::Filter, &[0], BOTH, PUBLICATIONS, ZMQ, 3.5),
    goal(Case::Filter, &[0], BOTH, PUBLICATION, Against::Value, 25.0),
    goal(Case::Filter, &[0, 10_000], BOTH, WIRE, Against::Value, 0.2),
    goal(Case::Filter, &[10_000], BOTH, PUBLICATIONS, Against::Parameter(0), 0.8),
    // Nobody's neighbour waits longer than it would with libzmq.
    goal(Case::Fairness, &[64], BOTH, P99, ZMQ, 1.0),
    goal(Case::Idle, &[0], SPLIT, RESIDENT, Against::Value, 3_000.0),
    goal(Case::Idle, &[100, 1_000, 10_000], SPLIT, RESIDENT, Against::PerUnit, 1.0),
    count(goal(Case::Idle, &[0, 100, 1_000, 10_000], SPLIT, THREADS, Against::Value, 3.0)),
    count(goal(Case::Idle, &[0, 100], SPLIT, WAKE_UPS, Against::Value, 0.0)),
    count(goal(Case::Idle, &[0], SPLIT, BINARY, Against::Value, 450.0)),
];

/// A goal with one parameter in one placement, and how it stands.
pub struct Standing<'a> {
    pub goal: &'a Goal,
    pub parameter: u64,
    pub placement: Placement,
    /// What is compared with the limit.
    pub value: Option<f64>,
    pub verdict: Verdict,
}

/// All goals of a case, as they stand.
pub fn standings(results: &Results, case: Case) -> Vec<Standing<'static>> {
    let mut standings = Vec::new();
    for goal in GOALS.iter().filter(|goal| goal.case == case) {
        for &parameter in goal.parameters {
            for &placement in goal.placements {
                let values = goal.values(results, parameter, placement);
                let value = median(&values);
                let verdict = goal.judge(value, &values);
                standings.push(Standing { goal, parameter, placement, value, verdict });
            }
        }
    }
    standings
}

impl Goal {
    /// What is compared with the limit, in each repetition.
    fn values(&self, results: &Results, parameter: u64, placement: Placement) -> Vec<f64> {
        let figure = match self.what {
            What::Figure(figure) => figure,
            What::SystemCalls => {
                return self.system_calls(results, parameter, placement).into_iter().collect();
            }
        };
        let of = |peer, parameter| results.values(self.case, parameter, placement, peer, &figure);
        let ours = of(self.ours, parameter);
        let ratios =
            |theirs: Vec<f64>| -> Vec<f64> { ours.iter().zip(theirs).map(|(us, them)| us / them).collect() };
        match self.against {
            Against::Value => ours,
            Against::Peer(peer) => ratios(of(peer, parameter)),
            Against::Parameter(other) => ratios(of(self.ours, other)),
            Against::PerUnit => {
                let added = |none: f64, all: f64| (all - none) / parameter as f64;
                let none = of(self.ours, 0);
                none.into_iter().zip(ours).map(|(none, all)| added(none, all)).collect()
            }
        }
    }

    fn system_calls(&self, results: &Results, parameter: u64, placement: Placement) -> Option<f64> {
        let is_it = |traced: &&Traced| {
            (traced.case, traced.parameter, traced.placement, traced.peer)
                == (self.case, parameter, placement, self.ours)
        };
        let traced = results.traced().find(is_it)?;
        let calls = |figures: &crate::cases::Figures| figures.values().sum::<f64>();
        Some(calls(&traced.server).max(calls(&traced.client)))
    }

    fn is_better_lower(&self) -> bool {
        match self.what {
            What::Figure(figure) => figure.is_better_lower(),
            What::SystemCalls => true,
        }
    }

    fn judge(&self, value: Option<f64>, values: &[f64]) -> Verdict {
        let Some(value) = value else { return Verdict::Unknown };
        /// What the words between the two sides add.
        const SLACK: f64 = 0.01;
        if self.is_count && value <= self.limit + SLACK {
            return Verdict::Met;
        }
        judge(value, values, self.limit, self.is_better_lower())
    }

    /// The goal in words.
    pub fn text(&self) -> String {
        let sign = if self.is_better_lower() { "<=" } else { ">=" };
        match self.against {
            Against::Value => format!("{sign} {}", self.limit),
            Against::Peer(peer) => format!("{sign} {} x {}", self.limit, peer.name()),
            Against::Parameter(other) => format!("{sign} {} x that with {other}", self.limit),
            Against::PerUnit => format!("{sign} {} more for each", self.limit),
        }
    }

    pub fn title(&self) -> String {
        match self.what {
            What::Figure(figure) => figure.title(),
            What::SystemCalls => "system calls of either side".into(),
        }
    }
}

/// How a median stands, and the repetitions that it is of.
fn judge(value: f64, values: &[f64], limit: f64, is_better_lower: bool) -> Verdict {
    const NEAR: f64 = 0.10;
    let meets = |value: f64| if is_better_lower { value <= limit } else { value >= limit };
    let is_close = (value / limit - 1.0).abs() <= NEAR;
    // Nothing lost is nothing lost in any of them.
    if limit > 0.0 && (is_close || values.iter().any(|other| meets(*other) != meets(value))) {
        Verdict::Near
    } else if meets(value) {
        Verdict::Met
    } else {
        Verdict::NotMet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_leave_a_tenth_to_the_noise() {
        assert_eq!(judge(0.13, &[], 0.15, true), Verdict::Met);
        assert_eq!(judge(0.14, &[], 0.15, true), Verdict::Near);
        assert_eq!(judge(0.16, &[], 0.15, true), Verdict::Near);
        assert_eq!(judge(0.17, &[], 0.15, true), Verdict::NotMet);
        assert_eq!(judge(4.5, &[], 4.0, false), Verdict::Met);
        assert_eq!(judge(3.5, &[], 4.0, false), Verdict::NotMet);
    }

    #[test]
    fn repetitions_that_do_not_agree_decide_nothing() {
        assert_eq!(judge(9.0, &[5.0, 9.0, 9.5], 6.0, false), Verdict::Near);
        assert_eq!(judge(5.0, &[4.9, 5.0, 9.5], 6.0, false), Verdict::Near);
        assert_eq!(judge(9.0, &[7.0, 9.0, 9.5], 6.0, false), Verdict::Met);
        assert_eq!(judge(5.0, &[4.9, 5.0, 5.9], 6.0, false), Verdict::NotMet);
    }

    #[test]
    fn nothing_lost_is_met_and_one_lost_is_not() {
        assert_eq!(judge(0.0, &[0.0], 0.0, true), Verdict::Met);
        assert_eq!(judge(0.000_1, &[0.000_1], 0.0, true), Verdict::NotMet);
    }

    #[test]
    fn goals_speak_of_what_is_measured() {
        for goal in GOALS {
            assert!(goal.parameters.iter().all(|value| goal.case.parameters().contains(value)));
            assert!(goal.case.peers().contains(&goal.ours), "{} in {}", goal.ours.name(), goal.case.name());
            if let Against::Peer(peer) = goal.against {
                assert!(goal.case.peers().contains(&peer), "{} in {}", peer.name(), goal.case.name());
            }
        }
    }
}

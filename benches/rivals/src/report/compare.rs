//! Whether two runs come to the same verdicts.

use std::fmt::Write;

use super::goals::{standings, Standing, Verdict};
use super::tables::parameter_text;
use super::{number, Results};
use crate::cases::Case;

/// What has become of a verdict from one run to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Same,
    /// To or from *near*: a tenth of the limit is little more than the noise.
    Step,
    /// From met to not met, or back.
    Turned,
}

impl Change {
    /// `None`: one of the runs has no figure.
    fn of(first: Verdict, second: Verdict) -> Option<Change> {
        match (first, second) {
            (Verdict::Unknown, _) | (_, Verdict::Unknown) => None,
            _ if first == second => Some(Change::Same),
            (Verdict::Near, _) | (_, Verdict::Near) => Some(Change::Step),
            _ => Some(Change::Turned),
        }
    }
}

/// The verdicts that are not the same in both runs, and how many there are.
pub fn compared(first: &Results, second: &Results) -> String {
    let (mut text, mut same, mut steps, mut turned) = (String::new(), 0, 0, 0);
    for case in Case::ALL {
        for (one, other) in standings(first, case).iter().zip(standings(second, case)) {
            match Change::of(one.verdict, other.verdict) {
                None => {}
                Some(Change::Same) => same += 1,
                Some(change) => {
                    *if change == Change::Step { &mut steps } else { &mut turned } += 1;
                    line(&mut text, case, one, &other);
                }
            }
        }
    }
    let all = same + steps + turned;
    let _ = writeln!(
        text,
        "{same} of {all} verdicts are the same, {steps} moved to or from near, {turned} turned round."
    );
    text
}

fn line(text: &mut String, case: Case, one: &Standing<'_>, other: &Standing<'_>) {
    let value = |standing: &Standing<'_>| standing.value.map_or_else(String::new, number);
    let words = [
        case.name().into(),
        one.goal.ours.name().into(),
        parameter_text(case, one.parameter),
        one.placement.name().into(),
        format!("{} {}:", one.goal.title(), one.goal.text()),
        format!("{} {}, then {} {}", value(one), one.verdict, value(other), other.verdict),
    ];
    let _ = writeln!(text, "{}", words.join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_moves_a_step_or_turns_round() {
        assert_eq!(Change::of(Verdict::Met, Verdict::Met), Some(Change::Same));
        assert_eq!(Change::of(Verdict::Near, Verdict::NotMet), Some(Change::Step));
        assert_eq!(Change::of(Verdict::NotMet, Verdict::Met), Some(Change::Turned));
        assert_eq!(Change::of(Verdict::Unknown, Verdict::Met), None);
    }
}

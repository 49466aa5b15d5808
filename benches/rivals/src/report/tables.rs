//! The report as a page of Markdown.

use std::fmt::Write as _;

use super::figures::{headline, number, Figure};
use super::goals::{standings, Against, Standing, Verdict, What};
use super::{Effort, Line, Results};
use crate::cases::{Case, Placement};
use crate::peers::Peer;
use crate::statistics::{median, spread};

/// The whole page.
pub fn page(results: &Results) -> String {
    let mut page = String::from("# Side by side\n\n");
    introduce(&mut page, results);
    page.push_str("## How the goals stand\n\n");
    page.push_str(&verdicts(results));
    for case in Case::ALL.into_iter().filter(|case| results.measured().any(|run| run.case == *case)) {
        describe(&mut page, results, case);
    }
    page
}

/// Adds a line. Writing to a string cannot fail.
macro_rules! line {
    ($page:expr) => { $page.push('\n') };
    ($page:expr, $($text:tt)*) => {{
        let _ = writeln!($page, $($text)*);
    }};
}

fn introduce(page: &mut String, results: &Results) {
    let machine = results.lines.iter().find_map(|line| match line {
        Line::Machine(machine, effort) => Some((machine, *effort)),
        _ => None,
    });
    let load_after = results.lines.iter().find_map(|line| match line {
        Line::LoadAfter(load) => Some(*load),
        _ => None,
    });
    if let Some((machine, effort)) = machine {
        let size = if effort == Effort::Full { "full" } else { "quick" };
        let kind = if machine.is_virtual { "a virtual machine" } else { "a machine" };
        let versions: Vec<String> =
            machine.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        line!(
            page,
            "A {size} run of {}, commit {}, on {kind} with {} cores ({}) and {} MiB of memory, {}, {}; {}.",
            machine.date,
            machine.commit,
            machine.cores,
            machine.processor,
            machine.memory_mib,
            machine.kernel,
            machine.compiler,
            versions.join(", ")
        );
        line!(
            page,
            "Load in the minute before it: {:.2}{}.",
            machine.load_before,
            load_after.map_or_else(String::new, |load| format!(", in its last minute: {load:.2}"))
        );
    }
    if machine.is_some_and(|(machine, _)| machine.load_before > QUIET) {
        line!(page, "**The machine was busy with something else**: take this report as a sketch, and its 99th percentiles for nothing.");
    }
    let missing: Vec<String> = Peer::ALL
        .into_iter()
        .filter(|peer| !results.measured().any(|run| run.peer == *peer))
        .map(|peer| format!("{} ({})", peer.name(), peer.missing().unwrap_or("not asked for")))
        .collect();
    if !missing.is_empty() {
        line!(page, "Not in this run: {}.", missing.join("; "));
    }
    page.push_str(NOTES);
}

/// Runnable threads at which a machine still counts as quiet.
const QUIET: f64 = 0.5;

const NOTES: &str = "
Each measurement is two processes over loopback TCP, the server's side and the client's, pinned to a core each (*split*:
waking the other core dominates) or both to one (*one*: the length of the path dominates). The peers of a case take turns
within a repetition, in an order that rotates; figures are medians over the repetitions, and ratios are formed inside each
repetition before the median is taken. **Compare ratios, not absolute figures**: these move from machine to machine and
from minute to minute.

* *raw* is `std::net`, blocking, `TCP_NODELAY`, one write for each message; *raw-yield* tries for up to 50 us, yielding the
  core, before it sleeps; *raw-batch* copies messages into 64 KiB and writes those whole: the practical limit.
* *mio* is a `mio::Poll` and its `TcpStream`s with nothing on top: the floor for anything on that event loop.
* *pulsewire* is `RpcServer` and `RpcClient` with their default limits; calls encode and decode their values,
  publications are bytes. *pulsewire-worker* calls a function in a lane instead of an inline one; *pulsewire-bare* are the
  bare sockets, which have no threads. The stream of publications loses nothing: its policy is to wait for whoever is slow;
  that of *pulsewire-flood* is to skip, and what the log cannot hold is reported to the subscriber as lost.
* *libzmq* is as the crate `zmq` builds it, with one I/O thread on each side; REQ and REP, DEALER and ROUTER in the
  pipeline, XPUB (waiting instead of dropping) and SUB. *nng* and *message-io* use their defaults; NNG drops what a slow
  subscriber has no room for, and filters on the subscriber's side; message-io has no topics.

*near* is within a tenth of the goal, on either side of it, or where the repetitions do not agree on which side it is. *Waits*
are the times that a thread of that side gave its core up, for each operation.

";

/// All goals in one table.
pub fn verdicts(results: &Results) -> String {
    let mut page = String::new();
    line!(page, "| case | | placement | figure | goal | now | verdict |");
    line!(page, "|---|---|---|---|---|---|---|");
    let mut count = [0; 3];
    for case in Case::ALL {
        for Standing { goal, parameter, placement, value, verdict } in standings(results, case) {
            count[match verdict {
                Verdict::Met => 0,
                Verdict::Near => 1,
                Verdict::NotMet => 2,
                Verdict::Unknown => continue,
            }] += 1;
            let ours = if goal.ours == Peer::Pulsewire {
                ""
            } else {
                goal.ours.name().trim_start_matches("pulsewire-")
            };
            line!(
                page,
                "| {} {ours} | {} | {} | {} | {} | {} | {verdict} |",
                case.name(),
                parameter_text(case, parameter),
                place(case, placement),
                goal.title(),
                goal.text(),
                value.map_or_else(String::new, number)
            );
        }
    }
    let [met, near, not_met] = count;
    line!(page);
    line!(
        page,
        "{met} met, {near} near, {not_met} not met: [missed.md](missed.md) says why, and what was tried."
    );
    line!(page);
    page
}

fn describe(page: &mut String, results: &Results, case: Case) {
    line!(page, "## {}\n", title(case));
    line!(page, "![{}]({}.svg)\n", title(case), case.name());
    let measured: Vec<u64> = case
        .parameters()
        .iter()
        .copied()
        .filter(|parameter| results.measured().any(|run| (run.case, run.parameter) == (case, *parameter)))
        .collect();
    for placement in placements(case) {
        if case != Case::Idle {
            line!(page, "### {}\n", placement.name());
        }
        compare(page, results, case, &measured, *placement);
        for figure in headline(case) {
            tabulate(page, results, case, &measured, *placement, figure);
        }
        system_calls(page, results, case, *placement);
    }
}

fn placements(case: Case) -> &'static [Placement] {
    if case == Case::Idle {
        &[Placement::Split]
    } else {
        &Placement::ALL
    }
}

fn place(case: Case, placement: Placement) -> &'static str {
    if case == Case::Idle {
        ""
    } else {
        placement.name()
    }
}

pub fn title(case: Case) -> &'static str {
    match case {
        Case::RoundTrip => "Round trip, one request outstanding",
        Case::Callers => "Eight callers in a closed loop, 16 B",
        Case::Pipeline => "Pipelined calls from one caller, 16 B",
        Case::Throughput => "One publisher to one subscriber",
        Case::FanOut => "Fan-out, 256 B, deliveries to all subscribers together",
        Case::Paced => "Paced: 256 B, one way",
        Case::Filter => "Filter: one subscriber on 1 of 1 000 topics, 64 B",
        Case::Fairness => "A bystander's round trip, 16 B, beside a flood of 1 KiB calls",
        Case::Idle => "The smallest server, and idle connections",
    }
}

pub fn parameter_text(case: Case, parameter: u64) -> String {
    match case {
        Case::RoundTrip | Case::Throughput if parameter >= 1_024 => format!("{} KiB", parameter / 1_024),
        Case::RoundTrip | Case::Throughput => format!("{parameter} B"),
        Case::Callers => format!("{parameter} callers"),
        Case::Pipeline => format!("{parameter} outstanding"),
        Case::FanOut => format!("{parameter} subscribers"),
        Case::Paced => format!("{parameter}/s"),
        Case::Filter if parameter == 0 => "nobody else".into(),
        Case::Filter => format!("{parameter} other prefixes"),
        Case::Fairness if parameter == 0 => "no flood".into(),
        Case::Fairness => format!("{parameter} calls in flood"),
        Case::Idle => format!("{parameter} connections"),
    }
}

/// Our headline figure and its ratios to the three that matter.
fn compare(page: &mut String, results: &Results, case: Case, parameters: &[u64], placement: Placement) {
    let figure = &headline(case)[0];
    let raw = if matches!(case, Case::Throughput | Case::FanOut) { Peer::RawBatch } else { Peer::Raw };
    let others = [Peer::Zmq, raw, Peer::Mio];
    line!(
        page,
        "| {} | | ours | x {} | x {} | x {} | goals |",
        figure.title(),
        others[0].name(),
        others[1].name(),
        others[2].name()
    );
    line!(page, "|---|---|---|---|---|---|---|");
    for &parameter in parameters {
        for ours in case.peers().iter().copied().filter(|peer| peer.is_ours()) {
            let values = results.values(case, parameter, placement, ours, figure);
            let Some(value) = median(&values) else { continue };
            let _ =
                write!(page, "| {} | {} | {} |", parameter_text(case, parameter), ours.name(), number(value));
            for other in others {
                let theirs = results.values(case, parameter, placement, other, figure);
                let ratios: Vec<f64> = values.iter().zip(theirs).map(|(us, them)| us / them).collect();
                let _ = write!(page, " {} |", median(&ratios).map_or_else(String::new, number));
            }
            let goals: Vec<String> = standings(results, case)
                .into_iter()
                .filter(|standing| {
                    let is_headline =
                        matches!(standing.goal.what, What::Figure(of) if of.title() == figure.title());
                    is_headline
                        && matches!(standing.goal.against, Against::Peer(_) | Against::Value)
                        && (standing.parameter, standing.placement, standing.goal.ours)
                            == (parameter, placement, ours)
                })
                .map(|standing| format!("{}: {}", standing.goal.text(), standing.verdict))
                .collect();
            line!(page, " {} |", goals.join("; "));
        }
    }
    line!(page);
}

/// A figure of all peers, with how far the repetitions differ.
fn tabulate(
    page: &mut String,
    results: &Results,
    case: Case,
    parameters: &[u64],
    placement: Placement,
    figure: &Figure,
) {
    let mut rows = String::new();
    for &peer in case.peers() {
        let cells: Vec<String> = parameters
            .iter()
            .map(|&parameter| {
                let values = results.values(case, parameter, placement, peer, figure);
                let Some(value) = median(&values) else {
                    let runs = results.runs(case, parameter, placement, peer);
                    let has_failed = runs.iter().any(|run| run.error.is_some());
                    return String::from(if has_failed { "failed" } else { "" });
                };
                match spread(&values) {
                    Some(spread) if spread >= 0.05 && values.len() > 1 => {
                        format!("{} ± {:.0} %", number(value), spread * 100.0)
                    }
                    _ => number(value),
                }
            })
            .collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            line!(rows, "| {} | {} |", peer.name(), cells.join(" | "));
        }
    }
    if rows.is_empty() {
        return;
    }
    let heads: Vec<String> = parameters.iter().map(|parameter| parameter_text(case, *parameter)).collect();
    line!(page, "| {} | {} |", figure.title(), heads.join(" | "));
    line!(page, "|---|{}", "---|".repeat(parameters.len()));
    page.push_str(&rows);
    line!(page);
}

fn system_calls(page: &mut String, results: &Results, case: Case, placement: Placement) {
    let traced: Vec<_> =
        results.traced().filter(|traced| (traced.case, traced.placement) == (case, placement)).collect();
    if traced.is_empty() {
        return;
    }
    line!(page, "System calls for each operation, counted in runs of their own by strace, which slows both sides down and so makes batches larger:\n");
    line!(page, "| | | server | client |");
    line!(page, "|---|---|---|---|");
    for run in traced {
        let side = |figures: &crate::cases::Figures| {
            let mut calls: Vec<(&str, f64)> =
                figures.iter().map(|(name, count)| (name.as_str(), *count)).collect();
            calls.sort_by(|a, b| b.1.total_cmp(&a.1));
            let named: Vec<String> = calls
                .iter()
                .filter(|(_, count)| *count >= 0.01)
                .map(|(name, count)| format!("{name} {}", number(*count)))
                .collect();
            format!("**{}** {}", number(figures.values().sum()), named.join(", "))
        };
        line!(
            page,
            "| {} | {} | {} | {} |",
            parameter_text(case, run.parameter),
            run.peer.name(),
            side(&run.server),
            side(&run.client)
        );
    }
    line!(page);
}

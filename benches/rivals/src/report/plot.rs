//! Bars as SVG: one panel for each placement, one group for each parameter, one bar for each peer.

use std::fmt::Write as _;

use super::figures::{headline, number};
use super::tables::{parameter_text, title};
use super::Results;
use crate::cases::{Case, Placement};
use crate::peers::Peer;
use crate::statistics::median;

const BAR: f64 = 15.0;
const GROUP_GAP: f64 = 26.0;
const PANEL_GAP: f64 = 70.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 64.0;
const HEIGHT: f64 = 260.0;
const LEGEND: f64 = 150.0;
/// The width of a letter, about.
const LETTER: f64 = 6.8;
const TITLE_LETTER: f64 = 8.6;

/// The plot of a case's first figure; `None` if nothing was measured.
pub fn of(results: &Results, case: Case) -> Option<String> {
    let chart = Chart::of(results, case)?;
    Some(chart.draw())
}

struct Chart {
    case: Case,
    title: String,
    peers: Vec<Peer>,
    panels: Vec<Panel>,
    /// Powers of ten: the axis begins with the first and ends with the second.
    decades: (i32, i32),
}

struct Panel {
    placement: Placement,
    /// For each parameter the value of each peer.
    groups: Vec<(u64, Vec<Option<f64>>)>,
}

impl Chart {
    fn of(results: &Results, case: Case) -> Option<Chart> {
        let figure = &headline(case)[0];
        let value = |parameter, placement, peer| {
            median(&results.values(case, parameter, placement, peer, figure)).filter(|value| *value > 0.0)
        };
        let has_peer = |peer: &Peer| {
            results.measured().any(|run| (run.case, run.peer) == (case, *peer) && figure.of(run).is_some())
        };
        let peers: Vec<Peer> = case.peers().iter().copied().filter(has_peer).collect();
        let panels: Vec<Panel> = Placement::ALL
            .into_iter()
            .map(|placement| {
                let group = |parameter: &u64| {
                    let values: Vec<_> =
                        peers.iter().map(|peer| value(*parameter, placement, *peer)).collect();
                    (*parameter, values)
                };
                let groups = case.parameters().iter().map(group);
                Panel {
                    placement,
                    groups: groups.filter(|(_, values)| values.iter().any(Option::is_some)).collect(),
                }
            })
            .filter(|panel| !panel.groups.is_empty())
            .collect();
        let values =
            || panels.iter().flat_map(|panel| &panel.groups).flat_map(|(_, values)| values).flatten();
        let least = values().copied().fold(f64::MAX, f64::min);
        let most = values().copied().fold(f64::MIN, f64::max);
        if panels.is_empty() {
            return None;
        }
        let lowest = least.log10().floor() as i32;
        let highest = (most.log10().ceil() as i32).max(lowest + 1);
        let better = if figure.is_better_lower() { "lower is better" } else { "higher is better" };
        let title = format!("{}: {} ({better})", title(case), figure.title());
        Some(Chart { case, title, peers, panels, decades: (lowest, highest) })
    }

    /// Of a group of bars with the gap beside it: whatever is wider, the bars or what stands below them.
    fn group_width(&self, parameter: u64) -> f64 {
        let bars = self.peers.len() as f64 * BAR;
        let label = parameter_text(self.case, parameter).len() as f64 * LETTER;
        bars.max(label) + GROUP_GAP
    }

    fn panel_width(&self, panel: &Panel) -> f64 {
        panel.groups.iter().map(|(parameter, _)| self.group_width(*parameter)).sum()
    }

    fn y(&self, value: f64) -> f64 {
        let (lowest, highest) = (f64::from(self.decades.0), f64::from(self.decades.1));
        TOP + HEIGHT * (1.0 - (value.log10() - lowest) / (highest - lowest))
    }

    fn draw(&self) -> String {
        let panels: f64 = self.panels.iter().map(|panel| self.panel_width(panel) + PANEL_GAP).sum();
        let width = (LEFT + panels + LEGEND).max(LEFT + self.title.len() as f64 * TITLE_LETTER);
        let height = TOP + HEIGHT + 44.0;
        let mut svg = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#333\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"15\" font-weight=\"600\">{}</text>",
            self.title
        );
        let mut left = LEFT;
        for panel in &self.panels {
            self.draw_panel(&mut svg, panel, left);
            left += self.panel_width(panel) + PANEL_GAP;
        }
        self.draw_legend(&mut svg, left - PANEL_GAP + 20.0);
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_panel(&self, svg: &mut String, panel: &Panel, left: f64) {
        let right = left + self.panel_width(panel);
        if self.panels.len() > 1 {
            let name = panel.placement.name();
            let _ =
                writeln!(svg, "<text x=\"{left}\" y=\"{}\" font-weight=\"600\">{name}</text>", TOP - 14.0);
        }
        for decade in self.decades.0..=self.decades.1 {
            let value = 10f64.powi(decade);
            let y = self.y(value);
            let _ = writeln!(
                svg,
                "<line x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"11\">{}</text>",
                left - 6.0,
                y + 4.0,
                power(value)
            );
        }
        let mut group_left = left;
        for (parameter, values) in &panel.groups {
            let width = self.group_width(*parameter);
            let middle = group_left + width / 2.0;
            let mut x = middle - self.peers.len() as f64 * BAR / 2.0;
            for (peer, value) in self.peers.iter().zip(values) {
                if let Some(value) = value {
                    self.draw_bar(svg, *peer, *parameter, x, *value);
                }
                x += BAR;
            }
            let _ = writeln!(
                svg,
                "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                TOP + HEIGHT + 20.0,
                parameter_text(self.case, *parameter)
            );
            group_left += width;
        }
    }

    fn draw_bar(&self, svg: &mut String, peer: Peer, parameter: u64, x: f64, value: f64) {
        let y = self.y(value);
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\">\
             <title>{} {}: {}</title></rect>",
            BAR - 2.0,
            TOP + HEIGHT - y,
            colour(peer),
            peer.name(),
            parameter_text(self.case, parameter),
            number(value)
        );
    }

    fn draw_legend(&self, svg: &mut String, x: f64) {
        for (index, peer) in self.peers.iter().enumerate() {
            let y = TOP + 20.0 * index as f64;
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"12\" height=\"12\" fill=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                colour(*peer),
                x + 18.0,
                y + 10.5,
                peer.name()
            );
        }
    }
}

/// A power of ten without needless digits.
fn power(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.0} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value => format!("{value}"),
    }
}

/// Greys for what is no library, one warm family for ours.
fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::RawBatch => "#555",
        Peer::Raw => "#888",
        Peer::RawYield => "#aaa",
        Peer::Mio => "#c4c4c4",
        Peer::Zmq => "#1f77b4",
        Peer::Nng => "#2ca02c",
        Peer::MessageIo => "#9467bd",
        Peer::Pulsewire => "#d62728",
        Peer::PulsewireNoPolling => "#e7696a",
        Peer::PulsewireWorker => "#ff9d5c",
        Peer::PulsewireFlood => "#f4b6b6",
        Peer::PulsewireBare => "#bd5b00",
    }
}

//! The line that shows how it goes while it goes.

use std::io::{self, IsTerminal, Stdout, Write};
use std::time::{Duration, Instant};

use crate::latency::Latency;
use crate::profile::CLIENTS;
use crate::text;

/// Rates and latencies of the last moments: in a terminal one line that is written over, else a new line each second.
pub struct Live<W> {
    out: W,
    is_terminal: bool,
    started: Instant,
    /// When the line is due again; `None` before the head has been written.
    due: Option<Instant>,
    windows: [Window; CLIENTS.len()],
    /// A line stands in the terminal that the next one writes over.
    has_line: bool,
}

/// What one client measured since the line was last written.
#[derive(Debug, Clone)]
struct Window {
    over: Duration,
    ticks: Latency,
    queries: Latency,
}

/// Between two lines. A rate over less is nervous, over more it lags behind.
const EVERY_IN_TERMINAL: Duration = Duration::from_millis(500);
const EVERY_ELSEWHERE: Duration = Duration::from_secs(1);

/// A line fits into 80 columns: a time of 3, then four groups of 19.
const GROUP_WIDTH: usize = 17;

impl Live<Stdout> {
    pub fn new() -> Self {
        let out = io::stdout();
        let is_terminal = out.is_terminal();
        Live::with(out, is_terminal)
    }
}

impl<W: Write> Live<W> {
    fn with(out: W, is_terminal: bool) -> Self {
        let window = Window { over: Duration::ZERO, ticks: Latency::new(), queries: Latency::new() };
        let started = Instant::now();
        Live {
            out,
            is_terminal,
            started,
            due: None,
            windows: [(); CLIENTS.len()].map(|()| window.clone()),
            has_line: false,
        }
    }

    /// Writes the head of the columns; from now on the line is due.
    ///
    /// # Errors
    /// If the output is closed.
    pub fn begin(&mut self) -> io::Result<()> {
        self.due = Some(Instant::now() + self.every());
        let titles = CLIENTS.iter().map(|client| client.name).chain(["queries"]);
        let titles: String = titles.map(|title| format!("  {title:>GROUP_WIDTH$}")).collect();
        let columns = format!("  {:>5} {:>5} {:>5}", "/s", "p50", "p99").repeat(CLIENTS.len() + 1);
        writeln!(self.out, "   {titles}\n  s{columns}")
    }

    /// A client measured something.
    pub fn add(&mut self, client: usize, over: Duration, ticks: &Latency, queries: &Latency) {
        let window = &mut self.windows[client];
        window.over += over;
        window.ticks.add(ticks);
        window.queries.add(queries);
    }

    /// When [`Live::refresh`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Writes the line if it is due.
    ///
    /// # Errors
    /// If the output is closed.
    pub fn refresh(&mut self, now: Instant) -> io::Result<()> {
        if self.due.is_none_or(|due| now < due) {
            return Ok(());
        }
        self.due = Some(now + self.every());
        let line = self.line();
        for window in &mut self.windows {
            window.over = Duration::ZERO;
            window.ticks.clear();
            window.queries.clear();
        }
        if self.is_terminal {
            self.has_line = true;
            write!(self.out, "\r{line}")?;
        } else {
            writeln!(self.out, "{line}")?;
        }
        self.out.flush()
    }

    /// Writes something that stays.
    ///
    /// # Errors
    /// If the output is closed.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        let seconds = self.started.elapsed().as_secs_f64();
        self.end_line()?;
        writeln!(self.out, "{seconds:5.2} s  {text}")?;
        self.out.flush()
    }

    /// Writes text as it is, on a line of its own.
    ///
    /// # Errors
    /// If the output is closed.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        self.end_line()?;
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn line(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        let seconds = if seconds < 9.95 { format!("{seconds:.1}") } else { format!("{seconds:.0}") };
        let mut line = format!("{seconds:>3}");
        let mut queries = Latency::new();
        let mut query_rate = 0.0;
        for window in &self.windows {
            line += &group(window.rate(&window.ticks), &window.ticks);
            queries.add(&window.queries);
            query_rate += window.rate(&window.queries);
        }
        line + &group(query_rate, &queries)
    }

    /// What was shown last stays, and the next line is a new one.
    fn end_line(&mut self) -> io::Result<()> {
        if self.has_line {
            self.has_line = false;
            writeln!(self.out)?;
        }
        Ok(())
    }

    fn every(&self) -> Duration {
        if self.is_terminal {
            EVERY_IN_TERMINAL
        } else {
            EVERY_ELSEWHERE
        }
    }
}

impl Window {
    fn rate(&self, what: &Latency) -> f64 {
        if self.over.is_zero() {
            0.0
        } else {
            what.count() as f64 / self.over.as_secs_f64()
        }
    }
}

/// A rate, half of the times, and nearly all of them.
fn group(rate: f64, latency: &Latency) -> String {
    let time = |share| text::time_or_dash(latency.quantile(share));
    format!("  {:>5} {:>5} {:>5}", text::rate(rate), time(0.5), time(0.99))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(is_terminal: bool) -> Live<Vec<u8>> {
        let mut live = Live::with(Vec::new(), is_terminal);
        let mut ticks = Latency::new();
        for us in 1..=20_100 {
            ticks.record(Duration::from_micros(us % 100));
        }
        live.add(0, Duration::from_millis(500), &ticks, &ticks);
        live.add(0, Duration::from_millis(500), &Latency::new(), &Latency::new());
        live
    }

    fn shown(live: Live<Vec<u8>>) -> String {
        String::from_utf8(live.out).unwrap()
    }

    #[test]
    fn line_fits_an_ordinary_terminal() {
        let mut live = live(true);
        live.begin().unwrap();
        live.refresh(live.due().unwrap()).unwrap();
        live.refresh(live.due().unwrap() - Duration::from_millis(1)).unwrap();
        live.note("something").unwrap();
        let text = shown(live);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].chars().count(), 79);
        assert_eq!(lines[1].chars().count(), 79);
        assert_eq!(
            lines[2],
            "\r0.0  20.1k  49us  98us      0     -     -      0     -     -  20.1k  49us  98us"
        );
        assert!(lines[3].ends_with(" s  something"), "{text}");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn elsewhere_each_line_stands_for_itself() {
        let mut live = live(false);
        live.begin().unwrap();
        live.refresh(live.due().unwrap()).unwrap();
        live.note("something").unwrap();
        live.write("end\n").unwrap();
        let text = shown(live);
        assert!(!text.contains('\r'));
        assert_eq!(text.lines().count(), 5);
    }
}

//! A recorded market: a CSV file with a header line and 28 columns, UTF-8, separated by commas, never quoted.
//!
//! | column | what it holds |
//! |---|---|
//! | `ts_exchange_ns` | time at the exchange, nanoseconds since 1970 UTC; may go backwards |
//! | `ts_recv_ns` | time at the recorder, nanoseconds since 1970 UTC; never goes backwards within a venue |
//! | `exchange`, `symbol` | the venue and its name for the instrument; together they are the topic |
//! | `kind` | `Q`: the book changed; `T`: there was a trade |
//! | `last_price` | price of the latest trade; empty until there was one |
//! | `last_volume` | volume of this trade; empty in `Q` rows |
//! | `volume` | volume traded since the recording began |
//! | `bid_price_1`, `bid_volume_1` to `bid_price_5`, `bid_volume_5` | five levels of bids, best first |
//! | `ask_price_1`, `ask_volume_1` to `ask_price_5`, `ask_volume_5` | five levels of asks, best first |
//!
//! Prices and volumes are decimal numbers. Venues may have been recorded at different times: each is moved so that its
//! first row is due at the tape's begin, and all are played together.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::feed::{Feed, Level, Row, Tick, DEPTH, TOPIC_ROOT};

/// What the columns are called before the levels begin.
const FIRST_COLUMNS: [&str; 8] =
    ["ts_exchange_ns", "ts_recv_ns", "exchange", "symbol", "kind", "last_price", "last_volume", "volume"];

/// Columns in a row.
const COLUMNS: usize = FIRST_COLUMNS.len() + 4 * DEPTH;

/// The longest topic that a server takes, in bytes.
const MAX_TOPIC_BYTES: usize = 255;

/// Reads a capture.
///
/// # Errors
/// A file that cannot be read, or the first field in it that is not what it should be.
pub fn load(path: &Path) -> Result<Feed, Error> {
    let text =
        fs::read_to_string(path).map_err(|error| Error::Unreadable { path: path.to_owned(), error })?;
    parse(&text).map_err(|fault| Error::Malformed { path: path.to_owned(), fault })
}

/// Why there is no market to play.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{}: {fault}", path.display())]
    Malformed { path: PathBuf, fault: Fault },
}

/// The first thing wrong in a capture: lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("line {line}, column {} ({}): {problem}", at + 1, column_name(*at))]
    Field { line: usize, at: usize, problem: Problem },
    #[error("line {line}: {found} columns where {COLUMNS} are expected")]
    Columns { line: usize, found: usize },
    #[error("no rows")]
    Empty,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the header says {found:?}")]
    Header { found: String },
    #[error("{found:?} is not a whole number of nanoseconds")]
    Time { found: String },
    #[error("earlier than the row before it of the same venue")]
    Backwards,
    #[error("{found:?} is not a decimal number")]
    Number { found: String },
    #[error("{found:?} is neither Q nor T")]
    Kind { found: String },
    #[error("empty")]
    Missing,
    #[error("a row of kind Q has no trade, yet this says {found:?}")]
    Unexpected { found: String },
    #[error("the topic would be {bytes} bytes long, at most {MAX_TOPIC_BYTES} are possible")]
    TooLong { bytes: usize },
}

fn parse(text: &str) -> Result<Feed, Fault> {
    let mut reader = Reader::default();
    let mut lines = (1..).zip(text.lines());
    let (line, header) = lines.next().ok_or(Fault::Empty)?;
    check_header(&Fields::cut(line, header)?)?;
    for (line, text) in lines.filter(|(_, text)| !text.is_empty()) {
        reader.read(&Fields::cut(line, text)?)?;
    }
    if reader.rows.is_empty() {
        return Err(Fault::Empty);
    }
    reader.rows.sort_by_key(|row| row.at_ns); // Stable: rows of one venue keep their order.
    Ok(Feed::new(reader.topics, reader.rows))
}

fn check_header(fields: &Fields) -> Result<(), Fault> {
    match (0..COLUMNS).find(|&at| fields.text(at) != column_name(at).to_string()) {
        Some(at) => Err(fields.fault(at, Problem::Header { found: fields.text(at).to_owned() })),
        None => Ok(()),
    }
}

/// The tape as far as it has been read.
#[derive(Default)]
struct Reader {
    topics: Vec<String>,
    rows: Vec<Row>,
    /// Topic to its place in `topics`.
    instruments: HashMap<String, usize>,
    /// Venue to the receive time of its first and its latest row.
    venues: HashMap<String, (u64, u64)>,
}

impl Reader {
    fn read(&mut self, fields: &Fields) -> Result<(), Fault> {
        let time_ns = fields.time(0)?;
        let received_ns = fields.time(1)?;
        let venue = fields.name(2)?;
        let symbol = fields.name(3)?;
        let at_ns = self.place(venue, received_ns).map_err(|problem| fields.fault(1, problem))?;
        let instrument = self.instrument(venue, symbol).map_err(|problem| fields.fault(3, problem))?;
        let mut tick = Tick { time_ns, volume: fields.number(7)?, ..Tick::default() };
        tick.last_price = fields.number_or_empty(5)?.unwrap_or_default();
        tick.last_volume = match fields.text(4) {
            "T" => fields.number(6)?,
            "Q" if fields.text(6).is_empty() => 0.0,
            "Q" => return Err(fields.fault(6, Problem::Unexpected { found: fields.text(6).to_owned() })),
            found => return Err(fields.fault(4, Problem::Kind { found: found.to_owned() })),
        };
        for (depth, level) in tick.bids.iter_mut().chain(&mut tick.asks).enumerate() {
            let at = FIRST_COLUMNS.len() + 2 * depth;
            *level = Level { price: fields.number(at)?, volume: fields.number(at + 1)? };
        }
        self.rows.push(Row { instrument, at_ns, tick });
        Ok(())
    }

    /// When the row is due, counted from the first row of its venue.
    fn place(&mut self, venue: &str, received_ns: u64) -> Result<u64, Problem> {
        let Some((first, latest)) = self.venues.get_mut(venue) else {
            self.venues.insert(venue.to_owned(), (received_ns, received_ns));
            return Ok(0);
        };
        if received_ns < *latest {
            return Err(Problem::Backwards);
        }
        *latest = received_ns;
        Ok(received_ns - *first)
    }

    fn instrument(&mut self, venue: &str, symbol: &str) -> Result<usize, Problem> {
        let topic = format!("{TOPIC_ROOT}{venue}.{symbol}");
        if let Some(&known) = self.instruments.get(&topic) {
            return Ok(known);
        }
        if topic.len() > MAX_TOPIC_BYTES {
            return Err(Problem::TooLong { bytes: topic.len() });
        }
        self.topics.push(topic.clone());
        self.instruments.insert(topic, self.topics.len() - 1);
        Ok(self.topics.len() - 1)
    }
}

/// One line, cut at its commas.
struct Fields<'a> {
    line: usize,
    texts: [&'a str; COLUMNS],
}

impl<'a> Fields<'a> {
    fn cut(line: usize, text: &'a str) -> Result<Self, Fault> {
        let mut texts = [""; COLUMNS];
        let mut found = 0;
        for field in text.split(',') {
            if let Some(place) = texts.get_mut(found) {
                *place = field;
            }
            found += 1;
        }
        if found == COLUMNS {
            Ok(Fields { line, texts })
        } else {
            Err(Fault::Columns { line, found })
        }
    }

    fn text(&self, at: usize) -> &'a str {
        self.texts[at]
    }

    fn name(&self, at: usize) -> Result<&'a str, Fault> {
        match self.text(at) {
            "" => Err(self.fault(at, Problem::Missing)),
            name => Ok(name),
        }
    }

    fn time(&self, at: usize) -> Result<u64, Fault> {
        let text = self.text(at);
        text.parse().map_err(|_| self.fault(at, Problem::Time { found: text.to_owned() }))
    }

    fn number(&self, at: usize) -> Result<f64, Fault> {
        self.number_or_empty(at)?.ok_or_else(|| self.fault(at, Problem::Missing))
    }

    fn number_or_empty(&self, at: usize) -> Result<Option<f64>, Fault> {
        let text = self.text(at);
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)), // "inf" and "nan" parse, too.
            _ => Err(self.fault(at, Problem::Number { found: text.to_owned() })),
        }
    }

    fn fault(&self, at: usize, problem: Problem) -> Fault {
        Fault::Field { line: self.line, at, problem }
    }
}

/// What the column at this place, from 0, is called.
fn column_name(at: usize) -> impl fmt::Display {
    match FIRST_COLUMNS.get(at) {
        Some(&name) => name.to_owned(),
        None => {
            let place = at - FIRST_COLUMNS.len();
            let side = if place < 2 * DEPTH { "bid" } else { "ask" };
            let what = ["price", "volume"][place % 2];
            format!("{side}_{what}_{}", place % (2 * DEPTH) / 2 + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOK: &str = "9,1,8,1,7,1,6,1,5,1,10,2,11,2,12,2,13,2,14.5,2";

    fn header() -> String {
        (0..COLUMNS).map(|at| column_name(at).to_string()).collect::<Vec<_>>().join(",")
    }

    fn parse_rows(rows: &[&str]) -> Result<Feed, Fault> {
        let rows: String = rows.iter().map(|row| row.replace("BOOK", BOOK) + "\n").collect();
        parse(&format!("{}\n{rows}", header()))
    }

    fn field(line: usize, at: usize, problem: Problem) -> Result<Feed, Fault> {
        Err(Fault::Field { line, at, problem })
    }

    #[test]
    fn column_names_are_those_of_the_table() {
        let header = header();
        assert!(header
            .starts_with("ts_exchange_ns,ts_recv_ns,exchange,symbol,kind,last_price,last_volume,volume,"));
        assert!(header.ends_with(
            "bid_price_5,bid_volume_5,ask_price_1,ask_volume_1,ask_price_2,ask_volume_2,\
            ask_price_3,ask_volume_3,ask_price_4,ask_volume_4,ask_price_5,ask_volume_5"
        ));
    }

    #[test]
    fn venues_are_played_together_from_a_common_begin() {
        let feed = parse_rows(&[
            "100,1000,A,X,Q,,,0,BOOK",
            "200,1900,A,X,T,9.5,3,3,BOOK",
            "900,5000,B,Y,Q,1.25,,7,BOOK",
            "800,5300,B,Z,Q,1.25,,7,BOOK",
        ])
        .unwrap();
        let played: Vec<(&str, u64, u128)> =
            (0..4).map(|k| (feed.topic(k), feed.tick(k).time_ns, feed.due(k).as_nanos())).collect();
        assert_eq!(
            played,
            [("tick.A.X", 100, 0), ("tick.B.Y", 900, 0), ("tick.B.Z", 800, 300), ("tick.A.X", 200, 900)]
        );
        let tick = feed.tick(3);
        assert_eq!((tick.last_price, tick.last_volume, tick.volume), (9.5, 3.0, 3.0));
        assert_eq!(tick.bids[4], Level { price: 5.0, volume: 1.0 });
        assert_eq!(tick.asks[4], Level { price: 14.5, volume: 2.0 });
    }

    #[test]
    fn faults_name_the_line_and_the_column() {
        let found = |text: &str| text.to_owned();
        let good = "1,1,A,X,Q,,,0,BOOK";
        let cases = [
            ("x,1,A,X,Q,,,0,BOOK", 0, Problem::Time { found: found("x") }),
            ("1,-1,A,X,Q,,,0,BOOK", 1, Problem::Time { found: found("-1") }),
            ("1,0,A,X,Q,,,0,BOOK", 1, Problem::Backwards),
            ("1,1,,X,Q,,,0,BOOK", 2, Problem::Missing),
            ("1,1,A,,Q,,,0,BOOK", 3, Problem::Missing),
            ("1,1,A,X,q,,,0,BOOK", 4, Problem::Kind { found: found("q") }),
            ("1,1,A,X,Q,1.2.3,,0,BOOK", 5, Problem::Number { found: found("1.2.3") }),
            ("1,1,A,X,T,1,,0,BOOK", 6, Problem::Missing),
            ("1,1,A,X,Q,1,2,0,BOOK", 6, Problem::Unexpected { found: found("2") }),
            ("1,1,A,X,Q,1,,nan,BOOK", 7, Problem::Number { found: found("nan") }),
            ("1,1,A,X,Q,1,,,BOOK", 7, Problem::Missing),
            (
                &good.replace("BOOK", &BOOK.replace("14.5", "inf")),
                26,
                Problem::Number { found: found("inf") },
            ),
        ];
        for (row, at, problem) in cases {
            assert_eq!(parse_rows(&[good, row]), field(3, at, problem), "{row}");
        }
        let long = "S".repeat(250);
        let row = format!("1,1,A,{long},Q,,,0,BOOK");
        assert_eq!(parse_rows(&[&row]), field(2, 3, Problem::TooLong { bytes: 257 }));
        assert_eq!(parse_rows(&["1,2,3"]), Err(Fault::Columns { line: 2, found: 3 }));
        assert_eq!(parse_rows(&[&format!("{good},")]), Err(Fault::Columns { line: 2, found: 29 }));
        assert_eq!(parse_rows(&[]), Err(Fault::Empty));
        assert_eq!(parse(""), Err(Fault::Empty));
    }

    #[test]
    fn faults_read_well() {
        let fault = parse_rows(&["1,1,A,X,Q,,,0,BOOK", "1,1,A,X,Q,,,abc,BOOK"]).unwrap_err();
        assert_eq!(fault.to_string(), "line 3, column 8 (volume): \"abc\" is not a decimal number");
        let fault = parse(&header().replace("ask_price_1", "ask_price_one")).unwrap_err();
        assert_eq!(fault.to_string(), "line 1, column 19 (ask_price_1): the header says \"ask_price_one\"");
    }
}

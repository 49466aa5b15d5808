//! What the user asked for on the command line, and the hidden part in which the program plays one of its own children.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use crate::feed::Source;
use crate::trading;
use crate::trading::strategy::Style;

pub const HELP: &str = "\
trading_floor: a server with a paper exchange and three clients that trade there, over TCP on this machine

Half way the server is killed and started again. At the end every order, trade and position of every client is compared
with the exchange's ledger; the exit code is 0 only if all of it balances.

usage: cargo run --release --features trader --example trading_floor -- [options]

  --seconds S     how long they trade, 2 to 3600 (default 14)
  --seed N        seed of the generated market (default 1)
  --data FILE     trade a recorded market instead; examples/support/capture.rs says what the CSV looks like
  --help          print this and end
";

/// The clients by name, and how they trade.
pub const CLIENTS: [(&str, Style); 3] =
    [("maker", Style::Maker), ("taker", Style::Taker), ("hasty", Style::Hasty)];

/// What this process is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    Help,
    /// Direct the play: the parent of all other processes.
    Direct(Options),
    /// Take a part in it.
    Play(Part),
}

/// What the user decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub source: Source,
    pub run_for: Duration,
}

/// The part of one child.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub role: Role,
    pub source: Source,
    /// Where the server listens, on the loopback address.
    pub port: u16,
    /// Directory of this run.
    pub scratch: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The server in one of its lives, from 0.
    Server { life: u32 },
    /// The client of this place among [`CLIENTS`].
    Client { index: usize },
}

/// Why the command line does not say what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Syntax(#[from] lexopt::Error),
    #[error("--seconds wants a number from 2 to 3600")]
    Seconds,
    #[error("--seed is for the generated market, --data for a recorded one: choose")]
    TwoSources,
    #[error("this role cannot be played by hand")]
    Role,
}

/// Reads the arguments, without the program's name.
///
/// # Errors
/// The first one that cannot be understood.
pub fn parse(args: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Command, Error> {
    let mut parser = Parser::from_args(args);
    let (mut seed, mut data, mut run_for) = (None, None, Duration::from_secs(14));
    let (mut role, mut port, mut scratch) = (None, None, None);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long("seed") => seed = Some(parser.value()?.parse()?),
            Arg::Long("data") => data = Some(PathBuf::from(parser.value()?)),
            Arg::Long("seconds") => run_for = parser.value()?.parse_with(trading::seconds)?,
            Arg::Long("role") => role = Some(parse_role(&parser.value()?.string()?)?),
            Arg::Long("port") => port = Some(parser.value()?.parse()?),
            Arg::Long("scratch") => scratch = Some(PathBuf::from(parser.value()?)),
            other => return Err(other.unexpected().into()),
        }
    }
    let source = match (seed, data) {
        (Some(_), Some(_)) => return Err(Error::TwoSources),
        (None, Some(path)) => Source::Capture(path),
        (seed, None) => Source::Generator { seed: seed.unwrap_or(1) },
    };
    match (role, port, scratch) {
        (None, None, None) if (2..=3_600).contains(&run_for.as_secs()) => {
            Ok(Command::Direct(Options { source, run_for }))
        }
        (None, None, None) => Err(Error::Seconds),
        (Some(role), Some(port), Some(scratch)) => Ok(Command::Play(Part { role, source, port, scratch })),
        _ => Err(Error::Role),
    }
}

impl Part {
    /// The arguments from which [`parse`] makes this part again.
    pub fn to_args(&self) -> Vec<OsString> {
        let role = match self.role {
            Role::Server { life } => format!("server:{life}"),
            Role::Client { index } => format!("client:{index}"),
        };
        let (source, value) = match &self.source {
            Source::Generator { seed } => ("--seed", seed.to_string().into()),
            Source::Capture(path) => ("--data", path.clone().into_os_string()),
        };
        let mut args: Vec<OsString> = vec![source.into(), value];
        args.extend(["--role", &role, "--port", &self.port.to_string()].map(OsString::from));
        args.extend(["--scratch".into(), self.scratch.clone().into_os_string()]);
        args
    }

    /// Where the server listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The exchange's ledger.
    pub fn ledger(&self) -> PathBuf {
        ledger(&self.scratch)
    }
}

/// The exchange's ledger of a run.
pub fn ledger(scratch: &Path) -> PathBuf {
    scratch.join("ledger.jsonl")
}

/// Where a client states what it believes.
pub fn statement(scratch: &Path, index: usize) -> PathBuf {
    scratch.join(format!("statement-{index}.json"))
}

fn parse_role(text: &str) -> Result<Role, Error> {
    let (kind, number) = text.split_once(':').ok_or(Error::Role)?;
    match kind {
        "server" => Ok(Role::Server { life: number.parse().map_err(|_| Error::Role)? }),
        "client" => match number.parse() {
            Ok(index) if index < CLIENTS.len() => Ok(Role::Client { index }),
            _ => Err(Error::Role),
        },
        _ => Err(Error::Role),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_taken_and_the_rest_has_a_default() {
        let source = Source::Generator { seed: 1 };
        let options = Options { source, run_for: Duration::from_secs(14) };
        assert_eq!(parse([""; 0]).unwrap(), Command::Direct(options));
        let source = Source::Capture("a b.csv".into());
        let options = Options { source, run_for: Duration::from_secs(2) };
        assert_eq!(parse(["--data", "a b.csv", "--seconds=2"]).unwrap(), Command::Direct(options));
        assert_eq!(parse(["--help"]).unwrap(), Command::Help);
    }

    #[test]
    fn a_part_survives_the_way_to_the_child() {
        for role in [Role::Server { life: 1 }, Role::Client { index: 2 }] {
            for source in [Source::Generator { seed: u64::MAX }, Source::Capture("--role".into())] {
                let part = Part { role, source, port: 4102, scratch: "/tmp/with space".into() };
                assert_eq!(parse(part.to_args()).unwrap(), Command::Play(part));
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let message = |args: &[&str]| parse(args).unwrap_err().to_string();
        assert_eq!(message(&["--seconds", "1"]), Error::Seconds.to_string());
        assert_eq!(message(&["--seed", "1", "--data", "x"]), Error::TwoSources.to_string());
        assert_eq!(
            message(&["--role", "client:3", "--port", "1", "--scratch", "x"]),
            Error::Role.to_string()
        );
        for args in [&["--seed", "x"][..], &["--sede", "1"], &["file.csv"], &["--seconds", "soon"]] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }
}

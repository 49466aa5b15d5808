//! What the user asked for on the command line, and the hidden part in which the program plays one of its own children.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use crate::feed::Source;
use crate::profile::CLIENTS;

pub const HELP: &str = "\
market: a server, three clients and a market between them, over TCP on this machine

One process publishes the ticks of some sixty symbols and answers calls. Three others call it and follow it: one follows
everything, one a prefix, one reads only now and then. Half way the server is killed and started again. At the end every
tick and every order is accounted for; the exit code is 0 only if all of it balances.

usage: cargo run --release --example market -- [options]

  --seconds S     how long it runs, 2 to 3600 (default 10)
  --speed N|max   N times the market's natural speed (default 1), or as fast as it goes
  --seed N        seed of the generated market (default 1)
  --data FILE     replay a recorded market instead; examples/support/capture.rs says what the CSV looks like
  --help          print this and end
";

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
    pub speed: Speed,
    pub run_for: Duration,
}

/// How fast the tape is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// So many times the natural speed.
    Times(f64),
    /// As fast as it goes.
    Max,
}

/// The part of one child.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub role: Role,
    pub source: Source,
    pub speed: Speed,
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
    #[error("--speed wants a number from 0.001 to 1000000, or max, not {0:?}")]
    Speed(String),
    #[error("--seconds wants a number from 2 to 3600, not {0:?}")]
    Seconds(String),
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
    let (mut seed, mut data, mut speed, mut run_for) =
        (None, None, Speed::Times(1.0), Duration::from_secs(10));
    let (mut role, mut port, mut scratch) = (None, None, None);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long("seed") => seed = Some(parser.value()?.parse()?),
            Arg::Long("data") => data = Some(PathBuf::from(parser.value()?)),
            Arg::Long("speed") => speed = parse_speed(parser.value()?.string()?)?,
            Arg::Long("seconds") => run_for = parse_seconds(parser.value()?.string()?)?,
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
        (None, None, None) => Ok(Command::Direct(Options { source, speed, run_for })),
        (Some(role), Some(port), Some(scratch)) => {
            Ok(Command::Play(Part { role, source, speed, port, scratch }))
        }
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
        let speed = match self.speed {
            Speed::Times(times) => times.to_string(),
            Speed::Max => "max".to_owned(),
        };
        let (source, value) = match &self.source {
            Source::Generator { seed } => ("--seed", seed.to_string().into()),
            Source::Capture(path) => ("--data", path.clone().into_os_string()),
        };
        let mut args: Vec<OsString> = vec![source.into(), value];
        args.extend(
            ["--role", &role, "--speed", &speed, "--port", &self.port.to_string()].map(OsString::from),
        );
        args.extend(["--scratch".into(), self.scratch.clone().into_os_string()]);
        args
    }
}

fn parse_speed(text: String) -> Result<Speed, Error> {
    match text.parse() {
        Ok(times) if (0.001..=1e6).contains(&times) => Ok(Speed::Times(times)),
        _ if text == "max" => Ok(Speed::Max),
        _ => Err(Error::Speed(text)),
    }
}

fn parse_seconds(text: String) -> Result<Duration, Error> {
    match text.parse() {
        Ok(seconds) if (2.0..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(Error::Seconds(text)),
    }
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
    fn nothing_said_is_ten_seconds_of_generated_market() {
        let source = Source::Generator { seed: 1 };
        let options = Options { source, speed: Speed::Times(1.0), run_for: Duration::from_secs(10) };
        assert_eq!(parse([""; 0]).unwrap(), Command::Direct(options));
    }

    #[test]
    fn everything_said_is_taken() {
        let source = Source::Capture("a b.csv".into());
        let options = Options { source, speed: Speed::Max, run_for: Duration::from_millis(2_500) };
        let args = ["--data", "a b.csv", "--speed=max", "--seconds", "2.5"];
        assert_eq!(parse(args).unwrap(), Command::Direct(options));
        assert_eq!(parse(["--seed", "3", "--help"]).unwrap(), Command::Help);
    }

    #[test]
    fn a_part_survives_the_way_to_the_child() {
        for role in [Role::Server { life: 1 }, Role::Client { index: 2 }] {
            for (source, speed) in [
                (Source::Generator { seed: u64::MAX }, Speed::Times(0.25)),
                (Source::Capture("--role".into()), Speed::Max),
            ] {
                let part = Part { role, source, speed, port: 4102, scratch: "/tmp/with space".into() };
                assert_eq!(parse(part.to_args()).unwrap(), Command::Play(part));
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let message = |args: &[&str]| parse(args).unwrap_err().to_string();
        assert_eq!(
            message(&["--speed", "fast"]),
            "--speed wants a number from 0.001 to 1000000, or max, not \"fast\""
        );
        assert_eq!(
            message(&["--speed", "NaN"]),
            "--speed wants a number from 0.001 to 1000000, or max, not \"NaN\""
        );
        assert_eq!(message(&["--seconds", "1"]), "--seconds wants a number from 2 to 3600, not \"1\"");
        assert_eq!(message(&["--seed", "1", "--data", "x"]), Error::TwoSources.to_string());
        assert_eq!(
            message(&["--role", "client:3", "--port", "1", "--scratch", "x"]),
            Error::Role.to_string()
        );
        assert_eq!(message(&["--port", "1"]), Error::Role.to_string());
        for args in [&["--seed", "x"][..], &["--seed"], &["--sede", "1"], &["file.csv"]] {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }
}

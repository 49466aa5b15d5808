//! A trading server: a paper exchange that trades a generated or recorded market, served to `trading_client`s.
//!
//! ```text
//! cargo run --release --features trader --example trading_server
//! cargo run --release --features trader --example trading_client
//! ```
//!
//! With `--ledger FILE` it may be killed and started again: it finds its orders, trades and positions there. Begin with
//! `../support/trading/server.rs`.

#[path = "../support/capture.rs"]
mod capture;
#[allow(dead_code)] // Shared: this one needs no more than the tape.
#[path = "../support/feed.rs"]
mod feed;
#[path = "../support/generator.rs"]
mod generator;
#[allow(dead_code)] // Shared with the client.
#[path = "../support/trading/mod.rs"]
mod trading;

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lexopt::{Arg, ValueExt};
use pulsewire::trader::Setting;

use feed::Source;
use trading::server::{ServerOptions, TradingServer, Trouble};

const HELP: &str = "\
trading_server: a paper exchange that trades a market, and clients that trade there over TCP

usage: cargo run --release --features trader --example trading_server -- [options]

  --address A     where it listens (default 127.0.0.1:2014)
  --seconds S     how long it runs (default 10)
  --ledger FILE   remember orders, trades and positions there (default: nowhere)
  --seed N        seed of the generated market (default 1)
  --data FILE     trade a recorded market instead; examples/support/capture.rs says what the CSV looks like
  --help          print this and end
";

fn main() -> ExitCode {
    let done = match parse() {
        Ok(Some((options, run_for))) => serve(&options, run_for).map_err(|error| error.to_string()),
        Ok(None) => {
            print!("{HELP}");
            Ok(())
        }
        Err(error) => {
            eprintln!("trading_server: {error}; --help says what there is");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trading_server: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves for so long, and says each second how far it is.
fn serve(options: &ServerOptions, run_for: Duration) -> Result<(), Trouble> {
    let mut server = TradingServer::start(options)?;
    let oms = server.main.oms().clone();
    println!("serving {} contracts at {} for {run_for:?}", server.contracts(), options.address);
    let began = Instant::now();
    let mut next = began + Duration::from_secs(1);
    server.play_until(|| {
        let now = Instant::now();
        if now >= next {
            next += Duration::from_secs(1);
            let seconds = began.elapsed().as_secs();
            println!("{seconds:3} s: {} orders, {} trades", oms.orders().len(), oms.trades().len());
        }
        now >= began + run_for
    })?;
    println!("{} ticks played", server.played());
    for account in oms.accounts() {
        println!("{}: balance {:.2}, frozen {:.2}", account.vt_accountid(), account.balance, account.frozen);
    }
    match server.stop() {
        0 => {}
        dropped => println!("{dropped} events reached nobody"),
    }
    Ok(())
}

/// What the command line asks for; `None`: help.
fn parse() -> Result<Option<(ServerOptions, Duration)>, lexopt::Error> {
    let mut parser = lexopt::Parser::from_args(env::args_os().skip(1));
    let mut source = Source::Generator { seed: 1 };
    let mut address = "127.0.0.1:2014".to_owned();
    let mut exchange = Setting::new().with("balance", 1e9).with("margin_rate", 0.1);
    let mut run_for = Duration::from_secs(10);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            Arg::Long("address") => address = parser.value()?.string()?,
            Arg::Long("seconds") => run_for = parser.value()?.parse_with(trading::seconds)?,
            Arg::Long("ledger") => exchange.set("ledger", parser.value()?.string()?),
            Arg::Long("seed") => source = Source::Generator { seed: parser.value()?.parse()? },
            Arg::Long("data") => source = Source::Capture(parser.value()?.into()),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some((ServerOptions { source, address, exchange, way: Duration::ZERO }, run_for)))
}

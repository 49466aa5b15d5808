//! A trading client: trades for a while at a `trading_server`, takes back what rests, and says what came of it.
//!
//! It may be started before the server, and goes on when the server is killed and started again. Begin with
//! `../support/trading/client.rs`, then `strategy.rs` there.

#[allow(dead_code)] // Shared with the server.
#[path = "../support/capture.rs"]
mod capture;
#[allow(dead_code)] // Shared with the server.
#[path = "../support/feed.rs"]
mod feed;
#[path = "../support/generator.rs"]
mod generator;
#[allow(dead_code)] // Shared: tables are all that is written here.
#[path = "../support/text.rs"]
mod text;
#[allow(dead_code)] // Shared with the server.
#[path = "../support/trading/mod.rs"]
mod trading;

use std::env;
use std::process::{self, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use lexopt::{Arg, ValueExt};
use pulsewire::trader::Direction;

use trading::client::{Told, TradingClient, Trouble};
use trading::strategy::{Strategy, Style};

const HELP: &str = "\
trading_client: trades for a while at a trading_server

usage: cargo run --release --features trader --example trading_client -- [options]

  --address A     where the server is (default 127.0.0.1:2014)
  --seconds S     how long it trades (default 5)
  --name NAME     what its orders are known by (default client-PID)
  --style S       maker, taker or hasty (default hasty)
  --seed N        seed of its decisions (default 1)
  --help          print this and end
";

/// How long it waits for the server, and for its orders to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Contracts that it trades.
const CONTRACTS: usize = 4;

/// Between two decisions.
const PACE: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct Options {
    address: String,
    run_for: Duration,
    name: String,
    style: Style,
    seed: u64,
}

fn main() -> ExitCode {
    let done = match parse() {
        Ok(Some(options)) => trade(&options).map_err(|error| error.to_string()),
        Ok(None) => {
            print!("{HELP}");
            Ok(())
        }
        Err(error) => {
            eprintln!("trading_client: {error}; --help says what there is");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trading_client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn trade(options: &Options) -> Result<(), Trouble> {
    let strategy = Strategy::new(options.style, options.seed);
    let mut client = TradingClient::connect(&options.name, &options.address, strategy)?;
    println!("{} connects to {}", options.name, options.address);
    client.begin(CONTRACTS, PATIENCE)?;
    println!("trading for {:?}", options.run_for);
    let end = Instant::now() + options.run_for;
    while Instant::now() < end {
        client.act();
        thread::sleep(PACE);
    }
    client.settle(PATIENCE)?;
    print!("{}", report(&client));
    let _ = client.main.close();
    Ok(())
}

fn report(client: &TradingClient) -> String {
    let (orders, trades) = (client.orders(), client.trades());
    let mut contracts: Vec<String> = orders.iter().map(|order| order.vt_symbol()).collect();
    contracts.sort();
    contracts.dedup();
    let mut rows = vec![["contract", "orders", "trades", "bought", "sold"].map(String::from).to_vec()];
    for contract in contracts {
        let traded = || trades.iter().filter(|trade| trade.vt_symbol() == contract);
        let volume = |direction| -> f64 {
            traded().filter(|trade| trade.direction == Some(direction)).map(|trade| trade.volume).sum()
        };
        let orders = orders.iter().filter(|order| order.vt_symbol() == contract).count();
        let volumes = [Direction::Long, Direction::Short].map(|side| format!("{:.6}", volume(side)));
        let [bought, sold] = volumes;
        rows.push([contract.clone(), orders.to_string(), traded().count().to_string(), bought, sold].into());
    }
    text::table(&rows) + &counts(client)
}

fn counts(client: &TradingClient) -> String {
    let sent = client.sent();
    let count = |told: fn(&Told) -> bool| sent.iter().filter(|sent| told(&sent.told)).count();
    let found = sent.iter().filter(|sent| sent.told == Told::Unknown && sent.found.is_some()).count();
    format!(
        "{} orders sent: {} placed, {} refused, {} unknown, of which {found} were found\n",
        sent.len(),
        count(|told| matches!(told, Told::Placed(_))),
        count(|told| *told == Told::Refused),
        count(|told| *told == Told::Unknown),
    )
}

/// What the command line asks for; `None`: help.
fn parse() -> Result<Option<Options>, lexopt::Error> {
    let mut parser = lexopt::Parser::from_args(env::args_os().skip(1));
    let mut options = Options {
        address: "127.0.0.1:2014".into(),
        run_for: Duration::from_secs(5),
        name: format!("client-{}", process::id()),
        style: Style::Hasty,
        seed: 1,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            Arg::Long("address") => options.address = parser.value()?.string()?,
            Arg::Long("seconds") => options.run_for = parser.value()?.parse_with(trading::seconds)?,
            Arg::Long("name") => options.name = parser.value()?.string()?,
            Arg::Long("style") => options.style = parser.value()?.parse_with(style)?,
            Arg::Long("seed") => options.seed = parser.value()?.parse()?,
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(options))
}

fn style(text: &str) -> Result<Style, &'static str> {
    match text {
        "maker" => Ok(Style::Maker),
        "taker" => Ok(Style::Taker),
        "hasty" => Ok(Style::Hasty),
        _ => Err("there are maker, taker and hasty"),
    }
}

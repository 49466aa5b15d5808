//! A trading floor: one server, three clients that trade there at the same time, and an account of all of it at the end.
//!
//! ```text
//! cargo run --release --features trader --example trading_floor
//! cargo run --release --features trader --example trading_floor -- --data recorded.csv
//! ```
//!
//! The program starts itself four times more. The **server** is a main engine with a paper exchange behind it, some
//! milliseconds away, and an RPC service before it. The **clients** are main engines with a gateway to that service, and
//! a strategy: one makes prices, one takes them, one does both in haste. Half way the **parent** kills the server without
//! warning, in the middle of several orders, and starts it again on the same port; the exchange finds its orders, trades
//! and positions in its ledger, and the clients come back by themselves.
//!
//! Then accounts are settled. Each client takes back what rests, looks up what became of orders whose answer got lost, and
//! states what it believes: its orders, their trades, its positions, and the account that all share. The parent reads the
//! exchange's ledger and compares: each order that a client was told was placed is there, once; none that was refused is;
//! of those whose outcome was unknown, exactly the ones that the client found; and volumes, trades, positions and money are
//! the same on both sides. Exit code 0 means that all of it balances, 1 that it does not or that the run failed, 2 that the
//! arguments made no sense.
//!
//! Begin with `server.rs` and `client.rs`, and with what they use of `../support/trading`; `books.rs` compares.

mod books;
#[path = "../support/capture.rs"]
mod capture;
mod client;
mod director;
#[allow(dead_code)] // Shared: this one needs no more than the tape.
#[path = "../support/feed.rs"]
mod feed;
#[path = "../support/generator.rs"]
mod generator;
mod lines;
mod options;
#[path = "../support/process.rs"]
mod process;
mod report;
mod server;
#[allow(dead_code)] // Shared: nothing is measured here.
#[path = "../support/text.rs"]
mod text;
#[allow(dead_code)] // Shared: the server alone says how far it is.
#[path = "../support/trading/mod.rs"]
mod trading;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use options::{Command, Role};

fn main() -> ExitCode {
    let command = match options::parse(env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("trading_floor: {error}; --help says what there is");
            return ExitCode::from(2);
        }
    };
    let done = match command {
        Command::Help => {
            io::stdout().write_all(options::HELP.as_bytes()).map(|()| true).map_err(|e| e.to_string())
        }
        Command::Direct(options) => director::direct(&options).map_err(|error| error.to_string()),
        Command::Play(part) => {
            process::end_with_any_thread();
            match part.role {
                Role::Server { .. } => server::play(&part).map_err(|error| error.to_string()),
                Role::Client { index } => client::play(&part, index).map_err(|error| error.to_string()),
            }
            .map(|()| true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("trading_floor: {error}");
            ExitCode::FAILURE
        }
    }
}

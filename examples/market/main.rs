//! A server, three clients and a market between them: what pulsewire is for, in one command.
//!
//! ```text
//! cargo run --release --example market
//! cargo run --release --example market -- --data recorded.csv --speed max --seconds 20
//! ```
//!
//! The program starts itself four times more. The **server** publishes the ticks of some sixty symbols under the topic
//! `tick.VENUE.SYMBOL` and answers `get_tick`, `get_all_ticks` and `send_order`. Of the **clients**, one follows
//! everything, one a prefix, one reads so rarely that it must lose; all of them ask and order meanwhile. Half way the
//! **parent** kills the server without warning and starts it again on the same port.
//!
//! Then it settles accounts. Publication `k` of the market is a pure function of the seed, or of the file, and `k`. So
//! the parent counts for itself what each client should have got between its first and its last position in each life
//! of the server, and compares that with what the client received and what it was told it lost. What the killed server
//! had published beyond that is the *tail*: nobody got it, and nobody can know how much it was, only a bound. The orders
//! are compared with the ledger that the server writes when it executes one. Exit code 0 means that all of it balances,
//! 1 that it does not or that the run failed, 2 that the arguments made no sense.
//!
//! Begin with `service.rs`, `server.rs` and `client.rs` with its `follower.rs` and `caller.rs`: they use the library. The
//! market is made in `../support` by `feed.rs`, `generator.rs` and `capture.rs` (which describes the CSV), the books are
//! kept by `accounts.rs` and `ledger.rs`, and the rest is the parent and the pipes to it.

mod accounts;
mod caller;
#[path = "../support/capture.rs"]
mod capture;
mod client;
mod director;
#[path = "../support/feed.rs"]
mod feed;
mod follower;
#[path = "../support/generator.rs"]
mod generator;
mod latency;
mod ledger;
mod lines;
mod live;
mod options;
#[path = "../support/process.rs"]
mod process;
mod profile;
mod record;
mod report;
mod server;
mod service;
#[path = "../support/text.rs"]
mod text;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use options::{Command, Role};

fn main() -> ExitCode {
    let command = match options::parse(env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("market: {error}; --help says what there is");
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
                Role::Server { life } => server::play(&part, life).map_err(|error| error.to_string()),
                Role::Client { index } => client::play(&part, index).map_err(|error| error.to_string()),
            }
            .map(|()| true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("market: {error}");
            ExitCode::FAILURE
        }
    }
}

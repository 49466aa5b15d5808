//! A client: the shared trading client, until it is told to settle, and then to state what it believes.

use std::fs;
use std::io;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use pulsewire::trader::GatewayState;

use crate::lines::{Order, Report};
use crate::options::{self, Part, CLIENTS};
use crate::process::{self, report};
use crate::trading::client::{self, Told, TradingClient};
use crate::trading::strategy::Strategy;

/// How long it waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Contracts that it trades: the same for all, so that they meet.
const CONTRACTS: usize = 4;

/// Between two decisions.
const PACE: Duration = Duration::from_millis(5);

/// How often it says how far it is.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// Plays the client until the parent says stop.
///
/// # Errors
/// What kept it from trading, or from knowing what became of it.
pub fn play(part: &Part, index: usize) -> Result<(), Trouble> {
    let orders = process::orders(&part.scratch)?;
    let (name, style) = CLIENTS[index];
    let strategy = Strategy::new(style, 1 + index as u64);
    let mut client = TradingClient::connect(name, &part.address(), strategy)?;
    client.begin(CONTRACTS, PATIENCE)?;
    trade(&mut client, &orders);
    client.settle(PATIENCE)?;
    report(&Report::Settled);

    let _ = orders.recv(); // Everybody has settled.
    let statement = client.statement(PATIENCE)?;
    fs::write(options::statement(&part.scratch, index), serde_json::to_vec(&statement)?)?;
    report(&Report::Stated);
    let _ = client.main.close();
    Ok(())
}

/// Trades until the next order of the parent.
fn trade(client: &mut TradingClient, orders: &Receiver<Order>) {
    let mut epoch = None;
    let mut next_report = Instant::now();
    while orders.try_recv() == Err(TryRecvError::Empty) {
        // Without a server as well: what cannot be sent is refused, and is nowhere.
        client.act();
        thread::sleep(PACE);
        let status = client.gateway.status();
        if status.state == GatewayState::Live && status.epoch != epoch {
            epoch = status.epoch;
            report(&Report::Live { epoch: epoch.unwrap_or_default() });
        }
        if Instant::now() >= next_report {
            next_report += REPORT_EVERY;
            let unknown = client.sent().iter().filter(|sent| sent.told == Told::Unknown).count();
            report(&Report::Progress { sent: client.sent().len(), unknown });
        }
    }
}

/// Why the client cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("cannot listen to the parent, or write to the run's directory: {0}")]
    Io(#[from] io::Error),
    #[error("cannot write the statement: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Client(#[from] client::Trouble),
}

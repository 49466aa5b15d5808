//! The server: the shared trading server, with a ledger, and an exchange that is some way off.

use std::io;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use pulsewire::trader::Setting;

use crate::lines::Report;
use crate::options::Part;
use crate::process::{self, report};
use crate::trading::server::{self, ServerOptions, TradingServer};

/// How long it takes to the exchange, and as long back. Long enough that orders are on their way at any moment, the one in
/// which the server is killed among them.
const WAY: Duration = Duration::from_millis(3);

/// What the account begins with, and what of an order's value it needs.
const BALANCE: f64 = 1e9;
const MARGIN_RATE: f64 = 0.1;

/// Plays the server until the parent says stop.
///
/// # Errors
/// What kept it from serving.
pub fn play(part: &Part) -> Result<(), Trouble> {
    let orders = process::orders(&part.scratch)?;
    let ledger = part.ledger();
    let exchange = Setting::new()
        .with("ledger", ledger.to_str().ok_or(Trouble::Path)?)
        .with("balance", BALANCE)
        .with("margin_rate", MARGIN_RATE);
    let options = ServerOptions { source: part.source.clone(), address: part.address(), exchange, way: WAY };
    let mut server = TradingServer::start(&options)?;
    report(&Report::Ready);
    server.play_until(|| orders.try_recv() != Err(TryRecvError::Empty))?;
    server.stop();
    Ok(())
}

/// Why the server cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("cannot listen to the parent: {0}")]
    Io(#[from] io::Error),
    #[error("the run's directory has a name that is no text")]
    Path,
    #[error(transparent)]
    Server(#[from] server::Trouble),
}

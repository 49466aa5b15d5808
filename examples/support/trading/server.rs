//! A trading server: a main engine with a paper exchange behind it and an RPC service before it, and a market that is
//! played into the exchange.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pulsewire::trader::paper::PaperExchange;
use pulsewire::trader::{
    AddGatewayError, MainEngine, Refusal, RpcService, RpcServiceError, RpcServiceSetting, Setting, StartError,
};

use super::contracts::{contracts, tick_data};
use super::distant::Distant;
use crate::capture;
use crate::feed::{Feed, Source};

/// The gateway's name.
pub const GATEWAY: &str = "PAPER";

/// For how long the server tries to get its address: the one before it may still be going.
const BIND_TIMEOUT: Duration = Duration::from_secs(5);

/// What a server is to be.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The market that is traded.
    pub source: Source,
    /// Where it listens, for calls and events alike.
    pub address: String,
    /// What the paper exchange connects with.
    pub exchange: Setting,
    /// How far away the exchange is.
    pub way: Duration,
}

/// A server that serves. It plays its market while [`TradingServer::play_until`] runs.
pub struct TradingServer {
    pub main: MainEngine,
    pub service: RpcService,
    paper: Arc<PaperExchange>,
    feed: Feed,
    /// How many times its natural speed the market is played at.
    speed: f64,
    /// Publications that were played.
    played: u64,
}

/// Why a server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error(transparent)]
    Capture(#[from] capture::Error),
    #[error(transparent)]
    Engine(#[from] StartError),
    #[error(transparent)]
    Gateway(#[from] AddGatewayError),
    #[error("the exchange does not connect: {0}")]
    Exchange(Refusal),
    #[error("the exchange does not take the market: {0}")]
    Tick(Refusal),
    #[error("cannot serve: {0}")]
    Service(#[from] RpcServiceError),
}

impl TradingServer {
    /// Opens the exchange with its ledger, and serves.
    ///
    /// # Errors
    /// The market, the ledger or the address cannot be had.
    pub fn start(options: &ServerOptions) -> Result<Self, Trouble> {
        let feed = options.source.load()?;
        let main = MainEngine::new()?;
        let contracts = contracts(&feed);
        let mut paper = None;
        main.add_gateway(GATEWAY, |context| {
            let exchange = Arc::new(PaperExchange::new(context, contracts));
            paper = Some(Arc::clone(&exchange));
            Distant::new(exchange, options.way)
        })?;
        let paper = paper.expect("the gateway was added");
        main.connect(&options.exchange, GATEWAY).map_err(Trouble::Exchange)?;
        let service = serve(&main, &options.address)?;
        // The generated market is a busy one. At a tenth of that, one can trade in it.
        let speed = if matches!(options.source, Source::Generator { .. }) { 0.1 } else { 1.0 };
        Ok(TradingServer { main, service, paper, feed, speed, played: 0 })
    }

    /// Plays the market, from its begin and over again, until `is_over` says so; it is asked before each tick, and every
    /// few milliseconds.
    ///
    /// # Errors
    /// The exchange does not take it.
    pub fn play_until(&mut self, mut is_over: impl FnMut() -> bool) -> Result<(), Trouble> {
        const NAP: Duration = Duration::from_millis(5);
        let began = Instant::now();
        while !is_over() {
            let due = self.feed.due(self.played).div_f64(self.speed);
            match due.saturating_sub(began.elapsed()) {
                Duration::ZERO => {
                    self.paper.handle_tick(tick_data(&self.feed, self.played)).map_err(Trouble::Tick)?;
                    self.played += 1;
                }
                wait => thread::sleep(wait.min(NAP)),
            }
        }
        Ok(())
    }

    /// Contracts that can be traded.
    pub fn contracts(&self) -> usize {
        self.feed.topics().len()
    }

    /// Ticks that were played.
    pub fn played(&self) -> u64 {
        self.played
    }

    /// Stops serving, then trading. Gives the number of events that nobody was told of any more.
    pub fn stop(self) -> u64 {
        self.service.stop();
        self.main.close().dropped
    }
}

fn serve(main: &MainEngine, address: &str) -> Result<RpcService, RpcServiceError> {
    let service = RpcService::new(main);
    let deadline = Instant::now() + BIND_TIMEOUT;
    loop {
        match service.start(&RpcServiceSetting::new(address, "")) {
            Ok(()) => return Ok(service),
            Err(RpcServiceError::Bind(_)) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20))
            }
            Err(error) => return Err(error),
        }
    }
}

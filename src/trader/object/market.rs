//! Market data: ticks and bars.

use std::string::String;

use serde::{Deserialize, Serialize};

use super::Extra;
use crate::trader::{id, Exchange, Interval, Timestamp};

/// The state of one market at one moment: last trade, the day so far, five levels of the book.
///
/// Level 1, the best, is index 0 of the four arrays: vn.py's `bid_price_1` is `bid_price[0]`.
///
/// Source: vn.py `TickData`. Put under `eTick.` and `eTick.<vt_symbol>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TickData {
    /// The gateway that it came through.
    pub gateway_name: String,
    /// The contract's code at its exchange.
    pub symbol: String,
    /// Where it trades.
    pub exchange: Exchange,
    /// The exchange's time of this state.
    pub datetime: Timestamp,
    /// The contract's name for people.
    pub name: String,
    /// Volume traded today, in lots.
    pub volume: f64,
    /// Turnover today, in money.
    pub turnover: f64,
    /// Open interest, in lots.
    pub open_interest: f64,
    /// Price of the last trade.
    pub last_price: f64,
    /// Volume of the last trade, in lots.
    pub last_volume: f64,
    /// The highest price allowed today.
    pub limit_up: f64,
    /// The lowest price allowed today.
    pub limit_down: f64,
    /// First price today.
    pub open_price: f64,
    /// Highest price today.
    pub high_price: f64,
    /// Lowest price today.
    pub low_price: f64,
    /// Closing (or settlement) price of the day before.
    pub pre_close: f64,
    /// Prices of the five best bids, the best first.
    pub bid_price: [f64; 5],
    /// Prices of the five best asks, the best first.
    pub ask_price: [f64; 5],
    /// Volumes at those bids, in lots.
    pub bid_volume: [f64; 5],
    /// Volumes at those asks, in lots.
    pub ask_volume: [f64; 5],
    /// When the gateway had it, by its own clock.
    pub localtime: Option<Timestamp>,
    /// Anything else.
    pub extra: Extra,
}

impl TickData {
    /// A tick without prices.
    pub fn new(
        gateway_name: impl Into<String>,
        symbol: impl Into<String>,
        exchange: Exchange,
        datetime: Timestamp,
    ) -> Self {
        TickData {
            gateway_name: gateway_name.into(),
            symbol: symbol.into(),
            exchange,
            datetime,
            name: String::new(),
            volume: 0.0,
            turnover: 0.0,
            open_interest: 0.0,
            last_price: 0.0,
            last_volume: 0.0,
            limit_up: 0.0,
            limit_down: 0.0,
            open_price: 0.0,
            high_price: 0.0,
            low_price: 0.0,
            pre_close: 0.0,
            bid_price: [0.0; 5],
            ask_price: [0.0; 5],
            bid_volume: [0.0; 5],
            ask_volume: [0.0; 5],
            localtime: None,
            extra: Extra::new(),
        }
    }

    /// The contract: `symbol.EXCHANGE`.
    pub fn vt_symbol(&self) -> String {
        id::vt_symbol(&self.symbol, self.exchange)
    }
}

/// One candle: what traded in one market in one interval.
///
/// Source: vn.py `BarData`. The answer to a [`HistoryRequest`](super::HistoryRequest); no event carries it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BarData {
    /// The gateway, or the data source, that it came from.
    pub gateway_name: String,
    /// The contract's code at its exchange.
    pub symbol: String,
    /// Where it trades.
    pub exchange: Exchange,
    /// When the interval begins.
    pub datetime: Timestamp,
    /// How long the interval is.
    pub interval: Option<Interval>,
    /// Volume in the interval, in lots.
    pub volume: f64,
    /// Turnover in the interval, in money.
    pub turnover: f64,
    /// Open interest at its end, in lots.
    pub open_interest: f64,
    /// First price.
    pub open_price: f64,
    /// Highest price.
    pub high_price: f64,
    /// Lowest price.
    pub low_price: f64,
    /// Last price.
    pub close_price: f64,
    /// Anything else.
    pub extra: Extra,
}

impl BarData {
    /// A bar without prices.
    pub fn new(
        gateway_name: impl Into<String>,
        symbol: impl Into<String>,
        exchange: Exchange,
        datetime: Timestamp,
    ) -> Self {
        BarData {
            gateway_name: gateway_name.into(),
            symbol: symbol.into(),
            exchange,
            datetime,
            interval: None,
            volume: 0.0,
            turnover: 0.0,
            open_interest: 0.0,
            open_price: 0.0,
            high_price: 0.0,
            low_price: 0.0,
            close_price: 0.0,
            extra: Extra::new(),
        }
    }

    /// The contract: `symbol.EXCHANGE`.
    pub fn vt_symbol(&self) -> String {
        id::vt_symbol(&self.symbol, self.exchange)
    }
}

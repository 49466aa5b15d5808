//! What can be traded.

use std::string::String;

use serde::{Deserialize, Serialize};

use super::Extra;
use crate::trader::{id, Exchange, OptionType, Product, Timestamp};

/// What one contract is, and how it is traded.
///
/// Source: vn.py `ContractData`. Put under `eContract.` alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContractData {
    /// The gateway that trades it.
    pub gateway_name: String,
    /// Its code at its exchange.
    pub symbol: String,
    /// Where it trades.
    pub exchange: Exchange,
    /// Its name for people.
    pub name: String,
    /// What kind of thing it is.
    pub product: Product,
    /// The multiplier: units of the underlying per lot.
    pub size: f64,
    /// The smallest step of its price.
    pub pricetick: f64,
    /// The smallest order, in lots; 1 unless said otherwise.
    pub min_volume: f64,
    /// The largest order, in lots, if there is one.
    pub max_volume: Option<f64>,
    /// The server takes stop orders.
    pub stop_supported: bool,
    /// The gateway keeps one net position instead of a long and a short one.
    pub net_position: bool,
    /// The gateway answers history requests for it.
    pub history_data: bool,
    /// Options: the strike price.
    pub option_strike: Option<f64>,
    /// Options: the `vt_symbol` of the underlying.
    pub option_underlying: Option<String>,
    /// Options: call or put.
    pub option_type: Option<OptionType>,
    /// Options: when it was listed.
    pub option_listed: Option<Timestamp>,
    /// Options: when it expires.
    pub option_expiry: Option<Timestamp>,
    /// Options: the portfolio that it belongs to.
    pub option_portfolio: Option<String>,
    /// Options: what tells strikes apart within a portfolio.
    pub option_index: Option<String>,
    /// Anything else.
    pub extra: Extra,
}

impl ContractData {
    /// A contract that is no option, in orders of one lot and more.
    pub fn new(
        gateway_name: impl Into<String>,
        symbol: impl Into<String>,
        exchange: Exchange,
        name: impl Into<String>,
        product: Product,
        size: f64,
        pricetick: f64,
    ) -> Self {
        ContractData {
            gateway_name: gateway_name.into(),
            symbol: symbol.into(),
            exchange,
            name: name.into(),
            product,
            size,
            pricetick,
            min_volume: 1.0,
            max_volume: None,
            stop_supported: false,
            net_position: false,
            history_data: false,
            option_strike: None,
            option_underlying: None,
            option_type: None,
            option_listed: None,
            option_expiry: None,
            option_portfolio: None,
            option_index: None,
            extra: Extra::new(),
        }
    }

    /// The contract: `symbol.EXCHANGE`.
    pub fn vt_symbol(&self) -> String {
        id::vt_symbol(&self.symbol, self.exchange)
    }
}

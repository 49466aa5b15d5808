//! What the user has: positions and money.

use std::string::String;

use serde::{Deserialize, Serialize};

use super::Extra;
use crate::trader::{id, Direction, Exchange};

/// What is held of one contract on one side.
///
/// Source: vn.py `PositionData`. Put under `ePosition.` and `ePosition.<vt_symbol>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PositionData {
    /// The gateway whose account holds it.
    pub gateway_name: String,
    /// The contract's code at its exchange.
    pub symbol: String,
    /// Where it trades.
    pub exchange: Exchange,
    /// The side; net positions have a sign in their volume.
    pub direction: Direction,
    /// What is held, in lots.
    pub volume: f64,
    /// What of it is bound by closing orders, in lots.
    pub frozen: f64,
    /// The average price that it was opened at.
    pub price: f64,
    /// Profit and loss not realised, in money.
    pub pnl: f64,
    /// What of it was held before today, in lots.
    pub yd_volume: f64,
    /// Anything else.
    pub extra: Extra,
}

impl PositionData {
    /// A position of nothing.
    pub fn new(
        gateway_name: impl Into<String>,
        symbol: impl Into<String>,
        exchange: Exchange,
        direction: Direction,
    ) -> Self {
        PositionData {
            gateway_name: gateway_name.into(),
            symbol: symbol.into(),
            exchange,
            direction,
            volume: 0.0,
            frozen: 0.0,
            price: 0.0,
            pnl: 0.0,
            yd_volume: 0.0,
            extra: Extra::new(),
        }
    }

    /// The contract: `symbol.EXCHANGE`.
    pub fn vt_symbol(&self) -> String {
        id::vt_symbol(&self.symbol, self.exchange)
    }

    /// The position among all gateways: `gateway.symbol.EXCHANGE.DIRECTION`.
    pub fn vt_positionid(&self) -> String {
        id::vt_positionid(&self.gateway_name, &self.symbol, self.exchange, self.direction)
    }
}

/// The money of one account.
///
/// Source: vn.py `AccountData`. Put under `eAccount.` and `eAccount.<vt_accountid>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountData {
    /// The gateway that reaches it.
    pub gateway_name: String,
    /// The account's id at its gateway.
    pub accountid: String,
    /// All of it, in money.
    pub balance: f64,
    /// What of it is bound by orders and margins, in money.
    pub frozen: f64,
    /// Anything else.
    pub extra: Extra,
}

impl AccountData {
    /// An empty account.
    pub fn new(gateway_name: impl Into<String>, accountid: impl Into<String>) -> Self {
        AccountData {
            gateway_name: gateway_name.into(),
            accountid: accountid.into(),
            balance: 0.0,
            frozen: 0.0,
            extra: Extra::new(),
        }
    }

    /// What may be spent: the balance less what is frozen.
    pub fn available(&self) -> f64 {
        self.balance - self.frozen
    }

    /// The account among all gateways: `gateway.accountid`.
    pub fn vt_accountid(&self) -> String {
        id::vt_id(&self.gateway_name, &self.accountid)
    }
}

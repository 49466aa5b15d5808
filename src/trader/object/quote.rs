//! Two-sided quotes of market makers.

use std::string::String;

use serde::{Deserialize, Serialize};

use super::{CancelRequest, Extra};
use crate::trader::{id, Exchange, Offset, Status, Timestamp};

/// The state of a quote, a bid and an ask in one, as last reported.
///
/// Source: vn.py `QuoteData`. Put under `eQuote.` and `eQuote.<vt_symbol>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuoteData {
    /// The gateway that sends it.
    pub gateway_name: String,
    /// The contract's code at its exchange.
    pub symbol: String,
    /// Where it trades.
    pub exchange: Exchange,
    /// The quote's id at its gateway; it may have dots.
    pub quoteid: String,
    /// What it buys at.
    pub bid_price: f64,
    /// What it buys, in whole lots.
    pub bid_volume: u64,
    /// What it sells at.
    pub ask_price: f64,
    /// What it sells, in whole lots.
    pub ask_volume: u64,
    /// Whether the bid opens or closes a position.
    pub bid_offset: Offset,
    /// Whether the ask opens or closes a position.
    pub ask_offset: Offset,
    /// How far it has come.
    pub status: Status,
    /// When it was placed.
    pub datetime: Option<Timestamp>,
    /// Whose quote it is: a text from its request, given back.
    pub reference: String,
    /// Anything else.
    pub extra: Extra,
}

impl QuoteData {
    /// A quote that has just been sent: submitting, without prices.
    pub fn new(
        gateway_name: impl Into<String>,
        symbol: impl Into<String>,
        exchange: Exchange,
        quoteid: impl Into<String>,
    ) -> Self {
        QuoteData {
            gateway_name: gateway_name.into(),
            symbol: symbol.into(),
            exchange,
            quoteid: quoteid.into(),
            bid_price: 0.0,
            bid_volume: 0,
            ask_price: 0.0,
            ask_volume: 0,
            bid_offset: Offset::None,
            ask_offset: Offset::None,
            status: Status::Submitting,
            datetime: None,
            reference: String::new(),
            extra: Extra::new(),
        }
    }

    /// The contract: `symbol.EXCHANGE`.
    pub fn vt_symbol(&self) -> String {
        id::vt_symbol(&self.symbol, self.exchange)
    }

    /// The quote among all gateways: `gateway.quoteid`.
    pub fn vt_quoteid(&self) -> String {
        id::vt_id(&self.gateway_name, &self.quoteid)
    }

    /// Whether it may still trade.
    pub fn is_active(&self) -> bool {
        self.status.is_active()
    }

    /// The request that cancels it; its order id is the quote's. vn.py's `create_cancel_request`.
    pub fn cancel_request(&self) -> CancelRequest {
        CancelRequest::new(self.quoteid.clone(), self.symbol.clone(), self.exchange)
    }
}

//! What is asked of a gateway. Requests name no gateway: whoever routes them does.

use std::string::String;

use serde::{Deserialize, Serialize};

use super::{OrderData, QuoteData};
use crate::trader::{id, Direction, Exchange, Interval, Offset, OrderType, Timestamp};

/// Why a request can be sent nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// A volume that is no number, or not above 0; both volumes of a quote are 0.
    #[error("the volume is not above 0")]
    Volume,
    /// A price that is no number. Prices at or below 0 exist.
    #[error("the price is not a number")]
    Price,
    /// The symbol is empty.
    #[error("the symbol is empty")]
    Symbol,
}

/// Asks for the ticks of a contract.
///
/// Source: vn.py `SubscribeRequest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SubscribeRequest {
    /// The contract's code at its exchange.
    pub symbol: String,
    /// Where it trades.
    pub exchange: Exchange,
}

impl SubscribeRequest {
    /// A request for this contract.
    pub fn new(symbol: impl Into<String>, exchange: Exchange) -> Self {
        SubscribeRequest { symbol: symbol.into(), exchange }
    }

    /// The contract: `symbol.EXCHANGE`.
    pub fn vt_symbol(&self) -> String {
        id::vt_symbol(&self.symbol, self.exchange)
    }
}

/// Asks for an order.
///
/// Source: vn.py `OrderRequest`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderRequest {
    /// The contract's code at its exchange.
    pub symbol: String,
    /// Where it trades.
    pub exchange: Exchange,
    /// Buy ([`Direction::Long`]) or sell ([`Direction::Short`]).
    pub direction: Direction,
    /// How it trades. vn.py's `type`.
    pub order_type: OrderType,
    /// How much, in lots.
    pub volume: f64,
    /// The limit, or 0 where there is none.
    pub price: f64,
    /// Whether it opens or closes a position.
    pub offset: Offset,
    /// Whose order it is: comes back in the order's record, and finds it again when its outcome is unknown.
    pub reference: String,
}

impl OrderRequest {
    /// An order without price, offset and reference.
    pub fn new(
        symbol: impl Into<String>,
        exchange: Exchange,
        direction: Direction,
        order_type: OrderType,
        volume: f64,
    ) -> Self {
        OrderRequest {
            symbol: symbol.into(),
            exchange,
            direction,
            order_type,
            volume,
            price: 0.0,
            offset: Offset::None,
            reference: String::new(),
        }
    }

    /// The contract: `symbol.EXCHANGE`.
    pub fn vt_symbol(&self) -> String {
        id::vt_symbol(&self.symbol, self.exchange)
    }

    /// Whether it makes sense at all; what the exchange thinks of it is another matter.
    ///
    /// # Errors
    /// No symbol, a volume that is not above 0, or a price that is no number.
    pub fn check(&self) -> Result<(), InvalidRequest> {
        check_contract_and_prices(&self.symbol, &[self.price])?;
        if self.volume > 0.0 && self.volume.is_finite() {
            Ok(())
        } else {
            Err(InvalidRequest::Volume)
        }
    }

    /// The order that this request becomes once it has an id: submitting. vn.py's `create_order_data`.
    pub fn to_order(&self, gateway_name: impl Into<String>, orderid: impl Into<String>) -> OrderData {
        OrderData {
            order_type: self.order_type,
            direction: Some(self.direction),
            offset: self.offset,
            price: self.price,
            volume: self.volume,
            reference: self.reference.clone(),
            ..OrderData::new(gateway_name, self.symbol.clone(), self.exchange, orderid)
        }
    }
}

/// Asks for an order, or a quote, to be taken out of the book.
///
/// Source: vn.py `CancelRequest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CancelRequest {
    /// The id at its gateway of the order, or of the quote.
    pub orderid: String,
    /// The contract's code at its exchange.
    pub symbol: String,
    /// Where it trades.
    pub exchange: Exchange,
}

impl CancelRequest {
    /// A request for this order or quote.
    pub fn new(orderid: impl Into<String>, symbol: impl Into<String>, exchange: Exchange) -> Self {
        CancelRequest { orderid: orderid.into(), symbol: symbol.into(), exchange }
    }

    /// The contract: `symbol.EXCHANGE`.
    pub fn vt_symbol(&self) -> String {
        id::vt_symbol(&self.symbol, self.exchange)
    }
}

/// Asks for the bars of a contract.
///
/// Source: vn.py `HistoryRequest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HistoryRequest {
    /// The contract's code at its exchange.
    pub symbol: String,
    /// Where it trades.
    pub exchange: Exchange,
    /// From when on.
    pub start: Timestamp,
    /// Up to when; up to now if it is not given.
    pub end: Option<Timestamp>,
    /// How long each bar is; the gateway's choice if it is not given.
    pub interval: Option<Interval>,
}

impl HistoryRequest {
    /// All bars since a moment.
    pub fn new(symbol: impl Into<String>, exchange: Exchange, start: Timestamp) -> Self {
        HistoryRequest { symbol: symbol.into(), exchange, start, end: None, interval: None }
    }

    /// The contract: `symbol.EXCHANGE`.
    pub fn vt_symbol(&self) -> String {
        id::vt_symbol(&self.symbol, self.exchange)
    }
}

/// Asks for a quote.
///
/// Source: vn.py `QuoteRequest`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuoteRequest {
    /// The contract's code at its exchange.
    pub symbol: String,
    /// Where it trades.
    pub exchange: Exchange,
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
    /// Whose quote it is: comes back in the quote's record.
    pub reference: String,
}

impl QuoteRequest {
    /// A quote without offsets and reference.
    pub fn new(
        symbol: impl Into<String>,
        exchange: Exchange,
        bid_price: f64,
        bid_volume: u64,
        ask_price: f64,
        ask_volume: u64,
    ) -> Self {
        QuoteRequest {
            symbol: symbol.into(),
            exchange,
            bid_price,
            bid_volume,
            ask_price,
            ask_volume,
            bid_offset: Offset::None,
            ask_offset: Offset::None,
            reference: String::new(),
        }
    }

    /// The contract: `symbol.EXCHANGE`.
    pub fn vt_symbol(&self) -> String {
        id::vt_symbol(&self.symbol, self.exchange)
    }

    /// Whether it makes sense at all; what the exchange thinks of it is another matter.
    ///
    /// # Errors
    /// No symbol, no volume on either side, or a price that is no number.
    pub fn check(&self) -> Result<(), InvalidRequest> {
        check_contract_and_prices(&self.symbol, &[self.bid_price, self.ask_price])?;
        if self.bid_volume > 0 || self.ask_volume > 0 {
            Ok(())
        } else {
            Err(InvalidRequest::Volume)
        }
    }

    /// The quote that this request becomes once it has an id: submitting. vn.py's `create_quote_data`.
    pub fn to_quote(&self, gateway_name: impl Into<String>, quoteid: impl Into<String>) -> QuoteData {
        QuoteData {
            bid_price: self.bid_price,
            bid_volume: self.bid_volume,
            ask_price: self.ask_price,
            ask_volume: self.ask_volume,
            bid_offset: self.bid_offset,
            ask_offset: self.ask_offset,
            reference: self.reference.clone(),
            ..QuoteData::new(gateway_name, self.symbol.clone(), self.exchange, quoteid)
        }
    }
}

fn check_contract_and_prices(symbol: &str, prices: &[f64]) -> Result<(), InvalidRequest> {
    if symbol.is_empty() {
        Err(InvalidRequest::Symbol)
    } else if prices.iter().all(|price| price.is_finite()) {
        Ok(())
    } else {
        Err(InvalidRequest::Price)
    }
}

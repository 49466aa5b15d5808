//! Orders and their trades.

use std::string::String;

use serde::{Deserialize, Serialize};

use super::{CancelRequest, Extra};
use crate::trader::{id, Direction, Exchange, Offset, OrderType, Status, Timestamp};

/// The state of an order, as last reported.
///
/// Source: vn.py `OrderData`. Put under `eOrder.` and `eOrder.<vt_orderid>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderData {
    /// The gateway that sends it.
    pub gateway_name: String,
    /// The contract's code at its exchange.
    pub symbol: String,
    /// Where it trades.
    pub exchange: Exchange,
    /// The order's id at its gateway; it may have dots.
    pub orderid: String,
    /// How it trades. vn.py's `type`.
    pub order_type: OrderType,
    /// Its side, if known.
    pub direction: Option<Direction>,
    /// Whether it opens or closes a position.
    pub offset: Offset,
    /// The limit, or 0 where there is none.
    pub price: f64,
    /// What was ordered, in lots.
    pub volume: f64,
    /// What of it has traded, in lots.
    pub traded: f64,
    /// How far it has come.
    pub status: Status,
    /// When it was placed, by the exchange's clock if known.
    pub datetime: Option<Timestamp>,
    /// Whose order it is: a text from its request, given back.
    pub reference: String,
    /// Anything else.
    pub extra: Extra,
}

impl OrderData {
    /// A limit order that has just been sent: submitting, nothing traded.
    pub fn new(
        gateway_name: impl Into<String>,
        symbol: impl Into<String>,
        exchange: Exchange,
        orderid: impl Into<String>,
    ) -> Self {
        OrderData {
            gateway_name: gateway_name.into(),
            symbol: symbol.into(),
            exchange,
            orderid: orderid.into(),
            order_type: OrderType::Limit,
            direction: None,
            offset: Offset::None,
            price: 0.0,
            volume: 0.0,
            traded: 0.0,
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

    /// The order among all gateways: `gateway.orderid`.
    pub fn vt_orderid(&self) -> String {
        id::vt_id(&self.gateway_name, &self.orderid)
    }

    /// Whether it may still trade.
    pub fn is_active(&self) -> bool {
        self.status.is_active()
    }

    /// The request that cancels it. vn.py's `create_cancel_request`.
    pub fn cancel_request(&self) -> CancelRequest {
        CancelRequest::new(self.orderid.clone(), self.symbol.clone(), self.exchange)
    }
}

/// One trade: an order, or a part of it, has been filled.
///
/// Source: vn.py `TradeData`. Put under `eTrade.` and `eTrade.<vt_symbol>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TradeData {
    /// The gateway that it came through.
    pub gateway_name: String,
    /// The contract's code at its exchange.
    pub symbol: String,
    /// Where it traded.
    pub exchange: Exchange,
    /// The order's id at its gateway.
    pub orderid: String,
    /// The trade's id at its gateway.
    pub tradeid: String,
    /// The side, if known.
    pub direction: Option<Direction>,
    /// Whether it opened or closed a position.
    pub offset: Offset,
    /// The price that it traded at.
    pub price: f64,
    /// How much traded, in lots.
    pub volume: f64,
    /// When it traded, by the exchange's clock.
    pub datetime: Option<Timestamp>,
    /// Anything else.
    pub extra: Extra,
}

impl TradeData {
    /// A trade without price and volume.
    pub fn new(
        gateway_name: impl Into<String>,
        symbol: impl Into<String>,
        exchange: Exchange,
        orderid: impl Into<String>,
        tradeid: impl Into<String>,
    ) -> Self {
        TradeData {
            gateway_name: gateway_name.into(),
            symbol: symbol.into(),
            exchange,
            orderid: orderid.into(),
            tradeid: tradeid.into(),
            direction: None,
            offset: Offset::None,
            price: 0.0,
            volume: 0.0,
            datetime: None,
            extra: Extra::new(),
        }
    }

    /// The contract: `symbol.EXCHANGE`.
    pub fn vt_symbol(&self) -> String {
        id::vt_symbol(&self.symbol, self.exchange)
    }

    /// The order among all gateways: `gateway.orderid`.
    pub fn vt_orderid(&self) -> String {
        id::vt_id(&self.gateway_name, &self.orderid)
    }

    /// The trade among all gateways: `gateway.tradeid`.
    pub fn vt_tradeid(&self) -> String {
        id::vt_id(&self.gateway_name, &self.tradeid)
    }
}

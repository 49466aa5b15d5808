//! The records of vn.py's `object.py`: what gateways report and what is asked of them.
//!
//! Plain data with public fields. A constructor takes what vn.py requires, the rest is zero or empty and is set by
//! name: `TickData { last_price: 3_500.0, ..TickData::new("CTP", "rb2410", Exchange::Shfe, Timestamp::now()) }`. The ids
//! (`vt_symbol()`, `vt_orderid()` ...) are computed when asked for, so that they never go stale.
//!
//! On the wire a record is its fields in the order in which they stand here, as postcard writes them: changing the order
//! changes the format. Prices are in the currency of the contract per unit of its quotation, volumes in lots (contracts,
//! shares, coins) as the exchange counts them, money in the currency of the account. What is not known is 0, as in vn.py.

mod account;
mod contract;
mod log;
mod market;
mod order;
mod quote;
mod request;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::string::String;

pub use account::{AccountData, PositionData};
pub use contract::ContractData;
pub use log::LogData;
pub use market::{BarData, TickData};
pub use order::{OrderData, TradeData};
pub use quote::QuoteData;
pub use request::{
    CancelRequest, HistoryRequest, InvalidRequest, OrderRequest, QuoteRequest, SubscribeRequest,
};

/// What a gateway wants to say beyond a record's fields, by name: texts, in no format of ours. Mostly empty.
///
/// vn.py's `extra` holds any Python object; here it is text, so that it decodes into nothing but text.
pub type Extra = BTreeMap<String, String>;

//! The trading bridge.

mod enums;
pub mod id;
mod object;
mod timestamp;

pub use enums::{
    Currency, Direction, Exchange, Interval, LogLevel, Offset, OptionType, OrderType, Product, Status,
    UnknownName, UnknownNumber,
};
pub use id::IdError;
pub use object::{
    AccountData, BarData, CancelRequest, ContractData, Extra, HistoryRequest, InvalidRequest, LogData,
    OrderData, OrderRequest, PositionData, QuoteData, QuoteRequest, SubscribeRequest, TickData, TradeData,
};
pub use timestamp::{ParseTimestampError, Timestamp, TimestampOutOfRange};

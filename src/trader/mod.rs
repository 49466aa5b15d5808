//! The trading bridge.

mod enums;
mod event;
mod event_engine;
pub mod id;
mod object;
mod timestamp;

pub use enums::{
    Currency, Direction, Exchange, Interval, LogLevel, Offset, OptionType, OrderType, Product, Status,
    UnknownName, UnknownNumber,
};
pub use event::{
    CustomData, CustomEvent, Event, InvalidEventType, EVENT_ACCOUNT, EVENT_CONTRACT, EVENT_LOG, EVENT_ORDER,
    EVENT_POSITION, EVENT_QUOTE, EVENT_TICK, EVENT_TIMER, EVENT_TRADE, MAX_EVENT_TYPE_BYTES,
};
pub use event_engine::{
    EventEngine, EventEngineConfig, EventEngineStats, HandlerId, PutError, StartError, Stopped,
};
pub use id::IdError;
pub use object::{
    AccountData, BarData, CancelRequest, ContractData, Extra, HistoryRequest, InvalidRequest, LogData,
    OrderData, OrderRequest, PositionData, QuoteData, QuoteRequest, SubscribeRequest, TickData, TradeData,
};
pub use timestamp::{ParseTimestampError, Timestamp, TimestampOutOfRange};

//! Events: what has happened, and the types that handlers and topics go by.

use core::fmt;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{AccountData, ContractData, LogData, OrderData, PositionData, QuoteData, TickData, TradeData};

/// General type of [`Event::Timer`].
pub const EVENT_TIMER: &str = "eTimer";
/// General type of [`Event::Tick`].
pub const EVENT_TICK: &str = "eTick.";
/// General type of [`Event::Trade`].
pub const EVENT_TRADE: &str = "eTrade.";
/// General type of [`Event::Order`].
pub const EVENT_ORDER: &str = "eOrder.";
/// General type of [`Event::Position`].
pub const EVENT_POSITION: &str = "ePosition.";
/// General type of [`Event::Account`].
pub const EVENT_ACCOUNT: &str = "eAccount.";
/// General type of [`Event::Quote`].
pub const EVENT_QUOTE: &str = "eQuote.";
/// General type of [`Event::Contract`].
pub const EVENT_CONTRACT: &str = "eContract.";
/// General type of [`Event::Log`].
pub const EVENT_LOG: &str = "eLog";

/// The longest type that an application may give its events, in bytes: what a topic may have.
pub const MAX_EVENT_TYPE_BYTES: usize = 255;

const BUILT_IN: [&str; 9] = [
    EVENT_TIMER,
    EVENT_TICK,
    EVENT_TRADE,
    EVENT_ORDER,
    EVENT_POSITION,
    EVENT_ACCOUNT,
    EVENT_QUOTE,
    EVENT_CONTRACT,
    EVENT_LOG,
];

/// Something that has happened, with its record. Cheap to clone: records are shared, and never change.
///
/// An event has two types, computed from its record. vn.py puts such an event on its queue twice, once under each; here
/// it is one event that handlers of either type get.
///
/// | event | general type | specific type | record |
/// |---|---|---|---|
/// | `Timer` | `eTimer` | the same | none |
/// | `Tick` | `eTick.` | `eTick.<vt_symbol>` | [`TickData`] |
/// | `Trade` | `eTrade.` | `eTrade.<vt_symbol>` | [`TradeData`] |
/// | `Order` | `eOrder.` | `eOrder.<vt_orderid>` | [`OrderData`] |
/// | `Position` | `ePosition.` | `ePosition.<vt_symbol>` | [`PositionData`] |
/// | `Account` | `eAccount.` | `eAccount.<vt_accountid>` | [`AccountData`] |
/// | `Quote` | `eQuote.` | `eQuote.<vt_symbol>` | [`QuoteData`] |
/// | `Contract` | `eContract.` | the same | [`ContractData`] |
/// | `Log` | `eLog` | the same | [`LogData`] |
/// | `Custom` | its own | the same | [`CustomEvent`] |
///
/// ```
/// use pulsewire::trader::{Event, Exchange, TickData, Timestamp};
///
/// let event = Event::from(TickData::new("CTP", "rb2410", Exchange::Shfe, Timestamp::now()));
/// assert_eq!(event.general_type(), "eTick.");
/// assert_eq!(event.specific_type(), "eTick.rb2410.SHFE");
/// ```
// The order of the variants is their number on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// Time passes: once per interval of the engine, one second by default. It stays in its process.
    Timer,
    /// A market has moved.
    Tick(Arc<TickData>),
    /// An order has traded.
    Trade(Arc<TradeData>),
    /// An order has changed.
    Order(Arc<OrderData>),
    /// A position has changed.
    Position(Arc<PositionData>),
    /// An account has changed.
    Account(Arc<AccountData>),
    /// A quote has changed.
    Quote(Arc<QuoteData>),
    /// A contract is there to be traded.
    Contract(Arc<ContractData>),
    /// Somebody has said something.
    Log(Arc<LogData>),
    /// An application's own.
    Custom(Arc<CustomEvent>),
}

impl Event {
    /// An application's own event.
    ///
    /// # Errors
    /// As for [`CustomEvent::new`].
    pub fn custom(event_type: impl Into<String>, data: CustomData) -> Result<Self, InvalidEventType> {
        CustomEvent::new(event_type, data).map(Event::from)
    }

    /// What kind of event it is: `eTick.`.
    pub fn general_type(&self) -> &str {
        match self {
            Event::Timer => EVENT_TIMER,
            Event::Tick(_) => EVENT_TICK,
            Event::Trade(_) => EVENT_TRADE,
            Event::Order(_) => EVENT_ORDER,
            Event::Position(_) => EVENT_POSITION,
            Event::Account(_) => EVENT_ACCOUNT,
            Event::Quote(_) => EVENT_QUOTE,
            Event::Contract(_) => EVENT_CONTRACT,
            Event::Log(_) => EVENT_LOG,
            Event::Custom(event) => &event.event_type,
        }
    }

    /// What it is about, as exactly as a type can say: `eTick.rb2410.SHFE`. Begins with the general type. The topic to
    /// publish it under.
    pub fn specific_type(&self) -> String {
        let mut text = String::new();
        self.write_specific_type(&mut text).expect("strings take all that is written");
        text
    }

    /// Appends the specific type.
    pub(super) fn write_specific_type(&self, to: &mut impl fmt::Write) -> fmt::Result {
        to.write_str(self.general_type())?;
        match self {
            Event::Tick(tick) => write!(to, "{}.{}", tick.symbol, tick.exchange),
            Event::Trade(trade) => write!(to, "{}.{}", trade.symbol, trade.exchange),
            Event::Order(order) => write!(to, "{}.{}", order.gateway_name, order.orderid),
            Event::Position(position) => write!(to, "{}.{}", position.symbol, position.exchange),
            Event::Account(account) => write!(to, "{}.{}", account.gateway_name, account.accountid),
            Event::Quote(quote) => write!(to, "{}.{}", quote.symbol, quote.exchange),
            Event::Timer | Event::Contract(_) | Event::Log(_) | Event::Custom(_) => Ok(()),
        }
    }
}

/// An event of an application, under a type of its own, such as vn.py's `eRpcLog`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawCustomEvent")]
pub struct CustomEvent {
    /// Invariant: as [`CustomEvent::new`] checks it.
    event_type: String,
    data: CustomData,
}

/// What an application's event carries.
// The order of the variants is their number on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CustomData {
    /// The type says it all.
    Empty,
    /// A text.
    Text(String),
    /// Bytes, in a format that sender and receiver agree on.
    Bytes(Vec<u8>),
    /// A log line that is not for the general log.
    Log(LogData),
}

/// Why an application cannot have events of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEventType {
    /// It is empty, which as a prefix would be everything.
    #[error("the event type is empty")]
    Empty,
    /// It has more bytes than a topic may have.
    #[error("the event type has {len} bytes, {MAX_EVENT_TYPE_BYTES} are allowed")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// It is, or begins with, a type of the engine's own, whose handlers expect its records.
    #[error("event types that begin with {0} are the engine's own")]
    BuiltIn(&'static str),
}

impl CustomEvent {
    /// An event of this type.
    ///
    /// # Errors
    /// The type is empty, too long, or one of the engine's own.
    pub fn new(event_type: impl Into<String>, data: CustomData) -> Result<Self, InvalidEventType> {
        let event_type = event_type.into();
        if event_type.is_empty() {
            return Err(InvalidEventType::Empty);
        }
        if event_type.len() > MAX_EVENT_TYPE_BYTES {
            return Err(InvalidEventType::TooLong { len: event_type.len() });
        }
        let claims = |own: &&str| event_type == **own || (own.ends_with('.') && event_type.starts_with(*own));
        match BUILT_IN.iter().find(|own| claims(own)) {
            Some(own) => Err(InvalidEventType::BuiltIn(own)),
            None => Ok(CustomEvent { event_type, data }),
        }
    }

    /// Its type, general and specific in one.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// What it carries.
    pub fn data(&self) -> &CustomData {
        &self.data
    }
}

/// What came over the wire, unchecked.
#[derive(Deserialize)]
struct RawCustomEvent {
    event_type: String,
    data: CustomData,
}

impl TryFrom<RawCustomEvent> for CustomEvent {
    type Error = InvalidEventType;

    fn try_from(raw: RawCustomEvent) -> Result<Self, InvalidEventType> {
        CustomEvent::new(raw.event_type, raw.data)
    }
}

macro_rules! records_become_events {
    ($($record:ident => $event:ident,)*) => {$(
        impl From<$record> for Event {
            fn from(record: $record) -> Event {
                Event::$event(Arc::new(record))
            }
        }

        impl From<Arc<$record>> for Event {
            fn from(record: Arc<$record>) -> Event {
                Event::$event(record)
            }
        }
    )*};
}

records_become_events! {
    TickData => Tick,
    TradeData => Trade,
    OrderData => Order,
    PositionData => Position,
    AccountData => Account,
    QuoteData => Quote,
    ContractData => Contract,
    LogData => Log,
    CustomEvent => Custom,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trader::{Direction, Exchange, Product, Timestamp};

    /// One event of each kind, in the order of their numbers, with its specific type.
    fn one_of_each() -> [(Event, &'static str); 10] {
        let shfe = Exchange::Shfe;
        [
            (Event::Timer, "eTimer"),
            (TickData::new("CTP", "a.b", shfe, Timestamp::UNIX_EPOCH).into(), "eTick.a.b.SHFE"),
            (TradeData::new("CTP", "rb", shfe, "1", "2").into(), "eTrade.rb.SHFE"),
            (OrderData::new("CTP", "rb", shfe, "1.2").into(), "eOrder.CTP.1.2"),
            (PositionData::new("CTP", "rb", shfe, Direction::Long).into(), "ePosition.rb.SHFE"),
            (AccountData::new("CTP", "acc1").into(), "eAccount.CTP.acc1"),
            (QuoteData::new("CTP", "rb", shfe, "q").into(), "eQuote.rb.SHFE"),
            (ContractData::new("CTP", "rb", shfe, "", Product::Futures, 10.0, 1.0).into(), "eContract."),
            (LogData::new("CTP", "hello").into(), "eLog"),
            (Event::custom("eRpcLog", CustomData::Text("hi".into())).unwrap(), "eRpcLog"),
        ]
    }

    #[test]
    fn specific_types_are_those_of_the_original_and_begin_with_the_general_ones() {
        for (event, expected) in one_of_each() {
            assert_eq!(event.specific_type(), expected);
            assert!(expected.starts_with(event.general_type()), "{expected}");
        }
        let general = one_of_each().map(|(event, _)| String::from(event.general_type()));
        assert_eq!(general[..9], BUILT_IN.map(String::from), "each kind has its own");
    }

    #[test]
    fn specific_types_of_records_hold_their_ids() {
        let order = OrderData::new("CTP", "rb", Exchange::Shfe, "1.2");
        let account = AccountData::new("CTP", "acc1");
        assert!(Event::from(order.clone()).specific_type().ends_with(&order.vt_orderid()));
        assert!(Event::from(account.clone()).specific_type().ends_with(&account.vt_accountid()));
    }

    #[test]
    fn events_keep_their_numbers_on_the_wire() {
        for (number, (event, _)) in (0_u8..).zip(one_of_each()) {
            let bytes = postcard::to_allocvec(&event).unwrap();
            assert_eq!(bytes[0], number);
            assert_eq!(postcard::from_bytes::<Event>(&bytes), Ok(event));
        }
        assert!(postcard::from_bytes::<Event>(&[10]).is_err());
        for (number, data) in [
            (0, CustomData::Empty),
            (1, CustomData::Text("x".into())),
            (2, CustomData::Bytes([1].into())),
            (3, CustomData::Log(LogData::new("CTP", ""))),
        ] {
            assert_eq!(postcard::to_allocvec(&data).unwrap()[0], number);
        }
    }

    #[test]
    fn types_of_the_engine_are_not_for_applications() {
        let refusal = |event_type: &str| Event::custom(event_type, CustomData::Empty).err();
        assert_eq!(refusal(""), Some(InvalidEventType::Empty));
        assert_eq!(refusal(&"x".repeat(255)), None);
        assert_eq!(refusal(&"x".repeat(256)), Some(InvalidEventType::TooLong { len: 256 }));
        assert_eq!(refusal("eTick.rb2410.SHFE"), Some(InvalidEventType::BuiltIn("eTick.")));
        assert_eq!(refusal("eLog"), Some(InvalidEventType::BuiltIn("eLog")));
        assert_eq!(refusal("eLogin"), None);
        assert_eq!(refusal("eTick"), None);
    }

    #[test]
    fn forged_types_are_refused_when_they_are_decoded() {
        let forged = postcard::to_allocvec(&(9_u8, "eOrder.CTP.1", 0_u8)).unwrap();
        assert!(postcard::from_bytes::<Event>(&forged).is_err());
        let honest = postcard::to_allocvec(&(9_u8, "eMine", 0_u8)).unwrap();
        assert_eq!(
            postcard::from_bytes::<Event>(&honest),
            Ok(Event::custom("eMine", CustomData::Empty).unwrap())
        );
    }
}

//! What a gateway is given: its name, and where to report.

use core::fmt;
use std::string::String;
use std::sync::Arc;

use crate::trader::{
    AccountData, ContractData, Event, EventEngine, LogData, LogLevel, OrderData, PositionData, PutError,
    QuoteData, TickData, TradeData,
};

/// Where a gateway reports to: puts its records on the event engine, under its own name.
///
/// Each record goes on as one event that handlers of its general and of its specific type get, see [`Event`]. Its
/// `gateway_name` is set to the context's, so that ids and event types always agree, also for records that come from a
/// gateway of another name behind this one.
///
/// All methods may wait for room in the engine's queue, as [`EventEngine::put`] says, and give its error when the record
/// has reached nobody: it is counted and logged already, so a tick may be let go; for what must not be missed, such as a
/// trade, the gateway has to query anew later.
#[derive(Clone)]
pub struct GatewayContext {
    gateway_name: Arc<str>,
    events: EventEngine,
}

impl GatewayContext {
    /// A context for a gateway of this name. [`MainEngine::add_gateway`](crate::trader::MainEngine::add_gateway) makes
    /// it; this is for gateways that are used without one.
    pub fn new(gateway_name: impl Into<String>, events: EventEngine) -> Self {
        GatewayContext { gateway_name: gateway_name.into().into(), events }
    }

    /// The gateway's name.
    pub fn gateway_name(&self) -> &str {
        &self.gateway_name
    }

    /// The event engine, for handlers of its own: of the timer, for one.
    pub fn event_engine(&self) -> &EventEngine {
        &self.events
    }

    /// Puts any event, as it is.
    ///
    /// # Errors
    /// It has reached nobody.
    pub fn on_event(&self, event: Event) -> Result<(), PutError> {
        // The name of what may be lost is made only if it is.
        let copy = event.clone();
        self.events.put(event).inspect_err(|error| {
            log::warn!("event-lost: {} of {}: {error}", copy.specific_type(), self.gateway_name);
        })
    }

    /// Reports something to be read by people.
    ///
    /// # Errors
    /// It has reached nobody.
    pub fn write_log(&self, level: LogLevel, msg: impl Into<String>) -> Result<(), PutError> {
        self.on_event(LogData { level, ..LogData::new(&*self.gateway_name, msg) }.into())
    }
}

macro_rules! reports {
    ($($(#[$meta:meta])* $method:ident($record:ident);)*) => {
        impl GatewayContext {
            $(
                $(#[$meta])*
                ///
                /// # Errors
                /// It has reached nobody.
                pub fn $method(&self, mut record: $record) -> Result<(), PutError> {
                    if record.gateway_name != *self.gateway_name {
                        record.gateway_name = String::from(&*self.gateway_name);
                    }
                    self.on_event(record.into())
                }
            )*
        }
    };
}

reports! {
    /// Reports a tick.
    on_tick(TickData);
    /// Reports a trade.
    on_trade(TradeData);
    /// Reports an order's new state.
    on_order(OrderData);
    /// Reports a position's new state.
    on_position(PositionData);
    /// Reports an account's new state.
    on_account(AccountData);
    /// Reports a quote's new state.
    on_quote(QuoteData);
    /// Reports a contract.
    on_contract(ContractData);
    /// Reports a log line.
    on_log(LogData);
}

impl fmt::Debug for GatewayContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayContext").field("gateway_name", &self.gateway_name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::vec::Vec;

    use super::*;
    use crate::trader::{Direction, Exchange, Product, Timestamp};

    #[test]
    fn every_report_is_one_event_under_the_name_of_the_gateway() {
        let engine = EventEngine::new();
        let (sender, receiver) = channel();
        engine.register_general(move |event| sender.send(event.clone()).unwrap());
        let context = GatewayContext::new("RPC", engine.clone());
        let shfe = Exchange::Shfe;
        context.on_tick(TickData::new("FAKE", "rb", shfe, Timestamp::UNIX_EPOCH)).unwrap();
        context.on_trade(TradeData::new("FAKE", "rb", shfe, "1", "2")).unwrap();
        context.on_order(OrderData::new("FAKE", "rb", shfe, "1")).unwrap();
        context.on_position(PositionData::new("FAKE", "rb", shfe, Direction::Long)).unwrap();
        context.on_account(AccountData::new("FAKE", "acc1")).unwrap();
        context.on_quote(QuoteData::new("FAKE", "rb", shfe, "q")).unwrap();
        context.on_contract(ContractData::new("FAKE", "rb", shfe, "", Product::Futures, 10.0, 1.0)).unwrap();
        context.on_log(LogData::new("FAKE", "hello")).unwrap();
        context.write_log(LogLevel::Error, "oh").unwrap();
        engine.start().unwrap();
        assert_eq!(engine.stop().dropped, 0);

        let events: Vec<Event> = receiver.try_iter().filter(|event| *event != Event::Timer).collect();
        let types: Vec<String> = events.iter().map(Event::specific_type).collect();
        let expected = [
            "eTick.rb.SHFE",
            "eTrade.rb.SHFE",
            "eOrder.RPC.1",
            "ePosition.rb.SHFE",
            "eAccount.RPC.acc1",
            "eQuote.rb.SHFE",
            "eContract.",
            "eLog",
            "eLog",
        ];
        assert_eq!(types, expected);
        let Event::Trade(trade) = &events[1] else { panic!("{:?}", events[1]) };
        assert_eq!(trade.vt_tradeid(), "RPC.2", "id and type say the same");
        let Event::Log(log) = &events[8] else { panic!("{:?}", events[8]) };
        assert_eq!((&*log.gateway_name, &*log.msg, log.level), ("RPC", "oh", LogLevel::Error));
    }

    #[test]
    fn report_to_a_stopped_engine_says_so() {
        let engine = EventEngine::new();
        let context = GatewayContext::new("RPC", engine.clone());
        assert!(engine.stop().is_over);
        assert_eq!(context.on_log(LogData::new("RPC", "hello")), Err(PutError::Stopped));
        assert_eq!(engine.stats().refused, 1);
    }
}

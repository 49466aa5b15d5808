//! What a gateway has put on the event engine, so that a later snapshot puts only what is new. It outlives connections: who
//! closes and connects again is told only what has changed meanwhile.

use std::collections::HashSet;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use super::names::REMOTE_GATEWAY;
use crate::trader::oms::{Latest, OmsEngine};
use crate::trader::Event;

/// The newest record of each id that was put here, in our names.
pub(super) struct Mirror {
    kinds: [Latest<Event>; KINDS],
}

const KINDS: usize = 6;

impl Mirror {
    pub(super) fn new() -> Self {
        // Nothing that matters is forgotten, or nobody would be told when it is missing.
        Mirror { kinds: core::array::from_fn(|_| Latest::keeping(OmsEngine::DEFAULT_MAX_RECORDS, matters)) }
    }

    /// Whether an event says anything that has not been put. A trade is what it is: reported again, in whatever words, it
    /// is no news, as long as it is among the newest [`OmsEngine::DEFAULT_MAX_RECORDS`].
    pub(super) fn is_news(&self, event: &Event) -> bool {
        place_of(event).is_none_or(|(kind, key)| match self.kinds[kind].find(&key) {
            None => true,
            Some(put) => !matches!(event, Event::Trade(_)) && *put != *event,
        })
    }

    /// Notes that an event was put.
    pub(super) fn enter(&mut self, event: &Event) {
        if let Some((kind, key)) = place_of(event) {
            self.kinds[kind].put(&key, Arc::new(event.clone()));
        }
    }

    /// Takes out what matters, was put, and is not among these, although it would be: active orders and quotes, and
    /// positions.
    pub(super) fn take_missing(
        &mut self,
        present: &Present,
        would_be: impl Fn(&Event) -> bool,
    ) -> Vec<Event> {
        let mut missing = Vec::new();
        for kind in &mut self.kinds {
            let gone = kind.select(|event| matters(event) && would_be(event) && !present.has(event));
            for event in gone {
                let Some((_, key)) = place_of(&event) else { continue };
                kind.remove(&key);
                missing.push(Event::clone(&event));
            }
        }
        missing
    }
}

/// What a snapshot has.
#[derive(Default)]
pub(super) struct Present(HashSet<(usize, String)>);

impl Present {
    pub(super) fn note(&mut self, event: &Event) {
        if matters(event) {
            self.0.extend(place_of(event));
        }
    }

    fn has(&self, event: &Event) -> bool {
        place_of(event).is_some_and(|place| self.0.contains(&place))
    }
}

/// Whether somebody may rely on it.
fn matters(event: &Event) -> bool {
    match event {
        Event::Order(order) => order.is_active(),
        Event::Quote(quote) => quote.is_active(),
        Event::Position(position) => position.volume != 0.0,
        _ => false,
    }
}

/// The kind of a record, and what it is known by among those of its kind. `None` for what is no record that lasts.
fn place_of(event: &Event) -> Option<(usize, String)> {
    Some(match event {
        Event::Contract(contract) => (0, contract.vt_symbol()),
        Event::Account(account) => (1, account.vt_accountid()),
        Event::Position(position) => {
            let mut key = position.vt_positionid();
            // Two gateways of the server may hold the same.
            key.push('.');
            key.push_str(position.extra.get(REMOTE_GATEWAY).map_or("", String::as_str));
            (2, key)
        }
        Event::Order(order) => (3, order.vt_orderid()),
        Event::Trade(trade) => (4, trade.vt_tradeid()),
        Event::Quote(quote) => (5, quote.vt_quoteid()),
        Event::Timer | Event::Tick(_) | Event::Log(_) | Event::Custom(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trader::{Direction, Exchange, LogData, OrderData, PositionData, Status, TradeData};

    const SHFE: Exchange = Exchange::Shfe;

    fn order(orderid: &str, status: Status) -> Event {
        OrderData { status, ..OrderData::new("RPC", "rb", SHFE, orderid) }.into()
    }

    #[test]
    fn only_what_differs_from_the_last_of_its_id_is_news() {
        let mut mirror = Mirror::new();
        let trade = Event::from(TradeData::new("RPC", "rb", SHFE, "CTP.1", "CTP.t1"));
        for event in [order("CTP.1", Status::NotTraded), trade] {
            assert!(mirror.is_news(&event));
            mirror.enter(&event);
            assert!(!mirror.is_news(&event));
        }
        assert!(mirror.is_news(&order("CTP.1", Status::AllTraded)));
        assert!(mirror.is_news(&order("IB.1", Status::NotTraded)));
        let log = Event::from(LogData::new("RPC", "hello"));
        mirror.enter(&log);
        assert!(mirror.is_news(&log), "what is said twice is heard twice");
    }

    #[test]
    fn positions_of_two_gateways_in_one_contract_are_two() {
        let mut mirror = Mirror::new();
        let position = |remote: &str| {
            let mut position = PositionData::new("RPC", "rb", SHFE, Direction::Long);
            position.extra.insert(REMOTE_GATEWAY.into(), remote.into());
            position.volume = 1.0;
            Event::from(position)
        };
        mirror.enter(&position("CTP"));
        assert!(mirror.is_news(&position("IB")) && !mirror.is_news(&position("CTP")));
        let mut present = Present::default();
        present.note(&position("IB"));
        assert_eq!(mirror.take_missing(&present, |_| true), [position("CTP")]);
    }

    #[test]
    fn what_is_missing_is_told_once_and_what_is_over_is_not_missed() {
        let mut mirror = Mirror::new();
        for event in [order("CTP.1", Status::NotTraded), order("CTP.2", Status::Cancelled)] {
            mirror.enter(&event);
        }
        let nothing = Present::default();
        assert_eq!(mirror.take_missing(&nothing, |_| false), [], "the server was not asked for it");
        assert_eq!(mirror.take_missing(&nothing, |_| true), [order("CTP.1", Status::NotTraded)]);
        assert_eq!(mirror.take_missing(&nothing, |_| true), []);
        assert!(mirror.is_news(&order("CTP.1", Status::NotTraded)), "it may come back");
    }
}

//! The server's names in ours, and back.
//!
//! | | at the server | here, in the gateway `RPC` |
//! |---|---|---|
//! | gateway name | `CTP` | `RPC` |
//! | order, trade, quote, account | `CTP` + `5` = `CTP.5` | `RPC` + `CTP.5` = `RPC.CTP.5` |
//! | position | `CTP.rb2410.SHFE.LONG` | `RPC.rb2410.SHFE.LONG`, its gateway in `extra` |
//!
//! The local id is the whole id of the server: two gateways there that count alike stay apart, and the first dot takes it
//! apart again, because names of gateways have none.

use std::format;
use std::string::String;
use std::sync::Arc;

use super::unknown::untagged;
use crate::trader::{id, CancelRequest, Event, Refusal, EVENT_ACCOUNT, EVENT_ORDER};

/// The key in a position's `extra` under which the server's gateway stands.
pub const REMOTE_GATEWAY: &str = "remote_gateway";

/// Translates between a server's names and those of one gateway here.
#[derive(Debug, Clone)]
pub(super) struct Names {
    local: String,
    /// The one gateway of the server that is wanted.
    only: Option<String>,
}

impl Names {
    pub(super) fn new(local: &str, only: Option<String>) -> Self {
        Names { local: local.into(), only }
    }

    /// The id here of what the server calls `vt_id`.
    pub(super) fn local_vt_id(&self, vt_id: &str) -> String {
        id::vt_id(&self.local, vt_id)
    }

    /// The server's gateway, and its request, of a cancel.
    pub(super) fn remote_cancel(&self, request: &CancelRequest) -> Result<(CancelRequest, String), Refusal> {
        let (gateway, orderid) = id::split_vt_id(&request.orderid)
            .map_err(|_| Refusal::Rejected(format!("{:?} is no id of {}", request.orderid, self.local)))?;
        let request = CancelRequest::new(orderid, request.symbol.clone(), request.exchange);
        Ok((request, gateway.into()))
    }

    /// The event in our names. `None`: it is of a gateway that is not wanted, or means nothing here.
    pub(super) fn localize(&self, event: Event) -> Option<Event> {
        Some(match event {
            Event::Tick(mut tick) => {
                self.claim(&mut Arc::make_mut(&mut tick).gateway_name)?;
                tick.into()
            }
            Event::Order(mut shared) => {
                let order = Arc::make_mut(&mut shared);
                let remote = self.claim(&mut order.gateway_name)?;
                order.orderid = id::vt_id(&remote, &order.orderid);
                untag(&mut order.reference);
                shared.into()
            }
            Event::Trade(mut shared) => {
                let trade = Arc::make_mut(&mut shared);
                let remote = self.claim(&mut trade.gateway_name)?;
                trade.orderid = id::vt_id(&remote, &trade.orderid);
                trade.tradeid = id::vt_id(&remote, &trade.tradeid);
                shared.into()
            }
            Event::Quote(mut shared) => {
                let quote = Arc::make_mut(&mut shared);
                let remote = self.claim(&mut quote.gateway_name)?;
                quote.quoteid = id::vt_id(&remote, &quote.quoteid);
                untag(&mut quote.reference);
                shared.into()
            }
            Event::Account(mut shared) => {
                let account = Arc::make_mut(&mut shared);
                let remote = self.claim(&mut account.gateway_name)?;
                account.accountid = id::vt_id(&remote, &account.accountid);
                shared.into()
            }
            Event::Position(mut shared) => {
                let position = Arc::make_mut(&mut shared);
                let remote = self.claim(&mut position.gateway_name)?;
                position.extra.insert(REMOTE_GATEWAY.into(), remote);
                shared.into()
            }
            Event::Contract(mut contract) => {
                self.claim(&mut Arc::make_mut(&mut contract).gateway_name)?;
                contract.into()
            }
            Event::Log(mut shared) => {
                // Whoever speaks there: its words are for everybody, with its name in front.
                let log = Arc::make_mut(&mut shared);
                let remote = core::mem::replace(&mut log.gateway_name, self.local.clone());
                log.msg = format!("{remote}: {}", log.msg);
                shared.into()
            }
            Event::Custom(custom) => custom.into(),
            Event::Timer => return None,
        })
    }

    /// The server's gateway of an order, a quote or a position in our names.
    pub(super) fn remote_gateway_of(event: &Event) -> Option<&str> {
        let of_id = |vt_id| id::split_vt_id(vt_id).ok().map(|(gateway, _)| gateway);
        match event {
            Event::Order(order) => of_id(&order.orderid),
            Event::Quote(quote) => of_id(&quote.quoteid),
            Event::Position(position) => position.extra.get(REMOTE_GATEWAY).map(String::as_str),
            _ => None,
        }
    }

    /// The specific type that an event in our names has at the server.
    pub(super) fn remote_type_of(event: &Event) -> String {
        match event {
            Event::Order(order) => format!("{EVENT_ORDER}{}", order.orderid),
            Event::Account(account) => format!("{EVENT_ACCOUNT}{}", account.accountid),
            event => event.specific_type(),
        }
    }

    /// Puts our name in the place of the server's, which it returns if that gateway is wanted.
    fn claim(&self, gateway_name: &mut String) -> Option<String> {
        if self.only.as_ref().is_some_and(|only| only != gateway_name) {
            return None;
        }
        Some(core::mem::replace(gateway_name, self.local.clone()))
    }
}

/// Gives the user's reference back.
fn untag(reference: &mut String) {
    let len = untagged(reference).len();
    reference.truncate(len);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trader::{
        AccountData, Direction, Exchange, LogData, OrderData, PositionData, QuoteData, TradeData,
    };

    const SHFE: Exchange = Exchange::Shfe;

    fn local(event: impl Into<Event>) -> Event {
        Names::new("RPC", None).localize(event.into()).unwrap()
    }

    #[test]
    fn ids_and_types_agree_and_gateways_that_count_alike_stay_apart() {
        for (gateway, expected) in [("CTP", "RPC.CTP.5.a"), ("IB", "RPC.IB.5.a")] {
            let Event::Order(order) = local(OrderData::new(gateway, "rb", SHFE, "5.a")) else { panic!() };
            assert_eq!((order.vt_orderid(), &*order.gateway_name), (expected.into(), "RPC"));
            assert_eq!(Event::from(order).specific_type(), format!("eOrder.{expected}"));
            let Event::Trade(trade) = local(TradeData::new(gateway, "rb", SHFE, "5.a", "5.a")) else {
                panic!()
            };
            assert_eq!((trade.vt_orderid(), trade.vt_tradeid()), (expected.into(), expected.into()));
            let Event::Quote(quote) = local(QuoteData::new(gateway, "rb", SHFE, "5.a")) else { panic!() };
            assert_eq!(quote.vt_quoteid(), expected);
            let account = local(AccountData::new(gateway, "5.a"));
            assert_eq!(account.specific_type(), format!("eAccount.{expected}"));
        }
    }

    #[test]
    fn what_has_no_id_to_carry_it_has_the_gateway_beside_it() {
        let Event::Position(position) = local(PositionData::new("CTP", "rb", SHFE, Direction::Long)) else {
            panic!()
        };
        assert_eq!(position.vt_positionid(), "RPC.rb.SHFE.LONG");
        assert_eq!(position.extra.get(REMOTE_GATEWAY).map(String::as_str), Some("CTP"));
        let Event::Log(log) = local(LogData::new("CTP", "logged in")) else { panic!() };
        assert_eq!((&*log.gateway_name, &*log.msg), ("RPC", "CTP: logged in"));
    }

    #[test]
    fn types_and_gateways_of_the_server_are_found_again() {
        let records: [Event; 5] = [
            OrderData::new("CTP", "rb", SHFE, "5.a").into(),
            QuoteData::new("CTP", "rb", SHFE, "5.a").into(),
            TradeData::new("CTP", "rb", SHFE, "5.a", "5.a").into(),
            PositionData::new("CTP", "rb", SHFE, Direction::Long).into(),
            AccountData::new("CTP", "5.a").into(),
        ];
        for record in records {
            let there = record.specific_type();
            let has_gateway = matches!(record, Event::Order(_) | Event::Quote(_) | Event::Position(_));
            let here = local(record);
            assert_eq!(Names::remote_type_of(&here), there);
            assert_eq!(Names::remote_gateway_of(&here), has_gateway.then_some("CTP"));
        }
    }

    #[test]
    fn one_gateway_alone_is_let_through_if_it_is_named() {
        let names = Names::new("RPC", Some("CTP".into()));
        assert!(names.localize(OrderData::new("CTP", "rb", SHFE, "1").into()).is_some());
        assert!(names.localize(OrderData::new("IB", "rb", SHFE, "1").into()).is_none());
        assert!(names.localize(LogData::new("MainEngine", "hello").into()).is_some());
        assert!(names.localize(Event::Timer).is_none());
    }

    proptest! {
        #[test]
        fn a_cancel_goes_back_to_where_its_order_came_from(
            gateway in "[^.]{1,8}", orderid in ".{1,12}", symbol in ".{1,12}",
        ) {
            let Event::Order(order) = local(OrderData::new(&*gateway, &*symbol, SHFE, &*orderid)) else {
                panic!()
            };
            let back = Names::new("RPC", None).remote_cancel(&order.cancel_request()).unwrap();
            prop_assert_eq!(back, (CancelRequest::new(orderid, symbol, SHFE), gateway));
        }
    }
}

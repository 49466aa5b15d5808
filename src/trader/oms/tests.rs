//! What is entered is found, and active is what may still trade.

use std::vec::Vec;

use super::*;
use crate::trader::{Direction, EventEngineConfig, Exchange, Product, Status, Timestamp};

const SHFE: Exchange = Exchange::Shfe;

/// Books after these events.
fn books_after(max_records: usize, events: impl IntoIterator<Item = Event>) -> OmsEngine {
    let engine = EventEngine::with_config(EventEngineConfig::default());
    let oms = OmsEngine::with_max_records(&engine, max_records);
    engine.start().unwrap();
    events.into_iter().for_each(|event| engine.put(event).unwrap());
    assert_eq!(engine.stop().dropped, 0);
    oms
}

fn order(orderid: &str, symbol: &str, status: Status) -> Event {
    OrderData { status, ..OrderData::new("CTP", symbol, SHFE, orderid) }.into()
}

fn ids(orders: &[Arc<OrderData>]) -> Vec<String> {
    orders.iter().map(|order| order.orderid.clone()).collect()
}

#[test]
fn newest_record_of_each_kind_is_found_by_its_id() {
    let tick =
        |last_price| TickData { last_price, ..TickData::new("CTP", "a.b", SHFE, Timestamp::UNIX_EPOCH) };
    let position =
        |direction, volume| PositionData { volume, ..PositionData::new("CTP", "rb", SHFE, direction) };
    let account = AccountData { balance: 5.0, ..AccountData::new("CTP", "acc.1") };
    let contract = ContractData::new("CTP", "rb", SHFE, "Rebar", Product::Futures, 10.0, 1.0);
    let quote = QuoteData::new("CTP", "rb", SHFE, "q");
    let trade = TradeData::new("CTP", "rb", SHFE, "1", "t.1");
    let oms = books_after(
        100,
        [
            tick(1.0).into(),
            tick(2.0).into(),
            position(Direction::Long, 1.0).into(),
            position(Direction::Short, 2.0).into(),
            account.clone().into(),
            contract.clone().into(),
            quote.clone().into(),
            trade.clone().into(),
        ],
    );
    assert_eq!(oms.tick("a.b.SHFE").as_deref(), Some(&tick(2.0)));
    assert_eq!(oms.tick("a.SHFE"), None);
    assert_eq!(oms.position("CTP.rb.SHFE.LONG").as_deref(), Some(&position(Direction::Long, 1.0)));
    assert_eq!(oms.position("CTP.rb.SHFE.SHORT").map(|position| position.volume), Some(2.0));
    assert_eq!(oms.position("CTP.rb.SHFE.NET"), None);
    assert_eq!(oms.account("CTP.acc.1").as_deref(), Some(&account));
    assert_eq!(oms.contract("rb.SHFE").as_deref(), Some(&contract));
    assert_eq!(oms.quote("CTP.q").as_deref(), Some(&quote));
    assert_eq!(oms.trade("CTP.t.1").as_deref(), Some(&trade));
    assert_eq!(oms.order("CTP.1"), None);
    let counts = [
        oms.ticks().len(),
        oms.orders().len(),
        oms.trades().len(),
        oms.positions().len(),
        oms.accounts().len(),
        oms.contracts().len(),
        oms.quotes().len(),
    ];
    assert_eq!(counts, [1, 0, 1, 2, 1, 1, 1]);
}

#[test]
fn order_is_active_until_it_cannot_trade_any_more() {
    use Status::*;
    for (last, expected) in [
        (Submitting, &["1"][..]),
        (NotTraded, &["1"]),
        (PartTraded, &["1"]),
        (AllTraded, &[]),
        (Cancelled, &[]),
        (Rejected, &[]),
    ] {
        let oms = books_after(100, [order("1", "rb", Submitting), order("1", "rb", last)]);
        assert_eq!(ids(&oms.active_orders(None)), expected, "{last}");
        assert_eq!(oms.order("CTP.1").map(|order| order.status), Some(last));
        assert_eq!(oms.orders().len(), 1);
    }
}

#[test]
fn active_orders_and_quotes_are_found_by_contract() {
    let quote = |quoteid: &str, symbol: &str, status| -> Event {
        QuoteData { status, ..QuoteData::new("CTP", symbol, SHFE, quoteid) }.into()
    };
    let oms = books_after(
        100,
        [
            order("2", "rb", Status::NotTraded),
            order("1", "rb", Status::Submitting),
            order("3", "cu", Status::PartTraded),
            order("4", "rb", Status::Cancelled),
            quote("q1", "rb", Status::NotTraded),
            quote("q2", "cu", Status::NotTraded),
            quote("q1", "rb", Status::Cancelled),
        ],
    );
    assert_eq!(ids(&oms.active_orders(None)), ["2", "1", "3"]);
    assert_eq!(ids(&oms.active_orders(Some("rb.SHFE"))), ["2", "1"]);
    assert_eq!(ids(&oms.active_orders(Some("rb"))), [""; 0]);
    assert_eq!(ids(&oms.orders()), ["2", "1", "3", "4"]);
    assert_eq!(oms.active_quotes(Some("rb.SHFE")).len(), 0);
    assert_eq!(oms.active_quotes(None)[0].vt_quoteid(), "CTP.q2");
    assert_eq!(oms.quotes().len(), 2);
}

#[test]
fn active_order_outlives_the_finished_ones_that_push_it_out() {
    let mut events = [order("old", "rb", Status::NotTraded)].to_vec();
    events.extend((0..5).map(|n| order(&std::format!("{n}"), "rb", Status::AllTraded)));
    let oms = books_after(3, events);
    assert_eq!(ids(&oms.orders()), ["old", "2", "3", "4"]);
    assert_eq!(oms.forgotten(), 2);
    assert_eq!(ids(&oms.active_orders(None)), ["old"]);
    assert!(oms.order("CTP.old").is_some_and(|order| order.is_active()));
    assert_eq!(oms.order("CTP.0"), None);
}

#[test]
fn active_orders_are_all_there_however_many_and_whatever_came_after_them() {
    let active = (0..10).map(|n| order(&std::format!("rests {n}"), "rb", Status::NotTraded));
    let finished = (0..10).map(|n| order(&std::format!("{n}"), "rb", Status::Cancelled));
    let traded = (3..10).map(|n| order(&std::format!("rests {n}"), "rb", Status::AllTraded));
    let oms = books_after(2, active.clone().chain(finished.clone()));
    assert_eq!(oms.active_orders(None).len(), 10);
    assert_eq!(oms.orders().len(), 12);
    let oms = books_after(2, active.chain(finished).chain(traded));
    assert_eq!(ids(&oms.orders()), ["rests 0", "rests 1", "rests 2", "rests 8", "rests 9"]);
    assert_eq!(ids(&oms.active_orders(Some("rb.SHFE"))), ["rests 0", "rests 1", "rests 2"]);
    assert_eq!(oms.forgotten(), 8 + 7);
}

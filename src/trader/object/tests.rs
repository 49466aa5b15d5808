//! Records go over the wire and come back; ids follow their parts.

use core::fmt::Debug;
use std::string::String;
use std::vec::Vec;

use proptest::array::{uniform12, uniform4, uniform5};
use proptest::collection::btree_map;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde::de::DeserializeOwned;
use serde::Serialize;

use super::*;
use crate::trader::{
    Direction, Exchange, Interval, LogLevel, Offset, OptionType, OrderType, Product, Status, Timestamp,
};

fn text() -> impl Strategy<Value = String> {
    ".{0,10}"
}

/// No NaN, so that equality means something.
fn number() -> impl Strategy<Value = f64> {
    use proptest::num::f64::{INFINITE, NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO | INFINITE
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_nanos)
}

fn extra() -> impl Strategy<Value = Extra> {
    btree_map(text(), text(), 0..3)
}

fn exchange() -> impl Strategy<Value = Exchange> {
    select(Exchange::ALL)
}

fn offset() -> impl Strategy<Value = Offset> {
    select(Offset::ALL)
}

fn side() -> impl Strategy<Value = Option<Direction>> {
    option::of(select(Direction::ALL))
}

prop_compose! {
    fn tick()(
        gateway_name in text(), symbol in text(), exchange in exchange(), datetime in time(), name in text(),
        numbers in uniform12(number()), levels in uniform4(uniform5(number())), localtime in option::of(time()),
        extra in extra(),
    ) -> TickData {
        let [volume, turnover, open_interest, last_price, last_volume, limit_up, ..] = numbers;
        let [.., limit_down, open_price, high_price, low_price, pre_close, _] = numbers;
        let [bid_price, ask_price, bid_volume, ask_volume] = levels;
        TickData {
            gateway_name, symbol, exchange, datetime, name, volume, turnover, open_interest, last_price, last_volume,
            limit_up, limit_down, open_price, high_price, low_price, pre_close, bid_price, ask_price, bid_volume,
            ask_volume, localtime, extra,
        }
    }
}

prop_compose! {
    fn bar()(
        gateway_name in text(), symbol in text(), exchange in exchange(), datetime in time(),
        interval in option::of(select(Interval::ALL)), numbers in uniform12(number()), extra in extra(),
    ) -> BarData {
        let [volume, turnover, open_interest, open_price, high_price, low_price, close_price, ..] = numbers;
        BarData {
            gateway_name, symbol, exchange, datetime, interval, volume, turnover, open_interest, open_price,
            high_price, low_price, close_price, extra,
        }
    }
}

prop_compose! {
    fn order()(
        gateway_name in text(), symbol in text(), exchange in exchange(), orderid in text(),
        order_type in select(OrderType::ALL), direction in side(), offset in offset(),
        [price, volume, traded, _] in uniform4(number()), status in select(Status::ALL),
        datetime in option::of(time()), reference in text(), extra in extra(),
    ) -> OrderData {
        OrderData {
            gateway_name, symbol, exchange, orderid, order_type, direction, offset, price, volume, traded, status,
            datetime, reference, extra,
        }
    }
}

prop_compose! {
    fn trade()(
        gateway_name in text(), symbol in text(), exchange in exchange(), orderid in text(), tradeid in text(),
        direction in side(), offset in offset(), price in number(), volume in number(),
        datetime in option::of(time()), extra in extra(),
    ) -> TradeData {
        TradeData {
            gateway_name, symbol, exchange, orderid, tradeid, direction, offset, price, volume, datetime, extra,
        }
    }
}

prop_compose! {
    fn position()(
        gateway_name in text(), symbol in text(), exchange in exchange(), direction in select(Direction::ALL),
        [volume, frozen, price, pnl, yd_volume] in uniform5(number()), extra in extra(),
    ) -> PositionData {
        PositionData { gateway_name, symbol, exchange, direction, volume, frozen, price, pnl, yd_volume, extra }
    }
}

prop_compose! {
    fn account()(
        gateway_name in text(), accountid in text(), balance in number(), frozen in number(), extra in extra(),
    ) -> AccountData {
        AccountData { gateway_name, accountid, balance, frozen, extra }
    }
}

prop_compose! {
    fn contract()(
        (gateway_name, symbol, exchange, name) in (text(), text(), exchange(), text()),
        product in select(Product::ALL), [size, pricetick, min_volume, _] in uniform4(number()),
        max_volume in option::of(number()), [stop_supported, net_position, history_data, _] in any::<[bool; 4]>(),
        option_strike in option::of(number()), option_type in option::of(select(OptionType::ALL)),
        (option_listed, option_expiry) in (option::of(time()), option::of(time())),
        [option_underlying, option_portfolio, option_index, _] in uniform4(option::of(text())), extra in extra(),
    ) -> ContractData {
        ContractData {
            gateway_name, symbol, exchange, name, product, size, pricetick, min_volume, max_volume, stop_supported,
            net_position, history_data, option_strike, option_underlying, option_type, option_listed, option_expiry,
            option_portfolio, option_index, extra,
        }
    }
}

prop_compose! {
    fn quote()(
        (gateway_name, symbol, exchange, quoteid) in (text(), text(), exchange(), text()),
        bid_price in number(), bid_volume: u64, ask_price in number(), ask_volume: u64, bid_offset in offset(),
        ask_offset in offset(), status in select(Status::ALL), datetime in option::of(time()), reference in text(),
        extra in extra(),
    ) -> QuoteData {
        QuoteData {
            gateway_name, symbol, exchange, quoteid, bid_price, bid_volume, ask_price, ask_volume, bid_offset,
            ask_offset, status, datetime, reference, extra,
        }
    }
}

prop_compose! {
    fn log()(
        gateway_name in text(), msg in text(), level in select(LogLevel::ALL), time in time(), extra in extra(),
    ) -> LogData {
        LogData { gateway_name, msg, level, time, extra }
    }
}

prop_compose! {
    fn order_request()(
        symbol in text(), exchange in exchange(), direction in select(Direction::ALL),
        order_type in select(OrderType::ALL), volume in number(), price in number(), offset in offset(),
        reference in text(),
    ) -> OrderRequest {
        OrderRequest { symbol, exchange, direction, order_type, volume, price, offset, reference }
    }
}

prop_compose! {
    fn quote_request()(
        symbol in text(), exchange in exchange(), bid_price in number(), bid_volume: u64, ask_price in number(),
        ask_volume: u64, bid_offset in offset(), ask_offset in offset(), reference in text(),
    ) -> QuoteRequest {
        QuoteRequest {
            symbol, exchange, bid_price, bid_volume, ask_price, ask_volume, bid_offset, ask_offset, reference,
        }
    }
}

prop_compose! {
    fn history_request()(
        symbol in text(), exchange in exchange(), start in time(), end in option::of(time()),
        interval in option::of(select(Interval::ALL)),
    ) -> HistoryRequest {
        HistoryRequest { symbol, exchange, start, end, interval }
    }
}

/// A value comes back from its bytes, and no beginning of them is a value.
#[track_caller]
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let bytes = postcard::to_allocvec(value).expect("records can be encoded");
    let (back, rest): (T, &[u8]) =
        postcard::take_from_bytes(&bytes).expect("what was encoded can be decoded");
    assert_eq!((&back, rest), (value, &[][..]));
    assert!(postcard::from_bytes::<T>(&bytes[..bytes.len() - 1]).is_err(), "the last byte is needed");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_come_back_from_the_wire(
        tick in tick(), bar in bar(), order in order(), trade in trade(), position in position(),
        account in account(), contract in contract(), quote in quote(), log in log(),
    ) {
        round_trip(&tick);
        round_trip(&bar);
        round_trip(&order);
        round_trip(&trade);
        round_trip(&position);
        round_trip(&account);
        round_trip(&contract);
        round_trip(&quote);
        round_trip(&log);
    }

    #[test]
    fn requests_come_back_from_the_wire(
        order in order_request(), quote in quote_request(), history in history_request(),
        orderid in text(), symbol in text(), exchange in exchange(),
    ) {
        round_trip(&order);
        round_trip(&quote);
        round_trip(&history);
        round_trip(&CancelRequest::new(orderid, symbol.clone(), exchange));
        round_trip(&SubscribeRequest::new(symbol, exchange));
    }

    #[test]
    fn bytes_of_anybody_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _: Result<TickData, _> = postcard::from_bytes(&bytes);
        let _: Result<OrderData, _> = postcard::from_bytes(&bytes);
        let _: Result<ContractData, _> = postcard::from_bytes(&bytes);
        let again = postcard::from_bytes::<LogData>(&bytes).map(|log| postcard::to_allocvec(&log).is_ok());
        prop_assert!(again.unwrap_or(true));
    }
}

#[test]
fn ids_follow_their_parts() {
    let mut order = OrderData::new("FAKE", "rb2410", Exchange::Shfe, "7.1");
    assert_eq!(order.vt_orderid(), "FAKE.7.1");
    order.gateway_name = "RPC".into();
    assert_eq!((order.vt_orderid(), order.vt_symbol()), ("RPC.7.1".into(), "rb2410.SHFE".into()));

    let trade = TradeData::new("RPC", "6E", Exchange::Eurex, "7.1", "t.2");
    let ids = [trade.vt_symbol(), trade.vt_orderid(), trade.vt_tradeid()];
    assert_eq!(ids, ["6E.EUX", "RPC.7.1", "RPC.t.2"]);
    let position = PositionData::new("RPC", "BRK.B", Exchange::Nyse, Direction::Net);
    assert_eq!(position.vt_positionid(), "RPC.BRK.B.NYSE.NET");
    let quote = QuoteData::new("RPC", "IO", Exchange::Cffex, "q1");
    assert_eq!((quote.vt_symbol(), quote.vt_quoteid()), ("IO.CFFEX".into(), "RPC.q1".into()));
    let mut account = AccountData::new("RPC", "acc1");
    (account.balance, account.frozen) = (100.0, 30.0);
    assert_eq!((account.vt_accountid(), account.available()), ("RPC.acc1".into(), 70.0));
}

#[test]
fn requests_become_orders_and_quotes_and_these_become_cancels() {
    let request = OrderRequest {
        price: 3_500.0,
        offset: Offset::Open,
        reference: "grid".into(),
        ..OrderRequest::new("rb2410", Exchange::Shfe, Direction::Short, OrderType::Fak, 2.0)
    };
    let order = request.to_order("CTP", "1.7");
    let expected = OrderData {
        order_type: OrderType::Fak,
        direction: Some(Direction::Short),
        offset: Offset::Open,
        price: 3_500.0,
        volume: 2.0,
        reference: "grid".into(),
        ..OrderData::new("CTP", "rb2410", Exchange::Shfe, "1.7")
    };
    assert_eq!(order, expected);
    assert!(order.is_active());
    assert!(!OrderData { status: Status::Cancelled, ..order.clone() }.is_active());
    assert_eq!(order.cancel_request(), CancelRequest::new("1.7", "rb2410", Exchange::Shfe));

    let request = QuoteRequest::new("IO", Exchange::Cffex, 1.0, 10, 2.0, 20);
    let quote = request.to_quote("CTP", "q");
    assert_eq!((quote.bid_price, quote.bid_volume, quote.ask_price, quote.ask_volume), (1.0, 10, 2.0, 20));
    assert!(quote.is_active() && !QuoteData { status: Status::AllTraded, ..quote.clone() }.is_active());
    assert_eq!(quote.cancel_request(), CancelRequest::new("q", "IO", Exchange::Cffex));
}

#[test]
fn requests_that_make_no_sense_are_seen() {
    let good = OrderRequest::new("rb2410", Exchange::Shfe, Direction::Long, OrderType::Limit, 1.0);
    assert_eq!(good.check(), Ok(()));
    assert_eq!(OrderRequest { price: -3.0, ..good.clone() }.check(), Ok(()), "spreads have such prices");
    for volume in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(OrderRequest { volume, ..good.clone() }.check(), Err(InvalidRequest::Volume));
    }
    assert_eq!(OrderRequest { price: f64::NAN, ..good.clone() }.check(), Err(InvalidRequest::Price));
    assert_eq!(OrderRequest { symbol: "".into(), ..good }.check(), Err(InvalidRequest::Symbol));

    let good = QuoteRequest::new("IO", Exchange::Cffex, 1.0, 0, 2.0, 20);
    assert_eq!(good.check(), Ok(()), "one side is enough");
    assert_eq!(QuoteRequest { ask_volume: 0, ..good.clone() }.check(), Err(InvalidRequest::Volume));
    assert_eq!(QuoteRequest { ask_price: f64::INFINITY, ..good }.check(), Err(InvalidRequest::Price));
}

#[test]
fn unknown_number_of_an_enum_is_a_decode_error() {
    let request = SubscribeRequest::new("A", Exchange::Shfe);
    let bytes: Vec<u8> = postcard::to_allocvec(&request).unwrap();
    assert_eq!(bytes, [1, b'A', 2], "length, text, number of the exchange");
    assert!(postcard::from_bytes::<SubscribeRequest>(&[1, b'A', 200]).is_err());
}

#[test]
fn tick_is_small_on_the_wire() {
    let tick =
        TickData::new("CTP", "rb2410", Exchange::Shfe, Timestamp::from_nanos(1_728_351_000_500_000_000));
    let bytes = postcard::to_allocvec(&tick).unwrap();
    assert_eq!(bytes.len(), 4 + 7 + 1 + 9 + 1 + 31 * 8 + 1 + 1);
}

//! What is refused, and that each refusal says why.

use super::super::market::BadContract;
use super::super::MAX_REFERENCE_BYTES;
use super::*;

#[test]
fn orders_that_the_contract_does_not_allow_are_refused_with_the_reason() {
    let mut play = Play::new();
    let order = |order_type| coin_order(Direction::Long, order_type, 100.0, 1.0);
    for (request, why) in [
        (OrderRequest { symbol: "COPPER".into(), ..buy(1.0, 1.0) }, "unknown contract \"COPPER.LOCAL\""),
        (buy(100.0, 0.0), "invalid request: the volume is not above 0"),
        (buy(f64::NAN, 1.0), "invalid request: the price is not a number"),
        (buy(100.0, 0.05), "rejected: the volume 0.05 is not a multiple of 0.1"),
        (buy(100.0, 1_000.5), "rejected: the volume 1000.5 is above the limit of 1000"),
        (buy(100.25, 1.0), "rejected: the price 100.25 is not a multiple of 0.5"),
        (
            order(OrderType::Stop),
            "rejected: orders of type STOP are not taken, only LIMIT, MARKET, FAK and FOK",
        ),
        (
            OrderRequest { direction: Direction::Net, ..buy(1.0, 1.0) },
            "rejected: an order buys (LONG) or sells (SHORT)",
        ),
        (
            OrderRequest { offset: Offset::Close, ..buy(1.0, 1.0) },
            "rejected: the position is net: orders have no offset, this one says CLOSE",
        ),
    ] {
        assert_eq!(play.refusal(&request), why);
    }
}

#[test]
fn prices_beyond_the_limits_of_the_day_are_refused() {
    let mut play = Play::new();
    let tick = coin_tick(&[], &[]);
    play.tick(&TickData { limit_up: 110.0, limit_down: 90.0, ..tick.clone() });
    assert_eq!(play.refusal(&buy(110.5, 1.0)), "rejected: the price 110.5 is above today's limit of 110");
    assert_eq!(play.refusal(&sell(89.5, 1.0)), "rejected: the price 89.5 is below today's limit of 90");
    play.place(&buy(110.0, 1.0));
    play.place(&coin_order(Direction::Long, OrderType::Market, 0.0, 1.0));
    play.tick(&tick);
    play.place(&buy(120.0, 1.0));
}

#[test]
fn second_order_of_a_reference_is_refused_and_an_empty_one_is_none() {
    let mut play = Play::new();
    let named = |price| OrderRequest { reference: "grid/1".into(), ..buy(price, 1.0) };
    assert_eq!(play.refusal(&named(0.3)), "rejected: the price 0.3 is not a multiple of 0.5");
    let first = play.place(&named(10.0));
    play.cancel(first).unwrap();
    assert_eq!(play.refusal(&named(11.0)), "rejected: the reference \"grid/1\" is that of order 1");
    play.place(&buy(10.0, 1.0));
    play.place(&buy(10.0, 1.0));
    let long = OrderRequest { reference: "x".repeat(MAX_REFERENCE_BYTES + 1), ..buy(10.0, 1.0) };
    assert_eq!(play.refusal(&long), "rejected: the reference has 256 bytes, 255 are allowed");
    play.place(&OrderRequest { reference: "x".repeat(MAX_REFERENCE_BYTES), ..buy(10.0, 1.0) });
}

#[test]
fn orders_beyond_what_is_available_are_refused() {
    let mut play = Play::new();
    play.place(&buy(1_000.0, 900.0));
    assert_eq!(play.account().available(), 10_000.0, "a tenth of 900 000 is bound");
    assert_eq!(play.refusal(&sell(1_000.5, 100.0)), "rejected: the order needs 10005, 10000 are available");
    play.place(&sell(1_000.5, 99.0));
}

#[test]
fn more_than_is_held_cannot_be_closed() {
    let mut play = Play::new();
    let close = |offset, volume| future_order(Direction::Short, offset, 100.0, volume);
    let why = |volume, free| {
        format!("rejected: {volume} cannot be closed: {free} are held and not bound by other orders")
    };
    assert_eq!(play.refusal(&close(Offset::Close, 1.0)), why(1, 0));
    play.tick(&future_tick(&[], &[(100.0, 5.0)]));
    play.place(&future_order(Direction::Long, Offset::Open, 100.0, 5.0));
    let resting = play.place(&close(Offset::CloseToday, 3.0));
    assert_eq!(play.refusal(&close(Offset::Close, 3.0)), why(3, 2));
    assert_eq!(play.futures(Direction::Long).frozen, 3.0);
    play.cancel(resting).unwrap();
    play.place(&close(Offset::Close, 5.0));
    assert_eq!(play.refusal(&close(Offset::CloseYesterday, 1.0)), "rejected: nothing is held from yesterday");
    let why = "rejected: long and short are held apart: the order has to say whether it opens or closes";
    assert_eq!(play.refusal(&close(Offset::None, 1.0)), why);
}

#[test]
fn what_only_closes_is_taken_also_when_nothing_is_available() {
    let mut play = Play::with_terms(Terms { balance: 1_000.0, margin_rate: 1.0, fee_rate: 0.01, ..TERMS });
    play.tick(&future_tick(&[], &[(50.0, 1.0)]));
    play.place(&future_order(Direction::Long, Offset::Open, 50.0, 1.0));
    play.tick(&future_tick(&[(2.0, 1.0)], &[]));
    let crash = future_order(Direction::Short, Offset::Close, 2.0, 1.0);
    let order = play.place(&crash);
    assert_eq!(play.state(order), (Status::AllTraded, 1.0));
    assert_eq!(play.account().balance, 1_000.0 - 480.0 - 0.01 * 520.0);
}

#[test]
fn cancels_of_finished_unknown_and_foreign_orders_are_refused() {
    let mut play = Play::new();
    let order = play.place(&buy(10.0, 1.0));
    let refusal = |play: &mut Play, orderid: &str, symbol: &str, venue| {
        format!("{}", play.cancel_by(&CancelRequest::new(orderid, symbol, venue)).unwrap_err())
    };
    for orderid in ["", "0", "2", "01", "+1", "-1", "one", "18446744073709551616"] {
        let why = format!("rejected: there is no order {orderid:?}");
        assert_eq!(refusal(&mut play, orderid, "COIN", Venue::Local), why);
    }
    assert_eq!(refusal(&mut play, "1", "rb", Venue::Shfe), "rejected: order 1 is one of COIN.LOCAL");
    play.cancel(order).unwrap();
    assert_eq!(refusal(&mut play, "1", "COIN", Venue::Local), "rejected: order 1 is finished: CANCELLED");
    play.tick(&coin_tick(&[], &[(10.0, 1.0)]));
    play.place(&buy(10.0, 1.0));
    assert_eq!(refusal(&mut play, "2", "COIN", Venue::Local), "rejected: order 2 is finished: ALLTRADED");
}

#[test]
fn contracts_that_cannot_be_traded_are_refused() {
    let new = |contracts: &[ContractData]| Exchange::new(NAME, contracts, TERMS).map(|_| ());
    assert_eq!(new(&[coin(), coin()]), Err(BadContract::Twice("COIN.LOCAL".into())));
    for broken in [
        ContractData { pricetick: 0.0, ..coin() },
        ContractData { min_volume: -1.0, ..coin() },
        ContractData { size: f64::NAN, ..coin() },
    ] {
        assert_eq!(new(&[broken]), Err(BadContract::Step("COIN.LOCAL".into())));
    }
}

#[test]
fn full_exchange_takes_no_orders_and_still_trades_and_cancels() {
    let mut play = Play::new();
    play.exchange.max_records = 2;
    let (first, second) = (play.place(&buy(100.0, 1.0)), play.place(&buy(99.0, 1.0)));
    assert_eq!(play.refusal(&buy(98.0, 1.0)), "rejected: the ledger is full");
    play.tick(&coin_tick(&[], &[(100.0, 1.0)]));
    play.cancel(second).unwrap();
    assert_eq!((play.state(first).0, play.state(second).0), (Status::AllTraded, Status::Cancelled));
}

#[test]
fn what_only_closes_a_net_position_is_taken_also_when_its_fees_are_not_there() {
    let mut play = Play::with_terms(Terms { balance: 1_000.0, margin_rate: 1.0, fee_rate: 0.11, ..TERMS });
    play.tick(&coin_tick(&[], &[(50.0, 18.0)]));
    play.place(&buy(50.0, 18.0));
    play.tick(&coin_tick(&[(2.0, 18.0)], &[]));
    assert!(play.account().available() < 0.11 * 36.0, "less than the fees of closing");
    let order = play.place(&sell(2.0, 18.0));
    assert_eq!(play.state(order), (Status::AllTraded, 18.0));
    assert_eq!(play.coins().volume, 0.0);
}

#[test]
fn what_can_never_rest_needs_no_means() {
    let mut play = Play::new();
    let asks = |volume| coin_tick(&[], &[(1_000.0, volume)]);
    // 100 000 are there, and a tenth of the value is needed: 1 000 coins at 1 000.5 are too many.
    let order = |order_type| coin_order(Direction::Long, order_type, 1_000.5, 1_000.0);
    play.tick(&asks(10.0));
    assert_eq!(
        play.refusal(&order(OrderType::Limit)),
        "rejected: the order needs 100049.5, 100000 are available"
    );
    let part = play.place(&order(OrderType::Fak));
    assert_eq!(play.state(part), (Status::Cancelled, 10.0));
    let none = play.place(&order(OrderType::Fok));
    assert_eq!(play.state(none), (Status::Cancelled, 0.0));
    // What would trade at once needs what it needs.
    play.tick(&asks(1_000.0));
    for order_type in [OrderType::Fak, OrderType::Fok] {
        assert_eq!(play.refusal(&order(order_type)), "rejected: the order needs 100000, 99000 are available");
    }
}

#[test]
fn volume_that_could_not_be_counted_is_refused() {
    let free = ContractData { max_volume: None, min_volume: 1.0, ..coin() };
    let mut play = Play::new();
    play.exchange = Exchange::new(NAME, &[free], TERMS).unwrap();
    let most = 9_007_199_254_740_992.0;
    // At a price of nothing it costs nothing.
    play.place(&buy(0.0, most / 2.0));
    play.place(&sell(0.0, most / 4.0));
    let why = "is too much beside what is held and what rests: it could not be counted exactly";
    assert!(play.refusal(&buy(0.0, most)).ends_with(why));
    assert!(play.refusal(&sell(1.0, most)).ends_with(why));
    play.place(&buy(0.0, 1.0));
    assert_eq!(play.state(1), (Status::PartTraded, most / 4.0));
}

//! Who trades with whom, at what price, how much, and what is reported of it.

use super::*;

const BIDS: [(f64, f64); 2] = [(99.5, 2.0), (99.0, 3.0)];
const ASKS: [(f64, f64); 2] = [(100.5, 2.0), (101.0, 3.0)];

fn play() -> Play {
    let mut play = Play::new();
    play.tick(&coin_tick(&BIDS, &ASKS));
    play
}

#[test]
fn limit_order_takes_the_levels_up_to_its_price_and_rests_with_what_is_left() {
    let mut play = play();
    let order = play.place(&buy(101.0, 6.0));
    assert_eq!(play.trades(), [(order, 100.5, 2.0), (order, 101.0, 3.0)]);
    assert_eq!(play.state(order), (Status::PartTraded, 5.0));
    let next = play.place(&buy(101.0, 1.0));
    assert_eq!(play.state(next), (Status::NotTraded, 0.0), "the levels are taken until the next tick");
    play.tick(&coin_tick(&[], &[(101.0, 1.5)]));
    assert_eq!(play.trades()[2..], [(order, 101.0, 1.0), (next, 101.0, 0.5)], "the older one first");
    assert_eq!(play.state(order), (Status::AllTraded, 6.0));
}

#[test]
fn resting_order_trades_at_its_own_price_when_the_market_comes_down_to_it() {
    let mut play = play();
    let low = play.place(&buy(98.0, 1.0));
    let high = play.place(&buy(99.0, 1.0));
    play.tick(&coin_tick(&[], &[(97.0, 1.2), (99.5, 5.0)]));
    assert_eq!(play.trades(), [(high, 99.0, 1.0), (low, 98.0, 0.2)], "the better price first");
    let remaining = play.place(&coin_order(Direction::Long, OrderType::Market, 0.0, 10.0));
    assert_eq!(play.trades()[2..], [(remaining, 99.5, 5.0)], "97 is used up, by those who were there");
}

#[test]
fn orders_of_two_clients_trade_with_each_other() {
    let mut play = play();
    let first = play.place(&sell(100.0, 1.0));
    let second = play.place(&sell(100.0, 1.0));
    let buyer = play.place(&buy(100.5, 1.5));
    assert_eq!(
        play.trades(),
        [(first, 100.0, 1.0), (buyer, 100.0, 1.0), (second, 100.0, 0.5), (buyer, 100.0, 0.5)]
    );
    assert_eq!(play.state(second), (Status::PartTraded, 0.5));
    assert_eq!(play.coins().volume, 0.0, "one account has sold to itself");
    assert_eq!(play.account().balance, TERMS.balance);
}

#[test]
fn market_order_takes_what_there_is_and_the_rest_is_cancelled() {
    let mut play = play();
    let order = play.place(&coin_order(Direction::Short, OrderType::Market, 0.0, 9.0));
    assert_eq!(play.trades(), [(order, 99.5, 2.0), (order, 99.0, 3.0)]);
    assert_eq!(play.state(order), (Status::Cancelled, 5.0));
    let late = play.place(&coin_order(Direction::Short, OrderType::Market, 0.0, 1.0));
    assert_eq!(play.state(late), (Status::Cancelled, 0.0));
}

#[test]
fn fill_and_kill_takes_what_there_is_up_to_its_price() {
    let mut play = play();
    let order = play.place(&coin_order(Direction::Long, OrderType::Fak, 100.5, 3.0));
    assert_eq!(play.state(order), (Status::Cancelled, 2.0));
    let whole = play.place(&coin_order(Direction::Long, OrderType::Fak, 101.0, 3.0));
    assert_eq!(play.state(whole), (Status::AllTraded, 3.0));
}

#[test]
fn fill_or_kill_trades_whole_or_not_at_all() {
    let mut play = play();
    let too_much = play.place(&coin_order(Direction::Long, OrderType::Fok, 101.0, 5.1));
    assert_eq!(play.state(too_much), (Status::Cancelled, 0.0));
    assert_eq!(play.trades(), []);
    let whole = play.place(&coin_order(Direction::Long, OrderType::Fok, 101.0, 5.0));
    assert_eq!(play.state(whole), (Status::AllTraded, 5.0), "what was killed has taken nothing");
}

#[test]
fn order_is_reported_as_submitting_then_with_each_trade_then_what_it_changed() {
    let mut play = play();
    let order = play.place(&OrderRequest { reference: "mine".into(), ..buy(100.5, 3.0) });
    let told: Vec<String> = play.events.iter().map(Event::specific_type).collect();
    assert_eq!(
        told,
        [
            "eOrder.PAPER.1",
            "eOrder.PAPER.1",
            "eTrade.COIN.LOCAL",
            "ePosition.COIN.LOCAL",
            "eAccount.PAPER.paper"
        ]
    );
    let states: Vec<(Status, f64)> = play
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Order(order) => Some((order.status, order.traded)),
            _ => None,
        })
        .collect();
    assert_eq!(states, [(Status::Submitting, 0.0), (Status::PartTraded, 2.0)]);
    let trade = play.events.iter().find_map(trade_of).unwrap();
    assert_eq!((&*trade.orderid, &*trade.tradeid, trade.direction), ("1", "1", Some(Direction::Long)));
    assert_eq!(trade.datetime, Some(Timestamp::from_nanos(1_000)), "the market's time");
    let record = play.order(order);
    assert_eq!((&*record.reference, record.price, record.volume), ("mine", 100.5, 3.0));

    play.events.clear();
    play.place(&sell(200.0, 1.0));
    let told: Vec<String> = play.events.iter().map(Event::specific_type).collect();
    assert_eq!(told, ["eOrder.PAPER.2", "eOrder.PAPER.2"], "it may close what is held: it binds nothing");
}

#[test]
fn cancelled_order_leaves_the_book_and_keeps_its_trades() {
    let mut play = play();
    let order = play.place(&buy(100.5, 3.0));
    play.events.clear();
    play.cancel(order).unwrap();
    assert_eq!(play.state(order), (Status::Cancelled, 2.0));
    assert_eq!(play.events.len(), 2, "the order, and the account of which less is bound");
    let seller = play.place(&sell(100.0, 1.0));
    assert_eq!(play.state(seller), (Status::NotTraded, 0.0));
    assert_eq!(play.trades(), [(order, 100.5, 2.0)]);
}

//! Positions and money after trades that can be counted by hand.

use super::*;

/// Sums of money have the last digit of floating point.
#[track_caller]
fn assert_near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found} where {expected} is expected");
}

#[test]
fn net_position_has_a_sign_and_an_average_price() {
    let mut play = Play::new();
    play.tick(&coin_tick(&[(99.0, 50.0)], &[(100.0, 10.0), (101.0, 10.0)]));
    play.place(&coin_order(Direction::Long, OrderType::Market, 0.0, 20.0));
    let held = play.coins();
    assert_eq!((held.direction, held.volume, held.price, held.frozen), (Direction::Net, 20.0, 100.5, 0.0));
    assert_eq!(play.account().frozen, 201.0);
    play.place(&sell(99.0, 30.0));
    assert_eq!((play.coins().volume, play.coins().price), (-10.0, 99.0));
    let account = play.account();
    assert_eq!((account.balance, account.frozen), (TERMS.balance - 30.0, 99.0));
    play.tick(&TickData { last_price: 97.0, ..coin_tick(&[], &[]) });
    assert_eq!(play.coins().pnl, 20.0, "short at 99, last traded at 97");
}

#[test]
fn long_and_short_have_positions_of_their_own() {
    let mut play = Play::new();
    play.tick(&TickData { last_price: 102.0, ..future_tick(&[(99.0, 9.0)], &[(101.0, 9.0)]) });
    play.place(&future_order(Direction::Long, Offset::Open, 101.0, 4.0));
    play.place(&future_order(Direction::Short, Offset::Open, 99.0, 3.0));
    let (long, short) = (play.futures(Direction::Long), play.futures(Direction::Short));
    assert_eq!((long.volume, long.price, long.pnl), (4.0, 101.0, 40.0));
    assert_eq!((short.volume, short.price, short.pnl), (3.0, 99.0, -90.0));
    assert_near(play.account().frozen, 701.0);
    play.place(&future_order(Direction::Short, Offset::Close, 99.0, 4.0));
    play.place(&future_order(Direction::Long, Offset::CloseToday, 101.0, 3.0));
    assert_eq!((play.futures(Direction::Long).volume, play.futures(Direction::Short).volume), (0.0, 0.0));
    let account = play.account();
    assert_eq!((account.balance, account.frozen), (TERMS.balance - 140.0, 0.0));
}

#[test]
fn resting_orders_bind_money_unless_they_close() {
    let mut play = Play::new();
    let order = play.place(&buy(50.0, 10.0));
    assert_eq!(play.account().frozen, 50.0);
    play.tick(&coin_tick(&[], &[(50.0, 10.0)]));
    assert_eq!(play.state(order).0, Status::AllTraded);
    assert_eq!(play.account().frozen, 50.0, "now by the position");
    play.place(&sell(60.0, 8.0));
    assert_eq!(play.account().frozen, 50.0);
    play.place(&sell(70.0, 8.0));
    assert_near(play.account().frozen, 50.0 + 42.0); // Two of these close, six open.
    play.tick(&coin_tick(&[(60.0, 8.0)], &[]));
    assert_eq!(play.account().frozen, 10.0 + 42.0);
    assert_eq!(play.account().balance, TERMS.balance + 80.0);
}

#[test]
fn fees_are_taken_from_both_sides_of_every_trade() {
    let mut play = Play::with_terms(Terms { fee_rate: 0.001, ..TERMS });
    let order = play.place(&buy(100.0, 10.0));
    assert_eq!(play.account().frozen, 100.0 + 1.0, "the fee is bound with it");
    play.place(&coin_order(Direction::Short, OrderType::Market, 0.0, 4.0));
    assert_eq!(play.account().balance, TERMS.balance - 2.0 * 0.4);
    play.cancel(order).unwrap();
    assert_eq!(play.account().frozen, 0.0);
}

#[test]
fn positions_are_reported_when_they_change_and_not_otherwise() {
    let mut play = Play::new();
    play.tick(&future_tick(&[], &[(100.0, 2.0)]));
    play.place(&future_order(Direction::Long, Offset::Open, 90.0, 1.0));
    let positions = |play: &mut Play| -> Vec<(Direction, f64, f64)> {
        let events = core::mem::take(&mut play.events);
        let positions = events.into_iter().filter_map(|event| match event {
            Event::Position(position) => Some((position.direction, position.volume, position.frozen)),
            _ => None,
        });
        positions.collect()
    };
    assert_eq!(positions(&mut play), [], "nothing is held");
    play.place(&future_order(Direction::Long, Offset::Open, 100.0, 2.0));
    assert_eq!(positions(&mut play), [(Direction::Long, 2.0, 0.0)], "the short side is as it was");
    play.place(&future_order(Direction::Short, Offset::Close, 110.0, 1.0));
    assert_eq!(positions(&mut play), [(Direction::Long, 2.0, 1.0)]);
}

//! Whatever is asked in whatever order: nothing is made out of nothing, and nothing is lost.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// One thing that happens. Prices and volumes are in steps.
#[derive(Debug, Clone)]
enum Step {
    Order {
        is_coin: bool,
        direction: Direction,
        order_type: OrderType,
        offset: Offset,
        price: i32,
        volume: i32,
    },
    Cancel {
        back: usize,
    },
    Tick {
        is_coin: bool,
        bid: i32,
        spread: i32,
        volumes: [i32; 4],
    },
}

fn step() -> impl Strategy<Value = Step> {
    let order_type = select(
        &[
            OrderType::Limit,
            OrderType::Limit,
            OrderType::Limit,
            OrderType::Market,
            OrderType::Fak,
            OrderType::Fok,
        ][..],
    );
    let offset = select(&[Offset::Open, Offset::Close, Offset::CloseToday][..]);
    let direction = select(&[Direction::Long, Direction::Short][..]);
    prop_oneof![
        6 => (any::<bool>(), direction, order_type, offset, 190..210_i32, 1..40_i32).prop_map(
            |(is_coin, direction, order_type, offset, price, volume)| Step::Order {
                is_coin, direction, order_type, offset, price, volume
            }
        ),
        1 => (0..8_usize).prop_map(|back| Step::Cancel { back }),
        3 => (any::<bool>(), 190..210_i32, 1..5_i32, prop::array::uniform4(0..30_i32)).prop_map(
            |(is_coin, bid, spread, volumes)| Step::Tick { is_coin, bid, spread, volumes }
        ),
    ]
}

/// Does it, unless it is refused.
fn take(play: &mut Play, step: &Step) {
    match *step {
        Step::Order { is_coin, direction, order_type, offset, price, volume } => {
            let request = if is_coin {
                coin_order(direction, order_type, f64::from(price) * 0.5, f64::from(volume) * 0.1)
            } else {
                let order = future_order(direction, offset, f64::from(price), f64::from(volume));
                OrderRequest { order_type, ..order }
            };
            let _ = play.send(&request);
        }
        Step::Cancel { back } => {
            let id = play.exchange.orders().count().saturating_sub(back);
            if id > 0 {
                let _ = play.cancel(id as u64);
            }
        }
        Step::Tick { is_coin, bid, spread, volumes } => {
            let step = if is_coin { 0.5 } else { 1.0 };
            let price = |steps: i32| f64::from(steps) * step;
            let [a, b, c, d] = volumes.map(|volume| f64::from(volume) * if is_coin { 0.1 } else { 1.0 });
            let bids = [(price(bid), a), (price(bid - 1), b)];
            let asks = [(price(bid + spread), c), (price(bid + spread + 1), d)];
            let tick = if is_coin { coin_tick(&bids, &asks) } else { future_tick(&bids, &asks) };
            play.tick(&tick);
        }
    }
}

/// What the reported trades alone say of one contract: money paid in, and what is held for it.
fn flows(play: &Play, symbol: &str) -> (f64, f64) {
    let trades = play.events.iter().filter_map(trade_of).filter(|trade| trade.symbol == symbol);
    trades.fold((0.0, 0.0), |(paid, held), trade| {
        let sign = if trade.direction == Some(Direction::Long) { 1.0 } else { -1.0 };
        (paid + sign * trade.price * trade.volume, held + sign * trade.volume)
    })
}

#[track_caller]
fn assert_near(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() < 1e-6, "{what}: {a} and {b}");
}

/// Cash and positions at the prices that they were opened for are what the account began with.
fn check_money(play: &Play) {
    let mut expected = TERMS.balance;
    for (symbol, size) in [("COIN", 1.0), ("rb", 10.0)] {
        let (paid, held) = flows(play, symbol);
        let positions: Vec<PositionData> =
            play.exchange.positions().filter(|position| position.symbol == symbol).collect();
        let signed = |position: &PositionData| match position.direction {
            Direction::Short => -position.volume,
            _ => position.volume,
        };
        let volume: f64 = positions.iter().map(signed).sum();
        assert_near(volume, held, "held, and bought less sold");
        let cost: f64 = positions.iter().map(|position| signed(position) * position.price).sum();
        expected += (cost - paid) * size;
        for position in &positions {
            assert!(position.frozen <= position.volume.max(0.0), "{position:?}");
            assert!(position.volume >= 0.0 || position.direction == Direction::Net, "{position:?}");
        }
    }
    assert_near(play.account().balance, expected, "the balance");
    assert!(play.account().frozen >= 0.0);
}

/// Each order goes its way once: forwards, to one end.
fn check_orders(play: &Play) {
    let mut states: HashMap<String, (Status, f64)> = HashMap::new();
    let mut traded: HashMap<String, f64> = HashMap::new();
    for event in &play.events {
        match event {
            Event::Order(order) => {
                let before = states.insert(order.orderid.clone(), (order.status, order.traded));
                match before {
                    None => assert_eq!((order.status, order.traded), (Status::Submitting, 0.0)),
                    Some((status, traded)) => {
                        assert!(status.is_active() && order.status != Status::Submitting, "{order:?}");
                        assert!(order.traded >= traded && order.traded <= order.volume, "{order:?}");
                    }
                }
                assert_eq!(order.status == Status::AllTraded, order.traded == order.volume, "{order:?}");
            }
            Event::Trade(trade) => {
                assert!(trade.volume > 0.0);
                *traded.entry(trade.orderid.clone()).or_default() += trade.volume;
            }
            _ => {}
        }
    }
    for order in play.exchange.orders() {
        assert_eq!(states[&order.orderid], (order.status, order.traded), "the last word was the truth");
        assert_near(order.traded, traded.get(&order.orderid).copied().unwrap_or_default(), "its trades");
        assert_ne!(order.status, Status::Submitting);
        match order.order_type {
            OrderType::Limit => {}
            OrderType::Fok => assert!(order.traded == 0.0 || order.status == Status::AllTraded, "{order:?}"),
            _ => assert!(!order.status.is_active(), "{order:?}"),
        }
    }
}

/// No two orders rest that would trade with each other.
fn check_book(play: &Play) {
    for symbol in ["COIN", "rb"] {
        let prices = |direction| {
            let resting = play.exchange.orders().filter(|order| order.status.is_active());
            resting
                .filter(move |order| order.symbol == symbol && order.direction == Some(direction))
                .map(|order| order.price)
        };
        let best_buy = prices(Direction::Long).fold(f64::MIN, f64::max);
        let best_sell = prices(Direction::Short).fold(f64::MAX, f64::min);
        assert!(best_buy < best_sell, "{symbol}: {best_buy} and {best_sell}");
    }
}

proptest! {
    #[test]
    fn money_orders_and_book_balance_after_every_step(steps in prop::collection::vec(step(), 1..80)) {
        let mut play = Play::new();
        for step in &steps {
            take(&mut play, step);
            check_money(&play);
            check_orders(&play);
            check_book(&play);
        }
    }

    #[test]
    fn same_steps_give_the_same_events_and_the_entries_the_same_state(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let (mut play, mut again) = (Play::new(), Play::new());
        for step in &steps {
            take(&mut play, step);
            take(&mut again, step);
        }
        prop_assert_eq!(&play.events, &again.events);
        prop_assert_eq!(&play.entries, &again.entries);
        let mut restarted = Play::new();
        for entry in &play.entries {
            // As the ledger writes and reads it.
            let line = serde_json::to_string(entry).unwrap();
            let read: LedgerEntry = serde_json::from_str(&line).unwrap();
            restarted.exchange.apply(&read, &mut restarted.events).unwrap();
        }
        let orders = |play: &Play| play.exchange.orders().collect::<Vec<_>>();
        prop_assert_eq!(orders(&restarted), orders(&play));
        prop_assert_eq!(restarted.trades(), play.trades());
        prop_assert_eq!(restarted.account(), play.account());
    }
}

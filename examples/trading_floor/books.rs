//! The exchange's books, kept anew from its ledger, and whether a client's statement agrees with them.

use std::collections::{BTreeMap, HashSet};

use pulsewire::trader::paper::{Fill, LedgerContent, LedgerEntry, PlacedOrder};
use pulsewire::trader::{id, Direction, OrderData, Status};

use crate::trading::client::{self, Sent, Statement, Told};
use crate::trading::server;

/// All orders of the exchange, and what its account began with.
#[derive(Debug, Clone, PartialEq)]
pub struct Books {
    pub balance: f64,
    pub margin_rate: f64,
    /// By id.
    pub orders: BTreeMap<u64, BookOrder>,
}

/// One order, as the ledger has it.
#[derive(Debug, Clone, PartialEq)]
pub struct BookOrder {
    pub placed: PlacedOrder,
    pub fills: Vec<Fill>,
    pub is_cancelled: bool,
}

/// Sums of decimals agree up to this share of what is summed up.
const TOLERANCE: f64 = 1e-9;

/// Money agrees to the cent.
const CENT: f64 = 0.01;

impl Books {
    /// Keeps the books anew.
    ///
    /// # Errors
    /// The ledger says what cannot be.
    pub fn of(content: &LedgerContent) -> Result<Self, String> {
        let terms = content.terms.ok_or("it does not even have terms")?;
        let mut books =
            Books { balance: terms.balance, margin_rate: terms.margin_rate, orders: BTreeMap::new() };
        for entry in &content.entries {
            books.enter(entry).map_err(|why| format!("entry {}: {why}", entry.number))?;
        }
        Ok(books)
    }

    fn enter(&mut self, entry: &LedgerEntry) -> Result<(), String> {
        if let Some(placed) = &entry.placed {
            let order = BookOrder { placed: placed.clone(), fills: Vec::new(), is_cancelled: false };
            if self.orders.insert(placed.order, order).is_some() {
                return Err(format!("order {} is placed twice", placed.order));
            }
        }
        for fill in &entry.fills {
            let order = self.orders.get_mut(&fill.order).ok_or("a trade of no order")?;
            if order.is_finished() {
                return Err(format!("order {} trades after its end", fill.order));
            }
            order.fills.push(*fill);
        }
        for id in &entry.cancelled {
            let order = self.orders.get_mut(id).ok_or("a cancel of no order")?;
            if order.is_finished() {
                return Err(format!("order {id} is cancelled after its end"));
            }
            order.is_cancelled = true;
        }
        Ok(())
    }

    /// The orders of one client.
    pub fn orders_of<'a>(&'a self, client: &'a str) -> impl Iterator<Item = &'a BookOrder> {
        self.orders.values().filter(move |order| owner(order.reference()) == client)
    }

    /// What was bought less what was sold, by contract.
    pub fn positions<'a>(orders: impl Iterator<Item = &'a BookOrder>) -> BTreeMap<String, f64> {
        let mut positions = BTreeMap::new();
        for order in orders.filter(|order| !order.fills.is_empty()) {
            *positions.entry(order.placed.contract.clone()).or_default() += order.sign() * order.traded();
        }
        positions
    }

    /// What is wrong with the books by themselves.
    pub fn problems(&self, clients: &[&str]) -> Vec<String> {
        let mut problems = Vec::new();
        let mut references = HashSet::new();
        for (id, order) in &self.orders {
            let reference = order.reference();
            if !clients.contains(&owner(reference)) {
                problems.push(format!("order {id} of the ledger is nobody's: {reference:?}"));
            }
            if !references.insert(reference) {
                problems.push(format!("order {reference} is in the ledger twice"));
            }
            if !order.is_finished() {
                problems.push(format!("order {reference} rests, though everybody has taken back what rests"));
            }
            if order.traded() > order.placed.volume * (1.0 + TOLERANCE) {
                problems.push(format!("order {reference} has traded more than its volume"));
            }
        }
        problems
    }

    /// Where a client's statement does not agree with the books.
    pub fn disagreements(&self, client: &str, statement: &Statement) -> Vec<String> {
        let mut problems = self.wrong_outcomes(client, &statement.sent);
        problems.extend(self.wrong_orders(client, &statement.orders));
        problems.extend(self.wrong_trades(client, statement));
        let positions = Self::positions(self.orders_of(client));
        if !is_same_map(&positions, &statement.positions) {
            problems.push(format!("positions {:?}, in the ledger {positions:?}", statement.positions));
        }
        problems.extend(self.wrong_account(statement));
        problems.into_iter().map(|problem| format!("{client}: {problem}")).collect()
    }

    fn wrong_outcomes(&self, client: &str, sent: &[Sent]) -> Vec<String> {
        let mut placed: BTreeMap<&str, String> =
            self.orders_of(client).map(|order| (order.reference(), order.local_id())).collect();
        let mut problems = Vec::new();
        for Sent { reference, told, found } in sent {
            let placed = placed.remove(&**reference);
            if *found != placed {
                problems.push(format!("{reference} was found as {found:?}, in the ledger it is {placed:?}"));
            }
            let agrees = match told {
                Told::Placed(vt_orderid) => placed.as_ref() == Some(vt_orderid),
                Told::Refused => placed.is_none(),
                Told::Unknown => true,
            };
            if !agrees {
                problems.push(format!("{reference} was {told:?}, in the ledger it is {placed:?}"));
            }
        }
        problems.extend(
            placed.keys().map(|reference| format!("{reference} is in the ledger, and was never sent")),
        );
        problems
    }

    fn wrong_orders(&self, client: &str, stated: &[OrderData]) -> Vec<String> {
        let mut stated: BTreeMap<String, &OrderData> =
            stated.iter().map(|order| (order.vt_orderid(), order)).collect();
        let mut problems = Vec::new();
        for order in self.orders_of(client) {
            let reference = order.reference();
            match stated.remove(&order.local_id()) {
                None => problems.push(format!("{reference} is in the ledger, and not known")),
                Some(known) if !order.is_same(known) => {
                    problems.push(format!("{reference} is {known:?}, in the ledger {order:?}"));
                }
                Some(_) => {}
            }
        }
        problems.extend(stated.keys().map(|id| format!("order {id} is not in the ledger")));
        problems
    }

    fn wrong_trades(&self, client: &str, statement: &Statement) -> Vec<String> {
        let mut stated: BTreeMap<String, (String, f64, f64)> = BTreeMap::new();
        let mut problems = Vec::new();
        for trade in &statement.trades {
            let about = (trade.vt_orderid(), trade.price, trade.volume);
            if stated.insert(trade.vt_tradeid(), about).is_some() {
                problems.push(format!("trade {} is known twice", trade.vt_tradeid()));
            }
        }
        for (order, fill) in
            self.orders_of(client).flat_map(|order| order.fills.iter().map(move |f| (order, f)))
        {
            let expected = (order.local_id(), fill.price, fill.volume);
            let known = stated.remove(&local_id(fill.trade));
            if known.as_ref() != Some(&expected) {
                problems.push(format!("trade {} is {known:?}, in the ledger {expected:?}", fill.trade));
            }
        }
        problems.extend(stated.keys().map(|id| format!("trade {id} is not in the ledger")));
        problems
    }

    /// The account is what it began with, less what was paid, more what was received, and what is held for it.
    fn wrong_account(&self, statement: &Statement) -> Vec<String> {
        let held: BTreeMap<String, f64> = statement
            .shared_positions
            .iter()
            .map(|position| (position.vt_symbol(), position.volume))
            .collect();
        let mut problems = Vec::new();
        let expected = Self::positions(self.orders.values());
        if !is_same_map(&held, &expected) {
            problems.push(format!("the account holds {held:?}, by the ledger {expected:?}"));
        }
        let paid: f64 = self.orders.values().map(|order| order.sign() * order.value()).sum();
        let cost = |sign: fn(f64) -> f64| -> f64 {
            statement.shared_positions.iter().map(|held| sign(held.volume) * held.price).sum()
        };
        let balance = self.balance - paid + cost(|volume| volume);
        if (statement.account.balance - balance).abs() > CENT {
            problems.push(format!("the balance is {}, by the ledger {balance}", statement.account.balance));
        }
        let frozen = self.margin_rate * cost(f64::abs);
        if (statement.account.frozen - frozen).abs() > CENT {
            problems.push(format!("frozen are {}, by the ledger {frozen}", statement.account.frozen));
        }
        problems
    }
}

impl BookOrder {
    /// The reference that its sender gave it: what the gateway has put behind it is left out.
    pub fn reference(&self) -> &str {
        self.placed.reference.split("#pw-").next().unwrap_or_default()
    }

    /// What has traded of it.
    pub fn traded(&self) -> f64 {
        self.fills.iter().map(|fill| fill.volume).sum()
    }

    /// What that was worth.
    pub fn value(&self) -> f64 {
        self.fills.iter().map(|fill| fill.price * fill.volume).sum()
    }

    pub fn sign(&self) -> f64 {
        match self.placed.direction {
            Direction::Long => 1.0,
            _ => -1.0,
        }
    }

    fn is_finished(&self) -> bool {
        self.is_cancelled || is_same(self.traded(), self.placed.volume)
    }

    /// What the clients call it.
    fn local_id(&self) -> String {
        local_id(self.placed.order)
    }

    fn is_same(&self, known: &OrderData) -> bool {
        let status = if self.is_cancelled { Status::Cancelled } else { Status::AllTraded };
        let PlacedOrder { contract, direction, order_type, offset, price, volume, .. } = &self.placed;
        known.vt_symbol() == *contract
            && (known.direction, known.order_type, known.offset) == (Some(*direction), *order_type, *offset)
            && (known.price, known.volume, known.status) == (*price, *volume, status)
            && known.reference == self.reference()
            && is_same(known.traded, self.traded())
    }
}

/// What the clients call order, or trade, so and so of the exchange.
fn local_id(number: u64) -> String {
    id::vt_id(client::GATEWAY, &id::vt_id(server::GATEWAY, &number.to_string()))
}

/// Whose order has this reference.
fn owner(reference: &str) -> &str {
    reference.split_once('/').map_or("", |(owner, _)| owner)
}

fn is_same(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}

/// What is not held at all may be left out.
fn is_same_map(a: &BTreeMap<String, f64>, b: &BTreeMap<String, f64>) -> bool {
    // Around 0 as well: no lot is smaller than a millionth.
    let is_near = |a: f64, b: f64| (a - b).abs() <= 1e-7 + TOLERANCE * a.abs().max(b.abs());
    let value = |map: &BTreeMap<String, f64>, key| map.get(key).copied().unwrap_or_default();
    a.keys().chain(b.keys()).all(|key| is_near(value(a, key), value(b, key)))
}

#[cfg(test)]
mod tests {
    use pulsewire::trader::paper::Terms;
    use pulsewire::trader::{AccountData, Exchange, Offset, OrderType, PositionData, TradeData};

    use super::*;
    use crate::options::{self, CLIENTS};
    use crate::process::Scratch;
    use crate::report;

    const TAG: &str = "#pw-0123456789abcdef-1";

    fn placed(order: u64, reference: &str, direction: Direction, volume: f64) -> Option<PlacedOrder> {
        Some(PlacedOrder {
            order,
            contract: "COIN.LOCAL".into(),
            direction,
            order_type: OrderType::Limit,
            offset: Offset::None,
            price: 100.0,
            volume,
            reference: format!("{reference}{TAG}"),
            at_ns: None,
        })
    }

    fn fill(trade: u64, order: u64, price: f64, volume: f64) -> Fill {
        Fill { trade, order, price, volume, at_ns: None }
    }

    /// The maker sells 2 to the taker, who takes back the third; then the taker buys 1 of the market.
    fn ledger() -> LedgerContent {
        let scratch = Scratch::create().unwrap();
        let path = options::ledger(scratch.path());
        let entry = |number| LedgerEntry { number, placed: None, fills: Vec::new(), cancelled: Vec::new() };
        let entries = [
            LedgerEntry { placed: placed(1, "maker/0", Direction::Short, 2.0), ..entry(1) },
            LedgerEntry {
                placed: placed(2, "taker/0", Direction::Long, 3.0),
                fills: vec![fill(1, 1, 100.0, 2.0), fill(2, 2, 100.0, 2.0)],
                ..entry(2)
            },
            LedgerEntry { cancelled: vec![2], ..entry(3) },
            LedgerEntry {
                placed: placed(3, "taker/2", Direction::Long, 1.0),
                fills: vec![fill(3, 3, 99.0, 1.0)],
                ..entry(4)
            },
        ];
        let terms = Terms { version: 1, balance: 1_000.0, margin_rate: 0.1, fee_rate: 0.0 };
        let mut text = serde_json::to_string(&terms).unwrap() + "\n";
        for entry in entries {
            text += &(serde_json::to_string(&entry).unwrap() + "\n");
        }
        std::fs::write(&path, text).unwrap();
        pulsewire::trader::paper::read_ledger(&path).unwrap()
    }

    fn sent(reference: &str, told: Told, found: Option<u64>) -> Sent {
        Sent { reference: reference.into(), told, found: found.map(local_id) }
    }

    fn order(order: &BookOrder) -> OrderData {
        let PlacedOrder { direction, order_type, price, volume, .. } = order.placed;
        OrderData {
            direction: Some(direction),
            order_type,
            price,
            volume,
            traded: order.traded(),
            status: if order.is_cancelled { Status::Cancelled } else { Status::AllTraded },
            reference: order.reference().into(),
            ..OrderData::new("RPC", "COIN", Exchange::Local, format!("PAPER.{}", order.placed.order))
        }
    }

    fn trade(fill: &Fill) -> TradeData {
        let ids = [fill.order, fill.trade].map(|id| format!("PAPER.{id}"));
        let [orderid, tradeid] = ids;
        let trade = TradeData::new("RPC", "COIN", Exchange::Local, orderid, tradeid);
        TradeData { price: fill.price, volume: fill.volume, ..trade }
    }

    /// What the clients would state if all is well.
    fn statements(books: &Books) -> [Statement; 3] {
        let position = PositionData::new("RPC", "COIN", Exchange::Local, Direction::Net);
        let account = AccountData::new("RPC", "PAPER.paper");
        CLIENTS.map(|(client, _)| Statement {
            sent: Vec::new(),
            orders: books.orders_of(client).map(order).collect(),
            trades: books.orders_of(client).flat_map(|order| order.fills.iter().map(trade)).collect(),
            positions: Books::positions(books.orders_of(client)),
            account: AccountData { balance: 1_000.0, frozen: 9.9, ..account.clone() },
            shared_positions: vec![PositionData { volume: 1.0, price: 99.0, ..position.clone() }],
        })
    }

    /// The last lines after something is not as it should be.
    fn said(spoil: impl FnOnce(&mut Books, &mut [Statement; 3])) -> String {
        let mut books = Books::of(&ledger()).unwrap();
        let mut statements = statements(&books);
        statements[0].sent = vec![
            sent("maker/0", Told::Placed("RPC.PAPER.1".into()), Some(1)),
            sent("maker/1", Told::Refused, None),
        ];
        statements[1].sent = vec![
            sent("taker/0", Told::Unknown, Some(2)),
            sent("taker/1", Told::Unknown, None),
            sent("taker/2", Told::Placed("RPC.PAPER.3".into()), Some(3)),
        ];
        spoil(&mut books, &mut statements);
        let verdict = report::write(&books, &statements);
        let (_, said) =
            verdict.text.split_once("alance").and_then(|(_, rest)| rest.split_once("alance")).unwrap();
        assert_eq!(verdict.is_balanced, said == "s.\n");
        said.to_owned()
    }

    #[test]
    fn what_balances_is_said_to_balance() {
        assert_eq!(said(|_, _| ()), "s.\n");
    }

    #[test]
    fn whatever_does_not_balance_is_named() {
        type Spoil = fn(&mut Books, &mut [Statement; 3]);
        let cases: [(Spoil, &str); 16] = [
            (|_, all| all[0].sent[1].told = Told::Placed("RPC.PAPER.9".into()), "maker/1 was Placed"),
            (|_, all| all[0].sent[0].told = Told::Refused, "maker/0 was Refused, in the ledger it is Some"),
            (|_, all| all[1].sent[0].found = None, "taker/0 was found as None, in the ledger it is Some"),
            (|_, all| all[1].sent[1].found = Some("RPC.PAPER.3".into()), "taker/1 was found as Some"),
            (|_, all| drop(all[1].sent.pop()), "taker/2 is in the ledger, and was never sent"),
            (|_, all| drop(all[1].orders.pop()), "taker/2 is in the ledger, and not known"),
            (|_, all| all[1].orders[0].status = Status::NotTraded, "taker/0 is OrderData"),
            (|_, all| all[0].trades[0].price = 99.0, "trade 1 is Some"),
            (|_, all| drop(all[0].trades.pop()), "trade 1 is None"),
            (|_, all| all[1].trades.push(all[1].trades[0].clone()), "trade RPC.PAPER.2 is known twice"),
            (|_, all| all[1].positions.clear(), "taker: positions {}"),
            (|_, all| all[2].account.balance += 1.0, "hasty: the balance is 1001, by the ledger 1000"),
            (|_, all| all[2].account.frozen = 0.0, "hasty: frozen are 0, by the ledger 9.9"),
            (|_, all| all[2].shared_positions[0].volume = 2.0, "hasty: the account holds"),
            (|books, _| books.orders.get_mut(&2).unwrap().is_cancelled = false, "order taker/0 rests"),
            (
                |books, _| {
                    let mut again = books.orders[&3].clone();
                    again.placed.order = 4;
                    books.orders.insert(4, again);
                },
                "order taker/2 is in the ledger twice",
            ),
        ];
        for (spoil, expected) in cases {
            let said = said(spoil);
            assert!(said.contains(expected), "{expected:?} is not in {said:?}");
        }
    }

    #[test]
    fn ledger_that_no_exchange_would_write_is_refused() {
        let refusal = |spoil: fn(&mut LedgerContent)| {
            let mut content = ledger();
            spoil(&mut content);
            Books::of(&content).unwrap_err()
        };
        let twice = refusal(|content| content.entries[3].placed = content.entries[0].placed.clone());
        assert_eq!(twice, "entry 4: order 1 is placed twice");
        let late = refusal(|content| content.entries[3].fills[0].order = 2);
        assert_eq!(late, "entry 4: order 2 trades after its end");
        let foreign = refusal(|content| content.entries[2].cancelled[0] = 9);
        assert_eq!(foreign, "entry 3: a cancel of no order");
        assert_eq!(refusal(|content| content.terms = None), "it does not even have terms");
    }
}

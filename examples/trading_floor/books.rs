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

//! The tables at the end, and the verdict.

use std::fmt::Write;

use crate::books::{BookOrder, Books};
use crate::options::CLIENTS;
use crate::text;
use crate::trading::client::{Statement, Told};

/// What the run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Tables, and a last line that says it.
    pub text: String,
    pub is_balanced: bool,
}

/// As many problems as are written in words.
const MAX_PROBLEMS: usize = 20;

/// Compares everything and writes the tables.
pub fn write(books: &Books, statements: &[Statement]) -> Verdict {
    let names = CLIENTS.map(|(name, _)| name);
    let mut problems = books.problems(&names);
    for (name, statement) in names.iter().zip(statements) {
        problems.extend(books.disagreements(name, statement));
    }
    let mut text =
        String::from("\nOrders: what the clients were told, and what the exchange's ledger holds\n");
    text += &text::table(&order_table(books, statements));
    text += "\nPositions: bought less sold, by the clients' trades and by the exchange's account\n";
    text += &text::table(&position_table(books, statements));
    if let Some(account) = statements.first().map(|statement| &statement.account) {
        let _ = writeln!(text, "\nAccount: balance {:.2}, frozen {:.2}", account.balance, account.frozen);
    }
    let is_balanced = problems.is_empty();
    text += if is_balanced { "It all balances.\n" } else { "It does NOT balance:\n" };
    for problem in problems.iter().take(MAX_PROBLEMS) {
        let _ = writeln!(text, "  {problem}"); // A String takes everything.
    }
    if let Some(more) = problems.len().checked_sub(MAX_PROBLEMS).filter(|more| *more > 0) {
        let _ = writeln!(text, "  and {more} more");
    }
    Verdict { text, is_balanced }
}

fn order_table(books: &Books, statements: &[Statement]) -> Vec<Vec<String>> {
    let head = [
        "client",
        "sent",
        "placed",
        "refused",
        "unknown",
        "found",
        "in ledger",
        "trades",
        "bought for",
        "sold for",
    ];
    let mut table = vec![head.map(String::from).to_vec()];
    for ((name, _), statement) in CLIENTS.iter().zip(statements) {
        let count = |told: fn(&Told) -> bool| statement.sent.iter().filter(|sent| told(&sent.told)).count();
        let is_found = |told: &Told, found: &Option<String>| *told == Told::Unknown && found.is_some();
        let counts = [
            statement.sent.len(),
            count(|told| matches!(told, Told::Placed(_))),
            count(|told| *told == Told::Refused),
            count(|told| *told == Told::Unknown),
            statement.sent.iter().filter(|sent| is_found(&sent.told, &sent.found)).count(),
        ];
        let mut row = vec![(*name).to_owned()];
        row.extend(counts.map(|count| text::grouped(count as u64)));
        row.extend(in_ledger(books.orders_of(name)));
        table.push(row);
    }
    let mut row = vec!["exchange".to_owned()];
    row.extend(["", "", "", "", ""].map(String::from));
    row.extend(in_ledger(books.orders.values()));
    table.push(row);
    table
}

/// Orders, trades, and what was paid and received.
fn in_ledger<'a>(orders: impl Iterator<Item = &'a BookOrder>) -> [String; 4] {
    let (mut count, mut trades, mut bought, mut sold) = (0, 0, 0.0, 0.0);
    for order in orders {
        count += 1;
        trades += order.fills.len() as u64;
        *(if order.sign() > 0.0 { &mut bought } else { &mut sold }) += order.value();
    }
    [text::grouped(count), text::grouped(trades), format!("{bought:.2}"), format!("{sold:.2}")]
}

fn position_table(books: &Books, statements: &[Statement]) -> Vec<Vec<String>> {
    let mut head = vec!["contract".to_owned()];
    head.extend(CLIENTS.map(|(name, _)| name.to_owned()));
    head.extend(["ledger", "account"].map(String::from));
    let mut table = vec![head];
    for (contract, volume) in Books::positions(books.orders.values()) {
        let mut row = vec![contract.clone()];
        let held = statements.iter().map(|statement| statement.positions.get(&contract).copied());
        row.extend(held.map(|volume| lots(volume.unwrap_or_default())));
        row.push(lots(volume));
        let account = statements.iter().flat_map(|statement| &statement.shared_positions);
        let mut account = account.filter(|position| position.vt_symbol() == contract);
        row.push(account.next().map_or("-".to_owned(), |position| lots(position.volume)));
        table.push(row);
    }
    table
}

/// With as many digits as it has, up to six behind the point.
fn lots(volume: f64) -> String {
    let text = format!("{volume:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

//! The table at the end, and the verdict.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use crate::accounts::{Account, Balance, Life, Published};
use crate::director;
use crate::feed::Feed;
use crate::latency::Latency;
use crate::ledger::{self, Outcome};
use crate::options::Role;
use crate::profile::CLIENTS;
use crate::record::Record;
use crate::text::{self, grouped};

/// What the run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Tables, and a last line that says it.
    pub text: String,
    pub is_balanced: bool,
}

/// Balances all accounts and writes the tables.
///
/// `executed` is what the server's ledger holds: how often each order was executed.
pub fn write(record: &Record, feed: &Feed, executed: &HashMap<u64, u32>) -> Verdict {
    let mut problems = record.wrongs.clone();
    let ticks = tick_table(record, feed, &mut problems);
    let orders = order_table(record, executed, &mut problems);
    let times = time_table(record);
    let sections = [
        ("Ticks: from the first to the last position, matched = received + lost; the tail came later", ticks),
        ("Orders: how they ended for the client, and how many the server's ledger holds", orders),
        ("Times: from publishing to receipt, of queries, and of orders", times),
    ];
    let mut text = String::new();
    for (title, table) in sections {
        let _ = write!(text, "\n{title}\n{}", text::table(&table)); // A String takes everything.
    }
    let _ = writeln!(text, "\nStopped {}", stops(record));
    let is_balanced = problems.is_empty();
    text += if is_balanced { "It all balances.\n" } else { "It does NOT balance:\n" };
    for problem in problems {
        let _ = writeln!(text, "  {problem}");
    }
    Verdict { text, is_balanced }
}

fn tick_table(record: &Record, feed: &Feed, problems: &mut Vec<String>) -> Vec<Vec<String>> {
    let head = ["client", "life", "first", "last", "matched", "received", "lost", "gaps", "wrong", "tail"];
    let mut table = vec![head.map(String::from).to_vec()];
    for (client, profile) in record.clients.iter().zip(CLIENTS) {
        let selection = feed.select(profile.prefix(feed));
        for (life, seen) in record.lives.iter().zip(0..) {
            let name = if seen == 0 { profile.name } else { "" };
            let place = format!("{}, life {}", profile.name, seen + 1);
            let mut accounts = client.accounts.iter().filter(|account| account.epoch == life.epoch);
            let (Some(account), None) = (accounts.next(), accounts.next()) else {
                problems.push(format!("{place}: not one account"));
                continue;
            };
            if account.life.is_some_and(|life| life != seen) {
                problems.push(format!("{place}: ticks of another life"));
            }
            let balance = Balance::of(account, &selection, life);
            if !balance.is_even {
                problems.push(format!("{place}: {}", uneven(account, &balance, life)));
            }
            table.push(tick_row(name, seen + 1, account, &balance));
        }
        let known = |account: &Account| record.lives.iter().any(|life| life.epoch == account.epoch);
        if !client.accounts.iter().all(known) {
            problems.push(format!("{}: an account of an epoch that no server had", profile.name));
        }
    }
    table
}

fn tick_row(name: &str, life: u32, account: &Account, balance: &Balance) -> Vec<String> {
    let lost = match account.lost_at_most {
        0 => grouped(account.lost),
        more => format!("{} to {}", grouped(account.lost), grouped(account.lost + more)),
    };
    let tail = match balance.tail {
        Published::Exactly(count) => grouped(count),
        Published::AtMost(count) => format!("<= {}", grouped(count)),
    };
    let numbers = [account.first, account.position, balance.matched, account.received].map(grouped);
    let mut row = vec![name.to_owned(), life.to_string()];
    row.extend(numbers);
    row.extend([lost, grouped(account.gaps), grouped(account.wrong), tail]);
    row
}

fn uneven(account: &Account, balance: &Balance, life: &Life) -> String {
    if account.position > life.published.bound() {
        return format!("position {} is beyond all {}", account.position, life.published.bound());
    }
    let accounted = account.received + account.lost;
    format!("{} matched, {accounted} received or lost, {} wrong", balance.matched, account.wrong)
}

fn order_table(
    record: &Record,
    executed: &HashMap<u64, u32>,
    problems: &mut Vec<String>,
) -> Vec<Vec<String>> {
    let mut table = vec![vec!["client".to_owned(), "sent".to_owned()]];
    table[0].extend(Outcome::ALL.iter().map(|outcome| outcome.to_string().replace('-', " ")));
    table[0].extend(["but run", "ledger"].map(String::from));
    for (index, (client, profile)) in record.clients.iter().zip(CLIENTS).enumerate() {
        let orders = ledger::count(&record.outcomes, executed, index);
        let ended: u64 = orders.ended.iter().sum();
        match client.closing {
            Some((sent, _)) if sent != ended => {
                problems.push(format!("{}: {sent} orders sent, but {ended} ended", profile.name));
            }
            Some((_, queries)) if queries.wrong > 0 => {
                problems.push(format!("{}: {} queries with a wrong answer", profile.name, queries.wrong));
            }
            Some(_) => {}
            None => problems.push(format!("{}: closed no accounts", profile.name)),
        }
        let mut row = vec![profile.name.to_owned(), grouped(ended)];
        row.extend(orders.ended.map(grouped));
        row.extend([orders.unknown_executed, orders.executed].map(grouped));
        table.push(row);
    }
    let discords = ledger::discords(&record.outcomes, executed);
    problems.extend(discords.iter().map(ToString::to_string));
    table
}

fn time_table(record: &Record) -> Vec<Vec<String>> {
    let head =
        ["client", "ticks", "p50", "p99", "queries", "unanswered", "p50", "p99", "orders", "p50", "p99"];
    let mut table = vec![head.map(String::from).to_vec()];
    for (client, profile) in record.clients.iter().zip(CLIENTS) {
        let queries = client.closing.map(|(_, queries)| queries).unwrap_or_default();
        let mut row = vec![profile.name.to_owned()];
        let mut show = |what: &Latency, extra: Option<u64>| {
            row.push(grouped(what.count()));
            row.extend(extra.map(grouped));
            row.extend([0.5, 0.99].map(|share| text::time_or_dash(what.quantile(share))));
        };
        show(&client.ticks, None);
        show(&client.queries, Some(queries.unanswered));
        show(&client.orders, None);
        table.push(row);
    }
    table
}

fn stops(record: &Record) -> String {
    let stop =
        |(role, took): &(Role, Duration)| format!("{} in {}", director::name(*role), text::time(*took));
    record.stops.iter().map(stop).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator;
    use crate::lines::{Queries, Report};

    /// Two lives, each client received all of both, and each had one order executed.
    fn balanced(feed: &Feed) -> (Record, HashMap<u64, u32>) {
        let mut record = Record::new();
        let mut executed = HashMap::new();
        let mut take = |role, report| record.take(role, report).unwrap();
        for life in 0..2 {
            let server = Role::Server { life };
            take(server, Report::Ready { epoch: 70 + u64::from(life) });
            take(server, Report::Leased { end: 2_000 });
        }
        take(Role::Server { life: 1 }, Report::Published { end: 1_500 });
        for (index, profile) in CLIENTS.iter().enumerate() {
            let client = Role::Client { index };
            let selection = feed.select(profile.prefix(feed));
            for life in 0..2 {
                let mut account = Account::begin(70 + u64::from(life), 10);
                account.life = Some(life);
                account.position = 1_000;
                account.lost = 3;
                account.received = selection.count(10..1_000) - 3;
                take(client, Report::Account(account));
            }
            let id = ledger::order_id(index, 0);
            take(client, Report::Order { id, outcome: Outcome::Value, took: Duration::ZERO });
            take(client, Report::Closing { orders: 1, queries: Queries::default() });
            executed.insert(id, 1);
        }
        (record, executed)
    }

    fn problems(spoil: impl FnOnce(&mut Record, &mut HashMap<u64, u32>)) -> String {
        let feed = generator::generate(1);
        let (mut record, mut executed) = balanced(&feed);
        spoil(&mut record, &mut executed);
        let verdict = write(&record, &feed, &executed);
        let (_, said) = verdict.text.split_once("alance").expect("the last lines say whether it balances");
        assert_eq!(verdict.is_balanced, !said.starts_with(':'));
        said.to_owned()
    }

    #[test]
    fn what_balances_is_said_to_balance() {
        assert_eq!(problems(|_, _| ()), "s.\n");
    }

    #[test]
    fn whatever_does_not_balance_is_named() {
        type Spoil = fn(&mut Record, &mut HashMap<u64, u32>);
        let cases: [(Spoil, &str); 8] = [
            (
                |record, _| record.clients[0].accounts[0].received += 1,
                "everything, life 1: 990 matched, 991 received",
            ),
            (
                |record, _| record.clients[0].accounts[1].wrong = 1,
                "everything, life 2: 990 matched, 990 received",
            ),
            (|record, _| record.clients[0].accounts[1].position = 1_501, "position 1501 is beyond all 1500"),
            (|record, _| record.clients[2].accounts.truncate(1), "slow, life 2: not one account"),
            (
                |record, _| record.clients[2].accounts[0].epoch = 69,
                "slow: an account of an epoch that no server had",
            ),
            (
                |record, _| record.clients[1].accounts[1].life = Some(0),
                "one prefix, life 2: ticks of another life",
            ),
            (|record, _| record.clients[1].closing = None, "one prefix: closed no accounts"),
            (
                |_, executed| *executed.get_mut(&0).unwrap() = 2,
                "order 0 of client \"everything\" was executed 2 times",
            ),
        ];
        for (spoil, expected) in cases {
            let said = problems(spoil);
            assert!(said.contains(expected), "{expected:?} is not in {said:?}");
        }
    }
}

//! What the processes of a run say to each other over their pipes: one line for one thing.
//!
//! A child reports on its standard output and takes orders on its standard input. Lines are words with single spaces
//! between them, read strictly: a line that is not exactly one of these is an error of the child.

use std::fmt;
use std::str::{FromStr, Split};
use std::time::Duration;

use crate::accounts::Account;
use crate::latency::Latency;
use crate::ledger::Outcome;

/// What a child reports.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// The server listens.
    Ready { epoch: u64 },
    /// The server will not publish this number, or a later one, before it says more.
    Leased { end: u64 },
    /// The server has published everything below this number and publishes no more.
    Published { end: u64 },
    /// A client follows this life of the server: it has begun an account.
    Following { epoch: u64 },
    /// A client measured so much in so long: the age of ticks when they came, and how long queries took.
    Measured { over: Duration, ticks: Latency, queries: Latency },
    /// A client's order ended.
    Order { id: u64, outcome: Outcome, took: Duration },
    /// A client closes the account of an epoch.
    Account(Account),
    /// A client found what must never happen. The text is for people.
    Wrong { text: String },
    /// A client has said all: how many orders it sent, and how its queries ended.
    Closing { orders: u64, queries: Queries },
    /// The library was stopped; this is how long that took.
    Stopped { took: Duration },
}

/// How queries ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queries {
    /// With an answer that agrees with the feed.
    pub right: u64,
    /// With another answer, or refused.
    pub wrong: u64,
    /// With none: the server was away.
    pub unanswered: u64,
}

/// What the parent orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// To the server: publish no more.
    Quiet,
    /// To anybody: close your accounts and end.
    Stop,
}

/// The line is none of those that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotUnderstood;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Report::Ready { epoch } => write!(f, "ready {epoch}"),
            Report::Leased { end } => write!(f, "leased {end}"),
            Report::Published { end } => write!(f, "published {end}"),
            Report::Following { epoch } => write!(f, "following {epoch}"),
            Report::Measured { over, ticks, queries } => {
                write!(f, "measured {} {ticks} {queries}", over.as_nanos())
            }
            Report::Order { id, outcome, took } => write!(f, "order {id} {outcome} {}", took.as_nanos()),
            Report::Account(account) => {
                let Account { epoch, life, first, position, received, lost, lost_at_most, gaps, wrong } =
                    account;
                let life = life.map_or("-".to_owned(), |life| life.to_string());
                write!(f, "account {epoch} {life} {first} {position} ")?;
                write!(f, "{received} {lost} {lost_at_most} {gaps} {wrong}")
            }
            Report::Wrong { text } => write!(f, "wrong {}", text.escape_debug()),
            Report::Closing { orders, queries: Queries { right, wrong, unanswered } } => {
                write!(f, "closing {orders} {right} {wrong} {unanswered}")
            }
            Report::Stopped { took } => write!(f, "stopped {}", took.as_nanos()),
        }
    }
}

impl FromStr for Report {
    type Err = NotUnderstood;

    fn from_str(line: &str) -> Result<Self, NotUnderstood> {
        let mut words = Words(line.split(' '));
        let report = match words.text()? {
            "ready" => Report::Ready { epoch: words.value()? },
            "leased" => Report::Leased { end: words.value()? },
            "published" => Report::Published { end: words.value()? },
            "following" => Report::Following { epoch: words.value()? },
            "measured" => {
                Report::Measured { over: words.time()?, ticks: words.value()?, queries: words.value()? }
            }
            "order" => Report::Order { id: words.value()?, outcome: words.value()?, took: words.time()? },
            "account" => Report::Account(words.account()?),
            "wrong" => Report::Wrong { text: words.rest() },
            "closing" => Report::Closing {
                orders: words.value()?,
                queries: Queries { right: words.value()?, wrong: words.value()?, unanswered: words.value()? },
            },
            "stopped" => Report::Stopped { took: words.time()? },
            _ => return Err(NotUnderstood),
        };
        words.end()?;
        Ok(report)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Order::Quiet => "quiet",
            Order::Stop => "stop",
        })
    }
}

impl FromStr for Order {
    type Err = NotUnderstood;

    fn from_str(line: &str) -> Result<Self, NotUnderstood> {
        match line {
            "quiet" => Ok(Order::Quiet),
            "stop" => Ok(Order::Stop),
            _ => Err(NotUnderstood),
        }
    }
}

/// The words of a line that are still to be read.
struct Words<'a>(Split<'a, char>);

impl<'a> Words<'a> {
    fn text(&mut self) -> Result<&'a str, NotUnderstood> {
        self.0.next().ok_or(NotUnderstood)
    }

    fn value<T: FromStr>(&mut self) -> Result<T, NotUnderstood> {
        self.text()?.parse().map_err(|_| NotUnderstood)
    }

    fn time(&mut self) -> Result<Duration, NotUnderstood> {
        Ok(Duration::from_nanos(self.value()?))
    }

    fn account(&mut self) -> Result<Account, NotUnderstood> {
        Ok(Account {
            epoch: self.value()?,
            life: match self.text()? {
                "-" => None,
                life => Some(life.parse().map_err(|_| NotUnderstood)?),
            },
            first: self.value()?,
            position: self.value()?,
            received: self.value()?,
            lost: self.value()?,
            lost_at_most: self.value()?,
            gaps: self.value()?,
            wrong: self.value()?,
        })
    }

    fn rest(&mut self) -> String {
        let words: Vec<&str> = self.0.by_ref().collect();
        words.join(" ")
    }

    fn end(mut self) -> Result<(), NotUnderstood> {
        match self.0.next() {
            None => Ok(()),
            Some(_) => Err(NotUnderstood),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_report_is_read_as_it_was_written() {
        let mut ticks = Latency::new();
        ticks.record(Duration::from_micros(85));
        let took = Duration::from_nanos(1_234_567);
        let account = Account {
            epoch: u64::MAX,
            life: Some(1),
            first: 2,
            position: 3,
            received: 4,
            lost: 5,
            lost_at_most: 6,
            gaps: 7,
            wrong: 8,
        };
        let reports = [
            Report::Ready { epoch: 9 },
            Report::Leased { end: 10 },
            Report::Published { end: 11 },
            Report::Following { epoch: 12 },
            Report::Measured { over: took, ticks, queries: Latency::new() },
            Report::Order { id: 13, outcome: Outcome::NotExecuted, took },
            Report::Account(account),
            Report::Account(Account::begin(1, 2)),
            Report::Wrong { text: "publication 5 came after everything below 6".into() },
            Report::Closing { orders: 14, queries: Queries { right: 15, wrong: 16, unanswered: 17 } },
            Report::Stopped { took },
        ];
        for report in reports {
            let line = report.to_string();
            assert_eq!(line.parse(), Ok(report), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
        for order in [Order::Quiet, Order::Stop] {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
    }

    #[test]
    fn a_text_over_two_lines_stays_one_line() {
        assert_eq!(Report::Wrong { text: "a\nb".into() }.to_string(), "wrong a\\nb");
    }

    #[test]
    fn everything_else_is_refused() {
        for line in ["", "ready", "ready x", "ready 1 2", "ready  1", " ready 1", "Ready 1", "measured 1 - x"]
        {
            assert_eq!(line.parse::<Report>(), Err(NotUnderstood), "{line:?}");
        }
        for line in ["", "stop ", "halt"] {
            assert_eq!(line.parse::<Order>(), Err(NotUnderstood), "{line:?}");
        }
    }
}

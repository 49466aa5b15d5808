//! What the server really executed, and whether it agrees with what the clients were told.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use crate::profile::CLIENTS;

/// The server's own record of executed orders: a file per life, a line per order, written before the reply.
#[derive(Debug)]
pub struct Ledger(Mutex<File>);

impl Ledger {
    /// Begins the file of this life.
    ///
    /// # Errors
    /// A file that cannot be made, or is there already.
    pub fn create(scratch: &Path, life: u32) -> io::Result<Self> {
        Ok(Ledger(Mutex::new(File::create_new(path(scratch, life))?)))
    }

    /// Writes the order down. It is in the system's hands when this returns, so killing the process does not undo it.
    ///
    /// # Errors
    /// A disk that is full, for one.
    pub fn append(&self, id: u64) -> io::Result<()> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(format!("{id}\n").as_bytes())?;
        file.flush()
    }

    /// How often each order was executed over the first so many lives.
    ///
    /// # Errors
    /// A file that is missing or holds anything else than numbers of orders.
    pub fn read(scratch: &Path, lives: u32) -> io::Result<HashMap<u64, u32>> {
        let mut executed = HashMap::new();
        for life in 0..lives {
            let path = path(scratch, life);
            for line in fs::read_to_string(&path)?.lines() {
                let id = line.parse().map_err(|_| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {line:?}", path.display()))
                })?;
                *executed.entry(id).or_default() += 1;
            }
        }
        Ok(executed)
    }
}

fn path(scratch: &Path, life: u32) -> PathBuf {
    scratch.join(format!("ledger-{life}.txt"))
}

/// How a call ended, as its caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It ran, and here is its result.
    Value,
    /// The function looked at it and said no.
    Failed,
    /// It certainly did not run.
    NotExecuted,
    /// It ran once, and the result is gone.
    ResultNotKept,
    /// It may or may not have run.
    Unknown,
}

impl Outcome {
    pub const ALL: [Outcome; 5] =
        [Outcome::Value, Outcome::Failed, Outcome::NotExecuted, Outcome::ResultNotKept, Outcome::Unknown];

    /// Whether the ledger may hold the order so many times.
    ///
    /// This server checks an order before it executes it, so one that failed was never executed.
    pub fn allows(self, executions: u32) -> bool {
        match self {
            Outcome::Value | Outcome::ResultNotKept => executions == 1,
            Outcome::Failed | Outcome::NotExecuted => executions == 0,
            Outcome::Unknown => executions <= 1,
        }
    }
}

const NAMES: [(Outcome, &str); 5] = [
    (Outcome::Value, "value"),
    (Outcome::Failed, "failed"),
    (Outcome::NotExecuted, "not-executed"),
    (Outcome::ResultNotKept, "result-not-kept"),
    (Outcome::Unknown, "unknown"),
];

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (_, name) = NAMES.iter().find(|(outcome, _)| outcome == self).expect("every outcome has a name");
        f.write_str(name)
    }
}

/// The text names no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotOutcome;

impl FromStr for Outcome {
    type Err = NotOutcome;

    fn from_str(text: &str) -> Result<Self, NotOutcome> {
        NAMES.iter().find(|(_, name)| *name == text).map(|&(outcome, _)| outcome).ok_or(NotOutcome)
    }
}

/// An order's number: unique over all clients, because it begins with the client's.
pub fn order_id(client: usize, number: u32) -> u64 {
    ((client as u64) << 32) | u64::from(number)
}

/// Which client sent the order of this number.
pub fn client_of(id: u64) -> u64 {
    id >> 32
}

/// What people call the order.
pub fn order_name(id: u64) -> String {
    let number = id & u64::from(u32::MAX);
    match CLIENTS.iter().zip(0..).find(|(_, index)| *index == client_of(id)) {
        Some((client, _)) => format!("order {number} of client {:?}", client.name),
        None => format!("order {number} of an unknown client"),
    }
}

/// The orders of one client, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orders {
    /// How many ended in each way, in the order of [`Outcome::ALL`].
    pub ended: [u64; Outcome::ALL.len()],
    /// How many of the unknown ones the ledger has.
    pub unknown_executed: u64,
    /// Executions in the ledger.
    pub executed: u64,
}

/// What does not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Discord {
    #[error("{} was executed {executions} times, its client was told: {outcome}", order_name(*id))]
    Executions { id: u64, executions: u32, outcome: Outcome },
    #[error("{} was executed, but no client knows how it ended", order_name(*id))]
    Nobodys { id: u64 },
}

/// Compares what the clients were told with the ledger; `outcomes` are those of one client.
pub fn count(outcomes: &HashMap<u64, Outcome>, executed: &HashMap<u64, u32>, client: usize) -> Orders {
    let mut orders = Orders::default();
    for (id, outcome) in outcomes.iter().filter(|(id, _)| client_of(**id) == client as u64) {
        let executions = u64::from(executed.get(id).copied().unwrap_or_default());
        let at = Outcome::ALL.iter().position(|known| known == outcome).expect("all outcomes are there");
        orders.ended[at] += 1;
        orders.executed += executions;
        orders.unknown_executed += if *outcome == Outcome::Unknown { executions } else { 0 };
    }
    orders
}

/// Everything that does not go together, in the order of the orders' numbers.
pub fn discords(outcomes: &HashMap<u64, Outcome>, executed: &HashMap<u64, u32>) -> Vec<Discord> {
    let told = outcomes.iter().filter_map(|(&id, &outcome)| {
        let executions = executed.get(&id).copied().unwrap_or_default();
        (!outcome.allows(executions)).then_some((id, Discord::Executions { id, executions, outcome }))
    });
    let untold =
        executed.keys().filter(|id| !outcomes.contains_key(id)).map(|&id| (id, Discord::Nobodys { id }));
    let mut found: Vec<(u64, Discord)> = told.chain(untold).collect();
    found.sort_by_key(|&(id, _)| id);
    found.into_iter().map(|(_, discord)| discord).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Scratch;

    #[test]
    fn what_was_written_is_read_over_all_lives() {
        let scratch = Scratch::create().unwrap();
        for life in 0..2 {
            let ledger = Ledger::create(scratch.path(), life).unwrap();
            ledger.append(7).unwrap();
            ledger.append(order_id(2, life)).unwrap();
            assert!(Ledger::create(scratch.path(), life).is_err(), "a life happens once");
        }
        let expected = HashMap::from([(7, 2), (2 << 32, 1), ((2 << 32) + 1, 1)]);
        assert_eq!(Ledger::read(scratch.path(), 2).unwrap(), expected);
        fs::write(path(scratch.path(), 1), "7\nseven\n").unwrap();
        assert!(Ledger::read(scratch.path(), 2).is_err());
    }

    #[test]
    fn names_of_outcomes_are_read_back() {
        for outcome in Outcome::ALL {
            assert_eq!(outcome.to_string().parse(), Ok(outcome));
        }
        assert_eq!("Value".parse::<Outcome>(), Err(NotOutcome));
    }

    #[test]
    fn each_outcome_allows_what_it_says() {
        let allowed = |outcome: Outcome| [0, 1, 2].map(|executions| outcome.allows(executions));
        assert_eq!(allowed(Outcome::Value), [false, true, false]);
        assert_eq!(allowed(Outcome::Failed), [true, false, false]);
        assert_eq!(allowed(Outcome::NotExecuted), [true, false, false]);
        assert_eq!(allowed(Outcome::ResultNotKept), [false, true, false]);
        assert_eq!(allowed(Outcome::Unknown), [true, true, false]);
    }

    #[test]
    fn discords_are_found_and_counted() {
        let told = [Outcome::Value, Outcome::Unknown, Outcome::Unknown, Outcome::NotExecuted, Outcome::Value];
        let outcomes = (0..).zip(told).map(|(number, outcome)| (order_id(1, number), outcome)).collect();
        let executed = [(0, 1), (1, 1), (3, 1), (4, 2), (9, 1)];
        let executed = executed.map(|(number, times)| (order_id(1, number), times)).into_iter().collect();
        assert_eq!(
            discords(&outcomes, &executed),
            [
                Discord::Executions { id: order_id(1, 3), executions: 1, outcome: Outcome::NotExecuted },
                Discord::Executions { id: order_id(1, 4), executions: 2, outcome: Outcome::Value },
                Discord::Nobodys { id: order_id(1, 9) },
            ]
        );
        assert_eq!(
            Discord::Nobodys { id: order_id(1, 9) }.to_string(),
            "order 9 of client \"one prefix\" was executed, but no client knows how it ended"
        );
        let orders = count(&outcomes, &executed, 1);
        assert_eq!(orders, Orders { ended: [2, 0, 1, 0, 2], unknown_executed: 1, executed: 5 });
        assert_eq!(count(&outcomes, &executed, 0), Orders::default());
    }
}

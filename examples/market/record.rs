//! Everything that the children reported, as far as it is needed to balance the run.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::accounts::{Account, Life, Published};
use crate::latency::Latency;
use crate::ledger::Outcome;
use crate::lines::{Queries, Report};
use crate::options::Role;
use crate::profile::CLIENTS;

/// What the parent knows.
#[derive(Debug)]
pub struct Record {
    /// The server's lives, in order.
    pub lives: Vec<Life>,
    pub clients: [ClientRecord; CLIENTS.len()],
    /// How each order ended, by its number.
    pub outcomes: HashMap<u64, Outcome>,
    /// How long each took to stop, in the order in which they did.
    pub stops: Vec<(Role, Duration)>,
    /// What must never happen and did, for people.
    pub wrongs: Vec<String>,
}

/// What one client reported.
#[derive(Debug)]
pub struct ClientRecord {
    /// The epoch that it follows, and since when.
    pub following: Option<(u64, Instant)>,
    /// Closed accounts, in order.
    pub accounts: Vec<Account>,
    /// How old ticks were when they came, over the whole run.
    pub ticks: Latency,
    /// How long queries took.
    pub queries: Latency,
    /// How long orders took that ended with a value.
    pub orders: Latency,
    /// Orders sent and how queries ended; known at the end.
    pub closing: Option<(u64, Queries)>,
}

/// A child said what it has no right to say, or said it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfRole;

impl Record {
    pub fn new() -> Self {
        let client = || ClientRecord {
            following: None,
            accounts: Vec::new(),
            ticks: Latency::new(),
            queries: Latency::new(),
            orders: Latency::new(),
            closing: None,
        };
        Record {
            lives: Vec::new(),
            clients: [(); CLIENTS.len()].map(|()| client()),
            outcomes: HashMap::new(),
            stops: Vec::new(),
            wrongs: Vec::new(),
        }
    }

    /// Takes what a child reported.
    ///
    /// # Errors
    /// A report that does not go with the role or with what was reported before.
    pub fn take(&mut self, role: Role, report: Report) -> Result<(), OutOfRole> {
        if let Report::Stopped { took } = report {
            self.stops.push((role, took));
            return Ok(());
        }
        match role {
            Role::Server { life } => self.take_from_server(life as usize, &report),
            Role::Client { index } => self.take_from_client(index, report),
        }
    }

    fn take_from_server(&mut self, life: usize, report: &Report) -> Result<(), OutOfRole> {
        if let Report::Ready { epoch } = *report {
            self.lives.push(Life { epoch, published: Published::AtMost(0) });
            return if self.lives.len() == life + 1 { Ok(()) } else { Err(OutOfRole) };
        }
        let published = match *report {
            Report::Leased { end } => Published::AtMost(end),
            Report::Published { end } => Published::Exactly(end),
            _ => return Err(OutOfRole),
        };
        match self.lives.get_mut(life) {
            Some(Life { published: before @ Published::AtMost(_), .. }) => *before = published,
            _ => return Err(OutOfRole),
        }
        Ok(())
    }

    fn take_from_client(&mut self, index: usize, report: Report) -> Result<(), OutOfRole> {
        let client = &mut self.clients[index];
        match report {
            Report::Following { epoch } => client.following = Some((epoch, Instant::now())),
            Report::Measured { ticks, queries, .. } => {
                client.ticks.add(&ticks);
                client.queries.add(&queries);
            }
            Report::Order { id, outcome, took } => {
                if outcome == Outcome::Value {
                    client.orders.record(took);
                }
                if self.outcomes.insert(id, outcome).is_some() {
                    return Err(OutOfRole);
                }
            }
            Report::Account(account) => client.accounts.push(account),
            Report::Wrong { text } => self.wrongs.push(format!("{}: {text}", CLIENTS[index].name)),
            Report::Closing { orders, queries } => {
                if client.closing.replace((orders, queries)).is_some() {
                    return Err(OutOfRole);
                }
            }
            Report::Ready { .. }
            | Report::Leased { .. }
            | Report::Published { .. }
            | Report::Stopped { .. } => return Err(OutOfRole),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Role = Role::Server { life: 0 };
    const CLIENT: Role = Role::Client { index: 1 };

    #[test]
    fn the_bound_of_a_life_moves_until_the_number_is_known() {
        let mut record = Record::new();
        assert_eq!(record.take(SERVER, Report::Leased { end: 5 }), Err(OutOfRole));
        assert_eq!(record.take(SERVER, Report::Ready { epoch: 77 }), Ok(()));
        assert_eq!(record.take(SERVER, Report::Leased { end: 5 }), Ok(()));
        assert_eq!(record.lives, [Life { epoch: 77, published: Published::AtMost(5) }]);
        assert_eq!(record.take(SERVER, Report::Published { end: 3 }), Ok(()));
        assert_eq!(record.lives[0].published, Published::Exactly(3));
        assert_eq!(record.take(SERVER, Report::Leased { end: 9 }), Err(OutOfRole));
        assert_eq!(record.take(SERVER, Report::Ready { epoch: 78 }), Err(OutOfRole));
    }

    #[test]
    fn everybody_keeps_to_the_role() {
        let mut record = Record::new();
        let order = Report::Order { id: 1, outcome: Outcome::Value, took: Duration::ZERO };
        assert_eq!(record.take(SERVER, order.clone()), Err(OutOfRole));
        assert_eq!(record.take(CLIENT, order.clone()), Ok(()));
        assert_eq!(record.take(CLIENT, order), Err(OutOfRole), "an order ends once");
        assert_eq!(record.take(CLIENT, Report::Leased { end: 5 }), Err(OutOfRole));
        let closing = Report::Closing { orders: 1, queries: Queries::default() };
        assert_eq!(record.take(CLIENT, closing.clone()), Ok(()));
        assert_eq!(record.take(CLIENT, closing), Err(OutOfRole));
    }
}

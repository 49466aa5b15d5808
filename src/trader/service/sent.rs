//! What became of the orders and quotes that were handed to gateways, by reference: for clients whose answer got lost.

use std::collections::{HashMap, VecDeque};
use std::string::{String, ToString};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::trader::functions::Found;
use crate::trader::SendError;

/// The outcomes of the newest sent orders and quotes of one life of a service, by reference.
///
/// Entries are made on the lane of orders alone, so what is looked up there is not under way.
pub(super) struct Sent {
    table: Mutex<Table>,
    most: usize,
}

#[derive(Default)]
struct Table {
    /// `None`: it was begun, and has not come back.
    outcomes: HashMap<String, Option<Result<String, SendError>>>,
    /// Invariant: the same references, in the order in which they came.
    order: VecDeque<String>,
    /// Something was forgotten: what is not found may have been sent.
    has_forgotten: bool,
}

impl Sent {
    pub(super) fn new(most: usize) -> Self {
        Sent { table: Mutex::default(), most }
    }

    /// Sends, and remembers what came of it. Without a reference nobody can ask for it.
    pub(super) fn remember(
        &self,
        reference: &str,
        send: impl FnOnce() -> Result<String, SendError>,
    ) -> Result<String, SendError> {
        if reference.is_empty() {
            return send();
        }
        self.lock().begin(reference, self.most);
        let outcome = send();
        if let Some(entry) = self.lock().outcomes.get_mut(reference) {
            *entry = Some(outcome.clone());
        }
        outcome
    }

    pub(super) fn find(&self, reference: &str) -> Found {
        let table = self.lock();
        match table.outcomes.get(reference) {
            Some(Some(outcome)) => Found::Sent(outcome.clone()),
            Some(None) => Found::Unknown,
            None if table.has_forgotten => Found::Unknown,
            None => Found::NeverSent,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn begin(&mut self, reference: &str, most: usize) {
        if self.outcomes.insert(reference.to_string(), None).is_none() {
            self.order.push_back(reference.to_string());
        }
        while self.order.len() > most {
            let Some(oldest) = self.order.pop_front() else { break };
            self.outcomes.remove(&oldest);
            self.has_forgotten = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, AssertUnwindSafe};

    use super::*;
    use crate::trader::Refusal;

    #[test]
    fn what_was_sent_is_told_from_what_never_was() {
        let sent = Sent::new(10);
        let placed = || Ok(String::from("CTP.1"));
        assert_eq!(sent.remember("a", placed), placed());
        let refused = || Err(SendError::from(Refusal::NotConnected));
        assert_eq!(sent.remember("b", refused), refused());
        let panics = || panic!("as it was told");
        assert!(catch_unwind(AssertUnwindSafe(|| sent.remember("c", panics))).is_err());
        assert_eq!(sent.remember("", placed), placed());
        assert_eq!(sent.find("a"), Found::Sent(placed()));
        assert_eq!(sent.find("b"), Found::Sent(refused()));
        assert_eq!(sent.find("c"), Found::Unknown, "it may have got through");
        assert_eq!(sent.find("d"), Found::NeverSent);
    }

    #[test]
    fn once_something_was_forgotten_nothing_is_denied() {
        let sent = Sent::new(2);
        for reference in ["a", "b", "b", "c"] {
            let _ = sent.remember(reference, || Ok(reference.into()));
        }
        assert_eq!(sent.find("a"), Found::Unknown);
        assert_eq!(sent.find("d"), Found::Unknown);
        assert_eq!(sent.find("b"), Found::Sent(Ok("b".into())));
    }
}

//! The contracts whose ticks were asked for, and whether the server knows.

use std::collections::BTreeMap;
use std::string::String;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::vec::Vec;

use crate::trader::SubscribeRequest;

/// The contracts whose ticks were asked for, for as long as the gateway lives: through all connections, and all lives of
/// the server.
#[derive(Default)]
pub(super) struct Subscriptions {
    asked: Mutex<BTreeMap<String, Asked>>,
    /// Something has changed since [`Subscriptions::take_changed`]: there may be something to ask for.
    is_changed: AtomicBool,
}

struct Asked {
    request: SubscribeRequest,
    /// The life of the server that has said yes.
    granted: Option<u64>,
    tried: Option<Instant>,
    /// Its failure in this life of the server was spoken of.
    is_said: bool,
}

impl Asked {
    fn is_due(&self, now: Instant, epoch: u64) -> bool {
        let is_waiting = self.tried.is_some_and(|tried| now.duration_since(tried) < RETRY);
        self.granted != Some(epoch) && !is_waiting
    }
}

/// Between two tries of one that was refused: its remote gateway may still be connecting.
const RETRY: Duration = Duration::from_secs(5);

impl Subscriptions {
    /// Notes that somebody wants this. `granted` is the life of the server that has said yes already.
    pub(super) fn add(&self, request: &SubscribeRequest, granted: Option<u64>) {
        let mut asked = self.lock();
        let entry = asked.entry(request.vt_symbol()).or_insert_with(|| Asked {
            request: request.clone(),
            granted: None,
            tried: None,
            is_said: false,
        });
        entry.granted = granted.or(entry.granted);
        self.is_changed.store(true, Ordering::SeqCst);
    }

    /// Whether there may be something new to ask for.
    pub(super) fn take_changed(&self) -> bool {
        self.is_changed.swap(false, Ordering::SeqCst)
    }

    /// Nobody wants it any more.
    pub(super) fn remove(&self, vt_symbol: &str) {
        self.lock().remove(vt_symbol);
    }

    pub(super) fn vt_symbols(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    pub(super) fn wants(&self, vt_symbol: &str) -> bool {
        self.lock().contains_key(vt_symbol)
    }

    /// Whether there is something to ask the server in this life for now.
    pub(super) fn has_due(&self, epoch: u64) -> bool {
        let now = Instant::now();
        self.lock().values().any(|asked| asked.is_due(now, epoch))
    }

    /// What the server in this life has not said yes to and is to be asked for now, at most so many.
    pub(super) fn take_due(&self, epoch: u64, most: usize) -> Vec<SubscribeRequest> {
        let now = Instant::now();
        let mut due = Vec::new();
        for asked in self.lock().values_mut() {
            if due.len() == most {
                break;
            }
            if asked.is_due(now, epoch) {
                asked.tried = Some(now);
                due.push(asked.request.clone());
            }
        }
        due
    }

    /// The server is another one: everything is to be asked for anew, at once.
    pub(super) fn begin_anew(&self) {
        for asked in self.lock().values_mut() {
            (asked.granted, asked.tried, asked.is_said) = (None, None, false);
        }
        self.is_changed.store(true, Ordering::SeqCst);
    }

    /// There is news of a contract: what was refused may be granted now.
    pub(super) fn hurry(&self, vt_symbol: &str) {
        if let Some(asked) = self.lock().get_mut(vt_symbol) {
            asked.tried = None;
            self.is_changed.store(true, Ordering::SeqCst);
        }
    }

    pub(super) fn handle_granted(&self, request: &SubscribeRequest, epoch: u64) {
        if let Some(asked) = self.lock().get_mut(&request.vt_symbol()) {
            asked.granted = Some(epoch);
        }
    }

    /// Whether to speak of it: the first failure of each in each life of the server.
    pub(super) fn handle_failed(&self, request: &SubscribeRequest) -> bool {
        self.lock()
            .get_mut(&request.vt_symbol())
            .is_some_and(|asked| !core::mem::replace(&mut asked.is_said, true))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trader::Exchange;

    #[test]
    fn each_life_of_the_server_is_asked_for_all() {
        let subscriptions = Subscriptions::default();
        let request = |symbol| SubscribeRequest::new(symbol, Exchange::Shfe);
        subscriptions.add(&request("rb"), Some(7));
        subscriptions.add(&request("cu"), None);
        subscriptions.add(&request("rb"), None);
        assert!(subscriptions.has_due(7));
        assert_eq!(subscriptions.take_due(7, 10), [request("cu")]);
        assert!(!subscriptions.has_due(7));
        assert_eq!(subscriptions.take_due(7, 10), [], "it was only just tried");
        assert!(subscriptions.handle_failed(&request("cu")));
        assert!(!subscriptions.handle_failed(&request("cu")), "spoken of once");
        subscriptions.hurry("cu.SHFE");
        assert_eq!(subscriptions.take_due(7, 10), [request("cu")]);
        subscriptions.handle_granted(&request("cu"), 7);
        subscriptions.hurry("cu.SHFE");
        assert_eq!(subscriptions.take_due(7, 10), []);
        subscriptions.begin_anew();
        assert_eq!(subscriptions.take_due(8, 1), [request("cu")]);
        assert_eq!(subscriptions.take_due(8, 10), [request("rb")]);
        assert!(subscriptions.wants("rb.SHFE") && !subscriptions.wants("rb"));
    }
}
